"""The services around the one asked about: who calls whom, how each of them is, and where the trouble starts.

Symptoms show at the edge; their cause is often further in, and sometimes in a caller. Each neighbour gets a picture of its
own, and all of them together a share of the blame. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from advisor.diagnosis.localization import ServiceSeries, localize, probabilities
from advisor.diagnosis.picture import WORDS, Picture, draw_picture
from advisor.diagnosis.surroundings import Peer
from advisor.diagnosis.work import Move
from advisor.evidence import Gathered, Neighbour, Relation
from advisor.evidence.aspects import Aspect
from advisor.evidence.signals import Array
from advisor.evidence.topology import calls_in_configuration, closest, plain_name, read_calls
from advisor.incident import Incident
from advisor.values import format_number

Term = tuple[float, str]
Calls = frozenset[tuple[str, str]]

# The aspects that localisation knows, by ours.
_ASPECT = {
    Aspect.LATENCY: "latency",
    Aspect.ERRORS: "errors",
    Aspect.REQUESTS: "requests",
    Aspect.AVAILABILITY: "availability",
    Aspect.CPU: "cpu",
    Aspect.THROTTLING: "cpu",
    Aspect.MEMORY: "memory",
    Aspect.GC: "cpu",
    Aspect.QUEUE: "queue",
    Aspect.POOL: "pool",
    Aspect.WORKERS: "workers",
}
_NUMBERED = re.compile(r"db\d{1,3}")  # Redis numbers its databases; that is no service
_SEEN = (Aspect.LATENCY, Aspect.ERRORS, Aspect.REQUESTS)
WHERE_MIN, WHERE_MAX = -3.0, 2.5  # a place in a graph alone neither convicts nor acquits
UNSEEN_MIN = -1.0
SILENT_SECONDS = 120.0  # a scrape or two that came late is no silence
STALE_SECONDS = 300.0  # so long Prometheus goes on showing what a series said last
_SERIES_MAX = 6  # of one aspect of one service: more statistics of the same thing say nothing new


@dataclass(slots=True)
class Around:
    """What is known of the services around the one asked about.

    Attributes:
        pictures: Of each neighbour that is measured.
        called: Services that the one asked about reaches along calls.
        calling: Services that reach it.
        shown: Services whose latency or errors are measured: of the others, calm says little.
        silent: Services whose own metrics ended as the trouble began, though ours went on; and those that had ended before.
        shares: Service -> its share of the blame by where the trouble shows, and why; empty where nothing tells.
    """

    service: str
    calls: Calls = frozenset()
    pictures: dict[str, Picture] = field(default_factory=dict)
    neighbours: dict[str, Neighbour] = field(default_factory=dict)
    called: frozenset[str] = frozenset()
    calling: frozenset[str] = frozenset()
    shares: dict[str, Term] = field(default_factory=dict)
    aliases: dict[str, frozenset[str]] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()
    silent: dict[str, str] = field(default_factory=dict)

    def where(self, service: str) -> Term | None:
        """Return the term of a service's place: how much likelier it is than any of them by chance."""
        if service not in self.shares or len(self.shares) < 2:
            return None
        share, why = self.shares[service]
        least = WHERE_MIN if service in self.shown else UNSEEN_MIN
        value = max(least, min(WHERE_MAX, math.log(max(share, 1e-4) * len(self.shares))))
        return value, f"{why} ({share:.0%} of the blame among {len(self.shares)} services)"

    def state(self, service: str) -> str:
        """Return ``troubled``, ``silent``, ``well`` or ``unknown``."""
        picture = self.pictures.get(service)
        if picture is None or not picture.moves:
            return "unknown"
        return "troubled" if picture.trouble_at is not None else self.silent.get(service, "well")

    def peers(self, named: frozenset[str] = frozenset()) -> tuple[Peer, ...]:
        """Return what the service calls: directly, and further in where that is in trouble; at most 30.

        Args:
            named: What its log names besides.
        """
        direct = sorted(
            {b for a, b in self.calls if a == self.service and b != self.service} | (named - {self.service})
        )
        deeper = sorted(self.called - set(direct))
        names = [*direct, *(n for n in deeper if self.state(n) in ("troubled", "silent"))]
        return tuple(self._peer(name) for name in names[:30])

    def ill_alone(self, picture: Picture) -> int:
        """Return how many services fell ill at about the moment of ours, and call none that did."""
        slack = 4 * picture.signals.step + 60.0
        at = picture.onset.at if picture.onset is not None else picture.trouble_at
        if at is None:
            return 0
        ill = {self.service}
        for name, own in self.pictures.items():
            began = own.onset.at if own.onset is not None else own.trouble_at
            if began is not None and abs(began - at) <= slack:
                ill.add(name)
        return sum(not any(b in ill for a, b in self.calls if a == name and b != name) for name in ill)

    def _peer(self, name: str) -> Peer:
        picture = self.pictures.get(name)
        said, onset = "", None
        if picture is not None and picture.trouble_at is not None:
            said = describe_trouble(picture)
            onset = picture.onset.at if picture.onset else picture.trouble_at
        known_as = frozenset({name, *self.aliases.get(name, frozenset())})
        return Peer(name, known_as, self.state(name), said, onset, self.where(name))


