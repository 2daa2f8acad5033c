"""PyTorch checkpoints are read as data; tensors are views of the file."""

import io
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from holdfast import frameworks  # noqa: E402
from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported  # noqa: E402
from holdfast.rescue.reading import read as read_any  # noqa: E402
from holdfast.rescue.torch_files import read_torch  # noqa: E402
from holdfast.trust.scan import scan_path  # noqa: E402


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        self.head = torch.nn.Linear(4, 2)


def read(value, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(value, path)
    return read_torch(path, frameworks.registry()).model


def equal(one, two):
    if isinstance(one, torch.Tensor):
        layout = (one.dtype, one.shape, one.stride()) == (two.dtype, two.shape, two.stride())
        return layout and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(equal, one, two))
    return one == two


@pytest.mark.parametrize(
    "dtype",
    ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
     "bool", "complex64"],
)  # fmt: skip
def test_every_dtype_comes_back(dtype, tmp_path):
    value = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    assert equal({"x": value}, read({"x": value}, tmp_path))


def test_a_training_checkpoint_comes_back_whole(tmp_path):
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters())
    net.head(net.body(torch.ones(2, 3))).sum().backward()
    optimizer.step()
    checkpoint = {
        "state_dict": net.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "epoch": 3,
        "hyper_parameters": {"lr": 1e-3, "layers": [4, 2]},
        "rng": torch.get_rng_state(),
    }
    assert equal(checkpoint, read(checkpoint, tmp_path))


def test_views_transposes_and_shared_storages_come_back(tmp_path):
    whole = torch.arange(12.0)
    value = {"a": whole[2:8].reshape(2, 3).T, "b": whole[::2], "empty": torch.empty(0, 3)}
    again = read(value, tmp_path)
    assert equal(value, again)
    assert again["a"].untyped_storage().data_ptr() == again["b"].untyped_storage().data_ptr()


def test_a_whole_module_becomes_its_state_dict(tmp_path):
    net = Net()
    again = read(net, tmp_path)
    assert equal(dict(net.state_dict()), {key: again[key].detach() for key in net.state_dict()})


class Settings:
    """A class of the user's own."""


def test_what_is_no_data_is_refused_with_its_path(tmp_path):
    with pytest.raises(Unsupported, match=r"\['args'\].*Settings"):
        read({"args": Settings()}, tmp_path)


def test_settings_of_argparse_are_data(tmp_path):
    import argparse

    settings = argparse.Namespace(lr=1, names=["a"])
    path = tmp_path / "model.pt"
    torch.save({"args": settings}, path)
    taken = read_any(path, "torch")
    assert taken.model == {"args": settings}
    assert type(taken.model["args"]) is argparse.Namespace


@pytest.mark.parametrize("old", [False, True])
def test_new_dtypes_devices_and_dtypes_as_values_come_back(old, tmp_path):
    value = {
        "narrow": torch.arange(6.0).reshape(2, 3).to(torch.float8_e4m3fn),
        "narrower": torch.arange(4.0).to(torch.float8_e5m2)[1:],
        "unsigned": torch.arange(5).to(torch.uint16),
        "dtype": torch.bfloat16,
        "device": [torch.device("cpu"), torch.device("cuda", 1)],
    }
    again = (legacy if old else read)(value, tmp_path)
    for name in ("narrow", "narrower", "unsigned"):
        one, two = value[name], again[name]
        assert (one.dtype, one.shape, one.stride()) == (two.dtype, two.shape, two.stride())
        assert torch.equal(one.view(torch.uint8), two.view(torch.uint8))
    assert again["dtype"] is torch.bfloat16
    assert again["device"] == value["device"]


def forged(change, tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(8.0)}, buffer)
    path = tmp_path / "forged.pt"
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            name, data = item.filename, old.read(item)
            for each in change(name, data):
                new.writestr(zipfile.ZipInfo(each[0]), each[1])
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda name, data: [] if name.endswith("data/0") else [(name, data)],
        lambda name, data: [(name, data[:8] if name.endswith("data/0") else data)],
        lambda name, data: [(name, data.replace(b"K\x08", b"K\xff") if "pkl" in name else data)],
        lambda name, data: [(name, data[:-3] if name.endswith("pkl") else data)],
        lambda name, data: [] if name.endswith("pkl") else [(name, data)],
    ],
)
def test_lies_about_storages_are_refused(change, tmp_path):
    with pytest.raises((Corrupt, UnsafeContent)):
        read_torch(forged(change, tmp_path), frameworks.registry())


def test_mutated_checkpoints_are_refused_or_harmless(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(64.0), "step": 3}, buffer)
    data = bytearray(buffer.getvalue())
    rng = np.random.default_rng(0)
    path = tmp_path / "model.pt"
    codes = set()
    for place in rng.integers(0, len(data), 400).tolist():
        kept, data[place] = data[place], int(rng.integers(256))
        path.write_bytes(data)
        try:
            read_torch(path, frameworks.registry())
            codes.add("read")
        except HoldfastError as error:
            codes.add(error.code)
        data[place] = kept
    assert {"read", "corrupt"} <= codes


# Checkpoints as releases before 1.6 wrote them.


def legacy(value, tmp_path):
    path = tmp_path / "old.pth"
    torch.save(value, path, _use_new_zipfile_serialization=False)
    assert scan_path(path, frozenset()).kind == "torch-legacy"
    return read_any(path, "torch-legacy").model


@pytest.mark.parametrize(
    "dtype",
    ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
     "bool", "complex64"],
)  # fmt: skip
def test_every_dtype_of_an_old_checkpoint_comes_back(dtype, tmp_path):
    value = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    assert equal({"x": value}, legacy({"x": value}, tmp_path))


def test_an_old_checkpoint_comes_back_with_views_and_modules(tmp_path):
    net, whole = Net(), torch.arange(12.0)
    value = {
        "state_dict": net.state_dict(),
        "a": whole[2:8].reshape(2, 3).T,
        "b": whole[::2],
        "empty": torch.empty(0, 3),
        "epoch": 3,
    }
    again = legacy(value, tmp_path)
    assert equal(value, again)
    assert again["a"].untyped_storage().data_ptr() == again["b"].untyped_storage().data_ptr()
    state = legacy(net, tmp_path)
    assert equal(dict(net.state_dict()), {key: state[key].detach() for key in net.state_dict()})


def test_an_old_checkpoint_that_calls_is_refused(tmp_path, monkeypatch):
    import os

    class Evil:
        def __reduce__(self):
            return os.system, ("touch canary",)

    monkeypatch.chdir(tmp_path)
    with pytest.raises(HoldfastError):
        legacy({"x": torch.ones(2), "y": Evil()}, tmp_path)
    assert not (tmp_path / "canary").exists()


def test_mutated_and_cut_old_checkpoints_are_refused_or_harmless(tmp_path):
    buffer = io.BytesIO()
    value = {"w": torch.arange(16.0), "b": torch.ones(2, dtype=torch.int32)}
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    whole = buffer.getvalue()
    data, codes, path = bytearray(whole), set(), tmp_path / "old.pth"
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 400).tolist():
        kept, data[place] = data[place], int(rng.integers(256))
        path.write_bytes(data)
        try:
            read_any(path, "torch-legacy")
            codes.add("read")
        except HoldfastError as error:
            codes.add(error.code)
        data[place] = kept
    assert {"read", "corrupt"} <= codes
    for end in range(1, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(HoldfastError):
            read_any(path, "torch-legacy")
