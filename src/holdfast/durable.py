"""Writing files so that a crash leaves the old state or the new one, never a half.

The order is always: write to a temporary file on the same file system, fsync it, give it its name
in one step, fsync the folder. A failed fsync is never retried on the same descriptor, because
the kernel may have dropped the dirty pages (the PostgreSQL "fsyncgate" finding of 2018).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from holdfast.errors import Corrupt, HoldfastError, NoSpace

__all__ = [
    "create_only",
    "fsync_dir",
    "mapped_os_errors",
    "settled",
    "unfinished",
    "write_all",
    "write_new",
    "written_beside",
]

_PART: Final = 1 << 18


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte of ``data``; the kernel may take fewer than offered at each call."""
    view = memoryview(data).cast("B")
    while view:
        written = os.write(fd, view)
        if written == 0:
            raise OSError(errno.EIO, "write() took no bytes")
        view = view[written:]


def settled(
    chunks: Iterable[bytes | bytearray | memoryview],
) -> Iterator[bytes]:
    """Yield chunks as bytes that stay what they are, though the memory they come from changes.

    Whoever looks at each twice, as to hash it and to write it, sees the same.
    """
    for chunk in chunks:
        if isinstance(chunk, bytes):
            yield chunk
            continue
        view = memoryview(chunk).cast("B")
        for start in range(0, view.nbytes, _PART):
            yield bytes(view[start : start + _PART])


def fsync_dir(path: Path) -> None:
    """Make the names inside a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unfinished(folder: Path) -> Path:
    """Return a name in a folder of unfinished work that nobody else uses."""
    return folder / f"{os.getpid()}-{secrets.token_hex(8)}"


def write_new(
    path: Path, chunks: Iterable[bytes | bytearray | memoryview], *, mode: int = 0o444
) -> int:
    """Write a file that does not exist, durable but for its name; return its bytes.

    Args:
        path: The file.
        chunks: Its bytes, in order.
        mode: Rights; the default lets nobody change it.

    Raises:
        FileExistsError: It exists.
        Corrupt: It holds fewer bytes than were written to it.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        return _fill(fd, path, chunks)
    finally:
        os.close(fd)


def _fill(fd: int, path: Path, chunks: Iterable[bytes | bytearray | memoryview]) -> int:
    size = 0
    for chunk in chunks:
        write_all(fd, chunk)
        size += memoryview(chunk).nbytes
    os.fsync(fd)
    if os.fstat(fd).st_size != size:
        raise Corrupt(f"{path} holds fewer bytes than were written to it")
    return size


@contextlib.contextmanager
def written_beside(
    target: Path, chunks: Iterable[bytes | memoryview]
) -> Iterator[tuple[Path, int]]:
    """Write a hidden file beside a target and yield its path and bytes; it is gone afterwards.

    It is locked as long as its writer lives, so that those of writers that were killed can be told
    and are deleted here. Where a file system has no locks they stay.
    """
    _sweep(target)
    while True:
        tmp = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            if not _is_anothers(fd) and os.fstat(fd).st_nlink:
                yield tmp, _fill(fd, tmp, chunks)
                return
            # Somebody swept it between its making and its locking.
        finally:
            with contextlib.suppress(OSError):
                tmp.unlink()
            os.close(fd)


def _is_anothers(fd: int) -> bool:
    """Lock a file and say whether somebody else has it; no where there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _sweep(target: Path) -> None:
    """Delete the hidden files of writers of such targets that do not live any more."""
    hidden = re.compile(rf"\..+{re.escape(target.suffix)}\.[0-9a-f]{{16}}")
    with contextlib.suppress(OSError):
        for entry in [*os.scandir(target.parent)]:
            if hidden.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _drop_unlocked(Path(entry.path))


def _drop_unlocked(path: Path) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(fd)


def create_only(target: Path, chunks: Iterable[bytes | memoryview], *, tmp: Path) -> bool:
    """Create ``target`` with the given bytes, durably, unless it exists already.

    Args:
        target: The file to create; its folder must exist.
        chunks: The bytes.
        tmp: A name on the same file system that nobody else uses; it is gone afterwards.

    Returns:
        True when this call created the file, False when it existed.
    """
    try:
        write_new(tmp, chunks)
        try:
            os.link(tmp, target)
        except FileExistsError:
            return False
        fsync_dir(target.parent)
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            tmp.unlink()


@contextlib.contextmanager
def mapped_os_errors(where: Path, doing: str) -> Iterator[None]:
    """Turn operating-system failures into Holdfast's errors with a next step.

    Args:
        where: The store or file concerned.
        doing: What was being done, for example ``"saving"``.

    Raises:
        NoSpace: Disk, quota or file-size limit is full.
        HoldfastError: Any other operating-system error.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, HoldfastError):
            raise
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoSpace(
                f"No space left while {doing} in {where} ({reason}). "
                "Nothing visible was changed; all earlier versions are intact.",
                hint=_freeing(where),
                ref=str(where),
            ) from error
        raise HoldfastError(
            f"The operating system refused while {doing} in {where}: {reason}. "
            "Nothing visible was changed.",
            hint=f"ls -ld {shlex.quote(str(where if where.exists() else where.parent))}",
            ref=str(where),
        ) from error


def _freeing(where: Path) -> str:
    """Return the command by which to begin making room: in a store, or on any other disk."""
    if (where / "store.json").is_file():
        return f"hold prune --dry-run --store {shlex.quote(str(where))}"
    return f"df -h {shlex.quote(str(where if where.is_dir() else where.parent))}"
