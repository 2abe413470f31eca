"""What a person is asked to agree to, in full, and what came of it.

Everything that the digest binds and a person can judge is here; nothing is shortened but by the width of the screen.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from advisor.proposal import Proposal
from advisor.proposal.patch import has_odd_characters
from advisor.terminal import safe, text
from advisor.terminal.diff import Diff
from advisor.terminal.words import measured, words
from advisor.values import Risk, format_instant, format_seconds

if TYPE_CHECKING:
    from advisor.change import Change
    from advisor.rollback import RollbackPlan
    from advisor.verification import Verification

_RISK_STYLES = {Risk.LOW: "green", Risk.MEDIUM: "yellow", Risk.HIGH: "red"}
_VERDICTS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "red"),
    "inconclusive": ("?", "yellow"),
    "error": ("!", "red"),
}


def draw_proposal(proposal: Proposal, state: str, now: datetime) -> RenderableType:
    """Return a proposal in full: the exact patch, what it stands on, what was checked, until when."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    action = proposal.action
    left = (proposal.expires_at - now).total_seconds()
    life = f"in {format_seconds(left)}" if left > 0 else "over"
    grid.add_row("what", text(proposal.summary, "bold"))
    if action.reason and action.reason != proposal.summary:
        grid.add_row("why", text(action.reason))
    grid.add_row("action", text(" ".join((words(action.type.value), ", ".join(action.keys))).strip()))
    grid.add_row("risk", Text.assemble((proposal.risk.value, _RISK_STYLES[proposal.risk]), _cure(proposal)))
    grid.add_row("service", text(proposal.service))
    grid.add_row(
        "repository", text(f"{proposal.repository.name} ({proposal.repository.url}), branch {proposal.branch}")
    )
    grid.add_row("base", text(proposal.base))
    rehearsed = "rehearsed: gives back the base, byte for byte" if proposal.rollback_rehearsed else "not rehearsed"
    grid.add_row("rollback", Text(rehearsed, style="" if proposal.rollback_rehearsed else "bold red"))
    for number, guardrail in enumerate(proposal.guardrails):
        mark = ("✓ ", "green") if guardrail.passed else ("✗ ", "bold red")
        told = f"  {safe(guardrail.detail, 300)}" if guardrail.detail else ""
        grid.add_row("" if number else "guardrails", Text.assemble(mark, words(guardrail.name), (told, "dim")))
    plan = proposal.verification
    for number, check in enumerate(plan.checks):
        wanted = f"{words(check.measure.value)} {words(check.comparison.value)} {measured(check.threshold, check.unit)}"
        grid.add_row("" if number else "afterwards", Text.assemble(safe(check.name, 200), (f"  {wanted}", "dim")))
    if plan.checks:
        settle, window = format_seconds(plan.settle_seconds), format_seconds(plan.window_seconds)
        grid.add_row("", text(f"watched for {window}, from {settle} after the change", "dim"))
    grid.add_row("expires", text(f"{format_instant(proposal.expires_at)}, {life}", "" if left > 0 else "bold red"))
    grid.add_row("proposed by", text(proposal.proposer))
    grid.add_row("digest", text(proposal.digest))
    for warning in proposal.warnings:
        grid.add_row(Text("warning", style="bold yellow"), text(warning, "yellow"))
    title = Text.assemble(("Proposal ", "bold"), (safe(proposal.id), "bold cyan"), f" · {words(state)}")
    parts: list[RenderableType] = [Panel(grid, title=title, title_align="left", border_style="cyan", padding=(0, 1))]
    parts += draw_patch(proposal)
    return Group(*parts)


def draw_patch(proposal: Proposal) -> list[RenderableType]:
    """Return the exact patch between two rules, and a word where some of it would not have been seen."""
    if not proposal.diff:
        return [text("it changes nothing: a person is called", "yellow")]
    parts: list[RenderableType] = [
        Rule(Text("the whole change", style="dim"), style="dim"),
        Diff(proposal.diff),
        Rule(style="dim"),
    ]
    if has_odd_characters(proposal.diff):
        parts.append(Text("Marked ⟨…⟩: characters that would be invisible or could be mistaken.", style="bold yellow"))
    return parts


def _cure(proposal: Proposal) -> tuple[str, str]:
    if proposal.rolls_back is not None:
        return f" · takes back {safe(proposal.rolls_back)}", ""
    return (" · fixes the cause", "") if proposal.fixes_cause else (" · does not fix the cause", "bold yellow")


def draw_change(change: Change, next_steps: bool = True) -> RenderableType:
    """Return what was written, and what can be typed next."""
    head = Text.assemble(
        ("✓ ", "bold green"),
        ("committed ", "bold"),
        (safe(change.commit[:12]), "bold cyan"),
        f" on {safe(change.branch)} of {safe(change.repository.name)}, approved by {safe(', '.join(change.approvers))}",
    )
    lines: list[RenderableType] = [head, Text.assemble(("  change ", "dim"), (safe(change.id), "bold cyan"))]
    if not next_steps:
        return Group(*lines)
    if change.rolls_back is None:
        lines.append(Text.assemble(("→ ", "bold cyan"), f"advisor verify {safe(change.id)}"))
    lines.append(Text.assemble(("→ ", "bold cyan"), f"advisor rollback {safe(change.id)} --as you@example.org"))
    return Group(*lines)


def draw_rollback(plan: RollbackPlan) -> RenderableType:
    """Return what a rollback would write."""
    proposal = plan.proposal
    lines: list[RenderableType] = [text(proposal.summary, "bold")]
    lines += [Text.assemble(("  ✓ ", "green"), safe(p), ("  as before, byte for byte", "dim")) for p in plan.restored]
    lines += [Text.assemble(("  ~ ", "yellow"), safe(p), ("  later edits stay in", "dim")) for p in plan.kept]
    lines += draw_patch(proposal)
    return Group(*lines)


def draw_verification(verification: Verification) -> RenderableType:
    """Return a verdict with what every check measured."""
    mark, style = _VERDICTS.get(verification.verdict.value, ("?", "yellow"))
    title = Text.assemble((f"{mark} verification {verification.verdict.value}", f"bold {style}"))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for result in verification.results:
        sign, colour = _VERDICTS.get(result.verdict.value, ("?", "yellow"))
        found = measured(result.measured, result.unit) if result.measured is not None else "not measured"
        line = Text.assemble((safe(result.name, 200), "bold"), f"  {found}")
        line.append(f", {words(result.comparison.value)} {measured(result.threshold, result.unit)} wanted", style="dim")
        if result.before is not None:
            line.append(f", {measured(result.before, result.unit)} before", style="dim")
        if result.verdict.value != "passed":
            line.append(f"\n{safe(result.reason, 400)}", style=colour)
        grid.add_row(Text(sign, style=f"bold {colour}"), line)
    window = f"{format_instant(verification.from_at)} to {format_instant(verification.until_at)}"
    parts: list[RenderableType] = [grid] if verification.results else [text(verification.reason)]
    parts.append(Padding(text(f"window {window}", "dim"), (0, 0, 0, 2)))
    panel = Panel(Group(*parts), title=title, title_align="left", border_style=style, padding=(0, 1))
    if verification.verdict.value != "failed":
        return panel
    hint = Text.assemble(("→ ", "bold cyan"), f"advisor rollback {safe(verification.change_id)} --as you@example.org")
    return Group(panel, hint)
