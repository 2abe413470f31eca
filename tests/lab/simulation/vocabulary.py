"""What exporters call things: one function for each family of metrics, as their libraries name them.

Names follow the documentation of Micrometer, client_golang, the OpenTelemetry semantic conventions (1.26), prometheus_client
(Python), prom-client (Node.js), Envoy, Istio, nginx-prometheus-exporter, ingress-nginx, kube-state-metrics, cAdvisor,
postgres_exporter, redis_exporter, the RabbitMQ plugin and kafka_exporter. Some services have names of their own, as in the
field.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.lab.simulation.exposition import Writer, quantile

P99, P95, P50 = 2.326, 1.645, 0.0
Exporter = Callable[[Writer, dict[str, str]], None]
EXPORTERS: dict[str, Exporter] = {}


def exporter(function: Exporter) -> Exporter:
    """Register a family of metrics under its function's name."""
    EXPORTERS[function.__name__] = function
    return function


def outcomes(w: Writer) -> dict[str, np.ndarray]:
    """Return requests a second by status."""
    t = w.trace
    crash = np.where(t.get("ready") == 0, t.get("offered"), 0.0)
    unavailable = np.maximum(t.get("overflow") - crash, 0) + t.get("late")
    good = np.maximum(t.get("done") - t.get("bugs") - t.get("call_failures"), 0)
    return {
        "200": good,
        "500": t.get("bugs") + t.get("pool_timeouts"),
        "502": t.get("call_failures"),
        "503": unavailable,
        "429": t.get("limited"),
    }


def worth(status: str, rate: np.ndarray) -> bool:
    return status in ("200", "500") or float(np.max(rate)) > 0.02


def _took(w: Writer, status: str) -> np.ndarray:
    mean = w.trace.get("time")
    return {"429": mean * 0 + 0.002, "503": mean * 0 + 0.005}.get(status, mean)


def hosts(w: Writer, o: dict[str, str], target: str) -> list[tuple[str, np.ndarray]]:
    """Return under which addresses a service was called, each with where (1) and where not (0)."""
    usual = o.get(f"host.{target}", target)
    used = np.array([p.calls[target].host or usual if target in p.calls else usual for p in w.trace.params])
    return [(str(host), (used == host).astype(float)) for host in sorted(set(used), key=lambda h: h != usual)]


def failures(w: Writer, target: str) -> list[tuple[str, np.ndarray]]:
    """Return how calls failed, a second: by what is wrong with them, or ``timeout`` and ``error``."""
    t = w.trace
    failed = t.get(f"call:{target}:failed")
    late = np.minimum(t.get(f"call:{target}:timeouts"), failed)
    fault = np.array([p.calls[target].fault if target in p.calls else "" for p in t.params])
    parts = [(kind, np.where(fault == kind, failed, 0.0)) for kind in sorted(set(fault) - {""})]
    parts += [("timeout", np.where(fault == "", late, 0.0)), ("error", np.where(fault == "", failed - late, 0.0))]
    return [(str(kind), rate) for kind, rate in parts if rate.max() > 0.02]


# --- Micrometer, Spring, the JVM ------------------------------------------------------------------------------------------


@exporter
def micrometer_http(w: Writer, o: dict[str, str]) -> None:
    """``http_server_requests_seconds``, by status."""
    for status, rate in outcomes(w).items():
        if worth(status, rate):
            outcome = {"2": "SUCCESS", "4": "CLIENT_ERROR", "5": "SERVER_ERROR"}[status[0]]
            labels = {
                "method": o.get("method", "POST"),
                "uri": o.get("route", "/"),
                "status": status,
                "outcome": outcome,
            }
            mean = _took(w, status)
            w.counter(
                "http_server_requests_seconds_count", rate, labels, sum_of=("http_server_requests_seconds_sum", mean)
            )
            if status == "200":
                top = quantile(2.6, mean, w.trace.get("sigma") + 0.001)
                w.gauge("http_server_requests_seconds_max", top, labels, split=False)


@exporter
def micrometer_client(w: Writer, o: dict[str, str]) -> None:
    """``http_client_requests_seconds``, by called service and outcome."""
    t, name = w.trace, "http_client_requests_seconds"
    answered = {"unauthorized": ("401", "CLIENT_ERROR"), "error": ("503", "SERVER_ERROR"), "": ("200", "SUCCESS")}
    for target in t.targets():
        good = t.get(f"call:{target}:rate") - t.get(f"call:{target}:failed")
        for kind, part in [("", good), *failures(w, target)]:
            status, outcome = answered.get(kind, ("IO_ERROR", "UNKNOWN"))
            labels = {"client_name": o.get(f"host.{target}", target), "method": "GET", "status": status}
            labels |= {
                "outcome": outcome,
                "uri": "/{id}",
                "exception": {"timeout": "ResourceAccessException"}.get(kind, "none"),
            }
            w.counter(f"{name}_count", part, labels, sum_of=(f"{name}_sum", t.get(f"call:{target}:time")))


