"""Hostile folders and forged versions of transformers models: refused, and nothing is run."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no hub may be asked for anything
pytest.importorskip("transformers", reason="transformers is not installed")

import transformers
from hypothesis import HealthCheck, given, settings, strategies as st
from msgspec.structs import replace as changed

import holdfast
from holdfast import codec, frameworks
from holdfast.codec.tensors import TensorView
from holdfast.errors import HoldfastError, UnsafeContent
from holdfast.frameworks import transformers as adapter
from holdfast.frameworks.base import LoadOptions, Opened
from holdfast.frameworks.transformers import configs
from holdfast.frameworks.transformers.tokenizer_files import judge_tokenizer

SPEC = importlib.util.spec_from_file_location(
    "transformers_zoo", Path(__file__).with_name("transformers_zoo.py")
)
zoo = sys.modules["transformers_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def network(monkeypatch):
    """Where connections were asked for; each is refused."""
    asked = []

    def connect(_self, address):
        asked.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", connect)
    yield asked
    assert not asked


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that any of the code lying around would write."""
    path = tmp_path / "canary"
    code = f"open({str(path)!r}, 'w').close()\nclass Model: pass\n"
    (tmp_path / "evil.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    assert not path.exists()


@pytest.fixture
def folder(tmp_path, canary):
    path = tmp_path / "folder"
    zoo.classifier().save_pretrained(path)
    zoo.word_pieces().save_pretrained(path)
    return path


def edit(path, **members):
    told = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**told, **members}))


def edit_tokenizer(folder, part, value):
    edit(folder / "tokenizer.json", **{part: value})


def shards(folder, *names):
    (folder / "model.safetensors").rename(folder.parent / "secret.safetensors")
    edit(folder / "model.safetensors.index.json", weight_map=dict.fromkeys("abc", names[0]))


def linked(folder):
    (folder / "model.safetensors").rename(folder.parent / "secret.safetensors")
    (folder / "model.safetensors").symlink_to(folder.parent / "secret.safetensors")


