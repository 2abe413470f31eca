"""Cases that nothing is tuned on: other services, words, formats and sizes than in `development`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.lab.simulation import vocabulary_held_out as _further  # noqa: F401 - registers its families
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
    edit,
    json_text,
    properties,
    spring,
    toml,
)

HARBOUR = "images.example.net/bank"
ROUGH = Noise(measurement=0.05, daily=0.3, wander=0.09, lost=0.008, spikes=0.6)
STORE = ServiceSpec(Params(kind="backend", replicas=1, base=0.006, cpu=0.0003, cpu_limit=48, sigma=0.5))


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
    """Return a case of the held-out split."""
    more.setdefault("folder", "deploy")
    return Scenario(
        name,
        playbook,
        klass,
        True,
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


# --- ledger: Quarkus, Agroal; asks fx for rates -------------------------------------------------------------------------------

LEDGER = "deploy/ledger/application.properties"
LEDGER_PARAMS = Params(
    replicas=3,
    base=0.006,
    cpu=0.003,
    cpu_limit=1.5,
    workers=64,
    accept=150,
    pool=24,
    pool_timeout=5.0,
    queries=4,
    database="ledger-db",
    calls={"fx": Call(0.5, 1.5)},
    memory=210,
    startup=3,
)
FX = ServiceSpec(
    Params(replicas=2, base=0.07, sigma=0.55, cpu=0.002),
    ("istio",),
    {"source": "ledger"},
    labels={"destination_service_name": "fx"},
    selector='destination_service_name="fx"',
)


def ledger(
    params: Params = LEDGER_PARAMS,
    *more: str,
    exports: tuple[str, ...] = ("micrometer_http", "agroal", "quarkus_workers"),
    **changes: Any,
) -> ServiceSpec:
    """Return the ledger."""
    values = {
        "quarkus.http.port": 8080,
        "quarkus.datasource.jdbc.url": "jdbc:postgresql://ledger-db.example.net/ledger",
        "quarkus.datasource.jdbc.max-size": 24,
        "quarkus.datasource.jdbc.min-size": 4,
        "quarkus.datasource.jdbc.acquisition-timeout": "5S",
        "quarkus.thread-pool.max-threads": 64,
        "quarkus.thread-pool.queue-size": 150,
        "quarkus.rest-client.fx.url": "http://fx.bank.svc:8080",
        "quarkus.rest-client.fx.read-timeout": 1500,
        "quarkus.log.level": "INFO",
        "ledger.posting.batch": 25,
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"route": "/postings", "host.fx": "fx.bank.svc:8080", "method": "PUT"},
        {LEDGER: properties(values, "ledger; ask treasury first")},
        log="logback",
        labels={"kubernetes_namespace": "bank", "kubernetes_name": "ledger"},
        job="kubernetes-service-endpoints",
        selector='kubernetes_namespace="bank",kubernetes_name="ledger"',
        depends_on=("fx",),
    )
    return replace(spec, **changes)


LEDGER_POOL = case(
    "ledger_connections",
    "pool_exhaustion",
    "pool_exhaustion",
    301,
    "2026-06-04T13:00:00Z",
    100,
    60,
    "ledger",
    "postings wait for a connection to the database",
    92,
    {"ledger": ledger(), "fx": FX, "ledger-db": STORE},
    {"ledger": Load(210)},
    found(
        "config_change",
        "guilty",
        LEDGER,
        "quarkus.datasource.jdbc.max-size",
        "ledger",
        "24",
        "2",
        tags=("missing_source",),
    ),
    (
        Commit(22, "frank", "ledger: larger batches", (edit(LEDGER, "batch=25", "batch=30"),), restarts=("ledger",)),
        Commit(
            57,
            "alice",
            "ledger: connections per pod after the audit",
            (edit(LEDGER, "max-size=24", "max-size=2"), edit(LEDGER, "min-size=4", "min-size=2")),
            (("ledger", {"pool": 2}),),
            after=110,
            tag="guilty",
        ),
    ),
    missing=Missing(logs=True),
)

LEDGER_TIMEOUT = case(
    "ledger_waits_for_rates",
    "request_latency",
    "timeout_change",
    302,
    "2026-06-09T07:30:00Z",
    75,
    30,
    "ledger",
    "slow postings, some take half a minute",
    63,
    {
        "ledger": ledger(replace(LEDGER_PARAMS, workers=0)),
        "fx": replace(FX, params=replace(FX.params, hang_share=0.02, hang_seconds=40)),
        "ledger-db": STORE,
    },
    {"ledger": Load(36)},
    found("config_change", "guilty", LEDGER, "fx.read-timeout", "ledger", "1500", "45000"),
    (
        Commit(
            39,
            "dave",
            "ledger: rates may take long at quarter's end",
            (edit(LEDGER, "read-timeout=1500", "read-timeout=45000"),),
            (("ledger", {"calls.fx.timeout": 45.0}),),
            after=50,
            tag="guilty",
        ),
        Commit(44, "carol", "ledger: threads to spare", (edit(LEDGER, "queue-size=150", "queue-size=200"),)),
    ),
    noise=ROUGH,
)

LEDGER_THREADS = case(
    "ledger_threads",
    "thread_exhaustion",
    "two_commits_one_file",
    303,
    "2026-06-12T15:00:00Z",
    90,
    30,
    "ledger",
    "ledger hangs: all worker threads are busy",
    80,
    {"ledger": ledger(), "fx": FX, "ledger-db": STORE},
    {"ledger": Load(230)},
    found(
        "config_change", "guilty", LEDGER, "quarkus.thread-pool.max-threads", "ledger", "64", "4", tags=("red_herring",)
    ),
    (
        Commit(47, "erin", "ledger: smaller batches", (edit(LEDGER, "batch=25", "batch=20"),)),
        Commit(
            48,
            "bob",
            "ledger: as many threads as cores",
            (edit(LEDGER, "max-threads=64", "max-threads=4"),),
            (("ledger", {"workers": 4}),),
            tag="guilty",
        ),
        Commit(
            62,
            "bob",
            "ledger: a longer queue",
            (edit(LEDGER, "queue-size=150", "queue-size=300"),),
            (("ledger", {"accept": 300}),),
        ),
    ),
)

TWO_OF_THREADS = case(
    "threads_then_patience",
    "thread_exhaustion",
    "two_changes",
    304,
    "2026-06-16T09:00:00Z",
    150,
    60,
    "ledger",
    "ledger does not accept requests",
    140,
    {
        "ledger": ledger(),
        "fx": replace(FX, params=replace(FX.params, hang_share=0.025, hang_seconds=30)),
        "ledger-db": STORE,
    },
    {"ledger": Load(120)},
    found(
        "config_change",
        "guilty",
        LEDGER,
        "fx.read-timeout",
        "ledger",
        "1500",
        "25000",
        also=(Guilty("also", LEDGER, "quarkus.thread-pool.max-threads", "ledger"),),
        tags=("two_changes",),
        why="Few threads do while hanging calls end soon; many threads bear hanging calls.",
    ),
    (
        Commit(
            45,
            "alice",
            "ledger: fewer threads",
            (edit(LEDGER, "max-threads=64", "max-threads=14"),),
            (("ledger", {"workers": 14}),),
            tag="also",
        ),
        Commit(
            97,
            "frank",
            "ledger: patience with fx",
            (edit(LEDGER, "read-timeout=1500", "read-timeout=25000"),),
            (("ledger", {"calls.fx.timeout": 25.0}),),
            tag="guilty",
        ),
    ),
)

# --- portal: .NET, settings in a ConfigMap ------------------------------------------------------------------------------------

PORTAL = "deploy/portal/configmap.yaml"
PORTAL_RUN = "deploy/portal/deployment.yaml"


def _portal_map() -> str:
    settings = {
        "Logging": {"LogLevel": {"Default": "Information"}},
        "ConnectionStrings": {"Main": "Host=portal-db.example.net;Database=portal;Maximum Pool Size=40"},
        "Identity": {
            "Authority": "https://login.bank.svc:8443",
            "CaFile": "/etc/pki/bank-ca-3.pem",
            "TimeoutSeconds": 4,
        },
        "Cache": {"AccountEntries": 30000, "AccountMinutes": 20},
    }
    body = "".join(f"    {line}\n" for line in json_text(settings).splitlines())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: portal-settings\n  namespace: bank\ndata:\n  appsettings.json: |\n{body}"


PORTAL_PARAMS = Params(
    replicas=2,
    base=0.009,
    cpu=0.004,
    cpu_limit=1.0,
    pool=40,
    queries=2,
    database="portal-db",
    calls={"identity": Call(0.6, 4.0)},
    memory=190,
    startup=5,
)
IDENTITY = ServiceSpec(Params(kind="backend", replicas=1, base=0.06, cpu=0.0002, cpu_limit=32))


def portal(
    params: Params = PORTAL_PARAMS,
    *more: str,
    exports: tuple[str, ...] = ("otel_http", "otel_client", "dotnet", "npgsql"),
    **changes: Any,
) -> ServiceSpec:
    """Return the customers' portal."""
    files = {
        PORTAL: _portal_map(),
        PORTAL_RUN: deployment("portal", f"{HARBOUR}/portal:5.9.0", replicas=params.replicas, namespace="bank"),
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"route": "/accounts/{id}", "host.identity": "login.bank.svc"},
        files,
        log="json",
        labels={"service_name": "portal", "deployment_environment": "prod"},
        job="bank/portal",
        selector='service_name="portal",deployment_environment="prod"',
    )
    return replace(spec, **changes)


