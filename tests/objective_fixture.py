"""Small networks and batches for the tests of objectives and penalties; not tests themselves."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthoma.draws import StepDraws
from synthoma.objectives.objective import Batch

CONVOLVE: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
SIZES = {2: (6, 4), 3: (4, 6, 4)}
CONDITIONS = 3


class SmoothDiscriminator(nn.Module):
    """Convolution, softplus, convolution, mean, and a projection of the conditions: smooth, so that differences converge."""

    def __init__(self, dim: int, scales: int | None = None, channels: int = 2) -> None:
        super().__init__()
        convolve = CONVOLVE[dim]
        self.first = convolve(channels, 4, 3, padding=1)  # type: ignore[call-arg]
        self.second = convolve(4, 4, 3, stride=2, padding=1)  # type: ignore[call-arg]
        self.score = nn.Linear(4, scales or 1)
        self.project = nn.Linear(CONDITIONS, 4, bias=False)
        self.scales = scales

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        features = nn.functional.softplus(self.second(torch.tanh(self.first(x)))).flatten(2).mean(2)
        if conditions is not None:
            features = features * (1 + self.project(conditions))
        logits = self.score(features)
        return logits if self.scales else logits.squeeze(1)


class SmoothGenerator(nn.Module):
    """z [n, 5] and conditions -> [n, 2, *size]."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)
        self.first = nn.Linear(5, 8)
        self.condition = nn.Linear(CONDITIONS, 8, bias=False)
        self.second = nn.Linear(8, 2 * int(torch.tensor(size).prod()))

    def forward(self, z: Tensor, conditions: Tensor | None = None) -> Tensor:
        hidden = self.first(z) if conditions is None else self.first(z) + self.condition(conditions)
        return torch.tanh(self.second(torch.tanh(hidden))).unflatten(1, (2, *self.size))


def small_pair(dim: int, scales: int | None = None) -> tuple[SmoothGenerator, SmoothDiscriminator]:
    """Generator and discriminator in float64 with fixed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(dim)
        pair = SmoothGenerator(SIZES[dim]), SmoothDiscriminator(dim, scales)
    for network in pair:
        network.double()
    with torch.no_grad():
        # Steep enough for gradients with norms around 1.
        pair[1].score.weight.mul_(20)
    return pair


def small_batch(dim: int, n: int = 7, conditional: bool = True, **fields: object) -> Batch:
    """A float64 batch of n samples; further fields by keyword."""
    source = torch.Generator().manual_seed(10 * dim + n)
    classes = torch.eye(CONDITIONS, dtype=torch.float64)

    def codes() -> Tensor | None:
        return classes[torch.randint(CONDITIONS, (n,), generator=source)] if conditional else None

    plain = {
        "real": torch.randn(n, 2, *SIZES[dim], generator=source, dtype=torch.float64),
        "z": torch.randn(n, 5, generator=source, dtype=torch.float64),
        "draw": StepDraws(1, 2, torch.arange(n)),
        "conditions": codes(),
        "fake_conditions": codes(),
        "soft_real": 0.9,
        "soft_fake": 0.1,
        "gamma": 0.7,
    }
    return Batch(**(plain | fields))  # type: ignore[arg-type]


def weight_gradients(network: nn.Module, loss: Tensor) -> list[Tensor]:
    """Gradient of a loss in each weight; zeros where it does not depend on it."""
    weights = list(network.parameters())
    found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
