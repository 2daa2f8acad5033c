"""Lightning checkpoints come over as data: weights, hyper-parameters, optimizers, loops.

They are here because the environment of this framework also has Lightning.
"""

from __future__ import annotations

import argparse
import os

import pytest

pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("lightning", reason="lightning is not installed")

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

import holdfast
from holdfast.api.scanning import scan
from holdfast.errors import UnsafeContent

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(lightning.LightningModule):
    def __init__(self, width=4, lr=0.05, options=None):
        super().__init__()
        self.save_hyperparameters()
        self.hidden = torch.nn.Linear(3, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.out = torch.nn.Linear(width, 1)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.hidden(x))))

    def training_step(self, batch, _):
        rows, target = batch
        loss = torch.nn.functional.mse_loss(self(rows), target)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
        }


def batches():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(16, 3, generator=generator)
    return DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=4)


def trainer(path, epochs):
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path,
        callbacks=[
            EarlyStopping("loss", patience=50),
            ModelCheckpoint(dirpath=path / "kept", monitor="loss"),
        ],
    )


def trained(path, **arguments):
    torch.manual_seed(0)
    module, fitting = Net(**arguments), trainer(path, 2)
    fitting.fit(module, batches())
    fitting.save_checkpoint(path / "two.ckpt")
    return module


@pytest.fixture
def path(tmp_path):
    return tmp_path


def same(one, other):
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.keeps("Lightning", "checkpoints, taken over whole", "lightning", "torch")
def test_everything_of_a_checkpoint_comes_over(path):
    trained(path, width=5)
    report = scan(path / "two.ckpt")
    assert (report.kind, report.takes) == ("torch", "data")
    version = holdfast.convert(path / "two.ckpt", "two", store=path / "store")
    assert version.content.framework == "torch"
    again = holdfast.load("two", store=path / "store")
    whole = torch.load(path / "two.ckpt", weights_only=False)
    assert again.keys() == whole.keys()
    assert same(whole, again)
    assert again["hyper_parameters"] == {"width": 5, "lr": 0.05, "options": None}
    assert again["epoch"] == 2
    assert again["global_step"] == 8
    assert any("EarlyStopping" in name for name in again["callbacks"])


def test_the_module_takes_the_weights(path):
    module = trained(path).eval()
    holdfast.convert(path / "two.ckpt", "two", store=path / "store")
    again = holdfast.load("two", store=path / "store")
    fresh = Net(**again["hyper_parameters"])
    fresh.load_state_dict(again["state_dict"])
    rows = torch.randn(5, 3)
    assert torch.equal(fresh.eval()(rows), module(rows))


def test_training_goes_on_bit_for_bit(path):
    trained(path)
    holdfast.convert(path / "two.ckpt", "two", store=path / "store")
    torch.save(holdfast.load("two", store=path / "store"), path / "again.ckpt")
    ends = []
    for name in ("two.ckpt", "again.ckpt"):
        torch.manual_seed(9)
        module, fitting = Net(), trainer(path / name.partition(".")[0], 4)
        fitting.fit(module, batches(), ckpt_path=path / name, weights_only=False)
        assert fitting.global_step == 16
        ends.append((module.state_dict(), fitting.optimizers[0].state_dict()))
    assert same(ends[0], ends[1])
    start = torch.load(path / "two.ckpt", weights_only=False)["state_dict"]
    assert not same(dict(start), dict(ends[0][0]))


def test_a_checkpoint_that_would_run_code_is_refused(path):
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {path / 'canary'}",)

    trained(path)
    told = torch.load(path / "two.ckpt", weights_only=False)
    torch.save({**told, "hyper_parameters": {"width": Payload()}}, path / "evil.ckpt")
    with pytest.raises(UnsafeContent, match="system"):
        holdfast.convert(path / "evil.ckpt", "evil", store=path / "store")
    assert not (path / "canary").exists()


def test_hyper_parameters_in_a_namespace(path):
    trained(path, options=argparse.Namespace(depth=2))
    version = holdfast.convert(path / "two.ckpt", "space", store=path / "store")
    again = holdfast.load(version.ref, store=path / "store")
    assert again["hyper_parameters"]["options"] == argparse.Namespace(depth=2)
