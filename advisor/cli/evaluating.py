"""The command that judges the ranking on recorded cases: eval."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    Stopped,
    app,
    command,
    console_for,
    open_workflow,
    say,
    write_json,
)
from advisor.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from advisor.evaluation.cases import Case


@app.command("eval")
@command
def evaluate(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Where cases are; those shipped with the playbooks by default.", metavar="[DIR]..."),
    ] = None,
    split: Annotated[Literal["development", "held_out", "all"], typer.Option(help="Which cases count.")] = "all",
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out metrics, changes, logs, topology or mechanisms; may be repeated.",
            metavar="PART",
            show_default=False,
        ),
    ] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Leave each part out in turn, and show what is lost.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit a temperature on development, and judge it on held_out.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Also write report.html and report.png there.", metavar="FOLDER", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Worker processes; one for each core by default.", min=1, max=64, show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Put the cases to a model; the rest of its settings from --config.", metavar="NAME", show_default=False
        ),
    ] = None,
    runs: Annotated[int, typer.Option(help="How often each case is put to it.", min=1, max=100)] = 1,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> int:
    """Run recorded cases and say how good the answers are."""
    from advisor.evaluation.cases import find_cases
    from advisor.evaluation.evaluate import document, parse_parts
    from advisor.evaluation.evaluate import evaluate as run_evaluation
    from advisor.evaluation.page import prepare_folder, write_report
    from advisor.evaluation.running import default_jobs
    from advisor.evaluation.truth import Split
    from advisor.terminal.evaluation import counting, print_evaluation
    from advisor.workflow import data_folder

    if calibrate and split != "all":
        raise SettingsInvalid(f"--calibrate needs both splits; leave --split {split} away")
    cases = find_cases(folders or [data_folder("playbooks")], None if split == "all" else Split(split))
    if model is not None:
        if without or ablation or calibrate or report is not None:
            raise SettingsInvalid("--model runs by itself; leave --without, --ablation, --calibrate and --report away")
        return _with_model(cases, model, runs, config, as_json)
    if report is not None:
        prepare_folder(report)
    Stopped.message = "stopped; nothing was written"
    with counting(quiet=as_json) as told:
        found = run_evaluation(
            cases,
            without=parse_parts(without or ()),
            ablation=ablation,
            calibrated=calibrate,
            jobs=jobs or default_jobs(),
            told=told,
        )
    if as_json:
        write_json(document(found))
    else:
        print_evaluation(console_for(), found)
    if report is not None:
        for note in write_report(found, report):
            sys.stderr.write(f"advisor: {note}\n")
    for failure in found.failures:
        part = f" without {failure.part.value}" if failure.part else ""
        say(f"{failure.name}{part}: could not be run: {failure.reason}", 1)
    return 1 if found.failures else 0


def _with_model(cases: Sequence[Case], name: str, runs: int, config: Path, as_json: bool) -> int:
    from dataclasses import asdict

    from advisor.evaluation.models import evaluate_model
    from advisor.settings import Model, parse_model
    from advisor.terminal.evaluation import counting, print_model_evaluation

    configured = open_workflow(config, needed=False).settings.model
    chosen: Model = parse_model({**(configured.model_dump() if configured else {}), "name": name})
    Stopped.message = "stopped; nothing was written"
    with counting(quiet=as_json) as told:
        found = evaluate_model(cases, chosen, runs, told)
    if as_json:
        write_json(
            {"schema": "advisor.model_evaluation/v1", **asdict(found), "usage": found.usage.model_dump(mode="json")}
        )
    else:
        print_model_evaluation(console_for(), found)
    for failed, reason in found.failures:
        say(f"{failed}: could not be run: {reason}", 1)
    return 1 if found.failures or not found.cases else 0
