"""A rendered diff in colour. The text comes from the proposal, where hidden characters were already made visible."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from advisor.terminal import safe

CONTINUED = "↪"  # before the rest of a long line: it must never pass for a line of its own, such as "-  timeout: 30m"
_MARK = re.compile(r"⟨(?:U\+[0-9A-F]{4,6}|0x[0-9A-F]{2})⟩")


@dataclass(frozen=True)
class Diff:
    """A diff line by line: removed red, added green, headers dim; marks of odd characters stand out.

    Attributes:
        diff: As `render_diff` gives it.
        brief: Leave out git's bookkeeping (object ids, the line naming both sides); never for somebody who is to approve.
    """

    diff: str
    brief: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines, long ones folded at the width."""
        header = True
        for line in self.diff.rstrip("\n").split("\n"):
            if line.startswith("diff --git "):
                header = True
            elif line.startswith("@@"):
                header = False
            if self.brief and header and line.startswith(("diff --git ", "index ")):
                continue
            yield from _folded(_coloured(line, header), options.max_width)


def _coloured(line: str, header: bool) -> Text:
    style = "dim" if header else {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
    shown = Text(style=style)
    end = 0
    for mark in _MARK.finditer(line):  # marks are the renderer's own and stay; all between them is made safe again
        shown.append(safe(line[end : mark.start()], len(line) + 1))
        shown.append(mark.group(), style="bold black on yellow")
        end = mark.end()
    shown.append(safe(line[end:], len(line) + 1))
    return shown


def _folded(line: Text, width: int) -> Iterator[Text]:
    first = True
    rest = line
    while True:
        room = width if first else width - 2
        cut = _fitting(rest.plain, room)
        head, rest = (rest, Text()) if cut >= len(rest.plain) else tuple(rest.divide([cut]))
        whole = head if first else Text.assemble((f"{CONTINUED} ", "bold cyan"), head)
        whole.no_wrap, whole.overflow = True, "ignore"
        yield whole
        if not rest.plain:
            return
        first = False


def _fitting(line: str, room: int) -> int:
    """Return how many characters fit into some columns; at least one, so that folding ends."""
    if cell_len(line) <= room:
        return len(line)
    used = 0
    for at, character in enumerate(line):
        used += cell_len(character)
        if used > room:
            return max(1, at)
    return len(line)
