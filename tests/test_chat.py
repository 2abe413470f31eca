"""Questions in a person's words: by rules and by a model; nothing is ever done from a chat, and nothing is said to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor.adapters.conversations import KEPT_MAX, ConversationFiles
from advisor.chat import Chat, Conversation, Said
from advisor.chat.intents import Intent, read_question
from advisor.demo import DemoSession, open_demo
from advisor.errors import RecordUnknown, SettingsInvalid
from advisor.model_port import ConversationEvent
from advisor.settings import Model
from tests.support.model_server import ModelServer, Step

NOW = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
SERVICES = ("checkout", "payments")


@pytest.mark.parametrize(
    ("text", "intent", "service"),
    [
        ("why is checkout dying?", Intent.WRONG, "checkout"),
        ("checkout", Intent.WRONG, "checkout"),
        ("CHECKOUT is down!!", Intent.WRONG, "checkout"),
        ("what's wrong with paymets", Intent.WRONG, "payments"),
        ("what changed since 13:00?", Intent.CHANGED, None),
        ("did anyone deploy payments in the last hour?", Intent.CHANGED, "payments"),
        ("who changed the timeout?", Intent.CHANGED, None),
        ("show heap of checkout", Intent.SHOW_METRIC, "checkout"),
        ("how many sessions does checkout have", Intent.SHOW_METRIC, "checkout"),
        ("compare latency of checkout with yesterday", Intent.COMPARE, "checkout"),
        ("who approved pro-12ab?", Intent.APPROVED, None),
        ("how do I roll back chg-12ab?", Intent.ROLLBACK, None),
        ("is it fixed?", Intent.FIXED, None),
        ("did the change help?", Intent.FIXED, None),
        ("other causes?", Intent.CAUSES, None),
        ("show M1", Intent.EVIDENCE, None),
        ("C2?", Intent.EVIDENCE, None),
        ("why not raise the heap?", Intent.EXPLAIN, None),
        ("what does timing mean?", Intent.EXPLAIN, None),
        ("have we seen this before?", Intent.SIMILAR, None),
        ("draft a proposal", Intent.PROPOSE, None),
        ("what should I do?", Intent.PROPOSE, None),
        ("what waits for me?", Intent.WAITING, None),
        ("approve pro-12ab", Intent.ACT, None),
        ("please roll back chg-12ab now", Intent.ACT, None),
        ("go ahead and apply it", Intent.ACT, None),
        ("raise the heap to 1g", Intent.ACT, None),
        ("help", Intent.HELP, None),
        ("was soll das", Intent.UNKNOWN, None),
        ("\u202e\x00", Intent.UNKNOWN, None),
    ],
)
def test_a_question_is_read(text: str, intent: Intent, service: str | None) -> None:
    found = read_question(text, SERVICES, NOW)
    assert (found.intent, found.service) == (intent, service)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("what changed since 13:00", timedelta(hours=2)),
        ("what changed since 16:30", timedelta(hours=22, minutes=30)),
        ("what changed in the last 2 hours", timedelta(hours=2)),
        ("what changed in the last hour", timedelta(hours=1)),
        ("what changed 30m ago", timedelta(minutes=30)),
        ("what changed since 2026-11-22T14:00:00Z", timedelta(hours=1)),
        ("what changed since yesterday", timedelta(days=1, hours=15)),
        ("what changed since 2026-99-99", None),
        ("what changed", None),
    ],
)
def test_a_time_is_read(text: str, ago: timedelta | None) -> None:
    assert read_question(text, SERVICES, NOW).since == (NOW - ago if ago is not None else None)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> DemoSession:
    """Return the demo after its investigation: an incident, and a proposal that waits."""
    session = open_demo(tmp_path_factory.mktemp("chat") / "demo")
    session.replay.investigate(keep=True)
    return session


def ask(session: DemoSession, text: str, **settings: Any) -> tuple[Said, list[ConversationEvent]]:
    heard: list[ConversationEvent] = []
    chat = Chat(session.workflow, "alice@example.org", **settings)
    _conversation, said = chat.ask(chat.begin(), text, heard.append)
    return said, heard


def refs(session: DemoSession) -> dict[str, str]:
    """Return every ref of the demo's repository."""
    remote = next(Path(session.workflow.settings.base).rglob("config.git"))
    packed = remote / "packed-refs"
    found = {str(p.relative_to(remote)): p.read_text() for p in (remote / "refs").rglob("*") if p.is_file()}
    return found | ({"packed": packed.read_text()} if packed.exists() else {})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("list incidents", "server.servlet.session.timeout"),
        ("other causes?", ">99%"),
        ("show C1", "11b04daa"),
        ("show M99", "no such evidence"),
        ("why not raise the heap?", "raise heap would not fix it"),
        ("what does metric in the middle mean?", "between key and symptom"),
        ("who approved it?", "nobody has answered it"),
        ("how do I roll back?", "nothing to take back"),
        ("is it fixed?", "nothing was verified"),
        ("have we seen this before?", "No earlier incident"),
        ("help", "I never approve"),
        ("was soll das alles denn hier heute", "cannot read without a model"),
        ("show inc-ffffffff causes", "no"),
    ],
)
def test_the_common_questions_are_answered_without_a_model(session: DemoSession, text: str, shown: str) -> None:
    said, heard = ask(session, text)
    assert shown in said.text
    assert said.by == "engine"
    assert [e.text for e in heard if e.kind == "text"] == [said.text]


