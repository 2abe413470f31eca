"""Answers from the records and the sources, with no model: what is wrong, what changed, who approved, how to take it back.

Each answer says where it comes from. What was done is said only from the records: an approval that is not there was not
given. Called by `Chat` for people, and through `tools` for a model.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from advisor.chat.intents import Intent, Question
from advisor.chat.records import Card, Cited, Plot, Said
from advisor.errors import AdvisorError, RecordUnknown, one_line
from advisor.lifecycle import ON_BRANCH, State
from advisor.values import format_bytes, format_instant, format_number, format_seconds

if TYPE_CHECKING:
    from advisor.change import Change
    from advisor.evidence import CommitChange
    from advisor.proposal import Proposal
    from advisor.workflow import Measured, Workflow

FRESH_MINUTES = 15.0  # an investigation of the last quarter of an hour is told again rather than made again
LISTED_MAX = 10
KEYS_MAX = 4
HOURS_ASKED = 1.0
HOURS_CHANGES = 24.0
Told = Callable[[str, str], None]

HELP = """I answer from metrics, logs, configuration history and my records. Ask, for example:
 why is SERVICE dying?            what changed since 13:00?
 show heap of SERVICE             compare sessions with yesterday
 show M1 · other causes?          why not raise the heap?
 who approved pro-…?              how do I roll back chg-…?
 is it fixed?                     have we seen this before?
 draft a proposal                 what waits for an answer?
