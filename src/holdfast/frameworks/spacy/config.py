"""Judging a pipeline's configuration: which factories and registered functions it may name.

A configuration names functions, which spaCy looks up in its registries and calls. Only those that
spaCy and thinc themselves ship may be named, and none that reads files or wraps another framework.
Source: https://spacy.io/api/top-level#registry and https://spacy.io/usage/training#config
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast.errors import Unsupported
from holdfast.plugins import import_extra

__all__ = ["TRAINED", "judge", "judge_size", "language", "plain"]

# Factories whose state is a thinc model and labels.
TRAINED: Final = frozenset(
    {
        "morphologizer", "ner", "parser", "senter", "tagger", "textcat", "textcat_multilabel",
        "tok2vec",
    }
)  # fmt: skip
RULES: Final = frozenset(
    {
        "attribute_ruler", "doc_cleaner", "entity_ruler", "lemmatizer", "merge_entities",
        "merge_noun_chunks", "merge_subtokens", "sentencizer", "span_ruler",
    }
)  # fmt: skip
# Others that spaCy ships, whose state is not read here.
_NOT_KEPT: Final = frozenset(
    {
        "beam_ner", "beam_parser", "entity_linker", "future_entity_ruler", "nn_labeller",
        "span_finder", "spancat",
        "spancat_singlelabel", "tensorizer", "token_splitter", "trainable_lemmatizer",
    }
)  # fmt: skip
_SHIPPED: Final = ("spacy.", "spacy_legacy.", "spacy_loggers.", "thinc.", "srsly.")
# Registries that a pipeline's own part of the configuration may use.
_BUILDING: Final = frozenset(
    {"architectures", "initializers", "layers", "misc", "scorers", "tokenizers", "vectors"}
)
_TOKENIZERS: Final = frozenset({"spacy.Tokenizer.v1"})
_REFUSED: Final = (
    "KBFromFile",
    "LookupsDataLoader",
    "PyTorch",
    "TensorFlow",
    "TorchScript",
    "MXNet",
)
# Parts whose functions spaCy calls on a pipeline; the others are for the training program.
_RUN: Final = frozenset({"nlp", "components", "initialize"})
_CALLBACKS: Final = ("before_creation", "after_creation", "after_pipeline_creation")
_DEEPEST: Final = 40
_MOST: Final = 100_000
_LARGEST: Final = 10_000_000
_WEIGHTS: Final = 2**28


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dictionaries, lists and values."""
    return {str(name): _plain(value) for name, value in config.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def language(name: object) -> Any:
    """Return the class of a language that the installed spaCy ships.

    Raises:
        Unsupported: There is no such language in it.
    """
    spacy = import_extra("spacy", needed_for="a spaCy pipeline")
    lang = import_extra("spacy.lang", needed_for="a spaCy pipeline")
    shipped = {module.name for module in pkgutil.iter_modules(lang.__path__)}
    if not isinstance(name, str) or name not in shipped:
        raise _refusal(f"is of the language {name!r:.40}, which spaCy does not ship here")
    return spacy.util.get_lang_class(name)


def judge(config: Mapping[str, Any]) -> None:
    """Accept a configuration whose names are all of what spaCy and thinc ship.

    Raises:
        Unsupported: It names something else, a file, or is not of a configuration's shape.
    """
    nlp, components = config.get("nlp"), config.get("components")
    if not isinstance(nlp, dict) or not isinstance(components, dict):
        raise _refusal("has no parts 'nlp' and 'components'")
    if any(nlp.get(name) is not None for name in _CALLBACKS):
        raise _refusal("calls a function of its own when the pipeline is made")
    for part, value in config.items():
        _judge_part(part, value)
    for name, component in components.items():
        _judge_component(name, component)
    for path, _, block in _walk("components", components):
        if isinstance(block, dict):
            judge_size(path, block)


def _judge_part(part: str, value: Any) -> None:
    inside = part in _RUN
    for count, (path, key, item) in enumerate(_walk(part, value)):
        if count > _MOST:
            raise _refusal("is larger than any that is kept")
        called = isinstance(key, str) and key.startswith("@")
        if called and inside:
            _judge_function(path, key[1:], item)
        elif called and not isinstance(item, str):
            raise _refusal(f"names no text at {path:.80}")
        elif inside:
            _judge_value(path, item)


def judge_size(path: str, block: Mapping[str, Any], labels: int = 0) -> None:
    """Bound the weights that a layer allocates: as many as two of its numbers multiply to.

    Raises:
        Unsupported: They would be beyond a gibibyte.
    """
    lists = [
        item for value in block.values() for item in (value if isinstance(value, list) else [value])
    ]
    numbers = sorted(abs(item) for item in lists if type(item) in (int, float))
    first, second = ([1, *numbers][-1], [1, 1, *numbers][-2])
    if first * max(second, labels) > _WEIGHTS:
        raise _refusal(f"asks for more weights at {path:.80} than are kept")


def _walk(path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, Any, Any]]:
    if depth > _DEEPEST:
        raise _refusal(f"is nested too deeply at {path:.60}")
    pairs: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        pairs = iter(value.items())
    elif isinstance(value, list):
        pairs = iter(enumerate(value))
    for key, item in pairs:
        yield f"{path}.{key}", key, item
        yield from _walk(f"{path}.{key}", item, depth + 1)


