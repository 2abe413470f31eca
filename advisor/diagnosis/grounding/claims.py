"""Does the cited evidence show what a sentence says? Each check answers in words that a model can mend and a person can read.

`contradicted`: the evidence says otherwise, or what is named does not exist here. `unsupported`: the cited evidence does not
say it. Neither is shown as a fact. What no check can read (an opinion, a general truth) is grounded only as far as it
names nothing that is not there: the citation itself is what a person follows. Pure.
"""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime
from enum import StrEnum

from advisor.diagnosis.grounding.facts import Fact, Facts
from advisor.diagnosis.grounding.figures import Figure, read
from advisor.values import Record

TIME_SLACK_SECONDS = 60.0  # commits are written to the second, onsets are found to a sample
_PAIRS_MAX = 40  # figures of the cited evidence that are combined; more would let chance agree with anything


class Verdict(StrEnum):
    """What became of a claim."""

    GROUNDED = "grounded"
    CONTRADICTED = "contradicted"
    UNSUPPORTED = "unsupported"


class JudgedClaim(Record):
    """A claim with its verdict and, where it is struck, why."""

    text: str
    evidence: tuple[str, ...]
    verdict: Verdict
    why: str = ""


_DONE = re.compile(
    r"\b(?:i|we|the advisor|the assistant|ops-advisor)(?:'ve| have| had|'s)? (?:already |now |just )?(?:been )?"
    r"(?:approved?|appl(?:y|ied)|revert(?:ed)?|rolled back|deploy(?:ed)?|fix(?:ed)?|merged?|pushed|restarted|scaled|executed|raised|changed|committed)\b"
    r"|\b(?:fix|change|proposal|rollback|remedy|revert|approval|patch|mitigation|pull request|commit|heap|incident|issue|it|this)\b[^.;]{0,40}?"
    r"\b(?:is|was|has been|have been|were|are|got) (?:already |now |just |automatically )?"
    r"(?:approved|pre-approved|auto-approved|applied|rolled out|rolled back|resolved|mitigated|remediated|merged|executed|verified|authori[sz]ed|granted|fixed)\b"
    r"|\b(?:already|automatically|auto-|pre-) ?(?:approved|applied|rolled back|reverted|fixed|merged|executed|authori[sz]ed)\b"
    r"|\b(?:approval|permission|authori[sz]ation) (?:is |was |has been )?(?:granted|given|not (?:needed|required)|waived|unnecessary)\b"
    r"|\bno (?:human |further |additional )?(?:approval|review|confirmation) (?:is )?(?:needed|required|necessary)\b"
    r"|\bapproved by\b|\b(?:skip|bypass|disable|ignore)(?:ping|ed|s|ing|d)? (?:the )?(?:approval|gate|guardrails?|review|policy)\b",
    re.I,
)
_CAUSES = re.compile(
    r"\b(?:caus(?:e|es|ed|ing)|because of|due to|led to|leads to|leading to|triggered|triggers|brought about|responsible|"
    r"explains?|explained by|resulted in|result of|culprit|root cause|stems from|introduced|is behind|made the)\b",
    re.I,
)
_NOT_CAUSE = re.compile(
    r"\b(?:not|n't|no|never|cannot|neither|rather than|unlikely|innocent|rules? out|ruled out|unrelated|too late)\b",
    re.I,
)
_UP = re.compile(
    r"\b(?:r(?:o|i)se(?:s|n)?|rising|grew|grow(?:s|n|ing)?|increas(?:e|es|ed|ing)|climb(?:s|ed|ing)?|went up|goes up|"
    r"pil(?:e|es|ed|ing) up|piling|swell(?:s|ed|ing)?|jump(?:s|ed)?|surged?|spiked?|doubled|tripled|higher)\b",
    re.I,
)
_DOWN = re.compile(
    r"\b(?:f(?:a|e)ll(?:s|en|ing)?|dropp?(?:s|ed|ing)?|decreas(?:e|es|ed|ing)|declin(?:e|es|ed|ing)|went down|shrank|shrinks?|"
    r"sank|recover(?:s|ed)|halved|lower than)\b",
    re.I,
)
_STEADY = re.compile(
    r"\b(?:(?:did|does|do|has|have) ?(?:not|n't) (?:move|change|grow|rise|increase|fall|drop)(?:d|n|ed)?|unchanged|stayed (?:flat|level|the same|steady)|"
    r"(?:was|is|were|remained|stayed) (?:flat|level|steady|stable|constant))\b",
    re.I,
)
_NEGATED = re.compile(r"\b(?:not|n't|never|no|without|neither|nor)\b[^,.;]{0,24}$", re.I)
_FROM_TO = re.compile(
    r"\bfrom\s+(.{1,60}?)\s+(?:up |down |back )?to\s+(\S.{0,40})|(\S{1,30})\s*(?:→|->|=>)\s*(\S{1,30})", re.I
)
_MOST = re.compile(
    r"\b(?:peak(?:s|ed|ing)?|at most|max(?:imum|ima)?|highest|top(?:s|ped)?)\b[^,.;\d]{0,24}(?=[\d~])", re.I
)
_CHANGE_WORDS = re.compile(
    r"\b(?:by|more|less|additional|extra|growth|increase|difference|another|gained|lost)\b", re.I
)
_SHARE_WORDS = re.compile(r"\b(?:of|more|less|by|full|used|share|higher|lower|increase|growth|larger|smaller)\b", re.I)
_SPAN_WORDS = re.compile(
    r"\b(?:after|before|later|earlier|within|over|for|during|since|in|took|lasted|until|apart|window|away)\b", re.I
)
# What a sentence is about: the word, and what must then stand in the cited evidence.
_TOPICS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = tuple(
    (re.compile(rf"\b(?:{said})\b", re.I), re.compile(shown, re.I))
    for said, shown in (
        ("metaspace", r"metaspace|class"),
        ("heap(?! dump)", r"heap|memory|java heap|OutOfMemory|-Xm[xs]|MaxRAM|gc|sessions?|cache|retained"),
        ("sessions?", r"session"),
        ("threads?", r"thread|worker|executor"),
        ("connections?", r"connect|pool|hikari|pgbouncer|client"),
        ("replicas?|pods?", r"replica|pod|instance|container|deployment|up\b"),
        ("cpu", r"cpu|processor|core|load"),
        ("latency|response times?", r"latenc|duration|seconds|time|slow|took|ms\b|respon"),
        ("garbage collect\\w*|gc pauses?", r"gc|pause|collect"),
        ("direct memory|direct buffers?", r"direct|buffer"),
        ("disk|filesystem", r"disk|filesystem|space|volume|storage"),
        ("queues?|backlog", r"queue|backlog|lag|pending|ready|ack"),
        ("certificates?|tls", r"cert|tls|ssl|x509|pkix"),
        ("restart(?:s|ed)?", r"restart|start|exit|kill|oom"),
        ("image|release", r"image|release|version|deploy|tag|:\d"),
        ("log level|logging", r"log"),
    )
)  # fmt: skip


