"""What the tests of the gate share: a small repository in memory, real ones in folders, and ready-made records."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from advisor.adapters.git_repository import GitRepository
from advisor.approval import Answer, Approval, Choice, Grant, decide, grant
from advisor.config_file import read_entries
from advisor.errors import AdvisorError, ChangeConflict, ChangeRefused, ChangeUncertain, SourceRefused
from advisor.evidence import ConfigValue
from advisor.path_scope import PathScope
from advisor.playbook import Action, Check, Comparison, Measure, VerificationPlan
from advisor.proposal import Draft, Proposal, RepositoryName, build_proposal
from advisor.settings import ApprovalRules
from advisor.values import ActionType, Risk

KEY = b"0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
ALICE, BOB, CAROL, MALLORY = "alice@example.org", "bob@example.org", "carol@example.org", "mallory@example.org"
RULES = ApprovalRules(approvers=(ALICE, BOB, CAROL))
POLICY = "sha256:" + "1" * 64
PATH = "apps/checkout/application.yaml"
TIMEOUT = "server.servlet.session.timeout"
GOOD = b"# checkout\nserver:\n  servlet:\n    session:\n      timeout: 30m  # agreed with the shop\n  port: 8080\n"
BAD = GOOD.replace(b"30m", b"24h")
OTHER = "apps/payments/application.yaml"

Files = dict[str, bytes]


@dataclass
class FakeRepository:
    """One branch in memory. It answers like `GitRepository` and remembers each write of the branch."""

    head_commit: str = ""
    commits: dict[str, tuple[str, str | None]] = field(default_factory=dict)  # id -> tree, parent
    trees: dict[str, Files] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    on_write: Callable[[str], None] = lambda commit: None
    fail: str = ""  # what the next push does: lost_before, lost_after, refused, unreachable
    silent: bool = False  # whether the remote can be asked

    def add(self, files: Mapping[str, bytes]) -> str:
        """Commit files as somebody else would, straight onto the branch."""
        tree = self._tree(dict(files))
        self.head_commit = self._commit(tree, self.head_commit or None, f"someone {len(self.commits)}")
        return self.head_commit

    def edit(self, **files: bytes | None) -> str:
        """Commit edits of some files onto the branch; names come with dots for slashes."""
        merged = dict(self.files(self.head_commit))
        for path, content in files.items():
            merged.pop(path, None)
            if content is not None:
                merged[path] = content
        return self.add(merged)

    def files(self, treeish: str) -> Files:
        tree = self.commits[treeish][0] if treeish in self.commits else treeish
        if tree not in self.trees:
            raise SourceRefused(f"no object {treeish}")
        return self.trees[tree]

    def head(self) -> str:
        self._ask()
        return self.head_commit

    def parent_of(self, commit: str) -> str | None:
        return self.commits[commit][1]

    def file_mode(self, commit: str, path: str) -> str | None:
        return "100644" if path in self.files(commit) else None

    def read_file(self, commit: str, path: str) -> bytes:
        return self.files(commit)[path]

    def configuration_at(self, commit: str, paths: Sequence[str]) -> tuple[ConfigValue, ...]:
        return tuple(
            ConfigValue(path=path, key=entry.key, value=entry.value, document=entry.document)
            for path, content in self.files(commit).items()
            if path in PathScope(paths)
            for entry in read_entries(content, path).entries
        )

    def write_tree(self, base_commit: str, edits: Mapping[str, bytes | None]) -> str:
        merged: dict[str, bytes | None] = {**self.files(base_commit), **edits}
        return self._tree({path: content for path, content in merged.items() if content is not None})

    def commit_tree(
        self, tree: str, parent: str, message: str, author_name: str, author_email: str, at: datetime
    ) -> str:
        self.files(tree)
        return self._commit(tree, parent, f"{message}{author_name}{author_email}{int(at.timestamp())}")

    def diff(self, before: str, after: str) -> bytes:
        old, new = self.files(before), self.files(after)
        return b"".join(_patch(p, old.get(p), new.get(p)) for p in sorted({*old, *new}) if old.get(p) != new.get(p))

    def revert_tree(self, commit: str, onto: str) -> str:
        parent = self.parent_of(commit)
        return self.apply_inverse(parent or "", commit, onto, commit)

    def apply_inverse(self, before: str, after: str, onto_commit: str, since_commit: str | None = None) -> str:
        old, new, onto = self.files(before), self.files(after), dict(self.files(onto_commit))
        for path in {*old, *new}:
            if old.get(path) == new.get(path) or onto.get(path) == old.get(path):
                continue
            if onto.get(path) != new.get(path):
                raise ChangeConflict(f"cannot be taken back exactly: {path} changed since")
            onto.pop(path, None)
            if path in old:
                onto[path] = old[path]
        return self._tree(onto)

    def equal_paths(self, one: str, other: str, paths: Iterable[str]) -> frozenset[str]:
        ours, theirs = self.files(one), self.files(other)
        return frozenset(path for path in paths if ours.get(path) == theirs.get(path))

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        at: str | None = descendant
        while at is not None:
            if at == ancestor:
                return True
            at = self.commits[at][1]
        return False

    def push(self, commit: str, expected_base: str) -> None:
        fail, self.fail = self.fail, ""
        if fail == "unreachable":
            raise _Unreachable("the remote was not reached")
        if fail == "refused":
            raise ChangeRefused("a hook said no")
        if fail == "lost_before":
            raise ChangeUncertain("the connection broke off")
        if self.head_commit != commit:
            if self.head_commit != expected_base or self.commits[commit][1] != expected_base:
                raise ChangeConflict("the branch is elsewhere")
            self.on_write(commit)
            self.head_commit = commit
            self.writes.append(commit)
        if fail == "lost_after":
            raise ChangeUncertain("the connection broke off")
        if fail == "killed_after":
            raise KeyboardInterrupt

    def is_delivered(self, commit: str) -> bool | None:
        return None if self.silent else self.is_ancestor(commit, self.head_commit)

    def _ask(self) -> None:
        if self.silent:
            raise ChangeUncertain("the remote is silent")

    def _tree(self, files: Files) -> str:
        text = b"".join(p.encode("utf-8", "surrogateescape") + b"\0" + files[p] + b"\0" for p in sorted(files))
        tree = hashlib.sha1(b"tree" + text).hexdigest()
        self.trees[tree] = files
        return tree

    def _commit(self, tree: str, parent: str | None, words: str) -> str:
        commit = hashlib.sha1(f"commit {tree} {parent} {words}".encode()).hexdigest()
        self.commits[commit] = (tree, parent)
        return commit


class _Unreachable(AdvisorError):
    pass


def _patch(path: str, old: bytes | None, new: bytes | None) -> bytes:
    name = path.encode("utf-8", "surrogateescape")
    ids = [hashlib.sha1(side).hexdigest() if side is not None else "0" * 40 for side in (old, new)]
    out = b"diff --git a/%s b/%s\n" % (name, name)
    if old is None:
        out += b"new file mode 100644\n"
    if new is None:
        out += b"deleted file mode 100644\n"
    out += f"index {ids[0]}..{ids[1]}{' 100644' if old is not None and new is not None else ''}\n".encode()
    sides = [side.split(b"\n") if side else [] for side in (old, new)]
    out += f"--- a\n+++ b\n@@ -1,{len(sides[0])} +1,{len(sides[1])} @@\n".encode()
    return out + b"".join(b"-" + x + b"\n" for x in sides[0]) + b"".join(b"+" + x + b"\n" for x in sides[1])


def fake_with_cause() -> tuple[FakeRepository, str]:
    """Return a repository whose last commit raised the session timeout, and that commit."""
    repository = FakeRepository()
    repository.add({PATH: GOOD, OTHER: b"a: 1\n"})
    return repository, repository.edit(**{PATH: BAD})


def revert_action(commit: str) -> Action:
    return Action(type=ActionType.REVERT_KEYS, commit=commit, path=PATH, keys=(TIMEOUT,), reason="The timeout.")


def draft(action: Action, **fields: Any) -> Draft:
    standard: dict[str, object] = {
        "incident_id": "inc-1",
        "service": "checkout",
        "action": action,
        "risk": Risk.LOW,
        "fixes_cause": True,
        "summary": "Sets the session timeout back to 30m.",
        "repository": RepositoryName(name="config", url="https://git.example.org/config.git"),
        "branch": "main",
        "allowed_paths": ("apps/checkout/**",),
        "evidence_digest": "sha256:" + "2" * 64,
        "policy_version": POLICY,
        "verification": VerificationPlan(
            checks=(
                Check(
                    name="heap floor",
                    query='min(jvm_memory_used_bytes{job="checkout"})',
                    measure=Measure.FLOOR,
                    comparison=Comparison.AT_MOST,
                    threshold=3.5e8,
                ),
            )
        ),
        "proposer": "engine",
    }
    return Draft.model_validate({**standard, **fields})


def propose(
    target: FakeRepository | GitRepository,
    action: Action,
    number: int = 1,
    now: datetime = NOW,
    **fields: Any,
) -> Proposal:
    return build_proposal(target, draft(action, **fields), f"prop-{number:04d}", f"nonce-{number}", now)


def say(proposal: Proposal, person: str = ALICE, choice: Choice = Choice.APPROVE, **fields: Any) -> Answer:
    return Answer.model_validate({"choice": choice, "digest": proposal.digest, "person": person, **fields})


def approve(proposal: Proposal, person: str = ALICE, now: datetime = NOW, **fields: Any) -> Approval:
    given = decide(proposal, say(proposal, person, **fields), RULES, POLICY, (), now, KEY)
    assert isinstance(given, Approval)
    return given


def granted(proposal: Proposal, *people: str, now: datetime = NOW) -> Grant:
    approvals = tuple(approve(proposal, person, now) for person in people or (ALICE,))
    return grant(proposal, approvals, RULES, POLICY, now, KEY)


def altered(record: Proposal, **fields: Any) -> Proposal:
    return Proposal.model_validate({**record.model_dump(), **fields})


# --- real git ------------------------------------------------------------------------------------------------------


def git(directory: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Run git on a repository of a test and return what it said."""
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments], input=stdin, capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode()


