"""What is printed on a terminal: consoles, and text of others made harmless. Decides nothing.

Everything drawn here goes through `safe`: log lines, commits and values of a configuration are other people's text, and a
terminal obeys control sequences wherever they come from. Rich's markup is never read in it either.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from typing import Any, TextIO, cast

from rich.console import Console
from rich.text import Text

WIDTH_MIN = 60
WIDTH_MAX = 160  # longer lines are not read, however wide the screen
# Draw nothing, or draw like nothing, although Unicode does not class them as format characters.
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5")
_BLANKS = re.compile(r" +(?=\n)")
_COMBINING_MAX = 2  # accents on one letter; more of them climb over the neighbouring lines


def safe(text: object, characters_max: int = 4000) -> str:
    """Return foreign text as one line in which nothing acts on a terminal or hides in it.

    Control, format and bidirectional characters, odd spaces, fillers and bytes that were not text stand as ``⟨U+202E⟩``;
    line breaks as ``⏎``. The brackets themselves are marked too, so a mark cannot be forged.
    """
    whole = str(text)
    cut = whole if len(whole) <= characters_max else whole[: characters_max - 1] + "…"
    if cut.isascii() and cut.isprintable():
        return cut
    shown: list[str] = []
    combining = 0
    for c in cut.replace("\r\n", "\n"):
        category = unicodedata.category(c)
        combining = combining + 1 if category[0] == "M" else 0
        if c == "\n":
            shown.append(" ⏎ ")
        elif c == "\t":
            shown.append("    ")
        elif (
            category[0] == "C"
            or (category[0] == "Z" and c != " ")
            or c in _INVISIBLE
            or c in "⟨⟩"
            or combining > _COMBINING_MAX
        ):
            shown.append(f"⟨U+{ord(c):04X}⟩")
        else:
            shown.append(c)
    return "".join(shown)


def text(content: object, style: str = "", characters_max: int = 4000) -> Text:
    """Return foreign text, safe and unstyled but for ``style``."""
    return Text(safe(content, characters_max), style=style)


class _Trimmed:
    """A stream that drops the blanks with which tables are filled up to the width: files and pipes have none."""

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner

    def write(self, content: str) -> int:
        return self._inner.write(_BLANKS.sub("", content))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def make_console(file: TextIO | None = None, record: bool = False, width: int | None = None) -> Console:
    """Return a console that reads no markup and keeps to a readable width.

    Args:
        file: Where to; standard output by default.
        record: Whether what is printed is kept, for `write_svg`.
        width: Columns; None asks the terminal.
    """
    stream = file or sys.stdout
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:  # a terminal that is not UTF-8 gets `\xd7` in place of an error
        reconfigure(errors="backslashreplace")
    console = Console(
        file=stream if stream.isatty() else cast(TextIO, _Trimmed(stream)),
        markup=False,
        emoji=False,
        highlight=False,
        record=record,
        # NO_COLOR asks for plain text; Rich alone would still send bold and dim.
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        width=width,
        soft_wrap=False,
    )
    if width is None:
        console.width = max(WIDTH_MIN, min(WIDTH_MAX, console.width))
    return console
