"""What else could have harmed the work: traffic, a limit too small, or a service that is called. Pure.

The counterpart of `circumstances` for slow answers, failures, pools, threads, queues and CPU.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.diagnosis import Cause
from advisor.diagnosis.candidate import LOAD_FLAT, LOAD_MOVED, PRIOR, Candidate, rolling_mean, together
from advisor.diagnosis.picture import WORDS, Picture, growth_of
from advisor.diagnosis.work import ERROR_LEVELS, Move, level_of
from advisor.diagnosis.worked import loud_texts
from advisor.evidence import LogAnswer
from advisor.evidence.aspects import Aspect
from advisor.evidence.log_templates import relevant_templates
from advisor.evidence.observations import instant_of
from advisor.evidence.shifts import CLEAR
from advisor.evidence.signals import Array, Signal
from advisor.evidence.topology import closest, plain_name
from advisor.values import CauseKind, format_instant, format_number, format_seconds

Chosen = npt.NDArray[np.bool_]

SERVED_BEFORE = -2.5  # what was served before without harm needs another reason now
SERVED_PART = 0.95
SERVED_APART = 1800.0  # seconds before the onset: what came just before it may have been its beginning
WELL_PART = 0.4  # of the way from before to after
FULL = 0.85  # of a limit: from here on waiting grows without bound (M/M/1 at 85 %: nearly seven times the service time)
_CALL_FAILS = re.compile(
    r"timed? ?out|timeout|refused|unreachable|reset by peer|unknown ?host|no such host|unavailable|50[234]|name or service not known"
    r"|connect|handshake|deadline exceeded|no route|broken pipe|circuit",
    re.I,
)


# Words with which a log says not only that a call failed but why, so that no change of ours is needed to explain it.
_SAYS_WHY = re.compile(
    r"certificate (?:has )?expired|x509|certificate.*(?:expired|not yet valid|unknown authority)|expired certificate|no such host"
    r"|unknown ?host|nxdomain|name or service not known|maintenance|quota exceeded",
    re.I,
)
_HOST_IN_TEXT = re.compile(
    r"(?:https?://|host=['\"]?|lookup |dial tcp:? (?!lookup)|connect(?:ing|ion)? to |resolve |to host |upstream[:=] ?['\"]?|for (?=[\w-]+\.[\w.-]+))"
    r"['\"]?([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)",
    re.I,
)


_STORE_NAME = re.compile(r"db|sql|postgres|pg|mongo|redis|cassandra|elastic|store|cache|influx|clickhouse", re.I)
_STORE_METRIC = re.compile(
    r"(?:^|_)(?:db|sql|jdbc|query|queries|pg|mysql|redis|mongo|hikaricp|lettuce)(?:_|$|\{)", re.I
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A service that is called, and what is known of its state.

    Attributes:
        known_as: Every name that metrics use for it.
        state: Its own picture in one word: ``troubled``, ``silent``, ``well`` or ``unknown``.
        said: What its trouble is.
        onset: When its trouble began.
        where: The term of its place in the call graph, in log-odds.
    """

    service: str
    known_as: frozenset[str]
    state: str
    said: str = ""
    onset: float | None = None
    where: tuple[float, str] | None = None


