"""Which operators a TensorFlow graph may use: a closed list, from TensorFlow's own registry.

An operator is allowed when its outputs follow from its inputs and from the model's own variables,
tables and random numbers. The table is written by ``tools/list_tensorflow_operators.py``; what the
others do is from TensorFlow's definitions of operators (``tensorflow/core/ops``).
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Final

__all__ = ["PATHS", "does", "reaches_out"]


def _read() -> dict[str, frozenset[str]]:
    text = resources.files("holdfast.trust").joinpath("tf_operators.json").read_text("utf-8")
    return {kind: frozenset(names.split()) for kind, names in json.loads(text).items()}


_TABLE: Final = _read()

# Operators that open a file whose path is one of their inputs, to that input's place. Every
# SavedModel has the first three, which it is handed its own path for, and vocabularies the others.
PATHS: Final = {
    "RestoreV2": 0,
    "SaveV2": 0,
    "MergeV2Checkpoints": 0,
    "InitializeTableFromTextFile": 1,
    "InitializeTableFromTextFileV2": 1,
}

# Of those that are known and do more than compute: what they do, by their names.
_REACHING: Final = {
    re.compile(r"PyFunc|NumpyFunction"): "calls Python",
    re.compile(r"^Xla(Custom|Host)|CustomCall|^TRTEngineOp$"): "calls native code that it names",
    re.compile(
        r"Rpc|DataService|Collective|^_?(Host)?(Send|Recv)$|RemoteCall|WorkerHeartbeat"
        r"|Distributed(TPU)?$|^Nccl|BigQuery"
    ): "speaks to other programs",
    re.compile(
        r"File|TFRecord|TextLine|FixedLengthRecord|LMDB|CSV|Sql|Snapshot|RecordInput|^Save|^Restore"
        r"|Restore(V2|Slice)$|^LoadAndRemap|^LoadDataset|CacheDataset|DumpTensor|DebugIdentity"
        r"|SummaryWriter|SummaryDb|^Write|ImportEvent|Statistics(Saver|InFdo)|ImmutableConst"
        r"|VocabRemapping|FixedUnigram|ListSnapshot|DistributedSave|^LoadLibrary$"
    ): "reads or writes files",
    re.compile(r"^(Abort|Sleep\w*)$"): "stops the program or makes it wait",
}


def does(name: str) -> str | None:
    """Say what an operator does that is more than computing.

    Returns:
        None for one that only computes.
    """
    if name in _TABLE["pure"] or name in PATHS:
        return None
    reaching = next((words for pattern, words in _REACHING.items() if pattern.search(name)), None)
    if reaching is not None:
        return reaching
    if name in _TABLE["known"]:
        return "may do more than compute"
    return "is none of TensorFlow's own"


def reaches_out(words: str) -> bool:
    """Say whether what an operator does, in the words of ``does``, is known to be unsafe."""
    return words in _REACHING.values()
