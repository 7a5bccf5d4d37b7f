"""The released generator: a folder that loads anywhere, and makes the same image for the same seed and index.

    MODEL/generator.safetensors   weights of the averaged generator, batch-norm statistics measured
    MODEL/model.json              what it is and what it was trained on; its hash names the model in every manifest
    MODEL/README.md               the model card
The discriminator is never part of it: it is the strongest leak of who was in the training set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from synthoma.draws import Draws
from synthoma.errors import ModelError, nearest_name_hint
from synthoma.families import ImageSpace, build_generator, is_conditional
from synthoma.networks.layers import lay_out
from synthoma.recipe import ModelSection, content_hash
from synthoma.run import aside_folder, file_sha256, read_json, write_json

SCHEMA_VERSION = 1
# Images are always made in whole blocks of this many, whose latents belong to their place: kernels see one shape, and
# image i has the same bytes whether it is asked for alone or among thousands.
BLOCK = 32


@dataclass(frozen=True)
class Samples:
    """Generated images with their provenance.

    images: [n, c, *spatial] in the encoding of the training set (uint8 for pictures); labels: class indices [n], -1 where
    the model has no classes; indices: place of each image in the stream of `seed`.
    """

    images: NDArray[np.generic]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    seed: int
    model_hash: str
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


class Model:
    """A released generator. `Model.load(folder).generate(100, label="melanoma", seed=7)`."""

    def __init__(self, network: nn.Module, info: Mapping[str, Any], device: torch.device) -> None:
        self.network, self.info, self.device = network.eval().to(device), info, device

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> "Model":
        """Read a model folder; `ModelError` where it is none, or its weights are not the ones that it was sealed with."""
        path = Path(path)
        if not (path / "model.json").is_file():
            raise ModelError(f"{path} is no model: model.json is missing. A run keeps its own in RUN/model.")
        info = read_json(path / "model.json")
        if info.get("schema") != SCHEMA_VERSION:
            raise ModelError(f"{path} has schema {info.get('schema')}, this version reads {SCHEMA_VERSION}.")
        weights = path / "generator.safetensors"
        if not weights.is_file() or file_sha256(weights) != info["weights_sha256"]:
            raise ModelError(f"{weights} is missing or damaged (its SHA-256 is not the one in model.json).")
        section = ModelSection.model_validate(info["networks"])
        space = ImageSpace(tuple(info["size"]), info["channels"], len(info["classes"]))
        network = build_generator(section, space)
        network.load_state_dict(load_file(weights))
        lay_out(network, len(space.size), torch.device(device))
        return cls(network.requires_grad_(False), info, torch.device(device))

    @staticmethod
    def save(path: Path, network: nn.Module, info: Mapping[str, Any], card: str) -> None:
        """Write a model folder aside and rename it: weights, `info` completed with hashes, and the card (Markdown)."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        weights = save(tensors)
        with aside_folder(path) as aside:
            (aside / "generator.safetensors").write_bytes(weights)
            complete = {
                "schema": SCHEMA_VERSION,
                **info,
                "weights_sha256": file_sha256(aside / "generator.safetensors"),
            }
            write_json(aside / "model.json", {**complete, "model_hash": content_hash(complete)})
            (aside / "README.md").write_text(card, encoding="utf-8")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names that `generate` takes; empty for a model without classes."""
        return tuple(self.info["classes"]) if self.conditional else ()

    @property
    def conditional(self) -> bool:
        return is_conditional(self.info["networks"]["family"])

    @property
    def hash(self) -> str:
        return str(self.info["model_hash"])

    def generate(self, count: int, label: str | Sequence[str] | None = None, seed: int = 0, start: int = 0) -> Samples:
        """Images `start` .. `start + count - 1` of the stream of `seed`.

        label: one class for all, or one for each image; None draws classes as often as they occur in the training set.
        Raises `ModelError` for an unknown class, or any class where the model has none.
        """
        parts = list(self.blocks(count, label, seed, start))
        return Samples(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.indices for part in parts]),
            seed,
            self.hash,
            self.classes,
        )

    def blocks(
        self, count: int, label: str | Sequence[str] | None = None, seed: int = 0, start: int = 0
    ) -> Iterator[Samples]:
        """`generate` in pieces of at most `BLOCK` images, for sets that do not fit into memory."""
        if count < 1 or start < 0:
            raise ModelError(f"count must be at least 1 and start at least 0 (got {count} and {start}).")
        wanted = np.arange(start, start + count)
        labels = self._labels(wanted, label, seed)
        for block in range(start // BLOCK, (start + count - 1) // BLOCK + 1):
            inside = wanted // BLOCK == block
            place = wanted[inside] - block * BLOCK
            # Places of the block that nobody asked for are filled with class 0; they do not influence the others.
            block_labels = np.zeros(BLOCK, dtype=np.int64)
            block_labels[place] = np.maximum(labels[inside], 0)
            images = self._make(block, torch.from_numpy(block_labels), seed)
            yield Samples(self._encode(images)[place], labels[inside], wanted[inside], seed, self.hash, self.classes)

    def _labels(self, wanted: NDArray[np.int64], label: str | Sequence[str] | None, seed: int) -> NDArray[np.int64]:
        if not self.conditional:
            if label is not None:
                raise ModelError(f"this model ({self.info['name']}) has no classes; leave the class out.")
            return np.full(len(wanted), -1)
        if label is None:
            shares = np.array([self.info["class_counts"].get(name, 0) for name in self.classes], dtype=np.float64)
            draws = Draws(seed, "generation labels").uniform(0, torch.from_numpy(wanted)).double().numpy()
            return np.searchsorted(np.cumsum(shares / shares.sum())[:-1], draws, side="right")
        names = [label] * len(wanted) if isinstance(label, str) else list(label)
        if len(names) != len(wanted):
            raise ModelError(f"{len(names)} labels were given for {len(wanted)} images.")
        for name in set(names) - set(self.classes):
            hint = nearest_name_hint(name, self.classes)
            raise ModelError(f"the model has no class '{name}'{hint or '.'} Its classes: {', '.join(self.classes)}.")
        return np.array([self.classes.index(name) for name in names], dtype=np.int64)

    @torch.no_grad()
    def _make(self, block: int, labels: Tensor, seed: int) -> Tensor:
        index = torch.arange(block * BLOCK, (block + 1) * BLOCK, device=self.device)
        z = Draws(seed, "generation latents").normal(0, index, (self.info["networks"]["latent"],))
        return self.network(z, labels.to(self.device) if self.conditional else None).cpu()

    def _encode(self, images: Tensor) -> NDArray[np.generic]:
        """From the networks' range back to the encoding of the training set."""
        low, high = self.info["networks"]["range"]
        first, last = self.info["encoding"].get("window", (0, 255))
        values = (images - low) * ((last - first) / (high - low)) + first
        dtype = np.dtype(self.info["encoding"]["dtype"])
        return values.clamp(first, last).round().contiguous().numpy().astype(dtype)


class SampleDataset(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Synthetic images as a torch Dataset: item i is (image [c, *spatial], class index or -1), made when asked for.

    Items of one block are made together and the last block is kept, so read in order or shuffle within blocks.
    """

    def __init__(self, model: Model, count: int, label: str | Sequence[str] | None = None, seed: int = 0) -> None:
        self.model, self.count, self.label, self.seed = model, count, label, seed
        self.block: tuple[int, Samples] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        number, place = divmod(index, BLOCK)
        if self.block is None or self.block[0] != number:
            start = number * BLOCK
            stop = min(start + BLOCK, self.count)
            label = self.label if self.label is None or isinstance(self.label, str) else self.label[start:stop]
            self.block = number, self.model.generate(stop - start, label, self.seed, start)
        samples = self.block[1]
        return torch.from_numpy(samples.images[place].copy()), int(samples.labels[place])
