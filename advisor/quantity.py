"""Amounts as configuration writes them (time, memory, shares, counts, cores), and by how much one changed.

One text means different amounts to different readers: ``100m`` is 0.1 cores to Kubernetes, 100 MiB to
``-Xmx``, 100 minutes to Spring. The key decides; where it does not, the answer is None, because a wrong
factor is worse than none. Called by the key-level differences of configuration and by everything that
prints a change.

Source: Kubernetes API reference, Quantity; the ``java`` manual (sizes count 1024); Spring Boot reference,
"Converting Durations" and "Converting Data Sizes"; HikariCP README (milliseconds); Go ``time.ParseDuration``;
ISO 8601.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from advisor.values import Record

Dimension = Literal["seconds", "bytes", "ratio", "count", "cores"]

_TEXT_CHARACTERS_MAX = 64  # no amount is written longer
_FIRST = tuple("0123456789.Pp")
_SHOWN_CHARACTERS_MAX = 120
_TIMES = "\u00d7"
_KEY_CHARACTERS = 200  # the end of a key says what its number is

_KI, _MI, _GI, _TI, _PI, _EI = (1024**n for n in range(1, 7))
_DURATIONS = {
    "ns": 1e-9, "nanos": 1e-9, "nanoseconds": 1e-9,
    "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "micros": 1e-6, "microseconds": 1e-6,
    "ms": 1e-3, "msec": 1e-3, "millis": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
# Two and three letters always count 1024 here: Spring, Docker, Elasticsearch and Logback all read KB so.
_SIZES = {
    "b": 1, "byte": 1, "bytes": 1,
    "kb": _KI, "mb": _MI, "gb": _GI, "tb": _TI, "pb": _PI,
    "ki": _KI, "mi": _MI, "gi": _GI, "ti": _TI, "pi": _PI, "ei": _EI,
    "kib": _KI, "mib": _MI, "gib": _GI, "tib": _TI, "pib": _PI,
}  # fmt: skip
_BINARY_LETTERS = {"k": _KI, "m": _MI, "g": _GI, "t": _TI, "p": _PI, "e": _EI}
# Kubernetes has no binary single letters, and tells m (milli) from M (mega).
_KUBERNETES = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": _KI, "Mi": _MI, "Gi": _GI, "Ti": _TI, "Pi": _PI, "Ei": _EI,
}  # fmt: skip

_NUMBER = r"\d[\d_]*(?:\.\d+)?"
_AMOUNT = re.compile(rf"({_NUMBER}(?:[eE][+-]?\d{{1,3}}(?![A-Za-z]))?|\.\d+)\s?([A-Za-zµμ]*|%)\Z")
_COMPOUND = re.compile(rf"(?:{_NUMBER}\s?(?:ns|us|µs|μs|ms|s|sec|m|min|h|d|w)\s?){{2,8}}\Z")
_COMPOUND_PART = re.compile(rf"({_NUMBER})\s?([a-zµμ]+)")
_ISO = re.compile(
    r"P(?=.)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z", re.IGNORECASE
)
_KEY_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_ENV_NAME = re.compile(r"\[([^\[\]]+)\](?:#\d+)?\.(?:value|default)\Z")

_TIME_WORDS = frozenset(
    "timeout ttl interval period delay duration expiry expire expires expiration lifetime age idle wait "
    "window backoff grace time live keepalive retention lease cooldown every after deadline refresh schedule "
    "frequency latency pause uptime session".split()
)
_SIZE_WORDS = frozenset("memory mem heap size buffer storage stack metaspace disk quota ram shm bytes".split())
_CORE_WORDS = frozenset(("cpu", "cpus", "cores", "millicores"))
_COUNT_WORDS = frozenset(
    "count entries connections connection threads replicas requests items records rows messages elements "
    "capacity limit max min instances workers partitions retries attempts pool concurrency".split()
)
# Numbers that name something: twice the port is not more of anything.
_NAME_WORDS = frozenset("port ports version tag uid gid pid user group revision year date id hash sha build".split())
_HIKARI = re.compile(
    r"hikari.*(?:timeout|lifetime|keepalive[-_]?time|leak[-_]?detection[-_]?threshold)\Z", re.IGNORECASE
)
_SESSION_SECONDS = re.compile(
    r"(?:server[._](?:servlet|reactive)[._]session|spring[._]session)[._](?:cookie[._]max-?age|timeout)\Z"
    r"|server_(?:servlet|reactive)_session_timeout\Z|spring_session_timeout\Z|spring\.transaction\.default-?timeout\Z",
    re.IGNORECASE,
)
_SPRING_MILLIS = re.compile(
    r"(?:^|[\]}\"]\.?|#\w+\.)(?:spring|server|management)\..*(?:timeout|time-?to-?live|interval|delay|period)\Z",
    re.IGNORECASE,
)
_UNIT_WORDS: dict[str, tuple[Dimension, float]] = {
    **dict.fromkeys(("ns", "nanos", "nanoseconds"), ("seconds", 1e-9)),
    **dict.fromkeys(("us", "micros", "microseconds"), ("seconds", 1e-6)),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "milliseconds", "millisecond"), ("seconds", 1e-3)),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), ("seconds", 1.0)),
    **dict.fromkeys(("mins", "minute", "minutes"), ("seconds", 60.0)),  # not "min": that is a minimum
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), ("seconds", 3600.0)),
    **dict.fromkeys(("day", "days"), ("seconds", 86400.0)),
    **dict.fromkeys(("byte", "bytes"), ("bytes", 1.0)),
    **dict.fromkeys(("kb", "kib", "kilobytes"), ("bytes", float(_KI))),
    **dict.fromkeys(("mb", "mib", "megabytes"), ("bytes", float(_MI))),
    **dict.fromkeys(("gb", "gib", "gigabytes"), ("bytes", float(_GI))),
    **dict.fromkeys(("percent", "percentage", "pct", "utilization"), ("ratio", 0.01)),
    **dict.fromkeys(("ratio", "fraction", "probability"), ("ratio", 1.0)),
    "millicores": ("cores", 1e-3),
}  # fmt: skip


class Quantity(Record):
    """An amount in base units: seconds, bytes, a ratio (1 is the whole), a count, or cores."""

    value: float
    dimension: Dimension


class _Hints:
    """What a key says about the numbers under it."""

    def __init__(self, key: str) -> None:
        self.flag = key.rpartition(":-")[2] if ":-" in key else ""
        env = _ENV_NAME.search(key[-_KEY_CHARACTERS:])
        self.key = env[1] if env else key[-_KEY_CHARACTERS:]
        self.words = [w.lower() for w in _KEY_WORD.findall(self.flag or self.key)]
        self.last = self.words[-1] if self.words else ""
        path = self.key.lower()
        # Compose files have the same words, but count as Docker does.
        self.kubernetes = bool(_KUBERNETES_KEY.search(path)) and not self.flag and "deploy.resources." not in path
        self.jvm_size = bool(_JVM_SIZE.match(self.flag))
        self.dimension = "bytes" if self.jvm_size else self._dimension()

    def _dimension(self) -> Dimension | None:
        """Return what the right-most telling word says.

        Of ``buffer.timeout`` it is the time, not the buffer.
        """
        for word in reversed(self.words):
            if word in _TIME_WORDS or (word in _UNIT_WORDS and _UNIT_WORDS[word][0] == "seconds"):
                return "seconds"
            if word in _CORE_WORDS:
                return "cores"
            if word in _SIZE_WORDS:
                return "bytes"
            if word in _COUNT_WORDS:
                return "count"
        return None


_KUBERNETES_KEY = re.compile(
    r"(?:limits|requests|capacity|allocatable|hard|default|defaultrequest|minallowed|maxallowed|max|min)"
    r"\.(?:limits\.|requests\.)?(?:cpu|memory|ephemeral-storage|storage|hugepages-\w+)\Z|\bsizelimit\Z"
)
_JVM_SIZE = re.compile(r"(?:Xmx|Xms|Xmn|Xss|XX:\w*(?:Size|Memory|Capacity))\Z")


def parse_quantity(text: str, key: str = "") -> Quantity | None:
    """Return the amount that a value means under its key, or None: no amount, or not certain which.

    Negative numbers are None: in configuration they mean "off" or "without limit", not an amount.
    """
    return _parse(text, _Hints(key)) if _may_be_amount(text) else None


def _may_be_amount(text: str | None) -> bool:
    return text is not None and len(text) <= _TEXT_CHARACTERS_MAX and text.lstrip()[:1] in _FIRST


def _parse(text: str, hints: _Hints, other: Dimension | None = None) -> Quantity | None:
    """Parse; ``other`` is the dimension of the value it was changed from or to.

    For a unit the key leaves open.
    """
    text = text.strip()
    if not text or len(text) > _TEXT_CHARACTERS_MAX or text[0] not in _FIRST:
        return None
    iso = _ISO.match(text)
    if iso:
        parts = [float(p) if p else 0.0 for p in iso.groups()]
        return _quantity(sum(p * u for p, u in zip(parts, (604800, 86400, 3600, 60, 1), strict=True)), "seconds")
    if _COMPOUND.match(text):  # 1h30m: beside another unit of time, m can only be minutes
        return _quantity(sum(_number(n) * _duration_unit(u) for n, u in _COMPOUND_PART.findall(text)), "seconds")
    amount = _AMOUNT.match(text)
    if amount is None:
        return None
    number, unit = _number(amount[1]), amount[2]
    if not unit:
        return _bare(amount[1], number, hints, other)
    if unit == "%":
        return _quantity(number / 100, "ratio")
    return _with_unit(number, unit, hints, other)


def _with_unit(number: float, unit: str, hints: _Hints, other: Dimension | None) -> Quantity | None:
    dimension = hints.dimension or other
    if hints.kubernetes:
        if unit not in _KUBERNETES:
            return None  # the API server would refuse it
        return _quantity(number * _KUBERNETES[unit], "cores" if hints.last == "cpu" else "bytes")
    if len(unit) == 1:
        return _with_letter(number, unit, hints, dimension)
    if unit in _DURATIONS or (dimension == "seconds" and unit.lower() in _DURATIONS):
        return _quantity(number * _DURATIONS.get(unit, _DURATIONS[unit.lower()]), "seconds")
    if unit.lower() in _SIZES:
        return _quantity(number * _SIZES[unit.lower()], "bytes")
    return None


def _with_letter(number: float, unit: str, hints: _Hints, dimension: Dimension | None) -> Quantity | None:
    """Read one letter, which most units share."""
    lower = unit.lower()
    if hints.jvm_size:
        return _quantity(number * _BINARY_LETTERS[lower], "bytes") if lower in _BINARY_LETTERS else None
    if unit in ("s", "h", "d", "w") or (dimension == "seconds" and lower in ("s", "h", "d", "w")):
        return _quantity(number * _DURATIONS[lower], "seconds")
    if unit == "m" and dimension == "seconds":
        return _quantity(number * 60, "seconds")
    if dimension == "cores":
        return _quantity(number / 1000, "cores") if unit == "m" else None
    if dimension == "count":
        scale = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}.get(unit)
        return _quantity(number * scale, "count") if scale else None
    if dimension == "bytes" and lower in _BINARY_LETTERS:
        # "max-size: 10k" of a cache or a queue may be entries or bytes: nobody can tell from here.
        if lower in ("k", "m") and {"cache", "pool", "queue", "batch"} & set(hints.words):
            return None
        return _quantity(number * _BINARY_LETTERS[lower], "bytes")
    if lower in ("b", "g", "t") and dimension is None:
        # Only memory is counted in these. Outside of Kubernetes' own keys their readers count 1024.
        return _quantity(number * {"b": 1, "g": _GI, "t": _TI}[lower], "bytes")
    return None  # m: minutes, mebi or milli; k, M: thousands or bytes


def _bare(text: str, number: float, hints: _Hints, other: Dimension | None) -> Quantity | None:
    """Read a number without a unit, which the key may imply."""
    if hints.kubernetes or hints.jvm_size:
        return _quantity(number, "cores" if hints.last == "cpu" else "bytes")
    if hints.last in _UNIT_WORDS:
        dimension, scale = _UNIT_WORDS[hints.last]
        return _quantity(number * scale, dimension)
    if hints.flag and re.search(r"(?:Percent|Percentage)\Z", hints.flag):
        return _quantity(number / 100, "ratio")
    if _HIKARI.search(hints.key):
        return _quantity(number / 1000, "seconds")
    if _SESSION_SECONDS.search(hints.key):
        return _quantity(number, "seconds")  # @DurationUnit(ChronoUnit.SECONDS)
    if _SPRING_MILLIS.search(hints.key):
        return _quantity(number / 1000, "seconds")  # Spring's unit of a bare Duration
    if hints.dimension == "cores":
        return _quantity(number, "cores")
    if hints.last in _NAME_WORDS or (text.startswith("0") and len(text) > 1 and text[1] != "."):
        return None  # a port, a version, an octal mode: a name written in digits
    if hints.dimension == "seconds" or other == "seconds":
        return None  # seconds or milliseconds: the key does not say
    if "." in text and "e" not in text.lower():
        # 0.75 under no telling key may be a version, a price or a share.
        return _quantity(number, "count") if hints.dimension == "count" else None
    return _quantity(number, "count")


def _quantity(value: float, dimension: Dimension) -> Quantity | None:
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return Quantity(value=value, dimension=dimension)


def _number(text: str) -> float:
    return float(text.replace("_", ""))


def _duration_unit(unit: str) -> float:
    return 60.0 if unit == "m" else _DURATIONS[unit]


def parse_pair(old: str | None, new: str | None, key: str = "") -> tuple[Quantity | None, Quantity | None]:
    """Return both amounts of a change; a unit that the key leaves open is read as the other side's is."""
    if not _may_be_amount(old) and not _may_be_amount(new):
        return None, None
    hints = _Hints(key)
    before = None if old is None else _parse(old, hints)
    after = None if new is None else _parse(new, hints)
    if before is None and after is not None and old is not None:
        before = _parse(old, hints, after.dimension)
    elif after is None and before is not None and new is not None:
        after = _parse(new, hints, before.dimension)
    return before, after


