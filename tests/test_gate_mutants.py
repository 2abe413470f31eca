"""Edges of the gate that the mutants found unwatched: each test here ends one or more of them."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest

from advisor.audit import (
    GENESIS,
    AuditEntry,
    anchor_of,
    append,
    export_lines,
    head_of,
    server_name,
    verify,
    verify_export,
)
from advisor.errors import AuditBroken, IllegalTransition
from advisor.lifecycle import PENDING, TRANSITIONS, Event, State, advance
from advisor.playbook import Action
from advisor.proposal import digest_of
from advisor.values import ActionType
from tests.support.gate import altered, fake_with_cause, propose, revert_action
from tests.test_audit import AT, KEY, chain

# --- lifecycle -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_a_refused_step_names_those_that_are_possible(state: State) -> None:
    possible = sorted(event.value for known, event in TRANSITIONS if known is state)
    event = next(event for event in Event if (state, event) not in TRANSITIONS)
    with pytest.raises(IllegalTransition) as error:
        advance(state, event)
    assert str(error.value).endswith(f"possible here: {', '.join(possible) or 'nothing'}")


def test_somebody_has_to_act_in_these_states_and_in_no_other() -> None:
    waiting = "proposed granted delivering uncertain awaiting_merge verifying rolling_back"
    assert {state.value for state in PENDING} == set(waiting.split())


# --- audit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "kept"), [(0, 0), (999, 0), (1_000, 1_000), (999_000, 999_000), (999_999, 999_000)])
def test_instants_of_the_audit_are_kept_to_the_millisecond(given: int, kept: int) -> None:
    at = AT.replace(microsecond=given)
    entry = append(None, at, "alice", "x.y", "s", {}, KEY)
    assert entry.at == AT.replace(microsecond=kept)
    assert anchor_of(head_of(entry, KEY), at, "", KEY).at == entry.at
    header = json.loads(next(export_lines([entry], 1, at, KEY)))
    assert header["at"] == json.loads(entry.model_dump_json())["at"]


def test_texts_of_an_entry_are_cut_to_their_length() -> None:
    entry = append(None, AT, "a" * 300, "x.y", "s" * 300, {"d": "d" * 3000, "e": "e" * 2000}, KEY)
    assert (len(entry.actor), len(entry.subject)) == (200, 200)
    assert [len(value) for _, value in entry.details] == [2000, 2000]
    assert entry.details[1] == ("e", "e" * 2000)
    assert len(anchor_of(head_of(entry, KEY), AT, "r" * 300, KEY).reason) == 200


def test_the_first_entry_stands_on_the_hash_of_nothing() -> None:
    assert GENESIS == "sha256:" + "0" * 64 and append(None, AT, "a", "x.y", "s", {}, KEY).previous == GENESIS
    assert append(head_of(None, KEY), AT, "a", "x.y", "s", {}, KEY).sequence == 1


def test_a_server_has_a_short_name_that_is_always_the_same() -> None:
    assert len(server_name(KEY)) == 12 and server_name(KEY) == server_name(bytes(KEY))


def test_a_head_that_does_not_fit_is_told_by_what_is_wrong() -> None:
    entries = chain(7)
    for head, words in (
        (head_of(entries[4], KEY), r"audit entry 6: is not covered by the head \(the head counts 5, found 7\)"),
        (
            head_of(chain(7, word="b")[6], KEY),
            r"audit entry 7: is not covered by the head \(the head counts 7, found 7\)",
        ),
        (head_of(chain(9)[8], KEY), r"audit entry 8: is missing \(the head counts 9, found 7\)"),
    ):
        with pytest.raises(AuditBroken, match=words):
            verify(entries, KEY, head)


@pytest.mark.parametrize("first", range(1, 10))
@pytest.mark.parametrize("length", [0, 1, 7])
def test_an_export_begins_behind_the_entry_before(length: int, first: int) -> None:
    entries = chain(length)
    lines = list(export_lines(entries, first, AT + timedelta(days=1), KEY))
    header = json.loads(lines[0])
    before = entries[: first - 1]
    assert header["previous"] == (before[-1].hash if before else GENESIS)
    assert header["hash"] == (entries[-1].hash if entries else GENESIS)
    assert header["last"] == length
    assert [AuditEntry.model_validate_json(line) for line in lines[1:]] == entries[first - 1 :]
    assert verify_export(lines, KEY) == max(0, length - first + 1)


def test_an_export_whose_header_names_another_end_is_refused_without_a_key_too() -> None:
    lines = list(export_lines(chain(7), 1, AT, KEY))
    header = json.loads(lines[0])
    for edit in ({"hash": chain(7, word="b")[6].hash}, {"last": 8}, {"last": 6}):
        other = json.dumps({**header, **edit}, separators=(",", ":"))
        with pytest.raises(AuditBroken, match="it was cut off"):
            verify_export([other, *lines[1:]], None)


def of_length(characters: int) -> AuditEntry:
    """Return an entry whose line has this many characters."""
    details = {f"{number:03d}": "x" * 2000 for number in range(490)}
    short = len(append(None, AT, "a", "x.y", "s", {**details, "pad": ""}, KEY).model_dump_json())
    pads = characters - short
    filled = {**details, "pad": "x" * min(2000, pads)}
    left = pads - min(2000, pads)
    number = 0
    while left > 0:
        number += 1
        room = len(f',["p{number:04d}",""]')
        filled[f"p{number:04d}"] = "x" * min(2000, left - room)
        left -= room + min(2000, left - room)
    return append(None, AT, "a", "x.y", "s", filled, KEY)


def test_the_longest_line_is_read_and_a_longer_one_is_not() -> None:
    longest, longer = of_length(1_000_000), of_length(1_000_001)
    assert (len(longest.model_dump_json()), len(longer.model_dump_json())) == (1_000_000, 1_000_001)
    assert verify_export(list(export_lines([longest], 1, AT, KEY)), KEY) == 1
    with pytest.raises(AuditBroken, match="line 2: it is not an entry"):
        verify_export(list(export_lines([longer], 1, AT, KEY)), KEY)


# --- the digest of a proposal ----------------------------------------------------------------------------------------


def test_the_digest_is_of_every_field_but_the_id_and_itself() -> None:
    repository, cause = fake_with_cause()
    proposal = propose(repository, revert_action(cause))
    fields = proposal.model_dump(mode="json")
    told = {name: value for name, value in fields.items() if name not in ("id", "digest")}
    text = json.dumps(
        {"schema": "advisor.proposal/v1", **told}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert digest_of(proposal) == proposal.digest == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert digest_of(altered(proposal, id="another", digest="sha256:0")) == proposal.digest


def test_what_has_a_tree_and_is_no_call_for_people_changes_something() -> None:
    repository, cause = fake_with_cause()
    proposal = propose(repository, revert_action(cause))
    escalation = propose(repository, Action(type=ActionType.ESCALATE))
    assert proposal.changes_something and not escalation.changes_something
    assert not altered(proposal, tree="").changes_something
    assert not altered(proposal, action=Action(type=ActionType.ESCALATE)).changes_something
