"""Whatever is wrong around the advisor ends in one clear line, a documented exit code, and nothing half-done.

Each case goes through the real command, as a process, over a real Prometheus and a real git repository. After each
one the records must still be readable, the remote must be as it was, and no temporary file may be left.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor.cli.base import answer as _answer
from advisor.errors import ApprovalExpired
from advisor.evidence import Series
from advisor.settings import load_settings
from advisor.workflow import Workflow
from tests.support.prometheus import free_port, prometheus_serving, require_programs
from tests.support.shop import (
    ALICE,
    BAD,
    BOB,
    GOOD,
    PATH,
    TIMEOUT,
    Answer,
    Shop,
    answering_server,
    fast_import,
    finish,
    git,
    incident_series,
    log_lines,
    open_shop,
    plant,
    silent_server,
)

pytestmark = pytest.mark.real

MALLORY = "mallory@example.org"
ENGINE = "engine"  # proposes, so it may not approve even where the settings list it
DEADLINE_SECONDS = 2
START_SECONDS_MAX = 15  # of a process on a loaded machine, above the deadline of what it does
REPORT_KEYS = {
    "schema",
    "incident",
    "coverage",
    "evidence",
    "hypotheses",
    "diagnosis",
    "proposals",
    "rejected_remedies",
    "verification",
    "usage",
}


# --- the shop, investigated once ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prometheus() -> Iterator[tuple[str, datetime]]:
    """Serve the incident, and the same with samples that are no numbers; also return its end."""
    require_programs("prometheus", "promtool", "git")
    end = datetime.now(UTC).replace(microsecond=0)
    series = incident_series(end)
    series += [_spoiled(s, every=3) for s in incident_series(end, "odd")]
    series += [_spoiled(s, every=1) for s in incident_series(end, "void")]
    with prometheus_serving(series) as url:
        yield url, end


def _spoiled(series: Series, every: int) -> Series:
    """Return a series of which each third (or each) sample is NaN or infinite; the check of values is passed by."""
    odd = (math.nan, math.inf, -math.inf)
    values = tuple(odd[i // every % 3] if i % every == 0 else v for i, v in enumerate(series.values))
    return Series.model_construct(name=series.name, labels=series.labels, times=series.times, values=values)


@pytest.fixture(scope="module")
def fresh(prometheus: tuple[str, datetime], tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Return a shop that nobody asked anything yet. Take copies."""
    url, end = prometheus
    shop = open_shop(tmp_path_factory.mktemp("fresh") / "shop", end, url)
    shop.set(approval={"approvers": [ALICE, BOB, ENGINE]})
    return shop


@dataclass(frozen=True)
class Investigated:
    """A shop with one investigation and its proposal on record. Take copies."""

    shop: Shop
    report: dict[str, Any]

    @property
    def incident(self) -> str:
        return str(self.report["incident"]["id"])

    @property
    def proposal(self) -> str:
        return str(self.report["proposals"][0]["id"])


@pytest.fixture(scope="module")
def investigated(fresh: Shop, tmp_path_factory: pytest.TempPathFactory) -> Investigated:
    shop = fresh.copy(tmp_path_factory.mktemp("investigated") / "shop")
    answer = shop.investigate()
    assert answer.code == 0, answer.err
    assert answer.json["diagnosis"]["cause"]["key"] == TIMEOUT
    return Investigated(shop, answer.json)


@pytest.fixture(scope="module")
def changed(investigated: Investigated, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, str]:
    """Return a shop whose proposal was approved and delivered, and the change."""
    shop = investigated.shop.copy(tmp_path_factory.mktemp("changed") / "shop")
    answer = shop.ask("approve", investigated.proposal, "--as", ALICE, "--yes")
    assert answer.code == 0 and answer.err == "", answer.err
    kept = records(shop)
    change = kept.changes()[0][0].id
    kept.store.close()  # else its journal may go while somebody copies the folder
    return shop, change


def records(shop: Shop) -> Workflow:
    return Workflow(load_settings(shop.folder / "advisor.yaml"))


def check_whole(shop: Shop, head: str, proposals: int = 0) -> None:
    """Check that nothing was lost, written or left behind."""
    assert shop.head() == head
    assert shop.temporary() == []
    kept = records(shop)
    assert kept.audit_verify().entries >= 0
    assert len(kept.proposals()) == proposals
    assert all(p.suffix == ".jsonl" for p in (shop.folder / ".advisor").glob("tapes/*"))
    git(shop.remote, "fsck", "--no-dangling")


def together(*processes: subprocess.Popen[str]) -> list[Answer]:
    """Return how commands ended that run side by side."""
    return [finish(process) for process in processes]


# --- cases side by side ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Run commands side by side: most of a case is waiting for a process."""
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as threads:
        yield threads


def _selected(request: pytest.FixtureRequest, function: str) -> set[str]:
    """Return which cases of a test will run, so that one alone does not wait for the others."""
    return {
        item.callspec.params["case"].name
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == function
    }


@dataclass(frozen=True)
class World:
    """What a story begins with, and a folder of its own."""

    fresh: Shop
    investigated: Investigated
    changed: tuple[Shop, str]
    folder: Path


STORIES: dict[str, Callable[[World], None]] = {}


