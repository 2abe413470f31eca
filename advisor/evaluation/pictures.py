"""The pictures of an evaluation, by matplotlib, which is imported here and only when a report is wanted.

Figures are drawn without pyplot: no window, no global state, the same bytes for the same figures.
"""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from advisor.evaluation.evaluate import Evaluation
from advisor.evaluation.figures import Figures
from advisor.evaluation.statistics import Share
from advisor.evaluation.words import in_percent, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 130
CLASSES_MAX = 40  # more rows than that are a wall; the page's table has all
LABEL_CHARACTERS_MAX = 28
TABLE_CHARACTERS_MAX = 22  # its first column is a fifth of the sheet
_BLUE, _ORANGE, _GREY, _GREEN = "#2f6db3", "#c8642b", "#8a8f98", "#4d8f58"
_STYLE: Any = {  # matplotlib types its settings by a list of names that differs by version
    "text.parse_math": False,  # a class called $x$ is a name, not a formula
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}

Draw = Callable[["Axes"], None]


def draw_panels(found: Evaluation) -> dict[str, bytes]:
    """Return each picture as the bytes of a PNG, by its title.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return {title: _render([(draw, height)]) for title, draw, height in _panels(found)}


def draw_sheet(found: Evaluation) -> bytes:
    """Return the table and all pictures on one sheet, as the bytes of a PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    rows = _table_rows(found)
    table: tuple[Draw, float] = (lambda axes: _draw_table(axes, rows), 0.7 + 0.27 * len(rows))
    return _render([table, *((draw, height) for _, draw, height in _panels(found))], width=11.5)


def _panels(found: Evaluation) -> list[tuple[str, Draw, float]]:
    """Return the pictures: title, how it is drawn, and its height in inches."""
    classes = _rows(found)
    panels: list[tuple[str, Draw, float]] = [
        ("AC@1 by class", lambda axes: _draw_classes(axes, classes), 1.3 + 0.3 * len(classes)),
        ("Reliability", lambda axes: _draw_reliability(axes, found.total), 4.6),
    ]
    if found.ablation:
        panels.append(("Ablation", lambda axes: _draw_ablation(axes, found), 3.6))
    return panels


