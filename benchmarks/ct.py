"""CT: reading a DICOM series, augmenting cubes, and a thousand nodules out of a hundred volumes.

    python benchmarks/ct.py [--parts augment reading nodules]

augment  affine, elastic deformation and noise of a cube of 64^3 with its mask, a sample at a time on one thread, against
         TorchIO and MONAI. MONAI's grid distortion, which is no elastic deformation and resamples twice, stands beside.
reading  a series of 200 slices of 512x512: ours from the folder to the voxels, with all checks of the geometry, against
         SimpleITK's reader (which has none) and highdicom's strict one; files are in the cache of the system
batch    the same augmentation of batches of 32 cubes as training does it, on `--device` (cuda: the GPU line)
nodules  cubes of 64^3 around a thousand nodules of a hundred phantom volumes, with two workers: time, and the peak of
         memory against that of ten volumes

Contestants are processes that take turns (turns.py). The peers live in `.venv-peers-ct/`, which is made on first use.
Each part that is run replaces itself in the result file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from results import FOLDER, HERE, header, write_result
from synthoma.draws import StepDraws
from synthoma.formats.volumes import Geometry
from synthoma.transforms.deform import DeformationRanges, draw_deformation, resample_batch
from turns import Contestant, play, ratios

PEERS = ("torchio==1.2.1", "monai==1.6.1", "highdicom==0.28.2", "SimpleITK==2.5.7", "pydicom==3.0.2")
SLICES, SIDE = 200, 512
WANTED = {"torchio": 5.0, "monai": 5.0, "simpleitk": 1 / 1.6, "highdicom": 5.0}
VOLUMES, NODULES = 100, 10
KEEP_ALL = ("--set", "ct.indeterminate=keep")


def peer_environment(wanted: Path | None) -> Path:
    """The Python of an environment with the peers; `.venv-peers-ct/` is made where none is given."""
    if wanted is not None:
        return wanted
    folder = HERE.parent / ".venv-peers-ct"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"Making {folder.name}/ with TorchIO, MONAI and highdicom (about 1 GB)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"torch=={version('torch')}", *PEERS]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return python


def hold(lines: Mapping[str, Sequence[str]], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Contestants of one thread from their start to their summaries; a step is one cube or one series."""
    contestants: list[Contestant] = []
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        contestants.extend(Contestant(name, command, 1) for name, command in lines.items())
        play(contestants, options.rounds, options.most_rounds, options.seconds, options.patience)
        return {contestant.name: contestant.summary() for contestant in contestants}
    finally:
        for contestant in contestants:
            contestant.end()


def workers(own: Sequence[str], peers: Sequence[str], place: Sequence[str], python: Path) -> dict[str, list[str]]:
    """Command lines of our styles and of the peers'."""
    lines = {name: [sys.executable, str(HERE / "ct_ours.py"), "--style", name, *place] for name in own}
    return lines | {name: [str(python), str(HERE / "ct_peer.py"), "--style", name, *place] for name in peers}


