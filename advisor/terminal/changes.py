"""What was written, what a rollback would write, and what was measured afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from advisor.terminal import safe, text
from advisor.terminal.approval import draw_patch
from advisor.terminal.words import measured, words
from advisor.values import format_instant

if TYPE_CHECKING:
    from advisor.change import Change
    from advisor.rollback import RollbackPlan
    from advisor.rollback.several import Left, SeveralDone, SeveralPlan
    from advisor.verification import CheckResult, Verification

_VERDICTS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "red"),
    "inconclusive": ("?", "yellow"),
    "error": ("!", "red"),
}


def draw_change(change: Change, next_steps: bool = True, waiting: str = "") -> RenderableType:
    """Return what was written, and what can be typed next; or what an offered change waits for."""
    if waiting:
        return _draw_offer(change, waiting)
    head = Text.assemble(
        ("✓ ", "bold green"),
        ("committed ", "bold"),
        (safe(change.commit[:12]), "bold cyan"),
        f" on {safe(change.branch)} of {safe(change.repository.name)}, approved by {safe(', '.join(change.approvers))}",
    )
    lines: list[RenderableType] = [head, Text.assemble(("  change ", "dim"), (safe(change.id), "bold cyan"))]
    if change.break_glass:
        lines.append(Text.assemble(("  broken glass ", "bold red"), safe(change.break_glass, 300)))
    if not next_steps:
        return Group(*lines)
    if change.rolls_back is None:
        lines.append(Text.assemble(("→ ", "bold cyan"), f"advisor verify {safe(change.id)}"))
    lines.append(Text.assemble(("→ ", "bold cyan"), f"advisor rollback {safe(change.id)} --as you@example.org"))
    return Group(*lines)


def _draw_offer(change: Change, waiting: str) -> RenderableType:
    head = Text.assemble(
        ("… ", "bold yellow"),
        ("offered ", "bold"),
        (safe(change.commit[:12]), "bold cyan"),
        f" to {safe(change.branch)} of {safe(change.repository.name)}, which is not touched yet",
    )
    return Group(
        head,
        Text.assemble(("  change ", "dim"), (safe(change.id), "bold cyan")),
        Text.assemble("  ", (safe(waiting, 600), "yellow")),
        Text.assemble(("→ ", "bold cyan"), f"once it is merged: advisor verify {safe(change.id)}"),
    )


def draw_rollback(plan: RollbackPlan) -> RenderableType:
    """Return what a rollback would write."""
    proposal = plan.proposal
    lines: list[RenderableType] = [text(proposal.summary, "bold")]
    lines += [Text.assemble(("  ✓ ", "green"), safe(p), ("  as before, byte for byte", "dim")) for p in plan.restored]
    lines += [Text.assemble(("  ~ ", "yellow"), safe(p), ("  later edits stay in", "dim")) for p in plan.kept]
    lines += [Text.assemble(("  ! ", "bold yellow"), (safe(w, 400), "yellow")) for w in proposal.warnings]
    lines += draw_patch(proposal)
    return Group(*lines)


def draw_several(plan: SeveralPlan) -> RenderableType:
    """Return what taking back an incident's changes would write, in that order, and what stands in the way."""
    total = len(plan.changes)
    parts: list[RenderableType] = [
        text(f"Incident {plan.incident_id}: {total} change{'s' if total != 1 else ''}, the newest first", "bold")
    ]
    for number, each in enumerate(plan.plans, start=1):
        parts += [Text(), Text(f"{number} of {total}", style="bold cyan"), draw_rollback(each)]
    parts += _left(plan.left)
    return Group(*parts)


def draw_several_done(outcome: SeveralDone) -> RenderableType:
    """Return what was taken back and what was not."""
    parts = [draw_change(change) for change in outcome.done]
    return Group(*parts, *_left(outcome.left))


def _left(left: Sequence[Left]) -> list[RenderableType]:
    return [
        Text.assemble(("✗ ", "bold red"), (safe(each.change_id), "bold"), f"  {safe(each.reason, 600)}")
        for each in left
    ]


def draw_verification(verification: Verification) -> RenderableType:
    """Return a verdict with what every check measured."""
    mark, style = _VERDICTS.get(verification.verdict.value, ("?", "yellow"))
    title = Text.assemble((f"{mark} verification {verification.verdict.value}", f"bold {style}"))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for result in verification.results:
        sign, colour = _VERDICTS.get(result.verdict.value, ("?", "yellow"))
        grid.add_row(Text(sign, style=f"bold {colour}"), _result(result, colour))
    window = f"{format_instant(verification.from_at)} to {format_instant(verification.until_at)}"
    parts: list[RenderableType] = [grid] if verification.results else [text(verification.reason)]
    parts.append(Padding(text(f"window {window}", "dim"), (0, 0, 0, 2)))
    panel = Panel(Group(*parts), title=title, title_align="left", border_style=style, padding=(0, 1))
    if verification.verdict.value != "failed":
        return panel
    hint = Text.assemble(("→ ", "bold cyan"), f"advisor rollback {safe(verification.change_id)} --as you@example.org")
    return Group(panel, hint)


def _result(result: CheckResult, colour: str) -> Text:
    found = measured(result.measured, result.unit) if result.measured is not None else "not measured"
    line = Text.assemble((safe(result.name, 200), "bold"), f"  {found}")
    line.append(f", {words(result.comparison.value)} {measured(result.threshold, result.unit)} wanted", style="dim")
    if result.before is not None:
        line.append(f", {measured(result.before, result.unit)} before", style="dim")
    if result.verdict.value != "passed":
        line.append(f"\n{safe(result.reason, 400)}", style=colour)
    return line
