"""What users really bring: each bad input gets the message that it should, and nothing is lost silently."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthoma.errors import DataError
from synthoma.recipe import SourceSection
from synthoma.sources import open_source
from test_images import damaged, huge_png
from test_preparation import make_recipe, run


def rejected(out: Path) -> list[dict]:
    return pq.read_table(out / "rejected.parquet").to_pylist()


def test_an_empty_folder(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="the folder is empty"):
        run(tmp_path / "data", tmp_path / "out")
    with pytest.raises(DataError, match="holds no pictures"):
        run(tmp_path / "data", tmp_path / "out", make_recipe(source={"kind": "tree"}))


def test_no_readable_image(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for i in range(20):
        (root / f"{i}.jpg").write_text("text")
    with pytest.raises(DataError, match="no readable image among 20 files") as caught:
        run(root, tmp_path / "out")
    assert "0.jpg: this is no picture" in str(caught.value)
    assert "and 15 more" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_fewer_than_sixteen_training_images(image_tree, tmp_path):
    with pytest.raises(DataError, match=r"14 images are left for training \(20 in all, 0 left out\); at least 16"):
        run(image_tree({"a": 20}), tmp_path / "out")


def test_one_class_in_a_conditional_recipe(image_tree, tmp_path):
    root = image_tree({"melanoma": 40})
    with pytest.raises(DataError, match=r"one class only .'melanoma'.*conditional"):
        run(root, tmp_path / "out", make_recipe("cgan"))
    assert run(root, tmp_path / "out", make_recipe("dcgan")).dataset.classes == ["melanoma"]


def test_no_labels_in_a_conditional_recipe(tmp_path, picture):
    root = tmp_path / "data"
    root.mkdir()
    for i in range(30):
        Image.fromarray(picture(i)).save(root / f"{i}.png")
    with pytest.raises(DataError, match="none of the 30 images has a label"):
        run(root, tmp_path / "out", make_recipe("cgan"))


def test_a_class_with_a_single_patient_and_a_small_class_are_warned_of(image_tree, tmp_path):
    root = image_tree({"a": 30, "b": 6})
    (root / "groups.csv").write_text("file,group\n" + "".join(f"b/{i}.png,patient 7\n" for i in range(6)))
    result = run(root, tmp_path / "out", make_recipe("cgan", batch=16))
    dataset = result.dataset
    assert any("Class 'b' comes from a single patient" in warning for warning in result.warnings)
    assert any("Class 'b' has 6 training images, fewer than a batch (16)" in warning for warning in result.warnings)
    assert {s for s, name in zip(dataset.column("split"), dataset.column("label"), strict=True) if name == "b"} == {
        "train"
    }
    assert not any("patient 7" in line for line in [*result.notes, *result.warnings])


def test_fewer_than_three_groups_leave_no_reference(image_tree, tmp_path):
    root = image_tree({"a": 24})
    (root / "groups.csv").write_text("file,group\n" + "".join(f"a/{i}.png,{i % 2}\n" for i in range(24)))
    result = run(root, tmp_path / "out")
    assert result.dataset.info["counts"] == {"train": {"a": 24}, "val": {}, "test": {}}
    assert result.dataset.info["cohort"]["independent_reference"] is False
    assert any("no independent reference" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "this is no picture"),
        ("truncated jpeg", "the file is truncated"),
        ("truncated png", "the file is truncated"),
        ("empty", "the file is empty"),
    ],
)
def test_a_bad_file_is_quarantined_with_its_reason(image_tree, tmp_path, kind, reason):
    root = image_tree({"a": 30})
    bad = damaged(tmp_path, kind)
    bad.rename(root / "a" / f"Patient Meier{bad.suffix}")
    result = run(root, tmp_path / "out")
    assert len(result.dataset) == 30
    (row,) = rejected(tmp_path / "out")
    assert row["reason"].startswith(reason)
    assert row["label"] == "a"
    links = {
        link["key"]: link["file"] for link in pq.read_table(tmp_path / "out" / "private" / "links.parquet").to_pylist()
    }
    assert links[row["key"]] == f"a/Patient Meier{bad.suffix}"
    assert any("1 file could not be read" in warning and reason in warning for warning in result.warnings)
    public = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file())
    assert b"Meier" not in public


def test_a_text_file_named_jpg(image_tree, tmp_path):
    root = image_tree({"a": 30})
    (root / "a" / "notes.jpg").write_text("see appendix")
    run(root, tmp_path / "out")
    assert [row["reason"].partition(" (")[0] for row in rejected(tmp_path / "out")] == [
        "this is no picture, or its header is damaged"
    ]


def test_a_huge_png_is_quarantined(image_tree, tmp_path):
    root = image_tree({"a": 30})
    huge_png(root / "a" / "huge.png")
    run(root, tmp_path / "out")
    (row,) = rejected(tmp_path / "out")
    assert "more pixels than the limit" in row["reason"]


@pytest.mark.slow
def test_a_huge_png_takes_no_memory(image_tree, tmp_path):
    """In a process of its own, whose peak memory is measured."""
    root = image_tree({"a": 30})
    huge_png(root / "a" / "huge.png")
    script = """
