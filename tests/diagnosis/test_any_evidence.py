"""The engine on evidence of any kind: whatever the sources gave, an assessment that is whole, and no warning on the way."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from advisor.diagnosis import Assessment, Outcome
from advisor.diagnosis.knobs import WORK, Effect, Knob
from advisor.diagnosis.picture import draw_picture
from advisor.evidence import (
    ChangeRequest,
    CommitChange,
    FileChange,
    Gathered,
    LogAnswer,
    LogException,
    Neighbour,
    Relation,
    Series,
)
from advisor.evidence.config_diff import KeyChange
from advisor.incident import Symptom
from tests.adapters.test_git_repository import Remote, opened
from tests.diagnosis.work_stories import (
    BAD,
    KNOBS,
    POINTS,
    STEP,
    T0,
    Service,
    assess,
    gathered,
    incident,
    moment,
    neighbour,
    stepped,
)

ASKED = [s for s in Symptom if not s.value.endswith("oom")]


def check_whole(found: Assessment) -> None:
    """Hold an assessment to what a reader may rely on."""
    ids = [e.id for e in found.evidence]
    assert len(set(ids)) == len(ids)
    cited = {i for h in found.hypotheses for i in (*h.for_, *h.against)}
    cited |= {i for c in found.diagnosis.claims for i in c.evidence}
    assert cited <= set(ids)
    assert 0 <= found.diagnosis.probability <= 1
    assert all(0 <= h.probability <= 1 for h in found.hypotheses)
    assert (
        sum(h.probability for h in found.hypotheses) <= 1.0001 + 1e-4 * len(found.hypotheses) / 2
    )  # rounded to four places
    assert all(math.isfinite(t.value) and t.why for h in found.hypotheses for t in h.terms)
    scores = [sum(t.value for t in h.terms) for h in found.hypotheses]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(scores))
    assert all(math.isfinite(c.threshold) and c.query for c in found.verification.checks)
    assert (found.diagnosis.cause is not None) == (found.diagnosis.outcome is Outcome.DIAGNOSED)
    assert found.diagnosis.summary
    found.model_dump_json(by_alias=True)


def slow_service() -> Service:
    """Return a service that became slow with a change of its pool."""
    service = Service().answers(latency=stepped(0.1, 0.6)).began(-500, BAD)
    service.gauge("hikaricp_connections_pending", stepped(0.1, 12), pool="main")
    service.gauge("hikaricp_connections_max", stepped(10, 2), noise=False, pool="main")
    service.change(BAD - 1, {"spring.datasource.hikari.maximum-pool-size": ("10", "2")})
    service.change(40, {"logging.level.root": ("INFO", "DEBUG")})
    return service.calls("payments").says("Connection is not available, request timed out after 30000ms")


SLOW = slow_service()


def with_series(*series: Series, keep: bool = False) -> Gathered:
    return gathered(SLOW).model_copy(update={"metrics": (*(SLOW.series if keep else ()), *series)})


def every(change: object) -> Gathered:
    """Return the slow service's evidence with each series changed by a function of times and values."""
    out = []
    for s in SLOW.series:
        times, values = change(np.array(s.times), np.array(s.values))  # type: ignore[operator]
        out.append(as_read(s.name, s.labels, times, values))
    return gathered(SLOW).model_copy(update={"metrics": tuple(out)})


def as_read(name: str, labels: tuple[tuple[str, str], ...], times: Iterable[float], values: Iterable[float]) -> Series:
    """Return a series as the adapter hands it on: a sample that is no number is left out and counted."""
    both = [(float(t), float(v)) for t, v in zip(times, values, strict=True)]
    kept = [(t, v) for t, v in both if math.isfinite(v)]
    return Series(
        name=name,
        labels=labels,
        times=tuple(t for t, _ in kept),
        values=tuple(v for _, v in kept),
        dropped=len(both) - len(kept),
    )


def look(given: Gathered, *symptoms: Symptom) -> Assessment:
    """Return the assessment after holding picture and assessment to what must hold."""
    for asked in (incident(*symptoms), incident(*symptoms, noticed=None)):
        draw_picture(asked, given)
        draw_picture(asked, given, neighbour=True)
        found = assess(asked, given)
        check_whole(found)
    return found


# --- series ------------------------------------------------------------------------------------------------------------

