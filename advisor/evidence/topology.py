"""Who calls whom, by what the metrics and the configuration say: no trace and no drawing of the architecture is needed.

A mesh, a service graph and every HTTP client label their series with the other end of a call, under a dozen names. Here these
names meet, and hosts lose what is only an address (port, namespace, cluster domain), so that one service has one name. What is
no service (an IP address, localhost, a collector of telemetry) is left out. Nothing is guessed: a name that belongs to no
configured service stays as it is.

Pure. Called by the gathering of a service's neighbours and by the diagnosis.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from advisor.evidence import ConfigValue, Series

# Caller and callee stand side by side in one label set: Istio, Linkerd, service graphs of Tempo and of the OpenTelemetry
# collector, home-made ones. The first pair whose two labels are both there is taken.
_PAIRS = (
    ("source_workload", "destination_workload"),
    ("source_canonical_service", "destination_canonical_service"),
    ("source_app", "destination_app"),
    ("source_workload", "destination_service_name"),
    ("source_app", "destination_service_name"),
    ("source_workload", "destination_service"),
    ("source_app", "destination_service"),
    ("source_service", "destination_service"),
    ("source", "destination"),
    ("client", "server"),
    ("caller", "callee"),
    ("caller_service", "callee_service"),
    ("client_service", "server_service"),
    ("from", "to"),
    ("src", "dst"),
    ("deployment", "dst_deployment"),
    ("service_name", "peer_service"),
)

# The other end alone: the service that exports the series makes the call. Most telling first: a name that people gave before
# an address. Micrometer, OpenTelemetry (old and new conventions), Envoy, Linkerd, Traefik, and what services write themselves.
CALLEE_LABELS = (
    "destination_workload",
    "destination_canonical_service",
    "destination_service_name",
    "destination_app",
    "destination_service",
    "dst_deployment",
    "dst_service",
    "callee",
    "callee_service",
    "peer_service",
    "peer",
    "upstream",
    "upstream_name",
    "upstream_cluster",
    "upstream_service",
    "envoy_cluster_name",
    "cluster_name",
    "backend",
    "dependency",
    "downstream",
    "remote_service",
    "remote",
    "server_address",
    "net_peer_name",
    "http_host",
    "target_host",
    "client_name",
    "clientName",
    "target",
    "authority",
    "url",
    "uri",
    "host",
)
_STORE_LABELS = ("db_namespace", "db_name", "database", "db", "queue", "queue_name", "topic", "destination_name")
_CALLER_LABELS = (
    "source_workload",
    "source_canonical_service",
    "source_app",
    "source_service",
    "caller",
    "caller_service",
    "client",
    "client_service",
)
_OUTBOUND_NAME = re.compile(
    r"(^|_)(clients?|outbound|upstream|downstream|dependency|dependencies|remote|backend|egress|external|outgoing|feign"
    r"|resttemplate|webclient|okhttp|httpclient|producer|lettuce|jedis|mongodb|jdbc|db|sql)(_|$)"
)
# "host", "url", "uri", "target" of a server metric say where it runs or what was asked for, not whom it calls.
_ONLY_OF_CLIENTS = frozenset(
    {"host", "url", "uri", "target", "backend", "remote", "server_address", "cluster_name", "http_host", "client_name"}
    | set(_STORE_LABELS)
)

_NOBODY = frozenset(
    "unknown none null undefined n/a na other others default all any localhost passthroughcluster blackholecluster"
    " inboundpassthroughcluster inboundpassthroughclusteripv4 passthrough root user self virtual_node xds-grpc"
    " sds-grpc agent prometheus_stats localhost.localdomain host.docker.internal kubernetes.default kubernetes".split()
)
_TELEMETRY = frozenset(
    "otel otelcol opentelemetry otlp jaeger zipkin tempo loki prometheus pushgateway promtail grafana mimir thanos cortex"
    " alertmanager statsd graphite sentry datadog dd-agent newrelic fluentd fluentbit fluent-bit fluent logstash filebeat"
    " apm-server splunk tracing telemetry node-exporter node_exporter kube-state-metrics honeycomb".split()
)
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}|\[?[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F.]*\]?(%\w+)?")
_ENVOY_CLUSTER = re.compile(r"(?:inbound|outbound)(?:_\.?)?\|(\d*)\|([^|]*)\|(.*)")
_SCHEME = re.compile(r"^(?:jdbc:(?:[a-z0-9]+:)*|r2dbc:(?:[a-z0-9]+:)*)?[a-z][a-z0-9+.-]*:/{2,3}", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_POD = re.compile(r"-(?:[0-9a-f]{8,10}|[bcdfghjklmnpqrstvwxz2456789]{8,10})-[a-z0-9]{5}$")
_VERSION = re.compile(r"-v\d+(?:[.-]\d+)*$")
_KIND_WORD = re.compile(r"[-_](?:service|svc|server|app|application|deployment)$")
_INTERNAL = frozenset(
    "svc local internal cluster consul mesh lan corp intranet test localdomain localnet arpa private".split()
)
# Ends of public names. With one of these the first part of a host is no service of ours: api.stripe.com is not "api".
_PUBLIC = frozenset(
    "com net org io dev app cloud co eu de uk us fr nl ch at it es jp cn in br au ca gov edu ai me".split()
)
_MANAGED = re.compile(
    r"\.(?:rds|cache|elb|es|docdb|redshift|mq|kafka)\.amazonaws\.com$|\.[a-z0-9-]+\.(?:rds|cache|elb|es)\.amazonaws\.com$"
    r"|\.(?:database|redis\.cache|servicebus|documents)\.(?:windows|azure)\.(?:net|com)$"
)
_ADDRESS_MAX = 4096  # a longer text is no address
_NAME_MAX = 253  # the longest host name that DNS allows; longer text in a label is no name


def host_of(text: str) -> str:
    """Return the host in an address, URL, connection string or Envoy cluster name; empty where there is none."""
    text = text.strip()
    if not text or len(text) > _ADDRESS_MAX:
        return ""
    cluster = _ENVOY_CLUSTER.fullmatch(text)
    if cluster is not None:
        return host_of(cluster.group(3)) if "|" not in cluster.group(3) else ""
    text = _SCHEME.sub("", text, count=1)
    text = re.split(r"[/?#;,\s]", text, maxsplit=1)[0]
    text = text.rsplit("@", 1)[-1].strip("\"'()")
    if _ADDRESS.fullmatch(text):
        return text
    host = re.sub(r":\w*$", "", text).rstrip(".")
    return host if len(host) <= _NAME_MAX and _HOST.fullmatch(host) else ""


def _of_kubernetes(host: str) -> str:
    """Return the service of a cluster-internal host: the part before the namespace; of a stateful set's pod the set's service."""
    parts = host.split(".")
    if "svc" not in parts[1:]:
        return ""
    at = parts.index("svc", 1)
    # name.namespace.svc, pod.name.namespace.svc, or without a namespace: name.svc
    return parts[max(at - 2, 0)]


def plain_name(text: str) -> str:
    """Return the name of what an address, host, cluster or workload label means; empty where it is no service.

    ``payments.shop.svc.cluster.local:8080`` and ``outbound|8080||payments.shop.svc.cluster.local`` are ``payments``; a public
    host keeps its whole name; IP addresses, localhost, placeholders and telemetry are nothing.
    """
    return _plain_name(text) if len(text) <= _ADDRESS_MAX else ""


@lru_cache(maxsize=8192)
def _plain_name(text: str) -> str:
    host = host_of(text)
    name = (_of_kubernetes(host) or host).lower()
    if not name or name in _NOBODY or _ADDRESS.fullmatch(name) or name.endswith((".localhost", ".in-addr.arpa")):
        return ""
    if name.isdigit() or is_telemetry(name):
        return ""
    return _POD.sub("", name)


def is_telemetry(name: str) -> bool:
    """Return whether a name is of something that receives or stores telemetry: everything calls it, it explains nothing."""
    first = name.lower().split(".")[0]
    return first in _TELEMETRY or bool(set(re.split(r"[-_]", first)[:2]) & _TELEMETRY)


def _ends(labels: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the raw caller and callee where one label set names both."""
    for caller, callee in _PAIRS:
        if labels.get(caller) and labels.get(callee):
            return labels[caller], labels[callee]
    return None


