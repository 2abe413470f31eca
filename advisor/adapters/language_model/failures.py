"""What went wrong with a call, told apart: may it pass, is it for good, or does the server not know the way it was asked."""

from __future__ import annotations

import contextlib
import json
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from advisor.adapters.language_model.running import Overdue
from advisor.errors import ModelAnswerInvalid, ModelError, ModelRefused, ModelUnavailable, one_line
from advisor.redaction import redact

if TYPE_CHECKING:
    from advisor.adapters.language_model.clients import ModelSettings

_PASSING = (408, 409, 425, 429)
_CONNECTION = (
    "APIConnectionError",
    "ConnectError",
    "ConnectionError",
    "ReadError",
    "RemoteProtocolError",
    "WriteError",
)
_TIMEOUT = ("APITimeoutError", "TimeoutException", "ReadTimeout", "ConnectTimeout", "WriteTimeout", "PoolTimeout")
_SAID_MAX = 200


class Failure(Exception):
    """One failed call.

    Attributes:
        passing: Whether the same call may succeed later.
        unsupported: Whether the server seems not to know how it was asked for structure.
        retry_after: Seconds that the server asked to wait.
        invalid: Whether an answer came that cannot be read.
    """

    def __init__(
        self,
        message: str,
        passing: bool = False,
        unsupported: bool = False,
        retry_after: float | None = None,
        invalid: bool = False,
    ) -> None:
        """Keep what is known."""
        super().__init__(message)
        self.passing, self.unsupported, self.retry_after, self.invalid = passing, unsupported, retry_after, invalid

    def as_error(self, name: str) -> ModelError:
        """Return it as the product's error."""
        kind = ModelUnavailable if self.passing else ModelAnswerInvalid if self.invalid else ModelRefused
        return kind(f"model {name}: {self}")


def explain(error: BaseException, settings: ModelSettings, seconds: float) -> Failure:
    """Return what an exception of a maker's client means, in words without a secret."""
    if isinstance(error, Failure):
        return error
    chain = _chain(error)
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    if isinstance(error, Overdue) or names & set(_TIMEOUT) or any(isinstance(one, TimeoutError) for one in chain):
        return Failure(f"no answer within {seconds:.0f} s", passing=True)
    tls = next((one for one in chain if isinstance(one, ssl.SSLError)), None)
    if tls is not None:
        return Failure(f"{settings.place}: the TLS connection failed: {_clean(tls)}; see model.ca_file")
    status = next((s for one in chain if isinstance(s := getattr(one, "status_code", None), int)), None)
    if status is not None and status >= 300:
        return _of_status(status, chain, settings)
    if names & set(_CONNECTION) or any(isinstance(one, OSError) for one in chain):
        return Failure(f"{settings.place} cannot be reached: {_clean(chain[-1])}", passing=True)
    if isinstance(error, ImportError):
        return Failure(
            f"the package for {settings.provider} is not installed: pip install 'ops-advisor[{settings.provider}]'"
        )
    if any(isinstance(one, json.JSONDecodeError | UnicodeDecodeError) for one in chain) or "ValidationError" in names:
        return Failure(f"{settings.place} sent what is no answer: {_clean(error)}", invalid=True)
    return Failure(f"{settings.place}: {type(error).__name__}: {_clean(error)}", invalid=True)


def _of_status(status: int, chain: list[BaseException], settings: ModelSettings) -> Failure:
    said = _clean(chain[0])
    if status in (401, 403):
        where = settings.key_from or "the key"
        return Failure(f"{settings.place} refused the key (HTTP {status}); check {where}")
    if status == 404:
        return Failure(f"{settings.place} knows no such model or address (HTTP 404): {said}")
    if status in _PASSING or status >= 500:
        return Failure(
            f"{settings.place} answered HTTP {status}: {said}", passing=True, retry_after=_retry_after(chain)
        )
    return Failure(
        f"{settings.place} refused the question (HTTP {status}): {said}", unsupported=status in (400, 422, 501)
    )


def _retry_after(chain: list[BaseException]) -> float | None:
    for one in chain:
        headers: Any = getattr(getattr(one, "response", None), "headers", None)
        value = headers.get("retry-after") if headers is not None else None
        if not value:
            continue
        with contextlib.suppress(ValueError):
            return max(0.0, float(value))
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None


def _chain(error: BaseException) -> list[BaseException]:
    out: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in out and len(out) < 12:
        out.append(one)
        one = one.__cause__ or one.__context__
    return out


def _clean(error: BaseException) -> str:
    return one_line(redact(str(error)[:2000]), _SAID_MAX) or type(error).__name__
