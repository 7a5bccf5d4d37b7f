"""Volumes and Hounsfield units on the two pages: the viewer, the histogram, and pixels drawn in the dataset's window."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from run_fixture import make_run
from synthoma.dataset import Dataset, seal_dataset
from synthoma.pictures import to_uint8
from synthoma.report import histograms, volume_viewer, write_report
from synthoma.report.charts import Series, line_chart
from synthoma.report.facts import read_facts, shown_pixels
from synthoma.report.histograms import Bins, histogram, value_counts
from synthoma.report.volume_viewer import by_turns, shown_size, sprite_sheet
from synthoma.run import Run, read_json, write_json
from test_report import holds_mark, pictures_in, seen

CLASSES = ("not_suspicious", "rated_suspicious")
WINDOW = (-1000.0, 400.0)
SIZE = (6, 8, 10)  # no two axes alike, so that none can stand for another
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def to_hu(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """HU that are drawn as these pixels in `WINDOW`."""
    low, high = WINDOW
    return np.rint(low + pixels.astype(np.float64) * (high - low) / 255).astype(np.int16)


def hu_run(
    folder: Path, size: tuple[int, ...] = SIZE, classes: tuple[str, ...] = CLASSES
) -> tuple[Run, Dataset, NDArray[np.uint8]]:
    """A run on int16 HU, its dataset, and the synthetic images as they are to be drawn.

    Each real image has one voxel below the window and one above it.
    """
    run, dataset = make_run(folder, classes=classes, channels=1, size=size, kimg=10)
    pixels = np.array(dataset.images)
    values = to_hu(pixels)
    flat = values.reshape(len(values), -1)
    flat[:, -1], flat[:, -2] = 1500, -1024
    np.save(dataset.path / "images.npy", values)
    encoding = {"unit": "hu", "dtype": "int16", "window": list(WINDOW), "channels": 1, "size": list(size)}
    info = {key: value for key, value in dataset.info.items() if key not in ("schema", "files")}
    seal_dataset(dataset.path, {**info, "encoding": encoding})
    with np.load(run.evaluation / "synthetic.npz", allow_pickle=False) as arrays:
        made, labels = arrays["images"], arrays["labels"]
    np.savez(run.evaluation / "synthetic.npz", images=to_hu(made), labels=labels)
    write_json(run.model / "model.json", {**read_json(run.model / "model.json"), "encoding": encoding})
    return run, Dataset.open(dataset.path), made


def pages_of(run: Run, dataset: Dataset | None) -> tuple[str, str]:
    public, private = (page.read_text(encoding="utf-8") for page in write_report(run, dataset))
    return public, private


def viewer_of(page: str) -> str:
    found = re.search(r'<div class="viewer".*?</script>\s*</div>', page, flags=re.S)
    assert found is not None
    return found[0]


def sprites_in(page: str) -> list[NDArray[np.uint8]]:
    contents = re.findall(r'<img class="sprite" src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) for content in contents]


def volume_in(sprite: NDArray[np.uint8], size: tuple[int, ...] = SIZE) -> NDArray[np.uint8]:
    """The volume [z, y, x] that a sprite holds, slice by slice."""
    depth, height, width = size
    columns = sprite.shape[1] // width
    corners = [(z // columns * height, z % columns * width) for z in range(depth)]
    return np.stack([sprite[top : top + height, left : left + width] for top, left in corners])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Dataset, NDArray[np.uint8]]:
    return hu_run(tmp_path_factory.mktemp("volumes") / "run")


@pytest.fixture(scope="module")
def pages(made: tuple[Run, Dataset, NDArray[np.uint8]]) -> tuple[str, str]:
    return pages_of(made[0], made[1])


def test_only_the_script_of_the_viewer_may_run(pages: tuple[str, str]) -> None:
    for page in pages:
        scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
        assert len(scripts) == 1
        digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" + digest + "'"
        assert f'content="{policy}"' in page
        parsed = seen(page)
        assert parsed.tags.count("script") == 1
        assert not parsed.handlers
        assert not {"iframe", "object", "embed", "base", "form"} & set(parsed.tags)
        assert all(address.startswith("data:") for address in parsed.loads)
        assert not re.search(r"https?:|@import|url\(", page)


def test_sprites_hold_every_voxel_in_the_window_of_the_data(
    made: tuple[Run, Dataset, NDArray[np.uint8]], pages: tuple[str, str]
) -> None:
    _, dataset, pixels = made
    sprites = sprites_in(pages[0])
    assert len(sprites) == 8
    # Labels alternate, so the classes' turns are the order of the images.
    for sprite, volume in zip(sprites, pixels[:8, 0], strict=True):
        np.testing.assert_array_equal(volume_in(sprite), volume)
    assert "Drawn from −1000 HU (black) to 400 HU (white); a grey level is 5.5 HU." in pages[0]
    private = sprites_in(pages[1])
    assert len(private) == 8
    train = dataset.rows("train")
    rows = train[by_turns(dataset.labels[train], 4)]
    for sprite, volume in zip(private, [*to_uint8(dataset.images[rows], *WINDOW)[:, 0], *pixels[:4, 0]], strict=True):
        np.testing.assert_array_equal(volume_in(sprite), volume)


def test_real_voxels_are_in_the_private_viewer_only(pages: tuple[str, str]) -> None:
    public, private = pages
    assert "Real training volumes" in private
    assert "Real training volumes" not in public
    assert not any(holds_mark(picture) for picture in pictures_in(public))
    # Four real volumes: the mark is in each sprite and in each picture of middle slices.
    assert sum(holds_mark(picture) for picture in pictures_in(viewer_of(private))) == 8


def test_every_figure_is_drawn_in_the_window_of_the_data(
    made: tuple[Run, Dataset, NDArray[np.uint8]], pages: tuple[str, str]
) -> None:
    run, dataset, pixels = made
    facts = read_facts(run, dataset)
    assert facts.synthetic is not None
    np.testing.assert_array_equal(facts.synthetic.images, pixels)
    np.testing.assert_array_equal(facts.synthetic.values, to_hu(pixels))
    # The mark is found only where pixels are drawn as meant: 2 classes of 6, 8 pairs, 2 suspects, the montage, overview.
    outside = pages[1].replace(viewer_of(pages[1]), "")
    assert sum(holds_mark(picture) for picture in pictures_in(outside)) >= 12 + 8 + 2 + 1 + 1
    without = read_facts(run, None)
    assert (without.window, without.unit) == (WINDOW, "hu")


def test_drawing_in_parts_is_drawing_at_once() -> None:
    images = np.random.default_rng(0).integers(-1024, 3072, (150, 1, 4, 5), dtype=np.int16)
    np.testing.assert_array_equal(shown_pixels(images, WINDOW), to_uint8(images, *WINDOW))
    np.testing.assert_array_equal(shown_pixels(images, None), to_uint8(images, images.min(), float(images.max())))


def test_without_scripts_the_middle_slices_show(pages: tuple[str, str]) -> None:
    stills = re.findall(r'<img class="still" src="[^"]+" alt="([^"]+)" width="(\d+)" height="(\d+)"', pages[0])
    assert len(stills) == 8
    # Axial 8 x 10, coronal 6 x 10, sagittal 6 x 8, and two gaps.
    assert set(stills) == {
        (f"synthetic volume, {name.replace('_', ' ')}, middle slices", "32", "8") for name in CLASSES
    }
    assert ".viewer .controls, .viewer canvas, .viewer .sprite" in pages[0]


def test_pages_of_pictures_have_no_viewer(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "grey", classes=(), channels=1, kimg=10)
    for page in pages_of(run, dataset):
        assert not {"script", "canvas"} & set(seen(page).tags)
        assert "viewer" not in page
        assert "histogram" not in page
        assert "style-src 'unsafe-inline'\">" in page
    run, dataset, _ = hu_run(tmp_path / "hu", size=(8, 10))
    for page in pages_of(run, dataset):
        assert "viewer" not in page
        assert "Hounsfield units of pixels" in page


def test_volumes_without_a_model_or_a_dataset(tmp_path: Path) -> None:
    run, dataset, _ = hu_run(tmp_path / "run")
    public, private = pages_of(run, None)
    assert len(sprites_in(public)) == len(sprites_in(private)) == 8
    assert "No curve of real images: the dataset was not at hand" in private
    (run.evaluation / "synthetic.npz").unlink()
    public, private = pages_of(run, dataset)
    assert "viewer" not in public
    assert "histogram" not in private
    assert len(sprites_in(private)) == 8
    assert "Synthetic volumes" not in private


def test_a_page_shows_fewer_volumes_rather_than_grow(
    made: tuple[Run, Dataset, NDArray[np.uint8]], pages: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset, _ = made
    facts = read_facts(run, dataset)
    whole = volume_viewer.volume_viewer(facts, real=True)
    assert whole is not None
    assert [len(row) for _, row in whole.rows] == [4, 4]
    columns = [sum(row[place].weight for _, row in whole.rows) for place in range(4)]
    for limit, shown in ((sum(columns), 4), (sum(columns) - 1, 3), (sum(columns[:2]), 2), (1, 1)):
        monkeypatch.setattr(volume_viewer, "LARGEST", limit)
        viewer = volume_viewer.volume_viewer(facts, real=True)
        assert viewer is not None
        assert [len(row) for _, row in viewer.rows] == [shown, shown]


def test_the_heaviest_volumes_stay_within_the_limit(tmp_path: Path) -> None:
    run, _, _ = hu_run(tmp_path / "run", classes=())
    noise = np.random.default_rng(0).integers(-1000, 400, (8, 1, 64, 64, 64), dtype=np.int16)
    np.savez(run.evaluation / "synthetic.npz", images=noise, labels=np.full(8, -1))
    write_json(run.model / "model.json", {**read_json(run.model / "model.json"), "size": [64, 64, 64]})
    public, _ = pages_of(run, None)
    assert 1_000_000 < len(viewer_of(public)) < 1_510_000
    assert len(sprites_in(public)) == 4


def test_large_volumes_are_reduced_and_this_is_said(tmp_path: Path) -> None:
    assert shown_size((64, 64, 64)) == (64, 64, 64)
    assert shown_size((32, 128, 96)) == (16, 64, 48)
    assert shown_size((1, 512, 512)) == (1, 64, 64)
    run, _, _ = hu_run(tmp_path / "run", classes=())
    # A step across x stays a step across x, and each voxel of the page is the mean of eight.
    large = np.full((2, 1, 8, 16, 128), -1000, dtype=np.int16)
    large[..., 64:] = 400
    np.savez(run.evaluation / "synthetic.npz", images=large, labels=np.full(2, -1))
    write_json(run.model / "model.json", {**read_json(run.model / "model.json"), "size": [8, 16, 128]})
    public, _ = pages_of(run, None)
    assert "Reduced from 8 × 16 × 128 to 4 × 8 × 64 voxels for this page." in public
    assert 'data-size="4 8 64"' in public
    (volume, _) = (volume_in(sprite, (4, 8, 64)) for sprite in sprites_in(public))
    assert volume[:, :, :32].max() == 0
    assert volume[:, :, 32:].min() == 255


def test_classes_take_turns() -> None:
    labels = np.array([1, 1, 1, 0, 2, 0, 1])
    assert by_turns(labels, 7).tolist() == [3, 0, 4, 5, 1, 2, 6]
    assert by_turns(labels, 4).tolist() == [3, 0, 4, 5]
    assert by_turns(np.full(3, -1), 8).tolist() == [0, 1, 2]


def test_a_sprite_has_its_slices_in_rows() -> None:
    volume = np.arange(2 * 5 * 2 * 3, dtype=np.uint8).reshape(2, 5, 2, 3)
    sheet = sprite_sheet(volume)
    assert sheet.shape == (2, 2 * 2, 3 * 3)
    np.testing.assert_array_equal(sheet[:, :2, 3:6], volume[:, 1])
    np.testing.assert_array_equal(sheet[:, 2:, 3:6], volume[:, 4])
    assert not sheet[:, 2:, 6:].any()


def test_bins_are_of_25_hu_and_take_in_what_lies_beyond() -> None:
    bins = Bins(-1000.0, 400.0, 25.0)
    assert bins.count == 56
    assert (bins.centres[0], bins.centres[-1]) == (-987.5, 387.5)
    values = np.random.default_rng(0).normal(-500, 600, (3, 1, 4, 5, 6)).astype(np.int16)
    shares = bins.shares(value_counts(values, range(3)), values.dtype)
    expected, _ = np.histogram(np.clip(values, -1000, 400), 56, (-1000, 400))
    np.testing.assert_allclose(shares, expected / values.size, atol=1e-12)
    edges = np.array([-1000, -976, -975, 375, 399, 400, 3071, -1024], dtype=np.int16).reshape(1, 1, 8)
    counts = bins.shares(value_counts(edges[None], [0]), edges.dtype) * 8
    assert (counts[0], counts[1], counts[-1]) == (3, 1, 4)
    assert Bins(-1000.0, 410.0, 25.0).count == 57


@pytest.mark.parametrize(("channels", "counted"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_masks_are_not_counted(channels: int, counted: int) -> None:
    images = np.broadcast_to(np.arange(channels, dtype=np.uint8)[None, :, None, None], (2, channels, 4, 4))
    counts = value_counts(images, [1])
    assert counts[:counted].tolist() == [16] * counted
    assert counts.sum() == 16 * counted


def test_the_curve_of_few_patients_stays_private(
    made: tuple[Run, Dataset, NDArray[np.uint8]], pages: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset, _ = made
    patients = len(set(dataset.groups[dataset.rows("test")]))
    assert patients < histograms.LEAST_PATIENTS
    public, private = pages
    assert "the test images are of fewer than 20 patients" in public
    assert "real, test" not in public
    assert "lie below" not in public
    assert "real, test" in private
    assert f"of {patients} patients or groups. The band" in private
    facts = read_facts(run, dataset)
    for least, shown in ((patients, True), (patients + 1, False)):
        monkeypatch.setattr(histograms, "LEAST_PATIENTS", least)
        chart = histogram(facts, public=True)
        assert chart is not None
        assert ([name for _, name in chart.legend] == ["real, test", "synthetic"]) == shown
        assert ("real, test" in str(chart.drawing)) == shown
    monkeypatch.setattr(histograms, "LEAST_PATIENTS", 1)
    monkeypatch.setitem(facts.dataset.info["cohort"], "groups_known", False)  # type: ignore[union-attr]
    chart = histogram(facts, public=True)
    assert chart is not None
    assert "the patients of the test images are not known" in chart.note
    assert "real, test" not in str(chart.drawing)


def test_the_chart_tells_the_shares_of_the_test_split(made: tuple[Run, Dataset, NDArray[np.uint8]]) -> None:
    run, dataset, pixels = made
    chart = histogram(read_facts(run, dataset), public=False)
    assert chart is not None
    real = np.clip(dataset.images[dataset.rows("test")], *WINDOW)
    for name, values in (("real, test", real), ("synthetic", to_hu(pixels))):
        expected, _ = np.histogram(values, 56, WINDOW)
        told = re.findall(rf"<title>{name}: ([\d.e−]+)(?: ± [\d.e−]+)? at (−?[\d.]+) HU</title>", str(chart.drawing))
        assert len(told) == 56
        shares = [float(share.replace("−", "-")) for share, _ in told]
        np.testing.assert_allclose(shares, 100 * expected / values.size, rtol=6e-3)
        assert (told[0][1], told[-1][1]) == ("−988", "388")
    # One voxel of 480 below the window and one above it.
    assert "0.2\u202f% of the real values lie below −1000 HU and 0.2\u202f% above 400 HU" in chart.note
    assert "Bins of 25 HU." in chart.note


def test_grey_volumes_have_a_histogram_of_grey_values(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", classes=(), channels=1, size=SIZE, kimg=10)
    chart = histogram(read_facts(run, dataset), public=False)
    assert chart is not None
    assert chart.title == "Grey values of voxels"
    assert "Bins of 4." in chart.note
    assert "HU" not in chart.note + str(chart.drawing)
    assert len(re.findall("<title>synthetic", str(chart.drawing))) == 64
    viewer = volume_viewer.volume_viewer(read_facts(run, dataset), real=False)
    assert viewer is not None
    assert "Drawn from" not in viewer.note


def test_a_chart_may_begin_left_of_zero_and_its_band_ends_at_the_axis() -> None:
    line = Series("a", [(-1000, 1), (400, 3)], band=[2, 1])
    chart = str(line_chart([line], unit="%", x_unit="HU", label="l", y_range=(0.0, None), x_range=(-1000, 400)))
    xs = [float(x) for x in re.findall(r'class="hit" cx="([\d.]+)"', chart)]
    assert xs == [46.0, 508.0]
    (corners,) = re.findall(r'<polygon class="band accent" points="([^"]+)"', chart)
    ys = [float(corner.split(",")[1]) for corner in corners.split()]
    assert max(ys) == 216.0, "the axis, not below it"


def in_browser(page: Path) -> str:
    """The page as the browser has it after its scripts have run."""
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    assert BROWSER is not None
    done = subprocess.run([*map(str, command), page.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium to look at pages with")
def test_the_page_lets_the_viewer_run(
    made: tuple[Run, Dataset, NDArray[np.uint8]], pages: tuple[str, str], tmp_path: Path
) -> None:
    for name, page in zip(("public.html", "private.html"), pages, strict=True):
        (tmp_path / name).write_text(page, encoding="utf-8")
        shown = in_browser(tmp_path / name)
        assert '<div class="viewer live"' in shown
        assert shown.count("<canvas") == 8
        assert ">4 of 6</span>" in shown
        assert 'aria-valuetext="Axial slice 4 of 6"' in shown
        other = page.replace('"use strict";', '"use strict"; ')
        (tmp_path / name).write_text(other, encoding="utf-8")
        assert "<canvas" not in in_browser(tmp_path / name), "a changed script does not run"


# Chooses each plane and slice as a reader does, and writes down what the first and the last canvas then show.
DRIVER = """
<pre id="seen"></pre>
<script>
const wait = () => {
  const viewer = document.querySelector(".viewer.live");
  if (!viewer) return void setTimeout(wait, 20);
  const slider = viewer.querySelector("input[type=range]");
  const canvases = [...viewer.querySelectorAll("canvas")];
  const found = [];
  for (const choice of viewer.querySelectorAll("input[type=radio]")) {
    choice.click();
    for (let place = 1; place <= Number(slider.max); place++) {
      slider.value = place;
      slider.dispatchEvent(new Event("input"));
      for (const canvas of [canvases[0], canvases.at(-1)]) {
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        found.push([canvas.height, canvas.width, [...data].filter((_, i) => i % 4 === 0)]);
      }
    }
  }
  document.querySelector("#seen").textContent = JSON.stringify(found);
};
wait();
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium to look at pages with")
def test_the_viewer_draws_every_slice_of_every_plane(
    made: tuple[Run, Dataset, NDArray[np.uint8]], pages: tuple[str, str], tmp_path: Path
) -> None:
    pixels = made[2][:, 0]
    page = f"<!doctype html><body>{viewer_of(pages[0])}{DRIVER}</body>"
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    found = re.search(r'<pre id="seen">(.*?)</pre>', in_browser(tmp_path / "page.html"))
    assert found is not None
    drawn = [np.array(values, dtype=np.uint8).reshape(height, width) for height, width, values in json.loads(found[1])]
    # As `pictures.middle_slices`: the head is at the top of the coronal and the sagittal plane.
    expected = [
        volume.take(place, axis) if axis == 0 else volume.take(place, axis)[::-1]
        for axis in range(3)
        for place in range(SIZE[axis])
        for volume in (pixels[0], pixels[7])
    ]
    assert len(drawn) == len(expected) == 2 * sum(SIZE)
    for own, meant in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(own, meant)