PORTAL_TLS = case(
    "portal_authority_certificate",
    "request_errors",
    "tls_path",
    305,
    "2026-06-19T05:00:00Z",
    60,
    15,
    "portal",
    "customers cannot log in, errors",
    41,
    {"portal": portal(exports=("otel_http", "otel_client", "dotnet")), "identity": IDENTITY, "portal-db": STORE},
    {"portal": Load(24)},
    found(
        "config_change",
        "guilty",
        PORTAL,
        "Identity.CaFile",
        "portal",
        "/etc/pki/bank-ca-3.pem",
        "/etc/pki/bank-ca-4.pem",
    ),
    (
        Commit(
            11,
            "bob",
            "portal: accounts a little longer",
            (edit(PORTAL, '"AccountMinutes": 20', '"AccountMinutes": 25'),),
            restarts=("portal",),
        ),
        Commit(
            29,
            "carol",
            "portal: the new authority",
            (edit(PORTAL, "bank-ca-3.pem", "bank-ca-4.pem"),),
            (("portal", {"calls.identity.fault": "certificate"}),),
            after=40,
            tag="guilty",
        ),
    ),
)

PORTAL_HOST = case(
    "portal_authority_host",
    "request_errors",
    "wrong_endpoint",
    306,
    "2026-06-24T11:00:00Z",
    80,
    30,
    "portal",
    "5xx of the portal",
    66,
    {
        "portal": portal(exports=("otel_http", "otel_client", "dotnet"), machines=True),
        "identity": IDENTITY,
        "portal-db": STORE,
    },
    {"portal": Load(40)},
    found(
        "config_change",
        "guilty",
        PORTAL,
        "Identity.Authority",
        "portal",
        "https://login.bank.svc:8443",
        "https://logon.bank.svc:8443",
        tags=("red_herring",),
    ),
    (
        Commit(
            46,
            "erin",
            "portal: identity moves",
            (edit(PORTAL, "https://login.bank.svc", "https://logon.bank.svc"),),
            (("portal", {"calls.identity.fault": "unresolved", "calls.identity.host": "logon.bank.svc"}),),
            tag="guilty",
        ),
        Commit(
            55,
            "dave",
            "portal: more patience with identity",
            (edit(PORTAL, '"TimeoutSeconds": 4', '"TimeoutSeconds": 8'),),
            (("portal", {"calls.identity.timeout": 8.0}),),
        ),
    ),
)

PORTAL_LEAK = case(
    "portal_release_leaks",
    "container_memory",
    "slow_leak",
    307,
    "2026-07-01T04:00:00Z",
    540,
    120,
    "portal",
    "portal containers are OOMKilled",
    530,
    {
        "portal": portal(
            replace(PORTAL_PARAMS, memory_limit=400, calls={}), exports=("otel_http", "dotnet", "cadvisor", "kube")
        ),
        "portal-db": STORE,
    },
    {"portal": Load(14)},
    found(
        "deploy",
        "guilty",
        PORTAL_RUN,
        "image",
        "portal",
        f"{HARBOUR}/portal:5.9.0",
        f"{HARBOUR}/portal:6.0.0",
        tags=("red_herring",),
    ),
    (
        Commit(
            95,
            "alice",
            "portal 6.0.0",
            (edit(PORTAL_RUN, "portal:5.9.0", "portal:6.0.0"),),
            (("portal", {"leak_kib": 1.25}),),
            tag="guilty",
        ),
        Commit(
            508,
            "bob",
            "portal: accounts a little longer",
            (edit(PORTAL, '"AccountMinutes": 20', '"AccountMinutes": 22'),),
        ),
        Commit(
            517, "carol", "portal: warnings only", (edit(PORTAL, '"Default": "Information"', '"Default": "Warning"'),)
        ),
    ),
)

