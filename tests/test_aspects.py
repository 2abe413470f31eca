"""Every exporter's series tell the same aspects, and the numbers are what an engineer would have worked out by hand."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.evidence import Series
from advisor.evidence.aspects import Aspect, AspectSignal, is_error, main_signal, read_aspects

T0 = 1_795_334_400.0
STEP = 15.0
POINTS = 80
TIMES = T0 + np.arange(POINTS) * STEP


def series(
    name: str, value: Callable[[int], float] | float, /, begin: int = 0, end: int = POINTS, **labels: str
) -> Series:
    pairs = [(T0 + i * STEP, float(value(i) if callable(value) else value)) for i in range(begin, end)]
    kept = [(t, v) for t, v in pairs if math.isfinite(v)]
    return Series(
        name=name,
        labels=tuple(sorted(labels.items())),
        times=tuple(t for t, _ in kept),
        values=tuple(v for _, v in kept),
    )


def counter(name: str, per_second: float | Callable[[int], float], /, **options: object) -> Series:
    """Return a counter that grows by ``per_second`` (which may depend on the point)."""
    total = np.cumsum([(per_second(i) if callable(per_second) else per_second) * STEP for i in range(POINTS)])
    return series(name, lambda i: float(total[i]), **options)  # type: ignore[arg-type]


def read(*group: Series) -> tuple[AspectSignal, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_aspects(group, TIMES, STEP)


def main(group: list[Series], aspect: Aspect, scope: str = "inbound") -> AspectSignal:
    found = main_signal(read(*group), aspect, scope)
    assert found is not None, [(s.aspect, s.scope, s.key) for s in read(*group)]
    return found


def level(signal: AspectSignal) -> float:
    return float(np.nanmedian(signal.values))


# --- names of the field ------------------------------------------------------------------------------------------------

# name{labels} aspect scope worse; "_sum" gets its "_count" beside it, a counter's name a rising series.
NAMES = """
http_server_requests_seconds_sum{uri=/orders,status=200} latency inbound +
http_server_requests_seconds_max{uri=/orders} latency inbound +
http_server_requests_seconds_count{uri=/orders,status=200,outcome=SUCCESS} requests inbound 0
http_server_requests_seconds{quantile=0.99} latency inbound +
http_server_request_duration_seconds_sum{http_route=/cart,http_response_status_code=200} latency inbound +
http_server_duration_milliseconds_sum{http_status_code=200} latency inbound +
http_request_duration_seconds_sum{method=GET,code=200} latency inbound +
http_requests_total{code=200,handler=/} requests inbound 0
http_requests_received_total{code=200} requests inbound 0
http_client_requests_seconds_sum{client_name=payments,uri=/pay} latency outbound +
http_client_requests_seconds_count{client_name=payments} requests outbound 0
http_client_request_duration_seconds_sum{server_address=payments} latency outbound +
rpc_server_duration_milliseconds_sum{rpc_grpc_status_code=0} latency inbound +
rpc_client_duration_milliseconds_sum{rpc_service=Pay} latency outbound +
tomcat_threads_busy_threads workers own +
tomcat_threads_config_max_threads other own 0
tomcat_threads_current_threads other own 0
tomcat_global_request_seconds_sum latency inbound +
tomcat_global_error_total errors inbound +
tomcat_connections_current_connections pool own +
tomcat_sessions_active_current_sessions other own 0
jetty_threads_busy workers own +
jetty_threads_jobs workers own +
hikaricp_connections_active{pool=orders} pool own +
hikaricp_connections_pending{pool=orders} pool own +
hikaricp_connections_idle{pool=orders} pool own -
hikaricp_connections_max{pool=orders} other own 0
hikaricp_connections_min{pool=orders} other own 0
hikaricp_connections_timeout_total{pool=orders} pool own +
hikaricp_connections_acquire_seconds_sum{pool=orders} pool own +
hikaricp_connections_usage_seconds_sum{pool=orders} latency outbound +
jdbc_connections_active{name=dataSource} pool own +
jdbc_connections_idle{name=dataSource} pool own -
executor_active_threads{name=async} workers own +
executor_queued_tasks{name=async} queue own +
executor_queue_remaining_tasks{name=async} queue own -
executor_seconds_sum{name=async} latency own +
executor_idle_seconds_sum{name=async} queue own +
tasks_scheduled_execution_seconds_sum{code_function=cleanUp} latency own +
lettuce_command_completion_seconds_sum{command=GET} latency outbound +
mongodb_driver_commands_seconds_sum{command=find} latency outbound +
spring_data_repository_invocations_seconds_sum{repository=Orders} latency outbound +
resilience4j_retry_calls_total{name=payments,kind=failed_with_retry} retries outbound +
resilience4j_circuitbreaker_failure_rate{name=payments} errors outbound +
resilience4j_circuitbreaker_not_permitted_calls_total{name=payments,kind=not_permitted} errors outbound +
resilience4j_circuitbreaker_calls_seconds_sum{name=payments,kind=successful} latency outbound +
resilience4j_bulkhead_available_concurrent_calls{name=payments} workers own -
logback_events_total{level=error} errors own +
logback_events_total{level=info} other own 0
log4j2_events_total{level=error} errors own +
kafka_consumer_fetch_manager_records_lag_max{client_id=a} queue own +
kafka_consumer_fetch_manager_records_lag{topic=orders,partition=0} queue own +
cache_gets_total{cache=products,result=miss} cache own +
cache_evictions_total{cache=products} cache own +
cache_size{cache=products} cache own 0
jvm_gc_pause_seconds_sum{action=end_of_minor_GC} gc own +
jvm_gc_overhead gc own +
jvm_memory_used_bytes{area=heap,id=old} memory own +
jvm_threads_live_threads workers own +
jvm_threads_states_threads{state=blocked} workers own +
jvm_buffer_count_buffers{id=direct} other own 0
process_cpu_usage cpu own +
system_cpu_usage cpu own +
system_load_average_1m cpu own +
system_cpu_count other own 0
process_files_open_files pool own +
process_uptime_seconds other own 0
process_start_time_seconds other own 0
disk_free_bytes{path=/} disk own -
application_ready_time_seconds other own 0
ch_qos_logback_core_Appender_error_total errors inbound +
db_client_connections_usage{state=used,pool_name=main} pool own +
db_client_connections_usage{state=idle,pool_name=main} pool own -
db_client_connection_count{db_client_connection_state=idle,db_client_connection_pool_name=main} pool own -
db_client_connection_count{db_client_connection_state=used,db_client_connection_pool_name=main} pool own +
db_client_connections_pending_requests{pool_name=main} pool own +
db_client_connections_use_time_milliseconds_sum{pool_name=main} latency outbound +
db_client_connections_wait_time_milliseconds_sum{pool_name=main} pool own +
db_client_operation_duration_seconds_sum{db_namespace=orders} latency outbound +
http_server_active_requests workers own +
go_goroutines workers own +
go_gc_duration_seconds_sum gc own +
go_sql_in_use_connections{db_name=orders} pool own +
go_sql_open_connections{db_name=orders} pool own +
go_sql_idle_connections{db_name=orders} pool own -
go_sql_wait_count_total{db_name=orders} pool own +
go_sql_wait_duration_seconds_total{db_name=orders} pool own +
process_open_fds pool own +
process_cpu_seconds_total cpu own +
process_resident_memory_bytes memory own +
grpc_server_handled_total{grpc_code=OK,grpc_method=Pay} requests inbound 0
grpc_server_handling_seconds_sum{grpc_method=Pay} latency inbound +
grpc_client_handled_total{grpc_code=OK} requests outbound 0
grpc_client_handling_seconds_sum{grpc_method=Pay} latency outbound +
flask_http_request_duration_seconds_sum{path=/} latency inbound +
flask_http_request_total{status=200} requests inbound 0
flask_http_request_exceptions_total errors inbound +
django_http_requests_latency_seconds_by_view_method_sum{view=cart} latency inbound +
django_http_responses_total_by_status_total{status=200} requests inbound 0
django_http_exceptions_total_by_type_total{type=KeyError} errors inbound +
gunicorn_request_duration_sum latency inbound +
gunicorn_workers workers own +
celery_task_runtime_sum{task=mail} latency inbound +
celery_task_failed_total{task=mail} errors inbound +
celery_task_received_total{task=mail} requests inbound 0
celery_queue_length{queue_name=mail} queue own +
python_gc_collections_total{generation=2} gc own +
nodejs_eventloop_lag_seconds workers own +
nodejs_eventloop_lag_p99_seconds workers own +
nodejs_gc_duration_seconds_sum{kind=major} gc own +
nodejs_heap_size_used_bytes memory own +
nodejs_active_handles_total workers own +
aspnetcore_http_requests_total{status=200} requests inbound 0
dotnet_threadpool_num_threads workers own +
dotnet_threadpool_queue_length queue own +
process_runtime_dotnet_thread_pool_queue_length queue own +
dotnet_collection_count_total{generation=2} gc own +
phpfpm_active_processes{pool=www} workers own +
phpfpm_idle_processes{pool=www} workers own -
phpfpm_listen_queue{pool=www} queue own +
phpfpm_max_children_reached{pool=www} workers own +
phpfpm_accepted_connections{pool=www} requests inbound 0
phpfpm_slow_requests{pool=www} errors inbound +
nginx_http_requests_total requests inbound 0
nginx_connections_active pool own +
nginx_ingress_controller_requests{status=200,ingress=shop} requests inbound 0
nginx_ingress_controller_request_duration_seconds_sum{status=200} latency inbound +
haproxy_frontend_http_requests_total{proxy=web} requests inbound 0
haproxy_backend_http_responses_total{proxy=payments,code=2xx} requests outbound 0
haproxy_backend_current_queue{proxy=payments} queue own +
haproxy_backend_response_time_average_seconds{proxy=payments} latency outbound +
haproxy_backend_up{proxy=payments} availability own -
traefik_service_requests_total{code=200,service=pay@docker} requests inbound 0
traefik_entrypoint_request_duration_seconds_sum{code=200} latency inbound +
traefik_service_retries_total{service=pay@docker} retries outbound +
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=payments} latency outbound +
envoy_cluster_upstream_rq_total{envoy_cluster_name=payments} requests outbound 0
envoy_cluster_upstream_rq_xx{envoy_cluster_name=payments,envoy_response_code_class=5} requests outbound 0
envoy_cluster_upstream_rq_timeout{envoy_cluster_name=payments} errors outbound +
envoy_cluster_upstream_rq_retry{envoy_cluster_name=payments} retries outbound +
envoy_cluster_upstream_rq_pending_active{envoy_cluster_name=payments} queue own +
envoy_cluster_upstream_cx_active{envoy_cluster_name=payments} pool own +
envoy_cluster_upstream_cx_connect_fail{envoy_cluster_name=payments} errors outbound +
envoy_cluster_membership_healthy{envoy_cluster_name=payments} availability outbound -
envoy_http_downstream_rq_total requests inbound 0
istio_requests_total{reporter=destination,source_workload=web,destination_workload=orders,response_code=200} requests inbound 0
istio_requests_total{reporter=source,source_workload=orders,destination_workload=payments,response_code=200} requests outbound 0
istio_request_duration_milliseconds_sum{reporter=destination,source_workload=web,destination_workload=orders} latency inbound +
response_total{direction=inbound,classification=success} requests inbound 0
response_total{direction=outbound,dst_deployment=payments,classification=success} requests outbound 0
response_latency_ms_sum{direction=outbound,dst_deployment=payments} latency outbound +
traces_service_graph_request_total{client=web,server=orders} requests inbound 0
traces_service_graph_request_failed_total{client=web,server=orders} errors inbound +
traces_service_graph_request_server_seconds_sum{client=web,server=orders} latency inbound +
calls_total{span_kind=SPAN_KIND_SERVER,status_code=STATUS_CODE_UNSET} requests inbound 0
calls_total{span_kind=SPAN_KIND_CLIENT,status_code=STATUS_CODE_UNSET} requests outbound 0
duration_milliseconds_sum{span_kind=SPAN_KIND_SERVER} latency inbound +
traces_spanmetrics_calls_total{span_kind=SPAN_KIND_SERVER} requests inbound 0
container_cpu_usage_seconds_total{container=orders} cpu own +
container_cpu_cfs_throttled_periods_total{container=orders} throttling own +
container_cpu_cfs_throttled_seconds_total{container=orders} throttling own +
container_memory_working_set_bytes{container=orders} memory own +
container_oom_events_total{container=orders} memory own +
container_fs_usage_bytes{container=orders} disk own +
kube_pod_container_status_restarts_total{container=orders} restarts own +
kube_pod_container_status_waiting_reason{reason=CrashLoopBackOff} restarts own +
kube_deployment_status_replicas_available{deployment=orders} replicas own -
kube_deployment_status_replicas_unavailable{deployment=orders} replicas own +
kube_deployment_spec_replicas{deployment=orders} replicas own 0
kube_horizontalpodautoscaler_status_current_replicas replicas own +
kube_horizontalpodautoscaler_status_desired_replicas replicas own 0
kube_pod_status_ready{condition=true} availability own -
node_filesystem_avail_bytes{mountpoint=/} disk own -
node_disk_io_time_seconds_total{device=sda} disk own +
node_load1 cpu own +
node_memory_MemAvailable_bytes memory own -
kubelet_volume_stats_used_bytes{persistentvolumeclaim=data} disk own +
kafka_consumergroup_lag{consumergroup=orders,topic=t} queue own +
records_lag_max{client_id=a} queue own +
rabbitmq_queue_messages_ready{queue=mail} queue own +
rabbitmq_queue_messages_unacked{queue=mail} queue own +
ApproximateNumberOfMessagesVisible{QueueName=mail} queue own +
ApproximateAgeOfOldestMessage{QueueName=mail} queue own +
pg_stat_activity_count{state=active} pool own +
pg_stat_database_numbackends{datname=orders} pool own +
pg_stat_database_deadlocks{datname=orders} errors own +
pg_up availability own -
redis_connected_clients pool own +
redis_blocked_clients pool own +
redis_memory_used_bytes memory own +
redis_evicted_keys_total cache own +
redis_rejected_connections_total errors own +
mysql_global_status_threads_running workers own +
mysql_global_status_threads_connected pool own +
mysql_global_status_slow_queries errors own +
mysql_global_status_queries requests own 0
up availability own -
probe_success availability own -
latency{statistic=p99} latency inbound +
latency{statistic=Average} latency inbound +
availability{statistic=Average} availability inbound -
requests{statistic=Sum} requests inbound 0
fault_rate errors inbound +
error_rate errors inbound +
TargetResponseTime{statistic=p95} latency inbound +
HTTPCode_Target_5XX_Count{statistic=Sum} errors inbound +
CPUUtilization{statistic=Average} cpu own +
HealthyHostCount availability inbound -
FreeStorageSpace disk own -
orders_latency_ms{quantile=0.95} latency inbound +
orders_latency_ms_sum latency inbound +
request_time_avg latency inbound +
checkout_p99_seconds latency inbound +
payment_failures_total errors inbound +
orders_failed_total errors inbound +
orders_created_total requests inbound 0
orders_total requests inbound 0
jobs_processed_total requests inbound 0
downstream_calls_seconds_sum{downstream=payments} latency outbound +
downstream_errors_total{downstream=payments} errors outbound +
payment_client_timeouts_total errors outbound +
payment_retries_total retries outbound +
worker_pool_busy workers own +
worker_queue_depth queue own +
connection_pool_in_use pool own +
rate_limited_total throttling own +
requests_throttled_total throttling own +
inventory_cache_hits_total cache own -
inventory_cache_misses_total cache own +
service_restarts_total restarts own +
pricing_requests_in_flight workers own +
dead_letter_messages errors inbound +
app_cpu_percent cpu own +
app_memory_bytes memory own +
app_disk_used_percent disk own +
requestsPerSecond requests inbound 0
cart.service.request.duration.ms latency inbound +
aws_applicationelb_target_response_time_average latency inbound +
aws_applicationelb_httpcode_target_5_xx_count_sum errors inbound +
aws_rds_cpuutilization_average cpu own +
aws_rds_freeable_memory_average memory own -
aws_rds_database_connections_average pool own +
aws_lambda_throttles_sum throttling own +
agroal_active_count pool own +
agroal_available_count pool own -
resilience4j_circuitbreaker_state{name=payments,state=open} errors outbound +
resilience4j_circuitbreaker_state{name=payments,state=closed} other outbound 0
resilience4j_circuitbreaker_buffered_calls{name=payments,kind=failed} other own 0
resilience4j_ratelimiter_available_permissions{name=payments} throttling own -
resilience4j_ratelimiter_waiting_threads{name=payments} throttling own +
hystrix_circuit_open errors outbound +
sidekiq_queue_latency_seconds{queue=mail} queue own +
sidekiq_jobs_failed_total errors inbound +
puma_backlog queue own +
kong_upstream_latency_ms_sum latency outbound +
kong_http_requests_total{code=200} requests inbound 0
thread_pool_rejected_tasks_total workers own +
http_429_total errors inbound +
http_response_size_bytes_sum other own 0
errors_per_minute errors inbound +
disk_io_wait_seconds disk own +
disk_write_latency_ms disk own +
db_pool_size other own 0
db_query_duration_seconds_sum latency outbound +
elasticsearch_jvm_memory_used_bytes memory own +
messages_in_queue queue own +
oldest_pending_order_seconds queue own +
batch_job_last_success_timestamp_seconds other own 0
cache_hit_ratio cache own -
sessions_active other own 0
apdex availability inbound -
success_rate availability inbound -
tps requests inbound 0
saturation workers own +
avg_response_time latency inbound +
response_time_95th latency inbound +
com.example.OrderResource.createOrder.99thPercentile other own 0
"""


def _table() -> list[tuple[str, dict[str, str], str, str, int]]:
    rows = []
    for line in NAMES.strip().splitlines():
        head, aspect, scope, worse = line.rsplit(" ", 3)
        name, _, rest = head.partition("{")
        labels = dict(pair.split("=", 1) for pair in rest.rstrip("}").split(",") if "=" in pair)
        rows.append((name, labels, aspect, scope, {"+": 1, "-": -1, "0": 0}[worse]))
    return rows


TABLE = _table()


def test_the_table_is_as_large_as_the_field() -> None:
    assert len(TABLE) >= 150
    assert {aspect for _, _, aspect, _, _ in TABLE} == {str(a) for a in Aspect}


@pytest.mark.parametrize(
    ("name", "labels", "aspect", "scope", "worse"), TABLE, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(TABLE)]
)
def test_a_name_of_the_field_tells_its_aspect(
    name: str, labels: dict[str, str], aspect: str, scope: str, worse: int
) -> None:
    rising = re.search(
        r"_(total|sum|count|xx|timeout|retry|fail|reached|requests|connections|queries|deadlocks)$", name
    )
    wavy = series(name, lambda i: 5.0 + (i % 3), **labels)
    group = [
        counter(name, 2.0, **labels)
        if rising and not re.search("pg_stat_activity|tomcat_conn|go_sql|hikari.*(idle|max)", name)
        else wavy
    ]
    if name.endswith("_sum"):
        group.append(counter(name[:-4] + "_count", 4.0, **labels))
    found = [s for s in read(*group) if name in s.names]
    assert (aspect, scope, worse) in {(str(s.aspect), s.scope, s.worse) for s in found}, [
        (str(s.aspect), s.scope, s.worse, s.key) for s in found
    ]


# --- numbers -----------------------------------------------------------------------------------------------------------


def timer(base: str, per_second: float, seconds_each: float, /, unit: float = 1.0, **labels: str) -> list[Series]:
    return [
        counter(base + "_sum", per_second * seconds_each / unit, **labels),
        counter(base + "_count", per_second, **labels),
    ]


def test_mean_latency_is_sum_by_count_over_all_routes() -> None:
    fast = timer("http_server_requests_seconds", 9.0, 0.1, uri="/a", status="200")
    slow = timer("http_server_requests_seconds", 1.0, 1.1, uri="/b", status="200")
    found = main(fast + slow, Aspect.LATENCY)
    assert level(found) == pytest.approx(0.2)
    assert (found.unit, found.key) == ("seconds", "http_server_requests_seconds")
    assert found.names == ("http_server_requests_seconds_count", "http_server_requests_seconds_sum")
    by_route = {s.key: level(s) for s in read(*fast, *slow) if s.aspect is Aspect.LATENCY and s.rank < 0}
    assert by_route == pytest.approx(
        {"http_server_requests_seconds{uri=/a}": 0.1, "http_server_requests_seconds{uri=/b}": 1.1}
    )


@pytest.mark.parametrize(
    ("base", "unit"),
    [
        ("istio_request_duration_milliseconds", 1e-3),
        ("http_server_duration", 1e-3),
        ("orders_latency_ms", 1e-3),
        ("orders_latency_microseconds", 1e-6),
        ("orders_latency_nanoseconds", 1e-9),
        ("orders_latency_seconds", 1.0),
    ],
)
def test_latency_is_in_seconds_whatever_the_exporter_counts_in(base: str, unit: float) -> None:
    found = main(timer(base, 5.0, 0.25, unit=unit), Aspect.LATENCY)
    assert level(found) == pytest.approx(0.25)
    assert found.unit == "seconds"


def test_a_slow_call_shows_when_it_begins() -> None:
    group = [
        counter("http_request_duration_seconds_sum", lambda i: 1.0 if i < 50 else 4.0),
        counter("http_request_duration_seconds_count", 10.0),
    ]
    values = main(group, Aspect.LATENCY).values
    assert values[49] == pytest.approx(0.1)
    assert values[50] > 0.1
    assert values[-1] == pytest.approx(0.4)


def test_error_share_counts_server_errors_and_refusals_but_not_mistakes_of_the_caller() -> None:
    group = [
        counter("http_requests_total", rate, code=code)
        for code, rate in (("200", 90.0), ("404", 5.0), ("500", 2.0), ("429", 2.0), ("499", 1.0))
    ]
    found = main(group, Aspect.ERRORS)
    assert level(found) == pytest.approx(0.05)
    assert found.unit == "share"
    assert {s.label("code") for s in found.series} == {"500", "429", "499"}
    assert level(main(group, Aspect.REQUESTS)) == pytest.approx(100.0)


def test_without_any_failure_the_error_share_is_zero_not_unknown() -> None:
    found = main([counter("http_requests_total", 10.0, code="200")], Aspect.ERRORS)
    assert np.nanmax(found.values) == 0.0


def test_the_first_failures_of_a_day_count_though_their_series_was_not_there_before() -> None:
    group = [
        counter("http_requests_total", 10.0, code="200", pod="a"),
        series("http_requests_total", lambda i: 600.0, begin=40, code="503", pod="a"),
    ]
    values = main(group, Aspect.ERRORS).values
    assert values[38] == 0.0
    assert values[40] > 0.3


def test_failures_counted_under_another_name_are_a_share_of_their_own_total() -> None:
    group = [counter("payments_total", 20.0), counter("payment_failures_total", 1.0), counter("orders_total", 500.0)]
    found = main(group, Aspect.ERRORS)
    assert level(found) == pytest.approx(0.05)
    assert found.key == "payment_failures_total"


def test_failures_without_a_total_stay_per_second() -> None:
    found = main([counter("payment_failures_total", 3.0)], Aspect.ERRORS)
    assert (level(found), found.unit) == (pytest.approx(3.0), "per second")


def test_grpc_errors_are_those_of_the_service() -> None:
    group = [
        counter("grpc_server_handled_total", rate, grpc_code=code)
        for code, rate in (("OK", 80.0), ("NotFound", 10.0), ("Unavailable", 5.0), ("DeadlineExceeded", 5.0))
    ]
    assert level(main(group, Aspect.ERRORS)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("labels", "failed"),
    [
        ({"status": "200"}, False),
        ({"status": "503"}, True),
        ({"status": "404", "exception": "NotFoundException"}, False),
        ({"status": "408"}, True),
        ({"status": "5xx"}, True),
        ({"status": "IO_ERROR", "outcome": "UNKNOWN"}, True),
        ({"outcome": "SERVER_ERROR"}, True),
        ({"outcome": "CLIENT_ERROR"}, False),
        ({"exception": "None"}, False),
        ({"exception": "IOException"}, True),
        ({"response_code": "0"}, True),
        ({"envoy_response_code_class": "5"}, True),
        ({"envoy_response_code_class": "4"}, False),
        ({"grpc_code": "ResourceExhausted"}, True),
        ({"grpc_code": "InvalidArgument"}, False),
        ({"rpc_grpc_status_code": "14"}, True),
        ({"rpc_grpc_status_code": "5"}, False),
        ({"status_code": "STATUS_CODE_ERROR"}, True),
        ({"status_code": "STATUS_CODE_UNSET"}, False),
        ({"success": "false"}, True),
        ({"result": "hit"}, None),
        ({"status": "open"}, None),
        ({}, None),
    ],
)
def test_labels_tell_failures(labels: dict[str, str], failed: bool | None) -> None:
    assert is_error(labels) is failed


@pytest.mark.parametrize(
    ("used", "limit", "labels"),
    [
        ("hikaricp_connections_active", "hikaricp_connections_max", {"pool": "orders"}),
        ("tomcat_threads_busy_threads", "tomcat_threads_config_max_threads", {}),
        ("go_sql_in_use_connections", "go_sql_max_open_connections", {"db_name": "orders"}),
        ("go_sql_open_connections", "go_sql_max_open_connections", {}),
        ("db_client_connections_usage", "db_client_connections_max", {"pool_name": "main"}),
        ("jetty_threads_busy", "jetty_threads_config_max", {}),
        ("executor_active_threads", "executor_pool_max_threads", {"name": "async"}),
        ("process_open_fds", "process_max_fds", {}),
        ("process_files_open_files", "process_files_max_files", {}),
        ("pg_stat_activity_count", "pg_settings_max_connections", {}),
        ("redis_connected_clients", "redis_config_maxclients", {}),
        ("mysql_global_status_threads_connected", "mysql_global_variables_max_connections", {}),
        ("container_memory_working_set_bytes", "container_spec_memory_limit_bytes", {"container": "orders"}),
        ("redis_memory_used_bytes", "redis_memory_max_bytes", {}),
        ("kubelet_volume_stats_used_bytes", "kubelet_volume_stats_capacity_bytes", {}),
        ("kube_horizontalpodautoscaler_status_current_replicas", "kube_horizontalpodautoscaler_spec_max_replicas", {}),
        ("worker_pool_busy", "worker_pool_limit", {}),
        ("tenant_connections_in_use", "tenant_connections_max", {}),
    ],
)
def test_use_is_a_share_of_its_limit(used: str, limit: str, labels: dict[str, str]) -> None:
    state = {"state": "used"} if used.startswith("db_client") else {}
    found = read(series(used, lambda i: 4.0 + i % 3, **labels, **state), series(limit, 20.0, **labels))
    shares = [s for s in found if s.unit == "share"]
    assert [round(level(s), 3) for s in shares] == [0.25]
    assert set(shares[0].names) == {used, limit}
    assert shares[0].worse == 1


def test_each_pool_is_held_against_its_own_limit() -> None:
    group = [
        series("hikaricp_connections_active", 8.0, pool="orders"),
        series("hikaricp_connections_max", 10.0, pool="orders"),
        series("hikaricp_connections_active", 8.0, pool="reports"),
        series("hikaricp_connections_max", 80.0, pool="reports"),
    ]
    shares = {s.peer: level(s) for s in read(*group) if s.aspect is Aspect.POOL}
    assert shares == pytest.approx({"orders": 0.8, "reports": 0.1})
    assert main(group, Aspect.POOL).peer == "orders"


@pytest.mark.parametrize("nothing", [0.0, -1.0, 9.2e18])
def test_a_limit_that_means_no_limit_is_none(nothing: float) -> None:
    found = main(
        [series("go_sql_in_use_connections", 7.0), series("go_sql_max_open_connections", nothing)], Aspect.POOL
    )
    assert (level(found), found.unit) == (7.0, "")


def test_replicas_are_added_and_a_restart_is_no_negative_rate() -> None:
    group = [
        counter("http_requests_total", 10.0, code="200", pod="a"),
        series("http_requests_total", lambda i: (i % 40) * 5.0 * STEP, code="200", pod="b"),  # begins again at 40
    ]
    values = main(group, Aspect.REQUESTS).values
    assert np.nanmin(values) > 0
    assert level(main(group, Aspect.REQUESTS)) == pytest.approx(15.0)


def test_the_fullest_replica_tells_memory() -> None:
    group = [
        *(series("container_memory_working_set_bytes", v, container="c", pod=p) for p, v in (("a", 9e8), ("b", 3e8))),
        *(series("container_spec_memory_limit_bytes", 1e9, container="c", pod=p) for p in "ab"),
    ]
    assert level(main(group, Aspect.MEMORY)) == pytest.approx(0.9)


def test_a_pods_sum_is_not_added_to_its_containers() -> None:
    group = [
        counter("container_cpu_usage_seconds_total", 0.5, container="orders", pod="a"),
        counter("container_cpu_usage_seconds_total", 0.6, container="", pod="a"),
    ]
    assert [level(s) for s in read(*group) if s.aspect is Aspect.CPU] == pytest.approx([0.5])


def test_processor_time_is_a_share_of_the_containers_limit() -> None:
    group = [
        counter("container_cpu_usage_seconds_total", 0.5, container="orders", pod="a"),
        series("kube_pod_container_resource_limits", 2.0, container="orders", pod="a", resource="cpu"),
        series("kube_pod_container_resource_limits", 1e9, container="orders", pod="a", resource="memory"),
    ]
    found = main(group, Aspect.CPU)
    assert (level(found), found.unit) == (pytest.approx(0.25), "share")


def test_throttling_is_the_share_of_periods() -> None:
    group = [
        counter("container_cpu_cfs_throttled_periods_total", 2.0, container="c"),
        counter("container_cpu_cfs_periods_total", 10.0, container="c"),
    ]
    assert level(main(group, Aspect.THROTTLING)) == pytest.approx(0.2)


def test_hits_and_misses_are_one_share() -> None:
    for group in (
        [counter("redis_keyspace_hits_total", 9.0), counter("redis_keyspace_misses_total", 1.0)],
        [counter("cache_gets_total", 9.0, result="hit"), counter("cache_gets_total", 1.0, result="miss")],
    ):
        found = main(group, Aspect.CACHE)
        assert (level(found), found.worse) == (pytest.approx(0.9), -1)


def test_a_mesh_that_reports_both_ends_counts_a_call_once() -> None:
    ends = {"source_workload": "web", "destination_workload": "orders", "response_code": "200"}
    onward = {"source_workload": "orders", "destination_workload": "payments", "response_code": "200"}
    group = [
        counter("istio_requests_total", 10.0, reporter="source", **ends),
        counter("istio_requests_total", 10.0, reporter="destination", **ends),
        counter("istio_requests_total", 4.0, reporter="source", **onward),
    ]
    assert level(main(group, Aspect.REQUESTS)) == pytest.approx(10.0)
    outbound = main(group, Aspect.REQUESTS, "outbound")
    assert (level(outbound), outbound.peer) == (pytest.approx(4.0), "payments")


def test_each_called_service_has_a_latency_of_its_own() -> None:
    group = [
        *timer("http_client_requests_seconds", 5.0, 0.1, client_name="payments", status="200"),
        *timer("http_client_requests_seconds", 5.0, 0.5, client_name="stock", status="200"),
    ]
    by_peer = {s.peer: level(s) for s in read(*group) if s.aspect is Aspect.LATENCY and s.scope == "outbound"}
    assert by_peer == pytest.approx({"": 0.3, "payments": 0.1, "stock": 0.5})
    assert main(group, Aspect.LATENCY, "outbound").peer == ""


def test_envoys_classes_are_counters_though_their_names_do_not_say_so() -> None:
    group = [
        counter("envoy_cluster_upstream_rq_xx", 8.0, envoy_cluster_name="payments", envoy_response_code_class="2"),
        counter("envoy_cluster_upstream_rq_xx", 2.0, envoy_cluster_name="payments", envoy_response_code_class="5"),
    ]
    found = main(group, Aspect.ERRORS, "outbound")
    assert (level(found), found.peer) == (pytest.approx(0.2), "payments")


def test_availability_in_percent_is_a_share() -> None:
    found = main([series("availability", lambda i: 99.0 + i % 2, statistic="Average")], Aspect.AVAILABILITY)
    assert level(found) == pytest.approx(0.995, abs=0.006)


def test_the_ninety_ninth_percentile_stands_in_where_no_mean_can_be_made() -> None:
    group = [series("latency", v, statistic=s) for s, v in (("p50", 0.1), ("p99", 0.9), ("Average", 0.2))]
    assert level(main(group, Aspect.LATENCY)) == 0.9
    both = group + timer("http_server_requests_seconds", 5.0, 0.3)
    assert level(main(both, Aspect.LATENCY)) == pytest.approx(0.3)


def test_a_counter_scraped_at_every_second_step_does_not_flicker() -> None:
    values = main([series("http_requests_total", lambda i: (i // 2) * 300.0, code="200")], Aspect.REQUESTS).values
    assert np.nanmax(values[12:]) - np.nanmin(values[12:]) < 3.0


def test_a_gap_is_no_spike() -> None:
    hole = range(30, 40)
    group = [series("http_requests_total", lambda i: math.nan if i in hole else i * 150.0, code="200")]
    values = main(group, Aspect.REQUESTS).values
    assert np.nanmax(values) == pytest.approx(10.0)


def test_equal_series_count_once() -> None:
    one = counter("http_requests_total", 10.0, code="200")
    assert level(main([one, one, one], Aspect.REQUESTS)) == pytest.approx(10.0)


def test_thread_counts_are_no_counters_whatever_their_suffix() -> None:
    found = main([series("jvm_thread_count", 40.0)], Aspect.WORKERS)
    assert level(found) == 40.0


def test_scrapes_are_no_requests_of_the_service() -> None:
    assert (
        main_signal(read(counter("promhttp_metric_handler_requests_total", 1.0, code="200")), Aspect.REQUESTS) is None
    )


def test_buckets_and_creation_times_are_left_out() -> None:
    group = [
        counter("http_server_requests_seconds_bucket", 1.0, le="0.1"),
        series("http_server_requests_seconds_created", T0),
        series("http_server_requests_created", T0),
        series("jvm_info", 1.0),
    ]
    assert read(*group) == ()


def test_keys_are_unique_and_the_order_of_series_changes_nothing() -> None:
    group = [s for name, labels, *_ in TABLE for s in [counter(name, 2.0, **labels)]]
    found = read(*group)
    assert len({s.key for s in found}) == len(found)
    again = read(*reversed(group))
    assert [(s.key, s.aspect, s.peer) for s in found] == [(s.key, s.aspect, s.peer) for s in again]


def test_calls_between_two_other_services_are_left_out() -> None:
    group = [
        counter("traces_service_graph_request_total", 10.0, client="web", server="orders"),
        counter("traces_service_graph_request_total", 3.0, client="orders", server="payments"),
        counter("traces_service_graph_request_total", 99.0, client="mail", server="smtp"),
        counter("traces_service_graph_request_failed_total", 1.0, client="web", server="orders"),
    ]
    found = read_aspects(group, TIMES, STEP, service="orders")
    totals = {(s.aspect, s.scope): level(s) for s in found}
    assert totals == pytest.approx(
        {
            (Aspect.REQUESTS, "inbound"): 10.0,
            (Aspect.REQUESTS, "outbound"): 3.0,
            (Aspect.ERRORS, "inbound"): 0.1,
        }
    )


@pytest.mark.parametrize(
    ("service", "scope", "peer"), [("web", "outbound", "orders"), ("orders", "inbound", "web"), ("", "inbound", "web")]
)
def test_which_end_of_a_call_the_service_is_decides_the_scope(service: str, scope: str, peer: str) -> None:
    group = timer("traces_service_graph_request_client_seconds", 5.0, 0.2, client="web-v1", server="orders")
    found = [s for s in read_aspects(group, TIMES, STEP, service=service) if s.aspect is Aspect.LATENCY]
    assert [(s.scope, s.peer) for s in found] == [(scope, peer if peer == "orders" else "web-v1")]


def test_an_error_counter_of_the_callers_mistakes_is_no_error_of_the_service() -> None:
    group = [counter("http_errors_total", 1.0, status="500"), counter("http_errors_total", 50.0, status="404")]
    assert level(main(group, Aspect.ERRORS)) == pytest.approx(1.0)


def test_idle_processor_time_is_no_use() -> None:
    group = [counter("node_cpu_seconds_total", v, cpu="0", mode=m) for m, v in (("idle", 0.9), ("user", 0.1))]
    assert level(main(group, Aspect.CPU)) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["job:http_requests:rate5m", "http_requests_per_second", "http_requests"])
def test_a_recorded_rate_is_no_counter(name: str) -> None:
    group = [series(name, lambda i: 50.0 + 10 * (i % 3), pod=pod) for pod in "ab"]
    assert level(main(group, Aspect.REQUESTS)) == pytest.approx(120.0)


@pytest.mark.parametrize(
    ("name", "value", "share"),
    [("CPUUtilization", 45.0, 0.45), ("cpu_utilization", 0.45, 0.45), ("app_cpu_percent", 45.0, 0.45)],
)
def test_per_cent_and_share_are_one_scale(name: str, value: float, share: float) -> None:
    found = main([series(name, value)], Aspect.CPU)
    assert (level(found), found.unit) == (pytest.approx(share), "share")


def test_lag_is_the_sum_over_partitions() -> None:
    group = [series("kafka_consumergroup_lag", 10.0, consumergroup="g", topic="t", partition=str(p)) for p in range(6)]
    assert [level(s) for s in read(*group)] == [60.0]


def test_a_use_with_two_possible_limits_stays_absolute() -> None:
    group = [
        series("process_resident_memory_bytes", 5e8),
        *(series("container_spec_memory_limit_bytes", v, container=c) for c, v in (("app", 1e9), ("proxy", 1e8))),
    ]
    assert main(group, Aspect.MEMORY).unit == "bytes"


def test_a_duration_total_and_its_count_are_a_mean() -> None:
    group = [counter("downstream_calls_seconds_total", 0.6), counter("downstream_calls_total", 3.0)]
    found = main(group, Aspect.LATENCY, "outbound")
    assert (level(found), found.unit) == (pytest.approx(0.2), "seconds")


def test_connections_in_use_tell_a_pool_better_than_open_ones() -> None:
    group = [
        series("go_sql_open_connections", 10.0),
        series("go_sql_in_use_connections", 6.0),
        series("go_sql_max_open_connections", 10.0),
    ]
    assert level(main(group, Aspect.POOL)) == pytest.approx(0.6)


def test_the_containers_processor_comes_before_the_machines() -> None:
    group = [series("system_cpu_usage", 0.9), series("process_cpu_usage", 0.2)]
    assert main(group, Aspect.CPU).names == ("process_cpu_usage",)


# --- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1e308, -1e308, -5.0, 0.0, 5e-324])
@pytest.mark.parametrize("points", [0, 1, 2, POINTS])
def test_odd_numbers_neither_raise_nor_warn(value: float, points: int) -> None:
    for name, labels, *_ in TABLE[::3]:
        odd = series(name, lambda i: value * (-1) ** i, end=points, **labels)
        for signal in read(odd, series(name, value, end=points, pod="x", **labels)):
            assert not np.isinf(signal.values).any()
            assert signal.values.shape == TIMES.shape


def test_nothing_gives_nothing() -> None:
    assert read() == ()
    assert read_aspects([counter("http_requests_total", 1.0)], np.array([]), STEP) == ()
    assert read_aspects([counter("http_requests_total", 1.0)], TIMES, 0.0) == ()
    assert read_aspects([counter("http_requests_total", 1.0)], TIMES, math.nan) == ()
    assert main_signal([], Aspect.LATENCY) is None


texts = st.text(max_size=20) | st.sampled_from(
    ["http_requests_total", 'a"b{c}\nd', "_", "_sum", "_count", "x_seconds", "."]
)
samples = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            texts,
            st.dictionaries(texts | st.sampled_from(["status", "uri", "client", "server"]), texts, max_size=3),
            samples,
        ),
        max_size=6,
    )
)
def test_any_series_are_read_without_a_fault(given_series: list[tuple[str, dict[str, str], list[float]]]) -> None:
    group = [
        Series.model_construct(
            name=name,
            labels=tuple(sorted(labels.items())),
            times=tuple(T0 + i * STEP for i in range(len(values))),
            values=tuple(values),
            dropped=0,
        )
        for name, labels, values in given_series
    ]
    for signal in read(*group):
        assert not np.isinf(signal.values).any()
        assert signal.values.shape == TIMES.shape
