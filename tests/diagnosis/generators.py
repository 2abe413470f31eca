"""Synthetic incidents: a small model of a JVM service, a configuration history, and one known culprit, or none.

The model is kept as plain as the mechanism it shows: work arrives, sessions live for their lifetime, a cache fills to its
limit, garbage is collected, and what is live decides whether the heap holds. A process reads its configuration when it starts
(or at once, where a story says so), dies when a resource is exhausted, and is started again a few samples later.

Noise, the same in every story and drawn from the seed:
* traffic: 6 % of each sample, and a slow wave of 8 % over the window;
* what each sample holds: 1 % of the heap, on top of a sawtooth of young collections whose period varies with traffic;
* one scrape in 200 is missing; the metric names are Micrometer's or the JMX exporter's;
* two or three commits that have nothing to do with it, at random moments of the window or of the days before, and one commit
  outside the service's paths;
* a rollout follows its commit after one to four samples; all moments of a story shift by up to 2 % of the window.

The same story can be told at any resolution: times count in samples, and values in the configuration are scaled with them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from advisor.config_file import read_entries
from advisor.evidence import (
    ChangeAnswer,
    CommitChange,
    ConfigValue,
    FileChange,
    Gathered,
    LogAnswer,
    LogException,
    LogTemplate,
    Series,
)
from advisor.evidence.config_diff import diff_keys
from advisor.incident import Incident, open_incident
from advisor.values import CauseKind

T0 = 1_795_334_400.0  # 2026-11-22T08:00:00Z
MIB = 1024.0 * 1024
POINTS = 640
DOWN = 3  # samples between a death and the next start
APPLICATION, DEPLOYMENT, PAYMENTS = (
    "apps/checkout/application.yaml",
    "apps/checkout/deployment.yaml",
    "apps/payments/application.yaml",
)

# Lifetimes in samples; at 30 s a sample "10m" is twenty of them.
SESSION_SHORT, SESSION_LONG = 20, 960
AUDIT_SHORT, AUDIT_LONG = 15, 900


def duration(samples: int, step: float) -> str:
    """Return a number of samples as a configuration would write it."""
    seconds = round(samples * step)
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def application(step: float) -> str:
    """Return the service's application configuration."""
    return f"""server:
  port: 8080
  servlet:
    session:
      timeout: {duration(SESSION_SHORT, step)}   # idle baskets go
      cookie: {{secure: true}}
  tomcat:
    threads: {{max: 200}}
spring:
  datasource:
    hikari: {{maximum-pool-size: 10}}
cache:
  products: {{maximum-size: 500}}
audit:
  retention: {duration(AUDIT_SHORT, step)}
logging:
  level: {{root: INFO}}
cors:
  allowed-origins: "https://shop.example.org"
"""


_DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout}
spec:
  replicas: 1
  template:
    spec:
      containers:
      - name: checkout
        image: registry.example.org/shop/checkout:2.4.0
        env:
        - name: JAVA_OPTS
          value: "-Xmx512m -XX:MaxMetaspaceSize=160m -XX:MaxDirectMemorySize=96m"
        resources:
          limits: {memory: 1100Mi}
