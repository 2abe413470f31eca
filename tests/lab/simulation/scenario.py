"""A simulated incident as data: services, load, commits with what they do, events that nobody committed, and the truth."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from tests.lab.simulation.exposition import Noise
from tests.lab.simulation.history import Edit
from tests.lab.simulation.model import Params, Switch

MINUTE = 60.0
# From a commit to the first new process: sync of the controller, pull of the image. By the commit's message, so that it is fixed.
ROLLOUT_SECONDS = (35, 190)


@dataclass(frozen=True)
class ServiceSpec:
    """One simulated service.

    Attributes:
        params: How it behaves at the beginning.
        exports: Names of `vocabulary.EXPORTERS`; empty for something that nobody scrapes.
        options: For the exporters: routes, pools, host names.
        files: Its configuration at the beginning, by path in the repository.
        log: Style of its log; empty: none.
        machines: Fixed instance names instead of pod names.
        labels: On all its series.
        selector: Of ``advisor.yaml``; empty: the service is not configured there.
        depends_on: Of ``advisor.yaml``.
        paths: Of ``advisor.yaml``; default: the folders of ``files``.
    """

    params: Params
    exports: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    log: str = ""
    machines: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    job: str = ""
    selector: str = ""
    depends_on: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Load:
    """Requests a second from outside.

    Attributes:
        rate: At the middle of the day's course.
        peak_hour: Of the daily course, UTC.
        growth: (from minute, factor, over minutes), each on top of the others.
    """

    rate: float
    peak_hour: float = 14.0
    growth: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Commit:
    """A commit and what it does to services.

    Attributes:
        at: Minutes from the beginning of the window; negative before it.
        does: (service, fields of `Params`); nothing for a commit without effect.
        after: Seconds until the first new process; by default something within `ROLLOUT_SECONDS`.
        rollout: Whether processes are replaced; by default whether it does something.
        restarts: Services that roll out although nothing changes in how they behave.
        tag: By which the truth names it.
    """

    at: float
    author: str
    message: str
    edits: tuple[Edit, ...]
    does: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    restarts: tuple[str, ...] = ()
    after: float | None = None
    rollout: bool = True
    all_at_once: bool = False
    tag: str = ""

    def switches(self) -> list[Switch]:
        """Return its effects on the services."""
        low, high = ROLLOUT_SECONDS
        after = low + zlib.crc32(self.message.encode()) % (high - low) if self.after is None else self.after
        at = self.at * MINUTE + after
        made = [Switch(at, s, v, self.rollout, self.all_at_once) for s, v in self.does]
        return made + [Switch(at, s, {}, True, self.all_at_once) for s in self.restarts]


@dataclass(frozen=True)
class Event:
    """Something that happens without a commit."""

    at: float
    service: str
    values: Mapping[str, Any]
    ramp: float = 0.0  # minutes


@dataclass(frozen=True)
class Guilty:
    """A commit's key that is guilty."""

    tag: str
    path: str
    key: str | None
    service: str
    old: str | None = None
    new: str | None = None


@dataclass(frozen=True)
class Truth:
    """What really happened."""

    outcome: str  # diagnosed | inconclusive | healthy
    kind: str
    guilty: Guilty | None = None
    also: tuple[Guilty, ...] = ()
    service: str | None = None
    tags: tuple[str, ...] = ()
    remedies_refused: tuple[str, ...] = ()
    accepted_kinds: tuple[str, ...] = ()
    also_called: tuple[str, ...] = ()  # other names for the service at fault, where no commit is
    why: str = ""


@dataclass(frozen=True)
class Missing:
    """What the advisor does not get to see.

    Attributes:
        metrics: Beginnings of metric names that nobody exports or that are lost.
        gap: (from minute, to minute) without any sample.
        logs: No log is configured.
        changes: No configuration repository is configured.
        prometheus: Whether metrics are configured at all.
        history_from: Minute at which the repository's history begins (a fresh import), None: weeks before.
    """

    metrics: tuple[str, ...] = ()
    gap: tuple[float, float] | None = None
    logs: bool = False
    changes: bool = False
    prometheus: bool = False
    history_from: float | None = None


