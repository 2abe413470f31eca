"""Garbage collection logs as numbers: lines that real JVMs printed, and what they must become."""

from __future__ import annotations

import random
import string
import time

import pytest

from advisor.evidence import Series
from advisor.evidence.gc_log import POINTS_MAX, GcLog, decorations, gc_series, uptime_seconds

MEBIBYTE = 1 << 20
AT = 1795335416.123
Z = "2026-11-22T08:16:56.123+0000"  # the same instant


def by_name(series: tuple[Series, ...]) -> dict[str, Series]:
    return {one.name: one for one in series}


@pytest.mark.parametrize(
    ("line", "after", "total", "pause", "full"),
    [
        pytest.param(
            f"[{Z}][12.345s][info][gc] "
            "GC(12) Pause Young (Normal) (G1 Evacuation Pause) 60M->30M(96M) 3.2ms",
            30 * MEBIBYTE, 96 * MEBIBYTE, 0.0032, False, id="g1-young",
        ),
        pytest.param(
            "[2026-11-22T09:16:56.123+0100][12.345s][info ][gc,start    ] "
            "GC(12) Pause Young (Normal) (G1 Evacuation Pause)",
            None, None, None, False, id="start-says-nothing",
        ),
        pytest.param(
            "[info][gc][2026-11-22T08:16:56.123+0000] GC(3) Pause Full (System.gc()) 10M->2M(20M) 5.5ms",
            2 * MEBIBYTE, 20 * MEBIBYTE, 0.0055, True, id="full-other-order",
        ),
        pytest.param(
            f"[{Z}][info][gc] GC(4) Pause Full (Ergonomics) 61M->24M(61M) 8.649ms",
            24 * MEBIBYTE, 61 * MEBIBYTE, 0.008649, True, id="parallel-full",
        ),
        pytest.param(
            "[1795335416123ms][info][gc] GC(0) Pause Young (Allocation Failure) 17M->16M(61M) 20.763ms",
            16 * MEBIBYTE, 61 * MEBIBYTE, 0.020763, False, id="serial-epoch-millis",
        ),
        pytest.param(
            f"[{Z}][4.031s][info][gc    ] GC(1005) Pause Cleanup 18M->18M(64M) 0.034ms",
            None, 64 * MEBIBYTE, 0.000034, False, id="g1-cleanup-is-no-floor",
        ),
        pytest.param(
            f"[{Z}][0.148s][info][gc   ] GC(3) Concurrent cleanup 16M->15M(64M) 0.014ms",
            15 * MEBIBYTE, 64 * MEBIBYTE, None, False, id="shenandoah-cleanup",
        ),
        pytest.param(
            f"[{Z}][0.1s][info][gc] "
            "GC(3) Pause Degenerated GC (Outside of Cycle) 60M->30M(96M) 12.000ms",
            30 * MEBIBYTE, 96 * MEBIBYTE, 0.012, False, id="shenandoah-degenerated",
        ),
        pytest.param(
            f"[{Z}][0.5s][info][gc] GC(10) Garbage Collection (Allocation Stall) 64M(100%)->26M(41%)",
            26 * MEBIBYTE, None, None, False, id="zgc-cycle",
        ),
        pytest.param(
            f"[{Z}][0.5s][info][gc] GC(1) Major Collection (Warmup) 128M(10%)->64M(5%) 0.030s",
            64 * MEBIBYTE, None, None, False, id="zgc-generational",
        ),
        pytest.param(
            f"[{Z}][0.2s][info][gc,phases   ] GC(0) Pause Mark Start 0.009ms",
            None, None, 0.000009, False, id="zgc-phase",
        ),
        pytest.param(
            f"{Z}: 12.345: [GC (Allocation Failure) [PSYoungGen: 65536K->10720K(76288K)] "
            "65536K->54321K(251392K), 0.0123456 secs] [Times: user=0.02 sys=0.01, real=0.01 secs]",
            54321 * 1024, 251392 * 1024, 0.0123456, False, id="jdk8-parallel",
        ),
        pytest.param(
            f"{Z}: 13.345: [Full GC (Ergonomics) [PSYoungGen: 10K->0K(76288K)] "
            "[ParOldGen: 5K->4K(6K)] 54321K->50000K(251392K), [Metaspace: 1000K->1001K(1056768K)], 0.1 secs]",
            50000 * 1024, 251392 * 1024, 0.1, True, id="jdk8-full",
        ),
        pytest.param(
            f"{Z}: 15.345: [GC pause (G1 Evacuation Pause) (young) 24M->4512K(256M), 0.0023 secs]",
            4512 * 1024, 256 * MEBIBYTE, 0.0023, False, id="jdk8-g1-short",
        ),
        pytest.param(
            f"{Z}: 16.345: [GC (Allocation Failure) {Z}: 16.345: "
            "[ParNew: 1K->2K(3K), 0.01 secs] 4K->5K(6K), 0.02 secs] [Times: user=0.02]",
            5 * 1024, 6 * 1024, 0.02, False, id="jdk8-cms",
        ),
        pytest.param(
            f"{Z}: 17.345: [GC (CMS Initial Mark) [1 CMS-initial-mark: 10K(20K)] 30K(40K), 0.01 secs]",
            None, None, 0.01, False, id="jdk8-cms-mark",
        ),
        pytest.param(f"{Z}: 1.5: [GC concurrent-mark-start]", None, None, None, False, id="none"),
    ],
)  # fmt: skip
def test_a_line_becomes_its_numbers(
    line: str, after: float | None, total: float | None, pause: float | None, full: bool
) -> None:
    log = GcLog()
    assert log.add(line)
    series = by_name(log.series())

    def only(name: str) -> float | None:
        return series[name].values[0] if name in series else None

    assert only("gc_heap_after_bytes") == after
    assert only("gc_heap_total_bytes") == total
    assert only("gc_pause_seconds") == (None if pause is None else pytest.approx(pause))
    assert ("gc_heap_after_full_bytes" in series) == ("gc_pause_full_seconds" in series) == full
    assert all(one.times == (pytest.approx(AT),) for one in series.values())


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-22T08:16:56.123Z  INFO 1 --- [main] o.e.shop.Cart : 60M->30M(96M) 3.2ms",
        f"[{Z}][0.054s][warning][os,thread] Failed to start thread",
        "[main] INFO shop - Pause Full of the GC",
        "",
        "[",
        "[]",
    ],
)
def test_other_lines_are_not_taken(line: str) -> None:
    log = GcLog()
    assert not log.add(line)
    assert log.series() == ()


