"""Signatures of people's own SSH keys: made and verified by a real ssh-keygen, bound to every byte, refused by name."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from advisor.adapters import ssh_signatures
from advisor.approval import (
    Approval,
    Choice,
    Denial,
    Method,
    grant,
    sign,
    statement_of,
    statement_of_record,
    verify_approval,
)
from advisor.approval.ssh_keys import fingerprint_of, read_allowed_signers, read_signature, read_signer
from advisor.errors import (
    ApprovalMismatch,
    NotPermitted,
    SettingsInvalid,
    SignatureRefused,
)
from advisor.proposal import Proposal
from advisor.settings import ApprovalRules, parse_settings
from advisor.values import Risk, digest
from tests.support.gate import (
    ALICE,
    BOB,
    CAROL,
    KEY,
    NOW,
    POLICY,
    approve,
    fake_with_cause,
    propose,
    revert_action,
    say,
)
from tests.support.ssh import Key, answer_signed, make_key, need_ssh_keygen, rules_with

PROOF = os.environ.get("ADVISOR_PROOF") == "1"
FLIPS = int((5_000 if PROOF else 2_000) * float(os.environ.get("ADVISOR_PROOF_SIZE", "1")))
MS = timedelta(milliseconds=1)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return {person: make_key(folder, person.partition("@")[0]) for person in (ALICE, BOB, "mallory@example.org")}


def proposed(**fields: Any) -> Proposal:
    repository, commit = fake_with_cause()
    return propose(repository, revert_action(commit), **fields)


def two(keys: dict[str, Key]) -> Any:
    return rules_with({ALICE: keys[ALICE], BOB: keys[BOB]})


def resigned(approval: Approval, **fields: Any) -> Approval:
    """Return a record as somebody writes it who holds the server's key, but not the person's."""
    changed = Approval.model_validate({**approval.model_dump(), **fields})
    return Approval.model_validate({**changed.model_dump(), "signature": sign(changed, KEY)})


# --- what is signed ------------------------------------------------------------------------------------------------


def test_a_signed_answer_carries_its_signature_and_the_key_that_it_verified_with(keys: dict[str, Key]) -> None:
    proposal, rules = proposed(), two(keys)
    for choice in Choice:
        given = answer_signed(proposal, ALICE, keys[ALICE], rules, choice=choice, comment="looked at it")
        assert given.method is Method.SSH
        assert given.signer == keys[ALICE].text
        assert fingerprint_of(given.signer).startswith("SHA256:")
        statement = statement_of_record(given)
        assert statement == statement_of(proposal, say(proposal, ALICE, choice, comment="looked at it"), ALICE)
        assert ssh_signatures.verify(ALICE, statement, given.ssh_signature, (keys[ALICE].text,), NOW)


def test_the_statement_is_one_line_of_json_with_the_digest_and_no_time() -> None:
    proposal = proposed()
    statement = statement_of(proposal, say(proposal, ALICE, comment="a\nb", rollback_on_failure=True), ALICE)
    assert statement.endswith(b"}\n") and statement.count(b"\n") == 1
    assert json.loads(statement) == {
        "schema": "ops-advisor.approval/v1",
        "choice": "approve",
        "proposal": proposal.id,
        "digest": proposal.digest,
        "person": ALICE,
        "role": "",
        "comment": "a b",
        "rollback_on_failure": True,
        "policy_version": POLICY,
    }


def test_an_approval_a_denial_and_a_broken_glass_are_three_statements() -> None:
    proposal = proposed()
    answers = [say(proposal), say(proposal, choice=Choice.DENY), say(proposal, break_glass=True)]
    assert len({statement_of(proposal, answer, ALICE) for answer in answers}) == 3


def test_signed_approvals_make_a_grant_that_verifies_them_again(keys: dict[str, Key]) -> None:
    proposal, rules = proposed(risk=Risk.HIGH), two(keys)
    given = tuple(answer_signed(proposal, person, keys[person], rules) for person in (ALICE, BOB))
    assert grant(proposal, given, rules, POLICY, NOW + MS, KEY).people == (ALICE, BOB)


def test_a_person_without_a_key_answers_as_before_beside_one_who_signs(keys: dict[str, Key]) -> None:
    proposal, rules = proposed(risk=Risk.HIGH), two(keys)
    given = (answer_signed(proposal, ALICE, keys[ALICE], rules), answer_signed(proposal, CAROL, None, rules))
    assert [a.method for a in given] == [Method.SSH, Method.SERVER]
    assert grant(proposal, given, rules, POLICY, NOW + MS, KEY).people == (ALICE, CAROL)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", Choice)
def test_with_a_key_configured_an_unsigned_answer_is_refused(keys: dict[str, Key], choice: Choice) -> None:
    with pytest.raises(SignatureRefused, match=f"{ALICE} has an SSH key .*--sign-with"):
        answer_signed(proposed(), ALICE, None, two(keys), choice=choice)


@pytest.mark.parametrize("spelling", ["ALICE@example.org", " alice@example.org "])
def test_another_spelling_does_not_get_around_the_signature(keys: dict[str, Key], spelling: str) -> None:
    with pytest.raises(SignatureRefused, match="must be signed"):
        answer_signed(proposed(), spelling, None, two(keys))


def test_the_key_of_another_person_is_refused(keys: dict[str, Key]) -> None:
    for other in (BOB, "mallory@example.org"):
        with pytest.raises(SignatureRefused, match=f"signature of {ALICE} does not verify"):
            answer_signed(proposed(), ALICE, keys[other], two(keys))


def test_a_signature_without_a_configured_key_is_refused(keys: dict[str, Key]) -> None:
    with pytest.raises(SignatureRefused, match=f"{CAROL} has no SSH key"):
        answer_signed(proposed(), CAROL, keys[ALICE], two(keys))


@pytest.mark.parametrize(
    "said",
    [
        {"comment": "other"},
        {"rollback_on_failure": True},
        {"break_glass": True},
        {"choice": Choice.DENY},
        {"role": "x"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_a_signature_is_of_exactly_one_answer(keys: dict[str, Key], said: dict[str, Any]) -> None:
    proposal = proposed()
    rules = rules_with({ALICE: keys[ALICE]}, break_glass={"people": [ALICE]})
    words = {"comment": "long enough a reason"}
    signature = ssh_signatures.sign(statement_of(proposal, say(proposal, ALICE, **words), ALICE), keys[ALICE].private)
    from advisor.approval import decide

    def answered(**fields: Any) -> Approval | Denial:
        answer = say(proposal, ALICE, **{**words, "signature": signature, **fields})
        return decide(proposal, answer, rules, POLICY, (), NOW, KEY)

    assert answered().method is Method.SSH
    with pytest.raises(SignatureRefused, match="does not verify"):
        answered(**said)


def test_a_signature_for_one_proposal_is_none_for_the_next(keys: dict[str, Key]) -> None:
    rules = two(keys)
    first, second = proposed(number=1), proposed(number=2)
    given = answer_signed(first, ALICE, keys[ALICE], rules)
    moved = resigned(given, proposal_id=second.id, digest=second.digest)  # type: ignore[arg-type]
    with pytest.raises(SignatureRefused, match="does not verify"):
        grant(second, (moved,), rules, POLICY, NOW + MS, KEY)


def test_the_server_alone_cannot_make_an_approval_of_somebody_who_has_a_key(keys: dict[str, Key]) -> None:
    proposal, rules = proposed(), two(keys)
    forged = approve(proposal, ALICE)  # signed with the server's key, as a stolen one would
    with pytest.raises(SignatureRefused, match="lacks the SSH signature"):
        grant(proposal, (forged,), rules, POLICY, NOW + MS, KEY)
    standing = resigned(forged, standing="sha256:" + "0" * 64)
    with pytest.raises(SignatureRefused, match="lacks the SSH signature"):
        grant(proposal, (standing,), rules, POLICY, NOW + MS, KEY)


def test_rules_that_cannot_verify_refuse(keys: dict[str, Key]) -> None:
    proposal, rules = proposed(), two(keys)
    given = answer_signed(proposal, ALICE, keys[ALICE], rules)
    plain = ApprovalRules.model_validate(rules.model_dump())
    with pytest.raises(SignatureRefused, match="cannot be verified here"):
        grant(proposal, (given,), plain, POLICY, NOW + MS, KEY)


def test_a_key_taken_away_no_longer_counts(keys: dict[str, Key]) -> None:
    proposal = proposed()
    given = answer_signed(proposal, ALICE, keys[ALICE], two(keys))
    without = rules_with({BOB: keys[BOB]})
    with pytest.raises(SignatureRefused, match="no key of theirs"):
        grant(proposal, (given,), without, POLICY, NOW + MS, KEY)


def test_an_automatic_rollback_stands_on_the_approval_that_allowed_it(keys: dict[str, Key]) -> None:
    proposal, rules = proposed(rolls_back="chg-1", proposer="advisor:rollback"), two(keys)
    given = answer_signed(proposal, ALICE, None, rules, standing=digest("the approval that ticked it"))
    assert grant(proposal, (given,), rules, POLICY, NOW + MS, KEY).people == (ALICE,)
    with pytest.raises(NotPermitted, match="only a rollback"):
        answer_signed(proposed(), ALICE, None, rules, standing=digest("x"))


# --- flips ---------------------------------------------------------------------------------------------------------


def flip(data: bytes, place: int, chance: random.Random) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


def test_invariant_2_a_flipped_byte_of_a_signed_approval_is_refused(keys: dict[str, Key]) -> None:
    """Every byte of the stored record in turn, over and over, by somebody who holds no key."""
    proposal, rules = proposed(), two(keys)
    given = answer_signed(proposal, ALICE, keys[ALICE], rules, comment="read it")
    raw, chance, seen = given.model_dump_json().encode(), random.Random(4), Counter[str]()
    place = 0
    while sum(seen.values()) < FLIPS:
        flipped = flip(raw, place % len(raw), chance)
        place += 1
        try:
            other = Approval.model_validate_json(flipped)
        except (ValidationError, UnicodeDecodeError):
            seen["unreadable"] += 1
            continue
        if other == given:
            continue  # a digit behind the last one that is kept of the time
        with pytest.raises(NotPermitted) as caught:
            grant(proposal, (other,), rules, POLICY, NOW + timedelta(minutes=1), KEY)
        seen[type(caught.value).__name__] += 1
    assert place >= len(raw)
    assert seen["unreadable"] < FLIPS * 0.6, seen
    assert grant(proposal, (given,), rules, POLICY, NOW + timedelta(minutes=1), KEY).people == (ALICE,)  # type: ignore[arg-type]


def test_invariant_2_a_flipped_byte_is_refused_even_of_somebody_who_holds_the_servers_key(keys: dict[str, Key]) -> None:
    """The record is signed anew with the server's key after each flip: only the person's own signature is left."""
    proposal, rules = proposed(), two(keys)
    given = answer_signed(proposal, ALICE, keys[ALICE], rules, comment="read it", role="on call")
    assert isinstance(given, Approval)
    chance, refused = random.Random(5), Counter[str]()
    rounds = 8 if PROOF else 1
    for name in ("ssh_signature", "digest", "person", "comment", "role", "policy_version", "proposal_id"):
        value = getattr(given, name).encode()
        for place in range(len(value) * rounds):
            try:
                text = flip(value, place % len(value), chance).decode()
                other = resigned(given, **{name: text})
            except (UnicodeError, ValidationError):
                refused["unreadable"] += 1
                continue
            with pytest.raises(NotPermitted) as caught:
                grant(proposal, (other,), rules, POLICY, NOW + MS, KEY)
            refused[type(caught.value).__name__] += 1
    with pytest.raises(SignatureRefused):
        grant(proposal, (resigned(given, rollback_on_failure=True),), rules, POLICY, NOW + MS, KEY)
    assert refused["SignatureRefused"] > 200, refused
    grant(proposal, (resigned(given),), rules, POLICY, NOW + MS, KEY)


def test_invariant_2_a_flipped_byte_of_the_proposal_is_refused_under_a_signed_approval(keys: dict[str, Key]) -> None:
    proposal, rules = proposed(), two(keys)
    given = answer_signed(proposal, ALICE, keys[ALICE], rules)
    raw, chance, refused = proposal.model_dump_json().encode(), random.Random(6), 0
    for place in range(len(raw)):
        try:
            other = Proposal.model_validate_json(flip(raw, place, chance))
        except (ValidationError, UnicodeDecodeError):
            continue
        if other == proposal:
            continue
        with pytest.raises(NotPermitted):
            grant(other, (given,), rules, POLICY, NOW + MS, KEY)
        refused += 1
    assert refused > len(raw) / 3


# --- ssh-keygen and keys of all kinds ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", None), ("rsa", 2048), ("ecdsa", 256), ("ecdsa", 521)])
def test_keys_of_each_accepted_kind_sign_and_verify(tmp_path: Path, kind: str, bits: int | None) -> None:
    key = make_key(tmp_path, "alice", kind, bits=bits)
    proposal, rules = proposed(), rules_with({ALICE: key})
    assert answer_signed(proposal, ALICE, key, rules).method is Method.SSH


def test_a_weak_rsa_key_is_not_accepted(tmp_path: Path) -> None:
    key = make_key(tmp_path, "alice", "rsa", bits=1024)
    with pytest.raises(ValidationError, match="2048 bits"):
        rules_with({ALICE: key})


def test_one_of_several_keys_of_a_person_is_enough_and_it_is_recorded_which(keys: dict[str, Key]) -> None:
    listed = {ALICE: [keys["mallory@example.org"].text, keys[ALICE].text]}
    rules = rules_with(listed)
    assert answer_signed(proposed(), ALICE, keys[ALICE], rules).signer == keys[ALICE].text


def test_a_key_has_its_time(keys: dict[str, Key]) -> None:
    entry = f'valid-after="20261122",valid-before="20261122083000Z" {keys[ALICE].text}'
    rules = rules_with({ALICE: entry})
    proposal = proposed(expires_minutes=240)
    assert answer_signed(proposal, ALICE, keys[ALICE], rules, NOW + timedelta(minutes=29)).method is Method.SSH
    with pytest.raises(SignatureRefused, match="not valid at that time"):
        answer_signed(proposal, ALICE, keys[ALICE], rules, NOW + timedelta(minutes=31))


def test_a_signature_made_for_something_else_is_refused(keys: dict[str, Key]) -> None:
    made = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-f", str(keys[ALICE].private), "-n", "git"],
        input=b"x",
        capture_output=True,
        check=True,
        timeout=60,
    )
    with pytest.raises(SignatureRefused, match="is for 'git', not for 'ops-advisor'"):
        read_signature(made.stdout.decode())


def test_a_key_in_the_agent_signs_by_its_public_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(tmp_path, "alice")
    socket = tmp_path / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        for _ in range(200):
            if subprocess.run(["ssh-add", "-q", str(key.private)], capture_output=True, timeout=60).returncode == 0:
                break
        away = key.private.rename(tmp_path / "away")
        assert away.exists()
        signature = ssh_signatures.sign(b"statement\n", key.public)
        assert ssh_signatures.verify(ALICE, b"statement\n", signature, (key.text,), NOW) == key.text
    finally:
        agent.terminate()
        agent.wait(10)


def broken_key(kind: str, folder: Path) -> Path:
    path = folder / "key"
    match kind:
        case "missing":
            pass
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(random.Random(1).randbytes(3000))
        case "huge":
            path.write_bytes(b"x" * 1_000_000)
        case "cut":
            whole = make_key(folder, "whole").private.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            path.chmod(0o600)
        case "passphrase":
            make_key(folder, "key", passphrase="a secret")
        case "open to all":
            make_key(folder, "key").private.chmod(0o644)
        case "public without private":
            path = make_key(folder, "key").public
            (folder / "key").unlink()
    return path


SIGNS = """
import sys
from pathlib import Path
from advisor.adapters.ssh_signatures import sign
from advisor.errors import AdvisorError
try:
    sign(b"statement", Path(sys.argv[1]))
    print("signed")
