"""Any service's own series become what an on-call engineer would look at: latency, errors, traffic, pools, queues, limits.

No playbook names these series. Exact names of the field's exporters come first, words of the name second, so that
``orders_latency_ms`` of a house's own making is understood as well as ``http_server_requests_seconds``. Counters become rates,
sums and counts a mean, failures a share of all, use a share of its limit: then figures of different services can be compared.

What this does not do: nothing is judged here, and the JVM's memory in detail is the business of ``signals``. Histogram buckets
are not read. Pure. Called by the diagnosis.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import chain

import numpy as np
import numpy.typing as npt

from advisor.evidence import Series
from advisor.evidence.signals import Array, smooth
from advisor.evidence.topology import call_of, callee_of, closest, is_outbound


class Aspect(StrEnum):
    """What of a service's state a series tells."""

    LATENCY = "latency"
    ERRORS = "errors"
    REQUESTS = "requests"
    POOL = "pool"
    WORKERS = "workers"
    QUEUE = "queue"
    CPU = "cpu"
    MEMORY = "memory"
    DISK = "disk"
    RESTARTS = "restarts"
    AVAILABILITY = "availability"
    THROTTLING = "throttling"
    REPLICAS = "replicas"
    RETRIES = "retries"
    CACHE = "cache"
    GC = "gc"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class AspectSignal:
    """One thing that a service's series tell, on the common grid; NaN where nothing was sampled.

    Attributes:
        key: Metric name plus the labels that tell kinds apart, e.g. ``hikaricp_connections_pending{pool=orders}``.
        names: The metric names it was made from, for citing.
        values: Counters as per-second rates; latency in seconds per request where the unit is known; errors as share of all
            requests where these are counted; use as share of its limit where that is exported, else as measured.
        worse: +1 if larger is worse, -1 if smaller is worse, 0 if neither.
        scope: ``inbound`` (what the service answers), ``outbound`` (calls that it makes) or ``own``.
        peer: The called or calling service, host or pool where a label says so.
        unit: ``seconds``, ``share``, ``per second``, ``seconds per second``, ``bytes``, ``cores``, ``limit``, or empty.
        series: The source series.
        rank: How well it stands for the whole of its aspect; below zero it is a part of another signal (one route, one peer).
    """

    aspect: Aspect
    key: str
    names: tuple[str, ...]
    values: Array
    worse: int
    scope: str
    peer: str
    unit: str
    series: tuple[Series, ...]
    rank: int = 0


INBOUND, OUTBOUND, OWN = "inbound", "outbound", "own"
_FOREIGN = "foreign"  # a call between two other services: not this service's

# --- words of a name ---------------------------------------------------------------------------------------------------

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")
_RECORDED = re.compile(r"^(i?rate|increase|sum|avg|max|min|p\d\d+)\d+[smhd]$")  # of recording rules: rate5m
_SPLIT = re.compile(r"[^A-Za-z0-9]+")

