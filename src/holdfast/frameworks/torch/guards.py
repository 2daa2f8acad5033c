"""Under which conditions a program holds: those that torch checks, and those that would be lost.

torch writes the conditions beside the graph as Python, which an archive of Holdfast never holds.
Limits of sizes, and sizes that are equal, are in the graph as well and are checked without them;
what follows from equal sizes need not be checked. Nothing of a condition is run.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from holdfast.errors import Unsupported

__all__ = ["refuse_lost"]

_SIZE: Final = r"L\['\w+'\](?:\[(?:\d+|'\w+')\])*\.size\(\)\[\d+\]"
_EQUAL: Final = re.compile(rf"({_SIZE}) == ({_SIZE})")
_LIMIT: Final = re.compile(rf"{_SIZE} (?:==|<=|>=|<|>) \d+|\d+ == {_SIZE}")
_LONGEST: Final = 1000
_SUMS: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_BOUNDS: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.LtE: operator.le,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.Gt: operator.gt,
}


def refuse_lost(graph: Mapping[str, Any]) -> None:
    """Refuse a program that holds only under conditions which its graph does not say.

    Raises:
        Unsupported: For other inputs it would answer wrongly without a word.
    """
    guards = graph.get("guards_code")
    texts = [str(guard) for guard in guards] if isinstance(guards, list) else []
    names = _names(texts)
    for guard in texts:
        if _EQUAL.fullmatch(guard) or _LIMIT.fullmatch(guard) or _follows(guard, names):
            continue
        shown = re.sub(_SIZE, "size", guard)
        raise Unsupported(
            f"its graph holds only for inputs of which {shown:.80}",
            hint="torch.export.export(model, arguments)  # with those sizes fixed",
        )


def _names(guards: Iterable[str]) -> dict[str, str]:
    """Give every size a name; those that a guard says to be equal have one."""
    names: dict[str, str] = {}
    for guard in guards:
        for size in re.findall(_SIZE, guard):
            names.setdefault(size, f"n{len(names)}")
    for guard in guards:
        equal = _EQUAL.fullmatch(guard)
        if equal is not None:
            kept, gone = names[equal[1]], names[equal[2]]
            names = {size: kept if name == gone else name for size, name in names.items()}
    return names


def _follows(guard: str, names: Mapping[str, str]) -> bool:
    """Say whether a condition is true of all sizes, as that ``(rows * 8) % rows == 0``."""
    if len(guard) > _LONGEST:
        return False
    text = re.sub(_SIZE, lambda size: names[size[0]], guard)
    try:
        tree = ast.parse(text, mode="eval").body
        return _is_true(tree)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return False


def _is_true(tree: ast.expr) -> bool:
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1:
        return False
    left, right = _value(tree.left), _value(tree.comparators[0])
    if isinstance(tree.ops[0], ast.Eq):
        return bool((left - right) == 0)
    compare = _BOUNDS.get(type(tree.ops[0]))
    return compare is not None and compare(left, right) == True  # noqa: E712 - sympy may not know


def _value(tree: ast.expr) -> Any:
    """Return what a term is; raises ``ValueError`` of one that is no sum of sizes."""
    import sympy

    if isinstance(tree, ast.Constant) and type(tree.value) is int:
        return sympy.Integer(tree.value)
    if isinstance(tree, ast.Name) and re.fullmatch(r"n\d+", tree.id):
        return sympy.Symbol(tree.id, integer=True, positive=True)
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return -_value(tree.operand)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _SUMS:
        return _SUMS[type(tree.op)](_value(tree.left), _value(tree.right))
    raise ValueError(type(tree).__name__)
