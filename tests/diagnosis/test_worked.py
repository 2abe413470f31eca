"""What the mechanisms, the metrics and the log say of one changed key when the work of a service is in trouble."""

from __future__ import annotations

import pytest

from advisor.diagnosis import Outcome
from advisor.diagnosis.candidate import Candidate
from advisor.incident import Symptom
from tests.diagnosis.work_stories import (
    BAD,
    Service,
    assess,
    gathered,
    incident,
    judged,
    of_key,
    stepped,
    term,
    why,
)

POOL_SIZE = "spring.datasource.hikari.maximum-pool-size"


def slow(restarts: bool = False) -> Service:
    service = Service().answers(latency=stepped(0.1, 0.6))
    return service.began(-500, BAD) if restarts else service


def candidates(service: Service, *symptoms: Symptom) -> list[Candidate]:
    return judged(incident(*symptoms), gathered(service))[2]


def changed(key: str, old: str | None, new: str | None, at: int = BAD - 1, service: Service | None = None) -> Candidate:
    service = service or slow()
    service.change(at, {key: (old, new)})
    return of_key(candidates(service), key)


# --- mechanism ---------------------------------------------------------------------------------------------------------


def test_a_mechanism_counts_for_a_change_in_its_direction_and_against_one_in_the_other() -> None:
    assert term(changed(POOL_SIZE, "10", "2"), "mechanism") > 1
    other = changed("circuitbreaker.limits.cpu", "500m", "2000m")
    assert term(other, "mechanism") < 0 and "moved the other way" in why(other, "mechanism")
    assert term(changed("circuitbreaker.limits.cpu", "2000m", "500m"), "mechanism") > 1


def test_a_word_from_less_to_more_has_a_direction_too() -> None:
    louder, quieter = changed("logging.level.root", "INFO", "DEBUG"), changed("logging.level.root", "DEBUG", "WARN")
    assert term(louder, "mechanism") > 0 > term(quieter, "mechanism")


def test_a_key_that_describes_acts_on_nothing_and_one_that_nobody_listed_is_merely_not_known() -> None:
    label, unlisted = changed("metadata.labels.team", "a", "b"), changed("house.vroom", "1", "3")
    assert term(label, "mechanism") < term(unlisted, "mechanism") < 0
    assert "no mechanism is known" in why(unlisted, "mechanism")


def test_a_release_may_do_anything() -> None:
    release = changed("image.tag", "1.0", "1.1")
    assert release.kind.value == "deploy" and term(release, "mechanism") > 1


@pytest.mark.parametrize(
    ("symptom", "guilty", "innocent"),
    [
        (Symptom.ERRORS, ("payments.client.read-timeout", "5s", "100ms"), ("logging.level.root", "DEBUG", "INFO")),
        (Symptom.LATENCY, ("server.tomcat.threads.max", "200", "5"), ("metadata.annotations.owner", "a", "b")),
    ],
)
def test_the_mechanism_of_the_symptom_decides_between_two_changes_of_one_moment(
    symptom: Symptom, guilty: tuple[str, str, str], innocent: tuple[str, str, str]
) -> None:
    service = Service().answers(latency=stepped(0.1, 0.6), failing=stepped(0.001, 0.2))
    for key, old, new in (guilty, innocent):
        service.change(BAD - 1, {key: (old, new)}, subject=key)
    found = candidates(service, symptom)
    assert of_key(found, guilty[0]).score > of_key(found, innocent[0]).score + 1


# --- took effect, metric in the middle ---------------------------------------------------------------------------------


def with_pool(limit: bool = True, pending: float = 20.0, at: int = BAD) -> Service:
    service = slow(restarts=True)
    service.gauge("hikaricp_connections_pending", stepped(0.2, pending, at=at), pool="main")
    return service.gauge("hikaricp_connections_max", stepped(10, 2 if limit else 10), noise=False, pool="main")


def test_an_exported_limit_that_follows_the_change_shows_that_it_took_effect() -> None:
    assert term(changed(POOL_SIZE, "10", "2", service=with_pool()), "took effect") > 0
    assert term(changed(POOL_SIZE, "10", "2", service=with_pool(limit=False)), "took effect") == 0
    assert term(changed(POOL_SIZE, "10", "8", service=with_pool()), "took effect") == 0, "by another factor"


def test_a_limit_that_swings_is_no_setting() -> None:
    service = slow(restarts=True).gauge("hikaricp_connections_max", stepped(10, 2), pool="main")
    assert term(changed(POOL_SIZE, "10", "2", service=service), "took effect") == 0


def test_the_metric_in_the_middle_speaks_for_a_change_when_it_moved_and_against_it_when_not() -> None:
    moved = changed(POOL_SIZE, "10", "2", service=with_pool())
    assert term(moved, "metric in the middle") > 1
    assert moved.middle is not None and moved.middle.names[0].startswith("hikaricp_connections")
    flat = changed(POOL_SIZE, "10", "2", service=with_pool(limit=False, pending=0.2))
    assert term(flat, "metric in the middle") < 0 and "did not move" in why(flat, "metric in the middle")


