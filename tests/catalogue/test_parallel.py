"""Fifty versions by eight processes: dense numbers, none lost, one chain."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog

VERSIONS, PROCESSES = 50, 8

CHILD = """
import sys
from pathlib import Path
from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog
from holdfast.record import Digest, digest_of

root, index, writer, step, last = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
catalogue = Catalogue(DiskLog(root / "log", root / "tmp"), index)
print("ready", flush=True)
sys.stdin.readline()
for task in range(writer, last, step):
    digest = digest_of(f"task {task}".encode())
    info = catalogue.add_version(
        "churn", record=digest, content=digest, manifest=digest, by=f"writer {writer}"
    )
    print(info.number, info.record, flush=True)
"""


@pytest.fixture(name="root")
def folders(tmp_path: Path) -> Path:
    for folder in ("log", "tmp"):
        (tmp_path / folder).mkdir()
    return tmp_path


@pytest.fixture(name="writers", params=["one index", "an index each"])
def started_writers(
    root: Path, request: pytest.FixtureRequest
) -> Iterator[list["subprocess.Popen[str]"]]:
    shared = request.param == "one index"
    writers = []
    for number in range(PROCESSES):
        index = root / f"index-{0 if shared else number}.sqlite"
        places = [str(root), str(index)]
        numbers = [str(value) for value in (number, PROCESSES, VERSIONS)]
        command = [sys.executable, "-c", CHILD, *places, *numbers]
        writers.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    yield writers
    for writer in writers:
        writer.kill()
        writer.communicate()


def told_by(writers: list["subprocess.Popen[str]"]) -> dict[int, str]:
    """Start all writers at once; return number to record as each writer was told."""
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    lines = [line for writer in writers for line in writer.communicate()[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0] * PROCESSES
    told = {int(number): record for number, record in (line.split() for line in lines)}
    assert len(told) == len(lines), "two writers were told the same number"
    return told


def test_fifty_versions_by_eight_processes(
    root: Path, writers: list["subprocess.Popen[str]"]
) -> None:
    told = told_by(writers)
    assert sorted(told) == list(range(1, VERSIONS + 1))
    catalogue = Catalogue(DiskLog(root / "log", root / "tmp"), None)
    catalogue.check_chain("churn")
    assert {info.number: info.record for info in catalogue.versions("churn")} == told
    assert len(set(told.values())) == VERSIONS
    assert list((root / "tmp").iterdir()) == []
