"""A rollback: the inverse of a change, as one more commit through the same gate.

`plan_rollback` takes the step from the change's base to its tree back on the present head: byte for byte
where nothing later touched, later edits elsewhere kept, refused by name where they collide. Nothing is
newly invented. The plan is a proposal like any other, so the person who asks for it is its approver, on
record, bound to its exact bytes; and as it becomes a change like any other, it can be rolled back as well.

It needs the repository and the records: no metrics, no model, no console. Pure; called by the workflow.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from advisor.approval import Answer, Approval, Choice, Rules, decide, grant
from advisor.change import Change, DeliveryRecords, DeliveryTarget, deliver
from advisor.errors import ApprovalMissing, ChangeConflict, ChangeRefused, SourceRefused
from advisor.playbook import Action, VerificationPlan
from advisor.proposal import (
    AUTHOR_EMAIL,
    AUTHOR_NAME,
    ChangeTarget,
    Draft,
    Guardrail,
    Proposal,
    parse_patch,
    render_diff,
    seal,
)
from advisor.values import ActionType, Record, Risk

ROLLBACK_MINUTES = 30  # the life of its proposal; the answer comes with it, so only a crash makes use of this


class RollbackTarget(ChangeTarget, DeliveryTarget, Protocol):
    """A repository in which a rollback can be made, rehearsed and delivered."""

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Return whether one commit is the other, or behind it."""
        ...


class RollbackRecords(DeliveryRecords, Protocol):
    """Where a rollback is kept, from its proposal on."""

    def begin_rollback(self, change: Change, proposal: Proposal, approval: Approval) -> None:
        """Record the proposal, its approval, and that the change is being rolled back, in one step."""
        ...


class RollbackPlan(Record):
    """What a rollback would write.

    Attributes:
        proposal: With ``rolls_back`` set; shown, approved and delivered as any other.
        restored: Files that get back exactly the bytes they had before the change.
        kept: Files that were edited since: those edits stay, the change's own lines are taken back.
    """

    change_id: str
    proposal: Proposal
    restored: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def plan_rollback(
    repository: RollbackTarget,
    change: Change,
    head: str,
    *,
    proposal_id: str,
    nonce: str,
    evidence_digest: str,
    policy_version: str,
    now: datetime,
    verification: VerificationPlan | None = None,
    redact: Callable[[str], str] | None = None,
) -> RollbackPlan:
    """Return what taking a change back would write on this head.

    Raises:
        ChangeConflict: Later commits touched the same lines, or the change is not on the branch; files and
            commits are named. Nothing was written.
        ChangeRefused: The branch is already without it.
    """
    if not _on_branch(repository, change, head):
        raise ChangeConflict(
            f"rollback of {change.id}: {change.commit[:12]} is not on {change.branch} ({head[:12]}); there is"
            " nothing to take back here"
        )
    tree = repository.apply_inverse(change.base, change.tree, head, since_commit=change.commit)
    patch = repository.diff(head, tree)
    if not patch:
        raise ChangeRefused(f"rollback of {change.id}: {change.branch} ({head[:12]}) is already without it")
    restored, kept = _check_restored(repository, change, head, tree)
    candidate = repository.commit_tree(tree, head, f"Candidate of {proposal_id}", AUTHOR_NAME, AUTHOR_EMAIL, now)
    forward = repository.apply_inverse(head, candidate, candidate)
    if repository.diff(head, forward):
        raise ChangeRefused(f"rollback of {change.id}: it could not be rolled back itself; not done")
    draft = Draft(
        incident_id=change.incident_id,
        service=change.service,
        action=Action(type=ActionType.REVERT_COMMIT, commit=change.commit, reason=f"Takes back change {change.id}."),
        risk=Risk.LOW,
        fixes_cause=False,
        summary=_summary(change, restored, kept),
        repository=change.repository,
        branch=change.branch,
        allowed_paths=(),
        evidence_digest=evidence_digest,
        policy_version=policy_version,
        verification=verification or VerificationPlan(),
        proposer="advisor:rollback",
        expires_minutes=ROLLBACK_MINUTES,
        rolls_back=change.id,
    )
    proposal = seal(
        draft,
        proposal_id,
        nonce,
        now,
        base=head,
        tree=tree,
        patch=patch,
        inverse=(forward, repository.diff(tree, forward)),
        guardrails=(Guardrail(name="recorded_inverse", passed=True, detail=f"the inverse of {change.commit}"),),
        shown=render_diff(patch, redact),
    )
    return RollbackPlan(change_id=change.id, proposal=proposal, restored=restored, kept=kept)


def roll_back(
    repository: RollbackTarget,
    records: RollbackRecords,
    change: Change,
    plan: RollbackPlan,
    *,
    person: str,
    rules: Rules,
    policy_version: str,
    now: datetime,
    key: bytes,
    role: str = "",
    comment: str = "",
) -> Change:
    """Return the change that takes another one back, after it stands on the branch.

    The person asking is the approver by that command: an allowed approver, recorded as an approval of the
    plan's digest before anything is written. One person is enough, whatever the risk of the change was.

    Raises:
        NotPermitted: This person may not.
        ChangeConflict: The branch moved on since the plan; plan again.
        ChangeError: As for any delivery.
    """
    answer = Answer(choice=Choice.APPROVE, digest=plan.proposal.digest, person=person, role=role, comment=comment)
    approval = decide(plan.proposal, answer, rules, policy_version, (), now, key)
    if not isinstance(approval, Approval):  # decide answers in kind; this is for the type checker and for -O
        raise ApprovalMissing(f"rollback of {change.id}: no approval was recorded")
    granted = grant(plan.proposal, (approval,), rules, policy_version, now, key)
    records.begin_rollback(change, plan.proposal, approval)
    return deliver(repository, records, plan.proposal, granted, now)


def _on_branch(repository: RollbackTarget, change: Change, head: str) -> bool:
    try:
        return repository.is_ancestor(change.commit, head)
    except SourceRefused:
        return False  # the repository does not know the commit: its history was rewritten


def _check_restored(
    repository: RollbackTarget, change: Change, head: str, tree: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    # The repository merged; here it is held to the promise: what nobody touched since is as it was, to the
    # byte.
    changed = {file.path for file in parse_patch(repository.diff(change.base, change.tree))}
    since = {file.path for file in parse_patch(repository.diff(change.tree, head))}
    result = {file.path for file in parse_patch(repository.diff(head, tree))}
    astray = sorted(result - changed)
    if not astray:
        left = {file.path for file in parse_patch(repository.diff(change.base, tree))}
        astray = sorted(left & (changed - since))
    if astray:
        raise ChangeConflict(
            f"rollback of {change.id}: {', '.join(astray[:5])} would not come back as it was; nothing was written"
        )
    return tuple(sorted(changed - since)), tuple(sorted(changed & since))


def _summary(change: Change, restored: tuple[str, ...], kept: tuple[str, ...]) -> str:
    text = f"Takes back change {change.id} ({change.commit[:12]})."
    if restored:
        text += f" Restored as before: {', '.join(restored[:5])}."
    if kept:
        text += f" Later edits kept in: {', '.join(kept[:5])}."
    return text
