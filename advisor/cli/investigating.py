"""Commands that look for a cause, and show what was found: investigate, incidents, show, propose."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    INCONCLUSIVE,
    ConfigOption,
    JsonOption,
    SvgOption,
    app,
    command,
    console_for,
    finish_svg,
    open_workflow,
    outcome_code,
    say,
    write_json,
)
from advisor.errors import SettingsInvalid, one_line

ALERT_BYTES_MAX = 1024 * 1024


@app.command()
@command
def investigate(
    service: Annotated[str, typer.Argument(help="A service of the settings.", metavar="SERVICE")],
    at: Annotated[
        str | None, typer.Option(help="When the symptom was noticed: RFC 3339, epoch, or 15m.", metavar="T")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The end of what is read (default: now).", metavar="T")] = None,
    symptom: Annotated[str | None, typer.Option(help="What was seen, in words.", metavar="TEXT")] = None,
    alert: Annotated[
        Path | None, typer.Option(help="An alert as Alertmanager sends it (JSON).", metavar="FILE")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    svg: SvgOption = None,
) -> int:
    """Say what is wrong with a service, and why."""
    from advisor.terminal.live import following
    from advisor.terminal.report import print_investigation
    from advisor.values import parse_instant

    workflow = open_workflow(config)
    if symptom is not None and alert is not None:
        raise SettingsInvalid("--symptom and --alert: give one of them")
    question, noticed_at = symptom or "", None
    if alert is not None:
        question, noticed_at = read_alert(alert, service)
    now = workflow.clock()
    if at is not None:
        noticed_at = parse_instant(at, now)
    end = parse_instant(until, now) if until is not None else None
    with following(quiet=as_json) as progress:
        found = workflow.investigate(service, noticed_at, end, question, progress)
    if as_json:
        write_json(found.report)
    else:
        console = console_for(svg)
        print_investigation(console, found)
        finish_svg(console, svg, f"advisor investigate {service}")
    return outcome_code(found.report)


def read_alert(path: Path, service: str) -> tuple[str, datetime | None]:
    """Return the words of the alert in a file, and when it began."""
    from advisor.incident import read_alerts

    try:
        with path.open("rb") as file:
            data = json.loads(file.read(ALERT_BYTES_MAX).decode("utf-8"))
    except FileNotFoundError as error:
        raise SettingsInvalid(f"--alert {path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsInvalid(f"--alert {path}: not readable as JSON: {one_line(str(error), 160)}") from error
    found = read_alerts(data, service, datetime.now().astimezone())
    if found is None:
        raise SettingsInvalid(f"--alert {path}: no alert with labels in it; Alertmanager's webhook JSON is wanted")
    return found


@app.command()
@command
def incidents(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the investigations."""
    found = open_workflow(config).incidents()
    if as_json:
        return write_json(found)
    from advisor.terminal.tables import print_incidents

    print_incidents(console_for(), found)


@app.command()
@command
def show(
    incident: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="ID")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show an investigation again."""
    workflow = open_workflow(config)
    report = workflow.incident(incident)
    if as_json:
        return write_json(report)
    from dataclasses import replace

    from advisor.terminal.report import print_investigation, print_report

    # A report is as it was; where its proposals stand by now is said beside it.
    standing = [{**p, "state": workflow.proposal(p["id"])[1]} for p in report["proposals"]]
    report = {**report, "proposals": standing}
    found = workflow.recorded(report["incident"]["id"])
    if found is None or not found.gathered.metrics:
        print_report(console_for(), report)
    else:
        print_investigation(console_for(), replace(found, report=report))


@app.command()
@command
def propose(
    incident: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="INCIDENT")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> int:
    """Draft an incident's remedies anew on the branch as it is now; they wait for approval."""
    from advisor.terminal.tables import print_proposals

    found, refused = open_workflow(config).propose_again(incident)
    if as_json:
        write_json([p.model_dump(mode="json") for p in found])
    else:
        print_proposals(console_for(), [(p, "proposed") for p in found])
    for reason in refused:
        say(reason, 1)
    return 0 if found else INCONCLUSIVE
