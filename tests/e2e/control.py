#!/usr/bin/env python3
"""milterctl and the control socket of the daemon: what it shows, what it does, and local users who send garbage. TAP."""

import json
import os
import pwd
import random
import socket
import struct
import subprocess

import harness
import peers
from harness import BUILD, Skip, case, check, equal, message, wait_for

GARBAGE = 100_000


def milterctl(place, *words, json_output=False, **popen):
    """Exit status, standard output, standard error."""
    argv = [os.path.join(BUILD, "milterctl"), "-f", place.path("milterd.conf")]
    done = subprocess.run(argv + (["--json"] if json_output else []) + list(words), capture_output=True, text=True,
                          timeout=60, check=False, **popen)
    return done.returncode, done.stdout, done.stderr


def status(place):
    code, out, err = milterctl(place, "status", json_output=True)
    equal((code, err), (0, ""))
    return json.loads(out)


def milter_of(place, name="milter"):
    return next(m for m in status(place)["milters"] if m["name"] == name)


@case("status shows processes, sessions, messages by outcome, and milters with their connections")
def shows(place):
    milter = place.milter()
    place.milterd(place.sink(), [milter], {"pool.min": 1})
    wait_for(lambda: milter_of(place)["spare"] == 1, "a spare connection")
    client = place.client().ehlo()
    check(client.mail(message()).startswith("250"), "refused")
    wait_for(lambda: milter_of(place)["bound"] == 1, "the connection of the session")
    client.envelope()
    wait_for(lambda: milter_of(place)["busy"] == 1, "the connection of the message")
    seen = status(place)
    equal([(p["role"], p["slot"], p["state"], p["restarts"]) for p in seen["processes"]],
          [("session", 0, "running", 0), ("worker", 0, "running", 0)])
    equal([p["pid"] for p in seen["processes"]], place.daemon.children("session") + place.daemon.children("worker"))
    equal(seen["processes"][0]["sessions"], 1)
    equal(seen["messages"], {"accepted": 1, "rejected": 0, "deferred": 0, "discarded": 0, "quarantined": 0})
    equal(seen["pid"], place.daemon.process.pid)
    check(milter_of(place)["answers"] > 0 and milter_of(place)["state"] == "up", milter_of(place))
    code, out, err = milterctl(place, "status")
    equal((code, err), (0, ""))
    lines = out.split("\n")
    heads = [line.split() for line in lines if line.startswith(("PROCESS", "MILTER"))]
    equal([head[0] for head in heads], ["PROCESS", "MILTER"])
    check("\x1b" not in out and "messages: 1 accepted 0 rejected" in out, out)
    column = next(line for line in lines if line.startswith("MILTER")).index("STATE")
    equal(next(line for line in lines if line.startswith("milter "))[column:column + 2], "up")


@case("status says since when and why a milter is down, and that a killed process was replaced")
def down(place):
    milter = place.milter()
    place.milterd("discard:", [milter])
    place.end(milter)
    os.remove(milter.endpoint[5:])
    wait_for(lambda: milter_of(place)["state"] == "down", "the milter to be down")
    # A connection that was being made when the milter ended may be the first to fail, in words of its own.
    reason = f"{milter.endpoint}: connect: No such file or directory"
    wait_for(lambda: milter_of(place)["failure"] == reason, "the reason to be shown")
    check(f"ago: {milter.endpoint}: connect: No such file" in milterctl(place, "status")[1], "no reason in the text")
    os.kill(place.daemon.children("worker")[0], 9)
    wait_for(lambda: [p["restarts"] for p in status(place)["processes"]] == [0, 1], "another worker")


@case("log changes the level of every process, also of those started later")
def level(place):
    place.milterd("discard:", daemon={"log-level": "error"})
    check("event=" not in place.daemon.output().replace("event=starting", ""), "it logs already")
    equal(milterctl(place, "log", "debug")[0], 0)
    os.kill(place.daemon.children("session")[0], 9)
    wait_for(place.daemon.greets, "another session process")
    client = place.client().ehlo()
    check(client.mail(message()).startswith("250"), "refused")
    wait_for(place.daemon.messages, "the line of the message")
    equal(milterctl(place, "log", "loud")[0], 64)
    equal(milterctl(place, "log")[0], 64)


