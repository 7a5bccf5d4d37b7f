"""The privacy audit of a set of synthetic images: copies, closeness and attacks, with the controls of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.evaluation.privacy import copies as copying
from synthoma.evaluation.privacy.attacks import (
    MOST_IMAGES,
    Attacks,
    Closeness,
    Discriminator,
    attack_membership,
    measure_closeness,
)
from synthoma.evaluation.privacy.copies import Copies, Progress, find_copies
from synthoma.evaluation.privacy.plant import KINDS
from synthoma.evaluation.privacy.spaces import default_space
from synthoma.evaluation.privacy.thresholds import FALSE_RUNS
from synthoma.evaluation.protocol import Protocol, space_fields
from synthoma.metrics.correlation import SHIFT, SMOOTHING
from synthoma.metrics.similarity import Search, check_images
from synthoma.networks.features import Extractor

SCHEMA = 1
PRIVACY, PAIRS = "privacy.json", "pairs.json"  # what an audit leaves; the second is private
VERSION = 2  # raised when a figure or the way of searching changes


@dataclass(frozen=True)
class Audit:
    """What an audit found. `to_json` is for everybody; `pairs_json` names real images, and belongs in private/."""

    protocol: Protocol
    counts: dict[str, int]
    copies: Copies
    closeness: Closeness
    attacks: Attacks
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "protocol": self.protocol.to_json(),
            "counts": self.counts,
            "copies": self.copies.to_json(),
            "authenticity": self.closeness.authenticity.to_json(),
            "c_t": self.closeness.copying.to_json(),
            "membership": {name: result.to_json() for name, result in self.attacks.items()},
            "warnings": list(self.warnings),
        }

    def pairs_json(self) -> dict[str, Any]:
        """All confirmed copies and the most similar other pairs, the copies first."""
        pairs = self.copies.pairs
        shown = max(self.copies.found, copying.SHOWN)
        return {"schema": SCHEMA, "protocol": self.protocol.hash, "pairs": [pair.to_json() for pair in pairs[:shown]]}


def audit_images(
    train: ImageSet,
    holdout: ImageSet,
    synthetic: ImageSet,
    *,
    discriminator: Discriminator | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    search: Search | None = None,
) -> Audit:
    """Search synthetic images for copies of training images, and measure what they give away of who was trained on.

    holdout: real images that training never saw, of other patients. `discriminator(images)`: scores [n] of an image set, to
    show what leaks if one shipped it. `progress(what, done, total)`.
    Raises `EvaluationError` where the sets do not fit together, or held-out images are training images.
    """
    check_sets(train, holdout, synthetic)
    search = search or Search()
    space = default_space(train)
    found = find_copies(
        synthetic, train, holdout, seed=seed, space=space, cache=cache, search=search, progress=progress
    )
    if progress:
        progress("Measuring how close they lie", 0, 0)
    closeness = measure_closeness(synthetic, train, holdout, space, cache, seed)
    if progress:
        progress("Attacking", 0, 0)
    attacks = attack_membership(
        synthetic, train, holdout, cache=cache, seed=seed, discriminator=discriminator, search=search
    )
    counts = {
        "synthetic": len(synthetic),
        "train": len(train),
        "holdout": len(holdout),
        "groups_train": len(np.unique(train.groups)),
        "groups_holdout": len(np.unique(holdout.groups)),
    }
    protocol = protocol_of(train, holdout, synthetic, space, search, seed)
    return Audit(protocol, counts, found, closeness, attacks, tuple(_warnings(found, holdout)))


def shared_images(train: ImageSet, holdout: ImageSet) -> list[tuple[int, int]]:
    """Held-out images that are training images, pixel by pixel: (place in holdout, place in train)."""
    known = {pixel_hash(image[None]): place for place, image in enumerate(train.images)}
    hashes = ((place, pixel_hash(image[None])) for place, image in enumerate(holdout.images))
    return [(place, known[digest]) for place, digest in hashes if digest in known]


def check_sets(train: ImageSet, holdout: ImageSet, synthetic: ImageSet) -> None:
    """Raise `EvaluationError` unless the three sets can be audited together."""
    for name, images in (("training", train), ("held-out", holdout), ("synthetic", synthetic)):
        if not len(images):
            raise EvaluationError(
                f"there are no {name} images; an audit needs training, held-out and synthetic images."
            )
        if images.shape != train.shape:
            raise EvaluationError(
                f"the {name} images have shape {images.shape}, the training images {train.shape} (channels, size). Copies "
                "are sought pixel by pixel: prepare all images at the size of the synthetic ones (synthoma prepare)."
            )
        if images.images.dtype != train.images.dtype:
            raise EvaluationError(
                f"the {name} images are {images.images.dtype}, the training images {train.images.dtype}: their values do not "
                "mean the same. Export both in one encoding."
            )
        try:
            check_images(images.images)
        except EvaluationError as error:
            raise EvaluationError(f"among the {name} images: {error}") from error
    shared = shared_images(train, holdout)
    if shared:
        raise EvaluationError(
            f"{len(shared)} held-out images are training images, the first of them number {shared[0][0] + 1} of the "
            f"held-out and number {shared[0][1] + 1} of the training images. Held-out images are those that training never saw; "
            "remove them from one side."
        )
    if np.intersect1d(train.groups, holdout.groups).size:
        raise EvaluationError(
            "some patients or groups are in both the training and the held-out images; hold out whole patients."
        )


def protocol_of(
    train: ImageSet, holdout: ImageSet, synthetic: ImageSet, space: Extractor, search: Search, seed: int
) -> Protocol:
    """What the figures depend on; the synthetic images enter by their number only."""
    return Protocol(
        {
            "version": VERSION,
            "size": list(train.shape),
            "value_range": list(train.range),
            "train": train.content,
            "holdout": holdout.content,
            "n": {"synthetic": len(synthetic), "train": len(train), "holdout": len(holdout)},
            "at_most": MOST_IMAGES,
            "similarity": f"correlation of luma smoothed by {SMOOTHING:g} px over flips, turns and shifts of up to {SHIFT} px",
            "lead": "over the nearest training image of another patient",
            "search": {"shortlist": search.shortlist, "positions": search.positions},
            "copies_made_on_purpose": list(KINDS),
            "false_runs": FALSE_RUNS,
            "seed": seed,
            "space": space_fields(space),
            "space_of_attacks": "the same, fitted to the synthetic images",
        }
    )


def _warnings(found: Copies, holdout: ImageSet) -> Sequence[str]:
    thresholds, notes = found.thresholds, []
    if not thresholds.by_data:
        notes.append(
            f"There are only {thresholds.negatives} pairs of different patients: too few to set the threshold for copies by, "
            f"which is that of near-duplicates ({thresholds.similarity:.2f})."
        )
    if thresholds.overlap:
        weak = ", ".join(f"{share:.0%} of {kind} ones" for kind, share in thresholds.recall.items() if share < 1)
        notes.append(
            "Images of different patients resemble each other as much as some copies resemble their original. The threshold is "
            "the one that accuses new patients rarely, and some copies go unseen"
            + (f": of copies made on purpose it finds {weak}." if weak else ".")
        )
    if found.control[0]:
        notes.append(
            f"{found.control[0]} of {found.control[1]} held-out real images would be called copies too: real images of "
            "different patients or groups are the same picture, or nearly. Look for duplicates before you trust a verdict."
        )
    if found.flat:
        notes.append(f"{found.flat} synthetic images are of one brightness; they resemble nothing.")
    if len(np.unique(holdout.groups)) == len(holdout):
        notes.append(
            "Each held-out image counts as a patient of its own. Where several are of one patient, intervals are too narrow."
        )
    return notes
