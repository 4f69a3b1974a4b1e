#!/usr/bin/env python3
"""Random messages through 1, 2 and 4 milters with random edits arrive exactly as edit_model.py says. TAP.

The model is written from the rules, not from milterd's code. What each milter is shown is compared too. Some edits are
illegal, and some milters die after their edits: then none of that milter's edits count (the policy is to go on).
MILTERD_SOAK=1 tries many more; MILTERD_SEED=N another sequence.
"""

import os
import random
import re

import harness
from harness import case, check

import edit_model

SEED = int(os.environ.get("MILTERD_SEED", "20260101"))
CASES = 3000 if os.environ.get("MILTERD_SOAK", "") not in ("", "0") else 150
# What each milter of the chain negotiates and is configured as.
KINDS = [{"leadspc": False, "index": "shift"}, {"leadspc": True, "index": "shift"},
         {"leadspc": False, "index": "stable"}, {"leadspc": True, "index": "stable"}]
OWN_RECEIVED = re.compile(rb"Received: from client\.example\.com [^\r]*\r\n(?:[ \t][^\r]*\r\n)*")

NAMES = [b"Subject", b"X-A", b"x-a", b"X-B", b"Received", b"From", b"X-New", b"DKIM-Signature", b"X-" + b"n" * 70]
BAD_NAMES = [b"", b"X Y", b"X:Y", b"X\xc3\xa9", b"\tX"]
VALUES = [b"one", b" blank first", b"two\n folded", b"three\n\tlines\n of it", b"crlf\r\n fold", b"cr\r fold",
          b"not\nfolded", b"end\n", b"\nstart", b"gr\xc3\xbcn \xff", b"   ", b"a: b", b".", b"x" * 900, b"y" * 20000]
PARTS = [b"line\r\n", b"lf\n", b".\r\n", b"..\n", b"\r\n", b"\n", b"\r", b"no end", b"\x80\xff\r\n", b"a\rb", b".",
         b"z" * 3000, b"From me\r\n"]
ADDRESSES = [b"<bob@example.net>", b"carol@example.net", b"<dave@Example.NET>", b"<erin@example.net>",
             b'"a b"@example.net', b"<@relay.example:frank@example.net>", b"<x@[192.0.2.1]>", b"postmaster"]
BAD_ADDRESSES = [b"", b"a b@example.net", b"<a@example.net", b"<a@example.net>\r\nDATA", b"a@b@c",
                 b"a" * 300 + b"@example.net"]
RCPT_ARGS = [None, b"NOTIFY=NEVER", b"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob@example.net", b"SIZE=1", b""]
SENDER_ARGS = [None, b"RET=HDRS", b"ENVID=abc", b"SIZE=10", b""]


def random_message(rng):
    """Bytes with CRLF line ends."""
    fields = []
    for _ in range(rng.choice((0, 1, 3, 6, 12))):
        name = rng.choice(NAMES)
        value = rng.choice((b"value", b"", b"w" * rng.randrange(200), b"\xe4"))
        lines = [rng.choice((b" ", b"", b"  ", b"\t")) + value]
        lines += [rng.choice((b" ", b"\t")) + b"fold" for _ in range(rng.choice((0, 0, 0, 1, 3)))]
        fields.append(name + rng.choice((b":", b":", b":", b" :")) + b"\r\n".join(lines) + b"\r\n")
    body = b"".join(rng.choice((b"text\r\n", b"\r\n", b".\r\n", b".dot\r\n", b"8bit \xff\r\n", b"t" * 998 + b"\r\n"))
                    for _ in range(rng.choice((0, 1, 5, 50, 500))))
    if rng.random() < 0.05:
        return b"".join(fields)
    return b"".join(fields) + b"\r\n" + body


def random_edit(rng):
    bad = rng.random() < 0.01
    kind = rng.choice(("add", "insert", "change", "change", "delete", "body", "from", "rcpt", "delrcpt"))
    name = rng.choice(BAD_NAMES if bad else NAMES)
    address = rng.choice(BAD_ADDRESSES if bad else ADDRESSES)
    if kind == "add":
        return ("add", name, rng.choice(VALUES))
    if kind == "insert":
        return ("insert", rng.choice((0, 1, 2, 3, 7, 1000)), name, rng.choice(VALUES))
    if kind in ("change", "delete"):
        return ("change", rng.choice((0, 1, 1, 2, 3, 9)), name, b"" if kind == "delete" else rng.choice(VALUES))
    if kind == "body":
        return ("body", b"\0" if bad else b"".join(rng.choice(PARTS) for _ in range(rng.randrange(30))))
    if kind == "from":
        return ("from", rng.choice((address, b"<>")), rng.choice(SENDER_ARGS))
    if kind == "rcpt":
        return ("rcpt", address, rng.choice(RCPT_ARGS))
    return ("delrcpt", address)


