"""The `model` section: which language model explains, within which bounds. No model is the default.

``model: "openai:NAME"`` is short for ``model: {name: "openai:NAME"}``.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from pydantic import Field, model_validator

from advisor.settings.section import SECRET_IN_URL, Section

PROVIDERS = ("openai", "anthropic", "ollama")


class Price(Section):
    """What a model costs, in US dollars for a million tokens, and when that was looked up. Never fetched."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    as_of: date


class Budget(Section):
    """What one investigation, or one chat answer, may use; what is over is refused before it is asked."""

    calls: int = Field(default=6, ge=1, le=100)
    input_tokens: int = Field(default=60_000, ge=500)
    output_tokens: int = Field(default=12_000, ge=100)
    seconds: float = Field(default=60.0, gt=0, le=600)
    usd: float | None = Field(default=None, gt=0)


class Model(Section):
    """A language model and its bounds.

    Attributes:
        name: ``provider:name`` as LangChain's `init_chat_model` knows it.
        base_url: Of an OpenAI-compatible, Anthropic or Ollama server; None is the provider's own.
        api_key_env: The variable with the key; by default the provider's usual one.
        fallbacks: Models that are asked, in their order, when the ones before cannot answer.
        answer: How structured answers are asked for; ``auto`` by what the provider can do.
        deadline_seconds: Of all that is asked for an incident: retries, fallbacks and repairs.
        investigates: Whether the model may ask follow-up questions of the sources, read only.
        traces: Whether LangChain may send traces to a third party, as the environment says.
    """

    name: str
    base_url: str | None = None
    api_key_env: str | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None
    fallbacks: tuple[str, ...] = Field(default=(), max_length=5)
    answer: str = Field(default="auto", pattern="^(auto|schema|tool|text)$")
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    seed: int | None = 7
    max_output_tokens: int = Field(default=2_000, ge=100, le=32_000)
    input_tokens_max: int = Field(default=4_000, ge=2_000, le=200_000)
    deadline_seconds: float = Field(default=30.0, gt=0, le=600)
    retries: int = Field(default=2, ge=0, le=5)
    budget: Budget = Budget()
    prices: dict[str, Price] = Field(default={})
    investigates: bool = False
    traces: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Model:
        for name in (self.name, *self.fallbacks):
            provider, separator, rest = name.partition(":")
            if not separator or provider not in PROVIDERS or not rest.strip() or not rest.isprintable():
                raise ValueError(
                    f'model {name[:60]!r}: write "PROVIDER:NAME" with a provider of {", ".join(PROVIDERS)}'
                )
        if self.base_url is not None:
            if not re.match(r"^https?://[^\s/]", self.base_url):
                raise ValueError(f"base_url {self.base_url[:60]!r} is not an http(s) address")
            if SECRET_IN_URL.search(self.base_url) or "@" in self.base_url.split("//", 1)[1].split("/")[0]:
                raise ValueError("base_url carries a password; use api_key_env or api_key_file")
        return self
