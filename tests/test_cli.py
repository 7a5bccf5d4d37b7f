"""The command line as a user meets it: exit codes, messages, files, interrupts. Each test runs the real command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthoma.run import file_sha256

SMALL = [
    "preparation.size=16",
    "model.generator_widths=[16,8]",
    "model.discriminator_widths=[8,16]",
    "model.latent=8",
    "training.batch=16",
    "training.kimg=0.32",
    "training.tick_kimg=0.064",
    "training.sample_kimg=0.16",
    "training.checkpoint_kimg=0.16",
    "training.precision=fp32",
    "evaluation.count=120",
    "evaluation.subsamples=20",
    "evaluation.validation_count=32",
]
SETTINGS = [part for setting in SMALL for part in ("--set", setting)]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}


def synthoma(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "synthoma", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "skin"
    result = synthoma("phantom", "skin", folder, "--count", 270, "--size", 24)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def finished(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    result = synthoma("run", "demo", "--data", phantoms, "--out", out, *SETTINGS)
    assert result.returncode == 0, result.stderr
    assert "Done: prepare, train, evaluate, report" in result.stdout
    return out


def test_run_leaves_the_contract(finished: Path) -> None:
    for name in (
        "recipe.yaml", "environment.json", "stats.jsonl", "report.html", "samples", "checkpoints", "model", "evaluation/fidelity.json",
        "private/report.html", "model/README.md",
    ):  # fmt: skip
        assert (finished / name).exists(), name


def test_a_second_run_does_nothing_and_says_so(phantoms: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file() and path.name != ".lock"}
    result = synthoma("run", "demo", "--data", phantoms, "--out", finished, *SETTINGS)
    assert result.returncode == 0
    assert "Nothing to do" in result.stdout
    changed = [
        p.name
        for p, time in before.items()
        if p.stat().st_mtime_ns != time and p.name not in ("recipe.yaml", "dataset.json")
    ]
    assert changed == []


def test_generate_writes_images_of_one_class(finished: Path, tmp_path: Path) -> None:
    result = synthoma(
        "generate",
        finished / "model",
        "--class",
        "melanoma",
        "--count",
        5,
        "--seed",
        7,
        "--out",
        tmp_path / "a",
        "--json",
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["classes"] == {"melanoma": 5}
    assert len(list((tmp_path / "a").glob("*.png"))) == 5
    synthoma("generate", finished / "model", "--class", "melanoma", "--count", 9, "--seed", 7, "--out", tmp_path / "b")
    for file in (tmp_path / "a").glob("*.png"):
        assert file_sha256(file) == file_sha256(tmp_path / "b" / file.name)


def test_evaluate_two_folders_as_json(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    synthoma("generate", finished / "model", "--count", 80, "--out", tmp_path / "fake")
    synthoma("phantom", "skin", tmp_path / "real", "--count", 270, "--size", 16)
    result = synthoma("evaluate", "--real", tmp_path / "real", "--synthetic", tmp_path / "fake", "--json")
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    kid = measured["spaces"]["randconv"]["all"]["kid"]
    assert kid["low"] <= kid["value"] <= kid["high"]
    assert {"value", "low", "high"} <= kid["floor"].keys()
    assert len(measured["protocol"]["hash"]) == 16
    # Each number has a protocol of its own: the space and the class belong to it.
    assert kid["protocol"] != measured["spaces"]["pca"]["all"]["kid"]["protocol"]


def test_prepare_train_report_one_by_one(phantoms: Path, tmp_path: Path) -> None:
    prepared = synthoma("prepare", "demo", "--data", phantoms, "--out", tmp_path / "data", *SETTINGS, "--json")
    assert prepared.returncode == 0, prepared.stderr
    assert json.loads(prepared.stdout)["classes"][3] == "melanoma"
    trained = synthoma("train", "demo", "--dataset", tmp_path / "data", "--out", tmp_path / "run", *SETTINGS)
    assert trained.returncode == 0, trained.stderr
    for command in (("evaluate", tmp_path / "run", "--json"), ("report", tmp_path / "run")):
        assert synthoma(*command).returncode == 0
    assert (tmp_path / "run" / "report.html").is_file()


def test_ctrl_c_saves_and_says_how_to_go_on(phantoms: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "synthoma",
        "run",
        "demo",
        "--data",
        str(phantoms),
        "--out",
        str(out),
        *SETTINGS,
        "--set",
        "training.kimg=400",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 90
        while not (out / "stats.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "everything is saved" in errors
    assert f"synthoma train {out} --resume" in errors
    again = synthoma("run", "demo", "--data", phantoms, "--out", out, *SETTINGS, "--set", "training.kimg=2")
    assert again.returncode == 0, again.stderr
    assert "Going on from" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "demo"], 2, "--dataset and --out are needed"),
        (["evaluate"], 2, "either the folder of a run"),
        (["no-such-command"], 2, "No such command"),
        (["generate", "MISSING", "--out", "x"], 1, "is no model"),
        (["run", "skin-cgam", "--data", ".", "--out", "x"], 1, "did you mean 'skin-cgan'"),
        (["run", "demo", "--data", "MISSING", "--out", "x"], 1, "does not exist"),
        (["run", "demo", "--out", "x"], 1, "--data PATH"),
        (["train", "MISSING", "--resume"], 1, "is no run"),
        (["phantom", "skim", "x"], 1, "did you mean 'skin'"),
    ],
)
def test_wrong_usage_and_errors(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    result = synthoma(*[str(tmp_path / a) if a in ("MISSING", "x") else a for a in arguments])
    assert result.returncode == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr


def test_class_on_an_unconditional_model_is_an_error(phantoms: Path, tmp_path: Path) -> None:
    result = synthoma(
        "run",
        "demo",
        "--data",
        phantoms,
        "--out",
        tmp_path / "run",
        *SETTINGS,
        "--set",
        "model.family=dcgan",
        "--set",
        "training.kimg=0.032",
    )
    assert result.returncode == 0, result.stderr
    refused = synthoma("generate", tmp_path / "run" / "model", "--class", "melanoma", "--out", tmp_path / "out")
    assert refused.returncode == 1
    assert "has no classes" in refused.stderr


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    result = synthoma("run", "demo", "--data", ".", "--out", tmp_path / "run", "--dry-run", "--json")
    assert result.returncode == 0, result.stderr
    cost = json.loads(result.stdout)["cost"]
    assert cost["generator_parameters"] > 1e5
    assert cost["images_per_second"] > 0
    assert (
        cost["checkpoint_mib"]
        > 4 * (cost["generator_parameters"] * 4 + cost["discriminator_parameters"] * 3) / 2**20 * 0.99
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "command", ["demo", "recipes", "doctor", "phantom", "prepare", "train", "generate", "evaluate", "report", "run"]
)
def test_help_has_an_example(command: str) -> None:
    result = synthoma(command, "--help")
    assert result.returncode == 0
    assert f"synthoma {command}" in result.stdout.split("Example:")[1]


def test_recipes_and_doctor() -> None:
    listed = json.loads(synthoma("recipes", "--json").stdout)
    assert "skin-cgan" in [recipe["name"] for recipe in listed]
    assert "kimg: 1600" in synthoma("recipes", "skin-cgan").stdout
    found = json.loads(synthoma("doctor", "--json").stdout)
    assert found["memory_gib"] > 0
    assert "advice" in found
