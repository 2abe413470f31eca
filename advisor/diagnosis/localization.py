"""Which service of a call graph is at fault, from the series of each, when the trouble was seen at one of them.

A careful engineer's steps, each a named term in log-odds: is this service abnormal by itself, against its own normal and its
own last minutes? Do the services that it calls account for that, second by second or error by error? Would its own part,
times how often it is called, account for what was seen? Did traffic grow, and whose callers sent it? Did a resource move that
traffic does not explain? Did it fall silent? Did it begin in time? Can it be reached from the symptom along calls at all?

Pure; it knows no vendor, no file and no clock. It does not say which change did it beyond `localize_changes`, and it does not
say that something is wrong: who calls it knows that. Called by the ranking of causes and by the benchmarks.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from advisor.diagnosis import Term
from advisor.diagnosis.call_graph import CallGraph, depths_below, spellings
from advisor.diagnosis.service_trouble import (
    ASPECTS,
    LATE_SAMPLES,
    SILENT,
    Array,
    Rows,
    ServiceSeries,
    Trouble,
    Window,
    find_window,
    measure,
    sampling_step,
)

__all__ = [
    "ASPECTS",
    "Array",
    "Blame",
    "ChangeBlame",
    "ServiceChange",
    "ServiceSeries",
    "Weights",
    "localize",
    "localize_changes",
    "probabilities",
]


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """A release or a changed configuration of one service."""

    name: str
    service: str
    at: float | None
    kind: str = "release"


@dataclass(frozen=True, slots=True)
class Blame:
    """How far one service is held responsible.

    Attributes:
        score: Sum of the terms, in natural log-odds against the other services.
        onset: Epoch seconds at which its own trouble began, None where it shows none.
    """

    service: str
    score: float
    terms: tuple[Term, ...]
    onset: float | None


@dataclass(frozen=True, slots=True)
class ChangeBlame:
    """How far one change is held responsible: its service's terms, and its timing."""

    change: ServiceChange
    score: float
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """What each kind of evidence counts. One where the evidence is a log-odds already; judgement elsewhere.

    A fit to generated and planted faults with one kind of fault left out in turn found nothing better for the kind left out, so
    the weights are not fitted. Resources count somewhat more, for unlike slowness they do not pass along calls.
    """

    own: float = 1.0
    size: float = 1.0
    resource: float = 1.3
    traffic: float = 1.0
    unreachable: float = 2.5
    address: float = 1.0
    onset: float = 1.0
    silence: float = 1.0


WEIGHTS = Weights()
CERTAIN = 12.0  # spreads
UNKNOWN_SHARE = 0.3  # what a service amounts to of the symptom where that cannot be told


def localize(
    times: Array,
    services: Sequence[ServiceSeries],
    calls: frozenset[tuple[str, str]],
    symptom_service: str,
    symptom_aspect: str | None = None,
    noticed_at: float | None = None,
    normal: tuple[float, float] | None = None,
    weights: Weights = WEIGHTS,
) -> tuple[Blame, ...]:
    """Return every service once, the most suspicious first.

    Args:
        times: Epoch seconds of the grid, rising; gaps are allowed (a normal window of another day).
        services: What is measured; a service without series is judged by its place alone.
        calls: Pairs of caller and callee; empty where no call graph is known.
        symptom_service: Where the trouble was seen.
        symptom_aspect: In which aspect; else the one that moved most.
        noticed_at: About when it was noticed; several samples too early or too late do no harm.
        normal: When all was well; else everything before it was noticed.
        weights: Only the benchmarks give others.
    """
    if not services:
        return ()
    services, times = _in_order(services, np.asarray(times, dtype=np.float64))
    graph = CallGraph.of([s.service for s in services], calls, symptom_service)
    rows = Rows.of(times, services)
    window = find_window(times, rows, graph.symptom, symptom_aspect, noticed_at, normal)
    troubles = measure(times, services, rows, window)
    return _judge(times, services, graph, troubles, window, symptom_aspect, weights)


def _in_order(services: Sequence[ServiceSeries], times: Array) -> tuple[list[ServiceSeries], Array]:
    """Return each service once, and all samples in the order of time without those that have none."""
    order = np.argsort(times, kind="stable")
    order = order[np.abs(times[order]) < 1e15]  # also leaves out what is not a number
    once = {s.service: s for s in services}.values()
    if order.size == times.size and np.array_equal(order, np.arange(times.size)):
        return list(once), times
    moved = [
        ServiceSeries(
            s.service,
            {a: tuple(np.asarray(v)[order] for v in vs if np.shape(v) == times.shape) for a, vs in s.series.items()},
        )
        for s in once
    ]
    return moved, times[order]


