"""The rules of approval: who must say yes to which change, and when nothing is delivered.

They come from the settings and from nowhere else. Every rule that matches a proposal counts, and of all that they demand
the most restrictive holds: a `deny` of one, the largest number of people, and only those people whom each of them allows.
So adding a rule can never open what another one closed, and their order means nothing but the order of names in a message.

Pure: `settings.approval` fills these records, `deciding` and `granting` ask them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any, Protocol
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from advisor.approval.people import fold, principals
from advisor.path_scope import PathScope
from advisor.proposal import Proposal
from advisor.values import ActionType, Instant, Record, Risk

REASON_CHARACTERS_MIN = 10  # "fix" is no reason that anybody could read a year later
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK_MINUTES = 7 * 24 * 60
_WEEKLY = re.compile(r"([a-z]{3})[a-z]*\s+(\d{1,2}):(\d{2})\s*(?:to|-|–|until)\s*([a-z]{3})[a-z]*\s+(\d{1,2}):(\d{2})")


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]


class Roles(Record):
    """People by what they may do; each role may all that the one before it may."""

    viewer: Words = ()
    responder: Words = ()
    approver: Words = ()
    admin: Words = ()


class Match(Record):
    """Which proposals a rule or a freeze is about; what is not said matches all."""

    service: Words = ()
    path: Words = ()
    repository: Words = ()
    action: Annotated[tuple[ActionType, ...], BeforeValidator(_one_or_many)] = ()
    risk: Annotated[tuple[Risk, ...], BeforeValidator(_one_or_many)] = ()

    def fits(self, proposal: Proposal) -> bool:
        """Return whether a proposal is one of those; of its files one that matches is enough."""
        return (
            (not self.service or proposal.service in PathScope(self.service))
            and (not self.repository or proposal.repository.name in PathScope(self.repository))
            and (not self.action or proposal.action.type in self.action)
            and (not self.risk or proposal.risk in self.risk)
            and (not self.path or self._fits_path(proposal))
        )

    def _fits_path(self, proposal: Proposal) -> bool:
        # A proposal that does not say which files it touches is held to every rule about files.
        scope = PathScope(self.path)
        return not proposal.paths or any(path in scope for path in proposal.paths)


class Rule(Record):
    """What a matching proposal demands.

    Attributes:
        approvers: Only these people, and those of ``roles``, may approve; both empty: every approver may.
        roles: ``approver`` or ``admin``.
        people: How many distinct people must approve.
        deny: Nobody may approve it, not even by breaking the glass.
    """

    name: str = ""
    match: Match = Match()
    approvers: Words = ()
    roles: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    people: int = Field(default=1, ge=1, le=10)
    deny: bool = False

    @model_validator(mode="after")
    def _check(self) -> Rule:
        unknown = sorted(set(self.roles) - {"approver", "admin"})
        if unknown:
            raise ValueError(f"roles: {unknown[0]!r} may not approve; approver and admin may")
        if not (self.approvers or self.roles or self.people > 1 or self.deny):
            raise ValueError("it demands nothing: approvers, roles, people or deny is wanted")
        return self


class Freeze(Record):
    """A time in which nothing is delivered but a broken glass and a rollback: once, or every week."""

    start: Instant | None = None
    end: Instant | None = None
    weekly: str = ""
    zone: str = "UTC"
    match: Match = Match()
    reason: str = ""

    @model_validator(mode="before")
    @classmethod
    def _place(cls, data: Any) -> Any:
        """Put times without a zone into the zone of the window."""
        if not isinstance(data, Mapping):
            return data
        placed = dict(data)
        for name in ("start", "end"):
            if data.get(name) is not None:
                placed[name] = _instant(data[name], data.get("zone"))
        return placed

    @model_validator(mode="after")
    def _check(self) -> Freeze:
        zone_of(self.zone)
        if self.weekly:
            if self.start or self.end:
                raise ValueError("weekly, or start and end; not both")
            _minutes(self.weekly)
        elif self.start is None or self.end is None:
            raise ValueError("start and end are wanted, or weekly such as 'fri 16:00 to mon 08:00'")
        elif self.start >= self.end:
            raise ValueError("start stands after end")
        return self

    def ends(self, now: datetime) -> datetime | None:
        """Return when it ends, if it is in force now."""
        if self.start is not None and self.end is not None:
            return self.end if self.start <= now < self.end else None
        first, last = _minutes(self.weekly)
        local = now.astimezone(zone_of(self.zone))
        at = local.weekday() * 1440 + local.hour * 60 + local.minute
        if (at - first) % _WEEK_MINUTES >= (last - first) % _WEEK_MINUTES:
            return None
        left = timedelta(minutes=(last - at) % _WEEK_MINUTES)
        return (local.replace(second=0, microsecond=0) + left).astimezone(UTC)  # wall clock: hours may be skipped


class BreakGlass(Record):
    """Who may deliver alone in an emergency, and for how long such an approval lives."""

    people: Words = ()
    minutes: int = Field(default=15, ge=1, le=60)


class Rules(Protocol):
    """Who may say yes (`ApprovalRules` of the settings is one)."""

    @property
    def approvers(self) -> tuple[str, ...]:
        """Return the people listed as approvers beside the roles."""
        ...

    @property
    def roles(self) -> Roles:
        """Return the people by role."""
        ...

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return the rules on top."""
        ...

    @property
    def freeze(self) -> tuple[Freeze, ...]:
        """Return the times in which nothing is delivered."""
        ...

    @property
    def break_glass(self) -> BreakGlass:
        """Return who may act alone in an emergency."""
        ...

    @property
    def keys(self) -> Mapping[str, tuple[str, ...]]:
        """Return the public keys of people; whoever has one must sign."""
        ...

    def people_needed(self, risk: Risk) -> int:
        """Return how many distinct people must approve a change of this risk."""
        ...

    def check_signature(
        self, person: str, statement: bytes, signature: str, signers: tuple[str, ...], at: datetime
    ) -> str:
        """Return the one of a person's keys that a signature verifies with.

        Raises:
            SignatureRefused: It verifies with none.
        """
        ...


