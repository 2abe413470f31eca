"""INI, directives, nginx, units, XML and templates by key: what is read, where it stands, and that an edit changes only that."""

from __future__ import annotations

import configparser
import time
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.config_file import read_entries, remove_key, revert_keys, set_value
from advisor.config_file.detecting import detect
from advisor.errors import ChangeRefused, SourceMalformed
from advisor.evidence.config_diff import diff_keys
from advisor.redaction import is_secret_key

PGBOUNCER = b"""\
[databases]
shop = host=10.0.0.1 port=5432 dbname=shop pool_size=20
[pgbouncer]
; the pool
default_pool_size = 60
server_idle_timeout = 600 ; seconds
"""
MY_CNF = b"""\
[client]
port=3306
[mysqld]
skip-name-resolve
  max_connections = 500 # many
innodb_buffer_pool_size=4G
sql_mode="STRICT,NO"
!includedir /etc/mysql/conf.d/
[mysqld]
max_connections = 300
"""
PHP = b"[PHP]\nmemory_limit = 128M ; c\nextension=a.so\nextension=b.so\n[Session]\nsession.gc_maxlifetime = 1440\n"
POSTGRESQL = (
    b"max_connections = 100\t\t# restart\nshared_buffers = 4GB\nlog_line_prefix = '%m # '\nwork_mem 4MB\n#foo = 1\n"
)
SUPERVISOR = b"""\
[program:web]
command=java -Xmx512m -jar a.jar
environment=A="1",
  B="2"
numprocs=4 ; four
[supervisord]
"""
NGINX = b"""\
user nginx; worker_processes auto;
events { worker_connections 1024; }
http {
  include mime.types;
  log_format main '$remote_addr "$request" '
                  '$status';
  upstream backend { least_conn; server 10.0.0.1:8080 weight=5 max_fails=3; server 10.0.0.2; keepalive 32; }
  map $http_upgrade $connection { default upgrade; '' close; }
  limit_req_zone $binary_remote_addr zone=one:10m rate=10r/s;
  server {
    listen 80; listen [::]:80;
    location /api {
      proxy_read_timeout 60s; # slow reports
      proxy_set_header Host $host;
      limit_req zone=one burst=20 nodelay;
    }
    location ~ \\.php$ { return 404; }
    location = /lua { content_by_lua_block { ngx.say("}") } }
  }
  server { server_name shop.example.org www; location / { proxy_pass http://backend; } }
  server { server_name shop.example.org; listen 443 ssl; }
}
"""
HAPROXY = b"""\
global
    maxconn 4000
defaults
    timeout connect 5s
    timeout server  30s
    option httplog
    no option dontlognull
frontend http-in
    bind *:80
    default_backend app
backend app
    server web1 10.0.0.1:80 check maxconn 30 weight 10 # first
    timeout server 60s
"""
REDIS = b"""\
# memory
maxmemory 2gb
maxclients 10000
save 900 1
save 300 10
client-output-buffer-limit pubsub 32mb 8mb 60
requirepass "foo bar"
"""
SSHD = b"Port 22\nMaxSessions=10\nMaxSessions 99\nMaxStartups 10:30:100\nMatch User bob\n  PermitTTY no\n"
APACHE = b"""\
Listen 80
<IfModule mpm_event_module>
    MaxRequestWorkers 400
</IfModule>
<VirtualHost *:80>
  ProxyPass /api http://app:8080/api timeout=5 \\
     retry=0
  ErrorLog "logs/e.log"
  <Location "/x">
  </Location>
</VirtualHost>
"""
CADDY = (
    b"{\n  email a@example.org\n}\nexample.org {\n  reverse_proxy 10.0.0.1:80 {\n    header_up Host {host}\n  }\n}\n"
)
UNIT = b"""\
[Unit]
Description=Shop
[Service]
Environment="JAVA_OPTS=-Xmx512m -Xss1m" MODE=prod
Environment=B=c
ExecStart=
ExecStart=/usr/bin/java -Xmx1g \\
  # the collector
  -XX:+UseG1GC -jar /a.jar
LimitNOFILE=65536
"""
SERVER_XML = b"""\
<?xml version="1.0" encoding="UTF-8"?>
<Server port="8005">
  <!-- maxThreads="1" -->
  <Service name="Catalina">
    <Connector port="8080" maxThreads="200"
       acceptCount='10'/>
    <Engine name="Catalina"><Host name="localhost"/></Engine>
  </Service>
</Server>
"""
LOGBACK = b"""\
<configuration>
  <logger name="com.example" level="INFO"/>
  <appender name="FILE" class="x">
    <queueSize>512</queueSize>
    <pattern><![CDATA[%d <x>]]></pattern>
  </appender>
  <root level="INFO"><appender-ref ref="FILE"/></root>
</configuration>
"""
HDFS = (
    b"<configuration><property><name>dfs.replication</name><value>3</value></property>"
    b"<property><name>opts</name><value>-Xmx1g &amp;x</value></property></configuration>"
)
HELM = b"""\
{{- if .Values.enabled }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "shop.fullname" . }}
spec:
  replicas: {{ .Values.replicas }}
  minReadySeconds: 5   # plain
  template:
    spec:
      containers:
      - name: shop
        image: "{{ .Values.image }}:1.2"
        env:
        - name: JAVA_OPTS
          value: "-Xmx512m -Xss1m"
        resources:
          {{- toYaml .Values.resources | nindent 10 }}
        livenessProbe:
          {{- if .Values.slow }}
          timeoutSeconds: 10
          {{- else }}
          timeoutSeconds: 5
          {{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  application.yaml: |
    server:
      port: 8080
      {{- if .Values.x }}
      timeout: 30s
      {{- end }}
{{- end }}
"""
MANIFEST = b"""\
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data:
  default.conf: |
    server {
      listen 80;
      location /api { proxy_read_timeout 60s; }
    }
  my.cnf: |
    [mysqld]
    max_connections = 100
  notes.conf: |
    words without any form
"""

