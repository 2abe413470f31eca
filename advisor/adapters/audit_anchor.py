"""Keeps the head of the audit in a git repository elsewhere, under names that are made once and never moved.

Whoever owns this machine can put back an old database and its old mirror together. What was pushed elsewhere before
still says how far the audit had come. Each anchor is a ref of its own, ``refs/tags/advisor-audit/SERVER/NUMBER`` (an
annotated tag) or ``refs/notes/advisor-audit/SERVER/NUMBER`` (a note on the remote's present head): no branch is
touched, and the push says that the name must not be there yet, so two chains that went on from one copy collide.

The message holds the anchor with its HMAC; an SSH key signs the tag or the note's commit besides, so that
``git verify-tag`` tells others who made it. It runs git as the repositories do (`git_repository.runner`) in a small bare
repository of its own, and decides nothing: `advisor.audit.check_anchors` does. Called by `workflow.auditing`.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from advisor.adapters.git_repository.failures import Failure, GitFailed, hide_credentials, source_error
from advisor.adapters.git_repository.paths import check_url
from advisor.adapters.git_repository.remote import FIXED_CONFIG, Remote, allow_reading, write_if_different
from advisor.adapters.git_repository.runner import OBJECT_ID, GitRunner
from advisor.audit import Anchor
from advisor.errors import AuditBroken, AuditUnavailable, SourceRefused, one_line

ROOTS = {"tag": "refs/tags/advisor-audit", "note": "refs/notes/advisor-audit"}
ANCHORS_MAX = 200_000  # hourly for twenty years
_NAME, _MAIL = "ops-advisor", "ops-advisor@advisor.invalid"
_ANCHOR_CHARACTERS_MAX = 2000
_SIGNATURE = b"-----BEGIN SSH SIGNATURE-----"


class AuditAnchors:
    """The anchors in one repository."""

    def __init__(
        self,
        url: str,
        directory: Path,
        kind: Literal["tag", "note"] = "tag",
        timeout_seconds: float = 20.0,
        ssh_key_file: Path | None = None,
        signing_key_file: Path | None = None,
    ) -> None:
        """Remember the places; nothing is read or written.

        Args:
            url: A path, file, ssh or https address.
            directory: Of our own small repository; made when first needed.
            kind: What an anchor is pushed as; both are read.
            timeout_seconds: Of each git command.
            ssh_key_file: To reach the remote with.
            signing_key_file: To sign with, besides the HMAC.

        Raises:
            AuditUnavailable: The address is none that is spoken.
        """
        try:
            address = check_url(url)
        except SourceRefused as error:
            raise AuditUnavailable(f"audit.anchor: {error}") from error
        self.target = hide_credentials(address)
        self._kind = kind
        self._directory = directory.absolute()
        self._repository = self._directory / "anchors.git"
        self._signing_key = signing_key_file
        self._remote = Remote(address, "", timeout_seconds, ssh_key_file, self._directory / "reading.config")
        self._git = GitRunner(self._repository, timeout_seconds, ssh_key_file)

    def put(self, anchor: Anchor) -> str:
        """Return the name of the ref after the anchor stands there; a repeat finds the first one.

        Raises:
            AuditUnavailable: It does not stand there, or that cannot be told; the same call may be repeated.
            AuditBroken: An anchor of the same number and another chain stands there.
        """
        ref = f"{ROOTS[self._kind]}/{anchor.server}/{anchor.sequence}"
        with self._explained(f"anchoring entry {anchor.sequence}"), self._locked():
            made = self._make(anchor, ref)
            try:
                self._push(made, ref)
            except GitFailed:
                # It may be there already, from a push that broke off or from somebody else's chain.
                if not self._stands(anchor, ref):
                    raise
        return ref

    def read(self, server: str) -> tuple[Anchor, ...]:
        """Return every anchor of a server that stands in the repository now, by number.

        Raises:
            AuditUnavailable: The repository cannot be asked.
            AuditBroken: A name of the server's holds something that is no anchor.
        """
        with self._explained("reading the anchors"), self._locked():
            return self._fetch(server)

    def _make(self, anchor: Anchor, ref: str) -> str:
        """Return the object that the ref will name: all of it is in our repository when this returns."""
        line = anchor.model_dump_json()
        subject = f"Audit of ops-advisor {anchor.server}: {anchor.sequence} entries"
        message = f"{subject}\n\n{line}\n".encode()
        blob = self._id("hash-object", "-w", "--stdin", stdin=line.encode() + b"\n")
        name = self._annotated() if self._kind == "note" else "anchor.json"
        tree = self._id("mktree", stdin=f"100644 blob {blob}\t{name}\n".encode())
        sign = self._signing("commit") if self._kind == "note" else []
        commit = self._id(*self._with_key(), "commit-tree", *sign, tree, stdin=message, dated=anchor)
        if self._kind == "note":
            return self._signed(commit)
        tag = ref.removeprefix("refs/tags/")
        fixed = ("tag", "--force", "--cleanup=verbatim", *self._signing("tag"), "--file=-", "--", tag, commit)
        self._git.run(*self._with_key(), *fixed, stdin=message, environment=_dates(anchor))
        return self._signed(self._id("rev-parse", "--verify", "--end-of-options", ref))

    def _signed(self, made: str) -> str:
        # git 2.39 makes an unsigned tag, with exit code 0, where the key cannot be read.
        if self._signing_key is not None and _SIGNATURE not in self._git.run("cat-file", "-p", made):
            raise GitFailed(Failure.UNKNOWN, f"the anchor was not signed; check signing_key_file {self._signing_key}")
        return made

    def _with_key(self) -> list[str]:
        if self._signing_key is None:
            return []
        return ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self._signing_key}"]

    def _signing(self, what: str) -> list[str]:
        if self._signing_key is None:
            return [] if what == "commit" else ["--annotate"]
        return ["-S"] if what == "commit" else ["--sign"]

    def _annotated(self) -> str:
        """Return the commit that a note is on: the remote's present head, or the empty tree of an empty one."""
        allow_reading(self._remote)
        out = self._git.run("ls-remote", "--", self._remote.url, "HEAD", environment=self._remote.environment)
        found = OBJECT_ID.match(out.decode("utf-8", "replace"))
        return found.group() if found else self._id("mktree")

    def _push(self, made: str, ref: str) -> None:
        self._git.run(
            "push",
            "--porcelain",
            "--no-verify",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--no-signed",
            f"--force-with-lease={ref}:",  # the name must not be there yet
            "--",
            self._remote.url,
            f"{made}:{ref}",
        )

    def _stands(self, anchor: Anchor, ref: str) -> bool:
        """Return whether this very head is anchored already; after a failed push the remote alone knows."""
        try:
            there = [known for known in self._fetch(anchor.server) if known.sequence == anchor.sequence]
        except GitFailed:
            return False
        if any(known.hash != anchor.hash for known in there):
            raise AuditBroken(
                f"audit entry {anchor.sequence}: {self.target} has another one anchored as {ref}; this audit was put"
                " back to an older state and went on, or it goes on in two places"
            )
        return bool(there)

    def _fetch(self, server: str) -> tuple[Anchor, ...]:
        allow_reading(self._remote)
        wanted = [f"+{root}/{server}/*:refs/{kind}/{server}/*" for kind, root in ROOTS.items()]
        fixed = ("--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-gc", "--no-recurse-submodules")
        self._git.run("fetch", *fixed, "--", self._remote.url, *wanted, environment=self._remote.environment)
        shape = "--format=%(refname)%00%(contents:body)%00"
        out = self._git.run(
            "for-each-ref", f"--count={ANCHORS_MAX}", shape, *(f"refs/{kind}/{server}" for kind in ROOTS)
        )
        parts = out.decode("utf-8", "replace").split("\0")
        found = [self._parse(ref.strip(), body) for ref, body in zip(parts[0::2], parts[1::2], strict=False)]
        return tuple(sorted(found, key=lambda anchor: anchor.sequence))

    def _parse(self, ref: str, body: str) -> Anchor:
        _, _, server, number = [*ref.split("/", 3), "", "", ""][:4]
        try:
            anchor = Anchor.model_validate_json(body.strip()[:_ANCHOR_CHARACTERS_MAX])
        except ValidationError as error:
            raise AuditBroken(
                f"audit: {one_line(ref, 100)} of {self.target} holds no anchor; it was replaced"
            ) from error
        if (anchor.server, str(anchor.sequence)) != (server, number):
            raise AuditBroken(f"audit: {one_line(ref, 100)} of {self.target} holds the anchor of another entry")
        return anchor

    def _id(self, *arguments: str, stdin: bytes = b"", dated: Anchor | None = None) -> str:
        out = self._git.run(*arguments, stdin=stdin, environment=_dates(dated) if dated else None)
        found = re.fullmatch(rb"([0-9a-f]{40})\n", out)
        if found is None:
            raise GitFailed(Failure.UNKNOWN, f"git {arguments[0]} gave no object id")
        return found[1].decode()

    @contextmanager
    def _explained(self, attempt: str) -> Iterator[None]:
        try:
            yield
        except (GitFailed, OSError) as error:
            raise AuditUnavailable(f"audit: {source_error(error, f'{attempt} in {self.target}')}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold our small repository against other processes, made if it is not there.

        Raises:
            GitFailed: Another process held it for the whole timeout.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + self._git.timeout_seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise GitFailed(Failure.TIMEOUT, "another process is anchoring for that long") from error
                    time.sleep(0.02)
            if not (self._repository / "HEAD").exists():
                runner = GitRunner(None, self._git.timeout_seconds)
                runner.run("init", "-q", "--bare", "--template=", str(self._repository))
            write_if_different(self._repository / "config", FIXED_CONFIG)
            yield
        finally:
            os.close(descriptor)


def _dates(anchor: Anchor) -> dict[str, str]:
    when = f"{int(anchor.at.timestamp())} +0000"
    return {
        "GIT_AUTHOR_NAME": _NAME,
        "GIT_AUTHOR_EMAIL": _MAIL,
        "GIT_AUTHOR_DATE": when,
        "GIT_COMMITTER_NAME": _NAME,
        "GIT_COMMITTER_EMAIL": _MAIL,
        "GIT_COMMITTER_DATE": when,
    }
