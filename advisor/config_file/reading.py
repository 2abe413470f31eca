"""From bytes to entries: the format of a file, what is nested inside values, spans in bytes."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from advisor.config_file.block_reader import read_blocks
from advisor.config_file.detecting import detect
from advisor.config_file.directive_reader import read_directives
from advisor.config_file.hcl_reader import read_hcl
from advisor.config_file.ini_reader import read_ini
from advisor.config_file.json_reader import read_json, string_map
from advisor.config_file.jvm_flags import find_flags
from advisor.config_file.line_readers import (
    Lines,
    Region,
    read_dockerfile,
    read_env,
    read_jvm_options,
    read_properties,
    unescape_property,
)
from advisor.config_file.records import (
    EMBEDDED_FILES_MAX,
    EMBEDDED_LEVELS_MAX,
    ENTRIES_MAX,
    FILE_BYTES_MAX,
    FLAGS_CHARACTERS_MAX,
    KEY_CHARACTERS_MAX,
    KEYS_CHARACTERS_MAX,
    NESTED_CHARACTERS_MAX,
    ConfigFile,
    Entry,
    Unreadable,
    malformed,
)
from advisor.config_file.source_map import SourceMap, project, yaml_scalar
from advisor.config_file.systemd_reader import read_systemd, unfold
from advisor.config_file.template_reader import TEMPLATE_SUFFIX, has_tags, read_masked, read_template
from advisor.config_file.toml_reader import read_toml
from advisor.config_file.xml_reader import read_xml, unescape
from advisor.config_file.yaml_reader import read_yaml
from advisor.errors import SourceMalformed

_KEPT_BYTES_MAX = 64 << 10  # 32 of these cost some 60 MB at the very most
_BOM = b"\xef\xbb\xbf"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_POSITION = re.compile(r"\[\d+\]\Z")
_SPRING_PROPERTIES = re.compile(r"(?:application|bootstrap)(?:-[\w.-]+)?\.properties\Z")


def read_entries(data: bytes, path: str) -> ConfigFile:
    """Return the keys of a configuration file with their values and byte spans.

    Args:
        data: The file as it is stored.
        path: Its path in the repository; the name decides the format, for unknown names the content.

    Raises:
        SourceMalformed: Not readable as its format, binary, a template, or beyond the bounds in `records`.
    """
    # One commit's "after" is the next one's "before", and every edit is read again: small files are kept.
    return _read_kept(bytes(data), path) if len(data) <= _KEPT_BYTES_MAX else _read(data, path)


@lru_cache(maxsize=32)
def _read_kept(data: bytes, path: str) -> ConfigFile:
    return _read(data, path)


def _read(data: bytes, path: str) -> ConfigFile:
    text = decode(data, path)
    try:
        name = detect(path, text)
        read = read_text(text, name, path.rsplit("/", 1)[-1])
        entries = _with_nested(read.entries, text, 0, _Budget())
        _check_unique(entries)
    except Unreadable as error:
        raise malformed(path, text, error) from error
    except RecursionError as error:  # bounded nesting should make this unreachable; a caller deep in a stack may not
        raise SourceMalformed(f"{path}: nested too deeply to be read") from error
    entries = _in_bytes(entries, data, text)
    return ConfigFile(path, read.format, tuple(entries), tuple(read.identities), read.regions)


def decode(data: bytes, path: str) -> str:
    """Return the text of a file without byte order mark.

    Raises:
        SourceMalformed: Too large, binary, or not in a known encoding.
    """
    if len(data) > FILE_BYTES_MAX:
        raise SourceMalformed(
            f"{path}: {len(data)} bytes, more than the {FILE_BYTES_MAX} read as configuration (1 MiB)"
        )
    body = data[3:] if data.startswith(_BOM) else data
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        # Properties files are ISO 8859-1 by definition; anything else that is no UTF-8 is no text we know.
        if not path.lower().endswith(".properties") or data.startswith((_BOM, b"\xff\xfe", b"\xfe\xff")):
            line = body.count(b"\n", 0, error.start) + 1
            raise SourceMalformed(f"{path}: line {line}: binary, or not encoded in UTF-8") from error
        text = body.decode("iso-8859-1")
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise SourceMalformed(f"{path}: line {line}: binary: control character {ord(control.group()):#04x}")
    return text


Regions = tuple[tuple[tuple[int, str], Region], ...]


class Reading(NamedTuple):
    """What a text gives: direct entries, what its documents are about, its statements, and its format."""

    entries: list[Entry]
    identities: list[str]
    regions: Regions
    format: str


def read_text(text: str, name: str, file_name: str) -> Reading:
    """Return the direct entries of a text in a format, with what else is known of it.

    Raises:
        Unreadable: It is not written so, or a bound is passed.
    """
    if name == "yaml":
        return _read_yaml(text, file_name)
    if name == "json":
        return Reading(read_json(text), [""], (), name)
    if name == "hcl":
        return Reading(read_hcl(text), [""], (), name)
    if name == "toml":
        entries, regions = read_toml(text)
        return Reading(entries, [""], tuple(regions.items()), name)
    if name == "text":
        return Reading([], [""], (), name)
    bare_name = TEMPLATE_SUFFIX.sub("", file_name.lower())
    if bare_name != file_name.lower() and has_tags(text):
        lines = read_masked(text, lambda masked: _read_lines(masked, name, bare_name))
        return Reading(lines.entries, lines.identities, (), "template")
    lines = _read_lines(text, name, bare_name)
    return Reading(lines.entries, lines.identities, tuple(lines.regions.items()), "env" if name == "shell" else name)


def _read_yaml(text: str, file_name: str) -> Reading:
    try:
        found = read_yaml(text, file_name.lower())
    except Unreadable as error:
        if not has_tags(text):
            raise
        try:
            lines = read_template(text)
        except Unreadable as why:
            raise Unreadable(f"{error.what}; {why.what}", error.index, error.line) from why
        if not lines.entries:
            raise
        return Reading(lines.entries, lines.identities, (), "template")
    return Reading(found.entries, found.identities, (), "yaml")


def _read_lines(text: str, name: str, file_name: str) -> Lines:
    if name == "properties":
        return read_properties(text, bool(_SPRING_PROPERTIES.search(file_name)))
    if name in ("env", "shell"):
        return read_env(text, strict=name == "env")
    if name == "jvm_options":
        return read_jvm_options(text)
    if name == "dockerfile":
        return read_dockerfile(text)
    if name == "ini":
        return read_ini(text, file_name)
    if name == "systemd":
        return read_systemd(text)
    if name == "xml":
        return read_xml(text)
    if name in ("nginx", "blocks"):
        return read_blocks(text, by_line=name == "blocks")
    return read_directives(text, name)


class _Budget:
    """How many characters may still be read a second time: aliases can name one large value often."""

    def __init__(self) -> None:
        self.characters = NESTED_CHARACTERS_MAX
        self.files = EMBEDDED_FILES_MAX
        self.keys = KEYS_CHARACTERS_MAX
        self.looks = NESTED_CHARACTERS_MAX  # to see whether a value without a file's name is one

    def spend(self, text: str, index: int | None) -> None:
        self.characters -= len(text)
        if self.characters < 0:
            raise Unreadable("too much text inside of values", index)

    def name(self, key: str, index: int | None) -> None:
        self.keys -= len(key)
        if self.keys < 0 or len(key) > KEY_CHARACTERS_MAX:
            raise Unreadable(f"keys too long ({len(key)} characters here)", index)


def _with_nested(entries: list[Entry], text: str, level: int, budget: _Budget) -> list[Entry]:
    """Return the entries with, after each, what is found inside its value: embedded files, JVM flags."""
    found: list[Entry] = []
    flags_at: dict[tuple[int, str], int] = {}
    shadowed: set[int] = set()
    for entry in entries:
        found.append(entry)
        value = entry.value
        if entry.format == "flag":
            continue
        if ("\n" in value or value[:1] == "{") and level < EMBEDDED_LEVELS_MAX and _may_hold_a_file(entry):
            inner = _embedded(entry, text, level, budget)
            if inner:
                found.extend(inner)
                value = ""
        if len(value) <= FLAGS_CHARACTERS_MAX and ("-X" in value or "-D" in value):
            for flag in _flags(entry, text, budget):
                earlier = flags_at.get(flag.identity)
                if earlier is not None:
                    shadowed.add(earlier)  # a JVM takes the last of a repeated flag
                flags_at[flag.identity] = len(found)
                found.append(flag)
        if len(found) > ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys, nested ones included", entry.start)
    return [e for i, e in enumerate(found) if i not in shadowed] if shadowed else found


def value_map(entry: Entry, text: str) -> SourceMap | None:
    """Return where the characters of an entry's value stand in the text; None: not known."""
    if entry.start is None or entry.end is None or entry.style == "alias":
        return None
    raw = text[entry.start : entry.end]
    if raw == entry.value:
        return entry.start
    if entry.format == "yaml":
        return yaml_scalar(text, entry.start, entry.end, entry.style, entry.value)
    if entry.format in ("json", "hcl"):
        return string_map(text, entry.start, entry.end, entry.value)
    if entry.format == "properties":
        value, source = unescape_property(raw, entry.start)
        return source if value == entry.value else None
    if entry.format == "systemd":
        value, source = unfold(raw, entry.start)
        return source if value == entry.value else None
    if entry.format == "xml" and entry.style in ("double", "single"):
        decoded = unescape(raw[1:-1], entry.start + 1)
        return decoded[1] if decoded is not None and decoded[0] == entry.value else None
    if entry.format == "xml":
        decoded = unescape(raw, entry.start)
        return decoded[1] if decoded is not None and decoded[0] == entry.value else None
    if len(raw) >= 2 and raw[1:-1] == entry.value:
        return entry.start + 1
    return None


