"""Real images of patients whom training never saw pose as a generator: what its privacy and fidelity rules say of the ideal.

The patients of one prepared dataset are dealt anew into three: training images, posing images (in the place of synthetic ones),
and test images, which the posing ones are compared with. Then `synthoma evaluate`, `audit` and `gate` are done as with a
model: the same functions, the default margins. Several deals, for one says little.

Left out: the rule of utility (it takes the place of a generator in the study of the classifier) and that of the licence (it
is about the data, not about the images). Each deal has to be large enough: without a copy among n images a rate of 3/n cannot
be excluded, so that `gate.copy_rate` = 0.01 asks for 301 posing images.
Run: python benchmarks/posing.py NAME=DATASET [...] [--deals 3]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results import FOLDER, header, write_result
from synthoma.dataset import Dataset
from synthoma.evaluation.fidelity import evaluate_fidelity
from synthoma.evaluation.gate_rules import Ruling, judge_all
from synthoma.evaluation.imagesets import ImageSet, image_set_from_rows
from synthoma.evaluation.privacy.audit import audit_images
from synthoma.gate_settings import GateSection
from synthoma.recipe import EvaluationSection
from synthoma.run import read_json

RESULT = FOLDER / "posing.json"
SHARES = (0.33, 0.415)  # of the images: training, posing; the rest is the test set
MOST = 1500  # images of a large set that are dealt
LEFT_OUT = ("utility", "licence")


def deal(dataset: Dataset, seed: int) -> tuple[ImageSet, ImageSet, ImageSet]:
    """All images by whole groups into training, posing and test, of each class about the same share."""
    random = np.random.default_rng(seed)
    names, first, sizes = np.unique(dataset.groups, return_index=True, return_counts=True)
    order = random.permutation(len(names))
    shares, counts, of_group = np.array([*SHARES, 1 - sum(SHARES)]), np.zeros(3), {}
    # Class after class, each group to the side that lacks most.
    for number in order[np.argsort(dataset.labels[first[order]], kind="stable")]:
        side = int(np.argmax(shares * (counts.sum() + sizes[number]) - counts))
        counts[side] += sizes[number]
        of_group[str(names[number])] = side
    sides = np.array([of_group[group] for group in dataset.groups.tolist()])
    keep = np.sort(random.permutation(len(sides))[:MOST])
    return tuple(_set(dataset, keep[sides[keep] == number], f"{seed}/{number}") for number in range(3))  # type: ignore[return-value]


def _set(dataset: Dataset, rows: NDArray[np.int64], name: str) -> ImageSet:
    return image_set_from_rows(dataset, rows, f"{dataset.content_hash}/posing/{name}")


def judged(dataset: Dataset, seed: int) -> tuple[dict[str, int], list[Ruling]]:
    """What the gate says of posing images."""
    train, posing, test = deal(dataset, seed)
    section = EvaluationSection(spaces=["randconv"])
    fidelity = evaluate_fidelity(posing, test, train, section)
    privacy = audit_images(train, test, posing, seed=seed).to_json()
    # Through JSON, as the gate reads them.
    results = (json.loads(json.dumps(one, allow_nan=False)) for one in (privacy, fidelity))
    rulings = judge_all(*results, None, {}, GateSection())
    sizes = {"train": len(train), "posing": len(posing), "test": len(test)}
    return sizes, [ruling for ruling in rulings if ruling.rule not in LEFT_OUT]


def study(folder: Path, deals: Sequence[int]) -> list[dict[str, Any]]:
    dataset, rows = Dataset.open(folder), []
    for seed in deals:
        sizes, rulings = judged(dataset, seed)
        rows.append({"seed": seed, "images": sizes, "rules": [ruling.to_json() for ruling in rulings]})
        for ruling in rulings:
            print(f"deal {seed}: {ruling.rule}: {ruling.verdict}. {ruling.why}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=DIR", help="prepared datasets")
    parser.add_argument("--deals", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    known = read_json(arguments.out)["sets"] if arguments.out.is_file() else {}
    for name, folder in (one.split("=", 1) for one in arguments.sets):
        known[name] = study(Path(folder), range(arguments.deals))
        command = f"python benchmarks/posing.py {' '.join(f'{one}=DIR' for one in known)} --deals {arguments.deals}"
        margins = GateSection().model_dump(mode="json")
        found = {"command": command, "margins": margins, "left_out": list(LEFT_OUT), "sets": known}
        write_result(arguments.out, {**header("posing"), **found})


if __name__ == "__main__":
    main()
