"""Finds recorded cases: every ``*.bundle.zip`` with a ``truth.yaml`` beside it, in the order of their names.

Reads the truths and refuses a wrong one before anything is run; the bundles are opened by the workers only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from advisor.errors import SettingsInvalid, one_line
from advisor.evaluation.truth import TRUTH_BYTES_MAX, Split, Truth, parse_truth

TRUTH_FILE = "truth.yaml"
BUNDLE_ENDING = ".bundle.zip"
CASES_MAX = 20_000  # two hours of replays on one core; more is a wrong folder


@dataclass(frozen=True)
class Case:
    """A recorded incident and its truth.

    Attributes:
        name: Its place below the given folder, such as ``jvm_heap/session_timeout``.
        class_name: The class it is counted under.
    """

    name: str
    class_name: str
    bundle: Path
    truth: Truth


def find_cases(folders: Sequence[Path], split: Split | None = None) -> tuple[Case, ...]:
    """Return the cases below some folders, sorted by name.

    Args:
        folders: Searched with all that is below them; a bundle itself may be named too.
        split: Only those of one split.

    Raises:
        SettingsInvalid: A folder that is not there, no case at all, or a truth that breaks its schema.
    """
    found: dict[Path, Case] = {}
    for folder in folders:
        for bundle in _bundles(folder):
            truth_file = bundle.parent / TRUTH_FILE
            if truth_file.exists() and bundle.resolve() not in found:
                truth = parse_truth(_read(truth_file), str(truth_file))
                found[bundle.resolve()] = Case(
                    _name(bundle, folder), truth.class_ or _playbook(bundle.resolve()), bundle, truth
                )
            if len(found) > CASES_MAX:
                raise SettingsInvalid(f"{folder}: more than {CASES_MAX} cases; name a smaller folder")
    chosen = [case for case in found.values() if split is None or case.truth.split is split]
    if not chosen:
        where = ", ".join(str(folder) for folder in folders)
        what = f"no case of split {split.value}" if split is not None and found else "no case"
        raise SettingsInvalid(f"{where}: {what} (a case is a *{BUNDLE_ENDING} with a {TRUTH_FILE} beside it)")
    return tuple(sorted(_told_apart(chosen), key=lambda case: (case.name, str(case.bundle))))


def _bundles(folder: Path) -> Iterable[Path]:
    if folder.name.endswith(BUNDLE_ENDING) and folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise SettingsInvalid(f"{folder}: no such folder")
    return sorted(
        Path(where) / name
        for where, _, names in os.walk(folder)
        for name in names
        if name.endswith(BUNDLE_ENDING) and (Path(where) / name).is_file()
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(TRUTH_BYTES_MAX + 1)
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: cannot be read: {one_line(str(error), 160)}") from error


def _name(bundle: Path, folder: Path) -> str:
    """Return what a person calls the case: its folders without the word ``cases``, and the file where that says more."""
    base = folder if folder.is_dir() else folder.parent
    parts = [part for part in bundle.parent.relative_to(base).parts if part != "cases"] or [
        bundle.resolve().parent.name
    ]
    stem = bundle.name.removesuffix(BUNDLE_ENDING)
    return "/".join(parts if stem == parts[-1] else [*parts, stem])


def _playbook(bundle: Path) -> str:
    """Return the folder that holds ``cases``; elsewhere the folder above that of the case."""
    for parent in bundle.parents:
        if parent.name == "cases" and parent.parent.name:
            return parent.parent.name
    return bundle.parent.parent.name or bundle.parent.name


def _told_apart(cases: list[Case]) -> list[Case]:
    """Return the cases with names of their own: equal ones, from two folders, are called by their paths."""
    times = Counter(case.name for case in cases)
    return [
        replace(case, name=str(case.bundle).removesuffix(BUNDLE_ENDING)) if times[case.name] > 1 else case
        for case in cases
    ]
