"""Forged documents whose digests are all in order: whoever can write the store can make them.

Every digest, size and log entry is recomputed after the lie, so only the reader's judgement stands
between the lie and the user. Each must be refused by name, soon, and in little memory.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import holdfast
from holdfast.archive import layout, write
from holdfast.errors import BehaviourMismatch, Corrupt, EnvironmentMismatch, HoldfastError
from holdfast.record import Digest, TensorEntry, canonical, digest_of

CPU_SECONDS = 2
WAYS = {
    "load": lambda ref, store: holdfast.load(ref, verify="always", store=store),
    "load unverified": lambda ref, store: holdfast.load(ref, verify="never", store=store),
    "verify": lambda ref, store: holdfast.verify(ref, store=store),
}


def rows(count=6):
    return np.random.default_rng(0).normal(size=(count, 4))


def tiny_model(seed=0):
    data = np.random.default_rng(seed).normal(size=(30, 4))
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(data, data[:, 0] > 0)


@pytest.fixture(scope="module", name="honest")
def store_with_an_honest_version(tmp_path_factory):
    store = holdfast.Store.create(tmp_path_factory.mktemp("honest") / "store")
    holdfast.save(tiny_model(), "m", inputs=rows(), files={"a.txt": b"a"}, store=store)
    return store.path


@pytest.fixture(name="store")
def own_copy(honest, tmp_path):
    return holdfast.Store(shutil.copytree(honest, tmp_path / "store"))


@pytest.fixture(autouse=True)
def soon():
    """Fail a test that computes for long; the clock is the process's own."""

    def late(*_):
        raise AssertionError("it computes for too long")

    before = signal.signal(signal.SIGPROF, late)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def documents(store, ref="m@v1"):
    """Return the documents of a version as plain dictionaries, free to be changed."""
    version = holdfast.get(ref, store=store)
    ids = {"content": version.content_id, "record": version.record_id}
    ids["manifest"] = version.info.manifest
    return SimpleNamespace(**{k: json.loads(store.blobs.read(Digest(v))) for k, v in ids.items()})


def put(store, document):
    return write.write_document(
        store.blobs, document if isinstance(document, bytes) else canonical(document)
    )


def publish(store, docs, *, link=True):
    """Store documents, the ones that name others brought in line, and make them a version."""
    content = put(store, docs.content)
    if link and isinstance(docs.record, dict):
        docs.record["content"] = content
    record = put(store, docs.record)
    if link and isinstance(docs.manifest, dict):
        docs.manifest |= {"content": content, "record": record}
    manifest = put(store, docs.manifest)
    info = store.catalogue.add_version(
        "forged", record=record, content=content, manifest=manifest, by="eve"
    )
    return f"forged@v{info.number}"


def refused(store, docs, *, kind=Corrupt, ways=WAYS, link=True, limit=CPU_SECONDS):
    """Publish documents and return what each way of using them says; none may hand out a model."""
    ref = publish(store, docs, link=link)
    said = []
    for way in ways:
        signal.setitimer(signal.ITIMER_PROF, limit)
        with pytest.raises(kind) as caught:
            WAYS[way](ref, store)
        signal.setitimer(signal.ITIMER_PROF, 0)
        assert "\nTry: " in str(caught.value)
        assert len(str(caught.value)) < 1500
        said.append(caught.value.message)
    for look in (holdfast.inspect, lambda ref, store: holdfast.get(ref, store=store).tensors()):
        try:
            look(ref, store=store)
        except HoldfastError:
            continue
    return said


def with_header(store, docs):
    """Write the header that the content's tensors imply, and set the pieces' sizes to match."""
    plan = layout.plan([TensorEntry(**{**e, "shape": tuple(e["shape"])}) for e in docs.tensors])
    header = put(store, plan.header)
    digest = docs.manifest["pieces"][-1]["digest"]
    pieces = [{"digest": digest, "size": size} for size in plan.sizes]
    docs.manifest["pieces"] = [{"digest": header, "size": len(plan.header)}, *pieces]


