"""The `repositories` section: where configuration lives, and how a change gets there."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, model_validator

from advisor.redaction import redact
from advisor.settings.section import SECRET_IN_URL, Section


class Repository(Section):
    """A configuration repository, by path or URL."""

    url: str
    branch: str = "main"
    ssh_key_file: Path | None = None
    timeout_seconds: float = Field(default=60.0, gt=0, le=600)
    run_hooks: bool | None = None  # of a repository by path, as this user; None: those nobody else can have put there

    @model_validator(mode="after")
    def _check(self) -> Repository:
        if self.url.startswith("-") or self.branch.startswith("-") or not self.url.strip():
            raise ValueError("url and branch may not be empty or begin with '-'")
        if re.match(r"^\w+::", self.url):
            raise ValueError(f"url {redact(self.url)!r} names a remote helper; use a path, https, ssh or file")
        if re.match(r"^https?://[^/\s]*@", self.url) or SECRET_IN_URL.search(self.url):
            raise ValueError("url carries a password; use an ssh key, or ~/.netrc for https")
        return self
