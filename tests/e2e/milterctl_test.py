#!/usr/bin/env python3
"""milterctl test: one message through the chain, explained, with scripted milters and with OpenDKIM and rspamd. TAP."""

import json
import os
import subprocess

import harness
import peers
from harness import Skip, case, check, equal, message

HEADERS = "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
MAILS = {
    "plain": message("plain", "Hello.\r\n", HEADERS),
    "dots": message("dots", ".\r\n..two\r\nend\r\n", HEADERS),
    "multipart": message("multipart", "--b\r\nContent-Type: text/plain\r\n\r\none\r\n--b--\r\n", HEADERS +
                         "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"),
    "8-bit": message("8-bit", "caf\xe9 \xc3\xa9\r\n", HEADERS),
    "folded": message("folded", "Hello.\r\n", HEADERS + "X-Folded: one\r\n two\r\n\tthree\r\n"),
    "empty": message("empty", "", HEADERS),
    "eicar": message("eicar", peers.EICAR.decode() + "\r\n", HEADERS),
    "large": message("large", "0123456789" * 7 + "\r\n" * 20000, HEADERS),
    "null sender": message("bounce", "Hello.\r\n", HEADERS),
    "many": message("many", "Hello.\r\n", HEADERS),
}
OPTIONS = {"null sender": ["--from", "<>"], "many": [f"--rcpt=r{n}@example.net" for n in range(200)]}


def configure(place, milters):
    text = harness.section("milterd", harness.accounts())
    text += harness.section("listener in", {"bind": "unix:" + place.path("in.sock"), "next-hop": "discard:"})
    for name, endpoint in milters:
        text += harness.section("milter " + name, {"socket": endpoint})
    with open(place.path("milterd.conf"), "w", encoding="utf-8") as f:
        f.write(text)


def run(place, content, *options, as_json=True, lf=False):
    """Exit status, and the object or the text that was printed."""
    content = content.encode("latin-1")
    done = subprocess.run([os.path.join(harness.BUILD, "milterctl"), "-f", place.path("milterd.conf"),
                           *(["--json"] if as_json else []), "test", *options, "-"],
                          input=content.replace(b"\r\n", b"\n") if lf else content, capture_output=True, timeout=100, check=False)
    output = done.stdout.decode("utf-8", "replace")
    return done.returncode, json.loads(output) if as_json and output else output + done.stderr.decode()


def scripted(place, script):
    milter = place.keep(harness.scripted_milter.Milter("unix:" + place.path("m.sock"), script))
    configure(place, [("m", milter.endpoint)])
    return milter


@case("every verdict has its exit status, stage and reply")
def verdicts(place):
    rows = [({}, 0, "accepted", "eom", "250"), ({"eom": "reject"}, 10, "rejected", "eom", "550"),
            ({"mail": "tempfail"}, 11, "tempfailed", "mail", "451"), ({"eom": "discard"}, 12, "discarded", "eom", "250"),
            ({"eom": [["quarantine", "odd"], "continue"]}, 13, "quarantined", "eom", "odd"),
            ({"connect": "reject"}, 10, "rejected", "connect", "550"),
            ({"rcpt": [["reply", "550 5.1.1 nobody\n"]]}, 10, "rejected", "rcpt", "550 5.1.1 nobody"),
            ({"header": "reject"}, 10, "rejected", "eom", "550")]
    for script, status, verdict, stage, reply in rows:
        milter = scripted(place, {"actions": 0x1ff, **script})
        got, report = run(place, MAILS["plain"])
        equal((got, report["verdict"], report["stage"]), (status, verdict, stage), script)
        check(report["reply"].startswith(reply), report["reply"])
        place.end(milter)


@case("the report names macros, answers, changes and the message as it would be delivered")
def explains(place):
    scripted(place, {"eom": [["add_header", "X-A", "yes"], ["add_rcpt", "<new@example.net>"], "continue"]})
    status, text = run(place, MAILS["plain"], "--output", place.path("out"), "--client", "192.0.2.7:99",
                       "--macro", "i=QUEUE", "--auth", "alice", as_json=False, lf=True)
    equal(status, 0)
    for words in ("Milter m\n", "{client_addr}=192.0.2.7", "i=QUEUE", "{auth_authen}=alice", "change: ADDHEADER X-A: yes",
                  "\n+X-A: yes\n", "\n+to <new@example.net>\n", "Verdict: accepted"):
        check(words in text, f"{words!r} is missing in {text}")
    with open(place.path("out"), "rb") as f:
        equal(harness.without_received(f.read()), MAILS["plain"].encode().replace(b"\r\n\r\n", b"\r\nX-A: yes\r\n\r\n", 1))


@case("a milter that is away is named with the reason")
def away(place):
    configure(place, [("gone", "unix:" + place.path("nothing"))])
    status, report = run(place, MAILS["plain"])
    equal((status, report["verdict"]), (11, "tempfailed"))
    check(any("No such file" in step.get("failure", "") for step in report["steps"]), report["steps"])


@case("wrong usage is 64, a file or configuration that is not there is 1, and a bad address too")
def usage(place):
    configure(place, [])
    equal(run(place, MAILS["plain"], "--nonsense", as_json=False)[0], 64)
    equal(run(place, MAILS["plain"], "--client", "no address", as_json=False)[0], 1)
    equal(run(place, MAILS["plain"], "--listener", "other", as_json=False)[0], 1)
    equal(run(place, "", as_json=False)[0], 1)


@case("ten sample mails through OpenDKIM and rspamd: signed, and the output verifies")
def samples(place):
    try:
        import dkim  # pylint: disable=import-outside-toplevel
        signer = place.keep(peers.start_opendkim(place.folder))
        scanner = place.keep(peers.start_rspamd(place.folder))
    except (peers.Missing, ImportError) as missing:
        raise Skip(f"{missing} is not installed") from None
    configure(place, [("rspamd", "unix:" + scanner.path), ("opendkim", "unix:" + signer.path)])
    for name, content in MAILS.items():
        content = content.replace("example.com", "example.org")
        status, report = run(place, content, "--output", place.path("out"), *OPTIONS.get(name, []))
        equal((name, status, report["verdict"]), (name, 0, "accepted"))
        equal({step["milter"] for step in report["steps"]}, {"rspamd", "opendkim"})
        with open(place.path("out"), "rb") as f:
            signed = f.read()
        check(b"DKIM-Signature:" in signed, f"{name} is not signed")
        check(dkim.verify(signed, dnsfunc=lambda *_, **__: signer.public_key.encode()), f"{name} does not verify")
    spam = message("spam", peers.GTUBE.decode() + "\r\n", HEADERS)
    status, report = run(place, spam)
    equal((status, report["verdict"], report["milter"]), (10, "rejected", "rspamd"))


if __name__ == "__main__":
    harness.main()
