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
from advisor.playbook import Action
from advisor.values import ActionType, CauseKind, Risk, format_bytes, format_seconds

_MEDIUM_FAMILIES = frozenset(
    {"heap_max", "memory_limit", "metaspace_max", "direct_max", "gc_choice", "heap_young", "thread_limit", "image"}
)


def choose_remedies(
    top: Candidate | None, others: list[Candidate], picture: Picture, gathered: Gathered
) -> tuple[Remedy, ...]:
    """Return the actions worth proposing for the diagnosed cause, the best first; none without a diagnosis."""
    if top is None:
        return ()
    changes = _changes_of(top, gathered)
    if changes is None:
        return (_escalate(f"{top.summary}: its configuration is not read here"),)
    if top.change is not None:
        return _take_back(top, others, changes)
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
            *_scale(top.cause, changes.configuration),
            _escalate("traffic grew; its owner decides about capacity"),
        )
    return (_escalate(f"{top.summary}: a change of this service's configuration would not fix it"),)


def _changes_of(top: Candidate, gathered: Gathered) -> ChangeAnswer | None:
    """Return the history of the service that the cause belongs to; the own one where it is no neighbour's."""
    if top.commit is None:
        return gathered.changes
    neighbour = next((n for n in gathered.neighbours if n.service == top.cause.service), None)
    return neighbour.changes if neighbour is not None else gathered.changes


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
    if not picture.of_memory:
        return _reject_for_work(top)
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


def _reject_for_work(top: Candidate | None) -> tuple[RejectedRemedy, ...]:
    """Return what is often done first when a service is slow or fails, and why it would leave the cause in place."""
    if top is None or top.change is None:
        return ()
    what = f"{top.change.key} {top.change.old or '(not set)'} → {top.change.new or '(not set)'}"
    out = [RejectedRemedy(action="restart", why=f"a new process reads the same configuration: {what} stays")]
    if top.kind is not CauseKind.DEPLOY:
        out.append(
            RejectedRemedy(
                action="scale", why=f"every further replica runs with {what} too; it costs more and does not fix it"
            )
        )
    out.append(
        RejectedRemedy(action="raise_heap", why="memory is not what is short; a larger heap changes nothing here")
    )
    return tuple(out)


def _is_limit_change(c: Candidate) -> bool:
    return c.knob is not None and c.knob.effect is Effect.LIMIT


def _time_to_fill(picture: Picture) -> float | None:
    top = picture.limit
    if top is None or picture.slope_per_second <= 0 or picture.squeezed:
        return None
    return max(0.0, top - (picture.baseline or 0.0)) / picture.slope_per_second


def _why_not_heap(top: Candidate | None, picture: Picture) -> str:
    if picture.squeezed and top is not None and _is_limit_change(top):
        return "the heap was large enough until the change lowered it; taking the change back is exact, any other size is a guess"
    if top is not None and top.kind is CauseKind.CAPACITY:
        return "more than the proposed size is not supported by what was measured"
    ceiling = picture.limit
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
