"""From raw files to a dataset: what is written, what is left out and why, and that nothing incidental changes a byte."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from preparation_fixture import make_recipe, run, sums
from synthoma.dataset import Dataset
from synthoma.errors import DataError, DatasetError
from synthoma.preparation.label_errors import find_label_errors
from synthoma.preparation.resize import resize


def test_a_dataset_is_written(image_tree, tmp_path):
    root = image_tree({"a": 20, "b": 30})
    (root / "synthoma-data.yaml").write_text("licence: CC0-1.0\ncitation: nobody\n")
    calls: list[tuple[int, int]] = []
    recipe = make_recipe("cgan", data={"citation": "the recipe's own"})
    result = run(root, tmp_path / "out", recipe, progress=lambda done, total: calls.append((done, total)))
    dataset = Dataset.open(tmp_path / "out", full=True)
    assert dataset.images.shape == (50, 3, 16, 16)
    assert dataset.images.dtype == np.uint8
    assert dataset.classes == ["a", "b"]
    assert dataset.info["data"] == {"licence": "CC0-1.0", "citation": "the recipe's own", "may_release": None}
    assert dataset.info["counts"] == {
        "train": {"a": 14, "b": 21},
        "val": {"a": 3, "b": 5},
        "test": {"a": 3, "b": 4},
    } or all(abs(dataset.info["counts"]["train"][name] / total - 0.7) <= 0.05 for name, total in (("a", 20), ("b", 30)))
    assert dataset.column("content") == sorted(dataset.column("content"))
    assert dataset.info["preparation"]["found"] == dataset.info["preparation"]["kept"] == 50
    assert dataset.info["preparation"]["imbalance"] == 1.5
    assert calls[-1] == (50, 50)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset.json", "images.npy", "private", "records.parquet", "rejected.parquet",
    ]  # fmt: skip
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert any("50 images found, 50 kept" in note for note in result.notes)
    # Each row shows the picture that its link names.
    links = pq.read_table(tmp_path / "out" / "private" / "links.parquet").to_pylist()
    file_of = {link["key"]: link["file"] for link in links}
    for row in (0, 17, 49):
        raw = np.asarray(Image.open(root / file_of[dataset.column("key")[row]]))
        np.testing.assert_array_equal(np.moveaxis(resize(raw, (16, 16), "crop"), -1, 0), dataset.images[row])
        assert file_of[dataset.column("key")[row]].startswith(dataset.column("label")[row])


def test_the_result_does_not_depend_on_path_order_or_workers(image_tree, tmp_path, monkeypatch):
    root = image_tree({"a": 18, "b": 14})
    shutil.copy(root / "a" / "3.png", root / "a" / "copy.png")
    (root / "b" / "bad.png").write_bytes(b"no picture")
    (root / "groups.csv").write_text("file,group\n" + "".join(f"a/{i}.png,p{i // 3}\n" for i in range(18)))
    recipe = make_recipe(label_errors=True)
    run(root, tmp_path / "one", recipe)
    first = sums(tmp_path / "one")

    moved = tmp_path / "deep er" / "Ärzte"
    moved.parent.mkdir()
    # Written in the opposite order, so that the file system lists them in another.
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_file():
            target = moved / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    backwards = SimpleNamespace(scandir=lambda folder: reversed(list(os.scandir(folder))))
    monkeypatch.setattr("synthoma.formats.files.os", backwards)
    run(moved, tmp_path / "two", recipe)
    monkeypatch.undo()
    assert sums(tmp_path / "two") == first


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes(image_tree, tmp_path):
    root = image_tree({"a": 40, "b": 30})
    run(root, tmp_path / "one", workers=1)
    run(root, tmp_path / "two", workers=2)
    run(root, tmp_path / "three", workers=3)
    assert sums(tmp_path / "one") == sums(tmp_path / "two") == sums(tmp_path / "three")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script", "standard input"])
def test_workers_do_not_run_the_callers_script(image_tree, tmp_path, how):
    script = f"""
