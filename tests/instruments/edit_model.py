#!/usr/bin/env python3
"""What a message must look like after its milters: an independent model of the rules, to compare the daemon with.

Written from the rules of the milter protocol as Postfix applies them (sendmail's mfapi.h, postfix's MILTER_README and
cleanup_milter) and from RFC 5321, not from the daemon's code; slow and plain on purpose. A message is bytes with CRLF
line ends as received after DATA, dots removed. Run as a program it tests itself.

    result = expect(message, received, Envelope(b"a@x", [], [Rcpt(b"b@y", [])]), [
        Milter([("add", b"X-Seen", b"yes"), ("change", 1, b"Subject", b"")]),
        Milter([("body", b"new\\n")], leadspc=True, index="stable"),
    ])
    result.message, result.envelope, result.views, result.refused

Edits are tuples: ("add", name, value), ("insert", index, name, value), ("change", index, name, value), ("body", chunk),
("from", address, args or None), ("rcpt", address, args or None), ("delrcpt", address), ("quarantine", reason).
"""

import ipaddress
import re
import sys
from dataclasses import dataclass, field

HEADER_CHANGES = 1000           # of all milters of one message
HEADER_BYTES = 1024 * 1024      # of the fields they write
FIELD_BYTES = 60000             # of one field
ENVELOPE_CHANGES = 1000
PATH_BYTES = 256                # RFC 5321 4.5.3.1.3, with brackets
REASON_BYTES = 512
ARGS, ARGS_BYTES = 16, 4096     # parameters sent with one address, and bytes of them


class Refused(Exception):
    """An edit that is not legal or above a limit: the milter has failed and none of its edits count."""


@dataclass
class Rcpt:
    address: bytes
    params: list = field(default_factory=list)


@dataclass
class Envelope:
    sender: bytes
    params: list
    rcpts: list

    def copy(self):
        return Envelope(self.sender, list(self.params), [Rcpt(r.address, list(r.params)) for r in self.rcpts])


@dataclass
class Milter:
    edits: list
    leadspc: bool = False
    index: str = "shift"        # or "stable"
    commits: bool = True        # its final reply was CONTINUE or ACCEPT


@dataclass
class Expected:
    message: bytes
    envelope: Envelope
    quarantine: bytes = None
    views: list = field(default_factory=list)    # for each milter ([(name, value), ...], body) as it is shown
    refused: list = field(default_factory=list)  # positions of the milters whose edits are not legal


# --- the message as a list of fields, a separator and a body

OWN = object()      # our own Received, whether it is written or not


class Gone:
    """A deleted field that keeps its number."""

    def __init__(self, name):
        self.name = name


NAME = rb"[!-9;-~]+"
FIELD = re.compile(rb"(%s)[ \t]*:(?:[^\r\n]|\r(?!\n)|\n)*\r\n(?:[ \t](?:[^\r\n]|\r(?!\n)|\n)*\r\n)*" % NAME)


def split_message(message):
    """([field, ...], separator there?, body)"""
    fields, at = [], 0
    while match := FIELD.match(message, at):
        fields.append(match[0])
        at = match.end()
    if message[at:at + 2] == b"\r\n":
        return fields, True, message[at + 2:]
    return fields, False, message[at:]


def name_of(text):
    return re.match(NAME, text)[0].lower()


def show_field(text, leadspc):
    name, value = text.split(b":", 1)
    value = value[:-2].replace(b"\r\n", b"\n")
    if not leadspc and value.startswith(b" "):
        value = value[1:]
    return name.rstrip(b" \t"), value


def write_field(name, value, leadspc):
    if not re.fullmatch(NAME, name):
        raise Refused("name")
    first, *others = re.split(rb"\r\n|\r|\n", value)
    lines = [name + b":" + (b"" if leadspc else b" ") + first]
    for line in others:
        if line.strip(b" \t"):
            lines.append(line if line[:1] in (b" ", b"\t") else b"\t" + line)
    text = b"\r\n".join(lines) + b"\r\n"
    if len(text) > FIELD_BYTES or len(name) + len(value) > FIELD_BYTES:
        raise Refused("a field too long")
    return text


def write_body(chunks):
    body = b"".join(chunks)
    if b"\0" in body:
        raise Refused("NUL")
    if body.endswith(b"\r"):
        body += b"\n"
    body = re.sub(rb"\r(?!\n)", b" ", body)
    body = re.sub(rb"\r?\n", b"\r\n", body)
    return body if not body or body.endswith(b"\n") else body + b"\r\n"


# --- addresses

