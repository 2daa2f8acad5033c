"""What every adapter must do, as tests. See ``holdfast.testing`` for how to run them."""
# ruff: noqa: S101, S603, D102 - these are tests: they assert, start programs, and their names say it

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import holdfast
from holdfast import codec, frameworks
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import TensorView
from holdfast.errors import HoldfastError
from holdfast.frameworks import Adapter, LoadOptions, Opened, Payload
from holdfast.record import Structure

__all__ = ["AdapterConformance"]

_SEED: Final = 20_260_301
_PLAIN: Final = (None, 1, "text", [1, 2], {"a": 1}, np.arange(3))


class AdapterConformance:
    """Tests of an ``Adapter``; subclass it and provide the fixtures ``adapter`` and ``model``.

    ``adapter`` is the module that the entry point names, ``model`` a model ready to answer.
    ``inputs`` are rows for it, None where it has no output method. ``other`` is a model of the
    same type with other values, None where there is none. The adapter must be installed, or be
    one of ours: saving finds it by itself.
    """

    @pytest.fixture
    def adapter(self) -> Any:
        """Return the adapter under test."""
        raise NotImplementedError("override this fixture: return your adapter's module")

    @pytest.fixture
    def model(self) -> Any:
        """Return a model ready to answer."""
        raise NotImplementedError("override this fixture: return a fitted model")

    @pytest.fixture
    def inputs(self) -> Any:
        """Return rows for the model."""
        return None

    @pytest.fixture
    def other(self) -> Any:
        """Return a model of the same type with other values."""
        return None

    @pytest.fixture
    def whole(self, adapter: Any) -> Adapter:
        """Return the adapter with the usual ways where it has none of its own."""
        return frameworks.completed(adapter)

    @pytest.fixture
    def registry(self, whole: Adapter) -> Registry:
        """Return the registry of a save, with the adapter's types."""
        found = frameworks.registry()
        if any(spec.id not in found.by_id for spec in whole.TYPES):
            found.grow()
        return found

    def test_it_owns_its_model_and_no_plain_values(self, whole: Adapter, model: Any) -> None:
        assert whole.owns(model)
        assert not any(whole.owns(value) for value in _PLAIN)

    def test_a_save_finds_it(self, whole: Adapter, model: Any) -> None:
        assert frameworks.adapter_for(model).ID == whole.ID
        assert frameworks.adapter_named(whole.ID).ID == whole.ID

    def test_importing_it_imports_no_framework(
        self, adapter: Any, whole: Adapter, model: Any
    ) -> None:
        code = f"import {adapter.__name__}, sys; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        heavy = {*whole.requires(model)} - {"numpy"}
        assert not heavy & {*done.stdout.split()}

    def test_every_type_is_known_under_its_id(self, whole: Adapter, registry: Registry) -> None:
        for spec in whole.TYPES:
            assert registry.by_id[spec.id].classes == spec.classes

    def test_packing_twice_gives_the_same_bytes(
        self, whole: Adapter, model: Any, registry: Registry
    ) -> None:
        one, two = _bytes_of(whole.pack(model, registry)), _bytes_of(whole.pack(model, registry))
        assert one == two

    def test_what_comes_back_is_the_same(
        self, whole: Adapter, model: Any, inputs: Any, tmp_path: Path
    ) -> None:
        version = holdfast.save(model, "model", inputs=inputs, store=tmp_path / "store")
        again = holdfast.load("model", store=tmp_path / "store", replay="always")
        assert isinstance(again, type(model))
        found = whole.difference(model, again, frameworks.registry())
        assert found is None
        if inputs is not None:
            assert version.proof is not None
            assert version.proof.startswith("replayed")
            method = whole.methods(model)[0]
            assert _same(
                _answer(whole, model, method, inputs), _answer(whole, again, method, inputs)
            )

    def test_saving_what_was_loaded_gives_the_same_content(
        self, model: Any, inputs: Any, tmp_path: Path
    ) -> None:
        first = holdfast.save(model, "model", inputs=inputs, store=tmp_path / "store")
        again = holdfast.load("model", store=tmp_path / "store")
        second = holdfast.save(again, "model", inputs=inputs, store=tmp_path / "store")
        assert second.content_id == first.content_id

    def test_a_process_that_knows_nothing_proves_it(
        self, model: Any, inputs: Any, tmp_path: Path
    ) -> None:
        holdfast.save(model, "model", inputs=inputs, store=tmp_path / "store")
        words = ["verify", "model", "--store", str(tmp_path / "store")]
        done = subprocess.run(
            [sys.executable, "-m", "holdfast.cli.main", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def test_another_model_is_told_apart(self, whole: Adapter, model: Any, other: Any) -> None:
        assert other is None or whole.difference(model, other, frameworks.registry()) is not None

    def test_packing_and_calling_change_nothing(
        self, whole: Adapter, model: Any, inputs: Any, registry: Registry
    ) -> None:
        before = _bytes_of(whole.pack(model, registry))
        states = _global_states()
        if inputs is not None:
            method = whole.methods(model)[0]
            given = copy.deepcopy(inputs)
            _answer(whole, model, method, inputs)
            assert _same(given, inputs)
        assert _bytes_of(whole.pack(model, registry)) == before
        assert states == _global_states()

    def test_a_method_it_lacks_is_refused(self, whole: Adapter, model: Any, inputs: Any) -> None:
        with pytest.raises(HoldfastError):
            whole.predict(model, "no_such_method", inputs)

    def test_made_up_inputs_are_always_the_same(self, whole: Adapter, model: Any) -> None:
        one, two = (whole.synthetic(model, 8, _SEED) for _ in range(2))
        assert _same(one, two)

    def test_damage_is_refused_or_harmless(
        self, whole: Adapter, model: Any, registry: Registry
    ) -> None:
        payload = whole.pack(model, registry)
        for damaged in _damaged(payload):
            try:
                whole.unpack(_opened(damaged, registry), registry, LoadOptions())
            except HoldfastError:
                continue

    def test_every_export_is_written(self, whole: Adapter, model: Any, tmp_path: Path) -> None:
        for name, write in whole.WRITES.items():
            target = tmp_path / name
            try:
                write(model, target)
            except HoldfastError:  # the format cannot hold this model, and says so
                continue
            assert target.exists(), f"{name} wrote nothing"

    def test_an_object_that_is_no_model_cannot_receive_it(
        self, whole: Adapter, model: Any, registry: Registry
    ) -> None:
        opened = _opened(whole.pack(model, registry), registry)
        with pytest.raises(HoldfastError):
            whole.unpack(opened, registry, LoadOptions(into=object()))


def _global_states() -> tuple[Any, list[int]]:
    return random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002 - the global one


def _answer(adapter: Adapter, model: Any, method: str, inputs: Any) -> Any:
    with adapter.steady(model):
        return adapter.predict(model, method, inputs)


def _same(one: Any, two: Any) -> bool:
    """Compare values as the codec sees them: bit for bit."""
    registry = frameworks.registry()
    sides = [codec.encode(value, registry) for value in (one, two)]
    data = [{n: bytes(t.load()) for n, t in side.tensors.items()} for side in sides]
    return sides[0].structure == sides[1].structure and data[0] == data[1]


def _bytes_of(payload: Payload) -> tuple[Structure, dict[str, bytes], dict[str, bytes]]:
    return (
        payload.structure,
        {name: bytes(data.load()) for name, data in payload.tensors.items()},
        {name: bytes(data) for name, data in payload.files.items()},
    )


def _opened(payload: Payload, registry: Registry) -> Opened:
    views = {
        name: TensorView(data.dtype, data.shape, memoryview(bytearray(data.load())))
        for name, data in payload.tensors.items()
    }
    return Opened(
        structure=payload.structure,
        audit=codec.audit(payload.structure, views, registry, payload.files),
        tensors=views,
        files={name: memoryview(bytes(data)) for name, data in payload.files.items()},
        facts=payload.facts,
    )


def _damaged(payload: Payload) -> Iterator[Payload]:
    """Yield versions of a payload with one thing wrong: a file cut, a field of an object gone."""
    for name, data in payload.files.items():
        for end in (0, len(data) // 2, len(data) - 1):
            files = {**payload.files, name: bytes(data[:end])}
            yield Payload(structure=payload.structure, tensors=payload.tensors, files=files)
    nodes = payload.structure.nodes
    for place, node in enumerate(nodes):
        if node[0] not in ("str", "int", "float", "bool"):
            continue
        for value in (("none",), ("str", "no such thing"), ("int", -1), ("float", "nan")):
            changed = (*nodes[:place], value, *nodes[place + 1 :])
            structure = Structure(
                types=payload.structure.types, nodes=changed, root=payload.structure.root
            )
            yield Payload(structure=structure, tensors=payload.tensors, files=payload.files)
