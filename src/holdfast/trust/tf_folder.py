"""The folder of a SavedModel: which files are its own, and whether its variables are all there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["INDEX", "MAIN", "is_part", "lacking"]

MAIN: Final = "saved_model.pb"
INDEX: Final = "variables/variables.index"
_DATA: Final = re.compile(r"variables/variables(\.data-[0-9]{5}-of-[0-9]{5})")


def is_part(name: str) -> bool:
    """Say whether a file is one that a SavedModel without assets consists of."""
    own = (MAIN, INDEX, "fingerprint.pb", "keras_metadata.pb")
    return name in own or _DATA.fullmatch(name) is not None


def lacking(needs: Mapping[str, int] | None, sizes: Mapping[str, int]) -> str | None:
    """Say what the variables lack.

    Args:
        needs: What ``TfCheckpoint.needs`` says; None where there is no index.
        sizes: Bytes of each file of the folder.
    """
    found = {data[1]: sizes[name] for name in sizes if (data := _DATA.fullmatch(name)) is not None}
    if needs is None:
        return f"the SavedModel has variables and no {INDEX}" if found else None
    for ending, size in needs.items():
        if ending not in found:
            return f"the checkpoint has no file …{ending}"
        if size > found[ending]:
            return f"tensors of the checkpoint lie beyond the end of the file …{ending}"
    return None
