"""Every small wrong version of a module: one change to its syntax tree each.

Pure: source in, mutants out. Not mutated: docstrings, annotations, text (what a message says is for people), imports, and
blocks that only a type checker reads.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

SWAPS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
CALLS = {"all": "any", "any": "all", "min": "max", "max": "min"}


@dataclass(frozen=True)
class Mutant:
    """One wrong version of a module.

    Attributes:
        name: Function and change, the same after lines moved; equivalent ones are listed by it.
        function: Dotted name of the function or class that it is in.
        build: Returns the whole module with the change in it; made when needed, since a copy takes milliseconds.
    """

    name: str
    function: str
    line: int
    last_line: int
    build: Callable[[], ast.Module]

    @property
    def tree(self) -> ast.Module:
        """Return the whole module with the change in it."""
        return self.build()


@dataclass(frozen=True)
class _Site:
    """A place and what becomes of it: ``change`` edits the copy of the node, or returns another one for it."""

    path: tuple[tuple[str, int | None], ...]
    node: ast.AST
    function: str
    words: str
    change: Callable[[ast.AST], ast.AST]


def mutants_of(source: str, only: frozenset[str] = frozenset()) -> list[Mutant]:
    """Return every mutant of a module.

    Args:
        source: Its text.
        only: Names of functions or classes; empty for all.
    """
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    found = []
    for site in _sites(tree, (), ""):
        if only and not only & set(site.function.split(".")):
            continue
        name = f"{site.function or 'module'}: {site.words}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        line = getattr(site.node.target if isinstance(site.node, ast.comprehension) else site.node, "lineno", 1)
        last_line = getattr(site.node, "end_lineno", line)
        found.append(Mutant(name, site.function, line, last_line, partial(_built, tree, site)))
    return found


def _built(tree: ast.Module, site: _Site) -> ast.Module:
    mutated = copy.deepcopy(tree)
    _replace(mutated, site)
    return ast.fix_missing_locations(mutated)


def _sites(node: ast.AST, path: tuple[tuple[str, int | None], ...], function: str) -> Iterator[_Site]:
    for words, change in _changes(node):
        yield _Site(path, node, function, words, change)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") and not isinstance(node, ast.ClassDef):
            continue
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if not isinstance(child, ast.AST) or _is_skipped(child):
                continue
            inner = function
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{function}.{child.name}".strip(".")
            yield from _sites(child, (*path, (name, index)), inner)


def _is_skipped(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring, or the dots of a protocol
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], ast.AST]]]:
    if isinstance(node, ast.Compare):
        for number, operator in enumerate(node.ops):
            for other in SWAPS[type(operator)]:
                yield f"{_shown(node)} -> {other.__name__}", _swap_compare(number, other)
    elif isinstance(node, ast.BoolOp):
        other_bool = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"{_shown(node)} -> {other_bool.__name__}", _set("op", other_bool())
        for number in range(len(node.values)):
            yield f"{_shown(node)} without part {number + 1}", _without(number)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"{_shown(node)} -> without not", lambda n: n.operand  # type: ignore[attr-defined]
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _is_text(node):
        yield f"{_shown(node)} -> {OPERATORS[type(node.op)].__name__}", _set("op", OPERATORS[type(node.op)]())
    elif isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield f"if {_shown(node.test)} -> not", _negate
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield f"for … if {_shown(node.ifs[0])} -> without", _set("ifs", [])
    elif isinstance(node, ast.Raise):
        yield f"{_shown(node)} -> pass", lambda n: ast.Pass()
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Yield | ast.YieldFrom):
        yield f"{_shown(node)} -> pass", lambda n: ast.Pass()
    elif isinstance(node, ast.AugAssign):
        yield f"{_shown(node)} -> pass", lambda n: ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield f"{_shown(node)} -> None", _set("value", ast.Constant(None))
    elif isinstance(node, ast.Break):
        yield "break -> pass", lambda n: ast.Pass()
    elif isinstance(node, ast.Continue):
        yield "continue -> pass", lambda n: ast.Pass()
    elif isinstance(node, ast.Dict) and len(node.keys) > 1:
        for number, key in enumerate(node.keys):
            yield f"{{… {_shown(key or node.values[number])} …}} -> without", _without_key(number)
    elif isinstance(node, ast.Set) and len(node.elts) > 1:
        for number, element in enumerate(node.elts):
            yield f"{{… {_shown(element)} …}} -> without", _without_element(number)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield f"{node.value} -> {not node.value}", _set("value", not node.value)
        elif isinstance(node.value, int):
            yield f"{node.value} -> {node.value + 1}", _set("value", node.value + 1)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
        yield f"{_shown(node)} -> {CALLS[node.func.id]}", _set("func", ast.Name(CALLS[node.func.id], ast.Load()))


def _swap_compare(number: int, other: type[ast.cmpop]) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        node.ops[number] = other()  # type: ignore[attr-defined]
        return node

    return change


def _without(number: int) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        values: list[ast.expr] = node.values  # type: ignore[attr-defined]
        del values[number]
        return values[0] if len(values) == 1 else node

    return change


def _without_key(number: int) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        del node.keys[number], node.values[number]  # type: ignore[attr-defined]
        return node

    return change


def _without_element(number: int) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        del node.elts[number]  # type: ignore[attr-defined]
        return node

    return change


def _set(field: str, value: object) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        setattr(node, field, value)
        return node

    return change


def _negate(node: ast.AST) -> ast.AST:
    node.test = ast.UnaryOp(ast.Not(), node.test)  # type: ignore[attr-defined]
    return node


def _is_text(node: ast.BinOp) -> bool:
    """Return whether a sum is of texts, types or tuples, where a difference is no program but nonsense."""
    sides = (node.left, node.right)
    return any(
        isinstance(side, ast.JoinedStr | ast.Tuple | ast.List)
        or (isinstance(side, ast.Constant) and not isinstance(side.value, int | float))
        for side in sides
    ) or (isinstance(node.op, ast.BitOr) and all(ast.unparse(side)[:1].isupper() for side in sides))


def _replace(tree: ast.Module, site: _Site) -> None:
    holder: ast.AST = tree
    for name, index in site.path[:-1]:
        value = getattr(holder, name)
        holder = value if index is None else value[index]
    name, index = site.path[-1]
    value = getattr(holder, name)
    if index is None:
        setattr(holder, name, site.change(value))
    else:
        value[index] = site.change(value[index])


def _shown(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:100]
