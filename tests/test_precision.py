"""Which number format a run computes in: wishes are honoured, wrong arithmetic is found, nothing is changed by asking."""

import pytest
import torch

from family_fixture import small_family
from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.families import FAMILIES, Family, ImageSpace, build_family
from synthoma.networks import pggan, style
from synthoma.networks.layers import Convolution
from synthoma.objectives.objective import Batch
from synthoma.recipe import ModelSection, TrainingSection
from synthoma.training import precision
from synthoma.training.precision import choose_device, choose_precision, worst_layer_error
from synthoma.training.updates import discriminator_gradients, generator_gradients

CPU = torch.device("cpu")


def family_and_batch() -> tuple[Family, Batch]:
    model = ModelSection(
        family="cgan", latent=8, generator_widths=[16, 8], discriminator_widths=[8, 16], label_embedding=4
    )
    family = build_family(model, TrainingSection(), ImageSpace((16, 16), 3, 3), CPU)
    codes = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    draw = StepDraws(0, 0, torch.arange(4))
    batch = Batch(
        real=torch.randn(4, 3, 16, 16), z=torch.randn(4, 8), draw=draw, conditions=codes, fake_conditions=codes
    )
    return family, batch


def test_bf16_layers_are_right_here_and_a_wrong_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    family, batch = family_and_batch()
    assert worst_layer_error(family, batch) < precision.LAYER_TOLERANCE
    plain = Convolution.forward

    def wrong(self: Convolution, x: torch.Tensor) -> torch.Tensor:
        y = plain(self, x)
        return y.roll(1, dims=-1) if x.dtype == torch.bfloat16 else y  # as a kernel that mixes up positions

    monkeypatch.setattr(Convolution, "forward", wrong)
    assert worst_layer_error(family, batch) > precision.LAYER_TOLERANCE
    chosen = choose_precision("bf16", family, batch, CPU)
    assert chosen.name == "fp32"
    assert "wrong here" in chosen.reason


def test_a_wrong_gradient_of_the_weights_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    family, batch = family_and_batch()
    plain = Convolution.forward

    def deaf(self: Convolution, x: torch.Tensor) -> torch.Tensor:
        y = plain(self, x)
        # The output and the input's gradient are right; the weights' gradient is not.
        return y + (self.weight.sum() - self.weight.sum().detach()).to(y.dtype) if x.dtype == torch.bfloat16 else y

    monkeypatch.setattr(Convolution, "forward", deaf)
    assert worst_layer_error(family, batch) > precision.LAYER_TOLERANCE


@pytest.mark.parametrize(("ratio", "name"), [(1.5, "bf16"), (0.9, "fp32")])
def test_auto_takes_what_is_faster(ratio: float, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, batch = family_and_batch()
    monkeypatch.setattr(precision, "bf16_supported", lambda device: True)
    monkeypatch.setattr(precision, "_time_ratio", lambda family, batch: ratio)
    chosen = choose_precision("auto", family, batch, CPU)
    assert chosen.name == name
    assert family.generator.compute_dtype == family.discriminator.compute_dtype == chosen.dtype


def test_auto_without_the_instructions_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    family, batch = family_and_batch()
    monkeypatch.setattr(precision, "bf16_supported", lambda device: False)
    assert choose_precision("auto", family, batch, CPU).name == "fp32"
    asked = choose_precision("bf16", family, batch, CPU)
    assert asked.name == "fp32"
    assert "asked for" in asked.reason
    assert "slower" in asked.reason


def test_choosing_changes_no_weight_buffer_or_gradient() -> None:
    family, batch = family_and_batch()
    networks = (family.generator, family.discriminator)
    before = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in networks]
    worst_layer_error(family, batch)
    assert precision._time_ratio(family, batch) > 0
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())
        assert network.compute_dtype == torch.float32


def test_devices_that_are_not_there() -> None:
    with pytest.raises(RecipeError, match="is no device"):
        choose_device("gpu0")
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="finds no GPU"):
            choose_device("cuda")
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_takes_a_step_in_bf16(name: str, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel of both updates exists for bf16, and gradients point where those in float32 do."""
    for module in (pggan, style):
        # Below, where these two always compute in float32, bf16 kernels of 3D convolutions may read beside the map.
        monkeypatch.setattr(module, "LARGEST_EXACT_LEVEL", 4)
    size = (16,) * dim if dim == 2 else (8,) * dim
    recipe = small_family(name, size, 1, model={"conditions": ["class"]})
    family = build_family(recipe.model, recipe.training, ImageSpace(size, 1, 3), CPU)
    source = torch.Generator().manual_seed(0)
    codes = torch.eye(3)[torch.arange(8) % 3]
    real, z = torch.rand(8, 1, *size, generator=source) * 2 - 1, torch.randn(8, 8, generator=source)
    due = dict.fromkeys(family.objective.lazy, 1.0)
    draw = StepDraws(0, 0, torch.arange(8))
    batch = Batch(real=real, z=z, draw=draw, conditions=codes, fake_conditions=codes, gamma=1.0, due=due)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        gradients = []
        for network, update in (
            (family.discriminator, discriminator_gradients),
            (family.generator, generator_gradients),
        ):
            family.generator.compute_dtype = family.discriminator.compute_dtype = dtype
            loss, _ = update(family, batch)
            assert torch.isfinite(loss)
            gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
        found.append(gradients)
    for exact, rough in zip(*found, strict=True):
        assert torch.nn.functional.cosine_similarity(exact, rough, dim=0) > 0.95
