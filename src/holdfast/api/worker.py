"""A model that answers from the environment it was saved in: a proxy, and the worker behind it."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from holdfast import frameworks
from holdfast.api.load import LEVELS, Loaded
from holdfast.api.progress import waiting
from holdfast.api.settings import cache_folder, wheelhouse_setting
from holdfast.api.worker_inside import ATTRIBUTES
from holdfast.archive import golden as goldens
from holdfast.archive.read import sizes_of
from holdfast.codec.messages import from_message, to_message
from holdfast.environment import capture, lock, memory, recreate
from holdfast.environment.child import Child, Start
from holdfast.errors import (
    BehaviourMismatch,
    Corrupt,
    EnvironmentMismatch,
    HoldfastError,
    MissingExtra,
    Unsupported,
    UsageError,
)
from holdfast.frameworks import LoadOptions
from holdfast.record import Record
from holdfast.store.local import LocalStore
from holdfast.store.transfer import copy_blobs

if TYPE_CHECKING:
    from holdfast.api.version import Version

__all__ = [
    "WorkerModel",
    "differs",
    "load_recorded",
    "locked_plan",
    "named",
    "plan_for",
    "would_help",
]

_log = logging.getLogger("holdfast")

_START_SECONDS: Final = 300.0
_CALL_SECONDS: Final = 600.0
_MOST_METHODS: Final = 100
_PROOFS: Final = frozenset({*LEVELS.values(), "state only", "unproved"})
# Error codes that a worker may tell, to the class that says the same here.
_ERRORS: Final[Mapping[str, type[HoldfastError]]] = {
    kind.code: kind for kind in (BehaviourMismatch, Corrupt, Unsupported)
}
# Output methods of models that are called like functions.
_FUNCTIONS: Final = ("call", "forward", "pipe")
# What a worker's process runs.
_MODULE: Final = "holdfast.api.worker_inside"
# Type ids to the distribution that they need, where a record may not name it.
_ALSO: Final = ("pandas", "scipy")


class WorkerModel:
    """A model in a process of its own, under the libraries that it was saved with.

    It has the model's output methods and a few of its attributes; whatever else the model could do
    needs its libraries here. ``close()``, or the end of a ``with`` block, ends the process; so does
    losing the last reference.

    Attributes:
        ref: The version.
        methods: The methods that it has.
        packages: The libraries that answer, with their versions.
        timeout: Seconds that a call may take.
    """

    def __init__(self, ref: str, child: Child, said: dict[str, Any], attributes: Any) -> None:
        self.ref = ref
        self.timeout = _CALL_SECONDS
        self.methods: tuple[str, ...] = _texts(said.get("methods"))
        self.packages: dict[str, str] = _versions(said.get("packages"))
        self._own = _texts(said.get("own"))
        self._kind = _shown(said.get("kind"))
        self._child = child
        self._registry = frameworks.registry()
        known = attributes if isinstance(attributes, dict) else {}
        self._attributes = {name: known[name] for name in ATTRIBUTES if name in known}

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        if name in state.get("methods", ()):
            return partial(self._call, name)
        if name in state.get("_attributes", ()):
            return state["_attributes"][name]
        shown = ", ".join(state.get("methods", ()))
        raise AttributeError(f"a model in a worker has no {name!r}; it has {shown}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.methods, *self._attributes})

    def __call__(self, inputs: Any) -> Any:
        """Call a model that is a function, such as a module."""
        method = self._own[0] if self._own else "none"
        if method not in _FUNCTIONS:
            raise TypeError(f"{self.ref} is not called; it has {', '.join(self.methods)}")
        return self._call(method, inputs)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        ended = "" if self._child.alive else ", ended"
        held = "sandboxed" if self._child.confined else "not sandboxed: bubblewrap is missing"
        return f"<{self._kind} of {self.ref} in a worker ({shown}; {held}{ended})>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError(f"a worker's process cannot be pickled; load {self.ref!r} where it goes")

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def output_methods(self) -> tuple[str, ...]:
        """Return the methods that answer for inputs as a replay calls them, best first."""
        return self._own

    def answer(self, method: str, inputs: Any) -> Any:
        """Call one output method; raises as the methods do."""
        return self._call(method, inputs)

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        """Ask the worker.

        Raises:
            UsageError: The model itself refused: what it raised is in the message.
            Unsupported: Inputs or answer do not go through the pipe.
            EnvironmentMismatch: The worker died, took too long or answered nonsense.
        """
        value, runs = to_message((args, options), self._registry, label="inputs")
        said, found = _asked(
            self._child, {"method": method, "value": value}, runs, self.timeout, self.ref
        )
        return _value(self._child, said, found, self._registry, self.ref)


def _texts(found: Any) -> tuple[str, ...]:
    """Return names that a worker told, those that are harmless as attributes."""
    listed = found if isinstance(found, list) else []
    sound = (name for name in listed[:_MOST_METHODS] if isinstance(name, str))
    return tuple(name for name in sound if name.isidentifier() and not name.startswith("_"))


def _versions(found: Any) -> dict[str, str]:
    listed = found if isinstance(found, dict) else {}
    return {_shown(name): _shown(version) for name, version in list(listed.items())[:20]}


def _shown(text: Any) -> str:
    return "".join(char for char in str(text)[:100] if char.isprintable())


def _asked(
    child: Child, header: dict[str, Any], runs: list[memoryview], seconds: float, ref: str
) -> tuple[dict[str, Any], list[memoryview]]:
    try:
        said, found = child.ask(header, runs, seconds=seconds)
    except EnvironmentMismatch as error:
        error.hint = f'holdfast.load("{ref}", environment="recorded")  # starts it again'
        error.ref = ref
        raise
    code = said.get("error")
    if code is None:
        return said, found
    message = str(said.get("message"))[:2000]
    if code == "memory":
        child.close()
        raise EnvironmentMismatch(
            f"The worker of {ref} needs more memory than it may use: {message}",
            hint=f"hold show {ref}  # how large it is",
            ref=ref,
        )
    if code == "raised":
        blame = UsageError if "method" in header else EnvironmentMismatch  # the inputs, or its load
        raise blame(f"{ref} raised in its worker: {message}", hint=f"hold show {ref}", ref=ref)
    kind = _ERRORS.get(str(code), EnvironmentMismatch)
    raise kind(f"In its recorded environment: {message}", hint=f"hold show {ref}", ref=ref)


def _value(
    child: Child, said: dict[str, Any], runs: list[memoryview], registry: Any, ref: str
) -> Any:
    try:
        return from_message(said.get("value"), runs, registry)
    except MissingExtra:
        raise
    except (Corrupt, EnvironmentMismatch) as error:  # a type that is unknown here is one there
        child.close()
        raise EnvironmentMismatch(
            f"The worker of {ref} answered nonsense: {error.message}",
            hint=f'holdfast.load("{ref}", environment="recorded")  # starts it again',
            ref=ref,
        ) from error


def plan_for(version: Version) -> recreate.Plan:
    """Say which environment a version needs; raises ``EnvironmentMismatch`` where none can be."""
    return recreate.plan(version.record.environment, version.record.created, _also(version))


def locked_plan(version: Version) -> recreate.Plan:
    """Say the same, narrowed by the version's lock where it has one.

    Raises:
        EnvironmentMismatch: There can be none, or the lock is none of this version.
        Corrupt: The lock is damaged.
    """
    wanted = plan_for(version)
    data = version.attached("pylock", most=lock.MOST)
    return wanted if data is None else lock.locked(wanted, data)


def _also(version: Version) -> list[str]:
    """Return what the model or its inputs need and the record does not name."""
    types = {*version.content.structure.types, *_golden_types(version.record)}
    inputs = version.content.signature.get("inputs")
    if isinstance(inputs, dict) and inputs.get("kind") == "frame":
        types.add("pandas.")
    return [name for name in _ALSO if any(each.startswith(f"{name}.") for each in types)]


def _golden_types(record: Record) -> set[str]:
    if record.golden is None:
        return set()
    parts = goldens.Golden.parse(record.golden).parts.values()
    return {name for part in parts for name in part.structure.types}


def would_help(version: Version, options: LoadOptions) -> bool:
    """Say whether a version that does not load here may answer from its recorded environment.

    It may where libraries are other than recorded, and nothing was asked that only a model in this
    process can do. Whether uv is there to install them is not looked at.
    """
    asked = options.into is not None or options.rename is not None
    if asked or options.device not in ("auto", "cpu"):
        return False
    unknown = {*version.content.structure.types} - frameworks.registry().by_id.keys()
    if unknown or not differs(version.record.environment):
        return False
    try:
        plan_for(version)
    except EnvironmentMismatch:
        return False
    return True


def differs(recorded: Mapping[str, Any]) -> bool:
    """Say whether libraries are other than recorded, Holdfast's own release aside."""
    packages = recorded.get("packages")
    here = capture.same_packages(recorded)["packages"]
    named = packages if isinstance(packages, dict) else {}
    return any(here.get(name) != named[name] for name in named if name != recreate.OURS)


