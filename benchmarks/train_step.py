"""Images a second of a training step: Synthoma against the same networks in Keras 3 on TensorFlow, on the CPU.

Two contests: the conditional GAN of `skin-cgan` (64x64 RGB, batch 16), and the 3D WGAN-GP of `lung-nodule-wgan-gp`
(64^3 voxels, here with batch 2; five critic updates with gradient penalty and one of the generator are one step).

Each contestant is a process of its own, and they take turns (turns.py). Ours is `one_iteration` of the loop with
everything it does (draws, batch, average of the generator, watched values); Keras trains the same layers at the same
batch with as many passes. More rounds are played until each contestant has its undisturbed turns.

    python benchmarks/train_step.py [--contest cgan wgan-gp-3d] [--keras-python .venv-keras/bin/python] [--rounds 6]

Without `--keras-python` an environment `.venv-keras/` with `tensorflow-cpu` is made beside the project's on first use.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noise_dataset import SKIN_IMAGES, noise_images
from our_step import VOLUMES
from results import FOLDER, HERE, header, write_result
from turns import play, ratios, restrict_to_cores, started


@dataclass(frozen=True)
class Contest:
    """A recipe at a batch, the styles of Keras that it is held against, and how long a turn takes."""

    recipe: str
    batch: int
    critic_steps: int
    shape: tuple[int, ...]
    count: int
    styles: tuple[str, ...]
    seconds: float
    what: str


CONTESTS = {
    "cgan": Contest(
        "skin-cgan",
        16,
        1,
        (3, 64, 64),
        SKIN_IMAGES,
        ("function", "fit"),
        3.0,
        "skin-cgan: 64x64x3, 9 classes, batch 16, one update of each network",
    ),
    "wgan-gp-3d": Contest(
        "lung-nodule-wgan-gp",
        2,
        5,
        (1, 64, 64, 64),
        VOLUMES,
        ("function",),
        12.0,
        "lung-nodule-wgan-gp: 64^3, batch 2, five critic updates with gradient penalty and one of the generator",
    ),
}
# Name -> (ours, kinds of theirs, least ratio wanted). As shipped, ours is held against the faster style of Keras.
COMPARISONS = {
    "fp32 against fp32": ("ours fp32", ("keras function fp32", "keras fit fp32"), 1.0),
    "bf16 against bf16": ("ours bf16", ("keras function bf16",), 1.0),
    "as shipped against Keras as it comes": ("ours auto", ("keras function fp32", "keras fit fp32"), 1.5),
}


def commands(contest_name: str, keras: Path, work: Path, threads: int) -> dict[str, list[str]]:
    """Contestant -> its command; writes the images that the peers read into `work`."""
    contest = CONTESTS[contest_name]
    np.save(work / "images.npy", noise_images(contest.count, contest.shape[0], contest.shape[1:]))
    np.save(work / "labels.npy", np.arange(contest.count) % 9)
    common = ["--threads", str(threads)]

    def ours(precision: str) -> list[str]:
        settings = [f"training.precision={precision}", f"training.batch={contest.batch}"]
        changes = [word for setting in settings for word in ("--set", setting)]
        place = str(work / f"ours-{precision}")
        return [
            sys.executable,
            str(HERE / "our_step.py"),
            "--recipe",
            contest.recipe,
            *changes,
            "--work",
            place,
            *common,
        ]

    def theirs(style: str, precision: str) -> list[str]:
        what = ["--contest", contest_name, "--style", style, "--precision", precision, "--batch", str(contest.batch)]
        data = ["--images", str(work / "images.npy"), "--labels", str(work / "labels.npy")]
        return [str(keras), str(HERE / "keras_peer.py"), *what, *data, *common]

    return {
        "ours fp32": ours("fp32"),
        "keras function fp32": theirs("function", "fp32"),
        "ours bf16": ours("bf16"),
        "keras function bf16": theirs("function", "bf16"),
        "ours auto": ours("auto"),
    } | ({"keras fit fp32": theirs("fit", "fp32")} if "fit" in contest.styles else {})


def keras_environment(wanted: Path | None) -> Path:
    """The Python of an environment with TensorFlow; `.venv-keras/` is made where none is given."""
    if wanted is not None:
        return wanted
    folder = HERE.parent / ".venv-keras"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"Making {folder.name}/ with tensorflow-cpu (about 1 GB)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "tensorflow-cpu"], check=True)
        (folder / "complete").touch()
    return python


def compare(summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Ratios ours / theirs of each comparison, against those styles that took part."""
    result = {}
    for name, (ours, styles, wanted) in COMPARISONS.items():
        theirs = [style for style in styles if style in summaries]
        ratio = ratios(summaries, ours, theirs)
        result[name] = {"ours": ours, "theirs": theirs, "wanted": wanted, "ratio": ratio}
    return result


def hold(name: str, keras: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One contest from the first warm-up to its ratios."""
    contest = CONTESTS[name]
    seconds = options.seconds or contest.seconds
    with tempfile.TemporaryDirectory() as temporary:
        lines = commands(name, keras, Path(temporary), options.threads)
        with started(lines, contest.batch * contest.critic_steps, options.patience) as workers:
            play(workers, options.rounds, options.most_rounds, seconds, options.patience)
            summaries = {worker.name: worker.summary() for worker in workers}
    return {"what": contest.what, "comparisons": compare(summaries), "contestants": summaries}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contest", nargs="+", choices=tuple(CONTESTS), default=list(CONTESTS))
    parser.add_argument(
        "--keras-python", type=Path, help="a Python that has TensorFlow; default: .venv-keras/, made if missing"
    )
    parser.add_argument("--rounds", type=int, default=6, help="undisturbed turns wanted of each contestant")
    parser.add_argument("--most-rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, help="length of a turn; left out: 3 in 2D, 12 in 3D")
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds to wait for a quiet machine before a turn"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=FOLDER / "train_step.json")
    options = parser.parse_args()
    restrict_to_cores(options.threads)
    keras = keras_environment(options.keras_python)
    result: dict[str, Any] = {
        **header("train_step"),
        "threads": options.threads,
        "note": "load: one-minute average; one worker of two threads alone gives up to 2. "
        "others_share: of all cores, by other processes. Images are real ones shown to the discriminator.",
        "contests": {},
    }
    for name in options.contest:
        result["contests"][name] = held = hold(name, keras, options)
        write_result(options.out, result)
        for comparison, row in held["comparisons"].items():
            print(f"{name}, {comparison}: {row['ratio']} (wanted {row['wanted']})", flush=True)


if __name__ == "__main__":
    main()