SAMPLES = {
    "pgbouncer.ini": PGBOUNCER,
    "my.cnf": MY_CNF,
    "php.ini": PHP,
    "postgresql.conf": POSTGRESQL,
    "supervisord.conf": SUPERVISOR,
    "nginx.conf": NGINX,
    "haproxy.cfg": HAPROXY,
    "redis.conf": REDIS,
    "sshd_config": SSHD,
    "httpd.conf": APACHE,
    "Caddyfile": CADDY,
    "shop.service": UNIT,
    "server.xml": SERVER_XML,
    "logback.xml": LOGBACK,
    "hdfs-site.xml": HDFS,
    "templates/deployment.yaml": HELM,
    "cm.yaml": MANIFEST,
    "nginx.conf.j2": NGINX.replace(b"1024", b"{{ connections }}"),
}

SHOP = "spec.template.spec.containers[shop]"
READ = [
    ("pgbouncer.ini", "databases.shop.pool_size", "20", b"20"),
    ("pgbouncer.ini", "pgbouncer.default_pool_size", "60", b"60"),
    ("pgbouncer.ini", "pgbouncer.server_idle_timeout", "600", b"600"),
    ("my.cnf", "mysqld.skip-name-resolve", "", None),
    ("my.cnf", "mysqld.max_connections", "300", b"300"),  # the last one counts
    ("my.cnf", "mysqld.sql_mode", "STRICT,NO", b'"STRICT,NO"'),
    ("php.ini", "PHP.extension[1]", "b.so", b"b.so"),
    ("php.ini", "Session.session.gc_maxlifetime", "1440", b"1440"),
    ("postgresql.conf", "max_connections", "100", b"100"),
    ("postgresql.conf", "log_line_prefix", "%m # ", b"'%m # '"),
    ("postgresql.conf", "work_mem", "4MB", b"4MB"),
    ("supervisord.conf", "program[web].command:-Xmx", "512m", b"512m"),
    ("supervisord.conf", "program[web].environment", 'A="1",\nB="2"', b'A="1",\n  B="2"'),
    ("supervisord.conf", "program[web].numprocs", "4", b"4"),
    ("supervisord.conf", "supervisord", "{}", None),
    ("nginx.conf", "events.worker_connections", "1024", b"1024"),
    ("nginx.conf", "http.upstream[backend].server[10.0.0.1:8080].weight", "5", b"5"),
    ("nginx.conf", "http.upstream[backend].server[10.0.0.2]", "", None),
    ("nginx.conf", "http.server.location[/api].proxy_read_timeout", "60s", b"60s"),
    ("nginx.conf", "http.server.location[/api].limit_req[zone=one].burst", "20", b"20"),
    ("nginx.conf", "http.server.location[= /lua].content_by_lua_block", 'ngx.say("}")', None),
    ("nginx.conf", "http.server[shop.example.org].location[/].proxy_pass", "http://backend", b"http://backend"),
    ("nginx.conf", "http.server[shop.example.org]#2.listen[0]", "443 ssl", b"443 ssl"),
    ("nginx.conf", 'http.map[$http_upgrade $connection][""]', "close", b"close"),
    ("haproxy.cfg", "defaults.timeout.server", "30s", b"30s"),
    ("haproxy.cfg", "backend[app].timeout.server", "60s", b"60s"),
    ("haproxy.cfg", "backend[app].server[web1].maxconn", "30", b"30"),
    ("haproxy.cfg", "defaults.option.dontlognull", "no", None),
    ("redis.conf", "maxclients", "10000", b"10000"),
    ("redis.conf", "save[1]", "300 10", b"300 10"),
    ("redis.conf", "client-output-buffer-limit[pubsub]", "32mb 8mb 60", b"32mb 8mb 60"),
    ("redis.conf", "requirepass", "foo bar", b'"foo bar"'),
    ("sshd_config", "MaxSessions", "10", b"10"),  # the first one counts
    ("sshd_config", "Match[User bob].PermitTTY", "no", b"no"),
    ("httpd.conf", "IfModule[mpm_event_module].MaxRequestWorkers", "400", b"400"),
    ("httpd.conf", "VirtualHost[*:80].ProxyPass[/api].retry", "0", b"0"),
    ("httpd.conf", "VirtualHost[*:80].ErrorLog", "logs/e.log", b'"logs/e.log"'),
    ("httpd.conf", "VirtualHost[*:80].Location[/x]", "{}", None),
    ("Caddyfile", '["example.org"].reverse_proxy[10.0.0.1:80].header_up[Host]', "{host}", b"{host}"),
    ("shop.service", "Service.Environment[JAVA_OPTS]:-Xmx", "512m", b"512m"),
    ("shop.service", "Service.Environment[MODE]", "prod", b"prod"),
    ("shop.service", "Service.ExecStart:-XX:+UseG1GC", "true", b"+"),
    ("shop.service", "Service.LimitNOFILE", "65536", b"65536"),
    ("server.xml", "Server.Service.Connector[0].maxThreads", "200", b'"200"'),
    ("server.xml", "Server.Service.Connector[0].acceptCount", "10", b"'10'"),
    ("logback.xml", "configuration.logger[com.example].level", "INFO", b'"INFO"'),
    ("logback.xml", "configuration.appender[FILE].queueSize", "512", b"512"),
    ("logback.xml", "configuration.appender[FILE].pattern", "%d <x>", b"%d <x>"),
    ("hdfs-site.xml", "configuration.property[dfs.replication]", "3", b"3"),
    ("hdfs-site.xml", "configuration.property[opts]", "-Xmx1g &x", b"-Xmx1g &amp;x"),
    ("hdfs-site.xml", "configuration.property[opts]:-Xmx", "1g", b"1g"),
    ("templates/deployment.yaml", "spec.minReadySeconds", "5", b"5"),
    ("templates/deployment.yaml", "spec.replicas", "{{ .Values.replicas }}", None),
    ("templates/deployment.yaml", f"{SHOP}.image", '"{{ .Values.image }}:1.2"', None),
    ("templates/deployment.yaml", f"{SHOP}.env[JAVA_OPTS].value:-Xmx", "512m", b"512m"),
    ("templates/deployment.yaml", f"{SHOP}.resources", "{{- toYaml .Values.resources | nindent 10 }}", None),
    ("templates/deployment.yaml", f"{SHOP}.livenessProbe.timeoutSeconds#2", "5", None),
    ("cm.yaml", 'data["default.conf"].server.location[/api].proxy_read_timeout', "60s", b"60s"),
    ("cm.yaml", 'data["my.cnf"].mysqld.max_connections', "100", b"100"),
    ("nginx.conf.j2", "events.worker_connections", "{{ connections }}", None),
    ("nginx.conf.j2", "http.server.location[/api].proxy_read_timeout", "60s", b"60s"),
]


