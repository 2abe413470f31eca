"""Keeps what an incident left behind: metrics as JSON, the bare repository, the logs and the truth."""

from __future__ import annotations

import gzip
import json
import shutil
import urllib.parse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.processes import LabError, http_get

if TYPE_CHECKING:
    from tests.lab.lab import Run


def query_range(url: str, query: str, start: float, end: float, step_seconds: int = 1) -> dict[str, Any]:
    """Return Prometheus' answer for a window; at one second a step, three hours fit into one answer."""
    parameters = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": step_seconds})
    body = http_get(f"{url}/api/v1/query_range?{parameters}", 60.0)
    if body is None:
        raise LabError(f"Prometheus did not answer {query} from {start} to {end}")
    answer: dict[str, Any] = json.loads(body)
    return answer


def record(run: Run, folder: Path) -> Path:
    """Write everything about a finished incident below a folder and return where."""
    target = folder / run.name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    end = datetime.fromisoformat(str(run.truth["ended_at"])).timestamp()
    answer = query_range(run.prometheus.url, "{" + run.selector + "}", run.started_at - 5, end)
    with gzip.open(target / "metrics.json.gz", "wt") as file:
        json.dump(answer, file)
    shutil.copytree(run.folder / "config.git", target / "config.git")
    shutil.copytree(run.folder / "logs", target / "logs")
    for name in ("truth.json", "advisor.yaml"):
        shutil.copy(run.folder / name, target / name)
    return target
