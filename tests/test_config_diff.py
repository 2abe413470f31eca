"""Key-level differences: what a person would name as changed, and nothing else."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.config_file import read_entries, set_value
from advisor.errors import ChangeRefused, SourceMalformed
from advisor.evidence.config_diff import KeyChange, diff_keys

DEPLOYMENT = b"""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: shop}
spec:
  replicas: 3
  template:
    spec:
      containers:
        - name: checkout
          image: shop/checkout:1.4.2
          args: ["-Xss1m", "-jar", "app.jar"]
          env:
            - name: JAVA_OPTS
              value: "-Xms512m -Xmx1g -XX:+UseG1GC"
            - name: SESSION_TIMEOUT
              value: 30m
          resources:
            limits: {cpu: 500m, memory: 1536Mi}
        - name: sidecar
          image: proxy:2
          ports: [{containerPort: 9000}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: checkout-config, namespace: shop}
data:
  application.yaml: |
    server:
      servlet:
        session:
          timeout: 30m
    hosts: [a, b, c]
  note: text
"""
CONTAINER = "spec.template.spec.containers[checkout]"
FLAGS = f"{CONTAINER}.env[JAVA_OPTS].value"
EMBEDDED = 'data["application.yaml"]'


def told(changes: tuple[KeyChange, ...]) -> list[tuple[str, str | None, str | None]]:
    return [(c.key, c.old, c.new) for c in changes]


def edit(*replacements: tuple[bytes, bytes]) -> bytes:
    data = DEPLOYMENT
    for old, new in replacements:
        assert old in data
        data = data.replace(old, new, 1)
    return data


def test_a_session_timeout_is_told_with_its_factor() -> None:
    (change,) = diff_keys(DEPLOYMENT, edit((b"timeout: 30m", b"timeout: 24h")), "d.yaml")
    assert (change.path, change.key) == ("d.yaml", f"{EMBEDDED}.server.servlet.session.timeout")
    assert (change.document, change.scope, change.kind) == (1, "ConfigMap/checkout-config", "changed")
    assert (change.old, change.new, change.ratio, change.unit) == ("30m", "24h", 48.0, "seconds")
    assert change.old_quantity is not None and change.old_quantity.value == 1800
    assert KeyChange.model_validate_json(change.model_dump_json()) == change


# Edits of the manifest above, and what they are told as.
CASES = {
    "one flag of a string": ([(b"-Xmx1g", b"-Xmx2g")], [(f"{FLAGS}:-Xmx", "1g", "2g")]),
    "a switch": ([(b"+UseG1GC", b"-UseG1GC")], [(f"{FLAGS}:-XX:+UseG1GC", "true", "false")]),
    "a flag more": ([(b"-Xmx1g ", b"-Xmx1g -Xss9m ")], [(f"{FLAGS}:-Xss", None, "9m")]),
    "a flag less": ([(b"-Xms512m ", b"")], [(f"{FLAGS}:-Xms", "512m", None)]),
    "a later flag that wins": ([(b"UseG1GC", b"UseG1GC -Xmx4g")], [(f"{FLAGS}:-Xmx", "1g", "4g")]),
    "flags in another order": ([(b"-Xms512m -Xmx1g", b"-Xmx1g   -Xms512m")], []),
    "a word that is no flag": (
        [(b"UseG1GC", b"UseG1GC -javaagent:x.jar")],
        [(FLAGS, "-Xms512m -Xmx1g -XX:+UseG1GC", "-Xms512m -Xmx1g -XX:+UseG1GC -javaagent:x.jar")],
    ),
    "a flag among arguments": ([(b"-Xss1m", b"-Xss4m")], [(f"{CONTAINER}.args:-Xss", "1m", "4m")]),
    "an argument put in front": (
        [(b'["-Xss1m"', b'["-Xmx1g", "-Xss1m"')],
        [(f"{CONTAINER}.args:-Xmx", None, "1g")],
    ),
    "an item put in front": ([(b"[a, b, c]", b"[z, a, b, c]")], [(f"{EMBEDDED}.hosts[0]", None, "z")]),
    "an item taken out": ([(b"[a, b, c]", b"[a, c]")], [(f"{EMBEDDED}.hosts[1]", "b", None)]),
    "an item replaced": ([(b"[a, b, c]", b"[a, x, c]")], [(f"{EMBEDDED}.hosts[1]", "b", "x")]),
    "items in another order": (
        [(b"[a, b, c]", b"[c, a, b]")],
        [(f"{EMBEDDED}.hosts", "[a, b, c]", "[c, a, b]")],
    ),
    "image": (
        [(b"checkout:1.4.2", b"checkout:1.5.0")],
        [(f"{CONTAINER}.image", "shop/checkout:1.4.2", "shop/checkout:1.5.0")],
    ),
    "a container renamed": (
        [(b"- name: checkout\n", b"- name: shop\n"), (b"cpu: 500m", b"cpu: 250m")],
        [
            ("spec.template.spec.containers[shop].name", "checkout", "shop"),
            ("spec.template.spec.containers[shop].resources.limits.cpu", "500m", "250m"),
        ],
    ),
    "a variable renamed": (
        [(b"name: SESSION_TIMEOUT", b"name: TIMEOUT")],
        [
            (f"{CONTAINER}.env[TIMEOUT].name", None, "TIMEOUT"),
            (f"{CONTAINER}.env[TIMEOUT].value", None, "30m"),
            (f"{CONTAINER}.env[SESSION_TIMEOUT].name", "SESSION_TIMEOUT", None),
            (f"{CONTAINER}.env[SESSION_TIMEOUT].value", "30m", None),
        ],
    ),
    "a number made text": ([(b"replicas: 3", b'replicas: "3"')], [("spec.replicas", "3", '"3"')]),
    "text quoted": ([(b"value: 30m", b"value: '30m'")], []),
    "comments": ([(b"replicas: 3", b"replicas: 3   # three\n  # zones")], []),
    "layout": (
        [(b"{cpu: 500m, memory: 1536Mi}", b"\n              memory: 1536Mi\n              cpu: 500m")],
        [],
    ),
    "a comment in an embedded file": ([(b"    server:\n", b"    # why\n    server:\n")], []),
    "an embedded file that broke": (
        [(b"hosts: [a, b, c]", b"hosts: [a")],
        [(EMBEDDED, None, None)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_edit_is_told_by_key(name: str) -> None:
    replacements, expected = CASES[name]
    found = told(diff_keys(DEPLOYMENT, edit(*replacements), "d.yaml"))
    if expected == [(EMBEDDED, None, None)]:
        assert [c[0] for c in found] == [EMBEDDED]
    else:
        assert found == expected


def test_documents_are_matched_by_what_they_are_about() -> None:
    first, second = DEPLOYMENT.split(b"---\n")
    service = b"apiVersion: v1\nkind: Service\nmetadata: {name: checkout}\n"
    assert diff_keys(DEPLOYMENT, b"---\n".join([second, first]), "d.yaml") == ()
    added = diff_keys(DEPLOYMENT, b"---\n".join([service, first, second]), "d.yaml")
    assert {(c.kind, c.document, c.scope) for c in added} == {("added", 0, "Service/checkout")}
    removed = diff_keys(DEPLOYMENT, second, "d.yaml")
    assert {c.scope.split("/")[0] for c in removed} == {"Deployment"}
    renamed = diff_keys(first, first.replace(b"{name: checkout", b"{name: cart"), "d.yaml")
    assert told(renamed) == [("metadata.name", "checkout", "cart")]


def test_profiles_are_matched_by_name() -> None:
    prod = b"spring.config.activate.on-profile: prod\nserver.port: 1\n"
    test = b"spring.config.activate.on-profile: test\nserver.port: 2\n"
    base = b"server.port: 0\n"
    old, new = b"---\n".join([base, prod, test]), b"---\n".join([base, test, prod.replace(b"1", b"9")])
    (change,) = diff_keys(old, new, "application.yml")
    assert (change.key, change.document, change.scope) == ("server.port", 2, "profile:prod")
    assert (change.old, change.new, change.ratio) == ("1", "9", None)


def test_an_anchor_changes_every_key_that_takes_it() -> None:
    old = b"d: &d {ttl: 5m}\na:\n  <<: *d\nb: *d\n"
    assert told(diff_keys(old, old.replace(b"5m", b"1h"), "a.yaml")) == [
        ("d.ttl", "5m", "1h"),
        ("a.ttl", "5m", "1h"),
        ("b.ttl", "5m", "1h"),
    ]
    assert diff_keys(b"a: &x 1\nb: *x\n", b"a: 1\nb: 1\n", "a.yaml") == ()


FORMATS = [
    ("a.json", b'{"a": {"b": 1}, "c": 2}', b'{"c": 2,\n "a": {"b": 3}}', [("a.b", "1", "3")]),
    ("a.json", b'{"a": 1}', b'{"a": "1"}', [("a", "1", '"1"')]),
    ("a.toml", b"[t]\na = 'x'\n", b'# c\n[t]\na = "x"\nb = 1\n', [("t.b", None, "1")]),
    ("a.properties", b"a=1\nb=2\n", b"# c\nb : 2\na=1\na=3\n", [("a", "1", "3")]),
    (".env", b'A="b"\n', b"export A='c'\n", [("A", "b", "c")]),
    (
        "jvm.options",
        b"-Xmx1g\n-XX:+A\n",
        b"-Xmx2g\n-XX:-A\n",
        [(":-Xmx", "1g", "2g"), (":-XX:+A", "true", "false")],
    ),
    ("Dockerfile", b"FROM a:1\n", b"FROM a:2\nENV X=1\n", [("FROM", "a:1", "a:2"), ("ENV[X]", None, "1")]),
    ("a.yaml", b"a: 5\n", b"a:\n  b: 1\n", [("a.b", None, "1"), ("a", "5", None)]),
    (
        "a.yaml",
        b"l: [{x: 1, y: 1}, {x: 2, y: 2}]\n",
        b"l: [{x: 9, y: 9}, {x: 1, y: 1}, {x: 2, y: 3}]\n",
        [("l[0].x", None, "9"), ("l[0].y", None, "9"), ("l[2].y", "2", "3")],
    ),
    ("README.md", b"a", b"b", []),
]


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"), FORMATS, ids=[f"{i}:{f[0]}" for i, f in enumerate(FORMATS)]
)
def test_every_format_is_compared(
    path: str, old: bytes, new: bytes, expected: list[tuple[str, str | None, str | None]]
) -> None:
    assert told(diff_keys(old, new, path)) == expected


def test_files_that_come_and_go() -> None:
    assert {c.kind for c in diff_keys(None, DEPLOYMENT, "d.yaml")} == {"added"}
    assert {c.kind for c in diff_keys(DEPLOYMENT, None, "d.yaml")} == {"removed"}
    assert diff_keys(None, None, "d.yaml") == ()
    keys = {c.key for c in diff_keys(None, DEPLOYMENT, "d.yaml")}
    assert f"{FLAGS}:-Xmx" in keys
    assert not keys & {FLAGS, EMBEDDED}


@pytest.mark.parametrize("malformed", [b"a: [", b"\xff", b"a: {{ x }"])
def test_a_side_that_cannot_be_read_is_malformed(malformed: bytes) -> None:
    with pytest.raises(SourceMalformed):
        diff_keys(b"a: 1\n", malformed, "a.yaml")
    with pytest.raises(SourceMalformed):
        diff_keys(malformed, b"a: 1\n", "a.yaml")


def test_many_changes_are_told_in_time() -> None:
    old = b"\n".join(b"k%d=1" % i for i in range(20_000))
    begun = time.process_time()
    assert len(diff_keys(old, old.replace(b"=1", b"=2"), "a.properties")) == 20_000
    lists = b"\n".join(b"k%d: [a, b]" % i for i in range(15_000))
    assert len(diff_keys(lists, lists.replace(b"[a", b"[x, a"), "a.yaml")) == 15_000
    assert time.process_time() - begun < 6


def test_two_files_of_five_kilobytes_are_compared_in_milliseconds() -> None:
    best = 1.0
    for i in range(20):  # another text each time: files that were read before are kept
        old = b"# %d\n" % i + b"---\n".join([DEPLOYMENT] * 4)
        begun = time.process_time()
        assert diff_keys(old, old.replace(b"-Xmx1g", b"-Xmx2g"), "d.yaml")
        best = min(best, time.process_time() - begun)
    assert best < 0.01  # some 3 ms on an idle machine


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_one_edit_is_told_as_itself(data: st.DataObject) -> None:
    file = read_entries(DEPLOYMENT, "d.yaml")
    entry = data.draw(st.sampled_from([e for e in file.entries if e.start is not None]))
    new = data.draw(st.from_regex(r"v[a-z0-9]{1,6}", fullmatch=True))
    try:
        edited = set_value(DEPLOYMENT, "d.yaml", entry.key, new, entry.document)
    except ChangeRefused:
        return
    if edited == DEPLOYMENT:  # drawn was what stands there
        return
    changes = diff_keys(DEPLOYMENT, edited, "d.yaml")
    assert changes
    assert len(diff_keys(edited, DEPLOYMENT, "d.yaml")) == len(changes)
    if read_entries(edited, "d.yaml").identities == file.identities:
        assert {c.key for c in changes} <= {e.key for e in file.entries if e.key.startswith(entry.key.split("[0]")[0])}


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.sampled_from(["a.yaml", "a.json", "a.properties", ".env"]),
)
def test_random_bytes_are_compared_or_malformed(old: bytes, new: bytes, path: str) -> None:
    try:
        changes = diff_keys(old, new, path)
    except SourceMalformed:
        return
    assert all(c.old != c.new for c in changes)
