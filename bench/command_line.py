"""How soon the command line answers: `advisor --help` against an empty Python process, and what it loads.

python -m bench.command_line [--runs 9]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time


def timed(arguments: list[str]) -> float:
    """Return the wall seconds of a Python process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    """Run both in turn and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    ours, empty = ["-m", "advisor", "--help"], ["-c", "pass"]
    timed(empty), timed(ours)
    pairs = [(timed(ours), timed(empty)) for _ in range(runs)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    help_seconds, empty_seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"advisor --help {help_seconds:.3f} s, an empty process {empty_seconds:.3f} s (medians of {runs}), ratio {help_seconds / empty_seconds:.1f}"
    )
    print(f"largest process {peak:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
