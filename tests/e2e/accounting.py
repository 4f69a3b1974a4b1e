#!/usr/bin/env python3
"""Every message is accounted for under load, also while processes and milters are killed. TAP.

A short form by default; MILTERD_SOAK=1 (make soak) sends the full number of messages.
"""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import harness
from harness import case, check, equal, wait_for

SOAK = os.environ.get("MILTERD_SOAK", "") not in ("", "0")
MESSAGES = 10000 if SOAK else 2000
SESSIONS = 64
LIMIT = 600 if SOAK else 180    # seconds
FIELDS = ("X-Milter-One", "X-Milter-Two", "X-Milter-Three")


class FastMilter(harness.Process):
    """tests/instruments/edit_milter.c"""

    def __init__(self, place, field, *options):
        self.name = field.lower()
        self.endpoint = "unix:" + place.path(self.name + ".sock")
        super().__init__([os.path.join(harness.BUILD, "tests/instruments/edit_milter"), "--listen", self.endpoint,
                          "--add-field", field, *options], place.path(self.name + ".log"))
        wait_for(lambda: harness.answers(self.endpoint), self.name)


def start_milters(place, *options):
    """Three milters, each of which adds a field."""
    return [place.keep(FastMilter(place, field, *options)) for field in FIELDS]


def start_load(place, *options, messages=MESSAGES):
    argv = [os.path.join(harness.BUILD, "tests/instruments/load"), "--to", place.daemon.endpoint, "--messages",
            str(messages), "--sessions", str(SESSIONS), "--size", "500-60000", "--rcpts", "3", "--journal",
            place.path("journal"), "--spool", place.path("sent.spool"), *options]
    return place.keep(harness.Process(argv, place.path("load.log")))


def finish_load(load):
    """Wait for its end; its totals as a dict."""
    try:
        status = load.process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        status = None
    check(status == 0, f"the load generator ended with {status}: {load.output()}")
    return dict(field.split("=") for field in load.output().split())


def account(place, sink, *options):
    """All is accounted for."""
    argv = [sys.executable, os.path.join(harness.SOURCE, "tests/instruments/check_accounting.py"), "--journal",
            place.path("journal"), "--sent", place.path("sent.spool"), "--sink", sink.spool, "--received", *options]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
    print("# " + result.stdout.strip().split("\n")[-1])
    check(result.returncode == 0, result.stdout + result.stderr)


def added():
    return [word for field in FIELDS for word in ("--added", field)]


def no_errors(milters):
    """No milter has seen a command out of order."""
    for milter in milters:
        check(milter.stop() == 0, f"{milter.name}: {milter.output()}")


def killer(load, victims, stop_signal, seconds, kills):
    """Every so many seconds end one of the processes that victims() lists, until the load ends."""
    choice = random.Random(4711)
    while load.process.poll() is None:
        time.sleep(seconds)
        pids = victims()
        if pids and load.process.poll() is None:
            try:
                os.kill(choice.choice(pids), stop_signal)
                kills.append(1)
            except ProcessLookupError:
                pass


def run_killing(load, victims, stop_signal, seconds):
    """The totals of the load, and how often something was killed meanwhile."""
    kills = []
    thread = threading.Thread(target=killer, args=(load, victims, stop_signal, seconds, kills))
    thread.start()
    try:
        totals = finish_load(load)
    finally:
        if load.process.poll() is None:
            load.process.kill()
        thread.join(harness.PATIENCE)
    print(f"# {len(kills)} kills, {totals['rate']} messages/s, {totals['deferred']} deferred, "
          f"{totals['lost']} lost, {totals['doubt']} in doubt")
    return totals, len(kills)


@case("many sessions through two workers and three milters: each message once, whole", LIMIT)
def plain(place):
    sink = place.sink()
    milters = start_milters(place)
    place.milterd(sink, milters, daemon={"workers": 2, "sessions": 2})
    totals = finish_load(start_load(place))
    print(f"# {totals['rate']} messages/s")
    equal((totals["taken"], totals["deferred"], totals["lost"], totals["doubt"]), (str(MESSAGES), "0", "0", "0"))
    account(place, sink, "--no-duplicates", *added())
    no_errors(milters)


