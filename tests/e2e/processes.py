"""How the processes of milterd begin, are watched and replaced, and end. TAP on standard output.

The real programs first, copied to a folder of their own; then the real master with scripted children, which do what a
broken child does and write down what they are told.
"""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("BUILDDIR", ".")
ROOT = os.geteuid() == 0
USERS = {"user": "nobody", "session-user": "daemon", "worker-user": "bin"}
WAIT = 20  # seconds until something that must happen is given up

CHILD = r'''#!/usr/bin/python3
# A child that keeps to the protocol or not, as MILTERD_TEST_CHILDREN says: "worker-0=crash session-1=stuck ...".
import os, signal, socket, struct, sys
NAMES = {10: "LISTENER", 11: "PEER", 12: "START", 13: "DRAIN"}
READY, WORKED, DRAINED, VERDICT = 15, 16, 17, 5
me = os.path.basename(sys.argv[0]).split("-")[1] + "-" + sys.argv[1]
what = dict(w.split("=") for w in os.environ.get("MILTERD_TEST_CHILDREN", "").split()).get(me, "good")
control = socket.socket(fileno=3)

def note(text):
    fd = os.open(os.environ["MILTERD_TEST_EVENTS"], os.O_WRONLY | os.O_APPEND)
    os.write(fd, f"{me} {os.getpid()} {text}\n".encode())
    os.close(fd)

def send(kind, data=b"", session=0):
    control.sendall(struct.pack(">IHHQ", len(data), kind, 0, session) + data)

note("BORN")
if what == "crash":
    sys.exit(3)
if what == "hang":
    control.recv(1 << 20)
    while control.recv(1 << 20):
        pass
    sys.exit(0)
send(READY)
if what == "again":
    send(READY)
elif what == "foreign":
    send(VERDICT)
elif what == "data":
    send(WORKED, b"1234")
elif what == "session":
    send(WORKED, b"", 7)
elif what == "garbage":
    control.sendall(b"\xff" * 64)
elif what == "works":
    send(WORKED)
pending = b""
while True:
    data, fds, flags, address = socket.recv_fds(control, 65536, 64)
    for fd in fds:
        os.close(fd)
    if not data:
        while what != "good":
            signal.pause()
        break
    pending += data
    while len(pending) >= 16:
        size, kind, count, session = struct.unpack(">IHHQ", pending[:16])
        if len(pending) < 16 + size:
            break
        body, pending = pending[16:16 + size], pending[16 + size:]
        note(NAMES.get(kind, str(kind)) + (" %d" % struct.unpack(">I", body[:4]) if size else ""))
        if kind == 13 and what != "stuck":
            send(DRAINED)
            note("LEFT")
            sys.exit(0)
'''

number = 0
failed = False


def check(condition, name, detail=""):
    global number, failed
    number += 1
    print(f"{'ok' if condition else 'not ok'} {number} - {name}", flush=True)
    if not condition:
        failed = True
        for line in str(detail).splitlines():
            print("# " + line, flush=True)
    return condition


def skip(name, why):
    global number
    number += 1
    print(f"ok {number} - {name} # SKIP {why}", flush=True)


