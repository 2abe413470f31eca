"""A change: the approved bytes onto the approved base, exactly once.

The commit is a function of proposal and grant: same tree, same parent, same message, same time (that of the
deciding approval), so a repeat after a crash makes the same commit id and finds the first one already
there. Delivery is a compare-and-swap on the branch; the intent is on record before it and the outcome after
it. `reconcile` finishes what a crash left in the middle.

Nothing is decided here: a `Grant` is the only key. No clock and no client; the repository and the records
are reached through the two protocols below, which the git adapter and the store fulfil.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from advisor.approval import Grant, check_alive
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMismatch,
    ChangeConflict,
    ChangeError,
    ChangeRefused,
    ChangeUncertain,
    one_line,
)
from advisor.proposal import AUTHOR_EMAIL, AUTHOR_NAME, Proposal, RepositoryName, digest_of
from advisor.values import ActionType, Instant, Record, digest

SUBJECT_CHARACTERS_MAX = 72  # what git's own listings show whole
# For the subject of a commit; values stay in the patch, which is shown with more care.
_VERBS = {
    ActionType.REVERT_COMMIT: "revert commit",
    ActionType.REVERT_KEYS: "revert",
    ActionType.SET_VALUE: "set",
    ActionType.ROLL_BACK_IMAGE: "roll back image",
    ActionType.SCALE: "scale",
    ActionType.RESTART: "restart by",
    ActionType.ESCALATE: "escalate",
}
# How long a push that outlived its process may still land. Longer than the git adapter's own limit (60 s by
# default).
PUSH_SECONDS_MAX = 120


class ChangeKind(StrEnum):
    """Whether a change is a remedy or takes one back."""

    CHANGE = "change"
    ROLLBACK = "rollback"


class Change(Record):
    """One commit of ours on the branch of a configuration repository.

    Attributes:
        id: Derived from proposal and commit, so that a repeat is the same record.
        digest: Of the proposal.
        base: Its parent.
        at: When its delivery began.
        approvers: In the order of their answers.
        rolls_back: The change that this one takes back.
    """

    id: str
    proposal_id: str
    incident_id: str
    service: str
    repository: RepositoryName
    branch: str
    digest: str
    commit: str
    base: str
    tree: str
    at: Instant
    approvers: tuple[str, ...]
    kind: ChangeKind = ChangeKind.CHANGE
    rolls_back: str | None = None


class CommitPlan(Record):
    """All that determines the id of a commit."""

    tree: str
    parent: str
    message: str
    author_name: str
    author_email: str
    at: Instant


class Outcome(StrEnum):
    """How a delivery ended, or where it stands for now.

    `OPENED`: on a branch of its own, waiting to be merged. `MERGED`, `CLOSED`: what people made of that.
    """

    DELIVERED = "delivered"
    OPENED = "opened"
    MERGED = "merged"
    CLOSED = "closed"
    CONFLICT = "conflict"
    REFUSED = "refused"
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"


class DeliveryTarget(Protocol):
    """A repository whose branch can be moved by exactly one commit."""

    def head(self) -> str:
        """Return the commit at the remote's branch, asked now."""
        ...

    def diff(self, before: str, after: str) -> bytes:
        """Return the whole patch between two commits or trees."""
        ...

    def commit_tree(
        self, tree: str, parent: str, message: str, author_name: str, author_email: str, at: datetime
    ) -> str:
        """Return the id of the commit; the same arguments give the same id. The branch is not touched."""
        ...

    def push(self, commit: str, expected_base: str) -> None:
        """Move the branch from the base to the commit; a repeat finds it done.

        Raises:
            ChangeConflict: The branch is elsewhere; nothing was written.
            ChangeRefused: The remote said no; nothing was written.
            ChangeUncertain: It cannot be told.
            ChangeError: Not reached, certainly not written; the same call is safe (``retriable``).
        """
        ...

    def is_delivered(self, commit: str) -> bool | None:
        """Return whether the branch contains the commit; None if that cannot be told."""
        ...


class DeliveryRecords(Protocol):
    """Where intent and outcome are kept; each write is durable, and audited, when it returns."""

    def begin_delivery(self, change: Change, at: datetime) -> None:
        """Record the intent: the grant is used up by it.

        Raises:
            NotPermitted: No unused, unexpired grant of this digest is on record.
            AuditUnavailable: Nothing was recorded; nothing may be delivered.
        """
        ...

    def resume_delivery(self, change: Change, at: datetime) -> None:
        """Record that a delivery under way is pushed again.

        Raises:
            IllegalTransition: Its outcome is on record: pushing again would be a second change.
        """
        ...

    def supersede(self, proposal_id: str, reason: str, at: datetime) -> object:
        """Record that a proposal can no longer be delivered as it is."""
        ...

    def record_outcome(self, change: Change, outcome: Outcome, reason: str, at: datetime) -> None:
        """Record how it ended."""
        ...


