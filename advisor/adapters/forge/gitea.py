"""Pull requests on Gitea or Forgejo, which speak the same API for these.

Source: the API documentation each Gitea and Forgejo server has under ``/api/swagger``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from advisor.adapters.forge.http import Api, Refused
from advisor.adapters.forge.reviews import last_words
from advisor.adapters.forge.shapes import commit, head_commit, inner, mapping, number, rows
from advisor.change import PullRequest, Review
from advisor.errors import SourceError, SourceRefused

PAGE = 50  # what a server gives at most, as it is shipped
PAGES_MAX = 20


class Gitea:
    """One repository on Gitea or Forgejo; fulfils `advisor.change.Forge`."""

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
        self._api = Api(f"{web}/api/v1", {"Authorization": f"token {token}"}, token, timeout_seconds, ca_file)
        self._web = f"{web}/{project}/pulls"
        self._path = f"/repos/{project}"
        self._labels = list(labels)
        # A fast-forward puts our very commit onto the branch, or fails where the branch moved at that moment.
        self._method = {"fast-forward": "fast-forward-only"}.get(merge_method or "fast-forward", merge_method)

    def check(self) -> str:
        """Return what this token can do here.

        Raises:
            SourceError: The project cannot be read, or not be written.
        """
        found = mapping(self._api.get(self._path), "repository")
        if not inner(found, "permissions", "push"):
            raise SourceRefused(
                f"{self._path[7:]}: the token may read it, not write; it needs write:repository, write:issue"
            )
        return f"{self._path[7:]} may be read and written"

    def find(self, head_branch: str, base_branch: str) -> PullRequest | None:
        """See `advisor.change.Forge.find`."""
        for row in self._pages(f"{self._path}/pulls", state="open", base_branch=base_branch):
            ours = inner(row, "head", "repo_id") == inner(row, "base", "repo_id")
            if ours and inner(row, "head", "ref") == head_branch and inner(row, "base", "ref") == base_branch:
                return self._request(row)
        # One that is closed or merged is asked for by its branches, which it keeps when the branch is gone.
        try:
            path = f"{self._path}/pulls/{quote(base_branch, safe='')}/{quote(head_branch)}"
            return self._request(mapping(self._api.get(path), "pull request"))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def open(self, head_branch: str, base_branch: str, title: str, body: str) -> PullRequest:
        """See `advisor.change.Forge.open`."""
        wanted = {"title": title, "body": body, "head": head_branch, "base": base_branch}
        opened = self._request(mapping(self._api.call("POST", f"{self._path}/pulls", wanted), "pull request"))
        if self._labels:
            with suppress(SourceError):  # a label that is missing there is no reason to stop a fix
                self._api.call("POST", f"{self._path}/issues/{opened.number}/labels", {"labels": self._labels})
        return opened

    def reviews(self, number: int) -> tuple[Review, ...]:
        """See `advisor.change.Forge.reviews`."""
        found = sorted(self._pages(f"{self._path}/pulls/{number}/reviews"), key=lambda row: int(row.get("id") or 0))
        return last_words(
            (
                inner(row, "user", "login"),
                row.get("state"),
                row.get("commit_id"),
                not row.get("dismissed") and not row.get("stale"),
            )
            for row in found
        )

    def merge(self, number: int, commit: str) -> None:
        """See `advisor.change.Forge.merge`."""
        wanted = {"Do": self._method, "head_commit_id": commit}
        self._api.call("POST", f"{self._path}/pulls/{number}/merge", wanted)

    def close(self, number: int) -> None:
        """See `advisor.change.Forge.close`."""
        self._api.call("PATCH", f"{self._path}/pulls/{number}", {"state": "closed"}, repeat=True)

    def _pages(self, path: str, **query: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for page in range(1, PAGES_MAX + 1):
            more = rows(self._api.get(path, **query, limit=PAGE, page=page), "list")
            found += more
            if not more:  # a server may give fewer than asked for on a page that is not the last
                return found
        raise SourceRefused(f"{path} has more than {PAGE * PAGES_MAX} entries; close what is not needed any more")

    def _request(self, row: Mapping[str, Any]) -> PullRequest:
        merged = row.get("merged") is True
        state: Literal["open", "merged", "closed"] = "open" if row.get("state") == "open" else "closed"
        known = number(row.get("number"), "number of a pull request")
        return PullRequest(
            number=known,
            url=f"{self._web}/{known}",
            state="merged" if merged else state,
            head=head_commit(inner(row, "head", "sha")),
            merged_as=commit(row.get("merge_commit_sha")) if merged else None,
        )
