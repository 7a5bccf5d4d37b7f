"""Checkpoints: whole or not there at all."""

import errno
from pathlib import Path

import pytest
import torch

from synthoma.errors import CheckpointError
from synthoma.families import ImageSpace, build_family
from synthoma.recipe import ModelSection, TrainingSection
from synthoma.training import checkpoint
from synthoma.training.state import State

MODEL = ModelSection(family="cgan", latent=8, generator_widths=[16, 8], discriminator_widths=[8, 16], label_embedding=4)


def make_state(seed: int = 0, steps: int = 2) -> State:
    family = build_family(MODEL, TrainingSection(seed=seed), ImageSpace((16, 16), 3, 3), torch.device("cpu"))
    state = State(family)
    labels = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    for _ in range(steps):
        loss = family.discriminator(family.generator(torch.randn(4, 8), labels), labels).sum()
        loss.backward()
        family.generator_optimizer.step()
        family.discriminator_optimizer.step()
    return state


def same(one: State, two: State) -> bool:
    return all(
        one.tensors()[part].keys() == two.tensors()[part].keys()
        and all(torch.equal(one.tensors()[part][name], two.tensors()[part][name]) for name in one.tensors()[part])
        for part in one.tensors()
    )


def test_a_round_trip_gives_back_every_bit(tmp_path: Path) -> None:
    state, other = make_state(), make_state(seed=1)
    state.counters.images_seen = 320
    state.counters.sums[:4] = [0.1, 0.2, 0.3, 1 / 3]
    checkpoint.save_checkpoint(tmp_path, state)
    assert not same(state, other)
    assert checkpoint.load_newest(tmp_path, other, print) == tmp_path / "000000320"
    assert same(state, other)
    assert other.counters == state.counters
    # The optimizers go on alike, too: their moments are in the memory format of their parameters.
    for each in (state, other):
        for parameter in each.family.generator.parameters():
            parameter.grad = torch.ones_like(parameter)
        each.family.generator_optimizer.step()
    assert same(state, other)


@pytest.mark.parametrize(
    "victim", ["generator.safetensors", "discriminator_optimizer.safetensors", "state.json", "manifest.json"]
)
def test_one_flipped_byte_is_found_and_the_older_checkpoint_is_used(tmp_path: Path, victim: str) -> None:
    state = make_state()
    for images_seen in (100, 200):
        state.counters.images_seen = images_seen
        checkpoint.save_checkpoint(tmp_path, state)
    damaged = tmp_path / "000000200" / victim
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0x01
    damaged.write_bytes(content)
    said: list[str] = []
    assert checkpoint.load_newest(tmp_path, make_state(1), said.append) == tmp_path / "000000100"
    assert "000000200 is rejected" in said[0]


def test_truncated_and_missing_files_are_found(tmp_path: Path) -> None:
    state = make_state()
    checkpoint.save_checkpoint(tmp_path, state)
    (tmp_path / "000000000" / "average.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        checkpoint.load_newest(tmp_path, state, lambda message: None)
    (tmp_path / "000000000" / "average.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        checkpoint.check_whole(tmp_path / "000000000")


def test_a_full_disk_leaves_the_previous_checkpoint_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_state()
    state.counters.images_seen = 100
    checkpoint.save_checkpoint(tmp_path, state)
    written: list[str] = []

    def full(tensors: object, file: Path) -> None:
        written.append(file.name)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write_bytes(b"part")

    monkeypatch.setattr(checkpoint, "save_file", full)
    state.counters.images_seen = 200
    with pytest.raises(CheckpointError, match=r"No space left.*000000100 is whole.*free some space"):
        checkpoint.save_checkpoint(tmp_path, state)
    assert [path.name for path in tmp_path.iterdir()] == ["000000100"]
    checkpoint.check_whole(tmp_path / "000000100")


def test_only_the_latest_and_the_best_stay(tmp_path: Path) -> None:
    state = make_state()
    for images_seen in range(100, 700, 100):
        state.counters.images_seen = images_seen
        checkpoint.save_checkpoint(tmp_path, state)
    checkpoint.remove_old(tmp_path, keep=2, best=300)
    assert [int(path.name) for path in checkpoint.checkpoint_folders(tmp_path)] == [300, 500, 600]
    checkpoint.remove_later(tmp_path, 500)
    assert [int(path.name) for path in checkpoint.checkpoint_folders(tmp_path)] == [300, 500]


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    checkpoint.save_checkpoint(tmp_path, make_state())
    wider = MODEL.model_copy(update={"generator_widths": [32, 8]})
    other = State(build_family(wider, TrainingSection(), ImageSpace((16, 16), 3, 3), torch.device("cpu")))
    with pytest.raises(CheckpointError, match="does not fit the networks"):
        checkpoint.load_newest(tmp_path, other, print)
