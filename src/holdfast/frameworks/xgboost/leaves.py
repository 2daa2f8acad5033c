"""Several values in a leaf, as releases from 3.2 on keep them.

Up to 3.1 every node has its values, in ``base_weights``. From 3.2 on the reader looks for those of
the leaves in a table of their own, ``leaf_weights``; a leaf's row of it stands where other nodes
have their right child (compared on what ``save_raw`` of 2.0.3 and 3.2.0 writes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.frameworks.xgboost.judge import Judged, judge_json
from holdfast.frameworks.xgboost.ubj import Numbers, read_ubj

__all__ = ["with_tables"]

_NO_NODE: Final = -1
# What a tree of 3.2 has of every node and one of 2.0 has not; training alone looks at it.
_STATISTICS: Final = ("loss_changes", "sum_hessian")


def with_tables(data: bytes | bytearray) -> tuple[bytearray, Judged]:
    """Write a judged model of trees with several values in a leaf as 3.2 does, and judge it anew.

    Args:
        data: The model in UBJSON, or in JSON.

    Returns:
        The model in JSON, and what it says of itself.

    Raises:
        Corrupt: What was made of it is not sound.
    """
    is_json = data[1:2] in (b'"', b"}")
    document = json.loads(data) if is_json else _plain(read_ubj(bytes(data)))
    booster = document["learner"]["gradient_booster"]
    for tree in booster.get("gbtree", booster)["model"]["trees"]:
        _add_table(tree)
    judged, written = judge_json(json.dumps(document).encode())
    return bytearray(written), judged


def _add_table(tree: dict[str, Any]) -> None:
    left = np.array(tree["left_children"], np.int64)
    leaves = left == _NO_NODE
    right = np.array(tree["right_children"], np.int64)
    right[leaves] = np.arange(np.count_nonzero(leaves))
    values = np.array(tree["base_weights"], np.float64).reshape(len(left), -1)
    tree["right_children"] = right.tolist()
    tree["leaf_weights"] = values[leaves].reshape(-1).tolist()
    for name in _STATISTICS:
        tree.setdefault(name, [0.0] * len(left))


def _plain(value: Any) -> Any:
    """Turn typed arrays into lists; a document is nested as deep as its reader allows."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Numbers):
        return value.array().tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
