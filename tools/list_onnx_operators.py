"""Write the table of operators that an ONNX graph may use, from onnx and onnxruntime themselves.

Run it under each new release and review the difference: an operator belongs in the table when all
it does is compute outputs from inputs. Those that reach out of the graph are named in
``src/holdfast/trust/onnx_operators.py`` and never listed. Operators are only ever added::

    ORT_DISABLE_TELEMETRY=1 python tools/list_onnx_operators.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnx.defs
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

TABLE = Path(__file__).parents[1] / "src/holdfast/trust/onnx_operators.json"

# Domains whose operators are built into onnx or onnxruntime; "" is the standard one.
DOMAINS = (
    "", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "com.microsoft",
    "com.microsoft.nchwc", "com.ms.internal.nhwc",
)  # fmt: skip
# Read files or hand the graph to another program, whatever their name says.
APART = {"EPContext", "Snpe"}


def main() -> None:
    """Add what the installed releases have."""
    table = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    known = {domain: {*table.get(domain, "").split()} for domain in DOMAINS}
    for schema in [*onnx.defs.get_all_schemas_with_history(), *runtime.get_all_operator_schema()]:
        if schema.domain in known and schema.name not in APART:
            known[schema.domain].add(schema.name)
    table = {domain: " ".join(sorted(names)) for domain, names in known.items()}
    TABLE.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    print({domain: len(names) for domain, names in known.items()})


if __name__ == "__main__":
    main()
