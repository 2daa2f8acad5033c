"""Dates, times and time zones of the standard library, as text."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported

__all__ = ["TYPES", "zone_named"]

_CLOCK: Final = r"[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}"
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(_CLOCK)
_MOMENT: Final = re.compile(rf"{_DATE.pattern}T{_CLOCK}")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}")
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def zone_named(key: Any) -> ZoneInfo:
    """Return the time zone of the system's database that a file names.

    Raises:
        Corrupt: It is not the form of such a name.
        EnvironmentMismatch: The database here has no such zone.
    """
    if type(key) is not str or not _ZONE.fullmatch(key):
        raise Corrupt(f"{key!r:.60} is not the name of a time zone")
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError) as error:
        raise EnvironmentMismatch(
            f"The file needs the time zone {key!r}, which the database here lacks.",
            hint="python -m pip install tzdata",
        ) from error


def _text(value: Any, form: re.Pattern[str]) -> str:
    if type(value) is not str or not form.fullmatch(value):
        raise Corrupt(f"{value!r:.60} is not a date or time")
    return value


def _encode_clock(value: dt.datetime | dt.time) -> dict[str, Any]:
    bare = value.replace(tzinfo=None, fold=0)
    return {
        "value": bare.isoformat(timespec="microseconds"),
        "fold": value.fold,
        "tz": value.tzinfo,
    }


def _clock(bare: Any, fields: Mapping[str, Any]) -> Any:
    fold, zone = fields["fold"], fields["tz"]
    if type(fold) is not int or (zone is not None and type(zone) not in (dt.timezone, ZoneInfo)):
        raise Corrupt("a time has an unknown fold or zone")
    return bare.replace(fold=fold, tzinfo=zone)


def _build_date(fields: Mapping[str, Any]) -> Any:
    return dt.date.fromisoformat(_text(fields["value"], _DATE))


def _build_datetime(fields: Mapping[str, Any]) -> Any:
    return _clock(dt.datetime.fromisoformat(_text(fields["value"], _MOMENT)), fields)


def _build_time(fields: Mapping[str, Any]) -> Any:
    return _clock(dt.time.fromisoformat(_text(fields["value"], _TIME)), fields)


def _build_delta(fields: Mapping[str, Any]) -> Any:
    parts = {name: fields[name] for name in ("days", "seconds", "microseconds")}
    if any(type(part) is not int for part in parts.values()):
        raise Corrupt("a timedelta is not made of whole numbers")
    delta = dt.timedelta(**parts)
    if any(getattr(delta, name) != part for name, part in parts.items()):
        raise Corrupt("a timedelta is not in its normal form")
    return delta


def _encode_delta(delta: dt.timedelta) -> dict[str, Any]:
    return {"days": delta.days, "seconds": delta.seconds, "microseconds": delta.microseconds}


def _encode_timezone(zone: dt.timezone) -> dict[str, Any]:
    offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
    return {"microseconds": offset // _MICROSECOND, "name": name[0] if name else None}


def _build_timezone(fields: Mapping[str, Any]) -> Any:
    size, name = fields["microseconds"], fields["name"]
    if type(size) is not int or type(name) not in (str, type(None)):
        raise Corrupt("a time zone is not an offset with a name")
    offset = size * _MICROSECOND
    return dt.timezone(offset) if name is None else dt.timezone(offset, name)


def _encode_zone(zone: ZoneInfo) -> dict[str, Any]:
    if zone.key is None or not _ZONE.fullmatch(zone.key):
        raise Unsupported(
            "a time zone that was not taken by its name from the system's database.",
            hint='zoneinfo.ZoneInfo("Europe/Berlin")',
        )
    return {"key": zone.key}


def _spec(kind: type, encode: Any, build: Any, fields: str) -> TypeSpec:
    names = frozenset(fields.split())
    return TypeSpec(
        id=f"{kind.__module__}.{kind.__qualname__}",
        locate=lambda: kind,
        classes=(f"{kind.__module__}:{kind.__qualname__}",),
        encode=encode,
        build=build,
        fields=names,
        required=names,
    )


TYPES: Final = (
    _spec(dt.date, lambda date: {"value": date.isoformat()}, _build_date, "value"),
    _spec(dt.datetime, _encode_clock, _build_datetime, "value fold tz"),
    _spec(dt.time, _encode_clock, _build_time, "value fold tz"),
    _spec(dt.timedelta, _encode_delta, _build_delta, "days seconds microseconds"),
    _spec(dt.timezone, _encode_timezone, _build_timezone, "microseconds name"),
    _spec(ZoneInfo, _encode_zone, lambda fields: zone_named(fields["key"]), "key"),
)
