"""What would fix it, what would not, and how recovery will be told. Pure.

A remedy is chosen by the kind of the cause: what changed is taken back; what grew honestly is given room; what is not known
goes to a person. A larger heap for growth that a change explains is refused in words and never called a fix.
"""

from __future__ import annotations

import numpy as np

from advisor.diagnosis import Cause, RejectedRemedy, Remedy
from advisor.diagnosis.candidate import Candidate
from advisor.diagnosis.jvm import heap_raise_fits
from advisor.diagnosis.knobs import Effect
from advisor.diagnosis.picture import WORDS, Picture
from advisor.evidence import ChangeAnswer, ConfigValue, Gathered
from advisor.evidence.signals import Signal
from advisor.playbook import Action, Check, Comparison, Measure, VerificationPlan
from advisor.values import ActionType, CauseKind, Risk, format_bytes, format_seconds

_MEDIUM_FAMILIES = frozenset(
    {"heap_max", "memory_limit", "metaspace_max", "direct_max", "gc_choice", "heap_young", "thread_limit", "image"}
)


def choose_remedies(
    top: Candidate | None, others: list[Candidate], picture: Picture, gathered: Gathered
) -> tuple[Remedy, ...]:
    """Return the actions worth proposing for the diagnosed cause, the best first; none without a diagnosis."""
    if top is None or gathered.changes is None:
        return ()
    if top.change is not None:
        return _take_back(top, others, gathered.changes)
    if top.commit is not None:
        action = Action(
            type=ActionType.REVERT_COMMIT,
            commit=top.cause.commit,
            path=top.cause.path,
            reason=f"{top.summary} brought it about",
        )
        return (
            Remedy(
                action=action,
                risk=Risk.HIGH,  # nobody read by key what is taken back
                fixes_cause=True,
                summary=f"take commit {str(top.cause.commit)[:8]} back",
            ),
        )
    if top.kind is CauseKind.CAPACITY:
        # Where any change is still in question, more room is offered, but not called a fix.
        doubt = any(c.change is not None and c.score > top.score - 3.0 for c in others)
        return (
            *_raise_ceiling(picture, fixes=not doubt),
            _escalate("a limit is too small for normal work; its owner decides about a larger one"),
        )
    if top.kind is CauseKind.LOAD:
        return (
            *_scale(top.cause, gathered.changes.configuration),
            _escalate("traffic grew; its owner decides about capacity"),
        )
    return (_escalate(f"{top.summary}: a change of this service's configuration would not fix it"),)


def _take_back(top: Candidate, others: list[Candidate], changes: ChangeAnswer) -> tuple[Remedy, ...]:
    change, cause = top.change, top.cause
    if change is None or cause.commit is None:
        return ()
    head = next(
        (
            v.value
            for v in changes.configuration
            if (v.path, v.key, v.document) == (change.path, change.key, change.document)
        ),
        None,
    )
    if change.kind != "removed" and head is not None and head == change.old:
        return (
            _escalate(
                f"{change.key} is back at {change.old} already ({(top.reverted_by or changes.head)[:8]}); watch the recovery"
            ),
        )
    if change.kind != "removed" and head is not None and change.new is not None and head != change.new:
        return (_escalate(f"{change.key} was changed again since, to {head}; a person must say which value is wanted"),)
    family = top.knob.family if top.knob else ""
    risk = Risk.MEDIUM if family in _MEDIUM_FAMILIES else Risk.LOW
    if top.kind is CauseKind.DEPLOY and change.old is not None:
        action = Action(
            type=ActionType.ROLL_BACK_IMAGE,
            commit=cause.commit,
            path=change.path,
            keys=(change.key,),
            values=(change.old,),
            document=change.document,
            reason=f"{top.summary} brought the growth",
        )
        return (
            Remedy(
                action=action, risk=Risk.MEDIUM, fixes_cause=True, summary=f"roll {change.key} back to {change.old}"
            ),
        )
    together = [change.key]
    for other in others:  # the same knob turned twice in one edit is one cause: a profile's copy, a second cache
        if (
            other is not top
            and other.change is not None
            and other.cause.commit == cause.commit
            and other.change.path == change.path
            and other.change.document == change.document
            and other.knob is not None
            and top.knob is not None
            and other.knob.family == family
            and _same_way(other, top)
        ):
            together.append(other.change.key)
    action = Action(
        type=ActionType.REVERT_KEYS,
        commit=cause.commit,
        path=change.path,
        keys=tuple(together),
        document=change.document,
        reason=f"{top.summary} brought it about",
    )
    back = f"set {change.key} back to {change.old}" if change.old is not None else f"remove {change.key} again"
    return (Remedy(action=action, risk=risk, fixes_cause=True, summary=back),)


