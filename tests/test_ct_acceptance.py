"""From CT volumes on disk to a report, on phantoms whose truth is known: sizes and places, Hounsfield units, no names."""

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from numpy.typing import NDArray

from make_dataset import Silent
from synthoma.cli.console import ConsoleObserver
from synthoma.formats.cuts import cuts_shards
from synthoma.formats.nifti import read_nifti
from synthoma.formats.volumes import Geometry, in_lps_order
from synthoma.formats.volumes.dicom_write import DicomSeries, write_dicom_series
from synthoma.formats.volumes.registry import list_volumes, read_volume
from synthoma.phantoms.ct import draw_chest, write_ct_phantoms
from synthoma.preparation.ct.cubes import cut_cubes
from synthoma.preparation.ct.cut import cut_volumes
from synthoma.preparation.ct.find import find_volumes
from synthoma.preparation.ct.lesions import Lesion, LesionMask
from synthoma.preparation.raw import prepare_dataset
from synthoma.recipe import load_recipe
from synthoma.synthesis import export_dataset
from synthoma.workflow import run_recipe

pytestmark = pytest.mark.slow
# An anisotropic grid as hospitals have it: slices of 2.5 mm, pixels of 0.8 mm.
SPACING = (2.5, 0.8, 0.8)
PHANTOM = {"volumes": 3, "size": (96, 400, 400), "spacing": SPACING, "seed": 9}