def test_old_g1_with_details_takes_the_sizes_from_a_later_line() -> None:
    lines = (
        "2026-11-22T08:16:58.123+0000: 14.345: [GC pause (G1 Evacuation Pause) (young), 0.0123 secs]",
        "   [Parallel Time: 10.0 ms, GC Workers: 2]",
        "   [Eden: 24.0M(24.0M)->0.0B(13.0M) Survivors: 0.0B->3072.0K Heap: 24.0M(256.0M)->4512.0K(256.0M)]",
    )
    series = by_name(gc_series(lines))
    assert series["gc_heap_after_bytes"].values == (4512 * 1024,)
    assert series["gc_heap_total_bytes"].values == (256 * MEBIBYTE,)
    assert series["gc_pause_seconds"].values == (0.0123,)


def test_zgc_takes_the_heap_size_from_the_capacity_table_of_the_same_collection() -> None:
    columns = "         64M (100%)" * 6
    prefix = "[2026-11-22T08:41:22.142+0000][0.541s][info][gc,heap     ] GC(10)"
    lines = (
        f"{prefix}  Capacity:       64M (100%){columns[19:]}   ",
        "[2026-11-22T08:41:22.142+0000][info][gc] GC(10) Garbage Collection (Warmup) 64M(100%)->26M(41%)",
        "[2026-11-22T08:41:23.142+0000][info][gc] GC(11) Garbage Collection (Warmup) 64M(100%)->28M(41%)",
    )
    series = by_name(gc_series(lines))
    assert series["gc_heap_total_bytes"].values == (64 * MEBIBYTE,)
    assert series["gc_heap_after_bytes"].values == (26 * MEBIBYTE, 28 * MEBIBYTE)


