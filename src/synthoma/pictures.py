"""Arrays to pictures that a person looks at: grids, contact sheets, PNG and GIF files.

Pure: numpy and Pillow only, nothing is remembered. A volume is shown by its three middle slices, side by side.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from synthoma.errors import SynthomaError
from synthoma.run import write_atomically

BACKGROUND = (255, 255, 255)
INK = (64, 70, 78)
GAP_OF_SLICES = 2  # pixels between the three slices of a volume
LEAST_SHOWN = 64  # pixels: smaller images are enlarged to about this, by whole factors


def require_numbers(images: NDArray[np.floating]) -> None:
    """Raises `SynthomaError` where a value is NaN: it would be drawn, and measured, as if it were black."""
    if np.isnan(images).any():
        raise SynthomaError("cannot draw images that hold values which are not numbers (NaN); the network is broken.")


def to_uint8(images: ArrayLike, low: float, high: float) -> NDArray[np.uint8]:
    """Images [n, c, *spatial] with values in [low, high] as uint8 of the same shape; values outside are clipped.

    Raises `SynthomaError` where a value is not a number: a picture of it would look like a black image.
    """
    values = np.asarray(images, dtype=np.float32)
    if not low < high:
        raise ValueError(f"[{low}, {high}] is no range of values.")
    require_numbers(values)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def flatten_volumes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Volumes [n, c, z, y, x] as pictures [n, c, h, w]: middle slices across z, y and x side by side.

    z grows towards the head and is drawn upwards. Pictures [n, c, y, x] are returned as they are.
    """
    if images.ndim == 4:
        return images
    if images.ndim != 5:
        raise ValueError(f"expected images [n, c, y, x] or volumes [n, c, z, y, x], got the shape {images.shape}.")
    slices = [middle_slices(images, axis) for axis in range(3)]
    height = max(part.shape[2] for part in slices)
    width = sum(part.shape[3] for part in slices) + 2 * GAP_OF_SLICES
    result = np.full((*images.shape[:2], height, width), 255, dtype=np.uint8)
    left = 0
    for part in slices:
        top = (height - part.shape[2]) // 2
        result[:, :, top : top + part.shape[2], left : left + part.shape[3]] = part
        left += part.shape[3] + GAP_OF_SLICES
    return result


def picture(image: NDArray[np.uint8]) -> Image.Image:
    """One image [c, y, x] or volume [c, z, y, x] as a Pillow image: grey for one channel, colour for three.

    A last channel beside one or three is a mask, and is not shown; more than four channels are shown by their first.
    """
    flat = flatten_volumes(np.asarray(image, dtype=np.uint8)[None])[0]
    if len(flat) in (3, 4):
        return Image.fromarray(np.ascontiguousarray(flat[:3].transpose(1, 2, 0)))
    return Image.fromarray(np.ascontiguousarray(flat[0]))


