"""From a granted proposal to the delivered change, and carrying one on after a crash."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from advisor.approval import Approval, Grant, grant
from advisor.change import Change, Delivery, Route, deliver, moved, next_command, reconcile
from advisor.errors import ApprovalMissing, ChangeConflict, DeliveryFrozen, IllegalTransition, NotPermitted
from advisor.lifecycle import ON_BRANCH, State
from advisor.proposal import Proposal
from advisor.workflow.in_hand import WAIT_SECONDS, in_hand
from advisor.workflow.parts import Parts


@dataclass(frozen=True)
class Approved:
    """What an approval led to: the change, or None while another person is needed.

    Attributes:
        waiting: What has to happen before the change stands on its branch; empty if it does.
    """

    proposal: Proposal
    people: tuple[str, ...]
    needed: int
    change: Change | None
    waiting: str = ""


class Delivering(Parts):
    """Deliver what was granted, once."""

    def _check_base(self, proposal: Proposal) -> None:
        """Refuse an answer to what can no longer be delivered, before anybody is asked for more of them."""
        if not proposal.changes_something or self.store.state_of(proposal.id) is not State.PROPOSED:
            return
        head = self.repository(proposal.repository.name).head()
        if head != proposal.base:
            reason = moved(proposal.branch, proposal.base, head)
            self.store.supersede(proposal.id, reason, self.clock())
            raise ChangeConflict(
                f"proposal {proposal.id}: {reason} since it was made; nothing was written; {next_command(proposal)}"
            )

    def _deliver(self, proposal: Proposal, wait_seconds: float = WAIT_SECONDS) -> Change:
        with self._in_hand(proposal, wait_seconds):
            if (carried_on := self._carried_on(proposal)) is not None:
                return carried_on
            granted = self._grant(proposal)
            repository = self.repository(proposal.repository.name)
            try:
                return deliver(repository, self.store, proposal, granted, self.clock(), self.route(proposal))
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
            change = self._deliver(proposal, wait_seconds)
            return Approved(proposal, people, len(people), change, self.waiting_for(proposal))
        with self._in_hand(proposal, wait_seconds):
            change = self._carried_on(proposal) or self._reconcile(proposal)
        return Approved(proposal, people, len(people), change, self.waiting_for(proposal))

    def _reconcile(self, proposal: Proposal) -> Change:
        begun = self.store.change_of(proposal.id)
        if begun is None:  # an intent is never taken away; this is for the type checker and for -O
            raise ApprovalMissing(f"proposal {proposal.id}: no delivery of it is under way")
        repository = self.repository(proposal.repository.name)
        try:
            granted = self._grant(proposal)
        except DeliveryFrozen:
            # A freeze ends, and its approvals may live on: what is not on the branch yet waits, it has not run out.
            if begun.delivery is Delivery.PUSH and not repository.is_delivered(begun.commit):
                raise
            granted = None
        except NotPermitted:
            granted = None
        return reconcile(
            repository,
            self.store,
            proposal,
            begun,
            granted,
            self.clock(),
            self.route(proposal, begun.delivery),
            opened=self.store.state_of(proposal.id) is State.AWAITING_MERGE,
        )

    def route(self, proposal: Proposal, delivery: Delivery | None = None) -> Route:
        """Return how the change of a proposal is delivered: as configured, or as it was begun.

        Raises:
            SettingsInvalid: It needs a forge that is not configured, or whose token cannot be read.
        """
        name = proposal.repository.name
        configured = self.settings.repositories[name]
        delivery = delivery or configured.delivery
        forge = self.forge(name) if delivery is Delivery.PULL_REQUEST else None
        rules = configured.forge if forge is not None else None
        return Route(
            delivery=delivery,
            signed=configured.signing_key_file is not None,
            forge=forge,
            merges=rules is not None and rules.merge,
            # Who asks for a rollback is its approver: there is nothing to review before it.
            by_review=rules is not None and rules.approval_by_review and proposal.rolls_back is None,
            merge_within=timedelta(hours=configured.merge_within_hours),
        )

    def waiting_for(self, proposal: Proposal) -> str:
        """Return what has to happen before an offered change stands on its branch; empty if nothing has."""
        if self.store.state_of(proposal.id) is not State.AWAITING_MERGE:
            return ""
        stored = self.store.list_changes(proposal.incident_id)
        return next((s.reason for s in stored if s.change.proposal_id == proposal.id), "")

    def waiting_for_change(self, change: Change) -> str:
        """Return what has to happen before a change stands on its branch; empty if nothing has."""
        return "" if change.delivery is Delivery.PUSH else self.waiting_for(self.store.proposal(change.proposal_id))

    def look_at_offer(self, change: Change) -> None:
        """Settle an offered change by what was made of it; one that stands on its branch is left alone.

        Raises:
            IllegalTransition: Nobody has merged it yet.
            ChangeError: As `change.reconcile` says.
        """
        if change.delivery is Delivery.PUSH:
            return
        proposal = self.store.proposal(change.proposal_id)
        if self.store.state_of(proposal.id) in (State.DELIVERING, State.AWAITING_MERGE):
            self._resume(proposal)
        if waiting := self.waiting_for(proposal):
            raise IllegalTransition(f"change {change.id}: {waiting}; ask again when it is merged")

    def stands_since(self, change: Change) -> datetime:
        """Return since when a change is on its branch: a merge may have come hours after its delivery began."""
        if change.delivery is Delivery.PUSH:
            return change.at
        merged = [e.at for e in self.store.audit_entries(change.id) if e.action in ("change.merge", "change.deliver")]
        if not merged:
            return change.at
        landing = self.repository(change.repository.name).find_landing(change.base, change.tree)
        # Our own commit carries the time of its approval: then it is known only when it was seen.
        if landing is None or landing.commit == change.commit or not change.at <= landing.at <= merged[0]:
            return merged[0]
        return landing.at
