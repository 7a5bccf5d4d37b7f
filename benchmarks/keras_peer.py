"""The networks of `skin-cgan` in Keras 3 on TensorFlow, and the training step that a Keras user would write.

Runs in an environment of its own with `tensorflow-cpu` (see train_step.py). Layers, kernel, stride, bias and batch-norm
placement, initial distributions and optimizer are those of `synthoma.networks.cgan`; `train_step.py` asserts that the
parameter counts are the same. There is no averaged generator here, as in the original: the peer does a little less.

    python keras_peer.py --style function|fit --precision fp32|bf16 --images images.npy --labels labels.npy
"""

import argparse
import os
import sys
import time
from typing import Any

import numpy as np

from worker import serve, timed_steps

CLASSES, LATENT, EMBEDDING, BATCH, SIZE, KERNEL = 9, 100, 50, 16, 64, 4
GENERATOR_WIDTHS, DISCRIMINATOR_WIDTHS = (256, 128, 64), (64, 128, 256)


def build_generator(keras: Any) -> Any:
    """(z [n, 100], label [n]) -> image [n, 64, 64, 3]."""
    layers, normal = keras.layers, keras.initializers.RandomNormal(0.0, 0.02)
    grid = SIZE // 2 ** len(GENERATOR_WIDTHS)
    z, label = keras.Input((LATENT,)), keras.Input((), dtype="int32")
    embedded = layers.Embedding(CLASSES, EMBEDDING, embeddings_initializer=keras.initializers.RandomNormal(0.0, 1.0))(
        label
    )
    x = layers.Concatenate()([z, embedded])
    x = layers.Dense(GENERATOR_WIDTHS[0] * grid * grid, use_bias=False, kernel_initializer=normal)(x)
    x = layers.LeakyReLU(0.2)(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
    x = layers.Reshape((grid, grid, GENERATOR_WIDTHS[0]))(x)
    for width in GENERATOR_WIDTHS[1:]:
        x = layers.Conv2DTranspose(width, KERNEL, 2, "same", use_bias=False, kernel_initializer=normal)(x)
        x = layers.LeakyReLU(0.2)(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
    x = layers.Conv2DTranspose(3, KERNEL, 2, "same", kernel_initializer=normal)(x)
    return keras.Model([z, label], layers.Activation("tanh", dtype="float32")(x))


def build_discriminator(keras: Any) -> Any:
    """(image [n, 64, 64, 3], label [n]) -> logit [n, 1]."""
    layers, normal = keras.layers, keras.initializers.RandomNormal(0.0, 0.02)
    image, label = keras.Input((SIZE, SIZE, 3)), keras.Input((), dtype="int32")
    plane = layers.Embedding(CLASSES, SIZE * SIZE, embeddings_initializer=keras.initializers.RandomNormal(0.0, 1.0))(
        label
    )
    x = layers.Concatenate()([image, layers.Reshape((SIZE, SIZE, 1))(plane)])
    for place, width in enumerate(DISCRIMINATOR_WIDTHS):
        x = layers.Conv2D(width, KERNEL, 2, "same", use_bias=place == 0, kernel_initializer=normal)(x)
        if place:
            x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Dense(1, kernel_initializer=normal)(layers.Flatten()(x))
    return keras.Model([image, label], layers.Activation("linear", dtype="float32")(x))


def make_gan_class(tf: Any, keras: Any) -> type:
    """The model whose `train_step` is one update of the discriminator and one of the generator."""
    binary = keras.losses.BinaryCrossentropy(from_logits=True)

    class GAN(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.generator, self.discriminator = build_generator(keras), build_discriminator(keras)
            self.generator_optimizer = keras.optimizers.Adam(2e-4, beta_1=0.5)
            self.discriminator_optimizer = keras.optimizers.Adam(2e-4, beta_1=0.5)

        def train_step(self, data: Any) -> dict[str, Any]:
            """data: images [n, 64, 64, 3] in [-1, 1] and labels [n]."""
            images, labels = data
            fakes = tf.random.uniform((BATCH,), 0, CLASSES, tf.int32)
            generated = self.generator([tf.random.normal((BATCH, LATENT)), fakes], training=True)
            with tf.GradientTape() as tape:
                real = self.discriminator([images, labels], training=True)
                fake = self.discriminator([generated, fakes], training=True)
                loss_d = binary(tf.ones_like(real), real) + binary(tf.zeros_like(fake), fake)
            variables = self.discriminator.trainable_variables
            self.discriminator_optimizer.apply(tape.gradient(loss_d, variables), variables)
            fakes = tf.random.uniform((BATCH,), 0, CLASSES, tf.int32)
            with tf.GradientTape() as tape:
                generated = self.generator([tf.random.normal((BATCH, LATENT)), fakes], training=True)
                fake = self.discriminator([generated, fakes], training=True)
                loss_g = binary(tf.ones_like(fake), fake)
            variables = self.generator.trainable_variables
            self.generator_optimizer.apply(tape.gradient(loss_g, variables), variables)
            return {"loss_d": loss_d, "loss_g": loss_g}

    return GAN


class FunctionStyle:
    """A custom loop: one `tf.function` that gathers its batch from the images in memory and updates both networks."""

    def __init__(self, tf: Any, gan: Any, images: np.ndarray, labels: np.ndarray, compiled: bool) -> None:
        pixels, classes = tf.constant(images), tf.constant(labels)
        gan.generator_optimizer.build(gan.generator.trainable_variables)
        gan.discriminator_optimizer.build(gan.discriminator.trainable_variables)

        @tf.function(jit_compile=compiled)
        def step() -> Any:
            index = tf.random.uniform((BATCH,), 0, len(labels), tf.int32)
            real = tf.cast(tf.gather(pixels, index), tf.float32) * (2 / 255) - 1.0
            return gan.train_step((real, tf.gather(classes, index)))

        self.step = lambda: float(step()["loss_d"])  # reading the loss waits for the step

    def __call__(self, seconds: float) -> dict[str, Any]:
        return {"seconds": timed_steps(self.step, seconds)}


class FitStyle:
    """`Model.fit` over a `tf.data` pipeline of the images in memory, everything else as Keras has it by default."""

    def __init__(self, tf: Any, keras: Any, gan: Any, images: np.ndarray, labels: np.ndarray) -> None:
        data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels)).repeat()
        data = data.batch(BATCH, drop_remainder=True)
        data = data.map(lambda x, y: (tf.cast(x, tf.float32) * (2 / 255) - 1.0, y), num_parallel_calls=tf.data.AUTOTUNE)
        self.data, self.gan, self.keras = data.prefetch(tf.data.AUTOTUNE), gan, keras
        gan.compile()
        self.step_seconds = 0.1
        self(0.5)

    def __call__(self, seconds: float) -> dict[str, Any]:
        times: list[float] = []
        last = [0.0]

        def began(batch: int, logs: Any = None) -> None:
            last[0] = time.perf_counter()

        def ended(batch: int, logs: Any = None) -> None:
            times.append(time.perf_counter() - last[0])

        clock = self.keras.callbacks.LambdaCallback(on_train_batch_begin=began, on_train_batch_end=ended)
        count = max(5, round(seconds / self.step_seconds))
        self.gan.fit(self.data, steps_per_epoch=count, epochs=1, verbose=0, callbacks=[clock])
        self.step_seconds = sorted(times)[len(times) // 2]
        return {"seconds": times[1:]}  # fit makes its iterator anew within the first step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", choices=("function", "xla", "fit"), required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--images", required=True, help="uint8 [n, 3, 64, 64]")
    parser.add_argument("--labels", required=True, help="int64 [n]")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(0)
    if options.precision == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    images = np.ascontiguousarray(np.load(options.images, allow_pickle=False).transpose(0, 2, 3, 1))
    labels = np.load(options.labels, allow_pickle=False).astype(np.int32)
    gan = make_gan_class(tf, keras)()
    if options.style == "fit":
        measure: Any = FitStyle(tf, keras, gan, images, labels)
    else:
        measure = FunctionStyle(tf, gan, images, labels, compiled=options.style == "xla")
        measure(0.5)

    def parameters(network: Any) -> int:
        return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)

    serve(
        {
            "parameters": {"generator": parameters(gan.generator), "discriminator": parameters(gan.discriminator)},
            "versions": {"python": sys.version.split()[0], "tensorflow": tf.__version__, "keras": keras.__version__},
            "precision": options.precision,
        },
        measure,
    )


if __name__ == "__main__":
    main()
