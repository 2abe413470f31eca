"""A language model over LangChain: one call within a deadline, with retries, fallbacks, a circuit breaker and budgets.

LangChain and the makers' clients are imported only when a model is asked. Nothing that a model answers is run here: text
goes back to the caller, and in a conversation the only thing that can be called is a read-only tool of the caller's.

Not here: what is asked (`diagnosis.dossier`), what an answer is worth (`diagnosis.grounding`). Called by the workflow.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from advisor.adapters.language_model.agent import hold_conversation
from advisor.adapters.language_model.budget import Meter
from advisor.adapters.language_model.clients import ModelSettings, open_model, shaped
from advisor.adapters.language_model.failures import Failure, explain
from advisor.adapters.language_model.running import run_within
from advisor.errors import ModelError, ModelRefused, ModelUnavailable, one_line
from advisor.model_port import (
    ANSWER_CHARACTERS_MAX,
    ConversationEvent,
    ConversationLimits,
    Message,
    ModelReply,
    ModelRequest,
    ModelUsage,
    StopReason,
    Tool,
)

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

__all__ = ["ChatModels", "ModelSettings"]

BACKOFF_SECONDS = 0.5  # doubled each time, with jitter; makers ask for at least that on 429
RETRY_AFTER_MAX = 20.0  # a server that wants a minute is answered by the next model, or by none
BREAKER_FAILURES = 3
BREAKER_SECONDS = 60.0


class ChatModels:
    """A model and its fallbacks. Thread-safe for one call at a time, as an investigation or a chat answer needs it."""

    def __init__(
        self,
        models: tuple[ModelSettings, ...],
        meter: Meter,
        deadline_seconds: float,
        retries: int,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Keep the settings; nothing is imported or opened yet.

        Args:
            models: The first one is asked first.
            meter: Counts, and refuses what is over budget.
            deadline_seconds: Of all that is asked of this object, from the first `ask` on: retries, fallbacks, repairs.
            retries: Of one model, on what may pass.
            sleep: Between tries.
            chance: Jitter, 0 to 1.
        """
        if not models:
            raise ModelRefused("no model is configured; set model in advisor.yaml")
        self._models = models
        self._meter = meter
        self._deadline = deadline_seconds
        self._retries = retries
        self._sleep, self._chance = sleep, chance
        self._ends: float | None = None
        self._failed: dict[str, tuple[int, float]] = {}  # consecutive failures, and when the last one was

    @property
    def name(self) -> str:
        """Return the first model's ``provider:name``."""
        return self._models[0].name

    @property
    def usage(self) -> ModelUsage:
        """Return what was used since this object was made."""
        return self._meter.usage

    def ask(self, request: ModelRequest) -> ModelReply:
        """Return the first usable answer of the models in their order.

        Raises:
            ModelUnavailable: None answered in time.
            ModelRefused: The budget is used up, or every model was refused for good.
        """
        if self._ends is None:
            self._ends = time.monotonic() + self._deadline
        ends = self._ends
        said: list[ModelError] = []
        before = self._meter.usage
        for settings in self._models:
            try:
                reply = self._ask_one(settings, request, ends)
            except ModelError as error:
                said.append(error)
                if self._meter.is_spent or time.monotonic() >= ends:
                    break
                continue
            return reply.model_copy(update={"usage": _difference(self._meter.usage, before)})
        raise _together(said)

    def converse(
        self,
        system: str,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        limits: ConversationLimits,
        told: Callable[[ConversationEvent], None],
    ) -> ModelReply:
        """Return the final answer of a conversation with tools; the next model is tried only while nothing was told."""
        said: list[ModelError] = []
        spoke = False

        def tell(event: ConversationEvent) -> None:
            nonlocal spoke
            spoke = True
            told(event)

        for settings in self._models:
            self._check_breaker(settings.name)
            try:
                reply = hold_conversation(settings, self._meter, system, messages, tools, limits, tell)
            except ModelError as error:
                self._count_failure(settings.name, error)
                said.append(error)
                if spoke or self._meter.is_spent:
                    raise
                continue
            self._failed.pop(settings.name, None)
            return reply
        raise _together(said)

    def _ask_one(self, settings: ModelSettings, request: ModelRequest, ends: float) -> ModelReply:
        self._check_breaker(settings.name)
        mode = settings.answer_mode(request)
        for attempt in range(self._retries + 1):
            left = ends - time.monotonic()
            if left <= 0:
                raise ModelUnavailable(f"model {settings.name}: no answer within {self._deadline:.0f} s")
            self._meter.check(settings.name, request)
            try:
                return self._call(settings, request, mode, left)
            except Failure as failure:
                if failure.unsupported and (simpler := settings.simpler_mode(mode)) is not None:
                    mode = simpler  # an older server: it is asked the way it understands
                    continue
                error = failure.as_error(settings.name)
                self._count_failure(settings.name, error)
                if not failure.passing or attempt == self._retries:
                    raise error from failure
                self._wait(failure, attempt, ends)
        raise ModelUnavailable(f"model {settings.name}: no usable answer after {self._retries + 1} tries")

    def _call(self, settings: ModelSettings, request: ModelRequest, mode: str, left: float) -> ModelReply:
        began = time.monotonic()
        try:
            message = run_within(left, lambda: _invoked(settings, mode, request, left))
        except Exception as error:
            self._meter.count(settings.name, None, time.monotonic() - began)
            raise explain(error, settings, left) from error
        usage = self._meter.count(settings.name, message, time.monotonic() - began)
        self._failed.pop(settings.name, None)
        return ModelReply(text=_text_of(message), model=settings.name, stop=_stop_of(message), usage=usage)

    def _wait(self, failure: Failure, attempt: int, ends: float) -> None:
        seconds = BACKOFF_SECONDS * 2**attempt * (0.5 + self._chance())
        if failure.retry_after is not None:
            seconds = max(seconds, min(failure.retry_after, RETRY_AFTER_MAX) * (1 + 0.1 * self._chance()))
        self._sleep(max(0.0, min(seconds, ends - time.monotonic())))

    def _check_breaker(self, name: str) -> None:
        count, last = self._failed.get(name, (0, 0.0))
        left = BREAKER_SECONDS - (time.monotonic() - last)
        if count >= BREAKER_FAILURES and left > 0:
            raise ModelUnavailable(f"model {name}: not asked, it failed {count} times in a row; again in {left:.0f} s")

    def _count_failure(self, name: str, error: ModelError) -> None:
        if isinstance(error, ModelUnavailable):
            self._failed[name] = (self._failed.get(name, (0, 0.0))[0] + 1, time.monotonic())


