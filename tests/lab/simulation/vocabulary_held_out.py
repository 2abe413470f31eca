"""Further families of metrics, used only by `held_out`: Quarkus, .NET, Ruby, PHP, Traefik, HAProxy, PgBouncer, NATS.

Names follow the documentation of Agroal and Quarkus, .NET's built-in meters and Npgsql, puma-metrics, sidekiq-prometheus-exporter,
php-fpm_exporter, Traefik, HAProxy's own exporter, pgbouncer_exporter and prometheus-nats-exporter.
"""

from __future__ import annotations

import numpy as np

from tests.lab.simulation.exposition import Writer
from tests.lab.simulation.vocabulary import exporter, outcomes, worth


@exporter
def agroal(w: Writer, o: dict[str, str]) -> None:
    """Quarkus' connection pool."""
    t, labels = w.trace, {"datasource": o.get("pool", "<default>")}
    w.gauge("agroal_active_count", t.get("pool_active"), labels, whole=True)
    w.gauge("agroal_awaiting_count", t.get("pool_pending"), labels, whole=True)
    w.gauge(
        "agroal_available_count",
        np.maximum(t.param("pool") * t.get("replicas") - t.get("pool_active"), 0),
        labels,
        whole=True,
    )
    w.gauge("agroal_blocking_time_average_milliseconds", t.get("pool_wait") * 1000, labels, split=False)
    w.counter("agroal_acquire_count_total", t.get("done"), labels)


@exporter
def quarkus_workers(w: Writer, o: dict[str, str]) -> None:
    """Quarkus' worker pool."""
    t, labels = w.trace, {"pool_name": "vert.x-worker-thread", "pool_type": "worker"}
    w.gauge("worker_pool_active", t.get("busy"), labels, whole=True)
    w.gauge("worker_pool_queue_size", t.get("waiting"), labels, whole=True)
    bound = np.maximum(t.param("workers") * t.get("replicas"), 1)
    w.gauge("worker_pool_ratio", np.minimum(t.get("busy") / bound, 1), labels, split=False)
    w.started("process_start_time_seconds")


@exporter
def dotnet(w: Writer, o: dict[str, str]) -> None:
    """.NET's runtime meters."""
    t = w.trace
    w.gauge("dotnet_process_memory_working_set_bytes", t.get("rss") * 2**20, {}, split=False)
    w.counter("dotnet_process_cpu_time_seconds_total", t.get("cpu"), {"cpu_mode": "user"}, whole=False)
    w.gauge("dotnet_thread_pool_queue_length_total", t.get("waiting"), {}, whole=True)
    w.gauge("dotnet_thread_pool_thread_count_total", 8 * t.get("replicas") + t.get("busy") * 0.3, {}, whole=True)
    w.gauge("kestrel_active_connections", t.get("busy") + 5 * t.get("replicas"), {}, whole=True)


@exporter
def npgsql(w: Writer, o: dict[str, str]) -> None:
    """Npgsql's pool."""
    t, labels = w.trace, {"pool_name": o.get("pool", "main")}
    w.gauge("db_client_connections_usage", t.get("pool_active"), {**labels, "state": "used"}, whole=True)
    w.gauge("db_client_connections_max", t.param("pool"), labels, split=False, exact=True)
    w.gauge("db_client_connections_pending_requests", t.get("pool_pending"), labels, whole=True)


@exporter
def rails(w: Writer, o: dict[str, str]) -> None:
    """yabeda-rails and puma's threads."""
    t = w.trace
    for status, rate in outcomes(w).items():
        if worth(status, rate):
            w.counter("rails_requests_total", rate, {"status": status, "controller": o.get("controller", "orders")})
    w.counter(
        "rails_request_duration_seconds_count",
        t.get("done"),
        {},
        sum_of=("rails_request_duration_seconds_sum", t.get("time")),
    )
    w.gauge("puma_busy_threads", t.get("busy"), {}, whole=True)
    w.gauge("puma_max_threads", t.param("workers"), {}, split=False, exact=True)
    w.gauge("puma_backlog", t.get("waiting"), {}, whole=True)
    w.gauge("ruby_rss", t.get("rss") * 2**20, {}, split=False)


@exporter
def sidekiq(w: Writer, o: dict[str, str]) -> None:
    """sidekiq's queue and workers."""
    t, labels = w.trace, {"queue": o.get("queue", "default")}
    w.outside("sidekiq_queue_size", t.get("backlog"), labels, "sidekiq-exporter", whole=True)
    w.outside("sidekiq_queue_latency_seconds", t.get("backlog_age"), labels, "sidekiq-exporter")
    w.counter("sidekiq_jobs_executed_total", t.get("done"), labels)
    w.counter("sidekiq_jobs_failed_total", t.get("bugs") + t.get("call_failures"), labels)
    w.counter(
        "sidekiq_job_runtime_seconds_count",
        t.get("done"),
        labels,
        sum_of=("sidekiq_job_runtime_seconds_sum", t.get("time")),
    )
    w.gauge("sidekiq_busy_workers", t.get("busy"), {}, whole=True)
    w.gauge("sidekiq_concurrency", t.param("workers"), {}, split=False, exact=True)


