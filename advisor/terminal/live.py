"""Sources as they are read: one live line each on a terminal, one plain line each elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from advisor.terminal import make_console, safe, text
from advisor.values import format_seconds

Progress = Callable[[str, str], None]

_MARKS = {"done": ("✓", "green"), "failed": ("✗", "red")}


@contextmanager
def following(quiet: bool = False) -> Iterator[Progress]:
    """Show sources as they begin and end, on stderr; yields what the workflow calls.

    Args:
        quiet: Say nothing where stderr is not a terminal (a script that asked for JSON).
    """
    console = make_console(sys.stderr)
    if not console.is_terminal or console.is_dumb_terminal:
        yield (lambda _s, _t: None) if quiet else _tell_plainly
        return
    board = _Board()
    with Live(board, console=console, transient=True, refresh_per_second=12):
        yield board.tell


def _tell_plainly(source: str, state: str) -> None:
    if state != "reading":
        sys.stderr.write(f"{safe(source)}: {safe(state)}\n")


class _Board:
    """One line for each source, with a spinner until it ends."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._ended: dict[str, tuple[str, float]] = {}
        self._spinner = Spinner("dots", style="cyan")

    def tell(self, source: str, state: str) -> None:
        now = time.monotonic()
        self._began.setdefault(source, now)
        if state != "reading":
            self._ended[source] = (state, now - self._began[source])

    def __rich__(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        for source, began in self._began.items():
            state, seconds = self._ended.get(source, ("reading", time.monotonic() - began))
            mark, style = _MARKS.get(state, ("", "cyan"))
            sign: RenderableType = Text(mark, style=style) if mark else self._spinner
            grid.add_row(" ", sign, text(source), text(f"{state} {seconds:.1f} s", "dim"))
        return grid


def waiting(seconds: float, verdict: str, quiet: bool = False) -> None:
    """Wait, and show for how long yet."""
    console = make_console(sys.stderr)
    end = time.monotonic() + seconds
    if not console.is_terminal or console.is_dumb_terminal:
        if not quiet:
            sys.stderr.write(f"{safe(verdict)} so far; looking again in {format_seconds(seconds)}\n")
        time.sleep(seconds)
        return
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        while (left := end - time.monotonic()) > 0:
            live.update(text(f"{verdict} so far; looking again in {format_seconds(max(1.0, left))}", "dim"))
            time.sleep(min(1.0, left))
