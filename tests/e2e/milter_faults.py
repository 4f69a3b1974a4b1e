#!/usr/bin/env python3
"""Milters that fail: the policy is applied, no half of an edit gets into mail, and nobody else notices. TAP.

Each fault is tried with both policies: options.tempfail-on-error = yes answers 451 and delivers nothing, no goes on
without the milter and delivers the message as it was.
"""

import threading
import time

import harness
from harness import case, check, equal, message, wait_for, without_received

TIMES = {"timeout.connect": "500ms", "timeout.command": "500ms", "timeout.data": "500ms", "timeout.message": "2s",
         "pool.wait": "500ms"}
EDITS = [["add_header", "X-Half", "1"], ["change_header", 1, "Subject", "changed"], ["replace_body", "half a body"],
         ["add_rcpt", "<added@example.net>"], ["delete_rcpt", "<bob@example.net>"],
         ["change_from", "<changed@example.com>"]]
HUGE = "\x7f\xff\xff\xff" + "c"

# Faults as scripts. The first word of the name says at which stage they strike.
FAULTS = {
    "open: closes at once": {"open": ["close"]},
    "open: resets at once": {"open": ["reset"]},
    "open: an SMTP server": {"open": [["raw", "220 mx.example.org ESMTP\r\n"]]},
    "open: a web server": {"optneg": [["raw", "HTTP/1.0 400 Bad Request\r\n\r\n"], "close"]},
    "optneg: silent": {"optneg": ["silent"]},
    "optneg: length 0": {"optneg": [["raw", "\0\0\0\0"]]},
    "optneg: 2 GiB": {"optneg": [["raw", HUGE]]},
    "optneg: too short": {"optneg": [["raw", "\0\0\0\x05O\0\0\0\x06"]]},
    "optneg: version 1": {"optneg": [["raw", "\0\0\0\x0dO\0\0\0\x01\0\0\0\0\0\0\0\0"]]},
    "optneg: another reply": {"optneg": ["continue"]},
    "connect: closes": {"connect": ["close"]},
    "helo: silent": {"helo": ["silent"]},
    "mail: closes": {"mail": ["close"]},
    "mail: silent": {"mail": ["silent"]},
    "mail: an unknown reply": {"mail": [["raw", "\0\0\0\x01Z"]]},
    "mail: an edit": {"mail": [["add_header", "X-Half", "1"], "continue"]},
    "mail: one byte a second": {"mail": [["drip", 1, "continue"]]},
    "rcpt: resets": {"rcpt": ["reset"]},
    "data: garbage": {"data": [["raw", "\xff" * 100]]},
    "header: closes": {"header": ["close"]},
    "header: silent": {"header": ["silent"]},
    "eoh: closes": {"eoh": ["close"]},
    "body: closes": {"body": ["close"]},
    "body: 1 GiB": {"body": [["raw", "\x40\0\0\0b"]]},
    "eom: closes": {"eom": ["close"]},
    "eom: silent": {"eom": ["silent"]},
    "eom: progress without end": {"eom": [["delay", 0.2], "progress"] * 40},
    "eom: all edits, then closes": {"eom": EDITS + ["close"]},
    "eom: all edits, then silent": {"eom": EDITS + ["silent"]},
    "eom: all edits, then garbage": {"eom": EDITS + [["raw", "\0\0\0\x01Z"]]},
    "eom: edits, then half a packet": {"eom": EDITS + [["cut", 7, ["add_header", "X-Half", "2"]]]},
    "eom: half a body": {"eom": [["replace_body", "x" * 65535], ["cut", 30000, ["replace_body", "y" * 65535]]]},
    "eom: a header without its end": {"eom": [["raw", "\0\0\0\x07hX-Half"]]},
    "eom: a body without end": {"eom": [["replace_body", "z" * 65535]] * 400},
}


def watch_other(place, stop, slowest):
    """Another listener without the bad milter: its longest message in seconds, until stopped."""
    with harness.Client(place.listener("other")) as client:
        client.ehlo()
        while not stop.is_set():
            began = time.monotonic()
            check(client.mail(message("another")).startswith("250"), "another listener's mail was refused")
            slowest.append(time.monotonic() - began)
            stop.wait(0.02)


def other_listener(place, sink):
    return harness.section("listener other", {
        "bind": place.listener("other"), "mode": "0666", "next-hop": "smtp:" + sink.endpoint,
        "milters": "good"})


