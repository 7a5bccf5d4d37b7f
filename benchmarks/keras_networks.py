"""The networks of `skin-cgan` and `lung-nodule-wgan-gp` in Keras 3, with the training steps that a Keras user would write.

Layers, kernel, stride, bias and norm placement, initial distributions and optimizers are those of the shipped recipes;
`train_step.py` compares the parameter counts. There is no averaged generator here, as in the originals: the peer does a
little less. `keras` and `tf` are passed in, so that this file imports without them.
"""

from typing import Any

LATENT, KERNEL = 100, 4
CLASSES, EMBEDDING, SIDE = 9, 50, 64
CGAN_WIDTHS, VOLUME_WIDTHS = (256, 128, 64), (512, 256, 128, 64)
CRITIC_STEPS, PENALTY = 5, 10.0


def _norm(keras: Any) -> Any:
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


def cgan_generator(keras: Any) -> Any:
    """(z [n, 100], label [n]) -> image [n, 64, 64, 3]."""
    layers, normal = keras.layers, keras.initializers.RandomNormal(0.0, 0.02)
    grid = SIDE // 2 ** len(CGAN_WIDTHS)
    z, label = keras.Input((LATENT,)), keras.Input((), dtype="int32")
    embedded = layers.Embedding(CLASSES, EMBEDDING, embeddings_initializer=keras.initializers.RandomNormal(0.0, 1.0))(
        label
    )
    x = layers.Concatenate()([z, embedded])
    x = layers.Dense(CGAN_WIDTHS[0] * grid * grid, use_bias=False, kernel_initializer=normal)(x)
    x = layers.LeakyReLU(0.2)(_norm(keras)(x))
    x = layers.Reshape((grid, grid, CGAN_WIDTHS[0]))(x)
    for width in CGAN_WIDTHS[1:]:
        x = layers.Conv2DTranspose(width, KERNEL, 2, "same", use_bias=False, kernel_initializer=normal)(x)
        x = layers.LeakyReLU(0.2)(_norm(keras)(x))
    x = layers.Conv2DTranspose(3, KERNEL, 2, "same", kernel_initializer=normal)(x)
    return keras.Model([z, label], layers.Activation("tanh", dtype="float32")(x))


