"""What models cost, counted; what would go over the budget is refused before it is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from advisor.errors import ModelRefused
from advisor.model_port import ModelRequest, ModelUsage

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

BYTES_PER_TOKEN = 3.2  # as `diagnosis.dossier` counts; errs high


class Limits(NamedTuple):
    """The bounds of one investigation, or one chat answer."""

    calls: int
    input_tokens: int
    output_tokens: int
    seconds: float
    usd: float | None


class Price(NamedTuple):
    """US dollars for a million tokens."""

    input: float
    output: float


class Meter:
    """Counts calls, tokens, seconds and money."""

    def __init__(self, limits: Limits, prices: Mapping[str, Price]) -> None:
        """Start at nothing used."""
        self._limits, self._prices = limits, prices
        self.usage = ModelUsage()

    @property
    def is_spent(self) -> bool:
        """Return whether nothing more may be asked."""
        return self._over(0) is not None

    def check(self, name: str, request: ModelRequest) -> None:
        """Refuse a request that would go over.

        Raises:
            ModelRefused: It names what is used up.
        """
        size = sum(len(m.text.encode("utf-8", "replace")) for m in request.messages)
        self.check_tokens(name, math.ceil(size / BYTES_PER_TOKEN))

    def check_tokens(self, name: str, tokens: int) -> None:
        """Refuse a request of about so many tokens that would go over.

        Raises:
            ModelRefused: It names what is used up.
        """
        over = self._over(tokens)
        if over is not None:
            raise ModelRefused(f"model {name}: not asked, the budget is used up ({over}); see model.budget")
        if self._limits.usd is not None and name not in self._prices:
            raise ModelRefused(f"model {name}: not asked, model.budget.usd is set but model.prices has no price of it")

    def _over(self, tokens: int) -> str | None:
        used, limits = self.usage, self._limits
        if used.calls >= limits.calls:
            return f"{used.calls} of {limits.calls} calls"
        if used.input_tokens + tokens > limits.input_tokens:
            return f"{used.input_tokens} + {tokens} of {limits.input_tokens} input tokens"
        if used.output_tokens >= limits.output_tokens:
            return f"{used.output_tokens} of {limits.output_tokens} output tokens"
        if used.seconds >= limits.seconds:
            return f"{used.seconds:.0f} of {limits.seconds:.0f} seconds"
        if limits.usd is not None and used.usd is not None and used.usd >= limits.usd:
            return f"{used.usd:.4f} of {limits.usd:.4f} US dollars"
        return None

    def count(self, name: str, message: BaseMessage | None, seconds: float) -> ModelUsage:
        """Add one call and return what it cost; a failed call has no message."""
        told = getattr(message, "usage_metadata", None) or {}
        tokens = int(told.get("input_tokens", 0)), int(told.get("output_tokens", 0))
        return self.add(name, 1, tokens, seconds)

    def add(self, name: str, calls: int, tokens: tuple[int, int], seconds: float) -> ModelUsage:
        """Add calls with their input and output tokens, and return what they cost."""
        price = self._prices.get(name)
        money = None if price is None else (tokens[0] * price.input + tokens[1] * price.output) / 1e6
        one = ModelUsage(calls=calls, input_tokens=tokens[0], output_tokens=tokens[1], seconds=seconds, usd=money)
        self.usage = self.usage.plus(one)
        return one
