"""Models of Keras from 3.5 on, computed by JAX. They are small; what they are made of differs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from piece import Piece

_GOLDEN, _HELD = 12, 20


def _rows(*shape: int, seed: int = 0, rows: int = _GOLDEN + _HELD) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).normal(size=(rows, *shape)).astype("float32")


def _counts(most: int, *shape: int) -> np.ndarray[Any, Any]:
    random = np.random.RandomState(1)
    return random.randint(0, most, size=(_GOLDEN + _HELD, *shape)).astype("int32")


def _stack(*shape: int, parts: list[Any]) -> Any:
    return keras.Sequential([keras.Input(shape), *parts])


def _trained(model: Any, inputs: Any, optimizer: Any = "adam", **options: Any) -> Any:
    model.compile(optimizer=optimizer, **{"loss": "mse", **options})
    answer = np.asarray(model.predict(inputs, verbose=0))
    model.fit(inputs, np.cos(answer), epochs=2, batch_size=16, verbose=0, shuffle=False)
    return model


def _plain() -> Iterator[tuple[str, Any, Any]]:
    four = _rows(4)
    parts = [
        layers.Dense(6, activation="relu", kernel_regularizer="l2"), layers.BatchNormalization(),
        layers.Dropout(0.3), layers.Dense(1, kernel_constraint="non_neg"),
    ]  # fmt: skip
    yield "dense", _trained(_stack(4, parts=parts), four, metrics=["mae"]), four
    classes = [layers.Dense(5, "tanh"), layers.Dense(3, activation="softmax")]
    yield "classes", _stack(4, parts=classes), four
    names = ("relu", "gelu", "silu", "elu", "selu", "softplus", "mish", "hard_sigmoid", "swish")
    yield "activations", _stack(4, parts=[layers.Dense(4, name) for name in names]), four
    more = [
        layers.LeakyReLU(negative_slope=0.2), layers.PReLU(), layers.ELU(0.5), layers.ReLU(4.0),
        layers.Activation("log_softmax"), layers.Softmax(),
    ]  # fmt: skip
    yield "activation-layers", _stack(4, parts=[layers.Dense(4), *more]), four
    norms = [
        layers.LayerNormalization(), layers.Dense(4), layers.GroupNormalization(2),
        layers.UnitNormalization(), layers.SpectralNormalization(layers.Dense(3)),
    ]  # fmt: skip
    yield "norms", _stack(4, parts=norms), four
    scaled = layers.Normalization()
    scaled.adapt(four * 3 + 1)
    yield "adapted", _stack(4, parts=[scaled, layers.Rescaling(0.5, 1.0), layers.Dense(2)]), four
    bins = layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0])
    yield "bins", _stack(4, parts=[bins, layers.Rescaling(0.5), layers.Dense(2)]), four
    noise = [layers.GaussianNoise(0.2, seed=3), layers.AlphaDropout(0.1), layers.Dense(2)]
    yield "noise", _trained(_stack(4, parts=noise), four), four
    drawn = layers.Dense(
        3,
        kernel_initializer=keras.initializers.HeNormal(seed=2),
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L1L2(0.01, 0.02),
        bias_constraint=keras.constraints.MaxNorm(1.0),
    )
    yield "initialised", _trained(_stack(4, parts=[drawn]), four), four
    frozen = _stack(4, parts=[layers.Dense(3), layers.Dense(1)])
    frozen.layers[0].trainable = False
    yield "frozen", _trained(frozen, four, "rmsprop"), four
    mixed = [layers.Dense(6, "relu", dtype="mixed_bfloat16"), layers.Dense(1, dtype="float32")]
    yield "mixed", _stack(4, parts=mixed), four
    quantized = _stack(4, parts=[layers.Dense(6, "relu"), layers.Dense(2)])
    quantized.quantize("int8")
    yield "int8", quantized, four
    lora = _stack(4, parts=[layers.Dense(6, name="base"), layers.Dense(1)])
    lora.get_layer("base").enable_lora(2)
    yield "lora", lora, four


def _ordered() -> Iterator[tuple[str, Any, Any]]:
    """Yield models of images and sequences."""
    image, text, series = _rows(8, 8, 3), _counts(10, 6), _rows(5, 4)
    conv = [
        layers.Conv2D(4, 3, padding="same", activation="relu"), layers.BatchNormalization(),
        layers.MaxPooling2D(), layers.SeparableConv2D(4, 2), layers.DepthwiseConv2D(2),
        layers.Conv2DTranspose(2, 2), layers.UpSampling2D(), layers.ZeroPadding2D(1),
        layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(2),
    ]  # fmt: skip
    yield "convolution", _trained(_stack(8, 8, 3, parts=conv), image), image
    line = [layers.Conv1D(3, 2), layers.GlobalAveragePooling1D(), layers.Dense(1)]
    yield "convolution-1d", _stack(5, 4, parts=line), series
    both = [
        layers.Embedding(10, 4, mask_zero=True),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.GRU(3, dropout=0.2), layers.Dense(1),
    ]  # fmt: skip
    recurrent = keras.Sequential([keras.Input((None,), dtype="int32"), *both])
    yield "recurrent", _trained(recurrent, text), text
    cells = [
        layers.TimeDistributed(layers.Dense(3)), layers.SimpleRNN(3, return_sequences=True),
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
    ]  # fmt: skip
    yield "cells", _stack(5, 4, parts=cells), series
    inputs = keras.Input((5, 8))
    hidden = layers.MultiHeadAttention(2, 4, dropout=0.1)(inputs, inputs)
    hidden = layers.EinsumDense("abc,cd->abd", output_shape=(None, 8), bias_axes="d")(hidden)
    hidden = layers.LayerNormalization()(inputs + hidden)
    hidden = layers.GroupQueryAttention(4, 2, 1)(hidden, hidden)
    yield "attention", keras.Model(inputs, layers.GlobalMaxPooling1D()(hidden)), _rows(5, 8)
    shaped = [layers.Reshape((4, 5)), layers.Permute((2, 1)), layers.Cropping1D(1),
              layers.Flatten(), layers.Dense(1)]  # fmt: skip
    yield "shapes", _stack(5, 4, parts=shaped), series
    video = [layers.ConvLSTM1D(2, 2), layers.GlobalMaxPooling1D(), layers.Dense(1)]
    yield "convolution-lstm", _stack(3, 5, 4, parts=video), _rows(3, 5, 4)


def _graphs() -> Iterator[tuple[str, Any, Any]]:
    """Yield models that are more than a chain."""
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    shared = layers.Dense(5, activation="gelu", name="shared")
    hidden = shared(left) + shared(layers.Dense(4)(right)) * 2.0
    hidden = ops.concatenate([hidden, ops.mean(hidden, axis=-1, keepdims=True)], axis=-1)
    outputs = {"a": layers.Dense(1, name="a")(hidden), "b": ops.tanh(hidden[:, :2])}
    two = {"left": _rows(4), "right": _rows(3, seed=1)}
    yield "two-inputs", keras.Model({"left": left, "right": right}, outputs), two
    first, second = keras.Input((4,)), keras.Input((4,))
    merged = [
        layers.Add()([first, second]), layers.Multiply()([first, second]),
        layers.Subtract()([first, second]), layers.Maximum()([first, second]),
    ]  # fmt: skip
    model = keras.Model([first, second], layers.Concatenate()(merged))
    yield "merged", model, (_rows(4), _rows(4, seed=1))
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="same")], name="inner")
    outer = keras.Input((4,))
    nested = keras.Model(outer, inner(layers.Dense(4, name="same")(outer)) - inner(outer))
    momentum = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    yield "nested", _trained(nested, _rows(4), momentum), _rows(4)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
    adamw = keras.optimizers.AdamW(schedule, weight_decay=0.01, use_ema=True, clipnorm=1.0)
    scheduled = _stack(4, parts=[layers.Dense(3), layers.Dense(1)])
    yield "scheduled", _trained(scheduled, _rows(4), adamw), _rows(4)
    for name in ("adagrad", "adadelta", "adamax", "nadam", "ftrl", "lion", "adafactor"):
        stack = _stack(4, parts=[layers.Dense(3), layers.Dense(1)])
        yield f"optimizer-{name}", _trained(stack, _rows(4), name), _rows(4)
    inputs = keras.Input((4,))
    heads = [layers.Dense(1, name="one")(inputs), layers.Dense(2, name="two")(inputs)]
    several = keras.Model(inputs, heads)
    several.compile("adam", ["mse", keras.losses.Huber(0.5)], loss_weights=[1.0, 0.5])
    yield "two-outputs", several, _rows(4)
    layer = layers.Dense(3, name="alone")
    layer.build((None, 4))
    yield "layer", layer, _rows(4)


def pieces() -> Iterator[Piece]:
    """Make and yield every model."""
    keras.utils.set_random_seed(3)
    for kind in (_plain, _ordered, _graphs):
        for name, model, inputs in kind():
            native = {"keras": partial(_saved, model)} if hasattr(model, "save") else {}
            yield Piece(name, model, _part(inputs, 0), _part(inputs, _GOLDEN), native)


def _part(inputs: Any, start: int) -> Any:
    if isinstance(inputs, dict):
        return {name: _part(each, start) for name, each in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(_part(each, start) for each in inputs)
    return inputs[start : start + (_HELD if start else _GOLDEN)]


def _saved(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


def answers(model: Any, rows: Any, methods: Any = None) -> dict[str, Any]:
    """Return what the model says of the rows."""
    given = list(rows) if isinstance(rows, tuple) else rows
    told = model.predict(given, verbose=0) if hasattr(model, "predict") else model(given)
    return {"predict": _arrays(told)}


def _arrays(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _arrays(each) for name, each in told.items()}
    if isinstance(told, (list, tuple)):
        return [_arrays(each) for each in told]
    return np.asarray(told)
