"""Honest, bounded traffic for one checkout service of the laboratory.

Arrivals of every kind of request are a Poisson process, so the noise is that of real visitors. The rates
may follow a plan over time. Runs as a process of its own; talks to the loopback address only; ends by
itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise

RATE_MAX_PER_SECOND = 400.0  # Per kind; two cores carry a whole laboratory well below that.
REQUESTS_MAX = 500_000
SECONDS_MAX = 1800.0
IN_FLIGHT_MAX = 1200
TIMEOUT_SECONDS = 5.0
POLL_TIMEOUT_SECONDS = 70.0

Points = list[tuple[float, float]]


def at(points: Points, second: float) -> float:
    """Return the value of a piecewise linear plan; constant before its first and after its last point."""
    if second <= points[0][0]:
        return points[0][1]
    for (from_second, from_value), (to_second, to_value) in pairwise(points):
        if second <= to_second:
            return from_value + (to_value - from_value) * (second - from_second) / (to_second - from_second)
    return points[-1][1]


@dataclass
class Traffic:
    """What is sent, and what came back of it."""

    port: int
    started: float = field(default_factory=time.monotonic)
    sent: int = 0
    answered: dict[int, int] = field(default_factory=dict)
    failed: int = 0
    in_flight: int = 0
    sessions: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def request(self, method: str, path: str, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes | None:
        """Return the body of a successful answer, None for any other end."""
        if self.sent >= REQUESTS_MAX or self.in_flight >= IN_FLIGHT_MAX:
            return None
        self.sent += 1
        self.in_flight += 1
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                if self.idle:
                    reader, writer = self.idle.pop()
                else:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: checkout\r\nContent-Length: 0\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head.split(b" ", 2)[1])
                length = next(
                    int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                )
                body = await reader.readexactly(length)
            self.answered[status] = self.answered.get(status, 0) + 1
            self.idle.append((reader, writer))
            writer = None
            return body if status < 300 else None
        except (OSError, EOFError, TimeoutError, ValueError, StopIteration, asyncio.LimitOverrunError):
            self.failed += 1
            return None
        finally:
            self.in_flight -= 1
            if writer is not None:
                writer.close()

    async def create_session(self) -> None:
        """Let a visitor arrive."""
        body = await self.request("POST", "/api/sessions")
        if body:
            self.sessions.append(str(json.loads(body)["id"]))

    async def use_session(self) -> None:
        """Let a recent visitor put something into the basket."""
        if self.sessions:
            await self.request("POST", f"/api/sessions/{random.choice(self.sessions)}/items")

    async def read_product(self, catalogue: int) -> None:
        """Read a product page; a fifth of the reads go to the hundred best sellers."""
        product = random.randrange(100) if random.random() < 0.2 else random.randrange(catalogue)
        await self.request("GET", f"/api/products/{product}")

    async def poll_orders(self) -> None:
        """Let a warehouse terminal wait for order events."""
        await self.request("GET", "/api/orders/events", POLL_TIMEOUT_SECONDS)

    async def read_receipt(self) -> None:
        """Download a receipt."""
        await self.request("GET", f"/api/receipts/{random.randrange(10_000)}")


async def arrive(
    traffic: Traffic, rate: Callable[[float], float], send: Callable[[], Awaitable[None]], until: float
) -> None:
    """Send one kind of request at the planned rate until the given moment."""
    running: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while due < until and traffic.sent < REQUESTS_MAX:
        per_second = min(RATE_MAX_PER_SECOND, rate(due - traffic.started))
        if per_second <= 0:
            due += 0.5
        else:
            due += random.expovariate(per_second)
        # A machine that was busy for a while is not caught up with in one burst.
        due = max(due, time.monotonic() - 0.5)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if per_second > 0:
            task = asyncio.ensure_future(send())
            running.add(task)
            task.add_done_callback(running.discard)


async def run(port: int, seconds: float, rates: dict[str, Points], catalogue: int) -> Traffic:
    """Send all kinds of traffic for the given time."""
    traffic = Traffic(port)
    kinds: dict[str, Callable[[], Awaitable[None]]] = {
        "sessions": traffic.create_session,
        "items": traffic.use_session,
        "products": lambda: traffic.read_product(catalogue),
        "polls": traffic.poll_orders,
        "receipts": traffic.read_receipt,
    }
    until = traffic.started + min(seconds, SECONDS_MAX)

    def planned(points: Points) -> Callable[[float], float]:
        return lambda second: at(points, second)

    await asyncio.gather(*(arrive(traffic, planned(points), kinds[kind], until) for kind, points in rates.items()))
    return traffic


def main() -> None:
    """Run from the command line: rates come as JSON, ``{"sessions": [[second, per_second], ...]}``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=SECONDS_MAX)
    parser.add_argument("--rates", type=json.loads, required=True)
    parser.add_argument("--catalogue", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    traffic = asyncio.run(run(arguments.port, arguments.seconds, arguments.rates, arguments.catalogue))
    print(json.dumps({"sent": traffic.sent, "answered": traffic.answered, "failed": traffic.failed}))


if __name__ == "__main__":
    main()
