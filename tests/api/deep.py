"""Saves and loads a value of 2,000 levels with little stack; prints how many came back.

As a program: ``python deep.py STORE``.
"""

from __future__ import annotations

import sys
from typing import Any

import holdfast


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for level in range(levels):
        value = ([value], {"k": value}, (value, 1), slice(None, value))[level % 4]
    return value


def depth(value: Any) -> int:
    levels = 0
    while value != "bottom" if isinstance(value, str) else True:
        if isinstance(value, slice):
            value = value.stop
        else:
            value = value["k"] if isinstance(value, dict) else value[0]
        levels += 1
    return levels


if __name__ == "__main__":
    holdfast.save({}, "warm", store=sys.argv[1])  # so that modules are imported by now
    made = deep(2000)
    sys.setrecursionlimit(150)
    holdfast.save(made, "deep", store=sys.argv[1])
    loaded = holdfast.load("deep", store=sys.argv[1])
    sys.setrecursionlimit(1000)
    sys.stdout.write(str(depth(loaded)))
