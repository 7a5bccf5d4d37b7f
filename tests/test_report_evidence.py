"""The studies and the gate on the pages and in the model card: whole, beside their controls, and without a real pixel."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evidence_fixture import make_studied_run, privacy, write_pairs
from synthoma.cli.app import app
from synthoma.dataset import Dataset
from synthoma.errors import SynthomaError
from synthoma.evaluation.gate import decide
from synthoma.gate_settings import GateSection
from synthoma.report import model_card, write_report
from synthoma.report.pdf import find_browser, write_pdf
from synthoma.run import Run, read_json, write_json
from test_report import holds_mark, pictures_in, seen

SECTIONS = ("anatomy", "subgroups", "privacy", "utility")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studied run, released, whose audit looked at the images that it saved."""
    folder = tmp_path_factory.mktemp("studied") / "run"
    run, dataset = make_studied_run(folder, kimg=10, size=(16, 16))
    model_hash = read_json(run.model / "model.json")["model_hash"]
    write_json(run.evaluation / "privacy.json", privacy(dataset.content_hash, model_hash, found=1, n=48))
    write_pairs(run, dataset)
    decide(run, GateSection())
    return folder


@pytest.fixture(scope="module")
def pages(made: Path) -> tuple[str, str]:
    return written(made)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    shutil.copytree(made, tmp_path / "run")
    return Run(tmp_path / "run")


def written(folder: Path) -> tuple[str, str]:
    public, private = write_report(Run(folder), Dataset.open(folder / "dataset"))
    return public.read_text(encoding="utf-8"), private.read_text(encoding="utf-8")


