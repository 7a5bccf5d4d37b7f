"""Images a second of the skin cGAN's training step: Synthoma against the same networks in Keras 3 on TensorFlow.

Each contestant is a process of its own that waits while another works; they take turns for several rounds, so that a
busy neighbour hurts all of them. Ours is `one_iteration` of the loop with everything it does (draws, batch, average of
the generator, watched values); Keras trains the same layers at the same batch with as many generator passes.

A turn during which other processes took more than a tenth of the cores is kept in the result but left out of the
figures, and more rounds are played until each contestant has its undisturbed turns (`--most-rounds` at the most).

    python benchmarks/train_step.py [--keras-python .venv-keras/bin/python] [--rounds 6] [--seconds 3]

Without `--keras-python` an environment `.venv-keras/` with `tensorflow-cpu` is made beside the project's on first use.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from noise_dataset import write_noise_dataset
from synthoma.run import environment

HERE = Path(__file__).parent
BATCH = 16
# Share of the cores that others may take during a turn that counts.
DISTURBED = 0.1
# Name -> (what it is, its program and arguments).
CONTESTANTS = {
    "ours fp32": ("our_step.py", "--precision", "fp32"),
    "keras fp32": ("keras_peer.py", "--style", "function", "--precision", "fp32"),
    "ours bf16": ("our_step.py", "--precision", "bf16"),
    "keras bf16": ("keras_peer.py", "--style", "function", "--precision", "bf16"),
    "ours auto": ("our_step.py", "--precision", "auto"),
    "keras fit fp32": ("keras_peer.py", "--style", "fit", "--precision", "fp32"),
}
# Name -> (ours, theirs, least ratio wanted). As shipped, ours is held against the faster style of Keras as it comes.
COMPARISONS = {
    "fp32 against fp32": ("ours fp32", ("keras fp32", "keras fit fp32"), 1.0),
    "bf16 against bf16": ("ours bf16", ("keras bf16",), 1.0),
    "as shipped against Keras as it comes": ("ours auto", ("keras fp32", "keras fit fp32"), 1.5),
}


class Contestant:
    """A worker process (see worker.py) and what it has measured so far."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name, self.rounds = name, list[dict[str, Any]]()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.description = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The worker '{self.name}' ended with code {self.process.wait()}; its message is above.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def work(self, seconds: float) -> None:
        """One turn; a row of fastest and median images a second, memory, load of the machine."""
        assert self.process.stdin is not None
        before = busy_seconds()
        self.process.stdin.write(json.dumps({"seconds": seconds}) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        steps, wall, processor = answer.pop("seconds"), answer.pop("wall"), answer.pop("processor")
        others = (busy_seconds() - before - processor) / (wall * (os.cpu_count() or 1))
        self.rounds.append(
            {
                "steps": len(steps),
                "images_per_second": round(BATCH / statistics.median(steps), 2),
                "images_per_second_fastest_step": round(BATCH / min(steps), 2),
                "load": round(os.getloadavg()[0], 2),
                "others_share": round(max(0.0, others), 3),
                **answer,
            }
        )

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    @property
    def quiet(self) -> list[dict[str, Any]]:
        """Turns that nobody disturbed."""
        return [row for row in self.rounds if row["others_share"] <= DISTURBED]

    def summary(self) -> dict[str, Any]:
        """The median turn, the best turn by its median, and the fastest step, of the turns that nobody disturbed.

        Where there was no such turn, of all turns; `quiet_turns` is then 0.
        """
        counted = self.quiet or self.rounds
        medians = [row["images_per_second"] for row in counted]
        result = {
            **self.description,
            "quiet_turns": len(self.quiet),
            "images_per_second_median": round(statistics.median(medians), 2),
            "images_per_second_best_round": max(medians),
            "images_per_second_fastest_step": max(row["images_per_second_fastest_step"] for row in counted),
            "peak_memory_mib": max(row["peak_memory_mib"] for row in self.rounds),
        }
        if "data_wait_share" in self.rounds[0]:
            result["data_wait_share"] = round(statistics.median(row["data_wait_share"] for row in counted), 5)
        return {**result, "rounds": self.rounds}


def busy_seconds() -> float:
    """Processor time that all processes of this machine have used, from Linux's /proc/stat; 0 elsewhere."""
    statistics_file = Path("/proc/stat")
    if not statistics_file.exists():
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, statistics_file.read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience: float) -> None:
    """Wait until others take no more than the tolerated share of the cores for a second, or `patience` seconds."""
    end = time.perf_counter() + patience
    while True:
        before, start = busy_seconds(), time.perf_counter()
        time.sleep(1.0)
        share = (busy_seconds() - before) / ((time.perf_counter() - start) * (os.cpu_count() or 1))
        if share <= DISTURBED or time.perf_counter() > end:
            return


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


