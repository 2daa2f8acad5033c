"""What is in a bundle, for a scan: tensors as its documents tell them, and every file by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from holdfast.api.store import is_bundle
from holdfast.archive import oci, read
from holdfast.archive.bundle.blobs import BundleBlobs
from holdfast.archive.bundle.open import Bundle, open_bundle
from holdfast.catalogue.history import VersionInfo
from holdfast.errors import Corrupt, UsageError
from holdfast.record import Digest
from holdfast.trust.report import Finding, Report, Severity
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.source import Source
from holdfast.trust.tars import is_tar

__all__ = ["look_at_bundle"]

_FIRST = b"oci-layout\0"


def look_at_bundle(scanner: Scanner, source: Source, path: Path, name: str) -> Report | None:
    """Report on a bundle: its versions, and in them whatever is a file.

    Pieces of tensors and documents are no files by themselves. Bytes are not hashed here.

    Args:
        scanner: The scan.
        source: The open file.
        path: Where it is.
        name: What the report calls it.

    Returns:
        None for a file that is none. One that is called a bundle and is none is reported as what
        it is, with the reason.
    """
    head = source.read(0, 512)
    if not is_tar(head) or not head.startswith(_FIRST):
        return None
    try:
        bundle = open_bundle(path)
        return _Looking(scanner, source, bundle).report(name)
    except UsageError:  # an image layout of something else
        return None
    except Corrupt as error:
        if not is_bundle(path):
            return None
        report = scanner.look(source, name)
        finding = Finding(severity=Severity.BROKEN, what=error.message[:300])
        return replace(report, findings=(finding, *report.findings))


class _Looking:
    """One bundle on its way to a report."""

    def __init__(self, scanner: Scanner, source: Source, bundle: Bundle) -> None:
        self._scanner = scanner
        self._source = source
        self._bundle = bundle
        self._known: set[int] = set()  # where what belongs to a version begins

    def report(self, name: str) -> Report:
        """Return the report; raises ``Corrupt``."""
        draft = Draft(name, "bundle", self._source.size, self._scanner.allowance)
        for info in self._bundle.catalogue.live():
            if not self._scanner.may_look(0):
                draft.broken("it has more versions than are looked into")
                break
            draft.members.append(self._version(info))
        for member in draft.members:
            draft.count_tensors(member)
        draft.members.extend(self._strays())
        return self._scanner.concluded(draft, "tar", self._source)

    def _version(self, info: VersionInfo) -> Report:
        blobs = self._bundle.blobs
        documents = oci.Documents(info.manifest, *read.documents(blobs, info.manifest))
        sizes = read.sizes_of(blobs, info.manifest)
        size = sum(sizes.values())
        draft = Draft(f"{info.name}@v{info.number}", "version", size, self._scanner.allowance)
        draft.framework = documents.content.framework
        for entry in documents.content.tensors:
            draft.tensor(entry.name, entry.dtype, tuple(entry.shape))
        attached = {role: (state.blob, state.size) for role, state in info.attachments.items()}
        for layer in oci.layers_of(documents, sizes, attached):
            is_file = layer.first is None and layer.path not in oci.DOCUMENTS
            for digest, _ in layer.blobs:
                self._known.add(blobs.span(digest).start)
                if is_file:
                    draft.members.append(self._look(digest, layer.path))
        return draft.report()

    def _look(self, digest: Digest, name: str) -> Report:
        span = self._bundle.blobs.span(digest)
        return self._scanner.look(self._source.window(span.start, span.size), name, 1)

    def _strays(self) -> Iterator[Report]:
        """Yield reports on blobs of no version, but for the documents of the archive itself."""
        blobs: BundleBlobs = self._bundle.blobs
        for blob in blobs.list():
            if blobs.span(blob.digest).start not in self._known:
                report = self._look(blob.digest, f"blobs/{blob.digest}")
                if report.kind != "json" or report.findings:
                    yield report