def test_metaspace_is_its_own_series_in_every_dialect() -> None:
    lines = (
        "[2026-11-22T08:41:17.600+0000][gc,metaspace] GC(1) Metaspace: 86K(320K)->86K(320K) NonClass: 1K",
        "[2026-11-22T08:41:18.600+0000][info][gc,metaspace] GC(2) Metaspace: 90K->91K(1056768K)",
    )
    assert by_name(gc_series(lines))["gc_metaspace_bytes"].values == (86 * 1024, 91 * 1024)


def test_a_log_with_only_uptime_is_read_from_the_start_of_the_jvm() -> None:
    lines = ("[0.005s][info][gc] Using G1", "[2.500s][info][gc] GC(0) Pause Young 6M->5M(64M) 3.004ms")
    assert gc_series(lines) == ()
    assert by_name(gc_series(lines, started_at=1000.0))["gc_heap_after_bytes"].times == (1002.5,)
    assert uptime_seconds("12.345: [GC (Allocation Failure)  65536K->10720K(251392K), 0.01 secs]") == 12.345
    assert uptime_seconds("[2500ms][gc] x") == 2.5
    assert uptime_seconds("nothing") is None


def test_the_start_of_each_jvm_is_noted_once() -> None:
    log = GcLog()
    for second in range(3):
        log.add(f"[2026-11-22T08:16:5{second}.000+0000][{second}.000s][info][gc] Using G1")
    log.add("[2026-11-22T08:18:00.000+0000][0.010s][info][gc] Using G1")
    assert [round(start - AT) for start in log.starts] == [-6, 64]


def test_the_callers_time_counts_more_than_the_lines_own() -> None:
    log = GcLog()
    assert log.add("GC(12) Pause Young (Normal) (G1 Evacuation Pause) 60M->30M(96M) 3.2ms", 50.0)
    assert by_name(log.series())["gc_heap_after_bytes"].times == (50.0,)


def test_series_are_sorted_bounded_and_strictly_increasing() -> None:
    log = GcLog()
    order = list(range(3 * POINTS_MAX))
    random.Random(7).shuffle(order)
    for number in order:
        log.add(f"GC({number}) Pause Young (Normal) 60M->{number}M(96M) 3.2ms", 1000.0 + number // 2)
    for one in log.series({"file": "gc.log"}):
        assert len(one.times) <= POINTS_MAX
        assert all(a < b for a, b in zip(one.times, one.times[1:], strict=False))
        assert one.label("file") == "gc.log"


def test_impossible_days_and_numbers_are_not_times() -> None:
    read = decorations("[2026-13-45T08:16:56.123+0000][gc] GC(1) Pause Young 6M->5M(64M) 1.0ms")
    assert read is not None
    assert read.at is None


def test_hostile_lines_take_linear_time() -> None:
    generator = random.Random(11)
    hostile = ["[" * 100_000, "[gc]" * 50_000, "[GC " + "1K->" * 50_000, "[GC " + "[" * 90_000]
    hostile += ["Heap: " * 30_000, "[gc] GC(1) Pause " + "9" * 60_000, "[gc] GC(1)" + " " * 80_000 + "x"]
    hostile += ["[gc] GC(1) Metaspace: " + "1" * 90_000]
    hostile += ["".join(generator.choices(string.printable + "[]()->KMGT", k=5_000)) for _ in range(200)]
    log = GcLog()
    begun = time.perf_counter()
    for line in hostile:
        log.add(line, 1.0)
        uptime_seconds(line)
    assert time.perf_counter() - begun < 2.0
