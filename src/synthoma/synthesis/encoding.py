"""One generated image, or its mask, as the bytes of a file that says by itself what it is."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from synthoma.errors import ModelError
from synthoma.formats.arrays import encode_npy
from synthoma.formats.nifti import LONGEST_DESCRIPTION, SUFFIX, encode_nifti, nibabel_is_there

Format = Literal["auto", "png", "nii.gz", "npy"]
STATEMENT = "YES: made by a generative model, shows no person, not for diagnosis"


@dataclass(frozen=True)
class Encoder:
    """Bytes of images [c, *spatial] and masks [*spatial]. spacing: millimetres (z, y, x), None where it is unknown."""

    suffix: str
    spacing: tuple[float, ...] | None = None

    @classmethod
    def of(cls, dim: int, wanted: Format, spacing: tuple[float, ...] | None) -> "Encoder":
        """The encoder of pictures (PNG) or volumes: .nii.gz, or .npy where that is wanted or nibabel is not there.

        Raises `ModelError` for a format that does not go with the dimension.
        """
        fitting: dict[int, tuple[Format, ...]] = {2: ("png",), 3: ("nii.gz", "npy")}
        if wanted == "auto":
            return cls(".png" if dim == 2 else SUFFIX if nibabel_is_there() else ".npy", spacing)
        if wanted not in fitting[dim]:
            made = "pictures" if dim == 2 else "volumes"
            raise ModelError(
                f"this model makes {made}, which are written as {' or '.join(fitting[dim])}, not {wanted}."
            )
        return cls(f".{wanted}", spacing)

    def image(self, image: NDArray[np.generic], provenance: Mapping[str, Any]) -> bytes:
        """An image [c, *spatial] with its provenance, as far as the format has room for it (.npy has none)."""
        if self.suffix == ".png":
            pixels = image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1)
            return _png(pixels, provenance)
        if self.suffix == ".npy":
            return encode_npy(image)
        return encode_nifti(image, self.spacing, description(provenance), {"synthetic": STATEMENT, **provenance})

    def mask(self, mask: NDArray[np.uint8], provenance: Mapping[str, Any]) -> bytes:
        """A mask [*spatial] in the values that it has (0 and 1), in the geometry of its image."""
        if self.suffix == ".png":
            return _png(mask, {**provenance, "kind": "mask"})
        if self.suffix == ".npy":
            return encode_npy(mask[None])
        comment = {"synthetic": STATEMENT, **provenance, "kind": "mask"}
        return encode_nifti(mask[None], self.spacing, description(provenance), comment)


def description(provenance: Mapping[str, Any]) -> str:
    """What is written into a NIfTI header: that it is synthetic, and which image of which model. Never a patient's."""
    model, seed, index = provenance["model_hash"], provenance["seed"], provenance["index"]
    text = f"SYNTHETIC, not for diagnosis; model {model} seed {seed} index {index}"
    # A seed may have nineteen digits; the extension of the header has all of it in any case.
    return text if len(text) <= LONGEST_DESCRIPTION else f"SYNTHETIC, not for diagnosis; model {model}"


def _png(pixels: NDArray[np.generic], provenance: Mapping[str, Any]) -> bytes:
    """Pixels [y, x] or [y, x, 3] as PNG with their provenance in text chunks."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Synthetic", STATEMENT)
    text.add_text("Software", "synthoma")
    for key, value in provenance.items():
        if value is not None:
            text.add_itxt(f"synthoma:{key}", str(value))
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()
