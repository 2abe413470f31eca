"""The table of states: every pair is a listed step or refused by name."""

from __future__ import annotations

import itertools

import pytest

from advisor.errors import IllegalTransition
from advisor.lifecycle import ON_BRANCH, PENDING, TRANSITIONS, Event, State, advance

PAIRS = list(itertools.product(State, Event))

# Written out a second time on purpose: a step that slips into the table must be written here as well.
LEGAL = {
    "proposed": "approve>proposed grant>granted deny>denied expire>expired supersede>superseded",
    "granted": "expire>expired supersede>superseded begin_delivery>delivering",
    "delivering": "deliver>delivered conflict>conflict refuse>refused lose>uncertain expire>expired"
    " open>awaiting_merge merge>delivered close>refused",
    "uncertain": "deliver>delivered conflict>conflict refuse>refused expire>expired"
    " open>awaiting_merge merge>delivered close>refused",
    "awaiting_merge": "merge>delivered close>refused conflict>conflict refuse>refused expire>expired lose>uncertain",
    "delivered": "begin_verification>verifying begin_rollback>rolling_back",
    "verifying": "pass>passed fail>failed leave_open>inconclusive err>error begin_verification>verifying"
    " begin_rollback>rolling_back",
    "passed": "begin_verification>verifying begin_rollback>rolling_back",
    "failed": "begin_verification>verifying begin_rollback>rolling_back",
    "inconclusive": "begin_verification>verifying begin_rollback>rolling_back",
    "error": "begin_verification>verifying begin_rollback>rolling_back",
    "rolling_back": "roll_back>rolled_back abandon_rollback>delivered",
    "rolled_back": "reinstate>delivered",
}
EXPECTED = {
    (State(state), Event(step.split(">")[0])): State(step.split(">")[1])
    for state, steps in LEGAL.items()
    for step in steps.split()
}


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda value: value.value)
def test_each_pair_is_a_listed_step_or_refused_by_name(state: State, event: Event) -> None:
    if (state, event) in EXPECTED:
        assert advance(state, event) is EXPECTED[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{event.value} is not possible while {state.value}"):
            advance(state, event)


def test_the_table_has_no_other_steps() -> None:
    assert TRANSITIONS == EXPECTED


@pytest.mark.parametrize("state", [State.DENIED, State.EXPIRED, State.SUPERSEDED, State.CONFLICT, State.REFUSED])
def test_an_answer_against_and_a_change_not_made_are_final(state: State) -> None:
    assert not [event for s, event in TRANSITIONS if s is state]


def test_nothing_is_delivered_that_was_not_granted() -> None:
    before = {state for (state, event), after in TRANSITIONS.items() if event is Event.BEGIN_DELIVERY}
    granted = {state for (state, event), after in TRANSITIONS.items() if after is State.GRANTED}
    assert before == {State.GRANTED}
    assert granted == {State.PROPOSED}
    assert {state for (state, event) in TRANSITIONS if event is Event.DELIVER} == {
        State.DELIVERING,
        State.UNCERTAIN,
    }
    # What is offered for merging was begun with a grant as well.
    assert {state for (state, event) in TRANSITIONS if event in (Event.OPEN, Event.MERGE)} == {
        State.DELIVERING,
        State.UNCERTAIN,
        State.AWAITING_MERGE,
    }
    assert {state for (state, _), after in TRANSITIONS.items() if after is State.AWAITING_MERGE} == {
        State.DELIVERING,
        State.UNCERTAIN,
    }


def test_every_state_can_be_reached() -> None:
    assert {State.PROPOSED, *TRANSITIONS.values()} == set(State)


def test_every_change_on_the_branch_can_be_taken_back() -> None:
    assert {state for state, event in TRANSITIONS if event is Event.BEGIN_ROLLBACK} == ON_BRANCH


def test_every_pending_state_has_a_way_out() -> None:
    for state in PENDING:
        assert any(s is state and after is not state for (s, _), after in TRANSITIONS.items())
