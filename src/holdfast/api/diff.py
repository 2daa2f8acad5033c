"""What changed between two versions, from their records; nothing is loaded or run."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from holdfast.api.history import get
from holdfast.api.store import Store
from holdfast.api.version import Version
from holdfast.archive import golden as goldens
from holdfast.record import Digest

__all__ = ["Diff", "GoldenMove", "diff"]

_ABSENT = "absent"


class GoldenMove(NamedTuple):
    """How far the golden outputs moved.

    Attributes:
        comparable: True when both versions recorded the same inputs and method.
        rows: Rows compared.
        differing: Rows outside the tolerance.
        largest: Largest absolute difference.
        words: The same in words.
    """

    comparable: bool
    rows: int
    differing: int
    largest: float
    words: str


@dataclass(frozen=True, slots=True)
class Diff:
    """The differences of two versions; empty mappings where there are none.

    Attributes:
        before: Reference of the first version.
        after: Reference of the second.
        tensors: Tensor name to ``changed``, ``added`` or ``removed``, with shapes where they moved.
        tensor_count: Tensors of the second version.
        structure: True when anything but tensors differs in the model itself.
        files: File name to what happened to it.
        params: Name to (before, after).
        metrics: Name to (before, after).
        signature: Part to (before, after).
        environment: Package or fact to (before, after).
        golden: How far the golden outputs moved.
        size: Bytes (before, after).
    """

    before: str
    after: str
    tensors: dict[str, str]
    tensor_count: int
    structure: bool
    files: dict[str, str]
    params: dict[str, tuple[Any, Any]]
    metrics: dict[str, tuple[Any, Any]]
    signature: dict[str, tuple[Any, Any]]
    environment: dict[str, tuple[Any, Any]]
    golden: GoldenMove
    size: tuple[int, int]

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield (part, what changed) in reading order."""
        if self.tensors or self.tensor_count:
            yield "tensors", self._tensor_words()
        for name, what in self.tensors.items():
            yield f"  {name}", what
        if self.structure:
            yield "structure", "parameters or attributes inside the model changed"
        for name, what in self.files.items():
            yield f"file {name}", what
        for title in ("metrics", "params", "signature", "environment"):
            for name, (old, new) in getattr(self, title).items():
                yield f"{title}.{name}", _step(old, new)
        yield "golden", self.golden.words

    def _tensor_words(self) -> str:
        """Say how many tensors changed of how many, and how many came and went."""
        came = sum(what == "added" for what in self.tensors.values())
        went = sum(what == "removed" for what in self.tensors.values())
        words = f"{len(self.tensors) - came - went} of {self.tensor_count} tensors changed"
        return words + (f", {came} added" if came else "") + (f", {went} removed" if went else "")

    def document(self) -> dict[str, Any]:
        """Return the same facts as JSON-like values."""
        return {**asdict(self), "golden": self.golden._asdict()}

    def __repr__(self) -> str:
        lines = list(self.lines())
        width = min(48, max((len(part) for part, _ in lines), default=0))
        rows = [f"  {part:<{width}}  {what}" for part, what in lines]
        return "\n".join([f"{self.before} -> {self.after}", *rows])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left;padding-right:1em'>{html.escape(part.strip())}</th>"
            f"<td style='text-align:left'>{html.escape(what)}</td></tr>"
            for part, what in self.lines()
        )
        title = html.escape(f"{self.before} → {self.after}")
        return f"<table><caption><b>{title}</b></caption>{rows}</table>"