def raw(document, old, new):
    """Return a document's bytes with a text that no encoder of ours would write."""
    data = canonical(document)
    assert data.count(old) == 1
    return data.replace(old, new)


def test_the_documents_unchanged_load(store):
    ref = publish(store, documents(store))
    for way in WAYS.values():
        way(ref, store)


# Tensors.


@pytest.mark.parametrize(
    "shape",
    [[2**53 - 1], [2**50, 2**50], [0, -1], [-4], [True], [2**52, 0, 2**52], [1] * 65],
    ids=str,
)
def test_impossible_shapes(store, shape):
    docs = documents(store)
    docs.content["tensors"][0]["shape"] = shape
    refused(store, docs)


@pytest.mark.parametrize("number", [b"1152921504606846976", b"1e999", b"NaN", b"4.0", b"-0", b"04"])
def test_numbers_in_spellings_that_readers_disagree_on(store, number):
    docs = documents(store)
    docs.content["tensors"][0]["shape"] = [777]
    docs.content = raw(docs.content, b"[777]", b"[" + number + b"]")
    refused(store, docs)


def test_a_huge_tensor_with_a_header_and_a_piece_size_to_match(store):
    docs = documents(store)
    entry = docs.content["tensors"][0]
    entry["shape"] = [2**40]
    docs.tensors = docs.content["tensors"]
    with_header(store, docs)
    said = refused(store, docs)
    assert all("bytes instead of" in words or "pieces are not" in words for words in said)


def test_tensors_that_claim_more_bytes_than_any_file_holds(store):
    docs = documents(store)
    for entry in docs.content["tensors"]:
        entry |= {"shape": [2**50, 2**10], "dtype": "F64"}
    assert "no file holds" in refused(store, docs)[0]


def test_two_tensors_of_one_name(store):
    docs = documents(store)
    docs.content["tensors"].insert(1, dict(docs.content["tensors"][0]))
    assert "each once" in refused(store, docs)[0]


@pytest.mark.parametrize("name", ["", "__metadata__", "a\nb", "a\0b", "\u202ew", "w" * 513])
def test_names_that_no_tensor_has(store, name):
    docs = documents(store)
    docs.content["tensors"] = [{**docs.content["tensors"][0], "name": name}]
    refused(store, docs)


def test_a_name_of_half_a_character(store):
    docs = documents(store)
    docs.content["tensors"] = [{**docs.content["tensors"][0], "name": "QQ"}]
    docs.content = raw(docs.content, b'"QQ"', b'"\\ud800"')
    refused(store, docs)


@pytest.mark.parametrize("dtype", ["F128", "", "object", "f64", "O", "I128"])
def test_unknown_dtypes(store, dtype):
    docs = documents(store)
    docs.content["tensors"][0]["dtype"] = dtype
    refused(store, docs)


@pytest.mark.slow
def test_more_tensors_than_the_limit(store):
    docs = documents(store)
    empty = digest_of(b"")
    docs.content["tensors"] = [
        {"digest": empty, "dtype": "U8", "name": f"{i:07d}", "shape": [0]} for i in range(200_001)
    ]
    docs.content["structure"] = {"nodes": [["none"]], "root": 0, "types": []}
    refused(store, docs, ways=["load"], limit=2 * CPU_SECONDS)  # its 20 MB are JSON to the end


def test_a_tensor_that_nothing_refers_to(store):
    docs = documents(store)
    docs.content["tensors"].append(
        {"digest": digest_of(b""), "dtype": "U8", "name": "zzz", "shape": [0]}
    )
    docs.tensors = docs.content["tensors"]
    with_header(store, docs)
    refused(store, docs)


def test_other_bytes_of_the_same_size(store):
    docs = documents(store)
    docs.content["tensors"][0]["digest"] = digest_of(b"others")
    assert "not the one the content names" in refused(store, docs, ways=["load", "verify"])[0]


# Files.

