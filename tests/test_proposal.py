"""Proposals: the exact edit, its inverse, its guardrails, its digest, and what an approver sees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.errors import ChangeConflict, ChangeRefused
from advisor.path_scope import PathScope
from advisor.playbook import Action, Check, Comparison, Measure, VerificationPlan
from advisor.proposal import (
    FileEdit,
    Guardrail,
    Proposal,
    build_proposal,
    digest_of,
    parse_patch,
    render_diff,
    seal,
    without_credentials,
)
from advisor.proposal.guardrails import check_modes
from advisor.proposal.patch import PatchFile
from advisor.values import ActionType, Risk, digest
from tests.support.gate import (
    BAD,
    GOOD,
    NOW,
    OTHER,
    PATH,
    TIMEOUT,
    FakeRepository,
    altered,
    draft,
    fake_with_cause,
    fast_import,
    propose,
    real_with_cause,
    revert_action,
)

DEPLOYMENT = b"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: checkout
spec:
  replicas: 2
  template:
    metadata:
      annotations:
        team: shop
    spec:
      containers:
        - name: checkout
          image: registry.example.org/shop/checkout:1.4.2
"""
MANIFEST = "apps/checkout/deployment.yaml"
IMAGE = "spec.template.spec.containers[checkout].image"


def with_manifest() -> tuple[FakeRepository, str]:
    repository = FakeRepository()
    repository.add({MANIFEST: DEPLOYMENT})
    return repository, repository.edit(**{MANIFEST: DEPLOYMENT.replace(b"1.4.2", b"1.5.0")})


# --- each action ---------------------------------------------------------------------------------------------------


def test_reverted_keys_give_back_the_old_bytes_and_keep_later_edits() -> None:
    repository, commit = fake_with_cause()
    repository.edit(**{PATH: BAD.replace(b"8080", b"9090")})
    proposal = propose(repository, revert_action(commit))
    assert repository.files(proposal.tree)[PATH] == GOOD.replace(b"8080", b"9090")
    assert proposal.base == repository.head_commit
    assert proposal.rollback_rehearsed
    assert proposal.inverse_tree == repository.commits[proposal.base][0]
    assert proposal.patch_digest == digest(repository.diff(proposal.base, proposal.tree))
    assert proposal.inverse_patch_digest == digest(repository.diff(proposal.tree, proposal.base))
    assert all(g.passed for g in proposal.guardrails)
    assert {g.name for g in proposal.guardrails} >= {"allowed_paths", "stated_keys", "plain_files", "patch_size"}


def test_reverted_keys_find_their_file_when_no_path_is_named() -> None:
    repository, commit = fake_with_cause()
    action = Action(type=ActionType.REVERT_KEYS, commit=commit, keys=(TIMEOUT,))
    assert repository.files(propose(repository, action).tree)[PATH] == GOOD


def test_a_reverted_commit_gives_back_the_tree_before_it() -> None:
    repository, commit = fake_with_cause()
    before = repository.commits[repository.commits[commit][1] or ""][0]
    assert propose(repository, Action(type=ActionType.REVERT_COMMIT, commit=commit)).tree == before


def test_set_value_keeps_comments_and_layout() -> None:
    repository, _ = fake_with_cause()
    action = Action(type=ActionType.SET_VALUE, path=PATH, keys=(TIMEOUT,), values=("45m",))
    assert repository.files(propose(repository, action).tree)[PATH] == GOOD.replace(b"30m", b"45m")


@pytest.mark.parametrize("values", [(), ("registry.example.org/shop/checkout:1.4.2",)], ids=["by_commit", "by_value"])
def test_an_image_is_rolled_back(values: tuple[str, ...]) -> None:
    repository, commit = with_manifest()
    action = Action(type=ActionType.ROLL_BACK_IMAGE, commit=commit, path=MANIFEST, keys=(IMAGE,), values=values)
    assert repository.files(propose(repository, action).tree)[MANIFEST] == DEPLOYMENT


