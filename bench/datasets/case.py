"""One incident in memory, the same for every public set and every generator: what is measured, asked and true.

Loaders and generators make it, our method and its rivals read it. `truth` is for scoring only; nothing that ranks may look.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor.diagnosis.localization import Array, ServiceChange, ServiceSeries


class DatasetUnreadable(Exception):
    """A folder is not in the layout that a loader reads; one line says what is missing where."""


@dataclass(frozen=True, slots=True)
class Case:
    """One incident.

    Attributes:
        name: For people, such as ``low_traffic/issue_3``.
        group: The scenario; leave-one-scenario-out leaves out all cases of one group.
        times: Epoch seconds of the common grid; it may have gaps (a normal window of another day).
        services: Every service with its series on that grid.
        calls: Pairs of caller and callee; empty where no call graph is known.
        symptom_service: Where the trouble was seen.
        symptom_aspect: In which aspect, where that is known.
        noticed_at: About when; None where only the series tell.
        normal: From when to when all was well, where that is known.
        changes: Where given, the question is which of these changes did it; else which service.
        truth: The name of the guilty change, or the service at fault. More than one where any of them counts as right.
    """

    name: str
    group: str
    times: Array
    services: tuple[ServiceSeries, ...]
    calls: frozenset[tuple[str, str]]
    symptom_service: str
    truth: frozenset[str]
    symptom_aspect: str | None = None
    noticed_at: float | None = None
    normal: tuple[float, float] | None = None
    changes: tuple[ServiceChange, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """Return what may be answered: the changes where there are any, else the services."""
        return tuple(c.name for c in self.changes) if self.changes else tuple(s.service for s in self.services)

    def rank_of_truth(self, ranked: tuple[str, ...] | list[str]) -> int:
        """Return the place of the truth in a ranking, from 1; one past the last candidate where it is not named."""
        return next((i for i, name in enumerate(ranked, 1) if name in self.truth), len(self.candidates) + 1)

    def answers(self, services: list[str]) -> list[str]:
        """Return a ranking of services as a ranking of candidates; changes of one service keep their order."""
        if not self.changes:
            return services
        return [c.name for service in services for c in self.changes if c.service == service]
