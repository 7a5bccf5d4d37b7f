"""The public data sets that `synthoma fetch` knows. Licences are those of the publishers; unknown is None."""

from synthoma.errors import nearest_name_hint
from synthoma.fetching.entries import Entry, Http, Idc, Kaggle, RemoteFile
from synthoma.fetching.failure import FetchError
from synthoma.fetching.medmnist import PREFIX, medmnist_entry, medmnist_sets

_ISIC = "https://isic-challenge-data.s3.amazonaws.com/2018/"
_GB = 10**9

# Sizes and licences of the two collections: index of idc-index-data 25.0.5 (CT series only).
_LIDC = Entry(
    name="lidc",
    title="LIDC-IDRI: 1,018 chest CTs of 1,010 patients, nodules marked and rated by four radiologists",
    licence="CC BY 3.0",
    citation=(
        "Armato SG III, McLennan G, Bidaut L, et al. Data From LIDC-IDRI. The Cancer Imaging Archive (2015), "
        "doi:10.7937/K9/TCIA.2015.LO9QL9SX; Armato SG III, et al. Medical Physics 38 (2011) 915-931"
    ),
    may_release=True,
    size="128 GB (all patients)",
    space=128_406 * 10**6,
    feeds=("lung-nodule-r3", "lung-nodule-wgan-gp"),
    means=Idc(
        "lidc_idri",
        (
            # The sum is stated by two independent users (torch-em, and a study of 2026-08); TCIA publishes none.
            RemoteFile(
                "LIDC-XML-only.zip",
                "https://www.cancerimagingarchive.net/wp-content/uploads/LIDC-XML-only.zip",
                "sha256:644557a3aa305602609c718b0cae33a93be762e8901a80bcd9df735b0ec6ab90",
                9_034_311,
                folder="annotations",
            ),
        ),
    ),
    homepage="https://www.cancerimagingarchive.net/collection/lidc-idri/",
)

_LUNG_PET_CT_DX = Entry(
    name="lung-pet-ct-dx",
    title="Lung-PET-CT-Dx: 1,162 CT series of 355 patients with lung cancer, tumours boxed",
    licence="CC BY 4.0",
    citation=(
        "Li P, Wang S, Li T, Lu J, HuangFu Y, Wang D. A Large-Scale CT and PET/CT Dataset for Lung Cancer Diagnosis. "
        "The Cancer Imaging Archive (2020), doi:10.7937/TCIA.2020.NNC2-0461"
    ),
    may_release=True,
    size="123 GB (all patients)",
    space=123_340 * 10**6,
    feeds=("chest-ct-dcgan",),
    means=Idc(
        "lung_pet_ct_dx",
        by_hand=(
            "The boxes (XML) are not in the Imaging Data Commons. Download 'Annotation Files' from "
            "https://www.cancerimagingarchive.net/collection/lung-pet-ct-dx/ and unpack them into DIR/annotations."
        ),
    ),
    homepage="https://www.cancerimagingarchive.net/collection/lung-pet-ct-dx/",
)


def _luna16_file(name: str, record: str) -> RemoteFile:
    # Nobody states the sums but Zenodo itself, so they are asked for when the file is fetched.
    return RemoteFile(name, f"https://zenodo.org/records/{record}/files/{name}?download=1", zenodo=record)


_LUNA16 = Entry(
    name="luna16",
    title="LUNA16: 888 chest CTs of LIDC-IDRI (MetaImage), 1,186 nodules of 3 mm or more",
    licence="CC BY 4.0",
    citation=(
        "Setio AAA, Traverso A, de Bel T, et al. Validation, comparison, and combination of algorithms for automatic "
        "detection of pulmonary nodules in computed tomography images: the LUNA16 challenge. Medical Image Analysis 42 "
        "(2017) 1-13; doi:10.5281/zenodo.3723295, doi:10.5281/zenodo.4121926"
    ),
    may_release=True,
    size="about 66 GB packed, 120 GB unpacked (take part of it with --only)",
    space=120 * _GB,
    feeds=("lung-nodule-r3", "lung-nodule-wgan-gp"),
    means=Http(
        (
            _luna16_file("annotations.csv", "3723295"),
            _luna16_file("candidates_V2.zip", "3723295"),
            *(_luna16_file(f"subset{part}.zip", "3723295") for part in range(7)),
            *(_luna16_file(f"subset{part}.zip", "4121926") for part in range(7, 10)),
        )
    ),
    homepage="https://luna16.grand-challenge.org",
)

