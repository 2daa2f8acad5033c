"""Functions as values: known ones by identity, look-alikes and code never."""

from __future__ import annotations

import functools
import operator
import subprocess
import sys
import types

import numpy as np
import pytest

from holdfast.codec import encode
from holdfast.codec.function_table import FUNCTIONS, UFUNCS
from holdfast.codec.functions import function_named, name_of
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.record import Structure

# What a function of the table must never do is told by words in its name.
DANGEROUS = {"load", "save", "eval", "exec", "open", "import", "getattr", "print", "input", "put"}


def here() -> dict[str, object]:
    """Return the functions of the table that the installed packages have."""
    found = {}
    for name, (module, _) in FUNCTIONS.items():
        pytest.importorskip(module)
        try:
            found[name] = function_named(name)
        except EnvironmentMismatch:
            continue
    return found


def test_nearly_all_of_the_table_is_here_and_comes_back_as_the_same_object(round_trip) -> None:
    found = here()
    assert len(found) > 0.95 * len(FUNCTIONS)
    functions = list(found.values())
    assert all(map(operator.is_, functions, round_trip(functions)))
    assert {name for name, function in found.items() if name_of(function) != name} == set()


def test_every_ufunc_of_numpy_is_there() -> None:
    own = {value.__name__ for value in vars(np).values() if isinstance(value, np.ufunc)}
    assert own <= set(UFUNCS.split())
    aliases = {getattr(np, name) for name in dir(np) if isinstance(getattr(np, name), np.ufunc)}
    assert all(name_of(function).startswith("numpy.") for function in aliases)


def test_every_function_that_scores_is_there() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    makers = {"check_scoring", "get_scorer", "get_scorer_names", "make_scorer"}
    own = [
        getattr(metrics, name)
        for name in metrics.__all__
        if name not in makers and not name.startswith("pairwise_distances")
    ]
    own += [*pairwise.PAIRWISE_KERNEL_FUNCTIONS.values(), *pairwise.PAIRED_DISTANCES.values()]
    own += [item for item in pairwise.PAIRWISE_DISTANCE_FUNCTIONS.values() if item is not None]
    assert [item for item in own if type(item) is types.FunctionType and not name_of(item)] == []


def test_nothing_that_acts_stands_in_the_table() -> None:
    words = {word for name in FUNCTIONS for word in name.replace(".", "_").split("_")}
    assert not words & DANGEROUS
    assert {module.partition(".")[0] for module, _ in FUNCTIONS.values()} == {
        "builtins", "math", "numpy", "scipy", "sklearn",
    }  # fmt: skip


def look_alike() -> types.FunctionType:
    def mean(values: object) -> object:
        return values

    mean.__module__, mean.__qualname__ = "numpy", "mean"
    return mean


@pytest.mark.parametrize(
    "function",
    [
        look_alike(),
        np.frompyfunc(abs, 1, 1),
        np.vectorize(abs),
        "".join,
        [].append,
        np.save,
        eval,
        getattr,
        functools.lru_cache(len),
        operator.add,
    ],
    ids=lambda function: f"{function!r:.30}",
)
def test_other_functions_are_refused(function, registry) -> None:
    with pytest.raises(Unsupported) as caught:
        encode({"step": function}, registry, label="model")
    assert str(caught.value).startswith("model['step'] is ")
    assert "\nTry: " in str(caught.value)


def test_a_partial_keeps_its_arguments(round_trip) -> None:
    weights = np.array([1.0, 2.0])
    graph = [functools.partial(np.average, axis=0, weights=weights), weights]
    again, kept = round_trip(graph)
    assert type(again) is functools.partial
    assert again.func is np.average
    assert again.keywords["weights"] is kept
    assert again([1.0, 4.0]) == graph[0]([1.0, 4.0])
    nested = round_trip(functools.partial(functools.partial(np.clip, a_min=0), a_max=1))
    assert nested([-1, 5]).tolist() == [0, 1]


def test_partials_of_code_are_refused(registry) -> None:
    noted = functools.partial(np.mean, axis=0)
    noted.note = "mine"
    cases = {"a partial of print": functools.partial(print, 1), "attribute 'note'": noted}
    for words, partial in cases.items():
        with pytest.raises(Unsupported, match=words) as caught:
            encode([partial], registry)
        assert str(caught.value).startswith("list[0]: ")
        assert caught.value.hint


@pytest.mark.parametrize(
    ("nodes", "error"),
    [
        ([["object", 0, {"name": 1}], ["str", "os.system"]], EnvironmentMismatch),
        ([["object", 0, {"name": 1}], ["str", "numpy.save"]], EnvironmentMismatch),
        ([["object", 0, {"name": 1}], ["str", "numpy.linalg"]], EnvironmentMismatch),
        ([["object", 0, {"name": 1}], ["none"]], Corrupt),
        ([["object", 0, {"name": 1}], ["list", []]], Corrupt),
    ],
)
def test_a_file_can_ask_for_nothing_else(nodes, error, build) -> None:
    with pytest.raises(error):
        build(Structure(types=("function",), nodes=nodes, root=0), {})


def test_a_function_that_an_older_package_lacks_is_told(monkeypatch) -> None:
    monkeypatch.delattr(np, "cbrt")
    with pytest.raises(EnvironmentMismatch, match="the numpy installed here lacks") as caught:
        function_named("numpy.cbrt")
    assert caught.value.hint == "python -m pip install --upgrade numpy"


def test_the_codec_imports_no_framework_and_neither_does_looking_for_a_name() -> None:
    code = (
        "import sys; from holdfast.codec import TYPES, encode; "
        "from holdfast.codec.registry import Registry; import numpy; "
        "encode([numpy.add, len, str.split], Registry.of(TYPES)); "
        "sys.exit(' '.join({'scipy', 'pandas', 'sklearn', 'torch'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
