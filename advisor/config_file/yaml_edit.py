"""Whole lines of a YAML block: taken out, or put back where an earlier version had them.

Only entries of block mappings and items of block sequences that stand on lines of their own. Everything else
is refused: the caller then still has the commit's own reverse patch.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from advisor.config_file.records import Entry, Unreadable, child_key
from advisor.config_file.scalars import candidates
from advisor.config_file.yaml_reader import ALIAS, MAPPING, SCALAR, SEQUENCE, Node, Place, read_yaml
from advisor.errors import ChangeRefused

Identity = tuple[int, str]

_REST = re.compile(r"[ \t]*+(?:#[^\r\n]*+)?(\r\n|\r|\n|\Z)")
_ITEM_START = re.compile(r" *- +\Z")
_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_INSERTED_MAX = 200  # each insertion reads the file again


class Region(NamedTuple):
    """Whole lines of one node, their line end included, and the node's column."""

    start: int
    end: int
    column: int


class _Tree:
    """The places of a text, with what holds what."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        places: list[Place] = []
        self.entries = {(e.document, e.key) for e in read_yaml(text, path.rsplit("/", 1)[-1].lower(), places).entries}
        self.by_key = {(p.document, p.key): p for p in places}
        self.children: dict[int, list[Place]] = {}
        for place in places:
            self.children.setdefault(id(place.holder), []).append(place)
        held = {id(p.node) for p in places}
        self.roots: dict[int, Node] = {}
        for place in places:
            if place.holder is not None and id(place.holder) not in held:
                self.roots[place.document] = place.holder

    def holder(self, identity: Identity) -> Node | None:
        """Return the collection at a path; the empty path is the document's root."""
        if not identity[1]:
            return self.roots.get(identity[0])
        place = self.by_key.get(identity)
        return place.node if place else None

    def holder_key(self, place: Place) -> str:
        """Return the path of what holds a place."""
        return next((p.key for p in self.by_key.values() if p.node is place.holder), "")

    def covered(self, place: Place, leaves: set[Identity]) -> bool:
        """Return whether every key under a place is among the leaves."""
        node = place.node
        if node.kind == ALIAS or not node.items:
            under = {(place.document, place.key)}
            if node.kind == ALIAS and node.target is not None and node.target.kind != SCALAR:
                under = {e for e in self.entries if e[0] == place.document and _below(e[1], place.key)}
            return bool(under) and under <= leaves
        if node.kind == MAPPING and any(n.value == "<<" for n in node.items[::2]):
            return False
        children = self.children.get(id(node), [])
        return bool(children) and all(self.covered(child, leaves) for child in children)

    def whole(self, leaves: set[Identity], present: set[Identity]) -> list[Place]:
        """Return the outermost places that hold nothing but these leaves, in the order of the text.

        Blocks that are ``present`` elsewhere are entered: of those only what is in them counts.
        """
        found: list[Place] = []
        waiting = [c for root in self.roots.values() for c in self.children.get(id(root), [])]
        while waiting:
            place = waiting.pop()
            under = self.children.get(id(place.node), []) if place.node.kind != ALIAS else []
            if self.covered(place, leaves) and not (under and (place.document, place.key) in present):
                found.append(place)
            else:
                waiting.extend(under)
        return sorted(found, key=lambda p: p.node.start)

    def region(self, place: Place) -> Region:
        """Return the lines of a place.

        Raises:
            ChangeRefused: It shares a line with something else.
        """
        holder, node = place.holder, place.node
        if holder is None or holder.style != "block":
            raise ChangeRefused(f"{self.path}: key {place.key}: it stands in a flow collection, not on its own lines")
        first = holder.items[2 * place.number] if holder.kind == MAPPING else node
        start = max(self.text.rfind("\n", 0, first.start), self.text.rfind("\r", 0, first.start)) + 1
        lead = self.text[start : first.start]
        plain = not lead.strip(" ") if holder.kind == MAPPING else bool(_ITEM_START.match(lead))
        rest = _REST.match(self.text, _last(node))
        if not plain or rest is None:
            raise ChangeRefused(f"{self.path}: key {place.key}: it shares its line with something else")
        return Region(start, rest.end(), len(lead) - len(lead.lstrip(" ")) if holder.kind == SEQUENCE else len(lead))


