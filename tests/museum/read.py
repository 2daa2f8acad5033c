"""What a version of the museum says here of rows that were held out: as then, or refused.

Also a program: ``python read.py STORE FAMILY`` prints the outcome of every version as JSON, which
is how ``tools/museum.py`` reads an archive under the libraries of another.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import numpy as np

import holdfast
from holdfast import HoldfastError


def names(store: holdfast.Store) -> list[str]:
    """Return the names of the models in a store of the museum."""
    return [m.name for m in store.catalogue.names() if not m.name.endswith(".held-out")]


def outcome(store: holdfast.Store, name: str, family: Any) -> str:
    """Return "right", "wrong in METHOD", or the refusal."""
    take = getattr(family, "loaded", lambda version: version.load(environment="here"))
    try:
        model = take(holdfast.get(name, store=store))
    except HoldfastError as error:
        return f"refused: {error.message}"
    return answered(store, name, model, family)


def answered(store: holdfast.Store, name: str, model: Any, family: Any) -> str:
    """Compare what a model says here with what it said when the archive was written."""
    held_out = holdfast.load(f"{name}.held-out", store=store, environment="here")
    have = family.answers(model, held_out["rows"], held_out["answers"])
    for method, want in held_out["answers"].items():
        last = model[-1] if hasattr(model, "steps") else model
        if method not in have and not hasattr(type(last), method):
            continue  # a method that this release does not have at all
        if method not in have or not close(want, have[method]):
            return f"wrong in {method}"
    if hasattr(model, "get_params"):
        from sklearn.base import clone

        clone(model)
    repr(model)
    return "right"


def close(want: Any, have: Any) -> bool:
    """Say whether two answers are the same but for the last bits of floats."""
    if isinstance(want, (list, tuple)):
        alike = isinstance(have, (list, tuple)) and len(want) == len(have)
        return alike and all(map(close, want, have))
    if isinstance(want, dict):
        alike = isinstance(have, dict) and want.keys() == have.keys()
        return alike and all(close(want[key], have[key]) for key in want)
    want, have = (each.toarray() if hasattr(each, "toarray") else each for each in (want, have))
    want, have = np.asarray(want), np.asarray(have)
    if want.shape != have.shape:
        return False
    if want.dtype.kind == "f":
        rough = {"rtol": 1e-5, "atol": 1e-6} if want.itemsize < 8 else {"rtol": 1e-7, "atol": 1e-9}
        return np.allclose(want, have, equal_nan=True, **rough)
    return bool((want == have).all())


def main() -> None:
    """Print ``{name: outcome}`` for a store and a family."""
    store, family = holdfast.Store(sys.argv[1]), import_module(f"{sys.argv[2]}_models")
    found = {}
    for name in names(store):
        try:
            found[name] = outcome(store, name, family)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault to be told
            found[name] = f"failed: {type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
