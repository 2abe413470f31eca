"""A bundle: an incident as recorded, every request and answer of every source, so that it can be replayed offline.

One zip file, byte for byte the same for the same content: ``manifest.json`` (schema, service, clock, settings that matter),
``tape.jsonl`` (one exchange a line), ``report.json`` (what was concluded then) and ``repositories/NAME/…`` (a cut copy of the
configuration history, enough to build the same proposal). Everything in it was redacted before it was recorded.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from advisor import errors
from advisor.errors import AdvisorError, ModelError, SettingsInvalid, SourceError, SourceUnavailable, one_line
from advisor.evidence import (
    ChangeAnswer,
    ChangeRequest,
    ChangeSource,
    LogAnswer,
    LogRequest,
    LogSource,
    MetricAnswer,
    MetricRequest,
    MetricSource,
    SeriesListAnswer,
    SeriesListRequest,
)
from advisor.model_port import (
    Conversant,
    ConversationEvent,
    ConversationLimits,
    LanguageModel,
    Message,
    ModelReply,
    ModelRequest,
    ModelUsage,
    Tool,
)
from advisor.values import Record, canonical_json

SCHEMA = "advisor.bundle/v1"
BUNDLE_BYTES_MAX = 64 * 1024 * 1024
MEMBER_BYTES_MAX = 512 * 1024 * 1024  # of unpacked JSON; a zip bomb ends here
_ZIP_TIME = (2026, 1, 1, 0, 0, 0)  # a zip entry has a date; a fixed one keeps equal content equal

RequestT = TypeVar("RequestT", bound=Record)
AnswerT = TypeVar("AnswerT", bound=Record)


class Exchange(Record):
    """One question to a source and what came back: an answer, or the error as a value."""

    source: str
    request: dict[str, Any]
    answer: dict[str, Any] | None = None
    error: str | None = None
    message: str | None = None


class Tape:
    """The exchanges of an incident: recorded in any order, written in one, found by question."""

    def __init__(self, exchanges: Iterable[Exchange] = ()) -> None:
        """Start with what was recorded."""
        self._by_key: dict[bytes, Exchange] = {}
        for exchange in exchanges:
            self.add(exchange)

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange; the first answer to a question stands."""
        self._by_key.setdefault(_key(exchange.source, exchange.request), exchange)

    def find(self, source: str, request: Record) -> Exchange | None:
        """Return what a source answered to a question."""
        return self._by_key.get(_key(source, request.model_dump(mode="json")))

    def has(self, source: str) -> bool:
        """Return whether anything was asked of a source."""
        return any(exchange.source == source for exchange in self._by_key.values())

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Return the exchanges, sorted by source and question."""
        return tuple(self._by_key[key] for key in sorted(self._by_key))

    def to_lines(self) -> bytes:
        """Return the tape as JSON Lines."""
        return b"".join(canonical_json(e) + b"\n" for e in self.exchanges)

    @staticmethod
    def from_lines(data: bytes, name: str) -> Tape:
        """Return the tape of JSON Lines.

        Raises:
            SettingsInvalid: A line is not an exchange.
        """
        tape = Tape()
        for number, line in enumerate(data.splitlines(), 1):
            try:
                tape.add(Exchange.model_validate_json(line))
            except ValueError as error:  # not an exchange, or a question with a number that JSON has not
                raise SettingsInvalid(
                    f"{name}: tape line {number} is not an exchange: {one_line(str(error), 200)}"
                ) from error
        return tape


def _key(source: str, request: dict[str, Any]) -> bytes:
    return source.encode() + b"\0" + canonical_json(request)


def _record(tape: Tape, source: str, request: RequestT, ask: Callable[[RequestT], AnswerT]) -> AnswerT:
    question = request.model_dump(mode="json")
    try:
        answer = ask(request)
    except (SourceError, ModelError) as error:
        tape.add(Exchange(source=source, request=question, error=type(error).__name__, message=str(error)))
        raise
    tape.add(Exchange(source=source, request=question, answer=answer.model_dump(mode="json")))
    return answer


def _play(tape: Tape, source: str, request: Record, answer_type: type[AnswerT]) -> AnswerT:
    exchange = tape.find(source, request)
    if exchange is None:
        raise SourceUnavailable(
            f"{source}: the bundle holds no answer to this question; it was recorded by another version or for another window"
        )
    if exchange.answer is None:
        kind = getattr(errors, exchange.error or "", SourceUnavailable)
        raise (kind if isinstance(kind, type) and issubclass(kind, AdvisorError) else SourceUnavailable)(
            exchange.message or ""
        )
    try:
        return answer_type.model_validate(exchange.answer)
    except ValidationError as error:
        raise SettingsInvalid(
            f"bundle: the recorded answer of {source} does not fit: {one_line(str(error), 200)}"
        ) from error


class RecordedMetrics:
    """Metrics that are written to a tape as they are read, or read from it (``inner`` is None)."""

    def __init__(self, tape: Tape, inner: MetricSource | None) -> None:
        """Wrap a source, or replay without one."""
        self._tape, self._inner = tape, inner

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        """Return the samples."""
        if self._inner is None:
            return _play(self._tape, "metrics.range", request, MetricAnswer)
        return _record(self._tape, "metrics.range", request, self._inner.query_range)

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        """Return which series exist."""
        if self._inner is None:
            return _play(self._tape, "metrics.series", request, SeriesListAnswer)
        return _record(self._tape, "metrics.series", request, self._inner.list_series)


class RecordedChanges:
    """Configuration changes that are written to a tape as they are read, or read from it."""

    def __init__(self, tape: Tape, inner: ChangeSource | None) -> None:
        """Wrap a source, or replay without one."""
        self._tape, self._inner = tape, inner

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        """Return the commits of the window."""
        if self._inner is None:
            return _play(self._tape, "changes", request, ChangeAnswer)
        return _record(self._tape, "changes", request, self._inner.changes)


class RecordedLogs:
    """Logs that are written to a tape as they are read, or read from it."""

    def __init__(self, tape: Tape, inner: LogSource | None) -> None:
        """Wrap a source, or replay without one."""
        self._tape, self._inner = tape, inner

    def read(self, request: LogRequest) -> LogAnswer:
        """Return the digest of the window."""
        if self._inner is None:
            return _play(self._tape, "logs", request, LogAnswer)
        return _record(self._tape, "logs", request, self._inner.read)


class RecordedModel:
    """A language model whose answers are written to a tape as they come, or read from it."""

    def __init__(self, tape: Tape, inner: LanguageModel | None, name: str) -> None:
        """Wrap a model, or replay without one."""
        self._tape, self._inner, self._name = tape, inner, name
        self._usage = ModelUsage()

    @property
    def name(self) -> str:
        """Return the model's ``provider:name``."""
        return self._name

    @property
    def usage(self) -> ModelUsage:
        """Return what was used; of a replay, what had been used then."""
        return self._usage if self._inner is None else self._inner.usage

    def ask(self, request: ModelRequest) -> ModelReply:
        """Return the model's answer."""
        if self._inner is None:
            reply = _play(self._tape, "model", request, ModelReply)
            self._usage = self._usage.plus(reply.usage)
            return reply
        return _record(self._tape, "model", request, self._inner.ask)