def scenario(story: Callable[[World], None]) -> Callable[[World], None]:
    """Let a story of several commands be told beside the others; each is a test by its name."""
    STORIES[story.__name__] = story
    return story


# --- settings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One thing that is wrong, and what must come of it."""

    name: str
    code: int
    told: tuple[str, ...]
    text: bytes = b""
    arguments: tuple[str, ...] = ("incidents",)


def _ids(cases: tuple[Any, ...]) -> list[str]:
    return [case.name for case in cases]


SETTINGS = (
    Case("unknown key", 2, ("advisor.yaml", "colour", "unknown key"), b"colour: red\n"),
    Case("unknown nested key", 2, ("limits.deadline", "unknown key"), b"limits: {deadline: 3}\n"),
    Case("number wanted", 2, ("limits.deadline_seconds", "'soon'"), b"limits: {deadline_seconds: soon}\n"),
    Case("list wanted", 2, ("approval.approvers", "3"), b"approval: {approvers: 3}\n"),
    Case("mapping wanted", 2, ("services", "dictionary"), b"services: [checkout]\n"),
    Case("below the range", 2, ("expires_minutes",), b"approval: {expires_minutes: 0}\n"),
    Case("not a number", 2, ("deadline_seconds",), b"limits: {deadline_seconds: .nan}\n"),
    Case("broken yaml", 2, ("advisor.yaml", "YAML"), b"services: {checkout: [\n"),
    Case("a list", 2, ("advisor.yaml", "mapping"), b"- a\n"),
    Case("not text", 2, ("advisor.yaml", "cannot be read"), b"\xff\xfe\x00a"),
    Case("too large", 2, ("advisor.yaml", "larger than"), b"# " + b"x" * (2 * 1024 * 1024)),
    Case(
        "billion laughs",
        2,
        ("advisor.yaml",),
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
    ),
    Case("unknown store", 2, ("store", "mongodb"), b"store: mongodb://127.0.0.1/x\n"),
    Case("password in url", 2, ("prometheus", "password"), b"prometheus: {url: 'http://a:b@127.0.0.1/'}\n"),
    Case("selector that is none", 2, ("selector", "matchers"), b"services: {a: {selector: 'job=checkout'}}\n"),
    Case("two queries in a selector", 2, ("selector",), b'services: {a: {selector: \'job="a"} or {job="b"\'}}\n'),
    Case("service not configured", 2, ("nope", "not configured", "services:"), b"", ("investigate", "nope")),
    Case(
        "secret not set",
        2,
        ("NO_SUCH_TOKEN", "not set"),
        b"prometheus: {url: 'http://127.0.0.1:1', bearer_token_env: NO_SUCH_TOKEN}\nservices: {a: {selector: 'a=\"b\"'}}",
        ("investigate", "a"),
    ),
)


@pytest.fixture(scope="module")
def settings_answers(
    request: pytest.FixtureRequest, pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Future[tuple[Answer, list[str]]]]:
    folder = tmp_path_factory.mktemp("settings")

    def ask(case: Case) -> tuple[Answer, list[str]]:
        place = folder / case.name
        (place / "tmp").mkdir(parents=True)
        (place / "advisor.yaml").write_bytes(case.text)
        answer = Shop(place, datetime.now(UTC)).ask(*case.arguments)
        return answer, sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file())

    wanted = _selected(request, "test_wrong_settings_are_named_and_nothing_is_begun")
    return {case.name: pool.submit(ask, case) for case in SETTINGS if case.name in wanted}


@pytest.mark.parametrize("case", SETTINGS, ids=_ids(SETTINGS))
def test_wrong_settings_are_named_and_nothing_is_begun(
    case: Case, settings_answers: dict[str, Future[tuple[Answer, list[str]]]]
) -> None:
    answer, left = settings_answers[case.name].result()
    assert answer.code == case.code, answer.err
    for told in case.told:
        assert told in answer.line
    assert answer.out == "" and set(left) <= {"advisor.yaml", ".advisor/signing.key"}


