"""Listings: one row for each record, the columns that fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from advisor.terminal import safe, text
from advisor.terminal.words import moment, words
from advisor.values import format_instant

if TYPE_CHECKING:
    from advisor.audit import AuditEntry
    from advisor.change import Change
    from advisor.doctor import DoctorLine
    from advisor.playbook import Playbook
    from advisor.proposal import Proposal
    from advisor.workflow.rolling_back import Standing

_STATE_STYLES = {
    "proposed": "cyan",
    "granted": "cyan",
    "delivering": "yellow",
    "delivered": "green",
    "verifying": "yellow",
    "passed": "green",
    "failed": "red",
    "inconclusive": "yellow",
    "error": "red",
    "uncertain": "bold red",
    "conflict": "red",
    "refused": "red",
    "diagnosed": "red",
    "healthy": "green",
}


@dataclass(frozen=True)
class Column:
    """One column; shown from a width on, so that a narrow screen keeps what identifies and decides."""

    title: str
    style: str = ""
    from_width: int = 0
    grows: bool = False


def print_table(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[Text]], nothing: str) -> None:
    """Print a listing, or a sentence where it is empty."""
    shown = [i for i, column in enumerate(columns) if console.width >= column.from_width]
    table = Table(box=None, padding=(0, 1), header_style="dim", show_edge=False)
    for i in shown:
        column = columns[i]
        table.add_column(
            column.title,
            style=column.style,
            no_wrap=not column.grows,
            ratio=1 if column.grows else None,
            overflow="fold",
        )
    count = 0
    for row in rows:
        table.add_row(*(row[i] for i in shown))
        count += 1
    console.print(table if count else text(nothing, "dim"))


def _state(state: object) -> Text:
    return text(words(state), _STATE_STYLES.get(str(state), "dim"))


def print_incidents(console: Console, incidents: Sequence[Mapping[str, Any]]) -> None:
    """Print the investigations, newest first as they come."""
    columns = (
        Column("incident", "cyan"),
        Column("when (UTC)", "dim", 84),
        Column("service"),
        Column("outcome"),
        Column("proposals", "", 110),
        Column("what was found", grows=True),
    )
    rows = (
        (
            text(i.get("id", "")),
            text(moment(str(i.get("created_at", "")))),
            text(i.get("service", "")),
            _state(i.get("outcome", "")),
            text(", ".join(words(state) for state in i.get("proposals", ()))),
            text(i.get("summary", ""), characters_max=300),
        )
        for i in incidents
    )
    print_table(console, columns, rows, "no incident yet; `advisor investigate SERVICE` makes one")


def print_proposals(console: Console, proposals: Sequence[tuple[Proposal, str]]) -> None:
    """Print the proposals."""
    columns = (
        Column("proposal", "cyan"),
        Column("state"),
        Column("service", "", 84),
        Column("risk"),
        Column("expires (UTC)", "dim", 96),
        Column("what", grows=True),
    )
    rows = (
        (
            text(p.id),
            _state(state),
            text(p.service),
            text(p.risk.value),
            text(moment(format_instant(p.expires_at))),
            Text.assemble(
                safe(p.summary, 300), ("" if p.fixes_cause or p.rolls_back else "  does not fix the cause", "yellow")
            ),
        )
        for p, state in proposals
    )
    print_table(console, columns, rows, "no proposal yet")


def print_changes(console: Console, changes: Sequence[tuple[Change, str]]) -> None:
    """Print the changes."""
    columns = (
        Column("change", "cyan"),
        Column("state"),
        Column("when (UTC)", "dim", 84),
        Column("service"),
        Column("commit", "", 72),
        Column("what", "", 96),
        Column("approved by", grows=True),
    )
    rows = (
        (
            text(c.id),
            _state(state),
            text(moment(format_instant(c.at))),
            text(c.service),
            text(c.commit[:12]),
            text(f"takes back {c.rolls_back}" if c.rolls_back else "remedy"),
            text(", ".join(c.approvers) + (" (broken glass)" if c.break_glass else "")),
        )
        for c, state in changes
    )
    print_table(console, columns, rows, "no change yet")


_OUTLOOKS = {
    "exact": ("exactly", "green"),
    "kept": ("later edits stay", "yellow"),
    "collides": ("collides", "red"),
    "done": ("already without it", "dim"),
    "unknown": ("not known", "yellow"),
}


def print_standing(console: Console, standing: Sequence[Standing]) -> None:
    """Print what can be taken back, and how."""
    columns = (
        Column("change", "cyan"),
        Column("state"),
        Column("when (UTC)", "dim", 84),
        Column("service"),
        Column("what", "", 96),
        Column("taken back", "", 0),
        Column("in", grows=True),
    )
    rows = (
        (
            text(each.change.id),
            _state(each.state),
            text(moment(format_instant(each.change.at))),
            text(each.change.service),
            text(f"takes back {each.change.rolls_back}" if each.change.rolls_back else "remedy"),
            text(*_OUTLOOKS[each.outlook]),
            text(each.told, characters_max=300),
        )
        for each in standing
    )
    print_table(console, columns, rows, "no change stands on a branch: there is nothing to take back")


def print_audit(console: Console, entries: Sequence[AuditEntry]) -> None:
    """Print audit entries."""
    columns = (
        Column("#", "dim"),
        Column("when (UTC)", "dim", 84),
        Column("who"),
        Column("did"),
        Column("to", grows=True),
        Column("hash", "dim", 120),
    )
    rows = (
        (
            text(e.sequence),
            text(moment(format_instant(e.at))),
            text(e.actor),
            text(e.action),
            text(e.subject),
            text(e.hash.removeprefix("sha256:")[:12]),
        )
        for e in entries
    )
    print_table(console, columns, rows, "the audit is empty")


def print_playbooks(console: Console, playbooks: Sequence[Playbook]) -> None:
    """Print the playbooks."""
    columns = (Column("playbook", "cyan"), Column("for", "", 84), Column("risk", "", 72), Column("title", grows=True))
    rows = (
        (text(p.name), text(", ".join(words(s) for s in p.symptoms)), text(p.risk.value), text(p.title))
        for p in playbooks
    )
    print_table(console, columns, rows, "no playbook found")


def print_playbook(console: Console, playbook: Playbook) -> None:
    """Print one playbook."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row("symptoms", text(", ".join(words(s) for s in playbook.symptoms)))
    grid.add_row("needs", text(", ".join(playbook.required_sources)))
    grid.add_row("may propose", text(", ".join(words(a.value) for a in playbook.allowed_actions)))
    for number, (role, names) in enumerate(playbook.metrics.items()):
        grid.add_row("" if number else "metrics", text(f"{role}: {', '.join(names)}"))
    for number, (remedy, why) in enumerate(playbook.refused_remedies.items()):
        grid.add_row("" if number else "would not fix", Text.assemble((words(remedy), "bold"), f"  {safe(why)}"))
    parts: list[RenderableType] = [text(f"{playbook.name}: {playbook.title}", "bold")]
    if playbook.explanation:
        parts.append(text(" ".join(playbook.explanation.split())))
    console.print(Group(*parts, grid))


def print_doctor(console: Console, lines: Sequence[DoctorLine]) -> None:
    """Print what was checked, and for what is wrong what to do."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for line in lines:
        mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[line.ok]
        told = Text(safe(line.detail, 500))
        told.append(f"  {line.seconds:.1f} s" if line.seconds >= 0.1 else "", style="dim")
        if line.hint and not line.ok:
            told.append(f"\n→ {safe(line.hint, 500)}", style="cyan" if line.ok is False else "dim")
        grid.add_row(Text(mark, style=f"bold {style}"), text(line.name, "bold"), told)
    console.print(grid)
