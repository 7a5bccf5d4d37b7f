"""Which device and which number format a run computes in, decided once, said, and read back on resume."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from synthoma.errors import RecipeError
from synthoma.families import Family
from synthoma.networks.layers import Convolution, Dense
from synthoma.objectives.batch import Batch
from synthoma.training.updates import discriminator_gradients, generator_gradients

# Largest error of a bf16 layer over its largest value: eight bits of mantissa give 2^-9 a rounding, and the output is
# rounded once more; wrong kernels (pytorch#163347, #169688) are off by the size of the values themselves.
LAYER_TOLERANCE = 2.0**-6
TIMED_STEPS = 5
# What the two updates of a timed step may take, so that a volume's recipe is decided in seconds, too.
SECONDS_A_STEP = 1.5


@dataclass(frozen=True)
class Precision:
    """The dtype that the networks compute in, and why."""

    name: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.name == "bf16" else torch.float32


def choose_device(wish: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU. Raises `RecipeError` for a device that is not there."""
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError as error:
        raise RecipeError(f"training.device: '{wish}' is no device; use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RecipeError("training.device: cuda is asked for, and this torch finds no GPU; use auto or cpu.")
    return device


def choose_precision(wish: str, family: Family, batch: Batch, device: torch.device) -> Precision:
    """fp32, or bf16 where it is asked for, or where `auto` finds it supported, right, and (on the CPU) faster.

    Leaves weights, buffers and optimizers of the family as they were, and sets its compute dtype.
    """
    chosen = _choose(wish, family, batch, device)
    set_precision(family, chosen)
    return chosen


def set_precision(family: Family, precision: Precision) -> None:
    """Let both networks compute in the chosen dtype."""
    for network in (family.generator, family.discriminator):
        network.compute_dtype = precision.dtype  # type: ignore[assignment]


def _choose(wish: str, family: Family, batch: Batch, device: torch.device) -> Precision:
    if wish == "fp32":
        return Precision("fp32", "asked for")
    if not bf16_supported(device):
        has_none = f"this {'processor' if device.type == 'cpu' else 'GPU'} has no bf16 arithmetic"
        return Precision(
            "fp32", has_none if wish == "auto" else f"bf16 was asked for, but {has_none}: it would be slower"
        )
    error = worst_layer_error(family, batch)
    if not error < LAYER_TOLERANCE:
        return Precision("fp32", f"bf16 is wrong here: a layer is off by {error:.2g} of its largest value")
    if wish == "bf16":
        return Precision("bf16", "asked for")
    if device.type == "cuda":
        return Precision("bf16", f"GPU with bf16; layers agree with fp32 to {error:.1g}")
    ratio = _time_ratio(family, batch)
    if ratio > 1.05:
        return Precision(
            "bf16", f"processor with bf16; layers agree with fp32 to {error:.1g}, a step is {ratio:.2f} times as fast"
        )
    return Precision("fp32", f"bf16 is right but brings nothing here ({ratio:.2f} times the speed)")


def bf16_supported(device: torch.device) -> bool:
    """A GPU of compute capability 8 or more, or a CPU with AVX512_BF16 or AMX (without them bf16 is emulated, slowly)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.exists() else set()
    return bool(words & {"avx512_bf16", "amx_bf16"}) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def worst_layer_error(family: Family, batch: Batch) -> float:
    """Largest relative error of a convolution or dense layer in use, output and all gradients, bf16 against fp32.

    Both see the same bf16-rounded inputs and weights, so only the layer's own arithmetic is compared. (oneDNN, with torch
    2.13, takes memory that was never written for the weight gradient of a 3D convolution on maps of 2x2x2.)
    """
    worst = 0.0
    for layer, shape in _layers_in_use(family, batch):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(shape, generator=generator).to(batch.real.device).bfloat16()
        found: list[list[Tensor]] = []
        with torch.enable_grad():
            for dtype in (torch.float32, torch.bfloat16):
                inputs = x.to(dtype).requires_grad_()
                rounded = {
                    name: tensor.detach().bfloat16().float().requires_grad_()
                    for name, tensor in layer.named_parameters()
                }
                output = torch.func.functional_call(layer, rounded, (inputs,))
                asked = (inputs, *rounded.values())
                slopes = torch.autograd.grad(output, asked, torch.ones_like(output), materialize_grads=True)
                found.append([part.detach().float() for part in (output, *slopes)])
        for exact, rough in zip(*found, strict=True):
            error = float((exact - rough).abs().max() / exact.abs().max().clamp_min(1e-12))
            worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst


def _layers_in_use(family: Family, batch: Batch) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Each layer with weights, and the shape of what it is given when the networks see this batch."""
    shapes: list[tuple[nn.Module, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_pre_hook(lambda layer, inputs: shapes.append((layer, tuple(inputs[0].shape))))
        for network in (family.generator, family.discriminator)
        for module in network.modules()
        if isinstance(module, (Convolution, Dense))
    ]
    try:
        with torch.no_grad(), _restored(family):
            family.discriminator(family.generator(batch.z, batch.fake_conditions), batch.fake_conditions)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _time_ratio(family: Family, batch: Batch) -> float:
    """Time of the two losses with their gradients in fp32 over that in bf16, each the fastest of a few.

    The two take turns, so that a busy machine slows down both; the first turn only warms up.
    """
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    batch = quick_part(family, batch, SECONDS_A_STEP)
    with _restored(family):
        for _ in range(TIMED_STEPS + 1):
            for dtype, measured in seconds.items():
                family.generator.compute_dtype = family.discriminator.compute_dtype = dtype  # type: ignore[assignment]
                start = time.perf_counter()
                discriminator_gradients(family, batch)
                generator_gradients(family, batch)
                measured.append(time.perf_counter() - start)
    return min(seconds[torch.float32][1:]) / min(seconds[torch.bfloat16][1:])


def quick_part(family: Family, batch: Batch, seconds: float) -> Batch:
    """The first images of a batch, as many as both updates take about `seconds` for; at least two.

    Leaves gradients and buffers as they were.
    """
    part = batch.part(0, 2)
    with _restored(family):
        discriminator_gradients(family, part)
        start = time.perf_counter()
        discriminator_gradients(family, part)
        generator_gradients(family, part)
        each = (time.perf_counter() - start) / len(part)
    return batch.part(0, min(len(batch), max(2, int(seconds / each))))


class _restored:
    """Puts the networks' buffers, compute dtype and gradients back as they were."""

    def __init__(self, family: Family) -> None:
        self.networks = (family.generator, family.discriminator)

    def __enter__(self) -> None:
        self.saved = [
            (network.compute_dtype, {name: buffer.clone() for name, buffer in network.named_buffers()})
            for network in self.networks
        ]

    def __exit__(self, *error: object) -> None:
        for network, (dtype, buffers) in zip(self.networks, self.saved, strict=True):
            network.compute_dtype = dtype
            network.zero_grad(set_to_none=True)
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])


def use_deterministic_algorithms(device: torch.device) -> None:
    """Ask torch for reproducible kernels; on a GPU convolution algorithms are still searched for once."""
    torch.use_deterministic_algorithms(device.type == "cpu")
    # Else every new tensor is filled once more, which finds reads of uninitialised memory but costs 3 to 7 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = device.type == "cuda"
