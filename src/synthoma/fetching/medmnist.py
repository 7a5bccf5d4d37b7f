"""The MedMNIST sets of 2D and 3D pictures, with the MD5 sums that their authors publish: medmnist.csv has a row a set.

Source of the table: github.com/MedMNIST/MedMNIST, medmnist/info.py of version 3.0.2; files: Zenodo record 10519652. Yang et al.,
Scientific Data 10 (2023) 41.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from synthoma.fetching.entries import Entry, Http, RemoteFile

PREFIX = "medmnist-"
RECORD = "10519652"
CITATION = (
    "Yang J, Shi R, Wei D, et al. MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image "
    "classification. Scientific Data 10 (2023) 41, doi:10.1038/s41597-022-01721-8"
)
HOMEPAGE = "https://medmnist.com"
# Pixels a side; the sets in 3D come in the first two.
SIDES = (28, 64, 128, 224)


@dataclass(frozen=True)
class MedMnistSet:
    """md5: sums by pixels a side. images: training, validation and test images together."""

    title: str
    images: int
    md5: dict[int, str]
    channels: int
    licence: str
    feeds: tuple[str, ...]

    def largest(self, side: int, dim: int) -> int:
        """Bytes of all pixels uncompressed: the file is at most as large, but for its labels of a few kB."""
        return self.images * side**dim * self.channels


@cache
def medmnist_sets() -> dict[str, MedMnistSet]:
    """All sets by name, in the order of medmnist.csv."""
    table = (resources.files("synthoma") / "fetching" / "medmnist.csv").read_text(encoding="utf-8")
    return {
        row["name"]: MedMnistSet(
            row["title"],
            images=sum(int(row[split]) for split in ("train", "val", "test")),
            md5={side: row[f"md5_{side}"] for side in SIDES if row[f"md5_{side}"]},
            channels=int(row["channels"]),
            licence=row["licence"],
            feeds=tuple(row["feeds"].split()),
        )
        for row in csv.DictReader(table.splitlines())
    }


def medmnist_entry(name: str, side: int = 28) -> Entry:
    """The entry of a set ("pathmnist", ...) at `side` pixels a side; raises `KeyError` for one that there is not."""
    chosen = medmnist_sets()[name]
    file = f"{name}.npz" if side == 28 else f"{name}_{side}.npz"
    dim = 3 if name.endswith("3d") else 2
    space = chosen.largest(side, dim)
    return Entry(
        name=PREFIX + name,
        title=f"MedMNIST: {chosen.title}",
        licence=chosen.licence,
        citation=CITATION,
        may_release=True if chosen.licence == "CC BY 4.0" else None,
        size=f"at most {space / 1e6:,.0f} MB at {side} px",
        space=space,
        feeds=chosen.feeds,
        means=Http(
            (
                RemoteFile(
                    file, f"https://zenodo.org/records/{RECORD}/files/{file}?download=1", f"md5:{chosen.md5[side]}"
                ),
            )
        ),
        homepage=HOMEPAGE,
        sides=tuple(chosen.md5),
        side=side,
    )
