"""Verification: samples in, one of four verdicts out; absence of data is never success."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.evidence import Series
from advisor.playbook import Check, Comparison, Measure, VerificationPlan
from advisor.verification import CheckSamples, Verdict, Verification, floor, increase, judge, measure, slope_per_hour
from advisor.verification.vital_signs import Vital, VitalSamples, effective_at, read_sign, restarts_between

CHANGED = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
T0 = CHANGED.timestamp()
SETTLE, WINDOW = 60, 600
OVER = CHANGED + timedelta(seconds=SETTLE + WINDOW)
TIMES = tuple(T0 + t for t in range(0, SETTLE + WINDOW + 1, 15))
MOST, LEAST = Comparison.AT_MOST, Comparison.AT_LEAST


def check(
    kind: Measure = Measure.MEAN, comparison: Comparison = MOST, threshold: float = 10.0, guard: bool = False
) -> Check:
    return Check(name="c", query="q", measure=kind, comparison=comparison, threshold=threshold, guard=guard)


def series(
    values: tuple[float, ...] | list[float], times: tuple[float, ...] = TIMES, pod: str = "a", dropped: int = 0
) -> Series:
    # model_construct: what a recorded bundle may hold is not always what an adapter promises
    return Series.model_construct(name="m", labels=(("pod", pod),), times=times, values=tuple(values), dropped=dropped)


def flat(value: float, times: tuple[float, ...] = TIMES, pod: str = "a") -> Series:
    return series([value] * len(times), times, pod)


def verdict(
    one: Check,
    *after: Series,
    before: tuple[Series, ...] = (),
    now: datetime = OVER,
    error: str | None = None,
    samples_min: int = 5,
) -> Verification:
    plan = VerificationPlan(checks=(one,), settle_seconds=SETTLE, window_seconds=WINDOW, samples_min=samples_min)
    samples = CheckSamples.model_construct(before=before, after=after, error=error)
    return judge(plan, {"c": samples}, CHANGED, now, "chg-1")


# --- verdicts ------------------------------------------------------------------------------------------------------


def test_a_signal_that_recovered_passes_with_its_numbers() -> None:
    found = verdict(check(), flat(4.0), before=(flat(40.0, tuple(t - 700 for t in TIMES)),))
    (result,) = found.results
    assert found.verdict is result.verdict is Verdict.PASSED
    assert (result.measured, result.before, result.threshold, result.samples) == (4.0, 40.0, 10.0, 41)
    assert (found.from_at, found.until_at) == (CHANGED + timedelta(seconds=SETTLE), OVER)


@pytest.mark.parametrize(
    ("comparison", "value", "expected"),
    [
        (MOST, 10.0, Verdict.PASSED),
        (MOST, math.nextafter(10.0, 11), Verdict.FAILED),
        (LEAST, 10.0, Verdict.PASSED),
        (LEAST, math.nextafter(10.0, 9), Verdict.FAILED),
    ],
)
def test_the_threshold_itself_is_within(comparison: Comparison, value: float, expected: Verdict) -> None:
    assert verdict(check(Measure.LAST, comparison), flat(value)).verdict is expected


@pytest.mark.parametrize(("comparison", "expected"), [(MOST, Verdict.FAILED), (LEAST, Verdict.PASSED)])
def test_the_worst_series_counts(comparison: Comparison, expected: Verdict) -> None:
    assert verdict(check(Measure.MEAN, comparison), flat(12.0), flat(40.0, pod="b")).verdict is expected


def test_what_lies_before_the_window_and_after_now_does_not_count() -> None:
    values = [1e9 if t < T0 + SETTLE else 1.0 for t in TIMES]
    assert verdict(check(Measure.MAX), series(values)).verdict is Verdict.PASSED
    future = tuple(t + 30 for t in TIMES)
    values = [1e9 if t > OVER.timestamp() else 1.0 for t in future]
    assert verdict(check(Measure.MAX), series(values, future)).verdict is Verdict.PASSED


# --- never success without data ------------------------------------------------------------------------------------

WINDOWED = tuple(t for t in TIMES if t >= T0 + SETTLE)
THIN: dict[str, tuple[Series, ...]] = {
    "no_series": (),
    "empty_series": (series([], ()),),
    "only_nan": (series([math.nan] * len(TIMES)),),
    "only_infinite": (series([-math.inf] * len(TIMES)),),
    "all_dropped": (series([], (), dropped=41),),
    "only_before_the_window": (flat(1.0, tuple(t for t in TIMES if t < T0 + SETTLE)),),
    "only_after_the_window": (flat(1.0, tuple(t + 700 for t in TIMES)),),
    "four_samples": (flat(1.0, WINDOWED[::11]),),
    "stops_half_way": (flat(1.0, WINDOWED[:20]),),
    "begins_near_the_end": (flat(1.0, WINDOWED[-6:]),),
    "one_pod_stopped_and_none_took_over": (flat(1.0, WINDOWED[:25]), flat(1.0, WINDOWED[:3], "b")),
    "new_pod_with_two_samples": (flat(1.0), flat(1.0, WINDOWED[-2:], "b")),
    "times_without_values": (series([], TIMES),),
}


@pytest.mark.parametrize("after", THIN.values(), ids=THIN)
@pytest.mark.parametrize("kind", Measure)
@pytest.mark.parametrize("comparison", Comparison)
def test_too_little_data_is_inconclusive(after: tuple[Series, ...], kind: Measure, comparison: Comparison) -> None:
    threshold = 1e9 if comparison is MOST else -1e9
    found = verdict(check(kind, comparison, threshold), *after)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason


@pytest.mark.parametrize("seconds", [-1, 0, 30, 61, 300, SETTLE + WINDOW - 1])
def test_a_window_that_is_not_over_is_never_passed_or_failed(seconds: int) -> None:
    now = CHANGED + timedelta(seconds=seconds)
    for value in (1.0, 100.0):
        assert verdict(check(), flat(value), now=now).verdict is Verdict.INCONCLUSIVE


def test_a_source_that_cannot_be_asked_is_an_error() -> None:
    found = verdict(check(), flat(1.0), error="connection refused")
    assert found.verdict is Verdict.ERROR
    assert "connection refused" in found.reason


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_threshold_that_is_no_number_is_no_check(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        check(threshold=threshold)


def test_a_check_nobody_answered_is_no_data() -> None:
    plan = VerificationPlan(checks=(check(),), settle_seconds=SETTLE, window_seconds=WINDOW)
    assert judge(plan, {}, CHANGED, OVER, "chg-1").verdict is Verdict.INCONCLUSIVE


def test_a_plan_without_a_recovery_check_is_inconclusive() -> None:
    assert judge(VerificationPlan(), {}, CHANGED, OVER, "chg-1").verdict is Verdict.INCONCLUSIVE
    assert verdict(check(guard=True), flat(1.0)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("kind", [Measure.INCREASE, Measure.MEAN])
@pytest.mark.parametrize("values", [[1e308, -1e308] * 22, [1.7e308] * 44], ids=["jumps", "sums"])
def test_sums_beyond_any_number_are_not_passed(kind: Measure, values: list[float]) -> None:
    assert verdict(check(kind, MOST, -1.0), series(values[: len(TIMES)])).verdict is not Verdict.PASSED


def test_instants_too_close_to_tell_apart_have_no_slope() -> None:
    close = [T0, *[math.nextafter(T0, math.inf)] * 8]
    assert math.isnan(measure(Measure.SLOPE_PER_HOUR, close, [float(n) for n in range(9)]))


ALL = list(Verdict)


@pytest.mark.parametrize("one", ALL)
@pytest.mark.parametrize("other", ALL)
def test_the_worst_verdict_wins(one: Verdict, other: Verdict) -> None:
    given_for = {
        Verdict.PASSED: CheckSamples(after=(flat(1.0),)),
        Verdict.FAILED: CheckSamples(after=(flat(99.0),)),
        Verdict.INCONCLUSIVE: CheckSamples(),
        Verdict.ERROR: CheckSamples(error="refused"),
    }
    checks = tuple(Check.model_validate({**check().model_dump(), "name": name}) for name in ("x", "y"))
    plan = VerificationPlan(checks=checks, settle_seconds=SETTLE, window_seconds=WINDOW)
    found = judge(plan, {"x": given_for[one], "y": given_for[other]}, CHANGED, OVER, "chg-1")
    order = [Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASSED]
    assert found.verdict is min((one, other), key=order.index)


@pytest.mark.parametrize(
    ("before", "expected"), [(20.0, Verdict.FAILED), (30.0, Verdict.PASSED), (None, Verdict.FAILED)]
)
def test_a_guard_asks_that_nothing_got_worse(before: float | None, expected: Verdict) -> None:
    guard = Check.model_validate({**check(guard=True).model_dump(), "name": "g"})
    plan = VerificationPlan(checks=(check(), guard), settle_seconds=SETTLE, window_seconds=WINDOW)
    earlier = (flat(before, tuple(t - 700 for t in TIMES)),) if before is not None else ()
    samples = {"c": CheckSamples(after=(flat(1.0),)), "g": CheckSamples(before=earlier, after=(flat(30.0),))}
    assert judge(plan, samples, CHANGED, OVER, "chg-1").verdict is expected


def test_an_old_instance_that_ended_soon_after_the_change_is_left_out() -> None:
    old, new = flat(99.0, WINDOWED[:3], "old"), flat(1.0, pod="new")
    assert verdict(check(), old, new).verdict is Verdict.PASSED


def test_an_instance_that_died_in_the_window_is_not_left_out() -> None:
    dead, alive = flat(99.0, WINDOWED[:20], "dead"), flat(1.0, pod="alive")
    assert verdict(check(), dead, alive).verdict is Verdict.FAILED


# --- measures ------------------------------------------------------------------------------------------------------


def sawtooth(low: float, high: float, period: int, slope_per_second: float = 0.0, seed: int = 1) -> list[float]:
    noise = random.Random(seed)
    return [
        low + (high - low) * ((t - T0) % period) / period + slope_per_second * (t - T0) + noise.uniform(0, 3)
        for t in TIMES
    ]


@pytest.mark.parametrize("period", [45, 100, 210, 400])
def test_the_floor_sees_through_the_teeth(period: int) -> None:
    assert 100.0 <= floor(sawtooth(100.0, 800.0, period)) <= 190.0


def test_the_floor_is_not_one_lucky_sample() -> None:
    values = sawtooth(400.0, 800.0, 100)
    values[20] = 0.0
    assert floor(values) > 390.0


@pytest.mark.parametrize("period", [45, 100, 210])
@pytest.mark.parametrize("slope", [0.0, 0.2, -0.2])
def test_the_slope_of_the_floor_survives_the_teeth(period: int, slope: float) -> None:
    found = slope_per_hour(TIMES, sawtooth(100.0, 300.0, period, slope))
    assert found == pytest.approx(slope * 3600, abs=280)
    if slope:
        assert math.copysign(1, found) == math.copysign(1, slope)


def test_one_restart_does_not_turn_a_slope() -> None:
    values = sawtooth(100.0, 130.0, 45, 0.5)
    for i in range(18, 22):
        values[i] = 5.0
    assert slope_per_hour(TIMES, values) == pytest.approx(1800, rel=0.4)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_too_few_samples_have_no_slope(count: int) -> None:
    assert math.isnan(measure(Measure.SLOPE_PER_HOUR, TIMES[:count], [1.0] * count))


def test_samples_of_one_instant_have_no_slope() -> None:
    assert math.isnan(slope_per_hour([1.0] * 9, [float(n) for n in range(9)]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1, 5], 5.0), ([5, 7, 2, 3], 5.0), ([5, 0, 0], 0.0), ([3, 3, 3], 0.0), ([9], 0.0), ([100, 1, 2, 1], 3.0)],
)
def test_an_increase_survives_resets(values: list[float], expected: float) -> None:
    assert increase([float(v) for v in values]) == expected


def test_a_counter_that_appears_with_its_first_error_has_increased() -> None:
    born = flat(1.0, WINDOWED[20:])
    healthy = flat(0.0, pod="b")
    assert verdict(check(Measure.INCREASE, MOST, 0.0), born, healthy).verdict is Verdict.FAILED
    known = (flat(1.0, tuple(t - 700 for t in TIMES)),)
    assert verdict(check(Measure.INCREASE, MOST, 0.0), born, healthy, before=known).verdict is Verdict.PASSED


def test_changes_count_restarts() -> None:
    values = [1.0] * 15 + [2.0] * 15 + [3.0] * 11
    assert verdict(check(Measure.CHANGES, MOST, 0.0), series(values)).results[0].measured == 2.0


@given(
    st.lists(
        st.tuples(st.floats(width=64), st.floats(width=64)),
        max_size=60,
    ),
    st.sampled_from(list(Measure)),
    st.sampled_from(list(Comparison)),
    st.integers(-10, 2000),
)
def test_any_samples_give_a_verdict(
    points: list[tuple[float, float]], kind: Measure, comparison: Comparison, seconds: int
) -> None:
    shifted = tuple(T0 + t if math.isfinite(t) and abs(t) < 1e6 else t for t, _ in points)
    one = series([v for _, v in points], shifted)
    found = verdict(check(kind, comparison), one, now=CHANGED + timedelta(seconds=seconds))
    if found.verdict in (Verdict.PASSED, Verdict.FAILED):
        assert seconds >= SETTLE + WINDOW
        assert found.results[0].samples >= 5
    assert Verification.model_validate_json(found.model_dump_json()) == found


# --- the other vital signs -------------------------------------------------------------------------------------------


def sign(kind: Vital, before: float | list[float], after: float | list[float], unit: str = "") -> VitalSamples:
    def many(values: float | list[float]) -> tuple[float, ...]:
        return tuple(values) if isinstance(values, list) else (values,) * 20

    return VitalSamples(kind=kind, service="checkout", unit=unit, before=many(before), after=many(after))


def with_signs(*signs: VitalSamples, now: datetime = OVER, error: str | None = None) -> Verification:
    """Return the verdict where the incident's own signal has recovered."""
    plan = VerificationPlan(checks=(check(),), settle_seconds=SETTLE, window_seconds=WINDOW, samples_min=5)
    return judge(plan, {"c": CheckSamples(after=(flat(4.0),))}, CHANGED, now, "chg-1", signs, error)