DAMAGES = {
    "one point": lambda t, v: (t[-1:], v[-1:]),
    "two points": lambda t, v: (t[[0, -1]], v[[0, -1]]),
    "no point": lambda t, v: (t[:0], v[:0]),
    "all NaN": lambda t, v: (t, v * np.nan),
    "some NaN": lambda t, v: (t, np.where(np.arange(v.size) % 3 == 0, np.nan, v)),
    "all infinite": lambda t, v: (t, np.full(v.size, np.inf)),
    "one infinite": lambda t, v: (t, np.where(np.arange(v.size) == 200, -np.inf, v)),
    "duplicated times": lambda t, v: (np.repeat(t[::2], 2)[: t.size], v),
    "one time for all": lambda t, v: (np.full(t.size, t[0]), v),
    "backwards": lambda t, v: (t[::-1], v),
    "out of order": lambda t, v: (np.random.default_rng(3).permutation(t), v),
    "negative": lambda t, v: (t, -v),
    "falling counters": lambda t, v: (t, v[::-1]),
    "resets all the time": lambda t, v: (t, np.where(np.arange(v.size) % 2 == 0, v, 0.0)),
    "1e308": lambda t, v: (t, np.where(np.arange(v.size) < BAD, v, 1e308)),
    "1e308 and -1e308": lambda t, v: (t, np.where(np.arange(v.size) % 2 == 0, 1e308, -1e308)),
    "1e308 throughout": lambda t, v: (t, np.full(v.size, 1e308)),
    "5e-324": lambda t, v: (t, np.where(np.arange(v.size) < BAD, 0.0, 5e-324)),
    "from nothing": lambda t, v: (t, np.where(np.arange(v.size) < BAD, 0.0, v)),
    "to nothing": lambda t, v: (t, np.where(np.arange(v.size) < BAD, v, 0.0)),
    "constant": lambda t, v: (t, np.full(v.size, v[0])),
    "zero": lambda t, v: (t, v * 0),
    "a gap where it begins": lambda t, v: (np.delete(t, range(BAD - 20, BAD + 20)), np.delete(v, range(BAD - 20, BAD + 20))),
    "only the trouble": lambda t, v: (t[BAD:], v[BAD:]),
    "nothing of the trouble": lambda t, v: (t[:BAD], v[:BAD]),
    "far in the past": lambda t, v: (t - 1.7e9, v),
    "milliseconds for seconds": lambda t, v: (t * 1000, v),
    "one sample in the far future": lambda t, v: (np.append(t, t[-1] + 3e9), np.append(v, v[-1])),
}  # fmt: skip


@pytest.mark.timeout(60)  # nothing about a sample may make the work unbounded
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_series_give_an_assessment_that_is_whole(damage: str) -> None:
    look(every(DAMAGES[damage]), Symptom.LATENCY)


@pytest.mark.parametrize("sample", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_no_number_never_reaches_the_engine(sample: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Series(name="up", times=(T0,), values=(sample,))


@pytest.mark.parametrize("symptom", ASKED)
def test_any_symptom_may_be_asked_about(symptom: Symptom) -> None:
    look(gathered(SLOW), symptom)


def test_several_symptoms_and_none_may_be_asked_about() -> None:
    look(gathered(SLOW), *ASKED)
    for asked in (incident(), incident(noticed=0), incident(noticed=POINTS)):
        check_whole(assess(asked.model_copy(update={"symptoms": ()}), gathered(SLOW)))


NAMES = (
    "",
    "_total",
    "_sum",
    "_count",
    "___",
    "1",
    "http_server_requests_seconds_sum",
    "é{}\n",
    "a" * 5000,
    "up",
    '"',
    "🙂_seconds",
)
TEXTS = (
    "",
    'a"b',
    "}{",
    "a\nb",
    "\\",
    "é",
    "\x00",
    "x" * 5000,
    "5xx",
    "=~",
    "checkout",
    "payments:8080",
    "http://[::1",
    "[",
)


@pytest.mark.parametrize("name", NAMES)
def test_any_metric_name_and_label_is_read(name: str) -> None:
    times = tuple(T0 + STEP * i for i in range(POINTS))
    values = tuple(float(v) for v in stepped(1, 9))
    told = [
        Series(name=name, labels=((label, text),), times=times, values=values)
        for label in ("uri", "client_name", "status", "pool", "source_workload", "destination_workload", "", "a b")
        for text in TEXTS
    ]
    look(with_series(*told), Symptom.LATENCY, Symptom.ERRORS)
    look(with_series(*told, keep=True), Symptom.ERRORS)


@pytest.mark.timeout(60)
def test_ten_thousand_labels_are_read_in_bounded_time() -> None:
    times = tuple(T0 + STEP * i for i in range(POINTS))
    many = tuple((f"label_{i:05d}", f"value {i}") for i in range(10_000))
    values = tuple(float(v) for v in stepped(1, 9))
    told = [Series(name="http_server_requests_seconds_count", labels=many, times=times, values=values)]
    told += [
        Series(name="orders_queue_size", labels=(("queue", f"q{i}"),), times=times, values=values) for i in range(2_000)
    ]
    check_whole(assess(incident(Symptom.QUEUE_GROWTH), with_series(*told, keep=True)))


def numbers() -> st.SearchStrategy[float]:
    return st.one_of(
        st.floats(allow_nan=True, allow_infinity=True),
        st.floats(0, 1),
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324, math.nan, math.inf]),
    )