@dataclass(frozen=True)
class Scenario:
    """One case."""

    name: str
    playbook: str
    klass: str
    held_out: bool
    seed: int
    begin: str  # RFC 3339, the beginning of the window
    minutes: float
    step: float
    asked: str
    symptom: str
    noticed: float  # minute
    services: Mapping[str, ServiceSpec]  # callers before callees
    loads: Mapping[str, Load]
    truth: Truth
    commits: tuple[Commit, ...] = ()
    events: tuple[Event, ...] = ()
    noise: Noise = field(default_factory=Noise)
    missing: Missing = field(default_factory=Missing)
    folder: str = "apps"
    warm_up: float = 90.0  # minutes

    def course(self, load: Load, start_hour: float, rng: Any) -> Callable[[float], float]:
        """Return the load over seconds: a daily course, a slow walk, short bursts, and growth."""
        length = int((self.minutes + self.warm_up) * 60 / 300) + 3
        walk = np.zeros(length)
        for i in range(1, length):  # 300 s steps; forgets within half an hour
            walk[i] = walk[i - 1] * 0.85 + rng.normal(0, self.noise.wander * 0.53)
        hours = (self.minutes + self.warm_up) / 60
        bursts = [
            (
                float(rng.uniform(-self.warm_up * 60, self.minutes * 60)),
                float(rng.uniform(1.1, 1.35)),
                float(rng.uniform(30, 120)),
            )
            for _ in range(rng.poisson(self.noise.spikes * hours))
        ]

        def rate(now: float) -> float:
            hour = start_hour + now / 3600
            value = load.rate * (1 + self.noise.daily * math.cos((hour - load.peak_hour) / 24 * 2 * math.pi))
            place = (now + self.warm_up * 60) / 300
            index = min(max(int(place), 0), length - 2)
            value *= 1 + walk[index] + (walk[index + 1] - walk[index]) * (place - index)
            for at, factor, seconds in bursts:
                if at <= now < at + seconds:
                    value *= factor
            for at, factor, over in load.growth:
                part = min(1.0, max(0.0, (now / 60 - at) / max(over, 0.1)))
                value *= 1 + (factor - 1) * part
            return max(float(value), 0.0)

        return rate


# --- how configuration is written -----------------------------------------------------------------------------------------


def edit(path: str, old: str, new: str) -> Edit:
    """Return a replacement."""
    return Edit(path, old, new)


def deployment(
    name: str,
    image: str,
    *,
    env: Mapping[str, str] | None = None,
    replicas: int = 2,
    cpu: str = "1",
    memory: str = "512Mi",
    arguments: Sequence[str] = (),
    probe: str = "",
    namespace: str = "shop",
    strategy: str = "",
) -> str:
    """Return a Kubernetes manifest as people write it."""
    lines = [
        "apiVersion: apps/v1",
        "kind: Deployment",
        "metadata:",
        f"  name: {name}",
        f"  namespace: {namespace}",
        f"  labels: {{app: {name}}}",
    ]
    lines += ["spec:", f"  replicas: {replicas}"]
    lines += ["  strategy:", f"    type: {strategy}"] if strategy else []
    lines += [
        "  selector:",
        f"    matchLabels: {{app: {name}}}",
        "  template:",
        "    metadata:",
        f"      labels: {{app: {name}}}",
    ]
    lines += ["    spec:", "      containers:", f"      - name: {name}", f"        image: {image}"]
    if arguments:
        lines += ["        args:", *(f'        - "{a}"' for a in arguments)]
    if env:
        lines.append("        env:")
        for key, value in env.items():
            lines += [f"        - name: {key}", f'          value: "{value}"']
    lines += [
        "        ports:",
        "        - containerPort: 8080",
        "        resources:",
        "          requests:",
        "            cpu: 100m",
        "            memory: 128Mi",
    ]
    lines += ["          limits:", f"            cpu: {cpu}", f"            memory: {memory}"]
    lines += [f"        {line}" for line in probe.splitlines()]
    return "\n".join(lines) + "\n"


def spring(values: Mapping[str, Any], remark: str = "") -> str:
    """Return an ``application.yaml``."""
    head = f"# {remark}\n" if remark else ""
    return head + yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=False)


def properties(values: Mapping[str, Any], remark: str = "") -> str:
    """Return a properties file."""
    return (f"# {remark}\n" if remark else "") + "".join(f"{k}={v}\n" for k, v in values.items())


def dotenv(values: Mapping[str, Any], remark: str = "") -> str:
    """Return a ``.env`` file."""
    return (f"# {remark}\n" if remark else "") + "".join(f"{k}={v}\n" for k, v in values.items())


def json_text(values: Mapping[str, Any]) -> str:
    """Return a JSON file."""
    return json.dumps(values, indent=2) + "\n"


def toml(values: Mapping[str, Any]) -> str:
    """Return a TOML file of tables, one level deep."""
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in value.items())]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines).lstrip() + "\n"
