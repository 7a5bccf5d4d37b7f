"""`synthoma detect`: a model's images are found in a folder by the detector that is shipped with the model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from synthoma.cli.app import app
from synthoma.errors import EvaluationError
from synthoma.evaluation.contamination import load_shipped, noticeable_share, scan_folder
from synthoma.evaluation.detector import Detector, _independent, train_detector
from synthoma.evaluation.studies import ship_detector
from synthoma.run import Run, write_json
from test_fidelity_detector import image_set

PREPARED = {"dtype": "uint8", "fit": "crop", "resample": True, "fill": "black", "denoised": False}


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Knows images that are a little too smooth."""
    found, _ = train_detector(image_set(200, 0, sigma=1.5), image_set(100, 1), image_set(200, 2))
    assert found is not None
    return replace(found, model_hash="0123456789abcdef", preparation=PREPARED)


@pytest.fixture
def run(tmp_path: Path, detector: Detector) -> Run:
    """A run with a model and its detector, as evaluation leaves them."""
    run = Run(tmp_path / "run")
    write_json(run.model / "model.json", {"model_hash": detector.model_hash})
    detector.save(run.evaluation / "detector")
    ship_detector(run)
    return run


def write_pictures(folder: Path, pictures: np.ndarray, first: int = 0, scale: int = 1) -> Path:
    """[n, 1, y, x] as PNG files, each pixel `scale` times as large."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, start=first):
        Image.fromarray(np.kron(picture[0], np.ones((scale, scale), np.uint8))).save(folder / f"{number:04d}.png")
    return folder


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "clean", image_set(300, 8).images)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """300 real images and 60 of the model's."""
    write_pictures(tmp_path / "mixed", image_set(300, 8).images)
    return write_pictures(tmp_path / "mixed", image_set(60, 9, sigma=1.5).images, first=300)


