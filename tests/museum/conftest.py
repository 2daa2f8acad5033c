"""Archives of the museum, unpacked once in a run; what wrote them is imported from beside this."""

import sys
import tarfile
from pathlib import Path

import pytest

MUSEUM = Path(__file__).parent
sys.path.insert(0, str(MUSEUM))


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    done = {}

    def unpack(archive):
        if archive not in done:
            folder = tmp_path_factory.mktemp(archive.name)
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            done[archive] = folder
        return done[archive]

    return unpack
