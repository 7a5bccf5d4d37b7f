"""What a number depends on besides the images, and the rule that only numbers of one protocol are compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet
from synthoma.metrics.estimate import Estimate
from synthoma.metrics.estimation import LEAST_GROUPS, MAX_IMAGES
from synthoma.metrics.prdc import NEIGHBOURS
from synthoma.metrics.resampling import CONFIDENCE
from synthoma.networks.features import Extractor
from synthoma.recipe import EvaluationSection, content_hash

VERSION = 3  # raised when a metric or the way of sampling changes


@dataclass(frozen=True)
class Protocol:
    """Fields that two evaluations must share for their numbers to be put side by side."""

    fields: Mapping[str, Any]

    @property
    def hash(self) -> str:
        return content_hash(dict(self.fields))

    def in_space(self, extractor: Extractor) -> str:
        """Hash of the protocol of one feature space, which does not depend on what other spaces were measured."""
        common = {key: value for key, value in self.fields.items() if key != "spaces"}
        return content_hash({**common, "space": space_fields(extractor)})

    def to_json(self) -> dict[str, Any]:
        return {"hash": self.hash, **self.fields}


def space_fields(extractor: Extractor) -> dict[str, Any]:
    """What is declared of a feature space; its hash covers the weights."""
    return {
        "extractor": extractor.hash,
        "preprocessing": extractor.preprocessing,
        "dimension": extractor.dimension,
        "licence": extractor.licence,
    }


def make_protocol(
    synthetic: ImageSet,
    test: ImageSet,
    train: ImageSet,
    section: EvaluationSection,
    extractors: Mapping[str, Extractor],
    yardstick: str,
) -> Protocol:
    """The protocol of an evaluation; the synthetic images enter by their number only."""
    return Protocol(
        {
            "version": VERSION,
            "size": list(test.shape),
            "value_range": list(test.range),
            "reference": test.content,
            "floor": train.content,
            "n": {"synthetic": len(synthetic), "test": len(test), "train": len(train)},
            "at_most": MAX_IMAGES,
            "kid": "unbiased, kernel (x.y/d + 1)^3, all images, pairs within a patient or group left out",
            "matched": "all but KID: as many synthetic images as the floor has training images, mean over draws",
            "neighbours": NEIGHBOURS,
            "interval": f"{CONFIDENCE:.0%}, half-samples of whole groups without replacement, at least {LEAST_GROUPS}",
            "subsamples": section.subsamples,
            "floors": section.floors,
            "seed": section.seed,
            "yardstick": yardstick,
            "spaces": {name: space_fields(extractor) for name, extractor in extractors.items()},
        }
    )


def check_comparable(first: Estimate | Mapping[str, Any], second: Estimate | Mapping[str, Any]) -> None:
    """Raise `EvaluationError` unless two estimates (or their JSON) were made under one protocol."""
    hashes = [value.protocol if isinstance(value, Estimate) else value.get("protocol") for value in (first, second)]
    if hashes[0] is None or hashes[0] != hashes[1]:
        raise EvaluationError(
            f"the two numbers were measured under different protocols ({hashes[0]} and {hashes[1]}): another "
            "reference, feature space, number of images or way of sampling. They "
            "cannot be compared; evaluate both in the same way."
        )
