"""The released model: the same image for the same seed and index, and provenance with every file."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from synthoma.conditions import Conditions
from synthoma.draws import StepDraws
from synthoma.errors import ModelError
from synthoma.families import ImageSpace, build_family
from synthoma.model import BLOCK, Model, SampleDataset
from synthoma.recipe import ModelSection, TrainingSection
from synthoma.run import file_sha256
from synthoma.synthesis import write_images


def save_model(
    folder: Path, family: str = "cgan", size: tuple[int, ...] = (16, 16), seed: int = 0, masks: bool = False
) -> Path:
    section = ModelSection(
        family=family,
        latent=8,
        generator_widths=[16, 8],
        discriminator_widths=[8, 16],
        label_embedding=4,
        masks="signed_distance" if masks else "none",
    )
    classes = ["naevus", "melanoma", "b c"] if family == "cgan" else []
    conditions = Conditions(tuple(classes), None, (10, 30, 60)[: len(classes)], (), ())
    space = ImageSpace(size, 3 + masks, conditions.width)
    built = build_family(section, TrainingSection(seed=seed), space, torch.device("cpu"))
    info = {
        "name": "test",
        "networks": section.model_dump(mode="json"),
        "classes": classes,
        "conditions": conditions.to_json(),
        "class_counts": dict(zip(classes, (10, 30, 60), strict=False)),
        "channels": 3,
        "size": list(size),
        "encoding": {"unit": "rgb8", "dtype": "uint8"},
    }
    Model.save(folder, built.generator, info, "# Card\n")
    return folder


def test_an_image_does_not_depend_on_what_else_is_asked_for(tmp_path: Path) -> None:
    model = Model.load(save_model(tmp_path / "model"))
    many = model.generate(BLOCK * 2 + 5, label="melanoma", seed=7)
    few = model.generate(3, label="melanoma", seed=7)
    late = model.generate(4, label="melanoma", seed=7, start=BLOCK - 2)
    mixed = model.generate(3, label=["naevus", "melanoma", "b c"], seed=7)
    assert np.array_equal(many.images[:3], few.images)
    assert np.array_equal(many.images[BLOCK - 2 : BLOCK + 2], late.images)
    assert np.array_equal(mixed.images[1], many.images[1])
    assert late.indices.tolist() == list(range(BLOCK - 2, BLOCK + 2))
    assert not np.array_equal(many.images[0], many.images[1])
    assert not np.array_equal(model.generate(3, label="melanoma", seed=8).images, few.images)


def test_every_image_has_noise_of_its_own_in_a_style_network(tmp_path: Path) -> None:
    model = Model.load(save_model(tmp_path / "model", "style"))
    network = model.network
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("strength"):
                parameter.fill_(1.0)
    many = model.generate(BLOCK + 3, seed=7)
    assert np.array_equal(many.images[BLOCK:], model.generate(3, seed=7, start=BLOCK).images)
    index = torch.arange(BLOCK)
    draws = StepDraws(7, 0, index)
    z, noise = draws.normal("generation latents", (8,)), draws.normal("generation noise", (int(network.noise_size),))
    assert not torch.equal(noise[0], noise[1])
    with torch.no_grad():
        expected = network(z, None, noise=noise).numpy()
    low, high = model.info["networks"]["range"]
    scaled = np.clip((expected - low) / (high - low) * 255, 0, 255)
    assert np.abs(scaled - many.images[:BLOCK]).max() <= 0.51


def test_classes_are_drawn_as_in_training_where_none_is_named(tmp_path: Path) -> None:
    model = Model.load(save_model(tmp_path / "model"))
    labels = model.generate(2000, seed=1).labels
    assert np.abs(np.bincount(labels, minlength=3) / 2000 - [0.1, 0.3, 0.6]).max() < 0.05
    assert np.array_equal(model.generate(10, seed=1).labels, labels[:10])


def test_wrong_requests_are_explained(tmp_path: Path) -> None:
    conditional = Model.load(save_model(tmp_path / "cgan"))
    plain = Model.load(save_model(tmp_path / "dcgan", "dcgan"))
    with pytest.raises(ModelError, match="did you mean 'melanoma'"):
        conditional.generate(1, label="melanom")
    with pytest.raises(ModelError, match="has no classes"):
        plain.generate(1, label="melanoma")
    with pytest.raises(ModelError, match="at least 1"):
        plain.generate(0)
    with pytest.raises(ModelError, match="is no model"):
        Model.load(tmp_path)


def test_a_changed_weight_is_found(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    weights = folder / "generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        Model.load(folder)


def test_the_same_command_gives_the_same_bytes_and_a_manifest(tmp_path: Path) -> None:
    model = Model.load(save_model(tmp_path / "model"))
    write_images(model, tmp_path / "one", 40, "melanoma", seed=7)
    write_images(model, tmp_path / "two", 40, "melanoma", seed=7)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 41
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    rows = pq.read_table(tmp_path / "one" / "manifest.parquet").to_pylist()
    for row in rows:
        assert file_sha256(tmp_path / "one" / row["file"]) == row["sha256"]
        assert (row["class"], row["seed"], row["model_hash"]) == ("melanoma", 7, model.hash)
    picture = Image.open(tmp_path / "one" / rows[3]["file"])
    assert "YES" in picture.text["Synthetic"]
    assert picture.text["synthoma:index"] == "3"
    assert np.array_equal(np.asarray(picture), np.moveaxis(model.generate(4, "melanoma", 7).images[3], 0, -1))


def test_classes_are_added_one_after_the_other_and_models_are_not_mixed(tmp_path: Path) -> None:
    model = Model.load(save_model(tmp_path / "model"))
    out = tmp_path / "images"
    write_images(model, out, 3, "melanoma")
    write_images(model, out, 2, "b c")
    write_images(model, out, 3, "melanoma")
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    assert sorted(row["class"] for row in rows) == ["b c"] * 2 + ["melanoma"] * 3
    with pytest.raises(ModelError, match="another model"):
        write_images(Model.load(save_model(tmp_path / "other", seed=1)), out, 3, "melanoma")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="not empty"):
        write_images(model, tmp_path / "full", 1)


def test_volumes_are_written_as_arrays(tmp_path: Path) -> None:
    model = Model.load(save_model(tmp_path / "model", "dcgan", (8, 8, 16)))
    write_images(model, tmp_path / "volumes", 2, file_format="npy")
    files = sorted((tmp_path / "volumes").glob("*.npy"))
    assert np.load(files[1], allow_pickle=False).shape == (3, 8, 8, 16)


def test_masks_that_a_model_makes_lie_beside_its_volumes(tmp_path: Path) -> None:
    model = Model.load(save_model(tmp_path / "model", "dcgan", (8, 8, 16), masks=True))
    write_images(model, tmp_path / "volumes", 2, file_format="npy")
    made = model.generate(2)
    assert made.masks is not None
    for row, expected in zip(
        pq.read_table(tmp_path / "volumes" / "manifest.parquet").to_pylist(), made.masks, strict=True
    ):
        mask = np.load(tmp_path / "volumes" / row["mask"], allow_pickle=False)
        assert mask.dtype == np.uint8
        assert np.array_equal(mask[0], expected)


def test_samples_as_a_torch_dataset(tmp_path: Path) -> None:
    model = Model.load(save_model(tmp_path / "model"))
    samples = SampleDataset(model, 40, "melanoma", seed=2)
    loader = torch.utils.data.DataLoader(samples, batch_size=16)
    images = torch.cat([batch for batch, _ in loader])
    assert np.array_equal(images.numpy(), model.generate(40, "melanoma", 2).images)
    assert samples[39][1] == 1
    with pytest.raises(IndexError):
        samples[40]
