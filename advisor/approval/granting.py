"""From recorded approvals to the `Grant` without which nothing can be delivered.

Nothing is believed because it was true when it was recorded: every rule, time and signature is looked at again. Called by
the workflow before each delivery, and by `rollback`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from advisor.approval.deciding import (
    check_alive,
    check_allowed_now,
    check_binding,
    check_breaker,
    check_person,
    check_reason,
    is_enough,
    people_needed,
)
from advisor.approval.records import Approval, Method, Resolution, statement_of_record, told, verify_approval
from advisor.approval.rules import Rules, signers_of
from advisor.approval.ssh_keys import read_signature
from advisor.errors import (
    ApprovalExpired,
    ApprovalMissing,
    ApprovalResolved,
    SignatureRefused,
)
from advisor.proposal import Proposal

_PROOF = object()


@dataclass(frozen=True, slots=True)
class Grant:
    """Proof that the rules were met: enough signed approvals of one digest. Only `grant` makes one.

    It is never stored: after a restart it is made again from the recorded approvals, under the rules of then.

    Attributes:
        granted_at: When the deciding (last needed) approval was given; the time of the commit.
        expires_at: That of the proposal, or of a broken glass, which dies earlier.
    """

    proposal_id: str
    digest: str
    approvals: tuple[Approval, ...]
    granted_at: datetime
    expires_at: datetime
    proof: object = field(repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Refuse a grant that no rule was applied to.

        Raises:
            ApprovalMissing: It was not made by `grant`.
        """
        if self.proof is not _PROOF:
            raise ApprovalMissing("a grant can only be made from recorded approvals")

    @property
    def people(self) -> tuple[str, ...]:
        """Return who approved, in the order of their answers."""
        return tuple(approval.person for approval in self.approvals)

    @property
    def rollback_on_failure(self) -> bool:
        """Return whether every approver allowed the rollback to run if verification fails."""
        return all(approval.rollback_on_failure for approval in self.approvals)

    @property
    def broken_glass(self) -> Approval | None:
        """Return the approval that broke the glass, with the person and, as its comment, the reason; None if none did."""
        return next((approval for approval in self.approvals if approval.break_glass), None)


def grant(
    proposal: Proposal,
    answers: tuple[Resolution, ...],
    rules: Rules,
    policy_version: str,
    now: datetime,
    key: bytes,
) -> Grant:
    """Return the grant that recorded answers amount to.

    Each rule is applied again: an approval that was edited, was given under other rules, or whose person
    has since been struck off the list counts for nothing.

    Raises:
        ApprovalMissing: Not enough people approved.
        ApprovalResolved: It was denied, or ran out.
        ApprovalMismatch: Digest, rules or a signature do not fit.
        ApprovalExpired: Too late.
        ApproverNotAllowed: An approval is of somebody who may not approve.
        DeliveryFrozen: A freeze began since.
        SignatureRefused: An approval of somebody who has an SSH key does not verify with it.
        NotPermitted: A rule forbids it to everybody, or it changes nothing.
    """
    for answer in answers:
        if not isinstance(answer, Approval):
            raise ApprovalResolved(f"proposal {proposal.id} was {told(answer)}")
    approvals = sorted((a for a in answers if isinstance(a, Approval)), key=lambda a: (a.at, a.person))
    if not approvals:
        raise ApprovalMissing(f"proposal {proposal.id}: nobody has approved it")
    check_alive(proposal, now)
    for approval in approvals:
        _check_approval(approval, proposal, rules, policy_version, now, key)
    broken = any(approval.break_glass for approval in approvals)
    check_allowed_now(proposal, rules, broken, now)
    needed = people_needed(proposal, rules)
    if not is_enough(proposal, approvals, needed):
        people = len({approval.person for approval in approvals})
        raise ApprovalMissing(f"proposal {proposal.id}: {people} of {needed} people approved; one more is needed")
    return Grant(
        proposal_id=proposal.id,
        digest=proposal.digest,
        approvals=tuple(approvals),
        granted_at=approvals[-1].at,
        expires_at=min([proposal.expires_at, *(a.valid_until for a in approvals if a.valid_until is not None)]),
        proof=_PROOF,
    )


def _check_approval(
    approval: Approval, proposal: Proposal, rules: Rules, policy_version: str, now: datetime, key: bytes
) -> None:
    check_binding(proposal, approval.digest, policy_version)
    verify_approval(approval, proposal, key)
    if approval.break_glass:
        check_breaker(approval.person, proposal, rules)
        check_reason(approval.comment)
    else:
        check_person(approval.person, proposal, rules)
    if not proposal.created_at <= approval.at < proposal.expires_at or approval.at > now:
        raise ApprovalExpired(f"proposal {proposal.id}: the approval of {approval.person} is outside its life")
    if approval.valid_until is not None and now >= approval.valid_until:
        raise ApprovalExpired(
            f"proposal {proposal.id}: the glass that {approval.person} broke closed at {approval.valid_until.isoformat()}"
        )
    check_identity(approval, proposal, rules)


def check_identity(approval: Approval, proposal: Proposal, rules: Rules) -> None:
    """Check that an approval is signed by the person's own key, where that person has one.

    Raises:
        SignatureRefused: It is not, or the signature does not verify.
    """
    signers = signers_of(rules, approval.person)
    if approval.method is Method.SSH:
        if read_signature(approval.ssh_signature).armored != approval.ssh_signature:
            raise SignatureRefused(f"proposal {proposal.id}: the SSH signature of {approval.person} was changed")
        rules.check_signature(
            approval.person, statement_of_record(approval), approval.ssh_signature, signers, approval.at
        )
    elif signers and not (approval.standing and proposal.rolls_back is not None):
        raise SignatureRefused(
            f"proposal {proposal.id}: the approval of {approval.person} lacks the SSH signature it needs"
        )
