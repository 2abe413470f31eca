"""Taking a forge's JSON apart: what is not of the expected shape is an error of the product, never a traceback."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from advisor.errors import SourceMalformed

COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """Return a JSON object.

    Raises:
        SourceMalformed: It is something else.
    """
    if not isinstance(value, dict):
        raise SourceMalformed(f"the forge's {what} is not an object; is the address right?")
    return value


def rows(value: object, what: str) -> list[Mapping[str, Any]]:
    """Return a JSON array of objects.

    Raises:
        SourceMalformed: It is something else.
    """
    if not isinstance(value, list):
        raise SourceMalformed(f"the forge's {what} is not a list; is the address right?")
    return [mapping(one, what) for one in value]


def number(value: object, what: str) -> int:
    """Return a whole number above zero.

    Raises:
        SourceMalformed: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise SourceMalformed(f"the forge's {what} is no number")
    return value


def commit(value: object) -> str | None:
    """Return a full commit id, or None where there is none."""
    return value if isinstance(value, str) and COMMIT.fullmatch(value) else None


def head_commit(value: object) -> str:
    """Return the full commit id of a head.

    Raises:
        SourceMalformed: It is none.
    """
    found = commit(value)
    if found is None:
        raise SourceMalformed("the forge does not say at which commit the pull request is")
    return found


def inner(value: Mapping[str, Any], *names: str) -> Any:
    """Return what stands below some names, one inside the other; None where one is missing."""
    found: Any = value
    for name in names:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found
