"""Values that every stage shares: the record base, instants in UTC, canonical JSON and digests.

Nothing here knows a stage; every module may import it.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer

from advisor.errors import SettingsInvalid


class Record(BaseModel):
    """A fact: never edited. A new fact is a new record.

    Use tuples, not lists: frozen is shallow. NaN and infinity are refused, so "no data" needs a value of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return value.astimezone(UTC)


def format_instant(value: datetime) -> str:
    """Return an instant as RFC 3339 in UTC with a ``Z``; whole seconds carry no fraction."""
    text = value.astimezone(UTC).isoformat(timespec="milliseconds" if value.microsecond else "seconds")
    return text.replace("+00:00", "Z")


# Equal instants in two zones compare equal but hash differently: stored in UTC only, written one way only.
Instant = Annotated[datetime, AfterValidator(_utc), PlainSerializer(format_instant, return_type=str, when_used="json")]


YAML_DEPTH_MAX = 50  # settings have 5
YAML_NODES_MAX = 50_000  # settings of 1,000 services have half of that
INSTANT_YEARS = range(1970, 3000)  # windows reach back and forth from an instant; at the ends of time they fall off


def parse_instant(text: str, now: datetime) -> datetime:
    """Return the instant that a person wrote.

    Args:
        text: RFC 3339 (a missing zone is UTC), epoch seconds or milliseconds, ``now``, or an age such as ``15m`` or
            ``2h ago``.
        now: What ``now`` and ages count from.

    Raises:
        SettingsInvalid: Nothing of that kind.
    """
    try:
        value = _read_instant(text.strip(), now)
    except (ValueError, OverflowError, OSError) as error:
        raise SettingsInvalid(
            f"time {text[:60]!r} is not understood: write 2026-11-22T08:00:00Z, epoch seconds, or an age such as 15m"
        ) from error
    if value.year not in INSTANT_YEARS:
        first, last = INSTANT_YEARS[0], INSTANT_YEARS[-1]
        raise SettingsInvalid(f"time {text[:60]!r} is not understood: a year from {first} to {last} is wanted")
    return value


def _read_instant(word: str, now: datetime) -> datetime:
    if word.lower() == "now":
        return now
    age = word.lower().removesuffix("ago").strip().removeprefix("-")
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if age and age[-1] in units and age[:-1].replace(".", "", 1).isdigit() and age.isascii():
        return now - timedelta(seconds=float(age[:-1]) * units[age[-1]])
    if word.replace(".", "", 1).isdigit() and word.isascii():
        number = float(word)
        return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)
    value = datetime.fromisoformat(word)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def load_yaml(text: str) -> Any:
    """Return the data of a YAML text written by people: settings, a playbook, a list of mechanisms.

    The library's composer recurses in C and multiplies aliases, so the events are counted first: without that, a
    deep text ends the process and a short one fills the memory.

    Raises:
        ValueError: Not YAML, nested deeper than `YAML_DEPTH_MAX`, or more than `YAML_NODES_MAX` nodes with its aliases
            written out.
    """
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the count at its beginning
    count = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.CollectionEndEvent):
                anchor, before = open_nodes.pop()
                if anchor is not None:
                    sizes[anchor] = count - before
                continue
            if isinstance(event, yaml.NodeEvent):
                count += sizes.get(event.anchor or "", 1) if isinstance(event, yaml.AliasEvent) else 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, count - 1))
            if count > YAML_NODES_MAX:
                raise ValueError(f"more than {YAML_NODES_MAX} values, with its aliases written out")
            if len(open_nodes) > YAML_DEPTH_MAX:
                raise ValueError(f"nested deeper than {YAML_DEPTH_MAX}")
        return yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, LookupError, AttributeError, OverflowError) as error:
        # The last ones are the library's own about a tag that does not fit, such as `!!bool maybe`.
        raise ValueError(
            str(error) if isinstance(error, yaml.YAMLError) else "a value that does not fit its tag"
        ) from error


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, UTF-8; what digests are taken over.

    Raises:
        ValueError: NaN or infinity inside.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
    ).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return format_instant(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON")


def digest(value: Any) -> str:
    """Return ``sha256:…`` over the canonical JSON of a value (bytes are taken as they are)."""
    data = value if isinstance(value, bytes) else canonical_json(value)
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Risk(StrEnum):
    """How much harm a wrong change could do; ordered low < medium < high."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """Return 0, 1 or 2."""
        return ("low", "medium", "high").index(self.value)


class CauseKind(StrEnum):
    """What kind of thing brought an incident about."""

    CONFIG_CHANGE = "config_change"
    DEPLOY = "deploy"
    LOAD = "load"
    CAPACITY = "capacity"
    DEPENDENCY = "dependency"
    INFRASTRUCTURE = "infrastructure"
    EXTERNAL = "external"
    UNKNOWN = "unknown"
    NONE = "none"


class ActionType(StrEnum):
    """The closed registry of what may be proposed. All but ``escalate`` edit files of the configuration repository."""

    REVERT_COMMIT = "revert_commit"
    REVERT_KEYS = "revert_keys"
    SET_VALUE = "set_value"
    ROLL_BACK_IMAGE = "roll_back_image"
    SCALE = "scale"
    RESTART = "restart"
    ESCALATE = "escalate"


def format_bytes(number: float) -> str:
    """Return a size for people in binary units, three figures: ``412 MiB``."""
    sign, size = ("-" if number < 0 else ""), abs(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{sign}{_three_figures(size)} {unit}"
        size /= 1024
    return f"{sign}{_three_figures(size)} TiB"


def format_seconds(seconds: float) -> str:
    """Return a duration for people with at most two units: ``1h 30m``, ``45s``, ``800ms``."""
    if abs(seconds) < 1:
        return f"{round(seconds * 1000)}ms"
    left = round(abs(seconds))
    sign = "-" if seconds < 0 else ""
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size}{unit}")
            left %= size
    return sign + " ".join(parts)


def format_number(number: float) -> str:
    """Return a plain number for people, three figures and thousands marked."""
    return f"{number:,.0f}" if abs(number) >= 1000 else _three_figures(number)


def _three_figures(number: float) -> str:
    if number == 0:
        return "0"
    if abs(number) < 1:
        return f"{number:.3g}"
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{number:.0f}"