def judge_work_load(service: str, picture: Picture) -> Candidate:
    """Return the case for more traffic."""
    c = Candidate(CauseKind.LOAD, Cause(service=service), "more traffic than the service was sized for")
    c.add("prior", PRIOR[CauseKind.LOAD], "traffic grows now and then")
    c.next_check = "compare the request rate with the same hours of the days before"
    requests = picture.requests
    if requests is None:
        c.add("traffic", -1.5, "no request rate is measured, so growth of traffic is not shown")
        return c
    growth = picture.load_growth
    if picture.onset is not None:
        recent = recent_growth(picture, requests.signal.values)
        if recent is not None and growth is not None and recent < LOAD_FLAT < growth:
            earlier = served_before(picture, requests.signal.values)
            if earlier is not None:
                c.add("traffic", SERVED_BEFORE, _as_many_before(picture, earlier))
                return c
            c.add(
                "traffic",
                0.4,
                f"requests grew ×{format_number(growth)} over the hours before, and hardly as the trouble began",
            )
            return c
    if growth is None or picture.onset is None:
        c.add("traffic", -1.0, "the request rate is not measured on both sides of the onset")
        return c
    c.middle = Signal(requests.signal.key, requests.signal.names, requests.signal.values, requests.signal.series)
    c.middle_growth = growth
    alike = together(picture, requests.signal.values, float(picture.signals.times[0]))
    if growth >= LOAD_MOVED:
        late = _after_the_trouble(picture)
        earlier = served_before(picture, requests.signal.values)
        if earlier is not None and picture.resource != "throughput" and not late:
            c.add("traffic", SERVED_BEFORE, _as_many_before(picture, earlier))
            return c
        value = min(3.5, 1.5 + 2.0 * math.log2(growth) + (0.8 if alike > 0.6 else 0.0))
        if late:
            c.add("traffic", -1.5, f"requests grew ×{format_number(growth)}, but after the trouble had begun")
        elif picture.resource == "throughput":
            c.add("traffic", -2.0, "more comes in, not less")
        else:
            share = (
                0.7 if picture.resource == "errors" else 1.0
            )  # failures are asked for again: traffic may be the effect
            c.add(
                "traffic",
                value * share,
                f"requests grew ×{format_number(growth)}"
                + (f", together with {WORDS[picture.resource]} (rank correlation {alike:.2f})" if alike > 0.6 else ""),
            )
    elif growth <= LOAD_FLAT:
        c.add("traffic", -3.5, f"requests did not grow (×{format_number(growth)})")
    else:
        c.add("traffic", -1.0, f"requests grew a little (×{format_number(growth)})")
    return c


def recent_growth(picture: Picture, values: Array) -> float | None:
    """Return a signal's level since the onset by that of the hour before; None without samples on both sides."""
    onset, times, step = picture.onset, picture.signals.times, picture.signals.step
    if onset is None or picture.trouble_at is None:
        return None
    back = max(10 * step, min(3600.0, 0.15 * float(times[-1] - times[0])))
    before = values[(times >= onset.earliest - back) & (times < onset.earliest)]
    after = values[(times >= onset.at) & (times <= picture.trouble_at)]
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if before.size < 4 or after.size < 3 or float(np.median(before)) <= 0:
        return None
    return float(np.quantile(after, 0.75)) / float(np.median(before))


def served_before(picture: Picture, values: Array) -> float | None:
    """Return when as many requests came before for as long, and what is in trouble now was well; None if they never did.

    The same hour of the day before, most of the time: the daily swing grows traffic every morning, and harms nobody.
    """
    onset, times, step = picture.onset, picture.signals.times, picture.signals.step
    if onset is None or picture.trouble_at is None or picture.work is None or picture.work.shift is None:
        return None
    since = values[(times >= onset.at) & (times <= picture.trouble_at)]
    since = since[np.isfinite(since)]
    earlier = times < onset.earliest - max(SERVED_APART, 10 * step)
    width = int(min(max(10.0, (picture.trouble_at - onset.at) / step), max(10.0, 3600.0 / step)))
    if since.size < 3 or np.count_nonzero(earlier) < width:
        return None
    requests, trouble = (rolling_mean(v[earlier], width) for v in (values, picture.work.signal.values))
    shift = picture.work.shift
    way = shift.after - shift.before
    with np.errstate(invalid="ignore"):
        well = ~((trouble - shift.before) / way >= WELL_PART) if way else np.isfinite(trouble)
        enough = np.flatnonzero(well & (requests >= SERVED_PART * float(np.median(since))))
    if not enough.size:
        return None
    return float(times[earlier][int(enough[np.argmax(requests[enough])])])


def _as_many_before(picture: Picture, earlier: float) -> str:
    return f"as many requests came about {format_instant(instant_of(earlier))}, and {WORDS[picture.resource]} was well"


def _after_the_trouble(picture: Picture) -> bool:
    """Return whether traffic grew only after the trouble had begun, by every count of requests that grew."""
    began = [
        m.shift.earliest
        for m in picture.moves
        if m.signal.aspect is Aspect.REQUESTS
        and m.signal.scope == "inbound"
        and m.shift is not None
        and m.shift.score >= CLEAR
        and m.factor >= 1.2
    ]
    onset = picture.onset
    return bool(began and onset is not None and min(began) > onset.latest + max(120.0, 5 * picture.signals.step))


