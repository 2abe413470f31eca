"""Who may do what in which state: the table, the page that shows it, and what the product really does, cell by cell.

`ADVISOR_WRITE_DOCS=1 pytest tests/test_authority.py` writes the table of ``docs/approvals.md`` anew.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor.approval import Answer, Approval, decide
from advisor.approval.rules import Freeze
from advisor.authority import WHEN, WHO, Act, Role, check_authority, decide_authority, may, roles_of
from advisor.errors import AdvisorError, ApproverNotAllowed, DeliveryFrozen, IllegalTransition, NotPermitted
from advisor.lifecycle import State
from advisor.settings import ApprovalRules, Settings, parse_settings
from advisor.workflow import Workflow
from tests.support.gate import NOW, git, propose, real_with_cause, revert_action, say

PAGE = Path(__file__).parent.parent / "docs" / "approvals.md"
PROOF = os.environ.get("ADVISOR_PROOF") == "1"
BEGIN, END = "<!-- authority: begin -->", "<!-- authority: end -->"
CELLS = [(role, act, state) for role in Role for act in Act for state in State]
PEOPLE = {
    Role.VIEWER: "viewer@example.org",
    Role.RESPONDER: "responder@example.org",
    Role.APPROVER: "approver@example.org",
    Role.ADMIN: "admin@example.org",
    Role.PROPOSER: "proposer@example.org",
    Role.BREAK_GLASS: "oncall@example.org",
    Role.STRANGER: "stranger@example.org",
    Role.NOBODY: "",
}
SECTION: dict[str, Any] = {
    "roles": {
        "viewer": [PEOPLE[Role.VIEWER]],
        "responder": [PEOPLE[Role.RESPONDER]],
        "admin": [PEOPLE[Role.ADMIN]],
    },
    "approvers": [PEOPLE[Role.APPROVER], PEOPLE[Role.PROPOSER]],
    "break_glass": {"people": [PEOPLE[Role.BREAK_GLASS]]},
}
RULES = ApprovalRules.model_validate(SECTION)
WHY = "the shop is down and nobody else answers"


# --- the table -----------------------------------------------------------------------------------------------------


def test_every_cell_has_an_answer_and_every_no_its_reason() -> None:
    assert set(WHO) == set(WHEN) == set(Act)
    assert len(CELLS) == len(Role) * len(Act) * len(State) >= 500
    for role, act, state in CELLS:
        decision = may(role, act, state)
        assert decision.allowed is not bool(decision.reason)


def test_nobody_and_strangers_may_nothing_and_a_viewer_decides_nothing() -> None:
    for role in (Role.NOBODY, Role.STRANGER):
        assert not any(may(role, act, state).allowed for act in Act for state in State)
    assert {act for act in Act for state in State if may(Role.VIEWER, act, state).allowed} == {Act.READ}


def test_each_role_may_all_that_the_one_before_it_may() -> None:
    order = [Role.VIEWER, Role.RESPONDER, Role.APPROVER, Role.ADMIN]
    for lower, higher in itertools.pairwise(order):
        for act in Act:
            for state in State:
                assert may(lower, act, state).allowed <= may(higher, act, state).allowed


def test_a_proposer_answers_nothing_in_any_state_whatever_else_they_are() -> None:
    answers = (Act.APPROVE, Act.DENY, Act.BREAK_GLASS, Act.DELIVER)
    for others in (set(), {Role.APPROVER}, {Role.ADMIN, Role.BREAK_GLASS}, set(Role)):
        for act in answers:
            for state in State:
                assert not decide_authority(frozenset({Role.PROPOSER, *others}), act, state).allowed


@pytest.mark.parametrize("role", Role)
def test_people_have_the_roles_that_the_settings_give_them(role: Role) -> None:
    found = roles_of(f" {PEOPLE[role].upper()} ", RULES, proposer=PEOPLE[Role.PROPOSER])
    extra = {Role.PROPOSER: {Role.APPROVER}, Role.ADMIN: {Role.APPROVER}}.get(role, set())
    assert found == {role, *extra}


@pytest.mark.parametrize("other", ["Proposer+1@example.org", "pr\u043eposer@example.org"])
def test_a_proposer_under_another_spelling_is_the_proposer(other: str) -> None:
    rules = ApprovalRules.model_validate({**SECTION, "approvers": [other]})
    assert Role.PROPOSER in roles_of(other, rules, proposer=PEOPLE[Role.PROPOSER])


def test_a_refusal_names_the_person_and_what_would_be_possible() -> None:
    with pytest.raises(ApproverNotAllowed, match=r"viewer@example.org: viewer may not approve; approval.roles"):
        check_authority(PEOPLE[Role.VIEWER], RULES, "engine", Act.APPROVE, State.PROPOSED)
    with pytest.raises(IllegalTransition, match=r"approve is not possible while denied .possible: proposed"):
        check_authority(PEOPLE[Role.APPROVER], RULES, "engine", Act.APPROVE, State.DENIED)
    with pytest.raises(ApproverNotAllowed, match=r"\(nobody\)"):
        check_authority("", RULES, "engine", Act.APPROVE, State.PROPOSED)


# --- the page ------------------------------------------------------------------------------------------------------


def page_table() -> str:
    """Return the table as the page shows it: states in which an act is open to the same roles stand in one row."""
    lines = ["| act | state | " + " | ".join(role.value for role in Role) + " |", "|" + "---|" * (2 + len(Role))]
    for act in Act:
        rows: dict[tuple[bool, ...], list[str]] = {}
        for state in State:
            rows.setdefault(tuple(may(role, act, state).allowed for role in Role), []).append(state.value)
        for cells, states in rows.items():
            shown = "every state" if len(states) == len(State) else ", ".join(states)
            marks = " | ".join("yes" if cell else "–" for cell in cells)
            lines.append(f"| {act.value} | {shown} | {marks} |")
    return "\n".join(lines)


def cells_of_page() -> dict[tuple[str, str, str], bool]:
    """Return every cell that the page shows, read from its text alone."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown_table().splitlines()]
    roles = rows[0][2:]
    found: dict[tuple[str, str, str], bool] = {}
    for row in rows[2:]:
        states = [s.value for s in State] if row[1] == "every state" else row[1].split(", ")
        for state in states:
            for role, mark in zip(roles, row[2:], strict=True):
                assert mark in ("yes", "–")
                assert (role, row[0], state) not in found, "a cell that stands twice"
                found[role, row[0], state] = mark == "yes"
    return found


