"""Adapters of PEFT are kept on the base they were made for, and on no other."""

from __future__ import annotations

import copy
import importlib.util
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
from msgspec.structs import replace as changed

import holdfast
from holdfast import codec, frameworks
from holdfast.codec.tensors import TensorView
from holdfast.errors import HoldfastError, PartialLoad, UnsafeContent, Unsupported
from holdfast.frameworks import transformers as adapter
from holdfast.frameworks.base import LoadOptions, Opened
from holdfast.testing.adapters import AdapterConformance

SPEC = importlib.util.spec_from_file_location(
    "transformers_zoo", Path(__file__).with_name("transformers_zoo.py")
)
zoo = sys.modules["transformers_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)

pytestmark = pytest.mark.filterwarnings("ignore")

CONFIGS = {
    "lora": lambda: peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"]),
    "dora": lambda: peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], use_dora=True
    ),
    "stabilised": lambda: peft.LoraConfig(
        r=4, target_modules="all-linear", use_rslora=True, lora_alpha=3, rank_pattern={"c_fc": 1}
    ),
    "ia3": lambda: peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["c_attn", "mlp.c_proj"],
        feedforward_modules=["mlp.c_proj"],
    ),
    "loha": lambda: peft.LoHaConfig(r=2, target_modules=["lm_head"]),
    "lokr": lambda: peft.LoKrConfig(r=2, target_modules=["lm_head"]),
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def adapted(base, config, seed=0):
    model = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def lora(seed=0):
    return adapted(zoo.generator(), CONFIGS["lora"](), seed)


def logits(model):
    with torch.no_grad():
        return model(**zoo.ids(401)).logits


def blob_bytes(store):
    return sum(file.stat().st_size for file in (store / "blobs").rglob("*") if file.is_file())