def probabilities(scores: Sequence[float]) -> tuple[float, ...]:
    """Return the softmax of scores."""
    if not scores:
        return ()
    values = np.asarray(scores, dtype=np.float64)
    shares = np.exp(values - values.max())
    return tuple(float(p) for p in shares / shares.sum())


def _evidence(spreads: float) -> float:
    """Return the log-odds that a move of so many spreads is trouble: even at 2, and slow to believe in hundreds.

    Metrics have tails like a Cauchy distribution rather than a bell, so the odds grow with the square only.
    """
    far = max(0.0, spreads)
    if far > CERTAIN:  # beyond doubt is beyond doubt; what is left says only which of two certain troubles is larger
        far = math.sqrt(CERTAIN * far)
    return math.log1p(far**2 / 4.0) - math.log(2.0)


def _judge(
    times: Array,
    services: Sequence[ServiceSeries],
    graph: CallGraph,
    troubles: list[Trouble],
    window: Window,
    symptom_aspect: str | None,
    weights: Weights,
) -> tuple[Blame, ...]:
    """Return the terms of every service, best first; ties go to the one deeper below the symptom, then by name."""
    share_of_calls = _calls_per_request(graph, troubles)
    weight = _times_called(graph, share_of_calls)
    depth = depths_below(graph)
    step = sampling_step(times)
    first = _first_onset(troubles)
    blames = []
    for i, name in enumerate(graph.names):
        terms = _Terms()
        _own_trouble(terms, i, graph, troubles, share_of_calls, weights)
        _size(terms, i, graph, troubles, weight, symptom_aspect, weights)
        _resources(terms, troubles[i], weights)
        _traffic(terms, i, graph, troubles, weights)
        _place(terms, i, graph, depth, weights)
        _timing(terms, troubles[i], first, step, weights)
        _silenced(terms, i, graph, troubles, weights)
        blames.append(Blame(name, sum(t.value for t in terms.found), tuple(terms.found), troubles[i].onset))
    order = sorted(range(len(blames)), key=lambda i: (-blames[i].score, -(depth[i] or 0), blames[i].service))
    return tuple(blames[i] for i in order)


@dataclass(slots=True)
class _Terms:
    found: list[Term] = field(default_factory=list)

    def add(self, name: str, value: float, why: str) -> None:
        """Add a term; nothing is added for next to nothing."""
        if abs(value) >= 0.005:
            self.found.append(Term(name=name, value=round(value, 3), why=why))


def _calls_per_request(graph: CallGraph, troubles: list[Trouble]) -> dict[tuple[int, int], float]:
    """Return how often a caller calls each of its callees per request, where requests tell; else once.

    A callee's requests are divided among its callers by the callers' own requests.
    """
    out = {}
    for i, below in enumerate(graph.callees):
        for c in below:
            mine, theirs = troubles[i].usual_rate, troubles[c].usual_rate
            if not mine or theirs is None or not math.isfinite(mine + theirs):
                out[i, c] = 1.0
                continue
            rates = [troubles[k].usual_rate for k in graph.callers[c]]
            all_callers = sum(r for r in rates if r and math.isfinite(r))
            out[i, c] = float(min(20.0, theirs / max(all_callers, 1e-9)))
    return out


def _times_called(graph: CallGraph, per_request: Mapping[tuple[int, int], float]) -> list[float]:
    """Return how often each service is called, along all ways, for one request at the symptom's service."""
    total = [0.0] * len(graph.names)
    if graph.symptom is None:
        return total
    wave = {graph.symptom: 1.0}
    for _ in range(min(len(graph.names), 12)):  # a chain of more calls than 12 adds nothing one could tell apart
        for i, v in wave.items():
            total[i] = min(50.0, total[i] + v)
        after: dict[int, float] = defaultdict(float)
        for i, v in wave.items():
            for c in graph.callees[i]:
                if c != graph.symptom:
                    after[c] += v * per_request[i, c]
        wave = {c: min(v, 50.0) for c, v in after.items() if v > 1e-4}
        if not wave:
            break
    return total


