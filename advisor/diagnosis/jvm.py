"""JVM memory arithmetic: what the flags and the container add up to, and which raise does not fit.

Sources: the java launcher documentation of JDK 17 (flags and defaults), HotSpot's ergonomics (a quarter of the memory for
the heap where nothing is set), Kubernetes' resource quantities. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import Field

from advisor.evidence import ConfigValue
from advisor.values import Record, format_bytes

MIB = 1024 * 1024
THREAD_STACK_DEFAULT = MIB  # -Xss on Linux x86-64
CODE_CACHE_USUAL = 64 * MIB  # a guess: what a mid-size service fills
METASPACE_USUAL = 128 * MIB  # a guess for a Spring service; unlimited by default
NATIVE_USUAL = 64 * MIB  # a guess: symbols, GC structures, malloc
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)i?[bB]?$")
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|Ti|K|k|M|G|T|m)?$")
_UNITS = {"": 1, "k": 1024, "m": MIB, "g": 1024 * MIB, "t": 1024 * 1024 * MIB}
_DECIMAL = {
    None: 1.0,
    "m": 0.001,
    "k": 1e3,
    "K": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 1024.0,
    "Mi": float(MIB),
    "Gi": 1024.0 * MIB,
    "Ti": 1024.0 * 1024 * MIB,
}


class Memory(Record):
    """The memory of one JVM as configured, in bytes; None where nothing is said.

    Attributes:
        heap_max: From -Xmx, or a percentage of the container's limit.
        where: Flag or field -> path and key it was read from.
    """

    heap_max: float | None = None
    metaspace_max: float | None = None
    direct_max: float | None = None
    stack: float = THREAD_STACK_DEFAULT
    container_limit: float | None = None
    where: dict[str, tuple[str, str]] = Field(default={})

    def total(self, threads: int) -> float | None:
        """Return what the process may come to use with so many threads; None without a heap ceiling."""
        if self.heap_max is None:
            return None
        direct = self.direct_max if self.direct_max is not None else 0.0
        return (
            self.heap_max
            + (self.metaspace_max or METASPACE_USUAL)
            + direct
            + threads * self.stack
            + CODE_CACHE_USUAL
            + NATIVE_USUAL
        )


def size_of(text: str) -> float | None:
    """Return the bytes of a JVM size such as ``512m`` or ``2g``; None where it is none."""
    found = _SIZE.match(text.strip())
    return float(found[1]) * _UNITS[found[2].lower()] if found else None


def quantity_of(text: str) -> float | None:
    """Return the bytes of a Kubernetes quantity such as ``512Mi`` or ``1G``; None where it is none."""
    found = _QUANTITY.match(text.strip().strip("\"'"))
    return float(found[1]) * _DECIMAL[found[2]] if found else None


def read_memory(configuration: Iterable[ConfigValue]) -> Memory:
    """Return the memory settings of a service's configuration. Later values win over earlier ones, as in a JVM."""
    found: dict[str, float] = {}
    where: dict[str, tuple[str, str]] = {}
    percentage: float | None = None
    for item in configuration:
        key, value = item.key, item.value.strip()
        flag = key.rsplit(":-", 1)[-1] if ":-" in key else ""
        name, size = "", None
        if flag == "Xmx" or flag == "XX:MaxHeapSize":
            name, size = "heap_max", size_of(value)
        elif flag == "XX:MaxMetaspaceSize":
            name, size = "metaspace_max", size_of(value)
        elif flag == "XX:MaxDirectMemorySize":
            name, size = "direct_max", size_of(value)
        elif flag in ("Xss", "XX:ThreadStackSize"):
            name, size = "stack", size_of(value)
        elif flag == "XX:MaxRAMPercentage":
            try:
                percentage = float(value)
                where["heap_percentage"] = (item.path, key)
            except ValueError:
                continue
        elif key.endswith("limits.memory"):
            name, size = "container_limit", quantity_of(value)
        if name and size is not None:
            found[name] = size
            where[name] = (item.path, key)
    if "heap_max" not in found and percentage is not None and "container_limit" in found:
        found["heap_max"] = found["container_limit"] * percentage / 100.0
        where["heap_max"] = where["heap_percentage"]
    return Memory(
        heap_max=found.get("heap_max"),
        metaspace_max=found.get("metaspace_max"),
        direct_max=found.get("direct_max"),
        stack=found.get("stack", float(THREAD_STACK_DEFAULT)),
        container_limit=found.get("container_limit"),
        where=where,
    )


def heap_raise_fits(memory: Memory, heap_new: float, threads: int) -> tuple[bool | None, str]:
    """Return whether a larger heap fits the container (None: the limit is not known), and the sum in words."""
    if memory.container_limit is None:
        return (
            None,
            "the container's memory limit is not in the configuration, so it cannot be said whether it would fit",
        )
    total = Memory(**{**memory.model_dump(), "heap_max": heap_new}).total(threads)
    if total is None:
        return None, "no heap ceiling is configured"
    parts = (
        f"heap {format_bytes(heap_new)} + metaspace {format_bytes(memory.metaspace_max or METASPACE_USUAL)}"
        f" + {threads} threads × {format_bytes(memory.stack)} + code and native about {format_bytes(CODE_CACHE_USUAL + NATIVE_USUAL)}"
        + (f" + direct {format_bytes(memory.direct_max)}" if memory.direct_max else "")
    )
    fits = total <= memory.container_limit
    verb = "fits" if fits else "does not fit"
    return fits, f"{parts} = {format_bytes(total)}, which {verb} the container's {format_bytes(memory.container_limit)}"