def describe_trouble(picture: Picture) -> str:
    """Return what is wrong in a few words."""
    work = picture.work
    if work is None or work.shift is None:
        return f"{WORDS[picture.resource]} in trouble"
    return (
        f"{WORDS[picture.resource]} went from {format_number(work.shift.before)} to {format_number(work.shift.after)}"
    )


def look_around(incident: Incident, gathered: Gathered, picture: Picture) -> Around:
    """Return the services around the one asked about."""
    known = (incident.service, *(n.service for n in gathered.neighbours))
    around = Around(incident.service, neighbours={n.service: n for n in gathered.neighbours})
    around.calls = _all_calls(incident.service, gathered, known, around.aliases)
    around.called = _reach(incident.service, around.calls)
    around.calling = _reach(incident.service, frozenset((b, a) for a, b in around.calls))
    # When it began says more than when somebody noticed: half an hour later everything around has moved too.
    noticed = incident.noticed_at.timestamp() if incident.noticed_at is not None else None
    if picture.onset is not None:
        noticed = picture.onset.at
    for neighbour in gathered.neighbours:
        around.pictures[neighbour.service] = _picture_of(neighbour, incident, gathered, noticed)
        silence = _silence(around.pictures[neighbour.service], picture)
        if silence:
            around.silent[neighbour.service] = silence
    if not picture.of_memory:
        around.shares = _shares(incident.service, around, picture, noticed)
    return around


def _silence(theirs: Picture, ours: Picture) -> str:
    """Return ``silent`` where their metrics ended as our trouble began, ``unknown`` where before; else nothing."""
    onset, end, our_end = ours.onset, _last_sample(theirs), _last_sample(ours)
    if onset is None or end is None or our_end is None:
        return ""
    slack = max(SILENT_SECONDS, 5 * ours.signals.step)
    if end >= our_end - slack:
        return ""  # it goes on, or all monitoring ended
    if end < onset.earliest - slack:
        return "unknown"
    return "silent" if end <= onset.latest + STALE_SECONDS + slack else ""


def _last_sample(picture: Picture) -> float | None:
    """Return when anything was measured last."""
    times = picture.signals.times
    known = [int(np.flatnonzero(np.isfinite(m.signal.values))[-1]) for m in picture.moves]
    return float(times[max(known)]) if known else None


def _picture_of(neighbour: Neighbour, incident: Incident, gathered: Gathered, noticed: float | None) -> Picture:
    """Return a neighbour's own picture, asked about nothing in particular, at the time of the trouble."""
    at = datetime.fromtimestamp(round(noticed, 3), UTC) if noticed is not None else None
    own = incident.model_copy(
        update={"service": neighbour.service, "symptoms": (), "noticed_at": min(at, incident.until) if at else None}
    )
    evidence = gathered.model_copy(
        update={
            "metrics": neighbour.metrics,
            "metric_query": neighbour.metric_query,
            "changes": neighbour.changes,
            "logs": neighbour.logs,
            "neighbours": (),
        }
    )
    return draw_picture(own, evidence, neighbour=True)


def _all_calls(service: str, gathered: Gathered, known: tuple[str, ...], aliases: dict[str, frozenset[str]]) -> Calls:
    """Return who calls whom: as declared, as metrics say, and as configuration names hosts."""

    def named(text: str) -> str:
        name = closest(text, known)
        if name is not None:
            aliases[name] = aliases.get(name, frozenset()) | {text}
            return name
        plain = plain_name(text) or text
        aliases[plain] = aliases.get(plain, frozenset()) | {text}
        return plain

    found = set(gathered.declared_calls)
    everyone = [(service, gathered.metrics, gathered.changes)]
    everyone += [(n.service, n.metrics, n.changes) for n in gathered.neighbours]
    for name, metrics, changes in everyone:
        found |= {(named(a), named(b)) for a, b in read_calls(metrics, name)}
        if changes is not None:
            others = [k for k in known if k != name]
            found |= {(name, callee) for callee in calls_in_configuration(changes.configuration, others)}
    return frozenset((a, b) for a, b in found if a != b and not _NUMBERED.fullmatch(b))


