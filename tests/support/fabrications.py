"""Claims about recorded incidents: true ones as people and models word them, and the same with one thing made up.

A true claim is worded from one piece of evidence, with its numbers rounded and its units changed as people do. A
fabrication changes exactly one thing in it: an id, a number, a commit, a time, a name, a direction, a cause, a person.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from advisor.diagnosis.grounding.facts import Fact, Facts

_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_AMOUNT = re.compile(r"^(-?[\d,]+(?:\.\d+)?(?:e[+-]?\d+)?)\s?(B|KiB|MiB|GiB|TiB|ms|s|%)?$")
_SERIES = re.compile(
    r"^(?P<name>[^\s{(:]+)(?:\{[^}]*\})?(?: \([^)]*\))?: (?P<first>[^,]+) at the beginning, (?P<last>[^,]+) at the end, (?P<most>[^,]+) at most"
)
_MOVE = re.compile(
    r"^(?P<name>[^\s{(:]+)(?:\{[^}]*\})? \((?P<what>\w+)\): (?P<verb>went|rose slowly|fell slowly) from (?P<old>\S+(?: \w+)?) to (?P<new>\S+(?: \w+)?) about (?P<at>\S+)"
)
_CHANGE = re.compile(
    r"^(?P<at>\S+) (?P<commit>[0-9a-f]{8}) (?P<name>[^<]+?) <(?P<mail>[^>]+)>: (?P<subject>.*?) — (?P<key>[^\s;]+): (?P<old>.+?) → (?P<new>[^;→]+?)$"
)
_COUNT = re.compile(r"— (?P<count>\d+)×, first (?P<at>\S+)$")


@dataclass(frozen=True)
class Worded:
    """A claim, what it cites, and whether it is true; ``how`` names what was made up."""

    text: str
    cites: tuple[str, ...]
    true: bool
    how: str


def true_claims(facts: Facts, chance: random.Random) -> Iterator[Worded]:
    """Yield true claims about an incident's evidence."""
    for fact in facts.by_id.values():
        for text in _worded(fact, chance):
            yield Worded(text, (fact.id,), True, "")


def _worded(fact: Fact, chance: random.Random) -> Iterator[str]:
    series, move, change, count = (p.search(fact.summary) for p in (_SERIES, _MOVE, _CHANGE, _COUNT))
    if series is not None:
        name, first, last, most = (series[g].strip() for g in ("name", "first", "last", "most"))
        way = {1: "rose", -1: "fell", 0: "went"}[fact.direction]
        yield f"{name} {way} from {_said(first, chance)} to {_said(last, chance)}."
        yield f"{name} peaked at {_said(most, chance)}."
        yield f"In the beginning {name} was {_said(first, chance)}."
        factor = _number(last) / _number(first) if _number(first) else 0.0
        if factor > 1.3:
            yield f"{name} grew by a factor of about {factor:.1f} times."
    elif move is not None:
        old, new = move["old"].strip(), move["new"].strip()
        yield f"{move['what'].capitalize()} as {move['name']} shows it moved from {_said(old, chance)} to {_said(new, chance)} about {move['at']}."
        yield f"At {move['at'][11:16]} {move['name']} went to {_said(new, chance)}."
    elif change is not None:
        key, old, new = change["key"], change["old"].strip(), change["new"].strip()
        if len(key) > 3 and "not set" not in old and "removed" not in new:
            who = change["mail"].split("@")[0]
            yield f"Commit {change['commit']} by {who} changed {key} from {old} to {new}."
            yield f"{key} was set to {new} at {change['at']}."
            yield f"{who.capitalize()} changed {key} in {change['commit']}, besides other work."
            if chance.random() < 0.5:
                yield f"At {change['at'][11:16]} {who} set {key} from {old} to {new} ({change['commit']})."
    elif count is not None:
        yield f"The error was logged {count['count']} times, first at {count['at']}."


def _number(text: str) -> float:
    found = _AMOUNT.match(text.strip())
    if found is None:
        return 0.0
    value = float(found[1].replace(",", ""))
    return value * _BYTES.get(found[2] or "", 1)


