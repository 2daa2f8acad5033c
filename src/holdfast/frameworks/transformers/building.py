"""Making a model's modules without values, and putting stored tensors in their places.

The class is found in transformers' own tables for the configuration's class, never by importing
what a file names. The modules are made on torch's meta device, so nothing is allocated or drawn at
random; the tensors, which are views of the store's files, then become the parameters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from holdfast.errors import Corrupt, HoldfastError, PartialLoad
from holdfast.frameworks.torch.match import Slot, slots_of
from holdfast.plugins import import_extra

__all__ = ["bounded", "class_of", "fits", "made", "place", "put", "skeleton", "with_tensors"]

_MODULES_PER_TENSOR: Final = 20
_SPARE: Final = 2_000


def class_of(config: Any, name: str) -> Any | None:
    """Return the class of that name among transformers' own for a configuration; None without."""
    auto = import_extra("transformers.models.auto.modeling_auto", needed_for="a transformers model")
    factory = import_extra("transformers.models.auto.auto_factory", needed_for="the same")
    for mapping in vars(auto).values():
        if not isinstance(mapping, factory._LazyAutoMapping):  # noqa: SLF001 - the tables' only type
            continue
        try:
            found = mapping.get(type(config), None)
        except (ImportError, AttributeError, ValueError):  # of a package that is not here
            continue
        for kind in found if isinstance(found, list | tuple) else (found,):
            if getattr(kind, "__name__", None) == name:
                return kind
    return None


def skeleton(kind: Any, config: Any, tensors: Mapping[str, Any], *, device: str = "meta") -> Any:
    """Make a model without values.

    Args:
        kind: Its class.
        config: Its configuration.
        tensors: What is stored for it: bounds how much is made.
        device: ``"meta"``, or ``"cpu"`` for classes that compute while they are made.

    Raises:
        Corrupt: The configuration asks for more than the stored tensors are, or is refused.
    """
    try:
        return made(lambda: kind(config), tensors, device=device)
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(
            f"{kind.__name__} cannot be made of its configuration: "
            f"{type(error).__name__}: {error!s:.200}"
        ) from error


def made(make: Callable[[], Any], tensors: Mapping[str, Any], *, device: str = "meta") -> Any:
    """Call a constructor that draws nothing at random, and makes little more than is stored."""
    import torch

    init = import_extra("transformers.initialization", needed_for="a transformers model")
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=()))
        stack.enter_context(bounded(len(tensors), sum(t.numel() for t in tensors.values())))
        stack.enter_context(init.no_init_weights())
        stack.enter_context(torch.device(device))
        return make()


@contextmanager
def bounded(tensors: int, items: int) -> Iterator[None]:
    """Stop a construction in this thread that makes much more than what is stored.

    Args:
        tensors: How many tensors are stored.
        items: How many numbers are in them.
    """
    import torch
    from torch.nn.modules import module as hooks

    left = {
        "modules": _MODULES_PER_TENSOR * tensors + _SPARE,
        "tensors": 4 * tensors + _SPARE,
    }
    largest = 4 * items + (1 << 24)
    here = threading.get_ident()

    def count(what: str) -> Callable[[Any, str, Any], None]:
        def hook(_module: Any, _name: str, item: Any) -> None:
            if threading.get_ident() != here:
                return
            left[what] -= 1
            large = isinstance(item, torch.Tensor) and item.numel() > largest
            if left[what] < 0 or large:
                raise Corrupt("the configuration asks for far more weights than are stored")

        return hook

    handles = [
        hooks.register_module_module_registration_hook(count("modules")),
        hooks.register_module_parameter_registration_hook(count("tensors")),
        hooks.register_module_buffer_registration_hook(count("tensors")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_tensors(kind: Any, config: Any, tensors: Mapping[str, Any]) -> Any:
    """Make a model whose parameters and buffers are the given tensors, without copying them.

    Raises:
        PartialLoad: A tensor is missing, left over or of another shape.
        Corrupt: See ``skeleton``.
    """
    try:
        model = skeleton(kind, config, tensors)
        whole = tensors.keys() == slots_of(model).keys() and not _has_meta_attributes(model)
    except Corrupt:  # it computes while it is made; on a CPU it can
        whole = False
    if not whole:
        model = skeleton(kind, config, tensors, device="cpu")
    place(model, tensors)
    return model


def _has_meta_attributes(model: Any) -> bool:
    import torch

    return any(
        isinstance(value, torch.Tensor) and value.is_meta
        for module in model.modules()
        for value in vars(module).values()
    )


def place(model: Any, tensors: Mapping[str, Any]) -> None:
    """Make tensors the parameters and buffers of a model.

    Raises:
        PartialLoad: They do not match one to one, but for buffers that a state leaves out.
    """
    slots = slots_of(model)
    missing = [name for name, slot in slots.items() if slot.required and name not in tensors]
    unexpected = [name for name in tensors if name not in slots]
    different = [name for name in tensors if name in slots and not fits(slots[name], tensors[name])]
    if missing or unexpected or different:
        parts = [
            f"{words}: {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}."
            for words, names in (
                ("Not stored", missing),
                ("Stored but not in the model", unexpected),
                ("Of another shape or kind", different),
            )
            if names
        ]
        raise PartialLoad(
            f"The tensors are not those that {type(model).__name__} of this transformers release "
            f"has. {' '.join(parts)}",
            hint='holdfast.inspect("REF")',
        )
    for name, tensor in tensors.items():
        put(slots[name], tensor)


def put(slot: Slot, tensor: Any) -> None:
    """Make a tensor the parameter or buffer of a slot."""
    owner, key = slot.owner, slot.key
    table = owner._parameters if key in owner._parameters else owner._buffers  # noqa: SLF001 - setattr would cost a hook each
    table[key] = tensor


def fits(slot: Slot, tensor: Any) -> bool:
    """Say whether a tensor is of the slot's shape and kind."""
    import torch

    is_parameter = slot.key in slot.owner._parameters  # noqa: SLF001 - torch tells it nowhere else
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.shape == slot.tensor.shape
        and isinstance(tensor, torch.nn.Parameter) == is_parameter
    )
