"""A playbook: what is looked for in one class of incident, and what may be done. Data, checked; never code.

`Action` and `Check` stand here, below proposal, verification and rollback, because all three share them.
Pure: the text of a playbook comes in as an argument.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, ValidationError

from advisor.errors import PlaybookInvalid, one_line
from advisor.values import ActionType, Record, Risk, load_yaml

# Stands beside every plan that an approver sees: which signals these are is known only when the change is verified.
VITAL_SIGNS = (
    "also watched: errors, latency, restarts and traffic of the service and of those that call it;"
    " one that gets clearly worse fails the change"
)
PLAYBOOK_BYTES_MAX = 256 * 1024  # a playbook is read by people; ours have 3 KB


class Action(Record):
    """One entry of the closed registry of actions, with its parameters.

    Attributes:
        commit: The commit to take back (``revert_commit``, ``revert_keys``, ``roll_back_image``).
        path: The one file edited, where the action edits one file.
        keys: The keys whose values are taken back or set.
        values: The new values, one for each key, as text (``set_value``, ``roll_back_image``, ``scale``, ``restart``).
        document: Number of the YAML document inside the file.
        reason: Why, in one sentence.
    """

    type: ActionType
    commit: str | None = None
    path: str | None = None
    keys: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    document: int = 0
    reason: str = ""


class Comparison(StrEnum):
    """How a measured value is held against a threshold."""

    AT_MOST = "at_most"
    AT_LEAST = "at_least"


class Measure(StrEnum):
    """How the samples of a window become one number for each series; the worst series counts."""

    MEAN = "mean"
    MAX = "max"
    LAST = "last"
    FLOOR = "floor"  # low quantile: what stays after collections
    SLOPE_PER_HOUR = "slope_per_hour"  # of the floor, in the metric's unit
    INCREASE = "increase"  # of a counter, resets allowed
    CHANGES = "changes"  # how often the value changed: restarts from a start time


class Check(Record):
    """One condition on the incident's own signal, asked after a change.

    Attributes:
        query: PromQL, bounded, with the service's matchers already in it.
        threshold: In the metric's unit; derived from the baseline before the onset where there is one.
        guard: A vital signal that must not get worse, rather than the one that must recover.
    """

    name: str
    query: str
    measure: Measure
    comparison: Comparison
    threshold: float
    unit: str = ""
    guard: bool = False


class VerificationPlan(Record):
    """What must hold after a change, over which window, with how many samples at the least."""

    checks: tuple[Check, ...] = ()
    settle_seconds: int = Field(default=0, ge=0)
    window_seconds: int = Field(default=600, gt=0)
    samples_min: int = Field(default=5, ge=2)


class Playbook(Record):
    """One class of incident.

    Attributes:
        name: As in the folder, lower case with underscores.
        symptoms: Which symptoms it serves (values of ``Symptom``; the workflow checks them).
        required_sources: Sources that must be settled, and without which confidence is capped.
        metrics: Role -> names of metrics that play it, most usual first; regular expressions are not allowed.
        allowed_actions: What may be proposed.
        refused_remedies: Remedies that do not fix, with the reason in one sentence.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,60}$")
    title: str = Field(max_length=120)
    symptoms: tuple[str, ...]
    required_sources: tuple[Literal["metrics", "changes", "logs"], ...] = ("metrics", "changes")
    metrics: dict[str, tuple[str, ...]] = Field(default={})
    allowed_actions: tuple[ActionType, ...]
    risk: Risk = Risk.LOW
    explanation: str = ""
    refused_remedies: dict[str, str] = Field(default={})


def parse_playbook(text: str, name: str) -> Playbook:
    """Return the playbook written in a YAML text.

    Raises:
        PlaybookInvalid: Too large, not YAML, an unknown key, a wrong type; the message names the key.
    """
    if len(text) > PLAYBOOK_BYTES_MAX:
        raise PlaybookInvalid(f"playbook {name}: {len(text)} characters, more than {PLAYBOOK_BYTES_MAX}; split it")
    try:
        data = load_yaml(text)
    except ValueError as error:
        raise PlaybookInvalid(f"playbook {name}: not readable as YAML: {one_line(str(error), 200)}") from error
    if not isinstance(data, dict):
        raise PlaybookInvalid(f"playbook {name}: a mapping is wanted at the top, found {type(data).__name__}")
    try:
        return Playbook.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PlaybookInvalid(f"playbook {name}: {where}: {first['msg']}") from error