# --- sources -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One source that is wrong: how to make it so, and what its coverage must say.

    Attributes:
        prepare: Spoils a copy of the shop; a context is entered for as long as the command runs.
        outcome: Of the diagnosis.
        source: Which one; None where nothing is said of coverage.
        status: How it must have ended.
        told: Words of its reason.
        warned: Words of the warnings.
    """

    name: str
    prepare: Callable[[Shop], contextlib.AbstractContextManager[Any] | None]
    outcome: str
    source: str = "metrics"
    status: str = "unavailable"
    told: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    seconds_max: float = START_SECONDS_MAX


def _closed(shop: Shop) -> None:
    shop.set(prometheus={"url": f"http://127.0.0.1:{free_port()}"})


@contextlib.contextmanager
def _silent(shop: Shop) -> Iterator[None]:
    with silent_server() as server:
        shop.set(
            prometheus={"url": server.url, "read_timeout_seconds": 300}, limits={"deadline_seconds": DEADLINE_SECONDS}
        )
        yield


def _answering(status: int, body: bytes, kind: str = "text/plain", **headers: str) -> Callable[[Shop], Any]:
    @contextlib.contextmanager
    def prepare(shop: Shop) -> Iterator[None]:
        with answering_server(status, body, {"Content-Type": kind, **headers}) as url:
            shop.set(prometheus={"url": url})
            yield

    return prepare


def _selector(matchers: str) -> Callable[[Shop], None]:
    return lambda shop: shop.set_service(selector=matchers)


METRICS = (
    Source("closed", _closed, "inconclusive", told=("127.0.0.1", "refused")),
    Source("silent", _silent, "inconclusive", told=("within 2 s",), seconds_max=DEADLINE_SECONDS + START_SECONDS_MAX),
    Source("401", _answering(401, b"no"), "inconclusive", told=("401", "prometheus.")),
    Source("503", _answering(503, b"busy"), "inconclusive", told=("503",)),
    Source(
        "html",
        _answering(200, b"<html><title>Sign in</title>", "text/html"),
        "inconclusive",
        told=("HTML", "prometheus.url"),
    ),
    Source("nothing matches", _selector('job="nobody"'), "inconclusive", status="empty", told=("selector", "nobody")),
    Source("wrong promql", _selector('job=~"("'), "inconclusive", told=("400", "selector")),
    Source("some samples are no numbers", _selector('job="odd"'), "diagnosed", status="ok"),
    Source("no sample is a number", _selector('job="void"'), "inconclusive", status="empty", told=("NaN",)),
)


def _no_repository(shop: Shop) -> None:
    shop.set(repositories={"config": {"url": "./gone.git"}})


def _empty_repository(shop: Shop) -> None:
    git(shop.folder, "init", "-q", "--bare", "-b", "main", "empty.git")
    shop.set(repositories={"config": {"url": "./empty.git"}})


def _no_branch(shop: Shop) -> None:
    shop.set(repositories={"config": {"url": "./remote.git", "branch": "live"}})


def _shallow(shop: Shop) -> None:
    git(shop.folder, "clone", "-q", "--bare", "--depth=1", shop.remote.as_uri(), "cut.git")
    shop.set(repositories={"config": {"url": "./cut.git"}})


def _unreadable_files(shop: Shop) -> None:
    line = b"key_of_a_very_long_file: value\n"
    edits: dict[str, bytes | None] = {
        "apps/checkout/broken.yaml": b"a: [1, {\n\t- x: 'y\n",
        "apps/checkout/binary.yaml": random.Random(1).randbytes(4000),
        "apps/checkout/large.yaml": line * (50 * 1024 * 1024 // len(line)),
    }
    fast_import(shop.remote, edits, at=shop.until + timedelta(minutes=20))


def _links_and_a_submodule(shop: Shop) -> None:
    at = shop.until - timedelta(minutes=40)
    (shop.folder / "secret.yaml").write_text("password: swordfish\n")
    plant(shop.remote, "120000", "apps/checkout/outside.yaml", b"../../../../../etc/passwd", at)
    plant(shop.remote, "120000", "apps/checkout/secret.yaml", str(shop.folder / "secret.yaml").encode(), at)
    module = b'[submodule "x"]\n\tpath = apps/checkout/x\n\turl = https://127.0.0.1:1/x.git\n'
    fast_import(shop.remote, {".gitmodules": module}, at=at + timedelta(hours=1))
    plant(shop.remote, "160000", "apps/checkout/x", shop.head().encode(), at)


REPOSITORIES = (
    Source("missing", _no_repository, "inconclusive", "changes", told=("gone.git", "no repository", "url")),
    Source("empty", _empty_repository, "inconclusive", "changes", told=("no commits",)),
    Source("no branch", _no_branch, "inconclusive", "changes", told=("live", "main", "branch")),
    Source("shallow", _shallow, "inconclusive", "changes", "ok", warned=("cut",)),
    Source(
        "files that cannot be read",
        _unreadable_files,
        "diagnosed",
        "changes",
        "ok",
        warned=("broken.yaml: line 2", "binary.yaml: binary", "large.yaml: not read"),
    ),
    Source(
        "links and a submodule",
        _links_and_a_submodule,
        "diagnosed",
        "changes",
        "ok",
        warned=("outside.yaml: a symbolic link", "secret.yaml: a symbolic link", "x: a submodule"),
    ),
)


def _log(write: Callable[[Path, Shop], Any]) -> Callable[[Shop], None]:
    def prepare(shop: Shop) -> None:
        path = shop.folder / "logs" / "checkout.log"
        path.unlink()
        write(path, shop)

    return prepare


def _long_line(path: Path, shop: Shop) -> None:
    lines = log_lines(shop.until)
    lines.insert(3, lines[3].rstrip("\n") + "x" * 10_000_000 + "\n")
    path.write_text("".join(lines))


LOGS = (
    Source("folder", _log(lambda p, _: p.mkdir()), "diagnosed", "logs", told=("checkout.log", "directory")),
    Source(
        "broken gzip",
        _log(
            lambda p, s: p.with_suffix(".log.gz").write_bytes(
                gzip.compress("".join(log_lines(s.until)).encode())[:-20] + b"\x00" * 40
            )
        ),
        "diagnosed",
        "logs",
        "empty",
        told=("gz",),
    ),
    Source("empty log", _log(lambda p, _: p.touch()), "diagnosed", "logs", "empty"),
    Source(
        "utf-16",
        _log(lambda p, s: p.write_bytes("".join(log_lines(s.until)).encode("utf-16"))),
        "diagnosed",
        "logs",
        "ok",
    ),
    Source(
        "latin-1",
        _log(lambda p, s: p.write_bytes("".join(log_lines(s.until)).replace("saved", "größer").encode("latin-1"))),
        "diagnosed",
        "logs",
        "ok",
    ),
    Source(
        "no times",
        _log(lambda p, s: p.write_text("".join(log_lines(s.until, stamped=False)))),
        "diagnosed",
        "logs",
        "empty",
        told=("time",),
    ),
    Source("a line of 10 MB", _log(_long_line), "diagnosed", "logs", "ok"),
)
SOURCES = METRICS + REPOSITORIES + LOGS


@dataclass(frozen=True)
class Found:
    """What came of an investigation with a spoiled source."""

    answer: Answer
    shop: Shop
    head: str
    seconds: float


@pytest.fixture(scope="module")
def source_answers(
    request: pytest.FixtureRequest, pool: ThreadPoolExecutor, fresh: Shop, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Future[Found]]:
    folder = tmp_path_factory.mktemp("sources")

    def ask(case: Source) -> Found:
        shop = fresh.copy(folder / case.name)
        with case.prepare(shop) or contextlib.nullcontext():
            head = shop.head()
            began = time.monotonic()
            answer = shop.investigate()
            return Found(answer, shop, head, time.monotonic() - began)

    wanted = _selected(request, "test_a_spoiled_source_is_said_to_be_so_and_the_report_is_whole")
    return {case.name: pool.submit(ask, case) for case in SOURCES if case.name in wanted}


@pytest.mark.parametrize("case", SOURCES, ids=_ids(SOURCES))
def test_a_spoiled_source_is_said_to_be_so_and_the_report_is_whole(
    case: Source, source_answers: dict[str, Future[Found]]
) -> None:
    found = source_answers[case.name].result()
    answer = found.answer
    report = json.loads(answer.out, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert answer.err == "" and answer.code == {"diagnosed": 0, "healthy": 0, "inconclusive": 3}[case.outcome], (
        answer.err
    )
    assert found.seconds < case.seconds_max
    assert REPORT_KEYS <= set(report)
    assert report["diagnosis"]["outcome"] == case.outcome
    covered = {entry["source"]: entry for entry in report["coverage"]}
    assert set(covered) == {"metrics", "changes", "logs"}
    assert covered[case.source]["status"] == case.status
    for told in case.told:
        assert told in (covered[case.source]["reason"] or "")
    for warned in case.warned:
        assert warned in " ".join(report["diagnosis"]["warnings"])
    if case.source == "logs":  # the words of the error stand nowhere else
        assert ("java_heap_oom" in report["incident"]["symptoms"]) == (case.status == "ok")
    assert all(entry["reason"] for entry in report["coverage"] if entry["status"] != "ok")
    if any(entry["required"] and entry["status"] != "ok" for entry in report["coverage"]):
        assert case.outcome == "inconclusive" and report["proposals"] == []
        assert all(h["probability"] <= 0.5 for h in report["hypotheses"])
        assert any(case.source in w for w in report["diagnosis"]["warnings"])
    check_whole(found.shop, found.head, len(report["proposals"]))
    assert records(found.shop).incident(report["incident"]["id"]) == report
    assert "swordfish" not in answer.out + answer.err and "root:" not in answer.out


@scenario
def a_rewritten_history_is_followed_and_the_old_proposal_refused(world: World) -> None:
    investigated = world.investigated
    shop = investigated.shop.copy(world.folder / "shop")
    git(shop.remote, "update-ref", "-d", "refs/heads/main")
    fast_import(shop.remote, {PATH: GOOD.replace(b"8080", b"8081")}, at=shop.until - timedelta(days=2))
    head = fast_import(shop.remote, {PATH: BAD.replace(b"8080", b"8081")}, at=shop.until + timedelta(minutes=30))
    refused = shop.ask("approve", investigated.proposal, "--as", ALICE, "--yes")
    assert refused.code == 4 and "moved" in refused.line and "advisor investigate" in refused.line
    again = shop.investigate()
    assert again.code == 0 and again.json["diagnosis"]["cause"]["commit"] == head
    assert "rewritten" in " ".join(again.json["diagnosis"]["warnings"])
    check_whole(shop, head, proposals=2)


# --- arguments ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Busy:
    """A shop with two of everything: two incidents, a change, and its rollback."""

    shop: Shop
    bundles: Path


@pytest.fixture(scope="module")
def busy(changed: tuple[Shop, str], tmp_path_factory: pytest.TempPathFactory) -> Busy:
    shop = changed[0].copy(tmp_path_factory.mktemp("busy") / "shop")
    answer = shop.ask("rollback", changed[1], "--as", ALICE)
    assert answer.code == 0 and answer.err == "", answer.err
    assert shop.text() == BAD.decode()
    assert shop.investigate().code in (0, 3)
    folder = shop.folder / "bundles"
    folder.mkdir()
    recorded = min(Path(__file__).parent.parent.glob("playbooks/*/cases/*/*.bundle.zip"))
    whole = recorded.read_bytes()
    (folder / "text.zip").write_text("this is no zip file")
    (folder / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (folder / "folder.zip").mkdir()
    for name, member, change in (
        ("schema.zip", "manifest.json", lambda b: b.replace(b"advisor.bundle/v1", b"advisor.bundle/v9")),
        ("manifest.zip", "manifest.json", lambda b: b'{"schema":"advisor.bundle/v1"}'),
        ("tape.zip", "tape.jsonl", lambda b: b'{"source": 3}\n'),
        ("empty_tape.zip", "tape.jsonl", lambda b: b""),
        ("outside.zip", "report.json", None),
    ):
        with zipfile.ZipFile(recorded) as old, zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                data = old.read(entry)
                new.writestr(entry.filename, change(data) if change and entry.filename == member else data)
            if change is None:
                new.writestr("repositories/config/../../../outside", b"x")
    return Busy(shop, folder)


def _asked(name: str, code: int, told: str, *arguments: str) -> Case:
    return Case(name, code, (told,), arguments=arguments)


ARGUMENTS = (
    _asked("at after until", 2, "after --until", "investigate", "checkout", "--at", "1h", "--until", "2h"),
    _asked("garbage at", 2, "not understood", "investigate", "checkout", "--at", "around noon"),
    _asked("garbage until", 2, "not understood", "investigate", "checkout", "--until", "\x1b[2J32nd of May"),
    _asked(
        "time before all times", 2, "not understood", "investigate", "checkout", "--at", "0001-01-01T00:00:00+14:00"
    ),
    _asked("number beyond all times", 2, "not understood", "investigate", "checkout", "--until", "9" * 400),
    _asked("age beyond all times", 2, "not understood", "investigate", "checkout", "--until", "99999999999d"),
    _asked("first day", 2, "not understood", "investigate", "checkout", "--until", "0001-01-01T00:00:00Z"),
    _asked("last day", 2, "not understood", "investigate", "checkout", "--until", "9999-12-31T23:59:59Z"),
    _asked("unknown service", 2, "known: checkout", "investigate", "chekout"),
    _asked("unknown incident", 2, "inc-nope", "show", "inc-nope"),
    _asked("ambiguous incident", 2, "not unique", "show", "inc-"),
    _asked("wildcard", 2, "'%'", "show", "%"),
    _asked("unknown proposal", 2, "pro-nope", "approve", "pro-nope", "--as", ALICE, "--yes"),
    _asked("ambiguous proposal", 2, "not unique", "approve", "pro-", "--as", ALICE, "--yes"),
    _asked("unknown change", 2, "chg-nope", "rollback", "chg-nope", "--as", ALICE),
    _asked("ambiguous change", 2, "not unique", "rollback", "chg-", "--as", ALICE),
    _asked("no zip", 2, "text.zip: not a bundle", "replay", "bundles/text.zip"),
    _asked("half a zip", 2, "cut.zip: not a bundle", "replay", "bundles/cut.zip"),
    _asked("a folder", 2, "folder.zip: cannot be read", "replay", "bundles/folder.zip"),
    _asked("no bundle", 2, "none.zip: cannot be read", "replay", "bundles/none.zip"),
    _asked("other schema", 2, "not a bundle of schema advisor.bundle/v1", "replay", "bundles/schema.zip"),
    _asked("no manifest", 2, "manifest is not complete", "replay", "bundles/manifest.zip"),
    _asked("broken tape", 2, "tape line 1", "replay", "bundles/tape.zip"),
    _asked("member outside", 2, "unexpected member", "replay", "bundles/outside.zip"),
)


@pytest.fixture(scope="module")
def argument_answers(request: pytest.FixtureRequest, pool: ThreadPoolExecutor, busy: Busy) -> dict[str, Future[Answer]]:
    wanted = _selected(request, "test_a_wrong_argument_is_named_and_nothing_is_begun")
    return {case.name: pool.submit(busy.shop.ask, *case.arguments) for case in ARGUMENTS if case.name in wanted}


@pytest.mark.parametrize("case", ARGUMENTS, ids=_ids(ARGUMENTS))
def test_a_wrong_argument_is_named_and_nothing_is_begun(
    case: Case, argument_answers: dict[str, Future[Answer]], busy: Busy
) -> None:
    answer = argument_answers[case.name].result()
    assert answer.code == case.code, answer.err
    assert all(told in answer.line for told in case.told)
    assert answer.out == ""


def test_after_all_wrong_arguments_the_records_are_as_they_were(
    argument_answers: dict[str, Future[Answer]], busy: Busy
) -> None:
    for answer in argument_answers.values():
        answer.result()
    kept = records(busy.shop)
    assert [state for _, state in kept.changes()] == ["delivered", "rolled_back"]
    assert len(kept.incidents()) == 2 and busy.shop.commits() == 4
    assert not list(busy.shop.folder.glob("*.zip"))
    check_whole(busy.shop, busy.shop.head(), proposals=len(kept.proposals()))


def test_a_bundle_without_its_answers_replays_to_no_diagnosis(busy: Busy) -> None:
    answer = busy.shop.ask("replay", "bundles/empty_tape.zip", "--json")
    assert answer.code == 3 and answer.err == ""
    assert {entry["status"] for entry in answer.json["coverage"]} == {"unavailable"}
    assert answer.json["proposals"] == [] and busy.shop.temporary() == []


# --- the gate ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """An answer that must not be taken: how it comes about, and what is said.

    Attributes:
        prepare: Changes a copy of the shop before.
        arguments: Of the command; PROPOSAL stands for the proposal's id.
        state: Of the proposal afterwards.
    """

    name: str
    prepare: Callable[[Shop], Any]
    arguments: tuple[str, ...]
    code: int
    told: str
    state: str = "proposed"


def _move(shop: Shop) -> None:
    fast_import(shop.remote, {"README": b"x\n"})


def _decline(shop: Shop) -> None:
    hook(shop, "echo 'frozen until Monday' >&2; exit 1")


def hook(shop: Shop, script: str) -> None:
    """Let the remote run a script before it takes anything."""
    path = shop.remote / "hooks" / "pre-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _stricter(shop: Shop) -> None:
    shop.set(approval={"expires_minutes": 5})


def _nothing(_: Shop) -> None:
    pass


def _approve(*more: str) -> tuple[str, ...]:
    return ("approve", "PROPOSAL", "--yes", *more)


REFUSALS = (
    Refusal("nobody", _nothing, _approve(), 4, "--as"),
    Refusal("blank", _nothing, _approve("--as", "  "), 4, "--as"),
    Refusal("not an approver", _nothing, _approve("--as", MALLORY), 4, MALLORY),
    Refusal("an approver in disguise", _nothing, _approve("--as", "alic\u0435@example.org"), 4, "not among"),
    Refusal("the proposer", _nothing, _approve("--as", ENGINE), 4, "propose"),
    Refusal("not said yes", _nothing, ("approve", "PROPOSAL", "--as", ALICE), 2, "--yes"),
    Refusal("another digest", _nothing, _approve("--as", ALICE, "--digest", "sha256:00000000"), 4, "digest"),
    Refusal("denied by nobody", _nothing, ("deny", "PROPOSAL", "--reason", "no"), 4, "--as"),
    Refusal("denied by a stranger", _nothing, ("deny", "PROPOSAL", "--reason", "no", "--as", MALLORY), 4, MALLORY),
    Refusal("base moved", _move, _approve("--as", ALICE), 4, "moved", "superseded"),
    Refusal("rules changed", _stricter, _approve("--as", ALICE), 4, "rules"),
    Refusal("declined by the remote", _decline, _approve("--as", ALICE), 4, "frozen until Monday", "refused"),
    Refusal(
        "remote gone",
        lambda shop: shop.remote.rename(shop.folder / "elsewhere.git"),
        _approve("--as", ALICE),
        1,
        "no repository",
    ),
)


@dataclass(frozen=True)
class Refused:
    """What came of an answer that must not be taken."""

    answer: Answer
    shop: Shop
    head: str


@pytest.fixture(scope="module")
def refusals(
    request: pytest.FixtureRequest,
    pool: ThreadPoolExecutor,
    investigated: Investigated,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Future[Refused]]:
    folder = tmp_path_factory.mktemp("refusals")

    def ask(case: Refusal) -> Refused:
        shop = investigated.shop.copy(folder / case.name)
        case.prepare(shop)
        head = shop.head() if shop.remote.exists() else ""
        arguments = [investigated.proposal if a == "PROPOSAL" else a for a in case.arguments]
        return Refused(shop.ask(*arguments), shop, head)

    wanted = _selected(request, "test_an_answer_that_is_not_allowed_changes_nothing")
    return {case.name: pool.submit(ask, case) for case in REFUSALS if case.name in wanted}


@pytest.mark.parametrize("case", REFUSALS, ids=_ids(REFUSALS))
def test_an_answer_that_is_not_allowed_changes_nothing(
    case: Refusal, refusals: dict[str, Future[Refused]], investigated: Investigated
) -> None:
    refused = refusals[case.name].result()
    assert refused.answer.code == case.code, refused.answer.err
    assert case.told in refused.answer.line
    shop = refused.shop
    if not refused.head:
        (shop.folder / "elsewhere.git").rename(shop.remote)
    check_whole(shop, refused.head or investigated.shop.head(), proposals=1)
    assert records(shop).proposal(investigated.proposal)[1] == case.state
    assert [state for _, state in records(shop).changes()] == (["refused"] if case.state == "refused" else [])


@scenario
def a_second_answer_changes_nothing(world: World) -> None:
    changed = world.changed
    investigated = world.investigated
    shop = changed[0].copy(world.folder / "shop")
    head = shop.head()
    for answer in together(
        shop.start("approve", investigated.proposal, "--as", BOB, "--yes"),
        shop.start("deny", investigated.proposal, "--as", BOB, "--reason", "too late"),
    ):
        assert answer.code == 4 and "was approved by" in answer.line
    check_whole(shop, head, proposals=1)
    assert shop.commits() == 3


def test_a_proposal_that_was_answered_too_late_changes_nothing(
    investigated: Investigated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = investigated.shop.copy(tmp_path / "shop")
    head = shop.head()
    expires = records(shop).proposal(investigated.proposal)[0].expires_at
    late = Workflow(load_settings(shop.folder / "advisor.yaml"), clock=lambda: expires)
    with pytest.raises(ApprovalExpired) as refused:
        late.approve(investigated.proposal, ALICE)
    assert _answer(refused.value) == 4
    said = Answer(4, "", capsys.readouterr().err).line
    assert "ran out" in said and "a fresh proposal is needed" in said
    assert late.proposal(investigated.proposal)[1] == "expired"
    again = shop.ask("approve", investigated.proposal, "--as", ALICE, "--yes")
    assert again.code == 4 and "left to run out" in again.line
    check_whole(shop, head, proposals=1)


# --- places that cannot be written -------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 2 MB."""
    place = folder / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("the right to mount a small tmpfs (root)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(place: Path) -> Path:
    """Leave no block free, and return the file to remove."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


@scenario
def a_full_disk_under_the_store_loses_nothing(world: World) -> None:
    investigated = world.investigated
    with small_disk(world.folder) as disk:
        shop = investigated.shop.copy(world.folder / "shop")
        for path in shop.folder.glob("advisor.db*"):
            shutil.move(path, disk / path.name)
        shop.set(store=f"sqlite:///{disk / 'advisor.db'}")
        head = shop.head()
        filler = fill(disk)
        for answer in together(
            shop.start("investigate", "checkout", "--json"),
            shop.start("approve", investigated.proposal, "--as", ALICE, "--yes"),
        ):
            assert answer.code == 1 and "disk" in answer.line and "advisor.db" in answer.line
        filler.unlink()
        check_whole(shop, head, proposals=1)
        assert [i["id"] for i in records(shop).incidents()] == [investigated.incident]
        assert shop.ask("approve", investigated.proposal, "--as", ALICE, "--yes").code == 0


@scenario
def a_limit_on_file_sizes_loses_nothing(world: World) -> None:
    investigated = world.investigated
    shop = investigated.shop.copy(world.folder / "shop")
    head = shop.head()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    approved, exported = together(
        shop.start("approve", investigated.proposal, "--as", ALICE, "--yes", preexec_fn=limit),
        shop.start("export", investigated.incident, "-o", "out.zip", preexec_fn=limit),
    )
    assert approved.code == 1 and "disk" in approved.line
    assert exported.code in (1, 2) and ("File too large" in exported.line or "disk" in exported.line)
    assert not list(shop.folder.glob("out.zip*"))
    check_whole(shop, head, proposals=1)


@scenario
def a_full_disk_under_the_state_directory_loses_nothing(world: World) -> None:
    fresh = world.fresh
    with small_disk(world.folder) as disk:
        shop = fresh.copy(world.folder / "shop")
        shop.set(state_directory=str(disk / "state"))
        head = shop.head()
        answer = shop.ask("incidents")
        assert answer.code == 0
        filler = fill(disk)
        answer = shop.investigate()
        assert answer.code == 3, answer.err
        changes = next(e for e in answer.json["coverage"] if e["source"] == "changes")
        assert changes["status"] == "unavailable" and "disk is full" in changes["reason"]
        assert answer.err == "" and "cannot be exported" in " ".join(answer.json["diagnosis"]["warnings"])
        assert not [p for p in (disk / "state").rglob("*.jsonl*") if p.is_file()]
        filler.unlink()
        check_whole(shop, head)
        assert shop.investigate().code == 0


@scenario
def an_export_onto_a_full_disk_leaves_no_half_file(world: World) -> None:
    shop = world.investigated.shop.copy(world.folder / "shop")
    with small_disk(world.folder) as disk:
        fill(disk)
        answer = shop.ask("export", world.investigated.incident, "-o", str(disk / "one.zip"))
        assert answer.code in (1, 2) and "one.zip" in answer.line and "No space left" in answer.line
        assert sorted(p.name for p in disk.iterdir()) == ["filler"]
    assert shop.temporary() == []


@scenario
def an_export_into_no_folder_is_one_line(world: World) -> None:
    shop = world.investigated.shop.copy(world.folder / "shop")
    answer = shop.ask("export", world.investigated.incident, "-o", "no/such/folder/one.zip")
    assert answer.code == 2 and "one.zip" in answer.line and "No such file" in answer.line
    assert shop.temporary() == []


@scenario
def a_state_directory_that_is_read_only_loses_nothing(world: World) -> None:
    investigated = world.investigated
    with small_disk(world.folder) as disk:
        shop = investigated.shop.copy(world.folder / "shop")
        head = shop.head()
        shutil.copytree(shop.folder / ".advisor", disk / "state")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        shop.set(state_directory=str(disk / "state"))
        read, refused = together(
            shop.start("investigate", "checkout", "--until", shop.until.isoformat(), "--json"),
            shop.start("approve", investigated.proposal, "--as", ALICE, "--yes"),
        )
        assert read.code == 0 and read.err == "", read.err
        warnings = " ".join(read.json["diagnosis"]["warnings"])
        for told in ("state_directory", "not proposed", "cannot be exported"):
            assert told in warnings
        assert refused.code == 1 and "state_directory" in refused.line
        check_whole(shop, head, proposals=1)
        shop.set(state_directory=str(disk / "new"))
        other = shop.ask("incidents")
        assert other.code == 2 and "state_directory" in other.line and "Read-only" in other.line
        shop.set(state_directory=".advisor")
        assert shop.ask("approve", investigated.proposal, "--as", ALICE, "--yes").code == 0
        assert shop.commits() == 3


@scenario
def a_store_that_is_none_of_ours_is_left_alone(world: World) -> None:
    investigated = world.investigated
    spoilt: tuple[tuple[str, Callable[[Path], Any], str], ...] = (
        ("no database", lambda path: path.write_bytes(b"this is no database" * 1000), "not a database"),
        ("newer", lambda path: _execute(path, "UPDATE advisor_meta SET value = '999'"), "use a newer advisor"),
        ("another", lambda path: _execute(path, "DROP TABLE advisor_meta"), "a database of something else"),
    )
    shops = [investigated.shop.copy(world.folder / name) for name, _, _ in spoilt]
    before = []
    for shop, (_, spoil, _) in zip(shops, spoilt, strict=True):
        spoil(shop.folder / "advisor.db")
        before.append((shop.folder / "advisor.db").read_bytes())
    command = ("approve", investigated.proposal, "--as", ALICE, "--yes")
    answers = together(*(shop.start(*command) for shop in shops))
    for shop, (_, _, told), answer, stored in zip(shops, spoilt, answers, before, strict=True):
        assert answer.code == 1 and told in answer.line and answer.out == ""
        assert (shop.folder / "advisor.db").read_bytes() == stored and shop.commits() == 2


def _execute(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


# --- stopped by a person -----------------------------------------------------------------------------------------------


def stop(process: subprocess.Popen[str]) -> Answer:
    """Press Ctrl-C: the signal goes to the whole process group, as a terminal sends it."""
    os.killpg(process.pid, signal.SIGINT)
    return finish(process)


@scenario
def stopped_while_gathering_nothing_was_changed(world: World) -> None:
    fresh = world.fresh
    shop = fresh.copy(world.folder / "shop")
    with silent_server() as server:
        shop.set(prometheus={"url": server.url, "read_timeout_seconds": 60})
        process = shop.start("investigate", "checkout", "--json")
        with server.await_question():
            answer = stop(process)
    assert answer.code == 130 and answer.line == "advisor: stopped; nothing was changed" and answer.out == ""
    check_whole(shop, fresh.head())
    assert records(shop).incidents() == []
    shop.set(prometheus={"url": fresh.settings["prometheus"]["url"]})
    assert shop.investigate().code == 0  # nothing that was left lies in the way


SLOW = 'touch "$PWD/../began"; sleep 1.5; touch "$PWD/../ended"'


def await_file(path: Path) -> None:
    ends_at = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < ends_at, f"{path.name} never came"
        time.sleep(0.01)


def settle(shop: Shop, *command: str) -> Answer:
    """Return the definite answer of a command; it may say for a while that it cannot be told."""
    for _ in range(4):
        answer = shop.ask(*command)
        if answer.code != 5:
            break
        time.sleep(1)
    return answer


@scenario
def stopped_while_approving_there_is_one_commit_or_none(world: World) -> None:
    investigated = world.investigated
    shop = investigated.shop.copy(world.folder / "shop")
    hook(shop, SLOW)
    process = shop.start("approve", investigated.proposal, "--as", ALICE, "--yes")
    await_file(shop.folder / "began")
    answer = stop(process)
    assert answer.code == 130 and "advisor changes" in answer.line
    assert shop.ask("changes", "--json").json[0]["state"] in ("delivering", "delivered")
    again = settle(shop, "approve", investigated.proposal, "--as", ALICE, "--yes")
    told = records(shop).changes()
    assert again.code == 0, again.err
    assert [state for _, state in told] == ["delivered"]
    assert shop.commits() == 3 and shop.text() == GOOD.decode() and shop.head() == told[0][0].commit
    check_whole(shop, told[0][0].commit, proposals=1)


@scenario
def stopped_while_rolling_back_there_is_one_commit_or_none(world: World) -> None:
    changed = world.changed
    shop = changed[0].copy(world.folder / "shop")
    hook(shop, SLOW)
    process = shop.start("rollback", changed[1], "--as", ALICE)
    await_file(shop.folder / "began")
    answer = stop(process)
    assert answer.code == 130 and "advisor changes" in answer.line
    stranger = shop.ask("rollback", changed[1], "--as", MALLORY)
    assert stranger.code == 4 and MALLORY in stranger.line
    again = settle(shop, "rollback", changed[1], "--as", ALICE)
    states = sorted(state for _, state in records(shop).changes())
    assert again.code in (0, 4), again.err
    assert states == ["delivered", "rolled_back"]
    assert shop.commits() == 4 and shop.text() == BAD.decode()
    check_whole(shop, shop.head(), proposals=2)


# --- all of these side by side -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(
    request: pytest.FixtureRequest,
    pool: ThreadPoolExecutor,
    fresh: Shop,
    investigated: Investigated,
    changed: tuple[Shop, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Future[None]]:
    wanted = [item.callspec.params["story"] for item in request.session.items if "story" in _parameters(item)]
    return {
        story: pool.submit(STORIES[story], World(fresh, investigated, changed, tmp_path_factory.mktemp("story")))
        for story in wanted
    }


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None or item.path != Path(__file__) else callspec.params


@pytest.mark.parametrize("story", STORIES)
def test_whatever_goes_wrong_a_definite_state_is_reached(story: str, told: dict[str, Future[None]]) -> None:
    told[story].result()
