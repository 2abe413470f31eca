"""Evidence: the gate that nothing is diagnosed before every required source has ended, and absence told from failure."""

from __future__ import annotations

import ast
import typing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import advisor
from advisor.diagnosis import Outcome
from advisor.diagnosis.engine import diagnose
from advisor.errors import IllegalTransition
from advisor.evidence import (
    Coverage,
    Evidence,
    EvidenceKind,
    Gathered,
    Series,
    SettledCoverage,
    SourceStatus,
    settle,
)
from advisor.evidence.observations import Notebook
from advisor.incident import open_incident

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
START = NOW - timedelta(hours=1)
OK, EMPTY, UNAVAILABLE = SourceStatus.OK, SourceStatus.EMPTY, SourceStatus.UNAVAILABLE


def ended(source: str, status: SourceStatus = OK, required: bool = True) -> Coverage:
    return Coverage(source=source, status=status, reason=None if status is OK else "because", required=required)


# --- the gate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "open_ones"),
    [
        ((), "changes, metrics"),
        ((ended("metrics"),), "changes"),
        ((ended("logs"), ended("changes")), "metrics"),
    ],
    ids=["none", "one", "another"],
)
def test_a_required_source_that_has_not_ended_stops_everything(entries: tuple[Coverage, ...], open_ones: str) -> None:
    with pytest.raises(IllegalTransition, match=f"still open: {open_ones}$"):
        settle(entries, ("metrics", "changes"))


@pytest.mark.parametrize("status", list(SourceStatus))
def test_every_way_of_ending_settles(status: SourceStatus) -> None:
    settled = settle((ended("metrics", status),), ("metrics",))
    assert settled.status("metrics") is status
    assert (settled.missing_required == ()) is (status is OK)


@given(
    st.dictionaries(
        st.sampled_from(["metrics", "changes", "logs", "cluster"]),
        st.tuples(st.sampled_from(SourceStatus), st.booleans()),
    ),
    st.sets(st.sampled_from(["metrics", "changes", "logs", "cluster"])),
)
def test_settled_means_that_each_required_source_has_an_outcome(
    outcomes: dict[str, tuple[SourceStatus, bool]], required: set[str]
) -> None:
    entries = tuple(ended(s, status, needed) for s, (status, needed) in outcomes.items())
    if required <= set(outcomes):
        settled = settle(entries, tuple(required))
        assert {e.source for e in settled.missing_required} == {
            e.source for e in entries if e.required and e.status is not OK
        }
    else:
        with pytest.raises(IllegalTransition):
            settle(entries, tuple(required))


def test_a_source_that_nobody_asked_for_has_no_status() -> None:
    assert settle((ended("metrics"),), ("metrics",)).status("logs") is None


def test_a_missing_source_that_is_not_required_is_not_missed() -> None:
    assert settle((ended("metrics"), ended("logs", UNAVAILABLE, required=False)), ("metrics",)).missing_required == ()


def test_diagnose_takes_settled_coverage_and_nothing_less() -> None:
    assert typing.get_type_hints(diagnose)["coverage"] is SettledCoverage
    incident = open_incident("inc-1", "checkout", NOW, None, NOW, "")
    for unsettled in ((ended("metrics"),), None, (), {"metrics": OK}):
        with pytest.raises((AttributeError, TypeError)):
            diagnose(incident, unsettled, Gathered(start=START, end=NOW), ())  # type: ignore[arg-type]


def test_only_settle_makes_settled_coverage() -> None:
    folder = Path(advisor.__file__).parent
    makers = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "SettledCoverage" in ast.unparse(node.func):
                makers.append(str(path.relative_to(folder)))
    assert makers == ["evidence/__init__.py"]


@pytest.mark.parametrize("status", [EMPTY, UNAVAILABLE])
def test_a_missing_required_source_is_said_and_caps_the_diagnosis(status: SourceStatus) -> None:
    incident = open_incident("inc-1", "checkout", NOW, None, NOW, "OutOfMemoryError: Java heap space")
    coverage = settle((ended("metrics", status), ended("changes")), ("metrics", "changes"))
    found = diagnose(incident, coverage, Gathered(start=START, end=NOW), ())
    assert found.diagnosis.outcome is Outcome.INCONCLUSIVE
    assert found.diagnosis.probability <= 0.5
    assert all(h.probability <= 0.5 for h in found.hypotheses)
    assert f"metrics {status.value}: because" in found.diagnosis.summary
    assert f"metrics is {status.value}: because" in found.diagnosis.warnings


# --- records -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_series_holds_finite_samples_only(value: float) -> None:
    with pytest.raises(ValidationError):
        Series(name="x", times=(0.0,), values=(value,))


def test_a_label_that_is_not_there_is_empty() -> None:
    assert Series(name="x", labels=(("pod", "a"),)).label("pod") == "a"
    assert Series(name="x").label("pod") == ""


def test_evidence_is_written_with_the_names_of_the_report() -> None:
    one = Evidence(
        id="M1",
        kind=EvidenceKind.METRIC,
        summary="s",
        source="p",
        query="q",
        from_at=START,
        to_at=NOW,
        digest="sha256:0",
    )
    written = one.model_dump(mode="json", by_alias=True)
    assert (written["from"], written["to"]) == ("2026-11-22T07:00:00Z", "2026-11-22T08:00:00Z")


def test_evidence_is_numbered_by_kind_and_the_same_subject_once() -> None:
    notebook = Notebook(Gathered(start=START, end=NOW))
    assert [notebook.add(letter, subject, "s", "src", "q", subject, START, NOW) for letter, subject in
            [("M", "a"), ("C", "b"), ("M", "c"), ("M", "a"), ("L", "d")]] == ["M1", "C1", "M2", "M1", "L1"]  # fmt: skip
    assert notebook.find("c") == "M2"
    assert notebook.find("nothing") is None
    assert len({e.digest for e in notebook.items}) == 4


def test_the_digest_of_evidence_is_of_its_content() -> None:
    def digest_of(content: object) -> str:
        notebook = Notebook(Gathered(start=START, end=NOW))
        notebook.add("M", "a", "s", "src", "q", content, START, NOW)
        return notebook.items[0].digest

    assert digest_of([1, 2]) == digest_of([1, 2]) != digest_of([1, 3])
