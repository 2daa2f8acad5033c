"""Making sure of an environment while it can be had: its lock, and its wheels in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from holdfast.api import worker
from holdfast.api.attachments import attach
from holdfast.api.history import get
from holdfast.api.progress import waiting
from holdfast.api.settings import cache_folder
from holdfast.api.store import Store, the_store
from holdfast.api.version import Version
from holdfast.durable import mapped_os_errors
from holdfast.environment import lock as locks, wheelhouse
from holdfast.environment.wheelhouse import Bundled
from holdfast.errors import UsageError

__all__ = ["Bundled", "bundle", "lock"]

StoreLike = Store | str | os.PathLike[str] | None


def lock(ref: str, *, store: StoreLike = None) -> Version:
    """Ask the package index what a version's environment consists of, and keep that beside it.

    The lock is a ``pylock.toml`` (PEP 751) for the recorded Python on every kind of machine, of
    what the index had when the version was saved. From then on its wheels, by their digests, are
    all that is installed for the version. A second lock takes the place of the first.

    Args:
        ref: The version.
        store: Store or path; default: the store in force.

    Returns:
        The version; ``version.attached("pylock")`` are the lock's bytes.

    Raises:
        EnvironmentMismatch: No uv, no network, or no such wheels; nothing was written.
    """
    version = get(ref, store=store)
    wanted = worker.plan_for(version)
    until = [] if wanted.as_of is None else ["--exclude-newer", wanted.as_of]
    with worker.named(version.ref):
        with (
            mapped_os_errors(cache_folder(), f"locking {version.ref}"),
            waiting(f"Locking {version.ref}"),
            locks.workplace(cache_folder()) as place,
        ):
            made = locks.compiled(
                wanted.requirements, wanted.python, place, words=["--universal", *until]
            )
        data = locks.published(made)
        locks.locked(wanted, data)
    attach(version, "pylock", data)
    return version


def bundle(refs: Sequence[str], to: str | os.PathLike[str], *, store: StoreLike = None) -> Bundled:
    """Collect in a folder the wheels of the environments of versions, for this kind of machine.

    Each is checked against the version's lock, which is made where there is none. With
    ``HOLDFAST_WHEELHOUSE`` set to the folder, workers of these versions need no network.

    Args:
        refs: The versions.
        to: The folder; made where it is not there. Wheels that are in it are not fetched again.
        store: Store or path; default: the store in force.

    Raises:
        EnvironmentMismatch: A wheel cannot be had, or is another than the lock says.
        NoSpace: The disk is full; what is complete stays.
    """
    if not refs:
        raise UsageError("No version was named.", hint="hold env bundle REF --to FOLDER")
    opened, folder = the_store(store), Path(to)
    versions = [get(ref, store=opened) for ref in refs]
    with mapped_os_errors(folder, "collecting wheels"):
        folder.mkdir(parents=True, exist_ok=True)
        for version in versions:
            if "pylock" not in version.info.attachments:
                version.info = lock(version.ref, store=opened).info
            with worker.named(version.ref), waiting(f"Collecting the wheels of {version.ref}"):
                wheelhouse.fetch(worker.locked_plan(version), folder, cache_folder())
        return wheelhouse.listed(folder)
