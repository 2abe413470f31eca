"""Templates ranked by how strongly their rate changed at the onset: new, more, fewer, gone.

Pure arithmetic on the counts of a `LogAnswer`. Does not say why a rate changed; the engine and the dossier ask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from advisor.evidence import LogAnswer, LogTemplate
from advisor.values import Instant, Record

MOVES_MAX = 50  # nobody reads more, and a model's dossier holds fewer
MOVED_SCORE_MIN = 3.0  # standard deviations; with some hundred templates, fewer would show chance
NEW_SCORE_MIN = 2.0  # of what does not name itself a warning or an error
RATIO_MIN = 2.0  # less than doubled or halved is no change that a person would act on
RATIO_MAX = 1e6
BASELINE_BUCKETS_MIN = 2.0  # a shorter time before the onset makes everything new
_WIDTHS = (60.0, 30.0, 15.0, 10.0, 5.0, 1.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0)
_RANKS = {"FATAL": 0, "ERROR": 0, "WARN": 1}

Kind = Literal["new", "more", "fewer", "gone"]


class TemplateMove(Record):
    """How a template's rate changed at the onset.

    Attributes:
        count: Lines after the onset; of what is gone, lines before it.
        ratio: Rate after the onset divided by the rate before; half a line is added to both counts, so that the
            ratio of what is new or gone is a number too.
        score: How surprising the change is, in standard deviations.
    """

    template: str
    level: str
    count: int
    kind: Kind
    ratio: float
    first_at: Instant
    score: float


class _Grid(NamedTuple):
    """Where buckets lie in time."""

    start: float
    width: float


def relevant_templates(answer: LogAnswer, onset: float | None, until: float) -> tuple[TemplateMove, ...]:
    """Return the templates whose rate changed at the onset: errors first, then warnings, then by surprise.

    A bucket before the onset counts as after it: an onset is not known better than that. Where there is no onset, or
    nothing before it to compare with, a template has moved if one of its buckets stands out from its others.

    Args:
        answer: Counted in buckets.
        onset: Epoch seconds at which the trouble began, as far as known.
        until: Epoch seconds; what comes later is left out.
    """
    grid = _grid(answer)
    if grid is None or answer.first_at is None:
        return ()
    begin = max(answer.first_at.timestamp(), grid.start)
    onset = None if onset is None or not math.isfinite(onset) else onset - grid.width
    if onset is not None and onset >= until:
        return ()
    if onset is None or onset - begin < BASELINE_BUCKETS_MIN * grid.width:
        moves = [_burst(one, grid, begin, until) for one in answer.templates]
    else:
        moves = [_move(one, grid, begin, onset, until) for one in answer.templates]
    found = [one for one in moves if one is not None]
    found.sort(key=lambda one: (_RANKS.get(one.level, 2), -one.score, one.first_at, one.template))
    return tuple(found[:MOVES_MAX])


def _move(one: LogTemplate, grid: _Grid, begin: float, onset: float, until: float) -> TemplateMove | None:
    before, after = _split(one, grid, onset, until)
    seconds_before, seconds_after = onset - begin, until - onset
    ratio = (after + 0.5) / seconds_after / ((before + 0.5) / seconds_before)
    score = _surprise(before, after, seconds_before, seconds_after) / math.sqrt(_dispersion(one, grid, begin, onset))
    troubled = one.level in _RANKS
    if before < 0.5:
        if after < 0.5 or not (troubled or score >= NEW_SCORE_MIN):
            return None
        return _made(one, after, "new", ratio, score)
    if score < MOVED_SCORE_MIN:
        return None
    # The onset was moved back by a bucket, and may as well be a bucket early: what ends around it is gone.
    if ratio < 1 and one.last_at.timestamp() < onset + 2 * grid.width <= until - grid.width:
        return _made(one, before, "gone", ratio, score)
    if ratio >= RATIO_MIN:
        return _made(one, after, "more", ratio, score)
    return _made(one, after, "fewer", ratio, score) if ratio <= 1 / RATIO_MIN else None


def _burst(one: LogTemplate, grid: _Grid, begin: float, until: float) -> TemplateMove | None:
    """Return a template whose fullest bucket stands out from the others, or that names itself an error."""
    counts = [count for bucket, count in one.buckets if grid.start + bucket * grid.width <= until]
    if not counts:
        return None
    buckets = max(math.ceil((until - begin) / grid.width), len(counts))
    most = max(counts)
    rest = sum(counts) - most
    ratio = (most + 0.5) / ((rest + 0.5) / max(buckets - 1, 1))
    score = _surprise(rest, most, max(buckets - 1, 1), 1.0) / math.sqrt(_spread(sorted(counts)[:-1], buckets - 1))
    if buckets < 3 or ratio < RATIO_MIN or score < MOVED_SCORE_MIN:
        return None
    return _made(one, sum(counts), "more", ratio, score)


def _made(one: LogTemplate, count: float, kind: Kind, ratio: float, score: float) -> TemplateMove:
    return TemplateMove(
        template=one.template,
        level=one.level,
        count=round(count),
        kind=kind,
        ratio=round(min(max(ratio, 1 / RATIO_MAX), RATIO_MAX), 6),
        first_at=one.first_at,
        score=round(score, 3),
    )


def _split(one: LogTemplate, grid: _Grid, onset: float, until: float) -> tuple[float, float]:
    """Return how many lines came before and after the onset; a bucket across it is shared out by time."""
    if one.first_at.timestamp() >= onset:
        onset = -math.inf
    before = after = 0.0
    for bucket, count in one.buckets:
        begin = grid.start + bucket * grid.width
        if begin > until:
            continue
        share = min(max((onset - begin) / grid.width, 0.0), 1.0)
        before += count * share
        after += count * (1.0 - share)
    return before, after


def _surprise(before: float, after: float, seconds_before: float, seconds_after: float) -> float:
    """Return the square root of the deviance of two counts from one common rate."""
    whole, seconds = before + after, seconds_before + seconds_after
    if whole <= 0 or seconds_before <= 0 or seconds_after <= 0:
        return 0.0
    deviance = 0.0
    for count, part in ((before, seconds_before), (after, seconds_after)):
        if count > 0:
            deviance += count * math.log(count / (whole * part / seconds))
    return math.sqrt(max(2.0 * deviance, 0.0))


def _dispersion(one: LogTemplate, grid: _Grid, begin: float, onset: float) -> float:
    counts = [
        count
        for bucket, count in one.buckets
        if begin - grid.width <= grid.start + bucket * grid.width <= onset - grid.width
    ]
    return _spread(counts, math.floor((onset - begin) / grid.width))


def _spread(counts: Sequence[int], buckets: int) -> float:
    """Return variance by mean of counts among so many buckets, the empty ones too: 1 for chance, more for bursts."""
    if buckets < 3 or not counts:
        return 1.0
    mean = sum(counts) / buckets
    squares = sum((count - mean) ** 2 for count in counts) + max(buckets - len(counts), 0) * mean**2
    return max(1.0, squares / (buckets - 1) / mean)


def _grid(answer: LogAnswer) -> _Grid | None:
    """Return width and beginning of the buckets, from what the templates say: the answer does not carry them.

    Each template's first and last instant lie in its first and last bucket. The usual width is tried first.
    """
    if answer.counted_from is not None and answer.bucket_seconds > 0:
        return _Grid(answer.counted_from.timestamp(), answer.bucket_seconds)
    seen = [
        (bucket, at.timestamp())
        for one in answer.templates
        if one.buckets
        for bucket, at in ((one.buckets[0][0], one.first_at), (one.buckets[-1][0], one.last_at))
    ]
    if not seen:
        return None
    for width in _WIDTHS:
        latest = min(at - bucket * width for bucket, at in seen)
        earliest = max(at - (bucket + 1) * width for bucket, at in seen)
        if earliest <= latest + 0.002:  # instants are rounded to the millisecond
            return _Grid((max(earliest, latest - width) + latest) / 2, width)
    return None
