"""Invariant 2: a proposal, an approval, a view or an object of the patch with one flipped bit is refused.

Every byte of the records is flipped at least once: the whole text of a granted proposal (with the view and the digests of
patch and inverse), of its approvals, of the files that the approved tree holds; and bytes of the candidate's objects as they
lie on the disk. What nobody touched goes through, or this proves nothing.

``ADVISOR_PROOF=1`` flips each of the eight bits of every byte of the records, and one of every byte on the disk; by default
5,000 flips are made, every byte of the records among them, and every twelfth on the disk.
"""

from __future__ import annotations

import json
import os
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from advisor.adapters.git_repository import GitRepository
from advisor.approval import Approval, grant
from advisor.change import Change, deliver
from advisor.errors import ChangeRefused, NotPermitted, SourceError
from advisor.playbook import Action
from advisor.proposal import Proposal
from advisor.values import ActionType, Risk
from tests.support.gate import (
    ALICE,
    BOB,
    KEY,
    NOW,
    PATH,
    POLICY,
    RULES,
    TIMEOUT,
    FakeRepository,
    approve,
    fake_with_cause,
    git,
    propose,
    real_with_cause,
    revert_action,
)

PROOF = os.environ.get("ADVISOR_PROOF") == "1"
FLIPS = 40_000 if PROOF else 5_000
STRIDE = 1 if PROOF else 12  # over the objects on the disk: each flip has a copy made anew, which takes a while
BITS = range(8) if PROOF else (None,)  # None: one bit, by chance
LATER = NOW + timedelta(minutes=1)
REFUSALS = (NotPermitted, ChangeRefused, SourceError)
LONG = pytest.mark.timeout(3600 if PROOF else 300)


class _Ledger:
    """Records that take everything: only the gate stands between a flip and the branch."""

    def begin_delivery(self, change: Change, at: object) -> None: ...

    def resume_delivery(self, change: Change, at: object) -> None: ...

    def record_outcome(self, change: Change, outcome: object, reason: str, at: object) -> None: ...

    def supersede(self, proposal_id: str, reason: str, at: object) -> None: ...


@dataclass
class Sealed:
    """A granted proposal as it is stored: bytes that somebody may touch."""

    repository: FakeRepository
    proposal: Proposal
    approvals: tuple[Approval, ...]

    def deliver(self) -> None:
        """Do what the workflow does with stored bytes: read, grant, deliver."""
        made = grant(self.proposal, self.approvals, RULES, POLICY, LATER, KEY)
        deliver(self.repository, _Ledger(), self.proposal, made, LATER)


def sealed() -> Sealed:
    repository, commit = fake_with_cause()
    proposal = propose(repository, revert_action(commit), risk=Risk.HIGH)
    return Sealed(repository, proposal, (approve(proposal, ALICE), approve(proposal, BOB)))


