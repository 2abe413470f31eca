"""The real clients of three makers over HTTP against a scripted server: what is sent, what comes back, and every fault."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

pytest.importorskip("langchain_openai", reason="langchain is not installed")

from advisor.adapters.language_model import ChatModels, ModelSettings
from advisor.adapters.language_model.budget import Limits, Meter, Price
from advisor.errors import AdvisorError, ModelAnswerInvalid, ModelError, ModelRefused, ModelUnavailable
from advisor.model_port import (
    ConversationEvent,
    ConversationLimits,
    Message,
    ModelRequest,
    Role,
    StopReason,
    Tool,
)
from tests.support.model_server import ModelServer, Step

PROVIDERS = ("openai", "anthropic", "ollama")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
KEY = "key-5a8e1f0c77"
MESSAGES = (Message(role=Role.SYSTEM, text="rules"), Message(role=Role.USER, text="question"))
PLAIN = ModelRequest(purpose="test", messages=MESSAGES)
SHAPED = ModelRequest(purpose="test", messages=MESSAGES, answer_schema=SCHEMA)
WIDE = Limits(calls=50, input_tokens=10**7, output_tokens=10**7, seconds=600, usd=None)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def models(
    provider: str,
    url: str,
    *,
    deadline: float = 20.0,
    retries: int = 2,
    limits: Limits = WIDE,
    prices: dict[str, Price] | None = None,
    slept: list[float] | None = None,
    **settings: Any,
) -> ChatModels:
    one = ModelSettings(f"{provider}:test-1", base_url=url, api_key=KEY, key_from="TEST_KEY", seed=7, **settings)
    waits = slept if slept is not None else []
    return ChatModels((one,), Meter(limits, prices or {}), deadline, retries, waits.append, lambda: 0.5)


def answering(provider: str) -> Step:
    """Return a step that answers in the shape the maker's own way."""
    return Step(calls=(("answer", {"a": 1}),)) if provider == "anthropic" else Step(text='{"a": 1}')


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_shaped_answer_comes_back_with_what_it_cost(provider: str) -> None:
    with ModelServer([answering(provider)]) as server:
        prices = {f"{provider}:test-1": Price(input=2.0, output=10.0)}
        model = models(provider, server.base_url(provider), prices=prices)
        reply = model.ask(SHAPED)
    assert json.loads(reply.text) == {"a": 1}
    assert (reply.usage.calls, reply.usage.input_tokens, reply.usage.output_tokens) == (1, 1200, 80)
    assert reply.usage.usd == pytest.approx(1200 * 2e-6 + 80 * 1e-5)
    assert reply.model == f"{provider}:test-1"
    sent = json.dumps(server.asked[0].body)
    assert "rules" in sent and "question" in sent and '"additionalProperties"' in sent


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("way", ["schema", "tool", "text"])
def test_each_way_of_asking_for_structure_is_spoken(provider: str, way: str) -> None:
    step = Step(calls=(("answer", {"a": 1}),)) if way == "tool" else Step(text='{"a": 1}')
    with ModelServer([step]) as server:
        reply = models(provider, server.base_url(provider), answer=way).ask(SHAPED)
    assert json.loads(reply.text) == {"a": 1}


def test_a_server_that_does_not_know_the_way_is_asked_more_simply() -> None:
    refuse = Step(status=400, text="response_format is not supported")
    with ModelServer([refuse, refuse, Step(text='Sure: {"a": 1}')]) as server:
        reply = models("openai", server.base_url("openai")).ask(SHAPED)
    assert reply.text == 'Sure: {"a": 1}'
    assert ["response_format" in a.body for a in server.asked] == [True, False, False]
    assert ["tools" in a.body for a in server.asked] == [False, True, False]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_a_no_for_good_is_not_repeated(provider: str, status: int) -> None:
    with ModelServer([Step(status=status, text=f"no, {KEY} will not do")]) as server:
        with pytest.raises(ModelRefused) as told:
            models(provider, server.base_url(provider)).ask(PLAIN)
        assert len(server.asked) == 1
    line = str(told.value)
    assert f"{provider}:test-1" in line and "\n" not in line
    assert ("TEST_KEY" in line) == (status in (401, 403))


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_what_may_pass_is_tried_again(provider: str, status: int) -> None:
    slept: list[float] = []
    with ModelServer([Step(status=status, text="busy"), Step(status=status, text="busy"), Step(text="yes")]) as server:
        reply = models(provider, server.base_url(provider), slept=slept).ask(PLAIN)
    assert reply.text == "yes"
    assert reply.usage.calls == 3
    assert len(slept) == 2 and slept[1] > slept[0] > 0