LOCAL = rb"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]+|\"(?:[^\"\\\x00-\x1f\x7f]|\\[ -~])*\")"
DOMAIN = rb"(?:[A-Za-z0-9_\x80-\xff-]+(?:\.[A-Za-z0-9_\x80-\xff-]+)*|\[[!-Z^-~]+\])"
MAILBOX = re.compile(rb"(?:(?P<route>@%s(?:,@%s)*):)?(?P<local>%s)@(?P<domain>%s)" % (DOMAIN, DOMAIN, LOCAL, DOMAIN))


def literal_is_valid(domain):
    if not domain.startswith(b"["):
        return True
    inner = domain[1:-1].decode("ascii")
    try:
        if inner.lower().startswith("ipv6:"):
            return "%" not in inner and bool(ipaddress.IPv6Address(inner[5:]))
        if re.fullmatch(r"[A-Za-z0-9-]*[A-Za-z0-9]:.+", inner):
            return True
        return bool(ipaddress.IPv4Address(inner))
    except ValueError:
        return False


def parse_path(text, may_be_null):
    inner = text[1:-1] if text.startswith(b"<") and text.endswith(b">") else text
    if len(inner) + 2 > PATH_BYTES:
        raise Refused("address")
    if not inner and may_be_null:
        return b""
    if not may_be_null and inner.lower() == b"postmaster":
        return inner
    match = MAILBOX.fullmatch(inner)
    if not match or not all(map(literal_is_valid, [match["domain"], *re.findall(DOMAIN, match["route"] or b"")])):
        raise Refused("address")
    return match["local"] + b"@" + match["domain"]


def mailbox(address):
    """Equal for addresses that are the same mailbox."""
    if match := MAILBOX.fullmatch(address):
        local = match["local"]
        if local.startswith(b'"'):
            local = re.sub(rb"\\(.)", rb"\1", local[1:-1])
        return local, match["domain"].lower()
    return address, b""


# --- ESMTP parameters: what RFC 3461 and RFC 6533 allow a milter to say

XTEXT = rb"(?:[!-*,-<>-~]|\+(?!00)[0-9A-F]{2})"
UTEXT = rb"(?:[!-*,-<>-~\x80-\xff]|\+(?!00)[0-9A-F]{2})"
PARAM = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*(?:=[!-<>-~\x80-\xff]+)?")
NOTIFY = rb"(?:SUCCESS|FAILURE|DELAY)"

# Each with the bytes its value may have.
SENDER_PARAMS = [(re.compile(rb"(?i)RET=(?:FULL|HDRS)"), 4), (re.compile(rb"(?i:ENVID)=%s+" % XTEXT), 100)]
RCPT_PARAMS = [
    (re.compile(rb"(?i)NOTIFY=(?:NEVER|%s(?:,%s)*)" % (NOTIFY, NOTIFY)), ARGS_BYTES),
    (re.compile(rb"(?i:ORCPT)=(?:(?i:utf-8);%s+|[^;]+;%s+)" % (UTEXT, XTEXT)), 500),
]


def keyword(param):
    return param.split(b"=")[0].upper()


def replace_params(old, new):
    replaced = {keyword(p) for p in new}
    return [p for p in old if keyword(p) not in replaced] + new


def parse_args(args, allowed):
    kept = []
    if args is None:
        return kept
    words = re.sub(rb"[ \t]+", b" ", args).strip(b" ").split(b" ") if args.strip(b" \t") else []
    if len(args) > ARGS_BYTES or len(words) > ARGS or not all(PARAM.fullmatch(w) for w in words):
        raise Refused("parameters")
    for word in words:
        value = word.partition(b"=")[2]
        if any(pattern.fullmatch(word) and len(value) <= limit for pattern, limit in allowed):
            kept = replace_params(kept, [word])
    return kept


# --- one milter's edits

class State:
    """What is between two milters."""

    def __init__(self, message, envelope, body_limit):
        fields, self.separator, self.body = split_message(message)
        self.fields = [OWN, *fields]
        self.envelope = envelope.copy()
        self.body_limit = body_limit
        self.quarantine = None
        self.header_changes = self.header_bytes = self.envelope_changes = 0

    def copy(self):
        other = State.__new__(State)
        other.__dict__.update(self.__dict__, fields=list(self.fields), envelope=self.envelope.copy())
        return other


def find(fields, name, index):
    """Position of the index-th field of this name, or None."""
    for position, text in enumerate(fields):
        here = None if text is OWN else text.name if isinstance(text, Gone) else name_of(text)
        if here == name.lower():
            index -= 1
            if index == 0:
                return position
    return None


