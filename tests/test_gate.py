"""The gate: what it passes, what it refuses, and that less data never passes more easily."""

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evidence_fixture import above_floor, figure, make_studied_run, seal
from run_fixture import estimate
from synthoma.cli.app import app
from synthoma.errors import EvaluationError, ModelError
from synthoma.evaluation.gate import GATE, RELEASE, decide
from synthoma.evaluation.gate_rules import Ruling, judge_all, within
from synthoma.gate_settings import GateSection
from synthoma.recipe import load_recipe
from synthoma.run import Run, read_json, write_json

STUDIES = ("privacy", "fidelity", "utility")
MARGINS = GateSection()
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate") / "run"
    make_studied_run(folder, kimg=10, size=(16, 16))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    shutil.copytree(made, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def results(made: Path) -> dict[str, Any]:
    """Results that pass every rule, and the data they are of."""
    found = {name: read_json(made / "evaluation" / f"{name}.json") for name in STUDIES}
    return {**found, "data": {"may_release": True, "licence": "CC0"}}


def judged(results: dict[str, Any], margins: GateSection = MARGINS) -> dict[str, Ruling]:
    return {one.rule: one for one in judge_all(**results, margins=margins)}


def verdicts(results: dict[str, Any]) -> dict[str, str]:
    return {rule: one.verdict for rule, one in judged(results).items()}


def edit(run: Run, name: str, change: Change) -> None:
    file = run.evaluation / f"{name}.json"
    value = read_json(file)
    change(value)
    write_json(file, value)


def test_results_within_all_margins_are_released(results: dict[str, Any]) -> None:
    assert set(verdicts(results).values()) == {"passed"}
    assert list(verdicts(results)) == [
        "copies",
        "attack_features",
        "attack_pixels",
        "kid_randconv",
        "coverage_randconv",
        "utility",
        "licence",
    ]


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.01, -0.05, 0.07, "passed"),
        (0.01, -0.08, 0.10, "not demonstrated"),  # the limit itself is not below the limit
        (0.12, 0.09, 0.15, "not demonstrated"),
        (0.12, 0.10, 0.14, "failed"),
        (-0.05, -0.16, 0.06, "not demonstrated"),  # by luck of a value below zero: it reaches 0.11 from it
        (-0.02, -0.11, 0.07, "passed"),
        (-0.30, -0.55, -0.05, "passed"),  # wide, and better than none as a whole
        (0.0, 0.0, 0.0, "passed"),
    ],
)
def test_the_interval_decides(value: float, low: float, high: float, verdict: str) -> None:
    assert within(value, low, high, 0.1) == verdict


def changed(results: dict[str, Any], name: str, change: Change) -> dict[str, Any]:
    other = copy.deepcopy(results)
    change(other[name])
    return other