@case("a worker killed every second: each message once, whole, and few are deferred", LIMIT)
def killed_workers(place):
    sink = place.sink()
    milters = start_milters(place, "--delay-ms", "20")
    place.milterd(sink, milters, daemon={"workers": 2, "sessions": 2})
    load = start_load(place, "--per-session", "20")
    totals, kills = run_killing(load, lambda: place.daemon.children("milterd-worker"), signal.SIGKILL, 1)
    check(kills >= 2, "the load was over before anything was killed")
    equal((totals["taken"], totals["doubt"]), (str(MESSAGES), "0"))
    account(place, sink, "--no-duplicates", *added())
    # A kill can hurt only messages whose end a milter had begun to judge.
    check(int(totals["deferred"]) <= kills * SESSIONS, f"{totals['deferred']} deferred after {kills} kills")
    equal(totals["lost"], "0", "connections lost by the death of a worker")


@case("a session process killed every second: no loss, and duplicates only where the answer was lost", LIMIT)
def killed_sessions(place):
    sink = place.sink()
    milters = start_milters(place, "--delay-ms", "20")
    place.milterd(sink, milters, daemon={"workers": 2, "sessions": 2})
    load = start_load(place, "--per-session", "20")
    totals, kills = run_killing(load, lambda: place.daemon.children("milterd-session"), signal.SIGKILL, 1)
    check(kills >= 2, "the load was over before anything was killed")
    equal(totals["taken"], str(MESSAGES))
    account(place, sink, *added())


@case("milters killed and started again under load: mail is deferred, never lost or half edited", LIMIT)
def killed_milters(place):
    sink = place.sink()
    milters = start_milters(place, "--delay-ms", "20")
    place.milterd(sink, milters, {"timeout.connect": "2s", "pool.wait": "5s"}, daemon={"workers": 2, "sessions": 2})
    load = start_load(place, "--per-session", "20")
    choice = random.Random(42)
    rounds = 0
    while load.process.poll() is None and rounds < 200:
        time.sleep(0.5)
        number = choice.randrange(len(milters))
        milters[number].process.kill()
        milters[number].process.wait()
        milters[number] = place.keep(FastMilter(place, FIELDS[number], "--delay-ms", "20"))
        rounds += 1
    totals = finish_load(load)
    print(f"# {rounds} deaths, {totals['deferred']} deferred")
    check(rounds >= 2, "the load was over before anything was killed")
    equal((totals["taken"], totals["doubt"], totals["lost"]), (str(MESSAGES), "0", "0"))
    account(place, sink, "--no-duplicates", *added())


@case("milterd stopped and started again under load: what it has begun it finishes", LIMIT)
def restarts(place):
    sink = place.sink()
    milters = start_milters(place, "--delay-ms", "20")
    place.milterd(sink, milters, daemon={"workers": 2, "sessions": 2})
    load = start_load(place, "--per-session", "20")
    rounds = 0
    while load.process.poll() is None and rounds < 100:
        time.sleep(0.7)
        place.end(place.daemon)
        place.milterd(sink, milters, daemon={"workers": 2, "sessions": 2})
        rounds += 1
    totals = finish_load(load)
    print(f"# {rounds} restarts, {totals['deferred']} deferred, {totals['lost']} lost, {totals['doubt']} in doubt")
    check(rounds >= 2, "the load was over before anything was stopped")
    equal((totals["taken"], totals["doubt"]), (str(MESSAGES), "0"))
    account(place, sink, "--no-duplicates", *added())
    no_errors(milters)


