"""spaCy pipelines: configuration judged, weights as tensors, rules and strings as plain values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import Corrupt, HoldfastError, Unsupported, UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.spacy import config as configs, state
from holdfast.plugins import import_extra

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "difference",
    "methods",
    "owns",
    "pack",
    "predict",
    "requires",
    "steady",
    "synthetic",
    "unpack",
]

ID: Final = "spacy"
TYPES: Final[Sequence[TypeSpec]] = ()
READS: Final[Mapping[str, Callable[[Path], Any]]] = {}
_PARTS: Final = frozenset(
    {"lang", "config", "meta", "max_length", "vocab", "tokenizer", "components"}
)
_TEXTS: Final = (
    "A short sentence about the weather in Oslo.",
    "The old trams of Lisbon climb seven hills, and nobody hurries.",
    "Two engineers from Lima wrote 12 letters to Acme Ltd. in May 2021!",
    "Is this good? It is not bad at all.",
)


def _to_folder(nlp: Any, path: Path) -> None:
    """Write spaCy's own folder, for ``spacy.load``."""
    nlp.to_disk(path)


WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {"folder": _to_folder}


def owns(model: object) -> bool:
    """Say whether ``model`` is a spaCy pipeline."""
    return any(
        base.__name__ == "Language" and base.__module__ == "spacy.language"
        for base in type(model).__mro__
    )


def _read(nlp: Any) -> dict[str, Any]:
    if not type(nlp).__module__.startswith("spacy."):
        raise Unsupported(
            f"the pipeline is of the language class {type(nlp).__qualname__}, not one of spaCy's.",
            hint=f"spacy.blank({nlp.lang!r})",
        )
    config = configs.plain(nlp.config)
    configs.judge(config)
    components = {}
    for name, pipe in nlp._components:  # noqa: SLF001 - disabled ones too
        factory = nlp.get_pipe_meta(name).factory
        components[name] = {"factory": factory, "state": state.read_component(factory, pipe)}
    return {
        "lang": nlp.lang,
        "config": config,
        "meta": configs.plain(nlp.meta),
        "max_length": int(nlp.max_length),
        "vocab": state.read_vocab(nlp.vocab),
        "tokenizer": state.read_tokenizer(nlp.tokenizer),
        "components": components,
    }


def pack(model: Any, registry: Registry) -> Payload:
    """Take a pipeline apart without changing it.

    Raises:
        Unsupported: Its configuration names code that spaCy does not ship, or a component holds
            what is not kept.
    """
    encoded = codec.encode(_read(model), registry, label="nlp")
    return Payload(structure=encoded.structure, tensors=encoded.tensors, files=encoded.files)


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    """Build the pipeline.

    Raises:
        MissingExtra: spaCy is not installed.
        Corrupt: What is kept is not what spaCy makes of its configuration.
        Unsupported: The configuration names a component that the program has not registered.
        UsageError: ``into=`` or ``rename=`` was given, which are for tensors by name.
    """
    if options.into is not None or options.rename is not None:
        raise UsageError(
            "into= and rename= are for PyTorch modules; a pipeline is built whole.",
            hint='nlp = holdfast.load("REF")',
        )
    import_extra("spacy", needed_for="loading a spaCy pipeline")
    kept = codec.decode(opened.structure, opened.tensors, registry, opened.audit, opened.files)
    if type(kept) is not dict or kept.keys() != _PARTS:
        raise Corrupt("the parts of a spaCy pipeline are not there")
    try:
        return _built(kept)
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(
            f"the pipeline cannot be built: {type(error).__name__}: {error!s:.200}"
        ) from error


def _built(kept: Mapping[str, Any]) -> Any:
    kind = configs.language(kept["lang"])
    configs.judge(kept["config"])
    components = kept["components"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nlp = kind.from_config(kept["config"], meta=kept["meta"], auto_fill=False)
        if [name for name, _ in nlp._components] != list(components):  # noqa: SLF001 - as above
            raise Corrupt("the components of the pipeline are not those of its configuration")
        state.write_vocab(nlp, kept["vocab"])
        state.write_tokenizer(nlp, kept["tokenizer"])
        for name, pipe in nlp._components:  # noqa: SLF001 - as above
            factory = nlp.get_pipe_meta(name).factory
            if components[name]["factory"] != factory:
                raise Corrupt(f"the component {name!r:.60} is made by another factory")
            state.write_component(nlp, factory, pipe, components[name]["state"])
        nlp._link_components()  # noqa: SLF001 - what from_bytes() does last
    state.write_strings(nlp, kept["vocab"]["strings"])
    nlp.max_length = kept["max_length"]
    return nlp


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Compare every part but the strings met since; those saved must be there."""
    one, other = _read(model), _read(built)
    met, known = set(one["vocab"].pop("strings")), set(other["vocab"].pop("strings"))
    found = codec.first_difference(one, other, registry, label="nlp")
    if found is None and not known <= met:
        return "nlp.vocab.strings come back with texts that were not there"
    return found


def requires(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return the packages that change the answers."""
    return ("spacy", "thinc")


def methods(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return ``pipe``: texts to annotated documents."""
    return ("pipe",)


def predict(model: Any, method: str, inputs: Any) -> list[dict[str, Any]]:
    """Annotate texts.

    Args:
        model: The pipeline.
        method: ``"pipe"``.
        inputs: Texts.

    Returns:
        ``doc.to_json()`` of each.

    Raises:
        UsageError: The pipeline has no such method.
    """
    if method != "pipe":
        raise UsageError(f"a spaCy pipeline has no output method {method!r} here.")
    zone = getattr(model, "memory_zone", nullcontext)  # words met are forgotten again
    with zone():
        return [doc.to_json() for doc in model.pipe([str(text) for text in inputs])]


def synthetic(model: Any, rows: int, seed: int) -> list[str]:  # noqa: ARG001 - the contract
    """Return sentences; the same whatever the seed."""
    return [_TEXTS[row % len(_TEXTS)] for row in range(min(rows, len(_TEXTS)))]


@contextmanager
def steady(model: Any) -> Iterator[None]:  # noqa: ARG001 - the adapter's contract
    """Silence warnings; predictions draw nothing at random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
