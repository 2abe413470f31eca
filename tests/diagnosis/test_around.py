"""The services around the one asked about: who calls whom, how they are, and what their changes count for."""

from __future__ import annotations

import itertools
import math
import re

import pytest

from advisor.diagnosis import Outcome
from advisor.diagnosis.around import Around, describe_trouble, look_around, relation_of
from advisor.diagnosis.candidate import Candidate
from advisor.diagnosis.picture import draw_picture
from advisor.evidence import Gathered, Relation
from advisor.incident import Symptom
from advisor.values import ActionType, CauseKind
from tests.diagnosis.work_stories import (
    BAD,
    Service,
    assess,
    gathered,
    incident,
    judged,
    stepped,
    term,
)

POOL_SIZE = "spring.datasource.hikari.maximum-pool-size"


def slow() -> Service:
    return Service().answers(latency=stepped(0.1, 0.6))


def ill(name: str) -> Service:
    return Service(name).answers(latency=stepped(0.05, 0.55))


def well(name: str) -> Service:
    return Service(name).answers(latency=0.05)


def around(given: Gathered) -> Around:
    return look_around(incident(), given, draw_picture(incident(), given))


def candidate(given: Gathered, service: str, *symptoms: Symptom) -> Candidate:
    found = judged(incident(*symptoms), given)[2]
    return next(c for c in found if c.cause.service == service and c.cause.commit)


# --- who calls whom ----------------------------------------------------------------------------------------------------


def test_calls_are_known_as_declared_as_measured_and_as_configured() -> None:
    service = slow().calls("payments")
    service.change(10, {"stock.base-url": ("http://old:1", "http://stock:8080")})
    found = around(gathered(service, well("payments"), well("stock"), well("ads"), calls=[("checkout", "ads")]))
    assert {("checkout", "payments"), ("checkout", "stock"), ("checkout", "ads")} <= found.calls
    assert found.called == {"payments", "stock", "ads"}


def test_what_is_reached_through_others_is_called_too_and_circles_end() -> None:
    chain = ["checkout", "a", "b", "c", "checkout"]
    found = around(gathered(slow(), *map(well, "abcd"), calls=[*itertools.pairwise(chain), ("d", "checkout")]))
    assert found.called == {"a", "b", "c"}
    assert found.calling == {"a", "b", "c", "d"}
    relations = [relation_of(found, name) for name in ("a", "d", "nobody")]
    assert relations == [Relation.CALLED, Relation.CALLING, Relation.OTHER]


def test_a_service_does_not_call_itself() -> None:
    found = around(gathered(slow().calls("checkout"), well("a"), calls=[("checkout", "checkout"), ("a", "a")]))
    assert all(a != b for a, b in found.calls)
    assert "checkout" not in found.called


# --- how they are ------------------------------------------------------------------------------------------------------


def test_each_neighbour_is_troubled_well_or_unknown_by_its_own_metrics() -> None:
    found = around(gathered(slow(), ill("a"), well("b"), Service("c")))
    assert [found.state(name) for name in ("a", "b", "c", "d")] == ["troubled", "well", "unknown", "unknown"]
    assert "response time went from" in describe_trouble(found.pictures["a"])


def test_direct_peers_come_first_and_further_ones_only_in_trouble() -> None:
    calls = [("checkout", "a"), ("a", "b"), ("a", "c")]
    found = around(gathered(slow(), well("a"), ill("b"), well("c"), calls=calls))
    assert [p.service for p in found.peers()] == ["a", "b"]
    assert "log-host" in [p.service for p in found.peers(frozenset({"log-host"}))]


def test_the_shares_of_the_blame_are_shares_and_go_to_where_the_trouble_is() -> None:
    service = slow().calls("payments", latency=stepped(0.05, 0.55)).calls("stock")
    calls = [("checkout", "payments"), ("checkout", "stock")]
    found = around(gathered(service, ill("payments"), well("stock"), calls=calls))
    shares = {name: share for name, (share, _) in found.shares.items()}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)
    assert max(shares, key=lambda name: shares[name]) == "payments"
    places = {name: found.where(name) for name in shares}
    assert all(place is not None and math.isfinite(place[0]) for place in places.values())
    assert places["payments"][0] > places["stock"][0]  # type: ignore[index]


def test_one_service_alone_has_no_place() -> None:
    found = around(gathered(slow()))
    assert found.shares == {} and found.where("checkout") is None


def test_a_reason_names_services_as_they_are_called() -> None:
    service = slow().calls("payments", latency=stepped(0.05, 0.55))
    payments = ill("payments").calls("bank", latency=stepped(0.03, 0.53))
    bank = Service("bank").answers(latency=stepped(0.03, 0.53))
    found = around(gathered(service, payments, bank, calls=[("checkout", "payments"), ("payments", "bank")]))
    said = " ".join(text for _, text in found.shares.values())
    assert re.search(r"\bservice\d", said) is None
    assert "bank" in said or "payments" in said


