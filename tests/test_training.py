"""The loop: clock, events, exact resume, and what stops it."""

import json
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from family_fixture import small_family
from make_dataset import Silent, make_dataset
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError, RecipeError, TrainingError
from synthoma.objectives.batch import Batch
from synthoma.recipe import Recipe
from synthoma.run import Run, file_sha256
from synthoma.training import Interrupted, loop, prepare_run, train, validation
from synthoma.training.batches import BatchStream
from synthoma.training.checkpoint import checkpoint_folders
from synthoma.training.images import RealImages
from synthoma.training.schedules import Moment, Schedules


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small_recipe(family: str = "cgan", **training: object) -> Recipe:
    return small_family(family, **training)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "blobs", count=160)


def train_once(folder: Path, dataset: Dataset, recipe: Recipe | None = None) -> tuple[Run, Silent]:
    run, observer = Run(folder), Silent()
    prepare_run(run, recipe or small_recipe())
    train(run, dataset, observer)
    return run, observer


def last_sums(run: Run) -> dict[str, str]:
    """SHA-256 of each tensor file of the last checkpoint."""
    folder = checkpoint_folders(run.checkpoints)[-1]
    return {file.name: file_sha256(file) for file in sorted(folder.glob("*.safetensors"))}


@pytest.fixture(scope="module")
def finished(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_once(tmp_path_factory.mktemp("runs") / "straight", dataset)[0]


def test_a_run_leaves_what_it_promises(finished: Run) -> None:
    for name in (
        "recipe.yaml",
        "environment.json",
        "stats.jsonl",
        "training.json",
        "samples/progress.gif",
        "model/model.json",
    ):
        assert (finished.path / name).is_file(), name
    assert [int(path.stem) for path in sorted(finished.samples.glob("*.png"))] == [0, 160, 320, 480]
    assert [int(path.name) for path in checkpoint_folders(finished.checkpoints)] == [160, 320, 480]
    ticks = [row for row in finished.stats() if row["kind"] == "tick"]
    assert [row["images_seen"] for row in ticks] == [64, 128, 192, 256, 320, 384, 448, 480]
    assert all(0 < row["d_real"] < 1 for row in ticks)
    assert json.loads(finished.training_file.read_text())["finished"] is True
    assert {file.name for file in finished.model.iterdir()} == {"generator.safetensors", "model.json", "README.md"}


def test_interrupted_and_resumed_equals_uninterrupted(
    finished: Run, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between checkpoints, in the middle of a tick, twice: every bit and every logged mean is the same."""
    run = Run(tmp_path / "stopped")
    prepare_run(run, small_recipe())
    plain = loop.one_iteration
    for stop_at in (208, 400):

        def stopping(session: loop.Session, stop_at: int = stop_at) -> None:
            plain(session)
            if session.state.counters.images_seen == stop_at:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(loop, "one_iteration", stopping)
        with pytest.raises(Interrupted, match="--resume"):
            train(run, dataset, Silent())
        assert int(checkpoint_folders(run.checkpoints)[-1].name) == stop_at
    monkeypatch.setattr(loop, "one_iteration", plain)
    train(run, dataset, Silent())
    assert last_sums(run) == last_sums(finished)
    assert (run.model / "generator.safetensors").read_bytes() == (finished.model / "generator.safetensors").read_bytes()
    drop = ("seconds", "images_per_second", "data_wait_share", "memory_mib")
    rows = [[{k: v for k, v in row.items() if k not in drop} for row in r.stats()] for r in (run, finished)]
    assert rows[0] == rows[1]


def test_what_came_after_the_checkpoint_is_cut_off(finished: Run, dataset: Dataset, tmp_path: Path) -> None:
    """As after a kill: logs and samples that are ahead of the newest checkpoint, and a half-written line."""
    folder = tmp_path / "killed"
    shutil.copytree(finished.path, folder)
    run = Run(folder)
    shutil.rmtree(run.checkpoints / "000000480")
    with run.stats_file.open("a") as file:
        file.write('{"kind": "tick", "images_s')
    train(run, dataset, Silent())
    assert last_sums(run) == last_sums(finished)
    assert [row["images_seen"] for row in run.stats()] == [row["images_seen"] for row in finished.stats()]


def test_a_longer_run_goes_on_with_a_shorter_one(finished: Run, dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    shutil.copytree(finished.path, folder)
    longer, _ = train_once(folder, dataset, small_recipe(kimg=0.64))
    straight, _ = train_once(tmp_path / "straight", dataset, small_recipe(kimg=0.64))
    assert last_sums(longer) == last_sums(straight)


@pytest.mark.parametrize(
    ("needed", "why"), [(1, "the run ended before a validation"), (100, "too few validation images to choose")]
)
def test_a_release_says_why_no_checkpoint_was_chosen(
    needed: int, why: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "LEAST_FOR_BEST", needed)
    monkeypatch.setattr(loop, "validate", lambda session, target: None)
    run, _ = train_once(tmp_path / "run", dataset, small_recipe(kimg=0.064))
    assert json.loads(run.training_file.read_text())["released"]["why"] == f"last average ({why})"


def test_seeds_differ_and_paths_do_not_matter(finished: Run, dataset: Dataset, tmp_path: Path) -> None:
    again, _ = train_once(tmp_path / "a" / "deeper" / "place", dataset)
    other, _ = train_once(tmp_path / "seed", dataset, small_recipe(seed=1))
    assert last_sums(again) == last_sums(finished)
    assert last_sums(other) != last_sums(finished)


def test_changed_settings_are_refused_by_name(finished: Run) -> None:
    with pytest.raises(RecipeError, match=r"training\.batch, training\.learning_rate differ.*training\.kimg"):
        prepare_run(finished, small_recipe(batch=32, learning_rate=1e-3))


def test_another_dataset_is_refused(finished: Run, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", count=128)
    with pytest.raises(DatasetError, match="another dataset"):
        train(finished, other, Silent())


def test_a_dataset_of_another_size_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    recipe = small_recipe().model_copy(
        update={"preparation": small_recipe().preparation.model_copy(update={"size": 32})}
    )
    run = Run(tmp_path / "run")
    prepare_run(run, recipe)
    with pytest.raises(DatasetError, match="16x16 with 3 channel"):
        train(run, dataset, Silent())


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    prepare_run(run, small_recipe())
    plain = loop.one_iteration

    def poisoned(session: loop.Session) -> None:
        plain(session)
        if session.state.counters.images_seen == 240:
            with torch.no_grad():
                next(session.family.discriminator.parameters()).fill_(float("nan"))

    monkeypatch.setattr(loop, "one_iteration", poisoned)
    with pytest.raises(TrainingError, match=r"no number any more at 0\.256 kimg.*last good checkpoint is 000000160"):
        train(run, dataset, Silent())
    assert [int(path.name) for path in checkpoint_folders(run.checkpoints)] == [160]


def test_weights_that_are_no_number_are_never_saved(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    prepare_run(run, small_recipe(tick_kimg=100))
    plain = loop.one_iteration

    def poisoned(session: loop.Session) -> None:
        plain(session)
        if session.state.counters.images_seen == 160:
            with torch.no_grad():
                next(session.family.generator.parameters()).fill_(float("inf"))

    monkeypatch.setattr(loop, "one_iteration", poisoned)
    monkeypatch.setattr(loop, "validate", lambda session, target: None)
    monkeypatch.setattr(loop, "draw_samples", lambda session: None)
    with pytest.raises(TrainingError, match="weight of the generator is no number"):
        train(run, dataset, Silent())
    assert checkpoint_folders(run.checkpoints) == []


def test_a_run_belongs_to_one_thread_at_a_time(dataset: Dataset, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    prepare_run(run, small_recipe(kimg=0.032))
    errors: list[Exception] = []

    def other() -> None:
        try:
            train(run, dataset, Silent())
        except TrainingError as error:
            errors.append(error)

    with run.locked():
        worker = threading.Thread(target=other)
        worker.start()
        worker.join()
        assert len(errors) == 1
        assert "in use by another" in str(errors[0])
        train(run, dataset, Silent())  # the holder itself may go on
    with run.locked():
        pass


def test_training_works_off_the_main_thread(dataset: Dataset, tmp_path: Path) -> None:
    """A web page trains in a thread, where signals cannot be listened to."""
    worker = threading.Thread(target=train_once, args=(tmp_path / "run", dataset, small_recipe("dcgan", kimg=0.032)))
    worker.start()
    worker.join()
    assert (tmp_path / "run" / "model" / "model.json").exists()


def stream(dataset: Dataset, resident: bool = True, **training: object) -> BatchStream:
    recipe = small_recipe(**training)  # type: ignore[arg-type]
    reals = RealImages(dataset, torch.device("cpu"), recipe.model)
    if not resident:
        reals.resident = None
    codes = torch.eye(len(dataset.classes))[reals.labels]
    return BatchStream(reals, recipe, codes)


def drawn(stream: BatchStream, update: int) -> Batch:
    moment = Moment(stream.training.batch, None, 1.0, gamma=1.0, strength=1.0, blend=None)
    return stream.batch(update, moment, {})


def test_batches_are_addressed_by_update(dataset: Dataset) -> None:
    one, two = stream(dataset), stream(dataset)
    later = drawn(one, 77)
    for update in (0, 31, 32, 77):
        batch = drawn(two, update)
    assert torch.equal(batch.real, later.real)
    assert torch.equal(batch.z, later.z)
    assert not torch.equal(drawn(one, 76).z, later.z)


def test_processes_share_a_batch_by_sample_number(dataset: Dataset) -> None:
    whole = drawn(stream(dataset), 5)
    for rank in range(2):
        other = stream(dataset)
        other.rank, other.world = rank, 2
        share = drawn(other, 5)
        assert torch.equal(share.real, whole.real[rank * 8 : rank * 8 + 8])
        assert torch.equal(share.z, whole.z[rank * 8 : rank * 8 + 8])
        assert torch.equal(share.fake_conditions, whole.fake_conditions[rank * 8 : rank * 8 + 8])


def test_more_processes_than_images_are_refused(dataset: Dataset) -> None:
    crowded = stream(dataset)
    crowded.world = 32
    with pytest.raises(RecipeError, match="16 images cannot be shared evenly by 32 processes"):
        drawn(crowded, 0)


def test_memory_mapped_images_equal_resident_ones(dataset: Dataset) -> None:
    assert torch.equal(drawn(stream(dataset), 5).real, drawn(stream(dataset, resident=False), 5).real)


def test_only_training_images_are_shown_in_the_range_of_the_networks(dataset: Dataset) -> None:
    shown = drawn(stream(dataset), 3).real
    assert shown.min() >= -1
    assert shown.max() <= 1
    train_rows = torch.from_numpy(dataset.images[dataset.rows("train")].astype(np.float32) / 127.5 - 1).flatten(1)
    distances = torch.cdist(shown.flatten(1), train_rows, compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(dim=1).values.max() < 1e-3


def test_balanced_sampling_draws_classes_alike(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=240, classes=3)
    labels = data.labels.copy()
    rows = data.rows("train")
    labels[rows[: len(rows) * 4 // 5]] = 0  # four fifths of the training images are of one class
    data.__dict__["labels"] = labels
    shares = {}
    for balanced in (False, True):
        batches = stream(data, balanced=balanced, batch=64)
        codes = torch.cat([drawn(batches, update).conditions for update in range(40)])
        shares[balanced] = codes.mean(dim=0)
    assert shares[False][0] > 0.7
    assert (shares[True] - 1 / 3).abs().max() < 0.05


def test_soft_labels_stay_in_their_interval_and_mirror_flips_half(dataset: Dataset) -> None:
    batches = stream(dataset, real_labels=[0.85, 1.0], fake_labels=[0.0, 0.15], symmetries="mirror")
    plain = stream(dataset)
    soft = torch.stack([torch.stack([drawn(batches, u).soft_real, drawn(batches, u).soft_fake]) for u in range(64)])
    assert 0.85 <= soft[:, 0].min() < 0.88 < 0.97 < soft[:, 0].max() <= 1
    assert 0 <= soft[:, 1].min() < 0.03 < 0.12 < soft[:, 1].max() <= 0.15
    pairs = [(drawn(batches, u).real, drawn(plain, u).real) for u in range(64)]
    flipped = torch.cat([(one != other).flatten(1).any(dim=1) for one, other in pairs])
    assert 0.4 < flipped.float().mean() < 0.6
    one, other = pairs[0]
    assert torch.equal(one[~flipped[:16]], other[~flipped[:16]])
    assert torch.equal(one[flipped[:16]], other[flipped[:16]].flip(-1))


def test_conditions_fade_in_where_labels_are_blended(dataset: Dataset) -> None:
    recipe = small_recipe(label_blend_kimg=[1, 3])
    schedules = Schedules(recipe, None, (16, 16))
    assert [schedules.at(images).blend for images in (0, 1000, 2000, 3000, 9000)] == [0, 0, 0.5, 1, 1]
    batches = stream(dataset)
    half = batches.batch(0, schedules.at(2000), {})
    assert torch.equal(half.conditions, drawn(batches, 0).conditions * 0.5)


def test_tensorboard_events_hold_the_rows(dataset: Dataset, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run, _ = train_once(tmp_path / "run", dataset, small_recipe(kimg=0.128, tensorboard=True))
    events = accumulator.EventAccumulator(str(run.path / "tensorboard")).Reload()
    ticks = [row for row in run.stats() if row["kind"] == "tick"]
    logged = events.Scalars("tick/loss_generator")
    assert [event.step for event in logged] == [row["images_seen"] for row in ticks]
    assert logged[-1].value == pytest.approx(ticks[-1]["loss_generator"], rel=1e-6)