@case("stop comes back when the daemon has ended, and running messages are finished before")
def stops(place):
    place.milterd("discard:")
    equal(milterctl(place, "stop")[:2], (0, "stopped\n"))
    equal(place.daemon.process.wait(harness.PATIENCE), 0)
    equal(milterctl(place, "status")[0], 69)
    check(not os.path.exists(place.path("run/control.sock")), "its socket is left")


@case("drain waits for the client in a message, longer than drain-timeout")
def drains(place):
    place.milterd("discard:", daemon={"drain-timeout": "100ms"})
    client = place.client().ehlo()
    client.envelope()
    client.expect("DATA", "354")
    equal(milterctl(place, "drain")[:2], (0, "draining\n"))
    wait_for(lambda: status(place)["state"] == "draining", "draining")
    check(not harness.answers(place.daemon.endpoint), "it takes new clients")
    wait_for(lambda: status(place)["uptime_ms"] > 0 and status(place)["processes"][0]["state"] == "draining", "the child")
    client.send(harness.dotted(message()))
    check(client.reply().startswith("250"), "the message was lost")
    equal(place.daemon.process.wait(harness.PATIENCE), 0)


@case("wrong usage, no daemon, no permission and a wrong configuration have statuses of their own")
def statuses(place):
    place.milterd("discard:")
    equal(milterctl(place)[0], 64)
    equal(milterctl(place, "dance")[0], 64)
    equal(milterctl(place, "status", "more")[0], 64)
    equal(milterctl(place, "-s", "/nowhere", "status")[0], 69)
    with open(place.path("bad.conf"), "w", encoding="utf-8") as f:
        f.write("nonsense\n")
    argv = [os.path.join(BUILD, "milterctl"), "-f", place.path("bad.conf"), "status"]
    equal(subprocess.run(argv, capture_output=True, check=False).returncode, 78)
    if os.getuid() != 0:
        raise Skip("only root can be somebody else")
    equal(os.stat(place.path("run/control.sock")).st_mode & 0o777, 0o660)
    games = pwd.getpwnam("games")
    os.chmod(place.path("milterd.conf"), 0o644)
    as_stranger = {"user": games.pw_uid, "group": games.pw_gid, "extra_groups": []}
    equal(milterctl(place, "status", **as_stranger)[0], 77)
    # The kernel's word counts, whatever the mode of the file has become.
    os.chmod(place.path("run/control.sock"), 0o666)
    equal(milterctl(place, "status", **as_stranger)[0], 77)
    as_member = {**as_stranger, "extra_groups": [pwd.getpwnam("nobody").pw_gid]}
    equal(milterctl(place, "status", **as_member)[0], 0)


def garbage(chance):
    """What a local user may send: noise, lengths that lie, requests that are almost right."""
    kind = chance.randrange(5)
    noise = chance.randbytes(chance.randrange(64))
    if kind == 0:
        return noise
    if kind == 1:
        return struct.pack(">I", chance.choice((0, 1, 4096, 4097, 0xffffffff))) + noise
    if kind == 2:
        return struct.pack(">I", len(noise)) + noise
    if kind == 3:
        return struct.pack(">I", 7) + b"stop\0" + b"\xff\0"
    return struct.pack(">I", 40) + b"\0" * 40


@case(f"{GARBAGE} garbage messages and connections that say nothing change nothing", 300)
def hostile(place):
    place.milterd("discard:", daemon={"log-level": "warning"})
    pids = (place.daemon.process.pid, place.daemon.children("session"), place.daemon.children("worker"))
    before = len(os.listdir(f"/proc/{pids[0]}/fd"))
    chance = random.Random(1)
    path = place.path("run/control.sock")
    for _ in range(GARBAGE):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            try:
                s.send(garbage(chance))
            except OSError:
                pass
    silent = []
    for _ in range(32):
        silent.append(place.keep(Silent(path)))
    wait_for(lambda: milterctl(place, "status")[0] == 0, "an answer although all places are taken", 30)
    check(place.client().ehlo().mail(message()).startswith("250"), "refused")
    equal((place.daemon.process.pid, place.daemon.children("session"), place.daemon.children("worker")), pids)
    for s in silent:
        s.stop()
    wait_for(lambda: len(os.listdir(f"/proc/{pids[0]}/fd")) <= before, "all descriptors to be closed")
    print(f"# {GARBAGE} garbage messages: pids {pids} unchanged, {before} descriptors", flush=True)