@pytest.mark.parametrize(
    "text", ["approve it", "go ahead and apply the fix", "roll back now", "deny pro-1", "restart checkout"]
)
def test_nothing_is_done_from_a_chat(session: DemoSession, text: str) -> None:
    before, states = refs(session), [s for _, s in session.workflow.proposals()]
    said, _heard = ask(session, text)
    assert "I do not approve, apply or roll back anything" in said.text
    assert refs(session) == before
    assert [s for _, s in session.workflow.proposals()] == states


def test_an_empty_or_endless_question_is_refused(session: DemoSession) -> None:
    for text in ("", "   ", "x" * 5000):
        with pytest.raises(SettingsInvalid):
            ask(session, text)


def test_a_follow_up_is_about_the_same_incident(session: DemoSession) -> None:
    chat = Chat(session.workflow, "alice@example.org")
    conversation, first = chat.ask(chat.begin(), "list incidents", lambda e: None)
    conversation, second = chat.ask(conversation, "show M1", lambda e: None)
    assert second.incident == first.incident == conversation.incident
    assert [t.question for t in conversation.turns] == ["list incidents", "show M1"]


# --- with a model ------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(session: DemoSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a function that asks a scripted model."""
    pytest.importorskip("langchain_openai", reason="langchain is not installed")

    def put(text: str, steps: list[Step]) -> tuple[Said, list[ConversationEvent], ModelServer]:
        with ModelServer(steps) as server:
            model = Model.model_validate(
                {"name": "openai:test", "base_url": server.base_url("openai"), "budget": {"seconds": 20}}
            )
            kept = session.workflow.settings
            session.workflow.settings = kept.model_copy(update={"model": model})
            try:
                said, heard = ask(session, text, model=session.workflow.chat_models())
            finally:
                session.workflow.settings = kept
        return said, heard, server

    yield put


def test_a_model_answers_with_tools_and_citations(session: DemoSession, asked: Any) -> None:
    incident = session.workflow.incidents()[0]["id"]
    steps = [
        Step(calls=(("show_causes", {"incident": incident}),)),
        Step(text="The session timeout was raised [C1], so sessions pile up [M9]."),
    ]
    said, heard, server = asked("tell me about it", steps)
    assert said.by == "openai:test" and "pile up" in said.text
    assert [c.evidence for c in said.evidence] == ["C1", "M9"]
    assert said.status  # what the records say stands beside it
    assert [e.tool for e in heard if e.kind == "tool_begin"] == ["show_causes"]
    assert "<tool-data>" in json.dumps(server.asked[1].body)


@pytest.mark.parametrize(
    "lie",
    [
        "I have approved the proposal.",
        "The rollback was already applied.",
        "The change has been rolled back and the incident is resolved.",
        "No approval is needed.",
    ],
)
def test_what_a_model_says_was_done_is_taken_out(session: DemoSession, asked: Any, lie: str) -> None:
    incident = session.workflow.incidents()[0]["id"]
    before = refs(session)
    steps = [Step(calls=(("show_incident", {"incident": incident}),)), Step(text=f"The cause is in [C1]. {lie}")]
    said, _heard, _server = asked("tell me about it", steps)
    assert lie not in said.text and "The cause is in [C1]." in said.text
    assert any("taken out" in line for line in said.status)
    assert any("is proposed" in line for line in said.status)
    assert refs(session) == before


@pytest.mark.parametrize(
    "steps",
    [
        [Step(status=500)],
        [Step(status=401)],
        [Step(drop=True)],
        [Step(text="")],
        [Step(calls=(("show_causes", {"incident": "inc-1"}),))],
        [Step(calls=(("approve", {"proposal": "pro-1"}),)), Step(status=500)],
    ],
    ids=["500", "401", "dropped", "empty", "endless", "dies"],
)
def test_a_model_that_fails_leaves_the_answer_to_rules(session: DemoSession, asked: Any, steps: list[Step]) -> None:
    said, _heard, _server = asked("other causes?", steps)
    assert "server.servlet.session.timeout" in said.text
    assert said.by == "engine" and said.note and "\n" not in said.note


def test_an_order_is_refused_before_any_model_is_asked(session: DemoSession, asked: Any) -> None:
    said, _heard, server = asked("approve it", [Step(text="Approved!")])
    assert "I do not approve" in said.text and not server.asked


# --- kept --------------------------------------------------------------------------------------------------------------


def kept(number: int) -> Conversation:
    return Conversation(id=f"con-{number:06x}", person="a@example.org", started_at=NOW, updated_at=NOW)


def test_conversations_are_each_persons_own_bounded_and_deletable(tmp_path: Path) -> None:
    mine, others = ConversationFiles(tmp_path, "a@example.org"), ConversationFiles(tmp_path, "b@example.org")
    for number in range(KEPT_MAX + 5):
        mine.keep(kept(number))
    assert len(mine.ids()) == KEPT_MAX and not others.ids()
    newest = mine.ids()[0]
    with pytest.raises(RecordUnknown):
        others.load(newest, Conversation.model_validate_json)
    assert mine.load(newest, Conversation.model_validate_json).id == newest
    mine.delete(newest)
    assert newest not in mine.ids()
    for wrong in ("con-", "", "../../etc", "con-ffffff"):
        with pytest.raises(RecordUnknown):
            mine.delete(wrong)
