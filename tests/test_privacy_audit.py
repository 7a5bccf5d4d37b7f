"""The privacy audit: planted copies are found, new patients are not accused, and nothing is said without its control."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from make_dataset import make_dataset, smooth_images
from privacy_fixture import found_in, image_set, pictures, with_copies
from synthoma.cli.app import app
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError, EvaluationError
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset
from synthoma.evaluation.privacy import copies as copying
from synthoma.evaluation.privacy.attacks import attack_membership
from synthoma.evaluation.privacy.audit import Audit, audit_images, protocol_of
from synthoma.evaluation.privacy.canaries import find_canaries
from synthoma.evaluation.privacy.copies import find_copies
from synthoma.evaluation.privacy.plant import KINDS
from synthoma.evaluation.privacy.spaces import default_space
from synthoma.metrics.authenticity import Controlled
from synthoma.metrics.estimate import Withheld
from synthoma.metrics.membership import AttackResult
from synthoma.metrics.similarity import Search
from synthoma.training.canaries import choose_canaries

WHITE = (0.0, 255.0)
TRAIN, HELD = 120, 60


@pytest.fixture(scope="module", autouse=True)
def few_copies_made_on_purpose() -> Iterator[None]:
    """Thresholds rest on fewer copies than in earnest, which tests/test_privacy_recall.py is about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "PLANTED", 24)
        yield


@pytest.fixture(scope="module")
def real() -> tuple[ImageSet, ImageSet]:
    return pictures(TRAIN, 0, "T"), pictures(HELD, 1, "H")


@pytest.fixture(scope="module")
def clean(real: tuple[ImageSet, ImageSet]) -> Audit:
    """Other patients pose as the generator."""
    return audit_images(*real, pictures(60, 2, "S"))


def test_new_patients_pass_and_every_figure_has_its_control(clean: Audit) -> None:
    result = clean.to_json()
    json.dumps(result, allow_nan=False)
    assert result["copies"]["found"] == 0
    assert result["copies"]["rate"]["upper_95"] == pytest.approx(3 / 60)
    assert result["copies"]["control"] == {"found": 0, "n": HELD, "what": "held-out real images, called copies"}
    assert min(result["copies"]["recall"].values()) >= 0.9
    assert set(result["copies"]["recall"]) == set(KINDS)
    for figure in (clean.closeness.authenticity, clean.closeness.copying):
        assert isinstance(figure, Controlled)
        assert figure.synthetic.low < figure.control.high
        assert figure.control.low < figure.synthetic.high
    assert set(clean.attacks) == {"features", "pixels"}
    for attack in clean.attacks.values():
        assert isinstance(attack, AttackResult)
        assert attack.control.auc == pytest.approx(0.5, abs=0.03)
        arm = attack.attack
        assert abs(arm.auc - 0.5) < 1.6 * (arm.high - arm.auc)  # about three standard errors


def test_public_result_names_no_pair_and_private_one_does(clean: Audit) -> None:
    assert "train_row" not in json.dumps(clean.to_json())
    assert "pairs" not in clean.to_json()
    pairs = clean.pairs_json()["pairs"]
    assert len(pairs) == 32
    assert {"synthetic", "train_row", "similarity", "alignment"} < set(pairs[0])
    assert pairs[0]["similarity"] == max(pair["similarity"] for pair in pairs)


def find_protocol(real: tuple[ImageSet, ImageSet], seed: int) -> str:
    return protocol_of(*real, pictures(60, 2, "S"), default_space(real[0]), Search(), seed).hash


def test_audit_is_the_same_again_and_protocol_follows_the_sets(real: tuple[ImageSet, ImageSet], clean: Audit) -> None:
    again = audit_images(real[0], real[1], pictures(60, 2, "S"))
    assert again.to_json() == clean.to_json()
    assert find_protocol(real, 1) != clean.protocol.hash == find_protocol(real, 0)


def test_planted_copies_are_found_and_named(real: tuple[ImageSet, ImageSet]) -> None:
    made, places = with_copies(pictures(60, 2, "S"), real[0], dict.fromkeys(KINDS, 4))
    copies = find_copies(made, *real)
    assert found_in(copies) == set.union(*places.values())
    rows = np.random.default_rng(5).permutation(TRAIN)
    assert {(pair.synthetic, pair.train_row) for pair in copies.pairs[: copies.found]} == {
        (i, rows[i]) for i in range(20)
    }
    assert copies.interval[0] < 20 / 60 < copies.interval[1] < copies.bound + 0.05