def _same_way(a: Candidate, b: Candidate) -> bool:
    ra, rb = (a.change.ratio if a.change else None), (b.change.ratio if b.change else None)
    return ra is not None and rb is not None and (ra - 1) * (rb - 1) > 0


def _raise_ceiling(picture: Picture, fixes: bool) -> tuple[Remedy, ...]:
    name = {"heap": "heap_max", "metaspace": "metaspace_max", "direct": "direct_max", "rss": "container_limit"}.get(
        picture.resource
    )
    if name is None or name not in picture.memory.where:
        return ()
    path, key = picture.memory.where[name]
    now = getattr(picture.memory, name)
    if not now or not key.rsplit(":-", 1)[-1].startswith(("Xmx", "XX:Max")) or "Percentage" in key:
        return ()
    wanted = now * 1.5
    if picture.resource == "heap":
        fits, _sum = heap_raise_fits(picture.memory, wanted, _threads(picture))
        if fits is False:
            return ()
    action = Action(
        type=ActionType.SET_VALUE,
        path=path,
        keys=(key,),
        values=(_jvm_size(wanted),),
        reason="normal work needs more than the limit allows",
    )
    return (Remedy(action=action, risk=Risk.MEDIUM, fixes_cause=fixes, summary=f"raise {key} to {_jvm_size(wanted)}"),)


def _jvm_size(size: float) -> str:
    return f"{round(size / 1024 / 1024)}m"


