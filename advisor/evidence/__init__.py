"""What was observed, before anything is concluded: requests, answers, coverage, and the numbered pieces of evidence.

The interfaces of the sources stand here, with the stage that calls them; the adapters implement them. A request and its
answer are records, so that a bundle can hold every one of them and ``replay`` can answer from it, byte for byte.

Pure: nothing here opens a file or a socket.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from pydantic import Field

from advisor.errors import IllegalTransition
from advisor.evidence.config_diff import KeyChange
from advisor.values import Instant, Record


class SourceStatus(StrEnum):
    """How a source ended. Absence (``empty``) is a value; an error is never evidence."""

    OK = "ok"
    EMPTY = "empty"
    UNAVAILABLE = "unavailable"


class Coverage(Record):
    """How one source ended, and why."""

    source: str
    status: SourceStatus
    reason: str | None = None
    required: bool = True


class SettledCoverage(Record):
    """Proof that each source that a playbook requires has ended. Only `settle` makes one; `diagnose` needs one."""

    entries: tuple[Coverage, ...]

    @property
    def missing_required(self) -> tuple[Coverage, ...]:
        """Return the required sources that gave nothing to reason on."""
        return tuple(e for e in self.entries if e.required and e.status is not SourceStatus.OK)

    def status(self, source: str) -> SourceStatus | None:
        """Return how a source ended, or None if nobody asked for it."""
        return next((e.status for e in self.entries if e.source == source), None)


def settle(entries: tuple[Coverage, ...], required: tuple[str, ...]) -> SettledCoverage:
    """Return the settled coverage.

    Raises:
        IllegalTransition: A required source has no outcome yet: nothing may be diagnosed.
    """
    unsettled = sorted(set(required) - {e.source for e in entries})
    if unsettled:
        raise IllegalTransition(f"diagnosis needs every source settled first; still open: {', '.join(unsettled)}")
    return SettledCoverage(entries=entries)


# --- metrics -----------------------------------------------------------------------------------------------------------


class Series(Record):
    """Samples of one series in time order.

    Attributes:
        name: Metric name, from ``__name__``.
        labels: Sorted pairs, without ``__name__``.
        times: Epoch seconds, UTC, strictly increasing.
        values: Finite numbers, one for each time. Samples that were NaN or infinite are left out and counted.
        dropped: How many samples were NaN or infinite.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    times: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    dropped: int = 0

    def label(self, name: str) -> str:
        """Return a label's value, or nothing."""
        return next((value for key, value in self.labels if key == name), "")


class MetricRequest(Record):
    """A range query: PromQL, from ``start`` to ``end``, a point each ``step_seconds``."""

    query: str
    start: Instant
    end: Instant
    step_seconds: float = Field(gt=0)


class MetricAnswer(Record):
    """What a range query gave; ``warnings`` are the server's own (partial data, limits hit)."""

    series: tuple[Series, ...] = ()
    warnings: tuple[str, ...] = ()


class SeriesListRequest(Record):
    """Which series exist for a matcher such as ``{job="checkout"}`` between two instants."""

    match: str
    start: Instant
    end: Instant
    limit: int = 5000


class SeriesListAnswer(Record):
    """The label sets (with ``__name__``) that exist, sorted; ``truncated`` if the limit was hit."""

    series: tuple[tuple[tuple[str, str], ...], ...] = ()
    truncated: bool = False
    warnings: tuple[str, ...] = ()


class MetricSource(Protocol):
    """Something that answers PromQL. Raises ``SourceError`` classes only."""

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        """Return the samples."""
        ...

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        """Return which series exist."""
        ...


# --- configuration changes ---------------------------------------------------------------------------------------------


class ChangeRequest(Record):
    """Which commits of a branch touched what, between two instants; ``paths`` are the service's globs."""

    repository: str
    branch: str
    paths: tuple[str, ...]
    since: Instant
    until: Instant
    commits_max: int = 2000


OUTSIDE_SCOPE = "outside the service's paths"  # a note, not a fault: the file is listed, its keys are not read


class FileChange(Record):
    """One file of a commit.

    Attributes:
        keys: Key-level differences; empty for comment or layout edits.
        note: Why the keys could not be read (binary, too large, not YAML after all), else None.
    """

    path: str
    status: str  # added, modified, deleted, mode
    keys: tuple[KeyChange, ...] = ()
    note: str | None = None


class CommitChange(Record):
    """One commit, seen from the branch.

    Attributes:
        commit: The commit that made the edit (of a merge: the one commit behind it, where that is unambiguous).
        effective_at: When the branch got it: the committer's time of the commit on the first-parent line.
        merged_by: The merge commit, where the edit came through one.
        in_scope: Whether a path of the service is touched; out of scope, ``files`` carry no keys.
    """

    commit: str
    parent: str | None
    author: str
    authored_at: Instant
    effective_at: Instant
    merged_by: str | None = None
    subject: str
    in_scope: bool
    files: tuple[FileChange, ...] = ()


class ConfigValue(Record):
    """A key's value in the configuration as it stands at the head of the branch."""

    path: str
    key: str
    value: str
    document: int = 0


