"""Log files on disk: which files (`find_files`), the time in their lines (`Clock`), and the digest of a window.

``reading.py`` finds the window and reads it; ``known_lines.py`` takes whole blocks of lines whose shapes were seen
before, which is where the speed comes from.
"""

from __future__ import annotations

from advisor.adapters.log_files.clock import Clock
from advisor.adapters.log_files.finding import FoundFile, find_files, former_names
from advisor.adapters.log_files.reading import LINES_MAX, PART_BYTES, SECONDS_MAX, SLACK_SECONDS, LogFiles
from advisor.adapters.log_files.window import find_window

__all__ = [
    "LINES_MAX",
    "PART_BYTES",
    "SECONDS_MAX",
    "SLACK_SECONDS",
    "Clock",
    "FoundFile",
    "LogFiles",
    "find_files",
    "find_window",
    "former_names",
]
