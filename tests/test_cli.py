"""The command line as a person meets it: one loop over a real repository, exit codes, and one line for every error."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from advisor.cli import run
from advisor.cli.base import answer as _answer

MIB = 1024 * 1024
STEP = 10  # seconds between samples
ALICE = "alice@example.org"
KEY = "server.servlet.session.timeout"
GOOD = "# checkout\nserver:\n  servlet:\n    session:\n      timeout: 30m  # agreed with the shop\n  port: 8080\n"
HELP_SECONDS_MAX = 0.4  # of processor time: a loaded machine does not make the command slower
LAZY = ("git", "requests", "numpy", "sqlalchemy", "rich", "pydantic", "yaml", "javaproperties", "tomlkit")


# --- a shop with an incident -------------------------------------------------------------------------------------------


@dataclass
class Shop:
    """A folder with settings, a configuration repository, logs, and a Prometheus that says what the incident was."""

    folder: Path
    noticed_at: datetime
    until: datetime
    prometheus: Scripted
    commit: str

    @property
    def config(self) -> list[str]:
        return ["--config", str(self.folder / "advisor.yaml")]

    def head(self) -> str:
        return git(self.folder / "config.git", "rev-parse", "main").strip()

    def text(self) -> str:
        return git(self.folder / "config.git", "show", "main:apps/checkout/application.yaml")


class Scripted(ThreadingHTTPServer):
    """A Prometheus of few words: heap and sessions of one service, before and after a change."""

    daemon_threads = True

    def __init__(self, changed: float, end: float, guilty: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.changed, self.end, self.guilty, self.recovered, self.delay = changed, end, guilty, True, 0.0
        self.running = True
        threading.Thread(target=self.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()

    def handle_error(self, *_: Any) -> None:
        """Say nothing: a client that was stopped hangs up in the middle of an answer."""

    def stop(self) -> None:
        if self.running:
            self.running = False
            self.shutdown()
            self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def series(self) -> dict[str, tuple[dict[str, str], Any]]:
        labels = {"job": "checkout", "instance": "a:8080"}
        heap = {**labels, "area": "heap"}

        def grown(t: float) -> float:
            return min(1.0, max(0.0, (t - self.changed) / 900)) if self.guilty else 0.0

        def used(t: float) -> float:
            return min(250.0, 80 + 165 * grown(t) + 50 * (t % 120) / 120 * (1 - 0.7 * grown(t))) * MIB

        return {
            "jvm_memory_used_bytes": (heap, used),
            "jvm_memory_max_bytes": (heap, lambda t: 256.0 * MIB),
            "tomcat_sessions_active_current_sessions": (labels, lambda t: 1000 + 5000 * grown(t) + t % 50),
            "http_server_requests_seconds_count": (labels, lambda t: 20 * (t - self.changed + 10_000)),
            "process_start_time_seconds": (labels, lambda t: self.changed - 86_400),
            "up": (labels, lambda t: 1.0),
        }


class _Answers(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, encoded: str) -> None:
        time.sleep(self.server.delay)
        asked = {k: v[0] for k, v in parse_qs(encoded).items()}
        data: dict[str, Any] = {"version": "2.50.0"}
        if "query" in asked:
            start, end, step = (float(asked[k]) for k in ("start", "end", "step"))
            times = [start + i * step for i in range(int((end - start) / step + 1e-9) + 1)]
            data = {"resultType": "matrix", "result": self._result(asked["query"], times)}
        body = json.dumps({"status": "success", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _result(self, query: str, times: list[float]) -> list[dict[str, Any]]:
        known = self.server.series()
        begin = self.server.changed - 1200
        inside = [t for t in times if begin <= t <= self.server.end]

        def one(labels: dict[str, str], value: Any, at: list[float]) -> list[dict[str, Any]]:
            return [{"metric": labels, "values": [[t, str(value(t))] for t in at]}] if at else []

        if "count_over_time" in query:
            return one({}, lambda t: (60 if "[1m]" in query else 900) / STEP, inside)
        if query.startswith("count"):
            named = "__name__" in query.split("{")[0]
            return (
                [r for n in known for r in one({"__name__": n}, lambda t: 1.0, inside)]
                if named
                else one({}, lambda t: len(known), inside)
            )
        if "container=" in query:
            return []
        if query.startswith("{"):
            return [r for name, (la, f) in known.items() for r in one({"__name__": name, **la}, f, inside)]
        name = next((n for n in known if n in query), None)  # a check after the change
        if name is None:
            return []
        if self.server.recovered:
            quiet = {"jvm_memory_used_bytes": 60.0 * MIB, "tomcat_sessions_active_current_sessions": 900.0}
            return one({}, lambda t: quiet.get(name, 1.0), times)
        return one({}, lambda t: known[name][1](self.server.end), times)


def git(folder: Path, *arguments: str, at: datetime | None = None) -> str:
    stamp = at.isoformat() if at else ""
    environment = {**os.environ, **({"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp} if at else {})}
    identity = ["-c", "user.name=bob", "-c", "user.email=bob@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def make_shop(folder: Path, guilty: bool = True) -> Shop:
    now = datetime.now(UTC).replace(microsecond=0)
    changed, noticed = now - timedelta(minutes=30), now - timedelta(minutes=12)
    files = folder / "files"
    (files / "apps" / "checkout").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", str(files))
    target = files / "apps" / "checkout" / "application.yaml"
    for text, subject, at in (
        (GOOD, "checkout: begin", now - timedelta(days=3)),
        (GOOD.replace("30m", "24h") if guilty else GOOD + "# reviewed\n", "checkout: keep baskets over night", changed),
    ):
        target.write_text(text)
        git(files, "add", ".")
        git(files, "commit", "-q", "-m", subject, at=at)
    git(folder, "clone", "-q", "--bare", str(files), "config.git")
    commit = git(files, "rev-parse", "HEAD").strip()
    (folder / "logs").mkdir()
    lines = [
        f"{changed - timedelta(minutes=9):%Y-%m-%dT%H:%M:%SZ} INFO main o.e.Checkout : Started Checkout in 3.1 seconds"
    ]
    lines += [
        f"{changed + timedelta(minutes=i):%Y-%m-%dT%H:%M:%SZ} INFO http-1 o.e.Basket : basket {i} saved"
        for i in range(12)
    ]
    if guilty:
        lines.append(
            f"{noticed:%Y-%m-%dT%H:%M:%SZ} ERROR http-2 o.e.Checkout : java.lang.OutOfMemoryError: Java heap space"
        )
    (folder / "logs" / "checkout.log").write_text("\n".join(lines) + "\n")
    scripted = Scripted(changed.timestamp(), now.timestamp(), guilty)
    settings = {
        "prometheus": {"url": scripted.url, "retries": 0},
        "repositories": {"config": {"url": "./config.git"}},
        "services": {
            "checkout": {
                "selector": 'job="checkout"',
                "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
                "logs": [{"files": ["logs/*.log"]}],
            }
        },
        "approval": {"approvers": [ALICE, "bob@example.org"]},
        "verification": {"settle_seconds": 0, "window_seconds": 10, "samples_min": 2},
    }
    (folder / "advisor.yaml").write_text(json.dumps(settings))
    return Shop(folder, noticed, now, scripted, commit)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.delenv("ADVISOR_USER", raising=False)
    made = make_shop(tmp_path)
    yield made
    made.prometheus.stop()


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def advisor(capfd: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process, as a script does: no terminal anywhere."""

    def call(*arguments: str) -> Answer:
        capfd.readouterr()
        code = run(list(arguments))
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call


