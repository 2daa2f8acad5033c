"""A store in a folder: ``blobs/sha256/<hex>``, ``log/``, ``tmp/``.

Source of the blob layout: OCI image layout specification, section "Blobs". A blob gets its name in
one step (``link(2)``) after its bytes are on disk and hashed; until then it is a file in ``tmp/``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import re
import resource
import secrets
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from holdfast.durable import create_only, fsync_dir, mapped_os_errors, write_all
from holdfast.errors import Conflict, Corrupt, HoldfastError, NoStore, NotFound
from holdfast.record import (
    FORMAT,
    Digest,
    canonical,
    digest_hex,
    digest_of,
    parse_digest,
    parse_json,
)
from holdfast.store.base import BlobInfo, Buffer
from holdfast.store.mounts import trustworthy

__all__ = ["MARKER", "LocalReading", "LocalStore", "open_file"]

MARKER: Final = "store.json"

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_TAKEN_BACK: Final = 4  # times a reader takes a blob back from deletions that keep it anyway
_MOST_FILES: Final = 65_536
_FRESH_SECONDS: Final = 600.0  # well under prune's grace of an hour, so a freshened blob is safe
_STALE_SECONDS: Final = 86_400.0
# What says that a blob itself is wrong; anything else (rights, descriptors) says nothing of it.
_DAMAGE: Final = frozenset({errno.EINVAL, errno.EIO, errno.ELOOP, errno.ENXIO})
_SETTLED_NS: Final = 2_000_000_000

_README: Final = """\
This folder is a Holdfast store: machine-learning models, each version immutable.

  blobs/sha256/   bytes, each file named by its own SHA-256
  log/NAME/       what happened to a model, one JSON file per act, in order
  checks/         what 'hold verify' found and where; deleting it loses only that history
  tmp/            unfinished work; safe to empty when nobody is saving

