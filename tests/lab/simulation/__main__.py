"""Records the simulated cases: ``python -m tests.lab.simulation [--only NAME…] [--out DIR]``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.lab.simulation.recording import Recorded, RecordingFailed, keep, record
from tests.lab.simulation.scenario import Scenario

OUT = Path(__file__).resolve().parents[3] / "playbooks"
BARS = "▁▂▃▄▅▆▇█"


def scenarios() -> dict[str, Scenario]:
    """Return all cases by name."""
    from tests.lab.simulation import development, held_out

    found: dict[str, Scenario] = {}
    for one in (*development.SCENARIOS, *held_out.SCENARIOS):
        if one.name in found:
            raise RecordingFailed(f"two cases are called {one.name}")
        found[one.name] = one
    return found


def _one(work: tuple[str, Path, bool]) -> tuple[str, str, str, bool]:
    """Record a case in a process of its own; returns (name, what to say, what to show, whether it failed)."""
    name, out, show = work
    begun = time.monotonic()
    try:
        recorded = record(scenarios()[name])
        news = "new" if keep(recorded, out) else "as before"
    except Exception as error:  # noqa: BLE001 - one case's fault must not take the others with it
        return name, f"{name:<34} FAILED {type(error).__name__}: {error}", "", True
    size = len(recorded.bundle) / 1024
    said = f"{name:<34} {size:5.1f} KiB  {len(recorded.samples):4d} series  {time.monotonic() - begun:4.1f} s  {news}"
    return name, said, picture(recorded) if show else "", False


_SHOWN = (
    "offered done failed limited time busy waiting pool_active pool_pending pool_timeouts cpu throttled hits misses entries rss live"
    " sessions backlog backlog_age ready replicas disk log_lines"
).split()


def _flat(values: np.ndarray) -> bool:
    """Return whether nothing but noise is in it."""
    smooth = [float(c.mean()) for c in np.array_split(values, 20)]
    return max(smooth) - min(smooth) < 0.35 * abs(float(np.mean(smooth)))


def picture(recorded: Recorded, width: int = 60) -> str:
    """Return what happened to each service as lines of bars, for a look at whether a case is what it is meant to be."""
    lines = []
    for name, trace in recorded.traces.items():
        calls = sorted(c for c in trace.columns if c.endswith((":rate", ":failed", ":time")))
        for column in (*_SHOWN, *calls):
            values = trace.get(column)
            if not values.any() or trace.params[0].kind == "backend" or _flat(values):
                continue
            chunks = [float(c.mean()) for c in np.array_split(values, min(width, len(values)))]
            low, high = min(chunks), max(chunks)
            bars = "".join(BARS[int((c - low) / (high - low) * 7.99) if high > low else 0] for c in chunks)
            first, last = float(np.mean(values[: len(values) // 4])), float(np.mean(values[-len(values) // 8 :]))
            lines.append(f"  {name:<12.12} {column:<22} {first:9.4g} -> {last:9.4g}  {low:8.3g} .. {high:8.3g} {bars}")
        restarts = sum(len(r.restarts) for r in trace.replicas)
        if restarts:
            lines.append(
                f"  {name:<12.12} {restarts} restarts: {sorted({w for r in trace.replicas for _, w in r.restarts})}"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Record cases; 0 if all could be."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.simulation", description=(__doc__ or "").strip())
    parser.add_argument("--only", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of playbooks (default: the repository's)")
    parser.add_argument("--processes", type=int, default=max(1, min(4, os.cpu_count() or 1)))
    parser.add_argument("--show", action="store_true", help="draw the series")
    parser.add_argument("--list", action="store_true", help="only name the cases")
    arguments = parser.parse_args(argv)
    known = scenarios()
    names = arguments.only or list(known)
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"unknown case {', '.join(unknown)}")
    if arguments.list:
        for name in names:
            one = known[name]
            print(f"{name:<34} {one.playbook:<18} {one.klass:<24} {'held_out' if one.held_out else 'development'}")
        return 0
    import advisor.cli
    import advisor.workflow  # noqa: F401

    begun, failed = time.monotonic(), 0
    work = [(name, arguments.out, arguments.show) for name in names]
    with multiprocessing.get_context("fork").Pool(arguments.processes) as pool:
        for _name, said, shown, wrong in pool.imap(_one, work):
            failed += wrong
            print(said, flush=True)
            if shown:
                print(shown, flush=True)
    print(f"{len(names)} cases in {time.monotonic() - begun:.0f} s, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
