"""An approval: who may say yes, to exactly what, until when.

`decide` turns a person's answer into a signed record or refuses it by name; `grant` turns recorded
approvals into the `Grant` without which nothing can be delivered. A proposal is resolved once: granted,
denied or expired. There is no standing permission, no editing in passing, and no Boolean that means yes.

Identity is not established here: the console, the command line or the API says who the person is. Pure: the
clock, the rules and the signing key come in as arguments; the store keeps the answers and lets each exist
once.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import Field

from advisor.errors import (
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalMissing,
    ApprovalResolved,
    ApproverNotAllowed,
    IllegalTransition,
    NotPermitted,
    one_line,
)
from advisor.proposal import Proposal, digest_of
from advisor.values import Instant, Record, Risk, canonical_json

COMMENT_CHARACTERS_MAX = 2000
PERSON_CHARACTERS_MAX = 254  # the longest address that mail knows
KEY_BYTES_MIN = 16  # shorter keys can be guessed; ours have 32


class Rules(Protocol):
    """Who may say yes (`ApprovalRules` of the settings is one)."""

    @property
    def approvers(self) -> tuple[str, ...]:
        """Return the people who may approve; none listed means nobody may."""
        ...

    def people_needed(self, risk: Risk) -> int:
        """Return how many distinct people must approve a change of this risk."""
        ...


class Choice(StrEnum):
    """What a person answered."""

    APPROVE = "approve"
    DENY = "deny"


class Answer(Record):
    """What a person said, before any rule was applied.

    Attributes:
        digest: The digest of the proposal as it was shown to that person.
        rollback_on_failure: Whether the rollback may run without asking again if verification fails.
    """

    choice: Choice
    digest: str
    person: str
    role: str = ""
    comment: str = ""
    rollback_on_failure: bool = False


class Approval(Record):
    """A recorded yes of one person to one digest.

    Attributes:
        policy_version: The rules it was given under.
        signature: HMAC over all other fields with the server's key.
    """

    proposal_id: str
    digest: str
    person: str
    role: str
    at: Instant
    comment: str
    rollback_on_failure: bool
    policy_version: str
    signature: str


class Denial(Record):
    """A recorded no of one person; it is final."""

    proposal_id: str
    digest: str
    person: str
    role: str
    at: Instant
    comment: str
    policy_version: str
    signature: str


class Expiry(Record):
    """The record that nobody answered in time."""

    proposal_id: str
    digest: str
    at: Instant
    expired_at: Instant = Field(description="the end of its life, not the time at which that was noticed")


Resolution = Approval | Denial | Expiry

_PROOF = object()


@dataclass(frozen=True, slots=True)
class Grant:
    """Proof that the rules were met: enough signed approvals of one digest. Only `grant` makes one.

    It is never stored: after a restart it is made again from the recorded approvals, under the rules of then.

    Attributes:
        granted_at: When the deciding (last needed) approval was given; the time of the commit.
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


def decide(
    proposal: Proposal,
    answer: Answer,
    rules: Rules,
    policy_version: str,
    answers: tuple[Resolution, ...],
    now: datetime,
    key: bytes,
) -> Approval | Denial:
    """Return the signed record of a person's answer.

    Args:
        proposal: As it is recorded.
        answer: What the person said, and the digest of what was shown.
        rules: Who may answer, as of now.
        policy_version: Of the rules, as of now.
        answers: Those recorded for this proposal before.
        now: Of the server; a fraction below a millisecond is dropped.
        key: The server's signing key.

    Raises:
        ApprovalResolved: It was answered before; the message says by whom.
        ApprovalMismatch: The digest, or the rules, are not those of the proposal.
        ApprovalExpired: Too late, or the clock went backwards.
        ApproverNotAllowed: The rules do not let this person answer.
        NotPermitted: There is nothing to approve.
    """
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    check_unresolved(proposal, rules, answers)
    check_binding(proposal, answer.digest, policy_version)
    check_alive(proposal, now)
    person = check_person(answer.person, proposal, rules)
    said_before = next((a for a in answers if not isinstance(a, Expiry) and _same(a.person, person)), None)
    if said_before is not None:
        raise ApprovalResolved(f"proposal {proposal.id}: {said_before.person} answered it before")
    fields = {
        "proposal_id": proposal.id,
        "digest": proposal.digest,
        "person": person,
        "role": one_line(answer.role, 100),
        "at": now,
        "comment": _comment(answer.comment),
        "policy_version": policy_version,
        "signature": "",
    }
    if answer.choice is Choice.DENY:
        denial = Denial.model_validate(fields)
        return Denial.model_validate({**fields, "signature": sign(denial, key)})
    if not proposal.changes_something:
        raise NotPermitted(f"proposal {proposal.id}: {proposal.action.type.value} changes nothing; nothing to approve")
    fields["rollback_on_failure"] = answer.rollback_on_failure
    approval = Approval.model_validate(fields)
    return Approval.model_validate({**fields, "signature": sign(approval, key)})


