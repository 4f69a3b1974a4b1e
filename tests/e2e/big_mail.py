#!/usr/bin/env python3
"""Messages that do not fit into memory go on in files: they arrive whole, memory stays bounded, a full disk is a 452. TAP.

A short form by default; MILTERD_SOAK=1 (make soak) sends the sizes and numbers that are promised.
"""

import hashlib
import os
import subprocess
import threading
import time

import harness
from harness import case, check, equal, wait_for

SOAK = os.environ.get("MILTERD_SOAK", "") not in ("", "0")
MIB = 1 << 20
BIG = 50 * MIB if SOAK else 20 * MIB
GROWTH_MAX = 32 * MIB if SOAK else 16 * MIB
SPOOL_ABOVE = "8M" if SOAK else "1M"
STORM = 20 if SOAK else 8
STORM_MEMORY, STORM_SPOOL = ("64M", "200M") if SOAK else ("8M", "60M")
SECONDS = 600 if SOAK else 120
LINE = b".a line of a message that is so large that nobody would want to get it\r\n"


def is_sanitized():
    with open(os.path.join(harness.BUILD, "milterd-session"), "rb") as f:
        return b"__asan_init" in f.read()


def big_message(number, size=BIG):
    head = harness.message(f"big {number}", "").encode()
    return head + LINE * ((size - len(head)) // len(LINE))


def spool_folder(place):
    """A folder as an administrator makes it."""
    path = place.path("spool")
    os.mkdir(path, 0o755)
    return path


class Tmpfs:
    """A file system of limited size at a folder, for as long as it is kept."""

    def __init__(self, place, size):
        self.path = spool_folder(place)
        result = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "milterd-test", self.path],
                                capture_output=True, text=True, check=False)
        if result.returncode:
            raise harness.Skip("no tmpfs can be mounted: " + result.stderr.strip())
        place.keep(self)

    def used(self):
        stat = os.statvfs(self.path)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def stop(self):
        subprocess.run(["umount", self.path], check=True)


