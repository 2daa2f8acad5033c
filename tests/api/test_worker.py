"""A model in a worker answers as it does here, and a hostile worker is refused.

The worker's environment is this one, so that nothing needs the network; ``tests/museum`` has those
of other times.
"""

import json
import pickle
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import holdfast
from holdfast.api import ladder, load, worker
from holdfast.api.predictor import Predictor
from holdfast.cli.main import main
from holdfast.environment import capture, recreate
from holdfast.environment.child import Start
from holdfast.errors import (
    BehaviourMismatch,
    Corrupt,
    EnvironmentMismatch,
    HoldfastError,
    Unsupported,
    UsageError,
)

OPTIONS = load.options(None, "auto", None)
RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(60, 3))
SIGN = np.where(ROWS[:, 0] > 0, "yes", "no")
TABLE = pd.DataFrame(
    {
        "age": RNG.integers(20, 60, 60),
        "town": RNG.choice(["Oslo", "Lima", None], 60),
        "kind": pd.Categorical(RNG.choice(["a", "b"], 60)),
    }
)
TEXTS = [" ".join(RNG.choice(["sea", "weed", "rock", "grip"], 6)) for _ in range(60)]


@pytest.fixture(name="store")
def make_store(tmp_path):
    return holdfast.Store.create(tmp_path / "store")


@pytest.fixture(name="work")
def make_work():
    """Return what starts a worker for a version, in this environment."""
    running = []

    def start(version, module="holdfast.api.worker_inside", beside=None, **given):
        begin = Start(
            python=Path(sys.executable),
            beside=beside,
            module=module,
            sees=(version.store.path.resolve(),),
            confine=given.pop("confine", True),
            memory=given.pop("memory", None),
        )
        asked = {"verify": "auto", "replay": "auto", **given}
        model, said = worker.started(version, begin, OPTIONS, **asked)
        running.append(model)
        return model, said

    yield start
    for model in running:
        model.close()


def table_model():
    columns = make_column_transformer(
        (StandardScaler(), ["age"]), (OneHotEncoder(handle_unknown="ignore"), ["town", "kind"])
    )
    return make_pipeline(columns, LogisticRegression())


MODELS = {
    "array": (lambda: RandomForestClassifier(5, random_state=0).fit(ROWS, SIGN), ROWS),
    "table": (lambda: table_model().fit(TABLE, SIGN), TABLE),
    "texts": (
        lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, SIGN),
        TEXTS,
    ),
    "sparse": (lambda: LogisticRegression().fit(ROWS, SIGN), sparse.csr_matrix(ROWS)),
    "transformer": (lambda: TfidfVectorizer().fit(TEXTS), TEXTS),
}


def same(one, two):
    if sparse.issparse(one):
        return type(one) is type(two) and (one != two).nnz == 0
    return one.dtype == two.dtype and one.tobytes() == two.tobytes()


@pytest.mark.parametrize("confine", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kind",
    [
        "table",
        "sparse",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("array", "texts", "transformer")),
    ],
)
def test_it_answers_bit_for_bit_as_here(store, work, kind, confine):
    make, inputs = MODELS[kind]
    live = make()
    version = holdfast.save(live, "m", inputs=inputs, store=store)
    model, said = work(version, confine=confine)
    assert said["proof"] == "replayed"
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        assert (method in model.methods) == hasattr(live, method)
        if hasattr(live, method):
            want, have = getattr(live, method)(inputs), getattr(model, method)(inputs)
            assert same(want, have) if want.dtype != object else list(want) == list(have)
    if hasattr(live, "classes_"):
        assert list(model.classes_) == list(live.classes_)
    with pytest.raises(AttributeError, match="no 'coef_'"):
        _ = model.coef_
    with pytest.raises(TypeError, match="is not called"):
        model(inputs)
    assert "worker" in repr(model)
    model.close()
    model.close()
    assert repr(model).endswith("ended)>")


def test_a_module_is_called(store, work):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    rows = torch.tensor(ROWS, dtype=torch.float32)
    model, _ = work(holdfast.save(net, "net", inputs=rows, store=store))
    assert model.methods == ("forward",)
    assert torch.equal(model(rows), net(rows))


