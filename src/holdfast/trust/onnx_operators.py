"""Which operators an ONNX graph may use, and which runtime it needs.

An operator is allowed when all it does is compute outputs from inputs. Sources: the operator
schemas of onnx and onnxruntime (``tools/list_onnx_operators.py``), and for what reaches out of the
graph the documentation of onnxruntime (PyOp, EPContext, SNPE), onnxruntime-extensions
(``ai.onnx.contrib``) and PyTorch (``org.pytorch.aten``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from typing import Final

__all__ = ["Judgement", "judge", "minimum_runtime"]


class Judgement(StrEnum):
    """What is known of an operator."""

    PURE = "pure"
    """It computes outputs from inputs and does nothing else."""
    REACHES_OUT = "reaches out"
    """It reads files, calls a network, runs code or hands the graph to another program."""
    UNKNOWN = "unknown"
    """Code of somebody else's; nothing is known of it."""


def _read() -> dict[str, frozenset[str]]:
    text = resources.files("holdfast.trust").joinpath("onnx_operators.json").read_text("utf-8")
    return {domain: frozenset(names.split()) for domain, names in json.loads(text).items()}


_PURE: Final = _read()

# Operators that reach out, by domain; None stands for every operator of the domain.
_REACHING: Final[dict[str, frozenset[str] | None]] = {
    "com.microsoft": frozenset({"EPContext", "PyOp", "PythonOp", "Snpe", "TritonOp"}),
    "": frozenset({"PyOp", "PyCustomOp"}),
    "pyop": None,
    "pyopmulti": None,
    "ai.onnx.contrib": None,
    "com.microsoft.extensions": None,
    "org.pytorch.aten": None,
}

# onnxruntime release to the highest opset of "" and of ai.onnx.ml and the highest IR version that
# it runs. From 1.15 on found by making a session of one node with each release; before from
# https://onnxruntime.ai/docs/reference/compatibility.html, table "ONNX opset support".
_RUNTIMES: Final[tuple[tuple[str, int, int, int], ...]] = (
    ("1.0", 11, 2, 6),
    ("1.3", 12, 2, 7),
    ("1.6", 13, 2, 7),
    ("1.8", 14, 2, 7),
    ("1.9", 15, 2, 8),
    ("1.11", 16, 2, 8),
    ("1.12", 17, 3, 8),
    ("1.14", 18, 3, 8),
    ("1.15", 18, 3, 9),
    ("1.16", 19, 3, 9),
    ("1.17", 20, 4, 9),
    ("1.18", 21, 5, 10),
    ("1.21", 22, 5, 10),
    ("1.23", 23, 5, 11),
    ("1.24", 25, 5, 13),
    ("1.25", 26, 5, 13),
    ("1.32", 28, 5, 14),
)


def judge(domain: str, name: str) -> Judgement:
    """Say what is known of an operator; ``ai.onnx`` is the standard domain's other name."""
    domain = "" if domain == "ai.onnx" else domain
    if domain in _REACHING:
        names = _REACHING[domain]
        if names is None or name in names:
            return Judgement.REACHES_OUT
    return Judgement.PURE if name in _PURE.get(domain, ()) else Judgement.UNKNOWN


def minimum_runtime(ir_version: int, opsets: Mapping[str, int]) -> str | None:
    """Return the first onnxruntime release that runs a model, None when no known one does.

    Args:
        ir_version: The model's IR version.
        opsets: Version by domain; domains that releases do not tell apart are not looked at.
    """
    for release, standard, ml, ir in _RUNTIMES:
        fits = opsets.get("", 0) <= standard and opsets.get("ai.onnx.ml", 0) <= ml
        if fits and ir_version <= ir:
            return release
    return None
