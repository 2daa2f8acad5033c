"""A saved version: facts at once, the model only when asked for."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from holdfast.catalogue.history import VersionInfo
from holdfast.errors import Corrupt
from holdfast.record import Content, Digest, Manifest, Record

if TYPE_CHECKING:
    import numpy as np

    from holdfast.api.load import Loaded
    from holdfast.api.predictor import Predictor
    from holdfast.api.store import Store
    from holdfast.archive.golden import Replay
    from holdfast.archive.write import Written

__all__ = ["Version"]


class Version:
    """One saved model. Nothing of it is run or built until ``load`` or ``replay``.

    Attributes:
        name: The model's name.
        number: Version number, from 1.
        ref: ``name@vN``.
        store: The store it is in.
        info: What the log says of it: aliases, tags, pin.
        proof: How far the last save or load in this process proved it; None before.
        saved: Bytes written by the save that made this object; None after ``get``.
        same_content_as: Reference of an earlier version with the same content, told by the save.
        steps: Seconds per step of that save.
        healed: Blobs that had gone bad in the store and that this save wrote anew.
    """

    def __init__(  # noqa: PLR0913 - what one save told, each under its name
        self,
        store: Store,
        info: VersionInfo,
        *,
        proof: str | None = None,
        saved: Written | None = None,
        steps: Mapping[str, float] | None = None,
        same_content_as: str | None = None,
        healed: int = 0,
    ) -> None:
        self.store = store
        self.info = info
        self.proof = proof
        self.saved = saved
        self.steps = dict(steps or {})
        self.same_content_as = same_content_as
        self.healed = healed

    @property
    def name(self) -> str:
        """The model's name."""
        return self.info.name

    @property
    def number(self) -> int:
        """Version number, from 1."""
        return self.info.number

    @property
    def ref(self) -> str:
        """``name@vN``."""
        return f"{self.info.name}@v{self.info.number}"

    @property
    def content_id(self) -> Digest:
        """Digest that names what was saved."""
        return Digest(self.info.content)

    @property
    def record_id(self) -> Digest:
        """Digest that names the whole record."""
        return Digest(self.info.record)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Aliases that point here."""
        return tuple(self.info.aliases)

    @cached_property
    def record(self) -> Record:
        """All that was said at save; its bytes are hashed on reading."""
        return Record.decode(self.store.blobs.read(self.record_id))

    @cached_property
    def content(self) -> Content:
        """Structure, tensors and files; its bytes are hashed on reading."""
        return Content.decode(self.store.blobs.read(self.content_id))

    @cached_property
    def manifest(self) -> Manifest:
        """Which blobs hold the tensors.

        Raises:
            Corrupt: It is of another content or record than the log says, so that a reference by
                digest would load something else.
        """
        found = Manifest.decode(self.store.blobs.read(Digest(self.info.manifest)))
        if (found.content, found.record) != (self.info.content, self.info.record):
            raise Corrupt(
                f"The log entry of {self.ref} names a manifest of another version.",
                hint=f"hold log {self.name}",
                ref=self.ref,
            )
        return found

    @property
    def manifest_id(self) -> Digest:
        """Digest of the manifest, once it is known to be of this content and record."""
        assert self.manifest is not None  # noqa: S101 - reading it is the check
        return Digest(self.info.manifest)

    @property
    def metrics(self) -> dict[str, Any]:
        """Numbers given at save."""
        return dict(self.record.metrics)

    @property
    def size(self) -> int:
        """Plain bytes of the model's tensors and files."""
        pieces = sum(piece.size for piece in self.manifest.pieces)
        return pieces + sum(entry.size for entry in self.content.files)

    def tensors(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return the tensors by name, each read and verified when it is looked up.

        Values are numpy arrays mapped from the store; bfloat16 and float8 come as their raw
        unsigned integers when the ``ml_dtypes`` package is not installed.
        """
        from holdfast.api.tensors import LazyTensors

        return LazyTensors(self)

    def attached(self, role: str, *, most: int = 1 << 30) -> bytes | None:
        """Return the newest attachment of a role, such as ``pylock``; None where there is none.

        Raises:
            Corrupt: It is missing, damaged, or longer than ``most``.
        """
        from holdfast.api.attachments import attached

        return attached(self, role, most=most)

    def load(self, **options: Any) -> Any:
        """Build and prove the model; the options of ``holdfast.load``."""
        return self.load_proven(**options).model

    def load_proven(self, **given: Any) -> Loaded:
        """Like ``load``, and return how far the model is proven beside it."""
        from holdfast.api import ladder, load

        wanted = load.options(
            given.pop("into", None), given.pop("device", "auto"), given.pop("rename", None)
        )
        usual = {"environment": "auto", "verify": "auto", "replay": "auto"}
        loaded = ladder.load_version(self, wanted, **{**usual, **given})
        self.proof = loaded.proof
        return loaded

    def predictor(self, **options: Any) -> Predictor:
        """Load the model behind a check of its inputs; the options of ``holdfast.load``."""
        from holdfast.api.predictor import Predictor

        return Predictor(self.load(**options), self.content, self.ref)

    def replay(self, **options: Any) -> Replay | None:
        """Load the model here and run its golden set, stamp or not; None without a golden set."""
        return self.load_proven(**{"environment": "here", **options}, replay="always").replay

    def facts(self) -> dict[str, str]:
        """Return what is worth showing, as texts by title."""
        from holdfast.api.threshold import threshold_words

        record, content = self.record, self.content
        libraries = record.environment.get("packages", {})
        facts = {
            "saved": f"{record.created[:19]}Z by {record.author}",
            "framework": content.framework,
            "with": ", ".join(f"{k} {v}" for k, v in libraries.items()),
            "content": self.content_id,
            "aliases": ", ".join(self.aliases),
            "attached": ", ".join(self.info.attachments),
            "metrics": ", ".join(f"{k} {v:g}" for k, v in record.metrics.items()),
            "labels": ", ".join(content.signature.get("labels", ())),
            "threshold": threshold_words(content.signature),
            "golden set": _golden_words(record),
            "portable": _portable_words(record),
            "note": record.note or "",
            "license": record.license or "not set",
        }
        return {title: text for title, text in facts.items() if text}

    def __repr__(self) -> str:
        return f"<Version {self.ref} {self.info.at[:16]}Z {self.content_id[:15]}>"

    def __str__(self) -> str:
        lines = [f"{title:<11} {text}" for title, text in self.facts().items()]
        return "\n".join([self.ref, *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left;padding-right:1em'>{html.escape(title)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for title, text in self.facts().items()
        )
        return f"<table><caption><b>{html.escape(self.ref)}</b></caption>{rows}</table>"


def _portable_words(record: Record) -> str:
    kept = record.portable
    if kept is None:
        return ""
    if "blob" not in kept:
        return f"none: {kept.get('reason')!s:.300}"
    outputs = kept.get("outputs")
    methods = ", ".join(map(str, outputs)) if isinstance(outputs, dict) else ""
    return f"{kept.get('format')!s:.20}: {methods:.100}"


def _golden_words(record: Record) -> str:
    if record.golden is None:
        return "none: bytes verified, behaviour not recorded"
    rows, method = record.golden["rows"], record.golden["method"]
    kind = "synthetic rows" if record.golden["level"] == "synthetic" else "rows"
    count = f"{rows} {kind}" if rows else "one call"
    shapes = ", shapes only (nondeterministic)" if record.golden["nondeterministic"] else ""
    return f"{count} through {method}(){shapes}"
