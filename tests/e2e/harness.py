"""What the end-to-end tests share: TAP, a folder per case, milterd and the instruments in it, an SMTP client.

A case is a function with the decorator @case("the rule it tests"); it gets a Place and fails by an exception. Everything
that a Place starts is stopped with it, by process id; every wait has a deadline.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.environ.get("BUILDDIR", os.getcwd())
SOURCE = os.environ.get("SRCDIR", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(SOURCE, "tests", "instruments"))

# pylint: disable=wrong-import-position
import scripted_milter  # noqa: E402
import spool  # noqa: E402

PATIENCE = 15           # seconds for anything that should take milliseconds
CASE_LIMIT = 180        # seconds
SHOWN_LINES = 40
cases = []


class Skip(Exception):
    """What the case needs is not there."""


def case(rule, seconds=CASE_LIMIT):
    def add(function):
        cases.append((rule, function, seconds))
        return function
    return add


def check(condition, what):
    """Fail with these words unless the condition holds."""
    if not condition:
        raise AssertionError(what)


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"{what}\n  got    {got!r}\n  wanted {wanted!r}")


def wait_for(condition, what, seconds=PATIENCE):
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.01)
    return value


def connect(endpoint, source=None):
    """A connected socket: unix:/PATH or inet:ADDRESS:PORT, then from this address."""
    if endpoint.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(endpoint[5:])
        return connection
    host, port = endpoint.removeprefix("inet:").rsplit(":", 1)
    return socket.create_connection((host, int(port)), PATIENCE, (source, 0) if source else None)


def answers(endpoint):
    """Whether somebody listens there."""
    try:
        connect(endpoint).close()
    except OSError:
        return False
    return True


def free_endpoint():
    """A TCP endpoint on loopback that nobody uses at the moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return "inet:127.0.0.1:%d" % s.getsockname()[1]