def test_retry_after_is_kept_to_and_bounded() -> None:
    slept: list[float] = []
    steps = [
        Step(status=429, headers={"Retry-After": "3"}),
        Step(status=429, headers={"Retry-After": "9999"}),
        Step(text="y"),
    ]
    with ModelServer(steps) as server:
        models("openai", server.base_url("openai"), slept=slept, deadline=60).ask(PLAIN)
    assert 3 <= slept[0] < 4 and slept[1] <= 25


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_server_that_stays_down_is_unavailable(provider: str) -> None:
    with ModelServer([Step(status=500, text="broken")]) as server:
        with pytest.raises(ModelUnavailable, match="HTTP 500"):
            models(provider, server.base_url(provider)).ask(PLAIN)
        assert len(server.asked) == 3


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nobody_there(provider: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ModelUnavailable, match="cannot be reached") as told:
        models(provider, f"http://127.0.0.1:{port}/v1", retries=0).ask(PLAIN)
    assert f"127.0.0.1:{port}" in str(told.value)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "step",
    [
        Step(text="x" * 400, trickle=1.0),
        Step(text="late", delay=30.0),
    ],
    ids=["one byte a second", "silent"],
)
def test_the_deadline_ends_it_whatever_the_server_does(provider: str, step: Step) -> None:
    models(provider, "http://127.0.0.1:1/v1", retries=0)  # what is imported once is not what is measured here
    with ModelServer([step]) as server:
        model = models(provider, server.base_url(provider), deadline=2.0, retries=0)
        began = time.monotonic()
        with pytest.raises(ModelUnavailable, match="no answer within"):
            model.ask(PLAIN)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "step",
    [
        Step(raw=b""),
        Step(raw=b"<html>gateway</html>"),
        Step(raw=b"null"),
        Step(raw=b"[]"),
        Step(raw=b'{"choices": []}'),
        Step(raw=b'{"choices": null}'),
        Step(raw=b"\xff\xfe\x00"),
        Step(text="long" * 100, cut=40),
        Step(drop=True),
    ],
    ids=["empty", "html", "null", "list", "no choices", "null choices", "no text", "cut", "dropped"],
)
def test_what_is_no_answer_is_an_error_in_one_line(provider: str, step: Step) -> None:
    with ModelServer([step]) as server:
        try:
            reply = models(provider, server.base_url(provider), retries=0).ask(PLAIN)
        except ModelError as error:
            assert "\n" not in str(error) and f"{provider}:test-1" in str(error)
            assert "Traceback" not in str(error)
        else:
            assert len(reply.text) < 400  # what came is kept for the judgement, which refuses it


@pytest.mark.parametrize(
    "provider", ["openai", "anthropic"]
)  # Ollama's client adds up a stream: there the deadline ends it
def test_a_megabyte_is_cut(provider: str) -> None:
    with ModelServer([Step(text="é" * 1_000_000)]) as server:
        reply = models(provider, server.base_url(provider)).ask(PLAIN)
    assert len(reply.text) == 200_000


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_refusal_is_told_apart(provider: str) -> None:
    with ModelServer([Step(text="I cannot.", refusal=True)]) as server:
        assert models(provider, server.base_url(provider)).ask(PLAIN).stop is StopReason.REFUSED


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_answer_cut_at_its_limit_is_told_apart(provider: str) -> None:
    with ModelServer([Step(text='{"a": ', stop="length")]) as server:
        assert models(provider, server.base_url(provider)).ask(PLAIN).stop is StopReason.LENGTH