@st.composite
def any_series(draw: st.DrawFn) -> Series:
    size = draw(st.integers(0, 60))
    spread = draw(st.sampled_from([STEP, 1.0, 300.0, 0.0]))
    times = [T0 + spread * i for i in range(size)]
    if draw(st.booleans()):
        times = draw(st.permutations(times))
    block = draw(st.lists(numbers(), min_size=1, max_size=8))
    other = draw(st.lists(numbers(), min_size=1, max_size=8))
    cut = draw(st.integers(0, size))
    values = [block[i % len(block)] if i < cut else other[i % len(other)] for i in range(size)]
    name = draw(
        st.sampled_from(
            ["http_server_requests_seconds_count", "http_server_requests_seconds_sum", "http_client_requests_seconds_sum",
             "http_client_requests_seconds_count", "hikaricp_connections_active", "hikaricp_connections_max",
             "orders_queue_size", "container_cpu_usage_seconds_total", "process_start_time_seconds", "up",
             "jvm_memory_used_bytes", "jvm_memory_max_bytes", "process_open_fds", "process_max_fds", "disk_free_bytes",
             "disk_total_bytes", "kube_pod_container_status_restarts_total", "latency_ms", "errors_total", ""]
        )
    )  # fmt: skip
    labels = draw(st.dictionaries(st.sampled_from(["status", "uri", "client_name", "area", "pool", "instance"]),
                                  st.sampled_from(["200", "500", "heap", "payments", "checkout", "", "a\n\"b"]), max_size=3))  # fmt: skip
    return as_read(name, tuple(sorted(labels.items())), times, values)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(any_series(), max_size=10),
    st.booleans(),
    st.sampled_from(ASKED),
    st.one_of(st.none(), st.integers(-50, 300)),
)
def test_any_series_give_an_assessment_that_is_whole(
    series: list[Series], beside: bool, symptom: Symptom, noticed: int | None
) -> None:
    given = with_series(*series, keep=beside)
    also = Neighbour(service="payments", relation=Relation.CALLED, metrics=tuple(series), changes=SLOW.history)
    for one in (given, given.model_copy(update={"neighbours": (also,), "declared_calls": (("checkout", "payments"),)})):
        check_whole(assess(incident(symptom, noticed=noticed), one))


# --- changes -----------------------------------------------------------------------------------------------------------


def key_change(
    key: str, old: str | None, new: str | None, ratio: float | None = None, path: str = "a.yaml"
) -> KeyChange:
    kind = "added" if old is None else "removed" if new is None else "changed"
    return KeyChange(path=path, key=key, kind=kind, old=old, new=new, ratio=ratio)  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", [None, 0.0, -1.0, 5e-324, 1e308, 1.0, 1e-308])
@pytest.mark.parametrize(
    ("old", "new"), [(None, None), (None, ""), ("", None), ("10", "2"), ("a" * 9000, "\x00\n[("), ("{{ .x }}", "${y}")]
)
def test_any_change_of_a_key_is_judged(ratio: float | None, old: str | None, new: str | None) -> None:
    service = slow_service()
    for n, key in enumerate(
        ("", "[", "a" * 3000, "spring.datasource.hikari.maximum-pool-size", "🙂", "replicas", "image")
    ):
        change = key_change(key, old, new, ratio)
        service.record(f"{n:040x}", BAD - n, (FileChange(path="a.yaml", status="modified", keys=(change,)),))
    look(gathered(service), Symptom.LATENCY)


