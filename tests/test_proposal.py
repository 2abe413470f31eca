"""Proposals: the exact edit, its inverse, its guardrails, its digest, and what an approver sees."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

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
    read_rendered,
    render_diff,
    seal,
    without_credentials,
)
from advisor.proposal.guardrails import check_modes, matches_key
from advisor.proposal.patch import PatchFile
from advisor.settings import Configuration
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
    git,
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


@pytest.mark.parametrize(
    "name",
    [
        ".gitmodules",
        ".github/workflows/ci.yaml",
        "x/.GIT/config",
        "git~1/config",
        ".g\u200cit/config",
        "GI7EBA~1",
        "．git/x",
    ],
)
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


# --- rules for keys --------------------------------------------------------------------------------------------------

CONFIG_MAP = b"""apiVersion: v1
kind: ConfigMap
metadata: {name: checkout}
data:
  application.yaml: |
    server:
      port: 8080
      timeout: 30m
"""
MAP = "apps/checkout/map.yaml"


@pytest.mark.parametrize(
    ("glob", "key", "named"),
    [
        ("server.port", "server.port", True),
        ("server.port", "server.ports", False),
        ("server", "server.port", True),
        ("server.*", "server.servlet.session.timeout", True),
        ("*.password", "spring.datasource.password", True),
        ("*.password", "password", False),
        ("*password*", "spring.datasource.password-file", True),
        ("spec.*.image", "spec.template.spec.containers[app].image", True),
        ("spec.*.image", "spec.image", False),
        ("*image*image*", "spec.image", False),
        ("env[JAVA_OPTS].value", "env[JAVA_OPTS].value:-Xmx", True),
        ("env[JAVA_OPTS].value:-Xmx", "env[JAVA_OPTS].value:-Xms", False),
        ("server.port", 'data["application.yaml"].server.port', True),
        ("server.port", 'data["application.yaml"]#prod.server.port', True),
        ("server.port", "data.server.port", True),
        ("db.password", 'data["db.password"]', True),
        ("DB_*", "stringData.DB_PASSWORD", True),
        ("a[b]", "a[b]", True),
        ("a[b]", "ab", False),
        ("A.b", "a.b", False),
        ("*", "anything", True),
    ],
)
def test_globs_of_keys(glob: str, key: str, named: bool) -> None:
    assert matches_key(glob, key) is named


def test_rules_for_keys_stand_in_the_settings_and_a_blank_one_is_refused() -> None:
    read = Configuration.model_validate({"repository": "config", "keys": "server.*", "forbidden_keys": ["a", "b"]})
    assert (read.keys, read.forbidden_keys) == (("server.*",), ("a", "b"))
    for odd in ("", "  ", "a\nb", "x" * 501):
        with pytest.raises(ValidationError, match="names no key"):
            Configuration.model_validate({"repository": "config", "forbidden_keys": [odd]})


def test_what_holds_a_forbidden_value_whole_is_forbidden_too_but_not_allowed_by_it() -> None:
    assert matches_key("server.port", "server", covers=True)
    assert not matches_key("server.port", "server")


def test_a_hostile_key_is_matched_in_no_time() -> None:
    assert not matches_key("*a" * 40 + "*b", "a" * 2000)


@pytest.mark.parametrize("kind", [ActionType.REVERT_KEYS, ActionType.SET_VALUE, ActionType.REVERT_COMMIT])
@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"forbidden_keys": ("*session*",)}, r"key_rules: .*session\.timeout is forbidden \(\*session\*\)"),
        ({"allowed_keys": ("server.port",)}, r"key_rules: .*session\.timeout is not among the allowed keys"),
        ({"allowed_keys": ("*",), "forbidden_keys": (TIMEOUT,)}, "key_rules: .* is forbidden"),
    ],
    ids=["forbidden", "not_allowed", "forbidden_wins"],
)
def test_a_key_outside_the_rules_is_refused_whatever_the_action(
    kind: ActionType, rules: dict[str, object], words: str
) -> None:
    repository, commit = fake_with_cause()
    action = {
        ActionType.REVERT_KEYS: revert_action(commit),
        ActionType.SET_VALUE: Action(type=SETS, path=PATH, keys=(TIMEOUT,), values=("45m",)),
        ActionType.REVERT_COMMIT: Action(type=ActionType.REVERT_COMMIT, commit=commit),
    }[kind]
    with pytest.raises(ChangeRefused, match=words):
        propose(repository, action, **rules)
    assert any(g.name == "key_rules" for g in propose(repository, action, allowed_keys=("server.*",)).guardrails)


def test_a_whole_commit_is_held_against_the_rules_with_every_key_it_would_write() -> None:
    repository, _ = fake_with_cause()
    commit = repository.edit(**{PATH: BAD.replace(b"8080", b"9090"), MAP: CONFIG_MAP})
    action = Action(type=ActionType.REVERT_COMMIT, commit=commit)
    with pytest.raises(ChangeRefused, match=r"server\.port is forbidden"):
        propose(repository, action, forbidden_keys=("server.port",))
    with pytest.raises(ChangeRefused, match=r"apiVersion is not among the allowed keys"):
        propose(repository, action, allowed_keys=("server.*", "data"))


def test_a_key_inside_a_config_map_is_known_by_its_own_name() -> None:
    repository = FakeRepository()
    repository.add({MAP: CONFIG_MAP})
    commit = repository.edit(**{MAP: CONFIG_MAP.replace(b"8080", b"9090")})
    action = Action(type=ActionType.REVERT_COMMIT, commit=commit)
    with pytest.raises(ChangeRefused, match="is forbidden"):
        propose(repository, action, forbidden_keys=("server.port",))
    assert propose(repository, action, allowed_keys=("server.port",)).changes_something


@pytest.mark.parametrize("path", ["apps/checkout/run.sh", "apps/checkout/templates/x.yaml"], ids=["text", "template"])
def test_what_is_not_read_by_key_is_not_written_where_keys_have_rules(path: str) -> None:
    repository = FakeRepository()
    repository.add({path: b"a: {{ .Values.x }}\nb: 1\n"})
    commit = repository.edit(**{path: b"a: {{ .Values.x }}\nb: 2\n"})
    action = Action(type=ActionType.REVERT_COMMIT, commit=commit)
    assert propose(repository, action).changes_something
    with pytest.raises(ChangeRefused, match="not read by key"):
        propose(repository, action, forbidden_keys=("password",))


# --- manifests ---------------------------------------------------------------------------------------------------------

WORKLOAD = b"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: checkout
  labels: {team: shop}
spec:
  replicas: 2
  template:
    spec:
      containers:
        - name: app
          image: registry.example.org/shop/checkout:1.4.2
          env:
            - {name: JAVA_OPTS, value: "-Xmx512m"}
          ports: [{name: http, containerPort: 8080}]
          resources:
            limits: {cpu: "1", memory: 1Gi}
            requests: {cpu: 500m, memory: 512Mi}
          livenessProbe: {httpGet: {path: /, port: http}, periodSeconds: 10}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: checkout}
spec: {minReplicas: 2, maxReplicas: 5}
"""
TAKEN_BACK = {  # what the branch has, and what taking the commit back would make of it
    "replicas_quoted": (b"replicas: 2", b'replicas: "2"', "spec.replicas .*not quoted"),
    "replicas_text": (b"replicas: 2", b"replicas: two", "spec.replicas"),
    "replicas_negative": (b"replicas: 2", b"replicas: -1", "spec.replicas"),
    "replicas_fraction": (b"replicas: 2", b"replicas: 2.5", "spec.replicas"),
    "memory": (b"memory: 1Gi", b"memory: 1GB", "limits.memory .*quantity"),
    "memory_words": (b"memory: 1Gi", b"memory: much", "limits.memory .*quantity"),
    "port_range": (b"containerPort: 8080", b"containerPort: 80808", "containerPort"),
    "port_quoted": (b"containerPort: 8080", b'containerPort: "8080"', "containerPort"),
    "probe_port": (b"port: http}", b"port: Http_Port}", "httpGet.port"),
    "probe": (b"periodSeconds: 10", b"periodSeconds: 0", "periodSeconds"),
    "env_number": (b'value: "-Xmx512m"', b"value: 512", "env.*quote it"),
    "label": (b"team: shop", b"team: true", "labels.team .*quote it"),
    "image": (b"checkout:1.4.2", b"checkout :1.4.2", "image"),
    "above_limit": (b"memory: 512Mi", b"memory: 2Gi", "above its limit"),
    "scaler": (b"minReplicas: 2", b"minReplicas: 9", "above maxReplicas"),
    "kind": (b"kind: Deployment", b"kind: StatefulSet", "another object"),
    "version": (b"apiVersion: apps/v1", b"apiVersion: extensions/v1beta1", "another object"),
    "name": (b"metadata:\n  name: checkout", b"metadata:\n  name: checkout2", "another object"),
    "not_yaml": (b"spec:\n  replicas: 2", b"spec: [\n  replicas: 2", "not be readable any more|not YAML"),
}


