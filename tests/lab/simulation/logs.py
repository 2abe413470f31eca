"""Log files of simulated services: what happened to them in the words of their language's libraries, among ordinary lines.

A failure is logged at most about `FAILURES_MAX` times for each kind: loggers in the field sample as well, and a bundle holds shapes
and counts, not lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tests.lab.simulation.model import Trace

FAILURES_MAX = 500
ORDINARY_MAX = 700
ROUTINE_SECONDS = 600.0


@dataclass(frozen=True)
class Event:
    """One thing that is logged."""

    at: float
    level: str
    logger: str
    text: str
    stack: tuple[str, ...] = ()


# Words for each kind of failure by language. {target} is the called service, {host} its address, {seconds} the wait.
_JAVA = {
    "timeout": (
        "{target} did not answer in time",
        'org.springframework.web.client.ResourceAccessException: I/O error on GET request for "http://{host}/v1/{id}": Read timed out',
        "java.net.SocketTimeoutException: Read timed out",
    ),
    "refused": (
        "{target} cannot be reached",
        'org.springframework.web.client.ResourceAccessException: I/O error on GET request for "http://{host}/v1/{id}": Connection refused',
        "java.net.ConnectException: Connection refused",
    ),
    "unresolved": (
        "{target} cannot be reached",
        'org.springframework.web.client.ResourceAccessException: I/O error on GET request for "http://{host}/v1/{id}": {host}',
        "java.net.UnknownHostException: {host}",
    ),
    "unauthorized": (
        "{target} refused the request",
        'org.springframework.web.client.HttpClientErrorException$Unauthorized: 401 Unauthorized: "invalid client credentials"',
        "",
    ),
    "certificate": (
        "no connection to {target}",
        "javax.net.ssl.SSLHandshakeException: PKIX path building failed",
        "sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target",
    ),
    "failing": (
        "{target} answered with an error",
        "org.springframework.web.client.HttpServerErrorException$ServiceUnavailable: 503 Service Unavailable: [no body]",
        "",
    ),
    "pool": (
        "Servlet.service() for servlet [dispatcherServlet] threw exception",
        "org.springframework.dao.DataAccessResourceFailureException: Unable to acquire JDBC Connection",
        "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after {wait}ms",
    ),
    "overflow": ("request rejected, no thread is free", "", ""),
    "late": ("request abandoned by the client: Broken pipe", "", ""),
    "limited": (
        "RateLimiter 'default' does not permit further calls",
        "",
        "",
    ),
    "heap": ("Exception in thread handler", "java.lang.OutOfMemoryError: Java heap space", ""),
    "disk": ("cannot write", "java.io.IOException: No space left on device", ""),
    "slow": ("slow request: {id} took {took} ms", "", ""),
}
_GO = {
    "timeout": 'call failed target={target} err="Get \\"http://{host}/v1/{id}\\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"',
    "refused": 'call failed target={target} err="dial tcp {host}: connect: connection refused"',
    "unresolved": 'call failed target={target} err="dial tcp: lookup {host}: no such host"',
    "unauthorized": 'call failed target={target} status=401 err="invalid client credentials"',
    "certificate": 'call failed target={target} err="tls: failed to verify certificate: x509: certificate signed by unknown authority"',
    "failing": 'call failed target={target} status=503 err="upstream unavailable"',
    "pool": 'request failed err="acquire connection: context deadline exceeded: all connections are in use"',
    "overflow": 'request shed err="too many requests in flight"',
    "late": 'request cancelled err="context canceled"',
    "limited": "request limited client=10.3.2.{n} status=429",
    "heap": "out of memory",
    "disk": 'write failed err="write /data/segment-{n}.log: no space left on device"',
    "slow": "slow request id={id} took_ms={took}",
}
_PYTHON = {
    "timeout": (
        "call to {target} failed",
        "requests.exceptions.ReadTimeout: HTTPConnectionPool(host='{host}', port=80): Read timed out. (read timeout={seconds})",
    ),
    "refused": (
        "call to {target} failed",
        "requests.exceptions.ConnectionError: HTTPConnectionPool(host='{host}', port=80): Failed to establish a new connection: [Errno 111] Connection refused",
    ),
    "unresolved": (
        "call to {target} failed",
        "requests.exceptions.ConnectionError: HTTPConnectionPool(host='{host}', port=80): Failed to resolve '{host}' ([Errno -2] Name or service not known)",
    ),
    "unauthorized": (
        "call to {target} failed",
        "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://{host}/v1",
    ),
    "certificate": (
        "call to {target} failed",
        "requests.exceptions.SSLError: HTTPSConnectionPool(host='{host}', port=443): certificate verify failed: unable to get local issuer certificate",
    ),
    "failing": (
        "call to {target} failed",
        "requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url: https://{host}/v1",
    ),
    "pool": (
        "unhandled error",
        "sqlalchemy.exc.TimeoutError: QueuePool limit of size {size} overflow 0 reached, connection timed out, timeout {seconds}",
    ),
    "overflow": ("worker queue is full, request refused", ""),
    "late": ("client closed the connection before the answer", ""),
    "limited": ("429 for client {n}: rate limit exceeded", ""),
    "heap": ("out of memory", "MemoryError"),
    "disk": ("cannot store", "OSError: [Errno 28] No space left on device"),
    "slow": ("slow request {id}: {took} ms", ""),
}
_NODE = {
    "timeout": "request to {target} failed: timeout of {wait}ms exceeded",
    "refused": "request to {target} failed: connect ECONNREFUSED {host}",
    "unresolved": "request to {target} failed: getaddrinfo ENOTFOUND {host}",
    "unauthorized": "request to {target} failed: Request failed with status code 401",
    "certificate": "request to {target} failed: unable to verify the first certificate",
    "failing": "request to {target} failed: Request failed with status code 503",
    "pool": "TimeoutError: ResourceRequest timed out",
    "overflow": "too many requests in progress, refused",
    "late": "client aborted request {id}",
    "limited": "rate limit exceeded for key {n}",
    "heap": "JavaScript heap out of memory",
    "disk": "ENOSPC: no space left on device, write",
    "slow": "request {id} took {took}ms",
}
_NGINX = {
    "timeout": '*{id} upstream timed out (110: Connection timed out) while reading response header from upstream, upstream: "http://{host}/"',
    "refused": '*{id} connect() failed (111: Connection refused) while connecting to upstream, upstream: "http://{host}/"',
    "unresolved": "*{id} {host} could not be resolved (3: Host not found)",
    "unauthorized": '*{id} auth request unexpected status: 401 while sending to client, upstream: "http://{host}/"',
    "certificate": "*{id} upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream",
    "failing": '*{id} upstream prematurely closed connection while reading response header from upstream, upstream: "http://{host}/"',
    "pool": "*{id} no live upstreams while connecting to upstream",
    "overflow": "{n} worker_connections are not enough",
    "late": "*{id} client prematurely closed connection",
    "limited": '*{id} limiting requests, excess: 12.{n} by zone "perip", client: 10.3.2.{n}',
    "heap": "out of memory",
    "disk": '*{id} pwrite() "/var/cache/nginx/{n}" failed (28: No space left on device)',
    "slow": "*{id} an upstream response is buffered to a temporary file",
}

_LEVELS = {"late": "WARN", "limited": "WARN", "slow": "WARN"}


def write_log(trace: Trace, epoch: float, style: str, service: str, hosts: Mapping[str, str], rng: Any) -> str:
    """Return the text of a service's log.

    Args:
        trace: What happened to it.
        epoch: Of the trace's time 0.
        style: ``spring``, ``logback``, ``json``, ``logfmt``, ``klog``, ``python``, ``node`` or ``nginx``.
        service: Its name.
        hosts: Address of each called service.
        rng: Seeded generator.
    """
    found = [*_failures(trace, style, service, hosts, rng), *_ordinary(trace, style, service, rng)]
    found += _lifecycle(trace, style, service)
    found.sort(key=lambda e: e.at)
    form = _FORMS[style]
    return "".join(form(e, epoch) for e in found)


def _times(trace: Trace, rate: np.ndarray, most: int, rng: Any) -> list[float]:
    """Return instants of events at these rates, thinned so that not many more than ``most`` remain."""
    step = trace.times[1] - trace.times[0]
    total = float(np.sum(rate) * step)
    thin = min(1.0, most / total) if total > 0 else 0.0
    counts = rng.poisson(np.maximum(rate, 0) * step * thin)
    return [float(t - step * rng.random()) for t, n in zip(trace.times, counts, strict=True) for _ in range(int(n))]


def _failures(trace: Trace, style: str, service: str, hosts: Mapping[str, str], rng: Any) -> list[Event]:
    crash = trace.get("ready") == 0
    sources: list[tuple[str, np.ndarray, str]] = [
        ("pool", trace.get("pool_timeouts"), ""),
        ("overflow", np.where(crash, 0, trace.get("overflow")), ""),
        ("late", trace.get("late"), ""),
        ("limited", trace.get("limited"), ""),
    ]
    slow = trace.get("done") * np.clip(trace.get("time") / 1.0 - 0.6, 0, 1) * 0.2
    sources.append(("slow", slow, ""))
    full = np.array([p.disk_size > 0 for p in trace.params]) & (trace.get("disk") >= trace.param("disk_size") * 0.995)
    sources.append(("disk", np.where(full, trace.get("bugs"), 0), ""))
    for target in trace.targets():
        failed = trace.get(f"call:{target}:failed")
        timeouts = np.minimum(trace.get(f"call:{target}:timeouts"), failed)
        fault = np.array([p.calls[target].fault if target in p.calls else "" for p in trace.params])
        for kind in sorted(set(fault) - {""}):
            sources.append((kind, np.where(fault == kind, failed, 0), target))
        sources.append(("timeout", np.where(fault == "", timeouts, 0), target))
        sources.append(("failing", np.where(fault == "", failed - timeouts, 0), target))
    events = []
    for kind, rate, target in sources:
        for at in _times(trace, rate, FAILURES_MAX, rng):
            index = min(int(np.searchsorted(trace.times, at)), len(trace.params) - 1)
            params = trace.params[index]
            call = params.calls.get(target)
            seconds = call.timeout if call else params.pool_timeout
            context = {
                "target": target,
                "host": (call.host if call else "") or hosts.get(target, target),
                "id": int(rng.integers(10_000, 99_999)),
                "n": int(rng.integers(2, 250)),
                "seconds": f"{seconds:g}",
                "wait": round(seconds * 1000),
                "size": params.pool,
                "took": round(float(trace.get("time")[index]) * 1000 * float(rng.uniform(1.2, 3))),
            }
            events.append(_event(at, kind, style, service, target, context))
    bugs = np.where(full, 0, trace.get("bugs"))
    for at in _times(trace, bugs, FAILURES_MAX, rng):
        index = min(int(np.searchsorted(trace.times, at)), len(trace.params) - 1)
        text = trace.params[index].fault
        if text:
            events.append(_bug(at, text, style, service))
        elif rng.random() < 0.3:
            events.append(
                Event(at, "WARN", service, f"request {rng.integers(10_000, 99_999)} was malformed and refused")
            )
    for replica in trace.replicas:
        for killed, (_, why) in zip(replica.kills, replica.restarts, strict=True):
            if why == "heap":
                events += [_event(killed - before, "heap", style, service, "", {}) for before in (9.0, 4.0, 0.5)]
    return events


def _event(at: float, kind: str, style: str, service: str, target: str, context: Mapping[str, Any]) -> Event:
    level = _LEVELS.get(kind, "ERROR")
    words = _LANGUAGE[style]
    logger = (
        f"org.example.{service.replace('-', '')}.{(target or 'web').replace('-', '').title()}Client"
        if words is _JAVA
        else service
    )
    entry = words[kind]
    safe = {"target": "", "host": "", "id": 0, "n": 0, "seconds": "", "wait": 0, "size": 0, "took": 0, **context}
    if isinstance(entry, str):
        return Event(at, level, logger, entry.format(**safe))
    parts = [p.format(**safe) for p in entry]
    if words is _JAVA:
        stack: tuple[str, ...] = ()
        if parts[1]:
            package = service.replace("-", "")
            stack = (
                parts[1],
                f"\tat org.example.{package}.Client.get(Client.java:84)",
                f"\tat org.example.{package}.Handler.handle(Handler.java:41)",
            )
            if parts[2]:
                stack += (
                    f"Caused by: {parts[2]}",
                    "\tat java.base/java.lang.Thread.run(Thread.java:840)",
                    "\t... 41 common frames omitted",
                )
        return Event(at, level, logger, parts[0], stack)
    stack = ()
    if parts[1]:
        module = service.replace("-", "_")
        stack = (
            "Traceback (most recent call last):",
            f'  File "/srv/{module}/views.py", line 88, in handle',
            "    result = self.load(key)",
            parts[1],
        )
    return Event(at, level, logger, parts[0], stack)


def _bug(at: float, text: str, style: str, service: str) -> Event:
    """Return the line of a release's own fault."""
    package = service.replace("-", "")
    if _LANGUAGE[style] is _JAVA:
        frames: tuple[str, ...] = (
            text,
            f"\tat org.example.{package}.Totals.merge(Totals.java:57)",
            f"\tat org.example.{package}.Handler.handle(Handler.java:63)",
        )
        return Event(at, "ERROR", f"org.example.{package}.Handler", "request failed", frames)
    if _LANGUAGE[style] is _PYTHON:
        frames = (
            "Traceback (most recent call last):",
            f'  File "/srv/{package}/totals.py", line 57, in merge',
            "    row = rows[key]",
            text,
        )
        return Event(at, "ERROR", service, "unhandled error", frames)
    return Event(at, "ERROR", service, text)


