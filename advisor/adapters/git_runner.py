"""Runs git for the configuration repositories, so that nothing but the named git command ever runs.

GitPython's command runner starts the process. What it cannot do is added here: bytes on stdin, a bound on
what is read, one deadline for a command and its helpers (the whole process group ends), and an environment
without the caller's ``GIT_*`` variables (GitPython always adds to the caller's environment, so ``env -u``
takes away).

Defences, each against something that git would otherwise do:

* Hooks, fsmonitor, external diffs, text conversion, filters, pagers, credential helpers and signing programs
  are off.
* Neither the system's nor the user's git configuration is read. So for https only ``~/.netrc`` can hold a
  password.
* Only ``file``, ``ssh``, ``http`` and ``https`` are spoken; submodules are never entered; nothing asks at a
  terminal.
* Replacement objects and attributes of a repository do not change what is shown.

Each failure of git is recognised here by one table, `FAILURES`; callers turn a `GitFailed` into an error of
the product with `source_error`. Called by `git_repository` alone.
"""

from __future__ import annotations

import errno
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from advisor.errors import SourceError, SourceMalformed, SourceRefused, SourceUnavailable, one_line

OUTPUT_BYTES_MAX = 64 * 1024 * 1024  # a log of 100,000 commits is 25 MB; more is a mistake or an attack
STDERR_BYTES_MAX = 64 * 1024  # the reason of a failure stands in the last lines
BLOB_BYTES_MAX = 1024 * 1024  # configuration written by people is far smaller
KILL_GRACE_SECONDS = 2.0  # git removes its lock files on SIGTERM; a repository by path would keep them after SIGKILL
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
OBJECT_ID = re.compile(r"[0-9a-f]{40}")
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)

# What a git process may inherit: where programs, keys, certificates and proxies are. Not one GIT_* variable.
_INHERITED = frozenset(
    "PATH HOME USER LOGNAME TMPDIR SSH_AUTH_SOCK SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE"
    " http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY".split()
)

_CONFIGURATION = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "core.attributesFile=/dev/null",
    f"attr.tree={EMPTY_TREE}",  # newer git reads .gitattributes of HEAD in a bare repository
    "core.protectNTFS=true",
    "core.protectHFS=true",
    "core.askPass=",
    # A power cut must not leave an empty object: its name would never be written again.
    "core.fsync=committed",
    "core.logAllRefUpdates=false",
    "credential.helper=",
    "gc.auto=0",  # our clone keeps commits that are approved but not yet delivered, and readers take no lock
    "maintenance.auto=false",
    "fetch.unpackLimit=1",
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
    "log.showSignature=false",
    "commit.gpgSign=false",
    "push.gpgSign=false",
    "submodule.recurse=false",
    "protocol.ext.allow=never",
    "advice.detachedHead=false",
)


class Failure(StrEnum):
    """What went wrong, as far as a caller must tell it apart."""

    MISSING = "there is no repository"
    NO_BRANCH = "there is no such branch"
    EMPTY = "the repository has no commits yet"
    AUTH = "access was refused"
    HOST_KEY = "the host key is not known"
    UNREACHABLE = "the remote cannot be reached"
    TIMEOUT = "no answer in time"
    DISK_FULL = "the disk is full"
    READ_ONLY = "the place cannot be written"
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
        (Failure.OWNERSHIP, r"dubious ownership"),
        (Failure.PROTOCOL, r"transport '[^']*' not allowed|unable to find remote helper|remote helper"),
        (Failure.HOST_KEY, r"host key verification failed|remote host identification has changed"),
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
            r"|could not parse (object|commit)|invalid path|bad signature|(broken|dangling) ref",
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
    Failure.UNREACHABLE: (SourceUnavailable, "check the network and the host, then try again"),
    Failure.TIMEOUT: (SourceUnavailable, "try again, or raise timeout_seconds"),
    Failure.DISK_FULL: (SourceUnavailable, "free some space under state_directory, then try again"),
    Failure.READ_ONLY: (SourceRefused, "make state_directory writable for this user"),
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


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    output: bytes
    words: str


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
    }
    return GitFailed(kinds.get(error.errno or 0, Failure.UNKNOWN), f"{error.strerror or error}: {error.filename or ''}")


