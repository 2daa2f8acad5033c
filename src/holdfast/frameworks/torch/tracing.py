"""Making the program of a module: ``torch.export`` for any number of rows, in eval mode."""

from __future__ import annotations

import dataclasses
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from holdfast.codec.tensors import TensorData
from holdfast.errors import HoldfastError, Unsupported
from holdfast.frameworks.torch import program as torch_program
from holdfast.frameworks.torch.forms import ROWS, Given, Range, Taken
from holdfast.frameworks.torch.guards import refuse_lost
from holdfast.frameworks.torch.tensors import dtype_name

__all__ = ["Traced", "made_by", "split", "trace"]

_WEIGHT: Final = re.compile(r"data/(?:weights|constants)/[a-z]+_[0-9]+")
_LONGEST: Final = 160
# Loggers that tell pages of what cannot be traced.
_TALKATIVE: Final = (
    "torch._export.non_strict_utils",
    "torch.export",
    "torch.export.dynamic_shapes",
    "torch.fx.experimental.symbolic_shapes",
)


class Traced(NamedTuple):
    """A program, and for which inputs it holds.

    Attributes:
        data: The ``.pt2`` archive, cleaned.
        inputs: What it takes.
        sizes: What the sizes named there may be.
    """

    data: bytes
    inputs: tuple[Taken, ...]
    sizes: dict[str, Range]


def made_by() -> dict[str, str]:
    """Return what makes forms of modules here, with its release."""
    import torch

    try:
        return {"torch": version("torch")}
    except PackageNotFoundError:
        return {"torch": str(torch.__version__)}


def trace(module: Any, given: Given, *, loose: bool) -> Traced:
    """Export a module for any number of rows.

    Args:
        module: It is left as it was.
        given: Two rows or more, all of them tensors.
        loose: Whether other sizes of the inputs may vary as well, where the module lets them.

    Raises:
        Unsupported: It cannot be done; the message is one sentence.
    """
    import torch

    flags = [(part, part.training) for part in module.modules()]
    rows = torch.export.Dim(ROWS)
    shapes = [
        {
            axis: torch.export.Dim.AUTO if axis else rows
            for axis in range(tensor.dim() if loose else 1)
        }
        for tensor in given.tensors
    ]
    try:
        module.eval()
        with torch.no_grad(), _quiet():
            wrapped = _wrapped(module, given.names).eval()
            program = torch.export.export(wrapped, given.tensors, dynamic_shapes=(tuple(shapes),))
            if loose and _joined(program, given, shapes):
                program = torch.export.export(
                    wrapped, given.tensors, dynamic_shapes=(tuple(shapes),)
                )
            return _kept(program)
    except HoldfastError:
        raise
    except Exception as error:
        raise Unsupported(_sentence(error)) from error
    finally:
        for part, training in flags:
            part.training = training


def _joined(program: Any, given: Given, shapes: list[dict[int, Any]]) -> bool:
    """Make one size of those that may vary, are at one axis of several inputs, and are equal.

    As a text's length is in its tokens and in their mask. Returns whether there are any.
    """
    import torch

    places: dict[tuple[int, int], list[int]] = {}
    most: dict[tuple[int, int], int] = {}
    for place, value in enumerate(_values(program)):
        for axis, length in enumerate(value.shape):
            if axis and _number(length) is None:
                key = axis, int(given.tensors[place].shape[axis])
                places.setdefault(key, []).append(place)
                limit = _limit(program, length)
                most[key] = min(limit, most.get(key, limit))
    several = {key: found for key, found in places.items() if len(found) > 1}
    for number, (key, found) in enumerate(several.items()):
        limit = most[key]
        size = torch.export.Dim(f"joined{number}", max=None if limit == sys.maxsize else limit)
        for place in found:
            shapes[place][key[0]] = size
    return bool(several)


def _limit(program: Any, length: Any) -> int:
    """Return the largest value that a size may have; ``sys.maxsize`` where nothing limits it."""
    known = program.range_constraints.get(length.node.expr)
    return sys.maxsize if known is None or known.upper > sys.maxsize else int(known.upper)


def _values(program: Any) -> list[Any]:
    """Return what stands for the inputs in a program, with their sizes."""
    given = set(program.graph_signature.user_inputs)
    return [node.meta["val"] for node in program.graph.nodes if node.name in given]


def _wrapped(module: Any, names: Sequence[str | None]) -> Any:
    """Return a module that takes tensors by their place and answers in plain containers."""
    import torch

    class Plain(torch.nn.Module):  # type: ignore[misc] # torch is not seen by mypy
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *tensors: Any) -> Any:
            named = {name: each for name, each in zip(names, tensors, strict=True) if name}
            positional = () if named else tensors
            return _plain(self.model(*positional, **named))

    return Plain()


