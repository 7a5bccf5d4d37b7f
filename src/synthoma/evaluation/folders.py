"""Image sets from folders of pictures: class folders or flat, with groups.csv or a manifest beside them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.errors import DataError, EvaluationError
from synthoma.evaluation.imagesets import ImageSet, image_set_from_rows, pixel_hash
from synthoma.formats.arrays import read_npy
from synthoma.formats.images import is_image_name, read_image
from synthoma.formats.nifti import SUFFIX as NIFTI
from synthoma.formats.nifti import read_nifti
from synthoma.formats.tables import read_table
from synthoma.records import pseudonym

MANIFEST = "manifest.parquet"  # written beside generated images: file, class, ...
GROUPS = "groups.csv"  # file, class, group
_VOLUME = ".npy"
_SHAPES = ".npy files of volumes [c, z, y, x], or of slices [c, y, x]"


def image_set_from_path(path: Path, groups: Path | None = None) -> ImageSet:
    """All images of a folder: a dataset (every split), a tree of class folders, or a flat folder."""
    if not (path / "dataset.json").is_file():
        return read_folder(path, groups)
    dataset = Dataset.open(path)
    return image_set_from_rows(dataset, np.arange(len(dataset), dtype=np.int64), dataset.content_hash)


def read_folder(root: Path, groups: Path | None = None) -> ImageSet:
    """All pictures (or volumes: [c, z, y, x] in .npy, or .nii.gz) below `root`; they must be of one size.

    The class is the manifest's, else the name of the folder that a file lies in; files right in `root` have none. A set
    in which no picture has any hue is grey, however its files were saved. Groups come from `groups`, else groups.csv;
    an image that no list names is a group of its own. Raises `EvaluationError`, or `DataError` for an unreadable file.
    """
    files = image_files(root)
    in_manifest = _column(root / MANIFEST, "class") if (root / MANIFEST).is_file() else {}
    names = [file.relative_to(root).as_posix() for file in files]
    images = _stack([read_image_file(file) for file in files], files)
    labels = [in_manifest[name] if name in in_manifest else _folder_name(name) for name in names]
    classes = sorted({label for label in labels if label is not None})
    numbers = {name: number for number, name in enumerate(classes)}
    table = groups or (root / GROUPS if (root / GROUPS).is_file() else None)
    known = {} if table is None else _column(table, "group")
    if known and not any(known.get(name) for name in names):
        raise EvaluationError(
            f"{table} names none of the images in {root}; its column 'file' holds paths relative to it."
        )
    return ImageSet(
        images=images,
        labels=np.array([-1 if label is None else numbers[label] for label in labels], dtype=np.int64),
        classes=classes,
        groups=np.array(
            [pseudonym(f"group/{known[n]}" if known.get(n) else f"file/{n}") for n in names], dtype=np.str_
        ),
        content=pixel_hash(images),
    )


def image_files(root: Path) -> list[Path]:
    """The pictures and volumes below a folder, sorted; `EvaluationError` where there are none."""
    if not root.is_dir():
        raise EvaluationError(f"{root} is no folder; give a folder of images, or a dataset.")
    files = sorted(file for file in root.rglob("*") if _is_image(file, root))
    if (root / MANIFEST).is_file():  # beside generated images may lie their masks, which it does not list as files
        listed = _column(root / MANIFEST, "class")
        files = [file for file in files if not listed or file.relative_to(root).as_posix() in listed]
    if not files:
        raise EvaluationError(f"{root} holds no images.")
    return files


def holds_synthetic_images(root: Path) -> bool:
    """Whether a folder was written by `synthoma generate`."""
    return (root / MANIFEST).is_file()


def _is_image(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return (
        not hidden
        and file.is_file()
        and (is_image_name(file.name) or file.suffix == _VOLUME or file.name.endswith(NIFTI))
    )


def _folder_name(name: str) -> str | None:
    """The innermost folder of a relative path: trees may have Train/ and Test/ above the classes."""
    parts = name.split("/")
    return parts[-2] if len(parts) > 1 else None


def read_image_file(file: Path) -> NDArray[np.generic]:
    """A picture as [c, y, x], a volume as [c, z, y, x]; a volume of one slice is a picture."""
    if file.name.endswith(NIFTI):
        volume = read_nifti(file)[0]
        return volume[:, 0] if volume.shape[1] == 1 else volume
    if file.suffix != _VOLUME:
        return np.moveaxis(read_image(file).array, -1, 0)
    try:
        volume = read_npy(file)
    except DataError as error:
        raise EvaluationError(f"{file} is no readable array; expected {_SHAPES}.") from error
    if volume.ndim not in (3, 4):
        raise EvaluationError(f"{file} has shape {volume.shape}; expected {_SHAPES}.")
    return volume


def _stack(images: Sequence[NDArray[np.generic]], files: Sequence[Path]) -> NDArray[np.generic]:
    """One array [n, c, *spatial]; grey pictures among coloured ones are repeated to three channels."""
    first = images[0]
    for image, file in zip(images, files, strict=True):
        if image.shape[1:] != first.shape[1:] or image.dtype != first.dtype:
            raise EvaluationError(
                f"{file} is {_words(image)}, {files[0]} is {_words(first)}. Metrics compare images of one size and "
                "depth; prepare them first (synthoma prepare), and give the dataset."
            )
    channels = max(image.shape[0] for image in images)
    return np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])


def _words(image: NDArray[np.generic]) -> str:
    return f"{' x '.join(str(n) for n in image.shape[1:])} {image.dtype}"


def _column(table: Path, name: str) -> dict[str, str | None]:
    """File -> value of a column."""
    content = read_table(table)
    missing = {"file", name} - set(content.columns)
    if missing:
        raise EvaluationError(f"{table} has no column '{min(missing)}'; expected 'file' and '{name}'.")
    files = [file or "" for file in content.texts("file")]
    return dict(zip(files, content.texts(name), strict=True))
