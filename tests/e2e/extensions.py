#!/usr/bin/env python3
"""Extensions through the front: offered as the next hop offers them, handed on as they are. TAP."""

from harness import case, check, equal, main, message, wait_for

UTF8_RCPT = "<b\xc3\xbccher@example.net>"
EVERYTHING = ("--offer", "DSN", "--offer", "SMTPUTF8")


def offers(place):
    """The lines of the answer to EHLO, without the first."""
    with place.client() as client:
        return client.say("EHLO client.example.com").replace("250 ", "250-").split("\n250-")[1:]


def start(place, sink_options=EVERYTHING, milters=(), wanted="DSN", **options):
    """A sink and milterd, which knows what it offers."""
    sink = place.sink(*sink_options)
    place.milterd(sink, milters, **options)
    wait_for(lambda: wanted in offers(place), f"{wanted} to be offered")
    return sink


@case("what the next hop offers is offered, and a smaller size is told")
def as_the_next_hop(place):
    start(place, (*EVERYTHING, "--size", "1000000"))
    equal(offers(place), ["PIPELINING", f"SIZE {1000000 - 65536}", "8BITMIME", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES"])
    place.client().ehlo().expect(f"MAIL FROM:<a@example.com> SIZE={1000000 - 65535}", "552 5.3.4")
    place.end(place.daemon)
    sink = place.sink("--no-8bitmime", name="poor")
    place.milterd(sink)
    wait_for(lambda: "8BITMIME" not in offers(place), "8BITMIME not to be offered")
    equal([line.split()[0] for line in offers(place)], ["PIPELINING", "SIZE", "ENHANCEDSTATUSCODES"])
    client = place.client().ehlo()
    for parameter in ("BODY=8BITMIME", "RET=FULL", "SMTPUTF8"):
        client.expect(f"MAIL FROM:<a@example.com> {parameter}", "555 5.5.4")
    client.expect("MAIL FROM:<\xc3\xa9@example.com>", "553 5.6.7")
    check(client.mail(message(body="\xc3\xa9\r\n")).startswith("250"), "eight bits that nobody announced")


@case("only what all next hops of a listener have is offered")
def failover(place):
    rich = place.sink(*EVERYTHING, name="rich")
    poor = place.sink("--offer", "DSN", "--no-8bitmime", name="poor")
    place.milterd(f"smtp:{rich.endpoint}, smtp:{poor.endpoint}")
    wait_for(lambda: "8BITMIME" not in offers(place), "the second next hop to be known")
    wait_for(lambda: "DSN" in offers(place), "both next hops to be known")
    check("SMTPUTF8" not in offers(place), offers(place))


@case("DSN and SMTPUTF8 reach milters and next hop as the client said them, recipient by recipient")
def verbatim(place):
    milter = place.milter()
    sink = start(place, milters=[milter])
    client = place.client().ehlo()
    client.expect("MAIL FROM:<\xc3\xa9@example.com> RET=HDRS ENVID=a+2Bb SMTPUTF8 BODY=8BITMIME", "250")
    client.expect(f"RCPT TO:{UTF8_RCPT} NOTIFY=SUCCESS,DELAY ORCPT=utf-8;b\\x{{FC}}@example.net", "250")
    client.expect("RCPT TO:<carol@example.net> NOTIFY=NEVER ORCPT=rfc822;carol+2B1@example.net", "250")
    client.expect("RCPT TO:<dave@example.net>", "250")
    check(client.data(message("\xc3\xa9")).startswith("250"), "refused")
    record = sink.records()[0]
    equal(record.sender, "<\xc3\xa9@example.com> RET=HDRS ENVID=a+2Bb SMTPUTF8 BODY=8BITMIME")
    equal(record.rcpts, [f"{UTF8_RCPT} NOTIFY=SUCCESS,DELAY ORCPT=utf-8;b\\x{{FC}}@example.net",
                         "<carol@example.net> NOTIFY=NEVER ORCPT=rfc822;carol+2B1@example.net", "<dave@example.net>"])
    equal(milter.seen("mail")[0]["args"][1:], ["RET=HDRS", "ENVID=a+2Bb", "SMTPUTF8", "BODY=8BITMIME"])
    equal(milter.seen("rcpt")[1]["args"], ["<carol@example.net>", "NOTIFY=NEVER", "ORCPT=rfc822;carol+2B1@example.net"])
    equal(milter.errors, [])


@case("parameters stay with their path when milters change the envelope")
def edited(place):
    milter = place.milter({"eom": [["change_from", "<new@example.com>"], ["delete_rcpt", "<bob@example.net>"],
                                   ["delete_rcpt", "<carol@example.net>"], ["add_rcpt", "<carol@example.net>"],
                                   ["add_rcpt_par", "<erin@example.net>", "NOTIFY=NEVER"], "continue"]})
    sink = start(place, milters=[milter])
    client = place.client().ehlo()
    client.expect("MAIL FROM:<alice@example.com> RET=FULL ENVID=one", "250")
    for name in ("bob", "carol", "dave"):
        client.expect(f"RCPT TO:<{name}@example.net> NOTIFY=DELAY ORCPT=rfc822;{name}@old.example", "250")
    check(client.data(message()).startswith("250"), "refused")
    record = sink.records()[0]
    equal(record.sender.split(" SIZE")[0], "<new@example.com>")
    check("RET=FULL ENVID=one" in record.sender, record.sender)
    equal(sorted(record.rcpts), ["<carol@example.net> NOTIFY=DELAY ORCPT=rfc822;carol@old.example",
                                 "<dave@example.net> NOTIFY=DELAY ORCPT=rfc822;dave@old.example",
                                 "<erin@example.net> NOTIFY=NEVER"])


@case("an address of a milter that needs SMTPUTF8 gets it, or the message is deferred")
def utf8_by_milter(place):
    milter = place.milter({"eom": [["add_rcpt", UTF8_RCPT], "continue"]})
    sink = start(place, milters=[milter])
    check(place.client().ehlo().mail(message()).startswith("250"), "refused")
    check("SMTPUTF8" in sink.records()[0].sender.split(), sink.records()[0].sender)
    equal(sink.records()[0].rcpts, ["<bob@example.net>", UTF8_RCPT])
    place.end(place.daemon)
    poor = place.sink(name="poor")
    place.milterd(poor, [milter])
    reply = place.client().ehlo().mail(message())
    check(reply.startswith("451 4.3.0"), reply)
    equal(poor.records(), [])


@case("a next hop that has lost an extension defers the mail that needs it, and then it is not offered any more")
def lost(place):
    sink = start(place)
    endpoint = sink.endpoint
    client = place.client().ehlo()
    place.end(sink)
    sink = place.sink("--no-8bitmime", endpoint=endpoint, name="later")
    for mail, rcpt in (("SMTPUTF8", ""), ("BODY=8BITMIME", ""), ("", "NOTIFY=NEVER")):
        client.expect(f"MAIL FROM:<alice@example.com> {mail}", "250")
        client.expect(f"RCPT TO:<bob@example.net> {rcpt}", "451 4.3.0")
        client.expect("RSET", "250")
    check(client.mail(message()).startswith("250"), "mail that needs nothing")
    check(not {"8BITMIME", "DSN", "SMTPUTF8"} & set(offers(place)), offers(place))


@case("as long as no next hop can be asked the usual is offered, and the first connection corrects it")
def unknown(place):
    endpoint = "unix:" + place.path("later.sock")
    place.milterd("smtp:" + endpoint)
    equal([line.split()[0] for line in offers(place)], ["PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES"])
    client = place.client().ehlo()
    client.expect("MAIL FROM:<alice@example.com>", "250")
    client.expect("RCPT TO:<bob@example.net>", "451")
    place.sink(*EVERYTHING, endpoint=endpoint, name="later")
    client.expect("RCPT TO:<bob@example.net>", "250")
    check("DSN" in offers(place), offers(place))


@case("a message has a thousand recipients and no more, each with the longest of addresses and parameters")
def thousand(place):
    milter = place.milter()
    sink = start(place, milters=[milter])
    client = place.client().ehlo()
    client.expect("MAIL FROM:<>", "250")
    rcpts = [f"<{number:04}{'x' * 200}@{'y' * 40}.example> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;{'z' * 490}"
             for number in range(1001)]
    for rcpt in rcpts[:1000]:
        client.expect("RCPT TO:" + rcpt, "250")
    client.expect("RCPT TO:" + rcpts[1000], "452 4.5.3")
    check(client.data(message()).startswith("250"), "refused")
    equal(sink.records()[0].rcpts, rcpts[:1000])
    equal(sink.records()[0].sender.split(" ")[0], "<>")
    equal(len(milter.seen("rcpt")), 1000)
    equal(milter.errors, [])


if __name__ == "__main__":
    main()
