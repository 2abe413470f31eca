"""Commands on what was changed: changes, verify, rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    INCONCLUSIVE,
    AsOption,
    CommentOption,
    ConfigOption,
    JsonOption,
    Stopped,
    app,
    command,
    console_for,
    open_to_change,
    open_workflow,
    person_of,
    write_json,
)
from advisor.errors import SettingsInvalid

if TYPE_CHECKING:
    from advisor.workflow import Workflow

WAIT_SECONDS = 3  # after the end of a window, for its last scrape to arrive


@app.command()
@command
def changes(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the changes and what became of each."""
    found = open_workflow(config).changes()
    if as_json:
        return write_json([{**c.model_dump(mode="json"), "state": state} for c, state in found])
    from advisor.terminal.tables import print_changes

    print_changes(console_for(), found)


@app.command()
@command
def verify(
    change: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="CHANGE")],
    window: Annotated[
        str | None, typer.Option(help="How long is looked at, such as 60s or 10m.", metavar="TIME", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the window is over.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> int:
    """Say whether the service recovered after a change."""
    from advisor.terminal.approval import draw_verification
    from advisor.terminal.live import following, waiting
    from advisor.verification import Verdict

    seconds = _seconds(window) if window is not None else None
    workflow = open_to_change(config)
    Stopped.message = "stopped; the configuration was not touched, `advisor verify` can be repeated"
    with following(quiet=as_json) as progress:
        found = workflow.verify(change, seconds, progress)
    left = (found.until_at - workflow.clock()).total_seconds()
    if wait and left > 0:
        waiting(left + WAIT_SECONDS, found.verdict.value, quiet=as_json)
        with following(quiet=as_json) as progress:
            found = workflow.verify(change, seconds, progress)
    if as_json:
        write_json(found.model_dump(mode="json"))
    else:
        console_for().print(draw_verification(found))
    return {Verdict.PASSED: 0, Verdict.INCONCLUSIVE: INCONCLUSIVE}.get(found.verdict, 1)


def _seconds(text: str) -> int:
    """Return a duration such as ``90``, ``60s``, ``10m`` or ``1h`` in seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    word = text.strip().lower()
    number, unit = (word[:-1], units[word[-1]]) if word[-1:] in units else (word, 1)
    if not (number.isascii() and number.isdigit() and 0 < len(number) <= 6) or not 10 <= int(number) * unit <= 86400:
        raise SettingsInvalid(f"--window {text[:40]!r}: write a time from 10s to 24h, such as 60s or 10m")
    return int(number) * unit


@app.command()
@command
def rollback(
    change: Annotated[str | None, typer.Argument(help="Its id, or the beginning of it.", metavar="CHANGE")] = None,
    person: AsOption = None,
    comment: CommentOption = "",
    preview: Annotated[bool, typer.Option("--preview", help="Show what would be written, and write nothing.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List what can be rolled back.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take a change back, at once.

    The command is the approval, and of the exact inverse only.
    """
    from advisor.terminal import approval as screen

    if listing:
        return _list_rollbacks(open_workflow(config), as_json)
    if change is None:
        raise SettingsInvalid("rollback: which change? `advisor rollback --list` shows those that stand")
    who = None if preview else person_of(person)
    workflow = open_workflow(config) if who is None else open_to_change(config, change)
    made = None
    if who is not None:
        Stopped.message = "stopped in the middle of the rollback; `advisor changes` says whether it was made"
        made = workflow.finish_rollback(change, who)
    if made is None:
        plan = workflow.plan_rollback(change)
        if not as_json:
            console_for().print(screen.draw_rollback(plan))
        if who is None:
            return write_json(plan.model_dump(mode="json")) if as_json else None
        made = workflow.roll_back(plan.change_id, who, comment, plan)
    Stopped.message = f"stopped after the rollback was made as change {made.id}"
    if as_json:
        return write_json(made.model_dump(mode="json"))
    console_for().print(screen.draw_change(made))


def _list_rollbacks(workflow: Workflow, as_json: bool) -> None:
    from advisor.lifecycle import ON_BRANCH

    standing = {state.value for state in ON_BRANCH}
    found = [(c, state) for c, state in workflow.changes() if state in standing]
    if as_json:
        return write_json([{**c.model_dump(mode="json"), "state": state} for c, state in found])
    from advisor.terminal.tables import print_changes

    print_changes(console_for(), found)
