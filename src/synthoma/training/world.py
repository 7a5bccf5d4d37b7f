"""Several processes that train one model: `torchrun --nproc-per-node 2 -m synthoma train RUN --resume`.

Each process takes its slice of every batch (draws are made by sample number in the whole batch), and gradients are
added up by hand: a wrapper around the networks would get in the way of double backward. Process 0 writes; decisions
that depend on measurements are made there and told to the others.
"""

import atexit
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from synthoma.errors import TrainingError
from synthoma.run import Run


@dataclass(frozen=True)
class World:
    """This process among `count`; `rank` 0 is the one that writes."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message for each dtype."""
        if self.count == 1:
            return
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            own = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in own])
            dist.all_reduce(flat)
            for tensor, summed in zip(own, flat.split([tensor.numel() for tensor in own]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def told_by_first(self, value: Any) -> Any:
        """The JSON-able value that process 0 holds, on all processes; what the others pass is ignored."""
        if self.count == 1:
            return value
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
        content = bytearray(json.dumps(value).encode()) if self.first else bytearray()
        length = torch.tensor([len(content)], device=device)
        dist.broadcast(length, src=0)
        message = torch.zeros(int(length), dtype=torch.uint8, device=device)
        if self.first:
            message.copy_(torch.frombuffer(content, dtype=torch.uint8))
        dist.broadcast(message, src=0)
        return json.loads(bytes(message.cpu().tolist()))

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()

    @contextmanager
    def locked(self, run: Run) -> Iterator[None]:
        """The run's lock, held by process 0 for all."""
        if not self.first:
            yield
            return
        with run.locked():
            yield


ALONE = World()


def join_world(device: str = "auto") -> World:
    """The processes that `torchrun` started, or this one alone; device: `training.device` of the recipe.

    Raises `TrainingError` where they cannot meet.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() and device != "cpu" else "gloo"
        here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        if backend == "nccl" and here > torch.cuda.device_count():
            raise TrainingError(
                f"{here} processes were started on this machine, which has {torch.cuda.device_count()} GPU(s); each needs one of its "
                f"own. Use torchrun --nproc-per-node {torch.cuda.device_count()}, or training.device=cpu to train on processors."
            )
        try:
            dist.init_process_group(backend)
        except (ValueError, RuntimeError) as error:
            raise TrainingError(
                f"{count} processes are announced (WORLD_SIZE), but they cannot meet: {error}. Start them with torchrun."
            ) from error
        # The group's own threads, still running when Python ends, would now and then abort a process that has done its work.
        atexit.register(dist.destroy_process_group)
        if backend == "nccl":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return World(dist.get_rank(), dist.get_world_size())