def random_edits(rng):
    """Several, some of a kind in a row as filters do."""
    edits = [random_edit(rng) for _ in range(rng.choice((0, 1, 1, 2, 4, 8, 20)))]
    if rng.random() < 0.2:
        edits += [("change", index, b"X-A", b"") for index in rng.choice(((1, 2, 3), (3, 2, 1), (1, 1, 1)))]
    if rng.random() < 0.05:
        edits += [("body", b"b" * 65535), ("body", b"\r"), ("body", b"\n.\r\nend")]
    return edits


def step_of(edit):
    """The edit as the scripted milter says it."""
    kind, *args = [arg.decode("latin-1") if isinstance(arg, bytes) else arg for arg in edit]
    if kind == "rcpt":
        return ["add_rcpt", args[0]] if args[1] is None else ["add_rcpt_par", *args]
    return [{"add": "add_header", "insert": "insert_header", "change": "change_header", "body": "replace_body",
             "from": "change_from", "delrcpt": "delete_rcpt"}[kind], *args]


class Chain:
    """Scripted milters that do what the case in hand says, and remember what they were shown."""

    def __init__(self, place, count):
        self.edits = [[]] * count
        self.dies = [False] * count
        self.shown = [None] * count
        self.milters = [place.milter({"protocol": 0x100000 if kind["leadspc"] else 0,
                                      "eom": lambda session, number=number: self.steps(session, number)},
                                     name=f"m{number}")
                        for number, kind in enumerate(KINDS[:count])]
        self.options = {f"m{number}": {"header-index": kind["index"]} for number, kind in enumerate(KINDS[:count])}

    def steps(self, session, number):
        self.shown[number] = ([tuple(part.encode("latin-1") for part in field) for field in session.headers],
                              bytes(session.body))
        return [step_of(edit) for edit in self.edits[number]] + ["close" if self.dies[number] else "continue"]

    def prepare(self, rng):
        count = len(self.milters)
        self.edits = [random_edits(rng) for _ in range(count)]
        self.dies = [rng.random() < 0.02 for _ in range(count)]
        self.shown = [None] * count


def path_of(text):
    """The path with its brackets, without the parameters."""
    return text.rpartition(">")[0] + ">"


def compare(chain, content, records):
    """What differs from the model, None when nothing does."""
    envelope = edit_model.Envelope(b"alice@example.com", [], [edit_model.Rcpt(b"bob@example.net"),
                                                             edit_model.Rcpt(b"carol@example.net")])
    received = None
    if records:
        found = OWN_RECEIVED.findall(records[0].content)
        if len(found) != 1:
            return f"our Received is there {len(found)} times: {records[0].content[:500]!r}"
        received = found[0]
    wanted = edit_model.expect(content, received, envelope, [
        edit_model.Milter(edits, kind["leadspc"], kind["index"], not dies)
        for edits, kind, dies in zip(chain.edits, KINDS, chain.dies)])
    for number, view in enumerate(wanted.views):
        if chain.shown[number] != view:
            return f"milter {number} was shown {chain.shown[number]!r:.1500}\ninstead of {view!r:.1500}"
    rcpts = [rcpt.address for rcpt in wanted.envelope.rcpts]
    if len(records) != (1 if rcpts else 0):
        return f"{len(records)} records for {rcpts}"
    if not records:
        return None
    if records[0].content != wanted.message:
        at = next((i for i, (a, b) in enumerate(zip(records[0].content, wanted.message)) if a != b), "the end")
        return f"byte {at}: delivered {records[0].content!r:.1500}\ninstead of {wanted.message!r:.1500}"
    got = (path_of(records[0].sender), [path_of(rcpt) for rcpt in records[0].rcpts])
    model = (f"<{wanted.envelope.sender.decode('latin-1')}>", [f"<{rcpt.decode('latin-1')}>" for rcpt in rcpts])
    return None if got == model else f"envelope {got}\ninstead of {model}"


def try_chain(place, count):
    sink = place.sink()
    chain = Chain(place, count)
    place.milterd(sink, chain.milters, {"options.tempfail-on-error": "no", "timeout.data": "5s", **chain.options},
                  listener={"max-errors": "100000"})
    client = place.client().ehlo()
    for number in range(CASES):
        rng = random.Random(f"{SEED} {count} {number}")
        content = random_message(rng)
        chain.prepare(rng)
        reply = client.mail(content, rcpts=("<bob@example.net>", "<carol@example.net>"))
        records = sink.new_records()
        what = f"case {number}: {chain.edits!r:.3000}\ndies {chain.dies} content {content!r:.600}\n"
        check(reply.startswith("250"), what + reply)
        difference = compare(chain, content, records)
        check(difference is None, what + (difference or ""))
    for milter in chain.milters:
        check(not milter.errors, str(milter.errors))


@case("one milter")
def one(place):
    try_chain(place, 1)


@case("two milters")
def two(place):
    try_chain(place, 2)


@case("four milters", 600)
def four(place):
    try_chain(place, 4)


if __name__ == "__main__":
    harness.main()