def hollow(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    header[name]["data_offsets"] = [0, 2**40]
    text = json.dumps(header).encode().ljust(length)[:length]
    (folder / "model.safetensors").write_bytes(data[:8] + text + data[8 + length :])


EVIL = {
    "AutoConfig": "evil.Model",
    "AutoModel": "evil.Model",
    "AutoTokenizer": ["evil.Model", None],
}
ESCAPE = "{{ cycler.__init__.__globals__.os.system('true') }}"
POOLING = "sentence_transformers.models.Pooling"
SLOW = {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}

ATTACKS = {
    "remote code": lambda f: edit(f / "config.json", auto_map=EVIL),
    "remote code of the tokenizer": lambda f: edit(f / "tokenizer_config.json", auto_map=EVIL),
    "remote code of the processor": lambda f: edit(f / "processor_config.json", auto_map=EVIL),
    "remote code of generation": lambda f: edit(
        f / "generation_config.json", custom_generate="evil/repository"
    ),
    "trust": lambda f: edit(f / "config.json", trust_remote_code=True, auto_map=EVIL),
    "a kernel of a repository": lambda f: edit(
        f / "config.json", attn_implementation="evil/kernels", _attn_implementation="evil/kernels"
    ),
    "a kernel deeper down": lambda f: edit(
        f / "config.json", text_config={"_attn_implementation": "evil/kernels"}
    ),
    "a dtype that is a function": lambda f: edit(
        f / "config.json", dtype="load", torch_dtype="load"
    ),
    "another package's backbone": lambda f: edit(
        f / "config.json", backbone="hf_hub:evil/model", use_timm_backbone=True
    ),
    "an unknown architecture": lambda f: edit(f / "config.json", model_type="evil"),
    "a class that is no model": lambda f: edit(f / "config.json", architectures=["AutoTokenizer"]),
    "a class of another architecture": lambda f: edit(
        f / "config.json", architectures=["GPT2LMHeadModel"]
    ),
    "a name that is a path": lambda f: edit(f / "config.json", architectures=["../evil.Model"]),
    "very many layers": lambda f: edit(f / "config.json", num_hidden_layers=10**8),
    "many layers": lambda f: edit(f / "config.json", num_hidden_layers=90_000),
    "a number of many digits": lambda f: edit(f / "config.json", hidden_size=10**60),
    "huge layers": lambda f: edit(f / "config.json", hidden_size=2**22, vocab_size=2**30),
    "quantized weights": lambda f: edit(
        f / "config.json", quantization_config={"quant_method": "bitsandbytes"}
    ),
    "no JSON": lambda f: (f / "config.json").write_text("{"),
    "deep JSON": lambda f: (f / "config.json").write_text('{"a":' * 5000 + "1" + "}" * 5000),
    "nested settings": lambda f: edit(f / "config.json", a=json.loads("[" * 60 + "]" * 60)),
    "a shard outside": lambda f: shards(f, "../secret.safetensors"),
    "a shard anywhere": lambda f: shards(f, "/etc/passwd"),
    "a shard that is no tensors": lambda f: shards(f, "config.json"),
    "a shard that is not there": lambda f: shards(f, "other.safetensors"),
    "weights that are a link outside": linked,
    "weights that lie": hollow,
    "weights cut short": lambda f: os.truncate(f / "model.safetensors", 3000),
    "a tokenizer of the saver's own": lambda f: edit(
        f / "tokenizer_config.json", tokenizer_class="EvilTokenizer"
    ),
    "a tokenizer that is a model": lambda f: edit(
        f / "tokenizer_config.json", tokenizer_class="BertModel"
    ),
    "a pattern without end": lambda f: edit_tokenizer(f, "pre_tokenizer", SLOW),
    "an unknown part": lambda f: edit_tokenizer(f, "normalizer", {"type": "Evil"}),
    "a part of the saver's own": lambda f: edit_tokenizer(f, "custom", {"type": "Evil"}),
    "a tokenizer without words": lambda f: edit_tokenizer(f, "model", {"type": "WordPiece"}),
    "a tokenizer cut short": lambda f: os.truncate(f / "tokenizer.json", 700),
    "a template that escapes": lambda f: edit(f / "tokenizer_config.json", chat_template=ESCAPE),
    "a template file that escapes": lambda f: (f / "chat_template.jinja").write_text(ESCAPE),
    "a template by name that escapes": lambda f: edit(
        f / "tokenizer_config.json", chat_template=[{"name": "tool", "template": ESCAPE}]
    ),
    "an image processor of the saver's own": lambda f: edit(
        f / "preprocessor_config.json", image_processor_type="EvilProcessor"
    ),
    "a processor of the saver's own": lambda f: edit(
        f / "processor_config.json", processor_class="EvilProcessor"
    ),
    "a class for the tokenizer in the model's settings": lambda f: edit(
        f / "config.json", tokenizer_class="TrainingArguments"
    ),
    "a class deep in the processor's settings": lambda f: edit(
        f / "processor_config.json",
        processor_class="CLIPProcessor",
        image_processor={"image_processor_type": "HfArgumentParser"},
    ),
    "another model by its name": lambda f: edit(
        f / "processor_config.json", audio_tokenizer={"audio_tokenizer_name_or_path": "evil/x"}
    ),
    "modules to import": lambda f: (f / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Model"}])
    ),
    "modules outside": lambda f: (f / "modules.json").write_text(
        json.dumps(
            [{"idx": 0, "name": "0", "path": "../..", "type": POOLING}],
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("way", ["convert", "reader"])
def test_a_hostile_folder_is_refused(name, way, folder, tmp_path):
    ATTACKS[name](folder)
    started = time.process_time()
    read = adapter.READS["huggingface"]  # the reader itself, whatever a scan said before
    if way == "convert":
        read = functools.partial(holdfast.convert, name="taken", store=tmp_path / "store")
    with pytest.raises(HoldfastError):
        read(folder)
    assert time.process_time() - started < 20


CODE = [
    name for name in sorted(ATTACKS) if "remote" in name or "kernel" in name or "template" in name
]


@pytest.mark.parametrize("name", CODE)
def test_what_would_run_code_is_called_unsafe(name, folder):
    ATTACKS[name](folder)
    with pytest.raises(UnsafeContent, match="UNSAFE"):
        adapter.READS["huggingface"](folder)


def test_code_that_lies_beside_a_model_is_not_run(folder, tmp_path):
    code = f"open({str(tmp_path / 'canary')!r}, 'w').close()"
    (folder / "modeling_bert.py").write_text(code)
    (folder / "tokenization_bert.py").write_text(code)
    with pytest.raises(UnsafeContent, match="code beside the model"):
        holdfast.convert(folder, "taken", store=tmp_path / "store")
    assert adapter.READS["huggingface"](folder)["model"].config.model_type == "bert"


def test_files_named_by_settings_are_not_opened(folder, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text("{")
    edit(folder / "tokenizer_config.json", tokenizer_file=str(secret), vocab_file=str(secret))
    edit(folder / "tokenizer_config.json", init_inputs=[str(secret)], gguf_file=str(secret))
    taken = adapter.READS["huggingface"](folder)
    assert taken["tokenizer"](zoo.TEXTS).data == zoo.word_pieces()(zoo.TEXTS).data


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_is_refused_or_harmless(file, folder):
    whole = (folder / file).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 12)):
        (folder / file).write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        try:
            adapter.READS["huggingface"](folder)
        except HoldfastError:
            continue


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}]+(?i:'s|'t)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"\d{1,3}(?=(?:\d{3})*\b)",
    ],
)
def test_patterns_of_known_tokenizers_are_kept(pattern):
    told = {
        "model": {"type": "BPE", "vocab": {}},
        "pre_tokenizer": {**SLOW, "pattern": {"Regex": pattern}},
    }
    judge_tokenizer(told)