@pytest.mark.parametrize(("path", "key", "value", "token"), READ, ids=[f"{r[0]}:{r[1][-40:]}" for r in READ])
def test_a_value_is_read_with_its_bytes(path: str, key: str, value: str, token: bytes | None) -> None:
    data = SAMPLES[path]
    entry = read_entries(data, path).entry(key)
    assert entry is not None
    assert (entry.value, None if entry.start is None else data[entry.start : entry.end]) == (value, token)


def test_a_template_knows_its_documents_and_the_files_in_them() -> None:
    file = read_entries(SAMPLES["templates/deployment.yaml"], "templates/deployment.yaml")
    assert file.format == "template"
    assert file.identities[1] == "ConfigMap/settings"
    assert file.get('data["application.yaml"].server.timeout', 1) == "30s"
    assert file.get(f"{SHOP}.livenessProbe.timeoutSeconds") is None  # two branches: neither is the value
    assert file.entry('["{{- if .Values.enabled }}"]', None) is not None


def test_list_items_of_two_branches_are_two_and_neither_is_edited() -> None:
    data = b"""\
env:
  {{- if .Values.tls }}
  - name: PORT
    value: "8443"
  {{- else }}
  - name: PORT
    value: "8080"
  {{- end }}
  {{ $name := .Release.Name -}}
  - name: "MODE" #! said by the chart
    value: prod
"""
    file = read_entries(data, "templates/a.yaml")
    assert (file.get("env[PORT]#1.value"), file.get("env[PORT]#2.value")) == ("8443", "8080")
    assert file.get("env[PORT].value") is None
    with pytest.raises(ChangeRefused, match="several branches"):
        set_value(data, "templates/a.yaml", "env[PORT]#2.value", "80")
    assert set_value(data, "templates/a.yaml", "env[MODE].value", "test") == data.replace(b": prod", b": test")


@pytest.mark.parametrize("path", SAMPLES)
def test_line_ends_and_a_missing_last_one_change_no_key(path: str) -> None:
    data = SAMPLES[path]
    plain = {e.identity: e.value for e in read_entries(data, path).entries}
    for other in (data.replace(b"\n", b"\r\n"), data.rstrip(b"\n"), b"\xef\xbb\xbf" + data):
        file = read_entries(other, path)
        assert {e.identity: e.value.replace("\r\n", "\n").rstrip("\n") for e in file.entries} == {
            i: v.rstrip("\n") for i, v in plain.items()
        }
        for entry in file.entries:
            if entry.style == "plain" and entry.start is not None:
                assert other[entry.start : entry.end].decode() == entry.value


