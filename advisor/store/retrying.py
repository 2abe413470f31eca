"""A step that was undone through no fault of its own is taken again, a few times.

Between transactions of many machines there are deadlocks, and a server may be restarted in the middle of one. A step of
the store is all or nothing and reads afresh what it needs, so it can be taken again from its beginning. Only what is
undone for certain is; whether a lost ``COMMIT`` was kept is settled before. Called by `Store`.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from advisor.errors import StoreUnavailable
from advisor.store.database import StepUndone

# Seconds between attempts, at most; drawn from half of it on, so that two in each other's way do not meet again.
WAITS = (0.02, 0.1, 0.4, 1.0)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def whole_step(step: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a step that is taken again where it was undone; the last time that is said."""

    @functools.wraps(step)
    def taken(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for wait in WAITS:
            try:
                return step(*args, **kwargs)
            except StepUndone:
                time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads attempts, keeps no secret
        try:
            return step(*args, **kwargs)
        except StepUndone as error:
            # Of a plain kind from here on: a step around this one, already kept, must not be taken again for it.
            raise StoreUnavailable(str(error)) from error

    return taken
