"""A change that is pushed: one compare-and-swap on the main branch, and finding out what it did."""

from __future__ import annotations

from datetime import datetime, timedelta

from advisor.approval import Grant
from advisor.change.checks import check_bytes, check_grant
from advisor.change.making import make_change
from advisor.change.ports import DeliveryRecords, DeliveryTarget, Route
from advisor.change.records import Change, Outcome
from advisor.change.words import moved, next_command
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMismatch,
    ChangeConflict,
    ChangeError,
    ChangeRefused,
    ChangeUncertain,
)
from advisor.proposal import Proposal

# How long a push that outlived its process may still land. Longer than the git adapter's own limit (60 s by
# default).
PUSH_SECONDS_MAX = 120


def push(
    repository: DeliveryTarget, records: DeliveryRecords, proposal: Proposal, change: Change, now: datetime
) -> Change:
    """Return the change after one push of its commit, whose outcome is on record."""
    outcome, error = _try_push(repository, proposal, change)
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


def reconcile_push(
    repository: DeliveryTarget,
    records: DeliveryRecords,
    proposal: Proposal,
    change: Change,
    grant: Grant | None,
    now: datetime,
    route: Route,
) -> Change:
    """See `advisor.change.reconcile`."""
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
        reason = f"{moved(change.branch, change.base, head)} without it; nothing was written"
        records.record_outcome(change, Outcome.CONFLICT, reason, now)
        raise ChangeConflict(f"change {change.id}: {reason}; {next_command(proposal)}")
    if grant is None or now >= proposal.expires_at:
        if now < change.at + timedelta(seconds=PUSH_SECONDS_MAX):
            raise ChangeUncertain(f"change {change.id}: its push may still be under way; look again in two minutes")
        reason = "its approval ran out before it was written; nothing was written"
        records.record_outcome(change, Outcome.EXPIRED, reason, now)
        raise ApprovalExpired(f"change {change.id}: {reason}; {next_command(proposal)}")
    check_again(repository, proposal, change, grant, now, route)
    # Somebody may have taken the commit off the branch after it was delivered; that is not for us to mend.
    records.resume_delivery(change, now)
    return push(repository, records, proposal, change, now)


def check_again(
    repository: DeliveryTarget, proposal: Proposal, change: Change, grant: Grant, now: datetime, route: Route
) -> None:
    """Check that what would be written again is what was begun.

    Raises:
        NotPermitted: The grant does not cover it, or it gives another commit than the recorded one.
    """
    check_grant(proposal, grant, now)
    check_bytes(repository, proposal)
    if make_change(repository, proposal, grant, change.at, route) != change:
        raise ApprovalMismatch(
            f"change {change.id}: its record is not what proposal and approvals give"
            + (" with the present signing key" if route.signed else "")
        )


def _try_push(repository: DeliveryTarget, proposal: Proposal, change: Change) -> tuple[Outcome, AdvisorError | None]:
    try:
        repository.push(change.commit, change.base)
    except ChangeConflict as error:
        told = ChangeConflict(f"change {change.id}: {error}; {next_command(proposal)}")
        told.__cause__ = error
        return Outcome.CONFLICT, told
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
