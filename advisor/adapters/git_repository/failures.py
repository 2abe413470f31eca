"""What can go wrong with git: one table from its words to a failure, one from the failure to an error of the product.

No process is started here. A `GitFailed` never leaves the adapter: `source_error` says what was attempted, why it
failed and what to do next. Used by every module of this folder.
"""

from __future__ import annotations

import errno
import re
from enum import StrEnum

from advisor.errors import SourceError, SourceMalformed, SourceRefused, SourceUnavailable, one_line

_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)


class Failure(StrEnum):
    """What went wrong, as far as a caller must tell it apart."""

    MISSING = "there is no repository"
    NO_BRANCH = "there is no such branch"
    EMPTY = "the repository has no commits yet"
    AUTH = "access was refused"
    HOST_KEY = "the host key is not known"
    HOST_KEY_CHANGED = "the host key is another than before"
    UNREACHABLE = "the remote cannot be reached"
    TIMEOUT = "no answer in time"
    DISK_FULL = "the disk is full"
    READ_ONLY = "the place cannot be written"
    DISK_BROKEN = "the disk failed to read or write"
    EXHAUSTED = "this machine has no files, processes or memory left"
    CORRUPT = "objects are damaged or missing"
    LOCKED = "a lock file of git is in the way"
    OWNERSHIP = "the repository belongs to another user"
    PROTOCOL = "the protocol is not allowed"
    SHALLOW = "the history of the remote is cut"
    FORMAT = "the object format is not supported"
    TOO_LARGE = "the answer is larger than the limit"
    TOO_OLD = "this git is too old"
    NOT_INSTALLED = "git cannot be started"
    UNKNOWN = "git failed"


# First match wins: the particular reason stands above "Could not read from remote repository", which follows
# them all.
FAILURES: tuple[tuple[Failure, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (Failure.DISK_FULL, r"no space left on device|disk quota exceeded|file too large|out of disk"),
        (Failure.DISK_BROKEN, r"input/output error"),
        (
            Failure.EXHAUSTED,
            r"too many open files|cannot allocate memory|out of memory|resource temporarily unavailable"
            r"|cannot fork|unable to create thread",
        ),
        (Failure.OWNERSHIP, r"dubious ownership"),
        (Failure.PROTOCOL, r"transport '[^']*' not allowed|unable to find remote helper|remote helper"),
        (Failure.HOST_KEY_CHANGED, r"remote host identification has changed|host key for \S+ has changed"),
        (Failure.HOST_KEY, r"host key verification failed"),
        (
            Failure.AUTH,
            r"permission denied \(|authentication failed|could not read (username|password)"
            r"|terminal prompts disabled|returned error: 40[13]|invalid credentials|access denied"
            r"|too many authentication failures|load key .*: (invalid format|bad permissions)"
            r"|unprotected private key",
        ),
        (Failure.NO_BRANCH, r"couldn't find remote ref|remote branch \S+ not found|no such (remote )?ref"),
        (
            Failure.MISSING,
            r"does not appear to be a git repository|repository not found|returned error: 404"
            r"|repository '?\S+'? (not found|does not exist)|not a git repository|no such project"
            r"|project you were looking for",
        ),
        (Failure.LOCKED, r"\.lock'?: file exists|another git process seems to be running"),
        (Failure.READ_ONLY, r"read-only file system|insufficient permission|\w[^\n]*: permission denied\s*$"),
        (Failure.FORMAT, r"mismatched algorithms|unknown repository extension|unsupported object format"),
        (
            Failure.CORRUPT,
            r"is corrupt|object file .* is empty|inflate: |bad object|bad tree object|bad config"
            r"|unable to (read (tree|sha1)|parse object|find [0-9a-f]{40})|missing (blob|tree|commit)"
            r"|packfile .* (cannot be|is far|does not|index)|index file .* (corrupt|is too)|invalid object"
            r"|did not send all necessary objects|pack has bad|not a valid object|(sha1|hash) mismatch"
            r"|could not parse (object|commit)|invalid path|bad signature|(broken|dangling) ref"
            r"|too-short tree object|empty filename in tree",
        ),
        (Failure.SHALLOW, r"shallow update not allowed|shallow file has changed"),
        (
            Failure.UNREACHABLE,
            r"could not resolve host|name or service not known|temporary failure in name resolution"
            r"|connection (refused|timed out|reset|closed)|network is unreachable|no route to host"
            r"|early eof|hung up unexpectedly|unexpected disconnect|returned error: (5\d\d|429)"
            r"|operation (timed out|too slow)|failed to connect|broken pipe|couldn't connect|connect to host"
            r"|\bTLS\b|\bSSL\b|gnutls|could not read from remote repository|unable to access",
        ),
        (Failure.TOO_OLD, r"unknown (option|switch)|usage: git|is not a git command"),
    )
)

