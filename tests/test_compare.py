"""Runs side by side: only what may be compared is, and what is written is whole, honest and without a real pixel."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from run_fixture import make_run
from synthoma.cli.app import app
from synthoma.errors import EvaluationError, SynthomaError
from synthoma.experiments import Comparison, compare_runs, write_comparison
from synthoma.experiments.comparison_words import cost_table, metric_cells, notes, sentences, what_differs
from synthoma.run import Run, read_json, write_json
from test_report import holds_mark, pictures_in, seen


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to copy: making one takes longer than all else here."""
    folder = tmp_path_factory.mktemp("made") / "run"
    make_run(folder, kimg=10)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[..., Path]:
    """`copy("name", kid=0.3)` is a run of the same data whose first KID is at that value."""

    def make(name: str, kid: float | None = None) -> Path:
        path = tmp_path / name
        shutil.copytree(made, path)
        if kid is not None:
            change(path / "evaluation" / "fidelity.json", lambda value: move_kid(value, kid))
            change(path / "model" / "model.json", lambda value: value.update(model_hash=f"hash of {name}"))
        return path

    return make


def change(file: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    value = read_json(file)
    how(value)
    write_json(file, value)


def move_kid(fidelity: dict[str, Any], kid: float) -> None:
    result = fidelity["spaces"]["randconv"]["all"]["kid"]
    shift = kid - result["value"]
    for key in ("value", "low", "high"):
        result[key] += shift


@pytest.fixture
def compared(copy: Callable[..., Path]) -> Comparison:
    return compare_runs([copy("first", 0.5), copy("second", 0.2), copy("third", 0.22)])


def test_numbers_stand_with_interval_floor_and_yardstick(compared: Comparison) -> None:
    cells = dict(metric_cells(compared, "randconv"))
    assert list(cells) == ["KID ↓", "FD ↓", "Precision ↑", "Recall ↑", "Density ↑", "Coverage ↑"]
    assert cells["KID ↓"][1].startswith("0.200 (0.169 to 0.231), floor 0.002; ")
    assert "of the way from the floor to the yardstick (1.31)" in cells["KID ↓"][0]
    for row in cells.values():
        assert all(re.search(r"\(.+ to .+\), floor ", cell) for cell in row)


def test_cost_tells_what_the_run_made(compared: Comparison) -> None:
    cost = dict(cost_table(compared))
    assert cost["Family"] == ["cgan"] * 3
    assert cost["Parameters, generator"][0] == "1\u202f634\u202f211"
    assert cost["Real images seen"][0] == "10\u202f000"
    assert cost["Mean speed"][0] == "200 images/s"
    assert "lowest validation KID" in cost["Released weights"][0]


def test_critic_steps_count_as_updates(copy: Callable[..., Path]) -> None:
    first, second = copy("a"), copy("b")
    recipe = (second / "recipe.yaml").read_text()
    (second / "recipe.yaml").write_text(re.sub(r"critic_steps: 1", "critic_steps: 5", recipe))
    (entry, other) = compare_runs([first, second]).entries
    iterations = read_json(first / "training.json")["iteration"]
    assert (entry.updates, other.updates) == ((iterations, iterations), (iterations, 5 * iterations))


def test_the_order_is_told_with_its_uncertainty(compared: Comparison) -> None:
    text = " ".join(sentences(compared))
    assert "The lowest KID (randconv) is that of second: 0.200 (0.169 to 0.231)" in text
    assert "The interval of third overlaps with its interval." in text
    assert "The interval of first lies above its interval." in text
    assert "one draw of its seed" in text


def test_a_withheld_kid_gives_no_order(copy: Callable[..., Path]) -> None:
    first, second = copy("a"), copy("b")
    for space in ("randconv", "pca"):
        change(
            second / "evaluation" / "fidelity.json",
            lambda value, space=space: value["spaces"][space]["all"].update(
                kid={"kind": "withheld", "reason": "too few"}
            ),
        )
    comparison = compare_runs([first, second])
    assert "withheld in at least one run" in " ".join(sentences(comparison))
    assert dict(metric_cells(comparison, "randconv"))["KID ↓"][1] == "withheld: too few"
    assert "too few" in write(comparison, first.parent / "out")


def test_fewer_than_two_runs_or_one_twice(copy: Callable[..., Path], tmp_path: Path) -> None:
    path = copy("a")
    with pytest.raises(EvaluationError, match="at least two"):
        compare_runs([path])
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(EvaluationError, match="given twice"):
        compare_runs([path, tmp_path / "link"])


def test_what_is_no_run_is_named(copy: Callable[..., Path], tmp_path: Path) -> None:
    path = copy("a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SynthomaError, match="empty is no run"):
        compare_runs([path, tmp_path / "empty"])
    with pytest.raises(EvaluationError, match="nowhere is no folder"):
        compare_runs([path, tmp_path / "nowhere"])


def test_a_run_that_is_not_ready_is_told_what_to_do(copy: Callable[..., Path]) -> None:
    first, second = copy("a"), copy("b", 0.3)
    change(second / "evaluation" / "fidelity.json", lambda value: value.update(model_hash="an older one"))
    with pytest.raises(EvaluationError, match=rf"earlier model.*synthoma evaluate {second}"):
        compare_runs([first, second])
    (second / "evaluation" / "fidelity.json").unlink()
    with pytest.raises(EvaluationError, match=rf"not been evaluated yet.*synthoma evaluate {second}"):
        compare_runs([first, second])
    (second / "model" / "model.json").unlink()
    with pytest.raises(EvaluationError, match=rf"no model yet.*synthoma train {second} --resume"):
        compare_runs([first, second])


@pytest.mark.parametrize(("key", "words"), [("content", "its images and labels"), ("cohort", "its split")])
def test_other_data_are_refused(copy: Callable[..., Path], key: str, words: str) -> None:
    first, second = copy("a"), copy("b")
    change(second / "model" / "model.json", lambda value: value["dataset"].update({key: "other"}))
    with pytest.raises(EvaluationError, match=f"a and b were not trained on the same dataset: it differs in {words}"):
        compare_runs([first, second])


def test_other_protocols_are_refused_and_what_differs_is_told(copy: Callable[..., Path]) -> None:
    paths = [copy("a"), copy("b")]
    for path, count, spaces in zip(paths, (240, 480), ({"pca": {}}, {"pca": {}, "mobilenet": {}}), strict=True):
        change(
            path / "evaluation" / "fidelity.json",
            lambda value, n=count, s=spaces: value.update(
                protocol={"hash": f"hash {n}", "n": {"synthetic": n, "test": 60}, "spaces": s, "floors": 5}
            ),
        )
    with pytest.raises(EvaluationError) as error:
        compare_runs(paths)
    text = str(error.value)
    assert "numbers of images (synthetic: 240 and 480)" in text
    assert "feature spaces (mobilenet: none and another one)" in text
    assert "floors" not in text, "what is the same is not told"
    assert "--weights" in text


def test_names_are_as_short_as_tells_runs_apart(made: Path, tmp_path: Path) -> None:
    for place in ("monday/run", "tuesday/run"):
        shutil.copytree(made, tmp_path / place)
    names = [entry.name for entry in compare_runs([tmp_path / "monday/run", tmp_path / "tuesday/run"]).entries]
    assert names == ["monday/run", "tuesday/run"]


def test_what_is_unequal_is_kept_in_mind(copy: Callable[..., Path]) -> None:
    first, second = copy("a"), copy("b")
    change(
        second / "training.json",
        lambda value: value.update(finished=False, images_seen=5000, device="cuda:0", ended="no_progress: Enough."),
    )
    text = " ".join(notes(compare_runs([first, second])))
    for phrase in (
        "b is not finished",
        "times do not compare",
        "different numbers of images",
        "ended before its length",
    ):
        assert phrase in text
    assert notes(compare_runs([first, copy("c")])) == []


def test_settings_that_differ_are_listed_without_files(copy: Callable[..., Path]) -> None:
    first, second = copy("a"), copy("b")
    recipe = (second / "recipe.yaml").read_text()
    recipe = recipe.replace("patients/groups.csv", "others/groups.csv").replace(
        "init_from: null", "init_from: /home/me/x"
    )
    (second / "recipe.yaml").write_text(recipe.replace("batch: 16", "batch: 32", 1))
    differences = dict(what_differs(compare_runs([first, second])))
    assert differences["training.batch"] == ["16", "32"]
    assert "source.groups" not in differences, "both are a file of the owner's, and named alike"
    assert "/home" not in json.dumps(differences)


def write(comparison: Comparison, folder: Path) -> str:
    return write_comparison(comparison, folder).page.read_text(encoding="utf-8")


def test_the_page_is_whole_and_shows_no_real_pixel(compared: Comparison, tmp_path: Path) -> None:
    page = write(compared, tmp_path / "out")
    parsed = seen(page)
    assert parsed.loads
    assert all(address.startswith("data:") for address in parsed.loads)
    assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)
    assert not re.search(r"https?:|@import|url\(|<script", page)
    assert "default-src 'none'" in page
    pictures = pictures_in(page)
    assert len(pictures) == 3
    assert not any(holds_mark(picture) for picture in pictures)
    assert not re.search(r"\bG\d{5}\b", page)
    assert str(tmp_path) not in page
    text = " ".join(parsed.text)
    for name in ("first", "second", "third"):
        assert name in text
    assert "0.169 – 0.231" in text
    assert "KID of first: 38\u202f% of the way from the floor to the yardstick (1.31)" in text
    assert page.count("<polyline") == 2 * 3, "a line a run over images, and over time"


def test_the_picture_holds_the_grids(compared: Comparison, tmp_path: Path) -> None:
    files = write_comparison(compared, tmp_path / "out")
    assert files.picture is not None
    sheet = np.asarray(Image.open(files.picture).convert("RGB"))
    grid = compared.entries[0].grid
    assert grid is not None
    assert int(grid.stem) == 10_000, "the one nearest to the released weights"
    tile = np.asarray(Image.open(grid).convert("RGB"))
    top, left = 16 + 46, 16
    assert np.array_equal(sheet[top : top + tile.shape[0], left : left + tile.shape[1]], tile)


def test_the_json_is_complete(compared: Comparison, tmp_path: Path) -> None:
    value = read_json(write_comparison(compared, tmp_path / "out").numbers)
    assert value == json.loads(json.dumps(compared.to_json()))
    assert [run["name"] for run in value["runs"]] == ["first", "second", "third"]
    assert value["runs"][1]["spaces"]["randconv"]["kid"]["value"] == pytest.approx(0.2)
    assert value["protocol"] == "1f3a5b7c9d2e4f60"
    assert str(tmp_path) not in json.dumps(value)


def test_a_folder_with_something_else_is_not_written_into(compared: Comparison, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = write(compared, out)
    assert write(compared, out) == first, "a comparison is written anew, with the same bytes"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(EvaluationError, match="not empty"):
        write_comparison(compared, tmp_path / "mine")
    with pytest.raises(EvaluationError, match="is a file"):
        write_comparison(compared, tmp_path / "mine" / "thesis.txt")


def test_runs_without_grids_validations_or_statistics(copy: Callable[..., Path], tmp_path: Path) -> None:
    paths = [copy("a"), copy("b")]
    for path in paths:
        shutil.rmtree(path / "samples")
        (path / "stats.jsonl").unlink()
    files = write_comparison(compare_runs(paths), tmp_path / "out")
    assert files.picture is None
    page = files.page.read_text(encoding="utf-8")
    assert "No grid of samples was drawn in this run." in page
    assert "No run measured it" in page


def test_curves_of_other_validations_are_not_put_together(copy: Callable[..., Path], tmp_path: Path) -> None:
    first, second = copy("a"), copy("b")
    recipe = (second / "recipe.yaml").read_text()
    (second / "recipe.yaml").write_text(re.sub(r"validation_count: \d+", "validation_count: 9", recipe))
    page = write(compare_runs([first, second]), tmp_path / "out")
    assert "evaluation.validation_count: their curves are not put side by side" in page
    assert "<polyline" not in page


def test_names_are_never_markup(copy: Callable[..., Path], tmp_path: Path) -> None:
    page = write(compare_runs([copy("<b>x<"), copy("[red]y")]), tmp_path / "out")
    assert "<b>x<" not in page
    assert "&lt;b&gt;x&lt;" in page


def test_on_the_terminal(copy: Callable[..., Path], tmp_path: Path) -> None:
    paths = [str(copy(name)) for name in ("a", "b", "c", "[bold]d")]
    runner = CliRunner(env={"COLUMNS": "160"})
    result = runner.invoke(app, ["compare", *paths, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    for phrase in ("images/s", "KID ↓", "floor 0.002", "[bold]d", "The lowest KID", "comparison.html"):
        assert phrase in result.output
    result = runner.invoke(app, ["compare", *paths, "--json"])
    assert [run["name"] for run in json.loads(result.stdout)["runs"]] == ["a", "b", "c", "[bold]d"]
    assert not (Run(paths[0]).path / "comparison.json").exists()
