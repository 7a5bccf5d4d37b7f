"""Small NIfTI, MetaImage and NRRD files whose headers a test can change, and how they are read."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from synthoma.formats.volumes import Geometry, Volume
from synthoma.formats.volumes.files import list_file, read_file
from synthoma.formats.volumes.headers import VolumeFileError

SIZE = (4, 5, 6)
GEOMETRY = Geometry(SIZE, (2.5, 0.7, 0.8), (-10.5, 20.25, -300.0))
NAMES = ["a.nii", "a.nii.gz", "a.mhd", "a.mha", "a.nrrd"]
PACKED = {"a.nii": False, "a.nii.gz": True, "a.mhd": False, "a.mha": True, "a.nrrd": True}
MetaFields = dict[str, str | None]


def some_hu(low: int = -1024, high: int = 3000) -> NDArray[np.int16]:
    return np.random.default_rng(7).integers(low, high, SIZE).astype(np.int16)


def oblique() -> Geometry:
    x, y, z = Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix().T.tolist()
    return Geometry(SIZE, (2.5, 0.7, 0.8), (-10.5, 20.25, -300.0), (tuple(z), tuple(y), tuple(x)))


def write_nifti(path: Path, array: NDArray[np.generic] | None = None, **fields: object) -> Path:
    """A NIfTI of [z, y, x] by nibabel, with the geometry above; fields of the header are set at the end."""
    array = some_hu() if array is None else array
    image = nibabel.Nifti1Image(np.asarray(array).T, GEOMETRY.ras_affine)
    image.set_sform(GEOMETRY.ras_affine, 1)
    image.set_qform(GEOMETRY.ras_affine, 1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return set_fields(path, **fields) if fields else path


def set_fields(path: Path, **fields: object) -> Path:
    """Change the header of a .nii in place."""
    content = path.read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + content[348:])
    return path


def write_metaimage(folder: Path, voxels: bytes | None = None, **changes: str | None) -> Path:
    """An .mhd of int16 with its .raw; a change to None leaves the line out."""
    fields: MetaFields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "-10.5 20.25 -300",
        "ElementSpacing": "0.8 0.7 2.5",
        "DimSize": "6 5 4",
        "ElementType": "MET_SHORT",
    }
    last = changes.pop("ElementDataFile", "a.raw")
    fields = {**fields, **changes, "ElementDataFile": last}
    (folder / "a.raw").write_bytes(some_hu().tobytes() if voxels is None else voxels)
    text = "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)
    (folder / "a.mhd").write_text(text)
    return folder / "a.mhd"


def write_nrrd(folder: Path, voxels: bytes | None = None, **changes: str | None) -> Path:
    """A .nrrd of int16; underscores in names of fields are spaces."""
    fields: MetaFields = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "6 5 4",
        "space directions": "(0.8,0,0) (0,0.7,0) (0,0,2.5)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(-10.5,20.25,-300)",
    }
    fields.update({name.replace("_", " "): value for name, value in changes.items()})
    text = "".join(f"{name}: {value}\n" for name, value in fields.items() if value is not None)
    (folder / "a.nrrd").write_bytes(
        f"NRRD0004\n# a comment\n{text}own:=entry: 5\n\n".encode() + (some_hu().tobytes() if voxels is None else voxels)
    )
    return folder / "a.nrrd"


def read(path: Path, unit: str = "auto") -> Volume:
    return read_file(list_file(path, unit))  # type: ignore[arg-type]


def refusal(path: Path, unit: str = "auto") -> str:
    """Why a file is refused; the reason holds neither its name nor its folder."""
    with pytest.raises(VolumeFileError) as caught:
        read(path, unit)
    assert str(caught.value) == f"{path} {caught.value.reason}."
    assert path.name not in caught.value.reason
    assert str(path.parent) not in caught.value.reason
    return caught.value.reason