# --- changes of neighbours ---------------------------------------------------------------------------------------------


def with_change(service: Service, key: str = POOL_SIZE, old: str = "10", new: str = "1") -> Service:
    service.change(BAD - 2, {key: (old, new)})
    return service


def test_a_change_of_a_called_service_in_trouble_is_the_diagnosis_and_is_taken_back_there() -> None:
    service = slow().calls("payments", latency=stepped(0.05, 0.55))
    payments = with_change(ill("payments"))
    found = assess(incident(), gathered(service, payments, well("stock"), calls=[("checkout", "payments")]))
    assert found.diagnosis.outcome is Outcome.DIAGNOSED
    cause = found.diagnosis.cause
    assert cause is not None and (cause.service, cause.key) == ("payments", POOL_SIZE)
    assert cause.commit == payments.commits[0].commit
    best = found.remedies[0]
    assert best.action.type is ActionType.REVERT_KEYS and best.fixes_cause
    assert best.action.path == "apps/payments/application.properties"
    assert any(e.id.startswith("C") and "payments" in e.summary for e in found.evidence)


def test_the_same_change_counts_less_in_a_service_that_is_well_and_least_in_one_that_is_not_called() -> None:
    service = slow().calls("payments", latency=stepped(0.05, 0.55)).calls("stock")
    beside = [with_change(ill("payments")), with_change(well("stock")), with_change(well("batch"))]
    given = gathered(service, *beside, calls=[("checkout", "payments"), ("checkout", "stock")])
    troubled, calm, apart = (candidate(given, name) for name in ("payments", "stock", "batch"))
    assert troubled.score > 2 > max(calm.score, apart.score)
    assert term(calm, "its own state") < 0 < term(troubled, "its own state")
    assert term(apart, "another service") < term(troubled, "another service") < 0


def test_not_knowing_who_calls_whom_counts_less_against_a_change_than_knowing_that_nobody_calls() -> None:
    unknown = candidate(gathered(slow(), with_change(ill("batch"))), "batch")
    known = candidate(gathered(slow(), with_change(ill("batch")), well("a"), calls=[("checkout", "a")]), "batch")
    assert term(known, "another service") < term(unknown, "another service") < 0


def test_a_caller_that_asks_more_speaks_for_its_change_and_one_that_asks_as_before_against_it() -> None:
    def caller(requests: float) -> Candidate:
        rate = stepped(50, requests)
        web = with_change(well("web").calls("checkout", requests=rate), "retry.max-attempts", "2", "9")
        service = Service().answers(latency=stepped(0.1, 0.6), requests=rate)
        return candidate(gathered(service, web, calls=[("web", "checkout")]), "web")

    more, same = caller(150), caller(50)
    assert term(more, "calls from it") > 0 > term(same, "calls from it")
    assert more.score > same.score
    assert term(more, "mechanism") > 0, "retries of a caller are load for the called"


def test_more_retries_of_a_caller_explain_the_traffic_that_they_make() -> None:
    rate = stepped(50, 150)
    web = with_change(well("web").calls("checkout", requests=rate), "retry.max-attempts", "2", "9")
    service = Service().answers(latency=stepped(0.1, 0.6), requests=rate)
    found = judged(incident(), gathered(service, web, calls=[("web", "checkout")]))[2]
    load = next(c for c in found if c.kind is CauseKind.LOAD)
    retries = next(c for c in found if c.cause.key == "retry.max-attempts")
    assert term(load, "explained by a change") < 0
    assert retries.score > load.score
    assert term(retries, "explained by traffic") == 0


def test_a_commit_that_two_services_share_is_one_candidate() -> None:
    service, payments = with_change(slow()), ill("payments")
    payments.commits = list(service.commits)
    found = judged(incident(), gathered(service, payments, calls=[("checkout", "payments")]))[2]
    assert [c.cause.service for c in found if c.cause.commit] == ["checkout"]


def test_a_neighbours_change_after_the_trouble_is_not_to_blame() -> None:
    payments = ill("payments")
    payments.change(BAD + 30, {POOL_SIZE: ("10", "1")})
    late = candidate(gathered(slow(), payments, calls=[("checkout", "payments")]), "payments")
    assert term(late, "timing") < -3


def test_neighbours_that_were_not_read_take_nothing_away() -> None:
    service = with_change(slow().began(-500, BAD))
    alone = assess(incident(), gathered(service))
    unread = Service("payments", configured=False)
    beside = assess(incident(), gathered(service, unread, calls=[("checkout", "payments")]))
    assert alone.diagnosis.cause == beside.diagnosis.cause
    assert beside.diagnosis.outcome is Outcome.DIAGNOSED