def test_arguments_beside_the_rows_and_several_answers(store, work):
    live = GaussianProcessRegressor().fit(ROWS, ROWS[:, 0])
    version = holdfast.save(live, "gp", inputs=ROWS, store=store)
    model, _ = work(version)
    for want, have in zip(
        live.predict(ROWS, return_std=True), model.predict(ROWS, return_std=True), strict=True
    ):
        assert same(want, have)
    assert model.score(ROWS, ROWS[:, 0]) == live.score(ROWS, ROWS[:, 0])


def test_what_the_model_raises_is_told_and_ends_nothing(store, work):
    version = holdfast.save(Ridge().fit(ROWS, ROWS[:, 0]), "m", inputs=ROWS, store=store)
    model, _ = work(version)
    with pytest.raises(UsageError, match=r"ValueError: X has 2 features"):
        model.predict(ROWS[:, :2])
    with pytest.raises(Unsupported, match="inputs"):
        model.predict(lambda rows: rows)
    assert len(model.predict(ROWS)) == 60


def test_a_predictor_checks_and_reorders_before_it_asks(store, work):
    live = table_model().fit(TABLE, SIGN)
    version = holdfast.save(live, "m", inputs=TABLE, threshold=0.7, store=store)
    model, _ = work(version)
    predictor = Predictor(model, version.content, version.ref)
    here = Predictor(version.load(environment="here"), version.content, version.ref)
    turned = TABLE[TABLE.columns[::-1]]
    assert list(predictor.predict(turned)) == list(here.predict(turned))
    assert same(predictor.predict_proba(turned), live.predict_proba(TABLE))
    with pytest.raises(HoldfastError):
        predictor.predict(TABLE[["age"]])
    with pytest.raises(Unsupported, match="no transform"):
        predictor.transform(TABLE)


def test_it_cannot_be_pickled(store, work):
    version = holdfast.save(Ridge().fit(ROWS, ROWS[:, 0]), "m", inputs=ROWS, store=store)
    model, _ = work(version)
    with pytest.raises(TypeError, match="load 'm@v1' where it goes"):
        pickle.dumps(model)
    with model:
        assert "predict" in dir(model)
    with pytest.raises(EnvironmentMismatch, match="has ended") as raised:
        model.predict(ROWS)
    assert 'environment="recorded"' in raised.value.hint


def test_libraries_that_fail_in_the_worker_are_an_environment_that_does_not_fit(
    store, work, tmp_path
):
    (tmp_path / "broken.py").write_text(
        "import holdfast.api.worker_inside as real\n"
        "def fail(*_, **__):\n    raise ImportError('numpy.core.multiarray failed to import')\n"
        "real.load.load_model = fail\nserve = real.serve\n",
        "utf-8",
    )
    version = holdfast.save(Ridge().fit(ROWS, ROWS[:, 0]), "m", inputs=ROWS, store=store)
    with pytest.raises(EnvironmentMismatch, match="multiarray failed to import"):
        work(version, module="broken", beside=tmp_path)


def test_damage_is_found_in_the_worker(store, work):
    version = holdfast.save(Ridge().fit(ROWS, ROWS[:, 0]), "m", inputs=ROWS, store=store)
    piece = store.path / "blobs" / "sha256" / version.manifest.pieces[-1].digest[7:]
    piece.chmod(0o644)
    data = bytearray(piece.read_bytes())
    data[-1] ^= 1
    piece.write_bytes(data)
    with pytest.raises(Corrupt, match="recorded environment"):
        work(version)


def described(node, *tensors, types=()):
    structure = {"types": types, "nodes": [node]}
    return json.dumps({"structure": structure, "tensors": tensors})


