"""The null study's own arithmetic: known truths are true, draws are of whole patients, repetitions are counted once."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from synthoma.evaluation.imagesets import ImageSet
from synthoma.metrics.pair import Pair

SCRIPTS = Path(__file__).parent.parent / "benchmarks"
SIZES = [1, 2, 3, 6] * 10


def population(script: Any) -> Any:
    """40 patients of one to six small noisy pictures, those of a patient of one brightness."""
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(len(SIZES)), SIZES)
    level = random.uniform(60, 200, len(SIZES))[patients]
    pixels = level[:, None, None, None] + random.normal(0, 20, (len(patients), 1, 16, 16))
    images = ImageSet(
        pixels.clip(0, 255).astype(np.uint8),
        np.full(len(patients), -1, dtype=np.int64),
        [],
        np.array([f"P{number:03d}" for number in patients]),
        "a",
    )
    return script("null_populations").Population("noise", images)


def test_draws_are_of_whole_patients_with_replacement_and_only_the_last_is_cut(script: Any) -> None:
    people = population(script)
    rows, groups = people.draw_patients(np.random.default_rng(1), 200)
    assert len(rows) == len(groups) == 200  # more than there are images: some patients are drawn again
    owner = {int(row): number for number, patient in enumerate(people.patients) for row in patient}
    for group in range(int(groups.max())):
        drawn = rows[groups == group]
        assert drawn.tolist() == people.patients[owner[int(drawn[0])]].tolist()


def test_sets_of_the_search_for_copies_share_no_patient(script: Any) -> None:
    people = population(script)
    sets = script("null_populations").split_patients(people, np.random.default_rng(0), (40, 30, 30))
    assert [len(images) >= least for images, least in zip(sets, (40, 30, 30), strict=True)] == [True] * 3
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not np.intersect1d(sets[first].groups, sets[second].groups).size


def test_known_kid_is_what_unbiased_estimates_have_as_mean(script: Any) -> None:
    people = population(script)
    truth, values = people.true_kid(0.75), []
    random = np.random.default_rng(2)
    for _ in range(60):
        x, y = (people.sample(*people.draw_patients(random, 90), sigma) for sigma in (0.75, 0.0))
        values.append(float(Pair(x.features, y.features, x.groups, y.groups).kid()))
    assert people.true_kid(0.0) == pytest.approx(0, abs=1e-12)
    assert truth > 0.01
    assert np.mean(values) == pytest.approx(truth, abs=3.5 * np.std(values) / 60**0.5)


def test_known_auc_of_drawn_scores_is_that_of_many(script: Any) -> None:
    utility = script("null_utility")
    rows = [utility.repeat(None, number) for number in range(30)]
    for arm, signal in utility.SIGNALS.items():
        values = np.array([row[arm]["auc"]["value"] for row in rows])
        assert values.mean() == pytest.approx(utility.true_auc(signal), abs=3.5 * values.std(ddof=1) / 30**0.5)
    summary = utility.summarise(rows)["arms"]
    assert summary["equality"]["utility_change"]["covered"] >= 25
    assert summary["shift"]["utility_change"]["above_null"] >= 15


def test_coverage_counts_misses_on_either_side(script: Any) -> None:
    found = [{"value": v, "low": v - 1, "high": v + 1} for v in (0.0, 0.5, 1.5, -2.0)]
    counted = script("null_intervals").cover(found, 0.0, 0.2)
    assert (counted["covered"], counted["truth_below"], counted["truth_above"]) == (2, 1, 1)
    assert counted["above_null"] == 1
    assert counted["median_width"] == 2.0


def test_four_cries_in_a_hundred_pass_and_five_do_not(script: Any) -> None:
    copies = script("null_copies")
    row = {
        "n": {"posing": 10},
        "similarity": 0.9,
        "largest": 0.8,
        "overlap": False,
        "recall": {"exact": 1.0},
        "pairs": [],
    }
    for cries, passes in ((0, True), (4, True), (5, False)):
        rows = [{**row, "copies": int(number < cries), "pairs": [[7, 8]] * (number < cries)} for number in range(100)]
        summary = copies.summarise(rows)
        assert (summary["cry_copy"], summary["passes"]) == (cries, passes)
        assert summary["distinct_pairs_accused"] == min(cries, 1)
    assert copies.clopper_pearson(4, 100)[1] == pytest.approx(0.0993, abs=5e-5)


def test_repetitions_go_on_where_they_were_and_those_of_other_code_are_made_anew(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = script("null_study")
    asked: list[int] = []

    def repeat(nothing: None, number: int) -> dict[str, int]:
        asked.append(number)
        return {"square": number * number}

    part = study.Part(repeat, lambda rows: {"sum": sum(row["square"] for row in rows)}, ("null_study.py",), ("drawn",))
    monkeypatch.setattr(study, "PARTS", {"toy": part})
    monkeypatch.setattr(study, "RESULT", tmp_path / "result.json")
    arguments = SimpleNamespace(work=tmp_path, repetitions=5, minutes=1.0, data=None)
    lines = [{"repetition": 0, "key": part.key, "square": 0}, {"repetition": 1, "key": "older", "square": 100}]
    file = study.lines_file(tmp_path, "toy", "drawn")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"repetition": 2, "ke')
    study.run_part("toy", "drawn", arguments, until=float("inf"))
    assert asked == [1, 2, 3, 4]
    study.run_part("toy", "drawn", arguments, until=float("inf"))
    assert asked == [1, 2, 3, 4]
    assert "4 of 4" in capsys.readouterr().out
    study.write_all(tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["parts"]["toy"]["drawn"]["sum"] == 0 + 1 + 4 + 9 + 16


def test_the_key_of_the_code_does_not_depend_on_what_is_said_of_it(script: Any) -> None:
    meaning = script("null_study").what_it_does
    code = 'def f(x):\n    """Twice x."""\n    return 2 * x\n'
    assert meaning(code) == meaning("# so\n" + code.replace("Twice", "Two times"))
    assert meaning(code) != meaning(code.replace("2 *", "3 *"))


def test_a_population_is_measured_in_one_space(script: Any) -> None:
    people = population(script)
    features = people.features()
    assert features.shape == (len(people.images), people.space.dimension)
    assert torch.equal(features[people.patients[3]], people.sample(people.patients[3], None).features)