@exporter
def hikari(w: Writer, o: dict[str, str]) -> None:
    """HikariCP through Micrometer."""
    t, labels = w.trace, {"pool": o.get("pool", "HikariPool-1")}
    size = t.param("pool")
    w.gauge("hikaricp_connections_active", t.get("pool_active"), labels, whole=True)
    w.gauge("hikaricp_connections_pending", t.get("pool_pending"), labels, whole=True)
    w.gauge("hikaricp_connections_max", size, labels, split=False, exact=True)
    w.counter("hikaricp_connections_timeout_total", t.get("pool_timeouts"), labels)
    w.counter(
        "hikaricp_connections_acquire_seconds_count",
        t.get("done"),
        labels,
        sum_of=("hikaricp_connections_acquire_seconds_sum", t.get("pool_wait") + 0.0002),
    )


@exporter
def tomcat(w: Writer, o: dict[str, str]) -> None:
    """Tomcat's threads through Micrometer."""
    t, labels = w.trace, {"name": "http-nio-8080"}
    w.gauge("tomcat_threads_busy_threads", t.get("busy") + 1, labels, whole=True)
    w.gauge("tomcat_threads_config_max_threads", t.param("workers"), labels, split=False, exact=True)


@exporter
def jvm(w: Writer, o: dict[str, str]) -> None:
    """Memory, collections, threads and processor of a JVM."""
    t = w.trace
    mib = 2.0**20
    old = t.get("live") * mib
    w.gauge("jvm_memory_used_bytes", old, {"area": "heap", "id": "G1 Old Gen"}, split=False)
    w.gauge(
        "jvm_memory_used_bytes",
        (t.get("heap") - t.get("live")) * mib,
        {"area": "heap", "id": "G1 Eden Space"},
        split=False,
    )
    w.gauge(
        "jvm_memory_max_bytes",
        t.param("heap_limit") * mib,
        {"area": "heap", "id": "G1 Old Gen"},
        split=False,
        exact=True,
    )
    w.gauge(
        "jvm_memory_max_bytes",
        t.param("heap_limit") * 0 - 1,
        {"area": "heap", "id": "G1 Eden Space"},
        split=False,
        exact=True,
    )
    each = t.get("collections") / (t.times[1] - t.times[0]) * np.maximum(t.get("replicas"), 1)
    w.counter(
        "jvm_gc_pause_seconds_count",
        each,
        {"action": "end of minor GC"},
        sum_of=("jvm_gc_pause_seconds_sum", each * 0 + 0.012),
    )
    w.gauge("jvm_threads_live_threads", 24 * t.get("replicas") + np.maximum(t.get("busy") * 1.2, 10), whole=True)
    w.gauge("process_cpu_usage", t.get("cpu") / np.maximum(t.param("cpu_limit"), 0.1), {})
    w.started("process_start_time_seconds", uptime=o.get("uptime", ""))


@exporter
def tomcat_sessions(w: Writer, o: dict[str, str]) -> None:
    """HTTP sessions held."""
    w.gauge("tomcat_sessions_active_current_sessions", w.trace.get("sessions"), {}, split=False, whole=True)


@exporter
def caffeine(w: Writer, o: dict[str, str]) -> None:
    """Micrometer's view of a cache."""
    t, labels = w.trace, {"cache": o.get("cache", "products")}
    w.counter("cache_gets_total", t.get("hits"), {**labels, "result": "hit"})
    w.counter("cache_gets_total", t.get("misses"), {**labels, "result": "miss"})
    w.gauge("cache_size", t.get("entries"), labels, split=False, whole=True)


@exporter
def logback(w: Writer, o: dict[str, str]) -> None:
    """Log events by level."""
    t = w.trace
    usual = np.minimum(t.param("log_lines"), 1.5)
    rate = t.get("log_lines")
    part = usual / np.maximum(t.param("log_lines"), 1e-9)
    w.counter("logback_events_total", rate * part, {"level": "info"})
    w.counter("logback_events_total", rate * (1 - part), {"level": "debug"})
    w.counter("logback_events_total", t.get("failed"), {"level": "error"})


