"""Deformation of volumes and masks: directions, sizes, millimetres, no folds, and the same result from the same draws."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import synthoma
from synthoma.draws import StepDraws
from synthoma.transforms.deform import (
    MOST_DISPLACEMENT,
    Deformation,
    DeformationRanges,
    bspline_weights,
    draw_deformation,
    resample_batch,
    source_grid,
)
from synthoma.transforms.distance import signed_distance
from synthoma.transforms.nodules import deform_nodule

CPU = torch.device("cpu")


def parameters_of(n: int = 1, points: int = 7, padding: Any = "border", **changed: Any) -> Deformation:
    """Parameters that change nothing but what is named."""
    values: dict[str, Any] = {
        "rotation": torch.zeros(n, 3).double(),
        "scaling": torch.ones(n).double(),
        "displacement": torch.zeros(n, 3, points, points, points).double(),
        "flips": torch.zeros(n, 3, dtype=torch.bool),
        "shift": torch.zeros(n, 3).double(),
        "noise": torch.zeros(n).double(),
        "number": torch.arange(n),
    }
    return Deformation(**{**values, **changed}, seed=0, step=0, padding=padding)


def drawn(ranges: DeformationRanges, numbers: list[int], size: tuple[int, int, int], seed: int = 0) -> Deformation:
    return draw_deformation(ranges, StepDraws(seed, 0, torch.tensor(numbers)), size)


def hounsfield(size: tuple[int, ...], seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 400, size).astype(np.int16)


def distances(size: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 1)) -> Tensor:
    """Distance in mm of each voxel from the middle."""
    axes = [(torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(size, spacing, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).norm(dim=0)


def ball(size: tuple[int, int, int], radius: float, spacing: tuple[float, float, float] = (1, 1, 1)) -> Tensor:
    """A ball of 0 HU in air of -1000, its surface one millimetre thick: float32 [1, 1, z, y, x]."""
    return ((radius - distances(size, spacing) + 0.5).clamp(0, 1) * 1000 - 1000)[None, None].float()


def dice(a: Tensor, b: Tensor) -> float:
    a, b = a.bool(), b.bool()
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def determinants(grid: Tensor) -> Tensor:
    """Jacobian determinants of a map between cubes by differences of neighbouring voxels, of a grid [z, y, x, 3]."""
    n = grid.shape[0]
    inner = grid[:-1, :-1, :-1]
    steps = (grid[:-1, :-1, 1:] - inner, grid[:-1, 1:, :-1] - inner, grid[1:, :-1, :-1] - inner)  # along x, y, z
    return torch.linalg.det(torch.stack(steps, dim=-1) * (n / 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16, torch.uint8])
@pytest.mark.parametrize("padding", ["border", -1000.3])
def test_identity_changes_no_bit(dtype: torch.dtype, padding: Any) -> None:
    volumes = (torch.randn(2, 2, 7, 6, 9, generator=torch.Generator().manual_seed(0)).double() * 30 + 100).to(dtype)
    masks = (volumes[:, :1] > 100).to(torch.uint8)
    images, moved = resample_batch(volumes, masks, parameters_of(2, padding=padding), (2.5, 0.7, 0.7))
    assert images.dtype == dtype
    assert torch.equal(images, volumes)
    assert moved is not None
    assert torch.equal(moved, masks)


def test_samples_that_stay_leave_the_others_alone() -> None:
    volumes = torch.randn(2, 1, 8, 8, 8)
    rotation = torch.tensor([[0, 0, 0], [10, 0, 0]]).double()
    images, _ = resample_batch(volumes, None, parameters_of(2, rotation=rotation))
    assert torch.equal(images[0], volumes[0])
    assert (images[1] - volumes[1]).abs().mean() > 0.05


@pytest.mark.parametrize(("axis", "plane"), [(0, (2, 1)), (1, (0, 2)), (2, (1, 0))])
@pytest.mark.parametrize("size", [8, 9])
def test_quarter_turns_are_numpys(axis: int, plane: tuple[int, int], size: int) -> None:
    """Right-handed in (x, y, z): about z, x goes to y."""
    volume, angles = hounsfield((size,) * 3), torch.zeros(1, 3).double()
    angles[0, axis] = 90
    parameters = parameters_of(rotation=angles)
    np.testing.assert_array_equal(deform_nodule(volume, None, parameters).volume, np.rot90(volume, axes=plane))
    exact = deform_nodule(volume.astype(np.float32), None, parameters).volume
    np.testing.assert_allclose(exact, np.rot90(volume, axes=plane), atol=0.05)


def test_rotations_follow_one_another_x_first() -> None:
    volume = hounsfield((8, 8, 8))
    turned = np.rot90(np.rot90(volume, axes=(1, 0)), axes=(2, 1))  # about x, then about z
    parameters = parameters_of(rotation=torch.tensor([[90.0, 0, 90]]).double())
    np.testing.assert_array_equal(deform_nodule(volume, None, parameters).volume, turned)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_reverse_an_axis_before_the_rotation(axis: int) -> None:
    volume, flips = hounsfield((8, 8, 8)), torch.zeros(1, 3, dtype=torch.bool)
    flips[0, axis] = True
    np.testing.assert_array_equal(deform_nodule(volume, None, parameters_of(flips=flips)).volume, np.flip(volume, axis))
    both = parameters_of(flips=flips, rotation=torch.tensor([[90.0, 0, 0]]).double())
    expected = np.rot90(np.flip(volume, axis), axes=(2, 1))
    np.testing.assert_array_equal(deform_nodule(volume, None, both).volume, expected)


def test_flips_are_drawn_only_for_the_axes_asked_for() -> None:
    assert not drawn(DeformationRanges(), list(range(200)), (8, 8, 8)).flips.any()
    share = drawn(DeformationRanges(flips=("x",)), list(range(400)), (8, 8, 8)).flips.double().mean(0)
    assert share[:2].tolist() == [0, 0]
    assert 0.4 < share[2] < 0.6


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_scaling_changes_volume_by_its_cube(factor: float) -> None:
    image = ball((48, 48, 48), 14)
    mask = image > -500
    images, masks = resample_batch(image, mask, parameters_of(scaling=torch.tensor([factor]).double()))
    assert masks is not None
    assert float(masks.sum() / mask.sum()) == pytest.approx(factor**3, rel=0.02)
    assert float((images + 1000).sum() / (image + 1000).sum()) == pytest.approx(factor**3, rel=0.02)


def test_a_sphere_in_millimetres_stays_one() -> None:
    size, spacing = (20, 48, 40), (2.5, 1.0, 1.25)
    image = ball(size, 18, spacing)
    parameters = parameters_of(rotation=torch.tensor([[20.0, 30, 45]]).double())

    def spreads(moved: Tensor) -> list[float]:
        """Root mean square extent along z, y, x in mm; radius / sqrt(5) for a ball."""
        weight = (moved[0, 0] + 1000).double()
        axes = [(torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(size, spacing, strict=True)]
        shapes = ([-1, 1, 1], [1, -1, 1], [1, 1, -1])
        total = weight.sum()
        return [float((weight * a.reshape(s) ** 2).sum() / total) ** 0.5 for a, s in zip(axes, shapes, strict=True)]

    assert spreads(resample_batch(image, None, parameters, spacing)[0]) == pytest.approx([18 / 5**0.5] * 3, rel=0.03)
    # Were voxels turned instead of millimetres, it would become an ellipsoid at an angle.
    wrong = spreads(resample_batch(image, None, parameters, 1.0)[0])
    assert max(abs(extent / (18 / 5**0.5) - 1) for extent in wrong) > 0.1


def test_displacement_is_in_millimetres_of_the_control_spacing() -> None:
    """All control points moved alike move the volume: (z, y, x) of result p shows source p + u."""
    volume = hounsfield((16, 20, 24))
    displacement = torch.zeros(1, 3, 7, 7, 7).double()
    displacement[0, 0], displacement[0, 2] = 0.25, -1 / 3  # control points 4 and 6 voxels apart: 1 and -2 voxels
    moved = deform_nodule(volume, None, parameters_of(displacement=displacement), (3.0, 1.0, 0.5)).volume
    np.testing.assert_array_equal(moved[:-1, :, 2:], volume[1:, :, :-2])
    ranges = DeformationRanges(elastic=4.0)  # 16 mm apart along z, 32 mm along y and x
    shares = draw_deformation(ranges, StepDraws(0, 0, torch.arange(4)), (64, 64, 64), (1.0, 2.0, 2.0)).displacement
    largest = shares.abs().amax(dim=(0, 2, 3, 4))
    assert largest.tolist() == pytest.approx([0.25, 0.125, 0.125], rel=0.01)


@pytest.mark.parametrize("length", [1, 5, 64])
def test_bspline_weights_reproduce_lines(length: int) -> None:
    weights = bspline_weights(length, 7)
    torch.testing.assert_close(weights.sum(1), torch.ones(length).double())
    points = (torch.arange(7).double() - 3) * length / 4
    torch.testing.assert_close(weights @ points, torch.arange(length).double() - (length - 1) / 2)
    assert (weights >= 0).all()


@pytest.mark.parametrize("signs", ["drawn", "largest"])
def test_deformations_do_not_fold(signs: str) -> None:
    size, spacing = (32, 32, 32), 1.0
    ranges = DeformationRanges() if signs == "drawn" else DeformationRanges(elastic=0.4 * 8)
    parameters = drawn(ranges, list(range(6)), size)
    if signs == "largest":
        displacement = parameters.displacement.sign() * MOST_DISPLACEMENT
        parameters = parameters_of(
            6, displacement=displacement, rotation=parameters.rotation, scaling=parameters.scaling
        )
    for grid in source_grid(parameters, size, spacing, CPU, torch.float64):
        assert determinants(grid).min() > 0
    # The measure sees folds: the same waves, four times as high.
    affine = source_grid(parameters_of(6), size, spacing, CPU, torch.float64)
    waves = parameters_of(6, displacement=parameters.displacement.sign() * MOST_DISPLACEMENT)
    folded = affine + 4 * (source_grid(waves, size, spacing, CPU, torch.float64) - affine)
    assert determinants(folded[0]).min() < 0


def worst_determinant(most: float) -> float:
    """Smallest Jacobian determinant of p + u(p) anywhere in a cell, over control points moved by at most `most`.

    Each row of the Jacobian depends on one component of the displacements, and the determinant is linear in each row:
    given the other rows, the worst displacements are +-`most`, by the sign of their influence. Going round the rows from
    many starts finds the smallest.
    """
    random = torch.Generator().manual_seed(0)
    starts = 300
    # Places on the faces of cells, where the worst is, and inside.
    t = torch.rand(starts, 3, generator=random).double()
    t[::2] = t[::2].round()
    u = torch.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], dim=-1) / 6
    slope = torch.stack([-((1 - t) ** 2), 3 * t**2 - 4 * t, -3 * t**2 + 2 * t + 1, t**2], dim=-1) / 2
    influence = torch.stack(
        [
            torch.einsum("si,sj,sk->sijk", *[slope[:, a] if a == b else u[:, a] for a in range(3)]).flatten(1)
            for b in range(3)
        ],
        dim=1,
    )  # [starts, derivative along b, 64 control points]
    moved = (torch.randint(0, 2, (starts, 3, 64), generator=random) * 2 - 1).double() * most
    for _ in range(8):
        for row in range(3):
            jacobian = torch.eye(3) + torch.einsum("sap,sbp->sab", moved, influence)
            others = [jacobian[:, (row + 1) % 3], jacobian[:, (row + 2) % 3]]
            cofactors = torch.linalg.cross(*others)
            moved[:, row] = -most * torch.einsum("sb,sbp->sp", cofactors, influence).sign()
    return float(torch.linalg.det(torch.eye(3) + torch.einsum("sap,sbp->sab", moved, influence)).min())


def test_the_bound_of_displacements_is_that_of_folding() -> None:
    """No displacements within the bound fold; a little more can (Choi and Lee: 1 / 2.479472335 = 0.4033)."""
    assert worst_determinant(MOST_DISPLACEMENT) > 0
    assert worst_determinant(0.41) < 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_same_number_same_result_in_any_batch_and_from_json(dtype: torch.dtype) -> None:
    size = (12, 14, 10)
    volumes = torch.from_numpy(hounsfield((3, 1, *size))).to(dtype)
    masks = volumes > -300
    ranges = DeformationRanges(noise=(5, 30), flips=("z", "x"), padding=-1000)
    together = drawn(ranges, [7, 2, 2**33], size, seed=5)
    images, moved = resample_batch(volumes, masks, together, (1.5, 1, 1))
    assert moved is not None
    for i, number in enumerate([7, 2, 2**33]):
        alone = drawn(ranges, [number], size, seed=5)
        again = Deformation.from_json(json.loads(json.dumps(alone.to_json())))
        for parameters in (alone, again, together.part(i, i + 1)):
            assert parameters.to_json() == alone.to_json()
            image, mask = resample_batch(volumes[i : i + 1], masks[i : i + 1], parameters, (1.5, 1, 1))
            assert torch.equal(image[0], images[i])
            assert mask is not None
            assert torch.equal(mask[0], moved[i])
    for other in (drawn(ranges, [8], size, seed=5), drawn(ranges, [7], size, seed=6)):
        assert not torch.equal(resample_batch(volumes[:1], None, other, (1.5, 1, 1))[0], images[:1])


def test_the_largest_displacement_is_allowed() -> None:
    for size in range(7, 70):
        ranges = DeformationRanges(elastic=0.4 * size / 4)
        assert drawn(ranges, [0], (size, size, size)).displacement.abs().max() <= MOST_DISPLACEMENT


def test_masks_stay_binary_and_on_their_nodule() -> None:
    image = ball((40, 40, 40), 12).expand(8, 1, 40, 40, 40)
    mask = (image > -500).to(torch.int16)
    ranges = DeformationRanges(elastic=4.0, flips=("z", "y", "x"), padding=-1000)
    images, masks = resample_batch(image, mask, drawn(ranges, list(range(8)), (40, 40, 40)))
    assert masks is not None
    assert masks.dtype == torch.int16
    assert masks.unique().tolist() == [0, 1]
    for moved, seen, before in zip(masks, images > -500, mask, strict=True):
        assert dice(moved, seen) >= 0.98
        assert dice(moved, before) < 0.98  # it did move


def test_cutting_at_one_half_is_nearer_to_the_truth_than_the_nearest_voxel() -> None:
    """Why masks are interpolated: Dice with the deformed sphere itself, and a signed distance gains next to nothing."""
    size, radius = (40, 40, 40), 8.3
    parameters = drawn(DeformationRanges(), list(range(6)), size)
    mask = (distances(size) <= radius).expand(6, 1, *size)
    grid = source_grid(parameters, size, 1.0, CPU, torch.float32)
    truth = (grid * 20).norm(dim=-1)[:, None] <= radius
    distance = torch.from_numpy(signed_distance(mask[:, 0].numpy(), 100.0))[:, None]
    ours = resample_batch(mask.float(), mask, parameters)[1]
    assert ours is not None
    nearest = F.grid_sample(mask.float(), grid, mode="nearest", align_corners=False)
    signed = F.grid_sample(distance, grid, align_corners=False) > 0
    assert dice(ours, truth) > dice(nearest, truth) + 0.01
    assert dice(ours, truth) == pytest.approx(dice(signed, truth), abs=0.003)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_constant_volumes_stay_constant(dtype: type) -> None:
    volume = np.full((12, 16, 14), -731, dtype)
    for number in range(4):
        result = synthoma.augment_nodule(volume, np.ones(volume.shape, bool), number=number)
        np.testing.assert_allclose(result.volume, volume, rtol=1e-6 if dtype is np.float32 else 0)
        assert result.mask is not None
        assert result.mask.all()


def test_padding_is_the_border_or_the_value_given() -> None:
    volume = np.full((16, 16, 16), 40, np.int16)
    mask = np.ones(volume.shape, bool)
    small = parameters_of(scaling=torch.tensor([0.5]).double(), padding=-1000)
    result = deform_nodule(volume, mask, small)
    expected = np.full((16, 16, 16), -1000)
    expected[4:12, 4:12, 4:12] = 40
    # Half a voxel beyond the outer voxel centres values go over into the padding.
    inside = np.s_[5:11, 5:11, 5:11]
    np.testing.assert_array_equal(result.volume[inside], expected[inside])
    assert (result.volume[:3] == -1000).all()
    assert result.mask is not None
    np.testing.assert_array_equal(result.mask[inside], True)
    assert not result.mask[:3].any()


def test_draws_fill_their_ranges() -> None:
    ranges = DeformationRanges(rotation=(15, 5, 0), scaling=(0.8, 1.3))
    many = drawn(ranges, list(range(500)), (8, 8, 8))
    assert many.rotation.amax(0).tolist() == pytest.approx([15, 5, 0], rel=0.03)
    assert many.rotation.amin(0).tolist() == pytest.approx([-15, -5, 0], rel=0.03)
    assert (float(many.scaling.min()), float(many.scaling.max())) == pytest.approx((0.8, 1.3), rel=0.01)
    assert many.displacement.abs().max() == pytest.approx(0.25, rel=0.01)
    spread = draw_deformation(DeformationRanges(noise=(5, 10)), StepDraws(0, 0, torch.arange(300)), (8, 8, 8)).noise
    assert 5 <= spread.min() < 5.2
    assert 9.8 < spread.max() < 10


def test_bad_parameters_are_refused_in_words() -> None:
    content = parameters_of().to_json()
    too_far = torch.full((1, 3, 7, 7, 7), 0.41).double()
    for changed, said in [
        ({"rotation": [[0.0, 0.0]]}, "do not go together"),
        ({"scaling": [0.0]}, "scaling above 0"),
        ({"noise": [float("nan")]}, "not finite"),
        ({"displacement": too_far.tolist()}, "could fold"),
        ({"padding": "wrap"}, "padding"),
        ({"padding": None}, "not numbers"),
        ({"rotation": "left"}, "not numbers|go together"),
        ({"more": 1}, "got .*more"),
    ]:
        with pytest.raises(ValueError, match=said):
            Deformation.from_json({**content, **changed})
    volumes = torch.zeros(2, 1, 4, 4, 4)
    with pytest.raises(ValueError, match=r"expected volumes \[1"):
        resample_batch(volumes, None, parameters_of(1))
    with pytest.raises(ValueError, match="do not fit"):
        resample_batch(volumes, torch.zeros(2, 1, 4, 4, 5), parameters_of(2))
    with pytest.raises(ValueError, match="int64"):
        resample_batch(volumes.long(), None, parameters_of(2))
    with pytest.raises(ValueError, match="one sample"):
        deform_nodule(hounsfield((8, 8, 8)), None, parameters_of(2))


def test_a_shift_moves_the_object_by_so_many_millimetres() -> None:
    volume = torch.zeros(1, 1, 12, 14, 16)
    volume[0, 0, 5, 6, 7] = 100.0
    parameters = parameters_of(1, shift=torch.tensor([[1.0, -2.0, 6.0]]).double())
    moved, _ = resample_batch(volume, None, parameters, spacing=(1.0, 1.0, 2.0))
    assert torch.allclose(moved[0, 0, 6, 4, 10], torch.tensor(100.0), atol=1e-3)
    assert float(moved.sum()) == pytest.approx(100.0, abs=1e-2)
    many = draw_deformation(DeformationRanges(shift=3.0), StepDraws(0, 0, torch.arange(200)), (8, 8, 8))
    assert 2.9 < float(many.shift.abs().max()) <= 3.0
