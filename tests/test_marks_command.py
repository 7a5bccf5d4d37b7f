"""`synthoma marks`: what there is, and nobody by name."""

import json
from pathlib import Path

from typer.testing import CliRunner

from synthoma.cli.app import app
from synthoma.errors import MarksError


def test_counts_and_what_was_left_out(tmp_path: Path) -> None:
    series = "1.3.6.1.4.1.99999.1.2.3"
    (tmp_path / "points.csv").write_text(
        f"seriesuid,coordX,coordY,coordZ,diameter_mm\n{series},1,2,3,5.5\n{series},x,2,3,5.5\n"
    )
    (tmp_path / "notes.txt").write_bytes(b"\x00\x01")
    shown = CliRunner().invoke(app, ["marks", str(tmp_path), "--json"])
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.output)
    assert facts["files"] == {"luna16_annotations": 1}
    assert sum(facts["positions in mm"].values()) == 1
    assert facts["left out"] == len(facts["skipped"]) == 2
    assert series not in shown.output
    told = CliRunner().invoke(app, ["marks", str(tmp_path)])
    assert "positions in mm" in told.output
    assert "Left out: file" in told.output


def test_no_marks_at_all(tmp_path: Path) -> None:
    assert isinstance(CliRunner().invoke(app, ["marks", str(tmp_path)]).exception, MarksError)
