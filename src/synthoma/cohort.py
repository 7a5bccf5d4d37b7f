"""The frozen split: which patient (or group) is in train, val or test, decided before anything is trained."""

import hashlib
from collections.abc import Sequence

from synthoma.errors import DatasetError

SPLITS = ("train", "val", "test")


def cohort_hash(contents: Sequence[str], groups: Sequence[str], splits: Sequence[str]) -> str:
    """Hash that freezes a split: SHA-256 over the sorted (content hash, group, split) of all images, 16 hex digits."""
    lines = sorted("\t".join(row) for row in zip(contents, groups, splits, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def check_cohort(
    contents: Sequence[str], groups: Sequence[str], splits: Sequence[str], frozen: str, where: str
) -> None:
    """Raise `DatasetError` unless every group is in one split and the split is the one that was frozen."""
    unknown = set(splits) - set(SPLITS)
    if unknown:
        raise DatasetError(f"{where}: unknown split {sorted(unknown)}; expected {', '.join(SPLITS)}.")
    split_of: dict[str, str] = {}
    for group, split in zip(groups, splits, strict=True):
        if split_of.setdefault(group, split) != split:
            raise DatasetError(
                f"{where}: group {group} is in both {split_of[group]} and {split}. The split was changed after it was "
                "frozen; prepare the data again."
            )
    if cohort_hash(contents, groups, splits) != frozen:
        raise DatasetError(
            f"{where}: the split is not the one that was frozen when the data were prepared. Whatever is measured on it "
            "would be worth nothing; prepare the data again."
        )
