"""Identifiers, probabilities and instants as a person reads them."""

from __future__ import annotations

import math
from datetime import datetime

from rich.text import Text

from advisor.terminal import safe
from advisor.values import format_bytes, format_number, format_seconds

KEY_CHARACTERS_MAX = 40  # beside a commit and a time, what fits into the smallest chart

_SYMPTOMS = {
    "java_heap_oom": "OutOfMemoryError: Java heap space",
    "gc_overhead_oom": "OutOfMemoryError: GC overhead limit",
    "metaspace_oom": "OutOfMemoryError: Metaspace",
    "native_thread_oom": "OutOfMemoryError: native thread",
    "direct_memory_oom": "OutOfMemoryError: direct memory",
    "container_oom_kill": "OOM kill",
}


def heading(words_: str) -> Text:
    """Return a heading of a part of the report."""
    return Text(words_, style="bold underline")


def words(identifier: object) -> str:
    """Return an identifier of ours as words: ``config_change`` reads "config change"."""
    return safe(str(identifier or "").replace("_", " "), 60)


def key_end(key: str) -> str:
    """Return the end of a key, which tells most: a flag without its path, the last parts of a long path."""
    flag = key.rfind(":-")
    end = key[flag + 1 :] if flag >= 0 else key
    return end if len(end) <= KEY_CHARACTERS_MAX else "…" + end[-(KEY_CHARACTERS_MAX - 1) :]


def symptom_words(identifier: object) -> str:
    """Return a symptom in the words of the JVM, which are those of the logs."""
    return _SYMPTOMS.get(str(identifier), words(identifier))


def percent(probability: float) -> str:
    """Return a probability as a person says it; never a certain 100% or 0% that was not meant."""
    p = float(probability)
    if not math.isfinite(p):
        return "?"
    if p > 0.99:
        return ">99%" if p < 1 else "100%"
    if 0 < p < 0.01:
        return "<1%"
    return f"{p * 100:.0f}%"


def probability_bar(probability: float, columns: int) -> Text:
    """Return a bar of eighths with the number behind it."""
    share = min(1.0, max(0.0, float(probability)))
    eighths = round(share * columns * 8)
    bar = "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")
    style = "red" if share >= 0.5 else "yellow" if share >= 0.1 else "dim"
    return Text.assemble((bar.ljust(columns, "·"), style), f" {percent(share):>4}")


def moment(instant: str) -> str:
    """Return an instant as date and time, UTC."""
    at = _parsed(instant)
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else safe(instant, 40)


def clock(instant: str) -> str:
    """Return an instant as the time of day, UTC."""
    at = _parsed(instant)
    return at.strftime("%H:%M:%S") if at else safe(instant, 40)


def when(instant: str, near: str | None) -> str:
    """Return an instant as the time of day, with the date where that is not the day of ``near``."""
    at, day = _parsed(instant), _parsed(near or instant)
    if at is None or day is None or at.date() == day.date():
        return clock(instant)
    return at.strftime("%d %b %H:%M")


def _parsed(instant: str) -> datetime | None:
    try:
        return datetime.fromisoformat(str(instant))
    except ValueError:
        return None


def measured(value: float, unit: str) -> str:
    """Return a measured number with its unit."""
    if unit == "bytes":
        return format_bytes(value)
    if unit in ("seconds", "s"):
        return format_seconds(value)
    return f"{format_number(value)} {safe(unit, 30)}".strip()
