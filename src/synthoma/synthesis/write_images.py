"""Generated images as files, and the manifest that says where each one comes from."""

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from synthoma.errors import ModelError
from synthoma.model import Model
from synthoma.run import write_atomically

MANIFEST = "manifest.parquet"
SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("class", pa.string()),
        ("seed", pa.int64()),
        ("index", pa.int64()),
        ("model_hash", pa.string()),
        ("sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Written:
    """What `write_images` left in the folder."""

    folder: Path
    count: int
    classes: dict[str, int]
    model_hash: str


def write_images(
    model: Model,
    folder: Path,
    count: int,
    label: str | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write images 0 .. count - 1 of a seed as PNG (volumes as .npy), and `manifest.parquet`.

    A folder that holds images of the same model is added to, so that classes can be made one after the other; the same
    call leaves the same bytes. Raises `ModelError` where the folder holds something else.
    """
    earlier = _earlier(folder, model)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for samples in model.blocks(count, label, seed):
        for image, number, index in zip(samples.images, samples.labels, samples.indices, strict=True):
            name = samples.classes[number] if number >= 0 else None
            provenance = {"class": name, "seed": seed, "index": int(index), "model_hash": model.hash}
            content, suffix = _encode(image, provenance)
            file = f"{_safe(name) if name else 'synthetic'}_seed{seed}_{index:06d}{suffix}"
            write_atomically(folder / file, content)
            rows.append({"file": file, **provenance, "sha256": hashlib.sha256(content).hexdigest()})
        if progress:
            progress(len(samples))
    written = {row["file"] for row in rows}
    kept = [row for row in earlier if row["file"] not in written]
    table = pa.Table.from_pylist(sorted(kept + rows, key=lambda row: row["file"]), schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomically(folder / MANIFEST, buffer.getvalue())
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["class"] or "(no class)"] = counts.get(row["class"] or "(no class)", 0) + 1
    return Written(folder, len(rows), counts, model.hash)


def _earlier(folder: Path, model: Model) -> list[dict[str, Any]]:
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
    return rows


def _encode(image: NDArray[np.generic], provenance: dict[str, Any]) -> tuple[bytes, str]:
    """A picture [c, y, x] as PNG with its provenance in text chunks, a volume [c, z, y, x] as .npy."""
    buffer = io.BytesIO()
    if image.ndim != 3:
        np.save(buffer, image, allow_pickle=False)
        return buffer.getvalue(), ".npy"
    text = PngImagePlugin.PngInfo()
    text.add_text("Synthetic", "YES: made by a generative model, shows no person, not for diagnosis")
    text.add_text("Software", "synthoma")
    for key, value in provenance.items():
        if value is not None:
            text.add_itxt(f"synthoma:{key}", str(value))
    pixels = image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue(), ".png"


def _safe(name: str) -> str:
    """A class name as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "class"