def shown_table() -> str:
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


@pytest.fixture(scope="module", autouse=True)
def _written_page() -> None:
    if os.environ.get("ADVISOR_WRITE_DOCS") == "1":
        text = PAGE.read_text(encoding="utf-8")
        table = re.escape(BEGIN) + ".*?" + re.escape(END)
        PAGE.write_text(re.sub(table, f"{BEGIN}\n{page_table()}\n{END}", text, flags=re.S), encoding="utf-8")


def test_the_page_shows_each_cell_of_the_table_and_no_other() -> None:
    shown = cells_of_page()
    table = {(r.value, a.value, s.value): may(r, a, s).allowed for r, a, s in CELLS}
    assert shown == table
    assert len(shown) == len(CELLS)


# --- what the product really does ----------------------------------------------------------------------------------


@dataclass
class Scene:
    """A store and a repository with one proposal, or its change, in one state."""

    folder: Path
    proposal_id: str
    change_id: str | None

    def workflow(self) -> Workflow:
        return Workflow(_settings(self.folder), clock=lambda: NOW)

    def footprint(self) -> tuple[Any, ...]:
        """Return all that a decision could change: states, answers, changes, the branch."""
        with sqlite3.connect(self.folder / "advisor.db") as database:
            rows = [
                sorted(database.execute(f"SELECT * FROM {table}").fetchall())
                for table in ("proposals", "answers", "changes")
            ]
        database.close()
        return (*rows, (self.folder / "remote.git" / "refs" / "heads" / "main").read_text())


def _settings(folder: Path) -> Settings:
    return parse_settings(
        json.dumps(
            {
                "approval": SECTION,
                "repositories": {"config": {"url": "./remote.git"}},
                "services": {
                    "checkout": {
                        "selector": 'job="checkout"',
                        "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
                    }
                },
            }
        ),
        folder,
    )


