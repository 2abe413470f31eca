"""What a person's question asks for, read by rules: enough for the questions of every incident, with no model at all.

A question that no rule reads is `UNKNOWN`; the answer then says what can be asked. Pure.
"""

from __future__ import annotations

import difflib
import re
from datetime import datetime, timedelta
from enum import StrEnum

from advisor.errors import SettingsInvalid
from advisor.values import Record, parse_instant

QUESTION_CHARACTERS_MAX = 4000


class Intent(StrEnum):
    """What is asked for."""

    WRONG = "wrong"  # what is wrong with S
    CHANGED = "changed"  # what changed since T
    SHOW_METRIC = "show_metric"
    COMPARE = "compare"
    INCIDENTS = "incidents"
    EVIDENCE = "evidence"
    CAUSES = "causes"
    EXPLAIN = "explain"  # a term of the ranking, or why something was rejected
    APPROVED = "approved"  # who approved X
    ROLLBACK = "rollback"  # how do I roll back Y
    FIXED = "fixed"  # is Z fixed
    PROPOSE = "propose"  # draft a proposal
    SIMILAR = "similar"
    WAITING = "waiting"  # what waits for me
    ACT = "act"  # apply, approve, roll back for me: never done here
    HELP = "help"
    UNKNOWN = "unknown"


class Question(Record):
    """A question, read.

    Attributes:
        service: As configured, where one is named or only one exists.
        subject: Id of an incident, proposal or change, or the beginning of one.
        evidence: Ids such as ``C1``.
        words: What is asked about: a metric, a term.
        since: The beginning of the window that is named.
        guessed: A service name that was not quite written so.
    """

    intent: Intent
    text: str
    service: str | None = None
    subject: str | None = None
    evidence: tuple[str, ...] = ()
    words: str = ""
    since: datetime | None = None
    guessed: str | None = None


_SUBJECT = re.compile(r"\b(?:inc|pro|chg)-[0-9a-f]{2,40}\b", re.I)
_EVIDENCE = re.compile(r"(?<![\w-])[MCLK]\d{1,4}\b")
_AGO = re.compile(
    r"\b(?:since|in the last|within the last|the last|over the last|for the last|past|from|after)\s+(?:the\s+)?(?:last\s+|past\s+)?"
    r"(?P<number>\d{1,4}|an?|half an)?\s*(?P<unit>seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w)\b(?:\s+ago)?",
    re.I,
)
_AGO_BARE = re.compile(r"\b(?P<number>\d{1,4})\s?(?P<unit>s|m|min|minutes?|h|hours?|d|days?)\s+ago\b", re.I)
_CLOCK = re.compile(r"\b(?:since|after|from|at)\s+(?P<hour>[01]?\d|2[0-3])[:.](?P<minute>[0-5]\d)\b", re.I)
_INSTANT = re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_DAYS = (("since yesterday", 1), ("yesterday", 1), ("since this morning", 0), ("today", 0), ("this morning", 0))
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

# The first that fits is taken: what would act is read before what only asks.
_RULES: tuple[tuple[Intent, re.Pattern[str]], ...] = tuple(
    (intent, re.compile(pattern, re.I))
    for intent, pattern in (
        (Intent.ROLLBACK, r"\b(?:how|what|which|can|could|where)\b.*\b(?:roll(?:ing)?[ -]?back|undo|take (?:it |this |that )?back|revert)\b"),
        (Intent.APPROVED, r"\bwho\b.*\b(?:approve[ds]?|denie[sd]|deny|signed|said (?:yes|no)|agreed|answered)\b|\b(?:is|was|has)\b.*\bapproved\b"),
        (Intent.WAITING, r"\b(?:what|which|anything)\b.*\b(?:wait(?:s|ing)?|pending|needs? (?:my|an) (?:approval|answer))\b|\bmy turn\b"),
        (Intent.ACT, r"^\s*(?:please\s+|now\s+|just\s+|go ahead and\s+|can you\s+|could you\s+)*(?:approve|apply|deploy|execute|merge|push|deny|roll ?back|revert|undo|restart|scale|raise|increase|fix it|do it|run)\b"),
        (Intent.FIXED, r"\b(?:is|are|did|has|have|was)\b.*\b(?:fixed|recover(?:ed|ing)?|resolved|healthy again|better|verified|ok(?:ay)? (?:now|again)|work(?:s|ed|ing)? (?:now|again)|help(?:ed)?)\b|\bverification\b"),
        (Intent.PROPOSE, r"\b(?:draft|propose|suggest|prepare|make|write)\b.*\b(?:proposal|fix|change|remed(?:y|ies)|rollback|revert)\b|\bwhat (?:should|can|could) (?:i|we) do\b|\bhow (?:do|can|should) (?:i|we) fix\b"),
        (Intent.SIMILAR, r"\b(?:similar|like this|before|seen this|happened before|again\?|past incidents?|history of)\b.*|\bsame (?:problem|incident)\b"),
        (Intent.CHANGED, r"\bwhat(?:'s| has| have| was| were|)?\b.*\b(?:chang(?:e|ed|es)|deployed|released|rolled out|merged|committed|new)\b|\b(?:changes|commits|deploys|deployments|releases)\b|\bwho changed\b|\bdid (?:anyone|anybody|someone|somebody)\b"),
        (Intent.COMPARE, r"\bcompar(?:e|ed|ing)\b|\bversus\b|\bvs\.?\b|\bthan (?:yesterday|before|last)\b"),
        (Intent.EVIDENCE, r"\b(?:show|what is|what's|open|explain|see)\b.*\b(?:evidence|[MCLK]\d{1,4})\b|^\s*[MCLK]\d{1,4}\s*\??$"),
        (Intent.EXPLAIN, r"\b(?:explain|what does|what is meant|mean(?:s|ing)?|why (?:not|is the heap|isn't)|how sure|rejected|innocent|probability|term)\b"),
        (Intent.CAUSES, r"\b(?:causes?|hypothes[ei]s|ranking|suspects?|culprit|other (?:possible )?causes?|alternatives?|root cause)\b"),
        (Intent.INCIDENTS, r"\b(?:list|show|which|what|recent|last|open)\b.*\bincidents?\b|^\s*incidents?\s*\??$"),
        (Intent.SHOW_METRIC, r"\b(?:show|plot|graph|draw|chart|display|how (?:much|many|high|big|large|full|fast|slow)|what(?:'s| is) the (?:current )?)\b"),
        (Intent.WRONG, r"\b(?:what(?:'s| is|s)? (?:wrong|up|broken|happening|going on|the (?:problem|matter|issue))|why (?:is|are|does|do|did|was|has|so)|dying|down|slow|crash(?:es|ing|ed)?|broken|failing|errors?|oom|out of memory|investigate|diagnose|look (?:at|into)|check|problem|trouble|unhealthy|alert)\b"),
        (Intent.HELP, r"^\s*(?:help|\?|hello|hi|hey)\b|\bwhat can (?:you|i)\b"),
    )
)  # fmt: skip
_FILLER = frozenset(
    "show me the a an of for in on at to and or is are was were plot graph draw chart display how much many high big what s current now please "
    "value values metric metrics last past since from service over during hour hours minute minutes day days compare with yesterday today than "
    "before vs versus between ago it its full fast slow large does do did usage use have has had there been being by i we you".split()
)


