"""Who could have done it: candidate causes, each with a score that is a sum of named log-odds terms.

A term answers one question that a careful engineer asks, and says its reason in words. No term is decisive alone: a change
minutes before the trouble with no way to act on memory loses against one hours before whose mechanism is seen moving.

Pure. Called by the engine with the picture of what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from advisor.diagnosis.around import WHERE_MIN, Around, relation_of
from advisor.diagnosis.candidate import AFTER_ONSET, FLAT, LOAD_MOVED, Candidate, direction_of
from advisor.diagnosis.changed import judge_changes
from advisor.diagnosis.circumstances import judge_capacity, judge_dependency, judge_load, judge_unknown
from advisor.diagnosis.knobs import Knob, harm_to_called
from advisor.diagnosis.picture import Picture, growth_of
from advisor.diagnosis.surroundings import (
    judge_lost_replicas,
    judge_peer,
    judge_shared,
    judge_work_capacity,
    judge_work_load,
    peers_in_log,
    stores_in_metrics,
)
from advisor.evidence import Gathered, Relation
from advisor.evidence.aspects import Aspect
from advisor.evidence.topology import closest
from advisor.values import CauseKind, format_number

# Keys that decide how the service waits for what it calls: a slow dependency does not excuse a change of these.
_OF_CALLS = (
    "timeout",
    "retr",
    "endpoint",
    "circuit",
    "bulkhead",
    "hedg",
    "proxy",
    "pool",
    "connection",
    "tls",
    "credential",
)
_WAITING_FAMILIES = frozenset(
    "remote_timeout retries endpoints db_timeout proxy_timeout pool_acquire_timeout retry_backoff hedging circuit_breaker dns"
    " proxy_settings read_routing".split()
)
_OF_THE_PLACE = ("calls to it", "its own state", "log")
MULTIPLIES_FROM = 0.5  # strength of a mechanism that sends more to what is called
CALLS_MOVED, CALLS_FLAT = 1.3, 1.1
CHANGE_EXPLAINS = 2.0  # a change of the called service scores so much: then the service itself is not the last word


def find_candidates(
    service: str,
    picture: Picture,
    gathered: Gathered,
    knobs: tuple[Knob, ...],
    depends_on: tuple[str, ...],
    around: Around,
) -> list[Candidate]:
    """Return every candidate with its terms, best first."""
    changed = judge_changes(service, picture, gathered, knobs)
    unknown = judge_unknown(service, picture)
    if picture.of_memory:
        load, capacity = judge_load(service, picture), judge_capacity(service, picture)
        dependency = judge_dependency(service, picture, depends_on)
        beyond = _changes_behind_waiting(picture, gathered, knobs, around, dependency)
        candidates = [*changed, *beyond, load, capacity, dependency, unknown]
        _explain_away(picture, candidates)
    else:
        own = around.where(service)
        for c in (*changed, unknown):
            if own is not None:
                c.add("where it shows", *own)
        load, capacity = judge_work_load(service, picture), judge_work_capacity(service, picture)
        named = frozenset(closest(host, around.neighbours) or host for host in peers_in_log(picture, gathered.logs))
        if not around.called:
            named |= stores_in_metrics(picture)
        known = around.peers(named)
        peers = [judge_peer(peer, picture, gathered.logs, len(known)) for peer in known]
        for c in peers:
            if own is not None and own[0] > 0 and _has(c, "log", 1.0) and not _has(c, "where it shows", WHERE_MIN):
                c.add("where it shows", own[0], f"not measured: what it breaks shows in {service}, which names it")
        beyond = _changes_around(picture, gathered, knobs, around, changed, {p.cause.service: p for p in peers})
        measured = 1 + sum(bool(p.moves) for p in around.pictures.values())
        shared = judge_shared(service, around.ill_alone(picture), measured)
        others = [c for c in (shared, judge_lost_replicas(service, picture)) if c is not None]
        candidates = [*changed, *beyond, load, capacity, *peers, *others, unknown]
        _explain_away_work(candidates)
    return sorted(candidates, key=lambda c: (-c.score, c.cause.commit or "~", c.cause.path or "", c.cause.key or ""))


def _changes_behind_waiting(
    picture: Picture, gathered: Gathered, knobs: tuple[Knob, ...], around: Around, dependency: Candidate
) -> list[Candidate]:
    """Return changes of called services that are in trouble, where work piles up in memory because calls became slow."""
    if not any(t.name == "dependency latency" and t.value >= 2.5 for t in dependency.terms):
        return []
    out: list[Candidate] = []
    for name in sorted(around.called & set(around.neighbours)):
        own, neighbour = around.pictures[name], around.neighbours[name]
        if own.trouble_at is None or neighbour.changes is None:
            continue
        evidence = gathered.model_copy(update={"changes": neighbour.changes, "logs": neighbour.logs})
        for c in judge_changes(name, own, evidence, knobs):
            c.add("through waiting", -0.5, f"it acts on {name}; memory fills with what waits for it")
            out.append(c)
    return out


def _changes_around(
    picture: Picture,
    gathered: Gathered,
    knobs: tuple[Knob, ...],
    around: Around,
    own: list[Candidate],
    peers: Mapping[str, Candidate],
) -> list[Candidate]:
    """Return the changes of other services, each held against the trouble that it could have caused."""
    known = {(c.cause.commit, c.cause.path, c.cause.key) for c in own}
    out: list[Candidate] = []
    for name, neighbour in sorted(around.neighbours.items()):
        if neighbour.changes is None:
            continue
        relation = relation_of(around, name)
        theirs = around.pictures[name]
        troubled = theirs.trouble_at is not None and _not_later(theirs, picture)
        calling = relation is Relation.CALLING
        held_against = theirs if troubled and not calling else _with_starts_of(theirs, picture)
        evidence = gathered.model_copy(
            update={
                "changes": neighbour.changes,
                "logs": gathered.logs if held_against is not theirs else neighbour.logs,
            }
        )
        where = around.where(name)
        for c in judge_changes(name, held_against, evidence, knobs, called=calling):
            if (c.cause.commit, c.cause.path, c.cause.key) in known:
                continue
            _place(c, name, relation, around, picture)
            if where is not None and not calling:
                c.add("where it shows", *where)
            for term in peers[name].terms if name in peers and relation is Relation.CALLED else ():
                if term.name in _OF_THE_PLACE and not (
                    term.name == "log" and _has(c, "log", 0.1)
                ):  # what speaks for the service being at fault speaks for its changes
                    c.add(term.name, term.value, term.why)
            out.append(c)
    return out


def _with_starts_of(theirs: Picture, ours: Picture) -> Picture:
    """Return our picture with another service's process starts: they say when a change of that service took effect."""
    signals = replace(ours.signals, restarts=theirs.signals.restarts, first_start=theirs.signals.first_start)
    return replace(ours, signals=signals)


