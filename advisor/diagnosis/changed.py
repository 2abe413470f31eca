"""Could this change have done it? One key of one commit, held against what is wrong.

Each question adds one named term to the candidate: did it act at the right time, was it rolled out, is there a mechanism, did
the metric in the middle move, is the step large enough, was it taken back already? Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from advisor.config_file.detecting import detect
from advisor.diagnosis import Cause
from advisor.diagnosis.candidate import (
    AFTER_ONSET,
    FLAT,
    LOAD_FLAT,
    MOVED,
    PRIOR,
    Candidate,
    direction_of,
    rolling_mean,
    together,
    window_seconds,
)
from advisor.diagnosis.circumstances import NEXT_LOOK
from advisor.diagnosis.knobs import (
    Effect,
    Knob,
    match_knob,
    metric_fits,
    shared_words,
    speaks_of_another,
    step_of,
    words,
)
from advisor.diagnosis.picture import WORDS, Picture, effective_at, growth_of
from advisor.diagnosis.work import Move
from advisor.diagnosis.worked import judge_work
from advisor.evidence import OUTSIDE_SCOPE, ChangeAnswer, CommitChange, Gathered, LogException
from advisor.evidence.change_points import Onset
from advisor.evidence.config_diff import KeyChange
from advisor.evidence.shifts import Shift
from advisor.evidence.signals import Signal
from advisor.quantity import parse_quantity, ratio
from advisor.values import CauseKind, format_number, format_seconds

SUDDEN_SECONDS = (
    180.0  # a process that reads a harmful value does harm within minutes, where the trouble came in one step
)
ROLLOUT_SECONDS = (
    600.0  # from a commit to its processes, where nothing says when they began: a pipeline and a rolling update
)
_FLAG = re.compile(r"(?<!\S)--?([A-Za-z][\w.-]{1,60})(?:[= ]([^\s-]\S{0,200}))?")
FIRST_PART_MIN = 0.05
UNTRIED_FROM = 1.3  # more requests than it was ever tried with; less is the noise of a busy hour
UNTRIED_PART = 0.25
UNTRIED_SECONDS = 600.0
TIMING_MAX, TIMING_MIN = 2.5, -3.0
_RESTART_FAMILIES = frozenset(
    {"image", "heap_max", "heap_young", "gc_choice", "metaspace_max", "direct_max", "memory_limit", "stack_size"}
)


def judge_changes(
    service: str, picture: Picture, gathered: Gathered, knobs: tuple[Knob, ...], called: bool = False
) -> list[Candidate]:
    """Return a candidate for each key that a commit in scope changed, and for each file whose keys cannot be read.

    Args:
        service: Whose configuration it is.
        picture: What is wrong, with the service whose signals the changes are held against.
        gathered: That service's evidence; ``changes`` are those of ``service``.
        knobs: Known mechanisms.
        called: Whether ``service`` calls the one in trouble: what its change does to those it calls is asked then.
    """
    answer = gathered.changes
    if answer is None:
        return []
    out = []
    for commit in answer.commits:
        if not commit.in_scope:
            continue
        for changed_file in commit.files:
            for change in changed_file.keys:
                out.append(_judge_change(service, picture, gathered, answer, commit, change, knobs, called))
            note = changed_file.note or ("" if changed_file.keys else _not_read_by_key(changed_file.path))
            if note and note != OUTSIDE_SCOPE and changed_file.status in ("modified", "added", "deleted"):
                out.append(_judge_file(service, picture, commit, changed_file.path, note))
    return out


def _not_read_by_key(path: str) -> str:
    """Return why a file gives no keys, or nothing where it has none to give (prose) or simply none changed."""
    if path.lower().endswith((".md", ".txt", ".rst", ".adoc", ".gitignore", "codeowners", "license")):
        return ""
    return "not in a format that is read by key" if detect(path) == "text" else ""


def _judge_file(service: str, picture: Picture, commit: CommitChange, path: str, note: str) -> Candidate:
    """Return a candidate for a file whose keys cannot be read: only when it changed is known."""
    cause = Cause(
        service=service,
        commit=commit.commit,
        path=path,
        at=commit.effective_at,
        author=commit.author,
        subject=commit.subject,
    )
    c = Candidate(
        CauseKind.CONFIG_CHANGE,
        cause,
        f"{path} changed, its keys are not readable (commit {commit.commit[:8]}, {commit.subject[:80]})",
        commit=commit,
    )
    c.add("prior", PRIOR[CauseKind.CONFIG_CHANGE], "one change among all that could have happened")
    c.add("keys not readable", -0.5, note)
    committed = commit.effective_at.timestamp()
    c.effective_at = effective_at(picture.signals, committed)
    _timing(c, picture, committed)
    _rolled_out(c, picture, committed)
    c.next_check = f"read git show {commit.commit[:12]} -- {path}"
    return c


def _judge_change(
    service: str,
    picture: Picture,
    gathered: Gathered,
    answer: ChangeAnswer,
    commit: CommitChange,
    change: KeyChange,
    knobs: tuple[Knob, ...],
    called: bool,
) -> Candidate:
    knob = match_knob(knobs, change.key)
    told = change
    flags = [(k, f) for f in flags_changed(change) if (k := match_knob(knobs, f"{change.key} {f.key}")) is not None]
    if flags:  # a command line in one value: what differs in it says more than that the value differs
        knob, told = max(
            flags, key=lambda pair: abs(math.log(pair[1].ratio)) if pair[1].ratio and pair[1].ratio > 0 else 0.0
        )
    kind = CauseKind.DEPLOY if knob is not None and knob.effect is Effect.CODE else CauseKind.CONFIG_CHANGE
    cause = Cause(
        service=service,
        commit=commit.commit,
        path=change.path,
        key=change.key,
        old=change.old,
        new=change.new,
        document=change.document,
        at=commit.effective_at,
        author=commit.author,
        subject=commit.subject,
    )
    c = Candidate(
        kind=kind,
        cause=cause,
        summary=f"{change.key} {_from_to(change)} (commit {commit.commit[:8]}, {commit.subject[:80]})",
        change=change,
        told=told,
        commit=commit,
        knob=knob,
    )
    c.add("prior", PRIOR[kind], "one change among all that could have happened")
    committed = commit.effective_at.timestamp()
    c.effective_at = effective_at(picture.signals, committed)
    if picture.of_memory:
        _middle(c, picture)
        _mechanism(c, picture)
        _moved(c, picture)
    else:
        judge_work(c, picture, gathered.logs, called)
    _timing(c, picture, committed)
    _rolled_out(c, picture, committed)
    _size(c, picture)
    if change.kind == "added" and any(f.path == change.path and f.status == "added" for f in commit.files):
        c.add("new file", -1.5, "the file is new with this commit: its values were not there to be changed")
    _reverted(c, picture, answer)
    _takes_back(c, picture, answer)
    _named_in_trace(c, gathered)
    c.next_check = _next_check(c, picture)
    return c


def flags_changed(change: KeyChange) -> tuple[KeyChange, ...]:
    """Return what differs among the command-line flags of a value, each as a change of its own; at most 20."""
    old, new = _flags(change.old), _flags(change.new)
    if not (old or new) or change.old is None or change.new is None:
        return ()
    names = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    return tuple(
        change.model_copy(
            update={
                "key": name.lstrip("-"),
                "old": old.get(name),
                "new": new.get(name),
                "ratio": ratio(old.get(name), new.get(name), name),
            }
        )
        for name in names[:20]
    )


def _flags(text: str | None) -> dict[str, str]:
    """Return the flags of a command line with their values; a flag alone has an empty one."""
    if text is None or len(text) > 4000 or "--" not in text:
        return {}
    return {name: value or "" for name, value in _FLAG.findall(text)}


def _from_to(change: KeyChange) -> str:
    ratio = f" (×{format_number(change.ratio)})" if change.ratio and abs(change.ratio - 1) > 0.005 else ""
    return f"{_shown(change.old)} → {_shown(change.new)}{ratio}"


def _shown(value: str | None) -> str:
    if value is None:
        return "(not set)"
    return value if len(value) <= 80 else value[:79] + "…"


def _timing(c: Candidate, picture: Picture, committed: float) -> None:
    """Add how near the change is to where the trouble began: to what showed first, where something had been piling up."""
    if picture.trouble_at is None:
        return
    if committed > picture.trouble_at + 1.0:
        late = format_seconds(committed - picture.trouble_at)
        c.add("timing", AFTER_ONSET - 1.0, f"committed {late} after the first hard sign of trouble")
        return
    if picture.onset is None:
        _timing_without_onset(c, picture, committed)
        return
    told = [_timing_against(c, picture, picture.onset, committed)]
    if picture.precursor is not None and picture.precursor.shift is not None:
        shift, name = picture.precursor.shift, picture.precursor.name
        effective = c.effective_at if c.effective_at is not None else committed
        if effective > picture.precursor.certain + _tolerance(picture):
            told[0].append(("piled up before", -0.8, f"{name} had been piling up before this change"))
        began = Onset(shift.at, shift.earliest, picture.precursor.certain, shift.censored, shift.kind)
        told.append(_timing_against(c, picture, began, committed, f"{name} began to pile up"))
        if sum(value for _, value, _ in told[-1]) > 0 and picture.precursor.far:
            told[-1].append(
                ("piled up since", 0.7, f"{name} grew ×{format_number(picture.precursor.factor)} since then")
            )
    first = picture.first_step
    if first is not None and first.shift is not None:
        told.append(_against_first_step(c, picture, first, first.shift, committed))
    for name, value, why in max(told, key=lambda terms: sum(value for _, value, _ in terms)):
        c.add(name, value, why)


def _against_first_step(
    c: Candidate, picture: Picture, first: Move, shift: Shift, committed: float
) -> list[tuple[str, float, str]]:
    """Return the terms of a change's distance from the first of two steps, which explains its part of the way only."""
    began = Onset(shift.at, shift.earliest, max(first.certain, shift.at), shift.censored, shift.kind)
    out = _timing_against(c, picture, began, committed, "it went wrong at first")
    if picture.work is not None and picture.work.shift is not None:
        whole = Move(first.signal, replace(picture.work.shift, before=shift.before)).factor
        way, first_way = abs(math.log(whole)), abs(math.log(first.factor))
        part = min(1.0, max(first_way / way, FIRST_PART_MIN)) if way > 0 else 1.0
        said = f"{first.name} went to {format_number(shift.after)} first, {part:.0%} of its way"
        out.append(("first step", math.log(part), said))
    return out


