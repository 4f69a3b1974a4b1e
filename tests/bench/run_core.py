#!/usr/bin/env python3
"""What milterd costs: messages per second and CPU per message beside the raw replayer, the limit, in interleaved rounds.

The same filter (no-op on libmilter, or the fast one) is driven once by milterd, with the load generator in front and
discard: or the sink behind, and once by the replayer, which writes the bytes of an ideal milter client. CPU is from
/proc/PID/stat. At the end a table of system calls per message for each process of milterd (needs strace).
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

import harness  # noqa: E402  pylint: disable=wrong-import-position

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
SHOWN_CALLS = 12


def program(name):
    return os.path.join(harness.BUILD, name)


def cpu_us(pid):
    """User and system time of a process with all its threads."""
    fields = harness.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


class Filter(harness.Process):
    """The filter that both sides drive."""

    def __init__(self, place, options):
        self.name = "filter"
        self.endpoint = "unix:" + place.path("filter.sock")
        if options.filter == "libmilter":
            argv = [program("tests/bench/noop_filter"), self.endpoint]
        else:
            argv = [program("tests/instruments/edit_milter"), "--listen", self.endpoint]
        if options.no_replies:
            argv.append("no-replies" if options.filter == "libmilter" else "--no-replies")
        super().__init__(argv, place.path("filter.log"))
        harness.wait_for(lambda: harness.answers(self.endpoint), "the filter")
        os.chmod(place.path("filter.sock"), 0o666)


def totals(argv):
    """Run a program that prints name=value words."""
    result = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    counts = {key: float(value) for key, value in (word.split("=") for word in result.stdout.split())}
    if result.returncode != 0 or counts.get("refused", 0) > 0:
        sys.exit(f"{argv[0]} ended with {result.returncode}: {result.stdout}{result.stderr}")
    return counts


def run_load(place, options, messages):
    return totals([program("tests/instruments/load"), "--to", place.daemon.endpoint, "--messages", str(messages),
                   "--sessions", str(options.sessions), "--per-session", str(options.per_session), "--size",
                   str(options.size)])


def run_replayer(filter_, options):
    return totals([program("tests/bench/replayer"), "--to", filter_.endpoint, "--messages", str(options.messages),
                   "--connections", str(options.sessions), "--per-session", str(options.per_session), "--size",
                   str(options.size)])


def names_of(place):
    """Names and process ids of milterd's processes."""
    named = {"master": place.daemon.process.pid}
    for role in ("session", "worker"):
        for number, pid in enumerate(place.daemon.children("milterd-" + role)):
            named[f"{role} {number}"] = pid
    return named


def measure(place, filter_, options):
    """One round: rates, and CPU per message by process, of milterd and of the replayer."""
    named = names_of(place)
    before = {name: cpu_us(pid) for name, pid in named.items()}
    filter_before = cpu_us(filter_.process.pid)
    ours = run_load(place, options, options.messages)
    cpu = {name: (cpu_us(pid) - before[name]) / options.messages for name, pid in named.items()}
    filter_middle = cpu_us(filter_.process.pid)
    raw = run_replayer(filter_, options)
    filter_after = cpu_us(filter_.process.pid)
    return {"rate": ours["rate"], "dot": ours["dot-p50-ms"], "raw rate": raw["rate"], "raw cpu": raw["cpu-us"],
            "cpu": cpu, "filter": (filter_middle - filter_before) / options.messages,
            "raw filter": (filter_after - filter_middle) / options.messages}


def calls_per_message(place, options):
    """{process: {system call: calls per message}}"""
    strace = shutil.which("strace")
    if not strace:
        return {}
    messages = max(options.messages // 10, 500)
    named = names_of(place)
    traces = {}
    with contextlib.ExitStack() as stack:
        for name, pid in named.items():
            file = place.path(f"strace-{pid}")
            trace = subprocess.Popen([strace, "-f", "-c", "-o", file, "-p", str(pid)], stderr=subprocess.DEVNULL)
            stack.callback(trace.kill)
            traces[name] = (trace, file)
        harness.wait_for(lambda: all("TracerPid:\t0" not in harness.read_text(f"/proc/{pid}/status")
                                     for pid in named.values()), "strace")
        run_load(place, options, messages)
        for trace, _ in traces.values():
            trace.terminate()
            trace.wait(harness.PATIENCE)
    counts = {}
    for name, (_, file) in traces.items():
        rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", harness.read_text(file), re.MULTILINE)
        counts[name] = {call: int(count) / messages for count, call in rows if call != "total"}
    return counts


def report(rounds, calls):
    median = {key: statistics.median(one[key] for one in rounds) for key in rounds[0] if key != "cpu"}
    print(f"{'':24}{'milterd':>12}{'replayer':>12}{'ratio':>8}")
    ratio = statistics.median(one["rate"] / one["raw rate"] for one in rounds)
    print(f"{'messages/s':24}{median['rate']:12.0f}{median['raw rate']:12.0f}{ratio:8.3f}")
    print(f"{'filter, us/message':24}{median['filter']:12.1f}{median['raw filter']:12.1f}")
    print(f"{'client, us/message':24}{'':12}{median['raw cpu']:12.1f}")
    total = 0
    for name in rounds[0]["cpu"]:
        us = statistics.median(one["cpu"][name] for one in rounds)
        total += us
        print(f"{name + ', us/message':24}{us:12.1f}")
    print(f"{'milterd, us/message':24}{total:12.1f}{'':12}{total / max(median['raw cpu'], 0.1):8.1f}")
    print(f"dot to reply: median {median['dot']:.2f} ms")
    for name, counts in calls.items():
        frequent = sorted(counts.items(), key=lambda item: -item[1])[:SHOWN_CALLS]
        if frequent and frequent[0][1] > 0.01:
            print(f"{name}: {sum(counts.values()):.1f} calls/message: " +
                  ", ".join(f"{call} {count:.2f}" for call, count in frequent if count >= 0.005))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=10000, help="of each round and side")
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--per-session", type=int, default=100)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--filter", choices=("libmilter", "fast"), default="libmilter")
    parser.add_argument("--no-replies", action="store_true", help="the filter answers only the end of message")
    parser.add_argument("--next-hop", choices=("discard", "sink"), default="discard")
    parser.add_argument("--processes", default="auto", help="of each kind")
    parser.add_argument("--no-strace", action="store_true")
    options = parser.parse_args()
    place = harness.Place()
    try:
        filter_ = place.keep(Filter(place, options))
        next_hop = place.sink() if options.next_hop == "sink" else "discard:"
        place.milterd(next_hop, [filter_], daemon={"workers": options.processes, "sessions": options.processes,
                                                   "log-level": "warning"})
        print(f"{options.messages} messages of {options.size} bytes, {options.sessions} sessions with "
              f"{options.per_session} each, filter {options.filter}{' without replies' if options.no_replies else ''}, "
              f"next hop {options.next_hop}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        run_load(place, options, 1000)
        rounds = []
        for number in range(options.rounds):
            rounds.append(measure(place, filter_, options))
            print(f"round {number + 1}: {rounds[-1]['rate']:.0f}/s, replayer {rounds[-1]['raw rate']:.0f}/s", flush=True)
            time.sleep(0.2)
        report(rounds, {} if options.no_strace else calls_per_message(place, options))
    except BaseException:
        print(place.diagnostics(), file=sys.stderr)
        raise
    finally:
        place.stop(quietly=True)
        shutil.rmtree(place.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
