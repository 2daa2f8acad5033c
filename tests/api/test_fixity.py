"""A run over a whole store: in which order, once a blob, going on, and whatever models do."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

import holdfast
from holdfast.api import fixity
from holdfast.api.fixity import verify_all
from holdfast.api.replaying import Replayer
from holdfast.archive import blobs
from holdfast.errors import Corrupt, UsageError

X, Y = load_iris(return_X_y=True)


@pytest.fixture(name="store")
def empty_store(tmp_path):
    return holdfast.Store.create(tmp_path / "store")


def tree(depth=2):
    return DecisionTreeClassifier(max_depth=depth, random_state=0).fit(X, Y)


def arrays(store, count, name="net"):
    return [holdfast.save({"a": np.arange(5) + n}, name, store=store) for n in range(count)]


def check_files(store):
    return sorted(store.path.glob("checks/*/*.json"))


def the_check(version):
    (found,) = version.store.checks.of(version.record_id).checks.values()
    return found


def outcomes(run):
    return {each.ref: each.proof for each in run.verified}


def test_each_version_is_proven_and_its_result_kept(store):
    model = holdfast.save(tree(), "tree", inputs=X, store=store)
    plain = holdfast.save({"a": np.arange(3)}, "plain", store=store)
    run = store.verify()
    assert outcomes(run) == {"tree@v1": "replayed", "plain@v1": "state only"}
    assert (run.earlier, run.versions, run.unrecorded) == (0, 2, "")
    check = the_check(model)
    assert (check.outcome, check.rung) == ("replayed", "native")
    assert check.environment["packages"] == model.record.environment["packages"]
    assert check.environment["python"] == "{}.{}.{}".format(*sys.version_info)
    assert check.size > sum(piece.size for piece in model.manifest.pieces)
    assert the_check(plain).outcome == "state only"


def test_verifying_one_version_keeps_its_result_too(store, damage):
    version = holdfast.save(tree(), "tree", inputs=X, store=store)
    assert check_files(store) == []
    assert holdfast.verify("tree", store=store).proof == "replayed"
    assert the_check(version).outcome == "replayed"
    damage(version)
    with pytest.raises(Corrupt):
        holdfast.verify("tree", store=store)
    assert the_check(version).outcome == "damaged"


@pytest.mark.slow
def test_only_hashing_takes_no_replay_away(store):
    version = holdfast.save(tree(), "tree", inputs=X, store=store)
    store.verify(replay=False)
    assert the_check(version).outcome == "unproved"
    store.verify()
    proven = the_check(version)
    store.verify(replay=False)
    again = the_check(version)
    assert again.outcome == "replayed"
    assert again.at == proven.at
    assert again.hashed > proven.hashed


def test_what_is_bad_is_a_result_and_does_not_end_the_run(store, monkeypatch, damage):
    bad, good = arrays(store, 2)
    damage(bad)
    refused = holdfast.save(tree(), "tree", inputs=X, store=store)
    forge_answers(refused)
    log = next((store.path / "log" / "net").iterdir()).parent.with_name("torn")
    shutil.copytree(store.path / "log" / "net", log)
    run = store.verify()
    assert outcomes(run) == {
        "torn": "damaged", bad.ref: "damaged", good.ref: "state only", "tree@v2": "refused",
        "tree@v1": "replayed",
    }  # fmt: skip
    (words,) = (each.detail for each in run.verified if each.ref == "tree@v2")
    assert "golden rows differ" in words


def forge_answers(version):
    """Save the version again under a golden set of another model, as a new version."""
    from holdfast.archive import write
    from holdfast.record import Manifest, Record

    other = holdfast.save(tree(1), "other", inputs=X, golden="inputs", store=version.store)
    golden = other.record.golden
    store = version.store
    said = {**json.loads(version.record.encode()), "golden": golden}
    record = write.write_document(
        store.blobs, Record.decode(holdfast.record.canonical(said)).encode()
    )
    manifest = Manifest(content=version.content_id, record=record, pieces=version.manifest.pieces)
    store.catalogue.add_version(
        version.name,
        record=record,
        content=version.content_id,
        manifest=write.write_document(store.blobs, manifest.encode()),
        by="eve",
    )
    holdfast.api.history.forget(["other@v1"], store=store)


def test_a_shared_blob_is_hashed_once(store, monkeypatch):
    big = np.random.default_rng(0).normal(size=(600, 600))
    for number in range(4):
        holdfast.save({"big": big, "small": np.arange(3) + number}, "net", store=store)
    hashed = []
    digest_of = blobs.digest_of

    def counting(view):
        hashed.append(len(view))
        return digest_of(view)

    monkeypatch.setattr(blobs, "digest_of", counting)
    run = store.verify()
    assert len(run.verified) == 4
    assert hashed.count(big.nbytes) == 1
    hashed.clear()
    holdfast.verify("net", store=store)
    assert hashed.count(big.nbytes) == 1  # for each run anew, whatever was hashed before


def test_the_longest_unchecked_come_first_and_samples_go_round(store):
    arrays(store, 5)
    holdfast.verify("net@v1", store=store)
    seen = [each.ref for _ in range(3) for each in store.verify(sample=2).verified]
    assert seen == ["net@v2", "net@v3", "net@v4", "net@v5", "net@v1", "net@v2"]
    assert [each.ref for each in store.verify(sample="30%").verified] == ["net@v3", "net@v4"]
    assert len(store.verify(sample="100%").verified) == 5


@pytest.mark.parametrize("sample", ["", "0", "-1", "0%", "101%", "ten", "nan%", 0, "1.5", "inf%"])
def test_a_sample_is_a_number_or_a_part(store, sample):
    arrays(store, 1)
    with pytest.raises(UsageError, match="A sample is"):
        store.verify(sample=sample)


def test_an_interrupted_run_is_gone_on_with(store):
    arrays(store, 4)

    def interrupt(found, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_all(store, told=interrupt)
    rest = store.verify()
    assert (len(rest.verified), rest.earlier, rest.versions) == (2, 2, 4)
    assert len(store.verify().verified) == 4  # that one had ended


def test_hashing_alone_is_not_taken_for_a_replay(store):
    holdfast.save(tree(), "tree", inputs=X, store=store)
    arrays(store, 1)

    def interrupt(found, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_all(store, replay=False, told=interrupt)
    assert outcomes(store.verify())["tree@v1"] == "replayed"


def test_an_old_interruption_is_forgotten(store, tmp_path, monkeypatch):
    arrays(store, 2)
    store.verify()
    monkeypatch.setattr(fixity._Started, "end", lambda self: None)
    store.verify()
    mark = fixity._Started(store)._file
    assert store.verify().earlier == 2
    for text in ("2020-01-01T00:00:00.000000Z", "nonsense", "2999-01-01T00:00:00.000000Z", ""):
        mark.write_text(text)
        assert store.verify().earlier == 0


RUN = """
import sys, holdfast
holdfast.Store(sys.argv[1]).verify()
"""


# It stands still once the first result is kept, so that it is always killed in the middle.
STANDS_STILL = """
import sys, time, holdfast
from holdfast.archive.checks import Checks
whole = Checks.add
def add(*words):
    whole(*words)
    print(flush=True)
    time.sleep(600)