@pytest.mark.parametrize(("good", "bad", "words"), TAKEN_BACK.values(), ids=TAKEN_BACK)
def test_a_manifest_that_an_api_server_would_refuse_is_not_written(good: bytes, bad: bytes, words: str) -> None:
    assert good in WORKLOAD
    repository = FakeRepository()
    repository.add({MANIFEST: WORKLOAD.replace(good, bad)})
    commit = repository.edit(**{MANIFEST: WORKLOAD})
    with pytest.raises(ChangeRefused, match=rf"manifest: .*({words})"):
        propose(repository, Action(type=ActionType.REVERT_COMMIT, commit=commit))


def test_a_manifest_that_was_odd_before_is_free_to_be_repaired_elsewhere() -> None:
    odd = WORKLOAD.replace(b"containerPort: 8080", b'containerPort: "8080"').replace(b"team: shop", b"team: 1")
    repository = FakeRepository()
    repository.add({MANIFEST: odd})
    commit = repository.edit(**{MANIFEST: odd.replace(b"replicas: 2", b"replicas: 7")})
    done = propose(repository, Action(type=ActionType.REVERT_COMMIT, commit=commit))
    assert [g.detail for g in done.guardrails if g.name == "manifest"] == ["1 manifest"]


def test_usual_edits_of_manifests_pass() -> None:
    for old, new in [
        (b"replicas: 2", b"replicas: 0"),
        (b"memory: 1Gi", b"memory: 1536Mi"),
        (b"memory: 1Gi", b"memory: 1e9"),
        (b'cpu: "1"', b"cpu: 1.5"),
        (b"port: http}", b"port: 8080}"),
        (b"team: shop", b"team: '1'"),
        (b"1.4.2", b"1.5.0@sha256:" + b"0" * 64),
        (b"maxReplicas: 5", b"maxReplicas: 2"),
    ]:
        repository = FakeRepository()
        repository.add({MANIFEST: WORKLOAD.replace(old, new)})
        commit = repository.edit(**{MANIFEST: WORKLOAD})
        assert propose(repository, Action(type=ActionType.REVERT_COMMIT, commit=commit)).changes_something, new