PORTAL_HEALTHY = case(
    "portal_is_well",
    "request_errors",
    "healthy",
    308,
    "2026-07-06T12:00:00Z",
    90,
    60,
    "portal",
    "a customer reports errors",
    80,
    {
        "portal": portal(exports=("otel_http", "otel_client", "dotnet", "npgsql"), machines=True),
        "identity": IDENTITY,
        "portal-db": STORE,
    },
    {"portal": Load(33)},
    nobody("none", "portal", outcome="healthy"),
    (
        Commit(40, "frank", "portal 5.9.1", (edit(PORTAL_RUN, "portal:5.9.0", "portal:5.9.1"),), restarts=("portal",)),
        Commit(
            61,
            "bob",
            "portal: accounts a little longer",
            (edit(PORTAL, '"AccountMinutes": 20', '"AccountMinutes": 25'),),
            restarts=("portal",),
        ),
    ),
)

HISTORY_CUT = case(
    "portal_imported_afterwards",
    "request_latency",
    "missing_changes",
    309,
    "2026-07-10T08:00:00Z",
    80,
    30,
    "portal",
    "portal is slow since this morning",
    72,
    {
        "portal": portal(replace(PORTAL_PARAMS, replicas=2), exports=("otel_http", "dotnet")),
        "identity": IDENTITY,
        "portal-db": STORE,
    },
    {"portal": Load(70)},
    nobody(
        "unknown",
        "portal",
        ("missing_source",),
        "inconclusive",
        why="The repository was imported after the onset: what was changed before cannot be seen.",
    ),
    (
        Commit(
            63,
            "erin",
            "portal: accounts a little longer",
            (edit(PORTAL, '"AccountMinutes": 20', '"AccountMinutes": 25'),),
        ),
    ),
    events=(Event(34, "portal", {"base": 0.24}),),
    missing=Missing(history_from=55, logs=True),
)

# --- tickets: Ruby; mailroom: Sidekiq -----------------------------------------------------------------------------------------

TICKETS = "deploy/tickets/env.yaml"
MAILROOM = "deploy/mailroom/sidekiq.yml"


def tickets(params: Params, *more: str, exports: tuple[str, ...] = ("rails", "traefik"), **changes: Any) -> ServiceSpec:
    """Return the ticket desk."""
    values = {
        "env": {
            "WEB_CONCURRENCY": "2",
            "RAILS_MAX_THREADS": "16",
            "RAILS_LOG_LEVEL": "info",
            "STATEMENT_TIMEOUT": "15s",
        },
        "image": {"tag": "r411"},
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"controller": "tickets", "behind": "tickets"},
        {TICKETS: spring(values)},
        log="json",
        labels={"app_kubernetes_io_name": "tickets"},
        selector='app_kubernetes_io_name="tickets"',
        machines=True,
    )
    return replace(spec, **changes)


TICKETS_PARAMS = Params(
    replicas=3, base=0.03, cpu=0.02, cpu_limit=2.0, workers=16, accept=80, queries=5, database="desk-db", memory=260
)

TICKETS_GROWTH = case(
    "tickets_on_sale",
    "request_latency",
    "traffic_growth",
    310,
    "2026-07-14T09:30:00Z",
    60,
    15,
    "tickets",
    "ticket pages are slow",
    49,
    {"tickets": tickets(TICKETS_PARAMS), "desk-db": STORE},
    {"tickets": Load(95, growth=((30, 2.9, 3),))},
    nobody("load", "tickets", ("red_herring",)),
    (
        Commit(
            27,
            "carol",
            "tickets: longer statements",
            (edit(TICKETS, "STATEMENT_TIMEOUT: 15s", "STATEMENT_TIMEOUT: 18s"),),
            restarts=("tickets",),
        ),
    ),
    noise=ROUGH,
)

TICKETS_DEBUG = case(
    "tickets_limit_and_debug",
    "cpu_saturation",
    "two_changes",
    311,
    "2026-07-20T10:00:00Z",
    120,
    60,
    "tickets",
    "tickets: cpu throttled, slow",
    112,
    {
        "tickets": tickets(
            replace(TICKETS_PARAMS, workers=64, cpu_limit=2.0, log_lines=2, log_line_cpu=0.0002),
            exports=("rails", "cadvisor"),
            files={
                TICKETS: spring(
                    {
                        "env": {"WEB_CONCURRENCY": "2", "RAILS_MAX_THREADS": "64", "RAILS_LOG_LEVEL": "info"},
                        "resources": {"limits": {"cpu": "2", "memory": "768Mi"}},
                        "image": {"tag": "r411"},
                    }
                )
            },
        ),
        "desk-db": STORE,
    },
    {"tickets": Load(78)},
    found(
        "config_change",
        "guilty",
        TICKETS,
        "RAILS_LOG_LEVEL",
        "tickets",
        "info",
        "debug",
        also=(Guilty("also", TICKETS, "resources.limits.cpu", "tickets"),),
        tags=("two_changes",),
        why="Debug lines fit two processors, the usual work fits one; both together do not.",
    ),
    (
        Commit(
            38,
            "frank",
            "tickets: half the processors are idle",
            (edit(TICKETS, "cpu: '2'", "cpu: '1'"),),
            (("tickets", {"cpu_limit": 1.0}),),
            tag="also",
        ),
        Commit(
            74,
            "erin",
            "tickets: find the double booking",
            (edit(TICKETS, "RAILS_LOG_LEVEL: info", "RAILS_LOG_LEVEL: debug"),),
            (("tickets", {"log_lines": 130.0}),),
            tag="guilty",
        ),
    ),
)

MAILROOM_PARAMS = Params(
    kind="consumer", replicas=2, base=0.4, cpu=0.02, workers=25, calls={"sms": Call(1.0, 6.0)}, memory=300
)
SMS = ServiceSpec(Params(kind="backend", replicas=1, base=0.3, cpu=0.0001, cpu_limit=64))


def mailroom(
    params: Params = MAILROOM_PARAMS, *more: str, exports: tuple[str, ...] = ("sidekiq", "client_calls"), **changes: Any
) -> ServiceSpec:
    """Return the workers of the mail room."""
    values = {
        "concurrency": 25,
        "timeout": 25,
        "max_retries": 7,
        "queues": ["outgoing", "low"],
        "sms": {"gateway": "https://sms.example.net", "timeout": 6},
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"queue": "outgoing", "host.sms": "sms.example.net", "client": "gateway"},
        {MAILROOM: spring(values, "sidekiq of the mail room")},
        log="python",
        labels={"tier": "jobs", "component": "mailroom"},
        selector='component="mailroom"',
        machines=True,
    )
    return replace(spec, **changes)


