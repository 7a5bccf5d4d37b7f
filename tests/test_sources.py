"""Readers: which one takes a path, what records they list, and how their files are joined with groups and tables."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthoma.errors import DataError
from synthoma.recipe import SourceSection
from synthoma.sources import data_terms, open_source

LIMIT = 10**7
AUTO = SourceSection()


def save(path: Path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def listed(source):
    """(place, label, split) of every record."""
    return [(r.origin.path.relative_to(source.root).as_posix(), r.label, r.given_split) for r in source.records()]


def test_a_tree_of_class_folders(image_tree):
    root = image_tree({"melanoma": 2, "nevus": 1})
    source = open_source(root, AUTO)
    assert listed(source) == [
        ("melanoma/0.png", "melanoma", None),
        ("melanoma/1.png", "melanoma", None),
        ("nevus/0.png", "nevus", None),
    ]
    assert source.read(source.records()[0], LIMIT).array.shape == (40, 48, 3)
    assert len({record.key for record in source.records()}) == 3


@pytest.mark.parametrize(
    "names", [("Train", "Test"), ("training", "TESTING"), ("train", "valid"), ("Train", "Validation")]
)
def test_split_folders_are_pooled_and_remembered(tmp_path, picture, names):
    for split in names:
        save(tmp_path / split / "a" / "x.png", picture(1))
    source = open_source(tmp_path, AUTO)
    assert {label for _, label, _ in listed(source)} == {"a"}
    expected = {
        "train": "train",
        "training": "train",
        "test": "test",
        "testing": "test",
        "valid": "val",
        "validation": "val",
    }
    assert {split for *_, split in listed(source)} == {expected[name.lower()] for name in names}
    assert any("pooled" in note for note in source.notes)


def test_split_folders_within_one_folder(tmp_path, picture):
    save(tmp_path / "An archive" / "Train" / "a" / "x.png", picture(1))
    save(tmp_path / "An archive" / "Test" / "b" / "x.png", picture(2))
    assert [(label, split) for _, label, split in listed(open_source(tmp_path, AUTO))] == [
        ("b", "test"),
        ("a", "train"),
    ]


def test_split_folders_beside_class_folders_are_refused(tmp_path, picture):
    save(tmp_path / "train" / "a" / "x.png", picture(1))
    save(tmp_path / "melanoma" / "x.png", picture(2))
    with pytest.raises(DataError, match="beside others"):
        open_source(tmp_path, AUTO).records()


def test_folders_below_a_class_and_other_files(tmp_path, picture):
    save(tmp_path / "a" / "patient 1" / "x.png", picture(1))
    save(tmp_path / "a" / ".hidden" / "y.png", picture(2))
    for name in (".DS_Store", "notes.md", "table.csv", "a/readme.txt", "raw.dat"):
        (tmp_path / name).write_text("file,label\n")
    save(tmp_path / "Ärzte 🎗" / "Größe 1.png", picture(3))
    source = open_source(tmp_path, SourceSection(kind="tree"))
    assert [label for _, label, _ in listed(source)] == ["a", "Ärzte 🎗"]
    assert any(".dat (1)" in note for note in source.notes)


def test_a_flat_folder_has_no_labels(tmp_path, picture):
    save(tmp_path / "x.png", picture(1))
    source = open_source(tmp_path, AUTO)
    assert listed(source) == [("x.png", None, None)]
    assert any("without labels" in note for note in source.notes)


def test_links_in_a_circle_end(tmp_path, picture):
    save(tmp_path / "a" / "x.png", picture(1))
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_source(tmp_path, AUTO).records()) == 1


def test_groups_csv_is_used_by_itself(image_tree):
    root = image_tree({"a": 3, "b": 2})
    (root / "groups.csv").write_text(
        "file,class,group\na/0.png,a,Meier\na/1.png,a,Meier\nb/0.png,b,Huber\nb/9.png,b,Huber\n"
    )
    source = open_source(root, AUTO)
    records = source.records()
    assert records[0].group == records[1].group != records[3].group
    assert records[2].group is None
    assert [record.origin.group for record in records] == ["Meier", "Meier", "", "Huber", ""]
    assert "Meier" not in repr(records)
    assert any("1 files that are not there" in warning for warning in source.warnings)
    assert any("2 images are not in groups.csv" in warning for warning in source.warnings)


def test_an_explicit_groups_file(image_tree, tmp_path):
    root = image_tree({"a": 2})
    file = tmp_path / "elsewhere.csv"
    file.write_text("file;patient\na/0.png;1\na/1.png;1\n", encoding="utf-8-sig")
    records = open_source(root, AUTO, file).records()
    assert records[0].group == records[1].group is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,group\nx,1\n", "needed are 'file' and 'group'"),
        ("file,group\na/0.png,1\na/0.png,2\n", "two groups"),
        ("file,group\nc/0.png,1\n", "names none"),
        ("file,group\na/0.png\n", "line 2"),
    ],
)
def test_bad_groups_files(image_tree, content, message):
    root = image_tree({"a": 2})
    (root / "groups.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        open_source(root, AUTO).records()


TABLE = "file,label,patient,split,diameter_mm,side\nimg/0.png,melanoma,P1,train,4.5,left\nimg/1.png,,P1,train,,right\nimg/ü 2.png,nevus,P2,test,3,\n"


@pytest.fixture
def table_folder(tmp_path, picture):
    root = tmp_path / "set"
    for i, name in enumerate(("0.png", "1.png", "ü 2.png")):
        save(root / "img" / name, picture(i))
    (root / "metadata.csv").write_text(TABLE, encoding="utf-8")
    return root


@pytest.mark.parametrize("form", ["folder", "file", "semicolon", "bom", "parquet"])
def test_a_table_beside_pictures(table_folder, form):
    path = table_folder / "metadata.csv"
    if form == "semicolon":
        path.write_text(TABLE.replace(",", ";"))
    if form == "bom":
        path.write_text(TABLE, encoding="utf-8-sig")
    if form == "parquet":
        path.unlink()
        path = table_folder / "metadata.parquet"
        pq.write_table(
            pa.table(
                {
                    "file": ["img/0.png", "img/1.png", "img/ü 2.png"],
                    "label": ["melanoma", None, "nevus"],
                    "patient": [1, 1, 2],
                    "split": ["train", "train", "test"],
                    "diameter_mm": [4.5, float("nan"), 3.0],
                    "side": ["left", "right", None],
                }
            ),
            path,
        )
    source = open_source(table_folder if form == "folder" else path, AUTO)
    records = source.records()
    assert [record.label for record in records] == ["melanoma", None, "nevus"]
    assert records[0].group == records[1].group != records[2].group
    assert [record.given_split for record in records] == ["train", "train", "test"]
    assert [record.attributes["diameter_mm"] for record in records] == [4.5, None, 3.0]
    assert [record.attributes["side"] for record in records] == ["left", "right", None]
    assert source.read(records[2], LIMIT).array.shape == (40, 48, 3)
    assert any("1 rows" in warning and "no label" in warning for warning in source.warnings)


def test_a_table_with_columns_of_other_names(table_folder):
    (table_folder / "metadata.csv").write_text("image,finding\nimg/0.png,x\n")
    section = SourceSection(kind="table", file_column="image", label_column="finding")
    assert [record.label for record in open_source(table_folder, section).records()] == ["x"]
    with pytest.raises(DataError, match=r"no column 'findings'; did you mean 'finding'"):
        open_source(
            table_folder / "metadata.csv", SourceSection(file_column="image", label_column="findings")
        ).records()


def test_columns_that_identify_a_person_are_left_out(table_folder):
    names = ["Patient", "subject_id", "PatientID", "date of birth", "image_id", "study name", "report"]
    rows = "".join(f"img/0.png,p{i % 3}," + ",".join(f"Meier {i}" for _ in names) + f",{i}\n" for i in range(12))
    (table_folder / "metadata.csv").write_text(f"file,group,{','.join(names)},diameter_mm\n{rows}")
    source = open_source(table_folder, AUTO)
    assert {name for record in source.records() for name in record.attributes} == {"diameter_mm"}
    assert any("Patient, subject_id" in note and "report" in note for note in source.notes)
    assert "Meier" not in "".join(source.notes) + repr(source.records())


def test_attributes_that_the_recipe_names(table_folder):
    (table_folder / "metadata.csv").write_text(
        "file,patient_id,diameter_mm,age\n" + "".join(f"img/{i}.png,{i},{i}.5,60\n" for i in range(2))
    )
    source = open_source(table_folder, SourceSection(attributes=["diameter_mm"]))
    assert [record.attributes for record in source.records()] == [{"diameter_mm": 0.5}, {"diameter_mm": 1.5}]
    # What looks like a patient's number is taken when it is asked for by name, and said.
    source = open_source(table_folder, SourceSection(attributes=["patient_id"]))
    assert source.records()[1].attributes == {"patient_id": 1.0}
    assert any("patient_id" in warning for warning in source.warnings)
    with pytest.raises(DataError, match=r"no attribute 'diametermm'; did you mean 'diameter_mm'\? It has: "):
        open_source(table_folder, SourceSection(attributes=["diametermm"])).records()


def test_pictures_beside_a_table_that_is_not_read_are_said(table_folder):
    (table_folder / "metadata.csv").write_text("image,finding\nimg/0.png,x\n")
    for path in (table_folder / "img").iterdir():
        path.rename(table_folder / path.name)
    source = open_source(table_folder, AUTO)
    source.records()
    assert any("metadata.csv was not read; source.kind=table" in note for note in source.notes)


def test_a_split_that_is_none_is_refused(table_folder):
    (table_folder / "metadata.csv").write_text("file,split\nimg/0.png,holdout\n")
    with pytest.raises(DataError, match="row 2 has the split 'holdout'"):
        open_source(table_folder, AUTO).records()


def test_table_and_class_folders_are_ambiguous(image_tree):
    root = image_tree({"a": 2, "b": 2})
    (root / "metadata.csv").write_text("file,label\na/0.png,x\n")
    with pytest.raises(DataError, match=r"more than one way: tree or table.*source\.kind"):
        open_source(root, AUTO)
    assert len(open_source(root, SourceSection(kind="tree")).records()) == 4
    assert len(open_source(root, SourceSection(kind="table")).records()) == 1


def arrays(path, **members):
    np.savez_compressed(path, **members)
    return path


def test_arrays_in_two_dimensions(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 10, 12, 3), dtype=np.uint8)
    path = arrays(
        tmp_path / "a.npz",
        train_images=images[:3],
        train_labels=np.array([[0], [1], [1]]),
        test_images=images[3:],
        test_labels=np.array([0]),
        label_names=np.array(["benign", "malignant"]),
        extra=np.zeros(2),
    )
    source = open_source(path, AUTO)
    records = source.records()
    assert [(r.label, r.given_split) for r in records] == [
        ("benign", "train"), ("malignant", "train"), ("malignant", "train"), ("benign", "test"),
    ]  # fmt: skip
    np.testing.assert_array_equal(source.read(records[3], LIMIT).array, images[3])
    assert any("extra" in note for note in source.notes)


def test_axes_are_brought_into_order(tmp_path):
    volume = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 7), dtype=np.uint8)  # n, y, x, z
    path = arrays(tmp_path / "a.npz", train_images=volume, train_masks=(volume > 99).astype(np.uint8))
    source = open_source(path, SourceSection(axes="nyxz"))
    pixels = source.read(source.records()[1], LIMIT)
    assert pixels.array.shape == (7, 5, 6, 1)
    np.testing.assert_array_equal(pixels.array[3, :, :, 0], volume[1, :, :, 3])
    np.testing.assert_array_equal(pixels.mask[3, :, :, 0], volume[1, :, :, 3] > 99)
    with pytest.raises(DataError, match=r"source\.axes is 'nyx'"):
        open_source(path, SourceSection(axes="nyx")).records()


def test_ids_are_groups_and_ratings_attributes(tmp_path):
    path = arrays(
        tmp_path / "a.npz",
        train_images=np.zeros((3, 4, 4), dtype=np.uint8),
        train_ids=np.array(["p1", "p1", "p2"]),
        train_ratings=np.array([[1, 5], [2, 4], [3, 3]]),
        rating_names=np.array(["margin", "malignancy"]),
    )
    records = open_source(path, AUTO).records()
    assert records[0].group == records[1].group != records[2].group
    assert [record.attributes for record in records][1] == {"margin": 2.0, "malignancy": 4.0}
    assert all(record.label is None for record in records)


def test_further_arrays_are_attributes(tmp_path):
    path = arrays(
        tmp_path / "a.npz",
        train_images=np.zeros((2, 4, 4), dtype=np.uint8),
        val_images=np.zeros((1, 4, 4), dtype=np.uint8),
        train_diameter_mm=np.array([4.5, np.nan]),
        train_age=np.array([[60], [71]], dtype=np.int16),
        val_age=np.array([55]),
        train_patient_id=np.array([17, 18]),
        train_spacing=np.ones((2, 3)),
        train_ratings=np.array([[1], [2]]),
        rating_names=np.array(["margin"]),
    )
    source = open_source(path, AUTO)
    assert [record.attributes for record in source.records()] == [
        {"margin": 1.0, "diameter_mm": 4.5, "age": 60.0},
        {"margin": 2.0, "diameter_mm": None, "age": 71.0},
        {"margin": None, "diameter_mm": None, "age": 55.0},
    ]
    assert any("left out: patient_id" in note for note in source.notes)
    assert any("ignored: train_spacing" in note for note in source.notes)
    chosen = open_source(path, SourceSection(attributes=["age"])).records()
    assert [record.attributes for record in chosen] == [{"age": 60.0}, {"age": 71.0}, {"age": 55.0}]
    with pytest.raises(DataError, match=r"no attribute 'margins'; did you mean 'margin'"):
        open_source(path, SourceSection(attributes=["margins"])).records()


def test_an_attribute_is_given_once(tmp_path):
    path = arrays(
        tmp_path / "a.npz",
        train_images=np.zeros((2, 4, 4), dtype=np.uint8),
        train_margin=np.ones(2),
        train_ratings=np.array([[1], [2]]),
        rating_names=np.array(["margin"]),
    )
    with pytest.raises(DataError, match="rename one"):
        open_source(path, AUTO).records()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"pictures": np.zeros(3)}, "expected arrays named train_images"),
        ({"train_images": np.zeros((2, 4, 4))}, "float64"),
        ({"train_images": np.array([{}, {}], dtype=object)}, "never unpickled"),
        ({"train_images": np.zeros((2, 4, 4), np.uint8), "train_labels": np.zeros(3, int)}, "3 entries"),
        ({"train_images": np.zeros((2, 4, 4), np.uint8), "train_labels": np.zeros((2, 14), int)}, "several findings"),
        ({"train_images": np.zeros((2, 3, 4, 5, 6), np.uint8)}, "set source.axes"),
    ],
)
def test_bad_arrays(tmp_path, members, message):
    with pytest.raises(DataError, match=message):
        open_source(arrays(tmp_path / "a.npz", **members), AUTO).records()


def test_a_truncated_archive(tmp_path):
    path = arrays(tmp_path / "a.npz", train_images=np.zeros((2, 4, 4), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"no readable \.npz"):
        open_source(path, AUTO).records()


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    from synthoma.formats import arrays as archive

    path = arrays(tmp_path / "a.npz", train_images=np.zeros((300, 64, 64), dtype=np.uint8))
    with pytest.raises(DataError, match="more than the limit"):
        archive.list_arrays(path, max_bytes=10**6)
    monkeypatch.setattr(archive, "_BOMB_BYTES", 10**6)
    with pytest.raises(DataError, match="times its size"):
        archive.list_arrays(path)


@pytest.mark.parametrize("content", [None, "notes.md", "scan.xyz"])
def test_nothing_recognised(tmp_path, content):
    if content:
        (tmp_path / content).write_text("x")
    with pytest.raises(DataError, match="Recognised are") as caught:
        open_source(tmp_path, AUTO)
    assert ("empty" if content is None else "no images were found among 1 files") in str(caught.value)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_source(tmp_path / "none", AUTO)


def test_terms_of_the_data(tmp_path):
    assert data_terms(tmp_path).licence is None
    (tmp_path / "synthoma-data.yaml").write_text("licence: CC BY 4.0\nmay_release: true\n")
    terms = data_terms(tmp_path)
    assert (terms.licence, terms.citation, terms.may_release) == ("CC BY 4.0", None, True)
    (tmp_path / "synthoma-data.yaml").write_text("license: x\n")
    with pytest.raises(DataError, match="did you mean 'licence'"):
        data_terms(tmp_path)


@pytest.mark.slow
def test_real_nodules(data_root):
    source = open_source(data_root / "nodules3d" / "lidc_nodules_51.npz", SourceSection(axes="nyxz"))
    records = source.records()
    assert len(records) == 100
    assert {record.given_split for record in records} == {"train", "val"}
    assert len({record.group for record in records}) == 100
    assert set(records[0].attributes) >= {"malignancy", "sphericity"}
    pixels = source.read(records[99], LIMIT)
    assert pixels.array.shape == pixels.mask.shape == (51, 51, 51, 1)
    # The nodule is at the centre of the cube.
    assert pixels.mask[20:31, 20:31, 20:31].any()
    assert records[99].label in {"0", "1"}


@pytest.mark.slow
def test_real_groups(data_root):
    for name, images, groups in (("chest_ct", 925, 99), ("pap_smear", 760, 259), ("chest_xray", 820, 674)):
        records = open_source(data_root / name, AUTO).records()
        assert (len(records), len({record.group for record in records})) == (images, groups)
