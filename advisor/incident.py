"""An incident: what people work on. Made from a question or an alert, before anything is gathered.

Pure. Called by the workflow; an adapter turns an alert file into the arguments used here.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Any

from advisor.values import Instant, Record, parse_instant

ALERTS_MAX = 20  # of one message; more say nothing new


class Symptom(StrEnum):
    """What goes wrong, told apart as far as a diagnosis differs."""

    HEAP_SPACE = "java_heap_oom"
    GC_OVERHEAD = "gc_overhead_oom"
    METASPACE = "metaspace_oom"
    NATIVE_THREAD = "native_thread_oom"
    DIRECT_MEMORY = "direct_memory_oom"
    CONTAINER_KILL = "container_oom_kill"
    HEAP_PRESSURE = "heap_pressure"
    POOL_EXHAUSTED = "pool_exhausted"
    THREADS_EXHAUSTED = "threads_exhausted"
    QUEUE_GROWTH = "queue_growth"
    CPU_SATURATION = "cpu_saturation"
    RESTARTS = "restarts"
    DISK_FULL = "disk_full"
    THROUGHPUT_DROP = "throughput_drop"
    LATENCY = "latency"
    ERRORS = "errors"


# The words of the JVM (HotSpot sources, the messages of java.lang.OutOfMemoryError), of the kernel and of Kubernetes.
_SYMPTOM_WORDS: tuple[tuple[Symptom, re.Pattern[str]], ...] = (
    (Symptom.GC_OVERHEAD, re.compile(r"gc[ _]overhead", re.I)),
    (Symptom.METASPACE, re.compile(r"metaspace|compressed class space|permgen", re.I)),
    (
        Symptom.NATIVE_THREAD,
        re.compile(
            r"unable to create (?:new )?native thread|native.?thread|pthread_create failed|cannot create (?:worker )?gc thread",
            re.I,
        ),
    ),
    (Symptom.DIRECT_MEMORY, re.compile(r"direct[ _](?:buffer[ _])?memory|bytes of direct|off.?heap", re.I)),
    (
        Symptom.CONTAINER_KILL,
        re.compile(r"oom.?kill|exit(?:ed)?(?: with)?(?: code)? ?137|\b137\b|sigkill|memory cgroup out of memory", re.I),
    ),
    (
        Symptom.HEAP_SPACE,
        re.compile(
            r"java heap space|heap.?space|requested array size exceeds|outofmemory|out of memory|\boom\b|java_heap_oom",
            re.I,
        ),
    ),
    (
        Symptom.POOL_EXHAUSTED,
        re.compile(
            r"(?<!thread[ _-])(?<!threads[ _-])(?<!worker[ _-])(?<!executor[ _-])pool[ _-]?(?:is )?(?:exhaust|full|empty|saturat|starv)|connection[ _]?pool|pool_exhausted|connections? (?:is|are) not available"
            r"|(?:pending|waiting for|no (?:free|idle|available)|run out of|ran out of|too many) (?:db |database )?connections?|hikari",
            re.I,
        ),
    ),
    (
        Symptom.THREADS_EXHAUSTED,
        re.compile(
            r"(?:thread|worker|executor)s?[ _-]?(?:pool)?[ _-]?(?:is |are |all )*(?:exhaust|busy|full|saturat|starv)|threads_exhausted|thread[ _-]?pool"
            r"|(?:all|no (?:free|idle|available)|run out of|ran out of) (?:the )?(?:worker|request|http|tomcat)?[ _]?(?:threads|workers)|rejectedexecution",
            re.I,
        ),
    ),
    (
        Symptom.QUEUE_GROWTH,
        re.compile(
            r"queue|backlog|\bstale\b|out ?dated|(?:minutes|hours) old|falls? behind|\blag(?:s|ging)?\b|consumer.?lag",
            re.I,
        ),
    ),
    (Symptom.CPU_SATURATION, re.compile(r"\bcpu\b|throttl", re.I)),
    (
        Symptom.RESTARTS,
        re.compile(r"restart|crash.?loop|keeps? (?:crashing|dying)|liveness|readiness|not ready|flapping", re.I),
    ),
    (Symptom.DISK_FULL, re.compile(r"\bdisk|no space left|file ?system|volume (?:is )?full", re.I)),
    (
        Symptom.THROUGHPUT_DROP,
        re.compile(
            r"throughput|(?:requests?|traffic|orders|messages|rps|qps)[a-z ]{0,20}\b(?:drop|fell|fall|down|gone|vanish|stopp?)|(?:drop|fall) (?:in|of) (?:requests?|traffic|orders)",
            re.I,
        ),
    ),
    (Symptom.HEAP_PRESSURE, re.compile(r"heap|memory|\bgc\b|garbage", re.I)),
    (
        Symptom.LATENCY,
        re.compile(
            r"latenc|slow|time[sd]?.?out|p9\d|p50|response.?time|duration|tak(?:es?|ing) (?:too |so |very )?(?:long|forever|ages|(?:\w+ )?times as)"
            r"|\bhang(?:s|ing)?\b|stuck|sluggish|lagging|delay|\blate(?:r|ly)?\b|\bwait(?:s|ing)?\b|spinning|freez|frozen",
            re.I,
        ),
    ),
    (
        Symptom.ERRORS,
        re.compile(
            r"\berrors?\b|error.?rate|5xx|\b5\d\d\b|fail|unavailable|exception|refus|reject|outage|\bdown\b|\bfaults?\b|availability"
            r"|cannot|can't|can not|could not|couldn't|nobody can|unable to|(?:do|does|did|are|is|was) ?n[o']t\b"
            r"|broken|missing|blank page|blocked|\blost\b",
            re.I,
        ),
    ),
)
# What a service shows its callers: said in passing where something more telling is said too.
_VAGUE = (Symptom.HEAP_PRESSURE, Symptom.LATENCY, Symptom.ERRORS)
MEMORY_SYMPTOMS = frozenset(
    {
        Symptom.HEAP_SPACE,
        Symptom.GC_OVERHEAD,
        Symptom.METASPACE,
        Symptom.NATIVE_THREAD,
        Symptom.DIRECT_MEMORY,
        Symptom.CONTAINER_KILL,
        Symptom.HEAP_PRESSURE,
    }
)


class Incident(Record):
    """What is asked about: a service, when the symptom was noticed, and the words it was described with.

    Attributes:
        noticed_at: When the symptom was noticed; None asks for the newest sign of it.
        until: The end of what is read.
        symptoms: What the question or the alert names; evidence may add to it.
    """

    id: str
    service: str
    noticed_at: Instant | None
    until: Instant
    symptoms: tuple[Symptom, ...] = ()
    question: str = ""
    created_at: Instant


def read_symptoms(text: str) -> tuple[Symptom, ...]:
    """Return the symptoms that a text names, the most specific first; vague words count only where nothing better is said."""
    found = [symptom for symptom, pattern in _SYMPTOM_WORDS if pattern.search(text[:20_000])]
    specific = [s for s in found if s not in _VAGUE]
    if len(specific) > 1 and Symptom.HEAP_SPACE in specific and not re.search(r"java heap space", text, re.I):
        specific.remove(Symptom.HEAP_SPACE)  # "OutOfMemoryError: Metaspace" is not also a heap space error
    if specific and not any(s in MEMORY_SYMPTOMS for s in specific):
        # "slow, thread pool full": where nothing shows the threads, the slowness was asked about all the same.
        return (*specific, *(s for s in found if s in (Symptom.LATENCY, Symptom.ERRORS)))
    return tuple(specific or found)


def read_alerts(data: Any, service: str, now: datetime) -> tuple[str, datetime | None] | None:
    """Return the words of the firing alerts, and when the first of them began; None where there is no alert.

    Args:
        data: What Alertmanager's webhook sends (version 4), a list of alerts, or one alert.
        service: Where several fire, those that name it in a label count.
        now: What a start time without a date would count from.

    Raises:
        SettingsInvalid: A start time is none.
    """
    alerts = data.get("alerts", [data]) if isinstance(data, dict) else data
    alerts = [a for a in alerts if isinstance(a, dict) and _texts(a.get("labels"))] if isinstance(alerts, list) else []
    firing = [a for a in alerts if a.get("status", "firing") != "resolved"] or alerts
    chosen = [a for a in firing if service in _texts(a.get("labels")).values()] or firing
    if not chosen:
        return None
    words: list[str] = []
    starts: list[datetime] = []
    for each in chosen[:ALERTS_MAX]:
        labels, annotations = _texts(each.get("labels")), _texts(each.get("annotations"))
        words.append(labels.get("alertname", ""))
        words += [annotations[k] for k in ("summary", "description", "message") if k in annotations]
        # Go writes the zero time, year 1, for "not set".
        if isinstance(each.get("startsAt"), str) and not each["startsAt"].startswith("0001-"):
            starts.append(parse_instant(each["startsAt"], now))
    return "; ".join(dict.fromkeys(w for w in words if w)), min(starts, default=None)


def _texts(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def open_incident(
    incident_id: str, service: str, now: datetime, noticed_at: datetime | None, until: datetime, question: str
) -> Incident:
    """Return a new incident from a question in a person's words."""
    return Incident(
        id=incident_id,
        service=service,
        noticed_at=noticed_at,
        until=until,
        symptoms=read_symptoms(question),
        question=question[:2000],
        created_at=now,
    )
