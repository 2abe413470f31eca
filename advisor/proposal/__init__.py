"""A proposal: one exact edit of the configuration repository, its inverse, and all that an approver must see.

`build_proposal` turns an action of the closed registry into a candidate tree on the present head of the
branch, rehearses the way back, runs the guardrails and seals everything with a digest. What is approved
later is that digest: nothing is composed, merged or edited between the approval and the commit.

Nothing is written to the branch here, nobody is asked, and no clock is read. Called by the workflow, and by
`rollback`, whose proposals go through the same gate. The repository is reached through `ChangeTarget`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, assert_never

from pydantic import Field

from advisor.config_file import insert_key, read_entries, revert_keys, set_value
from advisor.errors import ChangeRefused, SourceMalformed, one_line
from advisor.evidence import ConfigValue
from advisor.evidence.config_diff import diff_keys
from advisor.playbook import Action, VerificationPlan
from advisor.proposal.guardrails import (
    check_git_names,
    check_keys,
    check_modes,
    check_paths,
    check_ranges,
    check_rules,
    check_size,
    is_inside,
)
from advisor.proposal.manifests import check_manifests
from advisor.proposal.memory import check_memory, touches_memory
from advisor.proposal.patch import PatchFile, has_odd_characters, parse_patch, read_rendered, render_diff
from advisor.proposal.records import FileEdit, Guard, Guardrail
from advisor.values import ActionType, Instant, Record, Risk, digest, format_instant

__all__ = [
    "ChangeTarget",
    "Draft",
    "FileEdit",
    "Guard",
    "Guardrail",
    "PatchFile",
    "Proposal",
    "RepositoryName",
    "build_proposal",
    "digest_of",
    "parse_patch",
    "read_rendered",
    "render_diff",
    "seal",
]

SCHEMA = "advisor.proposal/v1"  # inside the digest: another layout can never give the digest of this one
# A fixed identity of the machine; the people stand in the trailers. RFC 2606 reserves `.invalid`, so the
# address can never belong to anybody, which cannot be said of a name under `localhost`.
AUTHOR_NAME = "ops-advisor"
AUTHOR_EMAIL = "ops-advisor@advisor.invalid"
RESTART_KEY = 'spec.template.metadata.annotations["kubectl.kubernetes.io/restartedAt"]'
REPLICAS_KEY = "spec.replicas"


class RepositoryName(Record):
    """Which repository, for people: its name in the settings and its address without credentials."""

    name: str
    url: str


class Proposal(Record):
    """An exact change that is not yet allowed.

    Attributes:
        base: The commit that it is made on; another head of the branch makes it void.
        tree: The tree that the commit will have; empty for ``escalate``, which changes nothing.
        patch_digest: Of the bytes of the patch from base to tree.
        diff: The patch as it is shown, in full, secrets hidden, odd characters made visible.
        view_digest: Of the text in ``diff``: what the approver saw is bound as well.
        inverse_tree: The tree that the rehearsed inverse gave: byte for byte that of the base.
        inverse_patch_digest: Of the bytes of the patch from tree back to ``inverse_tree``.
        paths: The files of the patch, in its order: what rules of approval that name paths are held against.
        rolls_back: The change that this takes back; None for a remedy.
        after: Proposals whose changes must stand on their branches before this one is delivered.
        proposer: Who drafted it; that person may not approve it.
        nonce: Chance, given by the caller: the same edit proposed twice is two proposals.
        digest: ``digest_of`` this record.
    """

    id: str = Field(min_length=1)
    incident_id: str
    service: str
    action: Action
    risk: Risk
    fixes_cause: bool
    summary: str
    repository: RepositoryName
    branch: str
    base: str
    tree: str
    patch_digest: str
    diff: str
    view_digest: str
    inverse_tree: str
    inverse_patch_digest: str
    rollback_rehearsed: bool
    paths: tuple[str, ...] = ()
    evidence_digest: str
    policy_version: str
    verification: VerificationPlan
    guardrails: tuple[Guardrail, ...] = ()
    warnings: tuple[str, ...] = ()
    rolls_back: str | None = None
    after: tuple[str, ...] = ()
    proposer: str
    created_at: Instant
    expires_at: Instant
    nonce: str = Field(min_length=1)
    digest: str

    @property
    def changes_something(self) -> bool:
        """Return whether there is anything to approve: an escalation only calls a person."""
        return bool(self.tree) and self.action.type is not ActionType.ESCALATE


class Draft(Record):
    """What a proposal is to be made of, before the repository was asked.

    Attributes:
        allowed_paths: The service's globs; no other file may be touched.
        allowed_keys: Globs of the keys that may be written; empty allows all.
        forbidden_keys: Globs of keys that are never written, by whatever action.
        proposer: The person or the part (``engine``, ``model``) that chose the action.
    """

    incident_id: str
    service: str
    action: Action
    risk: Risk
    fixes_cause: bool
    summary: str
    repository: RepositoryName
    branch: str
    allowed_paths: tuple[str, ...]
    allowed_keys: tuple[str, ...] = ()
    forbidden_keys: tuple[str, ...] = ()
    evidence_digest: str
    policy_version: str
    verification: VerificationPlan
    proposer: str
    expires_minutes: int = Field(default=30, ge=1, le=240)
    warnings: tuple[str, ...] = ()
    rolls_back: str | None = None
    after: tuple[str, ...] = ()


class ChangeTarget(Protocol):
    """A repository in which trees can be made and compared without touching its branch."""

    def head(self) -> str:
        """Return the commit at the remote's branch, asked now."""
        ...

    def parent_of(self, commit: str) -> str | None:
        """Return the first parent; None for a root."""
        ...

    def file_mode(self, commit: str, path: str) -> str | None:
        """Return git's mode of a path in a commit; None where there is nothing."""
        ...

    def read_file(self, commit: str, path: str) -> bytes:
        """Return the bytes of a plain file in a commit."""
        ...

    def configuration_at(self, commit: str, paths: Sequence[str]) -> tuple[ConfigValue, ...]:
        """Return the keys and values of the files in scope at a commit."""
        ...

    def write_tree(self, base_commit: str, edits: Mapping[str, bytes | None]) -> str:
        """Return the tree of a commit with these files replaced (None removes)."""
        ...

    def commit_tree(
        self, tree: str, parent: str, message: str, author_name: str, author_email: str, at: datetime
    ) -> str:
        """Return the id of a commit that is on no branch; the same arguments give the same id."""
        ...

    def diff(self, before: str, after: str) -> bytes:
        """Return the whole patch between two commits or trees."""
        ...

    def revert_tree(self, commit: str, onto: str) -> str:
        """Return the tree of ``onto`` without what ``commit`` did."""
        ...

    def apply_inverse(self, before: str, after: str, onto_commit: str, since_commit: str | None = None) -> str:
        """Return the tree of ``onto_commit`` with the step from before to after taken back."""
        ...


