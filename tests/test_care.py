"""What a run does about the findings of its health watch: goes on, ends usable, or goes back and on more slowly."""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from family_fixture import small_family
from make_dataset import Silent, make_dataset, smooth_images
from synthoma.cli.console import ConsoleObserver
from synthoma.dataset import Dataset
from synthoma.errors import TrainingError
from synthoma.model import Model
from synthoma.recipe import Recipe
from synthoma.run import Run, file_sha256
from synthoma.training import loop, prepare_run, train
from synthoma.training.checkpoint import checkpoint_folders
from synthoma.training.health import Finding, Health
from synthoma.training.validation import Validator

SIZE = (8, 8)
FOUND = Finding("divergence", "It runs away.", "Slow down.", "grave")


def recipe_with(action: str = "warn", *, family: str = "dcgan", **training: Any) -> Recipe:
    health = {"action": action, **training.pop("health", {})}
    return small_family(family, SIZE, 1, **{"sample_kimg": 1, "health": health, **training})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "d", count=160, size=SIZE, channels=1, draw=smooth_images)


def run_with(folder: Path, dataset: Dataset, recipe: Recipe) -> tuple[Run, Silent]:
    run, observer = Run(folder), Silent()
    prepare_run(run, recipe)
    train(run, dataset, observer)
    return run, observer


def described(run: Run) -> dict[str, Any]:
    return json.loads(run.training_file.read_text())