def judge_work_capacity(service: str, picture: Picture) -> Candidate:
    """Return the case for a limit that never fitted normal work, or that normal work grew into."""
    c = Candidate(
        CauseKind.CAPACITY,
        Cause(service=service),
        f"a limit is too small for normal work: {WORDS[picture.resource]}",
    )
    c.add("prior", PRIOR[CauseKind.CAPACITY], "limits are often set once and forgotten")
    c.next_check = "hold use against its limit over the last weeks"
    used = [
        m
        for m in picture.moves
        if m.signal.unit == "share"
        and m.signal.aspect in (Aspect.POOL, Aspect.WORKERS, Aspect.CPU, Aspect.DISK, Aspect.MEMORY)
    ]
    onset, times = picture.onset, picture.signals.times
    if not used or onset is None:
        c.add("level", -0.8, "use against a limit is not measured")
        return c
    before = {m.signal.key: _median(m, times < onset.at) for m in used}
    after = {m.signal.key: _median(m, times >= onset.at) for m in used}
    high = [m for m in used if before[m.signal.key] >= FULL * 0.8 and after[m.signal.key] >= FULL]
    full = [m for m in used if after[m.signal.key] >= FULL]
    if high and onset.kind != "level":
        c.add("level", 2.2, f"{high[0].name} stood at {before[high[0].signal.key]:.0%} of its limit before")
    elif high:
        c.add("level", 0.8, f"{high[0].name} stood at {before[high[0].signal.key]:.0%} of its limit before")
    elif full and onset.kind == "slope":
        c.add("level", 0.8, f"{full[0].name} grew slowly to {after[full[0].signal.key]:.0%} of its limit")
    else:
        c.add("level", -1.8, "nothing was near its limit before")
    return c


def _median(move: Move, chosen: Chosen) -> float:
    values = move.signal.values[chosen]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else 0.0


def judge_peer(peer: Peer, picture: Picture, logs: LogAnswer | None, peers: int) -> Candidate:
    """Return the case for a service that is called and became slow, failing or silent; ``peers`` are all that are called."""
    c = Candidate(
        CauseKind.DEPENDENCY,
        Cause(service=peer.service),
        f"{peer.service}, which is called, became slow or failed",
    )
    c.add("prior", PRIOR[CauseKind.DEPENDENCY], "dependencies fail now and then")
    c.next_check = f"look at {peer.service} itself: what changed there, and since when"
    _calls_to(c, peer, picture, peers, _named_share(peer, picture, logs) if logs is not None else 0.0)
    if peer.state == "troubled":
        lead = (
            picture.onset is None or peer.onset is None or peer.onset <= picture.onset.latest + 3 * picture.signals.step
        )
        c.add("its own state", 1.5 if lead else -0.5, f"{peer.service}: {peer.said}" + ("" if lead else ", but later"))
    elif peer.state == "silent":
        c.add("its own state", 1.5, f"{peer.service}: its metrics ended as the trouble began")
    elif peer.state == "well":
        c.add("its own state", -1.5, f"{peer.service} went on as before by its own metrics")
    if logs is not None:
        texts = [t for t in loud_texts(picture, logs) if _CALL_FAILS.search(t) or _SAYS_WHY.search(t)]
        named = next((t for t in texts if _names(peer, t)), None)
        if named is not None:
            sure = _SAYS_WHY.search(named) is not None
            c.add("log", 2.6 if sure else 1.6, f"the log names it: {named[:120]}")
    if peer.where is not None:
        c.add("where it shows", *peer.where)
    return c


