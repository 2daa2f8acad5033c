"""A log of 100,000 versions: resolve, register, list, and rebuild the index from nothing.

Run: python benchmarks/catalogue.py [folder on a real disk]

The log is 1,000 names with 100 versions each, but for one name with 1,000. It is written by the
library's own encoder without fsync, which is not timed; what is timed goes through the catalogue
as every verb does, and a registration is one entry with its fsyncs.
"""

import secrets
import sys
import tempfile
import time
from pathlib import Path

from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog
from holdfast.record import LogEntry, digest_of
from timing import Row, alternate, show, timed, under, whole

NAMES, EACH, LONG = 991, 100, 900
ROUNDS = 40


def write_log(root, name, count):
    """Write ``count`` versions and an alias of one name."""
    folder = root / name
    folder.mkdir(parents=True)
    prev = None
    for seq in range(1, count + 2):
        if seq <= count:
            kind = "save"
            body = {"version": seq, **{part: digest_of(f"{name}{seq}{part}".encode())
                                       for part in ("record", "content", "manifest")}}  # fmt: skip
        else:
            kind, body = "alias", {"alias": "prod", "to": count, "from": None, "reason": None}
        entry = LogEntry(
            name=name,
            seq=seq,
            prev=prev,
            attempt=secrets.token_hex(16),
            at="2026-03-02T12:00:00.000000Z",
            by="ana",
            kind=kind,
            body=body,
        )
        data = entry.encode()
        (folder / f"{seq:08d}.json").write_bytes(data)
        prev = digest_of(data)


def main():
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=parent) as name:
        root = Path(name)
        (root / "tmp").mkdir()
        for number in range(NAMES):
            write_log(root / "log", f"model-{number:04d}", EACH)
        write_log(root / "log", "long", LONG + EACH)
        index = root / "index.sqlite"
        catalogue = Catalogue(DiskLog(root / "log", root / "tmp"), index)
        models, rebuilt = timed(catalogue.names)
        versions = sum(model.count for model in models)
        record = [digest_of(secrets.token_bytes(8)) for _ in range(3)]

        def register():
            parts = dict(zip(("record", "content", "manifest"), record, strict=True))
            return catalogue.add_version("model-0500", **parts, by="ana")

        samples = alternate(
            {
                "alias": whole(lambda: catalogue.resolve("model-0777", "prod")),
                "newest": whole(lambda: catalogue.resolve("long", None)),
                "register": whole(register),
                "list": whole(lambda: catalogue.versions("long")),
            },
            ROUNDS,
        )
        started = time.perf_counter()
        catalogue.names()
        again = time.perf_counter() - started
    rows = [
        under("resolve an alias", samples["alias"], 1),
        under("resolve the newest of 1,000", samples["newest"], 1),
        under("register a version, fsync", samples["register"], 10),
        under("list 1,000 versions of a name", samples["list"], 20),
        Row(
            "rebuild the index, wall", f"{rebuilt.wall:.1f} s", "", "", "< 60 s", rebuilt.wall < 60
        ),
        Row("list every name, index there, wall", f"{again * 1e3:.0f} ms"),
    ]
    show(f"{versions:,} versions of {len(models):,} names", rows)


if __name__ == "__main__":
    main()
