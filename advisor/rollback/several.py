"""The changes of an incident, taken back together: the newest first, each as a rollback of its own.

All plans are made and shown before the first is carried out, each on top of the ones before it. Where one is refused
nothing at all is written: half an incident taken back is a state that nobody has seen working. While they are carried out
each is planned again on the real head and must give the very bytes that were shown; the first that does not ends it.

Pure; called by the workflow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from advisor.change import Change
from advisor.errors import AdvisorError, ChangeConflict
from advisor.rollback import RollbackPlan
from advisor.values import Record


class Left(Record):
    """A change that was not taken back, and why."""

    change_id: str
    reason: str


class SeveralPlan(Record):
    """What taking back an incident's changes would write, in the order in which it would be written.

    Attributes:
        incident_id: Whose changes.
        changes: Those that stand, the newest first.
        plans: One for each change up to the first refusal.
        left: The refused one and those behind it; empty if all can be taken back.
    """

    incident_id: str
    changes: tuple[Change, ...]
    plans: tuple[RollbackPlan, ...]
    left: tuple[Left, ...] = ()


class SeveralDone(Record):
    """What was written of it: ``left`` is empty if everything was."""

    incident_id: str
    done: tuple[Change, ...]
    left: tuple[Left, ...] = ()


class Stopped(ChangeConflict):
    """Taking back an incident's changes ended before the last; what was done stands.

    Attributes:
        outcome: What was done, and what was not.
    """

    def __init__(self, message: str, outcome: SeveralDone, exit_code: int) -> None:
        """Keep what a person must know."""
        super().__init__(message)
        self.outcome = outcome
        self.exit_code = exit_code  # of what stopped it: an uncertain push stays one


def plan_several(
    incident_id: str,
    changes: Sequence[Change],
    plan_one: Callable[[Change, str | None], RollbackPlan],
    candidate_of: Callable[[RollbackPlan], str],
) -> SeveralPlan:
    """Return the plans for an incident's changes.

    Args:
        incident_id: Whose changes.
        changes: Those that stand on a branch, the newest first.
        plan_one: Plans one change on a commit, or on the head of its branch where None is given.
        candidate_of: Makes a commit with a plan's result, on no branch: what the next plan stands on.
    """
    plans: list[RollbackPlan] = []
    left: list[Left] = []
    standing: dict[str, str] = {}  # repository -> the candidate that the next plan stands on
    for change in changes:
        if left:
            left.append(Left(change_id=change.id, reason="not reached"))
            continue
        try:
            plan = plan_one(change, standing.get(change.repository.name))
            standing[change.repository.name] = candidate_of(plan)
        except AdvisorError as error:
            left.append(Left(change_id=change.id, reason=str(error)))
            continue
        plans.append(plan)
    return SeveralPlan(incident_id=incident_id, changes=tuple(changes), plans=tuple(plans), left=tuple(left))


def check_same(shown: RollbackPlan, now: RollbackPlan) -> None:
    """Check that a plan made again writes what was shown.

    Raises:
        ChangeConflict: The branch moved on and it would write something else; nothing was written.
    """
    if (shown.proposal.patch_digest, shown.proposal.view_digest) != (
        now.proposal.patch_digest,
        now.proposal.view_digest,
    ):
        raise ChangeConflict(
            f"rollback of {shown.change_id}: the branch moved on, and it would write something else than was shown;"
            " nothing of it was written, ask for it again"
        )


def carry_out(
    plan: SeveralPlan, plan_again: Callable[[Change], RollbackPlan], make: Callable[[Change, RollbackPlan], Change]
) -> SeveralDone:
    """Return the rollbacks after all of them stand on their branches.

    Args:
        plan: As it was shown; none of it was refused.
        plan_again: Plans one change on the head of now.
        make: Carries one plan out.

    Raises:
        ChangeConflict: Something of it was refused when it was planned; nothing was written.
        Stopped: One was refused on the way; those before it stand.
    """
    if plan.left:
        first = plan.left[0]
        raise ChangeConflict(
            f"incident {plan.incident_id}: {first.reason}; none of its {len(plan.changes)} changes was taken back"
        )
    done: list[Change] = []
    for number, (change, shown) in enumerate(zip(plan.changes, plan.plans, strict=True)):
        try:
            again = plan_again(change)
            check_same(shown, again)
            done.append(make(change, again))
        except AdvisorError as error:
            rest = plan.changes[number + 1 :]
            left = (Left(change_id=change.id, reason=str(error)), *(_not_reached(c) for c in rest))
            outcome = SeveralDone(incident_id=plan.incident_id, done=tuple(done), left=left)
            raise Stopped(_told(outcome, error), outcome, error.exit_code) from error
    return SeveralDone(incident_id=plan.incident_id, done=tuple(done))


def _not_reached(change: Change) -> Left:
    return Left(change_id=change.id, reason="not reached")


def _told(outcome: SeveralDone, error: AdvisorError) -> str:
    done = ", ".join(change.rolls_back or change.id for change in outcome.done) or "none"
    left = ", ".join(each.change_id for each in outcome.left)
    return f"incident {outcome.incident_id}: taken back: {done}; not taken back: {left}; {error}"