def test_a_whole_commit_may_bring_a_document_back_or_take_it_away() -> None:
    for before, after in ((WORKLOAD, CONFIG_MAP + b"---\n" + WORKLOAD), (CONFIG_MAP + b"---\n" + WORKLOAD, WORKLOAD)):
        repository = FakeRepository()
        repository.add({MANIFEST: before})
        commit = repository.edit(**{MANIFEST: after})
        done = propose(repository, Action(type=ActionType.REVERT_COMMIT, commit=commit))
        assert repository.files(done.tree)[MANIFEST] == before


# --- memory ------------------------------------------------------------------------------------------------------------

XMX = "spec.template.spec.containers[app].env[JAVA_OPTS].value:-Xmx"
LIMIT = "spec.template.spec.containers[app].resources.limits.memory"


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        (XMX, "600m", True),
        (XMX, "900m", False),
        (XMX, "2g", False),
        (LIMIT, "2Gi", True),
        (LIMIT, "700Mi", False),
    ],
)
def test_a_heap_or_a_limit_that_do_not_go_together_are_refused_with_the_sum(key: str, value: str, fits: bool) -> None:
    repository = FakeRepository()
    repository.add({MANIFEST: WORKLOAD})
    action = Action(type=SETS, path=MANIFEST, keys=(key,), values=(value,))
    if fits:
        done = propose(repository, action)
        assert any(g.name == "memory" and "fits the container's" in g.detail for g in done.guardrails)
        return
    with pytest.raises(
        ChangeRefused, match=r"memory: heap .* \+ metaspace .* = .*, which does not fit the container's"
    ):
        propose(repository, action)


def test_flags_and_limit_in_two_files_are_added_up() -> None:
    options = "apps/checkout/checkout.env"
    repository = FakeRepository()
    flagless = WORKLOAD.replace(b"-Xmx512m", b"-XX:+UseG1GC")
    repository.add({MANIFEST: flagless, options: b'JAVA_OPTS="-Xmx512m"\n'})
    action = Action(type=SETS, path=options, keys=("JAVA_OPTS:-Xmx",), values=("1000m",))
    with pytest.raises(ChangeRefused, match=r"memory: .*does not fit"):
        propose(repository, action)


