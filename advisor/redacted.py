"""Sources behind a filter: what they say is cleaned of secrets before anything else sees, keeps or records it.

Logs are cleaned line by line where they are read (`adapters.log_files`), because only what is kept needs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from advisor.evidence import (
    ChangeAnswer,
    ChangeRequest,
    ChangeSource,
    MetricAnswer,
    MetricRequest,
    MetricSource,
    Series,
    SeriesListAnswer,
    SeriesListRequest,
)
from advisor.evidence.config_diff import KeyChange
from advisor.model_port import ConversationEvent, LanguageModel, ModelReply, ModelRequest, ModelUsage
from advisor.redaction import redact, redact_value


class RedactedMetrics:
    """Metrics whose label values are cleaned of secrets before anything else sees or records them."""

    def __init__(self, inner: MetricSource) -> None:
        """Filter a source."""
        self._inner = inner

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        """Return the samples."""
        answer = self._inner.query_range(request)
        return answer.model_copy(update={"series": tuple(_clean_series(s) for s in answer.series)})

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        """Return which series exist."""
        answer = self._inner.list_series(request)
        return answer.model_copy(update={"series": tuple(_clean_labels(labels) for labels in answer.series)})


@lru_cache(maxsize=20_000)
def _clean_label(name: str, value: str) -> str:
    return redact_value(name, value)


def _clean_labels(labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _clean_label(name, value)) for name, value in labels)


def _clean_series(series: Series) -> Series:
    labels = _clean_labels(series.labels)
    return series if labels == series.labels else series.model_copy(update={"labels": labels})


class RedactedChanges:
    """A repository whose changes are cleaned of secrets before anything else sees or records them."""

    def __init__(self, inner: ChangeSource) -> None:
        """Filter a source."""
        self._inner = inner

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        """Return the commits of the window."""
        answer = self._inner.changes(request)
        commits = tuple(
            c.model_copy(
                update={
                    "subject": redact(c.subject),
                    "files": tuple(
                        f.model_copy(update={"keys": tuple(_clean_key(k) for k in f.keys)}) for f in c.files
                    ),
                }
            )
            for c in answer.commits
        )
        secrets = {(v.path, v.document) for v in answer.configuration if (v.key, v.value) == ("kind", "Secret")}
        values = tuple(
            v.model_copy(
                update={"value": redact_value(v.key, v.value, "Secret" if (v.path, v.document) in secrets else "")}
            )
            for v in answer.configuration
        )
        return answer.model_copy(update={"commits": commits, "configuration": values})


def _clean_key(change: KeyChange) -> KeyChange:
    return change.model_copy(
        update={
            "old": redact_value(change.key, change.old, change.scope or "") if change.old is not None else None,
            "new": redact_value(change.key, change.new, change.scope or "") if change.new is not None else None,
        }
    )


class RedactedModel:
    """A language model from whose answers secrets are taken before anybody keeps or reads them."""

    def __init__(self, inner: LanguageModel) -> None:
        """Wrap a model."""
        self._inner = inner

    @property
    def name(self) -> str:
        """Return the model's ``provider:name``."""
        return self._inner.name

    @property
    def usage(self) -> ModelUsage:
        """Return what was used."""
        return self._inner.usage

    def ask(self, request: ModelRequest) -> ModelReply:
        """Return the model's answer without secrets."""
        reply = self._inner.ask(request)
        return reply.model_copy(update={"text": _redacted_answer(reply.text)})


class RedactedPieces:
    """An answer that comes in pieces, told line by line once a line is whole: half a secret is known to no rule."""

    _LINES_BEHIND = 100  # that a line is read with: a private key of 4,096 bits has 52

    def __init__(self, told: Callable[[ConversationEvent], None]) -> None:
        """Tell pieces to ``told`` after they were cleaned."""
        self._told = told
        self._text = ""  # of this answer so far, because a block can run over lines
        self._lines = 0  # of it that were told

    def __call__(self, event: ConversationEvent) -> None:
        """Take a piece of the answer, or a step; a step tells first what was held back."""
        if event.kind == "text":
            self._text += event.text
            if "\n" in event.text:
                self._tell(whole=False)
            return
        self.finish()
        self._told(event.model_copy(update={"text": redact(event.text)}))

    def finish(self) -> None:
        """Tell what was held back: the answer has ended, or a step begins."""
        self._tell(whole=True)
        self._text, self._lines = "", 0

    def _tell(self, whole: bool) -> None:
        lines = redact(self._text if whole else self._text[: self._text.rindex("\n") + 1]).split("\n")
        told = "\n".join(lines[self._lines :])
        self._lines = len(lines) - 1
        if self._lines >= 2 * self._LINES_BEHIND:  # a long answer is not read from its beginning for every line
            self._text = self._text.split("\n", self._LINES_BEHIND)[-1]
            self._lines -= self._LINES_BEHIND
        if told:
            self._told(ConversationEvent(kind="text", text=told))


def _redacted_answer(text: str) -> str:
    """Return an answer without secrets; of a JSON document each string is cleaned by itself, so that it stays one."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return redact(text)
    return json.dumps(_each(document), ensure_ascii=False)


def _each(value: Any, key: str = "") -> Any:
    if isinstance(value, str):
        return redact_value(key, value)
    if isinstance(value, list):
        return [_each(one, key) for one in value]
    if isinstance(value, dict):
        return {redact(str(name)): _each(one, str(name)) for name, one in value.items()}
    return value
