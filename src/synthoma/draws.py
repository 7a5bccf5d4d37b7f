"""Random numbers by counter instead of by state.

Every draw is a pure function of (seed, purpose, step, sample index, element): nothing has to be saved to resume
exactly, sample i does not depend on how many samples are asked for, and a device or process can take its slice of
a batch without drawing the rest. The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", SC 2011), written in int64 tensor operations so that it gives the same bits on CPU and GPU and can be
captured in a compiled step.
"""

import functools
import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox4x32-10 of `counter` [..., 4] (int64, each below 2^32) under `key`: int64 [..., 4], each below 2^32."""
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key
    for _ in range(10):
        # 32 x 32 -> 64 bits: int64 wraps, but its low 64 bits are right, and the shifted value is masked.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ k0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)


class Draws:
    """The random stream of one purpose: `Draws(seed, "latents").normal(step, index, (100,))`.

    `step` is a whole number (Python int, or an int64 tensor, 0-d or one for each sample), `index` an int64 tensor [n]
    of sample numbers; the result has shape [n, *shape] on the device of `index`.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        digest = hashlib.sha256(f"{purpose}/{seed}".encode()).digest()
        self.key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))

    def bits(self, step: int | Tensor, index: Tensor, count: int) -> Tensor:
        """`count` integers below 2^32 for each sample: int64 [n, count]."""
        blocks = -(-count // 4)
        block = torch.arange(blocks, device=index.device)
        step = torch.as_tensor(step, dtype=torch.int64, device=index.device).reshape(-1, 1)
        shape = (len(index), blocks)
        counter = torch.stack(
            (
                block.expand(shape),
                (index & _MASK)[:, None].expand(shape),
                (step & _MASK).expand(shape),
                ((step >> 32) ^ (index >> 32)[:, None]).bitwise_and(_MASK).expand(shape),
            ),
            dim=-1,
        )
        return philox(counter, self.key).flatten(1)[:, :count]

    def uniform(self, step: int | Tensor, index: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform in [0, 1) with 24 bits, float32 [n, *shape]."""
        bits = self.bits(step, index, math.prod(shape))
        return ((bits >> 8).float() * 2.0**-24).reshape(len(index), *shape)

    def normal(self, step: int | Tensor, index: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal by Box and Muller, float32 [n, *shape]."""
        count = math.prod(shape)
        pairs = -(-count // 2)
        bits = self.bits(step, index, 2 * pairs)
        u, v = bits[:, :pairs], bits[:, pairs:]
        # (u + 1/2) / 2^32 lies within (0, 1): the logarithm is finite.
        radius = torch.sqrt(-2.0 * torch.log((u.double() + 0.5) * 2.0**-32))
        angle = v.double() * (2.0 * math.pi * 2.0**-32)
        values = torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)), dim=1)
        return values[:, :count].float().reshape(len(index), *shape)

    def integers(self, step: int | Tensor, index: Tensor, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """Whole numbers in [0, high), int64 [n, *shape]; `high` below 2^31, a number or a tensor that broadcasts.

        By multiplication and shift; the bias is below high / 2^32.
        """
        bits = self.bits(step, index, math.prod(shape)).reshape(len(index), *shape)
        return (bits * high) >> 32


@functools.lru_cache(maxsize=1024)
def _stream(seed: int, purpose: str) -> Draws:
    return Draws(seed, purpose)


@dataclass(frozen=True)
class StepDraws:
    """All draws of one update: `StepDraws(seed, step, index).normal("noise", (8,))` has shape [n, 8].

    index: int64 [n], the numbers of the samples in the global batch. Each draw is a function of (seed, purpose, step,
    sample number) alone, so that `part` of it draws what the whole draws for these samples. Asking twice for the same
    purpose gives the same numbers: what has to differ needs purposes of its own.
    """

    seed: int
    step: int
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def part(self, start: int, stop: int) -> "StepDraws":
        """The draws of the samples start .. stop - 1 of this batch."""
        return StepDraws(self.seed, self.step, self.index[start:stop])

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform in [0, 1), float32 [n, *shape]."""
        return _stream(self.seed, purpose).uniform(self.step, self.index, shape)

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal, float32 [n, *shape]."""
        return _stream(self.seed, purpose).normal(self.step, self.index, shape)

    def integers(self, purpose: str, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """Whole numbers in [0, high), int64 [n, *shape]."""
        return _stream(self.seed, purpose).integers(self.step, self.index, high, shape)