def _timing_without_onset(c: Candidate, picture: Picture, committed: float) -> None:
    window, tolerance = window_seconds(picture), _tolerance(picture)
    distance = max(0.0, (picture.trouble_at or committed) - committed)
    c.add(
        "timing",
        max(TIMING_MIN, min(1.0, math.log(window / (2 * (distance + tolerance))))),
        f"{format_seconds(distance)} before the first sign of trouble; the onset itself is not measured",
    )


def _tolerance(picture: Picture) -> float:
    """Return how far an onset may be off: a bend of a sawtooth is found to a fiftieth of the window, a step to samples."""
    step = picture.signals.step
    return max(3 * step, 0.02 * window_seconds(picture)) if picture.of_memory else max(3 * step, 60.0)


def _timing_against(
    c: Candidate, picture: Picture, onset: Onset, committed: float, began: str = ""
) -> list[tuple[str, float, str]]:
    """Return the terms of a change's distance from one onset: (name, log-odds, reason)."""
    window, tolerance = window_seconds(picture), _tolerance(picture)
    grew = "the growth began" if picture.of_memory else "the trouble began"
    grew = began or ("the squeeze began" if picture.squeezed else grew)
    if committed > onset.latest + tolerance and not onset.censored:
        return [("timing", AFTER_ONSET, f"committed {format_seconds(committed - onset.at)} after {grew}")]
    effective = c.effective_at if c.effective_at is not None else committed
    trouble = picture.trouble_at if picture.trouble_at is not None else onset.latest
    out: list[tuple[str, float, str]] = []
    if effective > trouble:
        effective = committed  # read without a restart, or not at all: `rolled out` judges that
    elif effective > onset.latest + tolerance and not picture.of_memory and not (c.knob is not None and c.knob.restart):
        effective = committed  # a route, a limit of the gateway, a flag: much is read without a restart
        out.append(("rolled out", -0.6, "no process began between the commit and the trouble"))
    if onset.censored and effective <= onset.at + tolerance:
        before = max(0.0, onset.at - committed)
        said = f"it began before the data does; committed {format_seconds(before)} before that"
        return [("timing", max(-1.5, min(0.3, 0.3 - math.log1p(before / 21600.0))), said)]
    if effective > onset.latest + tolerance:
        return [("timing", AFTER_ONSET, f"took effect {format_seconds(effective - onset.at)} after {grew}")]
    if onset.earliest - tolerance <= effective <= onset.at + tolerance:
        distance = 0.0
    elif effective > onset.at:  # between the best guess of the onset and the moment when it was certain
        distance = (effective - onset.at) * 0.5
    else:
        distance = max(0.0, onset.earliest - effective - _natural_delay(c))
        if not picture.of_memory and not _starts_known(picture):
            distance = max(0.0, distance - ROLLOUT_SECONDS)
    value = math.log(window / (2 * (distance + tolerance)))
    near = (
        f"took effect at the time where {grew}"
        if distance < tolerance
        else f"took effect {format_seconds(distance)} away from where {grew}"
    )
    chance = min(1.0, 2 * (distance + tolerance) / window)
    said = f"{near}; a random moment would be as near with a chance of {chance:.0%}"
    out.append(("timing", max(TIMING_MIN, min(TIMING_MAX, value)), said))
    growing = max(trouble - onset.at, 5 * picture.signals.step)
    if not picture.of_memory:
        sudden = onset.kind == "level" and _starts_known(picture)
        growing = max(5 * picture.signals.step, SUDDEN_SECONDS) if sudden else max(growing, ROLLOUT_SECONDS)
    if distance > tolerance and effective < onset.earliest and not onset.censored:
        said = f"the service ran well with it for {format_seconds(distance)} before {grew}"
        untried = 0.0 if picture.of_memory else _untried(picture, effective, onset)
        if untried >= UNTRIED_FROM:
            said += f", but never under as many requests (×{format_number(untried)})"
        out.append(
            (
                "ran well with it",
                -min(2.0, distance / growing) * (UNTRIED_PART if untried >= UNTRIED_FROM else 1.0),
                said,
            )
        )
    return out