DIFFERENCES = [
    ("pgbouncer.ini", b"size = 60", b"size = 14", "pgbouncer.default_pool_size", "60", "14", 14 / 60),
    ("pgbouncer.ini", b"pool_size=20", b"pool_size=2", "databases.shop.pool_size", "20", "2", 0.1),
    ("nginx.conf", b"60s", b"5s", "http.server.location[/api].proxy_read_timeout", "60s", "5s", 5 / 60),
    ("server.xml", b'"200"', b'"20"', "Server.Service.Connector[0].maxThreads", "200", "20", 0.1),
    ("postgresql.conf", b"= 100", b"= 20", "max_connections", "100", "20", 0.2),
    ("postgresql.conf", b"4GB", b"512MB", "shared_buffers", "4GB", "512MB", 0.125),
    ("redis.conf", b"10000", b"100", "maxclients", "10000", "100", 0.01),
    ("my.cnf", b"= 300", b"= 30", "mysqld.max_connections", "300", "30", 0.1),
    ("haproxy.cfg", b"60s", b"2s", "backend[app].timeout.server", "60s", "2s", 2 / 60),
    ("shop.service", b"65536", b"1024", "Service.LimitNOFILE", "65536", "1024", 1024 / 65536),
    ("shop.service", b"-Xmx512m", b"-Xmx128m", "Service.Environment[JAVA_OPTS]:-Xmx", "512m", "128m", 0.25),
    ("logback.xml", b"512", b"16", "configuration.appender[FILE].queueSize", "512", "16", 1 / 32),
    ("httpd.conf", b" 400", b" 40", "IfModule[mpm_event_module].MaxRequestWorkers", "400", "40", 0.1),
    ("templates/deployment.yaml", b"-Xmx512m", b"-Xmx1g", f"{SHOP}.env[JAVA_OPTS].value:-Xmx", "512m", "1g", 2.0),
    (
        "templates/deployment.yaml",
        b".Values.replicas",
        b".Values.count",
        "spec.replicas",
        "{{ .Values.replicas }}",
        "{{ .Values.count }}",
        None,
    ),
    ("cm.yaml", b"60s", b"6s", 'data["default.conf"].server.location[/api].proxy_read_timeout', "60s", "6s", 0.1),
]


@pytest.mark.parametrize(
    ("path", "old", "new", "key", "was", "now", "ratio"), DIFFERENCES, ids=[f"{d[0]}:{d[3][-40:]}" for d in DIFFERENCES]
)
def test_a_difference_is_told_by_key(
    path: str, old: bytes, new: bytes, key: str, was: str, now: str, ratio: float | None
) -> None:
    data = SAMPLES[path]
    assert data.count(old) == 1
    (change,) = diff_keys(data, data.replace(old, new), path)
    assert (change.key, change.old, change.new) == (key, was, now)
    assert change.ratio == (None if ratio is None else pytest.approx(ratio))


@pytest.mark.parametrize(
    ("path", "old", "new", "kind", "key"),
    [
        (
            "templates/deployment.yaml",
            b"if .Values.enabled",
            b"if .Values.other",
            "added",
            '["{{- if .Values.other }}"]',
        ),
        ("nginx.conf", b" server 10.0.0.2;", b"", "removed", "http.upstream[backend].server[10.0.0.2]"),
        ("my.cnf", b"skip-name-resolve\n", b"", "removed", "mysqld.skip-name-resolve"),
        ("logback.xml", b'<appender-ref ref="FILE"/>', b"", "removed", "configuration.root.appender-ref[FILE].ref"),
    ],
)
def test_what_came_or_went_is_told(path: str, old: bytes, new: bytes, kind: str, key: str) -> None:
    data = SAMPLES[path]
    changes = diff_keys(data, data.replace(old, new, 1), path)
    assert (kind, key) in [(c.kind, c.key) for c in changes]


@pytest.mark.parametrize("path", ["nginx.conf", "redis.conf", "my.cnf", "shop.service", "server.xml", "httpd.conf"])
def test_comments_and_layout_are_no_differences(path: str) -> None:
    data = SAMPLES[path]
    mark = b"<!-- c -->" if path.endswith(".xml") else b"# c"
    other = data.replace(b"\n  ", b"\n " + (b"" if path == "shop.service" else mark + b"\n  "))
    assert other != data or path == "redis.conf"
    assert diff_keys(data, data.rstrip(b"\n") + b"\n\n" + mark + b"\n", path) == ()
    if path not in ("shop.service", "httpd.conf", "nginx.conf", "server.xml"):  # there it would stand inside of a value
        assert diff_keys(data, other, path) == ()


