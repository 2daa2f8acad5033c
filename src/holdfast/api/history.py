"""Names and what happened to them: versions, aliases, tags, pins."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.api.refs import parse_ref
from holdfast.api.store import Store, placed, resolve, the_store
from holdfast.api.version import Version
from holdfast.catalogue.history import History
from holdfast.environment import capture
from holdfast.errors import NotFound, UsageError
from holdfast.record import LogEntry

__all__ = ["forget", "get", "log", "pin", "promote", "rollback", "tag", "unalias", "versions"]

StoreLike = Store | str | os.PathLike[str] | None


def get(ref: str, *, store: StoreLike = None) -> Version:
    """Return a version without loading or running anything of it.

    Args:
        ref: ``name`` (the newest), ``name@v3``, ``name@alias`` or ``name@sha256:…``; or one of
            these in a bundle, ``path/file.hold:name@v3``.
        store: Store or path; default: the store in force.

    Raises:
        NotFound: No such name, version or alias.
        NoStore: There is no store.
    """
    opened, inside = placed(ref, store)
    return Version(opened, resolve(inside, opened))


def versions(name: str, *, store: StoreLike = None) -> list[Version]:
    """Return the versions of a name that are not forgotten, oldest first.

    Raises:
        NotFound: No such name.
    """
    opened, inside = placed(name, store)
    return [Version(opened, info) for info in opened.catalogue.versions(inside)]


def promote(ref: str, *, to: str, reason: str | None = None, store: StoreLike = None) -> Version:
    """Point an alias at a version with one log entry that names what it replaced.

    Args:
        ref: The version.
        to: The alias, for example ``prod``.
        reason: Why; kept in the log.
        store: Store or path; default: the store in force.

    Raises:
        Conflict: Somebody moved the alias since it was looked up; nothing was written.
    """
    opened = the_store(store)
    info = resolve(ref, opened)
    opened.catalogue.set_alias(info.name, to, info.number, by=capture.author(), reason=reason)
    return Version(opened, resolve(f"{info.name}@v{info.number}", opened))


def unalias(name: str, alias: str, *, reason: str | None = None, store: StoreLike = None) -> None:
    """Take an alias away; the version it named can then be forgotten.

    Args:
        name: The model's name.
        alias: The alias.
        reason: Why; kept in the log.
        store: Store or path; default: the store in force.

    Raises:
        NotFound: The alias does not exist.
        Conflict: Somebody moved it meanwhile; nothing was written.
    """
    opened = the_store(store)
    present = opened.catalogue.history(name).aliases
    if alias not in present:
        raise NotFound(
            f"{name} has no alias {alias!r}; its aliases: {', '.join(sorted(present)) or 'none'}.",
            hint=f"hold log {name}",
        )
    opened.catalogue.set_alias(
        name, alias, None, by=capture.author(), reason=reason, replaced=present[alias].version
    )


def rollback(
    name: str, *, alias: str = "prod", reason: str | None = None, store: StoreLike = None
) -> Version:
    """Point an alias back at the version it named before the present one.

    Args:
        name: The model's name.
        alias: The alias.
        reason: Why; kept in the log.
        store: Store or path; default: the store in force.

    Raises:
        NotFound: The alias does not exist or has no earlier version that still exists.
        Conflict: Somebody moved the alias meanwhile; nothing was written.
    """
    opened = the_store(store)
    history = opened.catalogue.history(name)
    now, before = _alias_now_and_before(history, alias)
    if now is None:
        known = ", ".join(sorted(history.aliases)) or "none"
        raise NotFound(
            f"{name} has no alias {alias!r}; its aliases: {known}.",
            hint=f"hold promote {name} --to {alias}",
        )
    if before is None:
        raise NotFound(
            f"{name}@{alias} has pointed at v{now} only; there is nothing to roll back to.",
            hint=f"hold promote {name}@v1 --to {alias}",
        )
    opened.catalogue.set_alias(
        name,
        alias,
        before,
        by=capture.author(),
        reason=reason or f"rollback from v{now}",
        replaced=now,
    )
    return Version(opened, resolve(f"{name}@v{before}", opened))


def _alias_now_and_before(history: History, alias: str) -> tuple[int | None, int | None]:
    """Walk the alias's moves as a stack, so that two rollbacks go two versions back."""
    stack: list[int] = []
    for entry in history.entries:
        if entry.kind != "alias" or entry.body["alias"] != alias:
            continue
        target = entry.body["to"]
        if target is None:
            stack.clear()
        elif len(stack) > 1 and stack[-2] == target:
            stack.pop()
        elif not stack or stack[-1] != target:
            stack.append(target)
    alive = [number for number in stack if not history.versions[number].forgotten]
    if not alive or alias not in history.aliases:
        return None, None
    return alive[-1], alive[-2] if len(alive) > 1 else None