class Silent:
    """A connection that says nothing."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)

    def stop(self):
        self.socket.close()


@case("a control socket that the configuration names must work, the usual one may be missing")
def required(place):
    with open(place.path("run/control.sock"), "w", encoding="utf-8"):
        pass
    text = harness.section("milterd", {"log": "stderr", "runtime-directory": place.path("run"), **harness.accounts()})
    text += harness.section("listener smtp", {"bind": place.listener(), "next-hop": "discard:", "milters": "none"})
    with open(place.path("milterd.conf"), "w", encoding="utf-8") as f:
        f.write(text)
    argv = [os.path.join(BUILD, "milterd"), "-f", place.path("milterd.conf")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    equal(done.returncode, 1)
    check("no socket" in done.stderr, done.stderr)


def checked(place, **popen):
    """Exit status, and the results by milter."""
    code, out, err = milterctl(place, "check", json_output=True, **popen)
    check(out, err)
    return code, {result["milter"]: result for result in json.loads(out)}


@case("check shows what milters negotiate, without a daemon")
def negotiates(place):
    milter = place.milter()
    place.milterd("discard:", [milter])
    place.end(place.daemon)
    code, results = checked(place)
    equal((code, results["milter"]["ok"], results["milter"]["version"]), (0, True, 6))
    code, out, _ = milterctl(place, "check")
    equal(code, 0)
    check(out.startswith(f"milter {milter.endpoint}: ok\n  address"), out)
    equal(milterctl(place, "check", "more")[0], 64)
    place.end(milter)
    code, results = checked(place)
    equal((code, results["milter"]["ok"]), (1, False))
    check(results["milter"]["error"].startswith("connect: "), results)
    with open(place.path("milterd.conf"), "a", encoding="utf-8") as f:
        f.write("nonsense = 1\n")
    equal(milterctl(place, "check")[0], 78)


@case("check names the user, the socket's owner, group and mode, and the group to join")
def forbidden(place):
    if os.getuid() != 0:
        raise Skip("only root can be somebody else")
    milter = place.milter()
    place.milterd("discard:", [milter])
    path = milter.endpoint[5:]
    for mode, words in ((0o660, "usermod -aG games bin"), (0o600, "the mode keeps that group out")):
        os.chown(path, 0, pwd.getpwnam("games").pw_gid)
        os.chmod(path, mode)
        code, results = checked(place)
        equal(code, 1)
        check(f"milterd is user bin here; the socket {path} has owner root, group games and mode {mode:04o}: "
              in results["milter"]["advice"] and words in results["milter"]["advice"], results)
    os.chmod(path, 0o666)
    os.chmod(place.folder, 0o700)
    results = checked(place)[1]
    check(f"the folder {place.folder} has owner root" in results["milter"]["advice"], results)
    os.chmod(place.folder, 0o755)


@case("check says of a server that is no milter what it answered")
def foreign(place):
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = type("Peer", (), {"name": "mta", "endpoint": "inet:127.0.0.1:%d" % server.getsockname()[1]})
        place.milterd("discard:", [peer], {"timeout.connect": "2s", "pool.min": 0})
        server.setblocking(False)
        argv = [os.path.join(BUILD, "milterctl"), "-f", place.path("milterd.conf"), "check"]
        accepted = []       # also the ones that the worker opened before

        def ended():
            try:
                accepted.append(server.accept()[0])
                accepted[-1].sendall(b"220 mx.example.org ESMTP\r\n")
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass
            return process.poll() is not None
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            wait_for(ended, "the answer")
            out = process.communicate(timeout=harness.PATIENCE)[0]
        for connection in accepted:
            connection.close()
        equal(process.returncode, 1)
        check("failed" in out and "220 mx" in out, out)


@case("check negotiates with real filters", 240)
def real(place):
    found = []
    for start in (peers.start_opendkim, peers.start_rspamd):
        try:
            peer = place.keep(start(place.folder))
        except peers.Missing:
            continue
        peer.endpoint = "unix:" + peer.path
        found.append(peer)
    if not found:
        raise Skip("neither OpenDKIM nor rspamd is installed")
    place.milterd("discard:", found)
    code, results = checked(place)
    equal((code, sorted(results)), (0, sorted(peer.name for peer in found)))
    for result in results.values():
        check(result["version"] == 6 and "ADDHDRS" in result["actions"], result)
    print("#", milterctl(place, "check")[1].replace("\n", "\n# "), flush=True)


if __name__ == "__main__":
    harness.main()