def test_a_metric_that_had_moved_before_the_change_is_not_its_middle() -> None:
    early = changed(POOL_SIZE, "10", "2", service=with_pool(limit=False, at=40))
    assert term(early, "metric in the middle") <= 0


def test_a_key_that_nobody_listed_is_tied_to_the_metric_that_shares_its_name() -> None:
    service = slow().gauge("basket_recalculations", stepped(3, 60))
    found = changed("house.basket.recalculations-per-page", "1", "20", service=service)
    assert term(found, "metric in the middle") > 0
    assert found.middle is not None and found.middle.names[0] == "basket_recalculations"


# --- log ---------------------------------------------------------------------------------------------------------------


def failing(*lines: str, since: int = BAD) -> Service:
    service = Service().answers(failing=stepped(0.001, 0.3))
    for line in lines:
        service.says(line, since=since)
    return service


def log_of(service: Service, key: str, old: str, new: str) -> Candidate:
    service.change(BAD - 1, {key: (old, new)})
    return of_key(candidates(service, Symptom.ERRORS), key)


def test_a_log_that_names_the_new_value_speaks_for_the_change() -> None:
    said = log_of(
        failing("cannot reach ledger-v2.shop.svc"), "house.ledger.address", "ledger.shop.svc", "ledger-v2.shop.svc"
    )
    silent = log_of(failing("basket is empty"), "house.ledger.address", "ledger.shop.svc", "ledger-v2.shop.svc")
    assert term(said, "log") > term(silent, "log") == 0
    assert "names the new value" in why(said, "log")


def test_a_number_is_named_only_where_it_stands_by_itself() -> None:
    assert "names the new value" in why(log_of(failing("limit 1234 reached"), "house.x", "9999", "1234"), "log")
    assert "names the new value" not in why(log_of(failing("order 912345 lost"), "house.x", "9999", "1234"), "log")


@pytest.mark.parametrize("new", ["true", "none", "on", "7"])
def test_a_value_that_stands_in_any_line_is_no_trace(new: str) -> None:
    assert "names the new value" not in why(log_of(failing(f"flag {new} seen"), "house.x", "other", new), "log")


def test_a_log_that_shows_the_mechanism_at_work_speaks_for_the_change() -> None:
    found = log_of(
        failing("java.net.SocketTimeoutException: Read timed out"), "payments.client.read-timeout", "5s", "50ms"
    )
    assert term(found, "log") > 0.5 and "mechanism at work" in why(found, "log")


def test_what_the_log_has_said_all_along_speaks_for_nothing() -> None:
    found = log_of(failing("Read timed out", since=0), "payments.client.read-timeout", "5s", "50ms")
    assert term(found, "log") == 0


def test_the_log_says_nothing_for_a_change_that_eases_the_trouble() -> None:
    service = slow().says("cpu throttling detected")
    assert term(changed("resources.limits.cpu", "1", "4", service=service), "log") == 0


# --- timing ------------------------------------------------------------------------------------------------------------


def test_the_nearer_before_the_onset_the_better_and_after_it_nothing_helps() -> None:
    service = slow()
    for at in (BAD - 1, BAD - 20, BAD - 90, BAD + 12):
        service.change(at, {f"house.part{at}": ("1", "2")})
    found = candidates(service)
    timing = [term(of_key(found, f"part{at}"), "timing") for at in (BAD - 1, BAD - 20, BAD - 90, BAD + 12)]
    assert timing == sorted(timing, reverse=True)
    assert timing[0] > 1 and timing[-1] < -3
    assert term(of_key(found, f"part{BAD - 90}"), "ran well with it") < 0


def test_a_change_counts_from_the_process_start_that_read_it() -> None:
    read, unread = slow(restarts=True), Service().answers(latency=stepped(0.1, 0.6)).began(-500, 30)
    late = changed("image.tag", "1", "2", at=BAD - 40, service=read)
    assert term(late, "timing") > 1 > 0 > term(late, "rollout delay")
    assert term(changed("image.tag", "1", "2", at=BAD - 40, service=unread), "rolled out") < -1


def test_a_value_that_was_taken_back_before_the_trouble_did_not_cause_it() -> None:
    service = slow()
    service.change(60, {POOL_SIZE: ("10", "2")}, subject="down")
    service.change(80, {POOL_SIZE: ("2", "10")}, subject="up")
    down = next(c for c in candidates(service) if c.cause.new == "2")
    assert term(down, "already reverted") < -1 and down.reverted_by is not None


def test_small_steps_count_against_and_large_ones_for_a_change() -> None:
    sizes = [term(changed(POOL_SIZE, "100", new), "size") for new in ("95", "60", "25", "2")]
    assert sizes[0] < sizes[1] < 0 < sizes[2] < sizes[3]


# --- two changes of one rollout ----------------------------------------------------------------------------------------


