"""A small model of services that call each other: arrivals, workers, pools, caches, timeouts, retries, memory, disks, probes.

Each service is a chain of queues (processor, connection pool, calls, workers). A tick takes what the callers sent in the tick
before and gives throughput, waiting, failures and what the processes hold. It says what happens to a service whose settings
are such; it knows nothing of metrics, commits or causes. Called by `recording`.

Waiting below saturation follows Sakasegawa's approximation of M/M/c (1977); above it a fluid queue grows until patience ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

CALLER_PATIENCE_SECONDS = 10.0  # what a browser's or a mobile client's library waits for by default, roughly
BACKOFF_SECONDS = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)  # of the kubelet


@dataclass(frozen=True)
class Call:
    """How a service calls another.

    Attributes:
        per_request: Calls for each request.
        timeout: Seconds, of one attempt.
        retries: Further attempts after a failed one.
        fault: What is wrong with how it is called: ``refused``, ``unauthorized``, ``certificate``, ``unresolved``, or nothing.
        essential: Whether the request fails with the call.
        on_miss: Whether it is called only for what the cache does not hold.
        host: Under which address, where that is not what the exporters' options say.
    """

    per_request: float = 1.0
    timeout: float = 2.0
    retries: int = 0
    fault: str = ""
    essential: bool = True
    on_miss: bool = False
    host: str = ""


@dataclass(frozen=True)
class Params:
    """What a service is and how it is configured. Seconds, cores, MiB; per replica unless said otherwise."""

    kind: str = "server"  # server | consumer | backend
    replicas: int = 2
    base: float = 0.010  # time that is neither processor nor database nor call
    sigma: float = 0.5  # of the lognormal response time
    hang_share: float = 0.0  # share of requests that hang
    hang_seconds: float = 15.0
    cpu: float = 0.004  # processor seconds for a request
    cpu_idle: float = 0.03
    cpu_limit: float = 2.0
    workers: int = 0  # 0: no bound (goroutines, event loop)
    accept: int = 100
    pool: int = 0
    pool_timeout: float = 3.0
    queries: float = 0.0
    database: str = ""
    cache_limit: float = 0.0  # entries; 0: no cache
    cache_wanted: float = 1.0  # entries that are asked for again
    cache_best: float = 0.95
    cache_enabled: bool = True
    cache_shared: bool = False  # outside the process (Redis): outlives it
    miss_queries: float = 0.0
    calls: Mapping[str, Call] = field(default_factory=dict)
    rate_limit: float = 0.0  # requests a second; 0: none
    error_share: float = 0.0004
    fault: str = ""  # what fails inside, for the log: a bug of a release
    memory: float = 180.0
    memory_limit: float = 512.0
    entry_kib: float = 2.0
    leak_kib: float = 0.0  # for each request, never freed
    in_flight_kib: float = 64.0
    session_seconds: float = 0.0
    session_share: float = 0.2  # requests that begin a session
    session_kib: float = 16.0
    heap_limit: float = 0.0  # > 0: a JVM
    log_lines: float = 1.0  # for each request
    log_line_cpu: float = 0.00003
    log_line_bytes: float = 180.0
    disk_size: float = 0.0  # GiB; 0: not watched
    disk_used: float = 0.0
    disk_kept_hours: float = 24.0  # what is older is removed
    disk_bytes: float = 0.0  # stored for each request beside the log
    startup: float = 20.0
    probe_delay: float = 30.0
    probe_period: float = 10.0
    probe_timeout: float = 60.0  # above any wait: a probe that asks nothing of the workers
    probe_failures: int = 3
    probe_base: float = 0.02
    lost: int = 0  # replicas that find no node
    hpa_max: int = 0  # > 0: replicas follow the load up to here
    hpa_target: float = 0.6


def changed(params: Params, values: Mapping[str, Any]) -> Params:
    """Return the parameters with some set; ``calls.payments.timeout`` names a field of a call."""
    for name, value in values.items():
        parts = name.split(".")
        if parts[0] == "calls":
            call = replace(params.calls[parts[1]], **{parts[2]: value})
            params = replace(params, calls={**params.calls, parts[1]: call})
        else:
            params = replace(params, **{name: value})
    return params


@dataclass
class Replica:
    """One process: when it started, from when it serves, and the restarts of its container."""

    started: float
    ready_at: float
    generation: int = 0
    ended: float = math.inf
    restarts: list[tuple[float, str]] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)  # of the processes before those restarts
    kill_at: float = math.inf
    entries: float = 0.0
    leaked: float = 0.0
    sessions: float = 0.0
    garbage: float = 0.0


@dataclass
class Seen:
    """How a service looks to its callers after a tick."""

    mean: float = 0.01
    sigma: float = 0.5
    failing: float = 0.0
    hang_share: float = 0.0
    hang_seconds: float = 0.0

    def over(self, timeout: float) -> float:
        """Return the share of answers that take longer."""
        z = (math.log(timeout) - math.log(self.mean) + self.sigma**2 / 2) / self.sigma
        tail = 0.5 * math.erfc(z / math.sqrt(2))
        return (1 - self.hang_share) * tail + self.hang_share * (self.hang_seconds > timeout)

    def cut(self, timeout: float) -> float:
        """Return the mean time of an attempt that is given up after the timeout."""
        mu = math.log(self.mean) - self.sigma**2 / 2
        z = (math.log(timeout) - mu) / self.sigma
        below = self.mean * 0.5 * math.erfc(-(z - self.sigma) / math.sqrt(2))
        above = timeout * 0.5 * math.erfc(z / math.sqrt(2))
        return (1 - self.hang_share) * (below + above) + self.hang_share * min(self.hang_seconds, timeout)


@dataclass
class State:
    """What a service carries from tick to tick."""

    replicas: list[Replica]
    gone: list[Replica] = field(default_factory=list)
    queues: dict[str, float] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    sent: dict[str, float] = field(default_factory=dict)
    disk: float = 0.0
    desired: int = 0
    scaled_at: float = -1e9
    busy_share: float = 0.0


def steady_wait(rho: float, servers: float, hold: float) -> float:
    """Return the mean wait of M/M/c after Sakasegawa."""
    rho = min(rho, 0.97)
    return float(hold * rho ** (math.sqrt(2 * (servers + 1)) - 1) / (servers * (1 - rho)))


def stage(
    queue: float, offered: float, servers: float, hold: float, patience: float, dt: float
) -> tuple[float, float, float, float]:
    """Return (throughput, wait, queue, given up a second) of one queue after a tick."""
    capacity = servers / max(hold, 1e-6)
    standing = max(0.0, queue + (offered - capacity) * dt)
    given_up = 0.0
    if standing > patience * capacity:
        given_up = (standing - patience * capacity) / dt
        standing = patience * capacity
    through = min(capacity, offered + queue / dt)
    wait = standing / capacity + steady_wait(offered / capacity, servers, hold)
    return through, min(wait, patience), standing, min(given_up, offered)


def _probe_kills(params: Params, stretch: float, waiting: float, dt: float, rng: Any) -> bool:
    seen = Seen(params.probe_base * stretch + waiting, 0.6)
    missed = seen.over(params.probe_timeout)
    return bool(rng.random() < 1 - (1 - missed**params.probe_failures) ** (dt / params.probe_period))


def _restart(replica: Replica, params: Params, now: float, why: str, rng: Any) -> None:
    recent = sum(1 for at, _ in replica.restarts if now - at < 900)
    begin = now + BACKOFF_SECONDS[min(recent, len(BACKOFF_SECONDS) - 1)]
    replica.restarts.append((begin, why))
    replica.kills.append(now)
    _begin(replica, params, begin, rng)


def _begin(replica: Replica, params: Params, begin: float, rng: Any) -> None:
    took = params.startup * rng.uniform(0.9, 1.1)
    allowed = params.probe_delay + params.probe_period * (params.probe_failures - 1) + params.probe_timeout
    replica.kill_at = begin + allowed if took > allowed else math.inf
    replica.ready_at = begin + took
    replica.leaked = replica.sessions = replica.garbage = 0.0
    if not params.cache_shared:
        replica.entries = 0.0


def roll_out(state: State, params: Params, now: float, rng: Any, *, all_at_once: bool = False) -> None:
    """Replace every replica by a new process: one after the other, or all at once with the service away meanwhile."""
    generation = 1 + max((r.generation for r in (*state.replicas, *state.gone)), default=0)
    fresh = []
    for number, old in enumerate(state.replicas):
        begin = now if all_at_once else now + number * (params.startup * 0.5 + 4)
        old.ended = begin + (0 if all_at_once else params.startup)
        new = Replica(begin, begin, generation, entries=old.entries)
        _begin(new, params, begin, rng)
        fresh.append(new)
    state.gone += state.replicas
    state.replicas = fresh


def scale(state: State, params: Params, now: float, rng: Any) -> None:
    """Make as many replicas as are wanted."""
    wanted = (state.desired if params.hpa_max else params.replicas) - params.lost
    while len(state.replicas) > wanted:
        gone = state.replicas.pop()
        gone.ended = now
        state.gone.append(gone)
    while len(state.replicas) < wanted:
        first = state.replicas[0] if state.replicas else Replica(now, now)
        new = Replica(now, now, first.generation, entries=first.entries)
        _begin(new, params, now, rng)
        state.replicas.append(new)


def _autoscale(state: State, params: Params, now: float) -> None:
    wanted = math.ceil(len(state.replicas) * state.busy_share / params.hpa_target)
    wanted = max(params.replicas, min(params.hpa_max, wanted))
    # A cluster scales down five minutes late, so as not to flap.
    if wanted > state.desired or (wanted < state.desired and now - state.scaled_at > 300):
        state.desired, state.scaled_at = wanted, now
    state.desired = min(state.desired, params.hpa_max)


def tick(
    params: Params, state: State, offered: float, now: float, dt: float, others: Mapping[str, State], rng: Any
) -> dict[str, float]:
    """Advance one service by one tick and return what could be measured of it."""
    out: dict[str, float] = {"offered": offered}
    if params.hpa_max:
        _autoscale(state, params, now)
    scale(state, params, now, rng)
    for replica in state.replicas:
        if replica.kill_at <= now:
            _restart(replica, params, now, "liveness", rng)
    serving = [r for r in state.replicas if r.ready_at <= now]
    # While a rollout goes on, an old replica serves until its successor is ready.
    old = [r for r in state.gone if r.ended > now and r.started < now]
    ready = len(serving) + min(len(old), len(state.replicas) - len(serving))
    out["ready"], out["replicas"] = float(ready), float(len(state.replicas) + params.lost)
    if ready == 0:
        _nothing_serves(params, state, out, offered, dt)
        return out
    admitted = min(offered, params.rate_limit or math.inf)
    out["limited"] = offered - admitted
    working = serving or old
    miss = _cache(params, working, admitted, out)
    work = params.cpu + params.log_lines * params.log_line_cpu
    through, cpu_wait, out["late"] = _processor(params, state, admitted, work, ready, dt)
    used = min(1.0, admitted * work / (params.cpu_limit * ready))
    stretch = 1 / (1 - min(used, 0.97) ** 3)
    out["cpu"] = (min(admitted * work, params.cpu_limit * ready) + params.cpu_idle * ready) * rng.normal(1, 0.02)
    out["throttled"] = min(0.98, max(0.0, (used - 0.5) / 0.5)) ** 1.5
    through, stored = _database(params, state, through, miss, ready, dt, others, out)
    called, passing = _calls(params, state, through, miss, others, out)
    inside = (params.base + work * stretch + cpu_wait + stored + called) * rng.normal(1, 0.02)
    through, queued = _workers(params, state, through, inside, used, ready, dt, out)
    _outcome(params, state, through, passing, inside, queued, out)
    waiting = cpu_wait + out["pool_wait"] + queued
    out["sigma"] = params.sigma + (0.25 if waiting > 0.3 * (inside + queued) else 0.0)
    state.seen = Seen(
        max(inside if params.kind == "consumer" else inside + queued, 1e-4),
        out["sigma"],
        min(1.0, out["failed"] / max(offered, 1e-9)),
        params.hang_share,
        params.hang_seconds,
    )
    _memory(params, working, out, admitted, now, dt, rng)
    _disk(params, state, out, admitted, dt)
    if params.kind != "backend":
        behind = cpu_wait + (min(queued, 30.0) if params.kind == "server" else 0.0)
        for replica in serving:
            if _probe_kills(params, stretch, behind, dt, rng):
                _restart(replica, params, now, "liveness", rng)
    return out


def _cache(params: Params, working: list[Replica], admitted: float, out: dict[str, float]) -> float:
    """Return the share of requests that the cache does not answer."""
    out["entries"] = sum(r.entries for r in working) / max(len(working), 1)
    on = bool(params.cache_limit and params.cache_enabled)
    hit = params.cache_best * min(1.0, out["entries"] / params.cache_wanted) ** 0.4 if on else 0.0
    miss = (1 - hit) if params.cache_wanted > 1 else 0.0
    out["hits"], out["misses"] = admitted * hit, admitted * miss * on
    return miss


def _database(
    params: Params,
    state: State,
    through: float,
    miss: float,
    ready: int,
    dt: float,
    others: Mapping[str, State],
    out: dict[str, float],
) -> tuple[float, float]:
    """Return (throughput, seconds for a connection and the queries)."""
    out["pool_wait"] = out["pool_timeouts"] = 0.0
    if not params.queries and not params.miss_queries:
        return through, 0.0
    store = others[params.database].seen
    asked = params.queries + params.miss_queries * miss
    hold = asked * store.cut(30.0)
    if params.pool:
        through = _pool(params, state, through, hold, ready, dt, out)
    state.sent[params.database] = through * asked
    out["query_time"], out["queries"] = store.cut(30.0), through * asked
    return through, hold + out["pool_wait"]


def _pool(
    params: Params, state: State, through: float, hold: float, ready: int, dt: float, out: dict[str, float]
) -> float:
    """Return the throughput of the connection pool.

    Where workers are bounded, no more than they can wait here; if all of them are through before the pool's timeout, nobody
    is refused, and what does not fit waits for a worker.
    """
    size = params.pool * ready
    crowd = params.workers * hold / params.pool
    if params.workers and crowd < params.pool_timeout:
        rho = through * hold / size
        wait = min(steady_wait(rho, size, hold), crowd) if rho < 1 else max(0.0, crowd - hold)
        waiting = through * wait if rho < 1 else float(params.workers * ready - size)
    else:
        through, wait, waiting, out["pool_timeouts"] = stage(
            state.queues.get("pool", 0.0), through, size, hold, params.pool_timeout, dt
        )
        state.queues["pool"] = waiting
        waiting += wait * through * 0.5 if waiting == 0 else 0.0
    out["pool_active"], out["pool_pending"] = min(size, through * hold), max(0.0, waiting)
    out["pool_wait"] = wait
    return through


def _calls(
    params: Params, state: State, through: float, miss: float, others: Mapping[str, State], out: dict[str, float]
) -> tuple[float, float]:
    """Return (seconds in calls, share of requests whose essential calls succeed)."""
    called, passing = 0.0, 1.0
    for target, call in params.calls.items():
        seen, each = others[target].seen, call.per_request * (miss if call.on_miss else 1.0)
        took, failed, attempts = _call(call, seen)
        tried = through * each * attempts
        state.sent[target] = 0.0 if call.fault in ("refused", "unresolved", "certificate") else tried
        called += took * each
        if call.essential:
            passing *= (1 - failed) ** each
        out[f"call:{target}:rate"] = tried
        out[f"call:{target}:time"] = took / max(attempts, 1)
        out[f"call:{target}:failed"] = tried * _attempt_fails(call, seen)
        out[f"call:{target}:retried"] = through * each * (attempts - 1)
        out[f"call:{target}:timeouts"] = tried * seen.over(call.timeout) * (not call.fault)
    return called, passing


def _workers(
    params: Params,
    state: State,
    through: float,
    inside: float,
    used: float,
    ready: int,
    dt: float,
    out: dict[str, float],
) -> tuple[float, float]:
    """Return (throughput, seconds until a worker is free)."""
    hanging = through * params.hang_share * params.hang_seconds
    queued = out["overflow"] = out["waiting"] = out["backlog"] = out["backlog_age"] = 0.0
    state.busy_share = used
    if not params.workers:
        out["busy"] = through * inside + hanging
        return through, queued
    bound = params.workers * ready
    consumer = params.kind == "consumer"
    patience = 1e12 if consumer else max(0.05, params.accept * ready / max(bound / inside, 1e-6))
    through, queued, state.queues["workers"], out["overflow"] = stage(
        state.queues.get("workers", 0.0), through, bound, inside, patience, dt
    )
    refused = out["pool_timeouts"] * params.pool_timeout  # they hold a worker until they are told
    out["busy"] = min(bound, through * inside + hanging + refused)
    out["waiting"] = state.queues["workers"]
    if consumer:
        state.busy_share = max(used, out["busy"] / bound)
        out["backlog"], out["backlog_age"] = state.queues["workers"], queued
    return through, queued


def _outcome(
    params: Params,
    state: State,
    through: float,
    passing: float,
    inside: float,
    queued: float,
    out: dict[str, float],
) -> None:
    """Count what succeeded and what failed, and how long it took."""
    full = params.disk_size and state.disk >= params.disk_size * 0.995
    broken = min(1.0, params.error_share + (0.6 if full else 0.0))  # most requests write something
    out["call_failures"] = through * (1 - passing)
    out["bugs"] = through * passing * broken
    failed = out["bugs"] + out["call_failures"] + out["pool_timeouts"] + out["overflow"] + out["late"]
    out["failed"], out["done"] = min(failed, out["offered"]), through
    total = inside if params.kind == "consumer" else inside + queued
    out["time"] = total * (1 - params.hang_share) + params.hang_share * params.hang_seconds


def _processor(
    params: Params, state: State, admitted: float, work: float, servers: float, dt: float
) -> tuple[float, float, float]:
    """Return (throughput, wait, given up a second) of the processors.

    Where workers are bounded, no more requests than workers compete for them: the others wait for a worker, not here.
    """
    cores = params.cpu_limit * servers
    if params.workers:
        crowd = params.workers * work / params.cpu_limit
        rho = admitted * work / cores
        wait = steady_wait(rho, cores, work) if rho < 1 else crowd
        return admitted, max(0.0, min(wait, crowd) - (12 * work if rho >= 1 else 0.0)), 0.0
    through, wait, state.queues["cpu"], late = stage(
        state.queues.get("cpu", 0.0), admitted, cores, work, CALLER_PATIENCE_SECONDS, dt
    )
    return through, wait, late


def _nothing_serves(params: Params, state: State, out: dict[str, float], offered: float, dt: float) -> None:
    """Fill in a tick in which no replica serves."""
    consumer = params.kind == "consumer"
    out.update(
        failed=0.0 if consumer else offered, done=0.0, time=0.003, sigma=0.5, overflow=0.0 if consumer else offered
    )
    if consumer:
        state.queues["workers"] = state.queues.get("workers", 0.0) + offered * dt
        out.update(backlog=state.queues["workers"], backlog_age=state.queues["workers"] / max(offered, 1e-6))
    for name in state.sent:
        state.sent[name] = 0.0
    out["cpu"] = params.cpu_idle * len(state.replicas)
    out["rss"] = params.memory * 0.6
    out["disk"] = state.disk
    state.seen = Seen(0.003, 0.5, 0.0 if consumer else 1.0)


def _attempt_fails(call: Call, seen: Seen) -> float:
    return 1.0 if call.fault else min(1.0, seen.over(call.timeout) + seen.failing * (1 - seen.over(call.timeout)))


def _call(call: Call, seen: Seen) -> tuple[float, float, float]:
    """Return (seconds with all attempts, share that failed in the end, attempts)."""
    fails = _attempt_fails(call, seen)
    attempts = sum(fails**n for n in range(call.retries + 1))
    once = {"refused": 0.002, "unauthorized": seen.mean * 0.5, "certificate": 0.02, "unresolved": 0.03}.get(
        call.fault, seen.cut(call.timeout)
    )
    return once * attempts, fails ** (call.retries + 1), attempts


def _memory(
    params: Params, working: list[Replica], out: dict[str, float], admitted: float, now: float, dt: float, rng: Any
) -> None:
    """Let caches, sessions and leaks fill; kill what outgrows its limit."""
    each = admitted / max(len(working), 1)
    rss, live_all, heap_all, collections = [], [], [], 0.0
    for replica in working:
        room = params.cache_limit if params.cache_enabled else 0.0
        if room:
            # Fills with what is missed, and no further than its limit or what there is to be held.
            most = min(room, params.cache_wanted)
            replica.entries = min(
                most, replica.entries + each * dt * 0.8 * max(0.0, 1 - replica.entries / max(most, 1))
            )
        else:
            replica.entries = 0.0
        replica.leaked += each * dt * params.leak_kib / 1024
        if params.session_seconds:
            born = each * params.session_share
            replica.sessions += (born - replica.sessions / params.session_seconds) * dt
        held = replica.entries * params.entry_kib / 1024 + replica.leaked + replica.sessions * params.session_kib / 1024
        held += out.get("busy", 0.0) / max(len(working), 1) * params.in_flight_kib / 1024
        if params.heap_limit:
            live = params.memory * 0.45 + held
            replica.garbage += each * dt * 0.25 + 0.2
            room_left = params.heap_limit - live
            if replica.garbage > max(room_left * 0.6, 4.0):
                collections += max(1.0, (each * dt * 0.25) / max(room_left * 0.6, 1.0))
                replica.garbage = 0.0
            live_all.append(live)
            heap_all.append(min(params.heap_limit * 0.995, live + replica.garbage))
            rss.append(min(params.heap_limit, live + max(room_left, 0) * 0.6) + params.memory * 0.6)
            if live > params.heap_limit * 0.97:
                _restart(replica, params, now, "heap", rng)
        else:
            rss.append(params.memory + held + rng.normal(0, params.memory * 0.004))
            if rss[-1] > params.memory_limit:
                _restart(replica, params, now, "OOMKilled", rng)
    out["rss"] = float(np.mean(rss)) if rss else params.memory
    out["live"] = float(np.mean(live_all)) if live_all else 0.0
    out["heap"] = float(np.mean(heap_all)) if heap_all else 0.0
    out["collections"] = collections
    out["sessions"] = float(np.mean([r.sessions for r in working])) if working else 0.0


def _disk(params: Params, state: State, out: dict[str, float], admitted: float, dt: float) -> None:
    written = admitted * (params.log_lines * params.log_line_bytes + params.disk_bytes)
    out["log_lines"] = admitted * params.log_lines
    out["written"] = written
    if params.disk_size:
        # What was written in the time that is kept stays; with a steady load the disk holds rate x time kept.
        removed = max(0.0, state.disk - params.disk_used) / (params.disk_kept_hours * 3600) * dt
        state.disk = min(params.disk_size, max(params.disk_used, state.disk + written * dt / 2**30 - removed))
    out["disk"] = state.disk


@dataclass(frozen=True)
class Switch:
    """Something that changes how a service behaves from an instant on.

    Attributes:
        at: Seconds from the beginning.
        service: Whose parameters change.
        values: Fields of `Params`, dotted for calls.
        rollout: Whether new processes come with it.
        all_at_once: Whether the old processes go before the new ones come.
        ramp: Seconds over which numbers move from old to new.
    """

    at: float
    service: str
    values: Mapping[str, Any]
    rollout: bool = True
    all_at_once: bool = False
    ramp: float = 0.0


def _running(params: Params, since: float) -> list[Replica]:
    """Return replicas that were started one after the other long ago."""
    starts = [since + number * (params.startup * 0.5 + 4) for number in range(params.replicas)]
    return [Replica(at, at + params.startup) for at in starts]


@dataclass
class Trace:
    """What happened to one service: a column for each quantity, and its processes."""

    times: np.ndarray
    columns: dict[str, np.ndarray]
    replicas: list[Replica]
    params: list[Params]

    def get(self, name: str) -> np.ndarray:
        """Return a column, zeros where it was never measured."""
        return self.columns.get(name, np.zeros(len(self.times)))

    def param(self, name: str) -> np.ndarray:
        """Return a parameter over time."""
        return np.array([float(getattr(p, name)) for p in self.params])

    def targets(self) -> list[str]:
        """Return who is called."""
        return sorted({c.split(":")[1] for c in self.columns if c.startswith("call:")})


def simulate(
    services: Mapping[str, Params],
    loads: Mapping[str, Callable[[float], float]],
    switches: tuple[Switch, ...],
    seconds: float,
    step: float,
    rng: Any,
    *,
    warm_up: float,
) -> dict[str, Trace]:
    """Run all services from ``-warm_up`` to ``seconds`` and return what a sample each ``step`` shows.

    Args:
        services: Callers before callees.
        loads: Requests a second from outside, by service, over seconds.
        switches: In any order.
        seconds: Length of what is sampled.
        step: Between samples; inside, ticks are at most 30 s (60 s for samples of five minutes).
        rng: Seeded generator.
        warm_up: How long services run before, so that caches and sessions are as full as they get.
    """
    dt = min(step, 60.0 if step >= 300 else 30.0)
    per_sample = round(step / dt)
    current = dict(services)
    states = {
        n: State(
            _running(p, -float(rng.uniform(4, 11)) * 86400),
            disk=p.disk_used,
            desired=p.replicas,
            seen=Seen(max(p.base, 1e-4), p.sigma, 0.0, p.hang_share, p.hang_seconds),
        )
        for n, p in services.items()
    }
    for switch in sorted((s for s in switches if s.at < -warm_up), key=lambda s: s.at):
        current[switch.service] = changed(current[switch.service], switch.values)
        if switch.rollout:
            states[switch.service].replicas = _running(current[switch.service], switch.at)
    pending = sorted((s for s in switches if s.at >= -warm_up), key=lambda s: s.at)
    ramps: list[tuple[Switch, Params]] = []
    samples = round(seconds / step) + 1
    rows: dict[str, list[dict[str, float]]] = {n: [] for n in services}
    params: dict[str, list[Params]] = {n: [] for n in services}
    inside: dict[str, list[dict[str, float]]] = {n: [] for n in services}
    ticks = round(warm_up / dt)
    for number in range(-ticks, (samples - 1) * per_sample + 1):
        now = number * dt
        while pending and pending[0].at <= now:
            switch = pending.pop(0)
            if switch.ramp:
                ramps.append((switch, current[switch.service]))
            else:
                current[switch.service] = changed(current[switch.service], switch.values)
            if switch.rollout:
                roll_out(states[switch.service], current[switch.service], now, rng, all_at_once=switch.all_at_once)
        for switch, before in list(ramps):
            part = min(1.0, (now - switch.at) / switch.ramp)
            values = {k: getattr(before, k) + (v - getattr(before, k)) * part for k, v in switch.values.items()}
            current[switch.service] = changed(current[switch.service], values)
            if part >= 1:
                ramps.remove((switch, before))
        for name in services:
            offered = loads[name](now) if name in loads else 0.0
            offered += sum(s.sent.get(name, 0.0) for s in states.values())
            offered = float(rng.poisson(offered * dt)) / dt if offered * dt < 1e6 else offered
            inside[name].append(tick(current[name], states[name], offered, now, dt, states, rng))
        if number % per_sample == 0:
            for name in services:
                if number >= 0:
                    rows[name].append(_merged(inside[name]))
                    params[name].append(current[name])
                inside[name] = []
    times = np.arange(samples) * step
    return {n: _trace(times, rows[n], states[n], params[n]) for n in services}


# What is true at the instant of a scrape; all else is a mean since the scrape before.
_INSTANT = frozenset(
    "ready replicas entries pool_active pool_pending busy waiting backlog backlog_age rss live heap sessions disk".split()
)


def _merged(parts: list[dict[str, float]]) -> dict[str, float]:
    names = {n for p in parts for n in p}
    last = parts[-1]
    return {n: last.get(n, 0.0) if n in _INSTANT else float(np.mean([p.get(n, 0.0) for p in parts])) for n in names}


def _trace(times: np.ndarray, rows: list[dict[str, float]], state: State, params: list[Params]) -> Trace:
    names = sorted({n for r in rows for n in r})
    columns = {n: np.array([r.get(n, 0.0) for r in rows]) for n in names}
    return Trace(times, columns, sorted([*state.gone, *state.replicas], key=lambda r: r.started), params)
