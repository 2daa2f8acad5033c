"""Nodes whose value is a file of the record."""

import pytest

from holdfast.codec import TYPES, audit, decode, encode, first_difference
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.codec.tensors import FileData
from holdfast.errors import Corrupt
from holdfast.record import Structure


class Native:
    def __init__(self, data):
        self.data = data


SPEC = TypeSpec(
    id="test.Native",
    locate=lambda: Native,
    classes=(f"{__name__}:Native",),
    encode=lambda model: {"model": FileData(".ubj", model.data)},
    build=lambda fields: Native(bytes(fields["model"])),
    required=frozenset({"model"}),
)
REGISTRY = Registry.of([*TYPES, SPEC])


def round_trip(value):
    encoded = encode(value, REGISTRY)
    files = {name: memoryview(data) for name, data in encoded.files.items()}
    judged = audit(encoded.structure, {}, REGISTRY, files)
    return encoded, decode(encoded.structure, {}, REGISTRY, judged, files)


def test_a_file_is_named_by_its_place():
    encoded, again = round_trip({"steps": [Native(b"one"), Native(b"two")]})
    assert encoded.files == {"steps.0.model.ubj": b"one", "steps.1.model.ubj": b"two"}
    assert [model.data for model in again["steps"]] == [b"one", b"two"]


def test_a_shared_model_is_one_file():
    model = Native(b"one")
    encoded, (one, two) = round_trip([model, model])
    assert len(encoded.files) == 1
    assert one is two


@pytest.mark.parametrize("key", ["a/../b", "C:\\x", "é", ".", "..", "a b", "\x00", "x" * 500])
def test_names_suit_every_file_system(key):
    from holdfast.archive.paths import is_file_name

    encoded, again = round_trip({key: Native(b"one")})
    (name,) = encoded.files
    assert is_file_name(name)
    assert name.isascii()
    assert "/" not in name
    assert again[key].data == b"one"


def test_names_that_differ_only_in_case_do_not_meet():
    encoded, _ = round_trip({"Model": Native(b"one"), "model": Native(b"two")})
    assert len({name.casefold() for name in encoded.files}) == 2


def test_files_are_compared_byte_by_byte():
    assert first_difference(Native(b"one"), Native(b"one"), REGISTRY, label="m") is None
    assert "bytes" in (first_difference(Native(b"a"), Native(b"b"), REGISTRY, label="m") or "")


def test_a_file_that_is_missing_or_named_twice_is_refused():
    fields = {"model": 1}
    one = Structure(types=("test.Native",), nodes=(("object", 0, fields), ("file", "a.ubj")))
    audit(one, {}, REGISTRY, {"a.ubj", "beside.txt"})
    for files in ((), ("b.ubj",)):
        with pytest.raises(Corrupt, match="does not exist"):
            audit(one, {}, REGISTRY, files)
    nodes = (("list", [1, 2]), ("file", "a.ubj"), ("file", "a.ubj"))
    with pytest.raises(Corrupt, match="twice"):
        audit(Structure(nodes=nodes), {}, REGISTRY, {"a.ubj"})
    for name in (1, None, ["a.ubj"]):
        with pytest.raises(Corrupt):
            audit(Structure(nodes=(("file", name),)), {}, REGISTRY, {"a.ubj"})
