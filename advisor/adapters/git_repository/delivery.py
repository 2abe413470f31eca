"""Delivery: one push by compare-and-swap, and finding out what a push that failed has done.

A commit that is offered goes onto a branch of its own by the same push, which must find no such branch there.

Called by `GitRepository`, whose methods of the same names say what is promised.
"""

from __future__ import annotations

import re
import time

from advisor.adapters.git_repository.clone import Clone
from advisor.adapters.git_repository.failures import Failure, GitFailed, from_os_error, telling_lines
from advisor.adapters.git_repository.output import check_id, instant
from advisor.adapters.git_repository.paths import check_branch
from advisor.adapters.git_repository.remote import branch_head
from advisor.change import Landing
from advisor.errors import ChangeConflict, ChangeError, ChangeRefused, ChangeUncertain, SourceError

DELIVERY_CHECKS = 3  # how often a silent remote is asked after a push that broke off
# Failures that git reports before the remote is asked to change anything.
_NEVER_SENT = frozenset(
    (
        Failure.AUTH,
        Failure.HOST_KEY,
        Failure.HOST_KEY_CHANGED,
        Failure.MISSING,
        Failure.OWNERSHIP,
        Failure.PROTOCOL,
        Failure.NOT_INSTALLED,
    )
)
_NEVER_CONNECTED = re.compile(
    r"could not resolve host|name or service not known|failure in name resolution|ssh: connect to host"
    r"|failed to connect|couldn't connect|network is unreachable|no route to host",
    re.IGNORECASE,
)
# Rejections that are no decision of the remote: its disk is full, or another push holds the branch at this moment.
_NO_DECISION = re.compile(
    r"unpacker error|failed to (update|write|lock)|cannot lock ref|unable to (create|write|migrate|open)"
    r"|couldn.t set|transaction failed|incorrect old value|missing necessary objects",
    re.IGNORECASE,
)
_BROKE_OFF = re.compile(r"hung up|disconnect|early eof|reset by|broken pipe", re.IGNORECASE)


def push(clone: Clone, commit: str, expected_base: str) -> None:
    """See `GitRepository.push`."""
    try:
        clone.require(commit)
        with clone.explained("reading a commit"):
            parent = next(iter(clone.parents_of(commit)), None)
    except SourceError as error:
        raise ChangeRefused(f"commit {commit[:12]} is not in our copy and was not pushed: {error}") from error
    if parent != expected_base:
        raise ChangeRefused(
            f"commit {commit[:12]} was not pushed: it stands on {str(parent)[:12]}, not on {expected_base[:12]}"
        )
    try:
        _push(clone, commit, expected_base)
    except (GitFailed, OSError) as error:
        _settle_push(clone, commit, expected_base, error if isinstance(error, GitFailed) else from_os_error(error))
    # Only so that the next reading is not surprised; the next fetch would bring it as well.
    clone.git.outcome("update-ref", clone.ref, commit, expected_base)


def push_branch(clone: Clone, commit: str, name: str) -> None:
    """See `GitRepository.push_branch`."""
    if check_branch(name) == clone.branch:
        raise ChangeRefused(f"branch {name} is the main one; nothing is offered there, and nothing was written")
    try:
        clone.require(commit)
    except SourceError as error:
        raise ChangeRefused(f"commit {commit[:12]} is not in our copy and was not pushed: {error}") from error
    ref = f"refs/heads/{name}"
    where = f"{clone.shown_url}, {name}"
    try:
        if branch_head(clone.remote, name) == commit:
            return
        _push_ref(clone, commit, ref, expected="")
    except (GitFailed, OSError) as error:
        _settle_branch(clone, commit, name, where, error if isinstance(error, GitFailed) else from_os_error(error))


def branch_at(clone: Clone, name: str) -> str | None:
    """See `GitRepository.branch_at`."""
    with clone.explained(f"asking for {check_branch(name)}"):
        return branch_head(clone.remote, name)


def find_landing(clone: Clone, base: str, tree: str) -> Landing | None:
    """See `GitRepository.find_landing`."""
    check_id(base)
    check_id(tree)
    with clone.explained("looking for what was merged"):
        head = clone.head_of_remote()
        if not clone.objects.has(base, "commit") or not clone.is_ancestor(base, head):
            return None  # the history was rewritten: nothing here can be told to have come after the base
        words = ("log", "--first-parent", "--reverse", "--no-show-signature", "--format=%H %T %ct")
        out = clone.git.run(*words, "--end-of-options", f"^{base}", head, "--")
        for line in out.decode("ascii", "replace").splitlines():
            commit, found, seconds = line.split(" ")
            if found == tree:
                return Landing(commit=commit, at=instant(int(seconds)))
    return None


