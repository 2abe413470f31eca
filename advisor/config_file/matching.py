"""Which document of one version is which of another."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

from advisor.config_file.records import ConfigFile


def match_documents(old: ConfigFile, new: ConfigFile) -> dict[int, int]:
    """Return new document numbers by old ones.

    They are matched by identity; what has none, or shares one, in order.
    """
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
    for name in (str, _kind):
        waiting: dict[str, deque[int]] = defaultdict(deque)
        for number in free_new:
            waiting[name(new.identities[number])].append(number)
        for number in free_old:
            candidates = waiting[name(old.identities[number])]
            if number not in matched and candidates:
                matched[number] = candidates.popleft()
        taken = set(matched.values())
        free_new = [n for n in free_new if n not in taken]
    return matched


def _unique(identities: tuple[str, ...]) -> dict[str, int]:
    counts = Counter(identities)
    return {identity: n for n, identity in enumerate(identities) if identity and counts[identity] == 1}


def _kind(identity: str) -> str:
    """Return the kind of an identity such as ``apps/Deployment/shop/checkout``."""
    if identity.startswith("profile:"):
        return "profile"
    parts = identity.split("/")
    return next((part for part in parts if part[:1].isupper()), identity)
