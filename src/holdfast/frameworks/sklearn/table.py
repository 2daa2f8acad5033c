"""The reviewed table of scikit-learn types: which classes and which attributes a file may name."""

from __future__ import annotations

import json
from importlib import resources
from typing import Final, NamedTuple

__all__ = ["TABLE", "Entry"]


class Entry(NamedTuple):
    """One type.

    Attributes:
        classes: ``module:qualname`` over all supported releases, the newest last.
        fields: Attributes that an instance may have.
    """

    classes: tuple[str, ...]
    fields: frozenset[str]


def _read() -> dict[str, Entry]:
    text = resources.files("holdfast.frameworks.sklearn").joinpath("types.json").read_text("utf-8")
    return {
        id_: Entry(tuple(entry["classes"]), frozenset(entry["fields"].split()))
        for id_, entry in json.loads(text).items()
    }


TABLE: Final = _read()
