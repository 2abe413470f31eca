"""Commands to begin with: demo, init, doctor."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    Stopped,
    SvgOption,
    agreed,
    app,
    can_ask,
    command,
    console_for,
    finish_svg,
    open_workflow,
    write_json,
)
from advisor.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from advisor.demo import DemoSession


@app.command()
@command
def demo(
    directory: Annotated[
        Path | None,
        typer.Option(help="Where the demo's repository and records go, and stay.", metavar="DIR", show_default=False),
    ] = None,
    svg: SvgOption = None,
) -> None:
    """Take a recorded incident through the whole loop."""
    with _demo_folder(directory) as folder:
        from advisor.demo import open_demo

        console = console_for(svg)
        _run_demo(console, open_demo(folder), svg)


@app.command()
@command
def init(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Write settings to begin with."""
    from advisor.workflow import write_example_settings

    write_example_settings(config)
    sys.stdout.write(f"{config} written; edit it, then: advisor doctor\n")


@app.command()
@command
def doctor(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> int:
    """Ask each configured part whether it answers."""
    from dataclasses import asdict

    from advisor.doctor import examine

    lines = examine(open_workflow(config))
    if as_json:
        write_json([asdict(line) for line in lines])
    else:
        from advisor.terminal.tables import print_doctor

        print_doctor(console_for(), lines)
    return 1 if any(line.ok is False for line in lines) else 0


@contextlib.contextmanager
def _demo_folder(directory: Path | None) -> Iterator[Path]:
    """Yield a folder for the demo: an empty one of the person's choice, or one that is gone afterwards."""
    if directory is not None:
        if directory.exists() and any(directory.iterdir()):
            raise SettingsInvalid(f"--directory {directory}: not empty; the demo wants a folder of its own")
        yield directory.resolve()
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="advisor-demo-") as temporary:
        yield Path(temporary) / "demo"


def _run_demo(console: Console, session: DemoSession, svg: Path | None) -> None:
    from advisor.terminal import approval as screen
    from advisor.terminal import changes, text
    from advisor.terminal.live import following
    from advisor.terminal.report import print_investigation

    console.print(text(session.story, "italic"))
    console.print()
    with following() as progress:
        found = session.replay.investigate(progress, keep=True)
    print_investigation(console, found)
    ready = next((p for p in found.proposals if p.changes_something), None)
    if svg is not None:
        finish_svg(console, svg, "advisor demo")
    console.print()
    if ready is None:
        console.print(text("There is nothing to propose: nothing was changed.", "bold"))
        return
    if not can_ask(console):
        console.print(
            text("Stopped at the approval: nothing was changed. At a terminal the demo goes on from here.", "bold")
        )
        return
    session.advance("approve")
    console.print(screen.draw_proposal(ready, "proposed", session.workflow.clock()))
    if not agreed(console, f"As {session.person}: apply exactly this change? [y/N]"):
        console.print(text("Not approved: nothing was changed.", "bold"))
        return
    Stopped.message = "stopped; only the demo's own repository may have changed"
    change = session.workflow.approve(ready.id, session.person, "demo", ready.digest).change
    if change is None:
        console.print(text("Another person would have to approve as well: nothing was changed.", "bold"))
        return
    console.print(changes.draw_change(change, next_steps=False))
    session.advance("verify")
    console.print(changes.draw_verification(session.workflow.verify(change.id)))
    if agreed(console, "Roll it back? [y/N]"):
        session.advance("rollback")
        plan = session.workflow.plan_rollback(change.id)
        console.print(changes.draw_rollback(plan))
        made = session.workflow.roll_back(change.id, session.person, "demo", plan)
        console.print(changes.draw_change(made, next_steps=False))
    console.print()
    console.print(text("What git has of it", "bold underline"))
    for line in session.history().splitlines():
        console.print(text(f"  {line}"))
