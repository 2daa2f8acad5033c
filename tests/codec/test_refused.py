from __future__ import annotations

import collections
import datetime as dt
import enum
import functools
import io
import operator
import pathlib
import re
import threading
import types

import numpy as np
import pytest

from holdfast.codec import TYPES, encode
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import Unsupported


class Pipeline:
    """Stands for a registered estimator, as the frameworks' tables describe them."""

    def __init__(self, steps: object) -> None:
        self.steps = steps


class Step:
    def __init__(self, func: object) -> None:
        self.func = func


class Stranger:
    def __call__(self) -> None:
        """Be callable, yet no function."""


class Zone(dt.tzinfo):
    """Keeps its offset in code."""


class Shade(enum.Enum):
    DARK = 1


def spec_of(kind: type) -> TypeSpec:
    return TypeSpec(
        id=f"test.{kind.__name__}",
        locate=lambda: kind,
        classes=(f"{kind.__module__}:{kind.__qualname__}",),
        encode=vars,
    )


REGISTRY = Registry.of([*TYPES, spec_of(Pipeline), spec_of(Step)])


def named_function() -> None:
    """Be refused."""


def refusal(obj: object, label: str | None = None) -> Unsupported:
    with pytest.raises(Unsupported) as caught:
        encode(obj, REGISTRY, label=label)
    return caught.value


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda x: Pipeline([("scale", 1), ("log", Step(x))]), "pipeline.steps[1].func"),
        (lambda x: Pipeline([Step(x)]), "pipeline.steps[0].func"),
        (lambda x: Pipeline({"a": {2: x}}), "pipeline.steps['a'][2]"),
        (lambda x: Pipeline({("a", 1): [0, x]}), "pipeline.steps[('a', 1)][1]"),
        (lambda x: Pipeline({2**200: x}), f"pipeline.steps[{2**200:#x}]"),
        (lambda x: Pipeline((1, {"k": [x]})), "pipeline.steps[1]['k'][0]"),
        (lambda x: Pipeline(np.array([[None, x]], dtype=object)), "pipeline.steps[1]"),
        (lambda x: Pipeline(slice(None, x)), "pipeline.steps"),
        (lambda x: Pipeline({x}), "pipeline.steps[0]"),
        (lambda x: Pipeline({x: 1}), None),
        (lambda x: [1, [x]], "list[1][0]"),
        (lambda x: {"k": (x,)}, "dict['k'][0]"),
    ],
)
def test_the_message_begins_with_the_path(wrap, path) -> None:
    error = refusal(wrap(named_function))
    if path is not None:
        assert error.message == (
            f"{path} is the function named_function; code is never kept in a file."
        )
        assert error.ref == path
    assert "named_function" in error.message


FUNCTION_HINT = (
    "from steps import Step  # your module; Step.__call__ does what the function did\n"
    "holdfast.register(Step)  # before saving, and before loading; keep Step() in its place"
)


def test_the_six_words_of_a_lambda_in_a_pipeline() -> None:
    error = refusal(Pipeline([("scale", 1), ("log", Step(lambda x: x))]))
    first, second = FUNCTION_HINT.splitlines()
    assert str(error).splitlines() == [
        "pipeline.steps[1].func is a lambda; code is never kept in a file.",
        f"Try: {first}",
        f"     {second}",
    ]


def test_the_label_names_the_root() -> None:
    assert refusal(Pipeline(print), label="model").message.startswith("model.steps is ")
    assert refusal(print).message.startswith("builtin_function_or_method is the function print")


CODE = [
    lambda x: x,
    named_function,
    print,
    np.save,
    str.format,
    "".join,
    Stranger().__call__,
    functools.lru_cache(named_function),
]
STRANGERS = [
    Stranger(),
    Stranger,
    enum.Enum,
    Shade.DARK,
    Pipeline,
    functools.partial(print, 1),
    collections.namedtuple("Pair", "a b")(1, 2),  # noqa: PYI024 - the plain kind is the point
    types.MappingProxyType({}),
    collections.defaultdict(lambda: 0),
    collections.defaultdict(Stranger),
    operator.itemgetter("a"),
    operator.attrgetter("a"),
    operator.methodcaller("a"),
    pathlib.Path("/x"),
    dt.datetime(2026, 3, 3, tzinfo=Zone()),
    re.compile("x", re.DEBUG),
    re.compile("x" * 10_001),
    types.SimpleNamespace(**{"not a name": 1}),
    types.SimpleNamespace(__class=1),
    io.BytesIO(b"x"),
    threading.Lock(),
    (item for item in ()),
    iter([]),
    memoryview(b"x"),
    types,
    object(),
    NotImplemented,
    type("Text", (str,), {})("x"),
    type("Int", (int,), {})(1),
    type("List", (list,), {})(),
    type("Dict", (dict,), {})(),
]
NUMPY_STRANGERS = [
    np.rec.array([(1, 2.0)]),
    np.random.PCG64(1),
    np.poly1d([1, 2]),
]


