"""Which image sets can be compared at all, and what a reader must know before reading the numbers."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet

FEW_GROUPS = 10
_BLOCK = 256


def check_sets(synthetic: ImageSet, test: ImageSet, train: ImageSet) -> None:
    """Refuse sets that cannot be compared, broken images, and a test set that shares patients with the training set."""
    for other in (synthetic, train):
        if other.shape != test.shape:
            raise EvaluationError(
                f"the images differ in shape: {_shape(other)} and {_shape(test)}. Metrics compare images of one "
                "size and number of channels; prepare the real images at the synthetic images' size (synthoma prepare), and "
                "give the dataset."
            )
    if len(synthetic) and synthetic.images.dtype != test.images.dtype:
        raise EvaluationError(
            f"the synthetic images are {synthetic.images.dtype}, the real ones {test.images.dtype}: their values "
            "do not mean the same. Export both in one encoding."
        )
    if np.intersect1d(test.groups, train.groups).size:
        raise EvaluationError(
            "some patients or groups are in both the training and the test images; prepare the data again."
        )
    if len(synthetic) == 0:
        raise EvaluationError("there are no synthetic images to measure.")
    for name, images in (("synthetic", synthetic), ("test", test), ("training", train)):
        broken = not_finite(images)
        if broken:
            raise EvaluationError(
                f"{broken} of the {len(images)} {name} images hold values that are not finite (NaN or infinite); leave "
                "them out, or find out why they are broken."
            )


def not_finite(images: ImageSet) -> int:
    """How many images hold a value that is not finite; whole numbers always are."""
    if not np.issubdtype(images.images.dtype, np.inexact):
        return 0
    blocks = (images.images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK))
    return sum(int((~np.isfinite(block).reshape(len(block), -1).all(axis=1)).sum()) for block in blocks)


def constant_images(images: ImageSet) -> NDArray[np.bool_]:
    """Which images have one value in all pixels of each channel: [n]."""
    found = [np.zeros(0, dtype=np.bool_)]
    for start in range(0, len(images), _BLOCK):
        block = np.asarray(images.images[start : start + _BLOCK])
        flat = block.reshape(*block.shape[:2], -1)
        found.append((flat.min(axis=2) == flat.max(axis=2)).all(axis=1))
    return np.concatenate(found)


def shared_images(first: ImageSet, second: ImageSet) -> int:
    """How many images of `first` are in `second` too. Images of one value (blank ones) do not count."""
    digests = {
        digest for digest, blank in zip(image_digests(second), constant_images(second), strict=True) if not blank
    }
    return sum(digest in digests for digest in image_digests(first))


def image_digests(images: ImageSet) -> list[bytes]:
    """A digest of the pixels of each image."""
    return [hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest() for image in images.images]


def withheld_reason(test: ImageSet, train: ImageSet) -> str | None:
    """Why there is nothing that anything can be compared with, or None."""
    if not (len(test) and len(train)):
        return (
            "there is no independent test set: the data have too few patients or groups for any to be kept apart from training "
            "(a class is split from three on)"
        )
    for name, images in (("test", test), ("training", train)):
        first = np.asarray(images.images[0])
        if len(images) > 1 and all(np.array_equal(first, image) for image in images.images[1:]):
            return f"all {name} images are the same: there is nothing to compare with"
    shared = shared_images(test, train)
    if shared:
        return (
            f"{shared} of the {len(test)} test images are training images too, pixel by pixel: the reference is not "
            "independent (remove the duplicates, or prepare the data again: synthoma prepare leaves exact ones out)"
        )
    return None


def class_names(synthetic: ImageSet, test: ImageSet) -> list[str]:
    """Classes to report by themselves: those of the real images, where both sides have labels."""
    labelled = bool((synthetic.labels >= 0).any()) and bool((test.labels >= 0).any())
    return list(test.classes) if labelled and len(test.classes) > 1 else []


def warnings_of(synthetic: ImageSet, test: ImageSet, names: Sequence[str], reason: str | None) -> list[str]:
    """What a reader must know before reading the numbers."""
    if reason:
        return [reason[0].upper() + reason[1:] + "."]
    warnings = []
    groups = len(np.unique(test.groups))
    if groups < FEW_GROUPS:
        warnings.append(
            f"The test images come from {groups} patients or groups only: the intervals are wide for that reason."
        )
    if not names and len(test.classes) > 1:
        warnings.append("The synthetic images have no labels: there are no numbers by class.")
    missing = [name for name in names if len(synthetic.rows_of(name)) == 0]
    if missing:
        warnings.append(f"No synthetic image of {', '.join(missing)}.")
    own = [name for name in synthetic.classes if names and name not in names and len(synthetic.rows_of(name))]
    if own:
        warnings.append(f"No real image of {', '.join(own)}: these synthetic images count in the whole only.")
    blank = int(constant_images(synthetic).sum())
    if blank:
        warnings.append(f"{blank} of the {len(synthetic)} synthetic images have one value in all pixels.")
    repeated = len(synthetic) - len(Counter(image_digests(synthetic)))
    if repeated:
        warnings.append(f"{repeated} of the {len(synthetic)} synthetic images are exact repetitions of others.")
    return warnings


def _shape(images: ImageSet) -> str:
    channels, *size = images.shape
    return f"{' x '.join(str(n) for n in size)} with {channels} channel{'s' if channels > 1 else ''}"
