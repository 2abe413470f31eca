"""The engine alone, a model alone, and both, judged by one truth in one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("langchain_openai", reason="langchain is not installed")

from advisor.cli import run
from advisor.evaluation.cases import find_cases
from advisor.evaluation.models import evaluate_model
from advisor.settings import Model
from tests.support.model_server import ModelServer, Step

HEAP = Path(__file__).parent.parent / "playbooks/jvm_heap/cases"
LIAR = {
    "outcome": "diagnosed",
    "summary": "Nothing is wrong but the heap.",
    "causes": [
        {
            "hypothesis": "H2",
            "kind": "unknown",
            "service": "checkout",
            "weight": 1.0,
            "why": [{"text": "Requests rose to 77,777 per second.", "evidence": ["M1"]}],
        }
    ],
    "claims": [],
    "remedy": None,
}


def test_a_model_that_lies_is_measured_and_costs_nothing_but_tokens() -> None:
    cases = [c for c in find_cases([HEAP]) if c.bundle.parent.name in ("session_timeout", "cache_limit")]
    with ModelServer([Step(text=json.dumps(LIAR))]) as server:
        model = Model.model_validate(
            {"name": "openai:liar", "base_url": server.base_url("openai"), "deadline_seconds": 20}
        )
        found = evaluate_model(cases, model, 2)
    assert found.cases == 2 and found.runs == 2
    assert found.engine.first.count == found.both.first.count == 4
    assert found.alone.first.count == 0
    assert found.both.wrong_remedy.count == 0
    assert found.ungrounded.count > 0 and found.unusable.count == 0
    assert found.agreed.count == 0
    assert found.usage.calls == 12 and found.usage.input_tokens == 12 * 1200  # each run asks, and twice to mend
    assert found.repairs == 2.0


def test_the_command_says_so_in_one_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with ModelServer([Step(status=500)]) as server:
        config = tmp_path / "advisor.yaml"
        config.write_text(
            f'model: {{name: "openai:x", base_url: "{server.base_url("openai")}", deadline_seconds: 5, retries: 0}}\n'
        )
        folder = str(HEAP / "session_timeout")
        assert run(["eval", folder, "--model", "openai:down", "--config", str(config), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "advisor.model_evaluation/v1"
    assert document["model"] == "openai:down" and document["unusable"]["count"] == 1
    assert document["both"]["first"]["count"] == 1


@pytest.mark.parametrize("extra", [["--ablation"], ["--without", "logs"]])
def test_a_model_is_measured_by_itself(extra: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--model", "openai:x", *extra]) == 2
    assert "runs by itself" in capsys.readouterr().err


def test_a_model_without_a_provider_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--model", "gpt"]) == 2
    assert "PROVIDER:NAME" in capsys.readouterr().err
