"""Canaries: training images that are shown far more often than others, so that the audit can be seen to find copies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from synthoma.evaluation.privacy.audit import Audit


@dataclass(frozen=True)
class Canaries:
    """How many of the canaries the audit found among the training images that were copied."""

    found: int
    total: int

    def to_json(self) -> dict[str, int]:
        return {"found": self.found, "total": self.total}


def find_canaries(audit: "Audit", rows: NDArray[np.int64]) -> Canaries:
    """How many of these rows of the dataset are the original of a confirmed copy."""
    copied = {pair.train_row for pair in audit.copies.pairs if pair.copy}
    return Canaries(len(copied & set(np.asarray(rows).tolist())), len(rows))