def investigate(advisor: Any, shop: Shop) -> dict[str, Any]:
    answer = advisor("investigate", "checkout", "--until", shop.until.isoformat(), "--json", *shop.config)
    assert answer.code == 0, answer.err
    report: dict[str, Any] = answer.json
    return report


def one_line_of(answer: Answer) -> str:
    """Return the last line on stderr, which is the error's own, after checking that it is clean."""
    assert "Traceback" not in answer.err
    last = answer.err.rstrip("\n").split("\n")[-1]
    assert last.startswith("advisor: ") and last.isprintable()
    return last


# --- the loop ----------------------------------------------------------------------------------------------------------


def test_investigate_prints_one_json_document_and_nothing_else_on_stdout(advisor: Any, shop: Shop) -> None:
    report = investigate(advisor, shop)
    assert report["schema"] == "advisor.investigation/v1"
    assert report["diagnosis"]["outcome"] == "diagnosed"
    assert report["diagnosis"]["cause"]["key"] == KEY
    assert report["diagnosis"]["cause"]["commit"] == shop.commit
    assert shop.text() == GOOD.replace("30m", "24h")


def test_from_question_to_rollback_with_one_command_each(advisor: Any, shop: Shop) -> None:
    before = shop.text()
    proposal = investigate(advisor, shop)["proposals"][0]["id"]
    approved = advisor("approve", proposal, "--as", ALICE, "--yes", "--json", *shop.config)
    assert approved.code == 0
    change = approved.json["change"]["id"]
    assert shop.text() == GOOD
    assert "+      timeout: 30m" in approved.err  # what was agreed to is shown even where the answer was given before
    verified = advisor("verify", change, "--wait", "--json", *shop.config)
    assert (verified.code, verified.json["verdict"]) == (0, "passed"), verified.json["reason"]
    shop.prometheus.recovered = False  # a verdict is of what is measured, not of what was said before
    failed = advisor("verify", change, *shop.config)
    assert failed.code == 1 and f"advisor rollback {change}" in failed.out
    back = advisor("rollback", change, "--as", ALICE, *shop.config)
    assert back.code == 0 and "committed" in back.out
    assert shop.text() == before
    assert [c["state"] for c in advisor("changes", "--json", *shop.config).json] == ["delivered", "rolled_back"]
    audit = advisor("audit", "verify", "--json", *shop.config)
    assert audit.code == 0 and audit.json["entries"] >= 8


