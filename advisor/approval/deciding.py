"""A person's answer: recorded and signed, or refused by name.

Called by the workflow and by `rollback`. The order of the checks is the order in which a person can do something about
them: is it still open, is it this proposal, is there time, may you, may anybody now, is it really you.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from advisor.approval.people import principal, same_person
from advisor.approval.records import (
    Answer,
    Approval,
    Choice,
    Denial,
    Expiry,
    Method,
    Resolution,
    kept_comment,
    kept_role,
    sign,
    statement_of,
    told,
)
from advisor.approval.rules import (
    REASON_CHARACTERS_MIN,
    Rules,
    demand_of,
    frozen,
    may_approve,
    may_break_glass,
    signers_of,
)
from advisor.approval.ssh_keys import read_signature
from advisor.errors import (
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalMissing,
    ApprovalResolved,
    ApproverNotAllowed,
    DeliveryFrozen,
    IllegalTransition,
    NotPermitted,
    SignatureRefused,
)
from advisor.proposal import Proposal, digest_of


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
        ApprovalMissing: A broken glass without a reason.
        DeliveryFrozen: A freeze is in force.
        SignatureRefused: This person has an SSH key, and the answer is not signed with it.
        NotPermitted: There is nothing to approve, or a rule forbids it to everybody.
    """
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    check_unresolved(proposal, rules, answers)
    check_binding(proposal, answer.digest, policy_version)
    check_alive(proposal, now)
    check_order(proposal, answers, now)
    person = _check_answerer(answer, proposal, rules)
    said_before = next((a for a in answers if not isinstance(a, Expiry) and same_person(a.person, person)), None)
    if said_before is not None:
        raise ApprovalResolved(f"proposal {proposal.id}: {said_before.person} answered it before")
    if answer.choice is Choice.APPROVE:
        _check_approvable(proposal, answer, rules, now)
    fields = {
        "proposal_id": proposal.id,
        "digest": proposal.digest,
        "person": person,
        "role": kept_role(answer.role),
        "at": now,
        "comment": kept_comment(answer.comment),
        "policy_version": policy_version,
        "signature": "",
        **_identified(proposal, answer, person, rules, now),
    }
    if answer.choice is Choice.DENY:
        denial = Denial.model_validate(fields)
        return Denial.model_validate({**fields, "signature": sign(denial, key)})
    fields |= {"rollback_on_failure": answer.rollback_on_failure, "standing": answer.standing}
    if answer.break_glass:
        until = min(now + timedelta(minutes=rules.break_glass.minutes), proposal.expires_at)
        fields |= {"break_glass": True, "valid_until": until}
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
            raise ApprovalResolved(f"proposal {proposal.id} was {told(answer)}")
    if now < proposal.expires_at:
        raise IllegalTransition(f"proposal {proposal.id} can be answered until {proposal.expires_at.isoformat()}")
    return Expiry(
        proposal_id=proposal.id,
        digest=proposal.digest,
        at=now.replace(microsecond=now.microsecond // 1000 * 1000),
        expired_at=proposal.expires_at,
    )


def people_needed(proposal: Proposal, rules: Rules) -> int:
    """Return how many distinct people must approve it; a rollback needs one."""
    return demand_of(rules, proposal).people


def check_unresolved(proposal: Proposal, rules: Rules, answers: tuple[Resolution, ...]) -> None:
    """Check that a proposal still waits for an answer.

    Raises:
        ApprovalResolved: It does not; the message says who answered, and when.
    """
    for answer in answers:
        if not isinstance(answer, Approval):
            raise ApprovalResolved(f"proposal {proposal.id} was {told(answer)}; an answer now changes nothing")
    approvals = [a for a in answers if isinstance(a, Approval)]
    if is_enough(proposal, approvals, people_needed(proposal, rules)):
        said = ", ".join(told(a) for a in approvals)
        raise ApprovalResolved(f"proposal {proposal.id} was {said}; an answer now changes nothing")


def is_enough(proposal: Proposal, approvals: list[Approval], needed: int) -> bool:
    """Return whether recorded approvals are all that a proposal needs: distinct people, or one broken glass."""
    people: list[str] = []
    for approval in approvals:
        if not any(same_person(approval.person, other) for other in people):
            people.append(approval.person)
    return len(people) >= needed or any(a.break_glass for a in approvals)


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


def check_order(proposal: Proposal, answers: tuple[Resolution, ...], now: datetime) -> None:
    """Check that the clock did not go back behind an answer that is on record.

    Raises:
        ApprovalExpired: It did; nothing that depends on time can be trusted.
    """
    later = next((a for a in answers if a.at > now), None)
    if later is not None:
        raise ApprovalExpired(
            f"proposal {proposal.id}: the clock stands before an answer of {later.at.isoformat()}; check the clock"
        )


def check_person(name: str, proposal: Proposal, rules: Rules) -> str:
    """Return the person's name as it is recorded, if that person may approve this proposal.

    Raises:
        ApproverNotAllowed: No name, a name that could be mistaken for another, the proposer, or not one of those whom
            the rules allow.
    """
    person = _not_the_proposer(name, proposal)
    everybody = may_approve(rules)
    demand = demand_of(rules, proposal)
    if not everybody and person not in demand.allowed:
        raise ApproverNotAllowed("nobody may approve: approval.approvers is empty in the settings")
    # Exactly equal after folding case and blanks only: an address that merely looks like a listed one is
    # another's.
    if person in demand.allowed:
        return person
    if person in everybody:
        who = ", ".join(sorted(demand.allowed)) or "nobody: no person is in all of them"
        raise ApproverNotAllowed(
            f"proposal {proposal.id}: {person} may not approve it ({', '.join(demand.named)} of approval.rules); who may: {who}"
        )
    raise ApproverNotAllowed(f"{person} is not among approval.approvers")


def check_breaker(name: str, proposal: Proposal, rules: Rules) -> str:
    """Return the person's name as it is recorded, if that person may break the glass for this proposal.

    Raises:
        ApproverNotAllowed: As `check_person` says, for approval.break_glass.people.
    """
    person = _not_the_proposer(name, proposal)
    listed = may_break_glass(rules)
    if not listed:
        raise ApproverNotAllowed("nobody may break the glass: approval.break_glass.people is empty in the settings")
    if person not in listed:
        raise ApproverNotAllowed(f"{person} is not among approval.break_glass.people")
    return person


def _check_answerer(answer: Answer, proposal: Proposal, rules: Rules) -> str:
    if answer.break_glass and answer.choice is Choice.APPROVE:
        return check_breaker(answer.person, proposal, rules)
    if answer.choice is Choice.APPROVE:
        return check_person(answer.person, proposal, rules)
    # To say no is safe: whoever may approve anything may refuse this, whichever rules narrow the yes.
    person = _not_the_proposer(answer.person, proposal)
    if person not in may_approve(rules):
        check_person(answer.person, proposal, rules)
    return person


def _not_the_proposer(name: str, proposal: Proposal) -> str:
    person = principal(name)
    if same_person(person, proposal.proposer):
        raise ApproverNotAllowed(f"proposal {proposal.id}: {person} proposed it and may not answer it")
    return person


def check_allowed_now(proposal: Proposal, rules: Rules, break_glass: bool, now: datetime) -> None:
    """Check that anybody may have a proposal delivered now.

    Raises:
        NotPermitted: It changes nothing, or a rule forbids it.
        DeliveryFrozen: A freeze is in force and no glass is broken.
    """
    if not proposal.changes_something:
        raise NotPermitted(f"proposal {proposal.id}: {proposal.action.type.value} changes nothing; nothing to approve")
    denied_by = demand_of(rules, proposal).denied_by
    if denied_by:
        raise NotPermitted(f"proposal {proposal.id}: {denied_by} of approval.rules forbids it to everybody")
    if not break_glass and (until := frozen(rules, proposal, now)) is not None:
        raise DeliveryFrozen(
            f"proposal {proposal.id}: nothing is delivered {until}; in an emergency: advisor break-glass {proposal.id}"
        )


def _check_approvable(proposal: Proposal, answer: Answer, rules: Rules, now: datetime) -> None:
    check_allowed_now(proposal, rules, answer.break_glass, now)
    if answer.break_glass and proposal.rolls_back is not None:
        raise NotPermitted(f"proposal {proposal.id}: a rollback needs no broken glass; `advisor rollback` does it")
    if answer.break_glass:
        check_reason(answer.comment)
    if answer.standing and proposal.rolls_back is None:
        raise NotPermitted(f"proposal {proposal.id}: only a rollback can be allowed in advance")


def check_reason(reason: str) -> None:
    """Check that a broken glass says why.

    Raises:
        ApprovalMissing: It does not, or in too few words to be read later.
    """
    if len(kept_comment(reason)) < REASON_CHARACTERS_MIN:
        raise ApprovalMissing(
            f"break-glass: a reason of at least {REASON_CHARACTERS_MIN} characters is wanted (--reason); nothing was changed"
        )


def _identified(
    proposal: Proposal, answer: Answer, person: str, rules: Rules, now: datetime
) -> dict[str, Method | str]:
    """Return what shows that the answer is this person's."""
    signers = signers_of(rules, person)
    if answer.signature:
        if not signers:
            raise SignatureRefused(
                f"proposal {proposal.id}: {person} has no SSH key under approval.keys; configure it, or answer unsigned"
            )
        signature = read_signature(answer.signature).armored
        signer = rules.check_signature(person, statement_of(proposal, answer, person), signature, signers, now)
        return {"method": Method.SSH, "ssh_signature": signature, "signer": signer}
    if signers and not answer.standing:
        raise SignatureRefused(
            f"proposal {proposal.id}: {person} has an SSH key under approval.keys, so the answer must be signed:"
            " --sign-with KEYFILE; nothing was changed"
        )
    return {"method": Method.SERVER}