def _reach(start: str, calls: Calls) -> frozenset[str]:
    following: dict[str, list[str]] = {}
    for a, b in calls:
        following.setdefault(a, []).append(b)
    found, waiting = {start}, [start]
    while waiting:
        for name in following.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return frozenset(found - {start})


def _shares(service: str, around: Around, picture: Picture, noticed: float | None) -> dict[str, Term]:
    """Return each service's share of the blame by where the trouble shows."""
    times = picture.signals.times
    series = {service: _series_of(picture, times)}
    for name, own in around.pictures.items():
        if own.moves:
            series[name] = _series_of(own, times)
    for name, seen in _seen_by_callers(around, picture, times).items():
        series.setdefault(name, seen)
    # By number: what a service is called (an address, a host) says nothing here about whether it is one.
    names = [name for name, one in sorted(series.items()) if one]
    if len(names) < 2 or times.size < 8 or service not in names:
        return {}
    around.shown = frozenset(name for name in names if {"latency", "errors"} & set(series[name]))
    alias = {name: f"service{number}" for number, name in enumerate(names)}
    measured = [ServiceSeries(alias[name], series[name]) for name in names]
    aspect = _ASPECT.get(picture.work.signal.aspect) if picture.work is not None else None
    connected = frozenset((alias[a], alias[b]) for a, b in around.calls if a in alias and b in alias)
    blames = localize(times, measured, connected, alias[service], aspect, noticed)
    shares = probabilities([b.score for b in blames])
    called = {number: name for name, number in alias.items()}
    out: dict[str, Term] = {}
    for blame, share in zip(blames, shares, strict=True):
        strongest = sorted(blame.terms, key=lambda t: -abs(t.value))[:2]
        why = "; ".join(t.why for t in strongest) or "nothing of its own stands out"
        out[called[blame.service]] = (share, _renamed(why, called))
    return out


def _renamed(text: str, called: Mapping[str, str]) -> str:
    return re.sub(r"service\d+", lambda found: called.get(found[0], found[0]), text)


def _series_of(picture: Picture, times: Array) -> dict[str, tuple[Array, ...]]:
    """Return a service's signals by aspect on another service's grid."""
    found: dict[str, list[Array]] = {}
    for move in _telling(picture.moves):
        aspect = _ASPECT.get(move.signal.aspect)
        if aspect is None or move.signal.scope == "outbound" or len(found.get(aspect, ())) >= _SERIES_MAX:
            continue
        values = move.signal.values
        found.setdefault(aspect, []).append(
            -values if move.signal.worse < 0 and aspect not in ("requests", "availability") else values
        )
    own = picture.signals
    return {aspect: tuple(_onto(times, own.times, own.step, v) for v in arrays) for aspect, arrays in found.items()}


def _telling(moves: tuple[Move, ...]) -> list[Move]:
    """Return the moves, those of all the work before those of a part: only averages of everything add up along calls."""
    return sorted(moves, key=lambda m: (m.signal.scope != "inbound", m.signal.key.count("="), m.signal.key))


def _onto(times: Array, own: Array, step: float, values: Array) -> Array:
    """Return values of one grid on another of the same step; NaN where there are none."""
    out = np.full(times.shape, np.nan)
    if own.size == 0 or times.size == 0:
        return out
    index = np.rint((own - times[0]) / step).astype(int)
    inside = (index >= 0) & (index < times.size)
    out[index[inside]] = values[inside]
    return out


def _seen_by_callers(around: Around, picture: Picture, times: Array) -> dict[str, dict[str, tuple[Array, ...]]]:
    """Return how services that measure nothing themselves look to their callers: latency, errors and calls."""
    found: dict[str, dict[str, tuple[Array, ...]]] = {}
    for caller in (picture, *around.pictures.values()):
        for move in caller.moves:
            aspect, peer = move.signal.aspect, move.signal.peer
            if move.signal.scope != "outbound" or aspect not in _SEEN or not peer:
                continue
            name = next((n for n, texts in around.aliases.items() if peer in texts), plain_name(peer))
            arrays = found.setdefault(name, {}) if name else {}
            arrays.setdefault(
                _ASPECT[aspect], (_onto(times, caller.signals.times, caller.signals.step, move.signal.values),)
            )
    return found


def relation_of(around: Around, service: str) -> Relation:
    """Return how a service is connected, by every call that is known."""
    if service in around.called:
        return Relation.CALLED
    return Relation.CALLING if service in around.calling else Relation.OTHER
