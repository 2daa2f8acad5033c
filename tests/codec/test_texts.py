"""Arrays of numpy's StringDType come back with their texts, their gaps and their dtype."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import holdfast
from holdfast.codec import TYPES, audit, decode, encode, first_difference
from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported

if not hasattr(np.dtypes, "StringDType"):
    pytest.skip("numpy 1 has no StringDType", allow_module_level=True)

StringDType = np.dtypes.StringDType
REGISTRY = Registry.of(TYPES)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def back(value, views):
    encoded = encode(value, REGISTRY)
    held = views(encoded)
    return decode(encoded.structure, held, REGISTRY, audit(encoded.structure, held, REGISTRY))


def dtypes():
    import pandas as pd

    markers = [{}, *({"na_object": marker} for marker in (None, np.nan, pd.NA, "NA"))]
    return [StringDType(coerce=coerce, **given) for given in markers for coerce in (True, False)]


@pytest.mark.parametrize("dtype", dtypes(), ids=repr)
@settings(deadline=None, max_examples=15)
@given(st.lists(WORDS, min_size=6, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_texts_gaps_and_dtype_come_back(views, dtype, words, gaps):
    given_ = [
        dtype.na_object if gap and hasattr(dtype, "na_object") else word
        for word, gap in zip(words, gaps, strict=True)
    ]
    flat = np.array(given_, dtype=dtype)
    fixed = flat.copy()
    fixed.flags.writeable = False
    values = {
        "flat": flat, "same": flat, "square": flat.reshape(2, 3), "none": flat[:0].reshape(0, 2),
        "turned": np.asfortranarray(flat.reshape(2, 3)), "view": flat.reshape(2, 3)[:, ::2],
        "one": np.array(given_[0], dtype=dtype), "fixed": fixed, "dtype": dtype,
    }  # fmt: skip
    found = back(values, views)
    assert first_difference(values, found, REGISTRY, label="values") is None
    assert found["flat"] is found["same"]
    assert found["dtype"] == dtype
    assert found["dtype"].coerce is dtype.coerce
    for name, array in values.items():
        if name == "dtype":
            continue
        assert found[name].dtype == dtype
        assert [type(each) for each in found[name].ravel().tolist()] == [
            type(each) for each in array.ravel().tolist()
        ]
    if hasattr(dtype, "na_object") and type(dtype.na_object) is not str:
        gone = [type(each) is not str for each in found["flat"].tolist()]
        assert gone == gaps
    assert found["flat"].astype(object).tolist()[0] is not None or gaps[0]


def test_a_text_differs_from_another_and_from_a_gap():
    dtype = StringDType(na_object=None)
    one = np.array(["a", None, ""], dtype=dtype)
    for other in (["a", None, "b"], ["a", "", ""], ["a", None, None]):
        found = first_difference(one, np.array(other, dtype=dtype), REGISTRY, label="one")
        assert found is not None
    assert first_difference(one, one.astype(StringDType(na_object=np.nan)), REGISTRY, label="one")


def test_a_marker_that_is_neither_a_text_nor_missing_is_refused():
    with pytest.raises(Unsupported, match="whose missing texts are a int") as raised:
        encode({"a": np.array(["x"], dtype=StringDType(na_object=3))}, REGISTRY)
    assert "StringDType" in raised.value.hint


def forged(change):
    spec = REGISTRY.by_id["numpy.StringArray"]
    array = np.array([["a", None], ["b", ""]], dtype=StringDType(na_object=None))
    fields = dict(spec.encode(array))
    change(fields)
    return spec.build(fields)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.update(values=["a", "b"]),
        lambda f: f.update(values=["a", "b", "c", None]),
        lambda f: f.update(values=["a", "b", "c", "\ud800"]),
        lambda f: f.update(shape=(2, -2)),
        lambda f: f.update(shape=(2, 2.0)),
        lambda f: f.update(shape=(1,) * 40),
        lambda f: f.update(shape=[2, 2]),
        lambda f: f.update(mask=np.zeros(3, bool)),
        lambda f: f.update(mask=np.zeros(4, np.uint8)),
        lambda f: f.update(dtype=StringDType()),
        lambda f: f.update(dtype=StringDType(na_object="NA")),
        lambda f: f.update(dtype=np.dtype("U3")),
        lambda f: f.update(order="K"),
        lambda f: f.update(readonly=False),
    ],
)
def test_parts_that_do_not_fit_are_refused(change):
    with pytest.raises(Corrupt):
        forged(change)


def test_a_dtype_that_contradicts_itself_is_refused():
    build = REGISTRY.by_id["numpy.StringDType"].build
    for fields in ({"coerce": 1}, {"coerce": True, "missing": 3}, {"coerce": True, "missing": 0.5}):
        with pytest.raises(Corrupt):
            build(fields)


def test_numpy_1_says_what_it_needs(monkeypatch):
    """``numpy.dtypes`` came with numpy 1.25, and without the class."""
    fields = dict(REGISTRY.by_id["numpy.StringDType"].encode(StringDType()))
    monkeypatch.delattr(np.dtypes, "StringDType")
    with pytest.raises(EnvironmentMismatch, match=r"which numpy .* lacks") as raised:
        REGISTRY.by_id["numpy.StringDType"].build(fields)
    assert raised.value.hint == 'python -m pip install "numpy>=2"'


def test_a_version_holds_them(tmp_path):
    table = {"names": np.array(["Oslo", None], dtype=StringDType(na_object=None))}
    version = holdfast.save(table, "m", store=tmp_path / "s")
    assert version.content.structure.types == ("numpy.StringArray", "numpy.StringDType")
    names = holdfast.load("m", store=tmp_path / "s")["names"]
    assert names.dtype == table["names"].dtype
    assert names.tolist() == ["Oslo", None]
