"""An investigation as a person reads it: verdict, what was read, the chart, the ranked causes, what to do next.

Drawn from the JSON document of the investigation, so a stored one looks the same; the chart needs the samples and is
left out where they are gone.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from advisor.terminal import make_console, safe, text
from advisor.terminal.diff import diff_lines

if TYPE_CHECKING:
    from advisor.workflow import Investigation

Progress = Callable[[str, str], None]

HYPOTHESES_SHOWN = 5
PROBABILITY_SHOWN_MIN = 0.005  # below half a percent a cause is only counted
WIDE = 96  # columns from which a table has room for times and evidence beside the text
_MARKS = {
    "ok": ("✓", "green"),
    "empty": ("○", "yellow"),
    "unavailable": ("✗", "red"),
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
}
_OUTCOME_STYLES = {"diagnosed": "red", "inconclusive": "yellow", "healthy": "green"}
_RISK_STYLES = {"low": "green", "medium": "yellow", "high": "red"}


# --- while it runs -----------------------------------------------------------------------------------------------------


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


# --- the whole ---------------------------------------------------------------------------------------------------------


def print_investigation(console: Console, found: Investigation) -> None:
    """Print an investigation that was just made, with its chart."""
    console.print(draw_report(console.width, found.report))


def print_report(console: Console, report: dict[str, Any]) -> None:
    """Print a stored investigation."""
    console.print(draw_report(console.width, report))


def draw_report(width: int, report: dict[str, Any], chart: RenderableType | None = None) -> RenderableType:
    """Return everything that a report says, in the order in which it is needed."""
    parts: list[RenderableType] = [draw_verdict(report), draw_coverage(report)]
    if chart is not None:
        parts += ["", chart]
    if report.get("hypotheses"):
        parts += ["", draw_causes(width, report)]
    why = draw_why(report)
    if why is not None:
        parts += ["", why]
    if report.get("rejected_remedies"):
        parts += ["", draw_rejected(report)]
    for proposal in report.get("proposals", ()):
        parts += ["", draw_proposal(proposal)]
    parts += ["", draw_next(report)]
    return Group(*parts)


def draw_verdict(report: dict[str, Any]) -> RenderableType:
    """Return the one sentence that matters, in a frame."""
    incident, diagnosis = report["incident"], report["diagnosis"]
    outcome = str(diagnosis.get("outcome", ""))
    style = _OUTCOME_STYLES.get(outcome, "cyan")
    head = Text.assemble(
        (" ", style), (safe(incident.get("service", ""), 60), "bold"), (f" · {safe(outcome).upper()}", f"bold {style}")
    )
    if outcome == "diagnosed":
        head.append(f" · {words(diagnosis.get('kind'))} · {percent(diagnosis.get('probability', 0.0))}", style)
    head.append(" ")
    summary = text(diagnosis.get("summary", ""), characters_max=1200)
    if summary.plain:
        summary = Text(summary.plain[0].upper() + summary.plain[1:], style="bold")
    return Panel(summary, title=head, title_align="left", border_style=style, padding=(0, 1))


def draw_coverage(report: dict[str, Any]) -> RenderableType:
    """Return what was read: one mark for each source, and the reason where one is missing."""
    line = Text("  read ", style="dim")
    reasons: list[Text] = []
    for entry in report.get("coverage", ()):
        mark, style = _MARKS.get(str(entry.get("status")), ("?", "yellow"))
        line.append(f" {mark} ", style=f"bold {style}")
        line.append(safe(entry.get("source", ""), 40))
        if entry.get("status") != "ok":
            line.append(f" {safe(entry.get('status'), 20)}", style=style)
        if entry.get("reason"):
            reasons.append(
                Text.assemble(
                    ("       ", ""), (f"{safe(entry.get('source'), 40)}: ", style), (safe(entry["reason"], 400), "dim")
                )
            )
        line.append("  ")
    started, until = report["incident"].get("started_at"), report["incident"].get("until")
    if started:
        line.append(f"  since {moment(started)} UTC", style="dim")
    if until:
        line.append(f"  read until {clock(until)}", style="dim")
    return Group(line, *reasons)


def draw_causes(width: int, report: dict[str, Any]) -> RenderableType:
    """Return the ranked causes as a table: how likely, what, since when, what speaks for and against."""
    hypotheses = report["hypotheses"]
    shown = [h for h in hypotheses if h["rank"] == 1 or h["probability"] >= PROBABILITY_SHOWN_MIN][:HYPOTHESES_SHOWN]
    wide = width >= WIDE
    table = Table(box=None, padding=(0, 1), pad_edge=True, header_style="dim", show_edge=False)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("probability", no_wrap=True)
    table.add_column("possible cause", ratio=1)
    if wide:
        table.add_column("when", no_wrap=True)
        table.add_column("for", no_wrap=False, max_width=12)
        table.add_column("against", no_wrap=False, max_width=12)
    for h in shown:
        what = Text.assemble((safe(h["summary"], 300), "bold" if h["rank"] == 1 else ""))
        what.append(f"  {words(h['kind'])}", style="dim")
        at = (h.get("cause") or {}).get("at")
        cells: list[RenderableType] = [text(h["rank"]), probability_bar(h["probability"], 10 if wide else 5), what]
        if wide:
            cells += [
                text(clock(at) if at else "–", "dim"),
                text(", ".join(h.get("for", ())), "green"),
                text(", ".join(h.get("against", ())), "red"),
            ]
        else:
            what.append_text(_evidence_of(h))
        table.add_row(*cells)
    rest = len(hypotheses) - len(shown)
    if rest > 0:
        table.add_row(
            "",
            "",
            text(
                f"and {rest} more, each below {percent(PROBABILITY_SHOWN_MIN)}"
                if all(h["probability"] < PROBABILITY_SHOWN_MIN for h in hypotheses[len(shown) :])
                else f"and {rest} more",
                "dim",
            ),
        )
    return table


def _evidence_of(hypothesis: dict[str, Any]) -> Text:
    line = Text()
    if hypothesis.get("for"):
        line.append("  for " + safe(", ".join(hypothesis["for"])), style="green")
    if hypothesis.get("against"):
        line.append("  against " + safe(", ".join(hypothesis["against"])), style="red")
    return line


def draw_why(report: dict[str, Any]) -> RenderableType | None:
    """Return the terms of the first cause with their weights, and the evidence that it cites."""
    hypotheses = report.get("hypotheses") or ()
    if not hypotheses:
        return None
    first = hypotheses[0]
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(ratio=1)
    for term in first.get("terms", ()):
        value = float(term["value"])
        grid.add_row(
            Text(f"{value:+.1f}".replace("-", "−"), style="green" if value >= 0 else "red"),
            Text.assemble((safe(term["name"], 60), "bold"), f"  {safe(term['why'], 400)}"),
        )
    evidence = {e["id"]: e for e in report.get("evidence", ())}
    for cited in (*first.get("for", ()), *first.get("against", ())):
        if cited in evidence:
            grid.add_row(text(cited, "cyan"), text(evidence[cited].get("summary", ""), "dim", 400))
    if not grid.row_count:
        return None
    return Group(heading("Why"), Padding(grid, (0, 0, 0, 2)))


def draw_rejected(report: dict[str, Any]) -> RenderableType:
    """Return the remedies that would not help, with the reason."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    for remedy in report["rejected_remedies"]:
        grid.add_row(
            Text("✗", style="bold red"),
            Text.assemble((words(remedy["action"]), "bold"), f"  {safe(remedy['why'], 900)}"),
        )
    return Group(heading("Would not fix it"), Padding(grid, (0, 0, 0, 2)))


