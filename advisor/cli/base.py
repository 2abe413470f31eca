"""What every command shares: options, the answer to an error, the terminal, the opened workflow.

Only the standard library and typer are imported at the top: `advisor --help` must not wait for git, numpy or a database.
Every error a person may see ends in one line on stderr and an exit code (0 done, 1 failed, 2 usage or settings,
3 inconclusive, 4 refused, 5 uncertain, 130 stopped).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from advisor.errors import AdvisorError, ApproverNotAllowed, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from advisor.workflow import Workflow
    from advisor.workflow.recovering import Recovering

P = ParamSpec("P")

INCONCLUSIVE = 3
STOPPED = 130  # 128 + SIGINT, as shells count
SVG_COLUMNS = 100
NOTHING_CHANGED = "stopped; nothing was changed"

app = typer.Typer(
    name="advisor",
    help="Find the change behind an incident, propose its exact reversal, and wait for a person.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# typer brings its own click or a foreign one, by version; the class is the same relation in both.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="ADVISOR_CONFIG", help="The settings.", metavar="FILE")
]
AsOption = Annotated[
    str | None, typer.Option("--as", envvar="ADVISOR_USER", help="Who you are.", metavar="EMAIL", show_default=False)
]
CommentOption = Annotated[str, typer.Option(help="A word for the record.", metavar="TEXT", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
SvgOption = Annotated[Path | None, typer.Option("--svg", hidden=True, metavar="FILE")]
DEFAULT_CONFIG = Path("advisor.yaml")


class Stopped:
    """What to say when a person stops a command: it changes as the command goes on."""

    message = NOTHING_CHANGED


def open_streams() -> None:
    """Put something in place of streams that were closed (`2>&-`), so that writing to them is no fault."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def _leave_stdout() -> None:
    """Point standard output at nothing: what it could not take now it must not be asked to take again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Return a command that leaves with the function's exit code, and answers its errors in one line."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs) or 0
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, USAGE_ERROR):
            raise
        except BaseException as error:  # noqa: BLE001 - answered in one line, here where a stop is still told from an exit
            code = answer(error)
        raise typer.Exit(code)

    return guarded


def answer(error: BaseException) -> int:
    """Say one line about an error and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        _leave_stdout()  # the reader has left (`| head`): there is nothing more to say
        return 1
    if os.environ.get("ADVISOR_DEBUG"):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return say(Stopped.message, STOPPED)
    if isinstance(error, AdvisorError):
        return say(str(error), error.exit_code)
    if type(error).__name__ == "NoArgsIsHelpError":  # nothing but the command was typed: its help is the answer
        sys.stderr.write(str(error) + "\n")
        return 2
    if isinstance(error, USAGE_ERROR):
        formatted = getattr(error, "format_message", lambda: str(error))()
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "advisor"
        return say(f"{one_line(formatted).rstrip('.')}; see `{where} --help`", 2)
    if isinstance(error, OSError):
        try:
            sys.stdout.flush()
        except OSError:
            _leave_stdout()
        place = f"{error.filename}: " if error.filename else ""
        return say(f"{place}{error.strerror or type(error).__name__}", 1)
    if isinstance(error, ImportError):  # a broken installation, or no file left to open it with
        told = one_line(str(error), 160)
        return say(f"a part of the program cannot be loaded ({told}); check the installation, disk and open files", 1)
    if isinstance(error, MemoryError | RecursionError):
        return say(f"{type(error).__name__}: the input is larger than this machine can take; narrow the window", 1)
    told = one_line(f"{type(error).__name__}: {error}", 300)
    return say(f"a fault of ours: {told}; please report it (ADVISOR_DEBUG=1 shows where)", 1)


def say(message: str, code: int) -> int:
    """Write one line to standard error and return the exit code."""
    try:
        sys.stderr.write(f"advisor: {one_line(message)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody listens; the exit code still tells
    return code


def write_json(document: Any) -> None:
    """Print one JSON document, and nothing else, on standard output."""
    rendered = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        rendered.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeError, LookupError):  # a lone surrogate of a file name, or a terminal that is not UTF-8
        rendered = json.dumps(document, indent=2, allow_nan=False)
    sys.stdout.write(rendered + "\n")


def open_workflow(config: Path, needed: bool = True) -> Workflow:
    """Return the workflow over the settings; without ``needed`` a missing default file stands for empty ones."""
    from advisor.settings import Settings, load_settings
    from advisor.workflow import Workflow

    if not needed and config == DEFAULT_CONFIG and not config.exists():
        return Workflow(Settings())
    return Workflow(load_settings(config))


def open_to_change(config: Path, subject: str = "") -> Workflow:
    """Return the workflow after carrying on what was left in flight, with one line on stderr for each.

    Args:
        config: The settings.
        subject: The proposal or change that the command is about: it is carried on by the command itself.
    """
    workflow = open_workflow(config)
    carry_on(workflow, subject)
    return workflow


def carry_on(workflow: Recovering, subject: str = "") -> None:
    """Carry on what was left in flight, with one line on stderr for each."""
    for item in workflow.recover(workflow.recovery_leaves(subject) if subject else lambda proposal: False):
        say(item.told, 0)


def person_of(given: str | None) -> str:
    """Return who is asking; nobody is guessed from the account of the machine, which people share."""
    if given is None or not given.strip():
        raise ApproverNotAllowed("say who you are: --as you@example.org, or set ADVISOR_USER; nothing was changed")
    return given.strip()


def console_for(svg: Path | None = None, to_stderr: bool = False) -> Console:
    """Return the terminal to draw on; with ``svg`` it is of fixed width and remembers what was drawn."""
    from advisor.terminal import make_console

    return make_console(
        sys.stderr if to_stderr else None, record=svg is not None, width=SVG_COLUMNS if svg is not None else None
    )


def finish_svg(console: Console, svg: Path | None, title: str) -> None:
    """Write what was drawn as a picture, where one was asked for."""
    if svg is not None:
        from advisor.terminal.svg import write_svg

        write_svg(console, svg, title)


def can_ask(console: Console) -> bool:
    """Return whether a person sits at both ends: what is shown is seen, and what is typed was typed."""
    return sys.stdin.isatty() and console.file.isatty()


def ask(console: Console, question: str) -> str:
    """Return what a person types; the end of input is an empty answer."""
    from rich.text import Text

    console.print(Text(question + " ", style="bold"), end="")
    console.file.flush()
    return sys.stdin.readline().strip()


def show_version(asked: bool) -> None:
    """Print the version and leave, if it was asked for."""
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("ops-advisor")
        except PackageNotFoundError:
            number = "not installed"
        sys.stdout.write(f"ops-advisor {number}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find the change behind an incident, propose its exact reversal, and wait for a person."""


def agreed(console: Console, question: str) -> bool:
    """Return whether a person typed y or yes."""
    return ask(console, question).lower() in ("y", "yes")


def outcome_code(report: dict[str, Any]) -> int:
    """Return the exit code of an investigation: 3 where it was inconclusive."""
    return INCONCLUSIVE if report["diagnosis"]["outcome"] == "inconclusive" else 0
