"""Whole statements of line formats: taken out, put back, or added at the end."""

from __future__ import annotations

from advisor.config_file.records import ConfigFile, Entry
from advisor.config_file.scalars import candidates
from advisor.config_file.yaml_edit import cut_lines, put_lines, skip_lines, skip_lines_back
from advisor.errors import ChangeRefused

Identity = tuple[int, str]


def remove_statements(text: str, file: ConfigFile, identities: set[Identity]) -> str:
    """Return the text without the statements of these keys.

    Raises:
        ChangeRefused: A key is no statement of its own.
    """
    regions = dict(file.regions)
    spans: set[tuple[int, int]] = set()
    for identity in identities:
        if identity not in regions:
            raise ChangeRefused(f"{file.path}: key {identity[1]}: it is no statement of its own")
        spans.add(_whole_lines(text, regions[identity]))
    for start, end in sorted(spans, reverse=True):
        text = cut_lines(text, start, end)
    return text


def _whole_lines(text: str, span: tuple[int, int]) -> tuple[int, int]:
    start, end = span
    while end < len(text) and text[end - 1] not in "\r\n":
        end += 1
    if text[end - 1 : end + 1] == "\r\n":
        end += 1
    return start, end


def insert_statements(
    text: str,
    file: ConfigFile,
    before: str,
    before_file: ConfigFile,
    identities: list[Identity],
    documents: dict[int, int],
) -> str:
    """Return the text with one statement of an earlier version put back after the one it followed.

    Args:
        text: The file as it stands.
        file: The same, read.
        before: The earlier version.
        before_file: The same, read.
        identities: The keys of one statement in the earlier version.
        documents: Number of a document now, by its number in the earlier version.

    Raises:
        ChangeRefused: It is no statement of its own, or nothing is left of its surroundings.
    """
    old, now = dict(before_file.regions), dict(file.regions)
    identity = identities[0]
    if identity not in old:
        raise ChangeRefused(f"{file.path}: key {identity[1]}: it is no statement of its own")
    start, end = _whole_lines(before, old[identity])
    lines = before[start:end]
    siblings = sorted((span, i) for i, span in old.items() if i[0] == identity[0])
    for span, sibling in reversed([s for s in siblings if s[0][0] < start]):
        place = now.get((documents.get(sibling[0], -1), sibling[1]))
        if place is not None:
            between = before[_whole_lines(before, span)[1] : start]
            return put_lines(text, skip_lines(text, _whole_lines(text, place)[1], between), lines)
    for span, sibling in (s for s in siblings if s[0][0] >= end):
        place = now.get((documents.get(sibling[0], -1), sibling[1]))
        if place is not None:
            return put_lines(text, skip_lines_back(text, place[0], before[end : span[0]]), lines)
    raise ChangeRefused(f"{file.path}: key {identity[1]}: nothing is left of the lines it stood between")


def append_statement(text: str, file: ConfigFile, key: str, value: str) -> str:
    """Return the text with ``key=value`` as its last line.

    Raises:
        ChangeRefused: The value cannot be written so, or the file has several documents.
    """
    written = candidates(Entry(0, key, "", 0, 0, "plain", file.format), "", value)
    if not written or len(file.identities) > 1 or any(c in key for c in "\\=: \t\r\n#!"):
        raise ChangeRefused(f"{file.path}: key {key}: no line {key}=… can be added here")
    return put_lines(text, len(text), f"{key}={written[0]}\n")
