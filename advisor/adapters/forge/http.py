"""One JSON API over HTTP, asked so that neither the token nor the process can get lost.

* No redirect is followed: the token goes to the configured server and nowhere else.
* The token stands in one header; what a server says back is searched for it before it may reach a message.
* Every call has one deadline over all its attempts, and answers are read up to a bound.
* Only calls that may be repeated are: 429 and 5xx, with jitter, and as the server's ``Retry-After`` says.

Knows no forge. Every failure leaves as one of the `SourceError` classes. Importing it loads no client library.
"""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from advisor.errors import SourceError, SourceMalformed, SourceRefused, SourceUnavailable, one_line
from advisor.redaction import redact

ATTEMPTS = 3  # of a call that may be repeated
BACKOFF_SECONDS = 0.3  # doubled for each attempt, and spread over its whole length
DEADLINE_FACTOR = 3  # of the timeout of one answer: all attempts of a call and their pauses
ANSWER_BYTES_MAX = 8 * 1024 * 1024  # 100 pull requests of GitHub have 2 MB
SAID_CHARACTERS_MAX = 200
_RETRIED = (429, 500, 502, 503, 504)


class Refused(SourceRefused):
    """The server said no.

    Attributes:
        status: Of the answer.
    """

    def __init__(self, message: str, status: int) -> None:
        """Keep the status, by which a forge tells what is missing from what is not allowed."""
        super().__init__(message)
        self.status = status


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Api:
    """A server's API below one address."""

    def __init__(
        self,
        root: str,
        headers: Mapping[str, str],
        token: str,
        timeout_seconds: float = 10.0,
        ca_file: Path | None = None,
    ) -> None:
        """Remember where and as whom; nothing is asked.

        Args:
            root: The address that every path is added to.
            headers: Of every call; one of them carries the token.
            token: To be searched for in what comes back.
            timeout_seconds: Of connecting, and of each silence while an answer is read.
            ca_file: Certificates to trust in place of the usual ones.
        """
        self._root = root.rstrip("/")
        self._headers = {"User-Agent": "ops-advisor", "Accept": "application/json", **headers}
        self._token = token
        self._timeout = timeout_seconds
        self._verify: str | bool = str(ca_file) if ca_file is not None else True
        self._host = urlsplit(root).hostname or ""

    def get(self, path: str, **query: str | int) -> Any:
        """Return what a path has.

        Raises:
            SourceError: It cannot be had.
        """
        return self.call("GET", f"{path}?{urlencode(query)}" if query else path, repeat=True)

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None, repeat: bool = False) -> Any:
        """Return the JSON that a call answers; None for an empty answer.

        Args:
            method: Of HTTP.
            path: Below the address, with its query; parts from outside are quoted by the caller.
            body: Sent as JSON.
            repeat: Doing it twice is doing it once: it is tried again where that may help.

        Raises:
            SourceUnavailable: No answer, a cut one, or one that says to come back later.
            Refused: The server said no.
            SourceMalformed: The answer is not JSON, or too large.
        """
        what = f"{method} {one_line(path.partition('?')[0], 120)} of {self._host}"
        deadline = time.monotonic() + self._timeout * DEADLINE_FACTOR
        for attempt in range(1, ATTEMPTS + 1):
            pause = BACKOFF_SECONDS * 2**attempt * random.random()  # noqa: S311 - spreads retries, hides nothing
            try:
                answer = self._ask(what, method, path, body, deadline)
                if (wait := _wanted_pause(answer)) is None:
                    return self._read(what, answer)
                failure: SourceError = SourceUnavailable(f"{what}: {self._said(answer)}")
                pause = max(pause, wait)
            except SourceUnavailable as error:
                failure = error
            if not repeat or attempt == ATTEMPTS:
                raise failure
            if time.monotonic() + pause >= deadline:
                raise SourceUnavailable(f"{failure}; asked to wait {pause:.0f} s; try again then") from failure
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, what: str, method: str, path: str, body: Mapping[str, object] | None, deadline: float) -> _Answer:
        """Ask once, in a thread of its own: a server that drips an answer byte by byte ends no timeout of a socket."""
        answers: queue.SimpleQueue[_Answer | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put(self._send(method, path, body, deadline))
            except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
                answers.put(error)

        threading.Thread(target=work, name="forge", daemon=True).start()
        try:
            found = answers.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            raise SourceUnavailable(f"{what}: no whole answer within {self._timeout * DEADLINE_FACTOR:.0f} s") from None
        if isinstance(found, SourceError):
            raise type(found)(f"{what}: {found}")
        if isinstance(found, BaseException):
            import requests

            if isinstance(found, requests.RequestException | OSError):
                raise SourceUnavailable(f"{what}: {self._clean(_words(found))}") from None
            raise found
        return found

    def _send(self, method: str, path: str, body: Mapping[str, object] | None, deadline: float) -> _Answer:
        import requests

        with requests.Session() as session:
            session.auth = lambda request: request  # else requests puts a line of ~/.netrc over our own Authorization
            session.trust_env = not (self._host in ("localhost", "::1") or self._host.startswith("127."))
            with session.request(
                method,
                self._root + path,
                headers=self._headers,
                json=body,
                timeout=(self._timeout, self._timeout),
                allow_redirects=False,
                stream=True,
                verify=self._verify,
            ) as response:
                data = bytearray()
                for piece in response.iter_content(64 * 1024):
                    data += piece
                    if len(data) > ANSWER_BYTES_MAX:
                        raise SourceMalformed(f"more than {ANSWER_BYTES_MAX} bytes")
                    if time.monotonic() > deadline:
                        raise SourceUnavailable("no whole answer in time")
                return _Answer(response.status_code, dict(response.headers), bytes(data))

    def _read(self, what: str, answer: _Answer) -> Any:
        if 300 <= answer.status < 400:
            place = urlsplit(answer.headers.get("Location", "")).hostname or "another path"
            raise Refused(
                f"{what}: it redirects to {one_line(place, 100)}, which is not followed; set the address it has now",
                answer.status,
            )
        if answer.status >= 400:
            raise Refused(f"{what}: {self._said(answer)}", answer.status)
        if not answer.body.strip():
            return None
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise SourceMalformed(f"{what}: the answer is not JSON; is the address right?") from error

    def _said(self, answer: _Answer) -> str:
        meanings = {
            401: "the token is not accepted",
            403: "the token may not do that",
            404: "not found, or not allowed",
        }
        told = meanings.get(answer.status, "")
        words = ""
        try:
            data = json.loads(answer.body)
            if isinstance(data, dict):
                said = data.get("message") or data.get("error_description") or data.get("error") or ""
                details = data.get("errors")
                words = said if isinstance(said, str) else json.dumps(said)
                words += f" {json.dumps(details)}" if details else ""
        except (ValueError, RecursionError):
            pass  # a proxy's page: the status says enough
        parts = [f"status {answer.status}", told, one_line(self._clean(words), SAID_CHARACTERS_MAX)]
        return ", ".join(part for part in parts if part)

    def _clean(self, words: str) -> str:
        return redact(words.replace(self._token, "***")) if self._token else redact(words)


def _wanted_pause(answer: _Answer) -> float | None:
    """Return how long a server wants us to stay away, or None if it gave its answer."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    # GitHub says 403 where its limits are reached.
    limited = answer.status == 403 and ("retry-after" in headers or headers.get("x-ratelimit-remaining") == "0")
    if answer.status not in _RETRIED and not limited:
        return None
    text = headers.get("retry-after", "").strip()
    if text.isdigit():
        return min(float(text), 86_400.0)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()) if text else 0.0
    except (TypeError, ValueError):
        return 0.0


def _words(error: BaseException) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate" in text.lower():
        return "its certificate is not trusted; set ca_file"
    if "timed out" in text.lower():
        return "no answer in time"
    if "refused" in text.lower():
        return "connection refused"
    if "resolve" in text.lower() or "Name or service" in text:
        return "its name cannot be resolved"
    return f"the connection broke off ({type(error).__name__})"
