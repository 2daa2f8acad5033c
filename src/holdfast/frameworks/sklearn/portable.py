"""The portable form of an estimator: skl2onnx's graph, pinned so that old and new runtimes run it.

Opsets are those that every onnxruntime from 1.12 on runs. Texts are compared under ``C.UTF-8``,
which minimal systems have, where the converter's default, ``en_US.UTF-8``, is often missing.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from holdfast.errors import Unsupported
from holdfast.frameworks.base import Payload
from holdfast.frameworks.onnx.forms import Fed
from holdfast.plugins import import_extra

__all__ = ["convert", "is_installed", "made_by", "refuse_slow"]

_OPSETS: Final = {"": 17, "ai.onnx.ml": 3}
_LOCALE: Final = b"C.UTF-8"
# Beyond these a conversion takes more than about a second: skl2onnx walks each tree in Python.
_MOST_NODES: Final = 15_000
_MOST_VALUES: Final = 2_000_000
# A node for every quantile of every column, each looked at again for every other.
_SLOW: Final = frozenset({"sklearn.QuantileTransformer"})
# How tensors end that have one item for each node of all trees.
_NODES: Final = ("left_child", "num_threshold")
# What skl2onnx takes \w for is [a-zA-Z0-9_], and it keeps words of one letter.
_USUAL_WORDS: Final = r"(?u)\b\w\w+\b"
_WORDS: Final = r"[\p{L}\p{N}_]{2,}"
_HISTOGRAMS: Final = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
_LONGEST: Final = 160
_CLASS: Final = re.compile(r"(?:for type|model type|type) '?<class '([\w.]+)'>")


def is_installed() -> bool:
    """Say whether the converter and the runtime are installed; imports nothing."""
    return all(importlib.util.find_spec(name) for name in ("skl2onnx", "onnxruntime"))


def made_by() -> dict[str, str]:
    """Return what makes and measures forms here, with the releases."""
    found = {}
    for name in ("scikit-learn", "skl2onnx", "onnx", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a namesake provides it
            continue
    return found


def refuse_slow(payload: Payload) -> None:
    """Judge by what was packed whether a conversion would take more than about a second.

    Raises:
        Unsupported: It would.
    """
    slow = _SLOW.intersection(payload.structure.types)
    sizes = {name: data.nbytes // _width(data.dtype) for name, data in payload.tensors.items()}
    nodes = sum(size for name, size in sizes.items() if name.endswith(_NODES))
    values = sum(sizes.values())
    what = None
    if slow:
        what = f"a {min(slow).partition('.')[2]}"
    elif nodes > _MOST_NODES:
        what = f"its {nodes:,} tree nodes"
    elif values > _MOST_VALUES:
        what = f"its {values:,} values"
    if what is not None:
        raise Unsupported(f"{what} would take long to convert; portable='onnx' does it anyhow")


def _width(dtype: str) -> int:
    """Return the bytes of one item of a safetensors dtype."""
    digits = dtype.lstrip("BFIUO").partition("_")[0]
    return max(1, int(digits) // 8) if digits.isdigit() else 1


def convert(model: Any, inputs: Sequence[Fed], *, scores: bool) -> bytes:
    """Convert a fitted estimator.

    Args:
        model: The estimator.
        inputs: What the graph takes.
        scores: Whether its second output is the decision function, not probabilities.

    Raises:
        Unsupported: skl2onnx cannot; the message is one sentence.
        MissingExtra: skl2onnx is not installed.
    """
    skl2onnx = import_extra("skl2onnx", needed_for="A portable form")
    types = import_extra("skl2onnx.common.data_types", needed_for="A portable form")
    kinds = {
        "float32": types.FloatTensorType,
        "int64": types.Int64TensorType,
        "string": types.StringTensorType,
    }
    given = [
        (fed.name, kinds[fed.dtype]([None, 1 if fed.width is None else fed.width]))
        for fed in inputs
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = skl2onnx.convert_sklearn(
                model,
                name="model",
                initial_types=given,
                target_opset=dict(_OPSETS),
                options=_options(model, scores=scores),
                custom_conversion_functions=_mended(model),
            )
    except Exception as error:
        raise Unsupported(
            _sentence(error, model), hint="holdfast.save(model, name, portable=None)"
        ) from error
    _settle(proto)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _options(model: Any, *, scores: bool) -> dict[int, dict[str, Any]]:
    """Return skl2onnx's options: probabilities as an array, scores where those are the answer."""
    options: dict[int, dict[str, Any]] = {}
    for part in _parts(model):
        if hasattr(part, "steps"):  # what is said of a pipeline is said of each step
            continue
        known = _known_options(type(part))
        chosen: dict[str, Any] = {}
        if "zipmap" in known:
            chosen["zipmap"] = False
        if scores and "raw_scores" in known and part is _last(model):
            chosen["raw_scores"] = True
        if "tokenexp" in known and getattr(part, "token_pattern", None) == _USUAL_WORDS:
            chosen["tokenexp"] = _WORDS
        if chosen:
            options[id(part)] = chosen
    return options


