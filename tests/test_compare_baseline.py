"""`compare --baseline --fail-if-worse`: worse is said of what is shown to be worse, and of what is no longer shown."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from run_fixture import estimate, make_run
from synthoma.cli.app import app
from synthoma.errors import EvaluationError
from synthoma.experiments import compare_runs
from synthoma.experiments.comparison_baseline import Check, check_against, got_worse
from synthoma.run import read_json, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    make_run(folder, kimg=10)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[..., Path]:
    """`copy("name", kid=result)`: the same run with other results over all images in the first space."""

    def make(name: str, **results: dict[str, Any]) -> Path:
        shutil.copytree(made, tmp_path / name)
        file = tmp_path / name / "evaluation" / "fidelity.json"
        fidelity = read_json(file)
        fidelity["spaces"]["randconv"]["all"].update(results)
        write_json(file, fidelity)
        return tmp_path / name

    return make


def kid(value: float, half: float) -> dict[str, Any]:
    yardstick = {"value": 1.31, "what": "blurred"}
    return estimate(value, half, 0.0021, 0.012, "lower", 60, yardstick=yardstick)


def checks(baseline: Path, *runs: Path) -> dict[str, Check]:
    comparison = compare_runs([baseline, *runs])
    found = check_against(comparison, comparison.entries[0])
    return {f"{check.run}/{check.space}/{check.metric}": check for check in found}


def test_the_same_numbers_are_not_worse(copy: Callable[..., Path]) -> None:
    found = checks(copy("base"), copy("new"))
    assert {check.change for check in found.values()} == {"not worse"}
    assert len(found) == 2 * 6  # two spaces; the Inception Score is withheld in the baseline
    assert not got_worse(list(found.values()))


@pytest.mark.parametrize(
    ("value", "half", "change"),
    [
        (0.45, 0.03, "worse"),  # 0.27 - sqrt(0.031^2 + 0.03^2) = 0.227, the margin is 0.131
        (0.45, 0.14, "not worse"),  # 0.27 - 0.143 = 0.127
        (0.30, 0.01, "not worse"),
        (0.05, 0.01, "not worse"),
    ],
)
def test_kid_is_worse_beyond_chance_and_margin(
    copy: Callable[..., Path], value: float, half: float, change: str
) -> None:
    check = checks(copy("base"), copy("new", kid=kid(value, half)))["new/randconv/kid"]
    assert check.change == change
    assert check.margin == pytest.approx(0.1 * (1.31 - 0.0021))
    assert check.low is not None
    assert check.low == pytest.approx(value - 0.182 - (0.031**2 + half**2) ** 0.5)


@pytest.mark.parametrize(("value", "change"), [(0.30, "worse"), (0.45, "not worse"), (0.9, "not worse")])
def test_coverage_is_worse_when_lower(copy: Callable[..., Path], value: float, change: str) -> None:
    coverage = estimate(value, 0.06, 0.93, 0.03, "higher", 60)
    check = checks(copy("base"), copy("new", coverage=coverage))["new/randconv/coverage"]
    assert check.change == change
    assert check.worsening == pytest.approx(0.57 - value)
    assert check.margin == 0.05


def test_limits_that_are_not_symmetric_are_kept_apart(copy: Callable[..., Path]) -> None:
    result = {**kid(0.30, 0.01), "low": 0.20, "high": 0.31}
    check = checks(copy("base"), copy("new", kid=result))["new/randconv/kid"]
    assert check.low == pytest.approx(0.118 - (0.1**2 + 0.031**2) ** 0.5)
    assert check.high == pytest.approx(0.118 + (0.01**2 + 0.031**2) ** 0.5)


def test_a_number_that_is_no_longer_shown_does_not_pass(copy: Callable[..., Path]) -> None:
    found = checks(copy("base"), copy("new", kid={"kind": "withheld", "reason": "too few"}))
    assert found["new/randconv/kid"].change == "not shown"
    assert got_worse(list(found.values()))


def test_other_protocols_are_refused(copy: Callable[..., Path]) -> None:
    base, new = copy("base"), copy("new", kid={**kid(0.18, 0.03), "protocol": "0" * 16})
    with pytest.raises(EvaluationError, match="different protocols are not compared"):
        checks(base, new)
    fidelity = read_json(new / "evaluation" / "fidelity.json")
    fidelity["protocol"]["hash"] = "0" * 16
    write_json(new / "evaluation" / "fidelity.json", fidelity)
    with pytest.raises(EvaluationError, match="different protocols"):
        checks(base, new)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_the_command_ends_with_3_only_when_asked(copy: Callable[..., Path]) -> None:
    base, same, worse = copy("base"), copy("same"), copy("worse", kid=kid(0.6, 0.03))
    assert call(same, "--baseline", base, "--fail-if-worse").exit_code == 0
    assert call(worse, "--baseline", base).exit_code == 0
    told = call(same, worse, "--baseline", base, "--fail-if-worse", "--json")
    assert told.exit_code == 3
    found = json.loads(told.stdout)["checks"]
    assert [check["run"] for check in found if check["change"] == "worse"] == ["worse"]
    assert "Against the baseline base" in call(worse, "--baseline", base).output


def test_fail_if_worse_needs_a_baseline(copy: Callable[..., Path]) -> None:
    assert call(copy("a"), copy("b"), "--fail-if-worse").exit_code == 2


def test_the_baseline_is_not_compared_with_itself(copy: Callable[..., Path]) -> None:
    base = copy("base")
    told = call(base, "--baseline", base)
    assert isinstance(told.exception, EvaluationError)
