"""The command line: arguments in, workflow, text or one JSON document out. No rules here.

Only the standard library and typer are imported at the top: `advisor --help` must not wait for git, numpy or a database.
Every error a person may see ends in one line on stderr and an exit code (0 done, 1 failed, 2 usage or settings,
3 inconclusive, 4 refused, 5 uncertain, 130 stopped).
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from advisor.errors import AdvisorError, SettingsInvalid, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from advisor.workflow import Workflow

P = ParamSpec("P")

INCONCLUSIVE = 3
STOPPED = 130  # 128 + SIGINT, as shells count
ALERT_BYTES_MAX = 1024 * 1024
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
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="ADVISOR_CONFIG", help="The settings.", metavar="FILE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DEFAULT_CONFIG = Path("advisor.yaml")


class _Stopped:
    """What to say when a person stops a command: it changes as the command goes on."""

    message = NOTHING_CHANGED


def run(arguments: list[str]) -> int:
    """Return the exit code of a command line; whatever happens, a person gets one line."""
    _Stopped.message = NOTHING_CHANGED
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="advisor", standalone_mode=False)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the last place where a traceback could reach a person
        return _answer(error)
    return code if isinstance(code, int) else 0


def _command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Return a command that leaves with the function's exit code, and answers its errors in one line."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs) or 0
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, _USAGE_ERROR):
            raise
        except BaseException as error:  # noqa: BLE001 - answered in one line, here where a stop is still told from an exit
            code = _answer(error)
        raise typer.Exit(code)

    return guarded


def _answer(error: BaseException) -> int:
    """Say one line about an error and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        # The reader has left (`| head`): nothing more to say, and the flush at exit must not say it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if os.environ.get("ADVISOR_DEBUG"):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _say(_Stopped.message, STOPPED)
    if isinstance(error, AdvisorError):
        return _say(str(error), error.exit_code)
    if isinstance(error, _USAGE_ERROR):
        formatted = getattr(error, "format_message", lambda: str(error))()
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "advisor"
        return _say(f"{one_line(formatted).rstrip('.')}; see `{where} --help`", 2)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return _say(f"{place}{error.strerror or type(error).__name__}", 1)
    if isinstance(error, MemoryError | RecursionError):
        return _say(f"{type(error).__name__}: the input is larger than this machine can take; narrow the window", 1)
    told = one_line(f"{type(error).__name__}: {error}", 300)
    return _say(f"a fault of ours: {told}; please report it (ADVISOR_DEBUG=1 shows where)", 1)


def _say(message: str, code: int) -> int:
    try:
        sys.stderr.write(f"advisor: {one_line(message)}\n")
        sys.stderr.flush()
    except (OSError, UnicodeError):
        pass  # nobody listens; the exit code still tells
    return code


def _write_json(document: Any) -> None:
    """Print one JSON document, and nothing else, on standard output."""
    rendered = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        rendered.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeError, LookupError):  # a lone surrogate of a file name, or a terminal that is not UTF-8
        rendered = json.dumps(document, indent=2, allow_nan=False)
    sys.stdout.write(rendered + "\n")


def _workflow(config: Path) -> Workflow:
    from advisor.settings import load_settings
    from advisor.workflow import Workflow

    return Workflow(load_settings(config))


def _show_version(asked: bool) -> None:
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
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find the change behind an incident, propose its exact reversal, and wait for a person."""


@app.command()
@_command
def version() -> None:
    """Show the version."""
    _show_version(True)


# --- investigate -------------------------------------------------------------------------------------------------------


@app.command()
@_command
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
    svg: Annotated[Path | None, typer.Option(hidden=True, metavar="FILE")] = None,
) -> int:
    """Say what is wrong with a service, since when and why, and propose what to change."""
    from advisor.terminal import report as reports
    from advisor.values import parse_instant

    workflow = _workflow(config)
    if symptom is not None and alert is not None:
        raise SettingsInvalid("--symptom and --alert: give one of them")
    question, noticed_at = symptom or "", None
    if alert is not None:
        question, noticed_at = _read_alert(alert, service)
    now = workflow.clock()
    if at is not None:
        noticed_at = parse_instant(at, now)
    end = parse_instant(until, now) if until is not None else None
    with reports.following(quiet=as_json) as progress:
        found = workflow.investigate(service, noticed_at, end, question, progress)
    if as_json:
        _write_json(found.report)
    else:
        console = _console(svg)
        reports.print_investigation(console, found)
        _finish_svg(console, svg, f"advisor investigate {service}")
    return _outcome_code(found.report)


def _outcome_code(report: dict[str, Any]) -> int:
    return INCONCLUSIVE if report["diagnosis"]["outcome"] == "inconclusive" else 0


def _console(svg: Path | None = None) -> Console:
    from advisor.terminal import make_console

    return make_console(record=svg is not None, width=100 if svg is not None else None)


def _finish_svg(console: Console, svg: Path | None, title: str) -> None:
    if svg is not None:
        from advisor.terminal.svg import write_svg

        write_svg(console, svg, title)


def _read_alert(path: Path, service: str) -> tuple[str, datetime | None]:
    """Return the words of a firing alert, and when it began.

    Takes what Alertmanager's webhook sends, a list of alerts, or one alert. Where several fire, those that name the
    service in a label count.
    """
    from advisor.values import parse_instant

    try:
        with path.open("rb") as file:
            data = json.loads(file.read(ALERT_BYTES_MAX).decode("utf-8"))
    except FileNotFoundError as error:
        raise SettingsInvalid(f"--alert {path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsInvalid(f"--alert {path}: not readable as JSON: {one_line(str(error), 160)}") from error
    alerts = data.get("alerts", [data]) if isinstance(data, dict) else data
    alerts = [a for a in alerts if isinstance(a, dict) and _texts(a.get("labels"))] if isinstance(alerts, list) else []
    firing = [a for a in alerts if a.get("status", "firing") != "resolved"] or alerts
    chosen = [a for a in firing if service in _texts(a.get("labels")).values()] or firing
    if not chosen:
        raise SettingsInvalid(f"--alert {path}: no alert with labels in it; Alertmanager's webhook JSON is wanted")
    words: list[str] = []
    starts: list[datetime] = []
    now = datetime.now().astimezone()
    for each in chosen[:20]:
        labels, annotations = _texts(each.get("labels")), _texts(each.get("annotations"))
        words += [
            labels.get("alertname", ""),
            *(annotations[k] for k in ("summary", "description", "message") if k in annotations),
        ]
        if isinstance(each.get("startsAt"), str) and not each["startsAt"].startswith("0001-"):
            starts.append(parse_instant(each["startsAt"], now))
    return "; ".join(dict.fromkeys(w for w in words if w)), min(starts, default=None)


def _texts(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
