"""A plain folder layout, so that another public set can be put in with little code.

One folder a case (or a folder of such folders), each with

* ``metrics.csv``, long: ``time,service,aspect,value[,statistic]``; or wide: ``time`` and one column ``service|aspect[|statistic]`` each;
* ``target.json``: ``{"symptom": {"service", "aspect"?, "noticed_at"?}, "normal"?: [from, to], "truth": name or [names]}``;
* ``calls.csv`` (optional): two columns ``caller,callee``;
* ``changes.json`` (optional): ``[{"service", "at"?, "kind"?, "name"?}]``; then ``truth`` names a change (its name, else its service).

Times are epoch seconds. Aspects are those of `advisor.diagnosis.localization.ASPECTS`; any other word counts as ``other``.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from advisor.diagnosis.localization import ASPECTS, Array, ServiceChange, ServiceSeries
from bench.datasets.case import Case, DatasetUnreadable

Columns = dict[tuple[str, str, str], Array]
_PLAIN = ("average", "avg", "mean", "sum", "")


def is_folder(folder: Path) -> bool:
    """Return whether a folder holds a case in this layout, itself or in a folder below it."""
    return any(_is_case(p.parent) for p in folder.rglob("target.json"))


def load(folder: Path) -> list[Case]:
    """Return every case below a folder, in the order of their paths."""
    cases = [_case(p.parent, folder) for p in sorted(folder.rglob("target.json")) if _is_case(p.parent)]
    if not cases:
        raise DatasetUnreadable(
            f"{folder}: no folder with metrics.csv and a target.json that names a symptom's service"
        )
    return cases


def _is_case(folder: Path) -> bool:
    if not (folder / "metrics.csv").is_file():
        return False
    try:
        said = json.loads((folder / "target.json").read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        return False
    return isinstance(said, dict) and isinstance(said.get("symptom"), dict) and "truth" in said


def _case(folder: Path, root: Path) -> Case:
    said = json.loads((folder / "target.json").read_text(encoding="utf-8"))
    times, columns = read_metrics(folder / "metrics.csv")
    calls = _calls(folder / "calls.csv")
    changes = _changes(folder / "changes.json")
    truth, normal = said["truth"], said.get("normal")
    symptom = said["symptom"]
    return Case(
        name=str(folder.relative_to(root)) if folder != root else folder.name,
        group=str(folder.parent.name),
        times=times,
        services=services_of(columns, {n for edge in calls for n in edge}),
        calls=calls,
        symptom_service=str(symptom["service"]),
        symptom_aspect=symptom.get("aspect"),
        noticed_at=_number(symptom.get("noticed_at")),
        normal=(float(normal[0]), float(normal[1])) if normal else None,
        changes=changes,
        truth=frozenset(truth if isinstance(truth, list) else [truth]),
    )


def read_metrics(path: Path) -> tuple[Array, Columns]:
    """Return the times and the columns of a metrics file, long or wide."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = [h.strip() for h in next(reader, [])]
        if not header or header[0] not in ("time", "timestamp"):
            raise DatasetUnreadable(f"{path}: the first column must be time, epoch seconds")
        if {"service", "aspect", "value"} <= set(header):
            return _long(header, list(reader))
        return _wide(header, list(reader))


def _wide(header: list[str], rows: list[list[str]]) -> tuple[Array, Columns]:
    body = sorted((t, r) for r in rows if r and (t := _number(r[0])) is not None)
    times = np.array([t for t, _ in body], dtype=np.float64)
    columns = {}
    for i, name in enumerate(header[1:], 1):
        parts = [*name.split("|"), "", ""][:3]
        values = [_number(r[i]) if i < len(r) else None for _, r in body]
        columns[parts[0], parts[1], parts[2]] = np.array([np.nan if v is None else v for v in values])
    return times, columns


def _long(header: list[str], rows: list[list[str]]) -> tuple[Array, Columns]:
    place = {name: i for i, name in enumerate(header)}
    found: dict[tuple[str, str, str], dict[float, float]] = defaultdict(dict)
    for row in rows:
        if len(row) < len(header):
            continue
        at, value = _number(row[0]), _number(row[place["value"]])
        if at is not None and value is not None:
            statistic = row[place["statistic"]] if "statistic" in place else ""
            found[row[place["service"]], row[place["aspect"]], statistic][at] = value
    times = np.array(sorted({t for points in found.values() for t in points}), dtype=np.float64)
    return times, {key: np.array([points.get(float(t), np.nan) for t in times]) for key, points in found.items()}


def services_of(columns: Columns, also: set[str]) -> tuple[ServiceSeries, ...]:
    """Return the services of some columns, averages first, and those that only the call graph names."""
    found: dict[str, dict[str, list[Array]]] = {name: defaultdict(list) for name in sorted(also)}
    for (service, aspect, statistic), values in sorted(
        columns.items(), key=lambda c: (c[0][2].lower() not in _PLAIN, c[0])
    ):
        word = aspect.lower() if aspect.lower() in ASPECTS else "other"
        found.setdefault(service, defaultdict(list))[word].append(values)
        del statistic
    return tuple(ServiceSeries(n, {a: tuple(v) for a, v in aspects.items()}) for n, aspects in sorted(found.items()))


def _calls(path: Path) -> frozenset[tuple[str, str]]:
    if not path.is_file():
        return frozenset()
    with path.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.reader(file) if len(r) >= 2]
    return frozenset(
        (a.strip(), b.strip()) for a, b, *_ in rows if (a.strip(), b.strip()) != ("caller", "callee") and a != b
    )


def _changes(path: Path) -> tuple[ServiceChange, ...]:
    if not path.is_file():
        return ()
    said: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(
        ServiceChange(
            str(c.get("name") or c["service"]), str(c["service"]), _number(c.get("at")), str(c.get("kind") or "release")
        )
        for c in said
    )


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