def test_the_human_report_says_the_cause_the_remedy_that_fails_and_what_to_type(advisor: Any, shop: Shop) -> None:
    answer = advisor("investigate", "checkout", "--until", shop.until.isoformat(), *shop.config)
    assert answer.code == 0
    for told in (KEY, "30m", "24h", "raise heap", "Would not fix it", "advisor approve pro-", "╌", "▼"):
        assert told in answer.out, told
    assert "\x1b" not in answer.out
    assert not any(line.endswith(" ") for line in answer.out.splitlines())


def test_a_preview_of_a_rollback_needs_no_name_and_writes_nothing(advisor: Any, shop: Shop) -> None:
    proposal = investigate(advisor, shop)["proposals"][0]["id"]
    change = advisor("approve", proposal, "--as", ALICE, "--yes", "--json", *shop.config).json["change"]["id"]
    head = shop.head()
    answer = advisor("rollback", change, "--preview", *shop.config)
    assert answer.code == 0 and "+      timeout: 24h" in answer.out
    assert advisor("rollback", "--list", "--json", *shop.config).json[0]["id"] == change
    assert advisor("rollback", change, *shop.config).code == 4
    assert advisor("rollback", *shop.config).code == 2
    assert shop.head() == head


def test_a_stored_incident_says_where_its_proposals_stand_by_now(advisor: Any, shop: Shop) -> None:
    report = investigate(advisor, shop)
    incident = report["incident"]["id"]
    assert "advisor approve" in advisor("show", incident, *shop.config).out
    assert advisor("deny", report["proposals"][0]["id"], "--as", ALICE, "--reason", "not now", *shop.config).code == 0
    shown = advisor("show", incident, *shop.config).out
    assert "denied" in shown and "advisor approve" not in shown
    assert advisor("show", incident, "--json", *shop.config).json == report


def test_each_listing_has_a_human_and_a_json_form(advisor: Any, shop: Shop) -> None:
    report = investigate(advisor, shop)
    for command in (["incidents"], ["proposals"], ["changes"], ["audit", "show"], ["playbooks", "list"], ["doctor"]):
        told = advisor(*command, *shop.config)
        listed = advisor(*command, "--json", *shop.config)
        assert told.code == listed.code and told.out and isinstance(listed.json, list), command
    assert report["incident"]["id"] in advisor("incidents", *shop.config).out
    assert report["proposals"][0]["id"] in advisor("proposals", *shop.config).out


def test_an_exported_incident_replays_offline_to_the_same_diagnosis(advisor: Any, shop: Shop, tmp_path: Path) -> None:
    report = investigate(advisor, shop)
    bundle = tmp_path / "one.zip"
    assert advisor("export", report["incident"]["id"], "-o", str(bundle), *shop.config).out == f"{bundle}\n"
    shop.prometheus.stop()
    again = advisor("replay", str(bundle), "--json")
    assert again.code == 0 and again.json["diagnosis"] == report["diagnosis"]