def test_a_value_that_ran_before_is_refused_only_where_it_cannot_fit() -> None:
    for limit, refused in ((b"1Gi", False), (b"768Mi", True)):
        repository = FakeRepository()
        repository.add({MANIFEST: WORKLOAD.replace(b"-Xmx512m", b"-Xmx900m")})
        commit = repository.edit(**{MANIFEST: WORKLOAD})
        repository.edit(**{MANIFEST: WORKLOAD.replace(b"memory: 1Gi", b"memory: " + limit)})
        action = Action(type=ActionType.REVERT_KEYS, commit=commit, path=MANIFEST, keys=(XMX,))
        if refused:
            with pytest.raises(ChangeRefused, match=r"memory: .*does not fit"):
                propose(repository, action)
        else:
            assert propose(repository, action).changes_something


def test_the_memory_of_a_neighbour_is_not_held_against_an_edit() -> None:
    neighbour = WORKLOAD.replace(b"name: checkout", b"name: other").replace(b"-Xmx512m", b"-Xmx4g")
    repository = FakeRepository()
    repository.add({MANIFEST: WORKLOAD, "apps/checkout/other.yaml": neighbour})
    action = Action(type=SETS, path=MANIFEST, keys=(XMX,), values=("600m",))
    assert propose(repository, action).changes_something


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


ODD = (
    "\u202e \u2066 \u200b \u200d \ufeff \u00ad \u115f \u2800 \u0301 \u00a0 \u2028 \x1b[2K \r \t \0 \x7f ⟨U+0041⟩ ⟨0xFF⟩ ⟨ ⟩"
    " аpple ｆｕｌｌ ﬁ 𝐱 é e\u0301 ÿ \U000e0041 \U0010ffff -- ++ @@ diff --git a/x b/x \\ \" ' ` $(id) {{ }}  "
).split(" ")


def _hostile_text(chance: random.Random) -> bytes:
    words = [
        chance.choice(ODD) if chance.random() < 0.4 else chance.choice(["a: 1", "b", "  c: x", ""]) for _ in range(5)
    ]
    raw = " ".join(words).encode("utf-8", "surrogatepass")
    return raw + bytes([chance.randrange(256)]) if chance.random() < 0.2 else raw


def test_500_patches_are_shown_whole_and_read_back_exactly(tmp_path: Path) -> None:
    """Real git's patches of hostile files: every byte is in the view, and the view gives exactly the patch back."""
    chance = random.Random(4)
    repository, remote, _ = real_with_cause(tmp_path)
    names = [f"apps/checkout/{name}" for name in ("a.yaml", "-b", "c d.txt", "é.yaml", "e\u0301.txt", "x\u202ey")]
    edits = []
    for _ in range(501):
        text = b"".join(
            _hostile_text(chance) + chance.choice([b"\n", b"\n", b"\r\n"]) for _ in range(chance.randrange(9))
        )
        edits.append({chance.choice(names): text.replace(b"\0", b"")})
    heads = import_all(remote, edits)
    repository.head()
    seen = 0
    for before, after in itertools.pairwise(heads):
        patch = repository.diff(before, after)
        shown = render_diff(patch)
        assert read_rendered(shown) == patch
        assert shown.count("\n") == patch.count(b"\n")
        assert all(c == "\n" or (c.isprintable() and unicodedata.category(c) not in ("Cf", "Mn")) for c in shown)
        assert parse_patch(read_rendered(shown)) == parse_patch(patch)
        seen += "⟨" in shown
    assert len(heads) == 501 and seen > 200
    repository.close()


def import_all(remote: Path, edits: list[dict[str, bytes]]) -> list[str]:
    head = fast_import(remote, *edits)
    return git(remote, "rev-list", "--reverse", "-n", str(len(edits)), head).split()


@given(st.binary(max_size=300))
def test_any_bytes_shown_are_read_back(patch: bytes) -> None:
    assert read_rendered(render_diff(patch)) == patch


@pytest.mark.parametrize("shown", ["⟨U+D800⟩", "⟨U+110000⟩", "a⟨b", "⟩", "⟨0x1⟩", "⟨U+41⟩"])
def test_a_view_that_was_not_rendered_is_refused(shown: str) -> None:
    with pytest.raises(ChangeRefused, match="rendered patch"):
        read_rendered(shown)


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
