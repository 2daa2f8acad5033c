"""Running an ONNX model: onnxruntime on the CPU, one thread, repeatable, telling nobody."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import UsageError
from holdfast.frameworks.onnx import files as onnx_files, protos
from holdfast.frameworks.onnx.files import OnnxFile
from holdfast.plugins import import_extra
from holdfast.trust.onnx_graph import Described

__all__ = [
    "Session",
    "call",
    "can_run",
    "is_installed",
    "open_session",
    "opens",
    "run",
    "synthetic",
]

_LOG: Final = logging.getLogger("holdfast")
_MAX_BYTES: Final = 1_000_000
# A graph with loops may run for ever; it is stopped between two nodes.
_LONGEST: Final = 600.0
_PROVIDERS: Final = ["CPUExecutionProvider"]
_LOOPS: Final = frozenset({"Loop", "Scan", "SequenceMap"})

# Types of onnxruntime's inputs and of the items of its maps, to numpy's.
_DTYPES: Final = {
    "float16": np.float16, "float": np.float32, "double": np.float64, "int8": np.int8,
    "int16": np.int16, "int32": np.int32, "int64": np.int64, "uint8": np.uint8,
    "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64, "bool": np.bool_,
    "string": np.object_,
}  # fmt: skip


class Session(NamedTuple):
    """A model ready to run.

    Attributes:
        runtime: The ``onnxruntime.InferenceSession``.
        loops: Whether the graph has loops.
    """

    runtime: Any
    loops: bool


class _Newest:
    """The session made last, and of what: making one takes longer than a call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[OnnxFile, Session] | None = None

    def of(self, model: OnnxFile, make: Callable[[OnnxFile], Session]) -> Session:
        """Return the session of a model with just these bytes."""
        with self._lock:
            if self._held is None or not _is_same(self._held[0], model):
                self._held = (model, make(model))
            return self._held[1]


def _is_same(one: OnnxFile, other: OnnxFile) -> bool:
    mapped = all(one.files.get(name) is data for name, data in other.files.items())
    return mapped and len(one.files) == len(other.files) and one.data == other.data


_NEWEST: Final = _Newest()


def is_installed() -> bool:
    """Say whether onnxruntime is installed; imports nothing."""
    return importlib.util.find_spec("onnxruntime") is not None


def can_run(model: Any) -> bool:
    """Say whether a model can be run here: by its operators, its size and what is installed."""
    if not is_installed():
        _LOG.info("onnxruntime is not installed: an ONNX model is kept as state only")
        return False
    if protos.is_proto(model) and model.ByteSize() > onnx_files.MOST_BYTES:
        return False
    file = protos.file_of(model)
    described = onnx_files.describe(file.data)
    if described.reaching or described.unknown:
        return False
    named = {external.location for external in described.externals}
    return named <= file.files.keys() and (not named or _takes_files() or _fits(file))


def opens(model: Any) -> bool:
    """Say whether onnxruntime makes a session of a model."""
    try:
        return can_run(model) and _NEWEST.of(protos.file_of(model), open_session) is not None
    except UsageError:
        return False