MAILROOM_BACKLOG = case(
    "mailroom_tidied",
    "queue_backlog",
    "multi_key",
    312,
    "2026-07-24T05:00:00Z",
    180,
    60,
    "mailroom",
    "the outgoing queue grows, messages are hours late",
    170,
    {"mailroom": mailroom(), "sms": SMS},
    {"mailroom": Load(38)},
    found("config_change", "guilty", MAILROOM, "concurrency", "mailroom", "25", "6"),
    (
        Commit(
            82,
            "bob",
            "mailroom: settings of the template",
            (
                edit(MAILROOM, "concurrency: 25", "concurrency: 6"),
                edit(MAILROOM, "timeout: 25", "timeout: 30"),
                edit(MAILROOM, "max_retries: 7", "max_retries: 5"),
            ),
            (("mailroom", {"workers": 6}),),
            tag="guilty",
        ),
    ),
)

SMS_OUTAGE = case(
    "sms_gateway_outage",
    "queue_backlog",
    "external_outage",
    313,
    "2026-07-29T16:00:00Z",
    120,
    60,
    "mailroom",
    "jobs fail and pile up",
    110,
    {"mailroom": mailroom(), "sms": SMS},
    {"mailroom": Load(30)},
    nobody("external", "sms.example.net", accepted_kinds=("external", "dependency"), also_called=("mailroom", "sms")),
    (
        Commit(
            -400,
            "alice",
            "mailroom: fewer retries",
            (edit(MAILROOM, "max_retries: 7", "max_retries: 6"),),
            restarts=("mailroom",),
        ),
    ),
    events=(Event(70, "sms", {"base": 5.5, "error_share": 0.35}, 2),),
)

# --- frontdesk -> tariffs: Istio, home-made names -----------------------------------------------------------------------------

FRONTDESK = "deploy/frontdesk/config.toml"
TARIFFS = "deploy/tariffs/tariffs.hcl"
TARIFFS_TEXT = """# read at start
listen = ":9000"

cache {
  enabled     = true
  ttl         = "30m"
  max_entries = 50000
}

postgres {
  host            = "tariffs-db.example.net"
  max_connections = 16
}

log_level = "info"
"""
FRONTDESK_PARAMS = Params(
    replicas=2, base=0.01, cpu=0.004, cpu_limit=1.0, calls={"tariffs": Call(2.0, 3.0)}, memory=120
)
TARIFFS_PARAMS = Params(
    replicas=2,
    base=0.003,
    cpu=0.0015,
    cpu_limit=1.0,
    pool=16,
    queries=0.3,
    miss_queries=12,
    database="tariffs-db",
    cache_limit=50_000,
    cache_wanted=30_000,
    memory=100,
    startup=3,
)


def frontdesk(
    params: Params = FRONTDESK_PARAMS, *more: str, exports: tuple[str, ...] = ("istio",), **changes: Any
) -> ServiceSpec:
    """Return the front desk."""
    values = {
        "listen": ":8080",
        "tariffs": {"url": "http://tariffs:9000", "timeout_ms": 3000, "lines_per_call": 50},
        "limits": {"basket_lines": 100},
        "log": {"level": "warn"},
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"host.tariffs": "tariffs", "client": "frontdesk_upstream"},
        {FRONTDESK: toml(values)},
        log="logfmt",
        labels={"workload": "frontdesk"},
        selector='workload="frontdesk"',
        depends_on=("tariffs",),
    )
    return replace(spec, **changes)


def tariffs(
    params: Params = TARIFFS_PARAMS,
    *more: str,
    exports: tuple[str, ...] = ("house_http", "go_sql", "python_cache"),
    **changes: Any,
) -> ServiceSpec:
    """Return the tariff service."""
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"prefix": "tariff_engine", "cache": "tariff_cache", "database": "tariffs"},
        {TARIFFS: TARIFFS_TEXT},
        log="klog",
        labels={"workload": "tariffs"},
        selector='workload="tariffs"',
    )
    return replace(spec, **changes)


TARIFF_CACHE = case(
    "tariffs_without_cache",
    "request_latency",
    "called_service_change",
    314,
    "2026-08-03T13:00:00Z",
    90,
    30,
    "frontdesk",
    "front desk is slow for everybody",
    78,
    {"frontdesk": frontdesk(), "tariffs": tariffs(), "tariffs-db": STORE},
    {"frontdesk": Load(75)},
    found("config_change", "guilty", TARIFFS, "cache.enabled", "tariffs", "true", "false"),
    (
        Commit(
            30,
            "alice",
            "frontdesk: larger baskets",
            (edit(FRONTDESK, "basket_lines = 100", "basket_lines = 120"),),
            restarts=("frontdesk",),
        ),
        Commit(
            51,
            "dave",
            "tariffs: never again yesterday's price",
            (edit(TARIFFS, "enabled     = true", "enabled     = false"),),
            (("tariffs", {"cache_enabled": False}),),
            tag="guilty",
        ),
    ),
)

TARIFF_LINES = case(
    "lines_asked_one_by_one",
    "cpu_saturation",
    "caller_change",
    315,
    "2026-08-07T10:00:00Z",
    80,
    30,
    "tariffs",
    "tariffs: cpu and latency went up",
    70,
    {
        "frontdesk": frontdesk(replace(FRONTDESK_PARAMS, replicas=3, cpu_limit=2.0)),
        "tariffs": tariffs(
            replace(TARIFFS_PARAMS, cache_limit=0, cache_wanted=1, miss_queries=0, pool=0, queries=0, cpu=0.003),
            exports=("house_http", "cadvisor", "go_runtime"),
        ),
    },
    {"frontdesk": Load(80)},
    found("config_change", "guilty", FRONTDESK, "tariffs.lines_per_call", "frontdesk", "50", "10"),
    (
        Commit(
            43,
            "bob",
            "frontdesk: smaller questions to tariffs",
            (edit(FRONTDESK, "lines_per_call = 50", "lines_per_call = 10"),),
            (("frontdesk", {"calls.tariffs.per_request": 10.0}),),
            tag="guilty",
        ),
        Commit(
            39,
            "carol",
            "tariffs: larger cache",
            (edit(TARIFFS, "max_entries = 50000", "max_entries = 60000"),),
            restarts=("tariffs",),
        ),
    ),
)