def load_recorded(version: Version, options: LoadOptions, *, verify: str, replay: str) -> Loaded:
    """Start a worker in the environment that a version was saved in, and prove it there.

    Raises:
        EnvironmentMismatch: The environment cannot be built, or the worker does not start.
        BehaviourMismatch: Even there it answers otherwise than recorded.
        Corrupt: The bytes are not what was saved.
        UsageError: ``into=`` or ``rename=`` were given, which need the model in this process.
    """
    if options.into is not None or options.rename is not None:
        raise UsageError(
            'into= and rename= need the model in this process, and environment="recorded" keeps '
            "it in another.",
            hint=f'holdfast.load("{version.ref}", environment="here", into=model)',
        )
    place = wheelhouse_setting()
    wheelhouse = None if place is None else Path(place.value)
    with named(version.ref):
        ready = recreate.ready(
            locked_plan(version), cache_folder(), announce=_announced, wheelhouse=wheelhouse
        )
    with contextlib.ExitStack() as ends:
        ends.callback(ready.release)
        start = Start(
            python=ready.python,
            beside=ready.beside,
            module=_MODULE,
            sees=(ends.enter_context(_folder(version)),),
            memory=memory.bound(version.size),
        )
        after = ends.pop_all().close
    model, said = started(version, start, options, verify=verify, replay=replay, after=after)
    proof = str(said.get("proof"))
    proof = proof if proof.partition(",")[0] in _PROOFS else "unproved"
    _log.info("%s loaded: %s, worker", version.ref, proof)
    return Loaded(model, proof, rung="worker")


