"""scipy's sparse matrices and arrays, in all seven formats.

scipy's compiled code trusts index arrays blindly, so each is judged against the shape before a
matrix is made. Whether indices are sorted is never read from a file: scipy looks for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.plugins import import_extra

__all__ = ["TYPES"]

_Fields = Mapping[str, Any]
_MAX_DIMENSION: Final = 2**63 - 1

# What scipy itself keeps in a matrix over all supported releases.
_OWN: Final = frozenset(
    {"_shape", "maxprint", "data", "indices", "indptr", "offsets", "coords", "row", "col", "rows"}
    | {"_dict", "dtype", "_has_sorted_indices", "_has_canonical_format", "has_canonical_format"}
)


def _class(name: str) -> type:
    module = import_extra("scipy.sparse", needed_for=f"a {name}")
    kind = getattr(module, name, None)
    if kind is None:
        raise EnvironmentMismatch(
            f"The file holds a {name}, which the scipy installed here lacks.",
            hint="python -m pip install --upgrade scipy",
        )
    found: type = kind
    return found


def _shape(fields: _Fields, dimensions: range) -> tuple[int, ...]:
    shape = fields["shape"]
    if (
        type(shape) is not tuple
        or len(shape) not in dimensions
        or any(type(size) is not int or not 0 <= size <= _MAX_DIMENSION for size in shape)
    ):
        raise Corrupt("a sparse matrix has an impossible shape")
    return shape


def _values(values: Any, ndim: int = 1) -> Any:
    if type(values) is not np.ndarray or values.ndim != ndim or values.dtype.kind not in "biufc":
        raise Corrupt("the values of a sparse matrix are not numbers")
    if not values.dtype.isnative:
        raise Corrupt("the values of a sparse matrix have a foreign byte order")
    return values


def _numbers(numbers: Any, shape: tuple[int, ...]) -> Any:
    """Check an index array's type; it must be able to count to each dimension too."""
    if (
        type(numbers) is not np.ndarray
        or numbers.ndim != 1
        or numbers.dtype not in (np.int32, np.int64)
        or not numbers.dtype.isnative
    ):
        raise Corrupt("an index of a sparse matrix is not of whole numbers")
    if max(shape) > np.iinfo(numbers.dtype).max:
        raise Corrupt("an index of a sparse matrix is too narrow for its shape")
    return numbers


def _indices(numbers: Any, below: int, shape: tuple[int, ...]) -> Any:
    indices = _numbers(numbers, shape)
    if indices.size and (indices.min() < 0 or indices.max() >= below):
        raise Corrupt("an index of a sparse matrix is out of range")
    return indices


def _pointers(numbers: Any, rows: int, count: int, shape: tuple[int, ...]) -> Any:
    pointers = _numbers(numbers, shape)
    if len(pointers) != rows + 1 or pointers[0] != 0 or pointers[-1] != count:
        raise Corrupt("the row pointers of a sparse matrix do not fit its shape")
    if (pointers[1:] < pointers[:-1]).any():
        raise Corrupt("the row pointers of a sparse matrix go backwards")
    return pointers


def _encode_compressed(matrix: Any) -> dict[str, Any]:
    count = int(matrix.indptr[-1])  # what lies beyond is room to grow, not a value
    spare = len(matrix.indices) > count
    return {
        "shape": _plain_shape(matrix),
        "data": matrix.data[:count] if spare else matrix.data,
        "indices": matrix.indices[:count] if spare else matrix.indices,
        "indptr": matrix.indptr,
    }


def _plain_shape(matrix: Any) -> tuple[int, ...]:
    return tuple(map(int, matrix.shape))


def _build_compressed(name: str, fields: _Fields) -> Any:
    shape = _shape(fields, range(1 if name == "csr_array" else 2, 3))
    rows, columns = shape if len(shape) == 2 else (1, *shape)
    if name.startswith("csc"):
        rows, columns = columns, rows
    data = _values(fields["data"])
    indices = _indices(fields["indices"], columns, shape)
    if len(indices) != len(data):
        raise Corrupt("a sparse matrix has another number of indices than of values")
    indptr = _pointers(fields["indptr"], rows, len(data), shape)
    matrix: Any = _class(name)(shape, dtype=data.dtype)
    matrix.data, matrix.indices, matrix.indptr = data, indices, indptr
    return matrix