def converse(path, subject):
    """Every reply of one message, as far as it gets."""
    with harness.Client(path, seconds=10) as client:
        replies = [client.greeting, client.say("EHLO client.example.com")]
        for line in ("MAIL FROM:<alice@example.com>", "RCPT TO:<bob@example.net>", "DATA"):
            if replies[-1][:1] in ("2", "3"):
                replies.append(client.say(line))
        if replies[-1].startswith("354"):
            client.send(harness.dotted(message(subject, body="the body\r\n" * 20000)))
            replies.append(client.reply())
    return replies


def try_fault(place, policy, stage_filter):
    """Each fault on a milter of its own, in one daemon."""
    sink = place.sink()
    other_sink = place.sink(name="other-sink")
    names = [name for name in FAULTS if name.split(":")[0] in stage_filter]
    good = place.milter(name="good")
    milters, more = [good], other_listener(place, other_sink)
    for number, name in enumerate(names):
        milters.append(place.milter(FAULTS[name], name=f"bad{number}"))
        more += harness.section(f"listener bad{number}", {
            "bind": place.listener(f"bad{number}"), "mode": "0666", "next-hop": "smtp:" + sink.endpoint,
            "milters": f"bad{number}"})
    options = {"options.tempfail-on-error": policy, "options.max-response-size": "20M", **TIMES, "good": {}}
    place.milterd("discard:", milters, options, {"milters": "none", "max-message-size": "1M"}, more=more)
    stop, slowest = threading.Event(), []
    thread = threading.Thread(target=watch_other, args=(place, stop, slowest))
    thread.start()
    try:
        for number, name in enumerate(names):
            began = time.monotonic()
            replies = converse(place.listener(f"bad{number}"), name)
            seconds = time.monotonic() - began
            check(seconds < 8, f"{name}: took {seconds:.1f} s")
            delivered = [record for record in sink.records() if record.header("Subject") in ([name], ["changed"])]
            if policy == "yes":
                check(replies[-1].startswith("4"), f"{name}: {replies}")
                equal(len(delivered), 0, name + ": records")
            else:
                check(replies[-1].startswith("250"), f"{name}: {replies}")
                equal(len(delivered), 1, name + ": records")
                got = without_received(delivered[0].content)
                check(got == message(name, body="the body\r\n" * 20000).encode(), f"{name}: half an edit: {got[:300]}")
                equal((delivered[0].sender.split(" ")[0], delivered[0].rcpts),
                      ("<alice@example.com>", ["<bob@example.net>"]), name)
    finally:
        stop.set()
        thread.join(harness.PATIENCE)
    check(slowest and max(slowest) < 1, f"another client waited {max(slowest or [99]):.2f} s")
    equal(len(other_sink.records()), len(slowest), "the other listener's messages")
    equal(good.errors, [])


@case("a milter that fails at negotiation defers mail")
def negotiation_tempfail(place):
    try_fault(place, "yes", ("open", "optneg"))


@case("a milter that fails at negotiation is passed over where that is the policy")
def negotiation_accept(place):
    try_fault(place, "no", ("open", "optneg"))


@case("a milter that fails in the session or the envelope defers mail")
def envelope_tempfail(place):
    try_fault(place, "yes", ("connect", "helo", "mail", "rcpt"))


@case("a milter that fails in the session or the envelope is passed over where that is the policy")
def envelope_accept(place):
    try_fault(place, "no", ("connect", "helo", "mail", "rcpt"))


@case("a milter that fails in the content or its edits defers mail")
def content_tempfail(place):
    try_fault(place, "yes", ("data", "header", "eoh", "body", "eom"))


@case("a milter that fails in the content or its edits leaves the mail whole where it is passed over")
def content_accept(place):
    try_fault(place, "no", ("data", "header", "eoh", "body", "eom"))


@case("a milter that is down defers mail or is passed over, and is used again when it is back")
def down(place):
    sink = place.sink()
    for policy in ("yes", "no"):
        name = "down-" + policy
        milter = place.milter({"eom": [["add_header", "X-Back", "1"], "continue"]}, name=name)
        place.end(milter)
        place.milterd(sink, [milter], {"options.tempfail-on-error": policy, **TIMES})
        replies = converse(place.daemon.endpoint, name)
        check(replies[-1].startswith("4" if policy == "yes" else "250"), f"{policy}: {replies}")
        place.milter({"eom": [["add_header", "X-Back", "1"], "continue"]}, name=name)

        def is_back():
            converse(place.daemon.endpoint, name)
            records = sink.records()
            return records and records[-1].header("X-Back") == ["1"]
        wait_for(is_back, "the milter to be used again")
        check("milter" in place.daemon.output() and name in place.daemon.output(), "the log does not name the milter")
        place.end(place.daemon)