def digest_of(proposal: Proposal) -> str:
    """Return SHA-256 over the canonical JSON of all that is proposed, and under which rules.

    Every field is inside but two: ``digest`` cannot contain itself, and ``id`` is a handle for people, not
    content (the nonce already makes two proposals of one edit differ, and an approval signs the id beside
    the digest).
    """
    return digest({"schema": SCHEMA, **proposal.model_dump(mode="json", exclude={"id", "digest"})})


def build_proposal(
    repository: ChangeTarget,
    draft: Draft,
    proposal_id: str,
    nonce: str,
    now: datetime,
    redact: Callable[[str], str] | None = None,
    guards: tuple[Guard, ...] = (),
) -> Proposal:
    """Return the proposal of a draft, made and rehearsed on the present head of the branch.

    Args:
        repository: Where trees are made.
        draft: What is to be done, for what, under which rules.
        proposal_id: A fresh id.
        nonce: Fresh chance.
        now: The beginning of its life; a fraction below a millisecond is dropped.
        redact: Hides secrets in what is shown.
        guards: Further guardrails, such as memory arithmetic.

    Raises:
        ChangeRefused: A guardrail failed, the edit cannot be made exactly, or the branch is already so.
        ChangeConflict: Later edits stand in the way of what is to be taken back; it names them.
        SourceError: The repository could not be read.
    """
    base = repository.head()
    if draft.action.type is ActionType.ESCALATE:
        return seal(draft, proposal_id, nonce, now, base=base, guardrails=(), shown="")
    action = _complete(draft.action, now)
    draft = Draft.model_validate({**draft.model_dump(), "action": action})
    tree = make_tree(repository, action, base, draft.allowed_paths)
    patch = repository.diff(base, tree)
    if not patch:
        raise ChangeRefused(f"{describe(action)}: already so on {draft.branch} ({base[:12]}); nothing to change")
    # On no branch: so that the inverse can be rehearsed, and the files read, as of the candidate itself.
    candidate = repository.commit_tree(tree, base, f"Candidate of {proposal_id}", AUTHOR_NAME, AUTHOR_EMAIL, now)
    guardrails = run_guardrails(repository, draft, base, candidate, patch, guards)
    return seal(
        draft,
        proposal_id,
        nonce,
        now,
        base=base,
        tree=tree,
        patch=patch,
        inverse=rehearse(repository, base, candidate),
        guardrails=guardrails,
        shown=render_diff(patch, redact),
    )