def is_delivered(clone: Clone, commit: str) -> bool | None:
    """See `GitRepository.is_delivered`."""
    check_id(commit)
    try:
        current = branch_head(clone.remote)
        if current is None or current == commit:
            return current == commit
        clone.synchronise()
        head = clone.head()
        if head is None or not clone.objects.has(commit, "commit"):
            return False
        return clone.is_ancestor(commit, head)
    except GitFailed as error:
        return False if error.kind in (Failure.NO_BRANCH, Failure.EMPTY) else None
    except OSError:
        return None


def _push(clone: Clone, commit: str, base: str) -> None:
    _push_ref(clone, commit, clone.ref, expected=base)


def _push_ref(clone: Clone, commit: str, ref: str, expected: str) -> None:
    """Move one ref by compare-and-swap; expecting nothing, it must not be there."""

    def attempt(*extra: str) -> None:
        clone.git.run(
            "push",
            "--porcelain",
            "--no-verify",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--no-signed",
            f"--force-with-lease={ref}:{expected}",
            *extra,
            "--",
            clone.remote.url,
            f"{commit}:{ref}",
        )

    try:
        attempt("--atomic")
    except GitFailed as error:
        # One ref is atomic by itself; some old servers only do not know the word.
        if "does not support --atomic" not in error.words:
            raise
        attempt()


def _settle_push(clone: Clone, commit: str, base: str, error: GitFailed) -> None:
    """Tell what a failed push did. Returns if the commit arrived after all, raises otherwise."""
    where = f"{clone.shown_url}, {clone.branch}"
    said = telling_lines(error.words)
    rejected = _rejected(error)
    broke_off = f"push of {commit[:12]} to {where} broke off ({error.kind.value}: {said or 'no words'})"
    current: str | None = None
    asked = False
    for attempt in range(DELIVERY_CHECKS):
        try:
            current = branch_head(clone.remote)
            asked = True
            if current == commit or (current not in (None, base) and is_delivered(clone, commit)):
                return
            break
        except (GitFailed, OSError):
            time.sleep(0.2 * (attempt + 1))
    if rejected is None and error.kind in _NEVER_SENT:
        raise ChangeRefused(f"push to {where} was refused, nothing was written: {error.kind.value} ({said})")
    if rejected is not None and (not asked or current == base):
        raise ChangeRefused(f"push to {where} was refused, nothing was written: {_refusal(rejected[1], said)}")
    if not asked:
        if _NEVER_CONNECTED.search(error.words) and not _BROKE_OFF.search(error.words):
            failure = ChangeError(f"push of {commit[:12]} to {where} was not begun, nothing was written: {said}")
            failure.retriable = True
            raise failure
        raise ChangeUncertain(
            f"{broke_off} and the remote cannot be asked whether it has it; look whether {commit[:12]}"
            f" is on {clone.branch} before anything else"
        )
    if current == base:
        failure = ChangeError(f"{broke_off}; the branch is still at {base[:12]}; the same push may be repeated")
        failure.retriable = True
        raise failure
    now = f"moved from {base[:12]} to {current[:12]}" if current else f"was at {base[:12]} and does not exist any more"
    raise ChangeConflict(f"push of {commit[:12]} to {where}: the branch {now}; nothing was written")


def _settle_branch(clone: Clone, commit: str, name: str, where: str, error: GitFailed) -> None:
    """Tell what a failed push of a branch of our own did. Returns if the commit arrived after all, raises otherwise."""
    said = telling_lines(error.words) or "no words"
    rejected = _rejected(error)
    try:
        current = branch_head(clone.remote, name)
    except (GitFailed, OSError):
        current = None
    if current == commit:
        return
    if current is not None:
        raise ChangeConflict(f"push to {where}: the branch is there at {current[:12]}, not at {commit[:12]}")
    if rejected is not None or error.kind in _NEVER_SENT:
        reason = _refusal(rejected[1], said) if rejected is not None else f"{error.kind.value} ({said})"
        raise ChangeRefused(f"push to {where} was refused, nothing was written: {reason}")
    # Whether it arrived or not: the same commit on the same branch of our own is pushed again without harm.
    failure = ChangeError(f"push of {commit[:12]} to {where} broke off ({error.kind.value}: {said})")
    failure.retriable = True
    raise failure


def _rejected(error: GitFailed) -> re.Match[str] | None:
    """Return the remote's decision against a push, if it took one."""
    verdict = error.output.decode("utf-8", "replace")
    found = re.search(r"^!\t[^\t]*\t\[(?:remote )?rejected\] \((.*)\)\s*$", verdict, re.MULTILINE)
    return None if found is None or _NO_DECISION.search(found[1]) else found


def _refusal(reason: str, said: str) -> str:
    if "currently checked out" in reason or "checked out" in said:
        return (
            f"{reason}: the repository has a work tree with this branch checked out; there, run"
            " `git config receive.denyCurrentBranch updateInstead`, or use a bare repository"
        )
    return f"{reason}: {said}" if said else reason
