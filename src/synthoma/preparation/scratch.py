"""Where the pixels wait until the order of the rows is known: memory-mapped arrays in the folder under construction."""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from synthoma.preparation.reading import Reading

# Bits that devices really deliver in a 16-bit file.
_DEPTHS = (8, 10, 12, 14, 16)
_KINDS = {"uint8": "narrow", "uint16": "wide", "int16": "signed"}


class Scratch:
    """Pixels by place (the number of the record). 8-bit images, 16-bit grey, signed numbers (HU) and masks have an array each."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.thumbnails: dict[int, NDArray[np.uint8]] = {}
        self.masked: set[int] = set()
        self.sixteen: set[int] = set()
        self.signed: set[int] = set()
        self.shape: tuple[int, ...] = ()
        self.highest = 0
        # Of the signed numbers.
        self.signed_range: tuple[int, int] | None = None
        self._arrays: dict[str, NDArray[np.generic]] = {}

    def store(self, place: int, reading: Reading) -> None:
        """Keep the pixels of one image."""
        self.shape = reading.image.shape
        kind = _KINDS[reading.image.dtype.name]
        self._array(kind, reading.image)[place] = reading.image
        if kind == "wide":
            self.sixteen.add(place)
            self.highest = max(self.highest, int(reading.image.max()))
        elif kind == "signed":
            self.signed.add(place)
            low, high = int(reading.image.min()), int(reading.image.max())
            self.signed_range = (
                (low, high)
                if self.signed_range is None
                else (min(low, self.signed_range[0]), max(high, self.signed_range[1]))
            )
        if reading.mask is not None:
            self._array("masks", reading.mask)[place] = reading.mask
            self.masked.add(place)
        self.thumbnails[place] = reading.thumbnail

    def _array(self, name: str, like: NDArray[np.generic]) -> NDArray[np.generic]:
        if name not in self._arrays:
            path = self.folder / f".{name}.npy"
            self._arrays[name] = open_memmap(path, "w+", like.dtype, (self.count, *like.shape))
        return self._arrays[name]

    @property
    def window(self) -> tuple[int, int]:
        """Grey values of the 16-bit images that become 0 and 255: from 0 to the end of the depth that holds them all."""
        return 0, next(2**bits - 1 for bits in _DEPTHS if self.highest < 2**bits)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the dataset's images: int16 where they are signed numbers, else uint8."""
        return np.dtype(np.int16 if self.signed else np.uint8)

    def image(self, place: int) -> NDArray[np.generic]:
        """[c, *size]: signed numbers as they are, else uint8; 16-bit grey is scaled by `window`, the same for all of the set."""
        if place in self.signed:
            return np.asarray(self._arrays["signed"][place])
        if place not in self.sixteen:
            return np.asarray(self._arrays["narrow"][place], dtype=np.uint8)
        values = self._arrays["wide"][place].astype(np.float32) * (255 / self.window[1])
        return np.rint(values).astype(np.uint8)

    def mask(self, place: int) -> NDArray[np.uint8]:
        return np.asarray(self._arrays["masks"][place], dtype=np.uint8)

    def remove(self) -> None:
        """Delete the files; nothing can be read after that."""
        self._arrays.clear()
        for path in self.folder.glob(".*.npy"):
            path.unlink()
