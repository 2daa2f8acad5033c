"""What to make of calls in pickles of scikit-learn's and scipy's compiled and special classes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from holdfast.codec.encode import Path
from holdfast.codec.sparse import TYPES as SPARSE
from holdfast.codec.splines import TYPES as SPLINES
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks.sklearn.losses import TYPES as LOSSES
from holdfast.rescue.graph import Graph, Recipe, arguments_of, key_of, named, state_of
from holdfast.trust.pickles import Call

__all__ = ["RECIPES"]

_TREES: Final = ("sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree")
_DISTANCES: Final = "sklearn.metrics._dist_metrics"
_COMPILED: Final = ("sklearn._loss._loss", "_loss", "sklearn.linear_model._sgd_fast")
_VECTORIZE: Final = ("numpy:vectorize", "numpy.lib.function_base:vectorize")
_LINKS: Final = "sklearn._loss.link"

# Loss to the link that its constructor gives it.
_LINK_OF: Final = {
    "HalfSquaredError": "IdentityLink",
    "AbsoluteError": "IdentityLink",
    "PinballLoss": "IdentityLink",
    "HuberLoss": "IdentityLink",
    "HalfPoissonLoss": "LogLink",
    "HalfGammaLoss": "LogLink",
    "HalfTweedieLoss": "LogLink",
    "HalfTweedieLossIdentity": "IdentityLink",
    "HalfBinomialLoss": "LogitLink",
    "HalfMultinomialLoss": "MultinomialLogit",
    "ExponentialLoss": "HalfLogitLink",
}


def _tree(graph: Graph, raw: Call, path: Path) -> Any:
    """Take a decision tree: its sizes, and the state that holds its nodes."""
    width, classes, outputs = (graph.make(part, path) for part in arguments_of(raw, 3))
    made = graph.cast.instance("sklearn.tree._tree:Tree")
    state = graph.fill_dict({}, named(state_of(raw)).items(), path)
    vars(made).update(n_features=width, n_classes=classes, n_outputs=outputs, state=state)
    return made


def _new_object(graph: Graph, raw: Call, path: Path) -> Any:
    """Take a neighbours' tree or a distance: what ``cls.__new__`` makes, with a tuple as state."""
    (kind,) = arguments_of(raw, 1)
    key, home = key_of(kind) or "", (key_of(raw.function) or "").partition(":")[0]
    module, _, name = key.partition(":")
    known = graph.cast.spec(key) is not None or (module == _DISTANCES and "Distance" in name)
    state = state_of(raw)
    if module != home or not known or type(state) is not tuple:
        raise Unsupported(f"it would make a {key.replace(':', '.'):.200} with an unknown state.")
    made = graph.cast.instance(key)
    vars(made)["state"] = graph.make(state, path)
    return made


def _compiled_loss(graph: Graph, raw: Call, path: Path) -> Any:
    """Take the compiled half of a loss: its parameters are its arguments."""
    if state_of(raw) not in (None, ()):
        raise Corrupt("a compiled loss has a state")
    return _loss_of(graph, key_of(raw.function) or "", arguments_of(raw, 0, 1), path)


def _unpickled_loss(graph: Graph, raw: Call, path: Path) -> Any:
    """Take the compiled half of a loss as Cython writes it: class, checksum, state."""
    kind, _, state = arguments_of(raw, 3)
    later = state_of(raw)
    state = later if state is None else state
    named_by = (key_of(raw.function) or "").replace("__pyx_unpickle_", "")
    if key_of(kind) != named_by or type(state) is not tuple:
        raise Corrupt("a compiled loss is of another class than its graph")
    return _loss_of(graph, named_by, state, path)


def _loss_of(graph: Graph, key: str, numbers: tuple[Any, ...], path: Path) -> Any:
    made = graph.cast.instance(key)
    vars(made)["arguments"] = graph.make(numbers, path)
    return made


def _loss(graph: Graph, raw: Call, path: Path) -> Any:
    """Take a loss by its attributes, once its link is the one of its class."""
    made = graph.instance(raw, path)

    def judge() -> None:
        link = type(vars(made).get("link"))
        if link.__module__ != _LINKS or link.__qualname__ != _LINK_OF[type(made).__qualname__]:
            raise Unsupported(f"{path}: a {type(made).__qualname__} has a link of its own.")

    graph.later(judge)
    return made


def _isotonic(graph: Graph, raw: Call, path: Path) -> Any:
    """Take an isotonic regression with the interpolator that it makes of its thresholds."""
    made = graph.instance(raw, path)

    def complete() -> None:
        own = vars(made)
        places, values = own.get("X_thresholds_"), own.get("y_thresholds_")
        if places is None:
            return
        if len(values) == 1:
            raise Unsupported(f"{path}: its one threshold is a function, which is code.")
        bounded = own.get("out_of_bounds") == "raise"
        own["f_"] = graph.cast.fields(
            "scipy.interpolate.interp1d",
            {
                "x": places.copy(), "y": values.copy(), "kind": "linear", "axis": 0, "copy": True,
                "bounds_error": bounded, "fill": np.array(np.nan),
            },
        )  # fmt: skip

    graph.later(complete)
    return made


