"""Known mechanisms: which configuration key causes which trouble, through which metric, and which way.

The data is `playbooks/knobs.yaml`; this module matches keys, metric names and log lines against it, word by word, so that
``server.servlet.session.timeout``, ``SESSION_TIMEOUT_MINUTES`` and ``sessionTimeout`` are one thing. It does not weigh: what a
strength is worth is decided by `changed`, which calls it. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from advisor.errors import PlaybookInvalid, one_line
from advisor.values import Record, load_yaml

# What can go wrong with the memory of a process, and with its work. The engine calls either of them a resource.
Memory = Literal["heap", "metaspace", "threads", "direct", "rss"]
Work = Literal["latency", "errors", "pool", "workers", "queue", "cpu", "throughput", "restarts", "disk"]
# A called service can besides be given more to do without being slower yet.
Called = Literal["latency", "errors", "pool", "workers", "queue", "cpu", "throughput", "restarts", "disk", "load"]
MEMORY: frozenset[str] = frozenset(get_args(Memory))
WORK: frozenset[str] = frozenset(get_args(Work))
Strength = Annotated[float, Field(ge=0, le=1)]

KNOBS_BYTES_MAX = 1024 * 1024  # ours have 135 KB; a file of families is written by people
PHRASE_WORDS_MAX = 12  # ours have 8; the ways to run words together grow with the square
# A change whose direction is not known goes the harmful way every second time.
UNKNOWN_DIRECTION = 0.5

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[a-z]+|\d+")
# The name of a container says whose value it is, not which: "containers[worker]" holds no workers.
_CONTAINER = re.compile(r"(containers)\[[^\[\]]*\]", re.I)
# Words that say nothing about which thing a key or a metric is about.
_COMMON = frozenset(
    "spring server service app application config configuration properties data value name max min maximum minimum size "
    "limit enabled default spec template metadata containers container env java opts tool options xx com org example io "
    "seconds second ms millis minutes bytes total count current active sum bucket jvm http api shop the of per in for yaml "
    "yml json prod production main deployment setting settings memory request cpu tomcat servlet catalina manager hikari hikaricp spring open held live store task executor byte entry item element depth length capacity object caffeine guava ehcache spec lru process system time usage used connection number interval timeout ttl mode type level pool".split()
)


class Effect(StrEnum):
    """How a key acts on a resource."""

    HOLDS = "holds"
    HOLDS_WHEN_OFF = "holds_when_off"
    LIMIT = "limit"
    CODE = "code"
    EITHER = "either"
    NONE = "none"


class Harms(Record):
    """Which trouble follows a change, by the direction of the change.

    Attributes:
        smaller: The value became smaller, or was switched off.
        larger: The value became larger, or was switched on.
        other: The value merely became another one (a text), or the direction is not known.
    """

    smaller: dict[Work, Strength] = Field(default={})
    larger: dict[Work, Strength] = Field(default={})
    other: dict[Work, Strength] = Field(default={})


class HarmsCalled(Record):
    """Which trouble follows in the services that this one calls; as `Harms`, and ``load``."""

    smaller: dict[Called, Strength] = Field(default={})
    larger: dict[Called, Strength] = Field(default={})
    other: dict[Called, Strength] = Field(default={})


class Because(Record):
    """Why, in one sentence for each direction; ``says`` of the family where nothing is said."""

    smaller: str = ""
    larger: str = ""
    other: str = ""


class Knob(Record):
    """One family of keys.

    Attributes:
        keys: Phrases; a key matches if it has every word of one of them.
        moves: Memory -> strength of the mechanism, 0 to 1.
        raises: For limits: memory that a larger value lets grow.
        via: Phrases for the metric in the middle; ``=role`` names a role of the signals.
        hidden: The metric in the middle is usually not exported: its absence says nothing.
        harms: Trouble of work -> strength, by the direction of the change.
        harms_called: The same for the services that this one calls.
        because: The sentence that goes with a direction.
        signs: Phrases for metrics in the middle of a trouble of work.
        log_signs: What logs say when the mechanism acts.
        restart: The key is read when a process starts and at no other time.
        doubles_up_to: Values up to this are exponents of two, as bcrypt's cost is: each step doubles the work.
    """

    family: str = Field(pattern=r"^[a-z][a-z0-9_]+$")
    keys: tuple[str, ...]
    excluded: tuple[str, ...] = Field(default=(), alias="not")
    effect: Effect
    moves: dict[Memory, Strength]
    raises: dict[Memory, Strength] = Field(default={})
    via: tuple[str, ...] = ()
    hidden: bool = False
    harms: Harms = Field(default=Harms())
    harms_called: HarmsCalled = Field(default=HarmsCalled())
    because: Because = Field(default=Because())
    signs: tuple[str, ...] = ()
    log_signs: tuple[str, ...] = ()
    restart: bool = False
    doubles_up_to: float | None = Field(default=None, gt=0, le=64)
    says: str
    source: str

    @field_validator("keys", "excluded", "signs", "via")
    @classmethod
    def _has_words(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in phrases:
            if not words(phrase):  # it would be in every key
                raise ValueError(f"{phrase!r} has no word")
            if len(words(phrase)) > PHRASE_WORDS_MAX:
                raise ValueError(f"{phrase[:80]!r} has more than {PHRASE_WORDS_MAX} words")
        return phrases

    @field_validator("log_signs")
    @classmethod
    def _says_something(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in phrases:
            if not phrase.strip():
                raise ValueError(f"{phrase!r} has no word")
        return phrases

    @model_validator(mode="after")
    def _because_of_a_harm(self) -> Knob:
        for direction in ("smaller", "larger", "other"):
            harm = getattr(self.harms, direction) or getattr(self.harms_called, direction)
            if getattr(self.because, direction) and not harm:
                raise ValueError(f"because.{direction} gives a reason, but no harm follows from {direction}")
        return self


def parse_knobs(text: str, name: str = "knobs.yaml") -> tuple[Knob, ...]:
    """Return the families of a YAML text.

    Raises:
        PlaybookInvalid: Too large, not YAML, not a list, an unknown field or trouble, a wrong type or strength, a name twice.
    """
    if len(text) > KNOBS_BYTES_MAX:
        raise PlaybookInvalid(f"{name}: {len(text)} characters, more than {KNOBS_BYTES_MAX}; split it")
    try:
        data = load_yaml(text)
    except ValueError as error:
        raise PlaybookInvalid(f"{name}: not readable as YAML: {one_line(str(error), 200)}") from error
    if not isinstance(data, list):
        raise PlaybookInvalid(f"{name}: a list of families is wanted, found {type(data).__name__}")
    knobs: dict[str, Knob] = {}
    for number, item in enumerate(data):
        try:
            knob = Knob.model_validate(item)
        except ValidationError as error:
            raise PlaybookInvalid(f"{name}: family {number + 1}: {_first_fault(error)}") from error
        if knob.family in knobs:
            raise PlaybookInvalid(f"{name}: family {number + 1}: family: {knob.family} stands there twice")
        knobs[knob.family] = knob
    return tuple(knobs.values())


def _first_fault(error: ValidationError) -> str:
    """Return the field and what is wrong with it; pydantic marks a key of a mapping with ``[key]``."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "[key]")
    return one_line(f"{where}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": "), 300)


def step_of(knob: Knob | None, old: str | None, new: str | None, ratio: float | None) -> float | None:
    """Return by which factor a change moves what it governs: the ratio of the values, unless they are exponents."""
    if knob is None or knob.doubles_up_to is None or not ratio:
        return ratio
    try:
        before, after = float(old or ""), float(new or "")
    except ValueError:
        return ratio
    within = 0 < before <= knob.doubles_up_to and 0 < after <= knob.doubles_up_to
    return float(2.0 ** (after - before)) if within else ratio


def harm_of(knob: Knob, resource: str, direction: float | None) -> tuple[float, str] | None:
    """Return how strongly a change of this family leads to a trouble of work, from -1 to 1, and why.

    Negative where only the opposite change does harm: this one relieves. None where the family says nothing about it.

    Args:
        knob: The family of the changed key.
        resource: One of `WORK`.
        direction: > 0 where the value became larger or was switched on, < 0 where smaller or off, None where it merely
            became another one or that cannot be said.
    """
    return _harm(knob, knob.harms, resource, direction)


def harm_to_called(knob: Knob, resource: str, direction: float | None) -> tuple[float, str] | None:
    """Return the same for the services that the changed one calls; ``load`` is a trouble there too."""
    return _harm(knob, knob.harms_called, resource, direction)


def _harm(knob: Knob, harms: Harms | HarmsCalled, resource: str, direction: float | None) -> tuple[float, str] | None:
    smaller, larger, other = (_strength(one, resource) for one in (harms.smaller, harms.larger, harms.other))
    because = knob.because
    if direction is not None and direction != 0 and (smaller or larger):
        here, there = (larger, smaller) if direction > 0 else (smaller, larger)
        said, opposite = (because.larger, because.smaller) if direction > 0 else (because.smaller, because.larger)
        if here:
            return here, said or knob.says
        return -there, f"the value moved the other way ({opposite or knob.says})"
    if other:
        return other, because.other or knob.says
    if direction or not (smaller or larger):  # a known direction with neither side was settled above
        return None
    said = because.smaller if smaller >= larger else because.larger
    return UNKNOWN_DIRECTION * max(smaller, larger), f"{said or knob.says}; which way cannot be said"


def _strength(harms: dict[Work, float] | dict[Called, float], resource: str) -> float:
    return next((strength for trouble, strength in harms.items() if trouble == resource), 0.0)


# Values that are words, each list from the least to the most of what it governs.
_SCALES: tuple[tuple[str, ...], ...] = (
    ("off", "fatal", "critical", "error", "warn", "info", "debug", "trace", "all"),  # what is logged
    ("fatal", "critical", "error", "warning", "info", "debug", "trace"),
    ("none", "want", "need"),  # Spring Boot: server.ssl.client-auth
    ("none", "optional", "required"),
    ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),  # PostgreSQL: sslmode
    ("read_uncommitted", "read_committed", "repeatable_read", "serializable"),
    ("no", "everysec", "always"),  # Redis: appendfsync
    ("low", "medium", "high"),
    ("small", "medium", "large"),
    ("never", "on_failure", "always"),
)
_OFF = frozenset({"false", "off", "no", "disabled", "disable", "none", "never", "0"})
_ON = frozenset({"true", "on", "yes", "enabled", "enable", "always", "1"})