def edit_header(state, milter, kind, index, name, value):
    if not re.fullmatch(NAME, name) or index > 0x7fffffff:
        raise Refused("name or index")
    state.header_changes += 1
    if state.header_changes > HEADER_CHANGES:
        raise Refused("too many header changes")
    fields = state.fields
    if kind == "change" and not value:
        position = find(fields, name, max(index, 1))
        if position is None or isinstance(fields[position], Gone):
            return
        if milter.index == "shift":
            del fields[position]
        else:
            fields[position] = Gone(name.lower())
        return
    text = write_field(name, value, milter.leadspc)
    state.header_bytes += len(text)
    if state.header_bytes > HEADER_BYTES:
        raise Refused("too many bytes of header")
    if kind == "change":
        position = find(fields, name, max(index, 1))
        if position is None:
            fields.append(text)
        else:
            fields[position] = text
    elif kind == "insert":
        fields.insert(index, text)
    else:
        fields.append(text)


def edit_envelope(state, kind, address, args=None):
    state.envelope_changes += 1
    if state.envelope_changes > ENVELOPE_CHANGES:
        raise Refused("too many envelope changes")
    envelope = state.envelope
    path = parse_path(address, kind == "from")
    if kind == "from":
        envelope.params = replace_params(envelope.params, parse_args(args, SENDER_PARAMS))
        envelope.sender = path
    elif kind == "rcpt":
        params = parse_args(args, RCPT_PARAMS)
        if mailbox(path) not in [mailbox(r.address) for r in envelope.rcpts]:
            envelope.rcpts.append(Rcpt(path, params))
    else:
        envelope.rcpts = [r for r in envelope.rcpts if mailbox(r.address) != mailbox(path)]


def printable(reason):
    if len(reason) > REASON_BYTES:
        at = REASON_BYTES
        while at and reason[at] & 0xc0 == 0x80:
            at -= 1
        reason = reason[:at]
    return re.sub(rb"[\x00-\x1f\x7f]", b"?", reason)


def apply_milter(before, milter):
    """The state after this milter; Refused when one of its edits is not legal."""
    state, chunks, reason = before.copy(), [], None
    for kind, *args in milter.edits:
        if kind in ("add", "insert", "change"):
            edit_header(state, milter, kind, *([0] if kind == "add" else []), *args)
        elif kind in ("from", "rcpt", "delrcpt"):
            edit_envelope(state, kind, *args)
        elif kind == "body":
            chunks.append(args[0])
            if len(write_body(chunks)) > state.body_limit:
                raise Refused("body too long")
        elif kind == "quarantine":
            reason = printable(args[0]) if reason is None else reason
        else:
            raise ValueError(kind)
    state.fields = [f for f in state.fields if not isinstance(f, Gone)]
    if chunks:
        state.body = write_body(chunks)
    if state.quarantine is None:
        state.quarantine = reason
    return state


def expect(message, received, envelope, milters, body_limit=1 << 30):
    """received: our own field with its CRLF, or None when it is not written."""
    state = State(message, envelope, body_limit)
    result = Expected(b"", envelope)
    for position, milter in enumerate(milters):
        result.views.append(([show_field(f, milter.leadspc) for f in state.fields if f is not OWN], state.body))
        try:
            after = apply_milter(state, milter)
        except Refused:
            result.refused.append(position)
            continue
        if milter.commits:
            state = after
    header = b"".join((received or b"") if f is OWN else f for f in state.fields)
    result.message = header + (b"\r\n" if state.separator or state.body else b"") + state.body
    result.envelope = state.envelope
    result.quarantine = state.quarantine
    return result


# --- self-test: each rule once, as TAP