class ChangeAnswer(Record):
    """What a repository gave: newest commit first; ``configuration`` is the service's files at ``head``.

    Attributes:
        history_complete: False if the history is cut (shallow, more commits than asked for) inside the window.
    """

    head: str
    head_at: Instant
    commits: tuple[CommitChange, ...] = ()
    configuration: tuple[ConfigValue, ...] = ()
    history_complete: bool = True
    warnings: tuple[str, ...] = ()


class ChangeSource(Protocol):
    """Something that knows configuration history. Raises ``SourceError`` classes only."""

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        """Return the commits of the window."""
        ...


# --- logs --------------------------------------------------------------------------------------------------------------


class LogRequest(Record):
    """Which part of which logs, counted in buckets of ``bucket_seconds``."""

    service: str
    files: tuple[str, ...]
    start: Instant
    end: Instant
    bucket_seconds: float = 60.0


class LogTemplate(Record):
    """Lines of one shape.

    Attributes:
        template: The shape, with variable parts as ``<*>`` or a named mask such as ``<num>``.
        buckets: Pairs (bucket number from ``LogRequest.start``, count), only where count > 0.
        sample: One line, redacted and cut.
    """

    template: str
    level: str
    count: int
    first_at: Instant
    last_at: Instant
    buckets: tuple[tuple[int, int], ...] = ()
    sample: str = ""


class LogException(Record):
    """A stack trace as it was first seen, and how often.

    Attributes:
        type: Class of the outermost exception.
        message: Its message, redacted and cut.
        root_type: Class of the deepest cause (the same where there is none).
        root_message: Its message.
        frames: The deepest cause's own frames, nearest first, at most 12.
        at: Instants it was seen, at most 200, in order.
    """

    type: str
    message: str
    root_type: str
    root_message: str
    frames: tuple[str, ...] = ()
    count: int = 1
    at: tuple[Instant, ...] = ()
    source: str = ""  # file:line of the first


class LogAnswer(Record):
    """What the logs gave, digested: never raw lines but samples.

    Attributes:
        lines: Lines inside the window, of all files.
        restarts: Instants at which the process announced its start (Spring Boot banner, "Started … in … seconds").
        kills: Instants with the line, of container or kernel OOM kills and exits (137, OOMKilled).
        series: What a GC log says as numbers: ``gc_heap_after_bytes``, ``gc_heap_total_bytes``, ``gc_pause_seconds``.
        warnings: Files that could not be read or have no timestamps, each with its reason.
        counted_from: Where bucket 0 begins, and ``bucket_seconds`` how long each is; set by who asked.
    """

    lines: int = 0
    templates: tuple[LogTemplate, ...] = ()
    exceptions: tuple[LogException, ...] = ()
    restarts: tuple[Instant, ...] = ()
    kills: tuple[tuple[Instant, str], ...] = ()
    series: tuple[Series, ...] = ()
    first_at: Instant | None = None
    last_at: Instant | None = None
    warnings: tuple[str, ...] = ()
    counted_from: Instant | None = None
    bucket_seconds: float = 0.0


class LogSource(Protocol):
    """Something that reads logs. Raises ``SourceError`` classes only."""

    def read(self, request: LogRequest) -> LogAnswer:
        """Return the digest of the window."""
        ...


# --- evidence ----------------------------------------------------------------------------------------------------------


class EvidenceKind(StrEnum):
    """Which kind of source an observation came from."""

    METRIC = "metric"
    CHANGE = "change"
    LOG = "log"
    CLUSTER = "cluster"


class Evidence(Record):
    """One observation: what was asked, where, over which window, and what it shows.

    Attributes:
        id: ``M``, ``C``, ``L`` or ``K`` and a number, unique in the incident.
        digest: Of the answer that it was read from.
        subject: What it is about, for drawing it again: a metric role or name, a commit, a template.
    """

    id: str
    kind: EvidenceKind
    summary: str
    source: str
    query: str
    from_at: Instant = Field(serialization_alias="from")
    to_at: Instant = Field(serialization_alias="to")
    digest: str
    subject: str = ""


class Relation(StrEnum):
    """How a service beside the one asked about is connected with it."""

    CALLED = "called"  # by the service asked about, directly or through others
    CALLING = "calling"  # it calls the service asked about
    OTHER = "other"  # configured, not connected as far as the settings say


class Neighbour(Record):
    """What was read of a service beside the one asked about, on the same grid and window.

    Attributes:
        changes: Commits whose ``files`` are this service's, by its own paths; None where it has no configuration.
        problems: What could not be read, one line each.
    """

    service: str
    relation: Relation
    metrics: tuple[Series, ...] = ()
    metric_query: str = ""
    repository: str = ""
    changes: ChangeAnswer | None = None
    logs: LogAnswer | None = None
    problems: tuple[str, ...] = ()


class Gathered(Record):
    """Everything that was read for an incident, unjudged: the only thing that the engine reasons on.

    Attributes:
        neighbours: The other configured services, those that are called first.
        declared_calls: Pairs (caller, callee) from ``depends_on``.
    """

    metrics: tuple[Series, ...] = ()
    metric_query: str = ""
    metric_source: str = ""
    step_seconds: float = 0.0
    start: Instant
    end: Instant
    repository: str = ""
    changes: ChangeAnswer | None = None
    logs: LogAnswer | None = None
    log_source: str = ""
    neighbours: tuple[Neighbour, ...] = ()
    declared_calls: tuple[tuple[str, str], ...] = ()
