"""Random rotation, scaling, elastic deformation, flips and noise of volumes with their masks, in one resampling.

Parameters are drawn first, by (seed, step, number), and can be kept as JSON; a deterministic function then makes the
volumes with them, so that each result can be made again, in any batch, on any device. A second interpolation would
blur a second time, so that everything geometric is one map from the places of the result to those of the source:

    source(p) = F R^T (p - t + u(p)) / s        p in mm from the middle of the volume

F flips, R = Rz Ry Rx rotates, s scales, t shifts (as seen in the result: the object is flipped, turned, enlarged, moved, deformed).
u is a cubic B-spline over a coarse control grid, the free-form deformation of Rueckert et al. 1999 ("Nonrigid
registration using free-form deformations"), with as many control points as in SimpleITK and TorchIO: k points make
k - 3 intervals over the volume. B-splines reproduce linear functions, so that the affine part needs no pass of its own:
the control points are moved, and one separable upsampling gives the whole map.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from synthoma.draws import StepDraws

AXES = ("z", "y", "x")
# No control point may move further along an axis than this share of the control spacing: below 1 / 2.479472335 a cubic
# B-spline deformation in 3D cannot fold (Choi and Lee 2000, "Injectivity conditions of 2D and 3D uniform cubic B-spline
# functions", section 4).
MOST_DISPLACEMENT = 0.4
# 4 mm in a cube of 64 mm with 7 control points.
DEFAULT_DISPLACEMENT = 0.25
# Integers of these types pass through float32 unchanged.
VOLUME_TYPES = (torch.float32, torch.float64, torch.int16, torch.uint8)

Padding = float | Literal["border"]
Spacing = float | Sequence[float]


@dataclass(frozen=True)
class DeformationRanges:
    """What deformations are drawn from, each uniformly.

    rotation: largest angle about the axes (z, y, x) in degrees, either way. scaling: of the size of what is shown, above 1
    enlarges. elastic: largest displacement of a control point along each axis in mm, 0 for none; None means a quarter of
    the distance between control points, and more than 0.4 of it is refused, because the deformation could fold.
    control_points: along each axis, 4 or more; more points make finer waves. noise: standard deviation, in the unit of
    the images. shift: largest displacement of the whole along each axis in mm. flips: axes out of "z", "y", "x", each reversed with probability 1/2; lungs are not symmetric, so that
    there are none unless they are asked for. padding: what lies outside the volume, "border" for the nearest voxel of its
    border or a value (-1000 is air in HU).

    Raises `ValueError` for what cannot be drawn.
    """

    rotation: tuple[float, float, float] = (15.0, 15.0, 15.0)
    scaling: tuple[float, float] = (0.9, 1.1)
    elastic: float | None = None
    control_points: int = 7
    noise: tuple[float, float] = (0.0, 0.0)
    flips: tuple[str, ...] = ()
    padding: Padding = "border"
    shift: float = 0.0

    def __post_init__(self) -> None:
        if len(self.rotation) != 3 or not all(0 <= angle <= 180 for angle in self.rotation):
            raise ValueError(f"rotation range: expected 0 to 180 degrees about z, y and x, got {self.rotation}")
        if len(self.scaling) != 2 or not 0 < self.scaling[0] <= self.scaling[1] < math.inf:
            raise ValueError(f"scaling range: expected a lowest and a highest factor above 0, got {self.scaling}")
        if self.elastic is not None and not 0 <= self.elastic < math.inf:
            raise ValueError(f"elastic: expected a displacement of 0 mm or more, got {self.elastic}")
        if self.control_points < 4:
            raise ValueError(f"a cubic B-spline needs 4 control points along each axis, got {self.control_points}")
        if len(self.noise) != 2 or not 0 <= self.noise[0] <= self.noise[1] < math.inf:
            raise ValueError(f"noise: expected a standard deviation of 0 or more, or a range of them, got {self.noise}")
        if not 0 <= self.shift < math.inf:
            raise ValueError(f"shift: expected a displacement of 0 mm or more, got {self.shift}")
        if unknown := [axis for axis in self.flips if axis not in AXES]:
            raise ValueError(f"flips: expected axes out of z, y, x, got {unknown[0]!r}")
        _check_padding(self.padding)


@dataclass(frozen=True, eq=False)
class Deformation:
    """The parameters of n samples, on the CPU whatever device the volumes are on.

    rotation: float64 [n, 3], degrees about z, y, x, right-handed in (x, y, z): a quarter turn is `numpy.rot90` with the
    axes (2, 1), (0, 2), (1, 0) of a volume [z, y, x]; x is turned first, z last. scaling: float64 [n]. displacement:
    float64 [n, 3, k, k, k], of control points along z, y, x, in units of the distance between control points. flips: bool
    [n, 3]. shift: float64 [n, 3], mm along z, y, x. noise: float64 [n], standard deviation. seed, step and number (int64 [n]) key the noise. padding: as in
    `DeformationRanges`, one for all. Raises `ValueError` where these do not fit together, or could fold.
    """

    rotation: Tensor
    scaling: Tensor
    displacement: Tensor
    flips: Tensor
    shift: Tensor
    noise: Tensor
    number: Tensor
    seed: int
    step: int
    padding: Padding

    def __post_init__(self) -> None:
        n, points = len(self.number), self.displacement.shape[-1]
        expected = ((n, 3), (n,), (n, 3, points, points, points), (n, 3), (n, 3), (n,), (n,))
        if tuple(tuple(value.shape) for value in self._tensors()) != expected or points < 4:
            shapes = ", ".join(
                f"{name} {list(value.shape)}" for name, value in zip(_TENSORS, self._tensors(), strict=True)
            )
            raise ValueError(f"the parameters of a deformation have shapes that do not go together: {shapes}")
        if not all(bool(value.isfinite().all()) for value in self._tensors()):
            raise ValueError("the parameters of a deformation hold values that are not finite")
        if bool((self.scaling <= 0).any()) or bool((self.noise < 0).any()):
            raise ValueError("a deformation needs scaling above 0 and noise of 0 or more")
        if bool((self.displacement.abs() > MOST_DISPLACEMENT).any()):
            raise ValueError(
                f"a control point moves by more than {MOST_DISPLACEMENT} of the control spacing: this could fold"
            )
        _check_padding(self.padding)

    def _tensors(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, name) for name in _TENSORS)

    def __len__(self) -> int:
        return len(self.number)

    def part(self, start: int, stop: int) -> "Deformation":
        """The parameters of the samples start .. stop - 1."""
        taken = {name: value[start:stop] for name, value in zip(_TENSORS, self._tensors(), strict=True)}
        return Deformation(**taken, seed=self.seed, step=self.step, padding=self.padding)

    def keeps_place(self) -> Tensor:
        """Which samples are not resampled at all, bool [n]; they may still get noise."""
        moves = (self.rotation != 0).any(1) | (self.scaling != 1) | self.flips.any(1) | (self.shift != 0).any(1)
        return ~(moves | (self.displacement != 0).flatten(1).any(1))

    def to_json(self) -> dict[str, Any]:
        """Everything that `from_json` needs, as JSON values; numbers come back exactly."""
        values = {name: value.tolist() for name, value in zip(_TENSORS, self._tensors(), strict=True)}
        padding = self.padding if isinstance(self.padding, str) else float(self.padding)
        return {**values, "seed": int(self.seed), "step": int(self.step), "padding": padding}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Deformation":
        """What `to_json` gave. Raises `ValueError` for anything else."""
        names = {*_TENSORS, "seed", "step", "padding"}
        if set(content) != names:
            raise ValueError(
                f"the parameters of a deformation are {', '.join(sorted(names))}; got {', '.join(content)}"
            )
        try:
            tensors = {name: torch.tensor(content[name], dtype=dtype) for name, dtype in _TENSORS.items()}
            return cls(**tensors, seed=int(content["seed"]), step=int(content["step"]), padding=content["padding"])
        except TypeError as error:
            raise ValueError(
                f"the parameters of a deformation are not numbers where they should be: {error}"
            ) from error


_TENSORS = {
    "rotation": torch.float64,
    "scaling": torch.float64,
    "displacement": torch.float64,
    "flips": torch.bool,
    "shift": torch.float64,
    "noise": torch.float64,
    "number": torch.int64,
}


def draw_deformation(
    ranges: DeformationRanges, draws: StepDraws, size: Sequence[int], spacing: Spacing = 1.0
) -> Deformation:
    """Parameters for each sample number of `draws`, for volumes of `size` voxels (z, y, x) with `spacing` in mm.

    Raises `ValueError` where `ranges.elastic` is so large for this volume that the deformation could fold.
    """
    draws = StepDraws(draws.seed, draws.step, draws.index.cpu())

    def uniform(purpose: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return low + (high - low) * draws.uniform(f"deform {purpose}", shape).double()

    n, points = len(draws), ranges.control_points
    largest = _largest_shares(ranges, size, spacing)[:, None, None, None]
    # To a millionth: the JSON stays small.
    displacement = (largest * uniform("elastic", (3, points, points, points), -1, 1)).round(decimals=6)
    flips = torch.zeros(n, 3, dtype=torch.bool)
    for axis in ranges.flips:
        flips[:, AXES.index(axis)] = uniform(f"flip {axis}", (), 0, 1) < 0.5
    return Deformation(
        rotation=torch.tensor(ranges.rotation, dtype=torch.float64) * uniform("rotation", (3,), -1, 1),
        scaling=uniform("scaling", (), *ranges.scaling),
        displacement=displacement,
        flips=flips,
        shift=ranges.shift * uniform("shift", (3,), -1, 1),
        noise=uniform("noise", (), *ranges.noise),
        number=draws.index,
        seed=draws.seed,
        step=draws.step,
        padding=ranges.padding,
    )


def _largest_shares(ranges: DeformationRanges, size: Sequence[int], spacing: Spacing) -> Tensor:
    """Largest displacement along z, y, x in units of the distance between control points, float64 [3]."""
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"expected a size of three axes (z, y, x) with a voxel or more, got {tuple(size)}")
    if ranges.elastic is None:
        return torch.full((3,), DEFAULT_DISPLACEMENT, dtype=torch.float64)
    intervals = _extent(size, spacing) / (ranges.control_points - 3)
    shares = ranges.elastic / intervals
    most = MOST_DISPLACEMENT * float(intervals.min())
    if ranges.elastic > most * (1 + 1e-9):
        raise ValueError(
            f"elastic: {ranges.elastic:g} mm could fold this volume; with control points {intervals.min():g} mm apart the "
            f"displacement may be {math.floor(most * 1000) / 1000:g} mm at most. Use less of it or fewer control points."
        )
    return shares


def source_grid(
    parameters: Deformation, size: Sequence[int], spacing: Spacing, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Where each voxel of the result comes from: [n, z, y, x, 3] in the coordinates (x, y, z) of `F.grid_sample`
    (`align_corners=False`: -1 and 1 are the outer faces of the first and the last voxel)."""
    points, extent = parameters.displacement.shape[-1], _extent(size, spacing)
    places = torch.arange(points, dtype=torch.float64) - (points - 1) / 2
    lattice = torch.stack(torch.meshgrid(places, places, places, indexing="ij"))
    millimetres = (lattice + parameters.displacement) * (extent / (points - 3))[:, None, None, None]
    millimetres = millimetres - parameters.shift[..., None, None, None]
    matrices = _inverse_matrices(parameters)[..., None, None, None]
    source = (matrices * millimetres[:, None]).sum(dim=2)
    control = (source * (2 / extent)[:, None, None, None]).flip(1).movedim(1, -1).to(device, dtype)
    weights = [bspline_weights(length, points).to(device, dtype) for length in size]
    depth, height, width = size
    grid = torch.empty(len(parameters), depth, height, width, 3, device=device, dtype=dtype)
    # One sample at a time: a batched product may round otherwise, and no sample may depend on those beside it.
    for one, result in zip(control, grid, strict=True):
        rows = weights[2] @ one
        planes = weights[1] @ rows.flatten(2)
        torch.mm(weights[0], planes.flatten(1), out=result.view(depth, -1))
    return grid


