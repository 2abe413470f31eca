"""A call that ends on time, whatever the other side does.

A read timeout does not end an answer that comes one byte a second. The call runs in a thread of its own; when the time is
up, the caller goes on and the thread is left behind: it holds no lock, writes nothing, and ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """The time was up."""


def run_within(seconds: float, call: Callable[[], T]) -> T:
    """Return what a call returns, or raise what it raises, within so many seconds.

    Raises:
        Overdue: It did not end in time.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="model-call")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise Overdue(f"not ended within {seconds:.1f} s")
    return results[0]
