"""The recipe: everything that decides what a run does, in one typed and strict model.

A recipe is YAML: shipped (`synthoma recipes`), a file of the user's, or the `recipe.yaml` of an earlier run.
`--set a.b=value` changes one key; an unknown key is an error that names the nearest known one.
Units are in the names (`kimg`: thousands of real images shown to the discriminator) or in the descriptions.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from synthoma.ct_settings import CtSection
from synthoma.errors import RecipeError, nearest_name_hint
from synthoma.family_defaults import with_family_defaults
from synthoma.gate_settings import GateSection
from synthoma.settings import ModelSection, Section, TrainingSection
from synthoma.slide_settings import SlidesSection

SCHEMA_VERSION = 1


class DataSection(Section):
    """What the recipe's user says about the data; travels into the model card and the release."""

    licence: str | None = Field(None, description="licence of the images; unknown is unknown")
    citation: str | None = Field(None, description="how to cite the images")
    may_release: bool | None = Field(None, description="whether the licence allows releasing derived synthetic images")


class SourceSection(Section):
    """How the raw files are read."""

    kind: Literal["auto", "tree", "table", "arrays", "slides", "tiles", "volumes", "cuts"] = Field(
        "auto",
        description="class-folder tree, table beside images, .npz of arrays, whole slides or their tiles, CT volumes or what was cut from them; auto asks each reader",
    )
    groups: str | None = Field(None, description="CSV (file, group) that says who must stay together; else groups.csv")
    file_column: str = Field("file", description="table: column with the path of the image")
    label_column: str = Field("label", description="table: column with the class")
    group_column: str = Field("group", description="table: column with the patient or group")
    split_column: str = Field("split", description="table: column with train, val or test")
    axes: str | None = Field(None, description="arrays: order of the axes, such as 'nyxc' or 'nzyx'; else by shape")
    attributes: list[str] | None = Field(
        None, description="table, arrays: columns kept as attributes (diameter_mm); else all that identify nobody"
    )


class PreparationSection(Section):
    """From raw files to training images."""

    size: int | list[int] = Field(64, description="pixels: one number for all axes, or [y, x] or [z, y, x]")
    colour: Literal["rgb", "grey"] = Field("rgb", description="channels of the training images")
    fit: Literal["crop", "pad", "stretch"] = Field("crop", description="how another aspect ratio is made to fit")
    resample: bool = Field(
        True, description="false: pixels stay as they are; crop cuts what is too large, pad fills what is missing"
    )
    fill: Literal["black", "edge", "reflect"] = Field(
        "black", description="pad: what the rest is filled with; edge or reflect for cubes that were cut from a scan"
    )
    denoise: Literal["none", "bilateral", "tv", "median"] = Field(
        "none",
        description="noise removed from raw 8-bit images, edges kept; what becomes of fine texture is measured and said",
    )
    denoise_strength: Annotated[float, Field(ge=0.5, le=64)] | Literal["auto"] = Field(
        "auto", description="standard deviation of that noise in grey levels (of 255); auto estimates it in each image"
    )
    upscale: Literal["refuse", "allow"] = Field("allow", description="what happens to images smaller than `size`")
    pool: dict[str, list[str]] = Field(
        default_factory=dict, description="classes made one before anything else: {malignant: [melanoma, carcinoma]}"
    )
    where: dict[str, Any] = Field(
        default_factory=dict, description="keep only records with these values: {label: [malignant], grade: [3, 4]}"
    )
    conflicts: Literal["drop", "keep"] = Field("drop", description="same picture under two labels")
    near_duplicates: bool = Field(True, description="put near-duplicates into one group where no groups are given")
    label_errors: bool = Field(True, description="list likely label errors by a cross-validated classifier")
    split: Literal["random", "given"] = Field("random", description="by group and seeded, or as the source says")
    fractions: list[float] = Field([0.70, 0.15, 0.15], description="train, val, test")
    split_seed: int = Field(0, ge=0)
    max_rejected: float = Field(0.2, ge=0, le=1, description="share of unreadable files above which preparing fails")
    max_pixels: int = Field(178_956_970, gt=0, description="images with more pixels than this are not decoded")

    @field_validator("size")
    @classmethod
    def _positive(cls, size: int | list[int]) -> int | list[int]:
        axes = [size] if isinstance(size, int) else size
        if any(n < 4 for n in axes) or (isinstance(size, list) and len(size) not in (2, 3)):
            raise ValueError("size must be a whole number of at least 4, or a list of two or three of them")
        return size

    @field_validator("pool", mode="before")
    @classmethod
    def _names(cls, pool: Any) -> Any:
        """Classes may be numbers, which YAML does not read as text."""
        if not isinstance(pool, dict):
            return pool
        return {str(name): [str(m) for m in own] if isinstance(own, list) else own for name, own in pool.items()}

    @field_validator("pool")
    @classmethod
    def _each_once(cls, pool: dict[str, list[str]]) -> dict[str, list[str]]:
        members = [member for own in pool.values() for member in own]
        if not all(pool.values()):
            raise ValueError("each pooled class names the classes that it is made of")
        if twice := sorted({member for member in members if members.count(member) > 1}):
            raise ValueError(f"'{twice[0]}' stands in the list more than once; a class goes into one pool")
        return pool

    @model_validator(mode="after")
    def _resampled_where_stretched(self) -> "PreparationSection":
        if self.fit == "stretch" and not self.resample:
            raise ValueError("fit 'stretch' resamples; with resample: false choose fit 'crop' or 'pad'")
        return self

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: list[float]) -> list[float]:
        if len(fractions) != 3 or min(fractions) < 0 or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError("fractions are three shares (train, val, test) that add up to 1")
        return fractions