def prepare_commit(proposal: Proposal, grant: Grant) -> CommitPlan:
    """Return the commit that a granted proposal becomes."""
    paragraphs = [_subject(proposal), _body(proposal), _trailers(proposal, grant)]
    return CommitPlan(
        tree=proposal.tree,
        parent=proposal.base,
        message="\n\n".join(p for p in paragraphs if p) + "\n",
        author_name=AUTHOR_NAME,
        author_email=AUTHOR_EMAIL,
        at=grant.granted_at.replace(microsecond=0),  # git counts whole seconds
    )


def deliver(
    repository: DeliveryTarget, records: DeliveryRecords, proposal: Proposal, grant: Grant, now: datetime
) -> Change:
    """Return the change after its commit stands on the branch.

    Raises:
        NotPermitted: The grant does not cover these bytes, ran out, or was used; nothing was written.
        ChangeConflict: The branch moved on; nothing was written.
        ChangeRefused: The remote refused; nothing was written.
        ChangeUncertain: It cannot be told; a person must look (`reconcile`).
        ChangeError: The remote was not reached (``retriable``); `reconcile` tries the same commit again.
        AuditUnavailable: The intent cannot be recorded; nothing was written.
    """
    check_grant(proposal, grant, now)
    check_bytes(repository, proposal)
    head = repository.head()
    if head != proposal.base:
        reason = f"{proposal.branch} moved from {proposal.base[:12]} to {head[:12]}"
        records.supersede(proposal.id, reason, now)
        raise ChangeConflict(f"proposal {proposal.id}: {reason}; nothing was written, a fresh proposal is needed")
    change = _commit(repository, proposal, grant, now)
    records.begin_delivery(change, now)
    return _push(repository, records, change, now)


def reconcile(
    repository: DeliveryTarget,
    records: DeliveryRecords,
    proposal: Proposal,
    change: Change,
    grant: Grant | None,
    now: datetime,
) -> Change:
    """Return the change after settling a delivery whose outcome was never recorded.

    The branch is asked first. Only if it certainly lacks the commit, still stands on the approved base and
    the grant still holds, the same commit is pushed again: a push that is under way can only make the very
    same one.

    Args:
        repository: Where to look.
        records: Where the outcome goes.
        proposal: As recorded.
        change: As recorded when its delivery began.
        grant: Made afresh from the recorded approvals; None if it no longer holds.
        now: Of the server.

    Raises:
        ChangeConflict: The branch moved on without it; that is now on record.
        ApprovalExpired: It was not written in time; that is now on record.
        IllegalTransition: No delivery of it is under way.
        ChangeUncertain: It still cannot be told; the state is unchanged.
    """
    delivered = repository.is_delivered(change.commit)
    if delivered:
        records.record_outcome(change, Outcome.DELIVERED, "found on the branch", now)
        return change
    if delivered is None:
        raise ChangeUncertain(f"change {change.id}: whether {change.commit[:12]} is on {change.branch} cannot be told")
    head = repository.head()
    if head != change.base:
        if repository.is_delivered(change.commit):  # it landed between the two questions
            records.record_outcome(change, Outcome.DELIVERED, "found on the branch", now)
            return change
        # With the base gone the compare-and-swap of any push still under way must fail.
        reason = f"{change.branch} moved from {change.base[:12]} to {head[:12]} without it; nothing was written"
        records.record_outcome(change, Outcome.CONFLICT, reason, now)
        raise ChangeConflict(f"change {change.id}: {reason}")
    if grant is None or now >= proposal.expires_at:
        if now < change.at + timedelta(seconds=PUSH_SECONDS_MAX):
            raise ChangeUncertain(f"change {change.id}: its push may still be under way; look again in two minutes")
        reason = "its approval ran out before it was written; nothing was written"
        records.record_outcome(change, Outcome.EXPIRED, reason, now)
        raise ApprovalExpired(f"change {change.id}: {reason}")
    check_grant(proposal, grant, now)
    check_bytes(repository, proposal)
    again = _commit(repository, proposal, grant, change.at)
    if again != change:
        raise ApprovalMismatch(f"change {change.id}: its record is not what proposal and approvals give")
    # Somebody may have taken the commit off the branch after it was delivered; that is not for us to mend.
    records.resume_delivery(change, now)
    return _push(repository, records, change, now)


def check_grant(proposal: Proposal, grant: Grant, now: datetime) -> None:
    """Check that a grant is for this proposal, as it is, now.

    Raises:
        ApprovalMismatch: It is for something else, or the proposal is not what its digest says.
        ApprovalExpired: Too late.
        ChangeRefused: There is nothing to write, or no rehearsed way back.
    """
    if not digest_of(proposal) == proposal.digest == grant.digest or grant.proposal_id != proposal.id:
        raise ApprovalMismatch(f"proposal {proposal.id}: what was approved is not what would be written")
    check_alive(proposal, now)
    if now < grant.granted_at:
        raise ApprovalExpired(f"proposal {proposal.id}: the clock stands before its approval; check the clock")
    if not proposal.changes_something:
        raise ChangeRefused(f"proposal {proposal.id}: {proposal.action.type.value} changes nothing")
    if not proposal.rollback_rehearsed or not all(g.passed for g in proposal.guardrails):
        raise ChangeRefused(f"proposal {proposal.id}: a guardrail is against it, or its rollback was never rehearsed")