def says_something_was_done(text: str) -> bool:
    """Return whether a text says that something was done, allowed or made unnecessary, which only records can say."""
    return _DONE.search(text) is not None


def judge_claim(text: str, cited: tuple[str, ...], facts: Facts) -> JudgedClaim:
    """Return what the cited evidence says of a claim.

    Args:
        text: One sentence or two.
        cited: Ids of evidence, as the model gave them.
        facts: All that can be cited of this incident.
    """
    known = tuple(dict.fromkeys(one for one in cited if one in facts.by_id))
    verdict, why = _judge(text, cited, tuple(facts.by_id[one] for one in known), facts)
    return JudgedClaim(text=text, evidence=known, verdict=verdict, why=why)


def _judge(text: str, cited: tuple[str, ...], evidence: tuple[Fact, ...], facts: Facts) -> tuple[Verdict, str]:
    done = _DONE.search(text)
    if done is not None:
        return (
            Verdict.CONTRADICTED,
            f"it says that something was done or allowed ({done[0].strip()!r}); only the records say that",
        )
    unknown = [one for one in cited if one not in facts.by_id]
    if unknown:
        return Verdict.CONTRADICTED, f"{', '.join(unknown[:3])} is no evidence of this incident"
    if not evidence:
        return Verdict.UNSUPPORTED, "it cites no evidence"
    for check in (_names, _commits, _order, _most, _figures, _times, _direction, _cause_in_time, _topic, _people):
        fault = check(text, evidence, facts)
        if fault is not None:
            return fault
    return Verdict.GROUNDED, ""