@exporter
def executor(w: Writer, o: dict[str, str]) -> None:
    """A bounded executor through Micrometer."""
    t, labels = w.trace, {"name": o.get("executor", "applicationTaskExecutor")}
    w.gauge("executor_active_threads", t.get("busy"), labels, whole=True)
    w.gauge("executor_pool_max_threads", t.param("workers"), labels, split=False, exact=True)
    w.gauge("executor_queued_tasks", t.get("waiting"), labels, whole=True)


# --- Go -----------------------------------------------------------------------------------------------------------------


@exporter
def go_http(w: Writer, o: dict[str, str]) -> None:
    """Requests by code as promhttp's instrumentation counts them, with buckets."""
    for code, rate in outcomes(w).items():
        if worth(code, rate):
            w.counter("http_requests_total", rate, {"code": code, "method": o.get("method", "get")})
    t = w.trace
    w.counter(
        "http_request_duration_seconds_count",
        t.get("done"),
        {"handler": o.get("route", "/")},
        sum_of=("http_request_duration_seconds_sum", t.get("time")),
        buckets=("http_request_duration_seconds_bucket", t.get("sigma") + 0.001),
    )
    w.gauge("http_requests_in_flight", t.get("busy"), {}, whole=True)


@exporter
def go_runtime(w: Writer, o: dict[str, str]) -> None:
    """client_golang's own collectors."""
    t = w.trace
    w.gauge("go_goroutines", 22 * t.get("replicas") + t.get("busy") * 2 + t.get("waiting"), {}, whole=True)
    w.gauge("go_memstats_heap_inuse_bytes", t.get("rss") * 0.8 * 2**20, {}, split=False)
    _process(w)


@exporter
def go_sql(w: Writer, o: dict[str, str]) -> None:
    """database/sql statistics."""
    t, labels = w.trace, {"db_name": o.get("database", "app")}
    w.gauge("go_sql_max_open_connections", t.param("pool"), labels, split=False, exact=True)
    w.gauge("go_sql_in_use_connections", t.get("pool_active"), labels, whole=True)
    waited = t.get("done") * np.minimum(1, t.get("pool_wait") / 0.005)
    w.counter("go_sql_wait_count_total", waited, labels)
    w.counter("go_sql_wait_duration_seconds_total", t.get("pool_wait") * t.get("done"), labels, whole=False)


@exporter
def go_client(w: Writer, o: dict[str, str]) -> None:
    """Outgoing requests with names of the house."""
    t = w.trace
    for target in t.targets():
        host = o.get(f"host.{target}", target)
        rate, failed = t.get(f"call:{target}:rate"), t.get(f"call:{target}:failed")
        name = o.get("client", "outbound_http_request")
        w.counter(
            f"{name}_duration_seconds_count",
            rate - failed,
            {"target": host, "result": "ok"},
            sum_of=(f"{name}_duration_seconds_sum", t.get(f"call:{target}:time")),
        )
        for kind, part in failures(w, target):
            w.counter(f"{name}_errors_total", part, {"target": host, "reason": kind})
        if t.get(f"call:{target}:retried").max() > 0.02:
            w.counter(f"{name}_retries_total", t.get(f"call:{target}:retried"), {"target": host})


def _process(w: Writer) -> None:
    t = w.trace
    w.gauge("process_resident_memory_bytes", t.get("rss") * 2**20, {}, split=False)
    w.counter("process_cpu_seconds_total", t.get("cpu"), {}, whole=False)
    w.gauge("process_open_fds", 18 * t.get("replicas") + t.get("busy") + t.get("pool_active"), {}, whole=True)
    w.started("process_start_time_seconds")


# --- OpenTelemetry --------------------------------------------------------------------------------------------------------


@exporter
def otel_http(w: Writer, o: dict[str, str]) -> None:
    """``http.server.request.duration`` by status."""
    t = w.trace
    for status, rate in outcomes(w).items():
        if worth(status, rate):
            labels = {
                "http_request_method": o.get("method", "GET"),
                "http_route": o.get("route", "/"),
                "http_response_status_code": status,
            }
            w.counter(
                "http_server_request_duration_seconds_count",
                rate,
                labels,
                sum_of=("http_server_request_duration_seconds_sum", _took(w, status)),
                buckets=("http_server_request_duration_seconds_bucket", t.get("sigma") + 0.001),
            )
    w.gauge("http_server_active_requests", t.get("busy") + t.get("waiting"), {}, whole=True)


