"""Directives in braces to entries: nginx (``name value;``), Caddy and keepalived (one directive on a line).

Blocks and directives that may stand several times go by what they are called: ``http.upstream[app].server[10.0.0.1]``,
``http.server[shop.example.org].location[/api].proxy_read_timeout``. Options written ``name=value`` are keys of their
directive. Includes are not followed, variables not resolved. Called by `reading`.

Source: nginx documentation, "Configuration File's Structure" and the list of directives; Caddy documentation,
"Caddyfile Concepts".
"""

from __future__ import annotations

import re
from typing import NamedTuple

from advisor.config_file.line_readers import Collected, Lines, Region
from advisor.config_file.records import (
    ENTRIES_MAX,
    KEY_CHARACTERS_MAX,
    NESTING_MAX,
    Entry,
    Unreadable,
    child_key,
    item_part,
)

WORDS_MAX = 5_000  # of one directive: a long list of addresses has some hundreds
_SPACE = re.compile(r"(?:[ \t\f\v\r\n]++|#[^\r\n]*+)*+")
_SPACE_IN_LINE = re.compile(r"(?:[ \t\f\v]++|\\(?:\r\n|\n))*+")
_LINE_END = re.compile(r"(?:#[^\r\n]*+)?(?:\r\n|\r|\n|\Z)")
_WORD = re.compile(r"(?>\\.|\$\{[^}\s;]*+\}|[^\s;{}\\])++", re.S)
_LINE_WORD = re.compile(r"(?>\\[^\r\n]|\{[^\s{}]*+\}|[^\s{}\\])++|\{\S++")
_QUOTED = re.compile(r"\"(?>[^\"\\]++|\\.)*+\"|'(?>[^'\\]++|\\.)*+'", re.S)
_RAW_PART = re.compile(r"[{}]|--[^\r\n]*+|\"(?>[^\"\\\r\n]++|\\.)*+\"|'(?>[^'\\\r\n]++|\\.)*+'", re.S)
_OPTION = re.compile(r"([A-Za-z_][\w\-]*+)=(.++)\Z", re.S)
_REST = re.compile(r"[ \t]*+(?:#[^\r\n]*+)?(?:\r\n|\r|\n|\Z)")
# Directives that stand once for each first argument.
_BY_ARGUMENT = frozenset(
    "server add_header more_set_headers proxy_set_header grpc_set_header fastcgi_param uwsgi_param scgi_param set"
    " log_format limit_req_zone limit_conn_zone limit_conn limit_req proxy_cache_path proxy_cache_valid"
    " proxy_hide_header proxy_pass_header error_page env auth_request_set sub_filter header_up header_down header"
    " resolver_zone perl_set js_set load_module map_hash".split()
)
# Directives of which each more is one more, in an order that may matter.
_LISTS = frozenset("listen include allow deny rewrite access_log error_log try_files_list import".split())
_TABLES = frozenset(("map", "geo", "types", "split_clients", "charset_map", "match"))  # their names are data


class Word(NamedTuple):
    """One word, decoded as far as its quotes, with its characters."""

    text: str
    start: int
    end: int
    style: str


class _Directive:
    """One directive or block, and what is below it."""

    __slots__ = ("children", "end", "raw", "start", "words")

    def __init__(self, words: list[Word], start: int) -> None:
        """Keep the words; what is below comes while the text is read."""
        self.words = words
        self.start = start
        self.end = start
        self.children: list[_Directive] | None = None
        self.raw: str | None = None


def read_blocks(text: str, by_line: bool) -> Lines:
    """Return the entries of a text of directives and blocks.

    Args:
        text: Without byte order mark.
        by_line: Whether a directive ends with its line, not with a semicolon.

    Raises:
        Unreadable: Not written so, or a bound is passed.
    """
    roots = _Parser(text, by_line).parse()
    found = Collected()
    _walk(found, text, roots, "", "")
    return found.lines([""])