def memory(pid):
    """Bytes of anonymous and shared memory of a process, without its program."""
    sizes = dict(line.split(":", 1) for line in harness.read_text(f"/proc/{pid}/status").split("\n") if ":" in line)
    return sum(int(sizes[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem") if key in sizes)


class Memory(threading.Thread):
    """Watch the memory of processes: by how much it was above what it was at the beginning."""

    def __init__(self, pids):
        super().__init__()
        self.idle = {pid: memory(pid) for pid in pids}
        self.growth = {pid: 0 for pid in pids}
        self.done = False
        self.start()

    def run(self):
        while not self.done:
            for pid, idle in self.idle.items():
                self.growth[pid] = max(self.growth[pid], memory(pid) - idle)
            time.sleep(0.002)

    def stop(self):
        self.done = True
        self.join()


def two_milters(place):
    first = place.milter(name="first")
    second = place.milter({"eom": [["add_header", "X-Second", "seen"], "accept"]}, name="second")
    return [first, second]


def start(place, spool, milters, sink, **daemon):
    return place.milterd(sink, milters, {"options.max-response-size": "200M"}, {"max-message-size": "100M"},
                         {"spool-directory": spool, "spool-above": SPOOL_ABOVE, **daemon})


def whole(record, sent, added=b""):
    """The message arrived as it was sent."""
    got = harness.without_received(record.content)
    head, body = sent.split(b"\r\n\r\n", 1)
    wanted = head + b"\r\n" + added + b"\r\n" + body
    equal((len(got), hashlib.sha256(got).hexdigest()), (len(wanted), hashlib.sha256(wanted).hexdigest()), "the message")


@case("a big message through two milters arrives whole and is never in memory as a whole", SECONDS)
def one(place):
    sink = place.sink()
    milters = two_milters(place)
    daemon = start(place, spool_folder(place), milters, sink)
    client = place.client(seconds=SECONDS).ehlo()
    check(client.mail(harness.message()).startswith("250"), "a small one first")
    pids = daemon.children("milterd-session") + daemon.children("milterd-worker")
    watch = place.keep(Memory(pids))
    sent = big_message(1)
    began = time.monotonic()
    reply = client.mail(sent)
    seconds = time.monotonic() - began
    check(reply.startswith("250"), reply)
    watch.stop()
    whole(sink.records()[1], sent, b"X-Second: seen\r\n")
    session, worker = (watch.growth[pid] / MIB for pid in pids)
    print(f"# {len(sent) / MIB:.1f} MiB in {seconds:.2f} s: session {session:.1f} MiB, worker {worker:.1f} MiB above idle")
    if not is_sanitized():
        check(max(watch.growth.values()) <= GROWTH_MAX, f"more than {GROWTH_MAX / MIB} MiB")


@case("a big body that a milter writes goes through a file, too", SECONDS)
def replaced(place):
    sink = place.sink()
    chunk = (LINE * (60000 // len(LINE))).decode()
    chunks = 4 * MIB // len(chunk)
    first = place.milter({"eom": [["replace_body", chunk]] * chunks + ["accept"]}, name="first")
    second = place.milter(name="second")
    start(place, spool_folder(place), [first, second], sink, **{"spool-above": "64K"})
    reply = place.client(seconds=SECONDS).ehlo().mail(harness.message())
    check(reply.startswith("250"), reply)
    whole(sink.records()[0], harness.message(body=chunk * chunks).encode())


@case("a message for which neither memory nor disk is left gets a 452 at its end, and the next one passes", SECONDS)
def full(place):
    sink = place.sink()
    spool = Tmpfs(place, "4M")
    daemon = start(place, spool.path, two_milters(place), sink, **{"spool-above": "64K"})
    client = place.client(seconds=SECONDS).ehlo()
    reply = client.mail(big_message(1, 6 * MIB))
    check(reply.startswith("452 4.3.1"), reply)
    check("No space left on device" in daemon.output(), "the log does not say why")
    sent = big_message(2, 3 * MIB)
    reply = client.mail(sent)
    check(reply.startswith("250"), reply)
    whole(sink.records()[0], sent, b"X-Second: seen\r\n")
    wait_for(lambda: spool.used() == 0, "an empty spool folder")


@case("many big messages at once with little memory and disk: some get a 452, all others arrive whole", SECONDS)
def storm(place):
    sink = place.sink()
    spool = Tmpfs(place, STORM_SPOOL)
    daemon = start(place, spool.path, two_milters(place), sink, **{"buffer-memory": STORM_MEMORY})
    replies = {}
    most = 0

    def send(number):
        with harness.Client(daemon.endpoint, SECONDS) as client:
            replies[number] = client.ehlo().mail(big_message(number))

    pids = daemon.children("milterd-session") + daemon.children("milterd-worker")
    watch = place.keep(Memory(pids))
    threads = [threading.Thread(target=send, args=(number,)) for number in range(STORM)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.05)
            most = max(most, spool.used())
    watch.stop()
    accepted = {number for number, reply in replies.items() if reply.startswith("250")}
    deferred = {number for number, reply in replies.items() if reply.startswith("452 4.3.1")}
    session, worker = (watch.growth[pid] / MIB for pid in pids)
    print(f"# {STORM} of {BIG / MIB:.0f} MiB in {time.monotonic() - began:.1f} s: {len(accepted)} accepted, {len(deferred)} "
          f"deferred, {most / MIB:.0f} MiB of disk, session {session:.1f} MiB, worker {worker:.1f} MiB above idle")
    equal(len(accepted) + len(deferred), STORM, f"replies {replies}")
    check(accepted and deferred, "all or none")
    arrived = {int(record.content.split(b"Subject: big ", 1)[1].split(b"\r\n", 1)[0]): record
               for record in sink.records()}
    equal(set(arrived), accepted)
    for number, record in arrived.items():
        whole(record, big_message(number), b"X-Second: seen\r\n")
    wait_for(lambda: spool.used() == 0, "an empty spool folder")
    reply = place.client().ehlo().mail(harness.message())
    check(reply.startswith("250"), reply)


@case("without a spool folder messages stay in memory, and a warning says so")
def missing(place):
    sink = place.sink()
    daemon = start(place, place.path("nowhere"), two_milters(place), sink)
    check("event=no-spool" in daemon.output(), "no warning")
    sent = big_message(1, 3 * MIB)
    reply = place.client().ehlo().mail(sent)
    check(reply.startswith("250"), reply)
    whole(sink.records()[0], sent, b"X-Second: seen\r\n")


if __name__ == "__main__":
    harness.main()