def _untried(picture: Picture, effective: float, onset: Onset) -> float:
    """Return how many times as many requests came when it went wrong as ever between a change and then; 0 if not known."""
    requests, times = picture.requests, picture.signals.times
    if requests is None or picture.trouble_at is None:
        return 0.0
    width = max(3, round(UNTRIED_SECONDS / picture.signals.step))
    between = requests.signal.values[(times >= effective) & (times < onset.earliest)]
    around = requests.signal.values[
        (times >= onset.earliest) & (times <= max(onset.latest, onset.at) + UNTRIED_SECONDS)
    ]
    if between.size < width or np.count_nonzero(np.isfinite(around)) < 3:
        return 0.0
    tried = rolling_mean(between, width)
    most = float(np.nanmax(tried)) if np.isfinite(tried).any() else 0.0
    return float(np.nanmedian(around)) / most if most > 0 else 0.0


def _starts_known(picture: Picture) -> bool:
    return bool({"start_time", "uptime"} & set(picture.signals.roles)) or bool(picture.signals.restarts)


def _natural_delay(c: Candidate) -> float:
    """Return how long a lifetime's change takes to show: nothing outlives the old value before the old value has passed."""
    change = c.change
    if change is None or change.unit != "seconds" or c.knob is None or c.knob.effect is not Effect.HOLDS:
        return 0.0
    from_text = _seconds(change.old)
    return from_text if from_text is not None and from_text < 86400 else 0.0


