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
from synthoma.pictures import to_uint8

Format = Literal["auto", "png", "nii.gz", "npy"]
STATEMENT = "YES: made by a generative model, shows no person, not for diagnosis"


@dataclass(frozen=True)
class Encoder:
    """Bytes of images [c, *spatial] and masks [*spatial].

    spacing: millimetres in the order of the axes, None where it is unknown. window: values that are black and white, of
    images that are no pictures of 8 bits.
    """

    suffix: str
    spacing: tuple[float, ...] | None = None
    window: tuple[float, float] | None = None

    @classmethod
    def of(cls, info: Mapping[str, Any], wanted: Format) -> "Encoder":
        """The encoder for what a model makes (`info`: model.json): pictures are PNG, volumes and slices in HU .nii.gz, or
        .npy where that is wanted or nibabel is not there. PNG of slices in HU is for looking only: 8 bits of the window.

        Raises `ModelError` for a format that does not go with what is made.
        """
        dim, encoding = len(info["size"]), info["encoding"]
        spacing = None if encoding.get("spacing") is None else tuple(map(float, encoding["spacing"]))
        window = (
            None if encoding.get("window") is None else (float(encoding["window"][0]), float(encoding["window"][1]))
        )
        fitting: tuple[Format, ...] = ("nii.gz", "npy")
        made = "volumes"
        if dim == 2:
            fitting, made = (("png",), "pictures") if window is None else ((*fitting, "png"), "slices")
        if wanted == "auto":
            suffix = ".png" if fitting == ("png",) else SUFFIX if nibabel_is_there() else ".npy"
            return cls(suffix, spacing, window)
        if wanted not in fitting:
            raise ModelError(f"this model makes {made}, which are written as {' or '.join(fitting)}, not {wanted}.")
        return cls(f".{wanted}", spacing, window)

    def image(self, image: NDArray[np.generic], provenance: Mapping[str, Any]) -> bytes:
        """An image [c, *spatial] with its provenance, as far as the format has room for it (.npy has none)."""
        if self.suffix == ".png":
            if self.window is not None:
                image = to_uint8(image, *self.window)
                provenance = {**provenance, "window": f"{self.window[0]:g} to {self.window[1]:g}"}
            pixels = image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1)
            return _png(pixels, provenance)
        if self.suffix == ".npy":
            return encode_npy(image)
        return self._nifti(image, provenance)

    def mask(self, mask: NDArray[np.uint8], provenance: Mapping[str, Any]) -> bytes:
        """A mask [*spatial] in the values that it has (0 and 1), in the geometry of its image."""
        if self.suffix == ".png":
            return _png(mask, {**provenance, "kind": "mask"})
        if self.suffix == ".npy":
            return encode_npy(mask[None])
        return self._nifti(mask[None], {**provenance, "kind": "mask"})

    def real(self, image: NDArray[np.generic], spacing: tuple[float, ...] | None) -> bytes:
        """A real image, or its mask, [c, *spatial] in its own numbers; only PNG of what is no picture shows the window."""
        if self.suffix == ".png":
            shown = image if image.dtype == np.uint8 or self.window is None else to_uint8(image, *self.window)
            buffer = io.BytesIO()
            pixels = shown[0] if shown.shape[0] == 1 else np.moveaxis(shown, 0, -1)
            Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
            return buffer.getvalue()
        if self.suffix == ".npy":
            return encode_npy(image)
        volume, own = _as_volume(image, spacing)
        return encode_nifti(volume, own, "exported by Synthoma", {})

    def _nifti(self, image: NDArray[np.generic], provenance: Mapping[str, Any]) -> bytes:
        volume, spacing = _as_volume(image, self.spacing)
        return encode_nifti(volume, spacing, description(provenance), {"synthetic": STATEMENT, **provenance})


def _as_volume(
    image: NDArray[np.generic], spacing: tuple[float, ...] | None
) -> tuple[NDArray[np.generic], tuple[float, ...] | None]:
    """[c, z, y, x] as it is; a slice [c, y, x] as a volume of one, whose thickness nobody knows: it is called 1 mm."""
    if image.ndim == 4:
        return image, spacing
    return image[:, None], None if spacing is None else (1.0, *spacing)


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