def _said(text: str, chance: random.Random) -> str:
    """Return an amount as somebody else would write it: another unit, fewer digits."""
    found = _AMOUNT.match(text.strip())
    if found is None:
        return text
    value, unit = float(found[1].replace(",", "")), found[2] or ""
    way = chance.randrange(4)
    if unit in _BYTES and way == 1:
        return f"{value * _BYTES[unit] / 1024**2:.4g} MiB" if value else text
    if unit == "ms" and way == 1:
        return f"{value / 1000:g} s"
    if unit == "%" and way == 1:
        return f"{value:g} percent"
    if unit == "" and way == 2 and value >= 1000:
        return f"{value:.0f}"
    if way == 3 and value >= 100:
        return f"about {float(f'{value:.3g}'):g}{f' {unit}' if unit else ''}"
    return text


def fabricated(true: Worded, facts: Facts, chance: random.Random) -> Iterator[Worded]:
    """Yield what somebody makes up of a true claim, one thing at a time."""
    text, cites = true.text, true.cites
    fact = facts.by_id[cites[0]]
    yield Worded(text, (f"{cites[0][0]}{900 + chance.randrange(99)}",), False, "id")
    wrong = _wrong_number(text, chance)
    if wrong is not None:
        yield Worded(wrong, cites, False, "number")
    clock = re.search(r"\d\d:\d\d(?=[:\s]|Z|$)", text)
    if clock is not None:
        hour = (int(clock[0][:2]) + chance.randint(2, 9)) % 24
        yield Worded(text.replace(clock[0], f"{hour:02}:{clock[0][3:]}", 1), cites, False, "time")
    commit = re.search(r"\b[0-9a-f]{8}\b", text)
    if commit is not None and fact.commit.startswith(commit[0]):
        yield Worded(text.replace(commit[0], f"{chance.getrandbits(32) | 0xA0000001:08x}"), cites, False, "commit")
    key = re.search(r"\b(?:changed|set) ([\w.\[\]-]+\.[\w.\[\]-]+)", text)
    if key is not None:
        yield Worded(
            text.replace(key[1], f"{key[1]}.{chance.choice(('limit', 'size', 'ttl', 'budget'))}"), cites, False, "key"
        )
    swapped = re.search(r"from (\S+(?: [KMG]iB)?) to (\S+(?: [KMG]iB)?)(?=[ .])", text)
    if swapped is not None and "about" not in swapped[0] and _differ(swapped[1], swapped[2]):
        yield Worded(text.replace(swapped[0], f"from {swapped[2].rstrip('.')} to {swapped[1]}"), cites, False, "order")
    if fact.direction and re.search(r"\b(?:rose|fell)\b", text) and not swapped:
        other = text.replace("rose", "fell") if "rose" in text else text.replace("fell", "rose")
        yield Worded(other, cites, False, "direction")
    others = sorted(p for p in facts.people if p not in fact.summary.lower())
    who = re.search(r"\bby (\w+) changed|(\w+) set ", text)
    if fact.commit and others and who is not None and (who[1] or who[2]) in facts.people:
        yield Worded(text.replace(who[1] or who[2], chance.choice(others), 1), cites, False, "person")
    if fact.at is not None and facts.onset is not None and (fact.at - facts.onset).total_seconds() > 120:
        yield Worded(f"{text.rstrip('.')}, which caused the trouble.", cites, False, "causality")
    yield Worded(
        f"{text.rstrip('.')}; the fix was {chance.choice(('approved', 'applied', 'rolled out'))}.", cites, False, "deed"
    )


def _differ(a: str, b: str) -> bool:
    x, y = _number(a), _number(b)
    return x > 0 and y > 0 and max(x, y) / min(x, y) > 1.25


def _wrong_number(text: str, chance: random.Random) -> str | None:
    found = [
        m
        for m in re.finditer(r"(?<![\w.:-])\d[\d,]*(?:\.\d+)?(?= |%|$|\.$|\.\s)", text)
        if not re.match(r"\d{4}-", text[m.start() :]) and float(m[0].replace(",", "")) > 2
    ]
    if not found:
        return None
    one = chance.choice(found)
    value = float(one[0].replace(",", ""))
    wrong = value * chance.choice((0.31, 0.47, 0.72, 1.37, 2.6, 4.3, 17.0)) + 3
    if abs(wrong - value) < 0.3 * value:
        wrong = 3 * value + 7
    shown = f"{wrong:.1f}" if "." in one[0] else f"{wrong:.0f}"
    return text[: one.start()] + shown + text[one.end() :]
