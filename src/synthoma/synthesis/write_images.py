"""Generated images as files, and the manifest that says where each one comes from."""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthoma.errors import ModelError
from synthoma.model import Model, Samples
from synthoma.run import write_atomically
from synthoma.synthesis.encoding import Encoder, Format

MANIFEST = "manifest.parquet"
ATTRIBUTE = "attribute:"  # prefix of the columns of continuous conditions
SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("mask", pa.string()),
        ("class", pa.string()),
        ("seed", pa.int64()),
        ("index", pa.int64()),
        ("model_hash", pa.string()),
        ("truncation", pa.float64()),
        ("sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Written:
    """What `write_images` left in the folder. suffix: how the files of the images end."""

    folder: Path
    count: int
    classes: dict[str, int]
    model_hash: str
    suffix: str
    masks: bool


def write_images(
    model: Model,
    folder: Path,
    count: int,
    label: str | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    *,
    file_format: Format = "auto",
    attributes: Mapping[str, float] | None = None,
    truncation: float = 1.0,
) -> Written:
    """Write images 0 .. count - 1 of a seed as PNG, volumes as .nii.gz or .npy [c, z, y, x], and `manifest.parquet`.

    A mask that was generated with an image lies beside it as `<name>_mask`. A folder that holds images of the same
    model is added to, so that classes can be made one after the other; the same call leaves the same bytes. label,
    attributes, truncation: as for `Model.generate`; what is given is part of the names of the files.
    Raises `ModelError` where the folder holds something else.
    """
    encoder = Encoder.of(model.info, file_format)
    earlier = _earlier(folder, model, encoder.suffix)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    given = "".join(f"_{_safe(name)}{value:g}" for name, value in sorted((attributes or {}).items()))
    given += f"_truncation{truncation:g}" if truncation != 1.0 else ""
    for samples in model.blocks(count, label, seed, attributes=attributes, truncation=truncation):
        rows += _write_block(folder, samples, encoder, given, truncation)
        if progress:
            progress(len(samples))
    _write_manifest(folder, earlier, rows)
    classes = Counter(row["class"] or "(no class)" for row in rows)
    masks = any(row["mask"] for row in rows)
    return Written(folder, len(rows), dict(classes), model.hash, encoder.suffix, masks)


def _write_block(
    folder: Path, samples: Samples, encoder: Encoder, given: str, truncation: float
) -> Iterator[dict[str, Any]]:
    """Write the images of a block and their masks; the manifest's row of each."""
    for place, (number, index) in enumerate(zip(samples.labels, samples.indices, strict=True)):
        name = samples.classes[number] if number >= 0 else None
        provenance: dict[str, Any] = {
            "class": name,
            "seed": samples.seed,
            "index": int(index),
            "model_hash": samples.model_hash,
            "truncation": truncation,
        }
        provenance |= {f"{ATTRIBUTE}{key}": float(values[place]) for key, values in samples.attributes.items()}
        stem = f"{_safe(name) if name else 'synthetic'}{given}_seed{samples.seed}_{index:06d}"
        content = encoder.image(samples.images[place], provenance)
        write_atomically(folder / f"{stem}{encoder.suffix}", content)
        mask = None
        if samples.masks is not None:
            mask = f"{stem}_mask{encoder.suffix}"
            write_atomically(folder / mask, encoder.mask(samples.masks[place], provenance))
        digest = hashlib.sha256(content).hexdigest()
        yield {"file": f"{stem}{encoder.suffix}", "mask": mask, **provenance, "sha256": digest}


def _write_manifest(folder: Path, earlier: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Rows of earlier calls and of this one, by file; a column for each attribute that any of them has."""
    written = {row["file"] for row in rows}
    together = sorted([row for row in earlier if row["file"] not in written] + rows, key=lambda row: str(row["file"]))
    names = sorted({key for row in together for key in row if key.startswith(ATTRIBUTE)})
    schema = pa.schema([*SCHEMA, *((name, pa.float64()) for name in names)])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(together, schema=schema), buffer)
    write_atomically(folder / MANIFEST, buffer.getvalue())


def _earlier(folder: Path, model: Model, suffix: str) -> list[dict[str, Any]]:
    """Rows of a manifest that is already there; refuse a folder with foreign content."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file; --out takes a folder.")
    manifest = folder / MANIFEST
    if not manifest.exists():
        if any(path for path in folder.iterdir() if not path.name.startswith(".")):
            raise ModelError(
                f"{folder} is not empty and holds no {MANIFEST}; synthetic images are never mixed with other files."
            )
        return []
    rows: list[dict[str, Any]] = pq.read_table(manifest).to_pylist()
    if any(row["model_hash"] != model.hash for row in rows):
        raise ModelError(f"{folder} holds images of another model; use another --out.")
    other = next((row["file"] for row in rows if not row["file"].endswith(suffix)), None)
    if other:
        raise ModelError(f"{folder} holds {other}, and not {suffix} files; use the same --format, or another --out.")
    return rows


def _safe(name: str) -> str:
    """A class name as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "class"
