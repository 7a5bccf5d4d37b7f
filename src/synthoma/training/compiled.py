"""Compiled steps on a GPU, taken only after their gradients were found to be those of the plain ones.

The penalty is computed and consumed within the compiled function (`Adversarial.terms`): a vjp that leaves the compiled
region has been seen to lose its gradient without a word (pytorch#172386), which is what the self-test is for.
"""

import torch
from torch import Tensor

from synthoma.families import Family
from synthoma.objectives.batch import Batch
from synthoma.objectives.objective import Adversarial
from synthoma.training.precision import Precision

# Largest relative difference of the gradient of all weights: sums in another order, in eight bits of mantissa.
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}


def compile_steps(family: Family, batch: Batch, precision: Precision, wish: str, device: torch.device) -> str:
    """Compile the discriminator's terms and the generator where that is wanted, possible and right; say what was done."""
    if wish == "off":
        return "not compiled: asked for"
    if device.type != "cuda":
        return "not compiled: on processors the compiled step is slower"
    return compile_checked(family, batch, precision)


def compile_checked(family: Family, batch: Batch, precision: Precision) -> str:
    """Compile, compare the gradients with those of the plain step, and go back to that where they differ."""
    objective = family.objective
    if family.levels is not None:
        return "not compiled: a growing network would be compiled anew at each level"
    if not isinstance(objective, Adversarial):
        return "not compiled: this objective has no step of its own to compile"
    exact = _gradient(family, batch, objective)
    plain = objective.terms
    objective.terms = torch.compile(plain, dynamic=False)  # type: ignore[method-assign]
    try:
        error = float((_gradient(family, batch, objective) - exact).norm() / exact.norm().clamp_min(1e-12))
    except Exception as failure:  # whatever the compiler raises: the plain step is right, and the reason is told
        objective.terms = plain  # type: ignore[method-assign]
        return f"not compiled: the compiler failed ({type(failure).__name__}: {str(failure).splitlines()[0][:160]})"
    if not error < TOLERANCE[precision.name]:
        objective.terms = plain  # type: ignore[method-assign]
        return f"not compiled: the compiled gradient is off by {error:.2g} of its length"
    family.generator.forward = torch.compile(family.generator.forward, dynamic=False)
    return f"compiled: its gradient agrees with the plain one to {error:.1g}"


def _gradient(family: Family, batch: Batch, objective: Adversarial) -> Tensor:
    """Gradient of all discriminator terms in all of its weights, as one vector; statistics of batch norm stay as they were."""
    wanted = frozenset(objective.penalties)
    buffers = [buffer for network in (family.generator, family.discriminator) for buffer in network.buffers()]
    before = [buffer.clone() for buffer in buffers]
    shown = objective.shown(family.generator, batch, wanted)
    terms, _ = objective.terms(family.discriminator, shown, wanted)
    weights = [parameter for parameter in family.discriminator.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(torch.stack(list(terms.values())).sum(), weights, allow_unused=True)
    with torch.no_grad():
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
    return torch.cat([gradient.flatten().float() for gradient in gradients if gradient is not None])
