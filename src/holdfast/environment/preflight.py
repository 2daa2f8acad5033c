"""Whether recorded libraries and this environment go together; nothing of them is imported."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from holdfast.environment.capture import installed_version
from holdfast.environment.facts import PROVEN, cpu_features
from holdfast.environment.memory import free as free_memory
from holdfast.plugins import REQUIREMENTS

__all__ = [
    "Finding",
    "devices",
    "dtypes",
    "libraries",
    "memory",
    "processor",
    "runs_form",
    "runtime",
]

_OURS: Final = "holdfast-ml"
# Their wheels for x86 are built for it; source: tensorflow.org/install/pip, "Hardware
# requirements", and the check that jaxlib makes when it is imported.
_NEEDS_AVX: Final = frozenset({"jaxlib", "tensorflow", "tensorflow-cpu"})
_RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
# What runs a portable form, by the format that the record names.
_RUNS_FORMS: Final = {"onnx": "onnxruntime", "torch.export": "torch"}
_SHOWN: Final = 4


class Finding(NamedTuple):
    """One thing that a load would meet.

    Attributes:
        kind: ``blocks`` a load, ``differs`` from what was recorded, or ``note``.
        what: In words.
        fix: One runnable next step; empty where nothing needs doing.
    """

    kind: str
    what: str
    fix: str = ""


def runs_form(portable: Mapping[str, Any] | None) -> bool:
    """Say whether a record's ``portable`` names a form, and what runs it is installed."""
    kept = portable or {}
    runtime = _RUNS_FORMS.get(str(kept.get("format")))
    return "blob" in kept and runtime is not None and importlib.util.find_spec(runtime) is not None


def libraries(environment: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the recorded Python and distributions with those here.

    Args:
        environment: The record's environment; what is no text in it is passed over.
    """
    packages = environment.get("packages")
    for name, wanted in sorted(packages.items()) if isinstance(packages, dict) else ():
        if name == _OURS or not isinstance(wanted, str):
            continue
        here = installed_version(name)
        if here is None:
            yield Finding(
                "blocks",
                f"{name} is not installed; the version was saved with {wanted:.40}",
                f'python -m pip install "{name}{_range(wanted)}"',
            )
        elif _minor(here) != _minor(wanted):
            yield Finding("differs", f"{name} {wanted:.40} -> {here}{_known(name, wanted, here)}")
    python = environment.get("python")
    if isinstance(python, str) and _minor(python) != _minor(platform.python_version()):
        yield Finding("differs", f"Python {python:.40} -> {platform.python_version()}")
    for name, here in (("machine", platform.machine()), ("os", platform.system())):
        there = environment.get(name)
        if isinstance(there, str) and there != here:
            yield Finding("differs", f"{name} {there:.40} -> {here}")


def _known(name: str, wanted: str, here: str) -> str:
    """Say what the tests of this release prove of a pair of releases."""
    proven = PROVEN.get(name)
    if proven is None:
        return ""
    covered = SpecifierSet(proven)
    try:
        both = covered.contains(wanted) and covered.contains(here)
    except InvalidVersion:
        both = False
    return f" (both in {proven}, which was tested)" if both else f" (only {proven} was tested)"


def _range(wanted: str) -> str:
    """Return the recorded minor release as a requirement; local parts name an index, not code."""
    minor = _minor(wanted)
    return f"~={minor[0]}.{minor[1]}.0" if minor is not None else ""


def _minor(text: str) -> tuple[int, int] | None:
    try:
        found = Version(text) if len(text) < 100 else None
    except InvalidVersion:
        return None
    return None if found is None else (found.major, found.minor)


def memory(needed: int) -> Iterator[Finding]:
    """Compare the bytes of a version's tensors and files with the memory that is free."""
    free = free_memory()
    if free is not None and needed > free:
        yield Finding(
            "note",
            f"it holds {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB of memory are free: "
            "mapped tensors load, copies of all of them may not",
        )


def processor(environment: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare what the processor offers with what the one of the save offered."""
    here = set(cpu_features())
    if not here:  # nobody tells on this system
        return
    packages = environment.get("packages")
    built = _NEEDS_AVX & packages.keys() if isinstance(packages, dict) else ()
    if built and platform.machine() in ("x86_64", "AMD64") and "avx" not in here:
        yield Finding("blocks", f"{min(built)} needs a processor with AVX, which this one lacks")
    recorded = environment.get("cpu_features")
    listed = recorded if isinstance(recorded, list) else []
    lost = sorted({f"{each:.20}" for each in listed if isinstance(each, str)} - here)
    if lost and environment.get("machine") == platform.machine():
        shown = ", ".join(lost[:_SHOWN]) + (", …" if len(lost) > _SHOWN else "")
        yield Finding(
            "note", f"it was saved on a processor with {shown}: last digits of answers may differ"
        )


def runtime(environment: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare what an ONNX graph needs with the onnxruntime that is here."""
    graph = environment.get("onnx")
    needed = graph.get("minimum_onnxruntime") if isinstance(graph, dict) else None
    here = next(filter(None, map(installed_version, _RUNTIMES)), None)
    if not isinstance(needed, str) or here is None or _minor(needed) is None:
        return
    if (_minor(here) or (0, 0)) < (_minor(needed) or (0, 0)):
        yield Finding(
            "blocks",
            f"its opset needs onnxruntime {needed:.20} or newer; {here} is here",
            f'python -m pip install --upgrade "onnxruntime>={needed:.20}"',
        )


def dtypes(names: Collection[str]) -> Iterator[Finding]:
    """Say when numpy alone cannot hold dtypes that a model's arrays have."""
    if names and installed_version("ml_dtypes") is None:
        yield Finding(
            "blocks",
            f"numpy has no {', '.join(sorted(names))}; the ml_dtypes package has",
            f'python -m pip install "{REQUIREMENTS["ml_dtypes"]}"',
        )


def devices(environment: Mapping[str, Any]) -> Iterator[Finding]:
    """Say when a model lay on a CUDA device and this machine shows none."""
    device = environment.get("device")
    cuda = isinstance(device, str) and device.startswith("cuda")
    if cuda and not any(Path("/dev").glob("nvidia[0-9]*")):
        yield Finding("note", f"it was saved from {device:.20}; here it loads on the CPU")
