"""The two seed systems on real images, at a size and budget for two cores: the whole way, and KID falls."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from make_dataset import Silent
from synthoma.dataset import Dataset
from synthoma.model import Model
from synthoma.recipe import load_recipe
from synthoma.run import Run, read_json
from synthoma.synthesis import write_images
from synthoma.workflow import run_recipe

pytestmark = pytest.mark.slow

NARROW = [
    "preparation.size=32",
    "training.precision=fp32",
    "training.kimg=32",
    "training.batch=16",
    "training.checkpoint_kimg=8",
    "training.sample_kimg=12",
    "training.tick_kimg=2",
    "evaluation.count=300",
    "evaluation.subsamples=30",
]
CASES = {
    "skin9": ("skin-cgan", ["model.generator_widths=[128,64,32]", "model.discriminator_widths=[32,64,128]"]),
    "chest_ct": ("chest-ct-dcgan", ["model.generator_widths=[128,64,32]", "model.discriminator_widths=[32,64,128]"]),
}


@pytest.mark.parametrize("name", list(CASES))
def test_from_real_files_to_report(name: str, data_root: Path, tmp_path: Path) -> None:
    recipe_name, widths = CASES[name]
    recipe = load_recipe(recipe_name, [*NARROW, *widths])
    outcome = run_recipe(recipe, data_root / name, tmp_path / "run", Silent())
    run = Run(tmp_path / "run")
    assert outcome.ran == ["prepare", "train", "evaluate", "report"]

    dataset = Dataset.open(run.own_dataset, full=True)
    sides = {split: set(dataset.groups[dataset.rows(split)]) for split in ("train", "val", "test")}
    assert len(sides["train"] | sides["val"] | sides["test"]) == sum(map(len, sides.values()))

    validations = [row["kid"] for row in run.stats() if row["kind"] == "validation"]
    assert len(validations) == 4
    assert validations[-1] < 0.7 * validations[0]

    kid = read_json(run.evaluation / "fidelity.json")["spaces"]["randconv"]["all"]["kid"]
    assert kid["low"] <= kid["value"] <= kid["high"]
    assert kid["floor"]["value"] < kid["value"]

    model = Model.load(run.model)
    label = "melanoma" if model.conditional else None
    write_images(model, tmp_path / "images", 20, label, seed=7)
    assert len(list((tmp_path / "images").glob("*.png"))) == 20
    # Nothing that names a file or a group of the source is in what may be shown.
    names = pq.read_table(run.own_dataset / "private" / "links.parquet").column("file").to_pylist()
    page = (run.path / "report.html").read_text()
    assert not [file for file in names if Path(file).name in page]


def test_groups_of_the_source_never_straddle_the_split(data_root: Path, tmp_path: Path) -> None:
    """Checked from outside: groups.csv against the split, through the private links."""
    recipe = load_recipe("chest-ct-dcgan", ["preparation.size=32", "preparation.label_errors=false"])
    from synthoma.preparation.raw import prepare_dataset

    prepare_dataset(recipe, data_root / "chest_ct", tmp_path / "data", Silent())
    records = pq.read_table(tmp_path / "data" / "records.parquet")
    links = {
        row["key"]: row["file"] for row in pq.read_table(tmp_path / "data" / "private" / "links.parquet").to_pylist()
    }
    written = {}
    for line in (data_root / "chest_ct" / "groups.csv").read_text().splitlines()[1:]:
        file, _, group = line.rsplit(",", 2)
        written[file] = group
    split_of: dict[str, set[str]] = {}
    for key, split in zip(records.column("key").to_pylist(), records.column("split").to_pylist(), strict=True):
        split_of.setdefault(written[links[key]], set()).add(split)
    assert len(split_of) > 90
    assert all(len(splits) == 1 for splits in split_of.values())