def test_an_alert_file_gives_the_words_and_the_time(advisor: Any, shop: Shop, tmp_path: Path) -> None:
    alert = tmp_path / "alert.json"
    firing = {
        "status": "firing",
        "labels": {"alertname": "JvmOutOfMemory", "service": "checkout"},
        "annotations": {"summary": "java.lang.OutOfMemoryError: Java heap space"},
        "startsAt": shop.noticed_at.isoformat(),
    }
    other = {**firing, "labels": {"alertname": "Other", "service": "payments"}, "startsAt": "2020-01-01T00:00:00Z"}
    alert.write_text(json.dumps({"version": "4", "alerts": [other, firing]}))
    found = advisor("investigate", "checkout", "--alert", str(alert), "--json", *shop.config).json
    assert found["incident"]["question"] == "JvmOutOfMemory; java.lang.OutOfMemoryError: Java heap space"
    assert found["incident"]["noticed_at"] == shop.noticed_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_init_writes_settings_that_load_and_never_over_a_file(advisor: Any, tmp_path: Path) -> None:
    target = tmp_path / "advisor.yaml"
    assert advisor("init", "--config", str(target)).code == 0
    written = target.read_text()
    assert advisor("incidents", "--json", "--config", str(target)).json == []
    again = advisor("init", "--config", str(target))
    assert again.code == 2 and "left alone" in one_line_of(again) and target.read_text() == written


def test_playbooks_need_no_settings_and_a_wrong_one_is_named(
    advisor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = advisor("playbooks", "list", "--json").json
    assert "jvm_heap" in [playbook["name"] for playbook in listed]
    assert "jvm_heap" in advisor("playbooks", "show", "jvm_heap").out
    assert advisor("playbooks", "lint").code == 0
    (tmp_path / "mine.yaml").write_text("name: mine\nnonsense: 1\n")
    answer = advisor("playbooks", "lint", "mine.yaml")
    assert answer.code == 2 and "mine.yaml" in one_line_of(answer)
    (tmp_path / "knobs.yaml").write_text("- {family: pools, keys: [pool size], effekt: holds}\n")
    answer = advisor("playbooks", "lint", "knobs.yaml")
    assert answer.code == 2 and "knobs.yaml" in one_line_of(answer)


def test_the_demo_stops_at_the_approval_where_nobody_can_be_asked(advisor: Any, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    answer = advisor("demo", "--svg", str(picture))
    assert answer.code == 0, answer.err
    for told in ("raise heap", "+      timeout: 30m", "Stopped at the approval: nothing was changed"):
        assert told in answer.out
    assert "raise" in picture.read_text() and "@font-face" not in picture.read_text()


# --- exit codes --------------------------------------------------------------------------------------------------------


def test_a_healthy_service_exits_0(advisor: Any, tmp_path: Path) -> None:
    made = make_shop(tmp_path, guilty=False)
    answer = advisor("investigate", "checkout", "--until", made.until.isoformat(), *made.config)
    assert answer.code == 0 and "HEALTHY" in answer.out
    made.prometheus.stop()


def test_a_missing_required_source_is_inconclusive_and_exits_3(advisor: Any, shop: Shop) -> None:
    shop.prometheus.stop()
    answer = advisor("investigate", "checkout", *shop.config)
    assert answer.code == 3 and "unavailable" in answer.out and "INCONCLUSIVE" in answer.out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["investigate", "nope"], 2, "not configured (known: checkout)"),
        (["investigate", "checkout", "--at", "yesterday"], 2, "not understood"),
        (["investigate", "checkout", "--at", "now", "--until", "2h"], 2, "after --until"),
        (["investigate", "checkout", "--alert", "missing.json"], 2, "no such file"),
        (["investigate", "checkout", "--alert", "a", "--symptom", "b"], 2, "one of them"),
        (["investigate"], 2, "Missing argument"),
        (["show", "inc-none"], 2, "inc-none"),
        (["approve", "pro-none", "--as", ALICE, "--yes"], 2, "pro-none"),
        (["approve", "pro-none"], 4, "ADVISOR_USER"),
        (["deny", "pro-none", "--reason", "x"], 4, "ADVISOR_USER"),
        (["deny", "pro-none", "--as", ALICE], 2, "--reason"),
        (["verify", "chg-none"], 2, "chg-none"),
        (["verify", "chg-none", "--window", "soon"], 2, "--window"),
        (["rollback", "chg-none", "--as", ALICE], 2, "chg-none"),
        (["export", "inc-none"], 2, "inc-none"),
        (["playbooks", "show", "none"], 2, "no playbook"),
    ],
)
def test_a_wrong_argument_is_one_line_and_its_exit_code(
    advisor: Any, shop: Shop, arguments: list[str], code: int, told: str
) -> None:
    answer = advisor(*arguments, *shop.config)
    assert answer.code == code and told in one_line_of(answer)
    assert answer.out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["aprove", "x"], 2, "approve"),
        (["incidents", "--nope"], 2, "--nope"),
        (["incidents", "--config", "absent.yaml"], 2, "advisor init"),
        (["replay", "absent.zip"], 2, "absent.zip"),
        (["playbooks", "lint", "absent.yaml"], 2, "absent.yaml"),
    ],
)
def test_a_wrong_command_line_needs_no_settings_to_be_answered(
    advisor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = advisor(*arguments)
    assert answer.code == code and told in one_line_of(answer)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"alerts": 3}', '{"alerts": [{"labels": 1}]}', "\x00", "[" * 90_000]
)
def test_a_hostile_alert_file_is_one_line(advisor: Any, shop: Shop, tmp_path: Path, content: str) -> None:
    alert = tmp_path / "alert.json"
    alert.write_text(content)
    answer = advisor("investigate", "checkout", "--alert", str(alert), *shop.config)
    assert answer.code == 2 and "--alert" in one_line_of(answer)


