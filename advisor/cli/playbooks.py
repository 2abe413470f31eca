"""Commands on playbooks and known mechanisms: list, show, lint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    app,
    command,
    console_for,
    open_workflow,
    say,
    write_json,
)
from advisor.errors import one_line

playbooks_app = typer.Typer(help="List, show or check playbooks.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(playbooks_app, name="playbooks")


@playbooks_app.command("list")
@command
def playbooks_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the playbooks."""
    found = open_workflow(config, needed=False).playbooks
    if as_json:
        return write_json([playbook.model_dump(mode="json") for playbook in found])
    from advisor.terminal.tables import print_playbooks

    print_playbooks(console_for(), found)


@playbooks_app.command("show")
@command
def playbooks_show(
    name: Annotated[str, typer.Argument(help="Its name.", metavar="NAME")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show one playbook."""
    from advisor.errors import PlaybookUnknown

    found = {playbook.name: playbook for playbook in open_workflow(config, needed=False).playbooks}
    if name not in found:
        raise PlaybookUnknown(f"no playbook {name!r} (known: {', '.join(found) or 'none'})")
    if as_json:
        return write_json(found[name].model_dump(mode="json"))
    from advisor.terminal.tables import print_playbook

    print_playbook(console_for(), found[name])


@playbooks_app.command("lint")
@command
def playbooks_lint(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Playbooks; all known ones by default.", metavar="[FILE]...")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> int:
    """Check playbooks and the known mechanisms (knobs.yaml): every file that is wrong is named, with the key."""
    from advisor.diagnosis.knobs import parse_knobs
    from advisor.errors import PlaybookError
    from advisor.playbook import parse_playbook

    if not files:
        workflow = open_workflow(config, needed=False)
        count, families = len(workflow.playbooks), len(workflow.knobs)
        sys.stdout.write(f"{count} playbooks and {families} families of keys, all well formed\n")
        return 0
    code = 0
    for path in files:
        try:
            text = path.read_bytes().decode("utf-8")
            if path.name == "knobs.yaml":
                parse_knobs(text, str(path))
            else:
                parse_playbook(text, str(path))
        except PlaybookError as error:
            code = say(str(error), error.exit_code)
        except (OSError, UnicodeDecodeError) as error:
            code = say(f"playbook {path}: cannot be read: {one_line(str(error), 160)}", 2)
        else:
            sys.stdout.write(f"{path}: well formed\n")
    return code
