"""Merge requests on GitLab.

GitLab's approvals carry no commit. They count for ours only where the merge request never had another one, which its
list of versions says.

Source: GitLab REST API documentation, v4: merge requests, approvals, versions, projects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from advisor.adapters.forge.http import Api
from advisor.adapters.forge.shapes import commit, head_commit, inner, mapping, number, rows
from advisor.change import PullRequest, Review
from advisor.errors import SourceRefused

PAGE = 100
_WRITES = 30  # the access level of a developer


class GitLab:
    """One project on GitLab; fulfils `advisor.change.Forge`."""

    def __init__(
        self,
        url: str,
        project: str,
        token: str,
        *,
        timeout_seconds: float = 10.0,
        ca_file: Path | None = None,
        labels: Sequence[str] = (),
        merge_method: str | None = None,
    ) -> None:
        """Remember where; nothing is asked. ``url`` is that of its pages."""
        web = url.rstrip("/")
        self._api = Api(f"{web}/api/v4", {"PRIVATE-TOKEN": token}, token, timeout_seconds, ca_file)
        self._web = f"{web}/{project}/-/merge_requests"
        self._name = project
        self._path = f"/projects/{quote(project, safe='')}"
        self._labels = list(labels)
        self._squash = merge_method == "squash"

    def check(self) -> str:
        """Return what this token can do here.

        Raises:
            SourceError: The project cannot be read, or not be written.
        """
        found = mapping(self._api.get(self._path), "project")
        levels = [inner(found, "permissions", f"{kind}_access", "access_level") for kind in ("project", "group")]
        if not any(isinstance(level, int) and level >= _WRITES for level in levels):
            raise SourceRefused(
                f"{self._name}: the token may read it, not write; it needs the role of a developer, scope api"
            )
        return f"{self._name} may be read and written"

    def find(self, head_branch: str, base_branch: str) -> PullRequest | None:
        """See `advisor.change.Forge.find`."""
        query = {"source_branch": head_branch, "target_branch": base_branch, "state": "all", "per_page": str(PAGE)}
        found = [
            self._request(row)
            for row in rows(self._api.get(f"{self._path}/merge_requests", **query), "list of merge requests")
            if row.get("source_branch") == head_branch
            and row.get("target_branch") == base_branch
            and row.get("source_project_id") == row.get("target_project_id")
        ]
        return max(found, key=lambda one: (one.state == "open", one.number), default=None)

    def open(self, head_branch: str, base_branch: str, title: str, body: str) -> PullRequest:
        """See `advisor.change.Forge.open`."""
        wanted = {
            "source_branch": head_branch,
            "target_branch": base_branch,
            "title": title,
            "description": body,
            "labels": ",".join(self._labels),
            "remove_source_branch": False,
        }
        return self._request(mapping(self._api.call("POST", f"{self._path}/merge_requests", wanted), "merge request"))

    def reviews(self, number: int) -> tuple[Review, ...]:
        """See `advisor.change.Forge.reviews`."""
        path = f"{self._path}/merge_requests/{number}"
        versions = {
            row.get("head_commit_sha") for row in rows(self._api.get(f"{path}/versions", per_page=PAGE), "versions")
        }
        only = versions.pop() if len(versions) == 1 else None
        found = mapping(self._api.get(f"{path}/approvals"), "approvals")
        logins = [inner(row, "user", "username") for row in rows(found.get("approved_by") or [], "approvals")]
        at = commit(only)
        return tuple(
            Review(login=login, commit=at or "", approves=at is not None) for login in logins if isinstance(login, str)
        )

    def merge(self, number: int, commit: str) -> None:
        """See `advisor.change.Forge.merge`."""
        wanted = {"sha": commit, "squash": self._squash, "should_remove_source_branch": False}
        self._api.call("PUT", f"{self._path}/merge_requests/{number}/merge", wanted)

    def close(self, number: int) -> None:
        """See `advisor.change.Forge.close`."""
        self._api.call("PUT", f"{self._path}/merge_requests/{number}", {"state_event": "close"}, repeat=True)

    def _request(self, row: Mapping[str, Any]) -> PullRequest:
        # `locked` is a merge under way: it is open until it is merged.
        states: dict[object, Literal["open", "merged", "closed"]] = {"merged": "merged", "closed": "closed"}
        known = number(row.get("iid"), "number of a merge request")
        state = states.get(row.get("state"), "open")
        merged_as = commit(row.get("merge_commit_sha")) or commit(row.get("squash_commit_sha"))
        return PullRequest(
            number=known,
            url=f"{self._web}/{known}",
            state=state,
            head=head_commit(row.get("sha")),
            # A fast-forward has neither: the head itself is what came onto the branch.
            merged_as=(merged_as or commit(row.get("sha"))) if state == "merged" else None,
        )