CASES: list[tuple[str, str, Change, str, str]] = [
    ("copies", "privacy", lambda p: p["copies"].update(found=1), "failed", "1 confirmed copy among 2000"),
    (
        "copies",
        "privacy",
        lambda p: p["copies"].update(n=200, rate={"upper_95": 0.015}),
        "not demonstrated",
        "leaves room for 1.5",
    ),
    ("copies", "privacy", lambda p: p["copies"]["recall"].update(flipped=0.6), "not demonstrated", "flipped 60"),
    (
        "attack_features",
        "privacy",
        lambda p: p["membership"]["features"].update(excess={"value": 0.2, "low": 0.13, "high": 0.27}),
        "failed",
        "above the limit of 0.100",
    ),
    (
        "attack_pixels",
        "privacy",
        lambda p: p["membership"]["pixels"].pop("control"),
        "not demonstrated",
        "none of its control",
    ),
    (
        "attack_pixels",
        "privacy",
        lambda p: p["membership"].update(pixels={"kind": "withheld", "reason": "there are 12 images"}),
        "not demonstrated",
        "Withheld: there are 12 images.",
    ),
    (
        "kid_randconv",
        "fidelity",
        lambda f: f["spaces"]["randconv"].update(above_floor=above_floor(0.6, 0.1)),
        "not demonstrated",
        "limit of 0.655",
    ),
    (
        "kid_randconv",
        "fidelity",
        lambda f: f["spaces"]["randconv"].update(above_floor=above_floor(0.9, 0.1)),
        "failed",
        "above the limit of 0.655",
    ),
    ("kid_randconv", "fidelity", lambda f: f["spaces"]["randconv"].pop("above_floor"), "not demonstrated", "evaluate"),
    (
        "kid_randconv",
        "fidelity",
        lambda f: f["spaces"]["randconv"]["all"]["kid"]["floor"].update(high=1.4),
        "not demonstrated",
        "no scale",
    ),
    (
        "coverage_randconv",
        "fidelity",
        lambda f: f["spaces"]["randconv"]["all"].update(coverage=estimate(0.4, 0.05, 0.93, 0.03, "higher", 60)),
        "failed",
        "below the limit of −0.233",
    ),
    (
        "coverage_randconv",
        "fidelity",
        lambda f: f["spaces"].pop("randconv"),
        "not demonstrated",
        "no result of coverage",
    ),
    ("utility", "utility", lambda u: u["arms"].pop(5), "not demonstrated", "no arm real+synthetic@1"),
    ("utility", "utility", lambda u: u.update(synthetic="a folder of images"), "not demonstrated", "made them"),
    (
        "utility",
        "utility",
        lambda u: u["arms"][5]["change"].update(auc=figure(-0.05, 0.02)),
        "failed",
        "below the limit of −0.020",
    ),
    (
        "utility",
        "utility",
        lambda u: u["arms"][5]["change"].update(auc=figure(0.03, 0.045)),
        "not demonstrated",
        "reaches farther",
    ),
    (
        "utility",
        "utility",
        lambda u: u["arms"][5]["change"]["auc"].update(per_seed=[0.011]),
        "not demonstrated",
        "one seed",
    ),
    ("utility", "utility", lambda u: u.update(arms=[], withheld="too few patients"), "not demonstrated", "Too few"),
    ("licence", "data", lambda d: d.update(may_release=None), "not demonstrated", "Nothing says"),
    ("licence", "data", lambda d: d.update(may_release=False), "failed", "do not allow"),
    ("licence", "data", lambda d: d.update(may_release="yes"), "not demonstrated", "Nothing says"),
]


@pytest.mark.parametrize(("rule", "name", "change", "verdict", "why"), CASES)
def test_one_rule_at_a_time(
    results: dict[str, Any], rule: str, name: str, change: Change, verdict: str, why: str
) -> None:
    found = judged(changed(results, name, change))
    assert found[rule].verdict == verdict
    assert why in found[rule].why


def test_a_gain_need_not_be_known_exactly(results: dict[str, Any]) -> None:
    gain = changed(results, "utility", lambda u: u["arms"][5]["change"].update(auc=figure(0.10, 0.06)))
    assert verdicts(gain)["utility"] == "passed"


def test_the_discriminator_is_not_released_and_does_not_count(results: dict[str, Any]) -> None:
    assert results["privacy"]["membership"]["discriminator"]["excess"]["low"] > MARGINS.attack
    assert set(verdicts(results).values()) == {"passed"}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_was_not_made_passes_nothing(results: dict[str, Any], name: str) -> None:
    rules = {"privacy": ("copies", "attack"), "fidelity": ("kid", "coverage"), "utility": ("utility",)}[name]
    for rule, verdict in verdicts({**results, name: None}).items():
        assert verdict == ("not demonstrated" if rule.startswith(rules) else "passed"), rule


def numbers_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every leaf."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in numbers_in(one, (*path, key))]
    if isinstance(value, list):
        return [found for place, one in enumerate(value) for found in numbers_in(one, (*path, place))]
    return [path]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


# What the rules read, besides three whole results.
READ: list[tuple[Any, ...]] = [
    *((name,) for name in STUDIES),
    ("privacy", "copies"),
    ("privacy", "membership", "features"),
    ("privacy", "membership", "pixels"),
    ("fidelity", "spaces", "randconv", "above_floor"),
    ("fidelity", "spaces", "randconv", "all", "kid"),
    ("fidelity", "spaces", "randconv", "all", "coverage"),
    ("utility", "arms", 5, "change", "auc"),
]


def present(results: dict[str, Any], path: tuple[Any, ...]) -> bool:
    try:
        return bool(numbers_in(at(results, path)))
    except (KeyError, IndexError, TypeError):
        return False


