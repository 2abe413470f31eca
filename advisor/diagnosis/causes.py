"""Who could have done it: candidate causes, each with a score that is a sum of named log-odds terms.

A term answers one question that a careful engineer asks, and says its reason in words. No term is decisive alone: a change
minutes before the trouble with no way to act on memory loses against one hours before whose mechanism is seen moving.

Pure. Called by the engine with the picture of what is wrong.
"""

from __future__ import annotations

import math

from advisor.diagnosis.candidate import AFTER_ONSET, FLAT, LOAD_MOVED, Candidate
from advisor.diagnosis.changed import judge_changes
from advisor.diagnosis.circumstances import judge_capacity, judge_dependency, judge_load, judge_unknown
from advisor.diagnosis.knobs import Knob
from advisor.diagnosis.picture import Picture, growth_of
from advisor.evidence import Gathered
from advisor.values import CauseKind, format_number


def find_candidates(
    service: str, picture: Picture, gathered: Gathered, knobs: tuple[Knob, ...], depends_on: tuple[str, ...]
) -> list[Candidate]:
    """Return every candidate with its terms, best first."""
    changed = judge_changes(service, picture, gathered, knobs)
    load = judge_load(service, picture)
    capacity = judge_capacity(service, picture)
    dependency = judge_dependency(service, picture, depends_on)
    candidates = [*changed, load, capacity, dependency, judge_unknown(service, picture)]
    _explain_away(picture, candidates)
    return sorted(candidates, key=lambda c: (-c.score, c.cause.commit or "~", c.cause.path or "", c.cause.key or ""))


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
            if c.knob is None or c.knob.family not in ("remote_timeout", "retries", "endpoints"):
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
