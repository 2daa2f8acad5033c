"""Saving: everything is written and replayed before the version becomes visible."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from holdfast import frameworks
from holdfast.api import forming
from holdfast.api.files import model_from_file
from holdfast.api.load import behaviour_of, mismatch, open_for
from holdfast.api.progress import bytes_progress
from holdfast.api.said import Said
from holdfast.api.store import Store, resolve, the_store
from holdfast.api.threshold import refuse_unusable
from holdfast.api.version import Version
from holdfast.archive import frames, golden as goldens, signature, write
from holdfast.catalogue.history import VersionInfo
from holdfast.catalogue.names import check_name
from holdfast.durable import mapped_os_errors
from holdfast.environment import capture
from holdfast.environment.facts import facts
from holdfast.errors import Corrupt, EnvironmentMismatch, NoSpace, NotFound, Unsupported, UsageError
from holdfast.frameworks import Adapter, LoadOptions, Payload
from holdfast.record import Content, Digest, FileEntry, Manifest, Record
from holdfast.store.transfer import missing_blobs
from holdfast.trust import secrets

__all__ = ["save"]


def save(  # noqa: PLR0913 - the public face, DESIGN section 6
    model: Any,
    name: str,
    *,
    inputs: Any = None,
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
    metrics: Mapping[str, float] | None = None,
    params: Mapping[str, Any] | None = None,
    data: Any = None,
    parents: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    license: str | None = None,  # noqa: A002 - the field's own word
    files: Mapping[str, Any] | Sequence[os.PathLike[str]] | None = None,
    golden: str | None = "inputs",
    portable: str | None = "auto",
    store: Store | str | os.PathLike[str] | None = None,
    allow_secrets: Sequence[str] = (),
) -> Version:
    """Keep a model as a new version of ``name``.

    The version becomes visible only after its bytes are durable and the reloaded model has
    answered the golden set as the live one did.

    Args:
        model: The live object: an estimator, a module, a state dictionary, arrays; or a
            ``pathlib.Path`` to a safetensors, npz or ONNX file.
        name: The model's name, lower case.
        inputs: Rows the model was made for (DataFrame of pandas, polars or Arrow, array, sparse
            matrix, tensor, list of texts; tuple or dictionary of them). Up to 64 rows or 1 MB are
            kept as the golden set.
        labels: Names of the output classes, in order.
        threshold: For a classifier of two classes: ``predictor().predict`` answers the second
            where its probability is at least this, in place of the usual half.
        metrics: Numbers worth comparing between versions.
        params: Hyper-parameters and other JSON-like facts.
        data: What the model was trained on: a path, a digest, a description.
        parents: References of the versions this one was made from.
        tags: Texts by name.
        note: Free text.
        license: SPDX expression of the weights' licence.
        files: Files to keep with it: name to path or bytes, or a list of paths.
        golden: ``"inputs"``; ``"synthetic"`` keeps none of the caller's rows; None keeps nothing.
        portable: ``"auto"``: estimators of scikit-learn also get a form that answers without their
            library, where skl2onnx is installed, the conversion is quick and its answers prove
            equal within the precision of float32; ``"onnx"``: it must have one.
            ``"torch.export"``: a module must have a program that answers without its class. None:
            none.
        store: Store or path; default: the store in force, made when it is not there.
        allow_secrets: Places that look like credentials and may be stored all the same.

    Returns:
        The new version.

    Raises:
        Unsupported: The object cannot be kept; the message names the attribute and the fix.
        SecretFound: A value looks like a credential.
        BehaviourMismatch: The reloaded model answers otherwise; nothing became visible.
        NoSpace: The disk is full; nothing became visible.
        UsageError: An argument is not usable.
    """
    check_name(name)
    given = {
        "labels": labels, "threshold": threshold, "metrics": metrics, "params": params,
        "data": data, "parents": parents, "tags": tags, "note": note, "license": license,
        "files": files,
    }  # fmt: skip
    said = Said.of(given)
    said.refuse_secrets(allow_secrets)
    if isinstance(model, Path):
        model = model_from_file(model)
    opened = the_store(store, create=True)
    with capture.GitSource() as source, mapped_os_errors(opened.disk, f"saving {name}"):
        return _Saving(opened, name, said, allow_secrets, source).run(
            model, inputs, golden, portable
        )


class _Kept(NamedTuple):
    """What is in the store, not yet visible: the manifest, and the blobs it does not name."""

    written: write.Written
    manifest: Manifest
    manifest_id: Digest
    others: tuple[Digest, ...]

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """Every blob the version needs, each once."""
        named = [
            self.manifest_id,
            self.manifest.content,
            self.manifest.record,
            *(piece.digest for piece in self.manifest.pieces),
            *self.others,
        ]
        return tuple(map(Digest, dict.fromkeys(named)))


class _Saving:
    """One save: the steps in order, each leaving nothing visible if it fails."""

    def __init__(
        self,
        store: Store,
        name: str,
        said: Said,
        allow: Sequence[str],
        source: capture.GitSource,
    ) -> None:
        self.store = store
        self.name = name
        self.said = said
        self.allowed = frozenset(allow)
        self.registry = frameworks.registry()
        self.steps: dict[str, float] = {}
        self._started = time.perf_counter()
        self._source = source

    def run(self, model: Any, inputs: Any, mode: str | None, portable: str | None) -> Version:
        adapter = frameworks.adapter_for(model)
        parents = tuple(self._parent(ref) for ref in self.said.parents)
        payload = adapter.pack(model, self.registry)
        self._refuse_secrets(payload)
        self._step("encode")
        inputs = frames.native(inputs)
        behaviour = behaviour_of(adapter, model)
        captured = goldens.capture(behaviour, inputs, self.registry, mode=mode)
        if self.said.threshold is not None:
            refuse_unusable(model, behaviour, captured)
        self._step("record golden outputs")
        subject = forming.Subject(adapter, model, captured, inputs, payload)
        form = forming.formed(portable, subject, self.registry)
        self._step("portable form")
        described = self._signature(captured, inputs, model)
        record = self._record(adapter, model, payload, captured, parents)
        record = msgspec.structs.replace(record, portable=None if form is None else form.document)
        beside = [each.blob for each in (captured, form) if each is not None and each.blob]
        kept = self._write(adapter, payload, beside, described, record)
        self._step("hash and write")
        healed = 0
        try:
            proof = self._prove(adapter, kept.manifest_id, captured, model, payload)
        except Corrupt:
            healed = self._set_damaged_aside(kept)
            if not healed:
                raise
            kept = self._write(adapter, payload, beside, described, record)
            proof = self._prove(adapter, kept.manifest_id, captured, model, payload)
        self._step("re-read and replay")
        twins = self.store.catalogue.by_content(self.name, kept.manifest.content)
        info = self._commit(kept, record.author)
        self._step("register")
        return Version(
            self.store,
            info,
            proof=proof,
            saved=kept.written,
            steps=self.steps,
            same_content_as=f"{self.name}@v{twins[-1].number}" if twins else None,
            healed=healed,
        )

    def _step(self, name: str) -> None:
        now = time.perf_counter()
        self.steps[name] = now - self._started
        self._started = now

    def _parent(self, ref: str) -> str:
        return resolve(ref, self.store).record

    def _refuse_secrets(self, payload: Payload) -> None:
        texts = [
            part
            for node in payload.structure.nodes
            if node[0] in ("str", "strings")
            for part in (node[1] if isinstance(node[1], list | tuple) else [node[1]])
        ]
        findings = list(secrets.find_secrets(texts, "model"))
        for name, content in payload.files.items():
            findings.extend(secrets.find_in_bytes(content, f"files[{name!r}]"))
        secrets.refuse_secrets(findings, self.allowed)

    def _signature(
        self, captured: goldens.Captured | None, inputs: Any, model: Any
    ) -> dict[str, Any]:
        described: dict[str, Any] = {}
        if inputs is not None:
            described["inputs"] = signature.describe(inputs, model)
        elif captured is not None:  # made up
            made = signature.describe(captured.inputs, model)
            described["inputs"] = signature.without_dtypes(made)
        if captured is not None:
            described["outputs"] = signature.describe(captured.outputs)
            described["method"] = captured.golden.method
        told = {
            "classes": signature.classes_of(model),
            "labels": self.said.labels,
            "threshold": self.said.threshold,
        }
        return described | {part: value for part, value in told.items() if value is not None}

    def _record(
        self,
        adapter: Adapter,
        model: Any,
        payload: Payload,
        captured: goldens.Captured | None,
        parents: tuple[str, ...],
    ) -> Record:
        """Gather what is said of the version; its content is not known yet."""
        needs = frameworks.packages_of(adapter, model, payload.structure)
        if captured is not None and frames.is_frame(captured.inputs):
            needs = (*needs, "pandas")
        here = capture.capture(needs)
        told = facts(here["packages"])
        return Record(
            content="",
            created=capture.now(),
            author=capture.author(),
            environment={**here, **told, **payload.facts},
            golden=None if captured is None else captured.golden.document(),
            metrics=self.said.metrics,
            params=self.said.params,
            data=self.said.data,
            parents=parents,
            tags=self.said.tags,
            note=self.said.note,
            license=self.said.license,
            source=self._source.answer(),
        )

    def _write(
        self,
        adapter: Adapter,
        payload: Payload,
        beside: Sequence[bytes],
        described: dict[str, Any],
        record: Record,
    ) -> _Kept:
        """Write blobs first, then the documents that name them, the manifest last."""
        blobs = self.store.blobs
        written = self._write_tensors(payload)
        files = {**payload.files, **self.said.files}
        if len(files) < len(payload.files) + len(self.said.files):
            raise UsageError("files= names a file that the model itself needs; rename it.")
        digests = {name: write.write_document(blobs, data) for name, data in files.items()}
        content = Content(
            framework=adapter.ID,
            structure=payload.structure,
            tensors=written.entries,
            files=tuple(
                FileEntry(name=name, size=memoryview(files[name]).nbytes, digest=digests[name])
                for name in sorted(files)
            ),
            signature=described,
        )
        others = [write.write_document(blobs, data) for data in beside]
        content_id = write.write_document(blobs, content.encode())
        record = msgspec.structs.replace(record, content=content_id)
        manifest = Manifest(
            content=content_id,
            record=write.write_document(blobs, record.encode()),
            pieces=written.pieces,
        )
        named = [*others, *(Digest(entry.digest) for entry in content.files)]
        return _Kept(
            written, manifest, write.write_document(blobs, manifest.encode()), tuple(named)
        )

    def _write_tensors(self, payload: Payload) -> write.Written:
        total = sum(data.nbytes for data in payload.tensors.values())
        known = self._known()
        if not known:  # nothing to share with, so all of it will be written
            self._require_space(total)
        with bytes_progress(f"saving {self.name}", total) as progress:
            return write.write_tensors(
                self.store.blobs, payload.tensors, known=known, progress=progress
            )

    def _set_damaged_aside(self, kept: _Kept) -> int:
        """Take blobs whose bytes went bad out of the way, so they are written anew; count them."""
        return sum(map(self.store.blobs.drop_damaged, kept.blobs))

    def _require_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.store.disk).free
        if needed > free:
            raise NoSpace(
                f"Needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB free in {self.store.disk}. "
                "Nothing was written; all earlier versions are intact.",
                hint="hold prune --dry-run",
                ref=self.name,
            )

    def _known(self) -> frozenset[Digest]:
        """Return the pieces of the newest version: what this one probably shares."""
        try:
            newest = self.store.catalogue.resolve(self.name, None)
            manifest = Manifest.decode(self.store.blobs.read(Digest(newest.manifest)))
        except (NotFound, Corrupt):
            return frozenset()
        return frozenset(Digest(piece.digest) for piece in manifest.pieces)

    def _prove(
        self,
        adapter: Adapter,
        manifest: Digest,
        captured: goldens.Captured | None,
        model: Any,
        payload: Payload,
    ) -> str:
        """Build the model again from the store and replay its golden set."""
        opened = open_for(self.store, manifest, self.registry, verify="auto", live=payload.tensors)
        try:
            again = adapter.unpack(opened.parts, self.registry, LoadOptions(device="cpu"))
        except EnvironmentMismatch:  # a class of the user's own: it loads with into= or register
            return "state only"
        if captured is None:
            self._require_same(adapter, model, again)
            return "state only"
        result = opened.replay(behaviour_of(adapter, again), self.registry)
        if not result.passed:
            live = goldens.replay(
                captured.golden,
                None if captured.blob is None else memoryview(captured.blob),
                behaviour_of(adapter, model),
                self.registry,
            )
            raise mismatch(self.name, result, opened.record, at_save=True, steady=live.passed)
        self._require_same(adapter, model, again)
        return opened.level(result)

    def _require_same(self, adapter: Adapter, model: Any, again: Any) -> None:
        """Refuse what would lose something; both have answered the same calls by now."""
        found = adapter.difference(model, again, self.registry)
        if found is not None:
            raise Unsupported(
                f"{found}, so {self.name} would not be kept whole. Nothing became visible.",
                hint="python -m pip install --upgrade holdfast-ml  # or leave that part out",
                ref=self.name,
            )

    def _commit(self, kept: _Kept, author: str) -> VersionInfo:
        """Make the version visible: all blobs present and durable, then one log entry."""
        self._require_blobs(kept.blobs)
        self.store.blobs.flush()
        info = self.store.catalogue.add_version(
            self.name,
            record=Digest(kept.manifest.record),
            content=Digest(kept.manifest.content),
            manifest=kept.manifest_id,
            by=author,
        )
        self._require_blobs(kept.blobs)
        return info

    def _require_blobs(self, blobs: Collection[Digest]) -> None:
        missing = missing_blobs(self.store.blobs, blobs)
        if missing:
            raise Corrupt(
                f"{len(missing)} blobs of {self.name} vanished while it was being saved; "
                "was something deleting files in the store?",
                hint="hold verify --no-replay",
            )