class Comparison(NamedTuple):
    """The amounts of a change; ``ratio`` is new divided by old; ``unit`` their dimension, or empty."""

    old: Quantity | None
    new: Quantity | None
    ratio: float | None
    unit: str


NOTHING_COMPARED = Comparison(None, None, None, "")


def compare(old: str | None, new: str | None, key: str = "") -> Comparison:
    """Return what a change does to the amount under a key.

    Two bare numbers under one key share their unit, so their ratio is known even where the unit is not.
    """
    before, after = parse_pair(old, new, key)
    if before is None and after is None:
        part = _differing_part(old, new)
        if part is not None:
            return compare(part[1], part[2], f"{key}.{part[0]}")
        factor = _same_unit_ratio(old.strip(), new.strip(), key) if old is not None and new is not None else None
        return Comparison(None, None, factor, "")
    if before is None or after is None:
        known = before or after
        return Comparison(before, after, None, known.dimension if known else "")
    unit = before.dimension if before.dimension == after.dimension else ""
    return Comparison(before, after, quantity_ratio(before, after), unit)


def _differing_part(old: str | None, new: str | None) -> tuple[str, str, str] | None:
    """Return the one part that differs between two values such as ``maximumSize=400,expireAfterWrite=10m``; None else."""
    if (
        old is None
        or new is None
        or "=" not in old
        or "=" not in new
        or max(len(old), len(new)) > _SHOWN_CHARACTERS_MAX * 4
    ):
        return None
    before, after = (dict(p.strip().partition("=")[::2] for p in text.split(",")) for text in (old, new))
    if before.keys() != after.keys():
        return None
    differing = [name for name in before if before[name] != after[name]]
    if len(differing) != 1 or not differing[0] or "=" in before[differing[0]] + after[differing[0]]:
        return None
    return differing[0], before[differing[0]], after[differing[0]]


