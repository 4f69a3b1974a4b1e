#!/usr/bin/env python3
"""Real milters of Debian behind milterd, one alone and all in a chain: OpenDKIM, rspamd, clamav-milter. TAP."""

import base64
import contextlib

import harness
import peers
from harness import Skip, case, check, equal, message, without_received

STARTERS = {"opendkim": peers.start_opendkim, "rspamd": peers.start_rspamd, "clamav": peers.start_clamav}


def start(place, name):
    try:
        peer = place.keep(STARTERS[name](place.folder))
    except peers.Missing as missing:
        raise Skip(f"{missing} is not installed") from None
    peer.name = name
    peer.endpoint = "unix:" + peer.path
    return peer


def verified(content, peer):
    try:
        import dkim  # pylint: disable=import-outside-toplevel
    except ImportError:
        raise Skip("python3-dkim is not installed") from None
    return dkim.verify(content, dnsfunc=lambda name, timeout=5: peer.public_key.encode())


def signed_message(subject="signed", body="Hello,\r\n\r\n .a line\r\n..\r\nbye.\r\n\r\n\r\n"):
    return message(subject, body, "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n").replace(
        "example.com", "example.org")


def infected():
    encoded = base64.b64encode(peers.EICAR).decode()
    return message("infected", f'--x\r\nContent-Type: text/plain\r\n\r\nSee there.\r\n--x\r\nContent-Type: application/'
                   f'octet-stream; name="eicar.com"\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}\r\n--x--\r\n',
                   'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="x"\r\n')


@case("OpenDKIM signs every message of a session, and the signatures are valid at the next hop")
def opendkim(place):
    peer = start(place, "opendkim")
    sink = place.sink()
    # It signs for 127.0.0.1.
    place.milterd(sink, [peer], listener={"bind": harness.free_endpoint()})
    client = place.client().ehlo()
    for number in range(5):
        reply = client.mail(signed_message(str(number)), sender="<alice@example.org>")
        check(reply.startswith("250"), reply)
    for record in sink.records():
        equal(len(record.header("DKIM-Signature")), 1, "signatures")
        check(verified(record.content, peer), "the signature is not valid")


@case("rspamd refuses GTUBE and passes the rest", 240)
def rspamd(place):
    peer = start(place, "rspamd")
    sink = place.sink()
    place.milterd(sink, [peer])
    client = place.client().ehlo()
    for _ in range(3):
        reply = client.mail(message("clean", headers="Message-ID: <1@example.com>\r\n"))
        check(reply.startswith("250"), reply)
        reply = client.mail(message("spam", peers.GTUBE.decode() + "\r\n"))
        check(reply.startswith("5"), reply)
    equal([record.header("Subject") for record in sink.records()], [["clean"]] * 3)


@case("clamav-milter refuses EICAR and passes the rest")
def clamav(place):
    peer = start(place, "clamav")
    sink = place.sink()
    place.milterd(sink, [peer])
    client = place.client().ehlo()
    for _ in range(3):
        reply = client.mail(message("clean"))
        check(reply.startswith("250"), reply)
        reply = client.mail(infected())
        check(reply.startswith("5") and "virus" in reply, reply)
    equal([record.header("Subject") for record in sink.records()], [["clean"]] * 3)
    check(without_received(sink.records()[0].content).endswith(b"\r\n\r\nHello.\r\n"), "the body is changed")


@case("all three in a chain, signing last", 240)
def chain(place):
    filters = [start(place, name) for name in ("clamav", "rspamd", "opendkim")]
    sink = place.sink()
    place.milterd(sink, filters, daemon={"workers": 2, "sessions": 2}, listener={"bind": harness.free_endpoint()})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(harness.Client(place.daemon.endpoint)).ehlo() for _ in range(8)]
        for number, client in enumerate(clients):
            check(client.mail(signed_message(str(number)), sender="<alice@example.org>").startswith("250"), "refused")
            check(client.mail(infected()).startswith("5"), "EICAR was taken")
            check(client.mail(message("spam", peers.GTUBE.decode() + "\r\n")).startswith("5"), "GTUBE was taken")
    records = sink.records()
    equal([record.header("Subject")[0] for record in records], [str(number) for number in range(8)])
    for record in records:
        check(verified(record.content, filters[2]), "the signature is not valid")


@case("a filter that is restarted is used again, and its mail deferred meanwhile")
def restart(place):
    peer = start(place, "clamav")
    sink = place.sink()
    place.milterd(sink, [peer], {"timeout.connect": "1s", "pool.wait": "1s"})
    client = place.client().ehlo()
    check(client.mail(message("one")).startswith("250"), "refused")
    place.end(peer)
    replies = [client.say("MAIL FROM:<alice@example.com>")]
    if replies[0].startswith("250"):
        replies += [client.say("RCPT TO:<bob@example.net>"), client.say("DATA")]
        if replies[-1].startswith("354"):
            client.send(harness.dotted(message("two")))
            replies.append(client.reply())
    check(any(reply.startswith("4") for reply in replies), replies)
    client.stop()
    start(place, "clamav")

    def back():
        with harness.Client(place.daemon.endpoint) as again:
            again.ehlo()
            if not again.say("MAIL FROM:<alice@example.com>").startswith("250"):
                return False
            return (again.say("RCPT TO:<bob@example.net>").startswith("250") and
                    again.data(message("three")).startswith("250"))
    harness.wait_for(back, "the filter to be used again")
    equal([record.header("Subject")[0] for record in sink.records()], ["one", "three"])


if __name__ == "__main__":
    harness.main()
