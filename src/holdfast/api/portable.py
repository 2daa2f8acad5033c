"""A model that answers through its portable form: a proxy, and the graph or program behind it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from holdfast import frameworks
from holdfast.api.load import LEVELS, Loaded
from holdfast.archive import golden as goldens, read
from holdfast.codec.registry import Registry
from holdfast.environment.preflight import runs_form
from holdfast.errors import (
    BehaviourMismatch,
    Corrupt,
    EnvironmentMismatch,
    HoldfastError,
    NotFound,
    UsageError,
)
from holdfast.frameworks import LoadOptions
from holdfast.frameworks.onnx import forms as onnx_forms
from holdfast.frameworks.onnx.forms import Answer, Form, Graph
from holdfast.frameworks.torch import forms as torch_forms
from holdfast.frameworks.torch.forms import Program, ProgramForm
from holdfast.record import Content, Digest, parse_digest

if TYPE_CHECKING:
    from holdfast.api.version import Version

__all__ = [
    "PortableModel",
    "behaviour",
    "file_of",
    "form_bytes",
    "is_there",
    "load_portable",
    "replayed",
    "words",
]

_log = logging.getLogger("holdfast")

# Beside the error that was measured at save: what runtimes and processors differ by.
_SLACK: Final = 2.0
_RELATIVE: Final = 1e-5
_ABSOLUTE: Final = 1e-6
_TENSORS: Final = {"<f8": "F64", "<f4": "F32", "<f2": "F16"}


class PortableModel:
    """A model in the form of a graph, where its library, or its class, is not needed.

    It has the output methods that the form was proven for and, of a classifier, ``classes_``; that
    of a module is called like one. ``error`` says how far answers were from the model's own.

    Attributes:
        ref: The version.
        methods: The methods that it has.
        error: Method to the largest difference measured at save; 0 where answers were equal.
    """

    def __init__(self, ref: str, graph: Graph | Program, content: Content) -> None:
        self.ref = ref
        self.error = graph.form.errors
        self.methods = tuple(self.error)
        self._graph = graph
        self._kind = _kind_of(content)
        outputs = graph.form.outputs if isinstance(graph, Graph) else {}
        classes = _classes(content, outputs.get("predict"))
        self._attributes = {} if classes is None else {"classes_": classes}

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        if name in state.get("methods", ()):
            return partial(self.answer, name)
        if name in state.get("_attributes", ()):
            return state["_attributes"][name]
        raise AttributeError(
            f"the portable form of {state.get('ref')} has no {name!r}; it has "
            f"{', '.join((*state.get('methods', ()), *state.get('_attributes', ())))}. "
            'environment="recorded" gives more.'
        )

    def __call__(self, inputs: Any) -> Any:
        """Call a model that is a function, such as a module."""
        if "forward" not in self.methods:
            raise TypeError(f"{self.ref} is not called; it has {', '.join(self.methods)}")
        return self.answer(self.methods[0], inputs)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.methods, *self._attributes})

    def __repr__(self) -> str:
        return f"<{self._kind} of {self.ref} in its portable form ({words(self._graph.form)})>"

    def __reduce__(self) -> Any:
        raise TypeError(f"a portable form cannot be pickled; load {self.ref!r} where it goes")

    def output_methods(self) -> tuple[str, ...]:
        """Return the methods that answer for inputs, best first."""
        return self.methods

    def answer(self, method: str, inputs: Any) -> Any:
        """Call one output method.

        Raises:
            UsageError: The inputs are not the model's, or such as the form was not proven with.
        """
        try:
            return self._graph.answer(method, inputs)
        except HoldfastError as error:
            error.hint = error.hint.replace('"REF"', f'"{self.ref}"')
            error.ref = self.ref
            raise


def words(form: Form | ProgramForm) -> str:
    """Return what a form answers, and how near to the model, in words."""
    told = [
        f"{method} within {error:.1g}" if error else f"{method} equal"
        for method, error in form.errors.items()
    ]
    return f"{form.format}: {', '.join(told)}"


def _kind_of(content: Content) -> str:
    types = content.structure.types
    root = content.structure.nodes[content.structure.root]
    if root[:1] == ("object",) and isinstance(root[1], int) and 0 <= root[1] < len(types):
        return "".join(char for char in types[root[1]][:100] if char.isprintable())
    return content.framework[:60]


def _classes(content: Content, predict: Answer | None) -> Any | None:
    """Return ``classes_`` as the signature knows them, of the type that ``predict`` answers."""
    known = content.signature.get("classes")
    if not isinstance(known, list) or any(isinstance(each, list) for each in known):
        return None
    try:
        return np.array(known, dtype=None if predict is None else predict.dtype)
    except (TypeError, ValueError, OverflowError):
        return None


def is_there(version: Version, options: LoadOptions) -> bool:
    """Say whether a version has a portable form that may stand in for it, and what runs it."""
    asked = options.into is not None or options.rename is not None
    if asked or options.device not in ("auto", "cpu"):
        return False
    return runs_form(version.record.portable)


def load_portable(version: Version, options: LoadOptions, *, replay: str) -> Loaded:
    """Open the portable form of a version and prove it.

    Its bytes are hashed and judged, whatever was asked of other loads.

    Raises:
        EnvironmentMismatch: It has none.
        MissingExtra: What runs it is not installed, or pandas for a golden set of tables.
        BehaviourMismatch: It answers otherwise than recorded, by more than the recorded error.
        Corrupt: Record or graph are damaged or forged.
        UnsafeContent: The graph reaches out of itself.
        UsageError: ``into=`` or ``rename=`` were given, or the runtime refuses the graph.
    """
    if options.into is not None or options.rename is not None:
        raise UsageError(
            'into= and rename= need the model itself, and environment="portable" runs a graph.',
            hint=f'holdfast.load("{version.ref}", environment="here", into=model)',
        )
    graph = _opened(version)
    model = PortableModel(version.ref, graph, version.content)
    golden = version.record.golden
    if golden is None or replay == "never":
        return Loaded(model, "state only" if golden is None else "unproved", rung="portable")
    found = goldens.Golden.parse(golden)
    blob = None if found.blob is None else memoryview(version.store.blobs.read(Digest(found.blob)))
    result = replayed(graph, found, blob, frameworks.registry())
    if not result.passed:
        raise BehaviourMismatch(
            f"REFUSED: the portable form of {version.ref} answers {result.differing} of "
            f"{result.rows} golden rows otherwise than recorded ({said(result)}).",
            hint=f'holdfast.load("{version.ref}", environment="recorded")',
            ref=version.ref,
        )
    _log.info("%s loaded: %s, portable", version.ref, LEVELS[result.level])
    return Loaded(model, LEVELS[result.level], replay=result, rung="portable")


def _opened(version: Version) -> Graph | Program:
    form, data = _form_of(version), form_bytes(version)
    return Graph(form, data) if isinstance(form, Form) else Program(form, data)


def _form_of(version: Version) -> Form | ProgramForm:
    """Return what the record says of the form; raises ``EnvironmentMismatch`` where it has none."""
    kept = version.record.portable
    if kept is None or "blob" not in kept:
        why = "" if kept is None else f": {kept.get('reason')!s:.200}"
        raise EnvironmentMismatch(
            f"{version.ref} has no portable form{why}.",
            hint=f'holdfast.load("{version.ref}", environment="recorded")',
            ref=version.ref,
        )
    return _parsed(kept)


def _parsed(document: Mapping[str, Any]) -> Form | ProgramForm:
    wanted = document.get("format")
    if wanted == torch_forms.FORMAT:
        return ProgramForm.parse(document)
    if wanted != onnx_forms.FORMAT:
        raise Corrupt(
            f"the record's portable form is damaged: this release does not run {wanted!r:.40}"
        )
    return Form.parse(document)


def form_bytes(version: Version) -> bytes:
    """Return the file of a version's portable form, hashed and, of a program, whole and judged.

    Raises:
        EnvironmentMismatch: It has none.
        Corrupt: The bytes are missing or not those that the record names.
        UnsafeContent: A program holds what torch would run.
    """
    form = _form_of(version)
    digest = parse_digest(form.blob)
    try:
        data = version.store.blobs.read(digest)
    except NotFound as error:
        raise Corrupt(f"{error.message} It holds the portable form.", hint=error.hint) from error
    if len(data) != form.size:
        raise Corrupt(
            f"the portable form of {version.ref} has {len(data):,} bytes, not {form.size:,}",
            ref=version.ref,
        )
    return file_of(version, form.document(), bytes(data))


def file_of(version: Version, document: Mapping[str, Any], blob: bytes) -> bytes:
    """Return the file of a form: its blob and, of a program, the weights that the version holds.

    Raises:
        Corrupt: They do not belong together.
        UnsafeContent: A program holds what torch would run.
    """
    form = _parsed(document)
    if isinstance(form, Form):
        return blob
    store = version.store
    opened = read.open_version(store.blobs, version.manifest_id, verify="auto", stamps=store.stamps)
    lacking = set(form.weights.values()) - {*opened.tensors}
    if lacking:
        raise Corrupt(
            f"the portable form of {version.ref} needs the tensor {min(lacking)!r:.100}, "
            "which the version does not have",
            ref=version.ref,
        )
    return torch_forms.whole(form, blob, lambda name: opened.tensors[name].data)


def behaviour(graph: Graph | Program) -> goldens.Behaviour:
    """Return how a form answers, for a replay."""
    return goldens.Behaviour(
        methods=tuple(graph.form.errors),
        call=graph.answer,
        steady=graph.steady,
        synthetic=lambda rows, seed: None,  # noqa: ARG005 - a replay makes no inputs
    )


def replayed(
    graph: Graph | Program, golden: goldens.Golden, blob: memoryview | None, registry: Registry
) -> goldens.Replay:
    """Replay a golden set through a form, with the error that was measured as its tolerance.

    A program computes with the types of its module and is held to the module's own tolerance.

    Raises:
        Corrupt: The golden set is damaged, or the form does not answer what it recorded.
    """
    if golden.method not in graph.form.errors:
        raise Corrupt(f"the portable form does not answer {golden.method!r:.40}, as its golden set")
    if isinstance(graph, Graph):
        golden = _widened(golden, graph.form.outputs[golden.method])
    return goldens.replay(golden, blob, behaviour(graph), registry)


def _widened(golden: goldens.Golden, answer: Answer) -> goldens.Golden:
    tolerance = dict(golden.tolerance)
    if answer.dtype in _TENSORS:
        bounds = _RELATIVE, _SLACK * answer.absolute + _ABSOLUTE
        tolerance[_TENSORS[answer.dtype]] = bounds
    return msgspec.structs.replace(golden, tolerance=tolerance)


def said(result: goldens.Replay) -> str:
    """Return in words what a replay found."""
    return result.reason or f"max {result.largest:.2g} > {result.allowed:.2g}"
