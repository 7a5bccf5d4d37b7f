"""How often which value occurs in real and in synthetic images: Hounsfield units of CT, grey values of other volumes.

A picture for the eye. The real curve is of the whole test split, which training never saw.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.report import words
from synthoma.report.charts import Series, line_chart
from synthoma.report.curves import Chart
from synthoma.report.facts import Facts
from synthoma.report.summary import groups_known

HU_STEP = 25.0  # HU a bin
GREY_BINS = 64
# Below so many patients a curve over their voxels may tell of one of them, so it stays on the private page.
LEAST_PATIENTS = 20


@dataclass(frozen=True)
class Bins:
    """Bins of `step` from `low` on; values beyond `low` and `high` count in the first and last one."""

    low: float
    high: float
    step: float

    @property
    def count(self) -> int:
        return max(1, int(np.ceil((self.high - self.low) / self.step - 1e-9)))

    @property
    def centres(self) -> NDArray[np.float64]:
        return np.asarray(self.low + self.step * (np.arange(self.count) + 0.5), dtype=np.float64)

    def shares(self, counts: NDArray[np.int64], kind: np.dtype[Any]) -> NDArray[np.float64]:
        """Share of the values in each bin, float64 [count] with the sum 1, from how often each value of `kind` occurs."""
        values = np.clip(_values(kind), self.low, self.high)
        places = np.minimum(((values - self.low) / self.step).astype(np.int64), self.count - 1)
        return np.bincount(places, weights=counts, minlength=self.count) / counts.sum()

    def beyond(self, kind: np.dtype[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which values of a type lie below, and which above, what is binned."""
        values = _values(kind)
        return values < self.low, values > self.high


def value_counts(images: NDArray[np.generic], rows: Iterable[int]) -> NDArray[np.int64]:
    """How often each value of an 8- or 16-bit type occurs in images [n, c, *spatial]: int64 [256 or 65536], lowest first.

    The last channel is left out where it is a mask beside one or three.
    """
    values = _values(images.dtype)
    counts, lowest = np.zeros(len(values), dtype=np.int64), int(values[0])
    for row in rows:
        image = images[row][:-1] if images.shape[1] in (2, 4) else images[row]
        counts += np.bincount(np.ravel(image).astype(np.int64) - lowest, minlength=len(counts))
    return counts


def _values(kind: np.dtype[Any]) -> NDArray[np.float64]:
    """All values that an integer type can have, lowest first."""
    limits = np.iinfo(kind)
    return np.arange(limits.min, limits.max + 1, dtype=np.float64)


def histogram(facts: Facts, public: bool) -> Chart | None:
    """The chart for volumes and for images in HU; None for other pictures, and where nothing synthetic was evaluated.

    A public page shows the real curve only where the test split has `LEAST_PATIENTS` patients or more.
    """
    made = facts.synthetic
    if made is None or not len(made.values) or facts.size is None:
        return None
    if len(facts.size) != 3 and facts.unit != "hu":
        return None
    bins = bins_of(facts, made.values)
    synthetic = bins.shares(value_counts(made.values, range(len(made.values))), made.values.dtype)
    series = [_series("synthetic", bins, synthetic, "accent")]
    note = [f"Synthetic: {words.plural(len(made.values), 'image')}."]
    held_back = _held_back(facts, public)
    if held_back is None and facts.dataset is not None:
        line, told = _real(facts.dataset, bins, facts.unit)
        series.insert(0, line)
        note += told
    else:
        note.append(f"No curve of real images: {held_back}.")
    name, ends = ("Hounsfield units", " HU") if facts.unit == "hu" else ("Grey values", "")
    things = "voxels" if len(facts.size) == 3 else "pixels"
    note.append(f"Bins of {bins.step:.3g}{ends}.")
    drawing = line_chart(
        series,
        unit=f"% of the {things}",
        x_unit=name,
        label=f"{name} of {things}, histogram",
        y_range=(0.0, None),
        x_range=(bins.low, bins.high),
        x_words="HU" if ends else "(grey value)",
    )
    return Chart(f"{name} of {things}", " ".join(note), [(line.style, line.name) for line in series], drawing)


def bins_of(facts: Facts, values: NDArray[np.generic]) -> Bins:
    """Bins of 25 HU over the window, or 64 over the range of grey values (0 to 255 for 8-bit ones)."""
    low, high = facts.window or (
        (0.0, 256.0) if values.dtype == np.uint8 else (float(values.min()), float(values.max()) + 1)
    )
    return Bins(low, high, HU_STEP if facts.unit == "hu" else (high - low) / GREY_BINS)


def _held_back(facts: Facts, public: bool) -> str | None:
    """Why the page has no real curve; None where it has one."""
    if facts.dataset is None:
        return "the dataset was not at hand when this page was written"
    rows = facts.dataset.rows("test")
    if not len(rows):
        return "the dataset has no test images"
    if not public:
        return None
    if not groups_known(facts):
        return "it is on the private page, because the patients of the test images are not known"
    if len(np.unique(facts.dataset.groups[rows])) < LEAST_PATIENTS:
        return f"it is on the private page, because the test images are of fewer than {LEAST_PATIENTS} patients"
    return None


def _real(dataset: Dataset, bins: Bins, unit: str) -> tuple[Series, list[str]]:
    """The curve of the test split with its spread between patients, and what must be known to read it."""
    rows = dataset.rows("test")
    kind, groups = dataset.images.dtype, dataset.groups[rows]
    everything, by_group = np.zeros(len(_values(kind)), dtype=np.int64), []
    for group in np.unique(groups):
        counts = value_counts(dataset.images, rows[groups == group])
        everything += counts
        by_group.append(bins.shares(counts, kind))
    below, above = (float(everything[beyond].sum() / everything.sum()) for beyond in bins.beyond(kind))
    band = np.std(by_group, axis=0, ddof=1) if len(by_group) > 1 else None
    people = words.plural(len(by_group), "patient or group", "patients or groups")
    told = [f"Real: all {words.plural(len(rows), 'test image')} of {people}."]
    if band is not None:
        told.append("The band is one standard deviation between these.")
    if below or above:
        ends = " HU" if unit == "hu" else ""
        told.append(
            f"{words.share(below)} of the real values lie below {words.fixed(bins.low, 0)}{ends} and {words.share(above)} "
            f"above {words.fixed(bins.high, 0)}{ends}: they count in the first and the last bin, as training sees them."
        )
    return _series("real, test", bins, bins.shares(everything, kind), "second", band), told


def _series(
    name: str, bins: Bins, shares: NDArray[np.float64], style: str, band: NDArray[np.float64] | None = None
) -> Series:
    points = [(float(x), 100 * float(y)) for x, y in zip(bins.centres, shares, strict=True)]
    return Series(name, points, style, () if band is None else [100 * float(half) for half in band])
