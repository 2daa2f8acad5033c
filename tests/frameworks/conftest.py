import msgspec
import pytest

from holdfast.record import Structure, canonical, parse_json


class Keeper:
    """Functions under short names; a plain class, so that its repr stays short."""

    def __init__(self, **functions):
        vars(self).update(functions)


@pytest.fixture(scope="session")
def torch_keeper():
    """Pack, unpack and round trip through the torch adapter, with tensors in private memory."""
    pytest.importorskip("torch", reason="torch is not installed")
    from holdfast import codec
    from holdfast.codec.registry import Registry
    from holdfast.codec.tensors import TensorView
    from holdfast.frameworks import torch as adapter
    from holdfast.frameworks.base import LoadOptions, Opened

    registry = Registry.of([*codec.TYPES, *adapter.TYPES])

    def view(data, *, readonly=False):
        loaded = data.load()
        assert len(loaded) == data.nbytes
        content = bytes(loaded) if readonly else bytearray(loaded)
        return TensorView(data.dtype, data.shape, memoryview(content))

    def written(structure):
        return msgspec.convert(
            parse_json(canonical(msgspec.to_builtins(structure)), "it"), Structure
        )

    def opened(payload, *, readonly=False):
        tensors = {name: view(d, readonly=readonly) for name, d in payload.tensors.items()}
        return forged(written(payload.structure), tensors, payload.facts)

    def forged(structure, tensors, facts):
        audit = codec.audit(structure, tensors, registry)
        return Opened(structure=structure, audit=audit, tensors=tensors, files={}, facts=facts)

    def pack(model):
        return adapter.pack(model, registry)

    def unpack(payload, *, readonly=False, **options):
        return adapter.unpack(opened(payload, readonly=readonly), registry, LoadOptions(**options))

    return Keeper(
        pack=pack,
        unpack=unpack,
        roundtrip=lambda model, **options: unpack(pack(model), **options),
        registry=registry,
        opened=opened,
        forged=forged,
    )
