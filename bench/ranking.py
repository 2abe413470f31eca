"""Ranking alone: 1,000 series of 480 points, 50 changes and 20 services, in CPU and wall seconds and memory, and how it grows.

Nothing is gathered here: the evidence is generated, and `diagnose` turns it into an assessment. The noise is 5 % of each
sample; one series in twenty steps when the trouble begins, by ×1.3 to ×4; the seed is fixed. Of the series the service asked
about has 30 % and the services beside it share the rest; each commit changes one key of one service. Each size runs in a
process of its own, so that its peak memory is its own. Budget: 1,000 series in 1.5 s of CPU and 400 MB.

The rivals get the same evidence in the same process:

* ``n-sigma``: numpy; each series' samples of the trouble against mean and deviation of those before, services by their
  strongest series, and the latest change of the first service. What is usual, and much less: no rates, no shares of a limit,
  no onset, no mechanism.
* ``n-sigma, plain``: the same scores in a Python loop.

    python -m bench.ranking [--series 100,1000,10000] [--runs 3]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from advisor.diagnosis import Assessment
from advisor.diagnosis.engine import diagnose
from advisor.diagnosis.knobs import parse_knobs
from advisor.evidence import (
    ChangeAnswer,
    CommitChange,
    Coverage,
    FileChange,
    Gathered,
    Neighbour,
    Relation,
    Series,
    SourceStatus,
    settle,
)
from advisor.evidence.config_diff import diff_keys
from advisor.evidence.signals import Array
from advisor.incident import Incident, Symptom

POINTS, STEP, CHANGES, SERVICES = 480, 30.0, 50, 20
T0, BAD = 1_795_334_400.0, 360
BUDGET_SECONDS, BUDGET_MB, BUDGET_SERIES = 1.5, 400.0, 1000
OWN_SHARE = 0.3
KNOBS = parse_knobs((Path(__file__).parents[1] / "playbooks" / "knobs.yaml").read_text())
# Names as a service has them: timers, gauges of pools and queues, counters, and what only the house itself understands.
NAMES = (
    "hikaricp_connections_active", "orders_queue_size", "http_client_requests_seconds_sum", "http_client_requests_seconds_count",
    "jobs_processed_total", "jobs_failed_total", "tomcat_threads_busy_threads", "cache_entries", "process_open_fds", "house_metric",
)  # fmt: skip
KEYS = (
    ("spring.datasource.hikari.maximum-pool-size", "10", "4"), ("payments.client.read-timeout", "2s", "200ms"),
    ("cache.products.maximum-size", "500", "900"), ("logging.level.root", "INFO", "DEBUG"), ("retry.max-attempts", "3", "5"),
    ("server.tomcat.threads.max", "200", "150"), ("feature.new-basket", "false", "true"), ("shop.banner", "a", "b"),
)  # fmt: skip


def moment(sample: float) -> datetime:
    return datetime.fromtimestamp(T0 + STEP * sample, UTC)


def make_series(rng: np.random.Generator, service: str, count: int, slow: bool) -> list[Series]:
    """Return a service's series: what comes in, and then whatever else, each name for as many pools, queues or peers."""
    times = tuple((T0 + STEP * np.arange(POINTS)).tolist())
    out: list[Series] = []

    def add(metric: str, values: Array, **labels: str) -> None:
        pairs = tuple(sorted({"job": service, "instance": f"{service}-1", **labels}.items()))
        out.append(Series(name=metric, labels=pairs, times=times, values=tuple(values.tolist())))

    rate = 50 * np.exp(rng.normal(0, 0.05, POINTS))
    latency = 0.1 * np.exp(rng.normal(0, 0.05, POINTS))
    latency[BAD:] *= 3 if slow else 1
    add("http_server_requests_seconds_count", np.cumsum(rate * STEP), status="200", uri="/")
    add("http_server_requests_seconds_sum", np.cumsum(rate * latency * STEP), status="200", uri="/")
    while len(out) < count:
        i = len(out)
        values = (5 + i % 7) * np.exp(rng.normal(0, 0.05, POINTS))
        if rng.random() < 0.05:
            values[BAD + int(rng.integers(-3, 3)) :] *= rng.uniform(1.3, 4)
        name = NAMES[i % len(NAMES)]
        if name.endswith(("_total", "_sum", "_count")):
            values = np.cumsum(values * STEP)
        peer = {"client_name": f"service-{i % SERVICES}"} if "client" in name else {"name": f"part-{i // len(NAMES)}"}
        add(name, values, **peer)
    return out


