"""HCL by key: blocks with labels, spans that edit exactly, what is computed is shown and left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.config_file import read_entries, set_value
from advisor.errors import ChangeRefused, SourceMalformed

JOB = b"""# nomad
job "checkout" {
  datacenters = ["dc1", "dc2"]   // two
  group "web" {
    count = 2
    task "server" {
      config {
        image = "registry.example.org/shop/checkout:4.4.1"
        labels = { team = "shop", tier : "1" }
      }
      env {
        JAVA_OPTS       = "-Xms128m -Xmx512m"
        SESSION_TIMEOUT = "12h" # kept
        HOST            = "${attr.unique.hostname}"
      }
      template {
        data = <<-EOT
          a = "b"
        EOT
      }
      resources { memory = 900 }
    }
    task "side" { driver = "docker" }
  }
}
"""


def values(data: bytes) -> dict[str, str]:
    return {e.key: e.value for e in read_entries(data, "nomad/checkout.hcl").entries}


def test_blocks_labels_objects_and_flags_become_keys() -> None:
    found = values(JOB)
    task = "job[checkout].group[web].task[server]"
    assert found["job[checkout].group[web].count"] == "2"
    assert found[f"{task}.config.image"] == "registry.example.org/shop/checkout:4.4.1"
    assert found[f"{task}.config.labels.team"] == "shop"
    assert found[f"{task}.env.JAVA_OPTS:-Xmx"] == "512m"
    assert found[f"{task}.env.SESSION_TIMEOUT"] == "12h"
    assert found[f"{task}.resources.memory"] == "900"
    assert found["job[checkout].group[web].task[side].driver"] == "docker"
    assert found["job[checkout].datacenters"] == '["dc1", "dc2"]'


@pytest.mark.parametrize(
    ("key", "new", "old_line", "new_line"),
    [
        ("env.SESSION_TIMEOUT", "30m", b'= "12h" # kept', b'= "30m" # kept'),
        ("env.JAVA_OPTS:-Xmx", "1g", b"-Xmx512m", b"-Xmx1g"),
        ("resources.memory", "1200", b"memory = 900", b"memory = 1200"),
    ],
)
def test_an_edit_changes_only_the_value(key: str, new: str, old_line: bytes, new_line: bytes) -> None:
    full = f"job[checkout].group[web].task[server].{key}"
    edited = set_value(JOB, "nomad/checkout.hcl", full, new)
    assert edited == JOB.replace(old_line, new_line)


def test_what_is_computed_is_never_edited() -> None:
    with pytest.raises(ChangeRefused):
        set_value(JOB, "a.hcl", "job[checkout].group[web].task[server].env.HOST", "x")


@pytest.mark.parametrize(
    "broken", [b'a = "x', b"a {", b"a = ", b"= 3", b"a b c", b"a = <<EOT\nx\n", b"{" * 400, b"a = [" * 300]
)
def test_what_is_not_hcl_is_refused_with_a_line(broken: bytes) -> None:
    with pytest.raises(SourceMalformed, match=r"line \d+"):
        read_entries(broken, "a.hcl")


@given(st.text(alphabet='ab"{}[]=\n #/$<E*', max_size=120))
def test_no_text_gives_another_error(text: str) -> None:
    try:
        read_entries(text.encode(), "a.hcl")
    except SourceMalformed as error:
        assert "\n" not in str(error)
