"""Phantoms: the same arguments give the same bytes, the tables fit the files, and the classes can be told apart."""

import csv
import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter
from scipy.ndimage import label as label_regions

from synthoma.errors import DataError
from synthoma.phantoms import PHANTOMS, draw, write_phantom
from synthoma.phantoms.shapes import cell_pattern, grid, noise, paint_strokes

KINDS = tuple(PHANTOMS)


def file_hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def groups_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "groups.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", KINDS)
def test_written_tree_fits_its_tables(kind: str, tmp_path: Path) -> None:
    phantom, count = PHANTOMS[kind], 6 * len(PHANTOMS[kind].classes)
    report = write_phantom(kind, tmp_path / "data", count, size=32, seed=3)
    rows = groups_table(tmp_path / "data")
    assert list(rows[0]) == ["file", "class", "group"]
    on_disk = {p.relative_to(tmp_path / "data").as_posix() for p in (tmp_path / "data").glob(f"*/*.{phantom.suffix}")}
    assert {row["file"] for row in rows} == on_disk
    assert len(on_disk) == count == report.count
    assert all(row["file"].split("/")[0] == row["class"] for row in rows)
    assert Counter(row["class"] for row in rows) == report.classes
    assert tuple(report.classes) == phantom.classes
    patients = defaultdict(set)
    for row in rows:
        patients[row["class"]].add(row["group"])
    assert all(len(groups) >= 3 for groups in patients.values())
    assert len(set.union(*patients.values())) == sum(map(len, patients.values())) == report.patients
    for row in rows:
        with Image.open(tmp_path / "data" / row["file"]) as image:
            image.load()
            assert image.size == (32, 32)
            assert image.mode == ("RGB" if phantom.channels == 3 else "L")
            assert image.format == {"jpg": "JPEG", "png": "PNG"}[phantom.suffix]
    terms = yaml.safe_load((tmp_path / "data" / "synthoma-data.yaml").read_text())
    assert terms["licence"] == "CC0-1.0"
    assert terms["may_release"] is True
    assert terms["citation"]


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    write_phantom("chest-xray", tmp_path / "a", 7, size=32, seed=5)
    write_phantom("chest-xray", tmp_path / "b", 7, size=32, seed=5)
    write_phantom("chest-xray", tmp_path / "c", 7, size=32, seed=6)
    first, again, other = (file_hashes(tmp_path / name) for name in "abc")
    assert first == again
    pictures = [name for name in first if name.endswith(".jpg")]
    assert len({first[name] for name in pictures}) == len(pictures)
    assert not {first[name] for name in pictures} & set(other.values())


def test_report_says_when_the_same_is_there_already(tmp_path: Path) -> None:
    fresh = write_phantom("chest-ct", tmp_path / "data", 9, size=32)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    again = write_phantom("chest-ct", tmp_path / "data", 9, size=32)
    assert not fresh.reused
    assert again.reused
    assert "already holds" in str(again)
    assert (again.classes, again.patients) == (fresh.classes, fresh.patients)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == times


