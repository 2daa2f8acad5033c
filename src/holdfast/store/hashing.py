"""SHA-256 of many buffers at once, where a processor has wide vectors and no instructions for it.

Such a processor hashes one message at 0.3 GB/s, since each step of SHA-256 waits for the one
before; ``_native`` puts a message into each lane of its vectors, eight or sixteen at a time.
hashlib is what that is compared with when it is first used, and what hashes wherever lanes would
not be faster.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

from holdfast.record import Digest, digest_of
from holdfast.store.base import Buffer

__all__ = ["digests_of", "digests_on", "groups_of", "lanes"]

try:
    from holdfast.store import _native
except ImportError:
    _native = None  # type: ignore[assignment]

# A lane has half of hashlib's speed, so that two buffers alone are no work for lanes.
_LEAST: Final = 3
# The part of this machine's memory that the buffers of a group may have: it should hold them all
# from when they are written or asked for until they are hashed.
_PART: Final = 4
# Lengths of the messages that lanes are tried with: around a block's end and its padding's.
_TRIED: Final = (0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129, 1000)


@functools.cache
def lanes() -> int:
    """Return how many buffers are worth hashing at once; 0 where one by one is as fast."""
    width: int = getattr(_native, "LANES", 0)
    if not width or _native.SHA:
        return 0
    messages = tuple(bytes(i * size % 251 for i in range(size)) for size in _TRIED * 2)
    right = b"".join(hashlib.sha256(message).digest() for message in messages)
    return width if _native.sha256(messages, width) == right else 0


def digests_of(buffers: Sequence[Buffer]) -> list[Digest]:
    """Return the digest of each of some buffers, hashed at once where that is faster.

    Buffers must be contiguous. The interpreter lock is released while they are hashed.
    """
    sizes = [memoryview(buffer).nbytes for buffer in buffers]
    order = sorted(range(len(buffers)), key=sizes.__getitem__)
    found: dict[int, Digest] = {}
    rest = sum(sizes)
    while order:
        longest = order[-1]
        if lanes() and len(order) >= _LEAST:
            outlasts = sizes[longest] > 2 * sizes[order[-2]] and lanes() * sizes[longest] > rest
            if not outlasts:
                break
        order.pop()  # one lane would be busy with it long after the others
        rest -= sizes[longest]
        found[longest] = digest_of(memoryview(buffers[longest]))
    if order:
        order.reverse()
        made = _native.sha256(tuple(buffers[i] for i in order), lanes())
        for place, i in enumerate(order):
            found[i] = Digest(f"sha256:{made[32 * place : 32 * place + 32].hex()}")
    return [found[i] for i in range(len(buffers))]


def digests_on(pool: Executor, buffers: Sequence[Buffer]) -> list[Digest]:
    """Return the digest of each of some buffers, shared among threads where that is faster."""
    hands = min(_rounds(len(buffers)), os.cpu_count() or 1) if lanes() else len(buffers)
    order = sorted(range(len(buffers)), key=lambda i: memoryview(buffers[i]).nbytes)
    dealt = [order[hand::hands] for hand in range(hands)]
    made = pool.map(lambda hand: digests_of([buffers[i] for i in hand]), dealt)
    found: dict[int, Digest] = {}
    for hand, digests in zip(dealt, made, strict=True):
        found.update(zip(hand, digests, strict=True))
    return [found[i] for i in range(len(buffers))]


def groups_of(sizes: Sequence[int]) -> list[slice]:
    """Cut buffers, given by their sizes, into groups to be hashed at once, each by one thread.

    A lane's speed is the same whether the others are busy or not, so that as few groups as fill the
    lanes are done as soon as more of them would be.
    """
    groups: list[slice] = []
    most = -(-len(sizes) // _rounds(len(sizes))) if sizes else 0
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _PART
    start = held = 0
    for i, size in enumerate(sizes):
        if i - start == most or (i > start and held + size > room):
            groups.append(slice(start, i))
            start, held = i, 0
        held += size
    return [*groups, slice(start, len(sizes))] if sizes else []


def _rounds(count: int) -> int:
    return -(-count // max(1, lanes()))