def _below(key: str, prefix: str) -> bool:
    return key == prefix or (key.startswith(prefix) and key[len(prefix)] in ".[")


def _last(node: Node) -> int:
    """Return where the last character of a node stands.

    A block's own end mark lies beyond comments that follow.
    """
    while node.items and node.style == "block":
        node = node.items[-1]
    return node.end


def _tree(text: str, path: str) -> _Tree:
    try:
        return _Tree(text, path)
    except Unreadable as error:
        raise ChangeRefused(f"{path}: {error.what}") from error


def remove_nodes(text: str, path: str, leaves: set[Identity]) -> str:
    """Return the text without the lines of these keys, and without blocks that hold nothing else.

    Raises:
        ChangeRefused: A key does not stand on lines of its own.
    """
    tree = _tree(text, path)
    places = tree.whole(leaves, set())
    for root in tree.roots.values():
        if all(tree.covered(c, leaves) for c in tree.children.get(id(root), [])):
            raise ChangeRefused(f"{path}: nothing would be left of the document")
    found = {i for p in places for i in tree.entries if i[0] == p.document and _below(i[1], p.key)}
    if leaves - found:
        missing = sorted(leaves - found)[0]
        raise ChangeRefused(f"{path}: key {missing[1]}: it cannot be taken out as lines of its own")
    for region in sorted((tree.region(p) for p in places), reverse=True):
        text = cut_lines(text, region.start, region.end)
    return text


def cut_lines(text: str, start: int, end: int) -> str:
    """Return the text without some whole lines; a file without a final line end stays one."""
    if end == len(text) and text[start:end][-1:] not in ("\n", "\r"):
        head = text[:start]
        return head[:-2] if head.endswith("\r\n") else head[:-1]
    return text[:start] + text[end:]


def insert_nodes(text: str, path: str, before: str, leaves: set[Identity], documents: dict[int, int]) -> str:
    """Return the text with the lines that these keys have in an earlier version put back at their place.

    Args:
        text: The file as it stands.
        path: Its path.
        before: The earlier version.
        leaves: Keys of the earlier version.
        documents: Number of a document now, by its number in the earlier version.

    Raises:
        ChangeRefused: Their parent is gone, or a key does not stand on lines of its own.
    """
    old = _tree(before, path)
    numbers = {n: o for o, n in documents.items()}
    present = {(numbers.get(document, -1), key) for document, key in _tree(text, path).by_key}
    places = old.whole(leaves, present)
    covered = {i for p in places for i in old.entries if i[0] == p.document and _below(i[1], p.key)}
    if leaves - covered or len(places) > _INSERTED_MAX:
        raise ChangeRefused(f"{path}: key {sorted(leaves)[0][1]}: it cannot be put back as lines of its own")
    for place in places:
        text = _insert(text, path, old, place, documents)
    return text


def _insert(text: str, path: str, old: _Tree, place: Place, documents: dict[int, int]) -> str:
    now = _tree(text, path)
    document = documents.get(place.document, -1)
    holder_key = old.holder_key(place)
    holder = now.holder((document, holder_key))
    if holder is None or not holder.items or place.holder is None or holder.kind != place.holder.kind:
        raise ChangeRefused(f"{path}: key {place.key}: its parent {holder_key or '(the document)'} is no longer there")
    region = old.region(place)
    at, column = _spot(now, old, place, document)
    lines = _moved(old.text[region.start : region.end], column - region.column, path, place.key)
    return put_lines(text, at, lines)


def _spot(now: _Tree, old: _Tree, place: Place, document: int) -> tuple[int, int]:
    """Return where lines go and at which column.

    That is after the neighbour they followed, or before the one they preceded.
    """
    siblings = old.children[id(place.holder)]
    own = old.region(place)
    for sibling in reversed([s for s in siblings if s.number < place.number]):
        neighbour = now.by_key.get((document, sibling.key))
        if neighbour is not None:
            at, column = _after(now, neighbour)
            between = old.text[_after(old, sibling)[0] : own.start]
            return skip_lines(now.text, at, between), column
    for sibling in (s for s in siblings if s.number > place.number):
        neighbour = now.by_key.get((document, sibling.key))
        if neighbour is not None:
            region = now.region(neighbour)
            between = old.text[own.end : old.region(sibling).start]
            return skip_lines_back(now.text, region.start, between), region.column
    holder = now.holder((document, old.holder_key(place)))
    return _after(now, now.children[id(holder)][-1])


