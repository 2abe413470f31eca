"""HCL (Terraform, Nomad) to entries: blocks, attributes, objects; what is computed is read whole and never edited.

Cheap on purpose: strings, numbers and booleans have a span; lists, references, calls, templates and heredocs are shown as
they are written. Source: HCL native syntax specification (hashicorp/hcl, hclsyntax/spec.md).
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
)

_SPACE = re.compile(r"(?:[ \t\r]++|#[^\n]*+|//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/)*+")
_LINES = re.compile(r"(?:[ \t\r\n,]++|#[^\n]*+|//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/)*+")
_NAME = re.compile(r"[A-Za-z_][\w-]*+")
_STRING = re.compile(r'"(?>[^"\\\n]++|\\[^\n])*+"')
_BARE = re.compile(r"(?:-?\d++(?:\.\d++)?(?:[eE][+-]?\d++)?|true|false|null)(?=[ \t\r]*+(?:[\n,}#]|//|/\*|\Z))")
_HEREDOC = re.compile(r"<<-?([A-Za-z_]\w*+)[ \t\r]*+\n")
_REST = re.compile(r'[^\n"\[\](){}#,/]++|[,/]')
_CLOSING = {"[": "]", "(": ")", "{": "}"}


def read_hcl(text: str) -> list[Entry]:
    """Return the entries of an HCL text with character spans.

    Raises:
        Unreadable: Not HCL as far as this reader knows it, or beyond a bound.
    """
    reader = _Reader(text)
    end = reader.body(0, "", 1, closing="")
    if end < len(text):
        raise Unreadable("not HCL: text after the end", end)
    return reader.entries


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.entries: list[Entry] = []
        self.repeated: dict[str, int] = {}
        self.key_characters = 0

    def body(self, at: int, prefix: str, depth: int, closing: str) -> int:
        """Read attributes and blocks until the closing brace; return the place of it."""
        if depth > NESTING_MAX:
            raise Unreadable(f"nested deeper than {NESTING_MAX} levels", at)
        while True:
            at = self.skip(_LINES, at)
            if at >= len(self.text) or (closing and self.text[at] == closing):
                if closing and at >= len(self.text):
                    raise Unreadable("not HCL: a block that does not end", at)
                return at
            at, name = self.name(at)
            at = self.skip(_SPACE, at)
            if self.text[at : at + 1] in ("=", ":") and self.text[at : at + 2] != "==":
                at = self.value(self.skip(_SPACE, at + 1), child_key(prefix, name), depth)
            else:
                at = self.block(at, child_key(prefix, name), depth)

    def block(self, at: int, key: str, depth: int) -> int:
        while self.text[at : at + 1] != "{":
            start = at
            at, label = self.name(at)
            key = f"{key}[{label}]" if _NAME.fullmatch(label) else f"{key}[{json.dumps(label)}]"
            at = self.skip(_SPACE, at)
            if at == start or at >= len(self.text):
                raise Unreadable("not HCL: a block without braces", start)
            if len(key) > KEY_CHARACTERS_MAX:  # said here: to put one label after another takes quadratic time
                raise Unreadable(f"keys too long ({len(key)} characters here)", start)
        count = self.repeated[key] = self.repeated.get(key, -1) + 1
        inner = key if count == 0 else f"{key}[{count}]"
        return self.body(at + 1, inner, depth + 1, closing="}") + 1

    def name(self, at: int) -> tuple[int, str]:
        found = _NAME.match(self.text, at)
        if found:
            return found.end(), found.group()
        quoted = _STRING.match(self.text, at)
        if quoted is None:
            raise Unreadable("not HCL: a name is expected here", at)
        return quoted.end(), self.decoded(quoted.group(), at)

    def value(self, at: int, key: str, depth: int) -> int:
        found = _STRING.match(self.text, at)
        if found and self.ends_here(found.end()):
            token = found.group()
            computed = "${" in token or "%{" in token
            value = token[1:-1] if computed else self.decoded(token, at)
            self.add(key, value, None if computed else at, None if computed else found.end(), "double")
            return found.end()
        bare = _BARE.match(self.text, at)
        if bare:
            self.add(key, bare.group(), at, bare.end(), "bare")
            return bare.end()
        if self.text[at : at + 1] == "{":
            return self.body(at + 1, key, depth + 1, closing="}") + 1
        heredoc = _HEREDOC.match(self.text, at)
        end = self.heredoc(heredoc) if heredoc else self.expression(at)
        self.add(key, self.text[at:end].strip(), None, None, "expression")
        return end

    def ends_here(self, at: int) -> bool:
        at = self.skip(_SPACE, at)
        return self.text[at : at + 1] in ("", "\n", ",", "}")

    def heredoc(self, found: re.Match[str]) -> int:
        close = re.compile(rf"^[ \t]*{found[1]}[ \t\r]*$", re.M).search(self.text, found.end())
        if close is None:
            raise Unreadable("not HCL: a heredoc that does not end", found.start())
        return close.end()

    def expression(self, at: int) -> int:
        """Return the end of an expression: the end of the line outside of brackets."""
        open_brackets: list[str] = []
        start = at
        while at < len(self.text):
            character = self.text[at]
            if character == "\n" and not open_brackets:
                break
            if character == "#" or self.text.startswith(("//", "/*"), at):
                if not open_brackets:
                    break
                moved = self.skip(_SPACE, at)
                if moved == at:
                    raise Unreadable("not HCL: a comment that does not end", at)
                at = moved
            elif character == '"':
                quoted = _STRING.match(self.text, at)
                if quoted is None:
                    raise Unreadable("not HCL: a string that does not end", at)
                at = quoted.end()
            elif character in _CLOSING:
                open_brackets.append(_CLOSING[character])
                if len(open_brackets) > NESTING_MAX:
                    raise Unreadable(f"nested deeper than {NESTING_MAX} levels", at)
                at += 1
            elif character in "])}":
                if not open_brackets:
                    break
                if open_brackets.pop() != character:
                    raise Unreadable(f"not HCL: {character!r} closes nothing", at)
                at += 1
            elif character == "," and not open_brackets:
                break
            else:
                rest = _REST.match(self.text, at)
                at = rest.end() if rest else at + 1
        if at == start or open_brackets:
            raise Unreadable("not HCL: a value is expected here", start)
        return at

    def add(self, key: str, value: str, start: int | None, end: int | None, style: str) -> None:
        self.key_characters += len(key)
        if len(key) > KEY_CHARACTERS_MAX or self.key_characters > KEYS_CHARACTERS_MAX:
            raise Unreadable(f"keys too long ({len(key)} characters here)", start)
        if len(self.entries) >= ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", start)
        self.entries.append(Entry(0, key, value, start, end, style, "hcl"))

    def skip(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self.text, at)
        return found.end() if found else at

    def decoded(self, token: str, at: int) -> str:
        if "\\" not in token:
            return token[1:-1]
        try:
            return str(json.loads(token))
        except ValueError as error:
            raise Unreadable("not HCL: a bad escape in a string", at) from error
