"""Files of the workflow: example settings, the shipped data, whole writes."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from advisor.errors import (
    PlaybookInvalid,
    SettingsInvalid,
    one_line,
)

EXAMPLE_SETTINGS = """\
# Settings of the advisor. Unknown keys are refused; secrets stand in the environment or in files, never here.
store: sqlite:///advisor.db
model: null

prometheus:
  url: http://127.0.0.1:9090
  # bearer_token_env: PROMETHEUS_TOKEN       # also username with password_env or password_file, headers, ca_file

repositories:
  config: {url: ./config.git, branch: main}   # path, file://, ssh:// or https://; bare or not

services:
  checkout:
    selector: 'job="checkout"'                # label matchers put into every query of this service
    configuration: {repository: config, paths: ["apps/checkout/**"]}
    logs: [{files: ["logs/checkout*.log"]}]
    depends_on: []

approval:
  approvers: []                               # nobody may approve until you list people: ["alice@example.org"]
  two_person_from_risk: high
  expires_minutes: 30
"""


def write_example_settings(path: Path) -> None:
    """Write settings to begin with; a file that exists is left alone.

    Raises:
        SettingsInvalid: It exists, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE_SETTINGS)
    except FileExistsError as error:
        raise SettingsInvalid(f"{path} exists and was left alone; --config names another file") from error
    except OSError as error:
        raise SettingsInvalid(f"{path}: cannot be written: {error.strerror or error}") from error


def data_folder(name: str) -> Path:
    """Return where ``playbooks`` or ``ui`` lie: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "_data" / name
    return inside if inside.is_dir() else package.parent / name


def fresh_id(kind: str) -> str:
    """Return an id nobody has: what it is of, and 40 bits of chance."""
    return f"{kind}-{secrets.token_hex(5)}"


def read_text(path: Path) -> str:
    """Return the text of a playbook file.

    Raises:
        PlaybookInvalid: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlaybookInvalid(f"{path}: cannot be read: {one_line(str(error), 160)}") from error


def make_once(path: Path, data: bytes) -> None:
    """Make a file, owner-only and on the disk, whole or not at all; one that is there by then is left alone.

    Raises:
        OSError: It cannot be made.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # never over a file, which a rename would be
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder onto the disk: a file without its name is lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds all of it or none."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves the new name with nothing in it
        os.replace(temporary, path)
    except BaseException as error:  # whatever stops us, Ctrl-C too, must not leave half a file behind
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise SettingsInvalid(f"{path}: cannot be written: {error.strerror or error}") from error
        raise
