"""Near-duplicates of a prepared dataset, found again for the eye by the search that preparation uses."""

import numpy as np

from synthoma.dataset import Dataset
from synthoma.preparation.near_duplicates import Pair, find_near_duplicates
from synthoma.preparation.reading import THUMBNAIL_SIDE
from synthoma.preparation.resize import resize
from synthoma.report.facts import shown_pixels, shown_window


def lookalike_pairs(dataset: Dataset, most: int) -> list[Pair]:
    """At most `most` pairs of rows, those in different splits first, then the most alike.

    Preparation counts the pairs but does not list them. Where it found none, or did not look, nothing is sought. The
    prepared pixels are compared, preparation compared the whole files: a few pairs more or less may show.
    """
    done = dataset.info.get("preparation", {})
    if not (done.get("near_duplicate_pairs") or done.get("near_duplicate_groups")):
        return []
    window = shown_window(dataset)
    side = (THUMBNAIL_SIDE[len(dataset.size)],) * len(dataset.size)
    thumbnails = []
    for image in dataset.images:
        grey = shown_pixels(image[None], window)[0].mean(axis=0).astype(np.uint8)
        thumbnails.append(resize(grey[..., None], side, "stretch")[..., 0].astype(np.uint8))
    pairs = find_near_duplicates(np.stack(thumbnails))
    together = dataset.splits[[p.first for p in pairs]] == dataset.splits[[p.second for p in pairs]] if pairs else []
    order = sorted(range(len(pairs)), key=lambda i: (bool(together[i]), -pairs[i].correlation, pairs[i].first))
    return [pairs[i] for i in order[:most]]
