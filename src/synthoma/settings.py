"""What decides the networks and their training: the sections `model` and `training` of a recipe.

Where a key is left out, the family's own value is filled in (`family_defaults.py`), so that the recipe of a run always
holds every number that was used.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LOSSES = ("non-saturating", "least-squares", "hinge", "wasserstein", "relativistic")
PENALTIES = ("gradient", "r1", "r2", "drift", "finite_difference", "path_length")
# Terms of the generator's loss; all others belong to the discriminator.
GENERATOR_TERMS = ("path_length",)
POLICIES = ("colour", "stain", "translation", "cutout", "symmetry")


class Section(BaseModel):
    """Part of a recipe: unknown keys are errors, values are fixed once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Ramp(Section):
    """A number that changes with the clock from `start` to `end`, and stays there."""

    start: float
    end: float
    over_kimg: tuple[float, float] | None = Field(
        None, description="when it changes, in thousands of images; left out: over the whole run"
    )
    shape: Literal["cosine", "linear"] = "cosine"

    @field_validator("over_kimg")
    @classmethod
    def _forwards(cls, over: tuple[float, float] | None) -> tuple[float, float] | None:
        if over is not None and not 0 <= over[0] < over[1]:
            raise ValueError("over_kimg is [from, to] with 0 <= from < to")
        return over

    def at(self, images_seen: float, total_kimg: float) -> float:
        """The value when `images_seen` images have been shown, in a run of `total_kimg`."""
        first, last = self.over_kimg or (0.0, total_kimg)
        share = min(max((images_seen / 1000 - first) / (last - first), 0.0), 1.0)
        if self.shape == "cosine":
            share = 0.5 - 0.5 * math.cos(math.pi * share)
        return self.start + (self.end - self.start) * share


Scheduled = float | Ramp


def value_at(scheduled: Scheduled, images_seen: float, total_kimg: float) -> float:
    """A plain number, or a ramp's value at this time."""
    return scheduled.at(images_seen, total_kimg) if isinstance(scheduled, Ramp) else float(scheduled)


class ModelSection(Section):
    """Networks: a family of the registry, its widths, and the options that combine with it."""

    family: str = Field("dcgan", description="entry of the registry: mlp, dcgan, cgan, wgan, wgan-gp, pggan, style, r3")
    latent: int = Field(100, gt=0, description="length of z")
    generator_widths: list[int] = Field([512, 256, 128, 64], min_length=1, description="channels, coarse to fine")
    discriminator_widths: list[int] = Field([64, 128, 256, 512], min_length=1, description="channels, fine to coarse")
    conditions: list[str] = Field(
        default_factory=list, description="what images are conditioned on: class, and names of attributes"
    )
    class_order: list[str] | None = Field(
        None, description="classes in ascending order: the class is then conditioned on as a grade, not as a name"
    )
    when_absent: Literal["error", "drop"] = Field(
        "error", description="what happens to a condition that the data do not have"
    )
    conditioning: Literal["concat", "projection"] = Field(
        "concat", description="how conditions enter the discriminator: beside the image, or as inner product at the end"
    )
    label_embedding: int = Field(50, gt=0, description="length of the generator's embedding of the conditions")
    masks: Literal["none", "signed_distance"] = Field(
        "none", description="signed_distance: the mask is generated with the image, as one channel more"
    )
    mask_distance: float = Field(8.0, gt=0, description="voxels at which the signed distance is cut off")
    kernel: int = Field(4, description="kernel of the strided convolutions; 4 with stride 2 leaves no checkerboard")
    generator_norm: Literal["batch", "instance", "group", "none"] = Field("batch", description="convolutional families")
    discriminator_norm: Literal["batch", "instance", "group", "none"] = Field(
        "batch", description="convolutional families; batch excludes gradient penalties"
    )
    spectral_norm: bool = Field(
        False, description="discriminator's weights are divided by their largest singular value"
    )
    attention: list[int] = Field(
        default_factory=list, description="self-attention in both networks where the longest axis has this many pixels"
    )
    minibatch_stddev: int = Field(
        0, ge=0, description="samples in a group whose deviation the discriminator sees; 0: none"
    )
    scales: int = Field(1, ge=1, le=4, description="discriminators at 1, 1/2, 1/4 ... of the resolution")
    blocks: int = Field(2, ge=1, description="r3: residual blocks a stage")
    group_size: int = Field(16, ge=0, description="r3: channels of a group in the 3x3 convolutions; 0: all in one")
    stem: Literal[1, 2] = Field(1, description="r3: 2 folds 2x2(x2) pixels into channels first, for 128^3")
    checkpoint_activations: bool = Field(False, description="r3: recompute instead of keeping; less memory, slower")
    mapping_layers: int = Field(4, ge=1, description="style: layers from z to w")
    style_mixing: float = Field(0.9, ge=0, le=1, description="style: share of images made from two w")
    noise: bool = Field(True, description="style: noise at every resolution")
    output: Literal["tanh", "linear"] = Field("tanh", description="last activation of the generator")
    range: tuple[float, float] = Field((-1.0, 1.0), description="range of the images that the networks see")
    initialisation: Literal["normal", "xavier"] = Field(
        "normal", description="convolutional families: N(0, 0.02) as DCGAN, or xavier as Keras"
    )

    @model_validator(mode="after")
    def _range_fits_output(self) -> "ModelSection":
        if self.output == "tanh" and tuple(self.range) != (-1.0, 1.0):
            raise ValueError(
                f"range {list(self.range)} and output 'tanh' do not agree: tanh gives [-1, 1], so images must be "
                "scaled to [-1, 1] too; remove `range`, or set `output: linear`"
            )
        if self.range[0] >= self.range[1]:
            raise ValueError("range is [low, high] with low < high")
        return self