EDITS = [
    ("pgbouncer.ini", "pgbouncer.server_idle_timeout", "60", b"= 600 ; seconds", b"= 60 ; seconds"),
    ("pgbouncer.ini", "databases.shop.pool_size", "5", b"pool_size=20", b"pool_size=5"),
    ("postgresql.conf", "log_line_prefix", "%t ", b"'%m # '", b"'%t '"),
    ("my.cnf", "mysqld.max_connections", "100", b"= 300", b"= 100"),
    ("nginx.conf", "http.server.location[/api].proxy_read_timeout", "5s", b"60s; # slow", b"5s; # slow"),
    ("nginx.conf", "http.upstream[backend].server[10.0.0.1:8080].weight", "1", b"weight=5", b"weight=1"),
    ("haproxy.cfg", "backend[app].server[web1].maxconn", "300", b"maxconn 30 ", b"maxconn 300 "),
    ("redis.conf", "requirepass", "a b", b'"foo bar"', b'"a b"'),
    ("sshd_config", "MaxSessions", "5", b"=10", b"=5"),
    ("httpd.conf", "VirtualHost[*:80].ProxyPass[/api].timeout", "50", b"timeout=5 ", b"timeout=50 "),
    ("shop.service", "Service.Environment[JAVA_OPTS]", "-Xmx1g", b"-Xmx512m -Xss1m", b"-Xmx1g"),
    ("shop.service", "Service.ExecStart:-Xmx", "2g", b"-Xmx1g", b"-Xmx2g"),
    ("server.xml", "Server.Service.Connector[0].maxThreads", "20", b'"200"', b'"20"'),
    ("server.xml", "Server.Service.Connector[0].acceptCount", "<'&", b"'10'", b"'&lt;&apos;&amp;'"),
    ("logback.xml", "configuration.appender[FILE].pattern", "%m", b"%d <x>", b"%m"),
    ("hdfs-site.xml", "configuration.property[opts]:-Xmx", "2g", b"-Xmx1g", b"-Xmx2g"),
    ("templates/deployment.yaml", "spec.minReadySeconds", "50", b"5   # plain", b"50   # plain"),
    ("templates/deployment.yaml", f"{SHOP}.env[JAVA_OPTS].value:-Xmx", "1g", b"-Xmx512m", b"-Xmx1g"),
    ("cm.yaml", 'data["my.cnf"].mysqld.max_connections', "10", b"= 100", b"= 10"),
]


@pytest.mark.parametrize(("path", "key", "value", "old", "new"), EDITS, ids=[f"{e[0]}:{e[1][-40:]}" for e in EDITS])
def test_an_edit_changes_only_the_value_and_its_revert_restores_the_bytes(
    path: str, key: str, value: str, old: bytes, new: bytes
) -> None:
    data = SAMPLES[path]
    assert data.count(old) == 1
    edited = set_value(data, path, key, value)
    assert edited == data.replace(old, new)
    assert revert_keys(data, edited, edited, path, [key]) == data


def test_a_line_end_of_another_kind_inside_a_value_comes_back_with_it() -> None:
    data = b"http {\n  log_format main 'a'\r\n    'b';\n}\n"
    edited = set_value(data, "nginx.conf", "http.log_format[main]", "x")
    assert edited == b"http {\n  log_format main x;\n}\n"
    assert revert_keys(data, edited, edited, "nginx.conf", ["http.log_format[main]"]) == data


REFUSED = [
    ("my.cnf", "mysqld.skip-name-resolve", "1", "the name stands alone"),
    ("supervisord.conf", "program[web].environment", "A=1", "cannot be written"),
    ("nginx.conf", "http.server.location[= /lua].content_by_lua_block", "x", "not written in one piece"),
    ("nginx.conf", "http.upstream[backend].server[10.0.0.1:8080].weight", "5;", "cannot be written"),
    ("redis.conf", "maxclients", "1\n2", "cannot be written"),
    ("haproxy.cfg", "backend[app].server[web1]", "10.0.0.2:80", "not written in one piece"),
    ("templates/deployment.yaml", "spec.replicas", "3", "made by a template"),
    ("templates/deployment.yaml", f"{SHOP}.livenessProbe.timeoutSeconds#1", "3", "several branches of a template"),
    ("templates/deployment.yaml", 'data["application.yaml"]', "a: b\n", "made by a template"),
    ("server.xml", "Server.Service.Connector[1].maxThreads", "3", "is not there"),
]


@pytest.mark.parametrize(("path", "key", "value", "reason"), REFUSED, ids=[f"{r[0]}:{r[1][-30:]}" for r in REFUSED])
def test_what_cannot_be_edited_is_refused_by_name(path: str, key: str, value: str, reason: str) -> None:
    document = 1 if key.startswith("data") else 0
    with pytest.raises(ChangeRefused) as caught:
        set_value(SAMPLES[path], path, key, value, document)
    assert key in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("path", "key", "line"),
    [
        ("my.cnf", "mysqld.skip-name-resolve", b"skip-name-resolve\n"),
        ("redis.conf", "maxclients", b"maxclients 10000\n"),
        (
            "nginx.conf",
            "http.server.location[/api].proxy_read_timeout",
            b"      proxy_read_timeout 60s; # slow reports\n",
        ),
        ("haproxy.cfg", "defaults.timeout.connect", b"    timeout connect 5s\n"),
        ("shop.service", "Service.LimitNOFILE", b"LimitNOFILE=65536\n"),
        ("logback.xml", "configuration.appender[FILE].queueSize", b"    <queueSize>512</queueSize>\n"),
    ],
)
def test_a_statement_of_its_own_goes_and_comes_back_at_its_place(path: str, key: str, line: bytes) -> None:
    data = SAMPLES[path]
    removed = remove_key(data, path, key)
    assert removed == data.replace(line, b"")
    assert revert_keys(data, removed, removed, path, [key]) == data


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("nginx.conf", "http.upstream[backend].keepalive"),
        ("httpd.conf", "IfModule[mpm_event_module].MaxRequestWorkers"),
        ("templates/deployment.yaml", "spec.minReadySeconds"),
        ("pgbouncer.ini", "databases.shop.pool_size"),
        ("server.xml", "Server.Service.Connector[0].maxThreads"),
    ],
)
def test_what_shares_its_lines_or_would_leave_nothing_behind_is_not_removed(path: str, key: str) -> None:
    with pytest.raises(ChangeRefused, match="key"):
        remove_key(SAMPLES[path], path, key)