@exporter
def otel_client(w: Writer, o: dict[str, str]) -> None:
    """``http.client.request.duration`` by server address."""
    t, name = w.trace, "http_client_request_duration_seconds"
    said = {
        "refused": {"error_type": "connection_error"},
        "unresolved": {"error_type": "name_resolution_error"},
        "certificate": {"error_type": "secure_connection_error"},
        "unauthorized": {"http_response_status_code": "401", "error_type": "401"},
        "error": {"http_response_status_code": "503", "error_type": "503"},
        "timeout": {"error_type": "timeout"},
        "": {"http_response_status_code": "200"},
    }
    for target in t.targets():
        good = t.get(f"call:{target}:rate") - t.get(f"call:{target}:failed")
        for host, where in hosts(w, o, target):
            for kind, part in [("", good), *failures(w, target)]:
                if (part * where).max() > 0.02:
                    labels = {"server_address": host, "http_request_method": "POST", **said[kind]}
                    w.counter(
                        f"{name}_count", part * where, labels, sum_of=(f"{name}_sum", t.get(f"call:{target}:time"))
                    )


@exporter
def otel_db(w: Writer, o: dict[str, str]) -> None:
    """``db.client.connection``: count by state, waiting requests, time to get one."""
    t, labels = w.trace, {"db_client_connection_pool_name": o.get("pool", "main")}
    size = t.param("pool") * t.get("replicas")
    w.gauge("db_client_connection_count", t.get("pool_active"), {**labels, "state": "used"}, whole=True)
    w.gauge(
        "db_client_connection_count",
        np.maximum(size - t.get("pool_active"), 0),
        {**labels, "state": "idle"},
        whole=True,
    )
    w.gauge("db_client_connection_max", t.param("pool"), labels, split=False, exact=True)
    w.gauge("db_client_connection_pending_requests", t.get("pool_pending"), labels, whole=True)
    w.counter("db_client_connection_timeouts_total", t.get("pool_timeouts"), labels)
    name = "db_client_operation_duration_seconds"
    w.counter(
        f"{name}_count", t.get("queries"), {"db_system": "postgresql"}, sum_of=(f"{name}_sum", t.get("query_time"))
    )


@exporter
def otel_process(w: Writer, o: dict[str, str]) -> None:
    """``process.*``."""
    t = w.trace
    w.gauge("process_memory_usage_bytes", t.get("rss") * 2**20, {}, split=False)
    w.counter("process_cpu_time_seconds_total", t.get("cpu"), {}, whole=False)
    w.started("process_start_time_seconds") if o.get("starts", "yes") == "yes" else None


@exporter
def otel_messaging(w: Writer, o: dict[str, str]) -> None:
    """``messaging.*`` of a consumer."""
    t, labels = (
        w.trace,
        {"messaging_destination_name": o.get("queue", "jobs"), "messaging_system": o.get("system", "kafka")},
    )
    w.counter(
        "messaging_process_duration_seconds_count",
        t.get("done"),
        labels,
        sum_of=("messaging_process_duration_seconds_sum", t.get("time")),
    )
    w.counter("messaging_client_consumed_messages_total", t.get("done"), labels)


# --- Python ---------------------------------------------------------------------------------------------------------------


@exporter
def python_http(w: Writer, o: dict[str, str]) -> None:
    """prometheus-fastapi-instrumentator: requests by status class."""
    t, classes = w.trace, {"2xx": ("200",), "4xx": ("429",), "5xx": ("500", "502", "503")}
    by_status = outcomes(w)
    for name, members in classes.items():
        rate = np.sum([by_status[m] for m in members], axis=0)
        if name != "4xx" or rate.max() > 0.02:
            w.counter(
                "http_requests_total",
                rate,
                {"handler": o.get("route", "/"), "method": o.get("method", "GET"), "status": name},
            )
    w.counter(
        "http_request_duration_seconds_count",
        t.get("done"),
        {"handler": o.get("route", "/")},
        sum_of=("http_request_duration_seconds_sum", t.get("time")),
        buckets=("http_request_duration_seconds_bucket", t.get("sigma") + 0.001),
    )


@exporter
def python_process(w: Writer, o: dict[str, str]) -> None:
    """prometheus_client's own collectors."""
    t = w.trace
    _process(w)
    w.counter("python_gc_collections_total", t.get("done") * 0.4, {"generation": "0"})


@exporter
def python_pool(w: Writer, o: dict[str, str]) -> None:
    """SQLAlchemy's pool under names of the house."""
    t = w.trace
    w.gauge("sqlalchemy_pool_checked_out", t.get("pool_active"), {}, whole=True)
    w.gauge("sqlalchemy_pool_size", t.param("pool"), {}, split=False, exact=True)
    w.gauge("sqlalchemy_pool_checkout_wait_seconds", t.get("pool_wait"), {}, split=False)
    w.counter("sqlalchemy_pool_timeouts_total", t.get("pool_timeouts"), {})


