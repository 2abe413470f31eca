"""The resource in trouble over time, in braille dots: use, what stays of it, its limit, the change, errors and restarts.

Takes numbers and instants, knows no diagnosis. A chart that cannot be drawn honestly (nothing measured) is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.text import Text

from advisor.terminal import safe
from advisor.values import format_bytes, format_number, format_seconds

Array = npt.NDArray[np.float64]

ROWS = 9  # of text; four dots each, enough to see a sawtooth and short enough to stay on the screen
LABEL = 10  # columns left of the axis: "1,023 MiB" and a blank
LEAD = 0.7  # of the time from change to trouble is shown before the change: what was normal
TAIL = 0.5  # and after the trouble
GAP_STEPS = 4  # a longer silence is a gap, not a line
LIMIT_RATIO_MAX = 3.0  # a limit further above the highest use would press the curve flat onto the axis
# Bits of a braille cell by column and row of its dots (Unicode, Braille Patterns).
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


@dataclass(frozen=True)
class Mark:
    """Something that happened at an instant (epoch seconds)."""

    at: float
    label: str = ""


@dataclass(frozen=True)
class Curve:
    """What a chart is drawn of.

    Attributes:
        title: What is measured, such as ``heap``.
        times: Epoch seconds, increasing; ``step`` apart.
        used: On that grid, NaN where nothing was sampled. ``floor`` is what stays after collections, ``ceiling`` the limit.
        is_bytes: Whether values are sizes; else they are counts.
        change: What is held responsible.
        errors: Out-of-memory errors, kills and crashes. ``restarts``: process starts.
        trouble_at: The first hard sign of trouble; None draws all of it in one colour.
    """

    title: str
    times: Array
    step: float
    used: Array
    floor: Array
    ceiling: Array
    is_bytes: bool = True
    change: Mark | None = None
    errors: tuple[Mark, ...] = ()
    restarts: tuple[Mark, ...] = ()
    trouble_at: float | None = None


@dataclass
class _Canvas:
    """Cells of dots with one style each; a higher layer takes the cell's style."""

    columns: int
    rows: int
    bits: dict[tuple[int, int], int] = field(default_factory=dict)
    styles: dict[tuple[int, int], str] = field(default_factory=dict)
    letters: dict[tuple[int, int], str] = field(default_factory=dict)

    def dot(self, x: int, y: int, style: str) -> None:
        """Set a dot; (0, 0) is the lower left one."""
        if not (0 <= x < self.columns * 2 and 0 <= y < self.rows * 4):
            return
        cell = (x // 2, self.rows - 1 - y // 4)
        self.bits[cell] = self.bits.get(cell, 0) | _BITS[x % 2][3 - y % 4]
        self.styles[cell] = style

    def letter(self, column: int, row: int, sign: str, style: str, over: bool = False) -> None:
        """Write a sign into a cell: into an empty one only, or over what is there."""
        cell = (column, row)
        if (
            0 <= column < self.columns
            and 0 <= row < self.rows
            and (over or (cell not in self.bits and cell not in self.letters))
        ):
            self.letters[cell] = sign
            self.styles[cell] = style

    def line(self, row: int) -> Text:
        """Return one row."""
        drawn = Text()
        for column in range(self.columns):
            cell = (column, row)
            sign = self.letters.get(cell) or (chr(0x2800 + self.bits[cell]) if cell in self.bits else " ")
            drawn.append(sign, style=self.styles.get(cell, ""))
        return drawn


def draw_chart(curve: Curve, width: int) -> RenderableType | None:
    """Return the chart, ``width`` columns wide; None where nothing was measured."""
    columns = width - LABEL - 1
    known = np.isfinite(curve.used)
    if columns < 20 or np.count_nonzero(known) < 3:
        return None
    begin, end = _window(curve)
    inside = known & (curve.times >= begin) & (curve.times <= end)
    if np.count_nonzero(inside) < 3:
        return None
    peak = float(np.max(curve.used[inside]))
    limits = curve.ceiling[np.isfinite(curve.ceiling) & (curve.times >= begin) & (curve.times <= end)]
    limit = float(limits[-1]) if limits.size else None
    limit_fits = limit is not None and float(np.max(limits)) <= LIMIT_RATIO_MAX * max(peak, 1e-9)
    top = max(peak, float(np.max(limits)) if limit_fits else 0.0) * 1.06 or 1.0
    place = _Place(begin, end, top, columns)
    canvas = _Canvas(columns, ROWS)
    change_at = curve.change.at if curve.change else None
    _plot(canvas, place, curve, curve.used, lambda _t: "cyan")
    _plot(canvas, place, curve, curve.floor, lambda t: _floor_style(t, change_at, curve.trouble_at))
    if limit_fits:
        _draw_limit(canvas, place, curve)
    if change_at is not None and begin <= change_at <= end:
        for row in range(ROWS):
            canvas.letter(place.column(change_at), row, "│", "bold magenta", over=True)
    lines: list[Text] = [_legend(curve, limit, limit_fits)]
    if curve.change is not None:
        lines.append(_change_line(curve.change, place))
    labels = _labels(peak, limit if limit_fits else None, place, curve.is_bytes)
    for row in range(ROWS):
        lines.append(
            Text.assemble(
                (labels.get(row, "").rjust(LABEL - 1) + " ", "dim"),
                ("┤" if row in labels else "│", "dim"),
                canvas.line(row),
            )
        )
    lines.append(Text(" " * LABEL + "└" + "─" * columns, style="dim"))
    events = _events_line(curve, place)
    if events is not None:
        lines.append(events)
    lines.append(_axis_line(begin, end, columns))
    for line in lines:
        line.no_wrap = True
        line.truncate(width)
        line.rstrip()
    return Group(*lines)


@dataclass(frozen=True)
class _Place:
    """Where an instant and a value lie."""

    begin: float
    end: float
    top: float
    columns: int

    def x(self, at: float) -> int:
        return round((at - self.begin) / max(self.end - self.begin, 1e-9) * (self.columns * 2 - 1))

    def column(self, at: float) -> int:
        return self.x(at) // 2

    def y(self, value: float) -> int:
        return round(value / self.top * (ROWS * 4 - 1))

    def row(self, value: float) -> int:
        return ROWS - 1 - self.y(value) // 4


def _window(curve: Curve) -> tuple[float, float]:
    """Return what is shown: the time from the change to the trouble with some of what was before and after."""
    first, last = float(curve.times[0]), float(curve.times[-1])
    if curve.trouble_at is None:
        return first, last
    start = curve.trouble_at - max(60 * curve.step, 0.2 * (last - first))
    if curve.change is not None and first <= curve.change.at < curve.trouble_at:
        start = curve.change.at
    span = max(curve.trouble_at - start, 20 * curve.step)
    return max(first, start - LEAD * span), min(last, curve.trouble_at + TAIL * span)


def _plot(canvas: _Canvas, place: _Place, curve: Curve, values: Array, style: Callable[[float], str]) -> None:
    chosen = np.flatnonzero(np.isfinite(values) & (curve.times >= place.begin) & (curve.times <= place.end))
    starts = [mark.at for mark in curve.restarts]
    for i, j in pairwise(chosen):
        a, b = float(curve.times[i]), float(curve.times[j])
        if b - a > GAP_STEPS * curve.step or any(a < s <= b for s in starts):
            continue  # silence, or another process: no line leads across
        _segment(canvas, (place.x(a), place.y(float(values[i]))), (place.x(b), place.y(float(values[j]))), style(b))
    for i in chosen:
        canvas.dot(place.x(float(curve.times[i])), place.y(float(values[i])), style(float(curve.times[i])))


def _segment(canvas: _Canvas, a: tuple[int, int], b: tuple[int, int], style: str) -> None:
    steps = max(abs(b[0] - a[0]), abs(b[1] - a[1]), 1)
    for n in range(steps + 1):
        canvas.dot(round(a[0] + (b[0] - a[0]) * n / steps), round(a[1] + (b[1] - a[1]) * n / steps), style)


def _floor_style(at: float, change_at: float | None, trouble_at: float | None) -> str:
    if trouble_at is None:
        return "bold green"
    if change_at is None:
        return "bold yellow"
    return "bold red" if at >= change_at else "bold green"


def _draw_limit(canvas: _Canvas, place: _Place, curve: Curve) -> None:
    for i in np.flatnonzero(np.isfinite(curve.ceiling)):
        if place.begin <= curve.times[i] <= place.end:
            canvas.letter(place.column(float(curve.times[i])), place.row(float(curve.ceiling[i])), "╌", "red")
    seen = [column for column, row in canvas.letters if canvas.letters[column, row] == "╌"]
    for column in range(min(seen, default=0), max(seen, default=-1)):  # columns between two samples
        left = max((c for c in seen if c <= column), default=column)
        row = next((r for c, r in canvas.letters if c == left and canvas.letters[c, r] == "╌"), None)
        if row is not None:
            canvas.letter(column, row, "╌", "red")


def _number(value: float, is_bytes: bool) -> str:
    return format_bytes(value) if is_bytes else format_number(value)


def _labels(peak: float, limit: float | None, place: _Place, is_bytes: bool) -> dict[int, str]:
    labels = {ROWS - 1: "0"}
    if limit is not None:
        labels[place.row(limit)] = _number(limit, is_bytes)
    if all(abs(row - place.row(peak)) >= 2 for row in labels):
        labels[place.row(peak)] = _number(peak, is_bytes)
    return labels


def _legend(curve: Curve, limit: float | None, limit_fits: bool) -> Text:
    legend = Text.assemble((safe(curve.title, 40), "bold underline"), "   ", ("⠒⠒", "cyan"), " in use   ")
    if not np.array_equal(curve.floor, curve.used, equal_nan=True):
        legend.append(
            "⠒⠒", style=_floor_style(float("inf"), curve.change.at if curve.change else None, curve.trouble_at)
        )
        legend.append(" left after collections   ")
    if limit is not None:
        legend.append("╌╌", style="red")
        legend.append(" limit" if limit_fits else f" limit {_number(limit, curve.is_bytes)}, above the picture")
    return legend


def _change_line(change: Mark, place: _Place) -> Text:
    label = safe(change.label, 80)
    indent = " " * (LABEL + 1)
    if change.at < place.begin:
        return Text.assemble(
            indent,
            ("◂ ", "bold magenta"),
            (f"{label}, {format_seconds(place.begin - change.at)} before the picture", "magenta"),
        )
    if change.at > place.end:
        return Text.assemble(indent, (f"{label}, after the picture ▸".rjust(place.columns), "magenta"))
    column = place.column(change.at)
    if column + len(label) + 2 <= place.columns:
        return Text.assemble(indent, " " * column, ("▼ ", "bold magenta"), (label, "magenta"))
    return Text.assemble(indent, (label.rjust(max(0, column - 1)), "magenta"), (" ▼", "bold magenta"))


def _events_line(curve: Curve, place: _Place) -> Text | None:
    signs: dict[int, tuple[str, str]] = {}
    for marks, sign, style in ((curve.restarts, "↻", "yellow"), (curve.errors, "✗", "bold red")):
        for mark in marks:  # errors last: where both fall into one column the error is what matters
            if place.begin <= mark.at <= place.end:
                signs[place.column(mark.at)] = (sign, style)
    if not signs:
        return None
    line = Text(" " * (LABEL + 1))
    for column in range(place.columns):
        sign, style = signs.get(column, (" ", ""))
        line.append(sign, style=style)
    last = max(signs)
    words = [
        name
        for sign, name in (("✗", next((m.label for m in curve.errors if m.label), "out of memory")), ("↻", "restart"))
        if any(s == sign for s, _ in signs.values())
    ]
    keys = {"restart": "↻ restart"}
    told = "  ".join(keys.get(w, f"✗ {safe(w, 40)}") for w in words)
    if last + 3 + len(told) <= place.columns:
        line.truncate(LABEL + 1 + last + 1)
        line.append("  " + told, style="dim")
    else:
        first = min(signs)
        if len(told) + 2 <= first:
            line = Text.assemble(" " * (LABEL + 1), (told.rjust(first - 2), "dim"), "  ", line[LABEL + 1 + first :])
    return line


def _axis_line(begin: float, end: float, columns: int) -> Text:
    pattern = "%H:%M:%S" if end - begin < 7200 else "%H:%M" if end - begin < 86400 else "%d %b %H:%M"
    left, right = (datetime.fromtimestamp(at, UTC).strftime(pattern) for at in (begin, end))
    return Text(" " * (LABEL + 1) + left + f"{right} UTC".rjust(max(0, columns - len(left))), style="dim")
