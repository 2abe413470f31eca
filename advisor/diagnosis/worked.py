"""Could this change have harmed the service's work? What the mechanisms, the metrics and the log say of one changed key.

The counterpart, for slow answers, failures, pools, threads, queues and CPU, of what `changed` asks about memory. Each
question adds one named term. Pure; called by `changed`.
"""

from __future__ import annotations

import math
import re

import numpy as np

from advisor.diagnosis.candidate import Candidate, direction_of
from advisor.diagnosis.knobs import (
    Effect,
    Knob,
    harm_of,
    harm_to_called,
    log_sign,
    metric_fits,
    shared_words,
    speaks_of_another,
    word_direction,
    words,
)
from advisor.diagnosis.picture import WORDS, Picture, growth_of
from advisor.diagnosis.work import LOG_KEY, LOUD_LEVELS, Move, level_of
from advisor.evidence import LogAnswer
from advisor.evidence.aspects import Aspect
from advisor.evidence.config_diff import KeyChange
from advisor.evidence.log_templates import relevant_templates
from advisor.evidence.shifts import CLEAR
from advisor.evidence.signals import Array, Signal
from advisor.values import format_number

CODE_STRENGTH = 0.8  # a new image may do anything to the work, a little less surely than a knob that is known to
_LIMIT_WORDS = frozenset("max maximum limit capacity size replicas desired core config quota".split())
_PLAIN = frozenset("true false none null yes no on off enabled disabled default auto always never".split())
_OF_ALL_WORK = (Aspect.REQUESTS, Aspect.LATENCY, Aspect.ERRORS)
APART = 1.5  # calls that grew or fell so much beyond all requests are not merely the requests again


def judge_work(c: Candidate, picture: Picture, logs: LogAnswer | None, called: bool = False) -> None:
    """Add the terms of mechanism, metric in the middle and log to a changed key.

    Args:
        c: The candidate; its knob is matched already.
        picture: What is wrong, of the service whose signals are looked at.
        logs: Of the service in trouble.
        called: Whether the change was made to a service that calls the one in trouble.
    """
    if c.change is None:
        return
    strength = _mechanism(c, picture, called)
    _took_effect(c, picture)
    _middle(c, picture, strength, called)
    _in_the_log(c, picture, logs, strength)


def _mechanism(c: Candidate, picture: Picture, called: bool) -> float:
    """Add what is known of the key against what is in trouble; return the strength, 0.7 where nothing is known."""
    knob, change = c.knob, c.told or c.change
    if change is None:
        return 0.0
    if knob is None:
        c.add("mechanism", -0.5, "no mechanism is known that leads from this key to the trouble")
        return 0.7
    direction = direction_of(change)
    if direction is None:
        direction = word_direction(change.old, change.new)
    ask = harm_to_called if called else harm_of
    found = [
        (weight * harm[0], word, harm[1])
        for word, weight in picture.troubles.items()
        if (harm := ask(knob, word, direction)) is not None
    ]
    if picture.precursor is not None and picture.precursor.signal.aspect is Aspect.MEMORY:
        held = max((knob.moves[name] for name in knob.moves if name in ("heap", "rss")), default=0.0)
        if held and knob.effect in (Effect.HOLDS, Effect.EITHER, Effect.CODE) and (direction is None or direction > 0):
            found.append((held, "rss", knob.says))
    if called and (load := harm_to_called(knob, "load", direction)) is not None:
        found.append((load[0], picture.resource, load[1]))
    if not found and knob.effect is Effect.CODE and not called:
        found = [(CODE_STRENGTH, picture.resource, knob.says)]
    if not found:
        # Labels and the like act on nothing; any other family may still act in a way that nobody wrote down.
        none = not any((knob.harms.smaller, knob.harms.larger, knob.harms.other, knob.moves))
        c.add("mechanism", -1.8 if none else -1.0, f"{knob.family} is not known to act on {WORDS[picture.resource]}")
        return -1.0 if none else 0.2
    strength, word, says = max(found, key=lambda one: (one[0], one[1]))
    if strength > 0:
        c.add("mechanism", 2.4 * strength - (0.6 if strength < 0.25 else 0.0), f"{says}: acts on {WORDS[word]}")
        return strength
    c.add("mechanism", 2.5 * strength, f"the value moved the other way: it eases {WORDS[word]} ({knob.family})")
    return strength