MALFORMED = [
    (b"a = 1\nthis is prose\n", "a.ini", "line 2: not an INI line"),
    (b"worker_connections 1\n", "nginx.conf", "line 1: a directive or a block that does not end"),
    (b"a { b c; ", "nginx.conf", "does not end"),
    (b"a 1; }\n", "nginx.conf", "closes nothing"),
    (b"a 'b;\n", "nginx.conf", "a quote that does not end"),
    (b"<A>\nb c\n", "httpd.conf", "<A> does not end"),
    (b"b c\n</A>\n", "httpd.conf", "line 2: </A> closes nothing"),
    (b"!! 1\n", "redis.conf", "line 1: not a directive"),
    (b"[A]\nb\n", "a.service", "line 2: not a unit file's line"),
    (b"<a><b></a>", "a.xml", "</a> closes nothing"),
    (b"<a", "a.xml", "does not end"),
    (b"<a x='1' x='2'/>", "a.xml", "attribute x is there twice"),
    (b"", "a.xml", "no element"),
    (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "a.xml", "entities are never expanded"),
    (b"<a>" * 200, "a.xml", "100 levels"),
    (b"a {" * 200, "nginx.conf", "100 levels"),
    (b"a: {{ b\n", "a.yaml", "a template tag that does not end"),
    (b"a: {{ b }}\nc: d\n  e: f\n", "a.yaml", "a key below a value"),
    (b"a: {{ b }}\nc: 'd\n  e'\n", "a.yaml", "a quoted text over several lines"),
    (b"{% if a %}\nb 1\n{% else %}\nb 2\n{% endif %}\n", "redis.conf.j2", "b stands twice"),
]


@pytest.mark.parametrize(("data", "path", "reason"), MALFORMED, ids=[f"{m[1]}:{m[2][:24]}" for m in MALFORMED])
def test_a_malformed_file_is_refused_with_a_reason(data: bytes, path: str, reason: str) -> None:
    with pytest.raises(SourceMalformed) as caught:
        read_entries(data, path)
    assert str(caught.value).startswith(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entity_that_xml_does_not_know_is_shown_and_not_resolved() -> None:
    entry = read_entries(b"<a><b>&secret;</b></a>", "a.xml").entry("a.b")
    assert entry is not None
    assert (entry.value, entry.start) == ("&secret;", None)


def test_a_repeated_key_is_a_list_where_nobody_knows_which_one_counts() -> None:
    file = read_entries(b"[a]\nb = 1\nb = 2\n[a]\nb = 3\n", "some.ini")
    assert {e.key: e.value for e in file.entries} == {"a.b[0]": "1", "a.b[1]": "2", "a[1].b": "3"}


def test_two_keys_that_a_dot_makes_look_alike_stay_two() -> None:
    file = read_entries(b"[a.b]\nc = 1\n[a]\nb.c = 2\n", "some.ini")
    assert sorted(e.value for e in file.entries) == ["1", "2"]


DETECTED = [
    ("deploy/nginx.conf", "", "nginx"),
    ("nginx/conf.d/shop.conf", "", "nginx"),
    ("etc/my.cnf", "", "ini"),
    ("grafana.ini", "", "ini"),
    ("haproxy/haproxy.cfg", "", "haproxy"),
    ("units/shop.service", "[Unit]\nA=b\n", "systemd"),
    ("units/shop.service", "just text\n", "text"),
    ("shop.service.d/limits.conf", "", "systemd"),
    ("web.config", "", "xml"),
    ("web.Release.config", "", "xml"),
    ("redis/replica.conf", "", "redis"),
    ("Caddyfile", "", "blocks"),
    ("mongod.conf", "", "yaml"),
    ("postgresql/15/main/pg_hba.conf", "", "text"),
    ("postgresql/15/main/tuning.conf", "", "ini"),
    ("telegraf.conf", "", "toml"),
    ("deployment.yaml.j2", "", "yaml"),
    ("nginx.conf.tpl", "", "nginx"),
    ("a.conf", "# c\nupstream x {\n  server a;\n}\n", "nginx"),
    ("a.conf", "[x]\na = 1\n", "ini"),
    ("a.conf", "a.b = 1\nc.d=2\n", "ini"),
    ("a.conf", "[Unit]\nA=b\n[Service]\nC=d\n", "systemd"),
    ("a.conf", "<VirtualHost *>\n  A b\n</VirtualHost>\n", "apache"),
    ("a.conf", "<source>\n  @type tail\n</source>\n", "fluentd"),
    ("a.conf", "global\n  maxconn 1\ndefaults\n  mode http\n", "haproxy"),
    ("a.config", "<configuration/>\n", "xml"),
    ("a.conf", '{"a": 1}', "json"),
    ("a.conf", "<!-- bus -->\n<busconfig/>\n", "xml"),
    ("a.conf", "apiVersion: v1\nkind: A\n", "yaml"),
    ("a.conf", "akka {\n  a = 1\n}\n", "text"),
    ("a.conf", "These are words, and more of them.\nNothing else.\n", "text"),
    ("a.conf", "a: 1\n", "text"),
    ("a.conf", "", "text"),
    ("gunicorn.conf.py", "workers = 4\n", "text"),
    ("notes.txt", "a = 1\n", "text"),
]


@pytest.mark.parametrize(("path", "text", "name"), DETECTED, ids=[f"{i}:{d[0]}" for i, d in enumerate(DETECTED)])
def test_a_format_is_known_by_name_and_then_by_content(path: str, text: str, name: str) -> None:
    assert detect(path, text) == name


def test_one_odd_line_makes_a_file_malformed_and_not_another_kind() -> None:
    good = b"[a]\n" + b"".join(b"k%d = %d\n" % (i, i) for i in range(20))
    assert read_entries(good, "app.conf").format == "ini"
    with pytest.raises(SourceMalformed, match="line 22"):
        read_entries(good + b"words that are no key\n", "app.conf")


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._/:,-]{0,12}[A-Za-z0-9]", fullmatch=True)
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(RELAXED, max_examples=40)
@given(
    st.dictionaries(NAMES, st.dictionaries(NAMES, WORDS, min_size=1, max_size=5), min_size=1, max_size=4), st.booleans()
)
def test_ini_agrees_with_the_standard_library(sections: dict[str, dict[str, str]], spaced: bool) -> None:
    sign = " = " if spaced else "="
    text = "".join(
        f"[{s}]\n# c\n" + "".join(f"{k}{sign}{v}\n" for k, v in keys.items()) for s, keys in sections.items()
    )
    parser = configparser.RawConfigParser(comment_prefixes=("#", ";"), strict=False)
    parser.read_string(text)
    expected = {f"{s}.{k}": v for s in parser.sections() for k, v in parser.items(s)}
    assert {e.key: e.value for e in read_entries(text.encode(), "x.ini").entries} == expected


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> ElementTree.Element:
    element = ElementTree.Element(draw(NAMES))
    for name in draw(st.lists(NAMES, max_size=2, unique=True)):
        element.set(name, draw(st.text(alphabet="ab<>&\"' é", max_size=6)))
    if depth and draw(st.booleans()):
        element.extend(draw(st.lists(elements(depth - 1), min_size=1, max_size=3)))
    else:
        element.text = draw(st.text(alphabet="ab<>&\"'é", max_size=6))
    return element