TARIFF_DATABASE = case(
    "tariffs_database_slow",
    "request_latency",
    "slow_dependency",
    316,
    "2026-08-12T18:00:00Z",
    80,
    30,
    "frontdesk",
    "response time of the front desk",
    70,
    {
        "frontdesk": frontdesk(),
        "tariffs": tariffs(replace(TARIFFS_PARAMS, queries=4), exports=("house_http",)),
        "tariffs-db": STORE,
    },
    {"frontdesk": Load(50)},
    nobody(
        "dependency", "tariffs", why="Tariffs became slow because of its database; nobody changed anything near it."
    ),
    (
        Commit(
            -2000,
            "alice",
            "frontdesk: larger baskets",
            (edit(FRONTDESK, "basket_lines = 100", "basket_lines = 120"),),
            restarts=("frontdesk",),
        ),
    ),
    events=(Event(45, "tariffs-db", {"base": 0.11}, 5),),
)

TARIFF_HOUR = case(
    "busy_hour_of_commits",
    "request_errors",
    "several_services",
    317,
    "2026-08-18T08:00:00Z",
    90,
    60,
    "frontdesk",
    "errors at the front desk",
    80,
    {
        "frontdesk": frontdesk(
            replace(FRONTDESK_PARAMS, calls={"tariffs": Call(2.0, 3.0), "identity": Call(0.2, 2.0)}),
            depends_on=("tariffs", "identity"),
        ),
        "tariffs": tariffs(replace(TARIFFS_PARAMS, queries=5)),
        "identity": replace(IDENTITY, params=replace(IDENTITY.params, kind="server")),
        "tariffs-db": STORE,
    },
    {"frontdesk": Load(60)},
    found("config_change", "guilty", TARIFFS, "postgres.max_connections", "tariffs", "16", "2", tags=("red_herring",)),
    (
        Commit(
            40,
            "bob",
            "frontdesk: larger baskets",
            (edit(FRONTDESK, "basket_lines = 100", "basket_lines = 110"),),
            restarts=("frontdesk",),
        ),
        Commit(
            46,
            "frank",
            "tariffs: share of the new database",
            (edit(TARIFFS, "max_connections = 16", "max_connections = 2"),),
            (("tariffs", {"pool": 2}),),
            tag="guilty",
        ),
        Commit(
            49,
            "erin",
            "frontdesk: say more in the log",
            (edit(FRONTDESK, 'level = "warn"', 'level = "info"'),),
            restarts=("frontdesk",),
        ),
    ),
)

# --- recommender (Python), ingest (Go, NATS, Nomad), edge (HAProxy), media (PHP) ----------------------------------------------

RECOMMENDER = "deploy/recommender/settings.toml"
RECOMMENDER_RUN = "deploy/recommender/values.yaml"


def recommender(
    params: Params,
    *more: str,
    exports: tuple[str, ...] = ("python_http", "gunicorn", "python_cache", "python_process"),
    **changes: Any,
) -> ServiceSpec:
    """Return the recommender."""
    values = {
        "title": "recommender",
        "cache": {"vectors": 80000, "ttl_seconds": 5400},
        "server": {"workers": 12, "backlog": 256},
        "features": {"url": "http://features:7000", "timeout": 1.2},
    }
    run = {
        "image": {"name": f"{HARBOUR}/recommender", "tag": "2026-07-a"},
        "autoscaling": {"minReplicas": params.replicas, "maxReplicas": max(params.hpa_max, params.replicas)},
        "resources": {"limits": {"cpu": "1", "memory": "640Mi"}},
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"route": "/similar", "cache": "vector_cache", "host.features": "features:7000"},
        {RECOMMENDER: toml(values), RECOMMENDER_RUN: spring(run)},
        log="python",
        labels={"app": "recommender", "cluster": "eu-2"},
        selector='app="recommender",cluster="eu-2"',
    )
    return replace(spec, **changes)


RECOMMENDER_PARAMS = Params(
    replicas=2,
    base=0.02,
    cpu=0.012,
    cpu_limit=1.0,
    workers=12,
    accept=256,
    cache_limit=80_000,
    cache_wanted=60_000,
    calls={"features": Call(3.0, 1.2, on_miss=True)},
    memory=240,
    memory_limit=640,
    entry_kib=1.5,
    startup=9,
)
FEATURES = ServiceSpec(Params(kind="backend", replicas=1, base=0.07, cpu=0.0003, cpu_limit=64))

VECTORS = case(
    "fewer_vectors",
    "request_latency",
    "cache_change",
    318,
    "2026-08-24T11:00:00Z",
    100,
    60,
    "recommender",
    "similar products load slowly",
    92,
    {"recommender": recommender(RECOMMENDER_PARAMS), "features": FEATURES},
    {"recommender": Load(45)},
    found("config_change", "guilty", RECOMMENDER, "cache.vectors", "recommender", "80000", "900"),
    (
        Commit(
            54,
            "carol",
            "recommender: memory for the model instead",
            (edit(RECOMMENDER, "vectors = 80000", "vectors = 900"),),
            (("recommender", {"cache_limit": 900.0}),),
            tag="guilty",
        ),
        Commit(
            31,
            "bob",
            "recommender: longer backlog",
            (edit(RECOMMENDER, "backlog = 256", "backlog = 300"),),
            restarts=("recommender",),
        ),
    ),
    noise=ROUGH,
)

SLOW_MODEL = case(
    "slower_model",
    "request_latency",
    "bad_release",
    319,
    "2026-08-28T14:00:00Z",
    70,
    30,
    "recommender",
    "p99 of the recommender",
    60,
    {
        "recommender": recommender(
            replace(RECOMMENDER_PARAMS, workers=40, cache_shared=True), exports=("python_http", "python_process")
        ),
        "features": FEATURES,
    },
    {"recommender": Load(38)},
    found(
        "deploy",
        "guilty",
        RECOMMENDER_RUN,
        "image.tag",
        "recommender",
        "2026-07-a",
        "2026-08-a",
        tags=("missing_source",),
    ),
    (
        Commit(
            -300,
            "alice",
            "recommender: longer backlog",
            (edit(RECOMMENDER, "backlog = 256", "backlog = 280"),),
            restarts=("recommender",),
        ),
        Commit(
            36,
            "dave",
            "recommender: model of August",
            (edit(RECOMMENDER_RUN, "tag: 2026-07-a", "tag: 2026-08-a"),),
            (("recommender", {"cpu": 0.034, "base": 0.09}),),
            tag="guilty",
        ),
    ),
    missing=Missing(metrics=("process_start_time",), logs=True),
)

