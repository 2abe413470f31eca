"""The words of a change: commit message and pull request, with text from outside made inert.

A forge acts on words: ``@team`` calls people, ``fixes #12`` closes an issue, a line that begins with ``/`` is an order
to GitLab, Markdown hides a link behind other words. Summaries and reasons quote configuration and logs, so none of
that may come through, in the pull request or in the commit that a squash makes of it. What is taken away here is
still whole in the proposal. Pure.
"""

from __future__ import annotations

import re

from advisor.approval import Grant
from advisor.change.records import CommitPlan
from advisor.errors import one_line
from advisor.proposal import AUTHOR_EMAIL, AUTHOR_NAME, Proposal
from advisor.values import ActionType

SUBJECT_CHARACTERS_MAX = 72  # what git's own listings show whole
# For the subject of a commit; values stay in the patch, which is shown with more care.
_VERBS = {
    ActionType.REVERT_COMMIT: "revert commit",
    ActionType.REVERT_KEYS: "revert",
    ActionType.SET_VALUE: "set",
    ActionType.ROLL_BACK_IMAGE: "roll back image",
    ActionType.SCALE: "scale",
    ActionType.RESTART: "restart by",
    ActionType.ESCALATE: "escalate",
}
_BODY_CHARACTERS_MAX = 20_000  # GitHub takes 65,536
# References that some forge acts on: #12, !12, &12, %12, $12 and ~label of GitLab, GH-12, and ABC-12 of other trackers.
_NUMBERED = re.compile(r"([#!&%$~])(?=[\w\"'])")
_TRACKED = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*)-(?=\d)")
_CLOSING = re.compile(
    r"\b(clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?|reopen(?:s|ed|ing)?)\b"
    r"(?=\W{1,5}(?:issues?\W{1,5})?(?:[\w./-]*[#!&%$~]|[A-Za-z][A-Za-z0-9_]*-\d|https?:))",
    re.IGNORECASE,
)
_MARKDOWN = re.compile(r"([\\`*_\[\]|~^$])")


def prepare_commit(proposal: Proposal, grant: Grant, signed: bool = False) -> CommitPlan:
    """Return the commit that a granted proposal becomes."""
    trailers = [f"Approved-by: {one_line(person, 300)}" for person in grant.people]
    if (broken := grant.broken_glass) is not None:
        trailers.append(f"Break-glass: {one_line(broken.person, 300)}, {one_line(inert(broken.comment), 300)}")
    return CommitPlan(
        tree=proposal.tree,
        parent=proposal.base,
        message=_message(proposal, trailers),
        author_name=AUTHOR_NAME,
        author_email=AUTHOR_EMAIL,
        at=grant.granted_at.replace(microsecond=0),  # git counts whole seconds
        signed=signed,
    )


def prepare_offer(proposal: Proposal, signed: bool = False) -> CommitPlan:
    """Return the commit that a proposal is reviewed as: of the proposal alone, since its approvals come later."""
    return CommitPlan(
        tree=proposal.tree,
        parent=proposal.base,
        message=_message(proposal, ["Approval: by review of this commit"]),
        author_name=AUTHOR_NAME,
        author_email=AUTHOR_EMAIL,
        at=proposal.created_at.replace(microsecond=0),
        signed=signed,
    )


def pull_request_title(proposal: Proposal) -> str:
    """Return the title of its pull request: the commit's subject, as one plain line."""
    return inert(_subject(proposal)).replace("`", "'")


