"""The command line: arguments in, workflow, text or one JSON document out. No rules here.

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
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec

import typer

from advisor.errors import AdvisorError, ApprovalMissing, ApproverNotAllowed, SettingsInvalid, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from advisor.demo import DemoSession
    from advisor.proposal import Proposal
    from advisor.workflow import Workflow

P = ParamSpec("P")

INCONCLUSIVE = 3
STOPPED = 130  # 128 + SIGINT, as shells count
ALERT_BYTES_MAX = 1024 * 1024
SVG_COLUMNS = 100
AUDIT_ENTRIES = 50
DIGEST_CHARACTERS_MIN = 8  # of the hexadecimal digits; fewer could be guessed or met by chance
WAIT_SECONDS = 3  # after the end of a window, for its last scrape to arrive
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
AsOption = Annotated[
    str | None, typer.Option("--as", envvar="ADVISOR_USER", help="Who you are.", metavar="EMAIL", show_default=False)
]
CommentOption = Annotated[str, typer.Option(help="A word for the record.", metavar="TEXT", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
SvgOption = Annotated[Path | None, typer.Option("--svg", hidden=True, metavar="FILE")]
DEFAULT_CONFIG = Path("advisor.yaml")


audit_app = typer.Typer(
    help="Show or verify the record of intents and outcomes.", no_args_is_help=True, rich_markup_mode=None
)
playbooks_app = typer.Typer(help="List, show or check playbooks.", no_args_is_help=True, rich_markup_mode=None)


class _Stopped:
    """What to say when a person stops a command: it changes as the command goes on."""

    message = NOTHING_CHANGED


def run(arguments: list[str]) -> int:
    """Return the exit code of a command line; whatever happens, a person gets one line."""
    _Stopped.message = NOTHING_CHANGED
    _open_streams()
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="advisor", standalone_mode=False)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the last place where a traceback could reach a person
        return _answer(error)
    return code if isinstance(code, int) else 0


def _open_streams() -> None:
    """Put something in place of streams that were closed (`2>&-`), so that writing to them is no fault."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def _leave_stdout() -> None:
    """Point standard output at nothing: what it could not take now it must not be asked to take again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
        _leave_stdout()  # the reader has left (`| head`): there is nothing more to say
        return 1
    if os.environ.get("ADVISOR_DEBUG"):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _say(_Stopped.message, STOPPED)
    if isinstance(error, AdvisorError):
        return _say(str(error), error.exit_code)
    if type(error).__name__ == "NoArgsIsHelpError":  # nothing but the command was typed: its help is the answer
        sys.stderr.write(str(error) + "\n")
        return 2
    if isinstance(error, _USAGE_ERROR):
        formatted = getattr(error, "format_message", lambda: str(error))()
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "advisor"
        return _say(f"{one_line(formatted).rstrip('.')}; see `{where} --help`", 2)
    if isinstance(error, OSError):
        try:
            sys.stdout.flush()
        except OSError:
            _leave_stdout()
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
    except (OSError, ValueError):
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


def _workflow(config: Path, needed: bool = True) -> Workflow:
    """Return the workflow over the settings; without ``needed`` a missing default file stands for empty ones."""
    from advisor.settings import Settings, load_settings
    from advisor.workflow import Workflow

    if not needed and config == DEFAULT_CONFIG and not config.exists():
        return Workflow(Settings())
    return Workflow(load_settings(config))


def _person(given: str | None) -> str:
    """Return who is asking; nobody is guessed from the account of the machine, which people share."""
    if given is None or not given.strip():
        raise ApproverNotAllowed("say who you are: --as you@example.org, or set ADVISOR_USER; nothing was changed")
    return given.strip()


def _console(svg: Path | None = None, to_stderr: bool = False) -> Console:
    from advisor.terminal import make_console

    return make_console(
        sys.stderr if to_stderr else None, record=svg is not None, width=SVG_COLUMNS if svg is not None else None
    )


def _finish_svg(console: Console, svg: Path | None, title: str) -> None:
    if svg is not None:
        from advisor.terminal.svg import write_svg

        write_svg(console, svg, title)


def _can_ask(console: Console) -> bool:
    """Return whether a person sits at both ends: what is shown is seen, and what is typed was typed."""
    return sys.stdin.isatty() and console.file.isatty()


def _ask(console: Console, question: str) -> str:
    """Return what a person types; the end of input is an empty answer."""
    from rich.text import Text

    console.print(Text(question + " ", style="bold"), end="")
    console.file.flush()
    return sys.stdin.readline().strip()


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


# --- begin -------------------------------------------------------------------------------------------------------------


@app.command()
@_command
def demo(
    directory: Annotated[
        Path | None,
        typer.Option(help="Where the demo's repository and records go, and stay.", metavar="DIR", show_default=False),
    ] = None,
    svg: SvgOption = None,
) -> None:
    """Take a recorded incident through the whole loop."""
    with _demo_folder(directory) as folder:
        from advisor.demo import open_demo

        console = _console(svg)
        _run_demo(console, open_demo(folder), svg)


@app.command()
@_command
def init(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Write settings to begin with."""
    from advisor.workflow import write_example_settings

    write_example_settings(config)
    sys.stdout.write(f"{config} written; edit it, then: advisor doctor\n")


