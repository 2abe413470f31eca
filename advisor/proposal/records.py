"""What guardrails look at, and what they say. Shared by the checks of this folder."""

from __future__ import annotations

from collections.abc import Callable

from advisor.values import Record


class Guardrail(Record):
    """What one guardrail said."""

    name: str
    passed: bool
    detail: str = ""


class FileEdit(Record):
    """One file of a candidate: its bytes before and after; None where it does not exist."""

    path: str
    before: bytes | None
    after: bytes | None


# Checks from outside this stage: whatever can judge files before and after, such as a server-side dry run in a cluster.
Guard = Callable[[tuple[FileEdit, ...]], Guardrail]