def _span(source: SourceMap | None, start: int | None, end: int | None) -> tuple[int | None, int | None]:
    if source is None or start is None or end is None:
        return None, None
    return project(source, start, end) or (None, None)


def _flags(entry: Entry, text: str, budget: _Budget) -> list[Entry]:
    budget.spend(entry.value, entry.start)
    prefix = _POSITION.sub("", entry.key)  # flags of a list of arguments are keys of the list: position says nothing
    java = prefix != entry.key and entry.value[:2] in ("-X", "-D") and ("." in entry.value or "-X" in entry.value)
    flags = find_flags(entry.value, entry.key, java).flags
    if not flags:
        return []
    source = value_map(entry, text)
    nested = []
    for flag in flags:
        start, end = _span(source, flag.start, flag.end)
        key = f"{prefix}:{flag.key}"
        budget.name(key, entry.start)
        nested.append(
            Entry(
                entry.document,
                key,
                flag.value,
                start,
                end,
                flag.style,
                "flag",
                entry.scope,
                entry.key,
                entry.source,
            )
        )
    return nested


def embedded_name(key: str, text: str = "") -> str | None:
    """Return the file name that a key such as ``data["a.yaml"]`` ends in, if such a text is read by key."""
    name = _file_name(key)
    return name if "." in name and detect(name, text) not in ("text", "shell") else None