def word_direction(old: str | None, new: str | None) -> float | None:
    """Return > 0 where a value in words became more (INFO to DEBUG, off to on), < 0 where less, None where neither.

    For values that are no amounts: those have a ratio.
    """
    if old is None or new is None:
        return None
    before, after = (re.sub(r"[\s-]+", "_", v.strip().strip("\"'").lower()) for v in (old, new))
    if before == after:
        return None
    for scale in _SCALES:
        steps = [one.replace("-", "_") for one in scale]
        if before in steps and after in steps:
            return float(steps.index(after) - steps.index(before))
    if before in _OFF and after in _ON:
        return 1.0
    if before in _ON and after in _OFF:
        return -1.0
    return None


@lru_cache(maxsize=4_000)
def _sign(phrase: str) -> re.Pattern[str]:
    """Return what finds a phrase in a log line: from the beginning of a word, so that ``throttl`` is in ``throttled``.

    Numbers and short words must end there too: ``429`` is not in ``4291``, ``trace`` not in every ``traceId``.
    """
    text = r"\s+".join(re.escape(part) for part in phrase.lower().split())
    begin = r"(?<![a-z0-9])" if phrase[:1].isalnum() else ""
    whole = phrase[-1:].isdigit() or (phrase.isalnum() and len(phrase) < LONG)
    return re.compile(begin + text + (r"(?![a-z0-9])" if whole else ""))