_Fault = tuple[Verdict, str] | None


def _names(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    cited = " ".join(fact.told.lower() for fact in evidence)
    queries = " ".join(fact.subject.lower() for fact in evidence)
    for name in read(text).names:
        if name in cited or name in queries or name in facts.words:
            continue
        if any(name in fact.told.lower() for fact in facts.by_id.values()) or name in facts.question.lower():
            return Verdict.UNSUPPORTED, f"{name} stands in other evidence than the cited"
        return Verdict.CONTRADICTED, f"{name} occurs nowhere in the evidence"
    return None


def _commits(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    for commit in read(text).commits:
        if any(f.commit.startswith(commit) or commit in f.told for f in evidence):
            continue
        if facts.change_of(commit) is not None:
            return Verdict.UNSUPPORTED, f"commit {commit[:12]} is another than the cited"
        return Verdict.CONTRADICTED, f"no commit {commit[:12]} is in the evidence"
    return None


def _figures(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    known = [figure for fact in evidence for figure in fact.reading.figures]
    tokens = {figure.text for figure in known}
    for figure in read(text).figures:
        if figure.text in tokens or any(figure.agrees(one) for one in known):
            continue
        if _is_small_count(figure, evidence) or _computed(figure, text, evidence):
            continue
        if any(figure.agrees(one) for f in facts.by_id.values() for one in f.reading.figures if f not in evidence):
            return Verdict.UNSUPPORTED, f"{figure.text} stands in other evidence than the cited"
        return Verdict.CONTRADICTED, f"{figure.text} is neither in the cited evidence nor follows from it"
    return None


def _is_small_count(figure: Figure, evidence: tuple[Fact, ...]) -> bool:
    """Return whether a bare number is how many pieces of evidence are cited, or none at all."""
    return (
        figure.dimension == "count" and figure.values[0] in (0.0, 1.0, float(len(evidence))) and "." not in figure.text
    )


def _computed(figure: Figure, text: str, evidence: tuple[Fact, ...]) -> bool:
    """Return whether a figure follows from two of one piece of evidence: a factor, a share, a difference, a span."""
    if figure.dimension == "seconds" and _SPAN_WORDS.search(text) and _span(figure, evidence):
        return True
    if figure.dimension == "share" and not _SHARE_WORDS.search(text):
        return False
    for fact in evidence:
        figures = fact.reading.figures[:_PAIRS_MAX]
        course = fact.course
        if course is not None and figure.dimension in ("factor", "share") and _relates(figure, course[0], course[1]):
            return True
        if course is not None and figure.dimension in ("factor", "share") and _relates(figure, course[0], course[2]):
            return True
        for a, b in itertools.pairwise(figures):
            if a.dimension != b.dimension:
                continue
            if figure.dimension in ("factor", "share") and _relates(figure, a.values[0], b.values[0]):
                return True
            if (
                figure.dimension == a.dimension
                and _CHANGE_WORDS.search(text)
                and figure.is_amount(abs(b.values[0] - a.values[0]))
            ):
                return True
    return False


def _relates(figure: Figure, before: float, after: float) -> bool:
    if before == 0 or after == 0:
        return False
    if figure.dimension == "factor":
        return figure.is_amount(after / before) or figure.is_amount(before / after)
    return figure.is_amount(abs(after - before) / abs(before)) or figure.is_amount(after / before)


def _span(figure: Figure, evidence: tuple[Fact, ...]) -> bool:
    instants = [i for fact in evidence for i, _ in fact.reading.instants][:_PAIRS_MAX]
    return any(figure.is_amount(abs((b - a).total_seconds())) for a, b in itertools.combinations(instants, 2))


def _times(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    reading = read(text)
    instants = [i for fact in evidence for i, _ in fact.reading.instants]
    if facts.onset is not None:
        instants.append(facts.onset)
    for instant, slack in reading.instants:
        if not any(abs((instant - one).total_seconds()) <= slack for one in instants):
            return Verdict.CONTRADICTED, f"{instant:%Y-%m-%d %H:%M:%S} is not in the cited evidence"
    for second, slack in reading.clocks:
        if not any(abs(_second_of_day(one) - second) <= slack for one in instants):
            return Verdict.CONTRADICTED, f"{second // 3600:02}:{second // 60 % 60:02} is not in the cited evidence"
    return None


def _second_of_day(instant: datetime) -> float:
    utc = instant.astimezone(UTC)
    return utc.hour * 3600 + utc.minute * 60 + utc.second + utc.microsecond / 1e6


def _order(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    """Check that `from A to B` is not written the wrong way round."""
    for found in _FROM_TO.finditer(text):
        before, after = (found[1], found[2]) if found[1] is not None else (found[3], found[4])
        old, new = read(before).figures, read(after).figures
        if not old or not new or old[-1].agrees(new[0]):
            continue
        steps = [(read(a).figures, read(b).figures) for fact in evidence for a, b in fact.steps]
        pairs = [(a[0], b[-1]) for a, b in steps if a and b]
        if any(old[-1].agrees(a) and new[0].agrees(b) for a, b in pairs):
            continue
        if any(new[0].agrees(a) and old[-1].agrees(b) for a, b in pairs):
            return (
                Verdict.CONTRADICTED,
                f"the evidence has it the other way round: {new[0].text} before, {old[-1].text} after",
            )
    return None


def _most(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    found = _MOST.search(text)
    courses = [fact.course for fact in evidence if fact.course is not None]
    if found is None or not courses:
        return None
    figures = read(text[found.end() :]).figures
    if not figures or figures[0].dimension not in ("count", "bytes", "seconds"):
        return None
    if any(figures[0].is_amount(course[2]) for course in courses):
        return None
    if any(figures[0].is_amount(value) for course in courses for value in course[:2]):
        return Verdict.CONTRADICTED, f"{figures[0].text} is not the highest value of the cited evidence"
    return None


def _direction(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    """Check rising, falling and still against the series that are cited; several that disagree prove nothing."""
    named = [name for name in read(text).names if "_" in name]
    directions = {
        fact.direction
        for fact in evidence
        if fact.course is not None and (not named or any(name in fact.summary.lower() for name in named))
    }
    if len(directions) != 1:
        return None
    way = directions.pop()
    steady = _STEADY.search(text)
    up, down = _affirmed(_UP, text), _affirmed(_DOWN, text)
    if steady is not None and way and not up and not down:
        return Verdict.CONTRADICTED, "the cited series did move"
    if up and not down and way < 0:
        return Verdict.CONTRADICTED, "the cited series fell"
    if down and not up and way > 0:
        return Verdict.CONTRADICTED, "the cited series rose"
    return None


def _affirmed(pattern: re.Pattern[str], text: str) -> bool:
    return any(not _NEGATED.search(text[: found.start()]) for found in pattern.finditer(text))


def _cause_in_time(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    """Check that a change that is said to have caused the trouble was there before it."""
    if facts.onset is None or not _CAUSES.search(text) or _NOT_CAUSE.search(text):
        return None
    changes = [fact for fact in evidence if fact.at is not None]
    late = [f for f in changes if f.at is not None and (f.at - facts.onset).total_seconds() > TIME_SLACK_SECONDS]
    if changes and len(late) == len(changes):
        return Verdict.CONTRADICTED, f"{late[0].id} took effect after the trouble began: it cannot have caused it"
    return None


def _topic(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    told = " ".join(f"{fact.told} {fact.subject}" for fact in evidence)
    for said, shown in _TOPICS:
        found = said.search(text)
        if found is not None and shown.search(told) is None:
            return Verdict.UNSUPPORTED, f"nothing in the cited evidence speaks of {found[0].lower()}"
    return None


def _people(text: str, evidence: tuple[Fact, ...], facts: Facts) -> _Fault:
    """Check that a change is not laid at another person's door."""
    words = set(re.findall(r"[a-z][a-z.-]+", text.lower()))
    cited = " ".join(fact.summary.lower() for fact in evidence)
    for name in sorted(facts.people & words):
        if name not in cited:
            return Verdict.CONTRADICTED, f"{name} is the author of another change"
    return None
