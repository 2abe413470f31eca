"""Two scorers that know no graph: how far the incident lies from normal, by mean and deviation, or by median and quartiles.

n-sigma: the largest z-score of the incident window. The robust scorer is that of BARO (Pham et al., FSE 2024): the same with
median and interquartile range. Series that never move in the normal window are left out, as both do.
"""

from __future__ import annotations

import numpy as np

from advisor.diagnosis.localization import Array
from bench.datasets.case import Case
from bench.rivals.windows import by_service, each_series, split


def n_sigma(case: Case) -> list[str]:
    """Return candidates by the largest distance from the normal mean, in standard deviations."""
    return by_service(case, _scores(case, robust=False))


def robust_scorer(case: Case) -> list[str]:
    """Return candidates by the largest distance from the normal median, in interquartile ranges."""
    return by_service(case, _scores(case, robust=True))


def _scores(case: Case, robust: bool) -> dict[tuple[str, int, str], float]:
    normal, incident = split(case)
    return {key: _score(values[normal], values[incident], robust) for key, values in each_series(case).items()}


def _score(before: Array, after: Array, robust: bool) -> float:
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if before.size < 2 or after.size == 0:
        return -np.inf
    if robust:
        low, middle, high = np.quantile(before, [0.25, 0.5, 0.75])
        spread = float(high - low)
    else:
        middle, spread = float(np.mean(before)), float(np.std(before))
    return float(np.max(np.abs(after - middle)) / spread) if spread > 0 else -np.inf


def mean_shift(before: Array, after: Array) -> float:
    """Return by how many standard deviations the mean of the incident differs from that of normal; flat series by any move."""
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if before.size < 2 or after.size == 0:
        return -np.inf
    moved = abs(float(np.mean(after)) - float(np.mean(before)))
    spread = float(np.std(before))
    return moved / max(spread, 1e-3 * abs(float(np.mean(before))), 1e-9)
