"""Delivery by a branch of its own: what counts as merged, signed commits, and changes in an order. On real git."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.adapters.git_repository import GitRepository
from advisor.approval import Grant
from advisor.change import Change, Delivery, Route, deliver
from advisor.change.words import in_markdown, inert, prepare_commit, pull_request_body, pull_request_title
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMismatch,
    AuditUnavailable,
    ChangeConflict,
    ChangeError,
    ChangeRefused,
    IllegalTransition,
    SettingsInvalid,
)
from advisor.lifecycle import State
from advisor.playbook import Action
from advisor.settings import parse_settings
from tests.support import gate
from tests.support.stage import LATER, Stage, staged

DAY_LATER = LATER + timedelta(hours=25)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return staged(tmp_path)


# --- onto a branch of its own ---


def test_an_offered_commit_is_on_its_own_branch_and_nowhere_else(stage: Stage) -> None:
    before = stage.head()
    change = stage.deliver()
    assert (stage.head(), stage.head(stage.name)) == (before, change.commit)
    assert stage.state is State.AWAITING_MERGE
    assert change.commit[:12] in stage.reason and f"git push origin {change.commit}:main" in stage.reason
    told = gate.git(stage.remote, "for-each-ref", "--format=%(refname)").split()
    assert told == [f"refs/heads/{stage.name}", "refs/heads/main"]


@pytest.mark.parametrize("method", ["merge", "squash", "fast-forward"])
def test_a_merge_with_the_approved_tree_is_the_change(stage: Stage, method: str) -> None:
    change = stage.deliver()
    merged = stage.merge(method)
    gate.fast_import(stage.remote, {"README": b"later\n"})
    assert stage.look() == change
    assert stage.state is State.DELIVERED
    assert merged in stage.reason and stage.proposal.tree in stage.reason


def test_a_look_before_anybody_merged_changes_nothing(stage: Stage) -> None:
    change = stage.deliver()
    entries = len(stage.store.audit_entries())
    for grant in (True, None):
        assert stage.look(LATER + timedelta(hours=2), grant) == change
    assert stage.state is State.AWAITING_MERGE
    assert len(stage.store.audit_entries()) == entries


def test_a_merge_over_a_moved_base_is_not_what_was_approved(stage: Stage) -> None:
    stage.deliver()
    gate.fast_import(stage.remote, {"README": b"foreign\n"})
    merged = stage.merge()
    assert stage.tree() != stage.proposal.tree
    with pytest.raises(ApprovalMismatch, match="no commit of main has the approved tree") as told:
        stage.look()
    assert stage.state is State.CONFLICT
    assert "advisor investigate checkout" in str(told.value)
    assert stage.head() == merged


def test_a_base_that_moved_closes_the_offer_and_names_both_ends(stage: Stage) -> None:
    change = stage.deliver()
    moved = gate.fast_import(stage.remote, {"README": b"foreign\n"})
    with pytest.raises(ChangeConflict) as told:
        stage.look()
    assert f"{change.base[:12]} to {moved[:12]}" in str(told.value)
    assert "`advisor investigate checkout` proposes anew" in str(told.value)
    assert (stage.state, stage.head()) == (State.CONFLICT, moved)


def test_a_branch_that_was_deleted_is_a_no(stage: Stage) -> None:
    stage.deliver()
    gate.git(stage.remote, "update-ref", "-d", f"refs/heads/{stage.name}")
    with pytest.raises(ChangeRefused, match="deleted unmerged"):
        stage.look()
    assert stage.state is State.REFUSED


def test_somebody_elses_commit_on_our_branch_is_told(stage: Stage) -> None:
    stage.deliver()
    foreign = gate.fast_import(stage.remote, {"apps/checkout/evil.yaml": b"x: 1\n"}, branch=stage.name)
    with pytest.raises(ChangeConflict, match=f"somebody put {foreign[:12]}"):
        stage.look()
    assert stage.state is State.CONFLICT


def test_a_branch_of_that_name_with_something_else_is_never_overwritten(stage: Stage) -> None:
    foreign = gate.fast_import(stage.remote, {"x": b"1\n"}, branch=stage.name)
    with pytest.raises(ChangeConflict, match="is there at"):
        stage.deliver()
    assert (stage.state, stage.head(stage.name)) == (State.CONFLICT, foreign)


def test_an_offer_that_nobody_merges_ends(stage: Stage) -> None:
    stage.deliver()
    before = stage.head()
    with pytest.raises(ApprovalExpired, match="nobody merged it"):
        stage.look(DAY_LATER, grant=None)
    assert (stage.state, stage.head()) == (State.EXPIRED, before)


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_merge_is_found_however_late(stage: Stage, method: str) -> None:
    stage.deliver()
    stage.merge(method)
    stage.look(DAY_LATER, grant=None)
    assert stage.state is State.DELIVERED


def test_what_was_merged_and_taken_back_by_hand_was_merged(stage: Stage) -> None:
    stage.deliver()
    stage.merge()
    gate.fast_import(stage.remote, {gate.PATH: gate.BAD})
    stage.look()
    assert stage.state is State.DELIVERED


def test_the_main_branch_is_no_place_for_an_offer(stage: Stage) -> None:
    commit = gate.fast_import(stage.remote, {"x": b"1\n"})
    stage.repository.head()
    with pytest.raises(ChangeRefused, match="is the main one"):
        stage.repository.push_branch(commit, "main")


# --- crashes and lost answers ---


class Stopping:
    """Real records, with a process that ends, or an audit that fails, at one call."""

    def __init__(self, stage: Stage, call: str, error: BaseException) -> None:
        self._stage, self._call, self._error = stage, call, error

    def __getattr__(self, name: str) -> object:
        if name == self._call:
            raise self._error
        return getattr(self._stage.store, name)


def test_a_crash_after_the_push_ends_in_one_offer(stage: Stage) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage.deliver(records=Stopping(stage, "record_outcome", KeyboardInterrupt()))
    commit = stage.head(stage.name)
    assert stage.state is State.DELIVERING
    for _ in range(2):
        stage.look()
        assert (stage.state, stage.head(stage.name)) == (State.AWAITING_MERGE, commit)


def test_a_crash_before_the_push_offers_the_same_commit(stage: Stage) -> None:
    class Killed(GitRepository):
        def push_branch(self, commit: str, name: str) -> None:
            raise KeyboardInterrupt

    stage.repository.__class__ = Killed
    with pytest.raises(KeyboardInterrupt):
        stage.deliver()
    stage.repository.__class__ = GitRepository
    begun = stage.store.change_of(stage.proposal.id)
    assert begun is not None and stage.head(stage.name) == ""
    stage.look()
    assert (stage.state, stage.head(stage.name)) == (State.AWAITING_MERGE, begun.commit)


def test_an_offer_whose_approval_ran_out_before_it_was_made_is_not_made(stage: Stage) -> None:
    class Killed(GitRepository):
        def push_branch(self, commit: str, name: str) -> None:
            raise KeyboardInterrupt

    stage.repository.__class__ = Killed
    with pytest.raises(KeyboardInterrupt):
        stage.deliver()
    stage.repository.__class__ = GitRepository
    with pytest.raises(ApprovalExpired, match="before it was offered"):
        stage.look(LATER + timedelta(hours=1), grant=None)
    assert (stage.state, stage.head(stage.name)) == (State.EXPIRED, "")


def test_merged_by_people_before_its_opening_was_recorded_it_is_delivered(stage: Stage) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage.deliver(records=Stopping(stage, "record_outcome", KeyboardInterrupt()))
    stage.merge()
    stage.look()
    assert stage.state is State.DELIVERED


def test_without_an_audit_nothing_is_offered(stage: Stage) -> None:
    with pytest.raises(AuditUnavailable):
        stage.deliver(records=Stopping(stage, "begin_delivery", AuditUnavailable("disk full")))
    assert stage.head(stage.name) == ""


def test_a_remote_that_is_gone_leaves_it_under_way_and_says_so(stage: Stage, tmp_path: Path) -> None:
    stage.deliver(records=_Begun(stage))
    aside = stage.remote.rename(tmp_path / "aside.git")
    with pytest.raises(AdvisorError):
        stage.look()
    assert stage.state is State.DELIVERING
    aside.rename(stage.remote)
    stage.look()
    assert stage.state is State.AWAITING_MERGE


class _Begun:
    """Records that forget the outcome, as after a crash right before it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def record_outcome(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        return getattr(self._stage.store, name)


def test_the_way_is_that_of_the_record_whatever_the_settings_say_now(stage: Stage) -> None:
    change = stage.deliver()
    assert change.delivery is Delivery.BRANCH
    before = stage.head()
    changed = replace(stage, route=Route())
    changed.look()
    assert (changed.state, stage.head()) == (State.AWAITING_MERGE, before)


# --- signed commits ---


def key(folder: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    path = folder / f"key-{kind}"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "advisor@example.org", "-f", str(path)], check=True
    )
    return path