def test_foreign_or_other_content_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_phantom("skin", tmp_path, 9, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(DataError, match="is a file"):
        write_phantom("skin", tmp_path / "letter.txt", 9, size=32)

    folder = tmp_path / "data"
    folder.mkdir()  # an empty folder is welcome
    write_phantom("chest-ct", folder, 6, size=32, seed=1)
    before = file_hashes(folder)
    with pytest.raises(DataError, match="another count, seed"):
        write_phantom("chest-ct", folder, 7, size=32, seed=2)
    assert file_hashes(folder) == before

    next((folder / "normal").iterdir()).unlink()
    with pytest.raises(DataError, match="was changed"):
        write_phantom("chest-ct", folder, 6, size=32, seed=1)
    (folder / "phantom.json").write_text("{")
    with pytest.raises(DataError, match=r"phantom\.json is damaged"):
        write_phantom("chest-ct", folder, 6, size=32, seed=1)


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(DataError, match=r"cannot write phantoms to .*data: No space left"):
        write_phantom("chest-ct", tmp_path / "data", 6, size=32)
    assert list(tmp_path.iterdir()) == []


def test_patients_per_class(tmp_path: Path) -> None:
    report = write_phantom("chest-xray", tmp_path / "data", 12, size=32, patients_per_class=2)
    groups = Counter((row["class"], row["group"]) for row in groups_table(tmp_path / "data"))
    assert report.patients == len(groups) == 4
    with pytest.raises(DataError, match="cannot be shared by 40 patients"):
        write_phantom("chest-xray", tmp_path / "more", 12, size=32, patients_per_class=40)


@pytest.mark.parametrize("count", [9, 10, 27, 100, 2000])
def test_counts_add_up_and_leave_no_class_poor(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank = np.zeros((16, 16, 3), np.uint8)
    monkeypatch.setattr("synthoma.phantoms.writer.draw", lambda *_: blank)
    monkeypatch.setattr("synthoma.phantoms.writer._save", lambda *_: None)
    report = write_phantom("skin", tmp_path / "data", count)
    assert report.count == count
    assert min(report.classes.values()) >= min(3, count // 9)
    assert report.patients >= 9 * min(3, count // 9)
    if count >= 100:
        assert len(set(report.classes.values())) > 3  # a little imbalance, as in collections


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "skni", "count": 9}, "did you mean 'skin'"),
        ({"kind": "skin", "count": 8}, "at least 9 pictures, not 8"),
        ({"kind": "skin", "count": 9, "size": 8}, "16 to 1024 pixels, not 8"),
    ],
)
def test_bad_arguments(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        write_phantom(folder=tmp_path / "data", **arguments)
    assert not (tmp_path / "data").exists()


def test_unknown_class_is_refused() -> None:
    with pytest.raises(DataError, match="did you mean 'melanoma'"):
        draw("skin", "melanom", 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_draw_is_pure_and_shaped(kind: str) -> None:
    phantom = PHANTOMS[kind]
    state = np.random.get_state(legacy=True)[1].copy()  # noqa: NPY002 - the global stream must not move
    for label in phantom.classes:
        picture = draw(kind, label, 2, 4)
        assert picture.dtype == np.uint8
        assert picture.shape == (96, 96, phantom.channels)
        assert np.array_equal(picture, draw(kind, label, 2, 4))
        assert not np.array_equal(picture, draw(kind, label, 2, 5))
        assert not np.array_equal(picture, draw(kind, label, 3, 4))
        assert picture.std() > 10
    assert np.array_equal(state, np.random.get_state(legacy=True)[1])  # noqa: NPY002


@pytest.mark.parametrize("kind", KINDS)
def test_picture_is_the_same_scene_at_every_size(kind: str) -> None:
    label = PHANTOMS[kind].classes[0]
    large = draw(kind, label, 0, 1, 192)[..., 0]
    small = draw(kind, label, 0, 1, 48)[..., 0]
    reduced = large.reshape(48, 4, 48, 4).mean(axis=(1, 3))
    assert np.corrcoef(reduced.ravel(), small.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_patients_pictures_are_more_alike_than_strangers(kind: str) -> None:
    """Colour of skin and stain, width of chests: what does not depend on the lesion varies less within a patient."""

    def trait(index: int, patient: int) -> float:
        picture = draw(kind, PHANTOMS[kind].classes[-1], 0, index, 32, patient).astype(float)
        if picture.shape[2] == 3:
            return float(np.median(picture[..., 2]) / np.median(picture[..., 0]))
        return float((picture[8:28] > 90).mean())

    values = np.array([[trait(4 * patient + i, patient) for i in range(4)] for patient in range(8)])
    within = values.var(axis=1, ddof=1).mean()
    assert values.mean(axis=1).var(ddof=1) > 1.5 * within / 4


def isolation(grey: np.ndarray) -> list[float]:
    """How much a disc is brighter than a grey ring around it, at its best place: nodules stand out, vessels do not."""
    found: list[float] = []
    for radius in (2.0, 3.0, 4.5, 6.0):
        half = int(radius) + 1
        reach = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
        ring, disc = (np.abs(reach - radius) < 0.6).astype(float), (reach <= radius - 1.2).astype(float)
        around, within = convolve(grey, ring / ring.sum()), convolve(grey, disc / disc.sum())
        lung_around = (around > 0.18) & (around < 0.5)
        for value in (within - around, grey):
            found.append(np.where(lung_around, value, 0.0)[5:23, 4:28].max())
    return found


def features(picture: np.ndarray) -> np.ndarray:
    """Small features of [32, 32, c]: means and spreads on rings, quantiles, band-pass responses, isolated spots."""
    y, x = grid(len(picture))
    reach = np.hypot(y, x)
    rings = [(reach >= low) & (reach < high) for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 0.8), (0.8, 2.0))]
    found: list[float] = isolation(picture[..., 0] / 255.0) if picture.shape[2] == 1 else []
    for channel in np.moveaxis(picture / 255.0, -1, 0):
        found += [statistic for ring in rings for statistic in (channel[ring].mean(), channel[ring].std())]
        found += list(np.quantile(channel[reach < 0.7], (0.05, 0.25, 0.5, 0.75, 0.95)))
        for sigma in (0.7, 1.4, 2.8):
            band = (gaussian_filter(channel, sigma) - gaussian_filter(channel, 1.6 * sigma))[reach < 0.75]
            found += [band.std(), *np.quantile(band, (0.02, 0.98, 0.995))]
    return np.array(found)


def ridge_accuracy(x: np.ndarray, y: np.ndarray, patients: np.ndarray, ridge: float = 10.0) -> float:
    """Accuracy of ridge regression on one-hot classes, four folds that hold whole patients out."""
    guess = np.empty_like(y)
    for fold in range(4):
        train = patients % 4 != fold
        scaled = (x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-9)
        scaled = np.concatenate((scaled, np.ones((len(x), 1))), axis=1)
        inner = scaled[train].T @ scaled[train] + ridge * np.eye(scaled.shape[1])
        weights = np.linalg.solve(inner, scaled[train].T @ np.eye(y.max() + 1)[y[train]])
        guess[~train] = (scaled[~train] @ weights).argmax(axis=1)
    return float((guess == y).mean())


@pytest.mark.parametrize(
    ("kind", "per_class", "wanted"),
    [("skin", 16, 0.70), ("chest-ct", 64, 0.80), ("chest-xray", 40, 0.80), ("pap-smear", 24, 0.70)],
)
def test_simple_classifier_tells_classes_apart(kind: str, per_class: int, wanted: float) -> None:
    classes = PHANTOMS[kind].classes
    places = [(k, index) for k in range(len(classes)) for index in range(per_class)]
    x = np.stack([features(draw(kind, classes[k], 1, index, 32, patient=index // 4)) for k, index in places])
    labels = np.array([k for k, _ in places])
    # A patient has one class: patients of different classes with the same number fall into the same fold.
    accuracy = ridge_accuracy(x, labels, np.array([index // 4 for _, index in places]))
    assert accuracy >= wanted
    shuffled = np.random.default_rng(0).permutation(labels)
    assert ridge_accuracy(x, shuffled, np.arange(len(labels))) < 0.6 * wanted + 0.2  # the labels are what is learnt


def test_noise_has_the_stated_moments() -> None:
    fields = np.stack([noise(np.random.default_rng(i), 48, 6, octaves=2) for i in range(60)])
    assert abs(fields.mean()) < 0.05
    assert fields.var() == pytest.approx(1.0, abs=0.08)


def test_cell_pattern_is_the_brute_force_distance() -> None:
    rng = np.random.default_rng(0)
    first, second = cell_pattern(rng, 24, 4, jitter=0.5)
    offset = np.random.default_rng(0).uniform(0.25, 0.75, (2, 6, 6))
    points = np.stack(np.meshgrid(np.arange(-1, 5), np.arange(-1, 5), indexing="ij")) + offset
    place = (np.arange(24) + 0.5) / 24 * 4
    pixels = np.stack(np.meshgrid(place, place, indexing="ij")).reshape(2, -1)
    distance = np.sort(np.linalg.norm(pixels[:, :, None] - points.reshape(2, -1)[:, None], axis=0), axis=1)
    assert np.allclose(first.ravel(), distance[:, 0])
    assert np.allclose(second.ravel(), distance[:, 1])


def test_no_strokes_leave_the_canvas_empty() -> None:
    assert not paint_strokes(16, []).any()


def nuclear_share(picture: np.ndarray) -> float:
    """Share of the picture that the nucleus nearest to its middle covers: what is dark in red, as haematoxylin is."""
    red = gaussian_filter(picture[..., 0].astype(float), 1.0)
    parts, _ = label_regions(red < 0.5 * (np.quantile(red, 0.002) + np.quantile(red, 0.95)))
    y, x = grid(len(red))
    nearest = np.where(parts > 0, np.hypot(y, x), np.inf).argmin()
    return float((parts == parts.flat[nearest]).mean())


def test_nuclei_of_pap_smears_grow_and_coarsen_with_the_grade() -> None:
    grades = [name for name in PHANTOMS["pap-smear"].classes if name != "normal_columnar"]
    shares = [np.median([nuclear_share(draw("pap-smear", name, 5, i)) for i in range(12)]) for name in grades]
    assert grades[0] == "normal_superficiel"
    assert grades[-1] == "carcinoma_in_situ"
    assert shares == sorted(shares)
    assert shares[-1] > 20 * shares[0]
