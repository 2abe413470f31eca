"""The incidents of the laboratory, as data: configuration, commits, traffic and truth.

An incident says what people and visitors do, never what the JVM does about it. ``truth`` is what a correct
diagnosis must find.
"""

from __future__ import annotations

from dataclasses import dataclass, field

APPLICATION = "apps/checkout/application.yaml"
DEPLOYMENT = "apps/checkout/deployment.yaml"
PAYMENTS = "apps/payments/application.yaml"
PAYMENTS_DEPLOYMENT = "apps/payments/deployment.yaml"
IMAGE = "registry.example.org/shop/checkout"

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Settings:
    """What the repository says about checkout when the run begins."""

    session_timeout: str = "30m"
    cache_size: str = "500"
    threads: str = "40"
    pool: str = "10"
    release: str = "2.4.0"
    java_options: str = "-Xms48m -Xmx96m -XX:+UseSerialGC -XX:ActiveProcessorCount=1 -Xss512k"
    memory_limit: str = "256Mi"


@dataclass(frozen=True)
class Edit:
    """One replacement in one file; the old text must occur exactly once."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class LiveCommit:
    """A commit made and pushed while the service runs; some are rolled out at once."""

    at_seconds: float
    author: str
    message: str
    edits: tuple[Edit, ...]
    rollout: bool = False
    guilty: bool = False


@dataclass(frozen=True)
class Truth:
    """What really happened. ``kind`` is one of the product's cause kinds."""

    kind: str
    path: str | None = None
    key: str | None = None
    old: str | None = None
    new: str | None = None
    oom_message: str | None = None


@dataclass(frozen=True)
class Incident:
    """One incident from its quiet beginning to its end."""

    name: str
    truth: Truth
    rates: dict[str, Points]
    commits: tuple[LiveCommit, ...]
    settings: Settings = field(default_factory=Settings)
    seconds: float = 150.0
    compression: float = 120.0
    catalogue: int = 20_000
    jmx_exporter: str | None = None
    address_space_bytes: int | None = None
    symptom: str = ""

    @property
    def job(self) -> str:
        """The value of the job label."""
        return "checkout-" + self.name.replace("_", "-")


def steady(per_second: float) -> Points:
    """Return a plan with the same rate for ever."""
    return ((0.0, per_second),)


def visitors(sessions: float = 30.0, products: float = 25.0, items: float = 15.0) -> dict[str, Points]:
    """Return the usual mix of traffic, without growth."""
    return {"sessions": steady(sessions), "products": steady(products), "items": steady(items)}


# Seconds of healthy baseline before the change: four compressed session timeouts, enough for a plateau.
CHANGE_AT = 60.0

PAYMENTS_LEVEL = LiveCommit(
    12.0,
    "carol",
    "payments: log the provider client at INFO while we chase timeouts",
    (Edit(PAYMENTS, "org.example.payments.provider: WARN", "org.example.payments.provider: INFO"),),
)
COMMENT = LiveCommit(
    28.0,
    "alice",
    "checkout: say who owns the cache numbers",
    (
        Edit(
            APPLICATION,
            "# product pages, see README",
            "# product pages, owned by the catalogue team, see README",
        ),
    ),
)
PAYMENTS_IMAGE = LiveCommit(
    CHANGE_AT - 4.0,
    "dave",
    "payments: release 1.9.2",
    (Edit(PAYMENTS_DEPLOYMENT, "shop/payments:1.9.1", "shop/payments:1.9.2"),),
)
POOL_TWEAK = LiveCommit(
    CHANGE_AT - 2.0,
    "bob",
    "checkout: two more database connections",
    (Edit(APPLICATION, "maximum-pool-size: 10", "maximum-pool-size: 12"),),
)
PAYMENTS_LATER = LiveCommit(
    CHANGE_AT + 25.0,
    "dave",
    "payments: retry the provider twice",
    (Edit(PAYMENTS, "retries: 1", "retries: 2"),),
)
LEVEL_LATER = LiveCommit(
    CHANGE_AT + 30.0,
    "carol",
    "checkout: quieter web log",
    (Edit(APPLICATION, "org.springframework.web: INFO", "org.springframework.web: WARN"),),
)


