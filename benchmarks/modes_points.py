"""Part A of modes.py: each objective on fully connected networks, for Gaussians on a ring and on a grid in the plane.

The ring of 8 (radius 2, sigma 0.02) is that of Metz et al. 2017, the grid of 25 (spacing 2, sigma 0.05) that of Lin et
al., "PacGAN", 2018; both at half the size, so that coordinates are of order 1 for the networks. Losses and penalties are those of `synthoma.objectives`, the same that train on images.
"""

import copy
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modes_classifier import count_modes
from synthoma.draws import Draws, StepDraws
from synthoma.networks.layers import Dense, add_spectral_norm, advance_spectral_norm, initialise
from synthoma.objectives.objective import Adversarial, Batch

LATENT, WIDTH, BATCH, SAMPLES = 16, 128, 128, 5_000
# Weight that the average keeps each update: half of it is gone after 350 updates.
AVERAGE = 0.998


@dataclass(frozen=True)
class Target:
    """A mixture of equal Gaussians: centres [modes, 2] and one standard deviation."""

    name: str
    centres: Tensor
    sigma: float


@dataclass(frozen=True)
class Contestant:
    """A loss with what is usually added to it. rate: of both networks; it falls linearly to a tenth over the run."""

    name: str
    loss: str
    penalties: Mapping[str, float] = field(default_factory=dict)
    gamma: float = 0.1
    critic_steps: int = 1
    clip: float | None = None
    spectral_norm: bool = False
    optimizer: str = "adam"
    rate: float = 1e-3


def _ring() -> Target:
    angles = 2 * torch.pi * torch.arange(8) / 8
    return Target("ring of 8", torch.stack((angles.cos(), angles.sin()), dim=1), 0.01)


def _grid() -> Target:
    axis = torch.arange(-2.0, 3.0)
    return Target("grid of 25", torch.cartesian_prod(axis, axis), 0.025)


TARGETS = (_ring(), _grid())
CONTESTANTS = (
    Contestant("non-saturating", "non-saturating"),
    Contestant("non-saturating + R1", "non-saturating", {"r1": 1.0}),
    Contestant("least-squares", "least-squares"),
    Contestant("least-squares + R1", "least-squares", {"r1": 1.0}),
    Contestant("hinge + spectral norm", "hinge", spectral_norm=True),
    Contestant("hinge + R1", "hinge", {"r1": 1.0}),
    # A weaker bound than on images: with 2 inputs, clipping at 0.01 leaves no slope, and a weight of 10 rounds off all.
    Contestant("wasserstein, clipped", "wasserstein", critic_steps=5, clip=0.03, optimizer="rmsprop"),
    Contestant("wasserstein + gradient penalty", "wasserstein", {"gradient": 0.1}, critic_steps=5),
    Contestant("relativistic", "relativistic"),
    Contestant("relativistic + R1 + R2", "relativistic", {"r1": 1.0, "r2": 1.0}),
    Contestant("relativistic + finite difference", "relativistic", {"finite_difference": 1.0}),
)


class Body(nn.Module):
    """Three hidden layers of 128; the discriminator's output loses its axis of length 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = (inputs, WIDTH, WIDTH, WIDTH, outputs)
        self.layers = nn.ModuleList(Dense(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
        x = self.layers[-1](x)
        return x.squeeze(1) if x.shape[1] == 1 else x


def train_points(contestant: Contestant, target: Target, seed: int, updates: int) -> dict[str, float]:
    """Train with `updates` discriminator updates; what the averaged generator covers, and the processor seconds it took."""
    source = torch.Generator().manual_seed(seed)
    generator, discriminator = Body(LATENT, 2), Body(2, 1)
    for network in (generator, discriminator):
        initialise(network, "xavier", source)
    if contestant.spectral_norm:
        add_spectral_norm(discriminator, source)
    average = copy.deepcopy(generator)
    objective = Adversarial(
        contestant.loss,
        contestant.penalties,
        critic_steps=contestant.critic_steps,
        clip=contestant.clip,
        one_pass=True,
    )
    ours, theirs = (_optimizer(network, contestant) for network in (generator, discriminator))
    batches = _Batches(target, seed, contestant.gamma)
    start, step = time.process_time(), 0
    iterations = updates // contestant.critic_steps
    for iteration in range(iterations):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["lr"] = contestant.rate * (1 - 0.9 * iteration / iterations)
        for _ in range(contestant.critic_steps):
            advance_spectral_norm(discriminator)
            batch = batches[step]
            _update(theirs, lambda batch=batch: objective.discriminator(generator, discriminator, batch)[0])
            objective.after_discriminator(discriminator)
            step += 1
        discriminator.requires_grad_(False)
        batch = batches[step]
        _update(ours, lambda batch=batch: objective.generator(generator, discriminator, batch)[0])
        discriminator.requires_grad_(True)
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - AVERAGE)
    return {**measure(average, target), "cpu_seconds": round(time.process_time() - start, 1)}


@torch.no_grad()
def measure(generator: nn.Module, target: Target) -> dict[str, float]:
    """Modes with a sample within 3 sigma, the share of such samples, and how unevenly these are spread over the modes."""
    points = generator(Draws(0, "samples").normal(0, torch.arange(SAMPLES), (LATENT,)))
    distances = torch.cdist(points, target.centres)
    near = distances.min(dim=1)
    modes = torch.where(near.values <= 3 * target.sigma, near.indices, -1)
    total = len(target.centres)
    found = count_modes(modes.numpy(), total)
    return {
        "covered": found.covered,
        "modes": total,
        "good": round(found.good, 4),
        "divergence": round(found.divergence, 4),
    }


class _Batches:
    """Batches by number of the update; the draws of many are made at once, which is faster and gives the same numbers."""

    AHEAD = 64

    def __init__(self, target: Target, seed: int, gamma: float) -> None:
        self.target, self.seed, self.gamma = target, seed, gamma
        self.streams = {name: Draws(seed, name) for name in ("modes", "reals", "latents")}
        self.index = torch.arange(BATCH)
        self.block: tuple[int, Tensor, Tensor] | None = None

    def __getitem__(self, step: int) -> Batch:
        number, place = divmod(step, self.AHEAD)
        if self.block is None or self.block[0] != number:
            self.block = (number, *self._draw(number))
        draw = StepDraws(self.seed, step, self.index)
        return Batch(real=self.block[1][place], z=self.block[2][place], draw=draw, gamma=self.gamma)

    def _draw(self, number: int) -> tuple[Tensor, Tensor]:
        steps = (number * self.AHEAD + torch.arange(self.AHEAD)).repeat_interleave(BATCH)
        index = self.index.repeat(self.AHEAD)
        centres = self.target.centres[self.streams["modes"].integers(steps, index, len(self.target.centres))]
        real = centres + self.target.sigma * self.streams["reals"].normal(steps, index, (2,))
        z = self.streams["latents"].normal(steps, index, (LATENT,))
        return real.unflatten(0, (self.AHEAD, BATCH)), z.unflatten(0, (self.AHEAD, BATCH))


def _optimizer(network: nn.Module, contestant: Contestant) -> torch.optim.Optimizer:
    if contestant.optimizer == "rmsprop":
        return torch.optim.RMSprop(network.parameters(), lr=contestant.rate)
    return torch.optim.Adam(network.parameters(), lr=contestant.rate, betas=(0.0, 0.99), fused=True)


def _update(optimizer: torch.optim.Optimizer, terms: Callable[[], Mapping[str, Tensor]]) -> None:
    optimizer.zero_grad()
    torch.stack(list(terms().values())).sum().backward()
    optimizer.step()
