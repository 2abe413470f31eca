"""The same bundle gives the same report (invariant 12), and no input gives a traceback or a hang (invariant 10)."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.bundle import Bundle, Exchange, Tape
from advisor.cli.investigating import read_alert as _read_alert
from advisor.config_file import read_entries
from advisor.diagnosis.knobs import parse_knobs
from advisor.errors import ChangeRefused, PlaybookInvalid, SettingsInvalid, SourceMalformed
from advisor.evidence.config_diff import diff_keys
from advisor.evidence.gc_log import GcLog
from advisor.evidence.log_templates import LogDigest, parse_traces
from advisor.playbook import parse_playbook
from advisor.proposal.patch import parse_patch, render_diff
from advisor.quantity import compare, describe_change, parse_quantity
from advisor.redaction import redact
from advisor.settings import parse_settings
from advisor.values import parse_instant
from advisor.workflow import EXAMPLE_SETTINGS
from tests.support.replays import without_ids_and_times

ROOT = Path(__file__).parent.parent
BUNDLES = sorted(ROOT.glob("playbooks/*/cases/*/*.bundle.zip"))
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
MEBI = 1024 * 1024
CALL_SECONDS_MAX = 1.0  # of processor time of this thread: a loaded machine makes no input hostile
PEAK_BYTES_MAX = 128 * MEBI  # of objects made from 1 MiB
# ``ADVISOR_PROOF_SIZE`` multiplies the examples; 1 is the default run.
EXAMPLES = 25 * int(os.environ.get("ADVISOR_PROOF_SIZE", "1"))


# --- invariant 12 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replays() -> tuple[dict[str, Any], dict[str, Any]]:
    """Replay every bundle twice, in two processes that hash, and count hours, differently."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.replays", *map(str, BUNDLES)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed, zone in (("1", "UTC"), ("2", "Asia/Kathmandu"))
    ]
    done = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], done[0][1] + done[1][1]
    return json.loads(done[0][0]), json.loads(done[1][0])


