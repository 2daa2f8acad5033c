"""Every test has a cache of its own, no store in force, and no skip that nobody expects."""

from __future__ import annotations

import fnmatch
import gc
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXPECTED_SKIPS = Path(__file__).parent / "tests" / "expected_skips.txt"
_NUMBERS = itertools.count()


@contextmanager
def surroundings(home: Path) -> Iterator[None]:
    """Keep what runs from the user's store and caches, and from those of other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(home / "cache"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.delenv("HOLDFAST_STORE", raising=False)
        patch.setenv("UV_OFFLINE", "1")  # what asks the package index says so
        yield


@pytest.fixture(autouse=True, scope="session")
def surroundings_of_wider_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give fixtures of modules, which are made before a test's own, surroundings too."""
    with surroundings(tmp_path_factory.getbasetemp() / "home"):
        yield


@pytest.fixture(autouse=True, scope="session")
def no_wait_for_the_disk() -> Iterator[None]:
    """Let what this process writes stay in the system's memory, where every test finds it.

    Only a loss of power could tell. Programs that tests start do wait, and what they ask of the
    disk, in which order, is watched from outside by ``tests/attacks/test_crash.py``.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which refuses the same descriptors
        yield


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give each test its own; what a test puts there makes the folder."""
    with surroundings(tmp_path_factory.getbasetemp() / "homes" / str(next(_NUMBERS))):
        yield


class ExpectedSkips:
    """Fails a run in which a test was skipped that the list does not permit.

    A line of the list is ``pattern of the test's id : words that the reason contains``.
    """

    def __init__(self, path: Path) -> None:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        self.permitted = [
            tuple(part.strip() for part in line.split(" : ", 1))
            for line in lines
            if line.strip() and not line.startswith("#")
        ]
        self.unexpected: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(
            fnmatch.fnmatchcase(report.nodeid, pattern) and words in reason
            for pattern, words in self.permitted
        ):
            self.unexpected.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at one test's outcome."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look at a module's outcome: a module can skip itself."""
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run when a skip was not expected."""
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which skips were not expected."""
        for line in self.unexpected:
            terminalreporter.write_line(f"SKIP NOT IN tests/expected_skips.txt  {line}", red=True)


class Kept:
    """Writes down which rows of the README's table of frameworks this run has proven.

    A test that carries ``@pytest.mark.keeps(framework, what, *packages)`` and passes proves a part
    of one. Packages are names that can be imported; their versions are written down beside.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.unlink(missing_ok=True)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        """Look at one test's outcome."""
        outcome = yield
        report = outcome.get_result()  # type: ignore[attr-defined]
        for mark in item.iter_markers("keeps"):
            if call.when == "call" and report.passed:
                from holdfast.environment.capture import capture

                framework, what, *packages = mark.args
                own = ("numpy", "holdfast-ml")
                found = capture(packages)["packages"].items()
                versions = {name: version for name, version in found if name not in own}
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([framework, what, versions]) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what all tests share, modules and the tests themselves, out of every later collection.

    None of it is garbage before the end, and a collection would walk through all of it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the watch over skips, and over what is proven where that is asked for.

    Runs beside each other have folders of their own: pytest's usual ones lie in one, where each
    run removes what is old, and two that do so at once fail.
    """
    if config.option.basetemp is None:
        folder = tempfile.TemporaryDirectory(prefix="holdfast-tests-", ignore_cleanup_errors=True)
        config.option.basetemp = folder.name
        config.add_cleanup(folder.cleanup)
    config.pluginmanager.register(ExpectedSkips(EXPECTED_SKIPS), "expected-skips")
    kept = os.environ.get("HOLDFAST_KEPT")
    if kept:
        config.pluginmanager.register(Kept(Path(kept)), "kept")