def _build_blocks(name: str, fields: _Fields) -> Any:
    shape = _shape(fields, range(2, 3))
    data = _values(fields["data"], ndim=3)
    count, height, width = data.shape
    if not height or not width or shape[0] % height or shape[1] % width:
        raise Corrupt("the blocks of a sparse matrix do not fit its shape")
    indices = _indices(fields["indices"], shape[1] // width, shape)
    if len(indices) != count:
        raise Corrupt("a sparse matrix has another number of indices than of blocks")
    indptr = _pointers(fields["indptr"], shape[0] // height, count, shape)
    matrix: Any = _class(name)(shape, blocksize=(height, width), dtype=data.dtype)
    matrix.data, matrix.indices, matrix.indptr = data, indices, indptr
    return matrix


def _encode_coordinates(matrix: Any) -> dict[str, Any]:
    coords = matrix.coords if hasattr(matrix, "coords") else (matrix.row, matrix.col)
    return {
        "shape": _plain_shape(matrix),
        "data": matrix.data,
        "coords": tuple(coords),
        "canonical": bool(matrix.has_canonical_format),
    }


def _build_coordinates(name: str, fields: _Fields) -> Any:
    shape = _shape(fields, range(1, 65) if name.endswith("array") else range(2, 3))
    data, coords, canonical = _values(fields["data"]), fields["coords"], fields["canonical"]
    if type(coords) is not tuple or len(coords) != len(shape) or type(canonical) is not bool:
        raise Corrupt("the coordinates of a sparse matrix do not fit its shape")
    for numbers, size in zip(coords, shape, strict=True):
        if len(_indices(numbers, size, shape)) != len(data):
            raise Corrupt("a sparse matrix has another number of indices than of values")
    if canonical and _repeats(coords):
        raise Corrupt("a sparse matrix says that it has no repeated places, but it has")
    matrix: Any = _class(name)(shape, dtype=data.dtype)
    matrix.data = data
    if hasattr(matrix, "coords"):
        matrix.coords = coords
    else:
        matrix.row, matrix.col = coords
    matrix.has_canonical_format = canonical
    return matrix


def _repeats(coords: tuple[Any, ...]) -> bool:
    order = np.lexsort(coords)
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for numbers in coords:
        ordered = numbers[order]
        same &= ordered[1:] == ordered[:-1]
    return bool(same.any())


def _encode_diagonals(matrix: Any) -> dict[str, Any]:
    return {"shape": _plain_shape(matrix), "data": matrix.data, "offsets": matrix.offsets}


def _build_diagonals(name: str, fields: _Fields) -> Any:
    shape = _shape(fields, range(2, 3))
    data, offsets = _values(fields["data"], ndim=2), _numbers(fields["offsets"], shape)
    if len(offsets) != len(data) or len(np.unique(offsets)) != len(offsets):
        raise Corrupt("the diagonals of a sparse matrix do not fit their offsets")
    if offsets.size and (offsets.min() < -shape[0] or offsets.max() > shape[1]):
        raise Corrupt("a diagonal of a sparse matrix lies outside of it")
    matrix: Any = _class(name)(shape, dtype=data.dtype)
    matrix.data, matrix.offsets = data, offsets
    return matrix


def _encode_lists(matrix: Any) -> dict[str, Any]:
    sizes = [len(row) for row in matrix.rows]
    columns = [column for row in matrix.rows for column in row]
    values = [value for row in matrix.data for value in row]
    return {
        "shape": _plain_shape(matrix),
        "data": np.array(values, dtype=matrix.dtype),
        "indices": np.array(columns, dtype=np.int64),
        "indptr": np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
    }


def _build_lists(name: str, fields: _Fields) -> Any:
    shape = _shape(fields, range(2, 3))
    data = _values(fields["data"])
    indices = _indices(fields["indices"], shape[1], shape)
    if len(indices) != len(data):
        raise Corrupt("a sparse matrix has another number of indices than of values")
    indptr = _pointers(fields["indptr"], shape[0], len(data), shape)
    ends = indptr[1:-1]
    rising = indices[1:] > indices[:-1]
    rising[ends[(ends > 0) & (ends < len(indices))] - 1] = True
    if not rising.all():
        raise Corrupt("the columns of a list of lists are not in order")
    matrix: Any = _class(name)(shape, dtype=data.dtype)
    columns, values, bounds = indices.tolist(), data.tolist(), indptr.tolist()
    for row in range(shape[0]):
        matrix.rows[row] = columns[bounds[row] : bounds[row + 1]]
        matrix.data[row] = values[bounds[row] : bounds[row + 1]]
    return matrix


def _encode_keys(matrix: Any) -> dict[str, Any]:
    places = [key if isinstance(key, tuple) else (key,) for key in matrix.keys()]  # noqa: SIM118 - iterating it goes over rows in some releases
    coords = np.array(places, dtype=np.int64).reshape(len(places), len(matrix.shape))
    return {
        "shape": _plain_shape(matrix),
        "data": np.array(list(matrix.values()), dtype=matrix.dtype),
        "coords": tuple(np.ascontiguousarray(column) for column in coords.T),
    }


def _build_keys(name: str, fields: _Fields) -> Any:
    shape = _shape(fields, range(1 if name == "dok_array" else 2, 3))
    data, coords = _values(fields["data"]), fields["coords"]
    if type(coords) is not tuple or len(coords) != len(shape):
        raise Corrupt("the keys of a sparse matrix do not fit its shape")
    columns = [
        _indices(numbers, size, shape).tolist() for numbers, size in zip(coords, shape, strict=True)
    ]
    keys = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
    items = dict(zip(keys, data, strict=True))
    if len(items) != len(data):
        raise Corrupt("a sparse matrix has the same key twice")
    matrix: Any = _class(name)(shape, dtype=data.dtype)
    if hasattr(matrix, "_dict"):
        matrix._dict = items  # noqa: SLF001 - the public ways look at one key at a time
    else:
        dict.update(matrix, items)
    return matrix


def _judged(encode: Callable[[Any], dict[str, Any]], build: Any, matrix: Any) -> dict[str, Any]:
    """Encode a matrix; one that a load would not take is refused here already."""
    extra = vars(matrix).keys() - _OWN
    name = type(matrix).__name__
    if extra:
        raise Unsupported(
            f"a {name} has the attribute {min(extra)!r} of its own.",
            hint=f"scipy.sparse.{name}(matrix)",
        )
    fields = encode(matrix)
    try:
        build(fields)
    except Corrupt as error:
        raise Unsupported(
            f"a {name} contradicts itself: {error.message}.",
            hint=f"scipy.sparse.{name}(matrix.toarray())",
        ) from error
    return fields


_Coding = tuple[Callable[[Any], dict[str, Any]], Callable[[str, _Fields], Any], str]
_FORMATS: Final[dict[str, _Coding]] = {
    "csr": (_encode_compressed, _build_compressed, "shape data indices indptr"),
    "csc": (_encode_compressed, _build_compressed, "shape data indices indptr"),
    "bsr": (_encode_compressed, _build_blocks, "shape data indices indptr"),
    "coo": (_encode_coordinates, _build_coordinates, "shape data coords canonical"),
    "dia": (_encode_diagonals, _build_diagonals, "shape data offsets"),
    "lil": (_encode_lists, _build_lists, "shape data indices indptr"),
    "dok": (_encode_keys, _build_keys, "shape data coords"),
}


def _spec(name: str) -> TypeSpec:
    encode, build_named, fields = _FORMATS[name[:3]]
    build = partial(build_named, name)
    modules = (f"scipy.sparse._{name[:3]}", "scipy.sparse._arrays")
    return TypeSpec(
        id=f"scipy.sparse.{name}",
        locate=partial(_class, name),
        classes=tuple(f"{module}:{name}" for module in modules),
        encode=partial(_judged, encode, build),
        build=build,
        fields=frozenset(fields.split()),
        required=frozenset(fields.split()),
    )


TYPES: Final = tuple(
    _spec(f"{format_}_{kind}") for format_ in _FORMATS for kind in ("matrix", "array")
)