except AdvisorError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "there is no such file"),
        ("folder", "there is no such file"),
        ("pipe", "there is no such file"),
        ("empty", "it is no SSH key"),
        ("garbage", "it is no SSH key"),
        ("huge", "too large"),
        ("cut", "it is no SSH key"),
        ("passphrase", "the passphrase was not given"),
        ("open to all", "chmod 600"),
        ("public without private", "no private key for it here"),
    ],
)
def test_a_key_that_cannot_sign_gives_one_clear_line(tmp_path: Path, kind: str, words: str) -> None:
    need_ssh_keygen()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SSH_")}
    done = subprocess.run(
        [sys.executable, "-c", SIGNS, str(broken_key(kind, tmp_path))],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,  # no terminal: a passphrase can be asked of nobody
        stdin=subprocess.DEVNULL,
        env=environment,
        check=False,
    )
    assert done.stdout.startswith("SettingsInvalid --sign-with"), done
    assert words in done.stdout and "nothing was signed" in done.stdout
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_without_ssh_keygen_one_line_says_what_to_install(
    keys: dict[str, Key], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposal, rules = proposed(), two(keys)
    given = answer_signed(proposal, ALICE, keys[ALICE], rules)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsInvalid, match="openssh-client"):
        ssh_signatures.sign(b"x", keys[ALICE].private)
    with pytest.raises(SignatureRefused, match="openssh-client"):
        grant(proposal, (given,), rules, POLICY, NOW + MS, KEY)


