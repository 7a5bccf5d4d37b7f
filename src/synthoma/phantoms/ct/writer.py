"""Phantom CT volumes as a folder like a clinic's: images, marks of three kinds, licence; and the truth."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from synthoma.errors import DataError
from synthoma.formats.volumes import Geometry
from synthoma.formats.volumes.dicom_write import DicomSeries, write_dicom_series
from synthoma.formats.volumes.write import write_volume
from synthoma.phantoms.ct.chest import LARGEST_MM, SMALLEST_MM, ChestPhantom, draw_chest
from synthoma.phantoms.ct.marks import Named, boxes_xml, lidc_xml, luna16_csv, truth_csv
from synthoma.phantoms.ct.nodules import TEXTURES, Texture
from synthoma.phantoms.ct.readers import read_phantom
from synthoma.phantoms.registry import stream
from synthoma.phantoms.writer import CITATION, PARAMETERS_FILE, already_there, content_hash
from synthoma.run import aside_folder, write_json

MarkKind = Literal["lidc", "luna16", "boxes"]
KINDS: tuple[str, ...] = ("dicom", "nifti", "metaimage")
MARKS: tuple[MarkKind, ...] = ("lidc", "luna16", "boxes")
# Raised whenever a drawing changes, so that an older folder is not taken for what would be written today.
CT_PHANTOM_VERSION = 1
SIZE, SPACING = (112, 192, 192), (2.5, 1.75, 1.75)
_VIEW_MM = 336.0
_LEAST_SIDE, _MOST_SIDE = 24, 1024
_SUFFIX: dict[str, str] = {"nifti": ".nii.gz", "metaimage": ".mhd"}
# Lung-PET-CT-Dx: adenocarcinoma, small cell, large cell, squamous; about as often as there.
_LETTERS, _LETTER_SHARES = ("A", "B", "E", "G"), (0.7, 0.1, 0.05, 0.15)
_FAMILY_NAMES = ("Okonkwo", "Lindqvist", "Marchetti", "Nakagawa", "Petrosyan", "Villanueva", "Haddad", "Szymanska")
_GIVEN_NAMES = ("Adaeze", "Torbjorn", "Giulia", "Haruto", "Anahit", "Ignacio", "Samira", "Zofia")
_MAKERS = ("GE MEDICAL SYSTEMS", "SIEMENS", "Philips", "TOSHIBA")
_KERNEL_NAMES = {"soft": "B30f", "standard": "STANDARD", "sharp": "B70f"}
# What stands for the voxels of a volume that is written.
_NOTHING_HU, _NOTHING_MASK = np.empty((0, 0, 0), dtype=np.int16), np.empty((0, 0, 0), dtype=np.bool_)


@dataclass(frozen=True)
class CtPhantomReport:
    """What lies in the folder. size: voxels (z, y, x); spacing: mm along them; nodules: of 3 mm or more, of each texture."""

    folder: Path
    kind: str
    volumes: int
    patients: int
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    nodules: dict[str, int]
    seed: int
    reused: bool

    @property
    def count(self) -> int:
        return self.volumes

    def __str__(self) -> str:
        size, spacing = " x ".join(map(str, self.size)), " x ".join(f"{length:g}" for length in self.spacing)
        textures = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.nodules.items())
        what = (
            f"{self.volumes} phantom CT volumes ({self.kind}) of {self.patients} invented patients, {size} voxels of "
            f"{spacing} mm, with {sum(self.nodules.values())} nodules ({textures})"
        )
        if self.reused:
            return f"{self.folder} already holds {what} from seed {self.seed}; nothing was written."
        return f"Wrote {what} to {self.folder}."


@dataclass(frozen=True)
class _Person:
    """An invented patient, with a name, a number and dates that look like true ones."""

    folder: str
    letter: str
    name: str
    number: str
    sex: Literal["M", "F"]
    born: date
    studied: date


def grid_of_slices(pixels: int) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Size and spacing (z, y, x) of volumes with slices of that many pixels a side, which show a whole chest."""
    return (SIZE[0], pixels, pixels), (SPACING[0], _VIEW_MM / pixels, _VIEW_MM / pixels)


