#!/usr/bin/env python3
"""What an idle client costs: the growth of a session process and a worker while plaintext sessions wait behind EHLO. TAP.

idle_sessions.py [SESSIONS]; by default 300, with MILTERD_SOAK 2,000. It means nothing with sanitizers, and is skipped.
"""

import os
import resource
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

# pylint: disable=wrong-import-position
import harness  # noqa: E402
from harness import case, check  # noqa: E402

SESSIONS = 2000 if os.environ.get("MILTERD_SOAK") else 300
LIMIT_KIB = 16          # a session
WARM_UP = 100           # sessions whose memory the processes may keep for good


def resident_kib(pids):
    """What is in memory of these processes and is theirs alone."""
    total = 0
    for pid in pids:
        for line in harness.read_text(f"/proc/{pid}/status").split("\n"):
            if line.startswith("RssAnon:"):
                total += int(line.split()[1])
    return total


def measure(place, what, milters, options=None):
    place.milterd("discard:", milters, listener={"max-sessions": "100000", **(options or {})})
    pids = place.daemon.children("session") + place.daemon.children("worker")
    if any("libasan" in harness.read_text(f"/proc/{pid}/maps") for pid in pids):
        raise harness.Skip("a sanitizer's memory is not ours")
    clients = [place.client().ehlo() for _ in range(WARM_UP)]
    before = resident_kib(pids)
    clients += [place.client().ehlo() for _ in range(SESSIONS)]
    each = (resident_kib(pids) - before) / SESSIONS
    print(f"# {what}: {each:.2f} KiB a session, {SESSIONS} sessions", flush=True)
    clients[0].expect("NOOP", "250")
    clients[-1].expect("NOOP", "250")
    check(each <= LIMIT_KIB, f"{each:.2f} KiB a session")


@case("an idle session without milters has at most 16 KiB")
def no_milter(place):
    measure(place, "no milter in the chain", [], {"milters": "none"})


@case("an idle session that was told to one milter has at most 16 KiB in both processes")
def unbound(place):
    # This milter wants to see nothing but the message, so no connection is bound to a session that waits.
    protocol = 0x1 | 0x2 | 0x4 | 0x8
    measure(place, "one milter that has not been bound", [place.milter({"protocol": protocol})])


if __name__ == "__main__":
    if sys.argv[1:]:
        SESSIONS = int(sys.argv.pop(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    harness.main()
