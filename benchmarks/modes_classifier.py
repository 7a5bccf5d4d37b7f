"""The judge of modes.py: which shape each channel of a stacked picture holds, and how many modes a set of them covers.

A small convolutional network looks at one channel at a time. Its training pictures are disturbed (noise, blur, contrast),
so that a generator's flaws do not turn one shape into another for it.

    python modes_classifier.py          # trains it, and prints its accuracy on pictures that it has not seen
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from synthoma.draws import StepDraws
from synthoma.phantoms.stacked import SHAPES, draw_stacked

Classify = Callable[[NDArray[np.uint8]], NDArray[np.int64]]

PICTURES, HELD_OUT, STEPS, BATCH, LEAST_ACCURACY = 20_000, 10_000, 500, 128, 0.99
# Held-out pictures are drawn with another seed, so that no number of pictures makes them meet the training ones.
HELD_OUT_SEED = 1_000_003


class Modes(NamedTuple):
    """How many modes have a sample, and the Kullback-Leibler divergence of their shares from equal ones, in nats."""

    covered: int
    divergence: float


def train_classifier(seed: int = 0, size: int = 16) -> Classify:
    """A function from pictures uint8 [n, c, size, size] to modes int64 [n]; about 20 s on one thread.

    Raises `RuntimeError` where it gets fewer than 99 % of the shapes right in pictures that it has not seen: it would
    count its own mistakes as modes.
    """
    network = _network(torch.Generator().manual_seed(seed))
    images, labels = _pictures(seed, PICTURES, size)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=STEPS)
    for step in range(STEPS):
        draw = StepDraws(seed, step, torch.arange(BATCH))
        chosen = draw.integers("pictures", len(images))
        loss = F.cross_entropy(network(_disturb(images[chosen], draw)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(False)

    def classify(pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
        count, channels = pictures.shape[:2]
        single = torch.from_numpy(np.ascontiguousarray(pictures)).flatten(0, 1)[:, None]
        shapes = torch.cat([network(_scaled(part)).argmax(dim=1) for part in single.split(2048)])
        digits = shapes.reshape(count, channels).numpy()
        return np.asarray(digits @ (len(SHAPES) ** np.arange(channels - 1, -1, -1)), dtype=np.int64)

    reached = accuracy(classify, seed, size)
    if reached < LEAST_ACCURACY:
        raise RuntimeError(f"the classifier gets {reached:.1%} of the shapes right; {LEAST_ACCURACY:.0%} are needed")
    return classify


def accuracy(classify: Classify, seed: int = 0, size: int = 16, count: int = HELD_OUT) -> float:
    """Share of single shapes that it gets right in pictures that it was not trained on."""
    pictures, modes = draw_stacked(HELD_OUT_SEED + seed, np.arange(count), 1, size)
    return float((classify(pictures) == modes).mean())


def count_modes(modes: NDArray[np.int64], total: int = 100) -> Modes:
    """Modes with at least one sample, as Metz et al. count them, and sum p log(p total) over the shares p of the modes."""
    shares = np.bincount(modes, minlength=total) / len(modes)
    seen = shares[shares > 0]
    return Modes(len(seen), float((seen * np.log(seen * total)).sum()))


def _network(source: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 24), (24, 48), (48, 96)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * 96, len(SHAPES)))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
            else:
                parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5, generator=source)
    return network


def _pictures(seed: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    images, labels = draw_stacked(seed, np.arange(count), 1, size)
    return torch.from_numpy(images), torch.from_numpy(labels)


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def _disturb(images: Tensor, draw: StepDraws) -> Tensor:
    """Some blur, contrast and noise on uint8 [n, 1, y, x]: float32."""
    x = _scaled(images)
    share = 0.8 * draw.uniform("blur", (1, 1, 1))
    x = x + share * (F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1) - x)
    x = x * (0.6 + 0.8 * draw.uniform("contrast", (1, 1, 1)))
    return x + 0.2 * draw.uniform("noise", (1, 1, 1)) * draw.normal("grain", tuple(x.shape[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    classify = train_classifier(options.seed, options.size)
    seconds = time.perf_counter() - start
    print(f"accuracy {accuracy(classify, options.seed, options.size):.4f} after {seconds:.1f} s on one thread")


if __name__ == "__main__":
    main()