@app.command()
@_command
def doctor(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> int:
    """Ask each configured part whether it answers."""
    from dataclasses import asdict

    from advisor.doctor import examine

    lines = examine(_workflow(config))
    if as_json:
        _write_json([asdict(line) for line in lines])
    else:
        from advisor.terminal.tables import print_doctor

        print_doctor(_console(), lines)
    return 1 if any(line.ok is False for line in lines) else 0


@contextlib.contextmanager
def _demo_folder(directory: Path | None) -> Iterator[Path]:
    """Yield a folder for the demo: an empty one of the person's choice, or one that is gone afterwards."""
    if directory is not None:
        if directory.exists() and any(directory.iterdir()):
            raise SettingsInvalid(f"--directory {directory}: not empty; the demo wants a folder of its own")
        yield directory.resolve()
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="advisor-demo-") as temporary:
        yield Path(temporary) / "demo"


def _run_demo(console: Console, session: DemoSession, svg: Path | None) -> None:
    from advisor.terminal import approval as screen
    from advisor.terminal import text
    from advisor.terminal.live import following
    from advisor.terminal.report import print_investigation

    console.print(text(session.story, "italic"))
    console.print()
    with following() as progress:
        found = session.replay.investigate(progress, keep=True)
    print_investigation(console, found)
    ready = next((p for p in found.proposals if p.changes_something), None)
    if svg is not None:
        _finish_svg(console, svg, "advisor demo")
    console.print()
    if ready is None:
        console.print(text("There is nothing to propose: nothing was changed.", "bold"))
        return
    if not _can_ask(console):
        console.print(
            text("Stopped at the approval: nothing was changed. At a terminal the demo goes on from here.", "bold")
        )
        return
    session.advance("approve")
    console.print(screen.draw_proposal(ready, "proposed", session.workflow.clock()))
    if not _agreed(console, f"As {session.person}: apply exactly this change? [y/N]"):
        console.print(text("Not approved: nothing was changed.", "bold"))
        return
    _Stopped.message = "stopped; only the demo's own repository may have changed"
    change = session.workflow.approve(ready.id, session.person, "demo", ready.digest).change
    if change is None:
        console.print(text("Another person would have to approve as well: nothing was changed.", "bold"))
        return
    console.print(screen.draw_change(change, next_steps=False))
    session.advance("verify")
    console.print(screen.draw_verification(session.workflow.verify(change.id)))
    if _agreed(console, "Roll it back? [y/N]"):
        session.advance("rollback")
        plan = session.workflow.plan_rollback(change.id)
        console.print(screen.draw_rollback(plan))
        made = session.workflow.roll_back(change.id, session.person, "demo", plan)
        console.print(screen.draw_change(made, next_steps=False))
    console.print()
    console.print(text("What git has of it", "bold underline"))
    for line in session.history().splitlines():
        console.print(text(f"  {line}"))


def _agreed(console: Console, question: str) -> bool:
    return _ask(console, question).lower() in ("y", "yes")


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
    svg: SvgOption = None,
) -> int:
    """Say what is wrong with a service, and why."""
    from advisor.terminal.live import following
    from advisor.terminal.report import print_investigation
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
    with following(quiet=as_json) as progress:
        found = workflow.investigate(service, noticed_at, end, question, progress)
    if as_json:
        _write_json(found.report)
    else:
        console = _console(svg)
        print_investigation(console, found)
        _finish_svg(console, svg, f"advisor investigate {service}")
    return _outcome_code(found.report)


