"""Predicting with checked inputs: columns reordered by name or refused, never guessed."""

from __future__ import annotations

from typing import Any

from holdfast import frameworks
from holdfast.archive.signature import align
from holdfast.errors import Unsupported
from holdfast.record import Content

__all__ = ["Predictor"]


class Predictor:
    """A loaded model that checks what it is fed.

    Attributes:
        model: The loaded model, unchanged.
        ref: The version.
        signature: Inputs, outputs and labels as saved.
        notes: What the last call did to its inputs, in words.
    """

    def __init__(self, model: Any, content: Content, ref: str) -> None:
        self.model = model
        self.ref = ref
        self.signature = content.signature
        self.notes: tuple[str, ...] = ()
        self._adapter = frameworks.adapter_named(content.framework)
        methods = self._adapter.methods(model)
        if not methods:
            raise Unsupported(
                f"{ref} has no output method here, so it cannot predict.",
                hint=f"holdfast.load({ref!r})",
                ref=ref,
            )
        self.method = "predict" if hasattr(model, "predict") else methods[0]

    def __repr__(self) -> str:
        return f"Predictor({self.ref}, {self.method})"

    def predict(self, inputs: Any) -> Any:
        """Answer for inputs of the kind the model was saved with.

        Args:
            inputs: DataFrame, array, tensor or mapping, rows first.

        Raises:
            SignatureMismatch: The inputs are not the model's; nothing was predicted.
        """
        expected = self.signature.get("inputs")
        if expected is not None:
            inputs, self.notes = align(expected, inputs, ref=self.ref)
        return self._adapter.predict(self.model, self.method, inputs)

    def named(self, answers: Any) -> list[Any]:
        """Return answers as a list, with the class names given at save where they apply.

        A name stands for a position in the model's ``classes_``, never for the number itself.
        """
        values = answers.tolist() if hasattr(answers, "tolist") else list(answers)
        labels, classes = self.signature.get("labels"), getattr(self.model, "classes_", None)
        if labels is None or classes is None or len(classes) != len(labels):
            return list(values)
        names = dict(zip(classes.tolist(), labels, strict=True))
        return [names.get(value, value) for value in values]
