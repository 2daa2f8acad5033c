"""A log of 100,000 versions: resolving, registering, listing, rebuilding the index.

Run: python benchmarks/catalogue.py

The log (1,000 names of 100 versions, one name of 1,000) is written with the library's own encoder
but without fsync and without blobs, since only the catalogue is looked at. What is timed writes
with fsync, one thread, the log's files in the page cache. ``hold ls`` is a process of its own. No
peer is asked: a server beside a file would say nothing.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

import holdfast
from holdfast.record import LogEntry, digest_of
from timing import AnonymousPeak, Row, alternate, at_most, ms, show, timed, under, whole

NAMES, EACH, LONG = 1000, 99, 1000
ROUNDS = 15


def entries(name, versions):
    """Yield the entries of a name: versions, and the alias ``prod`` moved with each tenth."""
    prev, seq, numbers = None, count(1), range(1, versions + 1)
    for number in numbers:
        digests = {part: digest_of(f"{name} {number} {part}".encode()) for part in PARTS}
        bodies = [("save", {"version": number, **digests})]
        if number % 10 == 0:
            before = number - 10 or None
            moved = {"alias": "prod", "to": number, "from": before, "reason": "better"}
            bodies.append(("alias", moved))
        for kind, body in bodies:
            entry = LogEntry(
                name=name,
                seq=next(seq),
                prev=prev,
                attempt="0" * 32,
                at=f"2026-01-01T00:00:00.{number:06d}Z",
                by="bench",
                kind=kind,
                body=body,
            )
            data = entry.encode()
            prev = digest_of(data)
            yield data


PARTS = ("record", "content", "manifest")


def build(root):
    """Write the log; return how many versions and entries it has."""
    total = versions = 0
    plans = [("long", LONG), *((f"model-{number:04d}", EACH) for number in range(NAMES))]
    for name, many in plans:
        folder = root / name
        folder.mkdir()
        for seq, data in enumerate(entries(name, many), 1):
            (folder / f"{seq:08d}.json").write_bytes(data)
            total += 1
        versions += many
    return versions, total


def look_rows(catalogue):
    name = f"model-{NAMES // 2:04d}"
    digests = {part: digest_of(part.encode()) for part in PARTS}
    actions = {
        "alias": whole(lambda: catalogue.resolve(name, "prod")),
        "newest": whole(lambda: catalogue.resolve(name, None)),
        "digest": whole(lambda: catalogue.resolve(name, first.record[:19])),
        "register": whole(lambda: catalogue.add_version(name, by="bench", **digests)),
        "promote": whole(lambda: catalogue.set_alias(name, "canary", next(numbers), by="bench")),
        "list": whole(lambda: catalogue.versions("long")),
        "names": whole(catalogue.names),
    }
    first, numbers = catalogue.resolve(name, 1), count(1)
    took = alternate(actions, ROUNDS)
    yield under("resolve name@alias", took["alias"], 1)
    yield under("resolve name, the newest", took["newest"], 1)
    yield under("resolve name@sha256:…", took["digest"], 1)
    yield under("register a version, fsync", took["register"], 10)
    yield under("move an alias, fsync", took["promote"], 10)
    yield under("list 1,000 versions of a name", took["list"], 20)
    yield Row("list 1,001 names, wall", ms(took["names"], "wall"))


def rebuild(store):
    with AnonymousPeak() as memory:
        models, took = timed(store.catalogue.names)
    return sum(model.count for model in models), took, memory.extra / 1e6


def process_rows(store):
    hold = Path(sys.executable).with_name("hold")
    environment = {**os.environ, "HOLDFAST_STORE": str(store.path)}

    def run(*words):
        subprocess.run([hold, *words], check=True, capture_output=True, env=environment)

    took = alternate(
        {
            "ls": whole(partial(run, "ls")),
            "log": whole(partial(run, "log", "model-0001")),
        },
        5,
    )
    yield Row("hold ls, 1,001 names, wall", ms(took["ls"], "wall"))
    yield Row("hold log of a name with 108 entries, wall", ms(took["log"], "wall"))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HOLDFAST_CACHE"] = str(folder / "cache")
        store = holdfast.Store.create(folder / "store")
        (versions, total), wrote = timed(partial(build, store.path / "log"))
        print(f"log of {versions:,} versions in {total:,} entries written in {wrote.wall:.1f} s")
        seen, took, memory = rebuild(store)
        assert seen == versions
        rows = [
            at_most("rebuild the index from nothing, wall", took.wall, 60, "s"),
            at_most("  CPU", took.cpu, 60, "s"),
            Row("  peak extra anonymous memory", f"{memory:.1f} MB"),
            *look_rows(store.catalogue),
            *process_rows(store),
        ]
        size = sum(path.stat().st_size for path in folder.glob("cache/index/*")) / 1e6
        rows.append(Row("size of the index", f"{size:.1f} MB"))
        show(f"{versions:,} versions in the log", rows)


if __name__ == "__main__":
    main()
