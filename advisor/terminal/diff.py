"""A rendered diff in colour. The text comes from the proposal, where hidden characters were already made visible."""

from __future__ import annotations

import re

from rich.text import Text

from advisor.terminal import safe

_MARK = re.compile(r"⟨(?:U\+[0-9A-F]{4,6}|0x[0-9A-F]{2})⟩")


def diff_lines(diff: str, brief: bool = False) -> Text:
    """Return a diff line by line: removed red, added green, headers dim; marks of odd characters stand out.

    Args:
        diff: As `render_diff` gives it.
        brief: Leave out git's bookkeeping (object ids, the line naming both sides); never for somebody who is to approve.
    """
    drawn = Text(no_wrap=False, overflow="fold")
    header = True
    for line in diff.rstrip("\n").split("\n"):
        if line.startswith("diff --git "):
            header = True
        elif line.startswith("@@"):
            header = False
        if brief and header and line.startswith(("diff --git ", "index ")):
            continue
        if drawn:
            drawn.append("\n")
        drawn.append_text(_coloured(line, header))
    return drawn


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
