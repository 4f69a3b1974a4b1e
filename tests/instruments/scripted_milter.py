#!/usr/bin/env python3
"""A milter (protocol version 2 to 6, mfdef.h) that does what a script says, right or wrong, and records what it sees.

A script is a dict, or JSON in a file: "version", "actions" (default: all but quarantine), "protocol" for the
negotiation, "symlists" ({"mail": "i"}), and per stage what to do: open (before anything is read), optneg, connect, helo, mail, rcpt, data, header, eoh, body, eom,
unknown, abort. What is not named is answered with continue, when the protocol flags promise an answer.

What to do is a list of steps. A step is a name, or a list of a name and its arguments:
  continue accept reject tempfail discard skip progress shutdown conn_fail    bare replies
  [reply, TEXT]  [quarantine, REASON]  [add_header, NAME, VALUE]  [insert_header, INDEX, NAME, VALUE]
  [change_header, INDEX, NAME, VALUE]  [replace_body, TEXT]  [change_from, PATH, ARGS]  [add_rcpt, PATH]
  [add_rcpt_par, PATH, ARGS]  [delete_rcpt, PATH]
  [delay, SECONDS]  [raw, BYTES]  close  reset  silent
  [cut, N, STEP]          only the first N bytes of what the step would send, then close
  [drip, SECONDS, STEP]   one byte at a time
  {"if": TEXT, "then": STEPS, "else": STEPS}   whether an argument of this event contains the text
As a module a stage may also be a function of the Session that returns the steps. Texts are latin-1: any byte can be said.
"""

import argparse
import json
import os
import signal
import socket
import struct
import sys
import threading

STAGES = {"O": "optneg", "C": "connect", "H": "helo", "M": "mail", "R": "rcpt", "T": "data", "L": "header", "N": "eoh",
          "B": "body", "E": "eom", "U": "unknown", "A": "abort", "K": "quit_nc", "Q": "quit"}
BARE = {"continue": "c", "accept": "a", "reject": "r", "tempfail": "t", "discard": "d", "skip": "s", "progress": "p",
        "shutdown": "4", "conn_fail": "f"}
STRINGS = {"reply": "y", "quarantine": "q", "add_header": "h", "change_from": "e", "add_rcpt": "+", "add_rcpt_par": "2",
           "delete_rcpt": "-"}
INDEXED = {"insert_header": "i", "change_header": "m"}
# The bit of the protocol flags that says a stage is not answered.
NO_REPLY = {"connect": 0x1000, "helo": 0x2000, "mail": 0x4000, "rcpt": 0x8000, "data": 0x10000, "unknown": 0x20000,
            "eoh": 0x40000, "body": 0x80000, "header": 0x80}
SYMLIST_STAGE = {"connect": 0, "helo": 1, "mail": 2, "rcpt": 3, "data": 4, "eom": 5, "eoh": 6}
CHUNK = 65535
PACKET_MAX = 65536
CONNECTIONS_MAX = 512


class End(Exception):
    """The connection is over."""


def packet(code, data=b""):
    return struct.pack(">I", len(data) + 1) + code.encode("latin-1") + data


def encode(step):
    """The bytes of a step that is a reply."""
    name, *args = [step] if isinstance(step, str) else step
    if name in BARE:
        return packet(BARE[name])
    if name == "raw":
        return args[0].encode("latin-1")
    if name == "replace_body":
        data = args[0].encode("latin-1")
        return b"".join(packet("b", data[at:at + CHUNK]) for at in range(0, max(len(data), 1), CHUNK))
    index = b""
    if name in INDEXED:
        index = struct.pack(">I", args.pop(0))
    strings = b"".join(arg.encode("latin-1") + b"\0" for arg in args if arg is not None)
    return packet({**STRINGS, **INDEXED}[name], index + strings)


