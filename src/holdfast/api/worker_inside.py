"""The worker's side: load a version under its own libraries, then answer for it.

Runs in the recorded environment, started by ``environment.child``. What may be called is what the
adapter offers and a list of names here.
"""

from __future__ import annotations

import os
import resource
import select
import threading
from pathlib import Path
from typing import IO, Any, Final

from holdfast import frameworks
from holdfast.api import load
from holdfast.api.store import Store
from holdfast.codec.messages import from_message, to_message
from holdfast.codec.registry import Registry
from holdfast.environment import capture, messages
from holdfast.errors import HoldfastError, Unsupported
from holdfast.record import Content, Digest, parse_digest

__all__ = ["ATTRIBUTES", "serve"]

# Methods of estimators beside those that adapters offer, and attributes that callers ask for.
_MORE: Final = (
    "apply", "decision_path", "get_feature_names_out", "inverse_transform", "kneighbors",
    "predict_log_proba", "radius_neighbors", "score", "score_samples",
)  # fmt: skip
ATTRIBUTES: Final = ("classes_", "n_features_in_", "feature_names_in_", "n_outputs_")
_MOST_FILE: Final = 1 << 30


def serve(asked: IO[bytes], told: IO[bytes]) -> None:
    """Answer messages until the pipe closes."""
    _limit()
    threading.Thread(target=_end_with, args=(asked.fileno(),), daemon=True).start()
    worker: _Worker | None = None
    while True:
        try:
            header, runs = messages.read(asked)
        except EOFError:
            return
        try:
            if worker is None:
                worker = _Worker(header)
                answer, value = worker.welcome()
            else:
                answer, value = worker.call(header, runs)
            parts = messages.packed({**answer, "id": header["id"]}, value)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
            parts = messages.packed({**_told(error), "id": header["id"]}, ())
        for part in parts:
            _write(told, part)


def _limit() -> None:
    """Bound what bubblewrap does not: files, and the core that a crash would leave."""
    for kind, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, _MOST_FILE)):
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)  # noqa: PLW2901 - the lower
        resource.setrlimit(kind, (value, value))


def _end_with(fd: int) -> None:
    """End this process when the other side is gone, whatever it computes."""
    watch = select.poll()
    watch.register(fd, 0)
    watch.poll()
    os._exit(0)


def _write(stream: IO[bytes], part: memoryview) -> None:
    while part.nbytes:
        part = part[stream.write(part) or 0 :]


def _told(error: Exception) -> dict[str, Any]:
    if isinstance(error, HoldfastError):
        return {"error": error.code, "message": error.message[:2000]}
    if isinstance(error, MemoryError):
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
        shown = "" if limit == resource.RLIM_INFINITY else f"{limit / 2**30:.1f} GiB; "
        return {"error": "memory", "message": f"{shown}{error!s:.500}"}
    return {"error": "raised", "message": f"{type(error).__name__}: {error!s:.2000}"}


class _Worker:
    """A loaded version."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self._registry: Registry = frameworks.registry()
        store, manifest = Store(Path(wanted["store"])), parse_digest(wanted["manifest"])
        loaded = load.load_model(
            store,
            manifest,
            ref=wanted["ref"],
            options=load.options(None, wanted["device"], None),
            verify=wanted["verify"],
            replay=wanted["replay"],
        )
        content = Content.decode(store.blobs.read(Digest(wanted["content"])))
        self._model, self._loaded = loaded.model, loaded
        self._adapter = frameworks.adapter_named(content.framework)
        self._own = self._adapter.methods(loaded.model)
        more = _MORE if {"predict", "transform"} & {*self._own} else ()
        has = (name for name in more if callable(getattr(loaded.model, name, None)))
        self._methods = (*self._own, *has)

    def welcome(self) -> tuple[dict[str, Any], list[memoryview]]:
        """Say what was loaded and how it may be asked."""
        model = self._model
        found = {name: getattr(model, name) for name in ATTRIBUTES if hasattr(model, name)}
        value, runs = to_message(found, self._registry, label="attributes")
        kind = type(model)
        answer = {
            "methods": self._methods,
            "own": self._own,
            "kind": f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}",
            "proof": self._loaded.proof,
            "rung": self._loaded.rung,
            "packages": capture.capture(self._adapter.requires(model))["packages"],
            "value": value,
        }
        return answer, runs

    def call(
        self, header: dict[str, Any], runs: list[memoryview]
    ) -> tuple[dict[str, Any], list[memoryview]]:
        """Call one method of the model."""
        method = header["method"]
        if method not in self._methods:
            raise Unsupported(f"the model has no method {method!r:.60}")
        args, options = from_message(header["value"], runs, self._registry)
        if method in self._own and len(args) == 1 and not options:
            found = self._adapter.predict(self._model, method, args[0])
        else:
            found = getattr(self._model, method)(*args, **options)
        value, answer = to_message(found, self._registry, label=f"the answer of {method}()")
        return {"value": value}, answer
