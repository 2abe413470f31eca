"""Every recorded case of every playbook: a new folder under ``playbooks/*/cases`` is a new test, no Python needed.

Cases of the development split must come out as their truth says. The held-out ones are scored together: nobody looks at one
of them to make it pass, so single misses are allowed and counted.
"""

from pathlib import Path

import pytest

from advisor.evaluation.cases import Case, find_cases
from advisor.evaluation.figures import summarise
from advisor.evaluation.judging import Judged, judge
from advisor.evaluation.running import answer_of
from advisor.evaluation.truth import Split
from advisor.replaying import open_replay, replaying

PLAYBOOKS = Path(__file__).parent.parent / "playbooks"
CASES = find_cases([PLAYBOOKS])
DEVELOPMENT = [c for c in CASES if c.truth.split is Split.DEVELOPMENT]
HELD_OUT = [c for c in CASES if c.truth.split is Split.HELD_OUT]
BUNDLE_BYTES_MAX = 1_000_000
# Wrong as of now, each with its reason; a case that comes right must leave this list.
KNOWN_MISSES: dict[str, str] = {}


def judged(case: Case) -> Judged:
    with replaying(case.bundle) as recorded:
        report = recorded.investigate().report
    return judge(case, answer_of(report))


def came_right(found: Judged) -> bool:
    return found.outcome_right and not found.wrong_diagnosis and not found.ceiling_raised


def test_there_are_cases_of_many_classes() -> None:
    assert len(CASES) >= 40
    assert len({c.class_name for c in CASES}) >= 10
    assert len(HELD_OUT) >= 0.3 * len(CASES)


@pytest.mark.parametrize("case", DEVELOPMENT, ids=lambda c: c.name)
def test_a_development_case_comes_out_as_its_truth_says(case: Case) -> None:
    assert case.bundle.stat().st_size < BUNDLE_BYTES_MAX
    found = judged(case)
    assert not found.wrong_remedies
    if case.bundle.parent.name in KNOWN_MISSES:
        assert not came_right(found), "it comes right now: take it off the list"
        return
    assert came_right(found)


def test_held_out_cases_are_found_together() -> None:
    total = summarise([judged(case) for case in HELD_OUT])
    assert total.wrong_remedy.count == 0
    assert total.first.count >= 0.85 * total.first.total
    assert total.wrong_diagnosis.count <= 0.1 * total.cases


def test_the_incident_is_shown_again_from_its_recording(tmp_path: Path) -> None:
    case = next(c for c in CASES if c.bundle.parent.name == "session_timeout")
    replay = open_replay(case.bundle, tmp_path)
    first = replay.investigate(keep=True)
    again = replay.workflow.recorded(first.report["incident"]["id"])
    assert again is not None
    assert again.gathered == first.gathered
    assert again.assessment == first.assessment
    replay.workflow._tape_path(first.report["incident"]["id"]).unlink()
    assert replay.workflow.recorded(first.report["incident"]["id"]) is None
