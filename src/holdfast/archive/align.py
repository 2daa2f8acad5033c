"""Fitting new inputs to a signature: reordered by name, recoded, or refused; never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from holdfast.archive.columns import fit_columns, select, some
from holdfast.archive.families import family, family_of, has_missing, look
from holdfast.archive.frames import is_frame, is_series, is_sparse, native
from holdfast.archive.units import in_recorded_unit
from holdfast.errors import SignatureMismatch
from holdfast.plugins import import_extra

__all__ = ["Aligned", "align"]


class Aligned(NamedTuple):
    """Inputs fitted to a signature.

    Attributes:
        inputs: The caller's inputs; columns possibly in another order, categories recoded.
        notes: What was done, and what is unusual about the inputs, in words.
    """

    inputs: Any
    notes: tuple[str, ...]


def align(signature: Mapping[str, Any], inputs: Any, *, ref: str) -> Aligned:
    """Fit inputs to what the model was saved with, or refuse them.

    Tables of other libraries become pandas frames first.

    Args:
        signature: What ``describe`` returned at save.
        inputs: The caller's inputs; never changed.
        ref: The version, for messages.

    Raises:
        SignatureMismatch: Columns are missing, unnamed or of another kind or width.
        MissingExtra: A table of another library needs pandas or pyarrow.
    """
    inputs = native(inputs)
    kind = signature.get("kind")
    if kind == "frame":
        return Aligned(*_fit_frame(signature["columns"], inputs, ref))
    if kind == "array":
        return Aligned(*_fit_array(signature, inputs, ref))
    if kind == "rows":
        _check_rows(signature, inputs, ref)
    if kind == "mapping" and isinstance(inputs, Mapping):
        _check_keys(signature["items"], inputs, ref)
    return Aligned(inputs, ())


def _mismatch(message: str, ref: str, hint: str | None = None) -> SignatureMismatch:
    return SignatureMismatch(message, hint=hint or f"hold show {ref}", ref=ref)


def _fit_frame(
    columns: Sequence[Mapping[str, Any]], inputs: Any, ref: str
) -> tuple[Any, tuple[str, ...]]:
    if not is_frame(inputs):
        names = [column["name"] for column in columns]
        raise _mismatch(
            f"{ref} takes {len(names)} named columns ({some(names)}), but the input is a "
            f"{type(inputs).__name__} without names. Their order cannot be checked.",
            ref,
            f"pandas.DataFrame(X, columns={names[:3]!r}{' + …' if names[3:] else ''})",
        )
    if not len(inputs):
        raise _mismatch(f"The input has no rows; {ref} predicted nothing.", ref, "len(X)")
    frame, moved = select([column["name"] for column in columns], inputs, ref)
    frame, fitted = fit_columns(columns, frame, ref)
    return frame, (*moved, *fitted)


def _fit_array(signature: Mapping[str, Any], inputs: Any, ref: str) -> tuple[Any, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if is_frame(inputs):
        inputs, notes = _values(signature, inputs, ref)
    _check_shape(signature.get("shape"), inputs, ref)
    _check_family(family_of(signature), _family_of_values(inputs), ref)
    if "dtype" in signature and hasattr(inputs, "dtype"):
        inputs = in_recorded_unit(inputs, str(signature["dtype"]), ref)
    if signature.get("missing") is False and hasattr(inputs, "dtype") and has_missing(inputs):
        notes = (*notes, "Missing values in the input; there were none at save.")
    if "dtype" not in signature or ("sparse" in signature) == is_sparse(inputs):
        return inputs, notes
    if is_sparse(inputs):
        return inputs.toarray(), (*notes, "Sparse rows made dense, as at save.")
    sparse = import_extra("scipy.sparse", needed_for="a model that takes sparse rows")
    return sparse.csr_matrix(np.asarray(inputs)), (*notes, "Rows made sparse, as at save.")


def _values(signature: Mapping[str, Any], frame: Any, ref: str) -> tuple[Any, tuple[str, ...]]:
    """Take a frame's values for a model that was saved with an array."""
    names = signature.get("names")
    notes: tuple[str, ...] = ("The model was saved with an array: names were not checked.",)
    if names is not None:
        frame, notes = select(names, frame, ref)
    want = str(signature.get("dtype", ""))
    values = frame.to_numpy()
    numbers = family(want) == "number"
    if numbers and values.dtype == object and look(values).family in ("number", "nothing"):
        values = frame.to_numpy(dtype="float64", na_value=np.nan)
    if want in ("float16", "float32", "float64") and values.dtype.kind in "biuf":
        values = values.astype(want, copy=False)
    return values, notes


def _family_of_values(inputs: Any) -> str:
    if isinstance(inputs, list) and inputs and not isinstance(inputs[0], list | tuple):
        return look(inputs).family
    if is_series(inputs) and str(inputs.dtype) == "category":
        return _family_of_values(inputs.cat.categories)
    array = inputs if hasattr(inputs, "dtype") else np.asarray(inputs)
    return look(array).family if str(array.dtype) == "object" else family(str(array.dtype))


def _check_family(want: str | None, have: str, ref: str) -> None:
    if want in (None, have, "mixed", "other", "nothing") or have == "nothing":
        return
    raise _mismatch(f"{ref} takes values of the kind {want}; the input is of {have}.", ref)


def _check_shape(shape: Sequence[int | None] | None, inputs: Any, ref: str) -> None:
    if shape is None:
        return
    have = _shape(inputs, ref)
    if len(have) != len(shape) or have[1:] != tuple(shape[1:]):
        want = "(" + ", ".join("rows" if n is None else str(n) for n in shape) + ")"
        raise _mismatch(f"{ref} takes an array of shape {want}; the input has shape {have}.", ref)


def _shape(inputs: Any, ref: str) -> tuple[int, ...]:
    shape = getattr(inputs, "shape", None)
    if shape is not None:
        return tuple(shape)
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], str):
        return (len(inputs),)  # an array of them would be as wide as the longest text
    try:
        return np.shape(inputs)
    except ValueError as error:
        raise _mismatch(f"The rows given to {ref} are of different lengths.", ref) from error


def _check_rows(signature: Mapping[str, Any], inputs: Any, ref: str) -> None:
    """Refuse what would be walked through as something else: a frame by column, a text by letter.

    Raises:
        SignatureMismatch: It is not a sequence of rows, or not of texts where those were saved.
    """
    what = signature.get("type", "object")
    if is_frame(inputs):
        raise _mismatch(f"{ref} takes a list of {what}; the input is a table.", ref, 'X["column"]')
    if isinstance(inputs, str | bytes):
        raise _mismatch(f"{ref} takes a list of {what}; the input is one text.", ref, "[X]")
    if what != "str":
        return
    have = _shape(inputs, ref)
    if len(have) != 1:
        raise _mismatch(f"{ref} takes a list of texts; the input has shape {have}.", ref)
    _check_family("text", _family_of_values(inputs), ref)


def _check_keys(items: Mapping[str, Any], inputs: Mapping[Any, Any], ref: str) -> None:
    missing = sorted(items.keys() - {str(key) for key in inputs})
    if missing:
        raise _mismatch(
            f"{ref} takes the named inputs {some(sorted(items))}; missing: {some(missing)}.", ref
        )