I never approve, apply or roll back anything here: that takes a person at `advisor approve` or the review page."""

_TERMS = {
    "prior": "how often a thing of this kind is to blame before anything is known of this incident",
    "timing": "how near the moment at which the change took effect lies to the beginning of the trouble, and how often a random moment would be as near",
    "mechanism": "whether a known mechanism leads from this key to this symptom",
    "metric in the middle": "whether the metric between key and symptom moved after the change and before the trouble",
    "size": "by how much the value changed",
    "took effect": "whether a limit that the process exports followed the change",
    "explained by another": "what another candidate explains better speaks less for this one",
    "already reverted": "the change was taken back before the trouble, or during it",
    "rollout delay": "how long after the commit the process started anew with it",
    "ran well with it": "how long the service ran with the change before the trouble began",
    "log": "what the log says since the trouble began: the new value, the mechanism's own words, or words of the key",
}


class Answers:
    """Answers questions over one workflow."""

    def __init__(self, workflow: Workflow, told: Told | None = None) -> None:
        """Keep the workflow; ``told`` hears which step begins (name, details)."""
        self.workflow = workflow
        self._told = told or (lambda step, details: None)

    def answer(self, question: Question, incident: str | None) -> Said:
        """Return the answer to a question.

        Args:
            question: As read.
            incident: What the conversation is about.

        Raises:
            AdvisorError: A record or a source could not be read; the message is the answer.
        """
        about = question.subject if (question.subject or "").startswith("inc-") else incident
        match question.intent:
            case Intent.WRONG:
                return self.wrong(question, about)
            case Intent.CHANGED:
                return self.changed(question, about)
            case Intent.SHOW_METRIC:
                return self.metric(question)
            case Intent.COMPARE:
                return self.compared(question)
            case Intent.INCIDENTS:
                return self.incidents(question.service)
            case Intent.EVIDENCE:
                return self.evidence(question.evidence, about)
            case Intent.CAUSES:
                return self.causes(self._incident(about, question.service))
            case Intent.EXPLAIN:
                return self.explained(question, about)
            case Intent.APPROVED:
                return self.approved(question, about)
            case Intent.ROLLBACK:
                return self.rollback(question, about)
            case Intent.FIXED:
                return self.fixed(question, about)
            case Intent.PROPOSE:
                return self.propose(self._incident(about, question.service))
            case Intent.SIMILAR:
                return self.similar(self._incident(about, question.service))
            case Intent.WAITING:
                return self.waiting()
            case Intent.ACT:
                return self.not_here(question, about)
            case Intent.HELP:
                return Said(text=HELP, incident=incident)
            case _:
                return Said(text=f"That question I cannot read without a model.\n{HELP}", incident=incident)

    # --- what is wrong -------------------------------------------------------------------------------------------------

    def wrong(self, question: Question, about: str | None) -> Said:
        """Investigate, or tell the investigation of just now again."""
        if question.service is None:
            if about is not None:
                return self.told(self.workflow.incident(about))
            known = ", ".join(sorted(self.workflow.settings.services)) or "none is configured"
            return Said(text=f"Which service? I know: {known}.")
        fresh = self._fresh(question.service) if question.since is None else None
        if fresh is not None:
            return self.told(fresh)
        self._told("investigate", question.service)
        found = self.workflow.investigate(question.service, at=question.since, question=question.text)
        return self.told(found.report, question.guessed)

    def told(self, report: dict[str, Any], guessed: str | None = None) -> Said:
        """Return an investigation in a few lines."""
        incident, diagnosis = report["incident"], report["diagnosis"]
        lines = [f"{incident['service']}: {diagnosis['summary']}"]
        if guessed:
            lines.insert(0, f"I took {guessed!r} for {incident['service']}.")
        if diagnosis["outcome"] == "diagnosed":
            lines.append(f"I am {_percent(diagnosis['probability'])} sure; the diagnosis is the {diagnosis['by']}'s.")
        missing = [c for c in report["coverage"] if c["status"] != "ok"]
        lines += [f" {c['source']}: {c['status']}" + (f" ({c['reason']})" if c.get("reason") else "") for c in missing]
        first = next(iter(report["hypotheses"]), None)
        cited = _cited(report, [*(first or {}).get("for", ()), *(first or {}).get("against", ())])
        rejected = report.get("rejected_remedies") or []
        lines += [f" would not fix it: {r['action'].replace('_', ' ')} — {r['why']}" for r in rejected[:2]]
        proposals = [p for p in report["proposals"] if p.get("tree")]
        if proposals:
            lines.append(f"Proposed: {proposals[0]['summary']}.")
        elif diagnosis["outcome"] == "inconclusive" and first is not None and first.get("next_check"):
            lines.append(f"Next I would look at: {first['next_check']}")
        cards = [Card(kind="incident", id=incident["id"], text=f"{incident['service']}: {diagnosis['outcome']}")]
        cards += [Card(kind="proposal", id=p["id"], text=p["summary"]) for p in proposals]
        return Said(
            text="\n".join(lines),
            evidence=cited,
            cards=tuple(cards),
            status=self.status(incident["id"]),
            incident=incident["id"],
        )

    def causes(self, incident_id: str) -> Said:
        """Return the ranking of an incident."""
        report = self.workflow.incident(incident_id)
        lines = [f"Possible causes of {report['incident']['id']} ({report['incident']['service']}):"]
        cited: list[str] = []
        for hypothesis in report["hypotheses"][:6]:
            lines.append(f" {hypothesis['rank']}. {_percent(hypothesis['probability'])}  {hypothesis['summary']}")
            terms = sorted(hypothesis.get("terms", ()), key=lambda t: -abs(t["value"]))[:3]
            lines += [f"    {t['value']:+.1f} {t['name']}: {t['why']}" for t in terms]
            cited += [*hypothesis.get("for", ()), *hypothesis.get("against", ())]
        return Said(text="\n".join(lines), evidence=_cited(report, cited), incident=report["incident"]["id"])

    def evidence(self, ids: tuple[str, ...], about: str | None) -> Said:
        """Return pieces of evidence, each with its source and the question it answers."""
        report = self.workflow.incident(self._incident(about, None))
        known = {e["id"]: e for e in report["evidence"]}
        wanted = ids or tuple(known)[:LISTED_MAX]
        lines: list[str] = []
        for one in wanted:
            found = known.get(one)
            if found is None:
                lines.append(f"{one}: no such evidence in {report['incident']['id']} (it has {_span(list(known))})")
                continue
            lines.append(f"{one} {found['summary']}")
            lines.append(f" {found['source']}: {found['query']}")
            lines.append(f" from {found['from']} to {found['to']}")
        return Said(text="\n".join(lines), evidence=_cited(report, wanted), incident=report["incident"]["id"])

    def explained(self, question: Question, about: str | None) -> Said:
        """Explain a term of the ranking, or why a remedy was rejected."""
        text = question.text.lower()
        report = self._report(about, question.service)
        lines: list[str] = []
        if report is not None:
            rejected = [r for r in report["rejected_remedies"] if any(w in text for w in r["action"].split("_"))]
            lines += [f"{r['action'].replace('_', ' ')} would not fix it: {r['why']}" for r in rejected]
            for hypothesis in report["hypotheses"][:3] if not lines else ():
                for term in hypothesis.get("terms", ()):
                    if term["name"] in text:
                        lines.append(
                            f"{term['name']} of cause {hypothesis['rank']}: {term['value']:+.1f}, {term['why']}"
                        )
        meant = [f"{name}: {what}" for name, what in _TERMS.items() if name in text]
        if "sure" in text or "probability" in text:
            meant.append(
                "probability: the terms are natural log-odds; they are added, and the candidates share 100% with 'nothing known'"
            )
        lines = [*meant, *lines]
        if not lines:
            lines = ["The terms of a ranking:", *(f" {name}: {what}" for name, what in _TERMS.items())]
        return Said(text="\n".join(lines), incident=report["incident"]["id"] if report else about)

    # --- changes and metrics -------------------------------------------------------------------------------------------

    def changed(self, question: Question, about: str | None) -> Said:
        """Return what changed in a service's configuration since an instant."""
        report = self.workflow.incident(about) if about and question.service is None else None
        service = question.service or (report["incident"]["service"] if report else None)
        if service is None:
            return Said(text="Which service? " + ", ".join(sorted(self.workflow.settings.services)), incident=about)
        now = self.workflow.clock()
        since = question.since or now - timedelta(hours=HOURS_CHANGES)
        self._told("changes", f"{service} since {format_instant(since)}")
        found = self.workflow.changes_since(service, since, now)
        own = [c for c in found.commits if c.in_scope]
        newest = sorted(own, key=lambda c: c.effective_at, reverse=True)
        lines = [f"{service}: {len(own)} commit{'' if len(own) == 1 else 's'} since {format_instant(since)}"]
        lines[0] += (
            f", {len(found.commits) - len(own)} elsewhere in the repository." if len(found.commits) > len(own) else "."
        )
        for commit in newest[:LISTED_MAX]:
            lines.append(
                f" {format_instant(commit.effective_at)} {commit.commit[:8]} {commit.author}: {commit.subject}"
            )
            lines += [f"   {line}" for line in _keys(commit)]
        if len(newest) > LISTED_MAX:
            lines.append(f" and {len(newest) - LISTED_MAX} more")
        return Said(text="\n".join(lines), incident=about)

    def metric(self, question: Question) -> Said:
        """Return what is measured under some words, with a plot."""
        if question.service is None:
            return Said(text="Of which service? " + ", ".join(sorted(self.workflow.settings.services)))
        now = self.workflow.clock()
        since = question.since or now - timedelta(hours=HOURS_ASKED)
        self._told("metrics", f"{question.words or 'everything'} of {question.service}")
        found = self.workflow.measured(question.service, question.words, since, now)
        if not found:
            return Said(
                text=f"Nothing that {question.service} exports fits {question.words!r} since {format_instant(since)}."
            )
        lines = [f"{question.service} since {format_instant(since)}:", *(f" {_course(m)}" for m in found)]
        return Said(text="\n".join(lines), plots=tuple(_plot(m) for m in found[:3]))

    def compared(self, question: Question) -> Said:
        """Return a metric now against the same hours before."""
        if question.service is None:
            return Said(text="Of which service? " + ", ".join(sorted(self.workflow.settings.services)))
        now = self.workflow.clock()
        hour = timedelta(hours=HOURS_ASKED)
        back = timedelta(days=1)
        if question.since is not None and now - question.since < timedelta(hours=20):
            back = now - question.since
        self._told(
            "metrics", f"{question.words} of {question.service}, now and {format_seconds(back.total_seconds())} before"
        )
        present = self.workflow.measured(question.service, question.words, now - hour, now)
        before = {
            m.name: m for m in self.workflow.measured(question.service, question.words, now - hour - back, now - back)
        }
        if not present:
            return Said(text=f"Nothing that {question.service} exports fits {question.words!r} in the last hour.")
        ago = format_seconds(back.total_seconds())
        lines = [f"{question.service}, the last hour against the same hour {ago} before (mean):"]
        for one in present:
            then = before.get(one.name)
            mean = _mean(one)
            if then is None or not then.known:
                lines.append(f" {one.name}: {_amount(mean, one.unit)} now, not measured then")
                continue
            was = _mean(then)
            factor = f" (×{format_number(mean / was)})" if was > 0 and mean > 0 else ""
            lines.append(f" {one.name}: {_amount(mean, one.unit)} now, {_amount(was, one.unit)} then{factor}")
        return Said(text="\n".join(lines), plots=tuple(_plot(m) for m in present[:2]))

    # --- records -------------------------------------------------------------------------------------------------------

    def incidents(self, service: str | None) -> Said:
        """Return the newest incidents."""
        found = [i for i in self.workflow.incidents(200) if service in (None, i["service"])][:LISTED_MAX]
        if not found:
            return Said(text=f"No incident{f' of {service}' if service else ''} is on record.")
        lines = [
            f"{i['id']}  {i['created_at']}  {i['service']}  {i['outcome']}: {one_line(i['summary'], 160)}"
            for i in found
        ]
        cards = tuple(Card(kind="incident", id=i["id"], text=f"{i['service']}: {i['outcome']}") for i in found)
        return Said(text="\n".join(lines), cards=cards, incident=found[0]["id"] if len(found) == 1 else None)

    def similar(self, incident_id: str) -> Said:
        """Return earlier incidents that look like one, and what helped then."""
        found = self.workflow.similar_incidents(incident_id)
        if not found:
            return Said(text="No earlier incident on record looks like this one.", incident=incident_id)
        lines, cards = ["Earlier incidents like this one:"], []
        for share, report in found:
            incident = report["incident"]
            lines.append(
                f" {incident['id']} ({incident['created_at']}, {_percent(share)} alike): {report['diagnosis']['summary']}"
            )
            lines += [f"   {line}" for line in self.status(incident["id"])]
            cards.append(Card(kind="incident", id=incident["id"], text=incident["service"]))
        return Said(text="\n".join(lines), cards=tuple(cards), incident=incident_id)

    def waiting(self) -> Said:
        """Return what waits for an answer."""
        now = self.workflow.clock()
        found = [
            p
            for p, state in self.workflow.proposals()
            if state == State.PROPOSED.value and p.changes_something and p.expires_at > now
        ]
        if not found:
            return Said(text="Nothing waits for an answer.")
        lines = [
            f"{len(found)} proposal{'' if len(found) == 1 else 's'} wait{'s' if len(found) == 1 else ''} for an answer:"
        ]
        for p in found[:LISTED_MAX]:
            left = format_seconds((p.expires_at - now).total_seconds())
            lines.append(f" {p.id}  {p.service}: {p.summary} (risk {p.risk.value}, {left} left)")
        cards = tuple(Card(kind="proposal", id=p.id, text=p.summary) for p in found[:LISTED_MAX])
        return Said(text="\n".join(lines), cards=cards)

    def approved(self, question: Question, about: str | None) -> Said:
        """Say who answered a proposal, from the records."""
        lines: list[str] = []
        cards: list[Card] = []
        for proposal, state in self._proposals(question, about):
            lines += self._answers_to(proposal, state)
            cards.append(Card(kind="proposal", id=proposal.id, text=proposal.summary))
        return Said(text="\n".join(lines) or "No proposal is on record for that.", cards=tuple(cards), incident=about)

    def rollback(self, question: Question, about: str | None) -> Said:
        """Show what taking a change back would write; nothing is written."""
        changes = self._changes(question, about)
        standing = [(c, s) for c, s in changes if s in {state.value for state in ON_BRANCH}]
        if not standing:
            told = "; ".join(f"{c.id} is {s}" for c, s in changes[:3])
            return Said(text=f"There is nothing to take back{f': {told}' if told else ''}.", incident=about)
        change = standing[0][0]
        self._told("rollback preview", change.id)
        plan = self.workflow.plan_rollback(change.id)
        lines = [
            f"To take {change.id} back: advisor rollback {change.id} --as YOU",
            f" It is one more commit on {change.branch}; it needs neither a model nor metrics, and can itself be rolled back.",
        ]
        if plan.restored:
            lines.append(f" comes back byte for byte: {', '.join(plan.restored)}")
        if plan.kept:
            lines.append(f" later edits are kept in: {', '.join(plan.kept)}")
        lines += [f" {line}" for line in plan.proposal.diff.splitlines()[:40]]
        card = Card(kind="change", id=change.id, text=f"{change.service}: {change.commit[:12]}")
        return Said(text="\n".join(lines), cards=(card,), status=(f"{change.id} is {standing[0][1]}.",), incident=about)

    def fixed(self, question: Question, about: str | None) -> Said:
        """Say whether a change helped, from its recorded verification."""
        changes = self._changes(question, about)
        if not changes:
            return Said(text="No change was made for that, so nothing was verified.", incident=about)
        lines: list[str] = []
        for change, state in changes[:3]:
            verdicts = self.workflow.store.verifications(change.id)
            if not verdicts:
                lines.append(f"{change.id} is {state}; it was not verified yet: advisor verify {change.id}")
                continue
            last = verdicts[-1]
            lines.append(f"{change.id} is {state}; verified {format_instant(last.at)}: {last.verdict.value}.")
            lines += [
                f" {one_line(str(getattr(r, 'detail', '') or getattr(r, 'reason', '') or r.name), 200)}"
                for r in last.results
            ]
        cards = tuple(Card(kind="change", id=c.id, text=f"{c.service}: {s}") for c, s in changes[:3])
        return Said(text="\n".join(lines), cards=cards, incident=about)

    def propose(self, incident_id: str) -> Said:
        """Show what waits for an answer, or draft it anew; nothing is applied."""
        now = self.workflow.clock()
        report = self.workflow.incident(incident_id)
        incident_id = report["incident"]["id"]
        open_ones = [
            p
            for p, state in self.workflow.proposals()
            if p.incident_id == incident_id and state == State.PROPOSED.value and p.expires_at > now
        ]
        refused: list[str] = []
        if not open_ones:
            self._told("draft a proposal", incident_id)
            made, refused = self.workflow.propose_again(incident_id)
            open_ones = list(made)
        lines = [f"{p.id}: {p.summary} (risk {p.risk.value}; waits for approval)" for p in open_ones]
        lines += [f"not proposed: {one_line(reason, 300)}" for reason in refused]
        if not lines:
            lines = [f"{incident_id} has no remedy to propose: {report['diagnosis']['summary']}"]
        cards = tuple(Card(kind="proposal", id=p.id, text=p.summary) for p in open_ones)
        return Said(text="\n".join(lines), cards=cards, status=self.status(incident_id), incident=incident_id)

    def not_here(self, question: Question, about: str | None) -> Said:
        """Refuse to act, and name the way."""
        subject = question.subject or ""
        lines = ["I do not approve, apply or roll back anything from a chat; nothing was changed."]
        if subject.startswith("pro-"):
            lines.append(f" to review and approve: advisor approve {subject} --as YOU")
        elif subject.startswith("chg-"):
            lines.append(f" to take it back: advisor rollback {subject} --as YOU")
        else:
            lines.append(
                " ask me to draft a proposal; a person approves it with `advisor approve` or on the review page"
            )
        return Said(text="\n".join(lines), status=self.status(about) if about else (), incident=about)

    def status(self, incident_id: str) -> tuple[str, ...]:
        """Return what the records say was done for an incident; the only place where actions are spoken of."""
        found = [(p, s) for p, s in self.workflow.proposals() if p.incident_id.startswith(incident_id)]
        lines: list[str] = []
        for proposal, state in reversed(found):
            change = self.workflow.store.change_of(proposal.id)
            made = f", change {change.id} ({change.commit[:12]})" if change is not None else ""
            people = ", ".join(a.person for a in self.workflow.store.answers(proposal.id) if hasattr(a, "person"))
            lines.append(
                f"{proposal.id} is {state.replace('_', ' ')}{f', answered by {people}' if people else ''}{made}."
            )
        return tuple(lines) or ("Nothing was proposed, and nothing was changed.",)

    # --- finding -------------------------------------------------------------------------------------------------------

    def _incident(self, about: str | None, service: str | None) -> str:
        if about is not None:
            return str(self.workflow.incident(about)["incident"]["id"])
        found = [line for line in self.workflow.store.list_incidents(200) if service in (None, line.service)]
        if not found:
            raise RecordUnknown(
                f"no incident{f' of {service}' if service else ''} is on record; ask what is wrong first"
            )
        return found[0].id

    def _report(self, about: str | None, service: str | None) -> dict[str, Any] | None:
        try:
            return self.workflow.incident(self._incident(about, service))
        except RecordUnknown:
            return None  # a term can be explained without an incident

    def _fresh(self, service: str) -> dict[str, Any] | None:
        now = self.workflow.clock()
        for line in self.workflow.store.list_incidents(50):
            if line.service == service and (now - line.recorded_at).total_seconds() < 60 * FRESH_MINUTES:
                return self.workflow.incident(line.id)
        return None

    def _proposals(self, question: Question, about: str | None) -> list[tuple[Proposal, str]]:
        subject = question.subject or ""
        if subject.startswith("pro-"):
            return [self.workflow.proposal(subject)]
        if subject.startswith("chg-"):
            return [self.workflow.proposal(self.workflow.change(subject).proposal_id)]
        found = [
            (p, s)
            for p, s in self.workflow.proposals()
            if (about is None or p.incident_id.startswith(about)) and question.service in (None, p.service)
        ]
        return found[:LISTED_MAX]

    def _changes(self, question: Question, about: str | None) -> list[tuple[Change, str]]:
        subject = question.subject or ""
        every = self.workflow.changes()
        if subject.startswith("chg-"):
            wanted = self.workflow.change(subject).id
            return [(c, s) for c, s in every if c.id == wanted]
        if subject.startswith("pro-"):
            wanted = self.workflow.proposal(subject)[0].id
            return [(c, s) for c, s in every if c.proposal_id == wanted]
        return [
            (c, s)
            for c, s in every
            if (about is None or c.incident_id.startswith(about)) and question.service in (None, c.service)
        ][:LISTED_MAX]

    def _answers_to(self, proposal: Proposal, state: str) -> list[str]:
        lines = [f"{proposal.id} ({proposal.summary}) is {state.replace('_', ' ')}."]
        for answer in self.workflow.store.answers(proposal.id):
            kind = type(answer).__name__.lower()
            person = getattr(answer, "person", "nobody in time")
            comment = getattr(answer, "comment", "")
            lines.append(f" {kind} by {person} at {format_instant(answer.at)}{f': {comment}' if comment else ''}")
        return lines if len(lines) > 1 else [*lines, " nobody has answered it"]


