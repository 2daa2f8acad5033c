"""Which operators a TensorFlow graph may use: a closed list, from TensorFlow's own registry.

``computes`` are operators whose outputs follow from their inputs and from the model's own
variables, tables and random numbers; ``checkpoint`` those with which TensorFlow writes and reads
the model's own; ``opens`` those that open a file they are handed; ``refused`` are all others. The
table is written by ``tools/list_tensorflow_operators.py``; what the others do is from TensorFlow's
definitions of operators (``tensorflow/core/ops``).
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Final

__all__ = ["CHECKPOINT", "FOREIGN", "PATHS", "does", "reaches_out"]


def _read() -> dict[str, frozenset[str]]:
    text = resources.files("holdfast.trust").joinpath("tf_operators.json").read_text("utf-8")
    return {kind: frozenset(names.split()) for kind, names in json.loads(text).items()}


_TABLE: Final = _read()
# Part of every SavedModel, and handed its own path.
CHECKPOINT: Final = _TABLE["checkpoint"]
# What ``does`` says of an operator that may be a function of the graph.
FOREIGN: Final = "is none of TensorFlow's own"

# Operators that open a file whose path is one of their inputs, to that input's place.
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
        r"|VocabRemapping|FixedUnigram|ListSnapshot|DistributedSave|^LoadLibrary$|^PrintV2$"
        r"|^(De|En)codeProto"
    ): "reads or writes files",
    re.compile(r"^(Abort|Sleep\w*)$"): "stops the program or makes it wait",
}


def does(name: str) -> str | None:
    """Say what an operator does that is more than computing.

    Returns:
        None for one that only computes.
    """
    if name in _TABLE["computes"] or name in CHECKPOINT:
        return None
    if name in _TABLE["opens"]:
        return "reads a file that it is handed"
    reaching = next((words for pattern, words in _REACHING.items() if pattern.search(name)), None)
    if reaching is not None:
        return reaching
    if name in _TABLE["refused"]:
        return "is not known to compute and do nothing else"
    return FOREIGN


def reaches_out(words: str) -> bool:
    """Say whether what an operator does, in the words of ``does``, is known to be unsafe."""
    return words in _REACHING.values()
