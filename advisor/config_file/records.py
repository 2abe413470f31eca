"""What reading a configuration file gives: entries with byte spans, and the bounds of reading.

Every reader of this package works on characters; `reading` turns them into bytes once, at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from advisor.errors import SourceMalformed

FILE_BYTES_MAX = 1 << 20  # the largest real manifest seen was 300 kB; beyond 1 MiB it is data, not configuration
ENTRIES_MAX = 50_000
NODES_MAX = 130_000  # of YAML, as written and with aliases followed: an alias bomb stops here, below a second
NESTING_MAX = 100
KEY_CHARACTERS_MAX = 2_000
KEYS_CHARACTERS_MAX = 16 << 20  # of all keys together: a long key above many children multiplies
DOCUMENTS_MAX = 5_000
TOML_BYTES_MAX = 256 << 10  # the standard library reads it in pure Python
STATEMENT_CHARACTERS_MAX = 128 << 10  # one logical line
NESTED_CHARACTERS_MAX = 2 << 20  # text read a second time (embedded files, flags), aliases included
FLAGS_CHARACTERS_MAX = 32 << 10  # longer strings are no command line; Linux allows 128 KiB for one argument
EMBEDDED_FILES_MAX = 500  # beyond, values stay whole
EMBEDDED_LEVELS_MAX = 3

_PLAIN_KEY = re.compile(r"[^\s.\[\]\":]+")
_PLAIN_ITEM = re.compile(r"(?!\d+\Z)[^\s\[\]\"#][^\r\n\[\]\"#]*")


class Entry(NamedTuple):
    """One key and its scalar value.

    Attributes:
        document: Number of the YAML document, of the ``#---`` part of a properties file, or of the Dockerfile
            stage.
        key: Dotted path; see the package's docstring for its form.
        value: The decoded text. An empty list or mapping is ``[]`` or ``{}``; a null that is not written is
            empty.
        start: First byte of the value's token, quotes included; None if the value cannot be edited in place.
        end: Byte after the token; None exactly if ``start`` is.
        style: How the token is written: ``plain``, ``single``, ``double``, ``literal``, ``folded``,
            ``empty``, …
        format: The syntax of the token: ``yaml``, ``json``, ``toml``, ``properties``, ``env``,
            ``dockerfile``, ``hcl``, ``ini``, ``nginx``, ``directive``, ``systemd``, ``xml``, ``flag``.
        scope: ``Deployment/checkout`` or ``Deployment/checkout/<container>`` in Kubernetes manifests,
            ``profile:prod`` in a Spring document, the stage's name in a Dockerfile, else empty.
        parent: Key of the value that this one was found in (flags in a string, keys of an embedded file),
            else empty.
        source: Span of the anchored token that a YAML alias or merge key took this value from, else None.
    """

    document: int
    key: str
    value: str
    start: int | None
    end: int | None
    style: str
    format: str
    scope: str = ""
    parent: str = ""
    source: tuple[int, int] | None = None

    @property
    def identity(self) -> tuple[int, str]:
        """Return what names the entry in its file."""
        return (self.document, self.key)


@dataclass(frozen=True)
class ConfigFile:
    """A configuration file, read.

    Attributes:
        format: ``yaml``, ``json``, ``toml``, ``properties``, ``env``, ``jvm_options``, ``dockerfile``, ``hcl``,
            ``ini``, ``nginx``, ``blocks`` (Caddy, keepalived), ``haproxy``, ``apache``, ``fluentd``, ``redis``, ``sshd``,
            ``lines`` (any other ``name value``), ``systemd``, ``xml``, ``template`` (before it is rendered), or ``text``: a
            format that is not read by key, with no entries.
        identities: For each document what it is about (``apps/Deployment/shop/checkout``, ``profile:prod``),
            else empty: documents of two versions are matched by it, so that one put in front shifts nothing.
        regions: For line formats, the characters of each entry's whole statement; for edits only.
    """

    path: str
    format: str
    entries: tuple[Entry, ...] = ()
    identities: tuple[str, ...] = ("",)
    regions: tuple[tuple[tuple[int, str], tuple[int, int]], ...] = ()

    @cached_property
    def index(self) -> dict[tuple[int, str], Entry]:
        """Return the entries by document number and key."""
        return {(e[0], e[1]): e for e in self.entries}

    def entry(self, key: str, document: int | None = 0) -> Entry | None:
        """Return the entry of a key; ``document=None`` takes the first document that has it."""
        if document is not None:
            return self.index.get((document, key))
        return next((e for e in self.entries if e.key == key), None)

    def get(self, key: str, document: int | None = 0) -> str | None:
        """Return the value of a key, or None."""
        found = self.entry(key, document)
        return None if found is None else found.value


class Unreadable(Exception):
    """A reader's complaint, with the character it is about.

    It becomes ``SourceMalformed`` with path and line.
    """

    def __init__(self, what: str, index: int | None = None, line: int | None = None) -> None:
        """Keep the complaint; the line counts from 1 and wins over the character index."""
        super().__init__(what)
        self.what = what
        self.index = index
        self.line = line


def malformed(path: str, text: str, error: Unreadable) -> SourceMalformed:
    """Return the error a caller sees: one line with path, line number and what is wrong."""
    line = error.line
    if line is None and error.index is not None:
        line = line_number(text, error.index)
    where = f"{path}: line {line}" if line is not None else path
    return SourceMalformed(f"{where}: {error.what}")


def line_number(text: str, index: int) -> int:
    """Return the line of a character, from 1; CR, LF and CRLF each end a line."""
    return text.count("\n", 0, index) + text.count("\r", 0, index) - text.count("\r\n", 0, index) + 1


def child_key(prefix: str, name: str) -> str:
    """Return the path ``a.b``, or ``a["b.c"]`` where the name could be mistaken for a path."""
    if _PLAIN_KEY.fullmatch(name):
        return f"{prefix}.{name}" if prefix else name
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'{prefix}["{quoted}"]'


def item_part(name: str) -> str:
    """Return the bracketed name of a list item; names that look like a position are quoted."""
    if _PLAIN_ITEM.fullmatch(name):
        return f"[{name}]"
    return '["' + name.replace("\\", "\\\\").replace('"', '\\"') + '"]'
