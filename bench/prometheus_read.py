"""How long a range of 200 series with 1000 points takes: our adapter, and the library on its own.

Both ask the same real Prometheus in turns, so that whatever else the machine does falls on both. Ours also
bounds, checks, drops NaN and builds records; the library leaves JSON.

    python -m bench.prometheus_read
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_api_client.prometheus_connect import PrometheusConnect

from advisor.adapters.prometheus import PrometheusMetrics
from advisor.evidence import MetricRequest, Series
from tests.support.prometheus import prometheus_serving

START = datetime(2024, 11, 22, 8, tzinfo=UTC)
STEP_SECONDS = 15


def samples(series: int, points: int) -> list[Series]:
    """Return series of random numbers, the same ones for each run."""
    chance = random.Random(7)
    times = tuple(START.timestamp() + STEP_SECONDS * number for number in range(points))
    return [
        Series(
            name="jvm_memory_used_bytes",
            labels=(("instance", f"checkout-{number}"), ("job", "checkout")),
            times=times,
            values=tuple(chance.random() * 1e9 for _ in times),
        )
        for number in range(series)
    ]


def milliseconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Return how long work took by the wall, and how much processor this process used."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1000, (time.process_time() - used) * 1000


def measure(series: int, points: int, rounds: int) -> dict[str, Any]:
    """Return medians over the rounds, after one round that counts for nothing."""
    written = samples(series, points)
    end = START + timedelta(seconds=STEP_SECONDS * (points - 1))
    query = 'jvm_memory_used_bytes{job="checkout"}'
    with prometheus_serving(written) as url, PrometheusMetrics(url) as ours:
        library = PrometheusConnect(url)
        request = MetricRequest(query=query, start=START, end=end, step_seconds=STEP_SECONDS)
        answer = ours.query_range(request)
        if sorted(one.values for one in answer.series) != sorted(one.values for one in written):
            raise SystemExit("what was read is not what was written")
        ways: dict[str, Callable[[], Any]] = {
            "ours": lambda: ours.query_range(request),
            "library": lambda: library.custom_query_range(query, START, end, str(STEP_SECONDS)),
        }
        ways["library"]()
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                taken[name].append(milliseconds(way))
        library.close()
    medians = {
        name: {
            "wall_ms": round(statistics.median(wall for wall, _ in pairs), 1),
            "cpu_ms": round(statistics.median(used for _, used in pairs), 1),
        }
        for name, pairs in taken.items()
    }
    ratio = medians["library"]["wall_ms"] / medians["ours"]["wall_ms"]
    return {
        "series": series,
        "points": points,
        "rounds": rounds,
        **medians,
        "library_over_ours": round(ratio, 2),
    }


def main() -> None:
    """Measure and print one JSON document for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for series, points in ((28, 1500), (200, 1000)):
        sys.stdout.write(json.dumps(measure(series, points, rounds)) + "\n")


if __name__ == "__main__":
    main()