class Session:
    """One connection: what has been seen so far, for scripts and for the record."""

    def __init__(self, milter, connection, number):
        self.milter = milter
        self.connection = connection
        self.number = number
        self.out = bytearray()
        self.event = None       # stage of the event in hand, and its arguments as text
        self.args = []
        self.macros = {}        # all that are known, by name as on the wire
        self.helo = None
        self.connect = None
        self.begin_message()

    def begin_message(self):
        self.mail = None
        self.rcpts = []
        self.headers = []
        self.body = bytearray()

    # What the script says.

    def run(self, steps):
        for step in [steps] if isinstance(steps, str) else steps:
            self.take_step(step)

    def take_step(self, step):
        if isinstance(step, dict):
            found = any(step["if"] in arg for arg in self.args)
            self.run(step.get("then" if found else "else", []))
            return
        name, *args = [step] if isinstance(step, str) else step
        if name == "delay":
            self.flush()
            self.milter.stopping.wait(args[0])
        elif name == "close":
            self.flush()
            raise End
        elif name == "reset":
            self.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise End
        elif name == "silent":
            self.flush()
            while self.connection.recv(65536):
                pass
            raise End
        elif name == "cut":
            self.out += encode(args[1])[:args[0]]
            self.flush()
            raise End
        elif name == "drip":
            for byte in encode(args[1]):
                self.out.append(byte)
                self.flush()
                self.milter.stopping.wait(args[0])
        else:
            self.out += encode(step)

    def flush(self):
        if self.out:
            self.connection.sendall(self.out)
            self.out.clear()

    # What the MTA says.

    def serve(self):
        """Until the end of the connection."""
        self.run(self.milter.steps("open", self) or [])
        self.flush()
        data = bytearray()
        while chunk := self.connection.recv(262144):
            data += chunk
            at = 0
            while len(data) - at >= 5:
                size, = struct.unpack_from(">I", data, at)
                if not 0 < size <= PACKET_MAX:
                    self.milter.broken(self, f"a packet of {size} bytes")
                    return
                if len(data) - at < 4 + size:
                    break
                self.take_packet(chr(data[at + 4]), bytes(data[at + 5:at + 4 + size]))
                at += 4 + size
            del data[:at]
            self.flush()

    def take_packet(self, code, data):
        if code == "D":
            self.take_macros(data)
            return
        stage = STAGES.get(code)
        if stage is None:
            self.milter.broken(self, f"unknown command {code!r}")
            raise End
        self.event = stage
        self.args = self.take_args(stage, data)
        self.milter.record(self)
        if stage == "quit":
            raise End
        steps = self.milter.steps(stage, self)
        if steps is None and stage == "optneg":
            self.out += self.milter.negotiation()
        elif steps is None and stage not in ("abort", "quit_nc"):
            steps = "continue" if not self.milter.protocol & NO_REPLY.get(stage, 0) else []
        if steps:
            self.run(steps)
        if stage in ("eom", "abort", "quit_nc"):
            self.begin_message()

    def take_macros(self, data):
        strings = data[1:].decode("latin-1").split("\0")[:-1]
        if len(strings) % 2:
            self.milter.broken(self, "a macro without a value")
        stage = STAGES.get(chr(data[0]), "?")
        macros = dict(zip(strings[::2], strings[1::2]))
        self.macros.update(macros)
        self.milter.record(self, "macros", [stage], macros)

    def take_args(self, stage, data):
        """The arguments as texts; keeps those of the message."""
        if stage == "optneg":
            return [f"{word:#x}" for word in struct.unpack(">III", data[:12])]
        if stage == "connect":
            name, _, rest = data.partition(b"\0")
            family = rest[:1].decode("latin-1")
            port, address = struct.unpack(">H", rest[1:3])[0] if rest[1:] else 0, rest[3:-1].decode("latin-1")
            self.connect = [name.decode("latin-1"), family, str(port), address]
            return self.connect
        if stage == "body":
            self.body += data
            return [data.decode("latin-1")]
        args = data.decode("latin-1").split("\0")[:-1] if data else []
        if stage == "helo":
            self.helo = args[0]
        elif stage == "mail":
            self.begin_message()
            self.mail = args
        elif stage == "rcpt":
            self.rcpts.append(args)
        elif stage == "header":
            self.headers.append(tuple(args))
        elif stage == "eom" and data:
            self.milter.broken(self, "content in the end of message")
        return args


class Milter:
    """Serves a script in threads, one per connection. endpoint: unix:/PATH or inet:ADDRESS:PORT."""

    def __init__(self, endpoint, script=None, record=None):
        self.script = script or {}
        self.protocol = self.script.get("protocol", 0)
        self.endpoint = endpoint
        self.events = []        # dicts: session, event, args, and macros where there are some
        self.errors = []        # what the MTA side did wrong
        self.connections = 0
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.open = set()
        self.file = open(record, "a", encoding="latin-1") if record else None
        self.listener = self.listen()
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def listen(self):
        if self.endpoint.startswith("unix:"):
            path = self.endpoint[5:]
            if os.path.exists(path):
                os.unlink(path)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            os.chmod(path, 0o666)
        else:
            host, port = self.endpoint.removeprefix("inet:").rsplit(":", 1)
            listener = socket.socket(socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
        listener.listen(256)
        return listener

    def accept(self):
        while not self.stopping.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
                if len(self.open) >= CONNECTIONS_MAX or self.stopping.is_set():
                    connection.close()
                    continue
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection, number), daemon=True).start()

    def serve(self, connection, number):
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            Session(self, connection, number).serve()
        except (End, OSError):
            pass
        finally:
            with self.lock:
                self.open.discard(connection)
            connection.close()

    def steps(self, stage, session):
        steps = self.script.get(stage)
        return steps(session) if callable(steps) else steps

    def negotiation(self):
        data = struct.pack(">III", self.script.get("version", 6), self.script.get("actions", 0x1df), self.protocol)
        for stage, names in self.script.get("symlists", {}).items():
            data += struct.pack(">I", SYMLIST_STAGE[stage]) + names.encode() + b"\0"
        return packet("O", data)

    def record(self, session, event=None, args=None, macros=None):
        entry = {"session": session.number, "event": event or session.event, "args": args or session.args}
        if macros is not None:
            entry["macros"] = macros
        with self.lock:
            self.events.append(entry)
            if self.file:
                self.file.write(json.dumps(entry) + "\n")
                self.file.flush()

    def broken(self, session, what):
        with self.lock:
            self.errors.append(f"session {session.number}: {what}")

    def seen(self, event=None):
        """The recorded events, all or those of one kind."""
        with self.lock:
            return [entry for entry in self.events if event in (None, entry["event"])]

    def stop(self):
        """Close everything; the socket file stays, as if the filter had died."""
        self.stopping.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.thread.join(5)
        if self.file:
            self.file.close()
            self.file = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--listen", required=True, help="unix:/PATH or inet:ADDRESS:PORT")
    parser.add_argument("--script", help="JSON file; without it everything is answered with continue")
    parser.add_argument("--record", help="file for a JSON line per event")
    options = parser.parse_args()
    script = {}
    if options.script:
        with open(options.script, encoding="utf-8") as f:
            script = json.load(f)
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    signal.signal(signal.SIGINT, lambda *_: done.set())
    with Milter(options.listen, script, options.record) as milter:
        done.wait()
    for error in milter.errors:
        print(error, file=sys.stderr)
    sys.exit(3 if milter.errors else 0)


if __name__ == "__main__":
    main()
