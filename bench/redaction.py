"""Redaction: secrets found in other tools' own samples, harmless lines changed, and lines per second, beside two rivals.

Samples come from checkouts of public scanners in one folder: ``CredSweeper`` (its sample files and the findings it expects),
``gitleaks`` (the rules' true positives, read from the Go sources; what they generate is generated here from the same
expression) and ``detect-secrets`` (the lines its plugins' tests want flagged). Half of the groups (a sample file, a rule, a
test module; by a hash of its name) was there to learn from, the other half is only counted: `--learn` lists misses of the
first and never of the second. Benign lines are any ``*.log``, ``*.txt``, ``*.yaml`` and the like below `--benign`, such as LogHub's 2k sets;
this repository's recorded cases and its own files are taken as well.

A secret counts as found when no piece as long as half of it is left in its lines. The rivals are judged alike: their findings
are cut out of the same text. They are looked for in the interpreter that ``ADVISOR_BENCH_SCANNERS_PYTHON`` names, else in this
one; detect-secrets gets the better of its two ways for recall, and the quieter one for harmless lines.

    python -m bench.redaction --samples FOLDER --benign FOLDER [--learn]
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROOT = Path(__file__).resolve().parents[1]
FILE_CHARACTERS_MAX = 200_000
BENIGN_SUFFIXES = {".log", ".txt", ".yaml", ".yml", ".properties", ".toml", ".md", ".conf"}


@dataclass(frozen=True)
class Sample:
    """A text and the secret in it; where ``lines`` is given, the secret stands in those lines (from 1)."""

    source: str
    group: str
    text: str
    secret: str
    lines: tuple[int, ...] = ()

    @property
    def held_out(self) -> bool:
        """Return whether the sample's group is of the half that nobody learns from."""
        return hashlib.sha256(f"{self.source}/{self.group}".encode()).digest()[0] % 2 == 1


# --- CredSweeper: files, and the findings expected in them


def credsweeper_samples(folder: Path) -> Iterator[Sample]:
    """Yield the findings that are secrets and stand in plain text; identifiers, salts and nonces are of lower severity."""
    seen = set()
    for finding in json.loads((folder / "tests/data/output.json").read_text()):
        if finding["severity"] in ("info", "low"):
            continue
        for part in finding["line_data_list"]:
            path = folder / part["path"]
            try:
                text = path.read_bytes().decode("utf-8")[:FILE_CHARACTERS_MAX]
            except (OSError, UnicodeDecodeError):
                continue
            lines = text.split("\n")
            value, at = str(part["value"] or ""), int(part["line_num"])
            if at > len(lines) or len(value) < 4 or (path.name, at, value) in seen:
                continue
            if value.split("\n")[0] not in lines[at - 1]:
                continue  # it stands inside an archive or an encoding
            seen.add((path.name, at, value))
            count = value.count("\n") + 1
            yield Sample("CredSweeper", path.name, text, value, tuple(range(at, at + count)))


# --- gitleaks: the true positives of its rules, read from their Go sources


class _Unreadable(Exception):
    """An expression this reader does not know; its sample is left out."""


_GO = re.compile(r"\s*(?://[^\n]*\n\s*)*(?:(`[^`]*`)|(\"(?:[^\"\\\n]|\\.)*\")|([A-Za-z_][\w.]*)|(.))", re.S)
_CHARACTERS = {
    "Numeric": "[0-9]{%s}",
    "Hex": "[a-f0-9]{%s}",
    "AlphaNumeric": "[a-z0-9]{%s}",
    "AlphaNumericExtendedShort": "[a-z0-9_-]{%s}",
    "AlphaNumericExtended": "[a-z0-9=_-]{%s}",
    "AlphaNumericExtendedLong": "[a-z0-9/=_+-]{%s}",
}