class ToolCall(Record):
    """One call of a tool, as it was made."""

    tool: str
    arguments: dict[str, Any]


class ConversationQuestion(Record):
    """What a conversation with tools was about."""

    system: str
    messages: tuple[Message, ...]
    tools: tuple[str, ...]
    limits: ConversationLimits


class ConversationAnswer(Record):
    """How it went: which tools were called, and the last words."""

    reply: ModelReply
    calls: tuple[ToolCall, ...] = ()


class RecordedConversant:
    """A conversation whose calls of tools are written to a tape as they are made, or made again as they stand on it.

    What a tool says is not on this exchange: a tool asks sources that are recorded themselves, so it says the same again.
    """

    SOURCE = "model.conversation"

    def __init__(self, tape: Tape, inner: Conversant | None) -> None:
        """Wrap a model, or replay without one."""
        self._tape, self._inner = tape, inner

    def converse(
        self,
        system: str,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        limits: ConversationLimits,
        told: Callable[[ConversationEvent], None],
    ) -> ModelReply:
        """Return the final answer."""
        question = ConversationQuestion(
            system=system, messages=messages, tools=tuple(t.name for t in tools), limits=limits
        )
        if self._inner is None:
            answer = _play(self._tape, self.SOURCE, question, ConversationAnswer)
            known = {tool.name: tool for tool in tools}
            for call in answer.calls:
                tool = known.get(call.tool)
                if tool is not None:
                    tool.run(tool.arguments.model_validate(call.arguments))
            return answer.reply
        inner = self._inner
        calls: list[ToolCall] = []

        def recorded(tool: Tool) -> Tool:
            def run(arguments: Any) -> str:
                calls.append(ToolCall(tool=tool.name, arguments=arguments.model_dump(mode="json")))
                return tool.run(arguments)

            return Tool(tool.name, tool.description, tool.arguments, run)

        def ask(_question: ConversationQuestion) -> ConversationAnswer:
            reply = inner.converse(system, messages, tuple(recorded(t) for t in tools), limits, told)
            return ConversationAnswer(reply=reply, calls=tuple(calls))

        return _record(self._tape, self.SOURCE, question, ask).reply


