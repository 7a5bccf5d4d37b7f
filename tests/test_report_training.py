"""Curves and health findings of a page: what a run noted is drawn and told, what it did not note breaks nothing."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from run_fixture import make_run
from synthoma.report import write_report
from synthoma.report.curves import charts
from synthoma.report.facts import read_facts
from synthoma.report.health import MOST_FINDINGS, health_view
from synthoma.run import Run, read_json, write_json


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run", evaluated=False, kimg=10)[0]


def note(run: Run, change: Any, *more: dict[str, Any], scores: str | None = None) -> None:
    """Change each row by `change(row)`, append rows, and say what scores are."""
    rows = [{**row, **change(row)} for row in run.stats()] + list(more)
    run.stats_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if scores:
        write_json(run.training_file, {**read_json(run.training_file), "scores": scores})


def titles(run: Run) -> dict[str, Any]:
    return {chart.title: chart for chart in charts(read_facts(run, None))}


def finding(message: str, seen: int = 4000, **more: Any) -> dict[str, Any]:
    row = {"kind": "health", "images_seen": seen, "sign": "x", "severity": "warning", "message": message}
    return {**row, "advice": "Do this.", "action": "none", **more}


def test_older_runs_have_the_four_charts_only(run: Run) -> None:
    found = titles(run)
    assert list(found) == ["Losses", "How real the discriminator finds them", "Validation KID", "Speed"]
    assert "mean probability of being real" in found["How real the discriminator finds them"].drawing


def test_raw_scores_are_not_called_probabilities(run: Run) -> None:
    note(
        run, lambda row: {"d_real": 41.0, "d_fake": -17.0, "ahead": 0.4} if row["kind"] == "tick" else {}, scores="raw"
    )
    found = titles(run)
    chart = found["Scores of the discriminator"]
    assert "probability" not in chart.drawing
    ys = [float(y) for y in re.findall(r'class="dot \w+" cx="[\d.]+" cy="([\d.]+)"', chart.drawing)]
    assert len(set(ys)) == 2, "both lines lie inside, none is pressed to an end of 0 and 1"
    assert all(26 < y < 216 for y in ys)
    assert "Real ahead of synthetic" in found
    public = write_report(run, None)[0].read_text(encoding="utf-8")
    assert "as scores without a scale" in public
    assert "from 0 to 1, mean over a tick" not in public


def test_losses_below_zero_stay_inside_their_frame(run: Run) -> None:
    note(run, lambda row: {"loss_discriminator": -30.0, "loss_generator": 12.0} if row["kind"] == "tick" else {})
    ys = [float(y) for y in re.findall(r'cy="([\d.]+)" r="2.6"', titles(run)["Losses"].drawing)]
    assert max(ys) < 216


def test_what_was_noted_is_drawn(run: Run) -> None:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        if row["kind"] == "validation":
            return {"diversity": {"nevus": 0.9, "melanoma": 0.4}, "nearest": {"share_closer": 0.02, "auc": 0.55}}
        late = row["images_seen"] > 5000
        growth = {"level": 1, "fade": 0.5} if late else {"level": 0, "fade": 1.0}
        return {"penalty": 0.8, "gradient_generator": 1.1, "gradient_discriminator": 2.0, "strength": 0.3, **growth}

    note(run, change)
    found = titles(run)
    for title in ("Penalty", "Gradients of the weights", "Augmentation", "Growth", "Diversity"):
        assert found[title].drawing, title
    assert "level: 0.500 at 6.00" in found["Growth"].drawing, "half of the way from level 0 to 1"
    assert [name for _, name in found["Diversity"].legend] == ["nevus", "melanoma"]
    assert "rank (AUC): 0.550" in found["Nearness to training images"].drawing


def test_many_classes_are_summed_up_and_the_lowest_is_named(run: Run) -> None:
    ratios = {f"class_{i}": 0.5 + i / 10 for i in range(7)} | {"rare_one": 0.1, "unknown": None}
    note(run, lambda row: {"diversity": ratios} if row["kind"] == "validation" else {})
    chart = titles(run)["Diversity"]
    assert [name for _, name in chart.legend] == ["lowest class", "median class", "highest class"]
    assert "Lowest at the end: rare one (0.10)" in chart.note


@pytest.mark.parametrize("lacking", ["kid_se", "kid", "count", "d_real", "loss_generator", "images_per_second"])
def test_a_key_that_is_missing_breaks_nothing(run: Run, lacking: str) -> None:
    rows = [{key: value for key, value in row.items() if key != lacking} for row in run.stats()]
    partly = [{**row, "diversity": {}, "nearest": {}, "fade": None, "level": None} for row in rows]
    for written in (rows, partly):
        run.stats_file.write_text("".join(json.dumps(row) + "\n" for row in written))
        assert len(titles(run)) == 4
        write_report(run, None)


def test_findings_are_told_on_both_pages(run: Run) -> None:
    note(
        run,
        lambda row: {},
        finding("The discriminator tells real from fake every time.", 3000),
        finding("The discriminator tells real from fake every time.", 5000),
        finding("Class melanoma collapsed.", 6000, severity="grave", action="went back from 7 kimg"),
    )
    for page in write_report(run, None):
        text = page.read_text(encoding="utf-8")
        assert text.count("The discriminator tells real from fake every time.") == 1
        assert "2 times, from 3\u202f000 to 5\u202f000 images" in text
        assert "Grave; at 6\u202f000 images; went back from 7 kimg" in text
        assert "Do this." in text
        head = text[: text.index('<section id="samples">')]
        assert "Class melanoma collapsed." in head, "what is grave is said at the head"
        assert "tells real from fake" not in head


def test_findings_keep_people_out_of_the_public_page(run: Run) -> None:
    note(run, lambda row: {}, finding("Too near to group G00012 in /data/patients/x.png."))
    public, private = (page.read_text(encoding="utf-8") for page in write_report(run, None))
    assert "G00012" not in public
    assert "/data/patients" not in public
    assert "G00012" in private


def test_findings_are_never_markup(run: Run) -> None:
    note(run, lambda row: {}, finding("<script>alert(1)</script>"))
    assert "<script>" not in write_report(run, None)[0].read_text(encoding="utf-8")


def test_only_the_latest_of_many_findings_are_listed(run: Run) -> None:
    note(run, lambda row: {}, *(finding(f"Finding {i}.") for i in range(MOST_FINDINGS + 3)))
    view = health_view(read_facts(run, None), public=True)
    assert (len(view.findings), view.left_out) == (MOST_FINDINGS, 3)
    assert view.findings[-1].message == f"Finding {MOST_FINDINGS + 2}."


def test_an_ended_run_says_why(run: Run) -> None:
    ended = "no_progress: No better validation KID for 5 validations."
    write_json(run.training_file, {**read_json(run.training_file), "ended": ended})
    text = write_report(run, None)[0].read_text(encoding="utf-8")
    assert "The run was ended before its length. No better validation KID for 5 validations." in text
    assert "<dd>ended before its length</dd>" in text
    assert "no_progress" not in text


def test_volumes_are_shown_as_slices_in_one_window(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", classes=(), channels=1, size=(8, 10, 12), kimg=10)
    public, private = (page.read_text(encoding="utf-8") for page in write_report(run, dataset))
    assert "Slices of real and synthetic volumes" in private
    assert "middle slices of real and synthetic" not in public
    assert private.count('class="pair wide"') == 8, "a pair of volumes is stacked, not squeezed"


def test_without_a_declared_window_real_and_synthetic_share_one(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", classes=(), channels=1, size=(8, 8, 8), kimg=10)
    images = np.asarray(dataset.images).astype(np.int16) * 4 - 500
    dataset.__dict__["images"] = images
    made = np.full((2, 1, 8, 8, 8), int(images[:64].max()), dtype=np.int16)
    np.savez(run.evaluation / "synthetic.npz", images=made, labels=np.full(2, -1))
    facts = read_facts(run, dataset)
    assert facts.synthetic is not None
    assert (facts.synthetic.images >= 254).all(), "as bright as the brightest real voxel, not stretched by itself"
