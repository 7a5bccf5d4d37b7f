"""The logic of the benchmark scripts: what counts, and what is compared with what."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from family_fixture import small_family
from synthoma.families import FAMILIES, ImageSpace, build_family
from synthoma.networks import layers


def contestant(module: ModuleType, rows: list[tuple[float, float]]) -> Any:
    """A contestant without a process, with (images a second, share of others) for each turn."""
    made = module.Contestant.__new__(module.Contestant)
    made.name, made.description = "ours", {"precision": "fp32"}
    made.rounds = [
        {
            "images_per_second": rate,
            "images_per_second_fastest_step": rate + 10,
            "others_share": others,
            "peak_memory_mib": 500,
            "data_wait_share": 0.004,
        }
        for rate, others in rows
    ]
    return made


def test_disturbed_turns_are_kept_but_do_not_count(script: Any) -> None:
    summary = contestant(script("turns"), [(100.0, 0.0), (20.0, 0.5), (110.0, 0.02), (120.0, 0.01)]).summary()
    assert summary["quiet_turns"] == 3
    assert summary["images_per_second_median"] == 110.0
    assert summary["images_per_second_fastest_step"] == 130.0
    assert len(summary["rounds"]) == 4


def test_without_a_quiet_turn_all_turns_count_and_it_is_said(script: Any) -> None:
    summary = contestant(script("turns"), [(100.0, 0.5), (20.0, 0.5), (60.0, 0.4)]).summary()
    assert summary["quiet_turns"] == 0
    assert summary["images_per_second_median"] == 60.0


def test_ours_is_held_against_the_faster_style_of_the_peer(script: Any) -> None:
    module, figures = script("train_step"), script("turns").FIGURES
    rates = {
        "ours fp32": 120,
        "keras function fp32": 100,
        "keras fit fp32": 110,
        "ours bf16": 200,
        "keras function bf16": 160,
        "ours auto": 220,
    }
    summaries = {name: dict.fromkeys(figures, rate) for name, rate in rates.items()}
    compared = module.compare(summaries)
    assert compared["fp32 against fp32"]["ratio"]["median"] == pytest.approx(120 / 110, abs=1e-3)
    assert compared["bf16 against bf16"]["ratio"]["median"] == pytest.approx(1.25)
    assert compared["as shipped against Keras as it comes"]["ratio"]["median"] == pytest.approx(2.0)
    del summaries["keras fit fp32"]
    assert module.compare(summaries)["fp32 against fp32"]["ratio"]["median"] == pytest.approx(1.2)


def test_contestants_with_other_networks_end_the_benchmark(script: Any, tmp_path: Path) -> None:
    worker = "import sys, json; print(json.dumps({'parameters': int(sys.argv[1])}), flush=True); sys.stdin.read()"
    lines = {name: [sys.executable, "-c", worker, str(count)] for name, count in (("ours", 5), ("theirs", 6))}
    with pytest.raises(SystemExit, match="not the same"), script("turns").started(lines, 1, 0.0):
        pass


def test_the_noise_dataset_is_one_that_training_accepts(script: Any, tmp_path: Path) -> None:
    write = script("noise_dataset").write_noise_dataset
    flat = write(tmp_path / "flat", train=20, size=(16, 16))
    assert len(flat.rows("train")) == 20
    assert (flat.channels, flat.size, len(flat.classes)) == (3, (16, 16), 9)
    assert write(tmp_path / "solid", train=9, size=(8, 16, 8), channels=1).size == (8, 16, 8)


@pytest.mark.parametrize("size", [(32, 32), (16, 16, 16)])
def test_widths_belong_to_a_resolution(script: Any, size: tuple[int, ...]) -> None:
    module = script("family_recipes")
    of_resolution = module.NARROW[len(size)]
    r3 = module.family_recipe("r3", size, 4).model
    assert r3.generator_widths[-1] == of_resolution[max(size)]
    assert r3.discriminator_widths == r3.generator_widths[::-1]
    # The image itself is the finest map of nets without a base width.
    assert module.family_recipe("dcgan", size, 4).model.generator_widths[-1] == of_resolution[max(size) // 2]


def plain_loop(script: Any, family: str, size: tuple[int, ...] = (16, 16), style: str = "ours") -> Any:
    module = script("plain_step")
    lazy = {"lazy": {"r1": 2, "path_length": 2}} if family == "style" else {}
    channels = 3 if len(size) == 2 else 1
    recipe = small_family(family, size, channels, batch=4, **lazy)
    images = script("noise_dataset").noise_images(8, channels, size)
    return module.PlainLoop(recipe, images, np.arange(8) % 9, style, workers=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plain_loop_trains_both_networks(script: Any, family: str) -> None:
    loop = plain_loop(script, family)
    before = [
        torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        for network in (loop.generator, loop.discriminator)
    ]
    for _ in range(2):
        loop.iteration()
    for network, old in zip((loop.generator, loop.discriminator), before, strict=True):
        assert not torch.equal(torch.cat([p.detach().flatten() for p in network.parameters()]), old)
    assert np.isfinite(loop.losses).all()


@pytest.mark.parametrize("family", ["wgan-gp", "pggan", "style", "r3"])
def test_torch_layers_compute_what_ours_do(script: Any, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    recipe = small_family(family, (16, 16))
    nets = build_family(recipe.model, recipe.training, ImageSpace((16, 16), 3, 0), torch.device("cpu"))
    z = torch.randn(4, recipe.model.latent)
    ours = nets.discriminator(nets.generator(z))
    module = script("plain_step")
    for network in (nets.generator, nets.discriminator):
        module.make_contiguous(network)
    for place, name, value in module.TORCH_LAYERS:
        monkeypatch.setattr(place, name, value)
    for dim in layers.CHANNELS_LAST:
        monkeypatch.setitem(layers.CHANNELS_LAST, dim, torch.contiguous_format)
    image = nets.generator(z)
    assert image.is_contiguous()
    torch.testing.assert_close(nets.discriminator(image), ours, rtol=1e-4, atol=1e-5)


def test_operations_of_gradients_are_counted_once_each(script: Any) -> None:
    count = script("operations").OperationCount
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    weight = torch.randn(8, 4, 3, 3, requires_grad=True)
    once = 2 * (2 * 8 * 6 * 6) * (4 * 3 * 3)
    with count() as forward:
        y = F.conv2d(x, weight, padding=1, groups=2)
    assert forward.total == once
    with count() as backward:
        y.sum().backward()
    assert backward.total == 2 * once
    with count() as transposed:
        F.conv_transpose2d(torch.randn(2, 8, 3, 3), torch.randn(8, 5, 4, 4), stride=2, padding=1)
    assert transposed.total == 2 * (2 * 8 * 3 * 3) * (5 * 4 * 4)
    with count() as product:
        torch.randn(3, 4) @ torch.randn(4, 5)
    assert product.total == 2 * 3 * 4 * 5


def test_operations_are_counted_under_vjp(script: Any) -> None:
    weight = torch.randn(4, 3)
    with script("operations").OperationCount() as counter:
        _, pull, *_ = torch.func.vjp(lambda x: x @ weight, torch.randn(2, 4))
        pull(torch.ones(2, 3))
    assert counter.total == 2 * (2 * 2 * 4 * 3)


def test_a_schedule_is_the_rate_times_the_count(script: Any) -> None:
    module = script("gpu")
    nodules = module.SCHEDULES["nodules"]
    row = module.extrapolate(nodules, iterations_per_second=25.0)
    assert row["extrapolated_seconds"] == 500.0
    assert row["times_the_original"] == pytest.approx(48 * 3600 / 500, abs=0.1)
    # 1,000 epochs over 200 nodules at batch 16, five critic updates for one of the generator.
    assert 5 * nodules.iterations == 1000 * 200 * 5 // 16


def test_the_gpu_script_measures_on_a_cpu(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("gpu")
    monkeypatch.setattr(module, "BATCHES", {8 * 8: 2})
    monkeypatch.setattr(module, "device_facts", lambda device: {"device": "cpu"})
    out = tmp_path / "gpu.json"
    arguments = (
        f"--device cpu --precision fp32 --seconds 0 --warm-up 0 --sizes 8 --compile auto --out {out} "
        "--parts families --families mlp pggan"
    )
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments.split()])
    module.main()
    result = json.loads(out.read_text())
    assert result["failed"] == []
    assert [row["family"] for row in result["rows"]] == ["mlp", "pggan"]
    assert all(row["images_per_second"] > 0 and row["gflop_per_image"] > 0 for row in result["rows"])
    assert all(row["steps"].startswith("not compiled") for row in result["rows"])


def test_growth_is_measured_at_the_last_level(script: Any, tmp_path: Path) -> None:
    recipe = script("family_recipes").family_recipe("pggan", (16, 16), 4, precision="fp32", device="cpu")
    moment = script("our_step").open_session(tmp_path, recipe, images=8).moment()
    assert (moment.level, moment.fade) == (2, 1.0)
