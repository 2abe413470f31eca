"""Series become signals: every exporter's names play the same roles, replicas and restarts are told apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.evidence import Series
from advisor.evidence.signals import Signals, build_signals, is_counter, rate, smooth

T0 = 1_795_334_400.0
STEP = 15.0
MIB = 1024.0 * 1024


def series(
    name: str, value: Callable[[int], float] | float, /, points: int = 120, begin: int = 0, **labels: str
) -> Series:
    """Return a series on the grid; samples that are NaN are left out, as an adapter leaves them out."""
    pairs = [(T0 + i * STEP, float(value(i) if callable(value) else value)) for i in range(begin, points)]
    kept = [(t, v) for t, v in pairs if math.isfinite(v)]
    return Series(
        name=name,
        labels=tuple(sorted(labels.items())),
        times=tuple(t for t, _ in kept),
        values=tuple(v for _, v in kept),
    )


def signals(*group: Series, logs: Sequence[float] = ()) -> Signals:
    return build_signals(group, STEP, logs)


def median(found: Signals, role: str) -> float:
    signal = found.get(role)
    assert signal is not None, f"{role} not among {sorted(found.roles)}"
    return float(np.nanmedian(signal.values))


# --- roles under every exporter's names --------------------------------------------------------------------------------

HEAP, MAX, META, THREADS, DIRECT = 300 * MIB, 512 * MIB, 90 * MIB, 44.0, 7 * MIB
EXPORTERS: dict[str, list[Series]] = {
    "Micrometer": [
        series("jvm_memory_used_bytes", 20 * MIB, area="heap", id="G1 Eden Space"),
        series("jvm_memory_used_bytes", 5 * MIB, area="heap", id="G1 Survivor Space"),
        series("jvm_memory_used_bytes", 275 * MIB, area="heap", id="G1 Old Gen"),
        series("jvm_memory_used_bytes", META, area="nonheap", id="Metaspace"),
        series("jvm_memory_used_bytes", 30 * MIB, area="nonheap", id="CodeCache"),
        series("jvm_memory_max_bytes", -1, area="heap", id="G1 Eden Space"),
        series("jvm_memory_max_bytes", -1, area="heap", id="G1 Survivor Space"),
        series("jvm_memory_max_bytes", MAX, area="heap", id="G1 Old Gen"),
        series("jvm_threads_live_threads", THREADS),
        series("jvm_buffer_memory_used_bytes", DIRECT, id="direct"),
        series("jvm_buffer_memory_used_bytes", 3 * MIB, id="mapped"),
    ],
    "JMX exporter 0.x": [
        series("jvm_memory_bytes_used", HEAP, area="heap"),
        series("jvm_memory_bytes_used", 200 * MIB, area="nonheap"),
        series("jvm_memory_bytes_max", MAX, area="heap"),
        series("jvm_memory_pool_bytes_used", META, pool="Metaspace"),
        series("jvm_threads_current", THREADS),
        series("jvm_buffer_pool_used_bytes", DIRECT, pool="direct"),
    ],
    "JMX exporter 1.x, client_java 1.x": [
        series("jvm_memory_used_bytes", HEAP, area="heap"),
        series("jvm_memory_max_bytes", MAX, area="heap"),
        series("jvm_memory_pool_used_bytes", META, pool="Metaspace"),
        series("jvm_memory_pool_used_bytes", 250 * MIB, pool="G1 Old Gen"),
        series("jvm_threads_current", THREADS),
        series("jvm_buffer_pool_used_bytes", DIRECT, pool="direct"),
    ],
    "JMX beans as they are": [
        series("java_lang_Memory_HeapMemoryUsage_used", HEAP),
        series("java_lang_Memory_HeapMemoryUsage_max", MAX),
        series("java_lang_MemoryPool_Usage_used", META, name="Metaspace"),
        series("java_lang_Threading_ThreadCount", THREADS),
        series("java_nio_BufferPool_MemoryUsed", DIRECT, name="direct"),
    ],
    "OpenTelemetry": [
        series("jvm_memory_used_bytes", 250 * MIB, jvm_memory_type="heap", jvm_memory_pool_name="G1 Old Gen"),
        series("jvm_memory_used_bytes", 50 * MIB, jvm_memory_type="heap", jvm_memory_pool_name="G1 Eden Space"),
        series("jvm_memory_used_bytes", META, jvm_memory_type="non_heap", jvm_memory_pool_name="Metaspace"),
        series("jvm_memory_limit_bytes", MAX, jvm_memory_type="heap", jvm_memory_pool_name="G1 Old Gen"),
        series("jvm_thread_count", THREADS),
        series("jvm_buffer_memory_usage_bytes", DIRECT, jvm_buffer_pool_name="direct"),
    ],
    "OpenTelemetry before 1.0": [
        series("process_runtime_jvm_memory_usage_bytes", HEAP, type="heap", pool="G1 Old Gen"),
        series("process_runtime_jvm_memory_limit_bytes", MAX, type="heap", pool="G1 Old Gen"),
        series("process_runtime_jvm_memory_usage_bytes", META, type="non_heap", pool="Metaspace"),
        series("process_runtime_jvm_threads_count", THREADS),
        series("process_runtime_jvm_buffer_usage_bytes", DIRECT, pool="direct"),
    ],
    "MicroProfile": [
        series("base_memory_usedHeap_bytes", HEAP),
        series("base_memory_maxHeap_bytes", MAX),
        series("base_thread_count", THREADS),
    ],
}  # fmt: skip


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_every_exporters_names_play_the_same_roles(exporter: str) -> None:
    found = signals(*EXPORTERS[exporter])
    wanted = {"heap_used": HEAP, "heap_max": MAX, "threads": THREADS}
    if exporter != "MicroProfile":
        wanted |= {"metaspace_used": META, "direct_used": DIRECT}
    assert {role: median(found, role) for role in wanted} == wanted


@pytest.mark.parametrize(
    ("role", "one"),
    [
        ("rss", series("process_resident_memory_bytes", 5.0)),
        ("rss", series("container_memory_working_set_bytes", 5.0, container="checkout")),
        ("memory_limit", series("container_spec_memory_limit_bytes", 5.0)),
        ("memory_limit", series("kube_pod_container_resource_limits", 5.0, resource="memory")),
        ("classes_loaded", series("jvm_classes_loaded_classes", 5.0)),
        ("classes_loaded", series("jvm_classes_currently_loaded", 5.0)),
        ("classes_loaded", series("jvm_class_count", 5.0)),
        ("gc_seconds", series("jvm_gc_pause_seconds_sum", lambda i: i * 5.0 * STEP)),
        ("gc_seconds", series("jvm_gc_collection_seconds_sum", lambda i: i * 5.0 * STEP)),
        ("gc_seconds", series("java_lang_GarbageCollector_CollectionTime", lambda i: i * 5000.0 * STEP)),
        ("requests", series("http_server_requests_seconds_count", lambda i: i * 5.0 * STEP, uri="/", status="200")),
        ("requests", series("http_requests_total", lambda i: i * 5.0 * STEP)),
        ("requests", series("http_server_request_duration_seconds_count", lambda i: i * 5.0 * STEP)),
        ("requests", series("Catalina_GlobalRequestProcessor_requestCount", lambda i: i * 5.0 * STEP)),
        ("requests", series("shop_orders_total", lambda i: i * 5.0 * STEP)),
        ("errors", series("http_server_requests_seconds_count", lambda i: i * 5.0 * STEP, status="503")),
        ("errors", series("http_server_request_duration_seconds_count", lambda i: i * 5.0 * STEP, http_response_status_code="500")),
        ("sessions_created", series("tomcat_sessions_created_sessions_total", lambda i: i * 5.0 * STEP)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)  # fmt: skip
def test_a_name_plays_its_role(role: str, one: Series) -> None:
    assert median(signals(one), role) == pytest.approx(5.0)


@pytest.mark.parametrize(
    "one",
    [
        series("kube_pod_container_resource_limits", 2.0, resource="cpu"),
        series("jvm_memory_used_bytes", 5.0, area="nonheap", id="CodeCache"),
        series("jvm_buffer_memory_used_bytes", 5.0, id="mapped"),
        series("jvm_gc_memory_allocated_bytes_total", lambda i: i * 1.0),
        series("http_client_requests_seconds_count", lambda i: i * 1.0),
    ],
    ids=lambda one: one.name,
)
def test_a_name_that_is_near_plays_no_memory_or_traffic_role(one: Series) -> None:
    assert not {"heap_used", "heap_max", "direct_used", "memory_limit", "requests"} & set(signals(one).roles)


def test_a_limit_that_means_no_limit_is_none() -> None:
    assert signals(series("container_spec_memory_limit_bytes", 2.0**63)).get("memory_limit") is None


def test_latency_is_time_by_requests() -> None:
    found = signals(
        series("http_server_requests_seconds_count", lambda i: i * 10.0),
        series("http_server_requests_seconds_sum", lambda i: i * 2.5),
    )
    assert median(found, "latency") == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("name", "counter"),
    [
        ("http_requests_total", True),
        ("jvm_gc_pause_seconds_count", True),
        ("jvm_memory_used_bytes", False),
        ("checkout_sessions", False),
    ],
)
def test_a_counter_is_known_by_its_name(name: str, counter: bool) -> None:
    assert is_counter(name) is counter


def test_gauges_and_rates_are_found_by_name_and_kind() -> None:
    found = signals(
        series("cache_size", 5.0, cache="prices", pod="a"),
        series("cache_size", 7.0, cache="prices", pod="b"),
        series("cache_size", 100.0, cache="taxes", pod="a"),
        series("cache_puts_total", lambda i: i * STEP, pod="a"),
        series("x_seconds_bucket", lambda i: i, le="1"),
    )
    assert sorted(found.gauges) == ["cache_size{cache=prices}", "cache_size{cache=taxes}"]
    assert np.nanmedian(found.gauges["cache_size{cache=prices}"].values) == 12.0
    assert list(found.rates) == ["cache_puts_total"]


# --- replicas ----------------------------------------------------------------------------------------------------------


def heap(value: Callable[[int], float] | float, points: int = 120, begin: int = 0, **labels: str) -> Series:
    return series("jvm_memory_used_bytes", value, points, begin, area="heap", **labels)


def test_of_replicas_side_by_side_the_fullest_tells_the_story() -> None:
    found = signals(heap(lambda i: 100 + i % 10, pod="a"), heap(lambda i: 200 + i, pod="b"), heap(150.0, pod="c"))
    signal = found.get("heap_used")
    assert signal is not None
    np.testing.assert_array_equal(signal.values, 200.0 + np.arange(120))


def test_replicas_that_follow_one_another_are_one_story() -> None:
    found = signals(
        heap(lambda i: 100.0 + i, points=60, pod="a"),
        heap(lambda i: 100.0 + (i - 60), begin=60, pod="b"),
        series("process_start_time_seconds", T0 - 3600, points=60, pod="a"),
        series("process_start_time_seconds", T0 + 60 * STEP, begin=60, pod="b"),
    )
    signal = found.get("heap_used")
    assert signal is not None
    assert np.isfinite(signal.values).all()
    assert (signal.values[59], signal.values[60]) == (159.0, 100.0)
    assert len(found.restarts) == 1
    assert [life.size for life in found.lives] == [60, 60]


def test_pools_are_summed_within_a_replica_and_never_across() -> None:
    found = signals(
        heap(10.0, pod="a", id="eden"),
        heap(20.0, pod="a", id="old"),
        heap(100.0, pod="b", id="eden"),
        heap(200.0, pod="b", id="old"),
    )
    assert median(found, "heap_used") == 300.0


def test_requests_are_summed_over_replicas() -> None:
    found = signals(*(series("http_requests_total", lambda i: i * STEP, pod=p) for p in "abc"))
    assert median(found, "requests") == pytest.approx(3.0)


# --- restarts ----------------------------------------------------------------------------------------------------------

DIES_AT = 70


def uptime(i: int) -> float:
    return 3600 + i * STEP if i < DIES_AT else (i - DIES_AT) * STEP


def counter(i: int) -> float:
    return 5000 + i * 8.0 if i < DIES_AT else (i - DIES_AT) * 8.0


@pytest.mark.parametrize(
    ("group", "logs"),
    [
        pytest.param(
            [series("process_start_time_seconds", lambda i: T0 - 3600 if i < DIES_AT else T0 + DIES_AT * STEP)],
            [],
            id="start time",
        ),
        pytest.param([series("process_uptime_seconds", uptime)], [], id="uptime"),
        pytest.param(
            [series("kube_pod_container_status_restarts_total", lambda i: 2 if i < DIES_AT else 3)], [], id="container"
        ),
        pytest.param(
            [series("http_requests_total", counter), series("jvm_gc_pause_seconds_sum", counter)],
            [],
            id="counter resets",
        ),
        pytest.param([], [T0 + DIES_AT * STEP], id="logs"),
    ],
)
def test_a_restart_is_seen_by_whatever_shows_it(group: list[Series], logs: list[float]) -> None:
    found = signals(heap(100.0), *group, logs=logs)
    assert len(found.restarts) == 1
    assert found.restarts[0] == pytest.approx(T0 + DIES_AT * STEP, abs=STEP)
    assert [life.size for life in found.lives] == pytest.approx([DIES_AT, 120 - DIES_AT], abs=1)


def test_a_process_that_runs_on_has_one_life() -> None:
    found = signals(heap(100.0), series("process_start_time_seconds", T0 - 3600))
    assert found.restarts == ()
    assert [life.size for life in found.lives] == [120]
    assert found.first_start == T0 - 3600


def test_a_log_does_not_count_a_start_that_a_metric_counted() -> None:
    at = T0 + DIES_AT * STEP
    found = signals(
        heap(100.0),
        series("process_start_time_seconds", lambda i: T0 - 3600 if i < DIES_AT else at),
        logs=[at - 4, at + 31],
    )
    assert len(found.restarts) == 1


def test_the_first_start_is_read_from_uptime_too() -> None:
    assert signals(heap(100.0), series("process_uptime_seconds", lambda i: 2 + i * STEP)).first_start == pytest.approx(
        T0 - 2
    )


def test_a_start_time_of_another_clock_counts_by_its_change() -> None:
    found = signals(heap(100.0), series("process_start_time_seconds", lambda i: 1000.0 if i < DIES_AT else 2000.0))
    assert found.restarts == (T0 + DIES_AT * STEP,)


# --- counters and gaps -------------------------------------------------------------------------------------------------


def test_a_reset_does_not_make_a_rate_negative_or_huge() -> None:
    values = np.array([counter(i) for i in range(120)])
    found = rate(values, STEP)
    known = found[np.isfinite(found)]
    assert known.min() >= 0
    assert known.max() <= 8.0 / STEP + 1e-9


def test_gaps_stay_gaps() -> None:
    found = signals(
        heap(lambda i: math.nan if 40 <= i < 60 else 100.0),
        series("http_requests_total", lambda i: math.nan if 40 <= i < 60 else i * STEP),
    )
    used = found.get("heap_used")
    assert used is not None
    assert np.isnan(used.values[40:60]).all() and np.isfinite(used.values[:40]).all()
    assert median(found, "requests") == pytest.approx(1.0)
    assert len(found.lives) == 1


def test_late_and_early_series_share_one_grid() -> None:
    found = signals(heap(100.0, points=50, pod="a"), series("http_requests_total", lambda i: i * STEP, begin=30))
    assert found.times.size == 120
    assert found.times[0] == T0


@pytest.mark.parametrize(
    "group",
    [[], [Series(name="x")], [series("x", 1.0, points=1)], [series("jvm_memory_used_bytes", -1.0, area="heap")]],
    ids=["none", "empty", "one sample", "only -1"],
)
def test_too_little_gives_no_role(group: list[Series]) -> None:
    assert signals(*group).roles == {}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["jvm_memory_used_bytes", "jvm_memory_max_bytes", "process_start_time_seconds", "process_uptime_seconds", "http_requests_total",
                             "jvm_gc_pause_seconds_sum", "kube_pod_container_status_restarts_total", "container_spec_memory_limit_bytes", "cache_size"]),
            st.sampled_from(["a", "b", ""]),
            st.dictionaries(st.integers(0, 40), st.floats(min_value=-1, max_value=1e13), max_size=12),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_any_series_give_signals_on_one_grid(drawn: list[tuple[str, str, dict[int, float]]]) -> None:
    group = [
        Series(
            name=name,
            labels=tuple(sorted({"area": "heap", "pod": pod}.items())),
            times=tuple(T0 + i * STEP for i in sorted(samples)),
            values=tuple(samples[i] for i in sorted(samples)),
        )
        for name, pod, samples in drawn
    ]
    found = signals(*group)
    assert all(
        s.values.shape == found.times.shape
        for s in [*found.roles.values(), *found.gauges.values(), *found.rates.values()]
    )
    assert sum(life.size for life in found.lives) == found.times.size
    assert list(found.restarts) == sorted(found.restarts)


def test_smoothing_skips_gaps() -> None:
    np.testing.assert_array_equal(smooth(np.array([1.0, np.nan, 3.0]), 2), [1.0, 1.0, 3.0])
    assert smooth(np.array([]), 5).size == 0
    assert np.isnan(smooth(np.full(4, np.nan), 3)).all()


def test_a_container_limit_of_zero_is_no_limit() -> None:
    times = tuple(float(t) for t in range(0, 600, 15))
    limit = Series(name="container_spec_memory_limit_bytes", times=times, values=(0.0,) * len(times))
    used = Series(name="container_memory_working_set_bytes", times=times, values=(5e8,) * len(times))
    signals = build_signals([limit, used], 15.0)
    assert signals.get("memory_limit") is None
    assert signals.get("rss") is not None