def guilty(author: str, message: str, *edits: Edit) -> LiveCommit:
    """Return the commit that causes the incident; it is rolled out as soon as it is pushed."""
    return LiveCommit(CHANGE_AT, author, message, edits, rollout=True, guilty=True)


HEAP_SPACE = "Java heap space"

SESSION_TIMEOUT = Incident(
    name="session_timeout",
    symptom="checkout restarts with java.lang.OutOfMemoryError",
    truth=Truth("config_change", APPLICATION, "server.servlet.session.timeout", "30m", "24h", HEAP_SPACE),
    rates=visitors(sessions=50.0),
    commits=(
        PAYMENTS_LEVEL,
        COMMENT,
        PAYMENTS_IMAGE,
        POOL_TWEAK,
        guilty("bob", "checkout: keep baskets over night", Edit(APPLICATION, "timeout: 30m", "timeout: 24h")),
        PAYMENTS_LATER,
    ),
)

HEAP_LOWERED = Incident(
    name="heap_lowered",
    symptom="checkout restarts again and again",
    truth=Truth("config_change", DEPLOYMENT, "-Xmx", "128m", "64m", HEAP_SPACE),
    rates=visitors(sessions=58.0),
    compression=60.0,
    settings=Settings(java_options="-Xms48m -Xmx128m -XX:+UseG1GC -XX:ActiveProcessorCount=1 -Xss512k"),
    commits=(
        COMMENT,
        PAYMENTS_IMAGE,
        guilty(
            "carol",
            "checkout: right-size memory",
            Edit(DEPLOYMENT, "-Xmx128m", "-Xmx64m"),
            Edit(DEPLOYMENT, "memory: 256Mi", "memory: 192Mi"),
        ),
        LEVEL_LATER,
    ),
)

CACHE_LIMIT = Incident(
    name="cache_limit",
    symptom="checkout is slow, then out of memory",
    truth=Truth("config_change", APPLICATION, "cache.products.maximum-size", "500", "50000", HEAP_SPACE),
    rates=visitors(sessions=15.0, products=150.0),
    settings=Settings(java_options="-Xms48m -Xmx112m -XX:+UseG1GC -XX:ActiveProcessorCount=1 -Xss512k"),
    catalogue=40_000,
    commits=(
        PAYMENTS_LEVEL,
        PAYMENTS_IMAGE,
        POOL_TWEAK,
        guilty(
            "alice",
            "checkout: fewer database reads",
            Edit(APPLICATION, "maximum-size: 500", "maximum-size: 50000"),
        ),
        LEVEL_LATER,
    ),
)

LEAKING_RELEASE = Incident(
    name="leaking_release",
    symptom="checkout dies some time after the release",
    truth=Truth("deploy", DEPLOYMENT, "image", f"{IMAGE}:2.4.0", f"{IMAGE}:2.5.0", HEAP_SPACE),
    rates=visitors(sessions=15.0, products=125.0),
    jmx_exporter="1.0.1",
    commits=(
        COMMENT,
        POOL_TWEAK,
        guilty("dave", "checkout: release 2.5.0", Edit(DEPLOYMENT, f"{IMAGE}:2.4.0", f"{IMAGE}:2.5.0")),
        PAYMENTS_LATER,
    ),
)

TRAFFIC_GROWTH = Incident(
    name="traffic_growth",
    symptom="checkout runs out of memory in the sale",
    truth=Truth("load", oom_message=HEAP_SPACE),
    rates={
        "sessions": ((0.0, 25.0), (CHANGE_AT - 5, 25.0), (CHANGE_AT + 60, 210.0)),
        "products": ((0.0, 20.0), (CHANGE_AT - 5, 20.0), (CHANGE_AT + 60, 90.0)),
        "items": ((0.0, 10.0), (CHANGE_AT - 5, 10.0), (CHANGE_AT + 60, 70.0)),
    },
    settings=Settings(pool="40"),
    commits=(
        PAYMENTS_LEVEL,
        PAYMENTS_IMAGE,
        LiveCommit(
            CHANGE_AT + 2.0,
            "carol",
            "checkout: quieter web log",
            (Edit(APPLICATION, "org.springframework.web: INFO", "org.springframework.web: WARN"),),
        ),
    ),
)

