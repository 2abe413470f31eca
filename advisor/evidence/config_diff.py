"""Key-level differences of configuration files (placeholder record; the reading follows)."""

from __future__ import annotations

from advisor.values import Record


class KeyChange(Record):
    """One key whose value differs between two versions of a file."""

    path: str
    key: str
    document: int = 0
    kind: str  # added, removed, changed
    old: str | None = None
    new: str | None = None
    scope: str = ""
    ratio: float | None = None
    unit: str = ""