def make_changes(rng: np.random.Generator, service: str, count: int) -> ChangeAnswer:
    """Return a history of one-key commits at random moments of the window."""
    path = f"apps/{service}/application.properties"
    commits = []
    for i in range(count):
        key, old, new = KEYS[int(rng.integers(len(KEYS)))]
        at = moment(float(rng.uniform(0, POINTS - 1)))
        keys = diff_keys(f"{key}={old}\n".encode(), f"{key}={new}\n".encode(), path)
        commits.append(
            CommitChange(
                commit=hashlib.sha1(f"{service} {i}".encode()).hexdigest(), parent=None, author="alice@example.org", authored_at=at,
                effective_at=at, subject=f"Change {i}", in_scope=True,
                files=(FileChange(path=path, status="modified", keys=keys),),
            )
        )  # fmt: skip
    commits.sort(key=lambda c: c.effective_at, reverse=True)
    return ChangeAnswer(head="0" * 40, head_at=moment(0), commits=tuple(commits))


def make(series: int) -> tuple[Incident, Gathered]:
    """Return an incident of one slow service among twenty, in a chain that branches."""
    rng = np.random.default_rng(11)
    names = [f"service-{i}" for i in range(SERVICES)]
    own = max(2, round(series * OWN_SHARE))
    each = [own, *[max(2, (series - own) // (SERVICES - 1))] * (SERVICES - 1)]
    changes = [CHANGES // SERVICES + (1 if i < CHANGES % SERVICES else 0) for i in range(SERVICES)]
    told = [make_series(rng, n, c, slow=i in (0, 1, 3)) for i, (n, c) in enumerate(zip(names, each, strict=True))]
    histories = [make_changes(rng, n, c) for n, c in zip(names, changes, strict=True)]
    beside = tuple(
        Neighbour(service=n, relation=Relation.CALLED, metrics=tuple(s), metric_query=f'{{job="{n}"}}', changes=h)
        for n, s, h in list(zip(names, told, histories, strict=True))[1:]
    )
    given = Gathered(
        metrics=tuple(told[0]), metric_query='{job="service-0"}', metric_source="prometheus", step_seconds=STEP,
        start=moment(0), end=moment(POINTS), repository="config", changes=histories[0], neighbours=beside,
        declared_calls=tuple((names[(i - 1) // 2], names[i]) for i in range(1, SERVICES)),
    )  # fmt: skip
    asked = Incident(
        id="i", created_at=moment(POINTS), service=names[0], noticed_at=moment(BAD + 4), until=moment(POINTS),
        symptoms=(Symptom.LATENCY,), question="service-0 is slow",
    )  # fmt: skip
    return asked, given


def ours(asked: Incident, given: Gathered) -> Assessment:
    entries = tuple(Coverage(source=s, status=SourceStatus.OK) for s in ("metrics", "changes"))
    return diagnose(asked, settle(entries, ("metrics", "changes")), given, KNOBS)


def _latest(given: Gathered, order: dict[str, float], asked: Incident) -> str:
    """Return the latest commit before the trouble of the service with the strongest score."""
    histories = {asked.service: given.changes, **{n.service: n.changes for n in given.neighbours}}
    for service in sorted(order, key=lambda name: -order[name]):
        answer = histories[service]
        before = [c for c in answer.commits if c.effective_at <= moment(BAD)] if answer is not None else []
        if before:
            return before[0].commit
    return ""


def _everyone(asked: Incident, given: Gathered) -> dict[str, tuple[Series, ...]]:
    return {asked.service: given.metrics, **{n.service: n.metrics for n in given.neighbours}}


def n_sigma(asked: Incident, given: Gathered) -> str:
    order = {}
    for service, series in _everyone(asked, given).items():
        matrix = np.array([s.values for s in series])
        calm, bad = matrix[:, :BAD], matrix[:, BAD:]
        order[service] = float(np.max(np.abs(bad.mean(axis=1) - calm.mean(axis=1)) / (calm.std(axis=1) + 1e-9)))
    return _latest(given, order, asked)


def n_sigma_plain(asked: Incident, given: Gathered) -> str:
    order: dict[str, float] = {}
    for service, series in _everyone(asked, given).items():
        for s in series:
            calm, bad = s.values[:BAD], s.values[BAD:]
            mean = sum(calm) / len(calm)
            deviation = (sum((v - mean) ** 2 for v in calm) / len(calm)) ** 0.5
            score = abs(sum(bad) / len(bad) - mean) / (deviation + 1e-9)
            order[service] = max(order.get(service, 0.0), score)
    return _latest(given, order, asked)


def timed(run: Callable[[Incident, Gathered], object], asked: Incident, given: Gathered, runs: int) -> dict[str, float]:
    """Return CPU and wall seconds: of the first run, which also fills caches, and the median of the others."""
    cpu, wall = [], []
    for _ in range(runs + 1):
        began_cpu, began = time.process_time(), time.perf_counter()
        run(asked, given)
        cpu.append(time.process_time() - began_cpu)
        wall.append(time.perf_counter() - began)
    return {"first": cpu[0], "cpu": statistics.median(cpu[1:]), "wall": statistics.median(wall[1:])}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(series: int, runs: int) -> dict[str, object]:
    """Return what one size takes; called in a process of its own."""
    asked, given = make(series)
    before = peak_mb()
    out: dict[str, object] = {"series": len(given.metrics) + sum(len(n.metrics) for n in given.neighbours)}
    out["ours"] = timed(ours, asked, given, runs)
    out |= {"evidence_mb": before, "peak_mb": peak_mb()}
    out["n-sigma"] = timed(n_sigma, asked, given, runs)
    out["n-sigma, plain"] = timed(n_sigma_plain, asked, given, runs)
    found = ours(asked, given)
    out["hypotheses"], out["outcome"] = len(found.hypotheses), found.diagnosis.outcome.value
    return out


def main() -> int:
    """Run each size in a fresh process and print seconds, memory, growth and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--series", default="100,1000,10000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one, chosen.runs)))
        return 0
    print(
        f"{POINTS} points a series, {CHANGES} changes, {SERVICES} services; seconds of CPU, median of {chosen.runs} after one"
    )
    print(
        f"{'series':>7} {'first':>7} {'cpu s':>7} {'wall s':>7} {'peak MB':>8} {'of it evidence':>14} {'us/series':>10} {'n-sigma':>9} {'plain':>8} {'ratio':>7} {'to plain':>9}"
    )
    met = True
    for size in (int(part) for part in chosen.series.split(",")):
        command = [sys.executable, "-m", "bench.ranking", "--one", str(size), "--runs", str(chosen.runs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            print(done.stderr.strip()[-300:])
            return 1
        found = json.loads(done.stdout)
        mine, rival, plain = found["ours"], found["n-sigma"], found["n-sigma, plain"]
        print(
            f"{found['series']:>7} {mine['first']:>7.2f} {mine['cpu']:>7.2f} {mine['wall']:>7.2f} {found['peak_mb']:>8.0f}"
            f" {found['evidence_mb']:>14.0f} {1e6 * mine['cpu'] / found['series']:>10.0f} {rival['cpu']:>9.3f}"
            f" {plain['cpu']:>8.3f} {mine['cpu'] / rival['cpu']:>7.1f} {mine['cpu'] / plain['cpu']:>9.1f}"
        )
        if size == BUDGET_SERIES:
            met = mine["first"] < BUDGET_SECONDS and found["peak_mb"] < BUDGET_MB
    print(
        f"budget of {BUDGET_SECONDS} s (the first run) and {BUDGET_MB:.0f} MB at {BUDGET_SERIES} series: {'met' if met else 'NOT met'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