HEADER = b"A: 1\r\nB: 2\r\n 3\r\nA: 4\r\n"
HEADER_CASES = [
    ("nothing is changed", [], b"[R]" + HEADER),
    ("add: at the end", [("add", b"X", b"y")], b"[R]" + HEADER + b"X: y\r\n"),
    ("insert 0: above our own Received", [("insert", 0, b"X", b"y")], b"X: y\r\n[R]" + HEADER),
    ("insert 1: right below it", [("insert", 1, b"X", b"y")], b"[R]X: y\r\n" + HEADER),
    ("insert beyond the end", [("insert", 99, b"X", b"y")], b"[R]" + HEADER + b"X: y\r\n"),
    ("change: the name as sent", [("change", 2, b"a", b"5")], b"[R]A: 1\r\nB: 2\r\n 3\r\na: 5\r\n"),
    ("change 0 is 1", [("change", 0, b"A", b"5")], b"[R]A: 5\r\nB: 2\r\n 3\r\nA: 4\r\n"),
    ("change of none adds", [("change", 3, b"A", b"5")], b"[R]" + HEADER + b"A: 5\r\n"),
    ("an empty value deletes", [("change", 1, b"b", b"")], b"[R]A: 1\r\nA: 4\r\n"),
    ("our own is no Received", [("change", 1, b"Received", b"")], b"[R]" + HEADER),
    ("an injected field is a fold", [("add", b"X", b"y\r\nEvil: z\n\n \nbody")],
     b"[R]" + HEADER + b"X: y\r\n\tEvil: z\r\n\tbody\r\n"),
    ("one refused, none applied", [("add", b"X", b"y"), ("add", b"X Y", b"z")], b"[R]" + HEADER),
]
DELETE_ASCENDING = [("change", 1, b"A", b""), ("change", 2, b"A", b"")]
BODY_CASES = [
    ([b""], b""), ([b"a"], b"a\r\n"), ([b"a\r", b"\nb\n"], b"a\r\nb\r\n"), ([b"a\rb\r\r\n"], b"a b \r\n"),
    ([b"a\r"], b"a\r\n"),
]
PATH_CASES = [
    (b"<>", True, b""), (b"", True, b""), (b"", False, None), (b"<a@b>", False, b"a@b"), (b"a@b", False, b"a@b"),
    (b"<a@b", False, None), (b"a@b>", False, None), (b"@x:a@b", False, b"a@b"), (b'"a b"@c', False, b'"a b"@c'),
    (b"a b@c", False, None), (b"a@[192.0.2.1]", False, b"a@[192.0.2.1]"), (b"a@[192.0.2]", False, None),
    (b"<a@b>\r\nDATA", False, None), (b"postmaster", False, b"postmaster"), (b"root", False, None),
    (b"a@b..c", False, None), (b"a" * 253 + b"@b", False, None), (b"a" * 252 + b"@b", False, b"a" * 252 + b"@b"),
]


def path_or_none(text, may_be_null):
    try:
        return parse_path(text, may_be_null)
    except Refused:
        return None


def self_test():
    envelope = Envelope(b"a@x", [b"SIZE=9", b"RET=HDRS"], [Rcpt(b"b@y"), Rcpt(b"c@y")])
    results = []

    def check(name, got, wanted):
        results.append(got == wanted)
        print(f"{'ok' if got == wanted else 'not ok'} {len(results)} - {name}")
        if got != wanted:
            print(f"# got    {got!r}\n# wanted {wanted!r}")

    for name, edits, header in HEADER_CASES:
        got = expect(HEADER + b"\r\nbody\r\n", b"[R]", envelope, [Milter(edits)])
        check(name, got.message, header + b"\r\nbody\r\n")
    for index, left in ("shift", b"A: 4\r\n"), ("stable", b""):
        got = expect(b"A: 1\r\nA: 4\r\n\r\n", None, envelope, [Milter(DELETE_ASCENDING, index=index)])
        check(f"delete ascending, {index}", got.message, left + b"\r\n")
    for chunks, body in BODY_CASES:
        got = expect(b"A: 1\r\n\r\nold\r\n", None, envelope, [Milter([("body", c) for c in chunks])])
        check(f"body {chunks}", got.message, b"A: 1\r\n\r\n" + body)
    got = expect(b"no header\r\n", b"R: own\r\n", envelope, [])
    check("a body without a separator gets one", got.message, b"R: own\r\n\r\nno header\r\n")
    for text, may_be_null, address in PATH_CASES:
        check(f"path {text[:30]}", path_or_none(text, may_be_null), address)
    got = expect(HEADER, None, envelope, [
        Milter([("from", b"<>", b"RET=FULL SIZE=1"), ("rcpt", b"<c@Y>", None), ("delrcpt", b'"b"@y')]),
        Milter([("rcpt", b"d@y", b"NOTIFY=NEVER ORCPT=x")]),
        Milter([("delrcpt", b"c@y")], commits=False)])
    check("envelope", got.envelope,
          Envelope(b"", [b"SIZE=9", b"RET=FULL"], [Rcpt(b"c@y"), Rcpt(b"d@y", [b"NOTIFY=NEVER"])]))
    got = expect(b"A:  1\r\nB: 2\r\n 3\r\n\r\n", None, envelope,
                 [Milter([("add", b"X", b"y")]), Milter([], leadspc=True)])
    check("views", got.views, [([(b"A", b" 1"), (b"B", b"2\n 3")], b""),
                               ([(b"A", b"  1"), (b"B", b" 2\n 3"), (b"X", b" y")], b"")])
    print(f"1..{len(results)}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(self_test())