def test_scale_sets_the_replicas() -> None:
    repository, _ = with_manifest()
    proposal = propose(repository, Action(type=ActionType.SCALE, path=MANIFEST, values=("4",)))
    assert b"replicas: 4\n" in repository.files(proposal.tree)[MANIFEST]
    assert proposal.action.keys == ("spec.replicas",)


def test_restart_adds_or_replaces_one_annotation() -> None:
    repository, _ = with_manifest()
    action = Action(type=ActionType.RESTART, path=MANIFEST)
    first = propose(repository, action)
    assert first.action.values == ("2026-11-22T08:00:00Z",)
    repository.add(repository.files(first.tree))
    again = propose(repository, action, now=NOW + timedelta(hours=1))
    content = repository.files(again.tree)[MANIFEST]
    assert content.count(b"restartedAt") == 1
    assert b"2026-11-22T09:00:00Z" in content


def test_escalate_changes_nothing_and_has_nothing_to_approve() -> None:
    repository, _ = fake_with_cause()
    proposal = propose(repository, Action(type=ActionType.ESCALATE, reason="Call the database people."))
    assert (proposal.tree, proposal.diff, proposal.rollback_rehearsed) == ("", "", False)
    assert not proposal.changes_something
    assert proposal.digest == digest_of(proposal)


# --- refusals ------------------------------------------------------------------------------------------------------


def test_what_is_already_so_is_refused() -> None:
    repository, commit = fake_with_cause()
    repository.edit(**{PATH: GOOD})
    with pytest.raises(ChangeRefused, match="already so"):
        propose(repository, Action(type=ActionType.SET_VALUE, path=PATH, keys=(TIMEOUT,), values=("30m",)))
    with pytest.raises(ChangeRefused):
        propose(repository, revert_action(commit))


def test_a_key_that_changed_again_is_refused_by_name() -> None:
    repository, commit = fake_with_cause()
    repository.edit(**{PATH: GOOD.replace(b"30m", b"12h")})
    with pytest.raises(ChangeRefused, match=r"session\.timeout"):
        propose(repository, revert_action(commit))


SETS = ActionType.SET_VALUE
REFUSED_ACTIONS = {
    "other_service": (Action(type=SETS, path=OTHER, keys=("a",), values=("2",)), "allowed_paths"),
    "climbs_out": (Action(type=SETS, path="apps/checkout/../x.yaml", keys=("a",), values=("2",)), "does not exist"),
    "no_path": (Action(type=SETS, keys=(TIMEOUT,), values=("2",)), "names no path"),
    "no_value": (Action(type=SETS, path=PATH, keys=(TIMEOUT,)), "one value for each key"),
    "no_key": (Action(type=ActionType.REVERT_KEYS, commit="0" * 40, path=PATH), "which keys"),
    "unknown_key": (Action(type=SETS, path=PATH, keys=("server.x",), values=("2",)), "server.x"),
    "missing_file": (Action(type=SETS, path="apps/checkout/none.yaml", keys=("a",), values=("2",)), "not exist"),
    "commit_is_a_name": (Action(type=ActionType.REVERT_COMMIT, commit="HEAD"), "not the full id"),
    "commit_is_an_option": (Action(type=ActionType.REVERT_COMMIT, commit="--all"), "not the full id"),
    "scale_of_a_port": (Action(type=ActionType.SCALE, path=PATH, keys=("server.port",), values=("3",)), "ranges"),
    "restart_of_a_port": (Action(type=ActionType.RESTART, path=PATH, keys=("server.port",), values=("3",)), "ranges"),
}


@pytest.mark.parametrize(("action", "words"), REFUSED_ACTIONS.values(), ids=REFUSED_ACTIONS)
def test_an_action_outside_its_bounds_is_refused_by_name(action: Action, words: str) -> None:
    repository, _ = fake_with_cause()
    with pytest.raises(ChangeRefused, match=words):
        propose(repository, action)


