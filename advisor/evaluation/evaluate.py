"""Runs an evaluation from cases to figures, and gives it as one document. Called by the command line."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from advisor.errors import SettingsInvalid
from advisor.evaluation.calibration import Calibration, calibrate
from advisor.evaluation.cases import Case
from advisor.evaluation.figures import Figures, Loss, by_class, by_split, by_tag, compare, summarise
from advisor.evaluation.judging import Judged, judge
from advisor.evaluation.running import Answer, NotRun, Task, Told, run_tasks
from advisor.evaluation.statistics import Share
from advisor.evaluation.truth import Split
from advisor.replaying import Part

SCHEMA = "advisor.evaluation/v1"
LISTED_HYPOTHESES = 5  # of a miss; further down nobody looks for a cause


@dataclass(frozen=True)
class Failure:
    """A case that could not be run, and why; ``part`` is what was left out where it first failed, None if nothing was."""

    name: str
    reason: str
    part: Part | None = None


@dataclass(frozen=True)
class Evaluation:
    """All that was found out about the engine."""

    without: tuple[Part, ...]
    judged: tuple[Judged, ...]
    failures: tuple[Failure, ...]
    total: Figures
    classes: dict[str, Figures]
    splits: dict[str, Figures]
    tags: dict[str, Figures]
    ablation: tuple[Loss, ...] = ()
    calibrations: tuple[Calibration, ...] = ()

    @property
    def misses(self) -> tuple[Judged, ...]:
        """Return the cases in which something is wrong: the cause, the outcome, a remedy, or a refusal that is missing.

        Those of the held-out split are only counted: who is shown one begins to tune on it.
        """
        return tuple(j for j in self.judged if is_miss(j) and j.case.truth.split is not Split.HELD_OUT)

    @property
    def misses_held_out(self) -> int:
        """Return in how many held-out cases something is wrong."""
        return sum(is_miss(j) and j.case.truth.split is Split.HELD_OUT for j in self.judged)


def is_miss(j: Judged) -> bool:
    """Return whether a person should look at the case."""
    lost = j.case.truth.has_culprit and not j.hit(1)
    return bool(lost or not j.outcome_right or j.wrong_diagnosis or j.wrong_remedies or j.refusals_missing)


def parse_parts(words: Collection[str]) -> tuple[Part, ...]:
    """Return the parts that were named.

    Raises:
        SettingsInvalid: A word that names none.
    """
    known = {part.value: part for part in Part}
    wrong = next((word for word in words if word not in known), None)
    if wrong is not None:
        raise SettingsInvalid(f"--without {wrong!r}: one of {', '.join(known)} is wanted")
    return tuple(part for part in Part if part.value in words)


def evaluate(
    cases: Sequence[Case],
    *,
    without: Collection[Part] = (),
    ablation: bool = False,
    calibrated: bool = False,
    jobs: int = 1,
    told: Told | None = None,
) -> Evaluation:
    """Return the figures of some cases.

    Args:
        cases: As found by `find_cases`.
        without: Parts left out of every replay.
        ablation: Also leave each part out in turn.
        calibrated: Also fit a temperature.
        jobs: How many worker processes.
        told: Called as replays end.

    Raises:
        SettingsInvalid: An ablation of an engine from which something is left out already.
    """
    if ablation and without:
        raise SettingsInvalid("--ablation leaves each part out in turn; leave --without away")
    chosen = tuple(part for part in Part if part in without)
    runs: list[tuple[Part, ...]] = [chosen, *((part,) for part in Part if ablation)]
    tasks = [Task(case.bundle, run) for run in runs for case in cases]
    answers = run_tasks(tasks, jobs, told)
    failures: dict[str, Failure] = {}  # by case: what cannot be run at all is said once, not once for each part
    judged: list[list[Judged]] = []
    for number, run in enumerate(runs):
        part = run[0] if number else None
        given = answers[number * len(cases) : (number + 1) * len(cases)]
        judged.append(_judge_all(cases, given, part, failures))
    full = judged[0]
    return Evaluation(
        without=chosen,
        judged=tuple(full),
        failures=tuple(failures.values()),
        total=summarise(full),
        classes=by_class(full),
        splits=by_split(full),
        tags=by_tag(full),
        ablation=tuple(compare(run[0], full, reduced) for run, reduced in zip(runs[1:], judged[1:], strict=True)),
        calibrations=(calibrate(full, "brier"), calibrate(full, "log")) if calibrated else (),
    )


def _judge_all(
    cases: Sequence[Case], answers: Sequence[Answer | NotRun], part: Part | None, failures: dict[str, Failure]
) -> list[Judged]:
    judged = []
    for case, answer in zip(cases, answers, strict=True):
        if isinstance(answer, NotRun):
            failures.setdefault(case.name, Failure(case.name, answer.reason, part))
        else:
            judged.append(judge(case, answer))
    return judged


# --- as one document ---------------------------------------------------------------------------------------------------


def document(found: Evaluation) -> dict[str, Any]:
    """Return the evaluation as one JSON document (schema ``advisor.evaluation/v1``)."""
    return {
        "schema": SCHEMA,
        "without": [part.value for part in found.without],
        "total": _figures(found.total),
        "classes": {name: _figures(f) for name, f in found.classes.items()},
        "splits": {name: _figures(f) for name, f in found.splits.items()},
        "tags": {name: _figures(f) for name, f in found.tags.items()},
        "ablation": [_loss(loss) for loss in found.ablation],
        "calibration": [_rounded(asdict(one)) for one in found.calibrations],
        "cases": [_case(j) for j in found.judged],
        "not_run": [
            {"case": f.name, "without": f.part.value if f.part else None, "reason": f.reason} for f in found.failures
        ],
    }


def _figures(f: Figures) -> dict[str, Any]:
    return {
        "cases": f.cases,
        "ac1": _share(f.first),
        "ac3": _share(f.first_three),
        "abstained_with_culprit": _share(f.abstained),
        "right_without_culprit": _share(f.rightly_abstained),
        "outcome_right": _share(f.outcome_right),
        "wrong_diagnosis": _share(f.wrong_diagnosis),
        "wrong_remedy": _share(f.wrong_remedy),
        "memory_ceiling_raised": f.ceiling_raised,
        "refusals": _share(f.refusals),
        "brier": {
            "cases": f.stated,
            "value": _rounded(f.brier),
            "interval": _rounded([f.brier_interval.low, f.brier_interval.high]) if f.brier_interval else None,
        },
        "calibration_error": _rounded(f.calibration_error),
        "reliability": [
            _rounded({"from": b.low, "to": b.high, "cases": b.right.total, "stated": b.mean, "right": b.right.value})
            for b in f.bins
        ],
        "seconds": {"median": f.seconds_median, "p95": f.seconds_p95},
    }


def _share(s: Share) -> dict[str, Any]:
    between = s.interval
    return {
        "count": s.count,
        "total": s.total,
        "value": _rounded(s.value),
        "interval": _rounded([between.low, between.high]) if between else None,
    }


def _loss(loss: Loss) -> dict[str, Any]:
    return {
        "without": loss.part.value,
        "compared": loss.compared,
        "lost": {"ac1": loss.first, "ac3": loss.first_three, "outcome_right": loss.outcome_right},
        "more_wrong_remedies": loss.wrong_remedies,
        "worse": list(loss.worse),
        "better": list(loss.better),
        "figures": _figures(loss.figures),
    }


def _case(j: Judged) -> dict[str, Any]:
    truth, answer = j.case.truth, j.answer
    return {
        "case": j.case.name,
        "class": j.case.class_name,
        "truth": truth.model_dump(mode="json", by_alias=True),
        "rank": j.rank,
        "outcome": answer.outcome.value,
        "kind": answer.kind.value,
        "outcome_right": j.outcome_right,
        "wrong_diagnosis": j.wrong_diagnosis,
        "wrong_remedies": list(j.wrong_remedies),
        "refusals_missing": list(j.refusals_missing),
        "stated": {"probability": j.stated.probability, "right": j.stated.right} if j.stated else None,
        "hypotheses": [h.model_dump(mode="json") for h in answer.hypotheses[:LISTED_HYPOTHESES]],
        "seconds": answer.seconds,
        "miss": is_miss(j),
    }


def _rounded(value: Any) -> Any:
    """Return numbers to six digits: what is beyond differs between machines, not between engines."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
