"""Which images a recipe takes and under which class, and the attributes that they bring along."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from preparation_fixture import make_recipe, run
from synthoma.dataset import Dataset
from synthoma.errors import DataError, DatasetError
from synthoma.preparation import needs_labels


def test_where_selects_by_label_and_attribute(tmp_path, picture):
    root = tmp_path / "data"
    root.mkdir()
    lines = ["file,label,grade"]
    for i in range(90):
        Image.fromarray(picture(i)).save(root / f"{i}.png")
        lines.append(f"{i}.png,{'malignant' if i % 2 else 'benign'},{i % 3}")
    (root / "table.csv").write_text("\n".join(lines))
    dataset = run(root, tmp_path / "out", make_recipe(where={"label": ["malignant"], "grade": [1, 2]})).dataset
    assert len(dataset) == 30
    assert dataset.classes == ["malignant"]
    assert set(dataset.column("attr.grade")) == {1.0, 2.0}
    assert dataset.info["preparation"]["filtered"] == 60
    with pytest.raises(DataError, match=r"no image has label = 'cyst'. There are: benign, malignant"):
        run(root, tmp_path / "none", make_recipe(where={"label": "cyst"}))
    with pytest.raises(DataError, match="no 'grad'; did you mean 'grade'"):
        run(root, tmp_path / "none", make_recipe(where={"grad": 1}))


@pytest.fixture
def attribute_table(tmp_path, picture):
    """60 pictures of three classes with a diameter (every fifth missing), a side, and a constant."""
    root = tmp_path / "data"
    root.mkdir()
    lines = ["file,label,diameter_mm,side"]
    for i in range(60):
        Image.fromarray(picture(i)).save(root / f"{i}.png")
        lines.append(
            f"{i}.png,{('melanoma', 'nevus', '3')[i % 3]},{'' if i % 5 == 0 else i + 0.5},{'left' if i % 2 else 'right'}"
        )
    (root / "table.csv").write_text("\n".join(lines))
    return root


def test_attributes_reach_the_dataset(attribute_table, tmp_path):
    result = run(attribute_table, tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.attribute_names == ["diameter_mm"]
    assert dataset.text_attribute_names == ["side"]
    links = {
        link["key"]: link["file"] for link in pq.read_table(tmp_path / "out" / "private" / "links.parquet").to_pylist()
    }
    numbers = [int(links[key].removesuffix(".png")) for key in dataset.column("key")]
    expected = [np.nan if n % 5 == 0 else n + 0.5 for n in numbers]
    np.testing.assert_array_equal(dataset.attribute("diameter_mm"), expected)
    assert dataset.attribute("diameter_mm").dtype == np.float64
    assert dataset.info["preparation"]["attributes"] == {"diameter_mm": 48, "side": 60}
    assert any("diameter_mm (known for 48 of 60)" in note for note in result.notes)
    with pytest.raises(DatasetError, match=r"no 'diametermm'; did you mean 'diameter_mm'"):
        dataset.attribute("diametermm")
    with pytest.raises(DatasetError, match="'side' is text"):
        dataset.attribute("side")
    # What a model is conditioned on is part of what it was trained on.
    table = attribute_table / "table.csv"
    table.write_text(table.read_text().replace("7.5", "7.25"))
    assert run(attribute_table, tmp_path / "again").dataset.content_hash != dataset.content_hash


def test_an_attribute_that_a_recipe_needs_must_be_there(attribute_table, image_tree, tmp_path):
    def recipe(family="dcgan", source=None, **model):
        made = make_recipe(family, source=source)
        return made.model_copy(update={"model": made.model.model_copy(update=model)})

    with pytest.raises(DataError, match=r"no 'diametermm'; did you mean 'diameter_mm'.*when_absent: drop"):
        run(attribute_table, tmp_path / "out", recipe(conditions=["diametermm"]))
    with pytest.raises(DataError, match="'side' is text"):
        run(attribute_table, tmp_path / "out", recipe(conditions=["side"]))
    assert not (tmp_path / "out").exists()
    dropped = run(attribute_table, tmp_path / "out", recipe(conditions=["side"], when_absent="drop"))
    assert len(dropped.dataset) == 60
    tree = image_tree({"a": 30}, name="tree")
    with pytest.raises(DataError, match=r"source\.attributes: the images have no 'age'"):
        run(tree, tmp_path / "none", recipe(source={"attributes": ["age"]}))


def test_classes_are_pooled_before_anything_else(attribute_table, tmp_path):
    pool = {"lesion": ["nevus", 3]}
    result = run(attribute_table, tmp_path / "out", make_recipe("cgan", pool=pool))
    assert result.dataset.classes == ["lesion", "melanoma"]
    assert result.dataset.column("label").count("lesion") == 40
    assert any("'lesion' is pooled from nevus, 3" in note for note in result.notes)
    # The split is drawn for the pooled classes, and a filter sees them.
    assert not result.dataset.info["cohort"]["deviations"]
    kept = run(attribute_table, tmp_path / "kept", make_recipe(pool=pool, where={"label": "lesion"})).dataset
    assert len(kept) == 40
    with pytest.raises(DataError, match=r"no class 'naevus'; did you mean 'nevus'\? There are: 3, melanoma, nevus"):
        run(attribute_table, tmp_path / "none", make_recipe(pool={"benign": ["naevus"]}))
    with pytest.raises(DataError, match="itself a class"):
        run(attribute_table, tmp_path / "none", make_recipe(pool={"melanoma": ["nevus"]}))
    merged = make_recipe(pool={"melanoma": ["melanoma", "nevus"]})
    assert run(attribute_table, tmp_path / "merged", merged).dataset.classes == ["3", "melanoma"]


@pytest.mark.parametrize(
    "section", [{"pool": {"a": ["x"], "b": ["x"]}}, {"pool": {"a": []}}, {"fit": "stretch", "resample": False}]
)
def test_contradictions_in_a_recipe(section):
    with pytest.raises(ValueError, match=r"more than once|names the classes|stretch"):
        make_recipe(**section)


def test_images_without_a_label(tmp_path, picture):
    root = tmp_path / "data"
    root.mkdir()
    lines = ["file,label"]
    for i in range(50):
        Image.fromarray(picture(i)).save(root / f"{i}.png")
        lines.append(f"{i}.png,{'' if i < 5 else 'ab'[i % 2]}")
    (root / "table.csv").write_text("\n".join(lines))
    assert not needs_labels(make_recipe())
    assert len(run(root, tmp_path / "plain").dataset) == 50
    conditional = make_recipe("cgan")
    assert needs_labels(conditional)
    result = run(root, tmp_path / "conditional", conditional)
    assert len(result.dataset) == 45
    assert result.dataset.info["preparation"]["rejected"] == {"no label, which a conditional model needs": 5}


def test_a_set_without_any_labels_goes_on_where_the_class_may_be_dropped(tmp_path, picture):
    root = tmp_path / "data"
    root.mkdir()
    for i in range(30):
        Image.fromarray(picture(i)).save(root / f"{i}.png")
    recipe = make_recipe("cgan")
    with pytest.raises(DataError, match="none of the 30 images has a label"):
        run(root, tmp_path / "out", recipe)
    dropping = recipe.model_copy(update={"model": recipe.model.model_copy(update={"when_absent": "drop"})})
    assert len(run(root, tmp_path / "out", dropping).dataset) == 30
