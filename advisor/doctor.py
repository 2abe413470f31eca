"""Doctor: asks each configured part one small question and says what to do where it does not answer."""

from __future__ import annotations

import glob
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from advisor.approval import signers_of
from advisor.approval.rules import may_approve
from advisor.errors import AdvisorError
from advisor.evidence import MetricRequest
from advisor.settings import Settings
from advisor.workflow import Workflow


@dataclass(frozen=True)
class DoctorLine:
    """How one part is.

    Attributes:
        ok: None where nothing is wrong, but something is worth knowing.
        hint: What to do; empty where all is well.
    """

    name: str
    ok: bool | None
    detail: str
    hint: str = ""
    seconds: float = 0.0


def examine(workflow: Workflow) -> list[DoctorLine]:
    """Return how each part is, in the order in which an investigation needs them."""
    settings = workflow.settings
    lines = [
        _timed("git", _git),
        _timed("store", lambda: f"{workflow.store.verify_audit()} audit entries, chain whole"),
    ]
    if settings.prometheus is None:
        lines.append(
            DoctorLine(
                "prometheus", False, "not configured", "set prometheus.url; without metrics nothing is diagnosed"
            )
        )
    else:
        lines.append(_timed("prometheus", lambda: _prometheus(workflow)))
    for name in settings.repositories:
        lines.append(_timed(f"repository {name}", lambda name=name: f"head {workflow.repository(name).head()[:12]}"))  # type: ignore[misc]
        if settings.repositories[name].forge is not None:
            lines.append(_timed(f"repository {name}: forge", lambda name=name: workflow.forge(name).check()))  # type: ignore[misc]
        if settings.repositories[name].signing_key_file is not None:
            lines.append(_timed(f"repository {name}: signing", lambda name=name: _signing(workflow, name)))  # type: ignore[misc]
    for name, service in settings.services.items():
        if settings.prometheus is not None:
            lines.append(_timed(f"service {name}: metrics", lambda s=service.selector: _series(workflow, s)))  # type: ignore[misc]
        if service.configuration is None:
            lines.append(
                DoctorLine(
                    f"service {name}: configuration",
                    False,
                    "not configured",
                    f"set services.{name}.configuration; without it no change can be found",
                )
            )
        patterns = [p for entry in service.logs for p in entry.files]
        found = sum(len(glob.glob(str(settings.path(p)), recursive=True)) for p in patterns)
        if patterns:
            lines.append(
                DoctorLine(
                    f"service {name}: logs",
                    bool(found),
                    f"{found} files",
                    "" if found else f"no file matches {', '.join(patterns)}",
                )
            )
        else:
            lines.append(
                DoctorLine(
                    f"service {name}: logs", None, "not configured", f"set services.{name}.logs to see exceptions"
                )
            )
    if not settings.services:
        lines.append(DoctorLine("services", False, "none configured", "add one under services:"))
    lines.append(_approvers(settings))
    return lines


def _approvers(settings: Settings) -> DoctorLine:
    """Return who may approve, and which of them sign with a key of their own."""
    people = sorted(may_approve(settings.approval))
    if not people:
        return DoctorLine("approvers", False, "nobody may approve", "list people under approval.approvers")
    repository = settings.guarded_by_itself
    if repository is not None:
        told = f"advisor.yaml lies inside repository {repository}, so every approval is refused"
        return DoctorLine("approvers", False, told, "move advisor.yaml outside it")
    told = ", ".join(f"{person} (signs)" if signers_of(settings.approval, person) else person for person in people)
    if any(signers_of(settings.approval, person) for person in people) and shutil.which("ssh-keygen") is None:
        return DoctorLine("approvers", False, told, "install ssh-keygen (package openssh-client): signatures need it")
    return DoctorLine("approvers", True, told)


def _timed(name: str, ask: Callable[[], str]) -> DoctorLine:
    began = time.monotonic()
    try:
        detail = ask()
    except AdvisorError as error:
        return DoctorLine(name, False, str(error), seconds=time.monotonic() - began)
    return DoctorLine(name, True, detail, seconds=time.monotonic() - began)


def _git() -> str:
    try:
        done = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AdvisorError(f"git does not run ({type(error).__name__}); install git 2.30 or newer") from error
    return done.stdout.strip()


def _signing(workflow: Workflow, name: str) -> str:
    from advisor.adapters.git_repository.signing import check_signing_key

    key = workflow.settings.repositories[name].signing_key_file
    return f"ssh-ed25519 {check_signing_key(workflow.settings.path(key)).name}" if key is not None else "not configured"


def _prometheus(workflow: Workflow) -> str:
    info = workflow.prometheus().build_info()
    return f"version {getattr(info, 'version', info)}"


def _series(workflow: Workflow, selector: str) -> str:
    now = workflow.clock()
    answer = workflow.prometheus().query_range(
        MetricRequest(query=f"count({{{selector}}})", start=now - timedelta(minutes=5), end=now, step_seconds=300)
    )
    count = max((v for s in answer.series for v in s.values), default=0)
    if not count:
        raise AdvisorError(
            f"no series matches {{{selector}}} in the last five minutes; check the selector, or whether the target is scraped"
        )
    return f"{int(count)} series"
