"""Worker for train_step.py: the networks of keras_networks.py, trained as a Keras user would.

Runs in an environment of its own with `tensorflow-cpu` (see train_step.py).

    python keras_peer.py --contest cgan|wgan-gp-3d --style function|fit --precision fp32|bf16 --batch 16 \\
        --images images.npy --labels labels.npy
"""

import argparse
import os
import sys
import time
from typing import Any

import numpy as np

from keras_networks import CRITIC_STEPS, make_cgan, make_volume_gan
from worker import serve, timed_steps


class FunctionStyle:
    """A custom loop: one `tf.function` that gathers its batches from the images in memory and updates both networks.

    For the Wasserstein critic it holds all of its updates for one of the generator.
    """

    def __init__(self, tf: Any, gan: Any, images: np.ndarray, labels: np.ndarray, batch: int, compiled: bool) -> None:
        pixels, classes = tf.constant(images), tf.constant(labels)
        gan.generator_optimizer.build(gan.generator.trainable_variables)
        gan.discriminator_optimizer.build(gan.discriminator.trainable_variables)

        def draw() -> tuple[Any, Any]:
            index = tf.random.uniform((batch,), 0, len(labels), tf.int32)
            return tf.cast(tf.gather(pixels, index), tf.float32) * (2 / 255) - 1.0, tf.gather(classes, index)

        @tf.function(jit_compile=compiled)
        def step() -> Any:
            if not hasattr(gan, "critic_step"):
                return gan.train_step(draw())["loss_d"]
            losses = [gan.critic_step(draw()[0]) for _ in range(CRITIC_STEPS)]
            return losses[-1] + 0.0 * gan.generator_step()

        self.step = lambda: float(step())  # reading the loss waits for the step

    def __call__(self, seconds: float) -> dict[str, Any]:
        return {"seconds": timed_steps(self.step, seconds)}


class FitStyle:
    """`Model.fit` over a `tf.data` pipeline of the images in memory, everything else as Keras has it by default."""

    def __init__(self, tf: Any, keras: Any, gan: Any, images: np.ndarray, labels: np.ndarray, batch: int) -> None:
        data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels)).repeat()
        data = data.batch(batch, drop_remainder=True)
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contest", choices=("cgan", "wgan-gp-3d"), required=True)
    parser.add_argument("--style", choices=("function", "xla", "fit"), required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--images", required=True, help="uint8 [n, c, *spatial]")
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
    images = np.ascontiguousarray(np.moveaxis(np.load(options.images, allow_pickle=False), 1, -1))
    labels = np.load(options.labels, allow_pickle=False).astype(np.int32)
    gan = (make_cgan if options.contest == "cgan" else make_volume_gan)(tf, keras, options.batch)
    if options.style == "fit":
        measure: Any = FitStyle(tf, keras, gan, images, labels, options.batch)
    else:
        measure = FunctionStyle(tf, gan, images, labels, options.batch, compiled=options.style == "xla")
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