@exporter
def gunicorn(w: Writer, o: dict[str, str]) -> None:
    """gunicorn through the statsd exporter."""
    t = w.trace
    w.gauge("gunicorn_workers", t.param("workers"), {}, split=False, exact=True)
    w.gauge("gunicorn_workers_busy", t.get("busy"), {}, whole=True)
    w.gauge("gunicorn_backlog", t.get("waiting"), {}, whole=True)


@exporter
def python_cache(w: Writer, o: dict[str, str]) -> None:
    """A cache in the process under names of the house."""
    t, name = w.trace, o.get("cache", "lookup_cache")
    w.gauge(f"{name}_entries", t.get("entries"), {}, split=False, whole=True)
    w.counter(f"{name}_hits_total", t.get("hits"), {})
    w.counter(f"{name}_misses_total", t.get("misses"), {})


@exporter
def celery(w: Writer, o: dict[str, str]) -> None:
    """celery-exporter, with the queue's length from the broker."""
    t, labels = w.trace, {"name": o.get("task", "tasks.run"), "queue_name": o.get("queue", "celery")}
    w.counter("celery_task_received_total", t.get("offered"), labels)
    w.counter(
        "celery_task_succeeded_total",
        t.get("done") * 0.999,
        labels,
        sum_of=("celery_task_runtime_seconds_sum", t.get("time")),
    )
    w.counter("celery_task_failed_total", t.get("bugs") + t.get("call_failures"), labels)
    w.gauge("celery_worker_tasks_active", t.get("busy"), {}, whole=True)
    queue = {"queue_name": o.get("queue", "celery")}
    w.outside("celery_queue_length", t.get("backlog"), queue, "celery-exporter", whole=True)


@exporter
def client_calls(w: Writer, o: dict[str, str]) -> None:
    """Outgoing calls of Python and Node services under names of the house."""
    t, name = w.trace, o.get("client", "upstream")
    for target in t.targets():
        for host, where in hosts(w, o, target):
            rate, failed = t.get(f"call:{target}:rate") * where, t.get(f"call:{target}:failed") * where
            w.counter(
                f"{name}_request_seconds_count",
                rate,
                {"upstream": host},
                sum_of=(f"{name}_request_seconds_sum", t.get(f"call:{target}:time")),
            )
            if failed.max() > 0.02:
                w.counter(f"{name}_failures_total", failed, {"upstream": host})


# --- Node.js --------------------------------------------------------------------------------------------------------------


@exporter
def node_http(w: Writer, o: dict[str, str]) -> None:
    """express-prom-bundle: one histogram with the status as a label."""
    for status, rate in outcomes(w).items():
        if worth(status, rate):
            labels = {"status_code": status, "method": o.get("method", "GET"), "path": o.get("route", "/")}
            w.counter(
                "http_request_duration_seconds_count",
                rate,
                labels,
                sum_of=("http_request_duration_seconds_sum", _took(w, status)),
            )


@exporter
def node_runtime(w: Writer, o: dict[str, str]) -> None:
    """prom-client's default metrics."""
    t = w.trace
    used = t.get("cpu") / np.maximum(t.param("cpu_limit") * np.maximum(t.get("replicas"), 1), 0.05)
    lag = 0.002 + 0.01 * used**2 / np.maximum(1.02 - used, 0.02)
    w.gauge("nodejs_eventloop_lag_seconds", lag, {}, split=False)
    w.gauge("nodejs_eventloop_lag_p99_seconds", lag * 4, {}, split=False)
    w.gauge("nodejs_heap_size_used_bytes", t.get("rss") * 0.7 * 2**20, {}, split=False)
    w.gauge("nodejs_active_handles_total", 9 * t.get("replicas") + t.get("busy"), {}, whole=True)
    _process(w)


@exporter
def node_store(w: Writer, o: dict[str, str]) -> None:
    """What a Node.js service holds in memory: sessions or a cache, under names of the house."""
    t = w.trace
    held = t.get("sessions") if t.get("sessions").max() > 0 else t.get("entries")
    w.gauge(o.get("store", "session_store_size"), held, {}, split=False, whole=True)


# --- proxies --------------------------------------------------------------------------------------------------------------