class _Go:
    """Reads expressions of string values at one place of a Go source."""

    def __init__(self, text: str, at: int, formats: Sequence[str], chance: random.Random) -> None:
        self.text, self.at, self.formats, self.chance = text, at, formats, chance

    def token(self, take: bool = True) -> str:
        found = _GO.match(self.text, self.at)
        if found is None:
            raise _Unreadable
        if take:
            self.at = found.end()
        return found[0].strip().rpartition("\n")[2] if found[1] is None else found[1]

    def expression(self) -> list[tuple[str, str | None]]:
        """Return texts, each with its secret where it is known."""
        out = self.term()
        while self.token(take=False) == "+":
            self.token()
            more = self.term()
            if len(out) != 1 or len(more) != 1:
                raise _Unreadable
            out = [(out[0][0] + more[0][0], out[0][1] or more[0][1])]
        return out

    def term(self) -> list[tuple[str, str | None]]:
        token = self.token()
        if token[0] == "`":
            return [(token[1:-1], None)]
        if token[0] == '"':
            with contextlib.suppress(ValueError):
                return [(str(json.loads(token)), None)]
            raise _Unreadable
        name = token.rpartition(".")[2]
        if not token.startswith(("utils.", "secrets.")):
            raise _Unreadable
        if self.token() != "(":
            raise _Unreadable
        arguments = []
        while self.token(take=False) != ")":
            arguments.append(self.expression()[0][0])
            if self.token(take=False) == ",":
                self.token()
        self.token()
        if name in _CHARACTERS:
            return [(_CHARACTERS[name] % arguments[0], None)]
        if name == "NewSecret":
            made = made_from(arguments[0], self.chance)
            return [(made, made)]
        if name == "GenerateSampleSecret":
            return [(f'{arguments[0]}_api_token = "{arguments[1]}"', arguments[1])]
        if name == "GenerateSampleSecrets":
            identifier, secret = arguments
            return [
                (one.replace("{i}", identifier).replace("{I}", identifier.upper()).replace("{s}", secret), secret)
                for one in self.formats
            ]
        raise _Unreadable


def made_from(expression: str, chance: random.Random) -> str:
    """Return a text that an expression matches, by walking its parsed form."""
    from re import _parser  # type: ignore[attr-defined]  # the parser of `re` itself, as tests of expressions use it

    def walk(parsed: Any) -> str:
        return "".join(one(str(kind), argument) for kind, argument in parsed)

    def one(kind: str, argument: Any) -> str:
        if kind == "LITERAL":
            return chr(argument)
        if kind == "IN":
            kinds = [(str(k), v) for k, v in argument]
            members: list[str] = []
            for k, v in kinds:
                if k == "LITERAL":
                    members.append(chr(v))
                elif k == "RANGE":
                    members += [chr(c) for c in range(v[0], v[1] + 1)]
                elif k == "CATEGORY":
                    members += "0123456789" if "DIGIT" in str(v) else "abcXYZ059_"
            if not members:
                raise _Unreadable
            return chance.choice(members)
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = argument
            return "".join(walk(inner) for _ in range(chance.randint(low, min(int(high), low + 8))))
        if kind == "SUBPATTERN":
            return walk(argument[3])
        if kind == "BRANCH":
            return walk(chance.choice(argument[1]))
        if kind == "AT":
            return ""
        raise _Unreadable

    return walk(_parser.parse(expression))


def gitleaks_samples(folder: Path) -> Iterator[Sample]:
    """Yield the true positives; a literal one gets its secret from the rule's own expression."""
    generate = (folder / "cmd/generate/config/utils/generate.go").read_text()
    table = generate[generate.index("samples := map") :]
    formats = [
        str(json.loads(v)) if v[0] == '"' else v[1:-1]
        for v in re.findall(r"(?m)^\s*\"[^\"\n]+\":\s*(\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`),", table)
    ]
    rules = {
        rule["id"]: _expression(rule) for rule in tomllib.loads((folder / "config/gitleaks.toml").read_text())["rules"]
    }
    chance = random.Random(5)  # repeatable, nothing secret
    for path in sorted((folder / "cmd/generate/config/rules").glob("*.go")):
        for function in re.split(r"(?m)^func ", path.read_text())[1:]:
            rule = re.search(r"RuleID:\s*\"([\w-]+)\"", function)
            if rule is None:
                continue
            for text, secret in _true_positives(function, formats, chance):
                known = rules.get(rule[1])
                if secret is None and known is not None and (found := known.search(text)) is not None:
                    secret = next((g for g in found.groups() if g), found[0])
                if secret and len(secret) >= 4 and secret in text:
                    yield Sample("gitleaks", rule[1], text, secret)


