"""What is concluded from the evidence: hypotheses with named terms, and one diagnosis, or none.

Records only; the reasoning is in `picture` (what is wrong, since when), `causes` (who could have done it) and `remedies`
(what would fix it, and what would not).
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from advisor.evidence import Evidence
from advisor.incident import Symptom
from advisor.playbook import Action, VerificationPlan
from advisor.values import CauseKind, Instant, Record, Risk


class Outcome(StrEnum):
    """How a diagnosis ended. Not knowing is an answer."""

    DIAGNOSED = "diagnosed"
    INCONCLUSIVE = "inconclusive"
    HEALTHY = "healthy"


class Cause(Record):
    """What is held responsible. Only the service is always known."""

    service: str
    commit: str | None = None
    path: str | None = None
    key: str | None = None
    old: str | None = None
    new: str | None = None
    document: int = 0
    at: Instant | None = None
    author: str | None = None
    subject: str | None = None


class Term(Record):
    """One named part of a score, in natural log-odds, with the reason a person can check."""

    name: str
    value: float
    why: str


class Hypothesis(Record):
    """A possible cause with what speaks for it and against it."""

    rank: int
    kind: CauseKind
    probability: float = Field(ge=0, le=1)
    summary: str
    cause: Cause
    for_: tuple[str, ...] = Field(default=(), serialization_alias="for")
    against: tuple[str, ...] = ()
    next_check: str = ""
    terms: tuple[Term, ...] = ()


class Claim(Record):
    """One sentence of a diagnosis with the evidence it rests on."""

    text: str
    evidence: tuple[str, ...]
    grounded: bool = True


class Diagnosis(Record):
    """The one supported cause, or the reason why there is none."""

    outcome: Outcome
    by: str = "engine"
    kind: CauseKind
    cause: Cause | None = None
    probability: float = 0.0
    summary: str
    claims: tuple[Claim, ...] = ()
    warnings: tuple[str, ...] = ()


class RejectedRemedy(Record):
    """What somebody might do, and why it would not help."""

    action: str
    why: str


class Remedy(Record):
    """An action worth proposing."""

    action: Action
    risk: Risk
    fixes_cause: bool
    summary: str


class Assessment(Record):
    """Everything that the engine has to say about an incident."""

    symptoms: tuple[Symptom, ...]
    started_at: Instant | None
    evidence: tuple[Evidence, ...]
    hypotheses: tuple[Hypothesis, ...]
    diagnosis: Diagnosis
    remedies: tuple[Remedy, ...]
    rejected_remedies: tuple[RejectedRemedy, ...]
    verification: VerificationPlan
