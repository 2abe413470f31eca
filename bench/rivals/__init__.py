"""The simple ways to answer the same question, measured in the same run: each takes a case and returns its candidates, best first.

They see what our method sees: series, calls, changes, and when the symptom was noticed; never the truth.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.datasets.case import Case
from bench.rivals.correlation import correlation
from bench.rivals.graph_walk import graph_walk
from bench.rivals.latest_change import latest_change
from bench.rivals.spread_scores import n_sigma, robust_scorer

Rival = Callable[[Case], list[str]]

RIVALS: dict[str, Rival] = {
    "n-sigma": n_sigma,
    "robust scorer (BARO)": robust_scorer,
    "correlation": correlation,
    "graph walk": graph_walk,
    "latest change": latest_change,
}

__all__ = ["RIVALS", "Rival", "correlation", "graph_walk", "latest_change", "n_sigma", "robust_scorer"]