def make_tree(repository: ChangeTarget, action: Action, base: str, allowed_paths: tuple[str, ...]) -> str:
    """Return the tree that an action makes of the base.

    Raises:
        ChangeRefused: A parameter is missing, or the edit cannot be made exactly.
        ChangeConflict: A commit cannot be taken back because of later ones.
    """
    match action.type:
        case ActionType.REVERT_COMMIT:
            return repository.revert_tree(_commit(action), base)
        case ActionType.REVERT_KEYS:
            return repository.write_tree(base, _reverted_files(repository, action, base, allowed_paths))
        case ActionType.ROLL_BACK_IMAGE if not action.values:
            return repository.write_tree(base, _reverted_files(repository, action, base, allowed_paths))
        case ActionType.SET_VALUE | ActionType.ROLL_BACK_IMAGE | ActionType.SCALE | ActionType.RESTART:
            return repository.write_tree(base, _set_file(repository, action, base))
        case ActionType.ESCALATE:
            raise ChangeRefused("escalate calls a person and changes nothing")
        case _:
            assert_never(action.type)


def rehearse(repository: ChangeTarget, base: str, candidate: str) -> tuple[str, bytes]:
    """Return the tree that the inverse gives on top of a candidate commit, and the inverse patch.

    Raises:
        ChangeRefused: It is not byte for byte the tree of the base: then the way back is not known, and the
            way there is not offered.
        ChangeConflict: The inverse cannot be applied at all.
    """
    inverse_tree = repository.apply_inverse(base, candidate, candidate)
    leftover = repository.diff(base, inverse_tree)
    if leftover:
        names = ", ".join(file.path for file in parse_patch(leftover)[:5])
        raise ChangeRefused(f"the rehearsed rollback does not restore {names} byte for byte; not offered")
    return inverse_tree, repository.diff(candidate, inverse_tree)


def run_guardrails(
    repository: ChangeTarget, draft: Draft, base: str, candidate: str, patch: bytes, guards: tuple[Guard, ...]
) -> tuple[Guardrail, ...]:
    """Return what the guardrails said, all passed.

    Raises:
        ChangeRefused: One did not; the message names it.
    """
    files = parse_patch(patch)
    paths = [file.path for file in files]
    results = [
        check_paths(paths, draft.allowed_paths),
        check_git_names(paths),
        check_modes(files),
        check_size(patch),
    ]
    _refuse_failed(draft.action, results)
    edits = tuple(
        FileEdit(path=path, before=_read(repository, base, path), after=_read(repository, candidate, path))
        for path in paths
    )
    results.append(check_ranges(draft.action))
    if draft.action.type is not ActionType.REVERT_COMMIT:
        results.append(check_keys(draft.action, edits))
    # Read only where it is needed: the arithmetic wants the whole service, and most edits are not about memory.
    configuration = repository.configuration_at(base, draft.allowed_paths) if touches_memory(edits) else ()
    further = (
        check_rules(edits, draft.allowed_keys, draft.forbidden_keys),
        check_manifests(draft.action.type, edits),
        check_memory(draft.action.type, edits, configuration),
    )
    results += [result for result in further if result is not None]
    results += [guard(edits) for guard in guards]
    _refuse_failed(draft.action, results)
    return tuple(results)


