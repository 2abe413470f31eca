"""Metrics from a Prometheus, or from anything that speaks its query API.

The library does the talking through a connection of our own: real POST bodies, answers read in bounded
pieces, one deadline over everything, retries only where they can help. Nothing here decides what a number
means, and nothing asks for more than it was told to. Called by the workflow, through
`advisor.evidence.MetricSource`, and by ``advisor doctor``.

Every failure leaves as one of the ``SourceError`` classes; `_failures` is the only place that knows foreign
exceptions. Importing this module loads no client library: constructing `PrometheusMetrics` does.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import math
import operator
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from pydantic import ValidationError

from advisor.errors import (
    SettingsInvalid,
    SourceError,
    SourceMalformed,
    SourceRefused,
    SourceUnavailable,
    one_line,
)
from advisor.evidence import MetricAnswer, MetricRequest, Series, SeriesListAnswer, SeriesListRequest
from advisor.values import Record

ASKED_CHARACTERS_MAX = 120  # of a query, in a message
SAID_CHARACTERS_MAX = 200  # of the server's own words, in a message
WARNINGS_MAX = 20  # a server may add one for each store behind it; the first say enough
REDIRECTS_MAX = 3  # a proxy that adds a slash needs one
ERROR_BYTES_MAX = 64 * 1024  # of an error's body: a sentence, or a proxy's page
PIECE_BYTES = 256 * 1024  # between two looks at the clock; larger ones read no faster
BACKOFF_SECONDS = 0.2  # doubled for each attempt: a restart behind a load balancer takes about that long

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SECRET_HEADER = re.compile(r"auth|token|key|secret|cookie|password", re.IGNORECASE)
_RETRIED_STATUSES = (429, 502, 503, 504)


class PrometheusBuild(Record):
    """Which server answers, and how fast.

    Attributes:
        version: As the server says it; empty where it has no such page (some that are only compatible).
        latency_seconds: Of the second of two requests, so without the connection's own start.
    """

    version: str
    latency_seconds: float


# --- writing queries ----------------------------------------------------------------------------------------


def matcher(selector: str, name: str | None = None, **labels: str) -> str:
    """Return a PromQL selector such as ``name{job="checkout",pod="a"}``, label values escaped.

    Args:
        selector: Label matchers from the settings, checked there; taken as they are.
        name: A metric name; any text is safe.
        labels: Labels that must be equal; values may be any text.

    Raises:
        SourceRefused: A label's name cannot stand in a query, or nothing is selected at all.
    """
    parts = [selector.strip().removesuffix(",").rstrip()] if selector.strip() else []
    plain = name is not None and _METRIC_NAME.fullmatch(name) is not None
    if name is not None and not plain:
        parts.append(f"__name__={_quote(name)}")
    for label, value in labels.items():
        if not _LABEL_NAME.fullmatch(label):
            raise SourceRefused(f"label name {label[:60]!r} cannot stand in a query; use letters, digits and _")
        parts.append(f"{label}={_quote(value)}")
    if not parts and not plain:
        raise SourceRefused("a query without any matcher would read every series; name a metric or a label")
    return (name if plain and name else "") + "{" + ",".join(parts) + "}"


def _quote(text: str) -> str:
    """Return text as a PromQL string; a lone surrogate cannot be sent and becomes U+FFFD."""
    pieces = []
    for c in text:
        if c in '\\"':
            pieces.append("\\" + c)
        elif "\ud800" <= c <= "\udfff":
            pieces.append("\\ufffd")
        elif c.isprintable() and c != "\ufffd":  # its lexer takes a plain U+FFFD for broken UTF-8
            pieces.append(c)
        else:
            pieces.append(f"\\U{ord(c):08x}")
    return '"' + "".join(pieces) + '"'


# --- the source ---------------------------------------------------------------------------------------------


@dataclass
class _Call:
    """What one call may still use; its retries, redirects and chunks share it."""

    asked: str
    ends_at: float
    bytes_left: int
    attempts: int = 0  # of the question at hand
    warnings: dict[str, None] = field(default_factory=dict)  # in order, each once

    @property
    def seconds_left(self) -> float:
        return self.ends_at - time.monotonic()


class _Answer(NamedTuple):
    """An HTTP answer, read to its end or to its bound."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PrometheusMetrics:
    """A `MetricSource` over HTTP. Safe to use from several threads; each call ends by its deadline.

    Args:
        url: Where the API is, with any path prefix, without ``/api/v1``.
        connect_timeout_seconds: For each connection.
        read_timeout_seconds: Longest silence while an answer is awaited or read.
        deadline_seconds: For a whole call, with its retries and chunks.
        retries: How often a call is repeated after a connection error, 429, 502, 503 or 504.
        headers: Added to each request, for example ``X-Scope-OrgID``.
        bearer_token: Or ``username`` and ``password``, not both.
        username: For basic authentication.
        password: For basic authentication.
        ca_file: Certificates to trust in place of the public ones.
        certificate_file: Our own certificate, with ``key_file``.
        key_file: The key of ``certificate_file``.
        insecure_skip_verify: Accept any certificate.
        compression: Ask for gzip: slower near by, faster across a WAN.
        response_bytes_max: For a whole call, unpacked.
        series_max: Most series that a query may give.
        points_max_per_series: Most points of one request; a longer range is asked for in chunks.

    Raises:
        SettingsInvalid: The values do not fit together, or a file is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_seconds: float = 3.0,
        read_timeout_seconds: float = 10.0,
        deadline_seconds: float = 25.0,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
        bearer_token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        insecure_skip_verify: bool = False,
        compression: bool = False,
        response_bytes_max: int = 64 * 1024 * 1024,
        series_max: int = 2000,
        points_max_per_series: int = 11_000,
    ) -> None:
        """Check the values and load the client library; nothing is sent yet."""
        self.url = _checked_url(url)
        if bearer_token is not None and username is not None:
            raise SettingsInvalid("prometheus: bearer_token and username exclude each other; keep one")
        for name, file in (
            ("ca_file", ca_file),
            ("certificate_file", certificate_file),
            ("key_file", key_file),
        ):
            if file is not None and not file.is_file():
                raise SettingsInvalid(f"prometheus.{name}: {file}: no such file")
        self._connect_timeout = connect_timeout_seconds
        self._read_timeout = read_timeout_seconds
        self._deadline = deadline_seconds
        self._retries = retries
        self._bytes_max = response_bytes_max
        self._series_max = series_max
        self._points_max = max(1, points_max_per_series)

        all_headers = dict(headers or {})
        self._credentials = "set prometheus.bearer_token_file, or username and password_file"
        secrets = [value for name, value in all_headers.items() if _SECRET_HEADER.search(name)]
        if bearer_token is not None:
            all_headers["Authorization"] = f"Bearer {bearer_token}"
            self._credentials = "check prometheus.bearer_token_env or bearer_token_file"
            secrets.append(bearer_token)
        elif username is not None:
            pair = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
            all_headers["Authorization"] = f"Basic {pair}"
            self._credentials = "check prometheus.username and password_env or password_file"
            secrets += [pair, password or ""]
        self._secrets = tuple(sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True))
        for name, value in all_headers.items():
            if not (name.isascii() and value.isascii() and name.isprintable() and value.isprintable()):
                raise SettingsInvalid(f"prometheus: header {one_line(name, 60)!r} holds what no header may hold")
        all_headers.setdefault("Accept-Encoding", "gzip" if compression else "identity")
        self._connection = _connect(
            self.url,
            headers=all_headers,
            verify=False if insecure_skip_verify else str(ca_file) if ca_file else True,
            cert=(str(certificate_file), str(key_file)) if certificate_file and key_file else None,
        )

    def __enter__(self) -> PrometheusMetrics:
        """Return the source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open between calls."""
        self._connection.close()

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        """Return the samples of a range, series sorted by name and labels.

        The points lie on multiples of the step inside the window, so the same question a second later gives
        the same points. A window that holds no multiple gives the one point at its end.

        Raises:
            SourceError: No such answer was had; the class says whether asking again can help.
        """
        call = self._call(f"metrics `{one_line(request.query, ASKED_CHARACTERS_MAX)}`")
        step = max(1, round(request.step_seconds * 1000))
        start, end = self._window(call, request.start, request.end)
        first, last = -(-start // step) * step, end // step * step
        if first > last:
            first = last = end
        series = self._range(call, request.query, first, last, step)
        return MetricAnswer(series=series, warnings=tuple(call.warnings))

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        """Return the label sets that exist, sorted; at most ``request.limit`` of them.

        Raises:
            SourceError: No such answer was had.
        """
        call = self._call(f"series of `{one_line(request.match, ASKED_CHARACTERS_MAX)}`")
        start, end = self._window(call, request.start, request.end)
        form = {"match[]": request.match, "start": _seconds(start), "end": _seconds(end)}
        data = self._ask(call, "/api/v1/series", form)
        if not isinstance(data, list):
            raise self._shape(call, "a list of series", data)
        found = sorted({self._labels(call, metric) for metric in data})
        return SeriesListAnswer(
            series=tuple(found[: request.limit]),
            truncated=len(found) > request.limit,
            warnings=tuple(call.warnings),
        )

    def build_info(self) -> PrometheusBuild:
        """Return the server's version and how long it takes to answer; proves that queries are answered.

        Raises:
            SourceError: It does not answer, or not as a Prometheus.
        """
        call = self._call("`vector(1)`")
        self._ask(call, "/api/v1/query", {"query": "vector(1)"})
        begun = time.monotonic()
        self._ask(call, "/api/v1/query", {"query": "vector(1)"})
        latency = time.monotonic() - begun
        call = self._call("the version")
        try:
            data = self._ask(call, "/api/v1/status/buildinfo", None)
        except SourceRefused:  # the query API is what we need; many that speak it have no such page
            data = None
        version = data.get("version") if isinstance(data, dict) else None
        return PrometheusBuild(
            version=one_line(version, 60) if isinstance(version, str) else "",
            latency_seconds=round(latency, 6),
        )

    # --- questions ---

    def _call(self, asked: str) -> _Call:
        return _Call(asked=asked, ends_at=time.monotonic() + self._deadline, bytes_left=self._bytes_max)

    def _window(self, call: _Call, start: datetime, end: datetime) -> tuple[int, int]:
        """Return a window in milliseconds."""
        if start > end:
            raise self._error(SourceRefused, call, "the window ends before it starts", "correct the window")
        return (start - _EPOCH) // _MILLISECOND, (end - _EPOCH) // _MILLISECOND

    def _range(self, call: _Call, query: str, first: int, last: int, step: int) -> tuple[Series, ...]:
        """Return a range in milliseconds, asked for in chunks whose points never overlap."""
        merged: dict[_Key, _Samples] = {}
        for begin in range(first, last + 1, step * self._points_max):
            end = min(begin + step * (self._points_max - 1), last)
            form = {"query": query, "start": _seconds(begin), "end": _seconds(end), "step": _seconds(step)}
            data = self._ask(call, "/api/v1/query_range", form)
            self._merge(call, merged, data, (begin - step) / 1000, (end + step) / 1000)
        return self._series(call, merged)

    # --- reading answers ---

    def _merge(self, call: _Call, merged: dict[_Key, _Samples], data: Any, earliest: float, latest: float) -> None:
        """Add an answer's samples to what the chunks before it gave."""
        if not isinstance(data, dict) or data.get("resultType") != "matrix" or not isinstance(data.get("result"), list):
            raise self._shape(call, "a matrix", data)
        if len(data["result"]) > self._series_max:
            what = f"{len(data['result'])} series came back, more than the limit of {self._series_max}"
            raise self._error(SourceRefused, call, what, "narrow the selector or raise limits.series_max")
        seen: set[_Key] = set()
        for entry in data["result"]:
            if not isinstance(entry, dict):
                raise self._shape(call, "an object for each series", entry)
            if "histogram" in entry or "histograms" in entry:
                call.warnings["native histograms are not read; their series are left out"] = None
                if "values" not in entry:
                    continue
            labels = self._labels(call, entry.get("metric"))
            if labels in seen:
                raise self._error(SourceMalformed, call, "the same series came twice", "is a proxy merging badly?")
            seen.add(labels)
            times, values = self._columns(call, entry.get("values"))
            samples = merged.setdefault(labels, _Samples())
            before = samples.times[-1] if samples.times else earliest
            if times and not (before < times[0] and times[-1] < latest and _increasing(times)):
                raise self._error(
                    SourceMalformed,
                    call,
                    "samples out of order or outside the window",
                    "is this a Prometheus?",
                )
            samples.times.extend(times)
            samples.values.extend(values)

    def _columns(self, call: _Call, points: Any) -> tuple[list[float], list[float]]:
        """Return times and values of pairs such as ``[1732262400.5, "0.25"]``."""
        try:
            times = [moment for moment, _ in points]
            texts = [text for _, text in points]
            # Both raise TypeError for anything else, at a tenth of the price of looking at each type.
            sum(times)
            "".join(texts)
            return times, list(map(float, texts))
        except (TypeError, ValueError) as error:
            raise self._shape(call, "pairs of a time and a number as text", points) from error

    def _labels(self, call: _Call, metric: Any) -> _Key:
        try:
            # Raises for what is no dictionary, no text, or a lone surrogate, which nobody could store.
            "".join(itertools.chain.from_iterable(metric.items())).encode()
        except (AttributeError, TypeError, UnicodeEncodeError) as error:
            raise self._shape(call, "labels with text values", metric) from error
        return tuple(sorted(metric.items()))

    def _series(self, call: _Call, merged: dict[_Key, _Samples]) -> tuple[Series, ...]:
        """Return checked series without samples that are NaN or infinite, in the order of name and labels."""
        if len(merged) > self._series_max:
            what = f"{len(merged)} series came back, more than the limit of {self._series_max}"
            raise self._error(SourceRefused, call, what, "narrow the selector or raise limits.series_max")
        series = []
        for key, samples in merged.items():
            whole = math.isfinite(sum(samples.values))  # spares a look at each where all are finite
            finite = [] if whole else list(map(math.isfinite, samples.values))
            name = next((value for label, value in key if label == "__name__"), "")
            try:
                # Checked whole by pydantic: for 200 series of 1000 points 10 ms, a tenth of the reading.
                one = Series(
                    name=name,
                    labels=tuple(pair for pair in key if pair[0] != "__name__"),
                    times=tuple(samples.times if whole else itertools.compress(samples.times, finite)),
                    values=tuple(samples.values if whole else itertools.compress(samples.values, finite)),
                    dropped=len(finite) - sum(finite),
                )
            except ValidationError as error:  # a time beyond all floating point
                what = f"series came back that cannot be kept ({one_line(error.errors()[0]['msg'], 80)})"
                raise self._error(SourceMalformed, call, what, "is this a Prometheus?") from error
            series.append(one)
        return tuple(sorted(series, key=lambda one: (one.name, one.labels)))

    # --- asking, again if that can help ---

    def _ask(self, call: _Call, path: str, form: Mapping[str, str] | None) -> Any:
        """Return the ``data`` of an answer; repeat what may succeed on repeating, within the deadline."""
        method = "GET" if form is None else "POST"
        for attempt in itertools.count():
            call.attempts = attempt + 1
            after: float | None = None
            cause: BaseException | None = None
            try:
                answer = self._follow(call, method, path, form)
            except SourceError:
                raise
            except _foreign() as error:
                failure, again = self._failed(call, error)
                cause = error
            else:
                call.bytes_left -= len(answer.body)
                if answer.status == 200:
                    return self._data(call, answer)
                failure, again = self._denied(call, answer)
                after = _retry_after_seconds(answer.headers)
            # Jitter, so that the sources of many incidents do not come back at the same moment.
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
            pause = after if after is not None else BACKOFF_SECONDS * 2**attempt * jitter
            if not again or attempt >= self._retries or pause >= call.seconds_left:
                raise failure from cause
            time.sleep(pause)
        raise AssertionError  # unreachable: the loop above has no end of its own

    def _follow(self, call: _Call, method: str, path: str, form: Mapping[str, str] | None) -> _Answer:
        """Return an answer, after redirects that stay on the same server and keep the question."""
        url = self.url + path
        for _ in range(REDIRECTS_MAX + 1):
            answer = self._exchange(call, method, url, form)
            target = answer.headers.get("location", "")
            if answer.status not in (301, 302, 303, 307, 308) or not target:
                return answer
            shown = one_line(target.partition("?")[0], 100)
            try:
                goal = urljoin(url, target)
                same = _origin(goal) == _origin(url)
            except ValueError:
                same = False
            if not same:
                # Following would hand our credentials and questions to whoever the answer names.
                do = "if that is the right server, put it into prometheus.url"
                raise self._error(SourceRefused, call, f"it redirects to another server, {shown}", do)
            if answer.status not in (307, 308):
                do = f"is that a login page? {self._credentials}, or correct prometheus.url"
                raise self._error(SourceRefused, call, f"it redirects ({answer.status}) to {shown}", do)
            url = goal
        raise self._error(SourceRefused, call, "it redirects without end", "correct prometheus.url")

    def _exchange(self, call: _Call, method: str, url: str, form: Mapping[str, str] | None) -> _Answer:
        """Return the answer to one request; whatever the other side does, by the call's deadline."""
        left = call.seconds_left
        if left <= 0:
            raise self._late(call)
        timeout = (min(self._connect_timeout, left), min(self._read_timeout, left))
        if form is not None and "query" in form:
            # The server stops working on a query that nobody waits for any more.
            form = {**form, "timeout": f"{timeout[1]:.3f}"}
        exchange = _Exchange(lambda: self._read(call, self._connection.ask(method, url, form, timeout)))
        exchange.start()
        exchange.join(left)
        if exchange.is_alive():
            exchange.abandon()
            raise self._late(call)
        if exchange.error is not None:
            raise exchange.error
        if exchange.answer is None:
            raise self._late(call)
        return exchange.answer

    def _read(self, call: _Call, response: Any) -> _Answer | None:
        """Return a response read whole, within its bound; None if the deadline has passed meanwhile."""
        good = response.status_code == 200
        bound = call.bytes_left if good else ERROR_BYTES_MAX
        with response:
            declared = response.headers.get("Content-Length", "")
            size = int(declared) if good and declared.isascii() and declared.isdigit() and len(declared) < 20 else 0
            pieces = []
            taken = 0
            for piece in response.iter_content(PIECE_BYTES) if size <= bound else ():
                pieces.append(piece)
                taken += len(piece)
                if call.seconds_left <= 0:
                    return None
                if taken > bound:
                    break
        if good and max(size, taken) > bound:
            what = f"the answer is larger than response_bytes_max ({self._bytes_max} bytes)"
            raise self._error(SourceRefused, call, what, "narrow the selector, shorten the window or widen the step")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return _Answer(response.status_code, headers, b"".join(pieces)[:bound])

    def _data(self, call: _Call, answer: _Answer) -> Any:
        """Return the ``data`` of a success, and keep what the server warns of."""
        try:
            document = json.loads(answer.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            what, do = _unreadable(answer.body, error)
            raise self._error(SourceMalformed, call, what, do) from error
        if not isinstance(document, dict) or document.get("status") not in ("success", "error"):
            raise self._shape(call, "status success or error", document)
        if document["status"] == "error":
            raise self._denied(call, answer)[0]
        for field_name in ("warnings", "infos"):
            said = document.get(field_name)
            for text in said[:WARNINGS_MAX] if isinstance(said, list) else ():
                if len(call.warnings) < WARNINGS_MAX:
                    call.warnings[self._clean(str(text))] = None
        if "data" not in document:
            raise self._shape(call, "data", document)
        return document["data"]

    # --- failures ---

    def _denied(self, call: _Call, answer: _Answer) -> tuple[SourceError, bool]:
        """Return the failure that an HTTP status, or an error document, stands for, and whether to repeat."""
        kind, said = _server_error(answer.body)
        text = f"HTTP {answer.status}" if answer.status != 200 else "an error"
        what = f"{text}: {self._clean(said)}" if said else text
        own_limit = kind in (
            "timeout",
            "canceled",
        )  # the query is too dear: the next attempt would cost as much
        if own_limit:
            return self._error(SourceUnavailable, call, what, "narrow the selector or shorten the window"), False
        if answer.status in _RETRIED_STATUSES:
            times = f"after {call.attempts} attempts " if call.attempts > 1 else ""
            do = "try again later; is it starting, overloaded, or its proxy cut off from it?"
            return self._error(SourceUnavailable, call, f"{times}{what}", do), True
        if answer.status >= 500 or kind in ("internal", "unavailable"):
            return self._error(SourceUnavailable, call, what, "look at the server's own log"), False
        if answer.status in (401, 403):
            tenant = "; also headers, if it wants a tenant" if answer.status == 403 else ""
            return self._error(SourceRefused, call, what, self._credentials + tenant), False
        if answer.status == 404:
            do = "check the path of prometheus.url: is a prefix missing, or one too many?"
            return self._error(SourceRefused, call, what, do), False
        if answer.status == 405:
            do = "a proxy that lets no POST through? let it pass POST to /api/v1"
            return self._error(SourceRefused, call, what, do), False
        if answer.status in (200, 400, 422):
            return self._error(SourceRefused, call, what, "correct the query or the service's selector"), False
        if answer.status < 400:
            return self._error(SourceMalformed, call, what, "is prometheus.url that of a Prometheus?"), False
        return self._error(SourceRefused, call, what, "check prometheus.url and what stands before it"), False

    def _failed(self, call: _Call, error: BaseException) -> tuple[SourceError, bool]:
        """Return the failure that a foreign exception stands for, and whether to repeat."""
        row, reason = _find_failure(error)
        if "{read" in row.what and call.seconds_left <= 0:  # the deadline cut the waiting short, not the read timeout
            return self._late(call), False
        shown = row.what.format(reason=self._clean(reason), connect=self._connect_timeout, read=self._read_timeout)
        return self._error(row.error, call, shown, row.do.format(credentials=self._credentials)), row.again

    def _late(self, call: _Call) -> SourceError:
        do = "shorten the window, or look whether the server is overloaded"
        return self._error(SourceUnavailable, call, f"no whole answer within {self._deadline:g} s", do)

    def _shape(self, call: _Call, wanted: str, found: Any) -> SourceError:
        shown = self._clean(json.dumps(_outline(found)))[:100]
        what = f"JSON came back, but not {wanted} (found {shown})"
        return self._error(SourceMalformed, call, what, "is prometheus.url that of a Prometheus?")

    def _error(self, kind: type[SourceError], call: _Call, what: str, do: str) -> SourceError:
        return kind(f"{self._hide(call.asked)} from {one_line(self.url, 120)}: {what}; {do}")

    def _clean(self, text: str) -> str:
        """Return foreign text as a short line without our own secrets, should the other side echo them."""
        return one_line(self._hide(text), SAID_CHARACTERS_MAX)

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


_Key = tuple[tuple[str, str], ...]


@dataclass
class _Samples:
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


# --- small readings -----------------------------------------------------------------------------------------


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError as error:
        raise SettingsInvalid("prometheus.url is not an address") from error
    if parts.username is not None or parts.password is not None:
        raise SettingsInvalid("prometheus.url carries credentials; use username and password_file, or a bearer token")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsInvalid(f"prometheus.url {one_line(url, 120)!r} is not an http(s) address")
    if parts.query or parts.fragment:
        raise SettingsInvalid("prometheus.url carries a query or fragment; end it before the ? or #")
    return parts.geturl().rstrip("/").removesuffix("/api/v1")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def _increasing(times: Sequence[float]) -> bool:
    return all(map(operator.lt, times, itertools.islice(times, 1, None)))


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return how long the server asks us to wait; a date counts from now."""
    text = headers.get("retry-after", "").strip()[:40]
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):  # TypeError: a date without a zone cannot be compared
        return None


def _server_error(body: bytes) -> tuple[str, str]:
    """Return Prometheus' own kind of error and its text; of another's body, a word on what it is."""
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict) and isinstance(document.get("error"), str):
            return str(document.get("errorType", ""))[:40], document["error"]
    text = body.decode("utf-8", "replace").strip()
    return "", "an HTML page" if text.startswith("<") else text


def _unreadable(body: bytes, error: Exception) -> tuple[str, str]:
    start = body.lstrip()[:1]
    if start == b"<":
        return "an HTML page came back", "is prometheus.url that of a login page or proxy?"
    if not start:
        return "an empty answer came back", "is prometheus.url that of a Prometheus?"
    if start not in (b"{", b"["):
        return "something other than JSON came back", "is prometheus.url that of a Prometheus?"
    position = getattr(error, "pos", None)
    where = f" at {position} of {len(body)}" if isinstance(position, int) else ""
    return f"JSON that cannot be read came back (broken{where})", "was the answer cut on its way?"


def _outline(value: Any) -> Any:
    """Return what kind of thing a JSON value is, in a few words; never its whole."""
    if isinstance(value, dict):
        return {str(key)[:20]: type(item).__name__ for key, item in itertools.islice(value.items(), 4)}
    if isinstance(value, list):
        return [type(item).__name__ for item in value[:2]]
    return value[:40] if isinstance(value, str) else type(value).__name__ if value is not None else None


# --- foreign exceptions -------------------------------------------------------------------------------------


class _Failure(NamedTuple):
    """A row: exceptions of these classes (whose text holds ``mark``) mean this."""

    classes: tuple[type[BaseException], ...]
    mark: str
    error: type[SourceError]
    again: bool
    what: str
    do: str


@functools.cache
def _failures() -> tuple[_Failure, ...]:
    """Return the one table of foreign failures; the first row that fits counts."""
    import http.client
    import ssl

    import prometheus_api_client.exceptions as library
    import requests.exceptions as r
    import urllib3.exceptions as u

    up, no, bad = SourceUnavailable, SourceRefused, SourceMalformed
    tls = (r.SSLError, u.SSLError, ssl.SSLError, r.ConnectionError, u.ProtocolError, u.MaxRetryError)
    connection = (r.ConnectionError, u.NewConnectionError, u.MaxRetryError, OSError)
    broken = (r.ChunkedEncodingError, u.ProtocolError, u.IncompleteRead, http.client.HTTPException)
    schemes = (r.MissingSchema, r.InvalidSchema, u.URLSchemeUnknown)
    address = (r.InvalidURL, r.URLRequired, *schemes, u.LocationValueError)
    running = "are host and port of prometheus.url right, and is it running?"
    verify = "set prometheus.ca_file to the certificate of its authority"
    # fmt: off
    return (
        # classes, mark in the text, error, repeat?, what it says, what to do
        _Failure((r.ProxyError, u.ProxyError, r.InvalidProxyURL), "", up, True,
                 "the proxy failed ({reason})", "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"),
        _Failure(tls, "CERTIFICATE_VERIFY_FAILED", no, False,
                 "its certificate is not trusted ({reason})", verify),
        _Failure(tls, "WRONG_VERSION_NUMBER", no, False,
                 "it does not speak TLS there", "does prometheus.url want http://?"),
        _Failure(tls, " alert ", no, False,
                 "it ended the TLS session ({reason})", "does it want certificate_file and key_file?"),
        _Failure((r.SSLError, u.SSLError, ssl.SSLError), "", up, True,
                 "TLS failed ({reason})", "check prometheus.url, ca_file and certificate_file"),
        _Failure((r.ConnectTimeout, u.ConnectTimeoutError), "", up, True,
                 "no connection within {connect:g} s", "is its host right, or a firewall between?"),
        _Failure((r.ConnectionError, r.Timeout, u.TimeoutError, TimeoutError), "imed out", up, False,
                 "connected, then silent for {read:g} s", "ask for less, or raise read_timeout_seconds"),
        _Failure((*connection, u.NameResolutionError), "resolve", up, True,
                 "its name does not resolve", "check the host in prometheus.url, or the name server"),
        _Failure(connection, "refused", up, True,
                 "the port is closed (connection refused)", running),
        _Failure(broken, "", up, True,
                 "the answer broke off ({reason})", "try again; does a proxy end long answers?"),
        _Failure((r.ContentDecodingError, u.DecodeError), "", bad, False,
                 "its compression cannot be read ({reason})", "set prometheus.compression to false"),
        _Failure((r.InvalidJSONError, library.MetricValueConversionError, u.ResponseError), "", bad, False,
                 "what came back cannot be read ({reason})", "is prometheus.url that of a Prometheus?"),
        _Failure((r.InvalidHeader, u.InvalidHeader), "", no, False,
                 "a header cannot be sent", "check prometheus.headers"),
        _Failure(address, "", no, False,
                 "the address cannot be used ({reason})", "correct prometheus.url"),
        _Failure((r.TooManyRedirects,), "", no, False,
                 "it redirects without end", "correct prometheus.url"),
        _Failure((r.HTTPError, library.PrometheusApiClientException), "", no, False,
                 "it refused ({reason})", "{credentials}"),
        _Failure((r.StreamConsumedError, r.UnrewindableBodyError), "", up, False,
                 "the exchange failed ({reason})", "try again"),
        _Failure((FileNotFoundError, PermissionError, IsADirectoryError), "", no, False,
                 "a file cannot be read ({reason})", "check ca_file, certificate_file and key_file"),
        # What remains of requests, urllib3 and the system: the far side or the way to it.
        _Failure((r.RequestException, u.HTTPError, OSError, r.RequestsWarning, u.HTTPWarning), "", up, True,
                 "the connection failed ({reason})", running),
        _Failure((ValueError,), "", no, False,
                 "the question cannot be sent ({reason})", "check prometheus.url and headers"),
    )
    # fmt: on


def _foreign() -> tuple[type[BaseException], ...]:
    """Return every class that the table knows."""
    return tuple({kind for row in _failures() for kind in row.classes})


def _find_failure(error: BaseException) -> tuple[_Failure, str]:
    """Return the row of an exception, and what lies at the bottom of it in few words."""
    chain = _chain(error)
    text = " ".join(f"{type(item).__name__}: {item}" for item in chain)
    bottom = chain[-1]
    reason = (
        bottom.strerror if isinstance(bottom, OSError) and bottom.strerror else str(bottom) or type(bottom).__name__
    )
    row = next(row for row in _failures() if isinstance(error, row.classes) and row.mark in text)
    return row, reason.strip("()'\" ")


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and what it wraps, outermost first; libraries hang causes in four places."""
    chain = [error]
    while len(chain) < 12:
        item = chain[-1]
        wrapped = [getattr(item, "reason", None), *item.args, item.__cause__, item.__context__]
        inner = next((w for w in wrapped if isinstance(w, BaseException) and w not in chain), None)
        if inner is None:
            break
        chain.append(inner)
    return chain


# --- the connection -----------------------------------------------------------------------------------------

_here = threading.local()


class _Exchange(threading.Thread):
    """One request and its answer, on a thread of its own: whoever waits is free at the deadline.

    A socket's timeout bounds one wait, not the whole: a peer that drips a byte a second would hold the caller
    for ever, and a name server may stay silent longer than any of our timeouts. A thread costs 0.1 ms.
    """

    def __init__(self, work: Callable[[], _Answer | None]) -> None:
        super().__init__(name="prometheus-exchange", daemon=True)  # daemon: must not hold the process's end
        self._work = work
        self.answer: _Answer | None = None
        self.error: BaseException | None = None
        self.connection: Any = None

    def run(self) -> None:
        _here.exchange = self
        try:
            self.answer = self._work()
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            self.error = error

    def abandon(self) -> None:
        """End the exchange from outside: its socket is shut, so its next read fails and the thread ends."""
        # An answer without a length takes the socket away from its connection; then we have it noted.
        used = getattr(self.connection, "sock", None) or getattr(self.connection, "noted", None)
        if used is not None:
            with suppress(OSError):
                used.shutdown(socket.SHUT_RDWR)


def _connect(url: str, *, headers: Mapping[str, str], verify: bool | str, cert: tuple[str, str] | None) -> Any:
    """Return the library's connection with a session of our own."""
    import http.cookiejar

    import requests
    import urllib3

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:
            """Return nothing: `_follow` decides on redirects; requests stumbles over a broken one."""

    session = Session()
    session.verify, session.cert = verify, cert
    session.headers.clear()
    session.headers.update({"User-Agent": "ops-advisor", "Accept": "application/json", **headers})
    session.auth = lambda request: request  # else requests puts a line of ~/.netrc over our own Authorization
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))  # nothing shared between calls
    host = urlsplit(url).hostname or ""
    session.trust_env = not (host in ("localhost", "::1") or host.startswith("127."))  # no proxy to ourselves
    if verify is False:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # asked for in the settings, by name
    return _connection_class()(url, session)


