"""Replays a bundle: the same steps on the recorded answers, the recorded clock and a copy of the recorded history.

Called by the command line's ``replay``, by the demo and by the evaluation. Nothing outside the given folder is read or written.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from advisor.bundle import Bundle
from advisor.errors import SettingsInvalid, one_line
from advisor.gathering import Progress
from advisor.settings import Model, Settings
from advisor.values import parse_instant
from advisor.workflow import Investigation, Workflow

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Part(StrEnum):
    """What can be left out of a replay, to see what it is worth."""

    METRICS = "metrics"
    CHANGES = "changes"
    LOGS = "logs"
    TOPOLOGY = "topology"
    MECHANISMS = "mechanisms"


class RecordedClock:
    """A clock that stands still at an instant of the recording until it is moved on."""

    def __init__(self, at: datetime) -> None:
        """Begin at an instant."""
        self.at = at

    def __call__(self) -> datetime:
        """Return the recorded now."""
        return self.at


@dataclass(frozen=True)
class Replay:
    """A bundle unpacked into a folder, ready to be asked."""

    bundle: Bundle
    workflow: Workflow
    clock: RecordedClock
    service: str
    noticed_at: datetime | None
    until: datetime
    question: str

    def investigate(self, progress: Progress | None = None, keep: bool = False) -> Investigation:
        """Return what the recorded evidence says today."""
        return self.workflow.investigate(self.service, self.noticed_at, self.until, self.question, progress, keep)

    def move_clock(self, step: str, otherwise_seconds: int) -> None:
        """Move the clock to a recorded step, or on by some seconds where the recording does not have it."""
        recorded = self.bundle.manifest.get("clock", {}).get(step)
        moved = (
            parse_instant(recorded, self.clock.at) if recorded else self.clock.at + timedelta(seconds=otherwise_seconds)
        )
        self.clock.at = max(self.clock.at, moved)


def open_replay(path: Path, folder: Path, without: Collection[Part] = (), model: Model | None = None) -> Replay:
    """Return a bundle's replay, its repositories unpacked below a folder.

    Args:
        path: The bundle.
        folder: An empty one.
        without: As if these had never been configured, or known.
        model: Asked anew; by default the recorded answers of a model are played, where there are any.

    Raises:
        SettingsInvalid: Not a bundle, or one whose parts do not fit together.
        SourceError: The recorded repository is damaged.
    """
    bundle = Bundle.load(path)
    manifest = bundle.manifest
    try:
        incident, clock = manifest["incident"], manifest["clock"]
        start = parse_instant(clock["investigate"], datetime.min.replace(tzinfo=UTC))
        until = parse_instant(incident["until"], start)
        noticed = parse_instant(incident["noticed_at"], start) if incident.get("noticed_at") else None
        service, question = str(manifest["service"]), str(incident.get("question", ""))
        settings = _settings(manifest, folder)
        if service not in settings.services:
            raise KeyError(service)
        for part in ("clock", "heads"):
            if not isinstance(manifest.get(part, {}), dict):
                raise TypeError(f"{part} is no mapping")
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise SettingsInvalid(f"{path}: its manifest is not complete: {one_line(str(error), 160)}") from error
    for name, files in bundle.repositories.items():
        _unpack_repository(name, files, manifest, folder, path)
    recorded = RecordedClock(start)
    workflow = Workflow(leave_out(settings, service, without), recorded, bundle.tape, replay=True)
    if model is not None:
        workflow.settings = workflow.settings.model_copy(update={"model": model})
        workflow.live_model = True
    if Part.MECHANISMS in without:
        workflow.knobs = ()  # settled before anything reads the files
    return Replay(bundle, workflow, recorded, service, noticed, until, question)


@contextmanager
def replaying(path: Path, without: Collection[Part] = (), model: Model | None = None) -> Iterator[Replay]:
    """Yield a bundle's replay in a temporary folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="advisor-replay-"))
    try:
        yield open_replay(path, folder, without, model)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def leave_out(settings: Settings, service: str, parts: Collection[Part]) -> Settings:
    """Return the settings of somebody who never configured these parts; the coverage then says so by itself."""
    services = dict(settings.services)
    if Part.TOPOLOGY in parts:
        services = {service: services[service].model_copy(update={"depends_on": ()})}
    gone: dict[str, Any] = {}
    if Part.CHANGES in parts:
        gone["configuration"] = None
    if Part.LOGS in parts:
        gone["logs"] = ()
    services = {name: one.model_copy(update=gone) for name, one in services.items()}
    prometheus = None if Part.METRICS in parts else settings.prometheus
    return settings.model_copy(update={"services": services, "prometheus": prometheus})


def _settings(manifest: dict[str, Any], folder: Path) -> Settings:
    portable = manifest["settings"]
    branches = portable["branches"]
    return Settings.model_validate(
        {
            "prometheus": {"url": "http://recorded.invalid"} if portable["prometheus"] else None,
            "repositories": {
                name: {"url": f"./{_plain(name)}.git", "branch": branch} for name, branch in branches.items()
            },
            "services": portable["services"],
            "approval": portable["approval"],
            "verification": portable["verification"],
            "limits": portable["limits"],
            "model": portable.get("model"),
            "base": folder,
        }
    )


def _plain(name: str) -> str:
    """Return a repository's name if it can be a file's; a bundle may come from anywhere."""
    if not _NAME.fullmatch(name):
        raise SettingsInvalid(f"bundle: repository name {one_line(name, 60)!r} is not a plain word")
    return name


def _unpack_repository(name: str, files: dict[str, bytes], manifest: dict[str, Any], folder: Path, path: Path) -> None:
    """Write a recorded repository and set its branch to where it stood when the incident was recorded."""
    from advisor.adapters.git_repository import GitRepository

    raw, remote = folder / f"{_plain(name)}.raw", folder / f"{_plain(name)}.git"
    for relative, data in files.items():
        target = raw / relative
        if not target.resolve().is_relative_to(raw.resolve()):
            raise SettingsInvalid(f"{path}: member {one_line(relative, 80)} leads outside its repository")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (raw / "refs").mkdir(parents=True, exist_ok=True)  # an empty folder has no member in a zip, and git wants this one
    branch = str(manifest["settings"]["branches"].get(name, "main"))
    GitRepository.import_shallow(raw, remote, branch)
    shutil.rmtree(raw, ignore_errors=True)
    head = str(manifest.get("heads", {}).get(name, ""))
    if _COMMIT.fullmatch(head):
        reference = remote / "refs" / "heads" / branch
        if not reference.resolve().is_relative_to(remote.resolve()):
            raise SettingsInvalid(f"{path}: branch {one_line(branch, 60)!r} leads outside its repository")
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(head + "\n")
