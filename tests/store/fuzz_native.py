"""Call the extension with what fits and with what does not; a sanitizer watches its memory.

Run: LD_PRELOAD=$(cc -print-file-name=libasan.so) PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
    python fuzz_native.py EXTENSION CALLS
"""

import hashlib
import importlib.machinery
import importlib.util
import random
import sys

import zstandard

SIZES = (0, 1, 2, 3, 4, 7, 8, 63, 64, 65, 4095, 4096, 4097, 8193)
COMPRESSOR = zstandard.ZstdCompressor()


def loaded(path):
    loader = importlib.machinery.ExtensionFileLoader("holdfast.store._native", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def some(rng, size):
    return rng.choice((rng.randbytes(size), bytes(size), rng.randbytes(1) * size))


def a_plane(rng, count):
    """Return the number in the index and the bytes of a plane, which may lie."""
    way = rng.randrange(4)
    if way == 0:
        return -1 - rng.randrange(256), b""
    if way == 1:
        return 0, some(rng, count)
    frame = bytearray(COMPRESSOR.compress(some(rng, count)))
    if way == 3:
        for _ in range(rng.randrange(1, 4)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
    return len(frame), bytes(frame)


def a_join(rng, native):
    width, count, kind = rng.choice((1, 2, 4, 8)), rng.choice(SIZES), rng.randrange(4)
    made = [a_plane(rng, count) for _ in range(width)]
    lengths, frames = [length for length, _ in made], b"".join(frame for _, frame in made)
    size = based = width * count
    lie = rng.randrange(12)
    if lie == 0:
        size = rng.choice(SIZES)
    elif lie == 1:
        based = rng.choice(SIZES)
    elif lie == 2:
        frames = frames[: rng.randrange(len(frames) + 1)]
    elif lie == 3:
        lengths[rng.randrange(width)] += rng.choice((-(2**62), -300, -1, 1, 300, 2**62))
    elif lie == 4:
        kind, lengths = rng.randrange(-2, 9), lengths[: rng.randrange(width + 1)]
    base = None if rng.randrange(9) == 0 else some(rng, based)
    native.join(frames, tuple(lengths), kind, base, bytearray(size))


def a_split(rng, native):
    width, count, kind = rng.choice((1, 2, 4, 8)), rng.choice(SIZES), rng.randrange(4)
    sizes = [width * count] * 3
    if rng.randrange(4) == 0:
        sizes[rng.randrange(3)] = rng.choice(SIZES)
    base = None if rng.randrange(9) == 0 else some(rng, sizes[1])
    native.split(some(rng, sizes[0]), width, kind, base, bytearray(sizes[2]))


def a_frame(rng, native):
    data = some(rng, rng.choice(SIZES))
    made = native.huffman(data)
    assert zstandard.ZstdDecompressor().decompress(made) == data


def some_messages(rng, native):
    lengths = [rng.choice((*SIZES, rng.randrange(300))) for _ in range(rng.randrange(41))]
    messages = tuple(some(rng, length) for length in lengths)
    made = native.sha256(messages, rng.choice((8, 16)))
    assert made == b"".join(hashlib.sha256(message).digest() for message in messages)


def main():
    native, calls = loaded(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    done = 0
    for _ in range(calls):
        try:
            rng.choice((a_join, a_join, a_split, a_frame, some_messages))(rng, native)
            done += 1
        except (ValueError, OverflowError):
            pass
    sys.stdout.write(f"{done} of {calls} calls did something\n")


if __name__ == "__main__":
    main()
