"""Versions into one file, and out of one into a store."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from holdfast.api.progress import counted
from holdfast.api.refs import parse_ref
from holdfast.api.store import Store, bundle_at, is_bundle, resolve
from holdfast.api.transferring import Transfer, transfer
from holdfast.api.version import Version
from holdfast.archive import oci, read
from holdfast.archive.bundle.write import Item, write
from holdfast.catalogue.history import VersionInfo, whole
from holdfast.errors import UsageError

__all__ = ["Bundled", "bundle", "unbundle"]


class Bundled(NamedTuple):
    """What was written.

    Attributes:
        path: The file.
        versions: References of the versions in it, sorted.
        blobs: Blobs in it.
        size: Its bytes.
    """

    path: str
    versions: list[str]
    blobs: int
    size: int


def bundle(
    refs: str | Sequence[str],
    path: str | os.PathLike[str],
    store: Store,
    *,
    history: bool = False,
    aliases: bool = False,
) -> Bundled:
    """Write versions to one file; see ``Store.bundle``.

    Args:
        refs: References; a bare name means its newest version, with ``history`` all of them.
        path: The file.
        store: Where the versions are.
        history: Put in the whole logs of the names.
        aliases: Put in the aliases of these versions.

    Raises:
        HoldfastError: As ``Store.bundle`` says; there is no file then.
    """
    target = Path(path).expanduser().absolute()
    named = refs if isinstance(refs, str) else " ".join(refs)
    if not is_bundle(target):
        inside = target.is_dir()
        other = target / "models.hold" if inside else target.with_suffix(".hold")
        what = "is a folder" if inside else "does not end in .hold"
        raise UsageError(
            f"{target} {what}; a bundle is a file whose name ends in .hold.",
            hint=f"hold bundle {named} {other}",
        )
    if target.exists():
        raise UsageError(
            f"{target} exists; a bundle is never written over.",
            hint=f"hold bundle {named} {_free(target)}",
            ref=str(target),
        )
    if not target.parent.is_dir():
        raise UsageError(f"There is no folder {target.parent}.", hint=f"mkdir -p {target.parent}")
    infos, logs = _chosen([refs] if isinstance(refs, str) else refs, store, history=history)
    store.fetch_documents(infos)
    items = [_item(info, store, aliases=aliases and not history) for info in infos]
    total = sum({digest: size for item in items for digest, size in item.sizes.items()}.values())
    with counted("bundling", total) as progress:
        done = write(target, store.blobs, items, logs, progress)
    versions = [f"{info.name}@v{info.number}" for info in infos]
    return Bundled(str(target), versions, done.blobs, done.size)


def _free(path: Path) -> Path:
    """Return a name like that of a file, which no file has."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(name for name in names if not name.exists())


def _chosen(
    refs: Sequence[str], store: Store, *, history: bool
) -> tuple[list[VersionInfo], dict[str, list[bytes]]]:
    """Return the versions that are meant, sorted, and the logs that go with them."""
    found: dict[tuple[str, int], VersionInfo] = {}
    logs: dict[str, list[bytes]] = {}
    for ref in refs:
        if not history:
            info = resolve(ref, store)
            found[info.name, info.number] = info
            continue
        name = parse_ref(ref).name
        versions = store.catalogue.history(name).versions.values()
        found |= {(name, info.number): info for info in versions if not info.forgotten}
        logs[name] = list(whole(store.catalogue.log, name))
    if not found:
        raise UsageError("There is no version to put into a bundle.", hint="hold ls")
    return [found[key] for key in sorted(found)], logs


def _item(info: VersionInfo, store: Store, *, aliases: bool) -> Item:
    manifest = Version(store, info).manifest_id
    documents = oci.Documents(manifest, *read.documents(store.blobs, manifest))
    return Item(
        name=info.name,
        number=info.number,
        documents=documents,
        sizes=read.sizes_of(store.blobs, manifest),
        attached={role: (state.blob, state.size) for role, state in info.attachments.items()},
        aliases=info.aliases if aliases else (),
    )


def unbundle(
    path: str | os.PathLike[str],
    to: Store | str | os.PathLike[str],
    *,
    history: bool = False,
    aliases: bool = False,
    dry_run: bool = False,
) -> Transfer:
    """Copy all versions of a bundle into a store; see ``transfer``.

    Args:
        path: The bundle.
        to: The store; it is made where there is none.
        history: Copy the whole logs instead, which must be in the bundle.
        aliases: Point the aliases in the bundle at these versions.
        dry_run: Only say what would be copied.

    Raises:
        NotFound: There is no such file.
        UsageError: The file is no bundle.
        HoldfastError: Nothing could be copied: the first reason.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        raise UsageError(
            f"{place} is a folder, not a bundle: a file whose name ends in .hold.",
            hint=f"hold pull NAME {place}  # where it is a store",
            ref=str(place),
        )
    if not is_bundle(place):
        raise UsageError(
            f"{place} is not the name of a bundle: it does not end in .hold.",
            hint=f"hold scan {place}",
            ref=str(place),
        )
    source = bundle_at(place)
    if history:
        refs = source.catalogue.log.names()
    else:
        refs = [f"{info.name}@v{info.number}" for info in source.catalogue.live()]
    return transfer(refs, source, to, history=history, aliases=aliases, dry_run=dry_run)