SCALER = case(
    "fewer_replicas_at_most",
    "cpu_saturation",
    "replicas",
    320,
    "2026-09-02T06:00:00Z",
    240,
    120,
    "recommender",
    "recommender is slow, cpu saturated",
    230,
    {
        "recommender": recommender(
            replace(RECOMMENDER_PARAMS, workers=60, cache_shared=True, hpa_max=9, hpa_target=0.6, cpu=0.016),
            exports=("istio", "cadvisor", "kube"),
        )
    }
    | {"features": FEATURES},
    {"recommender": Load(140, growth=((90, 1.5, 90),))},
    found("config_change", "guilty", RECOMMENDER_RUN, "autoscaling.maxReplicas", "recommender", "9", "3"),
    (
        Commit(
            150,
            "frank",
            "recommender: cheaper nights",
            (edit(RECOMMENDER_RUN, "maxReplicas: 9", "maxReplicas: 3"),),
            (("recommender", {"hpa_max": 3}),),
            rollout=False,
            after=30,
            tag="guilty",
        ),
    ),
)

PROBE = case(
    "impatient_probe",
    "crash_loop",
    "crash_loop",
    321,
    "2026-09-08T12:00:00Z",
    75,
    15,
    "recommender",
    "recommender pods are restarted by the kubelet",
    61,
    {
        "recommender": recommender(
            replace(
                RECOMMENDER_PARAMS,
                cache_shared=True,
                startup=30.0,
                probe_delay=45.0,
                probe_timeout=5.0,
                probe_base=0.12,
            ),
            exports=("kube", "cadvisor", "python_http"),
            files={
                RECOMMENDER_RUN: deployment(
                    "recommender",
                    f"{HARBOUR}/recommender:2026-07-a",
                    memory="640Mi",
                    namespace="bank",
                    probe="livenessProbe:\n  httpGet: {path: /alive, port: 8080}\n  initialDelaySeconds: 45\n  periodSeconds: 10\n  timeoutSeconds: 5\n  failureThreshold: 3",
                )
            },
        ),
        "features": FEATURES,
    },
    {"recommender": Load(26)},
    found("config_change", "guilty", RECOMMENDER_RUN, "initialDelaySeconds", "recommender", "45", "4"),
    (
        Commit(
            40,
            "erin",
            "recommender: probes of the new standard",
            (
                edit(RECOMMENDER_RUN, "initialDelaySeconds: 45", "initialDelaySeconds: 4"),
                edit(RECOMMENDER_RUN, "cpu: 100m", "cpu: 200m"),
            ),
            (("recommender", {"probe_delay": 4.0, "probe_timeout": 2.0, "probe_failures": 2}),),
            all_at_once=True,
            tag="guilty",
        ),
    ),
)

INGEST = "deploy/ingest/ingest.nomad"
INGEST_TEXT = """job "ingest" {
  datacenters = ["eu-2"]

  group "workers" {
    count = 2

    task "ingest" {
      driver = "docker"

      config {
        image = "images.example.net/bank/ingest:118"
      }

      env {
        CONSUMERS       = "12"
        ACK_WAIT        = "30s"
        RETENTION_HOURS = "4"
        LOG_LEVEL       = "info"
      }

      resources {
        cpu    = 2000
        memory = 512
      }
    }
  }
}
"""
INGEST_PARAMS = Params(
    kind="consumer",
    replicas=2,
    base=0.06,
    cpu=0.006,
    cpu_limit=2.0,
    workers=12,
    queries=2,
    database="events-db",
    memory=150,
)


def ingest(
    params: Params = INGEST_PARAMS,
    *more: str,
    exports: tuple[str, ...] = ("nats", "consumer_house", "go_runtime"),
    **changes: Any,
) -> ServiceSpec:
    """Return the ingestion of events."""
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"prefix": "ingest_events", "queue": "EVENTS", "claim": "ingest-wal"},
        {INGEST: INGEST_TEXT},
        log="logfmt",
        labels={"nomad_job": "ingest"},
        job="nomad-allocations",
        selector='nomad_job="ingest"',
        machines=True,
    )
    return replace(spec, **changes)


CONSUMERS = case(
    "fewer_consumers",
    "queue_backlog",
    "consumer_concurrency",
    322,
    "2026-09-14T15:00:00Z",
    120,
    60,
    "ingest",
    "events are processed too late, pending messages grow",
    110,
    {"ingest": ingest(), "events-db": STORE},
    {"ingest": Load(120)},
    found("config_change", "guilty", INGEST, "CONSUMERS", "ingest", "12", "3", tags=("missing_source",)),
    (
        Commit(
            58,
            "alice",
            "ingest: gentle with the database",
            (edit(INGEST, 'CONSUMERS       = "12"', 'CONSUMERS       = "3"'),),
            (("ingest", {"workers": 3}),),
            tag="guilty",
        ),
        Commit(
            66,
            "bob",
            "ingest: a longer wait for acks",
            (edit(INGEST, 'ACK_WAIT        = "30s"', 'ACK_WAIT        = "45s"'),),
        ),
    ),
    missing=Missing(gap=(52, 68)),
)

RETENTION = case(
    "longer_retention",
    "disk_full",
    "disk_full",
    323,
    "2026-09-19T00:00:00Z",
    1200,
    300,
    "ingest",
    "the volume of ingest is full",
    1190,
    {
        "ingest": ingest(
            replace(
                INGEST_PARAMS,
                kind="server",
                workers=0,
                disk_size=50.0,
                disk_used=5.0,
                disk_kept_hours=4.0,
                disk_bytes=22_000,
            ),
            exports=("house_http", "volume", "go_runtime"),
        ),
        "events-db": STORE,
    },
    {"ingest": Load(75)},
    found("config_change", "guilty", INGEST, "RETENTION_HOURS", "ingest", "4", "80"),
    (
        Commit(
            330,
            "dave",
            "ingest: keep three days for the auditors",
            (edit(INGEST, 'RETENTION_HOURS = "4"', 'RETENTION_HOURS = "80"'),),
            (("ingest", {"disk_kept_hours": 80.0}),),
            tag="guilty",
        ),
        Commit(1165, "carol", "ingest 119", (edit(INGEST, "ingest:118", "ingest:119"),), restarts=("ingest",)),
    ),
    warm_up=1800.0,
)

EDGE = "deploy/edge/haproxy.cfg"
EDGE_LIMITS = "deploy/edge/limits.json"
EDGE_TEXT = """global
    maxconn 8000

defaults
    mode http
    timeout connect 2s
    timeout client  30s
    timeout server  2s

frontend public
    bind :443
    default_backend shop

backend shop
    server shop1 shop:8080 check
"""


