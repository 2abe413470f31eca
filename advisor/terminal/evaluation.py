"""The tables of an evaluation, and its progress. What is counted is decided in `advisor.evaluation`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from advisor.evaluation.calibration import Calibration, Trust
from advisor.evaluation.evaluate import Evaluation
from advisor.evaluation.figures import Figures, Loss
from advisor.evaluation.judging import Judged
from advisor.evaluation.models import ModelEvaluation
from advisor.evaluation.statistics import Bin
from advisor.evaluation.words import (
    NOTHING,
    calibration_notes,
    in_percent,
    plain_percent,
    what_is_wrong,
    with_interval,
)
from advisor.terminal import make_console, safe, text
from advisor.terminal.tables import Column, print_table

MISSES_MAX = 40  # more are not read on a terminal; the report has all


@contextmanager
def counting(quiet: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Show on stderr how many replays are done; yields what the evaluation calls.

    On a terminal one line is rewritten; elsewhere each tenth of the way is a line, and with ``quiet`` nothing is.
    """
    console = make_console(sys.stderr)
    if console.is_terminal and not console.is_dumb_terminal:
        with console.status("replaying") as status:
            yield lambda done, total, name: status.update(text(f"{done} of {total} replayed, last {name}", "dim"))
        return

    def tell(done: int, total: int, name: str) -> None:
        if not quiet and done * 10 // total != (done - 1) * 10 // total:
            sys.stderr.write(f"{done} of {total} replayed, last {safe(name)}\n")

    yield tell


def print_evaluation(console: Console, found: Evaluation) -> None:
    """Print the whole evaluation: figures by class and in total, reliability, what was missed, and what was asked besides."""
    without = f", without {', '.join(part.value for part in found.without)}" if found.without else ""
    console.print(text(f"{found.total.cases} cases{without}; shares with their 95 % intervals", "bold"))
    _print_figures(console, found)
    _print_reliability(console, found.total)
    if found.misses:
        _print_misses(console, found.misses)
    if found.misses_held_out:
        console.print(text(f"Besides, {found.misses_held_out} held-out cases, which are not named", "dim"))
    if found.ablation:
        _print_ablation(console, found)
    if found.calibrations:
        _print_calibrations(console, found.calibrations)


# --- figures -----------------------------------------------------------------------------------------------------------

_Cell = Callable[[Figures], str]
_CAUSES: tuple[tuple[str, _Cell], ...] = (
    ("cases", lambda f: str(f.cases)),
    ("culprit", lambda f: str(f.first.total)),
    ("AC@1", lambda f: in_percent(f.first)),
    ("AC@3", lambda f: in_percent(f.first_three)),
)
_OUTCOMES: tuple[tuple[str, _Cell], ...] = (
    ("right outcome", lambda f: in_percent(f.outcome_right)),
    ("abstained", lambda f: in_percent(f.abstained)),
    ("rightly abst.", lambda f: in_percent(f.rightly_abstained)),
    ("wrong diagnosis", lambda f: in_percent(f.wrong_diagnosis)),
)
_REST: tuple[tuple[str, _Cell], ...] = (
    ("wrong remedy", lambda f: in_percent(f.wrong_remedy)),
    ("Brier", lambda f: with_interval(f.brier, f.brier_interval)),
    ("ECE", lambda f: NOTHING if f.calibration_error is None else f"{f.calibration_error:.3f}"),
    ("s", lambda f: _seconds(f.seconds_median)),
    ("s p95", lambda f: _seconds(f.seconds_p95)),
)


def _print_figures(console: Console, found: Evaluation) -> None:
    rows = [*found.classes.items()]
    if len(found.splits) > 1:
        rows += [(f"split {name}", figures) for name, figures in found.splits.items()]
    rows.append(("total", found.total))
    for group in (_CAUSES, _OUTCOMES, _REST):  # three tables fit 80 columns; a cut figure would be a wrong one
        console.print()
        columns = (Column("class", "cyan", grows=True), *(Column(title) for title, _ in group))
        lines = ([_name(console, name), *(text(cell(f)) for _, cell in group)] for name, f in rows)
        print_table(console, columns, lines, "no case was run")
    total = found.total
    told = [f"larger memory ceilings called a fix although a change is guilty: {total.ceiling_raised}"]
    if total.refusals.total:
        told.append(f"remedies refused that had to be: {total.refusals.count} of {total.refusals.total}")
    console.print()
    for line in told:
        console.print(text(line))
    console.print(
        text("ECE: expected calibration error; s: seconds of an investigation, median and 95 % at most", "dim")
    )


