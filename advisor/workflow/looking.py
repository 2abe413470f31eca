"""Answers to what a person asks between the steps: a metric now, what changed since, incidents like this one, a fresh proposal.

Read only but for `propose_again`, which drafts: what it makes waits for approval like any other. Called by the chat, the
console and the command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from advisor.errors import RecordUnknown, SettingsInvalid
from advisor.evidence import ChangeAnswer, ChangeRequest
from advisor.gathering.metrics import read_metrics
from advisor.incident import open_incident
from advisor.proposal import Proposal
from advisor.workflow.files import fresh_id
from advisor.workflow.investigating import Investigating, allowed

_MEASURED_MAX = 6  # series that answer one question; more is a dashboard's work
_SIMILAR_SCANNED = 500
_WORD = re.compile(r"[a-z0-9]+")
# What people call a thing, and the words its metrics have.
_CALLED = {
    "heap": ("heap",),
    "memory": ("memory", "rss", "heap"),
    "sessions": ("session", "sessions"),
    "latency": ("latency",),
    "errors": ("errors",),
    "traffic": ("requests",),
    "load": ("requests", "cpu"),
    "connections": ("connections", "pool"),
}


@dataclass(frozen=True)
class Measured:
    """One thing that was measured over a window.

    Attributes:
        times: Epoch seconds, evenly spaced.
        values: As many; NaN where nothing was sampled.
    """

    name: str
    what: str
    unit: str
    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def known(self) -> tuple[float, ...]:
        """Return the values that were sampled."""
        return tuple(v for v in self.values if v == v)


class Looking(Investigating):
    """Answer questions from the sources and the records."""

    def measured(self, service_name: str, words: str, since: datetime, until: datetime) -> tuple[Measured, ...]:
        """Return what is measured of a service under some words, the best match first; none where nothing fits.

        Args:
            service_name: As configured.
            words: A person's: ``heap``, ``latency``, ``sessions``, or the name of a metric.
            since: The beginning of the window.
            until: Its end.

        Raises:
            SettingsInvalid: The window ends before it begins, or no Prometheus is configured.
            SourceError: Prometheus did not answer.
        """
        import numpy as np

        from advisor.evidence.aspects import read_aspects
        from advisor.evidence.signals import build_signals

        if since >= until:
            raise SettingsInvalid(f"the window from {since.isoformat()} to {until.isoformat()} is empty")
        service = self.settings.service(service_name)
        sources = self.sources(service)
        if sources.metrics is None:
            raise SettingsInvalid("prometheus is not configured; set prometheus.url")
        incident = open_incident(fresh_id("inc"), service_name, self.clock(), None, until, "")
        window = read_metrics(sources.metrics, service.selector, incident, since, self.settings.limits)
        if not window.series:
            return ()
        signals = build_signals(window.series, window.step)
        found: dict[str, tuple[int, Measured]] = {}

        def keep(key: str, what: str, unit: str, values: Any) -> None:
            score = _match(words, key, what)
            if score and np.isfinite(values).any() and key not in found:
                kept = tuple(float(v) for v in values)
                found[key] = (score, Measured(key, what, unit, tuple(float(t) for t in signals.times), kept))

        for role, signal in signals.roles.items():
            unit = "bytes" if any("bytes" in name for name in signal.names) else ""
            keep(signal.names[0] if signal.names else role, role.replace("_", " "), unit, signal.values)
        for one in read_aspects(window.series, signals.times, signals.step, service_name):
            if one.rank >= 0:
                keep(one.key, one.aspect.value, one.unit, one.values)
        for key, signal in {**signals.gauges, **signals.rates}.items():
            keep(key, "", "per second" if key in signals.rates else "", signal.values)
        best = sorted(found.values(), key=lambda pair: (-pair[0], pair[1].name))
        return tuple(one for _, one in best[:_MEASURED_MAX])

    def changes_since(self, service_name: str, since: datetime, until: datetime) -> ChangeAnswer:
        """Return the configuration changes of a service in a window, by key.

        Raises:
            SettingsInvalid: The service has no configuration.
            SourceError: The repository did not answer.
        """
        service = self.settings.service(service_name)
        configuration = service.configuration
        sources = self.sources(service)
        if configuration is None or sources.changes is None:
            raise SettingsInvalid(f"services.{service_name}.configuration is not set; its changes are not read")
        return sources.changes.changes(
            ChangeRequest(
                repository=configuration.repository,
                branch=self.settings.repositories[configuration.repository].branch,
                paths=configuration.paths,
                since=since,
                until=until,
                commits_max=self.settings.limits.commits_max,
            )
        )

    def similar_incidents(self, incident_id: str, limit: int = 5) -> list[tuple[float, dict[str, Any]]]:
        """Return earlier incidents that look like one, each with how much they share (0 to 1), the most alike first."""
        report = self.store.incident(incident_id)
        own = _traits(report)
        found: list[tuple[float, dict[str, Any]]] = []
        for line in self.store.list_incidents(_SIMILAR_SCANNED):
            if line.id == report["incident"]["id"]:
                continue
            other = self.store.incident(line.id)
            traits = _traits(other)
            shared = sum(weight for trait, weight in own.items() if trait in traits)
            total = sum({**own, **traits}.values())
            if shared and total and shared / total >= 0.25:
                found.append((shared / total, other))
        return sorted(found, key=lambda pair: -pair[0])[:limit]

    def propose_again(self, incident_id: str) -> tuple[tuple[Proposal, ...], list[str]]:
        """Draft an incident's remedies anew on the present head of the branch; they wait for approval like any other.

        Returns:
            The stored proposals, and why a remedy was not proposed.

        Raises:
            RecordUnknown: No such incident, or its recording is gone.
        """
        found = self.recorded(incident_id)
        if found is None:
            raise RecordUnknown(
                f"incident {incident_id}: its recording is gone; `advisor investigate SERVICE` proposes anew"
            )
        assessment, refused = allowed(found.assessment, self._playbook_of(found.assessment))
        proposals, warnings = self._propose(found.incident, assessment)
        for proposal in proposals:
            self.store.save_proposal(proposal)
        return proposals, refused + warnings


def default_window(now: datetime, hours: float = 1.0) -> tuple[datetime, datetime]:
    """Return the window that is meant where nobody names one."""
    return now - timedelta(hours=hours), now


def _match(words: str, key: str, what: str) -> int:
    """Return how well a measured thing fits a person's words; 0 where it does not."""
    asked = _WORD.findall(words.lower())
    if not asked:
        return 0
    if words.strip().lower() in (key.lower(), key.lower().split("{")[0]):
        return 100
    own = set(_WORD.findall(f"{key} {what}".lower().replace("_", " ")))
    score = 0
    for word in asked:
        others = (word, word.removesuffix("s"), f"{word}s", *_CALLED.get(word, ()))
        if any(other in own for other in others):
            score += 10 + (5 if word in what.lower().split() or what in others else 0)
        elif any(other in one for one in own for other in others if len(other) > 3):
            score += 4
        else:
            return 0
    return score


def _traits(report: dict[str, Any]) -> dict[str, float]:
    """Return what an incident can share with another, each with its weight."""
    diagnosis = report.get("diagnosis") or {}
    cause = diagnosis.get("cause") or {}
    traits = {f"service {report['incident']['service']}": 1.0}
    traits |= {f"symptom {s}": 1.0 for s in report["incident"].get("symptoms", ())}
    if diagnosis.get("outcome") == "diagnosed":
        traits[f"kind {diagnosis.get('kind')}"] = 0.5
    if cause.get("key"):
        traits[f"key {cause['key']}"] = 2.0
    return traits