def edge(params: Params, **changes: Any) -> ServiceSpec:
    """Return the proxy at the edge."""
    spec = ServiceSpec(
        params,
        ("haproxy", "nginx"),
        {"host.shop": "shop:8080", "behind": "shop"},
        {
            EDGE: EDGE_TEXT,
            EDGE_LIMITS: json_text({"perClient": {"requestsPerSecond": 500, "burst": 100}, "denylist": []}),
        },
        log="nginx",
        labels={"role": "edge"},
        selector='role="edge"',
        machines=True,
    )
    return replace(spec, **changes)


EDGE_LIMIT = case(
    "edge_limits_clients",
    "throughput_drop",
    "rate_limit",
    324,
    "2026-09-23T19:00:00Z",
    60,
    15,
    "edge",
    "half of the requests do not get through",
    46,
    {
        "edge": edge(
            Params(replicas=2, base=0.001, cpu=0.0003, cpu_limit=2, rate_limit=500, calls={"shop": Call(1.0, 2.0)})
        ),
        "shop": ServiceSpec(Params(kind="backend", replicas=1, base=0.04, cpu=0.0005, cpu_limit=64)),
    },
    {"edge": Load(240)},
    found("config_change", "guilty", EDGE_LIMITS, "perClient.requestsPerSecond", "edge", "500", "110"),
    (
        Commit(
            21,
            "bob",
            "edge: an address less",
            (edit(EDGE_LIMITS, '"denylist": []', '"denylist": ["192.0.2.7"]'),),
            after=20,
            rollout=False,
        ),
        Commit(
            34,
            "frank",
            "edge: tighter limits",
            (edit(EDGE_LIMITS, '"requestsPerSecond": 500', '"requestsPerSecond": 110'),),
            (("edge", {"rate_limit": 110.0}),),
            after=15,
            rollout=False,
            tag="guilty",
        ),
    ),
)

MEDIA = "deploy/media/www.conf.yaml"
MEDIA_PARAMS = Params(replicas=2, base=0.09, cpu=0.01, cpu_limit=2.0, workers=40, accept=120, memory=170)


def media(
    params: Params = MEDIA_PARAMS, *more: str, exports: tuple[str, ...] = ("phpfpm", "nginx"), **changes: Any
) -> ServiceSpec:
    """Return the media service."""
    values = {
        "php": {"version": "8.3", "image_library": "imagick"},
        "fpm": {"pm": "static", "max_children": 40, "max_requests": 800, "listen_backlog": 120},
    }
    spec = ServiceSpec(
        params,
        (*exports, *more),
        {"route": "/img"},
        {MEDIA: spring(values)},
        log="nginx",
        labels={"site": "media"},
        job="media",
        selector='site="media"',
        machines=True,
    )
    return replace(spec, **changes)


CHILDREN = case(
    "fewer_children",
    "thread_exhaustion",
    "thread_exhaustion",
    325,
    "2026-09-29T10:00:00Z",
    70,
    30,
    "media",
    "pictures do not load, 503",
    60,
    {"media": media()},
    {"media": Load(150)},
    found("config_change", "guilty", MEDIA, "fpm.max_children", "media", "40", "6"),
    (
        Commit(
            37,
            "carol",
            "media: less memory",
            (edit(MEDIA, "max_children: 40", "max_children: 6"),),
            (("media", {"workers": 6}),),
            after=20,
            tag="guilty",
        ),
        Commit(
            -1100,
            "erin",
            "media: recycle later",
            (edit(MEDIA, "max_requests: 800", "max_requests: 1000"),),
            restarts=("media",),
        ),
    ),
)

UNMEASURED = case(
    "media_unmeasured",
    "request_errors",
    "missing_metric",
    326,
    "2026-10-05T09:00:00Z",
    60,
    30,
    "media",
    "some pictures are said to fail",
    50,
    {"media": media(exports=("go_runtime",))},
    {"media": Load(60)},
    nobody(
        "unknown",
        "media",
        ("missing_source",),
        "inconclusive",
        why="Only processes are measured, and there is no log: whether requests fail is not to be seen.",
    ),
    (
        Commit(
            28,
            "bob",
            "media: recycle sooner",
            (edit(MEDIA, "max_requests: 800", "max_requests: 500"),),
            restarts=("media",),
        ),
        Commit(33, "dave", "media: newer php", (edit(MEDIA, "version: '8.3'", "version: '8.4'"),), restarts=("media",)),
    ),
    missing=Missing(logs=True),
)

MEDIA_SUSPECTS = case(
    "media_two_suspects",
    "request_errors",
    "undecidable",
    327,
    "2026-10-12T13:00:00Z",
    70,
    30,
    "media",
    "errors of media went up",
    60,
    {"media": media()},
    {"media": Load(70)},
    nobody(
        "unknown",
        "media",
        outcome="inconclusive",
        why="Two opaque changes came with one restart, and nothing tells them apart.",
    ),
    (
        Commit(
            40, "erin", "media: another image library", (edit(MEDIA, "image_library: imagick", "image_library: vips"),)
        ),
        Commit(
            40.4,
            "frank",
            "media: newer php",
            (edit(MEDIA, "version: '8.3'", "version: '8.4'"),),
            (("media", {"error_share": 0.09}),),
            after=50,
        ),
    ),
    missing=Missing(logs=True),
)

# --- harder ones ---------------------------------------------------------------------------------------------------------------

NIGHT = case(
    "audit_at_night",
    "pool_exhaustion",
    "delayed_effect",
    330,
    "2026-10-15T07:00:00Z",
    1740,
    300,
    "ledger",
    "postings wait for connections since the offices opened",
    1720,
    {
        "ledger": ledger(replace(LEDGER_PARAMS, replicas=2), exports=("micrometer_http", "agroal")),
        "fx": replace(FX, selector="", exports=()),
        "ledger-db": STORE,
    },
    {"ledger": Load(118, peak_hour=12)},
    found("config_change", "guilty", LEDGER, "jdbc.max-size", "ledger", "24", "2", tags=("red_herring",)),
    (
        Commit(
            905,
            "erin",
            "ledger: connections as the audit wants them",
            (edit(LEDGER, "max-size=24", "max-size=2"), edit(LEDGER, "min-size=4", "min-size=2")),
            (("ledger", {"pool": 2}),),
            tag="guilty",
        ),
        Commit(1655, "carol", "ledger: smaller batches", (edit(LEDGER, "batch=25", "batch=24"),), restarts=("ledger",)),
    ),
    noise=Noise(measurement=0.03, daily=0.65, wander=0.03, lost=0.003, spikes=0.05),
)

