"""The command as a person or a script meets it."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast.cli import main as cli_main


def hold(*words, stdin=None):
    """Run the installed command in this process, through main() and its error handling."""
    runner = CliRunner()
    with runner.isolation(input=stdin) as streams:
        try:
            cli_main.main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
        out, err = streams[0].getvalue().decode(), streams[1].getvalue().decode()
    return status, out, err


@pytest.fixture(name="home", autouse=True)
def in_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = hold("init", "models")
    assert status == 0, err
    assert (tmp_path / "holdfast.toml").read_text() == 'store = "models"\n'
    return tmp_path


@pytest.fixture(name="iris")
def iris_model(home):
    data = load_iris(as_frame=True)
    model = LogisticRegression(max_iter=500).fit(data.data, data.target)
    labels = ["a", "b", "c"]
    holdfast.save(model, "iris", inputs=data.data, metrics={"accuracy": 0.97}, labels=labels)
    return model, data.data


def weights(path, seed=0):
    rng = np.random.default_rng(seed)
    save_file({"w": rng.normal(size=(8, 4)).astype("f4"), "b": np.zeros(4, "f4")}, path)
    return path


def test_save_a_file_list_show_and_verify(home):
    weights("model.safetensors")
    status, out, err = hold("save", "model.safetensors", "--name", "net", "--metric", "loss=0.5")
    assert status == 0, err
    assert out.startswith("Saved net@v1")
    assert "Try: hold show net@v1" in err
    status, out, _ = hold("save", "model.safetensors", "--name", "net")
    assert "same content as net@v1" in out
    assert hold("ls", "-q") == (0, "net\n", "")
    assert hold("ls", "net", "-q") == (0, "net@v2\nnet@v1\n", "")
    status, out, _ = hold("ls", "net", "--json")
    listed = json.loads(out)
    assert listed["schema_version"] == 1
    assert listed["versions"][1]["metrics"] == {"loss": 0.5}
    status, out, _ = hold("verify", "net")
    assert status == 0
    assert "behaviour not recorded" in out
    assert "verified," not in out.replace("bytes verified,", "")


def test_npz_and_onnx_files(home):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    np.savez("arrays.npz", a=np.arange(3), b=np.eye(2))
    assert hold("save", "arrays.npz", "--name", "arrays")[0] == 0
    assert np.array_equal(holdfast.load("arrays")["b"], np.eye(2))
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 2]) for n in ("x", "y")
    ]
    graph = onnx.helper.make_graph([node], "g", value[:1], value[1:])
    Path("relu.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    assert hold("save", "relu.onnx", "--name", "relu")[0] == 0
    assert holdfast.load("relu").graph.node[0].op_type == "Relu"


class Evil:
    def __reduce__(self):
        return (exec, ("open('/tmp/holdfast-was-run', 'w')",))


@pytest.mark.parametrize("name", ["model.pkl", "model.safetensors", "model.npz"])
def test_a_pickle_under_any_name_exits_6_and_runs_nothing(home, name):
    Path(name).write_bytes(pickle.dumps(Evil()))
    status, out, err = hold("save", name, "--name", "net")
    assert status == 6
    assert out == ""
    assert "Nothing was run" in err
    assert err.splitlines()[-1].startswith("Try: ")
    assert not Path("/tmp/holdfast-was-run").exists()


def test_promote_rollback_and_the_log(iris):
    model, frame = iris
    holdfast.save(model, "iris", inputs=frame, note="again")
    assert hold("promote", "iris@v1", "--to", "prod", "--reason", "first")[0] == 0
    assert hold("promote", "iris@v2", "--to", "prod")[0] == 0
    assert hold("rollback", "iris", "-q") == (0, "iris@v1\n", "")
    status, out, err = hold("rollback", "iris")
    assert status == 5
    assert "nothing to roll back to" in err
    status, out, _ = hold("log", "iris", "--json")
    moves = [e for e in json.loads(out)["entries"] if e["kind"] == "alias"]
    assert [(m["from"], m["to"]) for m in moves] == [(None, 1), (1, 2), (2, 1)]
    status, out, _ = hold("log", "iris", "--at", "2020-01-01")
    assert status == 5 or "saved" not in out
    status, out, _ = hold("log", "iris")
    assert out.startswith("prod = iris@v1 since ")
    assert "because rollback from v2" in out


def test_predict_reorders_columns_and_names_classes(iris):
    model, frame = iris
    frame.head(5)[list(reversed(frame.columns))].to_csv("rows.csv", index=False)
    status, out, err = hold("predict", "iris", "rows.csv")
    assert status == 0, err
    names = [["a", "b", "c"][i] for i in model.predict(frame.head(5))]
    assert out.split() == ["prediction", *names]
    assert "Columns reordered" in err
    frame.head(5).drop(columns=frame.columns[0]).to_csv("short.csv", index=False)
    status, out, err = hold("predict", "iris", "short.csv")
    assert status == 2
    assert "sepal length" in err
    assert out == ""


def test_forget_and_prune_free_space_but_never_what_has_a_name(iris, home):
    weights("w.safetensors")
    hold("save", "w.safetensors", "--name", "net")
    weights("w.safetensors", seed=1)
    hold("save", "w.safetensors", "--name", "net")
    hold("promote", "net@v1", "--to", "prod")
    status, _, err = hold("forget", "net@v1")
    assert status != 0
    assert "prod" in err
    assert hold("forget", "net@v2", "--dry-run")[0] == 0
    assert hold("ls", "net", "-q")[1] == "net@v2\nnet@v1\n"
    assert hold("forget", "net@v2")[0] == 0
    assert hold("ls", "net", "-q")[1] == "net@v1\n"
    blobs = home / "models" / "blobs" / "sha256"
    count = len(list(blobs.iterdir()))
    status, out, _ = hold("prune")
    assert "younger than" in out
    assert len(list(blobs.iterdir())) == count
    status, out, _ = hold("prune", "--grace", "0", "--dry-run", "--json")
    would = json.loads(out)
    assert would["freed"] > 0
    status, out, _ = hold("prune", "--grace", "0")
    assert "alias prod" in out
    assert len(list(blobs.iterdir())) == count - would["blobs"]
    assert hold("verify")[0] == 0
    assert hold("pin", "net@v1", "--until", "2036-12-31")[0] == 0


def test_diff_reports_only_the_known_edit(home):
    weights("w.safetensors")
    hold("save", "w.safetensors", "--name", "net", "--param", "lr=0.1")
    rng = np.random.default_rng(0)
    save_file({"w": rng.normal(size=(8, 4)).astype("f4"), "b": np.ones(4, "f4")}, "w.safetensors")
    hold("save", "w.safetensors", "--name", "net", "--param", "lr=0.2")
    status, out, _ = hold("diff", "net@v1", "net@v2", "--json")
    found = json.loads(out)["diff"]
    assert found["tensors"] == {"b": "changed"}
    assert found["params"] == {"lr": ["0.1", "0.2"]}
    assert found["structure"] is False


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("show", "nothing"), 5),
        (("show", "a@b@c"), 2),
        (("ls", "--store", "no/where"), 10),
        (("vrify",), 2),
        (("save", "missing.safetensors", "--name", "x"), 2),
        (("save", "holdfast.toml", "--name", "x"), 1),
        (("promote", "nothing", "--to", "prod"), 5),
    ],
)
def test_every_error_ends_in_one_try_line_and_no_traceback(words, status):
    code, out, err = hold(*words)
    assert code == status, err
    assert out == ""
    lines = err.splitlines()
    assert lines[-1].startswith("Try: ")
    assert sum(line.startswith("Try: ") for line in lines) == 1
    assert "Traceback" not in err


def test_where_and_config_say_their_origin(home, monkeypatch):
    status, out, err = hold("where")
    assert out.strip() == str(home / "models")
    assert "holdfast.toml" in err
    monkeypatch.setenv("HOLDFAST_STORE", str(home / "other"))
    status, out, _ = hold("config", "show", "--origin")
    assert "HOLDFAST_STORE" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    status, out, _ = hold("completion", shell)
    assert status == 0
    assert "_HOLD_COMPLETE" in out


def test_help_lists_every_verb():
    status, out, _ = hold("--help")
    for verb in cli_main._VERBS:
        assert f"  {verb} " in out


def test_the_installed_command_starts():
    done = subprocess.run(
        [Path(sys.executable).with_name("hold"), "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert holdfast.__version__ in done.stdout


def test_an_alias_can_be_taken_away_so_that_its_version_can_go(iris):
    assert hold("promote", "iris@v1", "--to", "canary")[0] == 0
    status, _, err = hold("forget", "iris@v1")
    assert status == 2
    way = err.strip().splitlines()[-1].removeprefix("Try: hold ").split()
    assert hold(*way)[0] == 0
    assert hold("forget", "iris@v1")[0] == 0
    assert hold("promote", "iris", "--to", "canary", "--remove")[0] == 5


def test_a_damaged_log_does_not_hide_the_others(home, iris):
    holdfast.save({"a": np.arange(3)}, "other")
    entry = next((holdfast.Store().path / "log" / "iris").iterdir())
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes().replace(b'"kind":"save"', b'"kind":"sane"'))
    status, out, err = hold("ls")
    assert status == 4
    assert "other" in out
    assert err.startswith("1 of 2 logs are damaged")
    status, out, err = hold("verify")
    assert status == 4
    assert "other@v1  hashes ok" in out
    assert "iris  DAMAGED" in out
    assert hold("prune")[0] == 4
