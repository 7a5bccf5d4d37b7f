"""The feature space of the audit."""

from synthoma.evaluation.imagesets import ImageSet, ValueRange
from synthoma.networks.features import Extractor, build_extractor


def default_space(reference: ImageSet, value_range: ValueRange | None = None) -> Extractor:
    """Random convolutional features decorrelated by `reference`; plain where its images do not differ.

    Of training images this is the space that fidelity is measured in too, so that its cached features serve.
    """
    images = reference.images
    differ = len(images) >= 3 and any((image != images[0]).any() for image in images)
    return build_extractor(
        "randconv",
        reference.shape[0],
        len(reference.shape) - 1,
        reference=images if differ else None,
        value_range=value_range or reference.range,
        reference_key=reference.content,
    )