def write_ct_phantoms(
    folder: Path | str,
    *,
    volumes: int = 8,
    kind: str = "dicom",
    size: tuple[int, int, int] = SIZE,
    spacing: tuple[float, float, float] = SPACING,
    marks: Sequence[MarkKind] | None = None,
    nodules: tuple[int, int] = (2, 6),
    diameters: tuple[float, float] = (SMALLEST_MM, LARGEST_MM),
    textures: Sequence[Texture] = TEXTURES,
    spheres: bool = False,
    noise: float | None = None,
    patients: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CtPhantomReport:
    """Write phantom volumes of `size` voxels (z, y, x) with `spacing` mm along them to `folder`.

        images/<patient>/<series>/0001.dcm ...     DICOM; or images/<patient>/<series UID>.nii.gz, .mhd and .raw
        marks/lidc/<patient>_<n>.xml               four readers (n: of the volume)
        marks/luna16/annotations.csv               nodules that three readers outlined
        marks/boxes/<patient>/<SOP UID>.xml        tumours, as in Lung-PET-CT-Dx; with DICOM only
        truth.csv  synthoma-data.yaml  phantom.json

    kind: dicom, nifti or metaimage. marks: all that go with the kind by default. patients: invented people who share the volumes; one for each by
    default. The rest is as for `draw_chest`. Names, numbers and dates in DICOM are invented, but look real, so that one
    can search for them where they must not be. progress: called with (volumes written, all) after each. The folder
    appears whole or not at all. Same arguments, same bytes; a folder that holds just that already is left as it is.

    Raises `DataError` for arguments that do not go together and for a folder that holds anything else,
    `MissingExtraError` without pydicom or nibabel.
    """
    folder = Path(folder)
    marks = _check(kind, volumes, size, spacing, marks)
    patients = volumes if patients is None else patients
    if not 1 <= patients <= volumes:
        raise DataError(f"{volumes} volumes cannot be shared by {patients} patients; change either.")
    drawing: dict[str, Any] = {
        "nodules": nodules,
        "diameters": diameters,
        "textures": tuple(textures),
        "spheres": spheres,
        "noise": noise,
    }
    parameters: dict[str, Any] = {
        "version": CT_PHANTOM_VERSION,
        "kind": f"ct-{kind}",
        "volumes": volumes,
        "size": list(size),
        "spacing": list(spacing),
        "marks": sorted(marks),
        "patients": patients,
        "seed": seed,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in drawing.items()},
    }
    reused = already_there(folder, parameters)
    if not reused:
        try:
            with aside_folder(folder.absolute()) as aside:
                found = []
                for number in range(volumes):
                    person = number % patients
                    phantom = draw_chest(seed, number, _geometry(seed, number, size, spacing), person=person, **drawing)
                    found.append(_write_one(aside, seed, number, person, phantom, kind, marks))
                    if progress is not None:
                        progress(number + 1, volumes)
                _write_tables(aside, found, marks)
                write_json(aside / PARAMETERS_FILE, {**parameters, "content": content_hash(aside)})
        except OSError as error:
            raise DataError(f"cannot write phantoms to {folder}: {error.strerror or error}.") from error
    counts = _counts(folder)
    return CtPhantomReport(folder, kind, volumes, patients, size, spacing, counts, seed, reused)


def _check(
    kind: str,
    volumes: int,
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    marks: Sequence[MarkKind] | None,
) -> tuple[MarkKind, ...]:
    """The kinds of marks to write; `DataError` for arguments that do not go together."""
    if kind not in KINDS:
        raise DataError(f"phantom volumes are written as {', '.join(KINDS)}, not as '{kind}'.")
    if volumes < 1:
        raise DataError(f"ask for at least one volume, not {volumes}.")
    if len(size) != 3 or not all(_LEAST_SIDE <= side <= _MOST_SIDE for side in size):
        raise DataError(f"phantom volumes have {_LEAST_SIDE} to {_MOST_SIDE} voxels along each axis, not {size}.")
    if len(spacing) != 3 or not all(0.1 <= length <= 20 for length in spacing):
        raise DataError(f"voxels of phantoms are 0.1 to 20 mm apart, not {spacing}.")
    if marks is None:
        return tuple(mark for mark in MARKS if kind == "dicom" or mark != "boxes")
    unknown = sorted(set(marks) - set(MARKS))
    if unknown:
        raise DataError(f"marks of phantoms are {', '.join(MARKS)}; not {', '.join(unknown)}.")
    if "boxes" in marks and kind != "dicom":
        raise DataError("boxes name slices by their DICOM instance UID; write the phantoms as dicom.")
    return tuple(marks)


