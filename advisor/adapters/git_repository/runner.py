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

Each failure of git is recognised by the table in `failures`. Used by this folder alone.
"""

from __future__ import annotations

import fcntl
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
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from advisor.adapters.git_repository.failures import Failure, GitFailed, classify, from_os_error, hide_credentials
from advisor.adapters.git_repository.leftovers import held
from advisor.errors import one_line

OUTPUT_BYTES_MAX = 64 * 1024 * 1024  # a log of 100,000 commits is 25 MB; more is a mistake or an attack
STDERR_BYTES_MAX = 64 * 1024  # the reason of a failure stands in the last lines
BLOB_BYTES_MAX = 1024 * 1024  # configuration written by people is far smaller
KILL_GRACE_SECONDS = 2.0  # git removes its lock files on SIGTERM; a repository by path would keep them after SIGKILL
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
OBJECT_ID = re.compile(r"[0-9a-f]{40}")
# Commands that add objects to our copy or move its refs without holding it alone.
_WRITERS = frozenset(
    ("hash-object", "write-tree", "commit-tree", "unpack-objects", "index-pack", "mktree", "update-ref")
)
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


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    output: bytes
    words: str


class GitRunner:
    """Runs fixed git commands in one bare repository (or none), each with a deadline and bounds."""

    def __init__(
        self,
        git_directory: Path | None,
        timeout_seconds: float,
        ssh_key_file: Path | None = None,
        writing: Path | None = None,
    ) -> None:
        """Remember where and for how long; nothing is started.

        Args:
            git_directory: The repository; None for commands that need none.
            timeout_seconds: Of each command.
            ssh_key_file: For remotes by ssh.
            writing: A lock file that commands which add objects or move refs share; see `leftovers`.
        """
        self._git_directory = git_directory
        self._writing = writing
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
        with self._among_writers(arguments[0]) as writing:
            process = self._spawn(command, wants_stdin, environment, (*keep_open, *writing), stdin)
            with process:
                yield process

    @contextmanager
    def _among_writers(self, subcommand: str) -> Iterator[tuple[int, ...]]:
        if self._writing is None or subcommand not in _WRITERS:
            yield ()
            return
        try:
            with held(self._writing, fcntl.LOCK_SH, self.timeout_seconds) as descriptor:
                if descriptor is None:
                    raise GitFailed(Failure.TIMEOUT, f"{self._writing.parent} is being tidied for that long")
                yield (descriptor,)
        except OSError as error:
            raise from_os_error(error) from error

    def _spawn(
        self,
        command: list[str],
        wants_stdin: bool,
        environment: Mapping[str, str] | None,
        kept: tuple[int, ...],
        stdin: bytes | None,
    ) -> GitProcess:
        from git.cmd import Git
        from git.exc import CommandError

        try:
            # The session is the process group that is ended as a whole.
            handle = Git(str(self._working_directory())).execute(
                command,
                istream=subprocess.PIPE if wants_stdin else None,
                as_process=True,
                shell=False,
                env={**self._environment, **(environment or {})},
                start_new_session=True,
                pass_fds=kept,
            )
        except OSError as error:  # no memory, no descriptors, a broken disk
            found = from_os_error(error)
            if found.kind in (Failure.UNKNOWN, Failure.READ_ONLY):
                found = GitFailed(Failure.NOT_INSTALLED, one_line(str(error), 200))
            raise found from error
        except (CommandError, ValueError) as error:
            raise GitFailed(Failure.NOT_INSTALLED, one_line(str(error), 200)) from error
        popen = handle.proc
        handle.proc = None  # or its finaliser would end a process that is ours to end
        if popen is None:
            raise GitFailed(Failure.NOT_INSTALLED, "git did not start")
        return GitProcess(popen, stdin or b"", stdin is None, time.monotonic() + self.timeout_seconds)

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
        self._owner = os.getpid()
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
            if self._owner != os.getpid():  # a fork of the owner has the pipes but not the process
                self._popen.poll()
                return
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

    def renew(self, deadline: float) -> None:
        """Give a process that answers many questions the deadline of the next one; earlier words are forgotten."""
        self._deadline = deadline
        self._stderr.clear()

    @property
    def has_ended(self) -> bool:
        """Return whether the command is gone."""
        return self._popen.poll() is not None

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