def _render(panels: Sequence[tuple[Draw, float]], width: float = 9.0) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box, which is enough
        figure: Figure = Figure(figsize=(width, sum(h for _, h in panels) + 0.3), layout="constrained")
        FigureCanvasAgg(figure)
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.set(w_pad=0.15, h_pad=0.1)  # type: ignore[call-arg] # inches; the constrained engine has them
        all_axes = figure.subplots(len(panels), 1, height_ratios=[h for _, h in panels], squeeze=False)
        for (draw, _), axes in zip(panels, all_axes[:, 0], strict=True):
            draw(axes)
        figure.savefig(out, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return out.getvalue()


# --- single pictures ---------------------------------------------------------------------------------------------------


def _rows(found: Evaluation) -> list[tuple[str, Figures]]:
    rows = list(found.classes.items())[:CLASSES_MAX]
    left = len(found.classes) - len(rows)
    return [*rows, (f"total ({left} classes not drawn)" if left else "total", found.total)]


def _table_rows(found: Evaluation) -> list[list[str]]:
    heads = ["class", "cases", "AC@1", "AC@3", "right outcome", "abstained", "rightly abst.", "wrong remedy", "Brier"]
    rows = [
        [
            _label(name, TABLE_CHARACTERS_MAX),
            str(f.cases),
            in_percent(f.first),
            in_percent(f.first_three),
            in_percent(f.outcome_right),
            in_percent(f.abstained),
            in_percent(f.rightly_abstained),
            in_percent(f.wrong_remedy),
            with_interval(f.brier, f.brier_interval),
        ]
        for name, f in _rows(found)
    ]
    return [heads, *rows]


def _draw_table(axes: Axes, rows: list[list[str]]) -> None:
    from matplotlib.transforms import Bbox

    axes.set_axis_off()
    axes.set_title(f"{rows[-1][1]} cases; shares with their 95 % intervals")
    widths = [0.2, 0.05, *([0.107] * 6), 0.16]
    table = axes.table(
        cellText=rows[1:], colLabels=rows[0], colWidths=widths, cellLoc="left", bbox=Bbox.from_bounds(0, 0, 1, 1)
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7.5)
    for (row, _), cell in table.get_celld().items():
        cell.set_linewidth(0.3)
        cell.set_edgecolor("#c5c9d0")
        if row in (0, len(rows) - 1):
            cell.get_text().set_fontweight("bold")
            cell.set_facecolor("#eef1f5")


def _draw_classes(axes: Axes, rows: Sequence[tuple[str, Figures]]) -> None:
    axes.set_title("AC@1 by class, with 95 % intervals")
    for y, (_, f) in enumerate(reversed(rows)):
        colour = _BLUE if y else _ORANGE  # the last row, drawn lowest, is the total
        _draw_share(axes, f.first, y, colour)
    axes.set_yticks(range(len(rows)), [_label(name) for name, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(-0.02, 1.16)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="x", linewidth=0.4, color="#d5d8de")
    axes.set_axisbelow(True)


def _draw_share(axes: Axes, share: Share, y: float, colour: str) -> None:
    between = share.interval
    if share.value is None or between is None:
        axes.text(0.0, y, "no case with a culprit", va="center", color=_GREY, fontsize=8)
        return
    axes.plot([between.low, between.high], [y, y], color=colour, linewidth=2.2, alpha=0.45, solid_capstyle="butt")
    axes.plot([share.value], [y], marker="o", color=colour, markersize=6, clip_on=False)
    axes.text(1.03, y, f"{share.count} of {share.total}", va="center", fontsize=8, color="#444a55")


def _draw_reliability(axes: Axes, f: Figures) -> None:
    error = "" if f.calibration_error is None else f", expected calibration error {f.calibration_error:.3f}"
    brier = "" if f.brier is None else f", Brier {with_interval(f.brier, f.brier_interval)}"
    axes.set_title(f"Reliability of the first probability: {f.stated} cases{brier}{error}")
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle="--")
    for one in f.bins:
        between = one.right.interval
        if one.mean is None or one.right.value is None or between is None:
            continue
        axes.plot([one.mean, one.mean], [between.low, between.high], color=_BLUE, linewidth=2.2, alpha=0.4)
        axes.plot([one.mean], [one.right.value], marker="o", color=_BLUE, markersize=6, clip_on=False)
        axes.annotate(
            str(one.right.total),
            (one.mean, one.right.value),
            xytext=(7, -10),
            textcoords="offset points",
            fontsize=8,
            color="#444a55",
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.06)
    axes.set_xlabel("stated probability, mean of the bin (number of cases beside the point)")
    axes.set_ylabel("share that was right")
    axes.grid(linewidth=0.4, color="#d5d8de")
    axes.set_axisbelow(True)


def _draw_ablation(axes: Axes, found: Evaluation) -> None:
    axes.set_title("What is left without each part")
    runs = [("nothing", found.total), *((loss.part.value, loss.figures) for loss in found.ablation)]
    series: tuple[tuple[str, str, Callable[[Figures], Share]], ...] = (
        ("AC@1", _BLUE, lambda f: f.first),
        ("AC@3", _GREEN, lambda f: f.first_three),
        ("right outcome", _ORANGE, lambda f: f.outcome_right),
    )
    for number, (name, colour, pick) in enumerate(series):
        heights = [pick(f).value or 0.0 for _, f in runs]
        places = [i + (number - 1) * 0.26 for i in range(len(runs))]
        axes.bar(places, heights, width=0.24, color=colour, label=name)
        for x, height in zip(places, heights, strict=True):
            axes.text(x, height + 0.015, f"{height:.0%}", ha="center", fontsize=7, color="#444a55")
    axes.set_xticks(range(len(runs)), [f"without\n{name}" if i else "full" for i, (name, _) in enumerate(runs)])
    axes.set_ylim(0, 1.12)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(series), frameon=False)


def _label(name: str, characters_max: int = LABEL_CHARACTERS_MAX) -> str:
    """Return a foreign name as one short label: controls and surrogates stand as a mark, the rest as the font has it."""
    shown = "".join("�" if unicodedata.category(c)[0] in "CZ" and c != " " else c for c in name)
    return shown if len(shown) <= characters_max else shown[: characters_max - 1] + "…"
