"""What every section of `advisor.yaml` shares: unknown keys are refused, nothing changes after it was read."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

SECRET_IN_URL = re.compile(r"://[^/@\s]+:[^/@\s]+@")


class Section(BaseModel):
    """One mapping of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
