"""Traffic, limits that are too small, called services and what is shared, held against trouble with a service's work."""

from __future__ import annotations

import pytest

from advisor.diagnosis import Outcome
from advisor.diagnosis.candidate import Candidate
from advisor.diagnosis.surroundings import judge_shared, judge_work_load
from advisor.evidence import Gathered
from advisor.evidence.signals import Array
from advisor.incident import Symptom
from advisor.values import CauseKind
from tests.diagnosis.work_stories import (
    BAD,
    POINTS,
    Service,
    assess,
    climbing,
    gathered,
    incident,
    judged,
    neighbour,
    stepped,
    term,
    why,
)


def of_kind(kind: CauseKind, given: Gathered, *symptoms: Symptom, service: str = "") -> Candidate:
    found = judged(incident(*symptoms), given)[2]
    return next(c for c in found if c.kind is kind and (not service or c.cause.service == service))


def slow(requests: Array | float = 50.0) -> Service:
    return Service().answers(latency=stepped(0.1, 0.6), requests=requests)


# --- traffic -----------------------------------------------------------------------------------------------------------


def load(service: Service, *symptoms: Symptom) -> Candidate:
    return of_kind(CauseKind.LOAD, gathered(service), *symptoms)


def test_traffic_speaks_for_load_the_more_it_grew_and_against_it_where_it_did_not() -> None:
    grown = [term(load(slow(stepped(50, 50 * factor))), "traffic") for factor in (1, 1.3, 1.6, 3)]
    assert grown == sorted(grown)
    assert grown[0] < grown[1] < 0 < grown[2] < grown[3]


def test_traffic_that_grew_after_the_trouble_is_its_effect() -> None:
    def noticed_late(grew: int) -> Candidate:
        found = judged(incident(noticed=BAD + 70), gathered(slow(stepped(50, 150, at=grew))))[2]
        return next(c for c in found if c.kind is CauseKind.LOAD)

    before, after = noticed_late(BAD), noticed_late(BAD + 15)
    assert term(before, "traffic") > 0 > term(after, "traffic")
    assert "after the trouble had begun" in why(after, "traffic")


def test_more_requests_do_not_explain_fewer_answers() -> None:
    service = Service().answers(requests=stepped(50, 10))
    assert term(load(service, Symptom.THROUGHPUT_DROP), "traffic") < 0


def test_traffic_that_was_served_before_without_harm_is_not_what_harms_now() -> None:
    def grown(earlier: float, latency_then: float = 0.1) -> Candidate:
        requests, latency = stepped(50, 150), stepped(0.1, 0.6)
        requests[10:70], latency[10:70] = earlier, latency_then
        return load(Service().answers(latency=latency, requests=requests))

    assert term(grown(150), "traffic") < -2 and "as many requests came" in why(grown(150), "traffic")
    assert term(grown(90), "traffic") > 0, "not as many"
    assert term(grown(150, latency_then=0.6), "traffic") > -2, "it was slow then too"


def test_traffic_that_was_as_high_for_a_moment_only_was_not_served() -> None:
    requests = stepped(50, 150)
    requests[20:24] = 150
    assert term(load(Service().answers(latency=stepped(0.1, 0.6), requests=requests)), "traffic") > 0


def test_traffic_counts_for_less_where_failures_are_asked_for_again() -> None:
    def failing(**more: Array) -> Service:
        return Service().answers(latency=stepped(0.1, 0.6), failing=stepped(0.001, 0.2), **more)  # type: ignore[arg-type]

    grown = stepped(50, 150)
    assert term(load(failing(requests=grown), Symptom.ERRORS), "traffic") < term(
        load(failing(requests=grown), Symptom.LATENCY), "traffic"
    )


def test_without_a_request_rate_growth_of_traffic_is_not_shown() -> None:
    service = Service().gauge("request_latency_seconds", stepped(0.1, 0.6))
    found = load(service)
    assert term(found, "traffic") < 0 and "no request rate is measured" in why(found, "traffic")


def test_load_is_the_diagnosis_where_traffic_grew_and_nothing_changed() -> None:
    found = assess(incident(), gathered(slow(stepped(50, 200))))
    assert (found.diagnosis.outcome, found.diagnosis.kind) == (Outcome.DIAGNOSED, CauseKind.LOAD)


# --- capacity ----------------------------------------------------------------------------------------------------------


def pool(before: float, after: float, limit: float = 10, latency: Array | None = None) -> Service:
    service = Service().answers(latency=climbing(0.1, 0.6, 100) if latency is None else latency)
    service.gauge("hikaricp_connections_active", climbing(before, after, 100), pool="main")
    return service.gauge("hikaricp_connections_max", stepped(limit), noise=False, pool="main")


def capacity(service: Service) -> Candidate:
    return of_kind(CauseKind.CAPACITY, gathered(service))


def test_a_limit_that_was_nearly_reached_before_speaks_for_capacity_and_a_far_one_against() -> None:
    near, far = capacity(pool(9, 10)), capacity(pool(1, 2))
    assert term(near, "level") > 0 > term(far, "level")
    assert "hikaricp_connections" in why(near, "level")


