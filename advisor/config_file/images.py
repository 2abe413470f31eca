"""Container image references."""

from __future__ import annotations

import re
from typing import NamedTuple

_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)


class ImageTag(NamedTuple):
    """The parts of an image reference; tag and digest are None where it has none."""

    repository: str
    tag: str | None
    digest: str | None


def image_tag(value: str) -> ImageTag:
    """Return repository, tag and digest of an image reference.

    What is no tag or digest stays in the repository.

    Source: the grammar in ``distribution/reference``: a colon before the last slash is a port, not a tag.
    """
    name, at, digest = value.strip().partition("@")
    if at and not _DIGEST.match(digest):
        return ImageTag(value.strip(), None, None)
    head, colon, tag = name.rpartition(":")
    if colon and head and _TAG.match(tag):
        return ImageTag(head, tag, digest or None)
    return ImageTag(name, None, digest or None)
