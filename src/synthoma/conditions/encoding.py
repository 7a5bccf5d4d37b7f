"""Class and attributes of an image -> the numbers that networks are conditioned on, and back to what may be asked for.

    class       one number a class (1 for the image's own); with an order, one a step between grades (1 above it, -1 below):
                the thermometer code, in which neighbouring grades differ by one number. No label: zeros.
    attribute   two numbers: the value, standardised by the mean and deviation of the training images, and 1; or 0 and 0
                where it is missing

The encoder is fitted on the training rows and lives on in the released model, so it holds no patient's row: moments, smoothed
quantiles (`distribution.py`), and ranges rounded outwards.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.conditions.distribution import FEWEST_ROWS, Copula
from synthoma.dataset import Dataset
from synthoma.draws import Draws
from synthoma.errors import DatasetError, ModelError, RecipeError, nearest_name_hint

CLASS = "class"
# An attribute that fewer training images have is as good as absent: its moments would be those of single patients.
FEWEST_KNOWN = 10
# Beyond the training images' range by this share of it, a model is not asked for a value.
MARGIN = 0.25


@dataclass(frozen=True)
class Attribute:
    """A continuous attribute. low, high: range of the training images, rounded outwards, so that neither end is a patient's value."""

    name: str
    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def fit(cls, name: str, values: NDArray[np.float64]) -> "Attribute":
        """From the known training values [n], which are not all alike."""
        low, high = float(values.min()), float(values.max())
        step = 10.0 ** math.floor(math.log10((high - low) / 20))
        low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        # Multiples of 0.1 and the like, without the tail of the binary number.
        digits = max(0, -math.floor(math.log10(step)))
        return cls(name, float(values.mean()), float(values.std()), round(low, digits), round(high, digits))

    @property
    def allowed(self) -> tuple[float, float]:
        """What may be asked for: a quarter beyond the training images; what was never negative does not become so."""
        margin = MARGIN * (self.high - self.low)
        low = self.low - margin
        return (max(low, 0.0) if self.low >= 0 else low), self.high + margin