def _place(c: Candidate, name: str, relation: Relation, around: Around, picture: Picture) -> None:
    """Add what speaks against a change elsewhere: no way from it to the trouble, or a caller that calls as before."""
    if relation is Relation.OTHER:
        if around.calls:
            c.add("another service", -2.0, f"no call between {name} and {around.service} is known")
        else:
            c.add("another service", -0.8, f"it acts on {name}; who calls whom is not known")
    elif relation is Relation.CALLED:
        c.add("another service", -0.2, f"it acts on {name}, which {around.service} calls")
    else:
        c.add("another service", -0.4, f"it acts on {name}, which calls {around.service}")
        growth = _calls_from(name, picture)
        if growth is not None and growth >= CALLS_MOVED:
            c.add("calls from it", 1.5, f"requests grew ×{format_number(growth)} at the same time")
        elif growth is not None and growth <= CALLS_FLAT:
            c.add("calls from it", -3.0, f"as many requests came as before (×{format_number(growth)})")


def _calls_from(name: str, picture: Picture) -> float | None:
    """Return how requests of a caller grew, as the service in trouble counts them; all requests where callers are not told apart."""
    of_caller = [
        m
        for m in picture.moves
        if m.signal.aspect is Aspect.REQUESTS and m.signal.scope == "inbound" and closest(m.signal.peer, (name,))
    ]
    if of_caller:
        return growth_of(picture, of_caller[0].signal.values)
    return picture.load_growth


def _not_later(theirs: Picture, ours: Picture) -> bool:
    """Return whether a neighbour's trouble did not begin clearly after ours."""
    if theirs.onset is None or ours.onset is None:
        return True
    return theirs.onset.earliest <= ours.onset.latest + 3 * ours.signals.step


