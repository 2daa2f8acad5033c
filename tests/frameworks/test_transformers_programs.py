"""A model of transformers answers through its program where transformers is not."""

import json
import subprocess
import sys

import pytest

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

import holdfast  # noqa: E402
from holdfast.errors import UsageError  # noqa: E402


def test_texts_of_any_length_are_answered_without_transformers(tmp_path):
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=900, n_embd=16, n_layer=1, n_head=2, n_positions=40)
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(5, 900, (4, 8))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    version = holdfast.save(
        model, "m", inputs=inputs, portable="torch.export", store=tmp_path / "s"
    )
    program = version.load(environment="portable")
    longer = torch.randint(5, 900, (3, 21))
    asked = {"input_ids": longer, "attention_mask": torch.ones_like(longer)}
    with torch.no_grad():
        want = model(**asked).logits
    assert torch.allclose(program(asked)["logits"], want, atol=1e-5)  # all of it, not a sample
    assert program.forward(asked)["logits"].shape == (3, 3780)
    with pytest.raises(UsageError, match="attention_mask has the shape"):
        program({**asked, "attention_mask": asked["attention_mask"][:, :20]})
    code = (
        "import sys, json\n"
        "sys.modules['transformers'] = None\n"
        "import holdfast, torch\n"
        "model = holdfast.load('m', store=sys.argv[1])\n"
        "ids = torch.arange(6).reshape(2, 3)\n"
        "found = model({'input_ids': ids, 'attention_mask': torch.ones_like(ids)})\n"
        "print(json.dumps([repr(model), found['logits'][:, -1, :3].tolist()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told, numbers = json.loads(done.stdout)
    assert told.startswith("<transformers.Model of m@v1 in its portable form (torch.export: ")
    with torch.no_grad():
        want = model(torch.arange(6).reshape(2, 3)).logits[:, -1, :3]
    assert torch.allclose(torch.tensor(numbers), want, atol=1e-5)
