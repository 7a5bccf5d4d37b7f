"""Worker for plain_loop.py: the training loop that most people start from, with the networks of one of our families.

A `DataLoader` with two worker processes, `torch.optim.Adam` as it comes, `.item()` after each update, reals and fakes in
passes of their own, penalties by `autograd.grad`, float32, fakes of the critic's updates without gradients. No averaged
generator, no watched values.

    python plain_step.py --recipe FILE --images images.npy --labels labels.npy --style plain|ours

style plain: memory layout and layers as torch has them. ours: our layers with their channels-last layout, so that only
the loop differs.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from synthoma.families import ImageSpace, build_family
from synthoma.networks import activation, convolve, layers
from synthoma.networks.convolve import Geometry
from synthoma.networks.layers import CHANNELS_LAST
from synthoma.recipe import Recipe, load_recipe
from worker import serve, timed_steps

DATA_WORKERS = 2
# Shares and periods of the style family's own objective.
MIXING, LENGTH_SHARE = 0.9, 0.01


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images in memory, scaled one at a time as transforms do."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self.images[place]).float() / 127.5 - 1.0, int(self.labels[place])


class PlainLoop:
    """Networks of a recipe, and one iteration of the plain loop over them."""

    def __init__(
        self, recipe: Recipe, images: np.ndarray, labels: np.ndarray, style: str, workers: int = DATA_WORKERS
    ) -> None:
        self.recipe, self.training = recipe, recipe.training
        size, channels = tuple(images.shape[2:]), int(images.shape[1])
        self.classes = 9 if recipe.model.conditions else 0
        family = build_family(
            recipe.model, recipe.training, ImageSpace(size, channels, self.classes), torch.device("cpu")
        )
        self.generator, self.discriminator = family.generator, family.discriminator
        for network in (self.generator, self.discriminator):
            if style == "plain":
                make_contiguous(network)
        self.optimizers = [self._optimizer(network) for network in (self.generator, self.discriminator)]
        batch = recipe.training.batch
        self.loader = DataLoader(
            Pictures(images, labels),
            batch_size=batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.batches = self._batches()
        self.mean_length, self.updates, self.losses = 0.0, 0, [0.0, 0.0]

    def _optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        rate = self.training.learning_rate
        start = rate if isinstance(rate, float) else rate.start
        if self.training.optimizer == "rmsprop":
            return torch.optim.RMSprop(network.parameters(), lr=start)
        beta2 = self.training.beta2
        betas = (self.training.beta1, beta2 if isinstance(beta2, float) else beta2.start)
        return torch.optim.Adam(network.parameters(), lr=start, betas=betas)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        while True:
            for images, labels in self.loader:
                yield images, self._codes(labels)

    def _codes(self, labels: Tensor) -> Tensor | None:
        return F.one_hot(labels, self.classes).float() if self.classes else None

    def fakes(self) -> tuple[Tensor, Tensor | None]:
        """Images of random latents, and their conditions."""
        batch = self.training.batch
        conditions = self._codes(torch.randint(0, max(self.classes, 1), (batch,)))
        z = torch.randn(batch, self.recipe.model.latent)
        if self.recipe.model.family != "style":
            return self.generator(z, conditions), conditions
        styles, noise = self.styles(batch)
        return self.generator.synthesise(styles, noise), conditions  # type: ignore[operator]

    def styles(self, count: int) -> tuple[Tensor, Tensor]:
        """Mixed styles and noise of the style family, as its objective draws them."""
        generator: Any = self.generator
        crossover = torch.where(
            torch.rand(count) < MIXING, torch.randint(1, generator.levels, (count,)), generator.levels
        )
        latent = self.recipe.model.latent
        styles = generator.styles(torch.randn(count, latent), None, torch.randn(count, latent), crossover)
        return styles, torch.randn(count, generator.noise_size)

    def update_discriminator(self) -> None:
        """One update of the discriminator on a fresh batch."""
        real, conditions = next(self.batches)
        with torch.no_grad():
            fake, fake_conditions = self.fakes()
        at_real, at_fake = self.discriminator(real, conditions), self.discriminator(fake, fake_conditions)
        loss = DISCRIMINATOR_LOSSES[self.training.loss](at_real, at_fake)
        for name, weight in self.training.penalties.items():
            period = self.training.lazy.get(name, 1)
            if self.updates % period or name == "path_length":
                continue
            if name == "drift":
                loss = loss + weight * at_real.square().mean()
                continue
            if name == "gradient":
                alpha = torch.rand(len(real), *[1] * (real.ndim - 1))
                at, codes = alpha * real + (1 - alpha) * fake, conditions
            else:
                at, codes = (real, conditions) if name == "r1" else (fake, fake_conditions)
            squared = self.squared_gradient(at, codes)
            term = (squared.add(1e-12).sqrt() - 1).square().mean() if name == "gradient" else squared.mean() / 2
            loss = loss + weight * period * term
        self.optimizers[1].zero_grad()
        loss.backward()
        self.optimizers[1].step()
        if self.training.clip:
            for parameter in self.discriminator.parameters():
                parameter.data.clamp_(-self.training.clip, self.training.clip)
        self.losses[1] = loss.item()

    def squared_gradient(self, images: Tensor, conditions: Tensor | None) -> Tensor:
        """|grad D|^2 of each image [n], in a pass of its own."""
        images = images.detach().requires_grad_()
        scores = self.discriminator(images, conditions)
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        return gradient.flatten(1).square().sum(1)

    def update_generator(self) -> None:
        """One update of the generator; the relativistic loss takes a fresh batch of reals."""
        fake, conditions = self.fakes()
        at_fake = self.discriminator(fake, conditions)
        at_real = at_fake
        if self.training.loss == "relativistic":
            at_real = self.discriminator(*next(self.batches)).detach()
        loss = GENERATOR_LOSSES[self.training.loss](at_real, at_fake)
        if "path_length" in self.training.penalties and self.updates % self.training.lazy.get("path_length", 1) == 0:
            loss = loss + self.path_length()
        self.optimizers[0].zero_grad()
        loss.backward()
        self.optimizers[0].step()
        self.losses[0] = loss.item()

    def path_length(self) -> Tensor:
        """Path length regularisation on half of a batch."""
        generator: Any = self.generator
        styles, noise = self.styles(self.training.batch // 2)
        images = generator.synthesise(styles, noise)
        y = torch.randn_like(images) / images[0, 0].numel() ** 0.5
        (gradient,) = torch.autograd.grad((images * y).sum(), styles, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).add(1e-12).sqrt()
        self.mean_length += LENGTH_SHARE * (lengths.mean().item() - self.mean_length)
        period = self.training.lazy.get("path_length", 1)
        return period * self.training.penalties["path_length"] * (lengths - self.mean_length).square().mean()

    def iteration(self) -> None:
        """As many updates of both networks as one of our iterations has."""
        for _ in range(self.training.critic_steps):
            self.update_discriminator()
        self.update_generator()
        self.updates += 1


DISCRIMINATOR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "non-saturating": lambda real, fake: (
        F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    ),
    "wasserstein": lambda real, fake: fake.mean() - real.mean(),
    "relativistic": lambda real, fake: F.softplus(fake - real).mean(),
}
GENERATOR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "non-saturating": lambda real, fake: F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake)),
    "wasserstein": lambda real, fake: -fake.mean(),
    "relativistic": lambda real, fake: F.softplus(real - fake).mean(),
}


class TorchConvolution:
    """Stands in for the convolution with fast second-order gradients."""

    @staticmethod
    def apply(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        spread = [geometry.stride] * geometry.dim, [geometry.padding] * geometry.dim, [1] * geometry.dim
        return torch.convolution(x, weight, bias, *spread, geometry.transposed, [0] * geometry.dim, geometry.groups)


class TorchLeakyReLU:
    """Stands in for the leaky ReLU without a second derivative."""

    @staticmethod
    def apply(x: Tensor, slope: float) -> Tensor:
        return F.leaky_relu(x, slope)


def flatten_and_multiply(self: layers.MapDense, x: Tensor) -> Tensor:
    """Stands in for the dense layer over channels-last maps."""
    return F.linear(x.flatten(1), self.effective_weight(x.dtype), self.bias)


def make_contiguous(network: nn.Module) -> None:
    """Undo the channels-last layout that weights are built with."""
    for parameter in network.parameters():
        # Written anew: a 1x1 kernel is in both layouts at once, and convolutions go by its strides.
        parameter.data = torch.empty_like(parameter.data, memory_format=torch.contiguous_format).copy_(parameter.data)


# (where, name, value): with these our modules compute as torch's own layers do.
TORCH_LAYERS: tuple[tuple[Any, str, Any], ...] = (
    (convolve, "_Forward", TorchConvolution),
    (activation, "_Leaky", TorchLeakyReLU),
    (layers, "FEW_CHANNELS", 0),
    (layers.MapDense, "forward", flatten_and_multiply),
)


def use_torch_layers() -> None:
    """Contiguous maps, and none of our kernels for special cases, in this whole process."""
    for place, name, value in TORCH_LAYERS:
        setattr(place, name, value)
    for dim in CHANNELS_LAST:
        CHANNELS_LAST[dim] = torch.contiguous_format


def helpers_seconds(loader: DataLoader[Any]) -> float:
    """Processor time that the loader's processes have used, from Linux's /proc; 0 elsewhere."""
    total = 0.0
    for process in getattr(loader._iterator, "_workers", []):
        file = Path(f"/proc/{process.pid}/stat")
        if file.exists():
            total += sum(map(int, file.read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="a recipe file")
    parser.add_argument("--images", required=True, help="uint8 [n, c, *spatial]")
    parser.add_argument("--labels", required=True, help="int64 [n]")
    parser.add_argument("--style", choices=("plain", "ours"), required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.style == "plain":
        use_torch_layers()
    images, labels = (np.load(path, allow_pickle=False) for path in (options.images, options.labels))
    loop = PlainLoop(load_recipe(options.recipe), images, labels, options.style)
    loop.iteration()

    def measure(seconds: float) -> dict[str, Any]:
        before = helpers_seconds(loop.loader)
        times = timed_steps(loop.iteration, seconds)
        return {"seconds": times, "helpers": helpers_seconds(loop.loader) - before}

    networks = {"generator": loop.generator, "discriminator": loop.discriminator}
    serve(
        {
            "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()},
            "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
            "precision": "fp32",
        },
        measure,
    )


if __name__ == "__main__":
    main()
