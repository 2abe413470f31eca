"""The command with which a proposal is reviewed on a forge: review."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    AsOption,
    ConfigOption,
    JsonOption,
    Stopped,
    app,
    command,
    console_for,
    open_to_change,
    person_of,
    write_json,
)

if TYPE_CHECKING:
    from advisor.workflow.reviewing import Reviewed


@app.command()
@command
def review(
    proposal: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="PROPOSAL")],
    person: AsOption = None,
    take: Annotated[bool, typer.Option("--take", help="Only take the reviews that are there.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Open a proposal's pull request, and take its reviews as approvals."""
    who = person_of(person)
    workflow = open_to_change(config, proposal)
    Stopped.message = "stopped in the middle of a review; the main branch was not touched, repeat the command"
    if not take:
        workflow.offer_for_review(proposal, who)
    found = workflow.take_reviews(proposal)
    if as_json:
        change = found.approved.change
        return write_json(
            {
                "schema": "advisor.review/v1",
                "proposal": found.approved.proposal.id,
                "url": found.url,
                "people": list(found.approved.people),
                "needed": found.approved.needed,
                "passed_over": list(found.passed_over),
                "change": change.model_dump(mode="json") if change else None,
                "waiting": found.approved.waiting,
            }
        )
    _print(found)


def _print(found: Reviewed) -> None:
    from advisor.terminal import text

    console, approved = console_for(), found.approved
    console.print(text(found.url, "bold cyan"))
    for each in found.passed_over:
        console.print(text(f"does not count: {each}", "dim"))
    if approved.change is None:
        people = f" ({', '.join(approved.people)})" if approved.people else ""
        told = f"{len(approved.people)} of {approved.needed} people approved{people}; the main branch is not touched"
        console.print(text(told, "yellow"))
        console.print(text(f"→ after a review: advisor review {approved.proposal.id} --take --as you@example.org"))
    elif approved.waiting:
        console.print(text(f"change {approved.change.id}: {approved.waiting}", "yellow"))
        console.print(text(f"→ advisor verify {approved.change.id}"))
    else:
        console.print(text(f"change {approved.change.id} is on {approved.change.branch}", "green"))
        console.print(text(f"→ advisor verify {approved.change.id}"))
