"""PetShop (amazon-science/petshop-root-cause-analysis, CC-BY-4.0): 5-minute series of AWS X-Ray nodes, one fault each.

Layout: ``<scenario>/graph.csv`` (rows call columns), ``<scenario>/noissue/metrics.csv`` (the normal window) and
``<scenario>/**/issue_N/{metrics.csv,target.json}``. A metrics file has three header rows: node, metric, statistic. The
fault command in ``target.json`` is the answer: it is not read.

    python -m bench.root_cause FOLDER        # or ADVISOR_BENCH_DATA=FOLDER
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from advisor.diagnosis.localization import Array, ServiceSeries
from bench.datasets.case import Case, DatasetUnreadable

ASPECTS = {"latency": "latency", "requests": "requests", "availability": "availability"}
STATISTICS = ("Average", "Sum", "p50", "p90", "p95", "p99")  # the plain one first: absolute seconds add up only there
Table = tuple[Array, dict[tuple[str, str, str], Array]]


def is_petshop(folder: Path) -> bool:
    """Return whether a folder holds issues in this layout."""
    return any((p.parent / "metrics.csv").is_file() and _scenario(p) is not None for p in folder.rglob("target.json"))


def load(folder: Path) -> list[Case]:
    """Return every usable issue below a folder, in the order of their paths.

    An issue is usable when its root cause is a node of the graph or of the metrics.
    """
    cases, cache = [], {}
    for target in sorted(folder.rglob("target.json")):
        scenario = _scenario(target)
        if scenario is None:
            continue
        if scenario not in cache:
            cache[scenario] = (_graph(scenario / "graph.csv"), _normals(scenario))
        calls, normals = cache[scenario]
        case = _case(target, scenario, calls, normals)
        if case is not None:
            cases.append(case)
    if not cases:
        raise DatasetUnreadable(f"{folder}: no issue with target.json, metrics.csv and a graph.csv above it")
    return cases


def _scenario(target: Path) -> Path | None:
    return next((p for p in list(target.parents)[1:4] if (p / "graph.csv").is_file()), None)


def _normals(scenario: Path) -> list[Table]:
    """Return the scenario's own normal window, else those of its neighbours (one split ships without)."""
    own = scenario / "noissue" / "metrics.csv"
    paths = [own] if own.is_file() else sorted(scenario.parent.glob("*/noissue/metrics.csv"))
    return [_table(p) for p in paths]


def _graph(path: Path) -> frozenset[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    callees = rows[0][1:]
    return frozenset(
        (row[0], callee)
        for row in rows[1:]
        for callee, cell in zip(callees, row[1:], strict=False)
        if cell.strip() and float(cell) != 0 and row[0] != callee
    )


def _table(path: Path) -> Table:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    body = [r for r in rows[3:] if r and _number(r[0]) is not None]
    if not body:
        raise DatasetUnreadable(f"{path}: no row begins with a time")
    values = np.array([[_number(c) if c else np.nan for c in r[1:]] for r in body], dtype=np.float64)
    keys = list(zip(rows[0][1:], rows[1][1:], rows[2][1:], strict=True))
    times = np.array([float(r[0]) for r in body])
    order = np.argsort(times, kind="stable")
    return times[order], {key: values[order, i] for i, key in enumerate(keys)}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _case(target: Path, scenario: Path, calls: frozenset[tuple[str, str]], normals: list[Table]) -> Case | None:
    said = json.loads(target.read_text(encoding="utf-8"))
    symptom, truth = said["target"], said["root_cause"]["node"]
    times, columns = _table(target.parent / "metrics.csv")
    normal = _nearest(normals, columns, symptom["node"])
    grid, columns = _joined(normal, (times, columns)) if normal else (times, columns)
    services = _services(columns, calls)
    if truth not in {s.service for s in services}:
        return None
    return Case(
        name=str(target.parent.relative_to(scenario.parent)),
        group=f"{scenario.name}/{symptom['metric']}",
        times=grid,
        services=services,
        calls=calls,
        symptom_service=symptom["node"],
        symptom_aspect=ASPECTS.get(symptom["metric"]),
        noticed_at=float(symptom["timestamp"]),
        normal=(float(normal[0][0]), float(normal[0][-1])) if normal else None,
        truth=frozenset({truth}),
    )


def _nearest(normals: list[Table], columns: dict[tuple[str, str, str], Array], node: str) -> Table | None:
    """Return the normal window whose traffic at the symptom's node is nearest to that before the alarm."""
    key = (node, "requests", "Sum")

    def distance(table: Table) -> float:
        there, here = table[1].get(key), columns.get(key)
        if there is None or here is None:
            return float("inf")
        return abs(float(np.log1p(np.nanmedian(there)) - np.log1p(np.nanmedian(here[:2]))))

    return min(normals, key=distance, default=None)


def _joined(normal: Table, issue: Table) -> Table:
    """Return both windows on one time axis, in the order of time, with a gap between."""
    times = np.concatenate([normal[0], issue[0]])
    order = np.argsort(times, kind="stable")
    empty = {len(normal[0]): np.full(len(normal[0]), np.nan), len(issue[0]): np.full(len(issue[0]), np.nan)}
    keys = dict.fromkeys([*normal[1], *issue[1]])
    return times[order], {
        key: np.concatenate([normal[1].get(key, empty[len(normal[0])]), issue[1].get(key, empty[len(issue[0])])])[order]
        for key in keys
    }


def _services(
    columns: dict[tuple[str, str, str], Array], calls: frozenset[tuple[str, str]]
) -> tuple[ServiceSeries, ...]:
    found: dict[str, dict[str, list[Array]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted({n for edge in calls for n in edge}):
        found[name]  # a node without any series is a candidate like the others
    for (node, metric, _), values in sorted(columns.items(), key=lambda c: (c[0][:2], _place(c[0][2]))):
        if metric in ASPECTS and node:
            found[node][ASPECTS[metric]].append(values)
    return tuple(ServiceSeries(n, {a: tuple(v) for a, v in aspects.items()}) for n, aspects in sorted(found.items()))


def _place(statistic: str) -> int:
    return STATISTICS.index(statistic) if statistic in STATISTICS else len(STATISTICS)