def test_commits_without_parent_without_files_and_at_one_moment_are_judged() -> None:
    service = slow_service()
    service.record("0" * 40, BAD - 1, (), "An empty commit")
    service.record("1" * 40, BAD - 1, (FileChange(path="a.bin", status="modified", note="binary"),))
    service.record("1" * 40, BAD - 1, (FileChange(path="a.yaml", status="deleted"),), "The same commit twice")
    service.record("", BAD - 1, (FileChange(path="", status="mode"),), "")
    service.record("2" * 40, BAD + 9000, (FileChange(path="b.yaml", status="modified", note="late"),), "After the end")
    service.record("3" * 40, -90_000, (FileChange(path="b.yaml", status="added", note="template"),), "A month ago")
    found = look(gathered(service), Symptom.LATENCY)
    assert (
        found.diagnosis.cause is not None and found.diagnosis.cause.key == "spring.datasource.hikari.maximum-pool-size"
    )


def test_five_thousand_keys_of_one_commit_take_less_than_two_seconds() -> None:
    service = slow_service()
    keys = tuple(
        key_change(f"shop.part{i % 70}.option-{i}.{('timeout', 'size', 'name', 'retries')[i % 4]}", str(i), str(i + 7), (i + 7) / max(i, 1))
        for i in range(5_000)
    )  # fmt: skip
    service.record("5" * 40, BAD - 3, (FileChange(path="big.yaml", status="modified", keys=keys),), "Regenerate it all")
    given = gathered(service)
    seconds = []
    for _ in range(3):  # the machine may be shared: the least disturbed run tells what the work takes
        began = time.process_time()
        check_whole(assess(incident(), given))
        seconds.append(time.process_time() - began)
    assert min(seconds) < 2.0, f"{min(seconds):.2f} s of CPU"


# --- logs --------------------------------------------------------------------------------------------------------------


def test_logs_of_any_shape_are_held_against_changes() -> None:
    service = slow_service()
    for text in TEXTS:
        service.says(text or " ", level="WARN")
    service.says("dial tcp [::1: connection refused to host (((")
    odd = LogException(type="", message="\x00(", root_type="[", root_message="*" * 9000, at=(moment(BAD), moment(0)))
    log = service.log.model_copy(update={"exceptions": (odd, odd.model_copy(update={"at": ()}))})
    for one in (
        log,
        log.model_copy(update={"first_at": None}),
        log.model_copy(update={"bucket_seconds": 0.0}),
        log.model_copy(update={"counted_from": moment(9000)}),
        LogAnswer(),
    ):
        look(gathered(service).model_copy(update={"logs": one}), Symptom.ERRORS, Symptom.LATENCY)


# --- services beside ---------------------------------------------------------------------------------------------------


def test_services_that_call_one_another_in_circles_are_looked_at_once() -> None:
    names = ["payments", "stock", "cart", "web"]
    beside = [
        Service(n).answers(latency=stepped(0.05, 0.3)).calls(m) for n, m in itertools.pairwise([*names, names[0]])
    ]
    calls = [*itertools.pairwise(["checkout", *names, "checkout"]), ("payments", "payments"), ("stock", "checkout")]
    found = look(gathered(slow_service(), *beside, calls=calls), Symptom.LATENCY)
    assert [h.cause.service for h in found.hypotheses].count("payments") == 1


def test_a_service_that_calls_itself_is_no_dependency_of_its_own() -> None:
    service = slow_service().calls("checkout", latency=stepped(0.05, 0.5))
    found = look(gathered(service, calls=[("checkout", "checkout")]), Symptom.LATENCY)
    assert not any(h.kind.value == "dependency" and h.cause.service == "checkout" for h in found.hypotheses)


def test_a_neighbour_with_the_name_of_the_one_asked_about_changes_nothing_twice() -> None:
    twin = slow_service()
    found = look(gathered(slow_service(), twin, twin), Symptom.LATENCY)
    keys = [(h.cause.commit, h.cause.path, h.cause.key) for h in found.hypotheses if h.cause.commit]
    assert len(set(keys)) == len(keys)


def test_neighbours_without_anything_and_with_odd_names_are_passed_over() -> None:
    odd = tuple(Neighbour(service=name, relation=relation) for name in (*TEXTS, "service1") for relation in Relation)
    given = gathered(slow_service()).model_copy(
        update={"neighbours": odd, "declared_calls": tuple(("checkout", name) for name in TEXTS)}
    )
    look(given, Symptom.LATENCY)


