"""JVM memory arithmetic, with numbers that can be added up by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.config_file import read_entries
from advisor.diagnosis.jvm import MIB, Memory, heap_raise_fits, quantity_of, read_memory, size_of
from advisor.evidence import ConfigValue

GIB = 1024 * MIB


def values(**pairs: str) -> tuple[ConfigValue, ...]:
    return tuple(ConfigValue(path="d.yaml", key=key, value=value) for key, value in pairs.items())


def flag(name: str, value: str) -> ConfigValue:
    return ConfigValue(path="d.yaml", key=f"env[JAVA_OPTS].value:-{name}", value=value)


LIMIT = ConfigValue(path="d.yaml", key="spec.containers[x].resources.limits.memory", value="1Gi")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512m", 512 * MIB), ("512M", 512 * MIB), ("2g", 2 * GIB), ("1048576", MIB), ("64k", 64 * 1024), ("1t", 1024 * GIB), ("1.5g", 1.5 * GIB),
        ("512mb", 512 * MIB), ("512MiB", 512 * MIB), (" 2g ", 2 * GIB), ("", None), ("-1", None), ("2gg", None), ("lots", None), ("m", None),
    ],
)  # fmt: skip
def test_a_jvm_size_is_in_binary_units(text: str, size: float | None) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512Mi", 512 * MIB), ("1Gi", GIB), ("1G", 1e9), ("500M", 5e8), ("100k", 1e5), ("64Ki", 65536), ("1.5Gi", 1.5 * GIB), ("134217728", 128 * MIB),
        ("1000m", 1.0), ('"1Gi"', GIB), ("", None), ("1GiB", None), ("Gi", None), ("-1Gi", None),
    ],
)  # fmt: skip
def test_a_kubernetes_quantity_tells_decimal_from_binary(text: str, size: float | None) -> None:
    assert quantity_of(text) == size


@given(st.text(max_size=20))
def test_any_text_is_a_size_or_none(text: str) -> None:
    for read in (size_of, quantity_of):
        found = read(text)
        assert found is None or found >= 0


def test_the_flags_and_the_limit_are_read_from_real_files() -> None:
    text = (
        b"kind: Deployment\nspec:\n  containers:\n  - name: x\n    env:\n    - name: JAVA_OPTS\n"
        b'      value: "-Xmx640m -Xss512k -XX:MaxMetaspaceSize=160m -XX:MaxDirectMemorySize=64m"\n    resources: {limits: {memory: 1Gi}}\n'
    )
    entries = read_entries(text, "apps/x/deployment.yaml").entries
    found = read_memory(ConfigValue(path="apps/x/deployment.yaml", key=e.key, value=str(e.value)) for e in entries)
    assert (found.heap_max, found.stack) == (640 * MIB, 512 * 1024)
    assert (found.metaspace_max, found.direct_max, found.container_limit) == (160 * MIB, 64 * MIB, GIB)
    assert found.where["heap_max"][1].endswith(":-Xmx")
    assert found.where["container_limit"][1].endswith("limits.memory")


def test_a_percentage_is_of_the_containers_limit() -> None:
    found = read_memory((flag("XX:MaxRAMPercentage", "75.0"), LIMIT))
    assert found.heap_max == 768 * MIB
    assert found.where["heap_max"][1].endswith("MaxRAMPercentage")


def test_a_size_wins_over_a_percentage_wherever_it_stands() -> None:
    for order in (
        (flag("Xmx", "512m"), flag("XX:MaxRAMPercentage", "75")),
        (flag("XX:MaxRAMPercentage", "75"), flag("Xmx", "512m")),
    ):
        assert read_memory((*order, LIMIT)).heap_max == 512 * MIB


@pytest.mark.parametrize("text", ["half", "", "75%"])
def test_a_percentage_that_is_no_number_says_nothing(text: str) -> None:
    assert read_memory((flag("XX:MaxRAMPercentage", text), LIMIT)).heap_max is None


def test_a_percentage_without_a_limit_says_nothing() -> None:
    assert read_memory((flag("XX:MaxRAMPercentage", "75"),)).heap_max is None


def test_the_later_of_two_flags_wins() -> None:
    assert read_memory((flag("Xmx", "512m"), flag("Xmx", "1g"))).heap_max == GIB
    assert read_memory((flag("Xmx", "512m"), flag("Xmx", "many"))).heap_max == 512 * MIB


def test_nothing_said_is_nothing_known() -> None:
    found = read_memory(values(**{"server.port": "8080"}))
    assert (found.heap_max, found.container_limit, found.where) == (None, None, {})
    assert found.stack == MIB
    assert found.total(100) is None


def test_the_sum_of_a_jvm_by_hand() -> None:
    # 512 heap + 128 metaspace (usual) + 100 threads × 1 + 64 code cache + 64 native = 868 MiB
    assert Memory(heap_max=512 * MIB).total(100) == 868 * MIB
    # 512 heap + 160 metaspace + 96 direct + 200 × 0.5 + 64 + 64 = 996 MiB
    full = Memory(heap_max=512 * MIB, metaspace_max=160 * MIB, direct_max=96 * MIB, stack=MIB / 2)
    assert full.total(200) == 996 * MIB


def test_a_raise_that_fits_is_said_with_its_sum() -> None:
    fits, said = heap_raise_fits(Memory(heap_max=256 * MIB, container_limit=GIB), 512 * MIB, 100)
    assert fits is True
    assert said == (
        "heap 512 MiB + metaspace 128 MiB + 100 threads × 1 MiB + code and native about 128 MiB = 868 MiB, which fits the container's 1 GiB"
    )


def test_a_raise_that_does_not_fit_is_refused_with_its_sum() -> None:
    fits, said = heap_raise_fits(Memory(heap_max=512 * MIB, direct_max=64 * MIB, container_limit=GIB), GIB, 50)
    assert fits is False
    assert "direct 64 MiB" in said
    assert said.endswith("= 1.36 GiB, which does not fit the container's 1 GiB")


def test_the_last_byte_still_fits() -> None:
    memory = Memory(heap_max=512 * MIB, container_limit=868 * MIB)
    assert heap_raise_fits(memory, 512 * MIB, 100)[0] is True
    assert heap_raise_fits(memory, 512 * MIB + 1, 100)[0] is False


def test_without_a_limit_it_cannot_be_said() -> None:
    fits, said = heap_raise_fits(Memory(heap_max=512 * MIB), GIB, 100)
    assert fits is None
    assert "cannot be said" in said


@given(st.integers(64, 4096), st.integers(64, 8192), st.integers(0, 2000))
def test_a_larger_heap_never_fits_where_a_smaller_one_does_not(heap: int, limit: int, threads: int) -> None:
    memory = Memory(heap_max=heap * MIB, container_limit=limit * MIB)
    smaller, larger = (
        heap_raise_fits(memory, heap * MIB, threads)[0],
        heap_raise_fits(memory, 2 * heap * MIB, threads)[0],
    )
    assert not (larger and not smaller)
