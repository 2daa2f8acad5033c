"""What runs inside the sandbox: a foreign file is opened as its writer meant, and saved.

Everything here trusts the file, because it runs where that harms nobody. What it leaves behind is a
store, which the process outside reads as it reads any store of a stranger.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from holdfast.api.save import save
from holdfast.api.verbs import load
from holdfast.errors import HoldfastError

__all__ = ["KINDS", "NAME", "STORE", "main"]

STORE: Final = "store"
NAME: Final = "taken"


def main(
    file: str, kind: str, rows: str | None = None, golden: str | None = None
) -> dict[str, Any]:
    """Open a file, whatever that runs, and save what comes out into the store beside.

    Args:
        file: The foreign file.
        kind: What it is, one of ``KINDS``.
        rows: A store whose model ``rows`` is the inputs for the golden set.
        golden: As ``save`` has it.

    Returns:
        ``proof`` and ``type`` of what was saved; or ``error``, which says why it was not.
    """
    # Attributes of another release that load without a word are the worst failure.
    warnings.filterwarnings("error", message="Trying to unpickle estimator")
    try:
        model = KINDS[kind](Path(file))
        inputs = None if rows is None else load("rows", store=rows)
        version = save(model, NAME, inputs=inputs, golden=golden, portable=None, store=STORE)
    except HoldfastError as error:
        return {"error": error.message, "code": error.code}
    except BaseException as error:  # noqa: BLE001 - the file may raise whatever it likes
        return {"error": f"{type(error).__name__}: {error!s:.500}", "code": "failed"}
    made = type(model)
    return {"proof": version.proof, "type": f"{made.__module__}.{made.__qualname__}"}


def _pickle(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - the sandbox is for this


def _joblib(path: Path) -> Any:
    joblib: Any = import_module("joblib")
    return joblib.load(path)


def _torch(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=False)


def _keras(path: Path) -> Any:
    keras: Any = import_module("keras")
    return keras.saving.load_model(path, safe_mode=False)


def _skops(path: Path) -> Any:
    io: Any = import_module("skops.io")
    return io.load(path, trusted=io.get_untrusted_types(file=path))


def _numpy(path: Path) -> Any:
    import numpy as np

    found: Any = np.load(path, allow_pickle=True)
    return found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}


# Kinds of files to what opens them, which runs what they say.
KINDS: Final[dict[str, Callable[[Path], Any]]] = {
    "joblib": _joblib,
    "keras": _keras,
    "keras-h5": _keras,
    "npy": _numpy,
    "npz": _numpy,
    "pickle": _pickle,
    "skops": _skops,
    "torch": _torch,
    "torch-legacy": _torch,
}
