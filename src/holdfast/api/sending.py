"""``push`` and ``pull``, to and from whatever a URL means: a store, or a registry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from holdfast.api.store import Store, bundle_at, is_bundle
from holdfast.api.transferring import Transfer, transfer
from holdfast.errors import NoStore, UsageError
from holdfast.remote.oci.place import is_place

__all__ = ["pull", "push"]

StoreLike = Store | str | os.PathLike[str]


def push(
    refs: str | Sequence[str],
    source: Store,
    to: StoreLike,
    *,
    layout: str | None = None,
    executor: Executor | None = None,
    **how: bool,
) -> Transfer:
    """Copy versions from a store; see ``transfer``, and ``to_registry`` for ``oci://``.

    Args:
        refs: References; one where it goes to a registry.
        source: Where they are.
        to: Where they go.
        layout: For a registry: ``blobs`` or ``files``.
        executor: For a store: where blobs are copied.
        how: ``history``, ``aliases`` and ``dry_run``.

    Raises:
        UsageError: A registry is asked for what only a store can do, or a store for a layout.
    """
    if not isinstance(to, str) or not is_place(to):
        if layout is not None:
            raise UsageError(
                f"{to} is a store, which has its own layout; {layout!r:.20} is one of registries.",
                hint=f"hold push NAME oci://HOST/REPOSITORY:TAG --layout {layout}",
            )
        return transfer(refs, source, to, executor=executor, **how)
    from holdfast.api.registry_push import to_registry

    (ref,) = _only(refs, to, how, executor)
    return to_registry(ref, source, to, layout=layout or "blobs", dry_run=how.get("dry_run", False))


def pull(
    refs: str | Sequence[str],
    source: StoreLike | None,
    to: StoreLike,
    *,
    executor: Executor | None = None,
    **how: bool,
) -> Transfer:
    """Copy versions into a store; see ``transfer``, and ``from_registry`` for ``oci://``.

    Args:
        refs: References; or a place in a registry.
        source: Where they are; with a place in ``refs`` the name that its model gets here, or None;
            or such a place itself, with the name in ``refs``.
        to: Where they go.
        executor: For a store: where blobs are copied.
        how: ``history``, ``aliases`` and ``dry_run``.

    Raises:
        UsageError: A registry is asked for what only a store can do; or there is no source.
    """
    given = [refs] if isinstance(refs, str) else list(refs)
    words = [*given, *([source] if isinstance(source, str) else [])]
    places = [word for word in words if is_place(word)]
    if not places:
        if source is None:
            raise UsageError("Where to pull from?", hint=f"hold pull {' '.join(given)} ./models")
        return transfer(refs, _source(source), to, executor=executor, **how)
    from holdfast.api.registry_pull import from_registry

    names = [word for word in words if not is_place(word)]
    _only(places, places[0], how, executor)
    if len(names) > 1:
        raise UsageError(
            f"{places[0]} is one version, and gets one name.", hint=f"hold pull {places[0]} NAME"
        )
    name = names[0] if names else None
    return from_registry(places[0], to, name, dry_run=how.get("dry_run", False))


def _only(
    refs: str | Sequence[str], place: str, how: dict[str, bool], executor: Executor | None
) -> list[str]:
    """Refuse what a registry cannot hold: a tag is one version, without a log."""
    if executor is not None:
        raise UsageError(
            f"{place} is one version, whose blobs are copied by threads here; executor= is for "
            "many versions between stores.",
            hint=f"executor.submit(store.push, NAME, {place!r})",
        )
    given = [refs] if isinstance(refs, str) else list(refs)
    asked = next((word for word in ("history", "aliases") if how.get(word)), None)
    if len(given) == 1 and asked is None:
        return given
    why = f"it keeps no {asked}" if asked else "a tag is one version"
    raise UsageError(
        f"{place} is in a registry: {why}. A store in a folder or bucket holds more.",
        hint="hold push NAME s3://my-bucket/models --history",
    )


def _source(place: StoreLike) -> Store:
    """Open what is pulled from; where there is none, making one is not what was meant."""
    if isinstance(place, Store):
        return place
    local = Path(place)
    if is_bundle(local):
        return bundle_at(local)
    try:
        return Store(place)
    except NoStore as error:
        error.hint = f"ls {local.parent}"
        raise