def _ordinary(trace: Trace, style: str, service: str, rng: Any) -> list[Event]:
    events = []
    verbose = trace.param("log_lines") > 3
    for at in _times(trace, trace.get("done"), ORDINARY_MAX, rng):
        index = min(int(np.searchsorted(trace.times, at)), len(trace.times) - 1)
        took = round(float(trace.get("time")[index]) * 1000 * float(rng.lognormal(0, 0.5)), 1)
        number = int(rng.integers(100_000, 999_999))
        events.append(
            Event(at, "INFO", f"org.example.{service.replace('-', '')}.Handler", f"handled {number} in {took} ms")
        )
        if verbose[index]:
            events.append(
                Event(
                    at - 0.01,
                    "DEBUG",
                    f"org.example.{service.replace('-', '')}.Handler",
                    f"request {number}: headers and body read, {rng.integers(200, 9000)} bytes",
                )
            )
            events.append(
                Event(
                    at - 0.005,
                    "DEBUG",
                    f"org.example.{service.replace('-', '')}.Codec",
                    f"entity {number} mapped to {rng.integers(3, 40)} fields",
                )
            )
    last = float(trace.times[-1])
    for number, at in enumerate(np.arange(float(rng.uniform(20, 300)), last, ROUTINE_SECONDS)):
        events.append(
            Event(
                float(at),
                "INFO",
                "org.example.jobs.Housekeeping",
                f"housekeeping run {number + 100} removed {rng.integers(0, 60)} rows",
            )
        )
    for at in rng.uniform(0, last, max(2, int(last / 2400))):
        events.append(
            Event(
                float(at),
                "WARN",
                "org.example.web.Filter",
                f"client 10.3.{rng.integers(0, 9)}.{rng.integers(2, 250)} sent no user agent",
            )
        )
    return events