def _own_trouble(
    terms: _Terms,
    i: int,
    graph: CallGraph,
    troubles: list[Trouble],
    per_request: Mapping[tuple[int, int], float],
    weights: Weights,
) -> None:
    """Say how abnormal the service is, and which part of it the services below account for."""
    t = troubles[i]
    if not t.measured & {"latency", "errors"}:
        _unmeasured(terms, i, graph, troubles, per_request, weights, 0.0)
        return
    slow, failing = _evidence(t.latency), _evidence(t.errors)
    if failing > slow:
        text = f"failed requests rose by {t.share:.1%} of all, {t.errors:.1f} spreads from normal"
    else:
        text = f"latency ×{t.slower:.2f}, {t.latency:.1f} spreads from normal"
    terms.add("own trouble", weights.own * (max(slow, failing) + 0.3 * max(0.0, min(slow, failing))), text)
    left_slow, by_slow = _left(i, graph, troubles, per_request, "seconds")
    left_failing, by_failing = _left(i, graph, troubles, per_request, "share")
    rest_slow, rest_failing = _evidence(t.latency * left_slow), _evidence(t.errors * left_failing)
    less = (max(rest_slow, rest_failing) + 0.3 * max(0.0, min(rest_slow, rest_failing))) - (
        max(slow, failing) + 0.3 * max(0.0, min(slow, failing))
    )
    by, left = (by_failing, left_failing) if failing > slow else (by_slow, left_slow)
    if less < -0.005 and by is not None:
        terms.add(
            "passed on", weights.own * less, f"{graph.names[by]}, which it calls, accounts for {1 - left:.0%} of it"
        )
    if len(t.measured & {"latency", "errors"}) < 2:
        _unmeasured(terms, i, graph, troubles, per_request, weights, max(0.0, rest_slow, rest_failing))


def _unmeasured(
    terms: _Terms,
    i: int,
    graph: CallGraph,
    troubles: list[Trouble],
    per_request: Mapping[tuple[int, int], float],
    weights: Weights,
    own: float,
) -> None:
    """Give what nobody measures of a service its share of the unexplained trouble above it, always less than its caller has."""
    best, by, what = own, None, ""
    for kind, aspect in (("seconds", "latency"), ("share", "errors")):
        if aspect in troubles[i].measured:
            continue
        for c in graph.callers[i]:
            rest = getattr(troubles[c], aspect) * _left(c, graph, troubles, per_request, kind)[0]
            blind = sum(1 for b in graph.callees[c] if aspect not in troubles[b].measured)
            value = 0.7 * _evidence(rest) - math.log(1 + blind)
            if value > best:
                best, by, what = value, c, aspect
    if by is not None:
        word = "share of failed requests" if what == "errors" else what
        text = f"its {word} is not measured, and nothing else explains that of {graph.names[by]}, which calls it"
        terms.add("not measured", weights.own * (best - own), text)
    elif not troubles[i].measured & {"latency", "errors"}:
        terms.add("not measured", -0.5 * weights.own, "neither its latency nor its errors are measured")


def _left(
    i: int, graph: CallGraph, troubles: list[Trouble], per_request: Mapping[tuple[int, int], float], kind: str
) -> tuple[float, int | None]:
    """Return which part of a rise the services below do not account for, and the one that accounts for most."""
    rise: float = getattr(troubles[i], kind)
    left, best, by = 1.0, 0.0, None
    if rise <= 0:
        return 1.0, None
    more = _sends_more(i, graph, troubles)
    for c in graph.callees[i]:
        below = troubles[c]
        if more and below.requests > 3 and below.growth >= 1.2:
            continue  # what is slow below bears the traffic that came in here
        spreads = below.latency if kind == "seconds" else below.errors
        believed = _believed(spreads)
        part = believed * max(0.0, getattr(below, kind)) * per_request[i, c] / rise
        # Slow answers below become failures above when a caller stops waiting, and retries make failures slow.
        other = below.errors if kind == "seconds" else below.latency
        across = 0.5 if kind == "seconds" else 0.9 - 0.4 / max(1.0, below.slower)  # the slower, the surer a timeout
        part = max(part, across * _believed(other) * min(1.0, per_request[i, c]))
        silent = _unasked(c, graph, troubles)
        if silent >= SILENT:
            part = max(part, min(1.0, silent + 0.3))
        # One fault is likelier than two, and retries and fan-out multiply what comes from below: a part accounts for more than itself.
        part = max(part, min(0.6, 2.0 * part))
        left -= min(1.0, part)
        if part > best:
            best, by = part, c
    return max(0.0, left), by


def _believed(spreads: float) -> float:
    """Return the probability that a move of so many spreads is no chance."""
    return 1.0 / (1.0 + math.exp(-_evidence(spreads))) if spreads > 1 else 0.0


