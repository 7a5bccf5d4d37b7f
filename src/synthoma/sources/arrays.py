"""An .npz of arrays in the MedMNIST layout, 2D and 3D: `{train,val,test}_{images,labels,masks,ids,ratings}`.

Any further `{train,val,test}_<name>` with a number an image (`train_diameter_mm`) is an attribute, like a column of the ratings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.cohort import SPLITS
from synthoma.errors import DataError
from synthoma.formats.arrays import Member, guess_axes, list_arrays, parse_axes, read_array, to_standard_order
from synthoma.formats.images import ImageFileError
from synthoma.recipe import SourceSection
from synthoma.records import Origin, Pixels, Record, Unit, pseudonym, record_key
from synthoma.sources.attributes import Value, choose_attributes
from synthoma.sources.source import ListedSource, image_files

DESCRIPTION = "arrays: an .npz with train_images, train_labels, ... (the MedMNIST layout), or a folder with just one"
_PARTS = ("images", "labels", "masks", "ids", "ratings")


def recognises(path: Path, section: SourceSection) -> bool:
    """An .npz; or a folder that holds exactly one and no pictures."""
    if path.is_file():
        return path.suffix.lower() == ".npz"
    return len(_archives(path)) == 1 and not image_files(path)


def _archives(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".npz" and not path.name.startswith("."))


@dataclass
class ArraysSource(ListedSource):
    """Images that lie in arrays. One split at a time is unpacked and kept until another is asked for."""

    file: Path
    axes: str | None = None
    attributes: list[str] | None = None
    walks: bool = False
    parallel: bool = False
    _loaded: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    _members: dict[str, Member] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, section: SourceSection, groups: Path | None) -> "ArraysSource":
        file = path
        if path.is_dir():
            archives = _archives(path)
            if len(archives) != 1:
                raise DataError(f"{path} holds {len(archives)} .npz files; give the one that is meant as --data.")
            file = archives[0]
        elif path.suffix.lower() != ".npz":
            raise DataError(f"{path} is no .npz; source.kind 'arrays' reads .npz archives.")
        if groups or section.groups:
            raise DataError(f"{file}: groups of arrays are their `train_ids`, ...; a groups file names files.")
        return cls(file, section.axes, section.attributes)

    @property
    def root(self) -> Path:
        return self.file.parent

    def _list(self) -> list[Record]:
        self._members = list_arrays(self.file)
        splits = [split for split in SPLITS if f"{split}_images" in self._members]
        if not splits:
            raise DataError(
                f"{self.file} holds {', '.join(sorted(self._members)) or 'nothing'}; expected arrays named train_images, "
                "train_labels, and so on."
            )
        attributes = self._attributes(splits)
        known = {f"{split}_{part}" for split in SPLITS for part in _PARTS} | {"label_names", "rating_names"}
        known |= {f"{split}_{name}" for split in splits for name in self._numbers(split)}
        if unknown := sorted(set(self._members) - known):
            self.notes.append(f"Arrays of other names were ignored: {', '.join(unknown)}.")
        if len(splits) > 1:
            self.notes.append(
                f"The splits {', '.join(splits)} of the archive are pooled and split anew by group; "
                "`preparation.split: given` honours them."
            )
        return [record for split in splits for record in self._split_records(split, attributes[split])]

    def read(self, record: Record, max_pixels: int) -> Pixels:
        split, index = record.origin.inside.removesuffix("]").split("_images[")
        images = self._load(f"{split}_images", keep=split)
        axes = self._axes_of(f"{split}_images")
        array = to_standard_order(_take(images, axes, int(index)), axes)
        if array.shape[-1] == 4:
            raise ImageFileError(self.file, "images with four channels are not read; save grey or RGB")
        if array[..., 0].size > max_pixels:
            raise ImageFileError(self.file, f"{array[..., 0].size:,} pixels are more than the limit of {max_pixels:,}")
        if array.shape[-1] == 3 and (array == array[..., :1]).all():
            array = array[..., :1]
        mask = None
        if f"{split}_masks" in self._members:
            masks = self._load(f"{split}_masks", keep=split)
            order = self._mask_axes(split, axes)
            mask = (to_standard_order(_take(masks, order, int(index)), order) != 0).astype(np.uint8)
        unit: Unit = "grey16" if array.dtype.itemsize == 2 else "rgb8" if array.shape[-1] == 3 else "grey8"
        return Pixels(np.ascontiguousarray(array), unit, record.spacing, mask)

    def _split_records(self, split: str, attributes: Mapping[str, Sequence[Value]]) -> list[Record]:
        member = self._members[f"{split}_images"]
        if member.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise DataError(f"{self.file}: {split}_images is {member.dtype}; read are uint8 and uint16.")
        count = self._count(split)
        labels = self._labels(split, count)
        ids = self._column(split, "ids", count)
        records = []
        for i in range(count):
            inside = f"{split}_images[{i}]"
            owner = "" if ids is None else str(ids[i])
            records.append(
                Record(
                    key=record_key(inside),
                    label=labels[i],
                    group=pseudonym(owner) if owner else None,
                    origin=Origin(self.file, inside, owner),
                    given_split=split,
                    attributes={name: values[i] for name, values in attributes.items()},
                )
            )
        return records

    def _count(self, split: str) -> int:
        """Number of images of a split."""
        return self._members[f"{split}_images"].shape[self._axes_of(f"{split}_images").index("n")]

    def _axes_of(self, name: str) -> str:
        shape = self._members[name].shape
        where = f"{self.file}: {name}"
        return parse_axes(self.axes, len(shape), where) if self.axes else guess_axes(shape, where)

    def _mask_axes(self, split: str, axes: str) -> str:
        """Masks have the axes of the images, with or without the channels."""
        ndim = len(self._members[f"{split}_masks"].shape)
        return axes if ndim == len(axes) else parse_axes(axes.replace("c", ""), ndim, f"{self.file}: {split}_masks")

    def _load(self, name: str, keep: str) -> NDArray[np.generic]:
        if name not in self._loaded:
            self._loaded = {n: array for n, array in self._loaded.items() if n.startswith(f"{keep}_")}
            self._loaded[name] = read_array(self.file, name)
        return self._loaded[name]

    def _column(self, split: str, part: str, count: int) -> NDArray[np.generic] | None:
        name = f"{split}_{part}"
        if name not in self._members:
            return None
        values = read_array(self.file, name)
        if len(values) != count:
            raise DataError(f"{self.file}: {name} has {len(values)} entries, {split}_images {count}.")
        return values

    def _labels(self, split: str, count: int) -> list[str | None]:
        values = self._column(split, "labels", count)
        if values is None:
            return [None] * count
        if values.size != count:
            raise DataError(
                f"{self.file}: {split}_labels has shape {values.shape}: several findings an image. One class an image is "
                "needed; save a single column."
            )
        names = read_array(self.file, "label_names").ravel() if "label_names" in self._members else None
        return [_label(value, names, self.file) for value in values.ravel().tolist()]

    def _attributes(self, splits: Sequence[str]) -> dict[str, dict[str, list[Value]]]:
        """Split -> attribute -> values, the same attributes in each split (None where it has none)."""
        found = {split: self._ratings(split) for split in splits}
        for split in splits:
            for name, values in self._further(split).items():
                if name in found[split]:
                    raise DataError(
                        f"{self.file}: '{name}' is one of rating_names and an array {split}_{name}; rename one."
                    )
                found[split][name] = values
        names = list(dict.fromkeys(name for own in found.values() for name in own))
        full = {
            split: {name: found[split].get(name) or [None] * self._count(split) for name in names} for split in splits
        }
        together = {name: [value for split in splits for value in full[split][name]] for name in names}
        chosen = choose_attributes(together, self.attributes, str(self.file))
        self.notes += chosen.notes
        self.warnings += chosen.warnings
        return {split: {name: full[split][name] for name in chosen.values} for split in splits}

    def _ratings(self, split: str) -> dict[str, list[Value]]:
        """Columns of `<split>_ratings` by `rating_names`."""
        count = self._count(split)
        values = self._column(split, "ratings", count)
        if values is None:
            return {}
        values = values.reshape(count, -1)
        names = [f"rating{i}" for i in range(values.shape[1])]
        if "rating_names" in self._members:
            names = [str(name) for name in read_array(self.file, "rating_names").ravel()]
        if len(names) != values.shape[1]:
            raise DataError(f"{self.file}: {split}_ratings has {values.shape[1]} columns, rating_names {len(names)}.")
        return {name: [_attribute(value) for value in values[:, i].tolist()] for i, name in enumerate(names)}

    def _numbers(self, split: str) -> list[str]:
        """Names of the further arrays of a split that hold a number for each image."""
        shapes = ((self._count(split),), (self._count(split), 1))
        return [
            name.removeprefix(f"{split}_")
            for name, member in self._members.items()
            if name.startswith(f"{split}_")
            and name.removeprefix(f"{split}_") not in _PARTS
            and member.dtype.kind in "biuf"
            and member.shape in shapes
        ]

    def _further(self, split: str) -> dict[str, list[Value]]:
        arrays = {name: read_array(self.file, f"{split}_{name}") for name in self._numbers(split)}
        return {name: [_attribute(value) for value in array.ravel().tolist()] for name, array in arrays.items()}


def _take(stack: NDArray[np.generic], axes: str, index: int) -> NDArray[np.generic]:
    return np.take(stack, index, axis=axes.index("n"))


def _label(value: Any, names: NDArray[np.generic] | None, file: Path) -> str | None:
    """Class name of an entry: text as it is, a number by `label_names` where given; NaN is no label."""
    if isinstance(value, (str, bytes)):
        return (value.decode() if isinstance(value, bytes) else value) or None
    if value != value:
        return None
    if names is None:
        return str(int(value))
    if not 0 <= int(value) < len(names):
        raise DataError(f"{file}: label {value} has no name; label_names has {len(names)} entries.")
    return str(names[int(value)])


def _attribute(value: Any) -> Value:
    """A finite number, or a text; what is neither is missing."""
    if isinstance(value, (bool, int, float)):
        return float(value) if math.isfinite(value) else None
    return (value.decode() if isinstance(value, bytes) else str(value)) or None