@pytest.mark.parametrize("replicas", ["0", "-1", "1001", "two", "2.5", "", "٣", "1" * 5000])
def test_replicas_out_of_range_are_refused(replicas: str) -> None:
    repository, _ = with_manifest()
    with pytest.raises(ChangeRefused):
        propose(repository, Action(type=ActionType.SCALE, path=MANIFEST, values=(replicas,)))


@pytest.mark.parametrize("name", [".gitmodules", ".github/workflows/ci.yaml", "x/.GIT/config", "git~1/config"])
def test_files_that_git_or_a_forge_reads_are_refused(name: str) -> None:
    repository = FakeRepository()
    path = f"apps/checkout/{name}"
    repository.add({path: b"a: 1\n"})
    commit = repository.edit(**{path: b"a: 2\n"})
    with pytest.raises(ChangeRefused, match="no_git_files"):
        propose(repository, Action(type=ActionType.REVERT_COMMIT, commit=commit))


def test_a_patch_that_nobody_can_read_whole_is_refused() -> None:
    repository = FakeRepository()
    repository.add({PATH: b"a: 1\n"})
    commit = repository.edit(**{PATH: b"a: 1\n" + b"# x\n" * 2100})
    with pytest.raises(ChangeRefused, match="patch_size"):
        propose(repository, Action(type=ActionType.REVERT_COMMIT, commit=commit))


@pytest.mark.parametrize(
    "file",
    [
        PatchFile(path="a", status="added", new_mode="120000"),
        PatchFile(path="a", status="modified", old_mode="160000", new_mode="160000"),
        PatchFile(path="a", status="modified", old_mode="100644", new_mode="100755"),
        PatchFile(path="a", status="modified", old_mode="100644", new_mode="100644", binary=True),
    ],
    ids=["link", "module", "mode", "binary"],
)
def test_links_modules_modes_and_binaries_are_refused(file: PatchFile) -> None:
    assert not check_modes((file,)).passed


class Careless(FakeRepository):
    """An editor with a fault: it also changes the port."""

    def write_tree(self, base_commit: str, edits: object) -> str:
        content = self.files(base_commit)[PATH].replace(b"24h", b"30m").replace(b"8080", b"1")
        return super().write_tree(base_commit, {PATH: content})


def test_a_fault_of_the_editor_is_caught_by_reading_again() -> None:
    repository = Careless()
    repository.add({PATH: GOOD})
    commit = repository.edit(**{PATH: BAD})
    with pytest.raises(ChangeRefused, match=r"stated_keys: would also change server\.port"):
        propose(repository, revert_action(commit))


class OneWay(FakeRepository):
    """A repository whose inverse loses a byte."""

    def apply_inverse(self, before: str, after: str, onto_commit: str, since_commit: str | None = None) -> str:
        tree = super().apply_inverse(before, after, onto_commit, since_commit)
        return self._tree({path: content[:-1] for path, content in self.files(tree).items()})


def test_a_change_whose_way_back_is_not_exact_is_not_offered() -> None:
    repository = OneWay()
    repository.add({PATH: GOOD})
    commit = repository.edit(**{PATH: BAD})
    with pytest.raises(ChangeRefused, match=r"does not restore apps/checkout/application\.yaml byte for byte"):
        propose(repository, revert_action(commit))


def test_an_injected_guard_sees_the_files_and_can_refuse() -> None:
    seen: list[FileEdit] = []

    def fits(edits: tuple[FileEdit, ...]) -> Guardrail:
        seen.extend(edits)
        return Guardrail(name="memory", passed=False, detail="-Xmx2g does not fit into 1Gi")

    repository, commit = fake_with_cause()
    with pytest.raises(ChangeRefused, match="memory: -Xmx2g does not fit"):
        build_proposal(repository, draft(revert_action(commit)), "p", "n", NOW, guards=(fits,))
    assert seen == [FileEdit(path=PATH, before=BAD, after=GOOD)]