class Process:
    """A program with its output in a file."""

    def __init__(self, argv, log):
        self.log = log
        self.argv = argv
        with open(log, "ab") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            start_new_session=True)

    def output(self):
        return read_text(self.log)

    def stop(self, seconds=PATIENCE):
        """Ask it to end, kill it and what it started when it does not; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


class Sink(Process):
    """The next hop: tests/instruments/sink.c."""

    def __init__(self, place, name, options, endpoint=None):
        self.spool = place.path(name + ".spool")
        self.seen = 0
        self.endpoint = endpoint or "unix:" + place.path(name + ".sock")
        super().__init__([os.path.join(BUILD, "tests/instruments/sink"), "--listen", self.endpoint, "--spool",
                          self.spool, *options], place.path(name + ".log"))
        wait_for(lambda: answers(self.endpoint), "the sink")

    def records(self):
        """All messages."""
        return list(spool.read(self.spool))

    def new_records(self):
        """The messages since the last call."""
        records = list(spool.read(self.spool, self.seen))
        self.seen = records[-1].end if records else self.seen
        return records

    def stop(self, seconds=PATIENCE):
        was_running = self.process.poll() is None
        status = super().stop(seconds)
        check(not was_running or status == 0, f"the sink ended with {status}: {self.output()[-2000:]}")
        return status


class Daemon(Process):
    """milterd itself."""

    def __init__(self, place, text, endpoint, through):
        self.conf = place.path("milterd.conf")
        self.endpoint = endpoint
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(text)
        super().__init__([*through, os.path.join(BUILD, "milterd"), "-f", self.conf], place.path("milterd.log"))
        try:
            wait_for(self.greets, "milterd's greeting")
        except AssertionError:
            super().stop(1)
            raise

    def greets(self):
        """Whether it answers clients; it must not have ended."""
        check(self.process.poll() is None, f"milterd ended with {self.process.poll()}")
        try:
            with Client(self.endpoint) as client:
                return client.greeting[:1] in ("2", "4", "5")
        except OSError:
            return False

    def children(self, role):
        """Process ids of the session or worker processes, newest last."""
        pids = [int(pid) for pid in read_text(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split()]
        return [pid for pid in pids if role in read_text(f"/proc/{pid}/cmdline")]

    def messages(self):
        """The log lines of finished messages."""
        return [line for line in self.output().split("\n") if "event=message" in line]

    def stop(self, seconds=PATIENCE):
        """Ends it; that must be orderly, and nothing may have been found wrong meanwhile."""
        status = super().stop(seconds)
        output = self.output()
        for sign in ("Sanitizer", "runtime error:", "Assertion", "BUG"):
            found = [line for line in output.split("\n") if sign in line]
            check(not found, f"milterd's log: {found[:3]}")
        check(status == 0, f"milterd ended with {status}")
        return status


def read_text(path):
    """"" when the file is not there."""
    try:
        with open(path, encoding="latin-1") as f:
            return f.read()
    except OSError:
        return ""


class Place:
    """A folder for one case, and what was started in it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="milterd-test.")
        os.chmod(self.folder, 0o755)
        os.mkdir(self.path("run"))
        os.chmod(self.path("run"), 0o777)
        self.started = []
        self.daemon = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def keep(self, started):
        self.started.append(started)
        return started

    def sink(self, *options, name="sink", endpoint=None):
        return self.keep(Sink(self, name, options, endpoint))

    def milter(self, script=None, name="milter", endpoint=None):
        milter = scripted_milter.Milter(endpoint or "unix:" + self.path(name + ".sock"), script)
        milter.name = name
        return self.keep(milter)

    def program(self, name, *argv):
        """One of our own programs; name: below the build folder."""
        return self.keep(Process([os.path.join(BUILD, name), *argv], self.path(os.path.basename(name) + ".log")))

    def listener(self, name="smtp"):
        """The endpoint of a listener of milterd."""
        return "unix:" + self.path(f"run/{name}.sock")

    def milterd(self, next_hop, milters=(), options=None, listener=None, daemon=None, more="", through=()):
        """Start it with the listener smtp. next_hop: an endpoint, a Sink or "discard:". milters: with name and endpoint.
        options: of each milter, or by its name. listener, daemon: their options. more: the end of the file.
        through: a command that starts it."""
        endpoint = (listener or {}).get("bind", self.listener())
        if hasattr(next_hop, "endpoint"):
            next_hop = "smtp:" + next_hop.endpoint
        text = section("milterd", {"hostname": "mx.example.org", "log": "stderr", "workers": 1, "sessions": 1,
                                   "drain-timeout": "5s", "runtime-directory": self.path("run"), **accounts(), **(daemon or {})})
        text += section("listener smtp", {"bind": endpoint, "mode": "0666", "next-hop": next_hop, "resolve": "no",
                                            **(listener or {})})
        for milter in milters:
            own = (options or {}).get(milter.name, {})
            common = {key: value for key, value in (options or {}).items() if not isinstance(value, dict)}
            text += section("milter " + milter.name, {"socket": milter.endpoint, **common, **own})
        self.daemon = self.keep(Daemon(self, text + more, endpoint, through))
        return self.daemon

    def client(self, **options):
        return self.keep(Client(self.daemon.endpoint, **options))

    def end(self, started):
        """Stop one of them now."""
        self.started.remove(started)
        started.stop()

    def stop(self, quietly=False):
        """Everything, in reverse order. The first thing that did not end well is raised, unless quietly."""
        failure = None
        for started in reversed(self.started):
            try:
                started.stop()
            except Exception as error:  # pylint: disable=broad-except
                failure = failure or error
        self.started.clear()
        if failure and not quietly:
            raise failure

    def diagnostics(self):
        """The ends of all logs."""
        lines = []
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(".log") or name == "milterd.conf":
                lines += [f"--- {name}", *read_text(self.path(name)).split("\n")[-SHOWN_LINES:]]
        return "\n".join(lines)


def section(name, options):
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()) + "\n"


def accounts():
    """Started as root, milterd needs accounts; every Debian system has these."""
    return {"user": "nobody", "session-user": "daemon", "worker-user": "bin"} if os.getuid() == 0 else {}


