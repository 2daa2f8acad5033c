"""Predicting with checked inputs: columns reordered by name or refused, never guessed."""

from __future__ import annotations

from functools import partial
from typing import Any

from holdfast import frameworks
from holdfast.api.portable import PortableModel
from holdfast.api.threshold import decide, threshold_of
from holdfast.api.worker import WorkerModel
from holdfast.archive.align import align
from holdfast.archive.signature import require_sound
from holdfast.errors import Unsupported
from holdfast.record import Content

__all__ = ["Predictor"]


class Predictor:
    """A loaded model that checks what it is fed.

    Every method takes inputs of the kind the model was saved with: a table of pandas, polars or
    Arrow (columns are found by name), an array, sparse matrix, tensor, list or mapping, rows first.

    Attributes:
        model: The loaded model, unchanged.
        ref: The version.
        signature: Inputs, outputs, classes, labels and threshold as saved.
        method: What ``predict`` calls on the model.
        methods: The output methods the model has.
        threshold: Least probability of the second class for ``predict`` to answer it, or None.
        notes: What the last call did to its inputs, and what was unusual about them, in words.
    """

    def __init__(self, model: Any, content: Content, ref: str) -> None:
        self.model = model
        self.ref = ref
        self.signature = content.signature
        require_sound(content.signature, ref)
        self.notes: tuple[str, ...] = ()
        self.threshold = threshold_of(content.signature, ref)
        if isinstance(model, WorkerModel | PortableModel):  # its framework may be absent
            self.methods, self._ask = model.output_methods(), model.answer
        else:
            adapter = frameworks.adapter_named(content.framework)
            self.methods, self._ask = adapter.methods(model), partial(adapter.predict, model)
        if not self.methods:
            raise Unsupported(
                f"{ref} has no output method here, so it cannot predict.",
                hint=f"holdfast.load({ref!r})",
                ref=ref,
            )
        usual = "predict" if "predict" in self.methods else self.methods[0]
        self.method = usual if self.threshold is None else "predict_proba"

    def __repr__(self) -> str:
        told = "" if self.threshold is None else f" >= {self.threshold}"
        return f"Predictor({self.ref}, {self.method}{told})"

    def predict(self, inputs: Any) -> Any:
        """Answer for inputs; with the threshold given at save, where there is one.

        Returns:
            What the model's own ``predict`` returns (its best output method where it has none).
            With a threshold: classes, shape (rows,).

        Raises:
            SignatureMismatch: The inputs are not the model's; nothing was predicted.
            MissingExtra: A table of another library needs pandas or pyarrow.
        """
        answers = self._answer(self.method, inputs)
        if self.threshold is None:
            return answers
        return decide(answers, self.model, self.threshold, self.ref)

    def predict_proba(self, inputs: Any) -> Any:
        """Return probabilities, shape (rows, classes); raises as ``predict``, or Unsupported."""
        return self._answer("predict_proba", inputs)

    def decision_function(self, inputs: Any) -> Any:
        """Return the model's scores; raises as ``predict``, or Unsupported."""
        return self._answer("decision_function", inputs)

    def transform(self, inputs: Any) -> Any:
        """Return the transformed rows; raises as ``predict``, or Unsupported."""
        return self._answer("transform", inputs)

    def _answer(self, method: str, inputs: Any) -> Any:
        """Check the inputs, then call one output method; every answer comes through here."""
        if method not in self.methods:
            raise Unsupported(
                f"{self.ref} has no {method}(); it has {', '.join(self.methods)}.",
                hint=f"holdfast.get({self.ref!r}).predictor().predict(X)",
                ref=self.ref,
            )
        self.notes = ()
        expected = self.signature.get("inputs")
        if expected is not None:
            inputs, self.notes = align(expected, inputs, ref=self.ref)
        return self._ask(method, inputs)

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
