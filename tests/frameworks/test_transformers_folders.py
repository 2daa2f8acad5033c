"""Folders of Hugging Face's kind: taken over with everything in them, and written for others."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no hub may be asked for anything
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("peft", reason="peft is not installed")

import peft
import torch
import transformers
from click.testing import CliRunner

import holdfast
from holdfast.cli.main import cli
from holdfast.errors import PartialLoad, Unsupported

SPEC = importlib.util.spec_from_file_location(
    "transformers_zoo", Path(__file__).with_name("transformers_zoo.py")
)
zoo = sys.modules["transformers_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    zoo.classifier().save_pretrained(path)
    zoo.word_pieces().save_pretrained(path)
    return path


def logits(model, **inputs):
    with torch.no_grad():
        return model(**inputs).logits


def edit(path, **members):
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, **members}))


@pytest.mark.keeps("transformers", "folders, read and written")
def test_a_folder_comes_over_with_tokenizer_and_labels(folder, store):
    version = holdfast.convert(folder, "taken", store=store)
    assert version.proof == "replayed on synthetic inputs"
    assert version.record.params["converted_from"]["kind"] == "huggingface"
    again = holdfast.load("taken", store=store)
    assert list(again) == ["model", "tokenizer"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    one = again["tokenizer"](zoo.TEXTS, padding=True, return_tensors="pt")
    two = tokenizer(zoo.TEXTS, padding=True, return_tensors="pt")
    assert one["input_ids"].tolist() == two["input_ids"].tolist()
    assert torch.equal(logits(again["model"], **one), logits(model, **two))
    assert again["model"].config.id2label[2] == "odd"


def test_a_folder_is_saved_by_its_path_and_by_the_command(folder, store):
    assert holdfast.save(folder, "by-path", store=store).proof is not None
    words = ["convert", str(folder), "--name", "by-command", "--store", str(store), "--json"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    for name in ("by-path", "by-command"):
        assert list(holdfast.load(name, store=store)) == ["model", "tokenizer"]


def test_shards_and_half_precision_come_over(tmp_path, store):
    zoo.llama().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    holdfast.convert(tmp_path / "shards", "shards", store=store)
    again = holdfast.load("shards", store=store)
    assert next(again.parameters()).dtype == torch.bfloat16
    assert torch.equal(logits(again, **zoo.ids(401)), logits(model, **zoo.ids(401)))


def test_generation_settings_and_ties_come_over(tmp_path, store):
    zoo.generator().save_pretrained(tmp_path / "tied")
    holdfast.convert(tmp_path / "tied", "tied", store=store)
    again = holdfast.load("tied", store=store)
    assert again.generation_config.max_new_tokens == 7
    assert again.lm_head.weight is again.transformer.wte.weight


def test_image_and_sound_processors_come_over(tmp_path, store):
    zoo.viewer().save_pretrained(tmp_path / "seen")
    images = transformers.ViTImageProcessor(size={"height": 16, "width": 16})
    images.save_pretrained(tmp_path / "seen")
    zoo.listener().save_pretrained(tmp_path / "heard")
    sounds = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    sounds.save_pretrained(tmp_path / "heard")
    holdfast.convert(tmp_path / "seen", "seen", store=store)
    holdfast.convert(tmp_path / "heard", "heard", store=store)
    seen, heard = (holdfast.load(name, store=store) for name in ("seen", "heard"))
    assert seen["image_processor"].size == images.size
    assert heard["feature_extractor"].to_dict() == sounds.to_dict()


def test_a_hubs_cache_of_links_is_read(folder, tmp_path, store):
    blobs = tmp_path / "cache" / "blobs"
    snapshot = tmp_path / "cache" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(folder.iterdir())):
        (blobs / str(number)).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    holdfast.convert(snapshot, "cached", store=store)
    assert list(holdfast.load("cached", store=store)) == ["model", "tokenizer"]


EXPORTS = {
    "model": zoo.classifier,
    "pair": lambda: {"model": zoo.classifier(), "tokenizer": zoo.word_pieces()},
    "pipeline": lambda: transformers.pipeline(
        "text-classification", model=zoo.classifier(), tokenizer=zoo.word_pieces(), device="cpu"
    ),
}


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_an_exported_folder_opens_with_from_pretrained(name, tmp_path, store):
    holdfast.save(EXPORTS[name](), "out", store=store)
    holdfast.export("out", tmp_path / "out", store=store)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    given = zoo.ids(300)
    assert torch.equal(logits(model, **given), logits(zoo.classifier(), **given))
    if name != "model":
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
        assert tokenizer(zoo.TEXTS)["input_ids"] == zoo.word_pieces()(zoo.TEXTS)["input_ids"]


def test_an_exported_folder_comes_back_as_the_same_content(tmp_path, store):
    pair = {"model": zoo.classifier(), "tokenizer": zoo.word_pieces()}
    holdfast.save(pair, "first", store=store)
    holdfast.export("first", tmp_path / "out", store=store)
    holdfast.convert(tmp_path / "out", "second", store=store)
    contents = [holdfast.get(name, store=store).content for name in ("first", "second")]
    assert contents[0].tensors == contents[1].tensors
    assert contents[0].files == contents[1].files


def test_an_exported_adapter_opens_with_peft(tmp_path, store):
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"])
    model = peft.get_peft_model(zoo.generator(), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.2)
    holdfast.save(model, "adapter", store=store)
    holdfast.export("adapter", tmp_path / "adapter", store=store)
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    again = peft.PeftModel.from_pretrained(zoo.generator(), tmp_path / "adapter")
    given = zoo.ids(401)
    assert torch.equal(logits(again, **given), logits(model, **given))


class TestRefused:
    def test_missing_weights_are_never_drawn_at_random(self, tmp_path, store):
        zoo.classifier().bert.save_pretrained(tmp_path / "headless")
        edit(tmp_path / "headless" / "config.json", architectures=["BertForSequenceClassification"])
        with pytest.raises(PartialLoad, match=r"classifier\.bias"):
            holdfast.convert(tmp_path / "headless", "headless", store=store)

    def test_weights_in_pickles_only(self, folder, store):
        (folder / "model.safetensors").unlink()
        torch.save(zoo.classifier().state_dict(), folder / "pytorch_model.bin")
        with pytest.raises(Unsupported, match="no weights as safetensors") as caught:
            holdfast.convert(folder, "pickled", store=store)
        assert "pytorch_model.bin" in caught.value.hint

    def test_a_tokenizer_that_only_its_class_reads(self, folder, store):
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
        with pytest.raises(Unsupported, match=r"tokenizer\.json"):
            holdfast.convert(folder, "slow", store=store)

    def test_an_adapter_without_its_base_says_how(self, tmp_path, store):
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"])
        peft.get_peft_model(zoo.generator(), config).save_pretrained(tmp_path / "adapter")
        with pytest.raises(Unsupported, match="without its base") as caught:
            holdfast.convert(tmp_path / "adapter", "adapter", store=store)
        assert "parents=" in caught.value.hint

    def test_two_models_do_not_fit_into_a_folder(self, tmp_path, store):
        holdfast.save([zoo.classifier(), zoo.masked()], "two", store=store)
        with pytest.raises(Unsupported, match="one model"):
            holdfast.export("two", tmp_path / "two", store=store)
        assert not (tmp_path / "two").exists()