def test_a_jump_speaks_less_for_capacity_than_a_slow_climb() -> None:
    jumped = capacity(pool(9, 10, latency=stepped(0.1, 0.6)))
    assert 0 < term(jumped, "level") < term(capacity(pool(9, 10)), "level")


def test_without_a_limit_that_is_measured_capacity_is_not_shown() -> None:
    found = capacity(slow())
    assert term(found, "level") < 0 and "not measured" in why(found, "level")


# --- called services ---------------------------------------------------------------------------------------------------


def calling(to: Array | float = 0.05) -> Service:
    return slow().calls("payments", latency=to).calls("stock")


def test_calls_that_became_slow_with_the_trouble_speak_for_the_called_service() -> None:
    given = gathered(calling(stepped(0.05, 0.55)))
    bad, well = (of_kind(CauseKind.DEPENDENCY, given, service=name) for name in ("payments", "stock"))
    assert term(bad, "calls to it") > 1 > -1 > term(well, "calls to it")
    found = assess(incident(), given)
    assert found.diagnosis.kind is CauseKind.DEPENDENCY and found.diagnosis.cause is not None
    assert found.diagnosis.cause.service == "payments"


def test_calls_that_became_slow_later_than_the_trouble_do_not_explain_it() -> None:
    late = of_kind(CauseKind.DEPENDENCY, gathered(calling(stepped(0.05, 0.55, at=BAD + 40))), service="payments")
    assert term(late, "calls to it") <= 0


def test_calls_that_became_slower_by_far_too_little_hardly_count() -> None:
    little = of_kind(CauseKind.DEPENDENCY, gathered(calling(stepped(0.01, 0.05))), service="payments")
    enough = of_kind(CauseKind.DEPENDENCY, gathered(calling(stepped(0.05, 0.55))), service="payments")
    assert term(little, "calls to it") < 0.5 < term(enough, "calls to it")


def beside(payments: Service) -> Candidate:
    """Return the case for a called service that is measured itself."""
    given = gathered(calling(), payments, calls=[("checkout", "payments")])
    return of_kind(CauseKind.DEPENDENCY, given, service="payments")


def test_a_peers_own_state_speaks_for_or_against_it() -> None:
    ill, well, unknown = (
        Service("payments").answers(latency=stepped(0.05, 0.55)),
        Service("payments").answers(latency=0.05),
        Service("payments"),
    )
    values = [term(beside(one), "its own state") for one in (ill, unknown, well)]
    assert values[0] > values[1] == 0 > values[2]


def ended(service: Service, last: int) -> Service:
    service.series = [s.model_copy(update={"times": s.times[:last], "values": s.values[:last]}) for s in service.series]
    return service


def test_a_peer_whose_metrics_ended_as_the_trouble_began_is_not_well() -> None:
    def state(last: int) -> float:
        return term(beside(ended(Service("payments").answers(latency=0.05), last)), "its own state")

    assert state(BAD + 1) > 1 > 0 == state(BAD - 60), "of what had ended before nothing is known"
    assert state(POINTS) < 0


def test_where_all_monitoring_ends_at_once_no_peer_is_silent() -> None:
    service = ended(calling(), BAD + 12)
    given = gathered(
        service, ended(Service("payments").answers(latency=0.05), BAD + 12), calls=[("checkout", "payments")]
    )
    assert term(of_kind(CauseKind.DEPENDENCY, given, service="payments"), "its own state") < 0


def test_a_peer_that_fell_ill_later_than_the_caller_did_not_make_it_ill() -> None:
    lead, late = (Service("payments").answers(latency=stepped(0.05, 0.55, at=at)) for at in (BAD - 2, BAD + 8))
    assert term(beside(lead), "its own state") > 0 >= term(beside(late), "its own state")


def test_a_log_that_names_a_peer_beside_a_failed_call_speaks_for_it_the_more_where_it_says_why() -> None:
    def said(text: str) -> float:
        service = calling().says(text)
        return term(of_kind(CauseKind.DEPENDENCY, gathered(service), service="payments"), "log")

    assert said("call to payments timed out") > 0
    assert said("payments: x509: certificate has expired") > said("call to payments timed out")
    assert said("call to payments-archive9 failed nowhere") == said("payments is a nice word") == 0


def test_a_host_that_only_the_log_names_becomes_a_candidate() -> None:
    service = Service().answers(failing=stepped(0.001, 0.4))
    service.says("lookup sms-gateway: no such host")
    found = of_kind(CauseKind.DEPENDENCY, gathered(service), Symptom.ERRORS)
    assert found.cause.service == "sms-gateway" and term(found, "log") > 1


def test_where_calls_are_not_measured_the_part_of_the_error_lines_that_name_a_peer_stands_in() -> None:
    def called(*others: str) -> Candidate:
        service = Service().answers(failing=stepped(0.001, 0.4)).says("connect to payments.example.org refused")
        for text in others:
            service.says(text)
        return of_kind(CauseKind.DEPENDENCY, gathered(service), Symptom.ERRORS, service="payments.example.org")

    alone, among = called(), called("basket 7 is empty", "no such voucher", "rounding failed")
    assert term(alone, "calls to it") > 0.5 > 0 > term(among, "calls to it")
    assert "100% of the new error lines name it" in why(alone, "calls to it")


