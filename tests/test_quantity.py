"""Amounts as configuration writes them: the text, its key, and what its reader takes it for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.quantity import compare, describe_change, parse_quantity, ratio

MI = 1024**2
GI = 1024**3
SESSION = "server.servlet.session.timeout"
MEMORY = "spec.template.spec.containers[checkout].resources.limits.memory"
CPU = "spec.template.spec.containers[checkout].resources.requests.cpu"
XMX = "spec.containers[a].env[JAVA_OPTS].value:-Xmx"

DURATIONS = [
    ("30m", SESSION, 1800.0),
    ("24h", "", 86400.0),
    ("1h30m", "", 5400.0),
    ("1h 30m 5s", "", 5405.0),
    ("PT30M", "", 1800.0),
    ("pt1h", "", 3600.0),
    ("P1D", "", 86400.0),
    ("P2DT3H4M5.5S", "", 183845.5),
    ("P1W", "", 604800.0),
    ("1_000 ms", "", 1.0),
    ("250ms", "", 0.25),
    ("10us", "", 1e-5),
    ("7d", "log.retention", 604800.0),
    ("15 minutes", "", 900.0),
    ("5000", "client.timeoutMillis", 5.0),
    ("5000", "session.timeout.ms", 5.0),
    ("500", "spec.template.spec.containers[a].env[HIKARI_MAX_LIFETIME_MS].value", 0.5),
    ("30", "spec.template.spec.terminationGracePeriodSeconds", 30.0),
    ("30", "readinessProbe.timeoutSeconds", 30.0),
    ("30000", "spring.datasource.hikari.connection-timeout", 30.0),
    ("1800000", "spring.datasource.hikari.max-lifetime", 1800.0),
    ("1800", SESSION, 1800.0),
    ("1800", 'data["application.yaml"].server.servlet.session.timeout', 1800.0),
    ("1800", "env[SERVER_SERVLET_SESSION_TIMEOUT].value", 1800.0),
    ("20000", "server.tomcat.connection-timeout", 20.0),
    ("200", "x:-XX:MaxGCPauseMillis", 0.2),
    ("30S", "cache.ttl", 30.0),
]
SIZES = [
    ("512Mi", "", 512 * MI),
    ("2g", "", 2 * GI),
    ("2G", "", 2 * GI),
    ("2G", XMX, 2 * GI),
    ("2g", XMX, 2 * GI),
    ("2048m", XMX, 2 * GI),
    ("100m", XMX, 100 * MI),
    ("1073741824", XMX, GI),
    ("512k", "env[JAVA_OPTS].value:-Xss", 512 * 1024),
    ("256m", ":-XX:MaxMetaspaceSize", 256 * MI),
    ("1.5GiB", "", 1.5 * GI),
    ("64KB", "", 65536),
    ("10MB", "spring.servlet.multipart.max-file-size", 10 * MI),
    ("512B", "", 512),
    ("16", "worker_memory_mb", 16 * MI),
    ("10m", "http.client_max_body_size", 10 * MI),
    ("512M", "services.checkout.deploy.resources.limits.memory", 512 * MI),
]
# The rules of apimachinery's resource.Quantity.
KUBERNETES = [
    ("2G", MEMORY, 2e9, "bytes"),
    ("512Mi", MEMORY, 512 * MI, "bytes"),
    ("1Ki", MEMORY, 1024, "bytes"),
    ("1k", MEMORY, 1000, "bytes"),
    ("1M", MEMORY, 1e6, "bytes"),
    ("1e3", MEMORY, 1000, "bytes"),
    ("129e6", MEMORY, 129e6, "bytes"),
    ("12E", MEMORY, 12e18, "bytes"),
    ("128974848", MEMORY, 128974848, "bytes"),
    ("128974848000m", MEMORY, 128974848, "bytes"),
    ("1.5Gi", MEMORY, 1.5 * GI, "bytes"),
    ("500m", CPU, 0.5, "cores"),
    ("2", CPU, 2, "cores"),
    ("0.5", CPU, 0.5, "cores"),
    ("100u", CPU, 1e-4, "cores"),
    ("100n", CPU, 1e-7, "cores"),
    ("500m", "resources.limits.cpu", 0.5, "cores"),
]
OTHERS = [
    ("50%", "", 0.5, "ratio"),
    ("75.0", ":-XX:MaxRAMPercentage", 0.75, "ratio"),
    ("80", "spec.targetCPUUtilizationPercentage", 0.8, "ratio"),
    ("0.25", "sampling.ratio", 0.25, "ratio"),
    ("1_000", "", 1000, "count"),
    ("10_000", "cache.maximum-size", 10000, "count"),
    ("20", "spring.datasource.hikari.maximum-pool-size", 20, "count"),
    ("1e6", "", 1e6, "count"),
    ("10k", "max.connections", 10000, "count"),
    ("3", "spec.replicas", 3, "count"),
]
NOT_AMOUNTS = [
    ("true", "feature.enabled"),
    ("", "a"),
    ("1.2.3", "version"),
    ("v1", "apiVersion"),
    ("registry.example/shop/checkout:1.2.3", "image"),
    ("1.20", "tag"),
    ("2024-01-01", "released"),
    ("12:30", "window"),
    ("8080", "server.port"),
    ("0755", "mode"),
    ("-1", "timeout"),
    ("100/s", "rate"),
    ("1,000", "count"),
    ("P", ""),
    ("PT", ""),
    ("P1M", ""),
    ("10x", ""),
    ("3KB", CPU),
    ("1" * 500, ""),
    ("1e999", "n"),
    ("²", "n"),
    ("٣", "n"),
]
# The same text is minutes, mebibytes, millicores, thousands: without a telling key there is no answer.
AMBIGUOUS = [("30m", ""), ("100m", "x"), ("10k", ""), ("10k", "cache.size"), ("5M", "a.b"), ("30", "timeout")]


@pytest.mark.parametrize(("text", "key", "seconds"), DURATIONS, ids=lambda v: str(v)[-30:])
def test_durations_are_read_in_seconds(text: str, key: str, seconds: float) -> None:
    found = parse_quantity(text, key)
    assert found is not None
    assert (found.dimension, found.value) == ("seconds", pytest.approx(seconds))


@pytest.mark.parametrize(("text", "key", "size"), SIZES, ids=lambda v: str(v)[-30:])
def test_memory_is_read_in_bytes(text: str, key: str, size: float) -> None:
    found = parse_quantity(text, key)
    assert found is not None
    assert (found.dimension, found.value) == ("bytes", pytest.approx(size))


@pytest.mark.parametrize(("text", "key", "value", "dimension"), KUBERNETES + OTHERS, ids=lambda v: str(v)[-30:])
def test_quantities_follow_their_readers_rules(text: str, key: str, value: float, dimension: str) -> None:
    found = parse_quantity(text, key)
    assert found is not None
    assert (found.dimension, found.value) == (dimension, pytest.approx(value))


@pytest.mark.parametrize(("text", "key"), NOT_AMOUNTS, ids=lambda v: str(v)[:30])
def test_names_and_switches_are_no_amounts(text: str, key: str) -> None:
    assert parse_quantity(text, key) is None


@pytest.mark.parametrize(("text", "key"), AMBIGUOUS)
def test_ambiguous_units_are_not_guessed(text: str, key: str) -> None:
    assert parse_quantity(text, key) is None


DESCRIBED = [
    ("30m", "24h", SESSION, "30m → 24h (*48)"),
    ("30m", "24h", "anything", "30m → 24h (*48)"),
    ("30", "1440", "timeout", "30 → 1440 (*48)"),
    ("1g", "512m", XMX, "1g → 512m (*0.5)"),
    ("60s", "1m", "ttl", "60s → 1m (the same amount)"),
    ("10", "3333", "pool.count", "10 → 3333 (*333)"),
    ("1", "1000000", "pool.count", "1 → 1000000 (*1_000_000)"),
    ("8080", "9090", "server.port", "8080 → 9090"),
    ("0", "5", "retries", "0 → 5"),
    ("30m", "2g", "x", "30m → 2g (*68.3)"),
    ("true", "false", "x", "true → false"),
    (None, "24h", SESSION, "(not set) → 24h"),
    ("24h", None, SESSION, "24h → (not set)"),
    ("", "a\nb", "x", "(empty) → a b"),
]


@pytest.mark.parametrize(("old", "new", "key", "text"), DESCRIBED, ids=lambda v: str(v)[:24])
def test_a_change_is_described_for_a_person(old: str | None, new: str | None, key: str, text: str) -> None:
    assert describe_change(old, new, key) == text.replace("*", "\u00d7")


def test_long_values_are_cut_when_described() -> None:
    assert len(describe_change("a" * 5000, "b" * 5000)) < 300


def test_amounts_of_two_kinds_have_no_ratio() -> None:
    assert ratio("30s", "512Mi", "x") is None
    assert compare("30s", "512Mi", "x").unit == ""


@given(st.text(max_size=80), st.text(max_size=60), st.text(max_size=80))
def test_no_text_raises(old: str, key: str, new: str) -> None:
    compare(old, new, key)
    assert describe_change(old, new, key)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from(["s", "ms", "h", "Mi", "GiB", "%", ""]))
def test_the_ratio_of_one_unit_is_the_ratio_of_its_numbers(a: int, b: int, unit: str) -> None:
    assert ratio(f"{a}{unit}", f"{b}{unit}", "items") == pytest.approx(b / a)


@pytest.mark.parametrize(
    ("old", "new", "ratio"),
    [
        ("maximumSize=400,expireAfterWrite=10m", "maximumSize=40000,expireAfterWrite=10m", 100.0),
        ("maximumSize=400,expireAfterWrite=10m,recordStats", "maximumSize=400,expireAfterWrite=20m,recordStats", 2.0),
        ("maximumSize=400,expireAfterWrite=10m", "maximumSize=800,expireAfterWrite=20m", None),  # two at once
        ("a=b=c", "a=b=d", None),
        ("maximumSize=400", "maximumSize=400,softValues", None),
    ],
)
def test_the_one_part_that_differs_in_a_packed_value_is_compared(old: str, new: str, ratio: float | None) -> None:
    assert compare(old, new, "spring.cache.caffeine.spec").ratio == ratio
