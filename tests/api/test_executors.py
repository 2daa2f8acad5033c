"""Copies between stores whose blobs an executor sends: as without one, or a clear error."""

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest

import holdfast
from holdfast.api import transferring
from holdfast.api.spreading import as_done
from holdfast.errors import Corrupt, HoldfastError, UsageError


class Here(ThreadPoolExecutor):
    """Runs what it is given at once and counts it."""

    def __init__(self):
        super().__init__(1)
        self.done = 0

    def submit(self, function, *args):
        self.done += 1
        future = Future()
        future.set_result(function(*args))
        return future


@pytest.fixture(name="store")
def store_of_two_names(tmp_path, monkeypatch):
    monkeypatch.setattr(transferring, "_TASK", 2)
    store = holdfast.Store.create(tmp_path / "store")
    for number in range(3):
        for name in ("net", "other"):
            model = {"own": np.full(200, number), "shared": np.arange(400)}
            holdfast.save(model, name, store=store, params={"n": number})
    return store


@pytest.fixture(name="far")
def other_store(tmp_path):
    return holdfast.Store.create(tmp_path / "far")


ALL = [f"{name}@v{number}" for name in ("net", "other") for number in (1, 2, 3)]


def test_versions_arrive_in_their_order(store, far, tmp_path):
    executor = Here()
    done = store.push(ALL, far, executor=executor)
    assert executor.done == 3
    assert [sent.there for sent in done.versions] == ALL
    plain = store.push(ALL, tmp_path / "plain")
    assert done[2:5] == plain[2:5]
    assert all(each.proof == "state only" for each in far.verify().verified)
    assert store.push(ALL, far, executor=executor).size == 0
    assert executor.done == 3  # what is there is no work


@pytest.mark.slow
def test_processes_copy_a_history(store, far):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        done = far.pull(["net", "other"], store, history=True, executor=executor)
    assert [sent.there for sent in done.versions] == ALL
    logs = [list(each.catalogue.log.read_from("net", 1)) for each in (store, far)]
    assert logs[0] == logs[1]


def test_threads_meet_damage_and_it_is_told_once(store, far, damage):
    damage(holdfast.get("net@v2", store=store))
    with ThreadPoolExecutor(2) as executor, pytest.raises(HoldfastError) as caught:
        store.push(ALL, far, executor=executor)
    assert caught.value.exit_code == 3
    assert "net@v2 is not: " in caught.value.message
    assert sorted(info.number for info in far.catalogue.versions("net")) == [1, 2]
    with ThreadPoolExecutor(2) as executor, pytest.raises(Corrupt):
        store.push("net@v2", far, executor=executor)


def test_an_interruption_drops_what_has_not_begun(store, far, monkeypatch):
    class Waiting(Here):
        def submit(self, function, *args):
            if self.done:
                self.left = Future()
                return self.left
            return super().submit(function, *args)

    def interrupt(*_):
        raise KeyboardInterrupt

    executor = Waiting()
    monkeypatch.setattr(transferring, "counting", lambda *_, **__: nullcontext(interrupt))
    with pytest.raises(KeyboardInterrupt):
        store.push(ALL, far, executor=executor)
    assert executor.left.cancelled()
    assert far.catalogue.names() == []


@pytest.mark.slow
def test_workers_that_die_are_told_of():
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=context) as executor,
        pytest.raises(HoldfastError, match="workers died"),
    ):
        list(as_done(executor, os._exit, [(3,)]))


def test_what_is_no_executor_is_refused(store, far):
    for run in (
        lambda: store.push("net", far, executor=4),
        lambda: far.pull("net", store, executor=map),
        lambda: store.verify(executor="threads"),
        lambda: store.push("net", "oci://127.0.0.1:1/net:v1", executor=Here()),
        lambda: far.pull("oci://127.0.0.1:1/net:v1", executor=Here()),
    ):
        with pytest.raises(UsageError, match="executor="):
            run()


def test_what_is_no_executor_makes_no_store(store, tmp_path):
    for dry_run in (True, False):
        with pytest.raises(UsageError, match="executor="):
            store.push("net", tmp_path / "new", executor=4, dry_run=dry_run)
    assert not (tmp_path / "new").exists()
