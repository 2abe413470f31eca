"""A file inside a ConfigMap whose key is no file name is read by key all the same, where every line says what it is."""

from __future__ import annotations

import pytest

from advisor.config_file.editing import set_value
from advisor.config_file.reading import read_entries
from advisor.evidence.config_diff import diff_keys

MAP = b"""apiVersion: v1
kind: ConfigMap
metadata: {name: movies}
data:
  properties: |
    # threads
    server.tomcat.threads.max=64
    feign.client.config.ratings.read-timeout=800
  settings: |
    titles:
      page-size: 30
    debug: false
  note: |
    Please ask the team before you change this.
    It was set with care.
"""


def test_keys_of_a_file_without_a_name_are_read() -> None:
    keys = {e.key: e.value for e in read_entries(MAP, "cm.yaml").entries}
    assert any(k.endswith("feign.client.config.ratings.read-timeout") and v == "800" for k, v in keys.items())
    assert any(k.endswith("titles.page-size") and v == "30" for k, v in keys.items())
    assert not any("Please" in k for k in keys)


def test_the_difference_names_the_key_and_not_the_whole_value() -> None:
    after = MAP.replace(b"read-timeout=800", b"read-timeout=30000")
    changes = diff_keys(MAP, after, "cm.yaml")
    assert [(c.key.rsplit(".", 1)[-1], c.old, c.new) for c in changes] == [("read-timeout", "800", "30000")]
    assert changes[0].ratio == pytest.approx(37.5)


def test_one_value_is_set_back_and_no_other_byte_moves() -> None:
    after = MAP.replace(b"read-timeout=800", b"read-timeout=30000")
    key = diff_keys(MAP, after, "cm.yaml")[0].key
    assert set_value(after, "cm.yaml", key, "800") == MAP