def test_two_changes_of_one_rollout_that_nothing_tells_apart_leave_it_open() -> None:
    service = slow(restarts=True)
    service.change(BAD - 3, {"image.tag": ("1.0", "1.1")}, subject="release")
    service.change(BAD - 2, {"house.thing": ("1", "9")}, subject="thing")
    found = assess(incident(), gathered(service))
    assert found.diagnosis.outcome is Outcome.INCONCLUSIVE and found.diagnosis.cause is None
    assert "nothing that was measured tells them apart" in found.diagnosis.summary
    assert found.remedies == ()


def test_two_changes_of_one_rollout_are_told_apart_by_the_metric_in_the_middle() -> None:
    service = with_pool()
    service.change(BAD - 3, {"image.tag": ("1.0", "1.1")}, subject="release")
    guilty = service.change(BAD - 2, {POOL_SIZE: ("10", "2")}, subject="pool")
    found = assess(incident(), gathered(service))
    assert found.diagnosis.outcome is Outcome.DIAGNOSED
    assert found.diagnosis.cause is not None and found.diagnosis.cause.commit == guilty


def test_what_is_seen_at_work_explains_away_what_is_merely_near() -> None:
    service = with_pool()
    service.change(BAD - 3, {"house.thing": ("1", "9")}, subject="thing")
    alone = of_key(candidates(service), "house.thing")
    service.change(BAD - 2, {POOL_SIZE: ("10", "2")}, subject="pool")
    beside = of_key(candidates(service), "house.thing")
    assert term(alone, "explained by another") == 0 > term(beside, "explained by another")


def test_traffic_explains_away_a_change_that_is_merely_near() -> None:
    service = Service().answers(latency=stepped(0.1, 0.6), requests=stepped(50, 200))
    found = changed("house.thing", "1", "9", service=service)
    assert term(found, "explained by traffic") < 0


# --- size --------------------------------------------------------------------------------------------------------------


def test_a_step_of_an_exponent_counts_as_the_work_that_it_makes() -> None:
    assert term(changed("security.password.cost", "10", "13"), "size") == term(changed("house.vroom", "1", "8"), "size")
    assert term(changed("security.pbkdf2.iterations", "100000", "130000"), "size") < 0


# --- signals of all the work -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "counts"), [(400.0, True), (50.0, False)], ids=["beyond all requests", "as before"])
def test_calls_that_grew_beyond_all_requests_are_in_the_middle_and_the_requests_themselves_are_not(
    after: float, counts: bool
) -> None:
    service = slow().counter("stamp_calls_total", stepped(50, after))
    found = changed("printing.stampsPerCall", "20", "1", service=service)
    assert (term(found, "metric in the middle") > 0.5) is counts
    assert term(changed("cart.slots", "20", "1", service=slow()), "metric in the middle") == 0


def test_a_route_is_in_the_middle_of_a_key_that_names_it_and_all_requests_are_in_that_of_none() -> None:
    def with_route() -> Service:
        service = slow().counter("http_server_requests_seconds_count", stepped(5), status="200", uri="/exports")
        return service.counter("http_server_requests_seconds_sum", stepped(0.5, 90), status="200", uri="/exports")

    route = changed("exports.snapshot", "false", "true", service=with_route())
    assert term(route, "metric in the middle") > 0.5 and "uri=/exports" in why(route, "metric in the middle")
    whole = (
        Service().counter("basket_requests_total", stepped(50, 150)).gauge("basket_latency_seconds", stepped(0.1, 0.6))
    )
    assert term(changed("basket.colour", "a", "b", service=whole), "metric in the middle") == 0


# --- when it went wrong, and how it ran until then ---------------------------------------------------------------------


def in_two_steps(gap: int, first: float = 0.3) -> Service:
    latency = stepped(0.1, first)
    latency[BAD + gap :] = 0.9
    service = Service().answers(latency=latency).began(-500, BAD, BAD + gap)
    service.change(BAD - 2, {POOL_SIZE: ("20", "5")}, subject="pool")
    service.change(BAD + gap - 3, {"house.menu.order": ("a", "b")}, subject="menu")
    return service


def test_a_change_is_also_held_against_the_first_of_two_steps() -> None:
    found = judged(incident(noticed=BAD + 50), gathered(in_two_steps(40)))[2]
    pool = of_key(found, POOL_SIZE)
    assert found[0] is pool and "went wrong at first" in why(pool, "timing") and term(pool, "ran well with it") == 0
    assert term(of_key(found, "house.menu.order"), "timing") > 2, "and the other one against the second"


def test_a_first_step_explains_its_part_of_the_way() -> None:
    def part(first: float) -> float:
        return term(
            of_key(judged(incident(noticed=BAD + 50), gathered(in_two_steps(40, first)))[2], POOL_SIZE), "first step"
        )

    assert part(0.2) < part(0.3) < 0


def test_requests_that_a_change_was_never_tried_with_are_no_proof_that_it_ran_well() -> None:
    def ran_well(until_then: float) -> float:
        requests = stepped(until_then, 150)
        requests[10:60] = 150
        service = Service().answers(latency=stepped(0.1, 0.6), requests=requests).began(-500, 90)
        return term(changed(POOL_SIZE, "20", "5", at=89, service=service), "ran well with it")

    assert ran_well(150) == -2 < ran_well(50) < 0
