"""Small incidents of work, put together piece by piece: a service's series, its commits, its log, and the services beside it.

`generators` tells whole stories of memory with a culprit; here a test says exactly what was measured and what was changed, so
that one rule at a time can be held to it. Noise is 3 % of each sample, drawn from the seed; moments count in samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from advisor.diagnosis import Assessment, Hypothesis
from advisor.diagnosis.around import Around, look_around
from advisor.diagnosis.candidate import Candidate
from advisor.diagnosis.causes import find_candidates
from advisor.diagnosis.engine import diagnose
from advisor.diagnosis.knobs import Knob, parse_knobs
from advisor.diagnosis.picture import Picture, draw_picture
from advisor.evidence import (
    ChangeAnswer,
    CommitChange,
    ConfigValue,
    Coverage,
    FileChange,
    Gathered,
    LogAnswer,
    LogTemplate,
    Neighbour,
    Relation,
    Series,
    SettledCoverage,
    SourceStatus,
    settle,
)
from advisor.evidence.config_diff import diff_keys
from advisor.evidence.signals import Array
from advisor.incident import Incident, Symptom

KNOBS: tuple[Knob, ...] = parse_knobs((Path(__file__).parents[2] / "playbooks" / "knobs.yaml").read_text())
T0 = 1_795_334_400.0  # 2026-11-22T08:00:00Z
STEP, POINTS, BAD = 30.0, 240, 160  # two hours; what goes wrong does so after 80 minutes
NOISE = 0.03


def moment(sample: float) -> datetime:
    """Return the instant of a sample."""
    return datetime.fromtimestamp(T0 + sample * STEP, UTC)


def stepped(before: float, after: float | None = None, at: int = BAD, until: int = POINTS) -> Array:
    """Return a level that jumps to another one, and back where ``until`` says so."""
    out = np.full(POINTS, float(before))
    out[at:until] = before if after is None else after
    return out


def climbing(before: float, after: float, since: int, until: int = POINTS) -> Array:
    """Return a level that climbs in a straight line."""
    way = np.clip((np.arange(POINTS) - since) / max(1, until - since), 0, 1)
    return np.asarray(before + (after - before) * way)


@dataclass
class Service:
    """One service as it is measured, configured and logged."""

    name: str = "checkout"
    seed: int = 1
    series: list[Series] = field(default_factory=list)
    commits: list[CommitChange] = field(default_factory=list)
    configuration: dict[tuple[str, str], str] = field(default_factory=dict)
    lines: list[LogTemplate] = field(default_factory=list)
    configured: bool = True

    def __post_init__(self) -> None:
        """Draw noise of its own."""
        name = int(hashlib.sha256(self.name.encode("utf-8", "replace")).hexdigest()[:8], 16)
        self._chance = np.random.default_rng((self.seed, name))

    def noisy(self, values: Array) -> Array:
        """Return values with noise."""
        return np.asarray(values * np.exp(self._chance.normal(0, NOISE, values.size)))

    def gauge(self, name: str, values: Array, noise: bool = True, **labels: str) -> Service:
        """Add a gauge."""
        shown = self.noisy(values) if noise else values
        pairs = tuple(sorted({"job": self.name, "instance": f"{self.name}-1", **labels}.items()))
        times = tuple(T0 + STEP * i for i in range(values.size))
        self.series.append(Series(name=name, labels=pairs, times=times, values=tuple(map(float, shown))))
        return self

    def counter(self, name: str, per_second: Array, **labels: str) -> Service:
        """Add a counter that grows at a rate."""
        return self.gauge(name, 1000.0 + np.cumsum(self.noisy(per_second) * STEP), noise=False, **labels)

    def answers(
        self,
        latency: Array | float = 0.1,
        requests: Array | float = 50.0,
        failing: Array | float = 0.002,
        **labels: str,
    ) -> Service:
        """Add what comes in: requests by status, and the seconds that they take."""
        rate, share, seconds = (np.broadcast_to(np.asarray(v, float), (POINTS,)) for v in (requests, failing, latency))
        self.counter("http_server_requests_seconds_count", rate * (1 - share), status="200", uri="/cart", **labels)
        self.counter("http_server_requests_seconds_count", rate * share, status="500", uri="/cart", **labels)
        self.counter("http_server_requests_seconds_sum", rate * (1 - share) * seconds, status="200", uri="/cart")
        return self.counter("http_server_requests_seconds_sum", rate * share * seconds, status="500", uri="/cart")

    def calls(self, peer: str, latency: Array | float = 0.05, requests: Array | float = 50.0) -> Service:
        """Add calls to another service, as this one measures them."""
        rate, seconds = (np.broadcast_to(np.asarray(v, float), (POINTS,)) for v in (requests, latency))
        labels = {"client_name": peer, "uri": "/", "status": "200"}
        self.counter("http_client_requests_seconds_count", rate, **labels)
        return self.counter("http_client_requests_seconds_sum", rate * seconds, **labels)

    def began(self, *samples: float) -> Service:
        """Add process starts; the first one may lie before the data."""
        starts = np.array([max(s for s in samples if s <= i or s == samples[0]) for i in range(POINTS)])
        return self.gauge("process_start_time_seconds", T0 + STEP * starts, noise=False)

    def change(
        self,
        at: float,
        changes: Mapping[str, tuple[str | None, str | None]],
        path: str = "",
        subject: str = "Tune it",
        commit: str = "",
    ) -> str:
        """Commit new values of some keys, read by key as any file is; return the commit."""
        path = path or f"apps/{self.name}/application.properties"

        def text(side: int) -> bytes:
            return "".join(f"{k}={v[side]}\n" for k, v in changes.items() if v[side] is not None).encode()

        keys = diff_keys(text(0), text(1), path)
        name = commit or hashlib.sha1(f"{self.name}{at}{path}{sorted(changes)}{subject}".encode()).hexdigest()
        for key, (_, new) in changes.items():
            self.configuration[path, key] = new or ""
        self.record(name, at, (FileChange(path=path, status="modified", keys=keys),), subject)
        return name

    def record(self, commit: str, at: float, files: tuple[FileChange, ...], subject: str = "Tune it") -> None:
        """Add a commit as it is."""
        parent = self.commits[-1].commit if self.commits else None
        self.commits.append(
            CommitChange(
                commit=commit,
                parent=parent,
                author="alice@example.org",
                authored_at=moment(at),
                effective_at=moment(at),
                subject=subject,
                in_scope=True,
                files=files,
            )
        )

    def says(
        self, text: str, since: int = BAD, level: str = "ERROR", until: int = POINTS, per_sample: int = 3
    ) -> Service:
        """Add a log line that repeats from a moment on."""
        self.lines.append(
            LogTemplate(
                template=text,
                level=level,
                count=per_sample * (until - since),
                first_at=moment(since),
                last_at=moment(until - 1),
                buckets=tuple((i, per_sample) for i in range(since, until)),
                sample=text,
            )
        )
        return self

    @property
    def history(self) -> ChangeAnswer | None:
        """Return the commits, newest first, with the configuration as it stands."""
        if not self.configured:
            return None
        newest = sorted(self.commits, key=lambda c: c.effective_at, reverse=True)
        return ChangeAnswer(
            head=newest[0].commit if newest else "0" * 40,
            head_at=newest[0].effective_at if newest else moment(0),
            commits=tuple(newest),
            configuration=tuple(
                ConfigValue(path=p, key=k, value=v) for (p, k), v in sorted(self.configuration.items())
            ),
        )

    @property
    def log(self) -> LogAnswer:
        """Return the digest of the log; INFO lines run all the time."""
        steady = LogTemplate(
            template="cart <*> saved",
            level="INFO",
            count=5 * POINTS,
            first_at=moment(0),
            last_at=moment(POINTS - 1),
            buckets=tuple((i, 5) for i in range(POINTS)),
            sample="cart 7 saved",
        )
        return LogAnswer(
            lines=5 * POINTS,
            templates=(steady, *self.lines),
            first_at=moment(0),
            last_at=moment(POINTS - 1),
            counted_from=moment(0),
            bucket_seconds=STEP,
        )


def neighbour(service: Service, relation: Relation = Relation.CALLED) -> Neighbour:
    """Return a service as one beside that which is asked about."""
    return Neighbour(
        service=service.name,
        relation=relation,
        metrics=tuple(service.series),
        metric_query=f'{{job="{service.name}"}}',
        repository="config",
        changes=service.history,
        logs=service.log if service.lines else None,
    )


def gathered(service: Service, *beside: Service, calls: Iterable[tuple[str, str]] = ()) -> Gathered:
    """Return everything that was read of a service and those beside it."""
    return Gathered(
        metrics=tuple(service.series),
        metric_query=f'{{job="{service.name}"}}',
        metric_source="prometheus",
        step_seconds=STEP,
        start=moment(0),
        end=moment(POINTS),
        repository="config",
        changes=service.history,
        logs=service.log,
        log_source="logs/*.log",
        neighbours=tuple(neighbour(one) for one in beside),
        declared_calls=tuple(calls),
    )


def incident(
    *symptoms: Symptom, service: str = "checkout", noticed: int | None = BAD + 20, question: str = "what is wrong"
) -> Incident:
    """Return an incident of some symptoms; latency where none is named."""
    return Incident(
        id="i",
        created_at=moment(POINTS),
        service=service,
        noticed_at=moment(noticed) if noticed is not None else None,
        until=moment(POINTS),
        symptoms=symptoms or (Symptom.LATENCY,),
        question=question,
    )


def coverage(**statuses: SourceStatus) -> SettledCoverage:
    """Return every source settled as ok, or as said."""
    named = {"metrics": SourceStatus.OK, "changes": SourceStatus.OK, "logs": SourceStatus.OK, **statuses}
    entries = tuple(
        Coverage(source=s, status=status, reason="said so", required=s != "logs") for s, status in named.items()
    )
    return settle(entries, ("metrics", "changes"))


def assess(
    asked: Incident, given: Gathered, knobs: tuple[Knob, ...] = KNOBS, settled: SettledCoverage | None = None
) -> Assessment:
    """Return what the engine makes of it."""
    return diagnose(asked, settled or coverage(), given, knobs)


def judged(
    asked: Incident, given: Gathered, knobs: tuple[Knob, ...] = KNOBS
) -> tuple[Picture, Around, list[Candidate]]:
    """Return what is wrong, what is around, and every candidate with its terms, best first."""
    picture = draw_picture(asked, given)
    around = look_around(asked, given, picture)
    return picture, around, find_candidates(asked.service, picture, given, knobs, (), around)


def term(of: Candidate | Hypothesis, name: str) -> float:
    """Return the sum of the terms of one name; 0 where there is none."""
    return sum(t.value for t in of.terms if t.name == name)


def why(of: Candidate | Hypothesis, name: str) -> str:
    """Return the reasons of the terms of one name."""
    return "; ".join(t.why for t in of.terms if t.name == name)


def of_key(candidates: Iterable[Candidate], key: str, service: str = "") -> Candidate:
    """Return the candidate of a key."""
    return next(c for c in candidates if key in (c.cause.key or "") and (not service or c.cause.service == service))