def grid(
    images: NDArray[np.uint8],
    columns: int,
    pad: int = 2,
    row_labels: Sequence[str] | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Images uint8 [n, c, *spatial] in rows of `columns`, with `pad` pixels of white between them, as an RGB image.

    row_labels: a word for each row, drawn at its left (a further row stays bare). scale: whole factor of enlargement
    without smoothing; None enlarges images below 64 pixels. Raises `ValueError` for no images.
    """
    if not len(images) or columns < 1:
        raise ValueError("a grid needs at least one image and one column.")
    tiles = flatten_volumes(np.asarray(images, dtype=np.uint8))
    # The three slices of a volume lie side by side: its own size says whether it is small, not their width.
    scale = scale or max(1, LEAST_SHOWN // max(images.shape[2:]))
    height, width = (length * scale for length in tiles.shape[2:])
    rows = -(-len(tiles) // columns)
    font = _font(max(11, min(15, height // 4)))
    margin = _label_width(row_labels, font)
    sheet = Image.new("RGB", (margin + columns * (width + pad) + pad, rows * (height + pad) + pad), BACKGROUND)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        shown = picture(tile).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(shown, (margin + pad + column * (width + pad), pad + row * (height + pad)))
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate((row_labels or [])[:rows]):
        middle = pad + row * (height + pad) + height // 2
        draw.text((margin - 8, middle), _words(label), fill=INK, font=font, anchor="rm")
    return sheet


def montage(
    sections: Sequence[tuple[str, Sequence[tuple[str, NDArray[np.uint8]]]]], columns: int = 8, pad: int = 2
) -> Image.Image:
    """Volumes by plane: under each title, a labelled row of slices for each set, so that sets compare at a glance.

    sections: (title, [(label of the row, slices uint8 [n, c, h, w])]); slices beyond `columns` are left out.
    """
    heading, font = 26, _font(14)
    labels = [label for _, rows in sections for label, _ in rows]
    margin = _label_width(labels, font)
    parts: list[tuple[str, list[tuple[str, Image.Image]]]] = [
        (title, [(label, grid(slices[:columns], columns, pad)) for label, slices in rows]) for title, rows in sections
    ]
    if not labels:
        raise ValueError("a montage needs at least one row of slices.")
    width = margin + max(part.width for _, rows in parts for _, part in rows)
    height = sum(heading + sum(part.height for _, part in rows) for _, rows in parts)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw, top = ImageDraw.Draw(sheet), 0
    for title, rows in parts:
        draw.text((pad + 2, top + heading // 2 + 2), _words(title, longest=80), fill=INK, font=font, anchor="lm")
        top += heading
        for label, part in rows:
            draw.text((margin - 8, top + part.height // 2), _words(label), fill=INK, font=font, anchor="rm")
            sheet.paste(part, (margin, top))
            top += part.height
    return sheet


def middle_slices(volumes: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """The middle slice across a spatial axis (0: z, 1: y, 2: x) of volumes [n, c, z, y, x], as pictures [n, c, h, w].

    In LPS these are axial, coronal and sagittal; the last two are drawn with the head, where z ends, at the top.
    """
    slices = np.take(volumes, volumes.shape[2 + axis] // 2, axis=2 + axis)
    return slices if axis == 0 else slices[:, :, ::-1]


def beside(pictures: Sequence[tuple[str, str, Image.Image]], columns: int, most: int = 1200) -> Image.Image:
    """Titled pictures in rows of `columns`: (title, line below it, picture); larger ones are reduced to `most` pixels a side."""
    if not pictures or columns < 1:
        raise ValueError("nothing to put side by side.")
    gap, heading = 16, 46
    shown = []
    for title, line, image in pictures:
        reduced = image.convert("RGB")
        reduced.thumbnail((most, most))
        shown.append((title, line, reduced))
    cell = max(max(image.width for _, _, image in shown), 260)
    rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    heights = [heading + gap + max(image.height for _, _, image in row) for row in rows]
    sheet = Image.new("RGB", (gap + min(columns, len(shown)) * (cell + gap), gap + sum(heights)), BACKGROUND)
    draw, top = ImageDraw.Draw(sheet), gap
    for row, height in zip(rows, heights, strict=True):
        for column, (title, line, image) in enumerate(row):
            left = gap + column * (cell + gap)
            draw.text((left, top + 10), _fitting(title, _font(15), cell), fill=(0, 0, 0), font=_font(15), anchor="lm")
            draw.text((left, top + 30), _fitting(line, _font(12), cell), fill=INK, font=_font(12), anchor="lm")
            sheet.paste(image, (left, top + heading))
        top += height
    return sheet


def legend_below(image: Image.Image, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """The picture with a line of coloured squares and their meaning below it; entries: (words, RGB)."""
    font, square, line = _font(14), 12, 22
    rows: list[list[tuple[str, tuple[int, int, int], int]]] = [[]]
    left = 8
    for words, colour in entries:
        width = square + 6 + int(font.getlength(words)) + 18
        if left + width > max(image.width, 320) and rows[-1]:
            rows.append([])
            left = 8
        rows[-1].append((words, colour, left))
        left += width
    sheet = Image.new("RGB", (max(image.width, 320), image.height + line * len(rows) + 8), BACKGROUND)
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        middle = image.height + 8 + line * number + line // 2 - 4
        for words, colour, left in row:
            draw.rectangle((left, middle - square // 2, left + square, middle + square // 2), fill=colour)
            draw.text((left + square + 6, middle), words, fill=INK, font=font, anchor="lm")
    return sheet


def contact_sheet(
    sections: Sequence[tuple[str, NDArray[np.uint8]]], columns: int = 8, pad: int = 2, scale: int | None = None
) -> Image.Image:
    """Titled groups of images under each other: `sections` are (title, images uint8 [n, c, *spatial])."""
    if not sections:
        raise ValueError("a contact sheet needs at least one section.")
    font = _font(14)
    heading = 26
    grids = [(title, grid(images, columns, pad, scale=scale)) for title, images in sections]
    width = max(picture.width for _, picture in grids)
    sheet = Image.new("RGB", (width, sum(picture.height + heading for _, picture in grids)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = 0
    for title, part in grids:
        draw.text((pad + 2, top + heading // 2 + 2), _words(title, longest=80), fill=INK, font=font, anchor="lm")
        sheet.paste(part, (0, top + heading))
        top += part.height + heading
    return sheet


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file without metadata: the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(image: Image.Image, path: Path) -> None:
    """Write a PNG so that a reader never sees a part of it."""
    write_atomically(path, png_bytes(image))


def write_gif(frames: Sequence[Image.Image], path: Path, seconds: float) -> None:
    """Write an endless animation of `frames`, `seconds` each; the last one stays for two seconds.

    Smaller frames are set on white at the top left of the largest. Raises `ValueError` for no frames.
    """
    if not frames:
        raise ValueError("an animation needs at least one frame.")
    size = (max(frame.width for frame in frames), max(frame.height for frame in frames))
    prepared = []
    for frame in frames:
        sheet = Image.new("RGB", size, BACKGROUND)
        sheet.paste(frame.convert("RGB"), (0, 0))
        prepared.append(sheet.quantize(128, dither=Image.Dither.NONE))
    milliseconds = round(seconds * 1000)
    durations = [milliseconds] * (len(prepared) - 1) + [max(2000, milliseconds)]
    buffer = io.BytesIO()
    prepared[0].save(
        buffer, format="GIF", save_all=True, append_images=prepared[1:], duration=durations, loop=0, optimize=False
    )
    write_atomically(path, buffer.getvalue())


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that pictures look the same on every machine."""
    return ImageFont.load_default(size)


def _label_width(labels: Sequence[str] | None, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    if not labels:
        return 0
    return 16 + max(int(font.getlength(_words(label))) for label in labels)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut so that it fits into `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _words(name: str, longest: int = 32) -> str:
    """A class name as it is drawn: underscores become spaces, a very long name is cut."""
    words = " ".join(name.replace("_", " ").split())
    return words if len(words) <= longest else words[: longest - 1] + "…"
