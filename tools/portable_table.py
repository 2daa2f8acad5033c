"""Print which estimators get a portable form, as docs/portable.md holds it; a test compares them.

Run it from the repository's root: ``python tools/portable_table.py``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from holdfast import frameworks
from holdfast.api import forming
from holdfast.api.load import behaviour_of
from holdfast.archive import golden as goldens
from holdfast.errors import UsageError

__all__ = ["Outcome", "formed", "lines", "outcomes"]

_ROOT = Path(__file__).parent.parent


class Outcome(NamedTuple):
    """What a save would do of one estimator: a form, or the reason for none."""

    name: str
    model: Any
    inputs: Any
    form: forming.Formed


def formed(model: Any, inputs: Any) -> forming.Formed | None:
    """Return what a save finds of a model; None where it has no golden set, so tries nothing."""
    registry, adapter = frameworks.registry(), frameworks.adapter_for(model)
    payload = adapter.pack(model, registry)
    try:
        captured = goldens.capture(behaviour_of(adapter, model), inputs, registry, mode="inputs")
    except UsageError:  # its first method is one that it refuses with these options
        return None
    if captured is None:
        return None
    subject = forming.Subject(adapter, model, captured, inputs, payload)
    return forming.formed("auto", subject, registry)


def outcomes(cases: Iterable[Any]) -> Iterator[Outcome]:
    """Yield what becomes of each fitted estimator that answers for rows."""
    for case in cases:
        found = formed(case.model, case.inputs)
        if found is not None:
            yield Outcome(case.name.removesuffix("()"), case.model, case.inputs, found)


def lines(found: list[Outcome]) -> Iterator[str]:
    """Yield the page's lines."""
    kept = [each.name for each in found if each.form.blob is not None]
    yield f"**A form is kept** of {len(kept)} of {len(found)}: {', '.join(kept)}."
    yield ""
    yield "| no form, because | estimators |"
    yield "|---|---|"
    reasons: dict[str, list[str]] = {}
    for each in found:
        if each.form.blob is None:
            reason = str(each.form.document["reason"]).replace("|", "/")
            reason = reason.replace(f"no converter for {each.name}", "no converter for it")
            reasons.setdefault(reason, []).append(each.name)
    for reason, names in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"| {reason} | {', '.join(names)} |"


def _zoo() -> Any:
    path = _ROOT / "tests" / "frameworks" / "sklearn_zoo.py"
    spec = importlib.util.spec_from_file_location("sklearn_zoo", path)
    assert spec is not None  # noqa: S101 - it is a file of ours
    assert spec.loader is not None  # noqa: S101 - same
    module = importlib.util.module_from_spec(spec)
    sys.modules["sklearn_zoo"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    print("\n".join(lines(list(outcomes(_zoo().plain_cases())))))
