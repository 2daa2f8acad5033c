"""Values of the standard library: containers, numbers, times, patterns, names."""

from __future__ import annotations

import enum
import re
from argparse import Namespace
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID, SafeUUID

from holdfast.codec.nodes import BUILTINS
from holdfast.codec.registry import TypeSpec
from holdfast.codec.times import TYPES as TIME_TYPES
from holdfast.errors import Corrupt, Unsupported

__all__ = ["TYPES", "enum_spec"]

_DECIMAL: Final = re.compile(
    r"-?([0-9]+(\.[0-9]+)?(E[+-]?[0-9]{1,18})?|Infinity|s?NaN[0-9]{0,18})", re.ASCII
)
_HEX: Final = re.compile(r"[0-9a-f]{32}")
_PATTERN_BYTES: Final = 10_000
# DEBUG would print while loading.
_FLAGS: Final = re.ASCII | re.IGNORECASE | re.LOCALE | re.MULTILINE | re.DOTALL | re.VERBOSE
_KNOWN_FLAGS: Final = int(_FLAGS | re.UNICODE)
_FRACTION_BITS: Final = 1 << 16


def _encode_deque(items: deque[Any]) -> dict[str, Any]:
    return {"items": list(items), "maxlen": items.maxlen}


def _build_deque(fields: Mapping[str, Any]) -> Any:
    items, maxlen = fields["items"], fields["maxlen"]
    if type(items) is not list or type(maxlen) not in (int, type(None)):
        raise Corrupt("a deque is not a list of items and a length")
    if maxlen is not None and len(items) > maxlen:
        raise Corrupt("a deque holds more than it may")
    return deque(items, maxlen)


def _encode_defaultdict(items: defaultdict[Any, Any]) -> dict[str, Any]:
    factory: Any = items.default_factory
    if factory is not None and not any(factory is known for known in BUILTINS.values()):
        raise Unsupported(
            f"the default factory {getattr(factory, '__qualname__', factory)!s:.100} is code, "
            "which is never kept in a file.",
            hint="collections.defaultdict(int, items)  # or list, dict, set, str, float, None",
        )
    return {"factory": factory, "items": dict(items)}


def _check_defaultdict(fields: Mapping[str, Any]) -> None:
    if fields["factory"].kind not in ("none", "builtin") or not fields["items"].is_dict:
        raise Corrupt("a defaultdict is not a built-in type and its items")


def _encode_counter(counter: Counter[Any]) -> dict[str, Any]:
    _bare(counter)
    return {"items": dict(counter)}


def _check_counter(fields: Mapping[str, Any]) -> None:
    if not fields["items"].is_dict:
        raise Corrupt("a Counter is not made of items")


def _build_counter(fields: Mapping[str, Any]) -> Any:
    counter: Counter[Any] = Counter()
    dict.update(counter, fields["items"])
    return counter


def _bare(obj: Any) -> None:
    if vars(obj):
        raise Unsupported(
            f"a {type(obj).__name__} has the attribute {min(vars(obj))!r} of its own.",
            hint=f"{type(obj).__name__}(items)",
        )


def _encode_namespace(namespace: SimpleNamespace | Namespace) -> dict[str, Any]:
    fields = vars(namespace)
    for name in fields:
        if not (isinstance(name, str) and name.isidentifier()) or name.startswith("__"):
            raise Unsupported(
                f"a {type(namespace).__name__} has the attribute {name!r:.100}, "
                "which is not a name.",
                hint="dict(vars(namespace))",
            )
    return fields


def _encode_pattern(pattern: re.Pattern[Any]) -> dict[str, Any]:
    if len(pattern.pattern) > _PATTERN_BYTES:
        raise Unsupported(
            f"a regular expression of more than {_PATTERN_BYTES:,} characters cannot be kept.",
            hint="[re.compile(part) for part in parts]",
        )
    if pattern.flags & ~_KNOWN_FLAGS:
        raise Unsupported(
            "a regular expression has flags beyond those that say what it matches.",
            hint="re.compile(pattern.pattern)",
        )
    return {"pattern": pattern.pattern, "flags": pattern.flags}


def _build_pattern(fields: Mapping[str, Any]) -> Any:
    pattern, flags = fields["pattern"], fields["flags"]
    if type(pattern) not in (str, bytes) or len(pattern) > _PATTERN_BYTES:
        raise Corrupt("a regular expression is not a text of bounded length")
    if type(flags) is not int or flags & ~_KNOWN_FLAGS:
        raise Corrupt("a regular expression has unknown flags")
    return re.compile(pattern, flags)


def _build_decimal(fields: Mapping[str, Any]) -> Any:
    value = fields["value"]
    if type(value) is not str or not _DECIMAL.fullmatch(value):
        raise Corrupt("a Decimal is not a number")
    return Decimal(value)


