"""What the scanner adds: noise that the reconstruction kernel has made smooth, and whole Hounsfield units."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from synthoma.phantoms.ct.frame import Field, Frame

Kernel = Literal["soft", "standard", "sharp"]
KERNELS: tuple[Kernel, ...] = ("soft", "standard", "sharp")
# Standard deviations in HU, and width of the noise's grain in mm.
_NOISE_HU: dict[Kernel, tuple[float, float]] = {"soft": (9.0, 15.0), "standard": (14.0, 24.0), "sharp": (24.0, 38.0)}
_GRAIN_MM: dict[Kernel, float] = {"soft": 1.0, "standard": 0.75, "sharp": 0.5}
LEAST_HU, MOST_HU = -1024, 3071


def draw_noise_level(random: np.random.Generator, kernel: Kernel) -> float:
    """Standard deviation in HU that is usual for a kernel."""
    return float(random.uniform(*_NOISE_HU[kernel]))


def add_noise(random: np.random.Generator, hu: Field, frame: Frame, kernel: Kernel, deviation: float) -> None:
    """Add noise of this standard deviation (HU) to [z, y, x], grained by the kernel within slices. In place.

    Slices are independent, as in a scan without overlap. A sharp kernel takes low frequencies out of the noise, as
    filtered back projection does: its noise power rises with the frequency first (Riederer et al., Phys. Med. Biol. 23
    (1978) 446-454).
    """
    noise = random.standard_normal(hu.shape, dtype=np.float32)
    smooth = _smoothed(noise, frame, _GRAIN_MM[kernel])
    if kernel == "sharp":
        smooth -= _smoothed(noise, frame, 3 * _GRAIN_MM[kernel])
    smooth *= np.float32(deviation / max(float(smooth.std()), 1e-6))
    hu += smooth


def to_int16(hu: Field) -> NDArray[np.int16]:
    """Whole HU within what 12 bits hold: -1024 to 3071."""
    return np.rint(np.clip(hu, LEAST_HU, MOST_HU)).astype(np.int16)


def _smoothed(noise: Field, frame: Frame, grain: float) -> Field:
    smooth = noise
    for axis in (1, 2):
        sigma = grain / frame.geometry.spacing[axis]
        smooth = gaussian_filter1d(smooth, sigma, axis=axis, mode="wrap", truncate=3.0)
    return smooth.copy() if smooth is noise else smooth
