"""The read-only tools of a model in a conversation, and the one that drafts a proposal. Typed, bounded, redacted.

None of them can approve, apply, deny or roll back: there is no such function to call. What a tool returns is data from
outside; it goes to the model inside a frame, as in the dossier.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from advisor.chat.answers import Answers
from advisor.chat.intents import Intent, Question
from advisor.chat.records import Said
from advisor.diagnosis.dossier import escape
from advisor.model_port import Tool
from advisor.redaction import redact
from advisor.values import parse_instant

Name = Annotated[str, Field(max_length=120)]
Id = Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z0-9-]+$")]
Time = Annotated[str, Field(max_length=40, description="RFC 3339, or an age such as 15m or 2h")]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ServiceArguments(_Arguments):
    """A service of the settings."""

    service: Name


class InvestigateArguments(_Arguments):
    """What to investigate, and when the symptom was noticed."""

    service: Name
    noticed_at: Time | None = None


class IncidentArguments(_Arguments):
    """An incident by its id."""

    incident: Id


class EvidenceArguments(_Arguments):
    """Pieces of evidence of an incident."""

    incident: Id
    ids: list[Annotated[str, Field(max_length=12)]] = Field(max_length=12)


class ChangesArguments(_Arguments):
    """What changed in a service's configuration since an instant."""

    service: Name
    since: Time | None = None


class MetricArguments(_Arguments):
    """A metric of a service, by words or by its name."""

    service: Name
    words: Annotated[str, Field(max_length=120, description="heap, latency, sessions, or a metric's name")]
    since: Time | None = None


class TermArguments(_Arguments):
    """A term of an incident's ranking, or a remedy that was rejected."""

    incident: Id
    term: Annotated[str, Field(max_length=80)]


class SubjectArguments(_Arguments):
    """A proposal, a change or an incident by its id."""

    subject: Id


class NoArguments(_Arguments):
    """Nothing to say."""


def tools_of(answers: Answers, heard: Callable[[Said], None], now: Callable[[], datetime]) -> tuple[Tool, ...]:
    """Return the tools over a workflow's answers.

    Args:
        answers: Where the answers come from.
        heard: Called with each answer, so that its evidence and cards can be shown beside the model's words.
        now: What ages count from.
    """

    def told(said: Said) -> str:
        heard(said)
        cited = [f"{c.evidence}: {c.summary}" for c in said.evidence]
        content: dict[str, Any] = {"answer": said.text, "incident": said.incident, "evidence": cited}
        if said.status:
            content["records_say"] = list(said.status)
        return f"<tool-data>\n{redact(escape(content))}\n</tool-data>"

    def question(intent: Intent, **fields: Any) -> Question:
        return Question(intent=intent, text=fields.pop("text", ""), **fields)

    def when(text: str | None) -> datetime | None:
        return parse_instant(text, now()) if text else None

    def investigate(a: InvestigateArguments) -> str:
        asked = question(Intent.WRONG, service=a.service, since=when(a.noticed_at))
        return told(answers.wrong(asked, None))

    def changes(a: ChangesArguments) -> str:
        return told(answers.changed(question(Intent.CHANGED, service=a.service, since=when(a.since)), None))

    def metric(a: MetricArguments) -> str:
        asked = question(Intent.SHOW_METRIC, service=a.service, words=a.words, since=when(a.since))
        return told(answers.metric(asked))

    def compare(a: MetricArguments) -> str:
        asked = question(Intent.COMPARE, service=a.service, words=a.words, since=when(a.since))
        return told(answers.compared(asked))

    def subject(intent: Intent, run: Callable[[Question, str | None], Said]) -> Callable[[SubjectArguments], str]:
        def call(a: SubjectArguments) -> str:
            about = a.subject if a.subject.startswith("inc-") else None
            return told(run(question(intent, subject=a.subject.lower()), about))

        return call

    return (
        Tool("find_incidents", "List the newest incidents.", NoArguments, lambda a: told(answers.incidents(None))),
        Tool(
            "find_incidents_of",
            "List a service's incidents.",
            ServiceArguments,
            lambda a: told(answers.incidents(a.service)),
        ),
        Tool("investigate", "Gather evidence and rank the causes for a service.", InvestigateArguments, investigate),
        Tool(
            "show_incident",
            "Tell the verdict of an incident again.",
            IncidentArguments,
            lambda a: told(answers.told(answers.workflow.incident(a.incident))),
        ),
        Tool(
            "show_causes",
            "Show the ranking of an incident.",
            IncidentArguments,
            lambda a: told(answers.causes(a.incident)),
        ),
        Tool(
            "show_evidence",
            "Show pieces of evidence with their sources.",
            EvidenceArguments,
            lambda a: told(answers.evidence(tuple(a.ids), a.incident)),
        ),
        Tool("what_changed", "List configuration changes by key.", ChangesArguments, changes),
        Tool("show_metric", "Show a metric of a service.", MetricArguments, metric),
        Tool("compare_windows", "Compare a metric now with the same hour earlier.", MetricArguments, compare),
        Tool(
            "similar_incidents",
            "Find earlier incidents like one.",
            IncidentArguments,
            lambda a: told(answers.similar(a.incident)),
        ),
        Tool(
            "explain_term",
            "Explain a term of a ranking, or why a remedy was rejected.",
            TermArguments,
            lambda a: told(answers.explained(question(Intent.EXPLAIN, text=a.term), a.incident)),
        ),
        Tool(
            "draft_proposal",
            "Draft the remedy of an incident; it then waits for a person.",
            IncidentArguments,
            lambda a: told(answers.propose(a.incident)),
        ),
        Tool(
            "show_rollback",
            "Show what taking a change back would write; writes nothing.",
            SubjectArguments,
            subject(Intent.ROLLBACK, answers.rollback),
        ),
        Tool(
            "who_answered", "Say who answered a proposal.", SubjectArguments, subject(Intent.APPROVED, answers.approved)
        ),
        Tool("is_it_fixed", "Say what verification found.", SubjectArguments, subject(Intent.FIXED, answers.fixed)),
        Tool("what_waits", "List what waits for an answer.", NoArguments, lambda a: told(answers.waiting())),
    )