def _expression(rule: dict[str, Any]) -> re.Pattern[str] | None:
    text = str(rule.get("regex", ""))
    flags = re.I if "(?i)" in text else 0
    text = text.replace("(?i)", "").replace(r"\z", r"\Z").replace("[[:alnum:]]", "[A-Za-z0-9]")
    try:
        return re.compile(text, flags) if text else None
    except re.error:
        return None


def _true_positives(function: str, formats: Sequence[str], chance: random.Random) -> Iterator[tuple[str, str | None]]:
    for begin in re.finditer(r"tps :?= (?:append\(tps,\s*|\[\]string\{|(?=utils\.))", function):
        go = _Go(function, begin.end(), formats, chance)
        while True:
            try:
                if go.token(take=False) in ("}", ")", ""):
                    break
                yield from go.expression()
                if "utils." in begin[0] or go.token(take=False) not in (",", "."):
                    break
                while go.token(take=False) in (",", "."):
                    go.token()
            except _Unreadable:
                break


# --- detect-secrets: lines that its plugins' tests want flagged


def detect_secrets_samples(folder: Path) -> Iterator[Sample]:
    """Yield lines with the secret that the test names, or else that the plugin finds; placeholders such as xxxxxxxx are none."""
    flagged = _flagged(folder)
    for path in sorted((folder / "tests/plugins").glob("*_test.py")):
        if path.name.startswith(("high_entropy", "ip_public", "base_")):
            continue  # one takes any random text for a secret, one flags addresses, one tests no format
        for text, wanted in _tuples(path):
            if wanted is True:
                # Whoever only says "flag this" is asked what it is that is flagged.
                for secret in flagged.get(f"{path.stem}\n{text}", ()):
                    if len(secret) >= 4 and secret in text and not re.search(r"([xX0*])\1{7}", secret):
                        yield Sample("detect-secrets", path.stem, text, secret)
            elif isinstance(wanted, str) and len(wanted) >= 4 and wanted in text:
                yield Sample("detect-secrets", path.stem, text, wanted)


