"""Assessments of the committed cases, read back from their recorded reports: nothing has to be replayed."""

from __future__ import annotations

import json
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from advisor.diagnosis import Assessment, Diagnosis, Hypothesis, RejectedRemedy, Remedy
from advisor.evidence import Evidence
from advisor.incident import Incident, Symptom
from advisor.playbook import VerificationPlan
from advisor.values import parse_instant
from advisor.workflow import utc_now

CASES = Path(__file__).parent.parent.parent / "playbooks"


@lru_cache(maxsize=200)
def recorded_reports() -> tuple[dict[str, Any], ...]:
    """Return the reports of all committed cases, by name."""
    paths = sorted(CASES.glob("*/cases/*/*.bundle.zip"))
    return tuple(json.loads(zipfile.ZipFile(path).read("report.json")) for path in paths)


def assessment_of(report: dict[str, Any]) -> Assessment:
    """Return a report's assessment as the records it was made of."""
    now = utc_now()
    evidence = tuple(
        Evidence.model_validate(
            {**{k: v for k, v in e.items() if k not in ("from", "to")}, "from_at": e["from"], "to_at": e["to"]}
        )
        for e in report["evidence"]
    )
    hypotheses = tuple(
        Hypothesis.model_validate({**{k: v for k, v in h.items() if k != "for"}, "for_": h["for"]})
        for h in report["hypotheses"]
    )
    remedies = tuple(
        Remedy(action=p["action"], risk=p["risk"], fixes_cause=p["fixes_cause"], summary=p["summary"])
        for p in report["proposals"]
    )
    started = report["incident"]["started_at"]
    return Assessment(
        symptoms=tuple(Symptom(s) for s in report["incident"]["symptoms"]),
        started_at=parse_instant(started, now) if started else None,
        evidence=evidence,
        hypotheses=hypotheses,
        diagnosis=Diagnosis.model_validate(report["diagnosis"]),
        remedies=remedies,
        rejected_remedies=tuple(RejectedRemedy.model_validate(r) for r in report["rejected_remedies"]),
        verification=VerificationPlan.model_validate(report["verification"]),
    )


def incident_of(report: dict[str, Any]) -> Incident:
    """Return a report's incident."""
    told = report["incident"]
    now = utc_now()
    return Incident(
        id=told["id"],
        service=told["service"],
        noticed_at=parse_instant(told["noticed_at"], now) if told["noticed_at"] else None,
        until=parse_instant(told["until"], now),
        symptoms=tuple(Symptom(s) for s in told["symptoms"]),
        question=told["question"],
        created_at=parse_instant(told["created_at"], now),
    )


def story() -> dict[str, Any]:
    """Return the report of the story: the session timeout that fills the heap."""
    return json.loads(
        zipfile.ZipFile(CASES / "jvm_heap/cases/session_timeout/session_timeout.bundle.zip").read("report.json")
    )
