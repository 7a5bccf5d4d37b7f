"""Small pictures of stained tissue, made from amounts of stain, so that a test knows every stain and every flaw in them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Haematoxylin and eosin as columns: Macenko's reference, Ruifrok's measurement, and two between and beyond them.
STAINS = {
    "macenko": np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]]),
    "ruifrok": np.array([[0.65, 0.07], [0.70, 0.99], [0.29, 0.11]]),
    "bluish": np.array([[0.70, 0.10], [0.66, 0.92], [0.27, 0.38]]),
    "reddish": np.array([[0.49, 0.12], [0.77, 0.86], [0.41, 0.50]]),
}


def render(amounts: NDArray[np.float64], stains: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Amounts [..., 2] of stain -> pixels uint8 [..., 3] by the law of Beer and Lambert."""
    unit = stains / np.linalg.norm(stains, axis=0)
    return np.clip(np.rint(256 * np.exp(-amounts @ unit.T) - 1), 0, 255).astype(np.uint8)


def draw_amounts(seed: int, size: int = 256, mpp: float = 0.5, density_of_nuclei: float = 2e-3) -> NDArray[np.float64]:
    """Amounts [size, size, 2] of haematoxylin and eosin: fibres in eosin, nuclei of 6 to 9 µm with grainy chromatin.

    density_of_nuclei: in one square micron.
    """
    random = np.random.default_rng(seed)

    def field(um: float) -> NDArray[np.float64]:
        noise = ndimage.gaussian_filter(random.normal(size=(size, size)), um / mpp, mode="wrap")
        return np.asarray(noise / noise.std())

    fibres = 0.55 + 0.18 * field(1.2) + 0.1 * field(8.0)
    nuclei = np.zeros((size, size))
    y, x = np.ogrid[:size, :size]
    for _ in range(random.poisson(density_of_nuclei * (size * mpp) ** 2)):
        middle, radii, turn = random.uniform(0, size, 2), random.uniform(3.0, 4.5, 2) / mpp, random.uniform(0, np.pi)
        dy, dx = y - middle[0], x - middle[1]
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        nuclei = np.maximum(nuclei, np.hypot(u / radii[0], v / radii[1]) < 1)
    nuclei = ndimage.gaussian_filter(nuclei, 0.35 / mpp)
    eosin = np.clip(fibres, 0.05, None) * (1 - 0.6 * nuclei)
    haematoxylin = nuclei * np.clip(1.1 + 0.3 * field(0.7), 0.2, None) + 0.05
    return np.stack((haematoxylin, eosin), axis=-1)


def draw_coarse_amounts(seed: int, size: int) -> NDArray[np.float64]:
    """Amounts [size, size, 2] as a thumbnail of 8 µm a pixel has them: means over nuclei and fibres, in drifts."""
    random = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(random.normal(size=(size, size)), 5, mode="wrap") for _ in range(2)]
    haematoxylin, eosin = (field / field.std() for field in fields)
    return np.stack((0.3 + 0.08 * haematoxylin, 0.5 + 0.12 * eosin), axis=-1).clip(0.05)


def draw_tissue(
    seed: int,
    size: int = 256,
    mpp: float = 0.5,
    stains: str = "macenko",
    strength: float = 1.0,
    density_of_nuclei: float = 2e-3,
) -> NDArray[np.uint8]:
    """A sharp tile of tissue uint8 [size, size, 3], with the noise of a camera."""
    pixels = render(strength * draw_amounts(seed, size, mpp, density_of_nuclei), STAINS[stains])
    noise = np.random.default_rng([seed, 1]).normal(0, 1.0, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def overlaid(pixels: NDArray[np.uint8], where: NDArray[np.float64], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """What lies under a filter of this colour (ink, a second layer): densities add up; where [h, w]: its amount, 0 to 1."""
    through = ((np.array(colour) + 1) / 256) ** where[..., None]
    return np.clip(np.rint((pixels + 1.0) * through - 1), 0, 255).astype(np.uint8)


def painted(pixels: NDArray[np.uint8], where: NDArray[np.float64], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Opaque paint of this colour; where [h, w]: how much of it, 0 to 1."""
    return np.rint(pixels * (1 - where[..., None]) + np.array(colour) * where[..., None]).astype(np.uint8)


def inked(pixels: NDArray[np.uint8], where: NDArray[np.float64], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Felt pen on the cover glass: ink absorbs light, and scatters as much, so that tissue can just be seen."""
    return painted(overlaid(pixels, where, colour), 0.5 * where, colour)