def _lifecycle(trace: Trace, style: str, service: str) -> list[Event]:
    events = []
    name = service.replace("-", "").title()
    application = f"org.example.{service.replace('-', '')}.{name}Application"
    last = float(trace.times[-1])
    for replica in trace.replicas:
        begins = [replica.started, *(begin for begin, _ in replica.restarts)]
        for begin, killed in zip(begins, [*replica.kills, replica.ended], strict=True):
            if begin < 0 or begin > last:
                continue
            took = trace.params[min(int(np.searchsorted(trace.times, begin)), len(trace.params) - 1)].startup
            if _LANGUAGE[style] is _JAVA:
                starting = Event(
                    begin + took * 0.2, "INFO", application, f"Starting {name}Application using Java 17.0.11 with PID 1"
                )
                words = f"Started {name}Application in {took * 0.8:.3f} seconds (process running for {took:.3f})"
                started = Event(begin + took, "INFO", application, words)
            else:
                starting = Event(begin + took * 0.3, "INFO", service, f"starting {service}, configuration read")
                started = Event(begin + took, "INFO", service, f"{service} is listening on :8080")
            events += [e for e in (starting, started) if e.at < killed]
        asked = [at for at, (_, why) in zip(replica.kills, replica.restarts, strict=True) if why == "liveness"]
        for at in [*asked, replica.ended]:
            if 0 < at < last:
                events.append(Event(at, "INFO", service, "received signal terminated, shutting down"))
    return events


