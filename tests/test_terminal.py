"""What is printed: harmless whatever it contains, within the width, and drawn where it was measured."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from advisor.proposal import render_diff
from advisor.terminal import make_console, safe
from advisor.terminal.approval import draw_proposal
from advisor.terminal.changes import draw_verification
from advisor.terminal.chart import Curve, Mark, draw_chart
from advisor.terminal.diff import CONTINUED, Diff
from advisor.terminal.report import draw_report
from advisor.terminal.svg import write_svg
from advisor.terminal.words import key_end, measured, percent, when
from advisor.verification import judge
from tests.support import gate

T0 = 1_795_000_000.0
MIB = 1024.0 * 1024
HOSTILE = "\x1b[31mred\x1b]0;title\x07 \u202eesrever\u2066 [bold]x[/bold] [link=http://x]y[/link] :smile: \x00\x9b2J\u200b\ufeff\ud800 é ×48"


def printed(what: RenderableType, width: int = 100, colour: bool = False) -> str:
    out = io.StringIO()
    console = make_console(out, width=width)
    if colour:
        console = Console(
            file=out, width=width, force_terminal=True, color_system="truecolor", markup=False, highlight=False
        )
    console.print(what)
    return out.getvalue()


def hypothesis_of(rank: int, probability: float, summary: str = "", **more: Any) -> dict[str, Any]:
    return {
        "rank": rank,
        "kind": "config_change",
        "probability": probability,
        "summary": summary or f"key.{rank} 30m → 24h (×48)",
        "cause": {"service": "checkout", "at": "2026-11-22T08:00:00Z"},
        "for": ["C1", "M1"],
        "against": ["M2"] if rank > 1 else [],
        "next_check": "ask for more",
        "terms": [
            {"name": "timing", "value": 2.5, "why": "at the time"},
            {"name": "prior", "value": -1.0, "why": "one of many"},
        ],
        **more,
    }


def report_of(**more: Any) -> dict[str, Any]:
    return {
        "incident": {
            "id": "inc-1",
            "service": "checkout",
            "started_at": "2026-11-22T08:00:05Z",
            "until": "2026-11-22T09:00:00Z",
            "symptoms": ["java_heap_oom"],
        },
        "coverage": [
            {"source": "metrics", "status": "ok", "reason": None},
            {"source": "logs", "status": "unavailable", "reason": "no answer within 30 s"},
        ],
        "evidence": [{"id": "C1", "summary": "bob: session timeout 30m → 24h"}, {"id": "M1", "summary": "heap grew"}],
        "hypotheses": [hypothesis_of(1, 0.91), hypothesis_of(2, 0.04), hypothesis_of(3, 0.0004)],
        "diagnosis": {
            "outcome": "diagnosed",
            "by": "engine",
            "kind": "config_change",
            "probability": 0.91,
            "summary": "heap fills up",
            "warnings": ["logs were not read"],
        },
        "proposals": [
            {
                "id": "pro-1",
                "action": {"type": "revert_keys"},
                "risk": "low",
                "fixes_cause": True,
                "summary": "set it back",
                "rollback_rehearsed": True,
                "diff": "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-timeout: 24h\n+timeout: 30m\n",
                "base": "a" * 40,
                "digest": "sha256:" + "b" * 64,
                "expires_at": "2026-11-22T09:30:00Z",
                "warnings": [],
            }
        ],
        "rejected_remedies": [{"action": "raise_heap", "why": "it does not fit: 470 MiB in 256 MiB"}],
        "usage": {"seconds": 1.9},
        **more,
    }


def curve_of(**more: Any) -> Curve:
    n = 240
    times = T0 + np.arange(n) * 10.0
    grown = np.clip((np.arange(n) - 120) / 90, 0, 1)
    used = (80 + 160 * grown + 30 * (np.arange(n) % 12) / 12) * MIB
    fields: dict[str, Any] = {
        "title": "heap",
        "times": times,
        "step": 10.0,
        "used": used,
        "floor": (80 + 160 * grown) * MIB,
        "ceiling": np.full(n, 256 * MIB),
        "change": Mark(T0 + 1200, "b4d94173 08:39:37 server.servlet.session.timeout"),
        "errors": (Mark(T0 + 2100, "OutOfMemoryError: Java heap space"),),
        "restarts": (Mark(T0 + 2110),),
        "trouble_at": T0 + 2100,
        **more,
    }
    return Curve(**fields)


# --- other people's text -----------------------------------------------------------------------------------------------


def test_safe_text_shows_what_would_act_or_hide() -> None:
    shown = safe(HOSTILE)
    assert (
        "⟨U+001B⟩" in shown
        and "⟨U+202E⟩" in shown
        and "⟨U+200B⟩" in shown
        and "⟨U+D800⟩" in shown
        and "⟨U+0000⟩" in shown
    )
    assert shown.isprintable() and "é ×48" in shown
    assert safe("⟨U+202E⟩") == "⟨U+27E8⟩U+202E⟨U+27E9⟩"  # a forged mark is marked
    assert safe("a\nb") == "a ⏎ b"
    assert safe("x" * 50, 10) == "x" * 9 + "…"


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_safe_text_is_one_printable_line_whatever_comes(anything: str) -> None:
    assert safe(anything).isprintable()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_hostile_text_anywhere_in_a_report_does_not_reach_the_terminal(width: int) -> None:
    def poisoned(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: poisoned(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(v, key) for v in value]
        if isinstance(value, str) and key != "diff":
            return value + HOSTILE
        return value

    report = poisoned(report_of(diagnosis={**report_of()["diagnosis"], "outcome": "diagnosed"}))
    report["proposals"][0]["diff"] = render_diff(("+" + HOSTILE + "\n").encode("utf-8", "surrogatepass"))
    shown = printed(draw_report(width, report), width)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "[bold]x[/bold]" in shown.replace("\n", "") or width == 60  # markup is shown, not obeyed
    assert "😄" not in shown
    coloured = printed(draw_report(width, report), width, colour=True)
    escapes = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert "\x1b" not in escapes and "\u202e" not in escapes


# --- the report --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 61, 72, 80, 95, 96, 100, 120, 160])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    curve = draw_chart(curve_of(), width)
    shown = printed(draw_report(width, report_of(), curve), width)
    assert max(cell_len(line) for line in shown.split("\n")) <= width
    for told in ("DIAGNOSED", "91%", "raise heap", "pro-1", "+timeout: 30m", "advisor approve"):
        assert told in shown


def test_a_report_says_what_was_not_read_and_why() -> None:
    shown = printed(draw_report(100, report_of()))
    assert "✗ logs unavailable" in shown and "no answer within 30 s" in shown and "! logs were not read" in shown


def test_improbable_causes_are_counted_and_not_told() -> None:
    shown = printed(draw_report(100, report_of()))
    assert "key.2" in shown and "key.3" not in shown and "and 1 more, less likely" in shown


def test_a_report_without_causes_or_proposals_still_says_what_it_has() -> None:
    diagnosis = {
        "outcome": "healthy",
        "by": "engine",
        "kind": "none",
        "probability": 0.0,
        "summary": "healthy: all is well",
        "warnings": [],
    }
    shown = printed(draw_report(80, report_of(diagnosis=diagnosis, hypotheses=[], proposals=[], rejected_remedies=[])))
    assert "HEALTHY" in shown and "Healthy: all is well" in shown and "began" not in shown and "approve" not in shown


def test_an_inconclusive_report_ends_with_the_next_check() -> None:
    diagnosis = {**report_of()["diagnosis"], "outcome": "inconclusive"}
    shown = printed(draw_report(80, report_of(diagnosis=diagnosis, proposals=[])))
    assert "INCONCLUSIVE" in shown and "next: ask for more" in shown


def test_a_proposal_that_was_answered_is_not_offered_again() -> None:
    report = report_of()
    report["proposals"][0]["state"] = "rolled_back"
    shown = printed(draw_report(100, report))
    assert "rolled back" in shown and "advisor approve" not in shown


@pytest.mark.parametrize(
    ("probability", "told"),
    [(0.0, "0%"), (0.004, "<1%"), (0.5, "50%"), (0.9989, ">99%"), (1.0, "100%"), (float("nan"), "?")],
)
def test_a_probability_is_never_rounded_to_certainty(probability: float, told: str) -> None:
    assert percent(probability) == told


def test_words_for_keys_times_and_units() -> None:
    assert (
        key_end("spec.containers[checkout].env[JAVA_OPTS].value:-XX:MaxDirectMemorySize") == "-XX:MaxDirectMemorySize"
    )
    assert len(key_end("a." * 60)) == 40
    assert when("2026-11-22T08:00:00Z", "2026-11-22T09:00:00Z") == "08:00:00"
    assert when("2026-11-18T11:14:00Z", "2026-11-22T09:00:00Z") == "18 Nov 11:14"
    assert (measured(3 * MIB, "bytes"), measured(90, "seconds"), measured(1131, "")) == ("3 MiB", "1m 30s", "1,131")


# --- the chart ---------------------------------------------------------------------------------------------------------


def chart(width: int = 100, **more: Any) -> str:
    drawn = draw_chart(curve_of(**more), width)
    assert drawn is not None
    return printed(drawn, width)


def test_the_change_is_marked_in_the_column_of_its_time() -> None:
    lines = chart().split("\n")
    column = lines[1].index("▼")
    rows = [line for line in lines if line[10:11] in ("┤", "│")]
    assert len(rows) == 9 and all(line[column] == "│" for line in rows)
    assert "b4d94173 08:39:37 server.servlet.session.timeout" in lines[1]


def test_the_limit_the_errors_and_the_restarts_are_on_the_chart() -> None:
    shown = chart()
    assert "256 MiB ┤╌╌╌" in shown and "✗" in shown and "↻" in shown and "UTC" in shown


def test_a_limit_far_above_does_not_press_the_curve_flat() -> None:
    shown = chart(ceiling=np.full(240, 8192 * MIB))
    assert "limit 8 GiB, above the picture" in shown and "┤╌" not in shown


def test_a_change_before_the_samples_is_told_beside_the_chart() -> None:
    assert "b4d94173, 3h before the picture" in chart(change=Mark(T0 - 3 * 3600, "b4d94173"), trouble_at=None)


def test_no_line_leads_across_a_silence() -> None:
    used = curve_of().used.copy()
    used[100:140] = np.nan
    gap = chart(used=used, floor=used, change=None, trouble_at=None, errors=(), restarts=())
    row = max(
        (line for line in gap.split("\n") if line[10:11] == "│"), key=lambda line: sum("⠀" <= c <= "⣿" for c in line)
    )
    assert re.search(r"[⠁-⣿] {8,}", row) or " " * 10 in row[11:].strip()


@pytest.mark.parametrize(
    "more",
    [
        {"used": np.full(240, np.nan)},
        {"used": np.where(np.arange(240) < 2, 5.0, np.nan)},
        {"times": np.array([]), "used": np.array([]), "floor": np.array([]), "ceiling": np.array([])},
    ],
)
def test_nothing_measured_gives_no_chart(more: dict[str, Any]) -> None:
    assert draw_chart(curve_of(**more), 100) is None


@pytest.mark.parametrize("value", [0.0, 1e-9, 5.0, 1e15])
def test_flat_empty_and_huge_values_are_drawn(value: float) -> None:
    flat = np.full(240, value)
    for trouble in (None, T0, T0 + 10_000):
        drawn = draw_chart(curve_of(used=flat, floor=flat, ceiling=np.full(240, np.nan), trouble_at=trouble), 60)
        if drawn is not None:
            assert max(cell_len(line) for line in printed(drawn, 60).split("\n")) <= 60


# --- what is agreed to -------------------------------------------------------------------------------------------------


def test_the_rest_of_a_long_line_never_passes_for_a_line_of_its_own() -> None:
    trap = "+" + "x" * 79 + "-  timeout: 30m"
    shown = printed(Diff(f"@@ -1 +1 @@\n{trap}\n"), 80).rstrip("\n").split("\n")
    assert shown == ["@@ -1 +1 @@", "+" + "x" * 79, f"{CONTINUED} -  timeout: 30m"]


@given(st.text(alphabet="ab+-@ \t漢é", max_size=400), st.integers(20, 120))
@settings(max_examples=200, deadline=None)
def test_a_folded_diff_loses_nothing(line: str, width: int) -> None:
    shown = (
        printed(Diff("@@ -1 +1 @@\n+" + render_diff(line.encode()) + "|"), width, colour=True)
        .rstrip("\n")
        .split("\n")[1:]
    )
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", part) for part in shown]
    assert all(cell_len(part) <= width for part in plain)
    assert (
        plain[0] + "".join(part.removeprefix(f"{CONTINUED} ") for part in plain[1:])
        == "+" + render_diff(line.encode()) + "|"
    )


def test_an_approver_is_shown_all_that_the_digest_binds() -> None:
    repository, commit = gate.fake_with_cause()
    proposal = gate.propose(repository, gate.revert_action(commit))
    shown = printed(draw_proposal(proposal, "proposed", gate.NOW), 120)
    for told in (
        proposal.id,
        proposal.base,
        proposal.digest,
        proposal.summary,
        proposal.risk.value,
        "rehearsed",
        "in 30m",
    ):
        assert told in shown, told
    for guardrail in proposal.guardrails:
        assert guardrail.name.replace("_", " ") in shown
    assert all(line.rstrip() in shown for line in proposal.diff.split("\n"))


def test_a_verdict_without_data_says_so() -> None:
    plan = gate.VerificationPlan(
        checks=(
            gate.Check(
                name="heap is back",
                query="x",
                measure=gate.Measure.FLOOR,
                comparison=gate.Comparison.AT_MOST,
                threshold=3 * MIB,
                unit="bytes",
            ),
        )
    )
    now = datetime(2026, 11, 22, 9, tzinfo=UTC)
    shown = printed(draw_verification(judge(plan, {}, now - timedelta(hours=1), now, "chg-1")))
    assert "inconclusive" in shown and "not measured" in shown and "no data in the window" in shown and "3 MiB" in shown


# --- how it is printed -------------------------------------------------------------------------------------------------


def test_a_picture_refers_to_nothing_outside(tmp_path: Path) -> None:
    pictures = []
    for name in ("a.svg", "b.svg"):
        console = make_console(io.StringIO(), record=True, width=100)
        console.print(draw_report(100, report_of(), draw_chart(curve_of(), 100)))
        write_svg(console, tmp_path / "deep" / name, "advisor demo")
        pictures.append((tmp_path / "deep" / name).read_bytes())
    picture = pictures[0].decode()
    assert pictures[0] == pictures[1]
    assert "@font-face" not in picture and "url(http" not in picture
    assert set(re.findall(r"https?://[^\"\s<]+", picture)) == {"http://www.w3.org/2000/svg"}


def test_no_color_is_plain_even_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    make_console(coloured, width=80).print(draw_report(80, report_of()))
    assert "\x1b[" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    make_console(plain, width=80).print(draw_report(80, report_of()))
    assert "\x1b" not in plain.getvalue()


def test_a_stream_that_is_not_utf8_gets_marks_and_no_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    make_console(stream, width=80).print(draw_report(80, report_of(), draw_chart(curve_of(), 80)))
    stream.flush()
    assert b"91%" in raw.getvalue() and b"\\u" in raw.getvalue()


def test_reports_survive_json() -> None:
    report = json.loads(json.dumps(report_of()))
    assert printed(draw_report(100, report)) == printed(draw_report(100, report_of()))
