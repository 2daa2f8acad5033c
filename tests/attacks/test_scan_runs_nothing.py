"""A scan of hostile files imports, runs, writes and connects to nothing: the interpreter is asked.

The files are scanned in a process of its own whose audit hook sees every import, compilation,
process, socket, library and file that is opened for writing.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import joblib
import numpy as np
from onnx import TensorProto, helper

SCAN = """
import json, sys
from collections import Counter
from pathlib import Path
from holdfast.api.scanning import scan
bytes(1).decode("cp437")
Counter("a").most_common(1)  # Python imports some of its own when they are first needed
known = scan(Path(sys.argv[2]))  # everything that a scan needs is imported by now
seen = []
WATCHED = (
    "import", "compile", "exec", "code.__new__", "marshal.loads", "pickle.find_class",
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "subprocess.Popen", "socket.", "ctypes.", "shutil.", "os.remove", "os.rename", "os.mkdir",
    "urllib.Request", "http.client.connect", "builtins.breakpoint", "webbrowser.open",
)
def hook(event, arguments):
    written = event == "open" and arguments[1] not in (None, "r", "rb")
    if event.startswith(WATCHED) or written:
        seen.append([event, repr(arguments)[:100]])
sys.addaudithook(hook)
report = scan(Path(sys.argv[1]))
told = list(seen)
worst = {member.path: member.worst for member in report.members}
print(json.dumps({"seen": told, "worst": worst}))
"""


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_DOT_", ".").replace("_IN_", "/"), data)
    return file.getvalue()


def tarred(name, data):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def written(write, *args, **more):
    file = io.BytesIO()
    write(file, *args, **more)
    return file.getvalue()


def hdf5(h):
    h.attrs["model_config"] = json.dumps({"class_name": "system", "module": "os"})
    h["out"] = h5py.ExternalLink("/etc/passwd", "/x")


def onnx():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    graph = helper.make_graph([helper.make_node("PyOp", ["x"], ["y"])], "g", ends[:1], ends[1:],
                              [tensor])  # fmt: skip
    return helper.make_model(graph).SerializeToString()


SAMPLES = Path(__file__).parents[1] / "trust/samples"


def hostile(trap):
    evil = pickle.dumps(Runs(os.system, f"touch {trap}"))
    gguf = b"GGUF" + b"\3\0\0\0" + bytes(8) + b"\1" + bytes(7)
    template = b"{{ ''.__class__ }}"
    for part in (b"tokenizer.chat_template", template):
        gguf += len(part).to_bytes(8, "little") + part
        gguf += b"\x08\0\0\0" if part != template else b""
    lambda_ = {"class_name": "Lambda", "module": "keras.layers", "config": {"value": "4wEA"}}
    skops = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
    return {
        "system.pkl": evil,
        "old.pkl": pickle.dumps(Runs(os.system, f"touch {trap}"), 0),
        "eval.pkl": pickle.dumps(Runs(eval, f"open({str(trap)!r}, 'w')")),
        "import.pkl": pickle.dumps(Runs(__import__, "antigravity")),
        "module.pkl": b"cantigravity\nfly\n.",
        "open.pkl": pickle.dumps(Runs(open, str(trap), "w")),
        "socket.pkl": pickle.dumps(Runs(__import__("socket").create_connection, ("127.0.0.1", 9))),
        "a.joblib": written(lambda f: joblib.dump([Runs(os.system, "x"), np.ones(2)], f, 3)),
        "o.npy": written(
            lambda f: np.save(f, np.array([Runs(os.system, "x")], object), allow_pickle=True)
        ),
        "t.pt": zipped(m_IN_data_DOT_pkl=evil, m_IN_version="3"),
        "script.pt": zipped(
            m_IN_constants_DOT_pkl=b"\x80\x02).",
            m_IN_code_IN_a_DOT_py="def __setstate__(self):\n  torch.save(1, 'x')\n",
        ),
        "z.zip": zipped(__IN_x=evil, deeper_DOT_zip=zipped(e=evil)),
        "t.tar.gz": tarred("../../x.pkl", evil),
        "k.keras": zipped(config_DOT_json=json.dumps(lambda_), metadata_DOT_json="{}"),
        "s.skops": zipped(schema_DOT_json=json.dumps({**skops, "protocol": 2})),
        "h.h5": written(lambda f: hdf5(h5py.File(f, "w"))),
        "m.onnx": onnx(),
        "m.gguf": gguf,
        "library.so": b"\x7fELF" + bytes(100),
        "tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": "x.Y"}, "chat_template": "{% x"}',
        "chat.jinja": template,
        "model.json": json.dumps(lambda_).encode(),
        **{
            name: (SAMPLES / name).read_bytes()
            for name in (
                "cloudpickle_function.pkl",
                "dill_function.pkl",
                "evil.lz4",
                "lambda.keras",
                "lambda_keras_metadata.pb",
                "objects.npy",
                "reaching.pb",
                "saving.pb",
            )
        },
    }


def without_network():
    """Return words that take a process off the network, where the system lets it; else none.

    The audit hook sees sockets in either case.
    """
    words = ["unshare", "--map-root-user", "--net"]
    if shutil.which(words[0]) is None:
        return []
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return [] if tried.returncode else words


def test_hostile_files_are_told_and_nothing_of_them_happens(tmp_path):
    files, innocent, trap = tmp_path / "files", tmp_path / "innocent", tmp_path / "ran"
    files.mkdir()
    innocent.mkdir()
    for name, data in hostile(trap).items():
        (files / name).write_bytes(data)
        (innocent / name).write_bytes(data[: len(data) // 2])
    (innocent / "b.npz").write_bytes(written(np.savez, np.ones(2)))
    done = subprocess.run(
        [*without_network(), sys.executable, "-I", "-c", SCAN, str(files), str(innocent)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["seen"] == []
    assert not trap.exists()
    assert {each.name for each in tmp_path.iterdir()} == {"files", "innocent"}
    assert told["worst"] == dict.fromkeys(hostile(trap), "unsafe")
