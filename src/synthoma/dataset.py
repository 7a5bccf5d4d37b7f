"""The prepared images on disk: one memory-mapped array, a table of records, and a frozen split.

DATASET/
  images.npy         [n, c, *spatial]: uint8 (8-bit pictures), uint16 (16-bit grey), int16 (HU)
  masks.npy          [n, 1, *spatial] uint8, where the source has masks
  records.parquet    a row an image: row, key, content, label, group, split, unit, spacing, upscaled, attr.*
  rejected.parquet   what was left out: key, label, reason
  dataset.json       schema, recipe hash, encoding, classes, counts, licence, cohort hash, SHA-256 of each file
  private/           links.parquet (key -> file), overview.png: whatever shows patients or names them
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from synthoma.cohort import SPLITS, check_cohort
from synthoma.errors import DatasetError, nearest_name_hint
from synthoma.run import file_sha256, read_json, write_json

SCHEMA_VERSION = 1
# Columns of records.parquet whose name begins so are attributes of the images; datasets without any have none.
_ATTRIBUTE = "attr."


@dataclass(frozen=True)
class Dataset:
    """A dataset folder that was opened and checked. Arrays stay on disk until they are indexed."""

    path: Path
    info: Mapping[str, Any]
    records: pa.Table

    @classmethod
    def open(cls, path: Path | str, *, full: bool = False) -> "Dataset":
        """Open a dataset; refuse it if a file is missing or damaged, or its split is not the frozen one.

        The table of records is always checked against its SHA-256; `full` checks the pixels too.
        """
        path = Path(path)
        if not (path / "dataset.json").is_file():
            raise DatasetError(f"{path} is no dataset: dataset.json is missing. `synthoma prepare` makes one.")
        info = read_json(path / "dataset.json")
        if info.get("schema") != SCHEMA_VERSION:
            raise DatasetError(
                f"{path} has schema {info.get('schema')}, this version reads {SCHEMA_VERSION}; prepare again."
            )
        for name, digest in info["files"].items():
            file = path / name
            if not file.is_file():
                raise DatasetError(f"{file} is missing; prepare the data again.")
            if (full or name.endswith(".parquet")) and file_sha256(file) != digest:
                raise DatasetError(
                    f"{file} was changed after it was written (its SHA-256 differs); prepare the data again."
                )
        dataset = cls(path, info, pq.read_table(path / "records.parquet"))
        if dataset.images.shape[0] != len(dataset):
            raise DatasetError(
                f"{path}: images.npy has {len(dataset.images)} images, records.parquet {len(dataset)} rows."
            )
        check_cohort(
            dataset.column("content"),
            dataset.column("group"),
            dataset.column("split"),
            info["cohort"]["hash"],
            str(path),
        )
        return dataset

    def __len__(self) -> int:
        return int(self.records.num_rows)

    def column(self, name: str) -> list[Any]:
        """A column of records.parquet as a list, in row order."""
        return list(self.records.column(name).to_pylist())

    @cached_property
    def images(self) -> NDArray[np.generic]:
        """[n, c, *spatial], memory-mapped."""
        return np.load(self.path / "images.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def masks(self) -> NDArray[np.uint8] | None:
        """[n, 1, *spatial] of 0 and 1, memory-mapped; None where the source has no masks."""
        path = self.path / "masks.npy"
        return np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None

    @property
    def attribute_names(self) -> list[str]:
        """Names of the attributes that are numbers; empty where the source had none."""
        return [name for name, number in self._attributes.items() if number]

    @property
    def text_attribute_names(self) -> list[str]:
        """Names of the attributes that are texts: kept for selection, nothing that a model can be conditioned on."""
        return [name for name, number in self._attributes.items() if not number]

    @cached_property
    def _attributes(self) -> dict[str, bool]:
        """Attribute -> whether it is a number."""
        columns = [field for field in self.records.schema if field.name.startswith(_ATTRIBUTE)]
        return {field.name.removeprefix(_ATTRIBUTE): pa.types.is_floating(field.type) for field in columns}

    def attribute(self, name: str) -> NDArray[np.float64]:
        """A numeric attribute of each row, NaN where it is missing: float64 [n]. Raises `DatasetError` naming those that there are."""
        if not self._attributes.get(name):
            hint = nearest_name_hint(name, self.attribute_names) or "."
            problem = f"'{name}' is text, not a number" if name in self._attributes else f"there is no '{name}'"
            known = ", ".join(self.attribute_names) or "none"
            raise DatasetError(f"{self.path}: among the attributes {problem}{hint} Numbers are: {known}.")
        return np.array(self.column(_ATTRIBUTE + name), dtype=np.float64)

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their indices; empty where the data have no labels."""
        return list(self.info["classes"])

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each row, -1 where there is none."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index.get(label, -1) for label in self.column("label")], dtype=np.int64)

    @cached_property
    def groups(self) -> NDArray[np.str_]:
        """Pseudonym of the patient or group of each row."""
        return np.array(self.column("group"), dtype=np.str_)

    @cached_property
    def splits(self) -> NDArray[np.str_]:
        return np.array(self.column("split"), dtype=np.str_)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of a split, ascending."""
        if split not in SPLITS:
            raise DatasetError(f"'{split}' is no split; expected {', '.join(SPLITS)}.")
        return np.flatnonzero(self.splits == split).astype(np.int64)

    @property
    def channels(self) -> int:
        return int(self.images.shape[1])

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size, (y, x) or (z, y, x)."""
        return tuple(int(n) for n in self.images.shape[2:])

    @property
    def unit(self) -> str:
        return str(self.info["encoding"]["unit"])

    @property
    def cohort_hash(self) -> str:
        return str(self.info["cohort"]["hash"])

    @property
    def content_hash(self) -> str:
        """Changes with any pixel, label, attribute or split: the key of what is computed from the dataset."""
        return str(self.info["content"])


def seal_dataset(folder: Path, info: dict[str, Any]) -> None:
    """Write dataset.json for the files that lie in `folder`, with their SHA-256 sums."""
    names = [
        name for name in ("images.npy", "masks.npy", "records.parquet", "rejected.parquet") if (folder / name).exists()
    ]
    write_json(
        folder / "dataset.json",
        {"schema": SCHEMA_VERSION, **info, "files": {n: file_sha256(folder / n) for n in names}},
    )
