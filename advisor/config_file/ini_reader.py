"""INI files to entries: ``[section]`` and ``key = value``, as MySQL, PHP, PostgreSQL, PgBouncer and Python write them.

The dialects differ in what a comment is, whether a line goes on below, and what a repeated key means; the file's
name tells them apart. Where nobody can tell which of two values counts, there is no value of that name: a repeated
key becomes a list. Nothing is interpolated. Called by `reading`.

Source: MySQL reference manual, "Using Option Files"; PostgreSQL documentation, "Setting Parameters"; PHP manual,
``parse_ini_file``; PgBouncer ``config.md``; Python library reference, ``configparser``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from advisor.config_file.line_readers import Collected, Lines, Region
from advisor.config_file.records import ENTRIES_MAX, Entry, Unreadable, child_key, item_part

_SKIPPED = re.compile(r"(?:[ \t\f]*+(?:[#;][^\r\n]*+)?(?:\r\n|\r|\n))*+")
_SKIPPED_HASH = re.compile(r"(?:[ \t\f]*+(?:#[^\r\n]*+)?(?:\r\n|\r|\n))*+")
_LINE = re.compile(r"([ \t\f]*+)([^\r\n]*+)(\r\n|\r|\n|\Z)")
_SECTION = re.compile(r"\[([^\r\n\[\]]*+(?:\[[^\r\n\[\]]*+\][^\r\n\[\]]*+)*+)\][ \t]*+(?:[#;].*)?\Z")
_NAME = re.compile(r"[^\s=:#;\[\]\"'<>{}][^=:\"'<>{}]*+")
_EQUALS = re.compile(r"=")
_EQUALS_OR_COLON = re.compile(r"=|:(?=[ \t]|\Z)")
_SPACE = re.compile(r"@?[A-Za-z_][\w.\-]*+(?=[ \t])")  # Fluent Bit: `Name value`
_BLANK = re.compile(r"[ \t\f]*+")
_OPTIONAL = re.compile(r"[A-Za-z_][\w.]*+(?:[ \t]*+=|(?=[ \t]))")  # PostgreSQL: `name value` is one too
_BARE = re.compile(r"-{0,2}[A-Za-z_][\w.\-]*+[ \t]*+(?:[ \t][#;].*)?\Z|![A-Za-z]++[ \t].*\Z")
_QUOTED = re.compile(r"'(?>[^'\\\r\n]++|\\.|'')*+'|\"(?>[^\"\\\r\n]++|\\.)*+\"")
_WORD_PAIR = re.compile(r"([A-Za-z_][\w.\-]*+)=([^\s'\"=]*+)(?=\s|\Z)")
_PLAIN_PATH = re.compile(r"[\w\-/@*+$%&!]+(?:\.[\w\-/@*+$%&!]+)*(?:\[[\w.\-]+\])?")
_TITLED = re.compile(r"([\w\-]+)(?::|[ \t]+)[ \t]*\"?([^\"\s\[\]][^\"\[\]]*?)\"?\Z")
_TITLE_MAX = 300  # no section is called so; a long one would cost quadratic time
_CONNECTIONS = ("databases", "users", "peers")  # PgBouncer: each value is a row of name=value


class Dialect(NamedTuple):
    """How one program reads its file.

    Attributes:
        comments: What begins a comment at the start of a line.
        inline: Where a comment begins behind a value that is not quoted.
        continues: Whether a line that is indented deeper goes on with the value above.
        last_wins: Whether of a repeated key the last one counts, and repeated sections are one.
        separator: What ends the name.
    """

    comments: str
    inline: re.Pattern[str]
    continues: bool
    last_wins: bool
    separator: re.Pattern[str]


_HASH = re.compile(r"#")
_SEMICOLON = re.compile(r";")
_NEVER = re.compile(r"(?!)")
_SPACED = re.compile(r"[ \t][#;](?=[ \t#;]|\Z)")
_GENERIC = Dialect("#;", _SPACED, True, False, _EQUALS_OR_COLON)
_DIALECTS: tuple[tuple[re.Pattern[str], Dialect], ...] = (
    (re.compile(r"\.cnf\Z|^my\.ini\Z"), Dialect("#;", _HASH, False, True, _EQUALS)),
    (re.compile(r"^php[\w.-]*\.ini\Z"), Dialect("#;", _SEMICOLON, False, True, _EQUALS)),
    (re.compile(r"^(?:postgresql|recovery)[\w.-]*\.conf\Z"), Dialect("#", _HASH, False, True, _OPTIONAL)),
    (re.compile(r"^fluent-bit[\w.-]*\.conf\Z"), Dialect("#", _NEVER, False, False, _SPACE)),
    (re.compile(r"sysctl[\w.-]*\.conf\Z"), Dialect("#;", _SPACED, False, True, _EQUALS)),
)
_DIRECTIVE_LISTS = ("extension", "zend_extension")  # of php.ini: repeated to load more than one


def read_ini(text: str, file_name: str) -> Lines:
    """Return the entries of an INI text.

    Args:
        text: Without byte order mark.
        file_name: Tells the dialect; an unknown one is read as ``configparser`` would.

    Raises:
        Unreadable: A line is neither section, assignment nor flag, or a bound is passed.
    """
    dialect = next((d for pattern, d in _DIALECTS if pattern.search(file_name.lower())), _GENERIC)
    sections, statements = _statements(text, dialect)
    return _named(sections, statements, dialect)


class _Statement(NamedTuple):
    """One assignment: the number of its section, its name, its value and the characters of both."""

    section: int
    name: str
    value: str
    start: int | None
    end: int | None
    style: str
    region: Region


class _Section(NamedTuple):
    """One header, by its title and place."""

    title: str
    region: Region


def _statements(text: str, dialect: Dialect) -> tuple[list[_Section], list[_Statement]]:
    sections = [_Section("", (0, 0))]
    found: list[_Statement] = []
    at = _skip(text, 0, dialect)
    while at < len(text):
        line = _LINE.match(text, at)
        if line is None:
            break
        body = line[2].rstrip(" \t\f")
        end = line.end()
        if not body or body[0] in dialect.comments:
            at = _skip(text, end, dialect)
            continue
        header = _SECTION.match(body) if body[0] == "[" else None
        if header:
            sections.append(_Section(header[1].strip(), (at, end)))
        else:
            statement, end = _statement(text, line, body, len(sections) - 1, dialect)
            found.append(statement)
        if len(found) + len(sections) > ENTRIES_MAX:
            raise Unreadable(f"more than {ENTRIES_MAX} keys", at)
        at = _skip(text, end, dialect)
    return sections, found


def _skip(text: str, at: int, dialect: Dialect) -> int:
    """Return where the next line stands that is neither blank nor a comment."""
    match = (_SKIPPED if ";" in dialect.comments else _SKIPPED_HASH).match(text, at)
    return match.end() if match else at


def _statement(text: str, line: re.Match[str], body: str, section: int, dialect: Dialect) -> tuple[_Statement, int]:
    first, end = line.start(2), line.end()
    separated = _separated(body, dialect)
    if separated is None:
        if _BARE.match(body):
            comment = _SPACED.search(body)
            name = (body[: comment.start()] if comment else body).rstrip()
            return _Statement(section, name, "", None, None, "bare", (line.start(), end)), end
        raise Unreadable("not an INI line: neither [section] nor name = value", first)
    value, start, style = _value(body, separated[1], dialect)
    begin = first + start
    stop = begin + len(value) + (2 if style in ("single", "double") else 0)
    if dialect.continues:
        last = _continued(text, end, len(line[1]), value, dialect)
        if last > end:
            end = last
            raw_lines = text[begin:end].splitlines()
            parts = [p.strip() for p in raw_lines if p.strip() and p.strip()[0] not in dialect.comments]
            value, style = "\n".join(parts), "lines"
            stop = begin + len(text[begin:end].rstrip())
    return _Statement(section, separated[0], value, begin, stop, style, (line.start(), end)), end


def _separated(body: str, dialect: Dialect) -> tuple[str, int] | None:
    """Return the name of an assignment and where its value begins; None: it is none."""
    if dialect.separator in (_OPTIONAL, _SPACE):
        found = dialect.separator.match(body)
        name = found.group().rstrip("= \t") if found else ""
    else:
        found = dialect.separator.search(body)
        name = body[: found.start()].rstrip(" \t\f") if found else ""
    if found is None or not _NAME.fullmatch(name):
        return None
    blank = _BLANK.match(body, found.end())
    return name, blank.end() if blank else found.end()


def _value(body: str, at: int, dialect: Dialect) -> tuple[str, int, str]:
    """Return a value of one line, where its token begins, and its style."""
    quoted = _QUOTED.match(body, at)
    if quoted:
        rest = body[quoted.end() :].strip()
        if not rest or rest[0] in "#;":
            style = "single" if body[at] == "'" else "double"
            return quoted.group()[1:-1], at, style
    comment = dialect.inline.search(body, at)
    value = (body[at : comment.start()] if comment else body[at:]).rstrip(" \t\f")
    return value, at, "plain" if value else "empty"


def _continued(text: str, at: int, indentation: int, value: str, dialect: Dialect) -> int:
    """Return where the last line ends that goes on with a value: indented deeper, and no assignment of its own."""
    last = at
    open_ended = not value or value[-1] in ",\\([{"
    while True:
        at = _skip(text, at, dialect)
        line = _LINE.match(text, at)
        if line is None or not line[2] or len(line[1]) <= indentation:
            return last
        if not open_ended and _separated(line[2], dialect):
            return last
        at = last = line.end()


def _named(sections: list[_Section], statements: list[_Statement], dialect: Dialect) -> Lines:
    found = Collected()
    prefixes = _prefixes(sections, dialect)
    counts: dict[tuple[str, str], int] = {}
    for statement in statements:
        group = (prefixes[statement.section], statement.name)
        counts[group] = counts.get(group, 0) + 1
    seen: dict[tuple[str, str], int] = {}
    owners: dict[str, tuple[str, str]] = {}
    empty = {p for s, p in zip(sections, prefixes, strict=True) if s.title}
    for statement in statements:
        prefix = prefixes[statement.section]
        empty.discard(prefix)
        group = (prefix, statement.name)
        key = _key(prefix, statement.name)
        listed = statement.name.endswith("[]") or statement.name.lower() in _DIRECTIVE_LISTS
        if listed or (counts[group] > 1 and not dialect.last_wins):
            key = f"{_key(prefix, statement.name.removesuffix('[]'))}[{seen.get(group, 0)}]"
            seen[group] = seen.get(group, 0) + 1
        elif owners.setdefault(key, group) != group:  # [a] b.c and [a.b] c: two keys that a dot makes look alike
            key = child_key(prefix, statement.name)
        _add(found, statement, key, sections[statement.section].title)
    for section, prefix in zip(sections, prefixes, strict=True):
        if prefix in empty:
            empty.discard(prefix)
            found.add(Entry(0, prefix, "{}", None, None, "section", "ini"), section.region)
    return found.lines([""])


def _add(found: Collected, statement: _Statement, key: str, section: str) -> None:
    value, start = statement.value, statement.start
    if section in _CONNECTIONS and statement.style == "plain" and start is not None:
        words = list(_WORD_PAIR.finditer(value))
        if words and "".join(w.group() for w in words) == "".join(value.split()):
            for word in words:
                style = "word" if word[2] else "empty"
                span = (start + word.start(2), start + word.end(2))
                found.add(Entry(0, f"{key}.{word[1]}", word[2], *span, style, "ini"), None, statement.region[0])
            return
    found.add(Entry(0, key, value, start, statement.end, statement.style, "ini"), statement.region)


def _prefixes(sections: list[_Section], dialect: Dialect) -> list[str]:
    """Return the path of each section; the second of one title is another section where the program says so."""
    counts: dict[str, int] = {}
    prefixes = []
    for section in sections:
        prefix = _section_path(section.title)
        number = counts[prefix] = counts.get(prefix, -1) + 1
        prefixes.append(prefix if number == 0 or dialect.last_wins else f"{prefix}[{number}]")
    return prefixes


def _section_path(title: str) -> str:
    if not title or _PLAIN_PATH.fullmatch(title):
        return title
    titled = _TITLED.match(title) if len(title) <= _TITLE_MAX else None  # [program:web], [remote "origin"]
    return titled[1] + item_part(titled[2]) if titled else child_key("", title)


def _key(prefix: str, name: str) -> str:
    if _PLAIN_PATH.fullmatch(name):
        return f"{prefix}.{name}" if prefix else name
    return child_key(prefix, name)
