"""XML configuration to entries: attributes and text by their path, with exact spans.

``Server.Service.Connector[0].maxThreads``, ``configuration.logger[com.example].level``,
``configuration.property[dfs.replication].value``. Elements go by what they are called (an attribute or a child ``name``,
``id``, ``key`` …); namesakes without a name by position. A parser of its own, because the standard library's says where
elements are but not their values. It knows no entities but the five of XML: a document type with declarations is refused,
nothing is ever fetched or expanded. Called by `reading`.

Source: Extensible Markup Language (XML) 1.0, fifth edition.
"""

from __future__ import annotations

import re

from advisor.config_file.line_readers import Collected, Lines, Region
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

_TEXT = re.compile(r"[^<]++")
_COMMENT = re.compile(r"<!--(?:[^-]++|-(?!->))*+-->")
_CDATA = re.compile(r"<!\[CDATA\[((?:[^\]]++|\](?!\]>))*+)\]\]>")
_INSTRUCTION = re.compile(r"<\?(?:[^?]++|\?(?!>))*+\?>")
_DOCTYPE = re.compile(r"<!DOCTYPE[^<>\[\]]*+>")
_OPEN = re.compile(r"<([A-Za-z_][\w.\-:]*+)")
_CLOSE = re.compile(r"</([A-Za-z_][\w.\-:]*+)[ \t\r\n]*+>")
_ATTRIBUTE = re.compile(r"[ \t\r\n]++([A-Za-z_][\w.\-:]*+)[ \t\r\n]*+=[ \t\r\n]*+(\"[^\"<]*+\"|'[^'<]*+')")
_END = re.compile(r"[ \t\r\n]*+(/?)>")
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_BLANK = " \t\r\n"
# What an element is called: first its attributes, then a child that says it.
_NAMES = ("name", "id", "key", "artifactId", "className", "ref", "path")
_LISTS = frozenset(("Connector",))  # Tomcat: the second one must not rename the first
_SINGLES = frozenset(("Service", "Engine"))  # Tomcat: one each, whatever they are called
_LINE_REST = re.compile(r"[ \t]*+(?:\r\n|\r|\n|\Z)")


class _Element:
    """One element: its attributes with the place of their quotes, its text, its children."""

    __slots__ = ("attributes", "children", "end", "name", "parts", "start")

    def __init__(self, name: str, start: int) -> None:
        """Keep name and place; the rest comes while the text is read."""
        self.name = name
        self.start = start
        self.end = start
        self.attributes: dict[str, tuple[int, int]] = {}
        self.children: list[_Element] = []
        self.parts: list[tuple[int, int, bool]] = []  # pieces of text that are not blank; True: in CDATA


def read_xml(text: str) -> Lines:
    """Return the entries of an XML text.

    Raises:
        Unreadable: Not well-formed as far as this reader knows XML, declares entities, or passes a bound.
    """
    root = _parse(text)
    found = Collected()
    _Walk(text, found).element(root, child_key("", root.name))
    return found.lines([""])


def _parse(text: str) -> _Element:
    at, nodes = 0, 0
    root: _Element | None = None
    open_elements: list[_Element] = []
    while at < len(text):
        if text[at] != "<":
            at = _take_text(text, at, open_elements)
            continue
        nodes += 1
        if nodes > 2 * ENTRIES_MAX:
            raise Unreadable(f"more than {2 * ENTRIES_MAX} tags", at)
        skipped = _COMMENT.match(text, at) or _INSTRUCTION.match(text, at)
        if skipped:
            at = skipped.end()
            continue
        if text.startswith("<!", at):
            at = _take_declaration(text, at, root, open_elements)
            continue
        closing = _CLOSE.match(text, at)
        if closing:
            if not open_elements or open_elements[-1].name != closing[1]:
                raise Unreadable(f"not XML: </{closing[1][:60]}> closes nothing", at)
            open_elements.pop().end = at = closing.end()
            continue
        element, at, empty = _take_tag(text, at)
        if open_elements:
            open_elements[-1].children.append(element)
        elif root is not None:
            raise Unreadable("not XML: a second root", element.start)
        else:
            root = element
        if not empty:
            open_elements.append(element)
            if len(open_elements) > NESTING_MAX:
                raise Unreadable(f"nested deeper than {NESTING_MAX} levels", at)
    if root is None or open_elements:
        what = f"<{open_elements[-1].name[:60]}> does not end" if open_elements else "no element"
        raise Unreadable(f"not XML: {what}", open_elements[-1].start if open_elements else 0)
    return root


def _take_text(text: str, at: int, open_elements: list[_Element]) -> int:
    match = _TEXT.match(text, at)
    end = match.end() if match else at + 1
    raw = text[at:end]
    content = raw.strip(_BLANK)
    if content:
        if not open_elements:
            raise Unreadable("not XML: text outside of the root", at)
        first = at + len(raw) - len(raw.lstrip(_BLANK))
        open_elements[-1].parts.append((first, first + len(content), False))
    return end


def _take_declaration(text: str, at: int, root: _Element | None, open_elements: list[_Element]) -> int:
    data = _CDATA.match(text, at)
    if data and open_elements:
        open_elements[-1].parts.append((data.start(1), data.end(1), True))
        return data.end()
    doctype = _DOCTYPE.match(text, at)
    if doctype and root is None and not open_elements:
        return doctype.end()
    raise Unreadable("a document type with declarations (entities are never expanded), or not XML", at)


