"""Makes and verifies SSH signatures with `ssh-keygen -Y`, so that no private key ever comes near this program.

The statement goes in on standard input, the signature comes out or lies in a private temporary folder for the moment of
the check. No shell, no configuration of the user's, one deadline. Called by the workflow.

Source: ssh-keygen(1), ``-Y sign`` and ``-Y verify`` (OpenSSH 8.2 and later).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from advisor.approval.ssh_keys import KEY_TYPES, NAMESPACE, read_signature
from advisor.errors import SettingsInvalid, SignatureRefused, one_line

VERIFY_SECONDS = 10.0  # it takes 5 ms; a machine under full load needs far less than this
SIGN_SECONDS = 120.0  # a person types a passphrase, or looks for the token to touch
KEY_FILE_BYTES_MAX = 64 * 1024  # a private key of 16,384 bits has 13 KB
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR")  # and for signing the agent
_FOR_SIGNING = ("SSH_AUTH_SOCK", "SSH_SK_PROVIDER", "SSH_SK_HELPER", "TERM")
# What ssh-keygen says, and what a person should read instead. That the file is there was looked at before.
_SAID = (
    (
        "incorrect passphrase",
        "the passphrase was not given or is wrong; at a terminal it is asked for, else use ssh-agent",
    ),
    ("are too open", "others may read the private key, so ssh-keygen does not use it; chmod 600 it"),
    ("no private key found", "no private key for it here and none in ssh-agent (ssh-add it, or name the private key)"),
    ("permission denied", "it may not be read"),
    ("couldn't load public key", "it is no SSH key"),
    ("error in libcrypto", "it is no SSH key"),
    ("invalid format", "it is no SSH key"),
    ("agent refused", "ssh-agent refused to sign with it"),
    ("device not found", "its hardware token is not plugged in"),
    ("unknown option", "this ssh-keygen cannot sign; OpenSSH 8.2 or later is needed"),
    ("illegal option", "this ssh-keygen cannot sign; OpenSSH 8.2 or later is needed"),
)


def sign(statement: bytes, key_file: Path) -> str:
    """Return the armored signature of a person's key over a statement.

    Args:
        statement: As `approval.statement_of` gives it.
        key_file: A private key, or the public one of a key that ssh-agent holds. A passphrase is asked for by ssh-keygen
            itself, at the terminal; without one it ends at once.

    Raises:
        SettingsInvalid: The key cannot be used, or ssh-keygen is missing; nothing was signed.
    """
    path = key_file.expanduser()
    if not path.is_file():  # a pipe or a folder would keep ssh-keygen waiting
        raise SettingsInvalid(f"--sign-with {path}: there is no such file; nothing was signed")
    if path.stat().st_size > KEY_FILE_BYTES_MAX:
        raise SettingsInvalid(f"--sign-with {path}: too large for an SSH key; nothing was signed")
    arguments = ["-Y", "sign", "-f", str(path.absolute()), "-n", NAMESPACE]
    try:
        done = _run(arguments, statement, (*_INHERITED, *_FOR_SIGNING), SIGN_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise SettingsInvalid(
            f"--sign-with {path}: nothing happened in {SIGN_SECONDS:.0f} s; nothing was signed"
        ) from error
    if done.returncode != 0:
        raise SettingsInvalid(f"--sign-with {path}: {_explain(done.stderr)}; nothing was signed")
    return read_signature(done.stdout.decode("ascii", "replace")).armored


def verify(person: str, statement: bytes, signature: str, signers: tuple[str, ...], at: datetime) -> str:
    """Return the one of a person's public keys that a signature verifies with.

    Args:
        person: Whose signature it is said to be.
        statement: Exactly the bytes that were signed.
        signature: Armored.
        signers: That person's keys as `ssh_keys.read_signer` keeps them.
        at: When the key must have been valid.

    Raises:
        SignatureRefused: It verifies with none of them, or cannot be verified here.
    """
    armored = read_signature(signature).armored
    if not signers:
        raise SignatureRefused(f"the signature of {person}: no key of theirs is configured")
    when = at.astimezone(UTC).strftime("%Y%m%d%H%M%S")
    try:
        with tempfile.TemporaryDirectory(prefix="advisor-signature-") as folder:  # made with owner-only access
            place = Path(folder)
            (place / "signature").write_text(armored, encoding="ascii")
            for signer in signers:
                # One at a time: which one it was goes on record. The name is ours, so no pattern can match it.
                (place / "signers").write_text(f"signer {signer}\n", encoding="ascii")
                arguments = ["-Y", "verify", "-f", str(place / "signers"), "-I", "signer", "-n", NAMESPACE]
                arguments += ["-s", str(place / "signature"), f"-Overify-time={when}"]
                if _run(arguments, statement, _INHERITED, VERIFY_SECONDS).returncode == 0:
                    return signer
    except subprocess.TimeoutExpired as error:
        raise SignatureRefused(
            f"the signature of {person}: ssh-keygen said nothing in {VERIFY_SECONDS:.0f} s"
        ) from error
    except OSError as error:
        raise SignatureRefused(f"the signature of {person} cannot be verified here: {error.strerror}") from error
    except SettingsInvalid as error:
        raise SignatureRefused(f"the signature of {person} cannot be verified here: {error}") from error
    raise SignatureRefused(
        f"the signature of {person} does not verify: it is by another key, over another statement (another proposal, comment"
        " or option), or its key is not valid at that time"
    )


def _run(
    arguments: list[str], statement: bytes, inherited: tuple[str, ...], seconds: float
) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SettingsInvalid("ssh-keygen is not on PATH; it comes with OpenSSH (package openssh-client)")
    environment = {name: os.environ[name] for name in inherited if name in os.environ}
    # UTC: times of keys are read in the local zone otherwise. No askpass program: nothing but ssh-keygen may run.
    environment |= {"LC_ALL": "C", "TZ": "UTC", "SSH_ASKPASS_REQUIRE": "never"}
    return subprocess.run(
        [program, *arguments], input=statement, capture_output=True, timeout=seconds, env=environment, check=False
    )


def _explain(stderr: bytes) -> str:
    words = one_line(stderr.decode("utf-8", "replace"), 300)
    told = next((reason for said, reason in _SAID if said in words.lower()), None)
    return told or f"ssh-keygen says: {words or 'nothing'} (keys it can sign with: {', '.join(KEY_TYPES)})"