@exporter
def envoy(w: Writer, o: dict[str, str]) -> None:
    """Envoy's upstream statistics, one cluster for each called service."""
    t = w.trace
    for target in t.targets():
        rate, failed = t.get(f"call:{target}:rate"), t.get(f"call:{target}:failed")
        labels = {"envoy_cluster_name": o.get(f"host.{target}", target)}
        w.counter("envoy_cluster_upstream_rq_total", rate, labels)
        w.counter("envoy_cluster_upstream_rq_xx", rate - failed, {**labels, "envoy_response_code_class": "2"})
        w.counter("envoy_cluster_upstream_rq_xx", failed, {**labels, "envoy_response_code_class": "5"})
        w.counter("envoy_cluster_upstream_rq_retry", t.get(f"call:{target}:retried"), labels)
        w.counter("envoy_cluster_upstream_rq_timeout", t.get(f"call:{target}:timeouts"), labels)
        w.counter(
            "envoy_cluster_upstream_rq_time_count",
            rate,
            labels,
            sum_of=("envoy_cluster_upstream_rq_time_sum", t.get(f"call:{target}:time") * 1000),
        )
    for klass, statuses in {"2": ("200",), "4": ("429",), "5": ("500", "502", "503")}.items():
        by_status = outcomes(w)
        rate = np.sum([by_status[s] for s in statuses], axis=0)
        w.counter(
            "envoy_http_downstream_rq_xx",
            rate,
            {"envoy_response_code_class": klass, "envoy_http_conn_manager_prefix": "ingress"},
        )
    if t.get("limited").max() > 0:
        w.counter(
            "envoy_http_local_rate_limit_rate_limited",
            t.get("limited"),
            {"envoy_local_http_ratelimit_prefix": "http_local_rate_limiter"},
        )
    w.counter(
        "envoy_http_downstream_rq_time_count",
        t.get("done"),
        {"envoy_http_conn_manager_prefix": "ingress"},
        sum_of=("envoy_http_downstream_rq_time_sum", t.get("time") * 1000),
    )


@exporter
def istio(w: Writer, o: dict[str, str]) -> None:
    """Istio's standard metrics, seen from the destination and, of calls, from the source."""
    t = w.trace
    who = {
        "destination_workload": w.service,
        "source_workload": o.get("source", "istio-ingressgateway"),
        "reporter": "destination",
    }
    for code, rate in outcomes(w).items():
        if worth(code, rate):
            w.outside_counter("istio_requests_total", rate, {**who, "response_code": code}, "istio-proxy", begin=90_000)
    total = t.get("done")
    w.outside_counter("istio_request_duration_milliseconds_count", total, who, "istio-proxy", begin=90_000)
    w.outside_counter(
        "istio_request_duration_milliseconds_sum",
        total * t.get("time") * 1000,
        who,
        "istio-proxy",
        begin=1e6,
        whole=False,
    )
    for target in t.targets():
        labels = {
            "source_workload": w.service,
            "destination_workload": o.get(f"host.{target}", target),
            "reporter": "source",
        }
        rate, failed = t.get(f"call:{target}:rate"), t.get(f"call:{target}:failed")
        w.outside_counter(
            "istio_requests_total", rate - failed, {**labels, "response_code": "200"}, "istio-proxy", begin=50_000
        )
        if failed.max() > 0.02:
            w.outside_counter("istio_requests_total", failed, {**labels, "response_code": "503"}, "istio-proxy")
        w.outside_counter("istio_request_duration_milliseconds_count", rate, labels, "istio-proxy", begin=50_000)
        w.outside_counter(
            "istio_request_duration_milliseconds_sum",
            rate * t.get(f"call:{target}:time") * 1000,
            labels,
            "istio-proxy",
            begin=1e6,
            whole=False,
        )


@exporter
def nginx(w: Writer, o: dict[str, str]) -> None:
    """nginx-prometheus-exporter (stub status) and the log exporter's counts by status."""
    t = w.trace
    w.counter("nginx_http_requests_total", t.get("offered"), {})
    w.gauge("nginx_connections_active", t.get("busy") + t.get("waiting") + 6, {}, whole=True)
    w.gauge("nginx_connections_waiting", 5 + 0 * t.times, {}, whole=True)
    for status, rate in outcomes(w).items():
        if worth(status, rate):
            w.counter("nginxlog_http_response_count_total", rate, {"status": status, "method": "GET"})
    w.counter(
        "nginxlog_http_response_time_seconds_count",
        t.get("done"),
        {},
        sum_of=("nginxlog_http_response_time_seconds_sum", t.get("time")),
    )


