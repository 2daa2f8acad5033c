"""Write the table of TensorFlow's operators, from TensorFlow itself.

Run it under each new release and review the difference. ``pure`` are operators whose outputs follow
from their inputs, and those that keep state of the model's own: variables, random numbers, tables.
``known`` are all others. Operators are only ever added::

    python tools/list_tensorflow_operators.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tensorflow.core.framework.op_def_pb2 import OpList
from tensorflow.python.client import pywrap_tf_session

TABLE = Path(__file__).parents[1] / "src/holdfast/trust/tf_operators.json"

# Data pipelines, distribution, debugging, other compilers, files: never pure by their flag alone.
APART = re.compile(
    r"^_|FixedUnigram|Dataset|Reader|Iterator|Summar|Debug|PyFunc|ReadFile|MatchingFiles"
    r"|ImmutableConst|TPU|Tpu|^Xla|Queue|Accumulator|TextFile|^Abort|Custom|VocabRemapping|Rpc"
    r"|Collective|AllReduce|Nccl"
    r"|^Send|^Recv|^Save|^Restore|^Stats|Sleep|Session|Barrier|MultiDevice|^CopyHost$|^Copy$"
    r"|BoostedTrees|DataService|WorkerHeartbeat|RemoteFused|^Fact$|BatchFunction|Proto"
)
# Operators with state of the model's own: its variables, tables, random numbers and control flow.
OWN_STATE = re.compile(
    r"Assign(Add|Sub)?VariableOp|Assert|Case|CheckNumerics(V2)?|CudnnRNN.*|Empty|GuaranteeConst"
    r"|(Anonymous|Mutable|MutableDense|AnonymousMutable|AnonymousMutableDense)?HashTable\w*"
    r"|If|InitializeTableV2|LookupTable\w+V2|Multinomial|ParameterizedTruncatedNormal|Random\w+"
    r"|ReadVariableOp|Resource(Apply|CountUpTo|Gather|Scatter|SparseApply|StridedSlice)\w*"
    r"|Rng(ReadAndSkip|Skip)|SampleDistortedBoundingBox(V2)?|Stack\w*V2|Stack"
    r"|Stateful(PartitionedCall|Random\w+|StandardNormal\w*|TruncatedNormal|Uniform\w*)"
    r"|StatelessRandomGetAlg|TemporaryVariable|TensorArray\w*|TruncatedNormal|VarHandleOp"
    r"|VarIsInitializedOp|Variable|VariableShape|VariableV2|While|DestroyResourceOp"
    r"|DisableCopyOnRead|AnonymousSeedGenerator|NonDeterministicInts|Timestamp"
    r"|\w+CandidateSampler"
)


def main() -> None:
    """Add what the installed release has."""
    found = OpList()
    found.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    table = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    pure, known = {*table.get("pure", "").split()}, {*table.get("known", "").split()}
    for op in found.op:
        own = op.is_stateful and OWN_STATE.fullmatch(op.name) and not APART.search(op.name)
        stateless = not op.is_stateful and not APART.search(op.name)
        (pure if own or stateless else known).add(op.name)
    table = {"pure": " ".join(sorted(pure)), "known": " ".join(sorted(known - pure))}
    TABLE.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    print(len(pure), len(known - pure))


if __name__ == "__main__":
    main()