def test_the_fallback_answers_when_the_first_cannot() -> None:
    with ModelServer([Step(status=500)]) as down, ModelServer([Step(text="from the second")]) as up:
        pair = (
            ModelSettings("openai:first", base_url=down.base_url("openai"), api_key=KEY),
            ModelSettings("ollama:second", base_url=up.base_url("ollama")),
        )
        reply = ChatModels(pair, Meter(WIDE, {}), 20, 1, lambda s: None).ask(PLAIN)
    assert (reply.text, reply.model) == ("from the second", "ollama:second")
    assert reply.usage.calls == 3


def test_a_model_that_keeps_failing_is_left_alone_for_a_while() -> None:
    with ModelServer([Step(status=500)]) as server:
        model = models("openai", server.base_url("openai"), retries=2)
        with pytest.raises(ModelUnavailable):
            model.ask(PLAIN)
        asked = len(server.asked)
        with pytest.raises(ModelUnavailable, match="not asked, it failed"):
            model.ask(PLAIN)
        assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (WIDE._replace(calls=2), "2 of 2 calls"),
        (WIDE._replace(output_tokens=100), "output tokens"),
        (WIDE._replace(input_tokens=2000), "input tokens"),
        (WIDE._replace(usd=0.005), "US dollars"),
    ],
)
def test_what_is_over_budget_is_not_asked(limits: Limits, said: str) -> None:
    prices = {"openai:test-1": Price(input=2.0, output=10.0)}
    with ModelServer([Step(text="y")]) as server:
        model = models("openai", server.base_url("openai"), limits=limits, prices=prices)
        model.ask(PLAIN)
        model.ask(PLAIN)
        asked = len(server.asked)
        with pytest.raises(ModelRefused, match=said):
            model.ask(PLAIN)
        assert len(server.asked) == asked == 2


def test_money_without_a_price_is_refused_before_it_is_spent() -> None:
    with ModelServer([Step(text="y")]) as server:
        with pytest.raises(ModelRefused, match="no price"):
            models("openai", server.base_url("openai"), limits=WIDE._replace(usd=1.0)).ask(PLAIN)
        assert not server.asked


def test_the_key_is_in_the_header_and_nowhere_else() -> None:
    with ModelServer([Step(status=401, text="bad")]) as server:
        model = models("openai", server.base_url("openai"))
        with pytest.raises(ModelRefused) as told:
            model.ask(PLAIN)
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in json.dumps(server.asked[0].body)
    assert KEY not in str(told.value) and KEY not in repr(model._models)


def test_nothing_is_traced_to_a_third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "x")
    with ModelServer([Step(text="y")]) as server, ModelServer([Step(text="{}")]) as elsewhere:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", elsewhere.address)
        models("openai", server.base_url("openai")).ask(PLAIN)
        time.sleep(0.5)
        assert not elsewhere.asked


def test_a_connection_without_trust_is_refused(tmp_path: Path) -> None:
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    with ModelServer([Step(text="y")]) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
        url = server.base_url("openai").replace("http:", "https:")
        with pytest.raises(ModelError, match=r"TLS|certificate"):
            models("openai", url, retries=0).ask(PLAIN)
        assert models("openai", url, retries=0, ca_file=str(certificate)).ask(PLAIN).text == "y"


# --- conversations -----------------------------------------------------------------------------------------------------


class Words(BaseModel):
    q: str


def look(a: Words) -> str:
    return f"found {a.q}"


LOOK = Tool("look", "Look something up.", Words, look)
ASKED = (Message(role=Role.USER, text="what is wrong?"),)


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def conversing(
    provider: str, steps: list[Step], limits: ConversationLimits | None = None, tools: tuple[Tool, ...] = (LOOK,)
) -> tuple[str, list[ConversationEvent], ModelServer]:
    heard: list[ConversationEvent] = []
    with ModelServer(steps) as server:
        reply = models(provider, server.base_url(provider)).converse(
            "rules", ASKED, tools, limits or ConversationLimits(), heard.append
        )
    return reply.text, heard, server


