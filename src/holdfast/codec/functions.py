"""Functions as values: by name from an enumerated table, never as code.

A function matches only by identity with what the table's module offers, so a user's function of
the same name and module is no match, and a file can ask for nothing that the table lacks.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from holdfast.codec.function_table import FUNCTIONS
from holdfast.codec.registry import OWN_CLASS, TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.plugins import import_extra

__all__ = ["TYPES", "function_named", "name_of"]

_MISSING: Final = object()


def name_of(function: object) -> str | None:
    """Return a function's name in the table, or None; imports nothing."""
    said = str(getattr(function, "__name__", ""))
    likely = [name for name in FUNCTIONS if name.rpartition(".")[2] == said]
    for name in (*likely, *FUNCTIONS):
        module, attribute = FUNCTIONS[name]
        if _found(sys.modules.get(module), attribute) is function:
            return name
    return None


def _found(holder: object, attribute: str) -> object:
    """Follow an attribute's path without waking modules that load themselves on demand."""
    for step in attribute.split("."):
        holder = vars(holder).get(step, _MISSING) if hasattr(holder, "__dict__") else _MISSING
    return holder


def function_named(name: str) -> Any:
    """Return the function that a name of the table stands for.

    Raises:
        EnvironmentMismatch: This release, or the package installed here, has no such function.
        MissingExtra: Its package is not installed.
    """
    if name not in FUNCTIONS:
        raise EnvironmentMismatch(
            f"The file holds the function {name!r:.100}, which this release does not know.",
            hint="python -m pip install --upgrade holdfast-ml",
        )
    module, attribute = FUNCTIONS[name]
    function = _found(import_extra(module, needed_for=f"the function {name}"), attribute)
    if function is _MISSING:
        package = module.partition(".")[0]
        raise EnvironmentMismatch(
            f"The file holds the function {name}, which the {package} installed here lacks.",
            hint=f"python -m pip install --upgrade {package.replace('sklearn', 'scikit-learn')}",
        )
    return function


def _encode(function: Any) -> dict[str, Any]:
    return {"name": name_of(function)}


def _check(fields: Mapping[str, Any]) -> None:
    if fields["name"].kind != "str":
        raise Corrupt("the name of a function is not a text")


def _encode_partial(partial: Any) -> dict[str, Any]:
    if name_of(partial.func) is None:
        raise Unsupported(
            f"a partial of {getattr(partial.func, '__qualname__', partial.func)!s:.100} would keep "
            "code; code is never kept in a file.",
            hint=OWN_CLASS,
        )
    if vars(partial):
        raise Unsupported(
            f"a functools.partial has the attribute {min(vars(partial))!r} of its own.",
            hint="functools.partial(p.func, *p.args, **p.keywords)",
        )
    return {"func": partial.func, "args": partial.args, "keywords": dict(partial.keywords)}


def _check_partial(fields: Mapping[str, Any]) -> None:
    kinds = (fields["func"].type_id, fields["args"].kind, fields["keywords"].is_dict)
    if kinds != ("function", "tuple", True):
        raise Corrupt("a functools.partial is not a known function with its arguments")
    if any(key.kind != "str" for key in fields["keywords"].items[::2]):
        raise Corrupt("a keyword of a functools.partial is not a text")


def _build_partial(fields: Mapping[str, Any]) -> Any:
    return functools.partial(fields["func"], *fields["args"], **fields["keywords"])


def _names(classes: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name.rpartition('.')[0]}:{name.rpartition('.')[2]}" for name in classes)


# What kind of object numpy.mean or scipy's functions are differs between releases.
_KINDS: Final = (
    "builtins.builtin_function_or_method",
    "builtins.function",
    "builtins.method_descriptor",
    "numpy.ufunc",
    "numpy._ArrayFunctionDispatcher",
    "functools._lru_cache_wrapper",
)
_PARTIAL: Final = frozenset({"func", "args", "keywords"})

TYPES: Final = (
    TypeSpec(
        id="function",
        locate=lambda: type(len),
        classes=_names(_KINDS),
        accepts=lambda function: name_of(function) is not None,
        encode=_encode,
        check=_check,
        build=lambda fields: function_named(fields["name"]),
        fields=frozenset({"name"}),
        required=frozenset({"name"}),
    ),
    TypeSpec(
        id="functools.partial",
        locate=lambda: functools.partial,
        classes=("functools:partial",),
        encode=_encode_partial,
        check=_check_partial,
        build=_build_partial,
        fields=_PARTIAL,
        required=_PARTIAL,
    ),
)
