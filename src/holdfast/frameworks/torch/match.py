"""Filling a module with stored tensors: all of them, checked first, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from holdfast.errors import PartialLoad, UsageError
from holdfast.frameworks.matching import Matching, some

__all__ = ["Stored", "fill", "flatten", "renamed"]


class Stored(NamedTuple):
    """Stored state by the names of a state_dict.

    Attributes:
        tensors: Parameters and buffers; also values that are no tensors, which never match.
        transient: Names of buffers that a state_dict leaves out.
        extra: What ``get_extra_state`` of a child returned, by the child's path.
    """

    tensors: Mapping[str, Any]
    transient: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = {}


class Slot(NamedTuple):
    """Where a tensor of the target lives."""

    owner: Any
    key: str
    tensor: Any
    required: bool


def renamed(stored: Stored, rename: str | None) -> Stored:
    """Change the prefix of stored names.

    Args:
        stored: The state.
        rename: ``"old->new"``, either side may be empty; None changes nothing.

    Raises:
        UsageError: Not of that form, it fits no name, or two names become one.
    """
    if rename is None:
        return stored
    change = MATCHING.renaming(stored.tensors, rename)
    return Stored(
        {change(name): tensor for name, tensor in stored.tensors.items()},
        frozenset(change(name) for name in stored.transient),
        {change(f"{path}.").rstrip("."): value for path, value in stored.extra.items()},
    )


def flatten(value: Any) -> Stored:
    """Return the state in what was loaded: a `Stored`, or tables of tensors and numpy arrays.

    Names inside nested tables are joined with dots. A value that is no tensor keeps its name and
    will be reported as unexpected.

    Raises:
        UsageError: The value holds no table of names.
    """
    if isinstance(value, Stored):
        return value
    if not isinstance(value, Mapping):
        raise UsageError(
            f"into= needs stored tensors by name, but this version holds a {type(value).__name__}.",
            hint='holdfast.load("REF")',
        )
    tensors: dict[str, Any] = {}
    for name, item in _leaves(value):
        if isinstance(item, Stored):
            tensors |= {f"{name}.{inner}": tensor for inner, tensor in item.tensors.items()}
        else:
            tensors[name] = _as_tensor(item)
    return Stored(tensors)


def _leaves(value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    todo: list[tuple[str, Any]] = [(str(key), item) for key, item in reversed(list(value.items()))]
    while todo:
        name, item = todo.pop()
        if isinstance(item, Mapping):
            todo.extend((f"{name}.{key}", inner) for key, inner in reversed(list(item.items())))
        else:
            yield name, item


def _as_tensor(value: Any) -> Any:
    import numpy as np
    import torch

    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            return value
        return torch.from_numpy(np.require(array, requirements=["C", "W"]).reshape(array.shape))
    return value


def slots_of(module: Any) -> dict[str, Slot]:
    """Return every parameter and buffer slot of a module by its state_dict name."""
    slots: dict[str, Slot] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        transient = owner._non_persistent_buffers_set  # noqa: SLF001 - torch tells it nowhere else
        for key, tensor in [*owner._parameters.items(), *owner._buffers.items()]:  # noqa: SLF001 - same
            if tensor is not None:
                name = f"{path}.{key}" if path else key
                slots[name] = Slot(owner, key, tensor, key not in transient)
    return slots


def _difference(target: Any, stored: Any) -> str | None:
    import torch

    if not isinstance(stored, torch.Tensor):
        return f"stored as {type(stored).__name__}"
    if torch.nn.parameter.is_lazy(target):
        return "the target is lazy; run one batch through it first"
    if stored.shape != target.shape:
        return f"stored {_shape(stored)}, target {_shape(target)}"
    if stored.dtype != target.dtype:
        return f"stored {stored.dtype}, target {target.dtype}"
    return None


def _shape(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


MATCHING: Final = Matching("tensors", "model", _difference)


def fill(module: Any, stored: Stored) -> None:
    """Copy stored tensors into a module, in place; the target keeps its devices and flags.

    Args:
        module: The target.
        stored: Its names are the target's names.

    Raises:
        PartialLoad: The tensors do not match one to one; nothing was changed.
    """
    import torch

    slots = slots_of(module)
    targets = {name: slot.tensor for name, slot in slots.items()}
    optional = [name for name, slot in slots.items() if not slot.required]
    MATCHING.require(targets, stored.tensors, optional)
    children = dict(module.named_modules())
    if unknown := sorted(stored.extra.keys() - children.keys()):
        raise PartialLoad(
            f"Extra state is stored for {some(unknown)}, which the target does not have.",
            hint="print(model)",
        )
    _refuse_torn_ties(slots, stored.tensors)
    with torch.no_grad():
        for name, tensor in stored.tensors.items():
            owner, key, target, _ = slots[name]
            if target.is_meta:
                setattr(owner, key, _like(target, tensor))
            else:
                target.copy_(tensor)
    for path, value in stored.extra.items():
        children[path].set_extra_state(value)


def _like(target: Any, tensor: Any) -> Any:
    import torch

    if isinstance(target, torch.nn.Parameter):
        if isinstance(tensor, torch.nn.Parameter):
            return tensor.requires_grad_(target.requires_grad)
        return torch.nn.Parameter(tensor, requires_grad=target.requires_grad)
    return tensor.detach()


def _refuse_torn_ties(slots: Mapping[str, Slot], tensors: Mapping[str, Any]) -> None:
    """Refuse two different stored tensors for one tied tensor of the target."""
    import torch

    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        known = first.setdefault(id(slots[name].tensor), name)
        one = tensors[known]
        if one is not tensor and not torch.equal(_bits(one), _bits(tensor)):
            raise PartialLoad(
                f"{known!r} and {name!r} are one tensor in the target but two different ones "
                "in the stored version.",
                hint="print(dict(model.named_parameters(remove_duplicate=False)).keys())",
            )


def _bits(tensor: Any) -> Any:
    import torch

    plain = tensor.detach().contiguous()
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8)