def test_a_tool_is_called_and_its_answer_told(provider: str) -> None:
    text, heard, server = conversing(provider, [Step(calls=(("look", {"q": "heap"}),)), Step(text="It rose [M1].")])
    assert text == "It rose [M1]."
    assert [e.kind for e in heard][:2] == ["tool_begin", "tool_end"]
    assert "".join(e.text for e in heard if e.kind == "text") == "It rose [M1]."
    assert "found heap" in json.dumps(server.asked[1].body)


@pytest.mark.parametrize(
    "call",
    [("look", {"z": 1}), ("look", {"q": 5}), ("rm_rf", {"q": "x"}), ("look", {}), ("approve", {"proposal": "pro-1"})],
    ids=["wrong name", "wrong type", "unknown tool", "nothing", "approve"],
)
def test_a_call_that_does_not_fit_runs_nothing(provider: str, call: tuple[str, dict[str, Any]]) -> None:
    ran: list[str] = []

    def run(a: Words) -> str:
        ran.append(a.q)
        return "x"

    text, _heard, _server = conversing(
        provider, [Step(calls=(call,)), Step(text="sorry")], tools=(Tool("look", "d", Words, run),)
    )
    assert text == "sorry" and not ran


def test_a_model_that_never_ends_is_ended(provider: str) -> None:
    with pytest.raises(ModelUnavailable, match="no end"):
        conversing(provider, [Step(calls=(("look", {"q": "x"}),))], ConversationLimits(model_calls=4))


def test_equal_and_surplus_calls_are_answered_from_the_record(provider: str) -> None:
    ran: list[str] = []

    def run(a: Words) -> str:
        ran.append(a.q)
        return "x" * 50_000

    same = Step(calls=(("look", {"q": "same"}),))
    text, _heard, server = conversing(
        provider,
        [same, same, same, Step(text="enough")],
        ConversationLimits(tool_calls=9, equal_calls=2, tool_characters=1000),
        (Tool("look", "d", Words, run),),
    )
    assert text == "enough" and ran == ["same"]
    assert "asked exactly this before" in json.dumps(server.asked[3].body)
    assert len(json.dumps(server.asked[1].body)) < 6000


def test_a_fault_of_a_tool_is_an_answer(provider: str) -> None:
    def fails(a: Words) -> str:
        raise AdvisorError("prometheus is down")

    text, _heard, server = conversing(
        provider,
        [Step(calls=(("look", {"q": "x"}),)), Step(text="It is down.")],
        tools=(Tool("look", "d", Words, fails),),
    )
    assert text == "It is down."
    assert "failed: prometheus is down" in json.dumps(server.asked[1].body)


@pytest.mark.parametrize(
    "last", [Step(status=500), Step(drop=True), Step(raw=b"nonsense"), Step(text="cut" * 50, cut=60)]
)
def test_a_server_that_dies_after_two_good_rounds(provider: str, last: Step) -> None:
    steps = [Step(calls=(("look", {"q": "a"}),)), Step(calls=(("look", {"q": "b"}),)), last]
    heard: list[ConversationEvent] = []
    with ModelServer(steps) as server:
        model = models(provider, server.base_url(provider))
        try:
            model.converse("rules", ASKED, (LOOK,), ConversationLimits(seconds=20), heard.append)
        except ModelError as error:
            assert "\n" not in str(error)
    assert [e.text for e in heard if e.kind == "tool_end"] == ["found a", "found b"]


def test_a_slow_conversation_ends_on_time(provider: str) -> None:
    began = time.monotonic()
    with pytest.raises(ModelUnavailable):
        conversing(provider, [Step(text="x" * 200, trickle=0.5)], ConversationLimits(seconds=2))
    assert time.monotonic() - began < 15


def test_threads_that_are_left_behind_do_not_hold_the_process() -> None:
    with ModelServer([Step(text="x", delay=60)]) as server, pytest.raises(ModelUnavailable):
        models("openai", server.base_url("openai"), deadline=1.0, retries=0).ask(PLAIN)
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("model-"))


def test_invalid_is_its_own_error() -> None:
    with ModelServer([Step(raw=b"<html>")]) as server, pytest.raises((ModelAnswerInvalid, ModelUnavailable)):
        models("openai", server.base_url("openai"), retries=0).ask(PLAIN)
