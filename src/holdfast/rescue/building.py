"""Building what a file describes: stand-ins encoded, audited and judged, and only then built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from holdfast import codec, frameworks
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import ITEMSIZE, TensorData, TensorView
from holdfast.errors import Corrupt, HoldfastError, Unsupported
from holdfast.rescue import booster_recipes, recipes, sklearn_recipes, sklearn_versions
from holdfast.rescue.graph import Graph, Recipe
from holdfast.trust.pickles import Call, Global

__all__ = ["RECIPES", "built"]

RECIPES: Final[dict[str, Recipe]] = {
    **recipes.RECIPES,
    **sklearn_recipes.RECIPES,
    **booster_recipes.RECIPES,
}


def built(
    graph: Graph, root: Any, registry: Registry, label: str, calls: Iterable[Call] = ()
) -> Any:
    """Build what a graph describes; libraries of its objects are imported only at the end.

    Args:
        graph: Makes the values.
        root: What to build.
        registry: The closed registry.
        label: How the root is called in messages.
        calls: Every call that the file makes: each must be a part of the object.

    Raises:
        Unsupported: Something is not known as data; the message begins with where it is.
        Corrupt: Something contradicts itself.
        EnvironmentMismatch: An estimator is of another scikit-learn.
    """
    try:
        made = graph.run(root, label)
        _require_taken(graph, calls)
        if not graph.cast.used:
            return made
        encoded = codec.encode(made, graph.cast.registry, label=label)
        tensors = {key: _view(data) for key, data in encoded.tensors.items()}
    except HoldfastError:
        raise
    except MemoryError:
        raise Corrupt(f"{label} claims to be larger than memory") from None
    except Exception as error:  # encoders are made for live objects, and these are none yet
        said = f"{type(error).__name__}: {error!s:.200}"
        raise Corrupt(f"{label} contradicts itself: {said}") from error
    files = {key: memoryview(data) for key, data in encoded.files.items()}
    audit = codec.audit(encoded.structure, tensors, registry, files)
    written = sklearn_versions.one_of(graph.versions)
    reading = frameworks.registry(written) if written else registry
    return codec.decode(encoded.structure, tensors, reading, audit, files)


def _require_taken(graph: Graph, calls: Iterable[Call]) -> None:
    for call in graph.untaken(calls):
        what = call.function.key if type(call.function) is Global else "something that it computes"
        what = what.replace(":", ".")[:100]
        raise Unsupported(f"it would call {what} for no part of the object (byte {call.position}).")


def _view(data: TensorData) -> TensorView:
    """Return a tensor's bytes where they lie, unless that is nowhere a tensor may lie."""
    content = data.load()
    aligned = not len(content) or not (
        np.frombuffer(content, np.uint8).ctypes.data % ITEMSIZE[data.dtype]
    )
    if content.readonly or not aligned:
        content = np.frombuffer(content, np.uint8).copy().data
    return TensorView(data.dtype, data.shape, content)