def _explain_away_work(candidates: list[Candidate]) -> None:
    """Let what is seen moving take the blame from what is merely near."""
    changes = [c for c in candidates if c.change is not None]
    moved = [c for c in changes if _has(c, "metric in the middle", 1.0) or _has(c, "log", 1.6)]
    moved = [c for c in moved if not any(t.name == "timing" and t.value <= AFTER_ONSET for t in c.terms)]
    load = next((c for c in candidates if c.kind is CauseKind.LOAD), None)
    if load is not None and _has(load, "traffic", 2.0):
        multiplying = [c for c in changes if _multiplies_traffic(c) and c.score >= 1.5]
        if multiplying:
            load.add("explained by a change", -2.0, f"{multiplying[0].cause.key} makes more requests of the same work")
        for c in changes:
            if c not in moved and c not in multiplying:
                c.add(
                    "explained by traffic",
                    -1.5,
                    "requests grew at the same time, which explains it without this change",
                )
    other = max(moved, key=lambda one: one.score, default=None)
    for c in changes:
        if other is not None and c not in moved and other.score >= max(1.5, c.score - 1.0):
            c.add("explained by another", -1.0, f"{other.cause.key} is seen at work, this is not")
    best_of: dict[str, float] = {}
    for c in changes:
        best_of[c.cause.service] = max(best_of.get(c.cause.service, -99.0), c.score)
    for c in candidates:
        if c.kind is not CauseKind.DEPENDENCY:
            continue
        if best_of.get(c.cause.service, -99.0) >= max(CHANGE_EXPLAINS, c.score):
            c.add("explained by a change there", -3.0, f"a change of {c.cause.service} explains its trouble")
    said = next((c for c in candidates if c.kind is CauseKind.DEPENDENCY and _has(c, "log", 1.0)), None)
    if said is not None:
        for c in changes:
            mute = not _has(c, "log", 0.3) and not _has(c, "calls from it", 1.0)
            if mute and c.cause.service != said.cause.service and not _of_calls(c):
                c.add(
                    "explained by the log",
                    -0.8,
                    f"new error lines name {said.cause.service}, and nothing of this change",
                )
    strong = [c for c in candidates if c.kind is CauseKind.DEPENDENCY and c.score >= CHANGE_EXPLAINS]
    if strong:
        for c in changes:
            if c not in moved and c.cause.service != strong[0].cause.service and not _of_calls(c):
                c.add("explained by the dependency", -1.2, f"{strong[0].cause.service} was in trouble at the same time")


def _of_calls(c: Candidate) -> bool:
    """Return whether a change decides how the service waits for what it calls."""
    family = c.knob.family if c.knob is not None else ""
    return any(w in family for w in _OF_CALLS)


def _multiplies_traffic(c: Candidate) -> bool:
    """Return whether the change makes more requests out of the same work: retries, hedging, polling more often."""
    change = c.told or c.change
    if c.knob is None or change is None:
        return False
    harm = harm_to_called(c.knob, "load", direction_of(change))
    # A caller whose calls are seen to have grown needs less of a reason than a change that only might have made more.
    least = MULTIPLIES_FROM / 2 if _has(c, "calls from it", 1.0) else MULTIPLIES_FROM
    return harm is not None and harm[0] >= least and _has(c, "mechanism", 0.6)


def _has(c: Candidate, name: str, least: float) -> bool:
    return any(t.name == name and t.value >= least for t in c.terms)


def probabilities(candidates: list[Candidate]) -> list[float]:
    """Return the share of each candidate: softmax over the scores."""
    if not candidates:
        return []
    top = max(c.score for c in candidates)
    weights = [math.exp(max(-40.0, c.score - top)) for c in candidates]
    total = sum(weights)
    return [w / total for w in weights]


def _explain_away(picture: Picture, candidates: list[Candidate]) -> None:
    """Let what is seen moving take the blame from what is merely near: traffic from changes, one mechanism from the rest."""
    load = picture.load_growth or 1.0
    changes = [c for c in candidates if c.change is not None]
    moved = [
        c
        for c in changes
        if any(t.name == "metric in the middle" and t.value >= 1.5 for t in c.terms)
        and not any(t.name == "timing" and t.value <= AFTER_ONSET for t in c.terms)
    ]
    if load >= LOAD_MOVED and not picture.squeezed and picture.growth <= 2.2 * load:
        for c in changes:
            if c not in moved:
                c.add(
                    "explained by traffic",
                    -2.5,
                    f"requests grew ×{format_number(load)}, which accounts for the growth without this change",
                )
    for c in candidates:
        if c in moved or not moved:
            continue
        if c.kind in (CauseKind.DEPLOY, CauseKind.CONFIG_CHANGE):
            other = max(moved, key=lambda one: one.score)
            c.add("explained by another", -1.2, f"{other.cause.key} moved its own metric, this did not")
    dependency = next((c for c in candidates if c.kind is CauseKind.DEPENDENCY), None)
    if dependency is not None and any(t.name == "dependency latency" and t.value >= 2.5 for t in dependency.terms):
        for c in changes:
            if c.knob is None or c.knob.family not in _WAITING_FAMILIES:
                c.add("explained by the dependency", -1.5, "calls to a dependency became slow at the same time")
    if moved or picture.squeezed:
        return
    counted = [
        s
        for key, s in picture.signals.gauges.items()
        if s.present and any(w in key for w in ("session", "cache", "queue", "entries", "pending"))
    ]
    flat = [s for s in counted if (growth_of(picture, s.values) or 99.0) <= FLAT]
    for c in candidates:
        if c.kind is CauseKind.DEPLOY and load < LOAD_MOVED and len(flat) >= 2 and len(flat) == len(counted):
            c.add(
                "nothing counted grows",
                0.8,
                "sessions, caches and queues are as before, so what grows is held by the code itself",
            )