@contextlib.contextmanager
def contestants(keras: Path, threads: int, patience: float) -> Iterator[dict[str, Contestant]]:
    """All workers, started one after another on a quiet machine (`auto` decides by a stopwatch); ended with the block."""
    started: dict[str, Contestant] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        dataset = write_noise_dataset(work / "dataset")
        rows = dataset.rows("train")
        np.save(work / "images.npy", dataset.images[rows])
        np.save(work / "labels.npy", dataset.labels[rows])
        try:
            for name, (program, *arguments) in CONTESTANTS.items():
                if program == "our_step.py":
                    command = [
                        sys.executable,
                        str(HERE / program),
                        *arguments,
                        "--work",
                        str(work / name.replace(" ", "-")),
                    ]
                else:
                    command = [str(keras), str(HERE / program), *arguments]
                    command += ["--images", str(work / "images.npy"), "--labels", str(work / "labels.npy")]
                wait_for_quiet(patience)
                started[name] = Contestant(name, [*command, "--threads", str(threads)])
            yield started
        finally:
            for contestant in started.values():
                contestant.end()


def play(workers: list[Contestant], wanted: int, most: int, seconds: float, patience: float) -> None:
    """Rounds of one turn each, until all have `wanted` undisturbed turns, or for `most` rounds."""
    for number in range(1, most + 1):
        for worker in workers:
            wait_for_quiet(patience)
            worker.work(seconds)
            row = worker.rounds[-1]
            print(
                f"round {number}  {worker.name:15s} {row['images_per_second']:7.1f} images/s  "
                f"load {row['load']}, others took {row['others_share']:.0%}",
                flush=True,
            )
        if all(len(worker.quiet) >= wanted for worker in workers):
            return


def compare(summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Ratios ours / theirs by median of rounds, best round and fastest step; theirs is the faster of its styles."""
    figures = ("images_per_second_median", "images_per_second_best_round", "images_per_second_fastest_step")
    result = {}
    for name, (ours, theirs, wanted) in COMPARISONS.items():
        ratios = {
            figure.removeprefix("images_per_second_"): round(
                summaries[ours][figure] / max(summaries[peer][figure] for peer in theirs), 3
            )
            for figure in figures
        }
        result[name] = {"ours": ours, "theirs": list(theirs), "wanted": wanted, "ratio": ratios}
    return result


def restrict_to_cores(count: int) -> None:
    """Keep this process and its workers on `count` cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    os.environ["OMP_NUM_THREADS"] = str(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--keras-python", type=Path, help="a Python that has TensorFlow; default: .venv-keras/, made if missing"
    )
    parser.add_argument("--rounds", type=int, default=6, help="undisturbed turns wanted of each contestant")
    parser.add_argument("--most-rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds to wait for a quiet machine before a turn"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "train_step.json")
    options = parser.parse_args()
    restrict_to_cores(options.threads)
    before = os.getloadavg()
    with contestants(keras_environment(options.keras_python), options.threads, options.patience) as workers:
        counts = {name: worker.description["parameters"] for name, worker in workers.items()}
        if len({json.dumps(count, sort_keys=True) for count in counts.values()}) != 1:
            raise SystemExit(f"The networks are not the same: {counts}")
        for worker in workers.values():
            worker.work(1.0)  # warm-up
            worker.rounds.clear()
        play(list(workers.values()), options.rounds, options.most_rounds, options.seconds, options.patience)
        summaries = {name: worker.summary() for name, worker in workers.items()}
    result = {
        "benchmark": "train_step",
        "date": time.strftime("%Y-%m-%d"),
        "recipe": "skin-cgan: 64x64x3, 9 classes, batch 16, one update of each network",
        "threads": options.threads,
        "load_before": [round(value, 2) for value in before],
        "load_note": "one-minute load average; one worker of two threads alone gives up to 2. others_share: of all cores, by other processes",
        "environment": environment(),
        "comparisons": compare(summaries),
        "contestants": summaries,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, comparison in result["comparisons"].items():  # type: ignore[attr-defined]
        print(f"{name}: {comparison['ratio']} (wanted {comparison['wanted']})")


if __name__ == "__main__":
    main()
