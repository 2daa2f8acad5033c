"""What every portable form says of itself in a record, whatever kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import msgspec

from holdfast.errors import Corrupt

__all__ = ["PortableForm"]


class PortableForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A portable form as the record describes it.

    Attributes:
        format: Which kind.
        blob: Digest of its bytes.
        size: Their number.
        rows: Rows on which its answers were compared with the model's.
        by: Distributions that made and measured it, with their releases.
    """

    format: str
    blob: str
    size: int
    rows: int
    by: dict[str, str]

    def document(self) -> dict[str, Any]:
        """Return the JSON-like form for the record."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read the record's field.

        Raises:
            Corrupt: It contradicts itself, or says what no release writes.
        """
        try:
            form = msgspec.convert(document, cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Corrupt(f"the record's portable form is damaged: {error!s:.200}") from error
        wrong = form.fault()
        if wrong:
            raise Corrupt(f"the record's portable form is damaged: {wrong}")
        return form

    def fault(self) -> str | None:
        """Return what of it cannot be, or None; each kind says so of its own fields."""
        raise NotImplementedError