def bspline_weights(length: int, points: int) -> Tensor:
    """Weight of each control point at each voxel of an axis: float64 [length, points], rows add up to 1.

    The axis is points - 3 intervals long; control points 1 and points - 2 lie on its outer faces.
    """
    voxels = (torch.arange(length, dtype=torch.float64) + 0.5) * ((points - 3) / length) + 1
    distance = (voxels[:, None] - torch.arange(points, dtype=torch.float64)).abs()
    near, far = 2 / 3 - distance.square() + distance**3 / 2, (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def _inverse_matrices(parameters: Deformation) -> Tensor:
    """F R^T / s of each sample, float64 [n, 3, 3], from (z, y, x) to (z, y, x) in mm."""
    matrix = torch.eye(3, dtype=torch.float64).expand(len(parameters), 3, 3)
    # A turn about one axis takes the second of a pair towards the first: y to z about x, z to x about y, x to y about z.
    for about, towards, away in ((2, 0, 1), (1, 2, 0), (0, 1, 2)):
        angle = torch.deg2rad(parameters.rotation[:, about])
        turn = torch.eye(3, dtype=torch.float64).repeat(len(parameters), 1, 1)
        turn[:, towards, towards] = turn[:, away, away] = angle.cos()
        turn[:, towards, away], turn[:, away, towards] = angle.sin(), -angle.sin()
        matrix = turn @ matrix
    signs = 1 - 2 * parameters.flips.double()
    return signs[:, :, None] * matrix.mT / parameters.scaling[:, None, None]


def resample_batch(
    volumes: Tensor, masks: Tensor | None, parameters: Deformation, spacing: Spacing = 1.0
) -> tuple[Tensor, Tensor | None]:
    """Volumes [n, c, z, y, x] and masks [n, m, z, y, x], each changed by its parameters, on the device they are on.

    volumes: float32, float64, int16 (HU) or uint8; integers are rounded and cut off at the limits of their type. masks: any
    dtype but complex, what is not 0 lies inside; they come back as 0 and 1 in it, without noise. Mask channels are
    interpolated with the volume and cut at one half. For spheres of 4, 8 and 12 voxels radius the Dice coefficient with
    the deformed sphere is then 0.935, 0.974 and 0.982; it is 0.920, 0.958 and 0.971 with the nearest voxel, and 0.936, 0.976
    and 0.983 with a signed distance, which would need a distance transform on the CPU. Parts thinner than a voxel may go.
    A value as padding is outside of the mask; with "border" the mask is continued like the volume. spacing: mm along z, y,
    x. Samples whose parameters change nothing come back bit for bit. Raises `ValueError` for shapes that do not fit.
    """
    _check_batch(volumes, masks, parameters)
    size, dtype = tuple(volumes.shape[2:]), volumes.dtype
    working = dtype if dtype.is_floating_point else torch.float32
    # What lies outside is 0 to the sampler: the value is made 0, and put back afterwards.
    value = None if parameters.padding == "border" else float(parameters.padding)
    images = volumes.to(working) if value is None else volumes.to(working) - value
    whole = images if masks is None else torch.cat((images, masks.ne(0).to(working)), dim=1)
    grid = source_grid(parameters, size, spacing, volumes.device, working)
    rule = "border" if value is None else "zeros"
    moved = F.grid_sample(whole, grid, mode="bilinear", padding_mode=rule, align_corners=False)
    images = moved[:, : volumes.shape[1]] if value is None else moved[:, : volumes.shape[1]] + value
    kept = parameters.keeps_place()
    if bool(kept.any()):
        images = torch.where(_per_sample(kept, images), volumes.to(working), images)
    if bool((parameters.noise > 0).any()):
        draws = StepDraws(parameters.seed, parameters.step, parameters.number.to(volumes.device))
        normal = draws.normal("deform noise", tuple(volumes.shape[1:])).to(working)
        images = torch.addcmul(images, _per_sample(parameters.noise, images), normal)
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        images = images.round().clamp(limits.min, limits.max).to(dtype)
    return images, None if masks is None else moved[:, volumes.shape[1] :].gt(0.5).to(masks.dtype)


def _check_batch(volumes: Tensor, masks: Tensor | None, parameters: Deformation) -> None:
    """Raises `ValueError` for tensors that do not fit together."""
    if volumes.ndim != 5 or len(volumes) != len(parameters) or 0 in volumes.shape[1:]:
        raise ValueError(f"expected volumes [{len(parameters)}, c, z, y, x], got {list(volumes.shape)}")
    if volumes.dtype not in VOLUME_TYPES:
        raise ValueError(f"expected volumes of float32, float64, int16 or uint8, got {volumes.dtype}")
    if masks is not None and (masks.ndim != 5 or len(masks) != len(volumes) or masks.shape[2:] != volumes.shape[2:]):
        raise ValueError(f"masks {list(masks.shape)} do not fit volumes {list(volumes.shape)}")


def _check_padding(padding: Padding) -> None:
    if padding != "border" and (isinstance(padding, str) or not math.isfinite(padding)):
        raise ValueError(f"padding: expected 'border' or a value, got {padding!r}")


def _extent(size: Sequence[int], spacing: Spacing) -> Tensor:
    """Lengths of a volume along z, y, x in mm, float64 [3]."""
    each = numbers(spacing, 3)
    if len(each) != 3 or not all(0 < mm < math.inf for mm in each):
        raise ValueError(f"spacing: expected mm above 0 along z, y and x, got {spacing}")
    return torch.tensor([length * mm for length, mm in zip(size, each, strict=True)], dtype=torch.float64)


def numbers(value: float | Iterable[float], count: int) -> tuple[float, ...]:
    """One number `count` times, or several as they are (arrays too)."""
    return tuple(map(float, value)) if isinstance(value, Iterable) else (float(value),) * count


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Values [n] on the device of volumes [n, ...], shaped to broadcast over them; numbers in their dtype."""
    dtype = like.dtype if values.is_floating_point() else values.dtype
    return values.to(like.device, dtype).reshape(-1, *[1] * (like.ndim - 1))
