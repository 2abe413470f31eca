"""Configuration files by key: what is read, where it stands, and that an edit changes one key only."""

from __future__ import annotations

import time

import javaproperties
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from advisor.config_file import (
    ConfigFile,
    image_tag,
    insert_key,
    plain_type,
    read_entries,
    remove_key,
    revert_keys,
    set_value,
)
from advisor.errors import ChangeRefused, SourceMalformed

MANIFEST = """\
# déployé par l'équipe boutique
apiVersion: apps/v1
kind: Deployment
metadata:
  name: checkout
  namespace: shop
  annotations:
    sidecar.example.org/cpu: "100m"
spec:
  replicas: 3          # three zones
  template:
    spec:
      initContainers:
        - {name: migrate, image: shop/migrate:7}
      containers:
        - name: checkout
          image: "registry.local:5000/shop/checkout:1.4.2"
          args: ["-Xlog:gc*", "-XX:MaxRAMPercentage=75.0", "-jar", "app.jar"]
          env:
            - name: JAVA_OPTS   # heap
              value: >-
                -Xms512m -Xmx1g
                -XX:+UseG1GC -XX:MaxMetaspaceSize=256m
                -Dhttp.keepAlive=true
            - name: SESSION_TIMEOUT
              value: '30m'
          resources:
            limits: {cpu: 500m, memory: 1536Mi}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: checkout-config
data:
  application.yaml: |
    # sessions: übernommen
    server:
      servlet:
        session:
          timeout: 30m   # do not raise

    cache: {max-size: 10_000}
    ---
    spring:
      config.activate.on-profile: prod
    server.port: 8443
  db.properties: |
    pool.size = 20
    url=jdbc:x://db/\\
      shop
  limits.json: '{"max": 5, "name": "a"}'
  note: plain text
""".encode()

SPRING = b"""\
spring:
  application: {name: checkout}
server.servlet.session.timeout: 30m
management:
  endpoints.web.exposure.include: "health,info"
---
spring.config.activate.on-profile: prod
server:
  servlet:
    session:
      timeout: 24h
"""

HELM_VALUES = b"""\
defaults: &defaults
  javaOpts: "-Xmx1g -XX:+ExitOnOutOfMemoryError"
  retries: 3
image:
  repository: shop/checkout
  tag: "1.20"
checkout:
  <<: *defaults
  retries: 5
payments:
  <<: *defaults
shared: *defaults
"""

CONTAINER = "spec.template.spec.containers[checkout]"
FLAGS = f"{CONTAINER}.env[JAVA_OPTS].value"
EMBEDDED = 'data["application.yaml"]'


def value_and_token(data: bytes, path: str, key: str, document: int = 0) -> tuple[str, bytes | None]:
    entry = read_entries(data, path).entry(key, document)
    assert entry is not None, key
    return entry.value, None if entry.start is None else data[entry.start : entry.end]


def wholes(file: ConfigFile, document: int, key: str) -> set[tuple[int, str]]:
    """Return the values that a key is inside of."""
    found = set()
    entry = file.entry(key, document)
    while entry is not None and entry.parent:
        found.add((document, entry.parent))
        entry = file.entry(entry.parent, document)
    return found


def values(data: bytes, path: str) -> dict[tuple[int, str], str]:
    return {e.identity: e.value for e in read_entries(data, path).entries}


