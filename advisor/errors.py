"""The errors of the product, in one tree.

The class of an error answers two questions: may the same call succeed later, and did anything change in the world?

```
AdvisorError
  SourceError        nothing changed   SourceUnavailable (retry) · SourceRefused · SourceMalformed
  ModelError         nothing changed   ModelUnavailable (retry) · ModelRefused · ModelAnswerInvalid
  PlaybookError      nothing changed   PlaybookInvalid · PlaybookUnknown
  SettingsInvalid    nothing changed
  RecordUnknown      nothing changed
  NotPermitted       nothing changed   ApprovalMissing · ApprovalExpired · ApprovalMismatch · ApprovalResolved ·
                                       ApproverNotAllowed · SignatureRefused · DeliveryFrozen
  ChangeError        ChangeConflict (base moved; nothing written) · ChangeRefused (nothing written)
                     ChangeCollision (a conflict: later edits on the same lines; nothing written)
                     ChangeUncertain (we cannot tell; stop and call a person, never retry)
  StoreError         StoreUnavailable (retry) · StoreUncertain (we cannot tell; ask again when it answers)
  AuditError         AuditUnavailable (then nothing may change) · AuditBroken (the chain does not verify)
  IllegalTransition  our own misuse; state unchanged
```

A message is one line for a person: what was attempted, on what, what the other side said, what to do next.
``exit_code`` is the exit code of the command line (docs: DESIGN, commands).
"""

from __future__ import annotations

MESSAGE_CHARACTERS_MAX = 600  # one line on a wide terminal, with room for a path and a reason


class AdvisorError(Exception):
    """Base of every error a caller may see."""

    exit_code = 1
    retriable = False

    def __init__(self, message: str) -> None:
        """Keep one clean line: control characters and line breaks of foreign text are folded to spaces."""
        super().__init__(one_line(message))


class SourceError(AdvisorError):
    """A source of evidence could not be read; nothing changed."""


class SourceUnavailable(SourceError):
    """The source did not answer (refused, silent, 5xx, too slow); the same call may succeed later."""

    retriable = True


class SourceRefused(SourceError):
    """The source answered and said no (401, 403, 422, a missing branch); the same call will fail again."""


class SourceMalformed(SourceError):
    """The source answered with something that cannot be read (HTML for JSON, broken YAML, binary)."""


class ModelError(AdvisorError):
    """The language model failed; nothing changed."""


class ModelUnavailable(ModelError):
    """The model did not answer; the same call may succeed later."""

    retriable = True


class ModelRefused(ModelError):
    """The model's side says no for good (key, quota, unknown model), or our own budget is used up."""


class ModelAnswerInvalid(ModelError):
    """The model's answer does not fit its schema."""


class PlaybookError(AdvisorError):
    """A playbook cannot be used; nothing changed."""

    exit_code = 2


class PlaybookInvalid(PlaybookError):
    """A playbook file breaks its schema."""


class PlaybookUnknown(PlaybookError):
    """No playbook has that name."""


class SettingsInvalid(AdvisorError):
    """`advisor.yaml`, an argument or the environment is wrong; nothing was done."""

    exit_code = 2


class RecordUnknown(AdvisorError):
    """No record has that id."""

    exit_code = 2


class NotPermitted(AdvisorError):
    """The change may not be made now, or not by this person; nothing changed."""

    exit_code = 4


class ApprovalMissing(NotPermitted):
    """No granted approval exists for this proposal."""


class ApprovalExpired(NotPermitted):
    """The approval, or the proposal it answers, is past its expiry."""


class ApprovalMismatch(NotPermitted):
    """The digest that was approved is not the digest of what would be written."""


class ApprovalResolved(NotPermitted):
    """The proposal was answered before; a second answer changes nothing."""


class ApproverNotAllowed(NotPermitted):
    """The rules do not let this person answer this proposal."""


class SignatureRefused(NotPermitted):
    """The SSH signature that an answer needs is missing, or does not verify."""


class DeliveryFrozen(NotPermitted):
    """A freeze is in force: nothing but a broken glass or a rollback is delivered; the same call succeeds after it."""


class ChangeError(AdvisorError):
    """A change was not, or not certainly, made."""

    exit_code = 4


class ChangeConflict(ChangeError):
    """The branch or the touched lines moved on; nothing was written."""


class ChangeCollision(ChangeConflict):
    """Later edits stand on the lines that were to be taken back; nothing was written.

    Attributes:
        paths: The files that collide.
        commits: The commits that collide, newest first, each as id, subject and author.
    """

    def __init__(self, message: str, paths: tuple[str, ...], commits: tuple[tuple[str, str, str], ...]) -> None:
        """Keep what a person needs to choose from."""
        super().__init__(message)
        self.paths = paths
        self.commits = commits


class ChangeRefused(ChangeError):
    """The edit is outside what may be written, or cannot be made exactly; nothing was written."""


class ChangeUncertain(ChangeError):
    """It cannot be told whether the remote took the change; never retried, a person must look."""

    exit_code = 5


class StoreError(AdvisorError):
    """The store of records failed; the records are as they were."""


class StoreUnavailable(StoreError):
    """The store cannot be opened or written (locked, read-only, disk full)."""

    retriable = True


class StoreUncertain(StoreError):
    """It cannot be told whether a step was kept; taking it again is safe, it is done once at most."""

    exit_code = 5


class AuditError(AdvisorError):
    """The audit failed."""


class AuditUnavailable(AuditError):
    """An audit entry cannot be written; then nothing may change."""


class AuditBroken(AuditError):
    """The chain of the audit does not verify."""


class IllegalTransition(AdvisorError):
    """A step was asked for that the lifecycle does not know in this state; the state is unchanged."""

    exit_code = 4


def one_line(text: str, characters_max: int = MESSAGE_CHARACTERS_MAX) -> str:
    """Return text as one printable line of bounded length."""
    cleaned = " ".join("".join(c if c.isprintable() else " " for c in text[: characters_max * 4]).split())
    return cleaned if len(cleaned) <= characters_max else cleaned[: characters_max - 1] + "…"
