"""The page of coded blobs says what the code does."""

import re
from pathlib import Path

import numpy as np
import pytest

from holdfast.record import digest_of
from holdfast.store import coded, coding
from holdfast.store.coding import Kind

PAGE = Path(__file__).parent.parent / "docs" / "format" / "coded.md"
TEXT = PAGE.read_text("utf-8")


@pytest.fixture(scope="module", name="decode")
def make_reader():
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 42
    scope = {}
    exec(compile(code, str(PAGE), "exec"), scope)
    return scope["decode"]


@pytest.mark.parametrize("based", [False, True])
def test_its_reader_reads_what_the_code_writes(decode, based):
    rng = np.random.default_rng(0)
    runs = []
    for width in (2, 4, 8):
        floats = (rng.standard_normal(300_000) * 0.02).astype(f"<f{width}")
        floats[:7] = [0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 1.0]
        runs.append((floats.tobytes(), width, True))
    runs.append((rng.integers(0, 9, 100_000, dtype="<u4").tobytes(), 4, False))
    runs.append((b"a text " * 5000, 1, False))
    runs.append((bytes(3_000_000), 4, True))
    data = b"".join(run[0] for run in runs)
    flipped = np.frombuffer(data, "u1").copy()
    flipped[::16] ^= 1
    flipped[:600_000].view("<f2")[:] += np.float16(1e-4)
    base = flipped.tobytes()
    kinds = [Kind(len(run), width, real) for run, width, real in runs]
    named = (digest_of(base), memoryview(base)) if based else None
    file = b"".join(coding.encode(memoryview(data), kinds, base=named))
    assert decode(file, {digest_of(base): base}.__getitem__) == data
    used = {part.kind for part in coded.Layout(memoryview(file)).index.parts}
    assert ({"bytes", "difference", "sorted"} if based else {"bytes", "float"}) <= used


def test_its_table_names_the_fields():
    told = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert told == set(coded.Part.__struct_fields__)
