# The passes over bytes in C; hatch_build.py builds them, planes.py and hashing.py say what they do.
from typing_extensions import Buffer

CALLS: int
LIBZSTD: int
HUFFMAN: int
LANES: int
SHA: int

def split(data: Buffer, width: int, kind: int, base: Buffer | None, out: Buffer, /) -> None: ...
def join(
    frames: Buffer, lengths: tuple[int, ...], kind: int, base: Buffer | None, out: Buffer, /
) -> None: ...
def huffman(data: Buffer, /) -> bytes: ...
def sha256(messages: tuple[Buffer, ...], lanes: int, /) -> bytes: ...
