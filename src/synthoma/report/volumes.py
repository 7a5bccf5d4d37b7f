"""Real beside synthetic volumes as middle slices in three planes. Shows real pixels: for the private page only."""

import numpy as np
from numpy.typing import NDArray

from synthoma.pictures import middle_slices, montage, png_bytes
from synthoma.report.facts import Facts, shown_pixels
from synthoma.report.images import Tile, data_uri

COLUMNS = 8
# By spatial axis z, y, x. Only anatomy gives the planes these names; phantoms have them too.
PLANES = ("Axial: middle slice across z", "Coronal: across y", "Sagittal: across x")


def montage_tile(facts: Facts) -> Tile | None:
    """A row of real training volumes and one of synthetic ones for each plane, in one window; None for pictures.

    The real ones are spread evenly over the training rows, the synthetic ones are the first: neither chosen by eye.
    """
    if facts.dataset is None or len(facts.dataset.size) != 3:
        return None
    train = facts.dataset.rows("train")
    if not len(train):
        return None
    chosen = train[np.unique(np.linspace(0, len(train) - 1, COLUMNS).round().astype(int))]
    sets: list[tuple[str, NDArray[np.uint8]]] = [
        ("real", shown_pixels(facts.dataset.images[chosen], facts.window)),
    ]
    if facts.synthetic is not None and len(facts.synthetic.images):
        sets.append(("synthetic", facts.synthetic.images[:COLUMNS]))
    sections = [
        (title, [(name, middle_slices(volumes, axis)) for name, volumes in sets]) for axis, title in enumerate(PLANES)
    ]
    sheet = montage(sections, COLUMNS)
    return Tile(
        data_uri(png_bytes(sheet), "png"), "middle slices of real and synthetic volumes", sheet.width, sheet.height
    )