def log_sign(knob: Knob, line: str) -> str | None:
    """Return the phrase by which a log line shows that this mechanism acts, or None."""
    text = line[:4000].lower()
    return next((phrase for phrase in knob.log_signs if _sign(phrase).search(text)), None)


@lru_cache(maxsize=20_000)
def words(text: str) -> tuple[str, ...]:
    """Return the words of a key or metric name: lower case, camelCase and separators split, plural s dropped."""
    split = _CAMEL.sub(" ", text[:500]).lower()
    return tuple(_singular(w) for w in _WORDS.findall(split))


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


LONG = 6  # letters from which on a word is looked for inside a run-together name too: shorter ones are in too many
RUN = "="  # marks neighbours run together: they must be a whole word of the key, or "log dir" would be in "log.direct"
_MATCHES_MAX = 50_000  # keys remembered by one index; a window with more distinct keys is matched anew


@dataclass(frozen=True, slots=True)
class _Phrase:
    """One phrase of one family, split once.

    Attributes:
        order: Place of its family among all: where two families fit equally well the one read first wins.
        spellings: Sets of words, one of which must be there: as written, and with neighbours run together.
    """

    order: int
    wanted: tuple[str, ...]
    spellings: tuple[frozenset[str], ...]


class _Index:
    """The phrases of all families by one of their words, so that a key meets only those it can have."""

    def __init__(self, knobs: tuple[Knob, ...]) -> None:
        self.knobs = knobs
        self._long: set[str] = set()
        self._by_word: dict[str, list[tuple[_Phrase, frozenset[str]]]] = {}
        self._excluded = [[frozenset(words(phrase)) for phrase in knob.excluded] for knob in knobs]
        self._found: dict[str, Knob | None] = {}
        phrases = [
            _Phrase(order=order, wanted=wanted, spellings=_spellings(wanted))
            for order, knob in enumerate(knobs)
            for wanted in (words(phrase) for phrase in knob.keys)
        ]
        often: dict[str, int] = {}
        for phrase in phrases:
            for spelling in phrase.spellings:
                for word in spelling:
                    often[word] = often.get(word, 0) + 1
        for phrase in phrases:
            for spelling in phrase.spellings:
                rarest = min(spelling, key=lambda word: (often[word], word))
                self._by_word.setdefault(rarest, []).append((phrase, spelling))
        for spelling in [*(s for p in phrases for s in p.spellings), *(e for one in self._excluded for e in one)]:
            self._long |= {word for word in spelling if len(word) >= LONG and not word.startswith(RUN)}

    def best(self, key: str) -> Knob | None:
        """Return the family that fits a key best."""
        if key in self._found:
            return self._found[key]
        found = self._search(words(_CONTAINER.sub(r"\1", key)))
        if len(self._found) < _MATCHES_MAX:
            self._found[key] = found
        return found

    def _search(self, parts: tuple[str, ...]) -> Knob | None:
        joined = "".join(parts)
        present = {*parts, *(RUN + part for part in parts), *(word for word in self._long if word in joined)}
        best: tuple[float, int] | None = None
        left_out: dict[int, bool] = {}
        for word in present:
            for phrase, spelling in self._by_word.get(word, ()):
                if not spelling <= present:
                    continue
                order = phrase.order
                if order not in left_out:
                    left_out[order] = any(excluded <= present for excluded in self._excluded[order])
                if left_out[order]:
                    continue
                score = (round(_score(phrase, spelling, parts), 9), -order)
                if best is None or score > best:
                    best = score
        return self.knobs[-best[1]] if best is not None else None