def _attributes(graph: Graph, raw: Call, path: Path) -> Any:
    return graph.instance(raw, path)


def _spline(graph: Graph, raw: Call, path: Path) -> Any:
    """Take an interpolator; which array library it computes with is numpy's alone here."""
    return graph.instance(raw, path, leave=("_asarray",))


def _bunch(graph: Graph, raw: Call, path: Path) -> Any:
    """Take a Bunch by its items; scikit-learn ignores what state it has."""
    if raw.arguments != () or raw.keywords or raw.appended or raw.added:
        raise Corrupt("a Bunch is made of something else than items")
    items = graph.fill_dict({}, raw.items, path)
    for state in raw.states:
        graph.make(state, path)
    return graph.cast.fields("sklearn.Bunch", {"items": items})


def _triplet(graph: Graph, raw: Call, path: Path) -> Any:
    names = ("feat_idx", "neighbor_feat_idx", "estimator")
    parts = (graph.make(part, path) for part in arguments_of(raw, 3))
    return graph.cast.fields("sklearn._ImputerTriplet", dict(zip(names, parts, strict=True)))


def _frozen(graph: Graph, raw: Call, path: Path) -> Any:
    """Take a frozen distribution of scipy by name, once it is just scipy's own."""
    state = named(state_of(raw))
    own = state.get("dist")
    if type(own) is not Call or not own.new or raw.arguments != () or own.arguments != ():
        raise Corrupt("a frozen distribution has no distribution")
    graph.take(own)
    made_of = named(state_of(own))
    kind = "continuous" if "rv_continuous" in (key_of(raw.function) or "") else "discrete"
    keywords = named(state.get("kwds"))
    fields = {
        "name": made_of.get("name"),
        "args": graph.make(state.get("args"), path),
        "kwds": {name: graph.make(value, path) for name, value in keywords.items()},
        "random_state": None,
    }
    _require_own(graph, f"scipy.stats.rv_{kind}_frozen", fields, (own, made_of))
    fields["random_state"] = graph.make(made_of.get("_random_state"), path)
    _take_entropy(graph, own, made_of.get("vecentropy"), path)
    return graph.cast.fields(f"scipy.stats.rv_{kind}_frozen", fields)


def _take_entropy(graph: Graph, own: Call, raw: Any, path: Path) -> None:
    """Take the entropy of a discrete distribution, over arrays: scipy's own makes it anew."""
    if type(raw) is not Call or key_of(raw.function) not in _VECTORIZE or not raw.new:
        return
    state = named(state_of(raw))
    bound = state.pop("pyfunc", None)
    if type(bound) is not Call or key_of(bound.function) != "builtins:getattr":
        return
    if bound.arguments == (own, "_entropy"):
        graph.take(raw)
        graph.take(bound)
        graph.make([*state.values()], path)


def _require_own(
    graph: Graph, type_id: str, fields: dict[str, Any], found: tuple[Call, dict[str, Any]]
) -> None:
    """Refuse a distribution that is not made as scipy's of that name."""
    build = graph.cast.registry.by_id[type_id].build
    known: Any = build(fields).dist if build is not None else None
    call, made_of = found
    parts = {name: part for name, part in known._ctor_param.items() if name != "seed"}  # noqa: SLF001 - what pickling it keeps
    told = {
        name: part
        for name, part in named(made_of.get("_ctor_param")).items()
        if name in parts or not (name == "seed" or part is None)
    }
    key = f"{type(known).__module__}:{type(known).__qualname__}"
    if key_of(call.function) != key or repr(told) != repr(parts):
        raise Unsupported(f"the distribution {fields['name']!r:.60} is not scipy's own.")


def _classes(specs: Any) -> list[str]:
    return [name for spec in specs for name in spec.classes]


_LOSS_CLASSES: Final = _classes(LOSSES)
_HALVES: Final = [name for name in _LOSS_CLASSES if name.partition(":")[0] in _COMPILED]

RECIPES: Final[dict[str, Recipe]] = {
    "sklearn.tree._tree:Tree": _tree,
    **{f"{module}:newObj": _new_object for module in (*_TREES, _DISTANCES)},
    **dict.fromkeys(_LOSS_CLASSES, _loss),
    **dict.fromkeys(_HALVES, _compiled_loss),
    **{name.replace(":", ":__pyx_unpickle_"): _unpickled_loss for name in _HALVES},
    **dict.fromkeys((f"{_LINKS}:{name}" for name in {*_LINK_OF.values(), "Interval"}), _attributes),
    "sklearn.ensemble._hist_gradient_boosting.predictor:TreePredictor": _attributes,
    **dict.fromkeys(_classes(SPARSE), _attributes),
    **dict.fromkeys(_classes(SPLINES), _spline),
    "sklearn.isotonic:IsotonicRegression": _isotonic,
    "sklearn.utils:Bunch": _bunch,
    "sklearn.utils._bunch:Bunch": _bunch,
    "sklearn.impute._iterative:_ImputerTriplet": _triplet,
    "scipy.stats._distn_infrastructure:rv_continuous_frozen": _frozen,
    "scipy.stats._distn_infrastructure:rv_discrete_frozen": _frozen,
}