"""

# What has nothing to do with any of the stories: (path, old, new, subject).
_DECOYS = (
    (APPLICATION, "root: INFO", "root: DEBUG", "More logging for the basket bug"),
    (APPLICATION, "maximum-pool-size: 10", "maximum-pool-size: 12", "A few more connections"),
    (
        APPLICATION,
        "https://shop.example.org",
        "https://shop.example.org,https://m.example.org",
        "Allow the mobile site",
    ),
    (APPLICATION, "cookie: {secure: true}", "cookie: {secure: true, same-site: lax}", "Cookie attributes"),
)


@dataclass(frozen=True)
class Case:
    """One incident as the engine gets it, and what is true."""

    incident: Incident
    gathered: Gathered
    depends_on: tuple[str, ...] = ()
    kind: CauseKind = CauseKind.NONE
    commit: str | None = None
    key: str = ""


@dataclass
class Process:
    """What one process life holds; everything in bytes, or samples, or counts."""

    start: int
    config: dict[str, float]
    sessions: deque[tuple[int, float]] = field(default_factory=deque)  # (expires at sample, how many)
    events: deque[tuple[int, float]] = field(default_factory=deque)
    cache: float = 0.0
    leak: float = 0.0
    classes: float = 0.0
    backlog: float = 0.0
    garbage: float = 0.0
    threads: float = 60.0
    committed: float = 0.0
    held: float = 0.0
    held_events: float = 0.0


@dataclass
class World:
    """The service, its configuration history, and what a monitoring system saw of it."""

    seed: int
    step: float
    traffic: Callable[[float], float] = lambda _at: 1.0  # by the share of the window that has passed
    dependency_seconds: Callable[[float], float] = lambda _at: 0.04
    hide: tuple[str, ...] = ()  # metric names that are not exported
    end: float = 1.0  # of the window, at the latest
    deaths_max: int = 2
    decoys: bool = True
    config: dict[str, float] = field(
        default_factory=lambda: {
            "heap_max": 512 * MIB,
            "session": SESSION_SHORT,
            "session_bytes": 2.0 * MIB,  # of what a sample's new sessions hold
            "cache_limit": 500,
            "audit": AUDIT_SHORT,
            "leak": 0.0,
            "classes": 0.0,
            "base": 90 * MIB,
            "per_load": 0.0,
            "threads_max": 200,
            "threads_wanted": 60,
            "threads_limit": 900,
            "metaspace_max": 160 * MIB,
            "direct_max": 96 * MIB,
            "limit": 1100 * MIB,
        }
    )

    def __post_init__(self) -> None:
        """Start with the files as they are, and no history."""
        self.rng = np.random.default_rng(self.seed)
        self.shift = float(self.rng.uniform(-0.02, 0.02))
        self.files = {APPLICATION: application(self.step), DEPLOYMENT: _DEPLOYMENT, PAYMENTS: "server:\n  port: 8081\n"}
        self.edits: list[tuple[float, str, str, str, str, dict[str, float], bool, bool]] = []

    def edit(
        self,
        at: float,
        path: str,
        old: str,
        new: str,
        subject: str,
        effect: dict[str, float] | None = None,
        rollout: bool = True,
        hot: bool = False,
    ) -> str:
        """Plan a commit at a share of the window (below zero: before it) and return its id."""
        at = at + self.shift if at > 0 else at
        self.edits.append((at, path, old, new, subject, effect or {}, rollout, hot))
        return self._id(at, subject)

    def _id(self, at: float, subject: str) -> str:
        return hashlib.sha1(f"{self.seed} {at:.6f} {subject}".encode()).hexdigest()

    def instant(self, at: float) -> float:
        """Return the epoch seconds of a share of the window."""
        return T0 + at * (POINTS - 1) * self.step

    def add_decoys(self) -> None:
        """Add commits that have nothing to do with it; none is rolled out by itself."""
        chosen = self.rng.choice(len(_DECOYS), size=int(self.rng.integers(2, 4)), replace=False)
        for number in chosen:
            path, old, new, subject = _DECOYS[int(number)]
            at = float(self.rng.uniform(-3, -0.05) if self.rng.random() < 0.5 else self.rng.uniform(0.02, 0.9))
            if old in self.files[path]:
                self.edits.append((at, path, old, new, subject, {}, False, False))
        self.edits.append(
            (float(self.rng.uniform(0.05, 0.8)), PAYMENTS, "8081", "8082", "Payments on another port", {}, False, False)
        )

    # --- the service -----------------------------------------------------------------------------------------------

    def run(self) -> tuple[Gathered, str]:
        """Return what was gathered, and the message of the first error (or nothing)."""
        if self.decoys:
            self.add_decoys()
        self.edits.sort(key=lambda e: e[0])
        rollouts = {round(e[0] * (POINTS - 1)) + int(self.rng.integers(1, 5)) for e in self.edits if e[6] and e[0] > 0}
        samples: dict[str, list[tuple[float, float]]] = {}
        counters = {
            "requests": 1000.0,
            "gc": 1.0,
            "sessions_total": 500.0,
            "dependency_seconds": 4.0,
            "dependency_calls": 100.0,
        }
        errors: dict[str, list[float]] = {}
        kills: list[float] = []
        starts: list[float] = []
        process: Process | None = Process(-200, self._config(-1))
        assert process is not None
        for warm in range(-200, 0):
            self._live(process, warm, 1.0)
        back_at, ended = -1, POINTS
        for i in range(round(self.end * POINTS)):
            now = T0 + i * self.step
            if (i in rollouts and process is not None) or i == back_at:
                process = Process(i, self._config(i))
                starts.append(now)
                for name in counters:
                    counters[name] = 0.0
            if process is None:
                continue
            for e in self.edits:
                if e[7] and round(e[0] * (POINTS - 1)) <= i:
                    process.config |= e[5]
            share = i / POINTS
            load = (
                self.traffic(share)
                * (1 + 0.08 * np.sin(2 * np.pi * (share + self.seed / 7)))
                * float(1 + self.rng.normal(0, 0.06))
            )
            live = self._live(process, i, load)
            trouble = self._breathe(process, live, load, counters)
            self._count(process, load, share, counters)
            if self.rng.random() > 0.005:
                self._sample(samples, now, process, live, counters)
            if trouble:
                if trouble == "kill":
                    kills.append(now)
                else:
                    errors.setdefault(trouble, []).append(now)
                process, back_at = None, i + DOWN
                if len(kills) + sum(map(len, errors.values())) >= self.deaths_max:
                    ended = min(ended, i + DOWN + 20)
            if i >= ended:
                break
        end = T0 + min(ended, round(self.end * POINTS) - 1) * self.step
        gathered = Gathered(
            metrics=self._series(samples),
            metric_query='{job="checkout"}',
            metric_source="prometheus",
            step_seconds=self.step,
            start=datetime.fromtimestamp(T0, UTC),
            end=datetime.fromtimestamp(end, UTC),
            repository="config",
            changes=self._history(end),
            logs=self._logs(errors, kills, starts, end),
            log_source="logs",
        )
        first = min([*(times[0] for times in errors.values()), *kills[:1]], default=0.0)
        said = next((m for m, times in errors.items() if times[0] == first), "Killed" if kills else "")
        return gathered, said

    def _config(self, i: int) -> dict[str, float]:
        config = dict(self.config)
        for at, *_rest, effect, _rollout, _hot in self.edits:
            if at * (POINTS - 1) <= i:
                config |= effect
        return config

    def _live(self, p: Process, i: int, load: float) -> float:
        c = p.config
        arrived = max(0.0, load)
        p.sessions.append((i + int(c["session"]), arrived))
        p.events.append((i + int(c["audit"]), arrived))
        p.held += arrived
        p.held_events += arrived
        while p.sessions and p.sessions[0][0] <= i:
            p.held -= p.sessions.popleft()[1]
        while p.events and p.events[0][0] <= i:
            p.held_events -= p.events.popleft()[1]
        p.cache = min(c["cache_limit"], p.cache + 25 * arrived)
        p.leak += c["leak"] * arrived
        p.classes += c["classes"] * arrived
        age = i - p.start
        return (
            c["base"] * (1 - 0.4 * np.exp(-age / 6))
            + p.held * c["session_bytes"]
            + p.held_events * 0.25 * MIB
            + p.cache * 0.04 * MIB
            + p.leak
            + p.backlog * MIB
            + c["per_load"] * load
        )

    def _breathe(self, p: Process, live: float, load: float, counters: dict[str, float]) -> str:
        """Allocate, collect, and return what was exhausted."""
        c = p.config
        room = max(0.02 * c["heap_max"], 0.45 * (c["heap_max"] - live))
        p.garbage += 0.09 * 512 * MIB * max(0.1, load)
        if p.garbage > room:
            p.garbage = room * float(self.rng.uniform(0.02, 0.1))
            counters["gc"] += 0.01 * self.step
        fullness = live / c["heap_max"]
        counters["gc"] += self.step * min(0.7, max(0.0, fullness - 0.8) * 4)
        p.committed = max(p.committed, min(c["heap_max"], live + p.garbage))
        p.threads += (min(c["threads_max"], c["threads_wanted"]) - p.threads) * 0.04
        if live > 0.975 * c["heap_max"]:
            return "java.lang.OutOfMemoryError: Java heap space"
        if self._metaspace(p) > c["metaspace_max"]:
            return "java.lang.OutOfMemoryError: Metaspace"
        if p.threads > c["threads_limit"]:
            return "java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory or process/resource limits reached"
        if self._direct(load) > c["direct_max"]:
            return "java.lang.OutOfMemoryError: Cannot reserve 4194304 bytes of direct buffer memory"
        return "kill" if self._rss(p) > c["limit"] else ""

    def _metaspace(self, p: Process) -> float:
        return 85 * MIB + p.classes

    def _direct(self, load: float) -> float:
        return 40 * MIB * min(1.3, max(0.3, load))

    def _rss(self, p: Process) -> float:
        return p.committed + self._metaspace(p) + p.threads * MIB + 110 * MIB

    def _count(self, p: Process, load: float, share: float, counters: dict[str, float]) -> None:
        seconds = self.dependency_seconds(share + self.shift)
        calls = 40 * max(0.0, load) * self.step
        p.backlog = max(0.0, p.backlog + (1.6 if seconds > 0.2 else -4.0) * max(0.0, load))
        counters["requests"] += calls
        counters["sessions_total"] += 2 * max(0.0, load) * self.step
        counters["dependency_calls"] += calls / 2
        counters["dependency_seconds"] += calls / 2 * seconds * float(1 + self.rng.normal(0, 0.05))

    # --- what is seen ----------------------------------------------------------------------------------------------

    def _sample(
        self,
        samples: dict[str, list[tuple[float, float]]],
        now: float,
        p: Process,
        live: float,
        counters: dict[str, float],
    ) -> None:
        c = p.config
        used = min(c["heap_max"], max(0.0, live + p.garbage + float(self.rng.normal(0, 0.01)) * c["heap_max"]))
        jitter = float(1 + self.rng.normal(0, 0.01))
        seen = {
            "heap_used": used,
            "heap_max": c["heap_max"],
            "metaspace_used": self._metaspace(p) * jitter,
            "metaspace_max": c["metaspace_max"],
            "threads": round(p.threads + float(self.rng.normal(0, 1.5))),
            "direct_used": self._direct(1 + float(self.rng.normal(0, 0.05))),
            "direct_max": c["direct_max"],
            "rss": min(self._rss(p) * jitter, c["limit"]),
            "memory_limit": c["limit"],
            "start_time": T0 + p.start * self.step,
            "sessions": round(p.held * 30),
            "cache": round(p.cache),
            "audit": round(p.held_events * 12),
            "backlog": round(p.backlog * 8 + float(self.rng.integers(0, 3))),
            **counters,
        }
        for name, value in seen.items():
            samples.setdefault(name, []).append((now, float(value)))

    def _series(self, samples: dict[str, list[tuple[float, float]]]) -> tuple[Series, ...]:
        names = _MICROMETER if self.seed % 2 else _JMX_EXPORTER
        out = []
        for what, pairs in samples.items():
            name, labels = names[what]
            if what in self.hide:
                continue
            labels = {**labels, "instance": "10.0.0.7:8080", "job": "checkout"}
            out.append(
                Series(
                    name=name,
                    labels=tuple(sorted(labels.items())),
                    times=tuple(t for t, _ in pairs),
                    values=tuple(v for _, v in pairs),
                )
            )
        return tuple(sorted(out, key=lambda s: (s.name, s.labels)))

    def _history(self, end: float) -> ChangeAnswer:
        commits: list[CommitChange] = []
        files = dict(self.files)
        parent = "0" * 40
        for at, path, old, new, subject, *_ in self.edits:
            if self.instant(at) > end:
                continue
            before = files[path]
            assert old in before, f"{old!r} is not in {path}"
            files[path] = before.replace(old, new, 1)
            keys = diff_keys(before.encode(), files[path].encode(), path)
            inside = path != PAYMENTS
            when = datetime.fromtimestamp(round(self.instant(at), 3), UTC)
            commit = self._id(at, subject)
            commits.append(
                CommitChange(
                    commit=commit, parent=parent, author="alice <alice@example.org>", authored_at=when, effective_at=when, subject=subject,
                    in_scope=inside, files=(FileChange(path=path, status="modified", keys=keys if inside else ()),),
                )
            )  # fmt: skip
            parent = commit
        values = tuple(
            ConfigValue(path=path, key=e.key, value=str(e.value), document=e.document)
            for path in (APPLICATION, DEPLOYMENT)
            for e in read_entries(files[path].encode(), path).entries
        )
        head_at = commits[-1].effective_at if commits else datetime.fromtimestamp(T0, UTC) - timedelta(days=3)
        return ChangeAnswer(head=parent, head_at=head_at, commits=tuple(reversed(commits)), configuration=values)

    def _logs(self, errors: dict[str, list[float]], kills: list[float], starts: list[float], end: float) -> LogAnswer:
        def instant(t: float) -> datetime:
            return datetime.fromtimestamp(t, UTC)

        exceptions = tuple(
            LogException(
                type=text.split(": ", 1)[0], message=text.split(": ", 1)[1], root_type=text.split(": ", 1)[0], root_message=text.split(": ", 1)[1],
                frames=("java.util.Arrays.copyOf(Arrays.java:3745)", "org.example.shop.CheckoutApplication.handle(CheckoutApplication.java:88)"),
                count=len(times), at=tuple(instant(t) for t in times), source="logs/checkout.log:1",
            )
            for text, times in errors.items()
        )  # fmt: skip
        line = LogTemplate(
            template="GET <*> <num> in <num> ms",
            level="INFO",
            count=2000,
            first_at=instant(T0),
            last_at=instant(end),
            sample="GET /cart 200 in 12 ms",
        )
        return LogAnswer(
            lines=2000 + len(exceptions),
            templates=(line,),
            exceptions=exceptions,
            restarts=tuple(instant(t) for t in starts),
            kills=tuple((instant(t), "Memory cgroup out of memory: Killed process 1 (java)") for t in kills),
            first_at=instant(T0),
            last_at=instant(end),
        )

    def case(
        self,
        kind: CauseKind,
        commit: str | None = None,
        key: str = "",
        question: str | None = None,
        depends_on: tuple[str, ...] = (),
    ) -> Case:
        """Run the service and return the incident as it is handed to the engine."""
        gathered, said = self.run()
        incident = open_incident(
            "inc-1", "checkout", gathered.end, None, gathered.end, said if question is None else question
        )
        return Case(incident, gathered, depends_on, kind, commit, key)


_HEAP = {"area": "heap"}
_MICROMETER: dict[str, tuple[str, dict[str, str]]] = {
    "heap_used": ("jvm_memory_used_bytes", {**_HEAP, "id": "G1 Old Gen"}),
    "heap_max": ("jvm_memory_max_bytes", {**_HEAP, "id": "G1 Old Gen"}),
    "metaspace_used": ("jvm_memory_used_bytes", {"area": "nonheap", "id": "Metaspace"}),
    "metaspace_max": ("jvm_memory_max_bytes", {"area": "nonheap", "id": "Metaspace"}),
    "threads": ("jvm_threads_live_threads", {}),
    "direct_used": ("jvm_buffer_memory_used_bytes", {"id": "direct"}),
    "direct_max": ("jvm_direct_memory_max_bytes", {}),
    "rss": ("container_memory_working_set_bytes", {}),
    "memory_limit": ("container_spec_memory_limit_bytes", {}),
    "start_time": ("process_start_time_seconds", {}),
    "sessions": ("tomcat_sessions_active_current_sessions", {}),
    "cache": ("cache_size", {"cache": "products"}),
    "audit": ("audit_events_held", {}),
    "backlog": ("executor_queued_tasks", {"name": "payments"}),
    "requests": ("http_server_requests_seconds_count", {"status": "200"}),
    "gc": ("jvm_gc_pause_seconds_sum", {}),
    "dependency_seconds": ("http_client_requests_seconds_sum", {"client_name": "payments"}),
    "dependency_calls": ("http_client_requests_seconds_count", {"client_name": "payments"}),
}
_MICROMETER["sessions_total"] = ("tomcat_sessions_created_sessions_total", {})
_JMX_EXPORTER = {
    **_MICROMETER,
    "heap_used": ("jvm_memory_bytes_used", _HEAP),
    "heap_max": ("jvm_memory_bytes_max", _HEAP),
    "metaspace_used": ("jvm_memory_pool_bytes_used", {"pool": "Metaspace"}),
    "metaspace_max": ("jvm_memory_pool_bytes_max", {"pool": "Metaspace"}),
    "threads": ("jvm_threads_current", {}),
    "direct_used": ("jvm_buffer_pool_used_bytes", {"pool": "direct"}),
    "rss": ("process_resident_memory_bytes", {}),
    "requests": ("http_requests_total", {}),
    "gc": ("jvm_gc_collection_seconds_sum", {}),
    "sessions": ("checkout_sessions", {}),
}


# --- the stories -------------------------------------------------------------------------------------------------------

SESSION_KEY = "server.servlet.session.timeout"


def _extend_sessions(world: World, at: float, rollout: bool = True, hot: bool = False) -> str:
    return world.edit(
        at, APPLICATION, f"timeout: {duration(SESSION_SHORT, world.step)} ", f"timeout: {duration(SESSION_LONG, world.step)} ",
        "Keep baskets longer", {"session": SESSION_LONG}, rollout, hot,
    )  # fmt: skip


def _release(world: World, at: float, effect: dict[str, float], old: str = "2.4.0", new: str = "2.5.0") -> str:
    return world.edit(at, DEPLOYMENT, f"checkout:{old}", f"checkout:{new}", f"Release {new}", effect)


def session_timeout(seed: int, step: float) -> Case:
    """Sessions live 48 times as long and pile up like a leak."""
    world = World(seed, step)
    return world.case(CauseKind.CONFIG_CHANGE, _extend_sessions(world, 0.35), SESSION_KEY)


def hot_reload(seed: int, step: float) -> Case:
    """The same, read by the running process: nothing restarts between the commit and the error."""
    world = World(seed, step, decoys=False)
    commit = _extend_sessions(world, 0.35, rollout=False, hot=True)
    return world.case(CauseKind.CONFIG_CHANGE, commit, SESSION_KEY)


def cache_raised(seed: int, step: float) -> Case:
    """A cache may hold a hundred times as much, and takes it."""
    world = World(seed, step)
    commit = world.edit(
        0.4,
        APPLICATION,
        "maximum-size: 500",
        "maximum-size: 50000",
        "Fewer trips to the database",
        {"cache_limit": 50_000},
    )
    return world.case(CauseKind.CONFIG_CHANGE, commit, "cache.products.maximum-size")


def heap_lowered(seed: int, step: float) -> Case:
    """The heap shrinks below what the service has always needed."""
    world = World(seed, step)
    commit = world.edit(0.6, DEPLOYMENT, "-Xmx512m", "-Xmx144m", "Save memory", {"heap_max": 144 * MIB})
    return world.case(CauseKind.CONFIG_CHANGE, commit, "-Xmx")


def leak_by_release(seed: int, step: float) -> Case:
    """A new image loses memory with each request."""
    world = World(seed, step)
    return world.case(CauseKind.DEPLOY, _release(world, 0.4, {"leak": 2.2 * MIB}), "image")


def load_growth(seed: int, step: float) -> Case:
    """Traffic grows to five times; each request takes what it always took."""
    world = World(seed, step, traffic=lambda at: 1 + 4.5 * min(1.0, max(0.0, (at - 0.25) / 0.45)))
    world.config |= {"per_load": 50 * MIB}
    return world.case(CauseKind.LOAD)


def capacity(seed: int, step: float) -> Case:
    """The heap was never large enough for normal work; the daily wave is enough to tip it."""
    world = World(seed, step)
    world.files[DEPLOYMENT] = world.files[DEPLOYMENT].replace("-Xmx512m", "-Xmx168m")
    world.config |= {"heap_max": 168 * MIB}
    return world.case(CauseKind.CAPACITY)


def dependency(seed: int, step: float) -> Case:
    """Calls to another service take ten times as long, and work piles up while it waits."""
    world = World(seed, step, dependency_seconds=lambda at: 0.04 if at < 0.4 else 0.45)
    return world.case(CauseKind.DEPENDENCY, depends_on=("payments",))


def healthy(seed: int, step: float) -> Case:
    """A roomy heap, a regular sawtooth, two rollouts: nothing is wrong."""
    world = World(seed, step)
    world.edit(0.3, APPLICATION, "port: 8080", "port: 8090", "Another port")
    _release(world, 0.6, {})
    return world.case(CauseKind.NONE, question="is checkout running out of memory?")


def healthy_full_collections(seed: int, step: float) -> Case:
    """A collector that lets the heap fill to the brim and then empties it whole."""
    world = World(seed, step, decoys=False)
    gathered, _ = world.run()
    rng = np.random.default_rng(seed + 1000)
    metrics = []
    for s in gathered.metrics:
        if s.name in ("jvm_memory_used_bytes", "jvm_memory_bytes_used") and s.label("area") == "heap":
            period = int(rng.integers(50, 70))
            phase = (np.arange(len(s.times)) % period) / period
            values = (110 + 360 * phase + 25 * ((np.arange(len(s.times)) % 6) / 6)) * MIB + rng.normal(
                0, 2, len(s.times)
            ) * MIB
            s = s.model_copy(update={"values": tuple(float(v) for v in values)})
        metrics.append(s)
    gathered = gathered.model_copy(update={"metrics": tuple(metrics)})
    return Case(open_incident("inc-1", "checkout", gathered.end, None, gathered.end, "is the heap too full?"), gathered)


def two_commits_in_one_file(seed: int, step: float) -> Case:
    """Two commits of one file a minute apart, rolled out together; one of them is guilty."""
    world = World(seed, step)
    guilty = _extend_sessions(world, 0.4)
    world.edit(0.398, APPLICATION, "threads: {max: 200}", "threads: {max: 180}", "Fewer threads", rollout=False)
    return world.case(CauseKind.CONFIG_CHANGE, guilty, SESSION_KEY)


def red_herring(seed: int, step: float) -> Case:
    """The true change is hours old; another one came just before the error, and was not read by anything."""
    world = World(seed, step)
    world.config |= {"session_bytes": 1.0 * MIB, "base": 120 * MIB}
    guilty = _extend_sessions(world, 0.12)
    world.edit(
        0.66, APPLICATION, "threads: {max: 200}", "threads: {max: 250}", "More threads for the sale", rollout=False
    )
    return world.case(CauseKind.CONFIG_CHANGE, guilty, SESSION_KEY)


def change_after_onset(seed: int, step: float) -> Case:
    """A release leaks; the sessions were extended later, when the heap was half full already."""
    world = World(seed, step, decoys=False)
    guilty = _release(world, 0.25, {"leak": 1.4 * MIB})
    _extend_sessions(world, 0.45, rollout=False)
    return world.case(CauseKind.DEPLOY, guilty, "image")


def already_reverted(seed: int, step: float) -> Case:
    """Sessions were extended and taken back before a leaking release came."""
    world = World(seed, step, decoys=False)
    _extend_sessions(world, 0.1)
    world.edit(
        0.16,
        APPLICATION,
        f"timeout: {duration(SESSION_LONG, step)} ",
        f"timeout: {duration(SESSION_SHORT, step)} ",
        "Back to short sessions",
        {"session": SESSION_SHORT},
    )
    return world.case(CauseKind.DEPLOY, _release(world, 0.5, {"leak": 2.4 * MIB}), "image")


def slow_leak(seed: int, step: float) -> Case:
    """Audit events are kept for hours, read by the running process: a change of slope, and no error yet."""
    world = World(seed, step, decoys=False)
    world.config |= {"base": 60 * MIB}
    short, long = duration(AUDIT_SHORT, step), duration(AUDIT_LONG, step)
    commit = world.edit(
        0.3,
        APPLICATION,
        f"retention: {short}",
        f"retention: {long}",
        "Auditors want more",
        {"audit": AUDIT_LONG},
        rollout=False,
        hot=True,
    )
    world.config |= {"session_bytes": 1.5 * MIB}
    gathered, _ = _steeper(world).run()
    incident = open_incident("inc-1", "checkout", gathered.end, None, gathered.end, "the heap keeps growing")
    return Case(incident, gathered, (), CauseKind.CONFIG_CHANGE, commit, "audit.retention")


def _steeper(world: World) -> World:
    """Let each audit event weigh more, so that the slow leak reaches four fifths of the heap by the end."""
    plain = world._live
    world._live = lambda p, i, load: plain(p, i, load) + p.held_events * 0.55 * MIB  # type: ignore[method-assign]
    return world


def limit_lowered(seed: int, step: float) -> Case:
    """The container's limit comes down below what the process has always taken; the kernel kills it."""
    world = World(seed, step)
    commit = world.edit(
        0.5, DEPLOYMENT, "memory: 1100Mi", "memory: 512Mi", "Fit the smaller nodes", {"limit": 512 * MIB}
    )
    return world.case(CauseKind.CONFIG_CHANGE, commit, "limits.memory", question="exit code 137")