def _plain(value: Any) -> Any:
    """Return outputs in containers that a program may name; see ``run.plain``.

    Objects beside tensors, such as a cache for the next call, are left out: a program has none.
    """
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not _is_object(item)}
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, list):
        return list(map(_plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


def _is_object(value: Any) -> bool:
    import torch

    known = (torch.Tensor, Mapping, tuple, list, bool, int, float, str, type(None))
    return not isinstance(value, known) and not dataclasses.is_dataclass(value)


def _kept(program: Any) -> Traced:
    """Serialize a program; refuse one that holds only under conditions which are not kept."""
    buffer = io.BytesIO()
    import torch

    torch.export.save(program, buffer)
    data = buffer.getvalue()
    graph = torch_program.graph_of(data)
    if not isinstance(graph.get("guards_code"), list):
        raise Unsupported(f"torch {torch.__version__} does not tell for which sizes a graph holds")
    refuse_lost(graph)
    inputs, sizes = _described(program, graph["range_constraints"])
    return Traced(torch_program.cleaned(data), inputs, sizes)


def _described(
    program: Any, ranges: Mapping[str, Mapping[str, int | None]]
) -> tuple[tuple[Taken, ...], dict[str, Range]]:
    """Read what a program takes off its inputs; names are given in the order in which they come."""
    names: dict[str, str] = {}
    sizes: dict[str, Range] = {}
    taken = []
    for value in _values(program):
        shape: list[int | str] = []
        for axis, length in enumerate(value.shape):
            known = _number(length)
            if known is None:
                symbol = str(length)
                if symbol not in ranges:
                    raise Unsupported(f"its graph takes inputs of {symbol:.60} only")
                usual = ROWS if not names and axis == 0 else f"size{len(names)}"
                name = names.setdefault(symbol, usual)
                least, most = ranges[symbol]["min_val"], ranges[symbol]["max_val"]
                sizes[name] = Range(least or 0, most)
                shape.append(name)
            else:
                shape.append(known)
        if not shape or shape[0] != ROWS:
            raise Unsupported("its graph holds for one number of rows only")
        taken.append(Taken(dtype=dtype_name(value.dtype), shape=tuple(shape)))
    return tuple(taken), sizes


def _number(length: Any) -> int | None:
    """Return a length that cannot vary, None of one that can."""
    if isinstance(length, int):
        return length
    expression = length.node.expr
    return int(expression) if expression.is_number else None


def split(data: bytes, tensors: Mapping[str, TensorData]) -> tuple[bytes, dict[str, str]]:
    """Take out of an archive what a version's tensors hold already.

    Args:
        data: The archive.
        tensors: Of the version.

    Returns:
        The archive without it, and the member's name to the tensor's.
    """
    members = torch_program.members_of(data)
    weights = {name: part for name, part in members.items() if part and _WEIGHT.fullmatch(name)}
    lengths = {len(part) for part in weights.values()}
    known = {
        sha256(tensor.load()).digest(): name
        for name, tensor in sorted(tensors.items(), reverse=True)
        if tensor.nbytes in lengths
    }
    held = {member: known.get(sha256(part).digest()) for member, part in weights.items()}
    found = {member: name for member, name in held.items() if name is not None}
    rest = {name: part for name, part in members.items() if name not in found}
    return torch_program.joined(rest), found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from warning of, and printing, what it could not trace; the reason is ours."""

    def none_of_it(_: logging.LogRecord) -> bool:
        return False

    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    for logger in loggers:
        logger.addFilter(none_of_it)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(none_of_it)


def _sentence(error: Exception) -> str:
    """Return in one short sentence what torch said, which may be pages."""
    kind = type(error).__name__
    if kind in ("GuardOnDataDependentSymNode", "DataDependentOutputException") or (
        "data-dependent" in str(error)[:2000]
    ):
        return "its forward() decides by the values of its inputs, which a graph cannot do"
    if kind == "ConstraintViolationError" or "Constraints violated" in str(error)[:200]:
        return "its graph holds for some numbers of rows, or other sizes, only"
    said = str(error)[:2000].split("\n\n")[0]
    words = " ".join("".join(char if char.isprintable() else " " for char in said).split())
    first = re.split(r"(?<=[a-z'\"])\. ", words)[0]
    return f"torch.export does not take it: {first[:_LONGEST].rstrip('.') or kind}"
