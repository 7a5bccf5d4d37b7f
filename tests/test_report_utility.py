"""The utility section of the report: label agreement beside its ceiling, and studies by folds."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from evidence_fixture import CLASSES, utility
from synthoma.dataset import Dataset
from synthoma.evaluation.origins import FOLDED
from synthoma.evaluation.utility import UtilitySettings
from synthoma.evaluation.utility.agreement import Answers, measure_agreement
from synthoma.evaluation.utility.study import numbered
from synthoma.report import model_card, write_report
from synthoma.report.utility import utility_view
from synthoma.run import Run, read_json, write_json
from test_report_evidence import made, section  # noqa: F401


def with_agreement(found: dict[str, Any]) -> dict[str, Any]:
    """The result with label agreement: synthetic images of the last class are always taken for the first."""
    labels = np.repeat(np.arange(len(CLASSES)), 40)
    said = np.where(labels == len(CLASSES) - 1, 0, labels)
    answers = Answers(labels, np.stack([said, said]), numbered(len(labels)))
    real = Answers(labels, np.stack([labels, labels]), numbered(len(labels)))
    judged = range(1, len(CLASSES))
    return {**found, "agreement": measure_agreement(answers, real, CLASSES, judged, UtilitySettings(bootstraps=100))}


def of_folds(found: dict[str, Any]) -> dict[str, Any]:
    folds = {"folds": 5, "repetitions": 1, "generator": "trained once in each fold", "kept": {CLASSES[1]: 1 / 3}}
    return {
        **found,
        "protocol": {**found["protocol"], "folds": folds},
        "counts": {"real": {"images": 70, "groups": 60, "classes": {}}},
        "synthetic": FOLDED,
        "generators": [{}] * 5,
    }


def test_agreement_stands_beside_its_ceiling() -> None:
    view = utility_view(with_agreement(utility("c", "m")))
    assert view is not None
    assert view.agreement is not None
    rows = {name: (synthetic, real) for name, synthetic, real in view.agreement.rows}
    last = CLASSES[-1].replace("_", " ")
    assert rows[last][0].startswith("0.000 (0.000 –")
    assert rows[last][1].startswith("1.000 (")
    synthetic, real = view.agreement.confusions
    assert synthetic.rows[-1][:2] == (last, "40")
    assert synthetic.rows[-1][2] == ["1.00", *["0.00"] * (len(CLASSES) - 1)]
    assert real.rows[-1][2] == [*["0.00"] * (len(CLASSES) - 1), "1.00"]


def test_a_study_by_folds_says_what_was_tested_and_what_was_not() -> None:
    view = utility_view(of_folds(utility("c", "m")))
    assert view is not None
    for words in (
        "In 5 folds, drawn 1 time: in each a generator was trained anew by the recipe of this run",
        "70 real images of 60 patients or groups",
        "The generator of this run itself was not tested.",
        "33 % were kept, an imbalance made on purpose",
    ):
        assert words in view.sentence
    assert view.agreement is None


def test_page_and_card_show_both(made: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copytree(made, tmp_path / "run")
    run, dataset = Run(tmp_path / "run"), Dataset.open(tmp_path / "run" / "dataset")
    model_hash = read_json(run.model / "model.json")["model_hash"]
    found = with_agreement(of_folds(utility(dataset.content_hash, model_hash)))
    write_json(run.evaluation / "utility.json", found)
    page = write_report(run, dataset)[0].read_text(encoding="utf-8")
    text = section(page, "utility")
    assert "Do synthetic images show their class?" in text
    assert "Synthetic images: share taken for" in text
    assert "In 5 folds" in text
    card = model_card(run)
    assert "### Do synthetic images show their class?" in card
    assert "The generator of this run itself was not tested" in card