@pytest.mark.parametrize(
    ("one", "expected", "word"),
    [
        (sign(Vital.ERRORS, 0.001, 0.05, "share"), Verdict.FAILED, "worse since the change"),
        (sign(Vital.ERRORS, 0.0, 0.02, "share"), Verdict.FAILED, "2 %, 0 % before"),
        (sign(Vital.ERRORS, 0.0, 0.009, "share"), Verdict.PASSED, ""),
        (sign(Vital.ERRORS, 0.3, 0.35, "share"), Verdict.PASSED, ""),  # bad before: not its doing
        (sign(Vital.ERRORS, 0.3, 0.6, "share"), Verdict.FAILED, "60 %, 30 % before"),
        (sign(Vital.ERRORS, 0.0, 3.0, "per second"), Verdict.FAILED, "worse"),
        (sign(Vital.ERRORS, 0.0, 0.05, "per second"), Verdict.PASSED, ""),
        (sign(Vital.LATENCY, 0.2, 0.5, "seconds"), Verdict.FAILED, "0.5 seconds, 0.2 seconds before"),
        (sign(Vital.LATENCY, 0.2, 0.25, "seconds"), Verdict.PASSED, ""),
        (sign(Vital.LATENCY, 0.0005, 0.002, "seconds"), Verdict.PASSED, ""),  # nobody notices
        (sign(Vital.LATENCY, [0.1, 0.4] * 10, 0.6, "seconds"), Verdict.PASSED, ""),  # it swings like that by itself
        (sign(Vital.TRAFFIC, 20.0, 18.0, "per second"), Verdict.PASSED, ""),
        (sign(Vital.TRAFFIC, 20.0, 200.0, "per second"), Verdict.PASSED, ""),
        (sign(Vital.TRAFFIC, 20.0, 5.0, "per second"), Verdict.INCONCLUSIVE, "traffic fell away"),
        (sign(Vital.TRAFFIC, 20.0, 0.0, "per second"), Verdict.INCONCLUSIVE, "traffic fell away"),
        (sign(Vital.TRAFFIC, 20.0, [], "per second"), Verdict.INCONCLUSIVE, "too few samples: 0 of 5"),
        (sign(Vital.LATENCY, 0.2, [0.1] * 4, "seconds"), Verdict.INCONCLUSIVE, "too few samples: 4 of 5"),
        (sign(Vital.RESTARTS, [0.0], [0.0]), Verdict.PASSED, ""),
        (sign(Vital.RESTARTS, [0.0], [1.0]), Verdict.FAILED, "1 after the change had taken effect"),
        (sign(Vital.RESTARTS, [7.0], [1.0]), Verdict.FAILED, "1 after the change had taken effect"),
    ],
)
def test_a_recovered_symptom_is_held_to_the_other_vital_signs(one: VitalSamples, expected: Verdict, word: str) -> None:
    found = with_signs(one)
    assert found.verdict is expected, found.reason
    if expected is not Verdict.PASSED:
        assert f"{one.kind.value} of checkout: " in found.reason and word in found.reason
    assert {r.name for r in found.results if r.guard} == {f"{one.kind.value} of checkout"}


