"""The engine: from settled evidence to a ranked, cited diagnosis, with no language model.

Pure and deterministic: the same gathered evidence gives the same assessment.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from advisor.diagnosis import Assessment, Claim, Diagnosis, Hypothesis, Outcome
from advisor.diagnosis.around import Around, look_around
from advisor.diagnosis.candidate import Candidate
from advisor.diagnosis.causes import find_candidates, probabilities
from advisor.diagnosis.knobs import Knob
from advisor.diagnosis.picture import WORDS, Picture, draw_picture
from advisor.diagnosis.recovery import plan_verification
from advisor.diagnosis.remedies import choose_remedies, reject_remedies
from advisor.diagnosis.work import Move, feels
from advisor.evidence import Gathered, SettledCoverage, SourceStatus
from advisor.evidence.observations import Notebook, describe_signal, instant_of, note_commits, note_logs
from advisor.evidence.signals import Signal, Signals
from advisor.incident import Incident, Symptom
from advisor.values import CauseKind, Record, format_bytes, format_instant, format_number, format_seconds

DIAGNOSED_FROM = 0.6  # of all that was considered; below, the next question is worth more than an answer
SURE_FROM = 0.95  # from here on it does not matter that a rival came at the same time
RIVAL_FROM = 0.03
CAPPED_PROBABILITY = 0.5  # with a required source missing nothing is called a diagnosis
HYPOTHESES_MAX = 10


class VerificationWindow(Record):
    """How long recovery is watched; from the settings."""

    settle_seconds: int = 60
    window_seconds: int = 600
    samples_min: int = 5


def diagnose(
    incident: Incident,
    coverage: SettledCoverage,
    gathered: Gathered,
    knobs: tuple[Knob, ...],
    depends_on: tuple[str, ...] = (),
    window: VerificationWindow | None = None,
) -> Assessment:
    """Return the assessment of an incident.

    Args:
        incident: What was asked.
        coverage: How each required source ended; only settled coverage is accepted.
        gathered: What the sources gave.
        knobs: Known mechanisms.
        depends_on: Services that this one calls.
        window: How recovery will be watched.
    """
    window = window or VerificationWindow()
    picture = draw_picture(incident, gathered)
    notebook = Notebook(gathered)
    _note_metrics(notebook, picture)
    if gathered.changes is not None:
        note_commits(notebook, gathered.changes)
    if gathered.logs is not None:
        note_logs(notebook, gathered.logs, picture.trouble_at)
    plan = plan_verification(None, picture, gathered, window.settle_seconds, window.window_seconds, window.samples_min)
    warnings = _warnings(coverage, gathered, picture)
    blind = _blind(coverage, picture, incident)
    around = look_around(incident, gathered, picture) if picture.trouble_at is not None else Around(incident.service)
    for neighbour in gathered.neighbours:
        if picture.trouble_at is not None and neighbour.changes is not None:
            note_commits(notebook, neighbour.changes, neighbour.service)
    if picture.trouble_at is None and not blind:
        diagnosis = Diagnosis(
            outcome=Outcome.HEALTHY,
            kind=CauseKind.NONE,
            probability=0.0,
            summary=_healthy_summary(incident, picture),
            claims=_vital_claims(notebook, picture),
            warnings=tuple(warnings),
        )
        return Assessment(
            symptoms=picture.symptoms,
            started_at=None,
            evidence=notebook.items,
            hypotheses=(),
            diagnosis=diagnosis,
            remedies=(),
            rejected_remedies=(),
            verification=plan,
        )
    candidates = find_candidates(incident.service, picture, gathered, knobs, depends_on, around)
    shares = probabilities(candidates)
    if blind:
        shares = [min(share, CAPPED_PROBABILITY) for share in shares]
    for c in candidates[:HYPOTHESES_MAX]:
        _cite(notebook, picture, c)
    hypotheses = tuple(
        _hypothesis(i, c, share) for i, (c, share) in enumerate(zip(candidates[:HYPOTHESES_MAX], shares, strict=False))
    )
    top = candidates[0]
    support = sum(
        s
        for c, s in zip(candidates, shares, strict=True)
        if c is top or (top.cause.commit is not None and c.cause.commit == top.cause.commit)
    )
    support = min(support, CAPPED_PROBABILITY) if blind else min(support, 1.0)
    rival = _not_told_apart(candidates, shares) if support < SURE_FROM and not picture.of_memory else None
    decided = not blind and top.kind is not CauseKind.UNKNOWN and support >= DIAGNOSED_FROM and rival is None
    started = picture.onset.at if picture.onset else picture.trouble_at
    if decided:
        plan = plan_verification(
            top, picture, gathered, window.settle_seconds, window.window_seconds, window.samples_min
        )
        diagnosis = Diagnosis(
            outcome=Outcome.DIAGNOSED,
            kind=top.kind,
            cause=top.cause,
            probability=round(support, 4),
            summary=_summary(top, picture, incident.service),
            claims=_claims(notebook, picture, top),
            warnings=tuple(warnings),
        )
    else:
        diagnosis = Diagnosis(
            outcome=Outcome.INCONCLUSIVE,
            kind=CauseKind.UNKNOWN,
            cause=None,
            probability=round(support, 4),
            summary=_undecided(blind, top, support, picture, rival),
            claims=_vital_claims(notebook, picture),
            warnings=tuple(warnings),
        )
    return Assessment(
        symptoms=picture.symptoms,
        started_at=instant_of(started) if started is not None else None,
        evidence=notebook.items,
        hypotheses=hypotheses,
        diagnosis=diagnosis,
        remedies=choose_remedies(top if decided else None, candidates, picture, gathered),
        rejected_remedies=reject_remedies(top if decided else None, picture),
        verification=plan,
    )


def _blind(coverage: SettledCoverage, picture: Picture, incident: Incident) -> str:
    """Return why nothing may be called a diagnosis, or nothing: a required source is missing, or its decisive part is."""
    missing = coverage.missing_required
    if missing:
        return "; ".join(f"{m.source} {m.status.value}: {m.reason or 'no reason given'}" for m in missing)
    if not picture.measured:
        return f"no metric shows {WORDS[picture.resource]}"
    if picture.trouble_at is None and incident.question.strip() and not incident.symptoms and not feels(picture.moves):
        return "nothing that is measured shows what was asked about"
    return ""


def _warnings(coverage: SettledCoverage, gathered: Gathered, picture: Picture) -> list[str]:
    out = [f"{e.source} is {e.status.value}: {e.reason}" for e in coverage.entries if e.status is not SourceStatus.OK]
    if gathered.changes is not None:
        out += list(gathered.changes.warnings)
        if not gathered.changes.history_complete:
            out.append("the history of the configuration is cut inside the window; older commits may be missing")
    if gathered.logs is not None:
        out += list(gathered.logs.warnings)
    if picture.onset is not None and picture.onset.censored and not picture.squeezed:
        what = "growth" if picture.of_memory else "trouble"
        out.append(f"the {what} began before the metrics do; timing counts for less")
    return out


def _work_signal(move: Move) -> Signal:
    return Signal(move.signal.key, move.signal.names, move.signal.values, move.signal.series)


def _note_work(notebook: Notebook, picture: Picture) -> None:
    """Number the signal in trouble, the requests, and what moved most with it."""
    moved = [m for m in picture.moves if m.harmful and m is not picture.work]
    moved.sort(key=lambda m: (-abs(m.shift.score) if m.shift else 0.0, m.signal.key))
    for move in (picture.work, picture.requests, *moved[:8]):
        if move is not None:
            signal = _work_signal(move)
            notebook.metric(picture.signals, signal, describe_move(picture.signals, move))


def describe_move(signals: Signals, move: Move) -> str:
    """Return a sentence on how a signal of work went."""
    show = _shown_as(move.signal.unit)
    name, shift = move.name, move.shift
    if shift is None:
        known = move.signal.values[np.isfinite(move.signal.values)]
        level = show(float(np.median(known))) if known.size else "no samples"
        return f"{name} ({move.signal.aspect.value}): {level}, as before all along"
    how = {"level": "went from", "slope": "rose slowly from" if shift.score > 0 else "fell slowly from"}.get(
        shift.kind, "swings more widely, from"
    )
    return (
        f"{name} ({move.signal.aspect.value}): {how} {show(shift.before)} to {show(shift.after)}"
        f" about {format_instant(instant_of(shift.at))}"
    )


def _shown_as(unit: str) -> Callable[[float], str]:
    if unit == "seconds":
        return format_seconds
    if unit == "share":
        return lambda value: f"{value:.1%}"
    return format_bytes if unit == "bytes" else format_number


def _note_metrics(notebook: Notebook, picture: Picture) -> None:
    if not picture.of_memory:
        _note_work(notebook, picture)
        return
    signals = picture.signals
    for role in (
        "heap_used",
        "heap_max",
        "metaspace_used",
        "direct_used",
        "threads",
        "rss",
        "memory_limit",
        "gc_seconds",
        "requests",
        "sessions_created",
        "dependency_latency",
    ):
        signal = signals.get(role)
        if signal is not None:
            notebook.metric(signals, signal, describe_signal(signals, signal))


def _cite(notebook: Notebook, picture: Picture, c: Candidate) -> None:
    """Add the ids that speak for and against a candidate."""
    if c.commit is not None:
        c.cites_for.append(notebook.commit(c.commit))
    if c.middle is not None:
        number = notebook.metric(picture.signals, c.middle, describe_signal(picture.signals, c.middle))
        value = next((t.value for t in c.terms if t.name in ("metric in the middle", "dependency latency")), 0.0)
        (c.cites_for if value >= 0 else c.cites_against).append(number)
    requests = notebook.find("metric:requests")
    if c.kind is CauseKind.LOAD and requests:
        value = sum(t.value for t in c.terms if t.name == "traffic")
        (c.cites_for if value > 0 else c.cites_against).append(requests)
    if any(t.name.startswith("explained by traffic") for t in c.terms) and requests:
        c.cites_against.append(requests)
    vital = notebook.find(f"metric:{_vital_role(picture)}")
    if vital and c.kind is not CauseKind.UNKNOWN:
        timing = next((t.value for t in c.terms if t.name in ("timing", "level")), 0.0)
        (c.cites_for if timing >= 0 else c.cites_against).append(vital)


def _vital_role(picture: Picture) -> str:
    if not picture.of_memory:
        return picture.work.signal.key if picture.work is not None else picture.resource
    return {
        "heap": "heap_used",
        "metaspace": "metaspace_used",
        "threads": "threads",
        "direct": "direct_used",
        "rss": "rss",
    }[picture.resource]


def _hypothesis(index: int, c: Candidate, share: float) -> Hypothesis:
    return Hypothesis(
        rank=index + 1,
        kind=c.kind,
        probability=round(share, 4),
        summary=c.summary,
        cause=c.cause,
        for_=tuple(dict.fromkeys(c.cites_for)),
        against=tuple(dict.fromkeys(c.cites_against)),
        next_check=c.next_check,
        terms=tuple(c.terms),
    )


def _work_summary(top: Candidate, picture: Picture, service: str) -> str:
    """Return the diagnosis of a trouble of work in one sentence."""
    moved = f"{WORDS[picture.resource]} of {service}: {_from_to(picture)}"
    if top.change is not None or top.commit is not None:
        who = f"commit {top.cause.commit[:8]} by {top.cause.author}" if top.cause.commit else "a change"
        where = f" of {top.cause.service}" if top.cause.service != service else ""
        what = (
            f"changed {top.change.key}{where} from {top.change.old or '(not set)'} to {top.change.new or '(not set)'}"
            if top.change is not None
            else f"changed {top.cause.path}{where}, whose keys are not readable"
        )
        return f"{moved}, since {who} {what}"
    if top.kind is CauseKind.LOAD:
        return f"{moved}, because traffic grew ×{format_number(picture.load_growth or 1.0)}, and no change explains it"
    if top.kind is CauseKind.DEPENDENCY:
        return f"{moved}, because {top.cause.service} became slow or failed, and no recorded change explains it"
    return f"{moved}: {top.summary}"


def _from_to(picture: Picture) -> str:
    work = picture.work
    if work is None or work.shift is None:
        return "in trouble"
    show = _shown_as(work.signal.unit)
    return f"{work.name} went from {show(work.shift.before)} to {show(work.shift.after)}"


def _summary(top: Candidate, picture: Picture, service: str) -> str:
    if not picture.of_memory:
        return _work_summary(top, picture, service)
    what = WORDS[picture.resource]
    if top.change is not None:
        who = f"commit {top.cause.commit[:8]} by {top.cause.author}" if top.cause.commit else "a change"
        if picture.squeezed:
            return f"{what} runs out because {who} changed {top.change.key} from {top.change.old} to {top.change.new}; what the service uses did not grow"
        middle = (
            f", and {top.middle.names[0]} grew ×{format_number(top.middle_growth)} with it"
            if top.middle is not None and top.middle_growth is not None and top.middle_growth >= 1.5
            else ""
        )
        return f"{what} fills up since {who} changed {top.change.key} from {top.change.old or '(not set)'} to {top.change.new or '(not set)'}{middle}"
    if top.commit is not None:
        return f"{what} fills up since commit {top.cause.commit[:8] if top.cause.commit else ''} by {top.cause.author} changed {top.cause.path}, whose keys are not readable"
    if top.kind is CauseKind.LOAD:
        return f"{what} runs out because traffic grew ×{format_number(picture.load_growth or 1.0)}; what each request takes stayed the same, and no change explains it"
    return f"{what} runs out: {top.summary}"


def _not_told_apart(candidates: list[Candidate], shares: list[float]) -> Candidate | None:
    """Return another commit that came at the same time as the best one, where nothing that was measured tells them apart.

    That one kind of change is at fault more often than another is no evidence about these two.
    """
    top = candidates[0]
    if top.change is None or _singled_out(top):
        return None
    for c, share in zip(candidates[1:], shares[1:], strict=True):
        if c.change is None or c.cause.commit == top.cause.commit or c.cause.service != top.cause.service:
            continue
        # What a key does that nobody listed is as open as what a release does.
        as_likely = _mechanism_of(c) >= _mechanism_of(top) - 0.8 or (top.kind is CauseKind.DEPLOY and c.knob is None)
        if as_likely and share >= RIVAL_FROM and _timing_of(c) >= _timing_of(top) - 0.3 and not _speaks_against(c):
            return c
    return None


def _singled_out(c: Candidate) -> bool:
    return any(t.name in ("metric in the middle", "log", "took effect") and t.value >= 0.5 for t in c.terms)


def _timing_of(c: Candidate) -> float:
    return sum(t.value for t in c.terms if t.name in ("timing", "rollout delay", "ran well with it", "rolled out"))


def _mechanism_of(c: Candidate) -> float:
    return sum(t.value for t in c.terms if t.name == "mechanism")


def _speaks_against(c: Candidate) -> bool:
    names = ("mechanism", "metric in the middle", "already reverted", "its own state", "size")
    return any(t.name in names and t.value <= -0.9 for t in c.terms)


def _undecided(blind: str, top: Candidate, support: float, picture: Picture, rival: Candidate | None = None) -> str:
    if blind:
        return f"no diagnosis: {blind}"
    if rival is not None:
        return (
            f"{top.summary} and {rival.summary} took effect together, and nothing that was measured tells them apart;"
            f" next: {top.next_check or 'take back one of them, and watch'}"
        )
    if top.kind is CauseKind.UNKNOWN:
        trouble = (
            f"{WORDS[picture.resource]} runs out"
            if picture.of_memory
            else f"{WORDS[picture.resource]}: {_from_to(picture)}"
        )
        return f"{trouble}, and nothing that was gathered explains it; next: {top.next_check}"
    return f"no cause stands out (the best, {top.summary}, at {support:.0%}); next: {top.next_check}"


def _healthy_summary(incident: Incident, picture: Picture) -> str:
    if not picture.of_memory:
        asked = ", ".join(s.value for s in incident.symptoms)
        seen = f"; {describe_move(picture.signals, picture.work)}" if picture.work is not None else ""
        return f"healthy: {asked or 'nothing'} was asked about and not seen in the window{seen}"
    ratio = picture.ratio() if picture.limit is not None else np.array([])
    known = ratio[np.isfinite(ratio)]
    level = (
        f"{WORDS[picture.resource]} stays at {float(np.median(known)):.0%} of its limit after collections"
        if known.size
        else "no sign of trouble"
    )
    asked = (
        f"; the symptom asked about ({', '.join(s.value for s in incident.symptoms)}) was not seen"
        if incident.symptoms
        else ""
    )
    return f"healthy: {level}, no OutOfMemoryError and no crash in the window{asked}"


def _vital_claims(notebook: Notebook, picture: Picture) -> tuple[Claim, ...]:
    number = notebook.find(f"metric:{_vital_role(picture)}")
    if not picture.of_memory:
        said = describe_move(picture.signals, picture.work) if picture.work is not None else ""
        return (Claim(text=said, evidence=(number,)),) if number is not None else ()
    signal = picture.signals.get(_vital_role(picture))
    if number is None or signal is None:
        return ()
    return (Claim(text=describe_signal(picture.signals, signal), evidence=(number,)),)


def _claims(notebook: Notebook, picture: Picture, top: Candidate) -> tuple[Claim, ...]:
    claims = list(_vital_claims(notebook, picture))
    if picture.onset is not None and claims:
        began = (
            "The limit came down"
            if picture.squeezed
            else f"{'The growth' if picture.of_memory else 'The trouble'} began before the data does, by"
            if picture.onset.censored
            else f"{'The growth' if picture.of_memory else 'The trouble'} began"
        )
        claims.append(
            Claim(text=f"{began} about {format_instant(instant_of(picture.onset.at))}", evidence=claims[0].evidence)
        )
    for term in top.terms:
        if term.name == "prior" or abs(term.value) < 0.3:
            continue
        cited = top.cites_for + top.cites_against
        if cited:
            claims.append(Claim(text=term.why, evidence=tuple(dict.fromkeys(cited))))
    for symptom, times in picture.symptom_times.items():
        logs = [
            e.id
            for e in notebook.items
            if e.id.startswith("L") and ("OutOfMemory" in e.summary or symptom is Symptom.CONTAINER_KILL)
        ]
        if logs and math.isfinite(times[0]):
            claims.append(
                Claim(
                    text=f"{symptom.value} was seen {len(times)}×, first at {format_instant(instant_of(times[0]))}",
                    evidence=tuple(logs[:3]),
                )
            )
    return tuple(claims)