def test_who_is_not_named_or_not_listed_changes_nothing(advisor: Any, shop: Shop) -> None:
    proposal = investigate(advisor, shop)["proposals"][0]["id"]
    head = shop.head()
    assert advisor("approve", proposal, "--yes", *shop.config).code == 4
    answer = advisor("approve", proposal, "--as", "mallory@example.org", "--yes", *shop.config)
    assert answer.code == 4 and "mallory@example.org" in one_line_of(answer)
    assert shop.head() == head


def test_without_a_terminal_nothing_is_approved_unless_yes_is_said(advisor: Any, shop: Shop) -> None:
    proposal = investigate(advisor, shop)["proposals"][0]["id"]
    head = shop.head()
    answer = advisor("approve", proposal, "--as", ALICE, *shop.config)
    assert answer.code == 2 and "--yes" in one_line_of(answer)
    other = advisor("approve", proposal, "--as", ALICE, "--yes", "--digest", "sha256:00000000", *shop.config)
    assert other.code == 4 and "digest" in one_line_of(other)
    assert advisor("approve", proposal, "--as", ALICE, "--yes", "--digest", "ab", *shop.config).code == 2
    assert shop.head() == head


def test_a_moved_branch_is_refused_by_name(advisor: Any, shop: Shop) -> None:
    proposal = investigate(advisor, shop)["proposals"][0]["id"]
    files = shop.folder / "files"
    (files / "README").write_text("x\n")
    git(files, "add", ".")
    git(files, "commit", "-q", "-m", "other")
    git(files, "push", "-q", str(shop.folder / "config.git"), "main")
    answer = advisor("approve", proposal, "--as", ALICE, "--yes", *shop.config)
    assert answer.code == 4 and "moved" in one_line_of(answer)
    assert "24h" in shop.text()


# --- as a process ------------------------------------------------------------------------------------------------------


