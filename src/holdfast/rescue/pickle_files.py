"""Pickles and joblib files as live objects, without unpickling.

The file is read symbolically (``trust.pickles``), its objects become stand-ins, and what the codec
encodes of those goes the way of every file: audited, judged and built by the closed registry.
"""

from __future__ import annotations

from pathlib import Path

from holdfast.codec.registry import Registry
from holdfast.rescue.building import RECIPES, built
from holdfast.rescue.graph import Graph
from holdfast.rescue.mapped import inflated_file, require_sound
from holdfast.rescue.taken import Taken
from holdfast.trust.pickles import read

__all__ = ["read_pickle"]


def read_pickle(path: Path, registry: Registry) -> Taken:
    """Read a pickle or joblib file, compressed or not, without unpickling it.

    Plain values and arrays come as they are. Objects of classes that the registry keeps are
    encoded, judged and built as if they came from an archive; their library is imported only then.
    What follows the first object is left out, as ``pickle.load`` leaves it out.

    Raises:
        UnsafeContent: Something in it is not known to be data.
        Unsupported: An object in it cannot be read this way; the message has its path.
        Corrupt: It is damaged, contradicts itself, or is a bomb.
        EnvironmentMismatch: A scikit-learn older than 1.2 or newer than the installed one wrote it.
    """
    whole = inflated_file(path)
    reading = read(whole.data)
    require_sound(reading)
    graph = Graph(registry, RECIPES, whole)
    model = built(graph, reading.root, registry, "model", reading.calls)
    return Taken(model=model, notes=tuple(graph.notes))
