"""Faults planted in a real calm window: the noise, names, gaps and call graph are real, only the fault is made.

For PetShop's calm window: a few samples are cut out as the incident, every node drifts a little against the rest (the real
normal windows are of another month), a fault is added at one node, and what its callers would see of it is added along the
calls. Addresses that stand before a service (load balancers as callers see them) show what the service shows.

    from bench.datasets.planted import plant; plant(folder / "low_traffic", seed=7)
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from advisor.diagnosis.localization import Array, ServiceSeries
from bench.datasets.case import Case, DatasetUnreadable
from bench.datasets.petshop import _graph, _services, _table

# Which service stands behind which address, told by hand for this set; the method has to find out by itself.
BEHIND = {
    "servi-lista": "petlistadoptions_AWS::ECS::Fargate",
    "servi-searc": "PetSearch_AWS::ECS::Fargate",
    "Servi-searc": "PetSearch_AWS::ECS::Fargate",
}
FRONT = "PetSite"


def plant(
    scenario: Path, seed: int, faults: tuple[str, ...] = ("latency", "latency", "errors", "errors", "surge")
) -> Case:
    """Return a calm stretch of a scenario with one fault planted in it."""
    if not (scenario / "noissue" / "metrics.csv").is_file():
        raise DatasetUnreadable(f"{scenario}: no noissue/metrics.csv to plant a fault in")
    calls = _graph(scenario / "graph.csv")
    times, columns = _table(scenario / "noissue" / "metrics.csv")
    services = {s.service: {a: [x.copy() for x in v] for a, v in s.series.items()} for s in _services(columns, calls)}
    for attempt in range(200):
        case = _try(np.random.default_rng([seed, attempt]), seed, scenario.name, times, services, calls, faults)
        if case is not None:
            return case
    raise DatasetUnreadable(f"{scenario}: no fault shows at {FRONT} with seed {seed}")


def _try(
    chance: np.random.Generator,
    seed: int,
    name: str,
    times: Array,
    calm: dict[str, dict[str, list[Array]]],
    calls: frozenset[tuple[str, str]],
    faults: tuple[str, ...],
) -> Case | None:
    services = {s: {a: [x.copy() for x in v] for a, v in aspects.items()} for s, aspects in calm.items()}
    length = int(chance.integers(5, 7))
    start = int(chance.integers(20, times.size - length - 20))
    bad = np.arange(start + 2 - int(chance.random() < 0.3), start + length - int(chance.random() < 0.6))
    edges = calls | {(a, b) for a in services for key, b in BEHIND.items() if a.startswith(key)}
    rate = {
        s: float(np.nan_to_num(np.nanmean(v["requests"][0]))) if "requests" in v else 0.0 for s, v in services.items()
    }
    reach = _ups(FRONT, {(b, a) for a, b in edges})
    able = [
        s
        for s in sorted(reach)
        if rate[s] > 20 and "latency" in services[s] and "_remote" not in s and "_client" not in s
    ]
    guilty, fault = str(chance.choice(able)), str(chance.choice(faults))
    _drift(chance, services, start, length)
    size = (
        float(np.exp(chance.uniform(np.log(0.01), np.log(2.0))))
        if fault != "errors"
        else float(chance.uniform(0.01, 0.2))
    )
    parts = _parts(guilty, edges, rate)
    if fault == "surge":
        factor = 1 + chance.uniform(0.5, 4.0)
        for s, part in _downs(guilty, edges, rate).items():
            for values in services.get(s, {}).get("requests", []):
                values[bad] *= 1 + (factor - 1) * part
        size *= 0.2
    shape = np.clip(chance.uniform(0.5, 1.0, bad.size), 0, 1)
    for s, part in sorted(parts.items()):
        loss = (
            float(chance.uniform(0.4, 1.3)) if s != guilty else 1.0
        )  # asynchronous, parallel, cached: never the plain sum
        _add(chance, services.get(s, {}), bad, shape * size * part * loss, "errors" if fault == "errors" else "latency")
    for s in chance.choice(able, size=int(chance.integers(0, 3))):
        if s not in parts:  # an innocent node has a bad minute of its own
            _add(
                chance,
                services[s],
                bad[: max(1, bad.size // 2)],
                np.full(max(1, bad.size // 2), 0.5 * _usual(services[s])),
                "latency",
            )
    aspect = "availability" if fault == "errors" else "latency"
    before, now = services[FRONT][aspect][0][start - 12 : start], services[FRONT][aspect][0][bad]
    if abs(np.nanmean(now) - np.nanmean(before)) < (0.7 if aspect == "availability" else 0.1 * np.nanmean(before)):
        return None
    keep = (np.arange(times.size) < start - 6) | (np.arange(times.size) >= start)
    keep &= np.arange(times.size) < times.size
    order = np.concatenate(
        [
            np.flatnonzero(keep & ((np.arange(times.size) < start) | (np.arange(times.size) >= start + length + 6))),
            np.arange(start, start + length),
        ]
    )
    grid = times.copy()
    grid[start : start + length] += 30 * 86_400.0  # the incident is of another month than the calm window
    return Case(
        name=f"{name}/planted-{seed}-{fault}",
        group=f"{name}/planted",
        times=grid[order],
        services=tuple(
            ServiceSeries(s, {a: tuple(x[order] for x in v) for a, v in services[s].items()}) for s in sorted(services)
        ),
        calls=calls,
        symptom_service=FRONT,
        symptom_aspect=aspect,
        noticed_at=float(grid[start + 1] + 180),
        normal=(float(times[0]), float(times[-1])),
        truth=frozenset({guilty}),
    )


def _drift(chance: np.random.Generator, services: dict[str, dict[str, list[Array]]], start: int, length: int) -> None:
    """Give each node its own level in the month of the incident."""
    for series in services.values():
        factor = np.exp(chance.normal(0, 0.12))
        for values in series.get("latency", []):
            values[start : start + length] *= factor
        traffic = np.exp(chance.normal(0, 0.02))
        for values in series.get("requests", []):
            values[start : start + length] *= traffic


def _ups(start: str, edges: set[tuple[str, str]] | frozenset[tuple[str, str]]) -> set[str]:
    seen, waiting = {start}, [start]
    for node in waiting:
        for a, b in edges:
            if b == node and a not in seen:
                seen.add(a)
                waiting.append(a)
    return seen


def _parts(
    guilty: str, edges: frozenset[tuple[str, str]] | set[tuple[str, str]], rate: dict[str, float]
) -> dict[str, float]:
    """Return which part of the guilty node's rise each of its callers sees, by calls per request."""
    parts: dict[str, float] = defaultdict(float)
    wave = {guilty: 1.0}
    for _ in range(8):
        after: dict[str, float] = defaultdict(float)
        for node, value in wave.items():
            parts[node] += value
            callers = sorted(a for a, b in edges if b == node)
            everyone = sum(rate.get(a, 0.0) for a in callers if not a.endswith("_remote"))
            for a in callers:
                after[a] += value * (
                    1.0 if a.endswith("_remote") else min(3.0, rate.get(node, 0.0) / max(everyone, 1.0))
                )
        wave = after
    return parts


