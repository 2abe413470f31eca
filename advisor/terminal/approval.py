"""What a person is asked to agree to, in full.

Everything that the digest binds and a person can judge is here; nothing is shortened but by the width of the screen.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from advisor.playbook import VITAL_SIGNS
from advisor.proposal import Proposal
from advisor.proposal.patch import has_odd_characters
from advisor.terminal import safe, text
from advisor.terminal.diff import Diff
from advisor.terminal.words import measured, words
from advisor.values import Risk, format_instant, format_seconds

if TYPE_CHECKING:
    from advisor.workflow.proofs import Proof

_FOUND = {"verified": ("✓", "green"), "refused": ("✗", "red"), "open": ("?", "yellow")}
_RISK_STYLES = {Risk.LOW: "green", Risk.MEDIUM: "yellow", Risk.HIGH: "red"}


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
        grid.add_row("", text(VITAL_SIGNS, "dim"))
    grid.add_row("expires", text(f"{format_instant(proposal.expires_at)}, {life}", "" if left > 0 else "bold red"))
    grid.add_row("proposed by", text(proposal.proposer))
    grid.add_row("digest", text(proposal.digest))
    for warning in proposal.warnings:
        grid.add_row(Text("warning", style="bold yellow"), text(warning, "yellow"))
    title = Text.assemble(("Proposal ", "bold"), (safe(proposal.id), "bold cyan"), f" · {words(state)}")
    parts: list[RenderableType] = [Panel(grid, title=title, title_align="left", border_style="cyan", padding=(0, 1))]
    parts += draw_patch(proposal)
    return Group(*parts)


def draw_break_glass(person: str, reason: str, minutes: int) -> RenderableType:
    """Return the warning before somebody makes a change alone."""
    told = Text.assemble(
        (safe(person, 80), "bold"),
        " makes this change alone: no second person is asked, and a freeze does not hold it. It is on record for good,"
        f" as a broken glass, with the reason. The approval dies after {minutes} minutes.\n",
        ("reason  ", "dim"),
        safe(reason, 2000),
    )
    return Panel(told, title=Text("Breaking the glass", style="bold red"), title_align="left", border_style="red")


def draw_proof(proof: Proof) -> RenderableType:
    """Return what was verified of the approvals in a bundle, line by line."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    last = None
    for line in proof.lines:
        if line.proposal != last:
            grid.add_row("", Text.assemble(("proposal ", "bold"), (safe(line.proposal, 80), "bold cyan")))
            last = line.proposal
        sign, colour = _FOUND[line.verdict.value]
        told = Text.assemble((safe(line.what, 300), ""), (f"\n{safe(line.detail, 600)}", "dim"))
        grid.add_row(Text(sign, style=f"bold {colour}"), told)
    end = Text.assemble(
        ("✓ verified", "bold green") if proof.verified else ("✗ not verified", "bold red"),
        (f"  keys of people from {safe(proof.keys_from, 200)}", "dim"),
    )
    return Group(grid, end)


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
