"""Options with which a person shows, by an SSH key of their own, that an answer is theirs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from advisor.errors import SettingsInvalid

SIGNATURE_BYTES_MAX = 64 * 1024  # four times what is accepted: a wrong file is told from a long one

SignWithOption = Annotated[
    Path | None,
    typer.Option(
        "--sign-with",
        envvar="ADVISOR_SIGN_WITH",
        help="Sign with this SSH key: the private one, or the public one of a key in ssh-agent.",
        metavar="KEYFILE",
        show_default=False,
    ),
]
SignatureOption = Annotated[
    Path | None,
    typer.Option(
        "--signature", help="Hand in a signature that was made elsewhere.", metavar="FILE", show_default=False
    ),
]
StatementOption = Annotated[
    bool, typer.Option("--print-statement", help="Print exactly the bytes to be signed, and do nothing.")
]


def signer_of(sign_with: Path | None, signature: Path | None = None) -> Callable[[bytes], str] | None:
    """Return what signs a statement, or hands in the signature that was made of it; None where neither is asked for.

    Raises:
        SettingsInvalid: The file cannot be read.
    """
    if signature is not None:
        # Beside the variable of the environment a file that was named for this one answer counts.
        made = _read(signature)
        return lambda _statement: made
    if sign_with is None:
        return None
    key = sign_with

    def sign(statement: bytes) -> str:
        from advisor.adapters import ssh_signatures

        return ssh_signatures.sign(statement, key)

    return sign


def write_statement(statement: bytes) -> None:
    """Print a statement, and nothing else, on standard output."""
    sys.stdout.flush()
    sys.stdout.buffer.write(statement)
    sys.stdout.buffer.flush()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIGNATURE_BYTES_MAX + 1)
    except OSError as error:
        raise SettingsInvalid(f"--signature {path}: cannot be read: {error.strerror}; nothing was changed") from error
    if len(data) > SIGNATURE_BYTES_MAX:
        raise SettingsInvalid(f"--signature {path}: too large for an SSH signature; nothing was changed")
    return data.decode("ascii", "replace")
