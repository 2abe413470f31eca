"""Cases to develop on. What a commit does to a service is said beside its edit; what comes of it, the model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.lab.simulation.exposition import Noise
from tests.lab.simulation.model import Call, Params
from tests.lab.simulation.scenario import (
    Commit,
    Event,
    Guilty,
    Load,
    Missing,
    Scenario,
    ServiceSpec,
    Truth,
    deployment,
    dotenv,
    edit,
    json_text,
    properties,
    spring,
    toml,
)

REGISTRY = "registry.example.org/shop"
QUIET = Noise(measurement=0.01, daily=0.05, wander=0.02, lost=0.0, spikes=0.0)
LOUD = Noise(measurement=0.06, daily=0.25, wander=0.12, lost=0.01, spikes=1.0)
SHOP = {"namespace": "shop"}
DATABASE = ServiceSpec(Params(kind="backend", replicas=1, base=0.004, cpu=0.0004, cpu_limit=32, sigma=0.4))


def case(
    name: str,
    playbook: str,
    klass: str,
    seed: int,
    begin: str,
    minutes: float,
    step: float,
    asked: str,
    symptom: str,
    noticed: float,
    services: Mapping[str, ServiceSpec],
    loads: Mapping[str, Load],
    truth: Truth,
    commits: tuple[Commit, ...] = (),
    **more: Any,
) -> Scenario:
    """Return a case of the development split."""
    return Scenario(
        name,
        playbook,
        klass,
        False,
        seed,
        begin,
        minutes,
        step,
        asked,
        symptom,
        noticed,
        services,
        loads,
        truth,
        commits,
        **more,
    )


def found(
    kind: str,
    tag: str,
    path: str,
    key: str | None,
    service: str,
    old: str | None = None,
    new: str | None = None,
    **more: Any,
) -> Truth:
    """Return the truth of a case in which a commit is guilty."""
    return Truth("diagnosed", kind, Guilty(tag, path, key, service, old, new), **more)


def nobody(kind: str, service: str, tags: tuple[str, ...] = (), outcome: str = "diagnosed", **more: Any) -> Truth:
    """Return the truth of a case without a guilty commit."""
    return Truth(outcome, kind, None, service=service, tags=("no_culprit", *tags), **more)


# --- checkout and payments: Spring Boot, Tomcat, HikariCP ---------------------------------------------------------------------

CHECKOUT = "apps/checkout/application.yaml"
CHECKOUT_RUN = "apps/checkout/deployment.yaml"
PAYMENTS = "apps/payments/application.properties"
PAYMENTS_RUN = "apps/payments/deployment.yaml"


def _checkout_files(replicas: int) -> dict[str, str]:
    values = {
        "server": {
            "port": 8080,
            "servlet": {"session": {"timeout": "30m"}},
            "tomcat": {"threads": {"max": 80, "min-spare": 10}, "accept-count": 100},
        },
        "spring": {
            "application": {"name": "checkout"},
            "datasource": {
                "url": "jdbc:postgresql://orders-db.example.org/orders",
                "hikari": {"maximum-pool-size": 20, "connection-timeout": 1000, "max-lifetime": 1800000},
            },
        },
        "payments": {"base-url": "http://payments:8080", "connect-timeout": "500ms", "read-timeout": "900ms"},
        "cache": {"products": {"maximum-size": 20000, "expire-after-write": "30m"}},
        "logging": {"level": {"root": "INFO", "org.example.checkout": "INFO"}},
    }
    run = deployment(
        "checkout",
        f"{REGISTRY}/checkout:3.4.1",
        env={"JAVA_OPTS": "-Xmx512m -XX:+UseG1GC", "TZ": "UTC"},
        replicas=replicas,
        cpu="2",
        memory="1Gi",
    )
    return {CHECKOUT: spring(values, "checkout: baskets and orders, owned by team orders"), CHECKOUT_RUN: run}


CHECKOUT_PARAMS = Params(
    replicas=2,
    base=0.012,
    cpu=0.006,
    cpu_limit=2.0,
    workers=80,
    accept=100,
    pool=20,
    pool_timeout=1.0,
    queries=6,
    database="orders-db",
    calls={"payments": Call(1.0, 0.9)},
    heap_limit=512,
    memory=230,
    startup=14,
)
PAYMENTS_PARAMS = Params(replicas=2, base=0.11, sigma=0.45, cpu=0.004, workers=200, heap_limit=384, memory=160)
SPRING = ("micrometer_http", "micrometer_client", "hikari", "tomcat", "jvm", "up")


def checkout(
    params: Params = CHECKOUT_PARAMS, *more: str, exports: tuple[str, ...] = SPRING, **changes: Any
) -> ServiceSpec:
    """Return the checkout service."""
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"route": "/api/orders", "host.payments": "payments:8080", "pool": "orders"},
        _checkout_files(params.replicas),
        log="spring",
        labels=SHOP,
        selector='job="checkout"',
        depends_on=("payments",),
    )
    return replace(spec, **changes)


def payments(params: Params = PAYMENTS_PARAMS, **changes: Any) -> ServiceSpec:
    """Return the payments service."""
    values = {
        "server.port": 8080,
        "provider.url": "https://api.cardprovider.example.net/v2",
        "provider.credentials-path": "/etc/provider/credentials-2026",
        "provider.read-timeout-ms": 4000,
        "provider.retries": 1,
        "logging.level.root": "INFO",
    }
    files = {
        PAYMENTS: properties(values, "payments: the card provider's client"),
        PAYMENTS_RUN: deployment("payments", f"{REGISTRY}/payments:1.12.0", env={"JAVA_OPTS": "-Xmx384m"}),
    }
    options = {"route": "/v1/charges", "host.provider": "api.cardprovider.example.net"}
    spec = ServiceSpec(
        params,
        ("micrometer_http", "micrometer_client"),
        options,
        files,
        log="logback",
        labels=SHOP,
        selector='job="payments"',
    )
    return replace(spec, **changes)


def lifetime(at: float) -> Commit:
    """Return a harmless change of checkout that is rolled out."""
    return Commit(
        at,
        "erin",
        "checkout: shorter connection lifetime, the proxy drops idle ones",
        (edit(CHECKOUT, "max-lifetime: 1800000", "max-lifetime: 1500000"),),
        restarts=("checkout",),
    )


TIMEOUT_RAISED = case(
    "timeout_raised",
    "request_latency",
    "timeout_change",
    101,
    "2026-03-03T09:00:00Z",
    90,
    30,
    "checkout",
    "p99 latency of checkout is up, orders take many seconds",
    74,
    {
        "checkout": checkout(),
        "payments": payments(replace(PAYMENTS_PARAMS, hang_share=0.03, hang_seconds=25)),
        "orders-db": DATABASE,
    },
    {"checkout": Load(22)},
    found("config_change", "guilty", CHECKOUT, "payments.read-timeout", "checkout", "900ms", "20s"),
    (
        lifetime(15),
        Commit(
            45,
            "bob",
            "checkout: fewer declined payments, wait for the provider",
            (edit(CHECKOUT, "read-timeout: 900ms", "read-timeout: 20s"),),
            (("checkout", {"calls.payments.timeout": 20.0}),),
            tag="guilty",
        ),
    ),
)

POOL_LOWERED = case(
    "pool_lowered",
    "pool_exhaustion",
    "pool_exhaustion",
    102,
    "2026-03-10T12:00:00Z",
    60,
    15,
    "checkout",
    "checkout answers slowly, Connection is not available, request timed out",
    50,
    {
        "checkout": checkout(exports=("micrometer_http", "hikari", "tomcat", "jvm", "up"), machines=True),
        "orders-db": DATABASE,
        "payments": payments(exports=()),
    },
    {"checkout": Load(110)},
    found("config_change", "guilty", CHECKOUT, "maximum-pool-size", "checkout", "20", "1"),
    (
        Commit(-2900, "alice", "checkout 3.4.1", (edit(CHECKOUT_RUN, "TZ", "TIMEZONE"),), restarts=("checkout",)),
        Commit(
            28,
            "dave",
            "checkout: the database counts too many connections",
            (edit(CHECKOUT, "maximum-pool-size: 20", "maximum-pool-size: 1"),),
            (("checkout", {"pool": 1}),),
            tag="guilty",
        ),
        Commit(
            33,
            "carol",
            "payments: WARN is enough",
            (edit(PAYMENTS, "level.root=INFO", "level.root=WARN"),),
            restarts=("payments",),
        ),
    ),
)

POOL_UNDER_TRAFFIC = case(
    "pool_under_traffic",
    "pool_exhaustion",
    "traffic_growth",
    103,
    "2026-03-14T17:00:00Z",
    90,
    30,
    "checkout",
    "connection pool of checkout is exhausted, latency is rising",
    80,
    {
        "checkout": checkout(
            replace(CHECKOUT_PARAMS, pool=4, cpu=0.003, cpu_limit=3),
            files={
                **_checkout_files(2),
                CHECKOUT: _checkout_files(2)[CHECKOUT].replace("maximum-pool-size: 20", "maximum-pool-size: 4"),
            },
        ),
        "payments": payments(),
        "orders-db": DATABASE,
    },
    {"checkout": Load(70, growth=((40, 4.2, 25),))},
    nobody("load", "checkout"),
    (
        Commit(
            -600,
            "erin",
            "checkout: keep idle threads",
            (edit(CHECKOUT, "min-spare: 10", "min-spare: 15"),),
            restarts=("checkout",),
        ),
        Commit(
            30,
            "bob",
            "payments: one more retry of the provider",
            (edit(PAYMENTS, "retries=1", "retries=2"),),
            restarts=("payments",),
        ),
    ),
)

THREADS_IN_CLEANUP = case(
    "threads_in_cleanup",
    "thread_exhaustion",
    "multi_key",
    104,
    "2026-03-18T08:30:00Z",
    75,
    30,
    "checkout",
    "checkout does not answer, requests wait for seconds",
    66,
    {"checkout": checkout(), "payments": payments(), "orders-db": DATABASE},
    {"checkout": Load(68)},
    found("config_change", "guilty", CHECKOUT, "server.tomcat.threads.max", "checkout", "80", "5"),
    (
        Commit(
            40,
            "frank",
            "checkout: tidy up the numbers",
            (
                edit(CHECKOUT, "max: 80", "max: 5"),
                edit(CHECKOUT, "min-spare: 10", "min-spare: 5"),
                edit(CHECKOUT, "maximum-size: 20000", "maximum-size: 24000"),
                edit(CHECKOUT, "max-lifetime: 1800000", "max-lifetime: 1700000"),
            ),
            (("checkout", {"workers": 5}),),
            tag="guilty",
        ),
    ),
)

TWO_EDITS_ONE_FILE = case(
    "two_edits_one_file",
    "thread_exhaustion",
    "two_commits_one_file",
    105,
    "2026-03-23T10:00:00Z",
    80,
    30,
    "checkout",
    "checkout: latency and 503 since this morning",
    70,
    {"checkout": checkout(machines=True), "payments": payments(), "orders-db": DATABASE},
    {"checkout": Load(77)},
    found(
        "config_change", "guilty", CHECKOUT, "server.tomcat.threads.max", "checkout", "80", "6", tags=("red_herring",)
    ),
    (
        Commit(
            35.2,
            "alice",
            "checkout: products stay longer in the cache",
            (edit(CHECKOUT, "expire-after-write: 30m", "expire-after-write: 45m"),),
        ),
        Commit(
            36,
            "bob",
            "checkout: threads as the sizing sheet says",
            (edit(CHECKOUT, "max: 80", "max: 6"),),
            (("checkout", {"workers": 6}),),
            tag="guilty",
        ),
    ),
)

DEBUG_CPU = case(
    "debug_cpu",
    "cpu_saturation",
    "debug_logging",
    106,
    "2026-04-02T13:00:00Z",
    80,
    30,
    "checkout",
    "cpu of checkout is at its limit, requests are slow",
    70,
    {
        "checkout": checkout(
            replace(CHECKOUT_PARAMS, cpu=0.009),
            exports=("micrometer_http", "jvm", "logback", "cadvisor", "up"),
            selector='namespace="shop",app="checkout"',
            labels={"namespace": "shop", "app": "checkout"},
        ),
        "payments": payments(exports=()),
        "orders-db": DATABASE,
    },
    {"checkout": Load(150)},
    found("config_change", "guilty", CHECKOUT, "logging.level", "checkout", "INFO", "DEBUG"),
    (
        lifetime(-200),
        Commit(
            42,
            "carol",
            "checkout: look for the lost basket",
            (edit(CHECKOUT, "org.example.checkout: INFO", "org.example.checkout: DEBUG"),),
            (("checkout", {"log_lines": 220.0, "log_line_cpu": 0.00005}),),
            tag="guilty",
        ),
    ),
)

BAD_RELEASE = case(
    "bad_release",
    "request_errors",
    "bad_release",
    107,
    "2026-04-08T14:00:00Z",
    60,
    15,
    "checkout",
    "5xx errors of checkout above 10%",
    45,
    {
        "checkout": checkout(exports=("micrometer_http", "micrometer_client", "jvm", "up")),
        "payments": payments(exports=("micrometer_http",)),
        "orders-db": DATABASE,
    },
    {"checkout": Load(26)},
    found(
        "deploy",
        "guilty",
        CHECKOUT_RUN,
        "image",
        "checkout",
        f"{REGISTRY}/checkout:3.4.1",
        f"{REGISTRY}/checkout:3.5.0",
    ),
    (
        Commit(
            31,
            "dave",
            "checkout 3.5.0",
            (edit(CHECKOUT_RUN, "checkout:3.4.1", "checkout:3.5.0"),),
            (
                (
                    "checkout",
                    {
                        "error_share": 0.17,
                        "fault": 'java.lang.NullPointerException: Cannot invoke "org.example.checkout.Voucher.amount()" because "voucher" is null',
                    },
                ),
            ),
            tag="guilty",
        ),
        Commit(
            26,
            "alice",
            "payments: shorter wait",
            (edit(PAYMENTS, "read-timeout-ms=4000", "read-timeout-ms=3500"),),
            restarts=("payments",),
        ),
    ),
)

CREDENTIALS = case(
    "credentials_path",
    "request_errors",
    "wrong_credential",
    108,
    "2026-04-15T07:00:00Z",
    60,
    30,
    "payments",
    "all card payments fail with errors",
    47,
    {
        "payments": payments(
            replace(PAYMENTS_PARAMS, base=0.02, calls={"provider": Call(1.0, 4.0, 1)}),
            exports=("micrometer_http", "micrometer_client", "jvm", "up"),
        ),
        "provider": ServiceSpec(Params(kind="backend", replicas=1, base=0.18, cpu=0.0001, cpu_limit=64)),
    },
    {"payments": Load(9)},
    found(
        "config_change",
        "guilty",
        PAYMENTS,
        "provider.credentials-path",
        "payments",
        "/etc/provider/credentials-2026",
        "/etc/provider/credentials-2027",
    ),
    (
        Commit(
            -1500, "carol", "payments 1.12.0", (edit(PAYMENTS_RUN, "-Xmx384m", "-Xmx400m"),), restarts=("payments",)
        ),
        Commit(
            34,
            "erin",
            "payments: next year's credentials",
            (edit(PAYMENTS, "credentials-2026", "credentials-2027"),),
            (("payments", {"calls.provider.fault": "unauthorized"}),),
            tag="guilty",
        ),
    ),
)

EXTERNAL_OUTAGE = case(
    "provider_outage",
    "request_errors",
    "external_outage",
    109,
    "2026-04-21T18:00:00Z",
    80,
    30,
    "payments",
    "payments fail: errors since 18:50",
    68,
    {
        "payments": payments(
            replace(PAYMENTS_PARAMS, base=0.02, calls={"provider": Call(1.0, 4.0, 1)}),
            exports=("micrometer_http", "micrometer_client", "jvm", "up"),
        ),
        "provider": ServiceSpec(Params(kind="backend", replicas=1, base=0.18, cpu=0.0001, cpu_limit=64)),
    },
    {"payments": Load(11)},
    nobody(
        "external",
        "api.cardprovider.example.net",
        also_called=("payments", "provider"),
        accepted_kinds=("external", "dependency"),
        why="The card provider fails; nothing of ours changed near it.",
    ),
    (
        Commit(
            -160,
            "bob",
            "payments: WARN is enough",
            (edit(PAYMENTS, "level.root=INFO", "level.root=WARN"),),
            restarts=("payments",),
        ),
    ),
    events=(Event(50, "provider", {"error_share": 0.75, "base": 1.6}, 2),),
)

SESSION_LEAK = case(
    "slow_session_leak",
    "jvm_heap",
    "slow_leak",
    110,
    "2026-05-04T06:00:00Z",
    600,
    120,
    "checkout",
    "checkout: java.lang.OutOfMemoryError: Java heap space",
    585,
    {
        "checkout": checkout(
            replace(
                CHECKOUT_PARAMS,
                session_seconds=1800,
                session_kib=10,
                session_share=0.15,
                memory=180,
                heap_limit=512,
                in_flight_kib=16,
            ),
            "tomcat_sessions",
            exports=("micrometer_http", "jvm", "up"),
            machines=True,
        ),
        "payments": payments(exports=()),
        "orders-db": DATABASE,
    },
    {"checkout": Load(20)},
    found(
        "config_change",
        "guilty",
        CHECKOUT,
        "server.servlet.session.timeout",
        "checkout",
        "30m",
        "24h",
        tags=("red_herring",),
        remedies_refused=("raise_heap",),
    ),
    (
        Commit(
            75,
            "carol",
            "checkout: baskets survive the night",
            (edit(CHECKOUT, "timeout: 30m", "timeout: 24h"),),
            (("checkout", {"session_seconds": 86400.0}),),
            tag="guilty",
        ),
        Commit(
            556,
            "alice",
            "checkout: a few more products cached",
            (edit(CHECKOUT, "maximum-size: 20000", "maximum-size: 21000"),),
        ),
        Commit(
            569,
            "dave",
            "checkout: two more connections",
            (edit(CHECKOUT, "maximum-pool-size: 20", "maximum-pool-size: 22"),),
        ),
    ),
    noise=Noise(measurement=0.02, daily=0.2, wander=0.05, lost=0.003, spikes=0.1),
)

CAPACITY = case(
    "pool_too_small_each_day",
    "pool_exhaustion",
    "capacity",
    111,
    "2026-05-11T06:00:00Z",
    1920,
    300,
    "checkout",
    "checkout slow at noon again, requests wait for a database connection",
    1850,
    {
        "checkout": checkout(
            replace(CHECKOUT_PARAMS, pool=2),
            exports=("micrometer_http", "hikari", "tomcat"),
            machines=True,
            files={
                **_checkout_files(2),
                CHECKOUT: _checkout_files(2)[CHECKOUT].replace("maximum-pool-size: 20", "maximum-pool-size: 2"),
            },
        ),
        "payments": payments(exports=()),
        "orders-db": DATABASE,
    },
    {"checkout": Load(92, peak_hour=12.5)},
    nobody(
        "capacity",
        "checkout",
        accepted_kinds=("capacity", "load"),
        why="Both days are alike: at noon the pool is used up by the usual traffic.",
    ),
    (
        Commit(
            1340,
            "erin",
            "payments: shorter wait",
            (edit(PAYMENTS, "read-timeout-ms=4000", "read-timeout-ms=3800"),),
            restarts=("payments",),
        ),
    ),
    noise=Noise(measurement=0.02, daily=0.6, wander=0.02, lost=0.003, spikes=0.0),
)

NO_REPOSITORY = case(
    "pool_without_repository",
    "pool_exhaustion",
    "missing_changes",
    112,
    "2026-05-19T10:00:00Z",
    60,
    30,
    "checkout",
    "checkout: connection pool exhausted",
    48,
    {
        "checkout": checkout(exports=("micrometer_http", "hikari", "jvm", "up")),
        "payments": payments(exports=(), selector=""),
        "orders-db": DATABASE,
    },
    {"checkout": Load(100)},
    nobody(
        "unknown",
        "checkout",
        ("missing_source",),
        "inconclusive",
        why="The pool became smaller, but no repository is configured: who did it cannot be known.",
    ),
    (
        Commit(
            30,
            "dave",
            "checkout: fewer connections",
            (edit(CHECKOUT, "maximum-pool-size: 20", "maximum-pool-size: 1"),),
            (("checkout", {"pool": 1}),),
        ),
    ),
    missing=Missing(changes=True),
)

# --- catalog: Go, PostgreSQL, Redis -------------------------------------------------------------------------------------------

CATALOG = "apps/catalog/catalog.env"
CATALOG_RUN = "apps/catalog/deployment.yaml"
CATALOG_PARAMS = Params(
    replicas=3,
    base=0.004,
    cpu=0.002,
    cpu_limit=2.0,
    pool=30,
    pool_timeout=2.0,
    queries=0.2,
    miss_queries=9,
    database="catalog-db",
    cache_limit=60_000,
    cache_wanted=40_000,
    cache_shared=True,
    memory=90,
    startup=4,
)
GO = ("go_http", "go_runtime", "go_sql", "redis", "postgres", "up")
GO_LOCAL = ("go_http", "go_runtime", "go_sql", "python_cache", "up")


def catalog(params: Params = CATALOG_PARAMS, *more: str, exports: tuple[str, ...] = GO, **changes: Any) -> ServiceSpec:
    """Return the catalog service."""
    values = {
        "LISTEN": ":8080",
        "DB_HOST": "catalog-db.example.org",
        "DB_MAX_OPEN_CONNS": 30,
        "CACHE_ENABLED": "true",
        "CACHE_URL": "redis://catalog-cache:6379/0",
        "CACHE_TTL": "4h",
        "LOCAL_CACHE_ENTRIES": 60000,
        "LOG_LEVEL": "info",
        "PAGE_SIZE": 50,
    }
    files = {
        CATALOG: dotenv(values, "read at start"),
        CATALOG_RUN: deployment(
            "catalog", f"{REGISTRY}/catalog:0.31.2", replicas=params.replicas, cpu="2", memory="512Mi"
        ),
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"route": "/products", "database": "catalog", "cache": "local_cache"},
        files,
        log="logfmt",
        labels={"namespace": "shop", "app": "catalog"},
        selector='app="catalog"',
    )
    return replace(spec, **changes)


CACHE_OFF = case(
    "cache_off",
    "request_latency",
    "cache_change",
    120,
    "2026-03-05T15:00:00Z",
    70,
    30,
    "catalog",
    "catalog p95 latency went up",
    58,
    {"catalog": catalog(replace(CATALOG_PARAMS, replicas=2)), "catalog-db": DATABASE},
    {"catalog": Load(160)},
    found("config_change", "guilty", CATALOG, "CACHE_ENABLED", "catalog", "true", "false"),
    (
        Commit(-4000, "frank", "catalog 0.31.2", (edit(CATALOG_RUN, "cpu: 100m", "cpu: 150m"),), restarts=("catalog",)),
        Commit(
            33,
            "erin",
            "catalog: stale prices, without the cache for now",
            (edit(CATALOG, "CACHE_ENABLED=true", "CACHE_ENABLED=false"),),
            (("catalog", {"cache_enabled": False}),),
            tag="guilty",
        ),
        Commit(
            12, "bob", "catalog: larger pages", (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=60"),), restarts=("catalog",)
        ),
    ),
)

POOL_AND_CACHE = case(
    "smaller_pool_then_no_cache",
    "pool_exhaustion",
    "two_changes",
    121,
    "2026-03-12T09:00:00Z",
    120,
    60,
    "catalog",
    "catalog returns 500: all connections are in use",
    112,
    {"catalog": catalog(), "catalog-db": DATABASE},
    {"catalog": Load(330)},
    found(
        "config_change",
        "guilty",
        CATALOG,
        "CACHE_ENABLED",
        "catalog",
        "true",
        "false",
        also=(Guilty("also", CATALOG, "DB_MAX_OPEN_CONNS", "catalog"),),
        tags=("two_changes",),
        why="Either alone does no harm: the small pool serves what misses the cache, the large one serves all.",
    ),
    (
        Commit(
            40,
            "alice",
            "catalog: share of the database's connections",
            (edit(CATALOG, "DB_MAX_OPEN_CONNS=30", "DB_MAX_OPEN_CONNS=3"),),
            (("catalog", {"pool": 3}),),
            tag="also",
        ),
        Commit(
            84,
            "erin",
            "catalog: without the cache while redis is moved",
            (edit(CATALOG, "CACHE_ENABLED=true", "CACHE_ENABLED=false"),),
            (("catalog", {"cache_enabled": False}),),
            tag="guilty",
        ),
    ),
)

CPU_LIMIT = case(
    "cpu_limit_lowered",
    "cpu_saturation",
    "cpu_limit",
    122,
    "2026-03-26T11:00:00Z",
    60,
    15,
    "catalog",
    "catalog is throttled and slow",
    46,
    {
        "catalog": catalog(
            replace(CATALOG_PARAMS, replicas=2),
            exports=("go_http", "go_runtime", "cadvisor", "kube", "up"),
            selector='namespace="shop",app="catalog"',
        ),
        "catalog-db": DATABASE,
    },
    {"catalog": Load(300)},
    found("config_change", "guilty", CATALOG_RUN, "resources.limits.cpu", "catalog", "2", "300m"),
    (
        Commit(
            29,
            "frank",
            "catalog: right-size, it uses little",
            (
                edit(
                    CATALOG_RUN,
                    "            cpu: 2\n            memory: 512Mi",
                    "            cpu: 300m\n            memory: 384Mi",
                ),
            ),
            (("catalog", {"cpu_limit": 0.3, "memory_limit": 384.0}),),
            tag="guilty",
        ),
    ),
)

REPLICAS_LOWERED = case(
    "replicas_lowered",
    "request_latency",
    "replicas",
    123,
    "2026-04-01T16:00:00Z",
    80,
    30,
    "catalog",
    "latency of catalog doubled and more",
    70,
    {
        "catalog": catalog(
            replace(CATALOG_PARAMS, replicas=5, cpu=0.004, cpu_limit=1.0),
            exports=("ingress", "cadvisor", "kube"),
            selector='namespace="shop",app="catalog"',
        ),
        "catalog-db": DATABASE,
    },
    {"catalog": Load(460)},
    found("config_change", "guilty", CATALOG_RUN, "replicas", "catalog", "5", "2"),
    (
        Commit(10, "dave", "catalog: larger pages", (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=55"),)),
        Commit(
            43,
            "alice",
            "catalog: fewer pods outside the season",
            (edit(CATALOG_RUN, "replicas: 5", "replicas: 2"),),
            (("catalog", {"replicas": 2}),),
            after=25,
            rollout=False,
            tag="guilty",
        ),
    ),
)

MITIGATION = case(
    "mitigation_after_onset",
    "request_latency",
    "red_herring_after",
    124,
    "2026-04-10T10:00:00Z",
    80,
    30,
    "catalog",
    "catalog slow since about 10:35",
    72,
    {
        "catalog": catalog(replace(CATALOG_PARAMS, replicas=2, cache_shared=False), exports=GO_LOCAL),
        "catalog-db": DATABASE,
    },
    {"catalog": Load(260)},
    found("config_change", "guilty", CATALOG, "LOCAL_CACHE_ENTRIES", "catalog", "60000", "600", tags=("red_herring",)),
    (
        Commit(
            34,
            "bob",
            "catalog: less memory for the cache",
            (edit(CATALOG, "LOCAL_CACHE_ENTRIES=60000", "LOCAL_CACHE_ENTRIES=600"),),
            (("catalog", {"cache_limit": 600.0}),),
            tag="guilty",
        ),
        Commit(
            51,
            "carol",
            "catalog: more connections, it is slow",
            (edit(CATALOG, "DB_MAX_OPEN_CONNS=30", "DB_MAX_OPEN_CONNS=60"),),
            (("catalog", {"pool": 60}),),
        ),
        Commit(
            61,
            "carol",
            "catalog: smaller pages, still slow",
            (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=25"),),
            restarts=("catalog",),
        ),
    ),
)

GO_CACHE = case(
    "go_cache_grows",
    "container_memory",
    "container_memory",
    125,
    "2026-04-28T05:00:00Z",
    300,
    60,
    "catalog",
    "catalog pods are OOMKilled, exit code 137",
    290,
    {
        "catalog": catalog(
            replace(
                CATALOG_PARAMS,
                replicas=2,
                cache_shared=False,
                cache_wanted=900_000,
                cache_limit=60_000,
                cache_best=0.9,
                entry_kib=0.9,
                memory=90,
                memory_limit=256,
                miss_queries=2,
                cpu_limit=2,
            ),
            exports=("go_http", "go_runtime", "python_cache", "cadvisor", "kube"),
        )
    }
    | {"catalog-db": DATABASE},
    {"catalog": Load(75)},
    found(
        "config_change",
        "guilty",
        CATALOG,
        "LOCAL_CACHE_ENTRIES",
        "catalog",
        "60000",
        "3000000",
    ),
    (
        Commit(
            60,
            "erin",
            "catalog: cache all there is",
            (edit(CATALOG, "LOCAL_CACHE_ENTRIES=60000", "LOCAL_CACHE_ENTRIES=3000000"),),
            (("catalog", {"cache_limit": 3_000_000.0}),),
            tag="guilty",
        ),
        Commit(205, "bob", "catalog: larger pages", (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=55"),)),
    ),
)

DEBUG_DISK = case(
    "debug_fills_disk",
    "disk_full",
    "disk_full",
    126,
    "2026-05-06T02:00:00Z",
    360,
    60,
    "catalog",
    "no space left on device on the catalog machines",
    350,
    {
        "catalog": catalog(
            replace(CATALOG_PARAMS, replicas=2, disk_size=20.0, disk_used=7.0, disk_kept_hours=72),
            exports=("go_http", "go_runtime", "node_disk", "up"),
            machines=True,
        ),
        "catalog-db": DATABASE,
    },
    {"catalog": Load(140)},
    found("config_change", "guilty", CATALOG, "LOG_LEVEL", "catalog", "info", "debug"),
    (
        Commit(
            105,
            "carol",
            "catalog: why are searches empty",
            (edit(CATALOG, "LOG_LEVEL=info", "LOG_LEVEL=debug"),),
            (("catalog", {"log_lines": 60.0}),),
            tag="guilty",
        ),
        Commit(
            318,
            "frank",
            "catalog: larger pages",
            (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=55"),),
            restarts=("catalog",),
        ),
    ),
    noise=Noise(measurement=0.02, daily=0.3, wander=0.05, lost=0.002, spikes=0.1),
)

OLD_CHANGE = case(
    "old_change_slow_database",
    "request_latency",
    "old_change",
    127,
    "2026-05-13T11:00:00Z",
    90,
    30,
    "catalog",
    "catalog is slow",
    80,
    {"catalog": catalog(replace(CATALOG_PARAMS, replicas=2)), "catalog-db": DATABASE},
    {"catalog": Load(150)},
    nobody(
        "dependency",
        "catalog",
        ("red_herring",),
        accepted_kinds=("dependency", "infrastructure"),
        also_called=("catalog-db", "catalog-db.example.org", "postgres"),
        why="The database became slow; the smaller pool was there for days.",
    ),
    (
        Commit(
            -4100,
            "dave",
            "catalog: fewer connections",
            (edit(CATALOG, "DB_MAX_OPEN_CONNS=30", "DB_MAX_OPEN_CONNS=24"),),
            restarts=("catalog",),
        ),
    ),
    events=(Event(48, "catalog-db", {"base": 0.085}, 4),),
)

RATE_GAP = case(
    "gap_over_the_onset",
    "pool_exhaustion",
    "metrics_gap",
    128,
    "2026-05-21T13:00:00Z",
    90,
    30,
    "catalog",
    "catalog: errors, all connections are in use",
    82,
    {"catalog": catalog(replace(CATALOG_PARAMS, replicas=2)), "catalog-db": DATABASE},
    {"catalog": Load(730)},
    found(
        "config_change",
        "guilty",
        CATALOG,
        "DB_MAX_OPEN_CONNS",
        "catalog",
        "30",
        "1",
        tags=("missing_source",),
        why="Prometheus was away while it began; sizes before and after tell.",
    ),
    (
        Commit(41, "alice", "catalog: larger pages", (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=52"),)),
        Commit(
            47,
            "dave",
            "catalog: one connection each is enough",
            (edit(CATALOG, "DB_MAX_OPEN_CONNS=30", "DB_MAX_OPEN_CONNS=1"),),
            (("catalog", {"pool": 1}),),
            tag="guilty",
        ),
    ),
    missing=Missing(gap=(39, 62)),
)

# --- storefront (Node.js), pricing (OpenTelemetry), catalog behind them ---------------------------------------------------------

STOREFRONT = "apps/storefront/config.json"
STOREFRONT_RUN = "apps/storefront/deployment.yaml"
PRICING = "apps/pricing/values.yaml"
STOREFRONT_PARAMS = Params(
    replicas=2,
    base=0.008,
    cpu=0.005,
    cpu_limit=1.0,
    calls={"pricing": Call(1.0, 2.0, 1), "catalog": Call(1.0, 2.0)},
    memory=140,
    startup=6,
)
PRICING_PARAMS = Params(
    replicas=2, base=0.015, cpu=0.003, cpu_limit=1.0, workers=40, pool=12, queries=3, database="pricing-db", memory=160
)


def storefront(
    params: Params = STOREFRONT_PARAMS,
    *more: str,
    exports: tuple[str, ...] = ("node_http", "node_runtime", "client_calls"),
    **changes: Any,
) -> ServiceSpec:
    """Return the storefront service."""
    values = {
        "port": 8080,
        "pricing": {"url": "http://pricing:8080", "timeoutMs": 2000, "retries": 1},
        "catalog": {"url": "http://catalog:8080", "timeoutMs": 2000},
        "session": {"store": "memory", "ttlMinutes": 20},
        "logLevel": "info",
        "features": {"newBasket": False, "recommendations": True},
    }
    probe = "livenessProbe:\n  httpGet: {path: /healthz, port: 8080}\n  initialDelaySeconds: 60\n  periodSeconds: 10\n  timeoutSeconds: 3\n  failureThreshold: 3"
    files = {
        STOREFRONT: json_text(values),
        STOREFRONT_RUN: deployment(
            "storefront",
            f"{REGISTRY}/storefront:88",
            replicas=params.replicas,
            memory="320Mi",
            probe=probe,
            strategy="Recreate",
        ),
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"route": "/", "host.pricing": "pricing:8080", "host.catalog": "catalog:8080"},
        files,
        log="node",
        labels={"app": "storefront"},
        selector='app="storefront"',
        depends_on=("pricing", "catalog"),
    )
    return replace(spec, **changes)


def pricing(
    params: Params = PRICING_PARAMS,
    *more: str,
    exports: tuple[str, ...] = ("otel_http", "otel_db", "otel_process"),
    **changes: Any,
) -> ServiceSpec:
    """Return the pricing service."""
    values = {
        "image": {"repository": f"{REGISTRY}/pricing", "tag": "7.2.0"},
        "replicaCount": params.replicas,
        "config": {
            "db": {"host": "pricing-db.example.org", "maxConnections": 12, "acquireTimeoutMs": 3000},
            "workers": 40,
            "currency": "EUR",
            "rounding": "half-even",
            "taxTable": "2025b",
        },
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"route": "/v1/price", "pool": "pricing"},
        {PRICING: spring(values)},
        log="json",
        labels={"service_name": "pricing"},
        selector='service_name="pricing"',
        job="shop/pricing",
    )
    return replace(spec, **changes)


def behind(*, catalog_exports: tuple[str, ...] = (), queries: float = 0.2) -> dict[str, ServiceSpec]:
    """Return what storefront and pricing call."""
    quiet = catalog(replace(CATALOG_PARAMS, replicas=2, queries=queries), exports=catalog_exports)
    return {"catalog": quiet, "catalog-db": DATABASE, "pricing-db": DATABASE}


WRONG_PORT = case(
    "wrong_port",
    "request_errors",
    "wrong_endpoint",
    130,
    "2026-03-07T08:00:00Z",
    60,
    30,
    "storefront",
    "storefront shows error pages",
    46,
    {"storefront": storefront(), "pricing": pricing(), **behind()},
    {"storefront": Load(28)},
    found(
        "config_change", "guilty", STOREFRONT, "pricing.url", "storefront", "http://pricing:8080", "http://pricing:8090"
    ),
    (
        Commit(
            32,
            "bob",
            "storefront: pricing behind its new port",
            (edit(STOREFRONT, "http://pricing:8080", "http://pricing:8090"),),
            (("storefront", {"calls.pricing.fault": "refused", "calls.pricing.host": "pricing:8090"}),),
            tag="guilty",
        ),
        Commit(
            24,
            "erin",
            "pricing: round as the others do",
            (edit(PRICING, "half-even", "half-up"),),
            restarts=("pricing",),
        ),
    ),
)

DEPENDENCY_SLOW = case(
    "dependency_slow",
    "request_latency",
    "slow_dependency",
    131,
    "2026-03-16T19:00:00Z",
    75,
    30,
    "storefront",
    "storefront latency",
    66,
    {
        "storefront": storefront(
            replace(STOREFRONT_PARAMS, calls={"pricing": Call(1.0, 2.0), "catalog": Call(1.0, 2.0)})
        ),
        "pricing": pricing(exports=("otel_http", "otel_process"), files={}),
        **behind(),
    },
    {"storefront": Load(33)},
    nobody("dependency", "pricing", why="Pricing became slow by itself; nothing was changed, there or here."),
    (
        Commit(
            -900,
            "dave",
            "storefront: recommendations for all",
            (edit(STOREFRONT, '"newBasket": false', '"newBasket": true'),),
            restarts=("storefront",),
        ),
    ),
    events=(Event(41, "pricing", {"base": 0.55}, 3),),
)

CALLED_SERVICE = case(
    "called_service_pool",
    "request_latency",
    "called_service_change",
    132,
    "2026-03-28T10:00:00Z",
    70,
    30,
    "storefront",
    "pages of the storefront load slowly, timeouts",
    58,
    {"storefront": storefront(), "pricing": pricing(replace(PRICING_PARAMS, queries=8)), **behind()},
    {"storefront": Load(45)},
    found("config_change", "guilty", PRICING, "config.db.maxConnections", "pricing", "12", "1"),
    (
        Commit(
            36,
            "frank",
            "pricing: the database complains about connections",
            (edit(PRICING, "maxConnections: 12", "maxConnections: 1"),),
            (("pricing", {"pool": 1}),),
            tag="guilty",
        ),
    ),
)

THREE_CHANGED = case(
    "three_changed_one_guilty",
    "request_latency",
    "several_services",
    133,
    "2026-04-06T12:00:00Z",
    90,
    60,
    "storefront",
    "storefront p99 high",
    80,
    {"storefront": storefront(), "pricing": pricing(), **behind(catalog_exports=("go_http", "go_sql"), queries=6.0)},
    {"storefront": Load(60)},
    found("config_change", "guilty", CATALOG, "DB_MAX_OPEN_CONNS", "catalog", "30", "1", tags=("red_herring",)),
    (
        Commit(
            41,
            "alice",
            "storefront: new basket",
            (edit(STOREFRONT, '"newBasket": false', '"newBasket": true'),),
            restarts=("storefront",),
        ),
        Commit(
            49,
            "erin",
            "pricing: fewer workers are enough",
            (edit(PRICING, "workers: 40", "workers: 36"),),
            (("pricing", {"workers": 36}),),
        ),
        Commit(
            52,
            "dave",
            "catalog: fewer connections",
            (edit(CATALOG, "DB_MAX_OPEN_CONNS=30", "DB_MAX_OPEN_CONNS=1"),),
            (("catalog", {"pool": 1}),),
            tag="guilty",
        ),
        Commit(55, "bob", "pricing 7.2.1", (edit(PRICING, "tag: 7.2.0", "tag: 7.2.1"),), restarts=("pricing",)),
    ),
)

CALLER_RETRIES = case(
    "caller_retries",
    "cpu_saturation",
    "retry_storm",
    134,
    "2026-04-17T14:00:00Z",
    70,
    30,
    "pricing",
    "pricing is overloaded, cpu at the limit",
    60,
    {
        "storefront": storefront(
            replace(STOREFRONT_PARAMS, replicas=3, cpu_limit=2.0, calls={"pricing": Call(1.0, 2.0, 1)}),
            exports=("node_http", "client_calls"),
        ),
        "pricing": pricing(
            replace(PRICING_PARAMS, pool=0, queries=0.0, cpu=0.011, workers=0),
            exports=("otel_http", "otel_process", "cadvisor"),
        ),
    },
    {"storefront": Load(85)},
    found("config_change", "guilty", STOREFRONT, "pricing.timeoutMs", "storefront", "2000", "20"),
    (
        Commit(
            37,
            "carol",
            "storefront: do not wait for pricing, try again",
            (edit(STOREFRONT, '"timeoutMs": 2000,\n    "retries": 1', '"timeoutMs": 20,\n    "retries": 1'),),
            (("storefront", {"calls.pricing.timeout": 0.02}),),
            tag="guilty",
        ),
        Commit(
            21,
            "frank",
            "pricing: round as the others do",
            (edit(PRICING, "half-even", "half-up"),),
            restarts=("pricing",),
        ),
    ),
)

CACHE_AND_LIMIT = case(
    "larger_cache_smaller_limit",
    "container_memory",
    "two_changes",
    135,
    "2026-04-24T06:00:00Z",
    240,
    60,
    "catalog",
    "catalog pods are OOMKilled again and again",
    232,
    {
        "catalog": catalog(
            replace(
                CATALOG_PARAMS,
                replicas=2,
                cache_shared=False,
                cache_wanted=300_000,
                cache_limit=60_000,
                entry_kib=0.9,
                memory=80,
                memory_limit=512,
                miss_queries=2,
            ),
            exports=("go_http", "go_runtime", "python_cache", "cadvisor", "kube"),
        ),
        "catalog-db": DATABASE,
    },
    {"catalog": Load(120)},
    found(
        "config_change",
        "guilty",
        CATALOG_RUN,
        "resources.limits.memory",
        "catalog",
        "512Mi",
        "192Mi",
        also=(Guilty("also", CATALOG, "LOCAL_CACHE_ENTRIES", "catalog"),),
        tags=("two_changes",),
        why="The larger cache fits the old limit, the old cache fits the smaller limit.",
    ),
    (
        Commit(
            35,
            "bob",
            "catalog: more products at hand",
            (edit(CATALOG, "LOCAL_CACHE_ENTRIES=60000", "LOCAL_CACHE_ENTRIES=300000"),),
            (("catalog", {"cache_limit": 300_000.0}),),
            tag="also",
        ),
        Commit(
            150,
            "frank",
            "catalog: limits of the small class",
            (edit(CATALOG_RUN, "memory: 512Mi", "memory: 192Mi"),),
            (("catalog", {"memory_limit": 192.0}),),
            tag="guilty",
        ),
    ),
)

TWO_SUSPECTS = case(
    "two_suspects_one_rollout",
    "request_errors",
    "undecidable",
    147,
    "2026-06-02T10:00:00Z",
    60,
    30,
    "pricing",
    "pricing returns errors for one request in eight",
    50,
    {"pricing": pricing(replace(PRICING_PARAMS, fault="")), "pricing-db": DATABASE},
    {"pricing": Load(34)},
    nobody(
        "unknown",
        "pricing",
        outcome="inconclusive",
        why="A release and a new table came with one restart; errors say nothing of either, and there is no log.",
    ),
    (
        Commit(31, "erin", "pricing: the new tax table", (edit(PRICING, "2025b", "2026a"),)),
        Commit(
            31.3,
            "frank",
            "pricing 7.3.0",
            (edit(PRICING, "tag: 7.2.0", "tag: 7.3.0"),),
            (("pricing", {"error_share": 0.12}),),
            after=60,
        ),
    ),
    missing=Missing(logs=True),
)

LIVENESS = case(
    "liveness_too_early",
    "crash_loop",
    "crash_loop",
    136,
    "2026-05-08T08:00:00Z",
    60,
    15,
    "storefront",
    "storefront pods restart over and over, CrashLoopBackOff, 503",
    42,
    {
        "storefront": storefront(
            replace(
                STOREFRONT_PARAMS,
                startup=42.0,
                probe_delay=60.0,
                probe_timeout=3.0,
                calls={"pricing": Call(1.0, 2.0, 1)},
            ),
            exports=("kube", "cadvisor", "ingress"),
            selector='namespace="shop",app="storefront"',
            labels={"namespace": "shop", "app": "storefront"},
        ),
        "pricing": pricing(exports=("otel_http",)),
        "pricing-db": DATABASE,
    },
    {"storefront": Load(20)},
    found("config_change", "guilty", STOREFRONT_RUN, "initialDelaySeconds", "storefront", "60", "5"),
    (
        Commit(
            30,
            "alice",
            "storefront: notice dead pods sooner",
            (
                edit(STOREFRONT_RUN, "initialDelaySeconds: 60", "initialDelaySeconds: 5"),
                edit(STOREFRONT_RUN, "periodSeconds: 10", "periodSeconds: 5"),
            ),
            (("storefront", {"probe_delay": 5.0, "probe_period": 5.0}),),
            all_at_once=True,
            tag="guilty",
        ),
        Commit(
            22,
            "erin",
            "pricing: round as the others do",
            (edit(PRICING, "half-even", "half-up"),),
            restarts=("pricing",),
        ),
    ),
)

NODE_SESSIONS = case(
    "node_sessions",
    "container_memory",
    "container_memory",
    137,
    "2026-05-15T06:00:00Z",
    420,
    120,
    "storefront",
    "storefront memory keeps growing until the pods are killed",
    410,
    {
        "storefront": storefront(
            replace(
                STOREFRONT_PARAMS,
                session_seconds=1200.0,
                session_share=0.5,
                session_kib=2.0,
                memory=130,
                memory_limit=320,
                calls={},
                startup=8,
            ),
            "node_store",
            exports=("node_http", "node_runtime", "cadvisor", "kube"),
        )
    },
    {"storefront": Load(18)},
    found(
        "config_change",
        "guilty",
        STOREFRONT,
        "session.ttlMinutes",
        "storefront",
        "20",
        "2880",
    ),
    (
        Commit(
            70,
            "carol",
            "storefront: stay logged in",
            (edit(STOREFRONT, '"ttlMinutes": 20', '"ttlMinutes": 2880'),),
            (("storefront", {"session_seconds": 172800.0}),),
            tag="guilty",
        ),
        Commit(
            390,
            "bob",
            "storefront: new basket",
            (edit(STOREFRONT, '"newBasket": false', '"newBasket": true'),),
            restarts=(),
        ),
    ),
)

HEALTHY = case(
    "healthy_asked_about_latency",
    "request_latency",
    "healthy",
    138,
    "2026-05-23T10:00:00Z",
    60,
    30,
    "storefront",
    "somebody says that the storefront is slow",
    50,
    {"storefront": storefront(), "pricing": pricing(), **behind()},
    {"storefront": Load(30)},
    nobody("none", "storefront", outcome="healthy"),
    (
        Commit(
            30,
            "alice",
            "storefront: new basket",
            (edit(STOREFRONT, '"newBasket": false', '"newBasket": true'),),
            restarts=("storefront",),
        ),
        Commit(20, "erin", "pricing 7.2.1", (edit(PRICING, "tag: 7.2.0", "tag: 7.2.1"),), restarts=("pricing",)),
    ),
)

NO_LATENCY = case(
    "latency_not_measured",
    "request_latency",
    "missing_metric",
    139,
    "2026-05-27T15:00:00Z",
    60,
    30,
    "pricing",
    "callers say that pricing is slow",
    50,
    {"pricing": pricing(exports=("otel_process",)), "pricing-db": DATABASE},
    {"pricing": Load(30)},
    nobody(
        "unknown",
        "pricing",
        ("missing_source",),
        "inconclusive",
        why="Neither requests nor times are exported, and the log is not configured: nothing shows whether it is slow.",
    ),
    (
        Commit(31, "frank", "pricing 7.2.1", (edit(PRICING, "tag: 7.2.0", "tag: 7.2.1"),), restarts=("pricing",)),
        Commit(
            38,
            "bob",
            "pricing: fewer workers are enough",
            (edit(PRICING, "workers: 40", "workers: 36"),),
            restarts=("pricing",),
        ),
    ),
    missing=Missing(logs=True),
)

# --- gateway (Envoy), notifier (Celery), campaigns ------------------------------------------------------------------------------

GATEWAY = "platform/gateway/limits.toml"


def gateway(params: Params, **changes: Any) -> ServiceSpec:
    """Return the gateway."""
    values = {
        "listen": "0.0.0.0:8443",
        "routes": {"orders": "checkout:8080", "connect_timeout_ms": 500, "timeout_ms": 8000},
        "rate_limit": {"requests_per_second": 300, "burst": 60, "by": "client"},
        "access_log": {"sample": 0.1},
    }
    spec = ServiceSpec(
        params,
        ("envoy", "up"),
        {"host.backend": "orders_v1"},
        {GATEWAY: toml(values)},
        log="klog",
        labels={"team": "edge"},
        selector='job="gateway"',
        machines=True,
    )
    return replace(spec, **changes)


BACKEND = ServiceSpec(Params(kind="backend", replicas=2, base=0.05, cpu=0.001, cpu_limit=16))
RATE_LIMIT = case(
    "rate_limit_lowered",
    "request_errors",
    "rate_limit",
    140,
    "2026-03-20T17:00:00Z",
    60,
    15,
    "gateway",
    "clients get errors 429 from the gateway",
    44,
    {
        "gateway": gateway(
            Params(
                replicas=2,
                base=0.002,
                cpu=0.0004,
                cpu_limit=2,
                rate_limit=300,
                calls={"backend": Call(1.0, 8.0)},
                memory=60,
            )
        ),
        "backend": BACKEND,
    },
    {"gateway": Load(120)},
    found("config_change", "guilty", GATEWAY, "rate_limit.requests_per_second", "gateway", "300", "60"),
    (
        Commit(
            33,
            "erin",
            "gateway: limit scrapers",
            (edit(GATEWAY, "requests_per_second = 300", "requests_per_second = 60"),),
            (("gateway", {"rate_limit": 60.0}),),
            rollout=False,
            after=20,
            tag="guilty",
        ),
        Commit(29, "frank", "gateway: log more", (edit(GATEWAY, "sample = 0.1", "sample = 0.2"),)),
    ),
    folder="platform",
)

TRAFFIC = case(
    "traffic_jump",
    "cpu_saturation",
    "traffic_growth",
    141,
    "2026-04-12T20:00:00Z",
    60,
    15,
    "gateway",
    "gateway: latency and cpu are up",
    46,
    {
        "gateway": gateway(
            Params(replicas=2, base=0.002, cpu=0.003, cpu_limit=1.0, calls={"backend": Call(1.0, 8.0)}, memory=60)
        ),
        "backend": BACKEND,
    },
    {"gateway": Load(210, growth=((31, 3.4, 4),))},
    nobody("load", "gateway", ("red_herring",)),
    (
        Commit(28, "bob", "gateway: log less", (edit(GATEWAY, "sample = 0.1", "sample = 0.05"),)),
        Commit(
            -70,
            "erin",
            "gateway: a little patience",
            (edit(GATEWAY, "connect_timeout_ms = 500", "connect_timeout_ms = 600"),),
        ),
    ),
    folder="platform",
    noise=LOUD,
)

NOTIFIER = "services/notifier/deployment.yaml"
CAMPAIGNS = "services/campaigns/settings.yaml"
NOTIFIER_PARAMS = Params(
    kind="consumer",
    replicas=2,
    base=0.25,
    cpu=0.01,
    workers=8,
    calls={"smtp": Call(1.0, 10.0, 1)},
    memory=210,
    startup=5,
)
SMTP = ServiceSpec(Params(kind="backend", replicas=1, base=0.15, cpu=0.0001, cpu_limit=64))


def notifier(
    params: Params = NOTIFIER_PARAMS,
    *more: str,
    exports: tuple[str, ...] = ("celery", "python_process"),
    **changes: Any,
) -> ServiceSpec:
    """Return the notifier."""
    env = {
        "WORKER_CONCURRENCY": "8",
        "PREFETCH_MULTIPLIER": "2",
        "SMTP_HOST": "smtp.example.org",
        "TEMPLATE_CACHE_ENTRIES": "4000",
        "LOG_LEVEL": "INFO",
    }
    files = {
        NOTIFIER: deployment(
            "notifier", "registry.example.org/notifier:2026.5", env=env, cpu="1", memory="512Mi", namespace="mail"
        )
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"queue": "mails", "task": "mails.send", "host.smtp": "smtp.example.org:587"},
        files,
        log="python",
        labels={"app": "notifier", "namespace": "mail"},
        selector='namespace="mail",app="notifier"',
    )
    return replace(spec, **changes)


def campaigns(params: Params, **changes: Any) -> ServiceSpec:
    """Return the service that hands mails over."""
    values = {
        "handover": {"batchSize": 20, "everySeconds": 30},
        "audience": {"pageSize": 500},
        "sender": "shop@example.org",
    }
    spec = ServiceSpec(
        params,
        ("house_http",),
        {"prefix": "campaigns"},
        {CAMPAIGNS: spring(values)},
        log="logback",
        labels={"app": "campaigns"},
        selector='app="campaigns"',
        depends_on=("notifier",),
        machines=True,
    )
    return replace(spec, **changes)


CONCURRENCY = case(
    "worker_concurrency",
    "queue_backlog",
    "consumer_concurrency",
    142,
    "2026-03-30T06:00:00Z",
    150,
    60,
    "notifier",
    "mails arrive late, the queue is growing",
    140,
    {"notifier": notifier(), "smtp": SMTP},
    {"notifier": Load(21)},
    found("config_change", "guilty", NOTIFIER, "WORKER_CONCURRENCY", "notifier", "8", "2"),
    (
        Commit(
            64,
            "dave",
            "notifier: less memory, fewer processes",
            (
                edit(
                    NOTIFIER,
                    'name: WORKER_CONCURRENCY\n          value: "8"',
                    'name: WORKER_CONCURRENCY\n          value: "2"',
                ),
            ),
            (("notifier", {"workers": 2}),),
            tag="guilty",
        ),
        Commit(
            118,
            "alice",
            "notifier: more templates at hand",
            (edit(NOTIFIER, 'value: "4000"', 'value: "5000"'),),
            restarts=("notifier",),
        ),
    ),
    folder="services",
)

PRODUCER = case(
    "producer_batch",
    "queue_backlog",
    "caller_change",
    143,
    "2026-04-19T07:00:00Z",
    120,
    60,
    "notifier",
    "notifier: queue backlog keeps growing",
    112,
    {
        "campaigns": campaigns(
            Params(replicas=1, base=0.01, cpu=0.001, calls={"notifier": Call(20.0, 30.0, 0, essential=False)})
        ),
        "notifier": notifier(),
        "smtp": SMTP,
    },
    {"campaigns": Load(1.0)},
    found("config_change", "guilty", CAMPAIGNS, "handover.batchSize", "campaigns", "20", "80"),
    (
        Commit(
            58,
            "carol",
            "campaigns: hand over faster",
            (edit(CAMPAIGNS, "batchSize: 20", "batchSize: 80"),),
            (("campaigns", {"calls.notifier.per_request": 80.0}),),
            tag="guilty",
        ),
        Commit(
            35,
            "bob",
            "notifier: more templates at hand",
            (edit(NOTIFIER, 'value: "4000"', 'value: "4500"'),),
            restarts=("notifier",),
        ),
    ),
    folder="services",
)

MEMORY_LIMIT = case(
    "memory_limit_lowered",
    "crash_loop",
    "crash_loop",
    144,
    "2026-05-02T09:00:00Z",
    90,
    30,
    "notifier",
    "notifier restarts all the time, OOMKilled",
    76,
    {
        "notifier": notifier(
            replace(
                NOTIFIER_PARAMS,
                kind="server",
                workers=32,
                memory=205,
                cache_limit=4000,
                cache_wanted=4000,
                entry_kib=12,
                calls={"smtp": Call(1.0, 10.0)},
            ),
            exports=("python_http", "python_process", "cadvisor", "kube"),
        ),
        "smtp": SMTP,
    },
    {"notifier": Load(17)},
    found("config_change", "guilty", NOTIFIER, "resources.limits.memory", "notifier", "512Mi", "224Mi"),
    (
        Commit(
            38,
            "frank",
            "notifier: it never used half of it",
            (edit(NOTIFIER, "memory: 512Mi", "memory: 224Mi"), edit(NOTIFIER, "cpu: 1\n", "cpu: 800m\n")),
            (("notifier", {"memory_limit": 224.0, "cpu_limit": 0.8}),),
            tag="guilty",
        ),
    ),
    folder="services",
)

THROUGHPUT = case(
    "throughput_falls_after_release",
    "throughput_drop",
    "bad_release",
    145,
    "2026-05-25T12:00:00Z",
    120,
    60,
    "notifier",
    "notifier sends far fewer mails than before",
    110,
    {"notifier": notifier(exports=("consumer_house", "rabbitmq", "python_process")), "smtp": SMTP},
    {"notifier": Load(24)},
    found(
        "deploy",
        "guilty",
        NOTIFIER,
        "image",
        "notifier",
        "registry.example.org/notifier:2026.5",
        "registry.example.org/notifier:2026.6",
        tags=("missing_source",),
    ),
    (
        Commit(
            55,
            "erin",
            "notifier 2026.6",
            (edit(NOTIFIER, "notifier:2026.5", "notifier:2026.6"),),
            (("notifier", {"base": 1.3}),),
            tag="guilty",
        ),
    ),
    folder="services",
    missing=Missing(logs=True, metrics=("process_start_time",)),
)

REVERTED = case(
    "already_reverted",
    "throughput_drop",
    "already_reverted",
    146,
    "2026-05-29T05:00:00Z",
    150,
    60,
    "notifier",
    "notifier: throughput dropped, messages pile up",
    142,
    {"notifier": notifier(exports=("consumer_house", "rabbitmq", "python_process")), "smtp": SMTP},
    {"notifier": Load(22)},
    found("config_change", "guilty", NOTIFIER, "WORKER_CONCURRENCY", "notifier", "8", "2", tags=("red_herring",)),
    (
        Commit(
            30,
            "bob",
            "notifier: prefetch more",
            (edit(NOTIFIER, 'MULTIPLIER\n          value: "2"', 'MULTIPLIER\n          value: "8"'),),
            restarts=("notifier",),
        ),
        Commit(
            52,
            "bob",
            'Revert "notifier: prefetch more"',
            (edit(NOTIFIER, 'MULTIPLIER\n          value: "8"', 'MULTIPLIER\n          value: "2"'),),
            restarts=("notifier",),
        ),
        Commit(
            82,
            "carol",
            "notifier: two processes each",
            (edit(NOTIFIER, 'CONCURRENCY\n          value: "8"', 'CONCURRENCY\n          value: "2"'),),
            (("notifier", {"workers": 2}),),
            tag="guilty",
        ),
    ),
    folder="services",
)

# --- harder ones ---------------------------------------------------------------------------------------------------------------

OVERNIGHT = case(
    "felt_in_the_morning",
    "queue_backlog",
    "delayed_effect",
    150,
    "2026-06-08T08:00:00Z",
    1620,
    300,
    "notifier",
    "queue of notifier grows, mails are late",
    1600,
    {"notifier": notifier(), "smtp": SMTP},
    {"notifier": Load(14, peak_hour=11)},
    found("config_change", "guilty", NOTIFIER, "WORKER_CONCURRENCY", "notifier", "8", "4", tags=("red_herring",)),
    (
        Commit(
            880,
            "dave",
            "notifier: four processes do",
            (edit(NOTIFIER, 'CONCURRENCY\n          value: "8"', 'CONCURRENCY\n          value: "4"'),),
            (("notifier", {"workers": 4}),),
            tag="guilty",
        ),
        Commit(
            1530,
            "alice",
            "notifier: more templates at hand",
            (edit(NOTIFIER, 'value: "4000"', 'value: "5000"'),),
            restarts=("notifier",),
        ),
    ),
    folder="services",
    noise=Noise(measurement=0.03, daily=0.6, wander=0.03, lost=0.002, spikes=0.05),
)

TTL = case(
    "shorter_ttl",
    "request_latency",
    "cache_change",
    151,
    "2026-06-10T09:00:00Z",
    300,
    120,
    "catalog",
    "catalog has been slower for hours",
    290,
    {"catalog": catalog(replace(CATALOG_PARAMS, replicas=2, miss_queries=14)), "catalog-db": DATABASE},
    {"catalog": Load(130)},
    found("config_change", "guilty", CATALOG, "CACHE_TTL", "catalog", "4h", "1m", tags=("red_herring",)),
    (
        Commit(
            96,
            "erin",
            "catalog: fresher prices",
            (edit(CATALOG, "CACHE_TTL=4h", "CACHE_TTL=1m"),),
            (("catalog", {"cache_best": 0.68}),),
            tag="guilty",
        ),
        Commit(
            270,
            "frank",
            "catalog 0.31.3",
            (edit(CATALOG_RUN, "catalog:0.31.2", "catalog:0.31.3"),),
            restarts=("catalog",),
        ),
    ),
    noise=LOUD,
)

POOL_IN_TRAFFIC = case(
    "smaller_pool_on_a_busy_day",
    "pool_exhaustion",
    "masked_by_traffic",
    152,
    "2026-06-15T16:00:00Z",
    120,
    60,
    "checkout",
    "checkout slow, waiting for connections",
    110,
    {
        "checkout": checkout(exports=("micrometer_http", "hikari", "jvm"), machines=True),
        "payments": payments(exports=()),
        "orders-db": DATABASE,
    },
    {"checkout": Load(128, growth=((35, 1.3, 20),))},
    found("config_change", "guilty", CHECKOUT, "maximum-pool-size", "checkout", "20", "2"),
    (
        Commit(
            68,
            "bob",
            "checkout: give connections back to reporting",
            (edit(CHECKOUT, "maximum-pool-size: 20", "maximum-pool-size: 2"),),
            (("checkout", {"pool": 2}),),
            tag="guilty",
        ),
    ),
    noise=LOUD,
)

TWO_TROUBLES = case(
    "errors_beside_debug_lines",
    "request_errors",
    "two_anomalies",
    153,
    "2026-06-17T13:00:00Z",
    80,
    30,
    "storefront",
    "storefront returns errors",
    68,
    {
        "storefront": storefront(replace(STOREFRONT_PARAMS, replicas=2, cpu_limit=2.0), "cadvisor"),
        "pricing": pricing(exports=("otel_http",)),
        **behind(),
    },
    {"storefront": Load(36)},
    found(
        "config_change",
        "guilty",
        STOREFRONT,
        "catalog.url",
        "storefront",
        "http://catalog:8080",
        "http://catalogue:8080",
        tags=("red_herring",),
    ),
    (
        Commit(
            33,
            "carol",
            "storefront: look for the lost session",
            (edit(STOREFRONT, '"logLevel": "info"', '"logLevel": "debug"'),),
            (("storefront", {"log_lines": 90.0}),),
        ),
        Commit(
            44,
            "dave",
            "storefront: catalogue has a new name",
            (edit(STOREFRONT, "http://catalog:8080", "http://catalogue:8080"),),
            (("storefront", {"calls.catalog.fault": "unresolved", "calls.catalog.host": "catalogue:8080"}),),
            tag="guilty",
        ),
    ),
)

CALLED_RELEASE = case(
    "called_service_release",
    "request_errors",
    "called_service_change",
    154,
    "2026-06-22T07:00:00Z",
    75,
    30,
    "storefront",
    "error pages in the storefront",
    64,
    {"storefront": storefront(), "pricing": pricing(replace(PRICING_PARAMS, fault="")), **behind()},
    {"storefront": Load(40)},
    found("deploy", "guilty", PRICING, "image.tag", "pricing", "7.2.0", "7.3.0", tags=("red_herring",)),
    (
        Commit(
            37,
            "erin",
            "pricing 7.3.0",
            (edit(PRICING, "tag: 7.2.0", "tag: 7.3.0"),),
            (("pricing", {"error_share": 0.45, "fault": "java.lang.IllegalStateException: no tax table for 2026"}),),
            tag="guilty",
        ),
        Commit(
            39,
            "bob",
            "storefront: three attempts",
            (edit(STOREFRONT, '"retries": 1', '"retries": 2'),),
            (("storefront", {"calls.pricing.retries": 2}),),
        ),
    ),
)

CATALOG_SCALER = "apps/catalog/hpa.yaml"
SCALER_TEXT = """apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: catalog, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: catalog}
  minReplicas: 2
  maxReplicas: 8
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}
"""

SCALER_LOWERED = case(
    "scaler_maximum_lowered",
    "cpu_saturation",
    "replicas",
    157,
    "2026-07-02T07:00:00Z",
    180,
    60,
    "catalog",
    "catalog is slow, processors at their limit",
    170,
    {
        "catalog": catalog(
            replace(CATALOG_PARAMS, replicas=2, hpa_max=8, hpa_target=0.6, cpu=0.006, cpu_limit=1.0, queries=0.1),
            exports=("go_http", "cadvisor", "kube"),
            files={**catalog().files, CATALOG_SCALER: SCALER_TEXT},
            machines=True,
        ),
        "catalog-db": DATABASE,
    },
    {"catalog": Load(430)},
    found("config_change", "guilty", CATALOG_SCALER, "maxReplicas", "catalog", "8", "2"),
    (
        Commit(
            96,
            "alice",
            "catalog: two pods are in the budget",
            (edit(CATALOG_SCALER, "maxReplicas: 8", "maxReplicas: 2"),),
            (("catalog", {"hpa_max": 2}),),
            rollout=False,
            tag="guilty",
        ),
        Commit(70, "erin", "catalog: larger pages", (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=55"),)),
    ),
)

FRONT = "apps/front/nginx.conf"
FRONT_TEXT = """worker_processes 2;

