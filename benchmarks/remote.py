"""A model of 403 MB to a bucket and back, beside a plain upload and download of the same bytes.

usage: python benchmarks/remote.py s3://BUCKET/FOLDER [MB [WEIGHTS]]

Credentials are taken from the environment.

WEIGHTS is a folder as benchmarks/series.py leaves it: a base and fine-tunes of it, which are pushed
plain and coded (safetensors is needed to read them).

The server is on the way of both sides, so only ratios and counts of one run mean something.
"""

from __future__ import annotations

import collections
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import holdfast
from holdfast.api.compacting import compact
from holdfast.remote.requests import ObstoreRequests

PARTS = ("blobs", "coded", "log")
ASKED: collections.Counter[str] = collections.Counter()


def counted(name):
    real = getattr(ObstoreRequests, name)

    def ask(self, *given):
        ASKED[name] += 1
        return real(self, *given)

    setattr(ObstoreRequests, name, ask)


def timed(what, act):
    ASKED.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    result = act()
    spent = (time.perf_counter() - wall, time.process_time() - cpu)
    asked = ", ".join(f"{count} {verb}" for verb, count in sorted(ASKED.items()))
    print(f"{what:<44} {spent[0]:7.2f} s wall {spent[1]:6.2f} s CPU   {asked}")
    return result


def main():
    url = f"{sys.argv[1]}/{secrets.token_hex(4)}"
    layers = max(3, round(float(sys.argv[2] if len(sys.argv) > 2 else 403) / 16.8))
    for name in ("head", "get", "put", "create", "list", "copy", "delete"):
        counted(name)
    rng = np.random.default_rng(0)
    model = {f"layer{n}": rng.standard_normal((2048, 2048), dtype="f4") for n in range(layers)}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOLDFAST_CACHE"] = f"{folder}/cache"
        near = holdfast.Store.create(f"{folder}/near")
        holdfast.save(model, "net", store=near)
        print(f"{sum(a.nbytes for a in model.values()) / 1e6:.0f} MB in {layers} tensors")
        plain(url, model, folder)
        far = timed("make the store, try the server out", lambda: holdfast.Store.create(url))
        timed("push version 1", lambda: near.push("net", far))
        model["layer0"] = model["layer0"] + 1
        holdfast.save(model, "net", store=near)
        done = timed("push version 2, one layer changed", lambda: near.push("net", far))
        print(f"{'':<44} {done.size / 1e6:.1f} MB in {done.blobs} blobs sent")
        timed("push version 2 again", lambda: near.push("net", far))
        timed("load, nothing cached", lambda: holdfast.load("net", store=url))
        timed("load again", lambda: holdfast.load("net", store=url))
        model["layer1"] = model["layer1"] + 1
        timed("save version 3, one layer changed", lambda: holdfast.save(model, "net", store=url))
        os.environ["HOLDFAST_CACHE"] = f"{folder}/other"
        timed(
            "one tensor, nothing cached", lambda: holdfast.get("net", store=url).tensors()["layer2"]
        )
        timed("open the store and list it, nothing cached", lambda: listed(url))
    if len(sys.argv) > 3:
        fine_tunes(url, sys.argv[3])


def fine_tunes(url, weights):
    """Push a base and its fine-tunes plain and coded, and count what the bucket holds then."""
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        near = holdfast.Store.create(f"{folder}/near")
        names = ["base", *sorted(file.stem for file in Path(weights).glob("tuned-*.safetensors"))]
        for name in names:
            parents = () if name == "base" else ("base",)
            model = load_file(Path(weights, f"{name}.safetensors"))
            holdfast.save(model, name, store=near, parents=parents)
        for way in ("plain", "coded"):
            if way == "coded":
                compact(keep=0, store=near)
            os.environ["HOLDFAST_CACHE"] = f"{folder}/{way}"
            far = holdfast.Store.create(f"{url}/{way}")
            requests = ObstoreRequests(f"{url}/{way}")
            done = timed(
                f"push a base and fine-tunes, {way}", lambda far=far: near.push(names, far)
            )
            kept = sum(found.size for part in PARTS for found in requests.list(part))
            told = f"{done.size / 1e6:.1f} MB in {done.blobs} blobs sent, {kept / 1e6:.1f} MB kept"
            print(f"{'':<44} {told}")
            os.environ["HOLDFAST_CACHE"] = f"{folder}/{way}-reader"
            reader = holdfast.Store(f"{url}/{way}")
            timed(
                f"load a fine-tune, nothing cached, {way}",
                lambda r=reader: holdfast.load(names[-1], store=r),
            )
            back = holdfast.Store.create(f"{folder}/back-{way}")
            timed(f"pull all of them, {way}", lambda b=back, r=reader: b.pull(names, r))


def listed(url):
    return holdfast.Store(url).catalogue.names()


def plain(url, model, folder):
    """Upload and download the same bytes as one object, as any client would."""
    import obstore
    from obstore.store import from_url

    file = Path(folder, "plain.bin")
    with file.open("wb") as out:
        for array in model.values():
            array.tofile(out)
    store = from_url(url)
    timed("plain upload of one file (obstore)", lambda: obstore.put(store, "plain.bin", file))
    timed("plain download", lambda: obstore.get(store, "plain.bin").bytes())
    obstore.delete(store, "plain.bin")


if __name__ == "__main__":
    main()
