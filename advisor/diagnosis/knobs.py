"""Known mechanisms: which configuration key moves which resource, through which metric, and which way.

The data is `playbooks/knobs.yaml`; this module matches keys and metric names against it, word by word, so that
``server.servlet.session.timeout``, ``SESSION_TIMEOUT_MINUTES`` and ``sessionTimeout`` are one thing. Pure.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

from pydantic import Field, ValidationError

from advisor.errors import PlaybookInvalid, one_line
from advisor.values import Record, load_yaml

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[a-z]+|\d+")
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


class Knob(Record):
    """One family of keys.

    Attributes:
        keys: Phrases; a key matches if it has every word of one of them.
        moves: Resource -> strength of the mechanism, 0 to 1.
        raises: For limits: resources that a larger value lets grow.
        via: Phrases for the metric in the middle; ``=role`` names a role of the signals.
        hidden: The metric in the middle is usually not exported: its absence says nothing.
    """

    family: str = Field(pattern=r"^[a-z][a-z0-9_]+$")
    keys: tuple[str, ...]
    excluded: tuple[str, ...] = Field(default=(), alias="not")
    effect: Effect
    moves: dict[str, float]
    raises: dict[str, float] = Field(default={})
    via: tuple[str, ...] = ()
    hidden: bool = False
    says: str
    source: str


def parse_knobs(text: str, name: str = "knobs.yaml") -> tuple[Knob, ...]:
    """Return the families of a YAML text.

    Raises:
        PlaybookInvalid: Not YAML, not a list, an unknown field or a wrong type.
    """
    try:
        data = load_yaml(text)
    except ValueError as error:
        raise PlaybookInvalid(f"{name}: not readable as YAML: {one_line(str(error), 200)}") from error
    if not isinstance(data, list):
        raise PlaybookInvalid(f"{name}: a list of families is wanted, found {type(data).__name__}")
    knobs = []
    for number, item in enumerate(data):
        try:
            knobs.append(Knob.model_validate(item))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise PlaybookInvalid(f"{name}: family {number + 1}: {where}: {first['msg']}") from error
    return tuple(knobs)


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


def _phrase_in(phrase: str, have: frozenset[str], joined: str) -> bool:
    """Return whether every word of a phrase is there; a word may also stand inside a run-together name."""
    wanted = words(phrase)
    return all(w in have or (len(w) >= 6 and w in joined) for w in wanted)


def match_knob(knobs: tuple[Knob, ...], key: str) -> Knob | None:
    """Return the family that fits a key best: the phrase with the most words, nearest to the end of the key."""
    all_words = words(key)
    if not all_words:
        return None
    have = frozenset(all_words)
    joined = "".join(all_words)
    best: tuple[float, Knob] | None = None
    for knob in knobs:
        if any(_phrase_in(phrase, have, joined) for phrase in knob.excluded):
            continue
        for phrase in knob.keys:
            if not _phrase_in(phrase, have, joined):
                continue
            wanted = words(phrase)
            # The end of a key says what it is; the words before it say where it stands.
            places = [(i + 1) / len(all_words) for i, w in enumerate(all_words) if w in wanted]
            score = len(wanted) + (sum(places) / len(places) if places else 0.0)
            if best is None or score > best[0] + 1e-9:
                best = (score, knob)
    return best[1] if best else None


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