@contextlib.contextmanager
def named(ref: str) -> Iterator[None]:
    """Say in the hint of a refusal which version it is of."""
    try:
        yield
    except EnvironmentMismatch as error:
        error.hint = re.sub(r"\bREF\b", lambda _: ref, error.hint)
        error.ref = error.ref or ref
        raise


@contextlib.contextmanager
def _folder(version: Version) -> Iterator[Path]:
    """Yield a folder that holds a version's blobs: its store, or copies for as long as needed."""
    blobs = version.store.blobs
    if isinstance(blobs, LocalStore):
        yield version.store.path.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-", dir=version.store.disk) as name:
        copy = LocalStore.create(Path(name) / "store")
        copy_blobs(version.store.blobs, copy, sizes_of(version.store.blobs, version.manifest_id))
        yield copy.path.resolve()


def _announced(words: str) -> Any:
    _log.warning("%s, once", words)
    return waiting(words)


def started(
    version: Version,
    start: Start,
    options: LoadOptions,
    *,
    verify: str,
    replay: str,
    after: Callable[[], None] = lambda: None,
) -> tuple[WorkerModel, dict[str, Any]]:
    """Start a worker and have it load a version; returns the proxy and what the worker said."""
    child = Child(start, after=after)
    wanted = {
        "store": str(start.sees[0]),
        "manifest": version.manifest_id,
        "content": version.content_id,
        "ref": version.ref,
        "device": options.device,
        "verify": verify,
        "replay": replay,
    }
    try:
        said, runs = _asked(child, wanted, [], _START_SECONDS, version.ref)
        attributes = _value(child, said, runs, frameworks.registry(), version.ref)
    except BaseException:
        child.close()
        raise
    return WorkerModel(version.ref, child, said, attributes), said
