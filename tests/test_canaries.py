"""A thousand secrets in logs, labels, configuration, commits, annotations, alerts, questions and a model's answers: none comes out.

The real way: a Prometheus, a git repository, log files, the command line, the client of a model over HTTP. Then everything the
product kept, said or sent is searched for pieces of every secret, as it is, in base64, hexadecimal, URL and JSON escapes.
"""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from advisor.evidence import Series
from advisor.redaction import mask, redact, redact_value, use_key
from tests.support.canaries import KINDS, Canary, Seen, make_canaries
from tests.support.gate import ALICE, BAD, GOOD, PATH, git
from tests.support.model_server import ModelServer, Step
from tests.support.prometheus import prometheus_serving, require_programs
from tests.support.shop import CHANGED, Answer, Shop, incident_series, log_lines, open_shop

CANARIES = make_canaries()
SEEN = Seen(CANARIES)
PLACES = ("logs", "labels", "configuration", "commits", "alert", "question", "chat", "model")


def test_there_are_a_thousand_of_forty_kinds() -> None:
    assert len(KINDS) == 40
    assert len({c.secret for c in CANARIES}) == 1000
    assert not SEEN("an ordinary line about checkout, 3a80e0d5f6f072c89b8d6812e3f29d6929eac779")
    assert all(c.secret in SEEN(c.text) for c in CANARIES if c.secret in c.text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_canary_vanishes_from_each_text_it_can_stand_in(kind: str) -> None:
    for canary in (c for c in CANARIES if c.kind == kind):
        assert not SEEN(redact(canary.text))
        assert not SEEN(redact(f"2026-11-22T08:00:00Z ERROR [http-1] o.e.shop.Db : {canary.text} (attempt 3)"))
        assert not SEEN(redact(json.dumps({"level": "error", "msg": canary.text})))
        assert not SEEN(redact_value("url", canary.text))


def share(place: str) -> tuple[Canary, ...]:
    """Return the canaries of one place: each place gets every kind."""
    rounds = len(CANARIES) // len(KINDS)
    at = PLACES.index(place)
    return tuple(c for n, c in enumerate(CANARIES) if (n // len(KINDS)) * len(PLACES) // rounds == at)


def test_each_place_gets_every_kind_and_each_canary_a_place() -> None:
    assert sum(len(share(place)) for place in PLACES) == 1000
    assert all({c.kind for c in share(place)} == set(KINDS) for place in PLACES)


# --- the world they are planted in


def with_canaries(folder: Path, end: datetime, url: str, model: str) -> Shop:
    """Return the shop with canaries in its logs, its repository and its alert."""
    shop = open_shop(folder, end, url)
    plant_configuration(shop, end)
    lines = log_lines(end)
    for number, canary in enumerate(share("logs")):
        at = end - timedelta(seconds=30 * (number % 60) + 5)
        head = ("ERROR http-1 o.e.Db :", "WARN pool-2 o.e.Http :", '{"level":"error","msg":')[number % 3]
        text = json.dumps(canary.text) + "}" if head.startswith("{") else canary.text
        # Enough words of its own that a template does not swallow the line.
        lines.append(f"{at:%Y-%m-%dT%H:%M:%SZ} {head} {'abcdefghij'[number % 10] * (3 + number // 10)} {text}\n")
        if number % 5 == 0:
            lines += [f"java.lang.IllegalStateException: {canary.text}\n", "\tat org.example.Db.open(Db.java:1)\n"]
    (shop.folder / "logs" / "checkout.log").write_text("".join(sorted(lines[:21])) + "".join(lines[21:]))
    alert = {
        "status": "firing",
        "labels": {"alertname": "HeapFull", "service": "checkout", **named(share("alert")[:20])},
        "annotations": {
            "summary": "java.lang.OutOfMemoryError: Java heap space",
            "description": "\n".join(c.text for c in share("alert")[40:]),
            **named(share("alert")[20:40]),
        },
        "startsAt": (end - timedelta(minutes=8)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    (shop.folder / "alert.json").write_text(json.dumps({"alerts": [alert]}))
    (shop.folder / "key").write_text("sk-test-of-the-scripted-server")
    shop.set(
        model={"name": "openai:test", "base_url": model, "api_key_file": "key", "deadline_seconds": 30, "retries": 0}
    )
    return shop


def named(canaries: tuple[Canary, ...]) -> dict[str, str]:
    return {f"note_{n}": c.text for n, c in enumerate(canaries)}


def plant_configuration(shop: Shop, end: datetime) -> None:
    """Put the guilty commit anew, with canaries in its message and in files of every kind beside it."""
    files: dict[str, str] = {
        "deployment.yaml": "kind: Deployment\nmetadata:\n  name: checkout\n  annotations:\n"
        + "".join(f"    note-{n}: {json.dumps(c.text)}\n" for n, c in enumerate(share("configuration")[:40])),
        "secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n"
        + "".join(f"  entry-{n}: {c.secret}\n" for n, c in enumerate(share("configuration")[40:60])),
        "notes.conf": "".join(f"{c.text}\n" for c in share("configuration")[60:90]),
        "app.properties": "".join(
            f"app.note{n}={c.text}\n" for n, c in enumerate(share("configuration")[90:]) if "\\" not in c.text
        ),
    }
    commits = [(f"Raise the timeout: {c.text}", n) for n, c in enumerate(share("commits"))]
    stream = b""
    when = int((end - CHANGED).timestamp())
    for message, n in [*commits, ("Keep sessions longer", len(commits))]:
        last = n == len(commits)
        edits = {f"apps/checkout/{name}": text.encode() for name, text in files.items()} if last else {}
        edits["apps/checkout/step.yaml"] = f"step: {n}\n".encode()
        edits[PATH] = BAD if last else GOOD
        stream += b"commit refs/heads/main\ncommitter Dev <dev@example.org> %d +0000\n" % (
            when - 5 * (len(commits) - n)
        )
        stream += b"data %d\n%s\n" % (len(message.encode()), message.encode())
        if n == 0:
            stream += b"from refs/heads/main^0\n"
        for path, content in edits.items():
            stream += f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n"
    git(shop.remote, "fast-import", "--quiet", "--date-format=raw", stdin=stream)


def labelled_series(end: datetime) -> list[Series]:
    """Return the incident's series, and connection pools whose labels carry canaries."""
    series = incident_series(end)
    times = series[0].times
    for number, canary in enumerate(share("labels")):
        name = ("hikaricp_connections_pending", "hikaricp_connections_active", "http_client_requests_seconds_count")[
            number % 3
        ]
        label = ("pool", "url", "uri", "exception")[number % 4]
        labels = tuple(sorted({"instance": "a:8080", "job": "checkout", label: canary.text}.items()))
        series.append(Series(name=name, labels=labels, times=times, values=tuple(float(n) for n in range(len(times)))))
    return series


def model_steps() -> list[Step]:
    """Return answers that carry canaries: well formed, and as prose."""
    chunk = share("model")
    claims = [{"text": f"The heap grew; {c.text}", "evidence": ["M1"]} for c in chunk[:20]]
    answer = {"outcome": "diagnosed", "summary": chunk[20].text, "causes": [], "claims": claims, "remedy": None}
    prose = "\n".join(c.text for c in chunk[40:])
    return [
        Step(text=json.dumps(answer)),
        Step(text=json.dumps({**answer, "summary": chunk[21].text})),
        Step(text=prose),
    ]


@dataclass
class Left:
    """Everything that was kept, said or sent, by name."""

    texts: dict[str, str] = field(default_factory=dict)

    def say(self, name: str, answer: Answer) -> Answer:
        self.texts[f"terminal of {name}"] = answer.out + answer.err
        assert "Traceback" not in answer.err
        return answer


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Left, Shop]]:
    """Take the incident through every command, with a model, and gather all that came of it."""
    pytest.importorskip("langchain_openai", reason="langchain is not installed")
    require_programs("prometheus", "promtool", "git")
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    left = Left()
    with prometheus_serving(labelled_series(end)) as url, ModelServer(model_steps()) as server:
        shop = with_canaries(tmp_path_factory.mktemp("canaries") / "shop", end, url, server.base_url("openai"))
        planted = {p for p in shop.folder.rglob("*") if p.is_file()}
        take_through(shop, left)
        prompts = [json.dumps(asked.body, ensure_ascii=False) for asked in server.asked]
    left.texts["prompts"] = "\n".join(prompts)
    for path in sorted(shop.folder.rglob("*")):
        if path.is_file() and path not in planted and "remote.git" not in path.parts:
            left.texts.update(texts_of(path, shop.folder))
    yield left, shop


def take_through(shop: Shop, left: Left) -> None:
    """Run every command that reads, keeps, shows or sends."""
    question = " ".join(c.text for c in share("question"))
    first = left.say("investigate --alert", shop.investigate("--alert", "alert.json"))
    left.say("investigate --symptom", shop.investigate("--symptom", f"out of memory: {question}"))
    report = first.json
    incident = report["incident"]["id"]
    left.say("investigate for people", shop.ask("investigate", "checkout", "--until", shop.until.isoformat()))
    for command in (("incidents",), ("proposals",), ("show", incident), ("show", incident, "--json"), ("doctor",)):
        left.say(" ".join(command[:1]) + str(len(command)), shop.ask(*command))
    for number in range(0, len(share("chat")), 32):
        words = " ".join(c.text for c in share("chat")[number : number + 32])
        left.say(f"chat {number}", shop.ask("chat", f"why is checkout dying? {words}", "--as", ALICE))
    left.say("chat by rules", shop.ask("chat", f"what changed? {share('chat')[0].text}", "--as", ALICE, "--no-model"))
    proposal = report["proposals"][0]["id"]
    comment = share("question")[0].text
    assert left.say("approve", shop.ask("approve", proposal, "--as", ALICE, "--yes", "--comment", comment)).code == 0
    for command in (("changes",), ("changes", "--json"), ("audit", "show"), ("audit", "verify")):
        left.say(" ".join(command), shop.ask(*command))
    left.say("rollback", shop.ask("rollback", "--incident", incident, "--as", ALICE, "--comment", comment))
    left.say("export", shop.ask("export", incident, "--output", "out.bundle.zip"))
    left.say("replay", shop.ask("replay", "out.bundle.zip", "--json"))


def texts_of(path: Path, folder: Path) -> dict[str, str]:
    """Return what a file says: the rows of a database, the members of an archive, else its bytes."""
    name = str(path.relative_to(folder))
    if path.suffix == ".db":
        with sqlite3.connect(path) as connection:
            rows = "\n".join(connection.iterdump())
        return {name: rows, f"{name} (bytes)": path.read_bytes().decode("latin-1")}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {f"{name}!{m}": archive.read(m).decode("utf-8", "replace") for m in archive.namelist()}
    return {name: path.read_bytes().decode("latin-1")}


def test_no_canary_is_found_in_anything_kept_said_or_sent(left: tuple[Left, Shop]) -> None:
    found = {name: seen for name, text in left[0].texts.items() if (seen := SEEN(text))}
    told = {name: sorted({f"{kind}: {secret}" for secret, kind in seen.items()})[:8] for name, seen in found.items()}
    assert not found, json.dumps(told, indent=1)


def test_the_search_looked_at_what_was_read(left: tuple[Left, Shop]) -> None:
    texts = left[0].texts
    names = " ".join(texts)
    for part in (
        "advisor.db",
        "tape.jsonl",
        "manifest.json",
        "prompts",
        "terminal of audit show",
        "terminal of rollback",
    ):
        assert part in names, sorted(texts)
    assert texts["prompts"].count("‹hidden:") >= 10  # the dossier carried places where canaries had been
    assert texts["advisor.db"].count("‹hidden:") >= 100
    report = json.loads(texts["terminal of investigate --alert"])
    statuses = {row["source"]: row["status"] for row in report["coverage"]}
    assert set(statuses.values()) == {"ok"}, statuses


def test_marks_are_made_with_the_key_of_the_installation(left: tuple[Left, Shop]) -> None:
    use_key(None)
    text = left[0].texts["advisor.db"]
    assert not [c for c in CANARIES if mask(c.secret) in text]  # whoever has a mark cannot find the secret by trying


def test_what_is_planted_is_found_by_the_same_search(left: tuple[Left, Shop]) -> None:
    shop = left[1]
    log = (shop.folder / "logs" / "checkout.log").read_text()
    history = git(shop.remote, "log", "-p", "--all")
    assert {c.secret for c in share("logs")} <= set(SEEN(log))
    assert len(SEEN(history)) >= len(share("commits")) + 100
