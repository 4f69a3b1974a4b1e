#!/usr/bin/env python3
"""The demo: milterd with OpenDKIM, rspamd and clamav-milter between a client and a next hop, and three mails.

Usage: demo.py FOLDER-OF-milterd
Prints what each milter said and what was delivered; exit status 0 when it is what everybody hopes for.
"""

import os
import re
import shutil
import smtplib
import socket
import socketserver
import sys
import tempfile
import threading
import time

import dkim
import peers

DATE = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())


class NextHop(socketserver.ThreadingTCPServer):
    """An MTA that takes everything and keeps it in .messages."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        self.messages = []
        super().__init__(("127.0.0.1", 0), NextHopSession)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class NextHopSession(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line + b"\r\n")

    def handle(self):
        self.say(b"220 next-hop.example.org ESMTP")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say(b"354 go on")
                lines = []
                for part in iter(self.rfile.readline, b".\r\n"):
                    if not part:
                        return
                    lines.append(part[1:] if part.startswith(b".") else part)
                self.server.messages.append(b"".join(lines))
                self.say(b"250 2.0.0 Ok: queued as DEMO%d" % len(self.server.messages))
            elif verb == b"QUIT":
                self.say(b"221 2.0.0 Bye")
                return
            else:
                self.say(b"250 2.0.0 Ok")


def mail(subject, body):
    return (f"From: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: {subject}\r\nDate: {DATE}\r\n"
            f"Message-ID: <{subject.replace(' ', '.')}@example.org>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=us-ascii\r\n\r\n").encode() + body + b"\r\n"


MAILS = [
    ("a clean mail", mail("a clean mail", b"Dear Bob,\r\n\r\nlunch at noon?\r\n\r\nAlice"), True),
    ("a GTUBE mail", mail("a GTUBE mail", peers.GTUBE), False),
    ("an EICAR mail", mail("an EICAR mail", peers.EICAR), False),
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_milterd(programs, base, filters, next_hop):
    where = peers.folder(base, "milterd", "root" if os.getuid() == 0 else "nobody")
    port = free_port()
    conf = os.path.join(where, "milterd.conf")
    text = f"[milterd]\nuser = nobody\nsession-user = daemon\nworker-user = bin\nhostname = mx.example.org\n" \
           f"runtime-directory = {where}\n\n" \
           f"[listener smtp]\nbind = inet:127.0.0.1:{port}\nnext-hop = smtp:inet:127.0.0.1:{next_hop.server_address[1]}\n"
    for peer in filters:
        text += f"\n[milter {peer.name}]\nsocket = unix:{peer.path}\n"
    peers.write(conf, text)
    print("Configuration:\n")
    print("    " + text.strip().replace("\n", "\n    "))
    peer = peers.Peer("milterd", [os.path.join(programs, "milterd"), "-f", conf], os.path.join(where, "log"))
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            if peer.process.poll() is not None or time.monotonic() > deadline:
                with open(peer.log, errors="replace") as f:
                    raise RuntimeError("milterd did not start:\n" + f.read())
            time.sleep(0.05)
    peer.port = port
    return peer


def send(port, content):
    """The reply to the message, as (code, text)."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.org", timeout=60) as client:
        client.ehlo()
        for code, text in (client.mail("alice@example.org"), client.rcpt("bob@example.net")):
            if code >= 300:
                return code, text.decode()
        code, text = client.data(content)
        return code, text.decode()


def log_line(log, number):
    """The log line of the message with this number, waited for."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with open(log, errors="replace") as f:
            lines = [line for line in f if "event=message" in line]
        if len(lines) > number:
            return lines[number].strip()
        time.sleep(0.05)
    return ""


def verified(message, public_key):
    return dkim.verify(message, dnsfunc=lambda name, timeout=5: public_key.encode())


def show(number, what, reply, line, delivered, public_key):
    print(f"\n{number + 1}. {what}")
    for name, verdict, ms in re.findall(r"milter\.(\S+)=([a-z]+)\S*/(\d+)", line):
        print(f"   {name:14} said {verdict} after {ms} ms")
    print(f"   client got     {reply[0]} {reply[1]}")
    if not delivered:
        print("   next hop got   nothing")
    for message in delivered:
        headers = message.split(b"\r\n\r\n")[0].decode()
        print("   next hop got   this header, DKIM signature %s:" % ("valid" if verified(message, public_key) else "BAD"))
        print("      | " + headers.replace("\r\n", "\n      | "))


def run(programs, base):
    filters = []
    milterd = None
    problems = []
    try:
        for start in (peers.start_opendkim, peers.start_rspamd, peers.start_clamav):
            filters.append(start(base))
            print(f"{filters[-1].name} is ready", flush=True)
        next_hop = NextHop()
        milterd = start_milterd(programs, base, filters, next_hop)
        public_key = filters[0].public_key
        for number, (what, content, wanted) in enumerate(MAILS):
            before = len(next_hop.messages)
            reply = send(milterd.port, content)
            delivered = next_hop.messages[before:]
            show(number, what, reply, log_line(milterd.log, number), delivered, public_key)
            if wanted and not (reply[0] == 250 and len(delivered) == 1 and verified(delivered[0], public_key)):
                problems.append(f"{what} should have been delivered with a signature")
            if not wanted and not (500 <= reply[0] < 600 and not delivered):
                problems.append(f"{what} should have been rejected")
        milterd.process.terminate()
        if milterd.process.wait(15) != 0:
            problems.append("milterd did not end well")
    finally:
        if milterd:
            print("\nmilterd logged:\n")
            with open(milterd.log, errors="replace") as f:
                print("    " + f.read().strip().replace("\n", "\n    "))
        for peer in [milterd] + filters:
            if peer:
                peer.stop()
    return problems


def main():
    base = tempfile.mkdtemp(prefix="milterd-demo.")
    os.chmod(base, 0o755)
    try:
        problems = run(os.path.abspath(sys.argv[1]), base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print()
    for problem in problems:
        print("PROBLEM:", problem)
    if not problems:
        print("The clean mail was signed and delivered, GTUBE and EICAR were rejected.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
