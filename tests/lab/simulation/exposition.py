"""Series out of a trace: how samples are spread over processes, counted up, reset at restarts, disturbed and lost.

What series are called is `vocabulary`'s business.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.lab.simulation.model import Replica, Trace

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Samples:
    """One series, as `tests.support.prometheus.write_openmetrics` wants it."""

    name: str
    labels: tuple[tuple[str, str], ...]
    times: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Noise:
    """How far what is measured is from what happened; goes into ``truth.yaml``.

    Attributes:
        measurement: Relative standard deviation of a gauge's sample.
        daily: Amplitude of the daily course of the load.
        wander: Standard deviation of the load's slow random walk (half an hour long).
        lost: Share of scrapes that fail.
        spikes: Short bursts of load for each hour.
    """

    measurement: float = 0.02
    daily: float = 0.15
    wander: float = 0.05
    lost: float = 0.002
    spikes: float = 0.3


@dataclass
class Process:
    """One process as Prometheus knows it."""

    labels: dict[str, str]
    replica: Replica
    share: np.ndarray


@dataclass
class Writer:
    """Collects the series of one service.

    Attributes:
        epoch: Of the trace's time 0.
        labels: On every series of this service.
        cluster_labels: On what the cluster says about the service: it knows namespace, pod and container, not the service's own.
        pod_names: Whether a rollout gives new names (Kubernetes), or the instance stays what it was (machines).
    """

    service: str
    trace: Trace
    epoch: float
    labels: Mapping[str, str]
    cluster_labels: Mapping[str, str]
    job: str
    noise: Noise
    rng: Any
    pod_names: bool
    port: int
    series: list[Samples] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    kept: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        """Find the processes that there were, and which scrapes fail."""
        times = self.trace.times
        self.kept = self.rng.random(len(times)) >= self.noise.lost
        slots = [(replica, self._place(replica)) for replica in self.trace.replicas]
        alive = []
        for replica, place in slots:
            up = (times >= replica.started + 1) & (times < replica.ended)
            if not self.pod_names:  # on a machine the next process starts when this one has ended
                later = [r.started for r, p in slots if p == place and r.generation > replica.generation]
                up &= times < min(later, default=np.inf)
            for killed, (begin, _) in zip(replica.kills, replica.restarts, strict=True):
                up &= ~((times > killed) & (times < begin))  # no process, nothing to scrape
            alive.append(up)
        if not slots:
            return
        together = np.maximum(1, np.sum(alive, axis=0))
        for (replica, place), up in zip(slots, alive, strict=True):
            if up.any():
                self.processes.append(Process(self._names(replica.generation, place), replica, up / together))

    def _place(self, replica: Replica) -> int:
        """Return the how-manyeth of its generation a replica is."""
        same = [r for r in self.trace.replicas if r.generation == replica.generation]
        return next(number for number, one in enumerate(same) if one is replica)

    def _names(self, generation: int, place: int) -> dict[str, str]:
        if self.pod_names:
            one = hashlib.sha256(f"{self.service}/{generation}".encode()).hexdigest()
            two = hashlib.sha256(f"{self.service}/{generation}/{place}".encode()).hexdigest()
            letters = "bcdfghjklmnpqrstvwxz2456789"
            pick = "".join(letters[int(two[i : i + 2], 16) % len(letters)] for i in range(0, 10, 2))
            return {"pod": f"{self.service}-{one[:9]}-{pick}"}
        return {"instance": f"10.4.{len(self.service) % 8}.{20 + place}:{self.port}"}

    def _keep(self, name: str, labels: Mapping[str, str], mask: np.ndarray, values: np.ndarray) -> None:
        own = self.cluster_labels if name.startswith(("container_", "kube_")) else self.labels
        job = {"container_": "kubelet", "kube_": "kube-state-metrics"}.get(name.split("_")[0] + "_", self.job)
        mask = mask & self.kept & np.isfinite(values)
        if not mask.any():
            return
        pairs = tuple(sorted({**own, "job": job, **labels}.items()))
        times = tuple(float(t) for t in self.trace.times[mask] + self.epoch)
        self.series.append(Samples(name, pairs, times, tuple(float(v) for v in values[mask])))

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        return np.array([float(f"{v:.3g}") for v in values])

    def gauge(
        self,
        name: str,
        values: np.ndarray,
        labels: Mapping[str, str] | None = None,
        *,
        split: bool = True,
        whole: bool = False,
        exact: bool = False,
        job: str = "",
    ) -> None:
        """Write a gauge for each process.

        Args:
            name: Of the metric.
            values: Of the service; of one process where not split.
            labels: Beside those of service and process.
            split: Divide by the processes.
            whole: Only integers.
            exact: Without noise: settings, states.
            job: Ignored; see `outside`.
        """
        for process in self.processes:
            part = values * process.share if split else values.copy()
            if not exact:
                part = part * self.rng.normal(1, self.noise.measurement, len(part))
            if whole:
                part = np.floor(np.maximum(part, 0) + self.rng.random(len(part))) if not exact else np.round(part)
            written = part if exact or whole else self._rounded(part)
            self._keep(name, {**process.labels, **(labels or {})}, process.share > 0, written)

    def counts(self, rate: np.ndarray, start: float) -> np.ndarray:
        """Return events in each interval at these rates."""
        step = self.trace.times[1] - self.trace.times[0]
        mean = np.maximum(rate, 0) * step
        return np.asarray(self.rng.poisson(mean), float)

    def counter(
        self,
        name: str,
        rate: np.ndarray,
        labels: Mapping[str, str] | None = None,
        *,
        sum_of: tuple[str, np.ndarray] | None = None,
        buckets: tuple[str, np.ndarray] | None = None,
        whole: bool = True,
    ) -> None:
        """Write a counter for each process; it begins anew where the process does.

        Args:
            name: Of the counter.
            rate: Events a second, of the service.
            labels: Beside those of service and process.
            sum_of: Name of a second counter, and what each event adds to it.
            buckets: Name of a histogram's buckets, and the sigma of the lognormal that ``sum_of`` gives the mean of.
            whole: Only integers.
        """
        times = self.trace.times
        step = times[1] - times[0]
        for process in self.processes:
            part = rate * process.share
            events = self.counts(part, 0) if whole else np.maximum(part, 0) * step * self.rng.normal(1, 0.02, len(part))
            starts = [process.replica.started, *(begin for begin, _ in process.replica.restarts)]
            before = max(0.0, -process.replica.started) * float(part[process.share > 0][0])
            marks = [float(b) for b in starts]
            names = {**process.labels, **(labels or {})}
            alive = process.share > 0
            total = _accumulated(times, events, marks, round(before))
            if not total[alive].any() and whole:
                total = np.zeros(len(times))
            self._keep(name, names, alive, total if whole else self._coarse(total))
            if sum_of is not None:
                mean = sum_of[1]
                wobble = self.rng.normal(1, 0.5 / np.sqrt(np.maximum(events, 1)))
                spent = _accumulated(times, events * mean * wobble, marks, before * float(mean[alive][0]))
                self._keep(sum_of[0], names, alive, np.round(spent, 2))
                if buckets is not None:
                    self._histogram(buckets, events, mean, names, alive, marks, before)

    def _coarse(self, values: np.ndarray) -> np.ndarray:
        return np.round(values, 2)

    def _histogram(
        self,
        buckets: tuple[str, np.ndarray],
        events: np.ndarray,
        mean: np.ndarray,
        names: Mapping[str, str],
        alive: np.ndarray,
        marks: list[float],
        before: float,
    ) -> None:
        name, sigma = buckets
        for bound in BUCKETS:
            share = below(bound, mean, sigma)
            counted = _accumulated(
                self.trace.times, np.round(events * share), marks, round(before * float(share[alive][0]))
            )
            self._keep(name, {**names, "le": f"{bound:g}"}, alive, counted)
        self._keep(name, {**names, "le": "+Inf"}, alive, _accumulated(self.trace.times, events, marks, round(before)))

    def started(self, name: str, *, uptime: str = "") -> None:
        """Write when each process started, in epoch seconds; and for how long it has been up."""
        times = self.trace.times
        for process in self.processes:
            starts = [process.replica.started, *(begin for begin, _ in process.replica.restarts)]
            began = np.array([max(s for s in starts if s <= t or s == starts[0]) for t in times])
            self._keep(name, process.labels, process.share > 0, np.round(self.epoch + began, 2))
            if uptime:
                self._keep(uptime, process.labels, process.share > 0, np.round(times - began, 1))

    def outside(
        self,
        name: str,
        values: np.ndarray,
        labels: Mapping[str, str],
        job: str,
        *,
        exact: bool = False,
        whole: bool = False,
        mask: np.ndarray | None = None,
    ) -> None:
        """Write a gauge that another exporter has about the service."""
        if not exact:
            values = values * self.rng.normal(1, self.noise.measurement, len(values))
        if whole:
            values = np.round(np.maximum(values, 0))
        written = values if exact or whole else self._rounded(values)
        self._keep(name, {**labels, "job": job}, mask if mask is not None else np.ones(len(values), bool), written)

    def outside_counter(
        self,
        name: str,
        rate: np.ndarray,
        labels: Mapping[str, str],
        job: str,
        *,
        begin: float = 0.0,
        whole: bool = True,
    ) -> None:
        """Write a counter that another exporter has about the service; it never begins anew."""
        step = self.trace.times[1] - self.trace.times[0]
        events = self.counts(rate, 0) if whole else np.maximum(rate, 0) * step
        total = begin + np.cumsum(events)
        self._keep(name, {**labels, "job": job}, np.ones(len(total), bool), total if whole else np.round(total, 2))


def _accumulated(times: np.ndarray, events: np.ndarray, marks: list[float], before: float) -> np.ndarray:
    """Return a counter's value over time, from zero after each mark."""
    total = np.zeros(len(times))
    value = float(before)
    pending = sorted(m for m in marks if m > times[0])
    for index, moment in enumerate(times):
        if pending and pending[0] <= moment:
            while pending and pending[0] <= moment:
                pending.pop(0)
            value = 0.0
        value += events[index]
        total[index] = value
    return total


def below(bound: float, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return which share of a lognormal of this mean is below a bound."""
    mu = np.log(np.maximum(mean, 1e-5)) - sigma**2 / 2
    z = (math.log(bound) - mu) / sigma
    return np.array([0.5 * math.erfc(-one / math.sqrt(2)) for one in z])


def quantile(q_score: float, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return a quantile of a lognormal of this mean; ``q_score`` is the normal's (2.326 for p99)."""
    return np.asarray(np.exp(np.log(np.maximum(mean, 1e-5)) - sigma**2 / 2 + q_score * sigma))
