"""The `repositories` section: where configuration lives, and how a change gets there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from advisor.change import Delivery
from advisor.redaction import redact
from advisor.settings.section import SECRET_IN_URL, Section

_LOOPBACK = re.compile(r"^http://(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?(/|$)")


class ForgeRules(Section):
    """The server on which pull requests are opened, and who may say what there.

    Attributes:
        url: Of its pages, not of its API: `https://github.com`, `https://gitlab.example.org`.
        project: As its pages name it: `owner/name`, for GitLab also `group/subgroup/name`.
        merge: The advisor merges once it is approved; otherwise people do.
        merge_method: What the server is asked for; by default `fast-forward` on Gitea and Forgejo, `merge` elsewhere.
        approval_by_review: A review of exactly our commit counts as its reviewer's approval.
        people: Login of the forge to person of `approval.approvers`.
    """

    type: Literal["github", "gitlab", "gitea", "forgejo"]
    url: str
    project: str
    token_env: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    labels: tuple[str, ...] = ()
    merge: bool = False
    merge_method: Literal["merge", "squash", "rebase", "fast-forward"] | None = None
    approval_by_review: bool = False
    people: dict[str, str] = Field(default={})
    timeout_seconds: float = Field(default=10.0, gt=0, le=120)

    @model_validator(mode="after")
    def _check(self) -> ForgeRules:
        if not re.match(r"^https?://[^\s/@?#]+(/[^\s?#]*)?$", self.url) or SECRET_IN_URL.search(self.url):
            raise ValueError(f"url {redact(self.url)!r} is not the https address of a forge")
        if self.url.startswith("http:") and not _LOOPBACK.match(self.url):
            raise ValueError("url is not https; the token would cross the network in clear")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)+", self.project) or ".." in self.project:
            raise ValueError(f"project {self.project!r} is not owner/name")
        if self.type != "gitlab" and self.project.count("/") != 1:
            raise ValueError(f"project {self.project!r} is not owner/name")
        if (self.token_env is None) == (self.token_file is None):
            raise ValueError("one of token_env and token_file is wanted")
        if self.approval_by_review and not self.people:
            raise ValueError("approval_by_review needs people: which login is which approver")
        if self.merge_method is not None and not self.merge:
            raise ValueError("merge_method needs merge: true")
        allowed = {"github": ("merge", "squash", "rebase"), "gitlab": ("merge", "squash")}.get(self.type)
        if allowed is not None and self.merge_method not in (None, *allowed):
            raise ValueError(f"merge_method {self.merge_method} is not known to {self.type}: {', '.join(allowed)}")
        return self


class Repository(Section):
    """A configuration repository, by path or URL.

    Attributes:
        delivery: How an approved change gets onto the branch: we push it, or it waits on a branch of its own, or in a
            pull request.
        merge_within_hours: How long such a change may wait.
        signing_key_file: An Ed25519 key without passphrase that signs our commits.
    """

    url: str
    branch: str = "main"
    ssh_key_file: Path | None = None
    timeout_seconds: float = Field(default=60.0, gt=0, le=600)
    run_hooks: bool | None = None  # of a repository by path, as this user; None: those nobody else can have put there
    delivery: Delivery = Delivery.PUSH
    forge: ForgeRules | None = None
    merge_within_hours: float = Field(default=24.0, gt=0, le=14 * 24)
    signing_key_file: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Repository:
        if self.url.startswith("-") or self.branch.startswith("-") or not self.url.strip():
            raise ValueError("url and branch may not be empty or begin with '-'")
        if re.match(r"^\w+::", self.url):
            raise ValueError(f"url {redact(self.url)!r} names a remote helper; use a path, https, ssh or file")
        if re.match(r"^https?://[^/\s]*@", self.url) or SECRET_IN_URL.search(self.url):
            raise ValueError("url carries a password; use an ssh key, or ~/.netrc for https")
        if (self.delivery is Delivery.PULL_REQUEST) != (self.forge is not None):
            raise ValueError("delivery: pull_request and forge go together")
        return self
