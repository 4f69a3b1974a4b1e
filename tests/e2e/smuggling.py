#!/usr/bin/env python3
"""Nothing but CRLF.CRLF ends a message, and no bare CR, LF or NUL gets to the next hop, whoever says it. TAP.

The sink counts every bare CR, LF and NUL and then ends with a status that fails the case.
"""

import harness
from harness import case, check, equal, message

# What some server somewhere takes for the end of a message.
FALSE_ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n",
              b"\n\n.\r\n", b"\n.\r", b"\r.\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\0\n", b"\0\n.\n"]
SMUGGLED = (b"MAIL FROM:<smuggled@example.com>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nsmuggled\r\n")


def not_smuggled(sink):
    for record in sink.records():
        check("smuggled" not in record.sender and "victim" not in "".join(record.rcpts), "smuggled!")
        check(record.header("Subject") != ["smuggled"], "smuggled!")


@case("a false end of data in the middle of a message never ends it")
def client_data(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()], listener={"max-errors": "1000"})
    for end in FALSE_ENDS:
        client = harness.Client(place.daemon.endpoint).ehlo()
        client.envelope()
        client.expect("DATA", "354")
        client.send(b"Subject: first\r\n\r\nfirst" + end + SMUGGLED + b".\r\n")
        reply = client.reply()
        check(reply[:1] == "5", f"{end!r} was answered with {reply!r}")
        check(client.say("NOOP")[:3] in ("250", "421", ""), f"{end!r}: out of step")
        client.stop()
    equal(len(sink.records()), 0, "records")


@case("a false end of data split over any two writes never ends a message")
def split_data(place):
    sink = place.sink()
    place.milterd(sink, listener={"max-errors": "1000"})
    client = place.client().ehlo()
    for end in (b"\n.\r\n", b"\r\n.\n", b"\r\n.\r\r\n"):
        data = b"x" + end + b"MAIL FROM:<smuggled@example.com>\r\n"
        for at in range(len(data) - 30):
            client.envelope()
            client.expect("DATA", "354")
            client.send(data[:at])
            client.send(data[at:] + b".\r\n")
            check(client.reply().startswith("550"), f"{end!r} split at {at}")
    equal(len(sink.records()), 0, "records")


@case("the true end of data is found wherever it is split")
def split_end(place):
    sink = place.sink()
    place.milterd(sink)
    client = place.client().ehlo()
    content = harness.dotted("Subject: x\r\n\r\n.dot\r\nend\r\n")
    for at in range(len(content)):
        client.envelope()
        client.expect("DATA", "354")
        client.send(content[:at])
        client.send(content[at:])
        check(client.reply().startswith("250"), f"split at {at}")
    equal({harness.without_received(record.content) for record in sink.records()},
          {b"Subject: x\r\n\r\n.dot\r\nend\r\n"})


@case("a command with a bare CR or LF or a NUL is refused whole")
def commands(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()], listener={"max-errors": "1000"})
    for line in (b"MAIL FROM:<a@example.com>\nRCPT TO:<victim@example.net>\r\n", b"MAIL FROM:<a\r@example.com>\r\n",
                 b"MAIL FROM:<a\0@example.com>\r\n", b"MAIL FROM:<a@example.com> SIZE=1\rRSET\r\n", b"NOOP\n",
                 b"NOOP\r\r\n"):
        client = harness.Client(place.daemon.endpoint).ehlo()
        client.send(line + b"NOOP\r\n")
        reply = client.reply()
        check(reply[:1] in ("5", "4"), f"{line!r} was answered with {reply!r}")
        client.stop()
    client = place.client()
    client.send("EHLO bad\rname\r\n")
    check(client.reply()[:1] == "5", "a bare CR in EHLO")


@case("commands sent before the answer to DATA or EHLO are not taken for content or for trusted ones")
def early_commands(place):
    sink = place.sink()
    place.milterd(sink, listener={"max-errors": "1000"})
    client = place.client().ehlo()
    client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nSubject: early\r\n\r\nbody\r\n.\r\n")
    replies = [client.reply()[:3] for _ in range(3)]
    equal(replies[:2], ["250", "250"])
    not_smuggled(sink)


