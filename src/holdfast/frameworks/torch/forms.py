"""A portable form of a module: the program that ``torch.export`` makes, without its weights.

What is kept is the ``.pt2`` archive of ``program.py`` less the members whose bytes are those of a
tensor of the version: the record says which tensor goes where. The sizes for which the graph holds
are in the record too and are checked here, for an archive of ours has no guards, which are code.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import msgspec

from holdfast.errors import Corrupt, UsageError
from holdfast.frameworks.forms import PortableForm
from holdfast.frameworks.torch import program as torch_program, run as torch_run
from holdfast.frameworks.torch.tensors import DTYPES, dtype_name

__all__ = ["FORMAT", "ROWS", "Given", "Program", "ProgramForm", "Range", "Taken", "whole"]

FORMAT: Final = "torch.export"
# The size that all inputs have first.
ROWS: Final = "rows"

_WEIGHT: Final = re.compile(r"data/(weights|constants)/[a-z]{1,20}_[0-9]{1,9}")
_MOST_INPUTS: Final = 1000
_MOST_AXES: Final = 64


class Range(NamedTuple):
    """The least and the largest value of a size; None where there is no largest."""

    least: int
    most: int | None


class Taken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input of the program.

    Attributes:
        dtype: torch's name of its type.
        shape: Numbers, and names of sizes that may be other ones.
        name: The argument; None of one that is given by its place.
    """

    dtype: str
    shape: tuple[int | str, ...]
    name: str | None = None


class ProgramForm(PortableForm, frozen=True, kw_only=True, omit_defaults=True):
    """A portable form of a module as the record describes it.

    Attributes, beside those of every form:
        weights: Member of the archive to the version's tensor whose bytes it is.
        inputs: In the order of the program.
        sizes: What the named sizes may be; ``rows`` is one of them.
        absolute: Largest difference from the module's answers.
        sampled: Numbers of an output that ``forward`` keeps of each row, where the golden set of
            such modules does so; ``predict`` then answers in full.
    """

    weights: dict[str, str]
    inputs: tuple[Taken, ...]
    sizes: dict[str, Range]
    absolute: float
    sampled: int | None = None

    @property
    def errors(self) -> dict[str, float]:
        """Method to the largest difference of its answers from the model's."""
        methods = ("forward",) if self.sampled is None else ("predict", "forward")
        return dict.fromkeys(methods, self.absolute)

    def fault(self) -> str | None:
        """Return what of it cannot be, or None."""
        names = [taken.name for taken in self.inputs if taken.name is not None]
        members = all(map(_WEIGHT.fullmatch, self.weights))
        faults = {
            "it has no inputs, or too many": not 0 < len(self.inputs) <= _MOST_INPUTS,
            "two of its inputs have one name": len({*names}) < len(names),
            "some of its inputs have names and some have none": 0 < len(names) < len(self.inputs),
            "its sizes contradict themselves": not all(map(_is_range, self.sizes.values())),
            "its inputs contradict themselves": not all(map(self._is_taken, self.inputs)),
            "its weights are no members of a program": not members,
            "its answers are cut to nothing": self.sampled is not None and self.sampled < 1,
            "its error is no number": not (math.isfinite(self.absolute) and self.absolute >= 0),
        }
        return next((what for what, true in faults.items() if true), None)

    def _is_taken(self, taken: Taken) -> bool:
        axes = taken.shape
        known = taken.dtype in DTYPES and 0 < len(axes) <= _MOST_AXES and axes[0] == ROWS
        return known and all(
            axis in self.sizes if isinstance(axis, str) else axis >= 0 for axis in axes
        )


def _is_range(sizes: Range) -> bool:
    return sizes.least >= 0 and (sizes.most is None or sizes.least <= sizes.most)


class Given(NamedTuple):
    """Inputs one after the other, and their names where they were given by name."""

    names: tuple[str | None, ...]
    tensors: tuple[Any, ...]

    @classmethod
    def to(cls, module: Any, inputs: Any) -> Given:
        """Read inputs as a call of a module does."""
        positional, keywords = torch_run.arguments(module, inputs)
        names = (*(None for _ in positional), *keywords)
        return cls(names, (*positional, *keywords.values()))

    def inputs(self) -> Any:
        """Return them as a module is called with."""
        if all(name is None for name in self.names):
            return self.tensors
        return dict(zip(self.names, self.tensors, strict=True))