# Found in many public projects; nobody states sums, so what arrives is recorded and not compared.
_ISIC_2018 = Entry(
    name="isic",
    title="ISIC 2018 task 3 (HAM10000): 10,015 dermoscopic photographs, 7 classes, grouped by lesion",
    licence="CC BY-NC 4.0",
    citation=(
        "Codella N, Rotemberg V, Tschandl P, et al. Skin Lesion Analysis Toward Melanoma Detection 2018, "
        "arXiv:1902.03368; Tschandl P, Rosendahl C, Kittler H. The HAM10000 dataset. Scientific Data 5 (2018) 180161, "
        "doi:10.1038/sdata.2018.161"
    ),
    may_release=None,
    size="about 2.6 GB packed, as much unpacked",
    space=6 * _GB,
    feeds=("skin-r3", "skin-cgan"),
    means=Http(
        tuple(
            RemoteFile(name, _ISIC + name)
            for name in (
                "ISIC2018_Task3_Training_GroundTruth.zip",
                "ISIC2018_Task3_Training_LesionGroupings.csv",
                "ISIC2018_Task3_Training_Input.zip",
            )
        )
    ),
    homepage="https://challenge.isic-archive.com/data/#2018",
)

_SKIN9 = Entry(
    name="skin9",
    title="Skin Cancer ISIC: 2,357 dermoscopic photographs in 9 class folders",
    licence="set by image in the ISIC archive (CC0, CC BY, CC BY-NC 4.0); the whole: as CC BY-NC 4.0",
    citation="International Skin Imaging Collaboration (ISIC) archive; selection: kaggle.com nodoubttome/skin-cancer9-classesisic",
    may_release=None,
    size="about 0.8 GB packed, as much unpacked",
    space=2 * _GB,
    feeds=("skin-cgan", "skin-r3"),
    means=Kaggle("nodoubttome/skin-cancer9-classesisic"),
    homepage="https://www.kaggle.com/datasets/nodoubttome/skin-cancer9-classesisic",
)

_CHEST_CTSCAN = Entry(
    name="chest-ctscan",
    title="Chest CT-Scan images: 1,000 slices as pictures, 4 classes; where they come from is not stated",
    licence=None,
    citation="kaggle.com mohamedhanyyy/chest-ctscan-images",
    may_release=None,
    size="not known; 1,000 pictures",
    space=_GB,
    feeds=("chest-ct-dcgan", "chest-ct-r3"),
    means=Kaggle("mohamedhanyyy/chest-ctscan-images"),
    homepage="https://www.kaggle.com/datasets/mohamedhanyyy/chest-ctscan-images",
)

_ENTRIES = (_LIDC, _LUNA16, _LUNG_PET_CT_DX, _ISIC_2018, _SKIN9, _CHEST_CTSCAN)


def catalogue() -> tuple[Entry, ...]:
    """All entries; the MedMNIST sets at 28 px."""
    return (*_ENTRIES, *(medmnist_entry(name) for name in medmnist_sets()))


def find_entry(name: str, side: int | None = None) -> Entry:
    """The entry called `name`, at `side` pixels where there is a choice (28 by default).

    Raises `FetchError` for a name that is unknown (with the nearest one) and for a size that there is not.
    """
    known = {entry.name: entry for entry in catalogue()}
    if name not in known:
        hint = nearest_name_hint(name, known) or "."
        raise FetchError(f"there is no data set '{name}' to fetch{hint} `synthoma fetch --list` shows what there is.")
    entry = known[name]
    if side is None:
        return entry
    if not entry.sides:
        raise FetchError(f"{name} comes in one size; leave --size out.")
    if side not in entry.sides:
        raise FetchError(f"{name} comes at {', '.join(map(str, entry.sides))} pixels a side, not {side}.")
    return medmnist_entry(name.removeprefix(PREFIX), side)