def _runtime() -> Any:
    """Import onnxruntime, which tells its maker of its use unless it is told not to before."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    runtime = import_extra("onnxruntime", needed_for="Running an ONNX model")
    if hasattr(runtime, "disable_telemetry_events"):
        runtime.disable_telemetry_events()
    return runtime


def _takes_files() -> bool:
    """Say whether this onnxruntime takes the files beside a model as bytes."""
    return hasattr(_runtime().SessionOptions, "add_external_initializers_from_files_in_memory")


def _fits(file: OnnxFile) -> bool:
    return file.nbytes <= onnx_files.MOST_BYTES and importlib.util.find_spec("onnx") is not None


def open_session(file: OnnxFile) -> Session:
    """Make a session of judged bytes; the model never opens a file by itself.

    Raises:
        UsageError: The runtime refuses the model.
    """
    runtime = _runtime()
    described = onnx_files.describe(file.data)
    onnx_files.refuse_operators(described)
    files = onnx_files.neighbours(described, file.files)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    _bound_memory(options)
    data = bytes(file.data)
    if files and _takes_files():
        sizes = [memoryview(part).nbytes for part in files.values()]
        options.add_external_initializers_from_files_in_memory(
            list(files), list(files.values()), sizes
        )
    elif files:
        data = protos.proto_of(OnnxFile(file.data, files)).SerializeToString()
    try:
        session = runtime.InferenceSession(data, options, providers=_PROVIDERS, enable_fallback=0)
    except Exception as error:
        raise UsageError(
            f"onnxruntime {runtime.__version__} refuses the model: {error!s:.300}",
            hint='python -m pip install --upgrade "onnxruntime>=1.17"',
        ) from error
    return Session(session, _has_loops(described))


def _bound_memory(options: Any) -> None:
    """Have a session take its memory from what all sessions of Holdfast share, which is bounded."""
    if _memory_is_bounded():
        options.add_session_config_entry("session.use_env_allocators", "1")


@functools.lru_cache(maxsize=1)
def _memory_is_bounded() -> bool:
    """Bound what graphs may allocate to half of the machine's memory, once per process.

    A few bytes of a graph can ask for an array of any size.
    """
    runtime = _runtime()
    try:
        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        kinds = runtime.capi.onnxruntime_pybind11_state
        memory = runtime.OrtMemoryInfo(
            "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, kinds.OrtMemType.DEFAULT
        )
        runtime.create_and_register_allocator(memory, runtime.OrtArenaCfg({"max_mem": half}))
    except Exception as error:  # noqa: BLE001 - a runtime without it, or the program made its own
        _LOG.info("the memory of ONNX graphs is not bounded: %s", str(error)[:200])
        return False
    return True


def _has_loops(described: Described) -> bool:
    return not _LOOPS.isdisjoint(described.operators)


def call(model: Any, inputs: Any) -> Any:
    """Run a model.

    Args:
        model: A ``ModelProto`` or ``OnnxFile``.
        inputs: A mapping of input names to arrays, a tuple of them in the graph's order, a table
            with a column per input or one wide enough for the only one, or an array for the only
            one. Numbers are brought to the declared type where that is of the same kind.

    Returns:
        The output, or a dictionary of them by name where there are several. A list of maps, as
        ZipMap makes, becomes a dictionary with an array per key.

    Raises:
        UsageError: The inputs are not the graph's, or it ran for too long.
    """
    session = _NEWEST.of(protos.file_of(model), open_session)
    wanted = session.runtime.get_inputs()
    pairs = _named(wanted, inputs)
    try:
        given = {each.name: _array(value, each) for each, value in pairs}
    except (TypeError, ValueError) as error:
        raise _not_inputs([each.name for each in wanted], f"{error!s:.200}") from error
    answers = _in_batches(session, given)
    outputs = session.runtime.get_outputs()
    plain = {
        each.name: _plain(answer, each.type) for each, answer in zip(outputs, answers, strict=True)
    }
    return next(iter(plain.values())) if len(plain) == 1 else plain


def _named(wanted: Sequence[Any], inputs: Any) -> list[tuple[Any, Any]]:
    """Pair the graph's inputs with what was given."""
    names = [each.name for each in wanted]
    if hasattr(inputs, "columns") and hasattr(inputs, "iloc"):
        if len(names) > 1 or list(inputs.columns) == names:
            inputs = {str(name): inputs[name].to_numpy()[:, None] for name in inputs.columns}
        else:
            inputs = inputs.to_numpy()
    if not isinstance(inputs, Mapping):
        parts = inputs if isinstance(inputs, tuple) else (inputs,)
        if len(parts) != len(names):
            raise _not_inputs(names, f"{len(parts)} given")
        return list(zip(wanted, parts, strict=True))
    if set(map(str, inputs)) != set(names):
        raise _not_inputs(names, f"given are {sorted(map(str, inputs))!r:.200}")
    return [(each, inputs[each.name]) for each in wanted]


def _not_inputs(names: Sequence[str], what: str) -> UsageError:
    return UsageError(
        f"The ONNX graph has the inputs {', '.join(names)}; {what}.",
        hint=f"predictor.predict({{{', '.join(f'{name!r}: ...' for name in names)}}})",
    )


def _array(value: Any, wanted: Any) -> Any:
    """Bring a value to the declared type of an input, where that loses no more than digits."""
    dtype = _DTYPES.get(str(wanted.type).removeprefix("tensor(").removesuffix(")"))
    if dtype is None or not str(wanted.type).startswith("tensor("):
        return value
    array = np.asarray(value)
    if dtype is np.object_:
        return array.astype(np.object_)
    loose = not hasattr(value, "dtype") or array.dtype == np.object_
    if array.dtype == dtype or not (loose or np.can_cast(array.dtype, dtype, "same_kind")):
        return array
    return array.astype(dtype)


