"""What the caller says of a version, checked and made JSON before anything is written."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from holdfast.archive.paths import is_file_name
from holdfast.errors import UsageError
from holdfast.trust import secrets

__all__ = ["Said", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The caller's words about a version, as JSON-like values.

    Attributes:
        metrics: Finite numbers by name.
        params: JSON-like values by name.
        labels: Names of the output classes in order, or None.
        threshold: Least probability of the second class for it to be the answer, or None.
        data: What the caller says of the training data.
        parents: References or record ids of the versions this one was made from.
        tags: Texts by name.
        note: Free text.
        license: SPDX expression or free text.
        files: Extra files by relative path.
    """

    metrics: dict[str, Any]
    params: dict[str, Any]
    labels: list[str] | None
    threshold: float | None
    data: Any
    parents: tuple[str, ...]
    tags: dict[str, str]
    note: str | None
    license: str | None
    files: dict[str, bytes]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Said:
        """Check what ``save`` was given; raises ``UsageError`` naming the place."""
        metrics = plain(given.get("metrics") or {}, "metrics")
        for name, value in metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UsageError(f"metrics.{name} is {value!r:.60}; a metric is a number.")
        tags = plain(given.get("tags") or {}, "tags")
        labels = given.get("labels")
        return cls(
            metrics=metrics,
            params=plain(given.get("params") or {}, "params"),
            labels=None if labels is None else [str(item) for item in _listed(labels, "labels")],
            threshold=_threshold(given.get("threshold")),
            data=plain(given.get("data"), "data"),
            parents=tuple(str(item) for item in _listed(given.get("parents", ()), "parents")),
            tags={name: str(value) for name, value in tags.items()},
            note=_text(given.get("note"), "note"),
            license=_text(given.get("license"), "license"),
            files=_files(given.get("files") or {}),
        )

    def refuse_secrets(self, allowed: Sequence[str]) -> None:
        """Raise ``SecretFound`` when anything looks like a credential and is not allowed."""
        places = {
            "params": self.params,
            "metrics": self.metrics,
            "data": self.data,
            "tags": self.tags,
            "note": self.note,
            "license": self.license,
            "labels": self.labels,
        }
        findings = [
            finding
            for place, value in places.items()
            for finding in secrets.find_secrets(value, place)
        ]
        for name, content in self.files.items():
            findings.extend(secrets.find_in_bytes(content, f"files[{name!r}]"))
        secrets.refuse_secrets(findings, frozenset(allowed))


def plain(value: Any, place: str) -> Any:  # noqa: PLR0911 - one kind of value per line
    """Turn numpy scalars, tuples and paths into JSON values; refuse what JSON cannot hold.

    Raises:
        UsageError: A value has no JSON form; the message names its place.
    """
    match value:
        case None | bool() | str():
            return value
        case int() if abs(value) < 2**53:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case np.generic():
            return plain(value.item(), place)
        case os.PathLike():
            return os.fspath(value)
        case Mapping():
            return {_key(key, place): plain(item, f"{place}.{key}") for key, item in value.items()}
        case list() | tuple():
            return [plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
        case np.ndarray() if value.size <= 10_000:
            return plain(value.tolist(), place)
    what = repr(value)[:60] if isinstance(value, int | float) else f"a {type(value).__name__}"
    root, _, key = place.partition(".")
    if root == "metrics":
        hint = "metrics = {k: v for k, v in metrics.items() if math.isfinite(v)}"
    else:
        hint = f'{root}["{key}"] = str({root}["{key}"])' if key else f"{root} = str({root})"
    raise UsageError(f"{place} is {what}, which JSON cannot hold.", hint=hint)


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise UsageError(f"{place} has the key {key!r:.60}; names are texts.")
    return key


def _listed(value: Any, place: str) -> list[Any]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise UsageError(f"{place}= takes a list, not {type(value).__name__}.")
    return list(value)


def _threshold(value: Any) -> float | None:
    if value is None:
        return None
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < 1:
        raise UsageError(
            f"threshold={value!r:.60} is not a probability between 0 and 1.",
            hint="holdfast.save(model, name, threshold=0.3)",
        )
    return float(number)


def _text(value: Any, place: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise UsageError(f"{place}= takes a text, not {type(value).__name__}.")


def _files(given: Any) -> dict[str, bytes]:
    """Read extra files: a mapping of name to path or bytes, or a list of paths."""
    if not isinstance(given, Mapping):
        paths = [Path(item) for item in _listed(given, "files")]
        given = {path.name: path for path in paths}
    result: dict[str, bytes] = {}
    for name, source in given.items():
        relative = unicodedata.normalize("NFC", str(PurePosixPath(str(name))))
        if not is_file_name(relative):
            raise UsageError(
                f"files[{name!r}]: a name is a relative path with '/', without '..', ':' or '\\'."
            )
        if isinstance(source, bytes | bytearray | memoryview):
            result[relative] = bytes(source)
            continue
        try:
            result[relative] = Path(source).read_bytes()
        except OSError as error:
            raise UsageError(
                f"files[{name!r}] cannot be read: {error.strerror or error}", hint=f"ls -l {source}"
            ) from error
    return result