def _cited(report: dict[str, Any], ids: list[str] | tuple[str, ...]) -> tuple[Cited, ...]:
    known = {e["id"]: e for e in report["evidence"]}
    incident = report["incident"]["id"]
    return tuple(
        Cited(incident=incident, evidence=one, summary=known[one]["summary"])
        for one in dict.fromkeys(ids)
        if one in known
    )[:LISTED_MAX]


def _span(ids: list[str]) -> str:
    return f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else ", ".join(ids) or "none"


def _keys(commit: CommitChange) -> list[str]:
    keys = [
        f"{k.key}: {k.old if k.old is not None else '(not set)'} → {k.new if k.new is not None else '(removed)'}"
        for f in commit.files
        for k in f.keys
    ]
    more = [f"and {len(keys) - KEYS_MAX} more keys"] if len(keys) > KEYS_MAX else []
    return [one_line(k, 200) for k in keys[:KEYS_MAX]] + more


def _percent(share: float) -> str:
    return ">99%" if share > 0.99 else "<1%" if share < 0.01 else f"{share:.0%}"


def _mean(one: Measured) -> float:
    known = one.known
    return sum(known) / len(known) if known else 0.0


def _amount(value: float, unit: str) -> str:
    match unit:
        case "bytes":
            return format_bytes(value)
        case "seconds":
            return format_seconds(value)
        case "share":
            return f"{value:.1%}"
        case _:
            return f"{format_number(value)}{f' {unit}' if unit else ''}"


def _course(one: Measured) -> str:
    known = one.known
    first, last = _amount(known[0], one.unit), _amount(known[-1], one.unit)
    return f"{one.name}: {first} at the beginning, {last} now, {_amount(max(known), one.unit)} at most"


def _plot(one: Measured) -> Plot:
    values = tuple(v if v == v else None for v in one.values)
    return Plot(name=one.name, unit=one.unit, times=one.times, values=values)


def failure(error: AdvisorError, incident: str | None) -> Said:
    """Return an error as an answer."""
    return Said(text=str(error), incident=incident)
