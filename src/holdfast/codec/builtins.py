"""Every type that the codec keeps beside its node kinds, of Python, numpy, scipy and pandas."""

from __future__ import annotations

from typing import Final

from holdfast.codec.distributions import TYPES as DISTRIBUTIONS
from holdfast.codec.frames import TYPES as FRAMES
from holdfast.codec.functions import TYPES as FUNCTIONS
from holdfast.codec.masked import TYPES as MASKED
from holdfast.codec.pandas_values import TYPES as PANDAS
from holdfast.codec.random import TYPES as RANDOM
from holdfast.codec.sparse import TYPES as SPARSE
from holdfast.codec.splines import TYPES as SPLINES
from holdfast.codec.standard import TYPES as STANDARD
from holdfast.codec.texts import TYPES as TEXTS

__all__ = ["TYPES"]

TYPES: Final = (
    *FUNCTIONS,
    *STANDARD,
    *RANDOM,
    *MASKED,
    *TEXTS,
    *SPARSE,
    *SPLINES,
    *DISTRIBUTIONS,
    *PANDAS,
    *FRAMES,
)