BEFORE = (State.PROPOSED, State.GRANTED, State.DENIED, State.EXPIRED, State.SUPERSEDED)
NOT_WRITTEN = (State.DELIVERING, State.UNCERTAIN, State.AWAITING_MERGE, State.CONFLICT, State.REFUSED)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[State, Scene]]:
    """Return a scene for each state: made by the product as far as it goes, then set."""
    root = tmp_path_factory.mktemp("states")
    empty = root / "empty"
    repository, _remote, commit = real_with_cause(empty)
    settings = _settings(empty)
    proposal = propose(
        repository, revert_action(commit), proposer=PEOPLE[Role.PROPOSER], policy_version=settings.policy_version
    )
    scenes: dict[State, Scene] = {}
    base = Scene(empty, proposal.id, None)
    base.workflow().store.save_proposal(proposal)
    granted = Scene(_copied(empty, root / "granted"), proposal.id, None)
    workflow = granted.workflow()
    given = workflow.approve(proposal.id, PEOPLE[Role.APPROVER])
    assert given.change is not None
    # The same records, with a branch that the commit never reached.
    unwritten = _copied(granted.folder, root / "unwritten")
    shutil.rmtree(unwritten / "remote.git")
    shutil.copytree(empty / "remote.git", unwritten / "remote.git")
    for state in State:
        source = empty if state in BEFORE else unwritten if state in NOT_WRITTEN else granted.folder
        folder = _copied(source, root / f"state-{state.value}")
        change_id = None if state in BEFORE else given.change.id
        scenes[state] = Scene(folder, proposal.id, change_id)
        if state is State.GRANTED:
            own = scenes[state].workflow()
            answer: Answer = say(proposal, PEOPLE[Role.APPROVER])
            approval = decide(proposal, answer, own.rules, settings.policy_version, (), NOW, own.signing_key)
            own.store.record_answer(approval)
        with sqlite3.connect(folder / "advisor.db") as database:
            database.execute("UPDATE proposals SET state = ?", (state.value,))
        database.close()
    yield scenes


def _copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True)
    return target


def _do(scene: Scene, act: Act, person: str) -> AdvisorError | None:
    """Do something as the command line does it; return what it was refused with."""
    workflow = scene.workflow()
    try:
        match act:
            case Act.APPROVE | Act.DELIVER:
                workflow.approve(scene.proposal_id, person)
            case Act.DENY:
                workflow.deny(scene.proposal_id, person, "not now")
            case Act.BREAK_GLASS:
                workflow.break_glass(scene.proposal_id, person, WHY)
            case Act.ROLL_BACK:
                assert scene.change_id is not None
                workflow.roll_back(scene.change_id, person)
            case _:
                raise AssertionError(act)
    except AdvisorError as refusal:
        return refusal
    finally:
        workflow.store.close()
    return None


DECIDING = (Act.APPROVE, Act.DENY, Act.BREAK_GLASS, Act.DELIVER, Act.ROLL_BACK)
FEW = (Role.APPROVER, Role.STRANGER)  # of the slower act in the usual run, beside everybody in one state


@pytest.mark.parametrize("act", DECIDING)
def test_what_the_product_does_is_what_the_table_says(act: Act, made: dict[State, Scene], tmp_path: Path) -> None:
    checked = allowed = 0
    for state, scene in made.items():
        if act is Act.ROLL_BACK and scene.change_id is None:
            continue  # there is nothing that could be named
        if act is Act.APPROVE and state in WHEN[Act.DELIVER]:
            continue  # the same command carries the delivery on there; that adds no approval, see the next test
        if act is Act.DELIVER and state is State.PROPOSED:
            continue  # the command is an approval there
        if act is Act.ROLL_BACK and state is State.ROLLING_BACK:
            continue  # what is carried on there is a rollback of its own, which a state set by hand does not have
        own = before = None
        for role in Role:
            if act is Act.ROLL_BACK and state is not State.DELIVERED and role not in FEW and not PROOF:
                continue
            if own is None:  # the first, or what was there is used up
                folder = _copied(scene.folder, tmp_path / f"{checked}")
                own = Scene(folder, scene.proposal_id, scene.change_id)
                before = own.footprint()
            expected, refusal = may(role, act, state), _do(own, act, PEOPLE[role])
            where = (role, act, state, refusal, expected)
            if expected.allowed:
                # Something else may still go wrong: with the state set by hand the branch may be without the commit.
                assert not isinstance(refusal, NotPermitted | IllegalTransition), where
                own = None
            else:
                assert refusal is not None, where
                assert own.footprint() == before, where
            checked, allowed = checked + 1, allowed + expected.allowed
    assert checked >= 30
    assert allowed >= 1


