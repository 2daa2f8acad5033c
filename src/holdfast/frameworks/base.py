"""The adapter contract: one module per framework, the same names in each.

A framework's module is itself the adapter: ``import holdfast.frameworks.sklearn as adapter``.
Importing it must not import the framework; that happens inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast.codec.audit import Audit
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.codec.tensors import TensorData, TensorView
from holdfast.record import Structure

__all__ = ["Adapter", "LoadOptions", "Opened", "Payload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A packed model.

    Attributes:
        structure: The object graph.
        tensors: Tensors by name in the safetensors file.
        files: Files kept whole, by relative path.
        facts: JSON-like facts worth recording, for example ``{"device": "cuda:1"}``.
    """

    structure: Structure
    tensors: Mapping[str, TensorData]
    files: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A version as read: bytes verified and structure audited, nothing built yet.

    Attributes:
        structure: The object graph.
        audit: What ``codec.audit`` found of it.
        tensors: Tensors by name.
        files: Files kept whole, by relative path.
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
    """What a framework's module offers."""

    ID: str
    TYPES: Sequence[TypeSpec]

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
