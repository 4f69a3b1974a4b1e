"""Broken configurations, each a mistake that people make, and what milterd says about them: every line is compared.

tests/conf/NAME.conf goes through "milterd -n -f", must end with 78, and NAME.expected has what is on standard error.
valid-*.conf goes through "milterd -T -f": what differs from the defaults, and the warnings in front of it.
root-*.conf is about accounts, which are looked at for root only.
With --write the expected files are written anew, to be read before they are committed. TAP on standard output.
"""
import os
import subprocess
import sys
import tempfile

FOLDER = os.path.join(os.environ.get("SRCDIR", os.path.dirname(os.path.abspath(__file__)) + "/.."), "tests/conf")
MILTERD = os.path.join(os.environ.get("BUILDDIR", "."), "milterd")
EX_CONFIG = 78
# Of every kind of section one with defaults only, but for what is required.
PLAIN = "[listener x]\nbind = unix:/x\nnext-hop = discard:\n[milter x]\nhostname = x\n"


def run(option, name):
    done = subprocess.run([os.path.abspath(MILTERD), option, "-f", name], cwd=FOLDER, capture_output=True, timeout=30)
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


def defaults():
    """The lines of each kind of section that stand for a default."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as plain:
        plain.write(PLAIN)
        plain.flush()
        text = run("-T", plain.name)[1]
    lines, kind = {}, None
    for line in text.splitlines():
        if line.startswith("["):
            kind = line.strip("[]").split()[0]
        lines.setdefault(kind, set()).add(line)
    return lines


def what_differs(text, default):
    kept, kind = [], None
    for line in text.splitlines():
        if line.startswith("["):
            kind = line.strip("[]").split()[0]
            kept.append(line)
        elif line not in default[kind]:
            kept.append(line)
    return "".join(line + "\n" for line in kept if line)


def result_of(name, default):
    if not name.startswith("valid-"):
        status, out, err = run("-n", name)
        return status == EX_CONFIG and out == "", err
    status, out, err = run("-T", name)
    return status == 0, err + what_differs(out, default)


def main():
    names = sorted(name for name in os.listdir(FOLDER) if name.endswith(".conf"))
    default = defaults()
    failed = False
    print("1..%d" % len(names))
    for number, name in enumerate(names, 1):
        if name.startswith("root-") and os.geteuid() != 0:
            print("ok %d - %s # SKIP accounts are looked at for root only" % (number, name))
            continue
        good, text = result_of(name, default)
        path = os.path.join(FOLDER, name[:-len("conf")] + "expected")
        if sys.argv[1:] == ["--write"]:
            with open(path, "w", encoding="latin-1", newline="") as expected_file:
                expected_file.write(text)
        with open(path, encoding="latin-1", newline="") as expected_file:
            expected = expected_file.read()
        good = good and text == expected
        failed = failed or not good
        print("%s %d - %s" % ("ok" if good else "not ok", number, name))
        if not good:
            print("".join("# is:     %s\n" % line for line in text.splitlines()), end="")
            print("".join("# wanted: %s\n" % line for line in expected.splitlines()), end="")
    return failed


if __name__ == "__main__":
    sys.exit(main())
