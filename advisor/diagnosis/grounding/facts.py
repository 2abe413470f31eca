"""What may be cited: each piece of evidence with the figures, instants and names that stand in it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from advisor.diagnosis import Assessment
from advisor.diagnosis.grounding.figures import Reading, read
from advisor.evidence import Evidence
from advisor.values import format_instant

_SERIES = re.compile(
    r"^(?P<name>\S+?)(?:\{[^}]*\})?(?: \([^)]*\))?: (?P<first>\S+(?: [KMGT]?i?B)?) at the beginning, (?P<last>\S+(?: [KMGT]?i?B)?)"
    r" at the end, (?P<most>\S+(?: [KMGT]?i?B)?) at most"
)
_MOVE = re.compile(
    r"(?:went|rose slowly|fell slowly|rose|fell)(?: down)? (?:from (?P<old>\S+(?: [KMGT]?i?B)?) )?to (?P<new>\S+(?: [KMGT]?i?B)?)"
)
_KEY_CHANGE = re.compile(r"(?:— |; )[^\s;]+: (?P<old>[^;]{1,120}?) → (?P<new>[^;]{1,120}?)(?=;|$| and \d+ more)")
_STILL = 0.1  # a series that ends within a tenth of where it began went nowhere in particular


@dataclass(frozen=True)
class Fact:
    """One citable piece of evidence.

    Attributes:
        told: Its summary, and what the ranking says of the change it is; what a claim is held against.
        commit: Of a change.
        at: When a change took effect.
    """

    id: str
    kind: str
    summary: str
    told: str
    begins: datetime
    ends: datetime
    commit: str = ""
    at: datetime | None = None
    subject: str = ""

    @cached_property
    def reading(self) -> Reading:
        """Return the checkable parts."""
        return read(self.told)

    @cached_property
    def course(self) -> tuple[float, float, float] | None:
        """Return a series' value at the beginning, at the end and at most, in base units."""
        found = _SERIES.match(self.summary)
        if found is not None:
            return _amount(found["first"]), _amount(found["last"]), _amount(found["most"])
        move = _MOVE.search(self.summary) if self.kind == "metric" else None
        if move is not None and move["old"]:
            old, new = _amount(move["old"]), _amount(move["new"])
            return old, new, max(old, new)
        return None

    @cached_property
    def steps(self) -> tuple[tuple[str, str], ...]:
        """Return what went from which value to which, as written: keys of a change, a metric's beginning and end."""
        found = [(c["old"], c["new"]) for c in _KEY_CHANGE.finditer(self.summary)] if self.commit else []
        series, move = _SERIES.match(self.summary), _MOVE.search(self.summary)
        if series is not None:
            found += [(series["first"], series["last"]), (series["first"], series["most"])]
        elif move is not None and move["old"]:
            found.append((move["old"], move["new"]))
        return tuple(found)

    @property
    def direction(self) -> int:
        """Return 1 where a series ends higher than it began, -1 where lower, 0 where neither can be said."""
        if self.course is None:
            return 0
        first, last, most = self.course
        if last > first + _STILL * abs(first):
            return 1
        return -1 if last < first - _STILL * abs(first) and most <= first * (1 + _STILL) else 0


@dataclass(frozen=True)
class Facts:
    """All that can be cited of an incident.

    Attributes:
        words: Names that need no evidence: the services of the settings, the symptoms.
        onset: When the trouble began.
        people: Who wrote the changes.
    """

    by_id: dict[str, Fact]
    words: frozenset[str]
    onset: datetime | None
    question: str = ""
    people: frozenset[str] = field(default=frozenset())

    @cached_property
    def names(self) -> frozenset[str]:
        """Return every checkable name of all evidence."""
        return frozenset(name for fact in self.by_id.values() for name in fact.reading.names)

    @cached_property
    def commits(self) -> frozenset[str]:
        """Return the full ids of the changes."""
        return frozenset(fact.commit for fact in self.by_id.values() if fact.commit)

    def change_of(self, commit: str) -> Fact | None:
        """Return the change of a commit by its id or the beginning of it; None where it is unknown or ambiguous."""
        found = [
            f for f in self.by_id.values() if f.commit and len(commit) >= 7 and f.commit.startswith(commit.lower())
        ]
        return found[0] if len(found) == 1 else None


def gather_facts(assessment: Assessment, services: frozenset[str], question: str = "") -> Facts:
    """Return what may be cited of an assessment."""
    told: dict[str, list[str]] = {}
    by_commit = {
        e.subject.removeprefix("commit:"): e.id for e in assessment.evidence if e.subject.startswith("commit:")
    }
    for hypothesis in assessment.hypotheses:
        cause = hypothesis.cause
        holder = by_commit.get(cause.commit or "")
        holders = [holder] if holder is not None else list(hypothesis.for_)
        where = " ".join(filter(None, (cause.path, cause.key, cause.old, cause.new)))
        text = "; ".join([where, *(term.why for term in hypothesis.terms)])
        for one in holders:
            told.setdefault(one, []).append(text)
    for claim in assessment.diagnosis.claims:  # counted over several pieces by code: 14 errors of three kinds
        told.setdefault(claim.evidence[0] if claim.evidence else "", []).append(claim.text)
    facts = {e.id: _fact(e, told.get(e.id, [])) for e in assessment.evidence}
    people = {name for f in facts.values() if f.kind == "change" for name in _people(f.summary)}
    words = {*(s.lower() for s in services), *(s.value for s in assessment.symptoms)}
    return Facts(facts, frozenset(words), assessment.started_at, question, frozenset(people))


def _fact(evidence: Evidence, told: list[str]) -> Fact:
    commit = evidence.subject.removeprefix("commit:") if evidence.subject.startswith("commit:") else ""
    window = f"{format_instant(evidence.from_at)} {format_instant(evidence.to_at)}"
    return Fact(
        id=evidence.id,
        kind=str(evidence.kind),
        summary=evidence.summary,
        told="; ".join([evidence.summary, window, *told]),
        begins=evidence.from_at,
        ends=evidence.to_at,
        commit=commit,
        at=evidence.from_at if commit else None,
        subject=evidence.subject,
    )


def _people(summary: str) -> tuple[str, ...]:
    found = re.match(r"\S+ [0-9a-f]{6,40} (?P<name>[^<]{1,80}?) <(?P<local>[^@>]{1,64})@", summary)
    return (found["name"].strip().lower(), found["local"].lower()) if found else ()


def _amount(text: str) -> float:
    figures = read(text.rstrip(",")).figures
    return figures[0].values[0] if figures else 0.0
