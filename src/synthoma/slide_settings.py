"""The recipe's section `slides`: how whole slides are cut into tiles. Lengths are microns, areas square microns."""

from typing import Literal

from pydantic import Field, model_validator

from synthoma.settings import Section

PENS = ("pen_blue", "pen_green", "pen_red", "pen_black")


class Limits(Section):
    """Scores above which a tile is left out. All are shares from 0 to 1 but blur_z; 1 switches a limit off."""

    pen: float = Field(0.03, ge=0, le=1, description="share of a tile in one colour of ink")
    background: float = Field(0.8, ge=0, le=1, description="share of a tile that is glass")
    dark: float = Field(0.03, ge=0, le=1, description="share of a tile that is black, without being ink")
    bubble: float = Field(0.1, ge=0, le=1, description="share of a tile below air, or in its grey rim")
    fold: float = Field(0.12, ge=0, le=1, description="share of a tile in which tissue lies double")
    blur: float = Field(
        0.55, ge=0, le=1, description="0: detail of 1 µm as strong as of 4 µm; 1: none; 0.55: a blur of 1 µm"
    )
    blur_z: float = Field(6.0, gt=0, description="robust deviations of blur from the slide's median, where known")
    uniform: float = Field(0.8, ge=0, le=1, description="1 - entropy of grey levels relative to the largest possible")
    own: dict[str, float] = Field(
        default_factory=dict, description="limits for the scores of one's own quality model, by name"
    )

    def of(self, score: str) -> float:
        """The limit of a built-in score."""
        return float(self.pen if score in PENS else getattr(self, score))


class TissueSettings(Section):
    """What counts as tissue. Areas are square microns, lengths microns, saturation and luminance shares of 1."""

    least_saturation: float = Field(0.05, ge=0, le=1, description="floor of the threshold: paler is never tissue")
    most_saturation: float = Field(0.1, ge=0, le=1, description="ceiling of the threshold: stronger is always tissue")
    luminance: float = Field(0.94, gt=0, le=1, description="brighter than this share of the glass is never tissue")
    smooth_um: float = Field(24.0, ge=0, description="side of the median filter")
    close_um: float = Field(24.0, ge=0, description="gaps up to twice this wide are closed")
    object_um2: float = Field(20_000.0, ge=0, description="smaller pieces of tissue are dust")
    hole_um2: float = Field(40_000.0, ge=0, description="smaller holes (vessels, glands, fat) are tissue")
    pen_um2: float = Field(20_000.0, ge=0, description="smaller spots in the colour of ink are no pen marks")

    @model_validator(mode="after")
    def _floor_below_ceiling(self) -> "TissueSettings":
        if self.least_saturation > self.most_saturation:
            raise ValueError("least_saturation is above most_saturation")
        return self


class SlidesSection(Section):
    """From whole slides to tiles; without effect where the data are no slides."""

    mpp: float = Field(0.5, gt=0.05, lt=20, description="microns a pixel of the tiles; 0.5 is what is called 20x")
    tile: int | None = Field(None, ge=16, le=4096, description="pixels a side; left out: preparation.size")
    stride: int | None = Field(None, ge=1, description="pixels from one tile to the next; left out: no overlap")
    most_tiles: int | None = Field(None, ge=1, description="at most so many tiles of a slide, spread over it evenly")
    given_mpp: float | None = Field(None, description="microns a pixel of all slides, for files that do not say it")
    mpp_table: str | None = Field(None, description="CSV (file, mpp) with microns a pixel of single slides")
    annotation_table: str | None = Field(None, description="CSV (slide, annotation) where names do not match")
    include: list[str] | None = Field(None, description="annotation classes that tiles are taken of; left out: all")
    exclude: list[str] = Field(default_factory=list, description="annotation classes that are cut out of the others")
    unannotated: bool = Field(False, description="take tissue outside of annotations too, without a class")
    min_annotated: float = Field(0.75, gt=0, le=1, description="least share of a tile within its class")
    min_tissue: float = Field(0.5, ge=0, le=1, description="least share of a tile that is tissue")
    tissue: TissueSettings = TissueSettings()
    limits: Limits = Limits()
    stain: Literal["none", "macenko", "reinhard"] = Field(
        "none", description="bring all slides to one look; fitted once a slide, on its tissue"
    )
    stain_target: str | None = Field(None, description="a picture of stained tissue to look like; else the usual one")
    quality: str | None = Field(None, description="module:function with scores of one's own for tiles")
    max_failed: float = Field(0.2, ge=0, le=1, description="share of slides that cannot be read above which it fails")
    patience_s: float = Field(30.0, gt=0, description="a slide whose reader is silent for so long is given up")

    @model_validator(mode="after")
    def _either(self) -> "SlidesSection":
        if both := set(self.include or []) & set(self.exclude):
            raise ValueError(f"'{sorted(both)[0]}' is both included and excluded")
        return self