def log(
    name: str, *, at: str | dt.datetime | None = None, store: StoreLike = None
) -> list[LogEntry]:
    """Return what happened to a name, oldest first.

    Args:
        name: The model's name.
        at: Only what had happened by then: a date (its end, UTC) or a moment.
        store: Store or path; default: the store in force.

    Raises:
        NotFound: No such name.
        Corrupt: The log's chain is broken.
    """
    opened, inside = placed(name, store)
    return list(opened.catalogue.history(inside, at=at).entries)


def tag(
    ref: str,
    words: Mapping[str, str] | None = None,
    *,
    remove: Sequence[str] = (),
    store: StoreLike = None,
) -> Version:
    """Set or remove tags of a version; raises ``NotFound`` for a tag that is not there."""
    opened = the_store(store)
    info = resolve(ref, opened)
    absent = [word for word in remove if word not in info.tags]
    if absent:
        raise NotFound(f"{info.name}@v{info.number} has no tag {absent[0]!r}.")
    opened.catalogue.tag(
        info.name, info.number, set_=dict(words or {}), unset=list(remove), by=capture.author()
    )
    return Version(opened, resolve(f"{info.name}@v{info.number}", opened))


def pin(
    ref: str,
    *,
    until: str | dt.date | None = None,
    reason: str | None = None,
    release: bool = False,
    store: StoreLike = None,
) -> Version:
    """Keep a version from being forgotten, for ever or until a date.

    Args:
        ref: The version.
        until: Last day of the hold, ISO; None for ever.
        reason: Why; kept in the log.
        release: End the hold instead.
        store: Store or path; default: the store in force.
    """
    opened = the_store(store)
    info = resolve(ref, opened)
    by = capture.author()
    if release:
        opened.catalogue.unpin(info.name, info.number, by=by, reason=reason)
    else:
        opened.catalogue.pin(info.name, info.number, by=by, until=_day(until), reason=reason)
    return Version(opened, resolve(f"{info.name}@v{info.number}", opened))


def _day(until: Any) -> str | None:
    if until is None or isinstance(until, dt.date):
        return until if until is None else until.isoformat()[:10]
    try:
        return dt.date.fromisoformat(until).isoformat()
    except (TypeError, ValueError) as error:
        raise UsageError(f"not a date: {until!r:.40}; write 2036-12-31.") from error


def forget(
    refs: Sequence[str],
    *,
    reason: str | None = None,
    dry_run: bool = False,
    store: StoreLike = None,
) -> list[Version]:
    """Take versions out of sight; ``prune`` then frees their bytes.

    Args:
        refs: References; a bare name is refused, since it would mean only the newest.
        reason: Why; kept in the log.
        dry_run: Only say what would be forgotten.
        store: Store or path; default: the store in force.

    Raises:
        UsageError: A version is aliased or pinned; it is kept, and nothing was forgotten.
    """
    opened = the_store(store)
    chosen: dict[str, list[Version]] = {}
    for ref in refs:
        if parse_ref(ref).selector is None:
            raise UsageError(
                f"{ref!r} does not say which version to forget.", hint=f"hold forget {ref}@v1"
            )
        version = Version(opened, resolve(ref, opened))
        chosen.setdefault(version.name, []).append(version)
    for name, group in chosen.items():
        opened.catalogue.check_forget(name, [version.number for version in group])
    if not dry_run:
        for name, group in chosen.items():
            numbers = sorted({version.number for version in group})
            opened.catalogue.forget(name, numbers, by=capture.author(), reason=reason)
    return [version for group in chosen.values() for version in group]