def _invoked(settings: ModelSettings, mode: str, request: ModelRequest, seconds: float) -> AIMessage:
    with open_model(settings, seconds) as model:
        return shaped(model, settings, mode, request).invoke(_spoken(request))


def _spoken(request: ModelRequest) -> list[tuple[str, str]]:
    names = {"system": "system", "user": "human", "assistant": "ai"}
    return [(names[message.role.value], message.text) for message in request.messages]


def _text_of(message: AIMessage) -> str:
    """Return the answer as text: the arguments of the answering tool, or the text itself; bounded."""
    import json

    for call in message.tool_calls:
        return json.dumps(call["args"], ensure_ascii=False)[:ANSWER_CHARACTERS_MAX]
    content: Any = message.content
    if isinstance(content, list):
        parts = [p if isinstance(p, str) else str(p.get("text", "")) for p in content if isinstance(p, str | dict)]
        content = "".join(parts)
    return str(content)[:ANSWER_CHARACTERS_MAX]


def _stop_of(message: AIMessage) -> StopReason:
    said = message.response_metadata or {}
    reason = str(said.get("finish_reason") or said.get("stop_reason") or said.get("done_reason") or "").lower()
    if (message.additional_kwargs or {}).get("refusal") or reason in ("refusal", "content_filter"):
        return StopReason.REFUSED
    if reason in ("length", "max_tokens", "model_context_window_exceeded"):
        return StopReason.LENGTH
    return StopReason.DONE if reason in ("", "stop", "end_turn", "tool_calls", "tool_use") else StopReason.OTHER


def _difference(after: ModelUsage, before: ModelUsage) -> ModelUsage:
    money = None if after.usd is None else after.usd - (before.usd or 0.0)
    return ModelUsage(
        calls=after.calls - before.calls,
        input_tokens=after.input_tokens - before.input_tokens,
        output_tokens=after.output_tokens - before.output_tokens,
        seconds=after.seconds - before.seconds,
        usd=money,
    )


def _together(said: list[ModelError]) -> ModelError:
    if len(said) == 1:
        return said[0]
    kind = ModelUnavailable if any(isinstance(e, ModelUnavailable) for e in said) else ModelRefused
    return kind(one_line("; ".join(str(e) for e in said), 580))
