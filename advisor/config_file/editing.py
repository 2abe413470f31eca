"""Edits of one key: its value's token and nothing else, checked by reading the result again.

Not here: undoing what a commit did to several keys (`reverting`), and any decision whether an edit is wise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from advisor.config_file import line_edit, yaml_edit
from advisor.config_file.jvm_flags import Flag, find_flags
from advisor.config_file.reading import decode, embedded_name, read_entries, value_map
from advisor.config_file.records import ConfigFile, Entry
from advisor.config_file.scalars import candidates, inside, write_block
from advisor.config_file.source_map import project
from advisor.config_file.template_reader import has_tags
from advisor.errors import ChangeRefused, SourceMalformed

Identity = tuple[int, str]

_SHOWN_MAX = 120
_LINE_FORMATS = frozenset(
    "properties env shell jvm_options dockerfile toml ini systemd xml nginx blocks haproxy apache fluentd redis sshd lines".split()
)
_SPREAD = "is not written in one piece"
_FIXED = {
    "template": "is made by a template",
    "branch": "stands in several branches of a template",
    "statement": "is a statement of a template",
    "bare": "is not there: the name stands alone",
}
_BOM = b"\xef\xbb\xbf"


def set_value(data: bytes, path: str, key: str, new: str, document: int = 0) -> bytes:
    """Return the file with one key given a new value; every other byte stays.

    Args:
        data: The file as it stands.
        path: Its path, which says its format.
        key: A key as `read_entries` names it.
        new: The new value, decoded: quotes and escapes are this function's affair.
        document: Number of the document.

    Raises:
        ChangeRefused: The key is not there, the value is shared by an anchor, cannot be written in its style,
            or the file read again would differ in more than this key.
        SourceMalformed: The file cannot be read.
    """
    file = read_entries(data, path)
    entry = require(file, key, document)
    if entry.value == new:
        return data
    return replace(data, file, entry, new, None)


def require(file: ConfigFile, key: str, document: int) -> Entry:
    """Return the entry of a key.

    Raises:
        ChangeRefused: It is not in the file.
    """
    entry = file.entry(key, document)
    if entry is not None:
        return entry
    if file.format == "text":
        raise ChangeRefused(f"{file.path}: key {key}: files of this kind are not read by key")
    where = f" in document {document}" if len(file.identities) > 1 else ""
    raise ChangeRefused(f"{file.path}: key {key} is not there{where}")


def replace(data: bytes, file: ConfigFile, entry: Entry, new: str, token: bytes | None) -> bytes:
    """Return the file with an entry's token replaced.

    Args:
        data: The file.
        file: The same, read.
        entry: What is to change.
        new: Its new value, decoded.
        token: Bytes to try first, such as the ones that stood there before.

    Raises:
        ChangeRefused: No token gives exactly this value and changes nothing else.
    """
    refuse_shared(file, entry)
    if entry.start is None or entry.end is None:
        why = "comes through a YAML alias or merge key" if entry.source else _FIXED.get(entry.style, _SPREAD)
        raise ChangeRefused(f"{file.path}: key {entry.key}: its value {why}, so it cannot be edited in place")
    encoding = encoding_of(data)
    raw = data[entry.start : entry.end]
    if file.format == "template" and has_tags(raw.decode(encoding)):
        raise ChangeRefused(
            f"{file.path}: key {entry.key}: its value {_FIXED['template']}, so it cannot be edited in place"
        )
    tokens = [token] if token is not None else []
    for text in candidates(entry, raw.decode(encoding), new):
        nested = _nested(file, entry, text)
        if nested is not None and (encoded := _encoded(nested, encoding)) is not None:
            tokens.append(encoded)
    refusal: ChangeRefused | None = None
    for candidate in tokens:
        edited = data[: entry.start] + candidate + data[entry.end :]
        try:
            check(file, edited, {entry.identity: new})
        except ChangeRefused as error:
            refusal = error
            continue
        return edited
    if refusal is not None:
        raise refusal
    kind = f"{entry.style} {entry.format}"
    raise ChangeRefused(f"{file.path}: key {entry.key}: {shown(new)} cannot be written as a {kind} value")


def _nested(file: ConfigFile, entry: Entry, token: str) -> str | None:
    parent = entry.parent
    written: str | None = token
    while parent and written is not None:
        holder = file.entry(parent, entry.document)
        if holder is None:
            return None
        written = inside(holder, written)
        parent = holder.parent
    return written


def _encoded(text: str, encoding: str) -> bytes | None:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:  # a lone surrogate, or a letter that ISO 8859-1 does not have
        return None


def encoding_of(data: bytes) -> str:
    """Return the encoding that the file was read in."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "iso-8859-1"
    return "utf-8"


