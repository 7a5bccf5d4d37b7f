"""The released generator: a folder that loads anywhere, and makes the same image for the same seed and index.

    MODEL/generator.safetensors   weights of the averaged generator, batch-norm statistics measured
    MODEL/model.json              what it is and what it was trained on; its hash names the model in every manifest
    MODEL/README.md               the model card
The discriminator is never part of it: it is the strongest leak of who was in the training set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from synthoma.conditions import Conditions
from synthoma.draws import StepDraws
from synthoma.errors import ModelError, nearest_name_hint
from synthoma.families import ImageSpace, build_generator
from synthoma.networks.layers import lay_out
from synthoma.networks.sampling import sample
from synthoma.recipe import content_hash
from synthoma.run import aside_folder, file_sha256, read_json, write_json
from synthoma.settings import ModelSection
from synthoma.transforms.distance import mask_of

SCHEMA_VERSION = 2
# Images are always made in whole blocks of this many, whose latents belong to their place: kernels see one shape, and
# image i has the same bytes whether it is asked for alone or among thousands.
BLOCK = 32


@dataclass(frozen=True)
class Samples:
    """Generated images with their provenance.

    images: [n, c, *spatial] in the encoding of the training set (uint8 for pictures); labels: class indices [n], -1 where
    the model has no classes; indices: place of each image in the stream of `seed`. masks: uint8 [n, *spatial] of 0 and 1
    where the model makes them with the image; attributes: the values [n] that each image was asked to have.
    """

    images: NDArray[np.generic]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    seed: int
    model_hash: str
    classes: tuple[str, ...]
    masks: NDArray[np.uint8] | None = None
    attributes: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)


class Model:
    """A released generator. `Model.load(folder).generate(100, label="melanoma", seed=7)`."""

    def __init__(self, network: nn.Module, info: Mapping[str, Any], device: torch.device) -> None:
        self.network, self.info, self.device = network.eval().to(device), info, device
        self.conditions = Conditions.from_json(info["conditions"])
        self.makes_masks = info["networks"]["masks"] != "none"

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
        masks = section.masks != "none"
        space = ImageSpace(
            tuple(info["size"]), info["channels"] + masks, Conditions.from_json(info["conditions"]).width
        )
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
        """Class names that `generate` takes; empty for a model that is not conditioned on the class."""
        return tuple(self.conditions.classes)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes that `generate` takes."""
        return tuple(self.conditions.attribute_names)

    @property
    def conditional(self) -> bool:
        """Whether images are made to a class or to attributes."""
        return self.conditions.width > 0

    @property
    def hash(self) -> str:
        return str(self.info["model_hash"])

    def generate(
        self,
        count: int,
        label: str | Sequence[str] | None = None,
        seed: int = 0,
        start: int = 0,
        *,
        attributes: Mapping[str, float | Sequence[float]] | None = None,
        truncation: float = 1.0,
    ) -> Samples:
        """Images `start` .. `start + count - 1` of the stream of `seed`.

        label: one class for all, or one for each image; None draws classes as often as they occur in the training set.
        attributes: values for all images, or one for each; what is left out is drawn from a smoothed distribution of the
        training set. truncation: below 1, images nearer to the average one (style family only).
        Raises `ModelError` for an unknown class or attribute, or a value far outside of what was trained.
        """
        parts = list(self.blocks(count, label, seed, start, attributes=attributes, truncation=truncation))
        return Samples(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.indices for part in parts]),
            seed,
            self.hash,
            self.classes,
            np.concatenate([part.masks for part in parts if part.masks is not None]) if self.makes_masks else None,
            {name: np.concatenate([part.attributes[name] for part in parts]) for name in self.attributes},
        )

    def blocks(
        self,
        count: int,
        label: str | Sequence[str] | None = None,
        seed: int = 0,
        start: int = 0,
        *,
        attributes: Mapping[str, float | Sequence[float]] | None = None,
        truncation: float = 1.0,
    ) -> Iterator[Samples]:
        """`generate` in pieces of at most `BLOCK` images, for sets that do not fit into memory."""
        if count < 1 or start < 0:
            raise ModelError(f"count must be at least 1 and start at least 0 (got {count} and {start}).")
        if truncation != 1.0 and self.info["networks"]["family"] != "style":
            raise ModelError(
                f"truncation belongs to the style family; this model is {self.info['networks']['family']}."
            )
        wanted = np.arange(start, start + count)
        labels, values = self._labels(count, label), self._values(count, attributes)
        for block in range(start // BLOCK, (start + count - 1) // BLOCK + 1):
            inside = np.flatnonzero(wanted // BLOCK == block)
            place = wanted[inside] - block * BLOCK
            # Places of the block that nobody asked for are drawn freely; they do not influence the others.
            index = torch.arange(block * BLOCK, (block + 1) * BLOCK)
            wished = None if labels is None else _placed(labels[inside], place, -1)
            fixed = {name: _placed(column[inside], place, np.nan) for name, column in values.items()}
            drawn, attributes_drawn, codes = self.conditions.draw(seed, index, wished, fixed)
            images, masks = self._encode(self._make(index, torch.as_tensor(codes), seed, truncation))
            yield Samples(
                images[place],
                drawn[place],
                wanted[inside],
                seed,
                self.hash,
                self.classes,
                None if masks is None else masks[place],
                {name: column[place] for name, column in attributes_drawn.items()},
            )

    def _labels(self, count: int, label: str | Sequence[str] | None) -> NDArray[np.int64] | None:
        """Class index of each image, or None where they are to be drawn."""
        if label is None:
            return None
        if not self.classes:
            raise ModelError(f"this model ({self.info['name']}) has no classes; leave the class out.")
        names = [label] * count if isinstance(label, str) else list(label)
        if len(names) != count:
            raise ModelError(f"{len(names)} labels were given for {count} images.")
        for name in set(names) - set(self.classes):
            hint = nearest_name_hint(name, self.classes)
            raise ModelError(f"the model has no class '{name}'{hint or '.'} Its classes: {', '.join(self.classes)}.")
        return np.array([self.classes.index(name) for name in names], dtype=np.int64)

    def _values(
        self, count: int, attributes: Mapping[str, float | Sequence[float]] | None
    ) -> dict[str, NDArray[np.float64]]:
        """Given attributes, one value for each image."""
        values: dict[str, NDArray[np.float64]] = {}
        for name, given in (attributes or {}).items():
            column = np.asarray(given, dtype=np.float64)
            if column.ndim and len(column) != count:
                raise ModelError(f"{len(column)} values of '{name}' were given for {count} images.")
            values[name] = np.broadcast_to(column, count).copy()
            for value in np.unique(column):
                self.conditions.check(name, float(value))
        return values

    @torch.no_grad()
    def _make(self, index: Tensor, codes: Tensor, seed: int, truncation: float) -> Tensor:
        index = index.to(self.device)
        growth = self.info.get("growth") or {}
        options = {"truncation": truncation} if truncation != 1.0 else {}
        codes_given = codes.to(self.device) if self.conditional else None
        draws = StepDraws(seed, 0, index)
        return sample(self.network, draws, "generation", codes_given, self.info["size"], **growth, **options).cpu()

    def _encode(self, images: Tensor) -> tuple[NDArray[np.generic], NDArray[np.uint8] | None]:
        """From the networks' range back to the encoding of the training set, and to masks."""
        masks = None
        low, high = self.info["networks"]["range"]
        if self.makes_masks:
            masks = mask_of((images[:, -1] - (low + high) / 2).numpy())
            images = images[:, :-1]
        first, last = self.info["encoding"].get("window", (0, 255))
        values = (images - low) * ((last - first) / (high - low)) + first
        dtype = np.dtype(self.info["encoding"]["dtype"])
        return values.clamp(first, last).round().contiguous().numpy().astype(dtype), masks


def _placed(values: NDArray[Any], place: NDArray[np.int64], elsewhere: float) -> NDArray[Any]:
    """Values at their places of a block, `elsewhere` everywhere else."""
    whole = np.full(BLOCK, elsewhere, dtype=values.dtype)
    whole[place] = values
    return whole


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