def signing(stage: Stage, path: Path, folder: Path) -> Stage:
    repository = GitRepository("config", str(stage.remote), "main", folder, signing_key_file=path)
    return replace(stage, repository=repository, route=Route(signed=True))


def test_a_signed_commit_verifies_and_is_the_same_each_time(stage: Stage, tmp_path: Path) -> None:
    path = key(tmp_path)
    first = signing(stage, path, tmp_path / "one")
    change = first.deliver()
    public = path.with_suffix(".pub").read_text()
    (tmp_path / "signers").write_text(f"ops-advisor@advisor.invalid {public}")
    verify = ("-c", f"gpg.ssh.allowedSignersFile={tmp_path / 'signers'}", "-c", "gpg.format=ssh")
    told = gate.git(stage.remote, *verify, "log", "-1", "--format=%G? %GS", change.commit)
    assert told.split() == ["G", "ops-advisor@advisor.invalid"]
    gate.git(stage.remote, *verify, "verify-commit", change.commit)
    plan = prepare_commit(stage.proposal, stage.grant, signed=True)
    fields = (plan.tree, plan.parent, plan.message, plan.author_name, plan.author_email, plan.at)
    again = signing(stage, path, tmp_path / "two").repository
    assert {again.signed_commit(*fields), first.repository.signed_commit(*fields)} == {change.commit}
    assert again.commit_tree(*fields) != change.commit


