"""Under which conditions a program holds: those that torch checks, and those that would be lost.

torch writes the conditions beside the graph as Python, which an archive of Holdfast never holds.
Limits of sizes, and sizes that are equal, are in the graph as well and are checked without them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from holdfast.errors import Unsupported

__all__ = ["refuse_lost"]

_SIZE: Final = r"L\['\w+'\](?:\[(?:\d+|'\w+')\])*\.size\(\)\[\d+\]"
_KNOWN: Final = re.compile(rf"{_SIZE} (?:==|<=|>=|<|>) \d+|\d+ == {_SIZE}|{_SIZE} == {_SIZE}")


def refuse_lost(graph: Mapping[str, Any]) -> None:
    """Refuse a program that holds only under conditions which its graph does not say.

    Raises:
        Unsupported: For other inputs it would answer wrongly without a word.
    """
    guards = graph.get("guards_code")
    for guard in guards if isinstance(guards, list) else ():
        if not isinstance(guard, str) or not _KNOWN.fullmatch(guard):
            shown = re.sub(_SIZE, "size", str(guard))
            raise Unsupported(
                f"its graph holds only for inputs of which {shown:.80}",
                hint="torch.export.export(model, arguments)  # with those sizes fixed",
            )
