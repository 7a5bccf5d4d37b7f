"""The recipe's section `ct`: how cubes and slices are cut out of CT volumes. Lengths are millimetres."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from synthoma.settings import Section


class SliceFilter(Section):
    """Which axial slices are taken. Shares are of 1."""

    positions: tuple[float, float] = Field(
        (0.0, 1.0), description="part of the lungs' height that slices come from, 0 their lowest and 1 their highest"
    )
    least_lung: float = Field(0.1, ge=0, le=1, description="least share of the body's area that is lung")
    reference: str | None = Field(
        None, description="folder with slices (.npy in HU) that the wanted ones look like; else none is compared"
    )
    likeness: float = Field(0.6, ge=-1, le=1, description="least correlation with the nearest reference slice")
    every_mm: float = Field(0.0, ge=0, description="least distance between two slices of a volume; 0 takes all")
    most: int | None = Field(None, ge=1, description="at most so many slices of a volume, spread evenly")
    unmarked: str | None = Field(
        None, description="class of slices without a mark in volumes that have some; left out: they are not taken"
    )

    @field_validator("positions")
    @classmethod
    def _rising(cls, positions: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= positions[0] < positions[1] <= 1:
            raise ValueError("positions are a lower and a higher share between 0 and 1")
        return positions


class CtSection(Section):
    """From CT volumes to cubes around nodules, or axial slices; without effect where the data are no volumes."""

    cut: Literal["cubes", "slices"] = Field("cubes", description="cubes around marks, or axial slices")
    spacing: float = Field(1.0, gt=0.1, lt=10, description="mm between voxels of cubes, the same along all axes")
    cube: int | None = Field(None, ge=8, le=256, description="voxels a side of a cube; left out: preparation.size")
    pixel: float | None = Field(
        None, gt=0.1, lt=20, description="mm between pixels of slices; left out: as in the volume"
    )
    window: tuple[float, float] = Field(
        (-1000.0, 400.0), description="HU that training sees as black and white; the data keep all of theirs"
    )
    unit: Literal["auto", "hu"] = Field(
        "auto", description="hu: files that do not say their unit (NIfTI, MetaImage, NRRD) are in Hounsfield units"
    )
    on_gap: Literal["error", "skip", "resample"] = Field(
        "error", description="volumes with missing slices, uneven spacing or tilt: stop, leave out, or interpolate"
    )
    min_readers: int = Field(1, ge=1, le=4, description="LIDC: readers who have to have outlined a nodule")
    consensus: float = Field(0.5, gt=0, le=1, description="LIDC: share of the readers that a voxel of the mask needs")
    label: Literal["auto", "none", "suspicion", "texture"] = Field(
        "auto", description="class: the mark's own label, or LIDC's rated suspicion; texture: solid, part_solid, ..."
    )
    indeterminate: Literal["drop", "keep"] = Field("drop", description="LIDC: nodules rated 3 of 5 for malignancy")
    segment: bool = Field(True, description="cubes without a mask get one by the declared segmenter")
    burned_in: Literal["refuse", "allow"] = Field(
        "refuse", description="images that say, or may, show names in their pixels"
    )
    slices: SliceFilter = SliceFilter()
    max_failed: float = Field(0.2, ge=0, le=1, description="share of volumes that cannot be read above which it fails")

    @field_validator("window")
    @classmethod
    def _rising(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not -1024 <= window[0] < window[1] <= 3071:
            raise ValueError("the window is a lower and a higher HU between -1024 and 3071")
        return window

    @model_validator(mode="after")
    def _slices_only(self) -> "CtSection":
        if self.cut == "cubes" and self.slices != SliceFilter():
            raise ValueError("ct.slices chooses axial slices; set ct.cut=slices")
        return self