def _took_effect(c: Candidate, picture: Picture) -> None:
    """Add whether a limit that the process exports followed the change."""
    change = c.told or c.change
    if change is None or change.ratio is None or change.ratio <= 0 or abs(math.log(change.ratio)) < 0.04:
        return
    for key, signal in picture.signals.gauges.items():
        parts = set(words(key.split("{")[0]))
        if not signal.present or not parts & _LIMIT_WORDS or not _speaks_of(c.knob, change, key):
            continue
        growth = growth_of(picture, signal.values, c.effective_at)
        if not _is_set(signal.values):
            continue
        if growth is not None and growth > 0 and abs(math.log(growth) - math.log(change.ratio)) < 0.06:
            c.add("took effect", 2.0, f"{signal.names[0]} became ×{format_number(growth)}, as the change says")
            return


def _is_set(values: Array) -> bool:
    """Return whether a gauge shows a setting: it keeps a few values, and swings between none."""
    known = values[np.isfinite(values)]
    return bool(known.size >= 3 and np.unique(known).size <= max(4, known.size // 100))


def _speaks_of(knob: Knob | None, change: KeyChange, key: str) -> bool:
    if shared_words(change.key, key):
        return True
    phrases = (*knob.signs, *knob.via) if knob is not None else ()
    return any(set(words(p)) & set(words(key)) for p in phrases if not p.startswith("="))


def _middle(c: Candidate, picture: Picture, strength: float, called: bool) -> None:
    """Find the metric between the key and the trouble, and whether it moved when the change took effect."""
    change, knob = c.change, c.knob
    if change is None or picture.trouble_at is None or strength <= 0.2:
        return
    phrases = tuple(p for p in ((knob.signs or knob.via) if knob is not None else ()) if not p.startswith("="))
    own_words = " ".join(phrases)
    options = [
        move
        for move in picture.moves
        if not _is_ceiling(move)
        and not (called and move.signal.scope == "outbound")  # a caller's change is not seen in whom we call
        and move.signal.names[:1] != (LOG_KEY,)
        and (
            any(metric_fits(p, move.signal.key) for p in phrases)
            or (not _of_all_work(move, picture) and bool(shared_words(change.key, move.signal.key)))
        )
        and not speaks_of_another(own_words, change.key, move.signal.key, c.cause.service)
    ]
    if not options:
        return
    since = c.effective_at if c.effective_at is not None else -math.inf
    slack = max(3 * picture.signals.step, 60.0)
    moved = [
        m
        for m in options
        if m.shift is not None
        and abs(m.shift.score) >= CLEAR
        and m.certain >= since - slack
        and m.shift.at <= picture.trouble_at + slack
    ]
    if not moved:
        first = next((m for m in options if m.signal.aspect not in _OF_ALL_WORK), None)
        hidden = knob is None or knob.hidden
        if first is None:
            return  # requests and their time stand in the middle of nothing
        c.add("metric in the middle", -0.4 if hidden else -0.9, f"{first.name} did not move")
        return
    best = max(moved, key=lambda m: (abs(m.shift.score) if m.shift else 0.0, m.signal.key))
    c.middle = Signal(best.signal.key, best.signal.names, best.signal.values, best.signal.series)
    c.middle_growth = best.factor
    itself = best is picture.work
    value = (0.8 if itself else 2.0) * min(1.0, 0.25 + strength)
    what = "went down to" if best.shift is not None and best.shift.score < 0 else "rose to"
    after = best.shift.after if best.shift is not None else math.nan
    before = best.shift.before if best.shift is not None else math.nan
    c.add(
        "metric in the middle",
        value,
        f"{best.name} {what} {format_number(after)} from {format_number(before)} after the change",
    )


def _of_all_work(move: Move, picture: Picture) -> bool:
    """Return whether a signal is that of all the work: whatever harms the service moves it, so a shared word says nothing.

    One route, and calls of one kind that went another way than the requests as a whole, are a part with a story of its own.
    """
    if move.signal.aspect not in _OF_ALL_WORK or move.signal.scope == "outbound" or move.signal.rank < 0:
        return False
    if move.signal.aspect is not Aspect.REQUESTS or move is picture.requests:
        return True
    return 1 / APART <= move.factor / max(picture.load_growth or 1.0, 0.01) <= APART


def _is_ceiling(move: Move) -> bool:
    parts = set(words(move.signal.key.split("{")[0]))
    return bool({"max", "maximum", "limit", "quota", "config"} & parts)


def _in_the_log(c: Candidate, picture: Picture, logs: LogAnswer | None, strength: float) -> None:
    """Add what the log says since the trouble began: the new value, the mechanism's own words, or words of the key."""
    change, trouble = c.change, picture.trouble_at
    if change is None or logs is None or trouble is None or strength < 0:
        return
    texts = loud_texts(picture, logs)
    named = next((t for t in texts if _names_value(change, t)), None)
    sign = next(((s, t) for t in texts if c.knob is not None and (s := log_sign(c.knob, t))), None)
    shared = next(((w, t) for t in texts if (w := shared_words(change.key, t[:300]))), None)
    value, why = 0.0, []
    if named is not None:
        value += 1.8
        why.append(f"the log names the new value: {_cut(named)}")
    if sign is not None:
        value += 1.4 * min(1.0, max(0.3, strength))
        why.append(f"the log shows the mechanism at work: {_cut(sign[1])}")
    if shared is not None:
        value += 0.6
        why.append(f"the log speaks of {', '.join(sorted(shared[0]))}")
    if value:
        c.add("log", min(2.8, value), "; ".join(why))


def loud_texts(picture: Picture, logs: LogAnswer) -> tuple[str, ...]:
    """Return what the log says more of since the trouble began, errors first: samples, exceptions and their causes."""
    onset = picture.onset.at if picture.onset is not None else picture.trouble_at
    until = picture.trouble_at
    if until is None:
        until = logs.last_at.timestamp() if logs.last_at is not None else 0.0
    asked = (id(logs), onset, until)
    if asked not in picture.heard:  # the log is kept with its texts, so that no other one gets its id
        picture.heard[asked] = (logs, _loud_texts(picture, logs, onset, until))
    return picture.heard[asked][1]


def _loud_texts(picture: Picture, logs: LogAnswer, onset: float | None, until: float) -> tuple[str, ...]:
    moves = relevant_templates(logs, onset, until)
    known = {t.template: t for t in logs.templates}
    out = [
        known[m.template].sample or m.template
        for m in moves
        if m.kind in ("new", "more") and m.template in known and level_of(known[m.template]) in LOUD_LEVELS
    ]
    slack = 3 * picture.signals.step + 60.0
    for e in logs.exceptions:
        seen = [at.timestamp() for at in e.at]
        if onset is None or any(t >= onset - slack for t in seen):
            before = sum(t < onset - slack for t in seen) if onset is not None else 0
            if 2 * before <= len(seen):
                out.append(f"{e.type}: {e.message} {e.root_type}: {e.root_message}")
    return tuple(out[:40])


def _names_value(change: KeyChange, text: str) -> bool:
    """Return whether a text names the new value, where the value is telling: a host, a path, a number with its unit."""
    new = (change.new or "").strip().strip("\"'")
    if len(new) < 4 or new.lower() in _PLAIN or new == change.old:
        return False
    lowered = text.lower()
    if re.fullmatch(r"[\d.]+", new):
        return new in text and re.search(rf"(?<![\d.]){re.escape(new)}(?![\d.])", text) is not None
    if new.lower() in lowered:
        return True
    old = {w for w in re.split(r"[/:@?&=,;\s]+", (change.old or "").lower()) if w}
    parts = [w for w in re.split(r"[/:@?&=,;\s]+", new.lower()) if len(w) >= 5 and w not in old and not w.isdigit()]
    return any(part in lowered for part in parts)


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:119] + "…"
