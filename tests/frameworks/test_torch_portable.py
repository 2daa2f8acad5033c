"""A module answers through its program where its class is not; or there is no program."""

import json
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import holdfast  # noqa: E402
from holdfast.errors import EnvironmentMismatch, Unsupported, UsageError  # noqa: E402

nn = torch.nn


class Texts(nn.Module):
    """Any length up to twelve; weights are tied, and one of them is no parameter."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.layer = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(0.9))
        self.out = nn.Linear(8, 10, bias=False)
        self.out.weight = self.words.weight
        self.register_buffer("places", torch.randn(12, 8), persistent=False)

    def forward(self, ids, mask=None):
        hidden = self.layer(self.words(ids) + self.places[: ids.shape[1]])
        if mask is not None:
            hidden = hidden * mask[:, :, None]
        return {"scores": self.out(hidden), "mean": (hidden.mean(dim=1),)}


IDS = torch.randint(0, 10, (20, 5), generator=torch.Generator().manual_seed(1))


@pytest.fixture(name="store")
def make_store(tmp_path):
    return holdfast.Store.create(tmp_path / "store")


def kept(model, inputs, store):
    version = holdfast.save(model, "m", inputs=inputs, portable="torch.export", store=store)
    return version, version.load(environment="portable")


def same(one, two):
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, tuple):
        return all(map(same, one, two))
    return torch.allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.keeps("torch.export", "the portable form of a module of one's own class", "torch")
def test_it_answers_any_number_of_rows_of_any_length_and_the_module_is_as_it_was(store):
    torch.manual_seed(0)
    model = Texts()
    model.layer.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    version, program = kept(model, IDS, store)
    assert model.training
    assert not model.layer.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert version.proof == "replayed"
    model.eval()
    with torch.no_grad():
        for rows, length in ((1, 5), (2, 1), (7, 12), (64, 3)):
            ids = torch.randint(0, 10, (rows, length))
            assert same(program(ids), model(ids))
            assert same(program.forward(ids.numpy()), model(ids))
    with pytest.raises(UsageError, match="size1 is 13, and it takes at most 12"):
        program(torch.zeros(2, 13, dtype=torch.int64))
    with pytest.raises(UsageError, match="float32 and not int64"):
        program(torch.zeros(2, 5))
    with pytest.raises(UsageError, match=r"shape \(2,\)"):
        program(torch.zeros(2, dtype=torch.int64))


def test_inputs_by_name_and_several_by_place(store):
    model = Texts()
    mask = torch.rand(20, 5)
    _, program = kept(model, {"ids": IDS, "mask": mask}, store)
    want = model.eval()(IDS, mask)
    assert same(program({"mask": mask, "ids": IDS}), want)
    with pytest.raises(UsageError, match="it takes ids, mask"):
        program({"ids": IDS})
    with pytest.raises(UsageError, match=r"mask has the shape \(20, 4\)"):
        program({"ids": IDS, "mask": mask[:, :4]})
    _, program = kept(model, (IDS, mask), store)
    assert same(program((IDS, mask)), want)
    with pytest.raises(UsageError, match="it takes 2 inputs"):
        program((IDS,))


def test_weights_are_stored_once(store):
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.BatchNorm1d(300), nn.Linear(300, 4))
    inputs = torch.randn(8, 300)
    plain = holdfast.save(model, "plain", inputs=inputs, store=store)
    before = sum(path.stat().st_size for path in (store.path / "blobs/sha256").iterdir())
    version, _ = kept(model, inputs, store)
    after = sum(path.stat().st_size for path in (store.path / "blobs/sha256").iterdir())
    assert plain.record.portable is None  # none is made unasked
    assert version.content_id == plain.content_id
    assert sum(entry.size for entry in plain.manifest.pieces) > 350_000
    assert after - before < 60_000
    assert {"0.weight", "0.bias", "3.weight"} <= set(version.record.portable["weights"].values())


@pytest.mark.slow
def test_where_the_class_is_not_the_program_answers(store):
    """In a process that could not import the saver's class, and does not import it."""
    model = Texts().eval()
    holdfast.save(model, "m", inputs=IDS, portable="torch.export", store=store)
    code = (
        "import sys, json, numpy, holdfast\n"
        "found = holdfast.preflight('m', store=sys.argv[1])\n"
        "assert 'torch' not in sys.modules\n"
        "version = holdfast.get('m', store=sys.argv[1])\n"
        "model = version.predictor()\n"
        "answers = model.predict(numpy.arange(10).reshape(2, 5))['scores'].tolist()\n"
        "print(json.dumps([found.verdict, version.proof, answers]))\n"
        "print(repr(model.model), *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(store.path)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict, proof, answers = json.loads(done.stdout)
    assert (verdict, proof) == ("loads portable", "replayed")
    want = model(torch.arange(10).reshape(2, 5))["scores"].detach()
    assert torch.allclose(torch.tensor(answers), want, atol=1e-6)
    assert "its portable form answers" in done.stderr
    assert "<torch.Module of m@v1 in its portable form (torch.export: " in done.stderr
    assert Texts.__module__ not in done.stderr.split()


def test_the_class_is_asked_for_first(store):
    version, _ = kept(Texts(), IDS, store)
    assert isinstance(version.load(into=Texts()), Texts)
    with pytest.raises(EnvironmentMismatch, match=r"Needs .*Texts"):
        version.load(environment="here")
    found = version.load_proven()
    assert (found.rung, found.proof) == ("portable", "replayed")
    assert holdfast.preflight("m", store=store).verdict == "loads portable"
    plain = holdfast.save(Texts(), "plain", inputs=IDS, store=store)
    with pytest.raises(EnvironmentMismatch, match=r"Needs .*Texts"):
        plain.load()
    seen = holdfast.preflight("plain", store=store)
    assert seen.verdict == "loads here"
    assert any("must be given to fill, or registered" in each.what for each in seen.findings)


class ByValue(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class ByParity(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] % 2 == 0 else x * 3


class ByRows(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] % 2 == 0 else x * 3


class BySingle(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] == 1 else x * 3


class OfItsOwn(nn.Module):
    def forward(self, x):
        return torch.tensor(np.asarray(x.detach()) * 2)


REFUSED = {
    "values": (ByValue(), "decides by the values of its inputs"),
    "rows": (ByRows(), "its graph holds for some numbers of rows"),
    "a single row": (BySingle(), "does not answer a single row as the model does"),
    "numpy": (OfItsOwn(), "its graph|torch.export does not take it"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_a_program_says_so_in_a_sentence(kind, store, capfd):
    model, match = REFUSED[kind]
    with pytest.raises(Unsupported, match=match) as raised:
        holdfast.save(model, "m", inputs=torch.ones(4, 6), portable="torch.export", store=store)
    assert len(raised.value.message) < 500
    assert raised.value.hint
    told = capfd.readouterr()
    assert told.out + told.err == ""


def test_a_size_that_changes_the_answer_is_fixed(store):
    """torch leaves a condition out of the graph that the record could not hold either."""
    _, program = kept(ByParity(), torch.ones(4, 6), store)
    assert program(torch.ones(2, 6)).tolist() == [[2.0] * 6] * 2
    with pytest.raises(UsageError, match=r"shape \(2, 7\), and it takes \(rows, 6\)"):
        program(torch.ones(2, 7))


def test_other_kinds_of_models_have_no_program(store):
    for model, inputs, match in (
        ({"a": torch.ones(2)}, None, "programs are made of modules"),
        (np.ones(3), None, "this is python"),
        (nn.Linear(2, 2), None, None),
    ):
        words = {"inputs": inputs, "portable": "torch.export", "store": store}
        if match is None:
            assert "blob" in holdfast.save(model, "m", **words).record.portable
            continue
        with pytest.raises(Unsupported, match=match):
            holdfast.save(model, "m", **words)
    with pytest.raises(Unsupported, match="without a golden set"):
        holdfast.save(nn.Linear(2, 2), "m", golden=None, portable="torch.export", store=store)


def test_it_is_exported_whole(store, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    inputs = torch.randn(6, 3)
    kept(model, inputs, store)
    holdfast.save(model, "later", inputs=inputs, store=store)
    for name in ("m", "later"):  # the latter is made now
        path = holdfast.export(name, tmp_path / f"{name}.pt2", store=store)
        module = torch.export.load(path).module()
        assert torch.allclose(module(inputs), model(inputs))
    assert (tmp_path / "m.pt2").read_bytes() == (tmp_path / "later.pt2").read_bytes()