READ = [
    (MANIFEST, "d.yaml", 0, "spec.replicas", "3", b"3"),
    (MANIFEST, "d.yaml", 0, 'metadata.annotations["sidecar.example.org/cpu"]', "100m", b'"100m"'),
    (MANIFEST, "d.yaml", 0, f"{CONTAINER}.resources.limits.memory", "1536Mi", b"1536Mi"),
    (MANIFEST, "d.yaml", 0, f"{CONTAINER}.args[2]", "-jar", b'"-jar"'),
    (MANIFEST, "d.yaml", 0, f"{CONTAINER}.args:-XX:MaxRAMPercentage", "75.0", b"75.0"),
    (MANIFEST, "d.yaml", 0, f"{FLAGS}:-Xmx", "1g", b"1g"),
    (MANIFEST, "d.yaml", 0, f"{FLAGS}:-XX:+UseG1GC", "true", b"+"),
    (MANIFEST, "d.yaml", 0, f"{FLAGS}:-XX:MaxMetaspaceSize", "256m", b"256m"),
    (MANIFEST, "d.yaml", 0, f"{FLAGS}:-Dhttp.keepAlive", "true", b"true"),
    (MANIFEST, "d.yaml", 0, f"{CONTAINER}.env[SESSION_TIMEOUT].value", "30m", b"'30m'"),
    (MANIFEST, "d.yaml", 1, f"{EMBEDDED}.server.servlet.session.timeout", "30m", b"30m"),
    (MANIFEST, "d.yaml", 1, f"{EMBEDDED}.cache.max-size", "10_000", b"10_000"),
    (MANIFEST, "d.yaml", 1, f"{EMBEDDED}#prod.server.port", "8443", b"8443"),
    (MANIFEST, "d.yaml", 1, 'data["db.properties"].pool.size', "20", b"20"),
    (MANIFEST, "d.yaml", 1, 'data["db.properties"].url', "jdbc:x://db/shop", None),
    (MANIFEST, "d.yaml", 1, 'data["limits.json"].max', "5", b"5"),
    (SPRING, "application.yml", 0, "server.servlet.session.timeout", "30m", b"30m"),
    (SPRING, "application.yml", 1, "server.servlet.session.timeout", "24h", b"24h"),
    (HELM_VALUES, "values.yaml", 0, "checkout.retries", "5", b"5"),
    (HELM_VALUES, "values.yaml", 0, "payments.retries", "3", None),
    (HELM_VALUES, "values.yaml", 0, "payments.javaOpts:-Xmx", "1g", None),
    (
        b'{"a": {"b.c": [1, {"name": "x", "v": "q\\u00e9\\n"}]}}',
        "a.json",
        0,
        'a["b.c"][x].v',
        "qé\n",
        b'"q\\u00e9\\n"',
    ),
    (b'{"j": "-Xmx1g \\"x\\""}', "a.json", 0, "j:-Xmx", "1g", b"1g"),
    (b'[t."x.y"]\nb = "s" # c\n', "a.toml", 0, 't["x.y"].b', "s", b'"s"'),
    (b'[[a]]\nname = "n"\nd = 07:32:00\n', "a.toml", 0, "a[n].d", "07:32:00", b"07:32:00"),
    (b"a=1\na = 2\n", "x.properties", 0, "a", "2", b"2"),
    (b"k\\ 1:  v\\u00e9 \n", "x.properties", 0, "k 1", "vé ", b"v\\u00e9 "),
    (b"name=caf\xe9\n", "x.properties", 0, "name", "café", b"caf\xe9"),
    (b"a=1\n#---\na=2\n", "application.properties", 1, "a", "2", b"2"),
    (b"export A='b c' # d\n", ".env", 0, "A", "b c", b"'b c'"),
    (b'JAVA_OPTS="-Xmx2g -Xss1m"\n', "prod.env", 0, "JAVA_OPTS:-Xss", "1m", b"1m"),
    (b"-Xmx1g\n8-13:-XX:-UseFoo\n", "config/jvm.options", 0, ":-Xmx", "1g", b"1g"),
    (b"-Xmx1g\n8-13:-XX:-UseFoo\n", "config/jvm.options", 0, "[8-13]:-XX:+UseFoo", "false", b"-"),
    (b"FROM a:1 AS build\nFROM b/c:2\nENV A=1 \\\n  B=2\n", "Dockerfile", 1, "ENV[B]", "2", b"2"),
    (b"FROM a:1 AS build\nFROM b/c:2\n", "Dockerfile", 1, "FROM", "b/c:2", b"b/c:2"),
    (
        b"if x; then\n  A=1\nfi\nexport CATALINA_OPTS='-Xmx1g'\n",
        "bin/setenv.sh",
        0,
        "CATALINA_OPTS:-Xmx",
        "1g",
        b"1g",
    ),
    (b"a: &x !!str 30m\n", "a.yaml", 0, "a", "30m", b"30m"),
    (b"a: !Ref name\n", "a.yaml", 0, "a", "!Ref name", None),
    (b"- {name: a, v: 1}\n- {name: a, v: 2}\n- 7\n", "a.yaml", 0, "[a]#2.v", "2", b"2"),
    (b"- {name: '0', v: 1}\n- {v: 2}\n", "a.yaml", 0, '["0"].v', "1", b"1"),
    (b"\xef\xbb\xbfa: \xc3\xa9\r\nb: 30m\r\n", "a.yaml", 0, "b", "30m", b"30m"),
    (b"a: 1\rb: 30m\r", "a.yaml", 0, "b", "30m", b"30m"),
    (b"a: []\nb: {}\nc:\n", "a.yaml", 0, "a", "[]", b"[]"),
    (b"JAVA_OPTS: '-Xmx1g -Xmx2g'\n", "a.yaml", 0, "JAVA_OPTS:-Xmx", "2g", b"2g"),
]


@pytest.mark.parametrize(
    ("data", "path", "document", "key", "value", "token"), READ, ids=[f"{r[1]}:{r[3][-40:]}" for r in READ]
)
def test_a_value_is_read_with_its_bytes(
    data: bytes, path: str, document: int, key: str, value: str, token: bytes | None
) -> None:
    assert value_and_token(data, path, key, document) == (value, token)


def test_manifests_say_what_they_are_about() -> None:
    file = read_entries(MANIFEST, "d.yaml")
    assert file.identities == ("apps/Deployment/shop/checkout", "ConfigMap/checkout-config")
    scopes = {e.key: e.scope for e in file.entries}
    assert scopes["spec.replicas"] == "Deployment/checkout"
    assert scopes[f"{FLAGS}:-Xmx"] == "Deployment/checkout/checkout"
    assert scopes["spec.template.spec.initContainers[migrate].image"] == "Deployment/checkout/migrate"


def test_spring_profiles_are_told_apart() -> None:
    assert read_entries(SPRING, "application.yml").identities == ("", "profile:prod")
    assert read_entries(SPRING, "config/checkout.yml").get("server.servlet.session.timeout") == "30m"


def test_properties_are_read_as_java_reads_them() -> None:
    data = b"! c\n a=1\nb:2\nc 3\nd\n\\u00e9\\ x = \\ty\\\n   z\ne=\\:\\=\nf==g\nlong = a\\\\\nh=\xe9\n"
    found = {e.key: e.value for e in read_entries(data, "x.properties").entries}
    assert found == javaproperties.loads(data)


PLAIN = {"a": {"b": [1, {"name": "x", "c": None}], "d": "e f"}, "g": True, "h": 1.5, "i": "'\"\\\n"}


