"""GGUF files whose counts, lengths and places are lies."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from holdfast.trust.gguf import read_gguf
from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data


def look(data):
    report = scanner(frozenset()).look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def tensor(name="w", shape=(4, 3), kind=0, place=0):
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, place)


def file(keys=(), tensors=None, body=48, counts=None, version=3):
    tensors = [tensor()] if tensors is None else tensors
    tensor_count, key_count = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, tensor_count, key_count)
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(body)


def test_an_honest_file_is_data():
    report = look(file())
    assert (report.takes, report.worst) == ("data", None)
    assert [(t.name, t.dtype, t.shape) for t in report.tensors] == [("w", "F32", (3, 4))]


LIES = {
    "more tensors than there are": file(counts=(2, 0)),
    "tensors beyond counting": file(counts=(2**63, 0)),
    "keys beyond counting": file(counts=(1, 2**63)),
    "a key of negative length": file(keys=[struct.pack("<Q", 2**64 - 1)]),
    "a key longer than the file": file(keys=[struct.pack("<Q", 10**6)]),
    "a text longer than the file": file(keys=[key("k", 8, struct.pack("<Q", 2**40))]),
    "an array longer than the file": file(keys=[key("k", 9, struct.pack("<IQ", 4, 2**61))]),
    "an array of texts beyond counting": file(keys=[key("k", 9, struct.pack("<IQ", 8, 2**61))]),
    "an array of arrays": file(keys=[key("k", 9, struct.pack("<IQ", 9, 2))]),
    "a value of no type": file(keys=[key("k", 99, b"")]),
    "a tensor of too many dimensions": file(tensors=[tensor(shape=(1,) * 9)]),
    "a tensor of 2**32 dimensions": file(tensors=[text("w") + struct.pack("<I", 2**32 - 1)]),
    "a tensor beyond the end": file(tensors=[tensor(place=64)]),
    "a tensor far beyond the end": file(tensors=[tensor(place=2**63)]),
    "a tensor larger than the file": file(tensors=[tensor(shape=(2**31, 2**31))]),
    "a product beyond 64 bits": file(tensors=[tensor(shape=(2**63, 2**63, 4, 4))]),
    "no whole number of blocks": file(tensors=[tensor(shape=(33,), kind=2)]),
    "two tensors in one place": file(tensors=[tensor("a"), tensor("b")]),
    "the same name twice": file(tensors=[tensor(), tensor(place=64)], body=112),
    "the same key twice": file(keys=[key("k", 0, b"1"), key("k", 0, b"2")]),
    "an alignment of nothing": file(keys=[key("general.alignment", 4, bytes(4))]),
    "an alignment beyond reason": file(keys=[key("general.alignment", 4, b"\xff" * 4)]),
    "an alignment that is a text": file(keys=[key("general.alignment", 8, text("32"))]),
    "a version that there is not": file(version=77),
    "nothing after the mark": b"GGUF",
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_told_and_nothing_is_taken_over(name):
    report = look(LIES[name])
    assert report.kind == "gguf"
    assert report.worst is Severity.BROKEN
    assert report.takes is None


def test_files_of_the_first_version_and_of_other_byte_orders_are_read():
    words = struct.pack("<I", 1) + b"k"
    first = b"GGUF" + struct.pack("<III", 1, 0, 1) + words + struct.pack("<IB", 0, 7)
    assert read_gguf(Data(first)).metadata == {"k": 7}
    words = struct.pack(">Q", 1) + b"k"
    big = b"GGUF" + struct.pack(">IQQ", 3, 0, 1) + words + struct.pack(">If", 6, 1.5)
    assert read_gguf(Data(big)).metadata == {"k": 1.5}


def test_long_arrays_are_gone_over_and_their_first_items_kept():
    words = b"".join(text("w" * (n % 7)) for n in range(100_000))
    keys = [
        key("tokens", 9, struct.pack("<IQ", 8, 100_000) + words),
        key("long", 9, struct.pack("<IQ", 8, 3) + text("x" * 600_000) * 3),
        key("last", 4, struct.pack("<I", 5)),
    ]
    found = read_gguf(Data(file(keys=keys)))
    assert found.faults == []
    assert found.counts == {"tokens": 100_000, "long": 3}
    assert found.metadata["tokens"][:3] == ["", "w", "ww"]
    assert found.metadata["last"] == 5
    assert len(found.tensors) == 1


def test_a_template_in_a_file_is_judged_with_its_place():
    evil = "{{ ''.__class__.__mro__ }}"
    data = file(keys=[key("tokenizer.chat_template", 8, text("hello " + evil))])
    report = look(data)
    (finding,) = [f for f in report.findings if f.severity is Severity.UNSAFE]
    assert data[finding.position :].startswith(b".__class__")
    assert report.takes is None


def test_tensors_are_where_the_reader_says():
    values = np.arange(12, dtype="<f4")
    data = file(body=0) + values.tobytes()
    (found,) = read_gguf(Data(data)).tensors
    assert np.frombuffer(data[found.start : found.start + found.size], "<f4").tolist() == list(
        range(12)
    )
