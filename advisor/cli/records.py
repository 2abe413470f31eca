"""Commands on records: replay, export, audit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    SvgOption,
    app,
    command,
    console_for,
    finish_svg,
    open_workflow,
    outcome_code,
    write_json,
)

AUDIT_ENTRIES = 50


audit_app = typer.Typer(
    help="Show or verify the record of intents and outcomes.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(audit_app, name="audit")


@app.command()
@command
def replay(
    bundle: Annotated[Path, typer.Argument(help="A file that `export` wrote.", metavar="BUNDLE")],
    as_json: JsonOption = False,
    svg: SvgOption = None,
) -> int:
    """Run a recorded incident again, offline."""
    from advisor.replaying import replaying
    from advisor.terminal.live import following
    from advisor.terminal.report import print_investigation

    with replaying(bundle) as recorded:
        with following(quiet=as_json) as progress:
            found = recorded.investigate(progress)
        if as_json:
            write_json(found.report)
        else:
            console = console_for(svg)
            print_investigation(console, found)
            finish_svg(console, svg, f"advisor replay {bundle.name}")
    return outcome_code(found.report)


@app.command()
@command
def export(
    incident: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="INCIDENT")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to.", metavar="FILE", show_default=False)
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write an incident as a file for `replay`."""
    notes: list[str] = []
    written = open_workflow(config).export(incident, output, notes)
    for note in notes:
        sys.stderr.write(f"advisor: {note}\n")
    sys.stdout.write(f"{written}\n")


@audit_app.command("verify")
@command
def audit_verify(
    offline: Annotated[bool, typer.Option("--offline", help="Leave out the anchors.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="An export instead of the store.", metavar="EXPORT", show_default=False),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Check that nothing was edited, removed, inserted, cut off or put back."""
    if file is not None:
        found = open_workflow(config, needed=False).audit_verify_file(file)
    else:
        found = open_workflow(config).audit_verify(offline)
    if as_json:
        return write_json({"entries": found.entries, "anchors": found.anchors, "note": found.note, "whole": True})
    anchored = f", {found.anchors} anchors fit" if found.anchors is not None else ""
    sys.stdout.write(f"{found.entries} entries, chain whole{anchored}\n")
    if found.note:
        sys.stdout.write(f"{found.note}\n")


@audit_app.command("export")
@command
def audit_export(
    first: Annotated[int, typer.Option("--from", help="The number of the first entry.", min=1, metavar="N")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to.", metavar="FILE", show_default=False)
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write the entries as lines of JSON that verify anywhere."""
    workflow = open_workflow(config)
    if output is None:
        sys.stdout.write("\n".join(workflow.audit_lines(first)) + "\n")
        return
    sys.stdout.write(f"{workflow.audit_export(output, first)} entries in {output}\n")


@audit_app.command("anchor")
@command
def audit_anchor(
    if_due: Annotated[bool, typer.Option("--if-due", help="Only if the last one is old; for cron.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Push the head of the audit to the repository of audit.anchor."""
    ref = open_workflow(config).anchor_audit("hourly" if if_due else "asked", if_due)
    sys.stdout.write(f"{ref}\n" if ref else "nothing was due\n")


@audit_app.command("show")
@command
def audit_show(
    limit: Annotated[int, typer.Option(help="How many of the newest.", min=1, max=100_000)] = AUDIT_ENTRIES,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the newest entries, oldest of them first."""
    entries = open_workflow(config).audit_entries(limit)
    if as_json:
        return write_json([entry.model_dump(mode="json") for entry in entries])
    from advisor.terminal.tables import print_audit

    print_audit(console_for(), entries)