print("started")
from pathlib import Path
from synthoma.preparation import prepare
from synthoma.recipe import Recipe
from synthoma.sources import open_source
recipe = Recipe.model_validate({{"name": "test", "preparation": {{"size": 16}}}})
prepare(open_source(Path({str(image_tree({"a": 40}))!r}), recipe.source), recipe, Path({str(tmp_path / "out")!r}), workers=2)
"""
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py") if how == "script" else "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr
    assert len(Dataset.open(tmp_path / "out")) == 40


def test_renamed_files_get_the_same_split_and_group_numbers(image_tree, tmp_path):
    root = image_tree({"a": 20, "b": 14})
    run(root, tmp_path / "one")
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(f"z{99 - int(path.stem)}.png"))
    run(root, tmp_path / "two")
    one, two = Dataset.open(tmp_path / "one"), Dataset.open(tmp_path / "two")
    assert one.cohort_hash == two.cohort_hash
    assert one.content_hash == two.content_hash
    assert one.column("group") == two.column("group")


def test_the_split_does_not_depend_on_the_size(image_tree, tmp_path):
    root = image_tree({"a": 30})
    hashes = {run(root, tmp_path / f"{n}", make_recipe(size=n)).dataset.cohort_hash for n in (8, 16, 32)}
    assert len(hashes) == 1
    assert Dataset.open(tmp_path / "8").content_hash != Dataset.open(tmp_path / "16").content_hash


def test_groups_csv_is_never_split(image_tree, tmp_path):
    root = image_tree({"a": 30, "b": 30})
    lines = [f"{name}/{i}.png,patient {name}{i // 4}" for name in "ab" for i in range(30)]
    (root / "groups.csv").write_text("file,group\n" + "\n".join(lines))
    dataset = run(root, tmp_path / "out").dataset
    links = pq.read_table(tmp_path / "out" / "private" / "links.parquet").to_pylist()
    patient = {link["key"]: link["group"] for link in links}
    split_of: dict[str, set[str]] = {}
    for key, split in zip(dataset.column("key"), dataset.column("split"), strict=True):
        split_of.setdefault(patient[key], set()).add(split)
    assert len(split_of) == 16
    assert all(len(splits) == 1 for splits in split_of.values())
    assert set().union(*split_of.values()) == {"train", "val", "test"}
    public = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file())
    assert b"patient" not in public


def test_a_split_that_was_tampered_with_is_refused(image_tree, tmp_path):
    run(image_tree({"a": 30}), tmp_path / "out")
    records = pq.read_table(tmp_path / "out" / "records.parquet")
    splits = records.column("split").to_pylist()
    splits[splits.index("test")] = "train"
    changed = records.set_column(records.column_names.index("split"), "split", [splits])
    pq.write_table(changed, tmp_path / "out" / "records.parquet")
    with pytest.raises(DatasetError, match="changed after it was written"):
        Dataset.open(tmp_path / "out")
    # Even with its sum set right, the frozen hash of the cohort tells.
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    info["files"]["records.parquet"] = hashlib.sha256((tmp_path / "out" / "records.parquet").read_bytes()).hexdigest()
    (tmp_path / "out" / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="not the one that was frozen"):
        Dataset.open(tmp_path / "out")


def test_the_given_split_is_honoured(tmp_path, picture):
    for split, count in (("Train", 20), ("Test", 6)):
        (tmp_path / "data" / split / "a").mkdir(parents=True)
        for i in range(count):
            Image.fromarray(picture(hash((split, i)) % 10**6)).save(tmp_path / "data" / split / "a" / f"{i}.png")
    given = run(tmp_path / "data", tmp_path / "given", make_recipe(split="given")).dataset
    assert given.info["counts"] == {"train": {"a": 20}, "val": {}, "test": {"a": 6}}
    pooled = run(tmp_path / "data", tmp_path / "pooled").dataset
    assert pooled.info["counts"]["val"] == {"a": 4}
    (tmp_path / "data" / "groups.csv").write_text("file,group\nTrain/a/0.png,x\nTest/a/0.png,x\n")
    with pytest.raises(DataError, match="1 groups stand in more than one split"):
        run(tmp_path / "data", tmp_path / "torn", make_recipe(split="given"))


def test_a_given_split_that_is_not_there(image_tree, tmp_path):
    with pytest.raises(DataError, match="30 of 30 images say no split"):
        run(image_tree({"a": 30}), tmp_path / "out", make_recipe(split="given"))


def test_sixteen_bits_share_one_window(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for i in range(24):
        array = np.random.default_rng(i).integers(0, 1000, (16, 16)).astype(np.uint16)
        array[0, 0] = 4095 if i == 0 else 2000
        Image.fromarray(array).save(root / f"{i}.png")
    result = run(root, tmp_path / "out", make_recipe(colour="grey"))
    assert result.dataset.info["preparation"]["grey16_window"] == [0, 4095]
    assert sorted(result.dataset.images[:, 0, 0, 0].tolist()) == [round(2000 * 255 / 4095)] * 23 + [255]


def test_label_errors_are_found():
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    images = random.integers(0, 120, (300, 3, 16, 16), dtype=np.uint8)
    images[np.arange(300), labels] += 60
    wrong = np.array([7, 100, 211])
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % 3
    contents = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    checked = find_label_errors(images, given, [str(i) for i in range(300)], contents)
    assert {error.row for error in checked.doubtful} == set(wrong.tolist())
    assert all(error.suggested == labels[error.row] for error in checked.doubtful)
    assert checked.accuracy > 0.95


def test_label_errors_need_enough_images():
    images = np.zeros((20, 1, 8, 8), dtype=np.uint8)
    checked = find_label_errors(images, np.arange(20) % 2, [str(i) for i in range(20)], [str(i) for i in range(20)])
    assert checked.doubtful == []
    assert checked.accuracy is None


def test_the_overview_shows_every_class(image_tree, tmp_path):
    run(image_tree({"a": 20, "Größe 🎗 with a long long name": 20}), tmp_path / "out")
    sheet = Image.open(tmp_path / "out" / "private" / "overview.png")
    assert sheet.width > 700
    assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000


def test_raw_data_and_foreign_folders_are_never_overwritten(image_tree, tmp_path):
    root = image_tree({"a": 30})
    for out in (root, root / "a" / "dataset", tmp_path):
        with pytest.raises(DataError, match=r"is no dataset|lies within the raw data"):
            run(root, out)
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="is no dataset"):
        run(root, other)
    assert len(list(root.rglob("*.png"))) == 30
    run(root, tmp_path / "out")
    run(root, tmp_path / "out")


def test_a_failed_preparation_leaves_the_old_dataset(image_tree, tmp_path):
    root = image_tree({"a": 30})
    run(root, tmp_path / "out")
    before = sums(tmp_path / "out")
    with pytest.raises(DataError):
        run(root, tmp_path / "out", make_recipe(where={"label": "b"}))
    with pytest.raises(DataError):
        run(root, tmp_path / "out", make_recipe(size=64, upscale="refuse"))
    assert sums(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chest_ct", "pap_smear"])
def test_real_groups_stay_whole(data_root, tmp_path, name):
    result = run(data_root / name, tmp_path / "out", make_recipe(size=64, colour="grey"))
    dataset = result.dataset
    links = pq.read_table(tmp_path / "out" / "private" / "links.parquet").to_pylist()
    group = {link["key"]: link["group"] for link in links}
    pairs = {(group[key], split) for key, split in zip(dataset.column("key"), dataset.column("split"), strict=True)}
    assert len(pairs) == len({own for own, _ in pairs}) == sum(dataset.info["groups"].values())
    assert dataset.info["cohort"]["deviations"] == []
    assert dataset.info["preparation"]["rejected"] == {}


@pytest.mark.slow
def test_real_skin_is_prepared_twice_alike(data_root, tmp_path):
    recipe = make_recipe("cgan", size=64, label_errors=True)
    started = time.perf_counter()
    run(data_root / "skin9", tmp_path / "one", recipe)
    seconds = time.perf_counter() - started
    run(data_root / "skin9", tmp_path / "two", recipe, workers=1)
    assert sums(tmp_path / "one") == sums(tmp_path / "two")
    dataset = Dataset.open(tmp_path / "one", full=True)
    assert len(dataset) == 1834
    assert dataset.info["preparation"]["near_duplicate_groups"] >= 2
    assert seconds < 60
