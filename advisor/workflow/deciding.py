"""Proposals, and what people answer to them."""

from __future__ import annotations

from collections.abc import Callable

from advisor.approval import (
    Answer,
    Approval,
    Choice,
    Denial,
    check_breaker,
    check_person,
    decide,
    expire,
    people_needed,
    principal,
    statement_of,
)
from advisor.authority import Act, check_authority
from advisor.change import Change
from advisor.errors import ApprovalExpired, ApprovalMissing, ApproverNotAllowed, NotPermitted, one_line
from advisor.lifecycle import State
from advisor.proposal import Proposal
from advisor.redaction import redact
from advisor.values import digest, format_instant
from advisor.workflow.delivering import Approved, Delivering

Sign = Callable[[bytes], str]  # a statement in, the armored signature of a person's own key out
_UNDER_WAY = (State.GRANTED, State.DELIVERING, State.UNCERTAIN, State.AWAITING_MERGE)


class Deciding(Delivering):
    """Record what people answer."""

    def proposals(self) -> list[tuple[Proposal, str]]:
        """Return the proposals with their states, newest first."""
        return [(stored.proposal, stored.state.value) for stored in self.store.list_proposals()]

    def proposal(self, proposal_id: str) -> tuple[Proposal, str]:
        """Return a proposal by its id or the beginning of it, with its state."""
        proposal = self.store.proposal(proposal_id)
        return proposal, self.store.state_of(proposal.id).value

    def approve(
        self,
        proposal_id: str,
        person: str,
        comment: str = "",
        shown_digest: str | None = None,
        rollback_on_failure: bool = False,
        sign: Sign | None = None,
    ) -> Approved:
        """Record a person's yes, and deliver the change once enough people have said it.

        Args:
            proposal_id: Of the proposal, or the beginning of it.
            person: Who says it.
            comment: A word for the record.
            shown_digest: Of what that person was shown.
            rollback_on_failure: Whether a failed verification may roll back without asking.
            sign: Signs the statement with the person's own key; needed where one is configured.

        Raises:
            NotPermitted: This person may not, it was answered, it ran out, or the rules changed; nothing changed.
            ChangeConflict: The branch moved on; nothing was written, a fresh investigation proposes anew.
            ChangeError: As `change.deliver` says.
        """
        proposal = self.store.proposal(proposal_id)
        if self.store.state_of(proposal.id) in _UNDER_WAY:
            self._check_carrier(person, proposal)
            return self._resume(proposal)
        self._check_place_of_rules()
        self._check_base(proposal)
        answer = self.answer(proposal, person, Choice.APPROVE, comment, shown_digest, rollback_on_failure)
        approval = self._decide(proposal, answer, sign)
        return self._record(proposal, approval, people_needed(proposal, self.rules))

    def break_glass(
        self, proposal_id: str, person: str, reason: str, shown_digest: str | None = None, sign: Sign | None = None
    ) -> Approved:
        """Record the yes of one listed person in an emergency, loudly, and deliver the change.

        It stands for the people whom the rules would ask for, and holds in a freeze. It skips nothing else: neither the
        digest, the base, the guardrails nor a rule that forbids.

        Raises:
            NotPermitted: As `approve`, and where the reason is missing.
            AuditUnavailable: It could not be said aloud; nothing changed.
        """
        proposal = self.store.proposal(proposal_id)
        self._check_place_of_rules()
        self._check_base(proposal)
        answer = self.answer(proposal, person, Choice.APPROVE, reason, shown_digest, break_glass=True)
        approval = self._decide(proposal, answer, sign)
        if not isinstance(approval, Approval):  # decide answers in kind; this is for the type checker and for -O
            raise ApprovalMissing(f"proposal {proposal.id}: no approval was recorded")
        details = {
            "reason": approval.comment,
            "digest": approval.digest,
            "record": digest(approval),
            "until": format_instant(approval.valid_until or approval.at),
            "service": proposal.service,
        }
        # Before it counts: a glass that cannot be heard breaking does not break.
        self.store.record_note(approval.at, approval.person, "proposal.break_glass", proposal.id, details)
        return self._record(proposal, approval, 1)

    def deny(self, proposal_id: str, person: str, reason: str, sign: Sign | None = None) -> Denial:
        """Record a person's no; it is final."""
        proposal = self.store.proposal(proposal_id)
        denial = self._decide(proposal, self.answer(proposal, person, Choice.DENY, reason), sign)
        if not isinstance(denial, Denial):  # decide answers in kind; this is for the type checker and for -O
            raise ApprovalMissing(f"proposal {proposal.id}: no denial was recorded")
        self.store.record_answer(denial)
        return denial

    @staticmethod
    def answer(
        proposal: Proposal,
        person: str,
        choice: Choice,
        comment: str = "",
        shown_digest: str | None = None,
        rollback_on_failure: bool = False,
        break_glass: bool = False,
    ) -> Answer:
        """Return an answer as it would be recorded: what `approval.statement_of` gives for it is what is signed."""
        return Answer(
            choice=choice,
            digest=shown_digest or proposal.digest,
            person=person,
            comment=redact(comment),
            rollback_on_failure=rollback_on_failure,
            break_glass=break_glass,
        )

    def _record(self, proposal: Proposal, approval: Approval | Denial, needed: int) -> Approved:
        state = self.store.record_answer(approval, needed)
        people = tuple(a.person for a in self.store.answers(proposal.id) if isinstance(a, Approval))
        change = self._deliver(proposal) if state is State.GRANTED else None
        return Approved(proposal, people, needed, change, self.waiting_for(proposal))

    def _decide(self, proposal: Proposal, answer: Answer, sign: Sign | None) -> Approval | Denial:
        try:
            if sign is not None:
                signature = sign(statement_of(proposal, answer, principal(answer.person)))
                answer = Answer.model_validate({**answer.model_dump(), "signature": signature})
            return self._decided(proposal, answer)
        except NotPermitted as refusal:
            now = self.clock()
            if (
                isinstance(refusal, ApprovalExpired)
                and self.store.state_of(proposal.id) is State.PROPOSED
                and now >= proposal.expires_at
            ):
                self.store.record_answer(expire(proposal, self.store.answers(proposal.id), now))
            asked = "break_glass" if answer.break_glass else answer.choice.value
            details = {"asked": asked, "refused": type(refusal).__name__}
            self.store.record_note(
                now, one_line(answer.person, 120) or "(nobody)", "proposal.refused", proposal.id, details
            )
            raise

    def _decided(self, proposal: Proposal, answer: Answer) -> Approval | Denial:
        rules, now = self.rules, self.clock()  # after the signing: a person may have taken minutes over it
        answers = self.store.answers(proposal.id)
        decided = decide(proposal, answer, rules, self.settings.policy_version, answers, now, self.signing_key)
        act = Act.DENY if isinstance(decided, Denial) else Act.BREAK_GLASS if decided.break_glass else Act.APPROVE
        check_authority(decided.person, rules, proposal.proposer, act, self.store.state_of(proposal.id))
        return decided

    def _check_carrier(self, person: str, proposal: Proposal) -> None:
        """Check that somebody may carry on what was granted: whoever may approve it, or break the glass for it."""
        rules = self.rules
        try:
            who = check_person(person, proposal, rules)
        except ApproverNotAllowed:
            if not rules.break_glass.people:
                raise
            who = check_breaker(person, proposal, rules)
        check_authority(who, rules, proposal.proposer, Act.DELIVER, self.store.state_of(proposal.id))

    def _check_place_of_rules(self) -> None:
        """Refuse to apply rules that lie in a configuration repository: whoever can push there would make them.

        Raises:
            NotPermitted: They do; nothing was changed.
        """
        repository = self.settings.guarded_by_itself
        if repository is not None:
            raise NotPermitted(
                f"{self.settings.base} lies inside repository {repository}: whoever can change that could change who may"
                " approve; move advisor.yaml outside it, nothing was changed"
            )

    def changes(self) -> list[tuple[Change, str]]:
        """Return the changes with their states, newest first."""
        return [(stored.change, stored.state.value) for stored in self.store.list_changes()]

    def change(self, change_id: str) -> Change:
        """Return a change by its id or the beginning of it."""
        return self.store.change(change_id)
