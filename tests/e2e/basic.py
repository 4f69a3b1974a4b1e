#!/usr/bin/env python3
"""Mail through milterd with well-behaved peers: content, envelope, verdicts of milters, order of events. TAP."""

import re

import harness
from harness import case, check, equal, message, wait_for, without_received

CONTENTS = {
    "one line": message(),
    "no body": "Subject: no body\r\n\r\n",
    "a header without an end": "Subject: only a header\r\n",
    "no header": "\r\nOnly a body.\r\n",
    "dots": message(body=".\r\n..\r\n.a\r\n...\r\n a.\r\n.\r\n"),
    "empty lines at the end": message(body="a\r\n\r\n\r\n\r\n"),
    "eight bits": message("gr\xfcn", body="\xff\x80\xe4\r\n\xc3\xbc\r\n"),
    "long lines": message(body="x" * 998 + "\r\n" + "y" * 5000 + "\r\n"),
    "a folded field": message(headers="X-Folded: one\r\n\ttwo\r\n   three\r\nX-Empty:\r\nX-Tight:value\r\n"),
    "equal fields": message(headers="X-Same: 1\r\nX-Same: 2\r\nx-same: 3\r\n"),
    "blanks": message(headers="X-Blank:   three before, two after  \r\nX-Tab:\tone\r\n"),
    "100 KiB": message(body="a line of a longer message\r\n" * 4000),
    "3 MiB": message(body="a line of a long message, as attachments have them .................\r\n" * 45000),
}
STAGES = ("mail", "rcpt", "data", "header", "eoh", "body", "eom")
CONTENT_STAGES = ("header", "eoh", "body", "eom")


def deliver(client, content=None, wanted="250"):
    reply = client.mail(content or message())
    check(reply.startswith(wanted), f"the message was answered with {reply!r} instead of {wanted}")
    return reply


def stages_seen(milter):
    """The events of the milter's connections that carried more than a greeting, without macros."""
    served = {event["session"] for event in milter.seen() if event["event"] in ("helo", "mail", "eom")}
    return [event["event"] for event in milter.seen() if event["session"] in served and event["event"] != "macros"]


@case("content arrives byte for byte, below our Received")
def contents(place):
    sink = place.sink()
    milter = place.milter()
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    for what, content in CONTENTS.items():
        deliver(client, content)
        got = without_received(sink.records()[-1].content)
        wanted = content.encode("latin-1")
        if what == "a header without an end":
            got, wanted = got.rstrip(b"\r\n"), wanted.rstrip(b"\r\n")
        equal(got[:2000], wanted[:2000], what)
        check(got == wanted, what + " differs")
    equal(milter.errors, [])


@case("without a milter, and with received = no, nothing at all is changed")
def untouched(place):
    sink = place.sink()
    place.milterd(sink, listener={"received": "no"})
    client = place.client().ehlo()
    deliver(client, CONTENTS["dots"])
    equal(sink.records()[0].content, CONTENTS["dots"].encode())


@case("Received names the client, us, the protocol and the queue id that milters know")
def received(place):
    sink = place.sink()
    milter = place.milter()
    place.milterd(sink, [milter])
    deliver(place.client().ehlo())
    field = sink.records()[0].header("Received")[0]
    queue_id = next(event["macros"]["i"] for event in milter.seen("macros") if "i" in event["macros"])
    check(re.match(r"from client\.example\.com ", field), field)
    check(re.search(r"\bby mx\.example\.org\b", field), field)
    check(re.search(r"\bwith ESMTP\b", field), field)
    check(re.search(r"\bid " + re.escape(queue_id) + r"\b", field), f"{queue_id} is not in {field}")
    check(re.search(r";\s+\w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", field), field)


