"""The threshold of a classifier of two classes: checked at save, applied when predicting."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.errors import Corrupt, UsageError

if TYPE_CHECKING:
    from holdfast.archive.golden import Behaviour, Captured

__all__ = ["decide", "refuse_unusable", "threshold_of", "threshold_words"]


def refuse_unusable(model: Any, behaviour: Behaviour, captured: Captured | None) -> None:
    """Check that a threshold means something for a model.

    Args:
        model: The live model.
        behaviour: Its output methods and how to call them.
        captured: Its golden set, whose rows are predicted; None without one.

    Raises:
        UsageError: It is not a classifier of two classes with probabilities.
    """
    why = None
    if "predict_proba" not in behaviour.methods:
        why = "it has no predict_proba here"
    elif not _has_two_classes(model):
        why = "its classes_ are not two"
    elif captured is not None and not _answers_one_class(behaviour, captured):
        why = "it answers several labels for a row"
    if why is not None:
        raise UsageError(
            f"threshold= is for a classifier of two classes with probabilities; this is a "
            f"{type(model).__name__}, and {why}. Nothing was saved.",
            hint="holdfast.save(model, name, inputs=X)",
        )


def _has_two_classes(model: Any) -> bool:
    return getattr(getattr(model, "classes_", None), "shape", None) == (2,)


def _answers_one_class(behaviour: Behaviour, captured: Captured) -> bool:
    """Tell two classes from two labels that may both hold, whose ``classes_`` look the same."""
    with behaviour.steady():
        answers = behaviour.call("predict", copy.deepcopy(captured.inputs))
    return len(getattr(answers, "shape", ())) == 1


def _has_two_columns(answers: Any) -> bool:
    shape: tuple[int, ...] = tuple(getattr(answers, "shape", ()))
    return len(shape) == 2 and shape[1:] == (2,)


def threshold_of(signature: Mapping[str, Any], ref: str) -> float | None:
    """Return the recorded threshold; raises ``Corrupt`` when it is none."""
    found = signature.get("threshold")
    if found is None:
        return None
    if not isinstance(found, float) or not 0 < found < 1:
        raise Corrupt(f"the recorded threshold of {ref} is {found!r:.40}", ref=ref)
    return found


def decide(probabilities: Any, model: Any, threshold: float, ref: str) -> Any:
    """Return the second class where its probability is at least the threshold, else the first.

    Args:
        probabilities: Shape (rows, 2), in the order of ``model.classes_``.
        model: The loaded classifier.
        threshold: Between 0 and 1.
        ref: The version, for messages.

    Returns:
        Array of shape (rows,) and the dtype of ``model.classes_``.

    Raises:
        Corrupt: The model does not share its probability between two classes.
    """
    if not _has_two_classes(model) or not _has_two_columns(probabilities):
        raise Corrupt(f"{ref} has a threshold but is not a classifier of two classes", ref=ref)
    return model.classes_[(probabilities[:, 1] >= threshold).astype(int)]


def threshold_words(signature: Mapping[str, Any]) -> str:
    """Return what the threshold does, in words; empty without one."""
    threshold = signature.get("threshold")
    if threshold is None:
        return ""
    names: Sequence[Any] = signature.get("labels") or signature.get("classes") or ()
    second = str(names[1]) if len(names) == 2 else "the second class"
    return f"{second} where its probability is at least {threshold}"
