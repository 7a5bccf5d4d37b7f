"""Networks: the seeds' shapes and parameter counts, both dimensions, dtypes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from family_fixture import small_family
from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.families import FAMILIES, ImageSpace, build_family
from synthoma.networks.layers import Convolution, Dense, initialise, same_kernel_padding
from synthoma.objectives.batch import Batch
from synthoma.recipe import ModelSection, Recipe, TrainingSection, load_recipe
from synthoma.training.schedules import Schedules
from synthoma.training.updates import discriminator_gradients, generator_gradients

CPU = torch.device("cpu")


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@contextmanager
def feature_shapes(network: nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """Shapes [c, *spatial] after the stem and after each block."""
    shapes: list[tuple[int, ...]] = []
    modules = [getattr(network, "stem", None), *network.blocks]
    hooks = [
        m.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:]))) for m in modules if m is not None
    ]
    yield shapes
    for hook in hooks:
        hook.remove()


def one_hot(labels: list[int], classes: int) -> torch.Tensor:
    return torch.eye(classes)[torch.tensor(labels)]


def build(name: str, classes: int, channels: int) -> tuple[nn.Module, nn.Module, Recipe]:
    recipe = load_recipe(name)
    family = build_family(recipe.model, recipe.training, ImageSpace((64, 64), channels, classes), CPU)
    return family.generator, family.discriminator, recipe


def test_cgan_feature_maps_are_those_of_the_seed() -> None:
    generator, discriminator, _ = build("skin-cgan", 9, 3)
    labels = one_hot([0, 8], 9)
    with feature_shapes(generator) as shapes:
        image = generator(torch.randn(2, 100), labels)
    # Dense(8*8*256) is flat until its reshape; then 16x16x128, 32x32x64, 64x64x3.
    assert shapes == [(8 * 8 * 256,), (128, 16, 16), (64, 32, 32), (3, 64, 64)]
    with feature_shapes(discriminator) as shapes:
        logits = discriminator(image, labels)
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]
    assert logits.shape == (2,)
    assert discriminator.score.dense.in_features == 8 * 8 * 256


def test_dcgan_feature_maps_are_those_of_the_seed() -> None:
    generator, discriminator, _ = build("chest-ct-dcgan", 0, 1)
    with feature_shapes(generator) as shapes:
        image = generator(torch.randn(2, 100))
    assert shapes == [(512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (1, 64, 64)]
    with feature_shapes(discriminator) as shapes:
        assert discriminator(image).shape == (2,)
    assert shapes == [(128, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4)]


def reference_dcgan(nz: int, ngf: int, ndf: int, nc: int) -> tuple[nn.Module, nn.Module]:
    """The table of docs/recipes.md as the usual PyTorch DCGAN, written independently of ours."""

    def up(i: int, o: int, s: int, p: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(i, o, 4, s, p, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

    def down(i: int, o: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]

    generator = nn.Sequential(
        *up(nz, ngf * 8, 1, 0), *up(ngf * 8, ngf * 4, 2, 1), *up(ngf * 4, ngf * 2, 2, 1), *up(ngf * 2, ngf, 2, 1),
        nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2), *down(ndf, ndf * 2), *down(ndf * 2, ndf * 4),
        *down(ndf * 4, ndf * 8), nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
    )  # fmt: skip
    return generator, discriminator


@pytest.mark.parametrize(("name", "ngf", "ndf"), [("chest-ct-dcgan", 64, 128), ("chest-xray-dcgan", 128, 128)])
def test_dcgan_parameters_equal_an_independent_build(name: str, ngf: int, ndf: int) -> None:
    generator, discriminator, recipe = build(name, 0, 1)
    reference = reference_dcgan(recipe.model.latent, ngf, ndf, 1)
    assert (count(generator), count(discriminator)) == (count(reference[0]), count(reference[1]))


def reference_cgan(classes: int, latent: int, embedding: int) -> tuple[nn.Module, nn.Module]:
    """The table of docs/recipes.md in plain PyTorch layers."""
    generator = nn.ModuleList(
        [
            nn.Embedding(classes, embedding),
            nn.Linear(latent + embedding, 8 * 8 * 256, bias=False),
            nn.BatchNorm1d(8 * 8 * 256),
            nn.ConvTranspose2d(256, 128, 4, 2, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ConvTranspose2d(64, 3, 4, 2, 1),
        ]
    )
    discriminator = nn.ModuleList(
        [
            nn.Embedding(classes, 64 * 64),
            nn.Conv2d(4, 64, 4, 2, 1),
            nn.Conv2d(64, 128, 4, 2, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.Conv2d(128, 256, 4, 2, 1, bias=False),
            nn.BatchNorm2d(256),
            nn.Linear(8 * 8 * 256, 1),
        ]
    )
    return generator, discriminator


def test_cgan_parameters_equal_an_independent_build() -> None:
    generator, discriminator, recipe = build("skin-cgan", 9, 3)
    reference = reference_cgan(9, recipe.model.latent, recipe.model.label_embedding)
    assert (count(generator), count(discriminator)) == (count(reference[0]), count(reference[1]))


def test_dcgan_computes_what_the_reference_computes() -> None:
    """Same weights, same images: the dense first and last layers are the reference's convolutions of one position."""
    generator, discriminator, _ = build("chest-ct-dcgan", 0, 1)
    reference_generator, reference_discriminator = reference_dcgan(100, 64, 128, 1)
    ours = list(generator.parameters()), list(discriminator.parameters())
    for mine, theirs in zip(ours, (reference_generator, reference_discriminator), strict=True):
        with torch.no_grad():
            for a, b in zip(mine, theirs.parameters(), strict=True):
                # The first layer's matrix is the transposed kernel; all others differ in shape only.
                b.copy_(a.T.reshape(b.shape) if a.ndim == 2 and a.shape[0] > 1 else a.reshape(b.shape))
    z = torch.randn(4, 100)
    images = reference_generator(z[:, :, None, None])
    torch.testing.assert_close(generator(z), images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        discriminator(images).sigmoid(), reference_discriminator(images).flatten(), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("conditions", [0, 3])
@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize(("size", "channels"), [((16, 16), 1), ((16, 24), 4), ((8, 8, 16), 1)])
def test_both_dimensions_oblong_sizes_any_channels(
    family: str, size: tuple[int, ...], channels: int, conditions: int
) -> None:
    if FAMILIES[family].needs_conditions and not conditions:
        pytest.skip("this family is conditional by definition")
    recipe = small_family(family, size)
    built = build_family(recipe.model, recipe.training, ImageSpace(size, channels, conditions), CPU)
    codes = one_hot([0, 1, 2, 0], 3) if conditions else None
    images = built.generator(torch.randn(4, 8), codes)
    assert images.shape == (4, channels, *size)
    assert images.dtype == torch.float32
    logits = built.discriminator(images, codes)
    assert logits.shape == (4,)
    logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in built.generator.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_bf16_stays_near_fp32_and_returns_fp32(family: str) -> None:
    recipe = small_family(family, (32, 32))
    built = build_family(recipe.model, recipe.training, ImageSpace((32, 32), 3, 3), CPU)
    codes = one_hot([0, 1, 2, 0], 3)
    z = torch.randn(4, 8)
    exact = built.generator(z, codes)
    built.generator.compute_dtype = torch.bfloat16
    rough = built.generator(z, codes)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()


def test_the_label_matters() -> None:
    generator, discriminator, _ = build("skin-cgan", 9, 3)
    generator.eval()
    z = torch.randn(1, 100)
    images = generator(z.repeat(2, 1), one_hot([0, 1], 9))
    assert not torch.allclose(images[0], images[1])
    logits = discriminator.eval()(images[:1].repeat(2, 1, 1, 1), one_hot([0, 1], 9))
    assert not torch.allclose(logits[0], logits[1])


def test_initialisation_is_the_seed_s_and_no_no_op() -> None:
    generator, _, _ = build("chest-ct-dcgan", 0, 1)
    weight = generator.blocks[0][0].weight
    assert abs(float(weight.detach().std()) - 0.02) < 0.001
    again, _, _ = build("chest-ct-dcgan", 0, 1)
    assert torch.equal(weight, again.blocks[0][0].weight)
    initialise(again, "xavier", torch.Generator().manual_seed(0))
    assert not torch.equal(weight, again.blocks[0][0].weight)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ({"family": "dcgam"}, (64, 64), "did you mean 'dcgan'"),
        ({}, (60, 60), "multiple of 16"),
        ({"kernel": 3}, (64, 64), "model.kernel"),
        ({"attention": [5]}, (64, 64), "no stage of 5 pixels; there are 8, 16, 32"),
    ],
)
def test_what_does_not_fit_is_explained(model: dict[str, object], size: tuple[int, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_family(ModelSection(**model), TrainingSection(), ImageSpace(size, 1, 0), CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "model", "training", "message"),
    [
        ("dcgan", {}, {"penalties": {"r1": 1}}, "batch norm.*instance, group, none"),
        ("wgan", {}, {"clip": None}, "bounded in its slope"),
        ("wgan-gp", {}, {"clip": 0.01}, "work against each other"),
        ("pggan", {"spectral_norm": True}, {}, "equalised learning rate"),
        ("mlp", {"attention": [8]}, {}, "does not combine"),
        ("mlp", {"masks": "signed_distance"}, {}, "fully connected"),
        ("r3", {}, {"real_labels": [0.9, 1.0]}, "no labels that could be smoothed"),
        ("dcgan", {"discriminator_norm": "none"}, {"penalties": {"path_length": 2}}, "path_length"),
        ("r3", {"generator_widths": [16, 8]}, {}, "one for each resolution"),
    ],
)
def test_what_does_not_combine_is_refused_with_the_reason(
    family: str, model: dict[str, object], training: dict[str, object], message: str
) -> None:
    recipe = small_family(family, model=model, **training)
    with pytest.raises(RecipeError, match=message):
        build_family(recipe.model, recipe.training, ImageSpace((16, 16), 3, 0), CPU)


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("dcgan", {"attention": [8], "spectral_norm": True, "minibatch_stddev": 2, "scales": 2}),
        ("wgan-gp", {"attention": [8], "conditioning": "projection", "discriminator_norm": "group"}),
        ("r3", {"attention": [8], "spectral_norm": True, "scales": 2, "minibatch_stddev": 2, "conditioning": "concat"}),
        (
            "r3",
            {"checkpoint_activations": True, "stem": 2, "generator_widths": [16, 8], "discriminator_widths": [8, 16]},
        ),
        ("pggan", {"attention": [8], "conditioning": "projection"}),
        ("style", {"scales": 2, "noise": False}),
        ("mlp", {"spectral_norm": True, "scales": 2, "conditioning": "projection"}),
    ],
)
@pytest.mark.parametrize("size", [(16, 16), (16, 16, 16)])
def test_options_that_combine_train_in_both_dimensions(
    family: str, model: dict[str, object], size: tuple[int, ...]
) -> None:
    recipe = small_family(family, size, model=model)
    built = build_family(recipe.model, recipe.training, ImageSpace(size, 2, 3), CPU)
    moment = Schedules(recipe, built.levels, size).at_top()
    batch = Batch(
        real=torch.randn(4, 2, *size),
        z=torch.randn(4, 8),
        draw=StepDraws(0, 0, torch.arange(4)),
        conditions=one_hot([0, 1, 2, 0], 3),
        fake_conditions=one_hot([0, 1, 2, 0], 3),
        due=dict.fromkeys(recipe.training.lazy, 1.0),
        gamma=moment.gamma,
    )
    loss, watched = discriminator_gradients(built, batch)
    assert loss.isfinite()
    assert watched["d_real"].isfinite()
    built.discriminator_optimizer.step()
    loss, _ = generator_gradients(built, batch)
    assert loss.isfinite()
    # The layers that paint coarser levels are not in use at the top of a growing generator.
    unused = "to_image" if built.levels else "nothing"
    missing = [name for name, p in built.generator.named_parameters() if p.grad is None and unused not in name]
    assert not missing


def test_spectral_norm_bounds_every_layer_and_moves_only_when_told() -> None:
    recipe = small_family("dcgan", model={"spectral_norm": True})
    built = build_family(recipe.model, recipe.training, ImageSpace((16, 16), 3, 0), CPU)
    layers = [module for module in built.discriminator.modules() if isinstance(module, (Convolution, Dense))]
    for layer in layers:
        values = torch.linalg.svdvals(layer.effective_weight(torch.float32).flatten(1))
        assert 0.9 < values.max() < 1.05
    before = [layer.spectral_left.clone() for layer in layers]
    built.discriminator(torch.randn(4, 3, 16, 16))
    assert all(torch.equal(layer.spectral_left, left) for layer, left in zip(layers, before, strict=True))


def test_a_conditional_family_needs_two_classes() -> None:
    with pytest.raises(RecipeError, match="at least two classes"):
        build_family(ModelSection(family="cgan"), TrainingSection(), ImageSpace((64, 64), 3, 0), CPU)


def test_kernels_that_halve_exactly() -> None:
    assert [same_kernel_padding(k) for k in (4, 6)] == [1, 2]
    with pytest.raises(ValueError, match="even kernel"):
        same_kernel_padding(5)