def sums(run: Run) -> dict[str, str]:
    folder = checkpoint_folders(run.checkpoints)[-1]
    return {file.name: file_sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def findings(run: Run) -> list[dict[str, Any]]:
    return [row for row in run.stats() if row["kind"] == "health"]


def check_usable(run: Run) -> None:
    images = Model.load(run.model).generate(32).images
    assert images.shape == (32, 1, *SIZE)
    assert np.ptp(images) > 0


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`found(320, times=2)`: the watch sees something grave in the tick at 320 images, the first two times it gets there."""

    def arrange(images_seen: int, times: int = 1) -> None:
        left: Iterator[int] = iter(range(times))
        plain = Health.observe

        def observe(self: Health, row: dict[str, Any]) -> list[Finding]:
            seen = row["kind"] == "tick" and row["images_seen"] == images_seen
            return plain(self, row) + ([FOUND] if seen and next(left, None) is not None else [])

        monkeypatch.setattr(Health, "observe", observe)

    return arrange


def test_a_warning_is_logged_and_shown_and_the_run_goes_on(
    dataset: Dataset, tmp_path: Path, found: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    found(256)
    run = Run(tmp_path / "run")
    prepare_run(run, recipe_with("warn"))
    with ConsoleObserver() as observer:
        train(run, dataset, observer)
    shown = capsys.readouterr()
    assert "It runs away. Slow down." in shown.out + shown.err
    assert [(row["images_seen"], row["sign"], row["severity"], row["action"]) for row in findings(run)] == [
        (256, "divergence", "grave", "none")
    ]
    assert described(run)["images_seen"] == 480
    assert described(run)["ended"] is None


def test_stop_ends_the_run_with_a_model_from_before(
    dataset: Dataset, tmp_path: Path, found: Callable[..., None]
) -> None:
    found(448)
    run, _ = run_with(tmp_path / "run", dataset, recipe_with("stop"))
    told = described(run)
    assert told["finished"] is True
    assert told["ended"].startswith("divergence: It runs away.")
    assert told["images_seen"] == 448
    # Too few validation images to choose: not the weights that ran away, and not those of just before.
    assert told["released"]["images_seen"] == 160
    check_usable(run)
    before = sums(run)
    train(run, dataset, Silent())
    assert described(run)["images_seen"] == 448, "an ended run goes no further when it is resumed"
    assert sums(run) == before


def test_an_ended_run_goes_on_where_its_recipe_no_longer_ends_it(
    dataset: Dataset, tmp_path: Path, found: Callable[..., None]
) -> None:
    found(256)
    run, _ = run_with(tmp_path / "run", dataset, recipe_with("stop"))
    _, observer = run_with(run.path, dataset, recipe_with("warn"))
    assert described(run)["images_seen"] == 480
    assert described(run)["ended"] is None
    assert any("goes on" in line for line in observer.said)
    straight, _ = run_with(tmp_path / "straight", dataset, recipe_with("warn"))
    assert sums(run) == sums(straight)


def test_rollback_goes_back_lowers_the_rates_and_then_ends(
    dataset: Dataset, tmp_path: Path, found: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[tuple[int, float, float]] = []
    plain = loop.one_iteration

    def watched(session: loop.Session) -> None:
        seen = session.state.counters.images_seen
        plain(session)
        optimizers = (session.family.generator_optimizer, session.family.discriminator_optimizer)
        rates.append((seen, *(optimizer.inner.param_groups[0]["lr"] for optimizer in optimizers)))

    monkeypatch.setattr(loop, "one_iteration", watched)
    found(384, times=3)
    run, observer = run_with(tmp_path / "run", dataset, recipe_with("rollback", learning_rate=4e-4))
    # There and back: the checkpoints at 160 and 320 lie before 384, and the one before the last is gone back to.
    places = [seen for seen, *_ in rates]
    assert places == [*range(0, 384, 16), *range(160, 384, 16), *range(160, 384, 16)]
    assert {rate for seen, *own in rates[:24] for rate in own} == {4e-4}
    assert {rate for seen, *own in rates[24:38] for rate in own} == {2e-4}
    assert {rate for seen, *own in rates[38:] for rate in own} == {1e-4}
    images_seen = [row["images_seen"] for row in run.stats()]
    assert images_seen == sorted(images_seen), "what was logged after the checkpoint is cut off"
    actions = [row["action"] for row in findings(run)]
    assert actions[0] == "went back from 0.384 kimg; rates now 0.5 of the recipe's"
    assert actions[-1] == "ended"
    assert described(run)["ended"].startswith("divergence")
    assert sum("It runs away." in line for line in observer.warned) == 3
    check_usable(run)


def test_a_run_that_went_back_and_was_killed_ends_with_the_same_bits(
    dataset: Dataset, tmp_path: Path, found: Callable[..., None]
) -> None:
    found(384)
    straight, _ = run_with(tmp_path / "straight", dataset, recipe_with("rollback", family="r3"))
    assert described(straight)["images_seen"] == 480
    assert [row["images_seen"] for row in findings(straight)] == [160]
    for kept in (1, 2):
        killed = Run(tmp_path / f"killed{kept}")
        shutil.copytree(straight.path, killed.path)
        for folder in checkpoint_folders(killed.checkpoints)[kept:]:
            shutil.rmtree(folder)
        train(killed, dataset, Silent())
        assert sums(killed) == sums(straight)
        assert [row["images_seen"] for row in killed.stats()] == [row["images_seen"] for row in straight.stats()]


def test_it_goes_back_to_the_best_checkpoint_and_releases_it(
    tmp_path: Path, found: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(tmp_path / "data", count=720, size=SIZE, channels=1, draw=smooth_images)
    found(448)
    kid = {160: 1.0, 320: 5.0, 480: 5.0}
    plain = Validator.measure
    order = itertools.chain([160, 320], itertools.repeat(480))

    def measure(self: Validator, sampler: Any) -> dict[str, Any]:
        return {**plain(self, sampler), "kid": kid[next(order)], "kid_se": 0.1}

    monkeypatch.setattr(Validator, "measure", measure)
    run, _ = run_with(tmp_path / "run", data, recipe_with("rollback"))
    assert [row["images_seen"] for row in findings(run)] == [160]
    assert described(run)["released"]["images_seen"] == 160
    check_usable(run)


def poison(monkeypatch: pytest.MonkeyPatch, at: int, network: str = "discriminator", times: int = 1) -> None:
    """Make a weight infinite after the iteration that ends at `at` images, the first `times` times it is reached."""
    plain, left = loop.one_iteration, iter(range(times))

    def poisoned(session: loop.Session) -> None:
        plain(session)
        if session.state.counters.images_seen == at and next(left, None) is not None:
            with torch.no_grad():
                next(getattr(session.family, network).parameters()).fill_(float("nan"))

    monkeypatch.setattr(loop, "one_iteration", poisoned)


@pytest.mark.parametrize("at", [240, 320], ids=["between checkpoints", "at a checkpoint"])
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_loss_that_is_no_number_goes_back_where_the_recipe_says_so(
    at: int, network: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, at, network)
    run, observer = run_with(tmp_path / "run", dataset, recipe_with("rollback"))
    assert described(run)["images_seen"] == 480
    assert any("no number any more" in line for line in observer.warned)
    places = [(row["kind"], row["images_seen"]) for row in run.stats()]
    assert len(places) == len(set(places)), "nothing is logged twice"
    check_usable(run)


def test_a_loss_that_is_no_number_ends_a_run_whose_last_checkpoint_loads(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 240)
    run = Run(tmp_path / "run")
    prepare_run(run, recipe_with("warn"))
    with pytest.raises(TrainingError, match=r"no number any more.*checkpoint is 000000160.*training\.learning_rate"):
        train(run, dataset, Silent())
    train(run, dataset, Silent())
    assert described(run)["images_seen"] == 480
    straight, _ = run_with(tmp_path / "straight", dataset, recipe_with("warn"))
    assert sums(run) == sums(straight)


def test_no_number_again_and_again_is_an_error(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 240, times=9)
    run = Run(tmp_path / "run")
    prepare_run(run, recipe_with("rollback", health={"rollbacks": 1}))
    with pytest.raises(TrainingError, match="no number any more"):
        train(run, dataset, Silent())


def test_an_adaptive_strength_leaves_numbers_that_are_none_to_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(tmp_path / "data", count=320, size=SIZE, channels=1, draw=smooth_images)
    poison(monkeypatch, 240)
    augment = {"policy": ["colour"], "strength": "adaptive"}
    run, _ = run_with(tmp_path / "run", data, recipe_with("rollback", augment=augment))
    assert described(run)["images_seen"] == 480


def test_patience_ends_a_run_that_stands_still(dataset: Dataset, tmp_path: Path) -> None:
    still = {"learning_rate": 1e-12, "ema_kimg": 0.0}
    recipe = recipe_with(health={"patience": 1}, **still)
    run, _ = run_with(tmp_path / "run", dataset, recipe)
    assert described(run)["ended"].startswith("no_progress")
    assert described(run)["images_seen"] == 320
    check_usable(run)
    train(run, dataset, Silent())
    assert described(run)["images_seen"] == 320
    run_with(run.path, dataset, recipe_with(health={"patience": 2}, **still))
    assert described(run)["images_seen"] == 480
    assert described(run)["ended"].startswith("no_progress")


def test_few_images_are_warned_of_at_the_start_only(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=60, size=SIZE, channels=1, draw=smooth_images, train=20)
    run, observer = run_with(tmp_path / "run", data, recipe_with(kimg=0.16))
    assert any("20 training images are very few" in line and "init_from" in line for line in observer.warned)
    _, again = run_with(run.path, data, recipe_with(kimg=0.32))
    assert not any("very few" in line for line in again.warned)


# The remaining tests train as a user does, until what they are about shows in the images themselves.


def trained(folder: Path, data: Dataset, recipe: Recipe) -> tuple[Run, Silent, set[str]]:
    """The run, its observer, and the signs of all grave findings."""
    run, observer = run_with(folder, data, recipe)
    return run, observer, {row["sign"] for row in findings(run) if row["severity"] == "grave"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "d", count=480, size=SIZE, channels=1, draw=smooth_images)


# Rates that suit networks of a few thousand weights; a hundredfold one is the mistake.
RATES = {"wgan-gp": 1e-3, "pggan": 1e-3, "r3": 2e-4, "dcgan": 2e-3}
# Validations every 160 images: a hundredfold rate spoils everything within 400, and only what was once better can diverge.
OFTEN = {"tick_kimg": 0.08, "checkpoint_kimg": 0.16, "keep": 50}


def rated(family: str, factor: float, action: str, **training: Any) -> Recipe:
    growth = {"growth": {"fade_kimg": 0.1, "stable_kimg": 0.1}} if family == "pggan" else {}
    return recipe_with(action, family=family, learning_rate=RATES[family] * factor, **OFTEN, **growth, **training)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wgan-gp", "r3", "dcgan"])
def test_an_ordinary_rate_gives_no_grave_finding(family: str, pictures: Dataset, tmp_path: Path) -> None:
    run, _, grave = trained(tmp_path / "run", pictures, rated(family, 1, "stop", kimg=4))
    assert grave == set()
    assert described(run)["images_seen"] >= 4000


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wgan-gp", "pggan"])
def test_a_hundredfold_rate_is_seen_to_diverge_and_ends_usable(family: str, pictures: Dataset, tmp_path: Path) -> None:
    _, observer, grave = trained(tmp_path / "run", pictures, rated(family, 100, "warn", kimg=6))
    assert "divergence" in grave
    assert any("training.learning_rate" in line for line in observer.warned)
    stopped, _, _ = trained(tmp_path / "stopped", pictures, rated(family, 100, "stop", kimg=6))
    told = described(stopped)
    assert told["ended"]
    assert told["images_seen"] < 6000
    assert told["released"]["images_seen"] < told["images_seen"]
    check_usable(stopped)


@pytest.mark.slow
def test_a_rollback_slows_a_hundredfold_rate_down(pictures: Dataset, tmp_path: Path) -> None:
    run, _, _ = trained(tmp_path / "run", pictures, rated("wgan-gp", 100, "rollback", kimg=6))
    actions = [row["action"] for row in findings(run) if row["severity"] == "grave"]
    assert any("went back" in action for action in actions)
    images_seen = [row["images_seen"] for row in run.stats()]
    assert images_seen == sorted(images_seen)
    check_usable(run)


@pytest.mark.slow
def test_a_discriminator_that_is_far_too_strong_is_seen(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=240, size=(16, 16), channels=1)
    model = {"discriminator_widths": [64, 128]}
    recipe = small_family(
        "dcgan", channels=1, model=model, kimg=4, learning_rate=2e-5, discriminator_learning_rate=2e-3,
        health={"action": "stop"}, tick_kimg=0.064, checkpoint_kimg=0.32, sample_kimg=100,
    )  # fmt: skip
    run, observer, grave = trained(tmp_path / "run", data, recipe)
    assert grave == {"saturated_discriminator"}
    assert any("discriminator_learning_rate" in line for line in observer.warned)
    assert described(run)["images_seen"] < 4000
    assert Model.load(run.model).generate(2).images.shape == (2, 1, 16, 16)


@pytest.mark.slow
def test_twenty_images_are_learned_by_heart_and_that_is_told(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=240, size=SIZE, channels=1, draw=smooth_images, train=20)
    assert len(data.rows("train")) == 20
    model = {"generator_widths": [32, 16], "discriminator_widths": [32, 32], "latent": 4}
    recipe = small_family(
        "dcgan", SIZE, 1, model=model, kimg=24, learning_rate=1e-3, health={"action": "stop"},
        tick_kimg=0.8, checkpoint_kimg=2.4, sample_kimg=100,
    )  # fmt: skip
    run, observer, grave = trained(tmp_path / "run", data, recipe)
    assert any("20 training images are very few" in line for line in observer.warned)
    assert grave & {"memorisation", "collapse"}
    told = described(run)
    assert told["images_seen"] < 24000
    assert Model.load(run.model).generate(2).images.shape == (2, 1, *SIZE)
