"""Which factors of a formula may be kept: a closed grammar, judged at save and again at load.

patsy evaluates the text of a factor as Python each time a model predicts, so a text from a file
is a program. What may stand in it: names of columns, numbers, texts, arithmetic, comparison, and
calls to the functions listed here. Source: https://patsy.readthedocs.io/en/latest/formulas.html
"""

from __future__ import annotations

import ast
from typing import Final

from holdfast.errors import Unsupported

__all__ = ["NUMPY", "PATSY", "columns_of", "judge"]

# Functions and constants of numpy, as np.log, numpy.log, or log where the caller imported it so.
_FUNCTIONS: Final = """
abs absolute arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil clip cos cosh exp exp2 expm1
fabs floor fmax fmin hypot isfinite isnan log log10 log1p log2 logaddexp logical_and logical_not
logical_or maximum minimum mod nan_to_num negative power rint round sign sin sinh sqrt square tan
tanh trunc where
"""
NUMPY: Final = frozenset(_FUNCTIONS.split())
CONSTANTS: Final = frozenset({"e", "nan", "inf", "pi"})
# What patsy offers to every formula.
PATSY: Final = frozenset(
    {
        "C", "Diff", "Helmert", "I", "Poly", "Q", "Sum", "Treatment", "bs", "cc", "center", "cr",
        "scale", "standardize", "te",
    }
)  # fmt: skip
_MODULES: Final = ("np", "numpy")
_CONTRASTS: Final = frozenset({"Diff", "Helmert", "Poly", "Sum", "Treatment"})
_LONGEST: Final = 2_000
_DEEPEST: Final = 24
_POWERS: Final = 2
_EXPONENT: Final = 100
_LARGEST: Final = 2**53
_OPERATORS: Final = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr,
    ast.UAdd, ast.USub, ast.Invert, ast.Not,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip


def judge(code: str) -> None:
    """Accept the text of a factor, or say what in it cannot be kept.

    Raises:
        Unsupported: The text holds something beside the grammar.
    """
    if len(code) > _LONGEST:
        raise _refused(code, "is longer than any that is kept")
    try:
        tree = ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(code, "is no Python expression") from error
    _Judge(code).expression(tree.body, 0, 0)


def columns_of(code: str) -> frozenset[str]:
    """Return the names that a judged factor takes from the data."""
    names: set[str] = set()
    called: set[ast.AST] = set()
    for node in ast.walk(ast.parse(code, mode="eval")):
        if isinstance(node, ast.Call):
            called.add(node.func)
            if isinstance(node.func, ast.Name) and node.func.id == "Q":
                names.update(
                    str(item.value) for item in node.args if isinstance(item, ast.Constant)
                )
        elif isinstance(node, ast.Attribute):
            called.add(node.value)
        elif isinstance(node, ast.Name) and node not in called:
            names.add(node.id)
    return frozenset(names - _CONTRASTS)


class _Judge:
    """Walks an expression; what it does not name is refused."""

    def __init__(self, code: str) -> None:
        self.code = code

    def expression(  # noqa: C901 - one case for each kind of node
        self, node: ast.expr, depth: int, powers: int
    ) -> None:
        """Judge one expression, ``depth`` below the top and below so many powers."""
        if depth > _DEEPEST:
            raise self.refused("is nested too deeply")
        match node:
            case ast.Name():
                self.name(node.id)
            case ast.Constant():
                self.number(node)
            case ast.UnaryOp(op=operator, operand=operand) if isinstance(operator, _OPERATORS):
                self.expression(operand, depth + 1, powers)
            case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, _OPERATORS):
                if isinstance(operator, ast.Pow):
                    powers = self.power(left, right, powers)
                self.expression(left, depth + 1, powers)
                self.expression(right, depth + 1, powers)
            case ast.Compare(left=left, ops=operators, comparators=others) if all(
                isinstance(operator, _OPERATORS) for operator in operators
            ):
                for part in (left, *others):
                    self.argument(part, depth + 1, powers)
            case ast.Attribute():
                self.attribute(node, CONSTANTS)
            case ast.Call():
                self.call(node, depth, powers)
            case _:
                raise self.refused(f"has a {type(node).__name__}")

    def call(self, node: ast.Call, depth: int, powers: int) -> None:
        match node.func:
            case ast.Name(id=name) if name in PATSY or name in NUMPY:
                called = name
            case ast.Attribute():
                called = self.attribute(node.func, NUMPY)
            case _:
                raise self.refused(f"calls {ast.unparse(node.func)!s:.60}")
        if called == "power":
            if len(node.args) != 2:
                raise self.refused("calls power in another way than power(x, number)")
            powers = self.power(node.args[0], node.args[1], powers)
        if called == "Q" and (
            node.keywords or [type(getattr(item, "value", None)) for item in node.args] != [str]
        ):
            raise self.refused("calls Q with something else than the name of a column")
        for item in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.argument(item, depth + 1, powers)
        if any(keyword.arg is None for keyword in node.keywords):
            raise self.refused("unpacks a mapping")

    def argument(self, node: ast.expr, depth: int, powers: int) -> None:
        """Judge an argument: an expression, a text, None, or a list of such."""
        if isinstance(node, ast.List | ast.Tuple):
            if depth > _DEEPEST:
                raise self.refused("is nested too deeply")
            for item in node.elts:
                self.argument(item, depth + 1, powers)
        elif not (isinstance(node, ast.Constant) and isinstance(node.value, str | None | bool)):
            self.expression(node, depth, powers)

    def attribute(self, node: ast.Attribute, allowed: frozenset[str]) -> str:
        if not isinstance(node.value, ast.Name) or node.value.id not in _MODULES:
            raise self.refused(f"takes the attribute {node.attr!s:.60} of something")
        if node.attr not in allowed:
            raise self.refused(f"uses {ast.unparse(node)!s:.60}")
        return node.attr

    def power(self, base: ast.expr, exponent: ast.expr, powers: int) -> int:
        """Bound powers: those of whole numbers can take any time and memory."""
        if powers >= _POWERS:
            raise self.refused("has powers of powers")
        if not any(isinstance(part, ast.Name) for part in ast.walk(base)):
            raise self.refused("has a power of a number")
        try:
            value = ast.literal_eval(exponent)
        except (ValueError, RecursionError, MemoryError):
            value = None
        if type(value) not in (int, float) or not abs(value) <= _EXPONENT:
            raise self.refused(
                f"has a power that is no number between -{_EXPONENT} and {_EXPONENT}"
            )
        return powers + 1

    def name(self, name: str) -> None:
        if name.startswith("_") or name in _MODULES:
            raise self.refused(f"uses the name {name!s:.60}")

    def number(self, node: ast.Constant) -> None:
        value = node.value
        if not isinstance(value, int | float) or abs(value) > _LARGEST:
            raise self.refused(f"has the constant {value!r:.60}")

    def refused(self, what: str) -> Unsupported:
        return _refused(self.code, what)


def _refused(code: str, what: str) -> Unsupported:
    return Unsupported(
        f"the formula's factor {code!r:.80} {what}; the text of a factor runs at each prediction, "
        "so only columns, numbers, arithmetic and known functions are kept.",
        hint="df['x2'] = your_function(df['x'])  # before the fit, and in the formula: y ~ x2",
    )