@case("what a milter had done before it failed stays undone, what the others did stays done")
def half_in_a_chain(place):
    sink = place.sink()
    first = place.milter({"eom": [["add_header", "X-First", "1"], "continue"]}, name="first")
    bad = place.milter({"eom": EDITS + ["close"]}, name="bad")
    last = place.milter({"eom": [["add_header", "X-Last", "1"], "continue"]}, name="last")
    place.milterd(sink, [first, bad, last], {"options.tempfail-on-error": "no", **TIMES})
    client = place.client().ehlo()
    check(client.mail(message()).startswith("250"), "refused")
    record = sink.records()[0]
    equal(without_received(record.content), message(headers="X-First: 1\r\nX-Last: 1\r\n").encode())
    equal((record.sender.split(" ")[0], record.rcpts), ("<alice@example.com>", ["<bob@example.net>"]))
    equal([event["args"][1] for event in last.seen("header") if event["args"][0] == "Subject"], ["a test"])


@case("a refusal in impossible words is a refusal all the same, in ours")
def odd_words(place):
    sink = place.sink()
    words = []
    milter = place.milter({"eom": lambda _: EDITS + [["reply", words[-1]]]})
    place.milterd(sink, [milter], {"options.tempfail-on-error": "no"}, {"max-errors": "1000"})
    client = place.client().ehlo()
    for text, code in [("hello", "4"), ("", "4"), ("250 2.0.0 fine", "4"), ("55", "5"), ("550 5.7.1 a\r\n250 b", "5"),
                       ("550-5.7.1 open", "5"), ("550 5.7.1 bare\nLF", "5"), ("451 4.7.1 " + "x" * 5000, "4"),
                       ("550 5.7.1 a\x01\x1b[2Jb", "5"), ("550 4.7.1 mixed", "5")]:
        words.append(text)
        reply = client.mail(message())
        check(reply.startswith(code), f"{text!r:.50}: {reply}")
        check(all(len(line) <= 512 and line.isprintable() for line in reply.split("\n")), f"{text!r:.50}: {reply}")
        client.expect("NOOP", "250")
    equal(sink.records(), [])


@case("a stray reply is never taken for the answer to a later command")
def stray_reply(place):
    sink = place.sink()
    # Two answers to EOH: were the second taken for that of the body, the answers would shift by one.
    milter = place.milter({"eoh": ["continue", "continue"], "eom": ["reject"]})
    place.milterd(sink, [milter], TIMES)
    replies = [place.client().ehlo().mail(message(str(number))) for number in range(5)]
    check(not any(reply.startswith("250") for reply in replies), replies)
    equal(sink.records(), [])


@case("a milter that died between two messages is replaced without an error")
def idle_death(place):
    sink = place.sink()
    milter = place.milter()
    place.milterd(sink, [milter], TIMES)
    client = place.client().ehlo()
    check(client.mail(message("before")).startswith("250"), "refused")
    place.end(milter)
    milter = place.milter()
    time.sleep(0.1)
    check(client.mail(message("after")).startswith("250"), "refused")
    equal([record.header("Subject") for record in sink.records()], [["before"], ["after"]])
    equal(milter.errors, [])


@case("the client leaving in the middle is told to the milters, and nothing is delivered")
def client_leaves(place):
    sink = place.sink()
    milter = place.milter({"eom": [["delay", 0.3], "continue"]})
    place.milterd(sink, [milter])
    whole = harness.dotted(message())
    for lines, content in [(0, None), (1, None), (2, None), (3, None), (3, "Subject: half\r\n"), (3, whole)]:
        client = harness.Client(place.daemon.endpoint).ehlo()
        for line in ("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.net>", "DATA")[:lines]:
            client.say(line)
        if content:
            client.send(content)
        client.stop()
    wait_for(lambda: len(milter.seen("eom")) == 1, "the finished message")
    check(place.client().ehlo().mail(message("last")).startswith("250"), "refused")
    equal([record.header("Subject") for record in sink.records()], [["last"]])
    wait_for(lambda: len(milter.open) <= 2, "milter connections of clients that have gone")
    equal(milter.errors, [])


if __name__ == "__main__":
    harness.main()
