"""The state of a spaCy pipeline as plain values and tensors, and putting it back.

Nothing of a file reaches msgpack or spaCy's compiled readers: weights are tensors, and a weight is
put in place only where a model that spaCy itself made for the same labels has one of its shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt, HoldfastError, Unsupported
from holdfast.frameworks.spacy.config import TRAINED, judge_size
from holdfast.plugins import import_extra

__all__ = [
    "read_component",
    "read_tokenizer",
    "read_vocab",
    "write_component",
    "write_strings",
    "write_tokenizer",
    "write_vocab",
]

_PATTERNS: Final = ("entity_ruler", "span_ruler", "attribute_ruler")
_REGEXES: Final = ("prefix_search", "suffix_search", "infix_finditer", "token_match", "url_match")
_LONGEST: Final = 2_000_000
_TEXT: Final = "a"


def read_component(factory: str, pipe: Any) -> dict[str, Any]:
    """Return what a component learned or was given.

    Raises:
        Unsupported: It holds something that is not kept.
    """
    if factory in TRAINED:
        return {
            "labels": _plain_labels(getattr(pipe, "label_data", None)),
            "cfg": _json(dict(getattr(pipe, "cfg", {}))),
            "nodes": [_node(node) for node in pipe.model.walk()],
        }
    if factory in _PATTERNS:
        return {"patterns": _json(pipe.patterns)}
    if factory == "lemmatizer":
        return {"lookups": _tables(pipe.lookups)}
    if factory == "sentencizer":
        return {"punct_chars": sorted(pipe.punct_chars)}
    if hasattr(pipe, "to_bytes") and not type(pipe).__module__.startswith("spacy."):
        raise Unsupported(
            f"the component {type(pipe).__qualname__} has a state of its own, which only it reads.",
            hint="nlp.remove_pipe('NAME')  # and add it again after loading",
        )
    return {}


def _node(node: Any) -> dict[str, Any]:
    if node.shims:
        raise Unsupported(
            f"the layer {node.name!r:.60} wraps a model of another framework.",
            hint="holdfast.save(torch_module, 'name')  # the wrapped model by itself",
        )
    ops = import_extra("thinc.api", needed_for="a spaCy pipeline").NumpyOps()
    return {
        "name": node.name,
        "dropout": node.attrs.get("dropout_rate"),
        "params": {
            name: np.ascontiguousarray(ops.to_numpy(node.get_param(name)))
            for name in node.param_names
            if node.has_param(name)
        },
    }


def _plain_labels(labels: Any) -> Any:
    if isinstance(labels, dict):
        return {str(name): _plain_labels(value) for name, value in labels.items()}
    if isinstance(labels, list | tuple):
        return [_plain_labels(item) for item in labels]
    return int(labels) if isinstance(labels, int) else labels  # parts of speech are an enumeration


def _json(value: Any) -> Any:
    srsly = import_extra("srsly", needed_for="a spaCy pipeline")
    try:
        return srsly.json_loads(srsly.json_dumps(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise Unsupported(
            f"a component of the pipeline holds what is no plain data: {error!s:.100}",
            hint="nlp.get_pipe('NAME').patterns  # texts, numbers, lists and dictionaries",
        ) from error


def _tables(lookups: Any) -> dict[str, Any]:
    return {name: dict(lookups.get_table(name)) for name in lookups.tables}


def read_vocab(vocab: Any) -> dict[str, Any]:
    """Return strings, vectors and lookup tables of a vocabulary."""
    vectors = vocab.vectors
    if str(getattr(vectors, "mode", "default")) not in (
        "default",
        "VectorsMode.default",
        "Mode.default",
    ):
        raise Unsupported(
            "vectors of floret are not kept.", hint="spacy.vocab.Vectors(shape=(n, d))"
        )
    ops = import_extra("thinc.api", needed_for="a spaCy pipeline").NumpyOps()
    keys = sorted((int(key), int(row)) for key, row in vectors.key2row.items())
    return {
        "strings": sorted(vocab.strings),
        "vectors": np.ascontiguousarray(ops.to_numpy(vectors.data)),
        "keys": np.array([key for key, _ in keys], dtype=np.uint64),
        "rows": np.array([row for _, row in keys], dtype=np.int64),
        "vectors_name": vectors.name,
        "lookups": _tables(vocab.lookups),
    }


def read_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Return the patterns and special cases of spaCy's rule-based tokenizer."""
    if type(tokenizer).__module__ != "spacy.tokenizer":
        raise Unsupported(
            f"the tokenizer is a {type(tokenizer).__qualname__}, a class of its own.",
            hint="nlp.tokenizer = spacy.tokenizer.Tokenizer(nlp.vocab)",
        )
    srsly = import_extra("srsly", needed_for="a spaCy pipeline")
    return dict(srsly.msgpack_loads(tokenizer.to_bytes(exclude=["vocab"])))


def write_vocab(nlp: Any, kept: Mapping[str, Any]) -> None:
    """Put vectors and lookups in place; strings come last, see ``write_strings``."""
    spacy = import_extra("spacy", needed_for="a spaCy pipeline")
    data, keys, rows = kept["vectors"], kept["keys"], kept["rows"]
    sound = (
        type(data) is np.ndarray and data.ndim == 2 and data.dtype.kind == "f"
        and type(keys) is np.ndarray and keys.dtype == np.uint64
        and type(rows) is np.ndarray and rows.dtype == np.int64
        and keys.shape == rows.shape and keys.ndim == 1
        and (not len(rows) or (rows.min() >= 0 and rows.max() < len(data)))
    )  # fmt: skip
    if not sound:
        raise Corrupt("the vectors of the pipeline are no matrix with a row for each key")
    vectors = spacy.vectors.Vectors(
        strings=nlp.vocab.strings, data=np.array(data), name=kept["vectors_name"]
    )
    for key, row in zip(keys.tolist(), rows.tolist(), strict=True):
        vectors.add(key, row=row)
    if data.size:
        nlp.vocab.vectors = vectors
    nlp.vocab.lookups = _lookups(kept["lookups"])