events { worker_connections 4096; }

http {
    keepalive_timeout 30s;
    client_max_body_size 8m;

    upstream web { server web:8080; keepalive 64; }

    server {
        listen 8080;
        location / {
            proxy_pass http://web;
            proxy_connect_timeout 1s;
            proxy_read_timeout 3s;
        }
    }
}
"""

PROXY_TIMEOUT = case(
    "proxy_read_timeout",
    "request_latency",
    "timeout_change",
    158,
    "2026-07-06T11:00:00Z",
    80,
    30,
    "front",
    "requests through the front proxy hang for up to a minute",
    68,
    {
        "front": ServiceSpec(
            Params(
                replicas=2, base=0.001, cpu=0.0004, cpu_limit=2, calls={"web": Call(1.0, 3.0)}, memory=40, startup=2
            ),
            ("nginx", "up"),
            {"host.web": "web:8080"},
            {FRONT: FRONT_TEXT},
            log="nginx",
            labels={"team": "edge"},
            selector='job="front"',
            machines=True,
        ),
        "web": ServiceSpec(
            Params(kind="backend", replicas=2, base=0.12, cpu=0.0005, cpu_limit=32, hang_share=0.025, hang_seconds=50)
        ),
    },
    {"front": Load(55)},
    found("config_change", "guilty", FRONT, "proxy_read_timeout", "front", "3s", "60s"),
    (
        Commit(
            24,
            "frank",
            "front: larger uploads",
            (edit(FRONT, "client_max_body_size 8m", "client_max_body_size 16m"),),
            restarts=("front",),
        ),
        Commit(
            43,
            "carol",
            "front: long reports are cut off",
            (edit(FRONT, "proxy_read_timeout 3s", "proxy_read_timeout 60s"),),
            (("front", {"calls.web.timeout": 60.0}),),
            after=25,
            tag="guilty",
        ),
    ),
)

NODE_LOST = case(
    "node_lost",
    "request_latency",
    "infrastructure",
    156,
    "2026-06-29T15:00:00Z",
    70,
    30,
    "catalog",
    "catalog latency jumped",
    60,
    {
        "catalog": catalog(
            replace(CATALOG_PARAMS, replicas=4, cpu=0.004, cpu_limit=1.0),
            exports=("go_http", "go_runtime", "cadvisor", "kube"),
        ),
        "catalog-db": DATABASE,
    },
    {"catalog": Load(402)},
    nobody(
        "infrastructure",
        "catalog",
        ("red_herring",),
        accepted_kinds=("infrastructure", "capacity"),
        why="Two of four pods went with their node and found no other; nobody asked for fewer.",
    ),
    (Commit(31, "bob", "catalog: larger pages", (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=52"),)),),
    events=(Event(38, "catalog", {"lost": 2}),),
)

BEFORE_THE_WINDOW = case(
    "failing_since_before",
    "request_errors",
    "undecidable",
    155,
    "2026-06-25T10:00:00Z",
    120,
    60,
    "catalog",
    "catalog: 5xx above the objective since the weekend",
    110,
    {
        "catalog": catalog(
            replace(
                CATALOG_PARAMS, replicas=2, error_share=0.06, fault="render failed: template price_list has no currency"
            ),
            exports=("go_http", "go_runtime"),
        ),
        "catalog-db": DATABASE,
    },
    {"catalog": Load(90)},
    nobody(
        "unknown",
        "catalog",
        outcome="inconclusive",
        why="It fails as often at the beginning of what is read as at its end, and both commits came meanwhile.",
    ),
    (
        Commit(
            41,
            "alice",
            "catalog: larger pages",
            (edit(CATALOG, "PAGE_SIZE=50", "PAGE_SIZE=52"),),
            restarts=("catalog",),
        ),
        Commit(
            83, "frank", "catalog: fewer connections", (edit(CATALOG, "CONNS=30", "CONNS=26"),), restarts=("catalog",)
        ),
    ),
)

SCENARIOS: tuple[Scenario, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Scenario))
