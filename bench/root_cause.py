"""Which service, or which of several changes, did it: our localisation against simple rivals, in one run.

Reads folders in the layouts of PetShop, RCAEval or `bench.datasets.folder`; without a folder, ADVISOR_BENCH_DATA; without that,
generated incidents. Prints AC@1, AC@3, AC@5 (share of cases with the truth among the first k), the mean rank and seconds a
case, with 95 % intervals from a bootstrap over cases, and for ours the Brier score of its probabilities.

    python -m bench.root_cause [FOLDER…] [--generated 300] [--planted 200] [--first-seed 100000] [--each]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from advisor.diagnosis.localization import localize, localize_changes, probabilities
from bench.datasets import folder as plain
from bench.datasets import petshop, rcaeval
from bench.datasets.case import Case, DatasetUnreadable
from bench.datasets.generated import make_case
from bench.datasets.planted import plant
from bench.rivals import RIVALS

DRAWS = 2000
LOADERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], list[Case]]], ...] = (
    (plain.is_folder, plain.load),
    (petshop.is_petshop, petshop.load),
    (rcaeval.is_rcaeval, rcaeval.load),
)


@dataclass(slots=True)
class Score:
    """What one method reached on one set."""

    ranks: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    brier: list[float] = field(default_factory=list)


def ours(case: Case) -> tuple[list[str], float]:
    """Return our ranking of the candidates, and the Brier score of our probabilities (0 best, 2 worst)."""
    blames = localize(
        case.times,
        case.services,
        case.calls,
        case.symptom_service,
        case.symptom_aspect,
        case.noticed_at,
        case.normal,
    )
    ranked = [(b.service, b.score) for b in blames]
    if case.changes:
        step = float(np.median(np.diff(case.times))) if case.times.size > 1 else 60.0
        ranked = [(c.change.name, c.score) for c in localize_changes(blames, case.changes, case.noticed_at, step)]
    shares = probabilities([score for _, score in ranked])
    brier = sum((p - (name in case.truth)) ** 2 for (name, _), p in zip(ranked, shares, strict=True))
    return [name for name, _ in ranked], float(brier)


def read(path: Path) -> list[Case]:
    """Return the cases of a folder, whichever layout it has."""
    if not path.is_dir():
        raise DatasetUnreadable(f"{path}: not a folder that can be read")
    for matches, load in LOADERS:
        if matches(path):
            return load(path)
    raise DatasetUnreadable(f"{path}: none of the known layouts (PetShop, RCAEval, plain; see bench/datasets/)")


def measure(cases: list[Case], each: bool = False) -> dict[str, Score]:
    """Return what each method reached on the cases."""
    scores = {name: Score() for name in ("localisation", *RIVALS)}
    for case in cases:
        began = time.perf_counter()
        ranked, brier = ours(case)
        mine = scores["localisation"]
        mine.seconds.append(time.perf_counter() - began)
        mine.ranks.append(case.rank_of_truth(ranked))
        mine.brier.append(brier)
        if each:
            print(
                f"  {mine.ranks[-1]:3d} of {len(case.candidates):3d}  {case.name}  (first: {ranked[0] if ranked else '-'})"
            )
        for name, rival in RIVALS.items():
            if name == "latest change" and not case.changes:
                continue
            began = time.perf_counter()
            answer = rival(case)
            scores[name].seconds.append(time.perf_counter() - began)
            scores[name].ranks.append(case.rank_of_truth(answer))
    return {name: score for name, score in scores.items() if score.ranks}


def interval(values: np.ndarray, draws: np.ndarray) -> str:
    """Return a mean with its 95 % bootstrap interval."""
    means = values[draws].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():5.2f} [{low:.2f}–{high:.2f}]"


def report(title: str, scores: dict[str, Score]) -> None:
    """Print one table."""
    count = len(scores["localisation"].ranks)
    draws = np.random.default_rng(1).integers(0, count, (DRAWS, count))
    print(f"\n{title}: {count} cases")
    print(f"{'':22s} {'AC@1':18s} {'AC@3':18s} {'AC@5':18s} {'mean rank':20s} {'s/case':7s} Brier")
    for name, score in scores.items():
        ranks = np.array(score.ranks, dtype=float)
        columns = [interval((ranks <= k).astype(float), draws) for k in (1, 3, 5)]
        brier = f"{np.mean(score.brier):.3f}" if score.brier else "–"
        print(
            f"{name:22s} "
            + " ".join(f"{c:18s}" for c in columns)
            + f" {interval(ranks, draws):20s} {np.mean(score.seconds):7.4f} {brier}"
        )


def main() -> int:
    """Measure every set that was named, and say in one line which could not be read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument(
        "--generated", type=int, help="how many generated incidents of each question (300 without a folder)"
    )
    parser.add_argument("--planted", type=int, default=0, help="faults planted in the calm windows of a PetShop folder")
    parser.add_argument("--first-seed", type=int, default=100_000)
    parser.add_argument("--each", action="store_true", help="print every case")
    given = parser.parse_args()
    named = os.environ.get("ADVISOR_BENCH_DATA")
    folders = given.folders or ([Path(named)] if named else [])
    failed = False
    for path in folders:
        try:
            cases = read(path)
            calm = sorted(p.parent.parent for p in path.glob("*/noissue/metrics.csv")) if given.planted > 0 else []
            seeds = range(given.first_seed, given.first_seed + given.planted) if calm else range(0)
            planted = [plant(calm[seed % len(calm)], seed) for seed in seeds]
        except (DatasetUnreadable, OSError, KeyError, TypeError, ValueError) as error:
            print(f"cannot measure on {path}: {type(error).__name__}: {error}", file=sys.stderr)
            failed = True
            continue
        report(str(path), measure(cases, given.each))
        if planted:
            title = f"{path}, faults planted in calm windows (seeds from {given.first_seed})"
            report(title, measure(planted, given.each))
    count = given.generated if given.generated is not None else (0 if folders else 300)
    for question in ("service", "change"):
        if count > 0:
            cases = [make_case(seed, question) for seed in range(given.first_seed, given.first_seed + count)]
            report(f"generated, which {question} (seeds from {given.first_seed})", measure(cases, given.each))
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
