"""Templates (Helm, Jinja, Go) to entries, before they are rendered: what is plain in them, and nothing guessed.

A YAML template is read line by line: a path follows from indentation, a plain value is a value, one that carries ``{{ }}``
or ``{% %}`` is shown as it is written and never edited. A key that stands in two branches has two values, ``key#1`` and
``key#2``, and none under its own name. Conditions and loops are keys without a value, so that their change is seen. Lines
of other formats are read with their tags blanked out. Called by `reading`, for YAML only after YAML itself did not read it.

Source: Helm documentation, "Flow Control" and "Template Functions and Pipelines"; Jinja, "Template Designer Documentation".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from advisor.config_file.line_readers import Collected, Lines
from advisor.config_file.records import (
    DOCUMENTS_MAX,
    ENTRIES_MAX,
    KEY_CHARACTERS_MAX,
    NESTING_MAX,
    Entry,
    Unreadable,
    child_key,
    item_part,
)

TEMPLATE_SUFFIX = re.compile(r"\.(?:j2|jinja2?|tpl|tmpl|gotmpl|ctmpl|erb)\Z")
_OPENING = re.compile(r"\{\{|\{%|\{#|<%")
_CLOSING = {"{{": "}}", "{%": "%}", "{#": "#}", "<%": "%>"}
_LINE = re.compile(r"([^\r\n]*+)(?:\r\n|\r|\n|\Z)")
_DASH = re.compile(r"-(?:[ ]++|\Z)")
_KEY = re.compile(
    r"(?:([A-Za-z0-9_][^\s:#{}\"'\[\],&*!|>%@`]*+)|\"([^\"\\{}\r\n]*+)\"|'([^'{}\r\n]*+)')[ ]*+:(?=[ ]|\Z)"
)
_BLOCK = re.compile(r"[|>][-+0-9]{0,2}[ ]*+(?:#.*)?\Z")
_QUOTED = re.compile(r"(?:'([^']*+(?:''[^']*+)*+)'|\"([^\"\\]*+)\")(?:[ ]++(?:#.*)?)?\Z")
_COMMENT = re.compile(r"[ ]#")
_STATEMENT = re.compile(r"(?:\{\{|\{%|<%)[-~=]?\s*+([A-Za-z]*+)")
_CLOSERS = frozenset(
    "end else elif elsif endif endfor endblock endmacro endwith endset endcall endfilter endraw".split()
)
_CONTROLS = frozenset("if range with define block for macro set unless raw call filter extends import from".split())
_SHOWN = 200  # characters of a statement that serve as its key
_HIDDEN = "\ue000"  # private use: stands for a tag while another reader reads the line
_NAMES = ("name", "key", "id")


class _Tag(NamedTuple):
    """One tag of a template, with its delimiters."""

    start: int
    end: int
    comment: bool


def tags_of(text: str) -> list[_Tag]:
    """Return the tags of a template in order.

    Raises:
        Unreadable: One does not end.
    """
    found: list[_Tag] = []
    at = 0
    while opening := _OPENING.search(text, at):
        start = opening.start()
        end = text.find(_CLOSING[opening.group()], opening.end())
        if end < 0:
            raise Unreadable("a template tag that does not end", start)
        at = end + 2
        inner = text[opening.end() : opening.end() + 8].lstrip("-~ \t\r\n")
        found.append(_Tag(start, at, opening.group() == "{#" or inner.startswith(("/*", "!"))))
        if len(found) > ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} template tags", start)
    return found


def has_tags(text: str) -> bool:
    """Return whether a text carries template tags."""
    return "{{" in text or "{%" in text or "<%" in text


class _Node:
    """One line of a YAML template: a key or a list item, with its value and what is below it."""

    __slots__ = ("children", "end", "indentation", "item", "name", "start", "style", "value")

    def __init__(self, indentation: int, name: str | None, start: int) -> None:
        """Keep the name; a node without one is a list item."""
        self.indentation = indentation
        self.name = name
        self.item = name is None
        self.start = start
        self.end = start
        self.value: str | None = None
        self.style = "empty"
        self.children: list[_Node] = []


def read_template(text: str) -> Lines:
    """Return what is plain in a YAML template.

    Raises:
        Unreadable: It is laid out in a way that indentation alone does not tell, or a bound is passed.
    """
    reader = _Reader(text)
    reader.read()
    return _entries(reader)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tags = tags_of(text)
        self.next_tag = 0
        self.roots: list[_Node] = [_Node(-1, "", 0)]
        self.open: list[_Node] = [self.roots[0]]
        self.statements: list[tuple[int, str, int]] = []
        self.last: _Node | None = None
        self.nodes = 0

    def read(self) -> None:
        text, at = self.text, 0
        while at < len(text):
            end, stop, tagged = self.line(at)
            body = text[at:stop]
            stripped = body.strip(" ")
            if stripped and stripped[0] != "#":
                if body[:3] == "---" and not body[3:].strip(" "):
                    self.document(at)
                elif tagged and self.only_tags(at, stop):
                    self.statement(at, stop)
                else:
                    end = self.content(at, stop, end, tagged)
            at = end

    def line(self, at: int) -> tuple[int, int, bool]:
        """Return the end of a line, where its text stops, and whether tags stand in it; tags may go on below."""
        match = _LINE.match(self.text, at)
        stop, end = (match.end(1), match.end()) if match else (at, len(self.text))
        tagged = False
        while self.next_tag < len(self.tags) and self.tags[self.next_tag].start < stop:
            tag = self.tags[self.next_tag]
            self.next_tag += 1
            if tag.end <= at:
                continue
            tagged = True
            if tag.end > stop:
                match = _LINE.match(self.text, tag.end)
                stop, end = (match.end(1), match.end()) if match else (tag.end, tag.end)
        return end, stop, tagged

    def only_tags(self, at: int, stop: int) -> bool:
        i = self.next_tag - 1
        covered: list[_Tag] = []
        while i >= 0 and self.tags[i].end > at:
            covered.append(self.tags[i])
            i -= 1
        place = at
        for tag in reversed(covered):
            if self.text[place : tag.start].strip():
                return False
            place = tag.end
        return not self.text[place:stop].strip()

    def document(self, at: int) -> None:
        if len(self.roots) >= DOCUMENTS_MAX:
            raise Unreadable(f"more than {DOCUMENTS_MAX} documents", at)
        if self.roots[-1].children:
            self.roots.append(_Node(-1, "", at))
        self.open = [self.roots[-1]]
        self.last = None

    def statement(self, at: int, stop: int) -> None:
        """Keep what a line of tags says: an insertion is the value of the key above, a condition is a key."""
        said = " ".join(self.text[at:stop].split())
        word = _STATEMENT.match(said)
        name = word[1] if word else ""
        if name in _CLOSERS or (word is None) or "/*" in said[:6]:
            return
        last = self.last
        if name and name not in _CONTROLS and last is not None and last.value is None and not last.children:
            last.value, last.style = said, "template"
        else:
            self.statements.append((len(self.roots) - 1, said, at))

    def content(self, at: int, stop: int, end: int, tagged: bool) -> int:
        """Read a line with a key, an item or the rest of a value; return where the next one begins."""
        text = self.text
        first = at + len(text[at:stop]) - len(text[at:stop].lstrip(" "))
        if text[first] == "\t":
            raise Unreadable("a template that is indented with tabs", first)
        if text[first] in "{<" and tagged:  # `{{ .name }}: value`, or a condition and a key on one line
            self.statements.append((len(self.roots) - 1, text[first:stop].strip(), at))
            self.last = None
            return end
        indentation = first - at
        while dash := _DASH.match(text, first, stop):
            self.add(_Node(indentation, None, first))
            first, indentation = dash.end(), indentation + dash.end() - first
        if first >= stop:
            return end
        key = _KEY.match(text, first, stop)
        if key is None:
            self.rest(first, stop, indentation)
            return end
        node = _Node(indentation, key[1] or key[2] or key[3] or "", first)
        self.add(node)
        value_at = key.end() + len(text[key.end() : stop]) - len(text[key.end() : stop].lstrip(" "))
        raw = text[value_at:stop].rstrip(" ")
        if _BLOCK.match(raw):
            return self.block(node, value_at, end)
        self.value(node, raw, value_at)
        return end

    def add(self, node: _Node) -> None:
        self.nodes += 1
        if self.nodes > ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", node.start)
        while len(self.open) > 1 and not self.holds(self.open[-1], node):
            self.open.pop()
        holder = self.open[-1]
        if holder.value is not None and holder.style != "template":
            raise Unreadable("a key below a value", node.start)
        holder.children.append(node)
        self.open.append(node)
        if len(self.open) > NESTING_MAX:
            raise Unreadable(f"nested deeper than {NESTING_MAX} levels", node.start)
        self.last = node

    def holds(self, outer: _Node, node: _Node) -> bool:
        """Return whether a node is below another: deeper, or an item at the column of the key that holds it."""
        if node.indentation > outer.indentation:
            return True
        return node.item and not outer.item and node.indentation == outer.indentation

    def rest(self, first: int, stop: int, indentation: int) -> None:
        """Take a line that is no key: the scalar of a list item, or more of the value above."""
        last = self.last
        raw = self.text[first:stop].rstrip(" ")
        if last is None or (indentation <= last.indentation and not last.item):
            raise Unreadable("a line of a template that is neither key nor item", first)
        if last.value is None and not last.children:
            self.value(last, raw, first)
            return
        last.value, last.style = f"{last.value or ''} {raw}".strip(), "as_written"

    def value(self, node: _Node, raw: str, at: int) -> None:
        if not raw or raw[0] == "#":
            return
        node.start, node.end = at, at + len(raw)
        if has_tags(raw):
            node.value, node.style = raw, "template"
            return
        quoted = _QUOTED.match(raw)
        if quoted:
            single = quoted[1] is not None
            token = f"'{quoted[1]}'" if single else f'"{quoted[2]}"'
            node.value = quoted[1].replace("''", "'") if single else quoted[2]
            node.style, node.end = "single" if single else "double", at + len(token)
            return
        if raw[0] in "\"'" and raw.count(raw[0]) < 2:
            raise Unreadable("a quoted text over several lines of a template", at)
        comment = _COMMENT.search(raw)
        plain = raw[: comment.start()].rstrip(" ") if comment else raw
        node.value, node.end = plain, at + len(plain)
        odd = plain[0] in "[]{}&*!|>%@`\"'" or ": " in plain or plain.endswith(":")
        node.style = "as_written" if odd else "plain"

    def block(self, node: _Node, at: int, first: int) -> int:
        """Take a block scalar: the lines that are deeper than its key, conditions between them included."""
        text = self.text
        end = place = first
        while place < len(text):
            line_end, stop, tagged = self.line(place)
            body = text[place:stop]
            stripped = body.lstrip(" ")
            if stripped.strip() and not (tagged and self.only_tags(place, stop)):
                if len(body) - len(stripped) <= node.indentation:
                    break
                end = line_end
            place = line_end
        self.next_tag = next((i for i in range(self.next_tag, 0, -1) if self.tags[i - 1].end <= end), 0)
        lines = _block_lines(text[first:end])
        width = next((len(s) - len(s.lstrip(" ")) for s in lines if s.strip()), 0)
        content = [s[width:] if not s[:width].strip(" ") else s.lstrip(" ") for s in lines]
        header = text[at:first].strip()
        node.value = "\n".join(content).rstrip("\n") + ("" if "-" in header[:3] else "\n")
        node.start, node.end = at, at + len(text[at:end].rstrip("\r\n"))
        node.style = "literal" if header[0] == "|" else "as_written"
        return end


def _block_lines(raw: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", raw)


def _entries(reader: _Reader) -> Lines:
    found: list[Entry] = []
    identities: list[str] = []
    for number, root in enumerate(reader.roots):
        identity, scope = _identity(root)
        identities.append(identity)
        for child in root.children:
            _walk(found, child, "", number, scope)
    counts: dict[tuple[int, str], int] = {}
    for entry in found:
        counts[entry.identity] = counts.get(entry.identity, 0) + 1
    out = Collected()
    seen: dict[tuple[int, str], int] = {}
    for entry in found:
        if counts[entry.identity] > 1:
            number = seen[entry.identity] = seen.get(entry.identity, 0) + 1
            entry = entry._replace(key=f"{entry.key}#{number}", start=None, end=None, style="branch")
        out.add(entry, None, 0)
    for document, said, at in reader.statements:
        _say(out, document, said, at)
    return out.lines(identities)


def _say(found: Collected, document: int, said: str, at: int) -> None:
    key = child_key("", said[:_SHOWN])
    number, name = 1, key
    while (document, name) in found.entries and number < 1000:  # more of one kind say nothing new
        number += 1
        name = f"{key}#{number}"
    value = said if len(said) > _SHOWN else ""
    found.add(Entry(document, name, value, None, None, "statement", "yaml"), None, at)


def _walk(found: list[Entry], node: _Node, prefix: str, number: int, scope: str, branch: bool = False) -> None:
    key = child_key(prefix, node.name) if node.name is not None else prefix
    if len(key) > KEY_CHARACTERS_MAX:
        raise Unreadable(f"keys too long ({len(key)} characters here)", node.start)
    if node.value is not None or not node.children:
        editable = node.value is not None and node.style in ("plain", "single", "double", "literal")
        start, end = (node.start, node.end) if editable and not branch else (None, None)
        style = "branch" if branch else node.style
        found.append(Entry(number, key, node.value or "", start, end, style, "yaml", scope))
    position = 0
    names = [_called(child) if child.item else None for child in node.children]
    counts = Counter(names)
    used: dict[str, int] = {}
    for child, called in zip(node.children, names, strict=True):
        if not child.item:
            _walk(found, child, key, number, scope, branch)
            continue
        twice = called is not None and counts[called] > 1
        if called is None:
            path = f"{key}[{position}]"
        else:
            count = used[called] = used.get(called, 0) + 1
            path = key + item_part(called) + (f"#{count}" if twice else "")
        position += 1
        _walk(found, child, path, number, scope, branch or twice)


def _called(item: _Node) -> str | None:
    said = {c.name: c.value for c in item.children if c.name in _NAMES and c.value}
    name = next((said[n] for n in _NAMES if n in said), None)
    return name if name is not None and len(name) <= 253 else None


def _identity(root: _Node) -> tuple[str, str]:
    """Return (identity, scope) of a manifest, as `yaml_reader` does; a name may be the tag that makes it."""
    top = {c.name: c for c in root.children}
    kind = top["kind"].value if "kind" in top else None
    if not kind or "apiVersion" not in top:
        return "", ""
    about = {c.name: c.value for c in top["metadata"].children} if "metadata" in top else {}
    group = (top["apiVersion"].value or "").rpartition("/")[0] if not has_tags(top["apiVersion"].value or "") else ""
    name = about.get("name") or ""
    identity = "/".join(part for part in (group, kind, about.get("namespace") or "", name) if part)
    return identity, f"{kind}/{name}" if name else kind


def read_masked(text: str, read: Callable[[str], Lines]) -> Lines:
    """Return what another reader finds plain in a template of its format.

    Args:
        text: The template.
        read: The reader of what the template renders to.

    Raises:
        Unreadable: A tag does not end, a key stands in two branches, or the reader cannot read the rest.
    """
    tags = tags_of(text)
    if _HIDDEN in text:
        raise Unreadable("a template with characters for private use", text.index(_HIDDEN))
    parts: list[str] = []
    statements: list[tuple[str, int]] = []
    at = 0
    for tag in tags:
        parts.append(text[at : tag.start])
        said = text[tag.start : tag.end]
        word = _STATEMENT.match(said)
        name = word[1] if word else ""
        if tag.comment or said.startswith("{%") or name in _CLOSERS or name in _CONTROLS:
            parts.append("".join(c if c in "\r\n" else " " for c in said))
            if not tag.comment and name not in _CLOSERS:
                statements.append((" ".join(said.split()), tag.start))
        else:
            parts.append(_HIDDEN * len(said))
        at = tag.end
    parts.append(text[at:])
    lines = read("".join(parts))
    if lines.repeated:
        raise Unreadable(f"a template in which {lines.repeated[:100]} stands twice, perhaps in two branches")
    found = Collected()
    for entry in lines.entries:
        if _HIDDEN in entry.value or _HIDDEN in entry.key:
            shown = text[entry.start : entry.end] if entry.start is not None else entry.value
            key = re.sub(f"{_HIDDEN}+", "{{…}}", entry.key)
            value = re.sub(f"{_HIDDEN}+", "{{…}}", shown)
            entry = entry._replace(key=key, value=value, start=None, end=None, style="template")
        found.add(entry, None, 0)
    for said, place in statements:
        _say(found, 0, said, place)
    return found.lines(lines.identities)