class _Parser:
    def __init__(self, text: str, by_line: bool) -> None:
        self.text = text
        self.by_line = by_line
        self.word = _LINE_WORD if by_line else _WORD

    def parse(self) -> list[_Directive]:
        text, at = self.text, 0
        levels: list[list[_Directive]] = [[]]
        opened: list[_Directive] = []
        words: list[Word] = []
        count = 0
        while True:
            at = self.skip(at, bool(words))
            ended = self.by_line and bool(words) and _LINE_END.match(text, at)
            character = text[at : at + 1]
            if ended or (character == ";" and words and not self.by_line):
                directive = _Directive(words, words[0].start)
                directive.end = at if ended else at + 1
                levels[-1].append(directive)
                words = []
                at += 0 if ended else 1
                count += 1
                if count > ENTRIES_MAX:
                    raise Unreadable(f"more than {ENTRIES_MAX} keys", at)
            elif not character:
                break
            elif self.opens(at):
                block = _Directive(words, words[0].start if words else at)
                words = []
                if not block.words and not (self.by_line and len(levels) == 1):
                    raise Unreadable("a block without a name", at)
                levels[-1].append(block)
                if block.words and block.words[0].text.endswith("_by_lua_block"):
                    at = self.raw(block, at)
                    continue
                block.children = []
                opened.append(block)
                levels.append(block.children)
                count += 1
                if len(levels) > NESTING_MAX or count > ENTRIES_MAX:
                    raise Unreadable(f"nested deeper than {NESTING_MAX} levels, or too many blocks", at)
                at += 1
            elif character == "}":
                if words or not opened:
                    raise Unreadable("a brace that closes nothing, or a directive without its end", at)
                levels.pop()
                at += 1
                opened.pop().end = at
            elif character == ";" and not words and at and text[at - 1] == "}":
                at += 1  # BIND closes its blocks so
            else:
                word = self.next(at)
                words.append(word)
                if len(words) > WORDS_MAX:
                    raise Unreadable(f"a directive of more than {WORDS_MAX} words", words[0].start)
                at = word.end
        if words or opened:
            at = words[0].start if words else opened[-1].start
            raise Unreadable("a directive or a block that does not end", at)
        return levels[0]

    def skip(self, at: int, inside: bool) -> int:
        found = (_SPACE_IN_LINE if inside and self.by_line else _SPACE).match(self.text, at)
        return found.end() if found else at

    def opens(self, at: int) -> bool:
        """Return whether a block begins; Caddy has words that begin with a brace, such as ``{host}``."""
        if self.text[at] != "{":
            return False
        return not self.by_line or self.text[at + 1 : at + 2] in ("", " ", "\t", "\r", "\n", "#")

    def next(self, at: int) -> Word:
        text = self.text
        if text[at] in "\"'":
            quoted = _QUOTED.match(text, at)
            if quoted is None:
                raise Unreadable("a quote that does not end", at)
            style = "single" if text[at] == "'" else "double"
            return Word(quoted.group()[1:-1], at, quoted.end(), style)
        found = self.word.match(text, at)
        if found is None:
            raise Unreadable(f"{text[at]!r} is not expected here", at)
        return Word(found.group(), at, found.end(), "plain")

    def raw(self, block: _Directive, at: int) -> int:
        """Take the program text in braces as it stands."""
        depth = 0
        for part in _RAW_PART.finditer(self.text, at):
            depth += {"{": 1, "}": -1}.get(part.group(), 0)
            if depth == 0:
                block.raw = self.text[at + 1 : part.start()].strip()
                block.end = part.end()
                return part.end()
        raise Unreadable("a block that does not end", at)


def _walk(found: Collected, text: str, directives: list[_Directive], prefix: str, table: str) -> None:
    counts: dict[str, int] = {}
    for directive in directives:
        words = directive.words
        region = _region(text, directive)
        if directive.children is not None:
            key = _numbered(_block_key(directive, prefix), counts, "#", 1)
            if len(key) > KEY_CHARACTERS_MAX:
                raise Unreadable(f"keys too long ({len(key)} characters here)", directive.start)
            if directive.children:
                name = words[0].text if words else ""
                _walk(found, text, directive.children, key, name)
            else:
                found.add(Entry(0, key, "{}", None, None, "block", "nginx"), region, directive.start)
        elif directive.raw is not None:
            key = _numbered(_block_key(directive, prefix), counts, "#", 1)
            found.add(Entry(0, key, directive.raw, None, None, "raw", "nginx"), region, directive.start)
        else:
            _directive(found, text, directive, prefix, table, counts, region)