def draw_proposal(proposal: dict[str, Any]) -> RenderableType:
    """Return a proposal with its diff: what an approver is asked about."""
    action, risk = proposal["action"], str(proposal["risk"])
    head = Text.assemble(
        ("Proposal ", "bold"),
        (safe(proposal["id"]), "bold cyan"),
        f" · {words(action['type'])} · risk ",
        (safe(risk), _RISK_STYLES.get(risk, "")),
    )
    head.append(
        " · fixes the cause" if proposal["fixes_cause"] else " · does not fix the cause",
        style="" if proposal["fixes_cause"] else "yellow",
    )
    if proposal.get("rollback_rehearsed"):
        head.append(" · rollback rehearsed")
    parts: list[RenderableType] = [head, Padding(text(proposal.get("summary", "")), (0, 0, 0, 2))]
    if proposal.get("diff"):
        parts.append(Padding(diff_lines(proposal["diff"]), (0, 0, 0, 2)))
        parts.append(
            Padding(
                text(
                    f"base {proposal['base'][:12]} · digest {proposal['digest'][:26]}… · until {clock(proposal['expires_at'])} UTC",
                    "dim",
                ),
                (0, 0, 0, 2),
            )
        )
    for warning in proposal.get("warnings", ()):
        parts.append(Padding(Text.assemble(("! ", "bold yellow"), safe(warning, 300)), (0, 0, 0, 2)))
    return Group(*parts)