def cgan_discriminator(keras: Any) -> Any:
    """(image [n, 64, 64, 3], label [n]) -> logit [n, 1]."""
    layers, normal = keras.layers, keras.initializers.RandomNormal(0.0, 0.02)
    image, label = keras.Input((SIDE, SIDE, 3)), keras.Input((), dtype="int32")
    plane = layers.Embedding(CLASSES, SIDE * SIDE, embeddings_initializer=keras.initializers.RandomNormal(0.0, 1.0))(
        label
    )
    x = layers.Concatenate()([image, layers.Reshape((SIDE, SIDE, 1))(plane)])
    for place, width in enumerate(reversed(CGAN_WIDTHS)):
        x = layers.Conv2D(width, KERNEL, 2, "same", use_bias=place == 0, kernel_initializer=normal)(x)
        if place:
            x = _norm(keras)(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Dense(1, kernel_initializer=normal)(layers.Flatten()(x))
    return keras.Model([image, label], layers.Activation("linear", dtype="float32")(x))


def volume_generator(keras: Any) -> Any:
    """z [n, 100] -> cube [n, 64, 64, 64, 1]."""
    layers, normal = keras.layers, keras.initializers.RandomNormal(0.0, 0.02)
    grid = SIDE // 2 ** len(VOLUME_WIDTHS)
    z = keras.Input((LATENT,))
    x = layers.Dense(VOLUME_WIDTHS[0] * grid**3, use_bias=False, kernel_initializer=normal)(z)
    x = layers.Reshape((grid, grid, grid, VOLUME_WIDTHS[0]))(x)
    x = layers.ReLU()(_norm(keras)(x))
    for width in VOLUME_WIDTHS[1:]:
        x = layers.Conv3DTranspose(width, KERNEL, 2, "same", use_bias=False, kernel_initializer=normal)(x)
        x = layers.ReLU()(_norm(keras)(x))
    x = layers.Conv3DTranspose(1, KERNEL, 2, "same", use_bias=False, kernel_initializer=normal)(x)
    return keras.Model(z, layers.Activation("tanh", dtype="float32")(x))


def volume_critic(keras: Any) -> Any:
    """cube [n, 64, 64, 64, 1] -> score [n, 1]; no norm."""
    layers, normal = keras.layers, keras.initializers.RandomNormal(0.0, 0.02)
    cube = keras.Input((SIDE, SIDE, SIDE, 1))
    x = cube
    for width in reversed(VOLUME_WIDTHS):
        x = layers.Conv3D(width, KERNEL, 2, "same", kernel_initializer=normal)(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Dense(1, kernel_initializer=normal)(layers.Flatten()(x))
    return keras.Model(cube, layers.Activation("linear", dtype="float32")(x))


def make_cgan(tf: Any, keras: Any, batch: int) -> Any:
    """The model whose `train_step` is one update of the discriminator and one of the generator."""
    binary = keras.losses.BinaryCrossentropy(from_logits=True)

    class ConditionalGAN(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.generator, self.discriminator = cgan_generator(keras), cgan_discriminator(keras)
            self.generator_optimizer = keras.optimizers.Adam(2e-4, beta_1=0.5)
            self.discriminator_optimizer = keras.optimizers.Adam(2e-4, beta_1=0.5)

        def train_step(self, data: Any) -> dict[str, Any]:
            """data: images [n, 64, 64, 3] in [-1, 1] and labels [n]."""
            images, labels = data
            fakes = tf.random.uniform((batch,), 0, CLASSES, tf.int32)
            generated = self.generator([tf.random.normal((batch, LATENT)), fakes], training=True)
            with tf.GradientTape() as tape:
                real = self.discriminator([images, labels], training=True)
                fake = self.discriminator([generated, fakes], training=True)
                loss_d = binary(tf.ones_like(real), real) + binary(tf.zeros_like(fake), fake)
            variables = self.discriminator.trainable_variables
            self.discriminator_optimizer.apply(tape.gradient(loss_d, variables), variables)
            fakes = tf.random.uniform((batch,), 0, CLASSES, tf.int32)
            with tf.GradientTape() as tape:
                generated = self.generator([tf.random.normal((batch, LATENT)), fakes], training=True)
                fake = self.discriminator([generated, fakes], training=True)
                loss_g = binary(tf.ones_like(fake), fake)
            variables = self.generator.trainable_variables
            self.generator_optimizer.apply(tape.gradient(loss_g, variables), variables)
            return {"loss_d": loss_d, "loss_g": loss_g}

    return ConditionalGAN()


def make_volume_gan(tf: Any, keras: Any, batch: int) -> Any:
    """The model whose `critic_step` takes a batch of cubes, and whose `generator_step` takes nothing (WGAN-GP)."""

    class VolumeGAN(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.generator, self.discriminator = volume_generator(keras), volume_critic(keras)
            self.generator_optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.999)
            self.discriminator_optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.999)

        def penalty(self, real: Any, fake: Any) -> Any:
            """E (|grad D| - 1)^2 between reals and fakes."""
            alpha = tf.random.uniform((batch, 1, 1, 1, 1))
            between = fake + alpha * (real - fake)
            with tf.GradientTape() as tape:
                tape.watch(between)
                score = self.discriminator(between, training=True)
            gradient = tf.cast(tape.gradient(score, between), tf.float32)
            return tf.reduce_mean((tf.sqrt(tf.reduce_sum(gradient**2, [1, 2, 3, 4]) + 1e-20) - 1.0) ** 2)

        def critic_step(self, real: Any) -> Any:
            fake = self.generator(tf.random.normal((batch, LATENT)), training=True)
            with tf.GradientTape() as tape:
                scores = self.discriminator(fake, training=True), self.discriminator(real, training=True)
                loss = tf.reduce_mean(scores[0]) - tf.reduce_mean(scores[1]) + PENALTY * self.penalty(real, fake)
            variables = self.discriminator.trainable_variables
            self.discriminator_optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        def generator_step(self) -> Any:
            with tf.GradientTape() as tape:
                fake = self.generator(tf.random.normal((batch, LATENT)), training=True)
                loss = -tf.reduce_mean(self.discriminator(fake, training=True))
            variables = self.generator.trainable_variables
            self.generator_optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

    return VolumeGAN()