def _seconds(text: str | None) -> float | None:
    quantity = parse_quantity(text, "") if text else None
    return float(quantity.value) if quantity is not None and quantity.dimension == "seconds" else None


def _rolled_out(c: Candidate, picture: Picture, committed: float) -> None:
    trouble, restarts = picture.trouble_at, picture.signals.restarts
    if trouble is None or not picture.signals.times.size or committed > trouble:
        return
    if committed < float(picture.signals.times[0]):
        return
    if c.effective_at is not None and committed < c.effective_at < trouble:
        late = (c.effective_at - committed) / max(60.0, 0.02 * window_seconds(picture))
        c.add(
            "rollout delay",
            -min(1.5, 0.5 * math.log1p(late)),
            f"the first process start after the commit came {format_seconds(c.effective_at - committed)} later",
        )
    if any(t.name == "rolled out" for t in c.terms):
        return
    began = [t for t in restarts if committed - 2 * picture.signals.step <= t < trouble - picture.signals.step / 2]
    if not _starts_known(picture) or began:
        return
    needs = c.knob is not None and (c.knob.family in _RESTART_FAMILIES or c.knob.restart)
    if (
        needs
        and picture.squeezed
        and picture.onset
        and abs(committed - picture.onset.at) < 0.1 * window_seconds(picture)
    ):
        return
    if c.middle_growth is not None and c.middle_growth >= MOVED and not needs:
        return  # read without a restart: its own metric moved
    c.add(
        "rolled out",
        -3.0 if needs else -0.8,
        "no process began between the commit and the trouble, so nothing can have read it"
        if needs
        else "no process began between the commit and the trouble; only a service that reloads its configuration has read it",
    )