def test_memoriser_is_found_out(real: tuple[ImageSet, ImageSet]) -> None:
    """A generator that draws training images with a little noise: copies, and every figure beside its control says so."""
    train, held = real
    noisy = train.images[:100] + np.random.default_rng(0).normal(0, 3, train.images[:100].shape)
    audit = audit_images(train, held, image_set(np.clip(noisy, 0, 255).astype(np.uint8), "S", 1))
    assert audit.copies.found == 100
    authenticity, copying = audit.closeness.authenticity, audit.closeness.copying
    assert isinstance(authenticity, Controlled)
    assert isinstance(copying, Controlled)
    assert authenticity.synthetic.high < authenticity.control.low
    assert copying.synthetic.high < copying.control.low
    for attack in audit.attacks.values():
        assert isinstance(attack, AttackResult)
        assert attack.excess[1] > 0.1


@pytest.mark.parametrize(("channels", "size"), [(3, (32, 24)), (1, (12, 12, 12))])
def test_coloured_pictures_and_volumes(channels: int, size: tuple[int, ...]) -> None:
    train, held = pictures(40, 10, "T", channels, size), pictures(24, 11, "H", channels, size)
    made, places = with_copies(pictures(12, 12, "S", channels, size), train, {"exact": 2, "flipped": 2, "shifted": 2})
    assert found_in(find_copies(made, train, held)) == set.union(*places.values())


def test_hounsfield_units_within_a_window() -> None:
    def volumes(n: int, seed: int, name: str) -> ImageSet:
        values = pictures(n, seed, name, 1, (12, 12, 12)).images.astype(np.float64)
        return image_set((values * 2 - 300).astype(np.int16), name, 2, (-160.0, 240.0))

    train = volumes(40, 0, "T")
    made, places = with_copies(volumes(12, 2, "S"), train, dict.fromkeys(KINDS, 2))
    assert found_in(find_copies(made, train, volumes(24, 1, "H"))) == set.union(*places.values())


def test_overlap_is_said_with_the_recall_that_remains() -> None:
    """Patients who differ by faint noise only: strong compression cannot be told from them."""
    base = smooth_images(1, 1, (32, 32), 1, seed=0)[0].astype(np.float64)

    def alike(n: int, seed: int, name: str) -> ImageSet:
        return image_set(
            np.clip(base + np.random.default_rng(seed).normal(0, 4, (n, 1, 32, 32)), 0, 255).astype(np.uint8), name, 1
        )

    audit = audit_images(alike(80, 1, "T"), alike(60, 2, "H"), alike(60, 3, "S"))
    assert audit.copies.found == 0
    assert audit.copies.thresholds.overlap
    assert audit.copies.thresholds.recall["exact"] == 1 > audit.copies.thresholds.recall["jpeg"]
    assert any("go unseen" in warning and "jpeg" in warning for warning in audit.warnings)


def test_few_images_withhold_attacks_but_not_copies(real: tuple[ImageSet, ImageSet]) -> None:
    few = real[0].take(np.arange(12)), real[1].take(np.arange(6))
    made, places = with_copies(pictures(8, 2, "S"), few[0], {"exact": 2})
    audit = audit_images(*few, made)
    assert found_in(audit.copies) == places["exact"]
    assert not audit.copies.thresholds.by_data
    assert any("too few" in warning for warning in audit.warnings)
    for figure in (audit.closeness.authenticity, audit.closeness.copying, *audit.attacks.values()):
        assert isinstance(figure, Withheld)
        assert "needs 50" in figure.reason


def test_discriminator_that_knows_its_training_images_is_seen(real: tuple[ImageSet, ImageSet]) -> None:
    known = {image.tobytes() for image in real[0].images}
    attacks = attack_membership(
        pictures(60, 2, "S"),
        *real,
        discriminator=lambda images: np.array([image.tobytes() in known for image in images.images], dtype=float),
    )
    attack = attacks["discriminator"]
    assert isinstance(attack, AttackResult)
    assert attack.attack.auc == 1
    assert attack.control.auc == 0.5


def test_flat_images_are_said_and_damaged_ones_refused(real: tuple[ImageSet, ImageSet]) -> None:
    images = np.array(pictures(60, 2, "S").images)
    images[7] = 200
    audit = audit_images(*real, image_set(images, "S", 1))
    assert audit.copies.found == 0
    assert any("1 synthetic images are of one brightness" in w for w in audit.warnings)
    floats = [image_set(s.images.astype(np.float32), n, 2, WHITE) for s, n in ((real[0], "T"), (real[1], "H"))]
    broken = images.astype(np.float32)
    broken[3, 0, 0, 0] = np.inf
    with pytest.raises(EvaluationError, match="among the synthetic images: image 3"):
        audit_images(*floats, image_set(broken, "S", 1, WHITE))


