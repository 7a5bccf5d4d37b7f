"""The MedMNIST sets of 2D and 3D pictures, with the MD5 sums that their authors publish.

Source: github.com/MedMNIST/MedMNIST, medmnist/info.py of version 3.0.2; files: Zenodo record 10519652. Yang et al.,
Scientific Data 10 (2023) 41.
"""

from dataclasses import dataclass

from synthoma.fetching.entries import Entry, Http, RemoteFile

PREFIX = "medmnist-"
RECORD = "10519652"
CITATION = (
    "Yang J, Shi R, Wei D, et al. MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image "
    "classification. Scientific Data 10 (2023) 41, doi:10.1038/s41597-022-01721-8"
)
HOMEPAGE = "https://medmnist.com"


@dataclass(frozen=True)
class MedMnistSet:
    """md5: sums by pixels a side. images: training, validation and test images together."""

    title: str
    images: int
    md5: dict[int, str]
    channels: int = 1
    licence: str = "CC BY 4.0"
    feeds: tuple[str, ...] = ()

    def largest(self, side: int, dim: int) -> int:
        """Bytes of all pixels uncompressed: the file is at most as large, but for its labels of a few kB."""
        return self.images * side**dim * self.channels


SETS: dict[str, MedMnistSet] = {
    "pathmnist": MedMnistSet(
        "colorectal histology, 9 tissues",
        89_996 + 10_004 + 7_180,
        {
            28: "a8b06965200029087d5bd730944a56c1",
            64: "55aa9c1e0525abe5a6b9d8343a507616",
            128: "ac42d08fb904d92c244187169d1fd1d9",
            224: "2c51a510bcdc9cf8ddb2af93af1eadec",
        },
        channels=3,
        feeds=("lung-histology-r3",),
    ),
    "chestmnist": MedMnistSet(
        "chest X-rays, 14 findings",
        78_468 + 11_219 + 22_433,
        {
            28: "02c8a6516a18b556561a56cbdd36c4a8",
            64: "9de6cd0b934ebb5b7426cfba5efbae16",
            128: "db107e5590b27930b62dbaf558aebee3",
            224: "45bd33e6f06c3e8cdb481c74a89152aa",
        },
        feeds=("chest-xray-r3",),
    ),
    "dermamnist": MedMnistSet(
        "dermoscopy (HAM10000), 7 classes",
        7_007 + 1_003 + 2_005,
        {
            28: "0744692d530f8e62ec473284d019b0c7",
            64: "b70a2f5635c6199aeaa28c31d7202e1f",
            128: "2defd784463fa5243564e855ed717de1",
            224: "8974907d8e169bef5f5b96bc506ae45d",
        },
        channels=3,
        licence="CC BY-NC 4.0",
        feeds=("skin-r3", "skin-cgan"),
    ),
    "octmnist": MedMnistSet(
        "optical coherence tomography of the retina, 4 classes",
        97_477 + 10_832 + 1_000,
        {
            28: "c68d92d5b585d8d81f7112f81e2d0842",
            64: "e229e9440236b774d9f0dfef9d07bdaf",
            128: "0a97e76651ace45c5d943ee3f65b63ae",
            224: "abc493b6d529d5de7569faaef2773ba3",
        },
    ),
    "pneumoniamnist": MedMnistSet(
        "chest X-rays of children, normal and pneumonia",
        4_708 + 524 + 624,
        {
            28: "28209eda62fecd6e6a2d98b1501bb15f",
            64: "8f4eceb4ccffa70c672198ea285246c6",
            128: "05b46931834c231683c68f40c47b2971",
            224: "d6a3c71de1b945ea11211b03746c1fe1",
        },
        feeds=("chest-xray-r3", "chest-xray-dcgan"),
    ),
    "retinamnist": MedMnistSet(
        "fundus photographs, 5 grades of diabetic retinopathy",
        1_080 + 120 + 400,
        {
            28: "bd4c0672f1bba3e3a89f0e4e876791e4",
            64: "afda852cc34dcda56f86ad2b2457dbcc",
            128: "e48e916a24454daf90583d4e6efb1a18",
            224: "eae7e3b6f3fcbda4ae613ebdcbe35348",
        },
        channels=3,
    ),
    "breastmnist": MedMnistSet(
        "breast ultrasound, malignant or not",
        546 + 78 + 156,
        {
            28: "750601b1f35ba3300ea97c75c52ff8f6",
            64: "742edef2a1fd1524b2efff4bd7ba9364",
            128: "363e4b3f8d712e9b5de15470a2aaadf1",
            224: "b56378a6eefa9fed602bb16d192d4c8b",
        },
    ),
    "bloodmnist": MedMnistSet(
        "blood cells, 8 kinds",
        11_959 + 1_712 + 3_421,
        {
            28: "7053d0359d879ad8a5505303e11de1dc",
            64: "2b94928a2ae4916078ca51e05b6b800b",
            128: "adace1e0ed228fccda1f39692059dd4c",
            224: "b718ff6835fcbdb22ba9eacccd7b2601",
        },
        channels=3,
    ),
    "tissuemnist": MedMnistSet(
        "kidney cortex cells, 8 kinds",
        165_466 + 23_640 + 47_280,
        {
            28: "ebe78ee8b05294063de985d821c1c34b",
            64: "123ece2eba09d0aa5d698fda57103344",
            128: "61b955355d7425a89687b06cca3ce0c2",
            224: "b077128c4a949f0a4eb01517f9037b9c",
        },
    ),
    "organamnist": MedMnistSet(
        "abdominal CT, axial, 11 organs",
        34_561 + 6_491 + 17_778,
        {
            28: "68e3f8846a6bd62f0c9bf841c0d9eacc",
            64: "2dcccc29b88e6da5a01161ef20cda288",
            128: "eeae80d0a227a8d099027e1b3cfd3b60",
            224: "50747347e05c87dd3aaf92c49f9f3170",
        },
    ),
    "organcmnist": MedMnistSet(
        "abdominal CT, coronal, 11 organs",
        12_975 + 2_392 + 8_216,
        {
            28: "b9ceb9546e10131b32923c5bbeaea2b1",
            64: "3ce34a8724ea6f548e6db4744d03b6a9",
            128: "773c1f009daa3fe5d9a2a201b2a7ed94",
            224: "050f5e875dc056f6768abf94ec9995d1",
        },
    ),
    "organsmnist": MedMnistSet(
        "abdominal CT, sagittal, 11 organs",
        13_932 + 2_452 + 8_827,
        {
            28: "9ab87b696fb54e2a387ebe992d6ed5f1",
            64: "53a6d115339d874c25e309a994ff46d3",
            128: "ded0c5fa01a95dc4978b956f613e9b8e",
            224: "b354719e553fbbb2513d5533f52a4cb1",
        },
    ),
    "organmnist3d": MedMnistSet(
        "abdominal CT in 3D, 11 organs",
        971 + 161 + 610,
        {28: "a0c5a1ff56af4f155c46d46fbb45a2fe", 64: "58a2205adf14a9d0a189cb06dc78bf10"},
    ),
    "nodulemnist3d": MedMnistSet(
        "lung nodules in 3D (LIDC-IDRI), rated benign or malignant",
        1_158 + 165 + 310,
        {28: "8755a7e9e05a4d9ce80a24c3e7a256f3", 64: "c47c5b7d457bf6332200d2ea6d64ecd8"},
        feeds=("lung-nodule-r3", "lung-nodule-wgan-gp"),
    ),
    "adrenalmnist3d": MedMnistSet(
        "adrenal glands in 3D, normal or mass",
        1_188 + 98 + 298,
        {28: "bbd3c5a5576322bc4cdfea780653b1ce", 64: "17721accfe9fb005146a47d33bc54b2f"},
    ),
    "fracturemnist3d": MedMnistSet(
        "rib fractures in 3D, 3 kinds",
        1_027 + 103 + 240,
        {28: "6aa7b0143a6b42da40027a9dda61302f", 64: "f01d7e6316aedf4210da0da5b7437b42"},
    ),
    "vesselmnist3d": MedMnistSet(
        "brain vessels in 3D, healthy or aneurysm",
        1_335 + 191 + 382,
        {28: "b41fd4f7e7e2feedddb201585ecafa1b", 64: "6bb274a8846e1097066dcd64e2c4520f"},
    ),
    "synapsemnist3d": MedMnistSet(
        "synapses in 3D, excitatory or inhibitory",
        1_230 + 177 + 352,
        {28: "1235b78a3cd6280881dd7850a78eadb6", 64: "43bd14ebf3af9d3dd072446fedc14d5e"},
    ),
}


def medmnist_entry(name: str, side: int = 28) -> Entry:
    """The entry of a set ("pathmnist", ...) at `side` pixels a side; raises `KeyError` for one that there is not."""
    chosen = SETS[name]
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
