"""Makes the LangChain client of a model, bound to the way in which it is asked for structure."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from advisor.errors import SettingsInvalid
from advisor.model_port import ModelRequest

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import Runnable

# How an answer of a given shape is asked for, the strictest first.
SCHEMA, TOOL, TEXT = "schema", "tool", "text"
_MODES = (SCHEMA, TOOL, TEXT)
_TRACING = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")


@dataclass(frozen=True)
class ModelSettings:
    """One model, as it is reached.

    Attributes:
        name: ``provider:name``.
        key_from: Where the key came from, for a message; never the key.
        answer: ``auto``, or the one way in which structure is asked for.
        traces: Whether LangChain may send traces, as the environment says.
    """

    name: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    key_from: str = ""
    ca_file: str | None = None
    answer: str = "auto"
    temperature: float | None = 0.0
    seed: int | None = None
    max_output_tokens: int = 2000
    traces: bool = False

    @property
    def provider(self) -> str:
        """Return the part before the colon."""
        return self.name.partition(":")[0]

    @property
    def place(self) -> str:
        """Return whom we talk to, for a message."""
        return urlsplit(self.base_url).netloc if self.base_url else self.provider

    def answer_mode(self, request: ModelRequest) -> str:
        """Return how structure is asked for first."""
        if request.answer_schema is None:
            return TEXT
        if self.answer != "auto":
            return self.answer
        return TOOL if self.provider == "anthropic" else SCHEMA

    def simpler_mode(self, mode: str) -> str | None:
        """Return the next way to ask a server that does not know this one; None where the settings allow no other."""
        following = _MODES[_MODES.index(mode) + 1 :]
        return following[0] if following and self.answer == "auto" else None


def shaped(model: BaseChatModel, settings: ModelSettings, mode: str, request: ModelRequest) -> Runnable[Any, AIMessage]:
    """Return a model that answers in the shape of the request, as far as its server can be held to it."""
    schema = request.answer_schema
    if schema is None or mode == TEXT:
        return model
    if mode == TOOL:
        tool = {
            "type": "function",
            "function": {"name": request.schema_name, "description": "Give the answer.", "parameters": schema},
        }
        return model.bind_tools([tool], tool_choice=request.schema_name)
    if settings.provider == "ollama":
        return model.bind(format=schema)
    if settings.provider == "anthropic":
        return model.bind(output_config={"format": {"type": "json_schema", "schema": schema}})
    shape = {"name": request.schema_name, "schema": schema, "strict": False}
    return model.bind(response_format={"type": "json_schema", "json_schema": shape})


@contextmanager
def open_model(settings: ModelSettings, seconds: float) -> Iterator[BaseChatModel]:
    """Yield LangChain's chat model; the connections that it opened are closed afterwards."""
    model = make_model(settings, seconds)
    try:
        yield model
    finally:
        # The makers' clients of OpenAI and Anthropic share a pool that LangChain keeps; Ollama's and our own are ours.
        ours = getattr(getattr(model, "_client", None), "_client", None) if settings.provider == "ollama" else None
        ours = getattr(model, "http_client", None) if settings.provider == "openai" else ours
        if ours is not None:
            ours.close()


def _trusting(settings: ModelSettings) -> ssl.SSLContext:
    """Return the trust in a certificate authority of the settings.

    Raises:
        SettingsInvalid: The file cannot be read as certificates.
    """
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(f"model.ca_file {settings.ca_file}: cannot be read as certificates") from error


def make_model(settings: ModelSettings, seconds: float) -> BaseChatModel:
    """Return LangChain's chat model. Our own retries and deadline stand around it, so its own are off."""
    if not settings.traces:
        for name in _TRACING:  # an operator's environment must not send an incident to a third party
            os.environ[name] = "false"
    from langchain.chat_models import init_chat_model

    wanted: dict[str, Any] = {"timeout": seconds, "max_retries": 0, "temperature": settings.temperature}
    if settings.base_url:
        wanted["base_url"] = settings.base_url
    match settings.provider:
        case "ollama":
            wanted |= {"num_predict": settings.max_output_tokens, "seed": settings.seed}
            for name in ("timeout", "max_retries"):
                del wanted[name]
            wanted["client_kwargs"] = {
                "timeout": seconds,
                **({"verify": _trusting(settings)} if settings.ca_file else {}),
            }
        case "anthropic":
            wanted |= {"max_tokens": settings.max_output_tokens, "api_key": settings.api_key or "none"}
        case _:
            wanted |= {"max_tokens": settings.max_output_tokens, "api_key": settings.api_key or "none"}
            wanted |= {"seed": settings.seed, "stream_usage": True, "use_responses_api": False}
            if settings.ca_file:
                import httpx2

                wanted["http_client"] = httpx2.Client(verify=_trusting(settings), timeout=seconds)
    model: BaseChatModel = init_chat_model(settings.name, **{k: v for k, v in wanted.items() if v is not None})
    return model
