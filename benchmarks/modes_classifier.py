"""The judge of modes.py: which shape each channel of a stacked picture holds, and how many modes a set of them covers.

A small convolutional network looks at one channel at a time. Its training pictures are disturbed (noise, blur, contrast),
so that a generator's flaws do not turn one shape into another for it. A network sees a shape in anything, and a
generator of noise would cover all modes: a channel counts only if it also resembles a picture of that very shape.

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
# Correlation of a channel's pixels with the most similar of 10,000 pictures of its shape. Held-out pictures reach 0.96 in
# 999 of 1,000 cases, shapes blurred over 3x3 pixels 0.9, noise at most 0.7.
LEAST_LIKENESS, COMPARED = 0.9, 10_000


class Modes(NamedTuple):
    """How many modes have a sample, the share of samples that show one, and the Kullback-Leibler divergence of the
    modes' shares in these from equal ones, in nats."""

    covered: int
    good: float
    divergence: float


def train_classifier(seed: int = 0, size: int = 16) -> Classify:
    """A function from pictures uint8 [n, c, size, size] to modes int64 [n], -1 where a channel shows no shape.

    It takes about 20 s on one thread.

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

    likeness = _likeness(images[:COMPARED], labels[:COMPARED])

    def classify(pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
        count, channels = pictures.shape[:2]
        single = torch.from_numpy(np.ascontiguousarray(pictures)).flatten(0, 1)[:, None]
        shapes = torch.cat([network(_scaled(part)).argmax(dim=1) for part in single.split(2048)])
        shown = (likeness(single, shapes) >= LEAST_LIKENESS).reshape(count, channels).all(dim=1)
        digits = shapes.reshape(count, channels).numpy()
        modes = digits @ (len(SHAPES) ** np.arange(channels - 1, -1, -1))
        return np.where(shown.numpy(), modes, -1)

    reached = accuracy(classify, seed, size)
    if reached < LEAST_ACCURACY:
        raise RuntimeError(f"the classifier gets {reached:.1%} of the shapes right; {LEAST_ACCURACY:.0%} are needed")
    return classify


def accuracy(classify: Classify, seed: int = 0, size: int = 16, count: int = HELD_OUT) -> float:
    """Share of single shapes that it gets right in pictures that it was not trained on."""
    pictures, modes = draw_stacked(HELD_OUT_SEED + seed, np.arange(count), 1, size)
    return float((classify(pictures) == modes).mean())


def count_modes(modes: NDArray[np.int64], total: int = 100) -> Modes:
    """Modes with at least one sample, as Metz et al. count them, and sum p log(p total) over the shares p of the modes.

    modes: int64 [n], -1 for samples that show none. Where all are such, the divergence is that of a single mode.
    """
    good = modes[modes >= 0]
    if len(good) == 0:
        return Modes(0, 0.0, float(np.log(total)))
    shares = np.bincount(good, minlength=total) / len(good)
    seen = shares[shares > 0]
    return Modes(len(seen), len(good) / len(modes), float((seen * np.log(seen * total)).sum()))


def _likeness(images: Tensor, labels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of pictures uint8 [n, 1, y, x] and shapes [n]: their largest correlation with one of `images` of that shape."""
    by_shape = [_standardised(images[labels == shape]) for shape in range(len(SHAPES))]

    def likeness(pictures: Tensor, shapes: Tensor) -> Tensor:
        vectors, found = _standardised(pictures), torch.empty(len(pictures))
        for shape, reference in enumerate(by_shape):
            chosen = shapes == shape
            found[chosen] = (vectors[chosen] @ reference.T).amax(dim=1)
        return found

    return likeness


def _standardised(images: Tensor) -> Tensor:
    """Pixels without their mean, as vectors of length 1; their inner products are correlations."""
    pixels = images.flatten(1).float()
    return F.normalize(pixels - pixels.mean(dim=1, keepdim=True), dim=1)


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
