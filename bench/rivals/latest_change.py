"""The on-call reflex: whatever was changed last before the alarm did it. Only for cases with changes."""

from __future__ import annotations

from bench.datasets.case import Case


def latest_change(case: Case) -> list[str]:
    """Return changes by how shortly before the alarm they came; those after it last. Without changes, the order as given."""
    if not case.changes:
        return list(case.candidates)
    noticed = case.noticed_at if case.noticed_at is not None else float(case.times[-1])

    def distance(at: float | None) -> tuple[bool, float]:
        return (True, 0.0) if at is None else (at > noticed, abs(noticed - at))

    return [c.name for c in sorted(case.changes, key=lambda c: distance(c.at))]