def heap_raised_under_a_limit(seed: int, step: float) -> Case:
    """The heap is raised and the container's limit is not; the kernel kills what grows into it."""
    world = World(seed, step)
    world.files[DEPLOYMENT] = world.files[DEPLOYMENT].replace("1100Mi", "800Mi")
    world.config |= {"limit": 800 * MIB}
    commit = world.edit(0.5, DEPLOYMENT, "-Xmx512m", "-Xmx1200m", "More heap for the sale", {"heap_max": 1200 * MIB})
    return world.case(CauseKind.CONFIG_CHANGE, commit, "-Xmx", question="exit code 137")


def metaspace_lowered(seed: int, step: float) -> Case:
    """Class metadata may take less than it always took."""
    world = World(seed, step)
    commit = world.edit(
        0.5, DEPLOYMENT, "MaxMetaspaceSize=160m", "MaxMetaspaceSize=80m", "Trim metaspace", {"metaspace_max": 80 * MIB}
    )
    return world.case(CauseKind.CONFIG_CHANGE, commit, "-XX:MaxMetaspaceSize")


def metaspace_leak(seed: int, step: float) -> Case:
    """A new image loads classes that are never unloaded."""
    world = World(seed, step)
    return world.case(CauseKind.DEPLOY, _release(world, 0.4, {"classes": 0.5 * MIB}), "image")


