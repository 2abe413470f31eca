"""Pull requests on GitHub, github.com or Enterprise Server.

Source: GitHub REST API documentation, version 2022-11-28: pulls, pull request reviews, issue labels, repositories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from advisor.adapters.forge.http import Api
from advisor.adapters.forge.reviews import last_words
from advisor.adapters.forge.shapes import commit, head_commit, inner, mapping, number, rows
from advisor.change import PullRequest, Review
from advisor.errors import SourceError, SourceRefused

PAGE = 100
PAGES_MAX = 10


class GitHub:
    """One repository on GitHub; fulfils `advisor.change.Forge`."""

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
        root = "https://api.github.com" if web in ("https://github.com", "https://www.github.com") else f"{web}/api/v3"
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._api = Api(root, headers, token, timeout_seconds, ca_file)
        self._web = f"{web}/{project}/pull"
        self._path = f"/repos/{project}"
        self._owner = project.partition("/")[0]
        self._labels = list(labels)
        self._method = merge_method or "merge"

    def check(self) -> str:
        """Return what this token can do here.

        Raises:
            SourceError: The project cannot be read, or not be written.
        """
        found = mapping(self._api.get(self._path), "repository")
        if not inner(found, "permissions", "push"):
            raise SourceRefused(
                f"{self._path[7:]}: the token may read it, not write; it needs contents and pull requests"
            )
        return f"{self._path[7:]} may be read and written"

    def find(self, head_branch: str, base_branch: str) -> PullRequest | None:
        """See `advisor.change.Forge.find`."""
        query = {"head": f"{self._owner}:{head_branch}", "base": base_branch, "state": "all", "per_page": str(PAGE)}
        found = [
            self._request(row)
            for row in rows(self._api.get(f"{self._path}/pulls", **query), "list of pull requests")
            if inner(row, "head", "ref") == head_branch and inner(row, "base", "ref") == base_branch
        ]
        return max(found, key=lambda one: (one.state == "open", one.number), default=None)

    def open(self, head_branch: str, base_branch: str, title: str, body: str) -> PullRequest:
        """See `advisor.change.Forge.open`."""
        wanted = {
            "title": title,
            "body": body,
            "head": head_branch,
            "base": base_branch,
            "maintainer_can_modify": False,
        }
        opened = self._request(mapping(self._api.call("POST", f"{self._path}/pulls", wanted), "pull request"))
        if self._labels:
            with suppress(SourceError):  # a label that is missing there is no reason to stop a fix
                self._api.call("POST", f"{self._path}/issues/{opened.number}/labels", {"labels": self._labels})
        return opened

    def reviews(self, number: int) -> tuple[Review, ...]:
        """See `advisor.change.Forge.reviews`."""
        told = []
        for page in range(1, PAGES_MAX + 1):
            path = f"{self._path}/pulls/{number}/reviews"
            found = rows(self._api.get(path, per_page=PAGE, page=page), "list of reviews")
            told += [(inner(r, "user", "login"), r.get("state"), r.get("commit_id"), True) for r in found]
            if len(found) < PAGE:
                return last_words(told)
        raise SourceRefused(f"{self._web}/{number} has more than {PAGE * PAGES_MAX} reviews; approve by command")

    def merge(self, number: int, commit: str) -> None:
        """See `advisor.change.Forge.merge`."""
        wanted = {"sha": commit, "merge_method": self._method}
        self._api.call("PUT", f"{self._path}/pulls/{number}/merge", wanted)

    def close(self, number: int) -> None:
        """See `advisor.change.Forge.close`."""
        self._api.call("PATCH", f"{self._path}/pulls/{number}", {"state": "closed"}, repeat=True)

    def _request(self, row: Mapping[str, Any]) -> PullRequest:
        merged = bool(row.get("merged_at") or row.get("merged"))
        state: Literal["open", "merged", "closed"] = "open" if row.get("state") == "open" else "closed"
        known = number(row.get("number"), "number of a pull request")
        return PullRequest(
            number=known,
            url=f"{self._web}/{known}",
            state="merged" if merged else state,
            head=head_commit(inner(row, "head", "sha")),
            merged_as=commit(row.get("merge_commit_sha")) if merged else None,
        )