@pytest.fixture(scope="module", autouse=True)
def key_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHOMA_KEY_FILE", str(tmp_path_factory.mktemp("key") / "key"))
        yield


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes with solid balls of 8 to 24 mm."""
    folder = tmp_path_factory.mktemp("balls") / "phantoms"
    write_ct_phantoms(folder, spheres=True, nodules=(8, 8), diameters=(8, 24), textures=("solid",), **PHANTOM)
    return folder


def pairs_of(
    phantoms: Path, marks: str, out: Path, *settings: str
) -> list[tuple[dict[str, str], dict[str, object], float]]:
    """Each true nodule with the cube that was cut around it, and the distance of their centres in voxels of the volume."""
    recipe = load_recipe("lung-nodule-wgan-gp", ["ct.label=none", "ct.indeterminate=keep", *settings])
    found = find_volumes(phantoms / "images", recipe, phantoms / "marks" / marks)
    cut_volumes(found, recipe, out, workers=1)
    with (phantoms / "truth.csv").open() as lines:
        truth = [row for row in csv.DictReader(lines) if row["kind"] == "nodule"]
    volumes = {volume.series: (volume, key) for volume, key in zip(found.volumes, found.keys, strict=True)}
    tables = {shard.key: shard.table() for shard in cuts_shards(out)}
    pairs = []
    for row in truth:
        volume, key = volumes[row["series"]]
        assert volume.geometry is not None
        geometry = in_lps_order(np.broadcast_to(np.int8(0), volume.geometry.size), volume.geometry)[1]
        place = geometry.index([float(row[axis]) for axis in "xyz"])
        table = tables[key]
        taken = [i for i, number in enumerate(table["row"]) if number is not None]
        cut = np.array([[table[f"index_{axis}"][i] for axis in "zyx"] for i in taken])
        nearest = int(np.linalg.norm((cut - place) * SPACING, axis=1).argmin())
        distance = float(np.abs(cut[nearest] - place).max())
        pairs.append((row, {name: values[taken[nearest]] for name, values in table.items()}, distance))
    return pairs


def errors_of(pairs: list[tuple[dict[str, str], dict[str, object], float]]) -> NDArray[np.float64]:
    """[n, 4]: true diameter in mm, relative errors of diameter and volume, distance of the centres in voxels."""
    return np.array(
        [
            [
                float(row["diameter_mm"]),
                float(cut["diameter_mm"]) / float(row["diameter_mm"]) - 1,
                float(cut["volume_mm3"]) / float(row["volume_mm3"]) - 1,
                distance,
            ]
            for row, cut, distance in pairs
        ]
    )


# In voxels of 1.5 mm a ball of 6 mm has 38 of them: which are more than half in it settles its volume to 12 %.
@pytest.mark.parametrize(("spacing", "smallest"), [(SPACING, 6), ((1.25, 0.7, 0.7), 6), ((1.5, 1.5, 1.5), 8)])
def test_nodules_have_their_true_size_and_place_after_reading_resampling_and_measuring(
    tmp_path: Path, spacing: tuple[float, float, float], smallest: float
) -> None:
    size = tuple(round(length / step) for length, step in zip((200, 300, 320), spacing, strict=True))
    phantom = draw_chest(
        7, 0, Geometry(size, spacing), nodules=(10, 10), diameters=(smallest, 24), textures=("solid",), spheres=True
    )
    write_dicom_series(
        tmp_path / "series", phantom.hu, phantom.geometry, series=DicomSeries("Phantom-1", "Phantom^One", 1)
    )
    volume = read_volume(list_volumes(tmp_path / "series").volumes[0])
    section = load_recipe("lung-nodule-wgan-gp").ct
    lesions = [
        Lesion(
            "readers", nodule.center, None, mask=LesionMask(own.mask, part_of(phantom.geometry, own.start, own.mask))
        )
        for nodule, own in zip(phantom.nodules, phantom.masks, strict=True)
    ]
    assert len(lesions) == 10
    for nodule, piece in zip(phantom.nodules, cut_cubes(volume, lesions, section, 64), strict=True):
        assert piece.mask is not None
        assert piece.attributes["diameter_mm"] == pytest.approx(nodule.diameter_mm, rel=0.05)
        assert piece.attributes["volume_mm3"] == pytest.approx(nodule.volume_mm3, rel=0.10)
        # The cube's middle is the true centre; half a voxel of the volume along each axis.
        away = (np.argwhere(piece.mask).mean(axis=0) - 31.5) * section.spacing
        assert (np.abs(away) < np.asarray(spacing) / 2).all()


def part_of(geometry: Geometry, start: tuple[int, int, int], mask: NDArray[np.bool_]) -> Geometry:
    """The geometry of a piece of a volume."""
    return Geometry.from_steps(mask.shape, geometry.steps, geometry.world(start))


def test_nodules_that_readers_outlined_have_nearly_their_true_size_and_place(balls: Path, tmp_path: Path) -> None:
    pairs = pairs_of(balls, "lidc", tmp_path / "cuts")
    errors = errors_of(pairs)
    print("\nreaders: diameter, error of diameter, of volume, of centre\n", errors.round(3))
    assert len(errors) == 24
    assert all(cut["mask_by"] == "readers" for _, cut, _ in pairs)
    assert np.abs(errors[:, 1]).max() < 0.05
    assert errors[:, 3].max() < 0.5
    # The four readers disagree on purpose, and whole pixels are all that they can draw: two of 24 volumes are 14 % off.
    assert np.sort(np.abs(errors[:, 2]))[21] < 0.10
    assert np.abs(errors[:, 2]).max() < 0.15


def test_the_declared_segmenter_is_within_the_same_bounds(balls: Path, tmp_path: Path) -> None:
    pairs = pairs_of(balls, "luna16", tmp_path / "cuts")
    errors = errors_of(pairs)
    print("\nsegmenter: diameter, error of diameter, of volume, of centre\n", errors.round(3))
    assert all(cut["mask_by"] == "segmenter" for _, cut, _ in pairs)
    assert errors[:, 3].max() < 0.5
    assert np.abs(errors[:, 1]).max() < 0.05
    # It draws small balls a little too wide, as readers do (its threshold was chosen on their outlines).
    large = errors[errors[:, 0] >= 9]
    assert np.abs(large[:, 2]).max() < 0.10
    assert np.abs(errors[:, 2]).max() < 0.12


def test_hounsfield_units_come_out_as_they_went_in(tmp_path: Path) -> None:
    write_ct_phantoms(tmp_path / "phantoms", volumes=3, size=(24, 80, 80), spacing=(10.0, 4.5, 4.5), seed=2)
    recipe = load_recipe(
        "chest-ct-dcgan",
        ["preparation.size=80", "ct.slices.least_lung=0", "ct.slices.positions=[0, 1]", "ct.slices.every_mm=0"],
    )
    result = prepare_dataset(recipe, tmp_path / "phantoms" / "images", tmp_path / "set", Silent())
    export_dataset(result.dataset, tmp_path / "files")
    originals = {
        array.tobytes()
        for file in list_volumes(tmp_path / "phantoms" / "images").volumes
        for array in np.asarray(read_volume(file).array)
    }
    files = sorted((tmp_path / "files" / "images").iterdir())
    assert len(files) == len(result.dataset) > 30
    for file in files:
        values, spacing = read_nifti(file)
        assert np.ascontiguousarray(values[0, 0]).tobytes() in originals
        assert spacing is not None
        assert spacing[1:] == pytest.approx((4.5, 4.5), rel=1e-5)


def test_no_name_id_date_or_uid_is_in_anything_that_is_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    phantoms = tmp_path / "phantoms"
    write_ct_phantoms(phantoms, volumes=9, size=(48, 96, 96), spacing=(6.0, 3.7, 3.7), seed=4)
    secrets = secrets_of(phantoms)
    assert len(secrets) > 9 * 52
    run = tmp_path / "run"
    recipe = load_recipe("lung-nodule-wgan-gp", SMALL)
    with ConsoleObserver() as observer:
        run_recipe(recipe, phantoms / "images", run, observer, marks=phantoms / "marks" / "lidc", workers=1)
    assert (run / "report.html").is_file()
    assert (run / "private" / "report.html").is_file()
    said = capfd.readouterr()
    texts = {"terminal": (said.out + said.err).encode(), **dict(contents(run))}
    assert len(texts) > 20
    for place, content in texts.items():
        for secret in secrets:
            assert secret not in content, f"{secret!r} is in {place}"
    # The search itself works: the phantoms are full of what must not come out.
    raw = b"".join(file.read_bytes() for file in (phantoms / "images").rglob("*.dcm"))
    assert sum(secret in raw for secret in secrets) > 9 * 50


SMALL = [
    "preparation.size=[16, 16, 16]",
    "ct.spacing=4",
    "training.kimg=0.064",
    "training.batch=16",
    "training.critic_steps=1",
    "training.precision=fp32",
    "training.tick_kimg=0.016",
    "training.sample_kimg=0.032",
    "training.checkpoint_kimg=0.032",
    "model.generator_widths=[8, 8]",
    "model.discriminator_widths=[8, 8]",
    "evaluation.count=50",
    "evaluation.subsamples=10",
    "evaluation.validation_count=16",
]


def secrets_of(phantoms: Path) -> set[bytes]:
    """Names, ids, dates and UIDs of all files, and names of files and folders that hold them."""
    secrets = set()
    for file in (phantoms / "images").rglob("*.dcm"):
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        for element in dataset:
            if element.VR in ("PN", "DA", "UI", "LO", "SH") and element.keyword not in HARMLESS:
                secrets.add(str(element.value).encode())
    secrets |= {folder.name.encode() for folder in (phantoms / "images").iterdir()}
    return {secret for secret in secrets if len(secret) >= 6}


# Classes of objects and syntaxes are the same for everybody; the kernel and maker are told on purpose.
HARMLESS = {"SOPClassUID", "ConvolutionKernel", "Manufacturer", "ManufacturerModelName", "SoftwareVersions"}


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below the folder, those that are compressed unpacked too; and all names of files."""
    yield "names of files", "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*")).encode()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = str(file.relative_to(folder))
        yield place, file.read_bytes()
        if file.suffix == ".parquet":
            yield f"{place} (table)", str(pq.read_table(file).to_pydict()).encode()
        elif file.suffix == ".npz":
            with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
                yield f"{place} (unpacked)", b"".join(archive.read(name) for name in archive.namelist())
