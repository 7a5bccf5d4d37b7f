"""Weights of feature extractors that are fetched by name, and where they lie on this machine.

    $SYNTHOMA_CACHE/weights/NAME/FILE       or ~/.cache/synthoma (Linux), ~/Library/Caches/synthoma (macOS)
    $TORCH_HOME/hub/checkpoints/FILE        where torch-fidelity keeps the same file; it is used, never written

A file that is found is used only when its SHA-256 is the one that is known.
"""

import os
import platform
from pathlib import Path

from synthoma.errors import nearest_name_hint
from synthoma.fetching.entries import Entry, Http, RemoteFile
from synthoma.fetching.failure import FetchError
from synthoma.run import file_sha256

VARIABLE = "SYNTHOMA_CACHE"

_INCEPTION = Entry(
    name="inception",
    title="Inception v3 of 2015-12-05, the network of FID, as torch-fidelity converted it for PyTorch",
    licence="Apache-2.0",
    citation=(
        "Szegedy C, Vanhoucke V, Ioffe S, Shlens J, Wojna Z. Rethinking the Inception Architecture for Computer Vision. "
        "CVPR (2016); Heusel M, et al. GANs Trained by a Two Time-Scale Update Rule. NeurIPS (2017); Obukhov A, et al. "
        "torch-fidelity (2020), doi:10.5281/zenodo.4957738"
    ),
    may_release=None,
    size="96 MB",
    space=95_628_359,
    feeds=(),
    means=Http(
        (
            # Length and sum are stated alike by several projects that pin the file, among them PyTorch ports of FID; the
            # name holds the first eight digits of the sum.
            RemoteFile(
                "weights-inception-2015-12-05-6726825d.pth",
                "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                "weights-inception-2015-12-05-6726825d.pth",
                "sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                95_628_359,
            ),
        )
    ),
    homepage="https://github.com/toshas/torch-fidelity",
    is_data=False,
)

WEIGHTS = {_INCEPTION.name: _INCEPTION}


def find_weights_entry(name: str) -> Entry:
    """The entry of weights called `name`; `FetchError` with those that there are."""
    if name not in WEIGHTS:
        hint = nearest_name_hint(name, WEIGHTS) or "."
        raise FetchError(f"there are no weights '{name}' to fetch{hint} Known: {', '.join(WEIGHTS)}.")
    return WEIGHTS[name]


def weights_folder(name: str) -> Path:
    """Where fetched weights called `name` lie, or will lie."""
    if named := os.environ.get(VARIABLE):
        base = Path(named)
    elif platform.system() == "Darwin":
        base = Path.home() / "Library" / "Caches" / "synthoma"
    else:
        base = _xdg_cache() / "synthoma"
    return base / "weights" / name


def find_weights(name: str) -> Path:
    """The file of the weights called `name`, whose SHA-256 is the known one.

    Raises `FetchError` where it is not on this machine, with the command that fetches it, and where its sum differs.
    """
    entry = find_weights_entry(name)
    remote = weights_remote(entry)
    for folder in (weights_folder(name), _torch_checkpoints()):
        file = folder / remote.name
        if file.is_file():
            if f"sha256:{file_sha256(file)}" != remote.checksum:
                raise FetchError(
                    f"{file} is not the file that {name} means: its SHA-256 is another. Delete it and fetch it again: "
                    f"synthoma fetch weights {name}"
                )
            return file
    raise FetchError(
        f"the weights '{name}' are not on this machine. `synthoma fetch weights {name}` fetches them ({entry.size}, "
        f"{entry.licence}); without a network, bring {remote.name} from elsewhere and give --weights FILE."
    )


def weights_remote(entry: Entry) -> RemoteFile:
    """The one file of an entry of weights."""
    if not isinstance(entry.means, Http):
        raise TypeError(f"{entry.name} is not fetched by file.")
    (remote,) = entry.means.files
    return remote


def _torch_checkpoints() -> Path:
    """torch.hub's folder of checkpoints, without importing torch."""
    home = os.environ.get("TORCH_HOME")
    return (Path(home) if home else _xdg_cache() / "torch") / "hub" / "checkpoints"


def _xdg_cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else Path.home() / ".cache"
