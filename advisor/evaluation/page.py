"""The report of an evaluation: ``report.html``, whole in one file, and ``report.png``. The only writing of the package.

Names of cases, causes and commits are other people's text: all of it is escaped, and what would hide or reorder text on a
screen is shown by its number. The page refers to nothing outside itself and runs nothing; a policy in it says so to the browser.
"""

from __future__ import annotations

import base64
import html
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from advisor.errors import SettingsInvalid
from advisor.evaluation.calibration import Trust
from advisor.evaluation.evaluate import LISTED_HYPOTHESES, Evaluation
from advisor.evaluation.figures import Figures
from advisor.evaluation.judging import Judged
from advisor.evaluation.running import NamedCause
from advisor.evaluation.words import (
    NOTHING,
    calibration_notes,
    difference,
    in_percent,
    plain_percent,
    what_is_wrong,
    with_interval,
)

PAGE, SHEET = "report.html", "report.png"
TEXT_CHARACTERS_MAX = 400
MISSES_MAX = 500  # a browser still scrolls; with more the first ones tell the story, and --json has all
NO_PICTURES = "report without pictures: matplotlib is not installed; pip install 'ops-advisor[report]' brings it"

_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #1d2430; max-width: 1240px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.note { color: #59606d; margin-top: .2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } .plain td { overflow-wrap: anywhere; min-width: 2.5rem; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #e1e4ea; vertical-align: top; }
th { color: #59606d; font-weight: 600; vertical-align: bottom; }
.figures { font-size: 13px; } .figures td { white-space: nowrap; } .figures td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
tr.total td { font-weight: 600; background: #f3f5f8; } tr.right td { background: #edf6ee; }
img { max-width: 100%; height: auto; margin: .5rem 0; }
details { border: 1px solid #e1e4ea; border-radius: 6px; padding: .5rem .8rem; margin: .6rem 0; }
summary { cursor: pointer; } code { font-size: .9em; overflow-wrap: anywhere; }
"""

_COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("cases", lambda f: str(f.cases)),
    ("AC@1", lambda f: in_percent(f.first)),
    ("AC@3", lambda f: in_percent(f.first_three)),
    ("right outcome", lambda f: in_percent(f.outcome_right)),
    ("abstained, with a culprit", lambda f: in_percent(f.abstained)),
    ("rightly abstained, without", lambda f: in_percent(f.rightly_abstained)),
    ("wrong diagnosis", lambda f: in_percent(f.wrong_diagnosis)),
    ("wrong remedy", lambda f: in_percent(f.wrong_remedy)),
    ("Brier", lambda f: with_interval(f.brier, f.brier_interval)),
    ("calibration error", lambda f: _number(f.calibration_error)),
    ("seconds, median / p95", lambda f: f"{_number(f.seconds_median, 2)} / {_number(f.seconds_p95, 2)}"),
)


def prepare_folder(folder: Path) -> None:
    """Make the folder of a report, before an evaluation takes its time.

    Raises:
        SettingsInvalid: It cannot be made, or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsInvalid(f"--report {folder}: cannot be made: {error.strerror or error}") from error


def write_report(found: Evaluation, folder: Path) -> list[str]:
    """Write the page and the sheet, and return what a person should know of it.

    Without matplotlib the page is written with its tables alone.

    Raises:
        SettingsInvalid: The folder cannot be written.
    """
    pictures: dict[str, bytes] = {}
    sheet, notes = b"", []
    try:
        from advisor.evaluation.pictures import draw_panels, draw_sheet

        pictures, sheet = draw_panels(found), draw_sheet(found)
    except ImportError:
        notes.append(NO_PICTURES)
    prepare_folder(folder)
    try:
        (folder / PAGE).write_text(render_page(found, pictures), encoding="utf-8")
        if sheet:
            (folder / SHEET).write_bytes(sheet)
    except OSError as error:
        raise SettingsInvalid(f"--report {folder}: cannot be written: {error.strerror or error}") from error
    return [*notes, f"{folder / PAGE} written"]


def render_page(found: Evaluation, pictures: dict[str, bytes]) -> str:
    """Return the page.

    Args:
        found: What is told.
        pictures: Title -> PNG; those that are there are put in.
    """
    parts = [_head(found), _figures(found), *_pictures(pictures), _reliability(found.total)]
    parts += [part for part in (_ablation(found), _calibration(found), _failures(found)) if part]
    parts.append(_misses(found.misses))
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>Evaluation</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


# --- parts of the page -------------------------------------------------------------------------------------------------


def _head(found: Evaluation) -> str:
    without = f", without {', '.join(part.value for part in found.without)}" if found.without else ""
    total = found.total
    told = [
        f"{total.cases} cases{without}. Shares stand with their 95 % intervals: Wilson for shares, bootstrap for the Brier score.",
        f"Larger memory ceilings called a fix although a change is guilty: {total.ceiling_raised}.",
    ]
    if total.refusals.total:
        told.append(f"Remedies refused by name that had to be: {total.refusals.count} of {total.refusals.total}.")
    return "<h1>Evaluation</h1>\n" + "\n".join(f"<p class=note>{shown(line)}</p>" for line in told)


def _figures(found: Evaluation) -> str:
    rows = [(name, f, "") for name, f in found.classes.items()]
    total = [("total", found.total, "total")]
    parts = ["<h2>By class</h2>", _figures_table("class", [*rows, *total])]
    if len(found.splits) > 1:
        parts += ["<h2>By split</h2>", _figures_table("split", [(name, f, "") for name, f in found.splits.items()])]
    if found.tags:
        parts += ["<h2>By tag</h2>", _figures_table("tag", [(name, f, "") for name, f in found.tags.items()])]
    return "\n".join(parts)


def _figures_table(title: str, rows: Sequence[tuple[str, Figures, str]]) -> str:
    heads = [title, *(head for head, _ in _COLUMNS)]
    return _table(heads, [([name, *(cell(f) for _, cell in _COLUMNS)], kind) for name, f, kind in rows], "figures")


def _pictures(pictures: dict[str, bytes]) -> list[str]:
    return [
        f"<h2>{shown(title)}</h2>\n"
        f'<img alt="{shown(title)}" src="data:image/png;base64,{base64.b64encode(data).decode("ascii")}">'
        for title, data in pictures.items()
    ]


def _reliability(total: Figures) -> str:
    rows = [
        ([f"{b.low:.1f}–{b.high:.1f}", str(b.right.total), _number(b.mean), in_percent(b.right)], "")
        for b in total.bins
        if b.right.total
    ]
    title = f"<h2>Reliability of the first probability</h2>\n<p class=note>{total.stated} cases state one.</p>\n"
    return title + _table(["stated between", "cases", "mean stated", "share right"], rows)


def _ablation(found: Evaluation) -> str:
    if not found.ablation:
        return ""
    f = found.total
    full = [
        "(nothing)",
        plain_percent(f.first),
        "",
        plain_percent(f.first_three),
        "",
        plain_percent(f.outcome_right),
        "",
        str(f.wrong_remedy.count),
        "",
        "",
    ]
    rows = [(full, "total")]
    for loss in found.ablation:
        f = loss.figures
        cells = [
            loss.part.value,
            plain_percent(f.first),
            difference(loss.first, f.first),
            plain_percent(f.first_three),
            difference(loss.first_three, f.first_three),
            plain_percent(f.outcome_right),
            difference(loss.outcome_right, f.outcome_right),
            str(f.wrong_remedy.count),
            f"{loss.wrong_remedies:+d}",
            ", ".join(loss.worse) or NOTHING,
        ]
        rows.append((cells, ""))
    heads = [
        "without",
        "AC@1",
        "change",
        "AC@3",
        "change",
        "right outcome",
        "change",
        "wrong remedies",
        "more",
        "no longer first",
    ]
    note = "<p class=note>Over the cases that ran both ways; in cases, and in points of the share.</p>\n"
    return "<h2>What is lost without each part</h2>\n" + note + _table(heads, rows)


def _calibration(found: Evaluation) -> str:
    if not found.calibrations:
        return ""
    rows = [(["as stated", "", *_trust(found.calibrations[0].stated)], "")]
    for one in found.calibrations:
        name = "fitted by Brier" if one.loss == "brier" else "fitted by log loss"
        temperature = f"{one.temperature.value:g}" if one.temperature else NOTHING
        rows.append(([name, temperature, *_trust(one.after)], ""))
    heads = ["probabilities", "temperature", "held-out cases", "Brier", "log loss", "calibration error"]
    notes = "".join(f"<p class=note>{shown(line)}</p>" for line in calibration_notes(found.calibrations))
    return f"<h2>Calibration</h2>\n{notes}\n{_table(heads, rows)}"


def _trust(trust: Trust) -> list[str]:
    return [str(trust.cases), *(_number(x, 4) for x in (trust.brier, trust.log_loss, trust.calibration_error))]


def _failures(found: Evaluation) -> str:
    if not found.failures:
        return ""
    rows = [([f.name, f.part.value if f.part else "", f.reason], "") for f in found.failures]
    return "<h2>Could not be run</h2>\n" + _table(["case", "without", "why"], rows)


def _misses(misses: Sequence[Judged]) -> str:
    if not misses:
        return "<h2>To look at</h2>\n<p>Nothing: every case is as its truth says.</p>"
    left = len(misses) - MISSES_MAX
    more = f"\n<p class=note>… and {left} more; --json lists them all.</p>" if left > 0 else ""
    return f"<h2>To look at: {len(misses)}</h2>\n" + "\n".join(_miss(j) for j in misses[:MISSES_MAX]) + more


def _miss(j: Judged) -> str:
    truth = j.case.truth
    happened = [truth.kind.value, truth.service, (truth.commit or "")[:12], truth.path, truth.key]
    moved = f"{truth.old} → {truth.new}" if truth.old is not None or truth.new is not None else ""
    tags = f" ({', '.join(truth.tags)})" if truth.tags else ""
    rows = [_hypothesis(j, rank, h) for rank, h in enumerate(j.answer.hypotheses[:LISTED_HYPOTHESES], 1)]
    heads = ["rank", "kind", "probability", "score", "service", "what", "where"]
    return (
        f"<details open>\n<summary><strong>{shown(j.case.name)}</strong>{shown(tags)}: {shown(what_is_wrong(j))}</summary>\n"
        f"<p>Truth: {shown(' · '.join(part for part in (*happened, moved) if part))}</p>\n"
        + (_table(heads, rows) if rows else "<p>No hypothesis.</p>")
        + "\n</details>"
    )


def _hypothesis(j: Judged, rank: int, h: NamedCause) -> tuple[list[str], str]:
    cells = [
        str(rank),
        h.kind.value,
        f"{h.probability:.3f}",
        f"{h.score:+.2f}",
        h.service,
        h.summary,
        " · ".join(filter(None, ((h.commit or "")[:12], h.path, h.key))),
    ]
    return cells, "right" if rank == j.rank else ""


# --- text --------------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Iterable[tuple[Sequence[str], str]], style: str = "plain") -> str:
    head = "".join(f"<th>{shown(one)}</th>" for one in heads)
    body = "\n".join(
        f'<tr class="{kind}">' + "".join(f"<td>{shown(cell)}</td>" for cell in cells) + "</tr>" for cells, kind in rows
    )
    return f"<div class=wide><table class={style}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"


def shown(content: str) -> str:
    """Return foreign text for a page: escaped, bounded, and with nothing in it that hides or reorders."""
    cut = content if len(content) <= TEXT_CHARACTERS_MAX else content[: TEXT_CHARACTERS_MAX - 1] + "…"
    visible = "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c)[0] in "CZ" and c not in " \u00a0" else c for c in cut
    )
    return html.escape(visible, quote=True)


def _number(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"
