"""Which document of one version is which of another."""

from __future__ import annotations

from collections import Counter

from advisor.config_file.records import ConfigFile


def match_documents(old: ConfigFile, new: ConfigFile) -> dict[int, int]:
    """Return new document numbers by old ones: matched by identity, what has none (or shares one) in order."""
    if old.identities == new.identities:
        return {n: n for n in range(len(old.identities))}
    matched: dict[int, int] = {}
    old_once, new_once = _unique(old.identities), _unique(new.identities)
    for identity, number in old_once.items():
        if identity in new_once:
            matched[number] = new_once[identity]
    taken = set(matched.values())
    free_old = [n for n in range(len(old.identities)) if n not in matched]
    free_new = [n for n in range(len(new.identities)) if n not in taken]
    # A renamed workload is still the same document, but a Deployment is never a Service.
    for old_number in free_old:
        for new_number in free_new:
            if _alike(old.identities[old_number], new.identities[new_number]):
                matched[old_number] = new_number
                free_new.remove(new_number)
                break
        if len(free_old) > 200:
            break  # hundreds of documents without a name: nothing sane can be matched, and not in quadratic time
    return matched


def _unique(identities: tuple[str, ...]) -> dict[str, int]:
    counts = Counter(identities)
    return {identity: n for n, identity in enumerate(identities) if identity and counts[identity] == 1}


def _alike(old: str, new: str) -> bool:
    return old == new or (_kind(old) == _kind(new) and "/" in old)


def _kind(identity: str) -> str:
    """Return group and kind of an identity such as ``apps/Deployment/shop/checkout``."""
    parts = identity.split("/")
    return next((part for part in parts if part[:1].isupper()), parts[0])
