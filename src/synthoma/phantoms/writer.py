"""Phantoms as the folders that real collections come in: a folder a class, `groups.csv`, licence and citation."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from synthoma.errors import DataError, SynthomaError
from synthoma.phantoms.registry import Phantom, check_size, draw, find_phantom, stream
from synthoma.run import aside_folder, file_sha256, read_json, write_json

# Raised whenever a drawing changes, so that an older folder is not taken for what would be written today.
PHANTOM_VERSION = 1
PARAMETERS_FILE = "phantom.json"
_PICTURES_PER_PATIENT = 4
_MIN_PATIENTS = 3
CITATION = "Procedural phantoms made by Synthoma; they show no person."


@dataclass(frozen=True)
class PhantomReport:
    """What lies in the folder: pictures of each class, number of invented patients, and whether it was there before."""

    folder: Path
    kind: str
    size: int
    seed: int
    classes: dict[str, int]
    patients: int
    reused: bool

    @property
    def count(self) -> int:
        return sum(self.classes.values())

    def __str__(self) -> str:
        what = f"{self.count} {self.kind} pictures of {self.patients} invented patients at {self.size}x{self.size}"
        if self.reused:
            return f"{self.folder} already holds {what} from seed {self.seed}; nothing was written."
        return f"Wrote {what} to {self.folder}."


def write_phantom(
    kind: str, folder: Path, count: int, size: int | None = None, seed: int = 0, patients_per_class: int | None = None
) -> PhantomReport:
    """Write `count` pictures of `kind` to `folder/<class>/*.jpg|png`, with `groups.csv` and `synthoma-data.yaml`.

    size: pixels of a side, the kind's own by default. patients_per_class: invented patients that share each class's
    pictures; by default about one for four pictures, at least three where the count allows. The folder appears whole
    or not at all. Same arguments, same bytes; a folder that holds just that already is left as it is.

    Raises `DataError` for arguments that do not go together and for a folder that holds anything else.
    """
    phantom = find_phantom(kind)
    folder = Path(folder)
    size = check_size(phantom.default_size if size is None else size)
    counts = _share_out(phantom, count)
    patients = {label: _patient_count(label, number, patients_per_class) for label, number in counts.items()}
    parameters: dict[str, Any] = {
        "version": PHANTOM_VERSION,
        "kind": kind,
        "count": count,
        "size": size,
        "seed": seed,
        "patients_per_class": patients_per_class,
    }
    reused = already_there(folder, parameters)
    if not reused:
        try:
            with aside_folder(folder.absolute()) as aside:
                _write_pictures(phantom, aside, seed, size, counts, patients)
                write_json(aside / PARAMETERS_FILE, {**parameters, "content": content_hash(aside)})
        except OSError as error:
            raise DataError(f"cannot write phantoms to {folder}: {error.strerror or error}.") from error
    return PhantomReport(folder, kind, size, seed, counts, sum(patients.values()), reused)


def _share_out(phantom: Phantom, count: int) -> dict[str, int]:
    """Pictures of each class: its share, rounded by largest remainder, but at least three where `count` allows."""
    classes = len(phantom.classes)
    if count < classes:
        raise DataError(
            f"phantom '{phantom.kind}' has {classes} classes; ask for at least {classes} pictures, not {count}."
        )
    least = min(_MIN_PATIENTS, count // classes)
    wanted = np.asarray(phantom.shares) * (count - least * classes)
    numbers = np.floor(wanted).astype(np.int64)
    missing = count - least * classes - int(numbers.sum())
    numbers[np.argsort(numbers - wanted, kind="stable")[:missing]] += 1
    return {label: int(number) + least for label, number in zip(phantom.classes, numbers, strict=True)}


def _patient_count(label: str, pictures: int, wanted: int | None) -> int:
    if wanted is None:
        return min(pictures, max(_MIN_PATIENTS, round(pictures / _PICTURES_PER_PATIENT)))
    if not 1 <= wanted <= pictures:
        raise DataError(f"{pictures} pictures of class '{label}' cannot be shared by {wanted} patients; change either.")
    return wanted


def already_there(folder: Path, parameters: dict[str, Any]) -> bool:
    """Whether `folder` holds the wanted phantoms; False if there is nothing, `DataError` if there is anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the phantoms.")
    if not (folder / PARAMETERS_FILE).is_file():
        raise DataError(f"{folder} is not empty, and no phantoms were written there; name a new or an empty folder.")
    try:
        found = dict(read_json(folder / PARAMETERS_FILE))
    except (SynthomaError, TypeError, ValueError) as error:
        raise DataError(f"{folder / PARAMETERS_FILE} is damaged; remove {folder} or name another folder.") from error
    content = found.pop("content", None)
    differing = sorted(key for key in {*parameters, *found} if parameters.get(key) != found.get(key))
    if differing:
        raise DataError(
            f"{folder} holds phantoms written with another {', '.join(differing)}; "
            "name another folder, or remove this one."
        )
    if content != content_hash(folder):
        raise DataError(f"{folder} was changed after its phantoms were written; remove it or name another folder.")
    return True


def content_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of the class folders' files and the two tables beside them."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = (f"{name} {file_sha256(folder / name)}" for name in files if name != PARAMETERS_FILE)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _patients_of(seed: int, phantom: Phantom, label: str, pictures: int, patients: int) -> list[int]:
    """Patient of each picture of a class: one picture at least for each, the others at random, in order of patient."""
    others = stream(seed, phantom.kind, label, "cohort").integers(patients, size=pictures - patients)
    return sorted([*range(patients), *others.tolist()])


def _write_pictures(
    phantom: Phantom, folder: Path, seed: int, size: int, counts: dict[str, int], patients: dict[str, int]
) -> None:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "class", "group"))
    first_patient = 0
    for label, pictures in counts.items():
        (folder / label).mkdir()
        for index, patient in enumerate(_patients_of(seed, phantom, label, pictures, patients[label])):
            name = f"{label}/{label}_{index:05d}.{phantom.suffix}"
            _save(draw(phantom.kind, label, seed, index, size, patient), folder / name)
            rows.writerow((name, label, f"patient-{first_patient + patient:05d}"))
        first_patient += patients[label]
    (folder / "groups.csv").write_text(table.getvalue(), encoding="utf-8")
    terms = {"licence": "CC0-1.0", "citation": CITATION, "may_release": True}
    (folder / "synthoma-data.yaml").write_text(yaml.safe_dump(terms, sort_keys=False), encoding="utf-8")


def _save(pixels: np.ndarray, path: Path) -> None:
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    if path.suffix == ".jpg":
        image.save(path, quality=92, subsampling=0)
    else:
        image.save(path, optimize=False)