class _WholeNumbers:
    """skl2onnx's container of nodes; truths among whole numbers, which protobuf refuses, are 0, 1.

    The converter of histogram boosting gives such for where missing values go.
    """

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *args: Any, **attributes: Any) -> None:
        """Add a node as the container does."""
        name = "nodes_missing_value_tracks_true"
        if name in attributes:
            attributes[name] = list(map(int, attributes[name]))
        self._container.add_node(*args, **attributes)


def _mended(model: Any) -> dict[type, Callable[[Any, Any, Any], None]]:
    """Return skl2onnx's converters of histogram boosting, given whole numbers."""
    registration = import_extra("skl2onnx.common._registration", needed_for="A portable form")
    found: dict[type, Callable[[Any, Any, Any], None]] = {}
    for part in _parts(model):
        if type(part).__name__ in _HISTOGRAMS:
            plain = registration.get_converter(f"Sklearn{type(part).__name__}")
            found[type(part)] = partial(_in_whole_numbers, plain)
    return found


def _in_whole_numbers(plain: Any, scope: Any, operator: Any, container: Any) -> None:
    plain(scope, operator, _WholeNumbers(container))


def _known_options(kind: type) -> Container[str]:
    operators = import_extra("skl2onnx._supported_operators", needed_for="A portable form")
    registration = import_extra("skl2onnx.common._registration", needed_for="A portable form")
    alias = operators.sklearn_operator_name_map.get(kind)
    try:
        known = registration.get_converter(alias).get_allowed_options()
    except (ValueError, AttributeError):  # it has no converter, or one that is a plain function
        return ()
    return known if isinstance(known, Mapping) else ()


def _last(model: Any) -> Any:
    """Return the estimator whose answers are the model's."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "steps") and model.steps:
            model = model.steps[-1][1]
        else:
            return model


def _parts(model: Any) -> Iterator[Any]:
    """Yield a model and what it is composed of: steps, transformers, estimators."""
    queue, seen = [model], set()
    while queue:
        part = queue.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple):
            queue += [each for each in part if not isinstance(each, str)]
        elif hasattr(part, "get_params") and not isinstance(part, type):
            yield part
            queue += [
                value
                for value in vars(part).values()
                if isinstance(value, list | tuple) or hasattr(value, "get_params")
            ]


def _settle(proto: Any) -> None:
    """Name the locale of every node that depends on one, in every graph."""
    queue = [proto.graph]
    while queue:
        graph = queue.pop()
        for node in graph.node:
            if node.op_type == "StringNormalizer":
                rest = [each for each in node.attribute if each.name != "locale"]
                del node.attribute[:]
                node.attribute.extend(rest)
                node.attribute.add(name="locale", type=3, s=_LOCALE)
            for attribute in node.attribute:
                queue += [attribute.g] if attribute.HasField("g") else [*attribute.graphs]


def _sentence(error: Exception, model: Any) -> str:
    """Return what a converter said in one short sentence; it may say a million characters."""
    said = str(error)[:2000]
    if type(error).__name__ in ("MissingShapeCalculator", "MissingConverter"):
        found = _CLASS.search(said)
        name = found[1].rpartition(".")[2] if found else type(model).__name__
        return f"skl2onnx has no converter for {name}"
    told = said.split("\n\n")[0].partition(" with name=")[0]
    words = "".join(char if char.isprintable() else " " for char in told)
    first = re.split(r"(?<=[a-z'\"])\. ", " ".join(words.split()))[0]
    return f"skl2onnx does not convert it: {first[:_LONGEST].rstrip('.') or type(error).__name__}"