def _after(now: _Tree, neighbour: Place) -> tuple[int, int]:
    """Return the end of a neighbour's lines, which may begin on the line of a list item's dash."""
    holder = neighbour.holder
    if holder is None or holder.style != "block":
        raise ChangeRefused(f"{now.path}: key {neighbour.key}: its collection is written in flow style")
    first = holder.items[2 * neighbour.number] if holder.kind == MAPPING else neighbour.node
    start = max(now.text.rfind("\n", 0, first.start), now.text.rfind("\r", 0, first.start)) + 1
    column = first.start - start if holder.kind == MAPPING else now.region(neighbour).column
    rest = _REST.match(now.text, _last(neighbour.node))
    if rest is None:
        raise ChangeRefused(f"{now.path}: key {neighbour.key}: it shares its line with something else")
    return rest.end(), column


def skip_lines(text: str, at: int, lines: str) -> int:
    """Return the place behind lines that stood before what is put back, if they are still there."""
    return at + len(lines) if lines and text.startswith(lines, at) else at


def skip_lines_back(text: str, at: int, lines: str) -> int:
    """Return the place before lines that stood behind what is put back, if they are still there."""
    return at - len(lines) if lines and text.endswith(lines, 0, at) else at


def _moved(lines: str, shift: int, path: str, key: str) -> str:
    if shift == 0:
        return lines
    moved = []
    for match in _LINE.finditer(lines):
        line = match.group()
        if not line.strip():
            moved.append(line)
        elif shift > 0:
            moved.append(" " * shift + line)
        elif line.startswith(" " * -shift):
            moved.append(line[-shift:])
        else:
            raise ChangeRefused(f"{path}: key {key}: its lines cannot be moved to the indentation used now")
    return "".join(moved)


def put_lines(text: str, at: int, lines: str) -> str:
    """Return the text with whole lines put in, in its own line ends.

    A file without a final line end stays one.
    """
    line_end = "\r\n" if "\r\n" in text else "\n"
    lines = line_end.join(re.split(r"\r\n|\r|\n", lines))
    lines = lines.removesuffix(line_end)
    if at == len(text) and text and text[-1] not in "\r\n":
        return text + line_end + lines
    return text[:at] + lines + line_end + text[at:]


def insert_line(text: str, path: str, document: int, key: str, value: str) -> str:
    """Return the text with ``name: value`` as the last line of the key's parent.

    Raises:
        ChangeRefused: The parent is not there, or not a block mapping.
    """
    tree = _tree(text, path)
    holders: list[tuple[str, Node]] = [("", tree.roots[document])] if document in tree.roots else []
    holders += [(p.key, p.node) for p in tree.by_key.values() if p.document == document and p.node.items]
    for holder_key, holder in sorted(holders, key=lambda h: -len(h[0])):
        name = _name_under(holder_key, key)
        if name is None or holder.kind != MAPPING:
            continue
        children = tree.children.get(id(holder), [])
        if not children:
            break
        at, column = _after(tree, children[-1])
        written = candidates(Entry(document, key, "", 0, 0, "plain", "yaml"), "", value)
        quoted = candidates(Entry(document, key, "", 0, 0, "double", "yaml"), "", name)[0]
        shown_name = name if re.fullmatch(r"[A-Za-z_][\w./-]*", name) else quoted
        return put_lines(text, at, f"{' ' * column}{shown_name}: {written[0]}\n")
    raise ChangeRefused(f"{path}: key {key}: its parent is not there as a block")


def _name_under(holder_key: str, key: str) -> str | None:
    """Return the name that gives this key under that parent, or None."""
    if not key.startswith(holder_key):
        return None
    rest = key[len(holder_key) :]
    if rest.startswith('["') and rest.endswith('"]'):
        name = rest[2:-2].replace('\\"', '"').replace("\\\\", "\\")
    else:
        name = rest.removeprefix(".") if holder_key else rest
    return name if name and child_key(holder_key, name) == key else None
