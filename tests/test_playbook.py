"""Playbooks and knobs are data: checked when read, and every shipped one says what it claims to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.diagnosis.knobs import Effect, Knob, match_knob, parse_knobs
from advisor.errors import PlaybookInvalid
from advisor.incident import MEMORY_SYMPTOMS, Symptom
from advisor.playbook import PLAYBOOK_BYTES_MAX, parse_playbook
from advisor.values import ActionType, Risk

FOLDER = Path(__file__).parent.parent / "playbooks"
SHIPPED = sorted(FOLDER.glob("*/playbook.yaml"))
KNOBS = parse_knobs((FOLDER / "knobs.yaml").read_text())
RESOURCES = {"heap", "metaspace", "threads", "direct", "rss"}
GOOD = """
name: jvm_heap
title: Java heap exhausted
symptoms: [java_heap_oom]
metrics: {heap_used: [jvm_memory_used_bytes]}
allowed_actions: [revert_keys, escalate]
"""


def refusal(text: str) -> str:
    with pytest.raises(PlaybookInvalid) as caught:
        parse_playbook(text, "jvm_heap")
    assert str(caught.value).startswith("playbook jvm_heap: ")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_playbook_is_read_with_its_defaults() -> None:
    found = parse_playbook(GOOD, "jvm_heap")
    assert found.required_sources == ("metrics", "changes")
    assert found.allowed_actions == (ActionType.REVERT_KEYS, ActionType.ESCALATE)
    assert found.risk is Risk.LOW


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("comand: rm -rf", "comand: Extra inputs"),
        ("allowed_actions: [run_shell]", "allowed_actions.0"),
        ("risk: none", "risk"),
        ("name: Jvm Heap", "name"),
        ("name: ../x", "name"),
        ("title: " + "x" * 200, "title"),
        ("symptoms: java_heap_oom", "symptoms"),
        ("metrics: {heap_used: jvm_memory_used_bytes}", "metrics.heap_used"),
        ("metrics: [a]", "metrics"),
        ("required_sources: {a: b}", "required_sources"),
        ("refused_remedies: {raise_heap: [a]}", "refused_remedies.raise_heap"),
    ],
)
def test_a_wrong_or_unknown_key_is_refused_by_its_name(line: str, said: str) -> None:
    key = line.split(":")[0]
    kept = [one for one in GOOD.strip().split("\n") if not one.startswith(key + ":")]
    assert said in refusal("\n".join([*kept, line]))


@pytest.mark.parametrize("key", ["name", "title", "symptoms", "allowed_actions"])
def test_a_missing_key_is_refused_by_its_name(key: str) -> None:
    kept = [one for one in GOOD.strip().split("\n") if not one.startswith(key + ":")]
    assert f"{key}: Field required" in refusal("\n".join(kept))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "a: [",
        "!!python/name:os.system",
        "&a [*a]",
        "[" * 4000,
        "x" * (PLAYBOOK_BYTES_MAX + 1),
        "name: \ud800",
        "? {a: b}\n: c",
    ],
    ids=["empty", "list", "open", "tag", "loop", "deep", "large", "surrogate", "key"],
)
def test_what_is_no_playbook_is_refused_in_one_line(text: str) -> None:
    refusal(text)
    with pytest.raises(PlaybookInvalid):
        parse_knobs(text if text != "- a" else "- b")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (lambda: parse_playbook(text, "x"), lambda: parse_knobs(text)):
        try:
            read()
        except PlaybookInvalid as error:
            assert str(error).isprintable()


# --- what is shipped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.parent.name)
def test_a_shipped_playbook_is_whole(path: Path) -> None:
    found = parse_playbook(path.read_text(), path.parent.name)
    assert found.name == path.parent.name
    assert {*found.symptoms} <= {s.value for s in Symptom}
    assert {*found.required_sources} <= {"metrics", "changes", "logs", "cluster"}
    assert found.metrics and all(found.metrics.values())
    assert ActionType.ESCALATE in found.allowed_actions, "a person can always be called"
    assert found.explanation and "raise_heap" in found.refused_remedies


def test_every_memory_symptom_has_one_playbook() -> None:
    served = [s for path in SHIPPED for s in parse_playbook(path.read_text(), "x").symptoms]
    assert len(served) == len(set(served)), "two playbooks for one symptom"
    assert {s.value for s in MEMORY_SYMPTOMS} <= set(served)


def test_the_names_of_families_are_distinct() -> None:
    names = [k.family for k in KNOBS]
    assert len(set(names)) == len(names) >= 30


@pytest.mark.parametrize("knob", KNOBS, ids=lambda k: k.family)
def test_a_family_names_its_source_and_its_mechanism(knob: Knob) -> None:
    assert knob.source.strip()
    assert knob.says.strip()
    assert knob.keys and all(k.strip() == k and k for k in knob.keys)
    assert {*knob.moves, *knob.raises} <= RESOURCES
    assert all(0 < v <= 1 for v in [*knob.moves.values(), *knob.raises.values()])
    assert not knob.raises or knob.effect is Effect.LIMIT
    assert all(
        not v.startswith("=")
        or v[1:]
        in {
            "heap_max",
            "metaspace_max",
            "direct_max",
            "memory_limit",
            "threads",
            "rss",
            "requests",
            "dependency_latency",
        }
        for v in knob.via
    )


@pytest.mark.parametrize("knob", KNOBS, ids=lambda k: k.family)
def test_the_first_phrase_of_a_family_leads_back_to_it(knob: Knob) -> None:
    for key in (knob.keys[0].replace(" ", "."), knob.keys[0].replace(" ", "_").upper()):
        found = match_knob(KNOBS, key)
        assert found is not None and found.family == knob.family


def test_the_file_of_knobs_has_no_key_twice() -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Strict, node: yaml.MappingNode) -> dict[object, object]:
        keys = [loader.construct_object(k) for k, _ in node.value]
        assert len(set(keys)) == len(keys), f"line {node.start_mark.line + 1}"
        return dict(zip(keys, (loader.construct_object(v, deep=True) for _, v in node.value), strict=True))

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in [FOLDER / "knobs.yaml", *SHIPPED]:
        yaml.load(path.read_text(), Loader=Strict)
