"""Incidents: the words of the JVM, the kernel and the cluster become symptoms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from advisor.incident import Symptom, open_incident, read_symptoms

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
OOM = "java.lang.OutOfMemoryError: "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # What HotSpot itself says.
        (OOM + "Java heap space", (Symptom.HEAP_SPACE,)),
        (OOM + "GC overhead limit exceeded", (Symptom.GC_OVERHEAD,)),
        (OOM + "Metaspace", (Symptom.METASPACE,)),
        (OOM + "Compressed class space", (Symptom.METASPACE,)),
        (OOM + "PermGen space", (Symptom.METASPACE,)),
        (OOM + "unable to create native thread: possibly out of memory or process/resource limits reached", (Symptom.NATIVE_THREAD,)),
        (OOM + "unable to create new native thread", (Symptom.NATIVE_THREAD,)),
        (OOM + "Requested array size exceeds VM limit", (Symptom.HEAP_SPACE,)),
        (OOM + "Direct buffer memory", (Symptom.DIRECT_MEMORY,)),
        (OOM + "Cannot reserve 16777216 bytes of direct buffer memory (allocated: 67108864, limit: 67108864)", (Symptom.DIRECT_MEMORY,)),
        ("[warning][os,thread] Failed to start thread: pthread_create failed (EAGAIN)", (Symptom.NATIVE_THREAD,)),
        ("Terminating due to java.lang.OutOfMemoryError: Java heap space", (Symptom.HEAP_SPACE,)),
        (OOM.rstrip(": "), (Symptom.HEAP_SPACE,)),
        # What others say.
        ("OOMKilled", (Symptom.CONTAINER_KILL,)),
        ("exit code 137", (Symptom.CONTAINER_KILL,)),
        ("Exited (137)", (Symptom.CONTAINER_KILL,)),
        ("exited with code 137", (Symptom.CONTAINER_KILL,)),
        ("Memory cgroup out of memory: Killed process 4711 (java)", (Symptom.CONTAINER_KILL,)),
        ("out of memory", (Symptom.HEAP_SPACE,)),
        ("checkout is OOM again", (Symptom.HEAP_SPACE,)),
        ("why is the heap so full?", (Symptom.HEAP_PRESSURE,)),
        ("checkout is slow", (Symptom.LATENCY,)),
        ("p99 is up", (Symptom.LATENCY,)),
        ("502 from checkout", (Symptom.ERRORS,)),
        ("", ()),
        ("what happened?", ()),
        # The values of the symptoms themselves, as an alert may name them.
        *((s.value, (s,)) for s in (Symptom.HEAP_SPACE, Symptom.NATIVE_THREAD, Symptom.METASPACE, Symptom.CONTAINER_KILL)),
    ],
)  # fmt: skip
def test_words_become_symptoms(text: str, expected: tuple[Symptom, ...]) -> None:
    assert read_symptoms(text) == expected


def test_vague_words_count_only_where_nothing_better_is_said() -> None:
    assert read_symptoms("slow, many errors, and then OutOfMemoryError: Metaspace") == (Symptom.METASPACE,)
    assert read_symptoms("slow and many errors") == (Symptom.LATENCY, Symptom.ERRORS)


def test_two_kinds_in_one_text_are_both_kept() -> None:
    text = "OutOfMemoryError: Java heap space, later exit code 137"
    assert read_symptoms(text) == (Symptom.CONTAINER_KILL, Symptom.HEAP_SPACE)


@given(st.text(max_size=300))
def test_any_text_gives_symptoms_or_none(text: str) -> None:
    found = read_symptoms(text)
    assert len(set(found)) == len(found)


def test_a_long_question_is_cut_and_times_are_utc() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    incident = open_incident("inc-1", "checkout", there, there, there, "oom " * 10_000)
    assert len(incident.question) == 2000
    assert incident.symptoms == (Symptom.HEAP_SPACE,)
    assert incident.created_at.utcoffset() == incident.until.utcoffset() == timedelta(0)
    assert incident.until == NOW


def test_an_incident_needs_no_moment_but_an_end_with_a_zone() -> None:
    assert open_incident("inc-1", "checkout", NOW, None, NOW, "").noticed_at is None
    with pytest.raises(ValidationError, match="time zone"):
        open_incident("inc-1", "checkout", NOW, None, datetime(2026, 11, 22), "")
