"""How recovery is told after a change: the incident's own signal, the metric in the middle, and no restart. Pure."""

from __future__ import annotations

import math
import re

import numpy as np

from advisor.diagnosis.candidate import Candidate
from advisor.diagnosis.picture import WORDS, Picture
from advisor.diagnosis.work import LOG_KEY
from advisor.evidence import Gathered, Series
from advisor.evidence.aspects import Aspect, AspectSignal, is_error
from advisor.evidence.signals import Signal, is_counter
from advisor.playbook import Check, Comparison, Measure, VerificationPlan


def plan_verification(
    top: Candidate | None,
    picture: Picture,
    gathered: Gathered,
    settle_seconds: int,
    window_seconds: int,
    samples_min: int,
) -> VerificationPlan:
    """Return what must hold after a change: the vital signal, the metric in the middle, no restart, no more errors."""
    signals = picture.signals
    checks: list[Check] = (
        _memory_checks(top, picture, gathered) if picture.of_memory else _work_checks(picture, gathered)
    )
    middle = _middle_check(top, picture, gathered)
    if middle is not None:
        checks.append(middle)
    start = signals.get("start_time")
    if start is not None:
        checks.append(
            Check(
                name="no restart",
                query=_query(start, gathered, "max"),
                measure=Measure.CHANGES,
                comparison=Comparison.AT_MOST,
                threshold=0,
                guard=True,
            )
        )
    return VerificationPlan(
        checks=tuple(checks), settle_seconds=settle_seconds, window_seconds=window_seconds, samples_min=samples_min
    )


def _memory_checks(top: Candidate | None, picture: Picture, gathered: Gathered) -> list[Check]:
    """Return the checks of memory: what is held is back at its level, and a limit that was lowered is back too."""
    checks: list[Check] = []
    signals = picture.signals
    vital_role = {
        "heap": "heap_used",
        "metaspace": "metaspace_used",
        "threads": "threads",
        "direct": "direct_used",
        "rss": "rss",
    }[picture.resource]
    vital = signals.get(vital_role)
    ceiling = picture.limit
    if vital is not None and picture.trouble_at is not None:
        limit = _recovered_below(picture, ceiling)
        if limit is not None:
            measure = Measure.FLOOR if picture.resource in ("heap", "direct") else Measure.MEAN
            checks.append(
                Check(
                    name=f"{WORDS[picture.resource]} is back",
                    query=_query(vital, gathered, "max"),
                    measure=measure,
                    comparison=Comparison.AT_MOST,
                    threshold=limit,
                    unit="" if vital_role == "threads" else "bytes",
                )
            )
    if picture.squeezed and top is not None:
        role = {"heap": "heap_max", "metaspace": "metaspace_max", "direct": "direct_max", "rss": "memory_limit"}.get(
            picture.resource
        )
        limit_signal = signals.get(role) if role else None
        known = picture.ceiling[np.isfinite(picture.ceiling)]
        if limit_signal is not None and known.size:
            checks.append(
                Check(
                    name=f"limit of {WORDS[picture.resource]} is back",
                    query=_query(limit_signal, gathered, "max"),
                    measure=Measure.LAST,
                    comparison=Comparison.AT_LEAST,
                    threshold=round(0.97 * float(known.max())),
                    unit="bytes",
                )
            )
    return checks


def _middle_check(top: Candidate | None, picture: Picture, gathered: Gathered) -> Check | None:
    """Return the check of the metric between cause and trouble, where a gauge shows it."""
    if (
        top is None
        or top.middle is None
        or top.middle_growth is None
        or top.middle_growth <= 1.3
        or picture.squeezed
        or top.middle.role not in picture.signals.gauges
    ):
        return None
    gauge = picture.signals.gauges[top.middle.role]
    before = growth_base(picture, gauge, top.effective_at)
    if before is None:
        return None
    return Check(
        name=f"{top.middle.names[0]} is back",
        query=_query(gauge, gathered, "sum"),
        measure=Measure.MEAN,
        comparison=Comparison.AT_MOST,
        threshold=float(f"{max(1.5 * before, before + 5):.4g}"),
    )


def _work_checks(picture: Picture, gathered: Gathered) -> list[Check]:
    """Return the check that the signal in trouble is back near its level before."""
    work = picture.work
    if work is None or work.shift is None or not work.signal.series or work.signal.names[:1] == (LOG_KEY,):
        return []
    asked = question_of(work.signal, gathered.metric_query, gathered.step_seconds)
    if asked is None:
        return []
    query, factor = asked
    if not math.isfinite(factor):
        return []
    before, after = work.shift.before * factor, work.shift.after * factor
    # Two thirds of the way back is recovery; the last third is noise, and traffic that is not the same as before.
    threshold = before + (after - before) / 3
    return [
        Check(
            name=f"{WORDS[picture.resource]} is back",
            query=query,
            measure=Measure.MEAN,
            comparison=Comparison.AT_MOST if work.signal.worse > 0 else Comparison.AT_LEAST,
            threshold=float(f"{threshold:.4g}"),
            unit=work.signal.unit if factor == 1.0 else "",
        )
    ]