class TestConforms(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture
    def model(self):
        return lora()

    @pytest.fixture
    def inputs(self):
        return zoo.ids(401)

    @pytest.fixture
    def other(self):
        return lora(seed=1)


@pytest.mark.keeps("PEFT", "LoRA, IA3, LoHa and LoKr on their base", "peft", "transformers")
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_an_adapter_comes_back_on_its_base(name, store):
    model = adapted(zoo.generator(), CONFIGS[name]())
    version = holdfast.save(model, "adapter", inputs=zoo.ids(401), store=store)
    assert version.proof == "replayed"
    again = holdfast.load("adapter", store=store)
    assert type(again) is type(model)
    assert torch.equal(logits(again), logits(model))
    states = [m.state_dict() for m in (model, again)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
    trainable = [{n for n, p in m.named_parameters() if p.requires_grad} for m in (model, again)]
    assert trainable[0] == trainable[1]
    assert not torch.equal(logits(again), logits(zoo.generator()))


def test_the_base_comes_back_untouched_when_the_adapter_is_taken_off(store):
    holdfast.save(lora(), "adapter", store=store)
    again = holdfast.load("adapter", store=store)
    with again.disable_adapter():
        assert torch.equal(logits(again), logits(zoo.generator()))
    assert torch.equal(logits(again.unload()), logits(zoo.generator()))


def test_classifier_heads_of_the_adapter_come_back(store):
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    model = adapted(zoo.classifier(), config)
    holdfast.save(model, "adapter", inputs=zoo.ids(300), store=store)
    again = holdfast.load("adapter", store=store)
    with torch.no_grad():
        assert torch.equal(again(**zoo.ids(300)).logits, model(**zoo.ids(300)).logits)
    assert again.peft_config["default"].modules_to_save == ["classifier", "score"]


def test_several_adapters_and_which_is_active_come_back(store):
    model = lora()
    model.add_adapter("second", CONFIGS["lora"]())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "second" in name:
                parameter.fill_(0.05)
    model.set_adapter("second")
    holdfast.save(model, "two", store=store)
    again = holdfast.load("two", store=store)
    assert again.active_adapters == ["second"]
    assert torch.equal(logits(again), logits(model))
    again.set_adapter("default")
    model.set_adapter("default")
    assert torch.equal(logits(again), logits(model))


def test_a_loaded_adapter_goes_on_training(store):
    holdfast.save(lora(), "adapter", store=store)
    model = holdfast.load("adapter", store=store).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    given = zoo.ids(401)
    model(**given, labels=given["input_ids"]).loss.backward()
    optimizer.step()
    changed_names = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed_names
    assert all("lora_" in name for name in changed_names)


def wide():
    config = transformers.GPT2Config(
        vocab_size=30_000, n_embd=128, n_layer=1, n_head=2, n_positions=64
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


def test_a_version_of_an_adapter_costs_its_own_tensors_only(store):
    holdfast.save(wide(), "base", store=store)
    before = blob_bytes(store)
    base = holdfast.load("base", store=store)
    for seed in range(3):
        model = adapted(copy.deepcopy(base), CONFIGS["lora"](), seed)
        version = holdfast.save(model, "adapter", parents=["base@v1"], store=store)
        assert version.proof is not None
    parent = holdfast.get("base@v1", store=store)
    assert holdfast.get("adapter", store=store).record.parents == (parent.record_id,)
    assert before > 15_000_000
    assert (blob_bytes(store) - before) / 3 < 1_700_000


def test_adapters_of_one_base_share_its_digest_and_a_changed_base_has_another(store):
    digests = []
    for seed, base in ((0, zoo.generator()), (1, zoo.generator()), (0, zoo.generator(seed=5))):
        model = adapted(base, CONFIGS["lora"](), seed)
        version = holdfast.save(model, "adapter", store=store)
        digests.append(version.record.environment["base"])
    assert digests[0] == digests[1] != digests[2]
    assert digests[0].startswith("sha256:")


class TestOntoAGivenBase:
    def test_the_base_it_was_made_for_receives_it(self, store):
        model = lora()
        holdfast.save(zoo.generator(), "base", store=store)
        holdfast.save(model, "adapter", store=store)
        base = holdfast.load("base", store=store)
        again = holdfast.load("adapter", into=base, store=store)
        assert again.get_base_model() is base
        assert torch.equal(logits(again), logits(model))

    def test_other_numbers_are_refused_and_nothing_changes(self, store):
        holdfast.save(lora(), "adapter", store=store)
        base = zoo.generator(seed=5)
        with pytest.raises(PartialLoad, match=r"another base .* has other numbers"):
            holdfast.load("adapter", into=base, store=store)
        assert type(base) is transformers.GPT2LMHeadModel
        assert torch.equal(logits(base), logits(zoo.generator(seed=5)))

    def test_another_size_is_refused(self, store):
        holdfast.save(lora(), "adapter", store=store)
        with pytest.raises(PartialLoad, match="its configuration differs"):
            holdfast.load("adapter", into=wide(), store=store)

    def test_another_class_is_refused(self, store):
        holdfast.save(lora(), "adapter", store=store)
        with pytest.raises(PartialLoad, match="it is a LlamaForCausalLM"):
            holdfast.load("adapter", into=zoo.llama(), store=store)

    def test_what_is_no_model_is_refused(self, store):
        holdfast.save(lora(), "adapter", store=store)
        with pytest.raises(HoldfastError, match="adapter's base"):
            holdfast.load("adapter", into=torch.nn.Linear(2, 2), store=store)


class TestRefused:
    def test_a_merged_adapter(self, store):
        model = lora()
        model.merge_adapter()
        with pytest.raises(Unsupported, match="merged") as caught:
            holdfast.save(model, "adapter", store=store)
        assert "unmerge_adapter" in caught.value.hint

    def test_a_changed_setting_of_the_base(self, store):
        model = lora()
        model.get_base_model().transformer.drop.p = 0.9
        with pytest.raises(Unsupported, match=r"transformer\.drop\.p is 0\.9"):
            holdfast.save(model, "adapter", store=store)

    def test_a_method_whose_state_is_more_than_layers(self, store):
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        model = peft.get_peft_model(zoo.generator(), config)
        with pytest.raises(Unsupported, match="PROMPT_TUNING"):
            holdfast.save(model, "adapter", store=store)

    def test_a_merged_and_unloaded_model_is_an_ordinary_one(self, store):
        model = lora().merge_and_unload()
        holdfast.save(model, "merged", store=store)
        again = holdfast.load("merged", store=store)
        assert type(again) is transformers.GPT2LMHeadModel
        assert torch.equal(logits(again), logits(model))


def unpacked(model, alter):
    """Unpack a model whose nodes were altered."""
    registry = frameworks.registry()
    payload = adapter.pack(model, registry)
    structure = changed(
        payload.structure, nodes=tuple(alter(list(node)) for node in payload.structure.nodes)
    )
    views = {
        name: TensorView(data.dtype, data.shape, memoryview(bytearray(data.load())))
        for name, data in payload.tensors.items()
    }
    opened = Opened(
        structure=structure,
        audit=codec.audit(structure, views, registry, payload.files),
        tensors=views,
        files=payload.files,
        facts={},
    )
    return adapter.unpack(opened, registry, LoadOptions())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("megatron.core", "evil_module"),
        ("LORA", "ADAPTION_PROMPT"),
        ("PeftModelForCausalLM", "PreTrainedModel"),
        ("GPT2LMHeadModel", "GPT2DoubleHeadsModel"),
        ("CAUSAL_LM", "../../x"),
    ],
)
def test_forged_settings_are_refused(old, new, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)

    def alter(node):
        return tuple(node) if node != ["str", old] else ("str", new)

    with pytest.raises((HoldfastError, UnsafeContent)):
        unpacked(lora(), alter)
    assert not (tmp_path / "canary").exists()


def test_an_impossible_rank_is_refused_without_its_memory():
    def alter(node):
        return ("int", 2**30) if node == ["int", 2] else tuple(node)

    with pytest.raises(HoldfastError):
        unpacked(adapted(zoo.generator(), peft.LoraConfig(r=2, target_modules=["c_attn"])), alter)
