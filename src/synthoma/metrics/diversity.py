"""Whether a generator makes different images, and whether it makes images of its own.

Both compare sets of feature vectors. They watch a training and give no verdict on a release: collapse makes diversity
fall to near zero and copying makes every sample lie on a training image, and both show at a few hundred samples.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_matrix
from synthoma.metrics.nearest import BLOCK, nearest, squared_distances

# Fewer images of a class tell too little of how different they are: the mean distance of 8 has an error of about 15 %.
LEAST_OF_CLASS = 8
# Distances between more images than this change the mean by less than its error from the draw of the samples.
MOST_COMPARED = 512
# "Near" is what one of twenty held-out images is.
NEAR_QUANTILE = 0.05


def mean_pairwise_distance(x: Matrix) -> float:
    """Mean Euclidean distance over all pairs of different rows of x [n, d], n >= 2; 0 where all are equal.

    Of more than 512 rows as many are taken, evenly spaced. Unbiased at every n, so sets of unlike size compare.
    """
    x = as_matrix(x)
    if len(x) < 2:
        raise EvaluationError(f"{len(x)} image(s) have no distances between each other; it takes at least 2.")
    x = x[_spaced(len(x))]
    return float(squared_distances(x, x).sqrt().sum() / (len(x) * (len(x) - 1)))


def diversity_ratio(synthetic: Matrix, real: Matrix) -> float:
    """Mean pairwise distance of `synthetic` [n, d] over that of `real` [m, d].

    About 1: as different from each other as the real ones; near 0: all alike; above 1: more scattered, as noise is. It
    is a mean: a generator that misses a few of many kinds of image hardly lowers it, recall and coverage show that.
    Raises `EvaluationError` where the real images are all equal.
    """
    reference = mean_pairwise_distance(real)
    if reference == 0:
        raise EvaluationError("the real images are all equal; diversity over theirs is not defined.")
    return mean_pairwise_distance(synthetic) / reference


def diversity_ratios(
    synthetic: Matrix,
    real: Matrix,
    labels: NDArray[np.int64] | None = None,
    real_labels: NDArray[np.int64] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """The ratio within each class, or {"all": ratio} without labels.

    labels [n], real_labels [m]: places in `names`. Within class, because a conditional generator that makes one image
    for each class still looks diverse over all. Classes with fewer than 8 images on either side are left out, and so
    are those whose real images are all equal; the result may be empty.
    """
    x, y = as_matrix(synthetic, "synthetic"), as_matrix(real, "real")
    if labels is None or real_labels is None or names is None:
        groups = [("all", x, y)]
    else:
        mine, theirs = torch.as_tensor(labels), torch.as_tensor(real_labels)
        groups = [(name, x[mine == place], y[theirs == place]) for place, name in enumerate(names)]
    ratios = {}
    for name, ours, reals in groups:
        if min(len(ours), len(reals)) >= LEAST_OF_CLASS and bool((reals != reals[0]).any()):
            ratios[name] = diversity_ratio(ours, reals)
    return ratios


def memorisation(
    synthetic: Matrix, train: Matrix, held_out: Matrix, quantile: float = NEAR_QUANTILE
) -> dict[str, float]:
    """How near synthetic images come to training images, against how near held-out real ones do.

    For features `synthetic` [n, d], `train` [m, d], `held_out` [h, d], with d(.) the distance to the nearest training
    image (Meehan et al., "A non-parametric test to detect data-copying in generative models", AISTATS 2020):

    - `share_closer`: share of synthetic images nearer than the k-th nearest held-out one, k = quantile * (h + 1), at
      least 1; `expected`: k / (h + 1), its exact mean where synthetic and held-out images are exchangeable.
    - `auc`: probability that d of a synthetic image is below that of a held-out one, ties count half (Mann and Whitney);
      0.5 where alike, towards 1 for copies. `auc_error`: its standard deviation at equality, the root
      of (n + h + 1) / (12 n h).
    - `near_train`, `near_held_out`: how many synthetic images are that near to a training image, and to a held-out one,
      on average; `near_error`: standard error of their difference if the generator knows nothing of the split, from
      the spread over real images, so that samples that crowd around a few of them count once.

    The first two also rise for samples that are blurred or all alike, since these lie in the middle of all images, near
    to any. The last do not differ for these, which are as near to held-out images. Copying shows in all of them.

    With few held-out images: below 19, `expected` is above the quantile, because the nearest one is the limit. Images
    of one patient are not independent: with fewer than about 20 held-out patients none of this is evidence, and the
    error, which takes them for independent, is too small.
    """
    x, seen, unseen = as_matrix(synthetic, "synthetic"), as_matrix(train, "train"), as_matrix(held_out, "held_out")
    n, m, h = len(x), len(seen), len(unseen)
    if min(n, m, h) == 0:
        raise EvaluationError(
            "memorisation compares synthetic, training and held-out images; one of the sets is empty."
        )
    to_seen, between = nearest(x, seen)[0][:, 0], nearest(unseen, seen)[0][:, 0]
    order = max(1, round(quantile * (h + 1)))
    limit = float(between.kthvalue(min(order, h)).values)
    ahead = (to_seen[:, None] < between[None, :]).double() + 0.5 * (to_seen[:, None] == between[None, :]).double()
    at_seen, at_unseen = _visits(x, seen, limit), _visits(x, unseen, limit)
    spread = torch.cat((at_seen, at_unseen)).var()
    return {
        "share_closer": float((to_seen < limit).double().mean()),
        "expected": min(order, h) / (h + 1),
        "auc": float(ahead.mean()),
        "auc_error": math.sqrt((n + h + 1) / (12 * n * h)),
        "near_train": float(at_seen.mean()),
        "near_held_out": float(at_unseen.mean()),
        "near_error": float((spread * (1 / m + 1 / h)).sqrt()),
    }


def _visits(x: Tensor, y: Tensor, limit: float) -> Tensor:
    """How many of x [n, d] are nearer than `limit` to each of y [m, d]: float64 [m]."""
    found = [(squared_distances(x, block) < limit**2).sum(dim=0) for block in y.split(BLOCK)]
    return torch.cat(found).double()


def _spaced(count: int) -> Tensor:
    """At most 512 row numbers below `count`, evenly spaced."""
    if count <= MOST_COMPARED:
        return torch.arange(count)
    return torch.arange(MOST_COMPARED) * count // MOST_COMPARED