def _spellings(wanted: tuple[str, ...]) -> tuple[frozenset[str], ...]:
    """Return the sets of words that a phrase may stand as: ``max pool size``, ``maxpool size``, ``max poolsize``, ``maxpoolsize``."""
    out = {frozenset(wanted)}
    for start in range(len(wanted)):
        for stop in range(start + 2, len(wanted) + 1):
            run = "".join(wanted[start:stop])
            if len(run) >= LONG:  # "io" and "tls" side by side are in too many words
                out.add(frozenset((*wanted[:start], RUN + run, *wanted[stop:])))
    return tuple(sorted(out, key=sorted))


def _score(phrase: _Phrase, spelling: frozenset[str], parts: tuple[str, ...]) -> float:
    """Return the number of words, and how near to the end they stand: the end of a key says what it is.

    A run counts less than its words, or ``keep alive`` would fit ``keepalive`` better than a phrase that says so.
    """
    places = [(i + 1) / len(parts) for i, word in enumerate(parts) if word in spelling or RUN + word in spelling]
    count = (len(phrase.wanted) + len(spelling)) / 2
    return count + (sum(places) / len(places) if places else 0.0)


# One index for each list of families in use, found by identity: a process has one list, a test a few.
_indexes: list[_Index] = []
_INDEXES_MAX = 4


def _index(knobs: tuple[Knob, ...]) -> _Index:
    for index in _indexes:
        if index.knobs is knobs:
            return index
    index = _Index(knobs)
    _indexes.append(index)
    del _indexes[:-_INDEXES_MAX]
    return index


def match_knob(knobs: tuple[Knob, ...], key: str) -> Knob | None:
    """Return the family that fits a key best: the phrase with the most words, nearest to the end of the key."""
    return _index(knobs).best(key)


@lru_cache(maxsize=20_000)
def shared_words(key: str, metric: str) -> frozenset[str]:
    """Return the telling words that a key and a metric name share: the general rule for keys that nobody listed."""
    return frozenset(w for w in set(words(key)) & set(words(metric)) if len(w) > 2 and w not in _COMMON)


def speaks_of_another(via: str, key: str, metric: str, service: str) -> bool:
    """Return whether a metric is about another thing of the same family: a price cache is no tax cache.

    Both must have telling words beside the family's own, and share none of them (a common stem counts as shared).
    """
    family = set(words(via)) | set(words(service))
    own = {w for w in words(key) if len(w) > 2 and w not in _COMMON and w not in family and not w.isdigit()}
    other = {w for w in words(metric) if len(w) > 2 and w not in _COMMON and w not in family and not w.isdigit()}
    return bool(own) and bool(other) and not any(a[:4] == b[:4] for a in own for b in other)


@lru_cache(maxsize=20_000)
def metric_fits(via: str, metric: str) -> bool:
    """Return whether a metric name has every word of a ``via`` phrase."""
    have = frozenset(words(metric))
    return all(w in have for w in words(via))
