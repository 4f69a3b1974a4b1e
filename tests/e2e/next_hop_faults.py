#!/usr/bin/env python3
"""Next hops that fail: the client is never told 250 unless the next hop has said it, and never 5xx for doubt. TAP."""

import harness
from harness import case, check, equal, message, wait_for, without_received

# Fault, first digits of the reply the client must get in the end, and how many copies the sink has then.
FAULTS = [
    ("banner:close", "451", 0), ("banner:reset", "451", 0), ("banner:say=554 5.7.1 go away", "4", 0),
    ("banner:say=421 4.3.2 busy", "4", 0), ("banner:garbage", "451", 0), ("ehlo:close", "451", 0),
    ("ehlo:garbage", "451", 0), ("ehlo:flood", "4", 0),
    ("mail:close", "451", 0), ("mail:say=451 4.3.1 full", "451 4.3.1 full", 0),
    ("mail:say=550 5.7.1 not you", "550 5.7.1 not you", 0),
    ("mail:say=421 4.3.2 bye", "4", 0), ("mail:say=354 what", "451", 0),
    ("rcpt:reset", "451", 0), ("rcpt:say=450 4.2.1 later", "450 4.2.1 later", 0),
    ("rcpt:say=550 5.1.1 nobody", "550 5.1.1 nobody", 0),
    ("rcpt:say=421 4.3.2 bye", "4", 0), ("rcpt:garbage", "451", 0), ("rcpt:say=250-x\\r\\n550 y", "451", 0),
    ("data:close", "451", 0), ("data:say=451 4.3.0 no", "451", 0), ("data:say=554 5.7.1 no", "5", 0),
    ("data:say=250 2.0.0 what", "451", 0), ("data:say=421 4.3.2 bye", "4", 0),
    ("content:reset", "451", 0), ("content:close", "451", 0),
    ("dot:say=451 4.3.0 try later", "451 4.3.0 try later", 0), ("dot:say=550 5.7.1 spam", "550 5.7.1 spam", 0),
    ("dot:say=552-5.3.4 too\\r\\n552 5.3.4 big", "552", 0), ("dot:close", "451", 0), ("dot:reset", "451", 0),
    ("dot:garbage", "451", 0), ("dot:say=354 more", "451", 0), ("dot:say=421 4.3.2 bye", "4", 0),
    ("reply:close", "451", 1), ("reply:reset", "451", 1), ("reply:garbage", "451", 1),
    ("dot:delay=300", "250", 1), ("reply:delay=300", "250", 1), ("banner:delay=200", "250", 1),
    ("rcpt:delay=200", "250", 1),
]


def send(client, content, code):
    """One message as far as it gets; the last reply."""
    for line in ("MAIL FROM:<alice@example.com>", "RCPT TO:<bob@example.net>", "DATA"):
        reply = client.say(line)
        if reply[:1] not in ("2", "3"):
            return reply
    client.send(harness.dotted(content))
    reply = client.reply()
    check(reply[:1] in "245", f"{code}: {reply}")
    return reply


@case("every fault of a next hop ends in the right reply, and no copy too many")
def faults(place):
    sinks, more = [], ""
    for number, (fault, _, _) in enumerate(FAULTS):
        sinks.append(place.sink("--fault", fault, name=f"sink{number}"))
        more += harness.section(f"listener l{number}", {
            "bind": place.listener(f"l{number}"), "mode": "0666", "next-hop": "smtp:" + sinks[-1].endpoint,
            "timeout.next-hop": "3s"})
    place.milterd("discard:", [place.milter()], more=more)
    wrong = []
    for number, (fault, wanted, copies) in enumerate(FAULTS):
        with harness.Client(place.listener(f"l{number}")) as client:
            reply = send(client.ehlo(), message(fault), fault)
            if not reply.startswith(wanted):
                wrong.append(f"{fault}: {reply!r} instead of {wanted}")
            if client.say("NOOP")[:3] not in ("250", "421", ""):
                wrong.append(f"{fault}: out of step")
        if len(sinks[number].records()) != copies:
            wrong.append(f"{fault}: {len(sinks[number].records())} copies")
    check(not wrong, "\n".join(wrong))


@case("an early reply in the content is the answer when it refuses, and never when it accepts")
def early_replies(place):
    body = "a line that makes the content long enough to be still under way when the reply comes\r\n" * 20000
    early = [("550 5.7.1 enough", "5"), ("451 4.3.0 enough", "4"), ("250 2.0.0 yes", "451")]
    for number, (said, wanted) in enumerate(early):
        fault = "content:say=" + said
        sink = place.sink("--fault", fault, name=f"sink{number}")
        place.milterd(sink, listener={"timeout.next-hop": "3s"})
        reply = place.client().ehlo().mail(message(body=body))
        check(reply.startswith(wanted), f"{fault}: {reply}")
        equal(sink.records(), [], fault)
        place.end(place.daemon)


@case("a next hop that says nothing is given up in time")
def silence(place):
    more, sinks = "", []
    stages = ("banner", "ehlo", "mail", "rcpt", "data")
    for stage in stages:
        sinks.append(place.sink("--fault", stage + ":silent", name=stage))
        more += harness.section("listener " + stage, {"bind": place.listener(stage), "mode": "0666",
                                                      "next-hop": "smtp:" + sinks[-1].endpoint,
                                                      "timeout.next-hop": "300ms"})
    place.milterd("discard:", [place.milter()], more=more)
    for stage in stages:
        with harness.Client(place.listener(stage)) as client:
            reply = send(client.ehlo(), message(), stage)
            check(reply.startswith("451"), f"{stage}: {reply}")
    check(not any(sink.records() for sink in sinks), "delivered")


