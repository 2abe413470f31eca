"""The Prometheus adapter: against a scripted server for faults, against a real Prometheus for meaning."""

from __future__ import annotations

import gzip
import inspect
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.adapters import prometheus as adapter
from advisor.adapters.prometheus import PrometheusMetrics, matcher
from advisor.errors import SettingsInvalid, SourceError, SourceMalformed, SourceRefused, SourceUnavailable
from advisor.evidence import MetricRequest, Series, SeriesListRequest
from tests.support.prometheus import (
    PrometheusServer,
    backfill,
    free_port,
    prometheus_serving,
    require_programs,
    write_openmetrics,
)

T0 = 1_732_262_400.0  # a multiple of every step used here
START = datetime.fromtimestamp(T0, UTC)
TOKEN = "t0ken-of-tests"
PASSWORD = "correct horse"
PASSWORD_BCRYPT = "$2b$04$bc79aLNsWG1WmCtJO8EZYu2Fdd69s8yJ7hgzlqQJ.wYSuAlTN18mi"


def request(query: str = "m", seconds: float = 60, step: float = 15, start: datetime = START) -> MetricRequest:
    return MetricRequest(query=query, start=start, end=start + timedelta(seconds=seconds), step_seconds=step)


# --- a scripted server --------------------------------------------------------------------------------------

Reply = bytes | Callable[[socket.socket], None]


