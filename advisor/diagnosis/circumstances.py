"""What else could have done it: traffic, a limit too small, a slow dependency, or something that nobody measured. Pure."""

from __future__ import annotations

import math

import numpy as np

from advisor.diagnosis import Cause
from advisor.diagnosis.candidate import LOAD_FLAT, LOAD_MOVED, PRIOR, Candidate, together
from advisor.diagnosis.picture import WORDS, Picture
from advisor.evidence.change_points import agreement
from advisor.values import CauseKind, format_number

SLOW_SECONDS = 0.005  # a call shorter than this keeps no work waiting, whatever it was before
# What to look at inside the process where nothing outside tells; source: jcmd of JDK 17.
NEXT_LOOK = {
    "heap": "take a heap histogram (jcmd PID GC.class_histogram) twice, an hour apart, and compare",
    "metaspace": "compare jcmd PID VM.classloader_stats twice, an hour apart: which class loaders stay",
    "threads": "read jcmd PID Thread.print: which pool do the threads belong to",
    "direct": "read jcmd PID VM.native_memory summary (with -XX:NativeMemoryTracking=summary), and who allocates direct buffers",
    "rss": "read jcmd PID VM.native_memory summary (with -XX:NativeMemoryTracking=summary): which part of the process grows",
    "latency": "follow one slow request in a trace, or take three thread dumps ten seconds apart: where does it wait",
    "errors": "read the first failed request's own log lines: which call failed, with which message",
    "pool": "list who holds the connections, and for how long (pg_stat_activity, or the pool's own usage time)",
    "workers": "take three thread dumps ten seconds apart: where do the busy threads wait",
    "queue": "hold the rate of arrivals against the rate of completions, for each consumer",
    "cpu": "profile the process for a minute: which code takes the CPU",
    "restarts": "read the last lines before a restart, and the events of the pod: who ended the process",
    "throughput": "ask the callers: did they send less, or were they turned away",
    "disk": "list the largest files and folders, and what grew since yesterday",
}


def judge_load(service: str, picture: Picture) -> Candidate:
    """Return the case for more traffic."""
    c = Candidate(CauseKind.LOAD, Cause(service=service), "more traffic than the service was sized for")
    c.add("prior", PRIOR[CauseKind.LOAD], "traffic grows now and then")
    growth, requests = picture.load_growth, picture.signals.get("requests")
    c.next_check = "compare the request rate with the same hours of the days before"
    if growth is None or requests is None:
        c.add("traffic", -1.5, "no request rate is measured, so growth of traffic is not shown")
        return c
    alike = together(picture, requests.values, float(picture.signals.times[0]))
    if picture.squeezed:
        c.add("traffic", -2.0, "the ceiling came down; that is not traffic's doing")
    elif growth >= LOAD_MOVED:
        value = min(3.5, 1.5 + 2.0 * math.log2(growth) + (0.8 if alike > 0.6 else 0.0))
        if picture.growth / growth > 2.2:
            value *= 0.5  # a working day has more requests than a night; most of the growth is something else
        c.add(
            "traffic",
            value,
            f"requests grew ×{format_number(growth)}"
            + (f", together with the {WORDS[picture.resource]} (rank correlation {alike:.2f})" if alike > 0.6 else ""),
        )
        per = picture.growth / growth
        if per > 2.2:
            c.add(
                "per request",
                -1.5,
                f"{WORDS[picture.resource]} grew ×{format_number(picture.growth)}, far more than requests",
            )
        else:
            c.add(
                "per request",
                0.8,
                f"{WORDS[picture.resource]} per request stayed about the same (×{format_number(per)})",
            )
    elif growth <= LOAD_FLAT:
        c.add("traffic", -4.0, f"requests did not grow (×{format_number(growth)})")
    else:
        c.add("traffic", -1.0, f"requests grew a little (×{format_number(growth)})")
    return c