def _size(
    terms: _Terms,
    i: int,
    graph: CallGraph,
    troubles: list[Trouble],
    weight: Sequence[float],
    symptom_aspect: str | None,
    weights: Weights,
) -> None:
    """Say which part of the symptom's rise this service's rise amounts to, times how often it is called."""
    if graph.symptom is None or not graph.known or weight[i] <= 0 or _unasked(i, graph, troubles) >= SILENT:
        return
    seen, t = troubles[graph.symptom], troubles[i]
    wants = symptom_aspect if symptom_aspect != "availability" else "errors"
    kinds = [("latency", "seconds"), ("errors", "share")]
    seen_as = [(getattr(seen, a), a, k) for a, k in kinds if getattr(seen, k) > 0 and wants in (a, None)]
    if not seen_as:
        return
    spreads, aspect, kind = max(seen_as)
    share = weight[i] * max(0.0, getattr(t, kind)) / getattr(seen, kind)
    other = t.errors if aspect == "latency" else t.latency
    if aspect not in t.measured or share < UNKNOWN_SHARE * _believed(other):
        return  # it is in trouble of another kind, whose part of what was seen cannot be told
    # Of a symptom that its own series hardly show, parts are hardly known either.
    value = math.log(min(1.0, max(0.05, share)) / UNKNOWN_SHARE) * min(1.0, max(0.0, spreads) / 3.0)
    text = f"its rise, times {weight[i]:.2f} calls a request, is {share:.0%} of what was seen"
    terms.add("size", weights.size * value, text)


def _resources(terms: _Terms, t: Trouble, weights: Weights) -> None:
    name, spreads, ratio = t.resource
    if name:
        terms.add(
            "resource",
            weights.resource * max(0.0, _evidence(spreads)),
            f"{name} ×{ratio:.2f}, {spreads:.1f} spreads from normal beyond what traffic explains",
        )


def _traffic(terms: _Terms, i: int, graph: CallGraph, troubles: list[Trouble], weights: Weights) -> None:
    """Say whether traffic grew, and whether callers that are measured sent it."""
    t = troubles[i]
    for c in graph.callees[i]:
        if _from_nothing(troubles[c]) and t.growth < 1.5:
            share = 1.0 / len(graph.callers[c])
            terms.add(
                "new calls", weights.traffic * share, f"it began to call {graph.names[c]}, which it hardly did before"
            )
    if t.requests < 3 or t.growth < 1.2:
        return
    senders = _senders(i, graph, troubles)
    sent = _sent(senders)
    beyond = math.log(t.growth / sent) / math.log(t.growth) if sent < t.growth else 0.0
    if _from_nothing(t) and senders:
        terms.add("traffic", -weights.traffic, "it is called where it hardly was before: its callers changed, not it")
    elif beyond > 0.5:
        value = weights.traffic * max(0.0, _evidence(t.requests * beyond)) * 0.5
        terms.add("traffic", value, f"requests ×{t.growth:.2f}, and no caller that is measured sent that many more")
    elif max(t.latency, t.errors) > 2:
        value = 0.5 * max(0.0, _evidence(max(t.latency, t.errors)))
        text = f"requests ×{t.growth:.2f}, as its callers' did: it bears others' traffic"
        terms.add("traffic", -weights.traffic * value, text)


def _senders(i: int, graph: CallGraph, troubles: list[Trouble]) -> list[Trouble]:
    """Return the callers whose requests are measured; a client as others see it is the world outside, not a sender."""
    return [troubles[c] for c in graph.callers[i] if "requests" in troubles[c].measured and c not in graph.addresses]


def _sends_more(i: int, graph: CallGraph, troubles: list[Trouble]) -> bool:
    """Return whether traffic that no caller sent reaches the service, and through it those below."""
    t = troubles[i]
    if t.requests < 3 or t.growth < 1.2:
        return False
    return math.log(_sent(_senders(i, graph, troubles))) < 0.5 * math.log(t.growth)


def _sent(senders: Sequence[Trouble]) -> float:
    """Return by which factor the callers' own requests grew together, 1 where they did not."""
    now, usual = sum(s.rate or 0.0 for s in senders), sum(s.usual_rate or 0.0 for s in senders)
    return max(1.0, now / usual) if usual > 0 and math.isfinite(now / usual) else 1.0