def test_there_are_bundles() -> None:
    assert BUNDLES


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_invariant_12_the_same_bundle_gives_the_same_report(
    path: Path, replays: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    one, other = (json.dumps(without_ids_and_times(reports[str(path)]), indent=1) for reports in replays)
    assert one == other


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_replay_says_what_was_recorded(path: Path, replays: tuple[dict[str, Any], dict[str, Any]]) -> None:
    recorded, now = Bundle.load(path).report["diagnosis"], replays[0][str(path)]["diagnosis"]
    for field in ("outcome", "kind", "cause"):
        assert now[field] == recorded[field], field


def test_only_ids_and_times_are_left_out_of_the_comparison(replays: tuple[dict[str, Any], dict[str, Any]]) -> None:
    report = replays[0][str(BUNDLES[0])]
    kept = without_ids_and_times(report)
    assert set(report) - set(kept) == {"usage"}
    for name in set(kept) - {"incident", "proposals"}:
        assert kept[name] == report[name]
    assert set(report["incident"]) - set(kept["incident"]) == {"id"}
    assert set(kept["proposals"][0]) >= {"action", "base", "tree", "diff", "risk", "guardrails", "verification"}


# --- invariant 10 ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parser:
    """A way in for foreign input.

    Attributes:
        run: Takes bytes as they come.
        refusals: What it may raise.
        seeds: Well-formed input, for the fuzzer to spoil.
        bulks: Short pieces, of each of which a mebibyte is given as well.
    """

    name: str
    run: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    bulks: tuple[bytes, ...]


def _text(run: Callable[[str], object]) -> Callable[[bytes], object]:
    """Return a parser of bytes from one of text; bytes that are no UTF-8 come as they do from files of people."""
    return lambda data: run(data.decode("utf-8", "replace"))


def _bundle_bytes() -> bytes:
    tape = Tape([Exchange(source="logs", request={"a": 1}, answer={"lines": 0})])
    return Bundle(
        {"service": "checkout"}, tape, {"diagnosis": {}}, {"config": {"HEAD": b"ref: refs/heads/main\n"}}
    ).to_bytes()


def _read_lines(data: bytes) -> object:
    digest = LogDigest(0.0, 100.0, redact=redact)
    digest.begin("x.log")
    text = data.decode("utf-8", "replace")
    lines = [line[i : i + 16_384] for line in text.split("\n") for i in range(0, max(1, len(line)), 16_384)]
    for number, line in enumerate(lines):
        if number % 3 == 2:
            digest.extend(line)
        else:
            digest.add(float(number % 100), line)
    parse_traces(lines)
    return digest.answer()


def _read_gc(data: bytes) -> object:
    log = GcLog()
    for line in data.decode("utf-8", "replace").split("\n"):
        log.add(line)
        log.add(line, 10.0)
    return log.series()


def _measure(text: str) -> object:
    key, _, value = text.partition("=")
    return parse_quantity(value, key), compare(value[: len(value) // 2], value, key), describe_change(value, key, key)


ALERT = (
    b'{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"Oom","service":"checkout"},'
    b'"annotations":{"summary":"java.lang.OutOfMemoryError"},"startsAt":"2026-11-22T08:00:00Z"}]}'
)
PATCH = (
    b"diff --git a/x.yaml b/x.yaml\nindex 1111111..2222222 100644\n--- a/x.yaml\n+++ b/x.yaml\n"
    b"@@ -1,2 +1,2 @@\n-timeout: 24h\n+timeout: 30m\n port: 1\n"
    b'diff --git "a/\\303\\244" "b/\\303\\244"\nnew file mode 100644\n'
)
KNOBS = (ROOT / "playbooks" / "knobs.yaml").read_bytes()
ODD_TAGS = (b"a: !!bool x", b"a: !!timestamp x", b"a: !!int ''", b"a: &a [*a]", b"a: &a {<<: *a}")
YAML_BULKS = (
    b"[",
    b"- ",
    b"a: 1\n",
    b"a: ",
    b"{a: ",
    b"&a [*a,",
    b"'",
    b"\t",
    b"\n",
    b"? ",
    b"!!python/object:os.system ",
)
NAMES = {
    "application.yaml": b"server:\n  session:\n    timeout: 24h  # long\nlist: [1, {name: a, value: 2}]\n---\nkind: ConfigMap\n"
    b"metadata: {name: x}\ndata:\n  application.properties: |\n    a.b=1\n",
    "values.json": b'{"a": {"b": [1, 2.5, "x"]}, "c": null}',
    "pyproject.toml": b'[a]\nb = "c"\n[[d]]\ne = [1, 2]\nf = 2026-11-22T08:00:00Z\n',
    "application.properties": b"a.b=1\nc\\ d : e\\\n  f\n! x\n\\u0041=2\n",
    ".env": b"export A=\"b c\"\nB='d'\nC=1 # x\n",
    "main.tf": b'resource "a" "b" {\n  memory = 512\n  tags = ["x"]\n  e = <<EOT\ny\nEOT\n}\n',
    "jvm.options": b"-Xmx2g\n-XX:+UseG1GC\n# x\n8-:-Xlog:gc\n",
    "Dockerfile": b'FROM a:1 AS b\nENV A="b" C=d\nENTRYPOINT ["java", "-Xmx1g"]\n',
    "server.conf": b"listen 80;\nserver { timeout 30s; }\n",
    "setup.ini": b"[a]\nb = 1\n",
    "noname": b"a: 1\n",
}
# What stands before ``...`` comes once.
MORE_BULKS = {
    "main.tf": (b"a = [.../* ", b'a "x" {...b "y" {', b"a = <<E\n...b\n", b"a = f(...,"),
    "application.yaml": (b"a: &a {k: 1}\nb:...\n  <<: *a", b"<<: ...["),
    "values.json": (b'{"a":...[', b'"..."\\u'),
    "pyproject.toml": (b"a = ...[", b"[[a]]\n", b"a.b."),
    "Dockerfile": (b"FROM a\n", b"ENV a=b ...c=", b"RUN \\\n"),
}
CONFIG_BULKS = (b"[", b"a: 1\n", b"{a: ", b'"', b"\\", b"a=1\n", b"&a [*a,", b"\xff")

PARSERS = (
    Parser("settings", _text(lambda t: parse_settings(t, Path())), (SettingsInvalid,), (EXAMPLE_SETTINGS.encode(), *ODD_TAGS), YAML_BULKS),
    Parser("playbook", _text(lambda t: parse_playbook(t, "x")), (PlaybookInvalid,),
           ((ROOT / "playbooks/jvm_heap/playbook.yaml").read_bytes(), *ODD_TAGS), YAML_BULKS),
    Parser("knobs", _text(parse_knobs), (PlaybookInvalid,), (KNOBS[:3000].rsplit(b"\n- ", 1)[0], *ODD_TAGS), YAML_BULKS),
    Parser("bundle", lambda d: Bundle.from_bytes(d, "x.zip"), (SettingsInvalid,), (_bundle_bytes(),), (b"PK\x01\x02", b"PK\x05\x06" + b"\xff" * 18)),
    Parser("tape", lambda d: Tape.from_lines(d, "x"), (SettingsInvalid,),
           (b'{"source":"logs","request":{"a":1},"answer":{"b":[1.5,null]}}\n', b'{"source":"m","request":{"a":NaN},"error":"x"}\n'),
           (b"[", b'{"a":', b"\n", b'{"source":"a","request":{}}\n', b"1")),
    Parser("alert", lambda d: _alert(d), (SettingsInvalid,), (ALERT, b"[" + ALERT + b"]"), (b"[", b'{"a":', b"1", b'"\\u0041"', b"[{}],")),
    Parser("instant", _text(lambda t: parse_instant(t, NOW)), (SettingsInvalid,),
           (b"2026-11-22T08:00:00+01:00", b"1763798400.5", b"15m ago", b"now", b"0001-01-01T00:00:00+14:00", b"9" * 400),
           (b"1", b"9.", b"m", b"2026-", b"-")),
    Parser("quantity", _text(_measure), (),
           (b"server.timeout=30m", b"-Xmx=512m", b"memory=1_000Mi", b"x=PT1H30M", b"cpu=250m", b"a=50%", b"a=1e999", b"a=.5E-3GiB"),
           (b"1", b"_", b"1h", b"PT", b"e", b" ", b"-", b".")),
    Parser("log lines", _read_lines, (),
           (b"2026 ERROR main a.B : java.lang.OutOfMemoryError: Java heap space\n\tat a.B.c(D.java:1)\nCaused by: x.Y: z\n\t... 3 more\n",
            b"Traceback (most recent call last):\n  File \"x.py\", line 3, in f\nValueError: x\n", b"panic: x\n\ngoroutine 1 [running]:\n"),
           (b"a ", b"\tat a.B.c(D.java:1)\n", b"Caused by: ", b'"', b"x.Error: ", b"password=", b"(")),
    Parser("gc log", _read_gc, (),
           (b"[2026-11-22T08:00:00.000+0000][1.5s][info][gc] GC(3) Pause Full (G1 Compaction Pause) 250M->249M(256M) 12.345ms\n",
            b"1.234: [GC (Allocation Failure) [PSYoungGen: 64K->32K(128K)] 64K->32K(256K), 0.0012 secs]\n"),
           (b"[", b"1.234: [GC ", b"GC(1) Pause Full 6M->5M(64M) 1ms\n", b"6M->", b"9")),
    Parser("traces", lambda d: parse_traces(d.decode("utf-8", "replace").split("\n")), (),
           (b"a.BException: c\n\tat a.B.c(D.java:1)\nCaused by: x.Y: z\n",), (b"Caused by: a.BException: \n", b"\tat x\n", b"a.")),
    Parser("redaction", _text(redact), (), (b"password: x\nAuthorization: Bearer abc\n", b'{"token": "a"}', b"-Dsecret=x"),
           (b"password=", b'"token":', b"-----BEGIN ", b"a=", b"://a:b@", b"<password>")),
    Parser("patch", parse_patch, (ChangeRefused,), (PATCH,),
           (b"diff --git a/x b/x\n", b"@@ -1 +1 @@\n", PATCH[:40], b"\\", b"\n")),
    Parser("rendered diff", lambda d: render_diff(d, redact), (), (PATCH, "+a\u202eb\u0430dmin  \n".encode()), (b"+", b"\xff", "\u0430a".encode(), b" \n")),
    *(
        Parser(f"keys of {name}", lambda d, n=name: read_entries(d, n), (SourceMalformed,), (seed,), (*CONFIG_BULKS, *MORE_BULKS.get(name, ())))
        for name, seed in NAMES.items()
    ),
    *(
        Parser(f"difference of {name}", lambda d, n=name, s=seed: (diff_keys(s, d, n), diff_keys(d, None, n)), (SourceMalformed,),
               (seed,), CONFIG_BULKS[:3])
        for name, seed in NAMES.items()
    ),
)  # fmt: skip
_BY_NAME = {parser.name: parser for parser in PARSERS}
_SCRATCH: dict[str, Path] = {}


def _alert(data: bytes) -> object:
    path = _SCRATCH["folder"] / "alert.json"
    path.write_bytes(data)
    return _read_alert(path, "checkout")


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> None:
    _SCRATCH["folder"] = tmp_path_factory.mktemp("scratch")


def call(parser: Parser, data: bytes) -> float:
    """Return the seconds of processor time that a call took, whether it was answered or refused."""
    begun = time.thread_time()
    try:
        parser.run(data)
    except parser.refusals as refusal:
        assert str(refusal).isprintable() and len(str(refusal)) <= 600
    return time.thread_time() - begun


def mebibyte(piece: bytes) -> bytes:
    """Return a mebibyte of a piece; what stands before ``...`` in it comes once, at the beginning."""
    head, _, repeated = piece.rpartition(b"...")
    return head + (repeated * (MEBI // len(repeated) + 1))[: MEBI - len(head)]


_PIECES = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n", b"\x85", "\u2028".encode(), "\u0661".encode(), b"NaN",
    b"1e999", b"-", b"'", b'"', b"[" * 300, b"{" * 300, b"((" * 100, b"&a *a", b"<<: ", b"!!binary ", b"\\", b"\\u", b"%", b"9" * 300, b"0x",
    b"0001-01-01", b"9999-12-31", b"1_0", b"\t", b"\n\n", b"---\n", b":", b"=", b"?", b"|", b">", b"~", b"null", b"true", b"${", b"{{",
    b"!!bool x", b"!!timestamp x", b"!!int ''", b"<<: [*a, *a]\n",
)  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Return well-formed input after some accidents; sometimes nothing but accidents."""
    data = bytearray(draw(st.sampled_from((*seeds, b""))))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            data[at:at] = draw(st.binary(max_size=20))
        elif kind == 1:
            data[at:at] = draw(st.sampled_from(_PIECES))
        elif kind == 2:
            del data[at : at + draw(st.integers(1, 30))]
        elif kind == 3:
            data[at:at] = data[at : at + draw(st.integers(1, 60))] * draw(st.integers(1, 20))
        else:
            data[at : at + 1] = draw(st.text(max_size=5)).encode("utf-8", "surrogatepass")
    return bytes(data)


@pytest.mark.parametrize("name", _BY_NAME)
def test_invariant_10_spoiled_input_is_read_or_refused_in_time(name: str) -> None:
    parser = _BY_NAME[name]

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(spoiled(parser.seeds))
    def check(data: bytes) -> None:
        assert call(parser, data) < CALL_SECONDS_MAX

    check()
    chance = random.Random(name)
    for seed in parser.seeds * EXAMPLES:  # single bytes, which sums and lengths in binary formats depend on
        spoilt = bytearray(seed)
        spoilt[chance.randrange(len(seed))] = chance.randrange(256)
        assert call(parser, bytes(spoilt)) < CALL_SECONDS_MAX


@pytest.mark.parametrize("name", _BY_NAME)
def test_invariant_10_a_mebibyte_of_anything_ends_in_time(name: str) -> None:
    parser = _BY_NAME[name]
    slow = {}
    for piece in parser.bulks:
        data = mebibyte(piece)
        seconds = call(parser, data)
        if seconds >= CALL_SECONDS_MAX:  # a busy neighbour on the same core costs time too: the best of three counts
            seconds = min(seconds, call(parser, data), call(parser, data))
        if seconds >= CALL_SECONDS_MAX:
            slow[piece] = seconds
    assert not slow


@pytest.mark.parametrize("name", _BY_NAME)
def test_invariant_10_a_mebibyte_of_anything_takes_bounded_memory(name: str) -> None:
    parser = _BY_NAME[name]
    data = mebibyte(parser.bulks[0])
    tracemalloc.start()
    try:
        call(parser, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < PEAK_BYTES_MAX