@settings(RELAXED, max_examples=40)
@given(elements())
def test_xml_values_agree_with_the_standard_library(root: ElementTree.Element) -> None:
    data = ElementTree.tostring(root, encoding="utf-8")
    expected = sorted(
        [v for e in root.iter() for v in e.attrib.values()]
        + [e.text for e in root.iter() if e.text and not len(e)]
        + ["" for e in root.iter() if not e.text and not len(e) and not e.attrib]
    )
    assert sorted(e.value for e in read_entries(data, "x.xml").entries) == expected


MARKS = rb"""{{ a }}|{%|%}|}}|'|"|;|#| #|{|}|[a]|[|]|=|a = b|:|<a>|</a>|/>|<!--|-->|<![CDATA[|&amp;|&|- |$|Environment=|\
|-Xmx2g |a: 'b|- a: b|{{- if x }}|  """.split(b"|")
PIECES = st.sampled_from(
    [*MARKS, b"|", b"\n", b"\r\n", b"\r", b"\t", b"\\", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xff", b"\x0c"]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "24h",
            "",
            "a: b",
            "#c",
            "3",
            "it's",
            'q"q',
            "a\nb\n",
            " lead",
            "\\",
            "a b",
            "x;y",
            "{a}",
            "<b>",
            "&",
            "a=b",
            "x #y",
        ]
    ),
    st.text(max_size=8),
)


@st.composite
def edited_samples(draw: st.DrawFn) -> tuple[bytes, str]:
    path = draw(st.sampled_from(sorted(SAMPLES)))
    data = bytearray(SAMPLES[path])
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        if draw(st.booleans()):
            data[at:at] = draw(PIECES)
        else:
            del data[at : at + draw(st.integers(1, 8))]
    return bytes(data), path


@settings(RELAXED, max_examples=300)
@given(edited_samples(), st.randoms(use_true_random=False), VALUES)
def test_an_edit_changes_one_span_and_its_revert_restores_the_bytes(
    sample: tuple[bytes, str], random: st.random_module, new: str
) -> None:
    data, path = sample
    try:
        file = read_entries(data, path)
    except SourceMalformed as error:
        assert "\n" not in str(error)
        return
    assert len(file.index) == len(file.entries)
    if not file.entries:
        return
    entry = random.choice(file.entries)  # type: ignore[attr-defined]
    try:
        edited = set_value(data, path, entry.key, new, entry.document)
    except ChangeRefused:
        return
    now = read_entries(edited, path)
    assert now.get(entry.key, entry.document) == new
    if edited == data or now.identities != file.identities:
        return
    assert entry.start is not None and entry.end is not None
    assert edited.startswith(data[: entry.start]) and edited.endswith(data[entry.end :])
    found = now.entry(entry.key, entry.document)
    if found is not None and found.start is not None:
        assert revert_keys(data, edited, edited, path, [entry.identity]) == data