def _strength(of: Mapping[Any, float], resource: str) -> float:
    """Return the strength that a family states for a resource; the schema knows its resources by name only."""
    return next((strength for name, strength in of.items() if name == resource), 0.0)


def _mechanism(c: Candidate, picture: Picture) -> None:
    change, knob = c.change, c.knob
    if change is None:
        return
    resource, words = picture.resource, WORDS[picture.resource]
    if knob is None:
        if c.middle is not None and c.middle_growth is not None and c.middle_growth >= MOVED:
            c.add("mechanism", 0.7, f"the key shares its name with {c.middle.names[0]}, which moved")
        return
    strength = _strength(knob.moves, resource)
    direction = direction_of(change)
    effect = knob.effect
    if effect is Effect.NONE:
        c.add("mechanism", -2.5, f"{knob.says} ({knob.family})")
        return
    if effect is Effect.LIMIT:
        lowered = direction is not None and direction < 0
        if direction is None:
            c.add("mechanism", 0.8 * strength - 0.4, f"{knob.says}; which way cannot be said")
        elif lowered and strength:
            value = 2.2 * strength if picture.squeezed or picture.growth < 2.0 else 1.0 * strength
            c.add("mechanism", value, f"{knob.says}: less {words} is allowed than before")
        elif not lowered and _strength(knob.raises, resource):
            c.add(
                "mechanism",
                2.2 * _strength(knob.raises, resource),
                f"{knob.says}: the process may take more than the container allows",
            )
        elif not lowered and resource in ("heap", "metaspace", "threads", "direct") and strength:
            c.add("mechanism", -3.0, f"a higher ceiling does not cause {words} to run out")
        else:
            c.add("mechanism", -1.5, f"{knob.family} does not move {words}")
        return
    if strength < 0.25:
        c.add("mechanism", -1.5 + 2 * strength, f"{knob.family} hardly moves {words}")
        return
    if effect is Effect.CODE:
        c.add("mechanism", 2.0 * strength, knob.says)
        return
    if effect is Effect.EITHER:
        c.add("mechanism", 1.6 * strength, knob.says)
        return
    wanted = -1.0 if effect is Effect.HOLDS_WHEN_OFF else 1.0
    if direction is None:
        c.add("mechanism", 1.0 * strength, f"{knob.says}, if the value became larger")
    elif direction * wanted > 0:
        c.add("mechanism", 2.2 * strength, knob.says)
    else:
        c.add("mechanism", -3.0, f"the value moved the other way: less {words} is held, not more ({knob.family})")


def _middle(c: Candidate, picture: Picture) -> None:
    """Find the metric in the middle of the candidate's mechanism and how it moved since the change took effect."""
    if c.change is None or picture.trouble_at is None:
        return
    options: list[Signal] = []
    if c.knob is not None:
        for phrase in c.knob.via:
            if phrase.startswith("="):
                role = picture.signals.get(phrase[1:])
                if role is not None:
                    options.append(role)
            else:
                options += [
                    s
                    for key, s in picture.signals.gauges.items()
                    if metric_fits(phrase, key)
                    and not _is_limit(key)
                    and s.present
                    and not speaks_of_another(phrase, c.change.key, key, c.cause.service)
                ]
            if options:
                break
    if not options or (c.knob is not None and len(options) > 1):
        family = " ".join(c.knob.via) if c.knob is not None else ""
        shared = [
            s
            for key, s in picture.signals.gauges.items()
            if s.present
            and not _is_limit(key)
            and shared_words(c.change.key, key)
            and not speaks_of_another(family, c.change.key, key, c.cause.service)
        ]
        if options:
            both = [s for s in options if any(s is o for o in shared)]
            options = both or options
        elif c.knob is None or (c.knob.via and _strength(c.knob.moves, picture.resource) >= 0.25):
            options = shared
    if not options:
        return
    since = (
        c.effective_at
        if c.effective_at is not None and c.effective_at < picture.trouble_at
        else c.commit.effective_at.timestamp()
        if c.commit
        else None
    )
    if picture.signals.times.size and since is not None and since < float(picture.signals.times[0]):
        c.middle = options[0]
        return
    measured = [(growth_of(picture, s.values, since), s) for s in options]
    known = [(g, s) for g, s in measured if g is not None]
    if not known:
        c.middle = options[0]
        return
    best = max(known, key=lambda pair: (abs(math.log(max(pair[0], 1e-3))), pair[1].role))
    c.middle_growth, c.middle = best


