"""Which service moves most like the symptom? The largest correlation with the symptom's own series, over all samples."""

from __future__ import annotations

import numpy as np

from advisor.diagnosis.localization import Array
from bench.datasets.case import Case
from bench.rivals.windows import by_service, each_series, split

RECENT = 60  # samples before the incident that are compared; a long calm window would drown the incident


def correlation(case: Case) -> list[str]:
    """Return candidates by the largest absolute correlation of any series with the symptom's."""
    rows = each_series(case)
    wanted = [v for (s, _, a), v in rows.items() if s == case.symptom_service and a == case.symptom_aspect]
    wanted = wanted or [v for (s, _, _), v in rows.items() if s == case.symptom_service]
    if not wanted:
        return case.answers([s.service for s in case.services])
    normal, incident = split(case)
    near = np.flatnonzero(normal)[-RECENT:]
    part = np.concatenate([near, np.flatnonzero(incident)])
    return by_service(case, {key: abs(_correlation(wanted[0][part], v[part])) for key, v in rows.items()})


def _correlation(a: Array, b: Array) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if np.count_nonzero(both) < 3 or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
        return float("nan")
    return float(np.corrcoef(a[both], b[both])[0, 1])
