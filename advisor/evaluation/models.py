"""Puts recorded cases to a language model, several times each: the engine alone, the model alone, and both together.

The three are judged by the same truth in the same run. The model alone is its leading cause as it gave it, whatever the
checks made of it; both is what a person would have been shown. Called by the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.diagnosis import Outcome
from advisor.errors import AdvisorError
from advisor.evaluation.cases import Case
from advisor.evaluation.judging import first_hit, judge
from advisor.evaluation.running import Answer, NamedCause, answer_of
from advisor.evaluation.statistics import Share, median, share
from advisor.model_port import ModelUsage
from advisor.replaying import replaying
from advisor.settings import Model
from advisor.values import CauseKind

RUNS_MAX = 100


@dataclass(frozen=True)
class Scores:
    """How often one way was right: shares with their Wilson intervals."""

    first: Share
    outcome: Share
    wrong_remedy: Share


@dataclass(frozen=True)
class ModelEvaluation:
    """What was found out about a model on some cases.

    Attributes:
        unusable: Runs in which no answer could be used: none came, it was refused, or it did not fit.
        ungrounded: Struck claims among all claims.
        agreed: Usable runs in which the model named the engine's cause or came to its end.
        failures: Cases that could not be run, with the reason.
    """

    model: str
    cases: int
    runs: int
    engine: Scores
    alone: Scores
    both: Scores
    unusable: Share
    agreed: Share
    ungrounded: Share
    repairs: float
    usage: ModelUsage
    seconds_median: float | None
    failures: tuple[tuple[str, str], ...]


@dataclass
class _Way:
    first: list[bool]
    outcome: list[bool]
    wrong: list[bool]

    def scores(self) -> Scores:
        return Scores(share(self.first), share(self.outcome), share(self.wrong))


def evaluate_model(
    cases: Sequence[Case], model: Model, runs: int, told: Callable[[int, int, str], None] | None = None
) -> ModelEvaluation:
    """Return how a model does on cases, beside the engine.

    Args:
        cases: As found by `find_cases`.
        model: Asked anew in each run; its budget counts for each case.
        runs: How often each case is put to it.
        told: Called as runs end.
    """
    ways = {name: _Way([], [], []) for name in ("engine", "alone", "both")}
    usable: list[bool] = []
    agreed: list[bool] = []
    grounded: list[bool] = []
    seconds: list[float] = []
    rounds = 0
    usage = ModelUsage()
    failures: list[tuple[str, str]] = []
    for number, case in enumerate(cases):
        try:
            with replaying(case.bundle) as recorded:
                alone = recorded.investigate().report
        except AdvisorError as error:
            failures.append((case.name, str(error)))
            continue
        for run in range(runs):
            with replaying(case.bundle, model=model) as asked:
                asked.workflow.model_attempt = run
                report = asked.investigate().report
            opinion = report.get("model") or {}
            usage = usage.plus(_usage_of(report))
            seconds.append(float(report["usage"]["seconds"]) - float(alone["usage"]["seconds"]))
            answered = opinion.get("agrees") is not None
            usable.append(answered)
            if answered:
                agreed.append(bool(opinion["agrees"]))
                grounded += [True] * len(opinion["claims"]) + [False] * len(opinion["struck"])
            rounds += int(opinion.get("rounds", 0))
            _score(ways["engine"], case, answer_of(alone))
            _score(ways["alone"], case, _answer_alone(answer_of(alone), opinion))
            _score(ways["both"], case, _answer_both(answer_of(report), report))
            if told is not None:
                told(number * runs + run + 1, len(cases) * runs, case.name)
    return ModelEvaluation(
        model=model.name,
        cases=len(cases) - len(failures),
        runs=runs,
        engine=ways["engine"].scores(),
        alone=ways["alone"].scores(),
        both=ways["both"].scores(),
        unusable=share([not one for one in usable]),
        agreed=share(agreed),
        ungrounded=share([not one for one in grounded]),
        repairs=rounds / len(usable) if usable else 0.0,
        usage=usage,
        seconds_median=median(seconds),
        failures=tuple(failures),
    )


def _score(way: _Way, case: Case, answer: Answer) -> None:
    found = judge(case, answer)
    if case.truth.has_culprit:
        way.first.append(first_hit(case.truth, answer) == 1)
    way.outcome.append(found.outcome_right)
    way.wrong.append(bool(found.wrong_remedies))


def _answer_alone(engine: Answer, opinion: dict[str, Any]) -> Answer:
    """Return what the model said by itself: its leading cause and its outcome; nothing usable is inconclusive."""
    leading = opinion.get("leading")
    outcome = opinion.get("outcome") or Outcome.INCONCLUSIVE.value
    named = (
        (
            NamedCause(
                kind=CauseKind(opinion["kind"]),
                service=leading["service"],
                commit=leading["commit"],
                path=leading["path"],
                key=leading["key"],
                probability=1.0,
                score=0.0,
                summary=opinion["cause"],
            ),
        )
        if leading is not None
        else ()
    )
    return engine.model_copy(update={"outcome": Outcome(outcome), "hypotheses": named, "proposals": ()})


def _answer_both(answer: Answer, report: dict[str, Any]) -> Answer:
    """Return the answer with the diagnosed cause first: the model may have tipped one that the engine ranked lower."""
    cause = report["diagnosis"].get("cause")
    if cause is None:
        return answer
    places = [
        h.commit == cause["commit"] and h.key == cause["key"] and h.service == cause["service"]
        for h in answer.hypotheses
    ]
    if True not in places:
        return answer
    first = places.index(True)
    rest = [h for n, h in enumerate(answer.hypotheses) if n != first]
    return answer.model_copy(update={"hypotheses": (answer.hypotheses[first], *rest)})


def _usage_of(report: dict[str, Any]) -> ModelUsage:
    used = report["usage"]
    return ModelUsage(
        calls=used["model_calls"],
        input_tokens=used["input_tokens"],
        output_tokens=used["output_tokens"],
        usd=used.get("model_usd"),
    )