def until(condition, seconds=WAIT):
    """Wait for a condition; its last value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.005)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def children_of(pid):
    """Living children, as {pid: "worker 0"}."""
    found = {}
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            pids = [int(p) for p in f.read().split()]
    except FileNotFoundError:
        return found
    for child in pids:
        try:
            with open(f"/proc/{child}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        for i, word in enumerate(words):
            if os.path.basename(word).startswith(b"milterd-") and len(words) > i + 1 and words[i + 1]:
                found[child] = os.path.basename(word)[8:].decode() + " " + words[i + 1].decode()
    return found


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


class Folder:
    """A folder for one daemon, which its users may enter and the master may write."""

    def __init__(self, base, name):
        self.path = os.path.join(base, name)
        os.mkdir(self.path)
        os.chmod(self.path, 0o755)
        if ROOT:
            shutil.chown(self.path, USERS["user"])

    def __truediv__(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text, mode=0o644):
        with open(self / name, "w") as f:
            f.write(text)
        os.chmod(self / name, mode)
        return self / name


def config(folder, name="milterd.conf", sessions=2, workers=2, port=None, **more):
    values = {"sessions": sessions, "workers": workers, "log": "stderr", "drain-timeout": "10s",
              "runtime-directory": folder.path}
    if ROOT:
        values.update(USERS)
    values.update({key.replace("_", "-"): value for key, value in more.items()})
    bind = "unix:" + folder / "in.sock" + (f", inet:127.0.0.1:{port}" if port else "")
    text = "[milterd]\n" + "".join(f"{k} = {v}\n" for k, v in values.items())
    return folder.write(name, text + f"\n[listener in]\nbind = {bind}\nmode = 0600\nnext-hop = discard:\nmilters = none\n")


class Daemon:
    """milterd, and what it says to a service manager."""

    def __init__(self, programs, folder, conf, children="", name="log"):
        self.log_path = folder / name
        self.events_path = folder.write(name + ".events", "", 0o666)
        self.notified = []
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify = folder / (name + ".notify")
        self.manager.bind(notify)
        os.chmod(notify, 0o777)
        self.manager.setblocking(False)
        env = dict(os.environ, NOTIFY_SOCKET=notify, MILTERD_TEST_CHILDREN=children,
                   MILTERD_TEST_EVENTS=self.events_path, PYTHONDONTWRITEBYTECODE="1")
        with open(self.log_path, "ab") as log:
            leaked = os.open("/dev/null", os.O_RDONLY)
            self.process = subprocess.Popen([os.path.join(programs, "milterd"), "-f", conf], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env, start_new_session=True,
                                            pass_fds=[leaked])
            os.close(leaked)
        self.pid = self.process.pid

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def events(self, *parts):
        """What scripted children wrote down: lines that hold all the parts."""
        with open(self.events_path) as f:
            return [line.rstrip("\n") for line in f if all(part in line for part in parts)]

    def told(self, text):
        while True:
            try:
                self.notified.append(self.manager.recv(4096).decode())
            except BlockingIOError:
                return text in self.notified

    def ready(self):
        return until(lambda: self.told("READY=1") or self.process.poll() is not None) and self.told("READY=1")

    def slot(self, name):
        """The process id in a slot, or None."""
        return next((pid for pid, slot in children_of(self.pid).items() if slot == name), None)

    def signal_and_wait(self, signo=signal.SIGTERM, seconds=WAIT):
        if self.process.poll() is None:
            self.process.send_signal(signo)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self):
        """Whatever happened, leave nothing behind."""
        children = list(children_of(self.pid))
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.manager.close()


def run(programs, *arguments):
    return subprocess.run([os.path.join(programs, "milterd"), *arguments], stdin=subprocess.DEVNULL, timeout=WAIT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", check=False)


def command_line(programs, base):
    folder = Folder(base, "command-line")
    result = run(programs, "-V")
    check(result.returncode == 0 and result.stdout.startswith("milterd "), "-V prints the version", result)
    for arguments in (["-x"], ["-f"], ["argument"]):
        result = run(programs, *arguments)
        check(result.returncode == 64 and "Usage" in result.stderr, f"{arguments[0]}: wrong usage is status 64", result)
    bad = folder.write("bad.conf", "[milterd]\nworkers = 1000\nno-such-key = 1\n[listener a]\nbind = nonsense\n"
                                   "next-hop = discard:\n[no-such-section]\n")
    for arguments in (["-n", "-f", bad], ["-f", bad], ["-T", "-f", bad]):
        result = run(programs, *arguments)
        found = [part for part in ("workers", "no-such-key", "bind", "no-such-section") if part in result.stderr]
        check(result.returncode == 78 and len(found) == 4 and not result.stdout,
              f"{arguments[0]}: status 78 and every problem of a bad configuration", result)
    result = run(programs, "-n", "-f", folder / "missing.conf")
    check(result.returncode == 78 and "missing.conf" in result.stderr, "a missing configuration is named", result)
    effective = run(programs, "-T", "-f", config(folder))
    again = folder.write("effective.conf", effective.stdout)
    check(effective.returncode == 0 and run(programs, "-n", "-f", again).returncode == 0 and
          run(programs, "-T", "-f", again).stdout == effective.stdout, "the output of -T is accepted and gives itself",
          effective)
    result = run(programs, "-n", "-f", config(folder))
    check(result.returncode == 0 and not result.stderr, "a good configuration passes silently", result)
    if ROOT:
        result = run(programs, "-f", config(folder, worker_user="no-such-user"))
        check(result.returncode == 78 and "worker-user" in result.stderr, "an unknown user is named with its option", result)
    else:
        skip("an unknown user is named with its option", "only root changes users")
    for role in ("session", "worker"):
        result = subprocess.run([os.path.join(programs, "milterd-" + role), "0"], stdin=subprocess.DEVNULL, timeout=WAIT,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        check(result.returncode == 64 and "started by milterd" in result.stdout,
              f"milterd-{role} by hand says who starts it", result)


def descriptors(pid):
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            pass
    return found


def what_children_have(daemon):
    """Problems with the descriptors, users and privileges of the children."""
    problems = []
    allowed = ("socket:", "anon_inode:", "pipe:", "/memfd:")
    with open(f"/proc/{daemon.pid}/net/unix") as f:
        listening = {line.split()[6] for line in f if line.rstrip().endswith("in.sock")}
    for pid, slot in children_of(daemon.pid).items():
        fds = descriptors(pid)
        if fds.get(0) != "/dev/null" or fds.get(1) != "/dev/null":
            problems.append(f"{slot}: standard input and output {fds.get(0)} {fds.get(1)}")
        for fd, target in fds.items():
            if fd > 2 and not target.startswith(allowed) and target != daemon.log_path:
                problems.append(f"{slot}: descriptor {fd} is {target}")
        has = any(target == f"socket:[{inode}]" for target in fds.values() for inode in listening)
        if has != slot.startswith("session"):
            problems.append(f"{slot}: {'has' if has else 'has no'} listening socket")
        status = status_of(pid)
        if status["NoNewPrivs"].strip() != "1":
            problems.append(f"{slot}: NoNewPrivs {status['NoNewPrivs']}")
        for key in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            if int(status[key], 16):
                problems.append(f"{slot}: {key} {status[key]}")
        if int(status["SigBlk"], 16):
            problems.append(f"{slot}: SigBlk {status['SigBlk']}")
    return problems


def users(daemon):
    problems = []
    expected = {"session": "session-user", "worker": "worker-user"}
    for pid, slot in list(children_of(daemon.pid).items()) + [(daemon.pid, "master")]:
        user = pwd.getpwnam(USERS[expected.get(slot.split()[0], "user")])
        status = status_of(pid)
        if status["Uid"].split() != [str(user.pw_uid)] * 4 or status["Gid"].split() != [str(user.pw_gid)] * 4:
            problems.append(f"{slot}: {status['Uid']} {status['Gid']}")
        if "0" in status["Groups"].split():
            problems.append(f"{slot}: groups {status['Groups']}")
    if int(status_of(daemon.pid)["CapEff"], 16) & ~0xe0:
        problems.append("master: CapEff " + status_of(daemon.pid)["CapEff"])
    return problems


def real(programs, base):
    folder = Folder(base, "real")
    port = free_port()
    conf = config(folder, port=port)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(folder / "in.sock")
    daemon = Daemon(programs, folder, conf)
    try:
        if not check(daemon.ready(), "READY=1 when all children are; a stale socket is replaced", daemon.log()):
            return
        check(sorted(children_of(daemon.pid).values()) == ["session 0", "session 1", "worker 0", "worker 1"],
              "as many children as configured", children_of(daemon.pid))
        check(stat.S_IMODE(os.stat(folder / "in.sock").st_mode) == 0o600, "the UNIX socket has its mode")
        # READY comes before a child has read what it was sent; nothing is lost, connections wait in the listener.
        until(lambda: not what_children_have(daemon), 5)
        problems = what_children_have(daemon)
        check(not problems, "children have nothing that is not theirs: descriptors, capabilities, signals",
              "\n".join(problems))
        if ROOT:
            problems = users(daemon)
            check(not problems, "master, sessions and workers are separate users", "\n".join(problems))
        else:
            skip("master, sessions and workers are separate users", "only root changes users")
        for slot in ("worker 1", "session 0"):
            old = daemon.slot(slot)
            os.kill(old, signal.SIGKILL)
            began = time.monotonic()
            new = until(lambda: daemon.slot(slot) not in (None, old) and daemon.slot(slot))
            took = time.monotonic() - began
            limit = 0.3 * max(1, os.getloadavg()[0] / os.cpu_count())
            check(new and took < limit, f"a killed {slot.split()[0]} is replaced within 300 ms",
                  f"{took:.3f} s of {limit:.3f} s\n{daemon.log()}")
        daemon.process.send_signal(signal.SIGHUP)
        check(until(lambda: "reload is not available yet" in daemon.log()) and daemon.process.poll() is None,
              "SIGHUP is answered in the log")
        second = config(folder, "second.conf")
        result = run(programs, "-f", second)
        check(result.returncode == 1 and "[listener in] bind: unix:" in result.stderr and "another process" in result.stderr
              and os.path.exists(folder / "in.sock"), "a second start on a UNIX socket in use is refused", result.stderr)
        other = Folder(base, "other")
        result = run(programs, "-f", config(other, port=port))
        check(result.returncode == 1 and f"[listener in] bind: inet:127.0.0.1:{port}: Address already in use" in result.stderr
              and not os.path.exists(other / "in.sock"), "a port in use is refused, with listener, address and cause",
              result.stderr)
        children = list(children_of(daemon.pid))
        status = daemon.signal_and_wait()
        check(status == 0 and not any(map(is_alive, children)), "SIGTERM drains all children, status 0",
              f"status {status}\n{daemon.log()}")
        check(daemon.told("STOPPING=1") and not os.path.exists(folder / "in.sock"),
              "the manager is told and the UNIX socket removed", daemon.notified)
    finally:
        daemon.end()


def master_dies(programs, base):
    folder = Folder(base, "master-dies")
    daemon = Daemon(programs, folder, config(folder))
    try:
        daemon.ready()
        children = list(children_of(daemon.pid))
        daemon.process.kill()
        daemon.process.wait()
        check(len(children) == 4 and until(lambda: not any(map(is_alive, children))),
              "children leave when the master is killed", daemon.log())
    finally:
        daemon.end()


def whole_group(programs, base):
    folder = Folder(base, "group")
    daemon = Daemon(programs, folder, config(folder))
    try:
        daemon.ready()
        os.killpg(daemon.pid, signal.SIGINT)
        status = daemon.signal_and_wait(0)
        check(status == 0 and "child-kill" not in daemon.log(), "Ctrl-C at the terminal drains like SIGTERM",
              f"status {status}\n{daemon.log()}")
    finally:
        daemon.end()


def scripted_programs(programs, base):
    folder = Folder(base, "scripted-programs")
    shutil.copy(os.path.join(programs, "milterd"), folder / "milterd")
    for role in ("session", "worker"):
        folder.write("milterd-" + role, CHILD, 0o755)
    return folder.path


def peers_are_joined(scripted, base):
    folder = Folder(base, "peers")
    daemon = Daemon(scripted, folder, config(folder, sessions=2, workers=3))
    try:
        if not check(daemon.ready(), "scripted children start", daemon.log()):
            return
        until(lambda: len(daemon.events("session-", "START")) == 2)
        for role, other, peers in (("session", "worker", 3), ("worker", "session", 2)):
            for slot in range(5 - peers):
                told = sorted(line.split(" ", 2)[2] for line in daemon.events(f"{role}-{slot}", "PEER"))
                check(told == [f"PEER {i}" for i in range(peers)], f"{role} {slot} has a channel to every {other}", told)
        check(len(daemon.events("LISTENER 0")) == 2 and not daemon.events("worker-", "LISTENER"),
              "every session has the listener, no worker has", daemon.events("LISTENER"))
        os.kill(daemon.slot("worker 1"), signal.SIGKILL)
        until(lambda: len(daemon.events("worker-1", "START")) == 2)
        for slot in range(2):
            told = [line.split(" ", 2)[2] for line in daemon.events(f"session-{slot}", "PEER")]
            check(told.count("PEER 1") == 2 and len(told) == 4, f"session {slot} has a new channel to the new worker", told)
        check(len(daemon.events("worker-1", "PEER")) == 4 and len(daemon.events("worker-", "PEER")) == 8,
              "the new worker has new channels, the others keep theirs", daemon.events("PEER"))
        status = daemon.signal_and_wait()
        events = daemon.events()
        left = [i for i, line in enumerate(events) if line.startswith("session-") and line.endswith("LEFT")]
        drain = [i for i, line in enumerate(events) if line.startswith("worker-") and line.endswith("DRAIN")]
        check(status == 0 and len(left) == 2 and len(drain) == 3 and max(left) < min(drain),
              "workers are drained when the last session has left", "\n".join(events))
    finally:
        daemon.end()


def crash_loop(scripted, base):
    folder = Folder(base, "crash-loop")
    daemon = Daemon(scripted, folder, config(folder), "worker-0=crash")
    try:
        until(lambda: len(daemon.events("worker-0", "BORN")) >= 4)
        delays = [word[11:] for line in daemon.log().splitlines() if "role=worker slot=0" in line
                  for word in line.split() if word.startswith("restart-ms=")]
        check(delays[:3] == ["100", "200", "400"] and "exited with status 3" in daemon.log(),
              "a child that dies before its first job is restarted later and later", daemon.log())
        check(len(daemon.events("worker-1", "BORN")) == 1 and len(daemon.events("session-", "START")) == 2 and
              not daemon.told("READY=1"), "the others go on meanwhile", "\n".join(daemon.events()))
        status = daemon.signal_and_wait()
        check(status == 0, "SIGTERM ends it also while a child waits for its start", daemon.log())
    finally:
        daemon.end()


def illegal_reports(scripted, base):
    for what in ("again", "foreign", "data", "session", "garbage"):
        folder = Folder(base, "illegal-" + what)
        daemon = Daemon(scripted, folder, config(folder, sessions=1, workers=1), "worker-0=" + what)
        try:
            check(until(lambda d=daemon: len(d.events("worker-0", "BORN")) >= 2) and
                  "killed by signal 9" in daemon.log(), f"a child that reports what it may not is killed: {what}",
                  daemon.log())
        finally:
            daemon.signal_and_wait()
            daemon.end()


def worked_children(scripted, base):
    folder = Folder(base, "worked")
    daemon = Daemon(scripted, folder, config(folder, sessions=1, workers=1), "worker-0=works")
    try:
        daemon.ready()
        until(lambda: daemon.events("worker-0", "START"))
        os.kill(daemon.slot("worker 0"), signal.SIGKILL)
        check(until(lambda: len(daemon.events("worker-0", "BORN")) == 2) and "restart-ms=0 " in daemon.log(),
              "a child that has worked is replaced without delay", daemon.log())
    finally:
        daemon.signal_and_wait()
        daemon.end()


def stuck_children(scripted, base):
    folder = Folder(base, "drain-timeout")
    daemon = Daemon(scripted, folder, config(folder, drain_timeout="300ms"), "session-0=stuck worker-1=stuck")
    try:
        daemon.ready()
        status = daemon.signal_and_wait()
        check(status == 0 and "drain-timeout" in daemon.log(), "drain-timeout ends those who do not", daemon.log())
    finally:
        daemon.end()
    folder = Folder(base, "second-signal")
    daemon = Daemon(scripted, folder, config(folder, drain_timeout="1h"), "session-0=stuck")
    try:
        daemon.ready()
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: daemon.events("session-0", "DRAIN"))
        status = daemon.signal_and_wait()
        check(status == 0 and "second request to stop" in daemon.log(), "a second SIGTERM does not wait", daemon.log())
    finally:
        daemon.end()


def never_ready(daemon):
    check(until(lambda: "not ready in time" in daemon.log()) and daemon.process.poll() is None and
          until(lambda: len(daemon.events("worker-0", "BORN")) >= 2), "a child that is not ready in 10 s is replaced",
          daemon.log())


def main():
    missing = [p for p in ("milterd", "milterd-session", "milterd-worker") if not os.path.exists(os.path.join(BUILD, p))]
    if missing:
        print("Bail out! not built: " + " ".join(missing))
        return 1
    base = tempfile.mkdtemp(prefix="milterd-processes.")
    os.chmod(base, 0o755)
    try:
        programs = Folder(base, "programs").path
        for program in ("milterd", "milterd-session", "milterd-worker"):
            shutil.copy(os.path.join(BUILD, program), programs)
        scripted = scripted_programs(programs, base)
        folder = Folder(base, "never-ready")
        hanging = Daemon(scripted, folder, config(folder, sessions=1, workers=1, drain_timeout="0s"), "worker-0=hang")
        try:
            command_line(programs, base)
            real(programs, base)
            master_dies(programs, base)
            whole_group(programs, base)
            for test in (peers_are_joined, crash_loop, illegal_reports, worked_children, stuck_children):
                test(scripted, base)
            never_ready(hanging)
        finally:
            hanging.signal_and_wait()
            hanging.end()
    finally:
        shutil.rmtree(base, ignore_errors=True)
        print(f"1..{number}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
