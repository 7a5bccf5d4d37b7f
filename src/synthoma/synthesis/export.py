"""The images of a dataset as files again, as they were prepared: for other programs, and to see that nothing was changed."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.errors import DatasetError, ModelError
from synthoma.run import write_atomically
from synthoma.synthesis.encoding import Encoder, Format

TABLE = "images.csv"


def export_dataset(
    dataset: Dataset,
    out: Path,
    split: str | None = None,
    file_format: Format = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `out`/images, `out`/masks and `out`/images.csv of a split (None: all) in their own unit; how many they are.

    Hounsfield units are written as they are, without a window. These are REAL images: the folder is as private as the data.
    Raises `DatasetError` where `out` is not empty or the format does not go with the images.
    """
    if out.exists() and any(out.iterdir()):
        raise DatasetError(f"{out} is not empty; real images are never mixed with other files.")
    try:
        encoder = Encoder.of({"size": dataset.size, "encoding": dataset.info["encoding"]}, file_format)
    except ModelError as error:
        raise DatasetError(str(error).replace("this model makes", f"{dataset.path} holds")) from error
    rows = dataset.rows(split) if split else np.arange(len(dataset))
    keys, labels, groups, splits, spacings = (
        dataset.column(name) for name in ("key", "label", "group", "split", "spacing")
    )
    attributes = {name: dataset.attribute(name) for name in dataset.attribute_names}
    out.mkdir(parents=True, exist_ok=True)
    table: list[list[object]] = [["file", "mask", "class", "group", "split", *attributes]]
    for done, row in enumerate(rows.tolist(), start=1):
        spacing = None if spacings[row] is None else tuple(spacings[row])
        name, mask = f"images/{keys[row]}{encoder.suffix}", None
        write_atomically(out / name, encoder.real(dataset.images[row], spacing))
        if dataset.masks is not None:
            mask = f"masks/{keys[row]}{encoder.suffix}"
            write_atomically(out / mask, encoder.real(_visible(dataset.masks[row], encoder), spacing))
        values = [values[row] for values in attributes.values()]
        table.append([name, mask, labels[row], groups[row], splits[row], *values])
        if progress is not None:
            progress(done, len(rows))
    text = io.StringIO()
    csv.writer(text).writerows(table)
    write_atomically(out / TABLE, text.getvalue())
    return len(rows)


def _visible(mask: NDArray[np.uint8], encoder: Encoder) -> NDArray[np.uint8]:
    """A mask in PNG is looked at: 0 and 255."""
    return mask * np.uint8(255) if encoder.suffix == ".png" else mask