# --- the digest ----------------------------------------------------------------------------------------------------

OTHER_VALUES: dict[str, object] = {
    "incident_id": "inc-2",
    "service": "payments",
    "action": Action(type=ActionType.RESTART),
    "risk": Risk.HIGH,
    "fixes_cause": False,
    "summary": "Something else.",
    "repository": {"name": "config", "url": "https://evil.example.org/config.git"},
    "branch": "release",
    "base": "0" * 40,
    "tree": "1" * 40,
    "patch_digest": "sha256:00",
    "diff": "+ nothing to see",
    "view_digest": "sha256:00",
    "inverse_tree": "2" * 40,
    "inverse_patch_digest": "sha256:00",
    "rollback_rehearsed": False,
    "paths": ("apps/other.yaml",),
    "evidence_digest": "sha256:00",
    "policy_version": "sha256:00",
    "verification": VerificationPlan(window_seconds=1),
    "guardrails": (),
    "warnings": ("all fine",),
    "rolls_back": "chg-1",
    "after": ("prop-0009",),
    "proposer": "someone",
    "created_at": NOW - timedelta(hours=1),
    "expires_at": NOW + timedelta(days=9),
    "nonce": "another",
}


@pytest.mark.parametrize("name", [n for n in Proposal.model_fields if n not in ("id", "digest")])
def test_every_field_but_the_handle_is_in_the_digest(name: str) -> None:
    repository, commit = fake_with_cause()
    proposal = propose(repository, revert_action(commit))
    assert digest_of(altered(proposal, **{name: OTHER_VALUES[name]})) != proposal.digest


def test_the_digest_survives_storing_and_reading() -> None:
    repository, commit = fake_with_cause()
    check = Check(name="c", query="q", measure=Measure.MEAN, comparison=Comparison.AT_MOST, threshold=0.1 + 0.2)
    proposal = propose(
        repository,
        revert_action(commit),
        now=NOW + timedelta(microseconds=123_456),
        verification=VerificationPlan(checks=(check,)),
        summary="Zurück auf 30m — ×48",
    )
    again = Proposal.model_validate_json(proposal.model_dump_json())
    assert again == proposal
    assert digest_of(again) == again.digest


def test_the_same_edit_proposed_twice_is_two_proposals() -> None:
    repository, commit = fake_with_cause()
    first, second = (propose(repository, revert_action(commit), number) for number in (1, 2))
    assert first.tree == second.tree
    assert first.digest != second.digest


def test_what_does_not_fix_the_cause_says_so() -> None:
    repository, _ = with_manifest()
    action = Action(type=ActionType.SCALE, path=MANIFEST, values=("4",))
    assert propose(repository, action, fixes_cause=False).warnings == ("does not fix the cause",)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@git.example.org/c.git", "https://git.example.org/c.git"),
        ("https://token@git.example.org/c.git?private_token=x#y", "https://git.example.org/c.git"),
        ("ssh://git:pw@git.example.org:22/c.git", "ssh://git@git.example.org:22/c.git"),
        ("git@git.example.org:c.git", "git@git.example.org:c.git"),
        ("./config.git", "./config.git"),
    ],
)
def test_an_address_is_kept_without_credentials(url: str, shown: str) -> None:
    repository, commit = fake_with_cause()
    assert without_credentials(url) == shown
    assert propose(repository, revert_action(commit), repository={"name": "c", "url": url}).repository.url == shown


