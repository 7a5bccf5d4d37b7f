"""What the README and the pages say can be typed: commands, options, recipe keys and links exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

from synthoma.cli.app import app
from synthoma.cli.info import EXTRAS
from synthoma.recipe import Recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# Typer has its own copy of click in some versions, and click beside it in others.
USAGE_ERROR: Any = typer.BadParameter.__base__
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands_in(text: str) -> Iterator[tuple[str, bool]]:
    """(command, whether it stands on a line of its own and so has to be whole)."""
    for line in text.splitlines():
        if found := re.match(r"\s{4,}(?:torchrun .*-m )?(synthoma .*?)(?:\s+#.*)?$", line):
            yield found[1], True
        yield from ((inline, False) for inline in re.findall(r"`(synthoma [^`]+)`", line))


def problem_of(command: str, whole: bool) -> str | None:
    """Why a command cannot be typed; None where it can."""
    name, *arguments = shlex.split(command.replace("...", ""))[1:]
    if name not in COMMANDS:
        return f"there is no command {name}"
    try:
        COMMANDS[name].make_context(name, arguments)
    except USAGE_ERROR as error:
        told = error.format_message()
        return None if told.startswith("Missing") and not whole else str(told)
    return None


def recipe_keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """All keys of a recipe with the names of the sections before them."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(prefix + name)
        for section in sections_in(field.annotation):
            found |= recipe_keys(section, f"{prefix}{name}.")
    return found


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


@each_page
def test_commands_can_be_typed(page: Path) -> None:
    problems = {command: problem_of(command, whole) for command, whole in commands_in(page.read_text("utf-8"))}
    assert {command: problem for command, problem in problems.items() if problem} == {}


def test_what_cannot_be_typed_is_found() -> None:
    assert problem_of("synthoma runn demo", False) == "there is no command runn"
    assert "--colour" in str(problem_of("synthoma generate RUN/model --colour red --out x", True))
    assert "Missing" in str(problem_of("synthoma generate --out x", True))
    assert problem_of("synthoma generate", False) is None
    assert list(commands_in("    synthoma run demo   # a line\nor `synthoma cut`")) == [
        ("synthoma run demo", True),
        ("synthoma cut", False),
    ]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@each_page
def test_recipe_keys_exist(page: Path) -> None:
    known = recipe_keys(Recipe)
    sections = "|".join(sorted({key.split(".")[0] for key in known if "." in key}))
    # In backquotes, alone or with a value: files such as model.json are none.
    named = re.findall(rf"`((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)(?:[:=][^`]*)?`", page.read_text("utf-8"))
    files = ("json", "md", "py")
    assert [key for key in named if key not in known and key.rpartition(".")[2] not in files] == []


def test_the_readme_lists_every_command() -> None:
    listed = (ROOT / "README.md").read_text("utf-8").split("## Commands")[1].split("`--help`")[0]
    assert set(re.findall(r"`([a-z]+)[^`]*`", listed)) == set(COMMANDS)


def test_every_command_has_an_example_that_can_be_typed() -> None:
    for name, command in COMMANDS.items():
        examples = re.findall(r"`(synthoma [^`]+)`", (command.help or "").partition("Example")[2])
        assert any(shlex.split(example)[1] == name for example in examples), f"{name} has no example"
        assert [problem_of(example.partition(" > ")[0], True) for example in examples] == [None] * len(examples), name


def test_the_doctor_knows_every_extra() -> None:
    declared = re.search(r"\[project\.optional-dependencies\]\n(.*?)\n\[", (ROOT / "pyproject.toml").read_text(), re.S)
    assert declared is not None
    assert set(EXTRAS) == set(re.findall(r"^(\w+) = \[", declared[1], re.M)) - {"dev"}
