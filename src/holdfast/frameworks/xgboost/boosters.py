"""The booster of XGBoost: native UBJSON, and beside it the settings that training would go on with.

The native file keeps trees, names, types and categories of features, and attributes. Learning
rate, depth, threads and the like are in the booster's configuration, which XGBoost itself takes
back from the same release only (``LearnerConfiguration::LoadConfig`` in ``src/learner.cc``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from holdfast.codec.tensors import FileData
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.frameworks.xgboost.judge import (
    Judged,
    judge_json,
    judge_objective,
    judge_ubj,
    unique,
)
from holdfast.frameworks.xgboost.leaves import with_tables
from holdfast.plugins import import_extra

__all__ = ["build", "encode", "from_json", "from_ubj", "state"]

_MOST_CONFIG: Final = 1 << 22
_MOST_THREADS: Final = 1024
_DEPTH: Final = 8
_TABLES_SINCE: Final = (3, 2)
# A base score for each output; earlier releases have one, and misread the list without a word.
_INTERCEPTS_SINCE: Final = (3, 1)
# Earlier releases set on the Python object what the native attributes say.
_TOLD: Final = ("best_iteration", "best_score", "best_ntree_limit")
# Parameters as the configuration spells them: words, numbers, and lists of lists of features.
_PARAMETER: Final = re.compile(r"[-+:._@A-Za-z0-9,() \[\]]*")


def encode(booster: Any) -> Mapping[str, Any]:
    """Return the native form; a handle that was never trained or loaded has none.

    Raises:
        Unsupported: The booster has no model yet.
    """
    try:
        data, config = bytes(booster.save_raw("ubj")), booster.save_config()
    except ValueError as error:  # XGBoostError
        raise Unsupported(
            f"the booster cannot write itself: {error!s:.120}",
            hint="holdfast.save(booster after training, name)",
        ) from error
    fields = {"model": FileData(".ubj", data), "config": config}
    attributes = {name: value for name, value in vars(booster).items() if name != "handle"}
    return {**fields, "attributes": attributes} if attributes else fields


def state(booster: Any) -> Mapping[str, Any]:
    """Return what two boosters must share: native bytes, settings, attributes of the object."""
    return encode(booster)


def build(fields: Mapping[str, Any]) -> Any:
    """Build a booster of its judged native form.

    Raises:
        Corrupt: The native file or the settings are damaged, or contradict each other.
    """
    data, attributes = fields["model"], fields.get("attributes", {})
    if type(attributes) is not dict or "handle" in attributes:
        raise Corrupt("a booster of XGBoost has impossible attributes")
    model, config = judge_ubj(data), fields["config"]
    version = _judged(config, model.learner)
    booster = _native(bytearray(data), model)
    if version == [*_installed()]:
        _configure(booster, config)
    told = {name: value for name, value in vars(booster).items() if name in _TOLD}
    for name in [name for name in vars(booster) if name != "handle"]:
        delattr(booster, name)  # some releases set what the native attributes say
    if version != [*_installed()]:
        attributes = told | {n: v for n, v in attributes.items() if not hasattr(type(booster), n)}
    vars(booster).update(attributes)
    return booster


def from_ubj(data: bytes) -> Any:
    """Read a model file in UBJSON; raises ``Corrupt`` or ``EnvironmentMismatch``."""
    return _unproven(bytearray(data), judge_ubj(data))


def from_json(data: bytes) -> Any:
    """Read a model file in JSON; raises ``Corrupt`` or ``EnvironmentMismatch``."""
    model, written = judge_json(data)
    return _unproven(bytearray(written), model)


def _unproven(data: bytearray, model: Judged) -> Any:
    """Read a file that comes without a proof: older releases misread newer ones without a word."""
    if model.version[:2] > _installed()[:2]:
        raise _mismatch(model, f">={model.version[0]}.{model.version[1]}")
    return _native(data, model)


def _native(data: bytearray, model: Judged) -> Any:
    """Let XGBoost read judged bytes.

    Raises:
        Corrupt: It refuses them all the same.
        EnvironmentMismatch: Another release of it is needed.
    """
    xgboost = import_extra("xgboost", needed_for="loading an XGBoost model")
    installed = _installed()
    # A native reader that looks for what is not there crashes.
    if model.tables is True and installed < _TABLES_SINCE:
        raise _mismatch(model, ">=3.2")
    if model.tables is False and installed >= _TABLES_SINCE:
        data, model = with_tables(data)
    if installed < _INTERCEPTS_SINCE:
        data = _with_one_intercept(data, model)
    booster = xgboost.Booster()
    try:
        booster.load_model(data)
    except xgboost.core.XGBoostError as error:
        if model.version > installed:
            raise _mismatch(model, f">={model.version[0]}.{model.version[1]}") from error
        raise Corrupt(f"XGBoost refuses the model: {_told(error)}") from error
    return booster


def _with_one_intercept(data: bytearray, model: Judged) -> bytearray:
    """Write the one base score as earlier releases do; raises EnvironmentMismatch for several."""
    text = model.learner["learner_model_param"].get("base_score", "")
    if not text.startswith("["):
        return data
    scores = {score.strip() for score in text.strip("[]").split(",")}
    written = _named("base_score", text)
    if len(scores) != 1 or data.count(written) != 1:
        raise _mismatch(model, f">={'.'.join(map(str, _INTERCEPTS_SINCE))}")
    return data.replace(written, _named("base_score", scores.pop()))


def _named(key: str, value: str) -> bytes:
    """Return a text of a table as XGBoost writes it in UBJSON."""
    return b"".join(
        mark + len(each).to_bytes(8, "big") + each.encode()
        for mark, each in ((b"L", key), (b"SL", value))
    )


def _mismatch(model: Judged, needed: str) -> EnvironmentMismatch:
    wrote, here = (".".join(map(str, version)) for version in (model.version, _installed()))
    return EnvironmentMismatch(
        f"The model was written by XGBoost {wrote}, and the {here} installed here cannot read it.",
        hint=f'python -m pip install "xgboost{needed}"',
    )


def _configure(booster: Any, config: str) -> None:
    xgboost = import_extra("xgboost", needed_for="loading an XGBoost model")
    try:
        booster.load_config(config)
        booster.num_boosted_rounds()  # settings are looked at when they are needed first
    except xgboost.core.XGBoostError as error:
        raise Corrupt(f"XGBoost refuses the settings of the model: {_told(error)}") from error


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else "no reason"


def _installed() -> tuple[int, ...]:
    version: str = import_extra("xgboost", needed_for="loading an XGBoost model").__version__
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _judged(config: Any, learner: Mapping[str, Any]) -> Any:
    """Require settings that belong to the model, and return the release that wrote them."""
    if not isinstance(config, str) or len(config) > _MOST_CONFIG:
        raise Corrupt("the settings of an XGBoost model are no text, or a very long one")
    try:
        document = json.loads(config, object_pairs_hook=unique)
        settings = document["learner"]
        _require_plain(settings, 0)
        _require_few_threads(settings["generic_param"])
        classes = int(learner["learner_model_param"].get("num_class", "0"))
        judge_objective(settings["objective"], classes)
        belongs = (
            settings["learner_model_param"] == learner["learner_model_param"]
            and settings["objective"]["name"] == learner["objective"]["name"]
            and settings["gradient_booster"]["name"] == learner["gradient_booster"]["name"]
        )
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"the settings of an XGBoost model are damaged: {error!r:.80}") from error
    if not belongs:
        raise Corrupt("the settings of an XGBoost model belong to another model")
    return document.get("version")


def _require_plain(value: Any, depth: int) -> None:
    """Require tables and lists of words and numbers, nested as XGBoost nests them."""
    if depth > _DEPTH:
        raise Corrupt("the settings of an XGBoost model are nested too deeply")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _require_plain(item, depth + 1)
    elif isinstance(value, str) and (not _PARAMETER.fullmatch(value) or "[[[" in value):
        raise Corrupt(f"an XGBoost model has the impossible setting {value!r:.40}")


def _require_few_threads(params: Mapping[str, str]) -> None:
    for name in ("nthread", "n_jobs"):
        if abs(int(params.get(name, "0"))) > _MOST_THREADS:
            raise Corrupt("an XGBoost model asks for an impossible number of threads")
