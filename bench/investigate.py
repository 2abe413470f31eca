"""A whole `advisor investigate`, as a process: 8 hours of 28 series from a real Prometheus, two logs of 11,000 lines, 40 commits.

The rival is what a person would script: a Python process that fetches each series with prometheus-api-client, one `git log -p`
of the same week, and one `grep` of the same logs. It gathers the same and concludes nothing. Needs Prometheus.

    python -m bench.investigate [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from advisor.evidence import Series
from tests.support.prometheus import prometheus_serving

END = datetime.now(UTC).replace(microsecond=0, second=0) - timedelta(minutes=5)
HOURS, STEP, LINES, COMMITS = 8, 15, 11_000, 40
RIVAL = """
import subprocess, sys
from prometheus_api_client import PrometheusConnect
from datetime import datetime, timedelta, UTC
url, folder, end = sys.argv[1], sys.argv[2], datetime.fromisoformat(sys.argv[3])
client = PrometheusConnect(url=url)
names = {m["__name__"] for m in client.get_current_metric_value('{job="checkout"}', params={"time": end.timestamp()}) and
         [s["metric"] for s in client.custom_query('{job="checkout"}', params={"time": end.timestamp()})]}
for name in sorted(names):
    client.custom_query_range(name + '{job="checkout"}', start_time=end - timedelta(hours=8), end_time=end, step="20s")
subprocess.run(["git", "-C", folder + "/config.git", "log", "-p", "--since=7.days", "main"], capture_output=True)
subprocess.run(["grep", "-c", "OutOfMemoryError", folder + "/logs/checkout.log", folder + "/logs/checkout-2.log"], capture_output=True)
"""


def series() -> list[Series]:
    """Return 28 series: sessions pile up from half-time on, and the heap with them."""
    chance = random.Random(7)
    start = END.timestamp() - HOURS * 3600
    times = tuple(start + i * STEP for i in range(HOURS * 3600 // STEP))
    half = len(times) // 2
    held = [1200 + 20 * math.sin(i / 40) + max(0, i - half) * 9 for i in range(len(times))]
    heap = [150e6 + h * 28e3 + (i % 24) * 4e6 + chance.random() * 2e6 for i, h in enumerate(held)]

    def one(name: str, values: list[float], **labels: str) -> Series:
        pairs = tuple(sorted({"job": "checkout", "instance": "checkout-1", **labels}.items()))
        return Series(name=name, labels=pairs, times=times, values=tuple(values))

    count = [i * 60.0 for i in range(len(times))]
    out = [
        one("jvm_memory_used_bytes", heap, area="heap", id="G1 Old Gen"),
        one("jvm_memory_max_bytes", [700e6] * len(times), area="heap", id="G1 Old Gen"),
        one("tomcat_sessions_active_current_sessions", held),
        one("http_server_requests_seconds_count", count, uri="/cart", status="200"),
        one("process_start_time_seconds", [start - 90000.0] * half + [times[half]] * (len(times) - half)),
        one("up", [1.0] * len(times)),
    ]
    return out + [one(f"checkout_part_{n}", [chance.random() * n for _ in times]) for n in range(28 - len(out))]


def write_logs(folder: Path) -> None:
    """Write two logs; one ends with the error."""
    folder.mkdir()
    for name in ("checkout.log", "checkout-2.log"):
        with (folder / name).open("w") as file:
            for i in range(LINES):
                at = END - timedelta(seconds=(LINES - i) * HOURS * 3600 / LINES)
                file.write(
                    f"{at:%Y-%m-%dT%H:%M:%S}.{i % 1000:03d}Z  INFO 1 --- [checkout] [exec-{i % 9}] o.e.shop.Cart : cart {i * 7919 % 99991} has {i % 13} items\n"
                )
            file.write(
                f"{END:%Y-%m-%dT%H:%M:%S}.000Z ERROR 1 --- [checkout] [exec-1] o.e.shop.Web : failed\njava.lang.OutOfMemoryError: Java heap space\n\tat org.example.shop.SessionStore.create(SessionStore.java:41)\n"
            )


def write_history(folder: Path) -> None:
    """Write a bare repository of 40 commits; one lengthens the session timeout when the growth begins."""
    work, half = folder / "work", END - timedelta(hours=HOURS / 2)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str, at: datetime) -> None:
        stamp = f"{int(at.timestamp())} +0000"
        who = {
            "GIT_AUTHOR_NAME": "alice",
            "GIT_AUTHOR_EMAIL": "alice@example.org",
            "GIT_COMMITTER_NAME": "alice",
            "GIT_COMMITTER_EMAIL": "alice@example.org",
        }
        subprocess.run(
            ["git", "-C", str(work), *arguments],
            check=True,
            capture_output=True,
            env={**environment, **who, "GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp},
        )

    work.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main", str(work)], check=True, env=environment)
    for n in range(COMMITS):
        at = half - timedelta(minutes=1) if n == COMMITS - 1 else half - timedelta(hours=3 * (COMMITS - n))
        timeout = "24h" if n == COMMITS - 1 else "30m"
        path = work / (
            "apps/checkout/application.yaml"
            if n in (0, COMMITS - 1) or n % 3 == 0
            else f"apps/other-{n % 5}/values.yaml"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"server:\n  servlet:\n    session:\n      timeout: {timeout}  # idle\n  port: 8080\npool:\n  size: {10 + n // 9}\n# note {n}\n"
        )
        git("add", "-A", at=at)
        git("commit", "-q", "-m", f"change {n}", at=at)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(folder / "config.git")], check=True, env=environment)


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Return the wall seconds of a process, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    return time.perf_counter() - began, done.stdout or done.stderr


def main() -> int:
    """Run both in turn and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name, prometheus_serving(series()) as url:
        folder = Path(name)
        write_logs(folder / "logs")
        write_history(folder)
        (folder / "advisor.yaml").write_text(
            f'prometheus: {{url: "{url}"}}\nrepositories:\n  config: {{url: ./config.git}}\nservices:\n  checkout:\n'
            '    selector: \'job="checkout"\'\n    configuration: {repository: config, paths: ["apps/checkout/**"]}\n    logs: [{files: ["logs/checkout*.log"]}]\n'
        )
        ours = [
            sys.executable,
            "-m",
            "advisor",
            "investigate",
            "checkout",
            "--config",
            "advisor.yaml",
            "--until",
            END.isoformat(),
            "--json",
        ]
        rival = [sys.executable, "-c", RIVAL, url, str(folder), END.isoformat()]
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        timed(ours, folder), timed(rival, folder)
        a, b, said = [], [], ""
        for _ in range(runs):
            seconds, said = timed(ours, folder)
            a.append(seconds)
            b.append(timed(rival, folder)[0])
        report = json.loads(said)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"outcome            {report['diagnosis']['outcome']}, {report['diagnosis']['summary'][:90]}")
        print(f"investigate        {statistics.median(a):.2f} s (median of {runs}, whole process)")
        print(
            f"scripted gathering {statistics.median(b):.2f} s (prometheus-api-client, git log -p, grep; no conclusion)"
        )
        print(f"ratio              {statistics.median(a) / statistics.median(b):.2f}")
        print(f"largest process    {peak:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
