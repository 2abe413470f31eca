"""Which signal is the trouble of a service's work, and what had been piling up before it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from advisor.diagnosis import Outcome
from advisor.diagnosis.picture import draw_picture
from advisor.diagnosis.work import (
    ASPECTS_OF,
    SYMPTOM_OF,
    Move,
    choose_trouble,
    feels,
    find_precursor,
    resource_asked,
    resource_of,
)
from advisor.evidence.aspects import Aspect, AspectSignal
from advisor.evidence.shifts import Shift
from advisor.evidence.signals import Array
from advisor.incident import MEMORY_SYMPTOMS, Symptom
from tests.diagnosis.work_stories import (
    BAD,
    POINTS,
    STEP,
    T0,
    Service,
    assess,
    climbing,
    gathered,
    incident,
    judged,
    moment,
    stepped,
)

TIMES = T0 + STEP * np.arange(POINTS)


def move(
    aspect: Aspect,
    before: float = 1.0,
    after: float = 5.0,
    scope: str = "inbound",
    score: float = 20.0,
    rank: int = 2,
    at: int = BAD,
    ended: int | None = None,
    worse: int = 1,
    unit: str = "",
    kind: str = "level",
    key: str = "",
    values: np.ndarray | None = None,  # type: ignore[type-arg]
) -> Move:
    """Return a signal that went from one level to another."""
    shown = values if values is not None else np.where(np.arange(POINTS) < at, before, after).astype(float)
    signal = AspectSignal(
        aspect, key or f"{aspect.value}_{scope}_{rank}", (key or aspect.value,), shown, worse, scope, "", unit, (), rank
    )
    when = T0 + STEP * at
    over = T0 + STEP * ended if ended is not None else None
    return Move(signal, Shift(when, when - STEP, when + STEP, kind, before, after, score, False, over), when)


def still(aspect: Aspect, scope: str = "inbound") -> Move:
    """Return a signal that went on as before."""
    return Move(AspectSignal(aspect, aspect.value, (aspect.value,), np.ones(POINTS), 1, scope, "", "", (), 2), None)


def chosen(moves: list[Move], *asked: Symptom, noticed: int | None = BAD + 10, anything: bool = False) -> Move | None:
    at = T0 + STEP * noticed if noticed is not None else None
    return choose_trouble(tuple(moves), asked, at, STEP, anything)


SLOW, FAILING, QUEUE = move(Aspect.LATENCY), move(Aspect.ERRORS, 0.001, 0.2), move(Aspect.QUEUE, 5, 300, scope="own")


@pytest.mark.parametrize(
    ("symptom", "wanted"),
    [(Symptom.LATENCY, SLOW), (Symptom.ERRORS, FAILING), (Symptom.QUEUE_GROWTH, QUEUE)],
)
def test_the_trouble_is_what_was_asked_about(symptom: Symptom, wanted: Move) -> None:
    assert chosen([SLOW, FAILING, QUEUE], symptom) is wanted


def test_of_two_symptoms_the_one_asked_about_first_is_the_trouble() -> None:
    weak = move(Aspect.LATENCY, score=3.0)
    assert chosen([weak, FAILING], Symptom.LATENCY, Symptom.ERRORS) is weak
    assert chosen([weak, FAILING], Symptom.ERRORS, Symptom.LATENCY) is FAILING


def test_the_whole_speaks_before_a_part_however_clear_the_part_is() -> None:
    whole, part = move(Aspect.LATENCY, score=3.0), move(Aspect.LATENCY, score=400.0, rank=-1)
    assert chosen([part, whole], Symptom.LATENCY) is whole
    assert chosen([part], Symptom.LATENCY) is part, "a part speaks where nothing speaks for the whole"
    assert chosen([part]) is None, "a part is no trouble where nobody asked"


def test_what_comes_in_speaks_before_what_goes_out() -> None:
    outbound = move(Aspect.LATENCY, scope="outbound", score=300.0)
    assert chosen([outbound, SLOW], Symptom.LATENCY) is SLOW
    assert chosen([outbound], Symptom.LATENCY) is outbound


def test_something_used_up_stands_in_only_where_nothing_measures_what_was_asked_about() -> None:
    pool = move(Aspect.POOL, 0.2, 0.97, scope="own", unit="share")
    assert chosen([pool], Symptom.LATENCY) is pool
    assert chosen([pool, still(Aspect.LATENCY)], Symptom.LATENCY) is None, "measured, and well"
    assert chosen([pool]) is None
    assert chosen([pool], anything=True) is pool, "of a neighbour anything that is used up is trouble"


def test_where_nothing_was_asked_users_are_asked_what_they_notice() -> None:
    cpu = move(Aspect.CPU, 0.2, 0.99, scope="own", unit="share", score=900.0)
    assert chosen([cpu, SLOW]) is SLOW
    assert chosen([cpu, QUEUE]) is QUEUE
    assert chosen([still(Aspect.LATENCY), cpu]) is None


def test_what_came_later_or_had_ended_long_before_was_not_noticed() -> None:
    later, over = move(Aspect.LATENCY, at=BAD + 60), move(Aspect.LATENCY, at=20, ended=40)
    assert chosen([later], Symptom.LATENCY) is None
    assert chosen([over], Symptom.LATENCY) is None
    assert chosen([over], Symptom.LATENCY, noticed=None) is over, "with no moment given, any will do"


@pytest.mark.parametrize(
    "harmless",
    [
        move(Aspect.LATENCY, 5, 1, score=-20.0),
        move(Aspect.LATENCY, score=0.5),
        move(Aspect.LATENCY, 1.0, 1.05),
        move(Aspect.LATENCY, 0.001, 0.004),
        move(Aspect.LATENCY, kind="spread"),
        move(Aspect.POOL, 0.1, 0.4, unit="share"),
        move(Aspect.RETRIES, worse=0),
        move(Aspect.ERRORS, 0.0001, 0.0008),
    ],
    ids=[
        "the good way",
        "not clear",
        "five per cent",
        "milliseconds",
        "spread",
        "far from its limit",
        "neither",
        "rare",
    ],
)
def test_a_move_that_harms_nobody_is_no_trouble(harmless: Move) -> None:
    assert not harmless.harmful
    assert chosen([harmless], Symptom.LATENCY, Symptom.ERRORS, Symptom.POOL_EXHAUSTED) is None


def test_what_is_left_of_a_limit_is_worse_when_smaller() -> None:
    left = move(Aspect.DISK, 0.6, 0.03, score=-20.0, worse=-1, unit="share", scope="own")
    assert left.harmful and left.far
    assert chosen([left], Symptom.DISK_FULL) is left


def test_every_symptom_of_work_has_aspects_and_a_word() -> None:
    assert set(ASPECTS_OF) == set(Symptom) - MEMORY_SYMPTOMS
    assert set(SYMPTOM_OF.values()) == set(ASPECTS_OF)
    for symptom in ASPECTS_OF:
        assert SYMPTOM_OF[resource_asked((symptom,))] is symptom
    assert resource_asked(()) == resource_asked((Symptom.HEAP_SPACE,)) == ""


def test_throttling_by_a_quota_is_cpu_and_by_a_rate_limit_is_failures() -> None:
    assert resource_of(move(Aspect.THROTTLING, key="container_cpu_cfs_throttled").signal) == "cpu"
    assert resource_of(move(Aspect.THROTTLING, key="requests_throttled").signal) == "errors"
    assert resource_of(move(Aspect.CACHE).signal) == ""


def test_a_service_with_requests_measures_what_users_feel() -> None:
    assert feels((still(Aspect.REQUESTS),)) and feels((SLOW,))
    assert not feels((still(Aspect.CPU),)) and not feels(())


@pytest.mark.parametrize(("before", "after", "factor"), [(2, 6, 3), (0, 5, 99), (0, 0, 1), (1, -1, 0.01), (1, 1e9, 99)])
def test_a_factor_is_bounded_whatever_the_levels(before: float, after: float, factor: float) -> None:
    assert move(Aspect.QUEUE, before, after).factor == pytest.approx(factor)


# --- what piled up -----------------------------------------------------------------------------------------------------


def piled(aspect: Aspect = Aspect.POOL, since: int = 40, to: float = 900.0, **more: object) -> Move:
    values = climbing(100, to, since)
    return move(aspect, 100, to, at=since, kind="slope", scope="own", values=values, **more)  # type: ignore[arg-type]


def precursor(*moves: Move, earliest: int = BAD) -> Move | None:
    return find_precursor(moves, TIMES, T0 + STEP * earliest, STEP)


def test_what_climbed_for_an_hour_before_the_trouble_is_its_precursor() -> None:
    climbed = piled(key="process_open_fds")
    assert precursor(climbed, SLOW) is climbed
    assert precursor(SLOW, FAILING) is None


def test_no_precursor_is_what_began_with_the_trouble_ended_before_it_or_did_not_climb() -> None:
    assert precursor(piled(since=BAD - 3)) is None
    assert precursor(piled(ended=100)) is None
    assert precursor(piled(to=120.0)) is None, "a working day"
    flat = move(Aspect.POOL, 100, 900, at=40, scope="own", values=np.where(np.arange(POINTS) < 40, 100.0, 900.0))
    assert precursor(flat) is None, "it jumped and stayed: nothing piled up"
    assert precursor(piled(Aspect.REQUESTS, key="requests")) is None, "requests are not held"
    assert precursor(piled(Aspect.OTHER, key="house_open_sessions")) is not None, "by a word of the name"


def test_the_whole_and_the_clearest_is_the_precursor() -> None:
    part, weak, clear = piled(rank=-1, score=90.0, key="part"), piled(score=4.0, key="a"), piled(score=30.0, key="b")
    assert precursor(part, weak, clear) is clear
    assert precursor(part, weak) is weak


def test_a_change_is_also_held_against_what_piled_up_before_the_trouble_showed() -> None:
    service = Service().answers(failing=stepped(0.001, 0.3))
    service.gauge("process_open_fds", climbing(100, 1000, 40)).gauge("process_max_fds", stepped(1024), noise=False)
    early = service.change(40, {"house.client.reuse": ("true", "false")}, subject="early")
    late = service.change(BAD - 2, {"house.menu.order": ("a", "b")}, subject="late")
    picture, _, candidates = judged(incident(Symptom.ERRORS), gathered(service))
    assert picture.precursor is not None and picture.precursor.signal.key == "process_open_fds"
    by = {c.cause.commit: {t.name: t.value for t in c.terms} for c in candidates}
    assert by[early]["timing"] > 0 and by[early]["piled up since"] > 0
    assert by[late]["piled up before"] < 0
    assert [c.cause.commit for c in candidates if c.cause.commit] == [early, late]


# --- the picture -------------------------------------------------------------------------------------------------------


def test_the_trouble_begins_where_the_signal_in_trouble_moved() -> None:
    picture = draw_picture(incident(), gathered(Service().answers(latency=stepped(0.1, 0.5))))
    assert picture.resource == "latency" and picture.onset is not None
    assert abs(picture.onset.at - (T0 + STEP * BAD)) <= 3 * STEP
    assert picture.trouble_at is not None and picture.trouble_at >= picture.onset.at


def test_a_service_that_is_well_has_no_trouble_and_is_healthy() -> None:
    given = gathered(Service().answers())
    picture = draw_picture(incident(), given)
    assert (picture.trouble_at, picture.onset, picture.healthy) == (None, None, True)
    assert assess(incident(), given).diagnosis.outcome.value == "healthy"


def test_what_is_not_measured_is_not_called_healthy() -> None:
    given = gathered(Service().gauge("house_metric", stepped(1.0)))
    picture = draw_picture(incident(), given)
    assert not picture.measured
    found = assess(incident(), given)
    assert found.diagnosis.outcome.value == "inconclusive"
    assert "no metric shows response time" in found.diagnosis.summary


@pytest.mark.parametrize(("last", "measured"), [(POINTS, True), (60, False)], ids=["to the end", "silent for long"])
def test_what_had_fallen_silent_long_before_it_was_noticed_shows_nothing_of_it(last: int, measured: bool) -> None:
    service = Service().answers()
    service.series = [s.model_copy(update={"times": s.times[:last], "values": s.values[:last]}) for s in service.series]
    found = assess(incident(noticed=POINTS - 20), gathered(service))
    assert found.diagnosis.outcome is (Outcome.HEALTHY if measured else Outcome.INCONCLUSIVE)


def test_error_lines_of_the_log_stand_in_for_an_unmeasured_share_of_failures() -> None:
    service = Service().gauge("up", stepped(1.0), noise=False).says("payment refused by provider")
    picture = draw_picture(incident(Symptom.ERRORS), gathered(service))
    assert picture.resource == "errors"
    assert picture.work is not None and picture.work.signal.names == ("log lines",)
    assert picture.onset is not None and abs(picture.onset.at - moment(BAD).timestamp()) <= 5 * STEP


def test_what_moved_along_counts_for_less_than_what_was_asked_about() -> None:
    service = Service().answers(latency=stepped(0.1, 0.6), failing=stepped(0.001, 0.2))
    troubles = draw_picture(incident(Symptom.ERRORS), gathered(service)).troubles
    assert troubles["errors"] == 1.0 > troubles["latency"] > 0
    assert all(math.isfinite(v) for v in troubles.values())


def test_the_first_of_two_steps_is_found_and_a_day_that_climbs_into_one_step_has_none() -> None:
    def first(latency: Array) -> Move | None:
        return draw_picture(incident(noticed=BAD + 50), gathered(Service().answers(latency=latency))).first_step

    twice = stepped(0.1, 0.3)
    twice[BAD + 40 :] = 0.9
    found = first(twice)
    assert found is not None and found.shift is not None
    assert abs(found.shift.at - T0 - STEP * BAD) <= 3 * STEP and found.shift.after < 0.5
    climbed = climbing(0.1, 0.5, 20, BAD)
    climbed[BAD:] = 2.0
    assert first(stepped(0.1, 0.9)) is None is first(climbed)


@pytest.mark.parametrize(("reached", "found"), [(9e8, True), (3.5e8, False)], ids=["far", "a little"])
def test_a_process_without_a_limit_that_climbed_all_its_life_and_was_emptied_by_its_end_is_in_trouble(
    reached: float, found: bool
) -> None:
    memory = climbing(3e8, reached, 40, BAD)
    memory[BAD:] = 3e8
    service = Service().answers().gauge("process_resident_memory_bytes", memory).began(-500, 40, BAD)
    service.change(39, {"image.tag": ("1.4.0", "1.5.0")})
    picture = draw_picture(incident(Symptom.CONTAINER_KILL, noticed=POINTS - 5), gathered(service))
    assert (picture.trouble_at is not None and picture.onset is not None) is found
    if picture.onset is not None:
        assert abs(picture.onset.at - T0 - STEP * 40) <= 8 * STEP
