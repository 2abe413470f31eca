"""Calls are read from the labels that people have, and names meet their service without guessing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.evidence import ConfigValue, Series
from advisor.evidence.topology import calls_in_configuration, closest, host_of, plain_name, read_calls


def series(name: str, **labels: str) -> Series:
    return Series(name=name, labels=tuple(sorted(labels.items())), times=(1.0,), values=(1.0,))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("payments", "payments"),
        ("payments.shop.svc.cluster.local:8080", "payments"),
        ("payments.shop.svc", "payments"),
        ("payments.svc", "payments"),
        ("kafka-0.kafka.infra.svc.cluster.local:9092", "kafka"),
        ("outbound|8080||payments.shop.svc.cluster.local", "payments"),
        ("outbound|8080|v2|payments.shop.svc.cluster.local", "payments"),
        ("outbound_.8080_._.payments", "outbound_.8080_._.payments"),
        ("inbound|8080||", ""),
        ("http://payments:8080/api/v1", "payments"),
        ("https://user:pw@payments:8443/", "payments"),
        ("lb://payments", "payments"),
        ("dns:///payments:50051", "payments"),
        ("Payments", "payments"),
        ("payments-7d9f8b6c5d-x2x4z", "payments"),
        ("api.stripe.com:443", "api.stripe.com"),
        ("jdbc:postgresql://orders-db:5432/orders", "orders-db"),
        ("10.0.3.7:8080", ""),
        ("10.0.3.7", ""),
        ("[fe80::1]:80", ""),
        ("::1", ""),
        ("localhost:8080", ""),
        ("127.0.0.1", ""),
        ("unknown", ""),
        ("PassthroughCluster", ""),
        ("BlackHoleCluster", ""),
        ("otel-collector.observability.svc.cluster.local:4317", ""),
        ("jaeger-agent", ""),
        ("prometheus", ""),
        ("8080", ""),
        ("", ""),
        (" ", ""),
        ('a"b{c}\nd', ""),
        ("x" * 5000, ""),
    ],
)
def test_an_address_becomes_the_name_of_a_service(text: str, name: str) -> None:
    assert plain_name(text) == name


@pytest.mark.parametrize(
    ("one", "call"),
    [
        (series("istio_requests_total", source_workload="web", destination_workload="orders"), ("web", "orders")),
        (
            series("istio_requests_total", source_app="web", destination_service_name="orders"),
            ("web", "orders"),
        ),
        (
            series("istio_requests_total", source_workload="unknown", destination_workload="orders"),
            None,
        ),
        (series("traces_service_graph_request_total", client="web", server="orders"), ("web", "orders")),
        (series("calls_between", caller="web", callee="orders"), ("web", "orders")),
        (series("response_total", direction="outbound", deployment="checkout", dst_deployment="payments"), ("checkout", "payments")),
        (series("response_total", direction="outbound", dst_deployment="payments"), ("checkout", "payments")),
        (series("http_client_requests_seconds_count", client_name="payments", uri="/pay"), ("checkout", "payments")),
        (series("http_client_request_duration_seconds_count", server_address="payments", server_port="80"), ("checkout", "payments")),
        (series("http_client_duration_milliseconds_count", net_peer_name="payments.shop.svc"), ("checkout", "payments")),
        (series("calls_total", span_kind="SPAN_KIND_CLIENT", peer_service="payments"), ("checkout", "payments")),
        (
            series("envoy_cluster_upstream_rq_total", envoy_cluster_name="outbound|80||payments.shop.svc.cluster.local"),
            ("checkout", "payments"),
        ),
        (series("envoy_cluster_upstream_rq_total", envoy_cluster_name="inbound|8080||"), None),
        (series("envoy_cluster_upstream_rq_total", envoy_cluster_name="payments"), ("checkout", "payments")),
        (series("http_client_requests_total", uri="http://payments:8080/pay"), ("checkout", "payments")),
        (series("http_client_requests_total", uri="/pay"), None),
        (series("http_client_requests_total", host="payments"), ("checkout", "payments")),
        (series("downstream_calls_seconds_count", target="payments:80"), ("checkout", "payments")),
        (series("downstream_calls_seconds_count", downstream="payments"), ("checkout", "payments")),
        (series("upstream_latency_seconds_sum", upstream="payments"), ("checkout", "payments")),
        (series("db_client_operation_duration_seconds_count", db_namespace="orders-db"), ("checkout", "orders-db")),
        (series("kafka_producer_record_send_total", topic="orders-events"), ("checkout", "orders-events")),
        (series("http_requests_total", source_workload="web"), ("web", "checkout")),
        (series("http_requests_total", host="payments", uri="/a"), None),
        (series("jvm_memory_used_bytes", area="heap"), None),
        (series("http_client_requests_total", host="10.1.2.3"), None),
        (series("http_client_requests_total", server_address="localhost"), None),
        (series("rpc_client_duration_count", server_address="otel-collector"), None),
        (series("http_client_requests_total", client_name="checkout"), None),
    ],
)  # fmt: skip
def test_labels_tell_who_calls_whom(one: Series, call: tuple[str, str] | None) -> None:
    assert read_calls([one, one], "checkout") == (frozenset() if call is None else frozenset({call}))


KNOWN = ("payments", "payments-archive", "orders-db", "stock", "web", "api", "kafka")


@pytest.mark.parametrize(
    ("key", "value", "services"),
    [
        ("payments.url", "http://payments:8080", {"payments"}),
        ("clients.payments.base-url", "https://payments.shop.svc.cluster.local/api", {"payments"}),
        ("env[PAYMENTS_URL].value", "http://payments-archive/", {"payments-archive"}),
        ("spring.datasource.url", "jdbc:postgresql://orders-db:5432/orders?ssl=true", {"orders-db"}),
        ("spring.datasource.url", "jdbc:oracle:thin:@orders-db:1521:xe", {"orders-db"}),
        ("spring.datasource.url", "jdbc:sqlserver://orders-db:1433;databaseName=orders", {"orders-db"}),
        ("DATABASE_DSN", "host=orders-db port=5432 user=app", {"orders-db"}),
        ("DATABASE_DSN", "app:pw@tcp(orders-db:3306)/orders?parseTime=true", {"orders-db"}),
        ("ConnectionStrings.Default", "Server=orders-db,1433;Database=orders;User Id=sa", {"orders-db"}),
        ("spring.kafka.bootstrap-servers", "kafka:9092, kafka.infra.svc:9092", {"kafka"}),
        ("mongo.uri", "mongodb://app:pw@orders-db,stock/orders", {"orders-db", "stock"}),
        ("PAYMENTS_HOST", "payments", {"payments"}),
        ("payments.host", "payments.shop", {"payments"}),
        ("paymentsServiceAddr", "payments:50051", {"payments"}),
        ("upstream", "stock:80", {"stock"}),
        ("gateway.routes[0].uri", "lb://payments", {"payments"}),
        ("command", "curl http://stock/health && echo ok", {"stock"}),
        ("payments.timeout", "30s", set()),
        ("payments.enabled", "payments", set()),
        ("note", "we call payments and stock", set()),
        ("server.description", "the payments service talks to (stock)", set()),
        ("stripe.url", "https://api.stripe.com/v1", set()),
        ("url", "http://10.0.0.1:8080/payments", set()),
        ("url", "http://localhost:8080/payments", set()),
        ("url", "http://payments-old:8080", set()),
        ("url", "http://mypayments:8080", set()),
        ("otel.exporter.otlp.endpoint", "http://payments:4317", set()),
        ("image", "images.example.org/payments:1.2.3", set()),
        ("servers.payments.timeout", "stock", set()),
        ("url", "", set()),
        ("url", "http://" + "a" * 100_000, set()),
        ("url", "http://[::1", set()),
    ],
)  # fmt: skip
def test_configuration_names_services_as_hosts_only(key: str, value: str, services: set[str]) -> None:
    values = [ConfigValue(path="app.yaml", key=key, value=value)]
    assert calls_in_configuration(values, KNOWN) == frozenset(services)


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("payments", {"payments", "payments-archive"}, "payments"),
        ("payments.shop.svc.cluster.local:8080", {"payments", "payments-archive"}, "payments"),
        ("Payments", {"payments"}, "payments"),
        ("payments", {"Payments"}, "Payments"),
        ("payments-v2", {"payments"}, "payments"),
        ("payments-v2", {"payments", "payments-v2"}, "payments-v2"),
        ("payments-service", {"payments"}, "payments"),
        ("payments", {"payments-service"}, "payments-service"),
        ("payments", {"payments-service", "payments-svc"}, None),
        ("order_history", {"order-history"}, "order-history"),
        ("orders-db.abc123.eu-west-1.rds.amazonaws.com", {"orders-db"}, "orders-db"),
        ("api.stripe.com", {"api"}, None),
        ("pay", {"payments"}, None),
        ("payments-archive", {"payments"}, None),
        ("10.0.0.1", {"payments"}, None),
        ("", {"payments"}, None),
        ("payments", set(), None),
        ("jaeger", {"jaeger"}, "jaeger"),
        ("lambdastatusupdater_AWS::Lambda", {"lambdastatusupdater_AWS::Lambda"}, "lambdastatusupdater_AWS::Lambda"),
    ],
)
def test_a_peer_meets_its_service_or_nobody(name: str, known: set[str], found: str | None) -> None:
    assert closest(name, known) == found


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=20))
def test_any_text_is_read_without_a_fault(key: str, value: str, label: str) -> None:
    values = [ConfigValue(path="a", key=key, value=value), ConfigValue(path="a", key="url", value="http://" + value)]
    assert calls_in_configuration(values, {"payments"}) <= {"payments"}
    calls = read_calls([series(key, client=value, server=label), series("http_client_calls", host=value)], "checkout")
    assert all(caller and callee and caller != callee for caller, callee in calls)
    assert host_of(value) == host_of(host_of(value)) or not plain_name(value)


@given(
    st.sampled_from(KNOWN),
    st.sampled_from(["", "http://", "grpc://user@", "outbound|80||"]),
    st.sampled_from(["", ":8080"]),
)
def test_a_known_service_is_found_under_each_spelling(service: str, before: str, after: str) -> None:
    assert closest(f"{before}{service}.shop.svc.cluster.local{after}", KNOWN) == service