@functools.cache
def _connection_class() -> Any:
    """Return the library's connection class, mended; made late: importing this module loads no client."""
    import requests
    from prometheus_api_client.prometheus_connect import PrometheusConnect
    from requests.adapters import HTTPAdapter
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Noted:
        """A connection that keeps its socket in sight, for `_Exchange.abandon`."""

        sock: Any
        noted: Any = None

        def connect(self) -> None:
            super().connect()  # type: ignore[misc]  # of the connection mixed in
            self.noted = self.sock

    class Noting:
        """A pool that tells the exchange of this thread which connection it uses, for the same end."""

        def _get_conn(self, timeout: float | None = None) -> Any:
            connection = super()._get_conn(timeout)  # type: ignore[misc]  # of the pool mixed in
            exchange = getattr(_here, "exchange", None)
            if exchange is not None:
                exchange.connection = connection
            return connection

    def pool(base: Any) -> Any:
        kind = type("NotedConnection", (Noted, base.ConnectionCls), {})
        return type("NotingPool", (Noting, base), {"ConnectionCls": kind})

    pools = {"http": pool(HTTPConnectionPool), "https": pool(HTTPSConnectionPool)}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(*args, **kwargs)
            manager.pool_classes_by_scheme = pools
            return manager

    class Connection(PrometheusConnect):
        """The library's connection: forms in the body, answers streamed, no retries of its own.

        The library puts a POST's query into the URL (a long one is refused with 414), reads answers whole,
        and drops the server's warnings; so `PrometheusMetrics` asks through `ask` and reads for itself.
        """

        def __init__(self, url: str, session: requests.Session) -> None:
            super().__init__(url=url, session=session, method="POST")
            session.mount(url, Adapter(max_retries=0))  # over the retrying one that the library has just mounted

        def ask(
            self, method: str, url: str, form: Mapping[str, str] | None, timeout: tuple[float, float]
        ) -> requests.Response:
            session: requests.Session = self._session
            return session.request(
                method,
                url,
                data=form,
                timeout=timeout,
                stream=True,
                allow_redirects=False,
                verify=session.verify,  # named here: otherwise REQUESTS_CA_BUNDLE would override a "False"
                cert=session.cert,
            )

    return Connection
