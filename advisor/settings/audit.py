"""The `audit` section: where the head of the audit is kept outside this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from advisor.redaction import redact
from advisor.settings.section import SECRET_IN_URL, Section


class AnchorRules(Section):
    """A git repository that takes the head of the audit, under names that nothing overwrites.

    Attributes:
        repository: A name under `repositories`, or a path or URL of its own. No branch of it is ever touched.
        kind: An annotated tag, or a note where pushing tags starts programs.
        every_minutes: How old the last anchor may be before `audit anchor --if-due` makes another.
        required: Whether a change is refused while its audit cannot be anchored. A rollback never is.
        signing_key_file: An SSH key that signs tag or note, so that others can check it without the server's key.
        ssh_key_file: The key to reach a URL with; a named repository has its own.
    """

    repository: str
    kind: Literal["tag", "note"] = "tag"
    every_minutes: int = Field(default=60, ge=1, le=7 * 24 * 60)
    required: bool = False
    signing_key_file: Path | None = None
    ssh_key_file: Path | None = None
    timeout_seconds: float = Field(default=20.0, gt=0, le=600)  # a change waits for it: shorter than a clone's

    @model_validator(mode="after")
    def _check(self) -> AnchorRules:
        url = self.repository
        if url.startswith("-") or not url.strip() or re.match(r"^\w+::", url):
            raise ValueError("repository names a repository of the settings, or a path, https, ssh or file address")
        if re.match(r"^https?://[^/\s]*@", url) or SECRET_IN_URL.search(url):
            raise ValueError(f"repository {redact(url)!r} carries a password; use an ssh key, or ~/.netrc for https")
        return self

    @property
    def is_address(self) -> bool:
        """Return whether the repository is given by its address, not by a name of the settings."""
        return "/" in self.repository or ":" in self.repository


class AuditRules(Section):
    """How the record of intents and outcomes is kept."""

    anchor: AnchorRules | None = None
