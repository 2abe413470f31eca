"""Records a simulated incident as a bundle: Prometheus, git and log files are real, and so is the `advisor` command.

Called by the command line of this package.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.lab.simulation import history
from tests.lab.simulation.exposition import Samples, Writer
from tests.lab.simulation.logs import write_log
from tests.lab.simulation.model import Trace, simulate
from tests.lab.simulation.scenario import Guilty, Scenario, ServiceSpec
from tests.lab.simulation.vocabulary import EXPORTERS
from tests.support.prometheus import PrometheusServer, backfill, write_openmetrics

BUNDLE_BYTES_MAX = 80 * 1024
DONE_CODES = (0, 3)  # 3: inconclusive


class RecordingFailed(Exception):
    """A case could not be recorded, or is not what its truth says."""


@dataclass(frozen=True)
class Recorded:
    """A recorded case."""

    scenario: Scenario
    bundle: bytes
    truth: str
    report: dict[str, Any]
    traces: dict[str, Trace]
    samples: list[Samples]


def record(scenario: Scenario) -> Recorded:
    """Simulate a case, serve it, let the advisor investigate, and return bundle and truth.

    Raises:
        RecordingFailed: The advisor failed, or the recorded evidence does not hold what the truth names.
    """
    with tempfile.TemporaryDirectory(prefix="simulation-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        begin = datetime.fromisoformat(scenario.begin.replace("Z", "+00:00"))
        traces = run_model(scenario, begin)
        samples = expose(scenario, traces, begin.timestamp())
        if not samples:
            raise RecordingFailed(f"{scenario.name}: no sample at all")
        commits = _repository(scenario, folder / "config.git", begin.timestamp())
        _logs(scenario, traces, folder / "logs", begin.timestamp())
        write_openmetrics(samples, folder / "samples.txt")
        backfill(folder / "samples.txt", folder / "data")
        # A scraping server marks series as ended when their process goes; backfilled ones have no marks, so it must not look
        # back much further than one sample.
        back = max(1, round(scenario.step * 1.5))
        with PrometheusServer(folder / "data", arguments=(f"--query.lookback-delta={back}s",)) as server:
            configuration = folder / "advisor.yaml"
            configuration.write_text(yaml.safe_dump(settings(scenario, server.url), sort_keys=False))
            report = _investigate(scenario, configuration, begin)
            target = folder / "case.bundle.zip"
            _advisor("export", report["incident"]["id"], "--output", str(target), "--config", str(configuration))
        truth = _truth(scenario, commits)
        recorded = Recorded(scenario, target.read_bytes(), truth, report, traces, samples)
        check(recorded, commits)
        return recorded


def _seed(scenario: Scenario, what: str) -> Any:
    return np.random.default_rng([scenario.seed, zlib.crc32(what.encode())])


def run_model(scenario: Scenario, begin: datetime) -> dict[str, Trace]:
    """Return what happens to each service."""
    hour = begin.hour + begin.minute / 60
    loads = {n: scenario.course(load, hour, _seed(scenario, f"load {n}")) for n, load in scenario.loads.items()}
    switches = [s for c in scenario.commits for s in c.switches()]
    for event in scenario.events:
        from tests.lab.simulation.model import Switch

        switches.append(Switch(event.at * 60, event.service, event.values, rollout=False, ramp=event.ramp * 60))
    params = {n: s.params for n, s in scenario.services.items()}
    return simulate(
        params,
        loads,
        tuple(switches),
        scenario.minutes * 60,
        scenario.step,
        _seed(scenario, "model"),
        warm_up=scenario.warm_up * 60,
    )


def expose(scenario: Scenario, traces: Mapping[str, Trace], epoch: float) -> list[Samples]:
    """Return the series that Prometheus scraped, as far as the case lets them be seen."""
    found: list[Samples] = []
    for name, spec in scenario.services.items():
        if not spec.exports:
            continue
        offset = zlib.crc32(name.encode()) % max(1, int(scenario.step))
        writer = Writer(
            name,
            traces[name],
            epoch + offset * 0.9,
            spec.labels,
            _cluster_labels(spec),
            spec.job or name,
            scenario.noise,
            _seed(scenario, f"exposition {name}"),
            not spec.machines,
            8080 + len(name),
        )
        for family in spec.exports:
            EXPORTERS[family](writer, dict(spec.options))
        found += writer.series
    return [kept for one in found if (kept := _visible(scenario, one, epoch)) is not None]


# Series that are not the service's own: where it exports none itself, they are relabelled so that they can be found.
_ABOUT = frozenset({"cadvisor", "kube", "istio", "ingress", "traefik", "haproxy", "up"})


def _cluster_labels(spec: ServiceSpec) -> Mapping[str, str]:
    if set(spec.exports) <= _ABOUT:
        return spec.labels
    return {"namespace": spec.labels.get("namespace", "default")}


def _visible(scenario: Scenario, one: Samples, epoch: float) -> Samples | None:
    if any(one.name.startswith(prefix) for prefix in scenario.missing.metrics):
        return None
    if scenario.missing.gap is None:
        return one
    begin, end = (epoch + m * 60 for m in scenario.missing.gap)
    kept = [(t, v) for t, v in zip(one.times, one.values, strict=True) if not begin <= t < end]
    if not kept:
        return None
    return replace(one, times=tuple(t for t, _ in kept), values=tuple(v for _, v in kept))


def _repository(scenario: Scenario, folder: Path, epoch: float) -> dict[str, str]:
    files = {p: t for s in scenario.services.values() for p, t in s.files.items()} | history.filler(scenario.folder)
    first = -24 * history.DAY
    if scenario.missing.history_from is not None:
        first = scenario.missing.history_from * 60
    made = [history.Made(c.at * 60, c.author, c.message, c.edits, c.tag) for c in scenario.commits]
    made += history.unrelated(scenario.folder, max(first, -5 * history.DAY), scenario.minutes * 60 - 60, scenario.seed)
    return history.write_repository(folder, epoch, files, made, first)


def _logs(scenario: Scenario, traces: Mapping[str, Trace], folder: Path, epoch: float) -> None:
    folder.mkdir()
    for name, spec in scenario.services.items():
        if not spec.log:
            continue
        hosts = {k.removeprefix("host."): v for k, v in spec.options.items() if k.startswith("host.")}
        text = write_log(traces[name], epoch, spec.log, name, hosts, _seed(scenario, f"log {name}"))
        path = folder / f"{name}.log"
        path.write_text(text)
        # Formats without a year are read by the file's date.
        os.utime(path, (epoch + scenario.minutes * 60, epoch + scenario.minutes * 60))


def settings(scenario: Scenario, url: str) -> dict[str, Any]:
    """Return the document of ``advisor.yaml``."""
    missing = scenario.missing
    services: dict[str, Any] = {}
    for name, spec in scenario.services.items():
        if not spec.selector:
            continue
        entry: dict[str, Any] = {"selector": spec.selector}
        if spec.files and not missing.changes:
            entry["configuration"] = {"repository": "config", "paths": list(spec.paths or _paths(spec))}
        if spec.log and not missing.logs:
            entry["logs"] = [{"files": [f"logs/{name}*.log"]}]
        if spec.depends_on:
            entry["depends_on"] = list(spec.depends_on)
        services[name] = entry
    document: dict[str, Any] = {"store": "sqlite:///advisor.db", "model": None}
    if not missing.prometheus:
        document["prometheus"] = {"url": url, "read_timeout_seconds": 60}
    document["repositories"] = {"config": {"url": "./config.git", "branch": "main"}}
    document["services"] = services
    # All of the window is read, and nothing before it: that is as far back as this Prometheus keeps samples.
    document["limits"] = {
        "lookback_hours": round(max(scenario.noticed - scenario.step / 60, 5) / 60, 3),
        "deadline_seconds": 120,
    }
    document["approval"] = {"approvers": ["alice@example.org"]}
    return document


def _paths(spec: ServiceSpec) -> list[str]:
    return sorted({path.rsplit("/", 1)[0] + "/**" for path in spec.files})


def _advisor(*arguments: str) -> str:
    """Run the `advisor` command in this process and return what it prints."""
    from advisor.cli import run

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(arguments))
    if code not in DONE_CODES:
        raise RecordingFailed(f"advisor {arguments[0]}: exit {code}: {err.getvalue().strip()[-500:]}")
    return out.getvalue()


def _investigate(scenario: Scenario, configuration: Path, begin: datetime) -> dict[str, Any]:
    def at(minute: float) -> str:
        return (begin + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")

    printed = _advisor(
        "investigate",
        scenario.asked,
        "--at",
        at(scenario.noticed),
        "--until",
        at(scenario.minutes),
        "--symptom",
        scenario.symptom,
        "--config",
        str(configuration),
        "--json",
    )
    report: dict[str, Any] = json.loads(printed)
    return report


def _truth(scenario: Scenario, commits: Mapping[str, str]) -> str:
    truth, guilty = scenario.truth, scenario.truth.guilty
    document: dict[str, Any] = {
        "outcome": truth.outcome,
        "kind": truth.kind,
        "service": guilty.service if guilty else truth.service,
        "commit": commits[guilty.tag] if guilty else None,
        "path": guilty.path if guilty else None,
        "key": guilty.key if guilty else None,
        "old": guilty.old if guilty else None,
        "new": guilty.new if guilty else None,
        "class": scenario.klass,
        "split": "held_out" if scenario.held_out else "development",
        "source": "generator",
        "noise": asdict(scenario.noise),
        "tags": list(truth.tags),
    }
    also: list[dict[str, Any]] = [
        {"service": g.service, "commit": commits[g.tag], "path": g.path, "key": g.key} for g in truth.also
    ]
    kinds = truth.accepted_kinds or (truth.kind,)
    also += [{"service": name, "kind": kind} for name in truth.also_called for kind in kinds]
    if also:
        document["also"] = also
    if truth.remedies_refused:
        document["remedies_refused"] = list(truth.remedies_refused)
    if truth.accepted_kinds:
        document["accepted_kinds"] = list(truth.accepted_kinds)
    head = "# What really happened; simulated (tests/lab/simulation), known before the advisor was asked.\n"
    if truth.why:
        head += f"# {truth.why}\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def check(recorded: Recorded, commits: Mapping[str, str]) -> None:
    """Hold the recorded evidence against the truth.

    Raises:
        RecordingFailed: The guilty commit or key was not read, a source ended otherwise than meant, or the bundle is too large.
    """
    from advisor.bundle import Bundle

    scenario = recorded.scenario
    bundle = Bundle.from_bytes(recorded.bundle, scenario.name)
    read: dict[str, list[str]] = {}
    for exchange in bundle.tape.exchanges:
        if exchange.source == "changes" and exchange.answer:
            for commit in exchange.answer["commits"]:
                for file in commit["files"]:
                    read.setdefault(commit["commit"] + " " + file["path"], []).extend(k["key"] for k in file["keys"])
    guilty: list[Guilty] = [g for g in (scenario.truth.guilty, *scenario.truth.also) if g is not None]
    for one in guilty:
        own = one.service == scenario.asked
        keys = read.get(f"{commits[one.tag]} {one.path}")
        if keys is None:
            raise RecordingFailed(f"{scenario.name}: {one.path} of {one.tag} is not among what was read")
        if own and one.key and sum(one.key in k for k in keys) != 1:
            raise RecordingFailed(f"{scenario.name}: {one.key} is not exactly one of {keys}")
    for entry in recorded.report["coverage"]:
        if entry["source"] not in ("metrics", "changes", "logs"):
            continue
        meant = {
            "metrics": scenario.missing.prometheus,
            "changes": scenario.missing.changes,
            "logs": scenario.missing.logs,
        }
        if (entry["status"] != "ok") != meant[entry["source"]]:
            raise RecordingFailed(f"{scenario.name}: {entry['source']} {entry['status']}: {entry['reason']}")
    if len(recorded.bundle) > BUNDLE_BYTES_MAX:
        raise RecordingFailed(f"{scenario.name}: {len(recorded.bundle)} bytes, more than {BUNDLE_BYTES_MAX}")


def keep(recorded: Recorded, folder: Path) -> bool:
    """Write a case below a folder of playbooks and return whether anything is new.

    A bundle whose evidence is the same stays as it is: ids and times of a recording are no news.
    """
    scenario = recorded.scenario
    place = folder / scenario.playbook / "cases" / scenario.name
    place.mkdir(parents=True, exist_ok=True)
    target, truth = place / f"{scenario.name}.bundle.zip", place / "truth.yaml"
    if not truth.exists() or truth.read_text() != recorded.truth:
        truth.write_text(recorded.truth)
    if target.exists() and _evidence(target.read_bytes()) == _evidence(recorded.bundle):
        return False
    partial = target.with_suffix(".part")
    partial.write_bytes(recorded.bundle)
    shutil.move(partial, target)
    return True


def _evidence(data: bytes) -> Any:
    from advisor.bundle import Bundle
    from advisor.errors import AdvisorError

    try:
        bundle = Bundle.from_bytes(data, "bundle")
    except AdvisorError:
        return None
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("clock", "proofs")}
    return manifest, bundle.tape.to_lines(), bundle.repositories
