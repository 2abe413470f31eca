"""JSON to entries, with the place of every value.

The standard library gives no positions and takes a repeated key in silence.
"""

from __future__ import annotations

import json
import re

from advisor.config_file.records import (
    ENTRIES_MAX,
    KEY_CHARACTERS_MAX,
    KEYS_CHARACTERS_MAX,
    NESTING_MAX,
    Entry,
    Unreadable,
    child_key,
    item_part,
)
from advisor.config_file.source_map import SourceMap

_SPACE = re.compile(r"[ \t\r\n]*+")
_STRING = re.compile(r'"(?>[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"')
_BARE = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![\w.+-])|(?:true|false|null)(?![\w.+-])")
_PART = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)|[^\\]", re.S)
_ITEM_NAMES = ("name", "key", "id")

Value = tuple[int, int, str, "str | list[Value] | dict[str, Value]"]  # start, end, style, content


def read_json(text: str) -> list[Entry]:
    """Return the entries of a JSON text with character spans.

    Raises:
        Unreadable: Not JSON, a repeated key, no object or array, or beyond a bound.
    """
    scanner = _Scanner(text)
    at = scanner.space(0)
    if at >= len(text):
        return []
    root = scanner.value(at, 1)
    at = scanner.space(root[1])
    if at < len(text):
        raise Unreadable("not JSON: text after the end of the document", at)
    if isinstance(root[3], str):
        raise Unreadable("holds no keys, only one value", root[0])
    walk = _Walk()
    walk.value(root, "")
    return walk.entries


def string_map(text: str, start: int, end: int, value: str) -> SourceMap | None:
    """Return the map of a JSON string's token."""
    inner = text[start + 1 : end - 1]
    if inner == value:
        return start + 1
    source: list[int] = []
    for match in _PART.finditer(inner):
        source.append(start + 1 + match.start() if match.group()[0] != "\\" else -1)
    return source if len(source) == len(value) else None  # a surrogate pair is two escapes but one character


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.values = 0

    def space(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        return match.end() if match else at

    def value(self, at: int, depth: int) -> Value:
        self.values += 1
        if self.values > ENTRIES_MAX * 2:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", at)
        if depth > NESTING_MAX:
            raise Unreadable(f"nested deeper than {NESTING_MAX} levels", at)
        first = self.text[at : at + 1]
        if first == "{":
            return self.mapping(at, depth)
        if first == "[":
            return self.sequence(at, depth)
        if first == '"':
            end, content = self.string(at)
            return (at, end, "double", content)
        match = _BARE.match(self.text, at)
        if match is None:
            what = f"not JSON: {self.text[at : at + 20]!r} is no value" if first else "not JSON: it ends too early"
            raise Unreadable(what, at)
        return (at, match.end(), "bare", match.group())

    def string(self, at: int) -> tuple[int, str]:
        match = _STRING.match(self.text, at)
        if match is None:
            raise Unreadable("not JSON: a string that does not end, or holds a bad escape", at)
        token = match.group()
        return match.end(), str(json.loads(token)) if "\\" in token else token[1:-1]

    def mapping(self, at: int, depth: int) -> Value:
        content: dict[str, Value] = {}
        here = self.space(at + 1)
        if self.text[here : here + 1] == "}":
            return (at, here + 1, "collection", content)
        while True:
            if self.text[here : here + 1] != '"':
                raise Unreadable("not JSON: a key in double quotes is expected here", here)
            end, name = self.string(here)
            if name in content:
                raise Unreadable(f"key {name[:200]!r} is defined twice", here)
            here = self.space(end)
            if self.text[here : here + 1] != ":":
                raise Unreadable("not JSON: ':' is expected here", here)
            child = self.value(self.space(here + 1), depth + 1)
            content[name] = child
            here = self.space(child[1])
            mark = self.text[here : here + 1]
            if mark == "}":
                return (at, here + 1, "block", content)
            if mark != ",":
                raise Unreadable("not JSON: ',' or '}' is expected here", here)
            here = self.space(here + 1)

    def sequence(self, at: int, depth: int) -> Value:
        content: list[Value] = []
        here = self.space(at + 1)
        if self.text[here : here + 1] == "]":
            return (at, here + 1, "collection", content)
        while True:
            child = self.value(here, depth + 1)
            content.append(child)
            here = self.space(child[1])
            mark = self.text[here : here + 1]
            if mark == "]":
                return (at, here + 1, "block", content)
            if mark != ",":
                raise Unreadable("not JSON: ',' or ']' is expected here", here)
            here = self.space(here + 1)


class _Walk:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.key_characters = 0

    def value(self, value: Value, key: str) -> None:
        start, end, style, content = value
        if isinstance(content, str):
            self.add(key, content, start, end, style)
        elif not content:
            self.add(key, "{}" if isinstance(content, dict) else "[]", start, end, style)
        elif isinstance(content, dict):
            for name, child in content.items():
                self.value(child, child_key(key, name))
        else:
            self.sequence(content, key)

    def sequence(self, content: list[Value], key: str) -> None:
        used: dict[str, int] = {}
        for i, child in enumerate(content):
            name = _item_name(child)
            if name is None:
                self.value(child, f"{key}[{i}]")
                continue
            used[name] = used.get(name, 0) + 1
            again = f"#{used[name]}" if used[name] > 1 else ""
            self.value(child, key + item_part(name) + again)

    def add(self, key: str, value: str, start: int, end: int, style: str) -> None:
        self.key_characters += len(key)
        if len(key) > KEY_CHARACTERS_MAX or self.key_characters > KEYS_CHARACTERS_MAX:
            raise Unreadable(f"keys too long ({len(key)} characters here)", start)
        if len(self.entries) >= ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", start)
        self.entries.append(Entry(0, key, value, start, end, style, "json"))


def _item_name(value: Value) -> str | None:
    content = value[3]
    if not isinstance(content, dict):
        return None
    for candidate in _ITEM_NAMES:
        if candidate in content:
            name = content[candidate][3]
            if isinstance(name, str) and name and len(name) <= 253:
                return name
    return None