@case("a next hop that is down defers mail, and takes it when it is back")
def down(place):
    place.milterd("smtp:unix:" + place.path("sink.sock"), listener={"timeout.next-hop": "1s"})
    client = place.client().ehlo()
    client.expect("MAIL FROM:<alice@example.com>", "250")
    client.expect("RCPT TO:<bob@example.net>", "451")
    client.expect("RSET", "250")
    sink = place.sink()
    check(client.mail(message()).startswith("250"), "refused")
    equal(len(sink.records()), 1)


@case("the next in the list is used when the first is down or busy")
def failover(place):
    busy = place.sink("--fault", "banner:say=421 4.3.2 busy", name="busy")
    sink = place.sink()
    place.milterd(f"smtp:unix:{place.path('nobody.sock')}, smtp:{busy.endpoint}, smtp:{sink.endpoint}")
    client = place.client().ehlo()
    for number in range(3):
        check(client.mail(message(str(number))).startswith("250"), "refused")
    equal(len(sink.records()), 3)


@case("a next hop that closes idle connections costs no mail")
def idle_close(place):
    sink = place.sink()
    place.milterd(sink)
    client = place.client().ehlo()
    check(client.mail(message("one")).startswith("250"), "refused")
    place.end(sink)
    sink = place.sink()
    check(client.mail(message("two")).startswith("250"), "refused")
    equal([record.header("Subject") for record in sink.records()], [["one"], ["two"]])


@case("a next hop without PIPELINING or 8BITMIME is spoken to accordingly")
def plain_next_hop(place):
    sink = place.sink("--no-pipelining", "--no-8bitmime")
    place.milterd(sink, [place.milter({"eom": [["add_rcpt", "<added@example.net>"], "continue"]})])
    client = place.client().ehlo()
    for number in range(3):
        reply = client.mail(message(str(number)), rcpts=["<b@example.net>", "<c@example.net>"])
        check(reply.startswith("250"), reply)
    for record in sink.records():
        equal(record.rcpts, ["<b@example.net>", "<c@example.net>", "<added@example.net>"])
        check("BODY=" not in record.sender, record.sender)


@case("when the envelope changed, what was asked before is not delivered to")
def changed_envelope(place):
    sink = place.sink("--refuse-rcpt", "refused=550 5.1.1 no")
    steps = {"added": [["add_rcpt", "<new@example.net>"]], "deleted": [["delete_rcpt", "<bob@example.net>"]],
             "sender": [["change_from", "<other@example.com>"]], "refused": [["add_rcpt", "<refused@example.net>"]],
             "nobody": [["delete_rcpt", "<bob@example.net>"], ["delete_rcpt", "<carol@example.net>"]]}
    milter = place.milter({"eom": lambda s: steps[dict(s.headers)["Subject"]] + ["continue"]})
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    rcpts = ["<bob@example.net>", "<carol@example.net>"]
    wanted = {"added": ("<alice@example.com>", [*rcpts, "<new@example.net>"]),
              "deleted": ("<alice@example.com>", rcpts[1:]), "sender": ("<other@example.com>", rcpts)}
    for what in steps:
        before = len(sink.records())
        reply = client.mail(message(what), rcpts=rcpts)
        records = sink.records()[before:]
        if what in wanted:
            check(reply.startswith("250"), f"{what}: {reply}")
            equal([(r.sender.split(" ")[0], r.rcpts) for r in records], [wanted[what]], what)
        else:
            check(reply.startswith("451" if what == "refused" else "250"), f"{what}: {reply}")
            equal(records, [], what)


@case("a message that milters made too big for the next hop is refused before its content is sent")
def grown(place):
    sink = place.sink("--size", "20000")
    milter = place.milter({"eom": [["replace_body", ("y" * 70 + "\r\n") * 500], "continue"]})
    place.milterd(sink, [milter])
    reply = place.client().ehlo().mail(message())
    check(reply[:3] in ("552", "451"), reply)
    equal(sink.records(), [])


@case("a client that leaves before the final dot gets nothing delivered")
def client_gone(place):
    sink = place.sink()
    milter = place.milter({"eom": [["delay", 0.5], "continue"]})
    place.milterd(sink, [milter])
    client = place.client().ehlo()
    client.envelope()
    client.expect("DATA", "354")
    client.send(harness.dotted(message("gone")))
    wait_for(lambda: milter.seen("eom"), "the end of message")
    client.stop()
    check(place.client().ehlo().mail(message("stayed")).startswith("250"), "refused")
    equal([record.header("Subject") for record in sink.records()], [["stayed"]])


@case("a long message to a slow next hop arrives whole")
def slow(place):
    sink = place.sink("--fault", "content:delay=500")
    place.milterd(sink)
    body = "0123456789 a line of a long message\r\n" * 100000
    check(place.client(seconds=30).ehlo().mail(message(body=body)).startswith("250"), "refused")
    check(without_received(sink.records()[0].content) == message(body=body).encode(), "differs")


if __name__ == "__main__":
    harness.main()