def _judge_function(path: str, registry: str, name: Any) -> None:
    spacy = import_extra("spacy", needed_for="a spaCy pipeline")
    catalogue = import_extra("catalogue", needed_for="a spaCy pipeline")
    if registry not in _BUILDING:
        raise _refusal(f"uses the registry {registry!r:.40} at {path:.80}")
    if not isinstance(name, str) or any(word in name for word in _REFUSED):
        raise _refusal(f"names {name!r:.60} at {path:.80}, which reads files or other frameworks")
    if registry == "tokenizers" and name not in _TOKENIZERS:
        raise _refusal(f"uses the tokenizer {name!r:.60}, which is another package's")
    spacy.registry.ensure_populated()
    for space in ("spacy", "thinc"):
        # Never by entry point, which would import a package of the file's choice.
        if catalogue.check_exists(space, registry, name):
            function = catalogue._get((space, registry, name))  # noqa: SLF001 - else entry points
            if f"{getattr(function, '__module__', '')}.".startswith(_SHIPPED):
                return
    raise _refusal(
        f"names {name!r:.60} of {registry!r:.40} at {path:.80}, which spaCy does not ship"
    )


def _judge_value(path: str, value: Any) -> None:
    number = type(value) in (int, float)
    if number and not abs(value) <= _LARGEST:
        raise _refusal(f"has the number {value!r:.40} at {path:.80}")
    if not number and not isinstance(value, str | bool | dict | list | None):
        raise _refusal(f"holds a {type(value).__name__} at {path:.80}")


def _judge_component(name: str, component: Any) -> None:
    factory = component.get("factory") if isinstance(component, dict) else None
    if factory in TRAINED | RULES and "source" not in component:
        return
    catalogue = import_extra("catalogue", needed_for="a spaCy pipeline")
    if (
        isinstance(factory, str)
        and factory not in _NOT_KEPT
        and catalogue.check_exists("spacy", "internal_factories", factory)
    ):
        return  # the program's own: it has registered a component of this name
    raise Unsupported(
        f"the component {name!r:.60} is made by {factory!r:.60}, which is not kept: it is neither "
        "one of spaCy's that Holdfast knows nor registered by this program.",
        hint="@Language.component('name')  # in your program, before saving and before loading",
    )


def _refusal(what: str) -> Unsupported:
    return Unsupported(
        f"the configuration of the spaCy pipeline {what}.",
        hint="nlp = spacy.blank('en'); nlp.add_pipe('textcat')  # with spaCy's own parts",
    )