class Bundle:
    """A bundle in memory: manifest, tape, report and repository files."""

    def __init__(
        self, manifest: dict[str, Any], tape: Tape, report: dict[str, Any], repositories: dict[str, dict[str, bytes]]
    ) -> None:
        """Hold the parts; ``repositories`` is name -> relative path -> bytes."""
        self.manifest, self.tape, self.report, self.repositories = manifest, tape, report, repositories

    def to_bytes(self) -> bytes:
        """Return the zip file."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            self._put(archive, "manifest.json", canonical_json({"schema": SCHEMA, **self.manifest}))
            self._put(archive, "report.json", canonical_json(self.report))
            self._put(archive, "tape.jsonl", self.tape.to_lines())
            for name in sorted(self.repositories):
                for path in sorted(self.repositories[name]):
                    self._put(archive, f"repositories/{name}/{path}", self.repositories[name][path])
        return out.getvalue()

    @staticmethod
    def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
        info = zipfile.ZipInfo(name, _ZIP_TIME)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        archive.writestr(info, data)

    @staticmethod
    def load(path: Path) -> Bundle:
        """Return the bundle of a file.

        Raises:
            SettingsInvalid: Not a bundle: missing, too large, not a zip, an unknown schema, a part missing or broken.
        """
        try:
            if path.stat().st_size > BUNDLE_BYTES_MAX:
                raise SettingsInvalid(f"{path}: larger than {BUNDLE_BYTES_MAX} bytes; not a bundle of this product")
            data = path.read_bytes()
        except OSError as error:
            raise SettingsInvalid(
                f"{path}: cannot be read as a bundle: {error.strerror or type(error).__name__}"
            ) from error
        return Bundle.from_bytes(data, str(path))

    @staticmethod
    def from_bytes(data: bytes, name: str) -> Bundle:
        """Return the bundle of a zip file's bytes."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(i.file_size for i in archive.infolist()) > MEMBER_BYTES_MAX:
                    raise SettingsInvalid(
                        f"{name}: unpacks to more than {MEMBER_BYTES_MAX} bytes; not a bundle of this product"
                    )
                parts = {i.filename: archive.read(i) for i in archive.infolist() if not i.is_dir()}
            manifest, report = json.loads(parts.pop("manifest.json")), json.loads(parts.pop("report.json"))
            lines = parts.pop("tape.jsonl")
        except (
            zipfile.BadZipFile,
            zlib.error,
            KeyError,
            ValueError,
            RuntimeError,
            NotImplementedError,
            EOFError,
            OSError,
            RecursionError,
        ) as error:
            raise SettingsInvalid(
                f"{name}: not a bundle ({one_line(str(error), 120)}); `advisor export INCIDENT` writes one"
            ) from error
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA or not isinstance(report, dict):
            raise SettingsInvalid(f"{name}: not a bundle of schema {SCHEMA}")
        repositories: dict[str, dict[str, bytes]] = {}
        for member, content in parts.items():
            pieces = member.split("/", 2)
            if len(pieces) != 3 or pieces[0] != "repositories" or ".." in member.split("/") or pieces[1] in ("", "."):
                raise SettingsInvalid(f"{name}: unexpected member {one_line(member, 80)}")
            repositories.setdefault(pieces[1], {})[pieces[2]] = content
        return Bundle(manifest, Tape.from_lines(lines, name), report, repositories)