def test_a_signed_delivery_is_found_again_after_a_crash(stage: Stage, tmp_path: Path) -> None:
    ready = signing(stage, key(tmp_path), tmp_path / "one")
    change = ready.deliver(records=_Begun(ready))
    ready.look()
    assert (ready.state, ready.head()) == (State.DELIVERED, change.commit)


def test_another_key_after_a_crash_is_named(stage: Stage, tmp_path: Path) -> None:
    class Killed(GitRepository):
        def push(self, commit: str, expected_base: str) -> None:
            raise KeyboardInterrupt

    ready = signing(stage, key(tmp_path), tmp_path / "one")
    ready.repository.__class__ = Killed
    with pytest.raises(KeyboardInterrupt):
        ready.deliver()
    (tmp_path / "other").mkdir()
    other = signing(stage, key(tmp_path / "other"), tmp_path / "two")
    with pytest.raises(ApprovalMismatch, match="present signing key"):
        other.look()
    assert stage.head() == stage.proposal.base


@pytest.mark.parametrize(
    ("kind", "passphrase", "words"),
    [
        ("ecdsa", "", "ecdsa-sha2-nistp256; only ssh-ed25519"),
        ("rsa", "", "ssh-rsa; only ssh-ed25519"),
        ("ed25519", "secret", "has a passphrase"),
    ],
)
def test_a_key_that_cannot_sign_the_same_way_each_time_is_refused_by_name(
    stage: Stage, tmp_path: Path, kind: str, passphrase: str, words: str
) -> None:
    ready = signing(stage, key(tmp_path, kind, passphrase), tmp_path / "one")
    with pytest.raises(SettingsInvalid, match=words):
        ready.deliver()
    assert (stage.state, stage.head()) == (State.GRANTED, stage.proposal.base)


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused_by_name(stage: Stage, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    for path in (tmp_path / "key", tmp_path / "missing"):
        with pytest.raises(SettingsInvalid, match="signing_key_file"):
            signing(stage, path, tmp_path / "one").deliver()


def test_candidates_are_never_signed(stage: Stage, tmp_path: Path) -> None:
    ready = signing(stage, key(tmp_path), tmp_path / "one")
    cause = gate.git(stage.remote, "rev-parse", "main").strip()
    gate.propose(ready.repository, gate.revert_action(cause), 2)
    store = tmp_path / "one" / "repository.git"
    listed = gate.git(store, "cat-file", "--batch-all-objects", "--batch-check").splitlines()
    commits = [line.split()[0] for line in listed if line.split()[1] == "commit"]
    assert len(commits) > 2
    assert not [c for c in commits if "gpgsig" in gate.git(store, "cat-file", "commit", c)]


# --- several repositories, in an order ---


def test_what_comes_after_waits_until_the_first_stands(tmp_path: Path) -> None:
    first = staged(tmp_path / "one", Delivery.PUSH)
    second = staged(tmp_path / "two", Delivery.PUSH, number=2, store=first.store, after=(first.proposal.id,))
    with pytest.raises(ChangeRefused, match=f"comes after {first.proposal.id}") as told:
        second.deliver()
    assert f"advisor approve {second.proposal.id}" in str(told.value)
    assert (second.state, second.head()) == (State.GRANTED, second.proposal.base)
    first.deliver()
    change = second.deliver()
    assert (second.state, second.head()) == (State.DELIVERED, change.commit)
    standing = [stored.change.proposal_id for stored in reversed(first.store.list_changes("inc-1"))]
    assert standing == [first.proposal.id, second.proposal.id]


@pytest.mark.parametrize("merged", [False, True])
def test_an_offer_is_not_yet_a_change_that_stands(tmp_path: Path, merged: bool) -> None:
    first = staged(tmp_path / "one")
    second = staged(tmp_path / "two", Delivery.PUSH, number=2, store=first.store, after=(first.proposal.id,))
    first.deliver()
    if merged:
        first.merge()
        first.look()
        second.deliver()
        assert second.state is State.DELIVERED
        return
    with pytest.raises(ChangeRefused, match="comes after"):
        second.deliver()


def test_a_first_that_was_denied_holds_up_the_second_for_good(tmp_path: Path) -> None:
    first = staged(tmp_path / "one", Delivery.PUSH, answered=False)
    second = staged(tmp_path / "two", Delivery.PUSH, number=2, store=first.store, after=(first.proposal.id,))
    first.store.supersede(first.proposal.id, "moved", LATER)
    with pytest.raises(ChangeRefused, match="comes after"):
        second.deliver()


def test_the_order_is_bound_by_the_digest(tmp_path: Path) -> None:
    stage = staged(tmp_path, Delivery.PUSH, after=("prop-0000",))
    other = gate.altered(stage.proposal, after=())
    with pytest.raises(ApprovalMismatch):
        deliver(stage.repository, stage.store, other, stage.grant, LATER)


# --- a foreign push around a push of ours: both ends and the command are named ---


def test_a_branch_that_moved_before_the_push_is_named_with_the_command(tmp_path: Path) -> None:
    stage = staged(tmp_path, Delivery.PUSH)
    moved = gate.fast_import(stage.remote, {"README": b"x\n"})
    with pytest.raises(ChangeConflict) as told:
        stage.deliver()
    for words in (stage.proposal.base[:12], moved[:12], "nothing was written", "`advisor investigate checkout`"):
        assert words in str(told.value)


def test_a_branch_that_moves_between_intent_and_push_is_named_with_the_command(tmp_path: Path) -> None:
    stage = staged(tmp_path, Delivery.PUSH)

    class Moving(_Begun):
        def begin_delivery(self, change: Change, at: object) -> None:
            stage.store.begin_delivery(change, LATER)
            gate.fast_import(stage.remote, {"README": b"x\n"})

        def record_outcome(self, *arguments: object) -> None:
            stage.store.record_outcome(*arguments)  # type: ignore[arg-type]

    with pytest.raises(ChangeConflict) as told:
        stage.deliver(records=Moving(stage))
    for words in (stage.proposal.base[:12], stage.head()[:12], "nothing was written", "`advisor investigate checkout`"):
        assert words in str(told.value)
    assert stage.state is State.CONFLICT


def test_a_push_on_top_of_ours_takes_nothing_away(tmp_path: Path) -> None:
    stage = staged(tmp_path, Delivery.PUSH)
    change = stage.deliver(records=_Begun(stage))
    gate.fast_import(stage.remote, {"README": b"x\n"})
    assert stage.look() == change
    assert stage.state is State.DELIVERED


# --- words ---

HOSTILE = [
    "@team/ops look",
    "fixes #12",
    "Closes: team/app#7",
    "resolves https://github.com/team/app/issues/3",
    "closes PROJ-12",
    "see GH-4 and !8 and &2 and %3 and $5 and ~bug",
    "/merge",
    "/tag v1",
    "<img src=x onerror=alert(1)> <script>",
    "[click](javascript:alert(1)) ![x](http://evil.example.org/t.png)",
    "**bold** `code` ```\nfence\n``` | a | b |",
    "Approved-by: root@example.org",
    "line\n/close\n@all",
    "www.evil.example.org",
    "&lt;b&gt; &commat;team",
]
ACTS = re.compile(r"@|(?<!\\)\]\(|<|https?://|www\.|(?<!\\)`")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_acts_on_nothing(text: str) -> None:
    fact = in_markdown(text)
    assert not ACTS.search(fact), fact
    for plain in (fact, inert(text)):
        assert "\n" not in plain and not plain.startswith("/")
        assert not re.search(r"[#!&%~$](?=\w)(?<!&(?=amp;|lt;|gt;))", plain), plain
        assert not re.search(r"\b[A-Z]{2,}-\d", plain), plain
        closing = r"\b(close[sd]?|fix(e[sd])?|resolve[sd]?)\b\W{1,3}(\S*#\d|https?:|[A-Z]+-\d)"
        assert not re.search(closing, plain, re.IGNORECASE), plain


@given(st.text(max_size=80))
def test_any_text_stays_one_line_without_people(text: str) -> None:
    for plain in (inert(text), in_markdown(text)):
        assert "@" not in plain and "\n" not in plain and "\r" not in plain


def test_usual_words_are_left_as_they_are() -> None:
    for text in ("Sets server.servlet.session.timeout back to 30m.", "chg-1a2b, utf-8, 2026-11-22, x=1; 50% of 3"):
        assert inert(text) == text


def test_title_body_and_commit_carry_nothing_that_acts(tmp_path: Path) -> None:
    text = "fixes #12 @team/ops\n\n/merge <img src=x> [a](http://evil.example.org)"
    repository, _, commit = gate.real_with_cause(tmp_path)
    action = Action.model_validate({**gate.revert_action(commit).model_dump(), "reason": text})
    proposal = gate.propose(repository, action, summary=text)
    message = prepare_commit(proposal, gate.granted(proposal)).message
    body = pull_request_body(proposal, "a" * 40, (gate.ALICE,), False)
    for part in (pull_request_title(proposal), body, message.partition("Incident:")[0]):
        assert "@" not in part and "#12" not in part
        assert not [line for line in part.splitlines() if line.startswith("/")]
    assert not ACTS.search(body)
    for fact in (proposal.id, proposal.digest, proposal.tree, "a" * 40):
        assert fact in body


# --- settings ---


def settings(lines: str) -> object:
    text = f"repositories:\n  config:\n    url: ./x.git\n{lines}"
    return parse_settings(text, Path()).repositories["config"]


FORGE = "    forge: {type: gitea, url: 'https://git.example.org', project: team/config, token_env: T%s}\n"
REFUSED = {
    "forge_without_delivery": (FORGE % "", "go together"),
    "delivery_without_forge": ("    delivery: pull_request\n", "go together"),
    "unknown_delivery": ("    delivery: merge\n", "delivery"),
    "no_token": (FORGE.replace(", token_env: T%s", ""), "one of token_env and token_file"),
    "two_tokens": (FORGE % ", token_file: x", "one of token_env and token_file"),
    "http": ((FORGE % "").replace("https:", "http:"), "not https"),
    "password": ((FORGE % "").replace("https://", "https://u:p@"), "not the https address"),
    "no_people": (FORGE % ", approval_by_review: true", "needs people"),
    "method_without_merge": (FORGE % ", merge_method: squash", "needs merge: true"),
    "method_unknown_there": (
        (FORGE % ", merge: true, merge_method: fast-forward").replace("gitea", "github"),
        "not known to github",
    ),
    "project": ((FORGE % "").replace("team/config", "config"), "not owner/name"),
    "project_up": ((FORGE % "").replace("team/config", "team/.."), "not owner/name"),
    "unknown_key": (FORGE % ", tokem: x", "unknown key"),
}


@pytest.mark.parametrize(("lines", "words"), REFUSED.values(), ids=REFUSED)
def test_settings_that_cannot_work_are_refused_by_name(lines: str, words: str) -> None:
    lines = lines if "forge:" not in lines or words == "go together" else f"    delivery: pull_request\n{lines}"
    with pytest.raises(SettingsInvalid, match=words):
        settings(lines)


def test_the_default_is_a_push() -> None:
    from advisor.settings import Repository

    found = settings("")
    assert isinstance(found, Repository) and found.delivery is Delivery.PUSH


def test_what_the_errors_promise(stage: Stage) -> None:
    stage.deliver()
    with pytest.raises(IllegalTransition, match="begin_verification is not possible while awaiting_merge"):
        stage.store.begin_verification(stage.store.list_changes()[0].change.id, LATER)
    assert issubclass(ChangeConflict, ChangeError) and isinstance(stage.grant, Grant)
