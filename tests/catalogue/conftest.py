from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog
from holdfast.catalogue.history import VersionInfo
from holdfast.record import digest_of

Add: TypeAlias = Callable[..., VersionInfo]


@pytest.fixture(name="root")
def empty_folders(tmp_path: Path) -> Path:
    for folder in ("log", "tmp"):
        (tmp_path / folder).mkdir()
    return tmp_path


@pytest.fixture(name="opened")
def opener(root: Path) -> Callable[[], Catalogue]:
    """Open the catalogue as a new process would, with the index that is on disk."""
    return lambda: Catalogue(DiskLog(root / "log", root / "tmp"), root / "index.sqlite")


@pytest.fixture(name="catalogue")
def opened_catalogue(opened: Callable[[], Catalogue]) -> Catalogue:
    return opened()


@pytest.fixture(name="add")
def adder(catalogue: Catalogue) -> Add:
    """Add a version whose digests are those of its content's words."""

    def add(name: str = "churn", content: str = "content", by: str = "ada") -> VersionInfo:
        record = f"record of {name} {content} by {by}"
        digests = [digest_of(text.encode()) for text in (record, content, content + " manifest")]
        return catalogue.add_version(
            name, record=digests[0], content=digests[1], manifest=digests[2], by=by
        )

    return add
