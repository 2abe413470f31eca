"""When did it change? Right on made series with a known moment, calm on pure noise, and never a warning on bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.evidence.shifts import CLEAR, Shift, deseasoned, find_shift, find_shifts, growth
from advisor.evidence.signals import Array

T0, STEP = 1.7e9, 60.0


def grid(size: int, step: float = STEP) -> Array:
    return T0 + np.arange(size) * step


def found(values: Array, step: float = STEP, near: float | None = None, **more: int) -> Shift | None:
    """Return the shift of a series; ``near`` in samples."""
    times = grid(np.size(values), step)
    return find_shift(times, np.asarray(values, float), near=None if near is None else T0 + near * step, **more)


def at(shift: Shift | None, step: float = STEP) -> int:
    assert shift is not None
    return round((shift.at - T0) / step)


def ended(shift: Shift | None) -> int | None:
    assert shift is not None
    return None if shift.ended_at is None else round((shift.ended_at - T0) / STEP)


def noise(seed: int, size: int | tuple[int, int], scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(0, scale, size)


def remembering(seed: int, shape: tuple[int, int], rho: float) -> Array:
    rng = np.random.default_rng(seed)
    out = rng.normal(0, 1, shape)
    for i in range(1, shape[1]):
        out[:, i] = rho * out[:, i - 1] + np.sqrt(1 - rho * rho) * out[:, i]
    return out


def waves(seed: int, shape: tuple[int, int], step: float) -> Array:
    rng = np.random.default_rng(seed)
    phase = rng.random((shape[0], 1)) * 6
    return 5 * np.sin(2 * np.pi * np.arange(shape[1]) * step / 86_400 + phase) + rng.normal(0, 0.5, shape)


# --- calibration: what a score means -----------------------------------------------------------------------------------

CALM = {
    "white": noise(101, (400, 480)),
    "AR(1) .8": remembering(102, (400, 480), 0.8),
    "lognormal": np.exp(noise(103, (400, 480))),
    "white, sparse": noise(104, (400, 14)),
    "exponential": np.random.default_rng(105).exponential(1.0, (400, 240)),
}


@pytest.mark.parametrize("name", CALM)
def test_pure_noise_is_hardly_ever_clear(name: str) -> None:
    matrix = 20 + CALM[name]
    times = grid(matrix.shape[1])
    for near in (None, float(times[-3])):
        scores = [0.0 if s is None else abs(s.score) for s in find_shifts(times, matrix, near=near)]
        assert np.mean(np.array(scores) < CLEAR) >= 0.98, near


def test_daily_waves_with_noise_are_hardly_ever_clear() -> None:
    matrix, times = 20 + waves(106, (300, 600), 300.0), grid(600, 300.0)
    for near in (None, float(times[-3])):
        scores = [0.0 if s is None else abs(s.score) for s in find_shifts(times, matrix, near=near)]
        assert np.mean(np.array(scores) < CLEAR) >= 0.98


@pytest.mark.parametrize(("length", "share"), [(5, 0.8), (8, 0.95), (30, 0.98)])
def test_three_swings_for_some_samples_are_clear_and_found_near_a_notice(length: int, share: float) -> None:
    matrix = 20 + noise(107, (200, 480))
    matrix[:, 400 : 400 + length] += 3
    shifts = find_shifts(grid(480), matrix, near=T0 + 402 * STEP)
    assert np.mean([s is not None and s.score >= CLEAR for s in shifts]) >= share
    assert np.mean([s is not None and abs(at(s) - 400) <= 3 for s in shifts]) >= 0.95


def test_a_score_is_about_the_number_of_usual_swings() -> None:
    for swings in (4.0, 8.0):
        shift = found(np.r_[50 + noise(1, 300, 2.0), 50 + 2.0 * swings + noise(2, 100, 2.0)])
        assert shift is not None
        assert shift.score == pytest.approx(swings, rel=0.3)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_a_score_does_not_depend_on_the_unit(scale: float) -> None:
    values = np.r_[20 + noise(3, 200), 26 + noise(4, 60)]
    one, other = found(values), found(values * scale)
    assert one is not None and other is not None
    assert (other.at, other.kind) == (one.at, one.kind)
    assert other.score == pytest.approx(one.score, rel=0.02)
    assert other.after == pytest.approx(one.after * scale)


def test_up_and_down_are_mirror_images() -> None:
    values = np.r_[20 + noise(5, 200), 26 + noise(6, 60)]
    up, down = found(values), found(-values)
    assert up is not None and down is not None
    assert (down.at, down.score) == (up.at, pytest.approx(-up.score))


# --- where ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [60, 480, 2000])
@pytest.mark.parametrize("share", [0.25, 0.6, 0.9])
def test_a_step_is_found_where_it_is(size: int, share: float) -> None:
    true = int(size * share)
    shift = found(20 + noise(size, size) + 6.0 * (np.arange(size) >= true))
    assert shift is not None
    assert abs(at(shift) - true) <= 2
    assert shift.kind == "level"
    assert shift.earliest <= T0 + true * STEP <= shift.latest
    assert shift.before == pytest.approx(20, abs=0.8)
    assert shift.after == pytest.approx(26, abs=0.8)
    assert shift.ended_at is None and not shift.censored


@pytest.mark.parametrize("off", [-4, -2, 0, 1, 5, 20])
def test_the_moment_of_notice_may_be_wrong(off: int) -> None:
    assert at(found(np.r_[20 + noise(7, 300), 26 + noise(8, 60)], near=300 + off)) == pytest.approx(300, abs=2)


def test_with_several_shifts_the_one_around_the_notice_is_meant() -> None:
    values = np.r_[20 + noise(9, 120), 30 + noise(10, 230), 36 + noise(11, 40)]
    assert at(found(values, near=352)) == pytest.approx(350, abs=2)
    assert at(found(values, near=122)) == pytest.approx(120, abs=2)


def test_a_larger_shift_long_after_the_notice_is_not_meant() -> None:
    values = np.r_[20 + noise(12, 150), 26 + noise(13, 100), 90 + noise(14, 100)]
    assert at(found(values, near=153)) == pytest.approx(150, abs=2)


def test_what_comes_after_until_is_not_seen() -> None:
    values = np.r_[20 + noise(15, 200), 60 + noise(16, 100)]
    times = grid(300)
    shift = find_shift(times, values, until=float(times[190]))
    assert shift is None or (abs(shift.score) < CLEAR and shift.latest <= times[190])


def test_a_burst_is_told_with_its_end() -> None:
    shift = found(np.r_[20 + noise(17, 200), 30 + noise(18, 12), 20 + noise(19, 100)])
    assert (at(shift), ended(shift)) == (200, 212)


def test_a_burst_that_had_just_ended_explains_the_notice() -> None:
    values = np.r_[20 + noise(17, 200), 30 + noise(18, 12), 20 + noise(19, 100)]
    assert at(found(values, near=219)) == 200


@pytest.mark.parametrize("width", [1, 2])
def test_a_spike_is_no_shift(width: int) -> None:
    values = 20 + noise(20, 300)
    values[150 : 150 + width] = 500
    shift = found(values)
    assert shift is None or abs(shift.score) < CLEAR


def test_three_samples_are_a_burst() -> None:
    values = 20 + noise(21, 300)
    values[150:153] = 60
    shift = found(values)
    assert (at(shift), ended(shift)) == (150, 153)
    assert shift is not None and shift.score > 3


def test_spikes_do_not_move_a_step() -> None:
    values = np.r_[20 + noise(22, 200), 26 + noise(23, 100)]
    values[np.random.default_rng(24).integers(0, 300, 9)] += 80
    assert at(found(values)) == pytest.approx(200, abs=2)


def test_gaps_change_nothing_but_how_sure_the_moment_is() -> None:
    values = np.r_[20 + noise(25, 200), 26 + noise(26, 100)]
    values[np.random.default_rng(27).random(300) < 0.5] = np.nan
    values[195:206] = np.nan
    shift = found(values)
    assert shift is not None
    assert shift.earliest < T0 + 200 * STEP < shift.latest + 1e-9
    assert at(shift) == pytest.approx(206, abs=3)


def test_one_direction_only() -> None:
    values = np.r_[20 + noise(28, 200), 10 + noise(29, 60)]
    fall = found(values, worse=-1)
    rise = found(values, worse=1)
    assert fall is not None and fall.score < -CLEAR
    assert rise is None or 0 <= rise.score < CLEAR


def test_abnormal_as_the_data_begins_is_censored() -> None:
    shift = found(np.r_[30 + noise(30, 60), 20 + noise(31, 200)], near=30)
    assert shift is not None
    assert shift.censored and shift.at == T0
    assert ended(shift) == pytest.approx(60, abs=2)
    assert (shift.before, shift.after) == (pytest.approx(20, abs=1), pytest.approx(30, abs=1))


# --- sparse and fine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [1, 2, 4, 6])
def test_five_minute_samples_whose_last_ones_are_abnormal(last: int) -> None:
    values = np.r_[0.08 + noise(32, 12, 0.005), np.full(last, 0.4)]
    shift = found(values, step=300.0, near=12)
    assert at(shift, 300.0) == 12
    assert shift is not None and shift.score > CLEAR


def test_two_samples_of_five_minutes_are_a_burst_where_somebody_noticed() -> None:
    values = np.r_[0.08 + noise(54, 40, 0.005), 0.3, 0.35, 0.08, 0.081, 0.079, 0.08]
    shift = found(values, step=300.0, near=41)
    assert at(shift, 300.0) == 40
    assert shift is not None and shift.ended_at == T0 + 42 * 300.0
    assert shift.score > CLEAR


def test_too_near_to_the_beginning_is_censored() -> None:
    shift = found([0.08, 0.085, 0.4, 0.41, 0.39, 0.42], step=300.0, near=2)
    assert at(shift, 300.0) == 2
    assert shift is not None and shift.censored


def test_one_second_samples() -> None:
    shift = found(20 + noise(33, 10_000) + 3.0 * (np.arange(10_000) >= 7_000), step=1.0, near=7_060)
    assert at(shift, 1.0) == pytest.approx(7_000, abs=3)


# --- slopes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rise", [8.0, 20.0, 60.0])
def test_a_slow_leak_begins_at_its_bend(rise: float) -> None:
    values = 20 + noise(34, 1440) + rise * np.clip((np.arange(1440) - 600) / 840, 0, None)
    shift = found(values, near=1435)
    assert shift is not None
    assert shift.kind == "slope"
    assert abs(at(shift) - 600) <= 840 * 2.5 / rise  # where the line has risen by two and a half swings
    assert shift.after == pytest.approx(20 + rise, rel=0.15)


def test_growth_all_along_was_there_before_the_data() -> None:
    for values in (np.arange(300) * 0.1, np.arange(300) * 0.1 + noise(35, 300)):
        shift = found(values)
        assert shift is not None
        assert (shift.kind, shift.censored) == ("slope", True)
        assert shift.score > CLEAR


def test_a_leak_that_a_restart_ends() -> None:
    values = np.r_[20 + noise(36, 300), 20 + np.arange(100) * 0.3 + noise(37, 100), 20 + noise(38, 40)]
    shift = found(values, near=395)
    assert shift is not None
    assert (shift.kind, ended(shift)) == ("slope", 400)
    assert at(shift) == pytest.approx(300, abs=6)


# --- constants and counts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [(3.0, 4.0), (10.0, 50.0), (0.0, 7.0), (100.0, 97.0), (5e8, 1e9), (0.0, 0.02)]
)
def test_a_constant_that_moves_once_is_neither_dropped_nor_infinite(before: float, after: float) -> None:
    shift = found(np.r_[np.full(200, before), np.full(40, after)])
    assert at(shift) == 200
    assert shift is not None
    assert CLEAR < abs(shift.score) <= 15


def test_of_two_constants_the_larger_move_scores_higher() -> None:
    scores = [
        abs(s.score) for a in (101.0, 110.0, 200.0, 900.0) if (s := found(np.r_[np.full(99, 100.0), np.full(50, a)]))
    ]
    assert scores == sorted(scores) and len(scores) == 4


def test_a_change_in_the_last_digit_of_a_float_is_none() -> None:
    shift = found(np.r_[np.full(100, 0.3), np.full(100, 0.1 + 0.2)])
    assert shift is None or abs(shift.score) < 0.1


def test_errors_that_were_nearly_always_zero() -> None:
    rng = np.random.default_rng(39)
    shift = found(np.r_[rng.poisson(0.02, 300), rng.poisson(3, 40)], near=303)
    assert at(shift) == pytest.approx(300, abs=2)
    assert shift is not None and shift.score > CLEAR


def test_a_single_error_is_no_shift() -> None:
    shift = found(np.r_[np.zeros(150), 1, np.zeros(149)])
    assert shift is None or abs(shift.score) < CLEAR


# --- spread and season --------------------------------------------------------------------------------------------------------


def test_wilder_movement_about_the_same_level_is_a_spread() -> None:
    shift = found(np.r_[20 + noise(40, 300), 20 + noise(41, 120, 6.0)])
    assert shift is not None
    assert shift.kind == "spread" and shift.score > CLEAR
    assert at(shift) == pytest.approx(300, abs=10)
    assert (shift.before, shift.after) == (pytest.approx(1, rel=0.4), pytest.approx(6, rel=0.4))


def test_an_incident_stands_out_of_a_daily_pattern() -> None:
    values = 20 + waves(42, (1, 600), 300.0)[0]
    values[580:] += 5
    shift = found(values, step=300.0, near=583)
    assert shift is not None
    assert at(shift, 300.0) == pytest.approx(580, abs=2)
    assert shift.score > 2 * CLEAR
    assert shift.after - shift.before == pytest.approx(5, abs=1)
    assert shift.after == pytest.approx(float(np.median(values[580:])), abs=1)


def test_a_nightly_job_is_part_of_the_day() -> None:
    values = 20 + noise(43, 864, 0.5)  # three days
    for day in range(3):
        values[day * 288 + 24 : day * 288 + 30] += 30
    left = deseasoned(grid(864, 300.0), values)
    hours = np.arange(864) % 288
    assert np.median(left[(hours >= 24) & (hours < 30)]) == pytest.approx(20, abs=4)


def test_less_than_two_days_or_days_unlike_one_another_are_left_alone() -> None:
    for values in (20 + waves(44, (1, 500), 300.0)[0], 20 + noise(45, 800)):
        np.testing.assert_array_equal(deseasoned(grid(values.size, 300.0), values), values)


def test_without_its_daily_pattern_a_series_keeps_its_level() -> None:
    values = 20 + waves(46, (1, 864), 300.0)[0]
    values[100] = np.nan
    left = deseasoned(grid(864, 300.0), values)
    assert np.isnan(left[100])
    assert np.nanmedian(left) == pytest.approx(20, abs=0.5)
    assert np.nanstd(left) < 0.4 * np.nanstd(values)


# --- growth ---------------------------------------------------------------------------------------------------------------------


def test_growth_is_the_ratio_of_levels() -> None:
    values = np.r_[20 + noise(47, 200), 60 + noise(48, 50)]
    times = grid(250)
    shift = find_shift(times, values)
    assert shift is not None
    assert growth(times, values, shift) == pytest.approx(3, rel=0.05)
    assert growth(times, values, float(times[200]), float(times[220])) == pytest.approx(3, rel=0.05)


def test_growth_of_a_burst_ends_with_it() -> None:
    values = np.r_[np.full(100, 10.0), np.full(20, 40.0), np.full(200, 10.0)]
    shift = found(values)
    assert shift is not None and shift.ended_at is not None
    assert growth(grid(320), values, shift) == pytest.approx(4)


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [(0.0, 5.0, None), (0.0, 0.0, 1.0), (5.0, 0.0, 0.0), (-2.0, 2.0, None), (-2.0, -4.0, 2.0), (1e308, 1.7e308, 1.7)],
)
def test_growth_has_no_ratio_where_none_means_anything(before: float, after: float, ratio: float | None) -> None:
    result = growth(grid(20), np.r_[np.full(10, before), np.full(10, after)], T0 + 10 * STEP)
    assert result == (None if ratio is None else pytest.approx(ratio))


def test_growth_needs_both_sides() -> None:
    values = np.arange(20.0) + 1
    assert growth(grid(20), values, T0) is None
    assert growth(grid(20), values, T0 + 10 * STEP, T0 + 11 * STEP) is None


# --- bad input ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [1.0, 2.0], [np.nan] * 50, [5.0] * 100, [0.0] * 100, [np.inf] * 30 + [-np.inf] * 30],
    ids=["empty", "one", "two", "NaN", "constant", "zero", "infinite"],
)
def test_nothing_to_speak_of_is_none(values: list[float]) -> None:
    assert found(np.array(values)) is None


def test_values_at_the_ends_of_the_range_of_floats() -> None:
    for low, high in ((1e308, -1e308), (-1.7e308, 1.7e308), (5e-324, 1.5e-323), (0.0, 1e-308)):
        shift = found(np.r_[np.full(60, low), np.full(60, high)])
        assert at(shift) == 60
        assert shift is not None
        assert np.isfinite([shift.score, shift.before, shift.after]).all()
        assert (shift.before, shift.after) == (low, high)


def test_unsorted_and_repeated_times_are_put_in_order() -> None:
    times, values = grid(260), np.r_[20 + noise(49, 200), 26 + noise(50, 60)]
    order = np.random.default_rng(51).permutation(260)
    mixed = (
        np.r_[times[:5], times[order]],
        np.r_[np.full(5, 1e9), values[order]],
    )  # of repeated times the later given counts
    assert find_shift(*mixed) == find_shift(times, values)


@pytest.mark.parametrize("position", [0, 1])
def test_what_does_not_fit_is_refused(position: int) -> None:
    times, matrix = grid(10), np.zeros((2, 10))
    for bad in (
        lambda: find_shifts(times[:9], matrix),
        lambda: find_shifts(np.r_[times[:9], np.nan], matrix),
        lambda: find_shifts(times * 1e290, matrix),
        lambda: find_shifts(times, matrix, worse=[1]),
        lambda: find_shifts(times, matrix, worse=2),
        lambda: find_shifts(times, matrix, near=float("nan")),
        lambda: find_shifts(times, matrix, until=float("nan")),
        lambda: find_shift(times, matrix),
        lambda: deseasoned(times, np.zeros(9)),
        lambda: growth(times, np.zeros(9), T0),
    )[position::2]:
        with pytest.raises(ValueError, match=r"\w"):
            bad()


def test_no_series_no_answer() -> None:
    assert find_shifts(grid(10), np.zeros((0, 10))) == []
    assert find_shifts(np.zeros(0), np.zeros((3, 0))) == [None, None, None]


def test_each_series_is_answered_as_if_it_were_alone() -> None:
    matrix = np.concatenate([20 + noise(52, (6, 200)), np.exp(noise(53, (6, 200)))])
    matrix[::2, 150:] += 6
    matrix[1, ::3] = np.nan
    matrix[2] = 7.0
    worse = [0, 1, -1] * 4
    together = find_shifts(grid(200), matrix, near=T0 + 155 * STEP, worse=worse)
    for row, sign, shift in zip(matrix, worse, together, strict=True):
        assert find_shift(grid(200), row, near=T0 + 155 * STEP, worse=sign) == shift


_VALUE = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -1.0, 1e308, -1e308, 5e-324])


@settings(max_examples=150, deadline=None)
@given(st.lists(_VALUE, max_size=70), st.none() | st.integers(-20, 90), st.sampled_from([-1, 0, 1]))
def test_whatever_the_values_an_answer_is_consistent(values: list[float], near: int | None, worse: int) -> None:
    series = np.array(values, dtype=np.float64)
    shift = found(series, near=near, worse=worse)
    growth(grid(series.size), series, T0 + 5 * STEP)
    if shift is None:
        return
    assert np.isfinite([shift.at, shift.earliest, shift.latest, shift.before, shift.after, shift.score]).all()
    assert shift.earliest <= shift.at <= shift.latest
    assert shift.ended_at is None or shift.ended_at > shift.at
    assert shift.kind in ("level", "slope", "spread")
    assert worse == 0 or shift.score * worse >= 0 or shift.censored


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e308, 1e308) | st.just(float("nan")), min_size=48, max_size=90))
def test_whatever_the_values_the_daily_pattern_of_hours_is_taken_out_or_left(values: list[float]) -> None:
    series = np.array(values)
    left = deseasoned(grid(series.size, 3600.0), series)
    assert (np.isfinite(left) == np.isfinite(series)).all()
