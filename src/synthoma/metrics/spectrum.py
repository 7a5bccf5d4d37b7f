"""Radial power spectra: how much structure images have at each scale.

Durall et al., "Watch Your Up-Convolution: CNN Based Generative Deep Neural Networks Are Failing to Reproduce Spectral
Distributions", CVPR 2020: the power of the Fourier transform, averaged over directions. It needs no network, and sees what
upsampling leaves behind. The logarithm, in decibel, makes all scales count alike.
"""

import torch
from torch import Tensor

from synthoma.errors import EvaluationError

BINS = 32
_FLOOR = 1e-10  # of the power: 8-bit rounding alone has about 1e-6 of the square of the value range


def radial_spectra(images: Tensor) -> Tensor:
    """Log power by radius of images [n, c, *spatial] within [0, 1], two or three spatial axes: dB, float64 [n, bins].

    The mean is taken off and a Hann window laid over each image, so that its borders, which do not fit together, add
    nothing. Radius 1 is the Nyquist frequency of an axis, whatever its number of pixels; corners beyond are left out.
    Power is averaged over channels and over the ring of each bin; bins that hold no frequency are left out. There are
    as many bins as half of the shortest side, at most 32.
    """
    if images.ndim not in (4, 5) or min(images.shape[2:]) < 4:
        raise EvaluationError(f"spectra need images [n, c, *spatial] of at least 4 pixels a side, not {images.shape}.")
    size, axes = tuple(images.shape[2:]), tuple(range(2, images.ndim))
    x = images.double()
    window = torch.ones(size, dtype=torch.float64)
    radius = torch.zeros(size, dtype=torch.float64)
    for axis, n in enumerate(size):
        shape = [n if a == axis else 1 for a in range(len(size))]
        window = window * torch.hann_window(n, periodic=False, dtype=torch.float64).reshape(shape)
        radius = radius + (torch.fft.fftfreq(n, dtype=torch.float64) * 2).reshape(shape) ** 2
    centred = (x - x.mean(dim=axes, keepdim=True)) * window
    waves = torch.fft.fftn(centred, dim=axes)
    power = (waves.real.square() + waves.imag.square()) / (window.square().sum() * window.numel()) ** 0.5
    power = power.mean(dim=1).flatten(1)
    bins = min(BINS, min(size) // 2)
    ring = (radius.sqrt() * bins - 0.5).round().long().flatten()
    ring = torch.where(radius.flatten() == 0, bins, ring.clamp_min(0))  # the mean was taken off
    inside = ring < bins
    counts = torch.bincount(ring[inside], minlength=bins)
    sums = torch.zeros(len(x), bins, dtype=torch.float64).index_add_(1, ring[inside], power[:, inside])
    held = counts > 0
    return 10 * torch.log10(sums[:, held] / counts[held] + _FLOOR)


def spectrum_distance(x: Tensor, y: Tensor) -> float:
    """Root mean square difference over radii between the mean spectra of x [n, bins] and y [m, bins]: dB."""
    return float((x.mean(dim=0) - y.mean(dim=0)).square().mean().sqrt())
