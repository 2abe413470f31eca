"""The whole loop on live parts: incidents are brought about, diagnosed by the `advisor` command, and one is taken through
approval, commit on the remote, restart of the JVM, verification, rollback, and the rollback of the rollback.

`make lab` runs this. It judges by `truth.json` and by what git, the JVM and the advisor's exit codes say; with ``--bundles`` it
also exports each incident as a bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.lab import lab

APPROVER = "alice@example.org"
SIX = ("session_timeout", "heap_lowered", "cache_limit", "leaking_release", "traffic_growth", "healthy")
STORY = "session_timeout"
COMMAND_SECONDS = 90.0  # a busy machine; the advisor's own deadline is 30
VERIFY_SECONDS = 180.0


class LoopFailed(Exception):
    """The product did not do what the incident asked for."""


def advisor(run: lab.Run, *arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
    """Run the `advisor` command beside an incident's configuration and return its JSON document."""
    command = [sys.executable, "-m", "advisor", *arguments, "--config", str(run.configuration)]
    command += ["--json"] if arguments[0] != "export" else []
    environment = {**os.environ, "ADVISOR_USER": APPROVER, "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, env=environment)
    if done.returncode not in codes:
        raise LoopFailed(
            f"{' '.join(arguments)}: exit {done.returncode}, not one of {codes}: {done.stderr.strip()[-600:]}"
        )
    return json.loads(done.stdout) if arguments[0] != "export" else None


def head(run: lab.Run) -> str:
    """Return the commit at the remote's branch."""
    return git(run, "rev-parse", "refs/heads/main")


def git(run: lab.Run, *arguments: str) -> str:
    """Return what git says in an incident's bare remote."""
    command = ["git", "-C", str(run.folder / "config.git"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def mistakes(truth: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """Return what is wrong with a report, held against the truth."""
    diagnosis, found = report["diagnosis"], []
    cause = diagnosis["cause"] or {}
    if truth["kind"] in ("none", "healthy"):
        return [] if diagnosis["outcome"] == "healthy" else [f"outcome {diagnosis['outcome']}, not healthy"]
    if diagnosis["outcome"] != "diagnosed":
        found.append(f"outcome {diagnosis['outcome']}: {diagnosis['summary']}")
    if diagnosis["kind"] != truth["kind"]:
        found.append(f"kind {diagnosis['kind']}, not {truth['kind']}")
    if truth["commit"] and cause.get("commit") != truth["commit"]:
        found.append(f"commit {cause.get('commit')}, not {truth['commit']}")
    if truth["key"] and truth["key"] not in str(cause.get("key")):
        found.append(f"key {cause.get('key')}, not {truth['key']}")
    for proposal in report["proposals"]:
        if truth["commit"] and proposal["fixes_cause"] and proposal["action"]["type"] == "set_value":
            found.append(f"calls {proposal['action']} a fix")
    return found


def investigate(run: lab.Run) -> dict[str, Any]:
    """Return the advisor's report on an incident, printed as one line."""
    report: dict[str, Any] = advisor(run, "investigate", "checkout", codes=(0, 3))
    wrong = mistakes(run.truth, report)
    verdict = "right" if not wrong else "WRONG: " + "; ".join(wrong)
    print(
        f"{run.name:<16} {report['usage']['seconds']:5.1f} s  {verdict}  ({report['diagnosis']['summary']})", flush=True
    )
    if wrong:
        raise LoopFailed(f"{run.name}: {'; '.join(wrong)}")
    return report


def verified(run: lab.Run, change: str) -> str:
    """Return the verdict on a change once its window is over."""
    until = time.monotonic() + VERIFY_SECONDS
    while True:
        verification = advisor(run, "verify", change, codes=(0, 1, 3, 4))
        if verification["verdict"] != "inconclusive" or time.monotonic() > until:
            for result in verification["results"]:
                print(f"  {result['verdict']:<12} {result['reason']}", flush=True)
            return str(verification["verdict"])
        time.sleep(5)


def whole_loop(run: lab.Run, report: dict[str, Any]) -> None:
    """Approve the fix, roll it out, see it verified, take it back, and take the taking back back."""
    proposal = next(p for p in report["proposals"] if p["fixes_cause"])
    before, path = head(run), proposal["action"]["path"]
    guilty = git(run, "show", f"{before}:{path}")
    approved = advisor(run, "approve", proposal["id"], "--yes", "--comment", "seen in the laboratory")
    change = approved["change"]
    if head(run) != change["commit"] or git(run, "rev-parse", f"{change['commit']}^") != before:
        raise LoopFailed(f"the remote's head {head(run)} is not the approved commit {change['commit']} on {before}")
    fixed = git(run, "show", f"{change['commit']}:{path}")
    print(f"  committed {change['commit'][:12]}: {git(run, 'show', '-s', '--format=%s', change['commit'])}", flush=True)
    run.pull_and_restart()
    if git(run, "-C", "../checkout", "rev-parse", "HEAD") != change["commit"]:
        raise LoopFailed("the JVM was not restarted on the approved commit")
    verdict = verified(run, change["id"])
    print(f"  verification {verdict}", flush=True)
    if verdict != "passed":
        raise LoopFailed(f"verification {verdict}, not passed")
    back = advisor(run, "rollback", change["id"])
    if git(run, "show", f"{head(run)}:{path}") != guilty:
        raise LoopFailed("the rollback did not restore the bytes")
    again = advisor(run, "rollback", back["id"])
    if git(run, "show", f"{head(run)}:{path}") != fixed or head(run) != again["commit"]:
        raise LoopFailed("the rollback of the rollback did not restore the bytes")
    if git(run, "rev-parse", f"{head(run)}^{{tree}}") != git(run, "rev-parse", f"{change['commit']}^{{tree}}"):
        raise LoopFailed("the rollback of the rollback left another tree than the change")
    entries = advisor(run, "audit", "verify")
    print(f"  rolled back, and that rolled back: bytes restored each time; audit whole ({entries})", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the loop; 0 if every incident was diagnosed rightly and the story went round."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.loop", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("incident", nargs="*", help="default: the six of the README")
    parser.add_argument("--workdir", type=Path, default=lab.WORKDIR)
    parser.add_argument("--wave", type=int, default=6, help="incidents at the same time")
    parser.add_argument("--bundles", type=Path, help="also export each incident into this folder")
    parser.add_argument("--record", type=Path, help="also keep metrics, logs, repository and truth here")
    arguments = parser.parse_args(argv)
    names = arguments.incident or list(SIX)
    begun, failures = time.monotonic(), []
    for wave in lab.waves(names, arguments.wave):
        print(f"Bringing about: {', '.join(wave)}", file=sys.stderr, flush=True)
        with lab.running(wave, arguments.workdir) as runs:
            for run in sorted(runs, key=lambda one: one.name != STORY):
                if not run.came_about:
                    failures.append(f"{run.name}: did not come about as meant")
                    continue
                if arguments.record:
                    lab.record(run, arguments.record)
                try:
                    report = investigate(run)
                    if run.name == STORY:
                        whole_loop(run, report)
                    if arguments.bundles:
                        arguments.bundles.mkdir(parents=True, exist_ok=True)
                        target = arguments.bundles / f"{run.name}.bundle.zip"
                        advisor(run, "export", report["incident"]["id"], "--output", str(target.absolute()))
                        print(f"  {target.name}: {target.stat().st_size / 1024:.0f} KiB", flush=True)
                except (LoopFailed, subprocess.SubprocessError, KeyError, ValueError) as failure:
                    failures.append(f"{run.name}: {failure}")
                    print(f"  FAILED {failure}", flush=True)
    print(f"{len(names)} incidents in {time.monotonic() - begun:.0f} s, {len(failures)} failed", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
