"""Pull requests: one for each change, merged only as approved, on a real Gitea and on a server that speaks three APIs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from advisor.adapters.forge import AnyForge, open_forge
from advisor.adapters.git_repository import GitRepository
from advisor.change import Delivery, make_offered_commit, offer_for_review
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMismatch,
    ChangeConflict,
    ChangeError,
    ChangeRefused,
    ChangeUncertain,
    SourceError,
    SourceMalformed,
    SourceRefused,
    SourceUnavailable,
)
from advisor.lifecycle import State
from tests.support import gate, gitea
from tests.support.forge import NAME, OWNER, TOKEN, Fault, ScriptedForge, forge_serving
from tests.support.stage import LATER, Stage, staged

SCRIPTED = ("github", "gitlab", "gitea")


@dataclass
class World:
    """A change that goes by pull request, the forge it goes to, and what people do there."""

    stage: Stage
    forge: AnyForge
    server: ScriptedForge

    @property
    def pull_requests(self) -> int:
        return len(self.server.requests)

    def merge(self, method: str = "merge") -> None:
        self.server.merge(1, method)

    def close(self) -> None:
        self.server.request(1).state = "closed"

    def review(self, login: str, approves: bool = True, commit: str | None = None) -> None:
        against = "REQUEST_CHANGES" if self.server.kind == "gitea" else "CHANGES_REQUESTED"
        self.server.review(1, login, "APPROVED" if approves else against, commit)

    def fault(self, method: str, part: str = "", **fields: Any) -> None:
        self.server.faults.append(Fault(method, part, **fields))

    def on(self, **fields: Any) -> World:
        return replace(self, stage=self.stage.on(**fields))


@dataclass
class RealWorld(World):
    """The same on a real Gitea."""

    real: gitea.GiteaServer
    project: str

    @property
    def pull_requests(self) -> int:
        return len(self.real.call("GET", f"/repos/{self.project}/pulls?state=all"))

    def merge(self, method: str = "merge") -> None:
        self._patiently("POST", f"/repos/{self.project}/pulls/1/merge", {"Do": method})

    def close(self) -> None:
        self.real.call("PATCH", f"/repos/{self.project}/pulls/1", {"state": "closed"})

    def review(self, login: str, approves: bool = True, commit: str | None = None) -> None:
        body: dict[str, object] = {"event": "APPROVED" if approves else "REQUEST_CHANGES", "body": "seen"}
        if commit is not None:
            body["commit_id"] = commit
        self.real.call("POST", f"/repos/{self.project}/pulls/1/reviews", body, login)

    def _patiently(self, *arguments: Any) -> None:
        # The server looks at conflicts in the background, and refuses to merge until it has.
        for _ in range(100):
            try:
                self.real.call(*arguments)
            except AssertionError as error:
                if "405" not in str(error):
                    raise
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the server never merged")


@pytest.fixture(scope="module")
def real_gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gitea.GiteaServer]:
    with gitea.gitea_serving(tmp_path_factory.mktemp("gitea")) as server:
        server.write_netrc(server.work / "home")
        yield server


@pytest.fixture(params=[*SCRIPTED, pytest.param("real-gitea", marks=pytest.mark.real)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "real-gitea":
        server: gitea.GiteaServer = request.getfixturevalue("real_gitea")
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        yield real_world(server, monkeypatch, tmp_path)
        return
    with scripted_world(request.param, tmp_path) as made:
        yield made


@pytest.fixture(params=SCRIPTED)
def scripted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with scripted_world(request.param, tmp_path) as made:
        yield made


@pytest.fixture(params=SCRIPTED)
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[AnyForge, ScriptedForge]]:
    """A forge that is only asked: it needs no change and no repository."""
    with forge_serving(request.param, gate.new_remote(tmp_path)) as server:
        yield open_forge(request.param, server.url, f"{OWNER}/{NAME}", TOKEN, timeout_seconds=2), server


class scripted_world:
    """A world on the scripted server."""

    def __init__(self, kind: str, folder: Path, **fields: Any) -> None:
        self._kind, self._folder, self._fields = kind, folder, fields

    def __enter__(self) -> World:
        stage = staged(self._folder, Delivery.PULL_REQUEST, **self._fields)
        self._serving = forge_serving(self._kind, stage.remote)
        server = self._serving.__enter__()
        forge = open_forge(self._kind, server.url, f"{OWNER}/{NAME}", TOKEN, timeout_seconds=2)
        return World(stage.on(forge=forge), forge, server)

    def __exit__(self, *error: Any) -> None:
        self._serving.__exit__(*error)


def real_world(
    server: gitea.GiteaServer, monkeypatch: pytest.MonkeyPatch, folder: Path, answered: bool = True, **fields: Any
) -> RealWorld:
    monkeypatch.setenv("HOME", str(server.work / "home"))
    name = f"config-{time.monotonic_ns()}"
    url = server.new_repository(name)
    source = gate.new_remote(folder)
    commit = gate.fast_import(source, {gate.PATH: gate.GOOD, gate.OTHER: b"a: 1\n"}, {gate.PATH: gate.BAD})
    push(source, url)
    project = f"{gitea.ADMIN}/{name}"
    for _ in range(100):  # the server takes note of a first push a moment after it
        if not server.call("GET", f"/repos/{project}")["empty"]:
            break
        time.sleep(0.1)
    repository = GitRepository("config", url, "main", folder / "clone")
    opened = (repository, server.folder(name), commit)
    stage = staged(folder, Delivery.PULL_REQUEST, repository=opened, answered=answered, **fields)
    token = server.token(gitea.ADMIN, "write:repository", "write:issue")
    forge = open_forge("gitea", server.url, project, token)
    return RealWorld(stage.on(forge=forge), forge, ScriptedForge("gitea", stage.remote), server, project)


def push(source: Path, url: str, branch: str = "main", force: bool = False) -> None:
    gate.git(source, "push", "-q", *(["-f"] if force else []), url, f"main:{branch}")


def foreign(world: World, branch: str = "main") -> str:
    """Commit something else onto a branch as somebody else would."""
    stage = world.stage
    if not isinstance(world, RealWorld):
        return gate.fast_import(stage.remote, {"README": b"foreign\n"}, branch=branch)
    body = {"branch": branch, "content": "Zm9yZWlnbgo=", "message": "Foreign"}
    made = world.real.call("POST", f"/repos/{world.project}/contents/README", body, "bob")
    return str(made["commit"]["sha"])


# --- one pull request, and what becomes of it ---


def test_a_change_becomes_one_pull_request_and_waits(world: World) -> None:
    stage = world.stage
    change = stage.deliver()
    assert (stage.head(), stage.head(stage.name)) == (change.base, change.commit)
    assert stage.state is State.AWAITING_MERGE
    found = world.forge.find(stage.name, "main")
    assert found is not None and (found.state, found.head, found.number) == ("open", change.commit, 1)
    assert found.url in stage.reason
    stage.look()
    assert (stage.state, world.pull_requests) == (State.AWAITING_MERGE, 1)


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_merged_by_people_as_approved_it_is_delivered(world: World, method: str) -> None:
    stage = world.stage
    change = stage.deliver()
    world.merge(method)
    assert stage.look() == change
    assert (stage.state, stage.tree()) == (State.DELIVERED, stage.proposal.tree)


def test_merged_over_a_base_that_moved_it_is_not_the_change(world: World) -> None:
    stage = world.stage
    stage.deliver()
    foreign(world)
    world.merge()
    with pytest.raises(ApprovalMismatch, match="no commit of main has the approved tree"):
        stage.look()
    assert stage.state is State.CONFLICT


def test_a_squash_over_a_base_that_moved_is_not_the_change(world: World) -> None:
    stage = world.stage
    stage.deliver()
    foreign(world)
    world.merge("squash")
    with pytest.raises(ApprovalMismatch, match="no commit of main has the approved tree"):
        stage.look()
    assert stage.state is State.CONFLICT


def test_a_base_that_moved_closes_the_pull_request(world: World) -> None:
    stage = world.stage
    change = stage.deliver()
    moved = foreign(world)
    with pytest.raises(ChangeConflict) as told:
        stage.look()
    for words in (change.base[:12], moved[:12], "`advisor investigate checkout` proposes anew"):
        assert words in str(told.value)
    found = world.forge.find(stage.name, "main")
    assert found is not None and found.state == "closed"
    assert (stage.state, stage.head()) == (State.CONFLICT, moved)


def test_closed_unmerged_it_is_refused(world: World) -> None:
    stage = world.stage
    change = stage.deliver()
    world.close()
    with pytest.raises(ChangeRefused, match="was closed unmerged"):
        stage.look()
    assert (stage.state, stage.head()) == (State.REFUSED, change.base)


def test_somebody_elses_commit_on_our_branch_makes_it_void(world: World) -> None:
    stage = world.stage
    change = stage.deliver()
    added = foreign(world, stage.name)
    with pytest.raises(ChangeConflict, match=f"somebody put {added[:12]}"):
        stage.look()
    found = world.forge.find(stage.name, "main")
    assert found is not None and found.state == "closed"
    assert (stage.state, stage.head()) == (State.CONFLICT, change.base)


def test_one_that_nobody_merges_is_closed_in_the_end(world: World) -> None:
    stage = world.stage
    stage.deliver()
    with pytest.raises(ApprovalExpired, match="nobody merged it"):
        stage.look(LATER + timedelta(hours=25), grant=None)
    found = world.forge.find(stage.name, "main")
    assert found is not None and (stage.state, found.state) == (State.EXPIRED, "closed")


# --- merged by us ---


def test_merged_by_us_it_is_the_approved_tree(world: World) -> None:
    stage = world.on(merges=True).stage
    with suppress(ChangeError):  # a real server first looks for conflicts, and says so
        stage.deliver()
    for _ in range(100):
        if stage.state is State.DELIVERED:
            break
        time.sleep(0.1)
        with suppress(ChangeError):
            stage.look()
    assert (stage.state, stage.tree()) == (State.DELIVERED, stage.proposal.tree)
    actions = [entry.action for entry in stage.store.audit_entries(stage.store.list_changes()[0].change.id)]
    assert actions[:3] == ["change.begin_delivery", "change.open", "change.begin_merge"]
    assert actions[-1] == "change.merge"
    stage.store.verify_audit()


@pytest.mark.parametrize("held", [True, None])
def test_after_its_approval_ran_out_we_do_not_merge_it(scripted: World, held: bool | None) -> None:
    scripted.stage.deliver()
    stage = scripted.on(merges=True).stage
    stage.look(gate.NOW + timedelta(hours=1), grant=held)
    assert (stage.state, stage.head()) == (State.AWAITING_MERGE, stage.proposal.base)


def test_a_base_that_moves_at_the_moment_of_our_merge_is_told(scripted: World) -> None:
    stage = scripted.on(merges=True).stage
    scripted.server.before_merge = lambda: foreign(scripted)
    if scripted.server.kind == "gitea":  # a fast-forward: the server itself finds it
        with pytest.raises(ChangeError, match="was not merged"):
            stage.deliver()
        assert stage.state is State.AWAITING_MERGE
        scripted.server.before_merge = lambda: None
        with pytest.raises(ChangeConflict, match="moved from"):
            stage.look()
    else:
        with pytest.raises(ApprovalMismatch, match="no commit of main has the approved tree"):
            stage.deliver()
    assert stage.state is State.CONFLICT


def test_a_head_that_moves_at_the_moment_of_our_merge_is_not_merged(scripted: World) -> None:
    stage = scripted.on(merges=True).stage
    scripted.server.before_merge = lambda: foreign(scripted, stage.name)
    with pytest.raises(ChangeError, match="was not merged"):
        stage.deliver()
    assert (stage.state, stage.head()) == (State.AWAITING_MERGE, stage.proposal.base)
    with pytest.raises(ChangeConflict, match="somebody put"):
        stage.look()


@pytest.mark.parametrize("how", ["cut", "drip"])
def test_a_merge_whose_answer_is_lost_is_found(scripted: World, how: str) -> None:
    method = "POST" if scripted.server.kind == "gitea" else "PUT"
    scripted.fault(method, "/merge", how=how, status=0)
    stage = scripted.on(merges=True).stage
    impatient = open_forge(scripted.server.kind, scripted.server.url, f"{OWNER}/{NAME}", TOKEN, timeout_seconds=0.4)
    stage = replace(stage, route=replace(stage.route, forge=impatient))
    stage.deliver()
    assert (stage.state, stage.tree()) == (State.DELIVERED, stage.proposal.tree)


def test_a_merge_that_may_or_may_not_have_been_made_is_uncertain_then_found(scripted: World) -> None:
    method = "POST" if scripted.server.kind == "gitea" else "PUT"
    scripted.fault(method, "/merge", how="cut", status=0)
    scripted.fault("GET", "", status=503, times=0)
    stage = scripted.on(merges=True).stage

    def silent() -> None:
        for fault in scripted.server.faults:
            fault.times = max(fault.times, 9) if fault.method == "GET" else fault.times

    scripted.server.before_merge = silent
    with pytest.raises(ChangeUncertain, match="cannot be told"):
        stage.deliver()
    assert stage.state is State.UNCERTAIN
    scripted.server.faults.clear()
    stage.look()
    assert (stage.state, scripted.pull_requests) == (State.DELIVERED, 1)


# --- exactly one, whatever breaks ---


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("call", ["find", "open", "after_open"])
def test_a_crash_between_push_and_pull_request_ends_in_one(world: World, call: str) -> None:
    class Dying:
        def __getattr__(self, name: str) -> Any:
            if name == call:
                raise Killed
            return getattr(world.forge, name)

        def open(self, *arguments: Any) -> Any:
            if call == "open":
                raise Killed
            world.forge.open(*arguments)
            raise Killed

    dying: Any = Dying()
    stage = world.stage
    with pytest.raises(Killed):
        replace(stage, route=replace(stage.route, forge=dying)).deliver()
    assert stage.state is State.DELIVERING
    for _ in range(2):
        stage.look()
        assert (stage.state, world.pull_requests) == (State.AWAITING_MERGE, 1)
    if call == "after_open" and not isinstance(world, RealWorld):
        assert [heard[0] for heard in world.server.calls].count("POST") == 1  # looked for, not tried again


@pytest.mark.parametrize("how", ["cut", "drip", "answer"])
def test_a_lost_answer_to_opening_leads_to_one_pull_request(scripted: World, how: str) -> None:
    part = "merge_requests" if scripted.server.kind == "gitlab" else "pulls"
    scripted.fault("POST", part, how=how, status=502)
    stage = scripted.stage
    impatient = open_forge(scripted.server.kind, scripted.server.url, f"{OWNER}/{NAME}", TOKEN, timeout_seconds=0.4)
    stage = replace(stage, route=replace(stage.route, forge=impatient))
    if how == "answer":  # it was not done
        with pytest.raises(ChangeError, match="the same command carries on") as told:
            stage.deliver()
        assert told.value.retriable and stage.state is State.DELIVERING
        stage.look()
    else:
        stage.deliver()
    assert (stage.state, scripted.pull_requests) == (State.AWAITING_MERGE, 1)


def test_one_that_somebody_opened_for_our_branch_is_ours(scripted: World) -> None:
    class Late:
        """The first question is asked before somebody else opens it."""

        asked = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(scripted.forge, name)

        def find(self, head: str, base: str) -> Any:
            self.asked += 1
            if self.asked > 1:
                return scripted.forge.find(head, base)
            scripted.forge.open(head, base, "by hand", "")
            return None

    late: Any = Late()
    stage = scripted.on(forge=late).stage
    stage.deliver()
    assert (stage.state, scripted.pull_requests) == (State.AWAITING_MERGE, 1)


def test_a_commit_that_somebody_adds_before_it_is_opened_makes_it_void(scripted: World) -> None:
    class Overtaken:
        def __getattr__(self, name: str) -> Any:
            return getattr(scripted.forge, name)

        def open(self, *arguments: Any) -> Any:
            foreign(scripted, scripted.stage.name)
            return scripted.forge.open(*arguments)

    overtaken: Any = Overtaken()
    stage = scripted.on(forge=overtaken, merges=True).stage
    with pytest.raises(ChangeConflict, match="somebody pushed to"):
        stage.deliver()
    assert (stage.state, stage.head()) == (State.CONFLICT, stage.proposal.base)


# --- what the server may answer ---

STATUSES = [
    (401, "token is not accepted"),
    (403, "token may not do that"),
    (404, "not found"),
    (409, "409"),
    (422, "422"),
]


@pytest.mark.parametrize(("status", "words"), STATUSES)
def test_a_no_to_opening_is_told_and_final_only_where_it_is_about_the_request(
    scripted: World, status: int, words: str
) -> None:
    part = "merge_requests" if scripted.server.kind == "gitlab" else "pulls"
    scripted.fault("POST", part, status=status, body=f'{{"message": "because {TOKEN}"}}')
    stage = scripted.stage
    with pytest.raises(ChangeRefused, match=words) as told:
        stage.deliver()
    assert (stage.state, stage.head()) == (State.REFUSED, stage.proposal.base)
    assert TOKEN not in str(told.value) and "because ***" in str(told.value)


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_server_that_cannot_be_asked_leaves_it_under_way(scripted: World, status: int) -> None:
    scripted.fault("GET", "", status=status, times=9)
    stage = scripted.stage
    with pytest.raises(ChangeError, match="the same command carries on") as told:
        stage.deliver()
    assert told.value.retriable and stage.state is State.DELIVERING
    scripted.server.faults.clear()
    stage.look()
    assert (stage.state, scripted.pull_requests) == (State.AWAITING_MERGE, 1)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_question_is_asked_again(scripted: World, status: int) -> None:
    scripted.fault("GET", "", status=status, headers={"Retry-After": "0"}, times=2)
    scripted.stage.deliver()
    assert scripted.stage.state is State.AWAITING_MERGE


def test_retry_after_is_kept_and_one_that_is_too_long_is_told(asked: tuple[AnyForge, ScriptedForge]) -> None:
    forge, server = asked
    server.faults.append(Fault("GET", "", status=429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    forge.find("x", "main")
    assert time.monotonic() - began >= 1
    server.faults.append(Fault("GET", "", status=429, headers={"Retry-After": "3600"}))
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="asked to wait 3600 s"):
        forge.find("x", "main")
    assert time.monotonic() - began < 5


def test_what_may_not_be_done_twice_is_asked_once(scripted: World) -> None:
    part = "merge_requests" if scripted.server.kind == "gitlab" else "pulls"
    scripted.fault("POST", part, status=503, headers={"Retry-After": "0"}, times=9)
    with pytest.raises(ChangeError):
        scripted.stage.deliver()
    assert len([call for call in scripted.server.calls if call[0] == "POST"]) == 1


def test_the_limit_of_github_is_a_pause_not_a_no(tmp_path: Path) -> None:
    with scripted_world("github", tmp_path) as world:
        world.fault("GET", "", status=403, headers={"X-RateLimit-Remaining": "0"})
        assert world.forge.find("x", "main") is None


BODIES = ["<html>sign in</html>", "[1, 2]", "{}", '"x"', "null", '[{"number": "x", "iid": 0}]', "[" * 100_000, "\xff"]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("call", ["find", "reviews", "check", "open"])
def test_any_answer_is_read_or_named(asked: tuple[AnyForge, ScriptedForge], call: str, body: str) -> None:
    forge, server = asked
    server.faults.append(Fault("GET", "", status=200, body=body, times=99))
    server.faults.append(Fault("POST", "", status=200, body=body, times=99))
    arguments = {"find": ("x", "main"), "reviews": (1,), "check": (), "open": ("x", "main", "t", "b")}[call]
    try:
        getattr(forge, call)(*arguments)
    except SourceError as error:
        assert "\n" not in str(error)


def test_an_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b" " * 100_000)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with served(Endless) as url:
        with pytest.raises(SourceMalformed, match="more than"):
            open_forge("gitea", url, "team/config", TOKEN).check()


class served:
    """Serve a handler on the loopback interface."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = HTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *error: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_token_stays_at_home(
    asked: tuple[AnyForge, ScriptedForge], status: int
) -> None:
    forge, server = asked
    heard: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("Authorization", ""))

        do_POST = do_PUT = do_GET

    with served(Elsewhere) as elsewhere:
        place = f"{elsewhere.replace('127.0.0.1', 'localhost')}/{TOKEN}"
        for method in ("GET", "POST"):
            server.faults.append(Fault(method, "", status=status, headers={"Location": place}))
        with pytest.raises(SourceRefused, match="redirects to localhost, which is not followed") as told:
            forge.find("x", "main")
        with pytest.raises(SourceRefused, match="not followed"):
            forge.open("x", "main", "t", "b")
    assert heard == [] and TOKEN not in str(told.value)