@case("a worker that stands still for a while costs time, not mail", LIMIT)
def stopped_worker(place):
    sink = place.sink()
    milters = start_milters(place)
    place.milterd(sink, milters, daemon={"workers": 2, "sessions": 2})
    load = start_load(place)
    for pid in place.daemon.children("milterd-worker"):
        time.sleep(0.2)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(pid, signal.SIGCONT)
    totals = finish_load(load)
    equal((totals["taken"], totals["deferred"], totals["lost"], totals["doubt"]), (str(MESSAGES), "0", "0", "0"))
    account(place, sink, "--no-duplicates", *added())
    no_errors(milters)


def bad_sink(place):
    """A next hop that fails now and then, in every way."""
    faults = ("101/mail:reset", "103/rcpt:say=451 4.2.1 later", "107/data:close", "109/content:reset",
              "113/dot:say=451 4.3.0 later", "127/dot:close", "131/reply:close", "137/reply:reset", "139/banner:close")
    return place.sink(*[word for fault in faults for word in ("--fault", fault)])


@case("a next hop that fails in every way: no loss, and duplicates only where it did not answer", LIMIT)
def bad_next_hop(place):
    sink = bad_sink(place)
    milters = start_milters(place)
    place.milterd(sink, milters, daemon={"workers": 2, "sessions": 2})
    totals = finish_load(start_load(place))
    equal((totals["taken"], totals["lost"], totals["doubt"]), (str(MESSAGES), "0", "0"))
    account(place, sink, *added())
    no_errors(milters)


@case("everything at once: workers, sessions and milters killed, a next hop that fails", LIMIT)
def chaos(place):
    sink = bad_sink(place)
    milters = start_milters(place, "--delay-ms", "10")
    place.milterd(sink, milters, {"timeout.connect": "2s"}, daemon={"workers": 2, "sessions": 2})
    load = start_load(place, "--per-session", "20")
    choice = random.Random(1)
    rounds = 0
    while load.process.poll() is None and rounds < 200:
        time.sleep(0.3)
        number = choice.randrange(5)
        if number < len(milters):
            milters[number].process.kill()
            milters[number].process.wait()
            milters[number] = place.keep(FastMilter(place, FIELDS[number], "--delay-ms", "10"))
        else:
            for pid in place.daemon.children("milterd-worker" if number == 3 else "milterd-session")[:1]:
                os.kill(pid, signal.SIGKILL)
        rounds += 1
    totals = finish_load(load)
    print(f"# {rounds} faults, {totals['deferred']} deferred, {totals['lost']} lost, {totals['doubt']} in doubt")
    equal(totals["taken"], str(MESSAGES))
    account(place, sink, *added())


def sanitized():
    with open(os.path.join(harness.BUILD, "milterd-worker"), "rb") as f:
        return b"__asan_init" in f.read()


@case("after a load nothing is left: descriptors, memory files, sessions of milters", LIMIT)
def leak_free(place):
    sink = place.sink()
    milters = start_milters(place)
    place.milterd(sink, milters, {"pool.idle": "500ms"}, daemon={"workers": 1, "sessions": 1})
    children = place.daemon.children("milterd-")
    equal(len(children), 2, "children")

    def descriptors():
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in children]

    def resident_kib():
        return [int(re.search(r"VmRSS:\s+(\d+)", harness.read_text(f"/proc/{pid}/status"))[1]) for pid in children]

    finish_load(start_load(place, "--seed", "1", messages=MESSAGES // 2))
    time.sleep(1)
    first, first_kib = descriptors(), resident_kib()
    finish_load(start_load(place, "--seed", "2", messages=MESSAGES // 2))
    wait_for(lambda: all(now <= before + 8 for now, before in zip(descriptors(), first)),
             f"descriptors to fall from {descriptors()} to {first}")
    grown = [now - before for now, before in zip(resident_kib(), first_kib)]
    # A sanitizer keeps what is freed.
    check(sanitized() or all(kib < 8192 for kib in grown), f"memory has grown by {grown} KiB")
    equal(place.daemon.children("milterd-"), children, "children")


if __name__ == "__main__":
    harness.main()