def _outcome_code(report: dict[str, Any]) -> int:
    return INCONCLUSIVE if report["diagnosis"]["outcome"] == "inconclusive" else 0


def _read_alert(path: Path, service: str) -> tuple[str, datetime | None]:
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


# --- look --------------------------------------------------------------------------------------------------------------


@app.command()
@_command
def incidents(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the investigations."""
    found = _workflow(config).incidents()
    if as_json:
        return _write_json(found)
    from advisor.terminal.tables import print_incidents

    print_incidents(_console(), found)


@app.command()
@_command
def show(
    incident: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="ID")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show an investigation again."""
    workflow = _workflow(config)
    report = workflow.incident(incident)
    if as_json:
        return _write_json(report)
    from dataclasses import replace

    from advisor.terminal.report import print_investigation, print_report

    # A report is as it was; where its proposals stand by now is said beside it.
    standing = [{**p, "state": workflow.proposal(p["id"])[1]} for p in report["proposals"]]
    report = {**report, "proposals": standing}
    found = workflow.recorded(report["incident"]["id"])
    if found is None or not found.gathered.metrics:
        print_report(_console(), report)
    else:
        print_investigation(_console(), replace(found, report=report))


@app.command()
@_command
def proposals(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the proposals and where each stands."""
    found = _workflow(config).proposals()
    if as_json:
        return _write_json([{**p.model_dump(mode="json"), "state": state} for p, state in found])
    from advisor.terminal.tables import print_proposals

    print_proposals(_console(), found)


@app.command()
@_command
def changes(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the changes and what became of each."""
    found = _workflow(config).changes()
    if as_json:
        return _write_json([{**c.model_dump(mode="json"), "state": state} for c, state in found])
    from advisor.terminal.tables import print_changes

    print_changes(_console(), found)


# --- decide ------------------------------------------------------------------------------------------------------------


@app.command()
@_command
def approve(
    proposal: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="PROPOSAL")],
    person: AsOption = None,
    comment: CommentOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    digest: Annotated[
        str | None, typer.Option(help="Approve only if the digest begins so.", metavar="PREFIX", show_default=False)
    ] = None,
    rollback_on_failure: Annotated[
        bool, typer.Option("--rollback-on-failure", help="Allow the rollback if verification fails.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show an exact change, and make it if you agree."""
    from advisor.terminal import approval as screen

    who = _person(person)
    workflow = _workflow(config)
    found, state = workflow.proposal(proposal)
    console = _console(to_stderr=as_json)
    console.print(screen.draw_proposal(found, state, workflow.clock()))
    _check_digest(found, digest)
    if not yes:
        _confirm(console, found, who)
    _Stopped.message = "stopped in the middle of approving; `advisor changes` says whether the change was made"
    approved = workflow.approve(found.id, who, comment, found.digest, rollback_on_failure)
    if as_json:
        document = {
            "schema": "advisor.approval/v1",
            "proposal": found.id,
            "digest": found.digest,
            "people": list(approved.people),
            "needed": approved.needed,
            "change": approved.change.model_dump(mode="json") if approved.change else None,
        }
        return _write_json(document)
    if approved.change is None:
        from advisor.terminal import text

        told = f"{len(approved.people)} of {approved.needed} people approved ({', '.join(approved.people)}); nothing is changed yet"
        console.print(text(told, "yellow"))
        console.print(text(f"→ another person: advisor approve {found.id} --as colleague@example.org"))
        return
    _Stopped.message = f"stopped after change {approved.change.id} was made"
    console.print(screen.draw_change(approved.change))


def _check_digest(proposal: Proposal, prefix: str | None) -> None:
    if prefix is None:
        return
    wanted = prefix.strip().lower().removeprefix("sha256:")
    if len(wanted) < DIGEST_CHARACTERS_MIN:
        raise SettingsInvalid(f"--digest {prefix!r}: at least {DIGEST_CHARACTERS_MIN} characters of it are wanted")
    if not proposal.digest.removeprefix("sha256:").startswith(wanted):
        raise ApprovalMissing(f"proposal {proposal.id} has another digest than --digest says; nothing was changed")


def _confirm(console: Console, proposal: Proposal, person: str) -> None:
    """Ask for the word that means yes: harder to type by habit where more can go wrong.

    Raises:
        SettingsInvalid: Nobody can be asked.
        ApprovalMissing: Another word was typed.
    """
    from advisor.values import Risk

    if not _can_ask(console):
        raise SettingsInvalid(
            f"proposal {proposal.id}: nobody can be asked here (not a terminal); --yes says yes; nothing was changed"
        )
    word = "yes" if proposal.risk is Risk.LOW else proposal.service
    told = f"the name of the service ({word})" if word != "yes" else "yes"
    from advisor.terminal import safe

    answer = _ask(console, f"As {safe(person, 80)}: type {safe(told, 120)} to make exactly this change:")
    if answer != word:
        raise ApprovalMissing(f"proposal {proposal.id}: not approved; nothing was changed")


@app.command()
@_command
def deny(
    proposal: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="PROPOSAL")],
    reason: Annotated[str, typer.Option(help="Why not; it is kept.", metavar="TEXT")],
    person: AsOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Refuse a proposal for good."""
    who = _person(person)
    denial = _workflow(config).deny(proposal, who, reason)
    if as_json:
        return _write_json(denial.model_dump(mode="json"))
    from advisor.terminal import text

    _console().print(text(f"proposal {denial.proposal_id} is denied by {denial.person}; nothing was changed"))


# --- verify and roll back ----------------------------------------------------------------------------------------------


@app.command()
@_command
def verify(
    change: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="CHANGE")],
    window: Annotated[
        str | None, typer.Option(help="How long is looked at, such as 60s or 10m.", metavar="TIME", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the window is over.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> int:
    """Say whether the service recovered after a change."""
    from advisor.terminal.approval import draw_verification
    from advisor.terminal.live import following, waiting
    from advisor.verification import Verdict

    seconds = _seconds(window) if window is not None else None
    workflow = _workflow(config)
    _Stopped.message = "stopped; the configuration was not touched, `advisor verify` can be repeated"
    with following(quiet=as_json) as progress:
        found = workflow.verify(change, seconds, progress)
    left = (found.until_at - workflow.clock()).total_seconds()
    if wait and left > 0:
        waiting(left + WAIT_SECONDS, found.verdict.value, quiet=as_json)
        with following(quiet=as_json) as progress:
            found = workflow.verify(change, seconds, progress)
    if as_json:
        _write_json(found.model_dump(mode="json"))
    else:
        _console().print(draw_verification(found))
    return {Verdict.PASSED: 0, Verdict.INCONCLUSIVE: INCONCLUSIVE}.get(found.verdict, 1)


def _seconds(text: str) -> int:
    """Return a duration such as ``90``, ``60s``, ``10m`` or ``1h`` in seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    word = text.strip().lower()
    number, unit = (word[:-1], units[word[-1]]) if word[-1:] in units else (word, 1)
    if not (number.isascii() and number.isdigit() and 0 < len(number) <= 6) or not 10 <= int(number) * unit <= 86400:
        raise SettingsInvalid(f"--window {text[:40]!r}: write a time from 10s to 24h, such as 60s or 10m")
    return int(number) * unit


@app.command()
@_command
def rollback(
    change: Annotated[str | None, typer.Argument(help="Its id, or the beginning of it.", metavar="CHANGE")] = None,
    person: AsOption = None,
    comment: CommentOption = "",
    preview: Annotated[bool, typer.Option("--preview", help="Show what would be written, and write nothing.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List what can be rolled back.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take a change back, at once.

    The command is the approval, and of the exact inverse only.
    """
    from advisor.terminal import approval as screen

    if listing:
        return _list_rollbacks(_workflow(config), as_json)
    if change is None:
        raise SettingsInvalid("rollback: which change? `advisor rollback --list` shows those that stand")
    who = None if preview else _person(person)
    workflow = _workflow(config)
    made = None
    if who is not None:
        _Stopped.message = "stopped in the middle of the rollback; `advisor changes` says whether it was made"
        made = workflow.finish_rollback(change, who)
    if made is None:
        plan = workflow.plan_rollback(change)
        if not as_json:
            _console().print(screen.draw_rollback(plan))
        if who is None:
            return _write_json(plan.model_dump(mode="json")) if as_json else None
        made = workflow.roll_back(plan.change_id, who, comment, plan)
    _Stopped.message = f"stopped after the rollback was made as change {made.id}"
    if as_json:
        return _write_json(made.model_dump(mode="json"))
    _console().print(screen.draw_change(made))


def _list_rollbacks(workflow: Workflow, as_json: bool) -> None:
    from advisor.lifecycle import ON_BRANCH

    standing = {state.value for state in ON_BRANCH}
    found = [(c, state) for c, state in workflow.changes() if state in standing]
    if as_json:
        return _write_json([{**c.model_dump(mode="json"), "state": state} for c, state in found])
    from advisor.terminal.tables import print_changes

    print_changes(_console(), found)


# --- bundles, audit, playbooks -----------------------------------------------------------------------------------------


@app.command()
@_command
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
            _write_json(found.report)
        else:
            console = _console(svg)
            print_investigation(console, found)
            _finish_svg(console, svg, f"advisor replay {bundle.name}")
    return _outcome_code(found.report)


@app.command()
@_command
def export(
    incident: Annotated[str, typer.Argument(help="Its id, or the beginning of it.", metavar="INCIDENT")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to.", metavar="FILE", show_default=False)
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write an incident as a file for `replay`."""
    notes: list[str] = []
    written = _workflow(config).export(incident, output, notes)
    for note in notes:
        sys.stderr.write(f"advisor: {note}\n")
    sys.stdout.write(f"{written}\n")


@app.command("eval")
@_command
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
    if report is not None:
        prepare_folder(report)
    _Stopped.message = "stopped; nothing was written"
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
        _write_json(document(found))
    else:
        print_evaluation(_console(), found)
    if report is not None:
        for note in write_report(found, report):
            sys.stderr.write(f"advisor: {note}\n")
    for failure in found.failures:
        part = f" without {failure.part.value}" if failure.part else ""
        _say(f"{failure.name}{part}: could not be run: {failure.reason}", 1)
    return 1 if found.failures else 0


@audit_app.command("verify")
@_command
def audit_verify(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Check that no entry was edited, removed, inserted or cut off."""
    count = _workflow(config).audit_verify()
    if as_json:
        return _write_json({"entries": count, "whole": True})
    sys.stdout.write(f"{count} entries, chain whole\n")


@audit_app.command("show")
@_command
def audit_show(
    limit: Annotated[int, typer.Option(help="How many of the newest.", min=1, max=100_000)] = AUDIT_ENTRIES,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the newest entries, oldest of them first."""
    entries = _workflow(config).audit_entries(limit)
    if as_json:
        return _write_json([entry.model_dump(mode="json") for entry in entries])
    from advisor.terminal.tables import print_audit

    print_audit(_console(), entries)


@playbooks_app.command("list")
@_command
def playbooks_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the playbooks."""
    found = _workflow(config, needed=False).playbooks
    if as_json:
        return _write_json([playbook.model_dump(mode="json") for playbook in found])
    from advisor.terminal.tables import print_playbooks

    print_playbooks(_console(), found)


@playbooks_app.command("show")
@_command
def playbooks_show(
    name: Annotated[str, typer.Argument(help="Its name.", metavar="NAME")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show one playbook."""
    from advisor.errors import PlaybookUnknown

    found = {playbook.name: playbook for playbook in _workflow(config, needed=False).playbooks}
    if name not in found:
        raise PlaybookUnknown(f"no playbook {name!r} (known: {', '.join(found) or 'none'})")
    if as_json:
        return _write_json(found[name].model_dump(mode="json"))
    from advisor.terminal.tables import print_playbook

    print_playbook(_console(), found[name])


@playbooks_app.command("lint")
@_command
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
        workflow = _workflow(config, needed=False)
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
            code = _say(str(error), error.exit_code)
        except (OSError, UnicodeDecodeError) as error:
            code = _say(f"playbook {path}: cannot be read: {one_line(str(error), 160)}", 2)
        else:
            sys.stdout.write(f"{path}: well formed\n")
    return code


app.add_typer(audit_app, name="audit")
app.add_typer(playbooks_app, name="playbooks")


@app.command()
@_command
def version() -> None:
    """Show the version."""
    _show_version(True)
