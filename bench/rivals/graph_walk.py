"""A walk along the call graph: from the symptom to abnormal callees as long as there are any; where it ends is the answer.

A service is abnormal when a series of the symptom's kind lies more than three deviations from its normal mean. The ends of
the walk come first by how abnormal they are, then what it passed, then the rest that calls reach, then all others.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from bench.datasets.case import Case
from bench.rivals.spread_scores import mean_shift
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
            scores[service] = max(scores[service], mean_shift(values[normal], values[incident]))
    below = defaultdict(list)
    for caller, callee in sorted(case.calls):
        below[caller].append(callee)
    passed, waiting, ends = {case.symptom_service: 0}, [case.symptom_service], set()
    for node in waiting:
        abnormal = [c for c in below[node] if scores.get(c, -np.inf) > THRESHOLD]
        if not abnormal:
            ends.add(node)
        for callee in abnormal:
            if callee not in passed:
                passed[callee] = passed[node] + 1
                waiting.append(callee)
    reached = _reached(case.symptom_service, below)
    return case.answers(sorted(scores, key=lambda n: (n not in ends, n not in passed, n not in reached, -scores[n], n)))


def _reached(start: str, below: dict[str, list[str]]) -> set[str]:
    seen, waiting = {start}, [start]
    for node in waiting:
        for callee in below[node]:
            if callee not in seen:
                seen.add(callee)
                waiting.append(callee)
    return seen
