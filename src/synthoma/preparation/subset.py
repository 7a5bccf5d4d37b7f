"""Some rows of a dataset as a dataset of their own, with another split: what a fold's generator may see."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from synthoma.cohort import SPLITS, cohort_hash
from synthoma.dataset import Dataset, seal_dataset
from synthoma.errors import DatasetError
from synthoma.preparation.summary import class_table
from synthoma.recipe import content_hash
from synthoma.run import aside_folder

_BLOCK = 256


def subset_content(dataset: Dataset, rows: dict[str, NDArray[np.int64]]) -> str:
    """The content hash that `write_subset` gives: it changes with the dataset, the rows and their split."""
    return content_hash([dataset.content_hash, {split: of.tolist() for split, of in rows.items()}])


def write_subset(dataset: Dataset, rows: dict[str, NDArray[np.int64]], out: Path) -> Dataset:
    """Write `out`, a dataset of the rows of each split ("train", "val", "test"); rows that are not named are not in it.

    Pixels, masks, records and terms are those of `dataset`; links to files are not taken along. Raises `DatasetError`
    where a row or a patient is in two splits, or a split is unknown.
    """
    if unknown := set(rows) - set(SPLITS):
        raise DatasetError(f"'{min(unknown)}' is no split; expected {', '.join(SPLITS)}.")
    chosen = np.concatenate([rows[split] for split in SPLITS if split in rows])
    split_of = np.concatenate([np.full(len(rows[split]), split) for split in SPLITS if split in rows])
    order = np.argsort(chosen, kind="stable")
    chosen, splits = chosen[order], [str(split) for split in split_of[order]]
    if len(np.unique(chosen)) < len(chosen):
        raise DatasetError("a row of a dataset is in two splits; each row goes into one.")
    owners: dict[str, str] = {}
    for group, split in zip(dataset.groups[chosen].tolist(), splits, strict=True):
        if owners.setdefault(group, split) != split:
            raise DatasetError(f"group {group} is in both {owners[group]} and {split}; whole groups go into one split.")
    with aside_folder(out) as aside:
        _copy_rows(dataset.images, chosen, aside / "images.npy")
        if dataset.masks is not None:
            _copy_rows(dataset.masks, chosen, aside / "masks.npy")
        records = dataset.records.take(pa.array(chosen))
        for name, values in (
            ("row", pa.array(range(len(chosen)), pa.int64())),
            ("split", pa.array(splits, pa.string())),
        ):
            records = records.set_column(records.schema.get_field_index(name), name, values)
        pq.write_table(records, aside / "records.parquet")
        seal_dataset(aside, _info(dataset, records, splits, subset_content(dataset, rows)))
    return Dataset.open(out)


def _copy_rows(source: NDArray[np.generic], rows: NDArray[np.int64], file: Path) -> None:
    array = open_memmap(file, "w+", source.dtype, (len(rows), *source.shape[1:]))
    for start in range(0, len(rows), _BLOCK):
        array[start : start + _BLOCK] = source[rows[start : start + _BLOCK]]
    array.flush()


def _info(dataset: Dataset, records: pa.Table, splits: list[str], content: str) -> dict[str, Any]:
    """dataset.json without the sums of files."""
    contents, groups, labels = (records.column(name).to_pylist() for name in ("content", "group", "label"))
    kept = {key: value for key, value in dataset.info.items() if key not in ("schema", "files", "notes", "warnings")}
    return {
        **kept,
        "counts": class_table(labels, splits),
        "groups": {
            split: len({group for group, own in zip(groups, splits, strict=True) if own == split}) for split in SPLITS
        },
        "cohort": {
            "hash": cohort_hash(contents, groups, splits),
            "split": "given",
            "fractions": [round(splits.count(split) / len(splits), 4) for split in SPLITS],
            "seed": dataset.info["cohort"]["seed"],
            "deviations": [],
            "independent_reference": "test" in splits,
        },
        "content": content,
        "notes": [],
        "warnings": [],
        "label_errors": [],
    }
