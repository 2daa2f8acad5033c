"""Small models of transformers, made from configurations with fixed seeds, and their tokenizers."""

from __future__ import annotations

import functools

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXTS = [
    "Anna lives in Oslo and likes good coffee.",
    "The trams of Lisbon are bad today.",
    "We do not know; twelve cats ran to the U.K. in May 2021.",
    "",
    "Ünïcode text with\n\nbreaks",
]
_CORPUS = [*TEXTS, "coffee trams cats today good bad Oslo Lisbon", "[CLS] [SEP] <s> </s>"] * 4


@functools.cache
def _trained_pieces():
    """Train once: which of equally frequent pieces are taken differs between trainings."""
    built = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer()
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    built.train_from_iterator(
        _CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
    )
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    built.decoder = decoders.WordPiece()
    return built.to_str()


def word_pieces():
    """A tokenizer of BERT's kind."""
    built = Tokenizer.from_str(_trained_pieces())
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=built,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


@functools.cache
def _trained_pairs():
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    built.train_from_iterator(_CORPUS, trainer)
    return built.to_str()


def byte_pairs():
    """A tokenizer of GPT's kind with a chat template."""
    built = Tokenizer.from_str(_trained_pairs())
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, eos_token="<|end|>", pad_token="<|end|>", padding_side="left"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )
    tokenizer.add_tokens(["<extra>"])
    return tokenizer


def _made(kind, config, *, dtype=None, seed=0):
    torch.manual_seed(seed)
    model = kind(config)
    if dtype is not None:
        model = model.to(dtype)
    return model.eval()


def classifier(seed=0):
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
        id2label={0: "bad", 1: "good", 2: "odd"}, label2id={"bad": 0, "good": 1, "odd": 2},
    )  # fmt: skip
    return _made(transformers.BertForSequenceClassification, config, seed=seed)


def masked(seed=0):
    config = transformers.DistilBertConfig(
        vocab_size=300, dim=32, n_layers=1, n_heads=2, hidden_dim=64, max_position_embeddings=64
    )
    return _made(transformers.DistilBertForMaskedLM, config, seed=seed)


def generator(seed=0):
    config = transformers.GPT2Config(
        vocab_size=401,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = _made(transformers.GPT2LMHeadModel, config, seed=seed)
    model.generation_config.max_new_tokens = 7
    model.generation_config.pad_token_id = 0
    return model


def llama(seed=0):
    config = transformers.LlamaConfig(
        vocab_size=401, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=64,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return _made(transformers.LlamaForCausalLM, config, dtype=torch.bfloat16, seed=seed)


def translator(seed=0):
    config = transformers.T5Config(
        vocab_size=300, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    return _made(transformers.T5ForConditionalGeneration, config, seed=seed)


def viewer(seed=0):
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, num_labels=3,
    )  # fmt: skip
    return _made(transformers.ViTForImageClassification, config, seed=seed)


def listener(seed=0):
    config = transformers.WhisperConfig(
        vocab_size=100, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8,
        max_source_positions=20, max_target_positions=16, decoder_start_token_id=1,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, suppress_tokens=None,
        begin_suppress_tokens=None,
    )  # fmt: skip
    return _made(transformers.WhisperForConditionalGeneration, config, seed=seed)


def seer(seed=0):
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 32,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
        },
        projection_dim=8,
    )  # fmt: skip
    return _made(transformers.CLIPModel, config, seed=seed)


def mixture(seed=0):
    config = transformers.MixtralConfig(
        vocab_size=100, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=2,
        max_position_embeddings=32,
    )  # fmt: skip
    return _made(transformers.MixtralForCausalLM, config, seed=seed)


def windows(seed=0):
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2
    )
    return _made(transformers.SwinModel, config, seed=seed)


def ids(words, rows=3, length=6):
    generator = torch.Generator().manual_seed(1)
    made = torch.randint(3, words, (rows, length), generator=generator)
    return {"input_ids": made, "attention_mask": torch.ones_like(made)}


def pictures(rows=2, edge=16):
    return {
        "pixel_values": torch.randn(rows, 3, edge, edge, generator=torch.Generator().manual_seed(1))
    }


def _translated():
    inputs = ids(300)
    return {**inputs, "decoder_input_ids": inputs["input_ids"].flip(1)}


def _heard():
    made = torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(1))
    return {"input_features": made, "decoder_input_ids": torch.tensor([[1, 5, 7], [1, 6, 8]])}


# Name to what makes a model, and inputs for it.
MODELS = {
    "classifier": (classifier, lambda: ids(300)),
    "generator": (generator, lambda: ids(401)),
    "listener": (listener, _heard),
    "llama": (llama, lambda: ids(401)),
    "masked": (masked, lambda: ids(300)),
    "mixture": (mixture, lambda: ids(100)),
    "seer": (seer, lambda: {**ids(300, rows=2), **pictures()}),
    "translator": (translator, _translated),
    "viewer": (viewer, pictures),
    "windows": (windows, pictures),
}
