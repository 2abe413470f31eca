"""What is asked of a language model, and what comes back: records, and the interface that the adapter implements.

The core composes requests and judges answers; it knows no vendor. Every text that goes out was redacted before it came
here, and every text that comes back is hostile until `diagnosis.grounding` has judged it. An answer has no way to act:
it is text, or the name of a read-only tool with arguments.

Pure. Called by `diagnosis.dossier`, `chat`, `bundle` (record and replay) and the workflow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

from advisor.values import Record

ANSWER_CHARACTERS_MAX = 200_000  # a diagnosis has 4,000; what is longer is cut and cannot be valid


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Message(Record):
    """One message, redacted."""

    role: Role
    text: str


class ModelRequest(Record):
    """One call: the messages, and the JSON schema that the answer must have (None asks for plain text).

    Attributes:
        purpose: What the call is for, such as ``diagnose`` or ``repair``; for budgets and the report.
        answer_schema: JSON schema of the answer, as pydantic writes it.
        attempt: Counts equal questions, so that each of several runs is recorded for itself.
    """

    purpose: str
    messages: tuple[Message, ...]
    answer_schema: dict[str, Any] | None = None
    schema_name: str = "answer"
    attempt: int = 0


class ModelUsage(Record):
    """What calls cost. Money is None where no price is known for the model."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    usd: float | None = None

    def plus(self, other: ModelUsage) -> ModelUsage:
        """Return the sum; an unknown price makes the sum unknown, unless one side has no calls."""
        if not self.calls:
            return other
        if not other.calls:
            return self
        money = None if self.usd is None or other.usd is None else self.usd + other.usd
        return ModelUsage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            seconds=self.seconds + other.seconds,
            usd=money,
        )


class StopReason(StrEnum):
    """Why an answer ended."""

    DONE = "done"
    LENGTH = "length"  # cut at the limit of tokens
    REFUSED = "refused"  # the model, or a filter of its maker, declined
    OTHER = "other"


class ModelReply(Record):
    """One answer, as text; JSON is parsed by whoever asked for it.

    Attributes:
        model: Who answered: ``provider:name``; a fallback model names itself.
        usage: Of all attempts that this answer took, failed ones included.
    """

    text: str
    model: str
    stop: StopReason = StopReason.DONE
    usage: ModelUsage = ModelUsage()


class LanguageModel(Protocol):
    """A model behind deadline, retries, fallbacks, circuit breaker and budgets."""

    @property
    def name(self) -> str:
        """Return the first model's ``provider:name``."""
        ...

    @property
    def usage(self) -> ModelUsage:
        """Return what was used since this object was made."""
        ...

    def ask(self, request: ModelRequest) -> ModelReply:
        """Return the model's answer.

        Raises:
            ModelUnavailable: No answer in time, from no model; the message says what each said.
            ModelRefused: The other side says no for good (key, quota, unknown model, budget used up).
            ModelAnswerInvalid: An answer came that cannot be read at all.
        """
        ...


# --- conversation with tools ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tool:
    """A read-only function that a model may call.

    Attributes:
        arguments: A pydantic model; arguments that do not fit are answered with what was wrong, and nothing is run.
        run: Takes the checked arguments and returns text for the model, redacted and bounded by the caller.
    """

    name: str
    description: str
    arguments: type[BaseModel]
    run: Callable[[Any], str]


class ConversationLimits(Record):
    """Where a conversation with tools ends, whatever the model wants."""

    model_calls: int = Field(default=8, ge=1, le=50)
    tool_calls: int = Field(default=16, ge=0, le=100)
    equal_calls: int = Field(default=2, ge=1, le=10)
    tool_characters: int = Field(default=12_000, ge=100)
    seconds: float = Field(default=60.0, gt=0)


class ConversationEvent(Record):
    """What happens while a conversation runs, for people to see.

    Attributes:
        kind: ``text`` is a piece of the answer, ``tool_begin`` and ``tool_end`` a step, ``end`` how it ended.
        text: The piece; the tool's arguments; the tool's result in short; the reason of the end.
    """

    kind: Literal["text", "tool_begin", "tool_end", "end"]
    text: str
    tool: str = ""
    call: str = ""


class Conversant(Protocol):
    """A model that can hold a conversation and call read-only tools."""

    def converse(
        self,
        system: str,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        limits: ConversationLimits,
        told: Callable[[ConversationEvent], None],
    ) -> ModelReply:
        """Return the final answer; pieces and steps are told as they come.

        Raises:
            ModelError: As `LanguageModel.ask`; what was told before stays told.
        """
        ...