def _in_batches(session: Session, given: Mapping[str, Any]) -> list[Any]:
    """Run once; a graph of a fixed number of rows as often as it takes, filled up with the last."""
    size, rows = _fixed_rows(session.runtime), _rows(given)
    if size is None or rows in (None, size, 0):
        return run(session, given)
    found = []
    for start in range(0, rows, size):
        take = np.minimum(np.arange(start, start + size), rows - 1)
        found.append(run(session, {name: array[take] for name, array in given.items()}))
    return [_joined(parts)[:rows] for parts in zip(*found, strict=True)]


def _joined(parts: Sequence[Any]) -> Any:
    """Put the rows of several answers together: arrays, or lists of maps."""
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    return np.concatenate(parts)


def _fixed_rows(runtime: Any) -> int | None:
    """Return the number of rows that every input and output is declared with, else None.

    A list of maps has no shape; it has a map for each row.
    """
    maps = [value for value in runtime.get_outputs() if str(value.type).startswith("seq(map(")]
    values = [v for v in (*runtime.get_inputs(), *runtime.get_outputs()) if v not in maps]
    firsts = {value.shape[0] if value.shape else None for value in values}
    tensors = all(str(value.type).startswith("tensor(") for value in values)
    first = firsts.pop() if len(firsts) == 1 and tensors else None
    return first if isinstance(first, int) and first > 0 else None


def _rows(given: Mapping[str, Any]) -> Any:
    rows = {value.shape[0] if getattr(value, "shape", ()) else None for value in given.values()}
    return rows.pop() if len(rows) == 1 else None


def run(session: Session, given: Mapping[str, Any]) -> list[Any]:
    """Run a session on arrays by input; raises ``UsageError``. A graph with loops is stopped."""
    options = _runtime().RunOptions()
    options.log_severity_level = 4
    watch = threading.Timer(_LONGEST, setattr, (options, "terminate", True))
    watch.daemon = True
    if session.loops:
        watch.start()
    try:
        answers: list[Any] = session.runtime.run(None, dict(given), options)
    except Exception as error:
        raise UsageError(
            f"onnxruntime does not run the graph on these inputs: {error!s:.300}",
            hint="hold show REF  # names, types and shapes of the inputs",
        ) from error
    finally:
        watch.cancel()
    return answers


def _plain(answer: Any, declared: str) -> Any:
    """Return a list of maps as one array per key, anything else as it is."""
    if not (declared.startswith("seq(map(") and answer and isinstance(answer[0], dict)):
        return answer
    item = declared.rpartition("tensor(")[2].rstrip(")")
    dtype = _DTYPES.get(item, np.object_)
    return {key: np.array([each[key] for each in answer], dtype) for key in answer[0]}


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs of the declared types and shapes; None where something is not declared.

    Args:
        model: The model.
        rows: Size of every dimension that has none of its own; fewer above 1 MB.
        seed: Of the generator.
    """
    try:
        wanted = _NEWEST.of(protos.file_of(model), open_session).runtime.get_inputs()
    except UsageError:
        return None
    for count in (rows, 8, 1):
        generator = np.random.default_rng(seed)
        made = {}
        for each in wanted:
            value = _made(each, count, generator)
            if value is None:
                return None
            made[each.name] = value
        if made and sum(value.nbytes for value in made.values()) <= _MAX_BYTES:
            return _answered(model, made)
    return None


def _answered(model: Any, made: dict[str, Any]) -> Any | None:
    """Return made-up inputs if they, and the first rows of them, go through the model."""
    try:
        for rows in (None, 8):
            call(
                model,
                {name: value[:rows] if value.shape else value for name, value in made.items()},
            )
    except UsageError:
        return None
    return next(iter(made.values())) if len(made) == 1 else made


def _made(wanted: Any, rows: int, generator: np.random.Generator) -> Any | None:
    dtype = _DTYPES.get(str(wanted.type).removeprefix("tensor(").removesuffix(")"))
    if dtype is None or wanted.shape is None:
        return None
    shape = [size if isinstance(size, int) and size >= 0 else rows for size in wanted.shape]
    if int(np.prod(np.array(shape, dtype=object), initial=1)) > _MAX_BYTES:
        return np.broadcast_to(np.uint8(0), (_MAX_BYTES + 1,))  # too large, and no memory for it
    if dtype is np.object_:
        return np.full(shape, "a", dtype=object)
    if np.dtype(dtype).kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, size=shape).astype(dtype)
