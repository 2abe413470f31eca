"""A bundle whose manifest holds text where a mapping belongs is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from advisor.bundle import Bundle
from advisor.errors import SettingsInvalid
from advisor.replaying import open_replay

BUNDLE = Path(__file__).parent.parent / "playbooks/jvm_heap/cases/session_timeout/session_timeout.bundle.zip"


@pytest.mark.parametrize(("part", "value"), [("heads", "abc"), ("clock", "now"), ("heads", ["x"]), ("incident", 3)])
def test_a_manifest_of_the_wrong_shape_is_refused(tmp_path: Path, part: str, value: Any) -> None:
    bundle = Bundle.load(BUNDLE)
    bundle.manifest[part] = value
    (tmp_path / "odd.bundle.zip").write_bytes(bundle.to_bytes())
    with pytest.raises(SettingsInvalid, match="manifest is not complete"):
        open_replay(tmp_path / "odd.bundle.zip", tmp_path / "folder")
