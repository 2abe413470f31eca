"""Values: records that stay as they are, instants in UTC, one JSON text for one value, numbers for people."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from advisor.errors import SettingsInvalid
from advisor.values import (
    Instant,
    Record,
    Risk,
    canonical_json,
    digest,
    format_bytes,
    format_instant,
    format_number,
    format_seconds,
    parse_instant,
)

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
BERLIN = timezone(timedelta(hours=1))


class Reading(Record):
    """A record for these tests."""

    at: Instant
    value: float = 0.0


# --- records -----------------------------------------------------------------------------------------------------------


def test_a_record_cannot_be_edited() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Reading(at=NOW).value = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_no_values(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Reading(at=NOW, value=value)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Reading(at=NOW, vlaue=1.0)  # type: ignore[call-arg]


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="time zone"):
        Reading(at=datetime(2026, 11, 22))


def test_one_instant_in_two_zones_is_one_record() -> None:
    here, there = Reading(at=NOW), Reading(at=NOW.astimezone(BERLIN))
    assert here == there
    assert hash(here) == hash(there)
    assert there.at.utcoffset() == timedelta(0)
    assert here.model_dump_json() == there.model_dump_json()
    assert digest(here) == digest(there)


# --- instants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NOW, "2026-11-22T08:00:00Z"),
        (NOW.astimezone(BERLIN), "2026-11-22T08:00:00Z"),
        (NOW.replace(microsecond=123456), "2026-11-22T08:00:00.123Z"),
        (NOW.replace(microsecond=1), "2026-11-22T08:00:00.000Z"),
    ],
    ids=["seconds", "zone", "milliseconds", "microsecond"],
)
def test_an_instant_is_written_one_way(value: datetime, text: str) -> None:
    assert format_instant(value) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        (" NOW ", NOW),
        ("15m", NOW - timedelta(minutes=15)),
        ("-15m", NOW - timedelta(minutes=15)),
        ("2h ago", NOW - timedelta(hours=2)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("3d", NOW - timedelta(days=3)),
        ("90s ago", NOW - timedelta(seconds=90)),
        ("2026-11-22T08:00:00Z", NOW),
        ("2026-11-22T09:00:00+01:00", NOW),
        ("2026-11-22 08:00", NOW),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("1795334400", NOW),
        ("1795334400000", NOW),
        ("1795334400.5", NOW + timedelta(milliseconds=500)),
    ],
)
def test_what_a_person_writes_is_an_instant(text: str, expected: datetime) -> None:
    found = parse_instant(text, NOW)
    assert found == expected
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "m",
        "h ago",
        "-",
        "1e5",
        "15 parsecs",
        "2026-13-45",
        "9" * 400,
        "9" * 400 + "d",
        "١٥m",
        "²h",
        "\0",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="is not understood") as caught:
        parse_instant(text, NOW)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30) | st.from_regex(r"[-+]?[0-9.]{1,20}[smhd]?( ago)?", fullmatch=True))
def test_any_text_is_an_instant_in_utc_or_refused(text: str) -> None:
    try:
        found = parse_instant(text, NOW)
    except SettingsInvalid:
        return
    assert found.utcoffset() == timedelta(0)


# --- canonical JSON ----------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_canonical_json_is_json_and_says_the_same(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text.decode("utf-8", "surrogatepass")) == value
    assert canonical_json(json.loads(text.decode("utf-8", "surrogatepass"))) == text


@given(st.dictionaries(st.text(max_size=6), st.integers(), min_size=2, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, int], random: object) -> None:
    keys = list(value)
    random.shuffle(keys)  # type: ignore[attr-defined]
    assert digest({k: value[k] for k in keys}) == digest(value)


def test_canonical_json_has_no_spaces_and_keeps_letters() -> None:
    assert canonical_json({"b": [1, "×"], "a": NOW, "c": Reading(at=NOW)}) == (
        '{"a":"2026-11-22T08:00:00Z","b":[1,"×"],"c":{"at":"2026-11-22T08:00:00Z","value":0.0}}'.encode()
    )


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}])
def test_nan_has_no_canonical_json(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_a_foreign_type_has_no_canonical_json() -> None:
    with pytest.raises(TypeError, match="bytes has no canonical JSON"):
        canonical_json({"a": b"x"})


def test_a_digest_names_its_algorithm() -> None:
    assert digest(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()
    assert digest("abc") == "sha256:" + hashlib.sha256(b'"abc"').hexdigest()


# --- for people --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (432013312, "412 MiB"),
        (-(2**30), "-1 GiB"),
        (2**40, "1 TiB"),
        (2**50, "1024 TiB"),
    ],
)
def test_bytes_read_in_binary_units(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.8, "800ms"),
        (45, "45s"),
        (5400, "1h 30m"),
        (86400, "1d"),
        (90061, "1d 1h"),
        (-120, "-2m"),
        (59.6, "1m"),
        (3600.4, "1h"),
    ],
)
def test_seconds_read_in_two_units_at_most(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (48, "48"),
        (48.04, "48"),
        (1.234, "1.23"),
        (0.01234, "0.0123"),
        (1234567, "1,234,567"),
        (-5.5, "-5.5"),
        (999.6, "1000"),
        (2880, "2,880"),
    ],
)
def test_numbers_read_with_three_figures(number: float, text: str) -> None:
    assert format_number(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_any_number_can_be_shown(number: float) -> None:
    for show in (format_bytes, format_seconds, format_number):
        assert show(number)
        assert "\n" not in show(number)


def test_risks_are_ordered() -> None:
    assert [r.rank for r in (Risk.LOW, Risk.MEDIUM, Risk.HIGH)] == [0, 1, 2]
