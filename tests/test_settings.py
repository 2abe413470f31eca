"""Settings: read once, checked whole; whatever stands in the file, one line says what is wrong with it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from advisor.errors import SettingsInvalid
from advisor.settings import SETTINGS_BYTES_MAX, load_settings, parse_settings, read_secret
from advisor.values import Risk

BASE = Path("folder")
EXAMPLE = """
store: sqlite:///advisor.db            # or postgresql+psycopg://…
model: null                            # "anthropic:…", "openai:…", "ollama:…"; null = no model
prometheus: {url: "http://127.0.0.1:9090"}
repositories:
  config: {url: ./config.git, branch: main}
services:
  checkout:
    selector: 'job="checkout"'
    configuration: {repository: config, paths: ["apps/checkout/**"]}
    logs: [{files: ["logs/checkout*.log"]}]
    depends_on: [payments, sessions-db]
    kubernetes: {namespace: shop, workload: deployment/checkout}
approval: {approvers: ["alice@example.org"], two_person_from_risk: high, expires_minutes: 30}
"""


def refusal(text: str) -> str:
    """Return the one line that a text is refused with."""
    with pytest.raises(SettingsInvalid) as caught:
        parse_settings(text, BASE)
    line = str(caught.value)
    assert line.startswith("advisor.yaml: ")
    assert line.isprintable()
    assert len(line) <= 600
    return line


def edited(path: str, value: object) -> str:
    """Return the example with one value set; ``path`` is written with dots."""
    data = yaml.safe_load(EXAMPLE)
    *parents, last = path.split(".")
    inner = data
    for part in parents:
        inner = inner[int(part)] if part.isdigit() else inner.setdefault(part, {})
    inner[last] = value
    return yaml.safe_dump(data)


def test_the_example_of_the_documentation_is_read_whole() -> None:
    found = parse_settings(EXAMPLE, BASE)
    service = found.service("checkout")
    assert service.selector == 'job="checkout"'
    assert service.configuration is not None and service.configuration.paths == ("apps/checkout/**",)
    assert service.logs[0].files == ("logs/checkout*.log",)
    assert service.depends_on == ("payments", "sessions-db")
    assert found.prometheus is not None and found.prometheus.url == "http://127.0.0.1:9090"
    assert found.repositories["config"].branch == "main"
    assert found.approval.people_needed(Risk.MEDIUM) == 1
    assert found.approval.people_needed(Risk.HIGH) == 2
    assert found.path("./config.git") == BASE / "config.git"
    assert found.path("/srv/config.git") == Path("/srv/config.git")


def test_an_empty_file_is_all_defaults() -> None:
    assert parse_settings("", BASE) == parse_settings("# nothing yet\n", BASE) == parse_settings("{}", BASE)


def test_one_glob_may_stand_without_a_list() -> None:
    found = parse_settings(edited("services.checkout.logs", [{"files": "logs/*.log"}]), BASE)
    assert found.services["checkout"].logs[0].files == ("logs/*.log",)


@pytest.mark.parametrize(
    "path",
    [
        "promethius",
        "prometheus.uri",
        "prometheus.password",
        "prometheus.bearer_token",
        "repositories.config.token",
        "services.checkout.configuration.path",
        "services.checkout.logs.0.file",
        "services.checkout.kubernetes.deployment",
        "services.checkout.selectors",
        "approval.approver",
        "verification.window",
        "limits.deadline",
        "base",
    ],
)
def test_an_unknown_key_is_refused_by_its_name(path: str) -> None:
    assert f"{path}: unknown key" in refusal(edited(path, "x"))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("prometheus.url", 9090, "valid string"),
        ("prometheus.url", "localhost:9090", "not an http(s) address"),
        ("prometheus.url", "http://app:pw@localhost:9090", "carries a password"),
        ("prometheus.retries", "many", "valid integer"),
        ("prometheus.retries", 99, "less than or equal to 10"),
        ("prometheus.certificate_file", "c.pem", "go together"),
        ("repositories.config.url", "https://u:pw@example.org/x", "carries a password"),
        ("repositories.config.url", "--upload-pack=x", "begin with '-'"),
        ("repositories.config.url", "ext::sh -c x", "remote helper"),
        ("repositories.config.branch", "-x", "begin with '-'"),
        ("services.checkout.configuration.repository", "other", "is not under repositories (known: config)"),
        ("services.checkout.selector", "checkout", "list of label matchers"),
        ("services.checkout.selector", 'job="x"} or {a="b"', "list of label matchers"),
        ("services.checkout", None, "valid dictionary"),
        ("services", ["checkout"], "valid dictionary"),
        ("approval.two_person_from_risk", "always", "'low', 'medium', 'high' or 'never'"),
        ("approval.expires_minutes", 0, "greater than or equal to 1"),
        ("approval.expires_minutes", 100_000, "less than or equal to 240"),
        ("limits.lookback_hours", float("nan"), "limits.lookback_hours"),
        ("limits.lookback_hours", float("inf"), "limits.lookback_hours"),
        ("limits.deadline_seconds", -1, "greater than 0"),
        ("limits.points_max", 10**30, "limits.points_max"),
        ("verification.samples_min", 1, "greater than or equal to 2"),
        ("model", {"name": "x"}, "PROVIDER:NAME"),
        ("model", 7, "valid dictionary"),
        ("store", ["x"], "valid string"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_reason(path: str, value: object, said: str) -> None:
    line = refusal(edited(path, value))
    assert said in line
    assert path.rsplit(".", 1)[0].split(".")[0] in line


def test_a_missing_key_is_named() -> None:
    assert "prometheus.url: missing" in refusal("prometheus: {}")
    assert "services.checkout.selector: missing" in refusal("services: {checkout: {}}")


def test_a_password_in_an_address_is_refused_without_repeating_it() -> None:
    for path in ("prometheus.url", "repositories.config.url"):
        assert "s3cr3t" not in refusal(edited(path, "https://app:s3cr3t@example.org/x"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("- a\n- b", id="a list"),
        pytest.param("just words", id="a text"),
        pytest.param("42", id="a number"),
        pytest.param("a: [1, 2", id="open bracket"),
        pytest.param("a:\n\t- b", id="a tab"),
        pytest.param("a: !!python/object/apply:os.system ['true']", id="a python tag"),
        pytest.param("a: b\n---\nc: d", id="two documents"),
        pytest.param("&a [*a]", id="a list that holds itself"),
        pytest.param("store: &a {b: *a}", id="a mapping that holds itself"),
        pytest.param("? [1, 2]\n: 3", id="a list as key"),
        pytest.param("1: 2", id="a number as key"),
        pytest.param("null: 2", id="null as key"),
        pytest.param("store: 2026-13-45", id="no such day"),
        pytest.param("a: " + "9" * 5000, id="a huge number"),
        pytest.param("\x00", id="nul"),
        pytest.param("store: \ud800", id="half a surrogate"),
        pytest.param("[" * 4000, id="deep brackets"),
        pytest.param("{a: " * 3000, id="deep braces"),
        pytest.param("a: " * 5000, id="deep keys"),
        pytest.param("- " * 5000, id="deep dashes"),
        pytest.param("x" * (SETTINGS_BYTES_MAX + 1), id="too large"),
    ],
)
def test_what_is_no_settings_file_is_refused_in_one_line(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize("place", ["playbooks", "services", "approval", "store", "x"])
def test_an_alias_bomb_is_refused_at_once(place: str) -> None:
    layers = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    layers += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    begin = time.process_time()
    refusal("\n".join([*layers, f"{place}: *a11"]))
    refusal(f"{place}:\n" + "\n".join(f"  {line}" for line in layers))
    assert time.process_time() - begin < 2.0


_WORDS = st.sampled_from(
    [
        "store",
        "prometheus",
        "url",
        "services",
        "checkout",
        "selector",
        "limits",
        ": ",
        "\n",
        "  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a",
        "*a",
        "|",
        "'",
        '"',
        "0",
        "null",
        ".nan",
        "!!",
        "? ",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.lists(_WORDS, max_size=40).map("".join))
@example("services: {x: {selector: 'a=\"b\"', depends_on: {a: b}}}")
def test_any_text_is_settings_or_refused_in_one_line(text: str) -> None:
    try:
        parse_settings(text, BASE)
    except SettingsInvalid as error:
        assert str(error).isprintable()


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["url", "config", "files", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        ["store", "model", "prometheus", "prometheus.url", "prometheus.headers", "repositories", "repositories.config", "services", "services.checkout", "services.checkout.logs",
         "services.checkout.selector", "services.checkout.configuration", "approval", "approval.approvers", "limits", "limits.points_max", "playbooks", "verification"]
    ),
    _ANYTHING,
)  # fmt: skip
def test_any_value_anywhere_is_settings_or_refused_in_one_line(path: str, value: object) -> None:
    try:
        parse_settings(edited(path, value), BASE)
    except SettingsInvalid as error:
        assert str(error).isprintable()


# --- files and secrets -------------------------------------------------------------------------------------------------


def test_a_file_says_where_its_paths_count_from(tmp_path: Path) -> None:
    (tmp_path / "advisor.yaml").write_text(EXAMPLE)
    assert load_settings(tmp_path / "advisor.yaml").path("x") == tmp_path / "x"


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="no such file; `advisor init` writes one"):
        load_settings(tmp_path / "advisor.yaml")


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"store: \xe9"], ids=["binary", "latin-1"])
def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "advisor.yaml").write_bytes(data)
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load_settings(tmp_path / "advisor.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load_settings(tmp_path)


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROM_TOKEN", "s3cr3t")
    (tmp_path / "token").write_text("from-file\n")
    assert read_secret("PROM_TOKEN", None, "prometheus") == "s3cr3t"
    assert read_secret(None, tmp_path / "token", "prometheus") == "from-file"
    assert read_secret(None, None, "prometheus") is None


def test_a_secret_that_is_not_there_is_said_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROM_TOKEN", "")
    (tmp_path / "empty").write_text("\n")
    for env, file, said in [
        ("PROM_TOKEN", None, "environment variable PROM_TOKEN is not set"),
        (None, tmp_path / "empty", "is empty"),
        (None, tmp_path / "none", "cannot be read: FileNotFoundError"),
        (None, tmp_path, "cannot be read: IsADirectoryError"),
    ]:
        with pytest.raises(SettingsInvalid, match=said):
            read_secret(env, file, "prometheus")


def test_an_unknown_service_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsInvalid, match=r"'chekout' is not configured \(known: checkout\)"):
        parse_settings(EXAMPLE, BASE).service("chekout")


def test_the_policy_version_changes_with_the_approval_rules_only() -> None:
    one = parse_settings(EXAMPLE, BASE)
    assert parse_settings(edited("limits.points_max", 100), BASE).policy_version == one.policy_version
    assert parse_settings(edited("approval.expires_minutes", 31), BASE).policy_version != one.policy_version
