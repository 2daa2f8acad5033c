"""Time zones and frequencies of pandas, as the texts that pandas itself gives them."""

from __future__ import annotations

import re
from typing import Any, Final

from holdfast.codec.times import zone_named
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.plugins import import_extra

__all__ = [
    "UNITS",
    "freq_of",
    "freq_text",
    "pandas",
    "period_dtype",
    "period_text",
    "zone_of",
    "zone_text",
]

# What pandas counts time in.
UNITS: Final = ("s", "ms", "us", "ns")

_OFFSET: Final = re.compile(r"UTC[+-][0-9]{2}:[0-9]{2}(:[0-9]{2})?")
# Frequencies are read by pandas from a table of its own; only what looks like one gets there.
_FREQ: Final = re.compile(r"(-?[0-9]{0,9})([A-Za-z]{1,7})((-[0-9A-Z]{1,5})?)")
# What pandas 2.2 calls otherwise: of both kinds, of the steps of indexes, and of periods.
_RENAMED: Final = (2, 2)
_CLOCK: Final = {"H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns"}
_STEPS: Final = {
    **_CLOCK, "M": "ME", "BM": "BME", "CBM": "CBME", "SM": "SME", "Q": "QE", "BQ": "BQE",
    "A": "YE", "BA": "BYE", "AS": "YS", "BAS": "BYS", "BH": "bh", "CBH": "cbh",
}  # fmt: skip
_PERIODS: Final = {**_CLOCK, "A": "Y"}


def pandas() -> Any:
    """Import pandas, which every caller needs in order to go on."""
    return import_extra("pandas", needed_for="a pandas object")


def zone_text(zone: Any) -> str:
    """Return the name of a time zone.

    Raises:
        Unsupported: Its name alone would not give it back.
    """
    text = str(zone)
    try:
        if pandas().DatetimeTZDtype(tz=zone_of(text)) == pandas().DatetimeTZDtype(tz=zone):
            return text
    except (Corrupt, EnvironmentMismatch):
        pass
    raise Unsupported(
        f"the time zone {text!r:.60} has no name that gives it back.",
        hint='times.tz_convert("UTC")',
    )


def zone_of(text: Any) -> Any:
    """Return the time zone of a name.

    Raises:
        Corrupt: It is not the form of such a name.
        EnvironmentMismatch: The database here has no such zone.
    """
    if isinstance(text, str) and (text == "UTC" or _OFFSET.fullmatch(text)):
        return pandas().DatetimeTZDtype(tz=text).tz
    zone = zone_named(text)
    # Older releases of pandas have their own idea of what a name stands for.
    return pandas().DatetimeTZDtype(tz=zone.key).tz


def freq_text(freq: Any) -> str | None:
    """Return the text of a frequency, or None where there is none.

    Raises:
        Unsupported: The text alone would not give it back, as with calendars of holidays.
    """
    if freq is None:
        return None
    text = str(freq.freqstr)
    try:
        if freq_of(text) == freq:
            return text
    except (Corrupt, ValueError):
        pass
    raise Unsupported(
        f"the frequency {text!r:.60} has no text that gives it back.",
        hint="index.freq = None",
    )


def freq_of(text: Any) -> Any:
    """Return the frequency of an index from its text; raises ``Corrupt`` for what is none."""
    return pandas().tseries.frequencies.to_offset(_spelled(text, _STEPS))


def period_text(dtype: Any) -> str:
    """Return the frequency of a type of periods, for example ``"Q-DEC"``."""
    return str(dtype).removeprefix("period[").removesuffix("]")


def period_dtype(text: Any) -> Any:
    """Return the type of periods of a frequency; raises ``Corrupt`` for what is none."""
    return pandas().PeriodDtype(_spelled(text, _PERIODS))


def _spelled(text: Any, renamed: dict[str, str]) -> str:
    """Return the text of a frequency as the installed pandas spells it."""
    found = _FREQ.fullmatch(text) if type(text) is str else None
    if found is None:
        raise Corrupt(f"{text!r:.60} is not a frequency")
    count, name, anchor, _ = found.groups()
    newer = tuple(map(int, pandas().__version__.split(".")[:2])) >= _RENAMED
    names = renamed if newer else {new: old for old, new in renamed.items()}
    return f"{count}{names.get(name, name)}{anchor}"
