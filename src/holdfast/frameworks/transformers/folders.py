"""Folders as Hugging Face writes them: read after every file was judged, and written."""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from holdfast.errors import Corrupt, HoldfastError, PartialLoad, Unsupported
from holdfast.frameworks.transformers import building, configs, processors, sentences, types
from holdfast.frameworks.transformers.staging import Stage
from holdfast.plugins import import_extra

__all__ = ["read_adapter", "read_folder", "write_folder"]

_LOG: Final = logging.getLogger("holdfast")
_LOCAL: Final = {"local_files_only": True, "trust_remote_code": False}
_MODULES: Final = "sentence_transformers.sentence_transformer.modules"
_TYPE: Final = re.compile(r"sentence_transformers(?:\.[a-z_]+)*\.([A-Za-z]+)")
_PLACE: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,100})?")
_BODY_FILE: Final = "sentence_bert_config.json"
# Settings of the module around a transformers model that only describe.
_BODY_KEYS: Final = frozenset(
    {
        "do_lower_case", "document_length", "max_seq_length", "modality_config",
        "module_output_name", "processing_kwargs", "query_expansion", "query_length",
        "transformer_task", "unpad_inputs",
    }
)  # fmt: skip
_PROCESSORS: Final = (
    # file, members that name a class, key in the answer, class that reads it
    ("processor_config.json", ("processor_class",), "processor", "AutoProcessor"),
    (
        "preprocessor_config.json",
        ("image_processor_type",),
        "image_processor",
        "AutoImageProcessor",
    ),
    (
        "preprocessor_config.json",
        ("feature_extractor_type",),
        "feature_extractor",
        "AutoFeatureExtractor",
    ),
)


