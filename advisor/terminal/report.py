"""An investigation as a person reads it: verdict, what was read, the chart, the ranked causes, what to do next.

Drawn from the JSON document of the investigation, so a stored one looks the same; the chart needs the samples and is
left out where they are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from advisor.terminal import safe, text
from advisor.terminal.diff import Diff
from advisor.terminal.words import clock, heading, key_end, moment, percent, probability_bar, symptom_words, when, words
from advisor.values import format_seconds

if TYPE_CHECKING:
    from advisor.evidence import Gathered
    from advisor.workflow import Investigation

HYPOTHESES_SHOWN = 5
OPINION_CLAIMS_SHOWN = 8
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


def print_investigation(console: Console, found: Investigation) -> None:
    """Print an investigation that was just made, with its chart."""
    read = what_was_read(found.gathered)
    console.print(draw_report(console.width, found.report, chart_of(found, console.width), read))


def what_was_read(gathered: Gathered) -> dict[str, str]:
    """Return in a few words what each source gave."""
    read: dict[str, str] = {}
    if gathered.metrics:
        read["metrics"] = f"{len(gathered.metrics)} series each {format_seconds(gathered.step_seconds)}"
    if gathered.changes is not None:
        count = len(gathered.changes.commits)
        read["changes"] = f"{count} commit{'' if count == 1 else 's'}"
    if gathered.logs is not None:
        read["logs"] = f"{gathered.logs.lines:,} lines"
    return read


def chart_of(found: Investigation, width: int) -> RenderableType | None:
    """Return the chart of an investigation's resource in trouble; None where it was not measured."""
    import numpy as np

    from advisor.diagnosis.picture import WORDS, draw_picture
    from advisor.terminal.chart import Curve, Mark, draw_chart

    picture = draw_picture(found.incident, found.gathered)
    if not picture.measured:
        return None
    cause = found.assessment.diagnosis.cause
    change = None
    if cause is not None and cause.at is not None:
        label = " ".join(
            w for w in ((cause.commit or "")[:8], cause.at.strftime("%H:%M:%S"), key_end(cause.key or "")) if w
        )
        change = Mark(cause.at.timestamp(), label)
    errors = [Mark(t, symptom_words(symptom.value)) for symptom, times in picture.symptom_times.items() for t in times]
    # A crash is read from where a process ended; where an error was logged just before, that is the same death.
    told = 10 * picture.signals.step
    crashes = [Mark(t, "crash") for t in picture.crashes if not any(0 <= t - e.at <= told for e in errors)]
    curve = Curve(
        title=WORDS.get(picture.resource, picture.resource),
        times=picture.signals.times,
        step=picture.signals.step,
        used=picture.vital,
        floor=picture.floor,
        ceiling=picture.ceiling if picture.ceiling.size else np.full(picture.vital.shape, np.nan),
        is_bytes=picture.resource != "threads",
        change=change,
        errors=(*errors, *crashes),
        restarts=tuple(Mark(t) for t in picture.signals.restarts),
        trouble_at=picture.trouble_at,
    )
    return draw_chart(curve, width)


def print_report(console: Console, report: dict[str, Any]) -> None:
    """Print a stored investigation."""
    console.print(draw_report(console.width, report))


def draw_report(
    width: int, report: dict[str, Any], chart: RenderableType | None = None, read: dict[str, str] | None = None
) -> RenderableType:
    """Return everything that a report says, in the order in which it is needed.

    Args:
        width: Columns.
        report: The JSON document of an investigation.
        chart: Drawn from the samples, where there are any.
        read: What each source gave, in a few words, where that is known.
    """
    parts: list[RenderableType] = [draw_verdict(report), draw_coverage(report, read or {})]
    if chart is not None:
        parts += ["", chart]
    if report.get("hypotheses"):
        parts += ["", draw_causes(width, report)]
    why = draw_why(report)
    if why is not None:
        parts += ["", why]
    if report.get("model"):
        parts += ["", draw_opinion(report["model"])]
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
        (safe(incident.get("service", ""), 60), "bold"), (f" · {safe(outcome).upper()}", f"bold {style}")
    )
    if outcome == "diagnosed":
        head.append(f" · {words(diagnosis.get('kind'))} · {percent(diagnosis.get('probability', 0.0))}", style)
    summary = text(diagnosis.get("summary", ""), characters_max=1200)
    if summary.plain:
        summary = Text(summary.plain[0].upper() + summary.plain[1:], style="bold")
    return Panel(summary, title=head, title_align="left", border_style=style, padding=(0, 1))


