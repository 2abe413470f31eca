"""Who may do what in which state: one table, and one question to it.

The core refuses each wrong answer by itself, with its own reason (`approval.decide`, `approval.grant`, `lifecycle.advance`);
this table says the same from the side of people, so that a console or an API can ask before it offers a button, and the
workflow asks once more before it records anything. `docs/approvals.md` shows it; a test holds table, page and behaviour
against one another.

The command line cannot hold people to the read-only parts: whoever can run it can read the store. It asks for a name only
where something is decided. Pure.
"""

from __future__ import annotations

from enum import StrEnum

from advisor.approval.people import principals, same_person
from advisor.approval.rules import Rules, may_approve, may_break_glass
from advisor.errors import ApproverNotAllowed, IllegalTransition, one_line
from advisor.lifecycle import ON_BRANCH, State
from advisor.values import Record


class Role(StrEnum):
    """What somebody is to a proposal."""

    VIEWER = "viewer"
    RESPONDER = "responder"
    APPROVER = "approver"
    ADMIN = "admin"
    PROPOSER = "proposer"  # an approver who proposed this one
    BREAK_GLASS = "break-glass"  # listed under approval.break_glass.people and nowhere else
    STRANGER = "stranger"  # somebody with a name that is listed nowhere
    NOBODY = "nobody"  # no name was given


class Act(StrEnum):
    """What somebody may want to do."""

    READ = "read"  # incidents, proposals, changes
    INVESTIGATE = "investigate"
    PROPOSE = "propose"
    APPROVE = "approve"
    DENY = "deny"
    BREAK_GLASS = "break-glass"
    DELIVER = "deliver"  # carry on what was granted: `advisor approve` on it
    VERIFY = "verify"
    ROLL_BACK = "rollback"
    READ_AUDIT = "read audit"


class Decision(Record):
    """Whether somebody may, and if not, why not."""

    allowed: bool
    reason: str = ""


_RESPONDERS = frozenset({Role.RESPONDER, Role.APPROVER, Role.ADMIN, Role.PROPOSER, Role.BREAK_GLASS})
_APPROVERS = frozenset({Role.APPROVER, Role.ADMIN})
_ANSWERS = frozenset({Act.APPROVE, Act.DENY, Act.BREAK_GLASS, Act.DELIVER})
_ANY_STATE = frozenset(State)
_UNDER_WAY = frozenset({State.GRANTED, State.DELIVERING, State.UNCERTAIN, State.AWAITING_MERGE})

# Who, and in which states of the proposal or of its change. Reading, investigating and proposing are about no state: they
# are possible in each.
WHO: dict[Act, frozenset[Role]] = {
    Act.READ: _RESPONDERS | {Role.VIEWER},
    Act.INVESTIGATE: _RESPONDERS,
    Act.PROPOSE: _RESPONDERS,
    Act.APPROVE: _APPROVERS,
    Act.DENY: _APPROVERS,
    Act.BREAK_GLASS: frozenset({Role.BREAK_GLASS}),
    Act.DELIVER: _APPROVERS | {Role.BREAK_GLASS},
    Act.VERIFY: _RESPONDERS,
    # The proposer as well: what is approved here is the recorded inverse, which the machine proposed.
    Act.ROLL_BACK: _APPROVERS | {Role.PROPOSER, Role.BREAK_GLASS},
    Act.READ_AUDIT: _APPROVERS | {Role.PROPOSER},
}
WHEN: dict[Act, frozenset[State]] = {
    Act.READ: _ANY_STATE,
    Act.INVESTIGATE: _ANY_STATE,
    Act.PROPOSE: _ANY_STATE,
    Act.APPROVE: frozenset({State.PROPOSED}),
    Act.DENY: frozenset({State.PROPOSED}),
    Act.BREAK_GLASS: frozenset({State.PROPOSED}),
    Act.DELIVER: _UNDER_WAY,
    Act.VERIFY: ON_BRANCH,
    Act.ROLL_BACK: ON_BRANCH | {State.ROLLING_BACK},
    Act.READ_AUDIT: _ANY_STATE,
}


def may(role: Role, act: Act, state: State) -> Decision:
    """Return whether a role may do something while a proposal, or its change, is in a state."""
    if role not in WHO[act]:
        return Decision(allowed=False, reason=f"{role.value} may not {act.value}")
    if state not in WHEN[act]:
        when = ", ".join(s.value for s in State if s in WHEN[act])
        return Decision(allowed=False, reason=f"{act.value} is not possible while {state.value} (possible: {when})")
    return Decision(allowed=True)


def roles_of(person: str, rules: Rules, proposer: str = "") -> frozenset[Role]:
    """Return what somebody is to a proposal.

    Args:
        person: The name as it was given.
        rules: Who is what.
        proposer: Of the proposal in question.
    """
    name = person.strip().lower()
    if not name:
        return frozenset({Role.NOBODY})
    listed = {
        Role.VIEWER: principals(rules.roles.viewer),
        Role.RESPONDER: principals(rules.roles.responder),
        Role.APPROVER: may_approve(rules),
        Role.ADMIN: principals(rules.roles.admin),
        Role.BREAK_GLASS: may_break_glass(rules),
    }
    found = {role for role, people in listed.items() if name in people}
    found = found or {Role.STRANGER}
    return frozenset(found | {Role.PROPOSER} if proposer and same_person(name, proposer) else found)


def decide_authority(roles: frozenset[Role], act: Act, state: State) -> Decision:
    """Return whether somebody with these roles may: one that may is enough, but for an answer to one's own proposal."""
    if Role.PROPOSER in roles and act in _ANSWERS:
        return may(Role.PROPOSER, act, state)
    decisions = [may(role, act, state) for role in sorted(roles - {Role.PROPOSER})] or [may(Role.NOBODY, act, state)]
    return next((decision for decision in decisions if decision.allowed), decisions[-1])


def check_authority(person: str, rules: Rules, proposer: str, act: Act, state: State) -> None:
    """Check that somebody may do something now.

    Raises:
        ApproverNotAllowed: Not this person.
        IllegalTransition: Nobody, in this state.
    """
    roles = roles_of(person, rules, proposer)
    decision = decide_authority(roles, act, state)
    if decision.allowed:
        return
    who = one_line(person, 80) or "(nobody)"
    if state not in WHEN[act] and decide_authority(roles, act, min(WHEN[act])).allowed:
        raise IllegalTransition(f"{who}: {decision.reason}")
    raise ApproverNotAllowed(f"{who}: {decision.reason}; approval.roles in the settings says who may")
