"""The checkable parts of a sentence: numbers with their units, instants, commits, keys, files, metrics.

A sentence of a model and the summary of a piece of evidence are read by the same rules, so that `24h`, `86400 s` and
`1 day` are one figure, and so that what neither rule can read counts for nothing on both sides. Pure; called by `claims`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Dimension = Literal["bytes", "seconds", "share", "factor", "count"]

_CHARACTERS_MAX = 4000  # of one text; a claim has at most 600, a summary 1,000
_ROUNDED = 0.5  # of the last digit that is written
_ABOUT = 0.06  # "about 2,500" may stand for 2,359 to 2,650
_SEEN = 0.006  # evidence is written with three figures

_UNITS: dict[str, tuple[Dimension, tuple[float, ...]]] = {
    **dict.fromkeys(("b", "byte", "bytes"), ("bytes", (1.0,))),
    # People write MB for both; either reading is taken.
    **dict.fromkeys(("k", "kb", "kib", "ki", "kilobytes"), ("bytes", (1024.0, 1e3))),
    **dict.fromkeys(("mb", "mib", "mi", "megabytes"), ("bytes", (1024.0**2, 1e6))),
    **dict.fromkeys(("g", "gb", "gib", "gi", "gigabytes"), ("bytes", (1024.0**3, 1e9))),
    **dict.fromkeys(("tb", "tib", "ti"), ("bytes", (1024.0**4, 1e12))),
    **dict.fromkeys(("ns", "nanoseconds"), ("seconds", (1e-9,))),
    **dict.fromkeys(("us", "µs", "microseconds"), ("seconds", (1e-6,))),
    **dict.fromkeys(("ms", "millis", "milliseconds", "millisecond"), ("seconds", (1e-3,))),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("seconds", (1.0,))),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), ("seconds", (60.0,))),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), ("seconds", (3600.0,))),
    **dict.fromkeys(("d", "day", "days"), ("seconds", (86400.0,))),
    **dict.fromkeys(("week", "weeks"), ("seconds", (604800.0,))),
    **dict.fromkeys(("%", "percent"), ("share", (0.01,))),
    **dict.fromkeys(("×", "x", "-fold", "fold", "times"), ("factor", (1.0,))),
}
_UNIT = "|".join(sorted((re.escape(u) for u in _UNITS if u not in ("×",)), key=len, reverse=True))
_NUMBER = r"\d{1,3}(?:[,_]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?"
_FIGURE = re.compile(
    rf"(?P<about>\b(?:about|around|roughly|nearly|almost|approximately|some|over|under|circa)\s+|[~≈]\s?)?"
    rf"(?P<factor>[×x]\s?(?=\d))?(?<![\w.])(?P<sign>[-−](?=\d)(?<=[\s(][-−]))?(?P<number>{_NUMBER})"
    rf"(?:[\s-]?(?P<unit>{_UNIT}|×)(?![A-Za-z0-9_]))?",
    re.I,
)
_COMPOUND = re.compile(r"(?<![\w.])(?:\d{1,5}\s?[dhms]\b\s?){2,4}(?![\w])")
_COMPOUND_PART = re.compile(r"(\d+)\s?([dhms])")
_WORD_FACTORS = {"doubled": 2.0, "doubles": 2.0, "twice": 2.0, "twofold": 2.0, "tripled": 3.0, "quadrupled": 4.0}
_WORD_FACTOR = re.compile(rf"\b({'|'.join(_WORD_FACTORS)}|halved|(?:by|to) half)\b", re.I)

_EVIDENCE_ID = re.compile(r"\b[A-Z]\d{1,4}\b")
_INSTANT = re.compile(r"\b(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)\s?(Z|UTC|[+-]\d\d:?\d\d)?", re.I)
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_CLOCK = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.\d+)?)?(?![\d:])\s?(?:Z|UTC)?")
# Digits alone are read as a number; that also holds where they stand for a commit, on both sides alike.
_COMMIT = re.compile(r"(?<![\w/.-])(?=[0-9a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,40}(?![\w-])(?!\.\w)")
_URL = re.compile(r"\b[a-z][a-z0-9+]{1,10}://[^\s'\"<>)]+", re.I)
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_PATH = re.compile(r"(?<![\w.-])(?:[\w.@{}$-]+/)+[\w.@{}$-]+(?::[\w.-]+)?")
_KEY = re.compile(r"(?<![\w.-])[A-Za-z_][\w-]*(?:\[[^\]\s]{0,80}\])?(?:[.][A-Za-z_][\w-]*(?:\[[^\]\s]{0,80}\])?)+")
_METRIC = re.compile(r"(?<![\w.-])[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+(?![\w-])")
_FLAG = re.compile(r"(?<![\w-])-(?:X|XX:|D)[\w.:+=%-]+")
_POD = re.compile(r"(?<![\w.-])[a-z][a-z0-9]*(?:-[a-z0-9]+)*-(?=[a-z0-9]*\d)[a-z0-9]{5,10}-[a-z0-9]{5}(?![\w-])")
_VERSION = re.compile(r"(?<![\w.])v?\d+\.\d+\.\d+(?:[.-][\w.-]+)?(?![\w])")
_DOTTED_WORDS = frozenset(("e.g", "i.e", "vs", "etc"))


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a text.

    Attributes:
        values: In base units (bytes, seconds, 0.01 for a percent); several where the unit has several readings.
        slack: Of the first value, by how it is written.
        text: As written, without blanks, in lower case.
        at: Where it begins.
    """

    values: tuple[float, ...]
    dimension: Dimension
    slack: float
    text: str
    at: int

    def agrees(self, other: Figure) -> bool:
        """Return whether both may be the same amount, each as exactly as it is written."""
        if self.dimension != other.dimension and {self.dimension, other.dimension} != {"factor", "count"}:
            return False  # "14 times" may count, or compare
        return any(
            abs(a - b) <= max(self.slack, other.slack, _SEEN * min(abs(a), abs(b)))
            for a in self.values
            for b in other.values
        )

    def is_amount(self, value: float) -> bool:
        """Return whether a computed amount may be this one."""
        return any(abs(a - value) <= max(self.slack, 2 * _SEEN * abs(value)) for a in self.values)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says that can be checked."""

    figures: tuple[Figure, ...]
    instants: tuple[tuple[datetime, float], ...]  # each with the seconds that its writing leaves open
    clocks: tuple[tuple[int, float], ...]  # seconds of a day, and what the writing leaves open
    commits: tuple[str, ...]
    names: tuple[str, ...]  # keys, files, metrics, flags, pods, versions, addresses; lower case


def read(text: str) -> Reading:
    """Return the checkable parts of a text."""
    left = text[:_CHARACTERS_MAX]
    names: list[str] = []
    instants: list[tuple[datetime, float]] = []
    for found in _INSTANT.finditer(left):
        if (instant := _instant(found)) is not None:
            instants.append(instant)
    left = _blank(_INSTANT, left)
    for pattern in (_URL, _ADDRESS, _POD):
        names += [found[0].rstrip(".,;:)").lower() for found in pattern.finditer(left)]
        left = _blank(pattern, left)
    left = _blank(_DATE, left)
    clocks = [
        (int(c[1]) * 3600 + int(c[2]) * 60 + int(c[3] or 0), 60.0 if c[3] is None else 1.0)
        for c in _CLOCK.finditer(left)
    ]
    left = _blank(_CLOCK, left)
    commits = _COMMIT.findall(left)
    for pattern in (_COMMIT, _FLAG, _PATH, _VERSION, _KEY, _METRIC):
        if pattern is not _COMMIT:
            names += [
                found[0].rstrip(".,;:").lower()
                for found in pattern.finditer(left)
                if _is_name(found[0], pattern is _PATH)
            ]
        left = _blank(pattern, left)
    left = _blank(_EVIDENCE_ID, left)
    return Reading(_figures(left), tuple(instants), tuple(clocks), tuple(commits), tuple(dict.fromkeys(names)))


def _figures(text: str) -> tuple[Figure, ...]:
    out: list[Figure] = []
    for found in _COMPOUND.finditer(text):
        seconds = sum(int(n) * _UNITS[u.lower()][1][0] for n, u in _COMPOUND_PART.findall(found[0]))
        smallest = min(_UNITS[u.lower()][1][0] for _, u in _COMPOUND_PART.findall(found[0]))
        out.append(Figure((seconds,), "seconds", smallest * _ROUNDED, "".join(found[0].split()), found.start()))
    text = _blank(_COMPOUND, text)
    for found in _WORD_FACTOR.finditer(text):
        word = found[1].lower()
        out.append(Figure((_WORD_FACTORS.get(word, 0.5),), "factor", 0.1, word, found.start()))
    for found in _FIGURE.finditer(text):
        out.append(_figure(found))
    return tuple(sorted(out, key=lambda f: f.at))


def _figure(found: re.Match[str]) -> Figure:
    digits = found["number"].replace(",", "").replace("_", "")
    number = float(digits) * (-1 if found["sign"] else 1)
    mantissa = re.split("[eE]", digits)[0]
    unit = (found["unit"] or "").lower()
    dimension, scales = _UNITS[unit] if unit else ("count", (1.0,))
    if unit == "m" and found["unit"] == "M":
        dimension, scales = "bytes", (1024.0**2, 1e6)
    if found["factor"]:
        dimension, scales = "factor", (1.0,)
    places = len(mantissa.partition(".")[2])
    exponent = int(re.split("[eE]", digits)[1]) if re.search("[eE]", digits) else 0
    slack = _ROUNDED * 10.0 ** (exponent - places)
    if 0 < abs(number) < 1:
        slack = min(slack, _ABOUT * abs(number))  # 0.1 is a tenth, not anything from 0.05 to 0.15
    if found["about"]:
        slack = max(slack, _ABOUT * abs(number))
    values = tuple(number * scale for scale in scales)
    text = re.sub(r"[\s,_]", "", found[0][len(found["about"] or "") :]).lower()
    return Figure(values, dimension, slack * scales[0], text, found.start("number"))


def _instant(found: re.Match[str]) -> tuple[datetime, float] | None:
    zone = (found[3] or "Z").upper().replace("UTC", "Z")
    try:
        value = datetime.fromisoformat(f"{found[1]}T{found[2]}{'+00:00' if zone == 'Z' else zone}")
    except ValueError:
        return None
    return value.astimezone(UTC), 1.0 if found[2].count(":") == 2 else 60.0


def _blank(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda found: " " * len(found[0]), text)


def _is_name(text: str, path: bool) -> bool:
    """Return whether a run of characters names something: `and/or`, `e.g.` and `5m/10m` do not."""
    bare = text.rstrip(".,;:").lower()
    if bare in _DOTTED_WORDS or len(bare) < 4:
        return False
    if path:
        parts = bare.split("/")
        return "." in parts[-1] or len(parts) > 2 or any(c in bare for c in "_{@$-")
    return True