@exporter
def phpfpm(w: Writer, o: dict[str, str]) -> None:
    """php-fpm's status page."""
    t, labels = w.trace, {"pool": "www"}
    bound = t.param("workers") * t.get("replicas")
    w.gauge("phpfpm_active_processes", t.get("busy"), labels, whole=True)
    w.gauge("phpfpm_idle_processes", np.maximum(bound - t.get("busy"), 0), labels, whole=True)
    w.gauge("phpfpm_total_processes", bound, labels, exact=True)
    w.gauge("phpfpm_listen_queue", t.get("waiting"), labels, whole=True)
    w.counter("phpfpm_accepted_connections", t.get("offered"), labels)
    w.counter("phpfpm_max_children_reached", np.where(t.get("busy") > bound * 0.98, 0.2, 0.0), labels)


@exporter
def traefik(w: Writer, o: dict[str, str]) -> None:
    """Traefik about one service behind it."""
    t, who = w.trace, {"exported_service": o.get("behind", w.service) + "@file", "method": "GET", "protocol": "http"}
    for code, rate in outcomes(w).items():
        if worth(code, rate):
            w.outside_counter("traefik_service_requests_total", rate, {**who, "code": code}, "traefik", begin=30_000)
    name = "traefik_service_request_duration_seconds"
    w.outside_counter(f"{name}_count", t.get("done"), who, "traefik", begin=30_000)
    w.outside_counter(f"{name}_sum", t.get("done") * t.get("time"), who, "traefik", begin=2_000, whole=False)


@exporter
def haproxy(w: Writer, o: dict[str, str]) -> None:
    """HAProxy about its backend."""
    t, who = w.trace, {"proxy": o.get("behind", w.service)}
    found = outcomes(w)
    groups = {"2xx": ("200",), "4xx": ("429",), "5xx": ("500", "502", "503")}
    for code, members in groups.items():
        rate = np.sum([found[m] for m in members], axis=0)
        w.outside_counter("haproxy_backend_http_responses_total", rate, {**who, "code": code}, "haproxy", begin=9_000)
    w.outside("haproxy_backend_response_time_average_seconds", t.get("time"), who, "haproxy")
    w.outside("haproxy_backend_current_queue", t.get("waiting"), who, "haproxy", whole=True)
    w.outside("haproxy_backend_active_servers", t.get("ready"), who, "haproxy", exact=True)


@exporter
def pgbouncer(w: Writer, o: dict[str, str]) -> None:
    """PgBouncer between service and database."""
    t, labels = w.trace, {"database": o.get("database", "app"), "user": "app"}
    w.outside("pgbouncer_pools_server_active_connections", t.get("pool_active"), labels, "pgbouncer", whole=True)
    w.outside("pgbouncer_pools_client_waiting_connections", t.get("pool_pending"), labels, "pgbouncer", whole=True)
    w.outside("pgbouncer_pools_client_maxwait_seconds", t.get("pool_wait"), labels, "pgbouncer")
    w.outside("pgbouncer_databases_pool_size", t.param("pool") * t.get("replicas"), labels, "pgbouncer", exact=True)


@exporter
def nats(w: Writer, o: dict[str, str]) -> None:
    """JetStream's consumer."""
    t, labels = w.trace, {"consumer_name": w.service, "stream_name": o.get("queue", "EVENTS")}
    w.outside("nats_consumer_num_pending", t.get("backlog"), labels, "nats", whole=True)
    w.outside("nats_consumer_num_ack_pending", t.get("busy"), labels, "nats", whole=True)
    w.outside_counter("nats_consumer_delivered_consumer_seq", t.get("done"), labels, "nats", begin=4e6)


@exporter
def otel_jvm(w: Writer, o: dict[str, str]) -> None:
    """A JVM under the OpenTelemetry semantic conventions, and a count of what it holds under a name of the house."""
    t, mib = w.trace, 2.0**20
    old, eden = ({"jvm_memory_type": "heap", "jvm_memory_pool_name": n} for n in ("G1 Old Gen", "G1 Eden Space"))
    w.gauge("jvm_memory_used_bytes", t.get("live") * mib, old, split=False)
    w.gauge("jvm_memory_used_bytes", (t.get("heap") - t.get("live")) * mib, eden, split=False)
    w.gauge("jvm_memory_used_after_last_gc_bytes", t.get("live") * mib, old, split=False)
    w.gauge("jvm_memory_limit_bytes", t.param("heap_limit") * mib, old, split=False, exact=True)
    each = t.get("collections") / (t.times[1] - t.times[0]) * np.maximum(t.get("replicas"), 1)
    name = "jvm_gc_duration_seconds"
    w.counter(f"{name}_count", each, {"jvm_gc_name": "G1 Young Generation"}, sum_of=(f"{name}_sum", each * 0 + 0.015))
    w.gauge("jvm_thread_count", 30 * t.get("replicas") + t.get("busy"), {}, whole=True)
    if o.get("held"):
        w.gauge(o["held"], t.get("sessions"), {}, split=False, whole=True)
    w.started("process_start_time_seconds")