def whole(form: ProgramForm, blob: bytes, tensor: Callable[[str], memoryview]) -> bytes:
    """Return the archive with the weights that the version holds.

    Args:
        form: What the record says.
        blob: The archive without them.
        tensor: Gives the bytes of a tensor of the version.

    Raises:
        Corrupt: They do not belong together, or the archive is not one of Holdfast.
        UnsafeContent: It holds what torch would run.
    """
    if torch_program.cleaned(blob) != blob:
        raise Corrupt("the portable form holds what an archive of Holdfast never does")
    members: dict[str, bytes | memoryview] = {**torch_program.members_of(blob)}
    twice = members.keys() & form.weights.keys()
    if twice:
        raise Corrupt(f"the portable form holds {min(twice)!r} itself and names a tensor for it")
    members |= {member: tensor(name) for member, name in form.weights.items()}
    return torch_program.joined(members)


class Program:
    """A form that runs.

    Attributes:
        form: What the record says of it.
    """

    def __init__(self, form: ProgramForm, data: bytes) -> None:
        """Open a whole archive, which ``whole`` has judged; nothing of it is run yet.

        Raises:
            MissingExtra: torch is not installed.
            UsageError: This torch does not read it.
            Corrupt: It is not the program that the form describes.
        """
        self.form = form
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._module = _module_of(data)
        found = _inputs_of(self._module)
        if found != len(form.inputs):
            raise Corrupt(
                f"the portable form's graph has {found} inputs, and the record says "
                f"{len(form.inputs)}"
            )

    def with_form(self, form: ProgramForm) -> Program:
        """Return the same program with other words about it."""
        other = object.__new__(Program)
        other.form, other._module = form, self._module
        return other

    def steady(self) -> AbstractContextManager[None]:
        """Fix seeds while it runs, as for the module that it stands for."""
        return torch_run.steady(self._module)

    def answer(self, method: str, inputs: Any) -> Any:
        """Answer as the module's ``forward`` does; inputs as for a module.

        Raises:
            UsageError: The inputs are not the form's, or the program does not run on them.
        """
        import torch

        if method not in self.form.errors:
            raise UsageError(f"the portable form has no {method!r:.40}; only 'forward'.")
        given = Given.to(self._module, inputs)
        tensors = self._ordered(given)
        self._require_sizes(tensors)
        try:
            with torch.no_grad():
                answers = torch_run.plain(self._module(*tensors))
        except Exception as error:
            raise _refused(f"it raises {type(error).__name__}: {error!s:.160}") from error
        cut = None if method == "predict" else self.form.sampled
        return answers if cut is None else torch_run.sampled(answers, cut)

    def _ordered(self, given: Given) -> list[Any]:
        wanted = [taken.name for taken in self.form.inputs]
        if len(given.names) != len(wanted) or {*given.names} != {*wanted}:
            told = ", ".join(str(name) for name in wanted) if wanted[0] else f"{len(wanted)} inputs"
            raise _refused(f"it takes {told:.200}")
        if wanted[0] is None:
            return list(given.tensors)
        named = dict(zip(given.names, given.tensors, strict=True))
        return [named[name] for name in wanted]

    def _require_sizes(self, tensors: list[Any]) -> None:
        import torch

        bound: dict[str, int] = {}
        for place, (taken, tensor) in enumerate(zip(self.form.inputs, tensors, strict=True)):
            what = taken.name or f"input {place}"
            if not isinstance(tensor, torch.Tensor):
                raise _refused(f"{what} is a {type(tensor).__name__:.60} and not a tensor")
            if dtype_name(tensor.dtype) != taken.dtype:
                raise _refused(f"{what} is {dtype_name(tensor.dtype)} and not {taken.dtype}")
            shape = tuple(tensor.shape)
            fits = len(shape) == len(taken.shape) and all(
                size == (axis if isinstance(axis, int) else bound.setdefault(axis, size))
                for size, axis in zip(shape, taken.shape, strict=True)
            )
            if not fits:
                told = ", ".join(map(str, taken.shape))
                raise _refused(f"{what} has the shape {shape}, and it takes ({told})")
        for name, size in bound.items():
            least, most = self.form.sizes[name]
            if size < least:
                raise _refused(f"{name} is {size}, and it takes at least {least}")
            if most is not None and size > most:
                raise _refused(f"{name} is {size}, and it takes at most {most}")


def _module_of(data: bytes) -> Any:
    program = torch_program.program_of
    try:
        return program(data).module()
    except (ImportError, Corrupt):
        raise
    except Exception as error:
        import torch

        raise UsageError(
            f"torch {torch.__version__} does not read the portable form: "
            f"{type(error).__name__}: {error!s:.160}",
            hint="python -m pip install --upgrade torch",
        ) from error


def _inputs_of(module: Any) -> int:
    return sum(node.op == "placeholder" for node in module.graph.nodes)


def _refused(what: str) -> UsageError:
    return UsageError(
        f"The portable form does not answer for these inputs: {what}.",
        hint='holdfast.load("REF", environment="recorded")',
    )
