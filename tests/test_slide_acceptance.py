"""What is promised of tiles, held against the truth of phantom slides; and real slides, whose tiles stay the same."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("openslide")
pytest.importorskip("shapely")

from slide_truth_fixture import WRONG, Cut, Truth, cut_of, in_its_class, of_clean, outcomes, right_reasons, shards_of
from synthoma.errors import DataError
from synthoma.formats.tiles import Shard
from synthoma.phantoms.slides import make_scene, write_slide_phantoms
from synthoma.preparation.slides.inspect import inspect_slides
from synthoma.preparation.slides.tiles import TilesResult, cut_slides, find_slides
from synthoma.recipe import load_recipe

pytestmark = pytest.mark.slow

# Four slides of each seed have all colours of ink, two patients' cancers and three patients' stains.
SEEDS, COUNT, SIZE = (11, 12), 4, (4096, 4096)
SETTINGS = [(0.5, 128), (0.5, 256), (1.0, 128)]
IN_CLASS, REJECTED, CLEAN_REJECTED = 0.99, 0.95, 0.02


@dataclass(frozen=True)
class Found:
    """Of all slides: what was made of tiles by kind of artefact, and of clean ones; taken tiles that lie within their class,
    and all that were taken."""

    artefacts: Mapping[str, Counter[str]]
    clean: Counter[str]
    in_class: int
    taken: int


@dataclass(frozen=True)
class Phantoms:
    """A folder of slides, one of the same slides without artefacts, and what the first truly show."""

    slides: Path
    twins: Path
    truths: Sequence[Truth]


def cut(data: Path, out: Path, *settings: str, annotations: Path | None = None) -> TilesResult:
    recipe = load_recipe("lung-histology-pggan", list(settings))
    return cut_slides(find_slides(data, recipe, annotations), recipe, out, workers=2)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[Phantoms]:
    made = []
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp("phantoms")
        patients = write_slide_phantoms(folder / "slides", count=COUNT, size=SIZE, seed=seed).patients
        write_slide_phantoms(folder / "twins", count=COUNT, size=SIZE, seed=seed, artefacts=False)
        truths = [Truth(make_scene(seed, number, number % patients, SIZE)) for number in range(COUNT)]
        made.append(Phantoms(folder / "slides", folder / "twins", truths))
    return made


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda setting: f"{setting[0]:g}-mpp-{setting[1]}-px")
def found(
    request: pytest.FixtureRequest, phantoms: Sequence[Phantoms], tmp_path_factory: pytest.TempPathFactory
) -> Found:
    mpp, tile = request.param
    result = Found(defaultdict(Counter), Counter(), 0, 0)
    for folder in phantoms:
        out = tmp_path_factory.mktemp("tiles")

        def cuts(data: Path, *settings: str, annotations: Path | None = None, out: Path = out) -> dict[str, Cut]:
            own = (f"slides.mpp={mpp}", f"slides.tile={tile}", *settings)
            made = cut(data, out / str(len(list(out.iterdir()))), *own, annotations=annotations)
            return {
                file.stem: cut_of(Shard.open(made.folder / key), SIZE, tile, mpp) for file, key in made.keys.items()
            }

        outlines = folder.slides / "annotations-geojson"
        outlined = cuts(folder.slides, "slides.exclude=[exclusion]", annotations=outlines)
        whole, twins = cuts(folder.slides), cuts(folder.twins)
        for truth in folder.truths:
            name = truth.scene.name
            for kind, counts in outcomes(truth, whole[name], twins[name]).items():
                result.artefacts[kind].update(counts)
            result.clean.update(of_clean(truth, whole[name]))
            right, taken = in_its_class(truth, outlined[name], least=0.75)
            result = replace(result, in_class=result.in_class + right, taken=result.taken + taken)
    return result


def test_taken_tiles_lie_in_their_class(found: Found) -> None:
    assert found.taken > 50
    assert found.in_class >= IN_CLASS * found.taken, (found.in_class, found.taken)


def test_tiles_with_artefacts_are_rejected_for_them(found: Found) -> None:
    total = sum(own.total() for own in found.artefacts.values())
    right = sum(own[reason] for kind, own in found.artefacts.items() for reason in right_reasons(kind))
    assert total > 50
    assert right >= REJECTED * total, "\n".join(f"{kind}: {dict(own)}" for kind, own in found.artefacts.items())


def test_clean_tiles_are_not_rejected_for_an_artefact(found: Found) -> None:
    assert found.clean.total() > 100
    assert sum(found.clean[reason] for reason in WRONG) < CLEAN_REJECTED * found.clean.total(), found.clean


@pytest.fixture
def wsi(data_root: Path) -> Path:
    folder = data_root / "wsi"
    if not folder.is_dir():
        pytest.skip(f"no real slides: {folder} does not exist")
    return folder


TCGA, SINGLE, PYRAMID = "TCGA-CR-7395-01A-01-TS1.svs", "CMU-1-Small-Region.svs", "CMU-1-Small-Region_pyramid.tif"
# Slide -> microns a pixel, pixels a side, places of the grid, tiles that were taken.
COUNTS = {
    (TCGA, 0.5, 256): (221, 151),
    (TCGA, 0.7, 128): (456, 303),
    (SINGLE, 0.5, 256): (88, 35),
    (SINGLE, 0.7, 128): (192, 72),
    (PYRAMID, 0.5, 256): (88, 35),
    (PYRAMID, 0.7, 128): (192, 73),
}
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
