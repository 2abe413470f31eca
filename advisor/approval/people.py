"""Who somebody is: one spelling for the record, and a wider one by which two names are the same person.

The two errors are not alike. To let somebody answer, a name must be exactly a listed one, so it is folded as little as
can be. To count two people, or to tell the proposer from the approver, every spelling that could be one person is one.
Pure; called by the rest of `approval`, the settings and `authority`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from advisor.errors import ApproverNotAllowed, one_line

PERSON_CHARACTERS_MAX = 254  # the longest address that mail knows
# Small letters of other alphabets that are drawn like a Latin one in usual fonts (Unicode TR 39 lists them), each with
# what it is taken for.
_LOOKALIKES = {
    ord(pair[0]): pair[1]
    for pair in (
        "аa еe оo рp сc уy хx ѕs іi јj ԁd һh ԛq ԝw ѵv ӏl кk тt ɡg ıi ℓl"
        " οo αa νv ρp τt υu χx ωw ιi κk օo ոn սu հh քq ցg յj"
    ).split()
}


def principal(name: str) -> str:
    """Return who somebody is: a name without case and outer blanks.

    Raises:
        ApproverNotAllowed: It is empty, too long, or has characters that can be mistaken for others.
    """
    person = name.strip().lower()
    if not person:
        raise ApproverNotAllowed("the answer carries no name; say who you are")
    if len(person) > PERSON_CHARACTERS_MAX:
        raise ApproverNotAllowed(f"a name of {len(person)} characters; at most {PERSON_CHARACTERS_MAX}")
    ambiguous = not name.strip().isprintable() or unicodedata.normalize("NFKC", name.strip()) != name.strip()
    if ambiguous or any(c.isspace() for c in person) or "<" in person or ">" in person:
        raise ApproverNotAllowed(f"{one_line(name, 80)!r} can be mistaken for another name; it is not accepted")
    return person


def principals(names: Iterable[str]) -> frozenset[str]:
    """Return the people of a list; a name that nobody could answer under is nobody's."""
    found = set()
    for name in names:
        try:
            found.add(principal(name))
        except ApproverNotAllowed:
            continue
    return frozenset(found)


def fold(name: str) -> str:
    """Return what two names of one person have in common.

    Case, blanks, invisible characters, compatibility forms, accents written apart, letters of other alphabets that are
    drawn alike, and the ``+tag`` of a mail address make no other person.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc", "Mn", "Zs") and not c.isspace())
    text = text.translate(_LOOKALIKES)
    local, at, domain = text.rpartition("@")
    return f"{local.partition('+')[0]}{at}{domain}" if at else text


def same_person(one: str, other: str) -> bool:
    """Return whether two names could be one person."""
    return fold(one) == fold(other)
