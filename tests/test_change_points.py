"""Floors of sawteeth, trends and bends: right on shapes with a known answer, calm on every other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.evidence.change_points import agreement, bend, collection_period, floor_of, trend
from advisor.evidence.signals import Array, Life

MIB = 1024.0 * 1024


def one_life(values: Array) -> tuple[Life, ...]:
    return (Life(0, values.size - 1),)


def sawtooth(floor: Array, height: float, period: int) -> Array:
    """Return young collections every ``period`` samples over a floor."""
    return floor + height * (np.arange(floor.size) % period) / period


# --- floors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [4, 7, 15, 40])
def test_the_floor_of_a_level_sawtooth_is_level(period: int) -> None:
    values = sawtooth(np.full(600, 100 * MIB), 80 * MIB, period)
    floor = floor_of(values, one_life(values))
    assert np.nanmax(floor) <= 100 * MIB + 80 * MIB * 2 / period
    assert np.nanmin(floor) == 100 * MIB


@pytest.mark.parametrize("period", [4, 10, 25])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_the_floor_of_a_climbing_sawtooth_climbs_as_the_live_set_does(period: int, noise: float) -> None:
    rng = np.random.default_rng(7)
    live = np.linspace(50, 250, 500) * MIB
    values = sawtooth(live, 60 * MIB, period) + rng.normal(0, noise, 500) * MIB
    floor = floor_of(values, one_life(values))
    line = trend(np.arange(500.0), floor)
    assert line is not None
    assert line.slope == pytest.approx(200 * MIB / 500, rel=0.1)
    assert np.nanmax(np.abs(floor - live)) < 30 * MIB


def test_a_heap_that_fills_to_the_brim_between_full_collections_has_a_level_floor() -> None:
    # Serial and parallel collectors let garbage grow old: 60 samples of climbing, then everything is collected at once.
    values = sawtooth(np.full(600, 80 * MIB), 400 * MIB, 60) + sawtooth(np.zeros(600), 20 * MIB, 5)
    floor = floor_of(values, one_life(values))
    assert np.nanmedian(floor) < 110 * MIB
    assert np.nanmax(floor[60:540]) < 130 * MIB


def test_a_floor_never_crosses_a_restart() -> None:
    values = np.concatenate([sawtooth(np.linspace(50, 400, 200), 40, 8), sawtooth(np.full(200, 50.0), 40, 8)])
    lives = (Life(0, 199), Life(200, 399))
    floor = floor_of(values, lives)
    assert floor[190] > 300
    assert floor[205] < 100
    for life in lives:
        alone = floor_of(values[life.first : life.last + 1], (Life(0, life.size - 1),))
        np.testing.assert_array_equal(floor[life.first : life.last + 1], alone)


def test_a_floor_bridges_gaps_but_does_not_invent_beginnings() -> None:
    values = sawtooth(np.full(200, 100.0), 50, 10)
    values[:20] = values[90:110] = values[180:] = np.nan
    floor = floor_of(values, one_life(values))
    assert np.isnan(floor[:20]).all() and np.isnan(floor[180:]).all()
    assert np.isfinite(floor[20:180]).all()


_SAMPLES = st.lists(st.floats(min_value=0, max_value=1e12) | st.just(float("nan")), max_size=60)


@settings(max_examples=150, deadline=None)
@given(_SAMPLES, st.data())
def test_a_floor_of_anything_is_below_the_values_and_never_raises(samples: list[float], data: st.DataObject) -> None:
    values = np.array(samples, dtype=float)
    cut = data.draw(st.integers(0, values.size))
    lives = tuple(Life(a, b) for a, b in [(0, cut - 1), (cut, values.size - 1)] if b >= a)
    floor = floor_of(values, lives)
    known = np.isfinite(values)
    assert floor.shape == values.shape
    assert (floor[known] <= values[known] * (1 + 1e-9) + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(min_value=1e-3, max_value=1e6), st.floats(min_value=0, max_value=1e6))
def test_a_floor_is_scaled_and_shifted_with_its_values(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    values = sawtooth(np.linspace(10, 20 + rng.uniform(0, 50), 120), 30, int(rng.integers(3, 30))) + rng.normal(
        0, 0.5, 120
    )
    plain = floor_of(values, one_life(values))
    moved = floor_of(values * scale + shift, one_life(values))
    np.testing.assert_allclose(moved, plain * scale + shift, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [5.0] * 50, [float("nan")] * 50, list(range(50))],
    ids=["empty", "one", "constant", "nan", "line"],
)
def test_what_is_no_sawtooth_has_a_period_of_one(values: list[float]) -> None:
    assert collection_period(np.array(values, dtype=float)) == 1


def test_the_period_of_a_sawtooth_is_found() -> None:
    assert collection_period(sawtooth(np.full(300, 100.0), 50, 12)) == 12


# --- trends ------------------------------------------------------------------------------------------------------------


def test_a_trend_survives_a_tenth_of_wild_samples() -> None:
    rng = np.random.default_rng(3)
    times = np.arange(200.0) * 30
    values = 100 + 0.5 * times
    values[rng.choice(200, 20, replace=False)] *= 10
    line = trend(times, values)
    assert line is not None
    assert line.slope == pytest.approx(0.5, rel=0.05)
    assert (line.start, line.end) == (pytest.approx(100, abs=60), pytest.approx(100 + 0.5 * times[-1], rel=0.05))
    assert line.agreement > 0.7


@pytest.mark.parametrize(
    ("values", "agrees"),
    [(np.arange(50.0), 1.0), (-np.arange(50.0), -1.0), (np.full(50, 3.0), 0.0)],
    ids=["up", "down", "flat"],
)
def test_the_direction_is_agreed_on(values: Array, agrees: float) -> None:
    line = trend(np.arange(50.0), values)
    assert line is not None and line.agreement == agrees


@settings(max_examples=100, deadline=None)
@given(_SAMPLES)
def test_a_trend_of_anything_is_finite_or_none(samples: list[float]) -> None:
    values = np.array(samples, dtype=float)
    line = trend(np.arange(values.size, dtype=float), values)
    if np.isfinite(values).sum() < 5:
        assert line is None
    else:
        assert line is not None
        assert np.isfinite([line.slope, line.start, line.end, line.agreement]).all()
        assert -1 <= line.agreement <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.floats(min_value=1e-3, max_value=1e3),
    st.floats(min_value=-1e3, max_value=1e3),
    st.floats(min_value=0, max_value=1e9),
)
def test_a_trend_moves_with_its_units_and_its_clock(seed: int, scale: float, shift: float, later: float) -> None:
    rng = np.random.default_rng(seed)
    times, values = np.arange(80.0), rng.normal(0, 1, 80).cumsum()
    plain, moved = trend(times, values), trend(times + round(later), values * scale + shift)
    assert plain is not None and moved is not None
    assert moved.slope == pytest.approx(plain.slope * scale, rel=1e-6, abs=1e-9 * scale)
    assert moved.agreement == pytest.approx(plain.agreement)


# --- bends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("noise", [0.0, 2.0, 5.0])
def test_a_bend_is_found_where_it_is(at: float, noise: float) -> None:
    rng = np.random.default_rng(11)
    times = 1_795_000_000.0 + np.arange(400.0) * 30
    corner = times[int(at * 400)]
    values = 100 + 0.02 * np.maximum(0, times - corner) + rng.normal(0, noise, 400)
    found = bend(times, values)
    assert found is not None
    assert abs(found[0] - corner) < 0.06 * (times[-1] - times[0]) + 30
    assert found[1] > 0.45


def test_a_straight_line_has_no_bend_worth_the_name() -> None:
    rng = np.random.default_rng(5)
    times = np.arange(300.0)
    found = bend(times, 5 + 0.3 * times + rng.normal(0, 1, 300))
    assert found is None or found[1] < 0.1


def test_a_line_that_levels_off_has_no_bend_upwards() -> None:
    times = np.arange(300.0)
    found = bend(times, np.minimum(times, 100.0))
    assert found is None or found[1] < 0.1


@settings(max_examples=60, deadline=None)
@given(_SAMPLES)
def test_a_bend_of_anything_is_inside_or_none(samples: list[float]) -> None:
    values = np.array(samples, dtype=float)
    times = np.arange(values.size, dtype=float)
    found = bend(times, values)
    if found is not None:
        assert 0 <= found[0] <= times[-1]
        assert found[1] <= 1 + 1e-9


@settings(max_examples=30, deadline=None)
@given(st.floats(min_value=1e-2, max_value=1e9), st.floats(min_value=0, max_value=1e9), st.integers(0, 10**9))
def test_a_bend_does_not_depend_on_units_or_the_clock(scale: float, shift: float, later: int) -> None:
    times = np.arange(200.0) * 15
    values = 50 + 0.1 * np.maximum(0, times - 1500) + np.sin(times)
    plain, moved = bend(times, values), bend(times + later, values * scale + shift)
    assert plain is not None
    if scale > 1e-6 * shift:  # else the shape drowns in the rounding of the shift
        assert moved is not None
        assert moved[0] - later == pytest.approx(plain[0], abs=1e-3)
        assert moved[1] == pytest.approx(plain[1], abs=1e-3)


# --- levels and agreement ----------------------------------------------------------------------------------------------


def test_agreement_is_of_ranks() -> None:
    times = np.arange(30.0)
    assert agreement(times, times**3) == pytest.approx(1.0)
    assert agreement(times, -np.exp(times / 10)) == pytest.approx(-1.0)
    assert agreement(times, np.ones(30)) == 0.0
    assert agreement(times[:5], times[:5]) == 0.0


@settings(max_examples=60, deadline=None)
@given(_SAMPLES, _SAMPLES)
def test_agreement_of_anything_is_between_minus_one_and_one(a: list[float], b: list[float]) -> None:
    n = min(len(a), len(b))
    found = agreement(np.array(a[:n], dtype=float), np.array(b[:n], dtype=float))
    assert -1 - 1e-9 <= found <= 1 + 1e-9
