"""Every recorded case of every playbook: a new folder under ``playbooks/*/cases`` is a new test, no Python needed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from advisor.replaying import open_replay, replaying

CASES = sorted((Path(__file__).parent.parent / "playbooks").glob("*/cases/*/*.bundle.zip"))
BUNDLE_BYTES_MAX = 1_000_000


@pytest.fixture(params=CASES, ids=lambda path: path.parent.name)
def case(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    path: Path = request.param
    return path, yaml.safe_load((path.parent / "truth.yaml").read_text())


def test_there_are_cases() -> None:
    assert len(CASES) >= 6


def test_the_replayed_diagnosis_is_the_truth(case: tuple[Path, dict[str, Any]]) -> None:
    path, truth = case
    assert path.stat().st_size < BUNDLE_BYTES_MAX
    with replaying(path) as recorded:
        report = recorded.investigate().report
    diagnosis = report["diagnosis"]
    assert diagnosis["outcome"] == truth["outcome"]
    assert diagnosis["kind"] == truth["kind"]
    cause = diagnosis["cause"] or {}
    if truth["commit"]:
        assert cause["commit"] == truth["commit"]
        assert cause["path"] == truth["path"]
        assert truth["key"] in cause["key"]
        fixes = [p for p in report["proposals"] if p["fixes_cause"]]
        assert len(fixes) == 1
        assert fixes[0]["action"]["commit"] == truth["commit"]
        assert fixes[0]["rollback_rehearsed"]
        assert any(r["action"] == "raise_heap" for r in report["rejected_remedies"])
    else:
        assert not any(p["action"]["type"] == "set_value" and p["fixes_cause"] for p in report["proposals"])


def test_the_incident_is_shown_again_from_its_recording(tmp_path: Path) -> None:
    replay = open_replay(next(p for p in CASES if p.parent.name == "session_timeout"), tmp_path)
    first = replay.investigate(keep=True)
    again = replay.workflow.recorded(first.report["incident"]["id"])
    assert again is not None
    assert again.gathered == first.gathered
    assert again.assessment == first.assessment
    replay.workflow._tape_path(first.report["incident"]["id"]).unlink()
    assert replay.workflow.recorded(first.report["incident"]["id"]) is None