HEALTHY = Incident(
    name="healthy",
    symptom="somebody asks whether checkout is well",
    truth=Truth("none"),
    rates=visitors(),
    commits=(
        PAYMENTS_LEVEL,
        COMMENT,
        LiveCommit(
            CHANGE_AT,
            "bob",
            "checkout: two more database connections",
            (Edit(APPLICATION, "maximum-pool-size: 10", "maximum-pool-size: 12"),),
            rollout=True,
        ),
        PAYMENTS_LATER,
    ),
)

METASPACE = Incident(
    name="metaspace",
    symptom="checkout dies some time after the release",
    truth=Truth("deploy", DEPLOYMENT, "image", f"{IMAGE}:2.4.0", f"{IMAGE}:2.6.0", "Metaspace"),
    rates=visitors(sessions=15.0, products=80.0),
    settings=Settings(
        java_options="-Xms48m -Xmx128m -XX:MaxMetaspaceSize=28m -XX:CompressedClassSpaceSize=24m"
        " -XX:+UseSerialGC -XX:ActiveProcessorCount=1 -Xss512k"
    ),
    commits=(
        COMMENT,
        PAYMENTS_IMAGE,
        guilty("dave", "checkout: release 2.6.0", Edit(DEPLOYMENT, f"{IMAGE}:2.4.0", f"{IMAGE}:2.6.0")),
        LEVEL_LATER,
    ),
)

NATIVE_THREADS = Incident(
    name="native_threads",
    symptom="checkout cannot start threads",
    truth=Truth(
        "config_change",
        APPLICATION,
        "server.tomcat.threads.max",
        "40",
        "2000",
        "unable to create native thread",
    ),
    rates={**visitors(sessions=20.0), "polls": steady(5.0)},
    settings=Settings(
        java_options="-Xms64m -Xmx64m -XX:+UseSerialGC -XX:ReservedCodeCacheSize=32m"
        " -XX:CompressedClassSpaceSize=32m -XX:ActiveProcessorCount=1 -Xss8m"
    ),
    # A container's limit, as the kernel counts it for one process: heap, code and some 230 stacks of 8 MB.
    address_space_bytes=2_400 * 1024 * 1024,
    commits=(
        PAYMENTS_LEVEL,
        PAYMENTS_IMAGE,
        guilty("bob", "checkout: no more 503 for terminals", Edit(APPLICATION, "max: 40", "max: 2000")),
        PAYMENTS_LATER,
    ),
)

DIRECT_MEMORY = Incident(
    name="direct_memory",
    symptom="receipts fail with status 500",
    jmx_exporter="0.20.0",
    truth=Truth(
        "config_change",
        DEPLOYMENT,
        "-XX:MaxDirectMemorySize",
        "64m",
        "16m",
        "Cannot reserve 262144 bytes of direct buffer",
    ),
    rates={**visitors(sessions=20.0), "receipts": ((0.0, 12.0), (CHANGE_AT, 12.0), (CHANGE_AT + 60, 18.0))},
    settings=Settings(
        java_options="-Xms48m -Xmx96m -XX:MaxDirectMemorySize=64m -XX:+UseG1GC -XX:ActiveProcessorCount=1 -Xss512k"
    ),
    commits=(
        COMMENT,
        POOL_TWEAK,
        guilty(
            "carol",
            "checkout: bound off-heap memory",
            Edit(DEPLOYMENT, "-XX:MaxDirectMemorySize=64m", "-XX:MaxDirectMemorySize=16m"),
        ),
        LEVEL_LATER,
    ),
)

INCIDENTS: dict[str, Incident] = {
    incident.name: incident
    for incident in (
        SESSION_TIMEOUT,
        HEAP_LOWERED,
        CACHE_LIMIT,
        LEAKING_RELEASE,
        TRAFFIC_GROWTH,
        HEALTHY,
        METASPACE,
        NATIVE_THREADS,
        DIRECT_MEMORY,
    )
}