Checks.add = add
holdfast.Store(sys.argv[1]).verify()
"""


def test_a_killed_run_leaves_no_process_and_is_gone_on_with(store):
    for _ in range(3):
        holdfast.save(tree(), "tree", inputs=X, store=store)
    words = [sys.executable, "-c", STANDS_STILL, str(store.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"\n"
        children = children_of(run.pid)
        assert children
        run.kill()
    until = time.monotonic() + 120
    while any(map(is_alive, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(is_alive, children))
    assert len(check_files(store)) == 1
    assert not list((store.path / "tmp").glob("*.json"))
    rest = store.verify()
    assert (rest.earlier, len(rest.verified)) == (1, 2)


def children_of(pid):
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def crashing(tmp_path, monkeypatch, body):
    """Have every scikit-learn model do something as it is replayed, in the process for it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, time\n"
        "def act():\n"
        f"    {body}\n"
        "import holdfast.frameworks.sklearn as adapter\n"
        "whole = adapter.predict\n"
        "def predict(model, method, inputs):\n"
        "    if getattr(model, 'max_depth', None) == 3:\n"
        "        act()\n"
        "    return whole(model, method, inputs)\n"
        "adapter.predict = predict\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.write(1, b'noise'); print('noise'); os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        slow("raise RuntimeError('odd')", "odd"),
        slow("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        slow("os.kill(os.getpid(), signal.SIGKILL)", "out of memory"),
        slow("os._exit(7)", "ended with status 7"),
        slow("time.sleep(600)", "not replayed within"),
    ],
)
def test_a_model_that_ends_the_process_ends_no_more(store, tmp_path, monkeypatch, body, words):
    for depth in (2, 3, 4):
        holdfast.save(tree(depth), "tree", inputs=X, store=store)
    crashing(tmp_path, monkeypatch, body)
    if "sleep" in body:
        monkeypatch.setattr(Replayer.__init__, "__defaults__", (15.0,))
    run = store.verify()
    found = {each.ref: each for each in run.verified}
    assert found["tree@v2"].proof in ("failed", "refused")
    assert words in found["tree@v2"].detail
    assert found["tree@v1"].proof == found["tree@v3"].proof == "replayed"