def _calls_to(c: Candidate, peer: Peer, picture: Picture, peers: int, named: float) -> None:
    """Add how the calls to a peer went, as the caller measures them; else ``named``, the part of the error lines with its name."""
    calls = [
        m
        for m in picture.moves
        if m.signal.scope == "outbound"
        and m.signal.aspect in (Aspect.LATENCY, Aspect.ERRORS, Aspect.AVAILABILITY)
        and (not m.signal.peer or m.signal.peer in peer.known_as or closest(m.signal.peer, (peer.service,)))
    ]
    if not _STORE_NAME.search(peer.service):  # how long queries take says nothing of a service that is no store
        calls = [m for m in calls if m.signal.peer or not _STORE_METRIC.search(m.signal.key)]
    own = [m for m in calls if m.signal.peer] or calls
    if not own or picture.onset is None:
        said = f", but {named:.0%} of the new error lines name it" if named else ""
        c.add("calls to it", named - 0.4, f"calls to it are not measured{said}")
        return
    slack = 3 * picture.signals.step
    moved = [m for m in own if m.harmful and m.shift is not None and m.shift.earliest <= picture.onset.latest + slack]
    moved = [m for m in moved if m.shift is not None and m.shift.latest >= picture.onset.earliest - slack]
    if not moved:
        factors = [g for m in own if (g := growth_of(picture, m.signal.values)) is not None]
        most = max(factors, default=1.0)
        if most <= 1.3:
            c.add("calls to it", -2.0, f"calls took as long and failed as rarely as before ({own[0].name})")
        return
    best = max(moved, key=lambda m: (bool(m.signal.peer), abs(m.shift.score) if m.shift else 0.0, m.signal.key))
    c.middle = Signal(best.signal.key, best.signal.names, best.signal.values, best.signal.series)
    c.middle_growth = best.factor
    value = min(3.2, 1.5 + 0.5 * math.log2(max(1.0, best.factor)))
    accounted = _accounts_for(best, picture)
    if best.signal.aspect is Aspect.LATENCY and accounted is not None and accounted < 0.2:
        value = 0.2  # it became slower, by far too little to matter
    of_store = _STORE_METRIC.search(best.signal.key) is not None and _STORE_NAME.search(peer.service) is not None
    if not best.signal.peer and peers > 1 and not of_store:
        value *= 0.4  # all calls together became slow: which of them is not said
    shown = (
        f"{format_seconds(best.shift.before)} to {format_seconds(best.shift.after)}"
        if best.signal.aspect is Aspect.LATENCY and best.shift is not None
        else f"×{format_number(best.factor)}"
    )
    c.add("calls to it", value, f"{best.name} went from {shown} as the trouble began")


def _accounts_for(move: Move, picture: Picture) -> float | None:
    """Return which part of our own slowing down the calls' slowing down makes up; None where that cannot be said."""
    work = picture.work
    if work is None or work.signal.aspect is not Aspect.LATENCY or work.shift is None or move.shift is None:
        return None
    own = work.shift.after - work.shift.before
    return (move.shift.after - move.shift.before) / own if own > 0 else None


def _named_share(peer: Peer, picture: Picture, logs: LogAnswer) -> float:
    """Return in which part of the error lines that are new or more since the trouble began a peer is named."""
    if picture.trouble_at is None:
        return 0.0
    onset = picture.onset.at if picture.onset is not None else None
    known = {t.template: t for t in logs.templates}
    moves = [m for m in relevant_templates(logs, onset, picture.trouble_at) if m.kind in ("new", "more")]
    errors = [m for m in moves if m.template in known and level_of(known[m.template]) in ERROR_LEVELS]
    total = sum(m.count for m in errors)
    naming = sum(m.count for m in errors if _names(peer, f"{m.template} {known[m.template].sample}"))
    return naming / total if total else 0.0


def _names(peer: Peer, text: str) -> bool:
    lowered = text.lower()
    return any(
        re.search(rf"(?<![a-z0-9]){re.escape(n.lower())}(?![a-z0-9])", lowered) for n in peer.known_as if len(n) >= 3
    )


_ASKED_FOR = re.compile(r"spec|desired|target|min_replicas|max_replicas", re.I)
_STORES = {"pg": "postgres", "mysql": "mysql", "redis": "redis", "mongodb": "mongodb", "elasticsearch": "elasticsearch"}


def stores_in_metrics(picture: Picture) -> frozenset[str]:
    """Return the stores whose own exporter, beside the service's metrics, shows them in trouble."""
    return frozenset(
        _STORES[first]
        for m in picture.moves
        if m.harmful
        and m.signal.scope == "outbound"
        and not m.signal.peer
        and (first := m.signal.key.split("_")[0]) in _STORES
    )


