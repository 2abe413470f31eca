"""Public keys and signatures of SSH, read as data: what is configured, and what was handed in.

Nothing is verified here: `ssh-keygen` does that, behind the adapter. What is checked is that an entry is a plain public
key of a kind that is safe to trust, and that a signature has exactly one written form, so that a flipped byte anywhere in
it is another signature. Pure; called by the settings, by `deciding` and `granting`, and by the offline proof.

Source: OpenSSH PROTOCOL.sshsig (blob), sshd(8) and ssh-keygen(1) (keys, ALLOWED SIGNERS).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from advisor.errors import SettingsInvalid, SignatureRefused, one_line
from advisor.values import Record

NAMESPACE = "ops-advisor"  # a signature made for git or mail can never pass for an answer
SIGNATURE_BYTES_MAX = 16 * 1024  # of an RSA key of 16,384 bits it is 5,600
KEY_CHARACTERS_MAX = 8 * 1024
SIGNERS_MAX = 10_000
RSA_BITS_MIN = 2048
KEY_TYPES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_COLUMNS = 70  # of the armor that ssh-keygen writes
_HASHES = (b"sha256", b"sha512")
_FIELD = re.compile(r'(?:"[^"]*"|[^\s"])+')
_OPTION = re.compile(r'[a-z-]+(?:="[^"]*")?')
_TIME = re.compile(r"\d{8}(\d{4}(\d{2})?)?Z?")


class SshSignature(Record):
    """An SSH signature, taken apart.

    Attributes:
        armored: Its one written form.
        fingerprint: Of the public key inside, as ssh-keygen writes it.
    """

    armored: str
    fingerprint: str


def read_signature(text: str) -> SshSignature:
    """Return a signature as it is kept; line ends and outer blanks of a file make no other one.

    Raises:
        SignatureRefused: Not one, for another purpose, or cut or changed on its way.
    """
    if len(text) > SIGNATURE_BYTES_MAX:
        raise SignatureRefused(f"the signature has {len(text)} characters; it is no SSH signature")
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise SignatureRefused(
            f"the signature does not stand between {_BEGIN} and {_END}; ssh-keygen -Y sign makes one"
        )
    data = _strict_base64("".join(lines[1:-1]), "the signature")
    try:
        if data[:6] != _MAGIC or data[6:10] != b"\0\0\0\1":
            raise ValueError
        key, rest = _string(data[10:])
        namespace, rest = _string(rest)
        _reserved, rest = _string(rest)
        algorithm, rest = _string(rest)
        _signature, rest = _string(rest)
        if rest or algorithm not in _HASHES:
            raise ValueError
    except ValueError as error:
        raise SignatureRefused("the signature is damaged: it is no SSH signature of version 1") from error
    if namespace != NAMESPACE.encode():
        shown = one_line(namespace[:40].decode("utf-8", "replace"), 40)
        raise SignatureRefused(f"the signature is for {shown!r}, not for {NAMESPACE!r} (ssh-keygen -n {NAMESPACE})")
    return SshSignature(armored=_armor(data), fingerprint=_fingerprint(key))


def read_signer(text: str, where: str) -> str:
    """Return a public key as it is kept: options, type and key, without the comment.

    Args:
        text: As in ``authorized_keys``, with the options of ssh-keygen's allowed signers.
        where: What to name when it is refused.

    Raises:
        SettingsInvalid: Not a public key, or of a kind that is not accepted.
    """
    if len(text) > KEY_CHARACTERS_MAX or not text.isprintable():
        raise SettingsInvalid(f"{where}: not one line with a public key")
    options, words = _split_options(text.strip(), where)
    if len(words) < 2:
        raise SettingsInvalid(f"{where}: a public key is wanted, such as 'ssh-ed25519 AAAA…' (the text of a .pub file)")
    kind, encoded = words[0], words[1]
    if kind not in KEY_TYPES:
        known = ", ".join(KEY_TYPES)
        raise SettingsInvalid(f"{where}: keys of type {one_line(kind, 60)!r} are not accepted (accepted: {known})")
    try:
        _check_key(kind, _strict_base64(encoded, "the key"))
    except (ValueError, SignatureRefused) as error:
        raise SettingsInvalid(
            f"{where}: the key of type {kind} is damaged or too weak ({one_line(str(error), 80)})"
        ) from error
    return " ".join([*([",".join(options)] if options else []), kind, encoded])


def read_allowed_signers(text: str, name: str) -> dict[str, tuple[str, ...]]:
    """Return the keys of each person in a file of ssh-keygen's allowed-signers format.

    Raises:
        SettingsInvalid: A line that is not ``PERSON[,PERSON] [OPTIONS] TYPE KEY``, or one with a pattern for a name: it
            would let one key answer for people whom nobody wrote down.
    """
    found: dict[str, tuple[str, ...]] = {}
    lines = text.splitlines()
    if len(lines) > SIGNERS_MAX:
        raise SettingsInvalid(f"{name}: {len(lines)} lines; at most {SIGNERS_MAX}")
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        people, *rest = line.split(None, 1)
        if any(c in people for c in '*?!"'):
            raise SettingsInvalid(
                f"{name}: line {number}: {one_line(people, 60)!r} is a pattern; write each person out"
            )
        entry = read_signer("".join(rest), f"{name}: line {number}")
        for person in people.split(","):
            found[person] = (*found.get(person, ()), entry)
    return found


def fingerprint_of(signer: str) -> str:
    """Return the fingerprint of a kept public key, as ssh-keygen and forges show it."""
    return _fingerprint(base64.b64decode(signer.rpartition(" ")[2]))


def key_of(signer: str) -> str:
    """Return the key itself, without the options that bound its use."""
    return signer.rpartition(" ")[2]


def _split_options(text: str, where: str) -> tuple[list[str], list[str]]:
    first = match[0] if (match := _FIELD.match(text)) else ""
    if '="' not in first and first != "cert-authority":
        return [], text.split()
    written = _OPTION.findall(first)
    if ",".join(written) != first:
        raise SettingsInvalid(f"{where}: the options {one_line(first, 60)!r} cannot be read")
    return [_option(option, where) for option in written], text[len(first) :].split()


def _option(option: str, where: str) -> str:
    name, _, quoted = option.partition("=")
    value = quoted.strip('"')
    if name in ("valid-after", "valid-before") and _TIME.fullmatch(value):
        # Times are handed over in UTC; ssh-keygen before 9.1 does not read the letter that would say so.
        return f'{name}="{value.removesuffix("Z")}"'
    if name == "namespaces":
        if NAMESPACE not in value.split(","):
            raise SettingsInvalid(f"{where}: namespaces must name {NAMESPACE}, or the key can sign no answer")
        return f'{name}="{value}"'
    raise SettingsInvalid(
        f"{where}: option {one_line(name, 40)!r} is not accepted (accepted: namespaces, and valid-after and valid-before"
        " with YYYYMMDD[HHMM[SS]] in UTC)"
    )


def _check_key(kind: str, blob: bytes) -> None:
    inner, rest = _string(blob)
    if inner != kind.encode():
        raise ValueError(f"inside it says {one_line(inner[:40].decode('utf-8', 'replace'), 40)}")
    parts = 0
    while rest:
        part, rest = _string(rest)
        parts += 1
        if kind == "ssh-rsa" and parts == 2 and int.from_bytes(part, "big").bit_length() < RSA_BITS_MIN:
            raise ValueError(f"an RSA key needs {RSA_BITS_MIN} bits")
        if kind == "ssh-ed25519" and len(part) != 32:
            raise ValueError("an Ed25519 key has 32 bytes")
    if parts < 1:
        raise ValueError("it is empty")


def _string(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 or len(data) - 4 < size:
        raise ValueError("it ends too early")
    return data[4 : 4 + size], data[4 + size :]


def _strict_base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureRefused(f"{what} is damaged: not base64") from error
    if base64.b64encode(data).decode() != text:  # bits that no byte uses could be flipped unseen
        raise SignatureRefused(f"{what} is damaged: not base64 in its one form")
    return data


def _armor(data: bytes) -> str:
    encoded = base64.b64encode(data).decode()
    body = [encoded[i : i + _COLUMNS] for i in range(0, len(encoded), _COLUMNS)]
    return "\n".join([_BEGIN, *body, _END]) + "\n"


def _fingerprint(blob: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
