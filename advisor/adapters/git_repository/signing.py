"""Signing a commit with an SSH key, so that the id of the commit stays a function of what is in it.

Only Ed25519 keys sign the same bytes the same way each time. ECDSA and security-key signatures differ each time: the
same change would get another commit id after a crash, and could not be found again. So any other type is refused by
name, as is a key with a passphrase, since nobody is there to type it.

Used by `trees` when an approved commit is made; candidates of proposals are never signed.
"""

from __future__ import annotations

import base64
import binascii
import struct
from pathlib import Path

from advisor.errors import SettingsInvalid, one_line

KEY_BYTES_MAX = 64 * 1024  # an Ed25519 key file has 400 bytes
_BEGIN, _END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
_MAGIC = b"openssh-key-v1\0"


def check_signing_key(path: Path) -> Path:
    """Return the absolute path of a private key that signs the same bytes the same way each time.

    Raises:
        SettingsInvalid: It cannot be read, is of another type or form, or has a passphrase.
    """
    path = path.expanduser().absolute()
    try:
        with path.open("rb") as file:
            text = file.read(KEY_BYTES_MAX).decode("ascii", "replace")
    except OSError as error:
        raise SettingsInvalid(f"signing_key_file {path}: cannot be read: {error.strerror}") from error
    try:
        cipher, kind = _facts(text)
    except (ValueError, binascii.Error, struct.error) as error:
        raise SettingsInvalid(
            f"signing_key_file {path}: no OpenSSH private key; make one with `ssh-keygen -t ed25519 -N '' -f FILE`"
        ) from error
    if cipher != "none":
        raise SettingsInvalid(f"signing_key_file {path}: it has a passphrase, which nobody is there to type")
    if kind != "ssh-ed25519":
        raise SettingsInvalid(
            f"signing_key_file {path}: it is of type {one_line(kind, 40)}; only ssh-ed25519 signs a commit the same"
            " way each time, so that it is found again after a crash"
        )
    return path


def signing_environment(key: Path) -> dict[str, str]:
    """Return what ``git commit-tree -S`` needs in its environment; nothing else signs or is asked."""
    settings = (("gpg.format", "ssh"), ("gpg.ssh.program", "ssh-keygen"), ("user.signingkey", str(key)))
    found = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings):
        found |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def _facts(text: str) -> tuple[str, str]:
    """Return cipher and type of a private key; both stand in the part that is never encrypted."""
    begin, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    data = base64.b64decode("".join(text[begin:end].split()), validate=True)
    if not data.startswith(_MAGIC):
        raise ValueError("another format")
    cipher, rest = _string(data[len(_MAGIC) :])
    _, rest = _string(rest)  # how a passphrase becomes a key, and with which options
    _, rest = _string(rest)
    public, _ = _string(rest[4:])  # after the number of keys, which is one
    kind, _ = _string(public)
    return cipher.decode("ascii"), kind.decode("ascii")


def _string(data: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack(">I", data[:4])
    if len(data) < 4 + size:
        raise ValueError("cut")
    return data[4 : 4 + size], data[4 + size :]
