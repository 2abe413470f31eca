"""An approval: who may say yes, to exactly what, until when.

`decide` turns a person's answer into a signed record or refuses it by name; `grant` turns recorded
approvals into the `Grant` without which nothing can be delivered. A proposal is resolved once: granted,
denied or expired. There is no standing permission, no editing in passing, and no Boolean that means yes.

Who somebody is: where a person has an SSH key configured, the answer must be signed with it (`records.statement_of`,
`ssh_keys`); otherwise the console, the command line or the API says so. Pure: the clock, the rules, the signing key and
the check of an SSH signature come in as arguments; the store keeps the answers and lets each exist once.

`people` tells one person from another, `rules` what is demanded, `deciding` and `granting` apply it, `records` is what is
kept.
"""

from __future__ import annotations

from advisor.approval.deciding import (
    check_alive,
    check_binding,
    check_breaker,
    check_person,
    check_unresolved,
    decide,
    expire,
    people_needed,
)
from advisor.approval.granting import Grant, check_identity, grant
from advisor.approval.people import PERSON_CHARACTERS_MAX, principal, same_person
from advisor.approval.records import (
    COMMENT_CHARACTERS_MAX,
    KEY_BYTES_MIN,
    Answer,
    Approval,
    Choice,
    Denial,
    Expiry,
    Method,
    Resolution,
    is_signed,
    sign,
    statement_of,
    statement_of_record,
    verify_approval,
)
from advisor.approval.rules import Demand, Rules, demand_of, frozen, signers_of

__all__ = [
    "COMMENT_CHARACTERS_MAX",
    "KEY_BYTES_MIN",
    "PERSON_CHARACTERS_MAX",
    "Answer",
    "Approval",
    "Choice",
    "Demand",
    "Denial",
    "Expiry",
    "Grant",
    "Method",
    "Resolution",
    "Rules",
    "check_alive",
    "check_binding",
    "check_breaker",
    "check_identity",
    "check_person",
    "check_unresolved",
    "decide",
    "demand_of",
    "expire",
    "frozen",
    "grant",
    "is_signed",
    "people_needed",
    "principal",
    "same_person",
    "sign",
    "signers_of",
    "statement_of",
    "statement_of_record",
    "verify_approval",
]
