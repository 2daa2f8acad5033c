"""Pytrees taken apart one level at a time, and filled: every leaf accounted for, or nothing.

A leaf's name is the way to it: keys of dictionaries, places in lists, fields of named tuples and
dataclasses, joined with dots. So ``{"params": …}`` and a class with the field ``params`` have the
same names, as a tree has that a checkpoint reader restored as plain dictionaries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import UsageError
from holdfast.frameworks.jax.arrays import imported, placed
from holdfast.frameworks.jax.flax_types import is_variable
from holdfast.frameworks.matching import Matching

__all__ = ["Branch", "Stored", "branch", "fill", "flatten", "joined"]

_KINDS: Final = {bool: "b", int: "iu", float: "f", complex: "c"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A node of a class that is not built: what was stored of it, for filling another with it.

    Attributes:
        kind: Name of the saver's class.
        children: What it held, by name.
        settings: Plain values that were no part of the tree, by name.
    """

    kind: str
    children: Mapping[str, Any]
    settings: Mapping[str, Any]


class Branch(NamedTuple):
    """A node that holds others.

    Attributes:
        children: By the name of the way to each; an empty name adds nothing to the way.
        rebuild: Makes a node of the same class with other children in the same order.
    """

    children: list[tuple[str, Any]]
    rebuild: Callable[[Sequence[Any]], Any]


def branch(node: Any) -> Branch | None:
    """Take one node apart; None for what is not apart."""
    if type(node) in _APART:
        return _APART[type(node)](node)
    if node is None or isinstance(node, np.ndarray | np.generic | str | bytes | int | float):
        return None
    return _seen_by_jax(node)


def _mapping(node: Any) -> Branch:
    keys = list(node)
    children = [(str(key), node[key]) for key in keys]
    return Branch(children, lambda items: type(node)(zip(keys, items, strict=True)))


def _sequence(node: Any) -> Branch:
    return Branch([(str(place), item) for place, item in enumerate(node)], type(node))


_APART: Final[dict[type, Callable[[Any], Branch]]] = {
    dict: _mapping,
    OrderedDict: _mapping,
    list: _sequence,
    tuple: _sequence,
    Stored: lambda node: Branch(list(node.children.items()), lambda _: node),
}


def _seen_by_jax(node: Any) -> Branch | None:
    """Take apart what is registered with jax."""
    tree_util = imported().tree_util
    try:
        found, tree = tree_util.tree_flatten_with_path(node, is_leaf=lambda part: part is not node)
    except (TypeError, ValueError):  # what jax cannot take apart, such as unsortable keys
        return None
    if len(found) == 1 and not found[0][0]:
        return None
    if is_variable(node):
        return Branch([("", child) for _, child in found], tree.unflatten)
    return Branch([(_step(path[-1]), child) for path, child in found], tree.unflatten)


def _step(key: Any) -> str:
    """Return the name in a key of ``jax.tree_util``, whichever of its kinds it is."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def flatten(tree: Any, apart: Callable[[Any], Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return the leaves by name; None is no leaf but an empty tree, as it is for jax.

    Args:
        tree: The tree.
        apart: Returns the leaves below a node that has a way of its own, else None.

    Raises:
        UsageError: Two leaves have one name.
    """
    leaves: dict[str, Any] = {}
    todo: list[tuple[str, Any]] = [("", tree)]
    while todo:
        name, node = todo.pop()
        own = apart(node)
        below = None if own is not None else branch(node)
        if own is not None:
            found: Iterable[tuple[str, Any]] = own.items()
            _add(leaves, [(joined(name, step), leaf) for step, leaf in found])
        elif node is None:
            continue
        elif below is None:
            _add(leaves, [(name, node)])
        else:
            todo += [(joined(name, step), child) for step, child in reversed(below.children)]
    return leaves


def joined(name: str, step: str) -> str:
    """Return the name of a child by its node's name and the way from there."""
    return f"{name}.{step}" if name and step else name or step


def _add(leaves: dict[str, Any], found: Iterable[tuple[str, Any]]) -> None:
    for name, leaf in found:
        if name in leaves:
            raise UsageError(
                f"Two leaves of the tree have the name {name!r:.100}; into= matches by name.",
                hint='holdfast.load("REF")',
            )
        leaves[name] = leaf


def fill(
    target: Mapping[str, Any], stored: Mapping[str, Any], rename: str | None
) -> dict[str, Any]:
    """Return what each leaf of the target becomes; changes nothing.

    Args:
        target: Leaves by name: arrays, or descriptions of arrays (``jax.ShapeDtypeStruct``).
        stored: Leaves by name.
        rename: ``"old->new"``, a change of the prefix of stored names, or None.

    Raises:
        PartialLoad: The leaves do not match one to one.
        UsageError: ``rename`` fits no name.
    """
    named = stored
    if rename is not None:
        change = _MATCHING.renaming(stored, rename)
        named = {change(name): leaf for name, leaf in stored.items()}
    _MATCHING.require(target, named)
    return {name: _like(target[name], leaf) for name, leaf in named.items()}


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _apart(target: Any, stored: Any) -> str | None:
    """Say how a stored leaf does not fit; a plain number and an array without axes may."""
    if _is_array(target) and _is_array(stored):
        if tuple(target.shape) != tuple(stored.shape) or target.dtype != stored.dtype:
            return f"stored {_said(stored)}, target {_said(target)}"
        return None
    for number, array in ((target, stored), (stored, target)):
        if _is_array(array) and type(number) in _KINDS and array.shape == ():
            kind = getattr(array.dtype, "kind", "")
            return None if kind in _KINDS[type(number)] else f"stored {_said(stored)}"
    if type(target) is not type(stored):
        return f"stored {_said(stored)}, target {_said(target)}"
    return None


def _said(leaf: Any) -> str:
    if _is_array(leaf):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return type(leaf).__name__


def _like(target: Any, stored: Any) -> Any:
    """Return a stored leaf as an array of the target's package, on the target's devices."""
    if not (_is_array(target) and _is_array(stored)):
        return stored
    if isinstance(target, np.ndarray | np.generic):
        return stored if isinstance(stored, np.ndarray | np.generic) else np.array(stored)
    jax = imported()
    sharding = getattr(target, "sharding", None)
    if isinstance(target, jax.Array) and not getattr(target, "committed", True):
        sharding = None
    if sharding is None and isinstance(stored, jax.Array):
        return stored
    return placed(stored, sharding)


_MATCHING: Final = Matching("leaves", "tree", _apart)