@exporter
def ingress(w: Writer, o: dict[str, str]) -> None:
    """ingress-nginx."""
    t, who = w.trace, {"ingress": w.service, "exported_service": w.service, "host": o.get("host", "shop.example.org")}
    for status, rate in outcomes(w).items():
        if worth(status, rate):
            w.outside_counter(
                "nginx_ingress_controller_requests", rate, {**who, "status": status}, "ingress-nginx", begin=70_000
            )
    name = "nginx_ingress_controller_request_duration_seconds"
    w.outside_counter(f"{name}_count", t.get("done"), who, "ingress-nginx", begin=70_000)
    w.outside_counter(f"{name}_sum", t.get("done") * t.get("time"), who, "ingress-nginx", begin=9_000, whole=False)


# --- cluster --------------------------------------------------------------------------------------------------------------


@exporter
def cadvisor(w: Writer, o: dict[str, str]) -> None:
    """Containers, as the kubelet's cAdvisor reports them."""
    t, box = w.trace, {"container": w.service}
    w.counter("container_cpu_usage_seconds_total", t.get("cpu"), box, whole=False)
    w.counter("container_cpu_cfs_periods_total", 9.8 * t.get("replicas"), box)
    w.counter("container_cpu_cfs_throttled_periods_total", 9.8 * t.get("throttled") * t.get("replicas"), box)
    w.gauge("container_memory_working_set_bytes", t.get("rss") * 1.04 * 2**20, box, split=False)
    if o.get("limits", "yes") == "yes":
        w.gauge("container_spec_memory_limit_bytes", t.param("memory_limit") * 2**20, box, split=False, exact=True)


@exporter
def kube(w: Writer, o: dict[str, str]) -> None:
    """kube-state-metrics about the service's deployment and pods."""
    t, job = w.trace, "kube-state-metrics"
    deployment = {"deployment": w.service}
    w.outside("kube_deployment_status_replicas_available", t.get("ready"), deployment, job, exact=True)
    w.outside("kube_deployment_spec_replicas", t.get("replicas"), deployment, job, exact=True)
    if t.param("hpa_max").max() > 0:
        scaler = {"horizontalpodautoscaler": w.service}
        w.outside("kube_horizontalpodautoscaler_spec_max_replicas", t.param("hpa_max"), scaler, job, exact=True)
        w.outside("kube_horizontalpodautoscaler_status_current_replicas", t.get("replicas"), scaler, job, exact=True)
    times = t.times
    for process in w.processes:
        pod = {**process.labels, "container": w.service}
        counted = np.array([sum(1 for begin, _ in process.replica.restarts if begin <= m) for m in times], float)
        w.outside("kube_pod_container_status_restarts_total", counted, pod, job, exact=True, mask=process.share > 0)
        killed = [begin for begin, why in process.replica.restarts if why == "OOMKilled"]
        if killed:
            last = np.array([1.0 if any(k <= m for k in killed) else 0.0 for m in times])
            w.outside(
                "kube_pod_container_status_last_terminated_reason",
                last,
                {**pod, "reason": "OOMKilled"},
                job,
                exact=True,
                mask=last > 0,
            )
        if o.get("limits", "yes") == "yes":
            w.outside(
                "kube_pod_container_resource_limits",
                t.param("cpu_limit"),
                {**pod, "resource": "cpu", "unit": "core"},
                job,
                exact=True,
                mask=process.share > 0,
            )


# --- stores and queues ----------------------------------------------------------------------------------------------------


@exporter
def postgres(w: Writer, o: dict[str, str]) -> None:
    """postgres_exporter, of the service's database."""
    t, labels = w.trace, {"datname": o.get("database", "app")}
    w.outside("pg_stat_activity_count", t.get("pool_active") + 2, {**labels, "state": "active"}, "postgres", whole=True)
    w.outside_counter("pg_stat_database_xact_commit", t.get("queries"), labels, "postgres", begin=4e6)
    w.outside("pg_settings_max_connections", 0 * t.times + 200, {}, "postgres", exact=True)
    w.outside_counter("pg_stat_statements_calls_total", t.get("queries"), labels, "postgres", begin=9e6)
    spent = t.get("queries") * t.get("query_time")
    w.outside_counter("pg_stat_statements_seconds_total", spent, labels, "postgres", begin=4e4, whole=False)


@exporter
def redis(w: Writer, o: dict[str, str]) -> None:
    """redis_exporter, of the service's cache."""
    t = w.trace
    w.outside_counter("redis_keyspace_hits_total", t.get("hits"), {}, "redis", begin=3e6)
    w.outside_counter("redis_keyspace_misses_total", t.get("misses"), {}, "redis", begin=2e5)
    w.outside("redis_connected_clients", 0 * t.times + 12, {}, "redis", whole=True)
    entries = t.get("entries") * t.get("replicas")
    w.outside("redis_memory_used_bytes", 2e6 + entries * 1024 * t.param("entry_kib"), {}, "redis")
    w.outside("redis_db_keys", entries, {"db": "db0"}, "redis", whole=True)


