"""`private/overview.png`: sample images of each class and split on one sheet, with names and numbers.

Shows real pixels, so it never leaves the private folder.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from synthoma.cohort import SPLITS
from synthoma.pictures import to_uint8

_SAMPLES = {"train": 8, "val": 4, "test": 4}
_MARGIN = 16
_GAP = 4
_BETWEEN_SPLITS = 24
_HEADER = 60
_PAPER, _INK, _PALE = (255, 255, 255), (24, 28, 36), (110, 116, 128)
_MOST_CLASSES = 40
_WIDEST_NAME = 30


def draw_overview(
    path: Path,
    title: str,
    images: NDArray[np.generic],
    labels: Sequence[str | None],
    splits: Sequence[str],
    window: tuple[float, float] = (0, 255),
) -> None:
    """Write the sheet. images [n, c, *spatial] in row order, black and white at `window`; a volume shows its middle slice."""
    classes = sorted({label or "" for label in labels})[:_MOST_CLASSES]
    cell = int(np.clip(max(images.shape[-2:]), 56, 128))
    shown = {split: _SAMPLES[split] for split in SPLITS if split in splits}
    font, small, heading = (ImageFont.load_default(size) for size in (14, 12, 20))
    names = max(_width(_short(name), font) for name in classes)
    left = _MARGIN + int(max(names, 110)) + 16
    width = left + sum(count * (cell + _GAP) + _BETWEEN_SPLITS for count in shown.values()) - _BETWEEN_SPLITS + _MARGIN
    sheet = Image.new("RGB", (width, _HEADER + len(classes) * (cell + _GAP) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 12), title, _INK, heading)
    numbers = {split: splits.count(split) if isinstance(splits, list) else list(splits).count(split) for split in shown}
    x = left
    for split, count in shown.items():
        draw.text((x, _HEADER - 20), f"{split} · {numbers[split]:,}", _PALE, small)
        for line, name in enumerate(classes):
            y = _HEADER + line * (cell + _GAP)
            rows = [
                i
                for i, (label, own) in enumerate(zip(labels, splits, strict=True))
                if (label or "", own) == (name, split)
            ]
            # Rows are in the order of their hashes, so the first ones are a fair sample.
            for k, row in enumerate(rows[:count]):
                sheet.paste(_picture(images[row], cell, window), (x + k * (cell + _GAP), y))
        x += count * (cell + _GAP) + _BETWEEN_SPLITS
    for line, name in enumerate(classes):
        y = _HEADER + line * (cell + _GAP) + cell // 2
        draw.text((_MARGIN, y - 16), _short(name) or "(no label)", _INK, font)
        total = sum((label or "") == name for label in labels)
        draw.text((_MARGIN, y + 2), f"{total:,} images", _PALE, small)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=False)


def _picture(image: NDArray[np.generic], cell: int, window: tuple[float, float]) -> Image.Image:
    """[c, *spatial] -> a picture of cell x cell, aspect kept, whole pixels when enlarged."""
    while image.ndim > 3:
        image = image[:, image.shape[1] // 2]
    array = np.moveaxis(to_uint8(image, *window), 0, -1)
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).convert("RGB")
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    result = Image.new("RGB", (cell, cell), _PAPER)
    result.paste(small, ((cell - size[0]) // 2, (cell - size[1]) // 2))
    return result


def _short(name: str) -> str:
    return name if len(name) <= _WIDEST_NAME else f"{name[: _WIDEST_NAME - 1]}…"


def _width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> float:
    return float(font.getlength(text))
