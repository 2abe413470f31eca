"""Bundles: what was recorded is played back exactly, and what is no bundle is refused in one line."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor import bundle as bundles
from advisor.bundle import SCHEMA, Bundle, Exchange, RecordedChanges, RecordedLogs, RecordedMetrics, Tape
from advisor.errors import AdvisorError, SettingsInvalid, SourceMalformed, SourceRefused, SourceUnavailable
from advisor.evidence import (
    ChangeAnswer,
    ChangeRequest,
    LogAnswer,
    LogRequest,
    MetricAnswer,
    MetricRequest,
    Series,
    SeriesListAnswer,
    SeriesListRequest,
)

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
START = NOW - timedelta(hours=1)
ASKED = MetricRequest(query='up{job="checkout"}', start=START, end=NOW, step_seconds=15)
LISTED = SeriesListRequest(match='{job="checkout"}', start=START, end=NOW)
CHANGES = ChangeRequest(repository="config", branch="main", paths=("apps/**",), since=START, until=NOW)
LOGS = LogRequest(service="checkout", files=("logs/*.log",), start=START, end=NOW)
ANSWER = MetricAnswer(
    series=(Series(name="up", labels=(("pod", "a"),), times=(1.0, 2.0), values=(1.0, 0.1 + 0.2)),),
    warnings=("partial",),
)


class Scripted:
    """A source that answers or raises as it was told, and counts how often it was asked."""

    def __init__(self, error: AdvisorError | None = None) -> None:
        self.error, self.asked = error, 0

    def _say(self, answer: object) -> object:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return answer

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        return self._say(ANSWER)  # type: ignore[return-value]

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        return self._say(SeriesListAnswer(series=((("__name__", "up"),),), truncated=True))  # type: ignore[return-value]

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        return self._say(ChangeAnswer(head="a" * 40, head_at=NOW))  # type: ignore[return-value]

    def read(self, request: LogRequest) -> LogAnswer:
        return self._say(LogAnswer(lines=3, first_at=START, kills=((NOW, "Killed process 1"),)))  # type: ignore[return-value]


def ask_all(tape: Tape, inner: Scripted | None) -> list[object]:
    metrics = RecordedMetrics(tape, inner)
    return [
        metrics.query_range(ASKED),
        metrics.list_series(LISTED),
        RecordedChanges(tape, inner).changes(CHANGES),
        RecordedLogs(tape, inner).read(LOGS),
    ]


def recorded() -> Tape:
    tape = Tape()
    ask_all(tape, Scripted())
    return tape


def example() -> Bundle:
    repositories = {"config": {"HEAD": b"ref: refs/heads/main\n", "objects/pack/pack-1.pack": bytes(range(256))}}
    return Bundle(
        {"service": "checkout", "until": "2026-11-22T08:00:00Z"}, recorded(), {"outcome": "diagnosed"}, repositories
    )


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def members() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(example().to_bytes())) as archive:
        return {i.filename: archive.read(i) for i in archive.infolist()}


def refusal(data: bytes) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        Bundle.from_bytes(data, "x.zip")
    assert str(caught.value).startswith("x.zip: ")
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- the tape ----------------------------------------------------------------------------------------------------------


def test_what_was_recorded_is_played_back_exactly_and_without_the_source() -> None:
    tape = Tape()
    live = ask_all(tape, Scripted())
    again = Tape.from_lines(tape.to_lines(), "tape")
    assert ask_all(again, None) == live
    assert again.to_lines() == tape.to_lines()


def test_the_order_of_recording_does_not_show() -> None:
    one, two = Tape(), Tape()
    RecordedLogs(one, Scripted()).read(LOGS)
    RecordedMetrics(one, Scripted()).query_range(ASKED)
    RecordedMetrics(two, Scripted()).query_range(ASKED)
    RecordedLogs(two, Scripted()).read(LOGS)
    assert one.to_lines() == two.to_lines()


@pytest.mark.parametrize("kind", [SourceUnavailable, SourceRefused, SourceMalformed])
def test_an_error_is_played_back_as_itself(kind: type[AdvisorError]) -> None:
    tape = Tape()
    for source in (Scripted(kind("prometheus: connection refused")), None):
        with pytest.raises(kind, match="prometheus: connection refused"):
            RecordedMetrics(Tape.from_lines(tape.to_lines(), "t") if source is None else tape, source).query_range(
                ASKED
            )


def test_a_question_that_was_not_asked_then_is_unavailable() -> None:
    with pytest.raises(SourceUnavailable, match="holds no answer to this question"):
        RecordedMetrics(recorded(), None).query_range(ASKED.model_copy(update={"query": "down"}))


@pytest.mark.parametrize("error", ["KeyError", "AdvisorError", "__doc__", "annotations", "", None])
def test_an_error_of_an_unknown_kind_is_still_one_of_ours(error: str | None) -> None:
    tape = Tape([Exchange(source="metrics.range", request=ASKED.model_dump(mode="json"), error=error, message="said")])
    with pytest.raises(AdvisorError, match="said"):
        RecordedMetrics(tape, None).query_range(ASKED)


def test_an_answer_of_another_shape_is_refused() -> None:
    tape = Tape([Exchange(source="metrics.range", request=ASKED.model_dump(mode="json"), answer={"sires": []})])
    with pytest.raises(SettingsInvalid, match="does not fit"):
        RecordedMetrics(tape, None).query_range(ASKED)


def test_the_first_answer_to_a_question_stands() -> None:
    tape, source = Tape(), Scripted()
    for _ in range(3):
        RecordedLogs(tape, source).read(LOGS)
    assert source.asked == 3
    assert len(tape.exchanges) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"not json",
        b'{"source":"x"}',
        b'{"source":"x","request":{},"extra":1}',
        b"[]",
        b"\xff\xfe",
        b'{"source":"x","request":[]}',
    ],
)
def test_a_line_that_is_no_exchange_is_refused_by_its_number(line: bytes) -> None:
    with pytest.raises(SettingsInvalid, match="tape: tape line 5 is not an exchange") as caught:
        Tape.from_lines(recorded().to_lines() + line, "tape")
    assert str(caught.value).isprintable()


# --- the file ----------------------------------------------------------------------------------------------------------


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    one = example()
    (tmp_path / "b.zip").write_bytes(one.to_bytes())
    again = Bundle.load(tmp_path / "b.zip")
    assert again.manifest == {"schema": SCHEMA, **one.manifest}
    assert (again.report, again.repositories) == (one.report, one.repositories)
    assert again.tape.to_lines() == one.tape.to_lines()
    assert again.to_bytes() == one.to_bytes()


def test_equal_content_is_equal_bytes() -> None:
    turned = Bundle(
        {"until": "2026-11-22T08:00:00Z", "service": "checkout"},
        recorded(),
        {"outcome": "diagnosed"},
        {"config": dict(reversed(example().repositories["config"].items()))},
    )
    assert turned.to_bytes() == example().to_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda m: m.pop("manifest.json"), "manifest.json", id="no manifest"),
        pytest.param(lambda m: m.pop("report.json"), "report.json", id="no report"),
        pytest.param(lambda m: m.pop("tape.jsonl"), "tape.jsonl", id="no tape"),
        pytest.param(
            lambda m: m.update({"manifest.json": b'{"schema":"advisor.bundle/v2"}'}),
            f"not a bundle of schema {SCHEMA}",
            id="another schema",
        ),
        pytest.param(lambda m: m.update({"manifest.json": b"{}"}), f"not a bundle of schema {SCHEMA}", id="no schema"),
        pytest.param(lambda m: m.update({"manifest.json": b"[1]"}), f"not a bundle of schema {SCHEMA}", id="a list"),
        pytest.param(
            lambda m: m.update({"report.json": b"3"}), f"not a bundle of schema {SCHEMA}", id="a number as report"
        ),
        pytest.param(lambda m: m.update({"manifest.json": b"{"}), "not a bundle", id="broken JSON"),
        pytest.param(lambda m: m.update({"manifest.json": b"[" * 100_000}), "not a bundle", id="deep JSON"),
        pytest.param(lambda m: m.update({"manifest.json": b"\xff\xff"}), "not a bundle", id="no UTF-8"),
        pytest.param(lambda m: m.update({"tape.jsonl": b"x\n"}), "tape line 1", id="broken tape"),
        pytest.param(lambda m: m.update({"tape.jsonl": b"[" * 100_000}), "tape line 1", id="deep tape"),
        pytest.param(lambda m: m.update({"extra.txt": b""}), "unexpected member extra.txt", id="another member"),
        pytest.param(
            lambda m: m.update({"repositories/x": b""}),
            "unexpected member repositories/x",
            id="a file for a repository",
        ),
        pytest.param(lambda m: m.update({"../escape": b""}), "unexpected member ../escape", id="above"),
        pytest.param(
            lambda m: m.update({"repositories/../../etc/x": b""}), "unexpected member", id="above from inside"
        ),
        pytest.param(
            lambda m: m.update({"repositories/config/../../x": b""}), "unexpected member", id="above from deep inside"
        ),
        pytest.param(lambda m: m.update({"repositories//etc/passwd": b""}), "unexpected member", id="no name"),
        pytest.param(lambda m: m.update({"/etc/passwd": b""}), "unexpected member", id="absolute"),
        pytest.param(lambda m: m.update({"a\nb\x1b[31m": b""}), "unexpected member a b", id="control characters"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(change: Callable[[dict[str, bytes]], object], said: str) -> None:
    parts = members()
    change(parts)
    assert said in refusal(zipped(parts))


@pytest.mark.parametrize(
    "data",
    [b"", b"PK", b"PK\x05\x06" + b"\0" * 18, b"hello", example().to_bytes()[:-30], example().to_bytes()[50:]],
    ids=["empty", "magic", "no members", "text", "cut", "beheaded"],
)
def test_what_is_no_zip_is_refused(data: bytes) -> None:
    assert "not a bundle" in refusal(data)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped({**members(), "repositories/config/big": b"\0" * 5_000_000})
    assert len(bomb) < 20_000
    monkeypatch.setattr(bundles, "MEMBER_BYTES_MAX", 1_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    assert "unpacks to more than" in refusal(bomb)


def test_a_member_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(zipped({**members(), "repositories/config/big": b"\0" * 5_000_000}))
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.rfind(signature)
        data[at + offset : at + offset + 4] = struct.pack("<I", 10)
    assert "not a bundle" in refusal(bytes(data))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be read as a bundle: No such file"):
        Bundle.load(tmp_path / "none.zip")
    with pytest.raises(SettingsInvalid, match="cannot be read as a bundle"):
        Bundle.load(tmp_path)
    monkeypatch.setattr(bundles, "BUNDLE_BYTES_MAX", 100)
    (tmp_path / "b.zip").write_bytes(example().to_bytes())
    with pytest.raises(SettingsInvalid, match="larger than 100 bytes"):
        Bundle.load(tmp_path / "b.zip")


WHOLE = example().to_bytes()


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=100).map(lambda b: b"PK\x03\x04" + b)
    | st.binary(max_size=60).map(lambda b: WHOLE[:-60] + b)
)
def test_any_bytes_are_a_bundle_or_refused_in_one_line(data: bytes) -> None:
    try:
        Bundle.from_bytes(data, "x.zip")
    except SettingsInvalid as error:
        assert str(error).isprintable()


def test_the_manifest_cannot_be_given_another_schema() -> None:
    written = Bundle({"service": "x"}, Tape(), {}, {}).to_bytes()
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert json.loads(archive.read("manifest.json"))["schema"] == SCHEMA