def read_folder(path: Path) -> Any:
    """Read a model folder: the model alone, or a dictionary with what lies beside it.

    Every file is judged first; transformers then reads a private folder of what was judged.

    Returns:
        A model; a dictionary of ``model``, ``tokenizer``, ``processor``, ``image_processor`` and
        ``feature_extractor``, as far as they are there; or a ``SentenceTransformer``.

    Raises:
        UnsafeContent: A file names code, or leads out of the folder.
        Unsupported: It holds what is not kept.
        PartialLoad: The weights are not all of the model's.
        Corrupt: A file is damaged.
        MissingExtra: transformers is not installed.
    """
    import_extra("transformers", needed_for="reading a Hugging Face folder")
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder, _quiet():
        stage = Stage(path, Path(folder))
        try:
            if stage.has("modules.json"):
                return _sentences(stage)
            return _parts(stage)
        except HoldfastError:
            raise
        except ImportError as error:
            raise processors.needs_more(error) from error
        except Exception as error:
            raise Corrupt(
                f"transformers cannot read the folder: {type(error).__name__}: {error!s:.200}"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings, and progress bars that would also be drawn into files."""
    shown = import_extra("transformers.utils.logging", needed_for="a model folder")
    before = shown.is_progress_bar_enabled()
    shown.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before:
            shown.enable_progress_bar()


def _parts(stage: Stage) -> Any:
    stage.settings()
    parts: dict[str, Any] = {"model": _model(stage)}
    has_tokenizer = stage.tokenizer()
    parts |= _processors(stage)
    if has_tokenizer and "processor" not in parts:
        parts["tokenizer"] = _tokenizer(stage)
    return parts if len(parts) > 1 else parts["model"]


def _model(stage: Stage) -> Any:
    told = stage.json("config.json")
    if told is None:
        raise Unsupported("The folder has no config.json.")
    config = configs.build_config(told)
    stored = stage.weights()
    named = told.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    auto = import_extra("transformers.models.auto.modeling_auto", needed_for="a model")
    kind = building.class_of(config, name) if isinstance(name, str) else None
    if kind is None and name is None:
        found = auto.MODEL_MAPPING.get(type(config), None)
        kind = found[0] if isinstance(found, tuple) else found
    if kind is None:
        raise Unsupported(
            f"The architecture {name!r:.80} is not one that transformers' own tables name.",
            hint="hold convert FOLDER/model.safetensors --name NAME  # the tensors alone",
        )
    with building.bounded(*stored):
        model, loaded = kind.from_pretrained(
            stage.folder, use_safetensors=True, dtype="auto", output_loading_info=True, **_LOCAL
        )
    _require_whole(loaded)
    return _nameless(model)


def _require_whole(loaded: Any) -> None:
    """Refuse weights that are not all of the model's; say which of them it does not use."""
    missing = sorted(map(str, loaded.get("missing_keys", ())))
    wrong = sorted(map(str, loaded.get("mismatched_keys", ())))
    if missing or wrong:
        raise PartialLoad(
            f"{len(missing) + len(wrong)} tensors of the model are not in the folder, or of "
            f"another shape: {', '.join([*missing, *wrong][:5])}. They would be drawn at random.",
            hint="hold scan FOLDER",
        )
    unused = sorted(map(str, loaded.get("unexpected_keys", ())))
    if unused:
        _LOG.warning("the model does not use %d stored tensors: %s", len(unused), unused[:5])


def _nameless(model: Any) -> Any:
    """Forget the private folder that a model was read from."""
    model.name_or_path = model.config.name_or_path = ""
    return model


def _tokenizer(stage: Stage) -> Any:
    auto = import_extra("transformers", needed_for="a tokenizer").AutoTokenizer
    tokenizer = auto.from_pretrained(stage.folder, **_LOCAL)
    tokenizer.name_or_path = ""
    return tokenizer


def _processors(stage: Stage) -> dict[str, Any]:
    package = import_extra("transformers", needed_for="a processor")
    for file, members, key, reader in _PROCESSORS:
        told = stage.json(file)
        if told and any(told.get(name) for name in members):
            return {key: getattr(package, reader).from_pretrained(stage.folder, **_LOCAL)}
    return {}


def _sentences(stage: Stage) -> Any:
    """Read a sentence-transformers folder, whose modules are named in a list."""
    package = import_extra(
        "sentence_transformers", needed_for="reading a sentence-transformers folder"
    )
    found = [_module(stage, told) for told in stage.json("modules.json", list)]
    stage.put("modules.json", [line for line, _ in found])
    stage.each(("config_sentence_transformers.json",), _judge_whole)
    stored = [sum(counts) for counts in zip(*(counts for _, counts in found), strict=True)] or [
        0,
        0,
    ]
    with building.bounded(*stored):
        model = package.SentenceTransformer(str(stage.folder), device="cpu", **_LOCAL)
    for module in model:
        if hasattr(module, "auto_model"):
            _nameless(module.auto_model)
            module.processor.name_or_path = ""
    return model


def _module(stage: Stage, told: Any) -> tuple[dict[str, Any], tuple[int, int]]:
    """Judge one module and give its files on.

    Returns:
        Its line of the list, written anew, and how many tensors and numbers it has.
    """
    kind = told.get("type") if isinstance(told, dict) else None
    found = _TYPE.fullmatch(kind) if isinstance(kind, str) else None
    if found is None or found[1] not in {*sentences.MODULES, "Transformer"}:
        raise Unsupported(
            f"modules.json names the module {kind!r:.100}, which is not one that is kept.",
            hint="hold convert FOLDER/model.safetensors --name NAME  # the tensors alone",
        )
    path = told.get("path", "")
    if not isinstance(path, str) or not _PLACE.fullmatch(path):
        raise Corrupt(f"modules.json names the folder {path!r:.100}, which is none of this one's")
    name = found[1]
    place = f"{path}/" if path else ""
    stored = (0, 0)
    if name == "Transformer":
        stored = _stage_body(stage, path)
    else:
        stage.each((f"{place}config.json",), lambda read, _: sentences.judge(name, read))
        if stage.has(f"{place}model.safetensors"):
            stored = stage.weights(place)
    line = {
        "idx": int(told.get("idx", 0)),
        "name": str(told.get("name", told.get("idx", 0))),
        "path": path,
        "type": f"{_MODULES}.{name}",
    }
    return line, stored


def _stage_body(stage: Stage, path: str) -> tuple[int, int]:
    inner = stage if not path else Stage(stage.source / path, stage.folder / path)
    inner.folder.mkdir(exist_ok=True)
    if path and (stage.source / path).is_symlink():
        raise Corrupt(f"{path} is a link")
    inner.settings()
    told = inner.json("config.json") or {}
    configs.build_config(told)
    stored = inner.weights()
    if not inner.tokenizer():
        raise Unsupported("The folder's model has no tokenizer.json.")
    inner.each((_BODY_FILE,), _judge_body)
    return stored


def _judge_body(told: Any, what: str) -> None:
    unknown = sorted(key for key in told.keys() - _BODY_KEYS if told[key])
    if unknown:
        raise Unsupported(f"{what} has the member {unknown[0]!r:.60}, which is not kept")
    sentences.judge("Transformer", told)


def _judge_whole(told: Any, what: str) -> None:
    configs.judge(told, what)
    if told.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise Unsupported(
            f"The folder is a {told['model_type']!r:.40} of sentence-transformers, "
            "which is not kept.",
            hint="hold convert FOLDER/model.safetensors --name NAME  # the tensors alone",
        )


def read_adapter(path: Path) -> Any:
    """Refuse a folder of an adapter alone, and say how to put it onto its base.

    Raises:
        Unsupported: Always: the folder does not hold the base.
    """
    raise Unsupported(
        "The folder holds an adapter without its base, and an adapter is kept with the base that "
        "it belongs onto.",
        hint="python  # base = holdfast.load('BASE')\n"
        f"# model = PeftModel.from_pretrained(base, {str(path)!r})  # if you trust the folder\n"
        "# holdfast.save(model, NAME, parents=['BASE'])",
    )


def write_folder(model: Any, path: Path) -> None:
    """Write a model with what belongs to it as a folder that ``from_pretrained`` opens.

    Raises:
        Unsupported: There are several models, or things that such a folder cannot hold.
    """
    items: list[Any] = list(types.items_of(model))
    kept = [spec.id for spec in map(types.kind_of, items) if spec is not None]
    if len(kept) < len(items) or len(set(kept)) < len(kept):
        raise Unsupported(
            "A Hugging Face folder holds one model with its tokenizer and processors, "
            "and nothing else.",
            hint="hold export REF model.safetensors  # all tensors by name",
        )
    path.mkdir()
    with _quiet():
        for item in items:
            if type(item).__name__ == "SentenceTransformer":
                item.save_pretrained(str(path), create_model_card=False)
            else:
                item.save_pretrained(str(path))
