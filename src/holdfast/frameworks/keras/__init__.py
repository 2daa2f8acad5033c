"""Keras 3: the architecture as Keras' own JSON, every variable a tensor under a readable name.

``config.json`` in a version is what ``keras.models.model_from_json`` reads, and the tensors are
named by layers and variables; neither knows a backend, so what was saved under one loads under
another. Lambda layers and other code are refused when a model is saved and when one is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from packaging.version import InvalidVersion, Version

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.keras import archive, kept, run, state
from holdfast.frameworks.keras.imported import the_keras

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "difference",
    "methods",
    "owns",
    "pack",
    "predict",
    "register",
    "requires",
    "steady",
    "synthetic",
    "unpack",
]

ID: Final = "keras"
TYPES: Final[tuple[TypeSpec, ...]] = (kept.SPEC,)
READS: Final[Mapping[str, Callable[[Path], Any]]] = {"keras": archive.read_archive}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {
    "keras": archive.write_archive,
    "h5": archive.write_weights,
}


def owns(model: object) -> bool:
    """Say whether ``model`` is a layer or model of Keras 3, or plain containers with one inside."""
    return any(True for _ in _layers(model))


def _layers(model: object) -> Iterator[Any]:
    """Yield the layers and models in plain containers; those inside others are parts of them."""
    keras = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "layers"):
        return
    todo, seen = [model], set()
    while todo:
        item = todo.pop()
        if isinstance(item, keras.layers.Layer):
            yield item
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            todo.extend(item.values() if isinstance(item, dict) else item)


def _extended(model: Any, registry: Registry) -> Registry:
    """Return a registry that also encodes classes of the program's own."""
    own = {f"{type(each).__module__}:{type(each).__qualname__}": kept.SPEC
           for each in _layers(model)}  # fmt: skip
    return replace(registry, by_class={**registry.by_class, **own})


def pack(model: Any, registry: Registry) -> Payload:
    """Encode a model, a layer, or containers of them, without changing it.

    Raises:
        Unsupported: It holds code, or a class that does not say how it is made.
    """
    encoded = codec.encode(model, _extended(model, registry), label="model")
    keras = the_keras()
    return Payload(
        structure=encoded.structure,
        tensors=encoded.tensors,
        files=encoded.files,
        facts={"keras_backend": keras.backend.backend()},
    )


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    """Build what was stored, or fill ``options.into`` with it.

    Raises:
        MissingExtra: Keras is not installed.
        UnsafeContent: The configuration holds code or names what is no part of a model.
        EnvironmentMismatch: It needs a class that the program did not register, or a newer Keras.
        PartialLoad: The variables do not match one to one; nothing was changed.
        Corrupt: The structure is not one that ``pack`` writes, or Keras makes no model of it.
        UsageError: ``into=``, ``rename=`` or ``device=`` cannot be used.
    """
    keras = the_keras()
    if options.into is None and options.rename is not None:
        raise UsageError(
            "rename= goes with into=, the model whose names are wanted.",
            hint=f'holdfast.load("REF", into=model, rename="{options.rename}")',
        )
    if options.device != "auto":
        with keras.device("cpu:0" if options.device == "cpu" else options.device):
            return _unpacked(opened, registry, options, keras)
    return _unpacked(opened, registry, options, keras)


def _unpacked(opened: Opened, registry: Registry, options: LoadOptions, keras: Any) -> Any:
    if options.into is None:
        return _decoded(opened, registry)
    if not isinstance(options.into, keras.layers.Layer):
        raise UsageError(
            f"into= takes a Keras model or layer, not a {type(options.into).__name__}.",
            hint='holdfast.load("REF", into=build_model())',
        )
    raw = replace(kept.SPEC, build=kept.stored_of)
    stored = _decoded(opened, replace(registry, by_id={**registry.by_id, raw.id: raw}))
    if not isinstance(stored, kept.Stored):
        raise UsageError("into= takes a model, and this version holds several.",
                         hint='models = holdfast.load("REF")')  # fmt: skip
    old, _, new = (options.rename or "->").partition("->")
    variables = {
        new + path.removeprefix(old) if path.startswith(old) else path: view
        for path, view in stored.variables.items()
    }
    kept.fill(options.into, stored._replace(variables=variables))
    return options.into


def _decoded(opened: Opened, registry: Registry) -> Any:
    try:
        return codec.decode(opened.structure, opened.tensors, registry, opened.audit, opened.files)
    except Corrupt as error:
        written, here = _release(opened), str(the_keras().__version__)
        if written is None or Version(written) <= Version(here):
            raise
        raise EnvironmentMismatch(
            f"Written by Keras {written}, and installed is {here}: {error.message}",
            hint=f'python -m pip install "keras>={written}"',
        ) from error


def _release(opened: Opened) -> str | None:
    """Return the release of Keras that wrote a version, as its record says."""
    packages = opened.facts.get("packages")
    written = packages.get("keras") if isinstance(packages, Mapping) else None
    try:
        return None if written is None else str(Version(str(written)))
    except InvalidVersion:
        return None


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Compare configurations, every variable bit by bit, vocabularies and plain attributes."""
    return codec.first_difference(model, built, _extended(model, registry), label="model")


def requires(model: Any) -> tuple[str, ...]:
    """Return Keras and its backend; TensorFlow too where a layer takes texts."""
    keras = the_keras()
    texts = any(state.vocabularies_of(layer) for layer in _layers(model))
    names = ("keras", keras.backend.backend(), *(("tensorflow",) if texts else ()))
    return tuple(dict.fromkeys(names))


def methods(model: Any) -> tuple[str, ...]:
    """Return ``predict`` for a model that is built, ``call`` for a layer; else nothing."""
    keras = the_keras()
    if isinstance(model, keras.Model):
        return ("predict",) if model.built else ()
    if not isinstance(model, keras.layers.Layer):
        return ()
    return ("call",) if model.built else ()


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Answer as ``model.predict`` does, in batches and without training; see ``run.call``.

    Raises:
        UsageError: The method is not one of ``methods(model)``.
    """
    if method not in methods(model):
        raise UsageError(f"a {type(model).__name__} has no output method {method!r} here.")
    return run.call(model, inputs)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs of the shapes the model was made for; None where they are not known."""
    return run.synthetic(model, rows, seed) if methods(model) else None


def steady(model: Any) -> AbstractContextManager[None]:
    """Seed generators; restore them and what a call changes on exit."""
    return run.steady(model)


def register(cls: type, *, name: str | None = None) -> None:
    """Register a class with Keras, as ``keras.saving.register_keras_serializable`` does.

    Args:
        cls: A layer, model, metric, loss or the like with ``get_config``.
        name: Name in files; default ``Class`` in the package of its top-level module.
    """
    keras = the_keras("registering a Keras class")
    package, _, short = (name or "").rpartition(">")
    package = package or cls.__module__.partition(".")[0].strip("_")
    keras.saving.register_keras_serializable(package, short or cls.__name__)(cls)