def test_a_neighbour_on_another_grid_is_looked_at_all_the_same() -> None:
    other = Service("payments").answers(latency=stepped(0.05, 0.4))
    shifted = tuple(
        s.model_copy(update={"times": tuple(t + shift for t in s.times)})
        for s, shift in zip(other.series, (7.0, -9e5, 9e5, 0.5), strict=False)
    )
    beside = neighbour(other).model_copy(update={"metrics": shifted})
    given = gathered(slow_service(), calls=[("checkout", "payments")]).model_copy(update={"neighbours": (beside,)})
    look(given, Symptom.LATENCY)


# --- mechanisms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_mechanisms_at_their_bounds_are_weighed(effect: Effect, strength: float) -> None:
    sides = {side: dict.fromkeys(sorted(WORK), strength) for side in ("smaller", "larger", "other")}
    called = {side: {**one, "load": strength} for side, one in sides.items()}
    knob = Knob.model_validate(
        {"family": "a" * 60, "keys": ["pool size", "x " * 12, "level"], "effect": effect,
         "moves": dict.fromkeys(("heap", "metaspace", "threads", "direct", "rss"), strength), "raises": {"heap": strength},
         "via": ["connections", "=requests", "=heap_used"], "harms": sides, "harms_called": called, "signs": ["connections pending", "a"],
         "log_signs": ["a", "( b", "not available"], "says": "s", "source": ""}
    )  # fmt: skip
    caller = Service("web").calls("checkout", requests=stepped(50, 90))
    caller.change(BAD - 2, {"client.pool.size": ("1", "999999999999999999999")})
    given = gathered(slow_service(), caller, calls=[("web", "checkout")])
    for symptom in (Symptom.LATENCY, Symptom.HEAP_PRESSURE, Symptom.CPU_SATURATION):
        check_whole(assess(incident(symptom), given, (knob,)))
    check_whole(assess(incident(), given, ()))


# --- real histories ----------------------------------------------------------------------------------------------------

FILE = "apps/checkout/application.yaml"
POOL = "spring:\n  datasource:\n    hikari:\n      maximum-pool-size: {}\n"


def history(remote: Remote) -> Gathered:
    """Return the slow service's evidence with the history of a real repository."""
    request = ChangeRequest(
        repository="config", branch="main", paths=("apps/checkout/**",), since=moment(-5000), until=moment(POINTS)
    )
    answer = opened(remote).changes(request)
    return gathered(Service().answers(latency=stepped(0.1, 0.6)).began(-500, BAD).gauge("hikaricp_connections_pending", stepped(0.1, 12))).model_copy(
        update={"changes": answer}
    )  # fmt: skip


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "remote")
    made.commit("Add checkout", {FILE: POOL.format(10) + "a: 1\n"}, at=moment(-4000))
    return made


def merge(remote: Remote, at: datetime, *branches: str) -> str:
    remote.at = at
    remote.git("merge", "-q", "--no-ff", "--no-edit", *branches)
    return remote.publish()


def branch(remote: Remote, name: str, at: datetime, files: dict[str, str | bytes | None]) -> str:
    remote.git("checkout", "-q", "-b", name)
    made = remote.commit(f"Work on {name}", files, at=at)
    remote.git("checkout", "-q", "main")
    return made


def guilty(found: Assessment) -> tuple[str | None, str | None]:
    check_whole(found)
    cause = found.diagnosis.cause
    return (cause.commit, cause.key) if cause is not None else (None, None)


POOL_KEY = "spring.datasource.hikari.maximum-pool-size"


def test_a_change_that_came_through_an_octopus_merge_is_found(remote: Remote) -> None:
    made = branch(remote, "pool", moment(100), {FILE: POOL.format(2) + "a: 1\n"})
    branch(remote, "docs", moment(101), {"apps/checkout/README.md": "words\n"})
    branch(remote, "flag", moment(102), {"apps/checkout/flags.yaml": "banner: {enabled: true}\n"})
    merge(remote, moment(BAD - 1), "pool", "docs", "flag")
    given = history(remote)
    assert given.changes is not None
    assert guilty(look(given, Symptom.LATENCY)) == (made, POOL_KEY)


