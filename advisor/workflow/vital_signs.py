"""Reads the vital signs of a changed service and of those that call it, before and after the change.

Two questions to the metrics for each service, over the very windows that are judged. What the signs mean stands in
`verification`. Called by `verifying`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from advisor.evidence import MetricSource, Series
from advisor.evidence.aspects import Aspect, AspectSignal, main_signal, read_aspects
from advisor.gathering.metrics import choose_names, count_by_name, matcher_of, read_series
from advisor.settings import Service
from advisor.verification.vital_signs import (
    Vital,
    VitalSamples,
    effective_at,
    restarts_between,
    share_of,
)

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
CALLERS_MAX = 3  # each costs two questions, and a regression that all callers share shows in the first


@dataclass(frozen=True)
class VitalSigns:
    """What was read.

    Attributes:
        effective_at: When the change took effect, as far as restarts show it.
        samples: Of the service and of its callers.
    """

    effective_at: datetime
    samples: tuple[VitalSamples, ...]


@dataclass(frozen=True)
class Windows:
    """What is compared: from where to where, with what steps, in epoch seconds."""

    begin: float
    effective: float
    settled: float
    end: float
    step: float


def read_vital_signs(
    metrics: MetricSource,
    services: Mapping[str, Service],
    service: str,
    since: datetime,
    now: datetime,
    settle_seconds: float,
    window_seconds: float,
    step: float,
    series_max: int,
) -> VitalSigns:
    """Return the vital signs of a service and of those that say they depend on it.

    Raises:
        SourceError: The metrics cannot be asked.
    """
    begin = since.timestamp() - window_seconds
    own = _series_of(metrics, services[service], begin, now.timestamp(), step, series_max)
    effective = effective_at(own, since.timestamp(), now.timestamp())
    settled = effective + settle_seconds
    windows = Windows(begin, effective, settled, min(now.timestamp(), settled + window_seconds), step)
    found = _signs(service, own, windows)
    found.append(
        VitalSamples(
            kind=Vital.RESTARTS,
            service=service,
            before=(float(restarts_between(own, begin, since.timestamp())),),
            after=(float(restarts_between(own, effective + 1.0, windows.end)),),
        )
    )
    callers = sorted(name for name, other in services.items() if service in other.depends_on and name != service)
    for caller in callers[:CALLERS_MAX]:
        theirs = _series_of(metrics, services[caller], begin, windows.end, step, series_max)
        found += [sign for sign in _signs(caller, theirs, windows) if sign.kind is not Vital.TRAFFIC]
    return VitalSigns(since + timedelta(seconds=effective - since.timestamp()), tuple(found))


def _series_of(
    metrics: MetricSource, service: Service, begin: float, end: float, step: float, series_max: int
) -> tuple[Series, ...]:
    start, stop = (datetime.fromtimestamp(math.floor(at / step) * step, tz=UTC) for at in (begin, end))
    matcher = matcher_of(service.selector)
    counts = count_by_name(metrics, matcher, stop, stop, step)
    names = choose_names(counts, series_max) if sum(counts.values()) > series_max else ()
    return read_series(metrics, matcher, names, start, stop, step).series


def _signs(service: str, series: Sequence[Series], windows: Windows) -> list[VitalSamples]:
    first = math.floor(windows.begin / windows.step) * windows.step
    times = np.arange(first, windows.end + windows.step / 2, windows.step)
    signals = read_aspects(series, times, windows.step, service)
    before, after = times < windows.effective, times >= windows.settled
    requests = main_signal(signals, Aspect.REQUESTS)
    traffic = _rate(requests)
    found = []
    if requests is not None and traffic is not None:
        found.append(_sign(Vital.TRAFFIC, service, requests.unit, traffic, before, after))
    errors = main_signal(signals, Aspect.ERRORS)
    if errors is not None:
        found.append(_errors(service, errors, traffic, before, after))
    latency = main_signal(signals, Aspect.LATENCY)
    if latency is not None:
        found.append(_sign(Vital.LATENCY, service, latency.unit, latency.values, before, after))
    return found


def _rate(signal: AspectSignal | None) -> Array | None:
    return signal.values if signal is not None and signal.unit == "per second" else None


def _errors(
    service: str,
    errors: AspectSignal,
    traffic: Array | None,
    before: Mask,
    after: Mask,
) -> VitalSamples:
    """Return errors by request where requests are counted; a counter that begins with its first error began at none."""
    values = errors.values
    if traffic is None or errors.unit == "share":
        if errors.unit == "share" and traffic is not None:
            values = np.where(np.isfinite(values) | ~(traffic > 0), values, 0.0)
        return _sign(Vital.ERRORS, service, errors.unit, values, before, after)
    counted = np.where(np.isfinite(values), values, 0.0)
    sides = []
    for side in (before, after):
        usable = side & np.isfinite(traffic)
        sides.append(share_of(counted[usable].tolist(), traffic[usable].tolist()))
    return VitalSamples(kind=Vital.ERRORS, service=service, unit="share", before=sides[0], after=sides[1])


def _sign(
    kind: Vital,
    service: str,
    unit: str,
    values: Array,
    before: Mask,
    after: Mask,
) -> VitalSamples:
    known = np.isfinite(values)
    return VitalSamples(
        kind=kind,
        service=service,
        unit=unit,
        before=tuple(values[before & known].tolist()),
        after=tuple(values[after & known].tolist()),
    )
