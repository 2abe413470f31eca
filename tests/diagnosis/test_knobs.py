"""Known mechanisms: keys and metric names in anybody's spelling lead to the right family."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.diagnosis.knobs import Effect, match_knob, metric_fits, parse_knobs, shared_words, speaks_of_another, words
from advisor.errors import PlaybookInvalid

KNOBS = parse_knobs((Path(__file__).parents[2] / "playbooks" / "knobs.yaml").read_text())
FAMILY = """
- family: session_lifetime
  keys: [session timeout]
  effect: holds
  moves: {heap: 1.0}
  says: sessions are kept longer
  source: the servlet specification
"""


def family(key: str) -> str | None:
    found = match_knob(KNOBS, key)
    return found.family if found else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server.servlet.session.timeout", ("server", "servlet", "session", "timeout")),
        ("SESSION_TIMEOUT_MINUTES", ("session", "timeout", "minute")),
        ("sessionTimeout", ("session", "timeout")),
        ("maxHTTPRequests", ("max", "http", "request")),
        ("policies", ("policy",)),
        ("cache-sizes[0]", ("cache", "size", "0")),
        ("address", ("address",)),
        ("", ()),
    ],
)
def test_a_name_is_its_words(text: str, expected: tuple[str, ...]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("server.servlet.session.timeout", "session_lifetime"),
        ("SERVER_SERVLET_SESSION_TIMEOUT", "session_lifetime"),
        ("spring.session.timeout", "session_lifetime"),
        ("data.application[yaml].sessionTimeoutMinutes", "session_lifetime"),
        ("session.max-inactive-interval", "session_lifetime"),
        ("auth.jwt.expiration", "token_lifetime"),
        ("cart.ttl", "token_lifetime"),
        ("cache.products.maximum-size", "cache_size"),
        ("spring.cache.caffeine.spec", "cache_size"),
        ("PRODUCT_CACHE_MAX_ENTRIES", "cache_size"),
        ("cache.products.ttl", "cache_lifetime"),
        ("spring.task.execution.pool.queue-capacity", "queue_capacity"),
        ("spring.kafka.consumer.max-poll-records", "batch_size"),
        ("audit.retention", "retention"),
        ("spec.template.spec.containers[checkout].env[JAVA_OPTS].value:-Xmx", "heap_max"),
        ("env[JAVA_TOOL_OPTIONS].value:-XX:MaxRAMPercentage", "heap_max"),
        ("env[JAVA_OPTS].value:-XX:MaxMetaspaceSize", "metaspace_max"),
        ("env[JAVA_OPTS].value:-XX:MaxDirectMemorySize", "direct_max"),
        ("env[JAVA_OPTS].value:-Xss", "stack_size"),
        ("env[JAVA_OPTS].value:-XX:+UseSerialGC", "gc_choice"),
        ("spec.template.spec.containers[checkout].resources.limits.memory", "memory_limit"),
        ("spec.template.spec.containers[checkout].image", "image"),
        ("image.tag", "image"),
        ("server.tomcat.threads.max", "thread_pool"),
        ("spring.datasource.hikari.maximum-pool-size", "connection_pool"),
        ("spring.datasource.hikari.max-lifetime", "connection_lifetime"),
        ("payments.client.read-timeout", "remote_timeout"),
        ("spec.replicas", "replicas"),
        ("logging.level.root", "logging"),
        ("management.endpoints.web.exposure.include", "labels"),
        ("spec.template.spec.containers[checkout].livenessProbe.periodSeconds", "probes"),
        ("features.recommendations.enabled", "feature_flag"),
        ("frobnicator.quux", None),
        ("", None),
    ],
)
def test_a_key_in_anybodys_spelling_finds_its_family(key: str, expected: str | None) -> None:
    assert family(key) == expected


@pytest.mark.parametrize(
    ("key", "not_this"),
    [
        ("server.servlet.session.cookie.max-age", "session_lifetime"),
        ("kafka.consumer.session.timeout.ms", "session_lifetime"),
        ("env[JAVA_OPTS].value:-XX:+HeapDumpOnOutOfMemoryError", "heap_max"),
        ("env[JAVA_OPTS].value:-XX:HeapDumpPath", "heap_max"),
        ("spec.template.spec.containers[checkout].resources.requests.memory", "memory_limit"),
        ("image.pullPolicy", "image"),
        ("logging.file.max-history", "retention"),
        ("spring.datasource.hikari.connection-timeout", "remote_timeout"),
    ],
)
def test_a_key_that_only_looks_like_it_belongs_elsewhere(key: str, not_this: str) -> None:
    assert family(key) != not_this


def test_what_cannot_move_memory_is_known_not_to() -> None:
    for key in ("logging.level.root", "livenessProbe.periodSeconds", "cors.allowed-origins"):
        found = match_knob(KNOBS, key)
        assert found is not None and found.effect is Effect.NONE


@pytest.mark.parametrize(
    ("key", "metric", "shared"),
    [
        ("recommendations.window", "recommendations_held", {"recommendation"}),
        ("server.servlet.session.timeout", "tomcat_sessions_active_current_sessions", {"session"}),
        ("spring.application.name", "application_started_time_seconds", set()),
        ("audit.retention", "cache_size", set()),
    ],
)
def test_a_key_and_a_metric_share_telling_words_only(key: str, metric: str, shared: set[str]) -> None:
    assert shared_words(key, metric) == shared


@pytest.mark.parametrize(
    ("key", "metric", "another"),
    [
        ("cache.prices.maximum-size", "cache_size{cache=prices}", False),
        ("cache.prices.maximum-size", "cache_size{cache=taxes}", True),
        ("cache.maximum-size", "cache_size{cache=taxes}", False),
        ("checkout.cache.maximum-size", "cache_size{cache=prices}", False),
        ("cache.product.maximum-size", "cache_size{cache=products}", False),
    ],
)
def test_a_price_cache_is_no_tax_cache(key: str, metric: str, another: bool) -> None:
    assert speaks_of_another("cache size", key, metric, "checkout") is another


def test_a_metric_fits_with_every_word() -> None:
    assert metric_fits("session active", "tomcat_sessions_active_current_sessions")
    assert not metric_fits("session active", "tomcat_sessions_expired_sessions_total")


@given(st.text(max_size=80))
def test_any_key_has_a_family_or_none(key: str) -> None:
    match_knob(KNOBS, key)
    shared_words(key, key)


def test_a_family_is_read() -> None:
    (knob,) = parse_knobs(FAMILY)
    assert (knob.family, knob.effect, knob.hidden) == ("session_lifetime", Effect.HOLDS, False)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("effect: holds", "effect: eats", "effect"),
        ("moves: {heap: 1.0}", "moves: {heap: much}", "moves.heap"),
        ("moves: {heap: 1.0}", "moves: {heap: .nan}", "moves.heap"),
        ("source: the servlet specification", "origin: x", "source"),
        ("keys: [session timeout]", "keys: session timeout", "keys"),
        ("family: session_lifetime", "family: Session-Lifetime", "family"),
        ("says: sessions", "commment: x\n  says: sessions", "commment"),
    ],
)
def test_a_family_that_is_wrong_is_refused_by_the_field(old: str, new: str, said: str) -> None:
    with pytest.raises(PlaybookInvalid, match=rf"family 1: {said}"):
        parse_knobs(FAMILY.replace(old, new))


@pytest.mark.parametrize("text", ["a: b", "42", "[", "- 1"])
def test_what_is_no_list_of_families_is_refused(text: str) -> None:
    with pytest.raises(PlaybookInvalid):
        parse_knobs(text)
