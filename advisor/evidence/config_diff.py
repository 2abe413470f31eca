"""Which keys differ between two versions of a configuration file, and by how much.

Comments, layout and quoting are no differences. What is found inside a value (JVM flags in a string, keys of
a file in a ConfigMap) is reported in place of the whole value. Documents are matched by what they are about
and list items by what they are called, so that something put in front does not make all that follows look
changed. Called by the source of configuration changes; pure.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from advisor.config_file import ConfigFile, Entry, find_flags, match_documents, plain_type, read_entries
from advisor.quantity import NOTHING_COMPARED, Quantity, compare
from advisor.values import Record

ChangeKind = Literal["added", "removed", "changed"]

_ALIGNED_ITEMS_PRODUCT_MAX = 40_000  # two lists of 200: beyond, items are compared by position
_RENAME_COMPARISONS_MAX = 50_000
_RENAME_EQUAL_MIN = 3  # a renamed variable is a removed and an added one; a renamed container is one container
_POSITION = re.compile(r"\[(\d+)\]")
_ITEM = re.compile(r'\[(?:"(?>[^"\\]++|\\.)*+"|[^\]"]*+)\](?:#\d+)?')
_SHOWN_ITEMS_MAX = 20
_AMOUNTS_MAX = 2_000  # a commit that changes more keys of a file than this changed data; no one reads its factors


class KeyChange(Record):
    """One key whose value differs between two versions of a file.

    Attributes:
        path: The file.
        key: As `advisor.config_file` writes it; of a changed list item, its place in the new version.
        document: Number of the YAML document in the new version (of a removed key: in the old).
        kind: ``added``, ``removed`` or ``changed``.
        old: The value before; None if the key was not there.
        new: The value after; None if the key is gone.
        scope: ``Deployment/checkout/<container>``, ``profile:prod``, or empty.
        old_quantity: The amount the old value means, if it is one.
        new_quantity: The amount the new value means, if it is one.
        ratio: New amount divided by old; None where that says nothing.
        unit: ``seconds``, ``bytes``, ``ratio``, ``count``, ``cores``, or empty.
    """

    path: str
    key: str
    document: int = 0
    kind: ChangeKind
    old: str | None = None
    new: str | None = None
    scope: str = ""
    old_quantity: Quantity | None = None
    new_quantity: Quantity | None = None
    ratio: float | None = None
    unit: str = ""


class _Pair(NamedTuple):
    """The same key on both sides, or on one."""

    old: Entry | None
    new: Entry | None


def diff_keys(before: bytes | None, after: bytes | None, path: str) -> tuple[KeyChange, ...]:
    """Return the keys that differ, in the order of the new version, removed ones last.

    Args:
        before: The old version; None if the file was not there.
        after: The new version; None if the file is gone.
        path: Its path in the repository, which also says its format.

    Raises:
        SourceMalformed: A version cannot be read by key.
    """
    if before == after:
        return ()
    old = _read(before, path)
    new = _read(after, path)
    pairs = _differing(old, new)
    if not pairs:
        return ()
    lists, pairs = _align_lists(pairs, old, new)
    pairs = _pair_renamed(pairs, new)
    pairs = _without_wholes(pairs, old, new)
    changes = [_change(path, pair, i < _AMOUNTS_MAX) for i, pair in enumerate(pairs)]
    return tuple([*changes, *(_list_change(path, moved) for moved in lists)])


def _read(data: bytes | None, path: str) -> ConfigFile:
    return read_entries(data, path) if data is not None else ConfigFile(path, "text", (), ())


def _differing(old: ConfigFile, new: ConfigFile) -> list[_Pair]:
    documents = match_documents(old, new)
    straight = all(a == b for a, b in documents.items())
    before = old.index if straight else {(documents.get(e.document, -1 - e.document), e.key): e for e in old.entries}
    if straight and len(documents) < len(old.identities):
        before = {(documents.get(e.document, -1 - e.document), e.key): e for e in old.entries}
    after = new.index
    pairs = []
    for identity, entry in after.items():
        was = before.get(identity)
        if was is None or _differs(was, entry):
            pairs.append(_Pair(was, entry))
    pairs.extend(_Pair(was, None) for identity, was in before.items() if identity not in after)
    return pairs


def _differs(old: Entry, new: Entry) -> bool:
    if old.value != new.value:
        return True
    if old.style == new.style or not _typed(old) or not _typed(new):
        return False
    return plain_type(old) != plain_type(new)


def _typed(entry: Entry) -> bool:
    """Return whether ``3`` and ``"3"`` are two values to the program that reads the file."""
    return entry.format in ("json", "toml", "hcl") or (entry.format == "yaml" and "/" in entry.scope)


class _Moved(NamedTuple):
    """A list of scalars in another order."""

    key: str
    entry: Entry
    old: list[str]
    new: list[str]


def _align_lists(pairs: list[_Pair], old: ConfigFile, new: ConfigFile) -> tuple[list[_Moved], list[_Pair]]:
    """Compare lists of unnamed items by content instead of by position."""
    groups: dict[tuple[int, str], list[_Pair]] = defaultdict(list)
    rest: list[_Pair] = []
    to_new = match_documents(old, new)
    for pair in pairs:
        entry = pair.new or pair.old
        match = _POSITION.search(entry.key) if entry is not None else None
        number = pair.new.document if pair.new else to_new.get(pair.old.document) if pair.old else None
        if entry is None or match is None or number is None:
            rest.append(pair)
        else:
            groups[(number, entry.key[: match.start()])].append(pair)
    if not groups:
        return [], rest
    to_old = {n: o for o, n in to_new.items()}
    old_lists, new_lists = _lists(old.entries), _lists(new.entries)
    moved: list[_Moved] = []
    for (number, prefix), group in groups.items():
        before, after = old_lists.get((to_old.get(number, -1), prefix)), new_lists.get((number, prefix))
        in_place = all(p.old and p.new for p in group) and not _reordered(group)
        if before is None or after is None or in_place:
            rest.extend(group)
            continue
        order = _reordering(prefix, before, after)
        if order is not None:
            moved.append(order)
        else:
            rest.extend(_aligned(before, after))
    position = {id(entry): i for i, entry in enumerate(new.entries)}
    rest.sort(key=lambda p: position[id(p.new)] if p.new is not None else len(position))
    return moved, rest


def _reordered(group: list[_Pair]) -> bool:
    """Return whether the changed values of a list are the old ones in another order."""
    before = Counter(p.old.value for p in group if p.old is not None)
    return before == Counter(p.new.value for p in group if p.new is not None)


Items = dict[int, dict[str, Entry]]  # position in the list -> rest of the key -> entry


def _lists(entries: Iterable[Entry]) -> dict[tuple[int, str], Items]:
    """Return the outermost lists with unnamed items, by document and path."""
    lists: dict[tuple[int, str], Items] = {}
    for entry in entries:
        match = _POSITION.search(entry.key)
        if match:
            items = lists.setdefault((entry.document, entry.key[: match.start()]), {})
            items.setdefault(int(match[1]), {})[entry.key[match.end() :]] = entry
    return lists


def _reordering(prefix: str, before: Items, after: Items) -> _Moved | None:
    """Return the list if it holds the same scalars in another order.

    For arguments and rules order is meaning.
    """
    if len(before) != len(after) or any(i.keys() != {""} for i in [*before.values(), *after.values()]):
        return None
    old = [before[i][""].value for i in sorted(before)]
    new = [after[i][""].value for i in sorted(after)]
    return _Moved(prefix, after[min(after)][""], old, new) if Counter(old) == Counter(new) else None


def _aligned(before: Items, after: Items) -> list[_Pair]:
    """Return the differing entries of two lists, equal items matched first, the rest in order."""
    old_numbers, new_numbers = sorted(before), sorted(after)
    matched: dict[int, int] = {}
    if len(before) * len(after) <= _ALIGNED_ITEMS_PRODUCT_MAX:
        old_contents = [_content(before[n]) for n in old_numbers]
        new_contents = [_content(after[n]) for n in new_numbers]
        for i1, i2, j1, j2 in _blocks(old_contents, new_contents):
            matched.update(zip(old_numbers[i1:i2], new_numbers[j1:j2], strict=False))
    else:
        matched.update((n, n) for n in old_numbers if n in after)
    pairs = []
    for old_number, new_number in matched.items():
        pairs.extend(_compare(before[old_number], after[new_number]))
    taken = set(matched.values())
    pairs.extend(_Pair(None, e) for n in new_numbers if n not in taken for e in after[n].values())
    pairs.extend(_Pair(e, None) for n in old_numbers if n not in matched for e in before[n].values())
    return pairs


Content = tuple[tuple[str, str], ...]


def _blocks(old: list[Content], new: list[Content]) -> list[tuple[int, int, int, int]]:
    """Return ranges of old and new items that belong together, equal or replaced."""
    shorter = min(len(old), len(new))
    head = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    tail = next((i for i in range(shorter - head) if old[-1 - i] != new[-1 - i]), shorter - head)
    old_end, new_end = len(old) - tail, len(new) - tail
    blocks = [(0, head, 0, head), (old_end, len(old), new_end, len(new))]
    if head < old_end and head < new_end:  # the general case is slow, and rare
        matcher = SequenceMatcher(None, old[head:old_end], new[head:new_end], autojunk=False)
        for kind, i1, i2, j1, j2 in matcher.get_opcodes():
            if kind in ("equal", "replace"):
                blocks.append((head + i1, head + i2, head + j1, head + j2))
    return blocks


def _content(item: dict[str, Entry]) -> Content:
    return tuple((rest, entry.value) for rest, entry in item.items())


def _compare(old: dict[str, Entry], new: dict[str, Entry]) -> list[_Pair]:
    pairs = []
    for rest, entry in new.items():
        was = old.get(rest)
        if was is None or _differs(was, entry):
            pairs.append(_Pair(was, entry))
    pairs.extend(_Pair(was, None) for rest, was in old.items() if rest not in new)
    return pairs


def _pair_renamed(pairs: list[_Pair], new: ConfigFile) -> list[_Pair]:
    """Compare a list item that only got another name with what it was.

    Instead of as one gone and one come.
    """
    if not any(p.old is None for p in pairs) or not any(p.new is None for p in pairs):
        return pairs
    gone = _groups(p.old for p in pairs if p.new is None)
    come = _groups(p.new for p in pairs if p.old is None)
    if sum(map(len, gone.values())) * len(come) > _RENAME_COMPARISONS_MAX:
        return pairs
    renamed: list[_Pair] = []
    used: set[int] = set()
    for (old_list, _), old_rest in gone.items():
        best: tuple[int, dict[str, Entry]] | None = None
        for (new_list, _), new_rest in come.items():
            equal = sum(1 for rest, e in old_rest.items() if rest in new_rest and new_rest[rest].value == e.value)
            enough = equal >= _RENAME_EQUAL_MIN and equal * 2 >= max(len(old_rest), len(new_rest))
            free = not any(id(e) in used for e in (*old_rest.values(), *new_rest.values()))
            if new_list == old_list and enough and free and (best is None or equal > best[0]):
                best = (equal, new_rest)
        if best is not None:
            renamed.extend(_compare(old_rest, best[1]))
            used.update(id(e) for e in (*old_rest.values(), *best[1].values()))
    return [p for p in pairs if id(p.old or p.new) not in used or (p.old and p.new)] + renamed


def _groups(entries: Iterable[Entry | None]) -> dict[tuple[str, str], dict[str, Entry]]:
    """Return entries by list and item, for every level of named items, outer levels first."""
    groups: dict[tuple[str, str], dict[str, Entry]] = {}
    for entry in entries:
        if entry is None:
            continue
        for match in _ITEM.finditer(entry.key):
            if not _POSITION.fullmatch(match.group()):
                holder = f"{entry.document}:{entry.key[: match.start()]}"
                groups.setdefault((holder, match.group()), {})[entry.key[match.end() :]] = entry
    return dict(sorted(groups.items(), key=lambda g: len(g[0][0])))


def _without_wholes(pairs: list[_Pair], old: ConfigFile, new: ConfigFile) -> list[_Pair]:
    """Leave out values whose difference is told by what is inside of them.

    And insides told by their whole.
    """
    old_wholes = {(e.document, e.parent): e.format for e in old.entries if e.parent}
    new_wholes = {(e.document, e.parent): e.format for e in new.entries if e.parent}
    broken: set[tuple[int, str]] = set()
    kept = []
    for pair in pairs:
        inside_old = old_wholes.get(pair.old.identity) if pair.old else None
        inside_new = new_wholes.get(pair.new.identity) if pair.new else None
        if inside_old is None and inside_new is None:
            kept.append(pair)
        elif "flag" in (inside_old, inside_new):
            if _residue(pair.old, inside_old) != _residue(pair.new, inside_new):
                kept.append(pair)
        elif pair.old and pair.new and (inside_old is None or inside_new is None):
            bare = pair.old if inside_old is None else pair.new
            if not _is_without_keys(bare.value):  # then one side is not readable as a file
                broken.update((pair.old.identity, pair.new.identity))
                kept.append(pair)
    if not broken:
        return kept
    return [p for p in kept if not any(e is not None and (e.document, e.parent) in broken for e in p)]


def _residue(entry: Entry | None, inside: str | None) -> tuple[str, ...]:
    """Return the words of a string that are not told as flags."""
    if entry is None:
        return ()
    if inside is None:
        return tuple(entry.value.split())
    return find_flags(entry.value, entry.key, java=True).residue


def _is_without_keys(text: str) -> bool:
    return all(not line.strip() or line.lstrip()[0] == "#" for line in text.split("\n"))


def _change(path: str, pair: _Pair, with_amounts: bool) -> KeyChange:
    old, new = pair
    entry = new or old
    if entry is None:
        raise ValueError("a change of nothing")
    was, now = old.value if old else None, new.value if new else None
    kind: ChangeKind = "changed"
    if old is None or new is None:
        kind = "removed" if new is None else "added"
    elif was == now:  # the type alone differs: say it as the file does
        was, now = _literal(old), _literal(new)
    amounts = compare(was, now, entry.key) if with_amounts else NOTHING_COMPARED
    return KeyChange(
        path=path,
        key=entry.key,
        document=entry.document,
        kind=kind,
        old=was,
        new=now,
        scope=entry.scope,
        old_quantity=amounts.old,
        new_quantity=amounts.new,
        ratio=amounts.ratio,
        unit=amounts.unit,
    )


def _literal(entry: Entry) -> str:
    return f'"{entry.value}"' if plain_type(entry) == "string" else entry.value


def _list_change(path: str, moved: _Moved) -> KeyChange:
    return KeyChange(
        path=path,
        key=moved.key,
        document=moved.entry.document,
        kind="changed",
        old=_list(moved.old),
        new=_list(moved.new),
        scope=moved.entry.scope,
    )


def _list(values: list[str]) -> str:
    shown = ", ".join(values[:_SHOWN_ITEMS_MAX])
    return f"[{shown}{', …' if len(values) > _SHOWN_ITEMS_MAX else ''}]"
