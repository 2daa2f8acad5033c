"""What goes into a model and what comes out, as plain JSON; and fitting new inputs to it.

A signature never needs pandas or torch to be read: kinds are ``frame`` (named columns),
``array`` (dtype and shape, the row dimension is null), ``rows`` (a list of texts or objects),
``mapping`` and ``sequence`` (several inputs, by name or by position) and ``value``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from holdfast.errors import SignatureMismatch

__all__ = ["Aligned", "align", "describe", "without_dtypes"]


class Aligned(NamedTuple):
    """Inputs fitted to a signature.

    Attributes:
        inputs: The caller's inputs, columns possibly in another order.
        notes: What was done, in words; empty when nothing was.
    """

    inputs: Any
    notes: tuple[str, ...]


def is_frame(value: object) -> bool:
    """Say whether ``value`` is a pandas DataFrame, without importing pandas."""
    kind = type(value)
    return kind.__module__.partition(".")[0] == "pandas" and kind.__name__ == "DataFrame"


def describe(value: Any) -> dict[str, Any]:
    """Return the signature of inputs or outputs.

    Args:
        value: DataFrame, numpy array, tensor, list of rows, tuple or mapping of these.
    """
    if is_frame(value):
        return {"kind": "frame", "columns": [_column(value, i) for i in range(value.shape[1])]}
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        shape: list[int | None] = [int(n) for n in value.shape]
        if shape:
            shape[0] = None
        return {"kind": "array", "dtype": _dtype_name(value), "shape": shape}
    if isinstance(value, Mapping):
        return {"kind": "mapping", "items": {str(k): describe(v) for k, v in value.items()}}
    if isinstance(value, tuple):
        return {"kind": "sequence", "items": [describe(item) for item in value]}
    if isinstance(value, list):
        names = sorted({type(item).__name__ for item in value})
        return {"kind": "rows", "type": names[0] if len(names) == 1 else "object"}
    return {"kind": "value", "type": type(value).__name__}


def _column(frame: Any, position: int) -> dict[str, Any]:
    name, column = frame.columns[position], frame.iloc[:, position]
    described: dict[str, Any] = {"name": str(name), "dtype": str(column.dtype)}
    if described["dtype"] == "category":
        described["categories"] = [str(item) for item in column.cat.categories]
    return described


def _dtype_name(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def without_dtypes(signature: dict[str, Any]) -> dict[str, Any]:
    """Keep names and shapes only: what synthetic inputs can honestly say."""
    if signature["kind"] == "frame":
        columns = [{"name": column["name"]} for column in signature["columns"]]
        return {"kind": "frame", "columns": columns}
    if signature["kind"] == "array":
        return {"kind": "array", "shape": signature["shape"]}
    return signature


def align(signature: Mapping[str, Any], inputs: Any, *, ref: str) -> Aligned:
    """Fit inputs to what the model was saved with: reorder by name, or refuse; never guess.

    Args:
        signature: What ``describe`` returned at save.
        inputs: The caller's inputs.
        ref: The version, for messages.

    Raises:
        SignatureMismatch: Columns are missing, unnamed or of another kind or width.
    """
    kind = signature.get("kind")
    if kind == "frame":
        return _align_columns(signature["columns"], inputs, ref)
    if kind == "array":
        if is_frame(inputs):
            inputs = inputs.to_numpy()
        _check_shape(signature.get("shape"), inputs, ref)
        return Aligned(inputs, ())
    if kind == "mapping" and isinstance(inputs, Mapping):
        _check_keys(signature["items"], inputs, ref)
    return Aligned(inputs, ())


def _align_columns(columns: Sequence[Mapping[str, Any]], inputs: Any, ref: str) -> Aligned:
    expected = [column["name"] for column in columns]
    if not is_frame(inputs):
        raise SignatureMismatch(
            f"{ref} takes {len(expected)} named columns ({_some(expected)}), but the input is a "
            f"{type(inputs).__name__} without names. Their order cannot be checked.",
            hint=f"pandas.DataFrame(X, columns={expected[:3]!r}{' + …' if expected[3:] else ''})",
            ref=ref,
        )
    given = [str(name) for name in inputs.columns]
    missing = [name for name in expected if name not in given]
    twice = sorted({name for name in given if given.count(name) > 1 and name in expected})
    if missing or twice:
        extra = [name for name in given if name not in expected]
        what = f"missing {_some(missing)}" if missing else f"given twice {_some(twice)}"
        raise SignatureMismatch(
            f"The input columns differ from those {ref} was saved with: {what}"
            f"{'; not known ' + _some(extra) if extra else ''}. Nothing was predicted.",
            hint=_renaming(missing, extra) or f"hold show {ref}",
            ref=ref,
        )
    _check_dtypes(columns, inputs, given, ref)
    order = [given.index(name) for name in expected]
    notes = []
    if order != list(range(len(given))):
        moved = sum(1 for want, have in enumerate(order) if want != have)
        dropped = len(given) - len(expected)
        if moved:
            notes.append(f"Columns reordered to match training ({moved} moved).")
        if dropped:
            notes.append(f"{dropped} columns the model does not know were left out.")
        inputs = inputs.iloc[:, order]
    return Aligned(inputs, tuple(notes))


def _renaming(missing: Sequence[str], extra: Sequence[str]) -> str | None:
    """Return the line that renames columns which differ in case, spaces or underscores only."""
    plain = {_plain_name(name): name for name in missing}
    renamed = {name: plain[_plain_name(name)] for name in extra if _plain_name(name) in plain}
    return f"X = X.rename(columns={renamed!r})" if len(renamed) == len(missing) else None


def _plain_name(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())


def _check_dtypes(
    columns: Sequence[Mapping[str, Any]], frame: Any, given: list[str], ref: str
) -> None:
    for column in columns:
        want = column.get("dtype")
        have = str(frame.iloc[:, given.index(column["name"])].dtype)
        if want is not None and _family(want) != _family(have):
            raise SignatureMismatch(
                f"Column {column['name']!r} is {have}, but {ref} was saved with {want}.",
                hint=f'X["{column["name"]}"] = X["{column["name"]}"].astype("{want}")',
                ref=ref,
            )


def _family(dtype: str) -> str:
    """Group dtypes that are interchangeable as inputs: all numbers; all texts."""
    lower = dtype.lower()
    if lower.startswith(("int", "uint", "float", "bool")):
        return "number"
    if lower.startswith(("object", "str", "string", "category")):
        return "text or category"
    return "time" if lower.startswith("datetime") else lower


def _check_shape(shape: Sequence[int | None] | None, inputs: Any, ref: str) -> None:
    if shape is None:
        return
    have = tuple(getattr(inputs, "shape", None) or np.shape(inputs))
    if len(have) != len(shape) or tuple(have[1:]) != tuple(shape[1:]):
        want = "(" + ", ".join("rows" if n is None else str(n) for n in shape) + ")"
        raise SignatureMismatch(
            f"{ref} takes an array of shape {want}; the input has shape {have}.",
            hint=f"hold show {ref}",
            ref=ref,
        )


def _check_keys(items: Mapping[str, Any], inputs: Mapping[Any, Any], ref: str) -> None:
    missing = sorted(items.keys() - {str(key) for key in inputs})
    if missing:
        raise SignatureMismatch(
            f"{ref} takes the named inputs {_some(sorted(items))}; missing: {_some(missing)}.",
            hint=f"hold show {ref}",
            ref=ref,
        )


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