def threads_raised(seed: int, step: float) -> Case:
    """A pool may grow past what the operating system allows."""
    world = World(seed, step)
    world.config |= {"threads_wanted": 1500, "threads_limit": 420, "limit": 4000 * MIB}
    world.files[DEPLOYMENT] = world.files[DEPLOYMENT].replace("1100Mi", "4000Mi")
    commit = world.edit(
        0.5, APPLICATION, "threads: {max: 200}", "threads: {max: 2000}", "Serve more at once", {"threads_max": 2000}
    )
    return world.case(CauseKind.CONFIG_CHANGE, commit, "server.tomcat.threads.max")


def direct_lowered(seed: int, step: float) -> Case:
    """Direct buffers may take less than they always took."""
    world = World(seed, step)
    commit = world.edit(
        0.5, DEPLOYMENT, "MaxDirectMemorySize=96m", "MaxDirectMemorySize=36m", "Trim buffers", {"direct_max": 36 * MIB}
    )
    return world.case(CauseKind.CONFIG_CHANGE, commit, "-XX:MaxDirectMemorySize")


def load_jump(seed: int, step: float) -> Case:
    """Traffic is five times as high from one sample to the next, and the error follows soon."""
    world = World(seed, step, traffic=lambda at: 1.0 if at < 0.4 else 5.0)
    world.config |= {"per_load": 40 * MIB, "base": 70 * MIB, "session_bytes": 3.0 * MIB}
    return world.case(CauseKind.LOAD)