def new_remote(folder: Path) -> Path:
    """Return a new bare repository with the branch main."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "--bare", "-b", "main", "remote.git")
    return folder / "remote.git"


def fast_import(remote: Path, *commits: Mapping[str, bytes | None], at: datetime = NOW, branch: str = "main") -> str:
    """Put commits of somebody else onto a branch, each given as edits; return the new head."""
    stream = b""
    known = git(remote, "for-each-ref", f"refs/heads/{branch}").strip()
    for number, edits in enumerate(commits):
        when = int(at.timestamp()) - 3600 + number
        words = f"Edit {', '.join(sorted(edits))[:80]}".encode()
        stream += f"commit refs/heads/{branch}\ncommitter Dev <dev@example.org> {when} +0000\n".encode()
        stream += b"data %d\n%s\n" % (len(words), words)
        if number == 0 and known:
            stream += f"from refs/heads/{branch}^0\n".encode()
        for path, content in edits.items():
            if content is None:
                stream += f"D {path}\n".encode()
            else:
                stream += f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n"
    git(remote, "fast-import", "--quiet", "--date-format=raw", stdin=stream)
    return git(remote, "rev-parse", branch).strip()


def real_with_cause(folder: Path) -> tuple[GitRepository, Path, str]:
    """Return a git repository whose last commit raised the session timeout, its remote, and that commit."""
    remote = new_remote(folder)
    commit = fast_import(remote, {PATH: GOOD, OTHER: b"a: 1\n"}, {PATH: BAD})
    return GitRepository("config", str(remote), "main", folder / "clone"), remote, commit