def telling_lines(words: str) -> str:
    """Return the lines of git's words that tell the reason, as one bounded line."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.match(r"(fatal|error|remote|ssh|\S+: permission denied)\b", line, re.IGNORECASE)
    ]
    return one_line(" / ".join((telling or lines)[:3]), 260)


class GitRunner:
    """Runs fixed git commands in one bare repository (or none), each with a deadline and bounds."""

    def __init__(self, git_directory: Path | None, timeout_seconds: float, ssh_key_file: Path | None = None) -> None:
        """Remember where and for how long; nothing is started."""
        self._git_directory = git_directory
        self.timeout_seconds = timeout_seconds
        ssh = ["ssh", "-oBatchMode=yes", f"-oConnectTimeout={max(1, min(15, int(timeout_seconds)))}"]
        # A connection that dies silently ends by itself, even when this process was killed and nobody watches
        # it.
        ssh += [
            "-oServerAliveInterval=10",
            "-oServerAliveCountMax=3",
            "-oControlMaster=no",
            "-oControlPath=none",
        ]
        if ssh_key_file is not None:
            ssh += ["-i", str(ssh_key_file.expanduser().absolute()), "-oIdentitiesOnly=yes"]
        self._environment = {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_ALLOW_PROTOCOL": "file:ssh:http:https",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_PAGER": "cat",
            "GIT_SSH_COMMAND": shlex.join(ssh),
            "LC_ALL": "C",
            "TZ": "UTC",
        }

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        keep_open: Sequence[int] = (),
    ) -> bytes:
        """Return what a command printed.

        Raises:
            GitFailed: It ended with another code than 0, was too slow or said too much.
        """
        outcome = self.outcome(
            *arguments,
            stdin=stdin,
            environment=environment,
            output_bytes_max=output_bytes_max,
            keep_open=keep_open,
        )
        if outcome.code != 0:
            raise failed(outcome)
        return outcome.output

    def outcome(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        keep_open: Sequence[int] = (),
    ) -> Outcome:
        """Return how a command ended, whatever its code.

        Args:
            arguments: The subcommand and its arguments.
            stdin: What the command reads.
            environment: Added for this command (a private index, the dates of a commit).
            output_bytes_max: More is a failure, and the command is ended.
            keep_open: File descriptors the command keeps: a lock is then held until the last helper ends.

        Raises:
            GitFailed: It could not be started, was too slow or said too much.
        """
        parts: list[bytes] = []
        size = 0
        with self.start(*arguments, stdin=stdin, environment=environment, keep_open=keep_open) as process:
            while chunk := process.read_some():
                size += len(chunk)
                if size > output_bytes_max:
                    raise GitFailed(Failure.TOO_LARGE, f"git {arguments[0]} printed more than {output_bytes_max} bytes")
                parts.append(chunk)
            code = process.wait()
            return Outcome(code, b"".join(parts), hide_credentials(process.words))

    @contextmanager
    def start(
        self,
        *arguments: str,
        stdin: bytes | None = b"",
        environment: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
    ) -> Iterator[GitProcess]:
        """Start a command and end it, with all its helpers, at the end of the block.

        With ``stdin=None`` stdin stays open for `GitProcess.write`.

        Raises:
            GitFailed: It could not be started.
        """
        # GitPython looks for git when it is imported, which takes 90 ms and fails where there is none.
        try:
            from git.cmd import Git
            from git.exc import CommandError
        except ImportError as error:
            raise GitFailed(Failure.NOT_INSTALLED, str(error)) from error
        env_program = shutil.which("env")
        if env_program is None:
            raise GitFailed(Failure.NOT_INSTALLED, "the program env is not on PATH")
        command = [env_program]
        for name in os.environ:
            if name not in _INHERITED and name:
                command += ["-u", name]
        command += [Git.GIT_PYTHON_GIT_EXECUTABLE or "git", "--no-pager"]
        for pair in _CONFIGURATION:
            command += ["-c", pair]
        if self._git_directory is not None:
            command.append(f"--git-dir={self._git_directory}")
        command += arguments
        wants_stdin = stdin is None or bool(stdin)
        try:
            # The session is the process group that is ended as a whole.
            handle = Git(str(self._working_directory())).execute(
                command,
                istream=subprocess.PIPE if wants_stdin else None,
                as_process=True,
                shell=False,
                env={**self._environment, **(environment or {})},
                start_new_session=True,
                pass_fds=tuple(keep_open),
            )
        except (CommandError, OSError, ValueError) as error:
            raise GitFailed(Failure.NOT_INSTALLED, one_line(str(error), 200)) from error
        popen = handle.proc
        handle.proc = None  # or its finaliser would end a process that is ours to end
        if popen is None:
            raise GitFailed(Failure.NOT_INSTALLED, "git did not start")
        process = GitProcess(popen, stdin or b"", stdin is None, time.monotonic() + self.timeout_seconds)
        with process:
            yield process

    def _working_directory(self) -> Path:
        # Never the caller's directory: a `.git` found there must not matter.
        return self._git_directory if self._git_directory and self._git_directory.is_dir() else Path("/")


def failed(outcome: Outcome) -> GitFailed:
    """Return the failure that an outcome means."""
    words = outcome.words.strip()
    if not words and outcome.code == -signal.SIGXFSZ:
        words = "File too large"
    return GitFailed(classify(words), words or f"exit code {outcome.code}", outcome.code, outcome.output)


class GitProcess:
    """A running git command: one deadline, three pipes, ended with its whole process group."""

    def __init__(self, popen: subprocess.Popen[bytes], stdin: bytes, keep_stdin: bool, deadline: float) -> None:
        """Take over a started process; ``stdin`` is fed while output is read, so neither side blocks."""
        self._popen = popen
        self._deadline = deadline
        self._pending = memoryview(stdin)
        self._keep_stdin = keep_stdin
        self._buffer: deque[bytes] = deque()
        self._stderr = bytearray()
        self._selector = selectors.DefaultSelector()
        for stream in (popen.stdout, popen.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ)
        if popen.stdin is not None:
            os.set_blocking(popen.stdin.fileno(), False)
            if not keep_stdin:
                self._selector.register(popen.stdin, selectors.EVENT_WRITE)

    def __enter__(self) -> GitProcess:
        """Return the process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process group if anything of it still runs, and close the pipes."""
        try:
            # A helper that holds a pipe after git itself has ended is ended as well.
            if self._popen.poll() is not None and error is not None and self._selector.get_map():
                self._signal(signal.SIGKILL)
            if self._popen.poll() is None:
                self._signal(signal.SIGTERM)
                try:
                    self._popen.wait(KILL_GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    self._signal(signal.SIGKILL)
                    self._popen.wait()
        finally:
            self._selector.close()
            for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
                if stream is not None:
                    _close(stream)

    @property
    def words(self) -> str:
        """Return what git wrote on stderr so far."""
        return self._stderr.decode("utf-8", "replace")

    def read_some(self) -> bytes:
        """Return the next bytes of stdout, or nothing at its end.

        Raises:
            GitFailed: The deadline passed.
        """
        while not self._buffer:
            if not self._selector.get_map():
                return b""
            self._pump()
        return self._buffer.popleft()

    def read_exactly(self, size: int) -> bytes:
        """Return that many bytes of stdout.

        Raises:
            GitFailed: The deadline passed, or stdout ended before.
        """
        parts: list[bytes] = []
        while size > 0:
            chunk = self.read_some()
            if not chunk:
                raise failed(Outcome(self.wait(), b"", self.words or "the answer ended early; early EOF"))
            if len(chunk) > size:
                self._buffer.appendleft(chunk[size:])
                chunk = chunk[:size]
            parts.append(chunk)
            size -= len(chunk)
        return b"".join(parts)

    def read_line(self) -> bytes:
        """Return stdout up to the next line feed, without it.

        Raises:
            GitFailed: The deadline passed, or stdout ended before.
        """
        line = bytearray()
        while True:
            chunk = self.read_some()
            if not chunk:
                raise failed(Outcome(self.wait(), b"", self.words or "the answer ended early; early EOF"))
            head, feed, rest = chunk.partition(b"\n")
            line += head
            if feed:
                if rest:
                    self._buffer.appendleft(rest)
                return bytes(line)

    def write(self, data: bytes) -> None:
        """Send a short request (less than a pipe holds) to a command that was started with ``stdin=None``.

        Raises:
            GitFailed: The command is gone.
        """
        if self._popen.stdin is None:
            raise GitFailed(Failure.UNKNOWN, "stdin is not open")
        try:
            os.write(self._popen.stdin.fileno(), data)
        except OSError as error:
            raise failed(Outcome(self.wait(), b"", self.words or str(error))) from error

    def wait(self) -> int:
        """Return the exit code, once stdout has ended.

        Raises:
            GitFailed: The deadline passed.
        """
        while self._selector.get_map():
            self._pump()
        try:
            return self._popen.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise self._too_slow() from error

    def _pump(self) -> None:
        ready = self._selector.select(max(0.0, self._deadline - time.monotonic()))
        if not ready:
            raise self._too_slow()
        for key, _ in ready:
            if key.fileobj is self._popen.stdin:
                self._feed(key.fd)
                continue
            try:
                data = os.read(key.fd, 65536)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(key.fileobj)
            elif key.fileobj is self._popen.stdout:
                self._buffer.append(data)
            else:
                self._stderr += data
                del self._stderr[:-STDERR_BYTES_MAX]

    def _feed(self, descriptor: int) -> None:
        try:
            self._pending = self._pending[os.write(descriptor, self._pending[:65536]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # the command's own words say why it stopped reading
            self._pending = memoryview(b"")
        if not self._pending and self._popen.stdin is not None:
            self._selector.unregister(self._popen.stdin)
            _close(self._popen.stdin)

    def _too_slow(self) -> GitFailed:
        return GitFailed(Failure.TIMEOUT, self.words)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._popen.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:
        pass


class BlobReader:
    """Reads many blobs through one ``cat-file --batch``; sizes come first, so a huge blob is never loaded.

    One more process tells the sizes. Both start with the first question: often there is none.
    """

    def __init__(self, runner: GitRunner, open_processes: ExitStack) -> None:
        """Remember how to start the two processes, and what ends them."""
        self._runner = runner
        self._open = open_processes
        self._processes: dict[str, GitProcess] = {}
        self._known: dict[str, int] = {}

    def size(self, blob: str) -> int:
        """Return the bytes of a blob.

        Raises:
            GitFailed: It is missing, or not a blob.
        """
        if blob not in self._known:
            self._known[blob] = self._ask("--batch-check", blob)[1]
        return self._known[blob]

    def read(self, blob: str, bytes_max: int = BLOB_BYTES_MAX) -> bytes:
        """Return a blob's bytes.

        Raises:
            GitFailed: It is missing, not a blob, or larger than the limit.
        """
        size = self.size(blob)
        if size > bytes_max:
            raise GitFailed(Failure.TOO_LARGE, f"object {blob} has {size} bytes, the limit is {bytes_max}")
        process, _ = self._ask("--batch", blob)
        return process.read_exactly(size + 1)[:-1]

    def _ask(self, option: str, blob: str) -> tuple[GitProcess, int]:
        process = self._processes.get(option)
        if process is None:
            started = self._runner.start("cat-file", option, stdin=None)
            process = self._processes[option] = self._open.enter_context(started)
        process.write(f"{blob}\n".encode("ascii"))
        words = process.read_line().decode("utf-8", "replace").split(" ")
        if len(words) != 3 or words[1] != "blob":
            raise GitFailed(Failure.CORRUPT, f"object {blob} is {words[-1]}, a file's content was expected")
        return process, int(words[2])


@contextmanager
def blob_reader(runner: GitRunner) -> Iterator[BlobReader]:
    """Open a reader of blobs; its processes end with the block."""
    with ExitStack() as open_processes:
        yield BlobReader(runner, open_processes)