def test_what_an_unmeasured_peer_breaks_shows_in_the_service_that_names_it() -> None:
    service = Service().answers(failing=stepped(0.001, 0.4)).says("connect to sms.example.org refused")
    stock = Service("stock").answers(latency=0.05)
    found = judged(incident(Symptom.ERRORS), gathered(service, stock, calls=[("checkout", "stock")]))[2]
    unknown = next(c for c in found if c.kind is CauseKind.UNKNOWN)
    sms, own = (next(c for c in found if c.cause.service == name) for name in ("sms.example.org", "stock"))
    assert term(sms, "where it shows") == term(unknown, "where it shows") > 0 > term(own, "where it shows")


def test_a_key_of_calls_is_not_excused_by_what_the_log_says_of_the_called_service() -> None:
    service = Service().answers(failing=stepped(0.001, 0.4)).calls("payments")
    service.says("connect to payments refused")
    service.change(BAD - 1, {"payments.client.read-timeout": ("5s", "50ms")}, subject="timeout")
    service.change(BAD - 2, {"house.menu.order": ("a", "b")}, subject="menu")
    found = judged(incident(Symptom.ERRORS), gathered(service))[2]
    timeout = next(c for c in found if c.cause.key == "payments.client.read-timeout")
    menu = next(c for c in found if c.cause.key == "house.menu.order")
    assert term(timeout, "explained by the log") == 0 > term(menu, "explained by the log")


def test_a_service_in_trouble_explains_away_changes_that_are_merely_near() -> None:
    service = calling(stepped(0.05, 0.55))
    service.change(BAD - 1, {"house.menu.order": ("a", "b")})
    payments = Service("payments").answers(latency=stepped(0.05, 0.55))
    given = gathered(service, payments, calls=[("checkout", "payments")])
    found = judged(incident(), given)[2]
    menu = next(c for c in found if c.cause.key == "house.menu.order")
    assert term(menu, "explained by the dependency") < 0
    assert found[0].cause.service == "payments"


def test_a_change_of_the_called_service_takes_the_blame_from_the_service() -> None:
    payments = Service("payments").answers(latency=stepped(0.05, 0.55))
    payments.change(BAD - 2, {"spring.datasource.hikari.maximum-pool-size": ("10", "1")})
    given = gathered(calling(stepped(0.05, 0.55)), payments, calls=[("checkout", "payments")])
    found = judged(incident(), given)[2]
    dependency = next(c for c in found if c.kind is CauseKind.DEPENDENCY and c.cause.service == "payments")
    assert term(dependency, "explained by a change there") < 0
    assert found[0].cause.key is not None and found[0].cause.service == "payments"


# --- what several services share ---------------------------------------------------------------------------------------


def test_the_more_services_fall_ill_alone_the_likelier_is_what_they_share() -> None:
    values = [term(c, "together") for alone in (1, 2, 3) if (c := judge_shared("checkout", alone, 6)) is not None]
    assert values == sorted(values) and values[0] < 0 < values[-1]


def test_two_services_are_too_few_to_speak_of_what_is_shared() -> None:
    assert judge_shared("checkout", 2, 2) is None


def test_services_that_call_one_another_do_not_fall_ill_alone() -> None:
    beside = [Service(n).answers(latency=stepped(0.05, 0.5)) for n in ("a", "b", "c")]
    apart = of_kind(CauseKind.INFRASTRUCTURE, gathered(slow(), *beside))
    chain = [("checkout", "a"), ("a", "b"), ("b", "c")]
    chained = of_kind(CauseKind.INFRASTRUCTURE, gathered(slow(), *beside, calls=chain))
    assert term(apart, "together") > 0 > term(chained, "together")


def test_the_same_judgement_is_made_of_the_same_picture() -> None:
    picture, _, _ = judged(incident(), gathered(slow(stepped(50, 150))))
    assert judge_work_load("checkout", picture) == judge_work_load("checkout", picture)
    assert neighbour(slow()).service == "checkout"


@pytest.mark.parametrize(
    ("asked_for", "leads"), [(4.0, True), (2.0, False)], ids=["nobody asked", "fewer were asked for"]
)
def test_replicas_that_went_away_are_a_cause_unless_fewer_were_asked_for(asked_for: float, leads: bool) -> None:
    shop = slow()
    shop.gauge("kube_deployment_status_replicas_available", stepped(4.0, 2.0), noise=False, deployment="checkout")
    shop.gauge("kube_deployment_spec_replicas", stepped(4.0, asked_for), noise=False, deployment="checkout")
    candidates = judged(incident(Symptom.LATENCY), gathered(shop))[2]
    lost = [c for c in candidates if c.kind is CauseKind.INFRASTRUCTURE and any(t.name == "replicas" for t in c.terms)]
    assert lost
    assert (lost[0].score > 0) is leads