@case("the milter sees connection, envelope, header and body as the protocol says")
def milter_view(place):
    sink = place.sink()
    milter = place.milter()
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    client.expect("MAIL FROM:<alice@example.com> SIZE=100 BODY=8BITMIME", "250")
    client.expect("RCPT TO:<bob@example.net>", "250")
    client.expect("RCPT TO:<carol@example.net>", "250")
    content = "A: 1\r\nB:2\r\nC:  3\r\nD: one\r\n two\r\n\tthree\r\n\r\n.dot\r\n..\r\nend\r\n"
    check(client.data(content).startswith("250"), "refused")
    equal(stages_seen(milter), ["optneg", "connect", "helo", "mail", "rcpt", "rcpt", "data", *["header"] * 4, "eoh",
                                "body", "eom"])
    equal(milter.seen("optneg")[0]["args"][0], "0x6", "version")
    equal(milter.seen("helo")[0]["args"], ["client.example.com"])
    mail = milter.seen("mail")[0]["args"]
    equal(mail[0], "<alice@example.com>")
    equal(sorted(mail[1:]), ["BODY=8BITMIME", "SIZE=100"])
    equal([event["args"] for event in milter.seen("rcpt")], [["<bob@example.net>"], ["<carol@example.net>"]])
    equal([event["args"] for event in milter.seen("header")],
          [["A", "1"], ["B", "2"], ["C", " 3"], ["D", "one\n two\n\tthree"]])
    equal("".join(event["args"][0] for event in milter.seen("body")), ".dot\r\n..\r\nend\r\n")
    macros = {}
    for event in milter.seen("macros"):
        macros.update(event["macros"])
    equal(macros["j"], "mx.example.org")
    equal(macros["{daemon_name}"], "smtp")
    equal(macros["{mail_addr}"], "alice@example.com")
    equal(macros["{rcpt_addr}"], "carol@example.net")
    equal(milter.errors, [])


@case("pipelined commands are answered in order, and a group may follow the dot")
def pipelining(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()])
    client = place.client()
    client.send("EHLO client.example.com\r\n")
    check("PIPELINING" in client.reply(), "PIPELINING is not offered")
    group = "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"
    client.send(group)
    equal([client.reply()[:3] for _ in range(4)], ["250", "250", "250", "354"])
    client.send(harness.dotted(message("one")) + group.encode())
    equal([client.reply()[:3] for _ in range(5)], ["250", "250", "250", "250", "354"])
    client.send(harness.dotted(message("two")) + b"QUIT\r\n")
    equal([client.reply()[:3] for _ in range(2)], ["250", "221"])
    equal([record.header("Subject") for record in sink.records()], [["one"], ["two"]])


@case("a session carries many messages, with resets and refusals between them")
def many_messages(place):
    sink = place.sink("--refuse-rcpt", "nobody=550 5.1.1 nobody here")
    milter = place.milter({"mail": [{"if": "refused@", "then": "reject", "else": "continue"}]})
    place.milterd(sink, [milter], listener={"max-errors": "1000"})
    client = place.client().ehlo()
    for number in range(20):
        client.expect("MAIL FROM:<refused@example.com>", "5")
        client.envelope()
        client.expect("RSET", "250")
        client.expect("MAIL FROM:<alice@example.com>", "250")
        client.expect("RCPT TO:<nobody@example.net>", "550 5.1.1 nobody here")
        client.expect("RCPT TO:<bob@example.net>", "250")
        check(client.data(message(str(number))).startswith("250"), "refused")
        client.expect("NOOP", "250")
    client.expect("QUIT", "221")
    records = sink.records()
    equal([record.header("Subject")[0] for record in records], [str(number) for number in range(20)])
    check(all(record.rcpts == ["<bob@example.net>"] for record in records), "recipients")
    equal(milter.errors, [])


@case("the next hop's words reach the client")
def next_hop_words(place):
    sink = place.sink("--refuse-rcpt", "nobody=550 5.1.1 no such user here")
    place.milterd(sink)
    client = place.client().ehlo()
    client.expect("MAIL FROM:<alice@example.com>", "250")
    client.expect("RCPT TO:<nobody@example.net>", "550 5.1.1 no such user here")
    client.expect("RCPT TO:<bob@example.net>", "250")
    equal(client.data(message()), "250 2.0.0 Ok: queued as 1")


