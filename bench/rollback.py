"""How soon a change is taken back: the whole process `advisor rollback` on a long history, against plain `git revert`.

Builds a repository of 20,000 commits with ``git fast-import``, makes one change through the gate, and then, run by run,
takes the newest change back with the command line as a process of its own (each rollback is what the next one takes back).
The rival does the same by hand in a work tree that is there already: ``git pull``, ``git revert``, ``git push``. It shows
nothing, asks nobody and records nothing.

    python -m bench.rollback --commits 20000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench import git_history

RUNS = 7
SECONDS_MAX = 1.0
WHO = "alice@example.org"
PATH = "apps/service-000/application.yaml"
ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "repositories": {"config": {"url": "./remote.git"}},
    "services": {
        "service-000": {
            "selector": 'job="service-000"',
            "configuration": {"repository": "config", "paths": ["apps/service-000/**"]},
        }
    },
    "approval": {"approvers": [WHO]},
}


def first_change(folder: Path) -> str:
    """Make one change through the gate and return its id."""
    from advisor.approval import Answer, Choice
    from advisor.playbook import Action, VerificationPlan
    from advisor.proposal import Draft, RepositoryName, build_proposal
    from advisor.settings import load_settings
    from advisor.values import ActionType, Risk
    from advisor.workflow import Workflow

    workflow = Workflow(load_settings(folder / "advisor.yaml"))
    repository = workflow.repository("config")
    key = "server.servlet.session.timeout"
    draft = Draft(
        incident_id="inc-bench",
        service="service-000",
        action=Action(
            type=ActionType.SET_VALUE, path=PATH, keys=(key,), values=("61m",), reason="For the measurement."
        ),
        risk=Risk.LOW,
        fixes_cause=True,
        summary="Sets the session timeout.",
        repository=RepositoryName(name="config", url=repository.shown_url),
        branch="main",
        allowed_paths=("apps/service-000/**",),
        evidence_digest="sha256:" + "0" * 64,
        policy_version=workflow.settings.policy_version,
        verification=VerificationPlan(),
        proposer="engine",
    )
    proposal = build_proposal(repository, draft, "pro-bench", "nonce", workflow.clock())
    workflow.store.save_proposal(proposal)
    answer = Answer(choice=Choice.APPROVE, digest=proposal.digest, person=WHO)
    made = workflow.approve(proposal.id, answer.person)
    assert made.change is not None
    return made.change.id


class Cost(NamedTuple):
    """What something took: wall seconds, and processor seconds of all its processes."""

    wall: float
    processor: float


def _begin() -> Cost:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(time.perf_counter(), used.ru_utime + used.ru_stime)


def _since(begun: Cost) -> Cost:
    now = _begin()
    return Cost(now.wall - begun.wall, now.processor - begun.processor)


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))


def timed(arguments: list[str], folder: Path, **environment: str) -> tuple[Cost, str]:
    """Return what a process took, and what it printed."""
    began = _begin()
    done = subprocess.run(
        arguments, cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return _since(began), done.stdout


def by_hand(work: Path) -> Cost:
    """Return what taking the newest commit back with git alone takes, in a work tree that is there already."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    began = _begin()
    for words in (["pull", "-q", "--ff-only"], ["revert", "--no-edit", "HEAD"], ["push", "-q", "origin", "main"]):
        subprocess.run([*git, *words], cwd=work, check=True, capture_output=True)
    return _since(began)


def main() -> int:
    """Build, measure both in turn, print; 1 where a rollback took too long."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--commits", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args()
    ours, theirs, lists = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder, work = Path(name), Path(name) / "work"
        git_history.build(folder / "remote.git", given.commits, 200)
        (folder / "advisor.yaml").write_text(json.dumps(SETTINGS))
        change = first_change(folder)
        subprocess.run(["git", "clone", "-q", str(folder / "remote.git"), str(work)], check=True)
        command = [sys.executable, "-m", "advisor"]
        subprocess.run([*command, "--help"], cwd=folder, check=True, capture_output=True, env=_environment())
        for _ in range(given.runs):
            seconds, out = timed([*command, "rollback", change, "--as", WHO, "--json"], folder, PYTHONPATH=str(ROOT))
            change = json.loads(out)["id"]
            ours.append(seconds)
            theirs.append(by_hand(work))
            lists.append(timed([*command, "rollback", "--list", "--json"], folder, PYTHONPATH=str(ROOT))[0])
            subprocess.run(["git", "revert", "--no-edit", "HEAD"], cwd=work, check=True, capture_output=True)
            subprocess.run(["git", "push", "-q", "origin", "main"], cwd=work, check=True, capture_output=True)
        count = subprocess.run(
            ["git", "-C", str(folder / "remote.git"), "rev-list", "--count", "main"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    middle, rival, listing = _median(ours), _median(theirs), _median(lists)
    print(f"{datetime.now(UTC):%Y-%m-%d}: {count} commits, {git_history.FILES} files, medians of {given.runs},")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(f"advisor rollback, whole process: {middle.wall:.3f} s, {middle.processor:.3f} s of processor")
    print(f"git pull, revert, push by hand:  {rival.wall:.3f} s, {rival.processor:.3f} s of processor")
    print(f"advisor rollback --list:         {listing.wall:.3f} s, {listing.processor:.3f} s of processor")
    return 0 if middle.wall < SECONDS_MAX else 1


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


if __name__ == "__main__":
    sys.exit(main())
