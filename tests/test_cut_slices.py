"""Axial slices: the volume's own voxels, the filters with their reasons, and what is marked on them."""

from pathlib import Path

import numpy as np
import pytest

from synthoma.ct_settings import CtSection
from synthoma.errors import RecipeError, VolumeError
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.shapes import Volume, VolumeUnit
from synthoma.preparation.ct.lesions import INDETERMINATE, NO_NODULE, SMALL, Lesion, LesionMask
from synthoma.preparation.ct.pieces import Piece
from synthoma.preparation.ct.slices import (
    LITTLE_LUNG,
    NO_LUNG,
    TOO_MANY,
    TOO_NEAR,
    TWO_CLASSES,
    UNLIKE,
    UNMARKED,
    cut_slices,
    load_references,
    look,
)

SIZE = (24, 96, 112)
GRID = Geometry(SIZE, (8.0, 3.5, 3.5), (-190.0, -170.0, -90.0))


def chest() -> np.ndarray:
    """HU [z, y, x]: a body with two lungs on slices 4 .. 19, widest in the middle."""
    z, y, x = np.indices(SIZE)
    hu = np.full(SIZE, -1000, np.int16)
    hu[((y - 48) / 36) ** 2 + ((x - 56) / 48) ** 2 <= 1] = 40
    half = np.sqrt(np.clip(1 - ((z - 11.5) / 8.5) ** 2, 0, None))
    for side in (-1, 1):
        lung = ((y - 48) / 24) ** 2 + ((x - 56 - side * 21) / 15) ** 2 <= half**2
        hu[lung & (z >= 4) & (z <= 19)] = -850
    return hu + np.random.default_rng(0).integers(-9, 10, SIZE, dtype=np.int16)


HU = chest()


def volume(geometry: Geometry | None = GRID, unit: VolumeUnit = "hu", array: np.ndarray = HU) -> Volume:
    return Volume(array, geometry, unit)


def section(pixel: float | None = None, label: str = "auto", **slices: object) -> CtSection:
    values = {"least_lung": 0.0, **slices}
    return CtSection.model_validate({"cut": "slices", "pixel": pixel, "label": label, "slices": values})


def cut(found: Volume, lesions: list[Lesion] | None, wanted: CtSection, **others: object) -> list[Piece]:
    return list(cut_slices(found, lesions, wanted, **others))  # type: ignore[arg-type]


