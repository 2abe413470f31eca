"""Who said what last: a later word of the same reviewer takes the earlier one's place."""

from __future__ import annotations

from collections.abc import Iterable

from advisor.adapters.forge.shapes import COMMIT
from advisor.change import Review

_APPROVES = ("APPROVED",)
_AGAINST = ("CHANGES_REQUESTED", "REQUEST_CHANGES", "DISMISSED")


def last_words(told: Iterable[tuple[object, object, object, bool]]) -> tuple[Review, ...]:
    """Return the last review of each login that says yes or no; comments say neither.

    Args:
        told: In the order of submission: login, state, commit, whether it still counts.
    """
    found: dict[str, Review] = {}
    for login, state, commit, counts in told:
        if not isinstance(login, str) or not isinstance(state, str) or state.upper() not in (*_APPROVES, *_AGAINST):
            continue
        known = isinstance(commit, str) and COMMIT.fullmatch(commit) is not None
        approves = counts and known and state.upper() in _APPROVES
        found[login] = Review(login=login, commit=str(commit) if known else "", approves=approves)
    return tuple(found.values())