def weaken(results: dict[str, Any], draw: random.Random) -> None:
    """Widen an interval, or withhold a number, somewhere."""
    root = draw.choice([path for path in READ if present(results, path)])
    path = (*root, *draw.choice(numbers_in(at(results, root))))
    parent, key = at(results, path[:-1]), path[-1]
    kind = draw.choice(("widen", "remove", "nan", "withhold"))
    if kind == "widen":
        if isinstance(parent, dict) and {"low", "high"} <= set(parent):
            parent["low"] -= draw.expovariate(5)
            parent["high"] += draw.expovariate(5)
            if "upper_95" in parent:
                parent["upper_95"] += draw.expovariate(50)
    elif kind == "nan" and isinstance(parent[key], float):
        parent[key] = float("nan")
    elif kind == "remove" and isinstance(parent, dict):
        del parent[key]
    elif kind == "withhold" and isinstance(parent, dict) and parent.get("kind") in ("estimate", "attack"):
        parent.clear()
        parent.update(kind="withheld", reason="too few")


def test_less_data_never_passes_more_easily(results: dict[str, Any]) -> None:
    """200 results, good and bad, each weakened ten times: a rule that did not pass never passes afterwards."""
    draw = random.Random(0)
    stopped = 0
    for _ in range(200):
        found = copy.deepcopy(results)
        place = draw.uniform(-0.3, 0.9)
        found["fidelity"]["spaces"]["randconv"]["above_floor"] = above_floor(place, draw.uniform(0.01, 0.4))
        coverage = estimate(draw.uniform(0.3, 1.0), draw.uniform(0, 0.3), 0.93, draw.uniform(0, 0.05), "higher", 60)
        found["fidelity"]["spaces"]["randconv"]["all"]["coverage"] = coverage
        change = figure(draw.uniform(-0.08, 0.12), draw.uniform(0.001, 0.1))
        found["utility"]["arms"][5]["change"]["auc"] = change
        value, half = draw.uniform(-0.1, 0.2), draw.uniform(0.005, 0.15)
        excess = {"value": value, "low": value - half, "high": value + half}
        found["privacy"]["membership"]["features"]["excess"] = excess
        before = verdicts(found)
        for _ in range(10):
            weaken(found, draw)
            after = verdicts(found)
            for rule, verdict in after.items():
                assert verdict != "passed" or before[rule] == "passed", rule
                stopped += verdict != "passed" and before[rule] == "passed"
            before = after
    assert stopped > 100  # the weakening reaches what the rules read


def test_fewer_images_without_a_copy_pass_no_more_easily(results: dict[str, Any]) -> None:
    seen = []
    for n in (5000, 1000, 301, 300, 50, 1):
        fewer = changed(results, "privacy", lambda p, n=n: p["copies"].update(n=n, rate={"upper_95": min(1, 3 / n)}))
        seen.append(verdicts(fewer)["copies"])
    assert seen == ["passed"] * 3 + ["not demonstrated"] * 3


def test_the_verdict_is_written_with_what_it_rests_on(run: Run) -> None:
    decision = decide(run, MARGINS)
    assert decision.verdict == "release"
    written = read_json(run.evaluation / GATE)
    assert written == read_json(run.model / RELEASE) == decision.to_json()
    assert written["model_hash"] == read_json(run.model / "model.json")["model_hash"]
    assert set(written["evidence"]) == set(STUDIES)
    assert written["evidence"]["fidelity"]["protocol"] == "1f3a5b7c9d2e4f60"
    assert written["changed_margins"] == {}
    assert written["override"] is None
    assert str(run.path) not in (run.evaluation / GATE).read_text()


def test_a_widened_margin_is_told(run: Run) -> None:
    decide(run, GateSection(attack=0.3))
    assert read_json(run.model / RELEASE)["changed_margins"] == {"attack": 0.1}


def test_a_release_is_withdrawn_when_the_verdict_changes(run: Run) -> None:
    decide(run, MARGINS)
    edit(run, "privacy", lambda p: p["copies"].update(found=3))
    assert decide(run, MARGINS).verdict == "no release"
    assert not (run.model / RELEASE).exists()