TRAVERSALS = [
    "../x", "/etc/x", "a/../../x", "a\\b", "..\\x", "C:x", ".", "..", "", "a//b", "./a", "a/",
    "a\0b", "a\nb", "\u202etxt.a", "~/x/..", "\uff0e\uff0e/x", "\u2024\u2024/x", "\uff0fetc",
    "e\u0301", "CON:", "a\u200bb",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSALS)
def test_file_names_that_lead_elsewhere_or_look_like_others(store, name):
    docs = documents(store)
    docs.content["files"][0]["name"] = name
    refused(store, docs)


@pytest.mark.parametrize(
    "twins",
    [("A.txt", "a.txt"), ("a", "a"), ("b", "a"), ("Strasse", "stra\u00dfe"), ("I", "\u2160")],
)
def test_files_that_are_one_on_some_file_systems(store, twins):
    docs = documents(store)
    docs.content["files"] = [{**docs.content["files"][0], "name": name} for name in twins]
    refused(store, docs)


@pytest.mark.parametrize("size", [0, 2, 2**53 - 1, -1])
def test_files_of_another_size(store, size):
    docs = documents(store)
    docs.content["files"][0]["size"] = size
    refused(store, docs)


@pytest.mark.parametrize(
    "digest", ["sha256:../../../store.json", "sha256:" + "A" * 64, "md5:" + "a" * 32, "a" * 64, ""]
)
@pytest.mark.parametrize("place", ["tensor", "file", "piece", "golden"])
def test_digests_that_are_none(store, digest, place):
    docs = documents(store)
    if place == "golden":
        docs.record["golden"]["blob"] = digest
    else:
        named = {"tensor": docs.content["tensors"], "file": docs.content["files"]}
        named.get(place, docs.manifest["pieces"])[0]["digest"] = digest
    refused(store, docs)


# Documents.


@pytest.mark.parametrize("document", ["content", "record", "manifest"])
@pytest.mark.parametrize(
    "format_", ["holdfast/0", "holdfast/2", "Holdfast/1", "holdfast/1 ", 1, None]
)
def test_other_formats(store, document, format_):
    docs = documents(store)
    getattr(docs, document)["format"] = format_
    assert "this release reads" in refused(store, docs)[0]


@pytest.mark.parametrize("document", ["content", "record", "manifest"])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_bombs(store, document, opening):
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    docs = documents(store)
    getattr(docs, document)["zz"] = 777
    bomb = opening * 100_000 + (b"[]" if opening == b"[" else b"1") + closing * 100_000
    if document != "manifest":
        docs.record["content"] = put(store, docs.content)
    setattr(docs, document, raw(getattr(docs, document), b'"zz":777', b'"zz":' + bomb))
    if isinstance(docs.content, bytes):
        docs.record["content"] = put(store, docs.content)
    refused(store, docs)


@pytest.mark.parametrize("document", ["content", "record", "manifest"])
@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'{"format":"holdfast/1"}', b"\xff"])
def test_documents_that_are_none(store, document, data):
    docs = documents(store)
    setattr(docs, document, data)
    refused(store, docs)


@pytest.mark.parametrize("document", ["content", "record", "manifest"])
def test_keys_that_are_there_twice(store, document):
    docs = documents(store)
    docs_bytes = canonical(getattr(docs, document))
    setattr(docs, document, docs_bytes[:-1] + b',"format":"holdfast/1"}')
    refused(store, docs)


@pytest.mark.parametrize("type_", ["os.system", "builtins.eval", "posix.system", "sklearn.\u0430"])
def test_unknown_types(store, type_):
    docs = documents(store)
    docs.content["structure"]["types"][0] = type_
    del docs.record["portable"]
    refused(store, docs, kind=EnvironmentMismatch, ways=["load", "load unverified"])


def test_an_unknown_type_beside_a_portable_form_is_not_built(store):
    docs = documents(store)
    docs.content["structure"]["types"][0] = "os.system"
    ref = publish(store, docs)
    assert type(holdfast.load(ref, store=store)).__name__ == "PortableModel"
    with pytest.raises(EnvironmentMismatch):
        holdfast.load(ref, store=store, environment="here")


