"""An open store: blobs, catalogue and the caches beside them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.api.refs import Ref, in_bundle, parse_ref
from holdfast.api.settings import cache_folder, store_setting
from holdfast.archive.stamps import Stamps
from holdfast.catalogue.base import Log
from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog
from holdfast.catalogue.history import VersionInfo
from holdfast.durable import mapped_os_errors
from holdfast.errors import NoStore, NotFound, UsageError
from holdfast.record import digest_hex, digest_of
from holdfast.remote.oci.place import SCHEMES
from holdfast.store.base import BlobStore, CheckFiles, Distant
from holdfast.store.checks import LocalChecks
from holdfast.store.local import LocalStore

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from holdfast.api.ageing import Ageing
    from holdfast.api.bundles import Bundled
    from holdfast.api.fixity import Fixity
    from holdfast.api.transferring import Transfer
    from holdfast.archive.checks import Checks

__all__ = ["Store", "bundle_at", "is_bundle", "placed", "resolve", "the_store"]

_KNOWN_STORES: Final = "stores"
_REMOTE: Final = ("s3", "gs", "az")


class Store:
    """A store that is there; ``Store.create`` makes one.

    Args:
        url: Path of a folder, or of a bundle, which is only read; or ``s3://BUCKET/FOLDER``,
            ``gs://…``, ``az://…`` with credentials from the environment. None: the store in force
            (argument > HOLDFAST_STORE > ``holdfast.toml`` > the user's data folder).

    Attributes:
        url: Where it is, as text.
        origin: Where the choice came from, in words.
        blobs: Immutable bytes by digest.

    Raises:
        NoStore: There is no store there.
        RemoteError: A server does not answer, or refuses.
        UsageError: The URL's kind is not supported by this release.
    """

    def __init__(self, url: str | os.PathLike[str] | None = None) -> None:
        setting = store_setting(url)
        self.origin = setting.origin
        self._path: Path | None = None
        self.blobs: BlobStore
        self._log: Log
        self._checks: CheckFiles
        if _is_remote(setting.value):
            from holdfast.api import remotes

            remote = remotes.opened(setting.value)
            self.blobs, self._log, self._checks, self._id = remote
        elif is_bundle(place := _local_path(setting.value)):
            from holdfast.archive.bundle.open import open_bundle

            bundle = open_bundle(place)
            self.blobs, self._checks, self._id = bundle.blobs, bundle.checks, bundle.id
            self.catalogue = bundle.catalogue
        else:
            local = LocalStore.open(place)
            self._path = local.path
            self._log = DiskLog(local.path / "log", local.path / "tmp")
            self._checks = LocalChecks(local.path / "checks", local.path / "tmp")
            self.blobs, self._id = local, local.id
        self.url = self.blobs.url

    @classmethod
    def create(cls, url: str | os.PathLike[str] | None = None) -> Store:
        """Make an empty store and open it; one that is there already is just opened."""
        value = store_setting(url).value
        if _is_remote(value):
            from holdfast.api import remotes

            remotes.create(value)
            return cls(value)
        path = _local_path(value)
        if is_bundle(path):
            raise UsageError(
                f"{path} is the name of a bundle, which is written whole.",
                hint=f"hold bundle NAME {path}",
            )
        if not (path / "store.json").exists():
            LocalStore.create(path)
        store = cls(path)
        _remember(store.path)
        return store

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        """Travel to another process as the URL, so that its methods run in any executor."""
        return (type(self), (self.url,))

    @property
    def path(self) -> Path:
        """Its folder on this machine.

        Raises:
            UsageError: It is not in a folder.
        """
        if self._path is None:
            raise UsageError(
                f"The store {self.url} is not a folder on this machine, and this needs one.",
                hint=f"hold pull NAME {self.url} --store ./models",
                ref=self.url,
            )
        return self._path

    @property
    def disk(self) -> Path:
        """The folder on this machine that its bytes go through: its own, or the cache."""
        if self._path is not None:
            return self._path
        folder = cache_folder()
        with mapped_os_errors(folder, "making the cache folder"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @cached_property
    def catalogue(self) -> Catalogue:
        """Names, versions, aliases and their history."""
        index = self._cache("index") / f"{self.key}.sqlite"
        return Catalogue(self._log, index)

    def bundle(
        self,
        refs: str | Sequence[str],
        path: str | os.PathLike[str],
        *,
        history: bool = False,
        aliases: bool = False,
    ) -> Bundled:
        """Write versions to one file, whole or not at all; blobs that they share are in it once.

        ``load("FILE.hold:churn@v3")`` loads from it where it lies, and ``Store("FILE.hold")`` is
        it as a store that is only read. It is an OCI image layout in a tar.

        Args:
            refs: References; a bare name means its newest version, with ``history`` all of them.
            path: The file, whose name ends in ``.hold``; it must not exist.
            history: Put in the whole logs of the names, byte for byte.
            aliases: Put in the aliases of these versions, too.

        Raises:
            NotFound: No such version.
            UsageError: The file exists, or its name ends otherwise.
            Corrupt: A blob is damaged; there is no file then.
            NoSpace: There is no room for the file.
        """
        from holdfast.api import bundles

        return bundles.bundle(refs, path, self, history=history, aliases=aliases)

    def unbundle(
        self,
        path: str | os.PathLike[str],
        *,
        history: bool = False,
        aliases: bool = False,
        dry_run: bool = False,
    ) -> Transfer:
        """Copy all versions of a bundle into this store; see ``push``.

        Raises:
            UsageError: It is no bundle; or with ``history``, it holds none.
            Corrupt: It is damaged; versions before the damage were copied.
            PartlyDone: Some were copied and some were not.
        """
        from holdfast.api.bundles import unbundle
        from holdfast.api.transferring import partly_done

        done = unbundle(path, self, history=history, aliases=aliases, dry_run=dry_run)
        if done.failed:
            raise partly_done(done, f"hold pull REFS {path} --store {self.url}")
        return done

    def fetch_documents(self, infos: Iterable[VersionInfo]) -> None:
        """Bring the documents of versions near at once; nothing where they are near already."""
        if isinstance(self.blobs, Distant):
            named = [(info.manifest, info.content, info.record) for info in infos]
            self.blobs.prefetch(digest for three in named for digest in three)

    def push(  # noqa: PLR0913 - the public face, DESIGN section 6
        self,
        refs: str | Sequence[str],
        to: Store | str | os.PathLike[str],
        *,
        history: bool = False,
        aliases: bool = False,
        dry_run: bool = False,
        layout: str | None = None,
        executor: Executor | None = None,
    ) -> Transfer:
        """Copy versions into another store, or one to a registry; what is there is not sent again.

        Args:
            refs: References; a bare name means its newest version, with ``history`` all of them.
            to: Where they go; a store is made where there is none. ``oci://HOST/REPOSITORY:TAG``
                is a place in a registry.
            history: Copy the whole logs of the names, byte for byte.
            aliases: Point the aliases of these versions at them there, too.
            dry_run: Only say what would be sent.
            layout: In a registry: ``blobs``, a layer for each blob, which is the default; or
                ``files``, an image with ordinary files for programs that mount it.
            executor: Between stores: where blobs are copied, of up to 8 versions in a task. A pool
                of processes, or of machines that reach both stores by their URLs. Versions
                become visible here, in their order, once all blobs are there.

        Raises:
            PartlyDone: Some were copied and some were not.
            Conflict: With ``history``: the far end has another history of the name.
            RemoteError: A server does not answer; what was sent before is kept.
        """
        from holdfast.api import sending
        from holdfast.api.transferring import partly_done

        how = {"history": history, "aliases": aliases, "dry_run": dry_run}
        done = sending.push(refs, self, to, layout=layout, executor=executor, **how)
        if done.failed:
            raise partly_done(done, f"hold push REFS {done.to} --store {self.url}")
        return done

    def pull(
        self,
        refs: str | Sequence[str],
        source: Store | str | os.PathLike[str] | None = None,
        *,
        history: bool = False,
        aliases: bool = False,
        dry_run: bool = False,
        executor: Executor | None = None,
    ) -> Transfer:
        """Copy versions from another store into this one, or one from a registry; see ``push``.

        ``pull("oci://HOST/REPOSITORY:TAG")`` takes the name that the version was pushed under, and
        a second argument another one.
        """
        from holdfast.api import sending
        from holdfast.api.transferring import partly_done

        how = {"history": history, "aliases": aliases, "dry_run": dry_run}
        done = sending.pull(refs, source, self, executor=executor, **how)
        if done.failed:
            raise partly_done(done, f"hold pull REFS {source} --store {self.url}")
        return done

    @cached_property
    def stamps(self) -> Stamps:
        """What was verified on this machine; disposable."""
        return Stamps(self._cache("") / "stamps.sqlite")

    @cached_property
    def checks(self) -> Checks:
        """What ``verify`` found of versions, here and on other machines."""
        from holdfast.archive.checks import Checks  # what asks for versions pays for no more

        return Checks(self._checks)

    def verify(
        self,
        *,
        sample: str | int | None = None,
        replay: bool = True,
        executor: Executor | None = None,
    ) -> Fixity:
        """Check all versions and keep what is found; see ``holdfast.verify`` for one.

        A version that is damaged, or does not answer as recorded, is a result, not an error. Models
        are built in a process of their own, which does not know what only this program registered.
        A run that was interrupted is gone on with when the next one starts within a day.

        Args:
            sample: Only so many versions, ``20``, or such a part, ``"10%"``: those that were not
                checked for longest.
            replay: False only hashes.
            executor: Where versions are checked, up to 32 in a task: a pool of processes, or of
                machines that reach the store by the same URL. By default here, one by one.

        Raises:
            UsageError: ``sample`` is neither.
        """
        from holdfast.api.fixity import verify_all

        return verify_all(self, sample=sample, replay=replay, executor=executor)

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
        place = f"{self._id}\n{self.url if self._path is None else self._path.resolve()}"
        return digest_hex(digest_of(place.encode("utf-8", "surrogateescape")))[:32]

    @staticmethod
    def _cache(name: str) -> Path:
        return cache_folder() / name if name else cache_folder()


def _is_remote(value: str) -> bool:
    return value.partition("://")[0] in _REMOTE and "://" in value


def is_bundle(path: Path) -> bool:
    """Say whether a path is a bundle's, there or not; a folder of that name is a store."""
    return path.suffix == ".hold" and not path.is_dir()


def _local_path(value: str) -> Path:
    scheme, separator, rest = value.partition("://")
    if not separator:
        kind, colon, place = value.partition(":")
        if colon and kind in (*_REMOTE, *SCHEMES) and not Path(value).exists():
            raise UsageError(
                f"{value!r:.100} is no place: after {kind}: two slashes are missing.",
                hint=f"hold ls --store {kind}://{place.lstrip('/')}"
                if kind in _REMOTE
                else f"hold push NAME {kind}://{place.lstrip('/')}",
            )
        return Path(value).expanduser().absolute()
    if scheme == "file" and rest.startswith("/"):
        return Path(rest)
    raise UsageError(
        f"Stores of kind {scheme!r:.40} are not known; give a folder, or a URL that begins with "
        f"{', '.join(f'{kind}://' for kind in _REMOTE)}.",
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


def bundle_at(path: str | os.PathLike[str]) -> Store:
    """Return a bundle that is named as a file, not as the store of a command.

    Raises:
        NotFound: There is no such file.
        UsageError: It holds no version, or cannot be read.
        Corrupt: It is damaged.
    """
    try:
        return Store(path)
    except NoStore as error:
        place = Path(path)
        if place.is_dir():  # a folder of that name, which holds no store
            raise
        others = sorted(each.name for each in place.parent.glob("*.hold"))
        near = difflib.get_close_matches(place.name, others, 1) or others
        hint = f"hold ls {place.with_name(near[0])}" if near else f"hold bundle NAME {place}"
        raise NotFound(f"There is no file {place}.", hint=hint, ref=str(place)) from error


def placed(ref: str, store: Store | str | os.PathLike[str] | None) -> tuple[Store, str]:
    """Return the store that a reference is to be looked up in, and the reference there.

    Args:
        ref: A reference; one into a bundle says itself where it is.
        store: An open store, a path, or None for the one in force.

    Raises:
        NoStore: There is no store.
        NotFound: There is no such bundle.
        UsageError: A bundle of several models is given without one of their names.
    """
    inside = in_bundle(ref)
    if inside is None:
        return the_store(store), ref
    bundle, rest = bundle_at(inside[0]), inside[1]
    names = [] if rest else bundle.catalogue.log.names()
    if len(names) > 1:
        raise UsageError(
            f"{bundle.url} holds {len(names)} models: {', '.join(names)!s:.200}.",
            hint=f"hold show {bundle.url}:{names[0]}",
            ref=ref,
        )
    return bundle, rest or names[0]


def resolve(ref: str | Ref, store: Store) -> VersionInfo:
    """Return what a reference means now.

    Raises:
        NotFound: No such name, version or alias; the message lists near names and other known
            stores that hold the name.
        UsageError: Not a reference, or one into a bundle, which this does not read.
    """
    if (inside := in_bundle(ref)) is not None:
        raise UsageError(
            f"{ref} is in a bundle, and this works in a store.", hint=f"hold unbundle {inside[0]}"
        )
    parsed = ref if isinstance(ref, Ref) else parse_ref(ref)
    try:
        return store.catalogue.resolve(parsed.name, parsed.selector)
    except NotFound as error:
        if is_bundle(Path(store.url)):
            raise NotFound(error.message, hint=f"hold ls {store.url}", ref=str(parsed)) from error
        elsewhere = [
            str(path)
            for path in _known_stores()
            if str(path) != store.url and (path / "log" / parsed.name).is_dir()
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
