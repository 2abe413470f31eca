"""The one table of states and legal steps, from a proposal to its rollback.

A proposal and the change that comes of it are one subject with one state: what is pending can then be read
from one column. The store applies a step as a compare-and-swap on that column; this module only says which
steps exist.

It decides nothing else: who may approve stands in `approval`, what may be written in `change`. Pure.
"""

from __future__ import annotations

from enum import StrEnum

from advisor.errors import IllegalTransition


class State(StrEnum):
    """Where a proposal, or the change that came of it, stands."""

    PROPOSED = "proposed"
    GRANTED = "granted"
    DENIED = "denied"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    DELIVERING = "delivering"
    CONFLICT = "conflict"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    AWAITING_MERGE = "awaiting_merge"  # on a branch of its own; the main branch is as it was
    DELIVERED = "delivered"
    VERIFYING = "verifying"
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


class Event(StrEnum):
    """What happened to it."""

    APPROVE = "approve"  # one of several people; not enough yet
    GRANT = "grant"  # the last approval that was needed
    DENY = "deny"
    EXPIRE = "expire"
    SUPERSEDE = "supersede"  # base, policy or evidence moved on; a fresh proposal took its place
    BEGIN_DELIVERY = "begin_delivery"
    DELIVER = "deliver"
    CONFLICT = "conflict"
    REFUSE = "refuse"
    LOSE = "lose"  # the remote fell silent: we cannot tell
    OPEN = "open"  # offered on a branch of its own, or as a pull request
    MERGE = "merge"  # what was offered stands on the main branch, to the byte
    CLOSE = "close"  # somebody closed it unmerged
    BEGIN_VERIFICATION = "begin_verification"
    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    LEAVE_OPEN = "leave_open"  # verified, inconclusive
    ERR = "err"
    BEGIN_ROLLBACK = "begin_rollback"
    ABANDON_ROLLBACK = "abandon_rollback"  # the rollback wrote nothing
    ROLL_BACK = "roll_back"
    REINSTATE = "reinstate"  # the rollback was itself rolled back


# A change can be taken back in each state in which it stands on the branch, whatever its verification said or
# is saying: rollback must never wait for metrics.
_ON_BRANCH = (
    State.DELIVERED,
    State.VERIFYING,
    State.PASSED,
    State.FAILED,
    State.INCONCLUSIVE,
    State.ERROR,
)

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.PROPOSED, Event.APPROVE): State.PROPOSED,
    (State.PROPOSED, Event.GRANT): State.GRANTED,
    (State.PROPOSED, Event.DENY): State.DENIED,
    (State.PROPOSED, Event.EXPIRE): State.EXPIRED,
    (State.PROPOSED, Event.SUPERSEDE): State.SUPERSEDED,
    (State.GRANTED, Event.EXPIRE): State.EXPIRED,
    (State.GRANTED, Event.SUPERSEDE): State.SUPERSEDED,
    (State.GRANTED, Event.BEGIN_DELIVERY): State.DELIVERING,
    (State.DELIVERING, Event.DELIVER): State.DELIVERED,
    (State.DELIVERING, Event.CONFLICT): State.CONFLICT,
    (State.DELIVERING, Event.REFUSE): State.REFUSED,
    (State.DELIVERING, Event.LOSE): State.UNCERTAIN,
    # After a crash the grant may have run out before anything was written.
    (State.DELIVERING, Event.EXPIRE): State.EXPIRED,
    # An uncertain delivery is settled by looking at the branch, on a person's word; never by itself.
    (State.UNCERTAIN, Event.DELIVER): State.DELIVERED,
    (State.UNCERTAIN, Event.CONFLICT): State.CONFLICT,
    (State.UNCERTAIN, Event.REFUSE): State.REFUSED,
    (State.UNCERTAIN, Event.EXPIRE): State.EXPIRED,
    # A commit that is offered for merging. A look may find it merged or closed before its opening was ever recorded.
    **{
        (state, event): after
        for state in (State.DELIVERING, State.UNCERTAIN)
        for event, after in (
            (Event.OPEN, State.AWAITING_MERGE),
            (Event.MERGE, State.DELIVERED),
            (Event.CLOSE, State.REFUSED),
        )
    },
    (State.AWAITING_MERGE, Event.MERGE): State.DELIVERED,
    (State.AWAITING_MERGE, Event.CLOSE): State.REFUSED,
    (State.AWAITING_MERGE, Event.CONFLICT): State.CONFLICT,
    (State.AWAITING_MERGE, Event.REFUSE): State.REFUSED,
    (State.AWAITING_MERGE, Event.EXPIRE): State.EXPIRED,
    (State.AWAITING_MERGE, Event.LOSE): State.UNCERTAIN,
    (State.DELIVERED, Event.BEGIN_VERIFICATION): State.VERIFYING,
    (State.VERIFYING, Event.PASS): State.PASSED,
    (State.VERIFYING, Event.FAIL): State.FAILED,
    (State.VERIFYING, Event.LEAVE_OPEN): State.INCONCLUSIVE,
    (State.VERIFYING, Event.ERR): State.ERROR,
    # A verdict is of its window; a later look may say otherwise.
    (State.PASSED, Event.BEGIN_VERIFICATION): State.VERIFYING,
    (State.FAILED, Event.BEGIN_VERIFICATION): State.VERIFYING,
    (State.INCONCLUSIVE, Event.BEGIN_VERIFICATION): State.VERIFYING,
    (State.ERROR, Event.BEGIN_VERIFICATION): State.VERIFYING,
    # A crash in the middle of looking leaves "verifying"; looking again is harmless.
    (State.VERIFYING, Event.BEGIN_VERIFICATION): State.VERIFYING,
    **{(state, Event.BEGIN_ROLLBACK): State.ROLLING_BACK for state in _ON_BRANCH},
    (State.ROLLING_BACK, Event.ROLL_BACK): State.ROLLED_BACK,
    (State.ROLLING_BACK, Event.ABANDON_ROLLBACK): State.DELIVERED,
    (State.ROLLED_BACK, Event.REINSTATE): State.DELIVERED,
}

# States in which someone or something still has to act; all others rest.
PENDING = frozenset(
    {
        State.PROPOSED,
        State.GRANTED,
        State.DELIVERING,
        State.UNCERTAIN,
        State.AWAITING_MERGE,
        State.VERIFYING,
        State.ROLLING_BACK,
    }
)
# States in which the change stands on the branch.
ON_BRANCH = frozenset(_ON_BRANCH)


def advance(state: State, event: Event) -> State:
    """Return the state after an event.

    Raises:
        IllegalTransition: The table has no such step; the state is unchanged.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        legal = ", ".join(sorted(e.value for s, e in TRANSITIONS if s is state)) or "nothing"
        raise IllegalTransition(f"{event.value} is not possible while {state.value}; possible here: {legal}") from None
