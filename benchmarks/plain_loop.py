"""Every family's training step against the loop that most people start from, on the CPU.

That loop (plain_step.py) has a `DataLoader` with two workers, `torch.optim.Adam` as it comes, `.item()` after each
update, penalties by `autograd.grad` in passes of their own, and float32. It runs in two styles: `plain` with torch's own
layers and memory layout, and `ours` with our layers, so that only the loop differs. Ours is `one_iteration` as shipped:
`precision: auto`, with averaged generator and watched values. Networks, batch and numbers of updates are the same.

    python benchmarks/plain_loop.py [--families r3 pggan] [--sizes 32 32x32x32]

Each family's contestants take turns (turns.py); ours is held against the faster style.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from family_recipes import family_recipe, name_of
from noise_dataset import SKIN_IMAGES, noise_images
from our_step import VOLUMES
from results import FOLDER, HERE, header, write_result
from synthoma.families import FAMILIES
from synthoma.recipe import Recipe
from turns import play, ratios, restrict_to_cores, started

WANTED = 1.4
# Images of a batch, by number of axes.
BATCH = {2: 16, 3: 4}


def write_recipe(recipe: Recipe, path: Path) -> None:
    """A recipe as a file, as the workers read it."""
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True)), encoding="utf-8")


def hold(family: str, size: tuple[int, ...], options: argparse.Namespace) -> dict[str, Any]:
    """One family at one size: rates of the contestants and the ratio of ours to the faster plain one."""
    batch = BATCH[len(size)]
    recipe = family_recipe(family, size, batch)
    count = SKIN_IMAGES if len(size) == 2 else VOLUMES
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_recipe(recipe, work / "recipe.yaml")
        np.save(work / "images.npy", noise_images(count, 3 if len(size) == 2 else 1, size))
        np.save(work / "labels.npy", np.arange(count) % 9)
        common = ["--recipe", str(work / "recipe.yaml"), "--threads", str(options.threads)]
        data = ["--images", str(work / "images.npy"), "--labels", str(work / "labels.npy")]
        plain = [sys.executable, str(HERE / "plain_step.py"), *common, *data, "--style"]
        lines = {
            "ours as shipped": [sys.executable, str(HERE / "our_step.py"), *common, "--work", str(work / "session")],
            "plain": [*plain, "plain"],
            "plain, our layers": [*plain, "ours"],
        }
        with started(lines, batch * recipe.training.critic_steps, options.patience) as workers:
            play(workers, options.rounds, options.most_rounds, options.seconds, options.patience)
            summaries = {worker.name: worker.summary() for worker in workers}
    peers = ["plain", "plain, our layers"]
    return {
        "family": family,
        "size": name_of(size),
        "batch": batch,
        "critic_steps": recipe.training.critic_steps,
        "precision": summaries["ours as shipped"]["precision"],
        "wanted": WANTED,
        "ratio": ratios(summaries, "ours as shipped", peers),
        "ratio_by_peer": {peer: ratios(summaries, "ours as shipped", [peer]) for peer in peers},
        "contestants": summaries,
    }


def parse_size(text: str) -> tuple[int, ...]:
    """32 is 32x32; 16x16x16 is a cube."""
    axes = tuple(int(part) for part in text.split("x"))
    return axes * 2 if len(axes) == 1 else axes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=[(32, 32), (32, 32, 32)])
    parser.add_argument("--rounds", type=int, default=3, help="undisturbed turns wanted of each contestant")
    parser.add_argument("--most-rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn")
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds to wait for a quiet machine before a turn"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=FOLDER / "plain_loop.json")
    options = parser.parse_args()
    restrict_to_cores(options.threads)
    result: dict[str, Any] = {**header("plain_loop"), "threads": options.threads, "rows": []}
    for size in options.sizes:
        for family in options.families:
            row = hold(family, size, options)
            result["rows"].append(row)
            write_result(options.out, result)
            print(
                f"{family} {row['size']} in {row['precision']}: {row['ratio']['median']} (wanted {WANTED}), "
                f"{row['ratio_by_peer']['plain']['median']} against torch's layers",
                flush=True,
            )


if __name__ == "__main__":
    main()
