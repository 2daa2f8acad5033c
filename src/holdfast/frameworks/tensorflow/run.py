"""Calling the signatures of a SavedModel or of a live module, and making inputs for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import Corrupt, UsageError
from holdfast.frameworks.tensorflow.files import SavedModel
from holdfast.plugins import import_extra

__all__ = ["Signature", "call", "signatures_of", "steady", "synthetic", "variables_of"]

_FIRST: Final = "serving_default"
# Stands for a dimension that a signature leaves open.
_OPEN: Final = 4
_WORDS: Final = ("alpha", "beta", "gamma delta", "")
_MOST_ITEMS: Final = 4_000_000


class Signature(NamedTuple):
    """A function with a name.

    Attributes:
        function: What TensorFlow calls: a function of a module, or a concrete one.
        specs: ``tf.TensorSpec`` of each input, by name.
        run: Calls it with tensors by name.
    """

    function: Any
    specs: dict[str, Any]
    run: Callable[[dict[str, Any]], Any]


def signatures_of(model: Any) -> dict[str, Signature]:
    """Return what can be called of a SavedModel or a module, ``serving_default`` first.

    Raises:
        Corrupt: The SavedModel calls something a signature that is none.
    """
    if isinstance(model, SavedModel) or isinstance(getattr(model, "signatures", None), Mapping):
        try:
            found = {str(name): _restored(each) for name, each in model.signatures.items()}
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise Corrupt(f"the signatures of the SavedModel are none: {error!s:.200}") from error
    else:
        found = dict(_live(model))
        if _FIRST not in found and found:
            first = "__call__" if "__call__" in found else next(iter(found))
            found = {_FIRST: found.pop(first), **found}
    return dict(sorted(found.items(), key=lambda item: (item[0] != _FIRST, item[0])))


def _restored(function: Any) -> Signature:
    specs = dict(function.structured_input_signature[1])
    return Signature(function, specs, lambda given: function(**given))


def _live(module: Any) -> Iterator[tuple[str, Signature]]:
    """Yield the functions of a live module that say what they take."""
    kind = import_extra(
        "tensorflow.types.experimental", needed_for="a tf.Module"
    ).PolymorphicFunction
    names = dict.fromkeys(name for base in type(module).__mro__ for name in vars(base))
    for name in [*names, *vars(module)]:
        if name.startswith("_") and name != "__call__":
            continue
        function = getattr(module, name, None)
        if not isinstance(function, kind) or function.input_signature is None:
            continue
        concrete = function.get_concrete_function()
        flat, by_name = concrete.structured_input_signature
        specs = {spec.name: spec for spec in (*flat, *by_name.values())}
        yield name, Signature(function, specs, _positional(concrete, list(specs)))


def _positional(concrete: Any, names: list[str]) -> Callable[[dict[str, Any]], Any]:
    return lambda given: concrete(*(given[name] for name in names))


def call(signature: Signature, inputs: Any) -> Any:
    """Call a signature.

    Args:
        signature: Of ``signatures_of``.
        inputs: An array for a signature of one input; a dictionary or table by name, or a tuple in
            the order of the names, for one of several.

    Returns:
        An array where it answers with one, else arrays by name.

    Raises:
        UsageError: The inputs are not those of the signature.
    """
    tensorflow = import_extra("tensorflow", needed_for="calling a SavedModel")
    given = _given(signature.specs, inputs)
    try:
        tensors = {
            name: tensorflow.convert_to_tensor(given[name], dtype=spec.dtype)
            for name, spec in signature.specs.items()
        }
        answers = _named(signature.run(tensors))
    except (TypeError, ValueError, tensorflow.errors.OpError) as error:
        raise UsageError(
            f"The signature does not take these inputs: {error!s:.300}",
            hint="hold show REF  # names, types and shapes of the inputs",
        ) from error
    plain = {str(name): _plain(value) for name, value in answers.items()}
    return next(iter(plain.values())) if len(plain) == 1 else plain


def _named(answers: Any) -> dict[str, Any]:
    """Name outputs as TensorFlow does when it writes a signature."""
    if isinstance(answers, Mapping):
        return dict(sorted(answers.items()))
    if isinstance(answers, list | tuple):
        return {f"output_{place}": answer for place, answer in enumerate(answers)}
    return {"output_0": answers}


def _given(specs: Mapping[str, Any], inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, Mapping) and not hasattr(inputs, "dtypes"):
        found = dict(inputs)
    elif isinstance(inputs, tuple) and len(inputs) == len(specs):
        found = dict(zip(sorted(specs), inputs, strict=True))
    elif hasattr(inputs, "columns") and len(specs) > 1:
        found = {name: inputs[name].to_numpy() for name in specs if name in inputs.columns}
    elif len(specs) == 1:
        found = {next(iter(specs)): inputs}
    else:
        found = {}
    if found.keys() != specs.keys():
        raise UsageError(
            f"The signature takes {', '.join(sorted(specs)) or 'nothing'}.",
            hint="holdfast.save(model, name, inputs={"
            + ", ".join(f"{n!r}: …" for n in specs)
            + "})",
        )
    return {name: _shaped(found[name], spec) for name, spec in specs.items()}


def _shaped(value: Any, spec: Any) -> Any:
    """Return an array; a column for an input that is one wide."""
    value = value.to_numpy() if hasattr(value, "to_numpy") else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "UT":
        value = value.astype(object)
    rank = spec.shape.rank
    narrow = isinstance(value, np.ndarray) and value.ndim == 1 and rank == 2
    return value[:, None] if narrow and spec.shape[1] == 1 else value


def _plain(value: Any) -> Any:
    if hasattr(value, "to_tensor"):  # ragged
        value = value.to_tensor()
    array = np.asarray(value.numpy())
    if array.dtype != object:
        return array
    texts = [_text(item) for item in array.reshape(-1)]
    return np.array(texts, dtype=object).reshape(array.shape)


def _text(item: Any) -> Any:
    if not isinstance(item, bytes):
        return item
    try:
        return item.decode()
    except UnicodeDecodeError:
        return item


def synthetic(signature: Signature, rows: int, seed: int) -> Any | None:
    """Make inputs of the signature's shapes and types; None where they are not told, or not taken.

    Open dimensions but the first have 4 places.
    """
    draw = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for name, spec in signature.specs.items():
        if spec.shape.rank is None:
            return None
        sizes = [size if size is not None else (_OPEN if at else rows)
                 for at, size in enumerate(spec.shape)]  # fmt: skip
        if int(np.prod(np.array(sizes, dtype=object), initial=1)) > _MOST_ITEMS:
            return None
        made[name] = _drawn(draw, sizes, spec.dtype)
    if not made:
        return None
    inputs = next(iter(made.values())) if len(made) == 1 else made
    try:
        call(signature, inputs)
    except UsageError:
        return None
    return inputs


def _drawn(draw: np.random.Generator, sizes: list[int], dtype: Any) -> Any:
    if dtype.name == "string":
        return np.array(_WORDS, dtype=object)[draw.integers(0, len(_WORDS), sizes)]
    if dtype.is_floating:
        return draw.standard_normal(sizes).astype(dtype.as_numpy_dtype)
    return draw.integers(0, 2, sizes).astype(dtype.as_numpy_dtype)


def variables_of(model: Any) -> list[Any]:
    """Return the variables of a SavedModel that is loaded, or of a live object."""
    tensorflow = import_extra("tensorflow", needed_for="a SavedModel")
    root = model.root if isinstance(model, SavedModel) else model
    checkpoint = tensorflow.train.Checkpoint(root)
    view = import_extra("tensorflow.python.checkpoint.graph_view", needed_for="a SavedModel")
    parts = view.ObjectGraphView(checkpoint.root).breadth_first_traversal()[0]
    return [part for part in parts if isinstance(part, tensorflow.Variable)]


@contextmanager
def steady(model: Any) -> Iterator[None]:
    """Put variables that a call may change back on exit: those that are not trained."""
    kept = [
        (variable, variable.numpy()) for variable in variables_of(model) if not variable.trainable
    ]
    try:
        yield
    finally:
        for variable, array in kept:
            if not np.array_equal(variable.numpy(), array):
                variable.assign(array)
