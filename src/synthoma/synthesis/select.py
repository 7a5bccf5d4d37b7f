"""Chosen synthetic images in a folder of their own, with the reasons for those that were not chosen."""

import hashlib
import io
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError
from synthoma.evaluation.folders import read_folder
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset
from synthoma.evaluation.utility.refusals import refuse_other_data
from synthoma.model import Model
from synthoma.run import Run, aside_folder, file_sha256, write_json
from synthoma.synthesis.candidates import QUESTIONS, Measured, Progress, SelectionSettings, measure_candidates
from synthoma.synthesis.write_images import MANIFEST, write_images

REJECTED = "rejected.parquet"
SUMMARY = "selection.json"
_REASONS = {
    "label": "a classifier trained on real images doubts the class",
    "typicality": "it is farther from the real images of its class than others are",
    "privacy": "it is closer to a real training image than others are",
}


@dataclass(frozen=True)
class Selected:
    """What `select_images` did. kept, asked: images by class; reasons: refused images by question (an image may have several)."""

    folder: Path
    kept: dict[str, int]
    asked: dict[str, int]
    reasons: dict[str, int]
    limits: dict[str, dict[str, float]]


def select_from(
    source: Path,
    dataset: Dataset,
    out: Path,
    settings: SelectionSettings,
    *,
    count: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Selected:
    """`select_images` of a folder of generated images, or of `count` images that a run's model makes for it."""
    if (source / MANIFEST).is_file():
        return select_images(source, dataset, out, settings, progress)
    folder = Run(source).model
    if not (folder / "model.json").is_file():
        raise EvaluationError(
            f"{source} is neither a run with a model nor a folder of generated images (no {MANIFEST}); `synthoma generate` writes one."
        )
    model = Model.load(folder)
    refuse_other_data(model.info, dataset)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as aside:
        candidates = Path(aside) / "candidates"
        done = 0

        def tell(number: int) -> None:
            nonlocal done
            done += number
            if progress:
                progress("Generating", done, count)

        write_images(model, candidates, count, seed=seed, progress=tell)
        return select_images(candidates, dataset, out, settings, progress)


def select_images(
    candidates: Path,
    dataset: Dataset,
    out: Path,
    settings: SelectionSettings | None = None,
    progress: Progress | None = None,
) -> Selected:
    """Copy the images of `candidates` (a folder that `write_images` wrote) that pass into `out`, a new folder.

    `out` gets the images as they are, with their masks and their rows of manifest.parquet; rejected.parquet, with the
    measures and the reasons of all others; and selection.json with limits and counts. Raises `EvaluationError` where
    the folder or the data do not allow it.
    """
    settings = settings or SelectionSettings()
    if out.exists():
        raise EvaluationError(f"{out} exists already; selected images go into a new folder.")
    rows = _read_manifest(candidates)
    train, validation = (image_set_from_dataset(dataset, split) for split in ("train", "val"))
    made = read_folder(candidates)
    if len(made) != len(rows):
        raise EvaluationError(f"{candidates / MANIFEST} lists {len(rows)} images, and {len(made)} of them are there.")
    measured = measure_candidates(made, train, validation, settings, progress)
    return _write(candidates, out, rows, made, measured, dataset)


def _read_manifest(folder: Path) -> list[dict[str, Any]]:
    """Rows of the manifest in the order in which `read_folder` reads the files; refuse a folder that was changed."""
    if not (folder / MANIFEST).is_file():
        raise EvaluationError(
            f"{folder} holds no {MANIFEST}: it is no folder of generated images. `synthoma generate` writes one."
        )
    rows: list[dict[str, Any]] = pq.read_table(folder / MANIFEST).to_pylist()
    rows.sort(key=lambda row: Path(row["file"]))
    for row in rows:
        file = folder / row["file"]
        if not file.is_file() or file_sha256(file) != row["sha256"]:
            raise EvaluationError(
                f"{file} is missing or was changed after it was generated; generate the images again."
            )
    return rows


def _write(
    source: Path, out: Path, rows: list[dict[str, Any]], made: ImageSet, measured: Measured, dataset: Dataset
) -> Selected:
    """The new folder, whole or not at all."""
    fine = np.logical_and.reduce([measured.passed[question] for question in QUESTIONS])
    if not fine.any():
        raise EvaluationError(
            f"none of the {len(rows)} synthetic images passes. The model is not good enough yet, or its images are copies; "
            "`synthoma evaluate` and `synthoma audit` tell which."
        )
    kept = [row for row, passes in zip(rows, fine, strict=True) if passes]
    selected = Selected(
        out,
        dict(sorted(Counter(row["class"] for row in kept).items())),
        dict(sorted(Counter(row["class"] for row in rows).items())),
        {question: int((~measured.passed[question]).sum()) for question in QUESTIONS},
        measured.limits,
    )
    schema = pq.read_schema(source / MANIFEST)
    with aside_folder(out) as aside:
        for row in kept:
            for name in filter(None, (row["file"], row["mask"])):
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, aside / name)
        _write_table(aside / MANIFEST, pa.Table.from_pylist(kept, schema=schema))
        _write_table(aside / REJECTED, _rejected_table(rows, measured, fine))
        write_json(
            aside / SUMMARY,
            {
                "schema": 1,
                "dataset": {"content": dataset.content_hash, "cohort": dataset.cohort_hash},
                "asked": selected.asked,
                "kept": selected.kept,
                "rejected": selected.reasons,
                "limits": selected.limits,
                "classifier": measured.classifier,
                "content": hashlib.sha256("".join(sorted(row["sha256"] for row in kept)).encode()).hexdigest()[:16],
            },
        )
    return selected


def _rejected_table(rows: list[dict[str, Any]], measured: Measured, fine: NDArray[np.bool_]) -> pa.Table:
    """file, class, reason, and the measures: a row for each image that was not kept."""
    columns: dict[str, list[Any]] = {name: [] for name in ("file", "class", "reason", *QUESTIONS)}
    for place in np.flatnonzero(~fine).tolist():
        failed = [_REASONS[question] for question in QUESTIONS if not measured.passed[question][place]]
        columns["file"].append(rows[place]["file"])
        columns["class"].append(rows[place]["class"])
        columns["reason"].append("; ".join(failed))
        for question in QUESTIONS:
            columns[question].append(float(getattr(measured.made, question)[place]))
    types = {"file": pa.string(), "class": pa.string(), "reason": pa.string()}
    return pa.table({name: pa.array(values, types.get(name, pa.float64())) for name, values in columns.items()})


def _write_table(path: Path, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    path.write_bytes(buffer.getvalue())
