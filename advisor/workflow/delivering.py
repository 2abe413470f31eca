"""From a granted proposal to the delivered change, and carrying one on after a crash."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from advisor.approval import Approval, Grant, grant
from advisor.change import Change, deliver, reconcile
from advisor.errors import ApprovalMissing, ChangeConflict, NotPermitted
from advisor.lifecycle import ON_BRANCH, State
from advisor.proposal import Proposal
from advisor.workflow.in_hand import WAIT_SECONDS, in_hand
from advisor.workflow.parts import Parts


@dataclass(frozen=True)
class Approved:
    """What an approval led to: the change, or None while another person is needed."""

    proposal: Proposal
    people: tuple[str, ...]
    needed: int
    change: Change | None


class Delivering(Parts):
    """Deliver what was granted, once."""

    def _check_base(self, proposal: Proposal) -> None:
        """Refuse an answer to what can no longer be delivered, before anybody is asked for more of them."""
        if not proposal.changes_something or self.store.state_of(proposal.id) is not State.PROPOSED:
            return
        head = self.repository(proposal.repository.name).head()
        if head != proposal.base:
            reason = f"{proposal.branch} moved from {proposal.base[:12]} to {head[:12]}"
            self.store.supersede(proposal.id, reason, self.clock())
            raise ChangeConflict(
                f"proposal {proposal.id}: {reason} since it was made; nothing was written,"
                f" `advisor investigate {proposal.service}` proposes anew"
            )

    def _deliver(self, proposal: Proposal, wait_seconds: float = WAIT_SECONDS) -> Change:
        with self._in_hand(proposal, wait_seconds):
            if (carried_on := self._carried_on(proposal)) is not None:
                return carried_on
            granted = self._grant(proposal)
            try:
                return deliver(self.repository(proposal.repository.name), self.store, proposal, granted, self.clock())
            except ChangeConflict as conflict:
                self.store.supersede(proposal.id, str(conflict), self.clock())
                raise

    def _in_hand(self, proposal: Proposal, wait_seconds: float = WAIT_SECONDS) -> AbstractContextManager[None]:
        return in_hand(self.state_directory / "in-hand", proposal.id, wait_seconds)

    def _carried_on(self, proposal: Proposal) -> Change | None:
        """Return the change if another process brought it onto the branch while this one waited for its turn."""
        return self.store.change_of(proposal.id) if self.store.state_of(proposal.id) in ON_BRANCH else None

    def _grant(self, proposal: Proposal) -> Grant:
        answers = self.store.answers(proposal.id)
        return grant(proposal, answers, self.rules, self.settings.policy_version, self.clock(), self.signing_key)

    def _resume(self, proposal: Proposal, wait_seconds: float = WAIT_SECONDS) -> Approved:
        """Carry on a delivery that was granted but has no recorded outcome, such as after a crash."""
        people = tuple(a.person for a in self.store.answers(proposal.id) if isinstance(a, Approval))
        if self.store.change_of(proposal.id) is None:
            return Approved(proposal, people, len(people), self._deliver(proposal, wait_seconds))
        with self._in_hand(proposal, wait_seconds):
            change = self._carried_on(proposal) or self._reconcile(proposal)
        return Approved(proposal, people, len(people), change)

    def _reconcile(self, proposal: Proposal) -> Change:
        begun = self.store.change_of(proposal.id)
        if begun is None:  # an intent is never taken away; this is for the type checker and for -O
            raise ApprovalMissing(f"proposal {proposal.id}: no delivery of it is under way")
        try:
            granted = self._grant(proposal)
        except NotPermitted:
            granted = None
        return reconcile(self.repository(proposal.repository.name), self.store, proposal, begun, granted, self.clock())
