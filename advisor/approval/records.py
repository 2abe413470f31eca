"""What people said, as it is kept: approvals, denials, expiries, and the signatures on them.

`canonical statement` is what a person with an SSH key signs: the answer without what only the server knows (the time).
The server's own HMAC covers the whole record, that signature included. Pure; made by `deciding`, checked by `granting`.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum

from pydantic import Field

from advisor.errors import ApprovalMismatch, NotPermitted, one_line
from advisor.proposal import Proposal
from advisor.values import Instant, Record, canonical_json

COMMENT_CHARACTERS_MAX = 2000
ROLE_CHARACTERS_MAX = 100
KEY_BYTES_MIN = 16  # shorter keys can be guessed; ours have 32
STATEMENT_SCHEMA = "ops-advisor.approval/v1"
# Fields that records of the first version did not have: at their defaults they are no part of what is signed, so that
# those records still verify. Absent and default say the same, so nothing can be taken away unseen.
_ADDED_LATER = ("method", "ssh_signature", "signer", "break_glass", "valid_until", "standing")


class Choice(StrEnum):
    """What a person answered."""

    APPROVE = "approve"
    DENY = "deny"


class Method(StrEnum):
    """What shows that the answer is that person's."""

    SERVER = "server"  # the server says so: its key signs the record
    SSH = "ssh"  # the person's own key signs the statement, and the server's the record


class Answer(Record):
    """What a person said, before any rule was applied.

    Attributes:
        digest: The digest of the proposal as it was shown to that person.
        rollback_on_failure: Whether the rollback may run without asking again if verification fails.
        break_glass: Said in an emergency: one listed person instead of the usual ones; the comment is the reason.
        signature: Armored SSH signature over `statement_of` this answer; empty where the person has no key.
        standing: Of an automatic rollback: the digest of the recorded approval that allowed exactly that.
    """

    choice: Choice
    digest: str
    person: str
    role: str = ""
    comment: str = ""
    rollback_on_failure: bool = False
    break_glass: bool = False
    signature: str = ""
    standing: str = ""


class Approval(Record):
    """A recorded yes of one person to one digest.

    Attributes:
        policy_version: The rules it was given under.
        signature: HMAC over all other fields with the server's key.
        method: What shows whose it is.
        ssh_signature: Armored, over `statement_of_record`; empty with the method ``server``.
        signer: The public key that it verified with, as it was configured then.
        valid_until: Of a broken glass: it dies then, although the proposal may live on.
        standing: As in `Answer`.
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
    method: Method = Method.SERVER
    ssh_signature: str = ""
    signer: str = ""
    break_glass: bool = False
    valid_until: Instant | None = None
    standing: str = ""


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
    method: Method = Method.SERVER
    ssh_signature: str = ""
    signer: str = ""


class Expiry(Record):
    """The record that nobody answered in time."""

    proposal_id: str
    digest: str
    at: Instant
    expired_at: Instant = Field(description="the end of its life, not the time at which that was noticed")


Resolution = Approval | Denial | Expiry


def statement_of(proposal: Proposal, answer: Answer, person: str) -> bytes:
    """Return exactly the bytes that a person's SSH key signs: one line of canonical JSON.

    Args:
        proposal: As it is recorded.
        answer: What the person says; the comment as it will be kept.
        person: The name as it will be kept (`principal`).
    """
    return _statement(
        "deny" if answer.choice is Choice.DENY else "break_glass" if answer.break_glass else "approve",
        proposal.id,
        answer.digest,
        person,
        kept_role(answer.role),
        kept_comment(answer.comment),
        answer.choice is Choice.APPROVE and answer.rollback_on_failure,
        proposal.policy_version,
    )


def statement_of_record(answer: Approval | Denial) -> bytes:
    """Return the statement that a recorded answer stands for."""
    approval = answer if isinstance(answer, Approval) else None
    return _statement(
        "deny" if approval is None else "break_glass" if approval.break_glass else "approve",
        answer.proposal_id,
        answer.digest,
        answer.person,
        answer.role,
        answer.comment,
        approval is not None and approval.rollback_on_failure,
        answer.policy_version,
    )


def _statement(
    choice: str, proposal_id: str, digest: str, person: str, role: str, comment: str, rollback: bool, policy: str
) -> bytes:
    fields = {
        "schema": STATEMENT_SCHEMA,
        "choice": choice,
        "proposal": proposal_id,
        "digest": digest,
        "person": person,
        "role": role,
        "comment": comment,
        "rollback_on_failure": rollback,
        "policy_version": policy,
    }
    return canonical_json(fields) + b"\n"


def sign(answer: Approval | Denial, key: bytes) -> str:
    """Return the HMAC-SHA256 of an answer, over every field but the signature.

    Raises:
        NotPermitted: The key is too short to sign with.
    """
    if len(key) < KEY_BYTES_MIN:
        raise NotPermitted(f"the signing key has {len(key)} bytes; at least {KEY_BYTES_MIN} are needed")
    kind = "approval" if isinstance(answer, Approval) else "denial"
    usual = {name for name in _ADDED_LATER if _is_default(answer, name)}
    message = canonical_json(["ops-advisor", kind, answer.model_dump(mode="json", exclude={"signature", *usual})])
    return "hmac-sha256:" + hmac.new(key, message, hashlib.sha256).hexdigest()


def is_signed(answer: Approval | Denial, key: bytes) -> bool:
    """Return whether a record is as the server signed it."""
    # As bytes: a flipped byte may have made it text that the comparison of texts does not take.
    return hmac.compare_digest(sign(answer, key).encode(), answer.signature.encode("utf-8", "replace"))


def verify_approval(approval: Approval, proposal: Proposal, key: bytes) -> None:
    """Check that an approval is of this proposal and as it was signed.

    Raises:
        ApprovalMismatch: It is not.
    """
    if approval.proposal_id != proposal.id or approval.digest != proposal.digest:
        raise ApprovalMismatch(f"proposal {proposal.id}: the approval of {approval.person} is of another proposal")
    if not is_signed(approval, key):
        raise ApprovalMismatch(f"proposal {proposal.id}: the signature of {approval.person}'s approval does not fit")


def kept_comment(text: str) -> str:
    """Return a comment as it is kept."""
    return one_line(text, COMMENT_CHARACTERS_MAX)


def kept_role(text: str) -> str:
    """Return a role as it is kept."""
    return one_line(text, ROLE_CHARACTERS_MAX)


def told(answer: Resolution) -> str:
    """Return who answered what, and when, in a few words."""
    match answer:
        case Approval():
            how = "approved by breaking the glass" if answer.break_glass else "approved"
            return f"{how} by {answer.person} at {answer.at.isoformat()}"
        case Denial():
            return f"denied by {answer.person} at {answer.at.isoformat()}"
        case Expiry():
            return f"left to run out at {answer.expired_at.isoformat()}"


def _is_default(answer: Record, name: str) -> bool:
    field = type(answer).model_fields.get(name)
    return field is None or getattr(answer, name) == field.default
