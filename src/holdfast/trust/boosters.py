"""A light look at the files of boosters: what they are and what wrote them.

Whether a booster can be built of one is judged by its adapter, byte by byte; here it is told from
a file's beginning and end only. Sources of the formats: xgboost ``doc/tutorials/saving_model.rst``
and ``src/learner.cc``, LightGBM ``src/boosting/gbdt_model_text.cpp``, CatBoost
``catboost/libs/model/model.cpp`` (``SerializeModel``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.trust.source import Source

__all__ = ["BoosterFile", "kind_of_booster", "look"]

_HEAD: Final = 4096
_PART: Final = 1 << 16
_KIND: Final = {b"CBM1": "catboost", b"binf": "xgboost-binary", b"tree\n": "lightgbm"}

_JSON_BEGIN: Final = re.compile(rb"\{\s*\"(?:learner|version)\"\s*:\s*[\[{]")
_UBJ_BEGIN: Final = re.compile(rb"\{(?:L.{7}|l.{3}|[iU])[\x07](?:learner\{|version\[)", re.DOTALL)
_OBJECTIVE: Final = re.compile(rb"(?:reg|binary|multi|count|survival|rank):[a-z]{3,20}\Z")

_JSON_VERSION: Final = re.compile(
    rb'"version"\s*:\s*\[\s*(\d{1,5})\s*,\s*(\d{1,5})\s*,\s*(\d{1,5})'
)
_JSON_OBJECTIVE: Final = re.compile(rb'"objective"\s*:\s*\{\s*"name"\s*:\s*"([\w:]{1,40})"')
_JSON_FEATURES: Final = re.compile(rb'"num_feature"\s*:\s*"(\d{1,10})"')
_JSON_BOOSTER: Final = re.compile(rb'"name"\s*:\s*"(gbtree|gblinear|dart)"')
_UBJ_NUMBER: Final = rb"(?:[iU](.)|I(..)|l(....)|L(.{8}))"
_UBJ_VERSION: Final = re.compile(
    rb"version\[(?:\$[iUIlL])?#(?:L.{7}|[iUl]|l.{3})\x03" + _UBJ_NUMBER * 3, re.DOTALL
)
_UBJ_OBJECTIVE: Final = re.compile(
    rb"objective\{L.{7}\x04nameSL.{8}([a-z]{3,10}:[a-z]+)", re.DOTALL
)
_UBJ_BOOSTER: Final = re.compile(rb"nameSL.{8}(gbtree|gblinear|dart)", re.DOTALL)

_TEXT_LINE: Final = re.compile(
    rb"^(version|objective|num_class|max_feature_idx|num_tree_per_iteration)=(.{0,80})$",
    re.MULTILINE,
)
_CATBOOST_VERSION: Final = re.compile(
    rb"(?:CatBoost release |Branch: tags/v)(\d{1,2}\.\d{1,3}(?:\.\d{1,3})?)"
)
_CATBOOST_LOSS: Final = re.compile(rb'"loss_function"\s*:\s*\{"type"\s*:\s*"(\w{1,40})"')


@dataclass(slots=True)
class BoosterFile:
    """What a file tells of itself.

    Attributes:
        framework: ``XGBoost``, ``LightGBM`` or ``CatBoost``.
        version: Of the package that wrote it, or None.
        facts: Objective, features and so on, as far as they are told.
        faults: What is damaged.
    """

    framework: str
    version: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[tuple[str, int | None]] = field(default_factory=list)


def kind_of_booster(head: bytes) -> str | None:
    """Tell the kind of a booster's file by its first bytes, or None."""
    marked = next((kind for magic, kind in _KIND.items() if head.startswith(magic)), None)
    if marked is not None:
        return marked
    if _UBJ_BEGIN.match(head):
        return "xgboost-ubj"
    if _JSON_BEGIN.match(head.lstrip()) and b'"learner"' in head:
        return "xgboost-json"
    # Before 1.0: 136 bytes of parameters, then the length and the name of the objective.
    length = int.from_bytes(head[136:144], "little")
    named = 5 < length < 60 and _OBJECTIVE.match(head[144 : 144 + length])
    return "xgboost-binary" if named else None


