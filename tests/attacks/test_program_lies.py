"""Forged programs of modules: refused by name, and what is beside them still loads."""

import io
import json
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

import holdfast  # noqa: E402
from holdfast.archive import write  # noqa: E402
from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, UsageError  # noqa: E402
from holdfast.frameworks.torch.forms import ProgramForm  # noqa: E402
from holdfast.record import digest_of  # noqa: E402

GRAPH = "archive/models/model.json"


@pytest.fixture(scope="module", name="honest")
def an_honest_version(tmp_path_factory):
    torch.manual_seed(0)
    store = holdfast.Store.create(tmp_path_factory.mktemp("lies") / "store")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    return holdfast.save(model, "m", inputs=torch.randn(9, 3), portable="torch.export", store=store)


def with_archive(forged, version, change, name=GRAPH):
    """Publish a version of which one member of the program is another."""
    old = zipfile.ZipFile(io.BytesIO(version.store.blobs.read(version.record.portable["blob"])))
    made = io.BytesIO()
    with old, zipfile.ZipFile(made, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            new.writestr(
                zipfile.ZipInfo(item.filename),
                change(content) if item.filename == name else content,
            )
    data = made.getvalue()
    digest = write.write_document(version.store.blobs, data)
    return forged(version, lambda form: form.update(blob=digest, size=len(data)))


def in_graph(change):
    def changed(content):
        graph = json.loads(content)
        change(graph)
        return json.dumps(graph, separators=(",", ":")).encode()

    return changed


def refused(version, kind, match):
    with pytest.raises(kind, match=match) as raised:
        version.load(environment="portable")
    assert raised.value.hint
    assert version.load_proven(environment="here").rung == "native"


FIELDS = {
    "another format": (lambda f: f.update(format="torch.jit"), "does not run 'torch.jit'"),
    "no inputs": (lambda f: f.update(inputs=[]), "no inputs"),
    "an input more": (lambda f: f.update(inputs=f["inputs"] * 2), "has 1 inputs, and the record"),
    "an unknown dtype": (lambda f: f["inputs"][0].update(dtype="Tensor"), "contradict"),
    "an unknown size": (lambda f: f["inputs"][0].update(shape=["rows", "other"]), "contradict"),
    "no rows": (lambda f: f["inputs"][0].update(shape=[9, 3]), "contradict"),
    "a size below zero": (lambda f: f["sizes"].update(rows=[-1, None]), "contradict"),
    "sizes upside down": (lambda f: f["sizes"].update(rows=[5, 2]), "contradict"),
    "a number as a name": (lambda f: f["inputs"][0].update(name=7), "damaged"),
    "another size in bytes": (lambda f: f.update(size=7), "bytes, not 7"),
    "no digest": (lambda f: f.update(blob="../../etc/passwd"), "not a digest"),
    "a digest of nothing": (lambda f: f.update(blob=digest_of(b"not here")), "portable form"),
    "an error that is none": (lambda f: f.update(absolute=-1.0), "its error"),
    "a tensor that is not": (
        lambda f: f["weights"].update({"data/weights/weight_0": "secret"}),
        "needs the tensor 'secret'",
    ),
    "a member that runs": (
        lambda f: f["weights"].update({"data/sample_inputs/model.pt": "0.weight"}),
        "no members",
    ),
    "a member that climbs": (
        lambda f: f["weights"].update({"data/weights/../x_0": "0.weight"}),
        "no members",
    ),
}


@pytest.mark.parametrize("lie", FIELDS)
def test_a_field_that_cannot_be_is_refused(lie, honest, forged):
    change, match = FIELDS[lie]
    refused(forged(honest, change), Corrupt, match)


def test_weights_that_are_others_are_refused(honest, forged):
    """Of another size torch refuses them; of the same the golden rows tell."""
    short = forged(honest, lambda f: f["weights"].update({"data/weights/weight_0": "2.bias"}))
    refused(short, HoldfastError, "torch|golden rows")
    first, second = (
        next(key for key, name in honest.record.portable["weights"].items() if name == wanted)
        for wanted in ("0.weight", "2.weight")
    )
    swapped = forged(honest, lambda f: f["weights"].update({first: "2.weight", second: "0.weight"}))
    refused(swapped, HoldfastError, "golden rows otherwise")
    refused(forged(honest, lambda f: f.update(weights={})), UsageError, "does not read")


def test_what_torch_would_run_is_refused_before_it_reads(honest, tmp_path, monkeypatch, forged):
    monkeypatch.chdir(tmp_path)
    canary = "__import__('pathlib').Path('canary').touch()"
    nodes = ("graph_module", "graph", "nodes")

    def target(graph):
        graph[nodes[0]][nodes[1]][nodes[2]][0]["target"] = "torch.ops.aten.from_file.default"

    def guard(graph):
        graph["guards_code"] = [canary]

    refused(with_archive(forged, honest, in_graph(target)), UnsafeContent, "the operator")
    refused(with_archive(forged, honest, in_graph(guard)), Corrupt, "never does")
    config = "archive/data/weights/model_weights_config.json"

    def pickled(content):
        return content.replace(b'"use_pickle": false', b'"use_pickle": true')

    refused(with_archive(forged, honest, pickled, config), UnsafeContent, "pickle")
    sample = "archive/data/sample_inputs/model.pt"
    refused(
        with_archive(forged, honest, lambda _: b"cos\nsystem\n.", sample), Corrupt, "never does"
    )
    assert not list(tmp_path.iterdir())


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_an_archive_with_a_byte_changed_is_refused_or_answers(honest, forged, data):
    archive = bytearray(honest.store.blobs.read(honest.record.portable["blob"]))
    place = data.draw(st.integers(0, len(archive) - 1))
    archive[place] ^= data.draw(st.integers(1, 255))
    digest = write.write_document(honest.store.blobs, bytes(archive))
    version = forged(honest, lambda form: form.update(blob=digest))
    try:
        found = version.load_proven(environment="portable")
    except HoldfastError:
        return
    assert found.proof == "replayed"


_JSON = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.just(1))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_document_parses_or_is_corrupt(honest, data):
    form = dict(honest.record.portable)
    for key in data.draw(st.lists(st.sampled_from(sorted(form)), min_size=1, max_size=3)):
        form[key] = data.draw(_JSON)
    try:
        parsed = ProgramForm.parse(form)
    except Corrupt:
        return
    assert parsed.document().keys() <= form.keys()