def diff(before: str, after: str, *, store: Store | str | os.PathLike[str] | None = None) -> Diff:
    """Compare two versions by their records.

    Args:
        before: Reference of the first version.
        after: Reference of the second.
        store: Store or path; default: the store in force.

    Raises:
        NotFound: One of them does not exist.
        Corrupt: A document is damaged.
    """
    old = get(before, store=store)
    new = get(after, store=old.store)
    one, two = old.content, new.content
    return Diff(
        before=old.ref,
        after=new.ref,
        tensors=_tensor_changes(old, new),
        tensor_count=len(two.tensors),
        structure=one.structure != two.structure or one.framework != two.framework,
        files=_presence(
            {entry.name: entry.digest for entry in one.files},
            {entry.name: entry.digest for entry in two.files},
        ),
        params=_changes(old.record.params, new.record.params),
        metrics=_changes(old.record.metrics, new.record.metrics),
        signature=_changes(_flat_signature(one.signature), _flat_signature(two.signature)),
        environment=_changes(_flat(old.record.environment), _flat(new.record.environment)),
        golden=_golden_move(old, new),
        size=(old.size, new.size),
    )


def _tensor_changes(old: Version, new: Version) -> dict[str, str]:
    one = {entry.name: entry for entry in old.content.tensors}
    two = {entry.name: entry for entry in new.content.tensors}
    changes = _presence(
        {k: v.digest for k, v in one.items()}, {k: v.digest for k, v in two.items()}
    )
    for name in one.keys() & two.keys():
        before, after = one[name], two[name]
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            changes[name] = (
                f"{before.dtype}{list(before.shape)} -> {after.dtype}{list(after.shape)}"
            )
    return dict(sorted(changes.items()))


def _presence(one: Mapping[str, str], two: Mapping[str, str]) -> dict[str, str]:
    changes = {}
    for name in sorted(one.keys() | two.keys()):
        if name not in two:
            changes[name] = "removed"
        elif name not in one:
            changes[name] = "added"
        elif one[name] != two[name]:
            changes[name] = "changed"
    return changes


def _changes(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (one.get(name, _ABSENT), two.get(name, _ABSENT))
        for name in sorted(one.keys() | two.keys())
        if one.get(name, _ABSENT) != two.get(name, _ABSENT)
    }


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            bare = name == "packages"
            flat.update(value if bare else {f"{name}.{key}": part for key, part in value.items()})
        else:
            flat[name] = value
    return flat


def _flat_signature(signature: Mapping[str, Any]) -> dict[str, Any]:
    """Split a frame's columns into one entry each, so that a new column is one line."""
    flat = {part: value for part, value in signature.items() if part != "inputs"}
    inputs = signature.get("inputs", {})
    if inputs.get("kind") == "frame":
        for column in inputs["columns"]:
            flat[f"input {column['name']!r}"] = column.get("dtype", "any")
        flat["order of inputs"] = [column["name"] for column in inputs["columns"]]
    elif inputs:
        flat["inputs"] = inputs
    return flat


def _golden_move(old: Version, new: Version) -> GoldenMove:
    if old.record.golden is None or new.record.golden is None:
        return GoldenMove(False, 0, 0, 0.0, "no golden set to compare on both sides")  # noqa: FBT003
    one, two = (goldens.Golden.parse(v.record.golden or {}) for v in (old, new))
    if one.parts["inputs"] != two.parts["inputs"] or one.method != two.method:
        words = "golden inputs differ, so outputs cannot be compared"
        return GoldenMove(False, 0, 0, 0.0, words)  # noqa: FBT003
    moved = goldens.outputs_apart(one, _blob(old, one), two, _blob(new, two))
    rows = one.rows or 1
    words = (
        f"{moved.reason}"
        if moved.reason
        else f"{moved.differing} of {rows} golden rows moved, "
        f"largest difference {moved.largest:.3g}"
    )
    return GoldenMove(True, rows, moved.differing, moved.largest, words)  # noqa: FBT003


def _blob(version: Version, golden: goldens.Golden) -> memoryview | None:
    if golden.blob is None:
        return None
    return memoryview(version.store.blobs.read(Digest(golden.blob)))


def _step(old: Any, new: Any) -> str:
    if isinstance(old, int | float) and isinstance(new, int | float):
        return f"{old:g} -> {new:g} ({new - old:+g})"
    return f"{_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"
