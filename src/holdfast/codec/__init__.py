"""An object graph without pickle: encode, audit, decode.

Reading is three steps. *Audit* judges the node table as data and imports nothing; *decode* builds
only what the audit has seen. No step recurses, so nesting costs memory in proportion and never
the stack.
"""

from __future__ import annotations

from holdfast.codec.audit import Audit, Summary, audit
from holdfast.codec.builtins import TYPES
from holdfast.codec.decode import decode
from holdfast.codec.encode import Encoded, encode
from holdfast.codec.same import first_difference, same_bytes

__all__ = [
    "TYPES",
    "Audit",
    "Encoded",
    "Summary",
    "audit",
    "decode",
    "encode",
    "first_difference",
    "same_bytes",
]
