"""Runs every benchmark at a size for a coffee break: `make bench`."""

from __future__ import annotations

import subprocess
import sys

ALL = (
    ["bench.command_line"],
    ["bench.investigate"],
    ["bench.prometheus_read"],
    ["bench.git_history"],
    ["bench.rollback"],
    ["bench.log_window", "--mebibytes", "256"],
    ["bench.log_mining", "--lines", "300000"],
    ["bench.change_points"],
    ["bench.root_cause"],
    ["bench.ranking"],
    ["bench.redaction"],
)

if __name__ == "__main__":
    failed = 0
    for module, *arguments in ALL:
        print(f"--- {module} {' '.join(arguments)}", flush=True)
        failed += subprocess.run([sys.executable, "-m", module, *arguments]).returncode != 0
    sys.exit(1 if failed else 0)