def test_a_file_cannot_bring_its_own_permission(store):
    docs = documents(store)
    docs.content["structure"]["types"][0] = "os.system"
    del docs.record["portable"]
    for document in (docs.content, docs.record, docs.manifest):
        document |= {"allow": ["os.system"], "trusted": True, "trusted_types": ["os.system"]}
    refused(store, docs, kind=EnvironmentMismatch, ways=["load", "load unverified"])


def test_unknown_fields_are_kept_and_mean_nothing(store):
    docs = documents(store)
    permission = {"allow": ["os.system"], "verify": "never", "replay": False}
    for document in (docs.content, docs.record, docs.manifest):
        document.update(permission)
    version = holdfast.get(publish(store, docs), store=store)
    assert version.record.extra == permission
    assert version.content.extra == permission
    assert version.load_proven(verify="always", replay="always").proof == "replayed"
    docs.record["golden"]["blob"] = put(store, b"x")
    refused(store, docs)


@pytest.mark.parametrize(
    "change",
    [
        {"root": 10**6},
        {"root": -1},
        {"nodes": []},
        {"nodes": [["object", 0, {}]]},
        {"nodes": [["list", [5]]]},
        {"nodes": [["exec", "import os"]]},
        {"nodes": [["array", "missing", "<f8"]]},
        {"types": ["a", "a"]},
    ],
    ids=str,
)
def test_structures_that_contradict_themselves(store, change):
    docs = documents(store)
    docs.content["structure"] |= change
    refused(store, docs, kind=(Corrupt, EnvironmentMismatch))


def test_an_unknown_framework(store):
    docs = documents(store)
    docs.content["framework"] = "../../evil"
    del docs.record["portable"]
    refused(store, docs, kind=EnvironmentMismatch, ways=["load", "load unverified"])


# Manifests.


def test_the_record_of_another_version(store):
    holdfast.save(tiny_model(1), "other", inputs=rows(), store=store)
    docs, other = documents(store), documents(store, "other@v1")
    docs.manifest["record"] = put(store, other.record)
    docs.record = other.record
    assert "another content" in refused(store, docs, link=False)[0]


@pytest.mark.parametrize("lie", ["missing", "none", "reversed", "twice", "longer", "absent"])
def test_other_pieces(store, lie):
    docs = documents(store)
    header, tensors = docs.manifest["pieces"]
    docs.manifest["pieces"] = {
        "missing": [header],
        "none": [],
        "reversed": [tensors, header],
        "twice": [header, tensors, tensors],
        "longer": [header, {**tensors, "size": tensors["size"] + 1}],
        "absent": [header, {**tensors, "digest": digest_of(b"never stored")}],
    }[lie]
    refused(store, docs)


def test_pieces_of_another_version(store):
    holdfast.save(tiny_model(1), "other", inputs=rows(), store=store)
    docs, other = documents(store), documents(store, "other@v1")
    assert docs.manifest["pieces"][0] == other.manifest["pieces"][0]
    docs.manifest["pieces"] = other.manifest["pieces"]
    said = refused(store, docs, ways=["load", "verify"])
    assert all("not the one the content names" in words for words in said)


def test_pieces_of_another_version_that_were_hashed_before(store, monkeypatch):
    holdfast.save(tiny_model(1), "other", inputs=rows(), store=store)
    docs, other = documents(store), documents(store, "other@v1")
    settle(monkeypatch)
    for ref in ("m@v1", "other@v1"):
        first, second = (holdfast.get(ref, store=store).load_proven() for _ in range(2))
        assert second.stamped
    docs.manifest["pieces"] = other.manifest["pieces"]
    with pytest.raises(Corrupt, match="not the one the content names"):
        holdfast.load(publish(store, docs), store=store)


def settle(monkeypatch):
    """Let stamps be given on this file system and at once, as they are after two seconds."""
    from holdfast.store import reading as readings

    monkeypatch.setattr(readings, "trustworthy", lambda _: True)
    monkeypatch.setattr(readings, "_SETTLED_NS", -(10**18))