@dataclass(frozen=True)
class Conditions:
    """The encoder. `Conditions.fit` makes it; `to_json` and `from_json` keep it in a model.

    classes: names by class index; empty where the model is not conditioned on the class. order: the classes from the lowest
    grade to the highest, None where they have no order. counts: training images of each class. copulas: distribution of the
    attributes for each class, then that of all.
    """

    classes: tuple[str, ...]
    order: tuple[str, ...] | None
    counts: tuple[int, ...]
    attributes: tuple[Attribute, ...]
    copulas: tuple[Copula, ...]

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        names: Sequence[str],
        class_order: Sequence[str] | None = None,
        when_absent: Literal["drop", "error"] = "error",
    ) -> tuple["Conditions", list[str]]:
        """Fit on the training rows. names: "class" and attributes; returns the encoder and notes on what was dropped.

        An attribute that does not vary is always dropped. Raises `RecipeError`, naming the attributes that there are, where a
        condition is absent and `when_absent` is "error", or where `class_order` does not name the classes.
        """
        if twice := sorted({name for name in names if list(names).count(name) > 1}):
            raise RecipeError(f"model.conditions names '{twice[0]}' more than once.")
        rows = dataset.rows("train")
        labels = dataset.labels[rows]
        kept, notes = [], list[str]()
        for name in names:
            absent, constant = _why_not(dataset, name, rows)
            if absent and when_absent == "error":
                raise RecipeError(
                    f"model.conditions: {absent}. model.when_absent: drop goes on without it, and says so."
                )
            if absent or constant:
                notes.append(f"Condition '{name}' was dropped: {absent or constant}.")
            else:
                kept.append(name)
        by_class = CLASS in kept
        classes = tuple(dataset.classes) if by_class else ()
        order = _checked_order(class_order, classes) if by_class and class_order is not None else None
        attributes = [name for name in kept if name != CLASS]
        values = np.stack([dataset.attribute(name)[rows] for name in attributes], axis=1) if attributes else None
        copulas = _fit_copulas(values, labels, len(classes)) if values is not None else ()
        known = [] if values is None else [column[np.isfinite(column)] for column in values.T]
        for name, own in zip(attributes, known, strict=True):
            if len(own) < len(rows):
                notes.append(f"Condition '{name}' is known for {len(own):,} of {len(rows):,} training images.")
        return cls(
            classes,
            order,
            tuple(int((labels == i).sum()) for i in range(len(classes))),
            tuple(Attribute.fit(name, own) for name, own in zip(attributes, known, strict=True)),
            copulas,
        ), notes

    @property
    def attribute_names(self) -> tuple[str, ...]:
        return tuple(attribute.name for attribute in self.attributes)

    @property
    def class_width(self) -> int:
        """Numbers that stand for the class; they come first."""
        return len(self.classes) - (self.order is not None)

    @property
    def width(self) -> int:
        """Numbers for each image; 0 without any condition."""
        return self.class_width + 2 * len(self.attributes)

    @cached_property
    def class_codes(self) -> NDArray[np.float32]:
        """Code of each class index, and zeros for -1 in the last row: float32 [classes + 1, class_width]."""
        count = len(self.classes)
        codes = np.eye(count, dtype=np.float32)
        if self.order is not None:
            grade = np.array([self.order.index(name) for name in self.classes])
            codes = np.where(grade[:, None] > np.arange(count - 1), 1, -1).astype(np.float32)
        return np.concatenate([codes, np.zeros((1, codes.shape[1]), dtype=np.float32)])

    def encode(
        self, labels: NDArray[np.int64], attributes: Mapping[str, NDArray[np.float64]] | None = None
    ) -> NDArray[np.float32]:
        """labels: class indices [n], -1 where there is none; attributes: name -> [n], NaN where missing. float32 [n, width].

        An attribute that is not given is missing. Raises `ModelError` for one that the model does not know.
        """
        attributes = attributes or {}
        self._check_names(attributes)
        labels = np.asarray(labels, dtype=np.int64)
        if self.classes and len(labels) and not -1 <= labels.min() <= labels.max() < len(self.classes):
            raise ModelError(f"class indices run from 0 to {len(self.classes) - 1}, or are -1 for none.")
        codes = np.zeros((len(labels), self.width), dtype=np.float32)
        if self.classes:
            codes[:, : self.class_width] = self.class_codes[labels]
        for j, attribute in enumerate(self.attributes):
            values = np.asarray(attributes.get(attribute.name, np.full(len(labels), np.nan)), dtype=np.float64)
            known = np.isfinite(values)
            place = self.class_width + 2 * j
            codes[known, place] = (values[known] - attribute.mean) / attribute.std
            codes[:, place + 1] = known
        return codes

    def encode_dataset(self, dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Codes of these rows of a dataset, whose classes may be others' in number and order: float32 [n, width]."""
        unknown = sorted(set(dataset.classes) - set(self.classes)) if self.classes else []
        if unknown:
            raise DatasetError(
                f"{dataset.path} has the class '{unknown[0]}', which the model was not trained on; it knows: {', '.join(self.classes)}."
            )
        index = np.array([self.classes.index(name) if self.classes else -1 for name in dataset.classes] + [-1])
        present = [name for name in self.attribute_names if name in dataset.attribute_names]
        return self.encode(index[dataset.labels[rows]], {name: dataset.attribute(name)[rows] for name in present})

    def draw(
        self,
        seed: int,
        index: NDArray[np.int64] | Tensor,
        labels: int | NDArray[np.int64] | None = None,
        attributes: Mapping[str, float | NDArray[np.float64]] | None = None,
        step: int = 0,
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]], NDArray[np.float32]]:
        """Labels [n], attributes name -> [n], and codes [n, width] of samples `index` [n]: a pure function of (seed, step, index).

        What is given (labels other than -1, values other than NaN) stays; the rest is drawn. Classes follow their share of the
        training images, whatever attributes are given: give both where they belong together. Attributes follow the smoothed distribution of the class, given the values that are fixed, and are
        never missing. Whole-numbered attributes come out as continuous values. Labels are -1 where the model has no classes.

        Raises `ModelError`: a class or attribute that the model does not know, a value far outside the training images.
        """
        place = torch.as_tensor(index, dtype=torch.int64).cpu()
        count = len(place)
        chosen = self._draw_labels(Draws(seed, "condition class").uniform(step, place).double().numpy(), labels)
        fixed = self._fixed(count, attributes or {})
        values = fixed
        if self.attributes:
            normals = Draws(seed, "condition attributes").normal(step, place, (len(self.attributes),)).double().numpy()
            for label in np.unique(chosen):
                own = chosen == label
                # -1, no class, is the last copula too: that of all classes together.
                values[own] = self.copulas[label].draw(normals[own], fixed[own])
        named = {name: values[:, j] for j, name in enumerate(self.attribute_names)}
        return chosen, named, self.encode(chosen, named)

    def range(self, name: str) -> tuple[float, float]:
        """Range of an attribute among the training images, rounded outwards. Raises `ModelError` for an unknown name."""
        attribute = self._attribute(name)
        return attribute.low, attribute.high

    def check(self, name: str, value: float) -> None:
        """Raises `ModelError` where the model has no such attribute, or the value lies far outside the training images."""
        attribute = self._attribute(name)
        low, high = attribute.allowed
        if not low <= value <= high:
            raise ModelError(
                f"{name} = {value:g} lies outside what the model has seen: training images have {attribute.low:g} to "
                f"{attribute.high:g}. Ask for {low:g} to {high:g}."
            )

    def to_json(self) -> dict[str, Any]:
        """Everything that `from_json` needs, as JSON values."""
        return {
            "classes": list(self.classes),
            "order": None if self.order is None else list(self.order),
            "counts": list(self.counts),
            "attributes": [dict(vars(attribute)) for attribute in self.attributes],
            "copulas": [copula.to_json() for copula in self.copulas],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Conditions":
        """The encoder that `to_json` wrote. Raises `ModelError` where something is missing."""
        try:
            return cls(
                tuple(content["classes"]),
                None if content["order"] is None else tuple(content["order"]),
                tuple(int(count) for count in content["counts"]),
                tuple(Attribute(**own) for own in content["attributes"]),
                tuple(Copula.from_json(own) for own in content["copulas"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"the conditions in model.json are damaged ({error}); take the model anew from its run."
            ) from error

    def _draw_labels(self, uniform: NDArray[np.float64], labels: int | NDArray[np.int64] | None) -> NDArray[np.int64]:
        given = np.broadcast_to(np.asarray(-1 if labels is None else labels, dtype=np.int64), uniform.shape)
        if not self.classes:
            if (given >= 0).any():
                raise ModelError("the model is not conditioned on a class; leave the class out.")
            return given.copy()
        shares = np.cumsum(np.array(self.counts, dtype=np.float64) / sum(self.counts))
        return np.where(given >= 0, given, np.searchsorted(shares[:-1], uniform, side="right"))

    def _fixed(self, count: int, attributes: Mapping[str, float | NDArray[np.float64]]) -> NDArray[np.float64]:
        """Values that were asked for [count, k], NaN where they are to be drawn; each is checked."""
        self._check_names(attributes)
        fixed = np.full((count, len(self.attributes)), np.nan)
        for j, name in enumerate(self.attribute_names):
            fixed[:, j] = attributes.get(name, np.nan)
            for value in np.unique(fixed[:, j][~np.isnan(fixed[:, j])]):
                self.check(name, float(value))
        return fixed

    def _check_names(self, names: Mapping[str, object]) -> None:
        for name in names:
            self._attribute(name)

    def _attribute(self, name: str) -> Attribute:
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        hint = nearest_name_hint(name, self.attribute_names) or "."
        known = ", ".join(self.attribute_names) or "none"
        raise ModelError(f"the model is not conditioned on an attribute '{name}'{hint} It knows: {known}.")


def _why_not(dataset: Dataset, name: str, rows: NDArray[np.int64]) -> tuple[str, str]:
    """Why the training rows cannot be conditioned on this: (it is absent, it does not vary); both empty where they can."""
    if name == CLASS:
        present = len(set(dataset.labels[rows].tolist()) - {-1})
        if present > 1:
            return "", ""
        return "the training images have no classes" if not present else "the training images have one class only", ""
    if name not in dataset.attribute_names:
        text = "is text, not a number" if name in dataset.text_attribute_names else "is no attribute of the images"
        hint = nearest_name_hint(name, dataset.attribute_names)
        return (
            f"'{name}' {text}{hint}{'' if hint else ';'} there are: {', '.join(dataset.attribute_names) or 'none'}",
            "",
        )
    values = dataset.attribute(name)[rows]
    known = values[np.isfinite(values)]
    if len(known) < FEWEST_KNOWN:
        return f"'{name}' is known for {len(known)} training images only, and {FEWEST_KNOWN} are needed", ""
    return "", f"it is {known[0]:g} for every training image" if np.ptp(known) == 0 else ""


def _checked_order(class_order: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    if sorted(class_order) != sorted(classes):
        raise RecipeError(
            f"model.class_order must name each class once, from the lowest grade to the highest. It names "
            f"{', '.join(class_order) or 'none'}; the classes are {', '.join(classes)}."
        )
    return tuple(class_order)


def _fit_copulas(values: NDArray[np.float64], labels: NDArray[np.int64], classes: int) -> tuple[Copula, ...]:
    """One for each class, and that of all rows at the end. values [n, k], labels [n]."""
    pooled = Copula.fit(values)
    own = (values[labels == i] for i in range(classes))
    return (*(Copula.fit(rows, pooled) if len(rows) >= FEWEST_ROWS else pooled for rows in own), pooled)