def _from_nothing(t: Trouble) -> bool:
    """Return whether a service is called that was hardly ever called before."""
    return t.requests > 2 and t.rate is not None and t.usual_rate is not None and t.usual_rate <= 0.02 * t.rate


def _place(terms: _Terms, i: int, graph: CallGraph, depth: Sequence[int | None], weights: Weights) -> None:
    if graph.known and graph.symptom is not None and depth[i] is None:
        # Where no call of the symptom's service is known at all, the graph rather than the service may be what is missing.
        value = weights.unreachable if graph.callees[graph.symptom] else 0.4 * weights.unreachable
        terms.add("not reached", -value, "no call leads from the symptom to it")
    if i in graph.addresses:
        terms.add("address", -weights.address, "it is an address or a client as others see it, not a service")


def _first_onset(troubles: Sequence[Trouble]) -> float | None:
    known = sorted(t.onset for t in troubles if t.onset is not None)
    return known[0] if known else None


def _timing(terms: _Terms, t: Trouble, first: float | None, step: float, weights: Weights) -> None:
    if t.onset is None or first is None:
        return
    late = (t.onset - first) / step
    if late > 2:
        value = -weights.onset * min(1.5, 0.4 * math.log2(late / 2))
        terms.add("onset", value, f"its trouble began {t.onset - first:.0f} s after the first one's")


def _silenced(terms: _Terms, i: int, graph: CallGraph, troubles: list[Trouble], weights: Weights) -> None:
    """Say whether it fell silent though its callers went on: who is not called any more has nothing to report."""
    silent = _unasked(i, graph, troubles)
    if silent >= SILENT:
        text = f"{silent:.0%} of what it usually reports is missing, though its callers went on"
        terms.add("silence", weights.silence * (3.0 + 4.0 * silent), text)


def _unasked(i: int, graph: CallGraph, troubles: list[Trouble]) -> float:
    """Return which part of its series fell silent, 0 where fewer calls explain it."""
    silent = troubles[i].silent
    callers = [troubles[c] for c in graph.callers[i] if troubles[c].measured]
    if silent < SILENT or not callers:
        return silent
    went = [(c.usual_rate or 1.0, 1.0 - c.silent if c.silent >= SILENT else min(1.0, c.growth)) for c in callers]
    went_on = sum(r * g for r, g in went) / sum(r for r, _ in went)
    hurt = max(max(c.latency, c.errors) for c in callers)
    blind = not any(c.measured & {"latency", "errors"} for c in callers)
    return silent if went_on > 0.4 and (hurt > 2 or blind) else 0.0


def localize_changes(
    blames: Sequence[Blame], changes: Sequence[ServiceChange], noticed_at: float | None = None, step: float = 60.0
) -> tuple[ChangeBlame, ...]:
    """Return the changes, the most suspicious first: their services' terms, and each one's timing.

    Args:
        blames: What `localize` returned.
        changes: What was changed where and when.
        noticed_at: When the symptom was noticed, for services that show no onset of their own.
        step: Seconds between samples: nearer than this, timing cannot tell.
    """
    by_service = {b.service: b for b in blames}
    spelled = spellings(list(by_service), {c.service for c in changes})
    worst = min((b.score for b in blames), default=0.0)
    found = []
    for change in changes:
        blame = by_service.get(spelled.get(change.service, change.service))
        terms = blame.terms if blame else (Term(name="not measured", value=worst, why="its service is not known"),)
        timing = _change_timing(change, blame, noticed_at, step)
        terms = (*terms, timing) if timing else terms
        found.append(ChangeBlame(change, sum(t.value for t in terms), terms))
    return tuple(sorted(found, key=lambda c: (-c.score, -(c.change.at or 0.0), c.change.name)))


def _change_timing(change: ServiceChange, blame: Blame | None, noticed_at: float | None, step: float) -> Term | None:
    onset = blame.onset if blame is not None and blame.onset is not None else noticed_at
    if change.at is None or onset is None or not math.isfinite(onset - change.at):
        return None
    lead = (onset - change.at) / step
    if lead < -LATE_SAMPLES:
        return Term(name="timing", value=-4.0, why=f"it came {-lead * step:.0f} s after the trouble had begun")
    if lead < -1.5:
        return Term(
            name="timing", value=-1.0, why=f"it came {-lead * step:.0f} s after the trouble seems to have begun"
        )
    value = 0.5 - 0.5 * math.log1p(max(0.0, lead - 1.0) / 3.0)
    return Term(name="timing", value=round(max(-2.0, value), 3), why=f"it came {lead * step:.0f} s before the trouble")
