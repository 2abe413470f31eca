"""A walk along the call graph: from the symptom down to abnormal callees as long as there are any; the deepest come first.

A service is abnormal when any series of the symptom's kind lies three deviations from its normal mean. Among equals the
larger score wins; services that the walk does not reach come last, by their score.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from bench.datasets.case import Case
from bench.rivals.spread_scores import _score
from bench.rivals.windows import each_series, split

THRESHOLD = 3.0


def graph_walk(case: Case) -> list[str]:
    """Return candidates: the ends of the walk first, then what it passed from the deepest up, then the rest."""
    normal, incident = split(case)
    scores = dict.fromkeys((s.service for s in case.services), -np.inf)
    kinds = {"latency": {"latency"}, "availability": {"availability", "errors"}, "errors": {"availability", "errors"}}
    wanted = kinds.get(case.symptom_aspect or "", {"latency", "errors", "availability"})
    for (service, _, aspect), values in each_series(case).items():
        if aspect in wanted or not case.calls:
            scores[service] = max(scores[service], _score(values[normal], values[incident], robust=False))
    below = defaultdict(list)
    for caller, callee in sorted(case.calls):
        below[caller].append(callee)
    depth, waiting, ends = {case.symptom_service: 0}, [case.symptom_service], set()
    for node in waiting:
        abnormal = [c for c in below[node] if scores.get(c, -np.inf) > THRESHOLD]
        if not abnormal:
            ends.add(node)
        for callee in abnormal:
            if callee not in depth:
                depth[callee] = depth[node] + 1
                waiting.append(callee)
    order = sorted(scores, key=lambda n: (n not in ends, -depth.get(n, -1), -scores[n], n))
    return case.answers(order)
