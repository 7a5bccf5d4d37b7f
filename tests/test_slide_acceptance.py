"""What is promised of tiles, held against the truth of phantom slides; and real slides, whose tiles stay the same."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("openslide")
pytest.importorskip("shapely")

from slide_truth_fixture import WRONG, Truth, cut_of, in_its_class, outcomes, right_reasons, shards_of
from synthoma.errors import DataError
from synthoma.phantoms.slides import ARTEFACTS, make_scene, write_slide_phantoms
from synthoma.preparation.slides.inspect import inspect_slides
from synthoma.preparation.slides.tiles import TilesResult, cut_slides, find_slides
from synthoma.recipe import load_recipe

pytestmark = pytest.mark.slow

# Four slides of each seed have all colours of ink, two patients' cancers and three patients' stains.
SEEDS, COUNT, SIZE = (11, 12, 13), 4, (4096, 4096)
SETTINGS = [(0.5, 128), (0.5, 256), (1.0, 128), (1.0, 256)]
IN_CLASS, REJECTED, CLEAN_REJECTED = 0.99, 0.95, 0.02


@dataclass(frozen=True)
class Found:
    """Of all slides: what was made of tiles by kind of artefact; taken tiles within their class, and how many there are."""

    outcomes: Mapping[str, Counter[str]]
    in_class: int
    taken: int


def cut(data: Path, out: Path, *settings: str, annotations: Path | None = None) -> TilesResult:
    recipe = load_recipe("lung-histology-pggan", list(settings))
    return cut_slides(find_slides(data, recipe, annotations), recipe, out, workers=2)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, tuple[Path, list[Truth]]]:
    """Seed -> folder, and what its slides truly show."""
    made = {}
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp("phantoms") / f"seed-{seed}"
        patients = write_slide_phantoms(folder, count=COUNT, size=SIZE, seed=seed).patients
        made[seed] = folder, [Truth(make_scene(seed, number, number % patients, SIZE)) for number in range(COUNT)]
    return made


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda setting: f"{setting[0]:g}-mpp-{setting[1]}-px")
def found(
    request: pytest.FixtureRequest,
    phantoms: Mapping[int, tuple[Path, list[Truth]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Found:
    mpp, tile = request.param
    kinds: dict[str, Counter[str]] = {}
    in_class = taken = 0
    for data, truths in phantoms.values():
        out = tmp_path_factory.mktemp("tiles")
        own = (f"slides.mpp={mpp}", f"slides.tile={tile}")
        # All tissue for artefacts; outlines for classes.
        plain = cut(data, out / "all", *own)
        outlined = cut(
            data, out / "outlined", *own, "slides.exclude=[exclusion]", annotations=data / "annotations-geojson"
        )
        shards = shards_of(out / "all", plain.keys), shards_of(out / "outlined", outlined.keys)
        for truth in truths:
            everywhere, chosen = (cut_of(own[truth.scene.name], SIZE, tile, mpp) for own in shards)
            for kind, counts in outcomes(truth, everywhere).items():
                kinds.setdefault(kind, Counter()).update(counts)
            right, all_taken = in_its_class(truth, chosen, least=0.75)
            in_class, taken = in_class + right, taken + all_taken
    return Found(kinds, in_class, taken)


def test_taken_tiles_lie_in_their_class(found: Found) -> None:
    assert found.taken > 50
    assert found.in_class >= IN_CLASS * found.taken


def test_tiles_with_artefacts_are_rejected_for_the_right_reason(found: Found) -> None:
    counts = {kind: found.outcomes[kind] for kind in ARTEFACTS}
    assert sum(sum(own.values()) for own in counts.values()) > 50
    right = sum(own[reason] for kind, own in counts.items() for reason in right_reasons(kind))
    assert right >= REJECTED * sum(sum(own.values()) for own in counts.values()), counts


def test_clean_tiles_are_not_rejected_for_an_artefact(found: Found) -> None:
    clean = found.outcomes["clean"]
    assert sum(clean.values()) > 100
    assert sum(clean[reason] for reason in WRONG) < CLEAN_REJECTED * sum(clean.values()), clean


@pytest.fixture
def wsi(data_root: Path) -> Path:
    folder = data_root / "wsi"
    if not folder.is_dir():
        pytest.skip(f"no real slides: {folder} does not exist")
    return folder


TCGA, SINGLE, PYRAMID = "TCGA-CR-7395-01A-01-TS1.svs", "CMU-1-Small-Region.svs", "CMU-1-Small-Region_pyramid.tif"
# Slide -> microns a pixel, pixels a side, places of the grid, tiles that were taken.
COUNTS: dict[tuple[str, float, int], tuple[int, int]] = {}
# Limits are on scores that another build of a decoder may move by a rounding.
NEARLY = 1


@pytest.mark.parametrize(("name", "mpp", "tile"), list(COUNTS))
def test_tiles_of_real_slides_stay_as_many(name: str, mpp: float, tile: int, wsi: Path, tmp_path: Path) -> None:
    settings = (f"slides.mpp={mpp}", f"slides.tile={tile}", "slides.given_mpp=0.5")
    result = cut(wsi / name, tmp_path / "out", *settings)
    (info,) = result.done.values()
    places, taken = COUNTS[name, mpp, tile]
    assert info["places"] == places
    assert abs(info["taken"] - taken) <= NEARLY
    again = cut(wsi / name, tmp_path / "again", *settings)
    (shard,), (other,) = (list(shards_of(each.folder, each.keys).values()) for each in (result, again))
    assert repr(shard.table()) == repr(other.table())
    assert shard.pixels().tobytes() == other.pixels().tobytes()


def test_a_real_slide_without_resolution_is_told_and_works_with_one(wsi: Path, tmp_path: Path) -> None:
    own = ("slides.mpp=1", "slides.tile=128")
    without = cut(wsi, tmp_path / "without", *own, "slides.max_failed=0.5")
    reasons = {file.name: without.failed.get(key) for file, key in without.keys.items()}
    assert reasons[SINGLE] is reasons[PYRAMID] is None
    assert reasons[TCGA] is not None
    assert reasons[TCGA].endswith(f"{TCGA} has no resolution: give --mpp, or slides.mpp_table.")
    with pytest.raises(DataError, match=f"1 of 3 slides cannot be read(.|\n)*{TCGA} has no resolution"):
        cut(wsi, tmp_path / "strict", *own)
    problems = {
        facts.name: facts.problem for facts in inspect_slides(wsi, load_recipe("lung-histology-pggan", list(own)))
    }
    assert problems == {TCGA: "no resolution: give --mpp, or slides.mpp_table", SINGLE: "", PYRAMID: ""}

    table = tmp_path / "mpp.csv"
    table.write_text(f"file,mpp\n{TCGA},0.5\n")
    told = cut(wsi, tmp_path / "table", *own, f"slides.mpp_table={table}")
    everywhere = cut(wsi, tmp_path / "given", *own, "slides.given_mpp=0.5")
    assert not told.failed
    assert not everywhere.failed
    assert {key: info["taken"] for key, info in told.done.items()} == {
        key: info["taken"] for key, info in everywhere.done.items()
    }
    assert all(info["taken"] > 0 for info in told.done.values())