# --- forms of lines -------------------------------------------------------------------------------------------------------


def _clock(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _with_stack(line: str, event: Event) -> str:
    return "\n".join([line, *event.stack]) + "\n"


def _spring(event: Event, epoch: float) -> str:
    moment = _clock(epoch + event.at)
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    return _with_stack(
        f"{stamp} {event.level:>5} 1 --- [nio-8080-exec-7] {event.logger[-40:]:<40} : {event.text}", event
    )


def _logback(event: Event, epoch: float) -> str:
    moment = _clock(epoch + event.at)
    stamp = moment.strftime("%Y-%m-%d %H:%M:%S,") + f"{moment.microsecond // 1000:03d}"
    return _with_stack(f"{stamp} [worker-3] {event.level:<5} {event.logger} - {event.text}", event)


def _json(event: Event, epoch: float) -> str:
    moment = _clock(epoch + event.at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = {"@timestamp": moment, "level": event.level, "logger": event.logger, "message": event.text}
    if event.stack:
        entry["stack_trace"] = "\n".join(event.stack)
    return json.dumps(entry) + "\n"


def _logfmt(event: Event, epoch: float) -> str:
    moment = _clock(epoch + event.at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head, _, rest = event.text.partition(" target=")
    tail = f" target={rest}" if rest else ""
    if " err=" in head:
        head, _, error = head.partition(" err=")
        tail = f" err={error}"
    return f'time={moment} level={event.level} msg="{head}"{tail}\n'


def _klog(event: Event, epoch: float) -> str:
    moment = _clock(epoch + event.at)
    return f"{event.level[0]}{moment.strftime('%m%d %H:%M:%S.%f')}       1 handler.go:118] {event.text}\n"


def _python(event: Event, epoch: float) -> str:
    moment = _clock(epoch + event.at)
    stamp = moment.strftime("%Y-%m-%d %H:%M:%S,") + f"{moment.microsecond // 1000:03d}"
    level = "WARNING" if event.level == "WARN" else event.level
    return _with_stack(f"{stamp} {level} [{event.logger.split('.')[-1].lower()}] {event.text}", event)


def _node(event: Event, epoch: float) -> str:
    level = {"DEBUG": 20, "INFO": 30, "WARN": 40, "ERROR": 50}[event.level]
    return json.dumps({"level": level, "time": round((epoch + event.at) * 1000), "pid": 1, "msg": event.text}) + "\n"


def _nginx(event: Event, epoch: float) -> str:
    moment = _clock(epoch + event.at)
    if event.level == "INFO" and event.text.startswith("handled"):
        stamp = moment.strftime("%d/%b/%Y:%H:%M:%S +0000")
        number = event.text.split()[1]
        return f'10.3.2.{int(number) % 250} - - [{stamp}] "GET /p/{number} HTTP/1.1" 200 {int(number) % 9000} "-" "Mozilla/5.0"\n'
    level = {"DEBUG": "debug", "INFO": "notice", "WARN": "warn", "ERROR": "error"}[event.level]
    return f"{moment.strftime('%Y/%m/%d %H:%M:%S')} [{level}] 29#29: {event.text}\n"


_LANGUAGE: dict[str, Mapping[str, Any]] = {
    "spring": _JAVA,
    "logback": _JAVA,
    "json": _JAVA,
    "logfmt": _GO,
    "klog": _GO,
    "python": _PYTHON,
    "node": _NODE,
    "nginx": _NGINX,
}
_FORMS: dict[str, Callable[[Event, float], str]] = {
    "spring": _spring,
    "logback": _logback,
    "json": _json,
    "logfmt": _logfmt,
    "klog": _klog,
    "python": _python,
    "node": _node,
    "nginx": _nginx,
}