@pytest.mark.parametrize("pattern", ["(a+)+", "(?:a*)*b", "((ab)+c?){2,}", "(x|y+)*z", "a" * 5000])
def test_patterns_that_take_for_ever_are_refused(pattern):
    told = {
        "model": {"type": "BPE", "vocab": {}},
        "pre_tokenizer": {**SLOW, "pattern": {"Regex": pattern}},
    }
    with pytest.raises(HoldfastError):
        judge_tokenizer(told)


# Forged versions: what a file says may be anything.


def opened(model):
    registry = frameworks.registry()
    payload = adapter.pack(model, registry)
    views = {
        name: TensorView(data.dtype, data.shape, memoryview(bytearray(data.load())))
        for name, data in payload.tensors.items()
    }
    files = {name: memoryview(bytes(data)) for name, data in payload.files.items()}
    return payload.structure, views, files


def unpacked(structure, views, files):
    registry = frameworks.registry()
    audit = codec.audit(structure, views, registry, files)
    parts = Opened(structure=structure, audit=audit, tensors=views, files=files, facts={})
    return adapter.unpack(parts, registry, LoadOptions())


FORGED = {
    "another class": (("str", "BertForSequenceClassification"), ("str", "BertModel")),
    "a class to import": (("str", "BertForSequenceClassification"), ("str", "evil.Model")),
    "a kernel": (("str", "sdpa"), ("str", "evil/kernels")),
    "a function for a dtype": (("str", "float32"), ("str", "load")),
    "another architecture": (("str", "bert"), ("str", "gpt2")),
    "many layers": (("int", 2), ("int", 99_000)),
    "wide layers": (("int", 32), ("int", 2**40)),
    "a word for a number": (("int", 32), ("str", "wide")),
    "a tokenizer to import": (("str", "TokenizersBackend"), ("str", "evil.Model")),
    "a tokenizer that is a model": (("str", "TokenizersBackend"), ("str", "BertModel")),
    "an escaping template": (("str", "{% for"), ("str", ESCAPE)),
    "a file to open": (("str", "cls_token"), ("str", "vocab_file")),
    "code to import": (("str", "cls_token"), ("str", "auto_map")),
}


@pytest.mark.parametrize("name", sorted(FORGED))
def test_a_forged_version_is_refused(name, canary):
    old, new = FORGED[name]
    tokenizer = zoo.word_pieces()
    tokenizer.chat_template = "{% for"
    structure, views, files = opened({"model": zoo.classifier(), "tokenizer": tokenizer})
    assert old in structure.nodes
    nodes = tuple(new if node == old else node for node in structure.nodes)
    started = time.process_time()
    with pytest.raises(HoldfastError):
        unpacked(changed(structure, nodes=nodes), views, files)
    assert time.process_time() - started < 20


def test_a_forged_task_is_refused():
    pipe = transformers.pipeline(
        "text-classification", model=zoo.classifier(), tokenizer=zoo.word_pieces(), device="cpu"
    )
    structure, views, files = opened(pipe)
    old = ("str", "text-classification")
    nodes = tuple(("str", "evil") if node == old else node for node in structure.nodes)
    with pytest.raises(HoldfastError, match="evil"):
        unpacked(changed(structure, nodes=nodes), views, files)


WHOLE = []
VALUES = st.one_of(
    st.tuples(st.just("none")),
    st.tuples(st.just("bool"), st.booleans()),
    st.tuples(st.just("int"), st.integers(-(2**53) + 1, 2**53 - 1)),
    st.tuples(st.just("float"), st.floats(allow_nan=False).map(repr)),
    st.tuples(st.just("str"), st.text(max_size=8)),
    st.sampled_from(
        [("str", name) for name in ("LlamaModel", "gelu", "..", "evil/x", "cuda", "auto")]
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**6), value=VALUES)
def test_any_changed_value_is_refused_or_harmless(place, value):
    if not WHOLE:
        WHOLE.append(opened({"model": zoo.classifier(), "tokenizer": zoo.word_pieces()}))
    structure, views, files = WHOLE[0]
    leaves = [
        i for i, node in enumerate(structure.nodes) if node[0] in ("str", "int", "float", "bool")
    ]
    index = leaves[place % len(leaves)]
    nodes = (*structure.nodes[:index], value, *structure.nodes[index + 1 :])
    try:
        unpacked(changed(structure, nodes=nodes), views, files)
    except HoldfastError:
        return


@pytest.mark.parametrize("key", ["quantization_config", "auto_map", "attn_implementation", "dtype"])
def test_a_gadget_is_found_at_any_depth(key):
    told = {"model_type": "clip", "vision_config": {"inner": {key: "evil"}}}
    with pytest.raises(HoldfastError, match=key):
        configs.judge(told, "config.json")
