"""Proposals, and what people answer to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advisor.approval import Answer, Approval, Denial, check_person, decide, expire
from advisor.change import Change
from advisor.errors import (
    ApprovalExpired,
    ApprovalMissing,
    NotPermitted,
    one_line,
)
from advisor.lifecycle import State
from advisor.proposal import Proposal
from advisor.redaction import redact

if TYPE_CHECKING:
    pass
from advisor.workflow.delivering import Approved, Delivering


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
    ) -> Approved:
        """Record a person's yes, and deliver the change once enough people have said it.

        Raises:
            NotPermitted: This person may not, it was answered, it ran out, or the rules changed; nothing changed.
            ChangeConflict: The branch moved on; nothing was written, a fresh investigation proposes anew.
            ChangeError: As `change.deliver` says.
        """
        from advisor.approval import Choice, people_needed

        proposal = self.store.proposal(proposal_id)
        if self.store.state_of(proposal.id) in (State.GRANTED, State.DELIVERING, State.UNCERTAIN):
            check_person(person, proposal, self.settings.approval)
            return self._resume(proposal)
        self._check_base(proposal)
        answer = Answer(
            choice=Choice.APPROVE,
            digest=shown_digest or proposal.digest,
            person=person,
            comment=redact(comment),
            rollback_on_failure=rollback_on_failure,
        )
        approval = self._decide(proposal, answer)
        needed = people_needed(proposal, self.settings.approval)
        state = self.store.record_answer(approval, needed)
        people = tuple(a.person for a in self.store.answers(proposal.id) if isinstance(a, Approval))
        change = self._deliver(proposal) if state is State.GRANTED else None
        return Approved(proposal, people, needed, change)

    def deny(self, proposal_id: str, person: str, reason: str) -> Denial:
        """Record a person's no; it is final."""
        from advisor.approval import Choice

        proposal = self.store.proposal(proposal_id)
        denial = self._decide(
            proposal, Answer(choice=Choice.DENY, digest=proposal.digest, person=person, comment=redact(reason))
        )
        if not isinstance(denial, Denial):  # decide answers in kind; this is for the type checker and for -O
            raise ApprovalMissing(f"proposal {proposal.id}: no denial was recorded")
        self.store.record_answer(denial)
        return denial

    def _decide(self, proposal: Proposal, answer: Answer) -> Approval | Denial:
        now = self.clock()
        answers = self.store.answers(proposal.id)
        try:
            return decide(
                proposal, answer, self.settings.approval, self.settings.policy_version, answers, now, self.signing_key
            )
        except NotPermitted as refusal:
            if (
                isinstance(refusal, ApprovalExpired)
                and self.store.state_of(proposal.id) is State.PROPOSED
                and now >= proposal.expires_at
            ):
                self.store.record_answer(expire(proposal, answers, now))
            details = {"asked": answer.choice.value, "refused": type(refusal).__name__}
            self.store.record_note(
                now, one_line(answer.person, 120) or "(nobody)", "proposal.refused", proposal.id, details
            )
            raise

    def changes(self) -> list[tuple[Change, str]]:
        """Return the changes with their states, newest first."""
        return [(stored.change, stored.state.value) for stored in self.store.list_changes()]

    def change(self, change_id: str) -> Change:
        """Return a change by its id or the beginning of it."""
        return self.store.change(change_id)
