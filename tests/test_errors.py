"""Errors: one tree, one line each, and an exit code that says what to do."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor import errors
from advisor.errors import MESSAGE_CHARACTERS_MAX, AdvisorError, one_line

TREE = {
    "SourceError": "AdvisorError",
    "SourceUnavailable": "SourceError",
    "SourceRefused": "SourceError",
    "SourceMalformed": "SourceError",
    "ModelError": "AdvisorError",
    "ModelUnavailable": "ModelError",
    "ModelRefused": "ModelError",
    "ModelAnswerInvalid": "ModelError",
    "PlaybookError": "AdvisorError",
    "PlaybookInvalid": "PlaybookError",
    "PlaybookUnknown": "PlaybookError",
    "SettingsInvalid": "AdvisorError",
    "RecordUnknown": "AdvisorError",
    "NotPermitted": "AdvisorError",
    "ApprovalMissing": "NotPermitted",
    "ApprovalExpired": "NotPermitted",
    "ApprovalMismatch": "NotPermitted",
    "ApprovalResolved": "NotPermitted",
    "ApproverNotAllowed": "NotPermitted",
    "SignatureRefused": "NotPermitted",
    "DeliveryFrozen": "NotPermitted",
    "ChangeError": "AdvisorError",
    "ChangeConflict": "ChangeError",
    "ChangeCollision": "ChangeConflict",
    "ChangeRefused": "ChangeError",
    "ChangeUncertain": "ChangeError",
    "StoreError": "AdvisorError",
    "StoreUnavailable": "StoreError",
    "StoreUncertain": "StoreError",
    "AuditError": "AdvisorError",
    "AuditUnavailable": "AuditError",
    "AuditBroken": "AuditError",
    "IllegalTransition": "AdvisorError",
}
CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, AdvisorError)]


def test_the_tree_is_the_one_that_is_documented() -> None:
    assert {c.__name__: c.__base__.__name__ for c in CLASSES if c is not AdvisorError} == TREE
    for name in TREE:
        assert name in (errors.__doc__ or ""), name


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_each_error_says_whether_to_try_again_and_how_to_leave(kind: type[AdvisorError]) -> None:
    assert kind.__doc__
    assert kind.exit_code in (1, 2, 4, 5)
    assert kind.retriable is kind.__name__.endswith("Unavailable") or kind is errors.AuditUnavailable


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.SourceUnavailable, 1),
        (errors.StoreUnavailable, 1),
        (errors.AuditBroken, 1),
        (errors.SettingsInvalid, 2),
        (errors.PlaybookInvalid, 2),
        (errors.RecordUnknown, 2),
        (errors.ApprovalExpired, 4),
        (errors.ChangeConflict, 4),
        (errors.IllegalTransition, 4),
        (errors.ChangeUncertain, 5),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_exit_codes_are_those_of_the_commands(kind: type[AdvisorError], code: int) -> None:
    assert kind("x").exit_code == code


def test_nothing_that_may_have_changed_the_world_is_retriable() -> None:
    assert not any(c.retriable for c in CLASSES if issubclass(c, errors.ChangeError | errors.NotPermitted))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\r\n and a\ttab", "two lines and a tab"),
        ("a\x1b[31mred\x00", "a [31mred"),
        ("line\u2028separator and \u202eturned", "line separator and turned"),
        ("", ""),
        ("é × →", "é × →"),
    ],
    ids=["breaks", "control", "unicode", "empty", "letters"],
)
def test_foreign_text_becomes_one_printable_line(text: str, line: str) -> None:
    assert one_line(text) == line
    assert str(AdvisorError(text)) == line


@given(st.text(max_size=3000), st.integers(min_value=1, max_value=50))
def test_any_text_becomes_one_bounded_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert len(str(AdvisorError(text))) <= MESSAGE_CHARACTERS_MAX


def test_a_long_message_is_cut_with_a_mark() -> None:
    assert one_line("x" * 10_000).endswith("x…")
    assert len(one_line("x" * 10_000_000)) == MESSAGE_CHARACTERS_MAX