def refuse_shared(file: ConfigFile, entry: Entry) -> None:
    """Refuse an edit of a value that other keys take through an anchor.

    Raises:
        ChangeRefused: It names those keys.
    """
    start, end = entry.start, entry.end
    if start is None or end is None or entry.style == "alias":
        return
    others = [
        other.key
        for other in file.entries
        if other.source is not None and other.source[0] <= start and end <= other.source[1] and other.key != entry.key
    ]
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        names = ", ".join(others[:5])
        raise ChangeRefused(f"{file.path}: key {entry.key}: its value is anchored and also changes {names}{more}")


def check(file: ConfigFile, edited: bytes, expected: dict[Identity, str | None]) -> ConfigFile:
    """Read an edited file and compare every key; return it as read.

    Args:
        file: The file before the edit, read.
        edited: The file after it.
        expected: The value that each edited key must have now; None: it must be gone. Whole values around an
            edited one follow it, and what is inside of one edited as a whole.

    Raises:
        ChangeRefused: A key does not have its value, or another one changed.
    """
    try:
        now = read_entries(edited, file.path)
    except SourceMalformed as error:
        raise ChangeRefused(f"the edit would break the file: {error}") from error
    for identity, value in expected.items():
        found = now.index.get(identity)
        if (found.value if found else None) != value:
            what = (
                "still there"
                if value is None
                else f"{shown(found.value)} instead of {shown(value)}"
                if found
                else "gone"
            )
            raise ChangeRefused(f"{file.path}: key {identity[1]}: after the edit it would be {what}")
    around = _around(file, expected) | _around(now, expected)
    for identity in {**file.index, **now.index}:
        before, after = file.index.get(identity), now.index.get(identity)
        if identity in expected or identity in around or _is_inside(file, now, identity, expected):
            continue
        if before is None or after is None or before.value != after.value:
            raise ChangeRefused(f"{file.path}: key {next(iter(expected))[1]}: the edit would also change {identity[1]}")
    if len(now.identities) != len(file.identities):
        raise ChangeRefused(f"{file.path}: the edit would change the number of documents")
    return now


def _around(file: ConfigFile, expected: Iterable[Identity]) -> set[Identity]:
    """Return the wholes that edited keys are inside of."""
    found: set[Identity] = set()
    for identity in expected:
        entry = file.index.get(identity)
        while entry is not None and entry.parent:
            found.add((entry.document, entry.parent))
            entry = file.index.get((entry.document, entry.parent))
    return found


def _is_inside(file: ConfigFile, now: ConfigFile, identity: Identity, expected: dict[Identity, str | None]) -> bool:
    for version in (file, now):
        entry = version.index.get(identity)
        while entry is not None and entry.parent:
            holder = (entry.document, entry.parent)
            if holder in expected:
                return True
            entry = version.index.get(holder)
    return False


def shown(value: str | None) -> str:
    """Return a value for a message."""
    if value is None:
        return "(not set)"
    text = value if len(value) <= _SHOWN_MAX else value[: _SHOWN_MAX - 1] + "…"
    return repr(text) if not text or text != text.strip() or not text.isprintable() else text


def remove_key(data: bytes, path: str, key: str, document: int = 0) -> bytes:
    """Return the file without a key: its whole lines, or its word where it is a JVM flag in a string.

    A block that would be left empty goes with its last key.

    Raises:
        ChangeRefused: The key shares its line, or something else would change.
        SourceMalformed: The file cannot be read.
    """
    file = read_entries(data, path)
    entry = require(file, key, document)
    return remove(data, file, [entry])


def remove(data: bytes, file: ConfigFile, entries: list[Entry]) -> bytes:
    """Return the file without these entries, all at once; see `remove_key`."""
    for entry in entries:
        refuse_shared(file, entry)
    edited = data
    direct = [e for e in entries if not e.parent]
    if direct:
        edited = _on_text(edited, file, lambda text: _remove_direct(text, file, direct))
        check(file, edited, dict.fromkeys((e.identity for e in direct), None))
    for entry in entries:
        if entry.parent:
            current = read_entries(edited, file.path)
            if current.entry(entry.key, entry.document) is not None:
                edited = _remove_nested(edited, current, entry)
    check(file, edited, dict.fromkeys((e.identity for e in entries), None))
    return edited


