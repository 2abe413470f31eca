"""`python -m advisor`, and the `advisor` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from advisor.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # during the imports; later ones are answered by the command that was stopped
        sys.stderr.write("advisor: stopped; nothing was changed\n")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