@pytest.mark.parametrize("value", [*CODE, *STRANGERS, *NUMPY_STRANGERS], ids=lambda v: f"{v!r:.40}")
def test_refused_with_place_and_one_runnable_line(value) -> None:
    error = refusal({"outer": [0, value]}, label="model")
    assert error.message.startswith("model['outer'][1]")
    assert not re.search(r"0x[0-9a-f]{6}", str(error)), "an address differs at each run"
    hints = [line for line in str(error).splitlines() if line.startswith("Try: ")]
    assert len(hints) == 1
    assert "\n" not in error.message


@pytest.mark.parametrize("value", CODE, ids=lambda v: f"{v!r:.40}")
def test_code_is_called_code(value) -> None:
    error = refusal([value])
    assert error.message.endswith("code is never kept in a file.")
    assert error.hint == FUNCTION_HINT


def test_a_class_that_is_not_registered_is_told_how_to_be() -> None:
    error = refusal(Pipeline([Stranger()]))
    assert error.hint == (
        f"from {__name__} import Stranger\n"
        "holdfast.register(Stranger)  # before saving, and before loading"
    )
    assert re.fullmatch(
        r"pipeline\.steps\[0\] is a \S*Stranger, a class that is not registered\.", error.message
    )


def test_a_class_that_nobody_else_can_import_is_to_be_moved() -> None:
    class Local:
        pass

    here = type("Here", (), {"__module__": "__main__", "__qualname__": "Outer.Here"})
    for kind, name in ((Local, "Local"), (here, "Here")):
        error = refusal(Pipeline([kind()]))
        assert error.message.startswith("pipeline.steps[0] is a ")
        assert error.hint == (
            f"from steps import {name}  # move the class there first: what loads it must import it "
            f"too\nholdfast.register({name})  # before saving, and before loading"
        )


def test_two_nans_are_refused_as_what_they_are() -> None:
    for value in ({float("nan"): 1, float("nan"): 2}, {float("nan"), float("nan")}):
        error = refusal(Pipeline([value]))
        assert error.message.startswith("pipeline.steps[0]: NaN is a key or member twice")


def test_a_redefined_class_is_not_the_registered_one() -> None:
    impostor = type("Step", (), {"__module__": Step.__module__, "__qualname__": "Step"})()
    error = refusal(Pipeline([impostor]))
    assert error.message.startswith("pipeline.steps[0]: the class ")
    assert "probably redefined" in error.message
    assert error.hint


def test_a_subclass_is_another_type() -> None:
    class Finer(Step):
        pass

    assert "not registered" in refusal(Pipeline(Finer(1))).message


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]), "hold objects"),
        (np.array([1], dtype=np.longdouble), "depend on the platform"),
        (np.array([1], dtype=np.clongdouble), "depend on the platform"),
        (np.zeros(2, [(("title", "name"), "i4")]), "titles"),
        (np.longdouble(1), "depend on the platform"),
        (np.array([(1,)], dtype=[("a", "i4")])[0], "structured numpy scalar"),
        (np.void(b"ab"), "structured numpy scalar"),
    ],
    ids=lambda v: f"{v!r:.40}",
)
def test_dtypes_that_no_other_machine_can_read(array, words: str) -> None:
    error = refusal(Pipeline({"weights": [array]}))
    assert error.message.startswith("pipeline.steps['weights'][0]: ")
    assert words in error.message
    assert error.hint


def test_a_key_nested_beyond_measure_is_refused_and_not_a_crash() -> None:
    key: object = ()
    for _ in range(5_000):
        key = (key,)
    error = refusal({"table": {key: 1}}, label="model")
    assert error.message == "model['table']: a key or member is nested too deeply."


def test_a_path_of_a_hundred_thousand_steps_has_a_message() -> None:
    deep: object = named_function
    for _ in range(100_000):
        deep = [deep]
    error = refusal(deep)
    assert error.message.endswith(
        "[0] is the function named_function; code is never kept in a file."
    )
    assert len(error.message) < 5_000


def test_a_spec_that_gives_up_is_placed_once() -> None:
    def stop(_: object) -> dict[str, object]:
        raise Unsupported("it is shy.", hint="step.speak()")

    shy = TypeSpec(
        id="test.Step",
        locate=lambda: Step,
        classes=(f"{Step.__module__}:{Step.__qualname__}",),
        encode=stop,
    )
    with pytest.raises(Unsupported) as caught:
        encode({"a": [Step(1)]}, Registry.of([shy]), label="model")
    assert str(caught.value) == "model['a'][0]: it is shy.\nTry: step.speak()"
