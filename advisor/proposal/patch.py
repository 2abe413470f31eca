"""A patch, read and shown: which files it touches and how, and the text of it that a person approves.

Git's own patch format, whole (`--full-index --no-renames`). What is shown is never what is bound:
the digest of a proposal covers the patch's bytes, this text is for eyes. Hence the rule of showing: every
byte of the patch is there to be seen, nothing that a terminal or a browser would hide, reorder or confuse
passes as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

from advisor.errors import ChangeRefused
from advisor.values import Record

# Letters and signs that draw nothing although Unicode does not class them as format characters.
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5")
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_ESCAPES = {b"a": 7, b"b": 8, b"t": 9, b"n": 10, b"v": 11, b"f": 12, b"r": 13, b'"': 34, b"\\": 92}


class PatchFile(Record):
    """One file of a patch.

    Attributes:
        path: Where it stands; the bytes of the name read as UTF-8, invalid ones kept as lone surrogates.
        status: ``added``, ``modified`` or ``deleted``.
        old_mode: Octal text such as ``100644``; empty for an added file.
        new_mode: The same; empty for a deleted file.
        binary: True if git would not show it as text.
        lines: Lines added and removed.
    """

    path: str
    status: str
    old_mode: str = ""
    new_mode: str = ""
    binary: bool = False
    lines: int = 0


def parse_patch(patch: bytes) -> tuple[PatchFile, ...]:
    """Return the files of a patch, in its order.

    Raises:
        ChangeRefused: It is not a patch in git's format: then nobody can say what it would do.
    """
    files: list[PatchFile] = []
    lines = iter(patch.split(b"\n"))
    for line in lines:
        if line.startswith(b"diff --git "):
            files.append(PatchFile(path=_header_path(line), status="modified"))
        elif not files:
            if line:
                raise ChangeRefused(f"patch: {line[:80]!r} where 'diff --git' was expected")
        elif hunk := _HUNK.match(line):
            files[-1] = _with(files[-1], lines=files[-1].lines + _skip_hunk(lines, hunk, files[-1].path))
        else:
            files[-1] = _read_header(files[-1], line)
    return tuple(files)


def render_diff(patch: bytes, redact: Callable[[str], str] | None = None) -> str:
    r"""Return a patch as text in which nothing is hidden.

    Any bytes give a text with exactly as many lines. Bytes that are not UTF-8 stand as ``⟨0xFF⟩``; control,
    format and bidirectional characters, unusual spaces, combining marks, fillers, letters that only look
    Latin inside a Latin word, and trailing blanks stand as ``⟨U+202E⟩``. The brackets themselves are shown
    so too, so that a file cannot contain a forged mark. Without ``redact`` two different patches never give
    the same text.

    Args:
        patch: Bytes of the patch.
        redact: Hides secrets for display only; where it changes the number of lines, smaller parts are redacted.
    """
    raw = patch.split(b"\n")
    lines = [line.decode("utf-8", "surrogateescape") for line in raw]
    if redact is not None:
        lines = _redacted(lines, redact)
    return "\n".join(_show_line(line) for line in lines)


def read_rendered(shown: str) -> bytes:
    """Return the patch that a text was rendered from without redaction: what was seen, as bytes again.

    Raises:
        ChangeRefused: A mark in it stands for nothing: it was not made by `render_diff`.
    """
    out = bytearray()
    at = 0
    for mark in _MARK.finditer(shown):
        out += _encoded(shown[at : mark.start()])
        at = mark.end()
        number = int(mark[1] or mark[2], 16)
        if mark[1]:
            out.append(number)
        elif number < 0x110000 and not 0xD800 <= number < 0xE000:
            out += chr(number).encode()
        else:
            raise ChangeRefused(f"rendered patch: {mark[0]} is no character")
    return bytes(out + _encoded(shown[at:]))


_MARK = re.compile("⟨(?:0x([0-9A-F]{2})|U\\+([0-9A-F]{4,6}))⟩")


def _encoded(text: str) -> bytes:
    if "⟨" in text or "⟩" in text:
        raise ChangeRefused("rendered patch: a bracket that is part of no mark")
    return text.encode()


def _redacted(lines: list[str], redact: Callable[[str], str]) -> list[str]:
    whole = redact("\n".join(lines)).split("\n")
    if len(whole) == len(lines):
        return whole
    if len(lines) == 1:
        return [" ".join(whole)]
    half = len(lines) // 2
    return _redacted(lines[:half], redact) + _redacted(lines[half:], redact)


def has_odd_characters(rendered: str) -> bool:
    """Return whether a rendered patch carries marks: something in it would not have been seen."""
    return "⟨" in rendered


def _show_line(line: str) -> str:
    if line.isascii() and line.isprintable() and not line[1:].endswith(" "):  # nearly every line; patches are long
        return line
    body = line.rstrip(" ")
    trailing = len(line) - len(body)
    if line[:1] == " " and not body:
        body, trailing = " ", trailing - 1  # the context mark of an empty line
    mixed = _lookalikes(body)
    shown = "".join(c if _plain(c) and i not in mixed else _mark(c) for i, c in enumerate(body))
    return shown + "⟨U+0020⟩" * trailing


@lru_cache(maxsize=4096)  # a file of odd characters has few different ones, a million times
def _plain(c: str) -> bool:
    if " " <= c <= "~":
        return True
    if c in _INVISIBLE or c in "⟨⟩" or unicodedata.category(c)[0] in "CZM":
        return False
    # A compatibility character (full width, ligature, mathematical letter) draws like another one.
    return unicodedata.normalize("NFKC", c) == c


def _lookalikes(text: str) -> frozenset[int]:
    # In a word with an ASCII letter, a letter of another alphabet (a Cyrillic a, a Greek o) is there to
    # deceive; Latin letters with accents are not.
    found: set[int] = set()
    for word in re.finditer(r"\w+", text) if not text.isascii() else ():
        letters = [i for i in range(*word.span()) if text[i].isalpha() and not text[i].isascii()]
        if len(letters) < len(word.group()) and re.search("[A-Za-z]", word.group()):
            found.update(i for i in letters if not unicodedata.name(text[i], "").startswith("LATIN"))
    return frozenset(found)


@lru_cache(maxsize=4096)
def _mark(c: str) -> str:
    code = ord(c)
    # A lone surrogate here is a byte that did not decode (PEP 383).
    return f"⟨0x{code - 0xDC00:02X}⟩" if 0xDC80 <= code <= 0xDCFF else f"⟨U+{code:04X}⟩"


def _skip_hunk(lines: Iterator[bytes], hunk: re.Match[bytes], path: str) -> int:
    # Counted, not guessed: a removed line "-- x" looks like a header "--- x".
    old, new = int(hunk[1] or b"1"), int(hunk[2] or b"1")
    touched = 0
    while old > 0 or new > 0:
        line = next(lines, None)
        sign = line[:1] if line is not None else b""
        if sign not in (b" ", b"-", b"+", b"\\"):
            raise ChangeRefused(f"patch: a hunk of {path} ends too early")
        old -= sign in (b" ", b"-")
        new -= sign in (b" ", b"+")
        touched += sign in (b"-", b"+")
    return touched


def _read_header(file: PatchFile, line: bytes) -> PatchFile:
    word, _, value = line.decode("utf-8", "surrogateescape").rpartition(" ")
    match word:
        case "old mode":
            return _with(file, old_mode=value)
        case "new mode":
            return _with(file, new_mode=value)
        case "new file mode":
            return _with(file, status="added", new_mode=value)
        case "deleted file mode":
            return _with(file, status="deleted", old_mode=value)
    if line.startswith(b"index ") and line.count(b" ") == 2:
        return _with(file, old_mode=value, new_mode=value)
    if line.startswith((b"GIT binary patch", b"Binary files ")):
        return _with(file, binary=True)
    if line.startswith((b"rename ", b"copy ", b"similarity ")):
        raise ChangeRefused(f"patch: {file.path} is shown as a rename; the whole content is wanted")
    return file


def _with(file: PatchFile, **fields: object) -> PatchFile:
    return PatchFile.model_validate({**file.model_dump(), **fields})


def _header_path(line: bytes) -> str:
    # Without renames both names are the same, so the middle is where the second begins.
    rest = line.removeprefix(b"diff --git ")
    half = (len(rest) - 1) // 2
    old, new = rest[:half], rest[half + 1 :]
    if old.startswith(b'"') and old.endswith(b'"') and new.endswith(b'"'):
        old, new = _unquote(old[1:-1]), _unquote(new[1:-1])
    if old[:2] != b"a/" or new[:2] != b"b/" or old[2:] != new[2:] or not old[2:]:
        raise ChangeRefused(f"patch: {line[:120]!r} does not name one file")
    return old[2:].decode("utf-8", "surrogateescape")


def _unquote(name: bytes) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        text = match[1]
        return bytes([_ESCAPES[text]]) if text in _ESCAPES else bytes([int(text, 8) & 0xFF])

    return re.sub(rb'\\([abtnvfr"\\]|[0-7]{3})', plain, name)
