"""What a utility study is made with; all of it is declared, and most of it is part of the protocol's hash."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from synthoma.errors import EvaluationError

OperatingPoint = Literal["youden", "specificity"]


@dataclass(frozen=True)
class UtilitySettings:
    """Settings of a study.

    ratios: synthetic images for each real training image of a class. seeds: fits of each arm, each with initial weights and
    an order of images of its own. positive: name of the class of interest; None: macro averages over the classes.
    operating_point: the threshold for the class of interest, chosen on validation images: the largest Youden index, or
    the lowest threshold with a specificity of at least `specificity`.
    updates, batch, learning_rate, weight_decay: of AdamW with a cosine schedule, the same in every arm; check_every: updates
    between two looks at the validation images. symmetries: flips of the classical augmentation, as `training.symmetries`.
    margin: changes of AUC up to it count as none; detectable: a study that could not see an effect of this size is
    underpowered. bootstraps: resamples of patients. least_images, least_groups: of a class in the test set, below
    which its figures are withheld.
    """

    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    seeds: int = 3
    seed: int = 0
    positive: str | None = None
    operating_point: OperatingPoint = "youden"
    specificity: float = 0.9
    updates: int = 400
    batch: int = 32
    learning_rate: float = 7e-4
    weight_decay: float = 0.05
    check_every: int = 20
    symmetries: str = "mirror"
    margin: float = 0.02
    detectable: float = 0.05
    bootstraps: int = 1000
    least_images: int = 10
    least_groups: int = 5
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not all(ratio > 0 for ratio in self.ratios) or len(set(self.ratios)) != len(self.ratios):
            raise EvaluationError("ratios are numbers above 0, each given once.")
        for name, least in (("seeds", 1), ("updates", 1), ("batch", 2), ("check_every", 1), ("bootstraps", 100)):
            if getattr(self, name) < least:
                raise EvaluationError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if min(self.least_images, self.least_groups) < 2:
            raise EvaluationError("figures of a class need at least two images of two groups.")
        if not 0 < self.specificity < 1 or not 0 < self.margin < self.detectable:
            raise EvaluationError(
                "specificity lies within 0 and 1, and the margin between 0 and the detectable effect."
            )

    def protocol(self) -> dict[str, Any]:
        """What two studies must share for their figures to be put side by side; ratios and device do not enter."""
        fields = asdict(self)
        for name in ("ratios", "device"):
            del fields[name]
        return fields
