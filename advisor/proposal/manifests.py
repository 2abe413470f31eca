"""The guardrail of Kubernetes manifests: each stays the object it was, with fields an API server takes.

Pure, and without a schema file: the fields here are those that remedies touch (replicas, resources, ports, probes,
environment, labels), of the built-in kinds. A field is judged only where the edit made it what it is, so a manifest that
was odd before stays free to be repaired elsewhere. A cluster's own answer (a server-side dry run) is a `Guard` of its own,
given to `build_proposal` by whoever can reach one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from advisor.config_file import ConfigFile, Entry, plain_type, read_entries
from advisor.errors import SourceMalformed
from advisor.proposal.records import FileEdit, Guardrail
from advisor.values import ActionType

NAME = "manifest"
PORT_MAX = 65535
INTEGER_MAX = 2**31 - 1  # most of these fields are int32 in the API
_KINDS = frozenset(
    "Deployment StatefulSet DaemonSet ReplicaSet ReplicationController Pod Job CronJob Service Ingress ConfigMap Secret"
    " HorizontalPodAutoscaler PodDisruptionBudget PersistentVolumeClaim ResourceQuota LimitRange Rollout".split()
)
_ITEM = r'(?:\[(?:"(?:[^"\\]|\\.)*"|[^\]"]*)\])'
_MEMBER = rf"(?:\.[^.\[\]\":]+|{_ITEM})"
_QUANTITY = re.compile(r"[+-]?(\d+(?:\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,3})?")
_SCALES: dict[str | None, Decimal] = {
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": Decimal(1000), None: Decimal(1)},
    **{letter: Decimal(1000) ** n for n, letter in enumerate("MGTPE", start=2)},
    **{f"{letter}i": Decimal(1024) ** n for n, letter in enumerate("KMGTPE", start=1)},
}
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){0,14}")


class _Document(NamedTuple):
    """One document that is a manifest: what it is about, and its own values by key (nothing found inside a value)."""

    about: tuple[str, str, str, str]  # apiVersion, kind, namespace, name
    entries: dict[str, Entry]

    def __str__(self) -> str:
        version, kind, space, name = self.about
        return f"{version} {kind} {space + '/' if space else ''}{name or '(no name)'}"


def check_manifests(action: ActionType, edits: tuple[FileEdit, ...]) -> Guardrail | None:
    """Return whether the touched manifests are still what they were; None where no manifest is touched.

    A whole commit that is taken back may bring documents or take them away; no action may turn one object into
    another.
    """
    touched = 0
    for edit in edits:
        before, after = _read(edit.before, edit.path), _read(edit.after, edit.path)
        old = _manifests(before) if before is not None else []
        new = _manifests(after) if after is not None else []
        if not old and not new:
            continue
        touched += 1
        if edit.after is not None and after is None:
            return Guardrail(name=NAME, passed=False, detail=f"{edit.path}: it would not be readable any more")
        trouble = _objects_trouble(action, old, new) or _fields_trouble(old, new)
        if trouble:
            return Guardrail(name=NAME, passed=False, detail=f"{edit.path}: {trouble}")
    if not touched:
        return None
    return Guardrail(name=NAME, passed=True, detail=f"{touched} manifest{'s' if touched > 1 else ''}")


def _read(data: bytes | None, path: str) -> ConfigFile | None:
    if data is None:
        return None
    try:
        return read_entries(data, path)
    except SourceMalformed:
        return None


def _manifests(file: ConfigFile) -> list[_Document]:
    entries: dict[int, dict[str, Entry]] = {}
    for entry in file.entries:
        if not entry.parent:
            entries.setdefault(entry.document, {})[entry.key] = entry
    found = []
    for document in entries.values():
        if "apiVersion" in document and "kind" in document:
            words = ("apiVersion", "kind", "metadata.namespace", "metadata.name")
            version, kind, space, name = (document[word].value if word in document else "" for word in words)
            found.append(_Document((version, kind, space, name), document))
    return found


def _objects_trouble(action: ActionType, old: list[_Document], new: list[_Document]) -> str:
    gone, come = list(old), []
    for document in new:
        same = next((each for each in gone if each.about == document.about), None)
        if same is None:
            come.append(document)
        else:
            gone.remove(same)
    if gone and come:
        return f"{gone[0]} would become {come[0]}: another object"
    if (gone or come) and action is not ActionType.REVERT_COMMIT:
        return f"{(gone or come)[0]} would {'be gone' if gone else 'be new'}; {action.value} changes values only"
    nameless = next((d for d in come if not d.about[3] and "metadata.generateName" not in d.entries), None)
    if nameless is not None:
        return f"{nameless.about[1]} has no metadata.name"
    return ""


def _fields_trouble(old: list[_Document], new: list[_Document]) -> str:
    left = list(old)
    for document in new:
        same = next((each for each in left if each.about == document.about), None)
        if same is not None:
            left.remove(same)
        before = same.entries if same is not None else {}
        touched = [e for key, e in document.entries.items() if _differs(before.get(key), e)]
        if document.about[1] not in _KINDS:
            continue
        for entry in touched:
            if wrong := _wrong_value(document, entry):
                return f"{entry.key} of {document} would be {entry.value[:80]!r}: {wrong}"
        if wrong := _wrong_together(document, {entry.key for entry in touched}):
            return f"{document}: {wrong}"
    return ""


def _differs(before: Entry | None, after: Entry) -> bool:
    return before is None or before.value != after.value or plain_type(before) != plain_type(after)


# --- single fields ---


def _integer(least: int, most: int = INTEGER_MAX) -> Callable[[Entry], str]:
    def check(entry: Entry) -> str:
        plain = plain_type(entry) == "number" and re.fullmatch(r"[+-]?\d{1,12}", entry.value)
        if not plain or not least <= int(entry.value) <= most:
            return f"a number from {least} to {most} is wanted, not quoted"
        return ""

    return check


def _quantity(entry: Entry) -> str:
    return "" if _amount(entry.value) is not None else "a quantity such as 500m, 1Gi or 2 is wanted"


def _text(entry: Entry) -> str:
    kind = plain_type(entry)
    return f"text is wanted, and this is a {kind}; quote it" if kind in ("number", "boolean") else ""


def _boolean(entry: Entry) -> str:
    return "" if plain_type(entry) == "boolean" else "true or false is wanted, not quoted"


def _port_or_name(entry: Entry) -> str:
    if plain_type(entry) == "number":
        return _integer(1, PORT_MAX)(entry)
    return "" if _PORT_NAME.fullmatch(entry.value) else "a port number, or the name of a port, is wanted"


def _image(entry: Entry) -> str:
    if plain_type(entry) != "string" or not entry.value or re.search(r"\s", entry.value):
        return "the name of an image is wanted"
    return ""


# First match wins. Keys as `advisor.config_file` writes them; a list item is `[name]` or `[0]`.
_FIELDS: tuple[tuple[re.Pattern[str], Callable[[Entry], str]], ...] = tuple(
    (re.compile(pattern), check)
    for pattern, check in (
        (r"spec\.(?:replicas|minReplicas)", _integer(0)),
        (r"spec\.maxReplicas", _integer(1)),
        (r"(?:.*\.)?(?:revisionHistoryLimit|minReadySeconds|progressDeadlineSeconds|backoffLimit)", _integer(0)),
        (r"(?:.*\.)?(?:parallelism|completions|activeDeadlineSeconds|terminationGracePeriodSeconds)", _integer(0)),
        (r".*Probe\.(?:periodSeconds|timeoutSeconds|successThreshold|failureThreshold)", _integer(1)),
        (r".*Probe\.initialDelaySeconds", _integer(0)),
        (rf".*\.ports{_ITEM}\.(?:containerPort|hostPort|port|nodePort)", _integer(1, PORT_MAX)),
        (rf".*(?:\.ports{_ITEM}\.targetPort|(?:httpGet|tcpSocket)\.port)", _port_or_name),
        (rf".*(?:\.|^)resources\.(?:limits|requests){_MEMBER}", _quantity),
        (rf"spec\.hard{_MEMBER}", _quantity),
        (rf".*ontainers{_ITEM}\.image", _image),
        (rf".*ontainers{_ITEM}\.env{_ITEM}\.(?:name|value)", _text),
        (rf".*ontainers{_ITEM}\.(?:args|command){_ITEM}", _text),
        (rf"(?:.*\.)?(?:labels|annotations|matchLabels|nodeSelector){_MEMBER}", _text),
        (r"(?:.*\.)?(?:hostNetwork|hostPID|hostIPC|privileged|readOnlyRootFilesystem)", _boolean),
        (r"(?:.*\.)?(?:allowPrivilegeEscalation|runAsNonRoot|suspend|paused|immutable)", _boolean),
        (r"metadata\.(?:name|namespace|generateName)", _text),
    )
)


def _wrong_value(document: _Document, entry: Entry) -> str:
    if "{{" in entry.value or entry.style == "collection":
        return ""  # of a template, and what it will be is not known here
    if document.about[1] in ("ConfigMap", "Secret") and re.fullmatch(rf"(?:data|stringData){_MEMBER}", entry.key):
        return _text(entry)
    check = next((check for pattern, check in _FIELDS if pattern.fullmatch(entry.key)), None)
    return check(entry) if check is not None else ""


# --- fields that go together ---


def _wrong_together(document: _Document, touched: set[str]) -> str:
    """Return what an API server refuses although each field is well by itself."""
    least, most = document.entries.get("spec.minReplicas"), document.entries.get("spec.maxReplicas")
    if least and most and touched & {least.key, most.key} and _number(least) > _number(most):
        return f"minReplicas {least.value} would be above maxReplicas {most.value}"
    for key, request in document.entries.items():
        found = re.fullmatch(rf"(.*(?:\.|^)resources)\.requests({_MEMBER})", key)
        limit = document.entries.get(f"{found[1]}.limits{found[2]}") if found else None
        if limit is None or not touched & {key, limit.key}:
            continue
        asked, ceiling = _amount(request.value), _amount(limit.value)
        if asked is not None and ceiling is not None and asked > ceiling:
            return f"{key} {request.value} would be above its limit {limit.value}"
    return ""


def _number(entry: Entry) -> int:
    return int(entry.value) if re.fullmatch(r"\d{1,12}", entry.value) else 0


def _amount(text: str) -> Decimal | None:
    found = _QUANTITY.fullmatch(text) if len(text) <= 40 else None
    if found is None:
        return None
    unit = found[2]
    scale = Decimal(f"1{unit}") if unit and unit[0] in "eE" and len(unit) > 1 else _SCALES[unit]
    return Decimal(found[1]) * scale * (-1 if text.startswith("-") else 1)
