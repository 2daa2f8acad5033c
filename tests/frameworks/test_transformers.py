"""transformers models come back whole: weights, ties, dtypes, settings, labels, tokenizers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no hub may be asked for anything
pytest.importorskip("transformers", reason="transformers is not installed")

import torch
import transformers

import holdfast
from holdfast import frameworks
from holdfast.errors import HoldfastError, Unsupported
from holdfast.frameworks import transformers as adapter
from holdfast.testing.adapters import AdapterConformance

SPEC = importlib.util.spec_from_file_location(
    "transformers_zoo", Path(__file__).with_name("transformers_zoo.py")
)
zoo = sys.modules["transformers_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def answers(model, inputs):
    with torch.no_grad():
        return model(**inputs)


def same_tensors(one, other):
    states = [dict(m.named_parameters(remove_duplicate=False)) for m in (one, other)]
    states = [{**s, **dict(m.named_buffers())} for s, m in zip(states, (one, other), strict=True)]
    assert states[0].keys() == states[1].keys()
    return all(
        t.dtype == states[1][n].dtype and torch.equal(t, states[1][n]) for n, t in states[0].items()
    )


class TestConforms(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture(params=["classifier", "llama"])
    def made(self, request):
        return zoo.MODELS[request.param]

    @pytest.fixture
    def model(self, made):
        return made[0]()

    @pytest.fixture
    def inputs(self, made):
        return made[1]()

    @pytest.fixture
    def other(self, made):
        return made[0](seed=1)


class TestPairConforms(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture
    def model(self):
        return {"model": zoo.classifier(), "tokenizer": zoo.word_pieces()}

    @pytest.fixture
    def inputs(self):
        return zoo.TEXTS

    @pytest.fixture
    def other(self):
        return {"model": zoo.classifier(), "tokenizer": zoo.byte_pairs()}


class TestPipelineConforms(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture
    def model(self):
        return transformers.pipeline(
            "text-classification",
            model=zoo.classifier(),
            tokenizer=zoo.word_pieces(),
            top_k=2,
            device="cpu",
        )

    @pytest.fixture
    def inputs(self):
        return zoo.TEXTS[:3]

    @pytest.fixture
    def other(self):
        return transformers.pipeline(
            "text-classification",
            model=zoo.classifier(seed=1),
            tokenizer=zoo.word_pieces(),
            top_k=2,
            device="cpu",
        )


@pytest.mark.keeps("transformers", "models of its own classes", "transformers", "torch")
@pytest.mark.parametrize("name", sorted(zoo.MODELS))
def test_every_tensor_and_answer_comes_back(name, store):
    make, inputs = zoo.MODELS[name]
    model, given = make(), inputs()
    version = holdfast.save(model, "model", inputs=given, store=store)
    assert version.proof == "replayed"
    again = holdfast.load("model", store=store)
    assert type(again) is type(model)
    assert same_tensors(model, again)
    assert again.config.to_dict() == model.config.to_dict()
    one, two = answers(model, given), answers(again, given)
    assert torch.equal(one[0], two[0])


def test_labels_generation_and_attention_come_back(store):
    model = zoo.classifier()
    model.set_attn_implementation("eager")
    holdfast.save(model, "labels", store=store)
    again = holdfast.load("labels", store=store)
    assert again.config.id2label == {0: "bad", 1: "good", 2: "odd"}
    assert again.config.label2id["odd"] == 2
    assert again.config._attn_implementation == "eager"
    generator = zoo.generator()
    holdfast.save(generator, "generator", store=store)
    told = holdfast.load("generator", store=store).generation_config
    assert told.to_dict() == generator.generation_config.to_dict()
    assert told.max_new_tokens == 7


def test_tied_weights_stay_tied_and_are_stored_once(store):
    model = zoo.generator()
    version = holdfast.save(model, "tied", store=store)
    again = holdfast.load("tied", store=store)
    assert again.lm_head.weight is again.transformer.wte.weight
    names = [entry.name for entry in version.content.tensors]
    assert sum("wte" in name or "lm_head" in name for name in names) == 1


def test_tensors_have_the_names_that_others_know(store):
    version = holdfast.save(zoo.classifier(), "names", store=store)
    names = {entry.name for entry in version.content.tensors}
    assert set(zoo.classifier().state_dict()) <= names


def test_loading_allocates_no_second_copy_and_draws_nothing(store):
    holdfast.save(zoo.llama(), "llama", store=store)
    before = torch.random.get_rng_state()
    again = holdfast.load("llama", store=store)
    assert torch.equal(before, torch.random.get_rng_state())
    assert next(again.parameters()).dtype == torch.bfloat16
    assert not any(p.is_meta for p in [*again.parameters(), *again.buffers()])


def test_training_flags_and_frozen_parameters_come_back(store):
    model = zoo.classifier().train()
    model.bert.embeddings.eval()
    for parameter in model.bert.parameters():
        parameter.requires_grad_(False)
    holdfast.save(model, "flags", store=store)
    again = holdfast.load("flags", store=store)
    flags = [(p.training, [q.requires_grad for q in p.parameters()]) for p in model.modules()]
    assert flags == [
        (p.training, [q.requires_grad for q in p.parameters()]) for p in again.modules()
    ]


def test_a_loaded_model_trains_and_generates(store):
    holdfast.save(zoo.generator(), "generator", store=store)
    model = holdfast.load("generator", store=store)
    given = zoo.ids(401)
    made = model.generate(**given, do_sample=False)
    assert torch.equal(made, zoo.generator().generate(**given, do_sample=False))
    model.train()
    loss = model(**given, labels=given["input_ids"]).loss
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    again = holdfast.load("generator", store=store)  # the store's bytes are as they were
    assert same_tensors(again, zoo.generator())


@pytest.mark.keeps("transformers", "with tokenizers, processors, labels")
@pytest.mark.parametrize("make", [zoo.word_pieces, zoo.byte_pairs], ids=["pieces", "pairs"])
def test_a_tokenizer_comes_back(make, store):
    tokenizer = make()
    version = holdfast.save(tokenizer, "words", store=store)
    assert [file.name for file in version.content.files] == ["tokenizer.json"]
    again = holdfast.load("words", store=store)
    assert type(again) is type(tokenizer)
    assert again(zoo.TEXTS).data == tokenizer(zoo.TEXTS).data
    options = {"padding": True, "truncation": True, "max_length": 9}
    assert again(zoo.TEXTS, **options).data == tokenizer(zoo.TEXTS, **options).data
    assert again.padding_side == tokenizer.padding_side
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.model_max_length == tokenizer.model_max_length
    assert len(again) == len(tokenizer)
    assert again.decode([5, 6, 7]) == tokenizer.decode([5, 6, 7])


def test_a_chat_template_is_kept_as_text(store):
    tokenizer = zoo.byte_pairs()
    holdfast.save(tokenizer, "chat", store=store)
    again = holdfast.load("chat", store=store)
    assert again.chat_template == tokenizer.chat_template
    messages = [{"role": "user", "content": "hello"}]
    shown = again.apply_chat_template(messages, tokenize=False)
    assert shown == tokenizer.apply_chat_template(messages, tokenize=False)


def test_what_a_user_set_on_a_tokenizer_is_kept(store):
    tokenizer = zoo.word_pieces()
    tokenizer.padding_side, tokenizer.model_max_length = "left", 11
    holdfast.save(tokenizer, "words", store=store)
    again = holdfast.load("words", store=store)
    assert (again.padding_side, again.model_max_length) == ("left", 11)


def test_model_and_tokenizer_are_one_version(store):
    pair = {"model": zoo.classifier(), "tokenizer": zoo.word_pieces()}
    version = holdfast.save(pair, "pair", inputs=zoo.TEXTS, store=store)
    assert version.proof == "replayed"
    again = holdfast.load("pair", store=store)
    assert list(again) == ["model", "tokenizer"]
    given = [p["tokenizer"](zoo.TEXTS, padding=True, return_tensors="pt") for p in (pair, again)]
    assert torch.equal(
        answers(again["model"], given[1]).logits, answers(pair["model"], given[0]).logits
    )


def test_inputs_may_be_what_a_tokenizer_returns(store):
    given = zoo.word_pieces()(zoo.TEXTS, padding=True, return_tensors="pt")
    version = holdfast.save(zoo.classifier(), "encoded", inputs=given, store=store)
    assert version.proof == "replayed"
    assert set(version.content.signature["inputs"]["items"]) == set(given)
    found = holdfast.predict("encoded", dict(given), store=store)["logits"]
    assert torch.equal(found, answers(zoo.classifier(), given).logits)


def test_saving_and_loading_warn_of_nothing(store):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import transformers_zoo as zoo, holdfast, transformers\n"
        "pair = {'model': zoo.classifier(), 'tokenizer': zoo.word_pieces()}\n"
        "holdfast.save(pair, 'pair', store=sys.argv[2])\n"
        "holdfast.load('pair', store=sys.argv[2])\n"
    )
    words = ["-W", "error", "-c", code, str(Path(__file__).parent), str(store)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_tuple_of_parts_comes_back_as_one(store):
    holdfast.save((zoo.masked(), zoo.word_pieces()), "parts", store=store)
    model, tokenizer = holdfast.load("parts", store=store)
    assert isinstance(model, transformers.DistilBertForMaskedLM)
    assert tokenizer.mask_token == "[MASK]"


PIPELINES = {
    "text-classification": (zoo.classifier, zoo.word_pieces, {"top_k": None}, zoo.TEXTS[:2]),
    "fill-mask": (zoo.masked, zoo.word_pieces, {"top_k": 3}, ["The [MASK] of Lisbon"]),
    "text-generation": (zoo.generator, zoo.byte_pairs, {"max_new_tokens": 5}, zoo.TEXTS[:2]),
    "feature-extraction": (zoo.masked, zoo.word_pieces, {}, zoo.TEXTS[:2]),
}


@pytest.mark.keeps("transformers", "pipelines")
@pytest.mark.parametrize("task", sorted(PIPELINES))
@pytest.mark.parametrize("given", [True, False], ids=["inputs", "made up"])
def test_a_pipeline_comes_back_with_its_settings(task, given, store):
    model, tokenizer, options, rows = PIPELINES[task]
    pipe = transformers.pipeline(
        task, model=model(), tokenizer=tokenizer(), device="cpu", **options
    )
    version = holdfast.save(pipe, "pipe", inputs=rows if given else None, store=store)
    assert version.proof == ("replayed" if given else "replayed on synthetic inputs")
    again = holdfast.load("pipe", store=store)
    assert type(again) is type(pipe)
    torch.manual_seed(3)
    one = pipe(rows)
    torch.manual_seed(3)
    assert again(rows) == one


def test_processors_come_back(store, tmp_path):
    images = transformers.ViTImageProcessor(
        size={"height": 16, "width": 16}, image_std=[0.1, 0.2, 0.3]
    )
    sounds = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    holdfast.save({"model": zoo.viewer(), "image_processor": images}, "seen", store=store)
    holdfast.save({"model": zoo.listener(), "feature_extractor": sounds}, "heard", store=store)
    one = holdfast.load("seen", store=store)["image_processor"]
    two = holdfast.load("heard", store=store)["feature_extractor"]
    assert type(one) is type(images)
    assert one.to_dict() == images.to_dict()
    assert type(two) is type(sounds)
    assert two.to_dict() == sounds.to_dict()
    assert (two.mel_filters == sounds.mel_filters).all()


def test_a_processor_of_several_parts_comes_back(store):
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 16})
    processor = transformers.CLIPProcessor(images, zoo.word_pieces())
    holdfast.save({"model": zoo.seer(), "processor": processor}, "clip", store=store)
    again = holdfast.load("clip", store=store)["processor"]
    assert type(again) is type(processor)
    assert again.image_processor.to_dict() == images.to_dict()
    assert again.tokenizer(zoo.TEXTS).data == processor.tokenizer(zoo.TEXTS).data


def test_a_process_without_torch_models_in_it_proves_a_version(store):
    holdfast.save({"model": zoo.classifier(), "tokenizer": zoo.word_pieces()}, "pair", store=store)
    words = ["verify", "pair", "--store", str(store), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "replayed" in json.dumps(json.loads(done.stdout))


def test_a_second_version_shares_what_did_not_change(store):
    config = transformers.BertConfig(
        vocab_size=20_000, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=128,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    holdfast.save(model, "grows", golden=None, store=store)
    before = sum(file.stat().st_size for file in (store / "blobs").rglob("*") if file.is_file())
    with torch.no_grad():
        model.classifier.weight += 1
    holdfast.save(model, "grows", golden=None, store=store)
    after = sum(file.stat().st_size for file in (store / "blobs").rglob("*") if file.is_file())
    assert before > 5_000_000
    assert after - before < 1_500_000


class TestRefused:
    def test_a_changed_layer_with_its_place(self, store):
        model = zoo.classifier()
        model.classifier = torch.nn.Sequential(torch.nn.Linear(32, 3))
        with pytest.raises(Unsupported, match="'classifier"):
            holdfast.save(model, "changed", store=store)

    def test_a_changed_setting_with_its_place(self, store):
        model = zoo.classifier()
        model.bert.encoder.layer[1].attention.self.dropout.p = 0.7
        with pytest.raises(Unsupported, match=r"layer\.1\.attention\.self\.dropout\.p is 0\.7"):
            holdfast.save(model, "changed", store=store)

    def test_a_quantized_model_with_the_fix(self, store):
        model = zoo.classifier()
        model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
        with pytest.raises(Unsupported, match="bitsandbytes") as caught:
            holdfast.save(model, "quantized", store=store)
        assert "without quantization_config" in caught.value.hint

    def test_remote_code_with_the_reason(self, store):
        model = zoo.classifier()
        model.config.auto_map = {"AutoModel": "evil.Model"}
        with pytest.raises(HoldfastError, match="auto_map") as caught:
            holdfast.save(model, "remote", store=store)
        assert caught.value.exit_code == 6

    def test_a_class_of_the_users_own_is_kept_by_the_torch_adapter(self, store):
        class Own(transformers.BertForSequenceClassification):
            pass

        model = Own(zoo.classifier().config)
        assert frameworks.adapter_for(model).ID == "torch"

    def test_into_for_a_whole_model(self, store):
        holdfast.save(zoo.classifier(), "model", store=store)
        with pytest.raises(HoldfastError, match="built whole"):
            holdfast.load("model", into=zoo.classifier(), store=store)


def test_a_golden_set_of_a_language_model_stays_small(store):
    config = transformers.GPT2Config(
        vocab_size=50_000, n_embd=16, n_layer=1, n_head=2, n_positions=512
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    given = zoo.ids(50_000, rows=8, length=64)
    version = holdfast.save(model, "words", inputs=given, store=store)
    assert version.proof == "replayed"
    tensors = [t for part in version.record.golden["parts"].values() for t in part["tensors"]]
    assert sum(4 * torch.Size(t["shape"]).numel() for t in tensors) < 1_000_000
    whole = holdfast.predict("words", given, store=store)
    assert whole["logits"].shape == (8, 64, 50_000)
