"""Forges: where a change is offered as a pull request, reviewed, and merged.

One module per API: `github`, `gitlab`, `gitea` (which Forgejo speaks as well), over `http`, which keeps the token and
the deadlines; `shapes` and `reviews` read what comes back. All fulfil `advisor.change.Forge`. They decide nothing:
whether what was merged is what was approved, `advisor.change.offering` finds out from git.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from advisor.adapters.forge.gitea import Gitea
from advisor.adapters.forge.github import GitHub
from advisor.adapters.forge.gitlab import GitLab

__all__ = ["AnyForge", "GitHub", "GitLab", "Gitea", "open_forge"]

AnyForge = GitHub | GitLab | Gitea
_KINDS: dict[str, type[GitHub] | type[GitLab] | type[Gitea]] = {
    "github": GitHub,
    "gitlab": GitLab,
    "gitea": Gitea,
    "forgejo": Gitea,
}


def open_forge(
    kind: str,
    url: str,
    project: str,
    token: str,
    *,
    timeout_seconds: float = 10.0,
    ca_file: Path | None = None,
    labels: Sequence[str] = (),
    merge_method: str | None = None,
) -> AnyForge:
    """Return a project of a forge; nothing is asked yet.

    Args:
        kind: ``github``, ``gitlab``, ``gitea`` or ``forgejo``.
        url: Of its pages.
        project: ``owner/name``.
        token: Sent to that server only.
        timeout_seconds: Of one answer.
        ca_file: Certificates to trust in place of the usual ones.
        labels: Put on what is opened, where the server has them.
        merge_method: ``merge``, ``squash``, ``rebase`` or ``fast-forward``; None takes the safest one it knows.
    """
    return _KINDS[kind](
        url,
        project,
        token,
        timeout_seconds=timeout_seconds,
        ca_file=ca_file,
        labels=labels,
        merge_method=merge_method,
    )
