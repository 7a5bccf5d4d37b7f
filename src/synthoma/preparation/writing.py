"""The files of a dataset: arrays in row order, tables, and the private links back to the raw files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap

from synthoma.formats.files import relative_place
from synthoma.preparation.items import Item, Rejection
from synthoma.preparation.scratch import Scratch
from synthoma.records import Record


def write_arrays(folder: Path, items: Sequence[Item], scratch: Scratch) -> bool:
    """images.npy, and masks.npy where every image has a mask (then True)."""
    images = open_memmap(folder / "images.npy", "w+", scratch.dtype, (len(items), *scratch.shape))
    for row, item in enumerate(items):
        images[row] = scratch.image(item.place)
    images.flush()
    if not all(item.place in scratch.masked for item in items):
        return False
    masks = open_memmap(folder / "masks.npy", "w+", np.uint8, (len(items), 1, *scratch.shape[1:]))
    for row, item in enumerate(items):
        masks[row] = scratch.mask(item.place)
    masks.flush()
    return True


def write_records(folder: Path, items: Sequence[Item], groups: Sequence[str], splits: Sequence[str]) -> None:
    """records.parquet, a row an image."""
    columns: dict[str, pa.Array] = {
        "row": pa.array(range(len(items)), pa.int64()),
        "key": _texts(item.record.key for item in items),
        "content": _texts(item.content for item in items),
        "label": _texts(item.label for item in items),
        "group": _texts(groups),
        "split": _texts(splits),
        "unit": _texts(item.unit for item in items),
        "spacing": pa.array([None if i.spacing is None else list(i.spacing) for i in items], pa.list_(pa.float64())),
        "upscaled": pa.array([item.upscaled for item in items], pa.bool_()),
    }
    for name in sorted({name for item in items for name in item.record.attributes}):
        columns[f"attr.{name}"] = _attribute([item.record.attributes.get(name) for item in items])
    pq.write_table(pa.table(columns), folder / "records.parquet")


def write_rejected(folder: Path, rejections: Sequence[Rejection]) -> None:
    """rejected.parquet: what was left out and why, sorted by key; no file names."""
    ordered = sorted(rejections, key=lambda rejection: rejection.record.key)
    table = pa.table(
        {
            "key": _texts(rejection.record.key for rejection in ordered),
            "label": _texts(rejection.record.label for rejection in ordered),
            "reason": _texts(rejection.reason for rejection in ordered),
        }
    )
    pq.write_table(table, folder / "rejected.parquet")


def write_links(folder: Path, records: Sequence[Record], root: Path) -> None:
    """private/links.parquet: from the key of each image, kept or not, back to its file and the group's own name."""
    private = folder / "private"
    private.mkdir(exist_ok=True)
    ordered = sorted(records, key=lambda record: record.key)
    table = pa.table(
        {
            "key": _texts(record.key for record in ordered),
            "file": _texts(relative_place(record.origin.path, root) for record in ordered),
            "inside": _texts(record.origin.inside for record in ordered),
            "group": _texts(record.origin.group or None for record in ordered),
        }
    )
    pq.write_table(table, private / "links.parquet")


def _texts(values: object) -> pa.Array:
    return pa.array(values, pa.string())


def _attribute(values: list[float | str | None]) -> pa.Array:
    """Numbers where all known values are numbers, else texts."""
    if any(isinstance(value, str) for value in values):
        return _texts(None if value is None else str(value) for value in values)
    return pa.array(values, pa.float64())