def _encode_fraction(fraction: Fraction) -> dict[str, Any]:
    parts = {"numerator": fraction.numerator, "denominator": fraction.denominator}
    if max(map(int.bit_length, parts.values())) > _FRACTION_BITS:
        raise Unsupported("a Fraction is too long to be kept.", hint="float(fraction)")
    return parts


def _build_fraction(fields: Mapping[str, Any]) -> Any:
    over, under = fields["numerator"], fields["denominator"]
    for part in (over, under):
        if type(part) is not int or part.bit_length() > _FRACTION_BITS:
            raise Corrupt("a Fraction is not made of whole numbers of bounded length")
    fraction = Fraction(over, under)
    if (fraction.numerator, fraction.denominator) != (over, under):
        raise Corrupt("a Fraction is not in lowest terms")
    return fraction


def _encode_uuid(value: UUID) -> dict[str, Any]:
    return {"hex": value.hex, "safe": value.is_safe.value}


def _build_uuid(fields: Mapping[str, Any]) -> Any:
    text, safe = fields["hex"], fields["safe"]
    if type(text) is not str or not _HEX.fullmatch(text) or type(safe) not in (int, type(None)):
        raise Corrupt("a UUID is not 32 hexadecimal digits")
    return UUID(hex=text, is_safe=SafeUUID(safe))


def _build_path(fields: Mapping[str, Any]) -> Any:
    text = fields["value"]
    if type(text) is not str or "\x00" in text:
        raise Corrupt("a path is not a text")
    return PurePosixPath(text)


def enum_spec(cls: type[enum.Enum], identifier: str) -> TypeSpec:
    """Describe an enumeration of the caller's: a member is kept by its name.

    Args:
        cls: The enumeration; the caller hands it over at save and at load.
        identifier: Its name in files.
    """
    return TypeSpec(
        id=identifier,
        locate=lambda: cls,
        classes=(f"{cls.__module__}:{cls.__qualname__}",),
        encode=_encode_member,
        build=partial(_build_member, cls),
        fields=frozenset({"name"}),
        required=frozenset({"name"}),
    )


def _encode_member(member: enum.Enum) -> dict[str, Any]:
    name = member.name
    if name is None or type(member).__members__.get(name) is not member:
        raise Unsupported(
            f"{member!r:.100} is a combination of flags, which has no name of its own.",
            hint=f"{type(member).__name__}(value)  # keep the value as a number",
        )
    return {"name": name}


def _build_member(cls: type[enum.Enum], fields: Mapping[str, Any]) -> enum.Enum:
    name = fields["name"]
    if type(name) is not str or name not in cls.__members__:
        raise Corrupt(f"{cls.__qualname__} has no member {name!r:.100}")
    return cls.__members__[name]


def _spec(kind: type, modules: tuple[str, ...], fields: str, **rest: Any) -> TypeSpec:
    names = frozenset(fields.split())
    return TypeSpec(
        id=f"{modules[0]}.{kind.__qualname__}",
        locate=lambda: kind,
        classes=tuple(f"{module}:{kind.__qualname__}" for module in modules),
        fields=names,
        required=names,
        **rest,
    )


def _encode_text(value: object) -> dict[str, Any]:
    return {"value": str(value)}


TYPES: Final = (
    _spec(
        deque,
        ("collections",),
        "items maxlen",
        encode=_encode_deque,
        build=_build_deque,
        transparent=frozenset({"items"}),
    ),
    _spec(
        defaultdict,
        ("collections",),
        "factory items",
        encode=_encode_defaultdict,
        check=_check_defaultdict,
        build=lambda fields: defaultdict(fields["factory"], fields["items"]),
        transparent=frozenset({"items"}),
    ),
    _spec(
        Counter,
        ("collections",),
        "items",
        encode=_encode_counter,
        check=_check_counter,
        build=_build_counter,
        transparent=frozenset({"items"}),
    ),
    TypeSpec(
        id="types.SimpleNamespace",
        locate=lambda: SimpleNamespace,
        classes=("types:SimpleNamespace",),
        encode=_encode_namespace,
    ),
    TypeSpec(
        id="argparse.Namespace",
        locate=lambda: Namespace,
        classes=("argparse:Namespace",),
        encode=_encode_namespace,
    ),
    _spec(re.Pattern, ("re",), "pattern flags", encode=_encode_pattern, build=_build_pattern),
    _spec(Decimal, ("decimal",), "value", encode=_encode_text, build=_build_decimal),
    _spec(
        Fraction,
        ("fractions",),
        "numerator denominator",
        encode=_encode_fraction,
        build=_build_fraction,
    ),
    _spec(UUID, ("uuid",), "hex safe", encode=_encode_uuid, build=_build_uuid),
    _spec(
        PurePosixPath,
        ("pathlib", "pathlib._local"),
        "value",
        encode=_encode_text,
        build=_build_path,
    ),
    *TIME_TYPES,
)
