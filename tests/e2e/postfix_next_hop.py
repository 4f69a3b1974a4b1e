#!/usr/bin/env python3
"""Postfix as the next hop: its package unpacked into a folder, not installed, relaying to the sink. TAP."""

import os
import pwd
import subprocess
import sys

import harness
from harness import Skip, case, check, equal, message, wait_for

# What "postfix check" would make, and who owns it: the mail owner, or root.
QUEUES = {"active": 0, "bounce": 0, "corrupt": 0, "defer": 0, "deferred": 0, "flush": 0, "hold": 0, "incoming": 0,
          "maildrop": 0, "pid": 1, "private": 0, "public": 0, "saved": 0, "trace": 0}
OWNER = "daemon"
MASTER_CF = """{smtpd} inet n - n - 20 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - 20 smtp
relay unix - - n - 20 smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def unpack(place):
    """The folder of the unpacked package."""
    if os.getuid() != 0:
        raise Skip("Postfix needs root")
    where = place.path("postfix")
    os.mkdir(where)
    download = subprocess.run(["apt-get", "-q", "download", "postfix"], cwd=where, capture_output=True, text=True,
                              timeout=60, check=False)
    packages = [name for name in os.listdir(where) if name.endswith(".deb")]
    if not packages:
        raise Skip("the package postfix cannot be downloaded: " + download.stderr.strip().split("\n")[-1])
    subprocess.run(["dpkg", "-x", packages[0], where], cwd=where, check=True, timeout=60)
    libraries = subprocess.run(["ldd", where + "/usr/lib/postfix/sbin/smtpd"], capture_output=True, text=True,
                               check=True, env={**os.environ, "LD_LIBRARY_PATH": where + "/usr/lib/postfix"}).stdout
    missing = [line.split()[0] for line in libraries.split("\n") if "not found" in line]
    if missing:
        raise Skip(f"Postfix needs {' '.join(missing)}")
    return where


def configure(place, where, relay, options):
    """Write main.cf and master.cf; the endpoint where Postfix will listen."""
    endpoint = harness.free_endpoint()
    conf, queue = where + "/conf", where + "/queue"
    for folder in (conf, queue, where + "/data"):
        os.mkdir(folder)
    owner = pwd.getpwnam(OWNER)
    os.chown(where + "/data", owner.pw_uid, owner.pw_gid)
    for name, by_root in QUEUES.items():
        os.mkdir(f"{queue}/{name}", 0o755 if by_root else 0o700 if name not in ("public", "maildrop") else 0o730)
        if not by_root:
            os.chown(f"{queue}/{name}", owner.pw_uid, owner.pw_gid)
    settings = {
        "compatibility_level": "3.6", "queue_directory": queue, "data_directory": where + "/data",
        "command_directory": where + "/usr/sbin", "daemon_directory": where + "/usr/lib/postfix/sbin",
        "meta_directory": where + "/etc/postfix", "shlib_directory": where + "/usr/lib/postfix",
        "mail_owner": OWNER, "setgid_group": "mail", "default_privs": "nobody",
        "import_environment": "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_LIBRARY_PATH",
        "maillog_file": where + "/mail.log", "maillog_file_prefixes": where, "alias_maps": "",
        "local_recipient_maps": "", "myhostname": "postfix.example.org", "mydestination": "",
        "mynetworks": "127.0.0.0/8", "inet_interfaces": "loopback-only", "inet_protocols": "ipv4",
        "local_header_rewrite_clients": "", "disable_dns_lookups": "yes",
        "default_transport": "smtp:[127.0.0.1]:" + relay.endpoint.rsplit(":", 1)[1],
        "relay_domains": "static:all", "relay_transport": "smtp:[127.0.0.1]:" + relay.endpoint.rsplit(":", 1)[1],
        "smtpd_recipient_restrictions": "permit_mynetworks, reject", "smtpd_peername_lookup": "no", **options,
    }
    with open(conf + "/main.cf", "w", encoding="ascii") as f:
        f.writelines(f"{key} = {value}\n" for key, value in settings.items())
    with open(conf + "/master.cf", "w", encoding="ascii") as f:
        f.write(MASTER_CF.format(smtpd=endpoint.removeprefix("inet:")))
    return endpoint


def start_postfix(place, relay, **options):
    where = unpack(place)
    endpoint = configure(place, where, relay, options)
    argv = ["env", "LD_LIBRARY_PATH=" + where + "/usr/lib/postfix", where + "/usr/lib/postfix/sbin/master", "-d",
            "-c", where + "/conf"]
    process = place.keep(harness.Process(argv, place.path("postfix.log")))
    process.endpoint = endpoint
    wait_for(lambda: harness.answers(endpoint) or process.process.poll() is not None, "Postfix")
    check(process.process.poll() is None, "Postfix ended: " + process.output() + harness.read_text(where + "/mail.log"))
    return process


@case("what milters made of a message is what Postfix relays, and its refusals come through")
def mail(place):
    sink = place.sink(endpoint=harness.free_endpoint())
    postfix = start_postfix(place, sink, message_size_limit="100000",
                            smtpd_sender_restrictions="inline:{{bad@example.com=REJECT not from you}}")
    milter = place.milter({"eom": [["insert_header", 1, "X-Inserted", "1"], ["change_header", 1, "Subject", "changed"],
                                   ["replace_body", ".dot\nno dot\n"], ["add_rcpt", "<added@example.net>"],
                                   ["change_from", "<changed@example.com>"], "continue"]})
    place.milterd(postfix, [milter])
    client = place.client().ehlo()
    check("queued as" in client.mail(message()), "Postfix did not queue it")
    client.expect("MAIL FROM:<bad@example.com>", "250")
    reply = client.say("RCPT TO:<bob@example.net>")
    check(reply.startswith("554 5.7.1") and "not from you" in reply, reply)
    client.expect("RSET", "250")
    check(client.mail(message("again")).startswith("250"), "refused")
    records = wait_for(lambda: len(sink.records()) >= 2 and sink.records(), "Postfix to relay")
    for record in records:
        equal((record.sender.split(" ")[0], sorted(path.split(" ")[0] for path in record.rcpts)),
              ("<changed@example.com>", ["<added@example.net>", "<bob@example.net>"]))
        equal((record.header("X-Inserted"), record.header("Subject")), (["1"], ["changed"]))
        equal(record.body, b".dot\r\nno dot\r\n")
        equal(len(record.header("Received")), 2, "Received")


@case("a thousand messages through Postfix are all accounted for")
def load(place):
    sink = place.sink(endpoint=harness.free_endpoint())
    postfix = start_postfix(place, sink)
    place.milterd(postfix, [place.milter()])
    argv = [os.path.join(harness.BUILD, "tests/instruments/load"), "--to", place.daemon.endpoint, "--messages", "1000",
            "--sessions", "16", "--size", "500-20000", "--rcpts", "3", "--journal", place.path("journal"), "--spool",
            place.path("sent.spool")]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    equal(result.returncode, 0, result.stdout)
    wait_for(lambda: len(sink.records()) >= 1000, "Postfix to relay", 60)
    argv = [sys.executable, os.path.join(harness.SOURCE, "tests/instruments/check_accounting.py"), "--journal",
            place.path("journal"), "--sent", place.path("sent.spool"), "--sink", sink.spool, "--received", "--received",
            "--no-duplicates"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    check(result.returncode == 0, result.stdout)


@case("no false end of data that Postfix would take for a true one gets that far")
def smuggling(place):
    sink = place.sink(endpoint=harness.free_endpoint())
    postfix = start_postfix(place, sink, smtpd_forbid_bare_newline="no")
    place.milterd(postfix, [place.milter()])
    for end in ("\n.\n", "\n.\r\n", "\r\n.\n", "\r\n.\r\r\n"):
        with harness.Client(place.daemon.endpoint) as client:
            client.ehlo().envelope()
            client.expect("DATA", "354")
            client.send("Subject: first\r\n\r\nfirst" + end + "MAIL FROM:<smuggled@example.com>\r\n"
                        "RCPT TO:<v@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n")
            check(client.reply().startswith("550"), repr(end))
    check(place.client().ehlo().mail(message("last")).startswith("250"), "refused")
    wait_for(sink.records, "Postfix to relay")
    equal([record.header("Subject") for record in sink.records()], [["last"]])


if __name__ == "__main__":
    harness.main()
