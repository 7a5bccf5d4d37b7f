"""A number that cannot be separated from its interval, its floor and its protocol."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synthoma.errors import EvaluationError

Direction = Literal["lower", "higher"]


@dataclass(frozen=True)
class Floor:
    """The same metric between real images of different people: the best that a generator could reach.

    value, low, high: mean over `draws` training subsamples, with its 95 % interval. One-sample metrics: the value of
    real images.
    """

    value: float
    low: float
    high: float
    draws: int = 1

    def __post_init__(self) -> None:
        _check_interval("floor", self.value, self.low, self.high)


@dataclass(frozen=True)
class Yardstick:
    """The same metric for real images after a declared degradation, for a sense of scale."""

    value: float
    what: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or not self.what:
            raise EvaluationError("a yardstick is a finite number with words that say what was done to the images.")


@dataclass(frozen=True)
class Difference:
    """A value less its floor with the 95 % interval of the difference, both against the same test patients."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_interval("difference from the floor", self.value, self.low, self.high)


@dataclass(frozen=True)
class Estimate:
    """A metric's value with its 95 % interval, at the stated numbers of images.

    n: {"synthetic", "reference"} images that entered; groups: patients or groups of the reference, the n that counts.
    direction: whether lower or higher values are better; protocol: hash, values under different hashes do not compare.
    less_floor: the difference from the floor, where it was measured on the same half-samples of the test set.
    """

    metric: str
    value: float
    low: float
    high: float
    n: Mapping[str, int]
    groups: int
    floor: Floor
    direction: Direction
    protocol: str
    yardstick: Yardstick | None = None
    caveat: str | None = None
    less_floor: Difference | None = None

    def __post_init__(self) -> None:
        _check_interval(self.metric, self.value, self.low, self.high)
        if not isinstance(self.floor, Floor):
            raise EvaluationError(f"{self.metric}: an estimate cannot be built without its floor.")
        if self.groups < 1 or min(self.n.values(), default=0) < 1:
            raise EvaluationError(f"{self.metric}: an estimate states how many images and groups it rests on.")
        if self.direction not in ("lower", "higher") or not self.protocol:
            raise EvaluationError(f"{self.metric}: an estimate states its direction and its protocol.")

    def to_json(self) -> dict[str, Any]:
        """As it stands in fidelity.json."""
        result: dict[str, Any] = {
            "kind": "estimate",
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": dict(self.n),
            "groups": self.groups,
            "floor": {"value": self.floor.value, "low": self.floor.low, "high": self.floor.high},
            "direction": self.direction,
            "protocol": self.protocol,
        }
        if self.yardstick is not None:
            result["yardstick"] = {"value": self.yardstick.value, "what": self.yardstick.what}
        if self.less_floor is not None:
            less = self.less_floor
            result["less_floor"] = {"value": less.value, "low": less.low, "high": less.high}
        if self.caveat is not None:
            result["caveat"] = self.caveat
        return result


@dataclass(frozen=True)
class Withheld:
    """Stands where a number would mislead, and says why there is none."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason:
            raise EvaluationError("what is withheld states its reason.")

    def to_json(self) -> dict[str, Any]:
        """As it stands in fidelity.json."""
        return {"kind": "withheld", "reason": self.reason}


def _check_interval(name: str, value: float, low: float, high: float) -> None:
    if not all(math.isfinite(number) for number in (value, low, high)) or not low <= value <= high:
        raise EvaluationError(f"{name}: {value} within [{low}, {high}] is no value with an interval around it.")
