"""The adapter contract: one module per framework, the same names in each.

A framework's module is itself the adapter: ``import holdfast.frameworks.sklearn as adapter``.
Importing it must not import the framework; that happens inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from holdfast.codec.audit import Audit
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.codec.tensors import TensorData, TensorView
from holdfast.record import Structure

__all__ = ["OPTIONAL", "REQUIRED", "Adapter", "LoadOptions", "Opened", "Payload"]

# What a module of another distribution must have; the rest is as for plain Python values.
REQUIRED: Final = ("ID", "TYPES", "owns", "requires")
# What it may have beside.
OPTIONAL: Final = (
    "READS",
    "WRITES",
    "pack",
    "unpack",
    "difference",
    "methods",
    "predict",
    "synthetic",
    "steady",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A packed model.

    Attributes:
        structure: The object graph.
        tensors: Tensors by name in the safetensors file.
        files: Files kept whole, by relative path; a view may be of a mapped file.
        facts: JSON-like facts worth recording, for example ``{"device": "cuda:1"}``.
    """

    structure: Structure
    tensors: Mapping[str, TensorData]
    files: Mapping[str, bytes | memoryview] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A version as read: bytes verified and structure audited, nothing built yet.

    Attributes:
        structure: The object graph.
        audit: What ``codec.audit`` found of it.
        tensors: Tensors by name.
        files: Files by relative path: the adapter's, and those that the saver kept with the model.
        facts: The record's environment, with what ``Payload.facts`` added.
    """

    structure: Structure
    audit: Audit
    tensors: Mapping[str, TensorView]
    files: Mapping[str, memoryview]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What the caller asked of a load.

    Attributes:
        into: An instance that receives the state, or None.
        device: ``"auto"`` or a device name of the framework.
        rename: ``"old->new"`` prefix change applied to stored tensor names, or None.
    """

    into: Any = None
    device: str = "auto"
    rename: str | None = None


class Adapter(Protocol):
    """What a framework's module offers.

    Attributes:
        ID: Name of the adapter in content documents.
        TYPES: The types it adds to the closed registry, for its own models and for those of
            other frameworks that hold one.
        READS: Kinds of foreign files that it reads, as ``trust.scan`` names them, to what makes a
            live model of such a file or folder. The reader judges the bytes before a native
            parser sees them and raises ``Corrupt`` or ``UnsafeContent``.
        WRITES: Formats that it exports to, by name, to what writes a model to a path that does
            not exist; raises ``Unsupported`` for a model that the format cannot hold.
    """

    ID: str
    TYPES: Sequence[TypeSpec]
    READS: Mapping[str, Callable[[Path], Any]]
    WRITES: Mapping[str, Callable[[Any, Path], None]]

    def owns(self, model: object) -> bool:
        """Say whether this adapter keeps ``model``; must not import the framework."""

    def pack(self, model: Any, registry: Registry) -> Payload:
        """Encode a model without changing it; raises ``Unsupported`` with the attribute's path."""

    def unpack(self, opened: Opened, registry: Registry, options: LoadOptions) -> Any:
        """Build the model; raises ``MissingExtra``, ``Corrupt`` or ``PartialLoad``."""

    def difference(self, model: Any, built: Any, registry: Registry) -> str | None:
        """Say where a model read back from the store first differs from the live one, or None."""

    def requires(self, model: Any) -> tuple[str, ...]:
        """Return import names of the packages that loading needs, most important first."""

    def methods(self, model: Any) -> tuple[str, ...]:
        """Return the output methods worth replaying, best first; empty when there are none."""

    def predict(self, model: Any, method: str, inputs: Any) -> Any:
        """Call one output method as a user would for inference: eval mode, no gradients."""

    def synthetic(self, model: Any, rows: int, seed: int) -> Any | None:
        """Make deterministic inputs when the input width is known, else None."""

    def steady(self, model: Any) -> AbstractContextManager[None]:
        """Fix seeds and restore random and mutable state of the framework and model on exit."""
