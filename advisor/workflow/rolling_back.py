"""Taking changes back."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from advisor.approval import check_person
from advisor.change import Change
from advisor.lifecycle import State
from advisor.redaction import redact

if TYPE_CHECKING:
    from advisor.rollback import RollbackPlan
from advisor.workflow.deciding import Deciding
from advisor.workflow.files import fresh_id


class RollingBack(Deciding):
    """Plan and make rollbacks."""

    def finish_rollback(self, change_id: str, person: str) -> Change | None:
        """Carry on a rollback that was granted but has no recorded outcome, such as after a crash; None if there is none.

        Raises:
            NotPermitted: It ran out before it was written; that is now on record, and the change stands as before.
            ChangeError: As `change.reconcile` says.
        """
        change = self.store.change(change_id)
        under_way = self.store.list_proposals(change.incident_id, (State.GRANTED, State.DELIVERING, State.UNCERTAIN))
        begun = next((stored.proposal for stored in under_way if stored.proposal.rolls_back == change.id), None)
        if begun is None:
            return None
        check_person(person, begun, self.settings.approval)
        return self._resume(begun).change

    def plan_rollback(self, change_id: str) -> RollbackPlan:
        """Return exactly what taking a change back would write now."""
        from advisor.rollback import plan_rollback

        change = self.store.change(change_id)
        repository = self.repository(change.repository.name)
        proposal = self.store.proposal(change.proposal_id)
        return plan_rollback(
            repository,
            change,
            repository.head(),
            proposal_id=fresh_id("pro"),
            nonce=secrets.token_hex(16),
            evidence_digest=proposal.evidence_digest,
            policy_version=self.settings.policy_version,
            now=self.clock(),
            verification=proposal.verification,
            redact=redact,
        )

    def roll_back(self, change_id: str, person: str, comment: str = "", plan: RollbackPlan | None = None) -> Change:
        """Take a change back as a commit of its own; the person asking is the approver of exactly these bytes.

        Args:
            change_id: Of the change, or the beginning of it.
            person: Who asks; must be an approver.
            comment: Why.
            plan: What was shown; made anew by default.
        """
        from advisor.rollback import roll_back

        change = self.store.change(change_id)
        plan = plan or self.plan_rollback(change.id)
        with self._in_hand(plan.proposal):
            return roll_back(
                self.repository(change.repository.name),
                self.store,
                change,
                plan,
                person=person,
                rules=self.settings.approval,
                policy_version=self.settings.policy_version,
                now=self.clock(),
                key=self.signing_key,
                comment=redact(comment),
            )
