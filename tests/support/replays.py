"""Replays bundles in a process of its own and prints what each says now, as one JSON document.

PYTHONHASHSEED=1 python -m tests.support.replays one.bundle.zip two.bundle.zip
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

from advisor.replaying import replaying

# Of a proposal: what is new each time, and what is computed from it.
_PROPOSAL_FIELDS = ("id", "incident_id", "nonce", "digest", "created_at", "expires_at")


def without_ids_and_times(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report without what may differ between two replays of one bundle; all else must not."""
    left = copy.deepcopy(report)
    del left["incident"]["id"]
    del left["usage"]
    for proposal in left["proposals"]:
        for field in _PROPOSAL_FIELDS:
            proposal.pop(field, None)
    return left


def main(paths: list[str]) -> None:
    """Print the report of each bundle, by path."""
    reports = {}
    for path in paths:
        with replaying(Path(path)) as recorded:
            reports[path] = recorded.investigate().report
    json.dump(reports, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