def draw_next(report: dict[str, Any]) -> RenderableType:
    """Return warnings, and the one thing to type or to check next."""
    lines: list[RenderableType] = [
        Text.assemble(("! ", "bold yellow"), safe(w, 500)) for w in report["diagnosis"].get("warnings", ())
    ]
    ready = [p for p in report.get("proposals", ()) if p.get("diff")]
    hypotheses = report.get("hypotheses") or ()
    if ready:
        lines.append(
            Text.assemble(
                ("→ ", "bold cyan"),
                ("advisor approve ", ""),
                (safe(ready[0]["id"]), "bold cyan"),
                " --as you@example.org",
                ("   nothing is changed before that", "dim"),
            )
        )
    elif hypotheses and hypotheses[0].get("next_check"):
        lines.append(Text.assemble(("→ ", "bold cyan"), ("next: ", "dim"), safe(hypotheses[0]["next_check"], 600)))
    lines.append(
        Text(
            f"incident {safe(report['incident'].get('id', ''))} · {float(report.get('usage', {}).get('seconds', 0)):.1f} s · by {safe(report['diagnosis'].get('by', 'engine'))}",
            style="dim",
        )
    )
    return Group(*lines)


# --- small parts -------------------------------------------------------------------------------------------------------


def heading(words_: str) -> Text:
    """Return a heading of a part of the report."""
    return Text(words_, style="bold underline")


def words(identifier: object) -> str:
    """Return an identifier of ours as words: ``config_change`` reads "config change"."""
    return safe(str(identifier or "").replace("_", " "), 60)


def percent(probability: float) -> str:
    """Return a probability as a person says it; never a certain 100% or 0% that was not meant."""
    p = float(probability)
    if not math.isfinite(p):
        return "?"
    if p > 0.99:
        return ">99%" if p < 1 else "100%"
    if 0 < p < 0.01:
        return "<1%"
    return f"{p * 100:.0f}%"


def probability_bar(probability: float, columns: int) -> Text:
    """Return a bar of eighths with the number behind it."""
    share = min(1.0, max(0.0, float(probability)))
    eighths = round(share * columns * 8)
    bar = "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")
    style = "red" if share >= 0.5 else "yellow" if share >= 0.1 else "dim"
    return Text.assemble((bar.ljust(columns, "·"), style), f" {percent(share):>4}")


def moment(instant: str) -> str:
    """Return an instant as date and time, UTC."""
    at = _parsed(instant)
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else safe(instant, 40)


def clock(instant: str) -> str:
    """Return an instant as the time of day, UTC."""
    at = _parsed(instant)
    return at.strftime("%H:%M:%S") if at else safe(instant, 40)


def _parsed(instant: str) -> datetime | None:
    try:
        return datetime.fromisoformat(str(instant))
    except ValueError:
        return None
