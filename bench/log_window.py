"""How long a window in a large log takes, against reading all of it with ``grep``.

Makes a log of the size given (Spring Boot layout, stack traces, a window of ten minutes near its middle),
then prints seconds, lines and the process's peak memory. Not a test: figures depend on the machine.

    python bench/log_window.py --mebibytes 1024
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from advisor.adapters.log_files import LogFiles
from advisor.evidence import LogRequest

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
SHAPES = (
    " INFO 1 --- [http-nio-8080-exec-{a}] o.e.shop.Cart     : Cart {b} of session {h} priced in {c} ms",
    " INFO 1 --- [http-nio-8080-exec-{a}] o.e.shop.Checkout : Order {b} placed by user{c}@example.org, {c}.20",
    "DEBUG 1 --- [scheduling-1] o.e.shop.SessionStore     : {b} sessions held, {c} expired",
    ' WARN 1 --- [http-nio-8080-exec-{a}] o.e.shop.Payments : slow answer from "payments-{a}": {c} ms',
    " INFO 1 --- [http-nio-8080-exec-{a}] o.e.shop.Access   : GET /api/orders/{b}/items 200 {c} 10.0.{a}.7",
)
TRACE = (
    "ERROR 1 --- [http-nio-8080-exec-7] o.e.shop.Checkout        : order failed\n"
    "java.lang.IllegalStateException: no session {b}\n"
    + "".join(f"\tat org.example.shop.Checkout.step{n}(Checkout.java:{n})\n" for n in range(20))
    + "Caused by: java.lang.OutOfMemoryError: Java heap space\n"
    "\tat org.example.shop.SessionStore.put(SessionStore.java:9)\n"
    "\t... 12 more"
)


def make_log(path: Path, mebibytes: int) -> tuple[int, datetime]:
    """Write a log and return how many lines it has and when it ends."""
    chance = random.Random(1)  # a repeatable file, nothing secret
    at, lines, left = BEGIN, 0, mebibytes << 20
    with path.open("w", encoding="utf-8") as file:
        while left > 0:
            part = []
            for _ in range(20_000):
                at += timedelta(milliseconds=chance.randrange(25))
                shape = TRACE if chance.random() < 0.002 else chance.choice(SHAPES)
                text = shape.format(
                    a=chance.randrange(20),
                    b=chance.randrange(10**6),
                    c=chance.randrange(900),
                    h=f"{chance.getrandbits(128):032x}",
                )
                part.append(f"{at.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z {text}\n")
            block = "".join(part)
            left -= len(block)
            lines += block.count("\n")
            file.write(block)
    return lines, at


def main() -> None:
    """Make the log, read it three ways, print the figures."""
    parser = argparse.ArgumentParser(description="How long a window in a large log takes.")
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--keep", type=Path, help="directory in which the log is kept and found again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = (given.keep or Path(temporary)) / "checkout.log"
        if not path.exists():
            make_log(path, given.mebibytes)
        report(path, path.stat().st_size)


def report(path: Path, size: int) -> None:
    """Print what each way of reading costs."""
    with path.open("rb") as file:
        file.seek(max(0, size - 100_000))
        stamps = [line[:24] for line in file.read().decode().splitlines() if line.startswith("2026-")]
    end = datetime.fromisoformat(stamps[-1])
    middle = BEGIN + (end - BEGIN) / 2
    window = LogRequest(service="checkout", files=("checkout.log",), start=middle, end=middle + timedelta(minutes=10))
    begun = time.perf_counter()
    answer = LogFiles(path.parent).read(window)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"file               {size / (1 << 20):10.0f} MiB, {(end - BEGIN).total_seconds() / 3600:.1f} h")
    folded = sum(one.count for one in answer.exceptions)
    print(f"window of 10 min   {seconds:10.2f} s, {answer.lines} lines")
    print(f"                   {len(answer.templates)} templates, {folded} exceptions")
    print(f"peak memory        {peak:10.0f} MiB")
    begun = time.perf_counter()
    prefix = middle.isoformat()[:15]
    command = ["grep", "-c", f"^{prefix}", str(path)]
    # Fixed words and a path made here: nothing foreign reaches the command line.
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    grep = time.perf_counter() - begun
    print(f"grep over all      {grep:10.2f} s, {grep / seconds:.1f} times the window (file in memory)")
    begun = time.perf_counter()
    whole = LogRequest(service="checkout", files=("checkout.log",), start=BEGIN, end=end)
    answer = LogFiles(path.parent, seconds_max=600, lines_max=10**9).read(whole)
    seconds = time.perf_counter() - begun
    rate = answer.lines / seconds
    print(f"all of it          {seconds:10.2f} s, {answer.lines} lines, {rate:,.0f} lines/s")
    print(f"peak memory        {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:10.0f} MiB")


if __name__ == "__main__":
    main()