def _block_key(block: _Directive, prefix: str) -> str:
    if not block.words:
        return child_key(prefix, "global")
    key = child_key(prefix, block.words[0].text)
    if len(block.words) > 1:
        return key + item_part(" ".join(w.text for w in block.words[1:]))
    for child in block.children or ():
        name = child.words[0].text if child.words else ""
        if name == "server_name" and len(child.words) > 1 and child.words[1].text not in ("_", ""):
            return key + item_part(child.words[1].text)
    return key


def _numbered(key: str, counts: dict[str, int], mark: str, shift: int) -> str:
    """Return the key of a block that has namesakes: ``key``, then ``key#2``."""
    number = counts[key] = counts.get(key, -1) + 1
    return key if number == 0 else f"{key}{mark}{number + shift}"


def _directive(
    found: Collected,
    text: str,
    directive: _Directive,
    prefix: str,
    table: str,
    counts: dict[str, int],
    region: Region | None,
) -> None:
    name, words = directive.words[0].text, directive.words[1:]
    key = child_key(prefix, name)
    if table not in _TABLES and name in _LISTS:
        counts[key] = counts.get(key, -1) + 1
        key = f"{key}[{counts[key]}]"
    elif table not in _TABLES and name in _BY_ARGUMENT and len(words) > (0 if name in ("server", "env") else 1):
        key = _numbered(key + item_part(words[0].text or '""'), counts, "#", 1)
        words = words[1:]
    else:
        number = counts[key] = counts.get(key, -1) + 1
        key = key if number == 0 else f"{key}[{number}]"
    add_words(found, text, key, words, region, "nginx", directive.start)


def add_words(
    found: Collected,
    text: str,
    key: str,
    words: list[Word],
    region: Region | None,
    format_name: str,
    at: int,
) -> None:
    """Add what a directive says: its words as one value, ``name=value`` among them as keys of their own."""
    options: dict[str, tuple[re.Match[str], Word]] = {}
    rest: list[Word] = []
    for word in words:
        option = _OPTION.match(word.text) if word.style == "plain" else None
        if option is not None and option[1] not in options and not re.search(r"[\"'\\]", option[2]):
            options[option[1]] = (option, word)
        else:
            rest.append(word)
    if options and len(words) == 1 and len(options) == 1 and not key.endswith("]"):
        options, rest = {}, words  # `name a=b` alone is a value like any other
    if rest or not options:
        alone = region if not options else None
        found.add(_value(text, key, rest, bool(options), format_name), alone, at)
    elif key.endswith("]"):
        found.add(Entry(0, key, "", None, None, "bare", format_name), None, at)
    for name, (option, word) in options.items():
        span = (word.start + option.start(2), word.end)
        found.add(Entry(0, f"{key}.{name}", option[2], *span, "word", format_name), None, at)


def _value(text: str, key: str, words: list[Word], split: bool, format_name: str) -> Entry:
    if not words:
        return Entry(0, key, "", None, None, "bare", format_name)
    if len(words) == 1:
        word = words[0]
        return Entry(0, key, word.text, word.start, word.end, word.style, format_name)
    value = " ".join(text[w.start : w.end] for w in words)
    start, end = words[0].start, words[-1].end
    in_one = not split or text[start:end].split() == value.split()
    return Entry(0, key, value, start if in_one else None, end if in_one else None, "words", format_name)


def _region(text: str, directive: _Directive) -> Region | None:
    """Return the whole lines of a directive that stands alone on them."""
    start = directive.start
    while start and text[start - 1] in " \t":
        start -= 1
    if start and text[start - 1] not in "\r\n":
        return None
    rest = _REST.match(text, directive.end)
    return (start, rest.end()) if rest else None
