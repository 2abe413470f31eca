"""The data of Kubernetes Secrets, masked by structure: whatever the key is called, each value below `data` is a secret.

Works on text, so that comments, layout and diffs stay: YAML documents (also items of a List, and with the marks of a diff),
and JSON on one line or many, escaped or not, as the last-applied annotation holds it.
"""

from __future__ import annotations

import re

from advisor.redaction.names import LIKELY, is_harmless
from advisor.redaction.pseudonyms import MARK, Hiding

_KIND = re.compile(r"(?:^|\n)[ \t+-]{0,40}kind:[ \t]*[\"']?(?:Sealed)?Secret[\"']?[ \t]*\r?(?=\n|$)")
_JSON_KIND = re.compile(r"\\{0,3}[\"']kind\\{0,3}[\"']\s{0,3}:\s{0,3}\\{0,3}[\"']Secret\\{0,3}[\"']")
_BLOCK = re.compile(r"^(?P<margin>[ \t+-]*)(?:data|stringData|binaryData):[ \t]*(?:#.*)?\r?$")
_ENTRY = re.compile(
    r"^(?P<before>(?P<margin>[ \t+-]*)[\"']?[\w.\-/]{1,253}[\"']?:[ \t]+)(?P<secret>\S.*?)(?P<after>[ \t]*(?:\s#.*)?\r?)$"
)
_FLOW = re.compile(r"^(?P<before>[ \t+-]*(?:data|stringData):[ \t]*\{)(?P<inside>[^{}\n]{1,4000})(?P<after>\}.*)$")
_FLOW_ENTRY = re.compile(r"(?P<before>:[ \t]{1,4}[\"']?)(?P<secret>[^\s,\"'{}‹][^,\"'{}]{0,2000})")
_JSON_DATA = re.compile(r"\\{0,3}[\"'](?:data|stringData)\\{0,3}[\"']\s{0,3}:\s{0,3}\{")
_JSON_ENTRY = re.compile(
    r"(?P<before>\\{0,3}[\"']\s{0,3}:\s{0,3}(?P<quote>\\{0,3}[\"']))(?P<secret>[^\"'\\{}\n]{1,4000})(?=(?P=quote))"
)
_JSON_CHARACTERS_MAX = 200_000


def without_manifest_data(text: str, hide: Hiding) -> str:
    """Return the text without the data of Secret manifests."""
    if "Secret" not in text or "ata" not in text:
        return text
    if _JSON_KIND.search(text):
        text = _without_json(text, hide)
    if _KIND.search(text):
        parts = re.split(r"(?m)(^[ \t+]*---[ \t]*\r?$)", text)
        text = "".join(_without_yaml(part, hide) if _KIND.search(part) else part for part in parts)
    return text


def _without_yaml(document: str, hide: Hiding) -> str:
    out = []
    inside: int | None = None  # the margin of the block being read
    scalar: int | None = None  # the margin of a block scalar's key in it
    for line in document.split("\n"):
        margin = len(line) - len(line.lstrip(" \t+-"))
        bare = line.strip(" \t+-\r")
        if inside is not None and bare and margin <= inside:
            inside = scalar = None
        if scalar is not None and bare and margin <= scalar:
            scalar = None
        if inside is None and (flow := _FLOW.match(line)):
            line = (
                flow["before"]
                + _FLOW_ENTRY.sub(lambda found: found["before"] + hide(found["secret"]), flow["inside"])
                + flow["after"]
            )
        elif inside is None:
            block = _BLOCK.match(line)
            inside = len(block["margin"]) if block else None
        elif scalar is not None:
            line = line[:margin] + hide(bare) if bare and not bare.startswith(MARK) else line
        elif entry := _ENTRY.match(line):
            if re.match(r"[|>][+-]?\d?$", entry["secret"]):
                scalar = margin
            elif not is_harmless(entry["secret"].strip("\"'"), LIKELY) or len(entry["secret"]) < 4:
                quote = (
                    entry["secret"][0]
                    if entry["secret"][0] in "\"'" and entry["secret"][-1] == entry["secret"][0]
                    else ""
                )
                value = entry["secret"].strip(quote) if quote else entry["secret"]
                if value and not value.startswith(MARK):
                    line = entry["before"] + quote + hide(value) + quote + entry["after"]
        out.append(line)
    return "\n".join(out)


def _without_json(text: str, hide: Hiding) -> str:
    out: list[str] = []
    position = 0
    while (begin := _JSON_DATA.search(text, position)) is not None:
        stop = text.find("}", begin.end(), begin.end() + _JSON_CHARACTERS_MAX)
        stop = stop if stop >= 0 else min(len(text), begin.end() + _JSON_CHARACTERS_MAX)
        out += [
            text[position : begin.end()],
            _JSON_ENTRY.sub(
                lambda found: found[0] if found["secret"].startswith(MARK) else found["before"] + hide(found["secret"]),
                text[begin.end() : stop],
            ),
        ]
        position = stop
    return "".join([*out, text[position:]])
