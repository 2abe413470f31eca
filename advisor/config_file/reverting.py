"""Taking single keys back to what they were before a commit, in a file that has moved on since.

Only what that commit changed, only where the file still has what the commit made of it. Called to build
proposals; the rollback of a whole commit does not come through here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from advisor.config_file import line_edit, yaml_edit
from advisor.config_file.editing import (
    _BOM,
    Identity,
    check,
    encoding_of,
    inner_entry,
    inner_path,
    insert_word,
    refuse_shared,
    remove,
    replace,
    replace_block,
    shown,
)
from advisor.config_file.jvm_flags import find_flags
from advisor.config_file.matching import match_documents
from advisor.config_file.reading import decode, embedded_name, read_entries
from advisor.config_file.records import ConfigFile, Entry
from advisor.errors import ChangeRefused

_KEYS_MAX = 500  # each key is one edit and one reading; a commit with more is reverted as a commit
_POSITION = re.compile(r"\[\d+\]")


class _Key(NamedTuple):
    """One key to take back: the entry before, after, and now, and the number of its document now."""

    before: Entry | None
    after: Entry | None
    current: Entry | None
    identity: Identity

    @property
    def name(self) -> str:
        return self.identity[1]


def revert_keys(
    before: bytes | None, after: bytes, current: bytes, path: str, keys: Iterable[str | tuple[int, str]]
) -> bytes:
    """Return the current file with the listed keys as they were before a commit; every other byte stays.

    A value that was changed gets its old token back, a key that was added goes, a key that was removed comes
    back as the lines it was.

    Args:
        before: The file in the commit's parent; None if it was not there.
        after: The file in the commit.
        current: The file at the head of the branch.
        path: Its path.
        keys: Keys as `diff_keys` reports them, alone or with the number of the document in ``after`` (of a
            removed key: in ``before``). Alone, the key must have changed in one document only.

    Raises:
        ChangeRefused: A key did not change there, changed again since, or cannot be edited exactly.
        SourceMalformed: A version cannot be read.
    """
    old = read_entries(before, path) if before is not None else ConfigFile(path, "text", (), ())
    new, now = read_entries(after, path), read_entries(current, path)
    to_old = {n: o for o, n in match_documents(old, new).items()}
    documents = _Documents(to_old, match_documents(new, now))
    found = [_resolve(key, old, new, now, documents) for key in dict.fromkeys(keys)]
    if not found or len(found) > _KEYS_MAX:
        raise ChangeRefused(f"{path}: {len(found)} keys to revert; between 1 and {_KEYS_MAX} are possible")
    _refuse_positions(found, old, new)
    restored = _restore_values(current, now, found, before or b"")
    try:
        # Put back first: a block whose last new key goes before its old one returns would go as a whole.
        edited = _put_back(restored, found, old, before or b"")
        edited = _take_out(edited, found, old)
    except ChangeRefused:
        if not any(k.after is None for k in found):
            raise
        # A value that became a block, or the reverse: the new one stands where the old one has to go.
        edited = _put_back(_take_out(restored, found, old), found, old, before or b"")
    check(now, edited, {k.identity: k.before.value if k.before else None for k in found})
    return edited


class _Documents(NamedTuple):
    """Which document of one version is which of another."""

    to_old: dict[int, int]
    to_now: dict[int, int]


def _resolve(
    key: str | tuple[int, str], old: ConfigFile, new: ConfigFile, now: ConfigFile, documents: _Documents
) -> _Key:
    name = key if isinstance(key, str) else key[1]
    pairs: list[tuple[Entry | None, Entry | None, int | None]] = []
    for number in range(len(new.identities)):
        was = old.entry(name, documents.to_old[number]) if number in documents.to_old else None
        entry = new.entry(name, number)
        if (entry or was) and (entry is None or was is None or entry.value != was.value):
            pairs.append((was, entry, number))
    gone = set(range(len(old.identities))) - set(documents.to_old.values())
    pairs += [(was, None, None) for n in sorted(gone) if (was := old.entry(name, n)) is not None]
    if not isinstance(key, str):
        pairs = [p for p in pairs if key[0] in {e.document for e in (p[1] or p[0],) if e is not None}]
    if not pairs:
        raise ChangeRefused(f"{new.path}: key {name}: the commit did not change it")
    if len(pairs) > 1:
        raise ChangeRefused(f"{new.path}: key {name} changed in {len(pairs)} documents: name the document")
    was, entry, in_new = pairs[0]
    if in_new is None or (old.identities and in_new not in documents.to_old):
        raise ChangeRefused(f"{new.path}: key {name}: its whole document came or went; revert the commit")
    if in_new not in documents.to_now:
        raise ChangeRefused(f"{new.path}: key {name}: its document is no longer there")
    number = documents.to_now[in_new]
    current = now.entry(name, number)
    if (current.value if current else None) != (entry.value if entry else None):
        expected, present = shown(entry.value if entry else None), shown(current.value if current else None)
        raise ChangeRefused(
            f"{new.path}: key {name} changed again since: the commit made it {expected}, now it is {present}"
        )
    return _Key(was, entry, current, (number, name))


def _refuse_positions(found: list[_Key], old: ConfigFile, new: ConfigFile) -> None:
    """Refuse to revert part of a list whose items are known by position only: they may have moved."""
    listed = {k.name for k in found}
    for key in found:
        match = _POSITION.search(key.name)
        if match is None:
            continue
        prefix = key.name[: match.start()]
        was = {e.key: e.value for e in old.entries if _in_list(e, prefix, key.before)}
        now = {e.key: e.value for e in new.entries if _in_list(e, prefix, key.after)}
        if was.keys() != now.keys() or any(was[k] != now[k] and k not in listed for k in was):
            why = f"items of the list {prefix} came, went or changed together; revert the commit"
            raise ChangeRefused(f"{new.path}: key {key.name}: {why}")


def _in_list(entry: Entry, prefix: str, like: Entry | None) -> bool:
    same = like is None or entry.document == like.document
    return same and not entry.parent and bool(entry.key.startswith(prefix) and _POSITION.match(entry.key, len(prefix)))


def _restore_values(data: bytes, file: ConfigFile, found: list[_Key], before: bytes) -> bytes:
    """Give changed keys their old values, outer values first.

    What is inside of them may then be right already.
    """
    for key in sorted(found, key=lambda k: len(k.name)):
        if key.before is None or key.after is None:
            continue
        now = read_entries(data, file.path)
        entry = now.entry(key.name, key.identity[0])
        if entry is None:
            raise ChangeRefused(f"{file.path}: key {key.name} is no longer there")
        if entry.value != key.before.value:
            emptied = _emptied(data, now, key.before, entry)
            if emptied is not None:
                data = emptied
            else:
                data = replace(data, now, entry, key.before.value, _old_token(key.before, entry, before, data))
    return data


def _emptied(data: bytes, file: ConfigFile, was: Entry, entry: Entry) -> bytes | None:
    """Return the file without a value that was not written before, its space or sign gone too."""
    bare = b" " if was.style == "empty" and was.format == "yaml" else b"=" if was.style == "bare_key" else b""
    if not bare or entry.start is None or entry.end is None:
        return None
    edited = data[: entry.start].rstrip(bare) + data[entry.end :]
    try:
        refuse_shared(file, entry)
        check(file, edited, {entry.identity: ""})
    except ChangeRefused:
        return None
    return edited


def _old_token(was: Entry, entry: Entry, before: bytes, data: bytes) -> bytes | None:
    """Return the very bytes of the old value, where they mean the same at the new place."""
    if was.start is None or was.end is None or was.format != entry.format or was.style in ("alias", "collection"):
        return None
    token = before[was.start : was.end]
    if entry.style == "empty" and was.style != "empty" and entry.format == "yaml":
        token = b" " + token
    if was.format == "flag" and was.style != entry.style:
        return None
    around = before[: was.start] + before[was.end :]
    if b"\r\n" in token and b"\r\n" not in data and b"\r\n" in around:  # the file has other line ends by now
        return token.replace(b"\r\n", b"\n")
    return token


def _take_out(data: bytes, found: list[_Key], old: ConfigFile) -> bytes:
    added = [k for k in found if k.before is None and k.current is not None]
    if not added:
        return data
    now = read_entries(data, old.path)
    entries = [e for e in (now.entry(k.name, k.identity[0]) for k in added) if e is not None]
    return remove(data, now, _with_wholes(entries, now, old))


def _with_wholes(entries: list[Entry], file: ConfigFile, other: ConfigFile) -> list[Entry]:
    """Replace what is inside of a value by the value, if the other version has none of it."""
    kept: dict[Identity, Entry] = {}
    listed = {e.identity for e in entries}
    for entry in entries:
        outer = entry
        while outer.parent and (outer.document, outer.parent) in file.index:
            holder = file.index[(outer.document, outer.parent)]
            if other.entry(holder.key, None) is not None:
                break
            inside = [e for e in file.entries if e.parent == holder.key and e.document == holder.document]
            residue = find_flags(holder.value, holder.key, java=True).residue if inside[0].format == "flag" else ()
            if holder.identity not in listed and (residue or any(e.identity not in listed for e in inside)):
                break
            outer = holder
        kept[outer.identity] = outer
    return list(kept.values())


def _put_back(data: bytes, found: list[_Key], old: ConfigFile, before: bytes) -> bytes:
    removed = [k for k in found if k.after is None and k.before is not None]
    if not removed:
        return data
    file = read_entries(data, old.path)
    entries = _with_wholes([k.before for k in removed if k.before is not None], old, file)
    documents = match_documents(old, file)
    direct = [e for e in entries if not e.parent]
    if direct:
        data = _put_back_direct(data, file, old, before, direct, documents)
    for entry in entries:
        if entry.parent:
            data = _put_back_nested(data, file.path, old, entry, documents.get(entry.document, -1))
    return data


def _put_back_direct(
    data: bytes,
    file: ConfigFile,
    old: ConfigFile,
    before: bytes,
    entries: list[Entry],
    documents: dict[int, int],
) -> bytes:
    text, old_text = decode(data, file.path), decode(before, file.path)
    if file.format == "yaml":
        text = yaml_edit.insert_nodes(text, file.path, old_text, {e.identity for e in entries}, documents)
        return _encode(text, data)
    if not old.regions:
        raise ChangeRefused(f"{file.path}: key {entries[0].key}: keys are not added to a {file.format} file")
    statements: dict[tuple[int, int], list[Identity]] = {}
    regions = dict(old.regions)
    for entry in entries:
        if entry.identity not in regions:
            raise ChangeRefused(f"{file.path}: key {entry.key}: it is no statement of its own")
        statements.setdefault(regions[entry.identity], []).append(entry.identity)
    for _, identities in sorted(statements.items()):
        now = read_entries(_encode(text, data), file.path)
        text = line_edit.insert_statements(text, now, old_text, old, identities, documents)
    return _encode(text, data)


def _encode(text: str, like: bytes) -> bytes:
    try:
        return (_BOM if like.startswith(_BOM) else b"") + text.encode(encoding_of(like))
    except UnicodeEncodeError as error:
        raise ChangeRefused("the old lines cannot be written in the encoding that the file has now") from error


def _put_back_nested(data: bytes, path: str, old: ConfigFile, entry: Entry, document: int) -> bytes:
    now = read_entries(data, path)
    holder = now.entry(entry.parent, document)
    old_holder = old.entry(entry.parent, entry.document)
    if holder is None or old_holder is None:
        raise ChangeRefused(f"{path}: key {entry.key}: the value it stood in is no longer there")
    expected: dict[Identity, str | None] = {(document, entry.key): entry.value}
    if entry.format == "flag" and embedded_name(holder.key, holder.value) is None:
        word, after, following = _old_word(old_holder, entry, holder)
        edited = insert_word(data, now, holder, word, after, following)
        check(now, edited, expected)
        return edited
    name, inner_before = inner_path(now, holder), old_holder.value.encode()
    inner = inner_entry(read_entries(inner_before, name), old_holder, entry)
    inner_now = holder.value.encode()
    reverted = revert_keys(inner_before, inner_now, inner_now, name, [inner.identity])
    return replace_block(data, now, holder, reverted.decode(), expected)


def _old_word(old_holder: Entry, entry: Entry, holder: Entry) -> tuple[str, str | None, str | None]:
    """Return the flag as it was written, and the words around it that are still there."""
    flags = find_flags(old_holder.value, old_holder.key, java=True).flags
    own = [f for f in flags if entry.key.endswith(f":{f.key}")]
    if len(own) != 1:
        raise ChangeRefused(f"{entry.key}: the flag stood {len(own)} times in the string")
    start, end = own[0].word
    words = set(holder.value.split())
    earlier = [w for w in old_holder.value[:start].split() if w in words]
    later = [w for w in old_holder.value[end:].split() if w in words]
    return old_holder.value[start:end], earlier[-1] if earlier else None, later[0] if later else None