def test_a_server_that_is_not_there_is_named_without_the_token(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:9", "http://localhost:9"):
        with pytest.raises(SourceUnavailable) as told:
            open_forge("github", url, "team/config", TOKEN, timeout_seconds=1).check()
        assert TOKEN not in str(told.value)


def test_netrc_does_not_take_the_tokens_place(
    asked: tuple[AnyForge, ScriptedForge], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge, server = asked
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login u password p\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    forge._api._host = "forge.example.org"  # as for a server elsewhere: on the loopback interface it is never read
    forge.check()
    sent = server.calls[-1][2]
    assert TOKEN in sent.get("Authorization", "") + sent.get("PRIVATE-TOKEN", "")


def test_a_server_that_drips_ends_at_the_deadline(asked: tuple[AnyForge, ScriptedForge]) -> None:
    _, server = asked
    server.faults.append(Fault("GET", "", how="drip", status=200, times=9))
    impatient = open_forge(server.kind, server.url, f"{OWNER}/{NAME}", TOKEN, timeout_seconds=0.3)
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="no whole answer"):
        impatient.check()
    assert time.monotonic() - began < 4


# --- words and labels ---


def test_what_is_opened_carries_nothing_that_acts(tmp_path: Path) -> None:
    text = "fixes #12 @team/ops <img src=x> /merge"
    for kind in SCRIPTED:
        with scripted_world(kind, tmp_path / kind, summary=text) as world:
            forge = open_forge(kind, world.server.url, f"{OWNER}/{NAME}", TOKEN, labels=("advisor", "config"))
            world.on(forge=forge).stage.deliver()
            (opened,) = world.server.requests
            for part in (opened.title, opened.body):
                assert not [sign for sign in ("@", "#12", "<img") if sign in part]
            assert world.stage.proposal.digest in opened.body
            assert opened.labels == ["advisor", "config"]


def test_a_label_that_cannot_be_set_stops_nothing(tmp_path: Path) -> None:
    with scripted_world("github", tmp_path) as world:
        world.fault("POST", "/labels", status=404)
        forge = open_forge("github", world.server.url, f"{OWNER}/{NAME}", TOKEN, labels=("missing",))
        stage = world.on(forge=forge).stage
        stage.deliver()
        assert stage.state is State.AWAITING_MERGE


# --- reviews ---


def test_a_review_counts_on_exactly_the_commit_that_was_reviewed(world: World) -> None:
    stage = world.on(by_review=True).stage
    request = offer_for_review(stage.repository, stage.proposal, stage.route, LATER)
    commit = make_offered_commit(stage.repository, stage.proposal, stage.route)
    assert (request.head, stage.head(stage.name), stage.head()) == (commit, commit, stage.proposal.base)
    again = offer_for_review(stage.repository, stage.proposal, stage.route, LATER)
    assert (again.number, world.pull_requests) == (request.number, 1)
    assert world.forge.reviews(request.number) == ()
    world.review("alice")
    (said,) = world.forge.reviews(request.number)
    assert (said.login, said.commit, said.approves) == ("alice", commit, True)


def test_a_later_word_takes_the_earlier_ones_place(scripted: World) -> None:
    stage = scripted.on(by_review=True).stage
    offer_for_review(stage.repository, stage.proposal, stage.route, LATER)
    scripted.review("alice")
    if scripted.server.kind == "gitlab":  # it keeps no earlier word: an approval is there or not
        assert [said.approves for said in scripted.forge.reviews(1)] == [True]
        scripted.server.request(1).reviews.clear()
        assert scripted.forge.reviews(1) == ()
        return
    scripted.review("alice", approves=False)
    (said,) = scripted.forge.reviews(1)
    assert said.approves is False


def test_a_review_of_an_earlier_commit_does_not_count(scripted: World) -> None:
    stage = scripted.on(by_review=True).stage
    offer_for_review(stage.repository, stage.proposal, stage.route, LATER)
    commit = make_offered_commit(stage.repository, stage.proposal, stage.route)
    foreign(scripted, stage.name)
    scripted.review("alice")
    (said,) = scripted.forge.reviews(1)
    assert not (said.approves and said.commit == commit)


def test_a_project_that_may_only_be_read_is_named(asked: tuple[AnyForge, ScriptedForge]) -> None:
    forge, server = asked
    assert "may be read and written" in forge.check()
    server.may_write = False
    with pytest.raises(SourceRefused, match="may read it, not write"):
        forge.check()
    wrong = open_forge(server.kind, server.url, f"{OWNER}/{NAME}", "another")
    with pytest.raises(SourceRefused, match="token is not accepted"):
        wrong.check()


def test_every_failure_is_one_of_the_product(asked: tuple[AnyForge, ScriptedForge]) -> None:
    _, server = asked
    for fault in ("answer", "cut", "drip"):
        server.faults.append(Fault("GET", "", status=500, how=fault, times=9))
        impatient = open_forge(server.kind, server.url, f"{OWNER}/{NAME}", TOKEN, timeout_seconds=0.2)
        with pytest.raises(AdvisorError):
            impatient.find("x", "main")
        server.faults.clear()