def judge_capacity(service: str, picture: Picture) -> Candidate:
    """Return the case for a limit that never fitted normal work."""
    c = Candidate(
        CauseKind.CAPACITY,
        Cause(service=service),
        f"the limit of {WORDS[picture.resource]} is too small for normal work",
    )
    c.add("prior", PRIOR[CauseKind.CAPACITY], "limits are often set once and forgotten")
    c.next_check = "read the live set after a full collection, and hold it against the limit"
    if not picture.measured or picture.onset is None:
        c.add("level", -0.5, "use is not measured")
        return c
    ratio = picture.ratio()
    known = ratio[np.isfinite(ratio)]
    start = float(np.median(known[: max(3, known.size // 4)])) if known.size >= 4 else 0.0
    if picture.squeezed:
        c.add("level", -2.0, "the limit fitted until it was lowered")
    elif picture.onset.censored and picture.growth < 1.5 and start > 0.6:
        c.add("level", 2.5, f"use stood at {start:.0%} of the limit from the beginning and did not grow")
    elif picture.onset.censored and _always_the_same(picture):
        c.add(
            "level",
            2.2,
            "every process life in the record fills up the same way, with level traffic and what it counts: it never fitted",
        )
    elif picture.growth >= 1.5:
        c.add("level", -2.5, f"use grew ×{format_number(picture.growth)}; it was not high from the beginning")
    else:
        c.add("level", 0.3 if start > 0.6 else -1.0, f"use began at {start:.0%} of the limit")
    return c


def _always_the_same(picture: Picture) -> bool:
    """Return whether each of three and more lives ended at the limit while traffic was level and a counted thing rose along."""
    if len(picture.crashes) < 3 or (picture.load_growth is not None and picture.load_growth >= LOAD_FLAT):
        return False
    counted = [
        s
        for key, s in picture.signals.gauges.items()
        if s.present and any(w in key.lower() for w in ("session", "cache", "queue", "entries", "pending", "items"))
    ]
    # Every life begins empty, so everything rises at first: only what still rises later in a life holds what fills it.
    late = [slice(life.first + life.size * 2 // 5, life.last + 1) for life in picture.signals.lives if life.size >= 20]
    return any(
        np.median([agreement(picture.floor[part], s.values[part]) for part in late]) > 0.6 for s in counted if late
    )


def judge_dependency(service: str, picture: Picture, depends_on: tuple[str, ...]) -> Candidate:
    """Return the case for a dependency that became slow."""
    c = Candidate(
        CauseKind.DEPENDENCY,
        Cause(service=depends_on[0] if len(depends_on) == 1 else service),
        "a dependency became slow, and work piled up while it waited",
    )
    c.add("prior", PRIOR[CauseKind.DEPENDENCY], "dependencies are slow now and then")
    c.next_check = "compare the latency of outbound calls before and after the onset"
    signal = picture.signals.get("dependency_latency")
    if signal is None or picture.onset is None or picture.trouble_at is None:
        named = [
            s
            for key, s in picture.signals.gauges.items()
            if s.present
            and any(w in key.lower() for w in ("latency", "response_time", "duration"))
            and any(
                w in key.lower()
                for w in ("downstream", "upstream", "client", "backend", "dependency", "remote", *depends_on)
            )
        ]
        if not named or picture.onset is None or picture.trouble_at is None:
            c.add("dependency latency", -1.0, "no latency of outbound calls is measured")
            return c
        signal = named[0]
    # Near the end, collections slow every call down: only the first half of the growth tells.
    half = picture.onset.at + 0.5 * (picture.trouble_at - picture.onset.at)
    times = picture.signals.times
    before, after = (
        signal.values[times < picture.onset.at],
        signal.values[(times >= picture.onset.at) & (times <= half)],
    )
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if before.size < 4 or after.size < 3 or float(np.median(before)) <= 0:
        c.add("dependency latency", -0.8, "outbound latency is not measured on both sides of the onset")
        return c
    growth = float(np.median(after)) / float(np.median(before))
    if float(np.median(after)) < SLOW_SECONDS and "latency" in signal.role:
        growth = min(growth, 1.0)  # ten times nothing is still nothing to wait for
    c.middle, c.middle_growth = signal, growth
    if growth >= 1.5:
        c.add(
            "dependency latency",
            min(4.5, 2.5 + 0.8 * math.log2(growth)),
            f"{signal.names[0]} rose ×{format_number(growth)} as the growth began, well before memory was short",
        )
    elif growth <= 1.2:
        c.add("dependency latency", -3.0, f"outbound calls took as long as before (×{format_number(growth)})")
    else:
        c.add("dependency latency", -0.5, f"outbound calls became a little slower (×{format_number(growth)})")
    return c


def judge_unknown(service: str, picture: Picture) -> Candidate:
    """Return the case for what nobody measured: the measure for all others."""
    c = Candidate(CauseKind.UNKNOWN, Cause(service=service), "something that the evidence does not show")
    c.add("prior", PRIOR[CauseKind.UNKNOWN], "there is always something that nobody measured")
    c.next_check = NEXT_LOOK[picture.resource]
    return c