class Client:
    """An SMTP client that says what it is told. A reply is its text: lines joined by LF, without the last CRLF."""

    def __init__(self, endpoint, seconds=PATIENCE, source=None):
        self.socket = connect(endpoint, source)
        self.socket.settimeout(seconds)
        self.input = b""
        self.greeting = self.reply()

    def send(self, data):
        """A connection that has been closed shows in the next reply."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def reply(self):
        """The next reply; "" at the end of the connection."""
        lines = []
        while True:
            line, found, rest = self.input.partition(b"\r\n")
            if not found:
                try:
                    data = self.socket.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    return "\n".join(lines)
                self.input += data
                continue
            self.input = rest
            lines.append(line.decode("latin-1"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def say(self, line):
        self.send(line + "\r\n")
        return self.reply()

    def expect(self, line, code):
        """Say a line that must be answered with a reply that begins like this."""
        reply = self.say(line)
        check(reply.startswith(code), f"{line} was answered with {reply!r} instead of {code}")
        return reply

    def ehlo(self):
        self.expect("EHLO client.example.com", "250")
        return self

    def envelope(self, sender="<alice@example.com>", rcpts=("<bob@example.net>",)):
        self.expect(f"MAIL FROM:{sender}", "250")
        for rcpt in rcpts:
            self.expect(f"RCPT TO:{rcpt}", "250")

    def data(self, content):
        """DATA and the content, whose dots are doubled here; the reply to the dot."""
        self.expect("DATA", "354")
        self.send(dotted(content))
        return self.reply()

    def mail(self, content, sender="<alice@example.com>", rcpts=("<bob@example.net>",)):
        self.envelope(sender, rcpts)
        return self.data(content)

    def stop(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def dotted(content):
    """The content as it goes over the wire, the final dot included."""
    content = content if isinstance(content, bytes) else content.encode("latin-1")
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


def message(subject="a test", body="Hello.\r\n", headers=""):
    return ("From: Alice <alice@example.com>\r\nTo: Bob <bob@example.net>\r\n"
            f"Subject: {subject}\r\n{headers}\r\n{body}")


def without_received(content):
    """The content below our own Received field, which must be the first one."""
    lines = content.split(b"\r\n")
    check(lines[0].startswith(b"Received: from "), f"no Received at the top: {lines[0]!r}")
    end = next(i for i in range(1, len(lines)) if not lines[i].startswith((b" ", b"\t")))
    return b"\r\n".join(lines[end:])


def run_case(number, rule, function, seconds):
    """Whether it did not fail."""
    place = Place()
    signal.alarm(seconds)
    try:
        function(place)
        place.stop()
    except Skip as reason:
        print(f"ok {number} - {rule} # SKIP {reason}", flush=True)
        return True
    except BaseException:  # pylint: disable=broad-except
        print(f"not ok {number} - {rule}")
        signal.alarm(0)
        place.stop(quietly=True)
        for line in (traceback.format_exc() + place.diagnostics()).split("\n"):
            print("#", line)
        sys.stdout.flush()
        return False
    finally:
        signal.alarm(0)
        place.stop(quietly=True)
        if not os.environ.get("KEEP"):
            shutil.rmtree(place.folder, ignore_errors=True)
    print(f"ok {number} - {rule}", flush=True)
    return True


def on_alarm(*_):
    raise TimeoutError("the case takes too long")


def on_term(*_):
    sys.exit(1)


def main():
    """Run all cases, or those whose rule contains an argument of the command line."""
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, on_term)
    chosen = [entry for entry in cases if not sys.argv[1:] or any(word in entry[0] for word in sys.argv[1:])]
    if not os.access(os.path.join(BUILD, "milterd"), os.X_OK):
        print(f"Bail out! milterd is not built in {BUILD}")
        sys.exit(1)
    print(f"1..{len(chosen)}")
    passed = [run_case(number, *entry) for number, entry in enumerate(chosen, 1)]
    sys.exit(0 if all(passed) else 1)