# Whether the same call may succeed later decides the class; the advice is the end of the message.
_CLASSES: dict[Failure, tuple[type[SourceError], str]] = {
    Failure.MISSING: (SourceRefused, "check the url in advisor.yaml, and that this user may read it"),
    Failure.NO_BRANCH: (SourceRefused, "check the branch in advisor.yaml"),
    Failure.EMPTY: (SourceRefused, "push a first commit, or check the url in advisor.yaml"),
    Failure.AUTH: (SourceRefused, "check ssh_key_file, the ssh agent, or ~/.netrc for https"),
    Failure.HOST_KEY: (SourceRefused, "add the host to ~/.ssh/known_hosts after checking its key"),
    Failure.HOST_KEY_CHANGED: (
        SourceRefused,
        "somebody may stand in between: ask who runs the host, and only then replace its key in ~/.ssh/known_hosts",
    ),
    Failure.UNREACHABLE: (SourceUnavailable, "check the network and the host, then try again"),
    Failure.TIMEOUT: (SourceUnavailable, "try again, or raise timeout_seconds"),
    Failure.DISK_FULL: (SourceUnavailable, "free some space under state_directory, then try again"),
    Failure.READ_ONLY: (SourceRefused, "make state_directory writable for this user"),
    Failure.DISK_BROKEN: (SourceUnavailable, "check the disk under state_directory, then try again"),
    Failure.EXHAUSTED: (SourceUnavailable, "see what uses them up (`ulimit -a`), then try again"),
    Failure.CORRUPT: (SourceMalformed, "run `git fsck` on the repository"),
    Failure.LOCKED: (SourceUnavailable, "if no git is running there, remove the lock file and try again"),
    Failure.OWNERSHIP: (SourceRefused, "run as its owner, or reach it by ssh"),
    Failure.PROTOCOL: (SourceRefused, "use a path, file, ssh or https"),
    Failure.FORMAT: (SourceRefused, "only repositories with SHA-1 object ids are supported"),
    Failure.SHALLOW: (SourceUnavailable, "try again, or point advisor.yaml at a full repository"),
    Failure.TOO_LARGE: (SourceRefused, "narrow the paths or the window"),
    Failure.TOO_OLD: (SourceRefused, "install git 2.30 or newer"),
    Failure.NOT_INSTALLED: (SourceUnavailable, "install git and make sure it is on PATH"),
    Failure.UNKNOWN: (SourceUnavailable, "run the same by hand to see more"),
}


class GitFailed(Exception):
    """One failed git command. Never leaves the adapter: `source_error` makes a product error of it."""

    def __init__(self, kind: Failure, words: str, code: int | None = None, output: bytes = b"") -> None:
        """Keep what git said, without the credentials of a URL."""
        super().__init__(f"{kind.value}: {words}")
        self.kind = kind
        self.words = hide_credentials(words)
        self.code = code
        self.output = output


def hide_credentials(text: str) -> str:
    """Return text with the user part of every URL taken out."""
    return _CREDENTIALS.sub(r"\1", text)


def classify(words: str) -> Failure:
    """Return which failure git's words mean."""
    return next((kind for kind, pattern in FAILURES if pattern.search(words)), Failure.UNKNOWN)


def source_error(error: GitFailed | OSError, attempt: str) -> SourceError:
    """Return the error of the product: what was attempted, why it failed, what git said, what to do next."""
    if isinstance(error, OSError):
        error = from_os_error(error)
    kind, advice = _CLASSES[error.kind]
    said = f" (git said: {telling_lines(error.words)})" if error.words.strip() else ""
    return kind(f"{hide_credentials(attempt)}: {error.kind.value}{said}; {advice}")


def from_os_error(error: OSError) -> GitFailed:
    """Return the failure of our own file operations around git."""
    kinds = {
        errno.ENOSPC: Failure.DISK_FULL,
        errno.EDQUOT: Failure.DISK_FULL,
        errno.EFBIG: Failure.DISK_FULL,
        errno.EROFS: Failure.READ_ONLY,
        errno.EACCES: Failure.READ_ONLY,
        errno.EPERM: Failure.READ_ONLY,
        errno.ENOTDIR: Failure.READ_ONLY,
        errno.EIO: Failure.DISK_BROKEN,
        errno.EMFILE: Failure.EXHAUSTED,
        errno.ENFILE: Failure.EXHAUSTED,
        errno.ENOMEM: Failure.EXHAUSTED,
        errno.EAGAIN: Failure.EXHAUSTED,
    }
    return GitFailed(kinds.get(error.errno or 0, Failure.UNKNOWN), f"{error.strerror or error}: {error.filename or ''}")


def telling_lines(words: str) -> str:
    """Return the lines of git's words that tell the reason, as one bounded line."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.match(r"(fatal|error|remote|ssh|\S+: permission denied)\b", line, re.IGNORECASE)
    ]
    return one_line(" / ".join((telling or lines)[:3]), 260)
