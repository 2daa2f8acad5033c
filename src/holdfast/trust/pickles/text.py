"""Numbers and strings as the textual opcodes of protocol 0 write them, read as CPython reads them.

Source: CPython's ``Modules/_pickle.c`` (``load_int``, ``load_long``, ``load_float``,
``load_string``) and ``Lib/pickle.py``, which differ; what either accepts is accepted here, since an
unpickler that goes on is one whose further steps must be described.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["flag_or_integer", "floating", "index", "integer", "unescaped"]

# What C's strtol reads with base 0, from the start of the line.
_STRTOL: Final = re.compile(
    rb"[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))"
)
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|(.)|$)", re.DOTALL)
_SINGLE: Final = {
    b"\n": b"",
    b"\\": b"\\",
    b"'": b"'",
    b'"': b'"',
    b"b": b"\b",
    b"f": b"\f",
    b"t": b"\t",
    b"n": b"\n",
    b"r": b"\r",
    b"v": b"\v",
    b"a": b"\a",
}
# Longer numbers in decimal take quadratic time, and newer Pythons refuse them.
_DIGITS: Final = 4_300


def flag_or_integer(line: bytes) -> int:
    """Read the argument of INT: ``00`` and ``01`` are False and True.

    Args:
        line: Without its newline.

    Raises:
        ValueError: It is no number.
    """
    text = line.partition(b"\0")[0]
    found = _STRTOL.match(text)
    if found is None or found.end() != len(text) or len(text) > _DIGITS:
        # A line that begins with its end is 0 to strtol.
        return integer(line) if text or not line else 0
    sign, hexadecimal, octal, decimal = found.groups()
    value = int(hexadecimal, 16) if hexadecimal else int(octal or decimal, 8 if octal else 10)
    value = -value if sign == b"-" else value
    return bool(value) if len(line) == 2 and value in (0, 1) else value


def integer(line: bytes) -> int:
    """Read the argument of LONG, with or without its final ``L``.

    Raises:
        ValueError: It is no number, or one of more digits than are read.
    """
    text = (line[:-1] if line.endswith(b"L") else line).partition(b"\0")[0]
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits is not read")
    return int(text, 0)


def index(line: bytes) -> int:
    """Read the argument of GET or PUT.

    Raises:
        ValueError: It is no number that can be an index.
    """
    text = line.partition(b"\0")[0]
    if len(text) > 100:
        raise ValueError("it is no index of the memo")
    value = int(text, 10)
    if value < 0:
        raise ValueError("a negative index of the memo")
    return value


def floating(line: bytes) -> float:
    """Read the argument of FLOAT.

    Raises:
        ValueError: It is no number.
    """
    return float(line.partition(b"\0")[0])


def unescaped(line: bytes) -> bytes:
    r"""Read the argument of STRING: bytes in quotes with escapes such as ``\n``, ``\x41``.

    Raises:
        ValueError: The quotes do not match, or an escape is cut short.
    """
    if len(line) < 2 or line[0] != line[-1] or line[0] not in b"'\"":
        raise ValueError("a string without its quotes")
    return _ESCAPE.sub(_single, line[1:-1])


def _single(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, other = found.groups()
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if other is None or other == b"x":
        raise ValueError("an escape is cut short")
    return _SINGLE.get(other, b"\\" + other)