class Scripted:
    """A server that plays replies in order (the last one again and again) and keeps what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = True
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._open = False
        with socket.socket() as last:  # wakes accept(), which a close from here would not
            last.connect(self._listener.getsockname())
        self._listener.close()

    def form(self, index: int = -1) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(self.requests[index][2].decode()).items()}

    def _serve(self) -> None:
        while self._open:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                file = connection.makefile("rb")
                line = file.readline().decode().strip()
                if not line:
                    return
                headers = {}
                while (header := file.readline().decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = file.read(int(headers.get("content-length", "0")))
                self.requests.append((line, headers, body))
                reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
                if callable(reply):
                    reply(connection)
                else:
                    connection.sendall(reply)
            except OSError:
                return


@contextmanager
def scripted(*replies: Reply) -> Iterator[Scripted]:
    server = Scripted(*replies)
    try:
        yield server
    finally:
        server.close()


def http(status: int, body: bytes | str | Any, *headers: str) -> bytes:
    if not isinstance(body, bytes | str):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def matrix(*series: tuple[dict[str, str], list[list[Any]]], **more: Any) -> bytes:
    result = [{"metric": labels, "values": points} for labels, points in series]
    return http(200, {"status": "success", "data": {"resultType": "matrix", "result": result}, **more})


def failure(status: int, kind: str, text: str, *headers: str) -> bytes:
    return http(status, {"status": "error", "errorType": kind, "error": text}, *headers)


EMPTY = matrix()
GOOD = matrix(({"__name__": "m"}, [[T0, "1"]]))


def quick(url: str, **more: Any) -> PrometheusMetrics:
    return PrometheusMetrics(url, **{"deadline_seconds": 5.0, **more})


# --- writing queries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "labels", "expected"),
    [
        (('job="a"', "up"), {}, 'up{job="a"}'),
        ((' job="a", ', "up"), {}, 'up{job="a"}'),
        (('job="a"',), {}, '{job="a"}'),
        (('job="a"', "up"), {"pod": "x"}, 'up{job="a",pod="x"}'),
        (('job="a"', "m"), {"p": 'x"} or up{y="'}, 'm{job="a",p="x\\"} or up{y=\\""}'),
        (('job="a"', "m"), {"p": "a\\b"}, 'm{job="a",p="a\\\\b"}'),
        (('job="a"', "m"), {"p": "a\nb\x00\u202e"}, 'm{job="a",p="a\\U0000000ab\\U00000000\\U0000202e"}'),
        (
            ('job="a"', "m"),
            {"p": "Zürich 💶"},
            'm{job="a",p="Zürich 💶"}',
        ),
        (('job="a"', "m"), {"p": "\ud800"}, 'm{job="a",p="\\ufffd"}'),
        (('job="a"', 'x"} or up'), {}, '{job="a",__name__="x\\"} or up"}'),
        (('job="a"', "http.requests"), {}, '{job="a",__name__="http.requests"}'),
        (("", "up"), {}, "up{}"),
    ],
)
def test_matcher_escapes_whatever_is_not_the_selector(
    arguments: tuple[str, ...], labels: dict[str, str], expected: str
) -> None:
    assert matcher(*arguments, **labels) == expected


def test_a_matcher_of_nothing_or_of_an_impossible_label_is_refused() -> None:
    with pytest.raises(SourceRefused, match="every series"):
        matcher("  ")
    with pytest.raises(SourceRefused, match=r"label name 'a\.b'"):
        matcher('job="a"', "up", **{"a.b": "c"})


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "more", "words"),
    [
        ("127.0.0.1:9090", {}, "not an http"),
        ("ftp://host", {}, "not an http"),
        ("http://host:99999", {}, "not an address"),
        ("http://me:secret@host", {}, "carries credentials"),
        ("ftp://me:secret@host", {}, "carries credentials"),
        ("http://host/?tenant=1", {}, "carries a query"),
        ("http://host", {"bearer_token": "t", "username": "u"}, "exclude each other"),
        ("http://host", {"ca_file": Path("no-such-file.pem")}, "ca_file: no-such-file.pem: no such file"),
        ("http://host", {"headers": {"X-A": "b\r\nX-C: d"}}, "header 'X-A'"),
        ("http://host", {"bearer_token": "tökén"}, "header 'Authorization'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_sent(url: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words) as caught:
        PrometheusMetrics(url, **more)
    assert "secret" not in str(caught.value)


def test_importing_loads_no_client_library() -> None:
    code = (
        "import sys, advisor, advisor.adapters.prometheus\n"
        "clients = 'requests', 'urllib3', 'prometheus_api_client', 'http.client'\n"
        "print([name for name in clients if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what is sent -------------------------------------------------------------------------------------------


def test_a_question_is_a_form_in_the_body_of_a_post() -> None:
    long = matcher('job="a"', "up", instance="|".join(f"host-{number}" for number in range(3000)))
    with scripted(EMPTY) as server:
        quick(server.url + "/prefix/").query_range(request(long))
    line, headers, _ = server.requests[0]
    assert line == "POST /prefix/api/v1/query_range HTTP/1.1"
    assert headers["accept-encoding"] == "identity"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in headers and "cookie" not in headers
    form = server.form()
    assert 4.0 < float(form.pop("timeout")) <= 5.0  # the server gives up when we do
    assert form == {"query": long, "start": f"{T0:.3f}", "end": f"{T0 + 60:.3f}", "step": "15.000"}


def test_credentials_headers_and_compression_are_sent_as_set() -> None:
    with scripted(EMPTY) as server:
        quick(server.url, bearer_token=TOKEN, headers={"X-Scope-OrgID": "shop"}, compression=True).query_range(
            request()
        )
        quick(server.url, username="ann", password="pä" + TOKEN).query_range(request())
    assert server.requests[0][1]["authorization"] == f"Bearer {TOKEN}"
    assert server.requests[0][1]["x-scope-orgid"] == "shop"
    assert server.requests[0][1]["accept-encoding"] == "gzip"
    assert server.requests[1][1]["authorization"] == "Basic YW5uOnDDpHQwa2VuLW9mLXRlc3Rz"


def test_no_cookie_is_carried_from_one_answer_to_the_next_question() -> None:
    with scripted(matrix(), EMPTY) as server:
        server.replies[0] = http(200, EMPTY.partition(b"\r\n\r\n")[2], "Set-Cookie: session=1; Path=/")
        source = quick(server.url)
        source.query_range(request())
        source.query_range(request())
    assert "cookie" not in server.requests[1][1]


@pytest.mark.parametrize(
    ("start", "end", "step", "asked"),
    [
        (0.0, 60.0, 15.0, ("0.000", "60.000", "15.000")),
        (0.1, 61.0, 15.0, ("15.000", "60.000", "15.000")),
        (14.999, 15.0, 15.0, ("15.000", "15.000", "15.000")),
        (16.0, 20.0, 15.0, ("20.000", "20.000", "15.000")),
        (1.123, 1.126, 0.001, ("1.123", "1.126", "0.001")),
        (0.0, 1.0, 0.0001, ("0.000", "1.000", "0.001")),
    ],
)
def test_points_lie_on_multiples_of_the_step_inside_the_window(
    start: float, end: float, step: float, asked: tuple[str, str, str]
) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    with scripted(EMPTY) as server:
        quick(server.url).query_range(
            MetricRequest(
                query="m",
                start=epoch + timedelta(microseconds=round(start * 1e6)),
                end=epoch + timedelta(microseconds=round(end * 1e6)),
                step_seconds=step,
            )
        )
    form = server.form()
    assert (form["start"], form["end"], form["step"]) == asked


def test_a_window_that_ends_before_it_starts_is_refused_unasked() -> None:
    with scripted(EMPTY) as server:
        source = quick(server.url)
        with pytest.raises(SourceRefused, match="ends before it starts"):
            source.query_range(request(seconds=-1))
        with pytest.raises(SourceRefused, match="ends before it starts"):
            source.list_series(SeriesListRequest(match="{a='b'}", start=START, end=START - timedelta(seconds=1)))
    assert server.requests == []


def test_a_long_range_is_asked_for_in_chunks_that_do_not_overlap() -> None:
    chunks = [
        matrix(({"__name__": "b"}, [[T0, "1"], [T0 + 15, "2"]]), ({"__name__": "a"}, [[T0, "9"]])),
        matrix(({"__name__": "b"}, [[T0 + 30, "3"], [T0 + 45, "NaN"]])),
        matrix(({"__name__": "b"}, [[T0 + 60, "5"]])),
    ]
    with scripted(*chunks) as server:
        answer = quick(server.url, points_max_per_series=2).query_range(request(seconds=60))
    spans = [(float(server.form(n)["start"]) - T0, float(server.form(n)["end"]) - T0) for n in range(3)]
    assert spans == [(0, 15), (30, 45), (60, 60)]
    first, second = answer.series
    assert (first.name, first.values) == ("a", (9.0,))
    assert second.times == (T0, T0 + 15, T0 + 30, T0 + 60)
    assert (second.values, second.dropped) == ((1.0, 2.0, 3.0, 5.0), 1)


# --- what is read -------------------------------------------------------------------------------------------


def test_series_are_sorted_and_numbers_that_are_none_are_counted() -> None:
    points = [[T0, "1"], [T0 + 15, "NaN"], [T0 + 30, "+Inf"], [T0 + 45, "-Inf"], [T0 + 60.5, "1e-3"]]
    reply = matrix(
        ({"__name__": "b", "x": "2"}, [[T0, "NaN"]]),
        ({"x": "1"}, [[T0, "7"]]),
        ({"z": "1", "__name__": "b", "a": "2"}, points),
    )
    with scripted(reply) as server:
        series = quick(server.url).query_range(request()).series
    assert [(one.name, one.labels) for one in series] == [
        ("", (("x", "1"),)),
        ("b", (("a", "2"), ("z", "1"))),
        ("b", (("x", "2"),)),
    ]
    assert (series[1].times, series[1].values, series[1].dropped) == ((T0, T0 + 60.5), (1.0, 0.001), 3)
    assert (series[2].times, series[2].values, series[2].dropped) == ((), (), 1)


def test_huge_values_whose_sum_overflows_are_kept() -> None:
    with scripted(matrix(({}, [[T0, "1.7e308"], [T0 + 15, "1.7e308"]]))) as server:
        (one,) = quick(server.url).query_range(request()).series
    assert (one.values, one.dropped) == ((1.7e308, 1.7e308), 0)


def test_warnings_and_infos_are_kept_clean_and_bounded() -> None:
    noise = [f"store {number} is down" for number in range(50)]
    reply = matrix(warnings=["partial\n\x1b[31mdata " + "x" * 900, 7, *noise], infos=["metric might not be a counter"])
    with scripted(reply) as server:
        warnings = quick(server.url).query_range(request()).warnings
    assert len(warnings) == 20
    assert warnings[0].startswith("partial [31mdata xxx") and len(warnings[0]) == 200
    with scripted(matrix(infos=["i"], warnings=["w"])) as server:
        assert quick(server.url).query_range(request()).warnings == ("w", "i")


def test_native_histograms_are_left_out_with_a_warning() -> None:
    result = [{"metric": {"__name__": "h"}, "histograms": [[T0, {"count": "1"}]]}]
    reply = http(200, {"status": "success", "data": {"resultType": "matrix", "result": result}})
    with scripted(reply) as server:
        answer = quick(server.url).query_range(request())
    assert answer.series == () and "native histograms" in answer.warnings[0]


def test_a_list_of_series_is_sorted_and_cut_where_asked() -> None:
    data = [{"__name__": "b"}, {"job": "x", "__name__": "a"}, {"__name__": "b"}]
    ask = SeriesListRequest(match='{job="x"}', start=START, end=START, limit=2)
    with scripted(http(200, {"status": "success", "data": data, "warnings": ["w"]})) as server:
        whole = quick(server.url).list_series(ask)
        cut = quick(server.url).list_series(ask.model_copy(update={"limit": 1}))
    assert whole.series == ((("__name__", "a"), ("job", "x")), (("__name__", "b"),))
    assert (whole.truncated, whole.warnings) == (False, ("w",))
    assert (cut.series, cut.truncated) == (whole.series[:1], True)
    assert server.form(0)["match[]"] == '{job="x"}'


WRONG_SHAPES: dict[str, Any] = {
    "a list": [],
    "a number": 7,
    "no status": {"data": {}},
    "odd status": {"status": ["success"]},
    "no data": {"status": "success"},
    "data is null": {"status": "success", "data": None},
    "a vector": {"status": "success", "data": {"resultType": "vector", "result": []}},
    "no result": {"status": "success", "data": {"resultType": "matrix"}},
    "result is text": {"status": "success", "data": {"resultType": "matrix", "result": "x"}},
}
WRONG_SERIES: dict[str, Any] = {
    "null": None,
    "no labels": {"values": []},
    "label is a number": {"metric": {"a": 1}, "values": []},
    "label is no text at all": {"metric": {"a": "\ud800"}, "values": [[T0, "1"]]},
    "no values": {"metric": {}},
    "numbers not as text": {"metric": {}, "values": [[T0, 1]]},
    "a time as text": {"metric": {}, "values": [[str(T0), "1"]]},
    "three in a pair": {"metric": {}, "values": [[T0, "1", "2"]]},
    "text for a pair": {"metric": {}, "values": ["12"]},
    "no number": {"metric": {}, "values": [[T0, "one"]]},
    "null for a value": {"metric": {}, "values": [[T0, None]]},
    "times stand still": {"metric": {}, "values": [[T0, "1"], [T0, "2"]]},
    "times go back": {"metric": {}, "values": [[T0 + 15, "1"], [T0, "2"]]},
    "before the window": {"metric": {}, "values": [[T0 - 3600, "1"]]},
    "after the window": {"metric": {}, "values": [[T0 + 3600, "1"]]},
    "a time without end": {"metric": {}, "values": [[10**400, "1"]]},
}


def _series_reply(*series: Any) -> Any:
    return {"status": "success", "data": {"resultType": "matrix", "result": list(series)}}


@pytest.mark.parametrize(
    "document",
    [
        *WRONG_SHAPES.values(),
        *map(_series_reply, WRONG_SERIES.values()),
        _series_reply(*[{"metric": {}, "values": []}] * 2),
    ],
    ids=[*WRONG_SHAPES, *WRONG_SERIES, "the same series twice"],
)
def test_json_of_another_shape_is_malformed(document: Any) -> None:
    with scripted(http(200, document)) as server, pytest.raises(SourceMalformed) as caught:
        quick(server.url).query_range(request())
    check_message(caught.value, server.url)
    assert len(server.requests) == 1


def test_what_is_not_readable_is_malformed_and_said_so() -> None:
    cases = {
        "login page or proxy": "<!DOCTYPE html><html><title>Sign in</title></html>",
        "empty answer": "  \n",
        "cut on its way": GOOD.partition(b"\r\n\r\n")[2][:-20],
        "other than JSON": "up 1\n",
        "broken": '{"status": "success", "data": NaN}',
        "cannot be read": "[" * 100_000,
        "JSON that": b'{"status": "\xff"}',
    }
    for words, body in cases.items():
        with scripted(http(200, body)) as server, pytest.raises(SourceMalformed, match=words) as caught:
            quick(server.url).query_range(request())
        check_message(caught.value, server.url)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "data", "resultType", "result", "metric", "values", "error"]), inner
        )
    ),
    max_leaves=12,
)


def test_no_answer_whatsoever_raises_anything_but_a_source_error() -> None:
    with scripted(EMPTY) as server:
        source = quick(server.url)

        @settings(max_examples=120, deadline=None, database=None)
        @given(
            st.sampled_from([200, 400, 503]),
            st.one_of(json_values, json_values.map(_series_reply), st.binary()),
        )
        def ask(status: int, body: Any) -> None:
            server.replies[-1] = http(status, body, "Retry-After: 3600")
            for question in (
                lambda: source.query_range(request()),
                lambda: source.list_series(SeriesListRequest(match="{a='b'}", start=START, end=START)),
            ):
                try:
                    question()
                except SourceError as error:
                    check_message(error, server.url)

        ask()


# --- what goes wrong ----------------------------------------------------------------------------------------


def check_message(error: SourceError, url: str) -> None:
    text = str(error)
    assert text.isprintable() and len(text) <= 600
    assert f" from {url}: " in text and "; " in text


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            http(401, "Unauthorized\n"),
            SourceRefused,
            "HTTP 401: Unauthorized; set prometheus.bearer_token_file",
        ),
        (http(403, "no org id"), SourceRefused, "HTTP 403: no org id; set prometheus.bearer_token_file"),
        (http(404, "404 page not found\n"), SourceRefused, "check the path of prometheus.url"),
        (http(405, ""), SourceRefused, "no POST through"),
        (http(413, "too large"), SourceRefused, "HTTP 413: too large"),
        (http(418, "<html>tea"), SourceRefused, "HTTP 418: an HTML page"),
        (
            failure(400, "bad_data", "1:1: parse error: no"),
            SourceRefused,
            "HTTP 400: 1:1: parse error: no; correct the",
        ),
        (failure(422, "execution", "too many samples"), SourceRefused, "HTTP 422: too many samples"),
        (http(400, "Client sent an HTTP request to an HTTPS server.\n"), SourceRefused, "to an HTTPS server"),
        (failure(500, "internal", "boom"), SourceUnavailable, "HTTP 500: boom"),
        (
            failure(503, "timeout", "query timed out"),
            SourceUnavailable,
            "query timed out; narrow the selector",
        ),
        (failure(200, "bad_data", "lies"), SourceRefused, "an error: lies"),
        (failure(200, "internal", "lies"), SourceUnavailable, "an error: lies"),
        (http(204, ""), SourceMalformed, "HTTP 204"),
        (
            http(302, "", "Location: /login?next=x"),
            SourceRefused,
            r"redirects \(302\) to /login; is that a login page",
        ),
        (
            http(301, "", "Location: https://127.0.0.1/"),
            SourceRefused,
            "redirects to another server, https://127.0.0.1/",
        ),
        (http(307, "", "Location: http://[broken"), SourceRefused, "redirects to another server"),
        (http(307, "", "Location: /again"), SourceRefused, "redirects without end"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            SourceMalformed,
            "compression",
        ),
    ],
    ids=lambda value: value[9:12].decode() if isinstance(value, bytes) else None,
)
def test_a_refusal_says_what_came_back_and_what_to_do(reply: bytes, kind: type[SourceError], words: str) -> None:
    with scripted(reply) as server, pytest.raises(kind, match=words) as caught:
        quick(server.url).query_range(request())
    check_message(caught.value, server.url)
    assert type(caught.value) is kind
    assert len(server.requests) == (4 if "without end" in words else 1), "nothing of this kind is asked twice"


def test_a_refused_credential_is_named() -> None:
    with scripted(http(401, "")) as server:
        with pytest.raises(SourceRefused, match=r"check prometheus.bearer_token_env or bearer_token_file"):
            quick(server.url, bearer_token=TOKEN).query_range(request())
        with pytest.raises(SourceRefused, match=r"check prometheus.username and password_env or password_file"):
            quick(server.url, username="ann", password=TOKEN).query_range(request())


def test_foreign_text_is_cut_and_our_secrets_in_it_are_hidden() -> None:
    echo = "you sent Bearer t0ken-of-tests and k3y-of-proxy \x1b[2J\r\n" + "x" * 5000
    with scripted(http(403, echo)) as server, pytest.raises(SourceRefused) as caught:
        quick(server.url, bearer_token=TOKEN, headers={"X-Api-Key": "k3y-of-proxy"}).query_range(request("m" * 5000))
    check_message(caught.value, server.url)
    assert "you sent Bearer *** and *** [2J x" in str(caught.value)
    assert "`" + "m" * 119 + "…`" in str(caught.value)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_overloaded_server_is_asked_again(status: int) -> None:
    with scripted(http(status, "busy"), http(status, "busy"), GOOD) as server:
        assert quick(server.url).query_range(request()).series[0].values == (1.0,)
    assert len(server.requests) == 3
    with (
        scripted(http(status, "busy")) as server,
        pytest.raises(SourceUnavailable, match="after 3 attempts") as caught,
    ):
        quick(server.url).query_range(request())
    assert len(server.requests) == 3 and caught.value.retriable


def test_no_retries_means_one_question() -> None:
    with scripted(http(503, "busy")) as server, pytest.raises(SourceUnavailable):
        quick(server.url, retries=0).query_range(request())
    assert len(server.requests) == 1


def test_retry_after_is_honoured_but_never_beyond_the_deadline() -> None:
    with scripted(http(429, "", "Retry-After: 1"), GOOD) as server:
        begun = time.monotonic()
        quick(server.url).query_range(request())
        assert 1.0 <= time.monotonic() - begun < 4.0
    for words in ("3600", "Fri, 01 Jan 2100 00:00:00 GMT"):
        reply = http(429, "", f"Retry-After: {words}")
        with scripted(reply) as server, pytest.raises(SourceUnavailable, match="HTTP 429") as caught:
            begun = time.monotonic()
            quick(server.url).query_range(request())
        assert time.monotonic() - begun < 2.5 and len(server.requests) == 1
        assert "attempts" not in str(caught.value)
    with scripted(http(429, "", "Retry-After: soon"), GOOD) as server:
        assert quick(server.url).query_range(request()).series


def test_a_broken_connection_is_tried_again() -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.close()

    def break_off(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{")

    with scripted(hang_up, break_off, GOOD) as server:
        assert quick(server.url).query_range(request()).series[0].name == "m"
    with (
        scripted(break_off) as server,
        pytest.raises(SourceUnavailable, match="the answer broke off") as caught,
    ):
        quick(server.url).query_range(request())
    check_message(caught.value, server.url)
    with scripted(b"SSH-2.0-OpenSSH_9.2\r\n") as server, pytest.raises(SourceUnavailable) as caught:
        quick(server.url).query_range(request())
    check_message(caught.value, server.url)


def test_a_closed_port_is_said_to_be_closed() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"the port is closed \(connection refused\)") as caught:
        quick(url).query_range(request())
    check_message(caught.value, url)
    assert time.monotonic() - begun < 4.0
    assert caught.value.__cause__ is not None


def test_a_name_that_does_not_resolve_is_said_not_to() -> None:
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"does not resolve|no whole answer") as caught:
        quick("http://prometheus.invalid:9090", deadline_seconds=2.0).query_range(request())
    check_message(caught.value, "http://prometheus.invalid:9090")
    assert time.monotonic() - begun < 4.0


def _stay(connection: socket.socket) -> None:
    connection.settimeout(20)
    connection.recv(1)


def _drip(head: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    def reply(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(drop)
            time.sleep(0.02)

    return reply


SLOW: dict[str, Callable[[socket.socket], None]] = {
    "never answers": _stay,
    "drips a header": _drip(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "drips headers": _drip(b"HTTP/1.1 200 OK\r\n", b"X-A: a\r\n"),
    "drips a body": _drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "drips chunks": _drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "drips an error": _drip(b"HTTP/1.1 503 No\r\nContent-Length: 100000\r\n\r\n", b" "),
    "drips without end": _drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
}


@pytest.mark.parametrize("reply", SLOW.values(), ids=SLOW)
def test_a_slow_server_holds_nobody_beyond_the_deadline(reply: Callable[[socket.socket], None]) -> None:
    with scripted(reply) as server:
        begun = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"no whole answer within 0.5 s|silent for") as caught:
            quick(server.url, deadline_seconds=0.5).query_range(request())
        assert time.monotonic() - begun < 4.0
        check_message(caught.value, server.url)
        ends_at = time.monotonic() + 3
        while [one for one in threading.enumerate() if one.name == "prometheus-exchange"]:
            assert time.monotonic() < ends_at, "the abandoned exchange goes on"
            time.sleep(0.02)


def test_a_silent_server_is_left_at_the_read_timeout_and_not_asked_again() -> None:
    with (
        scripted(_stay) as server,
        pytest.raises(SourceUnavailable, match=r"connected, then silent for 0.3 s"),
    ):
        begun = time.monotonic()
        quick(server.url, read_timeout_seconds=0.3).query_range(request())
    assert time.monotonic() - begun < 3.0 and len(server.requests) == 1


def test_the_deadline_is_one_over_all_chunks_and_retries() -> None:
    def late(connection: socket.socket) -> None:
        time.sleep(0.2)
        connection.sendall(EMPTY)

    with (
        scripted(late) as server,
        pytest.raises(SourceUnavailable, match=r"no whole answer within 0.7 s|silent"),
    ):
        begun = time.monotonic()
        quick(server.url, deadline_seconds=0.7, points_max_per_series=1).query_range(request(seconds=3000))
    assert time.monotonic() - begun < 4.0
    assert len(server.requests) <= 5


def test_a_redirect_never_carries_our_credentials_to_another_server() -> None:
    with (
        scripted(GOOD) as other,
        scripted(http(307, "", f"Location: {other.url}/api/v1/query_range")) as server,
    ):
        with pytest.raises(SourceRefused, match="redirects to another server"):
            quick(server.url, bearer_token=TOKEN).query_range(request())
        assert other.requests == []


def test_a_redirect_on_the_same_server_keeps_the_question() -> None:
    with scripted(http(308, "", "Location: /prefix/api/v1/query_range"), GOOD) as server:
        assert quick(server.url).query_range(request()).series
    assert server.requests[1][0].startswith("POST /prefix/api/v1/query_range ")
    assert server.form()["query"] == "m"


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        _endless,
        http(200, gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip"),
    ],
    ids=["declared", "endless", "gzip bomb"],
)
def test_an_answer_beyond_the_bound_is_refused_by_the_bound(reply: Reply) -> None:
    with (
        scripted(reply) as server,
        pytest.raises(SourceRefused, match=r"response_bytes_max \(1000000 bytes\)") as caught,
    ):
        quick(server.url, response_bytes_max=1_000_000).query_range(request())
    check_message(caught.value, server.url)


def test_the_bound_on_bytes_counts_all_chunks_of_a_call() -> None:
    with (
        scripted(http(200, EMPTY.partition(b"\r\n\r\n")[2] + b" " * 700)) as server,
        pytest.raises(SourceRefused),
    ):
        quick(server.url, response_bytes_max=2000, points_max_per_series=1).query_range(request())
    assert len(server.requests) == 3


def test_more_series_than_the_bound_are_refused_by_the_bound() -> None:
    reply = matrix(*(({"n": str(number)}, [[T0, "1"]]) for number in range(11)))
    with (
        scripted(reply) as server,
        pytest.raises(SourceRefused, match="11 series came back, more than the limit of 10"),
    ):
        quick(server.url, series_max=10).query_range(request())


def _exception_classes() -> list[type[BaseException]]:
    import prometheus_api_client.exceptions
    import requests.exceptions
    import urllib3.exceptions

    found = set()
    for module in (prometheus_api_client.exceptions, requests.exceptions, urllib3.exceptions):
        members = [item for _, item in inspect.getmembers(module, inspect.isclass)]
        found |= {item for item in members if issubclass(item, Exception) and not item.__module__ == "builtins"}
    assert len(found) > 55
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


@pytest.mark.parametrize("kind", _exception_classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_foreign_exception_is_mapped(kind: type[BaseException]) -> None:
    assert issubclass(kind, adapter._foreign())
    error = kind.__new__(kind)
    error.args = ("what it said",)
    if kind.__name__ in ("IncompleteRead", "InvalidChunkLength"):  # whose text needs what only they know
        error.__dict__.update(partial=b"x" if kind.__module__ == "http.client" else 1, expected=2, length=3)
    source = PrometheusMetrics("http://127.0.0.1:9090")
    mapped, _ = source._failed(source._call("metrics `m`"), error)
    assert isinstance(mapped, SourceError)
    check_message(mapped, "http://127.0.0.1:9090")


# --- a real Prometheus --------------------------------------------------------------------------------------


def line(name: str, count: int, gap: float = 15.0, start: float = T0, **labels: str) -> Series:
    return Series(
        name=name,
        labels=tuple(sorted({"job": "checkout", **labels}.items())),
        times=tuple(start + gap * number for number in range(count)),
        values=tuple(float(number * number) for number in range(count)),
    )


HOSTILE = [
    'quote" or up{x="',
    "back\\slash\\",
    "new\nline",
    "{}[]()|.*+?^$",
    "tab\tand \x01 control \x7f",
    "Zürich 💶 \u202e right-to-left",
    "\ufffd",
    "$(id) `id` %s ${x}",
]


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    require_programs("prometheus", "promtool")
    series = [
        line("up", 241, instance="a"),
        line("up", 241, instance="b"),
        line("heap_bytes", 241, instance="a"),
        line("fast_total", 12_500, gap=1.0),
        *(line("hostile", 2, text=text) for text in HOSTILE),
        # a service that is pushed, without "up"
        Series(
            name="pushed",
            labels=(("app", "batch"),),
            times=(T0 + 600, T0 + 630, T0 + 660),
            values=(1.0, 2.0, 3.0),
        ),
    ]
    with prometheus_serving(series) as url:
        yield url


@pytest.mark.real
def test_real_samples_come_back_as_they_were_written(real: str) -> None:
    with PrometheusMetrics(real) as source:
        answer = source.query_range(request('heap_bytes{job="checkout"}', seconds=3600))
    assert answer.series == (line("heap_bytes", 241, instance="a"),)
    assert answer.warnings == ()


@pytest.mark.real
def test_real_ranges_beyond_eleven_thousand_points_are_whole(real: str) -> None:
    answer = PrometheusMetrics(real).query_range(request("fast_total", seconds=12_499, step=1))
    assert answer.series == (line("fast_total", 12_500, gap=1.0),)


@pytest.mark.real
@pytest.mark.parametrize("text", HOSTILE)
def test_real_label_values_of_any_kind_select_only_themselves(real: str, text: str) -> None:
    source = PrometheusMetrics(real)
    answer = source.query_range(request(matcher('job="checkout"', "hostile", text=text), seconds=15))
    assert [one.label("text") for one in answer.series] == [text]
    assert source.query_range(request(matcher('job="checkout"', text), seconds=15)).series == ()


@pytest.mark.real
def test_a_real_refusal_carries_the_servers_own_words(real: str) -> None:
    with pytest.raises(SourceRefused, match=r"HTTP 400: .*parse error: unexpected identifier"):
        PrometheusMetrics(real).query_range(request("foo bar"))
    with pytest.raises(SourceRefused, match=r"HTTP 422: multiple matches for labels"):
        PrometheusMetrics(real).query_range(request("up * on(job) heap_bytes * on(job) group_right() up"))
    with pytest.raises(SourceRefused, match=r"check the path of prometheus.url"):
        PrometheusMetrics(real + "/wrong").query_range(request("up"))


@pytest.mark.real
def test_real_series_are_listed(real: str) -> None:
    ask = SeriesListRequest(
        match='{job="checkout",__name__!~"hostile|fast.*"}', start=START, end=START + timedelta(hours=1)
    )
    source = PrometheusMetrics(real)
    listed = source.list_series(ask)
    assert [dict(one)["__name__"] for one in listed.series] == ["heap_bytes", "up", "up"]
    assert not listed.truncated
    assert source.list_series(ask.model_copy(update={"limit": 2})).series == listed.series[:2]
    assert source.list_series(ask.model_copy(update={"match": '{job="absent"}'})).series == ()


@pytest.mark.real
def test_a_real_version_is_read(real: str) -> None:
    build = PrometheusMetrics(real).build_info()
    assert build.version[0].isdigit() and 0 < build.latency_seconds < 5


def test_a_server_without_a_version_is_still_measured() -> None:
    vector = {"status": "success", "data": {"resultType": "vector", "result": []}}
    with scripted(http(200, vector), http(200, vector), http(404, "")) as server:
        assert quick(server.url).build_info().version == ""


@pytest.mark.real
def test_one_source_serves_many_threads_at_once(real: str) -> None:
    source = PrometheusMetrics(real)
    expected = source.query_range(request("up", seconds=3600))
    wrong: list[Any] = []

    def ask() -> None:
        wrong.extend(
            answer for _ in range(10) if (answer := source.query_range(request("up", seconds=3600))) != expected
        )

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


@pytest.mark.real
def test_a_restarted_server_is_found_again_on_the_same_connection(tmp_path: Path) -> None:
    require_programs("prometheus", "promtool")
    write_openmetrics([line("up", 5)], tmp_path / "samples.txt")
    backfill(tmp_path / "samples.txt", tmp_path / "data")
    with PrometheusServer(tmp_path / "data") as server:
        source = PrometheusMetrics(server.url)
        before = source.query_range(request("up"))
        server.stop()
        with pytest.raises(SourceUnavailable, match="port is closed"):
            source.query_range(request("up"))
        server.start()
        assert source.query_range(request("up")) == before


@pytest.mark.real
def test_samples_that_are_no_numbers_are_counted_on_a_real_server() -> None:
    require_programs("prometheus", "promtool")
    written = line("m", 5).model_copy(update={"values": (1.0, math.nan, math.inf, -math.inf, 5.0)})
    with prometheus_serving([written]) as url:
        (one,) = PrometheusMetrics(url).query_range(request("m")).series
    assert (one.times, one.values, one.dropped) == ((T0, T0 + 60), (1.0, 5.0), 3)


def test_a_missing_program_skips_by_name_and_fails_where_the_real_thing_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ADVISOR_REQUIRE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        require_programs("no-such-program")
    monkeypatch.setenv("ADVISOR_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        require_programs("no-such-program")


# --- TLS and credentials, by Prometheus itself --------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    require_programs("prometheus", "promtool", "openssl")
    folder = tmp_path_factory.mktemp("tls")
    program = shutil.which("openssl") or "openssl"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(
        [program, *command.split(), *files],
        check=True,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return folder / "certificate.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def guarded(certificate: tuple[Path, Path]) -> Iterator[str]:
    config = (
        f"tls_server_config: {{cert_file: {certificate[0]}, key_file: {certificate[1]}}}\n"
        f"basic_auth_users: {{ann: '{PASSWORD_BCRYPT}'}}\n"
    )
    with prometheus_serving([line("up", 5)], web_config=config) as url:
        yield url


@pytest.mark.real
def test_tls_and_a_password_open_a_guarded_server(guarded: str, certificate: tuple[Path, Path]) -> None:
    source = PrometheusMetrics(guarded, ca_file=certificate[0], username="ann", password=PASSWORD)
    assert len(source.query_range(request("up")).series) == 1
    careless = PrometheusMetrics(guarded, insecure_skip_verify=True, username="ann", password=PASSWORD)
    assert len(careless.query_range(request("up")).series) == 1


@pytest.mark.real
def test_an_unknown_certificate_is_refused_with_the_setting_to_change(guarded: str) -> None:
    with pytest.raises(SourceRefused, match=r"certificate is not trusted .*set prometheus.ca_file") as caught:
        quick(guarded, username="ann", password=PASSWORD).query_range(request("up"))
    check_message(caught.value, guarded)
    assert PASSWORD not in str(caught.value)


@pytest.mark.real
def test_a_wrong_password_and_a_wrong_scheme_are_told_apart(guarded: str, certificate: tuple[Path, Path]) -> None:
    with pytest.raises(SourceRefused, match=r"HTTP 401: Unauthorized; check prometheus.username"):
        quick(guarded, ca_file=certificate[0], username="ann", password=TOKEN).query_range(request("up"))
    with pytest.raises(SourceRefused, match="HTTP 400: Client sent an HTTP request to an HTTPS server"):
        quick(guarded.replace("https", "http")).query_range(request("up"))


@pytest.mark.real
def test_a_server_without_tls_is_told_apart(real: str) -> None:
    with pytest.raises(SourceRefused, match=r"does not speak TLS there; does prometheus.url want http://"):
        quick(real.replace("http", "https")).query_range(request("up"))


@pytest.mark.real
def test_our_own_certificate_is_shown_where_the_server_wants_one(certificate: tuple[Path, Path]) -> None:
    config = (
        f"tls_server_config: {{cert_file: {certificate[0]}, key_file: {certificate[1]},"
        f" client_auth_type: RequireAndVerifyClientCert, client_ca_file: {certificate[0]}}}\n"
    )
    with prometheus_serving([line("up", 5)], web_config=config) as url:
        shown = PrometheusMetrics(url, ca_file=certificate[0], certificate_file=certificate[0], key_file=certificate[1])
        assert len(shown.query_range(request("up")).series) == 1
        # Its alert comes after the handshake, so the end of the connection may be seen before it.
        with pytest.raises(SourceError, match=r"ended the TLS session .*key_file|TLS failed|connection|broke off"):
            quick(url, ca_file=certificate[0]).query_range(request("up"))


@pytest.mark.real
def test_a_ca_file_that_is_none_is_refused(guarded: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(SourceError, match="ca_file") as caught:
        quick(guarded, ca_file=tmp_path / "ca.pem").query_range(request("up"))
    check_message(caught.value, guarded)