FEWER_WORKERS = case(
    "fewer_workers_on_a_loud_day",
    "thread_exhaustion",
    "masked_by_traffic",
    331,
    "2026-10-20T12:00:00Z",
    120,
    60,
    "recommender",
    "recommender queues requests",
    110,
    {"recommender": recommender(replace(RECOMMENDER_PARAMS, cache_shared=True, cpu_limit=2.0)), "features": FEATURES},
    {"recommender": Load(62, growth=((30, 1.25, 25),))},
    found("config_change", "guilty", RECOMMENDER, "server.workers", "recommender", "12", "2"),
    (
        Commit(
            67,
            "frank",
            "recommender: workers as processors",
            (edit(RECOMMENDER, "workers = 12", "workers = 2"),),
            (("recommender", {"workers": 2}),),
            tag="guilty",
        ),
    ),
    noise=ROUGH,
)

PORTAL_TWO = case(
    "portal_certificate_beside_release",
    "request_errors",
    "two_anomalies",
    332,
    "2026-10-27T09:00:00Z",
    90,
    60,
    "portal",
    "logins fail",
    80,
    {"portal": portal(exports=("otel_http", "otel_client", "dotnet")), "identity": IDENTITY, "portal-db": STORE},
    {"portal": Load(37)},
    found(
        "config_change",
        "guilty",
        PORTAL,
        "Identity.CaFile",
        "portal",
        "/etc/pki/bank-ca-3.pem",
        "/etc/pki/root.pem",
        tags=("red_herring",),
    ),
    (
        Commit(
            36,
            "alice",
            "portal 5.10.0",
            (edit(PORTAL_RUN, "portal:5.9.0", "portal:5.10.0"),),
            (("portal", {"cpu": 0.006, "memory": 235.0}),),
        ),
        Commit(
            51,
            "bob",
            "portal: one file of roots for all",
            (edit(PORTAL, "bank-ca-3.pem", "root.pem"),),
            (("portal", {"calls.identity.fault": "certificate"}),),
            tag="guilty",
        ),
    ),
)

REMEMBERED = case(
    "remembered_for_too_long",
    "jvm_heap",
    "slow_leak",
    334,
    "2026-11-05T01:00:00Z",
    540,
    120,
    "ledger",
    "ledger pods die with OutOfMemoryError",
    530,
    {
        "ledger": ledger(
            replace(
                LEDGER_PARAMS,
                replicas=2,
                pool=0,
                queries=0,
                calls={},
                heap_limit=256,
                memory=150,
                session_seconds=900,
                session_share=0.5,
                session_kib=0.78,
                in_flight_kib=20,
            ),
            exports=("micrometer_http", "otel_jvm"),
            options={"route": "/postings", "held": "ledger_replay_guard_keys"},
            files={
                LEDGER: properties(
                    {
                        "quarkus.http.port": 8080,
                        "ledger.replay-guard.ttl": "PT15M",
                        "ledger.posting.batch": 25,
                        "quarkus.log.level": "INFO",
                    }
                )
            },
            depends_on=(),
            machines=True,
        )
    },
    {"ledger": Load(44)},
    found(
        "config_change",
        "guilty",
        LEDGER,
        "ledger.replay-guard.ttl",
        "ledger",
        "PT15M",
        "PT36H",
        tags=("red_herring",),
        remedies_refused=("raise_heap",),
    ),
    (
        Commit(
            70,
            "alice",
            "ledger: nobody posts twice over the weekend",
            (edit(LEDGER, "PT15M", "PT36H"),),
            (("ledger", {"session_seconds": 129600.0}),),
            tag="guilty",
        ),
        Commit(511, "dave", "ledger: smaller batches", (edit(LEDGER, "batch=25", "batch=20"),)),
    ),
)

MORE_VECTORS = case(
    "vectors_without_end",
    "container_memory",
    "container_memory",
    336,
    "2026-11-12T02:00:00Z",
    360,
    120,
    "recommender",
    "recommender containers end with 137",
    352,
    {
        "recommender": recommender(
            replace(
                RECOMMENDER_PARAMS,
                cache_limit=80_000,
                cache_wanted=1_500_000,
                cache_best=0.8,
                entry_kib=1.1,
                memory_limit=640,
                workers=40,
            ),
            exports=("python_http", "python_cache", "python_process", "cadvisor", "kube"),
        ),
        "features": FEATURES,
    },
    {"recommender": Load(86)},
    found(
        "config_change",
        "guilty",
        RECOMMENDER,
        "cache.vectors",
        "recommender",
        "80000",
        "1200000",
        tags=("red_herring",),
    ),
    (
        Commit(
            80,
            "carol",
            "recommender: the whole catalogue at hand",
            (edit(RECOMMENDER, "vectors = 80000", "vectors = 1200000"),),
            (("recommender", {"cache_limit": 1_200_000.0}),),
            tag="guilty",
        ),
        Commit(331, "bob", "recommender: longer backlog", (edit(RECOMMENDER, "backlog = 256", "backlog = 270"),)),
    ),
)

NOON = case(
    "every_noon",
    "thread_exhaustion",
    "capacity",
    335,
    "2026-11-09T07:00:00Z",
    1860,
    300,
    "media",
    "pictures are slow at noon, all children are busy",
    1770,
    {
        "media": media(
            replace(MEDIA_PARAMS, workers=7, accept=60),
            files={MEDIA: spring({"fpm": {"pm": "static", "max_children": 7, "max_requests": 800}})},
        )
    },
    {"media": Load(91, peak_hour=12)},
    nobody(
        "capacity",
        "media",
        accepted_kinds=("capacity", "load"),
        why="Both noons are alike; the children are too few for the usual traffic.",
    ),
    (
        Commit(
            1310,
            "erin",
            "media: recycle later",
            (edit(MEDIA, "max_requests: 800", "max_requests: 900"),),
            restarts=("media",),
        ),
    ),
    noise=Noise(measurement=0.03, daily=0.6, wander=0.02, lost=0.003, spikes=0.0),
)

EVER_FAILING = case(
    "tickets_ever_failing",
    "request_errors",
    "undecidable",
    333,
    "2026-11-03T10:00:00Z",
    90,
    60,
    "tickets",
    "ticket pages fail now and then, for weeks",
    80,
    {"tickets": tickets(replace(TICKETS_PARAMS, error_share=0.08, workers=64)), "desk-db": STORE},
    {"tickets": Load(40)},
    nobody(
        "unknown",
        "tickets",
        outcome="inconclusive",
        why="It fails throughout; the commit in between changed nothing.",
    ),
    (
        Commit(
            44,
            "dave",
            "tickets: longer statements",
            (edit(TICKETS, "STATEMENT_TIMEOUT: 15s", "STATEMENT_TIMEOUT: 16s"),),
            restarts=("tickets",),
        ),
    ),
)

SCENARIOS: tuple[Scenario, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Scenario))