def _lookups(tables: Any) -> Any:
    lookups = import_extra("spacy.lookups", needed_for="a spaCy pipeline").Lookups()
    if type(tables) is not dict or any(type(table) is not dict for table in tables.values()):
        raise Corrupt("the lookup tables of the pipeline are no dictionaries")
    for name, table in tables.items():
        lookups.add_table(name, table)
    return lookups


def write_component(nlp: Any, factory: str, pipe: Any, kept: Mapping[str, Any]) -> None:
    """Put back what a component learned.

    Raises:
        Corrupt: Labels, patterns or weights are not such as spaCy makes.
    """
    try:
        if factory in TRAINED:
            with _random_state():
                _initialize(nlp, pipe, kept)
            if hasattr(pipe, "cfg"):
                pipe.cfg.update(kept["cfg"])
            _fill(pipe.model, kept["nodes"])
        elif factory in _PATTERNS:
            pipe.add_patterns(kept["patterns"])
        elif factory == "lemmatizer":
            pipe.lookups = _lookups(kept["lookups"])
            pipe._validated = True  # noqa: SLF001 - what initialize() sets when tables are there
        elif factory == "sentencizer":
            pipe.punct_chars = set(kept["punct_chars"])
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(
            f"the component {factory} cannot be made from what is kept: "
            f"{type(error).__name__}: {error!s:.150}"
        ) from error


def _initialize(nlp: Any, pipe: Any, kept: Mapping[str, Any]) -> None:
    """Let spaCy make the model for these labels, with weights of its own."""
    training = import_extra("spacy.training", needed_for="a spaCy pipeline")
    doc = nlp.make_doc(_TEXT)
    example = training.Example(doc, doc.copy())
    options = {} if kept["labels"] in (None, []) else {"labels": kept["labels"]}
    if not kept["nodes"] or not any(node["params"] for node in kept["nodes"]):
        return  # it was never trained
    for path, block in _blocks(nlp.config["components"]):
        judge_size(path, block, _count(kept["labels"]))
    pipe.initialize(lambda: [example], nlp=nlp, **options)


def _blocks(value: Any, path: str = "components") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        yield path, value
        for name, item in value.items():
            yield from _blocks(item, f"{path}.{name}")


def _count(labels: Any) -> int:
    if isinstance(labels, dict):
        return sum(map(_count, labels.values())) + len(labels)
    return len(labels) if isinstance(labels, list) else 1


@contextmanager
def _random_state() -> Iterator[None]:
    before = np.random.get_state()  # noqa: NPY002 - the global one, which thinc draws from
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002 - same


def _fill(model: Any, kept: Any) -> None:
    nodes = list(model.walk())
    if type(kept) is not list or [part["name"] for part in kept] != [node.name for node in nodes]:
        raise Corrupt("the layers of a component are not those of its configuration")
    for node, part in zip(nodes, kept, strict=True):
        if "dropout_rate" in node.attrs and type(part["dropout"]) in (int, float):
            node.attrs["dropout_rate"] = part["dropout"]
        own = {name for name in node.param_names if node.has_param(name)}
        if own != part["params"].keys():
            raise Corrupt(f"the layer {node.name!r:.60} has other weights than its kind")
        for name, value in part["params"].items():
            mine = node.get_param(name)
            fits = type(value) is np.ndarray and (value.shape, value.dtype) == (
                tuple(mine.shape), np.dtype(mine.dtype),
            )  # fmt: skip
            if not fits:
                raise Corrupt(f"the weight {name} of {node.name!r:.60} is of another shape or kind")
            node.set_param(name, node.ops.asarray(np.array(value)))


def write_tokenizer(nlp: Any, kept: Mapping[str, Any]) -> None:
    """Put patterns and special cases back; they are judged as texts and written anew by us."""
    srsly = import_extra("srsly", needed_for="a spaCy pipeline")
    allowed = {*_REGEXES, "exceptions", "faster_heuristics"}
    patterns = [kept.get(name) for name in _REGEXES]
    if (
        not kept.keys() <= allowed
        or any(
            not (item is None or (isinstance(item, str) and len(item) <= _LONGEST))
            for item in patterns
        )
        or not isinstance(kept.get("exceptions"), dict)
    ):
        raise Corrupt("the tokenizer of the pipeline is not made of patterns and special cases")
    try:
        nlp.tokenizer.from_bytes(srsly.msgpack_dumps(dict(kept)))
    except Exception as error:
        raise Corrupt(f"the tokenizer of the pipeline cannot be made: {error!s:.150}") from error


def write_strings(nlp: Any, strings: Any) -> None:
    """Make the strings known exactly those that were saved."""
    srsly = import_extra("srsly", needed_for="a spaCy pipeline")
    if type(strings) is not list or any(type(text) is not str for text in strings):
        raise Corrupt("the strings of the pipeline are no texts")
    nlp.vocab.strings.from_bytes(srsly.json_dumps(strings).encode())