@exporter
def rabbitmq(w: Writer, o: dict[str, str]) -> None:
    """The queue that the service consumes, as RabbitMQ's plugin reports it."""
    t, labels = w.trace, {"queue": o.get("queue", "jobs")}
    w.outside("rabbitmq_queue_messages_ready", t.get("backlog"), labels, "rabbitmq", whole=True)
    w.outside("rabbitmq_queue_messages_unacked", t.get("busy"), labels, "rabbitmq", whole=True)
    w.outside("rabbitmq_queue_consumers", t.get("replicas") * t.param("workers"), labels, "rabbitmq", exact=True)
    w.outside_counter("rabbitmq_queue_messages_published_total", t.get("offered"), labels, "rabbitmq", begin=8e5)


@exporter
def kafka(w: Writer, o: dict[str, str]) -> None:
    """kafka_exporter: the consumer group's lag."""
    t, labels = w.trace, {"consumergroup": w.service, "topic": o.get("queue", "events")}
    w.outside("kafka_consumergroup_lag", t.get("backlog") + t.get("done") * 1.5, labels, "kafka-exporter", whole=True)
    w.outside_counter("kafka_consumergroup_current_offset", t.get("done"), labels, "kafka-exporter", begin=7e6)
    w.outside_counter(
        "kafka_topic_partition_current_offset",
        t.get("offered"),
        {"topic": o.get("queue", "events")},
        "kafka-exporter",
        begin=7e6,
    )


@exporter
def consumer_house(w: Writer, o: dict[str, str]) -> None:
    """A consumer under names of the house."""
    t, name = w.trace, o.get("prefix", "worker")
    w.counter(f"{name}_handled_total", t.get("done") - t.get("bugs") - t.get("call_failures"), {"result": "ok"})
    w.counter(f"{name}_handled_total", t.get("bugs") + t.get("call_failures"), {"result": "error"}, sum_of=None)
    w.gauge(f"{name}_handling_seconds", t.get("time"), {}, split=False)
    w.gauge(f"{name}_in_progress", t.get("busy"), {}, whole=True)
    w.gauge(f"{name}_slots", t.param("workers"), {}, split=False, exact=True)


@exporter
def node_disk(w: Writer, o: dict[str, str]) -> None:
    """node_exporter: the volume that the service writes to."""
    t, labels = w.trace, {"mountpoint": o.get("mountpoint", "/var/log"), "device": "/dev/nvme1n1", "fstype": "ext4"}
    size = t.param("disk_size") * 2**30
    w.outside("node_filesystem_size_bytes", size, labels, "node", exact=True)
    free = np.maximum(size - t.get("disk") * 2**30, 0)
    w.outside("node_filesystem_avail_bytes", free, labels, "node", exact=True)
    w.outside_counter(
        "node_disk_written_bytes_total", t.get("written"), {"device": "nvme1n1"}, "node", begin=5e10, whole=False
    )


@exporter
def volume(w: Writer, o: dict[str, str]) -> None:
    """The kubelet's view of a persistent volume."""
    t, labels = w.trace, {"persistentvolumeclaim": o.get("claim", f"{w.service}-data")}
    w.outside("kubelet_volume_stats_capacity_bytes", t.param("disk_size") * 2**30, labels, "kubelet", exact=True)
    w.outside("kubelet_volume_stats_used_bytes", t.get("disk") * 2**30, labels, "kubelet", exact=True)


@exporter
def house_http(w: Writer, o: dict[str, str]) -> None:
    """A service whose team chose its own names."""
    t, name = w.trace, o.get("prefix", w.service.replace("-", "_"))
    by_status = outcomes(w)
    failed = by_status["500"] + by_status["502"] + by_status["503"]
    w.counter(f"{name}_calls_total", t.get("offered"), {})
    w.counter(f"{name}_failures_total", failed, {})
    if by_status["429"].max() > 0.02:
        w.counter(f"{name}_rejected_total", by_status["429"], {})
    sigma = t.get("sigma") + 0.001
    w.gauge(f"{name}_latency_ms", quantile(P50, t.get("time"), sigma) * 1000, {"quantile": "0.5"}, split=False)
    w.gauge(f"{name}_latency_ms", quantile(P99, t.get("time"), sigma) * 1000, {"quantile": "0.99"}, split=False)


@exporter
def up(w: Writer, o: dict[str, str]) -> None:
    """Whether the scrape worked."""
    w.gauge("up", w.trace.times * 0 + 1, {}, split=False, exact=True)