def load_and_a_small_change(seed: int, step: float) -> Case:
    """Traffic grows to five times, and sessions live a tenth longer."""
    world = World(seed, step, traffic=lambda at: 1 + 4.5 * min(1.0, max(0.0, (at - 0.25) / 0.45)))
    world.config |= {"per_load": 50 * MIB}
    old, new = duration(SESSION_SHORT, step), duration(SESSION_SHORT + 2, step)
    world.edit(
        0.26, APPLICATION, f"timeout: {old} ", f"timeout: {new} ", "A little longer", {"session": SESSION_SHORT + 2}
    )
    return world.case(CauseKind.LOAD)


def unknown_leak(seed: int, step: float) -> Case:
    """Memory is lost from a process start on that no commit explains: something outside the repository changed."""
    world = World(seed, step)
    world.edits.append((0.35, PAYMENTS, "port", "porte", "Elsewhere", {"leak": 2.2 * MIB}, True, False))
    return world.case(CauseKind.UNKNOWN)


def image_and_sessions_together(seed: int, step: float) -> Case:
    """A release and the longer sessions go out in one rollout; the release is innocent."""
    world = World(seed, step)
    guilty = _extend_sessions(world, 0.35)
    world.edit(0.349, DEPLOYMENT, "checkout:2.4.0", "checkout:2.4.1", "Release 2.4.1", rollout=False)
    return world.case(CauseKind.CONFIG_CHANGE, guilty, SESSION_KEY)


