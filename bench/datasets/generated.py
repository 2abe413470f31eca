"""Incidents made from a seed: services as queues that call one another, one fault, noise, gaps, and the truth.

The model is that of queueing, not that of the method under test: requests enter at gateways and multiply along calls; a
service is a processor-sharing queue whose time in service grows as 1 / (1 - utilisation); a caller waits for its callees one
after another or for the slowest; failures pass on with a share of their own; waiting ends in timeouts; retries add traffic.
What is observed are samples with counting noise, lognormal noise, gaps, missing series and missing calls, around which
innocent services have bad minutes of their own.

    from bench.datasets.generated import make_case; make_case(seed=7)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from advisor.diagnosis.localization import Array, ServiceChange, ServiceSeries
from bench.datasets.case import Case

FAULTS = ("latency", "errors", "cpu", "memory", "surge", "dead", "pool")
STEPS = (1.0, 15.0, 60.0, 300.0)
BEGIN = 1_790_000_000.0
WORDS = (
    "cart",
    "price",
    "stock",
    "users",
    "orders",
    "search",
    "mail",
    "ledger",
    "ads",
    "media",
    "geo",
    "rates",
    "auth",
    "feed",
)


@dataclass(slots=True)
class _Shop:
    """The services and how they call one another; a service's number is larger than its callers'."""

    names: list[str]
    calls: dict[tuple[int, int], float]  # calls per request
    parallel: list[bool]
    seconds: Array  # own time of one request on an idle service
    capacity: Array  # requests a second at full use
    passes_on: dict[tuple[int, int], float]  # share of a callee's failures that fails the caller
    entries: list[int]


@dataclass(slots=True)
class _State:
    """What the model drives: one row a service, one column a sample."""

    arrivals: Array
    own: Array
    stolen: Array
    failing: Array
    held: Array
    dead: Array
    extra: Array = field(default_factory=lambda: np.empty(0))


def make_case(seed: int, question: str = "service") -> Case:
    """Return one incident.

    Args:
        seed: Same seed, same incident.
        question: ``service`` (which service is at fault) or ``change`` (which of several changes about the same time).
    """
    for attempt in range(40):  # a fault that nobody would notice is no incident
        case = _try_case(np.random.default_rng([seed, len(question), attempt]), seed, question)
        if case is not None:
            return case
    raise RuntimeError(f"seed {seed} makes no incident that shows")


def _try_case(chance: np.random.Generator, seed: int, question: str) -> Case | None:
    shop = _make_shop(chance)
    step = float(chance.choice(STEPS))
    calm, bad, after = _lengths(chance, step)
    n = calm + bad + after
    times = BEGIN + step * np.arange(n)
    state = _calm_state(chance, shop, n, step)
    fault = str(chance.choice(FAULTS))
    guilty = _pick_guilty(chance, shop, fault)
    _break(chance, shop, state, guilty, fault, slice(calm, calm + bad))
    herrings = _herrings(chance, state, guilty, calm, bad)
    latency, errors, requests, usage = _run(shop, state, step)
    seen = _symptom(chance, shop, guilty, latency, errors, calm, bad)
    if seen is None:
        return None
    symptom, aspect = seen
    off = int(chance.integers(-5, 6)) if chance.random() < 0.6 else 0
    noticed = times[min(n - 1, max(0, calm + max(off, -calm // 4)))]
    changes = _changes(chance, shop, state, guilty, times, calm, step) if question == "change" else ()
    if question == "change":
        latency, errors, requests, usage = _run(shop, state, step)
    services = _observe(chance, shop, state, (latency, errors, requests, usage), step, seen)
    given = chance.random() < 0.5
    return Case(
        name=f"{question}-{seed}-{fault}-{step:g}s" + (f"-{len(herrings)}h" if herrings else ""),
        group=f"generated/{fault}",
        times=times,
        services=services,
        calls=_known_calls(chance, shop),
        symptom_service=shop.names[symptom],
        symptom_aspect=aspect if chance.random() < 0.8 else None,
        noticed_at=float(noticed),
        normal=(float(times[0]), float(times[max(4, calm - 8)])) if given else None,
        changes=changes,
        truth=frozenset({f"{shop.names[guilty]}@guilty"} if question == "change" else {shop.names[guilty]}),
    )


def _make_shop(chance: np.random.Generator) -> _Shop:
    count = int(chance.integers(8, 41))
    names = [
        f"{chance.choice(WORDS)}-{i}" + str(chance.choice(["", "-service", "_AWS::ECS::Fargate"])) for i in range(count)
    ]
    calls: dict[tuple[int, int], float] = {}
    entries = list(range(1 if count < 15 else 2))
    for i in range(len(entries), count):
        for caller in chance.choice(i, size=min(i, int(chance.choice([1, 1, 2, 3]))), replace=False):
            calls[int(caller), i] = float(chance.choice([0.1, 0.3, 0.6, 1.0, 1.0, 1.0, 2.0]))
    rate = np.zeros(count)
    rate[entries] = chance.uniform(5, 80)
    for i in range(count):
        rate[i] += sum(rate[a] * k for (a, b), k in calls.items() if b == i)
    return _Shop(
        names,
        calls,
        [bool(chance.random() < 0.4) for _ in range(count)],
        np.exp(chance.uniform(np.log(0.002), np.log(0.15), count)),
        rate / chance.uniform(0.15, 0.6, count),
        {edge: float(chance.uniform(0.3, 1.0)) for edge in calls},
        entries,
    )


def _lengths(chance: np.random.Generator, step: float) -> tuple[int, int, int]:
    if step >= 300:
        return int(chance.integers(60, 400)), int(chance.integers(3, 16)), int(chance.integers(0, 4))
    if step >= 60:
        return int(chance.integers(60, 300)), int(chance.integers(6, 40)), int(chance.integers(0, 10))
    return int(chance.integers(120, 600)), int(chance.integers(20, 200)), int(chance.integers(0, 30))


def _calm_state(chance: np.random.Generator, shop: _Shop, n: int, step: float) -> _State:
    count = len(shop.names)
    total = np.zeros((count, n))
    day = 1.0 + chance.uniform(0, 0.4) * np.sin(2 * np.pi * (np.arange(n) * step / 86_400.0 + chance.random()))
    own_rate = np.zeros(count)
    incoming = {i: sum(1 for (_, b) in shop.calls if b == i) for i in range(count)}
    for i in range(count):
        if i in shop.entries:
            own_rate[i] = 1.0
        elif incoming[i] and chance.random() < 0.1:
            own_rate[i] = 0.1  # a little traffic of its own, of a client that nobody traces
    base = chance.uniform(5, 80)
    for i in np.flatnonzero(own_rate):
        total[i] = base * own_rate[i] * day * np.exp(_wander(chance, n, chance.uniform(0.01, 0.06)))
    own = shop.seconds[:, None] * np.exp(
        np.vstack([_wander(chance, n, chance.uniform(0.01, 0.08)) for _ in range(count)])
    )
    failing = np.where(
        chance.random((count, 1)) < 0.5, 0.0, np.exp(chance.uniform(np.log(1e-4), np.log(8e-3), (count, 1)))
    )
    return _State(
        total,
        own,
        np.zeros((count, n)),
        np.broadcast_to(failing, (count, n)).copy(),
        np.cumsum(chance.normal(0, 0.002, (count, n)), axis=1) + chance.uniform(0.2, 0.6, (count, 1)),
        np.zeros((count, n), dtype=bool),
    )


def _wander(chance: np.random.Generator, n: int, size: float) -> Array:
    """Return noise with a memory of some samples."""
    keep = float(chance.uniform(0.2, 0.9))
    out = np.empty(n)
    value = 0.0
    shocks = chance.standard_t(4, n) * size * np.sqrt(1 - keep**2)
    for t in range(n):
        value = keep * value + shocks[t]
        out[t] = value
    return out


def _pick_guilty(chance: np.random.Generator, shop: _Shop, fault: str) -> int:
    called = {b for _, b in shop.calls}
    if fault == "dead":
        return int(chance.choice(sorted(called)))
    return int(chance.integers(0, len(shop.names)))


def _break(chance: np.random.Generator, shop: _Shop, state: _State, i: int, fault: str, when: slice) -> None:
    bad = when.stop - when.start
    shape = np.clip((np.arange(bad) + 1) / max(1.0, chance.choice([0.0, 0.0, 0.0, 0.3]) * bad), 0, 1)
    if fault == "latency":
        state.own[i, when] += shape * shop.seconds[i] * np.exp(chance.uniform(np.log(0.5), np.log(20)))
    elif fault == "errors":
        state.failing[i, when] += shape * np.exp(chance.uniform(np.log(0.01), np.log(0.5)))
    elif fault == "cpu":
        state.stolen[i, when] += shape * chance.uniform(0.3, 0.9)
    elif fault == "memory":
        ramp = np.linspace(0.1, 1, bad) * chance.uniform(0.2, 0.6)
        state.held[i, when] += ramp
        state.own[i, when] *= 1 + 3 * np.maximum(0, ramp - 0.1)
        state.stolen[i, when] += 0.5 * np.maximum(0, ramp - 0.1)
    elif fault == "surge":
        state.arrivals[i, when] += shape * shop.capacity[i] * chance.uniform(0.4, 1.0)
    elif fault == "dead":
        state.dead[i, when] = True
    else:
        state.extra = np.zeros_like(state.own)
        state.extra[i, when] = shape * chance.uniform(0.05, 1.5)  # seconds of waiting for a connection


def _herrings(chance: np.random.Generator, state: _State, guilty: int, calm: int, bad: int) -> list[int]:
    """Give a few innocent services a slow or busy minute of their own about the same time."""
    others = [i for i in range(state.own.shape[0]) if i != guilty]
    chosen = [int(i) for i in chance.choice(others, size=int(chance.integers(0, 3)), replace=False)]
    for i in chosen:
        begin = int(np.clip(calm + chance.integers(-bad, bad), 0, state.own.shape[1] - 2))
        part = slice(begin, begin + max(2, int(bad * chance.uniform(0.2, 1.0))))
        if chance.random() < 0.5:
            state.own[i, part] *= chance.uniform(1.1, 1.8)
        else:
            state.stolen[i, part] += chance.uniform(0.05, 0.25)
    return chosen


def _run(shop: _Shop, state: _State, step: float) -> tuple[Array, Array, Array, Array]:
    """Return latency, failed share, requests a second and utilisation of every service at every sample."""
    count, n = state.own.shape
    rate = state.arrivals.copy()
    errors = np.zeros((count, n))
    for _ in range(2):  # failures make retries, and retries make traffic: twice round is near enough
        rate = state.arrivals.copy()
        for i in range(count):
            for (a, b), k in shop.calls.items():
                if b == i:
                    alive = np.where(state.dead[a], 0.0, 1.0)
                    rate[i] += rate[a] * k * alive * (1 + 0.3 * errors[i])
        usage = np.clip(rate / (shop.capacity[:, None] * (1 - np.clip(state.stolen, 0, 0.95))), 0, 0.97)
        latency = state.own / (1 - usage)
        if state.extra.size:
            latency = latency + state.extra
        errors = np.clip(state.failing + np.clip((usage - 0.93) * 2.0, 0, 0.1), 0, 1)
        for i in range(count - 1, -1, -1):
            below = [(b, k) for (a, b), k in shop.calls.items() if a == i]
            if not below:
                continue
            waits = np.vstack([k * np.where(state.dead[b], 1.0, latency[b]) for b, k in below])
            latency[i] = latency[i] + (waits.max(axis=0) if shop.parallel[i] else waits.sum(axis=0))
            limit = 60 * shop.seconds[i] + 2.0
            slow = np.clip((latency[i] - limit) / limit, 0, 0.5)
            latency[i] = np.minimum(latency[i], 2 * limit)
            broken = slow + sum(
                np.where(state.dead[b], 1.0, errors[b]) * min(1.0, k) * shop.passes_on[i, b] for b, k in below
            )
            errors[i] = np.clip(errors[i] + broken, 0, 1)
    return latency, errors, rate, usage + np.clip(state.stolen, 0, 0.95) * (1 - usage)


def _symptom(
    chance: np.random.Generator, shop: _Shop, guilty: int, latency: Array, errors: Array, calm: int, bad: int
) -> tuple[int, str] | None:
    """Return where a person would see it: mostly the highest caller of the guilty one that shows it, and in what."""
    above = {guilty}
    for a, b in sorted(shop.calls, reverse=True):
        if b in above:
            above.add(a)
    during, before = slice(calm, calm + bad), slice(0, calm)

    def rises(i: int) -> tuple[float, float]:
        slower = float(latency[i, during].mean() / latency[i, before].mean() - 1)
        return slower, float(errors[i, during].mean() - errors[i, before].mean())

    shown = [i for i in sorted(above) if rises(i)[0] > 0.15 or rises(i)[1] > 0.02]
    if not shown:
        return None
    seen = shown[0] if chance.random() < 0.7 else int(chance.choice(shown))
    slower, failing = rises(seen)
    return seen, "errors" if failing > 0.02 and failing > 0.1 * slower else "latency"


def _observe(
    chance: np.random.Generator,
    shop: _Shop,
    state: _State,
    truth: tuple[Array, Array, Array, Array],
    step: float,
    seen: tuple[int, str],
) -> tuple[ServiceSeries, ...]:
    """Return what monitoring would have kept; the symptom itself is always measured, or nobody would have noticed."""
    latency, errors, rate, usage = truth
    noise = float(chance.uniform(0.02, 0.15))
    missing = float(chance.choice([0.0, 0.1, 0.2]))
    gaps = float(chance.choice([0.0, 0.02, 0.1]))
    percent, has_resources = bool(chance.random() < 0.3), bool(chance.random() < 0.7)
    services = []
    for i, name in enumerate(shop.names):
        mean_count = np.maximum(rate[i] * step, 0)
        counts = chance.poisson(np.minimum(mean_count, 1e9)).astype(float)
        some = np.maximum(counts, 1.0)
        tail = float(chance.uniform(0.3, 0.8))

        def blur(values: Array, some: Array = some) -> Array:
            return np.asarray(
                values * np.exp(chance.normal(0, 1, values.size) * np.hypot(noise * 0.3, noise / np.sqrt(some) * 3))
            )

        quiet = (counts == 0) | state.dead[i]
        p = {
            q: np.where(quiet, np.nan, blur(latency[i] * np.exp(tail * z)))
            for q, z in (("50", -0.3), ("95", 1.6), ("99", 2.3))
        }
        share = chance.binomial(counts.astype(int), np.clip(errors[i], 0, 1)) / some
        series: dict[str, tuple[Array, ...]] = {
            "latency": (np.where(quiet, np.nan, blur(latency[i])), p["50"], p["95"], p["99"]),
            "requests": (np.where(state.dead[i], 0.0, counts),),
        }
        failed = np.where(quiet, np.nan, share)
        series["availability" if percent else "errors"] = ((1 - failed) * 100 if percent else failed,)
        if has_resources:
            gone = state.dead[i]
            series["cpu"] = (np.where(gone, np.nan, usage[i] * np.exp(chance.normal(0, noise, counts.size))),)
            series["memory"] = (np.where(gone, np.nan, state.held[i] * 1e9),)
            waiting = usage[i] / (1 - np.minimum(usage[i], 0.97)) + (
                state.extra[i] * rate[i] if state.extra.size else 0.0
            )
            series["queue"] = (np.where(gone, np.nan, chance.poisson(np.clip(waiting, 0, 1e6)).astype(float)),)
        alarm = {"latency"} if seen[1] == "latency" else {"errors", "availability"}
        series = {a: v for a, v in series.items() if chance.random() >= missing or (i == seen[0] and a in alarm)}
        if gaps:
            holes = chance.random(counts.size) < gaps
            series = {a: tuple(np.where(holes, np.nan, x) for x in v) for a, v in series.items()}
        if chance.random() < 0.2 * missing and i != seen[0]:
            series = {}
        services.append(ServiceSeries(name, series))
    return tuple(services)


def _known_calls(chance: np.random.Generator, shop: _Shop) -> frozenset[tuple[str, str]]:
    lost = float(chance.choice([0.0, 0.0, 0.1]))
    return frozenset((shop.names[a], shop.names[b]) for a, b in sorted(shop.calls) if chance.random() >= lost)


def _changes(
    chance: np.random.Generator, shop: _Shop, state: _State, guilty: int, times: Array, calm: int, step: float
) -> tuple[ServiceChange, ...]:
    """Return the guilty change and several others about the same time; some of those leave a harmless trace."""
    kind = str(chance.choice(["release", "configuration"]))
    others = [i for i in range(len(shop.names)) if i != guilty]
    chosen = chance.choice(others, size=min(len(others), int(chance.integers(2, 12))), replace=False)
    onset = float(times[calm])
    near = max(5 * step, 300.0)
    changes = [
        ServiceChange(
            f"{shop.names[guilty]}@guilty", shop.names[guilty], onset - float(chance.uniform(0, 0.3)) * near, kind
        )
    ]
    for i in chosen:
        at = onset + float(chance.uniform(-1.5, 0.7)) * near
        changes.append(ServiceChange(f"{shop.names[i]}@other", shop.names[i], at, kind))
        begin = int(np.clip(np.searchsorted(times, at), 0, times.size - 1))
        if chance.random() < 0.4:
            state.own[i, begin : begin + max(1, int(20 / step))] *= chance.uniform(1.5, 3.0)  # a cold start
        if chance.random() < 0.4:
            state.stolen[i, begin:] += chance.uniform(0.0, 0.12)
    order = chance.permutation(len(changes))
    return tuple(changes[int(j)] for j in order)
