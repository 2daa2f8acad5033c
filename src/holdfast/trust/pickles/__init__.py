"""Reading pickles as data: an opcode reader with a symbolic stack that never calls anything."""

from holdfast.trust.pickles.reader import read
from holdfast.trust.pickles.stack import LIMITS, Limits
from holdfast.trust.pickles.values import (
    Call,
    Change,
    Global,
    Inline,
    LongBytearray,
    Members,
    OutOfBand,
    Pairs,
    Persistent,
    Reading,
)

__all__ = [
    "LIMITS",
    "Call",
    "Change",
    "Global",
    "Inline",
    "Limits",
    "LongBytearray",
    "Members",
    "OutOfBand",
    "Pairs",
    "Persistent",
    "Reading",
    "read",
]
