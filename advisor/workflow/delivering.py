"""From a granted proposal to the delivered change, and carrying one on after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from advisor.approval import Approval, Grant, grant
from advisor.change import Change, deliver, reconcile
from advisor.errors import (
    ChangeConflict,
    NotPermitted,
)
from advisor.lifecycle import State
from advisor.proposal import Proposal

if TYPE_CHECKING:
    pass
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

    def _deliver(self, proposal: Proposal) -> Change:
        granted = self._grant(proposal)
        try:
            return deliver(self.repository(proposal.repository.name), self.store, proposal, granted, self.clock())
        except ChangeConflict as conflict:
            self.store.supersede(proposal.id, str(conflict), self.clock())
            raise

    def _grant(self, proposal: Proposal) -> Grant:
        answers = self.store.answers(proposal.id)
        return grant(
            proposal, answers, self.settings.approval, self.settings.policy_version, self.clock(), self.signing_key
        )

    def _resume(self, proposal: Proposal) -> Approved:
        """Carry on a delivery that was granted but has no recorded outcome, such as after a crash."""
        people = tuple(a.person for a in self.store.answers(proposal.id) if isinstance(a, Approval))
        begun = self.store.change_of(proposal.id)
        if begun is None:
            return Approved(proposal, people, len(people), self._deliver(proposal))
        try:
            granted = self._grant(proposal)
        except NotPermitted:
            granted = None
        change = reconcile(
            self.repository(proposal.repository.name), self.store, proposal, begun, granted, self.clock()
        )
        return Approved(proposal, people, len(people), change)