class EvaluationSection(Section):
    """What is measured after training. Each number comes with its interval and its floor."""

    count: int = Field(2000, ge=50, description="synthetic images that are generated for it")
    seed: int = Field(0, ge=0)
    seeds: int = Field(
        1, ge=1, le=10, description="seeds that images are generated with; with more than one their spread is told"
    )
    spaces: list[str] = Field(["randconv", "pca"], description="feature spaces; a weights file adds its own")
    weights: list[str] = Field(
        default_factory=list, description="files with weights of a known extractor, or names of fetched ones: inception"
    )
    subsamples: int = Field(100, ge=10, description="half-samples of whole groups for each interval")
    floors: int = Field(5, ge=2, description="train subsamples for each floor")
    validation_count: int = Field(512, ge=16, description="synthetic images for the validation KID during training")


class Recipe(Section):
    """One experiment from raw files to report."""

    synthoma: Literal[1] = Field(1, description="version of the recipe's schema")
    name: str
    title: str = ""
    description: str = ""
    data: DataSection = DataSection()
    source: SourceSection = SourceSection()
    slides: SlidesSection = SlidesSection()
    ct: CtSection = CtSection()
    preparation: PreparationSection = PreparationSection()
    model: ModelSection = ModelSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    gate: GateSection = GateSection()

    @model_validator(mode="before")
    @classmethod
    def _of_family(cls, values: Any) -> Any:
        return with_family_defaults(values) if isinstance(values, dict) else values

    def to_yaml(self) -> str:
        """The whole recipe with all defaults written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def part_hash(self, *sections: str) -> str:
        """SHA-256 (first 16 hex digits) of the named sections, or of all: the key of what depends on them."""
        return content_hash(self.model_dump(mode="json", include=set(sections) if sections else None))


def content_hash(value: object) -> str:
    """First 16 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package."""
    folder = Path(str(resources.files("synthoma") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_of_dimension(dim: int) -> str:
    """A shipped recipe for images with so many axes."""
    for name in shipped_recipes():
        size = load_recipe(name).preparation.size
        if (len(size) if isinstance(size, list) else 2) == dim:
            return name
    raise RecipeError(f"no recipe is shipped for images with {dim} axes.")


def load_recipe(name_or_path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a shipped recipe by name or any recipe by path, apply `key=value` settings, validate.

    Raises `RecipeError` with each problem on a line of its own.
    """
    shipped = shipped_recipes()
    path = shipped.get(str(name_or_path)) or Path(name_or_path)
    if not path.is_file():
        hint = nearest_name_hint(str(name_or_path), shipped)
        raise RecipeError(f"there is no recipe '{name_or_path}'{hint} Shipped: {', '.join(shipped)}; or give a file.")
    return validate_recipe(apply_settings(read_values(path), settings), str(name_or_path))


def read_values(path: Path) -> dict[str, Any]:
    """The keys and values of a recipe file, not validated yet. Raises `RecipeError` where it is no recipe."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} is no recipe: expected keys such as `name`, `model` and `training`.")
    return values


def apply_settings(values: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` with each `a.b=value` written in; the value is read as YAML (numbers, lists, null)."""
    result = json.loads(json.dumps(values))
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key.strip():
            raise RecipeError(f"--set {setting}: expected key=value, such as --set training.kimg=50.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {setting}: the value is not valid YAML ({error}).") from error
        # YAML 1.1 reads 1e-4 as text; a recipe means the number.
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        node = result
        *parents, last = key.strip().split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise RecipeError(f"--set {setting}: '{parent}' holds a value, not a section.")
            node = child
        node[last] = value
    return result


def validate_recipe(values: dict[str, Any], name: str) -> Recipe:
    """Build the typed recipe, or raise a `RecipeError` that lists every problem in words."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors()]
        raise RecipeError(f"recipe {name} is not valid:\n  - " + "\n  - ".join(problems)) from error


def _explain(problem: Any) -> str:
    """One pydantic problem in a user's words, with the nearest known key for an unknown one."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        return f"unknown key '{key}'{nearest_name_hint(location[-1], known) or '.'} Known here: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"'{key}' is missing."
    message = problem["msg"].removeprefix("Value error, ")
    return (
        f"'{key}': {message} (got {problem.get('input')!r})"
        if problem["type"] != "value_error"
        else f"'{key}': {message}"
    )


def _known_keys(sections: list[str]) -> list[str]:
    """Keys that are legal inside the section at this path."""
    model: Any = Recipe
    for section in sections:
        field = model.model_fields.get(section)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)
