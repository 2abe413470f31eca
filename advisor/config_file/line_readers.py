"""Formats of one statement per line: properties, assignments, ``jvm.options``, Dockerfiles.

Each gives entries with character spans, and for each entry the characters of its whole statement, for edits
that add or take away a statement. Where a key is written twice the last one counts, as it does for the
programs that read these files.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from advisor.config_file.jvm_flags import find_flags
from advisor.config_file.records import (
    ENTRIES_MAX,
    KEY_CHARACTERS_MAX,
    KEYS_CHARACTERS_MAX,
    STATEMENT_CHARACTERS_MAX,
    Entry,
    Unreadable,
)
from advisor.config_file.source_map import SourceMap

_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_PROPERTY_KEY = re.compile(r"(?>[^\\=: \t\f\r\n]++|\\(?:\r\n|.|\n))*+", re.S)
_PROPERTY_SEPARATOR = re.compile(
    r"[ \t\f]*+(?:\\(?:\r\n|\r|\n)[ \t\f]*+)*+(?:[=:][ \t\f]*+)?(?:\\(?:\r\n|\r|\n)[ \t\f]*+)*+"
)
_PROPERTY_PART = re.compile(r"\\(?:\r\n|\r|\n)[ \t\f]*+|\\u[0-9a-fA-F]{4}|\\.|[^\\]|\\\Z", re.S)
_PROPERTY_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_DOCUMENT_MARK = re.compile(r"[#!]---[ \t]*\Z")
_PROFILE_KEYS = ("spring.config.activate.on-profile", "spring.profiles")

_ASSIGNMENT = re.compile(r"[ \t]*+(?:export[ \t]++)?([A-Za-z_][\w.\-]*+)(?:[ \t]*+=[ \t]*+)")
_SHELL_ASSIGNMENT = re.compile(r"(?:export[ \t]++)?([A-Za-z_]\w*+)=")
_SINGLE = re.compile(r"'[^']*+'")
_DOUBLE = re.compile(r'"(?>[^"\\]++|\\.)*+"', re.S)
_ENV_REST = re.compile(r"(?:[ \t]++(?:#[^\r\n]*+)?)?(?=\r|\n|\Z)")
_ENV_PLAIN = re.compile(r"[^\r\n]*+")
_ENV_COMMENT = re.compile(r"(?:^|[ \t])#")

_OPTION_LINE = re.compile(r"[ \t]*+(?:(\d+-?\d*+):)?(-[^\r\n]*+)")
_INSTRUCTION = re.compile(r"[ \t]*+([A-Za-z]++)[ \t]++")
_FROM = re.compile(r"(?:--\w+=\S+[ \t]+)*+([^\s\\]+)(?:[ \t]+[Aa][Ss][ \t]+(\S+))?")
_DOCKER_WORD = re.compile(r"""([A-Za-z_][\w.\-]*+)=((?>[^\s"'\\]++|\\.|"(?>[^"\\]++|\\.)*+"|'[^']*+')*+)""", re.S)
_HEREDOC = re.compile(r"<<-?\s*+[\"']?([A-Za-z_]\w*)")

Region = tuple[int, int]


class Lines(NamedTuple):
    """What a line format gives; ``repeated``: a key of which an earlier value was left out, if there is one."""

    entries: list[Entry]
    regions: dict[tuple[int, str], Region]
    identities: list[str]
    repeated: str = ""


class Collected:
    """Entries in the order of the file, a repeated key standing where it was last."""

    def __init__(self) -> None:
        """Begin with none."""
        self.entries: dict[tuple[int, str], Entry] = {}
        self.regions: dict[tuple[int, str], Region] = {}
        self.statements = 0  # repeated ones included
        self.characters = 0  # of all keys
        self.repeated = ""  # the first key of which an earlier value does not count

    def add(self, entry: Entry, region: Region | None, at: int | None = None) -> None:
        """Keep an entry.

        Args:
            entry: The key, in place of an earlier one of the same name.
            region: Its statement; None where it shares one with other keys, so that it neither comes nor goes alone.
            at: The character to complain about, where there is no region.
        """
        at = region[0] if region is not None else entry.start if at is None else at
        self.characters += len(entry.key)
        if len(entry.key) > KEY_CHARACTERS_MAX or self.characters > KEYS_CHARACTERS_MAX:
            raise Unreadable("a key that is too long", at)
        self.statements += 1
        if self.statements > ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", at)
        if self.entries.pop(entry.identity, None) is not None:
            self.repeated = self.repeated or entry.key
        self.entries[entry.identity] = entry
        if region is None:
            self.regions.pop(entry.identity, None)
        else:
            self.regions[entry.identity] = region

    def lines(self, identities: list[str]) -> Lines:
        """Return what was collected."""
        return Lines(list(self.entries.values()), self.regions, identities, self.repeated)


def _logical_end(text: str, at: int) -> int:
    """Return where a statement ends, its line end included.

    Lines that end in an odd number of backslashes go on.
    """
    first = at
    while True:
        match = _LINE.match(text, at)
        if match is None or match.end() == at:
            return at
        body = match.group().rstrip("\r\n")
        at = match.end()
        if at - first > STATEMENT_CHARACTERS_MAX:
            raise Unreadable(f"a statement of more than {STATEMENT_CHARACTERS_MAX} characters", first)
        if (len(body) - len(body.rstrip("\\"))) % 2 == 0:
            return at


def read_properties(text: str, documents: bool) -> Lines:
    """Return the entries of a properties text; ``documents``: ``#---`` starts a new one, as Spring reads it.

    Source: ``java.util.Properties.load``; Spring Boot reference, "Working With Multi-Document Files".
    """
    found = Collected()
    document, at, identities = 0, 0, [""]
    while at < len(text):
        match = _LINE.match(text, at)
        end = match.end() if match else len(text)
        body = text[at:end].lstrip(" \t\f").rstrip("\r\n")
        if not body or body[0] in "#!":
            if documents and _DOCUMENT_MARK.match(body):
                document += 1
                identities.append("")
            at = end
            continue
        end = _logical_end(text, at)
        entry = _property(text, at, end, document)
        found.add(entry, (at, end))
        if entry.key in _PROFILE_KEYS:
            identities[document] = f"profile:{entry.value}"
        at = end
    for identity, entry in found.entries.items():
        if identities[entry.document]:
            found.entries[identity] = entry._replace(scope=identities[entry.document])
    return found.lines(identities)


def _property(text: str, at: int, end: int, document: int) -> Entry:
    start = at + len(text[at:end]) - len(text[at:end].lstrip(" \t\f"))
    stop = start + len(text[start:end].rstrip("\r\n"))
    key = _PROPERTY_KEY.match(text, start, stop)
    key_end = key.end() if key else start
    separator = _PROPERTY_SEPARATOR.match(text, key_end, stop)
    first = separator.end() if separator else key_end
    name, _ = unescape_property(text[start:key_end], 0)
    value, _ = unescape_property(text[first:stop], 0)
    style = "bare_key" if first == key_end else "plain"
    return Entry(document, name, value, first, stop, style, "properties")


def unescape_property(raw: str, offset: int) -> tuple[str, SourceMap]:
    """Return the decoded text of a key or value, and where its characters stand."""
    if "\\" not in raw:
        return raw, offset
    decoded: list[str] = []
    source: list[int] = []
    for match in _PROPERTY_PART.finditer(raw):
        part = match.group()
        if part[0] != "\\":
            decoded.append(part)
            source.append(offset + match.start())
        elif len(part) == 1 or part[1] in "\r\n":
            continue
        else:
            long = len(part) == 6 and part[1] == "u"
            decoded.append(chr(int(part[2:], 16)) if long else _PROPERTY_ESCAPES.get(part[1], part[1]))
            source.append(-1)
    text = "".join(decoded)
    if any("\ud800" <= c <= "\udfff" for c in text):  # pairs of \u escapes, as Java writes what is beyond the BMP
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return text, [-1] * len(text)
    return text, source


def read_env(text: str, strict: bool) -> Lines:
    """Return the assignments of an environment file.

    Args:
        text: ``A=b``, ``export A="b c"``, comments.
        strict: Another kind of line is malformed; otherwise (shell scripts) it is passed over, and only
            assignments that stand at the start of a line count.
    """
    found = Collected()
    pattern = _ASSIGNMENT if strict else _SHELL_ASSIGNMENT
    at = 0
    while at < len(text):
        match = _LINE.match(text, at)
        end = match.end() if match else len(text)
        body = text[at:end].strip()
        assignment = pattern.match(text, at, end)
        if assignment:
            entry, end = _assignment(text, assignment)
            found.add(entry, (at, end))
        elif strict and body and body[0] != "#" and not re.fullmatch(r"(?:export\s++)?[A-Za-z_][\w.\-]*+", body):
            raise Unreadable("not an assignment NAME=value", at)
        elif not strict and (heredoc := _HEREDOC.search(body)):
            end = _heredoc_end(text, end, heredoc[1])
        at = end
    return found.lines([""])


def _assignment(text: str, match: re.Match[str]) -> tuple[Entry, int]:
    at = match.end()
    for mark, pattern, style in (("'", _SINGLE, "single"), ('"', _DOUBLE, "double")):
        if text.startswith(mark, at):
            quoted = pattern.match(text, at)
            if quoted is None:
                raise Unreadable(f"the value of {match[1][:100]} opens a quote that does not end", at)
            if _ENV_REST.match(text, quoted.end()):
                value = quoted.group()[1:-1]
                if style == "double":
                    value = re.sub(r'\\(["\\])', r"\1", value)  # variables stay as they are written
                entry = Entry(0, match[1], value, at, quoted.end(), style, "env")
                return entry, _line_end(text, quoted.end())
    rest = _ENV_PLAIN.match(text, at)
    raw = rest.group() if rest else ""
    comment = _ENV_COMMENT.search(raw)
    value = (raw[: comment.start()] if comment else raw).rstrip(" \t")
    style = "plain" if value else "empty"
    return Entry(0, match[1], value, at, at + len(value), style, "env"), _line_end(text, at)


def _line_end(text: str, at: int) -> int:
    match = _LINE.match(text, at)
    return match.end() if match else len(text)


def _heredoc_end(text: str, at: int, word: str) -> int:
    """Return where a here-document ends; what it holds is data, not assignments."""
    close = re.compile(rf"^[ \t]*{re.escape(word)}[ \t]*\r?$", re.M).search(text, at)
    return _line_end(text, close.end()) if close else len(text)


def read_jvm_options(text: str) -> Lines:
    """Return the flags of a ``jvm.options`` file.

    One on a line, ``#`` comments, ``8-13:`` for some versions only.
    """
    found = Collected()
    at = 0
    while at < len(text):
        end = _line_end(text, at)
        body = text[at:end].strip()
        if body and body[0] != "#":
            option = _OPTION_LINE.match(text, at, end)
            if option is None:
                raise Unreadable("not a JVM flag", at)
            _option(found, option, (at, end))
        at = end
    return found.lines([""])


def _option(found: Collected, option: re.Match[str], region: Region) -> None:
    prefix = f"[{option[1]}]:" if option[1] else ":"
    line = option[2].rstrip(" \t")
    flags = find_flags(line, java=True)
    if not flags.flags or flags.residue:
        found.add(Entry(0, prefix + line, "", None, None, "bare", "flag"), region)
        return
    for flag in flags.flags:
        start = None if flag.start is None else option.start(2) + flag.start
        end = None if flag.end is None else option.start(2) + flag.end
        found.add(Entry(0, prefix + flag.key, flag.value, start, end, flag.style, "flag"), region)


def read_dockerfile(text: str) -> Lines:
    """Return images, ENV, ARG and the commands of a Dockerfile; each stage is a document."""
    found = Collected()
    identities = [""]
    stage, at, begun = 0, 0, False
    while at < len(text):
        end = _line_end(text, at)
        if not text[at:end].strip() or text[at:end].lstrip()[0] == "#":
            at = end
            continue
        end = _logical_end(text, at)
        instruction = _INSTRUCTION.match(text, at, end)
        name = instruction[1].upper() if instruction else ""
        if instruction is None or name not in _INSTRUCTIONS:
            if instruction is None and not re.fullmatch(r"[A-Za-z]+", text[at:end].strip()):
                raise Unreadable("not a Dockerfile instruction", at)
        elif name == "FROM":
            if begun:
                stage += 1
                identities.append("")
            begun = True
            _from(found, text, instruction.end(), (at, end), stage, identities)
        else:
            _instruction(found, text, instruction, (at, end), stage)
        heredoc = _HEREDOC.search(text, at, end) if name in ("RUN", "COPY") else None
        at = _heredoc_end(text, end, heredoc[1]) if heredoc else end
    entries = [e._replace(scope=identities[e.document]) for e in found.entries.values()]
    return Lines(entries, found.regions, identities)


_INSTRUCTIONS = ("FROM", "ENV", "ARG", "CMD", "ENTRYPOINT", "EXPOSE", "USER", "WORKDIR")


def _from(found: Collected, text: str, at: int, region: Region, stage: int, identities: list[str]) -> None:
    match = _FROM.match(text, at, region[1])
    if match is None:
        raise Unreadable("FROM without an image", at)
    identities[stage] = match[2] or ""
    found.add(Entry(stage, "FROM", match[1], match.start(1), match.end(1), "plain", "dockerfile"), region)


def _instruction(found: Collected, text: str, instruction: re.Match[str], region: Region, stage: int) -> None:
    name, first = instruction[1].upper(), instruction.end()
    last = first + len(text[first : region[1]].rstrip())
    words = list(_DOCKER_WORD.finditer(text, first, last)) if name in ("ENV", "ARG") else []
    if words and words[0].start() == first:
        for word in words:
            raw, start, end, style = word[2], word.start(2), word.end(2), "plain"
            if len(raw) > 1 and raw[0] in "\"'" and raw.find(raw[0], 1) == len(raw) - 1:
                style = "single" if raw[0] == "'" else "double"
                value = raw[1:-1]
            else:
                value = raw
            found.add(Entry(stage, f"{name}[{word[1]}]", value, start, end, style, "dockerfile"), region)
        return
    raw = text[first:last]
    if name in ("ENV", "ARG"):
        key, _, raw = raw.partition(" ")
        name, first = f"{name}[{key.strip()}]", last - len(raw.lstrip())
        raw = raw.lstrip()
    found.add(Entry(stage, name, raw, first, last, "whole", "dockerfile"), region)