def _name(console: Console, name: str) -> Text:
    """Return the head of a row, cut so that its figures keep their room."""
    style = "bold" if name == "total" else "dim" if name.startswith("split ") else ""
    return text(name, style, characters_max=max(12, min(40, console.width // 4 - 2)))


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _print_reliability(console: Console, total: Figures) -> None:
    if not total.stated:
        return
    console.print()
    error = "" if total.calibration_error is None else f"; expected calibration error {total.calibration_error:.3f}"
    console.print(text(f"Reliability of the first probability, {total.stated} cases{error}", "bold"))
    columns = (Column("stated between"), Column("cases"), Column("mean stated"), Column("share right"))
    filled = [one for one in total.bins if one.right.total]
    print_table(console, columns, (_bin(one) for one in filled), "nothing was stated")


def _bin(one: Bin) -> Sequence[Text]:
    mean = NOTHING if one.mean is None else f"{one.mean:.3f}"
    return (
        text(f"{one.low:.1f}–{one.high:.1f}"),
        text(one.right.total),
        text(mean),
        text(in_percent(one.right)),
    )


# --- misses ------------------------------------------------------------------------------------------------------------


def _print_misses(console: Console, misses: Sequence[Judged]) -> None:
    console.print()
    console.print(text(f"To look at: {len(misses)}", "bold"))
    columns = (Column("case", "cyan", grows=True), Column("what is wrong", grows=True))
    shown = misses[:MISSES_MAX]
    print_table(console, columns, ([text(j.case.name), text(what_is_wrong(j))] for j in shown), "nothing")
    if len(misses) > len(shown):
        console.print(text(f"… and {len(misses) - len(shown)} more; --json and --report list them all", "dim"))


# --- ablation and calibration ------------------------------------------------------------------------------------------


def _print_ablation(console: Console, found: Evaluation) -> None:
    console.print()
    console.print(text("What is lost without each part, over the cases that ran both ways", "bold"))
    columns = (
        Column("without", "cyan", grows=True),
        Column("AC@1"),
        Column("AC@3"),
        Column("outcome"),
        Column("wrong remedies"),
    )
    full = [_ablation_row("(nothing)", found.total, None)]
    rows = [_ablation_row(loss.part.value, loss.figures, loss) for loss in found.ablation]
    print_table(console, columns, full + rows, "no case was run")


def _ablation_row(name: str, f: Figures, loss: Loss | None) -> Sequence[Text]:
    """Return a row; behind each share stands how many cases it differs by."""
    shares = (f.first, f.first_three, f.outcome_right)
    fewer = (loss.first, loss.first_three, loss.outcome_right) if loss else (None, None, None)
    cells = (
        plain_percent(share) if less is None else f"{plain_percent(share)}  {-less:+d}"
        for share, less in zip(shares, fewer, strict=True)
    )
    remedies = f"{f.wrong_remedy.count}" + (f"  {loss.wrong_remedies:+d}" if loss else "")
    return [text(cell) for cell in (name, *cells, remedies)]


def _print_calibrations(console: Console, calibrations: Sequence[Calibration]) -> None:
    console.print()
    console.print(
        text("Calibration: one temperature for all scores, fitted on development, judged on held-out", "bold")
    )
    columns = (
        Column("probabilities", grows=True),
        Column("temperature"),
        Column("cases"),
        Column("Brier"),
        Column("log loss"),
        Column("ECE"),
    )
    rows = [_trust_row("as stated", "", calibrations[0].stated)]
    for one in calibrations:
        name = "fitted by Brier" if one.loss == "brier" else "fitted by log loss"
        rows.append(_trust_row(name, NOTHING if one.temperature is None else f"{one.temperature.value:g}", one.after))
    print_table(console, columns, rows, "no case")
    for line in calibration_notes(calibrations):
        console.print(text(line, "dim"))


def _trust_row(name: str, temperature: str, trust: Trust) -> Sequence[Text]:
    numbers = (trust.brier, trust.log_loss, trust.calibration_error)
    shown = (NOTHING if number is None else f"{number:.4f}" for number in numbers)
    return [text(cell) for cell in (name, temperature, str(trust.cases), *shown)]


# --- a model -----------------------------------------------------------------------------------------------------------


def print_model_evaluation(console: Console, found: ModelEvaluation) -> None:
    """Print how a model did beside the engine."""
    console.print(
        text(
            f"{safe(found.model, 80)}: {found.cases} cases, {found.runs} runs each; shares with their 95 % intervals",
            "bold",
        )
    )
    columns = (Column("who", "cyan"), Column("AC@1"), Column("outcome right"), Column("wrong remedies"))
    rows = [
        [text(name), *(text(in_percent(s)) for s in (way.first, way.outcome, way.wrong_remedy))]
        for name, way in (("engine alone", found.engine), ("model alone", found.alone), ("both", found.both))
    ]
    print_table(console, columns, rows, "nothing")
    usage = found.usage
    money = f", {usage.usd:.4f} US dollars" if usage.usd is not None else ""
    seconds = f"{found.seconds_median:.1f} s" if found.seconds_median is not None else "no time"
    for line in (
        f"no usable answer: {in_percent(found.unusable)}",
        f"agreed with the engine: {in_percent(found.agreed)}",
        f"claims that the evidence does not show: {in_percent(found.ungrounded)}",
        f"repairs asked for: {found.repairs:.2f} a run; {seconds} more than the engine, at the median",
        f"{usage.calls} calls, {usage.input_tokens:,} tokens in, {usage.output_tokens:,} out{money}",
    ):
        console.print(text(f"  {line}"))