class Demand(Record):
    """What all rules together demand of one proposal.

    Attributes:
        people: How many distinct people must approve.
        allowed: Who may be one of them.
        denied_by: The rule that forbids it to everybody; empty if none does.
        named: The rules that matched.
    """

    people: int
    allowed: frozenset[str]
    denied_by: str = ""
    named: tuple[str, ...] = ()


def may_approve(rules: Rules) -> frozenset[str]:
    """Return everybody who may approve anything at all."""
    return principals((*rules.approvers, *rules.roles.approver, *rules.roles.admin))


def may_break_glass(rules: Rules) -> frozenset[str]:
    """Return everybody who may act alone in an emergency."""
    return principals(rules.break_glass.people)


def demand_of(rules: Rules, proposal: Proposal) -> Demand:
    """Return what the rules demand of a proposal.

    To take back what was agreed on needs one approver, or one who may break the glass, whatever the rules: an incident
    must not wait for a second person, or for a freeze to end, to undo the first try.
    """
    everybody = may_approve(rules)
    if proposal.rolls_back is not None:
        return Demand(people=1, allowed=everybody | may_break_glass(rules))
    people, allowed, denied, named = max(1, rules.people_needed(proposal.risk)), everybody, "", []
    for number, rule in enumerate(rules.rules, 1):
        if not rule.match.fits(proposal):
            continue
        name = rule.name or f"rule {number}"
        named.append(name)
        people = max(people, rule.people)
        denied = denied or (name if rule.deny else "")
        if rule.approvers or rule.roles:
            of_roles = [person for role in rule.roles for person in _holders(rules, role)]
            allowed &= principals((*rule.approvers, *of_roles))
    return Demand(people=people, allowed=allowed, denied_by=denied, named=tuple(named))


def frozen(rules: Rules, proposal: Proposal, now: datetime) -> str | None:
    """Return until when, and why, a proposal may not be delivered now; None if it may."""
    if proposal.rolls_back is not None:
        return None
    ends = [(end, f) for f in rules.freeze if f.match.fits(proposal) and (end := f.ends(now)) is not None]
    if not ends:
        return None
    end, freeze = max(ends, key=lambda pair: pair[0])
    return f"until {end.isoformat()}" + (f" ({freeze.reason})" if freeze.reason else "")


def signers_of(rules: Rules, person: str) -> tuple[str, ...]:
    """Return the public keys of a person, under whatever spelling they are listed."""
    who = fold(person)
    return tuple(key for name, keys in rules.keys.items() if fold(name) == who for key in keys)


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name.

    Raises:
        ValueError: This machine does not know it.
    """
    if name.upper() in ("UTC", "Z"):
        return UTC  # known without a database of zones
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:
        raise ValueError(f"zone {name[:60]!r} is not known here; write one such as Europe/Berlin, or UTC") from error


def _holders(rules: Rules, role: str) -> tuple[str, ...]:
    if role == "admin":
        return rules.roles.admin
    return (*rules.approvers, *rules.roles.approver, *rules.roles.admin)


def _instant(given: object, zone: object) -> datetime:
    value = datetime.fromisoformat(given.strip()) if isinstance(given, str) else given  # its error says what is wrong
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError("a time such as 2026-12-20T00:00:00+01:00 is wanted")
    if value.tzinfo is None:
        if not isinstance(zone, str):
            raise ValueError("a time zone is wanted: an offset in the time, or zone: Europe/Berlin beside it")
        return value.replace(tzinfo=zone_of(zone))
    return value


def _minutes(weekly: str) -> tuple[int, int]:
    """Return both ends of a weekly window in minutes since Monday midnight."""
    match = _WEEKLY.fullmatch(weekly.strip().lower())
    if match is None or match[1] not in _DAYS or match[4] not in _DAYS:
        raise ValueError(f"weekly {weekly[:60]!r} is not understood; write it like 'fri 16:00 to mon 08:00'")
    ends = []
    for day, hour, minute in (match.groups()[:3], match.groups()[3:]):
        if int(hour) > 24 or int(minute) > 59 or (int(hour) == 24 and int(minute)):
            raise ValueError(f"weekly {weekly[:60]!r}: {hour}:{minute} is no time of day")
        ends.append((_DAYS.index(day) * 1440 + int(hour) * 60 + int(minute)) % _WEEK_MINUTES)
    if ends[0] == ends[1]:
        raise ValueError(f"weekly {weekly[:60]!r}: it begins when it ends")
    return ends[0], ends[1]
