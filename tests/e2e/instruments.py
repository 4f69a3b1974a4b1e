#!/usr/bin/env python3
"""The instruments themselves: what proves that no mail is lost must be able to see a loss. TAP on standard output."""

import os
import subprocess
import sys

import harness
from harness import case, check, equal

MESSAGES = 400


def load(place, to, *options, journal="journal", sent="sent.spool"):
    """Run the load generator; its line of totals."""
    argv = [os.path.join(harness.BUILD, "tests/instruments/load"), "--to", to, "--journal", place.path(journal),
            "--spool", place.path(sent), "--retry-ms", "20", *options]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    equal(result.returncode, 0, result.stdout + result.stderr)
    return result.stdout


def account(place, sink, *options):
    """Run the accounting; its exit status and words."""
    argv = [sys.executable, os.path.join(harness.SOURCE, "tests/instruments/check_accounting.py"), "--journal",
            place.path("journal"), "--sent", place.path("sent.spool"), "--sink", sink, *options]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return result.returncode, result.stdout + result.stderr


def loaded(place):
    sink = place.sink()
    load(place, sink.endpoint, "--messages", str(MESSAGES), "--sessions", "8", "--size", "200-5000", "--rcpts", "3")
    status, words = account(place, sink.spool, "--no-duplicates")
    equal(status, 0, words)
    with open(sink.spool, "rb") as f:
        return f.read()


def tampered(place, data, *options):
    """What the accounting says about another content of the sink."""
    with open(place.path("tampered.spool"), "wb") as f:
        f.write(data)
    return account(place, place.path("tampered.spool"), *options)


def split_records(data):
    """The bytes of each record."""
    records = []
    while data:
        head, _, _ = data.partition(b"\n")
        size = len(head) + 1 + sum(int(n) for n in head.split()[3:5]) + 1
        records.append(data[:size])
        data = data[size:]
    return records


@case("every tampering with the sink's content is found")
def tampering(place):
    records = split_records(loaded(place))
    equal(len(records), MESSAGES, "records")
    ten = records[10]
    stranger = ten.replace(b"X-Load-Id", b"X-Lost-Id")
    for what, changed, words in [
            ("a record is missing", records[:10] + records[11:], "LOST"),
            ("a record is there twice", records + [ten], "DUPLICATE"),
            ("a message that nobody has sent", records + [stranger], "no message that was sent"),
            ("one letter differs", records[:10] + [ten.replace(b"From: S", b"From: s")] + records[11:], "differs"),
            ("another sender", records[:10] + [ten.replace(b"FROM <s", b"FROM <S")] + records[11:], "sender"),
            ("another recipient", records[:10] + [ten.replace(b"TO <rcpt", b"TO <Rcpt")] + records[11:], "recipients"),
    ]:
        status, said = tampered(place, b"".join(changed))
        check(status == 1 and words in said, f"{what}: {said}")


@case("a fault of the sink is seen by the client as what it is")
def faults(place):
    for fault, wanted in [("3/banner:close", None), ("3/mail:reset", "lost"), ("3/rcpt:say=451 4.2.1 no", "deferred"),
                          ("3/data:close", "lost"), ("3/dot:say=451 4.3.0 no", "deferred"), ("3/dot:close", "doubt"),
                          ("3/reply:reset", "doubt"), ("9/content:reset", None), ("3/ehlo:garbage", None)]:
        name = fault.replace("/", "-").replace(":", "-").split("=")[0]
        sink = place.sink("--fault", fault, name=name)
        for file in ("journal", "sent.spool"):
            if os.path.exists(place.path(file)):
                os.unlink(place.path(file))
        totals = load(place, sink.endpoint, "--messages", "50", "--sessions", "4", "--per-session", "5")
        counts = dict(field.split("=") for field in totals.split())
        check(wanted is None or int(counts[wanted]) > 0, f"{fault}: {totals}")
        status, words = account(place, sink.spool)
        equal(status, 0, f"{fault}: {words}")


@case("a message refused for good is not tried again and not delivered")
def refused(place):
    sink = place.sink("--refuse-rcpt", "-7-=550 5.1.1 no")
    totals = load(place, sink.endpoint, "--messages", "20", "--sessions", "2")
    check("taken=19 deferred=0 refused=1 " in totals, totals)
    status, words = account(place, sink.spool, "--no-duplicates")
    equal(status, 0, words)


@case("the sink finds every bare CR, LF and NUL")
def bare(place):
    for bad in (b"a\nb", b"a\rb", b"a\0b", b"\r\r\n", b"\n.\r\n", b"\r\n.\n", b"\n.\n"):
        sink = place.sink(name="sink-" + bad.hex())
        with harness.Client(sink.endpoint) as client:
            client.ehlo()
            client.envelope()
            client.expect("DATA", "354")
            client.send(b"Subject: x\r\n\r\n" + bad + b"\r\n.\r\n")
            check(client.reply().startswith("550"), f"{bad!r} was taken")
        equal(harness.Process.stop(sink), 3, "exit status")
        equal(sink.records(), [], "records")


@case("the milters answer an ideal client, whatever they negotiate, and find no fault with it")
def milters(place):
    for number, protocol in enumerate((0, 0xff080, 0x10, 0x20, 0x26f)):
        milter = place.milter({"protocol": protocol}, name=f"milter{number}")
        replay(milter.endpoint)
        equal((len(milter.seen("eom")), milter.errors), (50, []), f"{protocol:#x}")
    for number, options in enumerate(([], ["--no-replies"])):
        endpoint = "unix:" + place.path(f"fast{number}.sock")
        fast = place.program("tests/instruments/edit_milter", "--listen", endpoint, *options)
        harness.wait_for(lambda: harness.answers(endpoint), "the fast milter")  # pylint: disable=cell-var-from-loop
        replay(endpoint)
        equal(fast.stop(), 0, fast.output())
        check("messages=50 errors=0" in fast.output(), fast.output())


def replay(endpoint):
    argv = [os.path.join(harness.BUILD, "tests/bench/replayer"), "--to", endpoint, "--messages", "50", "--connections",
            "4", "--per-session", "5"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    equal(result.returncode, 0, result.stdout + result.stderr)


if __name__ == "__main__":
    harness.main()