def draw_coverage(report: dict[str, Any], read: dict[str, str]) -> RenderableType:
    """Return what was read: one mark for each source, and the reason where one is missing."""
    line = Text(" ")
    reasons: list[Text] = []
    for entry in report.get("coverage", ()):
        source, status = safe(entry.get("source", ""), 40), str(entry.get("status"))
        mark, style = _MARKS.get(status, ("?", "yellow"))
        line.append(f" {mark} ", style=f"bold {style}")
        line.append(source)
        told = safe(status, 20) if status != "ok" else read.get(source, "")
        line.append(f" {told}" if told else "", style=style if status != "ok" else "dim")
        line.append("  ")
        if entry.get("reason"):
            reasons.append(Text.assemble((f"{source}: ", style), (safe(entry["reason"], 400), "dim")))
    incident = report["incident"]
    if incident.get("started_at") and report["diagnosis"].get("outcome") != "healthy":
        began = Text.assemble(("began ", "dim"), moment(incident["started_at"]), (" UTC", "dim"))
        if incident.get("until"):
            began.append(f", read until {when(incident['until'], incident['started_at'])}", style="dim")
        if incident.get("symptoms"):
            began.append(", " + ", ".join(symptom_words(s) for s in incident["symptoms"]), style="dim")
        reasons.insert(0, began)
    return Group(line, Padding(Group(*reasons), (0, 0, 0, 4)))


def draw_causes(width: int, report: dict[str, Any]) -> RenderableType:
    """Return the ranked causes as a table: how likely, what, since when, what speaks for and against."""
    hypotheses = report["hypotheses"]
    shown = [h for h in hypotheses if h["rank"] == 1 or h["probability"] >= PROBABILITY_SHOWN_MIN][:HYPOTHESES_SHOWN]
    wide = width >= WIDE
    disputed = any(h.get("against") for h in shown)
    table = Table(box=None, padding=(0, 1), pad_edge=True, header_style="dim", show_edge=False)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("probability", no_wrap=True)
    table.add_column("possible cause", ratio=1)
    if wide:
        table.add_column("when", no_wrap=True)
        table.add_column("for", max_width=12)
        if disputed:
            table.add_column("against", max_width=12)
    for h in shown:
        what = Text.assemble((safe(h["summary"], 300), "bold" if h["rank"] == 1 else ""))
        if h["kind"] != "unknown":  # its own text says it
            what.append(f"  {words(h['kind'])}", style="dim")
        at = (h.get("cause") or {}).get("at")
        cells: list[RenderableType] = [text(h["rank"]), probability_bar(h["probability"], 10 if wide else 5), what]
        if wide:
            cells += [
                text(when(at, report["incident"].get("until")) if at else "–", "dim"),
                text(", ".join(h.get("for", ())), "green"),
            ]
            if disputed:
                cells.append(text(", ".join(h.get("against", ())), "red"))
        else:
            what.append_text(_evidence_of(h))
        table.add_row(*cells)
    rest = len(hypotheses) - len(shown)
    if rest > 0:
        table.add_row(
            "",
            "",
            text(f"and {rest} more, less likely", "dim"),
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


def draw_opinion(opinion: dict[str, Any]) -> RenderableType:
    """Return what a language model said, after it was checked: what stands, what was struck and why."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    if opinion.get("note"):
        grid.add_row(Text("–", style="yellow"), text(opinion["note"], characters_max=600))
    if opinion.get("cause") and not opinion.get("used"):
        agrees = opinion.get("agrees")
        told = "the same cause" if agrees else "another cause than the engine"
        grid.add_row(
            Text("=" if agrees else "≠", style="green" if agrees else "bold yellow"),
            Text.assemble((f"{told}: ", "bold"), safe(opinion["cause"], 300), f" — {safe(opinion['summary'], 600)}"),
        )
    for claim in opinion.get("claims", ())[:OPINION_CLAIMS_SHOWN]:
        cited = ", ".join(claim["evidence"])
        grid.add_row(
            Text("✓", style="green"), Text.assemble(safe(claim["text"], 600), (f"  {safe(cited, 80)}", "cyan"))
        )
    for claim in opinion.get("struck", ())[:OPINION_CLAIMS_SHOWN]:
        grid.add_row(
            Text("✗", style="bold red"),
            Text.assemble((safe(claim["text"], 600), "strike dim"), f"  {safe(claim['why'], 300)}"),
        )
    if opinion.get("remedy_refused"):
        grid.add_row(Text("✗", style="bold red"), text(f"its remedy: {opinion['remedy_refused']}", characters_max=900))
    if opinion.get("would_settle") and not opinion.get("used"):
        grid.add_row(Text("→", style="cyan"), text(f"would settle it: {opinion['would_settle']}", characters_max=600))
    used = "its words explain the diagnosis" if opinion.get("used") else "the diagnosis is the engine's"
    title = f"The model {safe(opinion.get('model', ''), 80)}: {used}"
    return Group(heading(title), Padding(grid, (0, 0, 0, 2)))


def draw_proposal(proposal: dict[str, Any]) -> RenderableType:
    """Return a proposal with its diff, in brief; an approver is shown all of it (`approval`)."""
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
    state = proposal.get("state", "proposed")
    if state != "proposed":
        head.append(f" · {words(state)}", style="bold")
    if proposal.get("rollback_rehearsed"):
        head.append(" · rollback rehearsed")
    parts: list[RenderableType] = [head, Padding(text(proposal.get("summary", "")), (0, 0, 0, 2))]
    if proposal.get("diff"):
        parts.append(Padding(Diff(proposal["diff"], brief=True), (0, 0, 0, 2)))
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
    ready = [p for p in report.get("proposals", ()) if p.get("diff") and p.get("state", "proposed") == "proposed"]
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
