"""Commands with which a person decides: proposals, approve, break-glass, deny, and verify-approval to prove it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    AsOption,
    CommentOption,
    ConfigOption,
    JsonOption,
    Stopped,
    app,
    ask,
    can_ask,
    command,
    console_for,
    open_to_change,
    open_workflow,
    person_of,
    write_json,
)
from advisor.cli.signing import SignatureOption, SignWithOption, StatementOption, signer_of, write_statement
from advisor.errors import ApprovalMissing, SettingsInvalid

if TYPE_CHECKING:
    from rich.console import Console

    from advisor.proposal import Proposal
    from advisor.workflow import Approved

REFUSED = 4
DIGEST_CHARACTERS_MIN = 8  # of the hexadecimal digits; fewer could be guessed or met by chance


@app.command()
@command
def proposals(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the proposals and where each stands."""
    found = open_workflow(config).proposals()
    if as_json:
        return write_json([{**p.model_dump(mode="json"), "state": state} for p, state in found])
    from advisor.terminal.tables import print_proposals

    print_proposals(console_for(), found)


@app.command()
@command
def approve(
    proposal: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="PROPOSAL")],
    person: AsOption = None,
    comment: CommentOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    digest: Annotated[
        str | None, typer.Option(help="Approve only if the digest begins so.", metavar="PREFIX", show_default=False)
    ] = None,
    rollback_on_failure: Annotated[
        bool, typer.Option("--rollback-on-failure", help="Allow the rollback if verification fails.")
    ] = False,
    sign_with: SignWithOption = None,
    signature: SignatureOption = None,
    print_statement: StatementOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show an exact change, and make it if you agree."""
    from advisor.terminal import approval as screen

    who = person_of(person)
    if print_statement:
        return _print_statement(config, proposal, who, "approve", comment, rollback_on_failure)
    sign = signer_of(sign_with, signature)
    workflow = open_to_change(config, proposal)
    found, state = workflow.proposal(proposal)
    console = console_for(to_stderr=as_json)
    console.print(screen.draw_proposal(found, state, workflow.clock()))
    _check_digest(found, digest)
    if not yes:
        _confirm(console, found, who)
    Stopped.message = "stopped in the middle of approving; `advisor changes` says whether the change was made"
    _show(workflow.approve(found.id, who, comment, found.digest, rollback_on_failure, sign), console, as_json)


def _show(approved: Approved, console: Console, as_json: bool) -> None:
    """Say what an approval led to."""
    from advisor.terminal import changes

    found = approved.proposal
    if as_json:
        document = {
            "schema": "advisor.approval/v1",
            "proposal": found.id,
            "digest": found.digest,
            "people": list(approved.people),
            "needed": approved.needed,
            "change": approved.change.model_dump(mode="json") if approved.change else None,
            "waiting": approved.waiting,
        }
        return write_json(document)
    if approved.change is None:
        from advisor.terminal import text

        told = f"{len(approved.people)} of {approved.needed} people approved ({', '.join(approved.people)}); nothing is changed yet"
        console.print(text(told, "yellow"))
        console.print(text(f"→ another person: advisor approve {found.id} --as colleague@example.org"))
        return
    Stopped.message = f"stopped after change {approved.change.id} was {'offered' if approved.waiting else 'made'}"
    console.print(changes.draw_change(approved.change, waiting=approved.waiting))


def _check_digest(proposal: Proposal, prefix: str | None) -> None:
    if prefix is None:
        return
    wanted = prefix.strip().lower().removeprefix("sha256:")
    if len(wanted) < DIGEST_CHARACTERS_MIN:
        raise SettingsInvalid(f"--digest {prefix!r}: at least {DIGEST_CHARACTERS_MIN} characters of it are wanted")
    if not proposal.digest.removeprefix("sha256:").startswith(wanted):
        raise ApprovalMissing(f"proposal {proposal.id} has another digest than --digest says; nothing was changed")


def _confirm(console: Console, proposal: Proposal, person: str, always_service: bool = False) -> None:
    """Ask for the word that means yes: harder to type by habit where more can go wrong.

    Raises:
        SettingsInvalid: Nobody can be asked.
        ApprovalMissing: Another word was typed.
    """
    from advisor.values import Risk

    if not can_ask(console):
        raise SettingsInvalid(
            f"proposal {proposal.id}: nobody can be asked here (not a terminal); --yes says yes; nothing was changed"
        )
    word = "yes" if proposal.risk is Risk.LOW and not always_service else proposal.service
    told = f"the name of the service ({word})" if word != "yes" else "yes"
    from advisor.terminal import safe

    answer = ask(console, f"As {safe(person, 80)}: type {safe(told, 120)} to make exactly this change:")
    if answer != word:
        raise ApprovalMissing(f"proposal {proposal.id}: not approved; nothing was changed")


@app.command("break-glass")
@command
def break_glass(
    proposal: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="PROPOSAL")],
    reason: Annotated[
        str, typer.Option(help="Why it cannot wait for the usual people or for the end of a freeze.", metavar="TEXT")
    ],
    person: AsOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    digest: Annotated[
        str | None, typer.Option(help="Only if the digest begins so.", metavar="PREFIX", show_default=False)
    ] = None,
    sign_with: SignWithOption = None,
    signature: SignatureOption = None,
    print_statement: StatementOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a change alone, in an emergency: only listed people, with a reason, on record for good."""
    from advisor.terminal import approval as screen

    who = person_of(person)
    if print_statement:
        return _print_statement(config, proposal, who, "approve", reason, broken=True)
    sign = signer_of(sign_with, signature)
    workflow = open_to_change(config, proposal)
    found, state = workflow.proposal(proposal)
    console = console_for(to_stderr=as_json)
    console.print(screen.draw_proposal(found, state, workflow.clock()))
    console.print(screen.draw_break_glass(who, reason, workflow.settings.approval.break_glass.minutes))
    _check_digest(found, digest)
    if not yes:
        _confirm(console, found, who, always_service=True)
    Stopped.message = "stopped in the middle of breaking the glass; `advisor changes` says whether the change was made"
    _show(workflow.break_glass(found.id, who, reason, found.digest, sign), console, as_json)