def test_an_override_is_recorded_and_changes_no_ruling(run: Run) -> None:
    edit(run, "privacy", lambda p: p["copies"].update(found=3))
    decision = decide(run, MARGINS, "  phantoms only, \n no patient is in them ")
    assert decision.verdict == "no release"
    assert decision.released
    release = read_json(run.model / RELEASE)
    assert release["override"]["reason"] == "phantoms only, no patient is in them"
    assert release["override"]["time"].endswith("+00:00")
    assert release["rules"][0]["verdict"] == "failed"


def test_an_override_is_not_needed_where_the_gate_passes(run: Run) -> None:
    assert decide(run, MARGINS, "just to be sure of it").override is None


@pytest.mark.parametrize("reason", ["", "   ", "because", "x" * 500])
def test_a_reason_must_say_something(run: Run, reason: str) -> None:
    with pytest.raises(EvaluationError, match="reason of 10 to 400"):
        decide(run, MARGINS, reason)
    assert not (run.evaluation / GATE).exists()


@pytest.mark.parametrize("name", STUDIES)
def test_results_of_another_model_are_refused(run: Run, name: str) -> None:
    edit(run, name, lambda value: value.update(model_hash="0123456789abcdef"))
    with pytest.raises(EvaluationError, match=f"{name}.json is of another model"):
        decide(run, MARGINS, "an override does not help here")
    edit(run, name, lambda value: value.pop("model_hash"))
    with pytest.raises(EvaluationError, match="does not say which"):
        decide(run, MARGINS)


@pytest.mark.parametrize(
    ("name", "key"), [("privacy", "train"), ("privacy", "holdout"), ("fidelity", "reference"), ("fidelity", "floor")]
)
def test_results_on_other_data_are_refused(run: Run, name: str, key: str) -> None:
    edit(run, name, lambda value: value["protocol"].update({key: "0123456789abcdef/train"}))
    with pytest.raises(EvaluationError, match="other data than the model was trained on"):
        decide(run, MARGINS)


def test_a_retrained_model_makes_all_results_stale(run: Run) -> None:
    model = read_json(run.model / "model.json")
    write_json(run.model / "model.json", {**model, "images_seen": 99})
    with pytest.raises(ModelError, match="changed after the model was sealed"):
        decide(run, MARGINS)
    seal(run)
    with pytest.raises(EvaluationError, match="of another model"):
        decide(run, MARGINS)


def test_changed_weights_are_refused(run: Run) -> None:
    (run.model / "generator.safetensors").write_bytes(b"others")
    with pytest.raises(ModelError, match="SHA-256"):
        decide(run, MARGINS)


def test_a_run_without_a_model(run: Run) -> None:
    (run.model / "model.json").unlink()
    with pytest.raises(ModelError, match="no model yet"):
        decide(run, MARGINS)


def test_recipes_take_margins() -> None:
    recipe = load_recipe("demo", ["gate.attack=0.05", "gate.spaces=[randconv, pca]"])
    assert recipe.gate.attack == 0.05
    assert recipe.gate.spaces == ["randconv", "pca"]


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["gate", *map(str, arguments)])


def test_the_command_ends_with_0_or_3(run: Run) -> None:
    told = call(run.path)
    assert told.exit_code == 0
    assert "Release of model" in told.output
    assert "**Release.**" in (run.model / "README.md").read_text()
    edit(run, "utility", lambda u: u["arms"].pop(5))
    told = call(run.path)
    assert told.exit_code == 3
    assert "No release" in told.output
    assert "not demonstrated" in told.output
    assert "**No release.**" in (run.model / "README.md").read_text()
    told = call(run.path, "--override", "for use inside the project only")
    assert told.exit_code == 0
    assert "Released against the gate: for use inside" in told.output
    card = (run.model / "README.md").read_text()
    assert "**Released against the gate.**" in card
    assert "for use inside the project only" in card


def test_the_command_takes_no_reason_with_a_path(run: Run) -> None:
    told = call(run.path, "--override", "see /home/someone/notes.txt for the reason")
    assert told.exit_code == 2
    assert not (run.evaluation / GATE).exists()


def test_json_for_scripts(run: Run) -> None:
    told = call(run.path, "--json")
    assert json.loads(told.stdout) == read_json(run.evaluation / GATE)