@pytest.mark.parametrize("style", [None, '"', "'", "|"], ids=["plain", "double", "single", "literal"])
def test_values_agree_with_the_yaml_library(style: str | None) -> None:
    data = yaml.safe_dump(PLAIN, default_style=style, allow_unicode=True).encode()
    found = {e.key: e.value for e in read_entries(data, "x.yaml").entries}
    assert found["a.d"] == "e f"
    assert found["i"] == "'\"\\\n"
    assert found["a.b[x].name"] == "x"


MALFORMED = [
    (b"a: 1\na: 2\n", "a.yaml", "line 2: key a is defined twice"),
    (b'{"a": 1, "a": 2}', "a.json", "line 1: key 'a' is defined twice"),
    (b"a=1\na=2\n", "a.toml", "defined twice"),
    (b"x: 1\nreplicas: {{ .Values.n }\n", "a.yaml", "line 2: a template"),
    (b"{{- if .Values.on }}\nwords and more\n{{- end }}\n", "templates/a.yaml", "line 1: a template"),
    (b"a: *x\n", "a.yaml", "alias *x is not defined"),
    (b"a: &x [*x]\n", "a.yaml", "contains itself"),
    (b"? [a]\n: 1\n", "a.yaml", "line 1: a key that is itself"),
    (b"a: [1\n", "a.yaml", "not YAML"),
    (b"a:\n\t- b\n", "a.yaml", "line 2"),
    (b"just words\n", "a.yaml", "no keys"),
    (b"a: \xff\n", "a.yaml", "not encoded in UTF-8"),
    (b"a: \x00\n", "a.yaml", "binary"),
    (b"a: 1\n" * 300_000, "a.yaml", "1 MiB"),
    (b"- a\n" * 60_000, "a.yaml", "50000 keys"),
    (b"[" * 5000, "a.yaml", "100 levels"),
    (b"[" * 5000, "a.json", "100 levels"),
    (b"a = " + b"[" * 5000, "a.toml", "100 levels"),
    (b"a." * 500 + b"b = 1", "a.toml", "100 levels"),
    (b"[1, 2", "a.json", "not JSON"),
    (b'{"a": NaN}', "a.json", "not JSON"),
    (b'{"a": 01}', "a.json", "not JSON"),
    (b"// c\n{}", "a.json", "not JSON"),
    (b"a = 1 b = 2\n", "a.toml", "not TOML"),
    (b"what is this\n", ".env", "not an assignment"),
    (b"A='x\n", ".env", "quote that does not end"),
    (b"hello\n", "jvm.options", "not a JVM flag"),
]


@pytest.mark.parametrize(("data", "path", "reason"), MALFORMED, ids=[f"{m[1]}:{m[2][:24]}" for m in MALFORMED])
def test_a_malformed_file_is_refused_with_a_reason(data: bytes, path: str, reason: str) -> None:
    with pytest.raises(SourceMalformed) as caught:
        read_entries(data, path)
    assert str(caught.value).startswith(path)
    assert reason in str(caught.value)


@pytest.mark.parametrize("path", ["README.md", "run.py", "NOTES.tpl", "app.conf"])
def test_unknown_formats_have_no_keys(path: str) -> None:
    file = read_entries(b"a: 1\n", path)
    assert (file.format, file.entries) == ("text", ())


def test_a_broken_file_in_a_config_map_stays_whole() -> None:
    data = b'apiVersion: v1\nkind: ConfigMap\ndata:\n  "a.yaml": |\n    x: [\n  b: c\n'
    file = read_entries(data, "cm.yaml")
    assert [e.key for e in file.entries] == ["apiVersion", "kind", 'data["a.yaml"]', "data.b"]


