"""The logic of the bake-off: who takes part, when a run ends, what is not run again, what the table says."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from make_dataset import make_dataset
from synthoma.families import ImageSpace, build_family

PARTS = ("bakeoff_contestants", "bakeoff_run", "bakeoff_table", "bakeoff")


@pytest.fixture
def scripts(script: Callable[[str], ModuleType]) -> dict[str, ModuleType]:
    """The scripts as fresh modules; each comes after those that it imports."""
    return {name: script(name) for name in PARTS}


@pytest.fixture
def at_16_pixels(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The scripts with images, a batch and an evaluation that are quick."""
    contestants = scripts["bakeoff_contestants"]
    monkeypatch.setattr(contestants, "SIZE", 16)
    training = {**contestants.COMMON["training"], "batch": 4}
    evaluation = {"count": 60, "spaces": ["randconv"], "subsamples": 10, "floors": 2, "validation_count": 16}
    monkeypatch.setattr(contestants, "COMMON", {**contestants.COMMON, "training": training, "evaluation": evaluation})
    return scripts


def estimate(value: float) -> dict[str, Any]:
    return {
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "n": {"synthetic": 1000},
        "groups": 40,
        "floor": {"value": 0.0, "low": -0.01, "high": 0.01},
        "yardstick": {"value": 2.0, "what": "real training images after a blur, against the same test images"},
    }


def row(name: str, seed: int, kid: float | None, protocol: str = "p") -> dict[str, Any]:
    """A row of the result file; without a KID, one of a run that failed."""
    made = {"set": "pap_smear", "contestant": name, "seed": seed, "images": 3200, "seconds": 45.0}
    made |= {"updates_discriminator": 200, "updates_generator": 200}
    if kid is None:
        return {**made, "failed": "a weight is no number"}
    counts = {"train": 500, "test": 100}
    return {**made, "kid": estimate(kid), "recall": estimate(0.5), "protocol": protocol, "counts": counts}


def test_networks_of_all_contestants_are_about_equally_large(scripts: dict[str, ModuleType]) -> None:
    contestants, sizes = scripts["bakeoff_contestants"], []
    for name in contestants.CONTESTANTS:
        recipe = contestants.make_recipe(name, "pap_smear", 0, 1.0)
        family = build_family(recipe.model, recipe.training, ImageSpace((32, 32), 3, 7), torch.device("cpu"))
        sizes += [sum(p.numel() for p in net.parameters()) for net in (family.generator, family.discriminator)]
    assert len(sizes) == 18
    assert max(sizes) < 1.2 * min(sizes)


def test_a_factor_scales_plain_and_scheduled_rates(scripts: dict[str, ModuleType]) -> None:
    contestants = scripts["bakeoff_contestants"]
    assert contestants.make_recipe("wgan-gp", "pap_smear", 0, 1.0, 3.0).training.learning_rate == pytest.approx(3e-4)
    ramp = contestants.make_recipe("r3", "pap_smear", 0, 1.0, 3.0).training.learning_rate
    assert (ramp.start, ramp.end) == pytest.approx((6e-4, 1.5e-4))


def test_all_have_the_same_but_family_widths_and_the_family_s_own_settings(scripts: dict[str, ModuleType]) -> None:
    contestants = scripts["bakeoff_contestants"]
    recipes = [contestants.make_recipe(name, "lung_histology", 2, 5.0) for name in contestants.CONTESTANTS]
    for key in ("batch", "seed", "kimg", "precision", "symmetries", "ema_kimg", "balanced"):
        assert len({str(getattr(recipe.training, key)) for recipe in recipes}) == 1
    assert all(recipe.model.conditions == ["class"] and recipe.model.latent == 64 for recipe in recipes)
    plain, augmented = recipes[-2], recipes[-1]
    assert augmented.training.augment.policy == ["colour", "translation", "cutout"]
    assert not plain.training.augment.policy
    assert plain.model == augmented.model