def _scale(cause: Cause, configuration: tuple[ConfigValue, ...]) -> tuple[Remedy, ...]:
    found = [
        v
        for v in configuration
        if v.key.split(".")[-1] in ("replicas", "replicaCount", "minReplicas")
        and v.value.isdigit()
        and 0 < int(v.value) < 500
    ]
    if not found:
        return ()
    at = found[0]
    wanted = str(int(at.value) + max(1, int(at.value) // 2))
    action = Action(
        type=ActionType.SCALE,
        path=at.path,
        keys=(at.key,),
        values=(wanted,),
        document=at.document,
        reason="each replica then carries less of the traffic",
    )
    return (Remedy(action=action, risk=Risk.LOW, fixes_cause=True, summary=f"{at.key} {at.value} → {wanted}"),)


def _escalate(reason: str) -> Remedy:
    return Remedy(
        action=Action(type=ActionType.ESCALATE, reason=reason), risk=Risk.LOW, fixes_cause=False, summary=reason
    )


def _threads(picture: Picture) -> int:
    signal = picture.signals.get("threads")
    if signal is None:
        return 200  # Tomcat's default pool; said in the sum
    known = signal.values[np.isfinite(signal.values)]
    return int(known.max()) if known.size else 200


def reject_remedies(top: Candidate | None, picture: Picture) -> tuple[RejectedRemedy, ...]:
    """Return what somebody might do instead, and why it would not help, with the numbers."""
    if picture.trouble_at is None or not picture.measured:
        return ()
    out: list[RejectedRemedy] = []
    if picture.resource in ("heap", "rss"):
        out.append(RejectedRemedy(action="raise_heap", why=_why_not_heap(top, picture)))
    elif picture.resource in ("metaspace", "threads", "direct"):
        out.append(
            RejectedRemedy(
                action="raise_heap",
                why=f"{WORDS[picture.resource]} is not taken from the heap; a larger heap leaves less room for it",
            )
        )
        if top is None or not _is_limit_change(top):
            out.append(
                RejectedRemedy(
                    action=f"raise_{picture.resource}_limit",
                    why=f"{WORDS[picture.resource]} keeps growing; a higher limit is reached later, not never",
                )
            )
    if picture.growth > 1.2 or picture.squeezed:
        fill = _time_to_fill(picture)
        again = f"; by the measured rate it is full again after {format_seconds(fill)}" if fill else ""
        out.append(
            RejectedRemedy(
                action="restart",
                why=f"a restart empties {WORDS[picture.resource]} and leaves the cause in place{again}",
            )
        )
    return tuple(out)


def _is_limit_change(c: Candidate) -> bool:
    return c.knob is not None and c.knob.effect is Effect.LIMIT


def _ceiling(picture: Picture) -> float | None:
    known = picture.ceiling[np.isfinite(picture.ceiling)]
    return float(known[-1]) if known.size else None


def _time_to_fill(picture: Picture) -> float | None:
    top = _ceiling(picture)
    if top is None or picture.slope_per_second <= 0 or picture.squeezed:
        return None
    return max(0.0, top - (picture.baseline or 0.0)) / picture.slope_per_second


def _why_not_heap(top: Candidate | None, picture: Picture) -> str:
    if picture.squeezed and top is not None and _is_limit_change(top):
        return "the heap was large enough until the change lowered it; taking the change back is exact, any other size is a guess"
    if top is not None and top.kind is CauseKind.CAPACITY:
        return "more than the proposed size is not supported by what was measured"
    ceiling = _ceiling(picture)
    parts = []
    if picture.resource == "rss":
        parts.append(
            "the kernel killed the process for its whole memory, not for its heap; a larger heap brings the kill sooner"
        )
    elif picture.slope_per_second > 0 and ceiling:
        later = ceiling / picture.slope_per_second
        parts.append(
            f"what survives collections grows by {format_bytes(picture.slope_per_second * 60)} a minute and does not level off:"
            f" twice the heap ({format_bytes(2 * ceiling)}) costs double and delays the next OutOfMemoryError by about {format_seconds(later)}"
        )
    else:
        parts.append(
            "what fills the heap stays in place; a larger heap delays the next OutOfMemoryError and costs more"
        )
    if top is not None and top.change is not None:
        parts.append(f"the growth began with {top.change.key}, not with the heap, whose limit did not change")
    elif top is not None and top.kind is CauseKind.LOAD:
        parts.append("it treats the symptom: does not fix the cause")
    if ceiling and picture.resource == "heap":
        fits, words = heap_raise_fits(picture.memory, 2 * (picture.memory.heap_max or ceiling), _threads(picture))
        if fits is False:
            parts.append(f"and it does not fit: {words}")
    return "; ".join(parts)


def plan_verification(
    top: Candidate | None,
    picture: Picture,
    gathered: Gathered,
    settle_seconds: int,
    window_seconds: int,
    samples_min: int,
) -> VerificationPlan:
    """Return what must hold after a change: the vital signal, the metric in the middle, no restart, no more errors."""
    checks: list[Check] = []
    signals = picture.signals
    vital_role = {
        "heap": "heap_used",
        "metaspace": "metaspace_used",
        "threads": "threads",
        "direct": "direct_used",
        "rss": "rss",
    }[picture.resource]
    vital = signals.get(vital_role)
    ceiling = _ceiling(picture)
    if vital is not None and picture.trouble_at is not None:
        limit = _recovered_below(picture, ceiling)
        if limit is not None:
            measure = Measure.FLOOR if picture.resource in ("heap", "direct") else Measure.MEAN
            checks.append(
                Check(
                    name=f"{WORDS[picture.resource]} is back",
                    query=_query(vital, gathered, "max"),
                    measure=measure,
                    comparison=Comparison.AT_MOST,
                    threshold=limit,
                    unit="" if vital_role == "threads" else "bytes",
                )
            )
    if picture.squeezed and top is not None:
        role = {"heap": "heap_max", "metaspace": "metaspace_max", "direct": "direct_max", "rss": "memory_limit"}.get(
            picture.resource
        )
        limit_signal = signals.get(role) if role else None
        known = picture.ceiling[np.isfinite(picture.ceiling)]
        if limit_signal is not None and known.size:
            checks.append(
                Check(
                    name=f"limit of {WORDS[picture.resource]} is back",
                    query=_query(limit_signal, gathered, "max"),
                    measure=Measure.LAST,
                    comparison=Comparison.AT_LEAST,
                    threshold=round(0.97 * float(known.max())),
                    unit="bytes",
                )
            )
    if (
        top is not None
        and top.middle is not None
        and top.middle_growth is not None
        and top.middle_growth > 1.3
        and not picture.squeezed
        and top.middle.role in signals.gauges
    ):
        before = growth_base(picture, top.middle, top.effective_at)
        if before is not None:
            checks.append(
                Check(
                    name=f"{top.middle.names[0]} is back",
                    query=_query(top.middle, gathered, "sum"),
                    measure=Measure.MEAN,
                    comparison=Comparison.AT_MOST,
                    threshold=float(f"{max(1.5 * before, before + 5):.4g}"),
                )
            )
    start = signals.get("start_time")
    if start is not None:
        checks.append(
            Check(
                name="no restart",
                query=_query(start, gathered, "max"),
                measure=Measure.CHANGES,
                comparison=Comparison.AT_MOST,
                threshold=0,
                guard=True,
            )
        )
    return VerificationPlan(
        checks=tuple(checks), settle_seconds=settle_seconds, window_seconds=window_seconds, samples_min=samples_min
    )


def _recovered_below(picture: Picture, ceiling: float | None) -> float | None:
    if picture.squeezed and ceiling is not None:
        known = picture.ceiling[np.isfinite(picture.ceiling)]
        return round(0.9 * float(known.max()))
    options = []
    if picture.baseline:
        # A small baseline swings by more than half of itself without anything being wrong.
        options.append(max(1.5 * picture.baseline, picture.baseline + 0.2 * (ceiling or 0.0)))
    if ceiling:
        options.append(0.75 * ceiling)
    return round(min(options)) if options else None


def growth_base(picture: Picture, signal: Signal, since: float | None) -> float | None:
    """Return a signal's usual level before an instant (the onset by default)."""
    at = since if since is not None else (picture.onset.at if picture.onset else None)
    if at is None:
        return None
    values = signal.values[picture.signals.times < at]
    values = values[np.isfinite(values)]
    return float(np.median(values[values.size // 6 :])) if values.size >= 4 else None


def _query(signal: Signal, gathered: Gathered, outer: str) -> str:
    """Return bounded PromQL for a signal: its own names and the labels all its series share, with the service's matchers."""
    shared = set(signal.series[0].labels)
    for series in signal.series[1:]:
        shared &= set(series.labels)
    kinds = [
        (k, v)
        for k, v in sorted(shared)
        if k
        in (
            "area",
            "id",
            "pool",
            "type",
            "jvm_memory_type",
            "jvm_memory_pool_name",
            "cache",
            "name",
            "queue",
            "state",
            "resource",
        )
    ]
    matchers = ",".join([gathered.metric_query.strip("{}"), *(f'{k}="{_escaped(v)}"' for k, v in kinds)])
    names = list(dict.fromkeys(signal.names))
    name = names[0]
    inner = f"{name}{{{matchers}}}"
    per_replica = "sum by (instance, pod) " if outer == "max" and len(signal.series) > 1 else ""
    return f"{outer}({per_replica}({inner}))" if per_replica else f"{outer}({inner})"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