def check_bytes(repository: DeliveryTarget, proposal: Proposal) -> None:
    """Check that the tree to be written is, byte for byte, what was approved.

    Raises:
        ApprovalMismatch: The tree differs from the base by another patch than the approved one.
    """
    for before, after, expected in (
        (proposal.base, proposal.tree, proposal.patch_digest),
        (proposal.tree, proposal.inverse_tree, proposal.inverse_patch_digest),
    ):
        found = digest(repository.diff(before, after))
        if found != expected:
            raise ApprovalMismatch(f"proposal {proposal.id}: the bytes to be written are not those that were approved")


def change_id_of(proposal: Proposal, commit: str) -> str:
    """Return the id of the change that a proposal becomes as this commit."""
    return "chg-" + digest([proposal.id, proposal.digest, commit]).removeprefix("sha256:")[:12]


def _commit(repository: DeliveryTarget, proposal: Proposal, grant: Grant, at: datetime) -> Change:
    plan = prepare_commit(proposal, grant)
    commit = repository.commit_tree(plan.tree, plan.parent, plan.message, plan.author_name, plan.author_email, plan.at)
    return Change(
        id=change_id_of(proposal, commit),
        proposal_id=proposal.id,
        incident_id=proposal.incident_id,
        service=proposal.service,
        repository=proposal.repository,
        branch=proposal.branch,
        digest=proposal.digest,
        commit=commit,
        base=proposal.base,
        tree=proposal.tree,
        at=at.replace(microsecond=at.microsecond // 1000 * 1000),
        approvers=grant.people,
        kind=ChangeKind.CHANGE if proposal.rolls_back is None else ChangeKind.ROLLBACK,
        rolls_back=proposal.rolls_back,
    )


def _push(repository: DeliveryTarget, records: DeliveryRecords, change: Change, now: datetime) -> Change:
    outcome, error = _try_push(repository, change)
    try:
        records.record_outcome(change, outcome, str(error or ""), now)
    except AdvisorError as failure:
        if outcome in (Outcome.CONFLICT, Outcome.REFUSED):
            raise failure from error
        raise ChangeUncertain(
            f"change {change.id}: {change.commit[:12]} was pushed but its outcome could not be recorded"
            f" ({failure}); nothing is lost: `advisor approve` on the same proposal settles it from the branch"
        ) from failure
    if error is not None:
        raise error
    return change


def _try_push(repository: DeliveryTarget, change: Change) -> tuple[Outcome, AdvisorError | None]:
    try:
        repository.push(change.commit, change.base)
    except ChangeConflict as error:
        return Outcome.CONFLICT, error
    except ChangeRefused as error:
        return Outcome.REFUSED, error
    except AdvisorError as error:
        if isinstance(error, ChangeError) and error.retriable:
            raise  # certainly not written: it stays under way, and `reconcile` pushes the same commit again
        return _lost(repository, change, error)
    return Outcome.DELIVERED, None


def _lost(repository: DeliveryTarget, change: Change, error: AdvisorError) -> tuple[Outcome, AdvisorError | None]:
    # Whatever went wrong went wrong around a push: what the branch says is the only truth left.
    if _is_delivered(repository, change):
        return Outcome.DELIVERED, None
    uncertain = ChangeUncertain(f"change {change.id}: {error}; whether {change.branch} took it cannot be told")
    uncertain.__cause__ = error
    return Outcome.UNCERTAIN, uncertain


def _is_delivered(repository: DeliveryTarget, change: Change) -> bool | None:
    try:
        return repository.is_delivered(change.commit)
    except AdvisorError:
        return None  # not being able to ask is not an answer


def _subject(proposal: Proposal) -> str:
    action = proposal.action
    what = ", ".join(action.keys) or (action.commit or "")[:12]
    verb = "roll back" if proposal.rolls_back is not None else _VERBS[action.type]
    return one_line(f"{proposal.service}: {verb} {what}", SUBJECT_CHARACTERS_MAX)


def _body(proposal: Proposal) -> str:
    # Indented by one blank, so that text from evidence can never pass for a trailer such as "Approved-by:".
    lines = (one_line(proposal.summary), one_line(proposal.action.reason))
    return "\n".join(f" {line}" if re.match(r"[\w-]+\s*:|\(cherry", line) else line for line in lines if line)


def _trailers(proposal: Proposal, grant: Grant) -> str:
    lines = [
        f"Incident: {one_line(proposal.incident_id, 200)}",
        f"Proposal: {one_line(proposal.id, 200)} {proposal.digest}",
        f"Evidence: {one_line(proposal.evidence_digest, 200)}",
    ]
    if proposal.rolls_back is not None:
        lines.append(f"Rolls-back: {one_line(f'{proposal.rolls_back} {proposal.action.commit}', 200)}")
    lines += [f"Approved-by: {one_line(person, 300)}" for person in grant.people]
    return "\n".join(lines)
