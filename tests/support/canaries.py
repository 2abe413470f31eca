"""A thousand secrets of forty kinds, each once in the world, and the ways in which one of them could be seen again."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

WINDOW = 10  # characters: a piece of a secret as long as this is the secret, and meets nothing else by chance


@dataclass(frozen=True)
class Canary:
    """One secret and the text it stands in.

    Attributes:
        kind: Which of the forty forms.
        secret: What must not be seen again.
        text: What is planted.
    """

    kind: str
    secret: str
    text: str


_CHANCE = random.Random(1000)  # repeatable, nothing secret
_MIXED = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"


def _made(size: int, alphabet: str = _MIXED) -> str:
    return "".join(_CHANCE.choice(alphabet) for _ in range(size))


def _password() -> str:
    return _made(6) + _CHANCE.choice("!%+*_-") + _made(9)


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _jwt(middle: str) -> str:
    return f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{middle}"


# What is made, and what it stands in; one line each, so that every place can hold it.
KINDS: dict[str, tuple[Callable[[], str], Callable[[str], str]]] = {
    "yaml password": (_password, lambda s: f"password: {s}"),
    "environment": (_password, lambda s: f"DB_PASSWORD={s}"),
    "java property": (_password, lambda s: f"java -Dspring.datasource.password={s} -Xmx1g"),
    "spring property": (_password, lambda s: f"spring.datasource.password={s}"),
    "URL user": (lambda: _made(16), lambda s: f"connecting to postgres://app:{s}@db.example.org:5432/shop"),
    "URL without user": (lambda: _made(16), lambda s: f"redis://:{s}@cache:6379/0"),
    "JDBC parameter": (lambda: _made(16), lambda s: f"jdbc:mysql://db/shop?user=app&password={s}&ssl=true"),
    "JDBC semicolon": (lambda: _made(16), lambda s: f"jdbc:sqlserver://db;user=app;password={s};encrypt=true"),
    "bearer": (lambda: _made(32), lambda s: f"Authorization: Bearer {s}"),
    "basic": (_password, lambda s: f"Authorization: Basic {_b64('app:' + s)}"),
    "nginx header": (_password, lambda s: f'proxy_set_header Authorization "Basic {_b64("app:" + s)}";'),
    "cookie": (lambda: _made(24), lambda s: f"Cookie: lang=de; JSESSIONID={s}"),
    "set-cookie": (lambda: _made(24), lambda s: f"Set-Cookie: session={s}; Path=/; HttpOnly"),
    "API key header": (lambda: _made(24), lambda s: f"X-Api-Key: {s}"),
    "web token": (lambda: _made(40), lambda s: f"caller sent {_jwt(s)} and was refused"),
    "AWS id": (lambda: "AKIA" + _made(16, string.ascii_uppercase + "234567"), lambda s: f"signed by {s} in eu-west-1"),
    "AWS secret": (lambda: _made(40), lambda s: f"AWS_SECRET_ACCESS_KEY={s}"),
    "S3 key": (lambda: _made(40), lambda s: f"fs.s3a.secret.key={s}"),
    "Google key": (lambda: "AIza" + _made(35), lambda s: f"maps?key={s}&v=3"),
    "Azure account": (lambda: _made(64), lambda s: f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={s}=="),
    "Azure bus": (lambda: _made(43), lambda s: f"Endpoint=sb://x/;SharedAccessKeyName=Root;SharedAccessKey={s}="),
    "signed URL": (lambda: _made(43), lambda s: f"https://blob.example.org/c?se=2026&sig={s}%3D&sv=1"),
    "presigned": (lambda: _made(64, _HEX), lambda s: f"https://s3.example.org/o?X-Amz-Signature={s}&X-Amz-Expires=60"),
    "GitHub": (lambda: "ghp_" + _made(36), lambda s: f"cloned with {s} twice"),
    "GitLab": (lambda: "glpat-" + _made(20), lambda s: f"pushed with {s}"),
    "Slack": (lambda: "xoxb-1234567890-" + _made(24), lambda s: f"slack said invalid_auth for {s}"),
    "Stripe": (lambda: "sk_live_" + _made(24), lambda s: f"payment refused with {s}"),
    "OpenAI": (lambda: "sk-" + _made(48), lambda s: f"Incorrect API key provided: {s}"),
    "Vault": (lambda: "hvs." + _made(24), lambda s: f"vault answered 403 to {s}"),
    "npm": (lambda: "npm_" + _made(36), lambda s: f"//registry.example.org/:_authToken={s}"),
    "redis password": (_password, lambda s: f"requirepass {s}"),
    "redis renamed": (lambda: _made(40, _HEX), lambda s: f"rename-command CONFIG {s}"),
    "template default": (lambda: _made(16), lambda s: f'password: {{{{ .Values.db.password | default "{s}" }}}}'),
    "spring default": (lambda: _made(16), lambda s: f"password: ${{DB_PASSWORD:{s}}}"),
    "JSON": (_password, lambda s: f'{{"user":"app","client_secret":"{s}","port":5432}}'),
    "JSON in JSON": (lambda: _made(16), lambda s: f'{{"body":"{{\\"password\\":\\"{s}\\"}}"}}'),
    "private key": (
        lambda: _made(64),
        lambda s: f'{{"private_key":"-----BEGIN PRIVATE KEY-----\\nMIIE{s}\\n-----END PRIVATE KEY-----\\n"}}',
    ),
    "kubeconfig": (lambda: _made(44), lambda s: f"client-key-data: {s}"),
    "command line": (_password, lambda s: f"curl -u app:{s} https://example.org/health"),
    "prose": (_password, lambda s: f"the password is {s} for now"),
}


def make_canaries(count: int = 1000) -> tuple[Canary, ...]:
    """Return so many canaries, the kinds in turn."""
    kinds = list(KINDS.items())
    out = []
    for number in range(count):
        name, (make, plant) = kinds[number % len(kinds)]
        secret = make()
        out.append(Canary(name, secret, plant(secret)))
    return tuple(out)


def forms_of(secret: str) -> Iterator[str]:
    """Yield a secret as it is and as it is written elsewhere."""
    raw = secret.encode()
    yield secret
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")
    yield raw.hex()
    yield raw.hex().upper()
    for shift in range(3):  # where in a group of three bytes it may begin
        encoded = base64.b64encode(b"\0" * shift + raw + b"\0\0").decode()
        middle = encoded[(0, 2, 3)[shift] : (len(raw) + shift) * 8 // 6]
        yield middle
        yield middle.replace("+", "-").replace("/", "_")


class Seen:
    """Looks for pieces of canaries in whatever the product left or said."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        """Learn every piece of ten characters of every form."""
        self._pieces: dict[str, Canary] = {}
        common = {piece for text in _COMMON for piece in _windows(text)}
        for canary in canaries:
            for form in forms_of(canary.secret):
                self._pieces.update(dict.fromkeys(_windows(form) - common, canary))

    def __call__(self, text: str) -> dict[str, str]:
        """Return the secrets of which a piece stands in the text, with their kinds."""
        pieces = self._pieces
        return {
            found.secret: found.kind
            for at in range(len(text) - WINDOW + 1)
            if (found := pieces.get(text[at : at + WINDOW])) is not None
        }


_COMMON = ("xoxb-1234567890-", *(form for form in forms_of("xoxb-1234567890-")))  # the same in every one of its kind


def _windows(text: str) -> set[str]:
    return {text[at : at + WINDOW] for at in range(len(text) - WINDOW + 1)}