def _downs(
    guilty: str, edges: frozenset[tuple[str, str]] | set[tuple[str, str]], rate: dict[str, float]
) -> dict[str, float]:
    """Return which part of the guilty node's extra traffic each node below bears."""
    out, wave = {guilty: 1.0}, {guilty: 1.0}
    for _ in range(8):
        after: dict[str, float] = {}
        for node, value in wave.items():
            for a, b in sorted(edges):
                if a == node and b not in out:
                    everyone = sum(rate.get(x, 0.0) for x, y in edges if y == b)
                    after[b] = value * min(1.0, rate.get(node, 0.0) / max(everyone, 1.0))
        out.update(after)
        wave = after
    return out


def _usual(series: dict[str, list[Array]]) -> float:
    return float(np.nanmedian(series["latency"][0]))


def _add(chance: np.random.Generator, series: dict[str, list[Array]], bad: Array, amount: Array, kind: str) -> None:
    """Add a rise: the average takes all of it, the percentiles what a share of slow requests would give them."""
    if kind == "errors":
        for values in series.get("availability", []):
            counts = np.nan_to_num(series["requests"][0][bad]) if "requests" in series else np.full(bad.size, 100.0)
            failed = chance.binomial(np.maximum(counts, 1).astype(int), np.clip(amount, 0, 1)) / np.maximum(counts, 1)
            values[bad] = np.clip(values[bad] - 100 * failed, 0, 100)
        return
    affected = float(chance.uniform(0.02, 1.0))  # the share of requests that are slow
    for i, values in enumerate(series.get("latency", [])):
        takes = (1.0, affected > 0.5, affected > 0.1, affected > 0.05, affected > 0.01)[min(i, 4)]
        values[bad] += amount * (1.0 if i == 0 else float(takes) / affected) * np.exp(chance.normal(0, 0.1, bad.size))
