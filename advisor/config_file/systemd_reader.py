"""Systemd units to entries: ``[Service]``, ``Key=value``, and the variables of ``Environment=`` each by name.

A key that is set again is a list, unless an empty assignment cleared it before, as drop-ins do: then only what came
after counts. Specifiers (``%i``) are not resolved, drop-ins not merged. Called by `reading`.

Source: ``systemd.syntax(7)``; ``systemd.exec(5)``, Environment=.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from advisor.config_file.line_readers import Collected, Lines, Region
from advisor.config_file.records import ENTRIES_MAX, STATEMENT_CHARACTERS_MAX, Entry, Unreadable, child_key, item_part
from advisor.config_file.source_map import SourceMap

_SKIPPED = re.compile(r"(?:[ \t]*+(?:[#;][^\r\n]*+)?(?:\r\n|\r|\n))*+")
_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_COMMENT = re.compile(r"[ \t]*+[#;][^\r\n]*+(?:\r\n|\r|\n|\Z)")
_SECTION = re.compile(r"[ \t]*+\[([^\[\]\r\n]++)\][ \t]*+(?:\r\n|\r|\n|\Z)")
_ASSIGNMENT = re.compile(r"[ \t]*+([A-Za-z][\w\-]*+)[ \t]*+=[ \t]*+")
_CONTINUATION = re.compile(r"[ \t]*+\\(?:\r\n|\r|\n)(?:[ \t]*+[#;][^\r\n]*+(?:\r\n|\r|\n))*+[ \t]*+")
_VARIABLE = re.compile(
    r"[ \t]*+(?:\\(?:\r\n|\r|\n)(?:[ \t]*+[#;][^\r\n]*+(?:\r\n|\r|\n))*+[ \t]*+)*+"
    r"(?:\"([A-Za-z_]\w*+)=((?>[^\"\\\r\n]++|\\.)*+)\"|'([A-Za-z_]\w*+)=([^'\r\n]*+)'|([A-Za-z_]\w*+)=([^\s\"'\\]*+))"
    r"(?=\s|\\|\Z)"
)


class _Setting(NamedTuple):
    """One assignment of a unit."""

    section: str
    name: str
    start: int
    end: int
    region: Region


def read_systemd(text: str) -> Lines:
    """Return the entries of a unit or a drop-in.

    Raises:
        Unreadable: A line is neither section nor assignment, or a bound is passed.
    """
    settings, empty = _settings(text)
    found = Collected()
    counts: dict[tuple[str, str], int] = {}
    for setting in settings:
        counts[setting[:2]] = counts.get(setting[:2], 0) + 1
    numbers: dict[tuple[str, str], int] = {}
    for setting in settings:
        key = f"{_section(setting.section)}.{setting.name}"
        if setting.name in ("Environment", "Label", "Annotation") and _variables(found, text, setting, key):
            continue
        group = setting[:2]
        if counts[group] > 1:
            number = numbers[group] = numbers.get(group, -1) + 1
            key = f"{key}[{number}]"
        raw = text[setting.start : setting.end]
        value, _ = unfold(raw, 0)
        style = "empty" if not raw else "plain" if value == raw else "folded"
        found.add(Entry(0, key, value, setting.start, setting.end, style, "systemd"), setting.region)
    for title, region in empty:
        found.add(Entry(0, _section(title), "{}", None, None, "section", "systemd"), region)
    return found.lines([""])


def unfold(raw: str, offset: int) -> tuple[str, SourceMap]:
    """Return a value that goes over several lines as one, and where its characters stand."""
    if "\\" not in raw:
        return raw, offset
    parts: list[str] = []
    source: list[int] = []
    at = 0
    for fold in _CONTINUATION.finditer(raw):
        parts.append(raw[at : fold.start()] + " ")
        source.extend(range(offset + at, offset + fold.start()))
        source.append(-1)
        at = fold.end()
    parts.append(raw[at:])
    source.extend(range(offset + at, offset + len(raw)))
    return "".join(parts), source


def _section(title: str) -> str:
    return child_key("", title.strip())


def _settings(text: str) -> tuple[list[_Setting], list[tuple[str, Region]]]:
    """Return the assignments that count, and the sections that have none."""
    found: list[_Setting] = []
    sections: dict[str, Region] = {}
    reset: dict[tuple[str, str], int] = {}
    section, at = "", 0
    while at < len(text):
        skipped = _SKIPPED.match(text, at)
        at = skipped.end() if skipped else at
        header = _SECTION.match(text, at)
        if header:
            section = header[1]
            sections.setdefault(section, (at, header.end()))
            at = header.end()
            continue
        assignment = _ASSIGNMENT.match(text, at)
        if assignment is None:
            if not text[at:].strip() or text[at:].lstrip()[0] in "#;":
                break
            raise Unreadable("not a unit file's line: neither [Section] nor Name=value", at)
        if not section:
            raise Unreadable("an assignment before the first [Section]", at)
        end, last = _end(text, assignment.end())
        setting = _Setting(section, assignment[1], assignment.end(), last, (at, end))
        if last == assignment.end():
            reset[setting[:2]] = len(found)
        found.append(setting)
        if len(found) + len(sections) > ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", at)
        at = end
    last_of = {s[:2]: i for i, s in enumerate(found)}
    kept = []
    for i, setting in enumerate(found):
        cleared = reset.get(setting[:2], -1)
        if i > cleared or i == cleared == last_of[setting[:2]]:  # cleared and not set again: there, and empty
            kept.append(setting)
    used = {s.section for s in found}
    return kept, [(title, region) for title, region in sections.items() if title not in used]


def _end(text: str, at: int) -> tuple[int, int]:
    """Return where an assignment ends with its line end, and where its value does."""
    first = at
    while True:
        line = _LINE.match(text, at)
        end = line.end() if line else len(text)
        body = text[at:end].rstrip("\r\n")
        if end - first > STATEMENT_CHARACTERS_MAX:
            raise Unreadable(f"a statement of more than {STATEMENT_CHARACTERS_MAX} characters", first)
        if not body.endswith("\\") or end >= len(text):
            break
        at = end
        while comment := _COMMENT.match(text, at):
            at = comment.end()
    return end, first + len(text[first:end].rstrip())


def _variables(found: Collected, text: str, setting: _Setting, key: str) -> bool:
    """Add the variables of an ``Environment=``; False if it is not written as any."""
    words: list[tuple[str, int, int, str]] = []
    at = setting.start
    while at < setting.end:
        word = _VARIABLE.match(text, at, setting.end)
        if word is None:
            return False
        group, style = (1, "inner_double") if word[1] else (3, "inner_single") if word[3] else (5, "word")
        words.append((word[group], word.start(group + 1), word.end(group + 1), style))
        at = word.end()
    if not words:
        return False
    region = setting.region if len(words) == 1 else None
    for name, start, end, style in words:
        value = text[start:end]
        written = style if "\\" not in value else "escaped"
        entry = Entry(0, key + item_part(name), value, start, end, written, "systemd")
        found.add(entry, region, setting.start)
    return True
