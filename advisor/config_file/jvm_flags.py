"""JVM flags inside a string: ``-Xmx1g``, ``-XX:MaxRAMPercentage=75.0``, ``-XX:+UseG1GC``, ``-Dkey=value``.

Only flags of which the last one wins are read as keys. Flags that add up (``-javaagent:``, ``--add-opens``,
``-Xlog:``) and everything else stay in the residue, so that a difference there is still seen as a difference
of the whole string.

Source: the ``java`` command's manual, "Extra Options" and "Advanced Runtime Options".
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Atomic and possessive throughout: no backtracking, so linear in the length of the string.
_WORD = re.compile(r"""(?>[^\s"']++|"[^"]*+"|'[^']*+'|["'])++""")
_SIZE = re.compile(r"(-X(?:mx|ms|mn|ss))=?(.+)\Z", re.S)
_SWITCH = re.compile(r"-XX:([+-])([A-Za-z_]\w*+)\Z")
_OPTION = re.compile(r"(-XX:[A-Za-z_]\w*+)=(.*)\Z", re.S)
_PROPERTY = re.compile(r"(-D[A-Za-z_][\w.\-\[\]]*+)(?:=(.*))?\Z", re.S)
_STRONG = re.compile(r"""(?:^|[\s"'])-X(?:m[xsn]=?\d|ss=?\d|X:[+-]?[A-Za-z])""")
_JVM_NAME = re.compile(r"JAVA|JVM|JDK|_OPTS|CATALINA|[a-z]Opts\b")
_JAVA_COMMAND = re.compile(r"(?:^|[\s/\"'])java(?=[\s\"']|$)")


class Flag(NamedTuple):
    """A flag in a string: its key, its value, and where the value's characters are (None: it has none)."""

    key: str
    value: str
    start: int | None
    end: int | None
    style: str  # value, quoted, switch, bare
    word: tuple[int, int]


class Flags(NamedTuple):
    """The flags of a string in order, and the words that are none."""

    flags: tuple[Flag, ...]
    residue: tuple[str, ...]


def find_flags(text: str, key: str = "", java: bool = False) -> Flags:
    """Return the flags of a string.

    ``-D`` alone is also an option of compilers and build tools: it counts only where the key's name, the
    ``java`` command or another flag says that a JVM reads the string.

    Args:
        text: The decoded string.
        key: Path of the value, of which a name such as ``JAVA_OPTS`` is recognised.
        java: The caller knows that a JVM reads the string.
    """
    if "-X" not in text and "-D" not in text:
        return Flags((), ())
    if not java and not _STRONG.search(text) and not _JVM_NAME.search(key) and not _JAVA_COMMAND.search(text):
        return Flags((), ())
    flags: list[Flag] = []
    residue: list[str] = []
    for match in _WORD.finditer(text):
        flag = _flag(match.group(), match.start())
        if flag is None:
            residue.append(match.group())
        else:
            flags.append(flag)
    return Flags(tuple(flags), tuple(residue)) if flags else Flags((), ())


def _flag(word: str, at: int) -> Flag | None:
    whole = (at, at + len(word))
    if len(word) > 2 and word[0] in "\"'" and word[-1] == word[0]:
        word, at = word[1:-1], at + 1
    if not word.startswith(("-X", "-D")):
        return None
    if match := _SWITCH.match(word):
        value = "true" if match[1] == "+" else "false"
        return Flag(f"-XX:+{match[2]}", value, at + match.start(1), at + match.end(1), "switch", whole)
    match = _OPTION.match(word) or _SIZE.match(word) or _PROPERTY.match(word)
    if match is None:
        return None
    value = match[2]
    if value is None:
        return Flag(match[1], "", None, None, "bare", whole)
    start, end, style = at + match.start(2), at + match.end(2), "value"
    if len(value) >= 2 and value[0] in "\"'" and value.find(value[0], 1) == len(value) - 1:
        value, start, end, style = value[1:-1], start + 1, end - 1, "quoted"
    return Flag(match[1], value, start, end, style, whole)


def write_flag(style: str, value: str) -> str | None:
    """Return the characters that give a flag a value, or None where no spelling of this style does."""
    if not value.isprintable():
        return None
    if style == "switch":
        return {"true": "+", "false": "-"}.get(value)
    if style == "value":
        return value if value and not re.search(r"[\s\"']", value) else None
    if style == "quoted":
        return value if not re.search(r"[\"']", value) else None
    return None