@pytest.mark.parametrize("act", [Act.APPROVE, Act.DENY, Act.BREAK_GLASS])
def test_the_workflow_asks_the_table_once_more_before_it_records(
    act: Act, made: dict[State, Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = made[State.PROPOSED]
    own = Scene(_copied(scene.folder, tmp_path / "x"), scene.proposal_id, None)
    before = own.footprint()
    monkeypatch.setitem(WHO, act, frozenset())  # the table alone says no
    person = PEOPLE[Role.BREAK_GLASS if act is Act.BREAK_GLASS else Role.ADMIN]
    assert isinstance(_do(own, act, person), ApproverNotAllowed)
    assert own.footprint() == before


def test_carrying_on_adds_no_approval(made: dict[State, Scene], tmp_path: Path) -> None:
    for state in (State.GRANTED, State.DELIVERING, State.UNCERTAIN):
        scene = made[state]
        own = Scene(_copied(scene.folder, tmp_path / state.value), scene.proposal_id, scene.change_id)
        assert _do(own, Act.DELIVER, PEOPLE[Role.ADMIN]) is None
        answers = own.workflow().store.answers(scene.proposal_id)
        assert [a.person for a in answers if isinstance(a, Approval)] == [PEOPLE[Role.APPROVER]]


def test_a_broken_glass_is_heard_in_the_audit_before_it_counts(made: dict[State, Scene], tmp_path: Path) -> None:
    own = Scene(_copied(made[State.PROPOSED].folder, tmp_path / "x"), made[State.PROPOSED].proposal_id, None)
    person = PEOPLE[Role.BREAK_GLASS]
    change = own.workflow().break_glass(own.proposal_id, person, WHY).change
    assert change is not None and change.break_glass == WHY
    entries = own.workflow().store.audit_entries(own.proposal_id)
    actions = [entry.action for entry in entries]
    assert actions.index("proposal.break_glass") < actions.index("proposal.grant")
    loud = dict(next(entry for entry in entries if entry.action == "proposal.break_glass").details)
    assert loud["reason"] == WHY and loud["service"] == "checkout"
    assert f"Break-glass: {person}, {WHY}" in git(own.folder / "remote.git", "log", "-1", "--format=%B", "main")


def test_a_broken_glass_skips_neither_base_nor_bytes(made: dict[State, Scene], tmp_path: Path) -> None:
    from advisor.errors import ChangeConflict
    from tests.support.gate import PATH, fast_import

    own = Scene(_copied(made[State.PROPOSED].folder, tmp_path / "x"), made[State.PROPOSED].proposal_id, None)
    fast_import(own.folder / "remote.git", {PATH: b"moved: on\n"})
    with pytest.raises(ChangeConflict):
        own.workflow().break_glass(own.proposal_id, PEOPLE[Role.BREAK_GLASS], WHY)


def test_a_delivery_left_in_the_middle_waits_for_the_end_of_a_freeze(made: dict[State, Scene], tmp_path: Path) -> None:
    scene = made[State.DELIVERING]
    own = Scene(_copied(scene.folder, tmp_path / "x"), scene.proposal_id, scene.change_id)
    before = own.footprint()
    until = NOW + timedelta(minutes=5)
    for minutes, refused in ((3, True), (5, False)):
        workflow = Workflow(_settings(own.folder), clock=lambda at=NOW + timedelta(minutes=minutes): at)  # type: ignore[misc]
        # As if the freeze had stood there when it was approved: another policy version would void it.
        freeze = Freeze(start=NOW + timedelta(minutes=1), end=until)
        frozen = workflow.rules.model_copy(update={"freeze": (freeze,)})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Workflow, "rules", frozen)
            if refused:
                with pytest.raises(DeliveryFrozen, match="until 2026-11-22T08:05:00"):
                    workflow.approve(own.proposal_id, PEOPLE[Role.APPROVER])
                assert own.footprint() == before
            else:
                assert workflow.approve(own.proposal_id, PEOPLE[Role.APPROVER]).change is not None
    assert own.footprint() != before


def test_rules_that_lie_in_the_repository_they_guard_approve_nothing(made: dict[State, Scene], tmp_path: Path) -> None:
    own = _copied(made[State.PROPOSED].folder, tmp_path / "x")
    (own / "remote.git" / "settings").mkdir()
    inside = parse_settings(
        json.dumps(
            {"approval": SECTION, "store": f"sqlite:///{own}/advisor.db", "state_directory": f"{own}/.advisor"}
        ).rstrip("}")
        + ', "repositories": {"config": {"url": ".."}}}',
        own / "remote.git" / "settings",
    )
    workflow = Workflow(inside, clock=lambda: NOW)
    for ask in (workflow.approve, workflow.break_glass):
        with pytest.raises(NotPermitted, match="lies inside repository config"):
            ask(made[State.PROPOSED].proposal_id, PEOPLE[Role.APPROVER], WHY)
