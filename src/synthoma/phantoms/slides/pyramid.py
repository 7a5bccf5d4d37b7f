"""Pyramidal tiled BigTIFF, written in one pass with little memory: JPEG tiles, every level half of the one before.

Tiles go to the file as they are made, from the corner of the coarsest tile downwards, so that at no time more than four
tiles of each level are at hand. Tiles that show nothing are one tile of plain glass that all of them point to: a slide of
ten gigabytes of pixels with little tissue is a small file.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
# Tile (row, column) of level 0, uint8 [TILE, TILE, 3], or None where there is nothing but background.
TileMaker = Callable[[int, int], Bytes | None]

TILE = 256
_COARSEST = 512  # no level is added to one whose longer side is at most this
_QUALITY = 85
_SHORT, _LONG, _RATIONAL, _ASCII, _LONG8 = 3, 4, 5, 2, 16
_PACKING = {_SHORT: "H", _LONG: "I", _RATIONAL: "I", _LONG8: "Q"}


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """(width, height) of each level, finest first."""
    sizes = [size]
    while max(sizes[-1]) > _COARSEST:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def write_pyramid(
    path: Path, size: tuple[int, int], mpp: float, background: tuple[int, int, int], tile: TileMaker, software: str
) -> int:
    """Write a slide of `size` (width, height) pixels at `mpp` microns per pixel; returns the number of drawn tiles."""
    with path.open("wb") as file:
        pyramid = _Pyramid(file, size, background, tile)
        drawn = pyramid.write_tiles()
        pyramid.write_directories(mpp, software)
    return drawn


class _Pyramid:
    """A file that is being written: where each tile of each level lies in it; 0 where it is background."""

    def __init__(
        self, file: BinaryIO, size: tuple[int, int], background: tuple[int, int, int], tile: TileMaker
    ) -> None:
        self._file = file
        self._tile = tile
        self._background = np.full((TILE, TILE, 3), background, dtype=np.uint8)
        self._sizes = level_sizes(size)
        self._places: list[NDArray[np.uint64]] = []
        self._lengths: list[NDArray[np.uint64]] = []
        for width, height in self._sizes:
            grid = (-(-height // TILE), -(-width // TILE))
            self._places.append(np.zeros(grid, dtype=np.uint64))
            self._lengths.append(np.zeros(grid, dtype=np.uint64))
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))

    def write_tiles(self) -> int:
        """Make and write all tiles; returns how many of level 0 are not background."""
        top = len(self._sizes) - 1
        rows, columns = self._places[top].shape
        for row in range(rows):
            for column in range(columns):
                self._make(top, row, column)
        drawn = int(np.count_nonzero(self._places[0]))
        place, length = self._append(self._background)
        for places, lengths in zip(self._places, self._lengths, strict=True):
            lengths[places == 0] = length
            places[places == 0] = place
        return drawn

    def _make(self, level: int, row: int, column: int) -> Bytes | None:
        """Write a tile and all below it; returns its pixels, None for background."""
        if row >= self._places[level].shape[0] or column >= self._places[level].shape[1]:
            return None
        pixels = self._tile(row, column) if level == 0 else self._halved(level, row, column)
        if pixels is not None:
            self._places[level][row, column], self._lengths[level][row, column] = self._append(pixels)
        return pixels

    def _halved(self, level: int, row: int, column: int) -> Bytes | None:
        """A tile as the mean of 2 x 2 pixels of the four tiles below it."""
        parts = [self._make(level - 1, 2 * row + down, 2 * column + across) for down in (0, 1) for across in (0, 1)]
        if all(part is None for part in parts):
            return None
        filled = [self._background if part is None else part for part in parts]
        whole = np.concatenate((np.concatenate(filled[:2], axis=1), np.concatenate(filled[2:], axis=1)))
        sums = whole[0::2].astype(np.uint16)
        sums += whole[1::2]
        sums = sums[:, 0::2] + sums[:, 1::2]
        return ((sums + 2) >> 2).astype(np.uint8)

    def _append(self, pixels: Bytes) -> tuple[int, int]:
        """Write a tile as JPEG; returns its place and length."""
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "JPEG", quality=_QUALITY, subsampling="4:2:0")
        place = self._file.tell()
        return place, self._file.write(encoded.getbuffer())

    def write_directories(self, mpp: float, software: str) -> None:
        """Write the directory of each level, and make the header point to the first."""
        link = 8
        for level in range(len(self._sizes)):
            link = self._directory(level, mpp * 2**level, software, link)

    def _directory(self, level: int, mpp: float, software: str, link: int) -> int:
        """Write one directory and point to it from `link`; returns where the place of the next one belongs."""
        width, height = self._sizes[level]
        resolution = (round(1e4 / mpp * 1000), 1000)  # pixels per centimetre
        tags: list[tuple[int, int, tuple[int, ...] | bytes]] = [
            (254, _LONG, (1 if level else 0,)),  # NewSubfileType: reduced resolution
            (256, _LONG, (width,)),
            (257, _LONG, (height,)),
            (258, _SHORT, (8, 8, 8)),  # BitsPerSample
            (259, _SHORT, (7,)),  # Compression: JPEG
            (262, _SHORT, (6,)),  # PhotometricInterpretation: YCbCr
            (277, _SHORT, (3,)),  # SamplesPerPixel
            (282, _RATIONAL, resolution),
            (283, _RATIONAL, resolution),
            (284, _SHORT, (1,)),  # PlanarConfiguration: chunky
            (296, _SHORT, (3,)),  # ResolutionUnit: centimetre
            (305, _ASCII, software.encode("ascii") + b"\0"),
            (322, _LONG, (TILE,)),
            (323, _LONG, (TILE,)),
            (324, _LONG8, tuple(self._places[level].ravel().tolist())),
            (325, _LONG8, tuple(self._lengths[level].ravel().tolist())),
            (530, _SHORT, (2, 2)),  # YCbCrSubSampling
        ]
        entries = b""
        for tag, kind, values in tags:
            data = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{_PACKING[kind]}", *values)
            count = len(values) // (2 if kind == _RATIONAL else 1)
            if len(data) > 8:
                place = self._aligned()
                self._file.write(data)
                data = struct.pack("<Q", place)
            entries += struct.pack("<HHQ", tag, kind, count) + data.ljust(8, b"\0")
        place = self._aligned()
        self._file.write(struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", 0))
        self._file.seek(link)
        self._file.write(struct.pack("<Q", place))
        self._file.seek(0, io.SEEK_END)
        return place + 8 + len(entries)

    def _aligned(self) -> int:
        """The end of the file, moved to an even place."""
        if self._file.tell() % 2:
            self._file.write(b"\0")
        return self._file.tell()