def test_a_run_ends_with_its_processor_seconds(
    at_16_pixels: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = at_16_pixels["bakeoff_run"]
    dataset = make_dataset(tmp_path / "dataset", count=64)
    recipe = at_16_pixels["bakeoff_contestants"].make_recipe("dcgan", "lung_histology", 0, 0.016)
    session = module.start(recipe, dataset, tmp_path / "run")
    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "process_time", lambda: float(next(clock)))
    row = module.train_for(session, 3.0)
    # The clock is read once before each iteration but the first: at 1 and 2 s it goes on, at 3 s it is over.
    assert (row["updates_generator"], row["images"], row["seconds"]) == (3, 12, 4.0)
    assert row["schedule_done"] == 0.75


def test_the_rate_is_a_mean_over_the_phases_of_growth(
    at_16_pixels: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = at_16_pixels["bakeoff_run"]
    levels = []

    def iteration(session: Any) -> None:
        levels.append(session.moment().level)
        session.state.counters.images_seen += 4

    clock = iter(range(10_000))
    monkeypatch.setattr(module, "one_iteration", iteration)
    monkeypatch.setattr(module.time, "process_time", lambda: float(next(clock)))
    widths = {"generator_widths": [8, 8, 8], "discriminator_widths": [8, 8, 8]}
    contestants = at_16_pixels["bakeoff_contestants"]
    monkeypatch.setitem(contestants.CONTESTANTS, "pggan", contestants.Contestant("pggan", widths))
    dataset = make_dataset(tmp_path / "dataset", count=64)
    cost = module.seconds_per_image("pggan", "lung_histology", dataset, tmp_path / "probe")
    each = module.MEASURED + 1
    assert [levels.count(level) for level in range(3)] == [each, 2 * each, 2 * each]
    # A second between two readings of the clock, four images an iteration.
    assert cost == pytest.approx(0.25)


def test_runs_in_the_result_file_are_not_run_again(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = scripts["bakeoff"]
    done: list[tuple[str, int]] = []

    def run(name: str, images: str, seed: int, *rest: Any) -> dict[str, Any]:
        done.append((name, seed))
        return row(name, seed, 1.0)

    monkeypatch.setattr(module, "one_run", run)
    monkeypatch.setattr(module, "prepared", lambda *words: None)
    words = ["--data", str(tmp_path), "--work", str(tmp_path / "work"), "--sets", "pap_smear", "--only", "mlp", "r3"]
    out = tmp_path / "bakeoff.json"
    for seeds in (["0"], ["0", "1"]):
        arguments = module.parse([*words, "--seeds", *seeds])
        module.run_all(arguments, out, module.begin_results(out, 45.0, "settings"), module.runs(arguments))
    assert done == [("mlp", 0), ("r3", 0), ("mlp", 1), ("r3", 1)]
    assert len(module.read_json(out)["rows"]) == 4
    with pytest.raises(SystemExit, match="another budget_seconds, another settings"):
        module.begin_results(out, 30.0, "other settings")


def test_the_table_is_ordered_by_mean_kid_and_shows_intervals_and_failures(scripts: dict[str, ModuleType]) -> None:
    rows = [row("mlp", 0, 3.0), row("mlp", 1, 5.0), row("r3", 0, 1.5), row("r3", 1, None), row("style", 0, None)]
    lines = scripts["bakeoff_table"].table({"rows": rows}).splitlines()
    assert "floor 0.000 [-0.010, 0.010]" in lines[0].lower()
    assert "yardstick 2.000" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["r3", "mlp", "style"]
    assert "1.500 [1.400, 1.600]; 1 failed" in lines[4]
    assert "| 4.000 |" in lines[5]


def test_rows_of_two_protocols_make_no_table(scripts: dict[str, ModuleType]) -> None:
    with pytest.raises(SystemExit, match="different protocols"):
        scripts["bakeoff_table"].table({"rows": [row("mlp", 0, 3.0), row("r3", 0, 1.0, "q")]})


@pytest.mark.slow
def test_a_run_leaves_a_measured_model(at_16_pixels: dict[str, ModuleType], tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", count=400)
    done = at_16_pixels["bakeoff_run"].one_run("dcgan", "lung_histology", 0, dataset, tmp_path / "a", 1.0)
    assert done["kid"]["low"] <= done["kid"]["value"] <= done["kid"]["high"]
    assert done["seconds"] >= 1.0
    assert (tmp_path / "a" / "run" / "model" / "generator.safetensors").exists()