def question_of(signal: AspectSignal, selector: str, step: float) -> tuple[str, float] | None:
    """Return PromQL that measures a signal again, and the factor from its values to the query's; None where none does.

    Args:
        signal: Of the service; made of one or two metrics.
        selector: The service's matchers in braces.
        step: Seconds between samples, for the window of a rate.
    """
    span = f"{max(60, round(4 * step))}s"

    def rate(name: str, matchers: str = "") -> str:
        return f"sum(rate({name}{{{selector.strip('{}')}{matchers}}}[{span}]))"

    names = list(dict.fromkeys(signal.names))
    total = next((n for n in names if n.endswith("_sum")), None)
    count = next((n for n in names if n.endswith("_count")), None)
    if signal.aspect is Aspect.LATENCY and total and count:
        return f"{rate(total)} / {rate(count)}", _per_second(total)
    if signal.aspect is Aspect.ERRORS and signal.unit == "share" and len(names) == 1:
        failed = _failed_matcher(signal.series)
        return (f"{rate(names[0], failed)} / {rate(names[0])}", 1.0) if failed else None
    if len(names) != 1:
        return None
    if is_counter(names[0]):
        return rate(names[0]), 1.0 if signal.unit == "per second" else math.nan
    if signal.unit == "share":
        return None
    return f"sum({names[0]}{{{selector.strip('{}')}}})", 1.0


def _per_second(name: str) -> float:
    """Return how many units of a metric's name are a second."""
    lowered = name.lower()
    if "milli" in lowered or re.search(r"(?:^|_)ms(?:_|$)", lowered):
        return 1000.0
    return 1e6 if "micro" in lowered else 1e9 if "nano" in lowered else 1.0


def _failed_matcher(series: tuple[Series, ...]) -> str:
    """Return the matcher of those series that count failures, by the one label that tells them apart."""
    failed = [s for s in series if is_error(dict(s.labels))]
    if not failed:
        return ""
    for name in ("status", "code", "status_code", "response_code", "http_response_status_code", "grpc_code", "outcome"):
        values = sorted({s.label(name) for s in failed})
        if all(values) and not any(s.label(name) in values for s in series if s not in failed):
            return f',{name}=~"{"|".join(_escaped(re.escape(v)) for v in values)}"'
    return ""


def _recovered_below(picture: Picture, ceiling: float | None) -> float | None:
    if picture.squeezed and ceiling is not None:
        known = picture.ceiling[np.isfinite(picture.ceiling)]
        return round(0.9 * float(known.max()))
    options = []
    if picture.baseline:
        # A small baseline swings by more than half of itself without anything being wrong.
        options.append(max(1.5 * picture.baseline, picture.baseline + 0.2 * (ceiling or 0.0)))
    if ceiling:
        options.append(0.75 * ceiling)
    return round(min(options)) if options else None


def growth_base(picture: Picture, signal: Signal, since: float | None) -> float | None:
    """Return a signal's usual level before an instant (the onset by default)."""
    at = since if since is not None else (picture.onset.at if picture.onset else None)
    if at is None:
        return None
    values = signal.values[picture.signals.times < at]
    values = values[np.isfinite(values)]
    return float(np.median(values[values.size // 6 :])) if values.size >= 4 else None


def _query(signal: Signal, gathered: Gathered, outer: str) -> str:
    """Return bounded PromQL for a signal: its own names and the labels all its series share, with the service's matchers."""
    shared = set(signal.series[0].labels)
    for series in signal.series[1:]:
        shared &= set(series.labels)
    kinds = [
        (k, v)
        for k, v in sorted(shared)
        if k
        in (
            "area",
            "id",
            "pool",
            "type",
            "jvm_memory_type",
            "jvm_memory_pool_name",
            "cache",
            "name",
            "queue",
            "state",
            "resource",
        )
    ]
    matchers = ",".join([gathered.metric_query.strip("{}"), *(f'{k}="{_escaped(v)}"' for k, v in kinds)])
    names = list(dict.fromkeys(signal.names))
    name = names[0]
    inner = f"{name}{{{matchers}}}"
    per_replica = "sum by (instance, pod) " if outer == "max" and len(signal.series) > 1 else ""
    return f"{outer}({per_replica}({inner}))" if per_replica else f"{outer}({inner})"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