def _is_limit(name: str) -> bool:
    """Return whether a metric is a ceiling, or a mark of the highest so far: it does not follow what is held."""
    parts = words(name.split("{")[0])
    return bool({"max", "min", "maximum", "limit"} & set(parts)) or parts[-1:] == ("capacity",) or "core" in parts


def _moved(c: Candidate, picture: Picture) -> None:
    knob, growth, middle = c.knob, c.middle_growth, c.middle
    if knob is not None and knob.effect in (Effect.CODE, Effect.NONE):
        return
    if middle is None:
        if knob is not None and not knob.hidden and _strength(knob.moves, picture.resource) > 0.3:
            c.add("metric in the middle", -0.3, "no metric shows the middle of this mechanism")
        return
    if growth is None:
        return
    name = middle.names[0]
    if knob is not None and knob.effect is Effect.LIMIT:
        if middle.role.endswith(("_max", "limit")):
            direction = direction_of(c.change) if c.change else None
            if (
                direction is not None
                and direction * math.log(max(growth, 1e-3)) > 0
                and abs(math.log(max(growth, 1e-3))) > 0.04
            ):
                c.add(
                    "metric in the middle", 2.5, f"{name} became ×{format_number(growth)} when the change took effect"
                )
            elif abs(math.log(max(growth, 1e-3))) <= 0.04 and knob.family != "memory_limit":
                c.add("metric in the middle", -2.5, f"{name} stayed as it was, so the change did not reach the process")
        return
    load = max(1.0, picture.load_growth or 1.0)
    excess = growth / load if load >= LOAD_FLAT else growth
    strength = 0.7 if knob is None else _strength(knob.moves, picture.resource)
    if excess >= MOVED and strength < 0.25:
        return  # it moved, but it holds none of what ran out
    if excess >= MOVED:
        alike = together(picture, middle.values, c.effective_at)
        value = (2.0 + (0.5 if alike > 0.6 else 0.0)) * min(1.0, 0.25 + strength)
        c.add(
            "metric in the middle",
            value,
            f"{name} grew ×{format_number(growth)} after the change"
            + (f", with the {WORDS[picture.resource]} (rank correlation {alike:.2f})" if alike > 0.6 else ""),
        )
    elif growth <= FLAT or excess <= FLAT:
        hidden = knob is None or knob.hidden
        c.add(
            "metric in the middle",
            -0.8 if hidden else -2.2,
            f"{name} did not move (×{format_number(growth)})"
            + (f" beyond what traffic explains (×{format_number(load)})" if growth > FLAT else ""),
        )
    else:
        c.add("metric in the middle", 0.6, f"{name} grew a little (×{format_number(growth)})")


def _size(c: Candidate, picture: Picture) -> None:
    change, knob = c.told or c.change, c.knob
    if (
        change is None
        or change.ratio is None
        or change.ratio <= 0
        or (knob is not None and knob.effect in (Effect.CODE, Effect.NONE))
    ):
        return
    step = step_of(knob, change.old, change.new, change.ratio) or change.ratio
    doublings = abs(math.log2(step))
    if not picture.of_memory:
        _size_of_work(c, step, doublings)
        return
    held = picture.of_memory and knob is not None and knob.effect is Effect.HOLDS and change.ratio > 1
    if held and not picture.squeezed and picture.growth > 1.3 * change.ratio:
        # Twice the lifetime holds twice as much and then levels off: it cannot fill the heap five times over.
        c.add(
            "size",
            -min(3.5, 3.0 * math.log(picture.growth / change.ratio)) - (0.6 if doublings < 0.3 else 0.0),
            f"a step of ×{format_number(change.ratio)} cannot make {WORDS[picture.resource]} grow ×{format_number(picture.growth)}",
        )
    elif doublings < 0.3:
        c.add("size", -1.2, f"a small step (×{format_number(change.ratio)})")
    elif doublings >= 1:
        c.add("size", min(1.2, 0.35 * doublings), f"a large step (×{format_number(change.ratio)})")