# --- the view ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"+timeout: 30m", "+timeout: 30m"),
        ("+größe: Ærø".encode(), "+größe: Ærø"),
        ("+x\u202e30m".encode(), "+x⟨U+202E⟩30m"),
        ("+a\u200bb\ufeff\u00a0\u2066".encode(), "+a⟨U+200B⟩b⟨U+FEFF⟩⟨U+00A0⟩⟨U+2066⟩"),
        (b"+a\r", "+a⟨U+000D⟩"),
        (b"+\x1b[2Ka\x00\x7f", "+⟨U+001B⟩[2Ka⟨U+0000⟩⟨U+007F⟩"),
        (b"+a\tb", "+a⟨U+0009⟩b"),
        (b"+\xff\xc3(", "+⟨0xFF⟩⟨0xC3⟩("),
        ("+ÿ".encode(), "+ÿ"),
        ("+tіmeout".encode(), "+t⟨U+0456⟩meout"),
        ("+имя".encode(), "+имя"),
        ("+ｒoot \U0001d42b".encode(), "+⟨U+FF52⟩oot ⟨U+1D42B⟩"),
        ("+⟨U+202E⟩".encode(), "+⟨U+27E8⟩U+202E⟨U+27E9⟩"),
        ("+\u2028\u2029\u0085".encode(), "+⟨U+2028⟩⟨U+2029⟩⟨U+0085⟩"),
        ("+e\u0301".encode(), "+e⟨U+0301⟩"),
        ("+\u3164\u115f".encode(), "+⟨U+3164⟩⟨U+115F⟩"),
        (b"+a  ", "+a⟨U+0020⟩⟨U+0020⟩"),
        (b" ", " "),
        ("+\U000e0041".encode(), "+⟨U+E0041⟩"),
    ],
)
def test_nothing_unusual_is_shown_as_it_is(raw: bytes, shown: str) -> None:
    assert render_diff(raw) == shown


@given(st.binary(max_size=200))
def test_any_bytes_are_shown_line_by_line(patch: bytes) -> None:
    shown = render_diff(patch)
    assert shown.count("\n") == patch.count(b"\n")
    assert all(c.isprintable() or c == "\n" for c in shown)


@given(st.text(max_size=60), st.text(max_size=60))
def test_two_patches_never_look_the_same(one: str, other: str) -> None:
    one_bytes, other_bytes = (text.encode("utf-8", "surrogatepass") for text in (one, other))
    assert (render_diff(one_bytes) == render_diff(other_bytes)) == (one_bytes == other_bytes)


def test_secrets_are_hidden_in_the_view_and_bound_by_the_digest() -> None:
    repository = FakeRepository()
    repository.add({PATH: b"db:\n  password: old-secret\n  user: a\n"})
    commit = repository.edit(**{PATH: b"db:\n  password: new-secret\n  user: b\n"})
    action = Action(type=ActionType.REVERT_COMMIT, commit=commit)

    def build(redact: Callable[[str], str] | None) -> Proposal:
        return build_proposal(repository, draft(action), "p", "n", NOW, redact)

    hidden = build(lambda text: text.replace("old-secret", "‹hidden›").replace("new-secret", "‹hidden›"))
    assert "secret" not in hidden.diff
    assert "‹hidden›" in hidden.diff
    assert hidden.patch_digest == build(None).patch_digest


def test_a_redactor_that_swallows_lines_drops_none() -> None:
    text = b"+a\n+-----BEGIN KEY-----\n+x\n+-----END KEY-----\n+b\n"
    shown = render_diff(text, lambda t: "‹key›" if t.count("\n") else t)
    assert shown.count("\n") == text.count(b"\n")


# --- patches and paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("apps/checkout/a.yaml", "apps/checkout/**", True),
        ("apps/checkout/x/a.yaml", "apps/checkout/**", True),
        ("apps/checkout-old/a.yaml", "apps/checkout/**", False),
        ("apps/checkout", "apps/checkout", True),
        ("apps/checkout/a", "apps/checkout", True),
        ("apps/checkouts", "apps/checkout", False),
        ("apps/x/a.yaml", "apps/*/a.yaml", True),
        ("apps/x/y/a.yaml", "apps/*/a.yaml", False),
        ("apps/x/y/a.yaml", "apps/**/a.yaml", True),
        ("a.yaml", "**/a.yaml", True),
        ("a.yaml", "*.yaml", True),
        ("x/a.yaml", "*.yaml", False),
        ("a1.yaml", "a?.yaml", True),
        ("ab", "[a]b", False),
        ("anything/at/all", "**", True),
    ],
)
def test_globs(path: str, glob: str, expected: bool) -> None:
    assert (path in PathScope([glob])) is expected