@case("a milter's refusal at each stage reaches the client in its words, and nothing reaches the next hop")
def refusals(place):
    sink = place.sink()
    replies = {"reject": "5", "tempfail": "4", "reply": "550 5.7.1 not this one"}

    def script(stage):
        def steps(session):
            subject = dict(session.headers).get("Subject", "")
            for name in replies:
                if f"{stage}-{name}" in (session.mail or [""])[0] + subject:
                    return [["reply", replies[name]]] if name == "reply" else name
            return "continue"
        return steps

    milter = place.milter({stage: script(stage) for stage in STAGES})
    place.milterd(sink, [milter], listener={"max-errors": "1000"})
    client = place.client().ehlo()
    for stage in STAGES:
        for name, wanted in replies.items():
            what = f"{name} at {stage}"
            replied = {"mail": client.say(f"MAIL FROM:<{stage}-{name}@example.com>")}
            if stage != "mail":
                replied["rcpt"] = client.say("RCPT TO:<bob@example.net>")
                if stage != "rcpt":
                    replied["data"] = client.say("DATA")
                    if stage != "data":
                        client.send(harness.dotted(message(f"{stage}-{name}")))
                        replied["dot"] = client.reply()
            where = "dot" if stage in CONTENT_STAGES else stage
            check(replied[where].startswith(wanted), f"{what}: {replied}")
            check(all(reply[0] in "23" for at, reply in replied.items() if at != where), f"{what}: {replied}")
            client.expect("RSET", "250")
            deliver(client)
    equal(len(sink.records()), len(STAGES) * len(replies), "records")
    equal(milter.errors, [])


@case("a refused recipient leaves the others")
def refused_recipient(place):
    sink = place.sink()
    milter = place.milter({"rcpt": [{"if": "no", "then": [["reply", "550 5.7.1 you not"]], "else": "continue"}]})
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    client.expect("MAIL FROM:<alice@example.com>", "250")
    client.expect("RCPT TO:<yes1@example.net>", "250")
    client.expect("RCPT TO:<no1@example.net>", "550 5.7.1 you not")
    client.expect("RCPT TO:<yes2@example.net>", "250")
    check(client.data(message()).startswith("250"), "refused")
    equal(sink.records()[0].rcpts, ["<yes1@example.net>", "<yes2@example.net>"])
    client.expect("MAIL FROM:<alice@example.com>", "250")
    client.expect("RCPT TO:<no1@example.net>", "550 5.7.1 you not")
    check(client.say("DATA")[0] == "5", "DATA without a recipient was taken")
    client.expect("RSET", "250")
    deliver(client)


@case("a refusal at connect or helo ends in 5xx before any mail")
def early_refusals(place):
    sink = place.sink()
    for stage in ("connect", "helo"):
        milter = place.milter({stage: "reject"}, name=stage)
        place.milterd(sink, [milter])
        client = place.client()
        replies = [client.greeting, client.say("EHLO client.example.com"), client.say("MAIL FROM:<alice@example.com>")]
        check(replies[-1][:1] in ("5", ""), f"{stage}: {replies}")
        check(any(reply.startswith("5") for reply in replies), f"{stage}: {replies}")
        client.stop()
        place.end(place.daemon)
    equal(sink.records(), [])


@case("a multi-line reply with percent signs arrives as lines")
def multiline(place):
    milter = place.milter({"eom": [["reply", "550-5.7.1 one\r\n550-5.7.1 100%% two\r\n550 5.7.1 three"]]})
    sink = place.sink()
    place.milterd(sink, [milter])
    equal(deliver(place.client().ehlo(), wanted="550"), "550-5.7.1 one\n550-5.7.1 100% two\n550 5.7.1 three")


@case("discard at each stage is answered with 250 and delivers nothing")
def discards(place):
    sink = place.sink()

    def script(stage):
        return lambda session: "discard" if f"<{stage}@" in (session.mail or [""])[0] else "continue"

    milter = place.milter({stage: script(stage) for stage in STAGES})
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    for stage in STAGES:
        reply = client.mail(message(stage), sender=f"<{stage}@example.com>")
        check(reply.startswith("250"), f"{stage}: {reply}")
        deliver(client, message("kept"))
    equal([record.header("Subject") for record in sink.records()], [["kept"]] * len(STAGES))
    equal(milter.errors, [])


@case("accept takes a milter out of the message, or at connect out of the session")
def accepts(place):
    sink = place.sink()

    def script(stage):
        return lambda session: "accept" if f"<{stage}@" in (session.mail or [""])[0] else "continue"

    milter = place.milter({stage: script(stage) for stage in STAGES})
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    for stage in STAGES:
        before = len(milter.events)
        reply = client.mail(message(stage), sender=f"<{stage}@example.com>")
        check(reply.startswith("250"), f"{stage}: {reply}")
        seen = [event["event"] for event in milter.events[before:] if event["event"] not in ("macros", "abort")]
        allowed = {"mail": ["mail"], "rcpt": ["mail", "rcpt"], "data": ["mail", "rcpt", "data"]}.get(stage)
        check(allowed is None or [event for event in seen if event in STAGES] == allowed, f"{stage}: {seen}")
    equal(len(sink.records()), len(STAGES), "records")
    place.end(place.daemon)
    at_connect = place.milter({"connect": "accept"}, name="early")
    place.milterd(sink, [at_connect])
    client = place.client().ehlo()
    deliver(client)
    deliver(client)
    check("mail" not in stages_seen(at_connect), stages_seen(at_connect))
    equal(len(sink.records()), len(STAGES) + 2, "records")