def _size_of_work(c: Candidate, ratio: float, doublings: float) -> None:
    """Add the size of a step: work turns bad where a limit is crossed, so a large step is likelier to have crossed it."""
    if doublings < 0.3:
        c.add("size", -1.2, f"a small step (×{format_number(ratio)})")
    elif doublings < 0.8:
        c.add("size", -0.5, f"not a large step (×{format_number(ratio)})")
    elif doublings >= 1:
        c.add("size", min(1.8, 0.45 * doublings), f"a large step (×{format_number(ratio)})")


def _reverted(c: Candidate, picture: Picture, answer: ChangeAnswer) -> None:
    change, commit = c.change, c.commit
    if change is None or commit is None:
        return
    order = {one.commit: i for i, one in enumerate(answer.commits)}  # newest first
    later = [one for one in answer.commits if order[one.commit] < order[commit.commit] and one.in_scope]
    for one in reversed(later):
        for changed_file in one.files:
            for other in changed_file.keys:
                if (other.path, other.key, other.document) != (change.path, change.key, change.document):
                    continue
                back = other.new == change.old
                if back and _one_start(picture, commit.effective_at.timestamp(), one.effective_at.timestamp()):
                    c.add("already reverted", -4.0, f"taken back by {one.commit[:8]} before any process began with it")
                    return
                at = one.effective_at.timestamp()
                if back:
                    c.reverted_by = one.commit
                if (
                    back
                    and picture.onset is not None
                    and not picture.onset.censored
                    and at < picture.onset.earliest - 2 * picture.signals.step
                    and picture.trouble_at is not None
                ):
                    c.add("already reverted", -4.0, f"taken back by {one.commit[:8]} before the growth began")
                elif back and picture.trouble_at is not None and at < picture.trouble_at and picture.onset is None:
                    c.add("already reverted", -2.0, f"taken back by {one.commit[:8]} before the trouble")
                return


def _one_start(picture: Picture, first: float, second: float) -> bool:
    """Return whether no process began between two commits, where starts are known: only their sum was ever read."""
    if picture.of_memory or not _starts_known(picture) or not picture.signals.times.size:
        return False
    if first < float(picture.signals.times[0]):
        return False
    return not any(first <= t < second for t in picture.signals.restarts)


def _takes_back(c: Candidate, picture: Picture, answer: ChangeAnswer) -> None:
    """Add that a change only takes an earlier one back that no process had read yet."""
    change, commit = c.change, c.commit
    if change is None or commit is None:
        return
    order = {one.commit: i for i, one in enumerate(answer.commits)}  # newest first
    for one in answer.commits:
        if order[one.commit] <= order[commit.commit] or not one.in_scope:
            continue
        for other in (k for f in one.files for k in f.keys):
            if (other.path, other.key, other.document) != (change.path, change.key, change.document):
                continue
            if other.old == change.new and _one_start(
                picture, one.effective_at.timestamp(), commit.effective_at.timestamp()
            ):
                c.add("already reverted", -4.0, f"it takes {one.commit[:8]} back, which no process had read")
            return


def _named_in_trace(c: Candidate, gathered: Gathered) -> None:
    if (
        c.change is None
        or gathered.logs is None
        or (c.knob is not None and c.knob.effect in (Effect.NONE, Effect.CODE, Effect.LIMIT))
    ):
        return
    for e in gathered.logs.exceptions:
        if "OutOfMemoryError" not in (e.type + e.root_type):
            continue
        shared = _trace_words(c.change.key, e)
        if shared:
            c.add(
                "stack trace",
                0.4,
                f"the stack trace names {', '.join(sorted(shared))}; where memory ran out is a weak sign of who took it",
            )
            return


def _trace_words(key: str, e: LogException) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for frame in e.frames[:6]:
        found |= shared_words(key, frame.split("(")[0])
    return found


def _next_check(c: Candidate, picture: Picture) -> str:
    if c.middle is not None and c.middle.names:
        return f"plot {c.middle.names[0]} against the {WORDS[picture.resource]} from an hour before {_clock(c.effective_at)}"
    if c.kind is CauseKind.DEPLOY:
        return NEXT_LOOK[picture.resource]
    return f"read what uses {c.cause.key} and export how much it holds as a gauge" if c.cause.key else ""


def _clock(at: float | None) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%SZ") if at is not None else "the change"