# A host by its looks: at least three parts, lower case; packages and files look alike and are left out by their ends.
_HOST_BY_LOOKS = re.compile(r"(?<![\w./@-])((?:[a-z0-9][a-z0-9-]*\.){2,}[a-z]{2,12})(?![\w(/-]|\.\w)")
_PACKAGE = re.compile(
    r"^(?:com|org|net|io|java|javax|jakarta|sun|scala|kotlin|github|golang|dev|app)\.|\.(?:java|kt|py|go|js|ts|rb|php|cs|log|json|ya?ml|xml|sql|sh|html?)$"
)


def _hosts_in(text: str) -> list[str]:
    named = _HOST_IN_TEXT.findall(text)
    return [*named, *(h for h in _HOST_BY_LOOKS.findall(text) if not _PACKAGE.search(h))]


def peers_in_log(picture: Picture, logs: LogAnswer | None) -> frozenset[str]:
    """Return the plain names of hosts that new error lines name beside words of a failed call."""
    if logs is None:
        return frozenset()
    texts = [t for t in loud_texts(picture, logs) if _CALL_FAILS.search(t) or _SAYS_WHY.search(t)]
    return frozenset(name for t in texts[:20] for host in _hosts_in(t[:600]) if (name := plain_name(host)))


def judge_lost_replicas(service: str, picture: Picture) -> Candidate | None:
    """Return the case for replicas that went away although nobody asked for fewer; None where none went."""
    onset = picture.onset
    if onset is None:
        return None
    slack = 6 * picture.signals.step + 60.0
    counts = [m for m in picture.moves if m.signal.aspect is Aspect.REPLICAS and m.signal.scope == "own"]
    fallen = [
        m
        for m in counts
        if m.shift is not None
        and m.shift.score <= -CLEAR
        and m.factor <= 0.8
        and m.shift.kind == "level"
        and onset.earliest - slack <= m.shift.at <= onset.latest + slack
    ]
    lost = [m for m in fallen if not _ASKED_FOR.search(m.signal.key)]
    if not lost:
        return None
    c = Candidate(
        CauseKind.INFRASTRUCTURE, Cause(service=service), "replicas went away, and nobody had asked for fewer"
    )
    c.add("prior", -1.0, "nodes and pods are lost now and then")
    c.next_check = "which nodes did the lost replicas run on, and why are they not scheduled elsewhere"
    best = min(lost, key=lambda m: (m.factor, m.signal.key))
    if best.shift is not None:
        said = f"{best.name} went from {format_number(best.shift.before)} to {format_number(best.shift.after)} as the trouble began"
        c.add("replicas", 3.0, said)
    began = [t for t in picture.signals.restarts if onset.earliest - slack <= t <= onset.latest + slack]
    if began or any(m.signal.aspect is Aspect.RESTARTS and m.harmful for m in picture.moves):
        c.add("restarts", -2.0, "processes began anew: a rollout, or they end by themselves")
    if any(_ASKED_FOR.search(m.signal.key) for m in fallen):
        c.add("asked for", -3.5, "fewer were asked for at the same time")
    c.middle = Signal(best.signal.key, best.signal.names, best.signal.values, best.signal.series)
    return c


def judge_shared(service: str, troubled_alone: int, measured: int) -> Candidate | None:
    """Return the case for something that several services share: a node, a disk, a network; None with too few services.

    Args:
        service: The one asked about.
        troubled_alone: Services in trouble from about the same moment on, none of which calls another troubled one.
        measured: Services that are measured at all.
    """
    if measured < 3:
        return None
    c = Candidate(
        CauseKind.INFRASTRUCTURE, Cause(service=service), "something that several services share: node, disk or network"
    )
    c.add("prior", -1.0, "what is shared fails now and then")
    c.next_check = "which node, disk, zone or network do the troubled services share"
    if troubled_alone >= 3:
        c.add("together", 3.2, f"{troubled_alone} services that do not call one another fell ill at the same moment")
    elif troubled_alone == 2:
        c.add("together", 0.5, "two services that do not call one another fell ill at the same moment")
    else:
        c.add("together", -2.0, "no other service fell ill at the same moment without calling one that did")
    return c
