"""Pixels into channels and back, in any dimension: exact inverses of each other, and nothing but a new order.

A network that folds blocks of pixels into channels at its fine end does all its heavy work at a lower resolution.
"""

from torch import Tensor

from synthoma.networks.layers import CHANNELS_LAST


def space_to_depth(x: Tensor, factor: int = 2) -> Tensor:
    """[n, c, *spatial] -> [n, factor^dim * c, *spatial / factor]; a pixel's place in its block goes before its channel.

    Raises ValueError where a size is no multiple of `factor`.
    """
    dim = x.ndim - 2
    if any(size % factor for size in x.shape[2:]):
        raise ValueError(f"sizes {tuple(x.shape[2:])} are no multiples of {factor}")
    blocks = x.movedim(1, -1)
    blocks = blocks.reshape(len(x), *(m for size in x.shape[2:] for m in (size // factor, factor)), x.shape[1])
    # [n, y, in y, x, in x, c] -> [n, y, x, in y, in x, c]
    places, within = range(1, 2 * dim, 2), range(2, 2 * dim + 1, 2)
    folded = blocks.permute(0, *places, *within, 2 * dim + 1).flatten(dim + 1)
    return folded.movedim(-1, 1).contiguous(memory_format=CHANNELS_LAST[dim])


def depth_to_space(x: Tensor, factor: int = 2) -> Tensor:
    """[n, factor^dim * c, *spatial] -> [n, c, *spatial * factor], the inverse of `space_to_depth`.

    Raises ValueError where the number of channels is no multiple of factor^dim.
    """
    dim = x.ndim - 2
    if x.shape[1] % factor**dim:
        raise ValueError(f"{x.shape[1]} channels are no multiple of {factor**dim}")
    blocks = x.movedim(1, -1).unflatten(-1, (*[factor] * dim, -1))
    # [n, y, x, in y, in x, c] -> [n, y, in y, x, in x, c]
    order = (axis for i in range(1, dim + 1) for axis in (i, i + dim))
    spread = blocks.permute(0, *order, 2 * dim + 1)
    spread = spread.reshape(len(x), *(factor * size for size in x.shape[2:]), -1)
    return spread.movedim(-1, 1).contiguous(memory_format=CHANNELS_LAST[dim])
