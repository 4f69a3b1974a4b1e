#!/usr/bin/env python3
"""Limits: what is too much is refused in words, harms nobody else, and what is allowed works to the last byte. TAP."""

import os
import socket
import threading
import time

import harness
from harness import case, check, equal, message, wait_for, without_received


@case("a thousand recipients, and not one more")
def recipients(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()])
    client = place.client().ehlo()
    client.expect("MAIL FROM:<alice@example.com>", "250")
    rcpts = [f"<rcpt{number}@example.net>" for number in range(1000)]
    client.send("".join(f"RCPT TO:{rcpt}\r\n" for rcpt in rcpts))
    for rcpt in rcpts:
        reply = client.reply()
        check(reply.startswith("250"), f"{rcpt}: {reply}")
    client.expect("RCPT TO:<more@example.net>", "452")
    check(client.data(message()).startswith("250"), "refused")
    equal(sink.records()[0].rcpts, rcpts)


@case("a header that cannot be shown to a milter is not delivered unseen")
def long_fields(place):
    sink = place.sink()
    milter = place.milter()
    place.milterd(sink, [milter], listener={"max-errors": "100"})
    for size in (50000, 60000, 65500, 65536, 70000, 200000):
        with harness.Client(place.daemon.endpoint) as client:
            field = "X-Long: " + "\r\n ".join(["v" * 900] * (size // 900))
            reply = client.ehlo().mail(message(headers=field + "\r\n"))
        shown = [event["args"][1] for event in milter.seen("header") if event["args"][0] == "X-Long"]
        delivered = [record.header("X-Long")[0] for record in sink.new_records()]
        check(reply[:1] in ("2", "5"), f"{size}: {reply}")
        check((reply[:1] == "2") == bool(delivered), f"{size}: {reply} and {len(delivered)} delivered")
        if delivered:
            equal(len(shown[-1].replace("\n", "\r\n")), len(delivered[0]), f"{size}: the milter was shown")
    equal(milter.errors, [])


@case("many fields, many bytes of header: refused or whole")
def many_fields(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()], {"timeout.message": "30s"}, {"max-errors": "100"})
    for count in (500, 2000, 20000):
        with harness.Client(place.daemon.endpoint) as client:
            content = message(headers="".join(f"X-{number}: {'v' * 20}\r\n" for number in range(count)))
            reply = client.ehlo().mail(content)
        records = sink.new_records()
        check(reply[:1] in ("2", "5"), f"{count}: {reply}")
        check((reply[:1] == "2") == bool(records), f"{count}: {reply}")
        if records:
            check(without_received(records[0].content) == content.encode(), f"{count}: differs")


@case("NUL is refused, and a line of a mebibyte is refused or arrives whole")
def odd_lines(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()], listener={"max-errors": "100"})
    client = place.client().ehlo()
    check(client.mail(message(body="a\0b\r\n")).startswith("5"), "NUL in the body")
    check(client.mail(message("a\0b")).startswith("5"), "NUL in the header")
    content = message(body="x" * (1 << 20) + "\r\n")
    reply = client.mail(content)
    check(reply[:1] in ("2", "5"), reply)
    records = sink.records()
    check((reply[:1] == "2") == bool(records), reply)
    check(not records or without_received(records[0].content) == content.encode(), "differs")


@case("when there is no memory left for content, mail is deferred with 452 and later taken")
def memory(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()], daemon={"buffer-memory": "2M"})
    clients = [place.client().ehlo() for _ in range(6)]
    half = message(body="0123456789 a line of content\r\n" * 30000)
    replies = []
    for client in clients:
        client.envelope()
        replies.append(client.say("DATA"))
        if replies[-1].startswith("354"):
            client.send(half)
    finals = []
    for client, reply in zip(clients, replies):
        if reply.startswith("354"):
            client.send("the end\r\n.\r\n")
            finals.append(client.reply())
    check(all(reply.startswith(("354", "452")) for reply in replies), replies)
    check(all(reply.startswith(("250", "452")) for reply in finals), finals)
    check(any(reply.startswith("452") for reply in replies + finals), "6 MiB fitted into 2 MiB")
    equal(len(sink.records()), len([reply for reply in finals if reply.startswith("250")]), "records")
    for client in clients:
        check(client.mail(message("small")).startswith("250"), "nothing is taken any more")