_UNITS: dict[str, float] = {
    "seconds": 1.0, "second": 1.0, "secs": 1.0, "sec": 1.0,
    "milliseconds": 1e-3, "millisecond": 1e-3, "millis": 1e-3, "ms": 1e-3, "msec": 1e-3, "msecs": 1e-3,
    "microseconds": 1e-6, "microsecond": 1e-6, "micros": 1e-6, "us": 1e-6, "usec": 1e-6, "usecs": 1e-6,
    "nanoseconds": 1e-9, "nanosecond": 1e-9, "nanos": 1e-9, "ns": 1e-9, "nsec": 1e-9,
    "minutes": 60.0, "minute": 60.0,
}  # fmt: skip
_TIME = frozenset(_UNITS) | frozenset(
    "duration durations latency latencies elapsed time times responsetime rt rtt runtime took ttfb timing timer".split()
)
# A time that is an instant, an age or a setting says nothing of how long work takes.
_NO_DURATION = frozenset(
    "start started startup ready uptime timestamp age timeout timeouts ttl expiry expires expiration interval last since"
    " lease created modified scrape offset clock skew boot date epoch next until build".split()
)
_ERROR = frozenset(
    "error errors errored err errs failure failures failed fail fails fault faults exception exceptions rejected rejections"
    " reject rejects 5xx 5xxs timeout timeouts timedout dropped drops aborted aborts panics panic crashes unhandled invalid"
    " errorcount errorrate unavailable deadletter dlq dead declined denied overflow overflows rollback rollbacks"
    " refused 408 429 499 500 502 503 504".split()
)
_REQUEST = frozenset(
    "request requests req reqs rq call calls invocations invocation hits orders messages events jobs checkouts queries"
    " query transactions transaction commands command operations ops requestcount responses response handled processed"
    " completed received published sent consumed records payments tasks accepted qps rps tps throughput logins visits".split()
)
_RETRY = frozenset("retry retries retried retrying reconnects reconnections redelivered redeliveries attempts".split())
_QUEUE = frozenset(
    "queue queued queues backlog lag pending waiting unacked unacknowledged inflight buffered outstanding depth mailbox"
    " enqueued messagesvisible visible scheduled".split()
)
_POOL = frozenset(
    "pool pools connection connections conn conns datasource session sessions fds descriptors sockets socket".split()
)
_WORKERS = frozenset(
    "thread threads worker workers goroutines goroutine executor threadpool children processes procs fibers slots"
    " eventloop coroutines dispatcher inflight".split()
)
_CACHE = frozenset("cache caches cached keyspace memo".split())
_MEMORY = frozenset("memory mem heap rss metaspace vsz swap resident oom nonheap buffers buffer".split())
_DISK = frozenset("disk filesystem fs volume storage inode inodes iops wal tablespace".split())
_SHARE = frozenset(
    "ratio rate share percent percentage pct utilization utilisation fraction percentile availability".split()
)
_GAUGE_COUNTS = frozenset(
    "thread threads goroutines connection connections activity cpu cpus size clients replicas processes pods nodes sessions"
    " active current live open running inflight pool members workers databases partitions online descriptors fds core cores"
    " class classes consumers queue depth backlog lag".split()
)
_QUANTILE = re.compile(r"p\d{2,4}|\d{2,3}(th|percentile|thpercentile)|median|quantile|percentiles?")
_PARTS = {
    "sum": "sum", "count": "count", "total": "total", "max": "max", "min": "min", "avg": "mean", "mean": "mean",
    "average": "mean",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a metric name means by itself.

    Attributes:
        form: ``timer`` (a duration's sum, count, maximum or quantile), ``counter``, ``gauge``, ``limit``, ``free`` (what is left
            of a limit), ``hit``, ``miss`` or ``skip``.
        part: ``sum``, ``count``, ``total``, ``max``, ``min``, ``mean``, ``quantile`` or empty.
        known: An exporter's exact name; else by words.
        cumulative: False for what its name already shows to be no counter, None where only the values can tell.
    """

    aspect: Aspect
    scope: str
    worse: int
    form: str
    part: str
    base: str
    words: tuple[str, ...]
    factor: float
    unit: str
    known: bool = False
    cumulative: bool | None = False


# Exporters' own names: aspect, scope, worse, form, pattern of the whole name or of the name without its last part (_total, _sum,
# _count, _max). Scope "?" is told by labels and words. Sources: the exporters' own documentation and ``/metrics`` pages.
_KNOWN_TABLE = """
latency inbound + timer http_server_requests?(_duration)?(_seconds|_milliseconds)?|http_server_duration(_milliseconds|_seconds)?
latency inbound + timer http_request_duration(_seconds|_milliseconds|_ms)?|http_requests_seconds|flask_http_request_duration_seconds
latency inbound + timer django_http_requests_latency(_including_middlewares)?_seconds(_by_view_method)?|starlette_request_duration_seconds
latency inbound + timer grpc_server_(handling|processing_duration)_(seconds|milliseconds)|rpc_server_duration(_milliseconds|_seconds)?
latency inbound + timer tomcat_global_request(_max)?_seconds|tomcat_global_request|tomcat_servlet_request(_seconds)?|jetty_(server_)?requests_seconds
latency inbound + timer microsoft_aspnetcore_hosting_http_server_request_duration|aspnetcore_request_duration_seconds
latency inbound + timer nginx_ingress_controller_(request|response)_duration_seconds|traefik_(entrypoint|service|router)_request_duration_seconds
latency inbound + timer envoy_http_downstream_rq_time|haproxy_frontend_.*time.*_seconds|gunicorn_request_duration|celery_task_(runtime|execution)(_seconds)?
latency ? + timer istio_request_duration_(milliseconds|seconds)|response_latency_ms|traces_spanmetrics_(latency|duration)(_seconds|_milliseconds)?
latency ? + timer duration_(milliseconds|seconds)|latency|traces_service_graph_request_(server|client)(_seconds)?|spring_kafka_listener_seconds
latency outbound + timer envoy_cluster_(external_)?upstream_rq_time|haproxy_(backend|server)_(response|total|http_response)_time_average_seconds
latency outbound + timer http_client_requests?(_duration)?(_seconds|_milliseconds)?|http_client_duration(_milliseconds|_seconds)?|rpc_client_duration.*
latency outbound + timer grpc_client_handling_seconds|db_client_operation_duration(_seconds)?|db_client_connections_use_time(_milliseconds)?
latency outbound + timer lettuce_command_(completion|firstresponse)(_seconds)?|mongodb_driver_commands(_seconds)?|spring_data_repository_invocations(_seconds)?
latency outbound + timer hikaricp_connections_(usage|creation)(_seconds)?|jdbc_query_seconds|cassandra_cql_requests_seconds|resilience4j_circuitbreaker_calls(_seconds)?
latency outbound + timer jedis_.*seconds|kafka_(producer|consumer)_(request|fetch)_latency_(avg|max)|elasticsearch_client_.*seconds|aws_sdk_.*duration.*
latency own + timer tasks_scheduled_execution(_seconds)?|executor(_execution)?_seconds|mysql_global_status_innodb_row_lock_time.*|pg_stat_statements_mean_.*
queue own + timer executor_idle(_seconds)?|haproxy_backend_queue_time_average_seconds|celery_task_(queue|waiting)_.*|sidekiq_queue_latency(_seconds)?
queue own + gauge approximate_?age_?of_?oldest_?message
pool own + timer hikaricp_connections_acquire(_seconds)?|db_client_connections_wait_time(_milliseconds)?|go_sql_wait_duration_seconds|sql_db_wait_duration_seconds
requests inbound 0 counter http_(server_)?requests?(_received)?|http_request_count|flask_http_request|django_http_requests_total_by_.*|django_http_responses_total_by_status.*
requests inbound 0 counter grpc_server_(handled|started|requests_received|msg_received)|aspnetcore_http_requests|http_requests_received|jetty_requests|undertow_request_count
requests inbound 0 counter nginx_(http_requests|ingress_controller_requests)|nginx_server_requests|traefik_(entrypoint|service|router)_requests|haproxy_frontend_http_(requests|responses)
requests inbound 0 counter envoy_http_downstream_rq(_xx)?|apache_accesses|phpfpm_accepted_connections|gunicorn_requests|catalina_globalrequestprocessor_requestcount
requests inbound 0 counter celery_tasks?_(received|started|succeeded)|rabbitmq_(queue_)?messages_(delivered|published|acked)|nginx_ingress_controller_nginx_process_requests
requests ? 0 counter istio_requests|(request|response)|calls|traces_spanmetrics_calls|traces_service_graph_request|envoy_cluster_upstream_rq(_xx|_completed)?
requests outbound 0 counter grpc_client_(handled|started)|haproxy_(backend|server)_http_(requests|responses)|envoy_cluster_external_upstream_rq(_xx)?
requests own 0 counter mysql_global_status_(queries|questions|commands)|pg_stat_database_xact_commit|redis_commands_processed|kafka_consumer_.*records_consumed
errors ? + counter traces_service_graph_request_failed
errors inbound + counter tomcat_global_error|catalina_globalrequestprocessor_errorcount|http_5xx|django_http_exceptions_total_by_.*|flask_http_request_exceptions
errors inbound + counter celery_tasks?_failed|phpfpm_slow_requests|envoy_http_downstream_rq_5xx|haproxy_(frontend|backend|server)_.*(errors|aborts|denied).*
errors inbound + gauge (http_?code_(target|elb|backend)_5xx(_count)?)|_?5xx_?error(_rate|s)?
errors outbound + counter envoy_cluster_upstream_(rq_(5xx|timeout|rx_reset|tx_reset|pending_failure_eject|pending_overflow)|cx_(connect_fail|connect_timeout|overflow|none_healthy))
errors outbound + counter resilience4j_circuitbreaker_not_permitted_calls|traefik_service_server_down|envoy_cluster_upstream_rq_cancelled
errors outbound + gauge resilience4j_circuitbreaker_(failure|slow_call)_rate|envoy_cluster_circuit_breakers_default_.*_open|resilience4j_circuitbreaker_slow_calls
errors own + counter mysql_global_status_(aborted_connects|aborted_clients|slow_queries|connection_errors.*)|pg_stat_database_(deadlocks|conflicts|xact_rollback)|redis_rejected_connections
errors own + counter logback_events|log4j2_events|log_messages|prometheus_client_log.*
other inbound 0 counter http_?code_(target|elb|backend)_[234]xx(_count)?
retries outbound + counter envoy_cluster_upstream_rq_retry(_.*)?|resilience4j_retry_calls|traefik_service_retries|kafka_producer_record_retry_.*|haproxy_(backend|server)_retry_warnings
pool own + gauge hikaricp_connections_pending(_threads)?|db_client_connections_pending_requests|db_client_connection_pending_requests|jdbc_connections_pending|redis_blocked_clients
pool own + gauge hikaricp_connections_active|db_client_connections?_usage|db_client_connection_count|jdbc_connections_active|go_sql_(in_use|open)_connections|sql_db_connections_.*
pool own + gauge tomcat_connections_current(_connections)?|pg_stat_activity_count|pg_stat_database_numbackends|redis_connected_clients|mysql_global_status_threads_connected
pool own + gauge process_(open_fds|files_open(_files)?)|nginx_connections_(active|waiting|reading|writing)|haproxy_.*_current_sessions|mongodb_connections
pool own + gauge envoy_cluster_upstream_cx_active|pgbouncer_pools_client_waiting_connections|pgbouncer_pools_server_active_connections|mongodb_driver_pool_(checkedout|waitqueuesize)
pool own + counter hikaricp_connections_timeout|go_sql_wait_count|go_sql_stats_connections_waited_for|db_client_connections_timeouts|phpfpm_max_listen_queue
pool own - gauge hikaricp_connections_idle|jdbc_connections_idle|go_sql_idle_connections
pool own 0 gauge hikaricp_connections|mongodb_driver_pool_size
pool own 0 limit hikaricp_connections_max|db_client_connections?_max|jdbc_connections_max|go_sql_max_open_connections|tomcat_connections_config_max(_connections)?
pool own 0 limit process_(max_fds|files_max(_files)?)|pg_settings_max_connections|redis_config_maxclients|mysql_global_variables_max_connections|haproxy_.*_limit_sessions
other own 0 gauge hikaricp_connections_min|jdbc_connections_min|db_client_connections_idle_(min|max)|tomcat_sessions_.*
workers own + gauge tomcat_threads_busy(_threads)?|jetty_threads_(busy|jobs)|executor_active(_threads)?|go_goroutines|mysql_global_status_threads_running|phpfpm_active_processes
workers own + gauge dotnet_(thread_?pool_(thread_?count|num_threads|threads))|process_runtime_dotnet_thread_pool_threads_count|dotnet_thread_pool_thread_count
workers own + gauge http_server_active_requests|http_server_requests_active(_seconds)?(_active_count)?|nodejs_eventloop_lag(_.*)?_seconds|nodejs_active_(requests|handles)(_total)?
workers own + gauge http_requests_in_progress|http_requests_inprogress|grpc_server_started_in_flight|envoy_http_downstream_rq_active|gunicorn_workers|celery_workers?|jvm_threads?_(states_threads|live_threads|current|count)
workers own + gauge jvm_thread_count|jvm_threads_(live|states|state|deadlocked)|process_runtime_jvm_threads_count|process_threads|apache_workers|uwsgi_worker_busy|base_thread_count
workers own + gauge resilience4j_thread_pool_bulkhead_thread_pool_size|puma_running|undertow_worker_.*|quarkus_vertx_.*active.*|vertx_http_server_active_.*
workers own + counter phpfpm_max_children_reached
workers own - gauge phpfpm_idle_processes|puma_pool_capacity|executor_pool_core.*idle|jetty_threads_idle
workers own - free resilience4j_bulkhead_available_concurrent_calls
workers own 0 limit tomcat_threads_config_max(_threads)?|jetty_threads_config_max|executor_pool_max(_threads)?|resilience4j_bulkhead_max_allowed_concurrent_calls|phpfpm_max_children
other own 0 gauge tomcat_threads_current(_threads)?|executor_pool_(size|core)(_threads)?|jetty_threads_(current|config_min)|phpfpm_total_processes|jvm_threads?_(daemon|peak|started).*
queue own + gauge executor_queued(_tasks)?|kafka_consumergroup_lag(_sum)?|kafka_consumer_(fetch_manager_)?(records_lag(_max|_avg)?|group_lag)|records_lag(_max)?|kafka_consumer_lag.*
queue own + gauge rabbitmq_queue_messages(_ready|_unacked|_unacknowledged)?|approximate_?number_?of_?messages_?(visible|not_?visible|delayed)?
queue own + gauge celery_queue_length|celery_active_tasks|phpfpm_listen_queue(_length)?|dotnet_thread_?pool_queue_(length|num_items)|process_runtime_dotnet_thread_pool_queue_length
queue own + gauge haproxy_(backend|server)_current_queue|envoy_cluster_upstream_rq_pending_active|dotnet_threadpool_queue_length|nginx_ingress_.*queue.*|burrow_kafka_.*lag|kafka_burrow_.*
queue own - free executor_queue_remaining(_tasks)?|resilience4j_thread_pool_bulkhead_queue_capacity
cpu own + counter process_cpu_seconds|container_cpu_usage_seconds|process_cpu_time(_seconds|_ns)?|container_cpu_(user|system)_seconds|jvm_cpu_time_seconds|process_cpu_(user|system)_seconds
cpu own + gauge process_cpu_usage|process_cpu_utilization.*|system_cpu_usage|system_load_average_1m|node_load1|jvm_cpu_recent_utilization.*|process_runtime_jvm_cpu_utilization.*|system_cpu_load_average_1m
cpu own + gauge node_namespace_pod_container_container_cpu_usage_seconds_total_.*|cpu_?utilization|node_load(5|15)
cpu own 0 counter node_cpu_seconds
other own 0 gauge system_cpu_count|jvm_cpu_count|machine_cpu_cores
cpu own 0 limit container_spec_cpu_quota|kube_pod_container_resource_limits_cpu_cores
throttling own + gauge resilience4j_ratelimiter_waiting_threads
throttling own - gauge resilience4j_ratelimiter_available_permissions
errors outbound + gauge resilience4j_circuitbreaker_state
requests outbound 0 counter resilience4j_timelimiter_calls
other own 0 gauge resilience4j_circuitbreaker_(buffered_calls|.*_threshold)|agroal_(max_used|acquire|creation|destroy|flush|invalid|leak|reap)_count
pool own + gauge agroal_(active|awaiting)_count
pool own - gauge agroal_available_count
throttling own + counter container_cpu_cfs_throttled_(periods|seconds)|container_cpu_throttled_.*|provisioned_throughput_exceeded.*
skip own 0 skip container_cpu_cfs_periods
memory own + gauge container_memory_(working_set_bytes|rss|usage_bytes)|process_resident_memory_bytes|jvm_memory_(used|usage)(_bytes)?|nodejs_heap_size_used_bytes|go_memstats_(heap_inuse|alloc)_bytes
memory own + gauge jvm_memory_(bytes_used|pool_bytes_used)|process_runtime_jvm_memory_usage(_bytes)?|dotnet_total_memory_bytes|process_working_set_bytes|redis_memory_used_bytes|process_memory_rss_bytes|memory_?utilization
memory own - gauge node_memory_memavailable_bytes|freeable_?memory|system_memory_available.*
memory own 0 limit container_spec_memory_limit_bytes|jvm_memory_(max|limit)(_bytes)?|jvm_memory_bytes_max|process_runtime_jvm_memory_limit(_bytes)?|redis_memory_max_bytes|kube_pod_container_resource_limits_memory_bytes
memory own 0 limit node_memory_memtotal_bytes
other own 0 gauge jvm_memory_(committed|init|usage_after_gc).*|jvm_memory_bytes_(committed|init)|jvm_classes_.*|jvm_class_.*|process_virtual_memory.*|container_memory_(cache|swap|mapped_file|max_usage_bytes)
memory own + counter container_oom_events|node_vmstat_oom_kill|container_memory_failcnt
skip own 0 skip kube_pod_container_resource_requests.*
other own 0 gauge nodejs_(heap_size_total|external_memory)_bytes|nodejs_heap_space_.*
disk own - free node_filesystem_(avail|free)_bytes|kubelet_volume_stats_available_bytes|disk_free_bytes|free_?storage_?space|node_filesystem_files_free
disk own + gauge kubelet_volume_stats_used_bytes|container_fs_usage_bytes|pg_database_size_bytes
disk own 0 limit node_filesystem_size_bytes|kubelet_volume_stats_capacity_bytes|disk_total_bytes|container_fs_limit_bytes|node_filesystem_files
disk own + counter node_disk_io_time_seconds|node_disk_io_time_weighted_seconds|container_fs_io_time_seconds
disk own 0 counter container_fs_(reads|writes)(_bytes)?|node_disk_(read|written)_bytes|node_disk_(reads|writes)_completed
restarts own + counter kube_pod_container_status_restarts|container_restarts|container_restart_count|pm2_restarts|kube_pod_container_status_last_terminated_.*
restarts own + gauge kube_pod_container_status_(terminated|waiting)_reason|container_restart_count|k8s_container_restarts|kube_pod_container_status_last_terminated_reason
other own 0 gauge process_start_time_seconds|process_uptime_seconds|jvm_uptime_seconds|application_(started|ready)_time_seconds|kube_pod_start_time|container_start_time_seconds
availability own - gauge up|probe_success|pg_up|mysql_up|redis_up|phpfpm_up|haproxy_(backend|server)_up|nginx_up|kafka_up|rabbitmq_up|kube_pod_status_ready|kube_pod_container_status_ready|health_?check_?status
availability inbound - gauge availability|(un)?healthy_?host_?count|success_rate|slo_availability
availability outbound - gauge envoy_cluster_membership_healthy|haproxy_backend_active_servers|traefik_service_server_up
availability outbound 0 limit envoy_cluster_membership_total
replicas own - gauge kube_(deployment|statefulset|replicaset|daemonset)_status_(replicas_)?(available|ready|number_available|number_ready)(_replicas)?|kube_statefulset_status_replicas_ready
replicas own + gauge kube_deployment_status_replicas_unavailable|kube_daemonset_status_number_unavailable|kube_(horizontalpodautoscaler|hpa)_status_current_replicas
replicas own 0 gauge kube_(deployment|statefulset|replicaset)_(spec|status)_replicas(_updated)?|kube_(horizontalpodautoscaler|hpa)_(status_desired|spec_min)_replicas|kube_pod_status_phase|kube_statefulset_replicas
replicas own 0 limit kube_(horizontalpodautoscaler|hpa)_spec_max_replicas
cache own - hit redis_keyspace_hits|cache_hits|pg_stat_database_blks_hit|memcached_.*hits
cache own + miss redis_keyspace_misses|cache_miss(es)?|pg_stat_database_blks_read
cache own - counter cache_gets
cache own + counter cache_evictions(_weight)?|redis_evicted_keys|guava_cache_eviction.*|caffeine_cache_eviction.*
cache own 0 gauge cache_size|redis_db_keys|caffeine_cache_estimated_size
gc own + timer jvm_gc_(pause|collection|duration|concurrent_phase_time)_seconds|jvm_gc_pause|process_runtime_jvm_gc_duration(_milliseconds|_seconds)?|nodejs_gc_duration_seconds|go_gc_duration_seconds
gc own + counter dotnet_collection_count|dotnet_gc_.*|python_gc_collections|java_lang_garbagecollector_collectiontime|jvm_gc_time_ms|base_gc_(time|total).*|process_runtime_dotnet_gc_.*
gc own + gauge jvm_gc_overhead(_percent)?|java_lang_garbagecollector_collection(time|count)
other own 0 gauge jvm_gc_(live_data_size|max_data_size|memory_.*).*|go_memstats_.*|go_gc_gogc_percent|go_gc_gomemlimit_bytes|go_threads|go_sched_.*|python_gc_objects_.*|python_info
skip own 0 skip promhttp_.*|prometheus_.*|scrape_.*|process_network_.*|jvm_compilation_.*
"""

_SIGN = {"+": 1, "-": -1, "0": 0}
_Rule = tuple[re.Pattern[str], Aspect, str, int, str]


def _read_table() -> tuple[_Rule, ...]:
    rules: list[_Rule] = []
    for line in _KNOWN_TABLE.strip().splitlines():
        aspect, scope, worse, form, pattern = line.split(maxsplit=4)
        which = Aspect.OTHER if aspect == "skip" else Aspect(aspect)
        rules.append((re.compile(pattern), which, scope, _SIGN[worse], form))
    return tuple(rules)


_RULES = _read_table()
# One alternation answers "is this name in the table at all?": most names of a house's own making are not.
_ANY_RULE = re.compile("|".join(f"(?:{rule[0].pattern})" for rule in _RULES))

# Durations whose names carry no unit but whose exporters document milliseconds.
_MILLISECONDS = re.compile(
    r"http_(server|client)_duration|rpc_(server|client)_duration|duration|latency|envoy_.*_time|kafka_.*_latency(_avg|_max)?"
    r"|kafka_.*_time_(avg|max)|process_runtime_jvm_gc_duration|java_lang_garbagecollector_collectiontime|gunicorn_request_duration"
)


@lru_cache(maxsize=16384)
def _words_of(name: str) -> tuple[str, ...]:
    found = (w.lower() for w in _SPLIT.split(_CAMEL.sub("_", name)) if w)
    return tuple(_RECORDED.sub(r"\1", w) for w in found)


def _part_of(words: tuple[str, ...], time_like: bool) -> str:
    """Return which part of a metric family a name is, by its last word."""
    if not words:
        return ""
    last = words[-1]
    if _QUANTILE.fullmatch(last) or (len(words) > 1 and _QUANTILE.fullmatch(words[-2] + last)):
        return "quantile"
    part = _PARTS.get(last, "")
    if part in ("max", "min", "mean") and not time_like:
        return part if part == "mean" else ""
    if not part and time_like and len(words) > 1 and words[-1] in _UNITS:
        part = {"avg": "mean", "average": "mean", "mean": "mean", "max": "max"}.get(words[-2], "")
        return part or ("quantile" if _QUANTILE.fullmatch(words[-2]) else "")
    return part


@lru_cache(maxsize=16384)
def _kind_of(name: str) -> _Kind:
    """Return what a metric name means: exact names first, then its words."""
    words = _words_of(name)
    lowered = "_".join(words) if re.search(r"[A-Z.:\-/ ]", name) else name.lower()
    if words[:1] == ("aws",):  # CloudWatch's statistic closes the name: a figure of one period, never a counter
        lowered = re.sub(r"([1-5])_xx", r"\1xx", re.sub(r"_(sum|average|maximum|minimum|sample_count)$", "", lowered))
        lowered = re.sub(r"^aws_[a-z0-9]+_", "", lowered)
        words = ("aws", *_words_of(lowered))
    held = frozenset(words)
    # How old each message was as it was handled is a duration; how old one thing is now is none.
    handled = {"age"} if lowered.endswith(("_sum", "_count")) else set()
    time_like = bool(held & _TIME) and not held & (_NO_DURATION - handled) and "per" not in held  # per second is a rate
    part = _part_of(words, time_like)
    base = lowered[: -len(words[-1]) - 1] if part and words and lowered.endswith("_" + words[-1]) else lowered
    factor, unit = _unit(words)
    for text in dict.fromkeys((lowered, base)):
        if _ANY_RULE.fullmatch(text) is None:
            continue
        for pattern, aspect, scope, worse, form in _RULES:
            if pattern.fullmatch(text) is not None:
                known_part = part if text == base or form == "timer" else ("" if form != "counter" else part)
                known_base = base if known_part else lowered
                if form == "timer" and not unit and part in ("sum", "count") and _MILLISECONDS.fullmatch(base):
                    factor, unit = 1e-3, "seconds"
                cumulative = None if form in ("counter", "hit", "miss") else False
                if part in ("total", "sum", "count") and form in ("counter", "hit", "miss", "timer", "skip"):
                    cumulative = True
                if part == "total" and aspect is Aspect.OTHER and form == "gauge":
                    form, cumulative = "counter", True
                return _Kind(aspect, scope, worse, form, known_part, known_base, words, factor, unit, True, cumulative)
    return _kind_by_words(name, lowered, words, held, time_like, part, base, factor, unit)


def _unit(words: tuple[str, ...]) -> tuple[float, str]:
    if "per" in words:
        return 1.0, ""
    for word in reversed(words):
        if word in _UNITS:
            return _UNITS[word], "seconds"
    if "bytes" in words or "byte" in words:
        return 1.0, "bytes"
    if any(w in ("percent", "percentage", "pct") for w in words):
        return 0.01, "share"
    if any(w in ("ratio", "share", "utilization", "utilisation", "fraction") for w in words):
        return 1.0, "share"
    return 1.0, ""


def _kind_by_words(
    name: str,
    lowered: str,
    words: tuple[str, ...],
    held: frozenset[str],
    time_like: bool,
    part: str,
    base: str,
    factor: float,
    unit: str,
) -> _Kind:
    counter = words[:1] != ("aws",) and (part in ("total", "sum") or (part == "count" and not held & _GAUGE_COUNTS))
    cumulative: bool | None = None if part == "count" else counter
    if "exporter" in held and held & {"build", "scrape", "scrapes"}:
        return _Kind(Aspect.OTHER, OWN, 0, "skip", part, base, words, factor, unit)
    if lowered.endswith(("_bucket", "_created", "_info")) and not lowered.endswith("sessions_created"):
        return _Kind(Aspect.OTHER, OWN, 0, "skip", part, base, words, factor, unit)
    aspect, scope, worse = _aspect_by_words(name, held, words, time_like, counter or part == "count")
    form = "counter" if counter else "gauge"
    if aspect in (Aspect.LATENCY, Aspect.GC) or (time_like and part in ("sum", "count", "max", "quantile", "mean")):
        form = "timer" if time_like and not (counter and part == "total") else form
        if form == "timer" and part == "count":
            cumulative = True
    elif (
        held & {"max", "maximum", "limit", "limits", "capacity", "quota", "maxclients"}
        and form == "gauge"
        and not held & {"limited", "exceeded", "throttled", "rejected"}  # how often a limit was met is no limit
    ):
        form, worse = "limit", 0
    elif aspect in (Aspect.POOL, Aspect.WORKERS) and words[-1:] == ("size",) and form == "gauge":
        form, worse = "limit", 0  # how many there are, of which some are in use
    elif held & {"remaining", "free"} and form == "gauge" and aspect is not Aspect.OTHER:
        form, worse = "free", -1
    elif aspect is Aspect.CACHE and form == "counter" and held & {"hit", "hits", "miss", "misses"}:
        form, worse = ("hit", -1) if held & {"hit", "hits"} else ("miss", 1)
    if (
        form == "gauge"
        and not part
        and aspect in (Aspect.REQUESTS, Aspect.ERRORS, Aspect.RETRIES)
        and not held & _SHARE
    ):
        cumulative = None  # many exporters count without saying so in the name
    return _Kind(aspect, scope, worse, form, part, base, words, factor, unit, False, cumulative)


def _aspect_by_words(
    name: str, held: frozenset[str], words: tuple[str, ...], time_like: bool, counts: bool
) -> tuple[Aspect, str, int]:
    """Return aspect, scope and worse by words; the order is the meaning: an error of a cache is an error."""
    calls = OUTBOUND if is_outbound("_".join(words), {}) else ""
    if "gc" in held or "garbage" in held:
        return Aspect.GC, OWN, 1
    if held & {"restart", "restarts", "restarted", "crashloop"}:
        return Aspect.RESTARTS, OWN, 1
    if (
        held & {"throttled", "throttling", "throttle", "throttles", "ratelimit", "ratelimited"}
        or {"rate", "limited"} <= held
    ):
        return Aspect.THROTTLING, OWN, 1
    if held & {"4xx", "3xx", "2xx", "1xx"}:
        return Aspect.OTHER, OWN, 0
    if held & _RETRY and not time_like:
        return Aspect.RETRIES, OUTBOUND, 1
    if "cpu" in held:
        return Aspect.CPU, OWN, 1
    if time_like:
        return _time_by_words(held, calls)
    if held & {"replica", "replicas"}:
        return Aspect.REPLICAS, OWN, -1 if held & {"available", "ready"} else int("unavailable" in held)
    if held & {"circuit", "circuitbreaker"}:
        return (Aspect.ERRORS, OUTBOUND, 1) if held & (_ERROR | {"open", "opened", "trips"}) else (Aspect.OTHER, OWN, 0)
    if held & _ERROR:
        if held & _POOL and held & {"timeout", "timeouts"}:
            return Aspect.POOL, OWN, 1
        if held & (_WORKERS | {"pool"}) and held & {"rejected", "rejections", "rejects"}:
            return Aspect.WORKERS, OWN, 1
        return Aspect.ERRORS, calls or (OWN if held & {"log", "logs", "job", "cron", "network"} else INBOUND), 1
    return _state_by_words(held, words, calls, counts)


def _time_by_words(held: frozenset[str], calls: str) -> tuple[Aspect, str, int]:
    if held & _POOL and held & {"acquire", "acquisition", "wait", "waiting", "pending", "blocked", "borrow"}:
        return Aspect.POOL, OWN, 1
    if held & _DISK or held & {"fsync", "io"}:
        return Aspect.DISK, OWN, 1
    if held & {"queue", "queued", "lag", "backlog", "oldest", "waiting", "wait"} - (
        {"lag"} if "eventloop" in held else set()
    ):
        return Aspect.QUEUE, OWN, 1
    if "eventloop" in held or {"event", "loop"} <= held:
        return Aspect.WORKERS, OWN, 1
    if held & _CACHE:
        return Aspect.CACHE, OWN, 1
    if held & {"idle", "sleep", "blocked", "paused", "compile", "compilation", "loading"}:
        return Aspect.OTHER, OWN, 0
    if held & {"cron", "scheduled", "scheduler", "batch", "backup", "reload", "sync", "reconcile"}:
        return Aspect.LATENCY, OWN, 1
    return Aspect.LATENCY, calls or INBOUND, 1


def _state_by_words(held: frozenset[str], words: tuple[str, ...], calls: str, counts: bool) -> tuple[Aspect, str, int]:
    last = words[-1] if words else ""
    if held & _CACHE:
        return (
            Aspect.CACHE,
            OWN,
            -1 if held & {"hit", "hits"} else int(bool(held & {"miss", "misses", "evictions", "evicted"})),
        )
    if held & {"inflight"} or {"in", "flight"} <= held or {"in", "progress"} <= held or {"active", "requests"} <= held:
        return Aspect.WORKERS, OWN, 1
    if held & _QUEUE - {"scheduled"} and not counts and not (held & {"visible"} and not held & {"messages", "message"}):
        return (Aspect.POOL if held & _POOL and not held & {"queue", "queued"} else Aspect.QUEUE), OWN, 1
    if held & _DISK:
        return Aspect.DISK, OWN, -1 if held & {"free", "available", "avail"} else int(not counts)
    if held & (_MEMORY - {"buffer", "buffers"}) and not counts:
        return Aspect.MEMORY, OWN, -1 if held & {"free", "freeable", "available"} else 1
    if held & _WORKERS and not counts:
        return Aspect.WORKERS, OWN, -1 if held & {"idle", "available", "free"} else 1
    if held & _POOL and not counts:
        if held & {"session", "sessions"} and not held & {"pool", "db"}:
            return Aspect.OTHER, OWN, 0  # people's sessions, not connections
        return Aspect.POOL, OWN, -1 if held & {"idle", "available", "free"} else 1
    if held & {"availability", "healthy", "health", "alive", "reachable"} or last in ("up", "ready"):
        return Aspect.AVAILABILITY, INBOUND if "availability" in held else OWN, 1 if "unhealthy" in held else -1
    if "unhealthy" in held:
        return Aspect.AVAILABILITY, OWN, 1
    if {"success", "rate"} <= held or {"success", "ratio"} <= held:
        return Aspect.AVAILABILITY, calls or INBOUND, -1
    if "apdex" in held:
        return Aspect.AVAILABILITY, calls or INBOUND, -1
    if held & {"bytes", "size"}:
        return Aspect.OTHER, OWN, 0  # how large requests are, not how many
    if held & {"saturation", "busyness"} or held <= {"utilization", "utilisation", "app", "service"}:
        return Aspect.WORKERS, OWN, 1
    if held & _REQUEST and (counts or last in _REQUEST | {"rate", "count", "sec"} or "per" in held):
        return Aspect.REQUESTS, calls or INBOUND, 0
    return Aspect.OTHER, OWN, 0


# --- labels ------------------------------------------------------------------------------------------------------------

_REPLICA_LABELS = frozenset(
    "pod instance pod_name kubernetes_pod_name hostname service_instance_id replica task_id host_name k8s_pod_name"
    " container_id id_of_container pid worker_pid worker_id"
    " partition node_id consumer_id member_id member_host".split()
)
_PLACE_LABELS = frozenset(
    "job service namespace application app node image uid endpoint cluster region zone environment env exporter prometheus"
    " team component otel_scope_name otel_scope_version telemetry_sdk_language telemetry_sdk_name service_name"
    " service_namespace service_version deployment_environment kubernetes_namespace version build revision release"
    " pod_template_hash connection_security_policy source_principal destination_principal source_version destination_version"
    " source_cluster destination_cluster source_namespace destination_namespace destination_service_namespace"
    " source_workload_namespace destination_workload_namespace source_canonical_revision destination_canonical_revision"
    " request_protocol response_flags reporter network_protocol_version network_protocol_name url_scheme http_scheme"
    " http_flavor server_port net_host_name net_host_port span_kind span_name le metrics_path statistic_period unit tls"
    " ecs_cluster direction kind_of_service host".split()
)
_ROUTE_LABELS = tuple(
    "uri route http_route handler path url_path endpoint_name view rpc_method grpc_method action controller"
    " operation span_name task task_name resource target".split()
)
_METHOD_LABELS = frozenset(
    "method http_method http_request_method grpc_service rpc_service rpc_system grpc_type verb".split()
)
_STATUS_LABELS = tuple(
    "http_response_status_code http_status_code status_code response_code http_status status code grpc_code"
    " grpc_status grpc_response_status rpc_grpc_status_code grpc_status_code status_class response_code_class"
    " envoy_response_code envoy_response_code_class outcome result classification success error error_type exception"
    " kind state".split()
)
_STATUS_SET = frozenset(_STATUS_LABELS) - {"kind", "state"}  # these two mostly tell kinds of thing apart
_GRPC_BAD = frozenset(
    "unavailable deadlineexceeded deadline_exceeded internal resourceexhausted resource_exhausted unknown dataloss"
    " data_loss".split()
)
_GRPC_BAD_NUMBERS = frozenset({2, 4, 8, 13, 14, 15})
_SERVICE_ERRORS = frozenset(
    {408, 429, 499}
)  # the service was too slow or refused for its own sake; other 4xx are the caller's
_BAD = frozenset(
    "fail failed failure failures error errors exception timeout timed_out timedout rejected unavailable fault aborted"
    " server_error status_code_error error_status ko nok crash crashed io_error connect_error unknown not_permitted dropped"
    " 5xx failed_with_retry failed_without_retry".split()
)
_GOOD = frozenset(
    "ok success succeeded successful completed client_error redirection informational status_code_unset status_code_ok unset"
    " 1xx 2xx 3xx 4xx none no accepted passed canceled cancelled ok_status successful_with_retry successful_without_retry"
    " notfound not_found invalidargument invalid_argument alreadyexists already_exists permissiondenied permission_denied"
    " unauthenticated failedprecondition failed_precondition outofrange aborted_by_client unimplemented".split()
)
_KUBE_KINDS = frozenset({"container", "resource"})


def is_error(labels: Mapping[str, str]) -> bool | None:
    """Return whether a series counts failed requests by its status labels; None where no label says anything.

    Client errors are the caller's, but for 408, 429 and 499: with these the service was too slow or had no room.
    """
    verdict: bool | None = None
    for label in _STATUS_LABELS:
        value = labels.get(label)
        if value is None:
            continue
        found = _status(label, value[:64].strip().lower())
        if found is not None and label not in (
            "error",
            "error_type",
            "exception",
            "outcome",
            "result",
            "classification",
        ):
            return found
        if found is not None and verdict is None:
            verdict = found
    return verdict


def is_refusal(labels: Mapping[str, str]) -> bool:
    """Return whether a series counts requests answered with a client error (4xx): mostly the caller's own, until many are."""
    values = [labels.get(label, "").strip().lower() for label in _STATUS_LABELS if label in labels]
    return any(re.fullmatch(r"4(\d\d|xx|\*\*)?|client_error", value) for value in values)


@lru_cache(maxsize=8192)
def _status(label: str, value: str) -> bool | None:
    if label == "success":
        return {"true": False, "1": False, "false": True, "0": True}.get(value)
    if label in ("error", "error_type", "exception"):
        return value not in ("", "none", "false", "0", "no", "null", "-")
    digits = re.fullmatch(r"(\d{1,3})(\.0)?", value)
    if digits is not None:
        number = int(digits.group(1))
        if "grpc" in label and number < 20:
            return number in _GRPC_BAD_NUMBERS
        if label.endswith("class"):
            return number == 5
        return number == 0 or number >= 500 or number in _SERVICE_ERRORS
    if value in _BAD or value in _GRPC_BAD:
        return True
    if value in _GOOD:
        return False
    if re.fullmatch(r"[1-5]\*\*|[1-5]xx", value):
        return value[0] == "5"
    return None


_POOL_NAME_LABELS = tuple(
    "pool pool_name db_client_connections_pool_name db_client_connection_pool_name name queue queue_name topic"
    " consumergroup db_name datname proxy cache client_id".split()
)


_STORES = ("pg_", "mysql_", "redis_", "mongodb_", "memcached_", "elasticsearch_")


@dataclass(slots=True)
class _Row:
    """One series with what its name and labels mean; ``number`` is its row in the matrix."""

    series: Series
    number: int
    kind: _Kind
    labels: dict[str, str]
    replica: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    scope: str
    peer: str
    route: str
    failed: bool | None
    aspect: Aspect
    worse: int
    form: str
    part: str


def _row(s: Series, number: int, own: str) -> _Row | None:
    kind = _kind_of(s.name[:_NAME_MAX])
    if kind.form == "skip" and "cfs_periods" not in kind.base:
        return None
    labels = dict(s.labels)
    aspect, scope, worse, form, part = kind.aspect, kind.scope, kind.worse, kind.form, kind.part
    quantile = labels.get("quantile") or labels.get("percentile") or labels.get("statistic") or labels.get("stat") or ""
    if quantile and form in ("timer", "gauge"):
        part = {"Average": "mean", "Maximum": "max", "average": "mean", "max": "max"}.get(quantile, "quantile")
    aspect, worse, form = _by_labels(kind, labels, aspect, worse, form)
    if form == "skip" and kind.form != "skip":
        return None
    failed = is_error(labels)
    if aspect is Aspect.ERRORS and failed is False:
        aspect, worse = Aspect.OTHER, 0  # the label says that it was the caller's mistake, or none
    peer, scope = _peer_and_scope(s.name, labels, aspect, scope, own)
    if aspect is Aspect.LATENCY and kind.base.startswith(_STORES):
        scope = OUTBOUND  # what an exporter beside the service says of its store is not what the service answers
    if scope == _FOREIGN:
        return None
    return _Row(
        s, number, kind, labels, tuple(labels[r] for r in sorted(labels.keys() & _REPLICA_LABELS)),
        _kind_labels(s.name, labels, aspect), scope, peer, _route(labels), is_error(labels), aspect, worse, form, part,
    )  # fmt: skip


_STATE_LABELS = ("state", "db_client_connection_state", "db_client_connections_state")


def _by_labels(
    kind: _Kind, labels: Mapping[str, str], aspect: Aspect, worse: int, form: str
) -> tuple[Aspect, int, str]:
    """Return aspect, worse and form where a label decides: the same name with another label is another thing."""
    state = next((labels[label].lower() for label in _STATE_LABELS if label in labels), "")
    if aspect is Aspect.ERRORS and "level" in labels and not kind.words[-1:] == ("rate",):
        bad = labels["level"].lower() in ("error", "fatal", "critical", "severe", "err")
        return (Aspect.ERRORS, 1, form) if bad else (Aspect.OTHER, 0, form)
    if aspect is Aspect.POOL and state in ("idle", "free", "available"):
        return aspect, -1, form
    if kind.base == "resilience4j_circuitbreaker_state" and state not in ("open", "half_open", "forced_open"):
        return Aspect.OTHER, 0, form
    if kind.base.startswith("jvm_thread") and state and state != "blocked":
        return aspect, 0, form  # only blocked threads are trouble by themselves
    if kind.base == "node_cpu_seconds":
        return aspect, 1, "skip" if labels.get("mode") in ("idle", "iowait") else form
    if kind.base.startswith("cache_gets") and labels.get("result"):
        return (aspect, -1, "hit") if labels["result"].lower().startswith("hit") else (aspect, 1, "miss")
    if kind.base.startswith("kube_pod_container_resource_limits"):
        resource = labels.get("resource", "memory" if "memory" in kind.words else "cpu")
        if resource in ("memory", "cpu"):
            return (Aspect.MEMORY if resource == "memory" else Aspect.CPU), 0, "limit"
        return Aspect.OTHER, 0, "skip"
    if kind.base.startswith("resilience4j_retry") and labels.get("kind", "").startswith(
        ("successful_without", "failed_without")
    ):
        return Aspect.OTHER, 0, form
    if kind.base.startswith(("kube_pod_status_ready", "kube_pod_container_status_ready")):
        return aspect, worse, "skip" if labels.get("condition", "true") != "true" else form
    return aspect, worse, form


def _peer_and_scope(name: str, labels: Mapping[str, str], aspect: Aspect, scope: str, own: str) -> tuple[str, str]:
    both = call_of(labels)
    if both is not None and aspect in (Aspect.LATENCY, Aspect.REQUESTS, Aspect.ERRORS, Aspect.RETRIES):
        caller, callee = both
        if own and own not in both:
            return "", _FOREIGN
        # Without an own name only a label can tell the side: "client" in a service graph's name is who measured.
        told = bool(labels.keys() & {"reporter", "direction", "span_kind"})
        outbound = caller == own if own else told and is_outbound(name, labels)
        return (callee, OUTBOUND) if outbound else (caller, INBOUND)
    if scope == "?" or (
        aspect in (Aspect.LATENCY, Aspect.REQUESTS, Aspect.ERRORS) and labels.keys() & {"span_kind", "direction"}
    ):
        scope = OUTBOUND if is_outbound(name, labels) else INBOUND
        if labels.get("envoy_cluster_name", "").startswith("inbound"):
            scope = INBOUND
    if scope == OUTBOUND:
        named = labels.get("name") or labels.get("pool") or labels.get("proxy") or ""
        return callee_of(name, labels) or named, scope
    if scope == INBOUND:
        return "", scope
    return next((labels[label] for label in _POOL_NAME_LABELS if labels.get(label)), ""), scope


def _route(labels: Mapping[str, str]) -> str:
    return next((f"{label}={labels[label]}" for label in _ROUTE_LABELS if labels.get(label)), "")


def _kind_labels(name: str, labels: Mapping[str, str], aspect: Aspect) -> tuple[tuple[str, str], ...]:
    kube = name.startswith(("container_", "kube_pod_container_"))
    jvm = aspect is Aspect.MEMORY and "jvm_memory" in name
    out = []
    for label, value in labels.items():
        if label in _REPLICA_LABELS or label in _METHOD_LABELS:
            continue
        if label in _STATUS_SET and not (aspect is Aspect.CACHE and label == "result"):
            continue
        if label in _PLACE_LABELS or (label in _KUBE_KINDS and not kube):
            continue
        if (jvm and label in ("id", "pool", "jvm_memory_pool_name")) or (kube and label in ("id", "name", "cpu")):
            continue  # parts of one memory; cgroup paths
        if aspect is Aspect.CPU and label in ("cpu", "mode"):
            continue
        out.append((label, value))
    return tuple(sorted(out))


# --- numbers -----------------------------------------------------------------------------------------------------------

_NAME_MAX = 300  # a longer name is none of any exporter; the words at its start tell enough
_HUGE = 2.0**62  # exporters write "no limit" as a number of this size, as -1, or as 0
_ROUTES_MAX = 20  # the busiest routes or peers of one family that get signals of their own
_SMOOTH_SECONDS = 75.0  # a rate is read over about five samples of the usual 15 s
_REFRESH_MAX = 12


def _place(group: Sequence[Series], numbers: Sequence[int], rows: int, start: float, step: float, size: int) -> Array:
    """Return a matrix, a row for each distinct series, on the grid; what falls beside the grid is left out."""
    lengths = np.fromiter((min(len(s.times), len(s.values)) for s in group), dtype=np.intp, count=len(group))
    even = all(len(s.times) == len(s.values) for s in group)
    stamps = (s.times if even else s.times[:n] for s, n in zip(group, lengths, strict=True))
    samples = (s.values if even else s.values[:n] for s, n in zip(group, lengths, strict=True))
    total = int(lengths.sum())
    times = np.fromiter(chain.from_iterable(stamps), dtype=np.float64, count=total)
    values = np.fromiter(chain.from_iterable(samples), dtype=np.float64, count=total)
    column = np.rint((times - start) / step)
    keep = (column >= 0) & (column < size) & np.isfinite(values)
    row = np.repeat(np.asarray(numbers, dtype=np.intp), lengths)
    matrix = np.full((rows, size), np.nan)
    matrix[row[keep], column[keep].astype(np.intp)] = values[keep]
    return matrix


def _rates(matrix: Array, step: float, replicas: Sequence[tuple[str, ...]]) -> Array:
    """Return per-second rates of counters, a row each: resets begin again at zero, a gap's growth is spread over the gap.

    A counter that appears when its process has long been scraped began at zero: the first failures of a day are not lost.
    """
    known = np.isfinite(matrix)
    columns = np.arange(matrix.shape[1])
    last = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    previous = np.hstack([np.full((matrix.shape[0], 1), -1, dtype=last.dtype), last[:, :-1]])
    before = np.take_along_axis(matrix, np.maximum(previous, 0), axis=1)
    delta = matrix - before
    delta = np.where(delta < 0, matrix, delta)
    out = np.where(known & (previous >= 0), delta / ((columns - previous) * step), np.nan)
    first = np.where(known.any(axis=1), known.argmax(axis=1), matrix.shape[1])
    earliest: dict[tuple[str, ...], int] = {}
    for replica, at in zip(replicas, first, strict=True):
        earliest[replica] = min(int(at), earliest.get(replica, int(matrix.shape[1])))
    for number, (replica, at) in enumerate(zip(replicas, first, strict=True)):
        if earliest[replica] < at < matrix.shape[1]:
            out[number, at] = matrix[number, at] / step
            out[number, earliest[replica] : at] = 0.0
    return np.where(out < 0, np.nan, out)


def _cumulative(matrix: Array) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which rows are counters by their values (often rising, falling only to begin again), and which cannot be."""
    known = np.isfinite(matrix)
    last = np.maximum.accumulate(np.where(known, np.arange(matrix.shape[1]), -1), axis=1)
    filled = np.take_along_axis(matrix, np.maximum(last, 0), axis=1)
    with np.errstate(all="ignore"):
        delta = np.diff(filled, axis=1)
        falls = (delta < 0) & (filled[:, 1:] > 0.5 * filled[:, :-1])
        rises = (delta > 0).sum(axis=1)
    enough = known.sum(axis=1) >= 8  # fewer samples rise by chance
    falling = np.asarray(falls.any(axis=1), dtype=np.bool_)
    rising = np.asarray(enough & ~falling & (rises >= 0.3 * known.sum(axis=1)), dtype=np.bool_)
    return rising, falling


def _refresh(matrix: Array) -> int:
    """Return how many grid steps lie between two scrapes: a counter that only moves at each third step is scraped there."""
    if matrix.size == 0:
        return 1
    with np.errstate(all="ignore"):
        pairs = np.isfinite(matrix[:, 1:]) & np.isfinite(matrix[:, :-1])
        moved = ((np.diff(matrix, axis=1) != 0) & pairs).sum(axis=1)
    busiest = int(moved.max(initial=0))
    if busiest < 4:
        return 1
    busy = moved >= 0.5 * busiest  # a counter of rare events does not show when it is scraped
    return int(np.clip(np.rint(np.min(pairs.sum(axis=1)[busy] / moved[busy])), 1, _REFRESH_MAX))


def _sum(block: Array) -> Array:
    if block.shape[0] == 1:
        return np.asarray(block[0], dtype=np.float64)
    known = np.isfinite(block)
    total = np.where(known, block, 0.0).sum(axis=0)
    return np.asarray(np.where(known.any(axis=0), total, np.nan), dtype=np.float64)


def _mean(block: Array) -> Array:
    if block.shape[0] == 1:
        return np.asarray(block[0], dtype=np.float64)
    count = np.isfinite(block).sum(axis=0)
    return np.asarray(np.where(count > 0, _sum(block) / np.maximum(count, 1), np.nan), dtype=np.float64)


def _largest(block: Array) -> Array:
    known = np.isfinite(block)
    top = np.where(known, block, -np.inf).max(axis=0)
    return np.asarray(np.where(known.any(axis=0), top, np.nan), dtype=np.float64)


def _ratio(top: Array, bottom: Array) -> Array:
    return np.asarray(np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan), dtype=np.float64)


def _carried(values: Array) -> Array:
    """Return a limit without gaps: it holds until it is seen to change, and before it was first seen."""
    known = np.flatnonzero(np.isfinite(values))
    if known.size == 0:
        return values
    at = np.searchsorted(known, np.arange(values.size), side="right") - 1
    return np.asarray(values[known[np.maximum(at, 0)]], dtype=np.float64)


# --- signals -----------------------------------------------------------------------------------------------------------


class _Reader:
    """Rows and numbers of one service while its signals are made; one use."""

    def __init__(self, rows: list[_Row], matrix: Array, step: float) -> None:
        self.rows = rows
        self.matrix = matrix
        self.out: list[AspectSignal] = []
        self.taken: set[int] = set()
        unsure = [r for r in rows if r.kind.cumulative is None]
        counting = {id(r) for r in rows if r.kind.cumulative and r.part != "quantile"}
        if unsure:
            rising, falling = _cumulative(matrix[[r.number for r in unsure]])
            # One name is one kind of metric: what is a counter for one label set is a counter for all.
            by_values = {r.series.name for r, yes in zip(unsure, rising, strict=True) if yes}
            refuted = {r.series.name for r, yes in zip(unsure, falling, strict=True) if yes}
            by_name = {r.series.name for r in unsure if r.form in ("counter", "hit", "miss")}
            names = (by_values | by_name) - refuted
            counting |= {
                id(r) for r in unsure if r.series.name in names and not r.labels.keys() & {"statistic", "stat"}
            }
        self.counters = counting
        counters = [r for r in rows if id(r) in counting]
        self.values = matrix.copy()
        window = _SMOOTH_SECONDS / step
        self.width = int(np.clip(np.rint(window) if np.isfinite(window) else 1, 1, 5))
        if counters:
            numbers = [r.number for r in counters]
            raw = matrix[numbers]
            refresh = _refresh(raw)
            self.width = -(-self.width // refresh) * refresh  # whole scrapes, or the mean flickers
            self.values[numbers] = _rates(raw, step, [r.replica for r in counters])

    # -- small helpers

    def rate(self, group: Sequence[_Row]) -> Array:
        return smooth(_sum(self.values[[r.number for r in group]]), self.width)

    def emit(
        self, group: Sequence[_Row], aspect: Aspect, values: Array, key: str, unit: str, rank: int = 0,
        scope: str | None = None, peer: str | None = None, worse: int | None = None,
    ) -> None:  # fmt: skip
        clean = np.where(np.isfinite(values), values, np.nan)
        if not np.isfinite(clean).any():
            return
        one = group[0]
        self.out.append(
            AspectSignal(
                aspect, key, tuple(sorted({r.series.name for r in group})), np.asarray(clean, dtype=np.float64),
                one.worse if worse is None else worse, one.scope if scope is None else scope,
                one.peer if peer is None else peer, unit, tuple(r.series for r in group), rank,
            )
        )  # fmt: skip

    # -- requests: latency, traffic, errors of one family

    def read(self) -> None:
        timers: dict[tuple[str, str], list[_Row]] = defaultdict(list)
        counters: dict[tuple[str, str], list[_Row]] = defaultdict(list)
        others: list[_Row] = []
        for r in self.rows:
            counted = id(r) in self.counters
            if r.form == "timer" and r.part in ("sum", "count") and counted:
                timers[(r.kind.base, r.scope)].append(r)
            elif counted and r.aspect is Aspect.REQUESTS:
                counters[(r.series.name, r.scope)].append(r)
            else:
                others.append(r)
        self._timers(timers)
        self._request_counters(counters)
        self._rest(others)

    def _timers(self, timers: dict[tuple[str, str], list[_Row]]) -> None:
        for (base, scope), group in timers.items():
            sums = [r for r in group if r.part == "sum"]
            counts = [r for r in group if r.part == "count"]
            if group[0].aspect is Aspect.LATENCY:
                self._family(base, scope, sums, counts)
            elif group[0].aspect is Aspect.GC:
                for kinds in {r.kinds for r in sums}:
                    part = [r for r in sums if r.kinds == kinds]
                    self.emit(
                        part, Aspect.GC, self.rate(part) * part[0].kind.factor, _key(part[0]), "seconds per second", -1
                    )
                if sums:
                    self.emit(
                        sums,
                        Aspect.GC,
                        self.rate(sums) * sums[0].kind.factor,
                        sums[0].series.name,
                        "seconds per second",
                        2,
                    )
                elif counts:
                    self.emit(counts, Aspect.GC, self.rate(counts), counts[0].series.name, "per second", 1)
            else:
                self._waits(sums, counts)

    def _waits(self, sums: list[_Row], counts: list[_Row]) -> None:
        """Emit the mean time of what is no request: waiting for a pool, lying in a queue, loading a cache."""
        by_kind: dict[tuple[tuple[str, str], ...], tuple[list[_Row], list[_Row]]] = defaultdict(lambda: ([], []))
        for side, group in ((0, sums), (1, counts)):
            for r in group:
                by_kind[r.kinds][side].append(r)
        for top, bottom in by_kind.values():
            if top and bottom:
                mean = _ratio(self.rate(top), self.rate(bottom)) * top[0].kind.factor
                self.emit([*top, *bottom], top[0].aspect, mean, _key(top[0], top[0].kind.base), top[0].kind.unit, 1)
            elif bottom:
                self.emit(bottom, bottom[0].aspect, self.rate(bottom), _key(bottom[0]), "per second")

    def _family(self, base: str, scope: str, sums: list[_Row], counts: list[_Row]) -> None:
        """Emit latency, traffic and error share of one timer: as a whole, then by peer and by route."""
        sums, counts = _one_reporter(sums), _one_reporter(counts)
        rank = self._rank((sums or counts)[0])
        self._latency(sums, counts, base, rank)
        if counts:
            self._traffic(counts, counts[0].series.name, rank)
        for label, top, bottom in self._parts(sums, counts):
            self._latency(top, bottom, f"{base}{{{label}}}", -1)
            if bottom:
                self._traffic(bottom, f"{bottom[0].series.name}{{{label}}}", -1)

    def _rank(self, one: _Row) -> int:
        return (3 if one.kind.known else 2) - (
            1 if one.kind.base.startswith(("tomcat_global", "tomcat_servlet")) else 0
        )

    def _latency(self, sums: list[_Row], counts: list[_Row], key: str, rank: int) -> None:
        if not sums or not counts:
            return
        mean = _ratio(self.rate(sums), self.rate(counts)) * sums[0].kind.factor
        self.emit([*sums, *counts], Aspect.LATENCY, mean, key, sums[0].kind.unit, rank, peer=_peer(sums), worse=1)

    def _traffic(self, counts: list[_Row], key: str, rank: int) -> None:
        everything = self.rate(counts)
        peer = _peer(counts)
        self.emit(counts, Aspect.REQUESTS, everything, key, "per second", rank, peer=peer, worse=0)
        judged = [r.failed for r in counts]
        if any(verdict is not None for verdict in judged):
            bad = [r for r in counts if r.failed]
            failed = self.rate(bad) if bad else np.zeros_like(everything)
            failed = np.where(np.isfinite(failed), failed, 0.0)
            name = key[:-1] + ",errors}" if key.endswith("}") else key + "{errors}"
            shown = bad or counts
            self.emit(
                shown,
                Aspect.ERRORS,
                np.minimum(_ratio(failed, everything), 1.0),
                name,
                "share",
                rank,
                peer=peer,
                worse=1,
            )

        turned_away = [r for r in counts if r.failed is False and is_refusal(r.labels)]
        if turned_away and len(turned_away) < len(counts):
            share = np.minimum(_ratio(self.rate(turned_away), everything), 1.0)
            name = key[:-1] + ",refused}" if key.endswith("}") else key + "{refused}"
            self.emit(turned_away, Aspect.ERRORS, share, name, "share", -2, peer=peer, worse=1)

    def _parts(self, sums: list[_Row], counts: list[_Row]) -> list[tuple[str, list[_Row], list[_Row]]]:
        """Return the busiest peers and routes of a family where there are several, each with its own rows."""
        out: list[tuple[str, list[_Row], list[_Row]]] = []
        for what in ("peer", "route"):
            groups: dict[str, tuple[list[_Row], list[_Row]]] = defaultdict(lambda: ([], []))
            for side, rows in ((0, sums), (1, counts)):
                for r in rows:
                    name = f"peer={r.peer}" if what == "peer" and r.peer else (r.route if what == "route" else "")
                    if name:
                        groups[name][side].append(r)
            if len(groups) < 2:
                continue
            load = {name: self._growth(bottom or top) for name, (top, bottom) in groups.items()}
            for name in sorted(groups, key=lambda n: (-load[n], n))[:_ROUTES_MAX]:
                out.append((name, *groups[name]))
        return out

    def _growth(self, rows: list[_Row]) -> float:
        block = self.values[[r.number for r in rows]]
        total = float(np.where(np.isfinite(block), block, 0.0).sum())
        return total if np.isfinite(total) else 0.0

    def _request_counters(self, counters: dict[tuple[str, str], list[_Row]]) -> None:
        for (name, _scope), group in counters.items():
            group = _one_reporter(group)
            rank = self._rank(group[0])
            self._traffic(group, name, rank)
            for label, _top, bottom in self._parts([], group):
                self._traffic(bottom, f"{name}{{{label}}}", -1)

    # -- everything else

    def _rest(self, rows: list[_Row]) -> None:
        limits = [r for r in rows if r.form == "limit"]
        self.limits: dict[frozenset[str], dict[tuple[tuple[str, str], ...], list[_Row]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for r in limits:
            self.limits[_stem(r)][r.kinds].append(r)
        totals = self._totals()
        groups: dict[tuple[str, str, Aspect, str, tuple[tuple[str, str], ...], str], list[_Row]] = defaultdict(list)
        for r in rows:
            kinds = () if r.aspect in (Aspect.ERRORS, Aspect.RETRIES) and id(r) in self.counters else r.kinds
            groups[(r.series.name, r.form, r.aspect, r.scope, kinds, r.peer)].append(r)
        hits: dict[frozenset[str], dict[str, list[_Row]]] = defaultdict(lambda: defaultdict(list))
        for (_name, form, _aspect, _scope, kinds, _peer_name), group in groups.items():
            group = _whole_containers(group, rows)
            if not group:
                continue
            if form in ("hit", "miss"):
                side = hits[frozenset(group[0].kind.words) - {"hit", "hits", "miss", "misses", "blks", "read"}]
                side[form] += group
            if form == "skip":
                continue
            if id(group[0]) in self.counters:
                self._counter(group, kinds, totals)
            elif form == "timer" or group[0].aspect is Aspect.LATENCY:
                self._time_gauge(group, kinds)
            else:
                self._gauge(group, kinds)
        for sides in hits.values():
            self._hit_share(sides)
        self._throttled(rows)

    def _totals(self) -> dict[tuple[frozenset[str], str], AspectSignal]:
        """Return the traffic of whole families by what they are about, for shares and means of counters that stand alone."""
        found: dict[tuple[frozenset[str], str], AspectSignal] = {}
        for signal in self.out:
            if signal.aspect is Aspect.REQUESTS and signal.rank >= 0:
                for scope in (signal.scope, ""):
                    found.setdefault((_about(_words_of(signal.names[0][:_NAME_MAX])), scope), signal)
        return found

    def _counter(
        self,
        group: list[_Row],
        kinds: tuple[tuple[str, str], ...],
        totals: dict[tuple[frozenset[str], str], AspectSignal],
    ) -> None:
        one = group[0]
        values = self.rate(group) * (one.kind.factor if one.kind.unit == "seconds" else 1.0)
        key = _key_of(one.series.name, kinds)
        about = _about(one.kind.words)
        whole = totals.get((about, one.scope)) or (totals.get((about, "")) if one.scope != OWN else None)
        if one.aspect is Aspect.ERRORS and whole is not None and one.scope != OWN and about is not None:
            share = np.minimum(_ratio(np.where(np.isfinite(values), values, 0.0), whole.values), 1.0)
            rank = 2 if not one.kind.known else 3
            self.emit(group, Aspect.ERRORS, share, key, "share", rank)
        elif one.aspect is Aspect.LATENCY and whole is not None:
            self.emit([*group], Aspect.LATENCY, _ratio(values, whole.values), key, "seconds", 1)
        elif one.aspect is Aspect.LATENCY:
            self.emit(group, Aspect.OTHER, values, key, "per second", worse=0)
        elif one.aspect is Aspect.CPU:
            self._shared(group, values, key, "cores")
        else:
            unit = "seconds per second" if one.kind.unit == "seconds" else "per second"
            self.emit(group, one.aspect, values, key, unit, 1 if one.kind.known else 0)

    def _time_gauge(self, group: list[_Row], kinds: tuple[tuple[str, str], ...]) -> None:
        one = group[0]
        block = self.values[[r.number for r in group]]
        values = (_largest(block) if one.part == "max" else _mean(block)) * one.kind.factor
        values = np.where(values < 0, np.nan, values)
        detail = (
            bool(set(dict(kinds)) - {"quantile", "percentile", "statistic", "stat"}) and one.aspect is Aspect.LATENCY
        )
        self.emit(group, one.aspect, values, _key_of(one.series.name, kinds), one.kind.unit, -1 if detail else 0)

    def _gauge(self, group: list[_Row], kinds: tuple[tuple[str, str], ...]) -> None:
        one = group[0]
        block = self.values[[r.number for r in group]]
        key = _key_of(one.series.name, kinds)
        rank = _gauge_rank(one)
        averaged = set(one.kind.words) & {"rate", "avg", "average", "mean"} and one.aspect is not Aspect.REQUESTS
        if one.form == "limit":
            self.emit(group, Aspect.OTHER, _sum(_without_no_limit(block)), key, "limit", -1, worse=0)
        elif one.aspect is Aspect.MEMORY and one.kind.unit != "share":
            self._shared(group, _by_replica(group, np.where(block < 0, np.nan, block)), key, one.kind.unit)
        elif one.kind.unit == "share" or {"availability", "success"} & set(one.kind.words):
            self.emit(group, one.aspect, _as_share(_mean(block), one.kind.factor), key, "share", rank)
        elif one.aspect is Aspect.AVAILABILITY:
            mean = _mean(block)
            self._shared(group, mean, key, "share" if not np.any(mean > 1.0) else "")
        elif averaged or one.aspect is Aspect.CPU:
            self.emit(group, one.aspect, _mean(block) * one.kind.factor, key, one.kind.unit, rank)
        elif one.aspect is Aspect.OTHER or one.kind.unit == "seconds":
            factor = one.kind.factor if one.kind.unit == "seconds" else 1.0
            self.emit(group, one.aspect, _sum(block) * factor, key, one.kind.unit, rank)
        else:
            self._shared(group, _sum(block), key, one.kind.unit)

    def _shared(self, group: list[_Row], values: Array, key: str, unit: str) -> None:
        """Emit use as a share of its limit where one is exported, else as it is."""
        one = group[0]
        limit = self._limit(one)
        rank = _gauge_rank(one)
        if limit:
            block = _without_no_limit(self.values[[r.number for r in limit]])
            block = block * (1e-5 if limit[0].series.name == "container_spec_cpu_quota" else 1.0)  # period: 100 ms
            top = _carried(_by_replica(limit, block) if one.aspect is Aspect.MEMORY else _sum(block))
            if np.isfinite(top).any():
                self.emit([*group, *limit], one.aspect, _ratio(values, top), key, "share", rank + 1)
                return
        self.emit(group, one.aspect, values, key, unit, rank)

    def _limit(self, one: _Row) -> list[_Row]:
        """Return the limit of a use: that of the same kind (pool, container); none where several could be meant."""
        if one.worse < 0 and one.form != "free" and one.aspect is not Aspect.AVAILABILITY:
            return []
        kinds = {pair for pair in one.kinds if pair[0] not in _STATE_LABELS}
        for stem in (_stem(one), *(_stem_of(tuple(words)) for words in _IRREGULAR.get(one.kind.base, ()))):
            fits: dict[int, list[list[_Row]]] = defaultdict(list)
            for limit_kinds, rows in self.limits.get(stem, {}).items():
                named = {pair for pair in limit_kinds if pair[0] in dict(kinds)}
                if named <= kinds and rows[0].series.name != one.series.name:
                    fits[len(named)].append(rows)
            if fits and len(fits[max(fits)]) == 1:
                return fits[max(fits)][0]
        return []

    def _hit_share(self, sides: dict[str, list[_Row]]) -> None:
        hit, miss = sides.get("hit"), sides.get("miss")
        if not hit or not miss:
            return
        hits, misses = self.rate(hit), self.rate(miss)
        hits, misses = np.where(np.isfinite(hits), hits, 0.0), np.where(np.isfinite(misses), misses, 0.0)
        key = hit[0].series.name + "{hits}"
        self.emit([*hit, *miss], Aspect.CACHE, _ratio(hits, hits + misses), key, "share", 2, worse=-1)

    def _throttled(self, rows: list[_Row]) -> None:
        throttled = [r for r in rows if r.kind.base == "container_cpu_cfs_throttled_periods"]
        periods = [r for r in rows if r.kind.base == "container_cpu_cfs_periods"]
        if throttled and periods:
            share = _ratio(self.rate(throttled), self.rate(periods))
            key = throttled[0].series.name + "{share}"
            self.emit([*throttled, *periods], Aspect.THROTTLING, np.minimum(share, 1.0), key, "share", 2, worse=1)


# Words that say how a thing is counted, not what it is: without them a use and its limit, a failure and its total, meet.
_USE_WORDS = frozenset(
    "active used usage use busy current in inuse open opened size acquired live connected allocated running bytes count total"
    " number working set max maximum limit limits capacity config configured setting settings allowed quota pool available"
    " remaining free avail status spec hard gauge concurrent core".split()
)
_COUNT_WORDS = (
    _ERROR
    | _TIME
    | frozenset(
        "total count sum request requests req reqs rq call calls num number rate ratio duration of handled processed completed"
        " responses response processing share percent http server".split()
    )
)
# Uses and limits whose names share no words: base name of the use -> words of the limit.
_IRREGULAR: dict[str, tuple[frozenset[str], ...]] = {
    "pg_stat_activity": (frozenset({"pg", "connection"}),),
    "pg_stat_activity_count": (frozenset({"pg", "connection"}),),
    "pg_stat_database_numbackends": (frozenset({"pg", "connection"}),),
    "redis_connected_clients": (frozenset({"redis", "maxclient"}),),
    "mysql_global_status_threads_connected": (frozenset({"mysql", "global", "variable", "connection"}),),
    "container_memory_working_set_bytes": (frozenset({"kube-memory"}), frozenset({"container", "memory"})),
    "container_memory_usage_bytes": (frozenset({"kube-memory"}), frozenset({"container", "memory"})),
    "container_memory_rss": (frozenset({"kube-memory"}), frozenset({"container", "memory"})),
    "process_resident_memory_bytes": (frozenset({"kube-memory"}), frozenset({"container", "memory"})),
    "container_cpu_usage_seconds": (frozenset({"kube-cpu"}), frozenset({"container", "cpu"})),
    "process_cpu_seconds": (frozenset({"kube-cpu"}), frozenset({"container", "cpu"})),
    "node_memory_memavailable_bytes": (frozenset({"node", "memory", "mem"}), frozenset({"node", "memory", "memtotal"})),
    "disk_free_bytes": (frozenset({"disk"}),),
    "envoy_cluster_membership_healthy": (frozenset({"envoy", "cluster", "membership"}),),
}


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@lru_cache(maxsize=8192)
def _stem_of(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_singular(w) for w in words if w not in _USE_WORDS)


def _stem(r: _Row) -> frozenset[str]:
    if r.series.name.startswith("kube_pod_container_resource_limits"):
        return frozenset({"kube-memory" if r.aspect is Aspect.MEMORY else "kube-cpu"})
    return _stem_of(r.kind.words)


@lru_cache(maxsize=8192)
def _about(words: tuple[str, ...]) -> frozenset[str]:
    """Return what a counter is about: ``payment_failures_total`` and ``payments_total`` are both about payments."""
    return frozenset(_singular(w) for w in words if w not in _COUNT_WORDS)


def _gauge_rank(one: _Row) -> int:
    """Return 1 for an exporter's exact name, 0 for words, and for what the machine shares among all its processes."""
    return int(one.kind.known and not one.series.name.startswith(("system_", "node_")))


def _as_share(values: Array, factor: float) -> Array:
    """Return a share as 0 to 1: many names say "utilization" or "availability" and mean per cent."""
    known = values[np.isfinite(values)]
    top = float(known.max()) if known.size else 0.0
    # Above 1.5 no share is meant; a load of 150 % of one core is still one.
    return values / 100.0 if factor == 1.0 and 1.5 < top <= 100.5 else values * factor


def _without_no_limit(block: Array) -> Array:
    return np.asarray(np.where((block <= 0) | (block > _HUGE), np.nan, block), dtype=np.float64)


def _by_replica(group: Sequence[_Row], block: Array) -> Array:
    """Return the fullest replica at each instant: a mean of several memories hides the one that is about to be killed."""
    numbers: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, r in enumerate(group):
        numbers[r.replica].append(i)
    return _largest(np.vstack([_sum(block[chosen]) for chosen in numbers.values()]))


def _one_reporter(rows: list[_Row]) -> list[_Row]:
    """Return rows without the second report of the same call: a mesh counts it at both ends."""
    if not rows:
        return rows
    wanted = "source" if rows[0].scope == OUTBOUND else "destination"
    own_end = [r for r in rows if r.labels.get("reporter") == wanted]
    return own_end if own_end else rows


def _whole_containers(group: list[_Row], rows: list[_Row]) -> list[_Row]:
    """Return rows without cAdvisor's sums over a pod where its containers are there as well."""
    name = group[0].series.name
    if not name.startswith("container_") or group[0].labels.get("container") not in ("", None, "POD"):
        return group
    named = any(r.series.name == name and r.labels.get("container") not in ("", None, "POD") for r in rows)
    return [] if named else group


def _peer(rows: Sequence[_Row]) -> str:
    peers = {r.peer for r in rows}
    return peers.pop() if len(peers) == 1 else ""


def _key_of(name: str, kinds: tuple[tuple[str, str], ...]) -> str:
    return name + ("{" + ",".join(f"{k}={v}" for k, v in kinds) + "}" if kinds else "")


def _key(r: _Row, name: str | None = None) -> str:
    return _key_of(name or r.series.name, r.kinds)


def _own_name(series: Iterable[Series], service: str) -> str:
    """Return the name that stands at one end of every call: the service whose series these are; empty where two could be."""
    ends: set[str] = set()
    common: set[str] | None = None
    told: set[str] = {service} - {""}
    for s in series:
        labels = dict(s.labels)
        both = call_of(labels)
        if both is None or not all(both):
            continue
        ends |= set(both)
        common = set(both) if common is None else common & set(both)
        told |= {labels[label] for label in ("service_name", "service", "app", "job", "container") if labels.get(label)}
    for end in sorted(ends):
        if service and closest(end, {service}) is not None:
            return end
    candidates = common or set()
    if len(candidates) > 1:
        candidates &= told
    return candidates.pop() if len(candidates) == 1 else ""


def read_aspects(series: Iterable[Series], times: Array, step: float, service: str = "") -> tuple[AspectSignal, ...]:
    """Return what a service's own series tell, best signals of each aspect first.

    Args:
        series: Raw samples, counters as they are; samples off the grid are left out, equal series count once.
        times: The grid, epoch seconds, ``step`` apart.
        step: Seconds between grid points.
        service: Whose series these are; without it, whoever stands at one end of every call.
    """
    grid = np.asarray(times, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0 or not step > 0 or not np.isfinite(grid[0]):
        return ()
    given = [s for s in series if s.times and s.values]
    with np.errstate(all="ignore"):
        return _ordered(_read(given, float(grid[0]), step, grid.size, service))


def _read(given: list[Series], start: float, step: float, size: int, service: str) -> list[AspectSignal]:
    number_of: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    own = _own_name((s for s in given if _has_ends(s)), service)
    rows: list[_Row] = []
    placed: list[Series] = []
    numbers: list[int] = []
    for s in given:
        identity = (s.name, s.labels)
        number = number_of.get(identity)
        if number is None:
            row = _row(s, len(rows), own)
            if row is None:
                number_of[identity] = -1
                continue
            number = number_of[identity] = len(rows)
            rows.append(row)
        if number >= 0:
            placed.append(s)
            numbers.append(number)
    if not rows:
        return []
    reader = _Reader(rows, _place(placed, numbers, len(rows), start, step, size), step)
    reader.read()
    return reader.out


_END_LABELS = frozenset(
    "source_workload source_app source_canonical_service client caller source source_service caller_service client_service".split()
)


def _has_ends(s: Series) -> bool:
    return any(label in _END_LABELS for label, _value in s.labels)


def _ordered(found: list[AspectSignal]) -> tuple[AspectSignal, ...]:
    """Return signals in a fixed order, each under a key of its own."""
    order = {aspect: number for number, aspect in enumerate(Aspect)}
    found.sort(key=lambda s: (order[s.aspect], -s.rank, s.scope, s.key))
    seen: dict[str, int] = {}
    out: list[AspectSignal] = []
    for signal in found:
        key = signal.key
        if key in seen:
            key = f"{key[:-1]},{signal.scope}}}" if key.endswith("}") else f"{key}{{{signal.scope}}}"
        while key in seen:
            seen[signal.key] += 1
            key = f"{signal.key}#{seen[signal.key]}"
        seen[key] = 1
        out.append(signal if key == signal.key else replace(signal, key=key))
    return tuple(out)


_INNER = frozenset(Aspect) - {Aspect.LATENCY, Aspect.REQUESTS, Aspect.ERRORS}


def main_signal(signals: Iterable[AspectSignal], aspect: Aspect, scope: str = INBOUND) -> AspectSignal | None:
    """Return the signal that tells a service's state best in one aspect; None where nothing is measured.

    The whole before a part of it, exact names before words, a mean by sum and count before a quantile, a quantile before an
    average of averages. Pools, queues, processors and the like belong to the service itself: for them ``own`` answers too.
    """
    scopes = (scope, OWN) if scope == INBOUND and aspect in _INNER else (scope,)
    candidates = [s for s in signals if s.aspect is aspect and s.scope in scopes]
    return max(candidates, key=_telling, default=None)


_STATISTIC = (
    ("p99", 5),
    ("0.99", 5),
    ("p95", 4),
    ("0.95", 4),
    ("p90", 3),
    ("0.9", 3),
    ("average", 2),
    ("avg", 2),
    ("p50", 1),
)


_IN_USE = frozenset("active busy used use checkedout checked".split())  # rather than merely open


def _telling(signal: AspectSignal) -> tuple[int, int, int, int, float, float, str]:
    known = signal.values[np.isfinite(signal.values)]
    averaged = int(any(n.endswith(("_sum", "_total")) for n in signal.names) and len(signal.names) > 1)
    statistic = next((value for text, value in _STATISTIC if text in signal.key.lower()), 0)
    used = int(bool(_IN_USE & set(_words_of(signal.names[0][:_NAME_MAX]))))
    peak = float(known.max()) if known.size and signal.unit == "share" else 0.0
    amount = float(np.mean(np.abs(known) > 0)) if known.size else 0.0
    return (signal.rank, averaged, statistic, used, peak, amount, signal.key)
