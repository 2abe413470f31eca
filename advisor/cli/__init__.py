"""The command line: arguments in, workflow, text or one JSON document out. No rules here.

Only the standard library and typer are imported at the top: `advisor --help` must not wait for git, numpy or a database.
Every error a person may see ends in one line on stderr and an exit code (0 done, 1 failed, 2 usage or settings,
3 inconclusive, 4 refused, 5 uncertain, 130 stopped).
"""

from __future__ import annotations

import typer

# The order of these imports is the order in which `advisor --help` lists the commands.
# isort: off
from advisor.cli import (  # noqa: F401
    beginning,
    investigating,
    chatting,
    deciding,
    reviewing,
    changing,
    recovering,
    records,
    evaluating,
    playbooks,
)

# isort: on
from advisor.cli.base import NOTHING_CHANGED, Stopped, answer, app, command, open_streams, show_version


def run(arguments: list[str]) -> int:
    """Return the exit code of a command line; whatever happens, a person gets one line."""
    Stopped.message = NOTHING_CHANGED
    open_streams()
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="advisor", standalone_mode=False)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the last place where a traceback could reach a person
        return answer(error)
    return code if isinstance(code, int) else 0


@app.command()
@command
def version() -> None:
    """Show the version."""
    show_version(True)
