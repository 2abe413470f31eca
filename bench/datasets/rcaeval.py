"""The layout of RCAEval and of the sets that follow it: ``<service>_<fault>/<n>/{data.csv,inject_time.txt}``.

``data.csv`` (also ``simple_metrics.csv`` or ``metrics.csv``) has a ``time`` column and columns ``<service>_<metric>``. The folder's
name is the answer and is not read as evidence. `inject_time.txt` stands for when the trouble was noticed. These sets know no
alarm: the symptom is taken where users are, at the service that looks like an entry, else at the slowest one. A
``calls.csv`` (``caller,callee``) beside the data, or in a folder above, gives the call graph where one is known.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from advisor.diagnosis.localization import Array
from bench.datasets.case import Case, DatasetUnreadable
from bench.datasets.folder import _calls, services_of

DATA = ("data.csv", "simple_metrics.csv", "simple_data.csv", "metrics.csv")
ENTRIES = (
    "frontend",
    "front-end",
    "frontend-external",
    "ts-ui-dashboard",
    "ts-gateway-service",
    "gateway",
    "edge-router",
)
# Suffixes of the columns -> aspect; the longest match wins. Source: the column names of RCAEval's RE1 to RE3.
METRICS = {
    "latency": "latency",
    "error": "errors",
    "errors": "errors",
    "load": "requests",
    "workload": "requests",
    "requests": "requests",
    "cpu": "cpu",
    "mem": "memory",
    "memory": "memory",
    "diskio": "other",
    "disk": "other",
    "socket": "pool",
    "queue": "queue",
}
_COLUMN = re.compile(
    r"^(?P<service>.+?)[_-](?P<metric>(?:[a-z]+-)*?(?P<word>" + "|".join(METRICS) + r")(?P<rest>[-_a-z0-9.%]*))$"
)


def is_rcaeval(folder: Path) -> bool:
    """Return whether a folder holds cases in this layout."""
    return any(_data(p.parent) is not None for p in folder.rglob("inject_time.txt"))


def load(folder: Path) -> list[Case]:
    """Return every case below a folder, in the order of their paths."""
    cases = []
    for mark in sorted(folder.rglob("inject_time.txt")):
        data = _data(mark.parent)
        if data is not None and "_" in mark.parent.parent.name:
            cases.append(_case(mark, data, folder))
    if not cases:
        raise DatasetUnreadable(f"{folder}: no <service>_<fault>/<n> with inject_time.txt and one of {', '.join(DATA)}")
    return cases


def _data(folder: Path) -> Path | None:
    return next((folder / name for name in DATA if (folder / name).is_file()), None)


def _case(mark: Path, data: Path, root: Path) -> Case:
    noticed = float(mark.read_text(encoding="utf-8").split()[0])
    times, columns = _table(data)
    truth = mark.parent.parent.name.rsplit("_", 1)[0]
    path = next((p / "calls.csv" for p in (mark.parent, *mark.parents) if (p / "calls.csv").is_file()), mark)
    calls = _calls(path) if path.name == "calls.csv" else frozenset()
    services = services_of(columns, {n for edge in calls for n in edge})
    names = [s.service for s in services]
    return Case(
        name=str(mark.parent.relative_to(root)),
        group=mark.parent.parent.name.rsplit("_", 1)[-1],
        times=times,
        services=services,
        calls=calls,
        symptom_service=next((n for n in ENTRIES if n in names), names[0] if names else ""),
        noticed_at=noticed,
        truth=frozenset({truth}),
    )


def _table(path: Path) -> tuple[Array, dict[tuple[str, str, str], Array]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        body = [r for r in rows if r]
    if "time" not in header:
        raise DatasetUnreadable(f"{path}: no column named time")
    matrix = np.array([[_value(c) for c in r[: len(header)]] for r in body], dtype=np.float64)
    times = matrix[:, header.index("time")]
    order = np.argsort(times, kind="stable")
    columns = {}
    for i, name in enumerate(header):
        found = _COLUMN.match(name)
        if found is None:
            continue
        columns[found["service"], METRICS[found["word"]], found["metric"]] = matrix[order, i]
    return times[order], columns


def _value(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")