BOMB = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)
MERGE_BOMB = b"a0: &a0 {k: 1}\n" + b"".join(
    b"a%d: &a%d {<<: [%s]}\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)
MEBI = 1 << 20
HOSTILE = {
    "alias bomb": (BOMB, "a.yaml"),
    "merge bomb": (MERGE_BOMB, "a.yaml"),
    "long key over many": (
        b"? " + b"k" * 500_000 + b"\n: " + b"\n".join(b"  k%d: 1" % i for i in range(9000)),
        "a.yaml",
    ),
    "large value named often": (
        b'b: &b "-Xmx1g ' + b"x " * 200_000 + b'"\nl: [' + b"*b," * 90_000 + b"]",
        "a.yaml",
    ),
    "embedded file named often": (
        b'x: &x "{\\"a\\": [1' + b",1" * 20_000 + b']}"\n' + b"".join(b'"a%d.json": *x\n' % i for i in range(5000)),
        "a.yaml",
    ),
    "blank block": (b"a: |\n" + b" " * (MEBI - 10), "a.yaml"),
    "flags": (b"JAVA_OPTS: " + b"-Xmx1g " * 140_000, "a.yaml"),
    "open quotes": (b"JAVA_OPTS: >\n  -Xmx1g\n" + b'  "\n' * 200_000, "a.yaml"),
    "many documents": (b"---\n" * 200_000, "a.yaml"),
    "long block label over many": (b'a "' + b"k" * 500_000 + b'" {\n' + b"x = 1\n" * 9000 + b"}", "a.tf"),
    "json escapes": (b'["' + b"\\u0041" * 170_000 + b'"]', "a.json"),
    "json open": (b'{"a":' * 200_000, "a.json"),
    "toml dots": (b"a." * 500_000, "a.toml"),
    "backslashes": (b"\\" * MEBI, "a.properties"),
    "continued": (b"a\\\n" * 340_000, "a.properties"),
    "env quotes": (b'A="' * 340_000, ".env"),
    "docker quotes": (b'ENV A="' * 140_000, "Dockerfile"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_ends_soon(name: str) -> None:
    data, path = HOSTILE[name]
    begun = time.process_time()
    try:
        read_entries(data, path)
    except SourceMalformed as error:
        assert "\n" not in str(error)
    assert time.process_time() - begun < 1.5  # below a second on an idle machine


IMAGES = [
    ("nginx", ("nginx", None, None)),
    ("nginx:1.27", ("nginx", "1.27", None)),
    ("registry.local:5000/shop/checkout", ("registry.local:5000/shop/checkout", None, None)),
    ("registry.local:5000/shop/checkout:1.4.2", ("registry.local:5000/shop/checkout", "1.4.2", None)),
    ("a/b@sha256:" + "0" * 64, ("a/b", None, "sha256:" + "0" * 64)),
    ("a/b:1@sha256:" + "0" * 64, ("a/b", "1", "sha256:" + "0" * 64)),
    ("a@b", ("a@b", None, None)),
]


@pytest.mark.parametrize(("value", "parts"), IMAGES, ids=[i[0][:30] for i in IMAGES])
def test_image_references_come_apart(value: str, parts: tuple[str, str | None, str | None]) -> None:
    assert tuple(image_tag(value)) == parts


def test_types_are_told_as_a_typed_reader_takes_them() -> None:
    file = read_entries(b'a: 3\nb: "3"\nc: yes\nd: 30m\ne:\nf: 1e3\n', "a.yaml")
    assert [plain_type(e) for e in file.entries] == [
        "number",
        "string",
        "boolean",
        "string",
        "null",
        "number",
    ]


# (data, path, document, key, new value, old bytes, new bytes): the edit replaces exactly the old bytes.
EDITS = [
    (MANIFEST, "d.yaml", 0, "spec.replicas", "5", b"replicas: 3 ", b"replicas: 5 "),
    (MANIFEST, "d.yaml", 0, f"{FLAGS}:-Xmx", "2g", b"-Xmx1g", b"-Xmx2g"),
    (MANIFEST, "d.yaml", 0, f"{FLAGS}:-XX:+UseG1GC", "false", b"-XX:+UseG1GC", b"-XX:-UseG1GC"),
    (MANIFEST, "d.yaml", 0, f"{CONTAINER}.args:-XX:MaxRAMPercentage", "60.0", b"=75.0", b"=60.0"),
    (MANIFEST, "d.yaml", 0, f"{CONTAINER}.env[SESSION_TIMEOUT].value", "it's", b"'30m'", b"'it''s'"),
    (
        MANIFEST,
        "d.yaml",
        0,
        f"{CONTAINER}.image",
        "shop/checkout:1",
        b'"registry.local:5000/shop/checkout:1.4.2"',
        b'"shop/checkout:1"',
    ),
    (
        MANIFEST,
        "d.yaml",
        1,
        f"{EMBEDDED}.server.servlet.session.timeout",
        "24h",
        b"timeout: 30m",
        b"timeout: 24h",
    ),
    (MANIFEST, "d.yaml", 1, f"{EMBEDDED}#prod.server.port", "9443", b"port: 8443", b"port: 9443"),
    (MANIFEST, "d.yaml", 1, 'data["limits.json"].max', "6", b'"max": 5', b'"max": 6'),
    (MANIFEST, "d.yaml", 1, "data.note", "a: b", b"plain text", b'"a: b"'),
    (b"a: 1 # c\r\nb: x\r\n", "a.yaml", 0, "a", "2", b"1", b"2"),
    (b"\xef\xbb\xbfa: \xc3\xa9\nb: 30m", "a.yaml", 0, "b", "\U0001f600", b"30m", "\U0001f600".encode()),
    (b"a: x\n", "a.yaml", 0, "a", "true", b"x", b'"true"'),
    (b"a: false\n", "a.yaml", 0, "a", "true", b"false", b"true"),
    (b"a: x\n", "a.yaml", 0, "a", "- b", b"x", b'"- b"'),
    (b"a: x\n", "a.yaml", 0, "a", "b #c", b"x", b'"b #c"'),
    (b"a: x\n", "a.yaml", 0, "a", 'say "hi"', b"x", b'say "hi"'),
    (b"a: [x, y]\n", "a.yaml", 0, "a[0]", "p,q", b"x", b'"p,q"'),
    (b"a:\nb: 1\n", "a.yaml", 0, "a", "v", b"a:", b"a: v"),
    (b"a: |\r\n  x\r\n  y\r\nb: 1\r\n", "a.yaml", 0, "a", "p\nq\n", b"x\r\n  y", b"p\r\n  q"),
    (b"a: |-   # why\n  x\nb: 1\n", "a.yaml", 0, "a", "p\n", b"|-   # why\n  x", b"|   # why\n  p"),
    (b"b: &x 1\na: *x\n", "a.yaml", 0, "a", "2", b"*x", b"2"),
    (b'{"a": "x"}', "a.json", 0, "a", 'q"\n', b'"x"', b'"q\\"\\n"'),
    (b'{"a": 1}', "a.json", 0, "a", "30m", b"1", b'"30m"'),
    (b"a = 1 # c\n", "a.toml", 0, "a", "2_000", b"1", b"2_000"),
    (b"a = 'x'\n", "a.toml", 0, "a", "y'z", b"'x'", b'"y\'z"'),
    (b"a : x\r\n", "a.properties", 0, "a", " y\\\u00e9", b"x", b"\\ y\\\\\\u00e9"),
    (b"n=caf\xe9\n", "a.properties", 0, "n", "th\u00e9", b"caf\xe9", b"th\xe9"),
    (b"a\n", "a.properties", 0, "a", "1", b"a", b"a=1"),
    (b"A=b # c\n", ".env", 0, "A", "d e", b"b", b'"d e"'),
    (b'A="b"\n', ".env", 0, "A", 'd"e', b'"b"', b'"d\\"e"'),
    (b"-Xmx1g\n# c\n", "jvm.options", 0, ":-Xmx", "2g", b"1g", b"2g"),
    (b"FROM a:1 AS x\n", "Dockerfile", 0, "FROM", "a:2", b"a:1", b"a:2"),
]


@pytest.mark.parametrize(
    ("data", "path", "document", "key", "new", "before", "after"),
    EDITS,
    ids=[f"{e[1]}:{e[3][-24:]}={e[4]!r}" for e in EDITS],
)
def test_an_edit_replaces_the_value_and_nothing_else(
    data: bytes, path: str, document: int, key: str, new: str, before: bytes, after: bytes
) -> None:
    edited = set_value(data, path, key, new, document)
    assert data.count(before) >= 1
    at = next(
        i
        for i in range(len(data))
        if data.startswith(before, i) and edited == data[:i] + after + data[i + len(before) :]
    )
    assert at >= 0
    old, now = values(data, path), values(edited, path)
    assert now[(document, key)] == new
    changed = {k for k in {**old, **now} if old.get(k) != now.get(k)}
    assert changed - {(document, key)} <= wholes(read_entries(data, path), document, key)


def test_setting_the_same_value_changes_nothing() -> None:
    assert set_value(MANIFEST, "d.yaml", "spec.replicas", "3") is MANIFEST


REFUSED = [
    (
        HELM_VALUES,
        "v.yaml",
        "defaults.retries",
        "9",
        "anchored and also changes payments.retries, shared.retries",
    ),
    (HELM_VALUES, "v.yaml", "defaults.javaOpts:-Xmx", "2g", "anchored and also changes"),
    (HELM_VALUES, "v.yaml", "payments.retries", "9", "alias or merge key"),
    (MANIFEST, "d.yaml", "spec.missing", "1", "is not there"),
    (MANIFEST, "d.yaml", f"{CONTAINER}.env[SESSION_TIMEOUT].name", "X", "would be gone"),
    (MANIFEST, "d.yaml", f"{FLAGS}:-Xmx", "1 g", "cannot be written"),
    (MANIFEST, "d.yaml", f"{FLAGS}:-XX:+UseG1GC", "maybe", "cannot be written"),
    (b"a: []\n", "a.yaml", "a", "1", "cannot be written"),
    (b"A=b\n", "a.env", "A", "b\nc", "cannot be written"),
    (b"a: 1\n", "a.txt", "a", "2", "not read by key"),
    (b"a: x\n", "a.yaml", "a", "\ud800", "would break the file"),
]


@pytest.mark.parametrize(
    ("data", "path", "key", "new", "reason"), REFUSED, ids=[f"{r[2][-30:]}={r[3]!r}" for r in REFUSED]
)
def test_an_edit_that_is_not_exact_is_refused(data: bytes, path: str, key: str, new: str, reason: str) -> None:
    with pytest.raises(ChangeRefused, match=path) as caught:
        set_value(data, path, key, new)
    assert reason in str(caught.value)


REMOVALS = [
    (b"a: 1\nb: 2 # c\nc: 3\n", "a.yaml", "b", b"a: 1\nc: 3\n"),
    (b"a: 1\r\nb: 2", "a.yaml", "b", b"a: 1"),
    (b"a: 1\nb:\n  c:\n    d: 1\n\n# e\n", "a.yaml", "b.c.d", b"a: 1\n\n# e\n"),
    (b"a: 1\nb: |\n  x\n\n  y\nc: 2\n", "a.yaml", "b", b"a: 1\nc: 2\n"),
    (b"o: -Xmx1g -Xss1m -Da=b\n", "a.yaml", "o:-Xss", b"o: -Xmx1g -Da=b\n"),
    (b"o: -Xmx1g -Xss1m\n", "a.yaml", "o:-Xss", b"o: -Xmx1g\n"),
    (b"a = 1\n[t]\nb = 2 # c\nd = 3\n", "a.toml", "t.b", b"a = 1\n[t]\nd = 3\n"),
    (b"a=1\nb=2\\\n  3\nc=4\n", "a.properties", "b", b"a=1\nc=4\n"),
    (b"export A=1\nB=2\n", ".env", "A", b"B=2\n"),
    (b"-Xmx1g\n-Xss1m\n", "jvm.options", ":-Xmx", b"-Xss1m\n"),
]


@pytest.mark.parametrize(("data", "path", "key", "result"), REMOVALS, ids=[f"{r[1]}:{r[2]}" for r in REMOVALS])
def test_a_key_goes_with_its_lines(data: bytes, path: str, key: str, result: bytes) -> None:
    assert remove_key(data, path, key) == result


def test_a_key_of_an_embedded_file_goes_with_its_line() -> None:
    edited = remove_key(MANIFEST, "d.yaml", f"{EMBEDDED}#prod.server.port", 1)
    assert edited == MANIFEST.replace(b"    server.port: 8443\n", b"")


NOT_REMOVED = [
    (b"{a: 1, b: 2}\n", "a.yaml", "a"),
    (b"- name: x\n  v: 1\n", "a.yaml", "[x].name"),
    (b"a: 1\n", "a.yaml", "a"),
    (b'{"a": 1, "b": 2}', "a.json", "a"),
    (b"a: &x\n  b: 1\nc: *x\n", "a.yaml", "a.b"),
    (b"ENV A=1 B=2\n", "Dockerfile", "ENV[A]"),
    (b"a=1\na=2\n", "a.properties", "a"),
    (b'o: "-Xmx1g -Xmx2g"\n', "a.yaml", "o:-Xmx"),
]


@pytest.mark.parametrize(("data", "path", "key"), NOT_REMOVED, ids=[f"{r[1]}:{r[2]}" for r in NOT_REMOVED])
def test_a_key_that_shares_its_line_stays(data: bytes, path: str, key: str) -> None:
    with pytest.raises(ChangeRefused):
        remove_key(data, path, key)


INSERTIONS = [
    (b"a:\n    b: 1\nc: 2\n", "a.yaml", "a.d", "24h", b"a:\n    b: 1\n    d: 24h\nc: 2\n"),
    (b"a: 1", "a.yaml", "b", "x: y", b'a: 1\nb: "x: y"'),
    (b"a: 1\r\n", "a.yaml", "b", "1", b"a: 1\r\nb: 1\r\n"),
    (b"o: -Xmx1g # c\n", "a.yaml", "o:-XX:+UseG1GC", "false", b"o: -Xmx1g -XX:-UseG1GC # c\n"),
    (b"o: '-Xmx1g'\n", "a.yaml", "o:-Da.b", "c", b"o: '-Xmx1g -Da.b=c'\n"),
    (b"a=1\n", "a.properties", "b.c", "2", b"a=1\nb.c=2\n"),
    (b"A=1", ".env", "B", "x y", b'A=1\nB="x y"'),
]


@pytest.mark.parametrize(
    ("data", "path", "key", "value", "result"), INSERTIONS, ids=[f"{i[1]}:{i[2]}" for i in INSERTIONS]
)
def test_a_key_is_added_on_a_line_of_its_own(data: bytes, path: str, key: str, value: str, result: bytes) -> None:
    assert insert_key(data, path, key, value) == result
    assert remove_key(result, path, key) == data


def test_a_key_is_added_to_an_embedded_file() -> None:
    edited = insert_key(MANIFEST, "d.yaml", f"{EMBEDDED}.server.servlet.path", "/x", 1)
    spot = b"          timeout: 30m   # do not raise\n"
    assert edited == MANIFEST.replace(spot, spot + b"        path: /x\n")


@pytest.mark.parametrize("key", ["a", "x.y", "c.d", "b[0]"], ids=["present", "no parent", "flow", "item"])
def test_a_key_without_a_place_is_not_added(key: str) -> None:
    with pytest.raises(ChangeRefused):
        insert_key(b"a: 1\nc: {e: 1}\nb: [1]\n", "a.yaml", key, "v")


# What a commit did (before, after), what the branch has now, and what reverting the keys must give.
TIMEOUT = f"{EMBEDDED}.server.servlet.session.timeout"
LATER = MANIFEST.replace(b"replicas: 3", b"replicas: 4")
COMMENTED = b"# head\n\na: 1\n# of b\nb: 2\n\n# of c\nc: 3\n"
REVERTS = {
    "first removed": (
        COMMENTED,
        COMMENTED.replace(b"a: 1\n", b""),
        COMMENTED.replace(b"a: 1\n", b""),
        ["a"],
        COMMENTED,
    ),
    "second removed": (
        COMMENTED,
        COMMENTED.replace(b"b: 2\n", b""),
        COMMENTED.replace(b"b: 2\n", b""),
        ["b"],
        COMMENTED,
    ),
    "changed": (b"a: '30m'\nb: 1\n", b"a: 24h\nb: 1\n", b"a: 24h\nb: 2\n", ["a"], b"a: '30m'\nb: 2\n"),
    "added": (b"a: 1\n", b"a: 1\nb:\n  c: 2\n", b"a: 9\nb:\n  c: 2\n", ["b.c"], b"a: 9\n"),
    "removed": (
        b"a: 1\nb: 2 # why\nc: 3\n",
        b"a: 1\nc: 3\n",
        b"a: 1\nc: 4\n",
        ["b"],
        b"a: 1\nb: 2 # why\nc: 4\n",
    ),
    "variable added": (
        b"env:\n- name: A\n  value: 1\n",
        b"env:\n- name: A\n  value: 1\n- name: JAVA_OPTS\n  value: -Xmx4g\n",
        b"# c\nenv:\n- name: A\n  value: 2\n- name: JAVA_OPTS\n  value: -Xmx4g\n",
        ["env[JAVA_OPTS].name", "env[JAVA_OPTS].value:-Xmx"],
        b"# c\nenv:\n- name: A\n  value: 2\n",
    ),
    "variable removed": (
        b"env:\n- name: A\n  value: 1\n- name: B\n  value: x\n",
        b"env:\n- name: A\n  value: 1\n",
        b"env:\n    - name: A\n      value: 1\n    - name: C\n      value: 1\n",
        ["env[B].name", "env[B].value"],
        b"env:\n    - name: A\n      value: 1\n    - name: B\n      value: x\n    - name: C\n      value: 1\n",
    ),
    "flag changed": (
        b"o: -Xmx1g -Xss1m\n",
        b"o: -Xmx8g -Xss1m\n",
        b"o: -Xmx8g -Xss2m\n",
        ["o:-Xmx"],
        b"o: -Xmx1g -Xss2m\n",
    ),
    "flag added": (
        b"o: -Xmx1g\n",
        b"o: -Xmx1g -Xss9m\n",
        b"o: -Xmx2g -Xss9m -Da=b\n",
        ["o:-Xss"],
        b"o: -Xmx2g -Da=b\n",
    ),
    "first flag removed": (
        b"o: -Xmx1g -Xss1m\n",
        b"o: -Xss1m\n",
        b"o: -Xss1m\n",
        ["o:-Xmx"],
        b"o: -Xmx1g -Xss1m\n",
    ),
    "flag removed": (
        b"o: -Xmx1g -Xss1m x\n",
        b"o: -Xmx1g x\n",
        b"o: -Xmx1g x y\n",
        ["o:-Xss"],
        b"o: -Xmx1g -Xss1m x y\n",
    ),
    "property": (b"a=1\nb=x\n", b"a=1\nb=y\n", b"b=y\na=2\n", ["b"], b"b=x\na=2\n"),
    "property removed": (b"a=1\n b : 2\nc=3\n", b"a=1\nc=3\n", b"a=5\nc=3\n", ["b"], b"a=5\n b : 2\nc=3\n"),
    "block": (b"a: |\n  x\n  y\nb: 1\n", b"a: z\nb: 1\n", b"a: z\nb: 2\n", ["a"], b"a: |\n  x\n  y\nb: 2\n"),
}


@pytest.mark.parametrize("name", REVERTS)
def test_reverted_keys_get_back_what_they_were(name: str) -> None:
    before, after, current, keys, result = REVERTS[name]
    path = "a.properties" if name.startswith("property") else "a.yaml"
    assert revert_keys(before, after, current, path, keys) == result


def test_a_key_of_an_embedded_file_is_reverted_in_a_file_that_moved_on() -> None:
    after = MANIFEST.replace(b"timeout: 30m", b"timeout: 24h")
    assert revert_keys(MANIFEST, after, after.replace(b"replicas: 3", b"replicas: 4"), "d.yaml", [TIMEOUT]) == LATER


def test_a_removed_key_of_an_embedded_file_comes_back() -> None:
    after = MANIFEST.replace(b"          timeout: 30m   # do not raise\n", b"          path: x\n")
    reverted = revert_keys(MANIFEST, after, after, "d.yaml", [TIMEOUT, TIMEOUT.replace("timeout", "path")])
    assert reverted == MANIFEST


def test_a_document_put_in_front_does_not_mislead_a_revert() -> None:
    after = MANIFEST.replace(b"timeout: 30m", b"timeout: 24h")
    front = b"apiVersion: v1\nkind: Service\nmetadata: {name: s}\n---\n"
    assert revert_keys(MANIFEST, after, front + after, "d.yaml", [(1, TIMEOUT)]) == front + MANIFEST


def test_a_key_of_two_documents_needs_its_number() -> None:
    after = SPRING.replace(b"30m", b"1h").replace(b"24h", b"2h")
    key = "server.servlet.session.timeout"
    with pytest.raises(ChangeRefused, match="name the document"):
        revert_keys(SPRING, after, after, "application.yml", [key])
    assert revert_keys(SPRING, after, after, "application.yml", [(0, key), (1, key)]) == SPRING


NOT_REVERTED = {
    "changed again": (
        b"a: 1\n",
        b"a: 2\n",
        b"a: 3\n",
        ["a"],
        "changed again since: the commit made it 2, now it is 3",
    ),
    "gone": (b"a: 1\nb: 1\n", b"a: 2\nb: 1\n", b"b: 1\n", ["a"], "now it is (not set)"),
    "untouched": (b"a: 1\nb: 1\n", b"a: 2\nb: 1\n", b"a: 2\nb: 1\n", ["b"], "the commit did not change it"),
    "shifted list": (
        b"a: [x, y]\n",
        b"a: [z, x, y]\n",
        b"a: [z, x, y]\n",
        ["a[0]"],
        "came, went or changed together",
    ),
    "new file": (None, b"a: 1\n", b"a: 1\n", ["a"], "nothing would be left"),
    "none": (b"a: 1\n", b"a: 2\n", b"a: 2\n", [], "0 keys"),
    "anchored since": (b"a: 1\nb: 1\n", b"a: 2\nb: 1\n", b"a: &x 2\nb: *x\n", ["a"], "anchored"),
    "parent gone": (b"p:\n  a: 1\n  b: 1\n", b"p:\n  b: 1\n", b"q: 1\n", ["p.a"], "no longer there"),
}


@pytest.mark.parametrize("name", NOT_REVERTED)
def test_a_revert_that_is_not_exact_is_refused(name: str) -> None:
    before, after, current, keys, reason = NOT_REVERTED[name]
    with pytest.raises(ChangeRefused) as caught:
        revert_keys(before, after, current, "a.yaml", keys)
    assert reason in str(caught.value)


SEEDS = {
    "d.yaml": MANIFEST,
    "application.yml": SPRING,
    "values.yaml": HELM_VALUES,
    "a.json": b'{"a": [1, 2.5e3, {"name": "n\\u00e9", "v": "x\\ny -Xmx1g"}], "b": {"c": null}, "e": []}',
    "a.toml": b'a = 1\n[t."x.y"]\nb = "s\\n" # c\nc = [1, {z = \'q\'}]\n[[arr]]\nname = "n"\nm = """x\ny"""\n',
    "application.properties": b"a=b\nc : d\\\n   e\n! c\n#---\nq\\ r = \\u00e9x\n\xe9=1\nJAVA_OPTS=-Xmx1g -Da=b\n",
    ".env": b'export A=b # c\nB="q \\" $X"\nC=\'x\'\nJAVA_OPTS="-Xmx1g -Xss1m"\nD=\n',
    "jvm.options": b"# c\n-Xmx1g\n8-13:-XX:+UseG1GC\n--add-opens=a/b=ALL\n",
    "Dockerfile": b'FROM a/b:1 AS x\nENV A=b C="d e" \\\n  JAVA_OPTS="-Xmx1g -Xss1m"\nFROM scratch\nCMD ["java"]\n',
}
_MARKS = rb"""&a |*a|<<: |- |: |"|'|>|{|[|]|#|\|? |---|=|-Xmx2g|!x """.split(b"|")
BYTES = st.sampled_from(
    [
        *_MARKS,
        b"|",
        b"\n",
        b"\r\n",
        b"\r",
        b"\t",
        b"\xc3\xa9",
        b"\xe2\x80\xa8",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\xff",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "24h",
            "",
            "a: b",
            "#c",
            "true",
            "3",
            "it's",
            'q"q',
            "a\nb\n",
            "x,y",
            " lead",
            "\\",
            "*a",
            "null",
            "-",
        ]
    ),
    st.text(max_size=12),
)


@st.composite
def edited_seeds(draw: st.DrawFn) -> tuple[bytes, str]:
    path = draw(st.sampled_from(sorted(SEEDS)))
    data = bytearray(SEEDS[path])
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        if draw(st.booleans()):
            data[at:at] = draw(BYTES)
        else:
            del data[at : at + draw(st.integers(1, 8))]
    return bytes(data), path


RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(RELAXED, max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([*sorted(SEEDS), "x.conf", "x"]))
@example(b"\xef\xbb\xbf", "d.yaml")
@example(b"", "a.json")
@example(b"\xe2\x80\xa8a: |\n\n", "d.yaml")
def test_random_bytes_are_read_or_malformed(data: bytes, path: str) -> None:
    begun = time.process_time()
    try:
        file = read_entries(data, path)
    except SourceMalformed:
        file = ConfigFile(path, "text")
    assert time.process_time() - begun < 1
    assert len(file.index) == len(file.entries)


@settings(RELAXED, max_examples=300)
@given(edited_seeds(), st.randoms(use_true_random=False), VALUES)
def test_an_edit_changes_one_key_and_its_way_back_restores_it(
    seed: tuple[bytes, str], random: st.random_module, new: str
) -> None:
    data, path = seed
    try:
        file = read_entries(data, path)
    except SourceMalformed:
        return
    if not file.entries:
        return
    entry = random.choice(file.entries)  # type: ignore[attr-defined]
    try:
        edited = set_value(data, path, entry.key, new, entry.document)
    except ChangeRefused:
        return
    now = read_entries(edited, path)
    assert now.get(entry.key, entry.document) == new
    if edited is data:
        return
    assert entry.start is not None and entry.end is not None
    if now.identities != file.identities:  # a name or a profile: what the document is called from now on
        return
    assert edited.startswith(data[: entry.start]) and edited.endswith(data[entry.end :])
    related = {e.identity for e in (*file.entries, *now.entries) if _related(e.key, entry.key)}
    for identity in {**file.index, **now.index}.keys() - related:
        assert file.index[identity].value == now.index[identity].value
    found = now.entry(entry.key, entry.document)
    if found is not None and found.start is None:  # an escape was needed inside of another value
        return
    assert revert_keys(data, edited, edited, path, [entry.identity]) == data


def _related(key: str, other: str) -> bool:
    flagged = key.rpartition(":-")[0] or key, other.rpartition(":-")[0] or other
    return key.startswith(other) or other.startswith(key) or any(f.startswith(flagged[0][:-3]) for f in flagged[1:])


@settings(RELAXED, max_examples=200)
@given(
    st.sampled_from(sorted(SEEDS)),
    st.randoms(use_true_random=False),
    st.from_regex(r"v[a-z0-9]{0,8}", fullmatch=True),
)
def test_set_then_set_back_gives_the_original_bytes(path: str, random: st.random_module, new: str) -> None:
    data = SEEDS[path]
    styles = ("double", "single", "value", "plain")
    plain = [e for e in read_entries(data, path).entries if e.style in styles and e.value.isascii()]
    plain = [e for e in plain if plain_type(e) == "string"]
    entry = random.choice(plain)  # type: ignore[attr-defined]
    try:
        edited = set_value(data, path, entry.key, new, entry.document)
    except ChangeRefused:
        return
    token = data[entry.start : entry.end]
    back = set_value(edited, path, entry.key, entry.value, entry.document)
    assert back == data or b"\\" in token
