"""TOML to entries, with the place of every value.

The standard library decides whether the text is TOML and what it means; this scanner adds the positions, and
the two must agree on every key and value, or the file is not read.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from typing import Any

from advisor.config_file.records import (
    ENTRIES_MAX,
    KEY_CHARACTERS_MAX,
    KEYS_CHARACTERS_MAX,
    NESTING_MAX,
    TOML_BYTES_MAX,
    Entry,
    Unreadable,
    child_key,
    item_part,
)

_SPACE = re.compile(r"[ \t]*+")
_BLANK = re.compile(r"(?>[ \t\r\n]++|#[^\n]*+)*+")
_LINE_REST = re.compile(r"[ \t]*+(?:#[^\n]*+)?(?:\n|\Z)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]++")
_BASIC = re.compile(r'"(?>[^"\\\n]++|\\.)*+"')
_LITERAL = re.compile(r"'[^'\n]*+'")
_MULTI_BASIC = re.compile(r'"""(?>[^"\\]++|\\.|"(?!""))*+"""(?:"{1,2}(?!"))?', re.S)
_MULTI_LITERAL = re.compile(r"'''(?>[^']++|'(?!''))*+'''(?:'{1,2}(?!'))?")
_BARE = re.compile(r"[^\s,\]}#=\[{]++(?: [0-9]{2}:[0-9:.]++[^\s,\]}#]*+)?")
_ITEM_NAMES = ("name", "key", "id")
_LINE = re.compile(r"line (\d+)")

Part = tuple[int, int, str, str]  # start, end, style, decoded text


def read_toml(text: str) -> tuple[list[Entry], dict[tuple[int, str], tuple[int, int]]]:
    """Return the entries of a TOML text with character spans, and the statement that each stands in.

    Raises:
        Unreadable: Not TOML, or beyond a bound.
    """
    if len(text) > TOML_BYTES_MAX:
        raise Unreadable(f"{len(text)} characters, more than the {TOML_BYTES_MAX} that are read of a TOML file")
    scanner = _Scanner(text.replace("\r\n", " \n"))  # the same length, so positions stay; TOML has no lone CR
    scanner.document()
    try:
        meaning = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        at = _LINE.search(str(error))
        raise Unreadable(f"not TOML: {error}", line=int(at[1]) if at else None) from error
    walk = _Walk(scanner.regions)
    walk.value(scanner.root, meaning, "")
    return walk.entries, walk.regions


class _Scanner:
    """Positions of keys and values; lenient, because the standard library has the last word."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root: dict[str, Any] = {}
        self.regions: dict[int, tuple[int, int]] = {}  # start of a value -> its statement
        self.values = 0

    def document(self) -> None:
        table = self.root
        at = self.skip(_BLANK, 0)
        while at < len(self.text):
            line = at
            if self.text.startswith("[", at):
                table, at = self.header(at)
            else:
                path, at = self.key(at)
                at = self.skip(_SPACE, self.expect("=", at))
                value, at = self.value(at, 1)
                self.put(table, path, value, line)
                if isinstance(value, tuple):
                    self.regions[value[0]] = (line, at)
            rest = _LINE_REST.match(self.text, at)
            if rest is None:
                raise Unreadable("not TOML: the line does not end here", at)
            at = self.skip(_BLANK, rest.end())

    def skip(self, pattern: re.Pattern[str], at: int) -> int:
        match = pattern.match(self.text, at)
        return match.end() if match else at

    def expect(self, mark: str, at: int) -> int:
        at = self.skip(_SPACE, at)
        if not self.text.startswith(mark, at):
            raise Unreadable(f"not TOML: {mark!r} is expected here", at)
        return at + len(mark)

    def header(self, at: int) -> tuple[dict[str, Any], int]:
        several = self.text.startswith("[[", at)
        path, end = self.key(at + (2 if several else 1))
        end = self.expect("]]" if several else "]", end)
        table = self.root
        for name in path[:-1]:
            table = self.inside(table.setdefault(name, {}), at)
        last = path[-1]
        if several:
            tables = table.setdefault(last, [])
            if not isinstance(tables, list):
                raise Unreadable(f"not TOML: {last[:100]} is no list of tables", at)
            tables.append({})
            return self.inside(tables, at), end
        return self.inside(table.setdefault(last, {}), at), end

    def inside(self, value: Any, at: int) -> dict[str, Any]:
        if isinstance(value, list) and value:
            value = value[-1]
        if not isinstance(value, dict):
            raise Unreadable("not TOML: a table and a value of the same name", at)
        return value

    def key(self, at: int) -> tuple[list[str], int]:
        path: list[str] = []
        while True:
            at = self.skip(_SPACE, at)
            mark = self.text[at : at + 1]
            match = (_BASIC if mark == '"' else _LITERAL if mark == "'" else _BARE_KEY).match(self.text, at)
            if match is None:
                raise Unreadable("not TOML: a key is expected here", at)
            name = match.group()
            if mark == '"':
                name = _decode(name, at)
            elif mark == "'":
                name = name[1:-1]
            path.append(name)
            if len(path) > NESTING_MAX:
                raise Unreadable(f"nested deeper than {NESTING_MAX} levels", at)
            at = self.skip(_SPACE, match.end())
            if not self.text.startswith(".", at):
                return path, at
            at += 1

    def put(self, table: dict[str, Any], path: list[str], value: Any, at: int) -> None:
        for name in path[:-1]:
            table = self.inside(table.setdefault(name, {}), at)
        if path[-1] in table:
            raise Unreadable(f"key {path[-1][:200]} is defined twice", at)
        table[path[-1]] = value

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        self.values += 1
        if self.values > ENTRIES_MAX * 2:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", at)
        if depth > NESTING_MAX:
            raise Unreadable(f"nested deeper than {NESTING_MAX} levels", at)
        text = self.text
        if text.startswith("[", at):
            return self.array(at, depth)
        if text.startswith("{", at):
            return self.inline(at, depth)
        for mark, pattern, style in _STRINGS:
            if text.startswith(mark, at):
                match = pattern.match(text, at)
                if match is None:
                    raise Unreadable("not TOML: a string that does not end", at)
                return (at, match.end(), style, match.group()), match.end()
        match = _BARE.match(text, at)
        if match is None:
            raise Unreadable("not TOML: a value is expected here", at)
        return (at, match.end(), "bare", match.group()), match.end()

    def array(self, at: int, depth: int) -> tuple[Any, int]:
        items: list[Any] = []
        here = self.skip(_BLANK, at + 1)
        while not self.text.startswith("]", here):
            item, here = self.value(here, depth + 1)
            items.append(item)
            here = self.skip(_BLANK, here)
            if self.text.startswith(",", here):
                here = self.skip(_BLANK, here + 1)
            elif not self.text.startswith("]", here):
                raise Unreadable("not TOML: ',' or ']' is expected here", here)
        return items or (at, here + 1, "collection", "[]"), here + 1

    def inline(self, at: int, depth: int) -> tuple[Any, int]:
        table: dict[str, Any] = {}
        here = self.skip(_BLANK, at + 1)
        while not self.text.startswith("}", here):
            path, here = self.key(here)
            value, here = self.value(self.skip(_SPACE, self.expect("=", here)), depth + 1)
            self.put(table, path, value, at)
            here = self.skip(_BLANK, here)
            if self.text.startswith(",", here):
                here = self.skip(_BLANK, here + 1)
            elif not self.text.startswith("}", here):
                raise Unreadable("not TOML: ',' or '}' is expected here", here)
        return table or (at, here + 1, "collection", "{}"), here + 1


_STRINGS = (
    ('"""', _MULTI_BASIC, "multi_basic"),
    ("'''", _MULTI_LITERAL, "multi_literal"),
    ('"', _BASIC, "double"),
    ("'", _LITERAL, "single"),
)


def _decode(token: str, at: int) -> str:
    if "\\" not in token:
        return token[1:-1]
    try:
        return str(tomllib.loads(f"v = {token}")["v"])
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(f"not TOML: {error}", at) from error


class _Walk:
    """Names the scanner's values with the standard library's meaning beside them."""

    def __init__(self, statements: dict[int, tuple[int, int]]) -> None:
        self.entries: list[Entry] = []
        self.regions: dict[tuple[int, str], tuple[int, int]] = {}
        self.statements = statements
        self.key_characters = 0

    def value(self, found: Any, meaning: Any, key: str) -> None:
        if isinstance(found, tuple):
            self.scalar(found, meaning, key)
        elif isinstance(found, dict) and isinstance(meaning, dict):
            if found.keys() != meaning.keys():
                raise Unreadable(f"not read with certainty: table {key[:200]}")
            for name, child in found.items():
                self.value(child, meaning[name], child_key(key, name))
            if not found and key:
                self.add(key, "{}", None, None, "collection")
        elif isinstance(found, list) and isinstance(meaning, list) and len(found) == len(meaning):
            self.sequence(found, meaning, key)
        else:
            raise Unreadable(f"not read with certainty: {key[:200]}")

    def sequence(self, found: list[Any], meaning: list[Any], key: str) -> None:
        used: dict[str, int] = {}
        for i, (item, item_meaning) in enumerate(zip(found, meaning, strict=True)):
            name = _item_name(item_meaning)
            if name is None:
                self.value(item, item_meaning, f"{key}[{i}]")
                continue
            used[name] = used.get(name, 0) + 1
            again = f"#{used[name]}" if used[name] > 1 else ""
            self.value(item, item_meaning, key + item_part(name) + again)

    def scalar(self, found: Part, meaning: Any, key: str) -> None:
        start, end, style, text = found
        if style not in ("bare", "collection"):
            if not isinstance(meaning, str):
                raise Unreadable(f"not read with certainty: {key[:200]}", start)
            text = meaning
        elif isinstance(meaning, str) or (style == "bare" and not isinstance(meaning, _BARE_TYPES)):
            raise Unreadable(f"not read with certainty: {key[:200]}", start)
        if start in self.statements:
            self.regions[(0, key)] = self.statements[start]
        self.add(key, text, start, end, style)

    def add(self, key: str, value: str, start: int | None, end: int | None, style: str) -> None:
        self.key_characters += len(key)
        if len(key) > KEY_CHARACTERS_MAX or self.key_characters > KEYS_CHARACTERS_MAX:
            raise Unreadable(f"keys too long ({len(key)} characters here)", start)
        if len(self.entries) >= ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", start)
        self.entries.append(Entry(0, key, value, start, end, style, "toml"))


_BARE_TYPES = (bool, int, float, datetime.date, datetime.time)


def _item_name(meaning: Any) -> str | None:
    if isinstance(meaning, dict):
        for candidate in _ITEM_NAMES:
            name = meaning.get(candidate)
            if isinstance(name, str) and name and len(name) <= 253:
                return name
    return None
