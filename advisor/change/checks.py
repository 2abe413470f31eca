"""What must hold before anything is written: the grant, the bytes, and what has to stand before it."""

from __future__ import annotations

from datetime import datetime

from advisor.approval import Grant, check_alive
from advisor.change.ports import DeliveryRecords, DeliveryTarget
from advisor.errors import ApprovalExpired, ApprovalMismatch, ChangeRefused
from advisor.proposal import Proposal, digest_of
from advisor.values import digest


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
    if now >= grant.expires_at:
        raise ApprovalExpired(f"proposal {proposal.id}: its approval ran out at {grant.expires_at.isoformat()}")
    check_deliverable(proposal)


def check_deliverable(proposal: Proposal) -> None:
    """Check that a proposal is of a kind that may be written at all.

    Raises:
        ChangeRefused: There is nothing to write, or no rehearsed way back.
    """
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


def check_order(records: DeliveryRecords, proposal: Proposal) -> None:
    """Check that everything a proposal has to come after stands on its branch.

    Raises:
        ChangeRefused: Something does not stand yet, or not any more; it is named, and the grant stays unused.
    """
    missing = [other for other in proposal.after if not records.stands(other)]
    if missing:
        raise ChangeRefused(
            f"proposal {proposal.id}: it comes after {', '.join(missing)}, whose change does not stand on its branch;"
            f" nothing was written; deliver that first, then `advisor approve {proposal.id}` carries on"
        )
