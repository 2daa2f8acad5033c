"""Write the table of TensorFlow operators that compute and do nothing else.

Run it under each supported release and review the difference::

    python tools/list_savedmodel_operators.py

Taken are the public operators that TensorFlow says have no state, less those that read or write
files, call a network, copy to debuggers, run other programs or hold data sets; and of those with
state the ones named below: variables, tables, random numbers and calls of functions in the graph.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

TABLE = Path(__file__).parents[1] / "src/holdfast/trust/savedmodel_operators.json"

# No part of a model that answers, or more than computing, whatever TensorFlow says of its state.
LEFT_OUT = re.compile(
    r".*(Dataset|File|Path|Reader|Queue|Barrier|Summary|Debug|TPU|Tpu|Xla|DTensor|SparseCore"
    r"|Proto|Experimental|Collective|Nccl|Iterator|Checkpoint|Py|Boosted|Session|Accumulator"
    r"|Mesh|Remote|Rpc|Sdca|Prelinearize|Infeed|Outfeed|Dedup|Minibatch).*"
    r"|Copy|CopyHost|ImmutableConst|GenerateVocabRemapping|LoadAndRemapMatrix|Restore.*|Save.*"
    r"|Batch|BatchFunction|Unbatch|UnbatchGrad|Abort|InitializeTableFromTextFile.*|MapDefun"
    r"|MlirPassthroughOp|CustomAggregator|Calibration.*|HostConst|GetOptions|WindowOp"
    r"|ConfigureDistributed.*|DummyMemoryCache|UncompressElement|CompressElement|Stage.*"
    r"|KMC2.*|KmeansPlusPlus.*|NegTrain|Skipgram|Fact|StreamingModel.*|SymbolicGradient"
)
WITH_STATE = (
    "AnonymousHashTable", "AnonymousMutableDenseHashTable", "AnonymousMutableHashTable",
    "AnonymousMutableHashTableOfTensors", "Assert", "AssignAddVariableOp", "AssignSubVariableOp",
    "AssignVariableOp", "Case", "CheckNumerics", "CheckNumericsV2", "DestroyResourceOp",
    "DisableCopyOnRead", "Empty", "GuaranteeConst", "HashTableV2", "If", "InitializeTableV2",
    "IsResourceHandleRefCounting", "LookupTableExportV2", "LookupTableFindV2",
    "LookupTableImportV2", "LookupTableInsertV2", "LookupTableRemoveV2", "LookupTableSizeV2",
    "Multinomial", "MutableDenseHashTableV2", "MutableHashTableOfTensorsV2",
    "MutableHashTableV2", "ParameterizedTruncatedNormal", "RandomGamma", "RandomPoissonV2",
    "RandomShuffle", "RandomStandardNormal", "RandomUniform", "RandomUniformInt",
    "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "ResourceScatterAdd",
    "ResourceScatterNdAdd", "ResourceScatterNdUpdate", "ResourceScatterSub",
    "ResourceScatterUpdate", "RngReadAndSkip", "RngSkip", "StatefulPartitionedCall",
    "StatefulStandardNormalV2", "StatefulTruncatedNormal", "StatefulUniform",
    "StatefulUniformFullInt", "StatefulUniformInt", "StatelessRandomGetAlg", "TensorArrayCloseV3",
    "TensorArrayConcatV3", "TensorArrayGatherV3", "TensorArrayReadV3", "TensorArrayScatterV3",
    "TensorArraySizeV3", "TensorArraySplitV3", "TensorArrayV3", "TensorArrayWriteV3",
    "TruncatedNormal", "VarHandleOp", "VarIsInitializedOp", "VariableShape", "While",
)  # fmt: skip
# Those of the functions that TensorFlow itself writes and reads a checkpoint with.
OF_CHECKPOINTS = ("MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename")


def computing() -> set[str]:
    """Return the operators of the installed release that are taken."""
    found = op_def_pb2.OpList()
    found.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    public = set(dir(tf.raw_ops))
    names = {each.name for each in found.op if not each.is_stateful and each.name in public}
    names = {name for name in names if not LEFT_OUT.fullmatch(name)}
    return names | ({each.name for each in found.op} & set(WITH_STATE))


def main() -> None:
    """Add the operators of the installed release to the table."""
    old = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    names = sorted({*old.get("computing", ()), *computing()})
    releases = sorted({*old.get("releases", ()), tf.__version__})
    table = {"computing": names, "of_checkpoints": sorted(OF_CHECKPOINTS), "releases": releases}
    TABLE.write_text(json.dumps(table) + "\n", encoding="utf-8")
    print(f"TensorFlow {tf.__version__}: {len(names)} operators in {TABLE.name}")


if __name__ == "__main__":
    main()
