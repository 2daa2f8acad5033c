"""What is a table, whoever made it; other libraries' tables become pandas frames through Arrow.

Nothing here imports pandas or pyarrow unless a table of another library is given.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from holdfast.archive.families import look
from holdfast.errors import UsageError
from holdfast.plugins import import_extra

__all__ = ["is_frame", "is_series", "is_sparse", "native"]


def is_frame(value: object) -> bool:
    """Say whether ``value`` is a pandas DataFrame or of a class derived from it."""
    return _is_pandas(value, "DataFrame")


def is_series(value: object) -> bool:
    """Say whether ``value`` is a pandas Series or of a class derived from it."""
    return _is_pandas(value, "Series")


def _is_pandas(value: object, name: str = "") -> bool:
    return any(
        base.__module__.partition(".")[0] == "pandas" and name in ("", base.__name__)
        for base in type(value).__mro__
    )


def is_sparse(value: object) -> bool:
    """Say whether ``value`` is a sparse matrix or array of scipy, in any of its formats."""
    return hasattr(value, "tocsr")


def native(value: Any) -> Any:
    """Return tables of other libraries as pandas frames, their columns as arrays.

    Names, order and categories are kept. Whole numbers and truths with missing values, and
    decimals, become float64, as such columns of pandas are. Everything else is returned as it is.

    Args:
        value: Anything; a table is what speaks the Arrow PyCapsule or the dataframe interchange
            protocol, such as a polars DataFrame or a pyarrow Table or RecordBatch.

    Raises:
        MissingExtra: pandas or pyarrow is not installed.
        UsageError: The table has a column that Arrow or pandas cannot hold, or is a query.
    """
    if hasattr(value, "collect_schema") and hasattr(value, "collect"):
        raise UsageError(
            f"A {type(value).__name__} is a query, not yet rows.", hint="X = X.collect()"
        )
    arrow = hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")
    interchange = hasattr(value, "__dataframe__")
    if _is_pandas(value) or not (arrow or interchange):
        return value
    if interchange or len(getattr(value, "shape", ())) == 2:
        return _to_pandas(value, arrow=arrow)
    return np.asarray(value) if hasattr(value, "__array__") else value


def _to_pandas(table: Any, *, arrow: bool) -> Any:
    kind = type(table).__name__
    pandas = import_extra("pandas", needed_for=f"a {kind} as input")
    pyarrow = import_extra("pyarrow", needed_for=f"a {kind} as input") if arrow else None
    try:
        if pyarrow is not None:
            return _numbers_as_floats(pyarrow.table(table).to_pandas())
        with warnings.catch_warnings():  # pandas 3 prefers Arrow, which this table does not speak
            warnings.simplefilter("ignore")
            return _numbers_as_floats(pandas.api.interchange.from_dataframe(table))
    except Exception as error:
        raise UsageError(
            f"The {kind} cannot become a pandas DataFrame: {error!s:.200}",
            hint="X = X.to_pandas()",
        ) from error


def _numbers_as_floats(frame: Any) -> Any:
    for position, dtype in enumerate(frame.dtypes):
        if str(dtype) == "object" and look(frame.iloc[:, position]).family == "number":
            values = frame.iloc[:, position].to_numpy(dtype="float64", na_value=np.nan)
            frame.isetitem(position, values)
    return frame
