"""Tokenizers: the compiled one as its own JSON, the settings around it as plain values.

They are given back to transformers as the two files that it writes itself, under fixed names in a
private folder that is gone afterwards. Chat templates are texts: nothing runs one before the user
applies it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.codec.tensors import FileData
from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported
from holdfast.frameworks.transformers import configs
from holdfast.frameworks.transformers.tokenizer_files import judge_tokenizer, read_tokenizer_json
from holdfast.plugins import import_extra
from holdfast.trust.templates import suspicions

__all__ = ["SPEC", "refuse_templates", "tokenizer_class"]

_JSON: Final = "tokenizer.json"
_CONFIG: Final = "tokenizer_config.json"
# Where a tokenizer was loaded from, and arguments by which its constructor would open files.
_LEFT_OUT: Final = frozenset(
    {
        "added_tokens_decoder", "chat_template", "fast_tokenizer_files", "gguf_file", "init_inputs",
        "is_local", "local_files_only", "merges", "merges_file", "name_or_path", "processor_class",
        "sp_model_kwargs", "spm_file", "tokenizer_class", "tokenizer_file", "tokenizer_object",
        "vocab", "vocab_file", "cache_dir", "token", "revision", "subfolder", "proxies",
    }
)  # fmt: skip
# Attributes that users set on a tokenizer, and the types they have.
_ATTRIBUTES: Final[Mapping[str, tuple[type, ...]]] = {
    "model_max_length": (int, float),
    "padding_side": (str,),
    "truncation_side": (str,),
    "model_input_names": (list,),
    "clean_up_tokenization_spaces": (bool,),
    "split_special_tokens": (bool,),
}
_BACKENDS: Final = frozenset({"TokenizersBackend", "PreTrainedTokenizerFast"})


def tokenizer_class(name: object) -> Any:
    """Return the tokenizer class of that name in transformers' own table.

    Raises:
        Unsupported: It is not there.
    """
    auto = import_extra("transformers.models.auto.tokenization_auto", needed_for="a tokenizer")
    known = {kind for kind in auto.TOKENIZER_MAPPING_NAMES.values() if kind} | _BACKENDS
    if name in known and isinstance(name, str):
        kind = auto.tokenizer_class_from_name(name)
        if kind is not None:
            return kind
    raise Unsupported(
        f"The tokenizer class {name!r:.80} is not one that transformers' own table names.",
        hint="# save the model without it, or: tokenizer = PreTrainedTokenizerFast(\n"
        "#     tokenizer_object=tokenizer.backend_tokenizer)",
    )


def refuse_templates(template: Any) -> None:
    """Refuse chat templates that reach for more than messages.

    Args:
        template: A text, or texts by name.

    Raises:
        UnsafeContent: One does.
        Corrupt: It is something else.
    """
    if template is None:
        return
    texts = list(template.values()) if isinstance(template, dict) else [template]
    for text in texts:
        if not isinstance(text, str):
            raise Corrupt("a chat template is not a text")
        found = next(suspicions(text), None)
        if found is not None:
            raise UnsafeContent(
                f"UNSAFE  the chat template {found[0]} (character {found[1]}). It was not run.",
                hint="tokenizer.chat_template = None  # if you do not need it",
            )


def _encode(tokenizer: Any) -> dict[str, Any]:
    if not getattr(tokenizer, "is_fast", False):
        raise Unsupported(
            f"{type(tokenizer).__name__} is written in Python, and its state is what its class "
            "makes of it; only tokenizers of the compiled library are kept.",
            hint="tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)",
        )
    if tokenizer_class(type(tokenizer).__name__) is not type(tokenizer):
        raise Unsupported(f"{type(tokenizer).__qualname__} is not transformers' own class")
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    told["truncation"] = told["padding"] = None  # what the last call asked for
    judge_tokenizer(told)
    template = configs.plain(tokenizer.chat_template, "tokenizer.chat_template")
    refuse_templates(template)
    return {
        "class": type(tokenizer).__name__,
        "settings": _settings(tokenizer),
        "attributes": {
            name: configs.plain(getattr(tokenizer, name), f"tokenizer.{name}")
            for name in _ATTRIBUTES
            if hasattr(tokenizer, name)
        },
        "template": template,
        "tokenizer": FileData(".json", _spelled(told)),
    }


def _spelled(told: Any) -> bytes:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _settings(tokenizer: Any) -> dict[str, Any]:
    """Return what transformers writes into a tokenizer's own configuration."""
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        tokenizer.save_pretrained(folder)
        told = json.loads((Path(folder) / _CONFIG).read_text("utf-8"))
    configs.judge(told, "the tokenizer's configuration")
    return {key: value for key, value in told.items() if key not in _LEFT_OUT}


def _build(fields: Mapping[str, Any]) -> Any:
    kind = tokenizer_class(fields["class"])
    settings, attributes = fields["settings"], fields["attributes"]
    told = read_tokenizer_json(fields["tokenizer"])
    configs.judge(settings, "the tokenizer's configuration")
    if not settings.keys().isdisjoint(_LEFT_OUT) or not all(map(str.isidentifier, settings)):
        raise Corrupt("the tokenizer's configuration names files")
    if type(attributes) is not dict or not all(
        type(value) in _ATTRIBUTES.get(name, ()) for name, value in attributes.items()
    ):
        raise Corrupt("a tokenizer has attributes that are none")
    refuse_templates(fields["template"])
    try:
        tokenizer = _read(kind, settings, told)
    except HoldfastError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # the compiled library's panics are no Exception; an interrupt is none of ours
        raise Corrupt(
            f"the tokenizer cannot be read: {type(error).__name__}: {error!s:.200}"
        ) from error
    for name, value in attributes.items():
        setattr(tokenizer, name, value)
    tokenizer.chat_template = fields["template"]
    return tokenizer


def _read(kind: Any, settings: Mapping[str, Any], told: Mapping[str, Any]) -> Any:
    """Let transformers read a tokenizer from the files that it writes itself."""
    compiled = import_extra("tokenizers", needed_for="a tokenizer")
    data = _spelled({**told, "truncation": None, "padding": None})
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        (Path(folder) / _JSON).write_bytes(data)
        (Path(folder) / _CONFIG).write_text(json.dumps(settings), "utf-8")
        tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # Some classes make the compiled tokenizer anew from its vocabulary; this one is the saved one.
    tokenizer._tokenizer = compiled.Tokenizer.from_str(data.decode())  # noqa: SLF001 - no setter
    for name in ("name_or_path", "vocab_file"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.name_or_path = ""
    return tokenizer


def _locate() -> type:
    kind: type = import_extra("transformers", needed_for="a tokenizer").PreTrainedTokenizerBase
    return kind


_FIELDS: Final = frozenset({"class", "settings", "attributes", "template", "tokenizer"})
SPEC: Final = TypeSpec(
    id="transformers.Tokenizer",
    locate=_locate,
    classes=(),
    encode=_encode,
    build=_build,
    fields=_FIELDS,
    required=_FIELDS,
)
