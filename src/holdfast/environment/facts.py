"""Facts that explain why answers differ: of the processor, the libraries of numbers, the device.

They are taken at a save from what this process has loaded already. Nothing is downloaded or set up
for them, none is worth a failure, and none holds a path or a name of the user's.
"""

from __future__ import annotations

import functools
import locale
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from holdfast.environment.capture import index_of

__all__ = ["PROVEN", "cpu_features", "facts"]

# Releases of which archives are read, with proof, by the tests of this release. Which models of
# them are refused, docs/migrations.md and docs/compatibility.md tell.
PROVEN: Final[Mapping[str, str]] = {
    "keras": ">=3.5,<3.16",
    "lightgbm": ">=3.3,<4.8",
    "pandas": ">=2.0,<3.2",
    "scikit-learn": ">=1.2,<1.10",
    "xgboost": ">=1.7,<3.3",
    "xgboost-cpu": ">=1.7,<3.3",
}
# What numpy, OpenBLAS, oneDNN and their like choose their code by.
_FEATURES: Final = re.compile(
    r"sse4_1|sse4_2|ssse3|avx|avx2|avx_vnni|f16c|fma|bmi2|avx512\w{1,20}|amx_\w{1,20}"
    r"|neon|asimd|asimddp|asimdhp|sve|sve2|sme|bf16|i8mm|vsx|vx"
)
# When one of these has been imported since, other libraries may be loaded.
_CARRIERS: Final = (
    "numpy", "scipy.linalg", "sklearn", "torch", "xgboost", "lightgbm", "catboost", "tensorflow",
    "jaxlib", "onnxruntime",
)  # fmt: skip
_LONGEST: Final = 100
_MOST: Final = 20


def facts(packages: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of this moment, those that are known.

    Args:
        packages: Distributions of the model, with their versions.
    """
    found = {
        "cpu_features": _tried(cpu_features),
        "blas": _tried(_blas),
        "cuda": _tried(_cuda),
        "locale": _tried(_locale),
        "indexes": _tried(lambda: _indexes(packages)),
        "proven": {name: PROVEN[name] for name in packages if name in PROVEN},
    }
    return {name: value for name, value in found.items() if value}


def _indexes(packages: Mapping[str, str]) -> dict[str, str]:
    """Say where versions with a local part come from, as far as a table of ours knows."""
    asked = {name: index_of(name, version) for name, version in packages.items()}
    return {name: index for name, index in asked.items() if index is not None}


def _tried(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception:  # noqa: BLE001 - libraries of any age are asked, and a fact is worth no failure
        return None


@functools.lru_cache(maxsize=1)
def cpu_features() -> list[str]:
    """Return what this processor offers of what numeric code is chosen by; empty if unknown."""
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        title, _, words = line.partition(":")
        if title.strip() in ("flags", "Features"):
            return sorted({word for word in words.split() if _FEATURES.fullmatch(word)})
    return []


def _locale() -> str:
    return locale.setlocale(locale.LC_CTYPE)[:_LONGEST]


def _blas() -> list[dict[str, Any]]:
    """Describe the loaded libraries for linear algebra and threads, without their paths."""
    if "threadpoolctl" not in sys.modules and find_spec("threadpoolctl") is None:
        return []
    return _libraries(tuple(name for name in _CARRIERS if name in sys.modules))


@functools.lru_cache(maxsize=8)
def _libraries(_loaded: tuple[str, ...]) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it thinks of the mix is no concern of a save
        listed = import_module("threadpoolctl").threadpool_info()
    kept = {
        "internal_api": "name", "version": "version", "architecture": "kernel",
        "num_threads": "threads",
    }  # fmt: skip
    found = [
        {ours: _plain(each[theirs]) for theirs, ours in kept.items() if each.get(theirs)}
        for each in listed[:_MOST]
    ]
    return sorted(found, key=str)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else str(value)[:_LONGEST]


def _cuda() -> dict[str, str]:
    """Say what a framework that has begun to use a CUDA device knows of it."""
    found: dict[str, str] = {}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())
        found["device"] = str(torch.cuda.get_device_name())
    jax = sys.modules.get("jax")
    if not found and jax is not None and "jax_plugins" in sys.modules:
        devices = [each for each in _jax_devices() if each.platform == "gpu"]
        found.update({"device": str(devices[0].device_kind)} if devices else {})
    if found:
        found["driver"] = _driver()
    return {name: text[:_LONGEST] for name, text in found.items() if text}


def _jax_devices() -> Iterable[Any]:
    """Return JAX's devices where it has set them up by itself."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    ready = bridge is not None and bridge.backends_are_initialized()
    return sys.modules["jax"].devices() if ready else ()


def _driver() -> str:
    text = Path("/proc/driver/nvidia/version").read_text("utf-8", "replace")
    version = re.search(r"\b\d{3,4}(?:\.\d+){1,2}\b", text)
    return "" if version is None else version[0]
