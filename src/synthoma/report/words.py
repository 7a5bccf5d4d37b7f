"""Numbers and names in the words of a page: one way of rounding, one way of counting, no names of people."""

import math
import re
from collections.abc import Mapping

MINUS = "−"
_PSEUDONYM = re.compile(r"\bG\d{5,}\b")
# Absolute paths, relative ones that end in a file, and bare names of image or table files (but for groups.csv).
_PATH = re.compile(
    r"(?<!\w)(?:[A-Za-z]:\\|~/|\.{0,2}/)[^\s'\",;]+"
    r"|[\w.-]+(?:[/\\][\w.-]+)+\.\w{2,7}\b"
    r"|\b(?!groups\.csv)[\w-]+\.(?:jpe?g|png|tiff?|bmp|gif|webp|dcm|nii|mhd|csv|npz|parquet)\b",
    re.IGNORECASE,
)


def count(value: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{round(value):,}".replace(",", "\u202f")


def number(value: float, digits: int = 3) -> str:
    """A number to `digits` significant digits, without exponent between 0.001 and a million."""
    if not math.isfinite(value):
        return "not a number"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    value = float(f"{value:.{digits - 1}e}")  # rounded first: 9.996 has one digit more before the point afterwards
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace(",", "\u202f").replace("-", MINUS)


def decimals_of(low: float, high: float) -> int:
    """Decimals at which an interval is told: two significant digits of its width, at most five, at least none."""
    width = high - low
    return 3 if width <= 0 else min(5, max(0, 1 - math.floor(math.log10(width))))


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, with a true minus; never a minus zero."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def share(value: float) -> str:
    """A share as per cent: 0.034 is 3.4 %, 0.34 is 34 %."""
    percent = value * 100
    return f"{fixed(percent, 1 if 0 < abs(percent) < 9.95 else 0)}\u202f%"


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def spoken(name: str) -> str:
    """A class name as it is shown: underscores as spaces."""
    return " ".join(name.replace("_", " ").split()) or "(no name)"


def plural(value: float, one: str, many: str | None = None) -> str:
    """`1 image`, `2 images`."""
    return f"{count(value)} {one if round(value) == 1 else many or one + 's'}"


def size_words(size: list[int] | tuple[int, ...], channels: int) -> str:
    """`64 × 64 pixels, colour`, `32 × 32 × 32 voxels, grey`."""
    tone = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    return f"{' × '.join(str(n) for n in size)} {'pixels' if len(size) == 2 else 'voxels'}, {tone}"


def sentence(item: object) -> str:
    """A note, warning or deviation as text, whether it was written as text or as keys and values."""
    if isinstance(item, Mapping):
        return ", ".join(f"{key} {value}" for key, value in item.items())
    return str(item)


def without_people(text: str) -> str:
    """The text without pseudonyms of groups and without paths: both stay with the owner of the data."""
    return _PSEUDONYM.sub("(a group)", _PATH.sub("(a path)", text))
