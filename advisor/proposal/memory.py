"""The guardrail of memory: an edit of a heap, or of a container's limit, must leave a process that fits its container.

The arithmetic is `diagnosis.jvm`'s. It is done per container, on the service's whole configuration as it would be, since
flags and limit often stand in two files. What the configuration does not say is not held against an edit; and a value
that ran before is refused only where the numbers it states cannot fit, whatever is assumed about the rest. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from advisor.config_file import read_entries
from advisor.diagnosis.jvm import Memory, heap_raise_fits, read_memory
from advisor.errors import SourceMalformed
from advisor.evidence import ConfigValue
from advisor.proposal.records import FileEdit, Guardrail
from advisor.values import ActionType, format_bytes

NAME = "memory"
THREADS_LEAST = 20  # what a JVM runs for itself; the pools of the service are not known here, and only add to it
_MEMORY_KEY = re.compile(
    r".*:-(?:Xmx|Xss|XX:(?:MaxHeapSize|MaxMetaspaceSize|MaxDirectMemorySize|MaxRAMPercentage|ThreadStackSize))"
    r"|.*limits\.memory"
)
_CONTAINER = re.compile(r'(.*?ontainers\[(?:"(?:[^"\\]|\\.)*"|[^\]"]*)\])')
# What takes back a state that ran: only what it states for certain is held against it.
_RESTORING = frozenset({ActionType.REVERT_KEYS, ActionType.REVERT_COMMIT, ActionType.ROLL_BACK_IMAGE})


def touches_memory(edits: Iterable[FileEdit]) -> bool:
    """Return whether any value of the arithmetic differs between before and after."""
    return any(_memory_values(edit.path, edit.before) != _memory_values(edit.path, edit.after) for edit in edits)


def check_memory(
    action: ActionType, edits: tuple[FileEdit, ...], configuration: Sequence[ConfigValue] = ()
) -> Guardrail | None:
    """Return whether heap and container still go together; None where the edit is not about them.

    Args:
        action: What is done; what was so before is judged more gently than what is new.
        edits: The touched files.
        configuration: All values of the service as it is now; the touched files are taken from the edits.
    """
    if not touches_memory(edits):
        return None
    touched = {edit.path for edit in edits}
    rest = [value for value in configuration if value.path not in touched and _MEMORY_KEY.fullmatch(value.key)]
    before = [*rest, *(value for edit in edits for value in _memory_values(edit.path, edit.before))]
    after = [*rest, *(value for edit in edits for value in _memory_values(edit.path, edit.after))]
    said = []
    for values in _processes(after):
        memory = read_memory(values)
        if any(_same(memory, read_memory(old)) for old in _processes(before)):
            continue  # a neighbour that the edit does not touch
        fits, words = _fits(memory, action)
        if fits is False:
            return Guardrail(name=NAME, passed=False, detail=words)
        said.append(words)
    return Guardrail(name=NAME, passed=True, detail="; ".join(said)[:400] or "heap and limit are not both configured")


def _memory_values(path: str, data: bytes | None) -> list[ConfigValue]:
    if data is None:
        return []
    try:
        entries = read_entries(data, path).entries
    except SourceMalformed:
        return []
    return [
        ConfigValue(path=path, key=e.key, value=e.value, document=e.document)
        for e in entries
        if _MEMORY_KEY.fullmatch(e.key)
    ]


def _processes(values: Sequence[ConfigValue]) -> list[list[ConfigValue]]:
    """Return the values by the process they are of: each container's own, with the flags that stand outside of any.

    Flags in no container (an environment file, a ConfigMap) go with the one container that has a limit and no flags; with
    several of these it is not known whose they are, and they stand alone.
    """
    groups: dict[tuple[str, int, str], list[ConfigValue]] = {}
    loose: list[ConfigValue] = []
    for value in values:
        found = _CONTAINER.match(value.key)
        if found:
            groups.setdefault((value.path, value.document, found[1]), []).append(value)
        else:
            loose.append(value)
    alone = [group for group in groups.values() if read_memory(group).heap_max is None]
    if loose and len(alone) == 1:
        alone[0][:0] = loose
    elif loose:
        groups["", 0, ""] = loose
    return list(groups.values())


def _same(one: Memory, other: Memory) -> bool:
    return one.model_dump(exclude={"where"}) == other.model_dump(exclude={"where"})


def _fits(memory: Memory, action: ActionType) -> tuple[bool | None, str]:
    if memory.heap_max is None or memory.container_limit is None:
        return None, "heap and limit are not both configured"
    if action not in _RESTORING:
        return heap_raise_fits(memory, memory.heap_max, THREADS_LEAST)
    stated = memory.heap_max + (memory.direct_max or 0.0)
    fits = stated <= memory.container_limit
    verb = "fits" if fits else "does not fit"
    return (
        fits,
        f"heap and direct memory {format_bytes(stated)}, which {verb} the container's {format_bytes(memory.container_limit)}",
    )
