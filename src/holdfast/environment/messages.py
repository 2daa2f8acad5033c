"""Messages between two processes: a JSON header and raw bytes, every length checked.

A message is four bytes (little-endian) that count the header's, the header, which is one JSON
object, and then as many runs of bytes as its ``sizes`` list, in order. Nothing else is on the pipe.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Final

import msgspec

from holdfast.errors import Corrupt

__all__ = ["MOST_BODY", "PREFIX", "header_length", "packed", "parsed", "read"]

PREFIX: Final = 4
MOST_HEADER: Final = 64 << 20
MOST_BODY: Final = 2 << 30
_MOST_RUNS: Final = 200_000


def packed(header: Mapping[str, Any], runs: Iterable[memoryview]) -> list[memoryview]:
    """Return the parts of one message, in order.

    Args:
        header: JSON-like; ``sizes`` is added.
        runs: Bytes that follow it, one-dimensional.

    Raises:
        Corrupt: It is larger than a message may be.
    """
    runs = list(runs)
    sizes = [run.nbytes for run in runs]
    text = msgspec.json.encode({**header, "sizes": sizes})
    if len(text) > MOST_HEADER or sum(sizes) > MOST_BODY or len(sizes) > _MOST_RUNS:
        raise Corrupt(
            f"a message of {len(text) + sum(sizes)} bytes is too large for the pipe to a worker"
        )
    return [memoryview(struct.pack("<I", len(text)) + text), *runs]


def header_length(prefix: bytes | bytearray) -> int:
    """Return how many bytes of header follow; raises ``Corrupt`` for more than there may be."""
    length: int = struct.unpack("<I", prefix)[0]
    if not 2 <= length <= MOST_HEADER:
        raise Corrupt(f"a message claims a header of {length} bytes")
    return length


def parsed(text: bytes | bytearray) -> tuple[dict[str, Any], Sequence[int]]:
    """Return the header and the sizes of the runs that follow it.

    Raises:
        Corrupt: It is no JSON object, or sizes are missing or beyond the limits.
    """
    try:
        header = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Corrupt(f"a message's header is not JSON: {error!s:.100}") from error
    sizes = header.pop("sizes", None) if isinstance(header, dict) else None
    if not isinstance(sizes, list) or len(sizes) > _MOST_RUNS:
        raise Corrupt("a message's header does not tell its sizes")
    if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) > MOST_BODY:
        raise Corrupt("a message claims sizes that are impossible or too large")
    return header, sizes


def read(stream: IO[bytes]) -> tuple[dict[str, Any], list[memoryview]]:
    """Read one message from a blocking stream.

    Raises:
        EOFError: The stream ends before the message does.
        Corrupt: It is not a message.
    """
    header, sizes = parsed(_exactly(stream, header_length(_exactly(stream, PREFIX))))
    return header, [memoryview(_exactly(stream, size)) for size in sizes]


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        done += got
    return data
