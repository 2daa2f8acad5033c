"""An open store: blobs, catalogue and the caches beside them."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.api.refs import Ref, parse_ref
from holdfast.api.settings import cache_folder, store_setting
from holdfast.archive.checks import Checks
from holdfast.archive.stamps import Stamps
from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog
from holdfast.catalogue.history import VersionInfo
from holdfast.errors import NoStore, NotFound, UsageError
from holdfast.record import digest_hex, digest_of
from holdfast.store.checks import LocalChecks
from holdfast.store.local import LocalStore

if TYPE_CHECKING:
    from holdfast.api.ageing import Ageing
    from holdfast.api.fixity import Fixity

__all__ = ["Store", "resolve", "the_store"]

_KNOWN_STORES: Final = "stores"


class Store:
    """A store that is there; ``Store.create`` makes one.

    Args:
        url: Path of the store. None: the store in force (argument > HOLDFAST_STORE >
            ``holdfast.toml`` > the user's data folder).

    Attributes:
        path: Its folder.
        origin: Where the choice came from, in words.
        blobs: Immutable bytes by digest.

    Raises:
        NoStore: There is no store there.
        UsageError: The URL's kind is not supported by this release.
    """

    def __init__(self, url: str | os.PathLike[str] | None = None) -> None:
        setting = store_setting(url)
        self.path = _local_path(setting.value)
        self.origin = setting.origin
        self.blobs = LocalStore.open(self.path)

    @classmethod
    def create(cls, url: str | os.PathLike[str] | None = None) -> Store:
        """Make an empty store and open it; one that is there already is just opened."""
        path = _local_path(store_setting(url).value)
        if not (path / "store.json").exists():
            LocalStore.create(path)
        store = cls(path)
        _remember(store.path)
        return store

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @cached_property
    def catalogue(self) -> Catalogue:
        """Names, versions, aliases and their history."""
        index = self._cache("index") / f"{self.key}.sqlite"
        return Catalogue(DiskLog(self.path / "log", self.path / "tmp"), index)

    @cached_property
    def stamps(self) -> Stamps:
        """What was verified on this machine; disposable."""
        return Stamps(self._cache("") / "stamps.sqlite")

    @cached_property
    def checks(self) -> Checks:
        """What ``verify`` found of versions, here and on other machines."""
        return Checks(LocalChecks(self.path / "checks", self.path / "tmp"))

    def verify(self, *, sample: str | int | None = None, replay: bool = True) -> Fixity:
        """Check all versions and keep what is found; see ``holdfast.verify`` for one.

        A version that is damaged, or does not answer as recorded, is a result, not an error. Models
        are built in a process of their own, which does not know what only this program registered.
        A run that was interrupted is gone on with when the next one starts within a day.

        Args:
            sample: Only so many versions, ``20``, or such a part, ``"10%"``: those that were not
                checked for longest.
            replay: False only hashes.

        Raises:
            UsageError: ``sample`` is neither.
        """
        from holdfast.api.fixity import verify_all

        return verify_all(self, sample=sample, replay=replay)

    def ageing(self, *, everything: bool = False) -> Ageing:
        """Say which versions need attention and what to do, and what was checked where.

        Reads the log, the records and what ``verify`` has kept; nothing of a model is run and no
        framework is imported.

        Args:
            everything: All versions; by default those that have an alias or are the newest of a
                name.
        """
        from holdfast.api.ageing import ageing

        return ageing(self, everything=everything)

    @property
    def key(self) -> str:
        """Name of this store at this place, for files in the cache."""
        place = f"{self.blobs.id}\n{self.path.resolve()}"
        return digest_hex(digest_of(place.encode("utf-8", "surrogateescape")))[:32]

    @staticmethod
    def _cache(name: str) -> Path:
        return cache_folder() / name if name else cache_folder()


def _local_path(value: str) -> Path:
    scheme, separator, rest = value.partition("://")
    if not separator:
        return Path(value).expanduser().absolute()
    if scheme == "file" and rest.startswith("/"):
        return Path(rest)
    raise UsageError(
        f"Stores of kind {scheme!r} are not supported by this release; give a folder.",
        hint="hold init ./models",
    )


def the_store(store: Store | str | os.PathLike[str] | None, *, create: bool = False) -> Store:
    """Return the store a verb works on.

    Args:
        store: An open store, a path, or None for the one in force.
        create: Make it when it is not there, as ``save`` does for the default store.
    """
    if isinstance(store, Store):
        return store
    try:
        return Store(store)
    except NoStore:
        if not create:
            raise
    return Store.create(store)


def resolve(ref: str | Ref, store: Store) -> VersionInfo:
    """Return what a reference means now.

    Raises:
        NotFound: No such name, version or alias; the message lists near names and other known
            stores that hold the name.
        UsageError: Not a reference.
    """
    parsed = ref if isinstance(ref, Ref) else parse_ref(ref)
    try:
        return store.catalogue.resolve(parsed.name, parsed.selector)
    except NotFound as error:
        elsewhere = [
            str(path)
            for path in _known_stores()
            if path != store.path.resolve() and (path / "log" / parsed.name).is_dir()
        ]
        if not elsewhere:
            raise
        raise NotFound(
            f"{error.message}\nThe store {elsewhere[0]} holds a model of that name.",
            hint=f"HOLDFAST_STORE={elsewhere[0]} hold show {parsed}",
            ref=str(parsed),
        ) from error


def _remember(path: Path) -> None:
    """Note where a store was made, for messages only; failing to is no harm."""
    file = cache_folder() / _KNOWN_STORES
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        known = [str(item) for item in _known_stores()]
        if str(path.resolve()) not in known:
            with file.open("a", encoding="utf-8") as out:
                out.write(f"{path.resolve()}\n")
    except OSError:
        return


def _known_stores() -> list[Path]:
    try:
        lines = (cache_folder() / _KNOWN_STORES).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [Path(line) for line in dict.fromkeys(lines) if Path(line, "store.json").is_file()]