def _geometry(seed: int, number: int, size: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    """The table stands somewhere else for each scan; LPS, slices from the feet to the head."""
    z, y, x = (length * (count - 1) / 2 for length, count in zip(spacing, size, strict=True))
    a, b, c = stream(seed, "ct", number, "table").uniform((-8, -190, -420), (8, -150, 60)).round(3).tolist()
    return Geometry(size, spacing, (round(a - x, 3), round(b + 170 - y, 3), round(c - z, 3)))


def _person(seed: int, patient: int) -> _Person:
    random = stream(seed, "ct", "identity", patient)
    letter = str(random.choice(_LETTERS, p=_LETTER_SHARES))
    name = f"{random.choice(_FAMILY_NAMES)}^{random.choice(_GIVEN_NAMES)}"
    studied = date(2009, 1, 5) + timedelta(days=int(random.integers(0, 4000)))
    born = studied - timedelta(days=int(random.integers(42 * 365, 84 * 365)))
    sex: Literal["M", "F"] = "M" if random.random() < 0.5 else "F"
    number = f"MRN-{int(random.integers(1_000_000, 9_999_999))}"
    return _Person(f"Phantom_Dx-{letter}{patient + 1:04d}", letter, name, number, sex, born, studied)


def _series(seed: int, number: int, person: _Person, phantom: ChestPhantom) -> DicomSeries:
    random = stream(seed, "ct", number, "series")
    # Later scans of a patient are months apart.
    day = person.studied + timedelta(days=90 * number)
    years = (day - person.born).days // 365
    grid = "x".join(map(str, (*phantom.geometry.size, *phantom.geometry.spacing)))
    return DicomSeries(
        patient_id=person.number,
        patient_name=person.name,
        seed=f"ct phantom/{seed}/{number}/{grid}",
        description="CHEST W/O CONTRAST",
        kvp=float(random.choice((100.0, 120.0))),
        kernel=_KERNEL_NAMES[phantom.kernel],
        manufacturer=str(random.choice(_MAKERS)),
        sex=person.sex,
        age=f"{years:03d}Y",
        birth_date=f"{person.born:%Y%m%d}",
        study_date=f"{day:%Y%m%d}",
        study_time=f"{int(random.integers(7, 18)):02d}{int(random.integers(60)):02d}{int(random.integers(60)):02d}",
        derivation="Procedural phantom drawn by a program; it shows no person.",
    )


def _write_one(
    folder: Path, seed: int, number: int, patient: int, phantom: ChestPhantom, kind: str, marks: Iterable[MarkKind]
) -> Named:
    """Images and marks of one volume. What comes back is without its voxels."""
    person = _person(seed, patient)
    series = _series(seed, number, person, phantom)
    images = folder / "images" / person.folder
    images.mkdir(parents=True, exist_ok=True)
    uids = [series.slice_uid(place) for place in range(phantom.geometry.size[0])]
    if kind == "dicom":
        uids = write_dicom_series(images / f"CT_{number:03d}", phantom.hu, phantom.geometry, series=series)
    else:
        path = images / f"{series.series_uid}{_SUFFIX[kind]}"
        write_volume(path, phantom.hu, phantom.geometry, "Procedural phantom, synthetic", compress=False)
    readings = read_phantom(stream(seed, "ct", number, "readers"), phantom)
    named = Named(person.folder, series.series_uid, series.study_uid, uids, phantom, readings)
    texts = {}
    if "lidc" in marks:
        texts[f"marks/lidc/{person.folder}_{number:03d}.xml"] = lidc_xml(named, series.study_date)
    if "boxes" in marks:
        found = boxes_xml(named, person.letter)
        texts |= {f"marks/boxes/{person.folder}/{uid}.xml": text for uid, text in found.items()}
    for place, text in texts.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return replace(named, phantom=replace(phantom, hu=_NOTHING_HU, lung_mask=_NOTHING_MASK))


def _write_tables(folder: Path, found: Sequence[Named], marks: Iterable[MarkKind]) -> None:
    """The truth, LUNA16's table, and what may be done with the data."""
    (folder / "truth.csv").write_text(truth_csv(found), encoding="utf-8")
    if "luna16" in marks:
        table = folder / "marks" / "luna16" / "annotations.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(luna16_csv(found), encoding="utf-8")
    terms = {"licence": "CC0-1.0", "citation": CITATION, "may_release": True}
    (folder / "synthoma-data.yaml").write_text(yaml.safe_dump(terms, sort_keys=False), encoding="utf-8")


def _counts(folder: Path) -> dict[str, int]:
    """Nodules of each texture, from the table of the truth."""
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as file:
        found = Counter(row["texture"] for row in csv.DictReader(file) if row["kind"] == "nodule")
    return {texture: found[texture] for texture in TEXTURES}
