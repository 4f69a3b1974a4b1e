"""Reads the message files of the sink and the load generator; the format is in spool.h."""

import os
import re


class Record:
    """One message: id and kind ("accepted", "unanswered", "sent"), sender and recipients with brackets and
    parameters as on the wire, and the content as bytes. end: where the record ends in the file."""

    def __init__(self, number, kind, envelope, content, end):
        lines = envelope.decode("latin-1").split("\n")[:-1]
        self.id = number
        self.kind = kind
        self.sender = next(line[5:] for line in lines if line.startswith("FROM "))
        self.rcpts = [line[3:] for line in lines if line.startswith("TO ")]
        self.content = content
        self.end = end

    def header(self, name):
        """The unfolded values of all fields of this name."""
        return [value for field, value in fields(self.content) if field.lower() == name.lower()]

    @property
    def body(self):
        return self.content.partition(b"\r\n\r\n")[2]


def fields(content):
    """(name, value) of each header field as text, folds kept, blanks around the value removed."""
    block = content if content.startswith(b"\r\n") else content.partition(b"\r\n\r\n")[0]
    for field in re.split(rb"\r\n(?![ \t])", block):
        name, _, value = field.decode("latin-1").partition(":")
        if name:
            yield name, value.strip()


def read(path, start=0):
    """Every complete record of the file from there on, in order. A record whose end is missing is still being written:
    it ends the list. No file: none."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as f:
        f.seek(start)
        while head := f.readline():
            word, number, kind, envelope_size, content_size = head.split()
            if word != b"message":
                raise ValueError(f"{path}: no record at {f.tell() - len(head)}")
            envelope, content = f.read(int(envelope_size)), f.read(int(content_size))
            if f.read(1) != b"\n":
                return
            yield Record(int(number), kind.decode(), envelope, content, f.tell())