@case("milters are asked in order, each sees what the ones before it did, none is asked after a refusal")
def chain(place):
    sink = place.sink()
    order = []

    def script(name, more):
        def steps(session):
            order.append(name)
            return more(session) if more else "continue"
        return steps

    first = place.milter({"eom": script("first", lambda _: [["add_header", "X-First", "1"], "continue"])}, name="first")
    second = place.milter({"eom": script("second", lambda s: "reject" if "bad" in str(s.headers) else "continue")},
                          name="second")
    third = place.milter({"eom": script("third", None)}, name="third")
    place.milterd(sink, [first, second, third])
    client = place.client().ehlo()
    deliver(client, message("good"))
    equal(order, ["first", "second", "third"])
    check(["X-First", "1"] in [event["args"] for event in third.seen("header")], third.seen("header"))
    check(["X-First", "1"] not in [event["args"] for event in first.seen("header")], first.seen("header"))
    order.clear()
    deliver(client, message("bad"), "550")
    equal(order, ["first", "second"])
    deliver(client, message("good"))
    equal(len(sink.records()), 2, "records")


@case("a listener's milters are those it names, in its order")
def named_chain(place):
    sink = place.sink()
    order = []
    milters = [place.milter({"eom": lambda _, name=name: order.append(name) or "continue"}, name=name)
               for name in ("one", "two", "three")]
    place.milterd(sink, milters, listener={"milters": "three one"})
    deliver(place.client().ehlo())
    equal(order, ["three", "one"])


@case("a milter gets only the steps it wants, and one that answers nothing before the end works")
def negotiated(place):
    sink = place.sink()
    quiet = place.milter({"protocol": 0xff080, "eom": [["add_header", "X-Quiet", "1"], "continue"]}, name="quiet")
    few = place.milter({"protocol": 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x200,
                        "eom": [["add_header", "X-Few", "1"], "continue"]}, name="few")
    lead = place.milter({"protocol": 0x100000}, name="lead")
    place.milterd(sink, [quiet, few, lead])
    client = place.client().ehlo()
    for _ in range(3):
        deliver(client)
    equal([record.header("X-Quiet") + record.header("X-Few") for record in sink.records()], [["1", "1"]] * 3)
    check(set(stages_seen(few)) <= {"optneg", "eom", "abort", "quit"}, stages_seen(few))
    check(["Subject", " a test"] in [event["args"] for event in lead.seen("header")], lead.seen("header"))
    for milter in (quiet, few, lead):
        equal(milter.errors, [])


@case("SKIP ends the body for that milter only")
def skip(place):
    sink = place.sink()
    skipping = place.milter({"protocol": 0x400, "body": "skip"}, name="skipping")
    reading = place.milter(name="reading")
    place.milterd(sink, [skipping, reading])
    body = "0123456789abcdef\r\n" * 20000
    deliver(place.client().ehlo(), message(body=body))
    equal(len(skipping.seen("body")), 1, "chunks")
    equal("".join(event["args"][0] for event in reading.seen("body")), body)
    equal(sink.records()[0].body, body.encode())


@case("a milter that asks for macros gets those")
def symlists(place):
    sink = place.sink()
    milter = place.milter({"symlists": {"connect": "j", "mail": "{mail_addr}", "eom": "i"}})
    place.milterd(sink, [milter])
    deliver(place.client().ehlo())
    by_stage = {event["args"][0]: sorted(event["macros"]) for event in milter.seen("macros")}
    equal(by_stage["connect"], ["j"])
    equal(by_stage["mail"], ["{mail_addr}"])
    equal(by_stage["eom"], ["i"])