It can be read without Holdfast. The newest log/NAME/*.json of kind "save" names a manifest; the
manifest's "pieces", concatenated in order, are a safetensors file:
  cat blobs/sha256/PIECE... > model.safetensors
To check every blob:
  cd blobs/sha256 && for f in *; do echo "$f  $f"; done | sha256sum --check --quiet
To move the store, move this folder. To delete it, delete this folder.
"""


def _may_map(fd: int) -> bool:
    """Say whether one more mapping, which keeps a descriptor, leaves the caller half of them.

    The soft limit is raised first, as far as the hard one allows, which a model of many large
    tensors needs on macOS (256 by default). The number that a duplicate gets is the lowest free
    one, so it tells how many are in use.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return True
    try:
        used = os.dup(fd)
    except OSError:
        return False
    os.close(used)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if used >= soft // 2 and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return used < soft // 2


class LocalReading:
    """An open blob file, mapped privately.

    Attributes:
        size: Bytes.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stat = os.fstat(fd)
        self.size = self._stat.st_size

    def view(self) -> memoryview:
        """Return all bytes as a private copy-on-write mapping, writable without harm."""
        if self.size == 0:
            return memoryview(bytearray())
        if not _may_map(self._fd):
            return self._copy()
        return memoryview(mmap.mmap(self._fd, self.size, access=mmap.ACCESS_COPY))

    def _copy(self) -> memoryview:
        """Read the bytes into memory: a mapping would keep a descriptor, and they are few."""
        data = bytearray(self.size)
        with open(self._fd, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            view, done = memoryview(data), 0
            while done < self.size:
                count = file.readinto(view[done:])
                if not count:
                    raise Corrupt("a blob became shorter while it was being read")
                done += count
        return memoryview(data)

    def identity(self) -> tuple[int, ...] | None:
        """Return (device, inode, size, mtime_ns, ctime_ns), None when they prove nothing.

        They prove nothing on network, overlay and unknown file systems, or when the file changed
        less than 2 s ago, since a second change might carry the same time.
        """
        found = os.fstat(self._fd)
        if time.time_ns() - found.st_ctime_ns < _SETTLED_NS or not trustworthy(found.st_dev):
            return None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def close(self) -> None:
        """Close the descriptor; mappings stay valid."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalStore:
    """A blob store in a folder on this machine.

    Attributes:
        url: The folder as text.
        path: The folder.
        id: Random hexadecimal id given at creation.
    """

    def __init__(self, path: Path, identifier: str) -> None:
        self.path = path
        self.url = str(path)
        self.id = identifier
        self._blobs = path / "blobs" / "sha256"
        self._tmp = path / "tmp"
        self._unflushed = threading.Event()
        self._flushing = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> LocalStore:
        """Make an empty store; a store already there is opened.

        Raises:
            HoldfastError: The folder holds something else or cannot be written.
        """
        with mapped_os_errors(path, "making a store"):
            path.mkdir(parents=True, exist_ok=True)
            foreign = {item.name for item in path.iterdir()} - {"blobs", "log", "tmp", "README.txt"}
            if foreign and not (path / MARKER).exists():
                raise HoldfastError(
                    f"{path} is not empty ({min(foreign)}, …), so no store was made in it.",
                    hint=f"hold init {path / 'store'}",
                )
            for part in ("blobs/sha256", "log", "tmp"):
                (path / part).mkdir(parents=True, exist_ok=True)
            fsync_dir(path / "blobs")
            marker = canonical({"format": FORMAT, "id": uuid.uuid4().hex})
            for name, data in (("README.txt", _README.encode()), (MARKER, marker)):
                tmp = path / "tmp" / f"{os.getpid()}-{secrets.token_hex(8)}"
                create_only(path / name, [data], tmp=tmp)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> LocalStore:
        """Open a store.

        Raises:
            NoStore: There is none.
            Corrupt: The marker is damaged, or of a format this release does not read.
        """
        try:
            marker = parse_json((path / MARKER).read_bytes(), f"{path / MARKER}")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NoStore(
                f"There is no store at {path}.", hint=f"hold init {path}", ref=str(path)
            ) from error
        except OSError as error:
            raise HoldfastError(
                f"{path / MARKER} cannot be read: {error.strerror}.", hint=f"ls -l {path / MARKER}"
            ) from error
        match marker:
            case {"format": str(format_), "id": str(identifier)} if format_ == FORMAT:
                return cls(path, identifier)
        raise Corrupt(
            f"{path / MARKER} is not the marker of a {FORMAT!r} store.",
            hint="python -m pip install --upgrade holdfast-ml",
            ref=str(path),
        )

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there."""
        return self._place(digest).exists() or self._restore(digest)

    def size(self, digest: Digest) -> int:
        """Return its size in bytes; raises ``NotFound``."""
        reading = self.open_blob(digest)
        reading.close()
        return reading.size

    def put(
        self, chunks: Callable[[], Iterable[Buffer]], *, expect: Digest | None = None
    ) -> Digest:
        """Store bytes; see ``BlobStore.put``. Their name is durable after ``flush``."""
        if expect is not None and self.freshen(expect):
            return expect
        with mapped_os_errors(self.path, "saving"):
            tmp = self._tmp / f"{os.getpid()}-{secrets.token_hex(8)}"
            try:
                digest = self._written(tmp, chunks)
                if expect is not None and digest != expect:
                    raise Corrupt(
                        f"The bytes changed while they were being saved: expected {expect}, "
                        f"wrote {digest}. Nothing became visible.",
                        hint="save again while nothing else changes the model",
                    )
                self._name(tmp, digest)
                self._unflushed.set()
            finally:
                with contextlib.suppress(FileNotFoundError):
                    tmp.unlink()
        return digest

    def _name(self, tmp: Path, digest: Digest) -> None:
        """Give written bytes their name; one that exists must be fresh, or a prune may take it."""
        place = self._place(digest)
        while True:
            try:
                os.link(tmp, place)
            except FileExistsError:
                if self.freshen(digest):
                    return
                if place.exists():  # another account's, so it cannot be touched: ours replaces it
                    tmp.replace(place)
                    return
            else:
                return

    def _written(self, tmp: Path, chunks: Callable[[], Iterable[Buffer]]) -> Digest:
        hasher, size = hashlib.sha256(), 0
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            for chunk in chunks():
                hasher.update(chunk)
                write_all(fd, chunk)
                size += memoryview(chunk).nbytes
            os.fsync(fd)
            if os.fstat(fd).st_size != size:
                raise Corrupt(f"{tmp} holds fewer bytes than were written to it")
        finally:
            os.close(fd)
        return Digest(f"sha256:{hasher.hexdigest()}")

    def flush(self) -> None:
        """Make the names of all blobs put so far durable."""
        with self._flushing, mapped_os_errors(self.path, "saving"):
            if self._unflushed.is_set():
                self._unflushed.clear()
                try:
                    fsync_dir(self._blobs)
                except OSError:
                    self._unflushed.set()
                    raise

    def freshen(self, digest: Digest) -> bool:
        """Mark a blob as in use now; False when it is not there or may not be touched."""
        place = self._place(digest)
        for again in (True, False):
            try:
                if time.time() - place.lstat().st_mtime > _FRESH_SECONDS:
                    os.utime(place, follow_symlinks=False)
            except FileNotFoundError:
                if again and self._restore(digest):
                    continue  # back from the trash, but as old as it was
                return False
            except PermissionError:  # another account's blob; written anew it is as good
                return False
            except OSError as error:
                raise HoldfastError(
                    f"{place} cannot be touched: {error.strerror}.", hint=f"ls -l {place}"
                ) from error
            return True
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def read(self, digest: Digest) -> bytes:
        """Return a whole blob, hashed and compared; raises ``NotFound`` and ``Corrupt``."""
        reading = self.open_blob(digest)
        try:
            data = bytes(reading.view())
        finally:
            reading.close()
        if digest_of(data) != digest:
            raise self.damaged(digest)
        return data

    def open_blob(self, digest: Digest) -> LocalReading:
        """Open a blob for viewing, not hashed; raises ``NotFound``, ``Corrupt`` for a link."""
        place = self._place(digest)
        for again in range(_TAKEN_BACK, -1, -1):
            try:
                return LocalReading(open_file(place))
            except FileNotFoundError as error:
                if again and self._restore(digest):
                    continue
                raise NotFound(
                    f"The blob {digest} is not in the store {self.path}.",
                    hint="hold verify --no-replay",
                    ref=digest,
                ) from error
            except OSError as error:
                kind = Corrupt if error.errno in _DAMAGE else HoldfastError
                raise kind(
                    f"{place} cannot be read: {error.strerror}.", hint=f"ls -l {place}", ref=digest
                ) from error
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, not hashed; raises ``NotFound``."""
        reading = self.open_blob(digest)
        try:
            if offset < 0 or length < 0 or offset + length > reading.size:
                raise Corrupt(f"the blob {digest} has no bytes {offset} to {offset + length}")
            return bytes(reading.view()[offset : offset + length])
        finally:
            reading.close()

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no particular order."""
        with os.scandir(self._blobs) as entries:
            for entry in entries:
                if not _HEX.fullmatch(entry.name):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    yield BlobInfo(Digest(f"sha256:{entry.name}"), found.st_size, found.st_mtime)

    def delete(
        self,
        digests: Iterable[Digest],
        *,
        still_needed: Callable[[Digest], bool],
        grace: float = 3600.0,
    ) -> int:
        """Delete blobs and return the bytes freed; see ``BlobStore.delete``."""
        with mapped_os_errors(self.path, "deleting"), self._only_deleter():
            freed = sum(
                self._dispose(Digest(f"sha256:{trash.name[6:]}"), still_needed, grace)
                for trash in list(self._tmp.glob("trash-*"))
                if _HEX.fullmatch(trash.name[6:])
            )
            for digest in digests:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - self._place(digest).lstat().st_mtime < grace:
                        continue  # in use: never out of a reader's sight, not even for a moment
                    self._place(digest).rename(self._trash(digest))
                    freed += self._dispose(digest, still_needed, grace)
            fsync_dir(self._blobs)
            self._sweep()
        return freed

    @contextlib.contextmanager
    def _only_deleter(self) -> Iterator[None]:
        """Refuse to delete beside another deletion.

        One that has judged a blob in the trash must not meet a second one that puts the same blob,
        taken back and in use by now, into the same place. The lock ends with its process.
        """
        fd = os.open(self.path / MARKER, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"Something else is deleting in {self.path}. Nothing was deleted here.",
                    hint="hold prune",
                ) from error
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            os.close(fd)

    def _dispose(self, digest: Digest, still_needed: Callable[[Digest], bool], grace: float) -> int:
        trash = self._trash(digest)
        try:
            found = trash.stat()
            if time.time() - found.st_mtime < grace or still_needed(digest):
                self._restore(digest)
                return 0
            trash.unlink()
        except FileNotFoundError:  # a writer took it back
            return 0
        return found.st_size

    def drop_damaged(self, digest: Digest) -> bool:
        """Set a blob aside when its bytes do not match its name, so that it can be put again."""
        try:
            self.read(digest)
        except NotFound:
            return True
        except Corrupt:
            with mapped_os_errors(self.path, "setting a damaged blob aside"):
                self._place(digest).rename(self._tmp / f"damaged-{digest_hex(digest)}")
            return True
        return False

    def damaged(self, digest: Digest, what: str = "") -> Corrupt:
        """Word the error for a blob whose bytes are not those of its name."""
        return Corrupt(
            f"The bytes of {self._place(digest)} are not what was saved{what}: "
            "their SHA-256 is not the file's name.",
            hint="hold verify --no-replay",
            ref=digest,
        )

    def _sweep(self) -> None:
        """Remove what crashed writers left in ``tmp/`` more than a day ago."""
        limit = time.time() - _STALE_SECONDS
        for item in self._tmp.iterdir():
            with contextlib.suppress(OSError):
                if not item.name.startswith("trash-") and item.stat().st_mtime < limit:
                    item.unlink()

    def _restore(self, digest: Digest) -> bool:
        """Take a blob back from the trash of an unfinished delete."""
        try:
            os.link(self._trash(digest), self._place(digest))
        except FileExistsError:
            pass
        except OSError:
            return self._place(digest).exists()  # somebody else may have been faster
        with contextlib.suppress(FileNotFoundError):
            self._trash(digest).unlink()
        return True

    def _place(self, digest: Digest) -> Path:
        return self._blobs / digest_hex(parse_digest(digest))

    def _trash(self, digest: Digest) -> Path:
        return self._tmp / f"trash-{digest_hex(parse_digest(digest))}"


def open_file(place: Path) -> int:
    """Open a file that is one: a link is not followed, and a pipe is not waited for."""
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a file")
    return fd