def _tuples(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield pairs of a line and what a test wants of it."""
    tree = ast.parse(path.read_text())
    names = {
        t.id: n.value.value
        for n in tree.body
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)
        for t in n.targets
        if isinstance(t, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            text, wanted = (_constant(e, names) for e in node.elts)
            if isinstance(text, str) and len(text) <= 4000:
                yield text, wanted


def _flagged(folder: Path) -> dict[str, list[str]]:
    """Return what the tool's own plugins find in the lines that its tests want flagged; nothing where it is not installed."""
    asked = [
        f"{path.stem}\n{text}"
        for path in sorted((folder / "tests/plugins").glob("*_test.py"))
        for text, wanted in _tuples(path)
        if wanted is True
    ]
    python = os.environ.get("ADVISOR_BENCH_SCANNERS_PYTHON", sys.executable)
    done = subprocess.run([python, "-c", _PLUGINS], input=json.dumps(asked), capture_output=True, text=True)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def _constant(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _constant(node.left, names), _constant(node.right, names)
        return left + right if isinstance(left, str) and isinstance(right, str) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        text, values = _constant(node.func.value, names), [_constant(a, names) for a in node.args]
        if isinstance(text, str) and all(isinstance(v, str) for v in values) and not node.keywords:
            with contextlib.suppress(ValueError, IndexError):
                return text.format(*values)
    return None


READERS: dict[str, Callable[[Path], Iterator[Sample]]] = {
    "CredSweeper": credsweeper_samples,
    "gitleaks": gitleaks_samples,
    "detect-secrets": detect_secrets_samples,
}


# --- judging


def is_gone(sample: Sample, cleaned: str) -> bool:
    """Return whether no piece of the secret as long as half of it is left in its lines."""
    lines = cleaned.split("\n")
    left = "\n".join(lines[n - 1] for n in sample.lines if n <= len(lines)) if sample.lines else cleaned
    for part in sample.secret.split("\n"):
        part = part.strip()
        size = max(4, (len(part) + 1) // 2)
        if len(part) >= size and any(part[n : n + size] in left for n in range(len(part) - size + 1)):
            return False
    return True


def without(text: str, findings: Sequence[str]) -> str:
    """Return the text with each finding cut out, line breaks kept."""
    for found in sorted({f for f in findings if len(f) > 2}, key=len, reverse=True):
        text = text.replace(found, "\n" * found.count("\n"))
    return text


# --- rivals, each in a process of its own

_DETECT_SECRETS = """
import json, sys
from pathlib import Path
from detect_secrets.core.scan import scan_file, scan_line
from detect_secrets.settings import default_settings
out = {}
with default_settings():
    for path in sorted(Path(sys.argv[1]).iterdir()):
        found = [s.secret_value for s in scan_file(str(path)) if s.secret_value]
        if sys.argv[2] == "both":
            found += [s.secret_value for line in path.read_text(encoding="utf-8").split("\\n") for s in scan_line(line) if s.secret_value]
        out[path.name] = found
json.dump(out, sys.stdout)
"""
_PLUGINS = """
import importlib, json, pkgutil, sys
import detect_secrets.plugins as plugins
from detect_secrets.plugins.base import BasePlugin
tools = []
for module in pkgutil.iter_modules(plugins.__path__):
    if module.name in ("high_entropy_strings", "ip_public", "base"):
        continue
    for kind in vars(importlib.import_module("detect_secrets.plugins." + module.name)).values():
        if isinstance(kind, type) and issubclass(kind, BasePlugin) and not getattr(kind, "__abstractmethods__", None):
            tools.append(kind())
out = {}
for asked in json.load(sys.stdin):
    line = asked.split("\\n", 1)[1]
    out[asked] = sorted({s.secret_value for tool in tools for s in tool.analyze_line(filename="x.txt", line=line) if s.secret_value})
json.dump(out, sys.stdout)
"""
_CREDSWEEPER = """
import json, sys, tempfile
from pathlib import Path
from credsweeper.__main__ import main
report = Path(tempfile.mkdtemp()) / "report.json"
sys.argv = ["credsweeper", "--path", sys.argv[1], "--save-json", str(report), "--jobs", "1", "--log", "silence"]
stdout, sys.stdout = sys.stdout, sys.stderr
try:
    main()
except SystemExit:
    pass
out = {}
for finding in json.loads(report.read_text()) if report.exists() else []:
    for part in finding["line_data_list"]:
        out.setdefault(Path(part["path"]).name, []).append(part["value"])
json.dump(out, stdout)
"""
RIVALS = {"detect-secrets": ("detect_secrets", _DETECT_SECRETS), "CredSweeper": ("credsweeper", _CREDSWEEPER)}


def findings_of(rival: str, texts: Sequence[tuple[str, str]], mode: str) -> tuple[dict[str, list[str]], float] | None:
    """Return what a rival finds in each text (name, text), and the seconds of the processor it took; nothing where it is not installed."""
    module, program = RIVALS[rival]
    python = os.environ.get("ADVISOR_BENCH_SCANNERS_PYTHON", sys.executable)
    if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts:
            (Path(folder) / name).write_text(text, encoding="utf-8", newline="")
        began = _children_seconds()
        done = subprocess.run([python, "-c", program, folder, mode], capture_output=True, text=True)
        seconds = _children_seconds() - began
    if done.returncode:
        print(f"{rival} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout), seconds


def _children_seconds() -> float:
    """Return the processor's seconds of finished children: a busy machine does not change them much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- benign lines


def benign_texts(folder: Path | None) -> Iterator[tuple[str, str]]:
    """Yield named texts without secrets: public log samples, this repository's files, and what its cases recorded."""
    if folder is not None:
        for path in sorted(p for p in folder.rglob("*") if p.suffix in BENIGN_SUFFIXES and p.is_file()):
            yield path.stem.split("_")[0], path.read_text(encoding="utf-8", errors="replace")
    for top in ("playbooks", "deploy", "tests/lab", "docs"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in BENIGN_SUFFIXES and path.is_file() and "redaction" not in path.name:
                yield top, path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "playbooks").glob("*/cases/*/*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.startswith("tape"):
                    yield "cases", "\n".join(_strings(archive.read(name).decode("utf-8")))


def _strings(tape: str) -> Iterator[str]:
    """Yield every string that a case recorded, one for each line."""
    seen: set[str] = set()

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield from value.split("\n")
        elif isinstance(value, dict):
            for one in value.values():
                yield from walk(one)
        elif isinstance(value, list):
            for one in value:
                yield from walk(one)

    for line in tape.splitlines():
        for text in walk(json.loads(line)):
            if " " in text and text not in seen:
                seen.add(text)
                yield text


# --- the command


def measure_recall(samples: Sequence[Sample], learn: bool) -> None:
    """Print the share of secrets found, ours and the rivals', for each source and half."""
    from advisor.redaction import redact

    texts = {hashlib.sha256(s.text.encode()).hexdigest()[:16] + ".txt": s.text for s in samples}
    name_of = {text: name for name, text in texts.items()}
    cleaned = {"ours": {name: redact(text) for name, text in texts.items()}}
    for rival in RIVALS:
        found = findings_of(rival, tuple(texts.items()), "both")
        if found is None:
            print(f"{rival}: not installed here, not measured")
        else:
            cleaned[rival] = {name: without(text, found[0].get(name, [])) for name, text in texts.items()}
    print(f"{'samples':34}" + "".join(f"{tool:>18}" for tool in cleaned))
    rows: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        half = "held out" if sample.held_out else "learnt from"
        for source in (sample.source, "all"):
            rows[source, half].append(sample)
    for (source, half), some in sorted(rows.items(), key=lambda row: (row[0][1], row[0][0])):
        shares = [sum(is_gone(s, texts_[name_of[s.text]]) for s in some) / len(some) for texts_ in cleaned.values()]
        print(f"{half + ' / ' + source + f' ({len(some)})':34}" + "".join(f"{share:18.4f}" for share in shares))
    if learn:
        missed = Counter()
        for sample in samples:
            if not sample.held_out and not is_gone(sample, cleaned["ours"][name_of[sample.text]]):
                missed[sample.source, sample.group] += 1
                if missed[sample.source, sample.group] <= 3:
                    line = sample.text.split("\n")[sample.lines[0] - 1] if sample.lines else sample.text
                    print(f"missed {sample.source}/{sample.group}: {sample.secret[:60]!r} in {line[:160]!r}")


def measure_benign(texts: Sequence[tuple[str, str]], learn: bool) -> None:
    """Print the share of harmless lines changed, ours and the rivals', and lines per second."""
    from advisor.redaction import redact

    if not texts:
        print("no harmless lines found")
        return
    lines, changed, seconds = Counter[str](), Counter[str](), 0.0
    for name, text in texts:
        for line in text.split("\n"):
            if not line.strip():
                continue
            began = time.process_time()
            cleaned = redact(line)
            seconds += time.process_time() - began
            lines[name] += 1
            if cleaned != line:
                changed[name] += 1
                if learn:
                    print(f"changed {name}: {cleaned.strip()[:200]}")
    total = lines.total()
    print(
        f"harmless lines: {total}, changed {changed.total()} ({changed.total() / total:.4%}), {total / seconds:,.0f} lines/s"
    )
    print("  worst: " + ", ".join(f"{n} {c}/{lines[n]}" for n, c in changed.most_common(5)))
    for rival in RIVALS:
        found = findings_of(rival, [(f"{n}.txt", text) for n, (_, text) in enumerate(texts)], "file")
        if found is None:
            print(f"  {rival}: not installed here, not measured")
            continue
        hit = sum(
            any(value in line for value in found[0].get(f"{n}.txt", []) if value and len(value) > 2)
            for n, (_, text) in enumerate(texts)
            for line in text.split("\n")
            if line.strip()
        )
        print(f"  {rival}: changed {hit} ({hit / total:.4%}), {total / found[1]:,.0f} lines/s, its start included")


def main() -> int:
    """Measure what is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=Path, default=os.environ.get("ADVISOR_BENCH_SECRET_SAMPLES"))
    parser.add_argument("--benign", type=Path, default=os.environ.get("ADVISOR_BENCH_LOG_SAMPLES"))
    parser.add_argument("--learn", action="store_true", help="list misses of the half to learn from, and lines changed")
    given = parser.parse_args()
    samples = [
        sample
        for name, reader in READERS.items()
        if given.samples is not None and (Path(given.samples) / name).is_dir()
        for sample in reader(Path(given.samples) / name)
    ]
    if samples:
        measure_recall(samples, given.learn)
    else:
        print("no samples: --samples names a folder with checkouts called " + ", ".join(READERS))
    measure_benign(list(benign_texts(Path(given.benign) if given.benign else None)), given.learn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