@case("a client that speaks HTTP or TLS is sent away")
def foreign(place):
    place.milterd("discard:")
    for hello in (b"GET / HTTP/1.1\r\nHost: mx\r\n\r\n", b"POST /x HTTP/1.0\r\n\r\n",
                  b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n"):
        client = place.client()
        client.send(hello)
        replies = [client.reply() for _ in range(3)]
        check("" in replies, f"{hello!r}: {replies}")
        check(not any(reply.startswith(("250", "354")) for reply in replies), f"{hello!r}: {replies}")


@case("what a milter puts into header and body never ends the message or leaves it with a bare CR or LF")
def milter_edits(place):
    sink = place.sink()
    steps = []
    milter = place.milter({"eom": lambda _: steps[-1] + ["continue"]})
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    smuggled = SMUGGLED.decode()
    values = ["x\r\n.\r\n" + smuggled, "x\n.\n" + smuggled, "x\r.\r" + smuggled, "\n\n.\n", ".\r\n.\r\n",
              "x\n\nSubject: smuggled\n\n.", "\r\n\r\n.\r\n"]
    bodies = [end.decode("latin-1").replace("\0", "") + smuggled for end in FALSE_ENDS]
    bodies += ["\r\n.\r\n" + smuggled, ".\r\n", ".", "\n.\n", "a\r\n.", "a\n", "\r"]
    # The end of data across the border of two chunks.
    bodies += ["x" * length + "\r\n.\r\n" + smuggled for length in range(65530, 65536)]
    cases = [[step] for value in values for step in (
        ["add_header", "X-A", value], ["insert_header", 0, "X-A", value], ["change_header", 1, "Subject", value])]
    cases += [[["replace_body", body]] for body in bodies]
    cases += [[["replace_body", part] for part in parts] for parts in (
        ("a\r", "\n.", "\r", "\n" + smuggled), ("a", "\n", ".", "\n", smuggled))]
    for case_steps in cases:
        steps.append(case_steps)
        before = len(sink.records())
        reply = client.mail(message("first"))
        check(reply[:3] in ("250", "451", "550", "554"), f"{case_steps!r:.200}: {reply}")
        check(len(sink.records()) - before == (1 if reply.startswith("250") else 0), f"{case_steps!r:.200}")
        for record in sink.records()[before:]:
            equal((record.sender.split(" ")[0], record.rcpts), ("<alice@example.com>", ["<bob@example.net>"]))
    equal(milter.errors, [])


@case("a header value of a milter makes no field and no body of its own")
def header_injection(place):
    sink = place.sink()
    milter = place.milter({"eom": [["add_header", "X-A", "1\nX-Injected: 2\n\nbody"], "continue"]})
    place.milterd(sink, [milter])
    reply = place.client().ehlo().mail(message(body="the body\r\n"))
    for record in sink.records():
        equal(record.header("X-Injected"), [])
        equal(record.body, b"the body\r\n")
    check(bool(sink.records()) == reply.startswith("250"), reply)


@case("an address of a milter brings no command with it")
def address_injection(place):
    sink = place.sink()
    steps = []
    milter = place.milter({"eom": lambda _: [steps[-1], "continue"]})
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    for address in ("<a@example.net>\r\nRCPT TO:<victim@example.net>", "<a@example.net\r\n>",
                    "a@example.net> <victim@example.net", "<a@example.net>\nDATA",
                    "<a@example.net> SMTPUTF8\r\nRSET", "<a b@example.net>"):
        for step in (["add_rcpt", address], ["change_from", address], ["delete_rcpt", address],
                     ["add_rcpt_par", "<c@example.net>", "NOTIFY=NEVER\r\nRCPT TO:<victim@example.net>"],
                     ["change_from", "<c@example.net>", "RET=HDRS\r\nRCPT TO:<victim@example.net>"]):
            steps.append(step)
            client.mail(message())
    for record in sink.records():
        for path in [record.sender, *record.rcpts]:
            check("victim" not in path, path)


if __name__ == "__main__":
    harness.main()