def sessions_shortened_beside_a_leak(seed: int, step: float) -> Case:
    """A release leaks; the sessions that were shortened in the same rollout hold less, not more."""
    world = World(seed, step)
    guilty = _release(world, 0.4, {"leak": 2.2 * MIB})
    old, new = duration(SESSION_SHORT, step), duration(SESSION_SHORT // 2, step)
    world.edit(
        0.395,
        APPLICATION,
        f"timeout: {old} ",
        f"timeout: {new} ",
        "Shorter",
        {"session": SESSION_SHORT // 2},
        rollout=False,
    )
    return world.case(CauseKind.DEPLOY, guilty, "image")


def restart_between(seed: int, step: float) -> Case:
    """A harmless rollout empties the heap once between the true change and the error."""
    world = World(seed, step)
    guilty = _extend_sessions(world, 0.2)
    world.edit(0.4, APPLICATION, "threads: {max: 200}", "threads: {max: 180}", "Fewer threads")
    return world.case(CauseKind.CONFIG_CHANGE, guilty, SESSION_KEY)


def before_the_window(seed: int, step: float) -> Case:
    """The change is older than the metrics; growth is seen from the first sample on."""
    world = World(seed, step)
    world.config |= {"session_bytes": 1.0 * MIB}
    return world.case(CauseKind.CONFIG_CHANGE, _extend_sessions(world, -0.05), SESSION_KEY)


def session_never_ends(seed: int, step: float) -> Case:
    """A lifetime of -1 means for ever."""
    world = World(seed, step)
    old = duration(SESSION_SHORT, step)
    commit = world.edit(0.35, APPLICATION, f"timeout: {old} ", "timeout: -1 ", "Never log out", {"session": 100_000})
    return world.case(CauseKind.CONFIG_CHANGE, commit, SESSION_KEY)


def session_limit_removed(seed: int, step: float) -> Case:
    """The key is taken out, and a long default takes over."""
    world = World(seed, step)
    line = f"      timeout: {duration(SESSION_SHORT, step)}   # idle baskets go\n"
    commit = world.edit(0.35, APPLICATION, line, "", "Use the default", {"session": SESSION_LONG})
    return world.case(CauseKind.CONFIG_CHANGE, commit, SESSION_KEY)


def percentage_lowered(seed: int, step: float) -> Case:
    """The heap is a share of the container, and the share came down."""
    world = World(seed, step, decoys=False)
    world.files[DEPLOYMENT] = world.files[DEPLOYMENT].replace("-Xmx512m", "-XX:MaxRAMPercentage=50.0")
    world.config |= {"heap_max": 550 * MIB}
    commit = world.edit(
        0.6, DEPLOYMENT, "MaxRAMPercentage=50.0", "MaxRAMPercentage=13.0", "Save memory", {"heap_max": 143 * MIB}
    )
    return world.case(CauseKind.CONFIG_CHANGE, commit, "MaxRAMPercentage")


def healthy_wave(seed: int, step: float) -> Case:
    """Traffic swings by four fifths over the day, and the heap has room for it."""
    world = World(seed, step, traffic=lambda at: 1 + 0.8 * float(np.sin(2 * np.pi * at)))
    return world.case(CauseKind.NONE, question="")


def healthy_longer_sessions(seed: int, step: float) -> Case:
    """Sessions live three times as long, and the heap has room for it."""
    world = World(seed, step)
    old, new = duration(SESSION_SHORT, step), duration(3 * SESSION_SHORT, step)
    world.edit(0.35, APPLICATION, f"timeout: {old} ", f"timeout: {new} ", "Longer", {"session": 3 * SESSION_SHORT})
    return world.case(CauseKind.NONE, question="")


def without(*hidden: str) -> Callable[[int, float], Case]:
    """Return the story of the sessions with some metrics not exported."""

    def story(seed: int, step: float) -> Case:
        world = World(seed, step, hide=hidden)
        return world.case(CauseKind.CONFIG_CHANGE, _extend_sessions(world, 0.35), SESSION_KEY)

    return story


STORIES: dict[str, Callable[[int, float], Case]] = {
    f.__name__: f
    for f in (
        session_timeout, hot_reload, cache_raised, heap_lowered, leak_by_release, load_growth, capacity, dependency, healthy,
        healthy_full_collections, two_commits_in_one_file, red_herring, change_after_onset, already_reverted, slow_leak, limit_lowered,
        heap_raised_under_a_limit, metaspace_lowered, metaspace_leak, threads_raised, direct_lowered, load_jump, load_and_a_small_change,
        unknown_leak, image_and_sessions_together, sessions_shortened_beside_a_leak, restart_between, before_the_window, session_never_ends,
        session_limit_removed, percentage_lowered, healthy_wave, healthy_longer_sessions,
    )
}  # fmt: skip
STORIES |= {
    "without_session_counts": without("sessions"),
    "without_start_times": without("start_time"),
    "without_traffic": without("requests", "sessions_total"),
    "without_heap_limit": without("heap_max"),
}
