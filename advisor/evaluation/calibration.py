"""How far the probabilities can be believed, and what one number would mend: a softmax temperature. Pure.

A temperature above 1 makes every answer less certain, below 1 more; it reorders nothing. It is fitted on the development
cases and believed on the held-out ones. It changes nothing by itself: a person decides whether the engine gets it.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (temperature scaling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from advisor.diagnosis import Outcome
from advisor.evaluation.judging import Judged
from advisor.evaluation.statistics import Stated, brier, expected_calibration_error, log_loss, reliability
from advisor.evaluation.truth import Split

Loss = Literal["brier", "log"]

TEMPERATURE_MIN, TEMPERATURE_MAX = 0.1, 20.0  # beyond these all is certain, or nothing is
_GRID = 160  # steps of 3 %; the valley between two of them is then searched
_GOLDEN = (math.sqrt(5) - 1) / 2
CAP = 0.5  # what the engine states at most where a required source is missing


@dataclass(frozen=True)
class Scored:
    """The scores of a case's candidates, the first of them ranked first, and whether that first one is a true cause."""

    scores: tuple[float, ...]
    right: bool


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        at_edge: It lies at an end of what was searched: the cases do not settle it (all right, say).
    """

    value: float
    loss: float
    at_edge: bool


@dataclass(frozen=True)
class Trust:
    """How good stated probabilities are on some cases; None of no case."""

    cases: int
    brier: float | None
    log_loss: float | None
    calibration_error: float | None


@dataclass(frozen=True)
class Calibration:
    """A temperature fitted on one split, and what it does on the other.

    Attributes:
        fitted_on: How many development cases it was fitted on.
        stated: As the engine says it today, on the held-out cases.
        after: With the temperature, on the held-out cases.
    """

    loss: Loss
    temperature: Temperature | None
    fitted_on: int
    stated: Trust
    after: Trust


def first_share(scores: Sequence[float], temperature: float = 1.0) -> float:
    """Return the softmax share of the first candidate."""
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} is not above 0")
    top = max(scores)
    weights = [math.exp((s - top) / temperature) for s in scores]
    return weights[0] / math.fsum(weights)


def stated_at(cases: Sequence[Scored], temperature: float) -> list[Stated]:
    """Return what would be stated of each case's first candidate at a temperature."""
    return [Stated(first_share(c.scores, temperature), c.right) for c in cases]


def fit_temperature(cases: Sequence[Scored], loss: Loss = "log") -> Temperature | None:
    """Return the temperature at which the stated probability of the first candidate loses least; None of no case.

    A grid over the logarithm finds the valley, for the loss may have several; golden section goes to its bottom.
    """
    if not cases:
        return None

    def lost(log_temperature: float) -> float:
        stated = stated_at(cases, math.exp(log_temperature))
        value = brier(stated) if loss == "brier" else log_loss(stated)
        return value if value is not None else math.inf

    low, high = math.log(TEMPERATURE_MIN), math.log(TEMPERATURE_MAX)
    grid = [low + (high - low) * i / _GRID for i in range(_GRID + 1)]
    losses = [lost(x) for x in grid]
    best = min(range(len(grid)), key=lambda i: (losses[i], abs(grid[i])))  # of equal ones that nearest to 1
    a, b = grid[max(0, best - 1)], grid[min(_GRID, best + 1)]
    while b - a > 1e-5:
        left, right = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
        a, b = (a, right) if lost(left) <= lost(right) else (left, b)
    found = (a + b) / 2 if lost((a + b) / 2) < losses[best] else grid[best]
    return Temperature(round(math.exp(found), 3), lost(found), best in (0, _GRID))


def calibrate(judged: Sequence[Judged], loss: Loss = "log") -> Calibration:
    """Return the temperature fitted on the development cases, and how the held-out ones are stated without and with it.

    Only cases in which the engine ranked with all required sources: elsewhere what it states is a cap, not a probability.
    """
    development = [_scored(j) for j in judged if j.case.truth.split is Split.DEVELOPMENT and is_free(j)]
    held_out = [j for j in judged if j.case.truth.split is Split.HELD_OUT and is_free(j)]
    temperature = fit_temperature(development, loss)
    after = stated_at([_scored(j) for j in held_out], temperature.value) if temperature else []
    return Calibration(
        loss=loss,
        temperature=temperature,
        fitted_on=len(development),
        stated=trust([j.stated for j in held_out if j.stated is not None]),
        after=trust(after),
    )


def trust(stated: Sequence[Stated]) -> Trust:
    """Return how good stated probabilities are."""
    return Trust(len(stated), brier(stated), log_loss(stated), expected_calibration_error(reliability(stated)))


def is_free(judged: Judged) -> bool:
    """Return whether the first probability is the engine's own and no cap: hypotheses there, every required source too."""
    answer = judged.answer
    if judged.stated is None or not answer.hypotheses or not answer.sighted:
        return False
    # The resource itself was not measured: the engine caps then too, and does not say so in the coverage.
    return not (answer.outcome is Outcome.INCONCLUSIVE and answer.hypotheses[0].probability == CAP)


def _scored(judged: Judged) -> Scored:
    return Scored(tuple(h.score for h in judged.answer.hypotheses), judged.stated is not None and judged.stated.right)
