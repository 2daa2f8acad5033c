"""A store in a folder: ``blobs/sha256/<hex>``, ``coded/sha256/<hex>``, ``log/``, ``tmp/``.

Source of the blob layout: OCI image layout specification, section "Blobs". A blob gets its name in
one step (``link(2)``) after its bytes are on disk and hashed; until then it is a file in ``tmp/``.
A blob may be kept coded in place of plain; its name is that of its plain bytes all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from holdfast.durable import (
    create_only,
    fsync_dir,
    mapped_os_errors,
    settled,
    unfinished,
    write_new,
)
from holdfast.errors import Conflict, Corrupt, HoldfastError, NoStore, NotFound, UsageError
from holdfast.record import FORMAT, Digest, canonical, digest_hex, digest_of, parse_json
from holdfast.store.base import BlobInfo, Buffer, Coded
from holdfast.store.mounts import network
from holdfast.store.reading import CodedReading, LocalReading
from holdfast.store.shelf import Shelf

__all__ = ["MARKER", "README", "LocalStore"]

MARKER: Final = "store.json"

_STALE_SECONDS: Final = 86_400.0
_CHANGES: Final = 3

README: Final = """\
This folder is a Holdfast store: machine-learning models, each version immutable.

  blobs/sha256/   bytes, each file named by its own SHA-256
  log/NAME/       what happened to a model, one JSON file per act, in order
  checks/         what 'hold verify' found and where; deleting it loses only that history
  tmp/            unfinished work; safe to empty when nobody is saving

