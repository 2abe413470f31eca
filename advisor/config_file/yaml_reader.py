"""YAML to entries: libyaml's events, an own tree with positions, and a walk that names every scalar.

PyYAML's own composer is not used: it recurses in C, merges without positions, and takes a repeated key in
silence. Aliases and merge keys are followed, so that every key has the value that a reader of the file would
get; what was reached through one carries the place it came from and cannot be edited there.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from advisor.config_file.records import (
    DOCUMENTS_MAX,
    ENTRIES_MAX,
    KEY_CHARACTERS_MAX,
    KEYS_CHARACTERS_MAX,
    NESTING_MAX,
    NODES_MAX,
    Entry,
    Unreadable,
    child_key,
    item_part,
    line_number,
)

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STYLES = {"": "plain", None: "plain", "'": "single", '"': "double", "|": "literal", ">": "folded"}
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*+(?:[ \t\r\n]++|#[^\r\n]*+)*+)*+")
_LINE_END = re.compile(r"[\r\n\x85\u2028\u2029]")
_SPRING_NAME = re.compile(r"(?:application|bootstrap)(?:[-.][\w.-]*)?\.ya?ml\Z")
_TEMPLATE = re.compile(r"\{\{|\{%")
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_ITEM_NAMES = ("name", "key", "id")

SCALAR, MAPPING, SEQUENCE, ALIAS = range(4)


class Node:
    """A YAML node with its characters; ``items`` are keys and values in turn, or list items.

    ``target`` of an alias.
    """

    __slots__ = ("end", "items", "kind", "start", "style", "tag", "target", "value")

    def __init__(self, kind: int, start: int, end: int, style: str, value: str = "") -> None:
        """Keep a node; what is below it is added while it is composed."""
        self.kind = kind
        self.start = start
        self.end = end
        self.style = style
        self.value = value
        self.items: list[Node] = _NO_ITEMS if kind == SCALAR else []
        self.target: Node | None = None
        self.tag: str | None = None


_NO_ITEMS: list[Node] = []  # shared by all scalars, which are most nodes


class Place(NamedTuple):
    """Where a node of the tree stands: its path, what holds it, and its number there. For edits only."""

    document: int
    key: str
    node: Node
    holder: Node | None
    number: int


class YamlEntries(NamedTuple):
    """Entries with character spans, and the identity of each document."""

    entries: list[Entry]
    identities: list[str]


def read_yaml(text: str, name: str, places: list[Place] | None = None) -> YamlEntries:
    """Return the entries of a YAML text.

    Args:
        text: Without byte order mark.
        name: The file's name, by which Spring files are recognised.
        places: Filled with every node of the tree and its path, if given.

    Raises:
        Unreadable: Not YAML, a template, or beyond a bound.
    """
    try:
        roots = compose(text)
    except yaml.YAMLError as error:
        raise _explain(error, text) from error
    walk = _Walk(text, places)
    spring_name = bool(_SPRING_NAME.search(name))
    identities = []
    for number, root in enumerate(roots):
        identities.append(walk.document(number, root, spring_name))
    return YamlEntries(walk.entries, identities or [""])


def compose(text: str) -> list[Node]:
    """Return the root node of each document.

    Raises:
        yaml.YAMLError: Not YAML.
        Unreadable: Beyond a bound, or an alias inside of its own anchor.
    """
    loader = _LOADER(text)
    try:
        return _compose(loader.get_event, text)
    finally:
        loader.dispose()


def _compose(get_event: Any, text: str) -> list[Node]:
    roots: list[Node] = []
    stack: list[Node] = []
    anchors: dict[str, Node] = {}
    nodes = 0
    while (event := get_event()) is not None:
        kind = event.__class__
        if kind is yaml.ScalarEvent:
            node = _scalar(event, text)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            node = Node(
                MAPPING if kind is yaml.MappingStartEvent else SEQUENCE,
                event.start_mark.index,
                event.end_mark.index,
                "flow" if event.flow_style else "block",
            )
            node.tag = event.tag
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            stack.pop().end = event.end_mark.index
            continue
        elif kind is yaml.AliasEvent:
            node = Node(ALIAS, event.start_mark.index, event.end_mark.index, "alias")
            node.target = anchors.get(event.anchor)
            if node.target is None or node.target in stack:
                what = "is not defined before" if node.target is None else "contains itself"
                raise Unreadable(f"alias *{event.anchor[:60]} {what}", node.start)
        else:
            if kind is yaml.DocumentStartEvent:
                anchors = {}
                if len(roots) >= DOCUMENTS_MAX:
                    raise Unreadable(f"more than {DOCUMENTS_MAX} documents", event.start_mark.index)
            continue
        nodes += 1
        if nodes > NODES_MAX:
            raise Unreadable(f"more than {NODES_MAX} nodes", node.start)
        if stack:
            stack[-1].items.append(node)
        else:
            roots.append(node)
        if event.anchor is not None and node.kind != ALIAS:
            anchors[event.anchor] = node
        if node.kind == MAPPING or node.kind == SEQUENCE:
            stack.append(node)
            if len(stack) > NESTING_MAX:
                raise Unreadable(f"nested deeper than {NESTING_MAX} levels", node.start)
    return roots


def _scalar(event: Any, text: str) -> Node:
    start, end = event.start_mark.index, event.end_mark.index
    style = _STYLES[event.style]
    if event.tag is not None or event.anchor is not None:
        properties = _PROPERTIES.match(text, start, end)
        if properties:
            start = properties.end()
    value = event.value
    if style == "plain":
        if not value and event.tag in (None, "tag:yaml.org,2002:null"):
            style = "empty"
    elif style == "literal" or style == "folded":
        end = _block_end(text, start, end)
    node = Node(SCALAR, start, end, style, value)
    node.tag = event.tag
    return node


def _block_end(text: str, start: int, end: int) -> int:
    """Return where a block scalar ends, without the line end that closes its last line."""
    raw = text[start:end]
    header = _LINE_END.search(raw)
    if header is None:
        return start + len(raw.rstrip())
    if "+" in raw[: header.start()].split("#", 1)[0]:  # kept blank lines belong to the value
        if raw.endswith("\r\n"):
            return end - 2
        return end - 1 if raw[-1] in "\r\n" else end
    content = len(raw.rstrip(" \t\r\n\x85\u2028\u2029"))
    line_end = _LINE_END.search(raw, content)
    return start + (line_end.start() if line_end else len(raw))


def _explain(error: yaml.YAMLError, text: str) -> Unreadable:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    template = _TEMPLATE.search(text)
    line = mark.line + 1 if mark is not None else None
    if template:
        return _template(text, template.start())
    return Unreadable(f"not YAML: {problem}", line=line)


def _template(text: str, index: int) -> Unreadable:
    line = line_number(text, index)
    return Unreadable("a template ('{{' or '{%'), which is YAML only after it is rendered", line=line)


def document_identity(root: Node) -> tuple[str, str]:
    """Return (identity, scope) of a Kubernetes manifest, or two empty strings."""
    top = _scalars(root)
    kind = top.get("kind")
    if not kind or "apiVersion" not in top:
        return "", ""
    metadata = _child(root, "metadata")
    about = _scalars(metadata) if metadata is not None else {}
    group = top["apiVersion"].rpartition("/")[0]
    name = about.get("name", about.get("generateName", ""))
    identity = "/".join(part for part in (group, kind, about.get("namespace", ""), name) if part)
    return identity, f"{kind}/{name}" if name else kind


def _scalars(node: Node) -> dict[str, str]:
    if node.kind != MAPPING:
        return {}
    items = node.items
    pairs = zip(items[::2], items[1::2], strict=True)
    return {k.value: v.value for k, v in pairs if k.kind == SCALAR and v.kind == SCALAR}


def _child(node: Node, name: str) -> Node | None:
    for i in range(0, len(node.items), 2):
        if node.items[i].value == name:
            return node.items[i + 1]
    return None


class _Walk:
    """One walk over the trees of a file: the entries found so far and what was spent of the bounds."""

    def __init__(self, text: str, places: list[Place] | None) -> None:
        self.text = text
        self.entries: list[Entry] = []
        self.places = places
        self.nodes = 0
        self.key_characters = 0
        self.number = 0
        self.flat = False
        self.manifest = False
        self.parts: dict[str, str | None] = {}  # names that can be joined with a dot, and the part to join

    def document(self, number: int, root: Node, spring_name: bool) -> str:
        """Add the entries of one document and return its identity."""
        first = len(self.entries)
        self.number = number
        if root.kind == SCALAR and root.style == "empty":
            return ""
        if root.kind == SCALAR:
            template = _TEMPLATE.search(self.text)
            if template:
                raise _template(self.text, template.start())
            raise Unreadable("holds no keys, only text", root.start)
        identity, scope = document_identity(root)
        self.manifest = bool(identity)
        flat = not identity and (spring_name or _looks_like_spring(root))
        if flat != self.flat:
            self.flat, self.parts = flat, {}
        self._node(root, "", scope, None, 1)
        fresh = self.entries[first:]
        self._check_unique(fresh)
        if identity:
            return identity
        profile = next((e.value for e in fresh if e.key in _PROFILE_KEYS and e.value), "")
        if not profile:
            return ""
        profile = f"profile:{profile}"
        self.entries[first:] = [e._replace(scope=profile) for e in fresh]
        return profile

    def _check_unique(self, fresh: list[Entry]) -> None:
        if len({e.key for e in fresh}) == len(fresh):
            return
        seen: dict[str, Entry] = {}
        for entry in fresh:
            before = seen.setdefault(entry.key, entry)
            if before is not entry:
                raise Unreadable(f"key {entry.key[:200]} is defined twice", entry.start)

    def _node(self, node: Node, key: str, scope: str, source: tuple[int, int] | None, depth: int) -> None:
        self.nodes += 1
        if self.nodes > NODES_MAX:
            raise Unreadable(f"more than {NODES_MAX} nodes, aliases included", node.start)
        if depth > NESTING_MAX:
            raise Unreadable(f"nested deeper than {NESTING_MAX} levels, aliases included", node.start)
        kind = node.kind
        if kind == SCALAR:
            self._scalar(node, key, scope, source)
        elif kind == ALIAS:
            self._alias(node, key, scope, source, depth)
        elif not node.items:
            self._add(node, key, "{}" if kind == MAPPING else "[]", "collection", scope, source)
        elif kind == MAPPING:
            self._mapping(node, key, scope, source, depth)
        else:
            self._sequence(node, key, scope, source, depth)

    def _scalar(self, node: Node, key: str, scope: str, source: tuple[int, int] | None) -> None:
        value, style, tag = node.value, node.style, node.tag
        if tag is not None and not tag.startswith("tag:yaml.org,2002:") and tag != "!":
            value, style = f"{tag} {value}", "tagged"  # !Ref name, !vault …: the tag is half of the meaning
        self._add(node, key, value, style, scope, source)

    def _add(self, node: Node, key: str, value: str, style: str, scope: str, source: tuple[int, int] | None) -> None:
        size = len(key)
        self.key_characters += size
        if size > KEY_CHARACTERS_MAX or self.key_characters > KEYS_CHARACTERS_MAX:
            raise Unreadable(f"keys too long ({size} characters here)", node.start)
        if len(self.entries) >= ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", node.start)
        start: int | None = node.start
        end: int | None = node.end
        if source is not None or style == "tagged":
            start = end = None
        self.entries.append(Entry(self.number, key, value, start, end, style, "yaml", scope, "", source))

    def _alias(self, node: Node, key: str, scope: str, source: tuple[int, int] | None, depth: int) -> None:
        target = node.target
        if target is None:
            raise Unreadable("alias without anchor", node.start)
        if target.kind == SCALAR and source is None:
            # `b: *x`: the alias is the value's token here, so the key can be given a value of its own.
            self._add(node, key, target.value, "alias", scope, None)
            self.entries[-1] = self.entries[-1]._replace(source=(target.start, target.end))
            return
        self._node(target, key, scope, (target.start, target.end), depth + 1)

    def _mapping(self, node: Node, key: str, scope: str, source: tuple[int, int] | None, depth: int) -> None:
        items = node.items
        names: set[str] = set()
        merges: list[Node] = []
        places = self.places if source is None else None
        parts = self.parts
        for i in range(0, len(items), 2):
            name_node, child = items[i], items[i + 1]
            if name_node.kind != SCALAR:
                raise self._odd_key(name_node)
            name = name_node.value
            if name == "<<" and name_node.style == "plain":
                merges.append(child)
                continue
            if name in names:
                raise Unreadable(f"key {child_key(key, name)[:200]} is defined twice", name_node.start)
            names.add(name)
            if name in parts:
                part = parts[name]
                child_path = child_key(key, name) if part is None else f"{key}.{part}" if key else part
            else:
                child_path = self._key(key, name)
            if places is not None:
                places.append(Place(self.number, child_path, child, node, i // 2))
            # The common case is short: this loop is where a file's time goes.
            if child.kind == SCALAR and source is None and child.tag is None:
                self._add(child, child_path, child.value, child.style, scope, None)
            else:
                self._node(child, child_path, scope, self._through(child, source), depth + 1)
        for merged in merges:
            self._merge(merged, key, scope, names, depth + 1)

    def _key(self, key: str, name: str) -> str:
        """Return the path of a child; in Spring's files a dotted name is a path already."""
        plain = child_key("", name) == name
        if not plain and self.flat and _DOTTED.fullmatch(name):
            plain = True
        self.parts[name] = name if plain else None
        if not plain:
            return child_key(key, name)
        return f"{key}.{name}" if key else name

    def _through(self, child: Node, source: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return where a value came from: below an alias, its own place under the anchor."""
        return None if source is None else (child.start, child.end)

    def _odd_key(self, node: Node) -> Unreadable:
        template = _TEMPLATE.search(self.text)
        if template:
            return _template(self.text, template.start())
        return Unreadable("a key that is itself a list, a mapping or an alias", node.start)

    def _merge(self, node: Node, key: str, scope: str, names: set[str], depth: int) -> None:
        """Add what ``<<`` brings: keys that the mapping does not have itself, first merge first."""
        self.nodes += 1
        if self.nodes > NODES_MAX or depth > NESTING_MAX:
            raise Unreadable("merge keys (<<) beyond the bounds of reading", node.start)
        target = node.target if node.kind == ALIAS else node
        if target is not None and target.kind == SEQUENCE:
            for item in target.items:
                self._merge(item, key, scope, names, depth + 1)
            return
        if target is None or target.kind != MAPPING:
            raise Unreadable("a merge key (<<) that is no mapping", node.start)
        deeper: list[Node] = []
        for i in range(0, len(target.items), 2):
            name_node, child = target.items[i], target.items[i + 1]
            if name_node.kind != SCALAR:
                raise self._odd_key(name_node)
            if name_node.value == "<<" and name_node.style == "plain":
                deeper.append(child)
            elif name_node.value not in names:
                names.add(name_node.value)
                path = self._key(key, name_node.value)
                self._node(child, path, scope, (child.start, child.end), depth + 1)
        for merged in deeper:
            self._merge(merged, key, scope, names, depth + 1)

    def _sequence(self, node: Node, key: str, scope: str, source: tuple[int, int] | None, depth: int) -> None:
        container = self.manifest and key.endswith(_CONTAINERS)
        used: dict[str, int] = {}
        for i, item in enumerate(node.items):
            name = _item_name(item)
            child_scope = scope
            if name is None:
                path = f"{key}[{i}]"
            else:
                count = used.get(name, 0) + 1
                used[name] = count
                path = key + item_part(name) + (f"#{count}" if count > 1 else "")
                if container:
                    child_scope = f"{scope}/{name}"
                elif key == "items" and self.manifest and "/" in name:  # kind: List
                    child_scope = name
            if self.places is not None and source is None:
                self.places.append(Place(self.number, path, item, node, i))
            self._node(item, path, child_scope, self._through(item, source), depth + 1)


_DOTTED = re.compile(r"[\w-]+(?:\.[\w-]+)+")
_PROFILE_KEYS = ("spring.config.activate.on-profile", "spring.profiles")
_SPRING_ROOTS = ("spring", "management")


def _looks_like_spring(root: Node) -> bool:
    """Spring's config server names files after services, so the content has to tell."""
    if root.kind != MAPPING:
        return False
    names = [node.value for node in root.items[::2]]
    return any(n in _SPRING_ROOTS or n.startswith(("spring.", "management.", "server.")) for n in names)


def _item_name(item: Node) -> str | None:
    """Return what a list item is called, or None: its name, key or id; a whole manifest by kind and name."""
    node = item.target if item.kind == ALIAS else item
    if node is None or node.kind != MAPPING:
        return None
    items = node.items
    found: dict[str, str] = {}
    for i in range(0, len(items), 2):
        value = items[i + 1]
        if items[i].value in _ITEM_NAMES and value.kind == SCALAR and value.value:
            found[items[i].value] = value.value
    for candidate in _ITEM_NAMES:
        if candidate in found and len(found[candidate]) <= 253:  # the longest name Kubernetes knows
            return found[candidate]
    identity, scope = document_identity(node) if not found else ("", "")
    return scope if identity and "/" in scope else None
