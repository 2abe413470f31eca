"""The demo: the recorded session-timeout incident, taken through the whole loop in a folder of its own.

Everything is the product's own path; only the sources' answers and the clock come from the recording. The git repository is
real: an approved change is a real commit in it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from advisor.replaying import Replay, open_replay
from advisor.workflow import Workflow, data_folder

BUNDLE = Path("jvm_heap") / "cases" / "session_timeout" / "session_timeout.bundle.zip"
_OTHERWISE_SECONDS = {"approve": 60, "verify": 900, "rollback": 960}


@dataclass(frozen=True)
class DemoSession:
    """An open demo.

    Attributes:
        person: The made-up approver, as in the recording.
        story: What happened, for a person who sees it for the first time.
    """

    replay: Replay
    person: str
    story: str

    @property
    def workflow(self) -> Workflow:
        """Return the workflow over the recording."""
        return self.replay.workflow

    def advance(self, step: str) -> None:
        """Move the recorded clock to a step: ``approve``, ``verify`` or ``rollback``."""
        self.replay.move_clock(step, _OTHERWISE_SECONDS[step])

    def history(self, commits: int = 4) -> str:
        """Return the newest commits of the demo's repository, as git shows them."""
        name = next(iter(self.workflow.settings.repositories))
        return self.workflow.repository(name).show_history(commits)


def open_demo(folder: Path) -> DemoSession:
    """Return the demo, unpacked into a folder that is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    replay = open_replay(data_folder("playbooks") / BUNDLE, folder)
    approvers = replay.workflow.settings.approval.approvers
    return DemoSession(
        replay=replay,
        person=approvers[0] if approvers else "",
        story=(
            "The service checkout died with java.lang.OutOfMemoryError: Java heap space, was restarted, and fills up again."
            " The obvious remedy is a larger heap. Recorded from a real JVM with its time compressed 120-fold."
        ),
    )
