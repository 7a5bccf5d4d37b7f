"""The kinds of phantom, and one picture of any of them as a pure function of its arguments."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthoma.errors import DataError, nearest_name_hint
from synthoma.phantoms import chest_ct, chest_xray, dermoscopy, pap_smear
from synthoma.phantoms.shapes import Array

# Smaller pictures are drawn at this size and reduced, so that thin things (hairs, vessels) fade instead of aliasing.
_SMALLEST_CANVAS = 96
MIN_SIZE, MAX_SIZE = 16, 1024


@dataclass(frozen=True)
class Phantom:
    """A kind of phantom.

    shares: how often each of `classes` is drawn, summing to 1. suffix: file format on disk.
    picture: (label, the patient's stream, the picture's stream, size) -> [size, size] or [size, size, 3] in [0, 1].
    """

    kind: str
    title: str
    classes: tuple[str, ...]
    shares: tuple[float, ...]
    channels: int
    suffix: str
    default_size: int
    picture: Callable[[str, np.random.Generator, np.random.Generator, int], Array]


PHANTOMS: dict[str, Phantom] = {
    phantom.kind: phantom
    for phantom in (
        Phantom(
            "skin",
            "Dermoscopy-like pictures of nine kinds of skin lesion",
            dermoscopy.CLASSES,
            dermoscopy.SHARES,
            3,
            "jpg",
            96,
            dermoscopy.draw_dermoscopy,
        ),
        Phantom(
            "chest-ct",
            "Axial chest CT slices in a lung window: benign nodule, malignant mass, normal",
            chest_ct.CLASSES,
            chest_ct.SHARES,
            1,
            "png",
            96,
            chest_ct.draw_chest_ct,
        ),
        Phantom(
            "chest-xray",
            "Frontal chest X-rays: normal, pneumonia",
            chest_xray.CLASSES,
            chest_xray.SHARES,
            1,
            "jpg",
            96,
            chest_xray.draw_chest_xray,
        ),
        Phantom(
            "pap-smear",
            "Single cervical cells from Pap smears, from normal to carcinoma in situ",
            pap_smear.CLASSES,
            pap_smear.SHARES,
            3,
            "jpg",
            96,
            pap_smear.draw_pap_smear,
        ),
    )
}


def find_phantom(kind: str) -> Phantom:
    """The phantom named `kind`; a `DataError` lists the known ones."""
    if kind not in PHANTOMS:
        hint = nearest_name_hint(kind, PHANTOMS)
        raise DataError(f"there is no phantom '{kind}'{hint}. Known: {', '.join(PHANTOMS)}.")
    return PHANTOMS[kind]


def check_size(size: int) -> int:
    """`size` in pixels if phantoms can be drawn at it; else a `DataError`."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"phantoms are drawn at {MIN_SIZE} to {MAX_SIZE} pixels, not {size}; choose another size.")
    return size


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """The random stream of (seed, purpose): Philox keyed by their SHA-256, no state outside it."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def draw(
    kind: str, label: str, seed: int, index: int, size: int | None = None, patient: int | None = None
) -> NDArray[np.uint8]:
    """Picture number `index` of class `label`: uint8 [size, size, c], c = 3 for skin and pap-smear, 1 for chests.

    Pictures with the same `patient` share skin tone, body build, stain and the like; by default each is a patient of its own.
    Same arguments, same picture. Raises `DataError` for an unknown kind or class, or a size that cannot be drawn.
    """
    phantom = find_phantom(kind)
    if label not in phantom.classes:
        hint = nearest_name_hint(label, phantom.classes)
        raise DataError(f"phantom '{kind}' has no class '{label}'{hint}. Known: {', '.join(phantom.classes)}.")
    size = check_size(phantom.default_size if size is None else size)
    person = stream(seed, kind, label, "patient", index if patient is None else patient)
    canvas = max(size, _SMALLEST_CANVAS)
    values = phantom.picture(label, person, stream(seed, kind, label, "picture", index), canvas)
    pixels = np.rint(values.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    if canvas != size:
        pixels = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS))
    return np.ascontiguousarray(pixels.reshape(size, size, phantom.channels))