def test_empty_commits_and_commits_without_parent_are_read(remote: Remote) -> None:
    remote.git("checkout", "-q", "--orphan", "apart")
    remote.git("rm", "-rfq", ".")
    remote.commit("A history of its own", {"apps/checkout/other.yaml": "b: 1\n"}, at=moment(20))
    remote.git("checkout", "-q", "main")
    remote.at = moment(30)
    remote.git("merge", "-q", "--allow-unrelated-histories", "--no-edit", "apart")
    remote.commit("Nothing at all", {}, at=moment(BAD - 3))
    made = remote.commit("Fewer connections", {FILE: POOL.format(2) + "a: 1\n"}, at=moment(BAD - 1))
    assert guilty(look(history(remote), Symptom.LATENCY)) == (made, POOL_KEY)


def test_a_file_renamed_in_the_window_is_no_change_of_its_keys_that_takes_the_blame(remote: Remote) -> None:
    moved = "apps/checkout/config/application.yaml"
    rename = remote.commit("Move it", {FILE: None, moved: POOL.format(10) + "a: 1\n"}, at=moment(100))
    made = remote.commit("Fewer connections", {moved: POOL.format(2) + "a: 1\n"}, at=moment(BAD - 1))
    found = look(history(remote), Symptom.LATENCY)
    assert guilty(found) == (made, POOL_KEY)
    assert all(h.probability < 0.1 for h in found.hypotheses if h.cause.commit == rename)


def test_a_key_moved_between_files_is_read_on_both_sides(remote: Remote) -> None:
    made = remote.commit(
        "Split the file", {FILE: "a: 1\n", "apps/checkout/pool.yaml": POOL.format(2)}, at=moment(BAD - 1)
    )
    found = look(history(remote), Symptom.LATENCY)
    check_whole(found)
    assert any(h.cause.commit == made and (h.cause.key or "").endswith("maximum-pool-size") for h in found.hypotheses)


def test_anchors_are_read_as_what_they_stand_for(remote: Remote) -> None:
    text = "base: &pool\n  maximum-pool-size: {}\nspring:\n  datasource:\n    hikari:\n      <<: *pool\n"
    remote.commit("Anchors", {FILE: text.format(10)}, at=moment(-3000))
    made = remote.commit("Fewer connections", {FILE: text.format(2)}, at=moment(BAD - 1))
    commit, key = guilty(look(history(remote), Symptom.LATENCY))
    assert commit == made and key is not None and key.endswith("maximum-pool-size")


def test_templates_that_do_not_parse_are_a_named_value(remote: Remote) -> None:
    text = "{{{{- if .Values.on }}}}\nspring: {{{{ toYaml .Values.s | nindent 2 }}}}\n  pool: {0}\n{{{{ end }}}}\n"
    bad = "apps/checkout/templates/config.yaml"
    remote.commit("A template", {bad: text.format(10)}, at=moment(-3000))
    made = remote.commit("Change the template", {bad: text.format(2)}, at=moment(BAD - 1))
    remote.commit("Not YAML at all", {bad: "a: [1\nb: }\n\t- x"}, at=moment(BAD - 1))
    found = look(history(remote), Symptom.LATENCY)
    assert any(h.cause.commit == made for h in found.hypotheses), (
        "a file that cannot be read by key is still a candidate"
    )


def test_a_merge_that_is_taken_back_is_read(remote: Remote) -> None:
    branch(remote, "pool", moment(50), {FILE: POOL.format(2) + "a: 1\n"})
    merge(remote, moment(60), "pool")
    remote.at = moment(80)
    remote.git("revert", "--no-edit", "-m", "1", "HEAD")
    found = look(history(remote), Symptom.LATENCY)
    assert {h.cause.new for h in found.hypotheses if h.cause.key == POOL_KEY and h.cause.old} == {"2", "10"}
    gone = next(h for h in found.hypotheses if h.cause.key == POOL_KEY and h.cause.new == "2")
    assert any(t.name == "already reverted" and t.value < 0 for t in gone.terms)


def test_commits_of_a_window_that_ends_before_it_begins_are_none() -> None:
    given = gathered(SLOW).model_copy(update={"start": moment(POINTS), "end": moment(0)})
    look(given, Symptom.LATENCY)
    assert KNOBS and isinstance(given.changes.commits[0], CommitChange)  # type: ignore[union-attr]
    assert datetime.fromtimestamp(T0, UTC) == moment(0)
