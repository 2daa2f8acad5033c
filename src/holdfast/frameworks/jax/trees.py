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

from holdfast.errors import PartialLoad, UsageError
from holdfast.frameworks.jax.arrays import imported, placed
from holdfast.frameworks.jax.flax_types import is_variable

__all__ = ["Branch", "Stored", "branch", "fill", "flatten", "joined"]

_SHOWN: Final = 5
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


class Comparison(NamedTuple):
    """How stored leaves and the target's agree, by name."""

    values: dict[str, Any]
    missing: list[str]
    unexpected: list[str]
    different: dict[str, str]

    @property
    def complete(self) -> bool:
        """True when every leaf on both sides is accounted for."""
        return not (self.missing or self.unexpected or self.different)


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
    named = _renamed(stored, rename)
    comparison = _compare(target, named)
    if not comparison.complete:
        raise _refusal(target, named, comparison)
    return comparison.values


def _renamed(stored: Mapping[str, Any], rename: str | None) -> dict[str, Any]:
    if rename is None:
        return dict(stored)
    old, _, new = rename.partition("->")
    if not any(name.startswith(old) for name in stored):
        raise UsageError(
            f"rename={rename!r}: no stored name starts with {old!r}; they are {_some(stored)}.",
            hint='holdfast.load("REF", into=tree)',
        )
    named = _with_prefix(stored, old, new)
    if len(named) < len(stored):
        raise UsageError(
            f"rename={rename!r} gives two stored leaves the same name.",
            hint='holdfast.load("REF", into=tree)',
        )
    return named


def _with_prefix(stored: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {
        new + name.removeprefix(old) if name.startswith(old) else name: leaf
        for name, leaf in stored.items()
    }


def _compare(target: Mapping[str, Any], stored: Mapping[str, Any]) -> Comparison:
    values: dict[str, Any] = {}
    different: dict[str, str] = {}
    for name, leaf in stored.items():
        if name in target:
            reason = _apart(target[name], leaf)
            if reason is None:
                values[name] = _like(target[name], leaf)
            else:
                different[name] = reason
    return Comparison(
        values=values,
        missing=[name for name in target if name not in stored],
        unexpected=[name for name in stored if name not in target],
        different=different,
    )


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


def _refusal(
    target: Mapping[str, Any], stored: Mapping[str, Any], comparison: Comparison
) -> PartialLoad:
    """Say what does not match and, where a change of prefix would cure it, which."""
    head = f"{len(comparison.values)} of {len(target)} leaves matched. Nothing was changed."
    for old, new in _prefix_changes(target, stored):
        if _compare(target, _with_prefix(stored, old, new)).complete:
            said = [f"all stored names start with {old!r}"] if old else []
            said += [f"all the target's names start with {new!r}"] if new else []
            text = " and ".join(said)
            return PartialLoad(
                f"{head} {text[0].upper()}{text[1:]}.",
                hint=f'holdfast.load("REF", into=tree, rename="{old}->{new}")',
            )
    parts = [head]
    if comparison.missing:
        parts.append(f"Not stored: {_some(comparison.missing)}.")
    if comparison.unexpected:
        parts.append(f"Stored but not in the target: {_some(comparison.unexpected)}.")
    if comparison.different:
        lines = [f"{name} ({reason})" for name, reason in comparison.different.items()]
        parts.append(f"Different: {_some(lines)}.")
    return PartialLoad(" ".join(parts), hint='holdfast.inspect("REF")')


def _prefix_changes(target: Iterable[str], stored: Iterable[str]) -> list[tuple[str, str]]:
    mine, theirs = ["", *_prefixes(stored)], ["", *_prefixes(target)]
    return [(old, new) for old in mine for new in theirs if old != new]


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the dotted prefixes that all names share, shortest first."""
    every = list(names)
    if not every:
        return []
    first, last = min(every), max(every)
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return [first[: place + 1] for place in range(same) if first[place] == "."]


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