def test_a_sign_with_nothing_before_it_is_not_compared() -> None:
    found = with_signs(sign(Vital.LATENCY, [], 5.0, "seconds"))
    assert (found.verdict, len(found.results)) == (Verdict.PASSED, 1)


def test_vital_signs_that_cannot_be_read_let_nothing_pass() -> None:
    found = with_signs(error="connection refused")
    assert found.verdict is Verdict.ERROR and "connection refused" in found.reason


def test_a_clear_failure_outweighs_signs_that_say_nothing() -> None:
    found = with_signs(sign(Vital.TRAFFIC, 20.0, 1.0), sign(Vital.ERRORS, 0.0, 0.9, "share"), error="refused")
    assert found.verdict is Verdict.FAILED


def test_no_sign_speaks_before_the_window_is_over() -> None:
    found = with_signs(sign(Vital.ERRORS, 0.0, 0.9, "share"), now=OVER - timedelta(seconds=1))
    assert found.verdict is Verdict.INCONCLUSIVE and "the window is not over" in found.reason


@given(
    st.sampled_from(list(Vital)),
    st.lists(st.floats(0, 1e9), max_size=30),
    st.lists(st.floats(0, 1e9), max_size=30),
    st.sampled_from(["share", "per second", "seconds", ""]),
)
def test_any_samples_give_a_sign_or_none(kind: Vital, before: list[float], after: list[float], unit: str) -> None:
    said = read_sign(VitalSamples(kind=kind, service="s", unit=unit, before=tuple(before), after=tuple(after)), 5)
    if said is not None:
        assert said.worse in (True, False, None)
        assert said.worse is None or said.measured is not None
        assert not (said.worse and kind is Vital.TRAFFIC)


