#!/usr/bin/env python3
"""Accounts for every message: compares what the load generator sent and was told with what the sink has.

No loss: every message that was answered with 2xx is at the sink. No ghost: nothing else is, but what an attempt of
unknown outcome may have left. Bounded duplicates: a copy that the sink has answered needs a client that has heard of it
or has lost its connection after the dot; one that it has not answered needs an attempt in doubt. Whole: each copy is byte for byte what was sent, after the fields named by --added (and our Received, --received) are taken
away; each of them is there as often as it was named. Envelope: sender and accepted recipients, no other ones. Nothing at the sink is unknown.
"""

import argparse
import collections
import re
import sys

import spool

# What the proxy answers when the next hop did not answer the final dot.
IN_DOUBT = re.compile(r"451 4\.4\.2")
SHOWN = 20


class Message:
    """What happened to one message at the client."""

    def __init__(self):
        self.taken = 0
        self.unheard = 0        # attempts whose answer to the dot did not come
        self.in_doubt = 0       # attempts that were answered with doubt
        self.final = None       # outcome of the last attempt
        self.accepted = None    # numbers of the recipients accepted in the taken attempt


def read_journal(path):
    messages = collections.defaultdict(Message)
    outcomes = collections.Counter()
    with open(path, encoding="latin-1") as f:
        for line in f:
            number, _attempt, outcome, stage, rcpts, reply = line.rstrip("\n").split("\t")
            message = messages[int(number)]
            outcomes[outcome] += 1
            if outcome == "given-up":
                continue
            message.final = outcome
            if outcome == "taken":
                message.taken += 1
                message.accepted = [int(k) for k in rcpts.split(",")]
            elif outcome == "doubt":
                message.unheard += 1
            elif stage == "dot" and IN_DOUBT.match(reply):
                message.in_doubt += 1
                outcomes["answered with doubt"] += 1
    return messages, outcomes


def strip_added(content, received, added):
    """The content without what the way has added, and what is wrong about that."""
    block, separator, body = content.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", block)
    wrong = []
    for name, count in collections.Counter(["Received"] * received + added).items():
        places = [i for i, f in enumerate(fields) if f.lower().startswith(name.lower().encode() + b":")]
        if len(places) != count:
            wrong.append(f"{name} is there {len(places)} times")
        for i in reversed(places):
            del fields[i]
    return b"\r\n".join(fields) + separator + body, wrong


def difference(sent, got):
    """Where two contents part, for a person."""
    at = next((i for i, (a, b) in enumerate(zip(sent, got)) if a != b), min(len(sent), len(got)))
    return f"differs at byte {at} of {len(sent)}/{len(got)}: {sent[at:at + 40]!r} became {got[at:at + 40]!r}"


def check_copy(sent, record, message, options):
    """What is wrong with one copy at the sink."""
    got, wrong = strip_added(record.content, options.received, options.added)
    if got != sent.content:
        wrong.append(difference(sent.content, got))
    if record.sender.split(" ")[0] != sent.sender:
        wrong.append(f"sender {record.sender} instead of {sent.sender}")
    rcpts = [rcpt.split(" ")[0] for rcpt in record.rcpts]
    if message.taken:
        if rcpts != [sent.rcpts[k] for k in message.accepted]:
            wrong.append(f"recipients {rcpts}")
    elif not set(rcpts) <= set(sent.rcpts):
        wrong.append(f"recipients {rcpts}")
    return wrong


def check(options):
    """Print what is wrong and a summary; whether all is well."""
    messages, outcomes = read_journal(options.journal)
    sent = {record.id: record for record in spool.read(options.sent)}
    copies, unanswered = collections.Counter(), collections.Counter()
    problems = []
    for record in spool.read(options.sink):
        ids = record.header("X-Load-Id")
        if len(ids) != 1 or not ids[0].isdigit() or int(ids[0]) not in sent:
            problems.append(f"sink record {record.id} is no message that was sent: X-Load-Id {ids}")
            continue
        number = int(ids[0])
        copies[number] += 1
        unanswered[number] += record.kind == "unanswered"
        problems += [f"message {number}, sink record {record.id}: {what}"
                     for what in check_copy(sent[number], record, messages[number], options)]
    for number, message in sorted(messages.items()):
        answered = copies[number] - unanswered[number]
        if answered < message.taken:
            problems.append(f"message {number} was answered 2xx and is LOST")
        elif (options.no_duplicates and copies[number] > message.taken) or answered > message.taken + message.unheard or \
                copies[number] > message.taken + message.unheard + message.in_doubt:
            kind = "DUPLICATE" if message.taken else "GHOST"
            problems.append(f"message {number}: {kind}, {copies[number]} copies, {unanswered[number]} of them unanswered, "
                            f"{message.taken} taken, {message.unheard} unheard, {message.in_doubt} in doubt, "
                            f"at last {message.final}")
        if message.final not in ("taken", "refused") and not options.unfinished:
            problems.append(f"message {number} is not finished: {message.final}")
    if len(messages) != len(sent):
        problems.append(f"{len(sent)} messages sent, {len(messages)} in the journal")
    for problem in problems[:SHOWN]:
        print(problem)
    if len(problems) > SHOWN:
        print(f"... and {len(problems) - SHOWN} more")
    taken = sum(message.taken for message in messages.values())
    duplicates = sum(max(copies[number] - 1, 0) for number in copies)
    print(f"{len(messages)} messages, {taken} taken, {sum(copies.values())} at the sink, {duplicates} duplicates, "
          f"{len(problems)} problems; attempts: {', '.join(f'{n} {name}' for name, n in sorted(outcomes.items()))}")
    return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--journal", required=True, help="of the load generator")
    parser.add_argument("--sent", required=True, help="its spool")
    parser.add_argument("--sink", required=True, help="the sink's spool")
    parser.add_argument("--received", action="count", default=0, help="a Received field was added, once for each --received")
    parser.add_argument("--added", action="append", default=[], metavar="NAME", help="a field that was added")
    parser.add_argument("--no-duplicates", action="store_true", help="nothing was done that explains a duplicate")
    parser.add_argument("--unfinished", action="store_true", help="the load generator was stopped early")
    sys.exit(0 if check(parser.parse_args()) else 1)


if __name__ == "__main__":
    main()
