"""Evidence with ids: what was gathered, said as numbered observations that a claim can cite.

Pure. The order is fixed by the content, so that the same bundle numbers its evidence the same way.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from advisor.evidence import ChangeAnswer, CommitChange, Evidence, EvidenceKind, Gathered, LogAnswer, LogTemplate
from advisor.evidence.log_templates import TemplateMove, relevant_templates
from advisor.evidence.signals import Signal, Signals
from advisor.values import digest, format_bytes, format_instant, format_number, format_seconds

COMMITS_MAX = 60  # newest first; older ones are counted, not listed
NEIGHBOUR_COMMITS_MAX = 20
TEMPLATES_MAX = 6  # errors and warnings; what they say more is in the log
MOVED_TEMPLATES_MAX = 4  # of the rest
_BYTES_ROLES = ("heap", "metaspace", "direct", "rss", "memory")


class Notebook:
    """Collects evidence and hands out ids in order: M1, M2, then C1, then L1."""

    def __init__(self, gathered: Gathered) -> None:
        """Start empty."""
        self._gathered = gathered
        self._items: list[Evidence] = []
        self._counts = {"M": 0, "C": 0, "L": 0, "K": 0}
        self._by_subject: dict[str, str] = {}

    @property
    def items(self) -> tuple[Evidence, ...]:
        """Return the evidence so far."""
        return tuple(self._items)

    @property
    def until(self) -> float:
        """Return the end of what was gathered, epoch seconds."""
        return self._gathered.end.timestamp()

    def find(self, subject: str) -> str | None:
        """Return the id of the evidence about a subject."""
        return self._by_subject.get(subject)

    def add(
        self,
        letter: str,
        subject: str,
        summary: str,
        source: str,
        query: str,
        content: object,
        start: datetime,
        end: datetime,
    ) -> str:
        """Add one observation and return its id; the same subject is added once."""
        if subject in self._by_subject:
            return self._by_subject[subject]
        self._counts[letter] += 1
        number = f"{letter}{self._counts[letter]}"
        kind = {"M": EvidenceKind.METRIC, "C": EvidenceKind.CHANGE, "L": EvidenceKind.LOG, "K": EvidenceKind.CLUSTER}[
            letter
        ]
        self._items.append(
            Evidence(
                id=number,
                kind=kind,
                summary=summary,
                source=source,
                query=query,
                from_at=start,
                to_at=end,
                digest=digest(content),
                subject=subject,
            )
        )
        self._by_subject[subject] = number
        return number

    def metric(self, signals: Signals, signal: Signal, said: str) -> str:
        """Add what a metric shows."""
        g = self._gathered
        content = [[s.name, list(s.labels), list(s.times), list(s.values)] for s in signal.series]
        query = " or ".join(f"{name}{g.metric_query}" for name in dict.fromkeys(signal.names))
        return self.add("M", f"metric:{signal.role}", said, g.metric_source, query, content, g.start, g.end)

    def commit(self, commit: CommitChange, service: str = "") -> str:
        """Add what a commit changed; ``service`` is named where it is not the one asked about."""
        g = self._gathered
        keys = [k for f in commit.files for k in f.keys]
        shown = "; ".join(f"{k.key}: {_cut(k.old)} → {_cut(k.new)}" for k in keys[:4])
        more = f" and {len(keys) - 4} more keys" if len(keys) > 4 else ""
        notes = "; ".join(f"{f.path}: {f.note}" for f in commit.files if f.note)
        what = shown + more or notes or ("no key changed" if commit.in_scope else "outside this service's paths")
        whose = f"{service}, " if service else ""
        said = f"{whose}{format_instant(commit.effective_at)} {commit.commit[:8]} {commit.author}: {_cut(commit.subject)} — {what}"
        return self.add(
            "C",
            f"commit:{commit.commit}",
            said,
            g.repository,
            f"git show {commit.commit}",
            commit,
            commit.effective_at,
            commit.effective_at,
        )

    def log(self, subject: str, said: str, content: object, start: datetime, end: datetime) -> str:
        """Add what a log shows."""
        return self.add("L", subject, said, self._gathered.log_source, subject, content, start, end)


def note_commits(notebook: Notebook, changes: ChangeAnswer, neighbour: str = "") -> None:
    """Number the commits in scope, newest first, then those beside it; of a neighbour the newest few."""
    chosen = [c for c in changes.commits if c.in_scope][: NEIGHBOUR_COMMITS_MAX if neighbour else COMMITS_MAX]
    for commit in chosen:
        notebook.commit(commit, neighbour)
    if neighbour:
        return
    outside = [c for c in changes.commits if not c.in_scope]
    for commit in outside[: max(0, min(20, COMMITS_MAX - len(chosen)))]:
        notebook.commit(commit)


def note_logs(notebook: Notebook, logs: LogAnswer, trouble_at: float | None) -> None:
    """Number the exceptions that tell most, the kills, and the templates that are new or burst."""
    oom = [e for e in logs.exceptions if "OutOfMemoryError" in e.type + e.root_type + e.message]
    rest = [e for e in logs.exceptions if e not in oom]
    for e in [*oom[:6], *sorted(rest, key=lambda e: -e.count)[:4]]:
        if not e.at:
            continue
        deepest = (
            f", caused by {e.root_type}: {_cut(e.root_message)}"
            if (e.root_type, e.root_message) != (e.type, e.message)
            else ""
        )
        top = f", at {e.frames[0]}" if e.frames else ""
        notebook.log(
            f"exception:{e.type}:{e.message[:60]}:{e.source}",
            f"{e.type}: {_cut(e.message)}{deepest}{top} — {e.count}×, first {format_instant(e.at[0])}",
            e,
            e.at[0],
            e.at[-1],
        )
    for at, line in logs.kills[:4]:
        notebook.log(f"kill:{format_instant(at)}", f"{format_instant(at)} {_cut(line)}", line, at, at)
    if logs.restarts:
        times = ", ".join(format_instant(t) for t in logs.restarts[-5:])
        notebook.log(
            "restarts",
            f"the process started {len(logs.restarts)}× in the window: {times}",
            [format_instant(t) for t in logs.restarts],
            logs.restarts[0],
            logs.restarts[-1],
        )
    if trouble_at is not None:
        for t, moved in _telling_templates(logs, trouble_at, notebook.until):
            notebook.log(
                f"template:{t.template[:80]}",
                f"{t.level} {_cut(t.sample)} — {t.count}×, first {format_instant(t.first_at)}{moved}".lstrip(),
                t,
                t.first_at,
                t.last_at,
            )


def _telling_templates(logs: LogAnswer, trouble_at: float, until: float) -> list[tuple[LogTemplate, str]]:
    """Return the templates to number, and how each moved: errors and warnings first, those that moved before others.

    What is no warning is told only where it is new, more or gone since the onset.
    """
    known = {(t.template, t.level): t for t in logs.templates}
    moves = {
        (move.template, move.level): move
        for move in relevant_templates(logs, trouble_at, until)
        if move.kind != "fewer" and (move.template, move.level) in known
    }
    noisy = [t for t in logs.templates if t.level in ("ERROR", "WARN", "FATAL") and t.count >= 1]
    often = [(t.template, t.level) for t in sorted(noisy, key=lambda t: (t.level == "WARN", -t.count))]
    risen = [key for key, move in moves.items() if key[1] in ("ERROR", "WARN", "FATAL") and move.kind != "gone"]
    troubled = list(dict.fromkeys((*risen, *often)))[:TEMPLATES_MAX]
    others = [key for key in moves if key not in troubled and key not in often][:MOVED_TEMPLATES_MAX]
    return [(known[key], _moved(moves.get(key))) for key in (*troubled, *others)]


def _moved(move: TemplateMove | None) -> str:
    if move is None:
        return ""
    if move.kind == "more":
        return f", {format_number(move.ratio)} times as often since the onset"
    return ", new since the onset" if move.kind == "new" else ", gone since the onset"


def describe_signal(signals: Signals, signal: Signal, until: float | None = None) -> str:
    """Return a sentence on how a signal went: from, to, highest, in its unit."""
    values = signal.values if until is None else signal.values[signals.times <= until]
    known = values[np.isfinite(values)]
    if known.size == 0:
        return f"{signal.names[0]}: no samples"
    edge = max(1, known.size // 10)
    first, last, top = float(np.median(known[:edge])), float(np.median(known[-edge:])), float(known.max())
    show = _unit_of(signal)
    span = format_seconds(float(signals.times[-1] - signals.times[0]))
    return (
        f"{signal.names[0]}: {show(first)} at the beginning, {show(last)} at the end, {show(top)} at most, over {span}"
    )


def _unit_of(signal: Signal):  # type: ignore[no-untyped-def]
    if signal.role.startswith(_BYTES_ROLES) or "bytes" in signal.names[0].lower():
        return format_bytes
    if "latency" in signal.role:
        return format_seconds
    return format_number


def _cut(text: str | None, characters: int = 100) -> str:
    if text is None:
        return "(not set)"
    return text if len(text) <= characters else text[: characters - 1] + "…"


def instant_of(epoch: float) -> datetime:
    """Return epoch seconds as an instant in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(epoch, 3), UTC)
