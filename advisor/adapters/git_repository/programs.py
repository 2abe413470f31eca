"""What a repository by path would run, as this user, when something is pushed to it.

A push over ssh or https runs programs on another machine, under another name: that is the server's own affair. A push to
a folder of this machine runs its hooks here, as whoever runs the advisor. Switching them off in silence would get round a
check that somebody put there, so it is one or the other: they run, or nothing is pushed. Hooks that only this user (or
root) could have put there run, as they do for `git push`; what anybody else could have, and programs that the repository's
configuration names, are refused by name. The settings can want all of them (`run_hooks: true`) or none (`false`).

Always refused: a branch that is only another name for a second one, and folders that are links, since a push would write
there. Read only; called by `GitRepository` before anything is pushed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from advisor.adapters.git_repository.paths import local_path
from advisor.adapters.git_repository.runner import GitRunner, failed
from advisor.errors import ChangeRefused, one_line

CONFIG_BYTES_MAX = 1024 * 1024
# What `git receive-pack` and what it starts may call.
_HOOKS = frozenset(
    "pre-receive update post-receive post-update reference-transaction proc-receive push-to-checkout post-checkout"
    " post-index-change pre-auto-gc fsmonitor-watchman".split()
)


def check_programs(url: str, ref: str, timeout_seconds: float, wanted: bool | None = None) -> None:
    """Refuse to push to a folder that would run something of its own, or pass the push on elsewhere.

    Args:
        url: Checked; anything but a path of this machine passes.
        ref: Full name of the branch.
        timeout_seconds: Of each git command.
        wanted: Whether its hooks and programs are to run: all, none, or (None) what only this user can have put there.

    Raises:
        ChangeRefused: It names what would be run. Nothing was written.
        GitFailed: The repository cannot be read.
    """
    path = local_path(url)
    if path is None or not path.exists():
        return
    git = GitRunner(path / ".git" if (path / ".git").exists() else path, timeout_seconds)
    folder = Path(git.run("rev-parse", "--absolute-git-dir").decode("utf-8", "surrogateescape").removesuffix("\n"))
    refused = f"push to {path} was refused, nothing was written"
    target = git.outcome("symbolic-ref", "-q", ref)
    if target.code == 0:
        other = one_line(target.output.decode("utf-8", "replace"), 120)
        raise ChangeRefused(f"{refused}: {ref} is only another name of {other} there")
    parents = [ref.rsplit("/", n)[0] for n in range(1, ref.count("/") + 1)]
    link = next((name for name in ("objects", *parents) if (folder / name).is_symlink()), None)
    if link is not None:
        raise ChangeRefused(f"{refused}: {link} is a link there, and the push would write where it leads")
    if wanted:
        return
    values = _configured(git)
    found = [*_programs(values), *_hooks(git, folder, values.get("core.hookspath", ""), own=wanted is None)]
    if found:
        raise ChangeRefused(
            f"{refused}: as this user, the repository there would run {', '.join(found[:4])}"
            f"{', …' if len(found) > 4 else ''}; if that is wanted, set run_hooks: true for it in advisor.yaml, or push"
            " over ssh"
        )


def _configured(git: GitRunner) -> dict[str, str]:
    """Return what the repository's own files say, by lower-case key; our command line is no part of it."""
    values: dict[str, str] = {}
    for where in ("--local", "--worktree"):
        outcome = git.outcome("config", where, "--includes", "--list", "-z", output_bytes_max=CONFIG_BYTES_MAX)
        if outcome.code != 0 and where == "--local":
            raise failed(outcome)
        for item in outcome.output.decode("utf-8", "surrogateescape").split("\0"):
            key, _, value = item.partition("\n")
            values[key.lower()] = value
    return values


def _programs(values: dict[str, str]) -> list[str]:
    # A pushed branch that is checked out there is written to files, through filters.
    updates = values.get("receive.denycurrentbranch", "").lower() == "updateinstead"
    found = []
    for key, value in values.items():
        runs = (
            key in ("core.alternaterefscommand", "gc.recentobjectshook")
            or (key.startswith("hook.") and key.endswith(".command"))
            or (updates and key.startswith("filter.") and key.endswith((".clean", ".smudge", ".process")))
            or (updates and key == "core.fsmonitor" and value.lower() not in ("", "true", "false", "0", "1"))
        )
        if runs and value:
            found.append(one_line(f"{key} of its configuration", 100))
    return found


def _hooks(git: GitRunner, folder: Path, configured: str, own: bool) -> list[str]:
    """Return the hooks that would run; with ``own``, only those that somebody else could have put there."""
    if configured:
        place = folder / Path(configured).expanduser()
    else:
        common = git.run("rev-parse", "--git-common-dir").decode("utf-8", "surrogateescape").removesuffix("\n")
        place = folder / common / "hooks"
    try:
        names = sorted(os.listdir(place))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        return [f"hooks that cannot be looked at ({error.strerror})"]
    there = [place / name for name in names if name in _HOOKS and os.access(place / name, os.X_OK)]
    return [f"its hook {hook.name}" for hook in there if not (own and all(map(_is_own, (folder, place, hook))))]


def _is_own(path: Path) -> bool:
    """Return whether nobody but this user and root can have written a file or folder, nor what a link leads to."""
    try:
        return _only_we_write(path.stat()) and _only_we_write(path.resolve().parent.stat(), folder=True)
    except OSError:
        return False


def _only_we_write(status: os.stat_result, folder: bool = False) -> bool:
    us = os.getuid()
    if status.st_uid not in (0, us):
        return False
    # A user's own group, as many systems give one to each: its number is the user's.
    group = status.st_mode & stat.S_IWGRP and status.st_gid != us
    # In a folder such as /tmp nobody renames or removes what is not theirs; what others add has its own owner.
    return not (group or status.st_mode & stat.S_IWOTH) or bool(folder and status.st_mode & stat.S_ISVTX)
