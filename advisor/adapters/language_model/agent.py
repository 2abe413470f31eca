"""A conversation in which a model may call read-only tools: LangChain's agent, with an end to everything.

The agent has no way to write: its tools are the caller's, each checked against its schema before it runs, each bounded in
what it gives back, and an equal call is answered from the record instead of being run again.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from advisor.adapters.language_model.budget import Meter
from advisor.adapters.language_model.clients import ModelSettings, open_model
from advisor.adapters.language_model.failures import Failure, explain
from advisor.adapters.language_model.running import Overdue
from advisor.errors import AdvisorError, ModelUnavailable, one_line
from advisor.model_port import (
    ANSWER_CHARACTERS_MAX,
    ConversationEvent,
    ConversationLimits,
    Message,
    ModelReply,
    Role,
    StopReason,
    Tool,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool

_END = object()
_SHOWN_CHARACTERS = 160  # of a tool's arguments and result, for people


def hold_conversation(
    settings: ModelSettings,
    meter: Meter,
    system: str,
    messages: tuple[Message, ...],
    tools: tuple[Tool, ...],
    limits: ConversationLimits,
    told: Callable[[ConversationEvent], None],
) -> ModelReply:
    """Return the final answer; every piece of text and every step is told as it comes.

    Raises:
        ModelUnavailable: No answer in time, or the model would not come to an end.
        ModelRefused: As for one call.
    """
    size = len(system) + sum(len(m.text) for m in messages)
    meter.check_tokens(settings.name, size // 3)
    began = time.monotonic()
    session = _Session(tools, limits, told)
    calls, tokens, text = 0, (0, 0), ""
    try:
        for kind, payload in _stream_within(limits.seconds, lambda: _run(settings, system, messages, session, limits)):
            if kind == "text":
                text += payload
                told(ConversationEvent(kind="text", text=payload))
            elif kind == "message":
                usage = getattr(payload, "usage_metadata", None) or {}
                calls += 1
                tokens = (
                    tokens[0] + int(usage.get("input_tokens", 0)),
                    tokens[1] + int(usage.get("output_tokens", 0)),
                )
                if getattr(payload, "tool_calls", None):
                    text = ""  # what was said on the way to a tool is not the answer
            if len(text) > ANSWER_CHARACTERS_MAX:
                break
    except Exception as error:
        meter.add(settings.name, max(1, calls), tokens, time.monotonic() - began)
        if type(error).__name__ in ("ModelCallLimitExceededError", "GraphRecursionError"):
            raise ModelUnavailable(
                f"model {settings.name}: it came to no end within {limits.model_calls} calls; ask something narrower"
            ) from error
        failure = error if isinstance(error, Failure) else explain(error, settings, limits.seconds)
        raise failure.as_error(settings.name) from error
    usage = meter.add(settings.name, max(1, calls), tokens, time.monotonic() - began)
    return ModelReply(text=text[:ANSWER_CHARACTERS_MAX], model=settings.name, stop=StopReason.DONE, usage=usage)


class _Session:
    """The tools of one conversation, counted."""

    def __init__(
        self, tools: tuple[Tool, ...], limits: ConversationLimits, told: Callable[[ConversationEvent], None]
    ) -> None:
        self._limits, self._told = limits, told
        self._asked: Counter[str] = Counter()
        self._answers: dict[str, str] = {}
        self._calls = 0
        self._lock = threading.Lock()  # an agent may run two tools at once
        self.tools = tools

    def run(self, tool: Tool, arguments: dict[str, Any]) -> str:
        """Return what a tool says, within the limits; a fault is an answer as well, in one line."""
        key = f"{tool.name} {json.dumps(arguments, sort_keys=True, default=str)}"
        with self._lock:
            self._calls += 1
            self._asked[key] += 1
            if self._calls > self._limits.tool_calls:
                return f"refused: {self._limits.tool_calls} calls of tools were made; answer from what you have"
            if self._asked[key] > self._limits.equal_calls:
                return "refused: you asked exactly this before; answer from what you have"
            if key in self._answers:
                return self._answers[key]
        call = f"{tool.name}-{self._calls}"
        shown = one_line(json.dumps(arguments, default=str), _SHOWN_CHARACTERS)
        self._told(ConversationEvent(kind="tool_begin", tool=tool.name, text=shown, call=call))
        try:
            answer = tool.run(tool.arguments.model_validate(arguments))
        except AdvisorError as error:
            answer = f"failed: {error}"
        except Exception as error:  # noqa: BLE001 - a fault of a tool must not end the conversation
            answer = f"failed: {one_line(f'{type(error).__name__}: {error}', 200)}"
        if len(answer) > self._limits.tool_characters:
            answer = answer[: self._limits.tool_characters] + f"\n[cut: {len(answer)} characters]"
        with self._lock:
            self._answers[key] = answer
        self._told(
            ConversationEvent(kind="tool_end", tool=tool.name, text=one_line(answer, _SHOWN_CHARACTERS), call=call)
        )
        return answer


def _run(
    settings: ModelSettings, system: str, messages: tuple[Message, ...], session: _Session, limits: ConversationLimits
) -> Iterator[tuple[str, Any]]:
    with open_model(settings, limits.seconds) as model:
        yield from _stream(model, system, messages, session, limits)


def _stream(
    model: BaseChatModel, system: str, messages: tuple[Message, ...], session: _Session, limits: ConversationLimits
) -> Iterator[tuple[str, Any]]:
    from langchain.agents import create_agent
    from langchain.agents.middleware import ModelCallLimitMiddleware

    agent: Any = create_agent(
        model,
        tools=[_as_langchain(tool, session) for tool in session.tools],
        system_prompt=system,
        middleware=[ModelCallLimitMiddleware(run_limit=limits.model_calls, exit_behavior="error")],
    )
    roles = {Role.USER: "user", Role.ASSISTANT: "assistant", Role.SYSTEM: "user"}
    spoken = {"messages": [{"role": roles[m.role], "content": m.text} for m in messages]}
    bounds = {"recursion_limit": 4 * limits.model_calls + 4}  # a call takes two steps; without it the default is 9,999
    for mode, payload in agent.stream(spoken, bounds, stream_mode=["messages", "updates"]):
        if mode == "messages":
            chunk, _where = payload
            if type(chunk).__name__ in ("AIMessageChunk", "AIMessage") and (piece := _piece(chunk.content)):
                yield "text", piece
        else:
            for update in payload.values():
                for message in (update or {}).get("messages", ()):
                    if type(message).__name__ == "AIMessage":
                        yield "message", message


def _piece(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(
        p if isinstance(p, str) else str(p.get("text", ""))
        for p in content
        if isinstance(p, str) or p.get("type") == "text"
    )


def _as_langchain(tool: Tool, session: _Session) -> BaseTool:
    from langchain_core.tools import StructuredTool

    def call(**arguments: Any) -> str:
        return session.run(tool, arguments)

    return StructuredTool.from_function(
        func=call,
        name=tool.name,
        description=tool.description,
        args_schema=tool.arguments,
        handle_validation_error=True,
    )


def _stream_within(seconds: float, start: Callable[[], Iterator[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
    """Yield what a stream yields until the time is up; the stream runs in a thread that is then left behind."""
    items: queue.Queue[Any] = queue.Queue(maxsize=1000)
    stopped = threading.Event()

    def run() -> None:
        try:
            for item in start():
                if stopped.is_set():
                    return
                items.put(item)
            items.put(_END)
        except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
            items.put(error)

    threading.Thread(target=run, daemon=True, name="model-conversation").start()
    ends = time.monotonic() + seconds
    try:
        while True:
            try:
                item = items.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                raise Overdue(f"not ended within {seconds:.0f} s") from None
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