import sys
from pathlib import Path
from test_preparation import run
run(Path(sys.argv[1]), Path(sys.argv[2]) / "first")
# Not ru_maxrss: a new process inherits that of the one that started it.
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(root), str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    # 20,000 x 20,000 pixels would be 400 MB on top of what the libraries take.
    assert int(done.stdout) < 600_000


def test_too_many_bad_files_end_the_preparation(image_tree, tmp_path):
    root = image_tree({"a": 30})
    for i in range(10):
        (root / "a" / f"bad{i}.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"10 of 40 files cannot be read, more than preparation.max_rejected = 0.2"
    ) as caught:
        run(root, tmp_path / "out")
    assert str(caught.value).count("the file is empty") == 5
    assert not (tmp_path / "out").exists()
    assert len(run(root, tmp_path / "out", make_recipe(max_rejected=0.3)).dataset) == 30


def test_names_with_spaces_umlauts_and_emoji(tmp_path, picture):
    for label in ("gut artig", "bösartig", "🎗 class"):
        (tmp_path / "Daten – 1" / label).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(picture(hash((label, i)) % 10**6)).save(
                tmp_path / "Daten – 1" / label / f"Bild {i} ü🩻.png"
            )
    dataset = run(tmp_path / "Daten – 1", tmp_path / "aus gabe", make_recipe("cgan")).dataset
    assert dataset.classes == sorted(["gut artig", "bösartig", "🎗 class"])
    assert len(dataset) == 36


def test_a_name_in_decomposed_unicode_is_the_same_class(tmp_path, picture):
    import unicodedata

    for form in ("NFC", "NFD"):
        for split in ("Train",) if form == "NFC" else ("Test",):
            folder = tmp_path / "data" / split / unicodedata.normalize(form, "bösartig")
            folder.mkdir(parents=True)
            for i in range(16):
                Image.fromarray(picture(len(form + split) * 100 + i)).save(folder / f"{i}.png")
    assert run(tmp_path / "data", tmp_path / "out").dataset.classes == ["bösartig"]


@pytest.mark.parametrize("upscale", ["allow", "refuse"])
def test_images_smaller_than_the_target(image_tree, tmp_path, picture, upscale):
    root = image_tree({"a": 30})
    for i in range(3):
        Image.fromarray(picture(500 + i, (10, 12))).save(root / "a" / f"small{i}.png")
    result = run(root, tmp_path / "out", make_recipe(upscale=upscale))
    if upscale == "allow":
        assert len(result.dataset) == 33
        assert sum(result.dataset.column("upscaled")) == 3
        assert any("3 images (9.1 %) are smaller" in note for note in result.notes)
    else:
        assert len(result.dataset) == 30
        assert {row["reason"] for row in rejected(tmp_path / "out")} == {
            "smaller than the training size (10 x 12 for 16 x 16)"
        }
        assert any("3 images left out: smaller than the training size (3)" in warning for warning in result.warnings)


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_mixed_grey_and_colour(image_tree, tmp_path, picture, colour):
    root = image_tree({"a": 20})
    for i in range(10):
        Image.fromarray(picture(700 + i)).convert("L").save(root / "a" / f"grey{i}.png")
    result = run(root, tmp_path / "out", make_recipe(colour=colour))
    assert result.dataset.channels == (3 if colour == "rgb" else 1)
    assert any("20 in colour, 10 grey" in note for note in result.notes)
    units = result.dataset.column("unit")
    assert (units.count("rgb8"), units.count("grey8")) == (20, 10)
    if colour == "rgb":
        rows = [row for row, unit in enumerate(units) if unit == "grey8"]
        assert (np.ptp(result.dataset.images[rows], axis=1) == 0).all()


def test_a_table_that_names_missing_files(image_tree, tmp_path):
    root = image_tree({"a": 30})
    lines = [f"a/{i}.png,x" for i in range(30)] + ["a/lost.png,x"]
    (root / "table.csv").write_text("file,label\n" + "\n".join(lines))
    result = run(root, tmp_path / "out", make_recipe(source={"kind": "table"}))
    assert len(result.dataset) == 30
    assert rejected(tmp_path / "out")[0]["reason"] == "the file does not exist"


def test_a_table_that_is_not_utf8(tmp_path):
    (tmp_path / "table.csv").write_bytes("file,label\nä.png,x\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 \(byte 11\)"):
        open_source(tmp_path / "table.csv", SourceSection()).records()


def test_nothing_is_logged_about_patients(image_tree, tmp_path, caplog, capsys):
    root = image_tree({"a": 30})
    (root / "groups.csv").write_text("file,group\n" + "".join(f"a/{i}.png,Meier {i // 3}\n" for i in range(30)))
    with caplog.at_level(logging.DEBUG):
        result = run(root, tmp_path / "out")
    captured = capsys.readouterr()
    assert "Meier" not in caplog.text + captured.out + captured.err + "".join([*result.notes, *result.warnings])