# Golden sets.


@pytest.mark.parametrize("bound", [b"1e999", b"NaN", b"Infinity", b"1e308", b"2", b"-1", b'"0"'])
def test_tolerances_that_tolerate_anything(store, bound):
    docs = documents(store)
    docs.record["golden"]["tolerance"]["F64"] = [777, 0]
    docs.content_id = put(store, docs.content)
    docs.record["content"] = docs.content_id
    docs.record = raw(docs.record, b"[777,0]", b"[" + bound + b",0]")
    refused(store, docs)


def test_a_tolerance_for_classes_does_not_loosen_them(store):
    docs = documents(store)
    model = tiny_model(7)
    ref = holdfast.save(model, "other", inputs=rows(), store=store).ref
    docs.record["golden"]["tolerance"] |= {"I64": [1, 1], "BOOL": [1, 1], "U8": [1, 1]}
    other = documents(store, ref)
    other.record["golden"] = docs.record["golden"]
    refused(store, other, kind=BehaviourMismatch, ways=["load", "verify"])


@pytest.mark.parametrize(
    "change",
    [
        {"parts": {}},
        {"level": "certified"},
        {"rows": 0},
        {"rows": -5},
        {"rows": 5},
        {"rows": None},
        {"rows": 2**53 - 1},
        {"rows": 2**40},
        {"rows": True},
        {"blob": None},
        {"tolerance": {"F64": [0]}},
    ],
    ids=str,
)
def test_golden_sets_that_contradict_themselves(store, change):
    docs = documents(store)
    docs.record["golden"] |= change
    refused(store, docs)


@pytest.mark.parametrize("part", ["inputs", "probe", "full"])
@pytest.mark.parametrize("lie", ["absent", "renamed", "huge", "other name", "no tensors", "types"])
def test_golden_parts_that_are_not_what_was_recorded(store, part, lie):
    docs = documents(store)
    parts = docs.record["golden"]["parts"]
    if lie == "absent":
        del parts[part]
    elif lie == "renamed":
        parts["extra"] = parts.pop(part)
    elif lie == "huge":
        parts[part]["tensors"][0]["shape"] = [2**50]
    elif lie == "other name":
        parts[part]["tensors"][0]["name"] = "content/x"
    elif lie == "no tensors":
        parts[part]["tensors"] = []
    else:
        parts[part]["structure"]["types"] = ["os.system"]
    ways = list(WAYS)[:2] if lie == "types" else WAYS  # verify tells of unknown types: unproved
    refused(store, docs, kind=(Corrupt, EnvironmentMismatch, BehaviourMismatch), ways=ways)


@pytest.mark.parametrize("method", ["fit", "set_params", "__reduce__", "__class__", "steps", ""])
def test_only_output_methods_are_called(store, method):
    docs = documents(store)
    docs.record["golden"]["method"] = method
    version = holdfast.get(publish(store, docs), store=store)
    with pytest.raises(BehaviourMismatch, match="no output method"):
        version.load_proven(replay="always", environment="here")


# Memory.

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))
import holdfast
from holdfast.errors import HoldfastError
try:
    holdfast.load(sys.argv[1], store=sys.argv[2], verify="always")
except HoldfastError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("lie", ["huge tensor", "huge golden set", "rows", "depth bomb"])
def test_little_memory_is_enough_to_refuse(store, lie):
    docs = documents(store)
    if lie == "huge tensor":
        docs.content["tensors"][0]["shape"] = [2**40]
        docs.tensors = docs.content["tensors"]
        with_header(store, docs)
    elif lie == "huge golden set":
        docs.record["golden"]["parts"]["inputs"]["tensors"][0]["shape"] = [2**50]
    elif lie == "rows":
        docs.record["golden"]["rows"] = 2**40
    else:
        docs.content = b"[" * 10_000_000 + b"]" * 10_000_000
    ref = publish(store, docs)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, ref, str(store.path)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "Corrupt"), done.stderr[-2000:]
