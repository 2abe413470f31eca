"""When did it change? Localisation, false alarms and speed of ``advisor.evidence.shifts`` against simple rivals on made series.

Every family states its noise; the moment of the change is drawn anew for each series and known. Rivals get the same series
and, where they need one, an incident start that is late by 0 or 60 s (minute samples), as people and alert rules give it:

* ``n-sigma``: the samples of the incident against mean and deviation of everything before it;
* ``robust scorer``: the same with median and interquartile range (as BARO does);
* ``CUSUM``: the largest sum of deviations from the mean.

    python -m bench.change_points [--series 400]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from advisor.evidence.shifts import CLEAR, Shift, find_shifts
from advisor.evidence.signals import Array

STEP, POINTS = 60.0, 480
Noise = Callable[[np.random.Generator, int], Array]


def white(rng: np.random.Generator, size: int) -> Array:
    return rng.normal(0, 1, size)


def remembering(rho: float) -> Noise:
    def make(rng: np.random.Generator, size: int) -> Array:
        out = np.empty(size)
        out[0] = rng.normal()
        pushes = rng.normal(0, np.sqrt(1 - rho * rho), size)
        for i in range(1, size):
            out[i] = rho * out[i - 1] + pushes[i]
        return out

    return make


def lognormal(rng: np.random.Generator, size: int) -> Array:
    return (
        np.exp(rng.normal(0, 1, size)) / 1.5
    )  # its upper tenth lies as far out as that of unit normal noise, or further


def spiky(rng: np.random.Generator, size: int) -> Array:
    out = rng.normal(0, 1, size)
    out[rng.random(size) < 0.01] += 20
    return out


def nothing(rng: np.random.Generator, size: int) -> Array:
    return np.zeros(size)


@dataclass(frozen=True)
class Family:
    """Series with one change of interest: level 20, noise of about 1."""

    name: str
    noise: Noise
    shape: str = "step"
    size: float = 5.0
    early: float = 0.0
    gaps: float = 0.0
    points: int = POINTS
    step: float = STEP

    def make(self, rng: np.random.Generator) -> tuple[Array, Array, float, float]:
        """Return times, values, the first changed moment, and when somebody noticed."""
        n = self.points
        at = int(rng.integers(n // 3, n - max(3, n // 12)))
        values = 20 + self.noise(rng, n)
        after = np.arange(n) - at
        noticed = at + int(rng.integers(0, max(2, n // 40)))
        if self.shape == "burst":
            length = int(rng.integers(5, 20))
            values += self.size * ((after >= 0) & (after < length))
        elif self.shape == "ramp":
            length = n - at
            values += self.size * np.clip(after / max(1, length - 1), 0, 1)
            noticed = n - 2
        elif self.shape == "two":
            early = int(rng.integers(n // 8, at - n // 8))
            values += self.size * (after >= 0) + self.early * (np.arange(n) >= early)
        elif self.shape == "spread":
            values = 20 + (values - 20) * np.where(after >= 0, self.size, 1.0)
        elif self.shape == "errors":
            values = np.where(after >= 0, rng.poisson(self.size, n), rng.poisson(0.02, n)).astype(float)
        else:
            values += self.size * (after >= 0)
        values[rng.random(n) < self.gaps] = np.nan
        times = 1.7e9 + np.arange(n) * self.step
        return times, values, float(times[at]), float(times[min(n - 1, noticed)])


FAMILIES = (
    Family("step of 3, white", white, size=3),
    Family("step of 5, white", white),
    Family("step of 5, AR(1) .8", remembering(0.8)),
    Family("step of 5, lognormal", lognormal),
    Family("step of 5, 1 % spikes of 20", spiky),
    Family("step of 5, 20 % gaps", white, gaps=0.2),
    Family("burst of 5, 5 to 19 long", white, shape="burst"),
    Family("harmless +4, then +5", white, shape="two", early=4),
    Family("harmless -4, then +8", white, shape="two", early=-4, size=8),
    Family("ramp to +8, white", white, shape="ramp", size=8),
    Family("ramp to +8, AR(1) .5", remembering(0.5), shape="ramp", size=8),
    Family("spread times 4", white, shape="spread", size=4),
    Family("errors .02 -> 3, Poisson", white, shape="errors", size=3),
    Family("constant, then +5", nothing),
    Family("16 samples of 5 min, +6", white, size=6, points=16, step=300.0),
    Family("10,000 samples of 1 s, +3", white, size=3, points=10_000, step=1.0),
)
CALM = (
    ("white", white, POINTS),
    ("AR(1) .8", remembering(0.8), POINTS),
    ("lognormal", lognormal, POINTS),
    ("1 % spikes of 20", spiky, POINTS),
    ("white, 14 samples", white, 14),
    ("lognormal, 14 samples", lognormal, 14),
    ("AR(1) .8, 40 samples", remembering(0.8), 40),
)


def n_sigma(values: Array, start: int) -> float:
    before, after = values[:start], values[start:]
    return float(np.nanmax(np.abs(after - np.nanmean(before))) / max(float(np.nanstd(before)), 1e-9))


def robust_scorer(values: Array, start: int) -> float:
    before, after = values[:start], values[start:]
    low, middle, high = np.nanquantile(before, [0.25, 0.5, 0.75])
    return float(np.nanmax(np.abs(after - middle)) / max(float(high - low), 1e-9))


def cusum(values: Array) -> int:
    filled = np.where(np.isfinite(values), values, np.nanmean(values))
    return int(np.argmax(np.abs(np.cumsum(filled - filled.mean())[:-1]))) + 1


def daily(rng: np.random.Generator, noise: float = 0.5) -> tuple[Array, Array]:
    times = 1.7e9 + np.arange(600) * 300.0
    return times, 20 + 5 * np.sin((times - times[0]) * 2 * np.pi / 86400 + rng.random() * 6) + rng.normal(0, noise, 600)


def localise(count: int) -> None:
    """Print how far from the truth each way of looking puts the change."""
    print(f"{'':28}|     shifts, no hint     |  shifts, near a notice   |  CUSUM        | share within 3,")
    print(f"{'family':28}| median  <=3   clear     | median  <=3   clear sure | median  <=3   | ours / CUSUM")
    for family in FAMILIES:
        rng = np.random.default_rng(11)
        many = count if family.points < 2000 else max(20, count // 20)
        rows = [family.make(rng) for _ in range(many)]
        cells, within = [], 0.0
        for hinted in (False, True):
            found: list[Shift | None] = []
            if hinted:
                for times, values, _, noticed in rows:
                    found += find_shifts(times, values[np.newaxis], near=noticed)
            else:
                found = find_shifts(rows[0][0], np.stack([row[1] for row in rows]))
            errors = [
                abs(s.at - row[2]) / family.step if s is not None else np.inf
                for s, row in zip(found, rows, strict=True)
            ]
            within = float(np.mean(np.array(errors) <= 3))
            clear = float(np.mean([s is not None and abs(s.score) >= CLEAR for s in found]))
            held = float(
                np.mean(
                    [s is not None and s.earliest <= row[2] <= s.latest for s, row in zip(found, rows, strict=True)]
                )
            )
            cells.append(
                f"{statistics.median(errors):6.1f} {within:5.2f} {clear:6.2f} "
                + (f"{held:5.2f} " if hinted else "     ")
            )
        rival = [abs(cusum(values) - (truth - times[0]) / family.step) for times, values, truth, _ in rows]
        theirs, close = statistics.median(rival), float(np.mean(np.array(rival) <= 3))
        print(
            f"{family.name:28}|{cells[0]:25}|{cells[1]:26}| {theirs:6.1f} {close:5.2f} | {within / max(close, 1 / many):6.1f}"
        )


def false_alarms(count: int) -> None:
    """Print what pure noise scores."""
    print(
        f"\n{'pure noise':28}| share not clear, 98 % quantile of |score|: no hint, near the end | spread, slope among them"
    )
    for name, noise, points in (*CALM, ("daily waves, 2 days", None, 0)):
        rng = np.random.default_rng(12)
        if noise is None:
            made = [daily(rng)[1] for _ in range(count)]
            times = daily(rng)[0]
        else:
            made = [20 + noise(rng, points) for _ in range(count)]
            times = 1.7e9 + np.arange(points) * STEP
        matrix = np.stack(made)
        cells = []
        for near in (None, float(times[-1]) - 2 * (times[1] - times[0])):
            found = find_shifts(times, matrix, near=near)
            scores = np.array([0.0 if s is None else abs(s.score) for s in found])
            kinds = [s.kind for s in found if s is not None and abs(s.score) >= CLEAR]
            cells.append(
                f"{np.mean(scores < CLEAR):.3f} {np.quantile(scores, 0.98):5.2f} "
                f"({kinds.count('spread')}, {kinds.count('slope')})"
            )
        print(f"{name:28}| {'   '.join(cells)}")


def which_series(count: int) -> None:
    """Print how often the guilty one of 50 series is ranked first when the incident start is late."""
    print("\nthe guilty one of 50 series first (a burst of 4 samples, +6; the others white, AR(1), lognormal, spiky)")
    kinds = (white, remembering(0.8), lognormal, spiky)
    for late in (0, 60, 120, 300):
        rng = np.random.default_rng(13)
        hits = {"shifts": 0, "n-sigma": 0, "robust scorer": 0}
        for _ in range(count):
            matrix = np.stack([20 + kinds[i % 4](rng, 240) for i in range(50)])
            guilty, at = int(rng.integers(50)), 230
            matrix[guilty, at : at + 4] += 6 * (2.0 if kinds[guilty % 4] is lognormal else 1.0)
            times = 1.7e9 + np.arange(240) * STEP
            start = at + late // 60
            found = find_shifts(times, matrix, near=float(times[at]) + late)
            scores = [0.0 if s is None else abs(s.score) for s in found]
            hits["shifts"] += int(np.argmax(scores)) == guilty
            hits["n-sigma"] += int(np.argmax([n_sigma(row, start) for row in matrix])) == guilty
            hits["robust scorer"] += int(np.argmax([robust_scorer(row, start) for row in matrix])) == guilty
        shares = {name: hit / count for name, hit in hits.items()}
        best = max(shares["n-sigma"], shares["robust scorer"])
        told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        ratio = f"{shares['shifts'] / best:.1f}" if best else "rivals never"
        print(f"start {late:3d} s late: {told}; ours / best rival {ratio}")


def throughput() -> None:
    """Print seconds for 100, 1,000 and 10,000 series; half of them shift."""
    print(f"\nseries x {POINTS} points   seconds   series/s   n-sigma s")
    rng = np.random.default_rng(14)
    times = 1.7e9 + np.arange(POINTS) * STEP
    for count in (100, 1_000, 10_000):
        matrix = 20 + rng.normal(0, 1, (count, POINTS))
        matrix[::2, 400:] += 5
        runs = []
        for _ in range(3):
            begun = time.perf_counter()
            find_shifts(times, matrix, near=float(times[410]))
            runs.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for row in matrix:
            n_sigma(row, 410)
        rival = time.perf_counter() - begun
        print(f"{count:16,d} {min(runs):12.3f} {count / min(runs):10,.0f} {rival:10.3f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> int:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--series", type=int, default=400)
    count = parser.parse_args().series
    localise(count)
    false_alarms(count)
    which_series(max(20, count // 8))
    throughput()
    return 0


if __name__ == "__main__":
    sys.exit(main())
