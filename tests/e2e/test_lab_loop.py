"""The story on live parts: a real JVM dies of a real commit, and the advisor takes it through the whole loop.

Minutes long, so it runs where everything real is asked for (ADVISOR_REQUIRE_REAL=1, as in CI) and by `make lab`.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.lab import loop

NEEDED = ("java", "javac", "git", "prometheus", "prlimit")


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_guilty_commit_is_found_reverted_verified_and_taken_back(tmp_path: Path) -> None:
    if os.environ.get("ADVISOR_REQUIRE_REAL") != "1":
        pytest.skip("the laboratory takes minutes; run `make lab`, or set ADVISOR_REQUIRE_REAL=1")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    assert not missing, f"needed for the laboratory: {', '.join(missing)}"
    assert loop.main(["session_timeout", "heap_lowered", "--workdir", str(tmp_path / "run")]) == 0
