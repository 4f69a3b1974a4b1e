"""Real milters from Debian, each started for one test in a folder of its own, on a UNIX socket, without a network.

Every start_* returns a Peer, or raises Missing when the package is not installed. Nothing of the machine's own
configuration is used or changed. As root each filter runs as the account its package made.
"""

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import time

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

# Modules of rspamd that ask the network, or remember senders.
RSPAMD_OFF = """antivirus arc asn bimi clickhouse dcc dkim dkim_signing dmarc elastic external_relay external_services
    fuzzy_check greylist hfilter history_redis metadata_exporter mx_check neural p0f phishing ratelimit rbl redis
    replies reputation rspamd_update spf surbl url_redirector""".split()


class Missing(Exception):
    """A program that is not installed."""


class Peer:
    """A running process and the socket it answers on."""

    def __init__(self, name, argv, log, path=None, timeout=60, **popen):
        self.name = name
        self.path = path
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            start_new_session=True, **popen)
        try:
            self.wait(timeout)
        except Exception:
            self.stop()
            raise

    def wait(self, timeout):
        deadline = time.monotonic() + timeout
        while self.path and not listening(self.path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log, errors="replace") as f:
                    raise RuntimeError(f"{self.name} did not start: {f.read()[-2000:]}")
            time.sleep(0.02)

    def stop(self, patience=3):
        """Ask, then kill it and the processes it started. A libmilter filter needs seconds to hear a signal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def listening(path):
    """Whether somebody accepts connections on a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Missing(name)
    return path


def account(name):
    """The keyword arguments that make Popen run as this account when we are root."""
    if os.getuid() != 0:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def folder(parent, name, owner):
    """A folder for one filter, which its account may write and anybody may pass."""
    path = os.path.join(parent, name)
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o755)
    if os.getuid() == 0:
        entry = pwd.getpwnam(owner)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


def write(path, text, owner=None):
    with open(path, "w") as f:
        f.write(text)
    if owner and os.getuid() == 0:
        entry = pwd.getpwnam(owner)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def start_opendkim(parent, domain="example.org", selector="test"):
    """Signs mail from the domain that comes from 127.0.0.1. .public_key is the TXT record's text."""
    opendkim = program("opendkim")
    where = folder(parent, "opendkim", "opendkim")
    subprocess.run([program("opendkim-genkey"), "-b", "1024", "-d", domain, "-s", selector, "-D", where], check=True)
    key = os.path.join(where, selector + ".private")
    if os.getuid() == 0:
        shutil.chown(key, "opendkim", "opendkim")
    write(os.path.join(where, "hosts"), "127.0.0.1\n")
    path = os.path.join(where, "milter.sock")
    conf = os.path.join(where, "opendkim.conf")
    write(conf, f"""Mode s
Domain {domain}
Selector {selector}
KeyFile {key}
RequireSafeKeys no
InternalHosts {where}/hosts
Socket local:{path}
Syslog no
UMask 000
Canonicalization relaxed/relaxed
""")
    peer = Peer("opendkim", [opendkim, "-f", "-x", conf], os.path.join(where, "log"), path, **account("opendkim"))
    with open(os.path.join(where, selector + ".txt")) as f:
        peer.public_key = "".join(f.read().split('"')[1::2])
    return peer


def start_rspamd(parent):
    """Refuses GTUBE. The first start takes about 20 s, because it compiles its lists."""
    rspamd = program("rspamd")
    where = folder(parent, "rspamd", "_rspamd")
    conf = os.path.join(where, "conf")
    shutil.copytree("/etc/rspamd", conf, dirs_exist_ok=True)
    local = os.path.join(conf, "local.d")
    os.makedirs(local, exist_ok=True)
    for module in RSPAMD_OFF:
        write(os.path.join(local, module + ".conf"), "enabled = false;\n")
    path = os.path.join(where, "milter.sock")
    write(os.path.join(local, "worker-proxy.inc"), f"""bind_socket = "{path} mode=0666";
milter = yes;
timeout = 120s;
upstream "local" {{ default = yes; self_scan = yes; }}
""")
    for worker in ("normal", "controller", "fuzzy"):
        write(os.path.join(local, f"worker-{worker}.inc"), "enabled = false;\n")
    write(os.path.join(local, "options.inc"), 'dns { nameserver = ["127.0.0.1:9"]; timeout = 50ms; retransmits = 1; }\n')
    write(os.path.join(local, "logging.inc"), 'type = "console"; level = "notice";\n')
    owner = account("_rspamd")
    argv = [rspamd, "-f", "-c", os.path.join(conf, "rspamd.conf")]
    argv += ["--var=CONFDIR=" + conf, "--var=LOCAL_CONFDIR=" + conf]
    argv += [f"--var={name}={where}" for name in ("DBDIR", "RUNDIR", "LOGDIR")]
    return Peer("rspamd", argv, os.path.join(where, "log"), path, timeout=120, **owner)


def start_clamav(parent):
    """clamav-milter, and its own clamd that knows one virus: EICAR. Refuses it."""
    clamd, milter = program("clamd"), program("clamav-milter")
    where = folder(parent, "clamav", "clamav")
    data = folder(where, "db", "clamav")
    write(os.path.join(data, "local.ndb"), f"Milterd.Test.EICAR:0:*:{EICAR.hex()}\n")
    daemon_socket = os.path.join(where, "clamd.sock")
    write(os.path.join(where, "clamd.conf"), f"""DatabaseDirectory {data}
LocalSocket {daemon_socket}
Foreground yes
""")
    owner = account("clamav")
    daemon = Peer("clamd", [clamd, "-c", os.path.join(where, "clamd.conf")], os.path.join(where, "clamd.log"),
                  daemon_socket, **owner)
    path = os.path.join(where, "milter.sock")
    write(os.path.join(where, "milter.conf"), f"""ClamdSocket unix:{daemon_socket}
MilterSocket unix:{path}
MilterSocketMode 666
Foreground yes
OnInfected Reject
RejectMsg virus found: %v
LogInfected Basic
""")
    try:
        peer = Peer("clamav-milter", [milter, "-c", os.path.join(where, "milter.conf")],
                    os.path.join(where, "milter.log"), path, **owner)
    except Exception:
        daemon.stop()
        raise
    stop_milter = peer.stop

    def stop():
        stop_milter()
        daemon.stop()

    peer.stop = stop
    return peer


def negotiate(path):
    """What a milter answers to OPTNEG: version, actions, protocol."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        s.sendall(struct.pack(">IcIII", 13, b"O", 6, 0x1ff, 0x1fffff))
        head = s.recv(4, socket.MSG_WAITALL)
        data = s.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
        s.sendall(struct.pack(">Ic", 1, b"Q"))
    return struct.unpack(">III", data[1:13])


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        for start in (start_opendkim, start_clamav, start_rspamd):
            began = time.monotonic()
            filter_ = start(base)
            print(filter_.name, "ready in %.1f s:" % (time.monotonic() - began), [hex(n) for n in negotiate(filter_.path)])
            sys.stdout.flush()
            filter_.stop()
