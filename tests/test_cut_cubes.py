"""Cubes around lesions: what is in them, what is measured, and which are refused."""

from collections.abc import Sequence

import numpy as np
import pytest

from synthoma.ct_settings import CtSection
from synthoma.errors import VolumeError
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.shapes import Volume, VolumeUnit
from synthoma.preparation.ct.cubes import BORDER, cut_cubes
from synthoma.preparation.ct.lesions import OUTSIDE, Lesion, LesionMask
from synthoma.preparation.ct.pieces import Piece
from test_cut_resample import ball

CENTER = (0.37, -0.81, 0.23)
OBLIQUE = np.array([(0.0, -np.sin(0.2), np.cos(0.2)), (0.0, np.cos(0.2), np.sin(0.2)), (1.0, 0.0, 0.0)])
GRIDS = {
    "anisotropic": Geometry((30, 90, 90), (2.5, 0.7, 0.7), (-30.0, -32.0, -37.0)),
    "flipped": Geometry((30, 90, 90), (2.5, 0.7, 0.7), (31.0, -32.0, 36.0), ((0, 0, -1.0), (0, 1.0, 0), (-1.0, 0, 0))),
    "oblique": Geometry.from_steps(
        (30, 90, 90), OBLIQUE * [[2.5], [0.7], [0.7]], np.array((-31.0, 0, 0)) - OBLIQUE[0] * 36 - OBLIQUE[1] * 31
    ),
}


def nodule_volume(geometry: Geometry, diameter: float, unit: VolumeUnit = "hu") -> tuple[Volume, Lesion]:
    """A ball of 40 HU in lung of -850, with noise, and the lesion whose mask are the voxels at least half in it."""
    share = ball(geometry, CENTER, diameter)
    noise = np.random.default_rng(0).normal(0, 15, geometry.size)
    hu = np.rint(-850 + 890 * share + noise).astype(np.int16)
    mask = LesionMask(share >= 0.5, geometry)
    return Volume(hu, geometry, unit), Lesion("readers", CENTER, "nodule", radius=diameter / 2, mask=mask)


def cut(volume: Volume, lesions: Sequence[Lesion], voxels: int = 40, **settings: object) -> list[Piece]:
    return list(cut_cubes(volume, lesions, CtSection.model_validate(settings), voxels))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("diameter", [8.0, 20.0])
def test_a_ball_is_measured_as_it_is(name: str, diameter: float) -> None:
    volume, lesion = nodule_volume(GRIDS[name], diameter)
    (piece,) = cut(volume, [lesion])
    assert piece.reason == ""
    assert piece.pixels is not None
    assert piece.mask is not None
    assert piece.pixels.dtype == np.int16
    assert piece.pixels.shape == piece.mask.shape == (40, 40, 40)
    np.testing.assert_allclose(np.argwhere(piece.mask).mean(axis=0), 19.5, atol=0.5)
    assert piece.attributes["diameter_mm"] == pytest.approx(diameter, rel=0.05)
    assert piece.attributes["volume_mm3"] == pytest.approx(np.pi / 6 * diameter**3, rel=0.1)
    assert piece.attributes["padded"] == 0
    assert piece.mask_by == "readers"
    if diameter == 20:
        inner = piece.pixels[15:25, 15:25, 15:25]
        assert inner.mean() == pytest.approx(40, abs=3)
        assert piece.attributes["texture"] == "solid"


def test_without_readers_the_segmenter_draws_the_mask_or_nobody() -> None:
    volume, _ = nodule_volume(GRIDS["anisotropic"], 14.0)
    marked = Lesion("point", CENTER, "nodule", radius=7.0)
    (drawn,) = cut(volume, [marked])
    assert drawn.mask_by == "segmenter"
    assert drawn.attributes["diameter_mm"] == pytest.approx(14, rel=0.1)
    (bare,) = cut(volume, [marked], segment=False)
    assert (bare.mask, bare.mask_by) == (None, "none")
    assert "diameter_mm" not in bare.attributes
    (by_texture,) = cut(volume, [marked], label="texture")
    assert by_texture.label == "solid"
    (no_texture,) = cut(volume, [marked], label="texture", segment=False)
    assert "no mask" in no_texture.reason


def test_a_nodule_larger_than_its_cube_is_not_measured() -> None:
    volume, lesion = nodule_volume(GRIDS["anisotropic"], 20.0)
    (piece,) = cut(volume, [lesion], voxels=12)
    assert float(piece.attributes["mask_beyond_cube"]) > 0.3  # type: ignore[arg-type]
    assert "diameter_mm" not in piece.attributes
    assert piece.mask is not None
    assert piece.mask.mean() > 0.9


def test_the_border_is_air_and_more_than_half_of_it_is_refused() -> None:
    volume, _ = nodule_volume(GRIDS["anisotropic"], 10.0)
    x, y, _ = CENTER
    lowest = -37.0 - 1.25
    near, far, outside = (Lesion("point", (x, y, lowest + away), "nodule") for away in (4.0, -1.0, -40.0))
    outside = Lesion("point", outside.center, "nodule", OUTSIDE)
    pieces = cut(volume, [near, far, outside], segment=False)
    assert [piece.reason for piece in pieces] == ["", BORDER, OUTSIDE]
    assert pieces[0].attributes["padded"] == pytest.approx(0.4, abs=0.01)
    assert pieces[0].pixels is not None
    assert (pieces[0].pixels[:15] == -1000).all()
    assert pieces[0].pixels[17:].max() < -700
    assert pieces[0].index is not None
    np.testing.assert_allclose(pieces[0].index[0], (4.0 - 1.25) / 2.5)


def test_without_spacing_or_unit_it_refuses_by_name() -> None:
    volume, lesion = nodule_volume(GRIDS["anisotropic"], 14.0, "unknown")
    (piece,) = cut(volume, [lesion])
    assert piece.attributes["mean_hu"] is None
    assert piece.attributes["diameter_mm"] == pytest.approx(14, rel=0.05)
    with pytest.raises(VolumeError, match=r"ct\.unit=hu"):
        cut(volume, [lesion], label="texture")
    with pytest.raises(VolumeError, match="spacing"):
        cut(Volume(volume.array, None, "hu"), [lesion])