def test_a_framework_that_is_not_here_leaves_the_bytes_proven(store, tmp_path, monkeypatch):
    version = holdfast.save(tree(), "tree", inputs=X, portable=None, store=store)
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['sklearn'] = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    (found,) = store.verify().verified
    assert (found.proof, found.blobs) == ("unproved", 6)
    assert the_check(version).outcome == "unproved"


def test_a_store_that_cannot_be_written_is_verified_all_the_same(store, monkeypatch):
    arrays(store, 1)
    (store.path / "checks").write_text("in the way")
    run = store.verify()
    assert outcomes(run) == {"net@v1": "state only"}
    assert "recording a check" in run.unrecorded
    assert "recording a check" in holdfast.verify("net", store=store).unrecorded


def test_a_version_forgotten_meanwhile_is_no_finding(store):
    first, second = arrays(store, 2)

    def forget(found, done, total):
        if found.ref == first.ref:
            holdfast.api.history.forget([second.ref], store=store)
            shutil.rmtree(store.path / "blobs")

    run = verify_all(store, told=forget)
    assert outcomes(run) == {first.ref: "state only"}


@pytest.mark.parametrize(
    "pool",
    [
        lambda: ThreadPoolExecutor(2),
        lambda: ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")),
    ],
    ids=["threads", "processes"],
)
def test_an_executor_finds_the_same(store, damage, pool, monkeypatch):
    versions = arrays(store, 4)
    damage(versions[1])
    monkeypatch.setattr("holdfast.api.fixity._TASK", 1)
    with pool() as executor:
        run = store.verify(executor=executor)
    found = [outcomes(run)[version.ref] for version in versions]
    assert found == ["state only", "damaged", "state only", "state only"]
    assert [the_check(version).outcome for version in versions] == found
    assert (run.earlier, run.versions, run.unrecorded) == (0, 4, "")


def test_two_runs_at_once_do_no_harm(store):
    versions = arrays(store, 12)
    runs = [subprocess.Popen([sys.executable, "-c", RUN, str(store.path)]) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert [the_check(version).outcome for version in versions] == ["state only"] * 12


def test_prune_takes_checks_of_what_is_gone(store):
    first, second = arrays(store, 2)
    store.verify()
    holdfast.api.history.forget([first.ref], store=store)
    from holdfast.api.housekeeping import prune

    assert prune(dry_run=True, store=store).checks == 1
    assert len(check_files(store)) == 2
    assert prune(store=store).checks == 1
    assert the_check(second).record == second.record_id
    assert len(check_files(store)) == 1
    assert prune(store=store).checks == 0