def _file_name(key: str) -> str:
    at = key.rfind('["')
    return key[at + 2 : -2] if at >= 0 and key.endswith('"]') else ""


_NAMED_LINE = re.compile(r"[A-Za-z_][\w.\-\[\]/]*[ \t]*=.*")
_YAML_LINE = re.compile(r"[ \t]*(?:- |(?:[A-Za-z_][\w.\-/]*|\"[^\"\n]*\"|'[^'\n]*'):(?:[ \t]|$)).*")


def _may_hold_a_file(entry: Entry) -> bool:
    """Return whether a value may be a file: its key names one, or it is a text of several lines in YAML."""
    return entry.key.endswith('"]') or (entry.format == "yaml" and "\n" in entry.value)


def _looks_like(key: str, value: str) -> str:
    """Return a name for the format that every line of a value is in; empty where it is prose or only one line.

    Lines such as ``a: b`` are prose as often as not, so they count only in a ConfigMap's data.
    """
    lines = [line for line in value.split("\n") if line.strip() and not line.lstrip().startswith(("#", "!"))]
    if len(lines) < 2 or len(lines) > 5000:
        return ""
    if all(_NAMED_LINE.fullmatch(line) for line in lines):
        return "embedded.properties"
    mapped = re.fullmatch(r"data\.[\w-]+", key) is not None and all(_YAML_LINE.fullmatch(line) for line in lines)
    return "embedded.yaml" if mapped else ""


