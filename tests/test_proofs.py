"""Approvals through the real commands, signed by real keys, exported, and verified on a machine that knows nothing."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from advisor.approval import sign
from advisor.approval.records import Approval
from advisor.bundle import Bundle, Tape
from advisor.cli import run
from advisor.errors import SettingsInvalid
from advisor.settings import load_settings
from advisor.values import digest
from advisor.workflow import Workflow
from advisor.workflow.proofs import Proof, Verdict, proofs_of, verify_bundle
from tests.support.gate import ALICE, BOB, CAROL, git, propose, real_with_cause, revert_action
from tests.support.ssh import Key, make_key

ONCALL = "oncall@example.org"
WHY = "the shop is down and nobody else answers"
PROOF = os.environ.get("ADVISOR_PROOF") == "1"


class Place:
    """A folder with settings, a repository whose last commit is guilty, keys, and one open proposal."""

    def __init__(self, folder: Path, keys: dict[str, Key], **approval: Any) -> None:
        self.folder, self.keys = folder, keys
        repository, self.remote, self.commit = real_with_cause(folder)
        repository.close()
        section = {
            "approvers": [ALICE, BOB, CAROL],
            "keys": {person: key.text for person, key in keys.items()},
            "break_glass": {"people": [ONCALL]},
            **approval,
        }
        settings = {
            "approval": section,
            "repositories": {"config": {"url": "./remote.git"}},
            "services": {
                "checkout": {
                    "selector": 'job="checkout"',
                    "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
                }
            },
        }
        (folder / "advisor.yaml").write_text(json.dumps(settings))
        workflow = self.workflow()
        self.proposal = propose(
            workflow.repository("config"),
            revert_action(self.commit),
            now=workflow.clock(),
            policy_version=workflow.settings.policy_version,
            evidence_digest="sha256:" + "2" * 64,
        )
        workflow.store.save_proposal(self.proposal)
        workflow.store.close()

    def workflow(self) -> Workflow:
        return Workflow(load_settings(self.folder / "advisor.yaml"))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, where nobody sits at a terminal, and return how it ended."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "ADVISOR_"))}
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "stdin", io.StringIO())
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            for name in set(os.environ) - set(clean):
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            code = run(list(arguments))
        said = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
        return subprocess.CompletedProcess(arguments, code, *said)

    def approve(self, person: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run("approve", self.proposal.id, "--as", person, "--yes", *more)

    def head(self) -> str:
        return git(self.remote, "rev-parse", "main").strip()

    def export(self, path: Path) -> Path:
        """Write what `advisor export` writes of an incident, without its evidence."""
        workflow = self.workflow()
        manifest = {
            "settings": workflow._portable_settings("checkout"),
            "proofs": proofs_of(workflow.store, self.proposal.incident_id),
        }
        history = {"config": workflow._cut_history("config", 20)}
        path.write_bytes(Bundle(manifest, Tape(), {}, history).to_bytes())
        workflow.store.close()
        return path

    @property
    def server_key(self) -> Path:
        return self.folder / ".advisor" / "signing.key"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return {person: make_key(folder, person.partition("@")[0]) for person in (ALICE, BOB, ONCALL)}


def line(done: subprocess.CompletedProcess[str]) -> str:
    said = [each for each in done.stderr.splitlines() if each.startswith("advisor: ")]
    assert len(said) == 1 and "Traceback" not in done.stderr, done.stderr
    return said[0]


# --- the commands --------------------------------------------------------------------------------------------------


def test_with_a_key_configured_only_a_signed_yes_changes_something(tmp_path: Path, keys: dict[str, Key]) -> None:
    place = Place(tmp_path, {ALICE: keys[ALICE]})
    before = place.head()
    unsigned = place.approve(ALICE)
    assert unsigned.returncode == 4 and "must be signed: --sign-with KEYFILE" in line(unsigned)
    other = place.approve(ALICE, "--sign-with", str(keys[BOB].private))
    assert other.returncode == 4 and f"the signature of {ALICE} does not verify" in line(other)
    missing = place.approve(ALICE, "--sign-with", "nowhere")
    assert missing.returncode == 2 and "there is no such file; nothing was signed" in line(missing)
    assert place.head() == before
    done = place.approve(ALICE, "--sign-with", str(keys[ALICE].private), "--comment", "read it")
    assert done.returncode == 0, done.stderr
    assert place.head() != before
    change = json.loads(place.run("changes", "--json").stdout)[0]["id"]
    refused = place.run("rollback", change, "--as", ALICE)
    assert refused.returncode == 4 and "--sign-with" in line(refused)
    back = place.run("rollback", change, "--as", ALICE, ADVISOR_SIGN_WITH=str(keys[ALICE].private))
    assert back.returncode == 0, back.stderr
    assert git(place.remote, "diff", before, "main") == ""


def test_in_two_steps_exactly_the_printed_bytes_are_signed_elsewhere(tmp_path: Path, keys: dict[str, Key]) -> None:
    place = Place(tmp_path, {ALICE: keys[ALICE]})
    same = ["--as", ALICE, "--comment", "token=hunter2hunter2 read", "--rollback-on-failure"]
    printed = place.run("approve", place.proposal.id, *same, "--print-statement")
    assert printed.returncode == 0 and printed.stdout.count("\n") == 1
    assert "hunter2" not in printed.stdout
    assert json.loads(printed.stdout)["digest"] == place.proposal.digest
    assert place.run("proposals", "--json").stdout.count('"state": "proposed"') == 1  # to print is to do nothing
    statement = tmp_path / "statement"
    statement.write_text(printed.stdout)
    subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-f", str(keys[ALICE].private), "-n", "ops-advisor", str(statement)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    handed = ["--signature", str(tmp_path / "statement.sig"), "--yes"]
    other = place.run("approve", place.proposal.id, "--as", ALICE, *handed)
    assert other.returncode == 4 and "over another statement" in line(other)
    assert place.run("approve", place.proposal.id, *same, *handed).returncode == 0


def test_a_denial_is_signed_too(tmp_path: Path, keys: dict[str, Key]) -> None:
    place = Place(tmp_path, {ALICE: keys[ALICE]})
    ask = ["deny", place.proposal.id, "--as", ALICE, "--reason", "not now"]
    assert "must be signed" in line(place.run(*ask))
    assert json.loads(place.run(*ask, "--print-statement").stdout)["choice"] == "deny"
    assert place.run(*ask, "--sign-with", str(keys[ALICE].private)).returncode == 0


def test_break_glass_is_a_command_of_its_own(tmp_path: Path, keys: dict[str, Key]) -> None:
    freeze = [{"start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z", "reason": "year end"}]
    place = Place(tmp_path, {ONCALL: keys[ONCALL]}, two_person_from_risk="low", freeze=freeze)
    frozen = place.approve(BOB)
    assert frozen.returncode == 4 and "(year end)" in line(frozen) and "break-glass" in line(frozen)
    ask = ["break-glass", place.proposal.id, "--as", ONCALL, "--yes", "--sign-with", str(keys[ONCALL].private)]
    assert place.run(*ask).returncode == 2  # no reason
    assert "a reason of at least 10" in line(place.run(*ask, "--reason", "now!"))
    listed = place.run("break-glass", place.proposal.id, "--as", BOB, "--yes", "--reason", WHY)
    assert listed.returncode == 4 and "not among approval.break_glass.people" in line(listed)
    nobody_asked = place.run(*[a for a in ask if a != "--yes"], "--reason", WHY)
    assert nobody_asked.returncode == 2 and "nobody can be asked" in line(nobody_asked)
    done = place.run(*ask, "--reason", WHY)
    assert done.returncode == 0, done.stderr
    assert "Breaking the glass" in done.stdout and WHY in done.stdout
    message = git(place.remote, "log", "-1", "--format=%(trailers:key=Break-glass,valueonly)", "main")
    assert WHY in message
    assert json.loads(place.run("changes", "--json").stdout)[0]["break_glass"] == WHY
    assert "proposal.break_glass" in place.run("audit", "show", "--json").stdout


# --- verified elsewhere --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Key]) -> Iterator[tuple[Place, Path]]:
    """Return a place where two people approved, both signed, and its bundle."""
    folder = tmp_path_factory.mktemp("place")
    place = Place(folder, {ALICE: keys[ALICE], BOB: keys[BOB]}, two_person_from_risk="low")
    for person in (ALICE, BOB):
        done = place.approve(person, "--sign-with", str(keys[person].private))
        assert done.returncode == 0, done.stderr
    yield place, place.export(folder / "incident.bundle.zip")


def verdicts(proof: Proof) -> dict[str, str]:
    return {each.what.split(" sha256")[0]: each.verdict.value for each in proof.lines}


def test_a_bundle_proves_who_approved_what_and_that_nothing_else_was_written(
    proven: tuple[Place, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, bundle = proven
    away = shutil.copy(bundle, tmp_path / "away.zip")
    monkeypatch.chdir(tmp_path)
    proof = verify_bundle(Path(away))
    assert proof.verified
    assert verdicts(proof) == {
        "digest": "verified",
        "patch": "verified",
        "inverse": "verified",
        f"{ALICE} approved": "verified",
        f"{BOB} approved": "verified",
        "people": "verified",
        "change": "verified",
    }
    for person in (ALICE, BOB):
        detail = next(each.detail for each in proof.lines if each.what.startswith(person))
        fingerprint = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(place.keys[person].public)], capture_output=True, text=True, check=True
        ).stdout.split()[1]
        assert fingerprint in detail and "the rules bound by the proposal" in detail
    assert list(tmp_path.iterdir()) == [Path(away)]  # nothing is left behind


def test_the_command_says_it_with_its_exit_code(proven: tuple[Place, Path], tmp_path: Path) -> None:
    place, bundle = proven
    done = place.run("verify-approval", str(bundle))
    assert done.returncode == 0 and "✓ verified" in done.stdout and "SHA256:" in done.stdout
    document = json.loads(place.run("verify-approval", str(bundle), "--json").stdout)
    assert document["schema"] == "advisor.proof/v1" and document["verified"] is True
    for content in (b"", b"no zip", bundle.read_bytes()[:200]):
        (tmp_path / "broken.zip").write_bytes(content)
        assert place.run("verify-approval", str(tmp_path / "broken.zip")).returncode == 2
    assert place.run("verify-approval", str(tmp_path / "nowhere.zip")).returncode == 2
    old = edited(bundle, tmp_path / "old.zip", lambda manifest: manifest.pop("proofs"))
    assert "carries no approvals" in line(place.run("verify-approval", str(old)))
    odd = place.run("verify-approval", str(bundle), "--key", str(tmp_path))
    assert odd.returncode == 2 and "--key" in line(odd)


def test_what_the_server_alone_signed_only_its_key_verifies(tmp_path: Path) -> None:
    place = Place(tmp_path, {})
    assert place.approve(CAROL).returncode == 0
    bundle = place.export(tmp_path / "incident.zip")
    without = verify_bundle(bundle)
    assert not without.verified
    told = next(each for each in without.lines if each.what.startswith(CAROL))
    assert told.verdict is Verdict.OPEN and "only with its key can it be verified (--key FILE)" in told.detail
    assert place.run("verify-approval", str(bundle)).returncode == 4
    assert verify_bundle(bundle, place.server_key).verified
    wrong = tmp_path / "wrong.key"
    wrong.write_bytes(b"x" * 32)
    assert not verify_bundle(bundle, wrong).verified


def test_keys_from_a_place_that_the_reader_trusts_decide(
    proven: tuple[Place, Path], keys: dict[str, Key], tmp_path: Path
) -> None:
    _place, bundle = proven
    signers = tmp_path / "signers"
    signers.write_text("".join(f"{person} {keys[person].text}\n" for person in (ALICE, BOB)))
    assert verify_bundle(bundle, signers_file=signers).verified
    signers.write_text(f"{ALICE} {keys[ONCALL].text}\n{BOB} {keys[BOB].text}\n")
    proof = verify_bundle(bundle, signers_file=signers)
    assert not proof.verified
    assert verdicts(proof)[f"{ALICE} approved"] == "refused"


def test_after_the_rules_changed_the_key_that_was_recorded_then_is_used_and_said_to_be(
    proven: tuple[Place, Path], tmp_path: Path
) -> None:
    _place, bundle = proven
    changed = edited(
        bundle, tmp_path / "x.zip", lambda m: m["settings"]["approval"].update(expires_minutes=31, keys={})
    )
    proof = verify_bundle(changed)
    assert proof.verified
    assert any("as it was recorded then" in each.detail for each in proof.lines)
    assert verdicts(proof)["rules"] == "open"


def edited(bundle: Path, target: Path, edit: Callable[[dict[str, Any]], object], history: bool = True) -> Path:
    """Return a bundle whose manifest somebody changed."""
    parts: dict[str, bytes] = {}
    with zipfile.ZipFile(bundle) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(parts["manifest.json"])
    edit(manifest)
    parts["manifest.json"] = json.dumps(manifest).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in parts.items():
            if history or not name.startswith("repositories/"):
                archive.writestr(name, data)
    target.write_bytes(out.getvalue())
    return target


def subject(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["proofs"]["subjects"][0]


def forge_proposal(manifest: dict[str, Any], **fields: Any) -> None:
    """Change the proposal and everything that can be computed from it, as a careful forger does."""
    from advisor.proposal import Proposal, digest_of

    record = {**subject(manifest)["proposal"], **fields}
    if "diff" in fields:
        record["view_digest"] = digest(record["diff"].encode())
    record["digest"] = digest_of(Proposal.model_validate(record))
    subject(manifest)["proposal"] = record
    for answer in subject(manifest)["answers"]:
        answer["record"]["digest"] = record["digest"]
    subject(manifest)["change"]["digest"] = record["digest"]


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "one approval away": lambda m: subject(m)["answers"].pop(),
    "both approvals away": lambda m: subject(m).update(answers=[]),
    "one approval twice": lambda m: subject(m).update(answers=[subject(m)["answers"][0]] * 2),
    "another person": lambda m: subject(m)["answers"][0]["record"].update(person=CAROL),
    "another comment": lambda m: subject(m)["answers"][0]["record"].update(comment="yes please"),
    "a wish that nobody had": lambda m: subject(m)["answers"][0]["record"].update(rollback_on_failure=True),
    "a glass nobody broke": lambda m: subject(m)["answers"][0]["record"].update(break_glass=True),
    "said to be unsigned": lambda m: subject(m)["answers"][0]["record"].update(method="server", ssh_signature=""),
    "said to be standing": lambda m: subject(m)["answers"][0]["record"].update(method="server", standing="x"),
    "the other one's signature": lambda m: subject(m)["answers"][0]["record"].update(
        ssh_signature=subject(m)["answers"][1]["record"]["ssh_signature"]
    ),
    "after its life": lambda m: subject(m)["answers"][0]["record"].update(at="2099-01-01T00:00:00Z"),
    "edited proposal": lambda m: subject(m)["proposal"].update(summary="harmless"),
    "edited proposal with its digest": lambda m: forge_proposal(m, summary="harmless"),
    "another text was shown": lambda m: forge_proposal(m, diff="nothing\n"),
    "another patch": lambda m: forge_proposal(m, patch_digest="sha256:" + "0" * 64),
    "another base": lambda m: forge_proposal(m, base="0" * 40),
    "the proposer approves": lambda m: forge_proposal(m, proposer=ALICE),
    "another commit": lambda m: subject(m)["change"].update(tree="0" * 40),
    "a key of the forger's": lambda m: m["settings"]["approval"]["keys"].update({ALICE: ["ssh-ed25519 AAAA"]}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_bundle_is_not_verified(proven: tuple[Place, Path], tmp_path: Path, name: str) -> None:
    place, bundle = proven
    forged = edited(bundle, tmp_path / "forged.zip", FORGERIES[name])
    for key in (None, place.server_key):
        proof = verify_bundle(forged, key)
        if name == "a key of the forger's":  # those rules are not the bound ones: then the recorded key counts
            assert verdicts(proof)["rules"] == "open"
            continue
        assert not proof.verified, proof


def test_even_with_the_servers_key_a_forger_lacks_the_signatures(proven: tuple[Place, Path], tmp_path: Path) -> None:
    place, bundle = proven

    def forge(manifest: dict[str, Any]) -> None:
        forge_proposal(manifest, summary="harmless")
        for answer in subject(manifest)["answers"]:
            record = Approval.model_validate(answer["record"])
            answer["record"]["signature"] = sign(record, place.server_key.read_bytes())

    forged = edited(bundle, tmp_path / "forged.zip", forge)
    proof = verify_bundle(forged, place.server_key)
    assert not proof.verified
    assert {verdicts(proof)[f"{person} approved"] for person in (ALICE, BOB)} == {"refused"}


def test_any_flipped_byte_of_the_records_is_not_verified_or_changes_nothing(
    proven: tuple[Place, Path], tmp_path: Path
) -> None:
    """Bytes of the answers as they stand in the file; what the server's clock said is for the server's key to say."""
    place, bundle = proven
    chance = random.Random(8)
    with zipfile.ZipFile(bundle) as archive:
        text = archive.read("manifest.json").decode()
    begin, end = text.index('"answers":'), text.index('"change":', text.index('"answers":'))
    for _ in range(400 if PROOF else 40):
        place_of_flip = chance.randrange(begin, end)
        raw = text.encode()
        flipped = (
            raw[:place_of_flip] + bytes([raw[place_of_flip] ^ (1 << chance.randrange(8))]) + raw[place_of_flip + 1 :]
        )

        def put(manifest: dict[str, Any], data: bytes = flipped) -> None:
            changed = json.loads(data)
            manifest.clear()
            manifest.update(changed)

        try:
            forged = edited(bundle, tmp_path / "forged.zip", put)
        except ValueError:
            continue  # no JSON any more
        if json.loads(flipped) == json.loads(text):
            continue
        try:
            proof = verify_bundle(forged, place.server_key)
        except SettingsInvalid:
            continue
        assert not proof.verified, (text[place_of_flip - 40 : place_of_flip + 40], proof)


def test_whatever_stands_in_the_manifest_is_judged_or_refused_in_one_line(
    proven: tuple[Place, Path], tmp_path: Path
) -> None:
    place, bundle = proven
    chance = random.Random(9)
    junk: list[Any] = [
        None,
        True,
        -1,
        1e300,
        "",
        "x" * 5000,
        "\ud800",
        "../..",
        [],
        {},
        [[]],
        {"a": {}},
        "2026-13-01",
        "-f",
    ]

    def nodes(value: Any) -> list[tuple[Any, Any]]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [pair for key, each in list(inner) for pair in ((value, key), *nodes(each))]

    def spoil(manifest: dict[str, Any]) -> None:
        for _ in range(chance.randint(1, 3)):
            place_of, key = chance.choice([n for n in nodes(manifest) if n[1] not in ("schema", "services")])
            place_of[key] = chance.choice(junk)

    for number in range(600 if PROOF else 80):
        spoiled = edited(bundle, tmp_path / "spoiled.zip", spoil, history=number % 20 == 0)
        try:
            proof = verify_bundle(spoiled, place.server_key)
        except SettingsInvalid as refused:
            assert str(refused).isprintable()
            continue
        assert all(each.detail.isprintable() for each in proof.lines)


def test_without_ssh_keygen_it_says_so_and_verifies_nothing(
    proven: tuple[Place, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _place, bundle = proven
    real = shutil.which("git")
    assert real is not None
    (tmp_path / "git").symlink_to(real)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    proof = verify_bundle(bundle)
    assert not proof.verified
    assert any("openssh-client" in each.detail for each in proof.lines)


def test_each_check_refuses_by_itself(proven: tuple[Place, Path], tmp_path: Path) -> None:
    _place, bundle = proven

    def proof_of(edit: Callable[[dict[str, Any]], object]) -> dict[str, str]:
        proof = verify_bundle(edited(bundle, tmp_path / "forged.zip", edit))
        return {each.what.split(" sha256")[0]: each.detail for each in proof.lines if each.verdict is Verdict.REFUSED}

    def keep_answers(manifest: dict[str, Any]) -> None:
        answers = json.loads(json.dumps(subject(manifest)["answers"]))
        forge_proposal(manifest, summary="harmless")
        subject(manifest)["answers"] = answers  # whole, and signed, but for something else

    assert "another proposal" in proof_of(keep_answers)[f"{ALICE} approved"]
    assert "other bytes" in proof_of(FORGERIES["another patch"])["patch"]
    assert "proposer's own" in proof_of(FORGERIES["the proposer approves"])[f"{ALICE} approved"]
    assert "has an SSH key" in proof_of(FORGERIES["said to be unsigned"])[f"{ALICE} approved"]
