"""What all rivals share: which samples are normal and which are the incident, read in the plainest way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from advisor.diagnosis.localization import Array
from bench.datasets.case import Case


def split(case: Case) -> tuple[Array, Array]:
    """Return the masks of normal samples and of incident samples: before and after the moment of noticing."""
    times = case.times
    noticed = case.noticed_at if case.noticed_at is not None else float(times[times.size // 2])
    if case.normal is None:
        return times < noticed, times >= noticed
    normal = (times >= case.normal[0]) & (times <= case.normal[1])
    incident = (times >= noticed) & ~normal
    return normal, incident if incident.any() else ~normal


def by_service(case: Case, score_of_series: Mapping[tuple[str, int, str], float]) -> list[str]:
    """Return the candidates by their services' highest score."""
    best = {s.service: -np.inf for s in case.services}
    for (service, _, _), score in score_of_series.items():
        if np.isfinite(score):
            best[service] = max(best[service], score)
    return case.answers(sorted(best, key=lambda name: (-best[name], name)))


def each_series(case: Case) -> dict[tuple[str, int, str], Array]:
    """Return every series with its service, place and aspect."""
    return {
        (s.service, i, aspect): values
        for s in case.services
        for aspect, rows in s.series.items()
        for i, values in enumerate(rows)
    }