def _remove_direct(text: str, file: ConfigFile, entries: list[Entry]) -> str:
    identities = {e.identity for e in entries}
    if file.format == "yaml":
        return yaml_edit.remove_nodes(text, file.path, identities)
    if file.format in _LINE_FORMATS:
        return line_edit.remove_statements(text, file, identities)
    raise ChangeRefused(
        f"{file.path}: key {entries[0].key}: keys of a {file.format} file are not removed, only changed"
    )


def _remove_nested(data: bytes, file: ConfigFile, entry: Entry) -> bytes:
    entry = require(file, entry.key, entry.document)
    holder = require(file, entry.parent, entry.document)
    if entry.format == "flag" and embedded_name(holder.key, holder.value) is None:
        flag = _flag_of(holder, entry)
        spot = _in_characters(data, file, holder)
        return _on_text(data, file, lambda text: _without_word(text, file, spot, flag))
    inner_file = read_entries(holder.value.encode(), inner_path(file, holder))
    inner = inner_entry(inner_file, holder, entry)
    edited = remove(holder.value.encode(), inner_file, [inner])
    return replace_block(data, file, holder, edited.decode(), {entry.identity: None})


def inner_path(file: ConfigFile, holder: Entry) -> str:
    """Return the path an embedded file is read under.

    Raises:
        ChangeRefused: The value is no embedded file.
    """
    name = embedded_name(holder.key, holder.value)
    if name is None:
        raise ChangeRefused(f"{file.path}: key {holder.key} holds no file that is read by key")
    return name


def inner_entry(inner_file: ConfigFile, holder: Entry, entry: Entry) -> Entry:
    """Return the entry of an embedded file that is known outside under the holder's key and its own.

    Raises:
        ChangeRefused: None, or more than one.
    """
    rest = entry.key[len(holder.key) :]
    found = [e for e in inner_file.entries if rest in (e.key, f".{e.key}")]
    if len(found) != 1 and rest.startswith("#"):
        _, _, tail = rest.partition(".")
        found = [e for e in inner_file.entries if e.document > 0 and e.key == tail]
    if len(found) != 1:
        raise ChangeRefused(f"{entry.key}: not found for certain in the embedded file")
    return found[0]


def replace_block(
    data: bytes, file: ConfigFile, holder: Entry, new: str, expected: dict[Identity, str | None]
) -> bytes:
    """Return the file with the text of an embedded file replaced, where it stands in a literal block.

    Raises:
        ChangeRefused: It stands in another style, or its block could not be written again byte for byte.
    """
    refuse_shared(file, holder)
    if (
        holder.start is None
        or holder.end is None
        or holder.format != "yaml"
        or holder.style != "literal"
        or holder.parent
    ):
        raise ChangeRefused(f"{file.path}: key {holder.key}: lines come and go only in a literal block (|)")
    encoding = encoding_of(data)
    raw = data[holder.start : holder.end].decode(encoding)
    block = write_block(holder, raw, new)
    if block is None or write_block(holder, raw, holder.value) != raw:
        raise ChangeRefused(f"{file.path}: key {holder.key}: its block cannot be written again exactly")
    edited = data[: holder.start] + block.encode(encoding) + data[holder.end :]
    check(file, edited, expected)
    return edited


def insert_key(data: bytes, path: str, key: str, value: str, document: int = 0) -> bytes:
    """Return the file with a key added: one line, last of its parent's keys.

    Raises:
        ChangeRefused: It is there already, its parent is not, the parent is written in flow style, or
            something else would change.
        SourceMalformed: The file cannot be read.
    """
    file = read_entries(data, path)
    if file.entry(key, document) is not None:
        raise ChangeRefused(f"{path}: key {key} is already there")
    edited = _insert_one(data, file, key, value, document)
    check(file, edited, {(document, key): value})
    return edited


def _insert_one(data: bytes, file: ConfigFile, key: str, value: str, document: int) -> bytes:
    holder_key, separator, flag = key.rpartition(":-")
    if separator and file.format != "jvm_options":
        return _insert_flag(data, file, holder_key, "-" + flag, value, document)
    holder = next((e for e in file.entries if _holds(e, key, document)), None)
    if holder is not None:
        rest = key[len(holder.key) :].removeprefix(".")
        inner = insert_key(holder.value.encode(), inner_path(file, holder), rest, value)
        return replace_block(data, file, holder, inner.decode(), {(document, key): value})
    if file.format == "yaml":
        return _on_text(data, file, lambda text: yaml_edit.insert_line(text, file.path, document, key, value))
    if file.format in ("properties", "env") and document == 0:
        return _on_text(data, file, lambda text: line_edit.append_statement(text, file, key, value))
    raise ChangeRefused(f"{file.path}: key {key}: keys are not added to a {file.format} file")