def spawn(arguments: list[str], folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ADVISOR_")}
    return subprocess.Popen(
        [sys.executable, "-m", "advisor", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        **options,
    )


def test_help_loads_nothing_heavy_and_is_quick() -> None:
    script = (
        "import sys, time; from advisor.cli import run; code = run(['--help']);"
        f" print(code, [m for m in {LAZY!r} if m in sys.modules], time.process_time(), file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        code, rest = done.stderr.split(" ", 1)
        loaded, spent = rest.rsplit(" ", 1)
        assert (code, loaded) == ("0", "[]")
        seconds.append(float(spent))
    assert min(seconds) < HELP_SECONDS_MAX


def test_a_reader_that_leaves_early_and_a_full_disk_are_not_faults(shop: Shop, advisor: Any) -> None:
    investigate(advisor, shop)
    for command in (["audit", "show"], ["audit", "show", "--json"]):
        with open("/dev/full", "w") as full:
            process = spawn([*command, *shop.config], shop.folder, stdout=full, stderr=subprocess.PIPE)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert err.decode() == "advisor: No space left on device\n"
        reader, writer = os.pipe()
        os.close(reader)
        process = spawn([*command, *shop.config], shop.folder, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        _, err = process.communicate(timeout=60)
        assert err == b"" and process.returncode == 1


def test_stopping_says_that_nothing_was_changed(shop: Shop) -> None:
    shop.prometheus.delay = 30
    process = spawn(
        ["investigate", "checkout", *shop.config], shop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and out == b""
    assert err.decode().splitlines()[-1] == "advisor: stopped; nothing was changed"


def test_a_fault_of_ours_is_one_line_with_its_type(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADVISOR_DEBUG", raising=False)
    assert _answer(ZeroDivisionError("division\nby \x1b zero")) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "ZeroDivisionError: division by zero" in said and "ADVISOR_DEBUG=1" in said
    monkeypatch.setenv("ADVISOR_DEBUG", "1")
    _answer(ZeroDivisionError("again"))
    assert "ZeroDivisionError: again" in capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize("place", ["advisor.db", ".advisor"])
def test_a_store_that_cannot_be_opened_is_one_line(advisor: Any, shop: Shop, place: str) -> None:
    path = shop.folder / place
    path.write_text("this is no database, and no folder either")
    answer = advisor("incidents", *shop.config)
    assert answer.code in (1, 2) and place in one_line_of(answer)


# --- at a terminal -----------------------------------------------------------------------------------------------------


def at_terminal(arguments: list[str], folder: Path, answers: dict[str, str], columns: int = 100) -> tuple[int, str]:
    """Run a command on a terminal of its own where a person types, and return its exit code and the screen.

    Args:
        arguments: Of the command.
        folder: Where it runs.
        answers: What is typed when some words have appeared, in order.
        columns: Of the terminal.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def own_terminal() -> None:  # else Ctrl-C would be a character and no signal
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    options = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True, "preexec_fn": own_terminal}
    process = spawn(arguments, folder, **options)
    os.close(slave)
    left = list(answers.items())
    screen, seen = b"", 0
    try:
        while select.select([master], [], [], 60)[0]:
            try:
                read = os.read(master, 65536)
            except OSError:  # the other end is closed: it has ended
                break
            screen += read
            if left and (found := screen.find(left[0][0].encode(), seen)) >= 0:
                os.write(master, left.pop(0)[1].encode())
                seen = found + 1
        return process.wait(timeout=30), screen.decode()
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_at_a_terminal_only_the_asked_word_approves(advisor: Any, shop: Shop) -> None:
    proposal = investigate(advisor, shop)["proposals"][0]["id"]
    head = shop.head()
    command = ["approve", proposal, "--as", ALICE, *shop.config]
    for typed in ("y\n", "\n", "\x04"):
        code, screen = at_terminal(command, shop.folder, {"exactly this change:": typed})
        assert code == 4 and "nothing was changed" in screen
        assert shop.head() == head
    code, screen = at_terminal(command, shop.folder, {"exactly this change:": "\x03"})
    assert code == 130 and "stopped; nothing was changed" in screen
    assert shop.head() == head
    code, screen = at_terminal(command, shop.folder, {"exactly this change:": "yes\n"})
    assert code == 0 and "committed" in screen
    assert shop.text() == GOOD


def test_the_demo_goes_through_the_whole_loop_at_a_terminal(tmp_path: Path) -> None:
    typed = {"apply exactly this change?": "y\n", "Roll it back?": "y\n"}
    code, screen = at_terminal(["demo"], tmp_path, typed)
    assert code == 0
    for told in ("committed", "verification passed", "byte for byte", "What git has of it", "roll back"):
        assert told in screen, told
    code, screen = at_terminal(["demo", "--directory", "kept"], tmp_path, {"apply exactly this change?": "n\n"})
    assert code == 0 and "Not approved: nothing was changed." in screen and (tmp_path / "kept" / "config.git").is_dir()
