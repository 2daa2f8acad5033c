"""Decompressing LZ4 frames, which joblib writes where the lz4 package is installed.

Source of the format: "LZ4 Frame Format Description" 1.6.3 and "LZ4 Block Format Description" of
lz4/lz4. Checksums are not compared: a scan must see what a reader that ignores them sees.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAGIC", "Lz4Decompressor"]

MAGIC: Final = b"\x04\x22\x4d\x18"
_WINDOW: Final = 1 << 16
# Code of a frame's largest block to its bytes.
_BLOCKS: Final = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 4 << 20}
_PLAIN: Final = 0x8000_0000


class Lz4Decompressor:
    """Undoes one frame, with the same face as the decompressors of ``bz2`` and ``lzma``.

    Attributes:
        eof: Whether the frame's end was reached.
        unused_data: What follows the frame's end, of the bytes handed over.
    """

    def __init__(self) -> None:
        self.eof = False
        self.unused_data = b""
        self._input = b""
        self._output = bytearray()
        self._window = b""
        self._flags: int | None = None
        self._largest = 0

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Take more of the frame and return at most so many bytes of its content.

        Raises:
            ValueError: It is damaged.
        """
        self._input += data
        while len(self._output) < max_length and not self.eof and self._step():
            pass
        found = bytes(self._output[:max_length])
        del self._output[:max_length]
        return found

    def _step(self) -> bool:
        """Undo the header or one block; False where more input is needed."""
        if self._flags is None:
            return self._header()
        head = self._input[:4]
        if len(head) < 4:
            return False
        size = int.from_bytes(head, "little")
        plain, size = bool(size & _PLAIN), size & ~_PLAIN
        whole = 4 + size + (4 if self._flags & 0x10 and size else 0)
        if not size:
            return self._end(4 + (4 if self._flags & 0x04 else 0))
        if size > self._largest:
            raise ValueError(f"a block of LZ4 claims {size} bytes")
        if len(self._input) < whole:
            return False
        block, self._input = self._input[4 : 4 + size], self._input[whole:]
        before = b"" if self._flags & 0x20 else self._window
        made = block if plain else _undone(block, before, self._largest)
        self._window = (self._window + made)[-_WINDOW:]
        self._output += made
        return True

    def _header(self) -> bool:
        if len(self._input) < 7:
            return False
        flags, largest = self._input[4], self._input[5] >> 4 & 7
        size = 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
        if not self._input.startswith(MAGIC) or flags >> 6 != 1 or largest not in _BLOCKS:
            raise ValueError("it is no frame of LZ4")
        if len(self._input) < size:
            return False
        self._flags, self._largest = flags, _BLOCKS[largest]
        self._input = self._input[size:]
        return True

    def _end(self, size: int) -> bool:
        if len(self._input) < size:
            return False
        self.eof = True
        self.unused_data, self._input = self._input[size:], b""
        return False


def _undone(block: bytes, before: bytes, most: int) -> bytes:
    """Undo one block; ``before`` is what it may refer back to."""
    made = bytearray(before)
    end, at, start = len(block), 0, len(before)
    while at < end:
        token = block[at]
        count, at = _length(block, at + 1, token >> 4)
        if count > end - at:
            raise ValueError("a block of LZ4 is cut short")
        made += block[at : at + count]
        at += count
        if at == end:  # the last sequence has no match
            break
        offset = int.from_bytes(block[at : at + 2], "little")
        count, at = _length(block, at + 2, token & 15)
        count += 4
        if not 0 < offset <= len(made) or len(made) - start + count > most:
            raise ValueError("a block of LZ4 refers to what is not there, or is too large")
        match = made[-offset:] if count > offset else made[-offset : len(made) - offset + count]
        made += (match * -(-count // offset))[:count]
    return bytes(made[start:])


def _length(block: bytes, at: int, value: int) -> tuple[int, int]:
    """Read a length that may go on in further bytes; return it and where it ends."""
    if value == 15:
        while True:
            if at >= len(block):
                raise ValueError("a block of LZ4 is cut short")
            value, at = value + block[at], at + 1
            if block[at - 1] != 255:
                break
    return value, at
