"""Log files as they lie about on servers: every way to write a time, rotation, compression, garbage, traps."""

from __future__ import annotations

import bz2
import gzip
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.adapters.log_files import PART_BYTES, Clock, LogFiles, find_files, former_names
from advisor.errors import SourceUnavailable
from advisor.evidence import LogAnswer, LogRequest
from advisor.evidence.log_templates import LogDigest

AT = datetime(2026, 11, 22, 8, 16, 56, tzinfo=UTC)
HEAP = "java.lang.OutOfMemoryError: Java heap space"


def request(
    *files: str, start: datetime = AT - timedelta(minutes=10), end: datetime = AT + timedelta(minutes=10)
) -> LogRequest:
    return LogRequest(service="checkout", files=files or ("*.log",), start=start, end=end)


def put(path: Path, text: str | bytes, modified: datetime | None = AT + timedelta(seconds=5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    if modified:
        os.utime(path, (modified.timestamp(), modified.timestamp()))
    return path


def read(base: Path, *files: str) -> LogAnswer:
    return LogFiles(base).read(request(*files))


def spring(at: datetime, text: str = "Order placed", level: str = "INFO") -> str:
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{stamp} {level:>5} 1 --- [main] o.e.shop.Cart : {text}\n"


# --- times


@pytest.mark.parametrize(
    ("line", "seconds", "level", "template"),
    [
        ("2026-11-22T08:16:56.123Z  INFO 1 --- [main] a.B : x", 0.123, "INFO", "INFO <num> --- [main] a.B : x"),
        ("2026-11-22T09:16:56.123+01:00 INFO x", 0.123, "INFO", "INFO x"),
        ("2026-11-22T03:16:56-0500 INFO x", 0.0, "INFO", "INFO x"),
        ("2026-11-22 08:16:56,123 - root - INFO - x", 0.123, "INFO", "- root - INFO - x"),
        ("2026-11-22 08:16:56.123456 [main] WARN a.B - x", 0.123456, "WARN", "[main] WARN a.B - x"),
        ("[2026-11-22 08:16:56 +0000] [7] [INFO] x", 0.0, "INFO", "[<num>] [INFO] x"),
        ("2026-11-22T08:16:56.123456789Z stdout F x y", 0.123456, "", "x y"),
        ('10.0.0.1 - - [22/Nov/2026:08:16:56 +0000] "GET / HTTP/1.1" 200 612', 0.0, "", '<ip> - - "GET <*>" <2xx> <num>'),
        ('10.0.0.1 - - [22/Nov/2026:09:16:56 +0100] "GET /" 500 1', 0.0, "", '<ip> - - "GET <*>" <5xx> <num>'),
        ("Nov 22 08:16:56 host java[7]: x", 0.0, "", "host java[<num>]: x"),
        ("<34>Nov 22 08:16:56 host java[7]: x", 0.0, "", "host java[<num>]: x"),
        ("<165>1 2026-11-22T08:16:56.123Z host app 7 - - x", 0.123, "", "host app <num> - - x"),
        ("1795335416 x", 0.0, "", "x"),
        ("1795335416.123 x", 0.123, "", "x"),
        ("1795335416123 x", 0.123, "", "x"),
        ("[1795335416123] x", 0.123, "", "x"),
        ('{"@timestamp":"2026-11-22T08:16:56.123Z","level":"WARN","message":"x 7"}', 0.123, "WARN", "x <num>"),
        ('{"timestamp":1795335416123,"severity":"error","msg":"x"}', 0.123, "ERROR", "x"),
        ('{"time":"2026-11-22T08:16:56Z","lvl":"info","msg":"x"}', 0.0, "INFO", "x"),
        ('{"ts":1795335416.123,"level":"info","msg":"x"}', 0.123, "INFO", "x"),
        ('{"level":50,"time":1795335416123,"msg":"x"}', 0.123, "ERROR", "x"),
        ('{"log":"ERROR x\\n","stream":"stdout","time":"2026-11-22T08:16:56.123456789Z"}', 0.123456, "ERROR", "ERROR x"),
        ('2026-11-22T08:16:56.123Z stdout F {"level":"error","message":"x"}', 0.123, "ERROR", "x"),
        ('time=2026-11-22T08:16:56.123Z level=warn msg="x y" n=7', 0.123, "WARN", "x y"),
        ('level=info ts=2026-11-22T08:16:56.123Z caller=a.go:7 msg=x err="no \\"y\\""', 0.123, "INFO", "x error=no <str>"),
        ("I1122 08:16:56.123456       7 a.go:12] x", 0.123456, "INFO", "<num> a.go:<num>] x"),
        ("2026/11/22 08:16:56 x", 0.0, "", "x"),
        ("2026/11/22 08:16:56 [error] 7#7: *1 x", 0.0, "ERROR", "[error] <num>#<num>: *<num> x"),
        ("22-Nov-2026 08:16:56.123 INFO [main] x", 0.123, "INFO", "INFO [main] x"),
        ("[Sun Nov 22 08:16:56.123456 2026] [core:error] x", 0.123456, "", "[core:error] x"),
        ("INFO  2026-11-22 08:16:56,123 [main] x", 0.123, "INFO", "INFO [main] x"),
        ("checkout-1  | 2026-11-22T08:16:56.123Z INFO x", 0.123, "INFO", "checkout-<num> | INFO x"),
        ("\x1b[2m2026-11-22T08:16:56.123Z\x1b[0m \x1b[32m INFO\x1b[0m x", 0.123, "INFO", "INFO x"),
        ("2026-11-22T08:16:60Z INFO x", 4.0, "INFO", "INFO x"),
    ],
)  # fmt: skip
def test_every_usual_time_is_read(tmp_path: Path, line: str, seconds: float, level: str, template: str) -> None:
    put(tmp_path / "a.log", f"{line}\n" * 3)
    answer = read(tmp_path)
    assert answer.warnings == ()
    assert answer.lines == 3
    assert answer.first_at is not None
    assert answer.first_at.timestamp() == pytest.approx(AT.timestamp() + seconds, abs=0.002)
    (one,) = answer.templates
    assert (one.level, one.template) == (level, template)


@pytest.mark.parametrize(
    "line",
    [
        "2026-13-22T08:16:56Z x", "2026-02-30 08:16:56 x", "2026-11-22T25:16:56Z x", "0001-01-01T00:00:00Z x",
        "9999-12-31T23:59:59Z x", "1 x", "99999999999 x", "{", '{"time":NaN}', '{"time":true}', '{"time":[1]}', "{}",
        '{"time":1e400}', '{"time":{"epochSecond":"x"}}', "time= level=", "I9999 99:99:99.1 x", "Nov 31 08:16:56 h x",
        "[" * 5000, '{"a":' * 30_000, "1" * 60_000, '{"time":' + "9" * 5000 + "}", "", " ", "\x00", "[99/Nov/2026:08:16:56 +0000]",
        "2026-11-22T08:16:56+99:99 x", '{"time":"' + "9" * 4000 + '"}',
    ],
)  # fmt: skip
def test_what_only_looks_like_a_time_is_none(tmp_path: Path, line: str) -> None:
    put(tmp_path / "a.log", f"{line}\n" * 3)
    answer = read(tmp_path)
    assert answer.lines == 0
    assert len(answer.warnings) == 1
    clock = Clock(AT.timestamp())
    assert clock.choose([line]) is None


def test_yearless_times_take_the_year_of_the_file(tmp_path: Path) -> None:
    put(
        tmp_path / "a.log",
        "Dec 31 23:59:58 host x\nJan  1 00:00:01 host y\n",
        datetime(2027, 1, 1, 0, 0, 2, tzinfo=UTC),
    )
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    answer = LogFiles(tmp_path).read(request(start=new_year - timedelta(hours=1), end=new_year + timedelta(hours=1)))
    assert answer.lines == 2
    assert answer.first_at == new_year - timedelta(seconds=2)


def test_a_stack_trace_in_a_json_field_is_folded(tmp_path: Path) -> None:
    fields = (
        f'"stack_trace":"a.BException: x\\n\\tat a.B.c(B.java:1)\\nCaused by: {HEAP}\\n\\tat a.D.e(D.java:2)\\n"',
        '"exception":{"exception_class":"java.lang.OutOfMemoryError","exception_message":"Java heap space",'
        '"stacktrace":"java.lang.OutOfMemoryError: Java heap space\\n\\tat a.D.e(D.java:2)"}',
        f'"error":"{HEAP}"',
        f'"error":{{"type":"java.lang.OutOfMemoryError","message":"Java heap space","stack_trace":"{HEAP}\\n\\tat a.D.e(D.java:2)"}}',
    )
    for number, one in enumerate(fields):
        put(
            tmp_path / f"{number}.log",
            f'{{"@timestamp":"2026-11-22T08:16:56Z","level":"ERROR","message":"failed",{one}}}\n',
        )
        (found,) = read(tmp_path, f"{number}.log").exceptions
        assert (found.root_type, found.root_message) == ("java.lang.OutOfMemoryError", "Java heap space")


def test_zoneless_times_that_miss_the_clock_by_whole_hours_are_told(tmp_path: Path) -> None:
    put(tmp_path / "a.log", "2026-11-22 08:16:56,123 INFO x\n", AT - timedelta(hours=2) + timedelta(seconds=1))
    (warning,) = read(tmp_path).warnings
    assert "UTC+2" in warning
    put(tmp_path / "a.log", "2026-11-22 08:16:56,123 INFO x\n", AT + timedelta(minutes=17))
    assert read(tmp_path).warnings == ()
    put(tmp_path / "a.log", "2026-11-22T08:16:56,123Z INFO x\n", AT + timedelta(hours=2))
    assert read(tmp_path).warnings == ()


# --- the window


def test_lines_without_times_belong_to_the_line_before(tmp_path: Path) -> None:
    text = (
        spring(AT - timedelta(hours=1), "old")
        + f"{HEAP}\n\tat a.Old.b(A.java:1)\n"
        + spring(AT, "failed", "ERROR")
        + f"{HEAP}\n\tat a.New.b(A.java:1)\n"
        + spring(AT + timedelta(hours=1), "later")
        + f"{HEAP}\n\tat a.Late.b(A.java:1)\n"
    )
    put(tmp_path / "a.log", text)
    answer = read(tmp_path)
    assert answer.lines == 3
    (one,) = answer.exceptions
    assert (one.frames, one.source, one.at) == (("a.New.b(A.java:1)",), "a.log:5", (AT,))


def test_both_ends_of_the_window_belong_to_it(tmp_path: Path) -> None:
    start, end = AT, AT + timedelta(minutes=5)
    step = timedelta(milliseconds=1)
    put(tmp_path / "a.log", "".join(spring(at) for at in (start - step, start, end, end + step)))
    answer = LogFiles(tmp_path).read(request(start=start, end=end))
    assert (answer.lines, answer.first_at, answer.last_at) == (2, start, end)


def expected(lines: list[tuple[float | None, str]], start: float, end: float) -> tuple[int, int]:
    """Count the lines and errors of a window by reading everything."""
    inside, count, errors = False, 0, 0
    for at, text in lines:
        if at is not None:
            inside = start <= at <= end
        count += inside
        errors += inside and text.startswith("java.")
    return count, errors


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[tuple[float | None, str]], float, float]:
    """Lines that are out of order by up to 100 s, with long gaps, traces, junk and very long lines."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 3000))
    width = draw(st.sampled_from([0, 100, 1000]))
    pause = draw(st.sampled_from([0.0, 0.5, 5.0, 60.0]))
    odd = draw(st.sampled_from([0.0, 0.02, 0.3]))
    now = AT.timestamp()
    lines: list[tuple[float | None, str]] = []
    stamps = []
    for _ in range(count):
        now += chance.random() * pause + (3600 if chance.random() < 0.001 else 0)
        at = round(now - (chance.random() * 100 if chance.random() < odd else 0), 3)
        stamps.append(at)
        stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines.append((at, f"{stamp} INFO x " + "y" * chance.randrange(width + 1)))
        if chance.random() < odd:
            lines.append((None, HEAP))
            lines += [(None, f"\tat a.B.c{n}(B.java:{n})") for n in range(chance.randrange(1, 40))]
        if chance.random() < odd / 20:
            lines.append((None, "z" * chance.randrange(200_000)))
    choice = st.one_of(st.sampled_from(stamps), st.floats(stamps[0] - 500, now + 500))
    start, end = sorted((round(draw(choice), 3), round(draw(choice), 3)))
    return lines, start, end


@settings(max_examples=60, deadline=None)
@given(logs(), st.booleans(), st.booleans())
def test_a_bisected_window_equals_a_full_scan(
    made: tuple[list[tuple[float | None, str]], float, float], compressed: bool, crlf: bool
) -> None:
    lines, start, end = made
    text = ("\r\n" if crlf else "\n").join(line for _, line in lines)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("a.log.gz" if compressed else "a.log")
        put(path, text, None)
        window = request(start=datetime.fromtimestamp(start, UTC), end=datetime.fromtimestamp(end, UTC))
        answer = LogFiles(Path(folder)).read(window)
    count, errors = expected(lines, start, end)
    assert answer.lines == count
    assert sum(one.count for one in answer.exceptions) == errors
    assert all(" ended reading" not in warning for warning in answer.warnings)


def test_a_log_of_several_parts_is_counted_once_and_its_lines_are_numbered(tmp_path: Path) -> None:
    lines, size, at, number = [], 0, AT - timedelta(hours=5), 0
    errors = []
    while size < 5 * PART_BYTES:
        at += timedelta(milliseconds=200)
        line = spring(at, f"Order {number} placed")
        if number % 1000 == 999:
            line += f"{HEAP}\n\tat a.B{number}.c(B.java:1)\n"
            errors.append(number)
        lines.append(line)
        size += len(line)
        number += 1
    text = "".join(lines)
    put(tmp_path / "a.log", text, at)
    whole = LogFiles(tmp_path, seconds_max=120).read(request(start=AT - timedelta(days=1), end=AT + timedelta(days=1)))
    assert whole.lines == text.count("\n")
    assert sum(one.count for one in whole.exceptions) == len(errors)
    assert sum(count for one in whole.templates for _, count in one.buckets) == number
    numbered = text.split("\n")
    for one in whole.exceptions[:50]:
        assert numbered[int(one.source.partition(":")[2]) - 1] == HEAP
        assert f"at {one.frames[0]}" in numbered[int(one.source.partition(":")[2])]


def test_lines_of_another_date_inside_do_not_lead_astray(tmp_path: Path) -> None:
    lines = []
    for second in range(20_000):
        at = AT - timedelta(seconds=10_000) + timedelta(seconds=second)
        lines.append(spring(at, "x" * 50))
        if second % 7 == 0:
            lines.append("1999-01-01T00:00:00Z this is an old contract\n2099-01-01T00:00:00Z and a new one\n")
    put(tmp_path / "a.log", "".join(lines))
    answer = read(tmp_path)
    assert sum(one.count for one in answer.templates if "INFO" in one.template) == 1201


def test_nothing_in_the_window_says_what_exists(tmp_path: Path) -> None:
    put(tmp_path / "a.log", spring(AT - timedelta(days=3)) + spring(AT - timedelta(days=2)))
    answer = read(tmp_path)
    assert (answer.lines, answer.first_at, answer.templates) == (0, None, ())
    (warning,) = answer.warnings
    assert "2026-11-19T08:16:56Z" in warning
    assert "2026-11-20T08:16:56Z" in warning


# --- rotation and compression


@pytest.mark.parametrize(
    ("name", "former"),
    [
        ("checkout.log", "checkout.log"),
        ("checkout.log.1", "checkout.log"),
        ("checkout.log.12.gz", "checkout.log"),
        ("checkout.log-20261122.gz", "checkout.log"),
        ("checkout.log-20261122-1795335416", "checkout.log"),
        ("checkout.log.2026-11-22.0.gz", "checkout.log"),
        ("checkout-2026-11-22.0.log.gz", "checkout.log"),
        ("checkout.2026-11-22.log", "checkout.log"),
        ("checkout.2026-11-22_08.3.log", "checkout.log"),
        ("checkout.3.log", "checkout.log"),
        ("gc.log.0.current", "gc.log"),
        ("checkout.log.old", "checkout.log"),
    ],
)
def test_rotated_names_are_known_by_their_former_one(name: str, former: str) -> None:
    assert former in former_names(name)


def test_a_pattern_finds_rotated_siblings_and_each_file_once(tmp_path: Path) -> None:
    names = (
        "checkout.log",
        "checkout.log.1",
        "checkout.log.2.gz",
        "checkout-2026-11-22.0.log.gz",
        "payments.log",
        "x.txt",
    )
    for number, name in enumerate(names):
        put(tmp_path / "logs" / name, spring(AT - timedelta(seconds=number)))
    (tmp_path / "logs" / "checkout-link.log").symlink_to("checkout.log")
    answer = read(tmp_path, "logs/checkout*.log", "logs/checkout.log")
    assert answer.lines == 4
    assert read(tmp_path, "logs/checkout.log").lines == 4
    assert read(tmp_path, "**/*.log").lines == 5
    assert read(tmp_path, "l*/pay*").lines == 1
    assert read(tmp_path, str(tmp_path / "logs" / "payments.log")).lines == 1
    assert read(tmp_path, "**").lines == 6


def test_old_compressed_files_are_passed_over_and_damaged_ones_read_as_far_as_they_go(tmp_path: Path) -> None:
    old = put(tmp_path / "a.log.3.gz", spring(AT), AT - timedelta(days=3))
    assert read(tmp_path).lines == 0  # what a file closed three days ago says about today is no matter
    old.unlink()
    data = gzip.compress("".join(spring(AT, f"{random.Random(n).random()}") for n in range(30_000)).encode())
    (tmp_path / "a.log.1.gz").write_bytes(data[: len(data) // 2])
    answer = read(tmp_path)
    assert 0 < answer.lines < 30_000
    assert "damaged" in answer.warnings[0]
    (tmp_path / "a.log.1.gz").write_bytes(gzip.compress(spring(AT).encode()) + gzip.compress(spring(AT).encode()))
    assert read(tmp_path).lines == 2
    (tmp_path / "a.log.1.gz").write_bytes(b"\x1f\x8b" + os.urandom(5000))
    assert read(tmp_path).lines == 0
    (tmp_path / "a.log.1.gz").write_bytes(bz2.compress(b"x"))
    (tmp_path / "a.log.1.gz").rename(tmp_path / "a.log.1.bz2")
    assert ".bz2 is not read" in read(tmp_path).warnings[0]


def test_a_decompression_bomb_ends_at_the_deadline(tmp_path: Path) -> None:
    put(tmp_path / "a.log.gz", spring(AT).encode() + b"\0" * 300_000_000)
    begun = time.perf_counter()
    answer = LogFiles(tmp_path, seconds_max=2.0).read(request())
    assert time.perf_counter() - begun < 10
    assert answer.lines <= 2


# --- what cannot be read


def test_no_file_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"no file for logs/checkout\*\.log under .*advisor\.yaml"):
        read(tmp_path, "logs/checkout*.log")
    with pytest.raises(SourceUnavailable, match="no file"):
        read(tmp_path / "missing", "*.log")


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.log")
    ended = threading.Event()

    def attempt() -> None:
        with pytest.raises(SourceUnavailable, match="no regular file"):
            read(tmp_path)
        ended.set()

    threading.Thread(target=attempt, daemon=True).start()
    assert ended.wait(5)


def test_what_cannot_be_read_is_a_warning_beside_what_can(tmp_path: Path) -> None:
    put(tmp_path / "good.log", spring(AT))
    put(tmp_path / "empty.log", "")
    put(tmp_path / "plain.log", "no times here\nnor here\n")
    (tmp_path / "folder.log").mkdir()
    (tmp_path / "loop.log").symlink_to("loop.log")
    (tmp_path / "broken.log").symlink_to("nowhere.log")
    os.mkfifo(tmp_path / "pipe.log")
    answer = read(tmp_path)
    assert answer.lines == 1
    said = " | ".join(answer.warnings)
    for part in ("empty.log: is empty", "plain.log: its lines carry no time", "folder.log: is a directory", "loop.log: cannot",
                 "broken.log: cannot be read", "pipe.log: is no regular"):  # fmt: skip
        assert part in said
    assert len(answer.warnings) == 6


def test_a_file_without_times_still_says_that_it_tells_of_memory(tmp_path: Path) -> None:
    put(tmp_path / "a.log", "Terminating due to java.lang.OutOfMemoryError: Java heap space\n")
    (warning,) = read(tmp_path).warnings
    assert "Java heap space" in warning
    assert "2026-11-22T08:17:01Z" in warning


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_forbidden_file_names_the_reason(open_folder: Path) -> None:
    put(open_folder / "a.log", spring(AT)).chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(SourceUnavailable, match=r"a\.log: cannot be read: Permission denied"):
            read(open_folder)
    finally:
        if root:
            os.seteuid(0)


def test_a_circle_of_folders_ends(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").symlink_to(tmp_path / "a")
    put(tmp_path / "a" / "b" / "x.log", spring(AT))
    assert read(tmp_path, "**/x.log").lines == 1


def test_too_many_entries_are_told(tmp_path: Path) -> None:
    warnings: list[str] = []
    for number in range(1100):
        (tmp_path / f"{number}.log").touch()
    assert len(find_files(tmp_path, ("*.log",), warnings)) == 1000
    assert warnings == ["only the newest 1000 of 1100 files were read"]


# --- encodings and hostile bytes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = "2026-11-22T08:16:56Z INFO Größe für Köln geprüft\r\n" * 3
    bom = b"\xff\xfe" if encoding == "utf-16-le" else b""
    put(tmp_path / "a.log", bom + text.encode(encoding))
    answer = read(tmp_path)
    assert answer.lines == 3
    assert answer.templates[0].sample.endswith("Größe für Köln geprüft")


def test_broken_utf8_is_replaced_not_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.log", b"2026-11-22T08:16:56Z INFO K\xc3\xb6ln \xff\xfe \x00\x07 end\n")
    assert read(tmp_path).templates[0].sample.startswith("INFO Köln")


def test_random_bytes_give_a_warning(tmp_path: Path) -> None:
    chance = random.Random(3)
    for number in range(5):
        put(tmp_path / f"{number}.log", chance.randbytes(500_000))
    answer = read(tmp_path)
    assert answer.lines == 0
    assert len(answer.warnings) == 5


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.booleans())
def test_any_bytes_around_good_lines_are_survived(data: bytes, compressed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        good = spring(AT).encode()
        put(Path(folder) / ("a.log.gz" if compressed else "a.log"), good * 3 + data + b"\n" + good * 3)
        assert read(Path(folder)).lines >= 6


def test_a_line_of_ten_megabytes_costs_little_and_hides_nothing(tmp_path: Path) -> None:
    long = spring(AT, "long ")[:-1] + "x" * 10_000_000 + "\n"
    put(tmp_path / "a.log", spring(AT) + long + spring(AT) + "y" * 10_000_000 + "\n" + spring(AT))
    begun = time.perf_counter()
    answer = read(tmp_path)
    assert time.perf_counter() - begun < 5
    assert answer.lines == 5
    assert all(len(one.sample) <= 400 for one in answer.templates)


def test_only_line_breaks_of_files_divide_lines(tmp_path: Path) -> None:
    put(tmp_path / "a.log", "2026-11-22T08:16:56Z INFO a\x0bb\x0cc\u2028d\x85e\n")
    assert read(tmp_path).lines == 1


def test_secrets_are_redacted_everywhere(tmp_path: Path) -> None:
    text = (
        spring(AT, "login password=hunter2 exit code 137", "ERROR")
        + f"a.BException: hunter2\n\tat a.hunter2.b(A.java:1)\n{HEAP}\n"
    )
    put(tmp_path / "a.log", text)
    answer = LogFiles(tmp_path, redact=lambda line: line.replace("hunter2", "***")).read(request())
    assert "***" in answer.model_dump_json()
    assert "hunter2" not in answer.model_dump_json()


def test_a_warning_is_redacted_too(tmp_path: Path) -> None:
    put(tmp_path / "a.log", "java.lang.OutOfMemoryError: hunter2\n")
    answer = LogFiles(tmp_path, redact=lambda line: line.replace("hunter2", "***")).read(request())
    assert "***" in answer.warnings[0]
    assert "hunter2" not in answer.warnings[0]


# --- limits


def test_the_limit_of_lines_keeps_the_newest_and_says_so(tmp_path: Path) -> None:
    lines = [
        spring(AT - timedelta(seconds=590) + timedelta(milliseconds=number), "x" * 400) for number in range(60_000)
    ]
    put(tmp_path / "a.log", "".join(lines))
    answer = LogFiles(tmp_path, lines_max=20_000).read(request())
    assert 15_000 < answer.lines < 25_000
    assert answer.last_at == AT - timedelta(seconds=590) + timedelta(milliseconds=59_999)
    assert "limit of lines ended reading; read only" in answer.warnings[0]


def test_the_deadline_ends_reading(tmp_path: Path) -> None:
    put(tmp_path / "a.log", spring(AT) * 1000)
    answer = LogFiles(tmp_path, seconds_max=0.0).read(request())
    assert answer.lines == 0
    assert "deadline" in answer.warnings[0]


# --- collection logs


def test_a_collection_log_becomes_series_by_family(tmp_path: Path) -> None:
    for number, name in enumerate(("gc.log.0", "gc.log")):
        put(tmp_path / name, "".join(
            f"[2026-11-22T08:16:{10 * number + second:02d}.000+0000][{10 * number + second + 1}.000s][info][gc] "
            f"GC({second}) Pause Full (System.gc()) 60M->{second}M(96M) 3.2ms\n"
            for second in range(1, 10)
        ))  # fmt: skip
    answer = read(tmp_path, "gc.log")
    series = {one.name: one for one in answer.series}
    assert len(series["gc_heap_after_full_bytes"].times) == 18
    assert series["gc_pause_seconds"].label("file") == "gc.log"
    assert answer.templates == ()
    assert answer.lines == 18
    assert [at.isoformat() for at in answer.restarts] == ["2026-11-22T08:15:59+00:00"]


def test_a_collection_log_with_only_uptime_is_anchored_at_its_last_writing(tmp_path: Path) -> None:
    put(tmp_path / "gc.log", (
        "[0.005s][info][gc] Using G1\n[900.0s][info][gc] GC(7) Pause Young (Normal) 6M->6M(64M) 3.0ms\n"
        "[0.005s][info][gc] Using G1\n"
        "[50.000s][info][gc] GC(0) Pause Young (Normal) 6M->5M(64M) 3.004ms\n[60.000s][info][gc] GC(1) Pause Full 9M->7M(64M) 1.0ms\n"
    ), AT)  # fmt: skip
    answer = read(tmp_path)
    after = next(one for one in answer.series if one.name == "gc_heap_after_bytes")
    assert after.times == (AT.timestamp() - 10, AT.timestamp())
    assert after.values == (5 << 20, 7 << 20)
    assert [at.timestamp() for at in answer.restarts] == [AT.timestamp() - 60]
    (warning,) = answer.warnings
    assert "uptime" in warning
    assert "1 earlier runs" in warning


# --- blocks of known lines


def line_by_line(path: Path, start: datetime, end: datetime) -> LogAnswer:
    """Read a file without any short cut."""
    lines = path.read_bytes().decode(errors="replace").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    read_one = Clock(path.stat().st_mtime).choose(lines)
    assert read_one is not None
    digest = LogDigest(start.timestamp(), end.timestamp())
    digest.begin(path.name, path.name)
    inside = False
    for line in lines:
        event = read_one(line)
        if event is not None:
            inside = start.timestamp() <= event[0] <= end.timestamp()
        if not inside:
            digest.skip()
        elif event is None:
            digest.extend(line)
        else:
            digest.add(*event)
    return digest.answer()


def told(answer: LogAnswer) -> tuple[object, ...]:
    """Return what both ways of reading must agree on: all but the samples and the names of places."""
    return (
        answer.lines,
        sorted((t.template, t.level, t.count, t.first_at, t.last_at, t.buckets) for t in answer.templates),
        sorted((e.type, e.message, e.root_type, e.root_message, e.frames, e.count, e.at) for e in answer.exceptions),
        answer.restarts,
        sorted(answer.kills),
        answer.first_at,
        answer.last_at,
    )


TRACE_LINES = f"a.BException: x\n\tat a.B.c(B.java:1)\nCaused by: {HEAP}\n\tat a.D.e(D.java:2)\n\t... 3 more"
STATEMENTS = (
    "INFO [exec-{n}] Cart - cart {n} of session {h} priced",
    "INFO [exec-{n}] Audit - user={w} trace={u} ended",
    "WARN [exec-{n}] Db - pool has {n} of 30 left",
    'INFO [exec-{n}] Http - "GET /a/{n}?q={w}" answered 200 in {n} ms',
    'ERROR [exec-{n}] Http - "GET /a/{n}?q={w}" answered 503 in {n} ms',
    "ERROR [exec-{n}] Shop - order failed\n" + TRACE_LINES,
    "Traceback (most recent call last):",
    "INFO [main] Started CheckoutApplication in 3.{n} seconds",
    "ERROR [main] Container checkout exited with exit code 137",
    "INFO [main] Container cart exited with exit code 0",
    "WARN [mail] Mail - no answer from {w} within {n} ms",
)
STAMPS = {
    "zulu": lambda at: at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    "comma": lambda at: at.strftime("%Y-%m-%d %H:%M:%S,") + f"{at.microsecond // 1000:03d}",
    "offset": lambda at: at.astimezone(timezone(timedelta(hours=at.minute % 3))).isoformat(timespec="microseconds"),
    "nanoseconds cut short": lambda at: at.strftime("%Y-%m-%dT%H:%M:%S") + f".{at.microsecond:06d}".rstrip("0") + "7Z",
    "bracket": lambda at: at.strftime("[%d/%b/%Y:%H:%M:%S +0000]"),
    "behind an address": lambda at: f"10.0.{at.second}.{at.minute} - - " + at.strftime("[%d/%b/%Y:%H:%M:%S +0200]"),
    "syslog": lambda at: at.strftime("%b %d %H:%M:%S host app[7]:"),
    "klog": lambda at: "WIE"[at.second % 3] + at.strftime("%m%d %H:%M:%S.%f"),
    "tomcat": lambda at: at.strftime("%d-%b-%Y %H:%M:%S.") + f"{at.microsecond // 1000:03d}",
    "httpd": lambda at: at.strftime("[%a %b %d %H:%M:%S.%f %Y]"),
    "seconds": lambda at: f"{at.timestamp():.3f}",
    "milliseconds": lambda at: f"{at.timestamp() * 1000:.0f}",
}  # fmt: skip


def mixed_log(stamp: Callable[[datetime], str], seed: int, events: int = 1_500) -> str:
    chance = random.Random(seed)
    at, parts = AT - timedelta(minutes=12), []
    for _ in range(events):
        at += timedelta(milliseconds=chance.randrange(2_000))
        shaken = at - timedelta(seconds=chance.choice((0, 0, 0, 0, 61)))
        text = chance.choice(STATEMENTS)
        for mark, make in (
            ("{n}", lambda: str(chance.randrange(10 ** chance.randrange(1, 6)))),
            ("{h}", lambda: f"{chance.getrandbits(128):032x}"),
            ("{u}", lambda: f"{chance.getrandbits(32):08x}-abcd-4d5e-8f90-{chance.getrandbits(48):012x}"),
            ("{w}", lambda: "".join(chance.choices("bcdfgjkmnopqrtuvxyz", k=chance.randrange(1, 9)))),
        ):
            while mark in text:
                text = text.replace(mark, make(), 1)
        parts.append(f"{stamp(shaken)} {text}\n")
    return "".join(parts)


@pytest.mark.parametrize("name", STAMPS)
@pytest.mark.parametrize("block", [700, 9_000, 1 << 20])
def test_blocks_are_read_as_line_by_line(
    tmp_path: Path, name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advisor.adapters.log_files.lines.BLOCK_BYTES", block)
    path = put(tmp_path / "a.log", mixed_log(STAMPS[name], seed=block), AT + timedelta(hours=1))
    asked = request("a.log", start=AT - timedelta(minutes=8), end=AT + timedelta(minutes=8))
    assert told(LogFiles(tmp_path).read(asked)) == told(line_by_line(path, asked.start, asked.end))


def test_json_and_logfmt_blocks_are_read_as_line_by_line(tmp_path: Path) -> None:
    chance = random.Random(2)
    shapes = (
        '{{"ts":"{z}","level":"info","msg":"order {n} placed by w{n}","trace":"{n:032x}"}}',
        '{{"level":50,"time":{m},"msg":"order {n} failed"}}',
        '{{"level":30,"time":{m},"msg":"order {n} failed"}}',
        '{{"time":"{z}","method":"GET","path":"/a/{n}","status":503,"agent":"Mozilla say root"}}',
        '{{"time":"{z}","method":"GET","path":"/a/{n}","status":200,"agent":"Mozilla say root"}}',
        'ts={z} level=warn msg="pool {n} low" free={n}',
    )
    for which in (shapes[:1], shapes[1:3], shapes[3:5], shapes[5:]):
        text = ""
        for number in range(2_000):
            at = AT + timedelta(milliseconds=137 * number)
            values = {"z": STAMPS["zulu"](at), "m": round(at.timestamp() * 1000), "n": chance.randrange(10**5)}
            text += chance.choice(which).format(**values) + "\n"
        path = put(tmp_path / "a.log", text, AT + timedelta(hours=1))
        asked = request("a.log")
        answer = LogFiles(tmp_path).read(asked)
        assert answer.lines == 2_000
        assert told(answer) == told(line_by_line(path, asked.start, asked.end))


@pytest.mark.parametrize("begin", ["", spring(AT, "order 1 placed"), spring(AT, "order failed") + TRACE_LINES + "\n"])
@pytest.mark.parametrize("block", [700, 1 << 20])
def test_runs_of_empty_lines_are_read_as_line_by_line(
    tmp_path: Path, begin: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advisor.adapters.log_files.lines.BLOCK_BYTES", block)
    late = spring(AT + timedelta(seconds=9), "order 2 placed")
    text = begin + "\n" * 3_000 + TRACE_LINES + "\n" * 1_200 + "x\n" + late + "\n" * 5 + late + TRACE_LINES + "\n"
    path = put(tmp_path / "a.log", text, AT + timedelta(hours=1))
    asked = request("a.log")
    assert told(LogFiles(tmp_path).read(asked)) == told(line_by_line(path, asked.start, asked.end))


def test_an_entry_without_a_message_shows_its_status_and_hides_its_texts(tmp_path: Path) -> None:
    line = '{"time":"2026-11-22T08:16:56Z","method":"GET","path":"/a?q=say root","status":503,"bytes":7}\n'
    put(tmp_path / "a.log", line * 3)
    (one,) = read(tmp_path).templates
    assert one.template == "method=GET path=<str> status=<5xx> bytes=<num>"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(0, 5))
def test_any_bytes_between_known_lines_change_nothing_of_them(garbage: list[bytes], every: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for number in range(60):
            lines.append(spring(AT + timedelta(seconds=number), f"order {number} placed").encode())
            if garbage and number % 6 == every:
                one = garbage[number % len(garbage)].replace(b"\n", b"").replace(b"\r", b"").replace(b"\x1b", b"")
                lines.append(b"# " + one + b"\n")
        put(Path(folder) / "a.log", b"".join(lines))
        answer = read(Path(folder))
        (one_template,) = [t for t in answer.templates if "order" in t.template]
        assert one_template.count == 60