def seal(
    draft: Draft,
    proposal_id: str,
    nonce: str,
    now: datetime,
    *,
    base: str,
    guardrails: tuple[Guardrail, ...],
    shown: str,
    tree: str = "",
    patch: bytes = b"",
    inverse: tuple[str, bytes] | None = None,
) -> Proposal:
    """Return the proposal with its digest; everything that an approval will bind is inside by now."""
    created_at = now.replace(microsecond=now.microsecond // 1000 * 1000)  # what is stored: digests read back equal
    warnings = list(draft.warnings)
    if not draft.fixes_cause and draft.rolls_back is None:
        warnings.append("does not fix the cause")
    if has_odd_characters(shown):
        warnings.append("unusual characters in the patch are shown as ⟨U+…⟩")
    proposal = Proposal(
        **{
            name: getattr(draft, name)
            for name in Draft.model_fields
            if name in Proposal.model_fields and name not in ("warnings", "summary", "repository")
        },
        id=proposal_id,
        summary=one_line(draft.summary),
        repository=RepositoryName(name=draft.repository.name, url=without_credentials(draft.repository.url)),
        base=base,
        tree=tree,
        patch_digest=digest(patch),
        diff=shown,
        view_digest=digest(shown.encode("utf-8", "surrogatepass")),
        inverse_tree=inverse[0] if inverse else "",
        inverse_patch_digest=digest(inverse[1] if inverse else b""),
        rollback_rehearsed=inverse is not None,
        paths=tuple(_storable(file.path) for file in parse_patch(patch)),
        guardrails=guardrails,
        warnings=tuple(warnings),
        created_at=created_at,
        expires_at=created_at + timedelta(minutes=draft.expires_minutes),
        nonce=nonce,
        digest="",
    )
    return Proposal.model_validate({**proposal.model_dump(), "digest": digest_of(proposal)})


def _storable(path: str) -> str:
    # Bytes that are no UTF-8 come as lone surrogates, which no database and no JSON text takes.
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def describe(action: Action) -> str:
    """Return an action in a few words: type, keys, place."""
    what = ", ".join(action.keys) or (action.commit or "")[:12]
    where = f" in {action.path}" if action.path else ""
    return one_line(f"{action.type.value} {what}{where}", 200)


def without_credentials(url: str) -> str:
    """Return a repository's address without password, token, query or fragment; a plain ssh user stays."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    kept = user.partition(":")[0] + "@" if at and scheme.lower() in ("ssh", "git+ssh") else ""
    return f"{scheme}://{kept}{host}{slash}{re.split('[?#]', path)[0]}"


def _complete(action: Action, now: datetime) -> Action:
    # A restart and a scale have one usual place; the completed action is what is shown and bound.
    keys, values = action.keys, action.values
    if action.type is ActionType.RESTART:
        keys, values = keys or (RESTART_KEY,), values or (format_instant(now.replace(microsecond=0)),)
    elif action.type is ActionType.SCALE:
        keys = keys or (REPLICAS_KEY,)
    return Action.model_validate({**action.model_dump(), "keys": keys, "values": values})


def _set_file(repository: ChangeTarget, action: Action, base: str) -> dict[str, bytes | None]:
    path = _wanted(action.path, action, "path")
    if not action.keys or len(action.keys) != len(action.values):
        raise ChangeRefused(f"{describe(action)}: one value for each key is wanted")
    data = _read(repository, base, path)
    if data is None:
        raise ChangeRefused(f"{describe(action)}: {path} does not exist at {base[:12]}")
    for key, value in zip(action.keys, action.values, strict=True):
        # A restart's annotation is usually not there yet; all other values must be, or the key is a wrong
        # guess.
        known = read_entries(data, path).entry(key, action.document) is not None
        edit = set_value if known or action.type is not ActionType.RESTART else insert_key
        data = edit(data, path, key, value, action.document)
    return {path: data}


def _reverted_files(
    repository: ChangeTarget, action: Action, base: str, allowed_paths: tuple[str, ...]
) -> dict[str, bytes | None]:
    commit = _commit(action)
    if not action.keys:
        raise ChangeRefused(f"{describe(action)}: which keys?")
    parent = repository.parent_of(commit)
    if parent is None:
        raise ChangeRefused(f"{describe(action)}: {commit[:12]} is the first commit; there is no value before it")
    edits: dict[str, bytes | None] = {}
    left = set(action.keys)
    for path in [action.path] if action.path else _touched(repository, parent, commit, allowed_paths):
        before, after, current = (_read(repository, c, path) for c in (parent, commit, base))
        changed = _changed_keys(before, after, path)
        keys = tuple(key for key in action.keys if any(is_inside(c, key) for c in changed))
        if not keys or after is None:
            continue
        if current is None:
            raise ChangeRefused(f"{describe(action)}: {path} was removed since {commit[:12]}")
        # Document 0 is also "not said": a key alone must then have changed in one document only.
        named = tuple((action.document, key) for key in keys) if action.document else keys
        edits[path] = revert_keys(before, after, current, path, named)
        left -= set(keys)
    if left:
        raise ChangeRefused(f"{describe(action)}: {commit[:12]} did not change {', '.join(sorted(left))}")
    return edits


def _touched(repository: ChangeTarget, parent: str, commit: str, allowed_paths: tuple[str, ...]) -> list[str]:
    paths = [file.path for file in parse_patch(repository.diff(parent, commit))]
    return [path for path in paths if check_paths([path], allowed_paths).passed]


def _read(repository: ChangeTarget, commit: str, path: str) -> bytes | None:
    return None if repository.file_mode(commit, path) is None else repository.read_file(commit, path)


def _changed_keys(before: bytes | None, after: bytes | None, path: str) -> set[str]:
    try:
        return {change.key for change in diff_keys(before, after, path)}
    except SourceMalformed:
        return set()  # a file that is not read by key cannot be taken back by key


def _refuse_failed(action: Action, results: list[Guardrail]) -> None:
    failed = [f"{r.name}: {r.detail}" for r in results if not r.passed]
    if failed:
        raise ChangeRefused(f"{describe(action)}: {'; '.join(failed)}")


def _wanted(value: str | None, action: Action, what: str) -> str:
    if not value:
        raise ChangeRefused(f"{describe(action)}: it names no {what}")
    return value


def _commit(action: Action) -> str:
    commit = _wanted(action.commit, action, "commit")
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit):
        raise ChangeRefused(f"{describe(action)}: {commit[:80]!r} is not the full id of a commit")
    return commit