def _holds(entry: Entry, key: str, document: int) -> bool:
    inside_key = entry.document == document and key.startswith((entry.key + ".", entry.key + "["))
    return inside_key and embedded_name(entry.key, entry.value) is not None


def _insert_flag(data: bytes, file: ConfigFile, holder_key: str, flag: str, value: str, document: int) -> bytes:
    holder = require(file, holder_key, document)
    if flag.startswith("-XX:+"):
        word = flag if value == "true" else flag.replace("+", "-", 1)
    elif flag.startswith("-X") and not flag.startswith("-XX:"):
        word = flag + value
    else:
        word = f"{flag}={value}" if value else flag
    if re.search(r"[\s\"']", word):
        raise ChangeRefused(f"{file.path}: key {holder_key}:{flag}: a flag with spaces or quotes is not added")
    return insert_word(data, file, holder, word, None, None)


def _flag_of(holder: Entry, entry: Entry) -> Flag:
    name = entry.key.rpartition(":-")[2]
    found = [f for f in find_flags(holder.value, holder.key, java=True).flags if f.key == f"-{name}"]
    if len(found) != 1:
        raise ChangeRefused(f"{entry.key}: the flag stands {len(found)} times in the string")
    return found[0]


def _without_word(text: str, file: ConfigFile, holder: Entry, flag: Flag) -> str:
    start, end = _word_span(text, file, holder, flag.word)
    before = len(text[:start]) - len(text[:start].rstrip(" \t"))
    after = len(text[end:]) - len(text[end:].lstrip(" \t"))
    line_break = re.compile(r"\r\n|\r|\n").match(text, end + after)
    at_line_start = start - before == 0 or text[start - before - 1] in "\r\n"
    if at_line_start and line_break:  # alone on a line of a folded string: the line goes
        return text[: start - before] + text[line_break.end() :]
    if after:
        return text[:start] + text[end + after :]
    return text[: start - before] + text[end:]


def _word_span(text: str, file: ConfigFile, holder: Entry, word: tuple[int, int]) -> tuple[int, int]:
    """Return where a word of a value stands in the text; the holder's span is in characters."""
    source = value_map(holder, text)
    span = project(source, *word) if source is not None else None
    if span is None:
        raise ChangeRefused(f"{file.path}: key {holder.key}: its words are not written one to one")
    return span


def _in_characters(data: bytes, file: ConfigFile, entry: Entry) -> Entry:
    """Return an entry with its span in characters of the text instead of bytes of the file."""
    if entry.start is None or entry.end is None:
        raise ChangeRefused(f"{file.path}: key {entry.key}: its value cannot be edited in place")
    encoding, shift = encoding_of(data), 3 if data.startswith(_BOM) else 0
    start = len(data[shift : entry.start].decode(encoding))
    return entry._replace(start=start, end=start + len(data[entry.start : entry.end].decode(encoding)))


def insert_word(
    data: bytes, file: ConfigFile, holder: Entry, word: str, after: str | None, before: str | None
) -> bytes:
    """Return the file with a flag added to a string: after a word of it, or before one, or at its end."""
    refuse_shared(file, holder)
    spot = _in_characters(data, file, holder)
    return _on_text(data, file, lambda text: _with_word(text, file, spot, word, after, before))


def _with_word(text: str, file: ConfigFile, holder: Entry, word: str, after: str | None, before: str | None) -> str:
    written = inside(holder, word)
    words = list(re.finditer(r"\S+", holder.value))
    if written is None or not words:
        raise ChangeRefused(f"{file.path}: key {holder.key}: no place for {word} in its value")
    following = next((w for w in words if w.group() == before), None)
    if after is None and following is not None:
        start = _word_span(text, file, holder, following.span())[0]
        return f"{text[:start]}{written} {text[start:]}"
    place = next((w for w in reversed(words) if w.group() == after), words[-1])
    span = _word_span(text, file, holder, place.span())
    return f"{text[: span[1]]} {written}{text[span[1] :]}"


def _on_text(data: bytes, file: ConfigFile, edit: Callable[[str], str]) -> bytes:
    """Apply an edit of text to bytes; byte order mark and encoding stay."""
    text = decode(data, file.path)
    mark = _BOM if data.startswith(_BOM) else b""
    return mark + edit(text).encode(encoding_of(data))