def _embedded(entry: Entry, text: str, level: int, budget: _Budget) -> list[Entry]:
    """Return the keys of a file inside a value; nothing if it is not readable as what its name says."""
    if not _file_name(entry.key):
        budget.looks -= len(entry.value)  # an alias can name one long text thousands of times
        if budget.looks < 0:
            return []
    name = _file_name(entry.key) or _looks_like(entry.key, entry.value)
    if not _file_name(entry.key):
        if not name:
            return []
    elif embedded_name(entry.key) is None and not name.endswith((".conf", ".config")):
        return []
    budget.files -= 1
    if budget.files < 0:
        return []
    budget.spend(entry.value, entry.start)
    try:
        read = read_text(entry.value, detect(name, entry.value), name)
        inner = _with_nested(read.entries, entry.value, level + 1, budget)
    except Unreadable:
        return []  # the value stays whole: a broken file in a ConfigMap must not hide the rest
    source = value_map(entry, text)
    labels = _labels(read.identities)
    nested = []
    for found in inner:
        start, end = _span(source, found.start, found.end)
        prefix = entry.key + labels[found.document]
        key = _join(prefix, found.key)
        budget.name(key, entry.start)
        parent = _join(prefix, found.parent) if found.parent else entry.key
        nested.append(
            found._replace(
                document=entry.document,
                key=key,
                start=start,
                end=end,
                scope=entry.scope,
                parent=parent,
                source=entry.source,
            )
        )
    return nested


def _labels(identities: list[str]) -> list[str]:
    """Return what tells the documents of an embedded file apart.

    The first has no label; a later one has its profile, or else its number.
    """
    labels: list[str] = []
    for number, identity in enumerate(identities):
        label = "#" + identity.removeprefix("profile:") if identity.startswith("profile:") else f"#{number}"
        label = "" if number == 0 else label
        labels.append(label if label not in labels else f"#{number}")
    return labels


def _join(prefix: str, key: str) -> str:
    return prefix + key if key[:1] in ("[", ":") else f"{prefix}.{key}"


def _check_unique(entries: list[Entry]) -> None:
    seen: set[tuple[int, str]] = set()
    for entry in entries:
        identity = (entry[0], entry[1])
        if identity in seen:
            raise Unreadable(f"key {entry.key[:200]} is defined twice", entry.start)
        seen.add(identity)


def _in_bytes(entries: list[Entry], data: bytes, text: str) -> list[Entry]:
    """Return the entries with byte spans in place of character spans."""
    shift = 3 if data.startswith(_BOM) else 0
    if len(data) - shift == len(text):  # one byte for each character
        if not shift:
            return entries
        return [_moved(entry, lambda i: i + shift) for entry in entries]
    positions: list[int] = []
    extra = [shift]
    for match in _NOT_ASCII.finditer(text):
        positions.append(match.start())
        code = ord(match.group())
        extra.append(extra[-1] + (1 if code < 0x800 else 2 if code < 0x10000 else 3))
    return [_moved(entry, lambda i: i + extra[bisect_left(positions, i)]) for entry in entries]


def _moved(entry: Entry, at: Callable[[int], int]) -> Entry:
    if entry.start is None or entry.end is None:
        source = entry.source
        return entry if source is None else entry._replace(source=(at(source[0]), at(source[1])))
    moved = entry._replace(start=at(entry.start), end=at(entry.end))
    return moved if entry.source is None else moved._replace(source=(at(entry.source[0]), at(entry.source[1])))