def pull_request_body(proposal: Proposal, commit: str, approvers: tuple[str, ...], merged_by_us: bool) -> str:
    """Return the description of its pull request in Markdown; text from outside acts on nothing in it."""
    said = [one_line(proposal.summary), one_line(proposal.action.reason)]
    facts = [
        ("Incident", proposal.incident_id),
        ("Service", proposal.service),
        ("Risk", proposal.risk.value),
        ("Proposal", f"{proposal.id} {proposal.digest}"),
        ("Commit", commit),
        ("Base", proposal.base),
        ("Tree", proposal.tree),
        ("Files", ", ".join(proposal.paths[:20]) + (" …" if len(proposal.paths) > 20 else "")),
    ]
    facts += [("Takes back", proposal.rolls_back)] if proposal.rolls_back else []
    facts += [("Warning", warning) for warning in proposal.warnings]
    facts += [("Approved by", person) for person in approvers]
    if not approvers:
        then = f"A review that approves exactly commit {commit[:12]} counts as its reviewer's approval."
    elif merged_by_us:
        then = "It is approved and merged without further answer."
    else:
        then = "It is approved. Merge it as it is."
    rules = (
        f"{then} What stands on {in_markdown(proposal.branch)} afterwards must be exactly the tree named above: another"
        " commit on this branch, an update from the base, or a base that moved makes the approval void, and a fresh"
        " proposal is needed."
    )
    text = "\n\n".join(
        [
            *(f"Summary: {in_markdown(line)}" for line in said if line),
            "\n".join(f"- {name}: {in_markdown(one_line(value))}" for name, value in facts),
            rules,
        ]
    )
    return text[:_BODY_CHARACTERS_MAX]


def moved(branch: str, base: str, head: str) -> str:
    """Return that a branch moved, with both ends."""
    return f"{branch} moved from {base[:12]} to {head[:12]}"


def next_command(proposal: Proposal) -> str:
    """Return the one command that brings a fresh proposal in place of this one."""
    if proposal.rolls_back is not None:
        return f"`advisor rollback {proposal.rolls_back}` plans anew"
    return f"`advisor investigate {proposal.service}` proposes anew"


def inert(text: str) -> str:
    """Return one line of text in which no forge finds a person, an issue, or an order to close one."""
    text = one_line(text)
    text = _CLOSING.sub(lambda m: f"{m[1]} (not an order)", text)
    text = text.replace("@", "(at)")
    text = _NUMBERED.sub(lambda m: f"{m[1]} ", text)
    text = _TRACKED.sub(_apart, text)
    return f"path {text}" if text.startswith("/") else text


def in_markdown(text: str) -> str:
    """Return one line of text that a forge shows as it is, inert as well."""
    text = _MARKDOWN.sub(r"\\\1", inert(text))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("://", ":\\//").replace("www.", "www\\.")


def _apart(match: re.Match[str]) -> str:
    # Only names of trackers, which are in capitals; `chg-1a2b`, `utf-8` and `2026-11` are left as they are.
    return f"{match[1]} " if match[1].isupper() and len(match[1]) > 1 else match[0]


def _message(proposal: Proposal, last: list[str]) -> str:
    paragraphs = [_subject(proposal), _body(proposal), "\n".join(_trailers(proposal) + last)]
    return "\n\n".join(p for p in paragraphs if p) + "\n"


def _subject(proposal: Proposal) -> str:
    action = proposal.action
    what = ", ".join(action.keys) or (action.commit or "")[:12]
    verb = "roll back" if proposal.rolls_back is not None else _VERBS[action.type]
    return one_line(inert(f"{proposal.service}: {verb} {what}"), SUBJECT_CHARACTERS_MAX)


def _body(proposal: Proposal) -> str:
    # Indented by one blank, so that text from evidence can never pass for a trailer such as "Approved-by:".
    lines = (inert(proposal.summary), inert(proposal.action.reason))
    return "\n".join(f" {line}" if re.match(r"[\w-]+\s*:|\(cherry", line) else line for line in lines if line)


def _trailers(proposal: Proposal) -> list[str]:
    lines = [
        f"Incident: {one_line(proposal.incident_id, 200)}",
        f"Proposal: {one_line(proposal.id, 200)} {proposal.digest}",
        f"Evidence: {one_line(proposal.evidence_digest, 200)}",
    ]
    if proposal.rolls_back is not None:
        lines.append(f"Rolls-back: {one_line(f'{proposal.rolls_back} {proposal.action.commit}', 200)}")
    return lines