class AugmentSection(Section):
    """Differentiable augmentation of what the discriminator sees, real and fake alike."""

    policy: list[Literal["colour", "stain", "translation", "cutout", "symmetry"]] = Field(
        default_factory=list, description="what is done; empty: nothing"
    )
    strength: Scheduled | Literal["adaptive"] = Field(
        1.0, description="probability of each operation; adaptive: as much as the held-out images call for"
    )
    target: float = Field(0.5, gt=0, lt=1, description="adaptive: wanted overfitting of the discriminator, r_v")
    adapt_kimg: float = Field(100.0, gt=0, description="adaptive: images for the strength to go from 0 to 1")


class DeformSection(Section):
    """Real volumes are moved and deformed at random before they are shown, image and mask in one resampling.

    The generator learns to draw such volumes. Nothing is in mm, so that it holds where the spacing is unknown.
    """

    rotation: float = Field(0.0, ge=0, le=180, description="largest angle about each axis in degrees")
    scaling: tuple[float, float] = Field((1.0, 1.0), description="size of what is shown")
    elastic: float = Field(
        0.0,
        ge=0,
        le=0.4,
        description="largest displacement of a control point (7 an axis), of the distance between two",
    )
    shift: float = Field(0.0, ge=0, description="largest displacement of the whole along each axis in voxels")
    noise: float = Field(
        0.0, ge=0, le=1, description="largest standard deviation of added noise, 1 being black to white"
    )

    @field_validator("scaling")
    @classmethod
    def _rising(cls, scaling: tuple[float, float]) -> tuple[float, float]:
        if not 0.1 <= scaling[0] <= scaling[1] <= 10:
            raise ValueError("scaling is a lowest and a highest factor within 0.1 and 10")
        return scaling

    @property
    def moves(self) -> bool:
        """Whether anything but noise is done."""
        return bool(self.rotation or self.elastic or self.shift or tuple(self.scaling) != (1.0, 1.0))


class GrowthSection(Section):
    """Progressive growing: a schedule of the clock. Left out: the run is divided evenly among the levels."""

    fade_kimg: float | None = Field(None, gt=0, description="length of each fade")
    stable_kimg: float | None = Field(None, gt=0, description="length of each level after its fade")
    batches: list[int] | None = Field(None, description="batch of each level, coarse to fine; else training.batch")

    @model_validator(mode="after")
    def _both(self) -> "GrowthSection":
        if (self.fade_kimg is None) != (self.stable_kimg is None):
            raise ValueError("give fade_kimg and stable_kimg, or neither")
        return self


class HealthSection(Section):
    """What happens when training goes wrong, and when it is over early."""

    action: Literal["warn", "stop", "rollback"] = Field(
        "warn", description="on a grave finding: say it; end the run; or go back to the best checkpoint at a lower rate"
    )
    rollbacks: int = Field(2, ge=0, description="rollback: how often at most; then the run is stopped")
    patience: int | None = Field(None, ge=1, description="validations without a better KID after which the run ends")


