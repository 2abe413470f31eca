"""Which paths belong to a service: one matcher for what is read and for what may be written.

Pure. Paths come from repositories and are hostile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class PathScope:
    """Which paths belong to a service: `*` and `?` inside a folder name, `**` for any number of folders.

    A pattern whose last part has no wildcard also names everything below it, as a folder. Matching takes time
    proportional to pattern times path, whatever either contains: paths come from the repository and are
    hostile.
    """

    def __init__(self, globs: Sequence[str]) -> None:
        """Split the patterns once."""
        self._patterns: list[tuple[str, ...]] = []
        for glob in globs:
            parts = [part for part in glob.strip().split("/") if part not in ("", ".")]
            if not parts or glob.endswith("/") or not _has_wildcard(parts[-1]):
                parts.append("**")
            self._patterns.append(tuple(parts))
        self._answers: dict[str, bool] = {}

    def __contains__(self, path: str) -> bool:
        """Return whether any pattern matches a path of the tree."""
        answer = self._answers.get(path)
        if answer is None:
            parts = path.split("/")
            answer = any(_match_parts(pattern, parts) for pattern in self._patterns)
            if len(self._answers) < 100_000:
                self._answers[path] = answer
        return answer

    @property
    def folders(self) -> tuple[str, ...]:
        """Return the literal beginnings of the patterns; empty if one of them may match anywhere."""
        beginnings = []
        for pattern in self._patterns:
            literal = []
            for part in pattern:
                if _has_wildcard(part):
                    break
                literal.append(part)
            if not literal:
                return ()
            beginnings.append("/".join(literal))
        return tuple(sorted(set(beginnings)))


def _has_wildcard(part: str) -> bool:
    return "*" in part or "?" in part


def _match_parts(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    return _match(pattern, parts, lambda part: part == "**", lambda part, name: _match_name(part, name))


def _match_name(pattern: str, name: str) -> bool:
    if not _has_wildcard(pattern):
        return pattern == name
    return _match(pattern, name, lambda sign: sign == "*", lambda sign, letter: sign in ("?", letter))


def _match(
    pattern: Sequence[str],
    items: Sequence[str],
    is_star: Callable[[str], bool],
    fits: Callable[[str, str], bool],
) -> bool:
    # Only the last star ever needs to give way, so there is no exponential backtracking.
    at = item = 0
    star = resume = -1
    while item < len(items):
        if at < len(pattern) and is_star(pattern[at]):
            star, resume = at, item
            at += 1
        elif at < len(pattern) and fits(pattern[at], items[item]):
            at += 1
            item += 1
        elif star >= 0:
            resume += 1
            at, item = star + 1, resume
        else:
            return False
    return all(is_star(part) for part in pattern[at:])