def test_sets_that_do_not_fit_are_refused(real: tuple[ImageSet, ImageSet]) -> None:
    train, held = real
    made = pictures(60, 2, "S")
    with pytest.raises(EvaluationError, match="synthetic images have shape"):
        audit_images(train, held, pictures(60, 2, "S", 3))
    with pytest.raises(EvaluationError, match="their values do not"):
        audit_images(train, held, image_set(made.images.astype(np.uint16), "S"))
    with pytest.raises(EvaluationError, match="no synthetic images"):
        audit_images(train, held, made.take(np.arange(0)))
    with pytest.raises(EvaluationError, match="patients or groups are in both"):
        audit_images(train, ImageSet(held.images, held.labels, [], train.groups[:HELD], "x"), made)
    leaked = np.array(held.images)
    leaked[4] = train.images[9]
    with pytest.raises(EvaluationError, match="number 5 of the held-out and number 10 of the training"):
        audit_images(train, image_set(leaked, "H"), made)


def test_canaries_are_of_different_patients_and_are_found(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", count=200, channels=1, size=(24, 24), classes=0, draw=smooth_images)
    rows = choose_canaries(dataset, 5, seed=0)
    assert len(np.unique(dataset.groups[rows])) == 5
    assert set(dataset.splits[rows]) == {"train"}
    assert choose_canaries(Dataset.open(tmp_path / "data"), 5, seed=0).tolist() == rows.tolist()
    assert choose_canaries(dataset, 5, seed=1).tolist() != rows.tolist()
    with pytest.raises(DatasetError, match="cannot be chosen"):
        choose_canaries(dataset, 1000, seed=0)
    train, test = image_set_from_dataset(dataset, "train"), image_set_from_dataset(dataset, "test")
    images = smooth_images(20, 1, (24, 24), 1, seed=77)[0]
    images[:3] = dataset.images[rows[:3]]
    canaries = find_canaries(audit_images(train, test, image_set(images, "S", 1)), rows)
    assert (canaries.found, canaries.total) == (3, 5)


def save(images: np.ndarray, folder: Path) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{number:04d}.png")
    return folder


def run_command(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_command_says_by_its_exit_code_whether_there_are_copies(
    real: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    train, held = save(real[0].images[:60], tmp_path / "train"), save(real[1].images[:30], tmp_path / "held")
    made = pictures(20, 2, "S").images
    clean = run_command("--train", train, "--holdout", held, "--synthetic", save(made, tmp_path / "clean"), "--json")
    assert clean.exit_code == 0
    assert json.loads(clean.stdout)["copies"]["found"] == 0
    made[5] = np.flip(real[0].images[7], -1)
    given = ("--train", train, "--holdout", held, "--synthetic", save(made, tmp_path / "copied"))
    copied = run_command(*given, "--out", tmp_path / "audit")
    assert copied.exit_code == 3
    assert "Copies: 1 of 20" in copied.stdout
    public = (tmp_path / "audit" / "privacy.json").read_text()
    assert json.loads(public)["copies"]["found"] == 1
    assert "train_row" not in public
    assert str(tmp_path) not in public
    pairs = json.loads((tmp_path / "audit" / "private" / "pairs.json").read_text())["pairs"]
    assert [(pair["synthetic"], pair["train_row"]) for pair in pairs if pair["copy"]] == [(5, 7)]
    shown = np.asarray(Image.open(tmp_path / "audit" / "private" / "pairs.png").convert("L")).astype(int)
    side = 48  # enlarged twice
    copy = shown[:, -8 * (side + 2) :][:, :side]  # beside the labels: the copy, over its original turned to lie on it
    above, below = copy[2 : 2 + side], copy[side + 4 : 2 * side + 4]
    assert above.std() > 10
    np.testing.assert_array_equal(above, below)
    inside = run_command(*given, "--out", held / "audit")
    assert isinstance(inside.exception, EvaluationError)
    assert "which holds images" in str(inside.exception)
    same = run_command("--train", train, "--holdout", held, "--synthetic", train)
    assert isinstance(same.exception, EvaluationError)
    assert "--train and --synthetic are the same" in str(same.exception)
    Image.fromarray(real[0].images[0, 0]).save(held / "0000.png")
    leak = run_command("--train", train, "--holdout", held, "--synthetic", tmp_path / "clean")
    assert isinstance(leak.exception, EvaluationError)
    assert "pixel by pixel" in str(leak.exception)
    assert run_command("--train", train).exit_code == 2
