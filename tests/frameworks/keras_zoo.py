"""Keras models of every make, small and fitted where that matters; used by several tests."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class Scale(layers.Layer):
    """A layer of the program's own, with a weight and plain attributes."""

    def __init__(self, start=2.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.start),
            name="factor",
        )  # fmt: skip

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable("zoo")
class Tower(keras.Model):
    """A model that is its class: no configuration says what it computes."""

    def __init__(self, units=6, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [layers.Dense(units, activation="tanh") for _ in range(2)]
        self.head = layers.Dense(1)
        self.drop = layers.Dropout(0.5)

    def call(self, inputs, training=None):
        hidden = inputs
        for block in self.blocks:
            hidden = self.drop(block(hidden), training=training)
        return self.head(hidden)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
def doubled(values):
    return values * 2.0


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(16, *shape)).astype("float32")


def counts(most, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, most, size=(16, *shape)).astype("int32")


def trained(model, inputs, optimizer="adam", **options):
    model.compile(optimizer, "mse", **options)
    answer = np.asarray(model.predict(inputs, verbose=0))
    wanted = np.random.default_rng(1).normal(size=answer.shape).astype("float32")
    model.fit(inputs, wanted, epochs=2, batch_size=8, verbose=0, shuffle=False)
    return model, inputs


def sequential():
    model = keras.Sequential(
        [
            keras.Input((4,)), layers.Dense(8, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(1),
        ]
    )  # fmt: skip
    return trained(model, rows(4), metrics=["mae"])


def functional():
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    shared = layers.Dense(5, activation="gelu", name="shared")
    hidden = shared(left) + shared(layers.Dense(4)(right)) * 2.0
    hidden = ops.concatenate([hidden, ops.mean(hidden, axis=-1, keepdims=True)], axis=-1)
    outputs = {"a": layers.Dense(1, name="a")(hidden), "b": layers.Dense(2, name="b")(hidden)}
    model = keras.Model({"left": left, "right": right}, outputs)
    return model, {"left": rows(4), "right": rows(3, seed=1)}


def several_inputs():
    inputs = [keras.Input((4,)), keras.Input((3,))]
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(inputs)))
    return model, (rows(4), rows(3, seed=1))


def nested():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="same")], name="inner")
    outer = keras.Input((4,))
    hidden = layers.Dense(4, name="same")(outer)
    model = keras.Model(outer, inner(hidden) - inner(outer))
    return trained(model, rows(4), keras.optimizers.SGD(0.01, momentum=0.9))


def shared_between_models():
    common = layers.Dense(4, name="common")
    first = keras.Sequential([keras.Input((4,)), common, layers.Dense(2)], name="first")
    second = keras.Sequential([keras.Input((4,)), common, layers.Dense(2)], name="second")
    inputs = keras.Input((4,))
    return keras.Model(inputs, first(inputs) + second(inputs)), rows(4)


def convolutional():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)), layers.Rescaling(0.5), layers.Conv2D(4, 3, padding="same"),
            layers.LayerNormalization(), layers.Activation("silu"), layers.MaxPooling2D(),
            layers.SeparableConv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(2),
        ]
    )  # fmt: skip
    return model, rows(8, 8, 3)


def recurrent():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"), layers.Embedding(10, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(3, dropout=0.2), layers.Dense(1),
        ]
    )  # fmt: skip
    return model, counts(10, 6)


def attention():
    inputs = keras.Input((6, 8))
    hidden = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    hidden = layers.EinsumDense("abc,cd->abd", output_shape=(None, 8), bias_axes="d")(hidden)
    hidden = layers.LayerNormalization()(inputs + hidden)
    return keras.Model(inputs, layers.GlobalMaxPooling1D()(hidden)), rows(6, 8)


def normalised():
    normal = layers.Normalization()
    normal.adapt(rows(4) * 3 + 1)
    model = keras.Sequential([keras.Input((4,)), normal, layers.Dense(1)])
    return model, rows(4)


def noisy():
    model = keras.Sequential(
        [
            keras.Input((4,)), layers.GaussianNoise(0.2, seed=3), layers.Dense(3),
            layers.AlphaDropout(0.1), layers.Dropout(0.2),
        ]
    )  # fmt: skip
    return trained(model, rows(4))


def mixed():
    model = keras.Sequential(
        [
            keras.Input((4,)), layers.Dense(8, dtype="mixed_bfloat16", activation="relu"),
            layers.Dense(3, dtype="bfloat16"), layers.Dense(1, dtype="float32"),
        ]
    )  # fmt: skip
    return model, rows(4)


def float16():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, dtype="mixed_float16")])
    return model, rows(4)


def quantized(mode="int8"):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(2)]
    )
    model.quantize(mode)
    return model, rows(4)


def with_lora():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="base"), layers.Dense(1)])
    model.get_layer("base").enable_lora(2)
    return trained(model, rows(4))


def own_layer():
    model = keras.Sequential([keras.Input((4,)), Scale(3.0), layers.Dense(2, activation=doubled)])
    return trained(model, rows(4))


def own_model():
    return trained(Tower(5), rows(4))


def scheduled():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(1)])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, use_ema=True, clipnorm=1.0)
    return trained(model, rows(4), optimizer)


def frozen():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(1)])
    model.layers[0].trainable = False
    return trained(model, rows(4), "rmsprop")


def several_losses():
    inputs = keras.Input((4,))
    one, two = layers.Dense(1, name="one")(inputs), layers.Dense(2, name="two")(inputs)
    model = keras.Model(inputs, [one, two])
    model.compile(
        keras.optimizers.Lion(0.01), ["mse", keras.losses.Huber(0.5)], loss_weights=[1.0, 0.5],
        metrics=[["mae"], [keras.metrics.MeanSquaredError(name="m")]],
    )  # fmt: skip
    model.fit(rows(4), [rows(1), rows(2)], epochs=1, verbose=0)
    return model, rows(4)


def time_distributed():
    model = keras.Sequential(
        [
            keras.Input((5, 4)), layers.TimeDistributed(layers.Dense(3)),
            layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        ]
    )  # fmt: skip
    return model, rows(5, 4)


def layer_alone():
    layer = layers.Dense(3, name="alone")
    layer.build((None, 4))
    return layer, rows(4)


def spectral():
    model = keras.Sequential(
        [
            keras.Input((4,)), layers.SpectralNormalization(layers.Dense(3)),
            layers.UnitNormalization(), layers.PReLU(),
        ]
    )  # fmt: skip
    return trained(model, rows(4))


def application():
    model = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, classes=3, include_preprocessing=True
    )
    return model, rows(32, 32, 3)


MODELS = {
    "sequential": sequential, "functional": functional, "several inputs": several_inputs,
    "nested": nested, "shared between models": shared_between_models,
    "convolutional": convolutional, "recurrent": recurrent, "attention": attention,
    "normalised": normalised, "noisy": noisy, "mixed": mixed, "float16": float16,
    "int8": quantized, "lora": with_lora, "own layer": own_layer, "own model": own_model,
    "scheduled": scheduled, "frozen": frozen, "several losses": several_losses,
    "time distributed": time_distributed, "layer alone": layer_alone, "spectral": spectral,
}  # fmt: skip
