"""Commands on what was changed: changes, verify, rollback."""

from __future__ import annotations

import contextlib
from pathlib import Path
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
    carry_on,
    command,
    console_for,
    person_of,
    write_json,
)
from advisor.cli.signing import SignWithOption, signer_of
from advisor.errors import SettingsInvalid, StoreUnavailable

if TYPE_CHECKING:
    from types import ModuleType

    from advisor.rollback.several import SeveralDone
    from advisor.workflow import Changing
    from advisor.workflow.deciding import Sign

REFUSED = 4
WAIT_SECONDS = 3  # after the end of a window, for its last scrape to arrive


@app.command()
@command
def changes(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the changes and what became of each."""
    found = _open(config).changes()
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
    from advisor.terminal.changes import draw_verification
    from advisor.terminal.live import following, waiting
    from advisor.verification import Verdict

    seconds = _seconds(window) if window is not None else None
    workflow = _open(config)
    carry_on(workflow)
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
    change: Annotated[
        str | None, typer.Argument(help="Its id, its commit, or the beginning of one of them.", metavar="CHANGE")
    ] = None,
    incident: Annotated[
        str | None, typer.Option(help="Take back all of its changes, the newest first.", metavar="ID")
    ] = None,
    person: AsOption = None,
    comment: CommentOption = "",
    preview: Annotated[bool, typer.Option("--preview", help="Show what would be written, and write nothing.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List what can be rolled back.")] = False,
    sign_with: SignWithOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> int | None:
    """Take a change back, or all of an incident, at once.

    The command is the approval, and of the exact inverse only.
    """
    if listing:
        _list_rollbacks(_open(config), as_json)
        return None
    if (change is None) == (incident is None):
        raise SettingsInvalid(
            "rollback: one change or --incident ID; `advisor rollback --list` shows the changes that stand"
        )
    who = None if preview else person_of(person)
    workflow = _open(config)
    if incident is not None:
        return _roll_back_incident(workflow, incident, who, comment, as_json, signer_of(sign_with))
    _roll_back(workflow, change or "", who, comment, as_json, signer_of(sign_with))
    return None


def _open(config: Path) -> Changing:
    """Return what a rollback needs of the workflow, and no more: it must not wait for what diagnoses are made with."""
    from advisor.settings import load_settings
    from advisor.workflow import Changing

    return Changing(load_settings(config))


def _carry_on(workflow: Changing, subject: str = "") -> None:
    with contextlib.suppress(StoreUnavailable):  # a change can be taken back without the records
        carry_on(workflow, subject)


def _roll_back(
    workflow: Changing, change: str, who: str | None, comment: str, as_json: bool, sign: Sign | None
) -> None:
    made = None
    if who is not None:
        _carry_on(workflow, change)
        Stopped.message = "stopped in the middle of the rollback; `advisor changes` says whether it was made"
        made = workflow.finish_rollback(change, who)
    if made is None:
        plan = workflow.plan_rollback(change)
        if not as_json:
            from advisor.terminal.changes import draw_rollback

            console_for().print(draw_rollback(plan))
        if who is None:
            return write_json(plan.model_dump(mode="json")) if as_json else None
        made = workflow.roll_back(plan.change_id, who, comment, plan, sign)
    Stopped.message = f"stopped after the rollback was made as change {made.id}"
    if as_json:
        return write_json(made.model_dump(mode="json"))
    from advisor.terminal.changes import draw_change

    console_for().print(draw_change(made, waiting=workflow.waiting_for_change(made)))


def _roll_back_incident(
    workflow: Changing, incident: str, who: str | None, comment: str, as_json: bool, sign: Sign | None
) -> int:
    from advisor.rollback.several import Stopped as Ended
    from advisor.terminal import changes as screen

    if who is not None:
        _carry_on(workflow)
    plan = workflow.plan_incident_rollback(incident)
    if not as_json:
        console_for().print(screen.draw_several(plan))
    if who is None:
        if as_json:
            write_json(plan.model_dump(mode="json"))
        return REFUSED if plan.left else 0
    Stopped.message = "stopped in the middle of the rollback; `advisor rollback --list` shows what still stands"
    try:
        outcome = workflow.roll_back_incident(plan, who, comment, sign)
    except Ended as ended:
        _show_done(ended.outcome, as_json, screen)
        raise
    _show_done(outcome, as_json, screen)
    return 0


def _show_done(outcome: SeveralDone, as_json: bool, screen: ModuleType) -> None:
    if as_json:
        write_json(outcome.model_dump(mode="json"))
    else:
        console_for().print(screen.draw_several_done(outcome))


def _list_rollbacks(workflow: Changing, as_json: bool) -> None:
    found = workflow.rollbacks()
    if as_json:
        return write_json(
            [
                {
                    **each.change.model_dump(mode="json"),
                    "state": each.state,
                    "rollback": each.outlook,
                    "detail": each.told,
                    "source": each.source,
                }
                for each in found
            ]
        )
    from advisor.terminal.tables import print_standing

    print_standing(console_for(), found)
