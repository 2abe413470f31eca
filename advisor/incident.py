"""An incident: what people work on. Made from a question or an alert, before anything is gathered.

Pure. Called by the workflow; an adapter turns an alert file into the arguments used here.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum

from advisor.values import Instant, Record


class Symptom(StrEnum):
    """What goes wrong, told apart as far as a diagnosis differs."""

    HEAP_SPACE = "java_heap_oom"
    GC_OVERHEAD = "gc_overhead_oom"
    METASPACE = "metaspace_oom"
    NATIVE_THREAD = "native_thread_oom"
    DIRECT_MEMORY = "direct_memory_oom"
    CONTAINER_KILL = "container_oom_kill"
    HEAP_PRESSURE = "heap_pressure"
    LATENCY = "latency"
    ERRORS = "errors"


# The words of the JVM (HotSpot sources, the messages of java.lang.OutOfMemoryError), of the kernel and of Kubernetes.
_SYMPTOM_WORDS: tuple[tuple[Symptom, re.Pattern[str]], ...] = (
    (Symptom.GC_OVERHEAD, re.compile(r"gc overhead limit", re.I)),
    (Symptom.METASPACE, re.compile(r"metaspace|compressed class space|permgen", re.I)),
    (
        Symptom.NATIVE_THREAD,
        re.compile(
            r"unable to create (?:new )?native thread|native.?thread|pthread_create failed|cannot create (?:worker )?gc thread",
            re.I,
        ),
    ),
    (Symptom.DIRECT_MEMORY, re.compile(r"direct (?:buffer )?memory|bytes of direct|off.?heap", re.I)),
    (
        Symptom.CONTAINER_KILL,
        re.compile(r"oom.?kill|exit(?:ed)?(?: with)?(?: code)? ?137|\b137\b|sigkill|memory cgroup out of memory", re.I),
    ),
    (
        Symptom.HEAP_SPACE,
        re.compile(r"java heap space|heap.?space|requested array size exceeds|outofmemory|out of memory|\boom\b|java_heap_oom", re.I),
    ),
    (Symptom.HEAP_PRESSURE, re.compile(r"heap|memory|\bgc\b|garbage", re.I)),
    (Symptom.LATENCY, re.compile(r"latency|slow|timeout|p9\d", re.I)),
    (Symptom.ERRORS, re.compile(r"\berrors?\b|5xx|\b50[0-4]\b|failing|unavailable", re.I)),
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
    specific = [s for s in found if s not in (Symptom.HEAP_PRESSURE, Symptom.LATENCY, Symptom.ERRORS)]
    if len(specific) > 1 and Symptom.HEAP_SPACE in specific and not re.search(r"java heap space", text, re.I):
        specific.remove(Symptom.HEAP_SPACE)  # "OutOfMemoryError: Metaspace" is not also a heap space error
    return tuple(specific or found)


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
