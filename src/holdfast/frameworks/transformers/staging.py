"""A private folder with the judged files of a foreign one, under a closed list of names.

transformers reads whole folders: what lies there decides what it opens. It is given this folder
instead, whose settings were judged and written anew, and whose weights are links to judged files.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from holdfast.errors import Corrupt, UnsafeContent, Unsupported
from holdfast.frameworks.transformers import configs
from holdfast.frameworks.transformers.processors import processor_class
from holdfast.frameworks.transformers.tokenizer_files import read_tokenizer_json
from holdfast.frameworks.transformers.tokenizers import refuse_templates, tokenizer_class
from holdfast.trust.safetensors import read_safetensors_header
from holdfast.trust.source import FileSource

__all__ = ["Stage"]

_MOST_BYTES: Final = 256 << 20
_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,120}\.safetensors")
_MOST_SHARDS: Final = 10_000
# Settings that are judged and given on as they are.
_SETTINGS: Final = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json",
)  # fmt: skip
_TOKENIZER: Final = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# Arguments by which a tokenizer's constructor would open files or take others' words for it.
_OPENING: Final = frozenset(
    {
        "cache_dir", "fast_tokenizer_files", "gguf_file", "init_inputs", "is_local",
        "local_files_only", "merges", "merges_file", "name_or_path", "proxies", "revision",
        "sp_model_kwargs", "spm_file", "subfolder", "token", "tokenizer_file", "tokenizer_object",
        "vocab", "vocab_file",
    }
)  # fmt: skip
# Members that name a class, to where it may be found.
_CLASSES: Final = {
    "feature_extractor_type": processor_class,
    "image_processor_type": processor_class,
    "processor_class": processor_class,
    "tokenizer_class": tokenizer_class,
    "video_processor_type": processor_class,
}


class Stage:
    """What of a foreign folder is given on.

    Attributes:
        source: The foreign folder.
        folder: The private one.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.folder = folder

    def has(self, name: str) -> bool:
        """Say whether the foreign folder has a file of that name; links out of it are refused.

        Raises:
            UnsafeContent: It is a link that leads elsewhere, or no plain file.
        """
        path = self.source / name
        if not path.exists() and not path.is_symlink():
            return False
        if not path.is_file() or not self._stays(path):
            raise UnsafeContent(
                f"UNSAFE  {name} leads out of the folder. It was not opened.",
                hint="cp -rL FOLDER copy  # if the links are your own, and convert the copy",
            )
        return True

    def _stays(self, path: Path) -> bool:
        """Say whether a path stays in the folder, or in the cache of a hub that the folder is of.

        Hugging Face keeps ``snapshots/REVISION/NAME`` as links to ``blobs/DIGEST`` beside it.
        """
        target, top = path.resolve(), self.source.resolve()
        in_cache = target.parent == top.parent.parent / "blobs"
        return target.is_relative_to(top) or (top.parent.name == "snapshots" and in_cache)

    def bytes(self, name: str) -> bytes:
        """Read a small file.

        Raises:
            Corrupt: It is not small.
        """
        with FileSource(self.source / name) as source:
            data = source.read(0, _MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise Corrupt(f"{name} has more than {_MOST_BYTES} bytes")
        return data

    def json(self, name: str, kind: type = dict) -> Any:
        """Read a file of JSON; None where there is none.

        Raises:
            Corrupt: It is no JSON of that kind.
        """
        if not self.has(name):
            return None
        try:
            told = json.loads(self.bytes(name))
        except (ValueError, RecursionError) as error:
            raise Corrupt(f"{name} is not JSON: {error!s:.100}") from error
        if not isinstance(told, kind):
            raise Corrupt(f"{name} is not a JSON {kind.__name__}")
        return told

    def put(self, name: str, told: Any) -> None:
        """Write settings into the private folder."""
        target = self.folder / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(told), "utf-8")

    def settings(self) -> None:
        """Judge the settings of model, generation and processors, and give them on.

        Raises:
            UnsafeContent, Unsupported, Corrupt: See ``configs.judge``.
        """
        for name in _SETTINGS:
            told = self.json(name)
            if told is not None:
                configs.judge(told, name)
                _judge_classes(told, name)
                refuse_templates(told.get("chat_template"))
                self.put(name, told)

    def tokenizer(self) -> bool:
        """Judge a tokenizer's files and give them on; says whether there is one.

        Raises:
            UnsafeContent, Unsupported, Corrupt: Something in them is not kept.
        """
        if not self.has("tokenizer.json"):
            if any(self.has(name) for name in ("vocab.txt", "spiece.model", "tokenizer.model")):
                raise Unsupported(
                    "The folder has a tokenizer without tokenizer.json, which only its class "
                    "could read.",
                    hint='python -c "from transformers import AutoTokenizer as A; '
                    "A.from_pretrained('FOLDER').save_pretrained('FOLDER')\"  # if you trust it",
                )
            return False
        data = self.bytes("tokenizer.json")
        read_tokenizer_json(data)
        (self.folder / "tokenizer.json").write_bytes(data)
        for name in _TOKENIZER:
            told = self.json(name)
            if told is not None:
                self._put_tokenizer_settings(name, told)
        self._templates()
        return True

    def _put_tokenizer_settings(self, name: str, told: dict[str, Any]) -> None:
        configs.judge(told, name)
        _judge_classes(told, name)
        template = told.get("chat_template")
        if isinstance(template, list):  # templates by name, as older releases wrote them
            for item in template:
                refuse_templates(item.get("template") if isinstance(item, dict) else item)
        else:
            refuse_templates(template)
        self.put(name, {key: value for key, value in told.items() if key not in _OPENING})

    def _templates(self) -> None:
        names = ["chat_template.jinja"]
        inside = self.source / "additional_chat_templates"
        if inside.is_dir() and not inside.is_symlink():
            found = sorted(inside.glob("*.jinja"))[:100]
            names += [f"additional_chat_templates/{path.name}" for path in found]
        for name in names:
            if self.has(name):
                text = self.bytes(name).decode("utf-8", "replace")
                refuse_templates(text)
                target = self.folder / name
                target.parent.mkdir(exist_ok=True)
                target.write_text(text, "utf-8")
        told = self.json("chat_template.json")
        if told is not None:
            refuse_templates(told.get("chat_template"))
            self.put("chat_template.json", {"chat_template": told.get("chat_template")})

    def weights(self, place: str = "") -> tuple[int, int]:
        """Judge the weights of a folder in the folder and link to them.

        Returns:
            How many tensors there are, and how many numbers are in them.

        Raises:
            Unsupported: There are none as safetensors.
            UnsafeContent, Corrupt: A shard leads elsewhere or lies.
        """
        index = self.json(f"{place}{_INDEX}")
        if self.has(f"{place}{_WEIGHTS}"):
            names = [_WEIGHTS]
        elif index is not None:
            names = _shards(index)
            self.put(f"{place}{_INDEX}", {"metadata": {}, "weight_map": index["weight_map"]})
        else:
            raise Unsupported(
                "The folder has no weights as safetensors; those in pickles are not opened.",
                hint="hold convert FOLDER/pytorch_model.bin --name NAME  # the tensors alone",
            )
        found = [self._link(f"{place}{name}") for name in names]
        return sum(tensors for tensors, _ in found), sum(items for _, items in found)

    def _link(self, name: str) -> tuple[int, int]:
        if not self.has(name):
            raise Corrupt(f"the shard {name} is missing")
        with FileSource(self.source / name) as source:
            file = read_safetensors_header(source)
        if file.faults:
            raise Corrupt(f"{name}: {file.faults[0][0]}")
        target = self.folder / name
        target.parent.mkdir(exist_ok=True)
        target.symlink_to((self.source / name).resolve())
        return len(file.tensors), sum(math.prod(tensor.shape) for tensor in file.tensors)

    def each(self, names: tuple[str, ...], judge: Callable[[Any, str], None]) -> None:
        """Give on files of JSON after a judge of the caller's has seen them."""
        for name in names:
            told = self.json(name)
            if told is not None:
                judge(told, name)
                self.put(name, told)