def ratio(old: str | None, new: str | None, key: str = "") -> float | None:
    """Return new divided by old, or None where that says nothing."""
    return compare(old, new, key).ratio


_SAME_UNIT = re.compile(rf"({_NUMBER})\s?([A-Za-z]?)\Z")


def _same_unit_ratio(old: str, new: str, key: str) -> float | None:
    if not _may_be_amount(old) or not _may_be_amount(new):
        return None
    before, after = _SAME_UNIT.match(old), _SAME_UNIT.match(new)
    if before is None or after is None or before[2] != after[2] or not _number(before[1]):
        return None
    hints = _Hints(key)
    if hints.dimension is None or hints.last in _NAME_WORDS:
        return None
    return _number(after[1]) / _number(before[1])


def quantity_ratio(before: Quantity, after: Quantity) -> float | None:
    """Return after divided by before, or None for amounts of two kinds and for a zero."""
    if before.dimension != after.dimension or before.value <= 0:
        return None
    found = after.value / before.value
    return found if found < float("inf") else None


def describe_change(old: str | None, new: str | None, key: str = "") -> str:
    """Return a change for a person: the old value, the new one, and the factor."""
    shown = f"{_shown(old)} → {_shown(new)}"
    factor = ratio(old, new, key)
    if factor is None:
        return shown
    if abs(factor - 1) < 1e-9:
        return f"{shown} (the same amount)" if old != new else shown
    return f"{shown} ({_TIMES}{_factor(factor)})"


def _shown(text: str | None) -> str:
    if text is None:
        return "(not set)"
    text = " ".join(text.split())
    if not text:
        return "(empty)"
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[: _SHOWN_CHARACTERS_MAX - 1] + "…"


def _factor(factor: float) -> str:
    if factor >= 100:
        return f"{factor:,.0f}".replace(",", "_") if factor < 1e9 else f"{factor:.2g}"
    return f"{factor:.3g}"
