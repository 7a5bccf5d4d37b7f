"""A recipe's stages in order: prepare, train, evaluate, report. Cached by content; what every face calls.

Each stage takes the folder that the earlier one left, so a person, a pipeline on another machine and a test all enter
by the same door. A stage's key is its version, the part of the recipe that it depends on, and the hashes of its inputs.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from synthoma import training
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError, EvaluationError, SynthomaError, TrainingError
from synthoma.evaluation.fidelity import evaluate_fidelity
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset, image_set_of_generated
from synthoma.evaluation.neighbours import nearest_training
from synthoma.evaluation.studies import write_studies
from synthoma.formats.cuts import SETTINGS as CUTS
from synthoma.formats.manifest import manifest_hash
from synthoma.formats.tiles import SETTINGS
from synthoma.model import Model
from synthoma.preparation import PreparationResult, prepare
from synthoma.preparation.ct.detect import holds_ct, require_ct
from synthoma.preparation.slides.detect import holds_slides, require_slides
from synthoma.preparation.slides.summary import describe_tiles, keep_slides
from synthoma.recipe import Recipe, content_hash
from synthoma.report import model_card, write_report
from synthoma.run import Run, file_sha256, read_json, write_atomically, write_json
from synthoma.sources import keep_terms, open_source
from synthoma.training.checkpoint import checkpoint_folders
from synthoma.training.session import is_same_data
from synthoma.training.start import prepare_run, read_recipe
from synthoma.training.world import join_world

if TYPE_CHECKING:
    from synthoma.preparation.ct.cut import CutResult
    from synthoma.preparation.slides.tiles import TilesResult

# Raised when what a stage writes changes its meaning, so that older results are made anew.
VERSIONS = {"prepare": 2, "train": 2, "evaluate": 3, "report": 3}
NEIGHBOURS_SHOWN = 32


class Observer(Protocol):
    """What a face shows of a running workflow."""

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def row(self, row: dict[str, Any], total_images: int) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What a workflow did: the stages that ran and those whose results were up to date."""

    run: Run
    ran: list[str]
    skipped: list[str]


def prepare_dataset(
    recipe: Recipe,
    data: Path,
    out: Path,
    observer: Observer,
    groups: Path | None = None,
    workers: int | None = None,
    annotations: Path | None = None,
    marks: Path | None = None,
) -> PreparationResult:
    """Read raw files into a dataset folder, and say what happened to them.

    Whole slides are cut into tiles beside it first, CT volumes into cubes or slices.
    """
    if holds_slides(data, recipe, annotations):
        tiles = out.with_name(f"{out.name}-tiles")
        cut_tiles(recipe, data, tiles, observer, annotations=annotations, groups=groups, workers=workers)
        data, groups = tiles, None
    elif marks is not None or holds_ct(data, recipe):
        cuts = out.with_name(f"{out.name}-cuts")
        cut_ct(recipe, data, cuts, observer, marks=marks, groups=groups, workers=workers)
        data, groups = cuts, None
    source = open_source(data, recipe.source, groups)
    result = prepare(
        source, recipe, out, workers=workers, progress=lambda done, total: observer.progress("Preparing", done, total)
    )
    if (data / SETTINGS).is_file():
        keep_slides(data, out)
    for note in result.notes:
        observer.say(note)
    for warning in result.warnings:
        observer.warn(warning)
    return result


