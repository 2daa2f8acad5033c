"""spaCy pipelines are kept: the same annotations, weights, rules, vectors and strings."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest

pytest.importorskip("spacy", reason="spacy is not installed")

import spacy
from msgspec.structs import replace
from spacy.language import Language
from spacy.lookups import Lookups
from spacy.training import Example

import holdfast
from holdfast import codec, frameworks
from holdfast.codec.tensors import TensorView
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks import spacy as adapter
from holdfast.frameworks.base import LoadOptions, Opened

pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = [
    "Anna lives in Oslo and likes good coffee.",
    "The trams of Lisbon are bad today, says Acme Corp.",
    "We don't know; 12 cats ran to U.K. on 3 May 2021.",
    "",
    "Ünïcode \U0001f600 text\n\nwith breaks",
]


def examples(nlp):
    rows = [
        ("Anna lives in Oslo", ["NNP", "VBZ", "IN", "NNP"], [(0, 4, "PER"), (14, 18, "LOC")], 1.0),
        ("Lisbon is bad today", ["NNP", "VBZ", "JJ", "NN"], [(0, 6, "LOC")], 0.0),
    ]
    for text, tags, entities, good in rows:
        cats = {"GOOD": good, "BAD": 1.0 - good}
        heads, deps = [1, 1, 1, 2], ["nsubj", "ROOT", "prep", "pobj"]
        told = {
            "tags": tags, "entities": entities, "cats": cats, "heads": heads, "deps": deps,
            "morphs": ["Number=Sing", "Tense=Pres", "", "Number=Sing"],
            "pos": ["PROPN", "VERB", "ADP", "NOUN"],
            "sent_starts": [1, 0, 0, 0],
        }  # fmt: skip
        yield Example.from_dict(nlp.make_doc(text), told)


def trained(*factories, configs=None):
    spacy.util.fix_random_seed(7)
    nlp = spacy.blank("en")
    for factory in factories:
        nlp.add_pipe(factory, config=(configs or {}).get(factory, {}))
    rows = list(examples(nlp))
    optimizer = nlp.initialize(lambda: rows)
    for _ in range(3):
        nlp.update(rows, sgd=optimizer)
    return nlp


def ruled():
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer", config={"punct_chars": [".", ";"]})
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "ORG", "pattern": "Acme Corp", "id": "acme"},
            {"label": "CITY", "pattern": [{"LOWER": "oslo"}]},
        ]
    )
    nlp.add_pipe("span_ruler").add_patterns([{"label": "ANIMAL", "pattern": [{"LOWER": "cats"}]}])
    rules = nlp.add_pipe("attribute_ruler")
    rules.add(patterns=[[{"LOWER": "trams"}]], attrs={"TAG": "NNS", "MORPH": "Number=Plur"})
    lookups = Lookups()
    lookups.add_table("lemma_lookup", {"cats": "cat", "lives": "live"})
    nlp.add_pipe("lemmatizer", config={"mode": "lookup"}).initialize(lookups=lookups)
    nlp.tokenizer.add_special_case("Oslo", [{"ORTH": "Os"}, {"ORTH": "lo"}])
    nlp.vocab.set_vector("coffee", np.arange(4, dtype="float32"))
    nlp.vocab.set_vector("tea", np.ones(4, dtype="float32"))
    nlp.meta["description"] = "rules only"
    nlp.max_length = 5_000
    return nlp


LISTENER = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "tok2vec"}
LISTENING = {
    "tagger": {"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": LISTENER}},
    "ner": {
        "model": {
            "@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner",
            "extra_state_tokens": False, "hidden_width": 64, "maxout_pieces": 2, "use_upper": True,
            "tok2vec": LISTENER,
        }
    },
}  # fmt: skip


def untrained():
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("merge_entities")
    return nlp


def disabled():
    nlp = trained("tagger", "textcat")
    nlp.disable_pipe("tagger")
    return nlp


PIPELINES = {
    "blank": lambda: spacy.blank("de"),
    "rules": ruled,
    "textcat": lambda: trained("textcat"),
    "textcat_multilabel": lambda: trained("textcat_multilabel"),
    "ner": lambda: trained("ner"),
    "tagger": lambda: trained("tagger"),
    "morphologizer": lambda: trained("morphologizer"),
    "senter": lambda: trained("senter"),
    "parser": lambda: trained("parser", configs={"parser": {"min_action_freq": 1}}),
    "shared tok2vec": lambda: trained("tok2vec", "tagger", "ner", configs=LISTENING),
    "not trained": untrained,
    "disabled": disabled,
}


def built(views, payload, structure=None, tensors=None):
    tensors = tensors or views(payload)
    structure = structure or payload.structure
    audit = codec.audit(structure, tensors, frameworks.registry())
    parts = Opened(structure=structure, audit=audit, tensors=tensors, files={}, facts={})
    return adapter.unpack(parts, frameworks.registry(), LoadOptions())


def annotated(nlp):
    return [doc.to_json() for doc in nlp.pipe(TEXTS)]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_comes_back_whole(views, name):
    nlp = PIPELINES[name]()
    again = built(views, adapter.pack(nlp, frameworks.registry()))
    assert type(again) is type(nlp)
    assert adapter.difference(nlp, again, frameworks.registry()) is None
    if not nlp.has_pipe("sentencizer"):  # writes a set in the order of its history
        assert again.to_bytes() == nlp.to_bytes()
    assert annotated(again) == annotated(nlp)
    assert (again.pipe_names, again.disabled) == (nlp.pipe_names, nlp.disabled)
    assert again.config == nlp.config


@pytest.mark.keeps("spaCy", "trained pipelines: tagger, parser, ner, textcat, tok2vec", "spacy")
def test_a_trained_pipeline_is_saved_proved_and_loaded(tmp_path):
    nlp = trained("ner", "textcat")
    holdfast.save(nlp, "kept", inputs=TEXTS, store=tmp_path / "s")
    again = holdfast.load("kept", store=tmp_path / "s")
    assert holdfast.get("kept", store=tmp_path / "s").record.golden["method"] == "pipe"
    twin = holdfast.save(again, "kept", inputs=TEXTS, store=tmp_path / "s")
    assert twin.same_content_as == "kept@v1"
    assert annotated(again) == annotated(nlp)


@pytest.mark.keeps("spaCy", "rules, lookups, vectors and tokenizers", "spacy")
def test_a_pipeline_of_rules_is_saved_proved_and_loaded(tmp_path):
    nlp = ruled()
    holdfast.save(nlp, "kept", store=tmp_path / "s")
    again = holdfast.load("kept", store=tmp_path / "s")
    assert annotated(again) == annotated(nlp)
    assert np.array_equal(again.vocab["coffee"].vector, nlp.vocab["coffee"].vector)
    assert again("cats")[0].lemma_ == "cat"


def test_a_trained_pipeline_learns_on_after_a_load(views):
    nlp = trained("tagger")
    again = built(views, adapter.pack(nlp, frameworks.registry()))
    losses = again.update(list(examples(again)), sgd=again.resume_training())
    assert losses["tagger"] > 0


def test_a_folder_is_written_that_spacy_loads(tmp_path):
    nlp = ruled()
    adapter.WRITES["folder"](nlp, tmp_path / "out")
    assert annotated(spacy.load(tmp_path / "out")) == annotated(nlp)


def test_a_component_of_the_program_is_kept_where_it_is_registered(views):
    @Language.component("shout")
    def shout(doc):
        doc.user_data["loud"] = True
        return doc

    nlp = spacy.blank("en")
    nlp.add_pipe("shout")
    again = built(views, adapter.pack(nlp, frameworks.registry()))
    assert again("x").user_data["loud"]


def with_text(structure, old, new):
    def changed(node):
        if tuple(node) == ("str", old):
            return ("str", new)
        if node[0] == "strings" and old in node[1]:
            return ("strings", [new if text == old else text for text in node[1]])
        return node

    nodes = tuple(changed(node) for node in structure.nodes)
    assert nodes != structure.nodes
    return replace(structure, nodes=nodes)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("textcat", "my_unknown_factory"),
        ("spacy.TextCatEnsemble.v2", "spacy.PyTorchWrapper.v1"),
        ("spacy.TextCatEnsemble.v2", "nobody.registered.this"),
        ("spacy.textcat_scorer.v2", "spacy.KBFromFile.v1"),
        ("@architectures", "@readers"),
        ("@architectures", "@callbacks"),
        ("@scorers", "@nowhere"),
        ("spacy.Tokenizer.v1", "spacy.ja.JapaneseTokenizer"),
        ("en", "os"),
        ("en", "../../x"),
    ],
)
def test_a_configuration_that_names_anything_else_is_refused(views, old, new):
    payload = adapter.pack(trained("textcat"), frameworks.registry())
    with pytest.raises((Unsupported, Corrupt)):
        built(views, payload, structure=with_text(payload.structure, old, new))


def test_a_reader_of_files_is_refused_at_save():
    nlp = spacy.blank("en")
    nlp.config["nlp"]["before_creation"] = {"@callbacks": "spacy.copy_from_base_model.v1"}
    with pytest.raises(Unsupported, match="function of its own"):
        adapter.pack(nlp, frameworks.registry())


def test_weights_of_another_shape_are_refused_before_any_layer_has_them(views):
    payload = adapter.pack(trained("ner"), frameworks.registry())
    tensors = views(payload)
    checked = 0
    for name, view in tensors.items():
        if ".params." not in name or len(view.shape) < 1 or view.shape[0] < 2:
            continue
        shape = (view.shape[0] - 1, *view.shape[1:])
        size = int(np.prod(shape)) * 4
        forged = {**tensors, name: TensorView(view.dtype, shape, view.data[:size])}
        with pytest.raises(Corrupt, match="shape"):
            built(views, payload, tensors=forged)
        checked += 1
    assert checked > 5


@pytest.mark.parametrize("old", [2000, 64, 262144])
def test_a_configuration_of_any_size_is_refused_before_weights_are_made(views, old):
    payload = adapter.pack(trained("textcat"), frameworks.registry())
    nodes = tuple(
        ("int", 9_000_000) if tuple(n) == ("int", old) else n for n in payload.structure.nodes
    )
    assert nodes != payload.structure.nodes
    with pytest.raises((Unsupported, Corrupt)):
        built(views, payload, structure=replace(payload.structure, nodes=nodes))


@pytest.mark.parametrize("row", [-1, 10**6])
def test_a_vector_row_out_of_range_is_refused(row):
    nlp = ruled()
    kept = copy.deepcopy(adapter.state.read_vocab(nlp.vocab))
    kept["rows"][0] = row
    with pytest.raises(Corrupt, match="row"):
        adapter.state.write_vocab(spacy.blank("en"), kept)


def test_nothing_is_imported_by_a_name_of_the_file(views, monkeypatch):
    payload = adapter.pack(trained("textcat"), frameworks.registry())
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("ran"))
    for name in ("os.system", "builtins.eval", "subprocess"):
        with pytest.raises(Unsupported):
            built(views, payload, structure=with_text(payload.structure, "textcat", name))
