"""How long the last seven days of a long history take, against a short history with the same seven days.

Builds two repositories with ``git fast-import``: a long one (20,000 commits over 400 files) and one with nothing but
the window. Prints seconds of the first reading (our clone is made) and of a later one, the difference that the length
makes, and the rival: one ``git log -p`` of the same window, which knows no keys.

    python bench/git_history.py --commits 20000
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from advisor.adapters.git_repository import GitRepository
from advisor.evidence import ChangeRequest

END = datetime(2026, 11, 22, tzinfo=UTC)
WINDOW = timedelta(days=7)
FILES = 400
RUNS = 5


def content(chance: random.Random) -> bytes:
    """Return a manifest-like file of 60 keys, a few of which differ each time."""
    lines = ["server:", "  servlet:", "    session:", f"      timeout: {chance.randrange(1, 60)}m", "settings:"]
    return "\n".join(
        [*lines, *(f"  key-{n:02d}: value-{n if n % 9 else chance.randrange(99)}" for n in range(60))]
    ).encode()


def stream(commits: int, in_window: int) -> Iterator[bytes]:
    """Yield a fast-import stream: the last commits fall into the window, the others before it."""
    chance = random.Random(1)  # a repeatable history, nothing secret
    for number in range(commits + in_window):
        if number < commits:
            at = END - WINDOW - timedelta(minutes=30) * (commits - number)
        else:
            at = END - WINDOW + WINDOW * (number - commits + 0.5) / in_window
        subject = f"Change {number}\n".encode()
        yield b"commit refs/heads/main\ncommitter Ann <ann@example.org> %d +0000\n" % int(at.timestamp())
        yield b"data %d\n%s" % (len(subject), subject)
        for file in range(FILES) if number == 0 else [chance.randrange(FILES)]:
            data = content(chance)
            yield b"M 100644 inline apps/service-%03d/application.yaml\ndata %d\n%s\n" % (file, len(data), data)
    yield b"done\n"


def build(path: Path, commits: int, in_window: int) -> None:
    """Write a bare repository."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
    importer = subprocess.Popen(["git", "-C", str(path), "fast-import", "--quiet", "--done"], stdin=subprocess.PIPE)
    assert importer.stdin is not None
    for part in stream(commits, in_window):
        importer.stdin.write(part)
    importer.stdin.close()
    if importer.wait():
        raise SystemExit("git fast-import failed")


def seconds(work: Callable[[], object]) -> float:
    """Return how long something took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(path: Path, folder: Path, in_window: int) -> tuple[float, float]:
    """Return the medians of the first and of a later reading."""
    request = ChangeRequest(
        repository="config", branch="main", paths=("apps/service-00*/**",), since=END - WINDOW, until=END
    )
    first, later = [], []
    for run in range(RUNS):
        repository = GitRepository("config", str(path), "main", folder / f"clone-{path.name}-{run}")
        first.append(seconds(lambda: repository.changes(request)))  # noqa: B023 - called at once
        fresh = GitRepository("config", str(path), "main", folder / f"clone-{path.name}-{run}")
        later.append(seconds(lambda: fresh.changes(request)))  # noqa: B023 - called at once
        answer = fresh.changes(request)
        if len(answer.commits) != in_window or not answer.history_complete:
            raise SystemExit(f"{len(answer.commits)} commits were read, {in_window} are in the window")
    return statistics.median(first), statistics.median(later)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--commits", type=int, default=20_000)
    parser.add_argument("--in-window", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        long, short = folder / "long.git", folder / "short.git"
        build(long, given.commits, given.in_window)
        build(short, 1, given.in_window)
        size = sum(p.stat().st_size for p in long.rglob("*") if p.is_file()) / 2**20
        since = f"--since={(END - WINDOW).isoformat()}"
        log = ["git", "-C", str(long), "log", "-p", "--first-parent", since, "main"]
        rival = statistics.median(
            seconds(lambda: subprocess.run(log, check=True, stdout=subprocess.DEVNULL)) for _ in range(RUNS)
        )
        long_first, long_later = measure(long, folder, given.in_window)
        short_first, short_later = measure(short, folder, given.in_window)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.commits} commits, {FILES} files, {size:.0f} MiB; {given.in_window} commits in the window")
    print(f"first reading:  long {long_first:.3f} s, short {short_first:.3f} s, ratio {long_first / short_first:.2f}")
    print(f"later reading:  long {long_later:.3f} s, short {short_later:.3f} s, ratio {long_later / short_later:.2f}")
    print(f"the long history costs {long_first - short_first:+.3f} s at first, {long_later - short_later:+.3f} s later")
    print(f"git log -p of the same window, without keys: {rival:.3f} s; peak memory of this process {peak:.0f} MiB")


if __name__ == "__main__":
    main()
