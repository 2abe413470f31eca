"""Lines of one shape are one template; shapes that differ in few words are merged, as Drain does.

Source: He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import ne
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from advisor.evidence import LogTemplate
from advisor.evidence.log_templates.masking import (
    ANY,
    METHODS,
    OTHER,
    REDACTED_CHARACTERS_MAX,
    REMEMBERED_MAX,
    WORDS_MAX,
    Redact,
    Words,
    abstract,
    clean,
    is_level,
    keep,
    level_of,
    same,
    shape,
)

Integers = NDArray[np.int64]

TEMPLATES_MAX = 2_000  # a large service has some hundred log statements
CLUSTERS_OF_ONE_LEAF_MAX = 50  # then lines of this length and beginning differ in everything: one template
BUCKETS_MAX = 400_000  # pairs over all templates, some 40 MB; past it counts stay right, buckets end
FIRST_WORDS_MAX = 100  # more of them, and they are names: further ones are merged like any other word
PATHS_MAX = 3  # of words that are paths; more in one message were never seen
DIFFERENT_WORDS_MAX = (
    0.3  # of the message: a third of a long one varies, of four words one may ("user alice logged in")
)
_CLASSES = ("2xx>", "3xx>", "4xx>", "5xx>")
_KINDS = frozenset((*METHODS, *(f'"{method}' for method in METHODS), *(f"<{one}" for one in _CLASSES)))
_SEPARATORS = frozenset((":", "-", "--", "|", "=>"))


@dataclass(slots=True)
class _Cluster:
    words: list[str]
    level: str
    sample: str
    first: float = float("inf")
    last: float = float("-inf")
    count: int = 0
    wild: int = 0
    buckets: dict[int, int] = field(default_factory=dict)


class _Leaf(NamedTuple):
    """Where templates are looked for: only among those of one level, length and beginning."""

    key: tuple[str, int, str, str]
    words: list[str]
    begin: int


class TemplateMiner:
    """Counts lines by shape.

    Args:
        start: Epoch seconds from which buckets are numbered.
        bucket_seconds: Width of one bucket.
        redact: Applied to samples and templates.
        templates_max: More shapes than this are counted together as ``<other>``.

    Attributes:
        words: Masked form of each word seen lately.
    """

    def __init__(
        self,
        start: float,
        bucket_seconds: float = 60.0,
        redact: Redact = same,
        templates_max: int = TEMPLATES_MAX,
    ) -> None:
        """Start without any template."""
        self.words = Words()
        self._start = start
        self._width = bucket_seconds
        self._redact = redact
        self._templates_max = templates_max
        self._known: dict[str, int] = {}
        self._leaves: dict[tuple[str, int, str, str], list[int]] = {}
        self._first_words: dict[tuple[str, int, str], set[str]] = {}
        self._clusters: list[_Cluster] = []
        self._rest: int | None = None
        self._pairs = 0

    @property
    def buckets_complete(self) -> bool:
        """Return False if there were more (template, bucket) pairs than are kept."""
        return self._pairs < BUCKETS_MAX

    def add(self, at: float, text: str, level: str = "") -> int:
        """Count one line, given without its timestamp, and return its template's number.

        Args:
            at: Epoch seconds.
            text: The line.
            level: Where it does not stand in the text.
        """
        number = self.place(text, level)
        known = self._clusters[number]
        known.count += 1
        if at < known.first:
            known.first = at
        if at > known.last:
            known.last = at
        self._fill(known, int((at - self._start) // self._width), 1)
        return number

    def place(self, text: str, level: str = "") -> int:
        """Return the number of a line's template, without counting the line."""
        masked = shape(text, self.words)
        key = level + "\0" + masked
        number = self._known.get(key)
        if number is not None:
            return number
        number = self._fitting(masked.split(), level or level_of(text))
        if number is None:
            number = self._find(text, level)
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[key] = number
        return number

    def words_of(self, number: int) -> tuple[str, ...]:
        """Return the words of a template as it stands now."""
        return tuple(self._clusters[number].words)

    def count(self, numbers: np.ndarray, at: np.ndarray) -> None:
        """Count lines that were placed before: a template's number and epoch seconds for each of them."""
        if not numbers.size:
            return
        buckets = ((at - self._start) // self._width).astype(np.int64)
        lowest = int(buckets.min())
        width = int(buckets.max()) - lowest + 1
        pairs, counts = _counted(numbers.astype(np.int64) * width + (buckets - lowest))
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            known = self._clusters[pair // width]
            known.count += count
            self._fill(known, pair % width + lowest, count)
        # Two bytes are enough for any template, and are sorted without comparing.
        order = np.argsort(numbers.astype(np.uint16) if self._templates_max < 2**16 - 1 else numbers, kind="stable")
        begins = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        firsts, lasts = np.minimum.reduceat(at[order], begins), np.maximum.reduceat(at[order], begins)
        for number, first, last in zip(numbers[order][begins].tolist(), firsts.tolist(), lasts.tolist(), strict=True):
            known = self._clusters[number]
            known.first, known.last = min(known.first, first), max(known.last, last)

    def templates(self) -> tuple[LogTemplate, ...]:
        """Return the templates, most frequent first."""
        merged: dict[tuple[str, str], LogTemplate] = {}
        for one in self._clusters:
            if not one.count:
                continue
            made = LogTemplate(
                template=keep(" ".join(one.words), self._redact),
                level=one.level,
                count=one.count,
                first_at=utc(one.first),
                last_at=utc(one.last),
                buckets=tuple(sorted(one.buckets.items())),
                sample=one.sample,
            )
            key = (made.template, made.level)
            merged[key] = _sum(merged[key], made) if key in merged else made
        return tuple(sorted(merged.values(), key=lambda t: (-t.count, t.first_at, t.template, t.level)))

    def _fill(self, known: _Cluster, bucket: int, count: int) -> None:
        if bucket in known.buckets:
            known.buckets[bucket] += count
        elif self._pairs < BUCKETS_MAX:
            known.buckets[bucket] = count
            self._pairs += 1

    def _fitting(self, words: list[str], level: str) -> int | None:
        """Return the template that a line fits as it stands: nothing of the line is kept, so nothing is redacted."""
        leaf = self._leaf(words, level)
        for number in self._leaves.get(leaf.key, ()):
            one = self._clusters[number]
            if sum(map(ne, one.words, leaf.words)) <= one.wild and _fits(one, leaf.words):
                return number
        return None

    def _find(self, text: str, level: str) -> int:
        """Find or make the template of a shape that was not met lately."""
        # Redacted before it is masked: half a secret with its digits masked would be known to no redactor.
        masked = shape(self._redact(clean(text[:REDACTED_CHARACTERS_MAX])), self.words).split()
        leaf = self._leaf(masked, level or level_of(text))
        siblings = self._leaves.get(leaf.key, [])
        nearest = _nearest([self._clusters[one] for one in siblings], leaf.words, leaf.begin)
        if nearest is not None:
            _generalise(self._clusters[siblings[nearest]], leaf.words)
            return siblings[nearest]
        if len(self._clusters) >= self._templates_max:
            if self._rest is None:
                self._rest = self._make([OTHER], "", text)
            return self._rest
        words = leaf.words
        if len(siblings) >= CLUSTERS_OF_ONE_LEAF_MAX:  # every further line of this leaf fits this one
            words = words[: leaf.begin] + [ANY] * (len(words) - leaf.begin)
        number = self._make(words, leaf.key[0], text)
        self._leaves.setdefault(leaf.key, []).append(number)
        return number

    def _leaf(self, words: list[str], level: str) -> _Leaf:
        if len(words) > WORDS_MAX:
            words = [*words[: WORDS_MAX - 1], "<more>"]
        begin = _message_begins(words)
        # Requests of different methods and answers of different classes are different events, however alike.
        kinds = sorted(_KINDS.intersection(words)) or [word for word in words if word.endswith(_CLASSES)]
        layout = (level, len(words), " ".join((*words[:begin], *kinds)))
        first = self._first_word(layout, words[begin]) if begin < len(words) else ""
        return _Leaf((*layout, first), words, begin)

    def _first_word(self, layout: tuple[str, int, str], word: str) -> str:
        """Return the word that lines of one template share: "Accepted" and "Failed" are two events."""
        if not word.isalpha():
            return ""
        words = self._first_words.setdefault(layout, set())
        if len(words) < FIRST_WORDS_MAX:
            words.add(word)
        return word if word in words else ""

    def _make(self, words: list[str], level: str, text: str) -> int:
        sample = keep(text, lambda kept: abstract(self._redact(kept)))
        self._clusters.append(_Cluster(words, level, sample, wild=words.count(ANY)))
        return len(self._clusters) - 1


def _counted(values: Integers) -> tuple[Integers, Integers]:
    """Return the different values, all of them positive or zero, and how often each comes."""
    if int(values.max()) >= 4 * values.size + 1_000:  # as many places, or more, than sorting would cost
        different, counts = np.unique(values, return_counts=True)
        return different, counts
    counts = np.bincount(values)
    different = np.flatnonzero(counts)
    return different, counts[different]


def utc(seconds: float) -> datetime:
    """Return epoch seconds as an instant, to the millisecond that logs have."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def _message_begins(words: Sequence[str]) -> int:
    """Return how many words belong to the layout (level, thread, logger), which are never merged."""
    for index, word in enumerate(words[:12]):
        if word in _SEPARATORS or (word.endswith(":") and index < 6):
            return index + 1
    for index, word in enumerate(words[:6]):
        if not (word[:1] in "[(<" or is_level(word)):
            return index
    return 0


def _nearest(siblings: Sequence[_Cluster], words: Sequence[str], begin: int) -> int | None:
    allowed = int((len(words) - begin) * DIFFERENT_WORDS_MAX)
    best, best_different = None, allowed + 1
    for index, one in enumerate(siblings):
        # Places that are already open differ from any word, so they are taken off again.
        different = sum(map(ne, one.words, words)) - one.wild
        if allowed < different <= allowed + PATHS_MAX:
            different -= sum(map(_both_are_paths, one.words, words))
        if different >= best_different:
            continue
        if different <= 0 or one.wild + different <= 2 * allowed or one.wild >= len(words) - begin:
            best, best_different = index, different
            if different <= 0:
                break
    return best


def _fits(cluster: _Cluster, words: Sequence[str]) -> bool:
    return all(mine in (ANY, other) for mine, other in zip(cluster.words, words, strict=True))


def _both_are_paths(word: str, other: str) -> bool:
    """Return whether two words differ, but as two numbered files do: that does not make another statement."""
    return word != other and "/" in word and "/" in other and "<num>" in word and "<num>" in other


def _generalise(cluster: _Cluster, words: Sequence[str]) -> None:
    for index, (mine, other) in enumerate(zip(cluster.words, words, strict=True)):
        if mine != other and mine != ANY:
            cluster.words[index] = ANY
            cluster.wild += 1


def _sum(one: LogTemplate, other: LogTemplate) -> LogTemplate:
    buckets = dict(one.buckets)
    for bucket, count in other.buckets:
        buckets[bucket] = buckets.get(bucket, 0) + count
    return LogTemplate(
        template=one.template,
        level=one.level,
        count=one.count + other.count,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
        buckets=tuple(sorted(buckets.items())),
        sample=one.sample,
    )
