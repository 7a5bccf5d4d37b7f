"""How many copies of training images the audit finds among real images of other patients, and how often it accuses these.

Real sets at 64 px. Images of patients whom training never saw pose as a generator's: half of the held-out patients, by
group; the other half are the audit's own held-out images. In their place copies of training images are planted, of every
kind at once: 0.1, 1 and 10 % of each (one at least), and in a search of its own none. Each repetition takes other halves
and other rows. The thresholds are set anew in each search, as in any audit; nothing is tuned here. The measure of
likeness was chosen on skin9 and pap_smear: chest_xray and lung_histology had no part in that.

A set is a folder that `synthoma prepare` wrote. Run, for each set (its rows replace those of an earlier run):
    python benchmarks/copies.py skin9=DIR pap_smear=DIR chest_xray=DIR lung_histology=DIR [--repetitions 4]
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from results import FOLDER, header, write_result
from synthoma.dataset import Dataset
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset, image_set_from_rows, pixel_hash
from synthoma.evaluation.privacy.copies import exact_interval, find_copies
from synthoma.evaluation.privacy.plant import KINDS, planted
from synthoma.run import read_json

RESULT = FOLDER / "copies.json"
SHARES = (0.0, 0.001, 0.01, 0.1)
MOST_TRAIN, MOST_POSING = 1200, 500  # images of a large set that enter: the search is linear in both


def halves(dataset: Dataset, seed: int) -> tuple[ImageSet, ImageSet]:
    """Two sets of held-out images (validation and test), by whole groups: (held out, posing)."""
    rows = np.flatnonzero(dataset.splits != "train")
    groups = np.unique(dataset.groups[rows])
    chosen = np.random.default_rng(seed).permutation(groups)[: len(groups) // 2]
    sides = np.isin(dataset.groups[rows], chosen)
    held, posing = rows[sides], rows[~sides]
    return (
        image_set_from_rows(dataset, held[:MOST_POSING], f"held/{seed}"),
        image_set_from_rows(dataset, posing[:MOST_POSING], f"posing/{seed}"),
    )


@dataclass(frozen=True)
class Planted:
    """A posing set with copies: kind -> (place in the set -> row of the dataset that the copy was made of)."""

    images: ImageSet
    truth: Mapping[str, Mapping[int, int]]


def plant(posing: ImageSet, train: ImageSet, share: float, random: np.random.Generator) -> Planted:
    """Copies of every kind in the place of so many posing images each; none for a share of 0."""
    images, truth = np.array(posing.images), {}
    count = max(1, round(share * len(posing))) if share else 0
    places = random.permutation(len(posing))
    for number, kind in enumerate(KINDS if count else ()):
        own = places[number * count : (number + 1) * count]
        rows = random.choice(len(train), count, replace=False)
        images[own] = planted(train.images[rows], train.range, int(random.integers(2**31)), [kind])[kind]
        of_dataset = rows if train.rows is None else train.rows[rows]
        truth[kind] = dict(zip(own.tolist(), of_dataset.tolist(), strict=True))
    groups = np.array([f"S{number}" for number in range(len(images))])
    made = ImageSet(images, posing.labels, posing.classes, groups, pixel_hash(images), posing.value_range)
    return Planted(made, truth)


class Recall:
    """Copies that were planted, those that were found, and those of them whose own original was named, not a twin of it."""

    def __init__(self) -> None:
        self.found = self.named = self.planted = 0

    def add(self, truth: Mapping[int, int], accused: Mapping[int, int]) -> None:
        self.planted += len(truth)
        self.found += sum(place in accused for place in truth)
        self.named += sum(accused.get(place) == row for place, row in truth.items())

    def to_json(self) -> dict[str, Any]:
        low, high = exact_interval(self.found, self.planted)
        counts = {"found": self.found, "named": self.named, "n": self.planted}
        return {"value": self.found / self.planted, "low": low, "high": high, **counts}


class Alarms:
    """Posing images that were called copies, and searches in which that happened."""

    def __init__(self) -> None:
        self.images = self.accused = self.searches = self.accusing = 0

    def add(self, made: Planted, accused: Mapping[int, int]) -> None:
        copies = {place for truth in made.truth.values() for place in truth}
        wrong = len(set(accused) - copies)
        self.images += len(made.images) - len(copies)
        self.accused += wrong
        self.searches += 1
        self.accusing += wrong > 0

    def to_json(self) -> dict[str, Any]:
        counts = {"accused": self.accused, "images": self.images, "searches_that_accuse": self.accusing}
        return {**counts, "searches": self.searches}


def study(folder: Path, repetitions: int) -> dict[str, Any]:
    """Recall by share and kind, and false alarms with and without planted copies, of one set."""
    dataset = Dataset.open(folder)
    train = image_set_from_dataset(dataset, "train")
    if len(train) > MOST_TRAIN:
        train = train.take(np.arange(MOST_TRAIN))
    recall = {share: {kind: Recall() for kind in KINDS} for share in SHARES if share}
    alarms, thresholds, sizes = {share: Alarms() for share in SHARES}, [], []
    for repetition in range(repetitions):
        held, posing = halves(dataset, repetition)
        sizes.append({"train": len(train), "held_out": len(held), "posing": len(posing)})
        random = np.random.default_rng(repetition)
        for share in SHARES:
            made = plant(posing, train, share, random)
            copies = find_copies(made.images, train, held, seed=repetition)
            accused = {pair.synthetic: pair.train_row for pair in copies.pairs if pair.copy}
            alarms[share].add(made, accused)
            for kind, truth in made.truth.items():
                recall[share][kind].add(truth, accused)
        thresholds.append({**copies.thresholds.to_json(), "control": list(copies.control)})
    return {
        "images": sizes,
        "recall": {f"{s:g}": {kind: one.to_json() for kind, one in of.items()} for s, of in recall.items()},
        "false_alarms": {f"{share:g}": one.to_json() for share, one in alarms.items()},
        "thresholds": thresholds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=DIR", help="prepared datasets at 64 px")
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    named = dict(one.split("=", 1) for one in arguments.sets)
    known = read_json(arguments.out)["sets"] if arguments.out.is_file() else {}
    for name, folder in named.items():
        start = time.perf_counter()
        known[name] = study(Path(folder), arguments.repetitions)
        known[name]["seconds"] = round(time.perf_counter() - start, 1)
        command = (
            f"python benchmarks/copies.py {' '.join(f'{n}=DIR' for n in known)} --repetitions {arguments.repetitions}"
        )
        write_result(arguments.out, {**header("copies"), "command": command, "sets": known})
        print(name, {kind: one["value"] for kind, one in known[name]["recall"]["0.1"].items()})
        print(name, "false alarms", known[name]["false_alarms"])


if __name__ == "__main__":
    main()
