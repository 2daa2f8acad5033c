"""Feed the readers of documents and headers with what a coverage-guided fuzzer invents.

``python tests/fuzz/fuzz_documents.py [-atheris_runs=N] [libFuzzer options] [CORPUS]`` needs the
``fuzz`` extra. Anything that escapes and is not a ``HoldfastError`` is a crash, and so is a
document that reads but is not written back byte for byte.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

CONTENT, SAFETENSORS = 1, 4
RUNS = "-atheris_runs=50000"
SHA = "sha256:" + "0" * 64
SEEDS: list[tuple[int, object]] = [
    (0, {"format": "holdfast/1", "content": SHA, "created": "", "author": "",
         "metrics": {"a": 0.5}}),
    (1, {"format": "holdfast/1", "framework": "python", "structure": {"nodes": [
        ["list", [1, 2, 3, 4, 5, 6]], ["int", "0x20000000000000"], ["float", "1e-7"],
        ["tuple", [0]], ["dict", [7, 0]], ["scalar", "<M8[D]", "00" * 8],
        ["strings", ["a"] * 8], ["str", "k"]],
        "root": 0, "types": []}}),
    (1, {"format": "holdfast/1", "framework": "python", "structure": {"nodes": [
        ["object", 0, {"bit_generator": 1, "state": 2}], ["str", "PCG64"],
        ["dict", [3, 4, 5, 8, 6, 8]], ["str", "state"], ["dict", [3, 8, 7, 8]],
        ["str", "has_uint32"], ["str", "uinteger"], ["str", "inc"],
        ["int", 1]], "types": ["numpy.Generator"]}}),
    (1, {"format": "holdfast/1", "framework": "python", "structure": {"nodes": [
        ["array", "t", {"order": "F"}]]}, "tensors": [
        {"name": "t", "dtype": "F32", "shape": [2, 1], "digest": SHA}]}),
    (2, {"format": "holdfast/1", "content": SHA, "record": SHA, "pieces": [
        {"digest": SHA, "size": 8}]}),
    (3, {"format": "holdfast/1", "name": "m", "seq": 1, "attempt": "", "at": "", "by": "",
         "kind": "save", "body": {"a": [1, None, "\U0001f991", 1e21]}}),
    (4, {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
         "__metadata__": {"format": "np"}}),
]  # fmt: skip


TOKENS: list[Any] = [
    None, True, False, 0, 1, -1, 2, 9, 2**31, 2**53 - 1, 0.5, "", "k", "t", "nan", "0x10", "00" * 8,
    "F32", "U8", "I64", "BOOL", "U32", "F64", "BF16", "<f4", "<M8[s]", "|S8", "<U2", "|b1", ">f8",
    "dtype", "order", "F", "readonly", "name", "shape", "data_offsets", [], {}, [0], [0, 0, 0],
    ["none"], ["int", 0], ["float", "inf"], ["complex", "1", "2"], ["wtf8", "eda080"],
    ["ints", "t"], ["floats", "t"], ["array", "t", {}], ["bytes", "t"], ["bytearray", "t"],
    ["buffer", "t"], ["objects", [1], [1], {}], ["nptype", "int8"], ["builtin", "int"],
    ["dtype", "<f8"], ["tuple", [1]], ["set", [1]], ["frozenset", [2]], ["dict", [1, 2]],
    ["ordereddict", [1, 0]], ["slice", [1, 1, 1]], ["range", [1, 1, 1]], ["ellipsis"],
    ["scalar", "<f4", "0000803f"], ["bool", True], ["strings", ["a"]], ["str", "x"],
    {"dtype": "<c8"}, {"names": ["a"], "formats": ["<f4"], "offsets": [0], "itemsize": 4},
    {"base": "|u1", "shape": [2]},
]  # fmt: skip


def write_seeds(folder: Path) -> None:
    """Write one sound input per reader; the first byte names the reader."""
    for position, (kind, document) in enumerate(SEEDS):
        text = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        data = text.encode()
        if kind == SAFETENSORS:
            data = len(data).to_bytes(8, "little") + data + bytes(8)
        (folder / f"seed-{position}").write_bytes(bytes([kind]) + data)


class Readers:
    """The functions under test; the holdfast modules are imported here, instrumented."""

    def __init__(self, folder: Path) -> None:
        from holdfast import codec, record
        from holdfast.api.files import read_safetensors
        from holdfast.codec.registry import Registry
        from holdfast.codec.tensors import ITEMSIZE, TensorView
        from holdfast.errors import HoldfastError

        self.codec, self.record, self.error = codec, record, HoldfastError
        self.documents = [record.Record, record.Content, record.Manifest, record.LogEntry]
        self.read_safetensors, self.path = read_safetensors, folder / "input.safetensors"
        self.registry = Registry.of(codec.TYPES)
        self.itemsize, self.view = ITEMSIZE, TensorView

    def one_input(self, data: bytes) -> None:
        """Read one input; our own errors are answers."""
        with contextlib.suppress(self.error):
            self.read(data)

    def read(self, data: bytes) -> None:
        """Read one input; the first byte names the reader."""
        kind, rest = (data[0] if data else 0) % 5, data[1:]
        if kind == SAFETENSORS:
            self.path.write_bytes(rest)
            self.read_safetensors(self.path)
            return
        document = self.documents[kind].decode(rest)
        if type(document).decode(document.encode()) != document:
            raise AssertionError(f"{document.title} changes when it is written: {rest!r}")
        if kind == CONTENT:
            self.build(document)

    def build(self, content: Any) -> None:
        """Audit and build; sizes are true, since archives check them against real bytes."""
        views = {}
        for entry in content.tensors:
            size = self.itemsize.get(entry.dtype, 0) * math.prod(entry.shape)
            if 0 <= size <= 1 << 16 and min(entry.shape, default=0) >= 0:
                data = memoryview(bytes(size))
                views[entry.name] = self.view(entry.dtype, entry.shape, data)
        audit = self.codec.audit(content.structure, views, self.registry)
        self.codec.decode(content.structure, views, self.registry, audit)

    def mutate(self, data: bytes, limit: int, seed: int) -> bytes:
        """Change one place of the JSON value and spell it canonically, or else any bytes."""
        import atheris

        chance = random.Random(seed)
        start = 9 if data[:1] == bytes([SAFETENSORS]) else 1
        end = 9 + int.from_bytes(data[1:9], "little") if start == 9 else len(data)
        try:
            value = json.loads(data[start:end])
            if chance.random() < 0.2 or not isinstance(value, dict):
                return atheris.Mutate(data, limit)
            text = self.record.canonical(changed(value, chance))
        except (ValueError, RecursionError):
            return atheris.Mutate(data, limit)
        length = len(text).to_bytes(8, "little") if start == 9 else b""
        return (data[:1] + length + text + data[end:])[:limit]


def changed(value: Any, chance: random.Random) -> Any:
    """Replace, drop or add one part somewhere in a JSON value, in place."""
    here, parts = value, [*TOKENS, value]
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return value
        key = chance.choice(keys)
        parts.append(here[key])
        if not isinstance(here[key], list | dict) or not here[key] or chance.random() < 0.15:
            break
        here = here[key]
    new = json.loads(json.dumps(chance.choice(parts)))
    how = chance.random()
    if how < 0.1:
        del here[key]
    elif how < 0.3 and isinstance(here, list):
        here.insert(key, new)
    else:
        here[key] = new
    return value


def main(arguments: list[str]) -> None:
    """Run the fuzzer until it finds something or has had its runs."""
    import atheris

    folder = Path(tempfile.mkdtemp(prefix="holdfast-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    corpus = folder / "corpus"
    corpus.mkdir()
    write_seeds(corpus)
    with atheris.instrument_imports(include=["holdfast"]):
        readers = Readers(folder)
    for seed in sorted(corpus.iterdir()):
        readers.read(seed.read_bytes())
    if not any(item.startswith("-atheris_runs") for item in arguments):
        arguments = [*arguments, RUNS]
    if all(item.startswith("-") for item in arguments[1:]):
        arguments = [*arguments, str(corpus)]
    atheris.Setup(arguments, readers.one_input, custom_mutator=readers.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