@case("above max-sessions a client is told 421 and nobody else is disturbed")
def sessions(place):
    place.milterd("discard:", listener={"max-sessions": "3"})
    wait_for(lambda: place.client().greeting.startswith("220"), "a free session")
    clients = place.started[-1:] + [place.client() for _ in range(2)]
    refused = place.client()
    check(refused.greeting.startswith("421"), refused.greeting)
    equal(refused.reply(), "")
    clients[0].ehlo()
    clients[0].expect("QUIT", "221")
    wait_for(lambda: place.client().greeting.startswith("220"), "a free session")
    check(clients[1].ehlo().mail(message()).startswith("250"), "refused")


@case("with few descriptors clients wait or are refused, no processor is burnt, and all is well afterwards")
def descriptors(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()], through=("prlimit", "--nofile=64:64"))
    children = place.daemon.children("milterd-")
    clients = []
    for _ in range(150):
        clients.append(harness.connect(place.daemon.endpoint))
        clients[-1].setblocking(False)
        clients[-1].sendall(b"EHLO client.example.com\r\nMAIL FROM:<alice@example.com>\r\n")

    def ticks():
        return sum(int(field) for pid in children
                   for field in harness.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[11:13])

    time.sleep(0.5)
    before = ticks()
    time.sleep(1)
    check((ticks() - before) / os.sysconf("SC_CLK_TCK") < 0.2, "a processor is burnt while there is no descriptor")
    for client in clients:
        client.close()
    wait_for(lambda: place.client().greeting.startswith("220"), "a free session")
    check(place.client().ehlo().mail(message()).startswith("250"), "refused")
    equal(place.daemon.children("milterd-"), children, "children")
    check(len(place.daemon.output()) < 1000000, "the log is flooded")


@case("a client that sends a byte at a time is served, and does not slow down others")
def drip(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()])
    slowest = []
    done = threading.Event()

    def others():
        with harness.Client(place.daemon.endpoint) as client:
            client.ehlo()
            while not done.is_set():
                began = time.monotonic()
                check(client.mail(message("fast")).startswith("250"), "refused")
                slowest.append(time.monotonic() - began)

    thread = threading.Thread(target=others)
    thread.start()
    client = place.client()
    for byte in b"EHLO client.example.com\r\n":
        client.send(bytes([byte]))
    check(client.reply().startswith("250"), "EHLO")
    client.envelope()
    client.expect("DATA", "354")
    for byte in harness.dotted(message("slow", body=".\r\n..\r\nbody\r\n")):
        client.send(bytes([byte]))
    reply = client.reply()
    done.set()
    thread.join(harness.PATIENCE)
    check(reply.startswith("250"), reply)
    check(slowest and max(slowest) < 1, f"{max(slowest or [99]):.2f} s")
    slow = [record for record in sink.records() if record.header("Subject") == ["slow"]]
    equal([without_received(record.content) for record in slow], [message("slow", body=".\r\n..\r\nbody\r\n").encode()])


@case("a client that closes its side behind the dot gets a true answer")
def half_close(place):
    sink = place.sink()
    place.milterd(sink, [place.milter()])
    client = place.client().ehlo()
    client.envelope()
    client.expect("DATA", "354")
    client.send(harness.dotted(message()))
    client.socket.shutdown(socket.SHUT_WR)
    reply = client.reply()
    check(reply[:1] in ("2", "4"), reply)
    equal(len(sink.records()), 1 if reply[:1] == "2" else 0, reply)


@case("a client that reads nothing does not stop the others")
def deaf(place):
    place.milterd("discard:", [place.milter()], listener={"max-errors": "100000"})
    client = place.client().ehlo()
    client.socket.settimeout(1)
    try:
        for _ in range(2000):
            client.socket.sendall(b"NOOP\r\n" * 1000)
    except TimeoutError:
        pass
    for _ in range(3):
        check(place.client().ehlo().mail(message()).startswith("250"), "refused")


if __name__ == "__main__":
    harness.main()
