"""One repetition of the null study of copies: real held-out images pose as synthetic ones, and none is a copy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from null_populations import Population, clopper_pearson, split_patients
from synthoma.evaluation.privacy.audit import check_sets
from synthoma.evaluation.privacy.copies import find_copies
from synthoma.evaluation.privacy.spaces import default_space

SETS = (280, 160, 200)  # at least so many images to train on, held out, and posing; whole patients
LIMIT = 0.10  # the upper 95 % limit of the share of runs that cry copy lies below


def repeat(population: Population, repetition: int) -> dict[str, Any]:
    """Another split into patients to train on, held-out ones and posing ones; then the search of the audit."""
    train, holdout, posing = split_patients(population, np.random.default_rng([repetition, 1]), SETS)
    check_sets(train, holdout, posing)
    found = find_copies(posing, train, holdout, seed=repetition, space=default_space(train))
    thresholds = found.thresholds
    return {  # the rows of pairs are for the scratch folder only
        "n": {"train": len(train), "holdout": len(holdout), "posing": len(posing)},
        "copies": found.found,
        "control": found.control[0],
        "similarity": thresholds.similarity,
        "largest": found.similarity[1],
        "by_data": thresholds.by_data,
        "overlap": thresholds.overlap,
        "recall": dict(thresholds.recall),
        "pairs": [[int(posing.rows[pair.synthetic]), pair.train_row] for pair in found.pairs if pair.copy],
    }


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many repetitions cried copy, with the limit; how many images; and what copies made on purpose were found."""
    cries, images = sum(row["copies"] > 0 for row in rows), sum(row["n"]["posing"] for row in rows)
    limit = clopper_pearson(cries, len(rows))[1]
    return {
        "repetitions": len(rows),
        "cry_copy": cries,
        "upper_95": limit,
        "passes": limit < LIMIT,
        "images_accused": sum(row["copies"] for row in rows),
        "images_posing": images,
        "distinct_pairs_accused": len({tuple(pair) for row in rows for pair in row["pairs"]}),
        "median_images": {side: float(np.median([row["n"][side] for row in rows])) for side in rows[0]["n"]},
        "median_threshold": float(np.median([row["similarity"] for row in rows])),
        "median_largest_similarity": float(np.median([row["largest"] for row in rows])),
        "thresholds_overlap": sum(row["overlap"] for row in rows),
        "mean_recall_of_copies_made_on_purpose": {
            kind: float(np.mean([row["recall"][kind] for row in rows])) for kind in rows[0]["recall"]
        },
    }