def call_of(labels: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (caller, callee) where one label set names both ends; an end that is no service is empty."""
    ends = _ends(labels)
    return None if ends is None else (plain_name(ends[0]), plain_name(ends[1]))


def callee_of(name: str, labels: Mapping[str, str]) -> str:
    """Return whom a client's series is about; empty where no label says so or the metric is a server's."""
    outbound = is_outbound(name, labels)
    for label in CALLEE_LABELS:
        value = labels.get(label)
        if not value or (label in _ONLY_OF_CLIENTS and not outbound):
            continue
        if label in ("uri", "url", "target") and "://" not in value and not re.search(r":\d+$", value):
            continue  # a path is what was asked for, not who was asked
        found = plain_name(value)
        if found and not (label == "envoy_cluster_name" and value.startswith("inbound")):
            return found
    if outbound or "consumer" in name.lower():
        return next((n for label in _STORE_LABELS if labels.get(label) and (n := plain_name(labels[label]))), "")
    return ""


def is_outbound(name: str, labels: Mapping[str, str]) -> bool:
    """Return whether a series counts calls that its exporter makes, by direction labels first, then by words of the name."""
    direction = labels.get("direction", "").lower()
    kind = (labels.get("span_kind") or labels.get("kind") or "").upper()
    if direction in ("inbound", "outbound"):
        return direction == "outbound"
    if labels.get("reporter") in ("source", "destination"):
        return labels["reporter"] == "source"
    if kind in ("SPAN_KIND_CLIENT", "CLIENT", "SPAN_KIND_PRODUCER", "PRODUCER"):
        return True
    if kind in ("SPAN_KIND_SERVER", "SERVER", "SPAN_KIND_CONSUMER", "SPAN_KIND_INTERNAL"):
        return False
    lowered = name.lower()
    # Envoy's "downstream" is who calls, everybody else's is who is called.
    return _OUTBOUND_NAME.search(lowered) is not None and not lowered.startswith(("envoy_http_", "envoy_listener_"))


def read_calls(series: Iterable[Series], service: str) -> frozenset[tuple[str, str]]:
    """Return the calls that series tell of, as (caller, callee).

    Args:
        series: Series of ``service``, or of a mesh about it; labels are enough, samples are not looked at.
        service: Who exports those series that name only the other end.
    """
    found: set[tuple[str, str]] = set()
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for s in series:
        if (s.name, s.labels) in seen:
            continue
        seen.add((s.name, s.labels))
        found.add(_call(s.name, dict(s.labels), service))
    return frozenset((a, b) for a, b in found if a and b and a != b)


def _call(name: str, labels: Mapping[str, str], service: str) -> tuple[str, str]:
    both = call_of(labels)
    if both is not None:
        return both
    callee = callee_of(name, labels)
    if callee:
        return service, callee
    caller = next((n for label in _CALLER_LABELS if labels.get(label) and (n := plain_name(labels[label]))), "")
    return caller, service


# --- configuration -----------------------------------------------------------------------------------------------------

_HOST_KEY = frozenset(
    "host hosts hostname hostnames url urls uri uris address addresses addr addrs endpoint endpoints server servers broker"
    " brokers bootstrap upstream upstreams backend backends target targets dsn jdbc connection connectionstring node nodes"
    " contactpoints peer peers origin destination baseurl servicename serviceurl".split()
)
_TELEMETRY_KEY = frozenset(
    "otel otlp tracing trace traces telemetry zipkin jaeger sentry statsd graphite loki pushgateway metrics opentelemetry apm"
    " logging".split()
)
_URL = re.compile(
    r"(?:jdbc:(?:[a-z0-9]{1,20}:){1,4}|r2dbc:(?:[a-z0-9]{1,20}:){1,4})?[a-z][a-z0-9+.-]{0,30}:/{2,3}([^\s\"'<>/?#;]{1,500})",
    re.IGNORECASE,
)
_DSN_HOST = re.compile(
    r"(?:^|[\s;,?&])(?:host|hostaddr|server|data source|addr|address|hostname)\s*=\s*([^\s;&\"']{1,253})", re.IGNORECASE
)
_GO_DSN = re.compile(r"@(?:tcp|tcp4|tcp6|unix)\(([^()\s]{1,253})\)")
_ORACLE = re.compile(r"jdbc:oracle:thin:[^@\s]{0,200}@(?://)?([A-Za-z0-9_.-]{1,253})", re.IGNORECASE)
_TEXT_MAX = 20_000  # a longer value is a file or a certificate, no address


def hosts_in_value(key: str, value: str) -> frozenset[str]:
    """Return the hosts that one configuration value names, as plain names; public hosts keep their whole name."""
    if len(value) > _TEXT_MAX or not value:
        return frozenset()
    words = _key_words(key)
    if words & _TELEMETRY_KEY:
        return frozenset()
    raw: list[str] = []
    for authority in _URL.findall(value):
        raw += authority.rsplit("@", 1)[-1].split(",")
    raw += _DSN_HOST.findall(value) + _GO_DSN.findall(value) + _ORACLE.findall(value)
    if not raw and words & _HOST_KEY:
        items = [item.strip(" \t\"'") for item in re.split(r"[,;\s\[\]]+", value)]
        raw = [item for item in items if item]
        # Prose under a key called "server" is no list of hosts.
        if len(raw) > 1 and not all(re.fullmatch(r"[\w.-]+(:\d+)?(/\S*)?", item) for item in raw):
            raw = []
    return frozenset(name for item in raw if (name := plain_name(item.replace("tcp(", "").split("(")[0])))


def _key_words(key: str) -> frozenset[str]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", key)
    words = [w for w in re.split(r"[^A-Za-z0-9]+", spaced.lower()) if w]
    # The last words say what the value is: in servers.payments.timeout it is a timeout.
    return frozenset(words[-2:]) | (frozenset(words) & _TELEMETRY_KEY)


def calls_in_configuration(values: Iterable[ConfigValue], known_services: Iterable[str]) -> frozenset[str]:
    """Return which known services stand as hosts in URLs, host keys and connection strings of a service's configuration.

    The service's own name may be among them where its configuration names itself.
    """
    known = frozenset(known_services)
    hosts = frozenset(host for one in values for host in hosts_in_value(one.key, one.value))
    return frozenset(service for host in hosts if (service := closest(host, known)) is not None)


# --- names -------------------------------------------------------------------------------------------------------------


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the configured service that a peer's name means: exact, then as a plain name; None rather than a guess."""
    known = sorted(set(known))
    if name in known:
        return name
    plain = plain_name(name)
    if not plain:
        return None
    for form in _forms(plain):
        matches = [k for k in known if form == k.lower()] or [k for k in known if form in _forms(k.lower())]
        if matches:
            return matches[0] if len(matches) == 1 else None
    return None


def _forms(name: str) -> tuple[str, ...]:
    """Return the ways to write one name, most exact first: without domain, separators alike, no version, no word of kind."""
    forms = [name, name.replace("_", "-")]
    head = _first_part(name)
    if head:
        forms.append(head.replace("_", "-"))
    unversioned = _VERSION.sub("", forms[-1])
    forms += [unversioned, _KIND_WORD.sub("", unversioned)]
    return tuple(dict.fromkeys(f for f in forms if f))


def _first_part(host: str) -> str:
    parts = host.split(".")
    if len(parts) < 2:
        return ""
    if _MANAGED.search(host) or parts[-1] in _INTERNAL or (len(parts) <= 3 and parts[-1] not in _PUBLIC):
        return parts[0]
    return ""