def augment(work: Path, python: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Cubes a second."""
    random = np.random.default_rng(0)
    places = np.indices((64, 64, 64)) - 31.5
    mask = ((places**2).sum(axis=0) < 12**2).astype(np.uint8)
    image = (random.normal(-850, 40, mask.shape) + 880.0 * mask).astype(np.float32)
    np.savez(work / "cube.npz", image=image, mask=mask)
    peers = ("torchio", "torchio-two", "monai", "monai-grid")
    summaries = hold(
        workers(("augment-float", "augment-hu"), peers, ("--cube", str(work / "cube.npz")), python), options
    )
    return {
        "contestants": summaries,
        "ratios": {
            f"{own} / {name}": ratios(summaries, own, theirs)
            for own in ("augment-float", "augment-hu")
            for name, theirs in (
                ("torchio", ("torchio", "torchio-two")),
                ("monai", ("monai",)),
                ("monai-grid", ("monai-grid",)),
            )
        },
        "wanted": {name: WANTED[name] for name in ("torchio", "monai")},
    }


def reading(work: Path, python: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Series a second; all three give the same voxels."""
    from synthoma.formats.volumes.dicom_write import DicomSeries, write_dicom_series

    folder = work / "series"
    random = np.random.default_rng(0)
    hu = random.integers(-1024, 1500, (SLICES, SIDE, SIDE), dtype=np.int16)
    write_dicom_series(
        folder, hu, Geometry(hu.shape, (1.0, 0.7, 0.7)), series=DicomSeries("Phantom-1", "Phantom^One", 1)
    )
    summaries = hold(workers(("reading",), ("simpleitk", "highdicom"), ("--series", str(folder)), python), options)
    return {
        "contestants": summaries,
        "ratios": {name: ratios(summaries, "reading", (name,)) for name in ("simpleitk", "highdicom")},
        "wanted": {name: WANTED[name] for name in ("simpleitk", "highdicom")},
    }


def batch(work: Path, python: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Cubes a second in batches of 32, image and mask, parameters drawn anew for each."""
    device = torch.device(options.device)
    ranges = DeformationRanges(elastic=4.0, noise=(0.0, 20.0))
    volumes = torch.randint(-1000, 400, (32, 1, 64, 64, 64), dtype=torch.int16, device=device)
    masks = (volumes > 0).to(torch.uint8)

    def step(number: int) -> None:
        draws = StepDraws(0, number, torch.arange(32))
        resample_batch(volumes, masks, draw_deformation(ranges, draws, (64, 64, 64)))
        if device.type == "cuda":
            torch.cuda.synchronize()

    for number in range(2):
        step(number)
    seconds = []
    while len(seconds) < 5 or sum(seconds) < options.seconds:
        start = time.perf_counter()
        step(len(seconds))
        seconds.append(time.perf_counter() - start)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "cubes_per_second": round(32 / statistics.median(seconds), 1),
    }


def nodules(work: Path, python: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak memory of `synthoma cut` for ten volumes and for all."""
    from synthoma.phantoms.ct import write_ct_phantoms

    data = work / "phantoms"
    start = time.perf_counter()
    print(write_ct_phantoms(data, volumes=VOLUMES, nodules=(NODULES, NODULES), seed=3))
    drawn = time.perf_counter() - start
    few = work / "few"
    few.mkdir()
    for patient in sorted((data / "images").iterdir())[: VOLUMES // 10]:
        (few / patient.name).symlink_to(patient)
    marks = data / "marks" / "lidc"
    runs = {
        name: cut(folder, marks, work / f"cuts-{name}") for name, folder in (("ten", few), ("all", data / "images"))
    }
    return {
        "volumes": VOLUMES,
        "seconds_to_draw_them": round(drawn, 1),
        **runs,
        "memory_ratio": round(runs["all"]["peak_memory_mib"] / runs["ten"]["peak_memory_mib"], 3),
    }


def cut(data: Path, marks: Path, out: Path) -> dict[str, Any]:
    """One run of the command with two workers: seconds, cubes, and the largest sum of memory of its processes."""
    command = ["-m", "synthoma", "cut", "lung-nodule-r3", "--data", str(data), "--marks", str(marks), "--out", str(out)]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command, "--workers", "2", "--json", *KEEP_ALL], stdout=subprocess.PIPE, text=True
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, family_memory(process.pid))
        time.sleep(0.1)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"synthoma cut ended with code {process.returncode}")
    assert process.stdout is not None
    volumes = json.loads(process.stdout.read())["volumes"]
    return {
        "volumes": len(volumes),
        "cubes": sum(volume["taken"] for volume in volumes),
        "seconds": round(seconds, 1),
        "peak_memory_mib": peak >> 20,
    }


def family_memory(pid: int) -> int:
    """Bytes that a process and those that it started keep for themselves (proportional share of what they share)."""
    total, waiting = 0, [pid]
    while waiting:
        own = waiting.pop()
        try:
            for line in Path(f"/proc/{own}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
            for task in Path(f"/proc/{own}/task").iterdir():
                waiting.extend(int(child) for child in (task / "children").read_text().split())
        except (OSError, ProcessLookupError):
            continue  # it has ended meanwhile
    return total


PARTS = {"augment": augment, "batch": batch, "reading": reading, "nodules": nodules}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--peer-python", type=Path, help="a Python that has the peers already")
    parser.add_argument("--device", default="cpu", help="of the part batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most-rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--patience", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=FOLDER / "ct.json")
    options = parser.parse_args()
    parts = options.parts
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    python = peer_environment(options.peer_python) if {"augment", "reading"} & set(parts) else Path(sys.executable)
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            measured = PARTS[part](Path(folder), python, options)
        result[part] = {**header("ct"), **measured}
        write_result(options.out, result)


if __name__ == "__main__":
    main()
