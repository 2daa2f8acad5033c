"""Being written."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

ID = "tensorflow"
TYPES: Sequence[Any] = ()
READS: Mapping[str, Callable[..., Any]] = {}
WRITES: Mapping[str, Callable[..., Any]] = {}


def owns(model: object) -> bool:
    return False