ARRAY = ["array", "a", {}]
# What is said of a value, the bytes that come with it (None: no run of bytes), what is told.
HOSTILE = {
    "lying size": (described(ARRAY, ["a", "F64", [9]]), 8, "not the bytes"),
    "negative": (described(ARRAY, ["a", "F64", [-1]]), 8, "impossibly"),
    "huge": (described(ARRAY, ["a", "U8", [2**62, 2**62]]), 8, "not the bytes"),
    "unknown dtype": (described(ARRAY, ["a", "X", [8]]), 8, "impossibly"),
    "twice": (described(ARRAY, ["a", "U8", [8]], ["a", "U8", [8]]), 8, "1 came"),
    "no tensors": (described(["none"]), 8, "came"),
    "unknown type": (described(["object", 0, {}], types=["os.system"]), None, "does not know"),
    "unregistered": (described(["object", 0, {}], types=["user.x.Gift"]), None, "class of the"),
    "forest": (described(["object", 0, {}], types=["sklearn.Trees"]), None, "lacks the field"),
    "unknown kind": (described(["exec", "1"]), None, "unknown kind"),
    "cycle": (described(["tuple", [0]]), None, "cycle"),
    "no node": ('{"structure": {"nodes": []}, "tensors": []}', None, "limits"),
    "no value": ("null", None, "damaged"),
    "text": ('"rows"', None, "damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_answer_is_judged_like_a_strangers_file(store, work, tmp_path, case):
    value, run, told = HOSTILE[case]
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "hostile.py").write_text(
        textwrap.dedent(f"""
            import struct
            from holdfast.environment import messages
            NOTHING = '{{"structure": {{"nodes": [["dict", []]]}}, "tensors": []}}'
            def serve(asked, told):
                for value in (NOTHING, {value!r}):
                    header, _ = messages.read(asked)
                    runs = [] if value == NOTHING or {run!r} is None else [bytes({run or 0})]
                    sizes = [len(run) for run in runs]
                    text = ('{{"id": %d, "sizes": %s, "value": %s, "methods": ["predict", '
                            '"__class__", "_call", "a b", 7], "own": ["predict"], '
                            '"proof": "perfect"}}' % (header["id"], sizes, value)).encode()
                    told.write(struct.pack("<I", len(text)) + text)
                    for run in runs:
                        told.write(run)
                messages.read(asked)
        """),
        "utf-8",
    )
    version = holdfast.save(Ridge().fit(ROWS, ROWS[:, 0]), "m", inputs=ROWS, store=store)
    model, said = work(version, module="hostile", beside=tmp_path / "code")
    assert model.methods == ("predict",)
    assert said["proof"] == "perfect"
    with pytest.raises(EnvironmentMismatch, match=re.escape(told)):
        model.predict(ROWS)
    assert repr(model).endswith("ended)>")


def pretended(monkeypatch, **packages):
    real = capture.capture
    monkeypatch.setattr(
        "holdfast.api.save.capture.capture",
        lambda requires: {
            **(facts := real(requires)), "packages": {**facts["packages"], **packages}
        },
    )  # fmt: skip


@pytest.fixture(name="refused")
def make_refused(store, monkeypatch):
    """Return a version of another scikit-learn that answers otherwise here, and what was tried."""

    def make(**packages):
        with monkeypatch.context() as patch:
            pretended(patch, **packages)
            return holdfast.save(
                Ridge().fit(ROWS, ROWS[:, 0]), "m", inputs=ROWS, portable=None, store=store
            )

    def refuse(*_, **__):
        raise BehaviourMismatch("REFUSED: it differs.", hint="hold show m")

    monkeypatch.setattr(ladder.load, "load_model", refuse)
    return make


def test_the_ladder_falls_to_the_worker_and_says_so(refused, monkeypatch, caplog):
    version = refused(**{"scikit-learn": "1.2.2"})
    served = load.Loaded("proxy", "replayed", rung="worker")
    monkeypatch.setattr(worker, "load_recorded", lambda *_, **__: served)
    assert holdfast.get("m", store=version.store).load_proven() is served
    assert "does not load here" in caplog.text
    assert "REFUSED" in caplog.text


def test_where_no_environment_can_be_built_the_refusal_stays_and_says_why(refused, monkeypatch):
    version = refused(**{"scikit-learn": "1.2.2"})
    monkeypatch.setattr(recreate, "uv", lambda: [sys.executable, "-c", "raise SystemExit(2)"])
    with pytest.raises(BehaviourMismatch, match=r"REFUSED: it differs. Its recorded environment"):
        version.load()


@pytest.mark.parametrize(
    ("packages", "asked"),
    [
        ({}, {}),
        ({"scikit-learn": "1.2.2"}, {"environment": "here"}),
        ({"scikit-learn": "1.2.2"}, {"into": object()}),
        ({"scikit-learn": "1.2.2"}, {"rename": "a->b"}),
        ({"scikit-learn": "1.2.2"}, {"device": "cuda"}),
        ({"scikit-learn": "nonsense"}, {}),
        ({"unheard-of": "1.0"}, {}),
    ],
)
def test_what_a_worker_cannot_help_is_refused_as_ever(refused, monkeypatch, packages, asked):
    version = refused(**packages)
    monkeypatch.setattr(worker, "load_recorded", lambda *_, **__: pytest.fail("was tried"))
    with pytest.raises(BehaviourMismatch, match=r"^REFUSED: it differs.\n"):
        version.load(**asked)


def test_without_uv_nothing_is_tried(refused, monkeypatch):
    version = refused(**{"scikit-learn": "1.2.2"})
    monkeypatch.setattr(recreate, "uv", lambda: None)
    monkeypatch.setattr(worker, "load_recorded", lambda *_, **__: pytest.fail("was tried"))
    with pytest.raises(BehaviourMismatch, match=r"^REFUSED: it differs. With uv installed"):
        version.load()


def test_a_replay_and_a_verify_are_of_this_environment(refused, monkeypatch):
    version = refused(**{"scikit-learn": "1.2.2"})
    monkeypatch.setattr(worker, "load_recorded", lambda *_, **__: pytest.fail("was tried"))
    with pytest.raises(BehaviourMismatch):
        version.replay()
    with pytest.raises(BehaviourMismatch):
        holdfast.verify("m", store=version.store)


def test_usage(store):
    version = holdfast.save(Ridge().fit(ROWS, ROWS[:, 0]), "m", inputs=ROWS, store=store)
    with pytest.raises(UsageError, match="not known"):
        version.load(environment="moon")
    with pytest.raises(UsageError, match="in this process"):
        version.load(environment="recorded", into=object())


def test_preflight_knows_the_worker(store, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        pretended(patch, catboost="1.2.2")
        holdfast.save(Ridge().fit(ROWS, ROWS[:, 0]), "m", inputs=ROWS, portable=None, store=store)
    found = holdfast.preflight("m", store=store)
    assert found.verdict == "needs its worker"
    with pytest.raises(SystemExit) as stopped:
        main(["preflight", "m", "--store", str(store.path)])
    assert stopped.value.code == 0
    assert "--environment recorded" in capsys.readouterr().err
    monkeypatch.setattr(recreate, "uv", lambda: None)
    assert holdfast.preflight("m", store=store).verdict == "cannot"


def test_preflight_remembers_a_replay_that_was_not_passed(store, monkeypatch):
    live = Ridge().fit(ROWS, ROWS[:, 0])
    with monkeypatch.context() as patch:
        pretended(patch, **{"scikit-learn": "1.8.0"})
        version = holdfast.save(live, "m", inputs=ROWS, portable=None, store=store)
    with monkeypatch.context() as patch:
        patch.setattr(Ridge, "predict", lambda self, X: X @ self.coef_)
        with pytest.raises(BehaviourMismatch):
            version.load(environment="here", replay="always")
    found = holdfast.preflight("m", store=store)
    assert found.verdict == "needs its worker"
    assert found.tested == "refused in this very environment before"
    version.load(environment="here", replay="always")
    assert holdfast.preflight("m", store=store).verdict in ("loads here", "loads migrated")


def test_env_commands(capsys):
    for words, told in (
        (["ls"], "No environment was built yet"),
        (["prune", "--dry-run"], "Would delete 0 environments"),
        (["ls", "--json"], '"environments": []'),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["env", *words])
        said = capsys.readouterr()
        assert stopped.value.code == 0
        assert told in said.out + said.err


@pytest.mark.parametrize("confine", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_worker_that_needs_more_memory_than_it_may_use_ends(store, work, confine):
    model = LogisticRegression().fit(ROWS, SIGN)
    version = holdfast.save(model, "m", inputs=ROWS, store=store)
    proxy, _ = work(version, memory=600 << 20, confine=confine)
    assert (proxy.predict(ROWS) == model.predict(ROWS)).all()
    with pytest.raises(EnvironmentMismatch, match=r"0\.6 GiB") as raised:
        proxy.predict_proba(np.zeros((12_000_000, 3)))
    assert "memory" in raised.value.message
    assert raised.value.ref == version.ref
    with pytest.raises(EnvironmentMismatch, match="has ended"):
        proxy.predict(ROWS)
