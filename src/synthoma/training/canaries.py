"""Canaries: training images that are shown far too often, so that the audit can be seen to find copies."""

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.draws import Draws
from synthoma.errors import DatasetError
from synthoma.recipe import Recipe


def choose_canaries(dataset: Dataset, count: int, seed: int) -> NDArray[np.int64]:
    """Rows of `count` training images, each of another patient or group, ascending.

    The choice depends on the images' content and the seed, not on the order of rows. Raises `DatasetError` where there
    are fewer training patients.
    """
    rows = dataset.rows("train")
    content = np.array(dataset.column("content"))[rows]
    rows = rows[np.argsort(content, kind="stable")]
    _, firsts = np.unique(dataset.groups[rows], return_index=True)
    if count < 1 or count > len(firsts):
        raise DatasetError(
            f"{count} canaries cannot be chosen from {len(firsts)} training patients or groups: one of each, one at least."
        )
    # In the order of content: the pseudonyms of groups must not decide.
    candidates = rows[np.sort(firsts)]
    order = Draws(seed, "canaries").uniform(0, torch.arange(len(candidates))).argsort(stable=True)
    return np.sort(candidates[order[:count].numpy()])


def canary_rows(dataset: Dataset, recipe: Recipe) -> NDArray[np.int64]:
    """Rows of the canaries of a recipe; none where it asks for none."""
    training = recipe.training
    if not training.canaries:
        return np.zeros(0, dtype=np.int64)
    return choose_canaries(dataset, training.canaries, training.seed)
