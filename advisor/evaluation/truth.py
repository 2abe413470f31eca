"""What really happened in a recorded incident: the file ``truth.yaml`` beside its bundle.

It is written by whoever brought the incident about, before the advisor is asked. Text comes in as an argument; `cases` reads
the files.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, model_validator

from advisor.diagnosis import Outcome
from advisor.errors import SettingsInvalid, one_line
from advisor.values import CauseKind, Record, load_yaml

TRUTH_BYTES_MAX = 64 * 1024  # ours have 400 bytes; a note on noise may be long

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
CommitId = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
Words = Annotated[str, StringConstraints(max_length=10_000)]
# In words, or as a generator has it: how much of what.
Noise = Words | dict[Word, bool | int | float | Words | tuple[float | Words, ...] | None]
# Foreign to us and shown in reports: bounded here, made harmless where it is shown.
Line = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class Split(StrEnum):
    """What a case may be used for: weights are chosen on the one half and believed on the other."""

    DEVELOPMENT = "development"
    HELD_OUT = "held_out"


class Origin(StrEnum):
    """Where a case comes from."""

    LABORATORY = "laboratory"
    GENERATOR = "generator"
    PUBLIC = "public"


class FurtherCause(Record):
    """Another answer that is as right: the second half of an interaction, the same edit in another file.

    Attributes:
        service: The guilty service; that of the case by default.
        kind: Matters only without a commit; that of the case by default.
    """

    service: Line | None = None
    kind: CauseKind | None = None
    commit: CommitId | None = None
    path: Line | None = None
    key: Line | None = None


class Truth(Record):
    """The truth of one case.

    Attributes:
        outcome: How a perfect answer ends. ``inconclusive`` where the evidence cannot decide, whatever happened.
        kind: Of the cause.
        commit: The guilty commit; None where no change is guilty.
        path: The guilty file of the commit.
        key: The guilty key, or whole parts of it.
        old: The value before.
        new: The value after.
        class_: Which class of incident; by default the folder of its playbook.
        split: Whether the engine may be tuned on it.
        source: Where it was recorded.
        noise: What disturbs it, in words or as amounts by name; for readers only.
        tags: What is special about it.
        service: Which service is guilty; by default the one that was asked about.
        accepted_kinds: Kinds that are as right where no commit is guilty, for not everything is one kind only.
        also: Further right answers.
        remedies_refused: What the report must refuse by name.
    """

    # Unquoted numbers are meant as the text that stands there: `old: 500` is the value "500".
    model_config = ConfigDict(coerce_numbers_to_str=True, populate_by_name=True)

    outcome: Outcome
    kind: CauseKind
    commit: CommitId | None = None
    path: Line | None = None
    key: Line | None = None
    old: str | None = Field(default=None, max_length=100_000)
    new: str | None = Field(default=None, max_length=100_000)
    class_: Word | None = Field(default=None, alias="class")
    split: Split = Split.DEVELOPMENT
    source: Origin = Origin.LABORATORY
    noise: Noise = ""
    tags: tuple[Word, ...] = ()
    service: Line | None = None
    accepted_kinds: tuple[CauseKind, ...] = ()
    also: tuple[FurtherCause, ...] = Field(default=(), max_length=50)
    remedies_refused: tuple[Word, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Truth:
        if self.outcome is Outcome.HEALTHY and (
            self.kind is not CauseKind.NONE or self.commit or self.also or self.accepted_kinds
        ):
            raise ValueError("outcome healthy has kind none and no cause")
        if self.outcome is Outcome.DIAGNOSED and self.kind in (CauseKind.NONE, CauseKind.UNKNOWN):
            raise ValueError(f"outcome diagnosed needs a kind of cause, not {self.kind.value}")
        return self

    @property
    def has_culprit(self) -> bool:
        """Return whether the evidence is enough to name a cause: such a case counts for AC@k."""
        return self.outcome is Outcome.DIAGNOSED

    @property
    def causes(self) -> tuple[FurtherCause, ...]:
        """Return every right answer, the cause itself first, each with its kind; none where nothing is known of one."""
        first = FurtherCause(service=self.service, kind=self.kind, commit=self.commit, path=self.path, key=self.key)
        others = tuple(
            one.model_copy(update={"service": one.service or self.service, "kind": one.kind or self.kind})
            for one in self.also
        )
        kinds = [] if self.commit is not None else [k for k in self.accepted_kinds if k is not self.kind]
        accepted = tuple(FurtherCause(service=self.service, kind=kind) for kind in kinds)
        known = self.kind not in (CauseKind.NONE, CauseKind.UNKNOWN) or self.commit is not None
        return (first, *accepted, *others) if known else (*accepted, *others)


def parse_truth(text: str, name: str) -> Truth:
    """Return the truth written in a YAML text.

    Raises:
        SettingsInvalid: Too large, not YAML, an unknown key, a wrong value; the message names file and key.
    """
    if len(text) > TRUTH_BYTES_MAX:
        raise SettingsInvalid(f"{name}: {len(text)} characters, more than {TRUTH_BYTES_MAX}; not a truth file")
    try:
        data = load_yaml(text)
    except ValueError as error:
        raise SettingsInvalid(f"{name}: not readable as YAML: {one_line(str(error), 200)}") from error
    if not isinstance(data, dict):
        raise SettingsInvalid(f"{name}: a mapping is wanted at the top, found {type(data).__name__}")
    try:
        return Truth.model_validate(data)
    except ValidationError as error:
        raise SettingsInvalid(f"{name}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(one_line(str(part), 60) for part in first["loc"])
    told = {"extra_forbidden": "unknown key", "missing": "missing"}.get(first["type"], first["msg"])
    given = first.get("input")
    shown = f" (found {one_line(repr(given), 60)})" if where and isinstance(given, str | int | float) else ""
    return f"{where}: {told}{shown}" if where else told.removeprefix("Value error, ")
