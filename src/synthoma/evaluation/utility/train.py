"""One fit of the fixed classifier: a declared number of updates, the weights of the best validation loss."""

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from synthoma.draws import Draws, StepDraws
from synthoma.errors import EvaluationError
from synthoma.evaluation.utility.arms import Pool, class_weights
from synthoma.evaluation.utility.augment import augment_batch
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.networks.classifiers import build_classifier, classify

_WARMUP = 0.05  # share of the updates
_BLOCK = 256


@dataclass(frozen=True)
class Fitted:
    """A trained classifier. best_update: the update whose weights it has; validation_loss: mean cross-entropy there."""

    network: nn.Module
    best_update: int
    validation_loss: float
    updates: int
    seconds: float


def fit_classifier(
    pool: Pool,
    validation: Pool,
    classes: int,
    settings: UtilitySettings,
    seed: int,
    *,
    augmented: bool = False,
    weighted: bool = False,
) -> Fitted:
    """Train on `pool`, stop early on `validation`: all updates are made, the weights with the lowest loss there are kept.

    The result depends on the images, the settings and `seed` only: initial weights and the order of images are the same
    in every arm of a seed. AdamW (Loshchilov and Hutter 2019), linear warm-up, then a cosine schedule down to zero.
    """
    start = time.perf_counter()
    channels, *size = pool.images.shape[1:]
    network = build_classifier(channels, tuple(size), classes, seed).to(settings.device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
    )
    weights = class_weights(pool.labels, classes).to(settings.device) if weighted else None
    best = (math.inf, 0, network.state_dict())
    for step in range(settings.updates):
        images, labels = _batch(pool, step, settings, seed, augmented)
        for part in optimizer.param_groups:
            part["lr"] = settings.learning_rate * _schedule(step, settings.updates)
        network.train()
        loss = F.cross_entropy(network(images), labels, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        done = step + 1
        if done % settings.check_every == 0 or done == settings.updates:
            current = log_loss(predict(network, validation), validation.labels)
            if current < best[0]:
                best = (current, done, copy.deepcopy(network.state_dict()))
    if best[1] == 0:
        raise EvaluationError(
            "the classifier's loss on the validation images is no finite number; lower the learning rate."
        )
    network.load_state_dict(best[2])
    return Fitted(network.eval(), best[1], best[0], settings.updates, time.perf_counter() - start)


def predict(network: nn.Module, images: Pool) -> NDArray[np.float64]:
    """Class probabilities [n, classes] of the images; their labels are not looked at."""
    device = next(network.parameters()).device
    rows = np.arange(len(images.images))
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    return np.concatenate([classify(network, to_unit(images, block).to(device)).numpy() for block in blocks])


def _batch(pool: Pool, step: int, settings: UtilitySettings, seed: int, augmented: bool) -> tuple[Tensor, Tensor]:
    """Images and labels of one update, on the device."""
    rows = batch_rows(len(pool.labels), step, settings.batch, seed)
    images = to_unit(pool, rows)
    if augmented:
        images = augment_batch(images, StepDraws(seed, step, torch.arange(len(rows))), settings.symmetries)
    if images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    return images.to(settings.device), torch.from_numpy(pool.labels[rows]).to(settings.device)


def to_unit(pool: Pool, rows: NDArray[np.int64]) -> Tensor:
    """Images of some rows as float32 in [-1, 1], black -1 and white 1."""
    low, high = pool.value_range
    values = torch.from_numpy(np.asarray(pool.images[rows], dtype=np.float32))
    return ((values - low) * (2 / (high - low)) - 1).clamp_(-1, 1)


def batch_rows(count: int, step: int, batch: int, seed: int) -> NDArray[np.int64]:
    """Rows of update `step`: all images once, in an order drawn anew each time, then again."""
    places = np.arange(step * batch, (step + 1) * batch)
    draws = Draws(seed, "classifier order")
    rows = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(places // count):
        order = draws.uniform(int(epoch), torch.arange(count)).argsort(stable=True).numpy()
        inside = places // count == epoch
        rows[inside] = order[places[inside] % count]
    return rows


def log_loss(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy in nats."""
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, 1e-12)).mean())


def _schedule(step: int, updates: int) -> float:
    """Factor of the learning rate, 0 to 1."""
    warm = max(1, round(_WARMUP * updates))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, updates - warm)))