@settings(RELAXED, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([*sorted(SAMPLES), "x.conf", "x.config", "a.xml.j2", "my.cnf.j2"]))
def test_random_bytes_are_read_or_malformed(data: bytes, path: str) -> None:
    try:
        file = read_entries(data, path)
    except SourceMalformed as error:
        assert str(error).startswith(path)
        return
    assert len(file.index) == len(file.entries)


MEBI = 1 << 20
HOSTILE = {
    "blank lines": (
        b"\n",
        ["a.ini", "my.cnf", "postgresql.conf", "nginx.conf", "redis.conf", "a.service", "Caddyfile"],
    ),
    "short lines": (b"a=1\n", ["a.ini", "my.cnf", "x.conf", "a.service", "sshd_config"]),
    "words": (b"a ", ["nginx.conf", "Caddyfile", "redis.conf", "haproxy.cfg", "a.ini", "postgresql.conf"]),
    "spaces": (b" ", ["a.ini", "httpd.conf", "a.service", "a.xml", "templates/a.yaml"]),
    "braces": (b"a{", ["nginx.conf", "Caddyfile"]),
    "short directives": (b"a b;", ["nginx.conf"]),
    "quotes": (b'"', ["nginx.conf", "redis.conf", "a.ini", "a.service"]),
    "tags": (b"<a ", ["httpd.conf", "a.xml", "x.config"]),
    "elements": (b"<a b='c'/>", ["a.xml"]),
    "comments that do not end": (b"<!--", ["a.xml"]),
    "sections": (b"[a]\n", ["a.ini", "a.service"]),
    "continued": (b"a\\\n", ["httpd.conf", "a.service", "a.ini"]),
    "templates": (b"{{ a }}\n", ["templates/a.yaml", "my.cnf.j2", "nginx.conf.j2"]),
    "template values": (b"a: {{ b }}\n", ["templates/a.yaml"]),
    "open templates": (b"{{", ["templates/a.yaml", "my.cnf.j2"]),
    "items": (b"- ", ["templates/a.yaml"]),
}


@pytest.mark.parametrize(("name", "path"), [(n, p) for n, (_, paths) in HOSTILE.items() for p in paths])
def test_a_mebibyte_of_anything_ends_soon(name: str, path: str) -> None:
    unit = HOSTILE[name][0]
    head = {"templates/a.yaml": b"x: {{ y }}\n", "a.service": b"[A]\n", "a.xml": b"<a>"}.get(path, b"")
    data = (head + unit * (MEBI // len(unit)))[:MEBI]
    best = 99.0
    for _ in range(3):  # a busy neighbour on the same core costs time too: the best of three counts
        begun = time.process_time()
        try:
            read_entries(data, path)
        except SourceMalformed as error:
            assert "\n" not in str(error)
        best = min(best, time.process_time() - begun)
        if best < 1.5:
            break
    assert best < 1.5  # below a second on an idle machine


SECRETS = [
    ("redis.conf", b"user app on >hunter2hunter ~*\n", "user[app].password[0]"),
    ("sentinel.conf", b"sentinel auth-pass main hunter2hunter\n", "sentinel[main].auth-pass"),
    (
        "haproxy.cfg",
        b"userlist u\n  user bob insecure-password hunter2hunter\n",
        "userlist[u].user[bob].insecure-password",
    ),
    ("haproxy.cfg", b"frontend f\n  stats auth bob:hunter2hunter\n", "frontend[f].stats.auth[bob].password"),
    ("httpd.conf", b"RequestHeader set X-Api-Key hunter2hunter\n", "RequestHeader.set[X-Api-Key]"),
    ("pgbouncer.ini", b"[databases]\na = host=x password=hunter2hunter\n", "databases.a.password"),
    ("a.service", b'[Service]\nEnvironment="DB_PASSWORD=hunter2hunter" A=b\n', "Service.Environment[DB_PASSWORD]"),
    ("web.config", b'<a><add key="DbPassword" value="hunter2hunter"/></a>', "a.add[DbPassword].value"),
    (
        "core-site.xml",
        b"<a><property><name>fs.secret.key</name><value>hunter2hunter</value></property></a>",
        "a.property[fs.secret.key]",
    ),
]


@pytest.mark.parametrize(("path", "data", "key"), SECRETS, ids=[s[2] for s in SECRETS])
def test_the_key_of_a_secret_says_that_it_is_one(path: str, data: bytes, key: str) -> None:
    file = read_entries(data, path)
    assert file.get(key) == "hunter2hunter"
    assert is_secret_key(key)
    assert [e.key for e in file.entries if "hunter2" in e.value or "hunter2" in e.key] == [key]
    assert set_value(data, path, key, "other") == data.replace(b"hunter2hunter", b"other")


def test_a_long_text_named_often_is_looked_at_once() -> None:
    data = b"x: &x |\n" + b"  words here\n" * 30_000 + b"data:\n" + b"".join(b"  a%d: *x\n" % i for i in range(5_000))
    begun = time.process_time()
    assert len(read_entries(data, "a.yaml").entries) == 5_001
    assert time.process_time() - begun < 1.5