class TrainingSection(Section):
    """The one loop. The clock is `images_seen`, the real images shown to the discriminator."""

    kimg: float = Field(100, gt=0, description="length of the run in thousands of images")
    batch: int = Field(16, ge=2)
    batch_per_device: int | None = Field(
        None, ge=1, description="images at once on a device; the batch is then accumulated from such parts"
    )
    on_out_of_memory: Literal["stop", "accumulate"] = Field(
        "accumulate", description="accumulate: halve batch_per_device and go on, where the networks allow it"
    )
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the processor has it and a self-test finds it right and faster"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    compile: Literal["auto", "off"] = Field("auto", description="auto: compiled steps on a GPU, after a self-test")
    loss: Literal["non-saturating", "least-squares", "hinge", "wasserstein", "relativistic"] = "non-saturating"
    penalties: dict[str, float] = Field(
        default_factory=dict,
        description="name -> weight: gradient (10), r1, r2, finite_difference (times gamma/2), drift, path_length",
    )
    lazy: dict[str, int] = Field(default_factory=dict, description="penalty -> every so many updates only")
    gamma: Scheduled | None = Field(None, description="strength of r1 and r2; left out: by the size of the images")
    critic_steps: int = Field(1, ge=1, description="discriminator updates for one of the generator")
    clip: float | None = Field(None, gt=0, description="weights of the discriminator are clipped to [-clip, clip]")
    optimizer: Literal["adam", "rmsprop"] = "adam"
    learning_rate: Scheduled = Field(2e-4, description="generator's rate")
    discriminator_learning_rate: Scheduled | None = Field(None, description="else as the generator's")
    beta1: float = Field(0.5, ge=0, lt=1)
    beta2: Scheduled = Field(0.999, description="adam")
    real_labels: tuple[float, float] = Field((1.0, 1.0), description="label smoothing: U(low, high) drawn per batch")
    fake_labels: tuple[float, float] = Field((0.0, 0.0), description="label smoothing: U(low, high) drawn per batch")
    balanced: bool = Field(False, description="draw classes equally often; rare ones are then seen more than once")
    canaries: int = Field(
        0,
        ge=0,
        description="training images, each of another patient, that are shown far too often: the audit must find them",
    )
    canary_repeats: int = Field(100, ge=2, description="how often a canary counts among the training images")
    symmetries: Literal["none", "mirror", "dihedral", "cube"] = Field(
        "none", description="real images are shown in all these positions; only what anatomy permits"
    )
    deform: DeformSection = DeformSection()
    augment: AugmentSection = AugmentSection()
    label_blend_kimg: tuple[float, float] | None = Field(
        None, description="conditions fade in between these times, against collapse by conditioning"
    )
    growth: GrowthSection = GrowthSection()
    init_from: str | None = Field(None, description="run or model to begin from instead of drawn weights")
    freeze: int = Field(0, ge=0, description="with init_from: discriminator blocks, from the image on, that stay")
    ema_kimg: float = Field(5.0, ge=0, description="half-life of the averaged generator in thousands of images")
    ema_rampup: float | None = Field(0.05, gt=0, description="the half-life is at most this share of the images seen")
    tick_kimg: float = Field(1.0, gt=0, description="a line in stats.jsonl every so often")
    sample_kimg: float = Field(10.0, gt=0, description="a grid of samples every so often")
    checkpoint_kimg: float = Field(10.0, gt=0, description="a checkpoint, and the validation KID, every so often")
    tensorboard: bool = Field(False, description="also write TensorBoard events (extra: track)")
    keep: int = Field(3, ge=1, description="how many of the latest checkpoints stay; the best one always does")
    health: HealthSection = HealthSection()

    @field_validator("real_labels", "fake_labels")
    @classmethod
    def _interval(cls, labels: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= labels[0] <= labels[1] <= 1:
            raise ValueError("smoothed labels are [low, high] within 0 and 1")
        return labels

    @field_validator("learning_rate", "discriminator_learning_rate")
    @classmethod
    def _positive(cls, rate: Scheduled | None) -> Scheduled | None:
        ends = (rate.start, rate.end) if isinstance(rate, Ramp) else (rate,)
        if rate is not None and any(value is None or value <= 0 for value in ends):
            raise ValueError("a learning rate is above 0")
        return rate

    @field_validator("penalties")
    @classmethod
    def _known_penalties(cls, penalties: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(penalties) - set(PENALTIES))
        if unknown:
            raise ValueError(f"there is no penalty '{unknown[0]}'; known: {', '.join(PENALTIES)}")
        return {name: weight for name, weight in penalties.items() if weight}

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingSection":
        strangers = sorted(set(self.lazy) - set(self.penalties))
        if strangers:
            raise ValueError(f"lazy names '{strangers[0]}', which is not among the penalties")
        if self.batch_per_device is not None and self.batch_per_device > self.batch:
            raise ValueError(f"batch_per_device {self.batch_per_device} is more than batch {self.batch}")
        if self.canaries and self.balanced:
            raise ValueError(
                "canaries are shown too often on purpose, which balanced draws would undo; leave one of them out"
            )
        if self.freeze and not self.init_from:
            raise ValueError("freeze needs init_from: layers with drawn weights would never learn anything")
        return self

    def depends_on_length(self, grows: bool) -> list[str]:
        """Keys whose value at a given time depends on `kimg`, so that the run cannot be made longer later on."""
        ramps = {
            name: getattr(self, name) for name in ("learning_rate", "discriminator_learning_rate", "beta2", "gamma")
        } | {"augment.strength": self.augment.strength}
        found = [name for name, value in ramps.items() if isinstance(value, Ramp) and value.over_kimg is None]
        return found + (["growth"] if grows and self.growth.fade_kimg is None else [])
