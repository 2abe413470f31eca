"""A rollback: the inverse of a change, as one more commit through the same gate.

`plan_rollback` takes the step from the change's base to its tree back on the present head: byte for byte
where nothing later touched, later edits elsewhere kept, refused by name where they collide. Nothing is
newly invented. The plan is a proposal like any other, so the person who asks for it is its approver, on
record, bound to its exact bytes; and as it becomes a change like any other, it can be rolled back as well.

It needs the repository and what is known of the change: no metrics, no model, no console. What is known comes from
the records, or where those are lost from the undo journal or the history (`undo`). The changes of an incident are
taken back together (`several`). Pure; called by the workflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from advisor.approval import Answer, Approval, Choice, Rules, decide, grant, principal, statement_of
from advisor.change import PUSH_ROUTE, Change, DeliveryRecords, DeliveryTarget, Route, deliver
from advisor.errors import ApprovalMissing, ChangeCollision, ChangeConflict, ChangeRefused, SourceRefused, one_line
from advisor.playbook import Action, VerificationPlan
from advisor.proposal import (
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
_NAMED_MAX = 5


class RollbackTarget(ChangeTarget, DeliveryTarget, Protocol):
    """A repository in which a rollback can be made, rehearsed and delivered."""

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Return whether one commit is the other, or behind it."""
        ...

    def equal_paths(self, one: str, other: str, paths: Iterable[str]) -> frozenset[str]:
        """Return those of the paths at which two commits or trees have the same, or both nothing."""
        ...


class RollbackRecords(DeliveryRecords, Protocol):
    """Where a rollback is kept, from its proposal on."""

    def begin_rollback(self, change: Change, proposal: Proposal, approval: Approval) -> None:
        """Record the proposal, its approval, and that the change is being rolled back, in one step."""
        ...


class Step(NamedTuple):
    """The two trees of a change, where they do not come from its own commits.

    Attributes:
        before: As it was before the change, or the head with the change's files as before it.
        after: As the change left it, likewise.
        words: Where they come from; the approver is shown it.
    """

    before: str
    after: str
    words: str


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
    step: Step | None = None,
    ours: Callable[[], Mapping[str, str]] | None = None,
    warnings: tuple[str, ...] = (),
) -> RollbackPlan:
    """Return what taking a change back would write on this head.

    Args:
        repository: Where the change stands.
        change: What is taken back.
        head: Of the branch; the plan is bound to it.
        proposal_id: Of the plan's proposal.
        nonce: Chance.
        evidence_digest: Of what the change rested on.
        policy_version: Of the approval rules.
        now: Of the server.
        verification: What was watched after the change.
        redact: Hides secrets in what is shown.
        step: The change's trees, where its commits are gone; it need not be in the branch's history then.
        ours: Gives our changes by their commits, to name commands in a refusal.
        warnings: Shown to the approver, bound by the digest.

    Raises:
        ChangeCollision: Later commits touched the same lines; files, commits and the choices left are named.
        ChangeConflict: The change is not on the branch. Nothing was written.
        ChangeRefused: The branch is already without it.
    """
    if step is None and not _on_branch(repository, change, head):
        raise ChangeConflict(
            f"rollback of {change.id}: {change.commit[:12]} is not on {change.branch} ({head[:12]}); there is"
            " nothing to take back here"
        )
    before, after, words = step or Step(change.base, change.tree, "")
    try:
        tree = repository.apply_inverse(before, after, head, since_commit=change.commit)
    except ChangeCollision as collision:
        raise _with_choices(change, collision, ours() if ours is not None else {}) from collision
    patch = repository.diff(head, tree)
    if not patch:
        raise ChangeRefused(f"rollback of {change.id}: {change.branch} ({head[:12]}) is already without it")
    restored, kept = _check_restored(repository, change, before, after, head, tree)
    forward = repository.apply_inverse(head, tree, tree)
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
        warnings=(*((words,) if words else ()), *warnings),
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
    sign: Callable[[bytes], str] | None = None,
    standing: str = "",
    route: Route = PUSH_ROUTE,
) -> Change:
    """Return the change that takes another one back, after it stands on the branch.

    The person asking is the approver by that command: an allowed approver, recorded as an approval of the
    plan's digest before anything is written. One person is enough, whatever the risk of the change was.

    Raises:
        NotPermitted: This person may not.
        ChangeConflict: The branch moved on since the plan; plan again.
        ChangeError: As for any delivery.
    """
    answer = Answer(
        choice=Choice.APPROVE,
        digest=plan.proposal.digest,
        person=person,
        role=role,
        comment=comment,
        standing=standing,
    )
    if sign is not None:
        signature = sign(statement_of(plan.proposal, answer, principal(person)))
        answer = Answer.model_validate({**answer.model_dump(), "signature": signature})
    approval = decide(plan.proposal, answer, rules, policy_version, (), now, key)
    if not isinstance(approval, Approval):  # decide answers in kind; this is for the type checker and for -O
        raise ApprovalMissing(f"rollback of {change.id}: no approval was recorded")
    granted = grant(plan.proposal, (approval,), rules, policy_version, now, key)
    records.begin_rollback(change, plan.proposal, approval)
    return deliver(repository, records, plan.proposal, granted, now, route)


def _on_branch(repository: RollbackTarget, change: Change, head: str) -> bool:
    try:
        return repository.is_ancestor(change.commit, head)
    except SourceRefused:
        return False  # the repository does not know the commit: its history was rewritten


def _with_choices(change: Change, collision: ChangeCollision, ours: Mapping[str, str]) -> ChangeCollision:
    """Return a refusal that names files and commits, and says what can be done: in which order, by which command."""
    paths = ", ".join(one_line(path, 80) for path in collision.paths[:_NAMED_MAX])
    more = ", …" if len(collision.paths) > _NAMED_MAX else ""
    commits = collision.commits[:_NAMED_MAX]
    told = ", ".join(f"{commit[:10]} ({subject}, {author})" for commit, subject, author in commits)
    first = ", then ".join(
        f"`advisor rollback {ours[commit]}`" if commit in ours else f"`git revert {commit[:10]}`"
        for commit, _subject, _author in commits
    )
    choice = f"take back first: {first}; or edit by hand" if first else "edit by hand"
    message = (
        f"rollback of {change.id}: {paths}{more} changed on the same lines since, by {told or 'an unknown commit'};"
        f" nothing was written; {choice}"
    )
    return ChangeCollision(message, collision.paths, collision.commits)


def _check_restored(
    repository: RollbackTarget, change: Change, before: str, after: str, head: str, tree: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    # The repository merged; here it is held to the promise: what nobody touched since is as it was, to the
    # byte.
    changed = {file.path for file in parse_patch(repository.diff(before, after))}
    result = {file.path for file in parse_patch(repository.diff(head, tree))}
    untouched = repository.equal_paths(after, head, changed)
    astray = sorted(result - changed) or sorted(untouched - repository.equal_paths(before, tree, changed))
    if astray:
        raise ChangeConflict(
            f"rollback of {change.id}: {', '.join(astray[:5])} would not come back as it was; nothing was written"
        )
    return tuple(sorted(untouched)), tuple(sorted(changed - untouched))


def _summary(change: Change, restored: tuple[str, ...], kept: tuple[str, ...]) -> str:
    text = f"Takes back change {change.id} ({change.commit[:12]})."
    if restored:
        text += f" Restored as before: {', '.join(restored[:5])}."
    if kept:
        text += f" Later edits kept in: {', '.join(kept[:5])}."
    return text