def _print_statement(
    config: Path,
    proposal_id: str,
    person: str,
    choice: str,
    comment: str,
    rollback_on_failure: bool = False,
    broken: bool = False,
) -> None:
    """Print exactly the bytes that a signature of this answer is made over."""
    from advisor.approval import Choice, principal, statement_of

    workflow = open_workflow(config)
    found, _state = workflow.proposal(proposal_id)
    answer = workflow.answer(found, person, Choice(choice), comment, found.digest, rollback_on_failure, broken)
    write_statement(statement_of(found, answer, principal(person)))


@app.command("verify-approval")
@command
def verify_approval(
    bundle: Annotated[Path, typer.Argument(help="A file that `export` wrote.", metavar="BUNDLE")],
    key: Annotated[
        Path | None, typer.Option(help="The server's signing key, if you have it.", metavar="FILE", show_default=False)
    ] = None,
    allowed_signers: Annotated[
        Path | None,
        typer.Option(
            "--allowed-signers",
            help="Keys of people from a place that you trust, in ssh-keygen's format.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Prove, offline and without settings, who approved what in an exported bundle."""
    from advisor.workflow.proofs import verify_bundle

    proof = verify_bundle(bundle, key, allowed_signers)
    if as_json:
        write_json({"schema": "advisor.proof/v1", **proof.model_dump(mode="json")})
    else:
        from advisor.terminal.approval import draw_proof

        console_for().print(draw_proof(proof))
    return 0 if proof.verified else REFUSED


@app.command()
@command
def deny(
    proposal: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="PROPOSAL")],
    reason: Annotated[str, typer.Option(help="Why not; it is kept.", metavar="TEXT")],
    person: AsOption = None,
    sign_with: SignWithOption = None,
    signature: SignatureOption = None,
    print_statement: StatementOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Refuse a proposal for good."""
    who = person_of(person)
    if print_statement:
        return _print_statement(config, proposal, who, "deny", reason)
    sign = signer_of(sign_with, signature)
    denial = open_to_change(config, proposal).deny(proposal, who, reason, sign)
    if as_json:
        return write_json(denial.model_dump(mode="json"))
    from advisor.terminal import text

    console_for().print(text(f"proposal {denial.proposal_id} is denied by {denial.person}; nothing was changed"))