def cut_tiles(
    recipe: Recipe,
    data: Path,
    out: Path,
    observer: Observer,
    *,
    annotations: Path | None = None,
    groups: Path | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> "TilesResult":
    """Cut whole slides into a folder of tiles, and say what came of them; slides that are done are left alone."""
    require_slides()
    from synthoma.preparation.slides.tiles import cut_slides, find_slides

    slides = find_slides(data, recipe, annotations, groups)
    result = cut_slides(
        slides,
        recipe,
        out,
        workers=workers or len(os.sched_getaffinity(0)),
        shard=shard,
        progress=lambda done, total: observer.progress("Cutting slides", done, total),
    )
    keep_terms(data, out)
    notes, warnings = describe_tiles(result, slides.patients)
    for note in notes:
        observer.say(note)
    for warning in warnings:
        observer.warn(warning)
    return result


def cut_ct(
    recipe: Recipe,
    data: Path,
    out: Path,
    observer: Observer,
    *,
    marks: Path | None = None,
    groups: Path | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
    key_file: Path | None = None,
) -> "CutResult":
    """Cut CT volumes into a folder of cubes or slices, and say what came of them; volumes that are done are left alone.

    key_file: of the pseudonyms' key; None for the one in the user's own configuration.
    """
    require_ct()
    from synthoma.preparation.ct.cut import cut_volumes
    from synthoma.preparation.ct.find import find_volumes
    from synthoma.preparation.ct.summary import describe_cuts

    volumes = find_volumes(
        data,
        recipe,
        marks,
        groups,
        key_file=key_file,
        progress=lambda done, total: observer.progress("Looking into files", done, total),
    )
    result = cut_volumes(
        volumes,
        recipe,
        out,
        workers=workers or len(os.sched_getaffinity(0)),
        shard=shard,
        progress=lambda done, total: observer.progress("Cutting volumes", done, total),
    )
    notes, warnings = describe_cuts(result)
    for note in notes:
        observer.say(note)
    for warning in warnings:
        observer.warn(warning)
    return result


def train_run(recipe: Recipe, dataset: Path, out: Path, observer: Observer) -> Model:
    """Begin a run on a prepared dataset, or go on with it. Under `torchrun` all processes train it together."""
    run = Run(out)
    opened = Dataset.open(dataset)
    world = join_world(recipe.training.device)
    with world.locked(run):
        if world.first:
            prepare_run(run, recipe)
            remember_dataset(run, dataset)
        world.wait()
        return training.train(run, opened, observer, world)


def resume_run(path: Path, observer: Observer) -> Model:
    """Go on with a run from its newest checkpoint. Under `torchrun` all processes train it together."""
    run = Run(path)
    world = join_world(read_recipe(run).training.device)
    return training.train(run, run_dataset(run), observer, world)


def run_recipe(
    recipe: Recipe,
    data: Path | None,
    out: Path,
    observer: Observer,
    *,
    dataset: Path | None = None,
    groups: Path | None = None,
    annotations: Path | None = None,
    marks: Path | None = None,
    workers: int | None = None,
) -> Outcome:
    """All stages from raw files (`data`) or a prepared dataset to the report; those that are up to date are skipped.

    Raises `TrainingError` under `torchrun`: only training is done by several processes.
    """
    if join_world(recipe.training.device).count > 1:
        raise TrainingError(
            "only training runs in several processes: prepare the data first (synthoma prepare), then start "
            "torchrun ... -m synthoma train RECIPE --dataset DIR --out RUN, then synthoma evaluate and synthoma report."
        )
    run = Run(out)
    with run.locked():
        beside = _Beside(groups, annotations, marks)
        return _run_stages(run, recipe, data, observer, dataset, beside, workers)


@dataclass(frozen=True)
class _Beside:
    """Files that the user gave beside the raw data."""

    groups: Path | None
    annotations: Path | None
    marks: Path | None

    def __iter__(self) -> Iterator[Path]:
        return (path for path in (self.groups, self.annotations, self.marks) if path is not None)


def _run_stages(
    run: Run,
    recipe: Recipe,
    data: Path | None,
    observer: Observer,
    dataset: Path | None,
    beside: _Beside,
    workers: int | None,
) -> Outcome:
    prepare_run(run, recipe)
    stages = _Stages(run)
    if dataset is None:
        if data is None:
            raise DatasetError("give --data PATH with the raw files, or --dataset DIR with a prepared dataset.")
        dataset = run.own_dataset
        _prepare_stage(stages, recipe, data, observer, beside, workers)
    remember_dataset(run, dataset)
    opened = Dataset.open(dataset)
    key = content_hash([VERSIONS["train"], recipe.part_hash("preparation", "model", "training"), opened.content_hash])
    stages.run("train", key, lambda: training.train(run, opened, observer), present=(run.model / "model.json").exists())
    _evaluate_stage(stages, recipe, opened, observer)
    _report_stage(stages, opened, observer)
    return Outcome(run, stages.ran, stages.skipped)


def evaluate_run(path: Path, observer: Observer, weights: Sequence[Path] = ()) -> dict[str, Any]:
    """Measure the model of a run against the frozen test split; leaves evaluation/fidelity.json.

    weights: files of further feature extractors, beside those that the recipe names.
    """
    run = Run(path)
    recipe = read_recipe(run)
    files = [*recipe.evaluation.weights, *map(str, weights)]
    section = recipe.evaluation.model_copy(update={"weights": files})
    with run.locked():
        _evaluate(run, recipe.model_copy(update={"evaluation": section}), run_dataset(run), observer)
    result: dict[str, Any] = read_json(run.evaluation / "fidelity.json")
    return result


def report_run(path: Path) -> tuple[Path, Path]:
    """Write both reports and the model card from the run's files."""
    run = Run(path)
    read_recipe(run)
    with run.locked():
        return _report(run, run_dataset(run))


def remember_dataset(run: Run, dataset: Path) -> None:
    """Write down, in the run's private folder, where its dataset lies."""
    own = dataset.resolve() == run.own_dataset.resolve()
    write_json(run.private / "dataset.json", {"path": "dataset" if own else str(dataset.resolve())})


def run_dataset(run: Run) -> Dataset:
    """The dataset of a run; refused unless it is the very one, with the very split, that the run was trained on."""
    remembered = run.private / "dataset.json"
    path = run.path / read_json(remembered)["path"] if remembered.exists() else run.own_dataset
    dataset = Dataset.open(path)
    if run.training_file.exists() and not is_same_data(dataset, read_json(run.training_file)):
        raise DatasetError(f"{path} is not the dataset that {run.path} was trained on, or its split was changed.")
    return dataset


class _Stages:
    """The run's memory of what was done, by key."""

    def __init__(self, run: Run) -> None:
        self.of = run
        self.ran: list[str] = []
        self.skipped: list[str] = []

    def known(self) -> dict[str, str]:
        return dict(read_json(self.of.stages_file)) if self.of.stages_file.exists() else {}

    def run(self, name: str, key: str, work: Callable[[], object], present: bool) -> None:
        """Do the work unless it was done under this key and its result is still there."""
        if present and self.known().get(name) == key:
            self.skipped.append(name)
            return
        work()
        write_json(self.of.stages_file, {**self.known(), name: key})
        self.ran.append(name)


def _prepare_stage(
    stages: _Stages,
    recipe: Recipe,
    data: Path,
    observer: Observer,
    beside: _Beside,
    workers: int | None,
) -> None:
    run = stages.of
    if not data.exists():
        raise SynthomaError(f"{data} does not exist; --data takes a folder or a file with images.")
    observer.progress("Reading", 0, 0)
    inputs = manifest_hash([data, *beside], run.private / "inputs.json")
    wanted = [recipe.model.conditions, recipe.model.when_absent]
    sections = ["source", "preparation", "data"]
    # How slides or volumes are cut concerns these only.
    if holds_slides(data, recipe, beside.annotations):
        sections.append("slides")
    elif (data / CUTS).is_file() or holds_ct(data, recipe):
        sections.append("ct")
    key = content_hash([VERSIONS["prepare"], recipe.part_hash(*sections), wanted, inputs])
    present = (run.own_dataset / "dataset.json").exists()
    if present and stages.known().get("prepare") != key and checkpoint_folders(run.checkpoints):
        raise DatasetError(
            f"The files in {data}, or how they are to be prepared, changed since {run.path} was begun. A model is never trained on "
            "two versions of its data; use another --out."
        )
    stages.run(
        "prepare",
        key,
        lambda: prepare_dataset(
            recipe, data, run.own_dataset, observer, beside.groups, workers, beside.annotations, beside.marks
        ),
        present,
    )


def _evaluate_stage(stages: _Stages, recipe: Recipe, dataset: Dataset, observer: Observer) -> None:
    run = stages.of
    weights = [file_sha256(Path(file)) for file in recipe.evaluation.weights if Path(file).is_file()]
    key = content_hash(
        [
            VERSIONS["evaluate"],
            recipe.part_hash("evaluation"),
            read_json(run.model / "model.json")["model_hash"],
            dataset.content_hash,
            weights,
        ]
    )
    stages.run(
        "evaluate", key, lambda: _evaluate(run, recipe, dataset, observer), (run.evaluation / "fidelity.json").exists()
    )


def _report_stage(stages: _Stages, dataset: Dataset, observer: Observer) -> None:
    run = stages.of
    # All that was measured, whatever command measured it.
    files = [
        run.recipe_file,
        run.training_file,
        run.stats_file,
        *sorted(run.evaluation.glob("*.json")),
        run.model / "model.json",
    ]
    key = content_hash(
        [VERSIONS["report"], dataset.content_hash, *[file_sha256(file) for file in files if file.exists()]]
    )
    observer.progress("Reporting", 0, 0)
    stages.run("report", key, lambda: _report(run, dataset), (run.path / "report.html").exists())


def _evaluate(run: Run, recipe: Recipe, dataset: Dataset, observer: Observer) -> None:
    """Generate, measure against the test split, find nearest training images; write all of it."""
    if not (run.model / "model.json").exists():
        raise EvaluationError(f"{run.path} has no model yet; train it first: synthoma train {run.path} --resume")
    section = recipe.evaluation
    model = Model.load(run.model)
    observer.say(f"Generating {section.count * section.seeds} images for the evaluation.")
    synthetic, *replicas = (
        synthetic_set(model, dataset, section.count, section.seed + number) for number in range(section.seeds)
    )
    run.evaluation.mkdir(parents=True, exist_ok=True)
    train, test = image_set_from_dataset(dataset, "train"), image_set_from_dataset(dataset, "test")
    result = evaluate_fidelity(
        synthetic,
        test,
        train,
        section,
        cache=run.private / "features",
        weights=[Path(file) for file in section.weights],
        progress=lambda done, total: observer.progress("Evaluating", done, total),
        replicas=replicas,
    )
    for warning in result["warnings"]:
        observer.warn(warning)
    neighbours = nearest_training(synthetic, train, cache=run.private / "features", top=NEIGHBOURS_SHOWN)
    _save_npz(run.evaluation / "synthetic.npz", images=np.asarray(synthetic.images), labels=synthetic.labels)
    write_json(run.private / "neighbours.json", neighbours)
    write_json(run.evaluation / "fidelity.json", {**result, "model_hash": model.hash})
    write_studies(
        run,
        dataset,
        synthetic,
        test,
        train,
        section,
        model.hash,
        lambda done, total: observer.progress("Further studies", done, total),
    )


def synthetic_set(model: Model, dataset: Dataset, count: int, seed: int) -> ImageSet:
    """Generated images as a set that can be measured; each is a group of its own."""
    samples = model.generate(count, seed=seed)
    # A model without classes has -1 everywhere; class indices of the model are those of its dataset.
    return image_set_of_generated(samples.images, samples.labels, dataset, content_hash([model.hash, seed, count]))


def _report(run: Run, dataset: Dataset) -> tuple[Path, Path]:
    pages = write_report(run, dataset)
    if (run.model / "model.json").exists():
        write_atomically(run.model / "README.md", model_card(run))
    return pages


def _save_npz(path: Path, **arrays: Any) -> None:
    aside = path.with_name(f".{path.name}.part.npz")
    np.savez_compressed(aside, **arrays)
    aside.replace(path)


__all__: Sequence[str] = [
    "Observer",
    "Outcome",
    "evaluate_run",
    "prepare_dataset",
    "report_run",
    "resume_run",
    "run_recipe",
    "train_run",
]