def test_no_shell_reads_a_name_or_a_path(keys: dict[str, Key], tmp_path: Path) -> None:
    odd = tmp_path / "$(touch ran); `touch ran` -f"
    odd.mkdir()
    (odd / "key").write_bytes(keys[ALICE].private.read_bytes())
    (odd / "key").chmod(0o600)
    assert ssh_signatures.sign(b"x", odd / "key").startswith("-----BEGIN")
    assert not list(tmp_path.rglob("ran")) and not Path("ran").exists()


def test_the_private_folder_of_a_check_is_gone_afterwards(
    keys: dict[str, Key], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    statement = b"statement"
    ssh_signatures.verify(
        ALICE, statement, ssh_signatures.sign(statement, keys[ALICE].private), (keys[ALICE].text,), NOW
    )
    assert list(tmp_path.iterdir()) == []


# --- signatures and keys as text -----------------------------------------------------------------------------------


def test_line_ends_and_outer_blanks_make_no_other_signature(keys: dict[str, Key]) -> None:
    signature = ssh_signatures.sign(b"x", keys[ALICE].private)
    crlf = "  \r\n" + signature.replace("\n", "\r\n") + "\n\n"
    assert read_signature(crlf).armored == signature


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda b: b.decode("latin-1")))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_signature_or_refused(text: str) -> None:
    wrapped = f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----"
    for each in (text, wrapped):
        with pytest.raises(SignatureRefused):
            read_signature(each)