def look(source: Source, kind: str) -> BoosterFile:
    """Read the beginning and the end of a booster's file; nothing is raised for its content."""
    head = source.read(0, _PART)
    tail = source.read(max(0, source.size - _PART), _PART)
    return _LOOKS[kind](head, tail, source)


def _json(head: bytes, tail: bytes, source: Source) -> BoosterFile:
    found = BoosterFile("XGBoost")
    version = _JSON_VERSION.search(tail) or _JSON_VERSION.search(head)
    if version is not None:
        found.version = ".".join(str(int(part)) for part in version.groups())
    if version is None or not tail.rstrip().endswith(b"}"):
        found.faults.append(("it does not end as a booster does: cut short", source.size))
    _facts(found, head + tail, objective=_JSON_OBJECTIVE, booster=_JSON_BOOSTER)
    features = _JSON_FEATURES.search(tail) or _JSON_FEATURES.search(head)
    if features is not None:
        found.facts["features"] = int(features[1])
    return found


def _ubj(head: bytes, tail: bytes, source: Source) -> BoosterFile:
    found = BoosterFile("XGBoost")
    version = _UBJ_VERSION.search(tail) or _UBJ_VERSION.search(head)
    if version is not None:
        parts = [part for part in version.groups() if part is not None]
        found.version = ".".join(str(int.from_bytes(part, "big")) for part in parts)
    if version is None or not tail.endswith(b"}"):
        found.faults.append(("it does not end as a booster does: cut short", source.size))
    _facts(found, head + tail, objective=_UBJ_OBJECTIVE, booster=_UBJ_BOOSTER)
    return found


def _facts(found: BoosterFile, data: bytes, **patterns: re.Pattern[bytes]) -> None:
    for name, pattern in patterns.items():
        match = pattern.search(data)
        if match is not None:
            found.facts[name] = match[1].decode("ascii", "replace")


def _binary(head: bytes, tail: bytes, source: Source) -> BoosterFile:  # noqa: ARG001 - all alike
    found = BoosterFile("XGBoost")
    start = 4 if head.startswith(b"binf") else 0
    major, minor = (int.from_bytes(head[start + at : start + at + 4], "little") for at in (20, 24))
    # Releases before 1.0 left these bytes to chance.
    found.version = f"{major}.{minor}" if 0 < major < 3 and minor < 100 else None
    length = int.from_bytes(head[start + 136 : start + 144], "little")
    if length < 60:
        name = head[start + 144 : start + 144 + length]
        found.facts["objective"] = name.decode("ascii", "replace")
    return found


def _lightgbm(head: bytes, tail: bytes, source: Source) -> BoosterFile:
    found = BoosterFile("LightGBM")
    for key, value in _TEXT_LINE.findall(head):
        found.facts[key.decode()] = value.decode("utf-8", "replace").strip()
    if "version" not in found.facts:
        found.faults.append(("its first lines are not those of a booster", 0))
    if b"end of trees" not in tail and b"\nend of parameters" not in tail:
        found.faults.append(("it does not end as a booster does: cut short", source.size))
    return found


def _catboost(head: bytes, tail: bytes, source: Source) -> BoosterFile:
    found = BoosterFile("CatBoost")
    size = int.from_bytes(head[4:8], "little")
    if len(head) < 8 or size + 8 > source.size:
        found.faults.append((f"it claims {size} bytes and has {source.size}: cut short", 4))
    version = _CATBOOST_VERSION.search(head) or _CATBOOST_VERSION.search(tail)
    found.version = version[1].decode("ascii") if version is not None else None
    _facts(found, head, objective=_CATBOOST_LOSS)
    return found


_LOOKS: Final = {
    "catboost": _catboost,
    "lightgbm": _lightgbm,
    "xgboost-binary": _binary,
    "xgboost-json": _json,
    "xgboost-ubj": _ubj,
}