def read_question(text: str, services: tuple[str, ...], now: datetime) -> Question:
    """Return what a question asks for.

    Args:
        text: As typed.
        services: Those of the settings.
        now: What ages count from.
    """
    text = text[:QUESTION_CHARACTERS_MAX].strip()
    service, guessed = _service(text, services)
    subject = _SUBJECT.search(text)
    evidence = tuple(dict.fromkeys(_EVIDENCE.findall(text)))
    intent = next((intent for intent, pattern in _RULES if pattern.search(text)), Intent.UNKNOWN)
    if intent is Intent.UNKNOWN and evidence:
        intent = Intent.EVIDENCE
    if intent is Intent.UNKNOWN and service is not None and len(text.split()) <= 4:
        intent = Intent.WRONG  # only a name: what about it
    if intent is Intent.UNKNOWN and subject is not None:
        intent = Intent.FIXED if subject[0].lower().startswith("chg") else Intent.CAUSES
    return Question(
        intent=intent,
        text=text,
        service=service,
        subject=subject[0].lower() if subject else None,
        evidence=evidence,
        words=_words(text, service, guessed),
        since=_since(text, now),
        guessed=guessed,
    )


def _service(text: str, services: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return the service that is named, and what was written where that was not quite its name."""
    lowered = text.lower()
    named = [s for s in services if re.search(rf"(?<![\w-]){re.escape(s.lower())}(?![\w-])", lowered)]
    if named:
        return max(named, key=len), None
    if len(services) == 1:
        return services[0], None
    by_name = {s.lower(): s for s in services}
    for word in re.findall(r"[a-z0-9][\w-]{3,60}", lowered):
        close = difflib.get_close_matches(word, by_name, n=1, cutoff=0.82)
        if close:
            return by_name[close[0]], word
    return None, None


def _since(text: str, now: datetime) -> datetime | None:
    instant = _INSTANT.search(text)
    if instant is not None:
        try:
            return parse_instant(instant[0], now)
        except SettingsInvalid:
            return None
    clock = _CLOCK.search(text)
    if clock is not None:
        at = now.replace(hour=int(clock["hour"]), minute=int(clock["minute"]), second=0, microsecond=0)
        return at if at <= now else at - timedelta(days=1)
    ago = _AGO.search(text) or _AGO_BARE.search(text)
    if ago is not None:
        number = (ago["number"] or "1").lower()
        count = 0.5 if number.startswith("half") else 1.0 if number in ("a", "an") else float(number)
        return now - timedelta(seconds=count * _SECONDS[ago["unit"][0].lower()])
    for words, days in _DAYS:
        if words in text.lower():
            return (now - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
    return None


def _words(text: str, service: str | None, guessed: str | None) -> str:
    """Return what is left of a question without its service, its times and the words that every question has."""
    for pattern in (_SUBJECT, _INSTANT, _CLOCK, _AGO, _AGO_BARE):
        text = pattern.sub(" ", text)
    gone = {w for name in (service, guessed) if name for w in (name.lower(), f"{name.lower()}'s")}
    kept = [w for w in re.findall(r"[\w{}=:.'-]+", text.lower()) if w not in gone and w.strip(".'?") not in _FILLER]
    return " ".join(w.strip(".'?") for w in kept)[:200]