@given(
    st.text(max_size=200)
    | st.sampled_from(["ssh-ed25519", "ssh-ed25519 AAAA", "a" * 9000, 'x="', 'namespaces="git" k v'])
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_key_or_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid):
        read_signer(text, "keys.x")
    with pytest.raises(SettingsInvalid):
        found = read_allowed_signers(f"{text}\nalice@example.org {text}\n", "signers")
        assert found == {} or "#" in text
        raise SettingsInvalid("only comments")


def test_an_allowed_signers_file_is_read_as_ssh_keygen_reads_it(keys: dict[str, Key]) -> None:
    a, b = keys[ALICE].text, keys[BOB].text
    text = f'# ours\n\n{ALICE},{CAROL} {a} laptop\n{BOB}\tnamespaces="git,ops-advisor",valid-before="20300101" {b}\n'
    found = read_allowed_signers(text, "signers")
    assert found == {ALICE: (a,), CAROL: (a,), BOB: (f'namespaces="git,ops-advisor",valid-before="20300101" {b}',)}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("*@example.org {key}", "is a pattern"),
        ("!alice@example.org {key}", "is a pattern"),
        ("alice@example.org cert-authority {key}", "cert-authority"),
        ('alice@example.org namespaces="git" {key}', "namespaces must name"),
        ('alice@example.org valid-before="tomorrow" {key}', "valid-before"),
        ("alice@example.org", "a public key is wanted"),
        ("alice@example.org ssh-dss AAAA", "not accepted"),
        ("alice@example.org ssh-ed25519 AAAA", "damaged or too weak"),
        ("alice@example.org ssh-rsa {blob}", "damaged or too weak"),
        ("alice@example.org ssh-ed25519 {blob}=", "damaged or too weak"),
    ],
)
def test_a_line_that_cannot_be_trusted_is_refused_by_its_number(keys: dict[str, Key], line: str, words: str) -> None:
    key = keys[ALICE].text
    with pytest.raises(SettingsInvalid, match=f"signers: line 2: .*{words}"):
        read_allowed_signers("# first\n" + line.format(key=key, blob=key.split()[1]), "signers")