It can be read without Holdfast. The newest log/NAME/*.json of kind "save" names a manifest; the
manifest's "pieces", concatenated in order, are a safetensors file:
  cat blobs/sha256/PIECE... > model.safetensors
A blob that is in coded/sha256/ instead is compressed; "hold compact --undo" writes it plain.
To check every blob:
  cd blobs/sha256 && for f in *; do echo "$f  $f"; done | sha256sum --check --quiet
To move the store, move this folder. To delete it, delete this folder.
"""
_A_FILE: Final = "{} is a file, and a store is a folder."


class LocalStore:
    """A blob store in a folder on this machine.

    Attributes:
        url: The folder as text.
        path: The folder.
        id: Random hexadecimal id given at creation.
        plain: The files of blobs as they are.
        coded: The files of blobs that are kept coded.
    """

    def __init__(self, path: Path, identifier: str) -> None:
        self.path = path
        self.url = str(path)
        self.id = identifier
        self._tmp = path / "tmp"
        self.plain = Shelf(path / "blobs" / "sha256", self._tmp, "trash-")
        self.coded = Shelf(path / "coded" / "sha256", self._tmp, "coded-trash-")
        self._shelves = (self.plain, self.coded)
        self._unflushed = threading.Event()
        self._flushing = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> LocalStore:
        """Make an empty store; a store already there is opened.

        Raises:
            HoldfastError: The folder holds something else or cannot be written.
        """
        if path.is_file():
            raise UsageError(_A_FILE.format(path), hint=f"hold scan {path}", ref=str(path))
        with mapped_os_errors(path, "making a store"):
            path.mkdir(parents=True, exist_ok=True)
            foreign = {item.name for item in path.iterdir()} - {
                "blobs",
                "coded",
                "log",
                "tmp",
                "README.txt",
            }
            if foreign and not (path / MARKER).exists():
                raise HoldfastError(
                    f"{path} is not empty ({min(foreign)}, …), so no store was made in it.",
                    hint=f"hold init {path / 'store'}",
                )
            for part in ("blobs/sha256", "log", "tmp"):
                (path / part).mkdir(parents=True, exist_ok=True)
            fsync_dir(path / "blobs")
            marker = canonical({"format": FORMAT, "id": uuid.uuid4().hex})
            for name, data in (("README.txt", README.encode()), (MARKER, marker)):
                create_only(path / name, [data], tmp=unfinished(path / "tmp"))
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
            if path.is_file():
                raise NoStore(
                    _A_FILE.format(path), hint=f"hold scan {path}", ref=str(path)
                ) from error
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

    def far(self) -> bool:
        """Say whether it is on a network file system, where several readings wait for less."""
        with mapped_os_errors(self.path, "looking"):
            return network(self.plain.folder.stat().st_dev)

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there."""
        return any(shelf.has(digest) for shelf in self._shelves)

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
            tmp = unfinished(self._tmp)
            try:
                digest = self._written(tmp, chunks)
                self.name(tmp, digest, expect)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    tmp.unlink()
        return digest

    def name(self, tmp: Path, digest: Digest, expect: Digest | None) -> None:
        """Give a file with durable bytes the name of a blob.

        Args:
            tmp: The file, in ``tmp/``.
            digest: The SHA-256 of its bytes.
            expect: What the caller wanted them to have, or None.

        Raises:
            Corrupt: They have another; it gets no name.
        """
        if expect is not None and digest != expect:
            raise Corrupt(
                f"The bytes changed while they were being saved: expected {expect}, "
                f"wrote {digest}. Nothing became visible.",
                hint="save again while nothing else changes the model",
            )
        self._link(tmp, digest)
        self._unflushed.set()

    def _link(self, tmp: Path, digest: Digest) -> None:
        """Link a name; a blob that has it must be fresh, or a prune may take it."""
        place = self.plain.place(digest)
        while True:
            try:
                os.link(tmp, place)
            except FileExistsError:
                if self.plain.freshen(digest):
                    return
                if place.exists():  # another account's, so it cannot be touched: ours replaces it
                    tmp.replace(place)
                    return
            else:
                return

    def _written(self, tmp: Path, chunks: Callable[[], Iterable[Buffer]]) -> Digest:
        hasher = hashlib.sha256()

        def hashed() -> Iterator[Buffer]:
            for chunk in settled(chunks()):
                hasher.update(chunk)
                yield chunk

        write_new(tmp, hashed())
        return Digest(f"sha256:{hasher.hexdigest()}")

    def flush(self) -> None:
        """Make the names of all blobs put so far durable."""
        with self._flushing, mapped_os_errors(self.path, "saving"):
            if self._unflushed.is_set():
                self._unflushed.clear()
                try:
                    fsync_dir(self.plain.folder)
                except OSError:
                    self._unflushed.set()
                    raise

    def freshen(self, digest: Digest) -> bool:
        """Mark a blob as in use now; False when it is not there or may not be touched."""
        return any(shelf.freshen(digest) for shelf in self._shelves)

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

    def open_blob(self, digest: Digest) -> LocalReading | CodedReading:
        """Open a blob for viewing, not hashed; raises ``NotFound``, ``Corrupt`` for a link."""
        for _ in range(_CHANGES):  # one that is being coded or decoded is in one place or the other
            plain = self.plain.open(digest)
            if plain is not None:
                return LocalReading(plain)
            coded = self.open_coded(digest)
            if coded is not None:
                return coded
        raise NotFound(
            f"The blob {digest} is not in the store {self.path}.",
            hint="hold verify --no-replay",
            ref=digest,
        )

    def base_of(self, coded: Digest) -> Callable[[Digest], memoryview]:
        """Return what gives the bytes of a coded blob's base, for its reading."""

        def bytes_of(base: Digest) -> memoryview:
            try:
                with contextlib.closing(self.open_blob(base)) as reading:
                    if not isinstance(reading, CodedReading) or reading.base is None:
                        return reading.view()
                why = "its base is itself coded as differences to another blob"
            except (Corrupt, NotFound) as error:
                why = error.message
            raise Corrupt(
                f"The blob {coded} cannot be decoded: {why}",
                hint="hold verify --no-replay",
                ref=coded,
            )

        return bytes_of

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, not hashed; raises ``NotFound``."""
        with contextlib.closing(self.open_blob(digest)) as reading:
            if offset < 0 or length < 0 or offset + length > reading.size:
                raise Corrupt(f"the blob {digest} has no bytes {offset} to {offset + length}")
            return reading.read_range(offset, length)

    def find(self, digest: Digest) -> BlobInfo | None:
        """Say how a blob is kept; see ``Coding.find``."""
        for shelf in self._shelves:
            found = shelf.about(digest)
            if found is None:
                continue
            if shelf is self.plain:
                return BlobInfo(digest, found.st_size, found.st_mtime, found.st_size)
            with contextlib.suppress(Corrupt):
                reading = self.open_coded(digest)
                if reading is not None:
                    reading.close()
                    size, stored, base = reading.size, reading.stored, reading.base
                    if base is None or self._serves(base, size):
                        return BlobInfo(digest, size, found.st_mtime, stored, base)
        return None

    def _serves(self, base: Digest, size: int) -> bool:
        """Say whether a blob is there, no difference, and long enough, as a base must be."""
        with contextlib.suppress(Corrupt, NotFound):
            reading = self.open_blob(base)
            reading.close()
            alone = not isinstance(reading, CodedReading) or reading.base is None
            return alone and reading.size >= size
        return False

    def forms(self, digests: Collection[Digest]) -> dict[Digest, BlobInfo]:
        """Return which of some blobs are kept coded."""
        found = [self.find(digest) for digest in (digests if self.codes() else ())]
        return {info.digest: info for info in found if info and info.stored != info.size}

    def codes(self) -> bool:
        """Say whether any blob is kept coded."""
        return next(self.coded.files(), None) is not None

    def bases(self) -> set[Digest]:
        """Return what coded blobs are differences to."""
        return {info.base for info in self.list() if info.base is not None}

    def open_coded(self, digest: Digest) -> CodedReading | None:
        """Open the coded form of a blob, None where there is none; raises ``Corrupt``."""
        fd = self.coded.open(digest)
        return None if fd is None else CodedReading(fd, self.base_of(digest))

    def put_coded(self, digest: Digest, coded: Coded) -> bool:
        """Keep a blob in the coded form that it has elsewhere; see ``Coding.put_coded``."""
        from holdfast.store.arriving import put_coded

        return put_coded(self, digest, coded)

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no particular order."""
        listed = set()
        for digest, found in self.plain.files():
            listed.add(digest)
            yield BlobInfo(digest, found.st_size, found.st_mtime, found.st_size)
        for digest, found in self.coded.files():
            if digest in listed:
                continue
            size, base = found.st_size, None
            with (
                contextlib.suppress(NotFound, Corrupt),  # a damaged one is verify's to tell
                contextlib.closing(self.open_blob(digest)) as reading,
            ):
                size, base = reading.size, getattr(reading, "base", None)
            yield BlobInfo(digest, size, found.st_mtime, found.st_size, base)

    def delete(
        self,
        digests: Iterable[Digest],
        *,
        still_needed: Callable[[Digest], bool],
        grace: float = 3600.0,
    ) -> int:
        """Delete blobs and return the bytes freed; see ``BlobStore.delete``."""
        with mapped_os_errors(self.path, "deleting"), self.only_deleter():
            freed = 0
            for shelf in self._shelves:
                for digest in shelf.left_in_trash():
                    freed += self._dispose(shelf, digest, still_needed, grace)
            bases = {info.base for info in self.list()}
            for digest in digests:
                for shelf in self._shelves if digest not in bases else ():
                    if shelf.set_aside(digest, older=grace):
                        freed += self._dispose(shelf, digest, still_needed, grace)
            fsync_dir(self.plain.folder)
            self.drop_doubles()
            self._sweep()
        return freed

    @contextlib.contextmanager
    def only_deleter(self) -> Iterator[None]:
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
            with self._arrivals(fcntl.LOCK_EX):
                yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def arriving(self) -> Iterator[bool]:
        """Keep deletions and coding away while a coded blob gets its name.

        Yields False where one is at work, or where locks cannot be relied on.
        """
        with self._arrivals(fcntl.LOCK_SH | fcntl.LOCK_NB) as locked:
            yield locked and not self.far()

    @contextlib.contextmanager
    def _arrivals(self, how: int) -> Iterator[bool]:
        fd = os.open(self._tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, how)
            except OSError:  # somebody has it, or a file system without locks
                yield False
            else:
                yield True
        finally:
            os.close(fd)

    def _dispose(
        self, shelf: Shelf, digest: Digest, still_needed: Callable[[Digest], bool], grace: float
    ) -> int:
        trash = shelf.trash(digest)
        try:
            found = trash.stat()
            if time.time() - found.st_mtime < grace or still_needed(digest):
                shelf.restore(digest)
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
                for shelf in self._shelves:
                    if shelf.place(digest).exists():
                        shelf.place(digest).rename(self._tmp / f"damaged-{digest_hex(digest)}")
            return True
        return False

    def damaged(self, digest: Digest, what: str = "") -> Corrupt:
        """Word the error for a blob whose bytes are not those of its name."""
        held = next((s for s in self._shelves if s.place(digest).exists()), self.plain)
        return Corrupt(
            f"The bytes of {held.place(digest)} are not what was saved{what}: "
            "their SHA-256 is not the file's name.",
            hint="hold verify --no-replay",
            ref=digest,
        )

    def drop_doubles(self) -> None:
        """Remove the coded form of blobs that were written plain since."""
        for digest, _ in self.coded.files():
            if self.plain.place(digest).exists():
                self.coded.place(digest).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what crashed writers left in ``tmp/`` more than a day ago."""
        limit = time.time() - _STALE_SECONDS
        for item in self._tmp.iterdir():
            with contextlib.suppress(OSError):
                if "trash-" not in item.name and item.stat().st_mtime < limit:
                    item.unlink()
