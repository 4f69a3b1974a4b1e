#!/usr/bin/env python3
"""Connections to milters: each serves one client under its own address, whatever the pool does with it. TAP."""

import threading

import harness
from harness import case, check, equal, message

CLIENTS = 24
MESSAGES = 5


def identify(session):
    """Says in a field for whom the milter takes this message."""
    who = f"{session.connect[3]} {session.helo} {session.mail[0]}"
    return [["add_header", "X-Client", who], "continue"]


def send_as(endpoint, number, failures):
    """One client with an address of its own: several messages, some given up half way."""
    try:
        client = harness.Client(endpoint, source=f"127.0.0.{number}")
        client.expect(f"EHLO client{number}.example.com", "250")
        for count in range(MESSAGES):
            sender = f"<user{number}.{count}@example.com>"
            if count % 2:
                client.expect("MAIL FROM:<nobody@example.com>", "250")
                client.expect("RSET", "250")
            reply = client.mail(message(f"{number} {count}"), sender=sender)
            check(reply.startswith("250"), f"client {number}: {reply}")
        client.stop()
    except Exception as error:  # pylint: disable=broad-except
        failures.append(repr(error))


@case("no client is ever judged under another's address")
def identity(place):
    sink = place.sink()
    milter = place.milter({"eom": identify})
    place.milterd(sink, [milter], {"pool.max": "64"}, {"bind": harness.free_endpoint()},
                  {"workers": 2, "sessions": 2})
    for _ in range(2):
        failures = []
        threads = [threading.Thread(target=send_as, args=(place.daemon.endpoint, number, failures))
                   for number in range(2, 2 + CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(harness.PATIENCE)
        equal(failures, [])
    records = sink.records()
    equal(len(records), 2 * CLIENTS * MESSAGES, "records")
    for record in records:
        number, count = record.header("Subject")[0].split()
        who = f"127.0.0.{number} client{number}.example.com <user{number}.{count}@example.com>"
        equal(record.header("X-Client"), [who])
    equal(milter.errors, [])


@case("milters are reached over TCP, by address and by name")
def tcp(place):
    sink = place.sink()
    endpoints = [harness.free_endpoint(), harness.free_endpoint()]
    milters = [place.milter({"eom": [["add_header", f"X-{number}", "1"], "continue"]}, f"tcp{number}", endpoint)
               for number, endpoint in enumerate(endpoints)]
    milters[1].endpoint = milters[1].endpoint.replace("127.0.0.1", "localhost")
    place.milterd(sink, milters)
    client = place.client().ehlo()
    for _ in range(3):
        check(client.mail(message()).startswith("250"), "refused")
    equal([record.header("X-0") + record.header("X-1") for record in sink.records()], [["1", "1"]] * 3)


@case("a name that does not resolve is a milter that is down")
def unknown_name(place):
    class Nowhere:
        name = "nowhere"
        endpoint = "inet:no-such-host.invalid:8891"

    sink = place.sink()
    place.milterd(sink, [Nowhere], {"timeout.connect": "2s"})
    reply = place.client().ehlo().say("MAIL FROM:<alice@example.com>")
    check(reply.startswith("4"), reply)
    check("no-such-host.invalid" in place.daemon.output(), "the log does not name the host")


@case("of several endpoints those that work are used")
def replicas(place):
    sink = place.sink()
    good = place.milter({"eom": [["add_header", "X-Good", "1"], "continue"]}, name="good")
    closing = place.milter({"open": ["close"]}, name="closing")
    good.endpoint = f"unix:{place.path('nobody.sock')}, {closing.endpoint}, {good.endpoint}"
    place.milterd(sink, [good])
    for _ in range(6):
        with harness.Client(place.daemon.endpoint) as client:
            check(client.ehlo().mail(message()).startswith("250"), "refused")
    equal([record.header("X-Good") for record in sink.records()], [["1"]] * 6)


@case("at the limit of connections messages wait their turn")
def busy_pool(place):
    sink = place.sink()
    milter = place.milter({"eom": [["delay", 0.1], "continue"]})
    place.milterd(sink, [milter], {"pool.max": "2", "pool.wait": "10s"})
    failures = []

    def one(number):
        try:
            with harness.Client(place.daemon.endpoint) as client:
                check(client.ehlo().mail(message(str(number))).startswith("250"), "refused")
        except Exception as error:  # pylint: disable=broad-except
            failures.append(repr(error))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(harness.PATIENCE)
    equal(failures, [])
    equal(len(sink.records()), 12, "records")
    check(len(milter.open) <= 2, f"{len(milter.open)} connections at pool.max = 2")


@case("clients that only sit there do not keep others from the milter")
def idle_clients(place):
    sink = place.sink()
    milter = place.milter({"eom": identify})
    place.milterd(sink, [milter], {"pool.max": "2", "pool.wait": "2s"})
    idle = [place.client().ehlo() for _ in range(6)]
    for number, client in enumerate(idle):
        reply = client.mail(message(str(number)), f"<user{number}@example.com>")
        check(reply.startswith("250"), f"client {number}: {reply}")
    for number, client in enumerate(idle):
        reply = client.mail(message(str(number)), f"<user{number}@example.com>")
        check(reply.startswith("250"), f"client {number} came back: {reply}")
    equal(len(sink.records()), 12, "records")
    for record in sink.records():
        check(record.header("X-Client")[0].endswith(record.sender.split(" ")[0]), record.header("X-Client"))


@case("with pipeline = no a command is sent after the answer to the last one", 60)
def not_pipelined(place):
    sink = place.sink()
    seen = []

    def slow(session):
        seen.append(session.event)
        return [["delay", 0.01], "continue"]

    milter = place.milter({stage: slow for stage in ("header", "eoh", "body", "eom")})
    place.milterd(sink, [milter], {"pipeline": "no"})
    body = "0123456789abcdef\r\n" * 10000
    check(place.client().ehlo().mail(message(body=body)).startswith("250"), "refused")
    equal(seen, ["header"] * 3 + ["eoh"] + ["body"] * 3 + ["eom"])
    equal(sink.records()[0].body, body.encode())


if __name__ == "__main__":
    harness.main()