# --- keys in the settings ------------------------------------------------------------------------------------------


def settings_of(folder: Path, **approval: Any) -> Any:
    text = json.dumps({"approval": approval, "repositories": {"config": {"url": "./config.git"}}})
    return parse_settings(text, folder)


def test_keys_come_from_the_settings_and_from_a_file_and_the_policy_version_covers_both(
    tmp_path: Path, keys: dict[str, Key]
) -> None:
    signers = tmp_path / "signers"
    signers.write_text(f"{BOB} {keys[BOB].text}\n")
    one = settings_of(tmp_path, keys={ALICE.upper(): keys[ALICE].text + " laptop"}, allowed_signers="signers")
    assert one.approval.keys == {ALICE: (keys[ALICE].text,), BOB: (keys[BOB].text,)}
    before = one.policy_version
    signers.write_text(f"{BOB} {keys['mallory@example.org'].text}\n")
    after = settings_of(tmp_path, keys={ALICE: keys[ALICE].text}, allowed_signers="signers")
    assert after.policy_version != before
    assert str(tmp_path) not in json.dumps(after.model_dump(mode="json")["approval"])


def test_an_allowed_signers_file_inside_a_repository_is_refused(tmp_path: Path, keys: dict[str, Key]) -> None:
    inside = tmp_path / "config.git" / "signers"
    inside.parent.mkdir()
    inside.write_text(f"{ALICE} {keys[ALICE].text}\n")
    (tmp_path / "link").symlink_to(inside)
    for name in ("config.git/signers", "./x/../config.git/signers", "link", str(inside)):
        with pytest.raises(SettingsInvalid, match="lies inside repository config"):
            settings_of(tmp_path, allowed_signers=name)


