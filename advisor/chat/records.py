"""What a chat answer is made of: text, the evidence it rests on, and cards that lead to a record. Pure."""

from __future__ import annotations

from typing import Literal

from advisor.values import Instant, Record


class Cited(Record):
    """A piece of evidence of an incident, to be opened."""

    incident: str
    evidence: str
    summary: str


class Card(Record):
    """A record that an answer is about; a screen links to it. Nothing can be approved from here."""

    kind: Literal["incident", "proposal", "change"]
    id: str
    text: str


class Plot(Record):
    """A measured series to draw in an answer; values that were not sampled are None."""

    name: str
    unit: str
    times: tuple[float, ...]
    values: tuple[float | None, ...]


class Said(Record):
    """One answer.

    Attributes:
        text: Plain text; lines that begin with a blank are indented details.
        status: What the records say of actions, written by code; shown beside whatever a model said.
        incident: What the conversation is about from here on.
        by: ``engine``, or the model that wrote the text.
        note: Why a model did not answer, or what was struck.
    """

    text: str
    evidence: tuple[Cited, ...] = ()
    cards: tuple[Card, ...] = ()
    plots: tuple[Plot, ...] = ()
    status: tuple[str, ...] = ()
    incident: str | None = None
    by: str = "engine"
    note: str = ""


class Turn(Record):
    """One exchange of a conversation."""

    at: Instant
    question: str
    said: Said


class Conversation(Record):
    """What one person and the advisor said to each other."""

    id: str
    person: str
    started_at: Instant
    updated_at: Instant
    turns: tuple[Turn, ...] = ()
    incident: str | None = None

    @property
    def title(self) -> str:
        """Return the first question, cut."""
        first = self.turns[0].question if self.turns else ""
        return first if len(first) <= 60 else first[:59] + "…"