def edit(run: Run, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    file = run.evaluation / f"{name}.json"
    value = read_json(file)
    change(value)
    write_json(file, value)


def section(page: str, name: str) -> str:
    """A section's text in one line, without markup; all kinds of space are one."""
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found, name
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


def test_sections_are_there_and_linked(pages: tuple[str, str]) -> None:
    for page in pages:
        found = seen(page)
        assert set(SECTIONS) <= set(found.ids)
        assert {f"#{name}" for name in SECTIONS} <= set(found.links)


def test_no_file_no_section(run: Run) -> None:
    for name in (*SECTIONS, "detector", "gate"):
        (run.evaluation / f"{name}.json").unlink()
    public, _ = written(run.path)
    assert not set(SECTIONS) & set(seen(public).ids)
    assert not {f"#{name}" for name in SECTIONS} & set(seen(public).links)
    assert 'class="gate' not in public
    assert "and no verdict" in public
    assert "AUC of the detector" not in public


def test_pages_stay_closed(pages: tuple[str, str]) -> None:
    for page in pages:
        found = seen(page)
        assert "script" not in found.tags
        assert not found.handlers
        assert all(load.startswith("data:") for load in found.loads)


def test_real_pixels_are_on_the_private_page_only(pages: tuple[str, str]) -> None:
    public, private = pages
    assert not any(holds_mark(picture) for picture in pictures_in(public))
    audit = re.search(r'<section id="privacy">.*?</section>', private, re.DOTALL)
    assert audit
    shown = pictures_in(audit[0])
    assert len(shown) == 12  # six pairs
    assert [holds_mark(picture) for picture in shown] == [False, True] * 6


def test_pairs_say_what_they_are(pages: tuple[str, str]) -> None:
    text = section(pages[1], "privacy")
    assert "Synthetic copy Training image compared as it is similarity 0.970, 0.40 in features" in text
    assert "compared turned, moved by −1, +0 px" in text
    assert "compared flipped, moved by −2, +0 px" in text


@pytest.mark.parametrize("how", ["other protocol", "other images"])
def test_pairs_of_another_audit_are_not_shown(run: Run, how: str) -> None:
    if how == "other protocol":
        pairs = read_json(run.private / "pairs.json")
        write_json(run.private / "pairs.json", {**pairs, "protocol": "0" * 16})
    else:
        edit(run, "privacy", lambda p: p["counts"].update(synthetic=47))
    assert "most similar pairs" not in written(run.path)[1]


def test_attacks_stand_beside_their_control(pages: tuple[str, str]) -> None:
    text = section(pages[0], "privacy")
    assert "1 confirmed copy among 48 synthetic images" in text
    assert "0.51 0.47 – 0.55 0.50 0.46 – 0.54" in text
    assert "+0.013 (−0.027 to +0.053)" in text
    assert "never leaves the run" in text
    assert "0 of 40 held-out real images would be called copies" in text
    assert "G00007" not in pages[0]


def test_an_attack_without_its_control_is_no_number(run: Run) -> None:
    edit(run, "privacy", lambda p: p["membership"]["features"].pop("control"))
    text = section(written(run.path)[0], "privacy")
    assert "withheld: its control is missing" in text
    assert "0.51 0.47 – 0.55" not in text


def test_a_withheld_attack_has_its_reason(run: Run) -> None:
    reason = "there are 12 held-out images of 3 patients or groups"
    edit(run, "privacy", lambda p: p["membership"].update(pixels={"kind": "withheld", "reason": reason}))
    assert f"withheld: {reason}" in section(written(run.path)[0], "privacy")


def test_none_found_is_told_with_its_bound(run: Run) -> None:
    content, model = Dataset.open(run.own_dataset).content_hash, read_json(run.model / "model.json")["model_hash"]
    write_json(run.evaluation / "privacy.json", privacy(content, model))
    text = section(written(run.path)[0], "privacy")
    assert "No copy was found among 2 000 synthetic images" in text
    assert "at most 0.15 % are copies" in text


def test_utility_is_a_forest_plot_with_a_verdict_each(pages: tuple[str, str]) -> None:
    text = section(pages[0], "utility")
    for line in (
        "synthetic only −0.094 (−0.124 to −0.064)",
        "+0.011 (−0.001 to +0.023)",
        "no effect within the margin",
        "harms",
        "too few images",
    ):
        assert line in text
    assert text.index("vascular lesion against the rest (a minority class)") < text.index("melanoma against the rest")
    assert "basal cell carcinoma: 6 test images; a class needs at least 10." in text
    drawn = re.findall(r'<rect class="margin" x="([\d.]+)" y="0" width="([\d.]+)" height="18"', pages[0])
    assert len(drawn) == 4 * 5  # four plots, five arms with numbers
    for left, width in drawn:
        assert float(left) + float(width) / 2 == pytest.approx(50, abs=0.02)  # the margin lies around no change


def test_a_study_that_was_withheld_says_why(run: Run) -> None:
    edit(run, "utility", lambda u: u.update(withheld="the test set has one class only", arms=[], minority=[]))
    text = section(written(run.path)[0], "utility")
    assert "Withheld: the test set has one class only." in text
    assert "Change of AUC" not in text


def test_further_fidelity_is_told(pages: tuple[str, str]) -> None:
    text = section(pages[0], "metrics")
    for line in (
        "Power spectrum, dB ↓ 1.90 1.50 – 2.30 0.56 0.36 – 0.76",
        "p = 0.0030 (999 permutations",
        "KID less floor: 0.180 (95 % interval 0.130 to 0.230",
        "Over 3 generation seeds, mean ± standard deviation: KID 0.180 ± 0.010",
        "AUC of the detector ↓ 0.93 0.90 – 0.96 0.51 0.44 – 0.58",
    ):
        assert line in text
    anatomy = section(pages[0], "anatomy")
    for line in (
        "Diameter ↓ 0.14 0.08 – 0.20 0.07 0.03 – 0.11",
        "Sphericity withheld: 21 nodules",
        "Real test cubes 74 % 12 % 14 %",
        "109 in 120 synthetic cubes",
    ):
        assert line in anatomy
    subgroups = section(pages[0], "subgroups")
    assert "F 0.84 0.76 – 0.92 floor 0.92" in subgroups
    assert "a 4 patients or groups; a subgroup needs at least 10" in subgroups


def test_the_gate_stands_at_the_head(pages: tuple[str, str]) -> None:
    page = pages[0]
    assert page.index('class="gate no"') < page.index('id="samples"')
    assert "No release" in page
    assert "1 confirmed copy among 48 images" in page


def test_what_stands_against_a_release_comes_first(pages: tuple[str, str]) -> None:
    for page in pages:
        verdicts = re.findall(r'<span class="verdict (passed|failed|not-demonstrated)">[✓✗?] ', page)
        assert verdicts == sorted(verdicts, key=["failed", "not-demonstrated", "passed"].index)
        assert {"failed", "passed"} <= set(verdicts)
        assert 'class="todo"' not in page


def test_missing_studies_stand_at_the_head_with_their_commands(run: Run) -> None:
    def commands() -> list[str]:
        page = written(run.path)[0]
        head = page[: page.index('id="samples"')]
        return re.findall(r"<dt><code>(synthoma \w+ RUN)</code></dt>", head)

    for name in ("privacy", "utility", "gate"):
        (run.evaluation / f"{name}.json").unlink()
    assert commands() == ["synthoma audit RUN", "synthoma utility RUN", "synthoma gate RUN"]
    decide(run, GateSection())
    page = written(run.path)[0]
    assert commands() == ["synthoma audit RUN", "synthoma utility RUN"]
    assert page.index('class="gate no"') < page.index('class="todo"') < page.index('id="samples"')
    (run.evaluation / "gate.json").unlink()
    assert "No verdict yet" in written(run.path)[0]


def test_studies_of_an_earlier_model_and_outdated_verdicts_are_to_be_done(run: Run) -> None:
    edit(run, "privacy", lambda p: p.update(model_hash="0" * 16))
    page = written(run.path)[0]
    todo = page[page.index('class="todo"') : page.index('id="samples"')]
    assert "synthoma audit RUN" in todo
    assert "synthoma gate RUN" in todo, "the verdict rests on the result that was changed"
    assert "synthoma utility RUN" not in todo


@pytest.mark.parametrize("how", ["another model", "newer results", "a study more"])
def test_an_outdated_verdict_is_not_shown(run: Run, how: str) -> None:
    if how == "another model":
        edit(run, "gate", lambda g: g.update(model_hash="0" * 16))
    elif how == "newer results":
        edit(run, "utility", lambda u: u["seeds"].append(3))
    else:
        edit(run, "gate", lambda g: g["evidence"].pop("utility"))
    page = written(run.path)[0]
    assert "No valid verdict" in page
    assert "confirmed copy among 48 images; of 40" not in page


def test_results_of_an_earlier_model_are_left_out(run: Run) -> None:
    edit(run, "privacy", lambda p: p.update(model_hash="0" * 16))
    page = written(run.path)[0]
    assert "privacy" not in seen(page).ids
    assert "The privacy audit is of an earlier model and is left out" in page


def test_an_override_is_in_the_page_and_the_card(run: Run) -> None:
    decide(run, GateSection(kid=0.6), "shared inside the project only; G00012 agreed")
    for text in (written(run.path)[0], model_card(run)):
        assert "Released against the gate" in text
        assert "shared inside the project only" in text
        assert "G00012" not in text
        assert "The margin kid is 0.6 in this recipe, 0.5 as shipped." in text


def test_the_card_has_all_sections(made: Path) -> None:
    card = model_card(Run(made))
    heads = [line for line in card.splitlines() if line.startswith("## ")]
    assert heads == [
        f"## {name}"
        for name in (
            "Gate",
            "Intended use",
            "How to generate",
            "Data",
            "Training",
            "Evaluation",
            "Anatomy",
            "Subgroups",
            "Privacy",
            "Utility",
            "Limits",
            "Provenance",
        )
    ]
    assert "| Nearest synthetic image, in features | lower | 0.51 | 0.47 – 0.55 | 0.50 | 0.46 – 0.54 |" in card
    assert "| synthetic only | −0.094 (−0.124 to −0.064) | harms |" in card
    assert "**Synthetic images, not for diagnosis.**" in card
    assert "no study of copies" not in card
    for line in card.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
    tables = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    for table in tables:
        assert len({row.count(" | ") for row in table.strip().splitlines()}) == 1, table


def test_the_card_says_when_nothing_was_studied(run: Run) -> None:
    for name in (*SECTIONS, "detector", "gate"):
        (run.evaluation / f"{name}.json").unlink()
    card = model_card(run)
    assert "no study of copies or of membership is part of this card" in card
    assert "## Privacy" not in card
    assert "## Gate" not in card


def test_a_pdf_without_a_browser_says_what_to_install(made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SYNTHOMA_BROWSER", raising=False)
    with pytest.raises(SynthomaError, match="apt install chromium"):
        write_pdf(made / "report.html", tmp_path / "report.pdf")


def test_a_browser_that_fails_is_told(made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\necho 'no display' >&2\nexit 7\n")
    browser.chmod(0o755)
    monkeypatch.setenv("SYNTHOMA_BROWSER", str(browser))
    with pytest.raises(SynthomaError, match=r"left no PDF of .* \(exit code 7: no display\)"):
        write_pdf(made / "report.html", tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.slow
def test_the_command_prints_a_pdf(run: Run) -> None:
    if find_browser() is None:
        pytest.skip("no Chromium, Chrome or Edge on this machine")
    told = CliRunner().invoke(app, ["report", str(run.path), "--pdf"])
    assert told.exit_code == 0, told.output
    content = (run.path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 5
