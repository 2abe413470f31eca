"""Who calls whom, among the services that are candidates: names brought together, addresses led back to what stands behind them.

Pure. Called by `localization`; it knows calls and names, no series.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ADDRESS = re.compile(r"_(remote|client)$|^\d+(\.\d+){3}|^[\w-]+(\.[\w-]+){2,}(:\d+)?$|^https?://", re.IGNORECASE)


@dataclass(slots=True)
class CallGraph:
    """The calls between services that are candidates; calls through nodes that are none are joined."""

    names: list[str]
    callees: list[list[int]]
    callers: list[list[int]]
    symptom: int | None
    addresses: frozenset[int] = frozenset()

    @classmethod
    def of(cls, names: list[str], calls: frozenset[tuple[str, str]], symptom: str) -> CallGraph:
        """Read the calls, with names of one service spelled in two ways brought together."""
        place = {name: i for i, name in enumerate(names)}
        spelled = spellings(names, {n for edge in calls for n in edge} | {symptom})
        outside: dict[str, int] = {}

        def number(name: str) -> int:
            known = place.get(spelled.get(name, name))
            return known if known is not None else outside.setdefault(name, len(names) + len(outside))

        addresses = _addresses(names)
        edges = {(number(a), number(b)) for a, b in calls} | _views(names, calls, addresses)
        callees: dict[int, set[int]] = defaultdict(set)
        for a, b in edges:
            if a != b:
                callees[a].add(b)
        joined = [_through(i, callees, len(names)) for i in range(len(names))]
        callers: list[list[int]] = [[] for _ in names]
        for i, below in enumerate(joined):
            for c in below:
                callers[c].append(i)
        return cls(names, joined, callers, place.get(spelled.get(symptom, symptom)), addresses)

    @property
    def known(self) -> bool:
        """Return whether there is any call to reason on."""
        return any(self.callees)


def _through(start: int, callees: Mapping[int, set[int]], measured: int) -> list[int]:
    """Return the nearest candidates below a node, looking through nodes that are none."""
    found, seen, waiting = set(), {start}, list(callees.get(start, ()))
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node < measured:
            found.add(node)
        else:
            waiting.extend(callees.get(node, ()))
    return sorted(found)


def _plain(name: str) -> str:
    """Return a name without what tracing and orchestration append to it."""
    short = re.sub(r"(_?(AWS|Database|azure|gcp)::.*|_remote|_client)$", "", name, flags=re.IGNORECASE)
    short = re.sub(r"[-_.](service|svc|server|app|deployment)$", "", short, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", short.lower())


def spellings(names: Sequence[str], others: set[str]) -> dict[str, str]:
    """Return for a name of the graph that is no candidate the one candidate that is spelled alike."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[_plain(name)].append(name)
    return {
        other: alike[_plain(other)][0]
        for other in others.difference(names)
        if _plain(other) and len(alike.get(_plain(other), ())) == 1
    }


def _addresses(names: Sequence[str]) -> frozenset[int]:
    """Return which names are addresses or clients as others see them; none where most look so, for then it is how services are named."""
    found = frozenset(i for i, name in enumerate(names) if ADDRESS.search(name))
    return found if 2 * len(found) <= len(names) else frozenset()


def _views(names: Sequence[str], calls: frozenset[tuple[str, str]], addresses: frozenset[int]) -> set[tuple[int, int]]:
    """Return the calls from an address that callers dial to the one service whose name it carries.

    A load balancer's host name is measured by its callers and is slow whenever the service behind it is; without this edge
    the host name would be the deepest slow node.
    """
    called = {b for _, b in calls}
    calling = {a for a, _ in calls}
    found = set()
    real = [(i, _plain(n)) for i, n in enumerate(names) if i not in addresses]
    for i, name in enumerate(names):
        if i not in addresses or name in calling or name not in called:
            continue
        tokens = [t for t in re.split(r"[^a-z0-9]+", name.lower().split(".")[0].removesuffix("_remote")) if len(t) >= 4]
        hits = [{j for j, plain in real if token in plain} for token in tokens]
        named = {next(iter(h)) for h in hits if len(h) == 1}
        if len(named) == 1:
            found.add((i, named.pop()))
    return found


def depths_below(graph: CallGraph) -> list[int | None]:
    """Return how many calls each service lies below the symptom, None where no call leads there."""
    depth: list[int | None] = [None] * len(graph.names)
    if graph.symptom is None:
        return depth
    depth[graph.symptom] = 0
    waiting = [graph.symptom]
    for i in waiting:
        for c in graph.callees[i]:
            if depth[c] is None:
                depth[c] = (depth[i] or 0) + 1
                waiting.append(c)
    return depth