def test_a_contaminated_folder_ends_with_exit_code_3(run: Run, clean: Path, mixed: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.parquet"
    for place in (run.path, run.model):
        shown = CliRunner().invoke(app, ["detect", str(place), str(mixed), "--json", "--out", str(table)])
        assert shown.exit_code == 3, shown.output
    said = json.loads(shown.stdout)
    assert said["contaminated"]
    assert said["p"] < 0.001
    assert (said["images"], said["left_out"], said["resized"]) == (360, 0, 0)
    assert said["model_hash"] == "0123456789abcdef"
    assert ".png" not in shown.stdout
    rows = pq.read_table(table).to_pylist()
    assert [row["file"] for row in rows] == [f"{number:04d}.png" for number in range(360)]
    assert sum(row["flagged"] for row in rows) == said["flagged"]
    assert np.mean([row["flagged"] for row in rows[300:]]) == pytest.approx(said["recall"], abs=0.15)
    shown = CliRunner().invoke(app, ["detect", str(run.path), str(clean)])
    assert shown.exit_code == 0, shown.output
    assert "Not found at level 0.01" in shown.output
    assert "would have been noticed" in shown.output


def test_images_of_another_size_are_brought_to_the_models_as_training_images_were(
    detector: Detector, mixed: Path, tmp_path: Path
) -> None:
    large = write_pictures(tmp_path / "large", image_set(300, 8).images, scale=4)
    write_pictures(large, image_set(60, 9, sigma=1.5).images, first=300, scale=4)
    scan, same = scan_folder(detector, large), scan_folder(detector, mixed)
    assert scan.resized == 360
    # Lanczos of blocks of four gives the pixels back nearly, so most flags stay.
    assert (scan.flagged == same.flagged).mean() > 0.85
    unknown = replace(detector, preparation=None)
    with pytest.raises(
        EvaluationError, match=r"none of 360 .*64 x 64, the model's images are 16 x 16.*synthoma prepare"
    ):
        scan_folder(unknown, large)
    cut = replace(detector, preparation={**PREPARED, "resample": False})
    assert scan_folder(cut, large).resized == 360
    with pytest.raises(EvaluationError, match="larger than the training size"):
        scan_folder(replace(detector, preparation={**PREPARED, "resample": False, "fit": "pad"}), large)


def test_colour_becomes_grey_and_what_cannot_be_used_is_told(run: Run, clean: Path) -> None:
    coloured = np.stack([np.asarray(Image.open(clean / "0000.png"))] * 3, axis=-1)
    coloured[0, 0] = (200, 0, 0)  # one pixel with a hue: the file is read as colour
    Image.fromarray(coloured).save(clean / "0000.png")
    (clean / "broken.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(clean / "deep.png")
    np.save(clean / "cube.npy", np.zeros((1, 8, 8, 8), np.uint8))
    shown = CliRunner().invoke(app, ["detect", str(run.path), str(clean), "--json"])
    assert shown.exit_code == 0, shown.output
    said = json.loads(shown.stdout)
    assert (said["images"], said["left_out"]) == (300, 3)
    assert "3 files were left out" in shown.stderr


def test_folders_without_anything_to_score_are_errors(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="is no folder"):
        scan_folder(detector, tmp_path / "nowhere")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match=r"none of 1 images .* can be scored"):
        scan_folder(detector, tmp_path)
    np.save(tmp_path / "broken.npy", np.zeros((1, 16, 16), np.int16))
    with pytest.raises(EvaluationError, match="int16, and the model makes uint8"):
        scan_folder(detector, write_only(tmp_path / "hu"))
    with pytest.raises(EvaluationError, match="between 0 and 1"):
        scan_folder(detector, tmp_path, level=1.5)


def write_only(folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "slice.npy", np.zeros((1, 16, 16), np.int16))
    return folder


def test_the_shipped_detector_must_be_the_models(run: Run, detector: Detector, tmp_path: Path) -> None:
    assert load_shipped(run.path).threshold == load_shipped(run.model).threshold == detector.threshold
    with pytest.raises(EvaluationError, match="no model and no run"):
        load_shipped(tmp_path)
    write_json(run.model / "model.json", {"model_hash": "another"})
    with pytest.raises(EvaluationError, match="0123456789abcdef, and this is another"):
        load_shipped(run.path)
    fields = json.loads((run.model / "detector" / "detector.json").read_text())
    write_json(run.model / "detector" / "detector.json", {**fields, "threshold": 1e9})
    with pytest.raises(EvaluationError, match="was changed after it was written"):
        load_shipped(run.model)


def test_a_run_without_a_detector_says_why(run: Run) -> None:
    shutil.rmtree(run.evaluation / "detector")
    ship_detector(run)
    assert not (run.model / "detector").exists(), "one of an earlier model does not stay"
    with pytest.raises(EvaluationError, match="synthoma evaluate RUN"):
        load_shipped(run.path)
    write_json(run.evaluation / "detector.json", {"auc": {"kind": "withheld", "reason": "20 test images"}})
    with pytest.raises(EvaluationError, match="None could be trained: 20 test images"):
        load_shipped(run.path)


def test_chance_is_that_of_an_order_statistic(detector: Detector) -> None:
    """Without groups: the chance that of n new real scores at least so many lie above the sixth largest of a hundred."""
    known = replace(detector, false_alarms=0.05, tested=100.0)
    rng = np.random.default_rng(0)
    held, new = np.sort(rng.random((20_000, 100)))[:, -6], rng.random((20_000, 60))
    counts = (new > held[:, None]).sum(axis=1)
    for count in (3, 8, 12):
        assert known.chance(count, 60) == pytest.approx((counts >= count).mean(), abs=0.01)
    assert known.chance(0, 60) == pytest.approx(1.0)
    assert known.chance(12, 60) > stats.binom.sf(11, 60, 0.05), "a share known from a hundred images is not certain"


def test_images_of_one_patient_count_less() -> None:
    above = np.zeros(200, dtype=bool)
    above[:10] = True
    alone, pairs = np.arange(200).astype(str), (np.arange(200) // 10).astype(str)
    assert _independent(above, alone) == pytest.approx(200)
    assert _independent(above, pairs) == pytest.approx(20)
    assert _independent(np.zeros(200, dtype=bool), pairs) == 20


def test_it_says_how_many_would_have_been_noticed(detector: Detector) -> None:
    sharp = replace(detector, recall=0.9, false_alarms=0.05, tested=1000.0)
    share = noticeable_share(sharp, 1000, 0.01)
    assert share is not None
    flags = round(1000 * (share * 0.9 + (1 - share) * 0.05))
    assert sharp.chance(flags + 1, 1000) < 0.01 <= sharp.chance(flags - 1, 1000)
    assert noticeable_share(replace(sharp, recall=0.05), 1000, 0.01) is None
    assert noticeable_share(sharp, 2, 0.001) is None, "two flags of two would be too few"


def test_a_clean_folder_is_rarely_accused(detector: Detector) -> None:
    """Fresh thresholds and fresh clean folders: the share of accusations at level 0.05 stays near 0.05."""
    rng = np.random.default_rng(1)
    accused = 0
    for _ in range(400):
        held, new = np.sort(rng.standard_normal(100)), rng.standard_normal(200)
        threshold = held[-6]
        known = replace(detector, threshold=float(threshold), false_alarms=0.05, tested=100.0)
        accused += known.judge(new)["p"] < 0.05
    assert accused <= stats.binom.ppf(0.999, 400, 0.05)
