"""Write the table of TensorFlow's operators, from TensorFlow itself.

Run it under each supported release and review the difference. Operators are only ever added::

    python tools/list_tensorflow_operators.py

Computing are the public operators that TensorFlow says have no state, less those that read or write
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

TABLE = Path(__file__).parents[1] / "src/holdfast/trust/tf_operators.json"

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
CHECKPOINT = ("MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename")
OPENS = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")


def main() -> None:
    """Add the operators of the installed release to the table."""
    found = op_def_pb2.OpList()
    found.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    old = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    public = set(dir(tf.raw_ops))
    stateless = {each.name for each in found.op if not each.is_stateful and each.name in public}
    every = {each.name for each in found.op}
    computes = {name for name in stateless if not LEFT_OUT.fullmatch(name)}
    computes |= every & set(WITH_STATE)
    classes = {"computes": computes | set(old.get("computes", "").split())}
    classes |= {"checkpoint": set(CHECKPOINT), "opens": set(OPENS)}
    every |= {name for names in old.values() for name in names.split()}
    classes["refused"] = every.difference(*classes.values())
    table = {kind: " ".join(sorted(names)) for kind, names in classes.items()}
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in classes.items())
    print(f"TensorFlow {tf.__version__}: {counts}")


if __name__ == "__main__":
    main()
