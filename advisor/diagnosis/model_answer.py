"""The shape of a model's diagnosis. What it says is judged elsewhere; here is only what it may say at all.

Bounds are part of the shape: an answer of a megabyte is no answer. Unknown fields are refused, so that a model cannot
smuggle in ``approved: true`` and find a reader. Pure; called by `dossier` (the schema) and `grounding` (the judgement).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from advisor.values import ActionType, CauseKind

TEXT_CHARACTERS_MAX = 600  # a sentence or two
CLAIMS_MAX = 12
CAUSES_MAX = 8
CITED_MAX = 8

Text = Annotated[str, Field(max_length=TEXT_CHARACTERS_MAX)]
EvidenceId = Annotated[str, Field(max_length=24)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClaimAnswer(_Part):
    """One sentence with the ids of the evidence that shows it."""

    text: Text
    evidence: tuple[EvidenceId, ...] = Field(max_length=CITED_MAX)


class CauseAnswer(_Part):
    """One possible cause: an engine hypothesis by its id (``H1`` …), or one that the model adds.

    Attributes:
        hypothesis: ``H1`` …; null for an added cause, which must then name its place.
        weight: How sure the model is, 0 to 1; it orders, it is not shown as a probability.
    """

    hypothesis: Annotated[str, Field(max_length=8)] | None
    kind: CauseKind
    service: Annotated[str, Field(max_length=120)]
    commit: Annotated[str, Field(max_length=64)] | None = None
    path: Annotated[str, Field(max_length=400)] | None = None
    key: Annotated[str, Field(max_length=400)] | None = None
    weight: float = Field(ge=0, le=1)
    why: tuple[ClaimAnswer, ...] = Field(max_length=CLAIMS_MAX)


class RemedyAnswer(_Part):
    """A choice from the closed registry of actions. Code builds the edit; the model only points."""

    type: ActionType
    commit: Annotated[str, Field(max_length=64)] | None = None
    path: Annotated[str, Field(max_length=400)] | None = None
    keys: tuple[Annotated[str, Field(max_length=400)], ...] = Field(default=(), max_length=20)
    values: tuple[Annotated[str, Field(max_length=400)], ...] = Field(default=(), max_length=20)
    fixes_cause: bool
    why: ClaimAnswer


class ModelAnswer(_Part):
    """A whole diagnosis by a model."""

    outcome: Literal["diagnosed", "inconclusive", "healthy"]
    summary: Text
    causes: tuple[CauseAnswer, ...] = Field(max_length=CAUSES_MAX)
    claims: tuple[ClaimAnswer, ...] = Field(max_length=CLAIMS_MAX)
    remedy: RemedyAnswer | None
    would_settle: Text = ""