def flip(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


Flip = Callable[[Sealed, int, int], bool]  # scene, byte, bit -> whether anything was changed by it


def _proposal(scene: Sealed, place: int, bit: int) -> bool:
    try:
        other = Proposal.model_validate_json(flip(scene.proposal.model_dump_json().encode(), place, bit))
    except (ValidationError, UnicodeDecodeError):
        raise Unreadable from None
    changed = other != scene.proposal
    scene.proposal = other
    return changed


def _approval(number: int) -> Flip:
    def touch(scene: Sealed, place: int, bit: int) -> bool:
        text = scene.approvals[number].model_dump_json().encode()
        try:
            other = Approval.model_validate_json(flip(text, place, bit))
        except (ValidationError, UnicodeDecodeError):
            raise Unreadable from None
        changed = other != scene.approvals[number]
        scene.approvals = tuple(other if n == number else a for n, a in enumerate(scene.approvals))
        return changed

    return touch


def _file(path: str) -> Flip:
    def touch(scene: Sealed, place: int, bit: int) -> bool:
        files = dict(scene.repository.trees[scene.proposal.tree])
        files[path] = flip(files[path], place, bit)
        scene.repository.trees[scene.proposal.tree] = files
        return True

    return touch


def _text_field(name: str) -> Flip:
    """Flip inside the decoded text of one field, so that most flips stay readable and reach the gate itself."""

    def touch(scene: Sealed, place: int, bit: int) -> bool:
        fields = json.loads(scene.proposal.model_dump_json())
        raw = flip(fields[name].encode(), place, bit)
        try:
            fields[name] = raw.decode()
            other = Proposal.model_validate_json(json.dumps(fields))
        except (ValidationError, UnicodeDecodeError):
            raise Unreadable from None
        changed = other != scene.proposal
        scene.proposal = other
        return changed

    return touch


class Unreadable(Exception):
    """What was flipped is no record any more: as refused as can be."""


TEXTS = "base tree patch_digest diff view_digest inverse_tree inverse_patch_digest expires_at nonce proposer".split()


def targets(scene: Sealed) -> dict[str, tuple[int, Flip]]:
    """Return what is flipped: for each name the number of bytes, and how to flip one."""
    fields = json.loads(scene.proposal.model_dump_json())
    out: dict[str, tuple[int, Flip]] = {"proposal": (len(scene.proposal.model_dump_json().encode()), _proposal)}
    for number, approval in enumerate(scene.approvals):
        out[f"approval {number}"] = (len(approval.model_dump_json().encode()), _approval(number))
    for path, content in scene.repository.trees[scene.proposal.tree].items():
        out[f"file {path}"] = (len(content), _file(path))
    return out | {f"proposal.{name}": (len(fields[name].encode()), _text_field(name)) for name in TEXTS}


def schedule(sizes: dict[str, int], chance: random.Random) -> Iterator[tuple[str, int, int]]:
    """Yield target, byte and bit: every byte of every target, then bytes by chance without an end."""
    for bit in BITS:
        for name, size in sizes.items():
            for place in range(size):
                yield name, place, chance.randrange(8) if bit is None else bit
    while True:
        name = chance.choice(sorted(sizes))
        yield name, chance.randrange(sizes[name]), chance.randrange(8)


@LONG
def test_invariant_2_every_flipped_byte_of_the_records_is_refused() -> None:
    start = sealed()
    head, tree = start.repository.head_commit, start.proposal.tree
    untouched = start.repository.trees[tree]
    flips = targets(start)
    sizes = {name: size for name, (size, _) in flips.items()}
    done: Counter[str] = Counter()
    by: Counter[str] = Counter()
    for name, place, bit in schedule(sizes, random.Random(2)):
        if sum(by.values()) >= FLIPS:
            break
        start.repository.trees[tree] = untouched
        scene = Sealed(start.repository, start.proposal, start.approvals)
        done[name] += 1
        try:
            if not flips[name][1](scene, place, bit):
                continue  # a blank of the JSON text, an upper-case Z: the record is the same
        except Unreadable:
            by["unreadable"] += 1
            continue
        with pytest.raises(REFUSALS) as caught:
            scene.deliver()
        by[type(caught.value).__name__] += 1
        assert start.repository.head_commit == head
    assert start.repository.writes == []
    assert {name: n for name, n in done.items() if n < sizes[name]} == {}, "not every byte was flipped"
    assert by["unreadable"] < FLIPS * 0.5, by
    start.repository.trees[tree] = untouched
    start.deliver()  # what nobody touched goes through
    assert len(start.repository.writes) == 1


def same_content(one: bytes, other: bytes) -> bool:
    try:
        return zlib.decompress(one) == zlib.decompress(other)
    except zlib.error:
        return False


@LONG
def test_a_flipped_byte_of_the_candidates_objects_on_disk_is_refused(tmp_path: Path) -> None:
    """The blob and the trees that only the candidate has, as they lie in our clone; a fresh process finds them."""
    repository, remote, _ = real_with_cause(tmp_path)
    action = Action(type=ActionType.SET_VALUE, path=PATH, keys=(TIMEOUT,), values=("45m",))  # bytes nobody wrote before
    proposal = propose(repository, action)
    made = grant(proposal, (approve(proposal),), RULES, POLICY, LATER, KEY)
    store = tmp_path / "clone" / "repository.git"
    known = set(git(remote, "rev-list", "--objects", "--no-object-names", "--all").split())
    objects = git(store, "rev-list", "--objects", "--no-object-names", proposal.tree).split()
    files = [store / "objects" / name[:2] / name[2:] for name in sorted({*objects} - known)]
    assert len(files) == 4  # the file, its two folders, the root
    repository.close()
    refs = git(remote, "for-each-ref")
    by: Counter[str] = Counter()
    chance = random.Random(3)
    for file in files:
        whole = file.read_bytes()
        file.chmod(0o644)
        for place in range(0, len(whole), STRIDE):
            damaged = flip(whole, place, chance.randrange(8))
            if same_content(damaged, whole):  # a bit of the packing that says nothing, such as its last padding
                by["nothing"] += 1
                continue
            file.write_bytes(damaged)
            fresh = GitRepository("config", str(remote), "main", tmp_path / "clone")
            with pytest.raises(REFUSALS) as caught:
                deliver(fresh, _Ledger(), proposal, made, LATER)
            fresh.close()
            by[type(caught.value).__name__] += 1
            if not file.exists():  # the damaged copy was made anew; the candidate is then written again
                assert propose(repository, action).tree == proposal.tree
                file.chmod(0o644)
        file.write_bytes(whole)
    assert git(remote, "for-each-ref") == refs
    assert by["nothing"] <= 2 * len(files), by
    assert sum(by.values()) == sum(len(range(0, len(file.read_bytes()), STRIDE)) for file in files)
    fresh = GitRepository("config", str(remote), "main", tmp_path / "clone")
    done = deliver(fresh, _Ledger(), proposal, made, LATER)
    fresh.close()
    assert git(remote, "rev-parse", "main").strip() == done.commit