def _take_tag(text: str, at: int) -> tuple[_Element, int, bool]:
    name = _OPEN.match(text, at)
    if name is None:
        raise Unreadable("not XML: a tag is expected here", at)
    element = _Element(name[1], at)
    at = name.end()
    while attribute := _ATTRIBUTE.match(text, at):
        if attribute[1] in element.attributes:
            raise Unreadable(f"not XML: attribute {attribute[1][:60]} is there twice", at)
        element.attributes[attribute[1]] = attribute.span(2)
        at = attribute.end()
    end = _END.match(text, at)
    if end is None:
        raise Unreadable(f"not XML: the tag <{element.name[:60]} does not end", at)
    element.end = end.end()
    return element, end.end(), bool(end[1])


def unescape(raw: str, offset: int) -> tuple[str, SourceMap] | None:
    """Return text with its entities resolved, and where its characters stand; None: an entity that XML does not know."""
    if "&" not in raw:
        return raw, offset
    parts: list[str] = []
    source: list[int] = []
    at = 0
    while True:
        mark = raw.find("&", at)
        stop = len(raw) if mark < 0 else mark
        parts.append(raw[at:stop])
        source.extend(range(offset + at, offset + stop))
        if mark < 0:
            return "".join(parts), source
        entity = _ENTITY.match(raw, mark)
        if entity is None:
            return None
        code = int(entity[1]) if entity[1] else int(entity[2], 16) if entity[2] else ord(_NAMED[entity[3]])
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF or code == 0:
            return None
        parts.append(chr(code))
        source.append(-1)
        at = entity.end()


class _Walk:
    def __init__(self, text: str, found: Collected) -> None:
        self.text = text
        self.found = found
        self.characters = 0

    def element(self, element: _Element, key: str) -> None:
        self.characters += len(key)
        if len(key) > KEY_CHARACTERS_MAX or self.characters > KEYS_CHARACTERS_MAX:
            raise Unreadable(f"keys too long ({len(key)} characters here)", element.start)
        children = {child.name for child in element.children}
        for name, (start, end) in element.attributes.items():
            path = child_key(key, f"@{name}" if name in children else name)
            quote = "double" if self.text[start] == '"' else "single"
            self.add(path, start, end, quote, self.text[start + 1 : end - 1], None, element)
        if element.parts:
            self.content(element, key)
        elif not element.children and not element.attributes:
            region = self.region(element)
            self.found.add(Entry(0, key, "", None, None, "element", "xml"), region, element.start)
        paths = [self.path(child, key) for child in element.children]
        if key.endswith("]") and {"name", "value"} <= children and not element.attributes and not element.parts:
            # Hadoop's <property><name>…</name><value>…</value>: the value is the property's.
            paths = [
                key if c.name == "value" and not c.attributes and not c.children else p
                for c, p in zip(element.children, paths, strict=True)
            ]
        totals: dict[str, int] = {}
        for path in paths:
            totals[path] = totals.get(path, 0) + 1
        seen: dict[str, int] = {}
        for child, path in zip(element.children, paths, strict=True):
            number = seen[path] = seen.get(path, -1) + 1
            self.element(child, self.numbered(child, path, number, totals[path]))

    def numbered(self, child: _Element, path: str, number: int, total: int) -> str:
        if path.endswith("]") and not path.endswith('"]') and not child.name == "value":
            return path if number == 0 else f"{path}#{number + 1}"
        if path.endswith('"]') and self.called(child) is not None:
            return path if number == 0 else f"{path}#{number + 1}"
        return f"{path}[{number}]" if total > 1 or child.name in _LISTS else path

    def path(self, child: _Element, key: str) -> str:
        called = self.called(child)
        path = child_key(key, child.name)
        return path if called is None else path + item_part(called)

    def called(self, element: _Element) -> str | None:
        if element.name in _SINGLES:
            return None
        for name in _NAMES:
            span = element.attributes.get(name)
            if span is not None and 2 < span[1] - span[0] <= 255:
                return self.text[span[0] + 1 : span[1] - 1]
        if len(element.children) < 2:
            return None
        for child in element.children[:8]:
            if child.name in _NAMES[:4] and len(child.parts) == 1 and not child.children:
                start, end, _ = child.parts[0]
                if end - start <= 253:
                    return self.text[start:end]
        return None

    def content(self, element: _Element, key: str) -> None:
        start, end, data = element.parts[0]
        if len(element.parts) > 1 or element.children:
            value = " ".join(self.text[first:last].strip() for first, last, _ in element.parts)
            self.found.add(Entry(0, key, value, None, None, "mixed", "xml"), None, element.start)
            return
        alone = self.region(element) if not element.attributes else None
        self.add(key, start, end, "cdata" if data else "text", self.text[start:end], alone, element)

    def add(
        self, path: str, start: int, end: int, style: str, raw: str, region: Region | None, element: _Element
    ) -> None:
        decoded = (raw, 0) if style == "cdata" else unescape(raw, 0)
        if decoded is None:
            entry = Entry(0, path, raw, None, None, "entity", "xml")
        else:
            entry = Entry(0, path, decoded[0], start, end, style, "xml")
        self.found.add(entry, region, element.start)

    def region(self, element: _Element) -> Region | None:
        """Return the whole lines of an element that stands alone on them."""
        text, start = self.text, element.start
        while start and text[start - 1] in " \t":
            start -= 1
        rest = _LINE_REST.match(text, element.end)
        if rest is None or (start and text[start - 1] not in "\r\n"):
            return None
        return (start, rest.end())
