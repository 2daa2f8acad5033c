"""Sparse matrices of every format: what they hold, how they hold it, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from holdfast.codec import encode
from holdfast.errors import Corrupt, Unsupported
from holdfast.record import Structure

sparse = pytest.importorskip("scipy.sparse")

FORMATS = ("csr", "csc", "bsr", "coo", "dia", "lil", "dok")
NAMES = [f"{name}_{kind}" for name in FORMATS for kind in ("matrix", "array")]
DENSE = np.array([[1.0, 0, 2, 0], [0, 0, 3, 0], [4, 5, 0, 0], [0, 0, 0, 6]])


def parts(matrix) -> dict[str, object]:
    """Return what a matrix is made of."""
    found = {key: value for key, value in vars(matrix).items() if not key.startswith("_has")}
    return found | {"entries": dict(matrix.items())} if matrix.format == "dok" else found


def assert_same_parts(one, two) -> None:
    assert type(one) is type(two)
    assert (one.shape, one.dtype) == (two.shape, two.dtype)
    mine, theirs = parts(one), parts(two)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        left, right = (
            item if isinstance(item, tuple) else (item,) for item in (value, theirs[name])
        )
        for a, b in zip(left, right, strict=True):
            assert type(a) is type(b), name
            if isinstance(a, np.ndarray):
                assert (a.dtype, a.tolist()) == (b.dtype, b.tolist()), name
            else:
                assert a == b, name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f4", "f8", "c16"])
def test_every_format_and_dtype(name: str, dtype: str, round_trip) -> None:
    matrix = getattr(sparse, name)(DENSE.astype(dtype))
    again = round_trip(matrix)
    assert_same_parts(matrix, again)
    assert (again @ DENSE).tolist() == (matrix @ DENSE).tolist()
    assert again.T.toarray().tolist() == DENSE.T.astype(dtype).tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (2, 5)])
def test_empty_ones(name: str, shape, round_trip) -> None:
    matrix = getattr(sparse, name)(shape, dtype="f4")
    assert_same_parts(matrix, round_trip(matrix))


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.coo_array, sparse.dok_array])
def test_arrays_of_one_dimension(kind, round_trip) -> None:
    matrix = kind(DENSE[0])
    if matrix.ndim != 1:
        pytest.skip("this scipy has no sparse arrays of one dimension")
    assert_same_parts(matrix, round_trip(matrix))


def test_arrays_of_three_dimensions(round_trip) -> None:
    try:
        matrix = sparse.coo_array(np.arange(8.0).reshape(2, 2, 2))
    except TypeError:
        pytest.skip("this scipy has no sparse arrays of three dimensions")
    assert_same_parts(matrix, round_trip(matrix))


def unsorted():
    return sparse.csr_matrix(
        (np.array([1.0, 2, 3]), np.array([2, 0, 0]), np.array([0, 3, 3])), shape=(2, 3)
    )


def test_order_repeats_and_widths_are_kept_as_they_are(round_trip) -> None:
    wide = sparse.csr_matrix(DENSE)
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    blocks = sparse.bsr_matrix(DENSE, blocksize=(2, 2))
    repeated = sparse.coo_matrix(([1.0, 2], ([0, 0], [1, 1])), shape=(2, 2))
    for matrix in (unsorted(), unsorted().tocsc(), wide, blocks, repeated, sparse.coo_array(DENSE)):
        again = round_trip(matrix)
        assert_same_parts(matrix, again)
        if matrix.format != "bsr":
            assert again.has_canonical_format == matrix.has_canonical_format
    assert not round_trip(unsorted()).has_sorted_indices


def test_a_wrong_flag_is_not_believed(round_trip) -> None:
    matrix = unsorted()
    matrix.has_canonical_format = True
    assert not round_trip(matrix).has_canonical_format


def test_shared_parts_stay_shared_and_writable(round_trip) -> None:
    one = sparse.csr_array(DENSE)
    two = sparse.csr_array((one.data, one.indices, one.indptr), shape=one.shape)
    first, second, again, data = round_trip([one, two, one, one.data])
    assert first is again
    assert first.data is data
    assert (first.data is second.data) == (one.data is two.data)
    data[0] = 9
    assert first[0, 0] == 9
    dense = round_trip(sparse.lil_array(DENSE))
    dense[3, 0] = 1.5
    assert dense.toarray()[3].tolist() == [1.5, 0, 0, 6]


def test_spare_room_is_no_value(round_trip) -> None:
    matrix = sparse.csr_matrix(DENSE)
    matrix.data, matrix.indices = (np.tile(part, 2) for part in (matrix.data, matrix.indices))
    again = round_trip(matrix)
    assert again.toarray().tolist() == DENSE.tolist()
    assert len(again.data) == len(again.indices) == 6


def noted():
    matrix = sparse.csr_matrix(DENSE)
    matrix.note = "mine"
    return matrix


def broken():
    matrix = sparse.csr_matrix(DENSE)
    matrix.indices = matrix.indices + 7
    return matrix


def swapped():
    matrix = sparse.csr_matrix(DENSE)
    matrix.data = matrix.data.astype(">f8")
    return matrix


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (noted, "a csr_matrix has the attribute 'note' of its own"),
        (broken, "contradicts itself: an index of a sparse matrix is out of range"),
        (swapped, "foreign byte order"),
    ],
)
def test_what_would_not_load_is_refused_at_save(make, words: str, registry) -> None:
    with pytest.raises(Unsupported, match=f"^{re.escape('model[0]')}: .*{words}") as caught:
        encode([make()], registry, label="model")
    assert "\nTry: scipy.sparse.csr_matrix(" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("csr_array", {"indices": [0, 9]}, "out of range"),
        ("csr_array", {"indices": [0, -1]}, "out of range"),
        ("csr_array", {"indices": [0]}, "another number of indices"),
        ("csr_array", {"indices": [0.0, 1.0]}, "not of whole numbers"),
        ("csr_array", {"indptr": [0, 2]}, "do not fit its shape"),
        ("csr_array", {"indptr": [0, 3, 2]}, "go backwards"),
        ("csr_array", {"indptr": [1, 1, 2]}, "do not fit its shape"),
        ("csr_array", {"indptr": [0, 1, 3]}, "do not fit its shape"),
        ("csr_array", {"shape": (2**62, 3)}, "do not fit its shape"),
        ("csr_array", {"shape": (2, 2**70)}, "impossible shape"),
        ("csr_matrix", {"shape": (3,)}, "impossible shape"),
        ("csr_array", {"data": ["a", "b"]}, "not numbers"),
        ("csc_array", {"indices": [0, 2]}, "out of range"),
        ("lil_array", {"indices": [1, 0], "indptr": [0, 2, 2]}, "not in order"),
    ],
)
def test_forged_parts_are_named(name: str, fields, words: str, registry) -> None:
    own = {"shape": (2, 3), "data": [1.0, 2.0], "indices": [0, 1], "indptr": [0, 1, 2]}
    if name.startswith("csc"):
        own["indptr"] = [0, 1, 2, 2]
    parts = {key: fields.get(key, value) for key, value in own.items()}
    arrays = {key: np.array(value) for key, value in parts.items() if key != "shape"}
    with pytest.raises(Corrupt, match=words):
        registry.by_id[f"scipy.sparse.{name}"].build({"shape": parts["shape"], **arrays})


def test_a_repeated_place_under_a_flag_that_denies_it(registry) -> None:
    spec = registry.by_id["scipy.sparse.coo_array"]
    places = tuple(np.array(part) for part in ([0, 1, 0], [1, 0, 1]))
    fields = {"shape": (2, 2), "data": np.ones(3), "coords": places}
    assert spec.build({**fields, "canonical": False}).sum() == 3
    with pytest.raises(Corrupt, match="no repeated places"):
        spec.build({**fields, "canonical": True})


def test_a_table_that_lacks_a_part_is_refused_before_anything_is_built(build) -> None:
    nodes = [["object", 0, {"shape": 1}], ["tuple", []]]
    with pytest.raises(Corrupt, match="lacks the field"):
        build(Structure(types=("scipy.sparse.csr_array",), nodes=nodes, root=0), {})