def _judge_classes(told: Any, what: str) -> None:
    """Accept settings whose classes, at any depth, are in transformers' own tables.

    transformers looks for others among everything that it has, and calls what it finds.

    Raises:
        Unsupported: One is not, or another model is named.
    """
    for path, key, value in configs.walk(what, told):
        if not isinstance(key, str) or value is None:
            continue
        if key in _CLASSES:
            _known(_CLASSES[key], value)
        if key.startswith("audio_tokenizer"):
            raise Unsupported(f"{path} names a second model, {value!r:.80}, which is not kept.")


def _known(find: Callable[[object], Any], name: Any) -> None:
    """Look for a class under its name, and under its older one with an ending."""
    try:
        find(name)
    except Unsupported:
        if not isinstance(name, str) or not name.endswith("Fast"):
            raise
        find(name.removesuffix("Fast"))


def _shards(index: dict[str, Any]) -> list[str]:
    """Return the files that an index names, each a plain name of this folder."""
    mapped = index.get("weight_map")
    if not isinstance(mapped, dict) or not mapped:
        raise Corrupt(f"{_INDEX} names no shards")
    names = sorted({name for name in mapped.values() if isinstance(name, str)})
    if len(names) > _MOST_SHARDS or not all(isinstance(name, str) for name in mapped.values()):
        raise Corrupt(f"{_INDEX} names shards that are none")
    for name in names:
        if not _SHARD.fullmatch(name) or ".." in name:
            raise UnsafeContent(
                f"UNSAFE  {_INDEX} names the shard {name!r:.100}, which is no file of the folder. "
                "It was not opened.",
                hint="hold scan FOLDER",
            )
    return names