def starts(*lives: tuple[float, float], pod: str = "a", until: float = WINDOW * 2) -> Series:
    """Return what a replica says of its start: pairs of when it began, and its first sample, after the change."""
    times = [t for t in range(-600, int(until), 15) if t >= lives[0][1]]
    values = [next(T0 + began for began, first in reversed(lives) if t >= first) for t in times]
    return Series(
        name="process_start_time_seconds",
        labels=(("pod", pod),),
        times=tuple(T0 + t for t in times),
        values=tuple(values),
    )


@pytest.mark.parametrize(
    ("replicas", "effect", "restarts"),
    [
        ([starts((-9000, -600))], 0, 0),
        ([starts((-9000, -600), (120, 135))], 120, 0),  # a rollout
        ([starts((-9000, -600), (60, 75)), starts((-9000, -600), (180, 195), pod="b")], 180, 0),  # one after the other
        ([starts((-9000, -600)), starts((90, 105), pod="b")], 90, 0),  # a replica of another name
        ([starts((-9000, -600), (60, 75), (240, 255))], 60, 1),  # it did not hold
        ([starts((-9000, -600), (420, 435))], 0, 1),  # too late for a rollout
        ([starts((-9000, -600), (120, 135), (500, 510), (700, 705))], 120, 2),
        ([starts((-9000, -600), (-300, -285))], 0, 0),  # before
        ([], 0, 0),
    ],
)
def test_what_is_judged_counts_from_when_the_change_took_effect(
    replicas: list[Series], effect: float, restarts: int
) -> None:
    found = effective_at(replicas, T0, T0 + 2 * WINDOW)
    assert found - T0 == effect
    assert restarts_between(replicas, found + 1, T0 + 2 * WINDOW) == restarts


def test_a_counter_of_restarts_counts() -> None:
    times = tuple(T0 + t for t in range(0, 600, 60))
    counter = Series(
        name="kube_pod_container_status_restarts_total", labels=(), times=times, values=(3.0,) * 5 + (4.0,) * 5
    )
    assert restarts_between([counter], T0, T0 + 600) == 1