def test_an_allowed_signers_file_that_cannot_be_trusted_is_refused(tmp_path: Path, keys: dict[str, Key]) -> None:
    path = tmp_path / "signers"
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        settings_of(tmp_path, allowed_signers="signers")
    path.write_text(f"{ALICE} {keys[ALICE].text}\n")
    path.chmod(0o666)
    with pytest.raises(SettingsInvalid, match="everybody on this machine may write"):
        settings_of(tmp_path, allowed_signers="signers")
    path.chmod(0o644)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        settings_of(tmp_path, allowed_signers="signers")


def test_two_people_with_one_key_and_one_person_under_two_names_are_refused(
    tmp_path: Path, keys: dict[str, Key]
) -> None:
    a, b = keys[ALICE].text, keys[BOB].text
    with pytest.raises(SettingsInvalid, match="have the same key"):
        settings_of(tmp_path, keys={ALICE: a, BOB: f'valid-before="2030" {a}'.replace("2030", "20300101")})
    with pytest.raises(SettingsInvalid, match="are one person"):
        settings_of(tmp_path, keys={ALICE: a, "alice+ops@example.org": b})
    with pytest.raises(SettingsInvalid, match="no key"):
        settings_of(tmp_path, keys={ALICE: []})


def test_records_of_the_first_version_still_verify() -> None:
    proposal = proposed()
    record = json.loads(approve(proposal).model_dump_json())
    for name in ("method", "ssh_signature", "signer", "break_glass", "valid_until", "standing"):
        del record[name]
    verify_approval(Approval.model_validate(record), proposal, KEY)
    for name, value in (("method", "ssh"), ("break_glass", True), ("signer", "x"), ("standing", "x")):
        with pytest.raises(ApprovalMismatch):
            verify_approval(Approval.model_validate({**record, name: value}), proposal, KEY)