def test_a_hostile_path_is_matched_in_no_time() -> None:
    assert "/".join(["a"] * 2000) + "/c" not in PathScope(["**/a/**/a/**/a/**/a/**/b"])


def test_a_real_patch_is_read_with_odd_names_and_lines(tmp_path: Path) -> None:
    repository, remote, base = real_with_cause(tmp_path)
    odd = 'apps/checkout/a"b\\c\té ü.txt'
    removed = b"-- x\n++ y\ndiff --git a/z b/z\nno end"
    with_odd = fast_import(remote, {"apps/checkout/kept": b"x\n"})
    repository.head()
    files = parse_patch(repository.diff(base, with_odd))
    assert [(f.path, f.status) for f in files] == [("apps/checkout/kept", "added")]
    first = fast_import(remote, {"apps/checkout/m.txt": removed + b"\n" * 3, "apps/checkout/b.bin": b"\0\1"})
    second = fast_import(remote, {"apps/checkout/m.txt": b"+++ b/etc\n--- a/etc\n", "apps/checkout/b.bin": None})
    repository.head()
    found = {f.path: f for f in parse_patch(repository.diff(first, second))}
    assert set(found) == {"apps/checkout/m.txt", "apps/checkout/b.bin"}
    assert found["apps/checkout/b.bin"].binary
    assert found["apps/checkout/b.bin"].status == "deleted"
    quoted = b'diff --git "a/apps/checkout/a\\"b\\\\c\\t\\303\\251 \\303\\274.txt" "b/apps/checkout/a\\"b\\\\c\\t\\303\\251 \\303\\274.txt"\n'
    assert parse_patch(quoted)[0].path == odd


@pytest.mark.parametrize(
    "patch",
    [b"hello\n", b"diff --git a/x b/y\n", b"diff --git \n", b"diff --git a/x b/x\n@@ -1,3 +1,3 @@\n x\n"],
)
def test_what_is_no_patch_is_refused(patch: bytes) -> None:
    with pytest.raises(ChangeRefused):
        parse_patch(patch)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_patch_or_refused(patch: bytes) -> None:
    try:
        parse_patch(b"diff --git a/x b/x\n" + patch)
    except ChangeRefused:
        pass


# --- with real git -------------------------------------------------------------------------------------------------


def test_a_proposal_on_real_git_touches_no_branch(tmp_path: Path) -> None:
    repository, _remote, commit = real_with_cause(tmp_path)
    proposal = propose(repository, revert_action(commit))
    assert repository.head() == commit == proposal.base
    assert repository.diff(proposal.base, proposal.inverse_tree) == b""
    assert "-      timeout: 24h" in proposal.diff
    assert "+      timeout: 30m" in proposal.diff


def test_a_commit_with_later_edits_on_its_lines_is_a_conflict_by_name(tmp_path: Path) -> None:
    repository, remote, commit = real_with_cause(tmp_path)
    later = fast_import(remote, {PATH: GOOD.replace(b"30m", b"12h")})
    with pytest.raises(ChangeConflict, match=rf"{PATH}.*{later[:10]}"):
        propose(repository, Action(type=ActionType.REVERT_COMMIT, commit=commit))


def test_a_sealed_proposal_carries_its_own_digest() -> None:
    proposal = seal(draft(Action(type=ActionType.ESCALATE)), "p", "n", NOW, base="0" * 40, guardrails=(), shown="")
    assert proposal.digest == digest_of(proposal)
