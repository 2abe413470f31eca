"""Where the characters of a decoded value stand, for exact spans of values inside values.

A map is an offset (the value is written as it is read) or a list with one position for each character, -1
where an escape or a line fold stands between. A range has a span only if its characters stand side by side;
otherwise it has none: better not editable than edited in the wrong place.
"""

from __future__ import annotations

import re

SourceMap = int | list[int]

_WORD = re.compile(r"\S+")
_DOUBLE_PART = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|[^\\]", re.S)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_YAML_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f",
    "r": "\r", "e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\",
    "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


def project(source: SourceMap, start: int, end: int) -> tuple[int, int] | None:
    """Return the outer span of a range of the inner text; None: not written in one piece."""
    if isinstance(source, int):
        return (source + start, source + end)
    if start == end:  # an empty value: it stands where the character before it ends
        before = source[start - 1] if start > 0 else -1
        return (before + 1, before + 1) if before >= 0 else None
    first = source[start]
    if first < 0 or source[start:end] != list(range(first, first + end - start)):
        return None
    return (first, first + end - start)


def by_words(raw: str, offset: int, value: str) -> SourceMap | None:
    """Return the map of a folded text: the same words in order, with other space between."""
    raw_words = list(_WORD.finditer(raw))
    words = list(_WORD.finditer(value))
    if [w.group() for w in raw_words] != [w.group() for w in words]:
        return None
    source = [-1] * len(value)
    for raw_word, word in zip(raw_words, words, strict=True):
        first = offset + raw_word.start()
        source[word.start() : word.end()] = range(first, first + len(word.group()))
    return source


def yaml_scalar(text: str, start: int, end: int, style: str, value: str) -> SourceMap | None:
    """Return the map of a YAML scalar's token, checked against the value that the parser gave."""
    raw = text[start:end]
    if style == "plain":
        return start if raw == value else by_words(raw, start, value)
    if style in ("single", "double"):
        inner = raw[1:-1]
        if inner == value:
            return start + 1
        if "\n" in inner or "\r" in inner:
            return by_words(inner, start + 1, value)
        return _single(inner, start + 1, value) if style == "single" else _double(inner, start + 1, value)
    if style in ("literal", "folded"):
        header = _LINE.match(raw)
        body = header.end() if header else 0
        if style == "literal":
            return _literal(raw[body:], start + body, value)
        return by_words(raw[body:], start + body, value)
    return None


def _single(inner: str, offset: int, value: str) -> SourceMap | None:
    source: list[int] = []
    i = 0
    while i < len(inner):
        doubled = inner.startswith("''", i)
        source.append(-1 if doubled else offset + i)
        i += 2 if doubled else 1
    return source if inner.replace("''", "'") == value else None


def _double(inner: str, offset: int, value: str) -> SourceMap | None:
    source: list[int] = []
    decoded: list[str] = []
    for match in _DOUBLE_PART.finditer(inner):
        part = match.group()
        if part[0] != "\\":
            source.append(offset + match.start())
            decoded.append(part)
            continue
        source.append(-1)
        if len(part) > 2:
            code = int(part[2:], 16)
            decoded.append(chr(code) if code <= 0x10FFFF else "")
        else:
            decoded.append(_YAML_ESCAPES.get(part[1], ""))
    return source if "".join(decoded) == value else None


def _literal(body: str, offset: int, value: str) -> SourceMap | None:
    """Map a literal block line by line: every line is its indentation and then exactly the value's line."""
    lines = value.split("\n")
    source: list[int] = []
    at = 0
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        if last and not line:
            break
        match = _LINE.match(body, at)
        if match is None:
            return None
        raw = match.group().rstrip("\r\n")
        if not raw.endswith(line) or raw[: len(raw) - len(line)].strip(" "):
            return None
        first = offset + at + len(raw) - len(line)
        source.extend(range(first, first + len(line)))
        if not last:
            source.append(offset + at + len(raw) if match.group()[len(raw) :] == "\n" else -1)
        at = match.end()
    return source