@case("size limits hold, declared and real, and the session goes on")
def sizes(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()], listener={"max-message-size": "64K"})
    client = place.client()
    check("SIZE 65536" in client.say("EHLO client.example.com"), "SIZE is not offered")
    client.expect("MAIL FROM:<alice@example.com> SIZE=65537", "552")
    check(client.mail(message(body="x" * 70 + "\r\n" + "y" * 70 + "\r\n")).startswith("250"), "refused")
    reply = client.mail(message(body=("z" * 70 + "\r\n") * 1200))
    check(reply.startswith("552"), reply)
    deliver(client)
    check(client.mail(message(body=("z" * 70 + "\r\n") * 20000))[:1] in ("4", "5", ""), "far too big")
    deliver(place.client().ehlo())
    equal(len(sink.records()), 3, "records")


@case("commands out of order and bad commands are refused, and do no harm")
def bad_commands(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()], listener={"max-errors": "100", "max-recipients": "2"})
    client = place.client()
    client.expect("MAIL FROM:<alice@example.com>", "503")
    client.ehlo()
    client.expect("RCPT TO:<bob@example.net>", "503")
    client.expect("DATA", "503")
    client.expect("WHAT is this", "500")
    client.expect("MAIL FROM:alice", "501")
    client.expect("MAIL FROM:<alice@example.com> NO=SUCH", "555")
    client.expect("VRFY bob", "252")
    client.expect("MAIL FROM:<alice@example.com>", "250")
    client.expect("MAIL FROM:<alice@example.com>", "503")
    client.expect("DATA", "5")
    client.expect("RCPT TO:<>", "5")
    client.expect("RCPT TO:<a@example.net>", "250")
    client.expect("RCPT TO:<b@example.net>", "250")
    client.expect("RCPT TO:<c@example.net>", "452")
    check(client.data(message()).startswith("250"), "refused")
    equal(sink.records()[0].rcpts, ["<a@example.net>", "<b@example.net>"])


@case("the null sender, odd local parts and 8-bit paths pass as they are")
def addresses(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()])
    client = place.client().ehlo()
    for sender, rcpt in [("<>", "<bob@example.net>"), ('<"a b"@example.com>', "<postmaster>"),
                         ("<a+b=c@example.com>", '<"x>y"@example.net>')]:
        check(client.mail(message(), sender, [rcpt]).startswith("250"), sender + rcpt)
        record = sink.records()[-1]
        equal((record.sender.split(" BODY")[0].split(" SIZE")[0], record.rcpts), (sender, [rcpt]))


@case("too many errors end the session with 421")
def max_errors(place):
    place.milterd("discard:", [place.milter()], listener={"max-errors": "3"})
    client = place.client().ehlo()
    replies = [client.say("NONSENSE") for _ in range(6)]
    check(any(reply.startswith("421") for reply in replies), replies)
    equal(replies[-1], "", "the session goes on")


@case("clients that are slow or say nothing get 421 in time")
def idle_clients(place):
    place.milterd("discard:", listener={"timeout.command": "300ms", "timeout.data": "300ms"})
    client = place.client()
    check(client.reply().startswith("421"), "an idle client stays")
    equal(client.reply(), "")
    client = place.client().ehlo()
    client.envelope()
    client.expect("DATA", "354")
    client.send("Subject: half")
    check(client.reply()[:3] in ("421", "451"), "half a message stays")


@case("discard: answers 250 and every message has one line in the log")
def log_lines(place):
    place.milterd("discard:", [place.milter()])
    client = place.client().ehlo()
    for number in range(3):
        deliver(client, message(str(number)))
    lines = wait_for(lambda: len(place.daemon.messages()) >= 3 and place.daemon.messages(), "log lines")
    equal(len(lines), 3)
    for word in ("listener=smtp", "from=", "rcpts=", "size=", "milter.milter=", "verdict=", "reply=", "ms="):
        check(word in lines[0], f"{word} is not in {lines[0]}")


@case("a hundred clients at once, all open, all served")
def many_clients(place):
    sink = place.sink()
    milter = place.milter()
    place.milterd(sink, [milter], options={"pool.max": "200"}, daemon={"workers": 2, "sessions": 2})
    clients = [place.client().ehlo() for _ in range(100)]
    for client in clients:
        client.envelope()
    for client in clients:
        client.expect("DATA", "354")
    for number, client in enumerate(clients):
        client.send(harness.dotted(message(str(number))))
    for client in clients:
        check(client.reply().startswith("250"), "refused")
    equal(sorted(int(record.header("Subject")[0]) for record in sink.records()), list(range(100)))
    equal(milter.errors, [])


if __name__ == "__main__":
    harness.main()