def expire(proposal: Proposal, answers: tuple[Resolution, ...], now: datetime) -> Expiry:
    """Return the record that a proposal ran out unanswered, or granted but never delivered.

    Raises:
        ApprovalResolved: It was denied, or is on record as run out.
        IllegalTransition: Its time is not over.
    """
    for answer in answers:
        if not isinstance(answer, Approval):
            raise ApprovalResolved(f"proposal {proposal.id} was {_told(answer)}")
    if now < proposal.expires_at:
        raise IllegalTransition(f"proposal {proposal.id} can be answered until {proposal.expires_at.isoformat()}")
    return Expiry(
        proposal_id=proposal.id,
        digest=proposal.digest,
        at=now.replace(microsecond=now.microsecond // 1000 * 1000),
        expired_at=proposal.expires_at,
    )


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
    """
    for answer in answers:
        if not isinstance(answer, Approval):
            raise ApprovalResolved(f"proposal {proposal.id} was {_told(answer)}")
    approvals = sorted((a for a in answers if isinstance(a, Approval)), key=lambda a: (a.at, a.person))
    if not approvals:
        raise ApprovalMissing(f"proposal {proposal.id}: nobody has approved it")
    check_alive(proposal, now)
    for approval in approvals:
        check_binding(proposal, approval.digest, policy_version)
        verify_approval(approval, proposal, key)
        check_person(approval.person, proposal, rules)
        if not proposal.created_at <= approval.at < proposal.expires_at or approval.at > now:
            raise ApprovalExpired(f"proposal {proposal.id}: the approval of {approval.person} is outside its life")
    if not proposal.changes_something:
        raise NotPermitted(f"proposal {proposal.id} changes nothing; nothing to deliver")
    people = {_folded(approval.person) for approval in approvals}
    needed = people_needed(proposal, rules)
    if len(people) < needed:
        raise ApprovalMissing(f"proposal {proposal.id}: {len(people)} of {needed} people approved; one more is needed")
    return Grant(
        proposal_id=proposal.id,
        digest=proposal.digest,
        approvals=tuple(approvals),
        granted_at=approvals[-1].at,
        expires_at=proposal.expires_at,
        proof=_PROOF,
    )


def people_needed(proposal: Proposal, rules: Rules) -> int:
    """Return how many distinct people must approve it.

    Taking back what was agreed on needs one: an incident must not wait for a second person to undo the
    first try.
    """
    return 1 if proposal.rolls_back is not None else max(1, rules.people_needed(proposal.risk))


def verify_approval(approval: Approval, proposal: Proposal, key: bytes) -> None:
    """Check that an approval is of this proposal and as it was signed.

    Raises:
        ApprovalMismatch: It is not.
    """
    if approval.proposal_id != proposal.id or approval.digest != proposal.digest:
        raise ApprovalMismatch(f"proposal {proposal.id}: the approval of {approval.person} is of another proposal")
    if not hmac.compare_digest(sign(approval, key), approval.signature):
        raise ApprovalMismatch(f"proposal {proposal.id}: the signature of {approval.person}'s approval does not fit")


def sign(answer: Approval | Denial, key: bytes) -> str:
    """Return the HMAC-SHA256 of an answer, over every field but the signature.

    Raises:
        NotPermitted: The key is too short to sign with.
    """
    if len(key) < KEY_BYTES_MIN:
        raise NotPermitted(f"the signing key has {len(key)} bytes; at least {KEY_BYTES_MIN} are needed")
    kind = "approval" if isinstance(answer, Approval) else "denial"
    message = canonical_json(["ops-advisor", kind, answer.model_dump(mode="json", exclude={"signature"})])
    return "hmac-sha256:" + hmac.new(key, message, hashlib.sha256).hexdigest()


def check_unresolved(proposal: Proposal, rules: Rules, answers: tuple[Resolution, ...]) -> None:
    """Check that a proposal still waits for an answer.

    Raises:
        ApprovalResolved: It does not; the message says who answered, and when.
    """
    for answer in answers:
        if not isinstance(answer, Approval):
            raise ApprovalResolved(f"proposal {proposal.id} was {_told(answer)}; an answer now changes nothing")
    approvals = [a for a in answers if isinstance(a, Approval)]
    if len({_folded(a.person) for a in approvals}) >= people_needed(proposal, rules):
        told = ", ".join(_told(a) for a in approvals)
        raise ApprovalResolved(f"proposal {proposal.id} was {told}; an answer now changes nothing")


def check_binding(proposal: Proposal, shown_digest: str, policy_version: str) -> None:
    """Check that what was shown is what is recorded, under the same rules.

    Raises:
        ApprovalMismatch: It is not.
    """
    if digest_of(proposal) != proposal.digest:
        raise ApprovalMismatch(f"proposal {proposal.id}: its content does not have the digest it carries")
    if shown_digest != proposal.digest:
        raise ApprovalMismatch(f"proposal {proposal.id}: the answer is to another digest than {proposal.digest[:19]}…")
    if proposal.policy_version != policy_version:
        raise ApprovalMismatch(
            f"proposal {proposal.id}: the approval rules changed since it was made; a fresh proposal is needed"
        )


def check_alive(proposal: Proposal, now: datetime) -> None:
    """Check that a proposal may be answered or delivered now.

    Raises:
        ApprovalExpired: It ran out, or the clock stands before its beginning and cannot be trusted.
    """
    if now >= proposal.expires_at:
        raise ApprovalExpired(
            f"proposal {proposal.id} ran out at {proposal.expires_at.isoformat()}; a fresh proposal is needed"
        )
    if now < proposal.created_at:
        raise ApprovalExpired(f"proposal {proposal.id}: the clock stands before its creation; check the clock")


def check_person(name: str, proposal: Proposal, rules: Rules) -> str:
    """Return the person's name as it is recorded.

    Raises:
        ApproverNotAllowed: No name, a name that could be mistaken for another, the proposer, or not on the
            list.
    """
    person = principal(name)
    if _same(person, proposal.proposer):
        raise ApproverNotAllowed(f"proposal {proposal.id}: {person} proposed it and may not answer it")
    if not rules.approvers:
        raise ApproverNotAllowed("nobody may approve: approval.approvers is empty in the settings")
    # Exactly equal after folding case and blanks only: an address that merely looks like a listed one is
    # another's.
    if person not in {_principal_or_none(listed) for listed in rules.approvers}:
        raise ApproverNotAllowed(f"{person} is not among approval.approvers")
    return person


def principal(name: str) -> str:
    """Return who somebody is: a name without case and outer blanks.

    Raises:
        ApproverNotAllowed: It is empty, too long, or has characters that can be mistaken for others.
    """
    person = name.strip().lower()
    if not person:
        raise ApproverNotAllowed("the answer carries no name; say who you are")
    if len(person) > PERSON_CHARACTERS_MAX:
        raise ApproverNotAllowed(f"a name of {len(person)} characters; at most {PERSON_CHARACTERS_MAX}")
    ambiguous = not name.strip().isprintable() or unicodedata.normalize("NFKC", name.strip()) != name.strip()
    if ambiguous or any(c.isspace() for c in person) or "<" in person or ">" in person:
        raise ApproverNotAllowed(f"{one_line(name, 80)!r} can be mistaken for another name; it is not accepted")
    return person


def _principal_or_none(name: str) -> str | None:
    try:
        return principal(name)
    except ApproverNotAllowed:
        return None


def _folded(name: str) -> str:
    # Wider than `principal`: where being the same person is what must not slip through, look-alikes are the
    # same.
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _same(one: str, other: str) -> bool:
    return _folded(one) == _folded(other)


def _comment(text: str) -> str:
    return one_line(text, COMMENT_CHARACTERS_MAX)


def _told(answer: Resolution) -> str:
    match answer:
        case Approval():
            return f"approved by {answer.person} at {answer.at.isoformat()}"
        case Denial():
            return f"denied by {answer.person} at {answer.at.isoformat()}"
        case Expiry():
            return f"left to run out at {answer.expired_at.isoformat()}"