def lesion(index: tuple[int, int, int], label: str | None = "nodule", reason: str = "", side: int = 3) -> Lesion:
    """A block of `side` voxels around a voxel."""
    geometry = Geometry.from_steps((side,) * 3, GRID.steps, GRID.world(np.subtract(index, side // 2)))
    mask = LesionMask(np.ones((side,) * 3, np.bool_), geometry)
    center = tuple(GRID.world(index).tolist())
    return Lesion("readers", center, label, reason, 9.0, {"malignancy": 5.0}, mask)


@pytest.mark.parametrize("reverse", [False, True])
def test_without_resampling_voxels_are_the_volumes_own_from_feet_to_head(reverse: bool) -> None:
    found = volume()
    if reverse:
        turned = Geometry(SIZE, GRID.spacing, tuple(GRID.world((23, 95, 0)).tolist()), ((0, 0, -1.0), (0, -1.0, 0), (1.0, 0, 0)))  # fmt: skip
        found = volume(turned, array=HU[::-1, ::-1].copy())
    pieces = cut(found, None, section())
    assert [piece.reason for piece in pieces] == [""] * 24
    for k, piece in enumerate(pieces):
        assert piece.pixels is not None
        assert piece.pixels.dtype == np.int16
        np.testing.assert_array_equal(piece.pixels, HU[k])
        assert piece.index == (k, 47.5, 55.5)
        assert piece.attributes["z_mm"] == 8.0 * k


def test_lungs_decide_by_position_and_share() -> None:
    pieces = cut(volume(), None, section(least_lung=0.15))
    shares = [float(piece.attributes["lung_share"]) for piece in pieces]  # type: ignore[arg-type]
    taken = [k for k, piece in enumerate(pieces) if not piece.reason]
    assert taken == list(range(taken[0], taken[-1] + 1))
    assert 4 <= taken[0] < 11 < taken[-1] <= 19
    assert all(shares[k] >= 0.15 for k in taken)
    assert {piece.reason for piece in pieces} == {"", NO_LUNG, LITTLE_LUNG}
    assert shares[11] == pytest.approx(2 * 24 * 15 / (36 * 48), rel=0.1)
    assert max(shares[:3]) == 0
    middle = cut(volume(), None, section(positions=(0.4, 0.6)))
    inside = [float(piece.attributes["position"]) for piece in middle if not piece.reason]  # type: ignore[arg-type]
    assert 2 <= len(inside) <= 5
    assert 0.4 <= min(inside) < max(inside) <= 0.6


def test_likeness_to_reference_slices(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.pad(HU[11], 20, constant_values=-1000))
    references = load_references(tmp_path)
    assert references is not None
    # The look is that of the body, wherever it lies in the picture.
    assert float(references[0] @ look(HU[11])) > 0.99
    wanted = section(reference=str(tmp_path), likeness=0.8)
    pieces = cut(volume(), None, wanted, references=references)
    scores = [float(piece.attributes["likeness"]) for piece in pieces]  # type: ignore[arg-type]
    assert scores[11] > 0.99
    assert scores[11] > scores[6] > scores[1]
    assert [piece.reason == UNLIKE for piece in pieces] == [score < 0.8 for score in scores]
    assert pieces[1].reason == UNLIKE
    with pytest.raises(RecipeError, match="no folder with slices"):
        load_references(tmp_path / "none")
    np.save(tmp_path / "picture.npy", np.zeros((80, 80), np.uint8))
    with pytest.raises(RecipeError, match="no slice"):
        load_references(tmp_path)


def test_distance_and_number_of_slices() -> None:
    pieces = cut(volume(), None, section(every_mm=24.0))
    assert [k for k, piece in enumerate(pieces) if not piece.reason] == list(range(0, 24, 3))
    assert {piece.reason for piece in pieces} == {"", TOO_NEAR}
    few = cut(volume(), None, section(most=4))
    assert [k for k, piece in enumerate(few) if not piece.reason] == [3, 9, 15, 21]
    assert {piece.reason for piece in few} == {"", TOO_MANY}


def test_marked_slices_have_class_and_mask_and_the_others_are_told() -> None:
    found = [lesion((10, 40, 30)), lesion((14, 40, 70), "nodule", INDETERMINATE, side=1)]
    found.append(Lesion("readers", tuple(GRID.world((18, 40, 30)).tolist()), None, SMALL))
    found.append(Lesion("readers", tuple(GRID.world((20, 40, 30)).tolist()), None, NO_NODULE))
    pieces = cut(volume(), found, section())
    assert [k for k, piece in enumerate(pieces) if not piece.reason] == [9, 10, 11]
    expected = np.zeros(SIZE[1:], np.uint8)
    expected[39:42, 29:32] = 1
    for piece in pieces[9:12]:
        assert (piece.label, piece.mask_by, piece.mark) == ("nodule", "readers", "readers")
        assert piece.attributes["malignancy"] == 5
        np.testing.assert_array_equal(piece.mask, expected)
    assert [pieces[k].reason for k in (14, 18, 20, 3)] == [INDETERMINATE, SMALL, UNMARKED, UNMARKED]
    named = cut(volume(), found, section(unmarked="normal"))
    assert [named[k].label for k in (3, 10, 20)] == ["normal", "nodule", "normal"]
    assert [named[k].reason for k in (3, 14, 18, 20)] == ["", INDETERMINATE, SMALL, ""]
    # Nobody marked anything in this volume: whether it is normal is not known.
    assert {piece.reason for piece in cut(volume(), [], section(unmarked="normal"))} == {UNMARKED}


def test_two_classes_on_a_slice_are_no_class() -> None:
    pieces = cut(volume(), [lesion((10, 40, 30), "a"), lesion((12, 40, 70), "b")], section())
    assert [pieces[k].reason for k in (9, 11, 13)] == ["", TWO_CLASSES, ""]
    assert [pieces[k].label for k in (9, 13)] == ["a", "b"]


def test_boxes_and_positions_mark_their_slices() -> None:
    corners = tuple(GRID.world([(k, y, x) for y in (30, 40) for x in (50, 64)]) for k in (7, 8))
    box = Lesion("box", tuple(GRID.world((7.5, 35, 57)).tolist()), "adenocarcinoma", boxes=corners)
    pieces = cut(volume(), [box], section())
    assert [k for k, piece in enumerate(pieces) if not piece.reason] == [7, 8]
    assert pieces[7].mask_by == "box"
    assert pieces[7].mask is not None
    assert pieces[7].mask[30:41, 50:65].all()
    assert pieces[7].mask.sum() == 11 * 15
    point = Lesion("point", tuple(GRID.world((10, 35, 57)).tolist()), "nodule", radius=17.0)
    pieces = cut(volume(), [point], section())
    assert [k for k, piece in enumerate(pieces) if not piece.reason] == [8, 9, 10, 11, 12]
    assert pieces[10].mask is None


def test_pixels_of_another_size_keep_places_and_means() -> None:
    found = cut(volume(), [lesion((10, 40, 30), side=9)], section(pixel=7.0))[10]
    assert found.pixels is not None
    assert found.mask is not None
    assert found.pixels.shape == found.mask.shape == (48, 56)
    blocks = HU[10].reshape(48, 2, 56, 2).mean(axis=(1, 3))
    assert np.abs(found.pixels - blocks).max() <= 0.51
    # 16 whole pixels, 8 halves and a quarter: 20 of them, or all halves.
    assert int(found.mask.sum()) in (20, 22, 24)
    np.testing.assert_allclose(np.argwhere(found.mask).mean(axis=0), ((40 - 0.5) / 2, (30 - 0.5) / 2), atol=0.3)


def test_without_unit_or_spacing_only_what_needs_none() -> None:
    plain = cut(volume(None, "unknown"), None, section())
    assert len(plain) == 24
    np.testing.assert_array_equal(plain[3].pixels, HU[3])
    assert plain[3].attributes == {}
    with pytest.raises(VolumeError, match=r"ct\.pixel"):
        cut(volume(None), None, section(pixel=1.0))
    with pytest.raises(VolumeError, match=r"ct\.unit=hu"):
        cut(volume(unit="unknown"), None, section(least_lung=0.1))
    with pytest.raises(VolumeError, match=r"ct\.label=texture"):
        cut(volume(), [], section(label="texture"))
