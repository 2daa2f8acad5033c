"""Reading the header of a ``.npy`` file without evaluating it.

Source of the format: numpy's ``numpy/lib/_format_impl.py``, "Format Version 1.0" and later. numpy
itself evaluates the header as a Python literal; here it is matched.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.source import Source

__all__ = ["MAGIC", "NpyHeader", "read_npy_header"]

MAGIC: Final = b"\x93NUMPY"
_HEADER_LIMIT: Final = 1 << 16
# What every writer writes. Python would read more than this (escapes, strings side by side, a key
# twice), and nobody but an attacker needs it.
_HEADER: Final = re.compile(
    r"\{\s*'descr':\s*(?:'(?P<simple>[^'\\]{1,100})'|(?P<fields>\[[^\\\"]*\])),"
    r"\s*'fortran_order':\s*(?P<order>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9L,\s]*)\),?\s*\}\s*"
)
# One field of a record: its name, or its title and name, and its dtype or the fields inside it.
_FIELD: Final = re.compile(
    r"\(\s*(?:'[^']*'|\(\s*'[^']*'\s*,\s*'[^']*'\s*\))\s*,\s*(?:'(?P<dtype>[^']*)'|\[)"
)
_BETWEEN_FIELDS: Final = re.compile(r"[\[\](),\d\s]*")
_ITEM: Final = re.compile(r"[|<>=]?([?bBiufcmMSaUV])(\d*)(?:\[[^\]]*\])?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyHeader:
    """What an array's header says.

    Attributes:
        dtype: As the file spells it; of a record array its fields.
        shape: Dimensions.
        fortran: Whether the first dimension varies fastest.
        objects: Whether elements, or some of their fields, are Python objects, which is a pickle,
            or of a dtype that may be so.
        start: Byte where the elements start.
        size: Bytes of the elements; None for objects and record arrays.
    """

    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    objects: bool
    start: int
    size: int | None


def read_npy_header(source: Source) -> NpyHeader:
    """Read an array's header.

    Raises:
        Corrupt: It is none.
    """
    begin = source.exactly(0, 10, "the header")
    if not begin.startswith(MAGIC) or begin[6] not in (1, 2, 3):
        raise Corrupt("it does not begin as an array does")
    wide = begin[6] > 1
    begin = source.exactly(0, 12 if wide else 10, "the header")
    length = int.from_bytes(begin[8:], "little")
    if length > _HEADER_LIMIT:
        raise Corrupt(f"the header claims {length} bytes")
    text = source.exactly(len(begin), length, "the header").decode("latin-1")
    return _parsed(text, len(begin) + length)


def _parsed(text: str, start: int) -> NpyHeader:
    found = _HEADER.fullmatch(text)
    if found is None:
        raise Corrupt("the header does not say as others do what the array is")
    sizes = [part.strip().rstrip("L") for part in found["shape"].split(",")]
    if not all(part.isdigit() and len(part) < 20 for part in sizes if part) or len(sizes) > 65:
        raise Corrupt("the header has no possible shape")
    shape = tuple(int(part) for part in sizes if part)
    simple, fields = found["simple"], found["fields"]
    objects = _may_be_objects([simple] if simple else _dtypes(fields))
    size = None if objects or simple is None else _itemsize(simple) * math.prod(shape)
    return NpyHeader(
        dtype=(simple or fields)[:1000],
        shape=shape,
        fortran=found["order"] == "True",
        objects=objects,
        start=start,
        size=size,
    )


def _dtypes(fields: str) -> list[str]:
    """Return the dtypes of a record's fields; an empty one stands for what was not understood."""
    rest = _FIELD.sub("", fields)
    found = [match["dtype"] for match in _FIELD.finditer(fields) if match["dtype"] is not None]
    return found if _BETWEEN_FIELDS.fullmatch(rest) else [""]


def _may_be_objects(dtypes: list[str]) -> bool:
    """Say whether some dtype is not one of the plain ones: there are many ways to write objects."""
    return not all(_ITEM.match(dtype) for dtype in dtypes)


def _itemsize(dtype: str) -> int:
    found = _ITEM.match(dtype)
    if found is None or len(found[2]) > 9:
        raise Corrupt(f"there is no dtype {dtype!r:.60}")
    return int(found[2] or 1) * (4 if found[1] == "U" else 1)
